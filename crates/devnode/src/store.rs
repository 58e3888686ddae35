//! Every trie node and code the chain ever had, in memory, by hash: the state of any block can be opened.

use alloy_primitives::{
    B256, Bytes,
    map::{B256Map, B256Set},
};
use program::{state::StateSource, trie::NodeSource};

/// Trie nodes and codes by their Keccak-256.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    nodes: B256Map<Box<[u8]>>,
    codes: B256Map<Bytes>,
}

impl Store {
    pub(crate) fn put_node(&mut self, hash: B256, node: &[u8]) {
        self.nodes.entry(hash).or_insert_with(|| node.into());
    }

    pub(crate) fn put_code(&mut self, hash: B256, code: Bytes) {
        self.codes.entry(hash).or_insert(code);
    }

    pub(crate) fn code(&self, hash: &B256) -> Option<&Bytes> {
        self.codes.get(hash)
    }
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

/// A [`Store`] that writes down what it is asked for, in the order of the first question.
#[derive(Debug)]
pub(crate) struct Recorder<'a> {
    store: &'a Store,
    seen_nodes: B256Set,
    seen_codes: B256Set,
    pub(crate) nodes: Vec<Bytes>,
    pub(crate) codes: Vec<Bytes>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self {
            store,
            seen_nodes: B256Set::default(),
            seen_codes: B256Set::default(),
            nodes: Vec::new(),
            codes: Vec::new(),
        }
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
