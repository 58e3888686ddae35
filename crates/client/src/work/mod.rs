//! The client's round: hand in what is finished, ask for a job, fetch, prove, keep, hand in.
//!
//! * [`servers`]: which server is asked next, and for how long one that fails is left alone.
//! * [`prove`]: from a lease to a proof on disk, across crashes of the client; failures of the prover.
//! * [`hand_in`]: from a proof on disk to a verdict; failures that are reported to a server.
//! * [`heartbeat`]: keeps leases alive meanwhile.

mod hand_in;
mod heartbeat;
mod prove;
mod servers;

pub use heartbeat::Heartbeats;
pub use servers::Server;

use crate::{
    Config, Phase, Status,
    breaker::Breaker,
    journal::{Claim, Journal, JournalError},
    metrics::Metrics,
    prover::Prover,
};
use protocol::LeaseId;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How a client is told to end.
#[derive(Clone, Debug)]
pub struct Stop {
    /// No more jobs; the one at hand may be finished. Cancelled with `now`.
    pub draining: CancellationToken,
    /// Nothing more; the job at hand goes back.
    pub now: CancellationToken,
}

/// What a client is made of.
pub struct Worker {
    config: Config,
    servers: Vec<Server>,
    journal: Arc<Journal>,
    prover: Arc<dyn Prover>,
    status: watch::Sender<Status>,
    metrics: Metrics,
    stop: Stop,
    beats: Heartbeats,
    /// The job at hand, and before that the one which the last client in this folder was killed with.
    claim: Option<Claim>,
    /// Leases that are kept alive.
    held: Vec<(LeaseId, DropGuard)>,
    /// Open if the prover cannot be trusted with a job now.
    breaker: Breaker,
    /// While it is open: when to test the prover.
    test_at: Option<Instant>,
}

impl Worker {
    /// Puts a client together.
    #[expect(clippy::too_many_arguments, reason = "they are its parts")]
    pub fn new(
        config: Config,
        servers: Vec<Server>,
        beats: Heartbeats,
        journal: Arc<Journal>,
        prover: Arc<dyn Prover>,
        status: watch::Sender<Status>,
        metrics: Metrics,
        stop: Stop,
    ) -> Self {
        Self {
            breaker: Breaker::new(config.broken_failures, config.broken_pause),
            test_at: None,
            config,
            servers,
            journal,
            prover,
            status,
            metrics,
            stop,
            beats,
            claim: None,
            held: Vec::new(),
        }
    }

    /// Works until it is stopped.
    pub async fn run(mut self) {
        self.take_over().await;
        while !self.stop.draining.is_cancelled() {
            if let Err(error) = self.round().await {
                tracing::error!(code = "folder_unusable", %error, "the client's folder cannot be used; trying again");
                self.status.send_modify(|status| status.last_error = Some(error.to_string()));
                self.pause(self.config.max_back_off).await;
            }
        }
        // A job whose input could not be fetched, say: another client shall have it at once.
        if let Some(claim) = self.claim.take() {
            self.give_back(&claim, "the client was stopped").await;
        }
        self.status.send_modify(|status| status.phase = Phase::Stopped);
    }

    /// Hands in what is finished; then one job, or one question, or one pause.
    async fn round(&mut self) -> Result<(), JournalError> {
        let journal = self.journal.clone();
        let mut owed = Vec::new();
        for entry in blocking(move || journal.open_entries()).await? {
            if !self.hand_in(&entry, None).await? {
                owed.push(self.server_index(entry.server.as_deref()));
            }
            if self.stop.draining.is_cancelled() {
                return Ok(());
            }
        }
        if let Some(test_at) = self.test_at {
            let pause = test_at.saturating_duration_since(Instant::now());
            self.pause(pause.min(self.config.max_back_off)).await;
            if !pause.is_zero() {
                return Ok(());
            }
            self.self_test().await;
            return Ok(());
        }
        // A server whose job we have proven would lend us the same one again.
        let askable = |(server_index, server): &(usize, &Server)| {
            let owed =
                owed.iter().any(|lender| lender.is_none_or(|lender| lender == *server_index));
            !owed && !server.drained.is_set()
        };
        let asked = self.servers.iter().enumerate().filter(askable);
        let now = Instant::now();
        match asked
            .min_by_key(|(_, server)| server.next)
            .map(|(server_index, server)| (server_index, server.next))
        {
            Some((server_index, next)) if next <= now => self.ask(server_index).await,
            _ => {
                let soon = self.servers.iter().map(|server| server.next).filter(|next| *next > now);
                match soon.min() {
                    Some(next) => self.pause(next.duration_since(now)).await,
                    None => self.pause(self.config.max_back_off).await,
                }
                Ok(())
            }
        }
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.stop.draining.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
