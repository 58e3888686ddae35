//! What an operator decides about jobs, clients and the server.

use super::{JobError, Jobs};
use crate::jobs::standing::StandingEvent;
use protocol::{ClientId, JobId};
use std::sync::atomic::Ordering;

impl Jobs {
    /// Gives a dead job fresh budgets.
    ///
    /// # Errors
    /// [`JobError::Store`] if it is not dead.
    pub async fn requeue(&self, job: JobId) -> Result<(), JobError> {
        self.0.store.requeue(job, self.now().await?).await?;
        self.0.ready.notify_waiters();
        Ok(())
    }

    /// Gives a job up; its client is told to stop.
    ///
    /// # Errors
    /// [`JobError::Store`] if it is proved.
    pub async fn cancel(&self, job: JobId) -> Result<(), JobError> {
        Ok(self.0.store.cancel(job, self.now().await?).await?)
    }

    /// Serves a job earlier or later than its age says.
    ///
    /// # Errors
    /// [`JobError::Malformed`] if the priority is not from -100 to 100.
    pub async fn prioritise(&self, job: JobId, priority: i32) -> Result<(), JobError> {
        if !(-100..=100).contains(&priority) {
            return Err(JobError::Malformed(format!(
                "a priority is a number from -100 to 100, not {priority}"
            )));
        }
        Ok(self.0.store.prioritise(job, priority).await?)
    }

    /// What an operator decides about a client.
    ///
    /// # Errors
    /// [`JobError::Store`] if nobody knows the client.
    pub async fn decide(&self, client: ClientId, deed: StandingEvent) -> Result<(), JobError> {
        self.0.store.decide(client, deed, self.now().await?).await?;
        tracing::info!(%client, ?deed, "an operator decided about a client");
        self.0.ready.notify_waiters();
        Ok(())
    }

    /// Grants no more leases, or grants them again; until the next start.
    pub fn drain(&self, on: bool) {
        self.0.draining.store(on, Ordering::Relaxed);
        tracing::info!(on, "draining");
        self.0.ready.notify_waiters();
    }

    /// Whether it grants no leases, because an operator said so or the server stops.
    pub fn drains(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed) || self.0.stopping.is_cancelled()
    }
}
