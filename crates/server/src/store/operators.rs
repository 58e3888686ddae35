//! What an operator decides about jobs.

use super::{
    Actor, JobStore, Result, StoreError,
    queries::{EXAMINED, asks_for},
    rows::{bound, made_of_proofs},
};
use crate::{
    clock::Timestamp,
    database::columns::Col,
    jobs::{
        batch::Targets,
        outcome::LeaseOutcome,
        state::{Event, Outcome, Refused, State, due},
    },
};
use protocol::{ChangeJobs, ChangedJobs, ClientId, JobId, JobsDeed, LeaseId};
use sqlx::AssertSqlSafe;

/// So many jobs are changed in answer to one request.
const AT_A_TIME: usize = 500;

impl JobStore {
    /// Gives a dead job fresh budgets.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is not dead.
    pub async fn requeue(&self, job: JobId, by: &Actor, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        self.apply(&mut tx, row, &Event::Requeue, now).await?;
        self.record_deed(&mut tx, by, "requeue", format!("job {job}"), None, now).await?;
        self.ok(tx.commit().await)
    }

    /// Gives a job up. Its client is told to stop; a proof of it that comes all the same is used.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is proved or cancelled.
    pub async fn cancel(&self, job: JobId, by: &Actor, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let held = row.job.state.lease().map(|lease| lease.id);
        self.apply(&mut tx, row, &Event::Cancel, now).await?;
        if let Some(held) = held {
            self.end_lease(&mut tx, held, LeaseOutcome::Cancelled, now).await?;
        }
        self.record_deed(&mut tx, by, "cancel", format!("job {job}"), None, now).await?;
        self.ok(tx.commit().await)
    }

    /// Takes a job from the client that has it, which is not to blame: the job is ready for others. The client is told to stop;
    /// a proof of it that comes all the same is used. If a client is `meant`, it is taken from no other.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if no client has it, or another.
    pub async fn release(
        &self,
        job: JobId,
        meant: Option<ClientId>,
        by: &Actor,
        now: Timestamp,
    ) -> Result<LeaseId> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let State::Leased(held) = row.job.state.clone() else {
            return Err(StoreError::Refused { job, refused: Refused::NotLeased });
        };
        if meant.is_some_and(|meant| meant != held.client) {
            return Err(StoreError::Refused { job, refused: Refused::OtherClient });
        }
        self.end_without_blame(&mut tx, row, held.id, now).await?;
        let detail = Some(format!("from client {}", held.client));
        self.record_deed(&mut tx, by, "release", format!("job {job}"), detail, now).await?;
        self.ok(tx.commit().await)?;
        Ok(held.id)
    }

    /// Changes when a job is [`due`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is proved: nobody waits for it.
    pub async fn prioritise(
        &self,
        job: JobId,
        priority: i32,
        by: &Actor,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        if row.job.state.outcome() == Outcome::Proved {
            return Err(StoreError::Refused { job, refused: Refused::Proved });
        }
        let update =
            sqlx::query("UPDATE jobs SET priority = $1, due = $2 WHERE seq = $3 OR parent = $4")
                .bind(Col(priority))
                .bind(Col(due(row.created_at, priority)))
                .bind(row.seq)
                .bind(Col(row.id))
                .execute(&mut *tx);
        self.ok(update.await)?;
        let detail = Some(format!("to {priority}"));
        self.record_deed(&mut tx, by, "prioritise", format!("job {job}"), detail, now).await?;
        self.ok(tx.commit().await)
    }

    /// Does the same to many jobs, each in a transaction of its own. What they are is decided when they are looked for: one that
    /// has changed since is left alone.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails. What was changed by then stays so.
    pub async fn change(
        &self,
        asked: &ChangeJobs,
        targets: &Targets,
        by: &Actor,
        now: Timestamp,
    ) -> Result<ChangedJobs> {
        let unwanted =
            (0..targets.iter().len()).map(|at| format!("NOT ({})", asks_for(3 * at + 6)));
        let mut conditions = vec![
            "(batch IN (SELECT id FROM batches WHERE last >= $3 AND first <= $4)
              OR id IN (SELECT job FROM folds WHERE last >= $3 AND first <= $4))"
                .to_owned(),
            "($2 = '' OR (state = 'dead' AND coalesce(cause, 'budget') = $2))".to_owned(),
        ];
        conditions.push(match asked.client {
            Some(_) => "id IN (SELECT job FROM leases WHERE client = $5)".to_owned(),
            None => "$5 = $5".to_owned(),
        });
        if asked.set_aside {
            conditions.extend(unwanted);
        }
        // What is made of proofs is not among what is wanted of batches.
        let made = if asked.set_aside { "" } else { concat!(" OR kind IN ", made_of_proofs!()) };
        let sql = format!(
            "SELECT seq, id, CASE WHEN {} THEN 1 ELSE 0 END AS meant FROM (SELECT seq, id, batch, state, cause, system, program_id, kind
             FROM jobs WHERE superseded = 0 AND state = '{}' AND seq > $1 AND (parent IS NULL{made}) ORDER BY seq LIMIT {EXAMINED}) AS looked_at ORDER BY seq",
            conditions.join(" AND "),
            asked.state.name(),
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql))
            .bind(asked.after.map_or(0, bound))
            .bind(asked.cause.map_or("", protocol::DeadCause::name))
            .bind(asked.first.map_or(0, bound))
            .bind(asked.last.map_or(i64::MAX, bound))
            .bind(asked.client.map_or_else(Vec::new, |client| client.as_bytes().to_vec()));
        if asked.set_aside {
            for target in targets {
                rows = rows
                    .bind(Col(target.system))
                    .bind(Col(target.program_id))
                    .bind(Col(target.kind));
            }
        }
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        let (mut changed, mut seq) = (ChangedJobs::default(), None);
        for row in &rows {
            if changed.matched >= AT_A_TIME as u64 {
                return Ok(ChangedJobs { next: seq, ..changed });
            }
            seq = Some(self.get::<u64>(row, "seq")?);
            if !self.get::<bool>(row, "meant")? {
                continue;
            }
            changed.matched += 1;
            if asked.dry_run {
                continue;
            }
            let job: JobId = self.get(row, "id")?;
            let done = match asked.deed {
                JobsDeed::Requeue => self.requeue(job, by, now).await,
                JobsDeed::Cancel => self.cancel(job, by, now).await,
            };
            match done {
                Ok(()) => changed.changed += 1,
                Err(StoreError::Refused { .. } | StoreError::NoSuchJob(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let more = rows.len() >= EXAMINED as usize;
        Ok(ChangedJobs { next: seq.filter(|_| more), ..changed })
    }

    /// Turns on or off what holds for all servers of the database.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn switch(&self, what: Switch, on: bool, by: &Actor, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let change = match on {
            true => sqlx::query(
                "INSERT INTO switches (name, since) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(what.name())
            .bind(Col(now)),
            false => sqlx::query("DELETE FROM switches WHERE name = $1").bind(what.name()),
        };
        self.ok(change.execute(&mut *tx).await)?;
        let on = Some(if on { "on" } else { "off" }.to_owned());
        self.record_deed(&mut tx, by, what.name(), "all servers".into(), on, now).await?;
        self.ok(tx.commit().await)
    }

    /// What is on, and since when.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn switches(&self) -> Result<Switches> {
        let rows =
            sqlx::query("SELECT name, since FROM switches").fetch_all(self.db.readers()).await;
        let mut switches = Switches::default();
        for row in self.ok(rows)? {
            let (name, since) = (self.get::<String>(&row, "name")?, self.get(&row, "since")?);
            // A later version may know others.
            match [Switch::Drain, Switch::Pause].into_iter().find(|known| known.name() == name) {
                Some(Switch::Drain) => switches.draining = Some(since),
                Some(Switch::Pause) => switches.paused = Some(since),
                None => {}
            }
        }
        Ok(switches)
    }
}

/// What an operator can turn on for all servers of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// No leases are granted.
    Drain,
    /// No new batches are taken in.
    Pause,
}

impl Switch {
    /// As it is stored and recorded.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Pause => "pause",
        }
    }
}

/// What operators have turned on, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// No leases are granted.
    pub draining: Option<Timestamp>,
    /// No new batches are taken in.
    pub paused: Option<Timestamp>,
}
