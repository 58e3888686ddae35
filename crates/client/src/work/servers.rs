//! The servers that a client works for: which is asked next, and for how long one that fails is left alone.

use super::Worker;
use crate::{
    Phase,
    api::{Api, CallError},
    journal::JournalError,
    prover::Cancel,
};
use protocol::{Capability, FailureClass, NoWorkReason, ProofData, Request};
use std::time::Duration;
use tokio::time::Instant;

/// How long a client that stops waits for a server to say whether it has lent it something.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// A server to work for.
pub struct Server {
    pub(super) api: Api,
    /// For heartbeats, whose thread needs connections of its own.
    pub(super) beats: Api,
    /// Calls in a row to which it gave no sensible answer.
    pub(super) failures: u32,
    /// It is left alone until then.
    pub(super) next: Instant,
    /// Set when it says that no more jobs are to be asked for.
    pub(super) drained: Cancel,
}

impl Server {
    /// A server reached through `api`, and through `beats` for heartbeats only.
    pub fn new(api: Api, beats: Api) -> Self {
        Self { api, beats, failures: 0, next: Instant::now(), drained: Cancel::new() }
    }
}

impl Worker {
    /// Asks one server for a job, and works on it.
    pub(super) async fn ask(&mut self, server_index: usize) -> Result<(), JournalError> {
        let wait = self.config.wait / u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let request = Request {
            client: self.journal.client(),
            capabilities: vec![Capability {
                system: self.prover.system(),
                program_id: self.prover.program_id(),
                mocked: self.prover.danger().is_some(),
            }],
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = tokio::select! {
            () = self.stop.draining.cancelled() => {
                self.leave(server_index, request).await;
                return Ok(());
            }
            answer = self.servers[server_index].api.request(request.clone()) => answer,
        };
        match answer {
            Ok(ProofData::Response(job)) => {
                let worked = self.work_on(server_index, job).await;
                // The others come first now.
                let server = &mut self.servers[server_index];
                server.next = server.next.max(Instant::now());
                return worked;
            }
            Ok(ProofData::NoWork(no_work)) => {
                let (server, reason) = (&mut self.servers[server_index], no_work.reason);
                if reason != NoWorkReason::NothingReady {
                    let server = server.api.server();
                    tracing::info!(server, ?reason, "server has no job for this client");
                }
                self.status.send_modify(|status| status.phase = Phase::Idle(Some(reason)));
                let pause = Duration::from_millis(no_work.retry_after_ms);
                server.failures = 0;
                server.next = Instant::now() + pause.min(self.config.max_back_off);
            }
            Ok(_) => {}
            Err(error) => self.avoid(server_index, &error),
        }
        Ok(())
    }

    /// Gives back what the server may have lent us in the moment in which we stopped listening.
    async fn leave(&self, server_index: usize, request: Request) {
        let request = self.servers[server_index].api.request(Request { wait_ms: 0, ..request });
        if let Ok(Ok(ProofData::Response(job))) =
            tokio::time::timeout(LEAVE_PATIENCE, request).await
        {
            let why = "the client was stopped".to_owned();
            self.report(server_index, job.job, job.lease, FailureClass::Cancelled, why).await;
        }
    }

    /// Leaves a server alone for a while, longer each time.
    pub(super) fn avoid(&mut self, server_index: usize, error: &CallError) {
        let server = &mut self.servers[server_index];
        tracing::warn!(
            code = "server_unusable",
            server = server.api.server(),
            %error,
            "no luck; trying again"
        );
        let pause = back_off(server.failures, self.config.max_back_off, rand::random());
        server.next = Instant::now() + pause;
        server.failures = server.failures.saturating_add(1);
        let phase = Phase::Unreachable { error: error.to_string() };
        self.status.send_modify(|status| status.phase = phase);
    }

    /// Which of our servers has this address.
    pub(super) fn server_index(&self, address: Option<&str>) -> Option<usize> {
        self.servers.iter().position(|server| Some(server.api.server()) == address)
    }
}

/// A pause before the next attempt: doubling from a quarter second, and random (`dice`) between its half and its whole so
/// that clients do not come back all at once.
pub(super) fn back_off(failures: u32, most: Duration, dice: u16) -> Duration {
    let full = (Duration::from_millis(250) * (1 << failures.min(16))).min(most);
    full.mul_f64(0.5 + 0.5 * f64::from(dice) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter_up_to_the_most() {
        let most = Duration::from_secs(30);
        assert_eq!(back_off(0, most, u16::MAX), Duration::from_millis(250));
        assert_eq!(back_off(0, most, 0), Duration::from_millis(125));
        assert_eq!(back_off(3, most, u16::MAX), Duration::from_secs(2));
        assert_eq!(back_off(u32::MAX, most, u16::MAX), most);
    }
}
