//! What is asked about jobs, for people and for machines. Reads only.

use super::{
    JobStore, Result, SHOWN, StoreError,
    rows::{JobRow, bound, job_columns, made_of_proofs},
};
use crate::{
    clock::Timestamp,
    database::columns::Col,
    jobs::{
        batch::{Demand, Target, Targets},
        state::State,
    },
};
use protocol::{Counts, JobId, JobState, JobSummary, LeaseId, ProofKind};
use sqlx::{AssertSqlSafe, any::AnyRow};
use std::ops::RangeInclusive;

/// Which jobs are asked for. By default all of them.
#[derive(Clone, Debug)]
pub struct JobFilter {
    /// Those in this state.
    pub state: Option<JobState>,
    /// Those with which something went wrong: they failed, lost a client, or were given up.
    pub troubled: bool,
    /// Those of this kind that make something of accepted proofs, instead of those that prove blocks.
    pub made_of_proofs: Option<ProofKind>,
    /// Those with a block in this range.
    pub blocks: RangeInclusive<u64>,
    /// Those enqueued before the job with this number: a page's `next`.
    pub before: Option<u64>,
}

impl Default for JobFilter {
    fn default() -> Self {
        Self {
            state: None,
            troubled: false,
            made_of_proofs: None,
            blocks: 0..=u64::MAX,
            before: None,
        }
    }
}

/// A part of a list, and where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// What [`JobFilter::before`] is for the next page, if there may be more.
    pub next: Option<u64>,
}

/// So many jobs are looked at for one page: if most of them are not asked for, it is shorter than it could be.
pub(super) const EXAMINED: u32 = 5_000;

/// So many jobs that clients have are shown at most.
pub(super) const MOST_HELD: u32 = 1_000;

/// Jobs on so few blocks are found by their batches.
const FEW_BLOCKS: u64 = 1_024;

impl JobStore {
    /// How many jobs wait for a client: of each of `targets`, and the most of those. What is set aside does not count.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn ready(&self, targets: &Targets) -> Result<u64> {
        let tallies = self.tallies().await?;
        let of = |target: &Target| {
            let ready =
                tallies.iter().filter(|it| it.target == *target && it.state == JobState::Ready);
            ready.map(|it| it.jobs).sum()
        };
        Ok(targets.iter().map(of).max().unwrap_or_default())
    }

    /// The jobs that clients have and the newest of the others, oldest of them first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>> {
        // A limit that is a parameter is a guess for PostgreSQL's planner: it would look at all jobs.
        let rows = sqlx::query(summaries(&format!(
            "WHERE seq IN (SELECT seq FROM (SELECT seq FROM jobs ORDER BY seq DESC LIMIT {SHOWN}) AS newest
             UNION SELECT seq FROM (SELECT seq FROM jobs WHERE state = 'leased' AND state <> 'proved' AND superseded = 0
                 ORDER BY seq DESC LIMIT {MOST_HELD}) AS leased
             UNION SELECT seq FROM (SELECT seq FROM jobs WHERE state = 'verifying' AND state <> 'proved' AND superseded = 0
                 ORDER BY seq DESC LIMIT {MOST_HELD}) AS verifying)",
        )));
        let rows = rows.fetch_all(self.db.readers()).await;
        self.ok(rows)?.iter().map(|row| self.summary(row)).collect()
    }

    /// The newest jobs that `filter` leaves, oldest of them first; at most `limit`. Those for parts of proofs are in the history of the
    /// whole proof's job.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn list(&self, filter: &JobFilter, limit: u32) -> Result<Page<JobSummary>> {
        // States and limits stand in the text. As parameters they are guesses for PostgreSQL's planner, which would look at all jobs.
        let whole = match filter.made_of_proofs {
            Some(kind) => format!("kind = '{kind}'"),
            None => "parent IS NULL".to_owned(),
        };
        let mut condition = format!("seq < $1 AND {whole}");
        match filter.state {
            None => {}
            Some(JobState::Superseded) => condition += " AND superseded = 1",
            Some(state) => {
                condition += &format!(" AND superseded = 0 AND state = '{}'", state.name())
            }
        }
        if filter.troubled {
            condition += " AND (last_error IS NOT NULL OR lost > 0 OR state = 'dead')";
        }
        let (first, last) = (bound(*filter.blocks.start()), bound(*filter.blocks.end()));
        let all = first == 0 && last == i64::MAX;
        let few = last.saturating_sub(first).cast_unsigned() < FEW_BLOCKS;
        let before = filter.before.map_or(i64::MAX, bound);
        // What is made of proofs is found by all its blocks, and not by those of the batch on which it hangs.
        let made = filter.made_of_proofs.is_some();
        let window = if all {
            format!("WHERE {condition} ORDER BY seq DESC LIMIT {limit}")
        } else if made {
            format!(
                "WHERE {condition} AND id IN (SELECT job FROM folds WHERE last >= $2 AND first <= $3) ORDER BY seq DESC LIMIT {limit}"
            )
        } else if few {
            format!(
                "WHERE {condition} AND batch IN (SELECT id FROM batches WHERE last >= $2 AND first <= $3 AND
                 first >= $2 - (SELECT last - first FROM batches ORDER BY last - first DESC LIMIT 1))
                 ORDER BY seq DESC LIMIT {limit}"
            )
        } else {
            format!(
                "WHERE seq IN (SELECT seq FROM (SELECT seq, batch FROM jobs WHERE {condition}
                 ORDER BY seq DESC LIMIT {EXAMINED}) AS looked_at
                 WHERE (SELECT 1 FROM batches WHERE id = looked_at.batch AND last >= $2 AND first <= $3) IS NOT NULL
                 ORDER BY seq DESC LIMIT {limit}) ORDER BY seq DESC"
            )
        };
        let mut rows = sqlx::query(summaries(&window)).bind(before);
        if !all {
            rows = rows.bind(first).bind(last);
        }
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        let items: Vec<_> = rows.iter().map(|row| self.summary(row)).collect::<Result<_>>()?;
        let next = if items.len() >= limit as usize {
            rows.first().map(|row| self.get(row, "seq")).transpose()?
        } else if all || few || made {
            None
        } else {
            // The page is short: either nothing is left, or what was looked at is not asked for.
            let looked = format!(
                "SELECT min(seq) AS low, count(*) AS looked FROM (SELECT seq FROM jobs WHERE {condition}
                 ORDER BY seq DESC LIMIT {EXAMINED}) AS looked_at"
            );
            let looked = sqlx::query(AssertSqlSafe(looked)).bind(before);
            let looked = self.ok(looked.fetch_one(self.db.readers()).await)?;
            let low: Option<u64> = self.get(&looked, "low")?;
            low.filter(|_| {
                self.get::<u64>(&looked, "looked").is_ok_and(|n| n >= u64::from(EXAMINED))
            })
        };
        Ok(Page { items, next })
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

    /// The jobs that ask for parts of a job's proof, oldest first.
    pub(super) async fn part_summaries(&self, job: JobId) -> Result<Vec<JobSummary>> {
        let rows = sqlx::query(summaries("WHERE parent = $1")).bind(Col(job));
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| self.summary(row)).collect()
    }

    /// The jobs that clients have, with their leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn held(&self) -> Result<Vec<(JobId, LeaseId)>> {
        let rows = sqlx::query(
            "SELECT id, lease FROM jobs WHERE state IN ('leased', 'verifying') AND state <> 'proved' AND superseded = 0",
        );
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| Ok((self.get(row, "id")?, self.get(row, "lease")?))).collect()
    }

    /// How many jobs are in each state, and how many of the open ones are set aside.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn counts(&self, targets: &Targets) -> Result<Counts> {
        Ok(Census::of(&self.tallies().await?, targets).counts)
    }

    /// What the open jobs that are set aside ask for, and how many they are.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn set_aside(&self, targets: &Targets) -> Result<(Vec<Target>, u64)> {
        let census = Census::of(&self.tallies().await?, targets);
        Ok((census.set_aside, census.counts.set_aside))
    }

    /// How many jobs there are of each target and state, without those for parts and those that are made of proofs.
    pub(super) async fn tallies(&self) -> Result<Vec<Tally>> {
        self.tallied(concat!("<> 'part' AND kind NOT IN ", made_of_proofs!())).await
    }

    /// The same of those that are made of proofs.
    pub(super) async fn tallies_of_folds(&self) -> Result<Vec<Tally>> {
        self.tallied(concat!("IN ", made_of_proofs!())).await
    }

    /// How many jobs of some kinds there are. Triggers count them as they change, so this is no scan of them.
    async fn tallied(&self, kinds: &str) -> Result<Vec<Tally>> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT system, program_id, kind, state, superseded, CAST(sum(jobs) AS BIGINT) AS n FROM job_counts
             WHERE kind {kinds} GROUP BY system, program_id, kind, state, superseded HAVING sum(jobs) > 0
             ORDER BY system, program_id, kind",
        )));
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        let tally = |row: &AnyRow| {
            let state = match self.get(row, "superseded")? {
                true => JobState::Superseded,
                false => self.get(row, "state")?,
            };
            Ok(Tally { target: self.target(row)?, state, jobs: self.get(row, "n")? })
        };
        rows.iter().map(tally).collect()
    }

    /// When the oldest open job whose proof is wanted was enqueued.
    pub(super) async fn oldest_open(
        &self,
        tallies: &[Tally],
        targets: &Targets,
    ) -> Result<Option<Timestamp>> {
        let mut oldest = None;
        let wanted = |it: &&Tally| it.open() && targets.demand(&it.target) == Demand::Wanted;
        for tally in tallies.iter().filter(wanted) {
            let row = sqlx::query(
                "SELECT created_at FROM jobs WHERE state <> 'proved' AND superseded = 0 AND state = $1 AND system = $2
                 AND program_id = $3 AND kind = $4 ORDER BY seq LIMIT 1",
            )
            .bind(tally.state.name())
            .bind(Col(tally.target.system))
            .bind(Col(tally.target.program_id))
            .bind(Col(tally.target.kind));
            if let Some(row) = self.ok(row.fetch_optional(self.db.readers()).await)? {
                let created: Timestamp = self.get(&row, "created_at")?;
                oldest = Some(oldest.map_or(created, |oldest: Timestamp| oldest.min(created)));
            }
        }
        Ok(oldest)
    }

    /// The block up to which everything is proved: each batch has a proof, and no other is wanted of it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn proved_through(&self, targets: &Targets) -> Result<Option<u64>> {
        let wanted = (0..targets.iter().len()).map(|at| asks_for(3 * at + 1));
        let wanted = wanted.collect::<Vec<_>>().join(" OR ");
        // The first batch that lacks a proof that is wanted, or any. Each is looked at by itself, in order: whatever is planned
        // otherwise looks at all of them.
        let first = format!(
            "SELECT u.first FROM unproved u WHERE (SELECT b.superseded_at IS NULL FROM batches b WHERE b.id = u.batch)
             AND ((SELECT count(*) FROM jobs j WHERE j.batch = u.batch AND j.state <> 'proved' AND j.superseded = 0 AND ({wanted})) > 0
             OR (SELECT count(*) FROM jobs p WHERE p.batch = u.batch AND p.state = 'proved' AND p.parent IS NULL) = 0)
             ORDER BY u.first LIMIT 1"
        );
        let mut first = sqlx::query(AssertSqlSafe(first));
        for target in targets {
            first =
                first.bind(Col(target.system)).bind(Col(target.program_id)).bind(Col(target.kind));
        }
        let first = self.ok(first.fetch_optional(self.db.readers()).await)?;
        let end: u64 = match first {
            Some(row) => self.get(&row, "first")?,
            None => i64::MAX.cast_unsigned(),
        };
        let row = sqlx::query(
            "SELECT last FROM batches WHERE superseded_at IS NULL AND first < $1 ORDER BY first DESC LIMIT 1",
        );
        let row = self.ok(row.bind(Col(end)).fetch_optional(self.db.readers()).await)?;
        row.map(|row| self.get(&row, "last")).transpose()
    }

    pub(super) fn summary(&self, row: &AnyRow) -> Result<JobSummary> {
        let JobRow { id, target, job, part, .. } = self.job_row(row)?;
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
            part,
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

/// How many jobs ask for a target and are in a state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    pub(super) target: Target,
    pub(super) state: JobState,
    pub(super) jobs: u64,
}

impl Tally {
    pub(super) fn open(&self) -> bool {
        matches!(self.state, JobState::Ready | JobState::Leased | JobState::Verifying)
    }
}

/// All jobs, counted.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) counts: Counts,
    /// What the open jobs that are set aside ask for.
    pub(super) set_aside: Vec<Target>,
}

impl Census {
    pub(super) fn of(tallies: &[Tally], targets: &Targets) -> Self {
        let mut census = Self::default();
        for tally in tallies {
            let counts = &mut census.counts;
            *match tally.state {
                JobState::Ready => &mut counts.ready,
                JobState::Leased => &mut counts.leased,
                JobState::Verifying => &mut counts.verifying,
                JobState::Proved => &mut counts.proved,
                JobState::Dead => &mut counts.dead,
                JobState::Superseded => &mut counts.superseded,
            } += tally.jobs;
            if tally.open() && targets.demand(&tally.target) == Demand::SetAside {
                counts.set_aside += tally.jobs;
                if !census.set_aside.contains(&tally.target) {
                    census.set_aside.push(tally.target);
                }
            }
        }
        census
    }
}

/// A condition that a job asks for a target, whose system, program and kind are the parameters from the `from`-th on.
pub(super) fn asks_for(from: usize) -> String {
    format!("system = ${from} AND program_id = ${} AND kind = ${}", from + 1, from + 2)
}

/// Reads summaries of the jobs that `filter` leaves.
fn summaries(filter: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "SELECT j.seq, j.id, j.batch, j.system, j.program_id, j.kind, j.state, j.cause, j.superseded, j.not_before,
         j.failures, j.failed_by, j.lost, j.lost_to, j.lost_by, j.lease, j.lease_client, j.lease_party, j.lease_since, j.lease_expires_at, j.lease_heard,
         j.lease_handed, j.created_at, j.due, j.finished_at, j.parent, j.work, j.part_first, j.part_end, j.priority, j.proof, j.proof_len, j.proved_by, j.last_error,
         coalesce(f.first, b.first) AS first, b.last, coalesce(f.gas_used, b.gas_used) AS gas_used,
         coalesce(f.transactions, b.transactions) AS transactions, coalesce(f.input, b.input) AS input,
         coalesce(f.input_len, b.input_len) AS input_len,
         (SELECT max(granted_at) FROM leases l WHERE l.job = j.id) AS leased_at
         FROM (SELECT {}, priority, proof, proof_len, proved_by, last_error FROM jobs {filter}) j JOIN batches b ON b.id = j.batch
         LEFT JOIN folds f ON f.job = j.id ORDER BY j.seq",
        job_columns!(),
    ))
}
