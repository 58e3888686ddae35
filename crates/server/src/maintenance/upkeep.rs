//! What a server does by itself to live for years: it removes garbage, forgets what was settled long ago, and adds up counts.

use super::gc;
use crate::{
    artifacts::Artifacts,
    dispatch::{JobError, Jobs},
    store::{Actor, Retention},
};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it does so.
const EVERY: Duration = Duration::from_secs(3_600);

/// How often counts are added up, and how long after a start the rest is done for the first time.
const SOON: Duration = Duration::from_secs(60);

/// Keeps a server's data in order.
#[derive(Debug)]
pub struct Upkeep {
    /// The jobs.
    pub jobs: Jobs,
    /// The artifacts.
    pub artifacts: Artifacts,
    /// Garbage is removed after so long, if by itself at all.
    pub garbage_age: Option<Duration>,
    /// What is forgotten, if anything.
    pub retention: Option<Retention>,
    /// Of several servers on one database, the one that leads does it.
    pub leads: watch::Receiver<bool>,
}

impl Upkeep {
    /// Runs until the server stops. What fails is tried again the next time.
    pub async fn run(self, stopping: CancellationToken) {
        let mut tidied: Option<Instant> = None;
        while stopping.run_until_cancelled(tokio::time::sleep(SOON)).await.is_some() {
            if !*self.leads.borrow() {
                continue;
            }
            let due = tidied.is_none_or(|tidied| tidied.elapsed() >= EVERY);
            let done = async {
                self.jobs.store().fold_counts().await?;
                if due {
                    self.tidy().await?;
                }
                Ok::<_, JobError>(())
            };
            match stopping.run_until_cancelled(done).await {
                None => return,
                Some(Ok(())) if due => tidied = Some(Instant::now()),
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        code = "upkeep_failed",
                        error,
                        "upkeep failed; it is tried again"
                    );
                }
            }
        }
    }

    /// Forgets and removes what may go.
    ///
    /// # Errors
    /// [`JobError`] if the database or the artifacts fail; what was done by then stays so.
    pub async fn tidy(&self) -> Result<(), JobError> {
        let store = self.jobs.store();
        if let Some(retention) = &self.retention {
            let now = self.jobs.now().await?;
            let forgotten = store.forget(retention, now).await?;
            if forgotten.batches + forgotten.clients > 0 {
                tracing::info!(?forgotten, "what was settled long ago was forgotten");
            }
        }
        if let Some(age) = self.garbage_age {
            let garbage = gc::collect(store, &self.artifacts, age, false).await?;
            if garbage.removed > 0 {
                gc::record(store, &garbage, &Actor::server(), self.jobs.now().await?).await?;
                tracing::info!(?garbage, "garbage collected");
            }
        }
        Ok(())
    }
}
