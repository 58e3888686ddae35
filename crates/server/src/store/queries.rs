//! What is asked about jobs, for people and for machines. Reads only.

use super::{
    JobStore, Result, SHOWN, StoreError,
    rows::{JobRow, blob, job_columns},
};
use crate::jobs::state::State;
use protocol::{ClientId, Counts, JobId, JobState, JobSummary, LeaseId};
use sqlx::{AssertSqlSafe, any::AnyRow};
use std::ops::RangeInclusive;

impl JobStore {
    /// How many jobs wait for a client.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn ready(&self) -> Result<u64> {
        let count =
            sqlx::query("SELECT count(*) AS n FROM jobs WHERE state = 'ready' AND superseded = 0")
                .fetch_one(self.db.readers());
        let row = self.ok(count.await)?;
        self.uint(&row, "n")
    }

    /// The newest jobs, oldest of them first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>> {
        self.list(None, 0..=u64::MAX, SHOWN).await
    }

    /// The newest jobs in `state`, or in any, with a block in `blocks`, oldest of them first; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn list(
        &self,
        state: Option<JobState>,
        blocks: RangeInclusive<u64>,
        limit: u32,
    ) -> Result<Vec<JobSummary>> {
        let rows = summaries(
            "WHERE ($1 = '' OR CASE superseded WHEN 1 THEN 'superseded' ELSE state END = $1)
             AND batch IN (SELECT id FROM batches WHERE last >= $2 AND first <= $3) ORDER BY seq DESC LIMIT $4",
        );
        let block = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let rows = sqlx::query(rows)
            .bind(state.map_or("", JobState::name))
            .bind(block(*blocks.start()))
            .bind(block(*blocks.end()))
            .bind(i64::from(limit));
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| self.summary(row)).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn job(&self, job: JobId) -> Result<JobSummary> {
        let row = sqlx::query(summaries("WHERE id = $1")).bind(blob(job.as_bytes()));
        let row = self.ok(row.fetch_optional(self.db.readers()).await)?;
        self.summary(&row.ok_or(StoreError::NoSuchJob(job))?)
    }

    /// The jobs that clients have, with their leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn held(&self) -> Result<Vec<(JobId, LeaseId)>> {
        let rows = sqlx::query("SELECT id, lease FROM jobs WHERE state IN ('leased', 'verifying')");
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter()
            .map(|row| {
                Ok((
                    JobId::from_bytes(self.bytes(row, "id")?),
                    LeaseId::from_bytes(self.bytes(row, "lease")?),
                ))
            })
            .collect()
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn counts(&self) -> Result<Counts> {
        let rows = sqlx::query(
            "SELECT state, superseded, count(*) AS n FROM jobs GROUP BY state, superseded",
        );
        let mut counts = Counts::default();
        for row in self.ok(rows.fetch_all(self.db.readers()).await)? {
            let n = self.uint(&row, "n")?;
            match self.state_name(&row)? {
                _ if self.uint(&row, "superseded")? != 0 => counts.superseded += n,
                JobState::Ready => counts.ready = n,
                JobState::Leased => counts.leased = n,
                JobState::Verifying => counts.verifying = n,
                JobState::Proved => counts.proved = n,
                JobState::Dead | JobState::Superseded => counts.dead = n,
            }
        }
        Ok(counts)
    }

    /// The block up to which everything is proved.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn proved_through(&self) -> Result<Option<u64>> {
        let row = sqlx::query(
            "SELECT max(b.last) AS last FROM batches b JOIN jobs j ON j.batch = b.id
             WHERE j.state = 'proved' AND j.superseded = 0 AND b.first <
             coalesce((SELECT min(b.first) FROM jobs j JOIN batches b ON j.batch = b.id
                       WHERE j.state <> 'proved' AND j.superseded = 0), b.first + 1)",
        );
        let row = self.ok(row.fetch_one(self.db.readers()).await)?;
        self.optional_uint(&row, "last")
    }

    pub(super) fn summary(&self, row: &AnyRow) -> Result<JobSummary> {
        let JobRow { id, target, job, .. } = self.job_row(row)?;
        let proved = job.state == State::Proved;
        let client = match job.state.lease() {
            Some(lease) => Some(lease.client),
            None if proved => Some(ClientId::from_bytes(self.bytes(row, "proved_by")?)),
            None => None,
        };
        Ok(JobSummary {
            job: id,
            block_numbers: self.range(row)?,
            state: job.state.name(),
            cause: job.state.cause(),
            priority: i32::try_from(self.get::<i64>(row, "priority")?)
                .map_err(|error| self.damaged(error))?,
            system: target.system,
            program_id: target.program_id,
            kind: target.kind,
            gas_used: self.uint(row, "gas_used")?,
            transactions: self.uint(row, "transactions")?,
            prover_inputs: self.artifact(row, "input", "input_len")?,
            client,
            progress: None,
            created_at: self.uint(row, "created_at")?,
            leased_at: self.optional_uint(row, "leased_at")?,
            finished_at: self.optional_uint(row, "finished_at")?,
            failures: job.failures,
            lost: job.lost,
            proof: if proved { Some(self.artifact(row, "proof", "proof_len")?) } else { None },
            last_error: self.optional_text(row, "last_error")?,
        })
    }
}

/// Reads summaries of the jobs that `filter` leaves.
fn summaries(filter: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "SELECT j.seq, j.id, j.batch, j.system, j.program_id, j.kind, j.state, j.cause, j.superseded, j.not_before,
         j.failures, j.lost, j.lost_to, j.lease, j.lease_client, j.lease_since, j.lease_expires_at, j.lease_heard,
         j.lease_handed, j.created_at, j.due, j.finished_at, j.priority, j.proof, j.proof_len, j.proved_by, j.last_error,
         b.first, b.last, b.gas_used, b.transactions, b.input, b.input_len,
         (SELECT max(granted_at) FROM leases l WHERE l.job = j.id) AS leased_at
         FROM (SELECT {}, priority, proof, proof_len, proved_by, last_error FROM jobs {filter}) j JOIN batches b ON b.id = j.batch ORDER BY j.seq",
        job_columns!(),
    ))
}
