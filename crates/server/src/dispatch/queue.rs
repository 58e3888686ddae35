//! Whose proof is verified next: there is time for so many at once, and anybody may hand in what is none.
//!
//! * First come proofs under their job's live lease, then those under a lease that their client once had on the job, then all
//!   others. Each rank has a share of the turns, so that none starves: a valid proof needs no lease.
//! * Within a rank the senders take turns, whoever handed in how many.
//! * The queue is bounded, by sender and in all. Who finds it full is told so before anything is written down.
//! * A sender of garbage without a lease has to wait, longer each time, before it may hand in more such proofs.

use protocol::LeaseId;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Who handed a proof in: a token, or the address of whoever has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sender(u64);

impl Sender {
    /// The sender that is told from others by `who`.
    pub fn of(who: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        who.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// How much there is to say for a proof before it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// It comes under the job's live lease, from the client that has it.
    Live(LeaseId),
    /// It comes under a lease that its client once had on the job.
    Late,
    /// Nothing.
    Stranger,
}

/// Which ranks have the first choice, turn by turn.
const TURNS: [usize; 8] = [0, 0, 1, 0, 0, 1, 0, 2];

/// Proofs of each rank that one sender may have in the queue, and all together.
const MOST: [(usize, usize); 3] = [(4_096, 16_384), (256, 4_096), (32, 1_024)];

/// How long a sender of garbage waits at first, and at the most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// So many senders of garbage are remembered. When there are more, all are forgotten.
const MOST_SENDERS: usize = 10_000;

/// Why a proof does not get a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// There are too many in the queue.
    #[error("too many proofs wait to be verified; hand it in again later")]
    Full,
    /// Its sender has handed in garbage lately.
    #[error(
        "proofs without a lease that were handed in lately were no proofs; wait before the next"
    )]
    Garbage {
        /// So long.
        pause: Duration,
    },
}

impl Busy {
    /// When to try again.
    pub fn pause(&self) -> Duration {
        match self {
            Self::Full => Duration::from_secs(5),
            Self::Garbage { pause } => *pause,
        }
    }
}

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Proofs that may be verified beside those that are.
    free: usize,
    ranks: [Waiting; 3],
    /// Places taken.
    taken: [HashMap<Sender, usize>; 3],
    all: [usize; 3],
    /// Leases under which a proof waits, or is being verified, with the first rank.
    live: HashSet<LeaseId>,
    turn: usize,
    /// How often senders handed in garbage, and until when they wait.
    garbage: HashMap<Sender, (u32, Instant)>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whose turn it is.
    senders: VecDeque<Sender>,
    of: HashMap<Sender, VecDeque<oneshot::Sender<Permit>>>,
}

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: Queue,
    sender: Sender,
    rank: usize,
    lease: Option<LeaseId>,
}

/// Time to verify one proof, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Option<Queue>);

impl Waiting {
    fn push(&mut self, sender: Sender, call: oneshot::Sender<Permit>) {
        let calls = self.of.entry(sender).or_default();
        if calls.is_empty() {
            self.senders.push_back(sender);
        }
        calls.push_back(call);
    }

    fn pop(&mut self) -> Option<oneshot::Sender<Permit>> {
        let sender = self.senders.pop_front()?;
        let calls = self.of.get_mut(&sender)?;
        let call = calls.pop_front();
        if calls.is_empty() {
            self.of.remove(&sender);
        } else {
            self.senders.push_back(sender);
        }
        call
    }
}

impl Queue {
    /// How many proofs have a place.
    pub(super) fn len(&self) -> u64 {
        self.lock().all.iter().sum::<usize>() as u64
    }

    /// A queue for `at_once` proofs at the same time.
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            free: at_once,
            ranks: Default::default(),
            taken: Default::default(),
            all: [0; 3],
            live: HashSet::new(),
            turn: 0,
            garbage: HashMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a proof, if there is one.
    ///
    /// # Errors
    /// [`Busy`].
    pub(super) fn admit(&self, sender: Sender, rank: Rank, now: Instant) -> Result<Ticket, Busy> {
        self.enter(sender, rank, Some(now))
    }

    /// A place for a proof that was written down before.
    pub(super) fn admit_again(&self, sender: Sender, rank: Rank) -> Ticket {
        self.enter(sender, rank, None).expect("without a time nothing is refused")
    }

    /// `now` is none if nothing may be refused.
    fn enter(&self, sender: Sender, rank: Rank, now: Option<Instant>) -> Result<Ticket, Busy> {
        let mut inner = self.lock();
        let (rank, lease) = match rank {
            // A lease is for one proof: whoever tries another under it waits with those that are late.
            Rank::Live(lease) if !inner.live.contains(&lease) => (0, Some(lease)),
            Rank::Live(_) | Rank::Late => (1, None),
            Rank::Stranger => (2, None),
        };
        if let Some(now) = now {
            if rank == 2
                && let Some((_, until)) = inner.garbage.get(&sender)
                && now < *until
            {
                return Err(Busy::Garbage { pause: *until - now });
            }
            let (most, most_of_all) = MOST[rank];
            let taken = inner.taken[rank].get(&sender).copied().unwrap_or_default();
            if taken >= most || inner.all[rank] >= most_of_all {
                return Err(Busy::Full);
            }
        }
        *inner.taken[rank].entry(sender).or_default() += 1;
        inner.all[rank] += 1;
        inner.live.extend(lease);
        drop(inner);
        Ok(Ticket { queue: self.clone(), sender, rank, lease })
    }

    /// How a proof turned out that had this ticket.
    pub(super) fn judged(&self, ticket: &Ticket, valid: bool, now: Instant) {
        if ticket.rank < 2 {
            return;
        }
        let mut inner = self.lock();
        if valid {
            inner.garbage.remove(&ticket.sender);
            return;
        }
        if inner.garbage.len() >= MOST_SENDERS && !inner.garbage.contains_key(&ticket.sender) {
            inner.garbage.clear();
        }
        let (times, until) = inner.garbage.entry(ticket.sender).or_insert((0, now));
        // Those that were in the queue already count as one. Whoever was quiet for long begins anew.
        if now >= *until {
            let forgiven = now - *until > LONGEST_PAUSE * 10;
            *times = if forgiven { 1 } else { times.saturating_add(1) };
            *until = now + (FIRST_PAUSE * 2u32.pow((*times - 1).min(6))).min(LONGEST_PAUSE);
        }
    }

    /// Gives free time to whoever is next.
    fn free(&self) {
        loop {
            let call = {
                let mut inner = self.lock();
                let first = TURNS[inner.turn % TURNS.len()];
                let order = [first, 0, 1, 2];
                let Some(call) = order.into_iter().find_map(|rank| inner.ranks[rank].pop()) else {
                    inner.free += 1;
                    return;
                };
                inner.turn += 1;
                call
            };
            match call.send(Permit(Some(self.clone()))) {
                Ok(()) => return,
                // It gave up meanwhile. What it did not take goes to the next.
                Err(mut refused) => refused.0 = None,
            }
        }
    }
}

impl Ticket {
    /// Waits until there is time to verify the proof.
    pub(super) async fn turn(&self) -> Permit {
        let called = {
            let mut inner = self.queue.lock();
            if inner.free > 0 {
                inner.free -= 1;
                return Permit(Some(self.queue.clone()));
            }
            let (call, called) = oneshot::channel();
            inner.ranks[self.rank].push(self.sender, call);
            called
        };
        called.await.expect("who waits is called in the end")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        let (rank, lease) = (self.rank, self.lease);
        if let Some(lease) = lease {
            inner.live.remove(&lease);
        }
        inner.all[rank] -= 1;
        if let Some(taken) = inner.taken[rank].get_mut(&self.sender) {
            *taken -= 1;
            if *taken == 0 {
                inner.taken[rank].remove(&self.sender);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.free();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::{cell::RefCell, rc::Rc};

    /// Runs proofs through a queue for one at a time; tells in which order.
    async fn order(proofs: &[(&'static str, Sender, Rank)]) -> Vec<&'static str> {
        let queue = Queue::new(1);
        let busy = queue.admit_again(Sender(99), Rank::Late);
        let permit = busy.turn().await;
        let done = Rc::new(RefCell::new(Vec::new()));
        let all: Vec<_> = proofs
            .iter()
            .map(|(name, sender, rank)| {
                let (ticket, done) = (queue.admit_again(*sender, *rank), done.clone());
                let name = *name;
                async move {
                    let _permit = ticket.turn().await;
                    done.borrow_mut().push(name);
                }
            })
            .collect();
        let mut all = Box::pin(futures::future::join_all(all));
        assert!(all.as_mut().now_or_never().is_none(), "all wait");
        drop(permit);
        all.await;
        done.take()
    }

    fn lease(n: u8) -> Rank {
        Rank::Live(LeaseId::from_bytes([n; 16]))
    }

    #[tokio::test]
    async fn garbage_waits_behind_real_proofs_and_nobody_starves() {
        let (bad, good) = (Sender(1), Sender(2));
        let mut proofs = vec![("garbage", bad, Rank::Stranger); 50];
        proofs.extend([("late", good, Rank::Late), ("honest", good, Rank::Stranger)]);
        proofs.extend((0..20).map(|n| ("live", good, lease(n))));
        let order = order(&proofs).await;
        let at = |name| order.iter().position(|done| *done == name).unwrap();
        assert_eq!(order[0], "live");
        assert!(at("late") <= 3, "{order:?}");
        // One turn of eight is a stranger's, and the honest sender's is the second of those.
        assert!(at("honest") <= 16, "{order:?}");
        assert_eq!(order.iter().filter(|done| **done == "garbage").count(), 50);
    }

    #[tokio::test]
    async fn a_lease_is_for_one_proof() {
        let queue = Queue::new(1);
        let first = queue.admit(Sender(1), lease(1), Instant::now()).unwrap();
        let second = queue.admit(Sender(1), lease(1), Instant::now()).unwrap();
        assert_eq!((first.rank, second.rank), (0, 1));
        drop(first);
        let third = queue.admit(Sender(1), lease(1), Instant::now()).unwrap();
        assert_eq!(third.rank, 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_garbage_has_to_wait_longer_each_time() {
        let (queue, now) = (Queue::new(1), Instant::now());
        let enter = |sender, now| queue.admit(Sender(sender), Rank::Stranger, now);
        let mine: Vec<_> = (0..32).map(|_| enter(1, now).unwrap()).collect();
        assert_eq!(enter(1, now).unwrap_err(), Busy::Full);
        let others: Vec<_> = (2..33).flat_map(|n| (0..32).map(move |_| n)).collect();
        let others: Vec<_> = others.into_iter().map(|n| enter(n, now).unwrap()).collect();
        assert_eq!(enter(99, now).unwrap_err(), Busy::Full, "1,024 in all");
        assert!(queue.admit(Sender(1), Rank::Late, now).is_ok(), "each rank has its own");
        drop(others);

        // All 32 are garbage: that is one time.
        for ticket in &mine {
            queue.judged(ticket, false, now);
        }
        assert_eq!(enter(1, now).unwrap_err(), Busy::Garbage { pause: FIRST_PAUSE });
        drop(mine);
        assert!(enter(2, now).is_ok(), "others need not wait");
        assert!(queue.admit(Sender(1), Rank::Late, now).is_ok());
        let later = now + FIRST_PAUSE;
        queue.judged(&enter(1, later).unwrap(), false, later);
        assert_eq!(enter(1, later).unwrap_err(), Busy::Garbage { pause: FIRST_PAUSE * 2 });
        let later = later + FIRST_PAUSE * 2;
        queue.judged(&enter(1, later).unwrap(), true, later);
        assert!(enter(1, later).is_ok());
    }

    #[tokio::test]
    async fn who_gives_up_costs_nobody_its_turn() {
        let queue = Queue::new(1);
        let tickets: Vec<_> = (0..3).map(|_| queue.admit_again(Sender(1), Rank::Late)).collect();
        let permit = tickets[0].turn().await;
        let mut gives_up = Box::pin(tickets[1].turn());
        let mut waits = Box::pin(tickets[2].turn());
        assert!(
            gives_up.as_mut().now_or_never().is_none() && waits.as_mut().now_or_never().is_none()
        );
        drop(gives_up);
        drop(permit);
        drop(waits.await);
        drop(tickets[0].turn().await);
    }
}
