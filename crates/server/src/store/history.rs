//! What happened to a job.

use super::{JobStore, StoreError, rows::submission_columns};
use crate::{
    database::columns::Col,
    jobs::outcome::{LeaseOutcome, RecordedVerdict},
};
use protocol::{JobHistory, JobId, LeaseId, LeaseSummary, SubmittedProof};
use sha2::{Digest, Sha256};

/// The name of a lease for everybody but its client. Whoever knows a live lease's id can end it, so the id stays between server and
/// client.
fn public(lease: LeaseId) -> LeaseId {
    let mut name = [0; 16];
    name.copy_from_slice(&Sha256::digest(lease.as_bytes())[..16]);
    LeaseId::from_bytes(name)
}

impl JobStore {
    /// The leases of a job, the proofs handed in for it and the parts of its proof, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`], or if the database fails.
    pub async fn history(&self, job: JobId) -> Result<JobHistory, StoreError> {
        self.job(job).await?;
        let db = self.database();
        let rows = sqlx::query("SELECT id, client, granted_at, ended_at, outcome FROM leases WHERE job = $1 ORDER BY granted_at, id")
            .bind(Col(job));
        let leases = db.ok(rows.fetch_all(db.readers()).await)?;
        let leases = leases.iter().map(|row| {
            Ok(LeaseSummary {
                lease: public(self.get(row, "id")?),
                client: self.get(row, "client")?,
                granted_at: self.get(row, "granted_at")?,
                ended_at: self.get(row, "ended_at")?,
                outcome: self
                    .get::<Option<LeaseOutcome>>(row, "outcome")?
                    .map(|it| it.name().into()),
            })
        });
        let leases = leases.collect::<Result<_, StoreError>>()?;
        let rows = sqlx::query(concat!(
            "SELECT ",
            submission_columns!(),
            " FROM submissions WHERE job = $1 ORDER BY received_at"
        ))
        .bind(Col(job));
        let proofs = db.ok(rows.fetch_all(db.readers()).await)?;
        let proofs = proofs.iter().map(|row| {
            Ok(SubmittedProof {
                proof: self.artifact(row, "proof", "proof_len")?,
                client: self.get(row, "client")?,
                system: self.get(row, "system")?,
                program_id: self.get(row, "program_id")?,
                kind: self.get(row, "kind")?,
                received_at: self.get(row, "received_at")?,
                verdict: self
                    .get::<Option<RecordedVerdict>>(row, "verdict")?
                    .map(|it| it.name().into()),
                reason: self.get(row, "reason")?,
            })
        });
        let proofs = proofs.collect::<Result<_, StoreError>>()?;
        Ok(JobHistory { leases, proofs, parts: self.part_summaries(job).await? })
    }
}
