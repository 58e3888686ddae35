//! Keys from the past: whatever is in a trie was written by some block.
//!
//! The branch that is wanted has been what it is since some block, before which its parent referred to another one or to
//! none. That block has changed a key under it; executing it, with proofs as always, tells the key. It is found as one
//! finds a word in a dictionary: by looking further and further back, then by halving. So a node needs only the states
//! since then.

use super::{
    Collector,
    keys::Words,
    known::{Keys, Known},
    siblings::Gap,
};
use alloy_consensus::Header;
use alloy_primitives::{Sealed, U64};
use futures::StreamExt;
use serde_json::json;
use std::collections::BTreeSet;

/// Proofs that are waited for at the same time.
const AT_ONCE: usize = 64;
/// Blocks that are executed for one block at most.
const MAX_BLOCKS: usize = 256;

/// The search for the block that made a branch what it is.
#[derive(Clone, Debug)]
struct Search {
    gap: Gap,
    /// The newest block after which the branch is known to have been another, or of which the node cannot tell.
    before: Option<u64>,
    /// The oldest block after which it is known to have been this one.
    since: u64,
    step: u64,
}

impl Search {
    /// Which block to look at next; `None` if it is known where the branch comes from, or it comes from the genesis.
    fn next(&self) -> Option<u64> {
        match self.before {
            Some(before) => (self.since - before > 1).then(|| before + (self.since - before) / 2),
            None => (self.since > 0).then(|| self.since.saturating_sub(self.step)),
        }
    }

    /// Whether the branch was there after block `at`, or the node cannot tell.
    fn saw(&mut self, at: u64, there: bool) {
        match there {
            true => (self.since, self.step) = (at, self.step.saturating_mul(2)),
            false => self.before = Some(at),
        }
    }
}

impl Collector<'_> {
    /// Keys that the blocks used which made the gaps' nodes what they are: slots' numbers and addresses. Those of
    /// blocks whose states the node does not have any more are missing.
    pub(super) async fn keys_of_makers(&self, known: &Known, gaps: &[Gap]) -> Words {
        let since = known.parent().number;
        let search = |gap: &Gap| Search { gap: gap.clone(), before: None, since, step: 1 };
        let mut searches: Vec<Search> = gaps.iter().map(search).collect();
        loop {
            let looks: Vec<(usize, u64)> = searches
                .iter()
                .enumerate()
                .filter_map(|(index, search)| Some((index, search.next()?)))
                .collect();
            if looks.is_empty() {
                break;
            }
            let asked: Vec<_> = looks
                .iter()
                .map(|(index, at)| self.was_there(&searches[*index].gap, *at))
                .collect();
            let answers: Vec<bool> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
            for ((index, at), there) in looks.into_iter().zip(answers) {
                searches[index].saw(at, there);
            }
        }
        let mut words = Words::default();
        let makers: BTreeSet<u64> = searches.iter().map(|search| search.since).collect();
        for maker in makers.into_iter().rev().filter(|maker| *maker > 0).take(MAX_BLOCKS) {
            let Some(mut used) = self.keys_of(maker).await else { continue };
            words.slots.append(&mut used.slots);
            words.addresses.append(&mut used.addresses);
        }
        words
    }

    /// Whether the gap's node was in its trie after block `at`; no, if the node cannot tell.
    async fn was_there(&self, gap: &Gap, at: u64) -> bool {
        let (address, slot) = gap.key(gap.removed);
        let keys: Keys = [(address, slot.into_iter().collect())].into();
        let proofs = self.proofs(&keys, at).await.unwrap_or_default();
        let mut nodes = proofs.iter().flat_map(|proof| proof.nodes());
        // Its parent is on the way to the removed key, or is where the two ways part.
        nodes.any(|node| node.windows(32).any(|window| window == gap.hash))
    }

    /// The keys that block `number` uses; `None` if it cannot be executed.
    async fn keys_of(&self, number: u64) -> Option<Words> {
        let rlp = self.node.raw_block(number).await.ok()?;
        let params = json!([U64::from(number - 1), false]);
        let parent: Option<Header> = self.rpc.find("eth_getBlockByNumber", params).await.ok()?;
        let known = self.begin(&rlp, Sealed::new(parent?)).ok()?;
        let guess = known.first_guess();
        let (known, _) = self.read(known, guess).await.ok()?;
        Some(known.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    /// Looks for the block that made something which has been there since `made`, where the oldest state that the node
    /// has is that of block `oldest`. Returns what was found and how many looks it took.
    fn find(made: u64, head: u64, oldest: u64) -> (u64, usize) {
        let gap = Gap { owner: None, removed: B256::ZERO, path: vec![1], hash: B256::ZERO };
        let mut search = Search { gap, before: None, since: head, step: 1 };
        let mut looks = 0;
        while let Some(at) = search.next() {
            search.saw(at, at >= made && at >= oldest);
            looks += 1;
        }
        (search.since, looks)
    }

    #[test]
    fn the_maker_is_found_in_few_looks() {
        for head in [1, 2, 3, 100, 20_000_000] {
            for made in [0, 1, head / 3, head - 1, head].map(|made: u64| made.min(head)) {
                let (found, looks) = find(made, head, 0);
                assert_eq!(found, made, "of {head}");
                assert!(looks <= 52, "{looks}");
            }
        }
        // So close to the head, it takes as many as the distance has bits, and few more.
        assert!(find(20_000_000 - 100, 20_000_000, 0).1 < 16);
    }

    #[test]
    fn old_states_are_not_needed_for_what_is_young() {
        assert_eq!(find(950, 1000, 900).0, 950);
        // Nothing older than what the node has can be found, and the search ends.
        assert_eq!(find(10, 1000, 900).0, 900);
    }
}
