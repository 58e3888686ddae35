//! Leases: which client may work on which job, until when, and how that ends.

use super::{
    JobStore, Result, StoreError,
    clients::Seen,
    facts::{Done, Fact},
    rows::{JobRow, client_columns, job_columns},
};
use crate::{
    clock::Timestamp,
    database::{Tx, columns::Col},
    jobs::{
        batch::Target,
        crew::Share,
        outcome::LeaseOutcome,
        party::Party,
        standing::{Standing, StandingEvent},
        state::{Event, Lease, Refused, State, next},
    },
};
use alloy_primitives::B256;
use protocol::{
    ArtifactRef, BlockRange, Capability, ClientId, Fail, FailureClass, JobId, LeaseId, Part,
    ProofKind, ProofSystem,
};
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;

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
    /// What to do, if a part of a proof is wanted.
    pub part: Option<Part>,
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

/// What a client would find that asks for work now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// How the client stands; none if it never asked.
    pub standing: Option<Standing>,
    /// When it was heard last, as far as that is written down.
    pub last_seen: Option<Timestamp>,
    /// Whether it has a lease.
    pub held: bool,
    /// Whether another client's lease has run out.
    pub expired: bool,
    /// Whether a job is ready that it can prove.
    pub suitable: bool,
    /// Whether any job is ready.
    pub others: bool,
    /// When a job may become ready by itself.
    pub next: Option<Timestamp>,
}

impl Look {
    /// The answer, if there is nothing to write down: the client is known, has nothing, and gets nothing.
    pub fn nothing(&self, now: Timestamp) -> Option<Offer> {
        let standing = self.standing.filter(|_| !self.held)?;
        match barred(&standing, now) {
            Some(barred) => Some(barred),
            None if self.suitable || self.expired => None,
            None => Some(Offer::Nothing { for_others: self.others, next: self.next }),
        }
    }
}

/// When a job may become ready by itself.
macro_rules! next_ready {
    ($now:literal) => {
        concat!(
            "(SELECT min(t) FROM (
                 SELECT min(not_before) AS t FROM jobs WHERE state = 'ready' AND superseded = 0 AND split = 0 AND not_before > ",
            $now,
            " UNION ALL SELECT min(lease_expires_at) + 1 FROM jobs WHERE state = 'leased') AS times) AS next"
        )
    };
}

impl JobStore {
    /// Gives every lease its full time again: nobody could hear heartbeats while no server ran.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn restart(&self, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let rows = self.db.locking(concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs WHERE state = 'leased' AND state <> 'proved' AND superseded = 0 ORDER BY seq"
        ));
        for row in self.ok(sqlx::query(rows).fetch_all(&mut *tx).await)? {
            let row = self.job_row(&row)?;
            self.apply(&mut tx, row, &Event::ServerRestarted, now).await?;
        }
        self.ok(tx.commit().await)
    }

    /// Hands `client`, for which `party` is responsible, the job it can prove that is [`due`](crate::jobs::state::due) first. A client that has a lease gets the same lease again, unless
    /// it was heard on it before it `asked`: then it died on that job, and gets that one last. `lease` names a new lease and
    /// must be fresh and random. If the job is for a range of segments that nobody has begun yet, the client gets its `share`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    #[expect(clippy::too_many_arguments, reason = "who asks, what for, how much, and when")]
    pub async fn lease(
        &self,
        client: ClientId,
        party: Party,
        capabilities: &[Capability],
        lease: LeaseId,
        share: Share,
        asked: Timestamp,
        now: Timestamp,
    ) -> Result<Done<Offer>> {
        let mut facts = self.expire_silent(client, now).await?;
        let mut tx = self.db.begin_for(client).await?;
        let (held, lost) = self.held_by(&mut tx, client, party, capabilities, asked, now).await?;
        // ORDER: after the jobs it may have, since whoever decides about a job locks its client after it.
        let Seen { standing, newcomer } = self.touch_client(&mut tx, client, now).await?;
        // ORDER: parties last, and by their bytes, so that no two requests wait for each other.
        let mut strikes = BTreeMap::new();
        if newcomer {
            strikes.insert(party, 0);
        }
        for lost in &lost {
            *strikes.entry(lost.party).or_default() += 1;
        }
        let mut trust = None;
        for (whose, strikes) in strikes {
            let after = self.strike(&mut tx, whose, client, strikes, now).await?;
            trust = trust.or(after.filter(|_| whose == party));
        }
        facts.extend(lost.into_iter().map(|lost| lost.fact));
        let ask = Event::Lease { client, party, lease };
        let offer = match (held, barred(&standing, now)) {
            (_, Some(Offer::Quarantined)) => Offer::Quarantined,
            (None, Some(barred)) => barred,
            (Some(row), _) => self.grant(&mut tx, row, &ask, now).await?,
            (None, None) => {
                let waits = match &trust {
                    Some(trust) => self.newcomers_wait(&mut tx, party, trust, now).await?,
                    None => None,
                };
                match waits {
                    Some(until) => Offer::Resting { until },
                    None => match self.first_ready(&mut tx, client, capabilities, now).await? {
                        Some(row) => {
                            let row = self.cut_to_share(&mut tx, row, share, now).await?;
                            self.grant(&mut tx, row, &ask, now).await?
                        }
                        None => self.nothing_ready(&mut tx, now).await?,
                    },
                }
            }
        };
        self.ok(tx.commit().await)?;
        Ok(Done { value: offer, facts })
    }

    /// The job that `client` has and may go on with, if there is one. It loses the others. What it has under another token is left
    /// alone until that lease runs out: anybody can name a client, and a lease is a secret.
    async fn held_by(
        &self,
        tx: &mut Tx,
        client: ClientId,
        party: Party,
        capabilities: &[Capability],
        asked: Timestamp,
        now: Timestamp,
    ) -> Result<(Option<JobRow>, Vec<Lost>)> {
        let (mut held, mut lost) = (None, Vec::new());
        for row in self.leased_to(tx, client).await? {
            let held_under = row.job.state.lease().map(|lease| lease.party);
            if let (Some(Party::Token(its)), Party::Token(shown)) = (held_under, party)
                && its != shown
            {
                lost.extend(self.lose(tx, row, &Event::Expire, now).await?);
                continue;
            }
            let abandon = Event::Abandon { client, asked };
            if !capabilities.iter().any(|c| row.target.suits(c)) || held.is_some() {
                // A client that comes back with another prover cannot go on with what it had.
                lost.extend(self.lose(tx, row, &Event::Expire, now).await?);
            } else if next(&row.job, &abandon, now, &self.rules).is_ok() {
                lost.extend(self.lose(tx, row, &abandon, now).await?);
            } else {
                held = Some(row);
            }
        }
        Ok((held, lost))
    }

    /// The ready job that one of the capabilities can prove and that is [`due`](crate::jobs::state::due) first.
    async fn first_ready(
        &self,
        tx: &mut Tx,
        client: ClientId,
        capabilities: &[Capability],
        now: Timestamp,
    ) -> Result<Option<JobRow>> {
        let mut first = None;
        // A job it fell silent on comes last: another client may find out whose fault that was.
        for whose in ["(lost_to IS NULL OR lost_to <> $4)", "lost_to = $4"] {
            for capability in capabilities {
                for kind in &capability.kinds {
                    let row = self.db.skipping_locked(&format!(
                        "SELECT {} FROM jobs WHERE state = 'ready' AND superseded = 0 AND split = 0 AND not_before <= $1
                         AND system = $2 AND program_id = $3 AND kind = '{kind}' AND {whose}{} ORDER BY due, seq LIMIT 1",
                        job_columns!(),
                        small_enough(*kind, capability),
                    ));
                    let row = sqlx::query(row)
                        .bind(Col(now))
                        .bind(Col(capability.system))
                        .bind(Col(capability.program_id))
                        .bind(Col(client))
                        .fetch_optional(&mut **tx);
                    if let Some(row) = self.ok(row.await)? {
                        let row = self.job_row(&row)?;
                        let earlier = |best: &JobRow| (row.due, row.seq) < (best.due, best.seq);
                        if first.as_ref().is_none_or(earlier) {
                            first = Some(row);
                        }
                    }
                }
            }
            if first.is_some() {
                break;
            }
        }
        Ok(first)
    }

    /// Grants the lease on the job that is asked for, or the one that the client has again.
    async fn grant(&self, tx: &mut Tx, row: JobRow, ask: &Event, now: Timestamp) -> Result<Offer> {
        let (job, target, part) = (row.id, row.target, row.part);
        let after = self.apply(tx, row, ask, now).await?;
        let State::Leased(lease) = after.state else {
            return Err(self.damaged("a lease was granted, but is not there"));
        };
        let batch = sqlx::query(
            "SELECT coalesce(f.first, b.first) AS first, b.last, coalesce(f.input, b.input) AS input,
             coalesce(f.input_len, b.input_len) AS input_len FROM jobs j JOIN batches b ON b.id = j.batch
             LEFT JOIN folds f ON f.job = j.id WHERE j.id = $1",
        );
        let batch = self.ok(batch.bind(Col(job)).fetch_one(&mut **tx).await)?;
        Ok(Offer::Job(Box::new(Leased {
            job,
            lease,
            blocks: self.range(&batch)?,
            target,
            input: self.artifact(&batch, "input", "input_len")?,
            part: match part {
                Some(part) => Some(self.part_to_do(tx, &part).await?),
                None => None,
            },
        })))
    }

    /// Whether jobs wait for others, and when one may become ready by itself.
    async fn nothing_ready(&self, tx: &mut Tx, now: Timestamp) -> Result<Offer> {
        let row = sqlx::query(concat!(
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM jobs WHERE state = 'ready' AND superseded = 0 AND split = 0 AND not_before <= $1)
             THEN 1 ELSE 0 END AS others, ",
            next_ready!("$1"),
        ));
        let row = self.ok(row.bind(Col(now)).fetch_one(&mut **tx).await)?;
        let others: u64 = self.get(&row, "others")?;
        Ok(Offer::Nothing { for_others: others != 0, next: self.get(&row, "next")? })
    }

    /// Looks, without a turn to write, what [`lease`](Self::lease) would find.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn look(
        &self,
        client: ClientId,
        capabilities: &[Capability],
        now: Timestamp,
    ) -> Result<Look> {
        let suits = |(n, capability): (usize, &Capability)| {
            let kinds = capability
                .kinds
                .iter()
                .map(|kind| format!("(kind = '{kind}'{})", small_enough(*kind, capability)));
            let kinds = kinds.collect::<Vec<_>>().join(" OR ");
            let kinds = if kinds.is_empty() { "1 = 0".to_owned() } else { kinds };
            format!("(system = ${} AND program_id = ${} AND ({kinds}))", 3 + 2 * n, 4 + 2 * n)
        };
        let suits: Vec<_> = capabilities.iter().enumerate().map(suits).collect();
        let suits = if suits.is_empty() { "1 = 0".to_owned() } else { suits.join(" OR ") };
        let one = |name: &str, jobs: &str| {
            format!(
                "(SELECT count(*) FROM (SELECT 1 AS one FROM jobs WHERE {jobs} LIMIT 1) AS {name}_one) AS {name}"
            )
        };
        let ready = "state = 'ready' AND superseded = 0 AND split = 0 AND not_before <= $2";
        let sql = format!(
            "SELECT {}, {}, {}, {}, {}, {} FROM (SELECT 1 AS one) AS once LEFT JOIN clients ON clients.id = $1",
            client_columns!(),
            one("held", "state = 'leased' AND lease_client = $1"),
            one("expired", "state = 'leased' AND lease_expires_at < $2 AND lease_client <> $1"),
            one("suitable", &format!("{ready} AND ({suits})")),
            one("others", ready),
            next_ready!("$2"),
        );
        let mut row = sqlx::query(AssertSqlSafe(sql)).bind(Col(client)).bind(Col(now));
        for capability in capabilities {
            row = row.bind(Col(capability.system)).bind(Col(capability.program_id));
        }
        let row = self.ok(row.fetch_one(self.db.readers()).await)?;
        let some = |column| Ok::<_, StoreError>(self.get::<u64>(&row, column)? != 0);
        let last_seen: Option<Timestamp> = self.get(&row, "last_seen")?;
        Ok(Look {
            standing: last_seen.map(|_| self.standing(&row)).transpose()?,
            last_seen,
            held: some("held")?,
            expired: some("expired")?,
            suitable: some("suitable")?,
            others: some("others")?,
            next: self.get(&row, "next")?,
        })
    }

    /// How many jobs can be leased of each kind, `most` of them counted, and when one may become ready by itself.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn ready_for(
        &self,
        kinds: &[(ProofSystem, B256, ProofKind)],
        most: u64,
        now: Timestamp,
    ) -> Result<(Vec<u64>, Option<Timestamp>)> {
        let mut ready = Vec::new();
        for (system, program_id, kind) in kinds {
            let row = sqlx::query(
                "SELECT (SELECT count(*) FROM (SELECT 1 AS one FROM jobs WHERE state = 'ready' AND superseded = 0 AND split = 0
                     AND not_before <= $1 AND system = $2 AND program_id = $3 AND kind = $5 LIMIT $4) AS waiting)
                 + (SELECT count(*) FROM (SELECT 1 AS one FROM jobs WHERE state = 'leased' AND lease_expires_at < $1
                     AND system = $2 AND program_id = $3 AND kind = $5 LIMIT $4) AS left_behind) AS ready",
            );
            let row = row
                .bind(Col(now))
                .bind(Col(*system))
                .bind(Col(*program_id))
                .bind(Col(most))
                .bind(Col(*kind));
            let row = self.ok(row.fetch_one(self.db.readers()).await)?;
            ready.push(self.get(&row, "ready")?);
        }
        let row = sqlx::query(concat!("SELECT ", next_ready!("$1"))).bind(Col(now));
        let row = self.ok(row.fetch_one(self.db.readers()).await)?;
        Ok((ready, self.get(&row, "next")?))
    }

    /// Keeps a lease alive, and says how its client stands.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the lease is not the job's, or the job is proved or was given up, or the client is quarantined:
    /// then the job is ready for others.
    pub async fn heartbeat(&self, job: JobId, lease: LeaseId, now: Timestamp) -> Result<Standing> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let held = row.job.state.lease().cloned();
        let standing = match &held {
            Some(held) => self.touch_client(&mut tx, held.client, now).await?.standing,
            None => Standing::default(),
        };
        let proves = matches!(row.job.state, State::Leased(_));
        if standing.quarantined && proves && held.is_some_and(|held| held.id == lease) {
            self.end_without_blame(&mut tx, row, lease, now).await?;
            self.ok(tx.commit().await)?;
            return Err(StoreError::Refused { job, refused: Refused::Quarantined });
        }
        self.apply(&mut tx, row, &Event::Heartbeat { lease }, now).await?;
        self.ok(tx.commit().await)?;
        Ok(standing)
    }

    /// Takes back a lease that [`heartbeat`](Self::heartbeat) refused with [`Refused::HeldTooLong`].
    ///
    /// # Errors
    /// [`StoreError::NoSuchJob`].
    pub async fn take_back(&self, job: JobId, lease: LeaseId, now: Timestamp) -> Result<Done<()>> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let lost = match &row.job.state {
            State::Leased(held) if held.id == lease => {
                self.lose(&mut tx, row, &Event::Expire, now).await?
            }
            _ => None,
        };
        if let Some(lost) = &lost {
            self.strike(&mut tx, lost.party, lost.client, 1, now).await?;
        }
        self.ok(tx.commit().await)?;
        Ok(Done { value: (), facts: lost.into_iter().map(|lost| lost.fact).collect() })
    }

    /// The jobs that `client` is proving, in the order of service.
    async fn leased_to(&self, tx: &mut Tx, client: ClientId) -> Result<Vec<JobRow>> {
        let rows = self.db.locking(concat!(
            "SELECT ",
            job_columns!(),
            " FROM jobs WHERE state = 'leased' AND lease_client = $1 ORDER BY seq"
        ));
        let rows = sqlx::query(rows).bind(Col(client)).fetch_all(&mut **tx);
        self.ok(rows.await)?.iter().map(|row| self.job_row(row)).collect()
    }

    /// Takes back what a client is proving, without blame.
    pub(super) async fn take_all_back(
        &self,
        tx: &mut Tx,
        client: ClientId,
        now: Timestamp,
    ) -> Result<()> {
        for row in self.leased_to(tx, client).await? {
            if let Some(lease) = row.job.state.lease().map(|lease| lease.id) {
                self.end_without_blame(tx, row, lease, now).await?;
            }
        }
        Ok(())
    }

    /// Ends the live lease of a job, which is ready for others then. Neither the job nor its client is to blame.
    pub(super) async fn end_without_blame(
        &self,
        tx: &mut Tx,
        row: JobRow,
        lease: LeaseId,
        now: Timestamp,
    ) -> Result<()> {
        let class = FailureClass::Cancelled;
        self.apply(tx, row, &Event::Fail { lease, class }, now).await?;
        self.end_lease(tx, lease, LeaseOutcome::Cancelled, now).await
    }

    /// Takes a lease back from a client that could not do it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the lease is not the job's, or is another client's.
    pub async fn fail(&self, job: JobId, fail: &Fail, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let (seq, held) = (row.seq, row.job.state.lease().cloned());
        its_own(job, held.as_ref(), fail)?;
        let event = Event::Fail { lease: fail.lease, class: fail.class };
        self.apply(&mut tx, row, &event, now).await?;
        let outcome = match fail.class {
            FailureClass::Cancelled => LeaseOutcome::Cancelled,
            _ => LeaseOutcome::Failed,
        };
        self.end_lease(&mut tx, fail.lease, outcome, now).await?;
        let message: String = fail.message.chars().take(2_000).collect();
        self.set_last_error(&mut tx, seq, &format!("{}: {message}", fail.class)).await?;
        if let Some(held) = held
            && fail.class != FailureClass::Cancelled
        {
            self.record_standing_event(&mut tx, held.client, StandingEvent::Failed, now).await?;
            self.strike(&mut tx, held.party, held.client, 1, now).await?;
        }
        self.ok(tx.commit().await)
    }

    /// Takes a lease back whose client could not work, since the input is lost. Nobody is to blame, and the job rests.
    ///
    /// # Errors
    /// As [`fail`](Self::fail).
    pub async fn input_lost(&self, job: JobId, fail: &Fail, now: Timestamp) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let row = self.find(&mut tx, job).await?;
        let (seq, held) = (row.seq, row.job.state.lease());
        its_own(job, held, fail)?;
        self.apply(&mut tx, row, &Event::InputLost { lease: fail.lease }, now).await?;
        self.end_lease(&mut tx, fail.lease, LeaseOutcome::Cancelled, now).await?;
        self.set_last_error(&mut tx, seq, super::inputs::LOST).await?;
        self.ok(tx.commit().await)
    }

    /// Takes back the leases of others than `client` that ran out, each in a transaction of its own.
    pub(super) async fn expire_silent(
        &self,
        client: ClientId,
        now: Timestamp,
    ) -> Result<Vec<Fact>> {
        let mut lost = Vec::new();
        loop {
            // Mostly there are none, and nobody has to wait for a turn to write.
            let any = sqlx::query(
                "SELECT 1 FROM jobs WHERE state = 'leased' AND lease_expires_at < $1 AND lease_client <> $2 LIMIT 1",
            );
            let any = any.bind(Col(now)).bind(Col(client));
            if self.ok(any.fetch_optional(self.db.readers()).await)?.is_none() {
                return Ok(lost);
            }
            let mut tx = self.db.begin().await?;
            let row = self.db.skipping_locked(concat!(
                "SELECT ",
                job_columns!(),
                " FROM jobs WHERE state = 'leased' AND lease_expires_at < $1 AND lease_client <> $2
                 ORDER BY seq LIMIT 1"
            ));
            let row = sqlx::query(row).bind(Col(now)).bind(Col(client));
            let Some(row) = self.ok(row.fetch_optional(&mut *tx).await)? else { return Ok(lost) };
            let row = self.job_row(&row)?;
            let one = self.lose(&mut tx, row, &Event::Expire, now).await?;
            if let Some(one) = &one {
                self.strike(&mut tx, one.party, one.client, 1, now).await?;
            }
            self.ok(tx.commit().await)?;
            lost.extend(one.map(|one| one.fact));
        }
    }

    /// Takes back a lease whose client `event` says is gone, if it is. What that costs its party is the caller's to write down.
    pub(super) async fn lose(
        &self,
        tx: &mut Tx,
        row: JobRow,
        event: &Event,
        now: Timestamp,
    ) -> Result<Option<Lost>> {
        let (seq, job) = (row.seq, row.id);
        let Some(held) = row.job.state.lease().cloned() else {
            return Err(self.damaged("a leased job has no lease"));
        };
        if self.try_apply(tx, row, event, now).await?.is_err() {
            return Ok(None);
        }
        let (outcome, blame) = match event {
            Event::Expire if held.expires_at >= now => {
                (LeaseOutcome::Expired, "had the job for longer than max_hold")
            }
            Event::Expire => (LeaseOutcome::Expired, "fell silent"),
            _ => (LeaseOutcome::Abandoned, "came back without it"),
        };
        self.end_lease(tx, held.id, outcome, now).await?;
        self.set_last_error(tx, seq, &format!("client {} {blame}", held.client)).await?;
        let Lease { client, party, .. } = held;
        Ok(Some(Lost { fact: Fact::LeaseLost { job, client, outcome }, client, party }))
    }

    pub(super) async fn end_lease(
        &self,
        tx: &mut Tx,
        lease: LeaseId,
        outcome: LeaseOutcome,
        now: Timestamp,
    ) -> Result<()> {
        let end = sqlx::query(
            "UPDATE leases SET ended_at = $1, outcome = $2 WHERE id = $3 AND ended_at IS NULL",
        )
        .bind(Col(now))
        .bind(Col(outcome))
        .bind(Col(lease))
        .execute(&mut **tx);
        self.ok(end.await).map(drop)
    }
}

/// A lease that was taken back.
pub(super) struct Lost {
    fact: Fact,
    client: ClientId,
    party: Party,
}

/// Whoever learns a lease's id cannot end it: it is its client's.
fn its_own(job: JobId, held: Option<&Lease>, fail: &Fail) -> Result<()> {
    match held {
        Some(held) if held.id == fail.lease && held.client != fail.client => {
            Err(StoreError::Refused { job, refused: Refused::NotTheLease })
        }
        _ => Ok(()),
    }
}

/// A condition that a part's segments are not larger than the client can hold.
fn small_enough(kind: ProofKind, capability: &Capability) -> String {
    if kind != ProofKind::Part {
        return String::new();
    }
    let most = capability.segment_po2.unwrap_or(u32::MAX);
    format!(
        " AND (SELECT segment_po2 FROM splits WHERE splits.job = jobs.parent AND splits.plan = jobs.part_plan) <= {most}"
    )
}

/// Why a client gets no new job, if it gets none.
fn barred(standing: &Standing, now: Timestamp) -> Option<Offer> {
    match *standing {
        Standing { quarantined: true, .. } => Some(Offer::Quarantined),
        Standing { draining: true, .. } => Some(Offer::Draining),
        Standing { rests_until: until, .. } if until > now => Some(Offer::Resting { until }),
        _ => None,
    }
}
