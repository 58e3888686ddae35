//! The last children of branches that collapse.
//!
//! A branch that is left with one child is merged with it, so the child has to be known: a leaf's or an extension's path
//! grows, a branch's does not. Yet nothing that the block touches lies in that child. It is found by one of these ways,
//! the cheapest first:
//!
//! 1. Near the root, a proof at the parent of any key under it: such keys are found by trial in no time.
//! 2. The proof of the deleted key after the block. It shows a leaf or an extension merged into its new place, from
//!    which it is cut back.
//! 3. What is left is a branch, of which that proof shows the hash alone. A proof at the parent of a key under it shows
//!    it: the keys that the block uses itself and those of the genesis file are tried, and those found by trial.
//! 4. All leaves under it, from `debug_storageRangeAt` or `debug_accountRange`.
//! 5. The block that made it what it is has changed a key under it: see [`super::history`].
//! 6. A long trial.

use super::{
    Collector,
    keys::{Kind, Sought},
    known::{Keys, Known, Wanted},
    reads::Changes,
    work,
};
use crate::{Error, MissingNode};
use alloy_consensus::TrieAccount;
use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::nodes::{ExtensionNode, LeafNode, TrieNode};
use program::trie::{Trie, TrieError};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How near the root, in nibbles, a key is found by trial in milliseconds.
const NEAR: usize = 3;
/// The words that are hashed before the node is asked for more than proofs: enough for paths of 5 nibbles.
const SHORT_TRIAL: u64 = 1 << 23;
/// The words that are hashed when nothing else is left: enough for paths of 7 nibbles.
const LONG_TRIAL: u64 = 1 << 30;
/// The longest paths for which that is worth its while.
const LONG_PATH: usize = 7;

/// A node that has to be known, and that nothing that the block touches shows.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    /// Whose storage it is in; `None` for the accounts' own trie.
    pub(super) owner: Option<Address>,
    /// A key whose removal needs it: an address, or the number of a slot.
    pub(super) removed: B256,
    /// The path to it.
    pub(super) path: Vec<u8>,
    pub(super) hash: B256,
}

impl Gap {
    pub(super) fn kind(&self) -> Kind {
        if self.owner.is_some() { Kind::Slot } else { Kind::Address }
    }

    /// What to ask for to see the way to `word`, which is a key of the gap's trie.
    pub(super) fn key(&self, word: B256) -> (Address, Option<U256>) {
        match self.owner {
            Some(owner) => (owner, Some(word.into())),
            None => (Address::from_word(word), None),
        }
    }
}

/// Sets its flag when it is dropped: then nobody waits for a search any more.
#[derive(Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a gap may be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    NearKeys,
    After,
    KnownKeys,
    ShortTrial,
    Ranges,
    History,
    LongTrial,
}

impl Collector<'_> {
    /// Makes everything known that `changes` need.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; any error of the node while it gives proofs at the parent.
    pub(super) async fn find_siblings(
        &self,
        mut known: Known,
        changes: Changes,
    ) -> Result<Known, Error> {
        let changes = Arc::new(changes);
        loop {
            // What collapses above a gap is seen only when the gap is closed.
            let these = changes.clone();
            let mut left;
            (known, left) = work(move || {
                let gaps = gaps(&mut known, &these);
                (known, gaps)
            })
            .await;
            if left.is_empty() {
                return Ok(known);
            }
            let all = left.len();
            for way in [
                Way::NearKeys,
                Way::After,
                Way::KnownKeys,
                Way::ShortTrial,
                Way::Ranges,
                Way::History,
                Way::LongTrial,
            ] {
                known = self.close(known, &left, way).await?;
                left.retain(|gap| !known.store.has_node(&gap.hash));
                if left.is_empty() {
                    break;
                }
            }
            if let Some(gap) = left.first() {
                let (node, block) = (self.name(), known.parent().number + 1);
                let path = gap.path.iter().map(|nibble| format!("{nibble:x}")).collect();
                let missing = MissingNode { owner: gap.owner, path, hash: gap.hash };
                let (missing, more) = (Box::new(missing), left.len() - 1);
                return Err(Error::UnknownNode { node, block, missing, more });
            }
            tracing::debug!(gaps = all, "siblings of deleted keys were found");
        }
    }

    async fn close(&self, mut known: Known, gaps: &[Gap], way: Way) -> Result<Known, Error> {
        match way {
            Way::After => {
                // A node that has no state there cannot tell, and other ways are left.
                if let Ok(nodes) = self.after(&known, gaps).await {
                    nodes.iter().for_each(|node| known.store.put_node(keccak256(node), node));
                }
                Ok(known)
            }
            Way::Ranges => {
                self.fill_from_ranges(&mut known, gaps).await;
                Ok(known)
            }
            Way::NearKeys => self.by_trial(known, gaps, NEAR, SHORT_TRIAL).await,
            Way::ShortTrial => self.by_trial(known, gaps, LONG_PATH - 2, SHORT_TRIAL).await,
            Way::LongTrial => self.by_trial(known, gaps, LONG_PATH, LONG_TRIAL).await,
            Way::KnownKeys => {
                let (used, known_before) = (known.words(), self.node.known_keys().clone());
                self.by_keys(known, gaps, move |kind, sought| {
                    used.offer(kind, sought);
                    known_before.words().offer(kind, sought);
                })
                .await
            }
            Way::History => {
                let words = self.keys_of_makers(&known, gaps).await;
                self.by_keys(known, gaps, move |kind, sought| words.offer(kind, sought)).await
            }
        }
    }

    /// Asks for proofs at the parent of keys under the gaps of at most `longest` nibbles, found by trial.
    async fn by_trial(
        &self,
        known: Known,
        gaps: &[Gap],
        longest: usize,
        most: u64,
    ) -> Result<Known, Error> {
        let near: Vec<Gap> = gaps.iter().filter(|gap| gap.path.len() <= longest).cloned().collect();
        let stop = Stop::default();
        let stopped = stop.0.clone();
        self.by_keys(known, &near, move |kind, sought| {
            *sought = std::mem::take(sought).grind(kind, most, &stopped);
        })
        .await
    }

    /// Asks for proofs at the parent of the keys under the gaps that `find` finds.
    async fn by_keys(
        &self,
        mut known: Known,
        gaps: &[Gap],
        find: impl Fn(Kind, &mut Sought) + Send + 'static,
    ) -> Result<Known, Error> {
        if gaps.is_empty() {
            return Ok(known);
        }
        let gaps = gaps.to_vec();
        let keys = work(move || {
            let mut keys = Keys::new();
            for kind in [Kind::Slot, Kind::Address] {
                let of_kind = || gaps.iter().filter(|gap| gap.kind() == kind);
                let mut sought = Sought::new(of_kind().map(|gap| gap.path.as_slice()));
                if !sought.is_done() {
                    find(kind, &mut sought);
                }
                for gap in of_kind() {
                    if let Some(word) = sought.found(&gap.path) {
                        let (address, slot) = gap.key(word);
                        keys.entry(address).or_default().extend(slot);
                    }
                }
            }
            keys
        })
        .await;
        let parent = known.parent().number;
        let wanted = Wanted { keys, ..Wanted::default() };
        // The codes of accounts that a proof merely passes are of no use.
        known.learn(self.fetch(parent, &wanted, &mut Default::default()).await?)?;
        Ok(known)
    }

    /// The nodes that may have been merged into what the proofs of deleted keys show after the block.
    async fn after(&self, known: &Known, gaps: &[Gap]) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys = Keys::new();
        for gap in gaps {
            let (address, slot) = gap.key(gap.removed);
            keys.entry(address).or_default().extend(slot);
        }
        let proofs = self.proofs(&keys, known.parent().number + 1).await?;
        Ok(proofs.iter().flat_map(|proof| proof.nodes()).flat_map(|node| cut_back(node)).collect())
    }
}

/// The nodes that the changes need beside those that are known. There may be more above them.
fn gaps(known: &mut Known, changes: &Changes) -> Vec<Gap> {
    let mut gaps = BTreeMap::new();
    let mut note = |owner, removed, error| {
        if let TrieError::MissingNode { hash, path } = error {
            let path = path.to_string().bytes().skip(2).map(nibble_of).collect();
            gaps.entry(hash).or_insert(Gap { owner, removed, path, hash });
        }
    };
    // ORDER: as the program applies changes: inserts before removals, in every trie, each in the order of hashes.
    let deletes = changes.values().any(|change| change.deleted);
    let mut accounts = BTreeMap::new();
    for (address, change) in changes {
        if deletes {
            accounts.insert((change.deleted, keccak256(address)), address);
        }
        let slots: BTreeMap<(bool, B256), (U256, U256)> = change
            .slots
            .iter()
            .map(|(slot, value)| ((value.is_zero(), keccak256(B256::from(*slot))), (*slot, *value)))
            .collect();
        if !slots.keys().any(|(removed, _)| *removed) {
            continue;
        }
        let Some(root) = known.storage_root(*address) else { continue };
        let (mut trie, mut store) = (Trie::from_root(root), &known.store);
        for ((removed, hash), (slot, value)) in slots {
            let done = match removed {
                true => trie.remove(&hash, &mut store).map(drop),
                false => trie.insert(&hash, alloy_rlp::encode(value), &mut store),
            };
            if let Err(error) = done {
                note(Some(*address), B256::from(slot), error);
            }
        }
    }
    let mut store = &known.store;
    let mut trie = Trie::from_root(known.parent().state_root);
    for ((deleted, hash), address) in accounts {
        let done = match deleted {
            true => trie.remove(&hash, &mut store).map(drop),
            // The shape of the trie does not depend on what an account is.
            false => trie.insert(&hash, alloy_rlp::encode(TrieAccount::default()), &mut store),
        };
        if let Err(error) = done {
            note(None, address.into_word(), error);
        }
    }
    gaps.into_values().collect()
}

/// The value of a hexadecimal digit in lower case.
fn nibble_of(digit: u8) -> u8 {
    if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
}

/// The nodes that may have been merged into this leaf or extension: the same node with less of its path.
pub(super) fn cut_back(node: &[u8]) -> Vec<Vec<u8>> {
    let mut nodes = Vec::new();
    match TrieNode::decode(&mut &*node) {
        Ok(TrieNode::Leaf(LeafNode { key, value })) => {
            for skip in 1..=key.len() {
                let leaf = LeafNode { key: key.slice(skip..), value: value.clone() };
                let mut rlp = Vec::new();
                leaf.as_ref().rlp(&mut rlp);
                nodes.push(rlp);
            }
        }
        Ok(TrieNode::Extension(ExtensionNode { key, child })) => {
            for skip in 1..key.len() {
                let extension = ExtensionNode { key: key.slice(skip..), child: child.clone() };
                let mut rlp = Vec::new();
                extension.as_ref().rlp(&mut rlp);
                nodes.push(rlp);
            }
        }
        _ => {}
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_node_is_cut_back_to_what_it_was() {
        let was =
            LeafNode { key: alloy_trie::Nibbles::from_nibbles([3, 4, 5]), value: vec![7; 40] };
        let merged =
            LeafNode { key: alloy_trie::Nibbles::from_nibbles([1, 2, 3, 4, 5]), ..was.clone() };
        let rlp = |leaf: &LeafNode| alloy_rlp::encode(leaf);
        assert!(cut_back(&rlp(&merged)).contains(&rlp(&was)));
        assert!(!cut_back(&rlp(&was)).contains(&rlp(&merged)));
        assert!(cut_back(&[0x80]).is_empty() && cut_back(&[]).is_empty());
    }
}
