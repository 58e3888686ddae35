//! Nodes from the leaves under them, where a node has `debug_storageRangeAt` and `debug_accountRange`.
//!
//! Both list a trie's leaves in the order of their hashed keys, from any hash on. All leaves under a path are all that
//! makes up the node at its end. Whether they are all, and right, its hash says.

use super::{
    Collector,
    known::Known,
    siblings::{Gap, cut_back},
};
use crate::trouble::Trouble;
use alloy_consensus::TrieAccount;
use alloy_primitives::{Address, B256, U64, U256, keccak256};
use program::{
    state::NoSource,
    trie::{EMPTY_ROOT, Trie},
};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Leaves in one answer.
const PAGE: usize = 256;
/// Answers for one node at most: it is deep in its trie, so that not much can be under it.
const MAX_PAGES: usize = 64;

/// Leaves by hashed key.
type Leaves = BTreeMap<B256, Vec<u8>>;

#[derive(Debug, Deserialize)]
struct StorageRange {
    storage: BTreeMap<B256, StorageLeaf>,
}

#[derive(Debug, Deserialize)]
struct StorageLeaf {
    value: U256,
}

#[derive(Debug, Deserialize)]
struct AccountRange {
    accounts: BTreeMap<String, AccountLeaf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountLeaf {
    balance: String,
    nonce: u64,
    root: B256,
    code_hash: B256,
    #[serde(default)]
    address: Option<Address>,
    /// The hashed address.
    #[serde(default)]
    key: Option<B256>,
}

impl AccountLeaf {
    /// The hashed address and the leaf's value; `None` if they are not told.
    fn leaf(&self) -> Option<(B256, Vec<u8>)> {
        let key = self.key.or_else(|| self.address.map(keccak256))?;
        #[expect(clippy::needless_update, reason = "alloy's account-ext feature adds a field")]
        let account = TrieAccount {
            nonce: self.nonce,
            balance: self.balance.parse().ok()?,
            storage_root: self.root,
            code_hash: self.code_hash,
            ..Default::default()
        };
        Some((key, alloy_rlp::encode(account)))
    }
}

impl Collector<'_> {
    /// Makes known what can be built of leaves that the node lists. What it does not list stays unknown.
    pub(super) async fn fill_from_ranges(&self, known: &mut Known, gaps: &[Gap]) {
        let (mut no_slots, mut no_accounts) = (false, false);
        for gap in gaps {
            let lacks = if gap.owner.is_some() { &mut no_slots } else { &mut no_accounts };
            if *lacks {
                continue;
            }
            match self.leaves(known, gap).await {
                Ok(leaves) => put(known, leaves),
                // It is neither asked again nor blamed: it need not have them.
                Err(_) => *lacks = true,
            }
        }
    }

    /// The leaves under a gap's path.
    async fn leaves(&self, known: &Known, gap: &Gap) -> Result<Leaves, Trouble> {
        let (mut start, end) = bounds(&gap.path);
        let mut leaves = Leaves::new();
        for _ in 0..MAX_PAGES {
            let page = match gap.owner {
                Some(owner) => self.slots_from(known, owner, start).await?,
                None => self.accounts_from(known, start).await?,
            };
            let last = page.keys().next_back().copied();
            let full = page.len() >= PAGE;
            leaves.extend(page.into_iter().filter(|(key, _)| (start..=end).contains(key)));
            match last {
                Some(last) if full && (start..end).contains(&last) => {
                    start = B256::from(U256::from_be_bytes(last.0) + U256::ONE);
                }
                _ => break,
            }
        }
        Ok(leaves)
    }

    async fn slots_from(
        &self,
        known: &Known,
        owner: Address,
        start: B256,
    ) -> Result<Leaves, Trouble> {
        // Before the block's first transaction: its system calls change no other contracts than their own.
        let params = json!([known.block.decoded.header.hash(), 0, owner, start, PAGE]);
        let range: StorageRange = self.rpc.attempt("debug_storageRangeAt", params).await?;
        let leaves = range.storage.into_iter();
        Ok(leaves.map(|(key, leaf)| (key, alloy_rlp::encode(leaf.value))).collect())
    }

    async fn accounts_from(&self, known: &Known, start: B256) -> Result<Leaves, Trouble> {
        // Without code and storage, with accounts whose addresses the node does not know.
        let at = U64::from(known.parent().number);
        let params = json!([at, start, PAGE, true, true, true]);
        let range: AccountRange = self.rpc.attempt("debug_accountRange", params).await?;
        Ok(range.accounts.values().filter_map(AccountLeaf::leaf).collect())
    }
}

/// The first and the last hash under a path.
fn bounds(path: &[u8]) -> (B256, B256) {
    let (mut first, mut last) = (B256::ZERO, B256::repeat_byte(0xff));
    for (at, nibble) in path.iter().enumerate().take(64) {
        let (shift, mask) = if at % 2 == 0 { (4, 0x0f) } else { (0, 0xf0) };
        first[at / 2] |= nibble << shift;
        last[at / 2] = last[at / 2] & mask | nibble << shift;
    }
    (first, last)
}

/// Adds the nodes of the trie of these leaves, which has all their common parents and, at its root, what was merged.
fn put(known: &mut Known, leaves: Leaves) {
    let mut trie = Trie::from_root(EMPTY_ROOT);
    for (key, value) in leaves {
        // What cannot be a leaf was not one.
        let _ = trie.insert(&key, value, &mut NoSource);
    }
    trie.new_nodes(|hash, node| {
        known.store.put_node(hash, node);
        for node in cut_back(node) {
            known.store.put_node(keccak256(&node), &node);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    #[test]
    fn a_path_has_a_first_and_a_last_hash() {
        let (first, last) = bounds(&[1, 2, 3]);
        assert_eq!(
            first,
            b256!("1230000000000000000000000000000000000000000000000000000000000000")
        );
        assert_eq!(last, b256!("123fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"));
        assert_eq!(bounds(&[]), (B256::ZERO, B256::repeat_byte(0xff)));
    }

    #[test]
    fn an_account_is_read_as_geth_lists_it() {
        let listed = json!({ "accounts": { "pre(0x01)": {
            "balance": "12", "nonce": 3, "root": EMPTY_ROOT, "codeHash": B256::ZERO,
            "key": B256::repeat_byte(1),
        } } });
        let range: AccountRange = serde_json::from_value(listed).unwrap();
        let (key, leaf) = range.accounts.values().next().unwrap().leaf().unwrap();
        let account: TrieAccount = alloy_rlp::decode_exact(&leaf).unwrap();
        assert_eq!((key, account.nonce), (B256::repeat_byte(1), 3));
        assert_eq!(account.balance, U256::from(12));
    }
}
