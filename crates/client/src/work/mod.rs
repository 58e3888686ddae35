//! The client's round: ask for a job, fetch, prove, keep. Proofs are handed in meanwhile.
//!
//! * [`shared`]: what the parts share; which servers may be asked.
//! * [`servers`]: which server is asked next, and for how long one that fails is left alone.
//! * [`prove`]: from a lease to a proof on disk, across crashes of the client; failures of the prover.
//! * [`hand_in`]: from a proof on disk to a verdict.
//! * [`heartbeat`]: keeps leases alive meanwhile.

mod hand_in;
mod heartbeat;
mod prove;
mod servers;
mod shared;

pub(crate) use heartbeat::Heartbeats;
pub(crate) use servers::Server;
pub(crate) use shared::{Shared, Stop};

use crate::{
    Config, Phase,
    breaker::Breaker,
    journal::{Claim, JournalError},
};
use hand_in::{Lane, Owed};
use shared::blocking;
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// Proofs that may wait for their turn in one lane: a server with such proofs is not asked for more jobs.
const LANE: usize = 16;

/// What a client is made of.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    beats: Heartbeats,
    /// The job at hand, and before that the one which the last client in this folder was killed with.
    claim: Option<Claim>,
    /// Open if the prover cannot be trusted with a job now.
    breaker: Breaker,
    /// While it is open: when to test the prover.
    test_at: Option<Instant>,
    /// Where proofs go: one lane for each server, and the last one for proofs of unknown lenders.
    lanes: Vec<mpsc::Sender<Owed>>,
}

impl Worker {
    /// Puts a client together.
    pub(crate) fn new(shared: Shared, beats: Heartbeats) -> Self {
        let Config { broken_failures, broken_pause, .. } = shared.config;
        Self {
            breaker: Breaker::new(broken_failures, broken_pause),
            test_at: None,
            shared: Arc::new(shared),
            beats,
            claim: None,
            lanes: Vec::new(),
        }
    }

    /// Works until it is stopped.
    pub(crate) async fn run(mut self) {
        let (mut handing_in, last) = (JoinSet::new(), CancellationToken::new());
        let mut asking = JoinSet::new();
        let shared = self.shared.clone();
        let stop = &shared.stop;
        while !stop.draining.is_cancelled() {
            match self.open_lanes(&mut handing_in, &last).await {
                Ok(()) => break,
                Err(error) => self.unusable(&error).await,
            }
        }
        self.take_over().await;
        while !stop.draining.is_cancelled() {
            if let Err(error) = self.round(&mut asking).await {
                self.unusable(&error).await;
            }
        }
        // A job whose input could not be fetched, say: another client shall have it at once.
        if let Some(claim) = self.claim.take() {
            self.give_back(&claim, "the client was stopped").await;
        }
        last.cancel();
        shared.leaving.cancel();
        while handing_in.join_next().await.is_some() {}
        while asking.join_next().await.is_some() {}
        shared.status.send_modify(|status| status.phase = Phase::Stopped);
    }

    /// The folder cannot be used now.
    async fn unusable(&self, error: &JournalError) {
        tracing::error!(code = "folder_unusable", %error, "the client's folder cannot be used; trying again");
        self.shared.status.send_modify(|status| status.last_error = Some(error.to_string()));
        self.pause(self.shared.config.max_back_off).await;
    }

    /// Begins to hand in proofs, first of all those that lie in the folder.
    async fn open_lanes(
        &mut self,
        handing_in: &mut JoinSet<()>,
        last: &CancellationToken,
    ) -> Result<(), JournalError> {
        let journal = self.shared.journal.clone();
        let entries = blocking(move || journal.open_entries()).await?;
        let servers = self.shared.servers.len();
        let mut waiting: Vec<_> = (0..=servers).map(|_| Vec::new()).collect();
        for entry in entries {
            let home = self.shared.server_index(entry.server.as_deref());
            self.shared.owe(&entry, home);
            waiting[home.unwrap_or(servers)].push(Owed::new(entry, None, None));
        }
        for (index, waiting) in waiting.into_iter().enumerate() {
            let (lane, more) = mpsc::channel(LANE);
            self.lanes.push(lane);
            let home = (index < servers).then_some(index);
            let (shared, last) = (self.shared.clone(), last.clone());
            handing_in.spawn(Lane { shared, home, waiting, more, last }.run());
        }
        Ok(())
    }

    /// One job, or one pause.
    async fn round(&mut self, asking: &mut JoinSet<()>) -> Result<(), JournalError> {
        let shared = self.shared.clone();
        if let Some(test_at) = self.test_at {
            let pause = test_at.saturating_duration_since(Instant::now());
            self.pause(pause.min(shared.config.max_back_off)).await;
            if pause.is_zero() {
                self.self_test().await;
            }
            return Ok(());
        }
        if self.no_room() {
            return Ok(());
        }
        if let Some((server_index, job)) = shared.next_job(asking).await {
            let worked = self.work_on(server_index, job).await;
            shared.at_hand_no_more();
            return worked;
        }
        Ok(())
    }

    async fn pause(&self, pause: std::time::Duration) {
        tokio::select! {
            () = self.shared.stop.draining.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
