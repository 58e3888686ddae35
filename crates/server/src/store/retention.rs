//! Retention: jobs that were settled long ago are forgotten.
//!
//! * Only what is over for good goes: batches that the node has called final, with a proof and without an open job; and
//!   batches that a reorg took away from a part of the chain that is final now.
//! * The chain is forgotten from its beginning, without a gap. Its last final batch stays, so that nothing is enqueued anew.
//! * A batch without a proof is never forgotten, and neither is what comes after it.

use super::{Actor, JobStore, Result, rows::made_of_proofs};
use crate::{
    clock::Timestamp,
    database::{Tx, columns::Col},
};
use std::time::Duration;

/// So many batches are forgotten in one transaction, so that nobody waits for long.
const AT_A_TIME: usize = 200;

/// What is forgotten, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Batches are kept for so long after their last job was finished, or after a reorg took them away.
    pub age: Duration,
    /// Batches on the chain are kept until a consumer has said that it has their proofs.
    pub until_delivered: bool,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Batches, with all that came of them.
    pub batches: u64,
    /// Clients that were not heard for so long and have no lease on record.
    pub clients: u64,
}

impl JobStore {
    /// Forgets what `retention` does not keep. In small steps: others go on in between.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails. What was forgotten by then stays so.
    pub async fn forget(&self, retention: &Retention, now: Timestamp) -> Result<Forgotten> {
        let age = crate::clock::millis(retention.age);
        let Some(before) = now.0.checked_sub(age).map(Timestamp) else {
            return Ok(Forgotten::default());
        };
        let mut forgotten = Forgotten::default();
        loop {
            let mut tx = self.db.begin().await?;
            let mut batches = self.settled(&mut tx, before, retention.until_delivered).await?;
            batches.extend(self.gone(&mut tx, before).await?);
            for batch in &batches {
                self.forget_batch(&mut tx, *batch).await?;
            }
            if !batches.is_empty() {
                let subject = format!("{} batches", batches.len());
                self.record_deed(&mut tx, &Actor::server(), "forget", subject, None, now).await?;
            }
            self.ok(tx.commit().await)?;
            forgotten.batches += batches.len() as u64;
            if batches.is_empty() {
                break;
            }
        }
        loop {
            let mut tx = self.db.begin().await?;
            let delete = sqlx::query(
                "DELETE FROM clients WHERE id IN (SELECT id FROM clients c WHERE last_seen < $1 AND quarantined = 0 AND draining = 0
                 AND (SELECT 1 FROM leases l WHERE l.client = c.id LIMIT 1) IS NULL ORDER BY last_seen LIMIT 500)",
            );
            let deleted =
                self.ok(delete.bind(Col(before)).execute(&mut *tx).await)?.rows_affected();
            self.ok(tx.commit().await)?;
            forgotten.clients += deleted;
            if deleted == 0 {
                return Ok(forgotten);
            }
        }
    }

    /// The first batches of the chain, as far as they are over for good.
    async fn settled(&self, tx: &mut Tx, before: Timestamp, delivered: bool) -> Result<Vec<i64>> {
        let through: u64 = if delivered {
            let row = sqlx::query("SELECT min(through) AS through FROM deliveries");
            let row = self.ok(row.fetch_one(&mut **tx).await)?;
            match self.get(&row, "through")? {
                Some(through) => through,
                None => return Ok(Vec::new()),
            }
        } else {
            i64::MAX.cast_unsigned()
        };
        // What is to be folded stays until it is.
        let mut through = through;
        for step in &self.folding {
            if let Some(first) = self.first_unfolded(step, 0, true).await? {
                through = through.min(first.saturating_sub(1));
            }
        }
        let rows = sqlx::query(concat!(
            "SELECT id, last, CASE WHEN EXISTS (SELECT 1 FROM jobs p WHERE p.batch = b.id AND p.state = 'proved' AND p.parent IS NULL)
             AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.batch = b.id AND (o.parent IS NULL OR o.kind IN ",
            made_of_proofs!(),
            ") AND (o.finished_at IS NULL OR o.finished_at >= $1))
             THEN 1 ELSE 0 END AS over
             FROM batches b WHERE superseded_at IS NULL AND final = 1 ORDER BY first LIMIT $2",
        ));
        let limit = i64::try_from(AT_A_TIME + 1).unwrap_or(i64::MAX);
        let rows = self.ok(rows.bind(Col(before)).bind(limit).fetch_all(&mut **tx).await)?;
        let mut settled = Vec::new();
        // The last of those that are looked at stays, in case that it is the last one of all.
        for row in rows.iter().take(rows.len().saturating_sub(1)) {
            if !self.get::<bool>(row, "over")? || self.get::<u64>(row, "last")? > through {
                break;
            }
            settled.push(self.get(row, "id")?);
        }
        Ok(settled)
    }

    /// Batches that are off the chain for good.
    async fn gone(&self, tx: &mut Tx, before: Timestamp) -> Result<Vec<i64>> {
        let Some(end) = self.last_final(tx).await? else { return Ok(Vec::new()) };
        let rows = sqlx::query(
            "SELECT id FROM batches WHERE superseded_at IS NOT NULL AND superseded_at < $1 AND last <= $2
             ORDER BY superseded_at LIMIT $3",
        );
        let limit = i64::try_from(AT_A_TIME).unwrap_or(i64::MAX);
        let rows = rows.bind(Col(before)).bind(Col(end.last())).bind(limit);
        let rows = self.ok(rows.fetch_all(&mut **tx).await)?;
        rows.iter().map(|row| self.get(row, "id")).collect()
    }

    async fn forget_batch(&self, tx: &mut Tx, batch: i64) -> Result<()> {
        for sql in [
            "DELETE FROM submissions WHERE job IN (SELECT id FROM jobs WHERE batch = $1)",
            "DELETE FROM leases WHERE job IN (SELECT id FROM jobs WHERE batch = $1)",
            "DELETE FROM folds WHERE job IN (SELECT id FROM jobs WHERE batch = $1)",
            "DELETE FROM splits WHERE job IN (SELECT id FROM jobs WHERE batch = $1)",
            "DELETE FROM jobs WHERE batch = $1",
            "DELETE FROM batches WHERE id = $1",
        ] {
            self.ok(sqlx::query(sql).bind(batch).execute(&mut **tx).await)?;
        }
        Ok(())
    }

    /// Adds up what the connections of PostgreSQL have counted: those that closed leave their slots behind.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn fold_counts(&self) -> Result<()> {
        if self.db.shared().is_none() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        // A slot that somebody is counting in is left for the next time.
        let fold = sqlx::query(
            "WITH folded AS (DELETE FROM job_counts WHERE ctid IN (SELECT ctid FROM job_counts WHERE slot <> 0 FOR UPDATE SKIP LOCKED)
             RETURNING system, program_id, kind, state, superseded, jobs)
             INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
             SELECT 0, system, program_id, kind, state, superseded, sum(jobs)::BIGINT FROM folded
             GROUP BY system, program_id, kind, state, superseded
             ON CONFLICT (slot, system, program_id, kind, state, superseded) DO UPDATE SET jobs = job_counts.jobs + EXCLUDED.jobs",
        );
        self.ok(fold.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)
    }
}
