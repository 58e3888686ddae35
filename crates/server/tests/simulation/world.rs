//! The world: one clock, one queue of what happens next, and everybody who lives in it.

use super::{
    clients::{Answer, Client, Message},
    engine::{Engine, TARGETS},
    faults::{Faults, Kind},
    invariants::{Counts, Watched},
    node::Act,
    servers::Server,
};
use protocol::{ArtifactId, ClientId, JobId, LeaseId, Submit};
use rand::{Rng, SeedableRng, rngs::StdRng};
use server::{clock::Timestamp, jobs::Party};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

/// Milliseconds of the simulated world.
pub(super) type Time = u64;

pub(super) const SECOND: Time = 1_000;
pub(super) const BEAT: Time = 15 * SECOND;
/// How long a client waits for an answer.
pub(super) const PATIENCE: Time = 10 * SECOND;
/// How long things go wrong.
pub(super) const TROUBLE: Time = 40 * 60 * SECOND;
/// How long it may take afterwards until everything is proved.
pub(super) const RECOVERY: Time = 60 * 60 * SECOND;

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Step {
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
    /// An input is made again.
    Repair {
        server: usize,
        life: u64,
        job: JobId,
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

pub(crate) struct World {
    pub(super) dice: StdRng,
    pub(super) faults: Faults,
    pub(super) engine: Engine,
    pub(super) now: Time,
    pub(super) sequence: u64,
    pub(super) steps: BinaryHeap<Reverse<(Time, u64)>>,
    pub(super) what: BTreeMap<u64, Step>,
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<Client>,
    /// The node's chain, by number: the names of its blocks; and chains it has had.
    pub(super) chain: Vec<u64>,
    pub(super) old_chains: Vec<Vec<u64>>,
    pub(super) names: u64,
    pub(super) head: u64,
    pub(super) batch_blocks: u64,
    /// Which of the targets is wanted, and which clients prove, from their next start on.
    pub(super) version: usize,
    pub(super) node_hangs_until: Time,
    /// Batches whose input the servers' disk has lost, by place.
    pub(super) lost_inputs: BTreeSet<usize>,
    /// Blocks whose proving kills.
    pub(super) poison: BTreeSet<u64>,
    /// Uploaded proofs: the statement each proves, if any.
    pub(super) artifacts: BTreeMap<ArtifactId, Option<Vec<u8>>>,
    pub(super) watched: BTreeMap<JobId, Watched>,
    pub(super) accepted: BTreeMap<JobId, ArtifactId>,
    pub(super) enqueued: BTreeSet<JobId>,
    pub(super) counts: Counts,
    /// Whether everything is looked at after every step.
    pub(super) watchful: bool,
}

impl World {
    /// Runs one seed: forty minutes of trouble, and an hour to recover from it.
    pub(crate) async fn run(seed: u64, with_real: bool) -> Counts {
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
    pub(crate) async fn throughput(seed: u64, faults: Faults) -> usize {
        let dice = StdRng::seed_from_u64(seed);
        let mut world = Self::new(dice, faults, Engine::new(false).await, 1, 10, 1_000);
        (world.head, world.batch_blocks, world.watchful) = (1_000, 1, false);
        for (client, n) in world.clients.iter_mut().zip(3..) {
            client.proving = n * 10 * SECOND;
        }
        world.go(3_600 * SECOND).await;
        world.accepted.len()
    }

    pub(super) fn new(
        mut dice: StdRng,
        faults: Faults,
        engine: Engine,
        servers: u64,
        honest: u64,
        blocks: u64,
    ) -> Self {
        let shared = dice.random_bool(0.5);
        let party = |n: u8| match shared {
            // Two share a token.
            true => Party::Token((n / 2).into()),
            false => Party::Client(ClientId::from_bytes([n; 16])),
        };
        let kinds = (0..honest).map(|_| Kind::Honest).chain(faults.bad.iter().copied());
        let clients = kinds.zip(1..).map(|(kind, n)| Client {
            id: ClientId::from_bytes([n; 16]),
            party: party(n),
            kind,
            up: true,
            life: 0,
            paused_until: 0,
            target: TARGETS[0],
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
            hung_until: 0,
            target: TARGETS[0],
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
            version: 0,
            node_hangs_until: 0,
            lost_inputs: BTreeSet::new(),
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

    pub(super) fn after(&mut self, delay: Time, step: Step) {
        self.sequence += 1;
        self.steps.push(Reverse((self.now + delay, self.sequence)));
        self.what.insert(self.sequence, step);
    }

    /// A server's clock.
    pub(super) fn clock(&self, server: usize) -> Timestamp {
        Timestamp(self.now + self.servers[server].offset)
    }

    pub(super) async fn go(&mut self, until: Time) {
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

    pub(super) async fn step(&mut self, step: Step) {
        if let Some(pause) = self.hangs(&step) {
            return self.after(pause, step);
        }
        match step {
            Step::ToServer { server, from, message } => self.serve(server, from, message).await,
            Step::Repair { server, life, job } => {
                if self.lives(server, life) {
                    self.repair(server, job).await;
                }
            }
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
}
