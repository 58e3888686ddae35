//! Proofs in the order of the chain, for whoever settles them, and how far they have been taken.

use super::{Actor, JobStore, Result, rows::bound};
use crate::{clock::Timestamp, database::columns::Col};
use protocol::{JobId, JobProof, ProvedBatch};
use sqlx::{AssertSqlSafe, any::AnyRow};

impl JobStore {
    /// The batches on the chain after block `after`, in order, each with its proofs; at most `limit`. It ends before the first
    /// batch that has no proof.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn proofs(&self, after: u64, limit: u32) -> Result<Vec<ProvedBatch>> {
        // A limit that is a parameter is a guess for PostgreSQL's planner: it would look at all jobs.
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT b.first, b.last, b.final, j.id, j.system, j.program_id, j.kind, j.proof, j.proof_len
             FROM (SELECT id, first, last, final FROM batches WHERE superseded_at IS NULL AND first > $1 ORDER BY first LIMIT {limit}) b
             LEFT JOIN jobs j ON j.batch = b.id AND j.state = 'proved' AND j.parent IS NULL ORDER BY b.first, j.seq",
        )));
        let rows = rows.bind(bound(after)).fetch_all(self.db.readers()).await;
        let mut batches: Vec<ProvedBatch> = Vec::new();
        for row in &self.ok(rows)? {
            let Some(job) = self.get(row, "id")? else { break };
            let block_numbers = self.range(row)?;
            let proof = self.job_proof(row, job)?;
            match batches.last_mut() {
                Some(batch) if batch.block_numbers == block_numbers => batch.proofs.push(proof),
                _ => batches.push(ProvedBatch {
                    block_numbers,
                    is_final: self.get(row, "final")?,
                    proofs: vec![proof],
                }),
            }
        }
        Ok(batches)
    }

    /// The accepted proof of a job, as a row has it.
    pub(super) fn job_proof(&self, row: &AnyRow, job: JobId) -> Result<JobProof> {
        Ok(JobProof {
            job,
            system: self.get(row, "system")?,
            program_id: self.get(row, "program_id")?,
            kind: self.get(row, "kind")?,
            proof: self.artifact(row, "proof", "proof_len")?,
        })
    }

    /// Notes that `consumer` has the proofs of all blocks up to `through`, which must be proved. It cannot give them back.
    ///
    /// # Errors
    /// [`StoreError`](super::StoreError) if the database fails.
    pub async fn delivered(&self, consumer: &Actor, through: u64, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let note = sqlx::query(
            "INSERT INTO deliveries (consumer, through, at) VALUES ($1, $2, $3)
             ON CONFLICT (consumer) DO UPDATE SET through = $2, at = $3 WHERE deliveries.through < $2",
        );
        let note = note.bind(consumer.to_string()).bind(Col(through)).bind(Col(now));
        self.ok(note.execute(&mut *tx).await)?;
        self.ok(tx.commit().await)
    }
}
