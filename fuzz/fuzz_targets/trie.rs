//! The trie under any operations: the reference's root after each, and the same on a witness of the tries it came from.
#![no_main]

use alloy_primitives::{B256, keccak256, map::B256Map};
use alloy_trie::{HashBuilder, Nibbles};
use arbitrary::Arbitrary;
use program::{
    state::NoSource,
    trie::{NodeSource, Trie},
};
use std::collections::BTreeMap;

#[derive(Arbitrary, Debug)]
enum Operation {
    /// Insert a value of so many bytes.
    Insert(Key, u8),
    Remove(Key),
    Get(Key),
}

/// Keys that share prefixes more often than hashes do.
#[derive(Arbitrary, Debug)]
struct Key {
    prefix: [u8; 2],
    depth: u8,
    last: u8,
}

impl Key {
    fn bytes(&self) -> B256 {
        let mut key = B256::ZERO;
        for byte in 0..usize::from(self.depth % 32) {
            key[byte] = self.prefix[byte % 2];
        }
        key[31] = self.last;
        key
    }
}

struct Nodes(B256Map<Vec<u8>>);

impl<'a> NodeSource<'a> for &'a Nodes {
    fn node(&mut self, hash: &B256) -> Option<&'a [u8]> {
        let nodes: &'a Nodes = self;
        nodes.0.get(hash).map(Vec::as_slice)
    }
}

fn root(values: &BTreeMap<B256, Vec<u8>>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in values {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

libfuzzer_sys::fuzz_target!(|rounds: Vec<Vec<Operation>>| {
    let mut values = BTreeMap::<B256, Vec<u8>>::new();
    let mut nodes = Nodes(B256Map::default());
    for operations in rounds {
        // Each round starts from a root alone and asks for the nodes that it needs, as a recorder does.
        let mut new = Vec::new();
        {
            let mut trie = Trie::from_root(root(&values));
            let mut source = &nodes;
            for operation in operations {
                match operation {
                    Operation::Insert(key, len) => {
                        let value = vec![len; usize::from(len) + 1];
                        trie.insert(&key.bytes(), value.clone(), &mut source).unwrap();
                        values.insert(key.bytes(), value);
                    }
                    Operation::Remove(key) => {
                        let was = trie.remove(&key.bytes(), &mut source).unwrap();
                        assert_eq!(was, values.remove(&key.bytes()).is_some());
                    }
                    Operation::Get(key) => {
                        let value = trie.get(&key.bytes(), &mut source).unwrap();
                        assert_eq!(value, values.get(&key.bytes()).map(Vec::as_slice));
                    }
                }
            }
            assert_eq!(trie.root(), root(&values));
            trie.new_nodes(|hash, node| new.push((hash, node.to_vec())));
        }
        for (hash, node) in new {
            assert_eq!(keccak256(&node), hash);
            nodes.0.insert(hash, node);
        }
    }
    // What is not there is an error, not an absence.
    if !values.is_empty() {
        assert!(Trie::from_root(root(&values)).get(&B256::ZERO, &mut NoSource).is_err());
    }
});
