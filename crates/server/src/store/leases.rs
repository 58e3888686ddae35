//! Leases: which client may work on which job, until when, and how that ends.

use super::{
    JobStore, Result, StoreError,
    rows::{JobRow, blob, int},
};
use crate::{
    clock::Timestamp,
    database::Tx,
    jobs::{
        batch::Target,
        standing::{Deed, Standing},
        state::{Event, Lease, State, next},
    },
};
use protocol::{ArtifactRef, BlockRange, Capability, ClientId, Fail, FailureClass, JobId, LeaseId};

/// What a client gets with a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The job.
    pub job: JobId,
    /// The lease.
    pub lease: Lease,
    /// The blocks to prove.
    pub blocks: BlockRange,
    /// The proof wanted.
    pub target: Target,
    /// The program's input.
    pub input: ArtifactRef,
}

/// The answer to a request for work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A job.
    Job(Box<Leased>),
    /// The client rests, because it failed lately.
    Resting {
        /// Until then.
        until: Timestamp,
    },
    /// An operator lets the client finish and then rest.
    Draining,
    /// The client is not trusted.
    Quarantined,
    /// No job for it.
    Nothing {
        /// Whether jobs wait for clients with other capabilities.
        for_others: bool,
        /// When a job may become ready by itself.
        next: Option<Timestamp>,
    },
}

impl JobStore {
    /// Gives every lease its full time again: nobody could hear heartbeats while no server ran.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn restart(&self, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let rows = self.db.locking("SELECT * FROM jobs WHERE state = 'leased' ORDER BY seq");
        for row in self.ok(sqlx::query(rows).fetch_all(&mut *tx).await)? {
            let row = self.job_row(&row)?;
            let job = row.id;
            let after = self.apply(&mut tx, row, &Event::ServerRestarted, now).await?;
            after.map_err(|refused| StoreError::Refused { job, refused })?;
        }
        self.ok(tx.commit().await)
    }

    /// Hands `client` the job it can prove that is [`due`] first. A client that has a lease gets the same lease again, unless
    /// it was heard on it before it `asked`: then it died on that job, and gets that one last. `lease` names a new lease and
    /// must be fresh and random.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn lease(
        &self,
        client: ClientId,
        capabilities: &[Capability],
        lease: LeaseId,
        asked: Timestamp,
        now: Timestamp,
    ) -> Result<Offer> {
        self.expire_silent(client, now).await?;
        let mut tx = self.db.begin().await?;
        self.db.lock_client(&mut tx, client).await?;
        let held = self.db.locking(
            "SELECT * FROM jobs WHERE state = 'leased' AND lease_client = $1 ORDER BY seq",
        );
        let held = sqlx::query(held).bind(blob(client.as_bytes())).fetch_all(&mut *tx);
        let mut chosen = None;
        for row in self.ok(held.await)? {
            let row = self.job_row(&row)?;
            if !capabilities.iter().any(|c| row.target.suits(c)) || chosen.is_some() {
                // A client that comes back with another prover cannot go on with what it had.
                self.lose(&mut tx, row, &Event::Expire, now).await?;
            } else if next(&row.job, &Event::Abandon { client, asked }, now, &self.rules).is_ok() {
                self.lose(&mut tx, row, &Event::Abandon { client, asked }, now).await?;
            } else {
                chosen = Some(row);
            }
        }
        // ORDER: after the jobs it may have, since whoever decides about a job locks its client last.
        let standing = self.greet(&mut tx, client, now).await?;
        if chosen.is_none() || standing.quarantined {
            let barred = match standing {
                Standing { quarantined: true, .. } => Some(Offer::Quarantined),
                Standing { draining: true, .. } => Some(Offer::Draining),
                Standing { rests_until: until, .. } if until > now => {
                    Some(Offer::Resting { until })
                }
                _ => None,
            };
            if let Some(barred) = barred {
                self.ok(tx.commit().await)?;
                return Ok(barred);
            }
            // A job it fell silent on comes last: another client may find out whose fault that was.
            for whose in ["(lost_to IS NULL OR lost_to <> $4)", "lost_to = $4"] {
                for capability in capabilities {
                    let row = self.db.skipping_locked(&format!(
                        "SELECT * FROM jobs WHERE state = 'ready' AND superseded = 0 AND not_before <= $1 AND system = $2
                         AND program_id = $3 AND {whose} ORDER BY due, seq LIMIT 1",
                    ));
                    let row = sqlx::query(row)
                        .bind(int(now.0))
                        .bind(capability.system.to_string())
                        .bind(blob(capability.program_id.as_slice()))
                        .bind(blob(client.as_bytes()))
                        .fetch_optional(&mut *tx);
                    if let Some(row) = self.ok(row.await)? {
                        let row = self.job_row(&row)?;
                        let earlier = |best: &JobRow| (row.due, row.seq) < (best.due, best.seq);
                        if chosen.as_ref().is_none_or(earlier) {
                            chosen = Some(row);
                        }
                    }
                }
                if chosen.is_some() {
                    break;
                }
            }
        }
        let offer = match chosen {
            Some(row) => {
                let (job, target) = (row.id, row.target);
                let after = self.apply(&mut tx, row, &Event::Lease { client, lease }, now).await?;
                let State::Leased(lease) =
                    after.map_err(|refused| StoreError::Refused { job, refused })?.state
                else {
                    return Err(self.damaged("a lease was granted, but is not there"));
                };
                let batch = sqlx::query(
                    "SELECT b.* FROM batches b JOIN jobs j ON j.batch = b.id WHERE j.id = $1",
                );
                let batch = self.ok(batch.bind(blob(job.as_bytes())).fetch_one(&mut *tx).await)?;
                Offer::Job(Box::new(Leased {
                    job,
                    lease,
                    blocks: self.range(&batch)?,
                    target,
                    input: self.artifact(&batch, "input", "input_len")?,
                }))
            }
            None => {
                let row = sqlx::query(
                    "SELECT (SELECT count(*) FROM jobs WHERE state = 'ready' AND superseded = 0 AND not_before <= $1) AS others,
                     (SELECT min(t) FROM (
                         SELECT min(not_before) AS t FROM jobs WHERE state = 'ready' AND superseded = 0 AND not_before > $1
                         UNION ALL SELECT min(lease_expires_at) + 1 FROM jobs WHERE state = 'leased') AS times) AS next",
                );
                let row = self.ok(row.bind(int(now.0)).fetch_one(&mut *tx).await)?;
                let next = self.optional_uint(&row, "next")?.map(Timestamp);
                Offer::Nothing { for_others: self.uint(&row, "others")? != 0, next }
            }
        };
        self.ok(tx.commit().await)?;
        Ok(offer)
    }

    /// Keeps a lease alive, and says how its client stands.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the lease is not the job's, or the job is proved or was given up.
    pub async fn heartbeat(&self, job: JobId, lease: LeaseId, now: Timestamp) -> Result<Standing> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let client = row.job.state.lease().map(|lease| lease.client);
        let after = self.apply(&mut tx, row, &Event::Heartbeat { lease }, now).await?;
        after.map_err(|refused| StoreError::Refused { job, refused })?;
        let standing = match client {
            Some(client) => self.greet(&mut tx, client, now).await?,
            None => Standing::default(),
        };
        self.ok(tx.commit().await)?;
        Ok(standing)
    }

    /// Takes a lease back from a client that could not do it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the lease is not the job's.
    pub async fn fail(&self, job: JobId, fail: &Fail, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let (seq, held) = (row.seq, row.job.state.lease().cloned());
        let event = Event::Fail { lease: fail.lease, class: fail.class };
        let after = self.apply(&mut tx, row, &event, now).await?;
        after.map_err(|refused| StoreError::Refused { job, refused })?;
        self.end_lease(&mut tx, fail.lease, "failed", now).await?;
        let message: String = fail.message.chars().take(2_000).collect();
        self.blame(&mut tx, seq, &format!("{}: {message}", fail.class)).await?;
        if let Some(held) = held
            && fail.class != FailureClass::Cancelled
        {
            self.record_deed(&mut tx, held.client, Deed::Failed, now).await?;
        }
        self.ok(tx.commit().await)
    }

    /// Takes back the leases of others than `client` that ran out, each in a transaction of its own.
    pub(super) async fn expire_silent(&self, client: ClientId, now: Timestamp) -> Result<()> {
        loop {
            // Mostly there are none, and nobody has to wait for a turn to write.
            let any = sqlx::query(
                "SELECT 1 FROM jobs WHERE state = 'leased' AND lease_expires_at < $1 AND lease_client <> $2 LIMIT 1",
            );
            let any = any.bind(int(now.0)).bind(blob(client.as_bytes()));
            if self.ok(any.fetch_optional(self.db.readers()).await)?.is_none() {
                return Ok(());
            }
            let mut tx = self.db.begin().await?;
            let row = self.db.skipping_locked(
                "SELECT * FROM jobs WHERE state = 'leased' AND lease_expires_at < $1 AND lease_client <> $2
                 ORDER BY seq LIMIT 1",
            );
            let row = sqlx::query(row).bind(int(now.0)).bind(blob(client.as_bytes()));
            let Some(row) = self.ok(row.fetch_optional(&mut *tx).await)? else { return Ok(()) };
            let row = self.job_row(&row)?;
            self.lose(&mut tx, row, &Event::Expire, now).await?;
            self.ok(tx.commit().await)?;
        }
    }

    /// Takes back a lease whose client `event` says is gone, if it is.
    pub(super) async fn lose(
        &self,
        tx: &mut Tx,
        row: JobRow,
        event: &Event,
        now: Timestamp,
    ) -> Result<()> {
        let (seq, job) = (row.seq, row.id);
        let Some(held) = row.job.state.lease().cloned() else {
            return Err(self.damaged("a leased job has no lease"));
        };
        if self.apply(tx, row, event, now).await?.is_ok() {
            let (outcome, blame) = match event {
                Event::Expire => ("expired", "fell silent"),
                _ => ("abandoned", "came back without it"),
            };
            self.end_lease(tx, held.id, outcome, now).await?;
            self.blame(tx, seq, &format!("client {} {blame}", held.client)).await?;
            self.metrics.lease_expired();
            tracing::warn!(code = "lease_expired", %job, client = %held.client, outcome, "lease lost");
        }
        Ok(())
    }

    pub(super) async fn end_lease(
        &self,
        tx: &mut Tx,
        lease: LeaseId,
        outcome: &'static str,
        now: Timestamp,
    ) -> Result<()> {
        let end = sqlx::query(
            "UPDATE leases SET ended_at = $1, outcome = $2 WHERE id = $3 AND ended_at IS NULL",
        )
        .bind(int(now.0))
        .bind(outcome)
        .bind(blob(lease.as_bytes()))
        .execute(&mut **tx);
        self.ok(end.await).map(drop)
    }
}
