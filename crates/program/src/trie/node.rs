//! One node: read in place, written when it has changed.

use super::{MAX_NODE, Path, StorageSpan, Trie, TrieError};
use alloc::{borrow::Cow, boxed::Box, vec::Vec};
use alloy_primitives::{B256, keccak256};

/// The RLP of the empty string: no child here.
const EMPTY: u8 = 0x80;
/// The first byte of a reference by hash: a string of 32 bytes.
const HASH: u8 = 0xa0;
/// The length of a branch with sixteen hashes, three bytes before them and one after. None is longer, and no other is as long.
const FULL: usize = 3 + 16 * 33 + 1;

/// A node with the reference its parent has to it.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) kind: Kind<'a>,
    /// The hash, or the RLP itself if that is shorter.
    reference: [u8; 32],
    /// How many bytes of `reference` are valid; 0: the node has changed and was not hashed since.
    reference_len: u8,
    /// Made or changed since the last export.
    fresh: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Kind<'a> {
    /// Only the reference is known.
    Blind,
    Leaf {
        path: Path<'a>,
        value: Cow<'a, [u8]>,
        storage: StorageSpan,
    },
    Extension {
        path: Path<'a>,
        child: Child,
        raw: &'a [u8],
    },
    Branch {
        /// Apart, so that nodes are small: they are moved when they are read.
        children: Box<[Child; 16]>,
        raw: &'a [u8],
    },
}

/// What a branch or extension leads to: nothing, a node of the arena, or the reference at an offset in `raw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child(u32);

impl Child {
    pub(super) const EMPTY: Self = Self(0);
    const LIVE: u32 = 1 << 31;

    pub(super) const fn live(id: u32) -> Self {
        Self(id | Self::LIVE)
    }

    const fn unopened(offset: usize) -> Self {
        debug_assert!(0 < offset && offset <= MAX_NODE);
        #[expect(clippy::cast_possible_truncation, reason = "a node has at most MAX_NODE bytes")]
        Self(offset as u32)
    }

    pub(super) const fn is_live(self) -> bool {
        self.0 & Self::LIVE != 0
    }

    /// The child's id, if it is a node of the arena.
    pub(super) const fn id(self) -> u32 {
        self.0 & !Self::LIVE
    }

    /// Where in `raw` the reference lies, if the child was not opened yet.
    pub(super) const fn offset(self) -> Option<usize> {
        if self.0 == 0 || self.is_live() { None } else { Some(self.0 as usize) }
    }
}

/// How a parent refers to a child.
pub(super) enum Reference<'r> {
    Hash(&'r B256),
    Inline(&'r [u8]),
}

impl<'r> Reference<'r> {
    /// The reference at `offset` of a node that [`Kind::parse`] accepted.
    pub(super) fn at(raw: &'r [u8], offset: usize) -> Self {
        match raw[offset] {
            HASH => Self::Hash(hash_at(raw, offset)),
            head => Self::Inline(&raw[offset..offset + 1 + usize::from(head - 0xc0)]),
        }
    }

    const fn rlp_len(&self) -> usize {
        match self {
            Self::Hash(_) => 33,
            Self::Inline(rlp) => rlp.len(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hash(hash) => {
                out.push(HASH);
                out.extend_from_slice(hash.as_slice());
            }
            Self::Inline(rlp) => out.extend_from_slice(rlp),
        }
    }
}

fn hash_at(raw: &[u8], offset: usize) -> &B256 {
    let bytes: &[u8; 32] = raw[offset + 1..offset + 33].try_into().expect("the range is 32 long");
    bytes.into()
}

impl<'a> Node<'a> {
    /// A changed node.
    pub(super) const fn new(kind: Kind<'a>) -> Self {
        Self { kind, reference: [0; 32], reference_len: 0, fresh: true }
    }

    pub(super) fn leaf(path: Path<'a>, value: Vec<u8>) -> Self {
        Self::new(Kind::Leaf { path, value: Cow::Owned(value), storage: StorageSpan::default() })
    }

    /// A node that has `hash`.
    pub(super) const fn clean(kind: Kind<'a>, hash: &B256) -> Self {
        Self { kind, reference: hash.0, reference_len: 32, fresh: false }
    }

    /// A node that lies inside its parent, `depth` nibbles below the root.
    pub(super) fn inline(rlp: &'a [u8], depth: usize) -> Result<Self, TrieError> {
        let mut node = Self::new(Kind::parse(rlp, depth)?);
        node.set_reference(rlp);
        node.fresh = false;
        Ok(node)
    }

    /// A node from a witness or a source: `rlp` must have the hash `hash`.
    pub(super) fn verified(rlp: &'a [u8], hash: &B256, depth: usize) -> Result<Self, TrieError> {
        // SOUNDNESS: nothing of a node is used before it is tied to the reference its parent holds.
        let found = keccak256(rlp);
        if found != *hash {
            return Err(TrieError::HashMismatch { expected: *hash });
        }
        if depth > 0 && rlp.len() < 32 {
            return Err(TrieError::BadNode {
                what: "a node of less than 32 bytes is named by its hash",
            });
        }
        // The same bytes as `hash`, but on words.
        Ok(Self::clean(Kind::parse(rlp, depth)?, &found))
    }

    pub(super) const fn is_clean(&self) -> bool {
        self.reference_len != 0
    }

    pub(super) const fn touch(&mut self) {
        self.reference_len = 0;
        self.fresh = true;
    }

    pub(super) const fn take_fresh(&mut self) -> bool {
        core::mem::replace(&mut self.fresh, false)
    }

    /// The reference of a clean node.
    pub(super) fn reference(&self) -> Reference<'_> {
        match self.reference_len {
            32 => Reference::Hash((&self.reference).into()),
            len => Reference::Inline(&self.reference[..usize::from(len)]),
        }
    }

    pub(super) fn set_reference(&mut self, rlp: &[u8]) {
        if rlp.len() < 32 {
            self.reference[..rlp.len()].copy_from_slice(rlp);
            #[expect(clippy::cast_possible_truncation, reason = "below 32")]
            let len = rlp.len() as u8;
            self.reference_len = len;
        } else {
            #[cfg(feature = "std")]
            crate::counts::new_node(rlp.len());
            self.reference = keccak256(rlp).0;
            self.reference_len = 32;
        }
    }

    /// How many indices may have a child.
    pub(super) const fn child_slots(&self) -> usize {
        match &self.kind {
            Kind::Branch { .. } => 16,
            Kind::Extension { .. } => 1,
            Kind::Leaf { .. } | Kind::Blind => 0,
        }
    }

    /// Child `index` of a branch, or child 0 of an extension, if it is in the arena.
    pub(super) fn live_child(&self, index: usize) -> Option<u32> {
        let child = match &self.kind {
            Kind::Branch { children, .. } => children[index],
            Kind::Extension { child, .. } if index == 0 => *child,
            _ => return None,
        };
        child.is_live().then_some(child.id())
    }

    /// Like [`Node::live_child`], for a child whose hash is all that is known.
    pub(super) fn unopened_hash(&self, index: usize) -> Option<&'a B256> {
        let (child, raw) = match &self.kind {
            Kind::Branch { children, raw } => (children[index], *raw),
            Kind::Extension { child, raw, .. } if index == 0 => (*child, *raw),
            _ => return None,
        };
        match Reference::at(raw, child.offset()?) {
            Reference::Hash(hash) => Some(hash),
            Reference::Inline(_) => None,
        }
    }

    pub(super) fn set_child(&mut self, index: usize, new: Child) {
        match &mut self.kind {
            Kind::Branch { children, .. } => children[index] = new,
            Kind::Extension { child, .. } => *child = new,
            Kind::Leaf { .. } | Kind::Blind => {}
        }
    }

    /// The one child that a branch has besides `index`.
    pub(super) fn sole_sibling(&self, index: usize) -> Option<usize> {
        let Kind::Branch { children, .. } = &self.kind else { return None };
        let mut siblings = (0..16).filter(|&i| i != index && children[i] != Child::EMPTY);
        let first = siblings.next()?;
        siblings.next().is_none().then_some(first)
    }
}

impl<'a> Kind<'a> {
    /// Reads a node that is `depth` nibbles below the root.
    ///
    /// Accepts what a trie of 64-nibble keys can hold and nothing else, so that depths need no further checks.
    pub(super) fn parse(raw: &'a [u8], depth: usize) -> Result<Self, TrieError> {
        const fn bad<T>(what: &'static str) -> Result<T, TrieError> {
            Err(TrieError::BadNode { what })
        }
        const CUT: TrieError = TrieError::BadNode { what: "not one RLP list" };
        // Most nodes are. Whatever is not goes the long way.
        if is_full_branch(raw) && depth < 64 {
            let children = Box::new(core::array::from_fn(|index| Child::unopened(3 + 33 * index)));
            return Ok(Self::Branch { children, raw });
        }
        let list = Item::first(raw).ok_or(CUT)?;
        if !list.is_list || list.end != raw.len() || raw.len() > MAX_NODE {
            return Err(CUT);
        }
        let first = Item::at(raw, list.start).ok_or(CUT)?;
        let second = Item::at(raw, first.end).ok_or(CUT)?;
        if second.end != raw.len() {
            return Self::parse_branch(raw, list.start, depth);
        }
        let Some((path, is_leaf)) =
            Path::from_compact(&raw[first.start..first.end]).filter(|_| !first.is_list)
        else {
            return bad("not a path");
        };
        if is_leaf {
            if second.is_list || second.start == second.end {
                return bad("a leaf without a value");
            }
            if depth + path.len() != 64 {
                return bad("a leaf's key is not 32 bytes long");
            }
            let value = Cow::Borrowed(&raw[second.start..second.end]);
            return Ok(Self::Leaf { path, value, storage: StorageSpan::default() });
        }
        if path.len() == 0 || depth + path.len() >= 64 {
            return bad("an extension is empty or too long");
        }
        match reference_len(raw[first.end]) {
            Some(len) if first.end + len == raw.len() => {
                Ok(Self::Extension { path, child: Child::unopened(first.end), raw })
            }
            _ => bad("not a reference in an extension"),
        }
    }

    fn parse_branch(raw: &'a [u8], mut at: usize, depth: usize) -> Result<Self, TrieError> {
        const fn bad<T>(what: &'static str) -> Result<T, TrieError> {
            Err(TrieError::BadNode { what })
        }
        let mut children = Box::new([Child::EMPTY; 16]);
        let mut count = 0;
        for slot in &mut *children {
            let len = match raw.get(at) {
                Some(&EMPTY) => {
                    at += 1;
                    continue;
                }
                Some(&head) => reference_len(head),
                None => None,
            };
            let Some(len) = len else { return bad("not a reference in a branch") };
            *slot = Child::unopened(at);
            count += 1;
            // If this is beyond the end, so is the value.
            at += len;
        }
        // Keys are all of one length, so none ends at a branch.
        if raw.get(at) != Some(&EMPTY) || at + 1 != raw.len() {
            return bad("a branch holds a value");
        }
        if count < 2 || depth >= 64 {
            return bad("a branch has one child or is too deep");
        }
        Ok(Self::Branch { children, raw })
    }
}

/// Whether this is a branch with sixteen hashes.
fn is_full_branch(raw: &[u8]) -> bool {
    raw.len() == FULL
        && raw[..3] == [0xf9, 0x02, 0x11]
        && (0..16).all(|index| raw[3 + 33 * index] == HASH)
        && raw[FULL - 1] == EMPTY
}

/// The length of a reference by its first byte; an empty one is not meant.
fn reference_len(head: u8) -> Option<usize> {
    match head {
        HASH => Some(33),
        // A node of less than 32 bytes.
        0xc1..=0xde => Some(1 + usize::from(head - 0xc0)),
        _ => None,
    }
}

/// One RLP item: where its payload lies.
pub(super) struct Item {
    pub(super) is_list: bool,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Item {
    pub(super) fn first(rlp: &[u8]) -> Option<Self> {
        Self::at(rlp, 0)
    }

    /// The item at `at`, if it is canonical and ends within `rlp`.
    pub(super) fn at(rlp: &[u8], at: usize) -> Option<Self> {
        let head = *rlp.get(at)?;
        let (is_list, start, len) = match head {
            0..0x80 => return Some(Self { is_list: false, start: at, end: at + 1 }),
            0x80..=0xb7 => (false, at + 1, usize::from(head - 0x80)),
            0xc0..=0xf7 => (true, at + 1, usize::from(head - 0xc0)),
            // A length takes one or two bytes, because of MAX_NODE.
            0xb8 | 0xf8 => (head == 0xf8, at + 2, usize::from(*rlp.get(at + 1)?)),
            0xb9 | 0xf9 => {
                let len = u16::from_be_bytes([*rlp.get(at + 1)?, *rlp.get(at + 2)?]);
                (head == 0xf9, at + 3, usize::from(len))
            }
            _ => return None,
        };
        let least = match start - at {
            1 => 0,
            2 => 56,
            _ => 256,
        };
        let end = start + len;
        let canonical =
            len >= least && (is_list || start != at + 1 || len != 1 || *rlp.get(start)? >= 0x80);
        (canonical && end <= rlp.len()).then_some(Self { is_list, start, end })
    }
}

impl Trie<'_> {
    /// Writes the RLP of a node whose children are all clean into `out`, which is cleared before.
    pub(super) fn encode_node(&self, id: u32, out: &mut Vec<u8>) {
        out.clear();
        match &self.nodes[id as usize].kind {
            Kind::Blind => {}
            Kind::Leaf { path, value, .. } => {
                write_header(
                    0xc0,
                    string_len(path.compact_len(), 0) + string_len(value.len(), value[0]),
                    out,
                );
                write_path(path, true, out);
                if value.len() > 1 || value[0] >= 0x80 {
                    write_header(0x80, value.len(), out);
                }
                out.extend_from_slice(value);
            }
            Kind::Extension { path, child, raw } => {
                let child = self.reference_to(*child, raw);
                write_header(0xc0, string_len(path.compact_len(), 0) + child.rlp_len(), out);
                write_path(path, false, out);
                child.write(out);
            }
            Kind::Branch { children, raw } if self.patch_branch(children, raw, out) => {}
            Kind::Branch { children, raw } => {
                let len = |child: &Child| match *child {
                    Child::EMPTY => 1,
                    child => self.reference_to(child, raw).rlp_len(),
                };
                write_header(0xc0, 1 + children.iter().map(len).sum::<usize>(), out);
                for child in children.iter() {
                    match *child {
                        Child::EMPTY => out.push(EMPTY),
                        child => self.reference_to(child, raw).write(out),
                    }
                }
                out.push(EMPTY);
            }
        }
    }

    /// Writes a branch as it was read, with the references that it has now. Gives up if
    /// one of them is not as long as it was.
    fn patch_branch(&self, children: &[Child; 16], raw: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(list) = Item::first(raw) else { return false };
        out.extend_from_slice(raw);
        if raw.len() == FULL {
            for (index, child) in children.iter().enumerate() {
                if child.is_live() {
                    let Reference::Hash(hash) = self.nodes[child.id() as usize].reference() else {
                        out.clear();
                        return false;
                    };
                    let at = 3 + 33 * index;
                    out[at + 1..at + 33].copy_from_slice(hash.as_slice());
                } else if *child == Child::EMPTY {
                    out.clear();
                    return false;
                }
            }
            return true;
        }
        let mut at = list.start;
        for child in children {
            let len = match raw[at] {
                EMPTY => 1,
                HASH => 33,
                head => 1 + usize::from(head - 0xc0),
            };
            if child.is_live() {
                match self.nodes[child.id() as usize].reference() {
                    Reference::Hash(hash) if len == 33 => {
                        out[at + 1..at + 33].copy_from_slice(hash.as_slice());
                    }
                    Reference::Inline(rlp) if len == rlp.len() => {
                        out[at..at + len].copy_from_slice(rlp);
                    }
                    _ => {
                        out.clear();
                        return false;
                    }
                }
            } else if (*child == Child::EMPTY) != (len == 1) {
                out.clear();
                return false;
            }
            at += len;
        }
        true
    }

    fn reference_to<'r>(&'r self, child: Child, raw: &'r [u8]) -> Reference<'r> {
        match child.offset() {
            Some(offset) => Reference::at(raw, offset),
            None => self.nodes[child.id() as usize].reference(),
        }
    }
}

fn write_path(path: &Path<'_>, leaf: bool, out: &mut Vec<u8>) {
    // A path of one byte has its flags in that byte, so it is below 0x80 and its own RLP.
    if path.compact_len() > 1 {
        write_header(0x80, path.compact_len(), out);
    }
    path.write_compact(leaf, out);
}

/// The length of a string's RLP. `first` is its first byte.
const fn string_len(len: usize, first: u8) -> usize {
    match len {
        1 if first < 0x80 => 1,
        0..56 => 1 + len,
        56..256 => 2 + len,
        _ => 3 + len,
    }
}

/// Writes the head of a string (`base` 0x80) or list (`base` 0xc0) of at most [`MAX_NODE`] bytes.
#[expect(clippy::cast_possible_truncation, reason = "each arm's length fits")]
fn write_header(base: u8, len: usize, out: &mut Vec<u8>) {
    match len {
        0..56 => out.push(base + len as u8),
        56..256 => out.extend_from_slice(&[base + 56, len as u8]),
        _ => out.extend_from_slice(&[base + 57, (len >> 8) as u8, len as u8]),
    }
}
