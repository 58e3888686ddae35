//! What the latest jobs took, for plots. Reads only, and so many rows at most.

use super::{JobStore, Result, rows::made_of_proofs};
use protocol::JobState;
use serde::{Serialize, ser::SerializeTuple};
use sqlx::{AssertSqlSafe, any::AnyRow};

/// So many jobs are shown in plots.
const PLOTTED: u32 = 500;

/// So many jobs are looked at to find them: parts, and what a reorg took away, are not shown.
const EXAMINED: u32 = 5_000;

/// What one job took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trend {
    /// The job's number, in the order in which they were enqueued.
    pub seq: u64,
    /// Its first block.
    pub first: u64,
    /// Its last block.
    pub last: u64,
    /// Where it is in its life.
    pub state: JobState,
    /// When it was enqueued.
    pub created_at: u64,
    /// When the latest lease was granted.
    pub leased_at: Option<u64>,
    /// When it was proved or given up.
    pub finished_at: Option<u64>,
    /// Gas used by its blocks.
    pub gas_used: u64,
    /// Cycles that its proof was expected to cost. 0: not known.
    pub estimated_cycles: u64,
    /// Cycles that it cost, if the prover said so.
    pub proven_cycles: Option<u64>,
}

/// Without names: there are hundreds of them.
impl Serialize for Trend {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_tuple(10)?;
        row.serialize_element(&self.seq)?;
        row.serialize_element(&self.first)?;
        row.serialize_element(&self.last)?;
        row.serialize_element(&self.state)?;
        row.serialize_element(&self.created_at)?;
        row.serialize_element(&self.leased_at)?;
        row.serialize_element(&self.finished_at)?;
        row.serialize_element(&self.gas_used)?;
        row.serialize_element(&self.estimated_cycles)?;
        row.serialize_element(&self.proven_cycles)?;
        row.end()
    }
}

impl JobStore {
    /// What the latest jobs of batches took, oldest first.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn trends(&self) -> Result<Vec<Trend>> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT j.seq, b.first, b.last, j.state, j.created_at, j.finished_at, b.gas_used, b.estimated_cycles, j.proven_cycles,
             (SELECT max(granted_at) FROM leases l WHERE l.job = j.id) AS leased_at
             FROM (SELECT * FROM (SELECT seq, id, batch, kind, state, superseded, parent, created_at, finished_at, proven_cycles
                 FROM jobs ORDER BY seq DESC LIMIT {EXAMINED}) AS looked_at
                 WHERE superseded = 0 AND parent IS NULL AND kind NOT IN {} ORDER BY seq DESC LIMIT {PLOTTED}) AS j
             JOIN batches b ON b.id = j.batch ORDER BY j.seq",
            made_of_proofs!(),
        )));
        let rows = rows.fetch_all(self.db.readers()).await;
        let trend = |row: &AnyRow| {
            Ok(Trend {
                seq: self.get(row, "seq")?,
                first: self.get(row, "first")?,
                last: self.get(row, "last")?,
                state: self.get(row, "state")?,
                created_at: self.get(row, "created_at")?,
                leased_at: self.get(row, "leased_at")?,
                finished_at: self.get(row, "finished_at")?,
                gas_used: self.get(row, "gas_used")?,
                estimated_cycles: self.get(row, "estimated_cycles")?,
                proven_cycles: self.get(row, "proven_cycles")?,
            })
        };
        self.ok(rows)?.iter().map(trend).collect()
    }

    /// When the transactions were signed that settled batches, as pairs of a settlement's number and of the last block and that time;
    /// the latest ones, oldest first.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn settled_lately(&self) -> Result<Vec<(u64, (u64, u64))>> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT id, last, signed_at FROM (SELECT id, last, state, signed_at FROM settlements ORDER BY id DESC LIMIT {PLOTTED}) AS latest
             WHERE state IN ('seen', 'final') AND signed_at IS NOT NULL ORDER BY id",
        )));
        let rows = rows.fetch_all(self.db.readers()).await;
        let pair = |row: &AnyRow| {
            Ok((self.get(row, "id")?, (self.get(row, "last")?, self.get(row, "signed_at")?)))
        };
        self.ok(rows)?.iter().map(pair).collect()
    }
}
