//! Clients that wait for work, in the order in which they came.
//!
//! * A client that waits costs nothing: it looks into the database when it comes, and again when it is called.
//! * As many are called as jobs are ready that they can prove, whoever came first before the others. Who gets nothing then goes
//!   to the end of the line.
//! * No call is lost: if a client that was called goes away, another is called. Besides, somebody looks every [`PATIENCE`].
//! * A client that gets no work for now, whatever is ready, stands aside.

use super::Jobs;
use crate::{clock::Timestamp, store::StoreError};
use protocol::{ClientId, ProofKind, ProofSystem};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// While clients wait, somebody looks at least so often.
const PATIENCE: Duration = Duration::from_secs(5);

/// The shortest pause between two looks that nobody asked for.
const SHORTEST: Duration = Duration::from_millis(50);

/// A client that was called counts as one that takes a job for so long.
const ANSWERS: Duration = Duration::from_secs(2);

/// In one look, so many kinds of jobs at most are looked for: a client may name any number of programs.
const KINDS: usize = 64;

/// That a waiting client was heard is written down in bulk, so often.
const NOTED: Duration = Duration::from_secs(5);

/// What a job asks for, as far as it decides who can prove it.
pub(crate) type Kind = (ProofSystem, alloy_primitives::B256, ProofKind);

/// The clients that wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    inner: Mutex<Inner>,
    /// Somebody has to look.
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// The number of the next who comes.
    next: u64,
    places: BTreeMap<u64, Waiting>,
    /// When somebody looks by himself.
    planned: Option<Timestamp>,
    /// Clients that were heard, which nobody has written down yet.
    heard: BTreeSet<ClientId>,
}

#[derive(Debug)]
struct Waiting {
    client: ClientId,
    kinds: Vec<Kind>,
    state: State,
    call: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    Called(Instant),
    Aside,
}

/// A client's place in the line. It leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Place<'l> {
    line: &'l Line,
    number: u64,
    call: Arc<Notify>,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clients wait.
    pub(super) fn len(&self) -> u64 {
        self.lock().places.len() as u64
    }

    /// A job may have become ready.
    pub(super) fn news(&self) {
        self.news.notify_one();
    }

    /// Lets a client wait that can prove jobs of these kinds.
    pub(super) fn join(&self, client: ClientId, kinds: Vec<Kind>) -> Place<'_> {
        let call = Arc::new(Notify::new());
        let mut inner = self.lock();
        let (number, empty) = (inner.next, inner.places.is_empty());
        inner.next += 1;
        let waiting = Waiting { client, kinds, state: State::Waits, call: call.clone() };
        inner.places.insert(number, waiting);
        drop(inner);
        if empty {
            self.news();
        }
        Place { line: self, number, call }
    }

    /// Calls a client wherever it stands, since something was decided about it.
    pub(super) fn call_client(&self, client: ClientId) {
        for waiting in self.lock().places.values().filter(|waiting| waiting.client == client) {
            waiting.call.notify_one();
        }
    }

    /// A job may become ready by itself at `next`.
    pub(super) fn expect(&self, next: Option<Timestamp>) {
        let Some(next) = next else { return };
        let mut inner = self.lock();
        if inner.planned.is_none_or(|planned| next < planned) {
            inner.planned = Some(next);
            drop(inner);
            self.news();
        }
    }

    /// A client was heard, which need not be written down at once.
    pub(super) fn heard(&self, client: ClientId) {
        self.lock().heard.insert(client);
    }

    /// What those who wait can prove, whoever came first before the others; but first of all what is `wanted`.
    fn kinds(&self, wanted: &[Kind]) -> Vec<Kind> {
        let (mut kinds, mut seen) = (Vec::new(), HashSet::new());
        let inner = self.lock();
        let waiting = || inner.places.values().filter(|place| place.state == State::Waits);
        let all = waiting().flat_map(|place| &place.kinds);
        for kind in all.clone().filter(|kind| wanted.contains(kind)).chain(all) {
            if kinds.len() == KINDS {
                break;
            }
            if seen.insert(*kind) {
                kinds.push(*kind);
            }
        }
        kinds
    }

    /// Calls as many clients as there are jobs of each kind.
    fn call(&self, mut ready: Vec<(Kind, u64)>, now: Instant) {
        let mut take = |kinds: &[Kind]| {
            let job = ready.iter_mut().find(|(kind, jobs)| *jobs > 0 && kinds.contains(kind));
            job.map(|(_, jobs)| *jobs -= 1).is_some()
        };
        let mut inner = self.lock();
        // Those who are on their way take a job each.
        for waiting in inner.places.values() {
            if let State::Called(at) = waiting.state
                && now.saturating_duration_since(at) < ANSWERS
            {
                take(&waiting.kinds);
            }
        }
        for waiting in inner.places.values_mut().filter(|place| place.state == State::Waits) {
            if take(&waiting.kinds) {
                waiting.state = State::Called(now);
                waiting.call.notify_one();
            }
        }
    }
}

impl Place<'_> {
    /// Waits for the call.
    pub(super) async fn called(&self) {
        self.call.notified().await;
    }

    /// The client got nothing. If it was called, it goes to the end of the line.
    pub(super) fn again(&mut self) {
        let mut inner = self.line.lock();
        match inner.places.get_mut(&self.number) {
            Some(waiting) if matches!(waiting.state, State::Called(_)) => {}
            Some(waiting) => {
                waiting.state = State::Waits;
                return;
            }
            None => return,
        }
        let Some(mut waiting) = inner.places.remove(&self.number) else { return };
        waiting.state = State::Waits;
        self.number = inner.next;
        inner.next += 1;
        inner.places.insert(self.number, waiting);
    }

    /// The client gets no work for now. If it was called, another is.
    pub(super) fn aside(&mut self) {
        let mut inner = self.line.lock();
        let Some(waiting) = inner.places.get_mut(&self.number) else { return };
        let before = std::mem::replace(&mut waiting.state, State::Aside);
        drop(inner);
        if matches!(before, State::Called(_)) {
            self.line.news();
        }
    }

    /// The client got a job.
    pub(super) fn served(self) {
        self.line.lock().places.remove(&self.number);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.line.lock().places.remove(&self.number);
        // The job that it was called for is another's now.
        if left.is_some_and(|waiting| matches!(waiting.state, State::Called(_))) {
            self.line.news();
        }
    }
}

impl Jobs {
    /// Calls those who wait when there is work for them, until the server stops.
    pub async fn call_waiting(self) {
        let (mut pause, mut noted, mut failing) = (Duration::ZERO, Instant::now(), false);
        loop {
            tokio::select! {
                biased;
                () = self.0.stopping.cancelled() => return,
                () = self.0.line.news.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            let looked = async {
                if noted.elapsed() >= NOTED {
                    noted = Instant::now();
                    self.note_heard().await?;
                }
                self.call().await
            };
            pause = match looked.await {
                Ok(next) => {
                    failing = false;
                    next
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            code = "ready_unread",
                            error,
                            "ready jobs could not be looked for; trying again"
                        );
                    }
                    Duration::from_secs(1)
                }
            };
        }
    }

    /// Looks once, and says when to look again.
    async fn call(&self) -> Result<Duration, StoreError> {
        let line = &self.0.line;
        let wanted: Vec<_> = self.wanted_kinds();
        let kinds = line.kinds(&wanted);
        if kinds.is_empty() {
            line.lock().planned = None;
            return Ok(PATIENCE);
        }
        let now = self.now().await?;
        let most = line.lock().places.len() as u64;
        let (ready, next) = self.0.store.ready_for(&kinds, most, now).await?;
        let pause = next.map_or(PATIENCE, |next| next.after(now).clamp(SHORTEST, PATIENCE));
        line.lock().planned = Some(now + pause);
        line.call(kinds.into_iter().zip(ready).collect(), Instant::now());
        Ok(pause)
    }

    /// Writes down which of the waiting clients were heard.
    async fn note_heard(&self) -> Result<(), StoreError> {
        let heard = std::mem::take(&mut self.0.line.lock().heard);
        if heard.is_empty() {
            return Ok(());
        }
        self.0.store.heard(&heard, self.now().await?).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    const EXEC: Kind = (ProofSystem::Exec, B256::ZERO, ProofKind::Composite);
    const RISC0: Kind = (ProofSystem::Risc0, B256::ZERO, ProofKind::Composite);

    fn client(n: u8) -> ClientId {
        ClientId::from_bytes([n; 16])
    }

    /// Whether the place's client is called.
    async fn called(place: &Place<'_>) -> bool {
        tokio::time::timeout(Duration::ZERO, place.called()).await.is_ok()
    }

    #[tokio::test]
    async fn as_many_are_called_as_jobs_are_ready_in_the_order_in_which_they_came() {
        let (line, now) = (Line::default(), Instant::now());
        let mut places: Vec<_> =
            [EXEC, RISC0, EXEC, EXEC].map(|kind| line.join(client(1), vec![kind])).into();
        line.call(vec![(EXEC, 2)], now);
        let mut who = Vec::new();
        for place in &places {
            who.push(called(place).await);
        }
        assert_eq!(who, [true, false, true, false]);
        // They are on their way: the same two jobs call nobody else.
        line.call(vec![(EXEC, 2)], now);
        assert!(!called(&places[3]).await);
        // One gets nothing, and goes to the end; one goes away, and its job calls the next.
        places[0].again();
        drop(places.remove(2));
        line.news.notified().await;
        line.call(vec![(EXEC, 1)], now);
        assert!(called(&places[2]).await && !called(&places[0]).await);
        // One that is called and does not come does not count for ever.
        line.call(vec![(EXEC, 1)], now + ANSWERS);
        assert!(called(&places[0]).await);
        // Who gets no work for now does not stand in the way of others.
        places[0].aside();
        line.news.notified().await;
        line.call(vec![(RISC0, 1), (EXEC, 5)], now + ANSWERS);
        assert!(called(&places[1]).await && !called(&places[0]).await);
        line.call_client(client(1));
        assert!(called(&places[0]).await);
        places.remove(1).served();
    }

    #[test]
    fn what_is_wanted_is_looked_for_however_many_programs_are_named() {
        let line = Line::default();
        let nonsense = |n| (ProofSystem::Exec, B256::with_last_byte(n), ProofKind::Composite);
        let _many: Vec<_> = (1..200).map(|n| line.join(client(n), vec![nonsense(n)])).collect();
        let _last = line.join(client(0), vec![RISC0]);
        let kinds = line.kinds(&[RISC0]);
        assert_eq!((kinds.len(), kinds[0], kinds[1]), (KINDS, RISC0, nonsense(1)));
    }
}
