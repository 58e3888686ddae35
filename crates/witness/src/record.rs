//! Records a witness: the part of a whole state in memory that executing a block reads.
//!
//! ```text
//! Store ──▶ Recorder ──▶ State, in which blocks are executed ──▶ Recorded: nodes, codes, how far back BLOCKHASH reached
//! ```

use alloy_consensus::{TrieAccount, constants::EMPTY_ROOT_HASH};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, keccak256,
    map::{B256Map, B256Set},
};
use alloy_rlp::Decodable;
use alloy_trie::nodes::{RlpNode, TrieNode};
use program::{
    state::{NoSource, State, StateSource},
    trie::{NodeSource, Trie},
};

/// Trie nodes and codes by their Keccak-256. It can open the state of every block whose nodes were added.
#[derive(Clone, Debug, Default)]
pub struct Store {
    nodes: B256Map<Box<[u8]>>,
    codes: B256Map<Bytes>,
}

impl Store {
    /// The tries and codes of these accounts, and the state root.
    pub fn with_accounts<'g>(
        accounts: impl IntoIterator<Item = (&'g Address, &'g GenesisAccount)>,
    ) -> (Self, B256) {
        // A trie that starts empty never asks for a node.
        let mut nothing = NoSource;
        let whole = "a trie that starts empty has all its nodes";
        let mut store = Self::default();
        let mut state = Trie::from_root(EMPTY_ROOT_HASH);
        for (address, account) in accounts {
            let mut storage = Trie::from_root(EMPTY_ROOT_HASH);
            for (slot, value) in account.storage_slots().filter(|(_, value)| !value.is_zero()) {
                storage
                    .insert(&keccak256(slot), alloy_rlp::encode(value), &mut nothing)
                    .expect(whole);
            }
            storage.new_nodes(|hash, node| store.put_node(hash, node));
            if let Some(code) = account.non_empty_code() {
                store.put_code(keccak256(code), code.clone());
            }
            let leaf = TrieAccount {
                nonce: account.nonce.unwrap_or_default(),
                balance: account.balance,
                storage_root: storage.root(),
                code_hash: account.code_hash().unwrap_or(KECCAK256_EMPTY),
            };
            state.insert(&keccak256(address), alloy_rlp::encode(leaf), &mut nothing).expect(whole);
        }
        state.new_nodes(|hash, node| store.put_node(hash, node));
        let root = state.root();
        (store, root)
    }

    /// Adds a node, whose Keccak-256 must be `hash`.
    pub fn put_node(&mut self, hash: B256, node: &[u8]) {
        self.nodes.entry(hash).or_insert_with(|| node.into());
    }

    /// Adds a code, whose Keccak-256 must be `hash`.
    pub fn put_code(&mut self, hash: B256, code: Bytes) {
        self.codes.entry(hash).or_insert(code);
    }

    /// At most `most` leaves of the trie with this root, from the key `first` on, in the order of keys. What is under nodes
    /// that are not there is left out.
    pub fn leaves(&self, root: B256, first: B256, most: usize) -> Vec<(B256, Vec<u8>)> {
        let mut walk =
            Walk { store: self, first: nibbles(first), path: Vec::new(), most, found: Vec::new() };
        walk.node(&RlpNode::word_rlp(&root));
        walk.found
    }

    /// Whether the node with this hash is there.
    pub fn has_node(&self, hash: &B256) -> bool {
        self.nodes.contains_key(hash)
    }

    /// The code with this hash.
    pub fn code(&self, hash: &B256) -> Option<&Bytes> {
        self.codes.get(hash)
    }
}

/// A walk over the leaves of a trie.
struct Walk<'s> {
    store: &'s Store,
    /// The first key wanted, in nibbles.
    first: Vec<u8>,
    /// Where the walk is.
    path: Vec<u8>,
    most: usize,
    found: Vec<(B256, Vec<u8>)>,
}

impl Walk<'_> {
    /// Visits what is under the node with this reference, if it is at or after the first key, and there is room.
    fn node(&mut self, reference: &RlpNode) {
        if self.found.len() >= self.most || self.path[..] < self.first[..self.path.len()] {
            return;
        }
        let node = match reference.as_hash() {
            Some(hash) => self.store.nodes.get(&hash).map_or(&[][..], AsRef::as_ref),
            None => reference.as_slice(),
        };
        let depth = self.path.len();
        match TrieNode::decode(&mut &*node) {
            Ok(TrieNode::Branch(branch)) => {
                for (nibble, child) in branch.as_ref().children() {
                    self.path.push(nibble);
                    child.into_iter().for_each(|child| self.node(child));
                    self.path.truncate(depth);
                }
            }
            Ok(TrieNode::Extension(extension)) => {
                self.path.extend(extension.key.to_vec());
                self.node(&extension.child);
            }
            Ok(TrieNode::Leaf(leaf)) => {
                self.path.extend(leaf.key.to_vec());
                if self.path >= self.first && self.path.len() == 64 {
                    let key = self.path.chunks(2).map(|pair| pair[0] << 4 | pair[1]);
                    self.found.push((
                        key.collect::<Vec<_>>().as_slice().try_into().expect("64 nibbles"),
                        leaf.value,
                    ));
                }
            }
            Ok(TrieNode::EmptyRoot) | Err(_) => {}
        }
        self.path.truncate(depth);
    }
}

fn nibbles(key: B256) -> Vec<u8> {
    key.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect()
}

impl<'a> NodeSource<'a> for &'a Store {
    fn node(&mut self, hash: &B256) -> Option<&'a [u8]> {
        let store: &'a Store = self;
        store.nodes.get(hash).map(AsRef::as_ref)
    }
}

impl<'a> StateSource<'a> for &'a Store {
    fn code(&mut self, hash: &B256) -> Option<&'a [u8]> {
        let store: &'a Store = self;
        store.codes.get(hash).map(AsRef::as_ref)
    }
}

/// A [`Store`] that records what is read from it, in the order of the first access.
#[derive(Debug)]
pub struct Recorder<'a> {
    store: &'a Store,
    seen_nodes: B256Set,
    seen_codes: B256Set,
    nodes: Vec<Bytes>,
    codes: Vec<Bytes>,
}

impl<'a> Recorder<'a> {
    /// Records what is read from `store`.
    pub fn new(store: &'a Store) -> Self {
        Self {
            store,
            seen_nodes: B256Set::default(),
            seen_codes: B256Set::default(),
            nodes: Vec::new(),
            codes: Vec::new(),
        }
    }

    /// The nodes that were read.
    pub fn into_nodes(self) -> Vec<Bytes> {
        self.nodes
    }
}

impl<'a> NodeSource<'a> for Recorder<'a> {
    fn node(&mut self, hash: &B256) -> Option<&'a [u8]> {
        let node = self.store.nodes.get(hash)?;
        if self.seen_nodes.insert(*hash) {
            self.nodes.push(Bytes::copy_from_slice(node));
        }
        Some(node)
    }
}

impl<'a> StateSource<'a> for Recorder<'a> {
    fn code(&mut self, hash: &B256) -> Option<&'a [u8]> {
        let code = self.store.codes.get(hash)?;
        if self.seen_codes.insert(*hash) {
            self.codes.push(code.clone());
        }
        Some(code)
    }
}

/// What executing one block, or consecutive ones, has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Trie nodes.
    pub nodes: Vec<Bytes>,
    /// Codes.
    pub codes: Vec<Bytes>,
    /// The oldest block whose header a witness needs: the first block's parent, or what `BLOCKHASH` asked for.
    pub oldest_block: u64,
}

impl Recorded {
    /// What executing block `number` on `state` has read. `number` is at least 1.
    pub fn new(state: State<'_, Recorder<'_>>, number: u64) -> Self {
        let oldest_block = state.oldest_block_asked().unwrap_or(number).min(number - 1);
        let Recorder { nodes, codes, .. } = state.into_source();
        Self { nodes, codes, oldest_block }
    }
}

impl FromIterator<Recorded> for Recorded {
    /// The union of what consecutive blocks have read.
    fn from_iter<I: IntoIterator<Item = Recorded>>(blocks: I) -> Self {
        let mut union = Self { nodes: Vec::new(), codes: Vec::new(), oldest_block: u64::MAX };
        let mut seen = B256Set::default();
        let mut new = |item: &Bytes| seen.insert(keccak256(item));
        for block in blocks {
            union.nodes.extend(block.nodes.into_iter().filter(&mut new));
            union.codes.extend(block.codes.into_iter().filter(&mut new));
            union.oldest_block = union.oldest_block.min(block.oldest_block);
        }
        union
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use std::collections::BTreeMap;

    #[test]
    fn leaves_are_listed_in_order_from_any_key_on() {
        let accounts: BTreeMap<Address, GenesisAccount> = (0..200u64)
            .map(|number| {
                let account = GenesisAccount { nonce: Some(number), ..Default::default() };
                (Address::from_word(U256::from(number).into()), account)
            })
            .collect();
        let (store, root) = Store::with_accounts(&accounts);
        let mut keys: Vec<B256> = accounts.keys().map(keccak256).collect();
        keys.sort_unstable();
        let listed = |first, most| -> Vec<B256> {
            store.leaves(root, first, most).into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(listed(B256::ZERO, 1000), keys);
        assert_eq!(listed(keys[7], 5), keys[7..12]);
        let after = B256::from(U256::from_be_bytes(keys[7].0) + U256::from(1));
        assert_eq!(listed(after, 5), keys[8..13]);
        assert!(listed(B256::repeat_byte(0xff), 5).is_empty());
        assert!(store.leaves(EMPTY_ROOT_HASH, B256::ZERO, 5).is_empty());
        let values = store.leaves(root, B256::ZERO, 1000).into_iter().map(|(_, value)| value);
        let nonces = values.map(|leaf| alloy_rlp::decode_exact::<TrieAccount>(leaf).unwrap().nonce);
        assert_eq!(nonces.sum::<u64>(), (0..200).sum::<u64>());
    }
}
