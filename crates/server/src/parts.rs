//! The parts of a server that run in the background, and that none of them dies unnoticed.

use std::future::Future;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;

/// The name of the first part that crashed, if one did.
pub type Crashed = watch::Receiver<Option<&'static str>>;

/// Parts that run until the server stops.
#[derive(Debug)]
pub(crate) struct Parts {
    stopping: CancellationToken,
    crashed: watch::Sender<Option<&'static str>>,
    watched: Vec<JoinHandle<()>>,
}

impl Parts {
    /// No parts, until some are started.
    pub(crate) fn new(stopping: CancellationToken) -> Self {
        Self { stopping, crashed: watch::Sender::new(None), watched: Vec::new() }
    }

    /// Starts a part. If it panics, or ends before the server stops, that is logged and told to whoever watches.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (part, stopping, crashed) =
            (tokio::spawn(work), self.stopping.clone(), self.crashed.clone());
        self.watched.push(tokio::spawn(async move {
            let ended = part.await;
            report(name, &ended);
            if ended.is_err() || !stopping.is_cancelled() {
                crashed.send_if_modified(|first| {
                    let news = first.is_none();
                    first.get_or_insert(name);
                    news
                });
            }
        }));
    }

    /// Which part crashed first.
    pub(crate) fn crashed(&self) -> Crashed {
        self.crashed.subscribe()
    }

    /// Waits for the end of all parts.
    pub(crate) async fn join(self) {
        for part in self.watched {
            report("watch", &part.await);
        }
    }
}

/// Logs that a part crashed, if it did.
pub(crate) fn report<T>(part: &'static str, ended: &Result<T, JoinError>) {
    if let Err(error) = ended {
        tracing::error!(code = "part_crashed", part, %error, "a part of the server crashed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_part_that_dies_is_named_and_a_stop_is_no_death() {
        let stopping = CancellationToken::new();
        let mut parts = Parts::new(stopping.clone());
        let stopped = stopping.clone();
        parts.start("sound", async move { stopped.cancelled().await });
        let mut crashed = parts.crashed();
        assert_eq!(*crashed.borrow(), None);
        parts.start("broken", async { panic!("on purpose") });
        assert_eq!(*crashed.wait_for(Option::is_some).await.unwrap(), Some("broken"));
        parts.start("early", async {});
        stopping.cancel();
        parts.join().await;
        assert_eq!(*crashed.borrow(), Some("broken"));

        let stopping = CancellationToken::new();
        let mut parts = Parts::new(stopping.clone());
        let stopped = stopping.clone();
        parts.start("sound", async move { stopped.cancelled().await });
        let crashed = parts.crashed();
        stopping.cancel();
        parts.join().await;
        assert_eq!(*crashed.borrow(), None);
    }
}
