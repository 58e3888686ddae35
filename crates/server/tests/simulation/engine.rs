//! The job engine under test: the pure state machine over a model of the store, and beside it, on some runs, the real store.
//!
//! The model does in plain collections what the store does in SQL. Where both run, every answer is compared.

use alloy_primitives::B256;
use protocol::{
    ArtifactId, ArtifactRef, Capability, ClientId, Fail, FailureClass, JobId, LeaseId, ProofKind,
    ProofSystem, Submit, Verdict,
};
use server::{
    artifacts::{Artifacts, Place, Sharing},
    clock::Timestamp,
    jobs::{
        NewBatch, Target, Tip, Unlinked, Wanted,
        cost::ProvingCost,
        crew::Share,
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

/// The proofs that are wanted before an upgrade, and after it.
pub(crate) const TARGETS: [Target; 2] = [target(0), target(1)];

const fn target(program: u8) -> Target {
    let program_id = B256::repeat_byte(program);
    Target { system: ProofSystem::Exec, program_id, kind: ProofKind::Composite }
}

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
    /// Nothing of it is left in the store.
    pub forgotten: bool,
    pub(super) created_at: Timestamp,
    pub(super) superseded_at: Timestamp,
}

/// A job in the model. Its place is its `seq`.
pub(crate) struct Row {
    pub id: JobId,
    /// The place of its batch.
    pub batch: usize,
    pub target: Target,
    pub job: Job,
    pub proof: Option<ArtifactRef>,
    pub forgotten: bool,
    /// The last thing that is said of it is that its input is lost.
    pub(super) input_lost: bool,
    pub(super) finished_at: Option<Timestamp>,
    created_at: Timestamp,
    due: Timestamp,
}

pub(super) type SubmissionKey = (JobId, LeaseId, ArtifactId);

pub(crate) struct Engine {
    pub batches: Vec<Batch>,
    pub rows: Vec<Row>,
    index: BTreeMap<JobId, usize>,
    pub(super) leases: BTreeMap<LeaseId, (JobId, ClientId, Party)>,
    pub(super) clients: BTreeMap<ClientId, Standing>,
    /// When they were heard last.
    pub(super) heard: BTreeMap<ClientId, Timestamp>,
    /// Clients that had a proof accepted.
    pub(super) proved: BTreeSet<ClientId>,
    parties: BTreeMap<Party, Trust>,
    pub(super) submissions: BTreeMap<SubmissionKey, (Submit, Timestamp, Option<Verdict>)>,
    pub(super) real: Option<Real>,
}

pub(super) struct Real {
    pub(super) folder: TempDir,
    pub(super) store: JobStore,
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

pub(super) use compare;

/// Whoever decides something in the simulation.
fn by() -> Actor {
    Actor::new("the simulation")
}

pub(super) fn refused(error: StoreError) -> Refused {
    match error {
        StoreError::Refused { refused, .. } => refused,
        other => panic!("the store failed: {other:?}"),
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
            heard: BTreeMap::new(),
            proved: BTreeSet::new(),
            parties: BTreeMap::new(),
            submissions: BTreeMap::new(),
            real,
        }
    }

    pub(crate) fn find(&self, job: JobId) -> usize {
        self.index[&job]
    }

    /// Whether the store has the job.
    pub(crate) fn knows(&self, job: JobId) -> bool {
        self.index.get(&job).is_some_and(|row| !self.rows[*row].forgotten)
    }

    /// The batch that a job is on.
    pub(crate) fn batch_of(&self, job: JobId) -> &Batch {
        &self.batches[self.rows[self.find(job)].batch]
    }

    /// The places of a batch's jobs.
    pub(crate) fn jobs_of(&self, batch: usize) -> Vec<usize> {
        (0..self.rows.len()).filter(|row| self.rows[*row].batch == batch).collect()
    }

    /// The place of a batch that the store has.
    fn place_of(&self, batch: &NewBatch) -> Option<usize> {
        let same = |b: &Batch| {
            !b.forgotten
                && b.batch.blocks == batch.blocks
                && b.batch.statement_digest == batch.statement_digest
        };
        self.batches.iter().position(same)
    }

    pub(crate) fn is_superseded(&self, batch: &NewBatch) -> bool {
        self.place_of(batch).is_some_and(|place| self.batches[place].superseded)
    }

    /// The places of the batches on the chain, in its order.
    pub(crate) fn on_chain(&self) -> Vec<usize> {
        let live = |place: &usize| {
            let batch = &self.batches[*place];
            !batch.superseded && !batch.forgotten
        };
        let mut live: Vec<_> = (0..self.batches.len()).filter(live).collect();
        live.sort_by_key(|place| self.batches[*place].batch.blocks.first());
        live
    }

    pub(crate) fn live(&self) -> Vec<&NewBatch> {
        self.on_chain().into_iter().map(|place| &self.batches[place].batch).collect()
    }

    pub(crate) fn tip(&self) -> Option<Tip> {
        let last = *self.live().last()?;
        Some(Tip { last: last.blocks.last(), last_hash: last.last_hash })
    }

    /// The last block of the last final batch.
    pub(crate) fn last_final(&self) -> Option<u64> {
        let chain = self.on_chain();
        let last = chain.into_iter().rfind(|place| self.batches[*place].last_word);
        last.map(|place| self.batches[place].batch.blocks.last())
    }

    /// No server's clock may be behind this.
    pub(crate) fn latest(&self) -> Timestamp {
        let jobs = self.rows.iter().filter(|row| !row.forgotten).map(|row| &row.job);
        let waiting =
            jobs.filter(|job| matches!(job.state, State::Ready | State::Superseded(Outcome::Open)));
        let waiting = waiting.map(|job| job.not_before);
        let last = self.batches.iter().rev().find(|batch| !batch.forgotten);
        let latest = self.heard.values().copied().chain(last.map(|batch| batch.created_at));
        let rests = self.clients.values().map(|client| client.rests_until).chain(waiting);
        let longest = u64::try_from(LONGEST_REST.as_millis()).expect("ten minutes");
        let rests = rests.map(|until| Timestamp(until.0.saturating_sub(longest)));
        rests.chain(latest).max().unwrap_or(Timestamp(0))
    }

    pub(super) fn apply(
        &mut self,
        row: usize,
        event: &Event,
        now: Timestamp,
    ) -> Result<Job, Refused> {
        let row = &mut self.rows[row];
        let after = next(&row.job, event, now, &RULES)?;
        if let Some(lease) = after.state.lease() {
            self.leases.insert(lease.id, (row.id, lease.client, lease.party));
        }
        match after.state.outcome() {
            Outcome::Open => row.finished_at = None,
            same if same == row.job.state.outcome() => {}
            Outcome::Proved | Outcome::Dead(_) => row.finished_at = Some(now),
        }
        let said = matches!(
            event,
            Event::Fail { .. }
                | Event::Expire
                | Event::Abandon { .. }
                | Event::ProofLost { .. }
                | Event::InputLost { .. }
        );
        if said {
            row.input_lost = matches!(event, Event::InputLost { .. });
        }
        row.job = after.clone();
        Ok(after)
    }

    fn touch_client(&mut self, client: ClientId, now: Timestamp) -> Standing {
        self.heard.insert(client, now);
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
        target: Target,
        now: Timestamp,
    ) -> Result<JobId, Unlinked> {
        let model = self.enqueue_in_model(batch, target, now);
        if let Some(real) = &self.real {
            let found =
                real.store.enqueue(batch, &target.into(), now).await.map_err(|error| match error {
                    StoreError::Unlinked(unlinked) => unlinked,
                    other => panic!("the store failed: {other:?}"),
                });
            assert_eq!(found, model.clone().map(|job| vec![job]));
        }
        model
    }

    fn enqueue_in_model(
        &mut self,
        batch: &NewBatch,
        target: Target,
        now: Timestamp,
    ) -> Result<JobId, Unlinked> {
        let place = self.place_of(batch);
        if let Some(place) = place.filter(|place| !self.batches[*place].superseded) {
            return Ok(self.add_job(place, target, now));
        }
        if let Some(tip) = self.tip() {
            follows(&tip, batch)?;
        }
        let place = match place {
            Some(place) => {
                self.batches[place].superseded = false;
                for row in self.jobs_of(place) {
                    self.apply(row, &Event::Revive, now).unwrap();
                }
                place
            }
            None => {
                self.batches.push(Batch {
                    batch: batch.clone(),
                    superseded: false,
                    last_word: false,
                    forgotten: false,
                    created_at: now,
                    superseded_at: now,
                });
                self.batches.len() - 1
            }
        };
        Ok(self.add_job(place, target, now))
    }

    /// Adds a job for `target` to a batch, unless it is there.
    pub(super) fn add_job(&mut self, batch: usize, target: Target, now: Timestamp) -> JobId {
        let id = job_id(&self.batches[batch].batch, &target);
        if self.knows(id) {
            return id;
        }
        self.index.insert(id, self.rows.len());
        self.rows.push(Row {
            id,
            batch,
            target,
            job: Job::new(now),
            proof: None,
            forgotten: false,
            input_lost: false,
            finished_at: None,
            created_at: now,
            due: due(now, 0),
        });
        id
    }

    /// `None` if the store refuses: the chain moved, or is final there.
    pub(crate) async fn supersede(
        &mut self,
        from: u64,
        tip: Option<Tip>,
        now: Timestamp,
    ) -> Option<Superseded> {
        let mut gone = self.on_chain();
        gone.retain(|place| self.batches[*place].batch.blocks.last() >= from);
        let last_word = gone.iter().any(|place| self.batches[*place].last_word);
        let model = if self.tip() != tip || last_word {
            None
        } else {
            let mut leases = Vec::new();
            for row in 0..self.rows.len() {
                if gone.contains(&self.rows[row].batch) {
                    leases.extend(self.rows[row].job.state.lease().map(|lease| lease.id));
                    self.apply(row, &Event::Supersede, now).unwrap();
                }
            }
            for place in &gone {
                (self.batches[*place].superseded, self.batches[*place].superseded_at) = (true, now);
            }
            Some(Superseded { batches: gone.len() as u64, leases, tip: self.tip() })
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
        for batch in self.batches.iter_mut().filter(|batch| !batch.forgotten) {
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
        target: Target,
        lease: LeaseId,
        asked: Timestamp,
        now: Timestamp,
    ) -> Offer {
        let model = self.lease_in_model(client, party, target, lease, asked, now);
        let able = Capability::new(target.system, target.program_id, true);
        compare!(self, Ok::<_, Refused>(model.clone()), answer of lease(client, party, &[able], lease, Share::ALL, asked, now));
        model
    }

    fn lease_in_model(
        &mut self,
        client: ClientId,
        party: Party,
        target: Target,
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
            if chosen.is_some() || self.rows[row].target != target {
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
                let row = &self.rows[*row];
                row.target == target && row.job.state == State::Ready && row.job.not_before <= now
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
            let mut jobs = self.rows.iter().map(|row| &row.job);
            let for_others = jobs.any(|job| job.state == State::Ready && job.not_before <= now);
            return Offer::Nothing { for_others, next: next.min() };
        };
        let job = self.apply(row, &Event::Lease { client, party, lease }, now).unwrap();
        let State::Leased(lease) = job.state else { panic!("a lease was granted") };
        let Row { id: job, batch, target, .. } = self.rows[row];
        let NewBatch { blocks, input, .. } = self.batches[batch].batch;
        Offer::Job(Box::new(Leased { job, lease, blocks, target, input, part: None }))
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
                self.touch_client(held.client, now);
                self.end_without_blame(row, lease, now);
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
        match (verdict, self.batches[self.rows[row].batch].superseded) {
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
        let its = |held: &&Lease| held.id == submit.lease && held.client == submit.client;
        let held = self.rows[row].job.state.lease().filter(its);
        let time = held.map(|held| now.after(held.since));
        let known = self.submissions.entry(key).or_insert_with(|| (submit.clone(), now, None));
        let model = match &known.2 {
            Some(verdict) => {
                let verdict = verdict.clone();
                Submitted::Judged(self.verdict_for_client(row, verdict))
            }
            None => match self.apply(row, &Event::Submit { lease: submit.lease }, now) {
                Ok(_) => {
                    let statement = self.batch_of(job).batch.statement.clone();
                    let (target, effort) =
                        (self.rows[row].target, ProvingCost { time, ..ProvingCost::default() });
                    Submitted::Verify(Wanted { target, statement, effort, part: None })
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
    ) -> Option<Verdict> {
        let (row, key) = (self.find(job), (job, submit.lease, submit.proof.sha256));
        let checked = if valid { Ok(()) } else { Err(Rejection::WrongStatement) };
        // Another server has lost it meanwhile.
        let Some((.., known)) = self.submissions.get(&key) else {
            if let Some(real) = &self.real {
                let found = real.store.judge(job, submit, checked, now).await;
                assert!(matches!(found, Err(StoreError::NotSubmitted { .. })), "{found:?}");
            }
            return None;
        };
        let verdict = match known.clone() {
            Some(verdict) => verdict,
            None if valid => {
                let verdict = if self.apply(row, &Event::Verified, now).is_ok() {
                    self.rows[row].proof = Some(submit.proof);
                    self.deed(submit.client, StandingEvent::Proved, now);
                    if let Some((_, client, party)) = self.leases.get(&submit.lease)
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
                if let Some((_, client, party)) = self.leases.get(&submit.lease).copied()
                    && client == submit.client
                {
                    self.rows[row].input_lost = false;
                    self.deed(submit.client, StandingEvent::Rejected, now);
                    self.strike(party, client, 1, now);
                }
                let verdict = Verdict::Rejected { reason: Rejection::WrongStatement.to_string() };
                self.record(key, verdict.clone());
                verdict
            }
        };
        let model = self.verdict_for_client(row, verdict);
        compare!(self, Ok::<_, Refused>(model.clone()), answer of judge(job, submit, checked, now));
        Some(model)
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

    /// Ends a job's live lease; nothing is said of the job.
    fn end_without_blame(&mut self, row: usize, lease: LeaseId, now: Timestamp) {
        let (class, input_lost) = (FailureClass::Cancelled, self.rows[row].input_lost);
        self.apply(row, &Event::Fail { lease, class }, now).expect("it is the job's lease");
        self.rows[row].input_lost = input_lost;
    }

    /// Takes a job from its client.
    pub(crate) async fn release(&mut self, job: JobId, now: Timestamp) -> Result<(), Refused> {
        let row = self.find(job);
        let model = match self.rows[row].job.state.clone() {
            State::Leased(Lease { id: lease, .. }) => {
                self.end_without_blame(row, lease, now);
                Ok(())
            }
            _ => Err(Refused::NotLeased),
        };
        if let Some(real) = &self.real {
            let found = real.store.release(job, None, &by(), now).await.map(drop).map_err(refused);
            assert_eq!(found, model);
        }
        model
    }

    pub(crate) async fn prioritise(&mut self, job: JobId, priority: i32, now: Timestamp) {
        let row = self.find(job);
        let model = match self.rows[row].job.state.outcome() {
            Outcome::Proved => Err(Refused::Proved),
            _ => Ok(()),
        };
        if model.is_ok() {
            self.rows[row].due = due(self.rows[row].created_at, priority);
        }
        compare!(self, model, prioritise(job, priority, &by(), now));
    }

    pub(crate) async fn decide(&mut self, client: ClientId, deed: StandingEvent, now: Timestamp) {
        if self.clients.contains_key(&client) {
            self.deed(client, deed, now);
            if deed == StandingEvent::Quarantine {
                for row in 0..self.rows.len() {
                    let held = match &self.rows[row].job.state {
                        State::Leased(held) if held.client == client => held.id,
                        _ => continue,
                    };
                    self.end_without_blame(row, held, now);
                }
            }
            if deed == StandingEvent::Release {
                let own = self.leases.values().filter(|(_, holder, _)| *holder == client);
                for (.., party) in own {
                    if let Some(trust) = self.parties.get_mut(party) {
                        trust.strikes = 0;
                    }
                }
            }
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
                if !self.rows[row].forgotten {
                    self.apply(row, &Event::ServerRestarted, now).unwrap();
                }
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
        for row in self.rows.iter().filter(|row| !row.forgotten) {
            let (job, batch) = (&row.job, &self.batches[row.batch]);
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
        let rows = self.rows.iter().filter(|row| !row.forgotten);
        assert_eq!(report.jobs, rows.count() as u64, "no job was lost");
        for target in TARGETS {
            let proved = |place: &usize| {
                let jobs = self.jobs_of(*place).into_iter().map(|row| &self.rows[row]);
                let (proved, open): (Vec<_>, Vec<_>) =
                    jobs.partition(|row| row.job.state == State::Proved);
                !proved.is_empty() && open.iter().all(|row| row.target != target)
            };
            let last = self.on_chain().into_iter().take_while(proved).last();
            let found = real.store.proved_through(&target.into()).await.unwrap();
            assert_eq!(found, last.map(|place| self.batches[place].batch.blocks.last()));
        }
    }
}
