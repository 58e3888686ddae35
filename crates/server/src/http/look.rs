//! Puts together what the dashboard shows.

use super::service::Service;
use crate::{
    dashboard::{board::Board, page},
    store::{JobFilter, StoreError},
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Jobs with which something went wrong, and decisions of operators, that are shown.
const LISTED: u32 = 30;

/// What changes slowly, or is dear to read, is read so often.
const NOW_AND_THEN: Duration = Duration::from_secs(2);

/// When a client was heard is shown to so many milliseconds: each change of it is told to all who look.
const HEARD_TO: u64 = 10_000;

/// Looks at a server for the dashboard. Clones share what was read before.
#[derive(Clone, Debug)]
pub(crate) struct Looker {
    service: Service,
    before: Arc<Mutex<Before>>,
}

#[derive(Debug, Default)]
struct Before {
    read: Option<Instant>,
    slow: Board,
    /// The latest board of a database that answered.
    board: Board,
    now: u64,
    failing: bool,
}

impl Looker {
    pub(crate) fn new(service: Service) -> Self {
        Self { service, before: Arc::default() }
    }

    fn before<T>(&self, with: impl FnOnce(&mut Before) -> T) -> T {
        with(&mut self.before.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How things stand, and the server's time. While the database fails: how they stood, and that it fails.
    pub(crate) async fn look(self) -> (Board, u64) {
        match self.read().await {
            Ok((board, now)) => self.before(|before| {
                (before.board, before.now, before.failing) = (board.clone(), now, false);
                (board, now)
            }),
            Err(error) => self.before(|before| {
                if !std::mem::replace(&mut before.failing, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        code = "dashboard_unread",
                        error,
                        "what the dashboard shows could not be read; it shows what was known last"
                    );
                }
                let mut board = before.board.clone();
                board.put("server", "failing", &true);
                (board, before.now)
            }),
        }
    }

    async fn read(&self) -> Result<(Board, u64), StoreError> {
        let status = self.service.status().await?;
        let mut board = self.slow().await?;
        let jobs = self.service.jobs();
        board.put("server", "version", &env!("CARGO_PKG_VERSION"));
        board.put("server", "page", &page::version());
        board.put("server", "crashed", &self.service.crashed());
        board.put("server", "intake", &status.intake);
        board.put("server", "counts", &status.counts);
        board.put("server", "settlements", &status.settlements);
        let chain = json!({
            "head": status.head,
            "enqueued": status.last_enqueued,
            "proved": status.proved_through,
            "final": status.finalized,
        });
        board.put("server", "chain", &chain);
        let switches =
            json!({ "draining_since": status.draining_since, "paused_since": status.paused_since });
        board.put("server", "switches", &switches);
        let queue = json!({
            "proofs_waiting": jobs.proofs_waiting(),
            "clients_waiting": jobs.requests_waiting(),
        });
        board.put("server", "queue", &queue);
        // What changes often is put beside what is long and does not.
        for mut job in status.jobs {
            if let Some(progress) = job.progress.take() {
                board.put("progress", job.job, &progress);
            }
            board.put("jobs", job.job, &job);
        }
        for mut client in status.clients {
            let key = client.client;
            board.put("hardware", key, &std::mem::take(&mut client.capabilities));
            board.put("heard", key, &(client.last_seen / HEARD_TO * HEARD_TO));
            client.last_seen = 0;
            board.put("clients", key, &client);
        }
        Ok((board, status.now))
    }

    async fn slow(&self) -> Result<Board, StoreError> {
        if self.service.feed().take_decided() {
            self.before(|before| before.read = None);
        }
        let known = self.before(|before| {
            let fresh = before.read.is_some_and(|read| read.elapsed() < NOW_AND_THEN);
            fresh.then(|| before.slow.clone())
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let (mut board, store) = (Board::default(), self.service.jobs().store());
        for trend in store.trends().await? {
            board.put("trends", trend.seq, &trend);
        }
        for (settlement, block_and_time) in store.settled_lately().await? {
            board.put("settled", settlement, &block_and_time);
        }
        let troubled = JobFilter { troubled: true, ..JobFilter::default() };
        for job in store.list(&troubled, LISTED).await?.items {
            board.put("troubled", job.job, &job);
        }
        board.put("server", "clients_known", &store.clients_known().await?);
        for entry in store.audit(None, LISTED).await?.items {
            board.put("audit", entry.id, &entry);
        }
        self.before(|before| (before.read, before.slow) = (Some(Instant::now()), board.clone()));
        Ok(board)
    }
}
