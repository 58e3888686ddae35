//! Heartbeats, which keep leases alive while a job is proven.

use crate::{
    api::{Api, CallError},
    prover::Cancel,
};
use protocol::{Advice, ClientId, Heartbeat, InstanceId, JobId, LeaseId, Progress};
use std::{io, thread, time::Duration};
use tokio::{runtime, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Heartbeats, from a thread and a runtime of their own, and through connections of their own: neither proving nor a busy runtime delays them.
pub(crate) struct Heartbeats {
    runtime: runtime::Handle,
    _stop: DropGuard,
}

/// The heartbeats of one lease.
pub(super) struct Beat {
    /// The server that lent the job.
    pub(super) lender: Api,
    /// Others, which may share its database.
    pub(super) others: Vec<Api>,
    pub(super) client: ClientId,
    pub(super) instance: InstanceId,
    pub(super) job: JobId,
    pub(super) lease: LeaseId,
    pub(super) cancel: Cancel,
    pub(super) drained: Cancel,
}

impl Heartbeats {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { runtime: handle, _stop: stop.drop_guard() })
    }

    /// Keeps the lease alive until the guard is dropped. Cancels when the server says so.
    pub(super) fn keep(
        &self,
        beat: Beat,
        every: Duration,
        progress: watch::Receiver<Option<Progress>>,
    ) -> DropGuard {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        self.runtime
            .spawn(async move { stopped.run_until_cancelled(beat.run(every, progress)).await });
        stop.drop_guard()
    }
}

impl Beat {
    async fn run(mut self, every: Duration, progress: watch::Receiver<Option<Progress>>) {
        let mut pause = every;
        while !self.cancel.is_set() {
            tokio::time::sleep(pause).await;
            let step = *progress.borrow();
            pause = match self.once(step).await {
                Ok(()) => every,
                // A server that does not answer may have missed it: the next one comes sooner.
                Err(error) => {
                    tracing::warn!(code = "heartbeat_failed", job = %self.job, %error, "heartbeat failed");
                    self.elsewhere(step).await;
                    (every / 4).min(Duration::from_secs(2))
                }
            };
        }
    }

    async fn once(&self, progress: Option<Progress>) -> Result<(), CallError> {
        match self.lender.heartbeat(&self.job, self.message(progress)).await {
            Ok(Advice::Continue) => {}
            Ok(Advice::Drain) => self.drained.set(),
            Ok(advice @ (Advice::Cancel | Advice::Lost)) => {
                tracing::warn!(code = "told_to_stop", job = %self.job, ?advice, "server says stop");
                self.cancel.set();
            }
            // The server does not know the job any more.
            Err(error) if !error.retryable() => self.cancel.set(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Tells the other servers, all at once: one that shares the lender's database keeps the lease alive. What those say that do not
    /// does not count.
    async fn elsewhere(&mut self, progress: Option<Progress>) {
        let message = self.message(progress);
        let beats = self.others.iter().map(|api| api.heartbeat(&self.job, message.clone()));
        let answers = futures::future::join_all(beats).await;
        let mut answers = answers.into_iter();
        self.others.retain(|_| match answers.next() {
            Some(Ok(advice)) => advice != Advice::Lost,
            Some(Err(error)) => error.retryable(),
            None => false,
        });
    }

    fn message(&self, progress: Option<Progress>) -> Heartbeat {
        let (client, lease, instance) = (self.client, self.lease, Some(self.instance));
        Heartbeat { client, lease, progress, instance }
    }
}
