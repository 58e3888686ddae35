//! The servers that a client works for: which one is asked for a job, how they are asked at the same time, and for how long one that
//! fails is left alone.
//!
//! * A server that answers nothing keeps no other from being asked: the next one is asked after [`HEDGE`].
//! * While several servers have no work, all of them hold a request open.
//! * The first job is taken. One that a slow server lends after that is given back at once.

use super::shared::{Lent, Shared};
use crate::{
    Phase,
    api::{Api, CallError},
    prover::Cancel,
    pulse::{back_off, believed},
};
use protocol::{FailureClass, NoWorkReason, ProofData, Request, Response};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// How long a client that stops waits for a server to say whether it has lent it something.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// The next server is asked when one has not answered for so long.
const HEDGE: Duration = Duration::from_millis(500);

/// A server is asked again at the earliest after so long, whatever it says.
const SOONEST: Duration = Duration::from_millis(250);

/// A server that wants to be left alone is left alone for this long at most.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// A server to work for.
pub(crate) struct Server {
    pub(super) api: Api,
    /// For heartbeats, whose thread needs connections of its own.
    pub(super) beats: Api,
    /// Set when it says that no more jobs are to be asked for.
    pub(super) drained: Cancel,
    health: Mutex<Health>,
}

/// How a server has behaved lately.
#[derive(Clone, Copy, Debug)]
struct Health {
    /// Calls in a row to which it gave no sensible answer.
    failures: u32,
    /// It is left alone until then.
    rests_until: Instant,
    /// It has no work before then.
    ask_at: Instant,
    /// When it lent us a job: who did so long ago is asked first.
    lent: Option<Instant>,
    /// A request for work is under way.
    asked: Option<Inquiry>,
    /// It has said that it has no work, and nobody has lent us any since.
    has_none: bool,
    /// Jobs in a row that it lent us and then did not know.
    disowned: u32,
    /// Why it lends us no job, if that is not for lack of jobs.
    barred: Option<NoWorkReason>,
}

/// What to do about a server that lends this client no job.
const fn advice(reason: NoWorkReason) -> &'static str {
    match reason {
        NoWorkReason::NotCapable => {
            "its jobs ask for another proof system, program or kind of proofs: run a client of the server's version, with --prover as the server's and a prover that makes the server's --kind"
        }
        NoWorkReason::MockedProofsRefused => {
            "it takes no proofs that prove nothing: install l2-prover-risc0 beside l2-prover, and set no RISC0_DEV_MODE"
        }
        NoWorkReason::ProgramRevoked => "this client's program is revoked: install a later version",
        NoWorkReason::Resting => "this client failed, and rests",
        NoWorkReason::Draining => "an operator drains the server or this client",
        NoWorkReason::Quarantined => {
            "an operator has to release this client: l2-prover clients release"
        }
        NoWorkReason::AnotherInstance => "another process works under this client's id",
        _ => "a later version's reason",
    }
}

/// A request for work that is under way.
#[derive(Clone, Copy, Debug)]
struct Inquiry {
    since: Instant,
    /// It is held open by the server.
    held: bool,
}

impl Server {
    /// A server reached through `api`, and through `beats` for heartbeats only.
    pub(crate) fn new(api: Api, beats: Api) -> Self {
        let now = Instant::now();
        let health = Health {
            failures: 0,
            rests_until: now,
            ask_at: now,
            lent: None,
            asked: None,
            disowned: 0,
            barred: None,
            has_none: false,
        };
        Self { api, beats, drained: Cancel::new(), health: Mutex::new(health) }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when it is left alone.
    pub(super) fn rests_until(&self) -> Instant {
        self.health().rests_until
    }

    /// It works.
    pub(super) fn recovered(&self) {
        self.health().failures = 0;
    }

    /// It has judged a proof.
    pub(super) fn judged(&self) {
        let mut health = self.health();
        (health.failures, health.disowned) = (0, 0);
    }

    /// It is asked for work before all others.
    pub(super) fn comes_first(&self) {
        self.health().lent = None;
    }

    /// It is asked for work after all others.
    pub(super) fn comes_last(&self) {
        self.health().lent = Some(Instant::now());
    }
}

impl Shared {
    /// Waits for a job. None: the client drains, or its disk has no room.
    pub(super) async fn next_job(
        self: &Arc<Self>,
        asking: &mut JoinSet<()>,
    ) -> Option<(usize, Response)> {
        let mut lent = self.want();
        while self.room().is_ok() {
            let wake = self.ask_servers(asking);
            tokio::select! {
                biased;
                () = self.stop.draining.cancelled() => break,
                Ok(job) = &mut lent => return Some(job),
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            while asking.try_join_next().is_some() {}
        }
        self.want_none();
        // It may have come in the very moment.
        if let Ok((server_index, job)) = lent.try_recv() {
            self.at_hand_no_more();
            self.send_back(server_index, job, "the client stops asking for work").await;
        }
        None
    }

    /// Asks those servers that are due. Returns when to look again.
    fn ask_servers(self: &Arc<Self>, asking: &mut JoinSet<()>) -> Instant {
        let now = Instant::now();
        let mut wake = now + self.config.max_back_off;
        let mut due = Vec::new();
        let mut answering = true;
        for (server_index, server) in self.servers.iter().enumerate() {
            let health = *server.health();
            if let Some(Inquiry { since, held: false }) = health.asked
                && now < since + HEDGE
            {
                // It may be about to lend us a job.
                answering = false;
                wake = wake.min(since + HEDGE);
            }
            if health.asked.is_some() || server.drained.is_set() || !self.may_ask(server_index) {
                continue;
            }
            let at = health.rests_until.max(health.ask_at);
            if now < at {
                wake = wake.min(at);
            } else {
                let fails = health.failures > 0;
                due.push((fails, health.has_none, health.lent, server_index));
            }
        }
        if !answering {
            return wake;
        }
        due.sort_unstable();
        let alone = self.servers.len() == 1;
        for (_, has_none, _, server_index) in due {
            let held = alone || has_none;
            let wait = if held { self.config.wait } else { Duration::ZERO };
            let inquiry = Inquiry { since: now, held: held && !wait.is_zero() };
            self.servers[server_index].health().asked = Some(inquiry);
            asking.spawn(self.clone().ask(server_index, wait));
            // One after the other, as long as one may have a job: two jobs would be one too many.
            if !held {
                return wake.min(now + HEDGE);
            }
        }
        wake
    }

    /// Asks one server for a job.
    async fn ask(self: Arc<Self>, server_index: usize, wait: Duration) {
        let server = &self.servers[server_index];
        let request = self.request(wait);
        let mut call = Box::pin(server.api.request(request.clone()));
        let slow = wait + self.config.patience;
        let mut told = false;
        let answer = loop {
            tokio::select! {
                biased;
                () = self.leaving.cancelled() => break None,
                answer = &mut call => break Some(answer),
                () = tokio::time::sleep(slow), if !told => {
                    told = true;
                    tracing::warn!(
                        code = "server_silent", server = server.api.server(),
                        "a server does not answer a request for work; the others are asked meanwhile"
                    );
                    let error = format!("{} does not answer", server.api.server());
                    self.show(Phase::Unreachable { error });
                }
            }
        };
        drop(call);
        let Some(answer) = answer else { return self.leave(server_index, request).await };
        let now = Instant::now();
        match answer {
            Ok(ProofData::Response(job)) => {
                let lent = self.lent(server_index, job);
                let known = matches!(lent, Lent::Known);
                {
                    let mut health = server.health();
                    (health.failures, health.asked) = (0, None);
                    // A server that lends the same job again would do so at once.
                    health.ask_at = if known { now + 2 * SOONEST } else { now };
                }
                match lent {
                    Lent::Known => {}
                    Lent::Taken => {
                        server.comes_last();
                        for server in &self.servers {
                            server.health().has_none = false;
                        }
                    }
                    Lent::Unwanted(job) => {
                        tracing::info!(job = %job.job, server = server.api.server(), "a job came too late; it goes back");
                        let why = "the client had got another job before";
                        self.send_back(server_index, *job, why).await;
                    }
                }
            }
            Ok(ProofData::NoWork(no_work)) => {
                let reason = no_work.reason;
                let barred = Some(reason).filter(|reason| *reason != NoWorkReason::NothingReady);
                if std::mem::replace(&mut server.health().barred, barred) != barred
                    && let Some(reason) = barred
                {
                    let (server, what) = (server.api.server(), advice(reason));
                    tracing::warn!(
                        code = "no_job_for_us",
                        server,
                        ?reason,
                        what,
                        "the server lends this client no job"
                    );
                }
                if reason == NoWorkReason::AnotherInstance {
                    self.another_instance(server.api.server());
                }
                self.show(Phase::Idle(Some(reason)));
                let said = Duration::from_millis(no_work.retry_after_ms);
                let most = self.config.max_back_off;
                let pause = believed(said, SOONEST, most, rand::random());
                let mut health = server.health();
                (health.failures, health.asked) = (0, None);
                // It is asked anew at once for a request that it may hold open.
                let hold = wait.is_zero()
                    && self.servers.len() > 1
                    && reason == NoWorkReason::NothingReady
                    && !health.has_none;
                health.ask_at = if hold { now } else { now + pause };
                health.has_none = true;
            }
            // `Api::request` returns nothing else.
            Ok(_) => server.health().asked = None,
            Err(error) => {
                server.health().asked = None;
                self.avoid(server_index, &error);
            }
        }
        self.changed.notify_one();
    }

    /// Gives back a job that was not begun.
    async fn send_back(&self, server_index: usize, job: Response, why: &str) {
        let class = FailureClass::Cancelled;
        self.report(server_index, job.job, job.lease, class, why.to_owned()).await;
    }

    /// Gives back what the server may have lent us in the moment in which we stopped listening.
    async fn leave(&self, server_index: usize, request: Request) {
        if !self.may_ask(server_index) {
            return;
        }
        let request = self.servers[server_index].api.request(Request { wait_ms: 0, ..request });
        if let Ok(Ok(ProofData::Response(job))) =
            tokio::time::timeout(LEAVE_PATIENCE, request).await
            && let Lent::Unwanted(job) = self.lent(server_index, job)
        {
            self.send_back(server_index, *job, "the client was stopped").await;
        }
    }

    /// Leaves a server alone for a while, longer each time: it does not know a job that it has just lent us.
    pub(super) fn disowned(&self, server_index: usize) {
        self.rest(server_index, "it does not know a job that it has lent");
    }

    /// Leaves a server alone for a while, longer each time, because of a job that it has just lent us.
    pub(super) fn rest(&self, server_index: usize, error: &str) {
        let server = &self.servers[server_index];
        let mut health = server.health();
        let pause = back_off(health.disowned, self.config.max_back_off, rand::random());
        health.disowned = health.disowned.saturating_add(1);
        health.rests_until = health.rests_until.max(Instant::now() + pause);
        tracing::warn!(
            code = "server_unusable",
            server = server.api.server(),
            error,
            "server unusable; it is left alone for a while"
        );
    }

    /// Leaves a server alone for a while, longer each time, and for as long as it wants.
    pub(super) fn avoid(&self, server_index: usize, error: &CallError) {
        let server = &self.servers[server_index];
        tracing::warn!(
            code = "server_unusable",
            server = server.api.server(),
            %error,
            "no luck; trying again"
        );
        {
            let mut health = server.health();
            let pause = back_off(health.failures, self.config.max_back_off, rand::random());
            let wanted = error
                .retry_after()
                .map(|said| believed(said, Duration::ZERO, LONGEST_REST, rand::random()));
            health.rests_until = Instant::now() + pause.max(wanted.unwrap_or_default());
            health.failures = health.failures.saturating_add(1);
            health.has_none = false;
        }
        self.show(Phase::Unreachable { error: error.to_string() });
    }
}
