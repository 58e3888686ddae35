//! Servers: they take messages, act on them in transactions that may fail, crash and start again.

use super::{
    clients::{Answer, Client, Message},
    engine::{RULES, TARGETS},
    invariants::Watched,
    world::{PATIENCE, SECOND, Step, Time, World},
};
use protocol::{ArtifactId, JobId, LeaseId, Submit, Verdict};
use rand::Rng;
use server::{
    clock::Timestamp,
    jobs::Target,
    jobs::state::{Lease, Outcome, Refused, State},
    store::{Offer, Submitted},
};
use std::collections::BTreeSet;

pub(super) struct Server {
    pub(super) up: bool,
    pub(super) life: u64,
    pub(super) paused_until: Time,
    /// Until then it takes what is sent to it and does nothing.
    pub(super) hung_until: Time,
    /// What it wants proofs for.
    pub(super) target: Target,
    /// Its clock minus ours.
    pub(super) offset: u64,
    pub(super) verifying: BTreeSet<(JobId, LeaseId, ArtifactId)>,
}

impl World {
    pub(super) fn lives(&self, server: usize, life: u64) -> bool {
        self.servers[server].up && self.servers[server].life == life
    }

    /// Whether a transaction fails, before or after it is committed; sometimes its server goes with it.
    pub(super) fn fails(&mut self, server: usize) -> Option<bool> {
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

    pub(super) fn crash(&mut self, server: usize) {
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

    pub(super) async fn start(&mut self, server: usize) {
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
        self.servers[server].target = TARGETS[self.version];
        let (life, now) = (self.servers[server].life, self.clock(server));
        self.engine.restart(alone, now).await;
        if alone {
            for watched in self.watched.values_mut() {
                watched.until = now + RULES.lease;
            }
        }
        self.after(60 * SECOND, Step::Sweep { server, life });
    }

    pub(super) async fn serve(&mut self, server: usize, from: usize, message: Message) {
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
        if this.hung_until > self.now {
            return self.counts.add("messages to hung servers");
        }
        let (life, now, to) = (this.life, self.clock(server), self.clients[from].id);
        if let Message::Beat { job, .. } | Message::Fail { job, .. } | Message::Submit { job, .. } =
            &message
            && !self.engine.knows(*job)
        {
            self.counts.add("messages about forgotten jobs");
            if let Message::Submit { submit, .. } = message {
                self.answer(from, Answer::Verdict { proof: submit.proof.sha256 });
            }
            return;
        }
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
                        if refused == Refused::Quarantined {
                            self.counts.add("jobs taken from quarantined clients");
                            self.watched.remove(&job);
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
                let place = self.engine.rows[self.engine.find(job)].batch;
                let answer = if held && self.lost_inputs.contains(&place) {
                    self.counts.add("lost inputs");
                    let pause = self.dice.random_range(0..10 * SECOND);
                    self.after(pause, Step::Repair { server, life, job });
                    self.engine.input_lost(to, job, lease, now).await
                } else {
                    self.engine.fail(to, job, lease, class, now).await
                };
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

    /// For how long a step has to wait, because the server that is to do it hangs.
    pub(super) fn hangs(&self, step: &Step) -> Option<Time> {
        let (Step::Held { server, .. }
        | Step::Verified { server, .. }
        | Step::Sweep { server, .. }
        | Step::Repair { server, .. }
        | Step::Act { server, .. }) = step
        else {
            return None;
        };
        let until = self.servers[*server].hung_until;
        Some(until.saturating_sub(self.now)).filter(|pause| *pause > 0)
    }

    /// Makes a lost input again, if the node still has the blocks.
    pub(super) async fn repair(&mut self, server: usize, job: JobId) {
        if !self.engine.knows(job) || self.transaction(server).is_none() {
            return;
        }
        let place = self.engine.rows[self.engine.find(job)].batch;
        let batch = &self.engine.batches[place].batch;
        let has = batch.blocks.last() <= self.head
            && self.batch(batch.blocks.first(), batch.blocks.last()).statement == batch.statement;
        if has && self.now >= self.node_hangs_until && self.lost_inputs.remove(&place) {
            let now = self.clock(server);
            self.engine.replace_input(job, now).await;
        }
    }

    /// Whether a transaction may go on, and whether its outcome is told.
    pub(super) fn transaction(&mut self, server: usize) -> Option<bool> {
        match self.fails(server) {
            None => Some(true),
            Some(true) => Some(false),
            Some(false) => None,
        }
    }

    pub(super) fn job(&self, job: JobId) -> server::jobs::state::Job {
        self.engine.rows[self.engine.find(job)].job.clone()
    }

    pub(super) fn holds(&self, job: JobId, lease: LeaseId) -> bool {
        self.job(job).state.lease().is_some_and(|held| held.id == lease)
    }

    pub(super) fn answer(&mut self, client: usize, answer: Answer) {
        let life = self.clients[client].life;
        self.send(Step::ToClient { client, life, answer });
    }

    pub(super) async fn lend(&mut self, server: usize, from: usize, number: u64, asked: Timestamp) {
        let Some(told) = self.transaction(server) else { return };
        let now = self.clock(server);
        let Client { id: client, party, target, .. } = self.clients[from];
        let before: Vec<_> = self.engine.rows.iter().map(|row| row.job.lost).collect();
        let lease = LeaseId::from_bytes(self.dice.random());
        let offer = self.engine.lease(client, party, target, lease, asked, now).await;
        for (row, before) in before.into_iter().enumerate() {
            let id = self.engine.rows[row].id;
            if self.engine.rows[row].job.lost > before {
                // Leases end by themselves when they run out, or when their client has asked for work since.
                let watched = self.watched.remove(&id).expect("it was held");
                let ran_out = watched.until < now;
                let too_long = now.after(watched.since) > RULES.max_hold;
                assert!(
                    ran_out || too_long || watched.client == client,
                    "a living client lost its lease"
                );
                self.counts.add(match (ran_out, too_long) {
                    (true, _) => "expired leases",
                    (_, true) => "leases held for too long",
                    _ => "abandoned leases",
                });
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
                let Lease { id: lease, since, .. } = leased.lease;
                self.watched.insert(job, Watched { lease, client, since, until });
                Answer::Job { number, job, lease: leased.lease.id, blocks: leased.blocks }
            }
            other => {
                if matches!(other, Offer::Resting { .. }) && !self.engine.rests(client, now) {
                    self.counts.add("newcomers without room");
                }
                if matches!(other, Offer::Nothing { .. }) {
                    let idle = self.engine.rows.iter().find(|row| match &row.job.state {
                        State::Ready => row.target == target && row.job.not_before <= now,
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
    pub(super) async fn take_in(&mut self, server: usize, from: usize, job: JobId, submit: Submit) {
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

    pub(super) async fn judge(
        &mut self,
        server: usize,
        from: usize,
        job: JobId,
        submit: Submit,
        valid: bool,
    ) {
        let proof = submit.proof.sha256;
        self.servers[server].verifying.remove(&(job, submit.lease, proof));
        let Some(told) = self.transaction(server) else { return };
        let now = self.clock(server);
        if !self.engine.knows(job) {
            return;
        }
        let losses = self.faults.losses;
        if self.chance(losses) {
            if self.engine.lose_proof(job, &submit, now).await {
                self.counts.add("lost proofs");
                if self.job(job).state.lease().is_none() {
                    self.watched.remove(&job);
                }
            }
            return;
        }
        let Some(verdict) = self.engine.judge(job, &submit, valid, now).await else {
            return self.counts.add("proofs lost by another server");
        };
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
}
