//! Whoever talks to the engine, and what happens to them.

use super::engine::{Engine, RULES, TARGET};
use alloy_primitives::{B256, keccak256};
use protocol::{
    ArtifactId, ArtifactRef, BlockRange, ClientId, FailureClass, JobId, LeaseId, Submit, Verdict,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use server::{
    clock::Timestamp,
    jobs::{
        NewBatch, Tip, Unlinked,
        standing::Deed,
        state::{Outcome, Refused, State},
    },
    store::{Offer, Submitted},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt,
};

/// Milliseconds of the simulated world.
type Time = u64;

const SECOND: Time = 1_000;
const BEAT: Time = 15 * SECOND;
/// How long a client waits for an answer.
const PATIENCE: Time = 10 * SECOND;
/// How long things go wrong.
const TROUBLE: Time = 40 * 60 * SECOND;
/// How long it may take afterwards until everything is proved.
const RECOVERY: Time = 60 * 60 * SECOND;
/// No reorg is deeper, in blocks.
const DEEPEST: u64 = 4;

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Honest,
    /// Its proofs are of something else.
    Liar,
    /// It takes jobs and is never heard of again, until it wants another.
    Silent,
    /// It gives every job back.
    Failing,
    /// It says things under leases and for jobs that are not its own.
    Thief,
}

pub const BAD: [Kind; 4] = [Kind::Liar, Kind::Silent, Kind::Failing, Kind::Thief];

/// What goes wrong.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Messages that are lost, that arrive twice, and that take seconds: of a thousand.
    pub network: [u32; 3],
    /// Transactions that fail before or after they are committed: of a thousand.
    pub storage: u32,
    /// Whether servers and clients crash and are paused, and the wall clock is set.
    pub crashes: bool,
    /// Whether an operator acts.
    pub operator: bool,
    /// Whether the node's chain changes.
    pub reorgs: bool,
    /// Jobs that kill whoever proves them.
    pub poison: u64,
    /// Clients that are not honest.
    pub bad: Vec<Kind>,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            network: [0; 3],
            storage: 0,
            crashes: false,
            operator: false,
            reorgs: false,
            poison: 0,
            bad: Vec::new(),
        }
    }

    fn random(dice: &mut StdRng) -> Self {
        let mut some = |most| if dice.random_bool(0.7) { dice.random_range(0..most) } else { 0 };
        let network = [some(200), some(200), some(200)];
        let storage = some(100);
        Self {
            network,
            storage,
            crashes: dice.random_bool(0.7),
            operator: dice.random_bool(0.5),
            reorgs: dice.random_bool(0.6),
            poison: if dice.random_bool(0.4) { 1 } else { 0 },
            bad: (0..dice.random_range(0..3)).map(|_| BAD[dice.random_range(0..4)]).collect(),
        }
    }
}

/// How often things happened.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// That a simulation says something about what never happened in it, nobody should believe.
    pub fn assert_everything_happened(&self) {
        for what in [
            "steps",
            "accepted",
            "rejected",
            "duplicate",
            "superseded",
            "lost messages",
            "doubled messages",
            "failed transactions",
            "server crashes",
            "client crashes",
            "client pauses",
            "clock steps",
            "reorgs",
            "revived batches",
            "expired leases",
            "abandoned leases",
            "quarantined jobs",
            "late proofs",
            "stale leases",
            "answers that were lost and asked for again",
        ] {
            assert!(
                self.0.get(what).is_some_and(|count| *count > 0),
                "{what} never happened: {self}"
            );
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = self.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// What a client tells a server.
#[derive(Clone, Debug)]
enum Message {
    Ask { number: u64 },
    Beat { job: JobId, lease: LeaseId },
    Fail { job: JobId, lease: LeaseId, class: FailureClass },
    Submit { job: JobId, submit: Submit },
}

/// What a server answers.
#[derive(Clone, Debug)]
enum Answer {
    Job { number: u64, job: JobId, lease: LeaseId, blocks: BlockRange },
    NoWork { number: u64 },
    Stop { lease: LeaseId },
    Verdict { proof: ArtifactId },
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    ToServer {
        server: usize,
        from: usize,
        message: Message,
    },
    /// A question that waited at the server, which may not notice that its client has hung up.
    Held {
        server: usize,
        life: u64,
        from: usize,
        number: u64,
        asked: Timestamp,
    },
    ToClient {
        client: usize,
        life: u64,
        answer: Answer,
    },
    Wake {
        client: usize,
        life: u64,
        number: u64,
    },
    BeatDue {
        client: usize,
        life: u64,
        lease: LeaseId,
    },
    ProofDone {
        client: usize,
        life: u64,
        lease: LeaseId,
    },
    ClientDies {
        client: usize,
        life: u64,
    },
    ClientStarts {
        client: usize,
        life: u64,
    },
    Verified {
        server: usize,
        life: u64,
        from: usize,
        job: JobId,
        submit: Submit,
        valid: bool,
    },
    ServerStarts {
        server: usize,
    },
    Sweep {
        server: usize,
        life: u64,
    },
    Intake,
    Act {
        server: usize,
        life: u64,
        act: Act,
    },
    Block,
    Trouble,
}

/// What the intake decided on, a moment ago.
#[derive(Clone, Debug)]
enum Act {
    Enqueue(NewBatch),
    Supersede { from: u64, tip: Tip },
}

struct Client {
    id: ClientId,
    kind: Kind,
    up: bool,
    life: u64,
    paused_until: Time,
    /// The number of its last question.
    number: u64,
    waiting: bool,
    /// Its job, and when it will be proved.
    work: Option<(JobId, LeaseId)>,
    /// Proofs on its disk that have no verdict. They outlive it.
    proofs: Vec<(JobId, Submit)>,
    /// Leases it has heard of.
    heard_of: Vec<(JobId, LeaseId)>,
    proving: Time,
}

struct Server {
    up: bool,
    life: u64,
    paused_until: Time,
    /// Its clock minus ours.
    offset: u64,
    verifying: BTreeSet<(JobId, LeaseId, ArtifactId)>,
}

/// What an observer who knows everything remembers of a lease.
struct Watched {
    lease: LeaseId,
    client: ClientId,
    /// Its client may be silent until then.
    until: Timestamp,
}

pub struct World {
    dice: StdRng,
    faults: Faults,
    engine: Engine,
    now: Time,
    sequence: u64,
    steps: BinaryHeap<Reverse<(Time, u64)>>,
    what: BTreeMap<u64, Step>,
    servers: Vec<Server>,
    clients: Vec<Client>,
    /// The node's chain, by number: the names of its blocks; and chains it has had.
    chain: Vec<u64>,
    old_chains: Vec<Vec<u64>>,
    names: u64,
    head: u64,
    batch_blocks: u64,
    /// Blocks whose proving kills.
    poison: BTreeSet<u64>,
    /// Uploaded proofs: the statement each proves, if any.
    artifacts: BTreeMap<ArtifactId, Option<Vec<u8>>>,
    watched: BTreeMap<JobId, Watched>,
    accepted: BTreeMap<JobId, ArtifactId>,
    enqueued: BTreeSet<JobId>,
    counts: Counts,
    /// Whether everything is looked at after every step.
    watchful: bool,
}

fn hash(name: u64) -> B256 {
    keccak256(name.to_be_bytes())
}

impl World {
    /// Runs one seed: forty minutes of trouble, and an hour to recover from it.
    pub async fn run(seed: u64, with_real: bool) -> Counts {
        let mut dice = StdRng::seed_from_u64(seed);
        let faults = Faults::random(&mut dice);
        let (blocks, honest) = (dice.random_range(4..24), dice.random_range(1..6));
        // With two servers the database is PostgreSQL, which tells the time itself.
        let servers = if with_real { 1 } else { dice.random_range(1..3) };
        let mut world =
            Self::new(dice, faults, Engine::new(with_real).await, servers, honest, blocks);
        world.go(TROUBLE).await;
        world.calm().await;
        let deadline = world.now + RECOVERY;
        while world.unfinished() {
            assert!(world.now < deadline, "stuck: {}", world.picture());
            let next = world.now + 60 * SECOND;
            world.go(next).await;
            // An operator looks every minute, now that nothing goes wrong any more.
            world.requeue_the_dead().await;
        }
        assert_eq!(world.enqueued.len(), world.engine.rows.len(), "a job was lost or made up");
        world.engine.check_real().await;
        world.counts
    }

    /// How many jobs ten honest clients prove in an hour.
    pub async fn throughput(seed: u64, faults: Faults) -> usize {
        let dice = StdRng::seed_from_u64(seed);
        let mut world = Self::new(dice, faults, Engine::new(false).await, 1, 10, 1_000);
        (world.head, world.batch_blocks, world.watchful) = (1_000, 1, false);
        for (client, n) in world.clients.iter_mut().zip(3..) {
            client.proving = n * 10 * SECOND;
        }
        world.go(3_600 * SECOND).await;
        world.accepted.len()
    }

    fn new(
        mut dice: StdRng,
        faults: Faults,
        engine: Engine,
        servers: u64,
        honest: u64,
        blocks: u64,
    ) -> Self {
        let kinds = (0..honest).map(|_| Kind::Honest).chain(faults.bad.iter().copied());
        let clients = kinds.zip(1..).map(|(kind, n)| Client {
            id: ClientId::from_bytes([n; 16]),
            kind,
            up: true,
            life: 0,
            paused_until: 0,
            number: 0,
            waiting: false,
            work: None,
            proofs: Vec::new(),
            heard_of: Vec::new(),
            proving: 60 * SECOND,
        });
        let clients: Vec<_> = clients.collect();
        let server = || Server {
            up: true,
            life: 0,
            paused_until: 0,
            // Later than the wall clock of whoever runs this: a database tells the latest time it has seen.
            offset: 1 << 41,
            verifying: BTreeSet::new(),
        };
        let poison = (0..faults.poison).map(|_| dice.random_range(2..blocks.min(20))).collect();
        let mut world = Self {
            batch_blocks: dice.random_range(1..4),
            servers: (0..servers).map(|_| server()).collect(),
            dice,
            faults,
            engine,
            now: 0,
            sequence: 0,
            steps: BinaryHeap::new(),
            what: BTreeMap::new(),
            clients,
            chain: (0..=blocks).collect(),
            old_chains: Vec::new(),
            names: 1 << 32,
            head: 0,
            poison,
            artifacts: BTreeMap::new(),
            watched: BTreeMap::new(),
            accepted: BTreeMap::new(),
            enqueued: BTreeSet::new(),
            counts: Counts::default(),
            watchful: true,
        };
        for client in 0..world.clients.len() {
            let proving = world.dice.random_range(5..150) * SECOND;
            world.clients[client].proving = proving;
            let at = world.dice.random_range(0..5 * SECOND);
            world.after(at, Step::Wake { client, life: 0, number: 0 });
        }
        for server in 0..world.servers.len() {
            world.after(60 * SECOND, Step::Sweep { server, life: 0 });
        }
        world.after(0, Step::Block);
        world.after(0, Step::Intake);
        world.after(30 * SECOND, Step::Trouble);
        world
    }

    fn after(&mut self, delay: Time, step: Step) {
        self.sequence += 1;
        self.steps.push(Reverse((self.now + delay, self.sequence)));
        self.what.insert(self.sequence, step);
    }

    /// Sends something over the network, which may lose, double and delay it.
    fn send(&mut self, step: Step) {
        let [lost, doubled, slow] = self.faults.network;
        if self.dice.random_range(0..1_000) < lost {
            return self.counts.add("lost messages");
        }
        let twice = self.dice.random_range(0..1_000) < doubled;
        if twice {
            self.counts.add("doubled messages");
        }
        for _ in 0..=u32::from(twice) {
            let most = if self.dice.random_range(0..1_000) < slow { 8 * SECOND } else { 50 };
            let delay = self.dice.random_range(1..=most);
            self.after(delay, step.clone());
        }
    }

    fn chance(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.dice.random_range(0..1_000) < of_a_thousand
    }

    /// A server's clock.
    fn clock(&self, server: usize) -> Timestamp {
        Timestamp(self.now + self.servers[server].offset)
    }

    async fn go(&mut self, until: Time) {
        while let Some(Reverse((at, sequence))) = self.steps.peek().copied() {
            if at > until {
                break;
            }
            self.steps.pop();
            let step = self.what.remove(&sequence).expect("it was planned");
            self.now = at;
            self.counts.add("steps");
            self.step(step).await;
            if self.watchful {
                self.engine.check();
                self.check();
            }
        }
        self.now = until;
    }

    /// What must be true after every step, besides what the engine checks of itself.
    fn check(&self) {
        for (job, proof) in &self.accepted {
            let row = &self.engine.rows[self.engine.find(*job)];
            let kept = row.proof.map(|kept| kept.sha256);
            assert_eq!(kept, Some(*proof), "an accepted proof is never lost or replaced");
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::ToServer { server, from, message } => self.serve(server, from, message).await,
            Step::Held { server, life, from, number, asked } => {
                if self.lives(server, life) {
                    self.lend(server, from, number, asked).await;
                }
            }
            Step::Verified { server, life, from, job, submit, valid } => {
                if self.lives(server, life) {
                    self.judge(server, from, job, submit, valid).await;
                }
            }
            Step::ServerStarts { server } => self.start(server).await,
            Step::Sweep { server, life } => {
                if self.lives(server, life) {
                    let before = Timestamp(self.clock(server).0 - 60 * SECOND);
                    for (job, submit) in self.engine.unjudged(before).await {
                        let from = usize::from(submit.client.as_bytes()[0]) - 1;
                        self.take_in(server, from, job, submit).await;
                    }
                    self.after(60 * SECOND, Step::Sweep { server, life });
                }
            }
            Step::Intake => {
                self.look_at_the_node().await;
                self.after(2 * SECOND, Step::Intake);
            }
            Step::Act { server, life, act } => {
                if self.lives(server, life) {
                    self.act(server, act).await;
                }
            }
            Step::Block => {
                self.head = (self.head + 1).min(self.chain.len() as u64 - 1);
                let pause = self.dice.random_range(1..40) * SECOND;
                self.after(pause, Step::Block);
            }
            Step::Trouble => self.trouble().await,
            Step::ToClient { client, life, .. }
            | Step::Wake { client, life, .. }
            | Step::BeatDue { client, life, .. }
            | Step::ProofDone { client, life, .. }
            | Step::ClientDies { client, life }
            | Step::ClientStarts { client, life } => {
                let paused = self.clients[client].paused_until.saturating_sub(self.now);
                if life != self.clients[client].life {
                } else if paused > 0 {
                    self.after(paused, step);
                } else {
                    self.client_step(client, step);
                }
            }
        }
    }

    // Servers.

    fn lives(&self, server: usize, life: u64) -> bool {
        self.servers[server].up && self.servers[server].life == life
    }

    /// Whether a transaction fails, before or after it is committed; sometimes its server goes with it.
    fn fails(&mut self, server: usize) -> Option<bool> {
        let storage = self.faults.storage;
        if !self.chance(storage) {
            return None;
        }
        self.counts.add("failed transactions");
        if self.faults.crashes && self.chance(100) {
            self.crash(server);
        }
        Some(self.dice.random_bool(0.5))
    }

    fn crash(&mut self, server: usize) {
        let this = &mut self.servers[server];
        if this.up {
            this.up = false;
            this.life += 1;
            this.verifying.clear();
            self.counts.add("server crashes");
            let pause = self.dice.random_range(SECOND..150 * SECOND);
            self.after(pause, Step::ServerStarts { server });
        }
    }

    async fn start(&mut self, server: usize) {
        let alone = !self.servers.iter().any(|server| server.up);
        if self.servers.len() == 1 {
            // An embedded database goes by the wall clock, which somebody may have set meanwhile.
            let mut offset = self.servers[0].offset;
            if self.faults.crashes && self.chance(500) {
                self.counts.add("clock steps");
                let by = self.dice.random_range(0..10 * 3_600 * SECOND);
                offset = if self.dice.random_bool(0.5) { offset + by } else { offset - by };
            }
            self.servers[0].offset = offset.max(self.engine.latest().0.saturating_sub(self.now));
        }
        self.servers[server].up = true;
        let (life, now) = (self.servers[server].life, self.clock(server));
        self.engine.restart(alone, now).await;
        if alone {
            for watched in self.watched.values_mut() {
                watched.until = now + RULES.lease;
            }
        }
        self.after(60 * SECOND, Step::Sweep { server, life });
    }

    async fn serve(&mut self, server: usize, from: usize, message: Message) {
        let this = &self.servers[server];
        if !this.up {
            return;
        }
        if let Some(paused) = this.paused_until.checked_sub(self.now).filter(|paused| *paused > 0) {
            // Whoever hangs up meanwhile is not there any more when the server looks.
            let given_up = matches!(message, Message::Ask { .. }) && paused > SECOND;
            if !given_up {
                self.after(paused, Step::ToServer { server, from, message });
            }
            return;
        }
        let (life, now, to) = (this.life, self.clock(server), self.clients[from].id);
        match message {
            Message::Ask { number } => {
                let asked = now;
                if self.chance(200) {
                    let wait = self.dice.random_range(0..PATIENCE * 5);
                    return self.after(wait, Step::Held { server, life, from, number, asked });
                }
                self.lend(server, from, number, asked).await;
            }
            Message::Beat { job, lease } => {
                let Some(after) = self.transaction(server) else { return };
                let held = self.holds(job, lease);
                let answer = self.engine.heartbeat(job, lease, now).await;
                assert!(answer.is_err() || held, "a lease that is not the job's was kept alive");
                match answer {
                    Ok(_) => {
                        let watched = self.watched.get_mut(&job).expect("it is held");
                        watched.until = watched.until.max(now + RULES.lease);
                    }
                    Err(refused) => {
                        if refused == Refused::NotTheLease {
                            self.counts.add("stale leases");
                        }
                        if after {
                            self.answer(from, Answer::Stop { lease });
                        }
                    }
                }
            }
            Message::Fail { job, lease, class } => {
                let Some(_after) = self.transaction(server) else { return };
                let (held, before) = (self.holds(job, lease), self.job(job));
                let answer = self.engine.fail(to, job, lease, class, now).await;
                if answer.is_ok() {
                    assert!(held, "a lease that is not the job's was ended");
                    self.watched.remove(&job);
                } else {
                    assert_eq!(before, self.job(job), "what is refused changes nothing");
                }
            }
            Message::Submit { job, submit } => self.take_in(server, from, job, submit).await,
        }
    }

    /// Whether a transaction may go on, and whether its outcome is told.
    fn transaction(&mut self, server: usize) -> Option<bool> {
        match self.fails(server) {
            None => Some(true),
            Some(true) => Some(false),
            Some(false) => None,
        }
    }

    fn job(&self, job: JobId) -> server::jobs::state::Job {
        self.engine.rows[self.engine.find(job)].job.clone()
    }

    fn holds(&self, job: JobId, lease: LeaseId) -> bool {
        self.job(job).state.lease().is_some_and(|held| held.id == lease)
    }

    fn answer(&mut self, client: usize, answer: Answer) {
        let life = self.clients[client].life;
        self.send(Step::ToClient { client, life, answer });
    }

    async fn lend(&mut self, server: usize, from: usize, number: u64, asked: Timestamp) {
        let Some(told) = self.transaction(server) else { return };
        let (now, client) = (self.clock(server), self.clients[from].id);
        let before: Vec<_> = self.engine.rows.iter().map(|row| row.job.lost).collect();
        let lease = LeaseId::from_bytes(self.dice.random());
        let offer = self.engine.lease(client, lease, asked, now).await;
        for (row, before) in before.into_iter().enumerate() {
            let id = self.engine.rows[row].id;
            if self.engine.rows[row].job.lost > before {
                // Leases end by themselves when they run out, or when their client has asked for work since.
                let watched = self.watched.remove(&id).expect("it was held");
                let ran_out = watched.until < now;
                assert!(ran_out || watched.client == client, "a living client lost its lease");
                self.counts.add(if ran_out { "expired leases" } else { "abandoned leases" });
                if matches!(
                    self.engine.rows[row].job.state,
                    State::Dead(protocol::DeadCause::Quarantined)
                ) {
                    self.counts.add("quarantined jobs");
                }
            }
        }
        let answer = match offer {
            Offer::Job(leased) => {
                let job = leased.job;
                let live = self.engine.live().iter().any(|batch| batch.blocks == leased.blocks);
                assert!(live, "a job of blocks that are not on the chain was lent");
                if let Some(watched) = self.watched.get(&job) {
                    assert_eq!(
                        (watched.lease, watched.client),
                        (leased.lease.id, client),
                        "lent twice"
                    );
                    self.counts.add("answers that were lost and asked for again");
                }
                let until = now + RULES.lease;
                self.watched.insert(job, Watched { lease: leased.lease.id, client, until });
                Answer::Job { number, job, lease: leased.lease.id, blocks: leased.blocks }
            }
            other => {
                if matches!(other, Offer::Nothing { .. }) {
                    let idle = self.engine.rows.iter().find(|row| match &row.job.state {
                        State::Ready => row.job.not_before <= now,
                        State::Leased(held) => held.expires_at < now && held.client != client,
                        _ => false,
                    });
                    assert!(idle.is_none(), "a job waits, and a client hears that there is none");
                }
                Answer::NoWork { number }
            }
        };
        if told {
            self.answer(from, answer);
        }
    }

    /// Takes in a proof and begins to verify it.
    async fn take_in(&mut self, server: usize, from: usize, job: JobId, submit: Submit) {
        let Some(told) = self.transaction(server) else { return };
        let now = self.clock(server);
        let before = self.job(job);
        if !self.holds(job, submit.lease) && before.state.outcome() == Outcome::Open {
            self.counts.add("late proofs");
        }
        let proof = submit.proof.sha256;
        match self.engine.submit(job, &submit, now).await {
            Submitted::Judged(verdict) => {
                self.judged(job, proof, &verdict);
                if told {
                    self.answer(from, Answer::Verdict { proof });
                }
            }
            Submitted::Verify(wanted) => {
                let (life, key) = (self.servers[server].life, (job, submit.lease, proof));
                if self.servers[server].up && self.servers[server].verifying.insert(key) {
                    let valid = self.artifacts[&proof].as_ref() == Some(&wanted.statement);
                    let delay = self.dice.random_range(10..5 * SECOND);
                    self.after(delay, Step::Verified { server, life, from, job, submit, valid });
                }
            }
        }
    }

    async fn judge(&mut self, server: usize, from: usize, job: JobId, submit: Submit, valid: bool) {
        let proof = submit.proof.sha256;
        self.servers[server].verifying.remove(&(job, submit.lease, proof));
        let Some(told) = self.transaction(server) else { return };
        let now = self.clock(server);
        let verdict = self.engine.judge(job, &submit, valid, now).await;
        // A lie about a job that is proved meanwhile may be called a duplicate unseen.
        assert!(valid || verdict != Verdict::Accepted, "a lie was accepted");
        if self.engine.rows[self.engine.find(job)].job.state.lease().is_none() {
            self.watched.remove(&job);
        }
        self.judged(job, proof, &verdict);
        if told {
            self.answer(from, Answer::Verdict { proof });
        }
    }

    /// A verdict is durable.
    fn judged(&mut self, job: JobId, proof: ArtifactId, verdict: &Verdict) {
        let row = self.engine.find(job);
        match verdict {
            Verdict::Accepted => {
                let batch = &self.engine.batches[row];
                assert!(!batch.superseded, "a proof of blocks that are gone was accepted");
                assert_eq!(self.artifacts[&proof].as_ref(), Some(&batch.batch.statement));
                let first = *self.accepted.entry(job).or_insert(proof);
                assert_eq!(first, proof, "two proofs were accepted for one job");
                self.counts.add("accepted");
            }
            Verdict::Duplicate => {
                assert_eq!(self.job(job).state, State::Proved);
                self.counts.add("duplicate");
            }
            Verdict::Superseded => self.counts.add("superseded"),
            Verdict::Rejected { .. } => self.counts.add("rejected"),
            Verdict::Pending { .. } => unreachable!("the store does not know it"),
        }
    }

    // The node, and whoever follows it.

    fn batch(&self, first: u64, last: u64) -> NewBatch {
        let name = |number: u64| self.chain[usize::try_from(number).expect("it is small")];
        let blocks = BlockRange::new(first, last).expect("it has a block");
        let (parent_hash, last_hash) = (hash(name(first - 1)), hash(name(last)));
        let statement = [parent_hash, last_hash].concat();
        NewBatch {
            blocks,
            parent_hash,
            last_hash,
            statement_digest: keccak256(&statement),
            input: ArtifactRef::of(&statement),
            statement,
            gas_used: 0,
            transactions: 0,
            estimated_cycles: 0,
        }
    }

    async fn look_at_the_node(&mut self) {
        // Mostly one leads; that two do is possible while a connection is lost.
        let Some(leader) = self.servers.iter().position(|server| server.up) else { return };
        let leads = |n: &usize| self.servers[*n].up && (*n == leader || self.now.is_multiple_of(7));
        let mut last_final = 0;
        for server in (0..self.servers.len()).filter(leads).collect::<Vec<_>>() {
            let (tip, head) = (self.engine.tip(), self.head);
            let on_chain = |number: u64, found: B256| {
                let name = self.chain.get(usize::try_from(number).expect("it is small"));
                number <= head && name.is_some_and(|name| hash(*name) == found)
            };
            let act = match tip {
                Some(tip) if !on_chain(tip.last, tip.last_hash) => {
                    let live = self.engine.live();
                    let gone = live.iter().find(|b| !on_chain(b.blocks.last(), b.last_hash));
                    let from = gone.expect("the last is gone").blocks.first();
                    Act::Supersede { from, tip }
                }
                _ => {
                    let first = tip.map_or(1, |tip| tip.last + 1);
                    // Nobody calls final what it has not found on the chain.
                    last_final = self.head.saturating_sub(DEEPEST + 1);
                    if first > head {
                        continue;
                    }
                    Act::Enqueue(self.batch(first, (first + self.batch_blocks - 1).min(head)))
                }
            };
            let life = self.servers[server].life;
            let most = if self.faults.reorgs { 3 * SECOND } else { 10 };
            let delay = self.dice.random_range(0..most);
            self.after(delay, Step::Act { server, life, act });
        }
        self.engine.finalize(last_final).await;
    }

    async fn act(&mut self, server: usize, act: Act) {
        let Some(_told) = self.transaction(server) else { return };
        let now = self.clock(server);
        match act {
            Act::Enqueue(batch) => {
                let gone = self.engine.is_superseded(&batch);
                match self.engine.enqueue(&batch, now).await {
                    Ok(job) => {
                        self.enqueued.insert(job);
                        if gone {
                            self.counts.add("revived batches");
                        }
                    }
                    Err(Unlinked::Gap { .. } | Unlinked::Parent { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            Act::Supersede { from, tip } => {
                if self.engine.supersede(from, Some(tip), now).await.is_some() {
                    self.watched.retain(|job, _| {
                        let row = &self.engine.rows[self.engine.find(*job)];
                        row.job.state.lease().is_some()
                    });
                }
            }
        }
    }

    /// The node finds that its newest blocks are others: new ones, or those it had before.
    fn reorg(&mut self) {
        self.counts.add("reorgs");
        let depth = self.dice.random_range(1..=DEEPEST).min(self.head);
        let from = usize::try_from(self.head + 1 - depth).expect("it is small");
        let now = self.chain.clone();
        let back =
            self.old_chains.iter().rev().find(|old| old[..from] == now[..from] && **old != now);
        match back.cloned() {
            Some(old) if self.dice.random_bool(0.5) => self.chain = old,
            _ => {
                for name in &mut self.chain[from..] {
                    self.names += 1;
                    *name = self.names;
                }
            }
        }
        self.old_chains.push(now);
    }

    // Clients.

    fn ask(&mut self, client: usize) {
        let server = self.dice.random_range(0..self.servers.len());
        let this = &mut self.clients[client];
        this.number += 1;
        this.waiting = true;
        let (number, life) = (this.number, this.life);
        self.send(Step::ToServer { server, from: client, message: Message::Ask { number } });
        self.after(PATIENCE, Step::Wake { client, life, number });
    }

    fn tell(&mut self, client: usize, message: Message) {
        let server = self.dice.random_range(0..self.servers.len());
        self.send(Step::ToServer { server, from: client, message });
    }

    /// Sets the client's alarm.
    fn wake(&mut self, client: usize, delay: Time) {
        let (life, number) = (self.clients[client].life, self.clients[client].number);
        self.after(delay, Step::Wake { client, life, number });
    }

    fn client_step(&mut self, client: usize, step: Step) {
        let id = self.clients[client].id;
        match step {
            Step::ClientStarts { .. } => {
                self.clients[client].up = true;
                self.wake(client, 0);
            }
            _ if !self.clients[client].up => {}
            Step::ClientDies { .. } => {
                let this = &mut self.clients[client];
                (this.up, this.waiting, this.work) = (false, false, None);
                this.life += 1;
                let life = this.life;
                self.counts.add("client crashes");
                let pause = self.dice.random_range(SECOND..90 * SECOND);
                self.after(pause, Step::ClientStarts { client, life });
            }
            Step::Wake { number, .. } => {
                if number != self.clients[client].number || self.clients[client].work.is_some() {
                    return;
                }
                if let Some((job, submit)) = self.clients[client].proofs.first().cloned() {
                    self.tell(client, Message::Submit { job, submit });
                    return self.wake(client, 2 * SECOND);
                }
                self.misbehave(client);
                self.ask(client);
            }
            Step::BeatDue { lease, .. } => {
                let this = &self.clients[client];
                let proof = this.proofs.iter().find(|(_, submit)| submit.lease == lease);
                let working = this.work.filter(|(_, held)| *held == lease).map(|(job, _)| job);
                if let Some(job) = working.or(proof.map(|(job, _)| *job)) {
                    let life = this.life;
                    self.tell(client, Message::Beat { job, lease });
                    self.after(BEAT, Step::BeatDue { client, life, lease });
                }
            }
            Step::ProofDone { lease, .. } => {
                let Some((job, held)) = self.clients[client].work else { return };
                if held != lease {
                    return;
                }
                self.clients[client].work = None;
                let lies = self.clients[client].kind == Kind::Liar;
                let row = self.engine.find(job);
                let statement = self.engine.batches[row].batch.statement.clone();
                let submit = self.proof(id, lease, (!lies).then_some(statement));
                self.clients[client].proofs.push((job, submit));
                self.wake(client, 0);
            }
            Step::ToClient { answer, .. } => self.hear(client, answer),
            _ => unreachable!("it is no step of a client"),
        }
    }

    /// A new proof of a statement, or of nothing.
    fn proof(&mut self, client: ClientId, lease: LeaseId, proves: Option<Vec<u8>>) -> Submit {
        let proof = ArtifactRef::of(&self.dice.random::<[u8; 16]>());
        self.artifacts.insert(proof.sha256, proves);
        let (system, program_id, kind) = (TARGET.system, TARGET.program_id, TARGET.kind);
        Submit { client, lease, system, program_id, kind, proof }
    }

    fn hear(&mut self, client: usize, answer: Answer) {
        let this = &mut self.clients[client];
        match answer {
            Answer::Job { number, job, lease, blocks } => {
                // The answer to a question that was given up, or the same one again.
                if !this.waiting || number != this.number {
                    return;
                }
                this.waiting = false;
                this.number += 1;
                this.heard_of.push((job, lease));
                let (life, proving) = (this.life, this.proving);
                match this.kind {
                    Kind::Silent => return self.wake(client, 61 * SECOND),
                    Kind::Failing => {
                        let class = FailureClass::BackendFailed;
                        self.tell(client, Message::Fail { job, lease, class });
                        return self.wake(client, SECOND);
                    }
                    Kind::Honest | Kind::Liar | Kind::Thief => {}
                }
                this.work = Some((job, lease));
                let poisoned = (blocks.first()..=blocks.last()).any(|b| self.poison.contains(&b));
                if poisoned {
                    let fuse = self.dice.random_range(0..40 * SECOND);
                    self.after(fuse, Step::ClientDies { client, life });
                }
                self.after(BEAT, Step::BeatDue { client, life, lease });
                // Poison lets nobody finish.
                let proving = if poisoned { 41 * SECOND + proving } else { proving };
                self.after(proving, Step::ProofDone { client, life, lease });
            }
            Answer::NoWork { number } => {
                if this.waiting && number == this.number {
                    this.waiting = false;
                    self.wake(client, SECOND);
                }
            }
            Answer::Stop { lease } => {
                if let Some((job, held)) = this.work
                    && held == lease
                {
                    this.work = None;
                    this.number += 1;
                    let class = FailureClass::Cancelled;
                    self.tell(client, Message::Fail { job, lease, class });
                    self.wake(client, 0);
                }
            }
            Answer::Verdict { proof } => {
                let open = this.proofs.len();
                this.proofs.retain(|(_, submit)| submit.proof.sha256 != proof);
                if this.proofs.len() < open {
                    self.wake(client, 0);
                }
            }
        }
    }

    /// What a thief says besides: old leases, other people's jobs and names.
    fn misbehave(&mut self, client: usize) {
        if self.clients[client].kind != Kind::Thief || self.engine.rows.is_empty() {
            return;
        }
        let row = self.dice.random_range(0..self.engine.rows.len());
        let (job, victim) =
            (self.engine.rows[row].id, self.dice.random_range(0..self.clients.len()));
        let known = self.clients[client].heard_of.len();
        let (old_job, lease) = if known > 0 && self.dice.random_bool(0.7) {
            self.clients[client].heard_of[self.dice.random_range(0..known)]
        } else {
            (job, LeaseId::from_bytes(self.dice.random()))
        };
        let other = self.dice.random_range(0..self.engine.rows.len());
        let statement = self.engine.batches[other].batch.statement.clone();
        let (name, class) = (self.clients[victim].id, FailureClass::GuestPanic);
        let message = match self.dice.random_range(0..5) {
            0 => Message::Beat { job, lease },
            1 => Message::Beat { job: old_job, lease },
            2 => Message::Fail { job: old_job, lease, class },
            3 => Message::Submit { job, submit: self.proof(name, lease, None) },
            _ => Message::Submit { job, submit: self.proof(name, lease, Some(statement)) },
        };
        self.tell(client, message);
    }

    // What goes wrong, and how it ends.

    async fn trouble(&mut self) {
        let pause = self.dice.random_range(10..90) * SECOND;
        self.after(pause, Step::Trouble);
        let client = self.dice.random_range(0..self.clients.len());
        let server = self.dice.random_range(0..self.servers.len());
        if self.faults.crashes {
            match self.dice.random_range(0..6) {
                0 => self.crash(server),
                1 => {
                    let pause = self.dice.random_range(0..120 * SECOND);
                    self.servers[server].paused_until = self.now + pause;
                }
                2 | 3 => {
                    let life = self.clients[client].life;
                    self.after(0, Step::ClientDies { client, life });
                }
                _ => {
                    // Below and above what a lease lasts.
                    self.counts.add("client pauses");
                    let pause = self.dice.random_range(0..150 * SECOND);
                    self.clients[client].paused_until = self.now + pause;
                }
            }
        }
        if self.faults.reorgs && self.head > DEEPEST && self.chance(400) {
            self.reorg();
        }
        if self.faults.operator && !self.engine.rows.is_empty() {
            let (now, id) = (self.clock(server), self.clients[client].id);
            let job = self.engine.rows[self.dice.random_range(0..self.engine.rows.len())].id;
            match self.dice.random_range(0..8) {
                0 => {
                    if self.engine.cancel(job, now).await.is_ok() {
                        self.watched.remove(&job);
                    }
                }
                1..4 => drop(self.engine.requeue(job, now).await),
                4 => self.engine.prioritise(job, self.dice.random_range(-100..=100)).await,
                5 => self.engine.decide(id, Deed::Drain, now).await,
                6 => self.engine.decide(id, Deed::Quarantine, now).await,
                _ => self.engine.decide(id, Deed::Release, now).await,
            }
        }
    }

    /// Ends all trouble: bad clients go, poison is cured, an operator forgives.
    async fn calm(&mut self) {
        self.faults = Faults::none();
        self.poison.clear();
        for server in 0..self.servers.len() {
            self.servers[server].paused_until = self.now;
            if !self.servers[server].up {
                self.start(server).await;
            }
        }
        let now = self.clock(0);
        for client in 0..self.clients.len() {
            let this = &mut self.clients[client];
            this.paused_until = self.now;
            let (id, honest) = (this.id, this.kind == Kind::Honest);
            this.up &= honest;
            if !honest {
                this.life += 1;
            } else if !this.up {
                this.up = true;
                this.life += 1;
                self.wake(client, 0);
            }
            self.engine.decide(id, Deed::Release, now).await;
        }
    }

    async fn requeue_the_dead(&mut self) {
        let dead = self.engine.rows.iter().filter(|row| matches!(row.job.state, State::Dead(_)));
        for job in dead.map(|row| row.id).collect::<Vec<_>>() {
            self.engine.requeue(job, self.clock(0)).await.expect("it is dead");
        }
    }

    /// Whether blocks have no batch yet, or jobs on the chain no proof.
    fn unfinished(&self) -> bool {
        let proved = |(row, batch): (&super::engine::Row, &super::engine::Batch)| {
            batch.superseded || row.job.state == State::Proved
        };
        let tip = self.engine.tip();
        let last = self.chain.len() - 1;
        tip != Some(Tip { last: last as u64, last_hash: hash(self.chain[last]) })
            || !self.engine.rows.iter().zip(&self.engine.batches).all(proved)
    }

    fn picture(&self) -> String {
        let rows = self.engine.rows.iter().zip(&self.engine.batches);
        let jobs: Vec<_> =
            rows.map(|(row, batch)| format!("{} {:?}", batch.batch.blocks, row.job)).collect();
        format!("head {} of {}\n{}", self.head, self.chain.len() - 1, jobs.join("\n"))
    }
}
