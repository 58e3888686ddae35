//! Proofs in parts: clients of mixed speed that die, fail, lie and dawdle prove one job after another, in a model and in the real store
//! beside it. Whatever happens, the last part is made of proofs that cover the run, and nothing is proven twice without a reason.

use alloy_primitives::{B256, keccak256};
use protocol::{
    ArtifactRef, BlockRange, Capability, ClientId, Fail, FailureClass, JobId, JobState, LeaseId,
    PartWork, ProofKind, ProofSystem, Submit, Verdict,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use server::{
    clock::Timestamp,
    jobs::{
        NewBatch, Party, Target, Targets,
        crew::{Crew, Share},
        parts::{PartState, Run, Stage, Step, made_of, next_steps},
        state::{Event, Job, Rules, State, next},
        verification::Rejection,
    },
    store::{JobStore, Offer},
};
use std::{collections::BTreeMap, time::Duration};

const SEGMENT_PO2: u32 = 20;
const SECOND: u64 = 1_000;

/// With the real store, heartbeats are rare: parts take hours.
const RARE: u64 = 900 * SECOND;
const OFTEN: u64 = 15 * SECOND;

fn rules(beat: u64) -> Rules {
    Rules { lease: Duration::from_millis(4 * beat), ..super::engine::RULES }
}

/// What proving costs a client of speed 1, in milliseconds: a segment with its lift and its join, a batch of keccak permutations with its
/// union, a join or a resolve, and executing a segment. As measured, in proportion (docs/benchmarks.md#proofs-in-parts).
const SEGMENT: f64 = 1_100.0 * 1_000.0;
const KECCAK: f64 = 330.0 * 1_000.0;
const JOIN: f64 = 91.0 * 1_000.0;
const EXECUTE: f64 = 20.0;

const TARGET: Target =
    Target { system: ProofSystem::Exec, program_id: B256::ZERO, kind: ProofKind::Succinct };

fn id(n: usize) -> ClientId {
    ClientId::from_bytes((n as u128 + 1).to_be_bytes())
}

/// Milliseconds, rounded up.
fn whole(millis: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(millis / 1e3).as_millis()).unwrap() + 1
}

fn party(n: usize) -> Party {
    Party::Client(id(n))
}

/// What goes wrong, and how often: of a hundred parts that a client begins.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// The client dies and comes back much later.
    dies: u32,
    /// It gives up.
    fails: u32,
    /// It hands in what is no proof.
    lies: u32,
    /// It falls silent, and hands the proof in when its lease has long run out.
    late: u32,
}

/// A part in the model.
struct Row {
    work: PartWork,
    job: Job,
    begun: u32,
    /// How often its clients could not do it.
    tried: u32,
}

/// What a client is at.
struct Task {
    work: PartWork,
    lease: LeaseId,
    ends: u64,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Proves,
    Dies,
    Fails,
    Lies,
    Late,
}

struct Worker {
    speed: f64,
    /// It does nothing before.
    from: u64,
    /// It has asked, and there was nothing.
    waits: bool,
    task: Option<Task>,
}

struct World {
    rng: StdRng,
    run: Run,
    rows: Vec<Row>,
    crew: Crew,
    workers: Vec<Worker>,
    faults: Faults,
    now: u64,
    beat: u64,
    /// A client that died comes back after so many seconds at most.
    absence: u64,
    rules: Rules,
    real: Option<Real>,
    /// Time in which clients worked on what came to nothing, at speed 1.
    wasted: f64,
    /// Time that the proofs which were accepted took, at speed 1.
    worked: f64,
    leases: BTreeMap<LeaseId, PartWork>,
}

struct Real {
    store: JobStore,
    job: JobId,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(seed: u64, run: Run, speeds: &[f64], faults: Faults, with_real: bool) -> Self {
        let worker = |speed: &f64| Worker { speed: *speed, from: 0, waits: false, task: None };
        let real = match with_real {
            true => Some(Real::new(run).await),
            false => None,
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            run,
            rows: Vec::new(),
            crew: Crew::default(),
            workers: speeds.iter().map(worker).collect(),
            faults,
            now: 0,
            beat: RARE,
            absence: 7_200,
            rules: rules(RARE),
            real,
            wasted: 0.0,
            worked: 0.0,
            leases: BTreeMap::new(),
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp(self.now)
    }

    fn states(&self) -> Vec<PartState> {
        self.rows
            .iter()
            .map(|row| PartState {
                work: row.work,
                stage: Stage::of(&row.job.state),
                tried: row.tried,
            })
            .collect()
    }

    /// What the server's splitter does. False if the parts were given up.
    async fn look_after(&mut self) -> bool {
        loop {
            let crew = self.crew.len(self.at()).max(1);
            let keccak_parts = self.crew.keccak_parts(self.at());
            let steps = next_steps(self.run, &self.states(), crew, keccak_parts);
            if steps.is_empty() {
                return true;
            }
            for step in steps {
                let (now, at) = (self.now, self.at());
                match step {
                    Step::Add(work) => {
                        self.check_new(&work);
                        let there = self.rows.iter_mut().find(|row| row.work == work);
                        match there {
                            Some(row) => {
                                row.job = next(&row.job, &Event::Requeue, at, &self.rules)
                                    .expect("only a cancelled part is added again");
                            }
                            None => {
                                self.rows.push(Row { work, job: Job::new(at), begun: 0, tried: 0 })
                            }
                        }
                        if let Some(real) = &self.real {
                            assert!(
                                real.store.add_part(real.job, work, at).await.unwrap(),
                                "{work} at {now}"
                            );
                        }
                    }
                    Step::Again(work) => {
                        let row = self.rows.iter_mut().find(|row| row.work == work).unwrap();
                        row.job = next(&row.job, &Event::Requeue, at, &self.rules).unwrap();
                        if let Some(real) = &self.real {
                            real.store.try_part_again(real.id(&work), at).await.unwrap();
                        }
                    }
                    Step::Cancel(work) => {
                        let row = self.rows.iter_mut().find(|row| row.work == work).unwrap();
                        row.job = next(&row.job, &Event::Cancel, at, &self.rules).unwrap();
                        if let Some(real) = &self.real {
                            real.store.drop_part(real.id(&work), at).await.unwrap();
                        }
                    }
                    Step::Dissolve => {
                        if let Some(real) = &self.real {
                            real.store.lend_whole(real.job, at).await.unwrap();
                            assert!(real.store.splits().await.unwrap().is_empty());
                            assert_eq!(real.store.ready_parts().await.unwrap(), 0);
                        }
                        return false;
                    }
                }
            }
        }
    }

    /// A new range overlaps nothing that somebody works on.
    fn check_new(&self, work: &PartWork) {
        let PartWork::Segments { first, end } = *work else { return };
        for part in self.states() {
            if let (PartWork::Segments { first: other, end: its_end }, Stage::Ready | Stage::Held) =
                (part.work, part.stage)
            {
                assert!(end <= other || its_end <= first, "{work} overlaps {}", part.work);
            }
        }
    }

    async fn compare(&self) {
        let Some(real) = &self.real else { return };
        let mut found: Vec<_> =
            real.store.parts(real.job).await.unwrap().into_iter().map(|part| part.state).collect();
        let mut expected = self.states();
        found.sort_by_key(|part| part.work);
        expected.sort_by_key(|part| part.work);
        assert_eq!(found, expected, "the store does not do as the model, at {}", self.now);
    }

    /// Clients that fell silent lose their leases when somebody asks.
    fn expire(&mut self, asks: usize) {
        let at = self.at();
        for row in &mut self.rows {
            if row.job.state.lease().is_some_and(|held| held.client != id(asks))
                && let Ok(after) = next(&row.job, &Event::Expire, at, &self.rules)
            {
                row.job = after;
                row.tried += 1;
            }
        }
    }

    async fn ask(&mut self, worker: usize) {
        let at = self.at();
        self.crew.heard(id(worker), Some(SEGMENT_PO2), at);
        let share = self.crew.share(id(worker), at);
        self.expire(worker);
        let lease = LeaseId::from_bytes(self.rng.random());
        // What it had before it died.
        for row in &mut self.rows {
            let abandon = Event::Abandon { client: id(worker), asked: at };
            if let Ok(after) = next(&row.job, &abandon, at, &self.rules) {
                row.job = after;
                row.tried += 1;
            }
        }
        let ready = |row: &&usize| {
            let job = &self.rows[**row].job;
            job.state == State::Ready && job.not_before <= at
        };
        let rows: Vec<usize> = (0..self.rows.len()).collect();
        let others =
            rows.iter().filter(ready).find(|row| self.rows[**row].job.lost_to != Some(id(worker)));
        let chosen = others.or_else(|| rows.iter().find(ready)).copied();
        // It was not heard on what it has: it may have lost the answer, and gets the same again.
        let its = |row: &Row| {
            row.job.state.lease().filter(|held| held.client == id(worker)).map(|held| held.id)
        };
        let held = self.rows.iter().position(|row| its(row).is_some());
        let lease = held.and_then(|row| its(&self.rows[row])).unwrap_or(lease);
        let work = match held.or(chosen) {
            Some(row) => {
                let row = if held.is_some() { row } else { self.cut(row, share) };
                let event = Event::Lease { client: id(worker), party: party(worker), lease };
                self.rows[row].job = next(&self.rows[row].job, &event, at, &self.rules).unwrap();
                if held.is_none() {
                    self.rows[row].begun += 1;
                }
                let work = self.rows[row].work;
                let proved: Vec<_> =
                    self.states().into_iter().filter(|part| part.stage == Stage::Proved).collect();
                let proved: Vec<_> = proved.iter().map(|part| (part.work, part.work)).collect();
                let made_of =
                    made_of(&work, self.run, &proved).expect("all that it is made of is there");
                self.check_made_of(&work, &made_of);
                Some(work)
            }
            None => None,
        };
        if let Some(real) = &self.real {
            let found = real.ask(worker, share, lease, at).await;
            assert_eq!(
                found, work,
                "the store lends something else than the model at {}",
                self.now
            );
            self.compare().await;
        }
        let Some(work) = work else { return };
        self.leases.insert(lease, work);
        let time = self.cost(&work) / self.workers[worker].speed;
        let die = self.rng.random_range(0..100);
        let Faults { dies, fails, lies, late } = self.faults;
        let how = match die {
            n if n < dies => How::Dies,
            n if n < dies + fails => How::Fails,
            n if n < dies + fails + lies => How::Lies,
            n if n < dies + fails + lies + late => How::Late,
            _ => How::Proves,
        };
        // Whoever gives up does so at some time.
        let part = if matches!(how, How::Dies | How::Fails) {
            self.rng.random_range(0.0..1.0)
        } else {
            1.0
        };
        let ends =
            self.now + whole(time * part) + if how == How::Late { 4 * 3_600 * SECOND } else { 1 };
        self.workers[worker].task = Some(Task { work, lease, ends, how });
    }

    fn cut(&mut self, row: usize, share: Share) -> usize {
        let Row { work: PartWork::Segments { first, end }, begun: 0, .. } = self.rows[row] else {
            return row;
        };
        let ready = self
            .states()
            .iter()
            .filter(|part| part.stage == Stage::Ready)
            .map(|part| match part.work {
                PartWork::Segments { first, end } => end - first,
                _ => 0,
            })
            .sum();
        let taken = share.of(ready, self.run.segments).min(end - first);
        if taken == end - first {
            return row;
        }
        self.rows.remove(row);
        let at = self.at();
        for (first, end) in [(first, first + taken), (first + taken, end)] {
            let work = PartWork::Segments { first, end };
            self.rows.push(Row { work, job: Job::new(at), begun: 0, tried: 0 });
        }
        self.rows.len() - 2
    }

    /// What a part is made of covers it without a gap and without an overlap.
    fn check_made_of(&self, work: &PartWork, of: &[PartWork]) {
        let (mut place, end) = match *work {
            PartWork::Join { first, end } => (first, end),
            PartWork::Finish => (0, self.run.segments),
            _ => return,
        };
        let (segments, last): (Vec<PartWork>, Vec<PartWork>) = of
            .iter()
            .copied()
            .partition(|part| matches!(part, PartWork::Segments { .. } | PartWork::Join { .. }));
        for part in segments {
            assert_eq!(part.range().0, place, "{work} of {of:?}");
            place = part.range().1;
        }
        assert_eq!(place, end, "{work} of {of:?}");
        assert_eq!(last.len(), usize::from(*work == PartWork::Finish && self.run.keccak > 0));
    }

    fn cost(&self, work: &PartWork) -> f64 {
        let executed = f64::from(self.run.segments) * EXECUTE;
        let of = |work: &PartWork| {
            let proved: Vec<_> =
                self.states().into_iter().filter(|part| part.stage == Stage::Proved).collect();
            let proved: Vec<_> = proved.iter().map(|part| (part.work, ())).collect();
            made_of(work, self.run, &proved).map_or(0, |parts| parts.len())
        };
        match *work {
            PartWork::Segments { first, end } => executed + f64::from(end - first) * SEGMENT - JOIN,
            PartWork::Keccak { first, end } => executed + f64::from(end - first) * KECCAK - JOIN,
            PartWork::Unite { .. } | PartWork::Join { .. } => (of(work) - 1) as f64 * JOIN,
            PartWork::Finish => (of(work).max(2) - 1) as f64 * JOIN,
        }
    }

    /// A client comes to the end of what it does.
    async fn end(&mut self, worker: usize) {
        let Task { work, lease, how, .. } =
            self.workers[worker].task.take().expect("it is at work");
        let (at, cost) = (self.at(), self.cost(&work));
        self.workers[worker].from = self.now;
        let Some(row) = self.rows.iter().position(|row| row.work == work) else {
            panic!("{work} is gone")
        };
        let lives = self.rows[row].job.state.lease().is_some_and(|held| held.id == lease);
        match how {
            How::Dies => {
                self.workers[worker].from =
                    self.now + self.rng.random_range(1..self.absence) * SECOND;
                self.wasted += cost;
                return;
            }
            How::Fails => {
                self.wasted += cost;
                let event = Event::Fail { lease, class: FailureClass::BackendFailed };
                if let Ok(after) = next(&self.rows[row].job, &event, at, &self.rules) {
                    self.rows[row].job = after;
                    self.rows[row].tried += 1;
                }
                if let Some(real) = &self.real {
                    let _no_longer_its = real.fail(&work, worker, lease, at).await;
                }
                return;
            }
            How::Lies | How::Late | How::Proves => {}
        }
        let submit = Event::Submit { lease };
        if let Ok(after) = next(&self.rows[row].job, &submit, at, &self.rules) {
            self.rows[row].job = after;
        }
        let judged = match how {
            How::Lies => Event::Rejected { lease },
            _ => Event::Verified,
        };
        let before = self.rows[row].job.state.clone();
        let after = next(&self.rows[row].job, &judged, at, &self.rules);
        let accepted = how != How::Lies && after.is_ok();
        if let Ok(after) = after {
            self.rows[row].job = after;
            self.rows[row].tried += u32::from(how == How::Lies);
        }
        if let Some(real) = &self.real {
            let verdict = real.hand_in(&work, worker, lease, how != How::Lies, at).await;
            assert_eq!(
                verdict == Verdict::Accepted,
                accepted,
                "{work} after {before:?}: {verdict:?}"
            );
        }
        match accepted {
            true => {
                self.worked += cost;
                if let PartWork::Segments { first, end } = work {
                    let took = cost / self.workers[worker].speed;
                    if lives {
                        let cycles = u64::from(end - first) << SEGMENT_PO2;
                        self.crew.proved(id(worker), cycles, Duration::from_secs_f64(took / 1e3));
                    }
                }
            }
            false => self.wasted += cost,
        }
    }

    /// Clients that prove keep their leases.
    async fn beat(&mut self) {
        let at = self.at();
        for worker in 0..self.workers.len() {
            let Some(task) = &self.workers[worker].task else { continue };
            if task.how == How::Late {
                continue;
            }
            self.crew.heard_again(id(worker), at);
            let (work, lease) = (task.work, task.lease);
            let Some(row) = self.rows.iter_mut().find(|row| row.work == work) else { continue };
            match next(&row.job, &Event::Heartbeat { lease }, at, &self.rules) {
                Ok(after) => {
                    row.job = after;
                    if let Some(real) = &self.real {
                        real.store.heartbeat(real.id(&work), lease, at).await.unwrap();
                    }
                }
                // It is told to stop.
                Err(_) => {
                    let spent = self.cost(&work);
                    self.wasted += spent;
                    self.workers[worker].task = None;
                    self.workers[worker].from = self.now;
                }
            }
        }
    }

    /// Proves the job. Returns how long that took, in milliseconds; none if its parts were given up.
    async fn prove(&mut self) -> Option<u64> {
        for _ in 0..2_000_000 {
            // A part may have been given up when somebody asked.
            if !self.look_after().await {
                return None;
            }
            if self
                .states()
                .iter()
                .any(|part| part.work == PartWork::Finish && part.stage == Stage::Proved)
            {
                self.compare().await;
                return Some(self.now);
            }
            for worker in 0..self.workers.len() {
                if self.workers[worker].task.is_none() && self.workers[worker].from <= self.now {
                    self.ask(worker).await;
                    self.workers[worker].waits = self.workers[worker].task.is_none();
                    if self.workers[worker].waits {
                        // It is held at the server until there is something, and asks again by itself later.
                        self.workers[worker].from = self.now + self.beat;
                    }
                }
            }
            let ends =
                self.workers.iter().filter_map(|worker| worker.task.as_ref()).map(|task| task.ends);
            let wakes = self
                .workers
                .iter()
                .filter(|worker| worker.task.is_none())
                .map(|worker| worker.from);
            let beat = (self.now / self.beat + 1) * self.beat;
            let then =
                ends.chain(wakes).min().expect("somebody does something").max(self.now).min(beat);
            let beats = then == beat;
            self.now = then;
            if beats {
                self.beat().await;
            }
            for worker in 0..self.workers.len() {
                if self.workers[worker].task.as_ref().is_some_and(|task| task.how != How::Late) {
                    self.crew.heard_again(id(worker), self.at());
                }
            }
            for worker in 0..self.workers.len() {
                if self.workers[worker].task.as_ref().is_some_and(|task| task.ends <= self.now) {
                    self.end(worker).await;
                    if !self.look_after().await {
                        return None;
                    }
                    self.compare().await;
                    // Who waits is called.
                    let now = self.now;
                    for waiting in self.workers.iter_mut().filter(|worker| worker.waits) {
                        waiting.from = now;
                    }
                }
            }
        }
        panic!("it is stuck at {}: {:?}", self.now, self.states());
    }
}

impl Real {
    async fn new(run: Run) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.unwrap();
        let store = JobStore::open(&folder.path().join("jobs.sqlite"), rules(RARE))
            .await
            .unwrap()
            .dividing(true);
        let batch = NewBatch {
            blocks: BlockRange::new(1, 1).unwrap(),
            parent_hash: B256::ZERO,
            last_hash: B256::repeat_byte(1),
            statement: vec![1; 448],
            statement_digest: keccak256([1; 448]),
            input: ArtifactRef::of(b"input"),
            gas_used: 1,
            transactions: 1,
            estimated_cycles: 1,
            deposits: None,
        };
        let job = store.enqueue(&batch, &Targets::from(TARGET), Timestamp(0)).await.unwrap()[0];
        let (client, lease) = (id(0), LeaseId::from_bytes([9; 16]));
        let offer = store
            .lease(client, party(0), &[able()], lease, Share::ALL, Timestamp(0), Timestamp(0))
            .await;
        assert!(
            matches!(offer.unwrap().value, Offer::Nothing { .. }),
            "nobody gets it before it is divided"
        );
        assert_eq!(store.undivided().await.unwrap().map(|job| job.job), Some(job));
        store.divide(job, ArtifactRef::of(b"plan"), SEGMENT_PO2, run, Timestamp(0)).await.unwrap();
        Self { store, job, _folder: folder }
    }

    fn id(&self, work: &PartWork) -> JobId {
        server::jobs::parts::part_id(self.job, ArtifactRef::of(b"plan").sha256, work)
    }

    async fn ask(
        &self,
        worker: usize,
        share: Share,
        lease: LeaseId,
        at: Timestamp,
    ) -> Option<PartWork> {
        let offer =
            self.store.lease(id(worker), party(worker), &[able()], lease, share, at, at).await;
        match offer.unwrap().value {
            Offer::Job(leased) => {
                let part = leased.part.expect("a part is lent, not the whole");
                assert_eq!(part.segment_po2, SEGMENT_PO2);
                Some(part.work)
            }
            _ => None,
        }
    }

    async fn fail(
        &self,
        work: &PartWork,
        worker: usize,
        lease: LeaseId,
        at: Timestamp,
    ) -> Result<(), server::store::StoreError> {
        let fail = Fail {
            client: id(worker),
            lease,
            class: FailureClass::BackendFailed,
            message: String::new(),
        };
        self.store.fail(self.id(work), &fail, at).await?;
        // So that it need not rest, which the model does not know.
        let by = server::store::Actor::new("the simulation");
        self.store.decide(id(worker), server::jobs::StandingEvent::Release, &by, at).await
    }

    async fn hand_in(
        &self,
        work: &PartWork,
        worker: usize,
        lease: LeaseId,
        valid: bool,
        at: Timestamp,
    ) -> Verdict {
        let proof = format!("{work} {valid}");
        let submit = Submit {
            client: id(worker),
            lease,
            system: TARGET.system,
            program_id: TARGET.program_id,
            kind: ProofKind::Part,
            proof: ArtifactRef::of(proof.as_bytes()),
        };
        let job = self.id(work);
        let _to_be_judged = self.store.submit(job, &submit, at).await.unwrap();
        let checked = if valid { Ok(()) } else { Err(Rejection::WrongStatement) };
        let verdict = self.store.judge(job, &submit, checked, at).await.unwrap().value;
        let by = server::store::Actor::new("the simulation");
        self.store.decide(id(worker), server::jobs::StandingEvent::Release, &by, at).await.unwrap();
        verdict
    }
}

fn able() -> Capability {
    let kinds = vec![ProofKind::Part, ProofKind::Composite, ProofKind::Succinct];
    let segment_po2 = Some(SEGMENT_PO2);
    Capability { kinds, segment_po2, ..Capability::new(TARGET.system, TARGET.program_id, true) }
}

/// Proves with so many clients of mixed speed, and returns the efficiency: the work at hand by what all clients could have done in that
/// time.
async fn efficiency(seed: u64, run: Run, clients: usize, faults: Faults) -> Option<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let speeds: Vec<f64> = (0..clients).map(|_| rng.random_range(0.5..2.0)).collect();
    let mut world = World::new(seed, run, &speeds, faults, false).await;
    (world.beat, world.rules, world.absence) = (OFTEN, rules(OFTEN), 600);
    let took = world.prove().await?;
    let needed = f64::from(run.segments) * SEGMENT + f64::from(run.keccak) * KECCAK;
    Some(needed / speeds.iter().sum::<f64>() / took as f64)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Everything that can happen, by seed.
async fn one(seed: u64, with_real: bool) -> bool {
    let mut rng = StdRng::seed_from_u64(seed);
    let run = Run { segments: rng.random_range(1..60), keccak: rng.random_range(0..20) };
    let clients = rng.random_range(1..8);
    let speeds: Vec<f64> = (0..clients).map(|_| rng.random_range(0.2..4.0)).collect();
    let often = |rng: &mut StdRng| if rng.random_bool(0.5) { rng.random_range(0..12) } else { 0 };
    let faults = Faults {
        dies: often(&mut rng),
        fails: often(&mut rng),
        lies: often(&mut rng),
        late: often(&mut rng),
    };
    let mut world = World::new(seed, run, &speeds, faults, with_real).await;
    for worker in 1..world.workers.len() {
        world.workers[worker].from = rng.random_range(0..7_200) * SECOND;
    }
    let proved = world.prove().await.is_some();
    if proved && let Some(real) = &world.real {
        let finished = real.store.finished(real.job).await.unwrap();
        let (_, finished) = finished.expect("the last part is proved");
        let _to_be_judged = real.store.submit(real.job, &finished, world.at()).await.unwrap();
        let verdict =
            real.store.judge(real.job, &finished, Ok(()), world.at()).await.unwrap().value;
        assert_eq!(verdict, Verdict::Accepted);
        assert_eq!(real.store.job(real.job).await.unwrap().state, JobState::Proved);
        assert_eq!(real.store.proved_through(&Targets::from(TARGET)).await.unwrap(), Some(1));
    }
    proved
}

#[test]
fn parts_come_together_whatever_happens() {
    let seeds = super::seeds(1_500);
    let all = seeds.end - seeds.start;
    let proved = seeds.filter(|seed| block_on(one(*seed, false))).count() as u64;
    assert!(
        all < 100 || proved * 10 > all * 7,
        "{proved} of {all}: the others were given up by too many clients"
    );
}

#[test]
fn parts_come_together_in_the_real_store() {
    let seeds = super::seeds(25).take(500);
    for seed in seeds {
        block_on(one(seed, true));
    }
}

/// Sixteen clients use nine tenths of what they have, and with one in ten dying on each part, eight.
#[test]
fn clients_of_mixed_speed_end_together() {
    let run = Run { segments: 182, keccak: 30 };
    let mut table = String::new();
    for (clients, dies, least) in [
        (1, 0, 0.98),
        (4, 0, 0.9),
        (16, 0, 0.9),
        (64, 0, 0.6),
        (4, 10, 0.8),
        (16, 10, 0.8),
        (64, 10, 0.5),
    ] {
        let mut all: Vec<f64> = Vec::new();
        for seed in 0..20 {
            let faults = Faults { dies, ..Faults::default() };
            all.extend(block_on(efficiency(seed, run, clients, faults)));
        }
        all.sort_by(f64::total_cmp);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        table += &format!(
            "{clients} clients, {dies} of 100 parts lost: mean {mean:.3}, worst {:.3}\n",
            all[0]
        );
        assert!(mean >= least, "{table}");
    }
    #[expect(clippy::print_stdout, reason = "what docs/benchmarks.md quotes")]
    {
        println!("{table}");
    }
}

/// Without losses every segment is proven once, and nothing is proven twice.
#[test]
fn without_losses_nothing_is_proven_twice() {
    for (seed, clients) in [(1, 1), (2, 2), (3, 5), (4, 16)] {
        let run = Run { segments: 50, keccak: 9 };
        let mut rng = StdRng::seed_from_u64(seed);
        let speeds: Vec<f64> = (0..clients).map(|_| rng.random_range(0.5..2.0)).collect();
        block_on(async {
            let mut world = World::new(seed, run, &speeds, Faults::default(), false).await;
            world.prove().await.expect("nobody fails");
            assert_eq!(world.wasted, 0.0);
            let segments: u32 = world
                .states()
                .iter()
                .map(|part| match part.work {
                    PartWork::Segments { first, end } => end - first,
                    _ => 0,
                })
                .sum();
            assert_eq!(segments, run.segments);
        });
    }
}

/// One proof that was made beforehand, and somebody who proved nothing yet, get no large part of a run.
#[test]
fn one_proof_says_little_about_speed() {
    let (mut crew, now) = (Crew::default(), Timestamp(0));
    for n in 0..4 {
        crew.heard(id(n), None, now);
    }
    let taken = |crew: &Crew, n| crew.share(id(n), now).of(260, 268);
    crew.proved(id(0), 5_000, Duration::from_secs(1));
    crew.proved(id(1), 5_500, Duration::from_secs(1));
    let usual = crew.usual(now);
    crew.proved(id(2), 15_000_000, Duration::from_secs(1));
    assert_eq!(crew.speed(id(2)), Some(22_000.0), "four times as fast as others");
    assert_eq!((usual, crew.usual(now)), (Some(5_500.0), Some(5_500.0)));
    assert!((0..3).all(|n| taken(&crew, n) <= 9), "a 32nd of the run");
    assert_eq!(taken(&crew, 3), 3, "a 128th");
    // Who is that fast is known to be after some more.
    for _ in 0..12 {
        crew.proved(id(2), 15_000_000, Duration::from_secs(1));
    }
    assert!(crew.speed(id(2)).unwrap() > 10e6 && taken(&crew, 2) > 200);
    assert!(taken(&crew, 3) <= 3, "others are not");
}

/// On a GPU a batch of keccak permutations takes a second, and executing the run before it two.
#[test]
fn who_proves_fast_gets_many_keccak_batches_at_a_time() {
    let keccak_parts = |speeds: &[u64]| {
        let (mut crew, now) = (Crew::default(), Timestamp(0));
        for (n, speed) in speeds.iter().enumerate() {
            crew.heard(id(n), None, now);
            if *speed > 0 {
                crew.proved(id(n), *speed, Duration::from_secs(1));
            }
        }
        crew.keccak_parts(now)
    };
    assert_eq!(keccak_parts(&[]), 4);
    assert_eq!(keccak_parts(&[0; 8]), 32, "nothing is known of them");
    assert_eq!(keccak_parts(&[1_000; 8]), 32);
    assert_eq!(keccak_parts(&[350_000; 8]), 3);
    assert_eq!(keccak_parts(&[u64::MAX; 8]), 1);
}
