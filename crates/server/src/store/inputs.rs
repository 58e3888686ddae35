//! Inputs that were lost: which batch they are of, and what takes their place.

use super::{JobStore, Result, StoreError};
use crate::{
    clock::Timestamp,
    database::{Notification, columns::Col},
    jobs::batch::DepositLinks,
};
use protocol::{ArtifactRef, BlockRange, JobId, LeaseId, ProofKind};

/// What a job says whose input is lost.
pub(super) const LOST: &str = "the server lost the input; it is made anew";

/// The batch of a job, as far as its input goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchInput {
    row: i64,
    /// Its blocks.
    pub blocks: BlockRange,
    /// The statement's ABI bytes.
    pub statement: Vec<u8>,
    /// The input.
    pub input: ArtifactRef,
    /// The kind of proof that the job asks for.
    pub kind: ProofKind,
    /// Where its deposits are, if the chain has a bridge.
    pub deposits: Option<DepositLinks>,
    /// The job's live lease.
    pub lease: Option<LeaseId>,
}

impl JobStore {
    /// The input of a job.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn input_of(&self, job: JobId) -> Result<BatchInput> {
        let row = sqlx::query(
            "SELECT b.id, coalesce(f.first, b.first) AS first, b.last, coalesce(f.statement, b.statement) AS statement,
             coalesce(f.input, b.input) AS input, coalesce(f.input_len, b.input_len) AS input_len, b.deposits_start, b.deposits_end, j.kind, j.lease
             FROM jobs j JOIN batches b ON b.id = j.batch LEFT JOIN folds f ON f.job = j.id WHERE j.id = $1",
        );
        let row = row.bind(Col(job)).fetch_optional(self.db.readers()).await;
        let row = self.ok(row)?.ok_or(StoreError::NoSuchJob(job))?;
        Ok(BatchInput {
            row: self.get(&row, "id")?,
            blocks: self.range(&row)?,
            statement: self.get(&row, "statement")?,
            input: self.artifact(&row, "input", "input_len")?,
            kind: self.get(&row, "kind")?,
            deposits: self.deposit_links(&row)?,
            lease: self.get(&row, "lease")?,
        })
    }

    /// Puts another input of the same statement in the place of one that is lost. The batch's jobs that wait for it are ready
    /// at once. False if another server was faster.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn replace_input(
        &self,
        lost: &BatchInput,
        input: ArtifactRef,
        now: Timestamp,
    ) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let replaced = sqlx::query(
            "UPDATE batches SET input = $1, input_len = $2 WHERE id = $3 AND input = $4 AND statement = $5",
        )
        .bind(Col(input.sha256))
        .bind(Col(input.len))
        .bind(lost.row)
        .bind(Col(lost.input.sha256))
        .bind(lost.statement.clone())
        .execute(&mut *tx);
        if self.ok(replaced.await)?.rows_affected() == 0 {
            return Ok(false);
        }
        let ready = sqlx::query(
            "UPDATE jobs SET not_before = $1 WHERE batch = $2 AND state = 'ready' AND last_error = $3 AND not_before > $1",
        )
        .bind(Col(now))
        .bind(lost.row)
        .bind(LOST)
        .execute(&mut *tx);
        self.ok(ready.await)?;
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)?;
        Ok(true)
    }
}
