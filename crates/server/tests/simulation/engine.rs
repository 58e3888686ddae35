//! The job engine under test: the pure state machine over a model of the store, and beside it, on some runs, the real store.
//!
//! The model does in plain collections what the store does in SQL. Where both run, every answer is compared.

use alloy_primitives::B256;
use protocol::{
    ArtifactId, ArtifactRef, BlockRange, Capability, ClientId, Fail, FailureClass, JobId, LeaseId,
    ProofKind, ProofSystem, Submit, Verdict,
};
use server::{
    artifacts::{Artifacts, Place, Sharing},
    clock::Timestamp,
    jobs::{
        NewBatch, Target, Tip, Unlinked, Wanted,
        cost::ProvingCost,
        follows, job_id,
        party::{Party, Trust},
        standing::{Standing, StandingEvent, judge},
        state::{
            Event, Job, LONGEST_REST, Lease, Outcome, REPEATS, Refused, Rules, State, due, next,
        },
        verification::Rejection,
    },
    store::{Actor, Done, JobStore, Leased, Offer, StoreError, Submitted, Superseded},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const TARGET: Target =
    Target { system: ProofSystem::Exec, program_id: B256::ZERO, kind: ProofKind::Composite };
pub(crate) const RULES: Rules = Rules {
    lease: Duration::from_secs(60),
    max_hold: Duration::from_secs(86_400),
    max_failures: 3,
    max_lost: 5,
    max_rejected: 3,
    max_newcomers: 4,
};

/// A batch in the model.
pub(crate) struct Batch {
    pub batch: NewBatch,
    pub superseded: bool,
    pub last_word: bool,
}

/// A job in the model. Its place is its `seq`, and its batch's.
pub(crate) struct Row {
    pub id: JobId,
    pub job: Job,
    pub proof: Option<ArtifactRef>,
    created_at: Timestamp,
    due: Timestamp,
}

type SubmissionKey = (JobId, LeaseId, ArtifactId);

pub(crate) struct Engine {
    pub batches: Vec<Batch>,
    pub rows: Vec<Row>,
    index: BTreeMap<JobId, usize>,
    leases: BTreeMap<LeaseId, (ClientId, Party)>,
    clients: BTreeMap<ClientId, Standing>,
    /// Clients that had a proof accepted.
    proved: BTreeSet<ClientId>,
    parties: BTreeMap<Party, Trust>,
    submissions: BTreeMap<SubmissionKey, (Submit, Timestamp, Option<Verdict>)>,
    /// The latest time at which a client was heard or a batch came in.
    latest: Timestamp,
    real: Option<Real>,
}

struct Real {
    folder: TempDir,
    store: JobStore,
}

impl Real {
    async fn open(folder: &TempDir) -> JobStore {
        JobStore::open(&folder.path().join("jobs.sqlite"), RULES).await.unwrap()
    }
}

/// Asks the real store too, if there is one, and compares. `answer of` a call that tells facts besides is compared alone.
macro_rules! compare {
    ($self:ident, $model:expr, answer of $call:ident $args:tt) => {
        compare!($self, $model, |done: Done<_>| done.value, $call $args)
    };
    ($self:ident, $model:expr, $call:ident $args:tt) => {
        compare!($self, $model, |answer| answer, $call $args)
    };
    ($self:ident, $model:expr, $answer:expr, $call:ident $args:tt) => {{
        if let Some(real) = &$self.real {
            let found = real.store.$call $args.await.map($answer);
            let found = found.map_err(|error| refused(error));
            let expected = $model;
            assert_eq!(found, expected, "the store does not do as the model");
        }
    }};
}

/// Whoever decides something in the simulation.
fn by() -> Actor {
    Actor::new("the simulation")
}

fn refused(error: StoreError) -> Refused {
    match error {
        StoreError::Refused { refused, .. } => refused,
        other => panic!("the store failed: {other}"),
    }
}

impl Engine {
    pub(crate) async fn new(with_real: bool) -> Self {
        let real = if with_real {
            // Nothing here has to outlive a power cut.
            let memory = std::path::Path::new("/dev/shm");
            let folder = if memory.is_dir() {
                tempfile::tempdir_in(memory).unwrap()
            } else {
                tempfile::tempdir().unwrap()
            };
            let store = Real::open(&folder).await;
            Some(Real { folder, store })
        } else {
            None
        };
        Self {
            batches: Vec::new(),
            rows: Vec::new(),
            index: BTreeMap::new(),
            leases: BTreeMap::new(),
            clients: BTreeMap::new(),
            proved: BTreeSet::new(),
            parties: BTreeMap::new(),
            submissions: BTreeMap::new(),
            latest: Timestamp(0),
            real,
        }
    }

    pub(crate) fn find(&self, job: JobId) -> usize {
        self.index[&job]
    }

    pub(crate) fn is_superseded(&self, batch: &NewBatch) -> bool {
        let row = self.index.get(&job_id(batch, &TARGET));
        row.is_some_and(|row| self.batches[*row].superseded)
    }

    pub(crate) fn live(&self) -> Vec<&NewBatch> {
        let mut live: Vec<_> =
            self.batches.iter().filter(|b| !b.superseded).map(|b| &b.batch).collect();
        live.sort_by_key(|batch| batch.blocks.first());
        live
    }

    pub(crate) fn tip(&self) -> Option<Tip> {
        let last = *self.live().last()?;
        Some(Tip { last: last.blocks.last(), last_hash: last.last_hash })
    }

    /// No server's clock may be behind this.
    pub(crate) fn latest(&self) -> Timestamp {
        let jobs = self.rows.iter().map(|row| &row.job);
        let waiting =
            jobs.filter(|job| matches!(job.state, State::Ready | State::Superseded(Outcome::Open)));
        let waiting = waiting.map(|job| job.not_before);
        let rests = self.clients.values().map(|client| client.rests_until).chain(waiting);
        let longest = u64::try_from(LONGEST_REST.as_millis()).expect("ten minutes");
        let rests = rests.map(|until| Timestamp(until.0.saturating_sub(longest)));
        rests.chain([self.latest]).max().expect("there is one")
    }

    fn apply(&mut self, row: usize, event: &Event, now: Timestamp) -> Result<Job, Refused> {
        let after = next(&self.rows[row].job, event, now, &RULES)?;
        if let Some(lease) = after.state.lease() {
            self.leases.insert(lease.id, (lease.client, lease.party));
        }
        self.rows[row].job = after.clone();
        Ok(after)
    }

    fn touch_client(&mut self, client: ClientId, now: Timestamp) -> Standing {
        self.latest = self.latest.max(now);
        *self.clients.entry(client).or_default()
    }

    fn deed(&mut self, client: ClientId, deed: StandingEvent, now: Timestamp) {
        if let Some(standing) = self.clients.get_mut(&client) {
            *standing = judge(standing, deed, now, &RULES);
            if deed == StandingEvent::Proved {
                self.proved.insert(client);
            }
        }
    }

    /// Counts leases that ended badly under a token, if `client` is a newcomer there, and says how far it is trusted then.
    fn strike(
        &mut self,
        party: Party,
        client: ClientId,
        strikes: u32,
        now: Timestamp,
    ) -> Option<Trust> {
        let newcomer = self.clients.contains_key(&client) && !self.proved.contains(&client);
        if !newcomer || !matches!(party, Party::Token(_)) {
            return None;
        }
        let trust = self.parties.entry(party).or_insert(Trust { strikes: 0, struck_at: now });
        if strikes > 0 {
            *trust = Trust { strikes: trust.strikes + strikes, struck_at: now };
        }
        Some(*trust)
    }

    /// Whether a client rests for what it did itself.
    pub(crate) fn rests(&self, client: ClientId, now: Timestamp) -> bool {
        self.clients.get(&client).is_some_and(|standing| standing.rests_until > now)
    }

    /// How many leases the newcomers of a party have.
    fn newcomers(&self, party: Party) -> u32 {
        let leases = self.rows.iter().filter_map(|row| row.job.state.lease());
        let newcomers = leases.filter(|l| l.party == party && !self.proved.contains(&l.client));
        u32::try_from(newcomers.count()).expect("they are few")
    }

    pub(crate) async fn enqueue(
        &mut self,
        batch: &NewBatch,
        now: Timestamp,
    ) -> Result<JobId, Unlinked> {
        let id = job_id(batch, &TARGET);
        let model = self.enqueue_in_model(id, batch, now);
        if let Some(real) = &self.real {
            let found =
                real.store.enqueue(batch, &TARGET.into(), now).await.map_err(|error| match error {
                    StoreError::Unlinked(unlinked) => unlinked,
                    other => panic!("the store failed: {other}"),
                });
            assert_eq!(found, model.clone().map(|job| vec![job]));
        }
        model
    }

    fn enqueue_in_model(
        &mut self,
        id: JobId,
        batch: &NewBatch,
        now: Timestamp,
    ) -> Result<JobId, Unlinked> {
        let known = self.index.get(&id).copied();
        if known.is_some_and(|row| !self.batches[row].superseded) {
            return Ok(id);
        }
        if let Some(tip) = self.tip() {
            follows(&tip, batch)?;
        }
        match known {
            Some(row) => {
                self.batches[row].superseded = false;
                self.apply(row, &Event::Revive, now).unwrap();
            }
            None => {
                self.latest = self.latest.max(now);
                self.batches.push(Batch {
                    batch: batch.clone(),
                    superseded: false,
                    last_word: false,
                });
                let (job, due) = (Job::new(now), due(now, 0));
                self.index.insert(id, self.rows.len());
                self.rows.push(Row { id, job, proof: None, created_at: now, due });
            }
        }
        Ok(id)
    }

    /// `None` if the store refuses: the chain moved, or is final there.
    pub(crate) async fn supersede(
        &mut self,
        from: u64,
        tip: Option<Tip>,
        now: Timestamp,
    ) -> Option<Superseded> {
        let gone = |b: &Batch| !b.superseded && b.batch.blocks.last() >= from;
        let last_word = self.batches.iter().any(|b| gone(b) && b.last_word);
        let model = if self.tip() != tip || last_word {
            None
        } else {
            let rows: Vec<usize> =
                (0..self.rows.len()).filter(|row| gone(&self.batches[*row])).collect();
            let mut leases = Vec::new();
            for row in &rows {
                leases.extend(self.rows[*row].job.state.lease().map(|lease| lease.id));
                self.apply(*row, &Event::Supersede, now).unwrap();
                self.batches[*row].superseded = true;
            }
            Some(Superseded { batches: rows.len() as u64, leases, tip: self.tip() })
        };
        if let Some(real) = &self.real {
            let found = match real.store.supersede(from, tip, now).await {
                Ok(found) => Some(found),
                Err(StoreError::TipMoved { .. } | StoreError::Final { .. }) => None,
                Err(error) => panic!("the store failed: {error}"),
            };
            assert_eq!(found, model);
        }
        model
    }

    pub(crate) async fn finalize(&mut self, last: u64) {
        let end = self.live().into_iter().rfind(|batch| batch.blocks.last() <= last);
        let Some(end) = end else { return };
        let end = Tip { last: end.blocks.last(), last_hash: end.last_hash };
        let mut count = 0u64;
        for batch in &mut self.batches {
            if !batch.superseded && !batch.last_word && batch.batch.blocks.last() <= last {
                batch.last_word = true;
                count += 1;
            }
        }
        compare!(self, Ok::<_, Refused>(count), finalize(end));
    }

    pub(crate) async fn lease(
        &mut self,
        client: ClientId,
        party: Party,
        lease: LeaseId,
        asked: Timestamp,
        now: Timestamp,
    ) -> Offer {
        let model = self.lease_in_model(client, party, lease, asked, now);
        let able =
            Capability { system: TARGET.system, program_id: TARGET.program_id, mocked: true };
        compare!(self, Ok::<_, Refused>(model.clone()), answer of lease(client, party, &[able], lease, asked, now));
        model
    }

    fn lease_in_model(
        &mut self,
        client: ClientId,
        party: Party,
        lease: LeaseId,
        asked: Timestamp,
        now: Timestamp,
    ) -> Offer {
        let (mut chosen, rows) = (None, 0..self.rows.len());
        for row in rows.clone() {
            let held = self.rows[row].job.state.lease().filter(|held| held.client != client);
            if let Some(held) = held.cloned()
                && self.apply(row, &Event::Expire, now).is_ok()
            {
                self.strike(held.party, held.client, 1, now);
            }
        }
        let mut lost = Vec::new();
        for row in rows.clone() {
            let State::Leased(Lease { client: holder, party, .. }) = self.rows[row].job.state
            else {
                continue;
            };
            if holder != client {
                continue;
            }
            if chosen.is_some() {
                let gone = self.apply(row, &Event::Expire, now).is_ok();
                lost.extend(gone.then_some(party));
            } else if self.apply(row, &Event::Abandon { client, asked }, now).is_err() {
                chosen = Some(row);
            } else {
                lost.push(party);
            }
        }
        let standing = self.touch_client(client, now);
        for party in lost {
            self.strike(party, client, 1, now);
        }
        let trust = self.strike(party, client, 0, now);
        if chosen.is_none() || standing.quarantined {
            if standing.quarantined {
                return Offer::Quarantined;
            }
            if standing.draining {
                return Offer::Draining;
            }
            if standing.rests_until > now {
                return Offer::Resting { until: standing.rests_until };
            }
            if let Some(trust) = trust {
                if trust.rests_until() > now {
                    return Offer::Resting { until: trust.rests_until() };
                }
                if self.newcomers(party) >= trust.may_hold(&RULES) {
                    return Offer::Resting { until: now + Duration::from_secs(5) };
                }
            }
            let ready = |row: &usize| {
                self.rows[*row].job.state == State::Ready && self.rows[*row].job.not_before <= now
            };
            let order = |row: &usize| {
                let r = &self.rows[*row];
                (r.job.lost_to == Some(client), r.due, *row)
            };
            chosen = rows.clone().filter(ready).min_by_key(order);
        }
        let Some(row) = chosen else {
            let jobs = self.rows.iter().map(|row| &row.job);
            let next = jobs.filter_map(|job| match &job.state {
                State::Ready => Some(job.not_before).filter(|at| *at > now),
                State::Leased(held) => Some(held.expires_at + Duration::from_millis(1)),
                _ => None,
            });
            return Offer::Nothing { for_others: false, next: next.min() };
        };
        let job = self.apply(row, &Event::Lease { client, party, lease }, now).unwrap();
        let State::Leased(lease) = job.state else { panic!("a lease was granted") };
        let (batch, job) = (&self.batches[row].batch, self.rows[row].id);
        let (blocks, input) = (batch.blocks, batch.input);
        Offer::Job(Box::new(Leased { job, lease, blocks, target: TARGET, input }))
    }

    pub(crate) async fn heartbeat(
        &mut self,
        job: JobId,
        lease: LeaseId,
        now: Timestamp,
    ) -> Result<Standing, Refused> {
        let row = self.find(job);
        let state = self.rows[row].job.state.clone();
        let client = state.lease().map(|held| held.client);
        let standing = client.and_then(|client| self.clients.get(&client));
        let quarantined = standing.is_some_and(|standing| standing.quarantined);
        let model = match state {
            State::Leased(held) if held.id == lease && quarantined => {
                let class = FailureClass::Cancelled;
                self.touch_client(held.client, now);
                self.apply(row, &Event::Fail { lease, class }, now).expect("it is the job's lease");
                Err(Refused::Quarantined)
            }
            _ => self
                .apply(row, &Event::Heartbeat { lease }, now)
                .map(|_| client.map_or_else(Standing::default, |c| self.touch_client(c, now))),
        };
        compare!(self, model, heartbeat(job, lease, now));
        model
    }

    fn verdict_for_client(&self, row: usize, verdict: Verdict) -> Verdict {
        match (verdict, self.batches[row].superseded) {
            (Verdict::Accepted | Verdict::Duplicate, true) => Verdict::Superseded,
            (verdict, _) => verdict,
        }
    }

    pub(crate) async fn submit(
        &mut self,
        job: JobId,
        submit: &Submit,
        now: Timestamp,
    ) -> Submitted {
        let (row, key) = (self.find(job), (job, submit.lease, submit.proof.sha256));
        self.touch_client(submit.client, now);
        let held = self.rows[row].job.state.lease().filter(|held| held.id == submit.lease);
        let time = held.map(|held| now.after(held.since));
        let known = self.submissions.entry(key).or_insert_with(|| (submit.clone(), now, None));
        let model = match &known.2 {
            Some(verdict) => {
                let verdict = verdict.clone();
                Submitted::Judged(self.verdict_for_client(row, verdict))
            }
            None => match self.apply(row, &Event::Submit { lease: submit.lease }, now) {
                Ok(_) => {
                    let statement = self.batches[row].batch.statement.clone();
                    let effort = ProvingCost { time, ..ProvingCost::default() };
                    Submitted::Verify(Wanted { target: TARGET, statement, effort })
                }
                Err(_) => {
                    self.record(key, Verdict::Duplicate);
                    Submitted::Judged(self.verdict_for_client(row, Verdict::Duplicate))
                }
            },
        };
        compare!(self, Ok::<_, Refused>(model.clone()), answer of submit(job, submit, now));
        model
    }

    fn record(&mut self, key: SubmissionKey, verdict: Verdict) {
        self.submissions.get_mut(&key).expect("it was handed in").2 = Some(verdict);
    }

    pub(crate) async fn judge(
        &mut self,
        job: JobId,
        submit: &Submit,
        valid: bool,
        now: Timestamp,
    ) -> Verdict {
        let (row, key) = (self.find(job), (job, submit.lease, submit.proof.sha256));
        let verdict = match self.submissions[&key].2.clone() {
            Some(verdict) => verdict,
            None if valid => {
                let verdict = if self.apply(row, &Event::Verified, now).is_ok() {
                    self.rows[row].proof = Some(submit.proof);
                    self.deed(submit.client, StandingEvent::Proved, now);
                    if let Some((client, party)) = self.leases.get(&submit.lease)
                        && *client == submit.client
                        && let Some(trust) = self.parties.get_mut(party)
                    {
                        trust.strikes = 0;
                    }
                    Verdict::Accepted
                } else {
                    Verdict::Duplicate
                };
                self.record(key, verdict.clone());
                verdict
            }
            None => {
                let _of_another_lease =
                    self.apply(row, &Event::Rejected { lease: submit.lease }, now);
                if let Some((client, party)) = self.leases.get(&submit.lease).copied()
                    && client == submit.client
                {
                    self.deed(submit.client, StandingEvent::Rejected, now);
                    self.strike(party, client, 1, now);
                }
                let verdict = Verdict::Rejected { reason: Rejection::WrongStatement.to_string() };
                self.record(key, verdict.clone());
                verdict
            }
        };
        let model = self.verdict_for_client(row, verdict);
        let checked = if valid { Ok(()) } else { Err(Rejection::WrongStatement) };
        compare!(self, Ok::<_, Refused>(model.clone()), answer of judge(job, submit, checked, now));
        model
    }

    pub(crate) async fn fail(
        &mut self,
        client: ClientId,
        job: JobId,
        lease: LeaseId,
        class: FailureClass,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let row = self.find(job);
        let held = self.rows[row].job.state.lease().cloned();
        let stolen = held.as_ref().is_some_and(|held| held.id == lease && held.client != client);
        let model = match stolen {
            true => Err(Refused::NotTheLease),
            false => self.apply(row, &Event::Fail { lease, class }, now).map(drop),
        };
        if let (Ok(()), Some(held)) = (&model, held)
            && class != FailureClass::Cancelled
        {
            self.deed(held.client, StandingEvent::Failed, now);
            self.strike(held.party, held.client, 1, now);
        }
        let fail = Fail { client, lease, class, message: "no".into() };
        compare!(self, model, fail(job, &fail, now));
        model
    }

    pub(crate) async fn requeue(&mut self, job: JobId, now: Timestamp) -> Result<(), Refused> {
        let row = self.find(job);
        let model = self.apply(row, &Event::Requeue, now).map(drop);
        compare!(self, model, requeue(job, &by(), now));
        model
    }

    pub(crate) async fn cancel(&mut self, job: JobId, now: Timestamp) -> Result<(), Refused> {
        let row = self.find(job);
        let model = self.apply(row, &Event::Cancel, now).map(drop);
        compare!(self, model, cancel(job, &by(), now));
        model
    }

    pub(crate) async fn prioritise(&mut self, job: JobId, priority: i32, now: Timestamp) {
        let row = self.find(job);
        self.rows[row].due = due(self.rows[row].created_at, priority);
        compare!(self, Ok::<_, Refused>(()), prioritise(job, priority, &by(), now));
    }

    pub(crate) async fn decide(&mut self, client: ClientId, deed: StandingEvent, now: Timestamp) {
        if self.clients.contains_key(&client) {
            self.deed(client, deed, now);
            compare!(self, Ok::<_, Refused>(()), decide(client, deed, &by(), now));
        }
    }

    pub(crate) async fn unjudged(&mut self, before: Timestamp) -> Vec<(JobId, Submit)> {
        let open = self
            .submissions
            .iter()
            .filter(|(_, (_, at, verdict))| verdict.is_none() && *at <= before);
        let model: Vec<_> = open.map(|((job, ..), (submit, ..))| (*job, submit.clone())).collect();
        if let Some(real) = &self.real {
            let mut found = real.store.unjudged(before).await.unwrap();
            found.sort_by_key(|(job, submit)| (*job, submit.lease, submit.proof.sha256));
            assert_eq!(found, model);
        }
        model
    }

    /// A server's start. The database has been closed and opened since the last.
    pub(crate) async fn restart(&mut self, alone: bool, now: Timestamp) {
        if let Some(real) = &mut self.real
            && alone
        {
            real.store.close().await;
            real.store = Real::open(&real.folder).await;
            let latest = self.latest();
            let real = self.real.as_ref().expect("it was there");
            assert!(real.store.now().await.unwrap() >= latest, "time does not run backwards");
        }
        if alone {
            for row in 0..self.rows.len() {
                self.apply(row, &Event::ServerRestarted, now).unwrap();
            }
            compare!(self, Ok::<_, Refused>(()), restart(now));
        }
    }

    /// What must be true after every step.
    pub(crate) fn check(&self) {
        let live = self.live();
        for pair in live.windows(2) {
            let tip = Tip { last: pair[0].blocks.last(), last_hash: pair[0].last_hash };
            follows(&tip, pair[1]).expect("the chain of batches has no gap and no fork");
        }
        for (row, batch) in self.rows.iter().zip(&self.batches) {
            let job = &row.job;
            let gone = matches!(job.state, State::Superseded(_));
            assert_eq!(gone, batch.superseded, "a job is on the chain with its batch");
            assert_eq!(row.proof.is_some(), job.state.outcome() == Outcome::Proved, "{job:?}");
            let open = job.state.outcome() == Outcome::Open;
            let (failures, lost) = (RULES.max_failures, RULES.max_lost);
            assert!(!open || (job.failures < failures * REPEATS && job.lost < lost * REPEATS));
            assert!(!open || job.failed_by.len() < failures as usize, "{job:?}");
        }
        for party in self.parties.keys() {
            assert!(self.newcomers(*party) <= RULES.max_newcomers, "newcomers take too much");
        }
    }

    /// What must be true of the real store at the end.
    pub(crate) async fn check_real(&self) {
        let Some(real) = &self.real else { return };
        let place = Place::Folder(real.folder.path().into(), Sharing::Alone);
        let artifacts = Artifacts::open(&place, 1 << 20).unwrap();
        let report = real.store.fsck(&artifacts).await.unwrap();
        // The simulation has no artifacts.
        let odd = report.findings.iter().filter(|finding| !finding.problem.contains("missing"));
        assert_eq!(odd.collect::<Vec<_>>(), [] as [&server::fsck::Finding; 0]);
        assert_eq!(report.jobs, self.rows.len() as u64, "no job was lost");
        let through = self.rows.iter().zip(&self.batches).filter(|(_, b)| !b.superseded);
        let mut through: Vec<(BlockRange, bool)> = through
            .map(|(row, batch)| (batch.batch.blocks, row.job.state == State::Proved))
            .collect();
        through.sort_by_key(|(blocks, _)| blocks.first());
        let proved = through.iter().take_while(|(_, proved)| *proved).last();
        let found = real.store.proved_through(&TARGET.into()).await.unwrap();
        assert_eq!(found, proved.map(|(blocks, _)| blocks.last()));
    }
}
