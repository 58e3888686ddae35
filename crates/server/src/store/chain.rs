//! The chain of batches: it grows, a reorg cuts it, and what is final stays.
//!
//! * The batches on the chain have no gap, each continues its predecessor's last block, and no block is in two of them.
//! * A reorg supersedes batches: they leave the chain, and come back as they were if it does.

use super::{JobStore, Result, StoreError, rows::job_columns};
use crate::{
    clock::Timestamp,
    database::{Notification, Tx, columns::Col},
    jobs::{
        batch::{NewBatch, Target, Targets, Tip, follows, job_id},
        outcome::LeaseOutcome,
        state::{Event, due},
    },
};
use alloy_primitives::B256;
use protocol::{BlockRange, JobId, LeaseId, ProofKind};
use sqlx::{AnyConnection, any::AnyRow};

/// What a reorg did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superseded {
    /// The batches that left the chain.
    pub batches: u64,
    /// The leases that ended with them.
    pub leases: Vec<LeaseId>,
    /// The end of what is left.
    pub tip: Option<Tip>,
}

impl JobStore {
    /// The end of the chain of batches, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn tip(&self) -> Result<Option<Tip>> {
        let mut connection = self.ok(self.db.readers().acquire().await)?;
        self.tip_in(&mut connection).await
    }

    /// The end of the last batch that does not reach beyond `block`, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn end_before(&self, block: u64) -> Result<Option<Tip>> {
        let row = sqlx::query(
            "SELECT last, last_hash FROM batches WHERE superseded_at IS NULL AND first <= $1 AND last <= $1
             ORDER BY first DESC LIMIT 1",
        );
        let row = row.bind(Col(block)).fetch_optional(self.db.readers()).await;
        self.ok(row)?.map(|row| self.end(&row)).transpose()
    }

    /// The link of the chain of deposits after the batch that ends with `block`. None if no batch on the chain does, or the chain has no
    /// bridge.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn deposits_after(&self, block: u64) -> Result<Option<B256>> {
        let row = sqlx::query(
            "SELECT deposits_end FROM batches WHERE superseded_at IS NULL AND last = $1",
        );
        let row = row.bind(Col(block)).fetch_optional(self.db.readers()).await;
        match self.ok(row)? {
            Some(row) => self.get(&row, "deposits_end"),
            None => Ok(None),
        }
    }

    /// The last block of the final batches, if there are any.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn finalized(&self) -> Result<Option<u64>> {
        let mut connection = self.ok(self.db.readers().acquire().await)?;
        Ok(self.last_final(&mut connection).await?.map(|batch| batch.last()))
    }

    /// Takes in a batch and a job on it for each of `targets`, all or nothing; returns the jobs in the order of the targets.
    ///
    /// A batch on the chain may be enqueued again: it keeps its input, which clients may be reading, and gets the jobs that it
    /// lacks. One that a reorg took away comes back with what has come of all its jobs, even proofs, and with those it lacks.
    ///
    /// # Errors
    /// [`StoreError::Unlinked`] if the batch does not continue the last one.
    pub async fn enqueue(
        &self,
        batch: &NewBatch,
        targets: &Targets,
        now: Timestamp,
    ) -> Result<Vec<JobId>> {
        let mut jobs = self.enqueue_all(std::slice::from_ref(batch), targets, now).await?;
        Ok(jobs.swap_remove(0))
    }

    /// The same for several batches, all or none of them.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_all(
        &self,
        batches: &[NewBatch],
        targets: &Targets,
        now: Timestamp,
    ) -> Result<Vec<Vec<JobId>>> {
        let mut tx = self.db.begin().await?;
        self.db.lock_chain(&mut tx).await?;
        let mut jobs = Vec::with_capacity(batches.len());
        for batch in batches {
            jobs.push(self.enqueue_in(&mut tx, batch, targets, now).await?);
        }
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)?;
        Ok(jobs)
    }

    /// Takes every batch with a block from `from` on off the chain, because a reorg did so with the blocks: their jobs are
    /// superseded, whatever has come of them, and their leases end. Their statements, proofs and histories are kept, and
    /// [`enqueue`](Self::enqueue) brings them back. `tip` is the end of the chain on which the caller based its decision.
    ///
    /// # Errors
    /// [`StoreError::TipMoved`] if the chain ends elsewhere by now, [`StoreError::Final`] if one of the batches is final:
    /// then nothing has changed.
    pub async fn supersede(
        &self,
        from: u64,
        tip: Option<Tip>,
        now: Timestamp,
    ) -> Result<Superseded> {
        let mut tx = self.db.begin().await?;
        self.db.lock_chain(&mut tx).await?;
        let found = self.tip_in(&mut tx).await?;
        if found != tip {
            return Err(StoreError::TipMoved { expected: tip, found });
        }
        if let Some(batch) = self.last_final(&mut tx).await?
            && batch.last() >= from
        {
            return Err(StoreError::Final { from, batch });
        }
        let jobs = self.db.locking(concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs WHERE superseded = 0 AND batch IN
             (SELECT id FROM batches WHERE superseded_at IS NULL AND final = 0 AND last >= $1) ORDER BY seq"
        ));
        let jobs = sqlx::query(jobs).bind(Col(from)).fetch_all(&mut *tx).await;
        let mut leases = Vec::new();
        for row in self.ok(jobs)? {
            let row = self.job_row(&row)?;
            let held = row.job.state.lease().map(|lease| lease.id);
            self.apply(&mut tx, row, &Event::Supersede, now).await?;
            if let Some(held) = held {
                self.end_lease(&mut tx, held, LeaseOutcome::Superseded, now).await?;
                leases.push(held);
            }
        }
        let batches = sqlx::query(
            "UPDATE batches SET superseded_at = $1 WHERE superseded_at IS NULL AND final = 0 AND last >= $2",
        );
        let batches = batches.bind(Col(now)).bind(Col(from)).execute(&mut *tx).await;
        let batches = self.ok(batches)?.rows_affected();
        let tip = self.tip_in(&mut tx).await?;
        self.db.tell(&mut tx, Notification::Taken).await?;
        self.ok(tx.commit().await)?;
        Ok(Superseded { batches, leases, tip })
    }

    /// Notes that no reorg will take the blocks up to `end` away: the batch that ends there, and those before it, stay on the
    /// chain for good. Returns how many became final: none if no batch on the chain ends there, with this hash.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn finalize(&self, end: Tip) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        self.db.lock_chain(&mut tx).await?;
        let update = sqlx::query(
            "UPDATE batches SET final = 1 WHERE superseded_at IS NULL AND final = 0 AND last <= $1 AND EXISTS
             (SELECT 1 FROM batches b WHERE b.superseded_at IS NULL AND b.last = $1 AND b.last_hash = $2)",
        );
        let update = update.bind(Col(end.last)).bind(Col(end.last_hash));
        let update = self.ok(update.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)?;
        Ok(update.rows_affected())
    }

    async fn enqueue_in(
        &self,
        tx: &mut Tx,
        batch: &NewBatch,
        targets: &Targets,
        now: Timestamp,
    ) -> Result<Vec<JobId>> {
        let on_chain = sqlx::query(
            "SELECT id FROM batches WHERE first = $1 AND last = $2 AND statement_digest = $3 AND superseded_at IS NULL",
        )
        .bind(Col(batch.blocks.first()))
        .bind(Col(batch.blocks.last()))
        .bind(Col(batch.statement_digest))
        .fetch_optional(&mut **tx);
        let row: i64 = match self.ok(on_chain.await)? {
            Some(row) => self.get(&row, "id")?,
            None => self.append(tx, batch, now).await?,
        };
        let mut jobs = Vec::new();
        for target in targets {
            jobs.push(self.add_job(tx, row, batch, target, now).await?);
        }
        Ok(jobs)
    }

    /// Puts a batch at the end of the chain: a new one, or one that a reorg took away, with its jobs.
    async fn append(&self, tx: &mut Tx, batch: &NewBatch, now: Timestamp) -> Result<i64> {
        if let Some(tip) = self.tip_in(tx).await? {
            follows(&tip, batch)?;
        }
        // The input of a batch that comes back may be another by now.
        let row = sqlx::query(
            "INSERT INTO batches (first, last, parent_hash, last_hash, statement, statement_digest, input,
             input_len, gas_used, transactions, created_at, estimated_cycles, deposits_start, deposits_end)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT (first, last, statement_digest) DO UPDATE SET superseded_at = NULL, input = $7, input_len = $8
             RETURNING id",
        )
        .bind(Col(batch.blocks.first()))
        .bind(Col(batch.blocks.last()))
        .bind(Col(batch.parent_hash))
        .bind(Col(batch.last_hash))
        .bind(Col(batch.statement.clone()))
        .bind(Col(batch.statement_digest))
        .bind(Col(batch.input.sha256))
        .bind(Col(batch.input.len))
        .bind(Col(batch.gas_used))
        .bind(Col(batch.transactions))
        .bind(Col(now))
        .bind(Col(batch.estimated_cycles))
        .bind(Col(batch.deposits.map(|it| it.start)))
        .bind(Col(batch.deposits.map(|it| it.end)))
        .fetch_one(&mut **tx);
        let row: i64 = self.get(&self.ok(row.await)?, "id")?;
        let back = self.db.locking(concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs WHERE batch = $1 AND superseded = 1 ORDER BY seq"
        ));
        let back = sqlx::query(back).bind(row).fetch_all(&mut **tx).await;
        for job in self.ok(back)? {
            let job = self.job_row(&job)?;
            self.apply(tx, job, &Event::Revive, now).await?;
        }
        Ok(row)
    }

    /// Adds the job for `target` to a batch, unless it is there.
    pub(super) async fn add_job(
        &self,
        tx: &mut Tx,
        row: i64,
        batch: &NewBatch,
        target: &Target,
        now: Timestamp,
    ) -> Result<JobId> {
        let id = job_id(batch, target);
        let job = sqlx::query(
            "INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at, due, split)
             VALUES ($1, $2, $3, $4, $5, 'ready', $6, 0, 0, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        )
        .bind(Col(id))
        .bind(row)
        .bind(Col(target.system))
        .bind(Col(target.program_id))
        .bind(Col(target.kind))
        .bind(Col(now))
        .bind(Col(due(now, 0)))
        .bind(Col(self.divides && target.kind == ProofKind::Succinct))
        .execute(&mut **tx);
        self.ok(job.await)?;
        Ok(id)
    }

    /// The last of the final batches, if there are any.
    pub(super) async fn last_final(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<Option<BlockRange>> {
        // What is final is the beginning of the chain: the first that is not tells where it ends.
        let row = sqlx::query(
            "SELECT first, last FROM batches WHERE superseded_at IS NULL AND first < coalesce(
             (SELECT first FROM batches WHERE superseded_at IS NULL AND final = 0 ORDER BY last LIMIT 1), $1)
             ORDER BY first DESC LIMIT 1",
        );
        let row = row.bind(i64::MAX).fetch_optional(connection).await;
        self.ok(row)?.map(|row| self.range(&row)).transpose()
    }

    pub(super) async fn tip_in(&self, connection: &mut AnyConnection) -> Result<Option<Tip>> {
        let row = sqlx::query(
            "SELECT last, last_hash FROM batches WHERE superseded_at IS NULL ORDER BY first DESC LIMIT 1",
        );
        self.ok(row.fetch_optional(connection).await)?.map(|row| self.end(&row)).transpose()
    }

    pub(super) fn end(&self, row: &AnyRow) -> Result<Tip> {
        let last_hash = self.get(row, "last_hash")?;
        Ok(Tip { last: self.get(row, "last")?, last_hash })
    }
}
