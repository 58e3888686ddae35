//! Batches that nothing proves any more: the server wants other proofs now than those that their jobs ask for.

use super::{
    JobStore, Result,
    queries::{Tally, asks_for},
    rows::batch_columns,
};
use crate::{
    clock::Timestamp,
    database::{Notification, Tx, columns::Col},
    jobs::batch::{Demand, Target, Targets},
};
use protocol::{ArtifactRef, BlockRange, JobId, JobState};
use sqlx::{AssertSqlSafe, any::AnyRow};

/// A batch on the chain that has no proof and waits for none that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranded {
    row: i64,
    /// Its blocks.
    pub blocks: BlockRange,
    /// Its input, as it was stored then.
    pub input: ArtifactRef,
    /// The statement's ABI bytes.
    pub statement: Vec<u8>,
}

impl JobStore {
    /// All batches on the chain that have no proof and wait for none of `targets`, oldest first. Batches whose jobs for all
    /// of them are there, cancelled or given up, are left out.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn stranded(&self, targets: &Targets) -> Result<Vec<Stranded>> {
        // Most batches wait for a proof that is wanted, and are not looked at.
        let mut tallies = self.tallies().await?;
        tallies.retain(|it| match it.state {
            JobState::Proved | JobState::Superseded => false,
            _ => !it.open() || targets.demand(&it.target) == Demand::SetAside,
        });
        if tallies.is_empty() {
            return Ok(Vec::new());
        }
        let left = tallies.iter().enumerate().map(|(at, tally)| {
            format!("(state = '{}' AND {})", tally.state.name(), asks_for(3 * at + 1))
        });
        let rows = format!(
            "SELECT b.id, b.first, b.last, b.input, b.input_len, b.statement, j.system, j.program_id, j.kind, j.state
             FROM batches b JOIN jobs j ON j.batch = b.id WHERE j.parent IS NULL AND b.superseded_at IS NULL AND b.id IN (SELECT batch FROM jobs
             WHERE state <> 'proved' AND superseded = 0 AND ({})) ORDER BY b.first, j.seq",
            left.collect::<Vec<_>>().join(" OR ")
        );
        let mut rows = sqlx::query(AssertSqlSafe(rows));
        for Tally { target, .. } in &tallies {
            rows =
                rows.bind(Col(target.system)).bind(Col(target.program_id)).bind(Col(target.kind));
        }
        let rows = self.ok(rows.fetch_all(self.db.readers()).await)?;
        let mut batches: Vec<(Stranded, Vec<(Target, JobState)>)> = Vec::new();
        for row in &rows {
            let job = self.target_and_state(row)?;
            let id: i64 = self.get(row, "id")?;
            match batches.last_mut() {
                Some((batch, jobs)) if batch.row == id => jobs.push(job),
                _ => batches.push((
                    Stranded {
                        row: id,
                        blocks: self.range(row)?,
                        input: self.artifact(row, "input", "input_len")?,
                        statement: self.get(row, "statement")?,
                    },
                    vec![job],
                )),
            }
        }
        batches.retain(|(_, jobs)| !targets.lacking(jobs).is_empty());
        Ok(batches.into_iter().map(|(batch, _)| batch).collect())
    }

    /// Adds the jobs that a stranded batch lacks, unless a reorg or another server was faster; returns them.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn rescue(
        &self,
        stranded: &Stranded,
        targets: &Targets,
        now: Timestamp,
    ) -> Result<Vec<JobId>> {
        let mut tx = self.db.begin().await?;
        self.db.lock_chain(&mut tx).await?;
        let batch = sqlx::query(concat!(
            "SELECT ",
            batch_columns!(),
            " FROM batches WHERE id = $1 AND superseded_at IS NULL"
        ));
        let batch = batch.bind(stranded.row).fetch_optional(&mut *tx).await;
        let Some(batch) = self.ok(batch)? else { return Ok(Vec::new()) };
        let batch = self.batch(&batch)?;
        let there = self.jobs_of(&mut tx, stranded.row).await?;
        let mut jobs = Vec::new();
        for target in targets.lacking(&there) {
            jobs.push(self.add_job(&mut tx, stranded.row, &batch, &target, now).await?);
        }
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)?;
        Ok(jobs)
    }

    async fn jobs_of(&self, tx: &mut Tx, batch: i64) -> Result<Vec<(Target, JobState)>> {
        let rows = sqlx::query(
            "SELECT system, program_id, kind, state FROM jobs WHERE batch = $1 AND parent IS NULL",
        );
        let rows = rows.bind(batch).fetch_all(&mut **tx).await;
        self.ok(rows)?.iter().map(|row| self.target_and_state(row)).collect()
    }

    fn target_and_state(&self, row: &AnyRow) -> Result<(Target, JobState)> {
        Ok((self.target(row)?, self.get(row, "state")?))
    }
}
