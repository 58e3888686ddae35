//! What goes wrong, and how it ends.

use super::{
    engine::TARGETS,
    node::DEEPEST,
    world::{SECOND, Step, TROUBLE, World},
};
use rand::{Rng, rngs::StdRng};
use server::jobs::{standing::StandingEvent, state::State};

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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

pub(crate) const BAD: [Kind; 4] = [Kind::Liar, Kind::Silent, Kind::Failing, Kind::Thief];

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Messages that are lost, that arrive twice, and that take seconds: of a thousand.
    pub network: [u32; 3],
    /// Transactions that fail before or after they are committed: of a thousand.
    pub storage: u32,
    /// Whether servers and clients crash and are paused, and the wall clock is set.
    pub crashes: bool,
    /// Whether servers and the node hang: they take what is sent and say nothing.
    pub hangs: bool,
    /// Inputs and proofs that the servers' disk loses, of a thousand that are read.
    pub losses: u32,
    /// Whether the proving program changes on the way.
    pub upgrade: bool,
    /// Whether the database is migrated under the servers.
    pub migrations: bool,
    /// Whether what was settled long ago is forgotten.
    pub retention: bool,
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
    pub(crate) fn none() -> Self {
        Self {
            network: [0; 3],
            storage: 0,
            crashes: false,
            hangs: false,
            losses: 0,
            upgrade: false,
            migrations: false,
            retention: false,
            operator: false,
            reorgs: false,
            poison: 0,
            bad: Vec::new(),
        }
    }

    pub(super) fn random(dice: &mut StdRng) -> Self {
        let mut some = |most| if dice.random_bool(0.7) { dice.random_range(0..most) } else { 0 };
        let network = [some(200), some(200), some(200)];
        let (storage, losses) = (some(100), some(100));
        Self {
            network,
            storage,
            crashes: dice.random_bool(0.7),
            hangs: dice.random_bool(0.5),
            losses,
            upgrade: dice.random_bool(0.3),
            migrations: dice.random_bool(0.3),
            retention: dice.random_bool(0.4),
            operator: dice.random_bool(0.5),
            reorgs: dice.random_bool(0.6),
            poison: if dice.random_bool(0.4) { 1 } else { 0 },
            bad: (0..dice.random_range(0..3)).map(|_| BAD[dice.random_range(0..4)]).collect(),
        }
    }
}

impl World {
    pub(super) async fn trouble(&mut self) {
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
        if self.faults.hangs && self.chance(300) {
            let until = self.now + self.dice.random_range(0..120 * SECOND);
            match self.dice.random_range(0..=self.servers.len()) {
                0 => self.node_hangs_until = until,
                server => self.servers[server - 1].hung_until = until,
            }
        }
        if self.faults.upgrade && self.version == 0 && self.now > TROUBLE / 4 && self.chance(200) {
            self.counts.add("upgrades");
            self.version = 1;
        }
        // One after the other, as they are stopped and started with the new program.
        if self.version == 1 && self.servers[server].target != TARGETS[1] {
            self.crash(server);
        }
        if self.version == 1 && self.clients[client].target != TARGETS[1] && self.chance(500) {
            let life = self.clients[client].life;
            self.after(0, Step::ClientDies { client, life });
        }
        if self.faults.migrations && self.chance(100) && self.engine.migrate(self.sequence).await {
            self.counts.add("migrations");
        }
        if self.faults.retention && self.chance(500) {
            self.forget(server).await;
        }
        if self.faults.reorgs && self.head > DEEPEST && self.chance(400) {
            self.reorg();
        }
        if self.faults.operator && !self.engine.rows.is_empty() {
            let (now, id) = (self.clock(server), self.clients[client].id);
            let job = self.engine.rows[self.dice.random_range(0..self.engine.rows.len())].id;
            match self.dice.random_range(0..9) {
                0..=5 if !self.engine.knows(job) => self.counts.add("decisions on forgotten jobs"),
                0 => {
                    if self.engine.cancel(job, now).await.is_ok() {
                        self.watched.remove(&job);
                    }
                }
                1..4 => drop(self.engine.requeue(job, now).await),
                4 => self.engine.prioritise(job, self.dice.random_range(-100..=100), now).await,
                5 => {
                    if self.engine.release(job, now).await.is_ok() {
                        self.counts.add("jobs taken by an operator");
                        self.watched.remove(&job);
                    }
                }
                6 => self.engine.decide(id, StandingEvent::Drain, now).await,
                7 => {
                    self.engine.decide(id, StandingEvent::Quarantine, now).await;
                    self.watched.retain(|job, watched| {
                        let job = &self.engine.rows[self.engine.find(*job)].job;
                        job.state.lease().is_some_and(|held| held.id == watched.lease)
                    });
                }
                _ => self.engine.decide(id, StandingEvent::Release, now).await,
            }
        }
    }

    /// Ends all trouble: bad clients go, poison is cured, an operator forgives.
    pub(super) async fn calm(&mut self) {
        self.faults = Faults::none();
        self.poison.clear();
        self.node_hangs_until = self.now;
        for server in 0..self.servers.len() {
            self.servers[server].paused_until = self.now;
            self.servers[server].hung_until = self.now;
            if self.servers[server].target != TARGETS[self.version] {
                self.crash(server);
            }
            if !self.servers[server].up {
                self.start(server).await;
            }
        }
        let now = self.clock(0);
        for client in 0..self.clients.len() {
            let this = &mut self.clients[client];
            this.paused_until = self.now;
            let (id, honest) = (this.id, this.kind == Kind::Honest);
            this.up &= honest && this.target == TARGETS[self.version];
            if !honest {
                this.life += 1;
            } else if !this.up {
                this.up = true;
                this.life += 1;
                (this.waiting, this.work) = (false, None);
                this.target = TARGETS[self.version];
                self.wake(client, 0);
            }
            self.engine.decide(id, StandingEvent::Release, now).await;
        }
    }

    /// Retention at work in a server.
    async fn forget(&mut self, server: usize) {
        if !self.servers[server].up || self.transaction(server).is_none() {
            return;
        }
        let now = self.clock(server);
        if self.engine.forget(now).await == 0 {
            return;
        }
        let last_final = self.engine.last_final();
        for row in self.engine.rows.iter().filter(|row| row.forgotten) {
            let batch = &self.engine.batches[row.batch];
            assert!(Some(batch.batch.blocks.last()) <= last_final, "it may come back");
            self.counts.add("forgotten jobs");
            let _proof = self.accepted.remove(&row.id);
            let jobs = self.engine.jobs_of(row.batch);
            let proved = jobs.iter().any(|job| self.engine.rows[*job].job.state == State::Proved);
            assert!(proved || batch.superseded, "blocks without a proof were forgotten");
        }
        self.watched.retain(|job, _| self.engine.knows(*job));
    }

    pub(super) fn chance(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.dice.random_range(0..1_000) < of_a_thousand
    }

    /// Sends something over the network, which may lose, double and delay it.
    pub(super) fn send(&mut self, step: Step) {
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

    /// The node finds that its newest blocks are others: new ones, or those it had before.
    pub(super) fn reorg(&mut self) {
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

    pub(super) async fn requeue_the_dead(&mut self) {
        let dead = self.engine.rows.iter().filter(|row| !row.forgotten);
        let dead = dead.filter(|row| matches!(row.job.state, State::Dead(_)));
        for job in dead.map(|row| row.id).collect::<Vec<_>>() {
            self.engine.requeue(job, self.clock(0)).await.expect("it is dead");
        }
    }
}
