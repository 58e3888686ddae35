//! Jobs that are proven in parts: the plan of the run, and the parts, each of which is a job.
//!
//! * A job that is to be divided is lent to nobody before that is done, and its parts are lent instead.
//! * The job itself stays ready meanwhile: a proof of it is taken from anyone, as always.
//! * Parts belong to the job's batch: a reorg takes them away with it, and brings them back.

use super::{
    JobStore, Result, StoreError,
    rows::{JobRow, job_columns},
};
use crate::{
    clock::Timestamp,
    database::{Notification, Tx, columns::Col},
    jobs::{
        batch::{Target, WantedPart},
        crew::Share,
        outcome::LeaseOutcome,
        parts::{PartState, Run, Stage, made_of, part_id, part_target},
        state::{Event, State},
    },
};
use protocol::{
    ArtifactId, ArtifactRef, ClientId, DeadCause, JobId, LeaseId, Part, PartOf, PartWork, Submit,
};
use sqlx::any::AnyRow;

/// How a job is lent, as the column `split` says it.
#[derive(Clone, Copy)]
enum Lending {
    Whole = 0,
    Undivided = 1,
    InParts = 2,
}

/// A job that is to be divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undivided {
    /// The job.
    pub job: JobId,
    /// The proof that it asks for.
    pub target: Target,
    /// The program's input.
    pub input: ArtifactRef,
    /// The statement that the program commits to, as this server computed it.
    pub statement: Vec<u8>,
}

/// A job that is proven in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The job.
    pub job: JobId,
    /// The plan of its run.
    pub plan: ArtifactRef,
    /// A segment has at most 2 to this power cycles.
    pub segment_po2: u32,
    /// What the run consists of.
    pub run: Run,
    /// Whether it was proved or given up.
    pub over: bool,
}

/// What is known of a part beside its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRow {
    /// The job that asks for it.
    pub id: JobId,
    /// What it is, and how it stands.
    pub state: PartState,
    /// Its proof, if it is proved.
    pub proof: Option<ArtifactRef>,
    /// What it asks for.
    pub target: Target,
    /// The client that has it, and since when, if one has.
    pub held: Option<(ClientId, Timestamp)>,
}

impl JobStore {
    /// The job that is to be divided next, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn undivided(&self) -> Result<Option<Undivided>> {
        let row = sqlx::query(
            "SELECT j.id, j.system, j.program_id, j.kind, b.input, b.input_len, b.statement FROM jobs j JOIN batches b ON b.id = j.batch
             WHERE j.split = 1 AND j.state = 'ready' AND j.superseded = 0 ORDER BY j.due, j.seq LIMIT 1",
        );
        let row = self.ok(row.fetch_optional(self.db.readers()).await)?;
        row.map(|row| {
            Ok(Undivided {
                job: self.get(&row, "id")?,
                target: self.target(&row)?,
                input: self.artifact(&row, "input", "input_len")?,
                statement: self.get(&row, "statement")?,
            })
        })
        .transpose()
    }

    /// Lends a job whole that was to be divided.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn lend_whole(&self, job: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        self.dissolve(&mut tx, &row, Lending::Whole, now).await?;
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)
    }

    /// Has a job divided anew. Its proved parts count again if the plan is the same.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn divide_again(&self, job: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        self.dissolve(&mut tx, &row, Lending::Undivided, now).await?;
        self.ok(tx.commit().await)
    }

    /// Lends every job whole: the server does not divide proofs any more. Returns how many there were.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn lend_all_whole(&self, now: Timestamp) -> Result<u64> {
        let rows = sqlx::query("SELECT id FROM jobs WHERE split <> 0 AND state <> 'proved'");
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        for row in &rows {
            self.lend_whole(self.get(row, "id")?, now).await?;
        }
        Ok(rows.len() as u64)
    }

    /// Divides a job whose run is `run`, as `plan` says. Nothing happens if somebody else was faster, or the job is over.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn divide(
        &self,
        job: JobId,
        plan: ArtifactRef,
        segment_po2: u32,
        run: Run,
        now: Timestamp,
    ) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let insert = sqlx::query(
            "INSERT INTO splits (job, plan, plan_len, segment_po2, segments, keccak, created_at)
             SELECT id, $2, $3, $4, $5, $6, $7 FROM jobs WHERE id = $1 AND split = 1 AND state = 'ready' AND superseded = 0
             ON CONFLICT (job) DO NOTHING",
        )
        .bind(Col(row.id))
        .bind(Col(plan.sha256))
        .bind(Col(plan.len))
        .bind(Col(segment_po2))
        .bind(Col(run.segments))
        .bind(Col(run.keccak))
        .bind(Col(now))
        .execute(&mut *tx);
        if self.ok(insert.await)?.rows_affected() == 1 {
            self.set_split(&mut tx, job, Lending::InParts).await?;
        }
        self.ok(tx.commit().await)
    }

    async fn set_split(&self, tx: &mut Tx, job: JobId, lending: Lending) -> Result<()> {
        let update = sqlx::query("UPDATE jobs SET split = $1 WHERE id = $2");
        let update = update.bind(lending as i64).bind(Col(job));
        self.ok(update.execute(&mut **tx).await).map(drop)
    }

    /// Gives up the open parts of a job, which is lent otherwise from now on.
    async fn dissolve(
        &self,
        tx: &mut Tx,
        row: &JobRow,
        lending: Lending,
        now: Timestamp,
    ) -> Result<()> {
        self.set_split(tx, row.id, lending).await?;
        for part in self.part_rows(tx, row.id).await? {
            self.cancel_part(tx, part, now).await?;
        }
        let delete = sqlx::query("DELETE FROM splits WHERE job = $1").bind(Col(row.id));
        self.ok(delete.execute(&mut **tx).await).map(drop)
    }

    /// The jobs that are proven in parts and have parts to be looked after: open jobs, and those that ended with open parts.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn splits(&self) -> Result<Vec<Split>> {
        let rows = sqlx::query(
            "SELECT s.job, s.plan, s.plan_len, s.segment_po2, s.segments, s.keccak, j.state FROM splits s JOIN jobs j ON j.id = s.job
             WHERE j.superseded = 0 AND s.job IN
             (SELECT id FROM jobs WHERE split = 2 AND state <> 'proved' AND state <> 'dead'
             UNION SELECT parent FROM jobs WHERE kind = 'part' AND superseded = 0 AND state <> 'proved'
                 AND state IN ('ready', 'leased', 'verifying')) ORDER BY j.due, j.seq",
        );
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| self.split(row)).collect()
    }

    fn split(&self, row: &AnyRow) -> Result<Split> {
        let state: protocol::JobState = self.get(row, "state")?;
        Ok(Split {
            job: self.get(row, "job")?,
            plan: self.artifact(row, "plan", "plan_len")?,
            segment_po2: self.get(row, "segment_po2")?,
            run: Run { segments: self.get(row, "segments")?, keccak: self.get(row, "keccak")? },
            over: matches!(state, protocol::JobState::Proved | protocol::JobState::Dead),
        })
    }

    /// How many parts wait for a client.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn ready_parts(&self) -> Result<u64> {
        let row = sqlx::query(
            "SELECT count(*) AS n FROM jobs WHERE state = 'ready' AND superseded = 0 AND state <> 'proved' AND kind = 'part'",
        );
        let row = self.ok(row.fetch_one(self.db.readers()).await)?;
        self.get(&row, "n")
    }

    /// Gives up parts of jobs that are not proven in parts any more.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn drop_orphans(&self, now: Timestamp) -> Result<()> {
        let rows = sqlx::query(
            "SELECT id FROM jobs WHERE state = 'ready' AND superseded = 0 AND state <> 'proved' AND kind = 'part'
             AND NOT EXISTS (SELECT 1 FROM splits WHERE splits.job = jobs.parent AND splits.plan = jobs.part_plan)",
        );
        for row in self.ok(rows.fetch_all(self.db.readers()).await)? {
            self.drop_part(self.get(&row, "id")?, now).await?;
        }
        Ok(())
    }

    /// The parts of a job's proof.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn parts(&self, job: JobId) -> Result<Vec<PartRow>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            job_columns!(),
            ", proof, proof_len, (SELECT count(*) FROM leases l WHERE l.job = jobs.id
             AND l.outcome IN ('expired', 'abandoned', 'failed', 'rejected')) AS tried
             FROM jobs WHERE parent = $1 AND part_plan = (SELECT plan FROM splits WHERE splits.job = $1) ORDER BY seq"
        ));
        let rows = self.ok(rows.bind(Col(job)).fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| self.part_row(row)).collect()
    }

    fn part_row(&self, row: &AnyRow) -> Result<PartRow> {
        let JobRow { id, target, job, part, .. } = self.job_row(row)?;
        let work = part.ok_or_else(|| self.damaged("a part of a proof does not say which"))?.work;
        let stage = Stage::of(&job.state);
        let held = job.state.lease().map(|lease| (lease.client, lease.since));
        let proof = match stage {
            Stage::Proved => Some(self.artifact(row, "proof", "proof_len")?),
            _ => None,
        };
        let state = PartState { work, stage, tried: self.get(row, "tried")? };
        Ok(PartRow { id, state, proof, target, held })
    }

    /// Adds a part to a job, or takes up one that was cancelled. False if it is there, or the job is over.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn add_part(&self, job: JobId, work: PartWork, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let parent = self.find(&mut tx, job).await?;
        if !matches!(parent.job.state, State::Ready) {
            return Ok(false);
        }
        let plan = match self.split_of(&mut tx, job).await {
            Ok(split) => split.plan.sha256,
            Err(StoreError::NoSuchJob(_)) => return Ok(false),
            Err(other) => return Err(other),
        };
        let added = match self.find(&mut tx, part_id(job, plan, &work)).await {
            Err(StoreError::NoSuchJob(_)) => {
                self.insert_part(&mut tx, &parent, plan, work, now).await?
            }
            Err(other) => return Err(other),
            Ok(row) if row.job.state == State::Dead(DeadCause::Cancelled) => {
                self.try_apply(&mut tx, row, &Event::Requeue, now).await?.is_ok()
            }
            Ok(_) => false,
        };
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)?;
        Ok(added)
    }

    async fn insert_part(
        &self,
        tx: &mut Tx,
        parent: &JobRow,
        plan: ArtifactId,
        work: PartWork,
        now: Timestamp,
    ) -> Result<bool> {
        let (target, (first, end)) = (part_target(&parent.target), work.range());
        let insert = sqlx::query(
            "INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at, due,
             priority, parent, work, part_first, part_end, part_plan)
             SELECT $1, batch, $2, $3, $4, 'ready', $5, 0, 0, $5, due, priority, id, $6, $7, $8, $10 FROM jobs WHERE id = $9
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(Col(part_id(parent.id, plan, &work)))
        .bind(Col(target.system))
        .bind(Col(target.program_id))
        .bind(Col(target.kind))
        .bind(Col(now))
        .bind(work.name())
        .bind(Col(first))
        .bind(Col(end))
        .bind(Col(parent.id))
        .bind(Col(plan))
        .execute(&mut **tx);
        Ok(self.ok(insert.await)?.rows_affected() == 1)
    }

    /// Forgets a part whose proof is lost, so that it is proven anew, and gives up what waits for it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn forget_part(&self, parent: JobId, part: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        for row in self.part_rows(&mut tx, parent).await? {
            let waits = row.part.is_some_and(|part| {
                !matches!(part.work, PartWork::Segments { .. } | PartWork::Keccak { .. })
            });
            if waits && row.id != part {
                self.cancel_part(&mut tx, row, now).await?;
            }
        }
        for sql in [
            "DELETE FROM submissions WHERE job = $1",
            "DELETE FROM leases WHERE job = $1",
            "DELETE FROM jobs WHERE id = $1 AND parent IS NOT NULL",
        ] {
            self.ok(sqlx::query(sql).bind(Col(part)).execute(&mut *tx).await)?;
        }
        self.ok(tx.commit().await)
    }

    /// Gives a part that was given up fresh budgets.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn try_part_again(&self, part: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, part).await?;
        let _tried = self.try_apply(&mut tx, row, &Event::Requeue, now).await?;
        self.ok(tx.commit().await)
    }

    /// Gives up a part that is of no use any more. Its client is told to stop.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn drop_part(&self, part: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = match self.find(&mut tx, part).await {
            Ok(row) => row,
            // It was cut meanwhile.
            Err(StoreError::NoSuchJob(_)) => return Ok(()),
            Err(other) => return Err(other),
        };
        self.cancel_part(&mut tx, row, now).await?;
        self.ok(tx.commit().await)
    }

    async fn cancel_part(&self, tx: &mut Tx, row: JobRow, now: Timestamp) -> Result<()> {
        if row.job.state.lease().is_none() && row.job.state != State::Ready {
            return Ok(());
        }
        let held = row.job.state.lease().map(|lease| lease.id);
        if self.try_apply(tx, row, &Event::Cancel, now).await?.is_ok()
            && let Some(held) = held
        {
            self.end_lease(tx, held, LeaseOutcome::Cancelled, now).await?;
        }
        Ok(())
    }

    /// Gives a part to others whose client takes too long, though it is heard. Nobody is to blame.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn lend_again(&self, part: JobId, now: Timestamp) -> Result<Option<LeaseId>> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, part).await?;
        let held = match &row.job.state {
            State::Leased(held) => Some(held.id),
            _ => None,
        };
        if let Some(held) = held {
            self.end_without_blame(&mut tx, row, held, now).await?;
        }
        self.ok(tx.commit().await)?;
        Ok(held)
    }

    async fn part_rows(&self, tx: &mut Tx, job: JobId) -> Result<Vec<JobRow>> {
        let rows = self.db.locking(concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs WHERE parent = $1 ORDER BY seq"
        ));
        let rows = sqlx::query(rows).bind(Col(job)).fetch_all(&mut **tx);
        self.ok(rows.await)?.iter().map(|row| self.job_row(row)).collect()
    }

    /// Cuts a range of segments that nobody has begun to what a client should take; the rest is another part.
    pub(super) async fn cut_to_share(
        &self,
        tx: &mut Tx,
        row: JobRow,
        share: Share,
        now: Timestamp,
    ) -> Result<JobRow> {
        let Some(PartOf { parent, work: PartWork::Segments { first, end } }) = row.part else {
            return Ok(row);
        };
        let known = sqlx::query(
            "SELECT s.segments, (SELECT CAST(sum(p.part_end - p.part_first) AS BIGINT) FROM jobs p WHERE p.parent = s.job
             AND p.work = 'segments' AND p.state = 'ready' AND p.superseded = 0) AS ready,
             (SELECT count(*) FROM leases l WHERE l.job = $2) AS begun,
             (SELECT count(*) FROM submissions u WHERE u.job = $2) AS submitted, s.plan FROM splits s WHERE s.job = $1",
        );
        let known = known.bind(Col(parent)).bind(Col(row.id)).fetch_one(&mut **tx);
        let known = self.ok(known.await)?;
        let (all, ready): (u32, u32) = (self.get(&known, "segments")?, self.get(&known, "ready")?);
        let (begun, submitted): (u64, u64) =
            (self.get(&known, "begun")?, self.get(&known, "submitted")?);
        let plan = self.get(&known, "plan")?;
        let taken = share.of(ready, all).min(end - first);
        if begun > 0 || taken == end - first {
            return Ok(row);
        }
        let part = self.job_by_id(tx, parent).await?;
        let (its, rest) = (
            PartWork::Segments { first, end: first + taken },
            PartWork::Segments { first: first + taken, end },
        );
        if submitted == 0 {
            let delete = sqlx::query("DELETE FROM jobs WHERE id = $1").bind(Col(row.id));
            self.ok(delete.execute(&mut **tx).await)?;
        } else {
            // Anybody can hand something in for a part that nobody has: that stays on record.
            self.apply(tx, row, &Event::Cancel, now).await?;
        }
        for work in [its, rest] {
            self.insert_part(tx, &part, plan, work, now).await?;
        }
        self.job_by_id(tx, part_id(parent, plan, &its)).await
    }

    async fn job_by_id(&self, tx: &mut Tx, job: JobId) -> Result<JobRow> {
        let row = sqlx::query(concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1"));
        let row = row.bind(Col(job)).fetch_optional(&mut **tx);
        let row = self.ok(row.await)?.ok_or(StoreError::NoSuchJob(job))?;
        self.job_row(&row)
    }

    /// What the client of a part has to do.
    pub(super) async fn part_to_do(&self, tx: &mut Tx, part: &PartOf) -> Result<Part> {
        let split = self.split_of(tx, part.parent).await?;
        let rows = sqlx::query(concat!(
            "SELECT ",
            job_columns!(),
            ", proof, proof_len, 0 AS tried FROM jobs WHERE parent = $1 AND part_plan = $2 AND state = 'proved' ORDER BY seq"
        ));
        let proofs = match part.work {
            PartWork::Segments { .. } | PartWork::Keccak { .. } => Vec::new(),
            _ => {
                let rows =
                    rows.bind(Col(part.parent)).bind(Col(split.plan.sha256)).fetch_all(&mut **tx);
                let rows = self.ok(rows.await)?;
                let proved = rows.iter().map(|row| {
                    let part = self.part_row(row)?;
                    Ok(part.proof.map(|proof| (part.state.work, proof)))
                });
                let proved: Vec<_> =
                    proved.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
                let missing = || self.damaged("a part was added whose proofs are not there");
                made_of(&part.work, split.run, &proved).ok_or_else(missing)?
            }
        };
        Ok(Part { work: part.work, segment_po2: split.segment_po2, plan: split.plan, proofs })
    }

    async fn split_of(&self, tx: &mut Tx, job: JobId) -> Result<Split> {
        let row = sqlx::query(
            "SELECT s.job, s.plan, s.plan_len, s.segment_po2, s.segments, s.keccak, j.state FROM splits s
             JOIN jobs j ON j.id = s.job WHERE s.job = $1",
        );
        let row = self.ok(row.bind(Col(job)).fetch_optional(&mut **tx).await)?;
        self.split(&row.ok_or(StoreError::NoSuchJob(job))?)
    }

    /// What a proof of this part is checked against. None if the job is not proven in such parts any more: then nothing of it counts.
    pub(super) async fn wanted_part(
        &self,
        tx: &mut Tx,
        part: JobId,
        of: PartOf,
    ) -> Result<Option<WantedPart>> {
        match self.split_of(tx, of.parent).await {
            Ok(split) if part_id(of.parent, split.plan.sha256, &of.work) != part => Ok(None),
            Ok(split) => {
                Ok(Some(WantedPart { of, plan: split.plan, segment_po2: split.segment_po2 }))
            }
            Err(StoreError::NoSuchJob(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The accepted proof of the last part of a job's proof, as it was handed in: it is the proof that the job itself waits for.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn finished(&self, job: JobId) -> Result<Option<(JobId, Submit)>> {
        let row = sqlx::query(
            "SELECT p.id, s.client, s.lease, s.system, s.program_id, s.proof, s.proof_len, j.kind FROM jobs p
             JOIN submissions s ON s.job = p.id AND s.proof = p.proof AND s.verdict = 'accepted'
             JOIN jobs j ON j.id = p.parent JOIN splits d ON d.job = j.id AND d.plan = p.part_plan
             WHERE p.parent = $1 AND p.work = 'finish' AND p.state = 'proved' LIMIT 1",
        );
        let row = self.ok(row.bind(Col(job)).fetch_optional(self.db.readers()).await)?;
        row.map(|row| Ok((self.get(&row, "id")?, self.submit_of(&row)?))).transpose()
    }

    /// The plan of a job's run and the proved parts, each with the artifact that is its proof.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn made_so_far(
        &self,
        part: JobId,
    ) -> Result<Option<(JobId, ArtifactRef, Vec<(JobId, ArtifactRef)>)>> {
        let mut tx = self.db.begin_reading().await?;
        let Some(of) = self.job_by_id(&mut tx, part).await?.part else { return Ok(None) };
        let split = match self.split_of(&mut tx, of.parent).await {
            Ok(split) => split,
            Err(StoreError::NoSuchJob(_)) => return Ok(None),
            Err(other) => return Err(other),
        };
        drop(tx);
        let parts = self.parts(of.parent).await?;
        let proofs = parts.into_iter().filter_map(|part| Some((part.id, part.proof?))).collect();
        Ok(Some((of.parent, split.plan, proofs)))
    }
}
