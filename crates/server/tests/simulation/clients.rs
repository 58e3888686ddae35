//! Clients, honest and otherwise: what they say, and what they do with the answers.

use super::{
    engine::TARGETS,
    faults::Kind,
    world::{BEAT, PATIENCE, SECOND, Step, Time, World},
};
use protocol::{
    ArtifactId, ArtifactRef, BlockRange, ClientId, FailureClass, JobId, LeaseId, Submit,
};
use rand::Rng;
use server::jobs::{Party, Target};

/// What a client tells a server.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Ask { number: u64 },
    Beat { job: JobId, lease: LeaseId },
    Fail { job: JobId, lease: LeaseId, class: FailureClass },
    Submit { job: JobId, submit: Submit },
}

/// What a server answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Job { number: u64, job: JobId, lease: LeaseId, blocks: BlockRange },
    NoWork { number: u64 },
    Stop { lease: LeaseId },
    Verdict { proof: ArtifactId },
}

pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) party: Party,
    pub(super) kind: Kind,
    pub(super) up: bool,
    pub(super) life: u64,
    pub(super) paused_until: Time,
    /// What it can prove.
    pub(super) target: Target,
    /// The number of its last question.
    pub(super) number: u64,
    pub(super) waiting: bool,
    /// Its job, and when it will be proved.
    pub(super) work: Option<(JobId, LeaseId)>,
    /// Proofs on its disk that have no verdict. They outlive it.
    pub(super) proofs: Vec<(JobId, Submit)>,
    /// Leases it has heard of.
    pub(super) heard_of: Vec<(JobId, LeaseId)>,
    pub(super) proving: Time,
}

impl World {
    pub(super) fn ask(&mut self, client: usize) {
        let server = self.dice.random_range(0..self.servers.len());
        let this = &mut self.clients[client];
        this.number += 1;
        this.waiting = true;
        let (number, life) = (this.number, this.life);
        self.send(Step::ToServer { server, from: client, message: Message::Ask { number } });
        self.after(PATIENCE, Step::Wake { client, life, number });
    }

    pub(super) fn tell(&mut self, client: usize, message: Message) {
        let server = self.dice.random_range(0..self.servers.len());
        self.send(Step::ToServer { server, from: client, message });
    }

    /// Sets the client's alarm.
    pub(super) fn wake(&mut self, client: usize, delay: Time) {
        let (life, number) = (self.clients[client].life, self.clients[client].number);
        self.after(delay, Step::Wake { client, life, number });
    }

    pub(super) fn client_step(&mut self, client: usize, step: Step) {
        let id = self.clients[client].id;
        match step {
            Step::ClientStarts { .. } => {
                let this = &mut self.clients[client];
                (this.up, this.target) = (true, TARGETS[self.version]);
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
                let statement = self.engine.batch_of(job).batch.statement.clone();
                let target = self.clients[client].target;
                let submit = self.proof(id, lease, target, (!lies).then_some(statement));
                self.clients[client].proofs.push((job, submit));
                self.wake(client, 0);
            }
            Step::ToClient { answer, .. } => self.hear(client, answer),
            _ => unreachable!("it is no step of a client"),
        }
    }

    /// A new proof of a statement, or of nothing.
    pub(super) fn proof(
        &mut self,
        client: ClientId,
        lease: LeaseId,
        target: Target,
        proves: Option<Vec<u8>>,
    ) -> Submit {
        let proof = ArtifactRef::of(&self.dice.random::<[u8; 16]>());
        self.artifacts.insert(proof.sha256, proves);
        let Target { system, program_id, kind } = target;
        Submit { client, lease, system, program_id, kind, proof }
    }

    pub(super) fn hear(&mut self, client: usize, answer: Answer) {
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
                let place = self.engine.rows[self.engine.find(job)].batch;
                let losses = self.faults.losses;
                if self.chance(losses) {
                    self.lost_inputs.insert(place);
                }
                if self.lost_inputs.contains(&place) {
                    let class = FailureClass::InputMissing;
                    self.tell(client, Message::Fail { job, lease, class });
                    return self.wake(client, SECOND);
                }
                match self.clients[client].kind {
                    Kind::Silent => return self.wake(client, 61 * SECOND),
                    Kind::Failing => {
                        let class = FailureClass::BackendFailed;
                        self.tell(client, Message::Fail { job, lease, class });
                        return self.wake(client, SECOND);
                    }
                    Kind::Honest | Kind::Liar | Kind::Thief => {}
                }
                self.clients[client].work = Some((job, lease));
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
    pub(super) fn misbehave(&mut self, client: usize) {
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
        let other = self.dice.random_range(0..self.engine.batches.len());
        let statement = self.engine.batches[other].batch.statement.clone();
        let target = self.clients[client].target;
        let (name, class) = (self.clients[victim].id, FailureClass::GuestPanic);
        let message = match self.dice.random_range(0..5) {
            0 => Message::Beat { job, lease },
            1 => Message::Beat { job: old_job, lease },
            2 => Message::Fail { job: old_job, lease, class },
            3 => Message::Submit { job, submit: self.proof(name, lease, target, None) },
            _ => Message::Submit { job, submit: self.proof(name, lease, target, Some(statement)) },
        };
        self.tell(client, message);
    }
}
