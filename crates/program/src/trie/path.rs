//! A run of nibbles.

use super::nibble;
use alloc::{borrow::Cow, vec, vec::Vec};
use alloy_primitives::B256;
use core::fmt;

/// At most 64 nibbles: (part of) the way from a trie's root to a key.
///
/// The nibbles lie packed, as in the RLP of a node or in a key; a path that was read is never copied out of its node.
#[derive(Clone)]
pub struct Path<'a> {
    /// Nibble `i` of the path is nibble `start + i` of these bytes.
    bytes: Cow<'a, [u8]>,
    start: u8,
    len: u8, // invariant: start + len <= 66, and no more than the nibbles of `bytes`
}

impl<'a> Path<'a> {
    /// What is left of `key` after `depth` nibbles.
    pub(super) fn suffix(key: &B256, depth: usize) -> Self {
        let depth = small(depth.min(64));
        Self { bytes: Cow::Owned(key.to_vec()), start: depth, len: 64 - depth }
    }

    /// The path of one nibble.
    pub(super) fn single(nibble: usize) -> Self {
        Self { bytes: Cow::Owned(vec![small(nibble & 15)]), start: 1, len: 1 }
    }

    /// The path and whether it is a leaf's, from the form it has in a node.
    pub(super) fn from_compact(compact: &'a [u8]) -> Option<(Self, bool)> {
        let flags = *compact.first()?;
        let odd = flags & 0x10 != 0;
        if compact.len() > 33 || flags & 0xc0 != 0 || (!odd && flags & 0x0f != 0) {
            return None;
        }
        let start = if odd { 1 } else { 2 };
        let len = small(2 * compact.len()) - start;
        Some((Self { bytes: Cow::Borrowed(compact), start, len }, flags & 0x20 != 0))
    }

    /// Appends the form that the path has in a node: [`Path::compact_len`] bytes.
    pub(super) fn write_compact(&self, leaf: bool, out: &mut Vec<u8>) {
        let odd = self.len() % 2 == 1;
        let mut flags = if leaf { 0x20 } else { 0 };
        if odd {
            flags |= 0x10 | small(self.nibble(0));
        }
        out.push(flags);
        let from = usize::from(self.start) + usize::from(odd);
        let end = usize::from(self.start) + self.len();
        if from.is_multiple_of(2) {
            out.extend_from_slice(&self.bytes[from / 2..end / 2]);
        } else {
            for i in (usize::from(odd)..self.len()).step_by(2) {
                out.push(small(self.nibble(i) << 4 | self.nibble(i + 1)));
            }
        }
    }

    pub(super) const fn compact_len(&self) -> usize {
        self.len() / 2 + 1
    }

    /// The number of nibbles.
    #[expect(clippy::len_without_is_empty, reason = "no one asks")]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Nibble `i`, which must be below [`Path::len`].
    pub(super) fn nibble(&self, i: usize) -> usize {
        let i = usize::from(self.start) + i;
        let byte = self.bytes[i / 2];
        usize::from(if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
    }

    /// Whether `key` goes on with this path at nibble `depth`.
    pub(super) fn matches(&self, key: &B256, depth: usize) -> bool {
        let start = usize::from(self.start);
        if depth + self.len() > 64 {
            return false;
        }
        if (start ^ depth) % 2 == 1 || !(start + self.len()).is_multiple_of(2) {
            return self.common(key, depth) == self.len();
        }
        // Nearly all calls are for leaves: whole bytes, except perhaps for the first nibble.
        let odd = start % 2;
        (odd == 0 || self.len() == 0 || self.nibble(0) == nibble(key, depth))
            && self.bytes[(start + odd) / 2..(start + self.len()) / 2]
                == key[(depth + odd) / 2..(depth + self.len()) / 2]
    }

    /// How many nibbles this path has in common with `key` from nibble `depth` on.
    pub(super) fn common(&self, key: &B256, depth: usize) -> usize {
        let most = self.len().min(64 - depth.min(64));
        (0..most).find(|&i| self.nibble(i) != nibble(key, depth + i)).unwrap_or(most)
    }

    pub(super) fn skip(&self, nibbles: usize) -> Self {
        let nibbles = small(nibbles.min(self.len()));
        let (start, len) = (self.start + nibbles, self.len - nibbles);
        Self { bytes: self.bytes.clone(), start, len }
    }

    pub(super) fn prefix(&self, nibbles: usize) -> Self {
        Self { len: small(nibbles.min(self.len())), ..self.clone() }
    }

    /// This path, then `next`. Nibbles beyond the 64th are cut; no two nodes lead to that.
    pub(super) fn join(&self, next: &Path<'_>) -> Self {
        let len = (self.len() + next.len()).min(64);
        // So that the end lies on a byte.
        let start = 2 - len % 2;
        let mut bytes = vec![0; 33];
        for i in 0..len {
            let nibble = if i < self.len() { self.nibble(i) } else { next.nibble(i - self.len()) };
            let at = start + i;
            bytes[at / 2] |= small(if at.is_multiple_of(2) { nibble << 4 } else { nibble });
        }
        Self { bytes: Cow::Owned(bytes), start: small(start), len: small(len) }
    }
}

impl PartialEq for Path<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (0..self.len()).all(|i| self.nibble(i) == other.nibble(i))
    }
}

impl Eq for Path<'_> {}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        (0..self.len()).try_for_each(|i| write!(f, "{:x}", self.nibble(i)))
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "nibbles and their counts are below 256")]
pub(super) const fn small(value: usize) -> u8 {
    debug_assert!(value < 256);
    value as u8
}
