//! What is asked about jobs, for people and for machines. Reads only.

use super::{
    JobStore, Result, SHOWN, StoreError,
    rows::{JobRow, job_columns},
};
use crate::{
    clock::Timestamp,
    database::columns::Col,
    jobs::{
        batch::{Demand, Target, Targets},
        state::State,
    },
};
use protocol::{Counts, JobId, JobState, JobSummary, LeaseId};
use sqlx::{AssertSqlSafe, any::AnyRow};
use std::ops::RangeInclusive;

impl JobStore {
    /// How many jobs wait for a client: of each of `targets`, and the most of those. What is set aside does not count.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn ready(&self, targets: &Targets) -> Result<u64> {
        let rows = sqlx::query(
            "SELECT system, program_id, kind, count(*) AS n FROM jobs WHERE state = 'ready' AND superseded = 0
             GROUP BY system, program_id, kind",
        );
        let mut most = 0;
        for row in self.ok(rows.fetch_all(self.db.readers()).await)? {
            if targets.demand(&self.target(&row)?) == Demand::Wanted {
                most = most.max(self.get(&row, "n")?);
            }
        }
        Ok(most)
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
            .bind(Col(limit));
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| self.summary(row)).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn job(&self, job: JobId) -> Result<JobSummary> {
        let row = sqlx::query(summaries("WHERE id = $1")).bind(Col(job));
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
        rows.iter().map(|row| Ok((self.get(row, "id")?, self.get(row, "lease")?))).collect()
    }

    /// How many jobs are in each state, and how many of the open ones are set aside.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn counts(&self, targets: &Targets) -> Result<Counts> {
        Ok(self.census(targets).await?.counts)
    }

    /// What the open jobs that are set aside ask for, and how many they are.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn set_aside(&self, targets: &Targets) -> Result<(Vec<Target>, u64)> {
        let census = self.census(targets).await?;
        Ok((census.set_aside, census.counts.set_aside))
    }

    /// All jobs, counted.
    pub(super) async fn census(&self, targets: &Targets) -> Result<Census> {
        let rows = sqlx::query(
            "SELECT system, program_id, kind, state, superseded, count(*) AS n, min(created_at) AS oldest FROM jobs
             GROUP BY system, program_id, kind, state, superseded ORDER BY oldest",
        );
        let mut census = Census::default();
        for row in self.ok(rows.fetch_all(self.db.readers()).await)? {
            let (n, target): (u64, _) = (self.get(&row, "n")?, self.target(&row)?);
            let counts = &mut census.counts;
            let state = match self.get(&row, "superseded")? {
                true => JobState::Superseded,
                false => self.get(&row, "state")?,
            };
            *match state {
                JobState::Ready => &mut counts.ready,
                JobState::Leased => &mut counts.leased,
                JobState::Verifying => &mut counts.verifying,
                JobState::Proved => &mut counts.proved,
                JobState::Dead => &mut counts.dead,
                JobState::Superseded => &mut counts.superseded,
            } += n;
            if !matches!(state, JobState::Ready | JobState::Leased | JobState::Verifying) {
                continue;
            }
            match targets.demand(&target) {
                Demand::Wanted if census.oldest_open.is_none() => {
                    census.oldest_open = Some(self.get(&row, "oldest")?);
                }
                Demand::Wanted => {}
                Demand::SetAside => {
                    counts.set_aside += n;
                    if !census.set_aside.contains(&target) {
                        census.set_aside.push(target);
                    }
                }
            }
        }
        Ok(census)
    }

    /// The block up to which everything is proved: each batch has a proof, and no other is wanted of it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn proved_through(&self, targets: &Targets) -> Result<Option<u64>> {
        let rows = sqlx::query(
            "SELECT j.system, j.program_id, j.kind, min(b.first) AS first,
             min(CASE WHEN EXISTS (SELECT 1 FROM jobs p WHERE p.batch = b.id AND p.state = 'proved') THEN NULL
                 ELSE b.first END) AS unproved
             FROM jobs j JOIN batches b ON b.id = j.batch WHERE j.state <> 'proved' AND j.superseded = 0
             GROUP BY j.system, j.program_id, j.kind",
        );
        let mut end = i64::MAX.cast_unsigned();
        for row in self.ok(rows.fetch_all(self.db.readers()).await)? {
            let column = match targets.demand(&self.target(&row)?) {
                Demand::Wanted => "first",
                // A batch may do without that proof, but not without any.
                Demand::SetAside => "unproved",
            };
            end = end.min(self.get::<Option<u64>>(&row, column)?.unwrap_or(end));
        }
        let row = sqlx::query(
            "SELECT last FROM batches WHERE superseded_at IS NULL AND first < $1 ORDER BY first DESC LIMIT 1",
        );
        let row = self.ok(row.bind(Col(end)).fetch_optional(self.db.readers()).await)?;
        row.map(|row| self.get(&row, "last")).transpose()
    }

    pub(super) fn summary(&self, row: &AnyRow) -> Result<JobSummary> {
        let JobRow { id, target, job, .. } = self.job_row(row)?;
        let proved = job.state == State::Proved;
        let client = match job.state.lease() {
            Some(lease) => Some(lease.client),
            None if proved => Some(self.get(row, "proved_by")?),
            None => None,
        };
        Ok(JobSummary {
            job: id,
            block_numbers: self.range(row)?,
            state: job.state.name(),
            cause: job.state.cause(),
            priority: self.get(row, "priority")?,
            system: target.system,
            program_id: target.program_id,
            kind: target.kind,
            gas_used: self.get(row, "gas_used")?,
            transactions: self.get(row, "transactions")?,
            prover_inputs: self.artifact(row, "input", "input_len")?,
            client,
            progress: None,
            created_at: self.get(row, "created_at")?,
            leased_at: self.get(row, "leased_at")?,
            finished_at: self.get(row, "finished_at")?,
            failures: job.failures,
            lost: job.lost,
            proof: if proved { Some(self.artifact(row, "proof", "proof_len")?) } else { None },
            last_error: self.get(row, "last_error")?,
        })
    }
}

/// All jobs, counted.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) counts: Counts,
    /// When the oldest open job whose proof is wanted was enqueued.
    pub(super) oldest_open: Option<Timestamp>,
    /// What the open jobs that are set aside ask for.
    pub(super) set_aside: Vec<Target>,
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
