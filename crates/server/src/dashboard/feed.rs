//! Tells all viewers what changes on the board.
//!
//! * The board is put together once for all viewers, and not while nobody looks.
//! * A viewer who is too slow misses changes, and gets the whole board then.
//! * Some streams are kept for operators: whoever only looks cannot take them all.
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
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
};
use tokio_util::sync::CancellationToken;

/// The shortest pause from one look to the next, once something has changed.
const SOON: Duration = Duration::from_millis(100);

/// The shortest without news.
const QUICK: Duration = Duration::from_millis(200);

/// The longest, unless a look itself takes longer.
const SLOW: Duration = Duration::from_millis(400);

/// Without news, looking takes one part in so many of the time, as far as the pauses go.
const SHARE: u32 = 20;

/// So many changes wait for a viewer who is slow.
const BEHIND: usize = 16;

/// A stream without news says so often that it lives.
const ALIVE: Duration = Duration::from_secs(5);

/// Whether a viewer may still look is asked so often.
const CHECKED: Duration = Duration::from_secs(1);

/// One stream in so many is kept for operators.
const KEPT: usize = 8;

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
    /// Something has changed here.
    changed: Notify,
    /// An operator decided something since that was asked last.
    decided: AtomicBool,
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

/// What a stream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// One that anybody may have who may look.
    Common,
    /// Also one that is kept for operators.
    Operators,
}

/// What has changed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Jobs or clients.
    Moved,
    /// What operators decided.
    Decided,
}

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
        let (changed, decided) = Default::default();
        Self(Arc::new(Inner { latest, changes, viewers, most, wanted, changed, decided, stopping }))
    }

    /// Something has changed here: viewers are told soon.
    pub fn news(&self, news: News) {
        if news == News::Decided {
            self.0.decided.store(true, Ordering::SeqCst);
        }
        self.0.changed.notify_one();
    }

    /// Whether an operator decided something here since this was asked last.
    pub(crate) fn take_decided(&self) -> bool {
        self.0.decided.swap(false, Ordering::SeqCst)
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
        seat: Seat,
        may_look: A,
    ) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<A>, Crowded> {
        let most = match seat {
            Seat::Common => self.0.most - self.0.most / KEPT,
            Seat::Operators => self.0.most,
        };
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
            // A database that is slow is left alone for half of the time, whatever happens.
            let took = begun.elapsed();
            let pause = (took * SHARE).clamp(QUICK, SLOW).max(took);
            let news = async {
                tokio::time::sleep(SOON.max(took)).await;
                self.0.changed.notified().await;
            };
            tokio::select! {
                () = self.0.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = news => {}
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
            (0..100).map(|_| Box::pin(feed.watch(Seat::Operators, || true).unwrap())).collect();
        assert!(matches!(feed.watch(Seat::Operators, || true), Err(Crowded(100))));
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
    async fn viewers_leave_room_for_operators() {
        let (feed, _, _stopping) = counting(16);
        let viewers: Vec<_> =
            (0..14).map(|_| Box::pin(feed.watch(Seat::Common, || true).unwrap())).collect();
        assert!(matches!(feed.watch(Seat::Common, || true), Err(Crowded(14))));
        let operators: Vec<_> =
            (0..2).map(|_| Box::pin(feed.watch(Seat::Operators, || true).unwrap())).collect();
        assert!(matches!(feed.watch(Seat::Operators, || true), Err(Crowded(16))));
        drop((viewers, operators));
        assert_eq!(feed.viewers(), 0);
    }

    #[tokio::test]
    async fn news_cut_the_pause_short_and_a_slow_database_is_left_alone() {
        // What a look takes, and the pause after it without news and with news: never shorter, and the shortest of a few not much longer.
        let slow = Duration::from_millis(600);
        for (takes, quiet, with_news) in
            [(Duration::from_millis(40), SLOW, SOON), (slow, slow, slow)]
        {
            let (stopping, times) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
            let feed = Feed::new(1, stopping.clone());
            let seen = times.clone();
            tokio::spawn(feed.clone().run(move || {
                let seen = seen.clone();
                async move {
                    let begun = Instant::now();
                    tokio::time::sleep(takes).await;
                    seen.lock().unwrap().push((begun, Instant::now()));
                    (board(1), 1)
                }
            }));
            let _viewer = Box::pin(feed.watch(Seat::Common, || true).unwrap());
            let shortest = async |news: bool| {
                times.lock().unwrap().clear();
                while times.lock().unwrap().len() < 4 {
                    if news {
                        feed.news(News::Moved);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let times = times.lock().unwrap();
                times.windows(2).map(|two| two[1].0 - two[0].1).min().unwrap()
            };
            let near = |pause: Duration, wanted: Duration| {
                (wanted - Duration::from_millis(2)..wanted + Duration::from_millis(150))
                    .contains(&pause)
            };
            let found = shortest(false).await;
            assert!(near(found, quiet), "{takes:?} without news: {found:?}");
            let found = shortest(true).await;
            assert!(near(found, with_news), "{takes:?} with news: {found:?}");
            stopping.cancel();
        }
    }

    #[tokio::test]
    async fn who_is_too_slow_gets_the_whole_and_who_may_not_look_any_more_nothing() {
        let (feed, looks, stopping) = counting(10);
        let may = Arc::new(AtomicBool::new(true));
        let asked = may.clone();
        let mut slow =
            Box::pin(feed.watch(Seat::Common, move || asked.load(Ordering::SeqCst)).unwrap());
        let mut other = Box::pin(feed.watch(Seat::Common, || true).unwrap());
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
