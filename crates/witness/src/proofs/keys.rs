//! Keys whose hashes begin as a trie's path does: a proof of such a key shows the node at the end of that path.

use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, U256, keccak256, map::HashMap};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// The longest path, in nibbles, whose keys can be sought: more than anybody can search.
const LONGEST: usize = 32;

/// What is hashed to a trie's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An account's address, here as the end of a word.
    Address,
    /// The number of a slot.
    Slot,
}

impl Kind {
    /// The trie's key for this word.
    pub(super) fn hash(self, word: &B256) -> B256 {
        match self {
            Self::Address => keccak256(Address::from_word(*word)),
            Self::Slot => keccak256(word),
        }
    }
}

/// Slots' numbers and addresses that are known to be in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) slots: BTreeSet<B256>,
    pub(super) addresses: BTreeSet<Address>,
}

impl Words {
    /// Offers those of one kind.
    pub(super) fn offer(&self, kind: Kind, sought: &mut Sought) {
        let mut offer = |word: B256| sought.offer(&kind.hash(&word), &word);
        match kind {
            Kind::Address => self.addresses.iter().map(|a| a.into_word()).for_each(&mut offer),
            Kind::Slot => self.slots.iter().copied().for_each(&mut offer),
        }
    }
}

/// Keys of a chain's state that are known beforehand. They may help to find trie nodes that a node does not show by
/// itself. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct KnownKeys(Arc<Words>);

impl KnownKeys {
    /// The accounts and slots of a genesis file.
    pub fn of_genesis(genesis: &Genesis) -> Self {
        let storages = genesis.alloc.values().filter_map(|account| account.storage.as_ref());
        Self(Arc::new(Words {
            slots: storages.flat_map(|storage| storage.keys().copied()).collect(),
            addresses: genesis.alloc.keys().copied().collect(),
        }))
    }

    pub(super) fn words(&self) -> &Words {
        &self.0
    }
}

/// Paths for which keys are sought, and the keys found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sought {
    /// By number of nibbles.
    by_length: Vec<(usize, HashMap<u128, Option<B256>>)>,
    left: usize,
}

impl Sought {
    /// Seeks keys under these paths, of at most [`LONGEST`] nibbles; longer ones are never found.
    pub(super) fn new<'p>(paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut sought = Self::default();
        for path in paths.into_iter().filter(|path| (1..=LONGEST).contains(&path.len())) {
            let of_length = sought.by_length.iter().position(|(length, _)| *length == path.len());
            let at = of_length.unwrap_or_else(|| {
                sought.by_length.push((path.len(), HashMap::default()));
                sought.by_length.len() - 1
            });
            if sought.by_length[at].1.insert(packed(path), None).is_none() {
                sought.left += 1;
            }
        }
        sought
    }

    /// Whether all keys have been found.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Notes `word`, whose hash is given, for the paths on which it lies and that have no key yet.
    pub(super) fn offer(&mut self, hash: &B256, word: &B256) {
        for (length, paths) in &mut self.by_length {
            if let Some(found @ None) = paths.get_mut(&beginning(hash, *length)) {
                *found = Some(*word);
                self.left -= 1;
            }
        }
    }

    fn misses(&self, hash: &B256) -> bool {
        let mut lengths = self.by_length.iter();
        lengths.any(|(length, paths)| paths.get(&beginning(hash, *length)) == Some(&None))
    }

    /// The key under this path, if it was found.
    pub(super) fn found(&self, path: &[u8]) -> Option<B256> {
        let (_, paths) = self.by_length.iter().find(|(length, _)| *length == path.len())?;
        paths.get(&packed(path)).copied().flatten()
    }

    /// Hashes words until keys are found for all paths, `most` words were hashed, or `stop` is set. Uses all
    /// processors.
    ///
    /// A path of n nibbles takes 16^n hashes on average; many paths of that length take little more than one.
    pub(super) fn grind(self, kind: Kind, most: u64, stop: &AtomicBool) -> Self {
        /// Words between two looks at what others found.
        const STRIDE: u64 = 1 << 12;
        let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let (left, done) = (AtomicUsize::new(self.left), Mutex::new(self.clone()));
        let search = |thread: u64| {
            for stride in (thread..).step_by(usize::try_from(threads).unwrap_or(1)) {
                let first = stride.saturating_mul(STRIDE);
                let over = left.load(Ordering::Relaxed) == 0 || stop.load(Ordering::Relaxed);
                if first >= most || over {
                    return;
                }
                for number in first..first + STRIDE {
                    let word = B256::from(U256::from(number));
                    let hash = kind.hash(&word);
                    if self.misses(&hash) {
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.offer(&hash, &word);
                        left.store(done.left, Ordering::Relaxed);
                    }
                }
            }
        };
        let search = &search;
        // A few hashes are not worth a thread.
        match most <= STRIDE {
            true => search(0),
            false => std::thread::scope(|scope| {
                (0..threads).for_each(|thread| drop(scope.spawn(move || search(thread))));
            }),
        }
        done.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first nibbles of a path, in the upper bits.
fn packed(path: &[u8]) -> u128 {
    let nibbles = path.iter().enumerate();
    nibbles.fold(0, |packed, (at, nibble)| packed | u128::from(*nibble) << (124 - 4 * at))
}

/// The first nibbles of a hash, in the upper bits. `length` is not 0, and at most [`LONGEST`].
fn beginning(hash: &B256, length: usize) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(half) & (u128::MAX << (4 * (LONGEST - length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    #[test]
    fn keys_are_found_under_all_paths_at_once() {
        let paths: [&[u8]; 5] = [&[7], &[0, 15], &[10, 0, 3], &[10, 0, 4], &[1, 2, 3, 4]];
        for kind in [Kind::Slot, Kind::Address] {
            let found = Sought::new(paths).grind(kind, 1 << 21, &AtomicBool::new(false));
            assert!(found.is_done());
            for path in paths {
                let hash = hex::encode(kind.hash(&found.found(path).unwrap()));
                let digits: String = path.iter().map(|nibble| format!("{nibble:x}")).collect();
                assert!(hash.starts_with(&digits), "{hash} under {digits}");
            }
        }
    }

    #[test]
    fn a_search_ends_where_it_is_told_to() {
        let path: &[u8] = &[1; 32];
        let sought = Sought::new([path]);
        assert!(!sought.clone().grind(Kind::Slot, 1 << 14, &AtomicBool::new(false)).is_done());
        assert!(!sought.grind(Kind::Slot, u64::MAX, &AtomicBool::new(true)).is_done());
    }

    #[test]
    fn what_is_offered_is_taken_once_and_for_its_path_alone() {
        let word = B256::from(U256::from(5));
        let hash = Kind::Slot.hash(&word);
        let path: Vec<u8> = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(9).collect();
        let mut sought = Sought::new([path.as_slice()]);
        sought.offer(&Kind::Slot.hash(&B256::ZERO), &B256::ZERO);
        assert!(!sought.is_done());
        sought.offer(&hash, &word);
        assert!(sought.is_done());
        // Another with such a hash would not be taken.
        sought.offer(&hash, &B256::ZERO);
        assert_eq!(sought.found(&path), Some(word));
        // Nobody searches so far.
        assert!(Sought::new([[1; 33].as_slice()]).is_done());
    }
}
