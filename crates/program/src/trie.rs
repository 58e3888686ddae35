//! The sparse Merkle-Patricia trie on which blocks run.
//!
//! * Keys are hashes (32 bytes, so 64 nibbles), values are RLP. A branch therefore never holds a value.
//! * Witness nodes are never copied: a node keeps its RLP where it is in the input, and references to unopened
//!   children stay where they are in that RLP.
//! * Every node is hashed once, against the reference that its parent (or the caller, for the root)
//!   holds. A node that is not there is [`TrieError::MissingNode`], never "absent".
//! * A failed operation leaves the trie as it was. No input panics: the depth of every recursion is
//!   bounded by the 64 nibbles of a key.
//!
//! # The two streams
//! A witness holds one *account stream* and one *storage section*. Both are made of little-endian
//! `u32` words, and every item starts on a word.
//!
//! A stream is one word with the number of nodes, then these nodes depth first, parent before child:
//! * one header word: the low 16 bits are the length of the node's RLP in bytes, the high 16 bits are the
//!   mask. For a branch, bit `i` says that child `i` follows in the stream (in rising order of `i`); for an
//!   extension, bit 0 says that its child follows; for a leaf, the mask is 0;
//! * the RLP, then zero bytes up to the next word;
//! * after an account leaf only: one word with the length, in words, of the account's stream in the storage
//!   section, 0 if that trie is not revealed.
//!
//! The storage section is the storage tries' streams one after another, in the order of the account leaves;
//! the lengths add up to the whole section. A storage trie is read and hashed only when it is opened.
//! A stream without nodes stands for a trie of which nothing is revealed. Children with less than 32 bytes
//! of RLP lie inside their parent and never in the stream.

mod node;
mod path;
mod stream;
#[cfg(test)]
mod tests;

pub use path::Path;
pub use stream::{StorageSpan, Streams, encode};

use alloc::{borrow::Cow, boxed::Box, vec::Vec};
use alloy_primitives::{B256, b256, keccak256};
use node::{Child, Kind, Node, Reference};

/// The root of a trie without keys: the hash of the RLP of the empty string.
pub const EMPTY_ROOT: B256 =
    b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421");

/// The longest RLP of a node, in bytes; state nodes are much shorter.
const MAX_NODE: usize = u16::MAX as usize;

/// A trie could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "std", derive(strum::VariantNames))]
#[non_exhaustive]
pub enum TrieError {
    /// The node is needed and neither the witness nor the source has it.
    #[error("trie node {hash} at path {path} is missing from the witness")]
    MissingNode {
        /// The reference that the parent holds.
        hash: B256,
        /// The nibbles from the root to the node.
        path: Path<'static>,
    },
    /// A node does not hash to the reference that its parent holds.
    #[error("a trie node does not hash to its reference {expected}")]
    HashMismatch {
        /// The reference that the parent holds.
        expected: B256,
    },
    /// A node has the right hash, but is no node of a trie with 32-byte keys.
    #[error("trie node is malformed: {what}")]
    BadNode {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The stream is cut, has bytes left over, or is not in its one canonical form.
    #[error("trie stream is malformed at byte {offset}: {what}")]
    BadStream {
        /// Where in the stream, in bytes.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A value to insert is empty or so long that its node could not be encoded.
    #[error("a trie value of {len} bytes cannot be stored")]
    BadValue {
        /// The value's length in bytes.
        len: usize,
    },
    /// The witness is larger than the format can hold.
    #[error("the witness is too large for one input: use a shorter range of blocks")]
    TooLarge,
}

/// Where a trie looks for nodes that are not in its stream.
///
/// It need not be trusted: what it gives is hashed.
pub trait NodeSource<'a> {
    /// The RLP of the node with this hash, or `None` if the source does not have it.
    fn node(&mut self, hash: &B256) -> Option<&'a [u8]>;
}

impl<'a, S: NodeSource<'a>> NodeSource<'a> for &mut S {
    fn node(&mut self, hash: &B256) -> Option<&'a [u8]> {
        (**self).node(hash)
    }
}

/// A source without nodes: the witness is all there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNodes;

impl<'a> NodeSource<'a> for NoNodes {
    fn node(&mut self, _: &B256) -> Option<&'a [u8]> {
        None
    }
}

/// A partly known trie.
#[derive(Clone, Debug)]
pub struct Trie<'a> {
    /// Nodes by id. A node that was replaced stays behind unused.
    nodes: Vec<Node<'a>>,
    /// `None` if the trie has no keys.
    root: Option<u32>,
    /// Where nodes are encoded before they are hashed.
    scratch: Vec<u8>,
}

impl<'a> Trie<'a> {
    /// The trie without keys.
    pub const fn empty() -> Self {
        Self { nodes: Vec::new(), root: None, scratch: Vec::new() }
    }

    /// A trie of which only the root's hash is known.
    pub fn from_root(root: B256) -> Self {
        let mut trie = Self::empty();
        if root != EMPTY_ROOT {
            trie.root = Some(trie.push(Node::clean(Kind::Blind, &root)));
        }
        trie
    }

    /// The value of `key`, or `None` if the trie proves that there is none.
    ///
    /// Fails if the path to the key is not known, or what `source` gives for it is wrong.
    pub fn get(
        &mut self,
        key: &B256,
        source: &mut impl NodeSource<'a>,
    ) -> Result<Option<&[u8]>, TrieError> {
        Ok(self.get_account(key, source)?.map(|(value, _)| value))
    }

    /// Like [`Trie::get`], together with the place of the account's storage trie in the storage section.
    pub fn get_account(
        &mut self,
        key: &B256,
        source: &mut impl NodeSource<'a>,
    ) -> Result<Option<(&[u8], StorageSpan)>, TrieError> {
        let Some(mut id) = self.root else { return Ok(None) };
        let mut depth = 0;
        loop {
            self.reveal(id, key, depth, source)?;
            match &self.nodes[id as usize].kind {
                // Nearly all of the way.
                Kind::Branch { children, .. } if children[nibble(key, depth)].is_live() => {
                    id = children[nibble(key, depth)].id();
                    depth += 1;
                }
                Kind::Leaf { path, .. } if path.matches(key, depth) => break,
                Kind::Extension { path, .. } if path.matches(key, depth) => {
                    depth += path.len();
                    id = self.only_child(id, key, depth, source)?;
                }
                Kind::Branch { .. } => {
                    match self.child(id, nibble(key, depth), key, depth, source)? {
                        Some(child) => {
                            id = child;
                            depth += 1;
                        }
                        None => return Ok(None),
                    }
                }
                _ => return Ok(None),
            }
        }
        match &self.nodes[id as usize].kind {
            Kind::Leaf { value, storage, .. } => Ok(Some((value, *storage))),
            _ => Ok(None),
        }
    }

    /// Sets the value of `key`. An account keeps the place of its storage trie.
    ///
    /// Fails like [`Trie::get`], or if `value` is empty: to take a key out, use [`Trie::remove`].
    pub fn insert(
        &mut self,
        key: &B256,
        value: Vec<u8>,
        source: &mut impl NodeSource<'a>,
    ) -> Result<(), TrieError> {
        if value.is_empty() || value.len() > MAX_NODE / 2 {
            return Err(TrieError::BadValue { len: value.len() });
        }
        match self.root {
            Some(root) => self.insert_at(root, key, 0, value, source),
            None => {
                self.root = Some(self.push(Node::leaf(Path::suffix(key, 0), value)));
                Ok(())
            }
        }
    }

    fn insert_at(
        &mut self,
        id: u32,
        key: &B256,
        depth: usize,
        value: Vec<u8>,
        source: &mut impl NodeSource<'a>,
    ) -> Result<(), TrieError> {
        self.reveal(id, key, depth, source)?;
        match &mut self.nodes[id as usize].kind {
            Kind::Leaf { path, value: old, .. } if path.matches(key, depth) => {
                *old = Cow::Owned(value)
            }
            Kind::Leaf { path, .. } => {
                let common = path.common(key, depth);
                let prefix = path.prefix(common);
                let turn = path.nibble(common);
                *path = path.skip(common + 1);
                let old = core::mem::replace(&mut self.nodes[id as usize], Node::new(Kind::Blind));
                let old = self.push(Node::new(old.kind));
                self.fork(id, prefix, (turn, Child::live(old)), key, depth, value);
            }
            Kind::Extension { path, .. } if path.matches(key, depth) => {
                let depth = depth + path.len();
                let child = self.only_child(id, key, depth, source)?;
                self.insert_at(child, key, depth, value, source)?;
            }
            Kind::Extension { path, child, raw } => {
                let (path, child, raw) = (path.clone(), *child, *raw);
                let common = path.common(key, depth);
                let rest = path.skip(common + 1);
                let old = if rest.len() > 0 {
                    self.push(Node::new(Kind::Extension { path: rest, child, raw }))
                } else {
                    self.detach(child, raw, depth + path.len())?
                };
                let old = (path.nibble(common), Child::live(old));
                self.fork(id, path.prefix(common), old, key, depth, value);
            }
            Kind::Branch { .. } => {
                let index = nibble(key, depth);
                match self.child(id, index, key, depth, source)? {
                    Some(child) => self.insert_at(child, key, depth + 1, value, source)?,
                    None => {
                        let leaf = self.push(Node::leaf(Path::suffix(key, depth + 1), value));
                        self.nodes[id as usize].set_child(index, Child::live(leaf));
                    }
                }
            }
            Kind::Blind => return Err(TrieError::BadNode { what: "node was not revealed" }),
        }
        self.nodes[id as usize].touch();
        Ok(())
    }

    /// Makes node `id` lead over `prefix` to a branch with `old` and a new leaf for `key`.
    fn fork(
        &mut self,
        id: u32,
        prefix: Path<'a>,
        old: (usize, Child),
        key: &B256,
        depth: usize,
        value: Vec<u8>,
    ) {
        let depth = depth + prefix.len();
        let leaf = self.push(Node::leaf(Path::suffix(key, depth + 1), value));
        let mut children = Box::new([Child::EMPTY; 16]);
        children[old.0] = old.1;
        children[nibble(key, depth)] = Child::live(leaf);
        let branch = Kind::Branch { raw: &[], children };
        let kind = if prefix.len() == 0 {
            branch
        } else {
            let child = Child::live(self.push(Node::new(branch)));
            Kind::Extension { path: prefix, child, raw: &[] }
        };
        self.nodes[id as usize] = Node::new(kind);
    }

    /// Removes `key` and says whether it was there.
    ///
    /// Fails like [`Trie::get`], or if a branch is left with one child and that child is not known: it has
    /// to be merged into the branch's place, so its kind matters.
    pub fn remove(
        &mut self,
        key: &B256,
        source: &mut impl NodeSource<'a>,
    ) -> Result<bool, TrieError> {
        let Some(root) = self.root else { return Ok(false) };
        let removed = self.remove_at(root, key, 0, source)?;
        if removed == Removed::Whole {
            self.root = None;
        }
        Ok(removed != Removed::Nothing)
    }

    fn remove_at(
        &mut self,
        id: u32,
        key: &B256,
        depth: usize,
        source: &mut impl NodeSource<'a>,
    ) -> Result<Removed, TrieError> {
        self.reveal(id, key, depth, source)?;
        match &self.nodes[id as usize].kind {
            Kind::Leaf { path, .. } if path.matches(key, depth) => return Ok(Removed::Whole),
            Kind::Extension { path, .. } if path.matches(key, depth) => {
                let path = path.clone();
                let depth = depth + path.len();
                let child = self.only_child(id, key, depth, source)?;
                match self.remove_at(child, key, depth, source)? {
                    Removed::Within => self.join(id, path, child),
                    other => return Ok(other),
                }
            }
            Kind::Branch { .. } => {
                let index = nibble(key, depth);
                let Some(child) = self.child(id, index, key, depth, source)? else {
                    return Ok(Removed::Nothing);
                };
                match self.remove_at(child, key, depth + 1, source)? {
                    Removed::Nothing => return Ok(Removed::Nothing),
                    Removed::Within => {}
                    Removed::Whole => match self.nodes[id as usize].sole_sibling(index) {
                        Some(sibling) => {
                            // SOUNDNESS: the sibling's kind decides the shape of the merged node. If it is not
                            // known the post-state is not known either: that is an error, never a guess.
                            let mut at = *key;
                            set_nibble(&mut at, depth, sibling);
                            if let Some(child) = self.child(id, sibling, &at, depth, source)? {
                                self.reveal(child, &at, depth + 1, source)?;
                                self.join(id, Path::single(sibling), child);
                            }
                        }
                        None => self.nodes[id as usize].set_child(index, Child::EMPTY),
                    },
                }
            }
            _ => return Ok(Removed::Nothing),
        }
        self.nodes[id as usize].touch();
        Ok(Removed::Within)
    }

    /// Puts into `id` what leads over `prefix` to `child`, merged with `child` unless that is a branch.
    fn join(&mut self, id: u32, prefix: Path<'a>, child: u32) {
        let kind = match &mut self.nodes[child as usize].kind {
            Kind::Leaf { path, value, storage } => Kind::Leaf {
                path: prefix.join(path),
                value: core::mem::take(value),
                storage: *storage,
            },
            Kind::Extension { path, child, raw } => {
                Kind::Extension { path: prefix.join(path), child: *child, raw }
            }
            Kind::Branch { .. } | Kind::Blind => {
                Kind::Extension { path: prefix, child: Child::live(child), raw: &[] }
            }
        };
        self.nodes[id as usize] = Node::new(kind);
    }

    /// The root's hash. Only nodes that changed since the last call are hashed.
    pub fn root(&mut self) -> B256 {
        let Some(root) = self.root else { return EMPTY_ROOT };
        self.refresh(root);
        match self.nodes[root as usize].reference() {
            Reference::Hash(hash) => *hash,
            Reference::Inline(rlp) => keccak256(rlp),
        }
    }

    /// Computes the references of `id` and of every changed node below it.
    fn refresh(&mut self, id: u32) {
        if self.nodes[id as usize].is_clean() {
            return;
        }
        match &self.nodes[id as usize].kind {
            Kind::Branch { children, .. } => {
                for child in **children {
                    self.refresh_child(child);
                }
            }
            Kind::Extension { child, .. } => self.refresh_child(*child),
            Kind::Leaf { .. } | Kind::Blind => {}
        }
        let mut rlp = core::mem::take(&mut self.scratch);
        self.encode_node(id, &mut rlp);
        self.nodes[id as usize].set_reference(&rlp);
        self.scratch = rlp;
    }

    fn refresh_child(&mut self, child: Child) {
        if child.is_live() && !self.nodes[child.id() as usize].is_clean() {
            self.refresh(child.id());
        }
    }

    /// Hands over the hash and RLP of every node made since the last call.
    ///
    /// Nodes that lie inside their parent have no hash and are not handed over by themselves.
    pub fn new_nodes(&mut self, mut sink: impl FnMut(B256, &[u8])) {
        self.root();
        if let Some(root) = self.root {
            self.export(root, true, &mut sink);
        }
    }

    fn export(&mut self, id: u32, is_root: bool, sink: &mut impl FnMut(B256, &[u8])) {
        // What is above a new node is new as well, so a node that is not new ends the walk.
        if !self.nodes[id as usize].take_fresh() {
            return;
        }
        for index in 0..self.nodes[id as usize].child_slots() {
            if let Some(child) = self.nodes[id as usize].live_child(index) {
                self.export(child, false, sink);
            }
        }
        let mut rlp = core::mem::take(&mut self.scratch);
        self.encode_node(id, &mut rlp);
        match self.nodes[id as usize].reference() {
            Reference::Hash(hash) => sink(*hash, &rlp),
            Reference::Inline(inline) if is_root => sink(keccak256(inline), &rlp),
            Reference::Inline(_) => {}
        }
        self.scratch = rlp;
    }

    fn push(&mut self, node: Node<'a>) -> u32 {
        let id =
            u32::try_from(self.nodes.len()).expect("a trie of 2^31 nodes does not fit in memory");
        self.nodes.push(node);
        id
    }

    /// Makes sure that the node itself is known, not only its hash. `key` and `depth` say where it is.
    #[inline]
    fn reveal(
        &mut self,
        id: u32,
        key: &B256,
        depth: usize,
        source: &mut impl NodeSource<'a>,
    ) -> Result<(), TrieError> {
        match self.nodes[id as usize].kind {
            Kind::Blind => self.reveal_blind(id, key, depth, source),
            _ => Ok(()),
        }
    }

    #[cold]
    fn reveal_blind(
        &mut self,
        id: u32,
        key: &B256,
        depth: usize,
        source: &mut impl NodeSource<'a>,
    ) -> Result<(), TrieError> {
        if let Reference::Hash(hash) = self.nodes[id as usize].reference() {
            let hash = *hash;
            self.nodes[id as usize] = fetch(&hash, key, depth, source)?;
        }
        Ok(())
    }

    /// The id of a branch's child, opened if need be. `depth` is that of the branch.
    fn child(
        &mut self,
        id: u32,
        index: usize,
        key: &B256,
        depth: usize,
        source: &mut impl NodeSource<'a>,
    ) -> Result<Option<u32>, TrieError> {
        let Kind::Branch { raw, children } = &self.nodes[id as usize].kind else { return Ok(None) };
        let (raw, child) = (*raw, children[index]);
        if child == Child::EMPTY {
            return Ok(None);
        }
        if child.is_live() {
            return Ok(Some(child.id()));
        }
        self.open(id, index, child, raw, key, depth + 1, source).map(Some)
    }

    /// The id of an extension's child, opened if need be: a branch. `depth` is that of the child.
    fn only_child(
        &mut self,
        id: u32,
        key: &B256,
        depth: usize,
        source: &mut impl NodeSource<'a>,
    ) -> Result<u32, TrieError> {
        let Kind::Extension { raw, child, .. } = &self.nodes[id as usize].kind else {
            return Err(TrieError::BadNode { what: "not an extension" });
        };
        let (raw, child) = (*raw, *child);
        let child = self.open(id, 0, child, raw, key, depth, source)?;
        self.reveal(child, key, depth, source)?;
        match self.nodes[child as usize].kind {
            Kind::Branch { .. } => Ok(child),
            _ => Err(TrieError::BadNode {
                what: "an extension leads to something else than a branch",
            }),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a place in the trie is a node, an index, a key and a depth"
    )]
    fn open(
        &mut self,
        parent: u32,
        index: usize,
        child: Child,
        raw: &'a [u8],
        key: &B256,
        depth: usize,
        source: &mut impl NodeSource<'a>,
    ) -> Result<u32, TrieError> {
        let Some(offset) = child.offset() else { return Ok(child.id()) };
        let node = match Reference::at(raw, offset) {
            Reference::Hash(hash) => fetch(hash, key, depth, source)?,
            Reference::Inline(rlp) => Node::inline(rlp, depth)?,
        };
        let id = self.push(node);
        self.nodes[parent as usize].set_child(index, Child::live(id));
        Ok(id)
    }

    /// Gives a child that may still lie in its parent's RLP a node of its own.
    fn detach(&mut self, child: Child, raw: &'a [u8], depth: usize) -> Result<u32, TrieError> {
        let Some(offset) = child.offset() else { return Ok(child.id()) };
        let node = match Reference::at(raw, offset) {
            Reference::Hash(hash) => Node::clean(Kind::Blind, hash),
            Reference::Inline(rlp) => Node::inline(rlp, depth)?,
        };
        Ok(self.push(node))
    }
}

/// What removing a key did to a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removed {
    Nothing,
    /// Something in or below the node was removed: the node stays, in a new shape.
    Within,
    /// The node was the key's leaf. It is still unchanged: its parent has to drop it.
    Whole,
}

/// Gets a node from the source.
fn fetch<'a>(
    hash: &B256,
    key: &B256,
    depth: usize,
    source: &mut impl NodeSource<'a>,
) -> Result<Node<'a>, TrieError> {
    let Some(rlp) = source.node(hash) else {
        let path = Path::suffix(key, 0).prefix(depth);
        return Err(TrieError::MissingNode { hash: *hash, path });
    };
    Node::verified(rlp, hash, depth)
}

/// Nibble `index` of a key. It is never asked for beyond the 64 nibbles: [`Node`] refuses deeper nodes.
fn nibble(key: &B256, index: usize) -> usize {
    let byte = key[index / 2];
    usize::from(if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

fn set_nibble(key: &mut B256, index: usize, value: usize) {
    let value = path::small(value & 15);
    let byte = &mut key[index / 2];
    *byte = if index.is_multiple_of(2) { *byte & 0x0f | value << 4 } else { *byte & 0xf0 | value };
}
