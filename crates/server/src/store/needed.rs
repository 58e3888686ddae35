//! Which artifacts are needed: without them something cannot go on.

use super::{JobStore, Result, rows::made_of_proofs};
use crate::database::{Tx, columns::Col};
use protocol::{ArtifactId, ArtifactRef, JobId};
use sqlx::AssertSqlSafe;
use std::collections::HashSet;

impl JobStore {
    /// The artifacts without which something cannot go on, and why.
    pub(crate) async fn needed_artifacts(&self, tx: &mut Tx) -> Result<Vec<(ArtifactRef, String)>> {
        let rows = sqlx::query(concat!(
            "SELECT b.input AS hash, b.input_len AS len, j.id AS job, 'the input of' AS what FROM batches b
             JOIN jobs j ON j.batch = b.id WHERE j.state <> 'proved' AND j.superseded = 0 AND j.kind NOT IN ",
            made_of_proofs!(),
            "
             UNION ALL SELECT f.input, f.input_len, j.id, 'the input of' FROM folds f JOIN jobs j ON j.id = f.job
             WHERE j.state <> 'proved' AND j.superseded = 0
             UNION ALL SELECT proof, proof_len, id, 'the proof of' FROM jobs WHERE state = 'proved' AND (parent IS NULL OR kind IN ",
            made_of_proofs!(),
            ")
             UNION ALL SELECT p.proof, p.proof_len, p.id, 'the proof of' FROM jobs p JOIN jobs j ON j.id = p.parent
             WHERE p.kind = 'part' AND p.state = 'proved' AND j.state <> 'proved'
             UNION ALL SELECT s.plan, s.plan_len, s.job, 'the plan of' FROM splits s JOIN jobs j ON j.id = s.job
             WHERE j.state <> 'proved'
             UNION ALL SELECT proof, proof_len, job, 'a proof to be verified for' FROM submissions WHERE verdict IS NULL",
        ));
        let mut needed = Vec::new();
        for row in self.database().ok(rows.fetch_all(&mut **tx).await)? {
            let what: String = self.get(&row, "what")?;
            let job: JobId = self.get(&row, "job")?;
            needed.push((self.artifact(&row, "hash", "len")?, format!("{what} job {job}")));
        }
        Ok(needed)
    }

    /// Those of `artifacts` that are among them.
    pub(crate) async fn needed_of(&self, artifacts: &[ArtifactId]) -> Result<HashSet<ArtifactId>> {
        if artifacts.is_empty() {
            return Ok(HashSet::new());
        }
        let these = (1..=artifacts.len()).map(|at| format!("${at}")).collect::<Vec<_>>().join(", ");
        let made = made_of_proofs!();
        let sql = format!(
            "SELECT b.input AS hash FROM batches b WHERE b.input IN ({these}) AND
             (SELECT 1 FROM jobs j WHERE j.batch = b.id AND j.state <> 'proved' AND j.superseded = 0 AND j.kind NOT IN {made} LIMIT 1) IS NOT NULL
             UNION SELECT f.input FROM folds f WHERE f.input IN ({these}) AND
             (SELECT 1 FROM jobs j WHERE j.id = f.job AND j.state <> 'proved' AND j.superseded = 0) IS NOT NULL
             UNION SELECT proof FROM jobs j WHERE proof IS NOT NULL AND state = 'proved' AND proof IN ({these}) AND (parent IS NULL OR kind IN {made} OR
             (SELECT 1 FROM jobs w WHERE w.id = j.parent AND w.state <> 'proved') IS NOT NULL)
             UNION SELECT plan FROM splits s WHERE plan IN ({these}) AND (SELECT 1 FROM jobs w WHERE w.id = s.job AND w.state <> 'proved') IS NOT NULL
             UNION SELECT proof FROM submissions WHERE verdict IS NULL AND proof IN ({these})"
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql));
        for artifact in artifacts {
            rows = rows.bind(Col(*artifact));
        }
        let rows = self.database().ok(rows.fetch_all(self.database().readers()).await)?;
        rows.iter().map(|row| self.get(row, "hash")).collect()
    }
}
