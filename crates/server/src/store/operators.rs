//! What an operator decides about a job.

use super::{JobStore, Result};
use crate::{
    clock::Timestamp,
    database::columns::Col,
    jobs::{
        outcome::LeaseOutcome,
        state::{Event, due},
    },
};
use protocol::JobId;

impl JobStore {
    /// Gives a dead job fresh budgets.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) if it is not dead.
    pub async fn requeue(&self, job: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        self.apply(&mut tx, row, &Event::Requeue, now).await?;
        self.ok(tx.commit().await)
    }

    /// Gives a job up. Its client is told to stop; a proof of it that comes all the same is used.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) if it is proved.
    pub async fn cancel(&self, job: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let held = row.job.state.lease().map(|lease| lease.id);
        self.apply(&mut tx, row, &Event::Cancel, now).await?;
        if let Some(held) = held {
            self.end_lease(&mut tx, held, LeaseOutcome::Cancelled, now).await?;
        }
        self.ok(tx.commit().await)
    }

    /// Changes when a job is [`due`].
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`](super::StoreError::NoSuchJob).
    pub async fn prioritise(&self, job: JobId, priority: i32) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let update = sqlx::query("UPDATE jobs SET priority = $1, due = $2 WHERE seq = $3")
            .bind(Col(priority))
            .bind(Col(due(row.created_at, priority)))
            .bind(row.seq)
            .execute(&mut *tx);
        self.ok(update.await)?;
        self.ok(tx.commit().await)
    }
}
