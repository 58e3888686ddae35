//! What happened to a job.

use super::{
    JobStore, StoreError,
    rows::{blob, submission_columns},
};
use protocol::{ClientId, JobHistory, JobId, LeaseId, LeaseSummary, SubmittedProof};

impl JobStore {
    /// The leases of a job and the proofs handed in for it, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`], or if the database fails.
    pub async fn history(&self, job: JobId) -> Result<JobHistory, StoreError> {
        self.job(job).await?;
        let db = self.database();
        let rows = sqlx::query("SELECT id, client, granted_at, ended_at, outcome FROM leases WHERE job = $1 ORDER BY granted_at, id")
            .bind(blob(job.as_bytes()));
        let leases = db.ok(rows.fetch_all(db.readers()).await)?;
        let leases = leases.iter().map(|row| {
            Ok(LeaseSummary {
                lease: LeaseId::from_bytes(self.bytes(row, "id")?),
                client: ClientId::from_bytes(self.bytes(row, "client")?),
                granted_at: self.uint(row, "granted_at")?,
                ended_at: self.optional_uint(row, "ended_at")?,
                outcome: self.optional_text(row, "outcome")?,
            })
        });
        let leases = leases.collect::<Result<_, StoreError>>()?;
        let rows = sqlx::query(concat!(
            "SELECT ",
            submission_columns!(),
            " FROM submissions WHERE job = $1 ORDER BY received_at"
        ))
        .bind(blob(job.as_bytes()));
        let proofs = db.ok(rows.fetch_all(db.readers()).await)?;
        let proofs = proofs.iter().map(|row| {
            Ok(SubmittedProof {
                proof: self.artifact(row, "proof", "proof_len")?,
                client: ClientId::from_bytes(self.bytes(row, "client")?),
                system: self.parsed(row, "system")?,
                program_id: self.bytes(row, "program_id")?.into(),
                kind: self.parsed(row, "kind")?,
                received_at: self.uint(row, "received_at")?,
                verdict: self.optional_text(row, "verdict")?,
                reason: self.optional_text(row, "reason")?,
            })
        });
        Ok(JobHistory { leases, proofs: proofs.collect::<Result<_, StoreError>>()? })
    }
}
