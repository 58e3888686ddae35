//! Jobs in a database: what is written there, and how it is read.
//!
//! * Each method is one transaction, and has happened for good when it returns.
//! * What a job becomes is decided by [`state::next`](crate::jobs::state::next); the store only remembers.
//! * The batches on the chain have no gap, each continues its predecessor's last block, and no block is in two of them. A
//!   reorg supersedes batches: they leave the chain, and come back as they were if it does.
//! * Several servers may use one PostgreSQL database. What decides about a job locks its row first, then its client's;
//!   no transaction waits for a second job.

pub mod figures;
pub mod history;

use crate::{
    clock::Timestamp,
    config::DatabaseUrl,
    database::{Database, News, Schema, Tx},
    jobs::{
        batch::{NewBatch, Target, Tip, Unlinked, Wanted, follows, job_id},
        cost::{Effort, Experience},
        standing::{Deed, Standing, judge},
        state::{Event, Job, Lease, Outcome, Refused, Rules, State, due, next},
    },
    observe::metrics::Metrics,
};
use protocol::{
    ArtifactId, ArtifactRef, BlockRange, Capability, ClientId, ClientSummary, Counts, DeadCause,
    Fail, FailureClass, JobId, JobState, JobSummary, LeaseId, Submit, Verdict,
};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row, any::AnyRow};
use std::{ops::RangeInclusive, path::Path};

/// Jobs and clients shown in a status.
const SHOWN: u32 = 100;

/// What a reorg did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superseded {
    /// The batches that left the chain.
    pub batches: u64,
    /// The leases that ended with them.
    pub leases: Vec<LeaseId>,
    /// The end of what is left.
    pub tip: Option<Tip>,
}

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

/// What is to be done with a proof that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It has been judged already.
    Judged(Verdict),
    /// Check it, then tell [`JobStore::judge`].
    Verify(Wanted),
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such job.
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// No such client has ever asked for work.
    #[error("there is no client {0}")]
    NoSuchClient(ClientId),
    /// The event does not apply to the job.
    #[error("job {job}: {refused}")]
    Refused {
        /// The job.
        job: JobId,
        /// Why.
        refused: Refused,
    },
    /// The batch does not continue the last one.
    #[error(transparent)]
    Unlinked(#[from] Unlinked),
    /// A reorg would take blocks away that are final.
    #[error(
        "a reorg from block {from} on would take away the batch of blocks {batch}, which the node has called final: it has \
         another chain; give it back its chain, or use another data_dir"
    )]
    Final {
        /// The first block of the reorg.
        from: u64,
        /// The newest final batch.
        batch: BlockRange,
    },
    /// Another server changed the chain of batches meanwhile.
    #[error("the chain of batches ends at {found:?} now, not at {expected:?}: look again")]
    TipMoved {
        /// Where the caller saw its end.
        expected: Option<Tip>,
        /// Where it ends.
        found: Option<Tip>,
    },
    /// The database belongs to another program.
    #[error(
        "{0} is not a Prover Server's database: name another data_dir or database, or move it away"
    )]
    Foreign(String),
    /// The database is damaged.
    #[error(
        "database {database} is damaged ({detail}): restore it from a backup, or move it away to start anew; \
         clients keep proofs that were not acknowledged"
    )]
    Corrupt {
        /// The file, or the database and its host.
        database: String,
        /// What is wrong.
        detail: String,
    },
    /// The database was written by another version of this program.
    #[error(
        "database {database} does not fit this version ({detail}): use the version that wrote it"
    )]
    Version {
        /// The file, or the database and its host.
        database: String,
        /// What is wrong.
        detail: String,
    },
    /// The database may lose what it has committed.
    #[error(
        "database {database} may lose committed jobs and proofs, since its setting {setting} is off: turn it on"
    )]
    Unsafe {
        /// The database and its host.
        database: String,
        /// PostgreSQL's setting.
        setting: &'static str,
    },
    /// The database cannot be used now: its disk or the connection, for example.
    #[error("database {database} failed")]
    Database {
        /// The file, or the database and its host.
        database: String,
        /// What the database says.
        #[source]
        source: sqlx::Error,
    },
}

/// Jobs, leases, submissions and clients. Clones share the database.
#[derive(Clone, Debug)]
pub struct JobStore {
    db: Database,
    rules: Rules,
    metrics: Metrics,
}

type Result<T, E = StoreError> = std::result::Result<T, E>;

impl JobStore {
    /// Opens the SQLite database at `path`, which is made if it is missing, and brings it to this version's schema.
    ///
    /// # Errors
    /// [`StoreError::Foreign`], [`StoreError::Corrupt`], [`StoreError::Version`] or [`StoreError::Database`].
    pub async fn open(path: &Path, rules: Rules) -> Result<Self> {
        let db = Database::sqlite(path, Schema::Ours).await?;
        Ok(Self { db, rules, metrics: Metrics::new() })
    }

    /// Connects to a PostgreSQL database, which several servers may use, and brings it to this version's schema.
    ///
    /// # Errors
    /// As [`open`](Self::open), or [`StoreError::Unsafe`].
    pub async fn connect(url: &DatabaseUrl, rules: Rules) -> Result<Self> {
        let db = Database::postgres(url, Schema::Ours).await?;
        Ok(Self { db, rules, metrics: Metrics::new() })
    }

    /// A store to read from: its rules decide nothing.
    pub(crate) fn reading(db: Database) -> Self {
        let lease = std::time::Duration::ZERO;
        let rules = Rules { lease, max_failures: 0, max_lost: 0, max_rejected: 0 };
        Self { db, rules, metrics: Metrics::new() }
    }

    /// The database below.
    pub fn database(&self) -> &Database {
        &self.db
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Closes the database. Methods fail afterwards.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// The time that counts for leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn now(&self) -> Result<Timestamp> {
        self.db.now().await
    }

    /// The name of the artifact folder of a PostgreSQL database: `id`, unless it has one already.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn artifact_folder(&self, id: &str) -> Result<String> {
        let mut tx = self.db.begin().await?;
        let insert = sqlx::query(
            "INSERT INTO artifact_folder (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING",
        );
        self.db.ok(insert.bind(id.to_owned()).execute(&mut *tx).await)?;
        let row = sqlx::query("SELECT id FROM artifact_folder").fetch_one(&mut *tx).await;
        let id = self.get(&self.db.ok(row)?, "id")?;
        self.db.ok(tx.commit().await)?;
        Ok(id)
    }

    /// Gives every lease its full time again: nobody could hear heartbeats while no server ran.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn restart(&self, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let rows = self.db.locking("SELECT * FROM jobs WHERE state = 'leased' ORDER BY seq");
        for row in self.db.ok(sqlx::query(rows).fetch_all(&mut *tx).await)? {
            let row = self.job_row(&row)?;
            let job = row.id;
            let after = self.apply(&mut tx, row, &Event::ServerRestarted, now).await?;
            after.map_err(|refused| StoreError::Refused { job, refused })?;
        }
        self.db.ok(tx.commit().await)
    }

    /// The proofs handed in before `before` that have no verdict, with their jobs: whoever verified them went, or failed.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn unjudged(&self, before: Timestamp) -> Result<Vec<(JobId, Submit)>> {
        let rows = sqlx::query(
            "SELECT * FROM submissions WHERE verdict IS NULL AND received_at <= $1 ORDER BY received_at",
        );
        let rows = self.db.ok(rows.bind(int(before.0)).fetch_all(self.db.readers()).await)?;
        rows.iter()
            .map(|row| {
                let job = JobId::from_bytes(self.bytes(row, "job")?);
                let submit = Submit {
                    client: ClientId::from_bytes(self.bytes(row, "client")?),
                    lease: LeaseId::from_bytes(self.bytes(row, "lease")?),
                    system: self.parsed(row, "system")?,
                    program_id: self.bytes(row, "program_id")?.into(),
                    kind: self.parsed(row, "kind")?,
                    proof: self.artifact(row, "proof", "proof_len")?,
                };
                Ok((job, submit))
            })
            .collect()
    }

    /// The end of the chain of batches, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn tip(&self) -> Result<Option<Tip>> {
        let mut connection = self.db.ok(self.db.readers().acquire().await)?;
        self.tip_in(&mut connection).await
    }

    /// The end of the last batch that does not reach beyond `block`, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn end_before(&self, block: u64) -> Result<Option<Tip>> {
        let row = sqlx::query(
            "SELECT last, last_hash FROM batches WHERE superseded_at IS NULL AND last <= $1
             ORDER BY first DESC LIMIT 1",
        );
        let row = row.bind(int(block)).fetch_optional(self.db.readers()).await;
        self.db.ok(row)?.map(|row| self.end(&row)).transpose()
    }

    /// How many jobs wait for a client.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn ready(&self) -> Result<u64> {
        let count =
            sqlx::query("SELECT count(*) AS n FROM jobs WHERE state = 'ready' AND superseded = 0")
                .fetch_one(self.db.readers());
        let row = self.db.ok(count.await)?;
        self.uint(&row, "n")
    }

    /// Takes in a batch and the one job on it. A batch on the chain may be enqueued again: the same job is returned. One that
    /// a reorg took away comes back with what has come of its job, even a proof.
    ///
    /// # Errors
    /// [`StoreError::Unlinked`] if the batch does not continue the last one.
    pub async fn enqueue(
        &self,
        batch: &NewBatch,
        target: &Target,
        now: Timestamp,
    ) -> Result<JobId> {
        let jobs = self.enqueue_all(std::slice::from_ref(batch), target, now).await?;
        Ok(jobs[0])
    }

    /// The same for several batches, all or none of them.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_all(
        &self,
        batches: &[NewBatch],
        target: &Target,
        now: Timestamp,
    ) -> Result<Vec<JobId>> {
        let mut tx = self.db.begin().await?;
        self.db.lock_chain(&mut tx).await?;
        let mut jobs = Vec::with_capacity(batches.len());
        for batch in batches {
            jobs.push(self.enqueue_in(&mut tx, batch, target, now).await?);
        }
        self.db.tell(&mut tx, News::Ready).await?;
        self.db.ok(tx.commit().await)?;
        Ok(jobs)
    }

    /// Takes every batch with a block from `from` on off the chain, because a reorg did so with the blocks: their jobs are
    /// superseded, whatever has come of them, and their leases end. Their statements, proofs and histories are kept, and
    /// [`enqueue`](Self::enqueue) brings them back. `tip` is the end of the chain on which the caller based its decision.
    ///
    /// # Errors
    /// [`StoreError::TipMoved`] if the chain ends elsewhere by now, [`StoreError::Final`] if one of the batches is final:
    /// then nothing has changed.
    pub async fn supersede(
        &self,
        from: u64,
        tip: Option<Tip>,
        now: Timestamp,
    ) -> Result<Superseded> {
        let mut tx = self.db.begin().await?;
        self.db.lock_chain(&mut tx).await?;
        let found = self.tip_in(&mut tx).await?;
        if found != tip {
            return Err(StoreError::TipMoved { expected: tip, found });
        }
        let last_final = sqlx::query(
            "SELECT first, last FROM batches WHERE superseded_at IS NULL AND final = 1 AND last >= $1
             ORDER BY first DESC LIMIT 1",
        );
        let last_final = last_final.bind(int(from)).fetch_optional(&mut *tx).await;
        if let Some(row) = self.db.ok(last_final)? {
            return Err(StoreError::Final { from, batch: self.range(&row)? });
        }
        let jobs = self.db.locking(
            "SELECT * FROM jobs WHERE superseded = 0 AND batch IN
             (SELECT id FROM batches WHERE superseded_at IS NULL AND last >= $1) ORDER BY seq",
        );
        let jobs = sqlx::query(jobs).bind(int(from)).fetch_all(&mut *tx).await;
        let mut leases = Vec::new();
        for row in self.db.ok(jobs)? {
            let row = self.job_row(&row)?;
            let (job, held) = (row.id, row.job.state.lease().map(|lease| lease.id));
            let after = self.apply(&mut tx, row, &Event::Supersede, now).await?;
            after.map_err(|refused| StoreError::Refused { job, refused })?;
            if let Some(held) = held {
                self.end_lease(&mut tx, held, "superseded", now).await?;
                leases.push(held);
            }
        }
        let batches = sqlx::query(
            "UPDATE batches SET superseded_at = $1 WHERE superseded_at IS NULL AND last >= $2",
        );
        let batches = batches.bind(int(now.0)).bind(int(from)).execute(&mut *tx).await;
        let batches = self.db.ok(batches)?.rows_affected();
        let tip = self.tip_in(&mut tx).await?;
        self.db.tell(&mut tx, News::Taken).await?;
        self.db.ok(tx.commit().await)?;
        Ok(Superseded { batches, leases, tip })
    }

    /// Notes that no reorg will take the blocks up to `last` away: batches that end there or before stay on the chain, for
    /// good, so the caller has made sure that the chain of batches is the node's. Returns how many became final.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn finalize(&self, last: u64) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        self.db.lock_chain(&mut tx).await?;
        let update = sqlx::query(
            "UPDATE batches SET final = 1 WHERE superseded_at IS NULL AND final = 0 AND last <= $1",
        );
        let update = self.db.ok(update.bind(int(last)).execute(&mut *tx).await)?;
        self.db.ok(tx.commit().await)?;
        Ok(update.rows_affected())
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
        for row in self.db.ok(held.await)? {
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
                self.db.ok(tx.commit().await)?;
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
                    if let Some(row) = self.db.ok(row.await)? {
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
                    return Err(self.db.damaged("a lease was granted, but is not there"));
                };
                let batch = sqlx::query(
                    "SELECT b.* FROM batches b JOIN jobs j ON j.batch = b.id WHERE j.id = $1",
                );
                let batch =
                    self.db.ok(batch.bind(blob(job.as_bytes())).fetch_one(&mut *tx).await)?;
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
                let row = self.db.ok(row.bind(int(now.0)).fetch_one(&mut *tx).await)?;
                let next = self.optional_uint(&row, "next")?.map(Timestamp);
                Offer::Nothing { for_others: self.uint(&row, "others")? != 0, next }
            }
        };
        self.db.ok(tx.commit().await)?;
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
        self.db.ok(tx.commit().await)?;
        Ok(standing)
    }

    /// Remembers a proof whose bytes are durable. The same proof under the same lease gets the same verdict for ever.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn submit(&self, job: JobId, submit: &Submit, now: Timestamp) -> Result<Submitted> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        self.greet(&mut tx, submit.client, now).await?;
        match self.verdict(&mut tx, job, submit).await? {
            Some(Some(verdict)) => {
                self.db.ok(tx.commit().await)?;
                return Ok(Submitted::Judged(told(verdict, &row.job.state)));
            }
            Some(None) => {}
            None => self.open_submission(&mut tx, job, submit, now).await?,
        }
        let (target, seq, state) = (row.target, row.seq, row.job.state.clone());
        let held = row.job.state.lease().filter(|held| held.id == submit.lease);
        let time = held.map(|held| now.after(held.since));
        let after = self.apply(&mut tx, row, &Event::Submit { lease: submit.lease }, now).await?;
        let submitted = match after {
            Ok(_) => {
                let statement = sqlx::query(
                    "SELECT b.statement, b.gas_used, b.estimated_cycles FROM batches b JOIN jobs j ON j.batch = b.id
                     WHERE j.seq = $1",
                );
                let statement = self.db.ok(statement.bind(seq).fetch_one(&mut *tx).await)?;
                let effort = Effort {
                    time,
                    gas: self.uint(&statement, "gas_used")?,
                    cycles: self.uint(&statement, "estimated_cycles")?,
                };
                let statement = self.get(&statement, "statement")?;
                Submitted::Verify(Wanted { target, statement, effort })
            }
            Err(_proved) => {
                self.record(&mut tx, job, submit, "duplicate", None).await?;
                Submitted::Judged(told(Verdict::Duplicate, &state))
            }
        };
        self.db.ok(tx.commit().await)?;
        Ok(submitted)
    }

    /// Records what the check of a submitted proof gave, and what follows from it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails: then nothing has been recorded.
    pub async fn judge(
        &self,
        job: JobId,
        submit: &Submit,
        checked: std::result::Result<(), String>,
        now: Timestamp,
    ) -> Result<Verdict> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let state = row.job.state.clone();
        if let Some(Some(verdict)) = self.verdict(&mut tx, job, submit).await? {
            return Ok(told(verdict, &state));
        }
        let (seq, held) = (row.seq, state.lease().cloned());
        let verdict = match checked {
            Ok(()) => {
                let proof = (submit.proof, submit.client);
                if self.apply_with(&mut tx, row, &Event::Verified, now, Some(proof)).await?.is_ok()
                {
                    if let Some(held) = held {
                        let outcome =
                            if held.id == submit.lease { "proved" } else { "proved_by_other" };
                        self.end_lease(&mut tx, held.id, outcome, now).await?;
                    }
                    self.record_deed(&mut tx, submit.client, Deed::Proved, now).await?;
                    self.record(&mut tx, job, submit, "accepted", None).await?;
                    Verdict::Accepted
                } else {
                    self.record(&mut tx, job, submit, "duplicate", None).await?;
                    Verdict::Duplicate
                }
            }
            Err(reason) => {
                let rejected = Event::Rejected { lease: submit.lease };
                if self.apply(&mut tx, row, &rejected, now).await?.is_ok() {
                    self.end_lease(&mut tx, submit.lease, "rejected", now).await?;
                }
                self.blame(&mut tx, seq, &format!("proof rejected: {reason}")).await?;
                // Anyone can name a client, but only the client knows its leases.
                let its = sqlx::query("SELECT 1 FROM leases WHERE id = $1 AND client = $2")
                    .bind(blob(submit.lease.as_bytes()))
                    .bind(blob(submit.client.as_bytes()))
                    .fetch_optional(&mut *tx);
                if self.db.ok(its.await)?.is_some() {
                    self.record_deed(&mut tx, submit.client, Deed::Rejected, now).await?;
                }
                self.record(&mut tx, job, submit, "rejected", Some(&reason)).await?;
                Verdict::Rejected { reason }
            }
        };
        self.db.ok(tx.commit().await)?;
        Ok(told(verdict, &state))
    }

    /// Notes what the proof of a job turned out to cost.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn learn(&self, job: JobId, cycles: u64) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let update = sqlx::query("UPDATE jobs SET proven_cycles = $1 WHERE id = $2")
            .bind(int(cycles))
            .bind(blob(job.as_bytes()))
            .execute(&mut *tx);
        self.db.ok(update.await)?;
        self.db.ok(tx.commit().await)
    }

    /// What proofs turned out to cost lately, beside what had been expected.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn experience(&self) -> Result<Experience> {
        let mut tx = self.db.begin_reading().await?;
        let lately = sqlx::query(
            "SELECT b.estimated_cycles, j.proven_cycles FROM jobs j JOIN batches b ON b.id = j.batch
             WHERE j.proven_cycles IS NOT NULL ORDER BY j.seq DESC LIMIT 31",
        );
        let rows = self.db.ok(lately.fetch_all(&mut *tx).await)?;
        let proofs: Result<Vec<_>> = rows
            .iter()
            .map(|row| Ok((self.uint(row, "estimated_cycles")?, self.uint(row, "proven_cycles")?)))
            .collect();
        Ok(Experience::of(proofs?))
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
        self.db.ok(tx.commit().await)
    }

    /// Gives a dead job fresh budgets.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is not dead.
    pub async fn requeue(&self, job: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let after = self.apply(&mut tx, row, &Event::Requeue, now).await?;
        after.map_err(|refused| StoreError::Refused { job, refused })?;
        self.db.ok(tx.commit().await)
    }

    /// Gives a job up. Its client is told to stop; a proof of it that comes all the same is used.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is proved.
    pub async fn cancel(&self, job: JobId, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let held = row.job.state.lease().map(|lease| lease.id);
        let after = self.apply(&mut tx, row, &Event::Cancel, now).await?;
        after.map_err(|refused| StoreError::Refused { job, refused })?;
        if let Some(held) = held {
            self.end_lease(&mut tx, held, "cancelled", now).await?;
        }
        self.db.ok(tx.commit().await)
    }

    /// Changes when a job is [`due`].
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn prioritise(&self, job: JobId, priority: i32) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let update = sqlx::query("UPDATE jobs SET priority = $1, due = $2 WHERE seq = $3")
            .bind(i64::from(priority))
            .bind(int(due(row.created_at, priority).0))
            .bind(row.seq)
            .execute(&mut *tx);
        self.db.ok(update.await)?;
        self.db.ok(tx.commit().await)
    }

    /// What an operator decides about a client.
    ///
    /// # Errors
    /// [`StoreError::NoSuchClient`].
    pub async fn decide(&self, client: ClientId, deed: Deed, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        if !self.record_deed(&mut tx, client, deed, now).await? {
            return Err(StoreError::NoSuchClient(client));
        }
        self.db.tell(&mut tx, News::Ready).await?;
        self.db.ok(tx.commit().await)
    }

    /// The newest jobs, oldest of them first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>> {
        self.list(None, 0..=u64::MAX, SHOWN).await
    }

    /// The newest jobs in `state`, or in any, with a block in `blocks`, oldest of them first; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn list(
        &self,
        state: Option<JobState>,
        blocks: RangeInclusive<u64>,
        limit: u32,
    ) -> Result<Vec<JobSummary>> {
        let rows = summaries(
            "WHERE ($1 = '' OR CASE superseded WHEN 1 THEN 'superseded' ELSE state END = $1)
             AND batch IN (SELECT id FROM batches WHERE last >= $2 AND first <= $3) ORDER BY seq DESC LIMIT $4",
        );
        let block = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let rows = sqlx::query(rows)
            .bind(state.map_or("", JobState::name))
            .bind(block(*blocks.start()))
            .bind(block(*blocks.end()))
            .bind(i64::from(limit));
        let rows = self.db.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter().map(|row| self.summary(row)).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn job(&self, job: JobId) -> Result<JobSummary> {
        let row = sqlx::query(summaries("WHERE id = $1")).bind(blob(job.as_bytes()));
        let row = self.db.ok(row.fetch_optional(self.db.readers()).await)?;
        self.summary(&row.ok_or(StoreError::NoSuchJob(job))?)
    }

    /// The jobs that clients have, with their leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn held(&self) -> Result<Vec<(JobId, LeaseId)>> {
        let rows = sqlx::query("SELECT id, lease FROM jobs WHERE state IN ('leased', 'verifying')");
        let rows = self.db.ok(rows.fetch_all(self.db.readers()).await)?;
        rows.iter()
            .map(|row| {
                Ok((
                    JobId::from_bytes(self.bytes(row, "id")?),
                    LeaseId::from_bytes(self.bytes(row, "lease")?),
                ))
            })
            .collect()
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn counts(&self) -> Result<Counts> {
        let rows = sqlx::query(
            "SELECT state, superseded, count(*) AS n FROM jobs GROUP BY state, superseded",
        );
        let mut counts = Counts::default();
        for row in self.db.ok(rows.fetch_all(self.db.readers()).await)? {
            let n = self.uint(&row, "n")?;
            match self.state_name(&row)? {
                _ if self.uint(&row, "superseded")? != 0 => counts.superseded += n,
                JobState::Ready => counts.ready = n,
                JobState::Leased => counts.leased = n,
                JobState::Verifying => counts.verifying = n,
                JobState::Proved => counts.proved = n,
                JobState::Dead | JobState::Superseded => counts.dead = n,
            }
        }
        Ok(counts)
    }

    /// The block up to which everything is proved.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn proved_through(&self) -> Result<Option<u64>> {
        let row = sqlx::query(
            "SELECT max(b.last) AS last FROM batches b JOIN jobs j ON j.batch = b.id
             WHERE j.state = 'proved' AND j.superseded = 0 AND b.first <
             coalesce((SELECT min(b.first) FROM jobs j JOIN batches b ON j.batch = b.id
                       WHERE j.state <> 'proved' AND j.superseded = 0), b.first + 1)",
        );
        let row = self.db.ok(row.fetch_one(self.db.readers()).await)?;
        self.optional_uint(&row, "last")
    }

    /// The clients that were heard latest.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn clients(&self, now: Timestamp) -> Result<Vec<ClientSummary>> {
        let rows = sqlx::query("SELECT * FROM clients ORDER BY last_seen DESC LIMIT $1");
        let rows = self.db.ok(rows.bind(i64::from(SHOWN)).fetch_all(self.db.readers()).await)?;
        rows.iter()
            .map(|row| {
                Ok(ClientSummary {
                    client: ClientId::from_bytes(self.bytes(row, "id")?),
                    last_seen: self.uint(row, "last_seen")?,
                    proved: self.uint(row, "proved")?,
                    rejected: self.uint(row, "rejected")?,
                    rests_until: Some(self.uint(row, "rests_until")?)
                        .filter(|until| *until > now.0),
                    quarantined: self.uint(row, "quarantined")? != 0,
                    draining: self.uint(row, "draining")? != 0,
                })
            })
            .collect()
    }
}

/// A job as it stands in its row.
struct JobRow {
    seq: i64,
    id: JobId,
    target: Target,
    job: Job,
    created_at: Timestamp,
    due: Timestamp,
    finished_at: Option<Timestamp>,
}

// Steps of transactions.
impl JobStore {
    async fn find(&self, tx: &mut Tx, job: JobId) -> Result<JobRow> {
        let row = self.db.locking("SELECT * FROM jobs WHERE id = $1");
        let row = sqlx::query(row).bind(blob(job.as_bytes())).fetch_optional(&mut **tx);
        let row = self.db.ok(row.await)?.ok_or(StoreError::NoSuchJob(job))?;
        self.job_row(&row)
    }

    async fn enqueue_in(
        &self,
        tx: &mut Tx,
        batch: &NewBatch,
        target: &Target,
        now: Timestamp,
    ) -> Result<JobId> {
        let id = job_id(batch, target);
        let known = match self.find(tx, id).await {
            Ok(known) if known.job.state.name() != JobState::Superseded => return Ok(id),
            Ok(known) => Some(known),
            Err(StoreError::NoSuchJob(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some(tip) = self.tip_in(tx).await? {
            follows(&tip, batch)?;
        }
        // A batch that is here already is not on the chain, or it would not follow the tip. Its input may be another by now.
        let row = sqlx::query(
            "INSERT INTO batches (first, last, parent_hash, last_hash, statement, statement_digest, input,
             input_len, gas_used, transactions, created_at, estimated_cycles)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (first, last, statement_digest) DO UPDATE SET superseded_at = NULL, input = $7, input_len = $8
             RETURNING id",
        )
        .bind(int(batch.blocks.first()))
        .bind(int(batch.blocks.last()))
        .bind(blob(batch.parent_hash.as_slice()))
        .bind(blob(batch.last_hash.as_slice()))
        .bind(blob(&batch.statement))
        .bind(blob(batch.statement_digest.as_slice()))
        .bind(blob(batch.input.sha256.as_bytes()))
        .bind(int(batch.input.len))
        .bind(int(batch.gas_used))
        .bind(int(batch.transactions))
        .bind(int(now.0))
        .bind(int(batch.estimated_cycles))
        .fetch_one(&mut **tx);
        let batch_row: i64 = self.get(&self.db.ok(row.await)?, "id")?;
        match known {
            Some(known) => {
                let after = self.apply(tx, known, &Event::Revive, now).await?;
                after.map_err(|refused| StoreError::Refused { job: id, refused })?;
            }
            None => {
                let job = sqlx::query(
                    "INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at, due)
                     VALUES ($1, $2, $3, $4, $5, 'ready', $6, 0, 0, $6, $7)",
                )
                .bind(blob(id.as_bytes()))
                .bind(batch_row)
                .bind(target.system.to_string())
                .bind(blob(target.program_id.as_slice()))
                .bind(target.kind.to_string())
                .bind(int(now.0))
                .bind(int(due(now, 0).0))
                .execute(&mut **tx);
                self.db.ok(job.await)?;
            }
        }
        Ok(id)
    }

    async fn tip_in(&self, connection: &mut AnyConnection) -> Result<Option<Tip>> {
        let row = sqlx::query(
            "SELECT last, last_hash FROM batches WHERE superseded_at IS NULL ORDER BY first DESC LIMIT 1",
        );
        self.db.ok(row.fetch_optional(connection).await)?.map(|row| self.end(&row)).transpose()
    }

    fn end(&self, row: &AnyRow) -> Result<Tip> {
        let last_hash = self.bytes(row, "last_hash")?.into();
        Ok(Tip { last: self.uint(row, "last")?, last_hash })
    }

    /// Remembers that a client was heard, and returns how it stands.
    async fn greet(&self, tx: &mut Tx, client: ClientId, now: Timestamp) -> Result<Standing> {
        let row = sqlx::query(
            "INSERT INTO clients (id, first_seen, last_seen) VALUES ($1, $2, $2)
             ON CONFLICT (id) DO UPDATE SET last_seen = $2 RETURNING *",
        );
        let row = row.bind(blob(client.as_bytes())).bind(int(now.0)).fetch_one(&mut **tx);
        self.standing(&self.db.ok(row.await)?)
    }

    /// Takes back the leases of others than `client` that ran out, each in a transaction of its own.
    async fn expire_silent(&self, client: ClientId, now: Timestamp) -> Result<()> {
        loop {
            // Mostly there are none, and nobody has to wait for a turn to write.
            let any = sqlx::query(
                "SELECT 1 FROM jobs WHERE state = 'leased' AND lease_expires_at < $1 AND lease_client <> $2 LIMIT 1",
            );
            let any = any.bind(int(now.0)).bind(blob(client.as_bytes()));
            if self.db.ok(any.fetch_optional(self.db.readers()).await)?.is_none() {
                return Ok(());
            }
            let mut tx = self.db.begin().await?;
            let row = self.db.skipping_locked(
                "SELECT * FROM jobs WHERE state = 'leased' AND lease_expires_at < $1 AND lease_client <> $2
                 ORDER BY seq LIMIT 1",
            );
            let row = sqlx::query(row).bind(int(now.0)).bind(blob(client.as_bytes()));
            let Some(row) = self.db.ok(row.fetch_optional(&mut *tx).await)? else { return Ok(()) };
            let row = self.job_row(&row)?;
            self.lose(&mut tx, row, &Event::Expire, now).await?;
            self.db.ok(tx.commit().await)?;
        }
    }

    /// Takes back a lease whose client `event` says is gone, if it is.
    async fn lose(&self, tx: &mut Tx, row: JobRow, event: &Event, now: Timestamp) -> Result<()> {
        let (seq, job) = (row.seq, row.id);
        let Some(held) = row.job.state.lease().cloned() else {
            return Err(self.db.damaged("a leased job has no lease"));
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

    async fn apply(
        &self,
        tx: &mut Tx,
        row: JobRow,
        event: &Event,
        now: Timestamp,
    ) -> Result<std::result::Result<Job, Refused>> {
        self.apply_with(tx, row, event, now, None).await
    }

    /// Moves a job along and writes what changed. `proof` goes with [`Event::Verified`].
    async fn apply_with(
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
        if let Some(lease) = lease {
            let granted = sqlx::query(
                "INSERT INTO leases (id, job, client, granted_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
            )
            .bind(blob(lease.id.as_bytes()))
            .bind(blob(row.id.as_bytes()))
            .bind(blob(lease.client.as_bytes()))
            .bind(int(lease.since.0))
            .execute(&mut **tx);
            self.db.ok(granted.await)?;
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
             superseded = $15, lease_heard = $16, lease_handed = $17 WHERE seq = $18",
        )
        .bind(column.name())
        .bind(int(after.not_before.0))
        .bind(i64::from(after.failures))
        .bind(i64::from(after.lost))
        .bind(lease.map(|lease| blob(lease.id.as_bytes())))
        .bind(lease.map(|lease| blob(lease.client.as_bytes())))
        .bind(lease.map(|lease| int(lease.since.0)))
        .bind(lease.map(|lease| int(lease.expires_at.0)))
        .bind(finished.map(|finished| int(finished.0)))
        .bind(proof.map(|(proof, _)| blob(proof.sha256.as_bytes())))
        .bind(proof.map(|(proof, _)| int(proof.len)))
        .bind(proof.map(|(_, client)| blob(client.as_bytes())))
        .bind(after.state.cause().filter(|cause| *cause != DeadCause::Budget).map(DeadCause::name))
        .bind(after.lost_to.map(|client| blob(client.as_bytes())))
        .bind(i64::from(superseded))
        .bind(lease.and_then(|lease| lease.heard).map(|heard| int(heard.0)))
        .bind(lease.map(|lease| i64::from(lease.handed)))
        .bind(row.seq)
        .execute(&mut **tx);
        self.db.ok(update.await)?;
        if after.state == State::Ready {
            self.db.tell(tx, News::Ready).await?;
        }
        Ok(Ok(after))
    }

    async fn end_lease(
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
        self.db.ok(end.await).map(drop)
    }

    async fn blame(&self, tx: &mut Tx, seq: i64, error: &str) -> Result<()> {
        let update = sqlx::query("UPDATE jobs SET last_error = $1 WHERE seq = $2")
            .bind(error.to_owned())
            .bind(seq);
        self.db.ok(update.execute(&mut **tx).await).map(drop)
    }

    /// Records what bears on a client's standing, and what becomes of that. False if nobody knows the client.
    async fn record_deed(
        &self,
        tx: &mut Tx,
        client: ClientId,
        deed: Deed,
        now: Timestamp,
    ) -> Result<bool> {
        let row = self.db.locking("SELECT * FROM clients WHERE id = $1");
        let row = sqlx::query(row).bind(blob(client.as_bytes())).fetch_optional(&mut **tx);
        let Some(row) = self.db.ok(row.await)? else { return Ok(false) };
        let after = judge(&self.standing(&row)?, deed, now, &self.rules);
        let update = sqlx::query(
            "UPDATE clients SET proved = proved + $1, rejected = rejected + $2, strikes = $3, rejected_in_a_row = $4,
             rests_until = $5, quarantined = $6, draining = $7 WHERE id = $8",
        )
        .bind(i64::from(deed == Deed::Proved))
        .bind(i64::from(deed == Deed::Rejected))
        .bind(i64::from(after.strikes))
        .bind(i64::from(after.rejected))
        .bind(int(after.rests_until.0))
        .bind(i64::from(after.quarantined))
        .bind(i64::from(after.draining))
        .bind(blob(client.as_bytes()))
        .execute(&mut **tx);
        self.db.ok(update.await)?;
        Ok(true)
    }

    /// The verdict on a submission, if it is known, if there is one.
    async fn verdict(
        &self,
        tx: &mut Tx,
        job: JobId,
        submit: &Submit,
    ) -> Result<Option<Option<Verdict>>> {
        let row = sqlx::query(
            "SELECT verdict, reason FROM submissions WHERE job = $1 AND lease = $2 AND proof = $3",
        )
        .bind(blob(job.as_bytes()))
        .bind(blob(submit.lease.as_bytes()))
        .bind(blob(submit.proof.sha256.as_bytes()))
        .fetch_optional(&mut **tx);
        let Some(row) = self.db.ok(row.await)? else { return Ok(None) };
        let reason = self.optional_text(&row, "reason")?.unwrap_or_default();
        let verdict = self.optional_text(&row, "verdict")?;
        Ok(Some(verdict.map(|verdict| match verdict.as_str() {
            "accepted" => Verdict::Accepted,
            "duplicate" => Verdict::Duplicate,
            _ => Verdict::Rejected { reason },
        })))
    }

    async fn open_submission(
        &self,
        tx: &mut Tx,
        job: JobId,
        submit: &Submit,
        now: Timestamp,
    ) -> Result<()> {
        let insert = sqlx::query(
            "INSERT INTO submissions (job, lease, proof, proof_len, client, system, program_id, kind, received_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(blob(job.as_bytes()))
        .bind(blob(submit.lease.as_bytes()))
        .bind(blob(submit.proof.sha256.as_bytes()))
        .bind(int(submit.proof.len))
        .bind(blob(submit.client.as_bytes()))
        .bind(submit.system.to_string())
        .bind(blob(submit.program_id.as_slice()))
        .bind(submit.kind.to_string())
        .bind(int(now.0))
        .execute(&mut **tx);
        self.db.ok(insert.await).map(drop)
    }

    async fn record(
        &self,
        tx: &mut Tx,
        job: JobId,
        submit: &Submit,
        verdict: &'static str,
        reason: Option<&str>,
    ) -> Result<()> {
        self.metrics.judged(verdict);
        let update =
            sqlx::query("UPDATE submissions SET verdict = $1, reason = $2 WHERE job = $3 AND lease = $4 AND proof = $5")
                .bind(verdict)
                .bind(reason.map(str::to_owned))
                .bind(blob(job.as_bytes()))
                .bind(blob(submit.lease.as_bytes()))
                .bind(blob(submit.proof.sha256.as_bytes()))
                .execute(&mut **tx);
        self.db.ok(update.await).map(drop)
    }
}

// Reading rows. What cannot be read was not written by us: the database is damaged.
impl JobStore {
    fn job_row(&self, row: &AnyRow) -> Result<JobRow> {
        let lease = || -> Result<Lease> {
            Ok(Lease {
                id: LeaseId::from_bytes(self.bytes(row, "lease")?),
                client: ClientId::from_bytes(self.bytes(row, "lease_client")?),
                since: Timestamp(self.uint(row, "lease_since")?),
                expires_at: Timestamp(self.uint(row, "lease_expires_at")?),
                heard: self.optional_uint(row, "lease_heard")?.map(Timestamp),
                // Rows of an earlier version do not say.
                handed: self
                    .optional_uint(row, "lease_handed")?
                    .map_or(Ok(1), |n| u32::try_from(n).map_err(|error| self.db.damaged(error)))?,
            })
        };
        let state = match self.state_name(row)? {
            JobState::Ready => State::Ready,
            JobState::Leased => State::Leased(lease()?),
            JobState::Verifying => State::Verifying(lease()?),
            JobState::Proved => State::Proved,
            JobState::Dead | JobState::Superseded => {
                State::Dead(match self.optional_text(row, "cause")?.as_deref() {
                    None => DeadCause::Budget,
                    Some("quarantined") => DeadCause::Quarantined,
                    Some("cancelled") => DeadCause::Cancelled,
                    Some(_) => return Err(self.db.damaged("a job is dead for no known cause")),
                })
            }
        };
        let state = match self.uint(row, "superseded")? {
            0 => state,
            _ => State::Superseded(state.outcome()),
        };
        Ok(JobRow {
            seq: self.get(row, "seq")?,
            id: JobId::from_bytes(self.bytes(row, "id")?),
            target: Target {
                system: self.parsed(row, "system")?,
                program_id: self.bytes(row, "program_id")?.into(),
                kind: self.parsed(row, "kind")?,
            },
            job: Job {
                state,
                not_before: Timestamp(self.uint(row, "not_before")?),
                failures: self.small(row, "failures")?,
                lost: self.small(row, "lost")?,
                lost_to: match self.get::<Option<Vec<u8>>>(row, "lost_to")? {
                    Some(_) => Some(ClientId::from_bytes(self.bytes(row, "lost_to")?)),
                    None => None,
                },
            },
            created_at: Timestamp(self.uint(row, "created_at")?),
            due: Timestamp(self.uint(row, "due")?),
            finished_at: self.optional_uint(row, "finished_at")?.map(Timestamp),
        })
    }

    pub(crate) fn job_and_target(&self, row: &AnyRow) -> Result<(JobId, Target)> {
        self.job_row(row).map(|row| (row.id, row.target))
    }

    pub(crate) fn batch(&self, row: &AnyRow) -> Result<NewBatch> {
        Ok(NewBatch {
            blocks: self.range(row)?,
            parent_hash: self.bytes(row, "parent_hash")?.into(),
            last_hash: self.bytes(row, "last_hash")?.into(),
            statement: self.get(row, "statement")?,
            statement_digest: self.bytes(row, "statement_digest")?.into(),
            input: self.artifact(row, "input", "input_len")?,
            gas_used: self.uint(row, "gas_used")?,
            transactions: self.uint(row, "transactions")?,
            estimated_cycles: self.uint(row, "estimated_cycles")?,
        })
    }

    fn summary(&self, row: &AnyRow) -> Result<JobSummary> {
        let JobRow { id, target, job, .. } = self.job_row(row)?;
        let proved = job.state == State::Proved;
        let client = match job.state.lease() {
            Some(lease) => Some(lease.client),
            None if proved => Some(ClientId::from_bytes(self.bytes(row, "proved_by")?)),
            None => None,
        };
        Ok(JobSummary {
            job: id,
            block_numbers: self.range(row)?,
            state: job.state.name(),
            cause: job.state.cause(),
            priority: i32::try_from(self.get::<i64>(row, "priority")?)
                .map_err(|error| self.db.damaged(error))?,
            system: target.system,
            program_id: target.program_id,
            kind: target.kind,
            gas_used: self.uint(row, "gas_used")?,
            transactions: self.uint(row, "transactions")?,
            prover_inputs: self.artifact(row, "input", "input_len")?,
            client,
            progress: None,
            created_at: self.uint(row, "created_at")?,
            leased_at: self.optional_uint(row, "leased_at")?,
            finished_at: self.optional_uint(row, "finished_at")?,
            failures: job.failures,
            lost: job.lost,
            proof: if proved { Some(self.artifact(row, "proof", "proof_len")?) } else { None },
            last_error: self.optional_text(row, "last_error")?,
        })
    }

    fn standing(&self, row: &AnyRow) -> Result<Standing> {
        Ok(Standing {
            strikes: self.small(row, "strikes")?,
            rejected: self.small(row, "rejected_in_a_row")?,
            rests_until: Timestamp(self.uint(row, "rests_until")?),
            quarantined: self.uint(row, "quarantined")? != 0,
            draining: self.uint(row, "draining")? != 0,
        })
    }

    fn state_name(&self, row: &AnyRow) -> Result<JobState> {
        let text: String = self.get(row, "state")?;
        let states = [
            JobState::Ready,
            JobState::Leased,
            JobState::Verifying,
            JobState::Proved,
            JobState::Dead,
        ];
        let found = states.into_iter().find(|state| state.name() == text);
        found.ok_or_else(|| self.db.damaged("a job is in no known state"))
    }

    pub(crate) fn get<'r, T>(&self, row: &'r AnyRow, column: &str) -> Result<T>
    where
        T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
    {
        row.try_get(column).map_err(|error| self.db.damaged(error))
    }

    pub(crate) fn uint(&self, row: &AnyRow, column: &str) -> Result<u64> {
        Ok(self.get::<i64>(row, column)?.cast_unsigned())
    }

    pub(crate) fn optional_uint(&self, row: &AnyRow, column: &str) -> Result<Option<u64>> {
        Ok(self.get::<Option<i64>>(row, column)?.map(i64::cast_unsigned))
    }

    fn small(&self, row: &AnyRow, column: &str) -> Result<u32> {
        u32::try_from(self.uint(row, column)?).map_err(|error| self.db.damaged(error))
    }

    pub(crate) fn optional_text(&self, row: &AnyRow, column: &str) -> Result<Option<String>> {
        self.get(row, column)
    }

    pub(crate) fn bytes<const N: usize>(&self, row: &AnyRow, column: &str) -> Result<[u8; N]> {
        let bytes: Vec<u8> = self.get(row, column)?;
        bytes
            .try_into()
            .map_err(|_| self.db.damaged(format!("column {column} does not have {N} bytes")))
    }

    pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        row: &AnyRow,
        column: &str,
    ) -> Result<T> {
        self.get::<String>(row, column)?.parse().map_err(|error| self.db.damaged(error))
    }

    pub(crate) fn artifact(&self, row: &AnyRow, hash: &str, len: &str) -> Result<ArtifactRef> {
        Ok(ArtifactRef {
            sha256: ArtifactId::from_bytes(self.bytes(row, hash)?),
            len: self.uint(row, len)?,
        })
    }

    fn range(&self, row: &AnyRow) -> Result<BlockRange> {
        BlockRange::new(self.uint(row, "first")?, self.uint(row, "last")?)
            .map_err(|error| self.db.damaged(error))
    }
}

/// What a client hears of a verdict: no proof counts while a job's blocks are not on the chain.
fn told(verdict: Verdict, state: &State) -> Verdict {
    match (verdict, state) {
        (Verdict::Accepted | Verdict::Duplicate, State::Superseded(_)) => Verdict::Superseded,
        (verdict, _) => verdict,
    }
}

/// Reads summaries of the jobs that `filter` leaves.
fn summaries(filter: &'static str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "SELECT j.*, b.first, b.last, b.gas_used, b.transactions, b.input, b.input_len,
         (SELECT max(granted_at) FROM leases l WHERE l.job = j.id) AS leased_at
         FROM (SELECT * FROM jobs {filter}) j JOIN batches b ON b.id = j.batch ORDER BY j.seq"
    ))
}

/// SQLite's integers are signed; ours go in and come out bit by bit. (Order holds for every number a chain can reach.)
fn int(number: u64) -> i64 {
    number.cast_signed()
}

pub(crate) fn blob(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
