//! What an operator decides about jobs, clients and the server.

use super::{JobError, Jobs};
use crate::{
    jobs::standing::StandingEvent,
    store::{Actor, StoreError, Switch, Switches},
};
use protocol::{ChangeJobs, ChangedJobs, ClientId, JobId, JobState, JobsDeed};
use std::{sync::PoisonError, time::Duration};

/// What an operator turned on at another server counts here after so long at the latest.
const REFRESH: Duration = Duration::from_secs(1);

impl Jobs {
    /// Gives a dead job fresh budgets.
    ///
    /// # Errors
    /// [`JobError::Store`] if it is not dead.
    pub async fn requeue(&self, job: JobId, by: &Actor) -> Result<(), JobError> {
        self.0.store.requeue(job, by, self.now().await?).await?;
        self.0.line.news();
        Ok(())
    }

    /// Gives a job up; its client is told to stop.
    ///
    /// # Errors
    /// [`JobError::Store`] if it is proved or cancelled.
    pub async fn cancel(&self, job: JobId, by: &Actor) -> Result<(), JobError> {
        Ok(self.0.store.cancel(job, by, self.now().await?).await?)
    }

    /// Takes a job from the client that has it, which is told to stop and is not to blame. If a client is `meant`, from no other.
    ///
    /// # Errors
    /// [`JobError::Store`] if no client has it, or another.
    pub async fn release(
        &self,
        job: JobId,
        meant: Option<ClientId>,
        by: &Actor,
    ) -> Result<(), JobError> {
        let lease = self.0.store.release(job, meant, by, self.now().await?).await?;
        tracing::info!(%job, %by, "an operator took a job from its client");
        self.forget(lease);
        self.0.line.news();
        Ok(())
    }

    /// Serves a job earlier or later than its age says.
    ///
    /// # Errors
    /// [`JobError::Malformed`] if the priority is not from -100 to 100; [`JobError::Store`] if the job is proved.
    pub async fn prioritise(&self, job: JobId, priority: i32, by: &Actor) -> Result<(), JobError> {
        if !(-100..=100).contains(&priority) {
            return Err(JobError::Malformed(format!(
                "a priority is a number from -100 to 100, not {priority}"
            )));
        }
        Ok(self.0.store.prioritise(job, priority, by, self.now().await?).await?)
    }

    /// What an operator decides about a client.
    ///
    /// # Errors
    /// [`JobError::Store`] if nobody knows the client.
    pub async fn decide(
        &self,
        client: ClientId,
        deed: StandingEvent,
        by: &Actor,
    ) -> Result<(), JobError> {
        self.0.store.decide(client, deed, by, self.now().await?).await?;
        tracing::info!(%client, ?deed, %by, "an operator decided about a client");
        self.0.line.call_client(client);
        self.0.line.news();
        Ok(())
    }

    /// Requeues or cancels many jobs: see [`JobStore::change`](crate::store::JobStore::change).
    ///
    /// # Errors
    /// [`JobError::Malformed`] if there are no such jobs.
    pub async fn change(&self, asked: &ChangeJobs, by: &Actor) -> Result<ChangedJobs, JobError> {
        let possible = match asked.deed {
            JobsDeed::Requeue => asked.state == JobState::Dead,
            JobsDeed::Cancel => {
                matches!(asked.state, JobState::Ready | JobState::Leased | JobState::Verifying)
            }
        };
        if !possible {
            let message = "dead jobs can be requeued, and jobs that are ready, leased or verifying can be cancelled";
            return Err(JobError::Malformed(message.into()));
        }
        if asked.cause.is_some() && asked.state != JobState::Dead {
            let message = "only jobs that were given up have a cause: it goes with the state dead";
            return Err(JobError::Malformed(message.into()));
        }
        let changed = self.0.store.change(asked, self.targets(), by, self.now().await?).await?;
        if changed.changed > 0 {
            tracing::info!(?asked, ?changed, %by, "an operator changed jobs");
            self.0.line.news();
        }
        Ok(changed)
    }

    /// Notes that `consumer` has the proofs of all blocks up to `through`.
    ///
    /// # Errors
    /// [`JobError::Malformed`] if not all of these blocks are proved: nobody has their proofs.
    pub async fn delivered(&self, consumer: &Actor, through: u64) -> Result<(), JobError> {
        match self.0.store.proved_through(self.targets()).await? {
            Some(last) if through <= last => {}
            last => {
                let last = last.map_or("none".to_owned(), |last| last.to_string());
                let message =
                    format!("the last block up to which all are proved is {last}, not {through}");
                return Err(JobError::Malformed(message));
            }
        }
        Ok(self.0.store.delivered(consumer, through, self.now().await?).await?)
    }

    /// Turns on or off what holds for all servers of the database, until it is turned off: also after a start.
    ///
    /// # Errors
    /// [`JobError::Store`] if the database fails.
    pub async fn switch(&self, what: Switch, on: bool, by: &Actor) -> Result<(), JobError> {
        self.0.store.switch(what, on, by, self.now().await?).await?;
        tracing::info!(what = what.name(), on, %by, "an operator turned something on or off");
        self.look_at_switches().await?;
        Ok(())
    }

    /// Looks at what operators have turned on, until the server stops: another server may have been told.
    pub async fn watch_switches(self) {
        loop {
            tokio::select! {
                biased;
                () = self.0.stopping.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
            }
            if let Err(error) = self.look_at_switches().await {
                // Others say that the database fails.
                tracing::debug!(%error, "what operators have turned on could not be read");
            }
        }
    }

    /// Reads what operators have turned on.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn look_at_switches(&self) -> Result<(), StoreError> {
        let found = self.0.store.switches().await?;
        let before = {
            let mut switches = self.0.switches.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *switches, found)
        };
        if before != found {
            self.0.changed.notify_waiters();
            self.0.taken.notify_waiters();
        }
        Ok(())
    }

    /// What operators have turned on.
    pub fn switches(&self) -> Switches {
        *self.0.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it grants no leases, because an operator said so or the server stops.
    pub fn drains(&self) -> bool {
        self.switches().draining.is_some() || self.stops()
    }

    /// Whether the server stops.
    pub fn stops(&self) -> bool {
        self.0.stopping.is_cancelled()
    }
}
