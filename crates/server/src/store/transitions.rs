//! Steps of a job: found and locked, moved along by the state machine, and written back.

use super::{
    JobStore, Result, StoreError,
    rows::{JobRow, job_columns},
};
use crate::{
    clock::Timestamp,
    database::{Notification, Tx, columns::Col},
    jobs::state::{Event, Job, Outcome, Refused, State, next},
};
use protocol::{ArtifactRef, ClientId, DeadCause, JobId, JobState, messages::readable};

impl JobStore {
    pub(super) async fn find(&self, tx: &mut Tx, job: JobId) -> Result<JobRow> {
        let row = self.db.locking(concat!("SELECT ", job_columns!(), " FROM jobs WHERE id = $1"));
        let row = sqlx::query(row).bind(Col(job)).fetch_optional(&mut **tx);
        let row = self.ok(row.await)?.ok_or(StoreError::NoSuchJob(job))?;
        self.job_row(&row)
    }

    /// Moves a job along.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the event does not apply.
    pub(super) async fn apply(
        &self,
        tx: &mut Tx,
        row: JobRow,
        event: &Event,
        now: Timestamp,
    ) -> Result<Job> {
        let job = row.id;
        let after = self.try_apply(tx, row, event, now).await?;
        after.map_err(|refused| StoreError::Refused { job, refused })
    }

    /// Moves a job along, if the event applies.
    pub(super) async fn try_apply(
        &self,
        tx: &mut Tx,
        row: JobRow,
        event: &Event,
        now: Timestamp,
    ) -> Result<std::result::Result<Job, Refused>> {
        self.apply_with(tx, row, event, now, None).await
    }

    /// Moves a job along and writes what changed. `proof` goes with [`Event::Verified`].
    pub(super) async fn apply_with(
        &self,
        tx: &mut Tx,
        row: JobRow,
        event: &Event,
        now: Timestamp,
        proof: Option<(ArtifactRef, ClientId)>,
    ) -> Result<std::result::Result<Job, Refused>> {
        let after = match next(&row.job, event, now, &self.rules) {
            Ok(after) => after,
            Err(refused) => return Ok(Err(refused)),
        };
        if after == row.job {
            return Ok(Ok(after));
        }
        let lease = after.state.lease();
        let held = row.job.state.lease().map(|held| held.id);
        if let Some(lease) = lease.filter(|lease| held != Some(lease.id)) {
            let granted = sqlx::query(
                "INSERT INTO leases (id, job, client, granted_at, party) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
            )
            .bind(Col(lease.id))
            .bind(Col(row.id))
            .bind(Col(lease.client))
            .bind(Col(lease.since))
            .bind(Col(lease.party))
            .execute(&mut **tx);
            self.ok(granted.await)?;
        }
        let (was, outcome) = (row.job.state.outcome(), after.state.outcome());
        let finished = match outcome {
            Outcome::Open => None,
            same if same == was => row.finished_at,
            Outcome::Proved | Outcome::Dead(_) => Some(now),
        };
        let superseded = after.state.name() == JobState::Superseded;
        let column = match outcome {
            Outcome::Open if superseded => JobState::Ready,
            Outcome::Open => after.state.name(),
            Outcome::Proved => JobState::Proved,
            Outcome::Dead(_) => JobState::Dead,
        };
        // A proof that is there stays there.
        let update = sqlx::query(
            "UPDATE jobs SET state = $1, not_before = $2, failures = $3, lost = $4, lease = $5, lease_client = $6,
             lease_since = $7, lease_expires_at = $8, finished_at = $9, proof = coalesce($10, proof),
             proof_len = coalesce($11, proof_len), proved_by = coalesce($12, proved_by), cause = $13, lost_to = $14,
             superseded = $15, lease_heard = $16, lease_handed = $17, failed_by = $18, lost_by = $19 WHERE seq = $20",
        )
        .bind(Col(column))
        .bind(Col(after.not_before))
        .bind(Col(after.failures))
        .bind(Col(after.lost))
        .bind(lease.map(|lease| Col(lease.id)))
        .bind(lease.map(|lease| Col(lease.client)))
        .bind(lease.map(|lease| Col(lease.since)))
        .bind(lease.map(|lease| Col(lease.expires_at)))
        .bind(finished.map(Col))
        .bind(proof.map(|(proof, _)| Col(proof.sha256)))
        .bind(proof.map(|(proof, _)| Col(proof.len)))
        .bind(proof.map(|(_, client)| Col(client)))
        .bind(after.state.cause().filter(|cause| *cause != DeadCause::Budget).map(Col))
        .bind(after.lost_to.map(Col))
        .bind(Col(superseded))
        .bind(lease.and_then(|lease| lease.heard).map(Col))
        .bind(lease.map(|lease| Col(lease.handed)))
        .bind(Some(&after.failed_by).filter(|parties| !parties.is_empty()).cloned().map(Col))
        .bind(after.lost_by.map(Col))
        .bind(row.seq)
        .execute(&mut **tx);
        self.ok(update.await)?;
        if after.state == State::Ready {
            self.db.tell(tx, Notification::Ready).await?;
        }
        Ok(Ok(after))
    }

    /// Error texts are the clients'. They are shown on terminals too, so what [disturbs](protocol::messages::disturbs) there is left out.
    pub(super) async fn set_last_error(&self, tx: &mut Tx, seq: i64, error: &str) -> Result<()> {
        let update = sqlx::query("UPDATE jobs SET last_error = $1 WHERE seq = $2")
            .bind(readable(error))
            .bind(seq);
        self.ok(update.execute(&mut **tx).await).map(drop)
    }
}
