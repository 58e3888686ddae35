//! Which artifacts are needed: without them something cannot go on.

use super::{JobStore, Result};
use crate::database::{Tx, columns::Col};
use protocol::{ArtifactId, ArtifactRef, JobId};
use sqlx::AssertSqlSafe;

/// The artifacts without which something cannot go on.
const NEEDED: &str = "SELECT b.input AS hash, b.input_len AS len, j.id AS job, 'the input of' AS what FROM batches b
     JOIN jobs j ON j.batch = b.id WHERE j.state <> 'proved' AND j.superseded = 0
     UNION ALL SELECT proof, proof_len, id, 'the proof of' FROM jobs WHERE state = 'proved'
     UNION ALL SELECT proof, proof_len, job, 'a proof to be verified for' FROM submissions WHERE verdict IS NULL";

impl JobStore {
    /// The artifacts without which something cannot go on, and why.
    pub(crate) async fn needed_artifacts(&self, tx: &mut Tx) -> Result<Vec<(ArtifactRef, String)>> {
        let rows = sqlx::query(NEEDED).fetch_all(&mut **tx).await;
        let mut needed = Vec::new();
        for row in self.database().ok(rows)? {
            let what: String = self.get(&row, "what")?;
            let job: JobId = self.get(&row, "job")?;
            needed.push((self.artifact(&row, "hash", "len")?, format!("{what} job {job}")));
        }
        Ok(needed)
    }

    /// Whether an artifact is one of them.
    pub(crate) async fn needs(&self, tx: &mut Tx, id: ArtifactId) -> Result<bool> {
        let sql = format!("SELECT COUNT(*) AS found FROM ({NEEDED}) AS needed WHERE hash = $1");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(Col(id));
        let row = self.database().ok(row.fetch_one(&mut **tx).await)?;
        Ok(self.get::<u64>(&row, "found")? > 0)
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
