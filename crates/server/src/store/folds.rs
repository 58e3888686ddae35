//! Jobs whose input is accepted proofs: they fold proofs of consecutive batches into one, or turn one into another kind.
//!
//! * Such a job hangs on the last of its batches: a reorg that takes any of them away takes that one too, and the job with it.
//! * Its row in `folds` says what a batch's row says of other jobs: blocks, statement and input.

use super::{JobStore, Result};
use crate::{
    clock::Timestamp,
    database::{Notification, columns::Col},
    jobs::{
        batch::{DepositLinks, Target},
        fold::{Foldable, Folding},
    },
};
use protocol::{ArtifactRef, BlockRange, JobId, ProofKind, ProvedBatch};
use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

/// A job that folds proofs, to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFold {
    /// Its id.
    pub job: JobId,
    /// What it asks for.
    pub target: Target,
    /// The job of the last proof.
    pub last_job: JobId,
    /// All blocks.
    pub blocks: BlockRange,
    /// What the proof has to state: ABI bytes.
    pub statement: Vec<u8>,
    /// The bundle of proofs.
    pub input: ArtifactRef,
    /// Gas used by the blocks.
    pub gas_used: u64,
    /// Transactions in the blocks.
    pub transactions: u64,
    /// Where the deposits are, if the chain has a bridge.
    pub deposits: Option<DepositLinks>,
}

impl JobStore {
    /// Keeps batches whose proofs are to be folded until that is done.
    #[must_use]
    pub fn folding(self, folding: Vec<Folding>) -> Self {
        Self { folding, ..self }
    }

    /// The first block, from `from` on, of what a step takes and no job of it has taken, or, if `proved`, no accepted proof of it covers. Batches that
    /// were proven for another program, or in another kind, are not among what it takes.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn first_unfolded(
        &self,
        step: &Folding,
        from: u64,
        proved: bool,
    ) -> Result<Option<u64>> {
        let (sources, untaken) = (sources(step), untaken(proved));
        let sql = format!(
            "SELECT s.first FROM {sources} AND s.first >= $1 AND {untaken} ORDER BY s.first LIMIT 1"
        );
        let row = about(&sql, step, from).fetch_optional(self.db.readers()).await;
        self.ok(row)?.map(|row| self.get(&row, "first")).transpose()
    }

    /// How many jobs for `into` are not over.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn open_folds(&self, into: &Target) -> Result<u64> {
        let row = sqlx::query(
            "SELECT count(*) AS n FROM jobs WHERE state IN ('ready', 'leased', 'verifying') AND state <> 'proved'
             AND superseded = 0 AND system = $1 AND program_id = $2 AND kind = $3",
        );
        let row = row.bind(Col(into.system)).bind(Col(into.program_id)).bind(Col(into.kind));
        let row = self.ok(row.fetch_one(self.db.readers()).await)?;
        self.get(&row, "n")
    }

    /// The first accepted proofs, from block `from` on, that a step takes and no job of it has taken: those of a group up to the first batch
    /// without one, or, if it takes them one by one, the first that is there.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn foldable(&self, step: &Folding, from: u64) -> Result<Vec<Foldable>> {
        // A limit that is a parameter is a guess for PostgreSQL's planner: it would look at all jobs.
        let (sources, untaken, limit) = (sources(step), untaken(false), step.most);
        let proof = match step.of.kind {
            ProofKind::Aggregate => "j.id = s.job",
            _ => "j.batch = s.id AND j.parent IS NULL",
        };
        let proof = format!(
            "{proof} AND j.state = 'proved' AND j.superseded = 0 AND j.system = $2 AND j.program_id = $3 AND j.kind = $4"
        );
        let there = match step.most {
            1 => format!("AND (SELECT count(*) FROM jobs j WHERE {proof}) > 0"),
            _ => String::new(),
        };
        let sql = format!(
            "SELECT s.first, s.last, s.statement, s.gas_used, s.transactions, s.deposits_start, s.deposits_end, j.id, j.proof, j.proof_len, j.finished_at
             FROM (SELECT s.* FROM {sources} AND s.first >= $1 AND {untaken} {there} ORDER BY s.first LIMIT {limit}) s
             LEFT JOIN jobs j ON {proof} ORDER BY s.first"
        );
        let rows = about(&sql, step, from).fetch_all(self.db.readers());
        let mut proofs = Vec::new();
        for row in &self.ok(rows.await)? {
            let Some(job) = self.get(row, "id")? else { break };
            proofs.push(Foldable {
                job,
                blocks: self.range(row)?,
                statement: self.get(row, "statement")?,
                proof: self.artifact(row, "proof", "proof_len")?,
                proved_at: self.get(row, "finished_at")?,
                gas_used: self.get(row, "gas_used")?,
                transactions: self.get(row, "transactions")?,
                deposits: self.deposit_links(row)?,
            });
        }
        Ok(proofs)
    }

    /// Adds a job that is made of accepted proofs. False if it is there, or its last proof does not count any more, or another one of some of its
    /// blocks is there. One whose blocks a reorg took away never comes back in its place.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn add_fold(&self, fold: &NewFold, now: Timestamp) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let others = "job <> $1 AND first <= $3 AND last >= $2 AND (SELECT count(*) FROM jobs j WHERE j.id = folds.job
             AND j.system = $4 AND j.program_id = $5 AND j.kind = $6 AND j.superseded = ";
        let count =
            format!("SELECT count(*) AS n FROM folds WHERE replaced = 0 AND {others} 0) > 0");
        let replace = format!("UPDATE folds SET replaced = 1 WHERE {others} 1) > 0");
        let about = |sql: String| {
            sqlx::query(AssertSqlSafe(sql))
                .bind(Col(fold.job))
                .bind(Col(fold.blocks.first()))
                .bind(Col(fold.blocks.last()))
                .bind(Col(fold.target.system))
                .bind(Col(fold.target.program_id))
                .bind(Col(fold.target.kind))
        };
        let row = self.ok(about(count).fetch_one(&mut *tx).await)?;
        if self.get::<u64>(&row, "n")? > 0 {
            return Ok(false);
        }
        if self.ok(about(replace).execute(&mut *tx).await)?.rows_affected() > 0 {
            // With it goes what was made of it.
            let made = sqlx::query(
                "UPDATE folds SET replaced = 1 WHERE job IN (SELECT id FROM jobs WHERE parent IN (SELECT job FROM folds WHERE replaced = 1))",
            );
            self.ok(made.execute(&mut *tx).await)?;
        }
        let insert = sqlx::query(
            "INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at, due,
             priority, parent)
             SELECT $1, batch, $2, $3, $4, 'ready', $5, 0, 0, $5, due, priority, id FROM jobs
             WHERE id = $6 AND state = 'proved' AND superseded = 0 ON CONFLICT (id) DO NOTHING",
        )
        .bind(Col(fold.job))
        .bind(Col(fold.target.system))
        .bind(Col(fold.target.program_id))
        .bind(Col(fold.target.kind))
        .bind(Col(now))
        .bind(Col(fold.last_job))
        .execute(&mut *tx);
        if self.ok(insert.await)?.rows_affected() == 0 {
            // It was there before a reorg took its blocks away, and they came back.
            let back = sqlx::query("UPDATE folds SET replaced = 0 WHERE job = $1 AND replaced = 1");
            let back = self.ok(back.bind(Col(fold.job)).execute(&mut *tx).await)?;
            self.ok(tx.commit().await)?;
            return Ok(back.rows_affected() == 1);
        }
        let insert = sqlx::query(
            "INSERT INTO folds (job, first, last, statement, input, input_len, gas_used, transactions, deposits_start, deposits_end)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(Col(fold.job))
        .bind(Col(fold.blocks.first()))
        .bind(Col(fold.blocks.last()))
        .bind(fold.statement.clone())
        .bind(Col(fold.input.sha256))
        .bind(Col(fold.input.len))
        .bind(Col(fold.gas_used))
        .bind(Col(fold.transactions))
        .bind(Col(fold.deposits.map(|it| it.start)))
        .bind(Col(fold.deposits.map(|it| it.end)))
        .execute(&mut *tx);
        self.ok(insert.await)?;
        self.db.tell(&mut tx, Notification::Ready).await?;
        self.ok(tx.commit().await)?;
        Ok(true)
    }

    /// Forgets a job that folds proofs and is not over, so that it is added anew.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn forget_fold(&self, job: JobId) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let open = sqlx::query(
            "SELECT id FROM jobs WHERE id = $1 AND id IN (SELECT job FROM folds) AND state <> 'proved'",
        );
        let open = open.bind(Col(job)).fetch_optional(&mut *tx);
        if self.ok(open.await)?.is_none() {
            return Ok(());
        }
        for sql in [
            "DELETE FROM submissions WHERE job = $1",
            "DELETE FROM folds WHERE job = $1",
            "UPDATE jobs SET state = 'dead', cause = 'cancelled', lease = NULL, lease_client = NULL, lease_since = NULL,
             lease_expires_at = NULL WHERE id = $1",
            "DELETE FROM leases WHERE job = $1",
            "DELETE FROM jobs WHERE id = $1",
        ] {
            self.ok(sqlx::query(sql).bind(Col(job)).execute(&mut *tx).await)?;
        }
        self.ok(tx.commit().await)
    }

    /// The proofs of a kind that are made of others, of blocks after `after`, in the order of the chain, as one batch each; at most
    /// `limit`.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn folded_proofs(
        &self,
        kind: ProofKind,
        after: u64,
        limit: u32,
    ) -> Result<Vec<ProvedBatch>> {
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT f.first, f.last, b.final, j.id, j.system, j.program_id, j.kind, j.proof, j.proof_len
             FROM folds f JOIN jobs j ON j.id = f.job JOIN batches b ON b.id = j.batch
             WHERE f.first > $1 AND f.replaced = 0 AND j.kind = $2 AND j.state = 'proved' AND j.superseded = 0 ORDER BY f.first, j.seq LIMIT {limit}"
        )));
        let rows =
            rows.bind(super::rows::bound(after)).bind(Col(kind)).fetch_all(self.db.readers()).await;
        let batch = |row: &sqlx::any::AnyRow| {
            Ok(ProvedBatch {
                block_numbers: self.range(row)?,
                is_final: self.get(row, "final")?,
                proofs: vec![self.job_proof(row, self.get(row, "id")?)?],
            })
        };
        self.ok(rows)?.iter().map(batch).collect()
    }
}

/// What a step takes, as rows `s`: batches of which such a proof was wanted, or proofs that another step makes. The parameters from the
/// second to the fourth are what it takes.
fn sources(step: &Folding) -> &'static str {
    match step.of.kind {
        ProofKind::Aggregate => {
            "folds s WHERE s.replaced = 0 AND (SELECT count(*) FROM jobs w WHERE w.id = s.job AND w.superseded = 0
             AND w.system = $2 AND w.program_id = $3 AND w.kind = $4) > 0"
        }
        _ => {
            "batches s WHERE s.superseded_at IS NULL AND (SELECT count(*) FROM jobs w WHERE w.batch = s.id AND w.parent IS NULL
             AND w.system = $2 AND w.program_id = $3 AND w.kind = $4) > 0"
        }
    }
}

/// Whether no job of a step, or no accepted proof of it, has the rows `s`. The parameters from the fifth on are what it makes. Those that count do
/// not overlap, so that the next one to end is the one that could.
fn untaken(proved: bool) -> String {
    let proved = if proved { "AND o.state = 'proved'" } else { "" };
    format!(
        "coalesce((SELECT g.first FROM folds g JOIN jobs o ON o.id = g.job WHERE g.last >= s.last AND g.replaced = 0 AND o.superseded = 0 {proved}
         AND o.system = $5 AND o.program_id = $6 AND o.kind = $7 ORDER BY g.last LIMIT 1), s.first + 1) > s.first"
    )
}

/// A query about a step, with its parameters.
fn about<'q>(sql: &str, step: &Folding, from: u64) -> Query<'q, Any, AnyArguments> {
    sqlx::query(AssertSqlSafe(sql.to_owned()))
        .bind(super::rows::bound(from))
        .bind(Col(step.of.system))
        .bind(Col(step.of.program_id))
        .bind(Col(step.of.kind))
        .bind(Col(step.into.system))
        .bind(Col(step.into.program_id))
        .bind(Col(step.into.kind))
}
