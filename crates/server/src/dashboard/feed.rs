//! Tells all viewers what changes on the board.
//!
//! * The board is put together once for all viewers, and not while nobody looks.
//! * A viewer who is too slow misses changes, and gets the whole board then.
//! * A stream ends when its viewer may not look any more, and when the server stops.

use super::board::Board;
use axum::body::Bytes;
use futures::{Stream, stream};
use std::{
    convert::Infallible,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
};
use tokio_util::sync::CancellationToken;

/// The shortest time from one look to the next.
const QUICK: Duration = Duration::from_millis(200);

/// The longest, and that while the database fails.
const SLOW: Duration = Duration::from_secs(1);

/// Looking takes one part in so many of the time at most.
const SHARE: u32 = 20;

/// So many changes wait for a viewer who is slow.
const BEHIND: usize = 16;

/// A stream without news says so often that it lives.
const ALIVE: Duration = Duration::from_secs(15);

/// Whether a viewer may still look is asked so often.
const CHECKED: Duration = Duration::from_secs(1);

/// Brings the board to its viewers. Clones share them.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    latest: Mutex<Latest>,
    changes: broadcast::Sender<Bytes>,
    viewers: AtomicUsize,
    most: usize,
    /// Somebody has come to look.
    wanted: Notify,
    stopping: CancellationToken,
}

#[derive(Default)]
struct Latest {
    board: Option<Board>,
    now: u64,
    /// The whole board as an event, if somebody has asked for it.
    whole: Option<Bytes>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("viewers", &self.viewers()).finish_non_exhaustive()
    }
}

/// There are as many viewers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} dashboards are open already (limits.streams)")]
pub struct Crowded(pub usize);

/// A viewer, until it is dropped.
struct Viewer(Feed);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.0.viewers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What one viewer has seen.
struct Watching<A> {
    viewer: Viewer,
    first: Option<Bytes>,
    changes: broadcast::Receiver<Bytes>,
    silent_since: Instant,
    may_look: A,
}

impl Feed {
    /// Without viewers; at most `most` of them later.
    pub fn new(most: usize, stopping: CancellationToken) -> Self {
        let (changes, _) = broadcast::channel(BEHIND);
        let (latest, viewers, wanted) = Default::default();
        Self(Arc::new(Inner { latest, changes, viewers, most, wanted, stopping }))
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many look.
    pub fn viewers(&self) -> usize {
        self.0.viewers.load(Ordering::SeqCst)
    }

    /// The board as it stands, if there is one, and then each change of it, as the body of a response. It ends once `may_look` says no.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn watch<A: Fn() -> bool + Send + 'static>(
        &self,
        may_look: A,
    ) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<A>, Crowded> {
        let most = self.0.most;
        let one_more = |viewers: usize| (viewers < most).then_some(viewers + 1);
        let (get, set) = (Ordering::SeqCst, Ordering::SeqCst);
        let counted = self.0.viewers.fetch_update(set, get, one_more);
        counted.map_err(|_| Crowded(most))?;
        let viewer = Viewer(self.clone());
        let (first, changes) = self.subscribe();
        // Also while there is no board: the head of the answer goes out with it.
        let first = Some(first.unwrap_or_else(|| Bytes::from_static(b": wait\n\n")));
        let watching = Watching { viewer, first, changes, silent_since: Instant::now(), may_look };
        Ok(stream::unfold(watching, |mut watching| async move {
            let event = watching.next().await?;
            Some((Ok(event), watching))
        }))
    }

    /// All there is to see, and what comes after that.
    fn subscribe(&self) -> (Option<Bytes>, broadcast::Receiver<Bytes>) {
        let mut latest = self.latest();
        // Under the lock: what is published next is the first that it receives.
        let changes = self.0.changes.subscribe();
        let Latest { board, now, whole } = &mut *latest;
        let event = board.as_ref().map(|board| whole.get_or_insert_with(|| board.whole(*now)));
        let event = event.cloned();
        // Also if there is a board: it may be about to be thrown away, since nobody looked a moment ago.
        self.0.wanted.notify_one();
        (event, changes)
    }

    fn publish(&self, board: Board, now: u64) {
        let mut latest = self.latest();
        let event = match &latest.board {
            Some(before) => board.since(before, now),
            None => Some(board.whole(now)),
        };
        if let Some(event) = event {
            *latest = Latest { board: Some(board), now, whole: None };
            // Without a viewer nobody receives it.
            drop(self.0.changes.send(event));
        }
    }

    /// Puts the board together with `look` as long as somebody looks, until the server stops. `look` gets the board before, and says the
    /// time too.
    pub async fn run<F>(self, mut look: impl FnMut() -> F + Send)
    where
        F: Future<Output = (Board, u64)> + Send,
    {
        loop {
            if self.viewers() == 0 {
                // What is shown later must not be old.
                *self.latest() = Latest::default();
                tokio::select! {
                    () = self.0.stopping.cancelled() => return,
                    () = self.0.wanted.notified() => {}
                }
            }
            let begun = Instant::now();
            let (board, now) = tokio::select! {
                () = self.0.stopping.cancelled() => return,
                looked = look() => looked,
            };
            self.publish(board, now);
            let pause = (begun.elapsed() * SHARE).clamp(QUICK, SLOW);
            tokio::select! {
                () = self.0.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl<A: Fn() -> bool> Watching<A> {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(first) = self.first.take() {
                return self.seen(first);
            }
            let feed = self.viewer.0.clone();
            let change = tokio::select! {
                biased;
                () = feed.0.stopping.cancelled() => return None,
                change = self.changes.recv() => change,
                () = tokio::time::sleep(CHECKED) => {
                    if self.silent_since.elapsed() >= ALIVE {
                        return self.seen(Bytes::from_static(b"event: alive\ndata: 1\n\n"));
                    }
                    if !(self.may_look)() {
                        return None;
                    }
                    continue;
                }
            };
            match change {
                Ok(change) => return self.seen(change),
                Err(RecvError::Lagged(_)) => (self.first, self.changes) = feed.subscribe(),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn seen(&mut self, event: Bytes) -> Option<Bytes> {
        self.silent_since = Instant::now();
        (self.may_look)().then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use std::sync::atomic::AtomicBool;

    fn board(value: u64) -> Board {
        let mut board = Board::default();
        board.put("server", "value", &value);
        board
    }

    async fn next(stream: &mut (impl Stream<Item = Result<Bytes, Infallible>> + Unpin)) -> String {
        let event = tokio::time::timeout(Duration::from_secs(60), stream.next()).await.unwrap();
        event.map_or("end".into(), |event| {
            let Ok(event) = event;
            String::from_utf8(event.into()).unwrap()
        })
    }

    /// A feed whose board says how often it was put together.
    fn counting(most: usize) -> (Feed, Arc<AtomicUsize>, CancellationToken) {
        let (stopping, looks) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let feed = Feed::new(most, stopping.clone());
        let seen = looks.clone();
        tokio::spawn(feed.clone().run(move || {
            let looks = seen.fetch_add(1, Ordering::SeqCst) as u64 + 1;
            async move { (board(looks), looks) }
        }));
        (feed, looks, stopping)
    }

    #[tokio::test]
    async fn a_hundred_viewers_cost_one_look_and_none_costs_none() {
        let (feed, looks, _stopping) = counting(100);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(looks.load(Ordering::SeqCst), 0, "nobody looks");
        let mut streams: Vec<_> =
            (0..100).map(|_| Box::pin(feed.watch(|| true).unwrap())).collect();
        assert!(matches!(feed.watch(|| true), Err(Crowded(100))));
        for stream in &mut streams {
            assert_eq!(next(stream).await, ": wait\n\n");
            assert!(next(stream).await.contains(r#""whole":true"#));
        }
        let before = looks.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let made = looks.load(Ordering::SeqCst) - before;
        assert!((2..=11).contains(&made), "{made} looks in two seconds");
        drop(streams);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = looks.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(looks.load(Ordering::SeqCst), before, "nobody looks any more");
        assert_eq!(feed.viewers(), 0);
    }

    #[tokio::test]
    async fn who_is_too_slow_gets_the_whole_and_who_may_not_look_any_more_nothing() {
        let (feed, looks, stopping) = counting(10);
        let may = Arc::new(AtomicBool::new(true));
        let asked = may.clone();
        let mut slow = Box::pin(feed.watch(move || asked.load(Ordering::SeqCst)).unwrap());
        let mut other = Box::pin(feed.watch(|| true).unwrap());
        next(&mut slow).await;
        assert!(next(&mut slow).await.contains(r#""whole":true"#));
        assert!(next(&mut slow).await.contains(r#""whole":false"#));
        let missed = looks.load(Ordering::SeqCst) + 2 * BEHIND;
        while looks.load(Ordering::SeqCst) < missed {
            tokio::time::sleep(QUICK).await;
        }
        assert!(next(&mut slow).await.contains(r#""whole":true"#), "it has missed some");
        assert!(next(&mut slow).await.contains(r#""whole":false"#));
        may.store(false, Ordering::SeqCst);
        assert_eq!(next(&mut slow).await, "end");
        drop(slow);
        assert_eq!(feed.viewers(), 1);
        stopping.cancel();
        // What had been told by then may still come.
        let mut last = next(&mut other).await;
        while last != "end" {
            last = next(&mut other).await;
        }
    }
}
