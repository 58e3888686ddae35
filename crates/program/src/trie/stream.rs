//! Both streams of a witness, read and written. [`super`] describes their format.

use super::{
    EMPTY_ROOT, Trie, TrieError,
    node::{Child, Item, Kind, Node},
};
use alloc::{collections::BTreeSet, vec::Vec};
use alloy_primitives::B256;

/// Maximum length of a stream, in bytes: a guest's memory is smaller.
const MAX_STREAM: usize = 1 << 30;
/// The least that a node takes in the stream: its header, and RLP that was too long to lie in its parent.
const MIN_NODE: usize = 4 + 32;

/// Where an account's storage trie lies in the storage section. The default means that it is not revealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageSpan {
    start: u32, // in words, like `words`
    words: u32,
}

#[cfg(test)]
impl StorageSpan {
    /// A section that is one stream of `words` words.
    pub(super) fn of_words(words: usize) -> Self {
        Self { start: 0, words: u32::try_from(words).unwrap() }
    }
}

/// Both streams of a witness. Their lengths are multiples of 4 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// The account trie.
    pub accounts: Vec<u8>,
    /// The storage tries.
    pub storage: Vec<u8>,
}

impl<'a> Trie<'a> {
    /// Reads and hashes the account trie with this `root` from its stream.
    ///
    /// Storage tries are not read; only the sum of their lengths is checked, which must be that of `storage`.
    pub fn decode_accounts(
        stream: &'a [u8],
        storage: &'a [u8],
        root: B256,
    ) -> Result<Self, TrieError> {
        let mut reader = Reader::new(stream, true);
        let trie = reader.trie(root)?;
        if reader.storage_words * 4 != storage.len() as u64 {
            return Err(reader.bad("the storage section has another length than the accounts say"));
        }
        Ok(trie)
    }

    /// Reads and hashes one storage trie. `root` must come from the account's leaf.
    ///
    /// If the trie is not revealed, this is [`Trie::from_root`].
    pub fn decode_storage(
        storage: &'a [u8],
        span: StorageSpan,
        root: B256,
    ) -> Result<Self, TrieError> {
        if span.words == 0 {
            return Ok(Self::from_root(root));
        }
        let (start, len) = (span.start as usize * 4, span.words as usize * 4);
        let stream = storage.get(start..).and_then(|rest| rest.get(..len));
        let stream = stream
            .ok_or(TrieError::BadStream { offset: start, what: "the storage section is cut" })?;
        Reader::new(stream, false).trie(root)
    }
}

struct Reader<'a> {
    stream: &'a [u8],
    at: usize,
    accounts: bool,
    /// Words of the storage section that the leaves read so far take.
    storage_words: u64,
}

impl<'a> Reader<'a> {
    const fn new(stream: &'a [u8], accounts: bool) -> Self {
        Self { stream, at: 0, accounts, storage_words: 0 }
    }

    const fn bad(&self, what: &'static str) -> TrieError {
        TrieError::BadStream { offset: self.at, what }
    }

    fn trie(&mut self, root: B256) -> Result<Trie<'a>, TrieError> {
        let count = self.word()? as usize;
        let mut trie = if count == 0 { Trie::from_root(root) } else { Trie::empty() };
        if count > 0 {
            // Until it is checked, the count is only a hint for one allocation, so it may not ask for much. Only
            // the root may be shorter than `MIN_NODE`.
            if root == EMPTY_ROOT || count - 1 > self.stream.len() / MIN_NODE {
                return Err(self.bad("too many nodes"));
            }
            trie.nodes.reserve(count + count / 4 + 8);
            trie.root = Some(self.node(&mut trie, &root, 0)?);
            if trie.nodes.len() != count {
                return Err(self.bad("another number of nodes than said"));
            }
        }
        if self.at != self.stream.len() {
            return Err(self.bad("bytes are left over"));
        }
        Ok(trie)
    }

    fn word(&mut self) -> Result<u32, TrieError> {
        let bytes = self.stream.get(self.at..self.at + 4).and_then(|bytes| bytes.try_into().ok());
        let bytes: [u8; 4] = bytes.ok_or_else(|| self.bad("the stream is cut"))?;
        self.at += 4;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a node and all that is revealed below it.
    ///
    /// The recursion ends: each level takes at least one nibble, and no node is accepted below the 64th.
    fn node(&mut self, trie: &mut Trie<'a>, hash: &B256, depth: usize) -> Result<u32, TrieError> {
        let header = self.word()?;
        let (len, mask) = ((header & 0xffff) as usize, header >> 16);
        let padded = len.next_multiple_of(4);
        let Some(bytes) = self.stream[self.at..].get(..padded) else {
            return Err(self.bad("the stream is cut"));
        };
        let (rlp, padding) = bytes.split_at(len);
        if padding.iter().any(|&byte| byte != 0) {
            return Err(self.bad("the padding is not zero"));
        }
        let mut node = Node::verified(rlp, hash, depth)?;
        self.at += padded;
        let depth = match &mut node.kind {
            Kind::Leaf { storage, .. } => {
                if mask != 0 {
                    return Err(self.bad("a leaf has no children"));
                }
                if self.accounts {
                    *storage = self.span()?;
                }
                64
            }
            Kind::Extension { path, .. } => depth + path.len(),
            Kind::Branch { .. } | Kind::Blind => depth + 1,
        };
        let under_extension = matches!(node.kind, Kind::Extension { .. });
        let id = trie.push(node);
        let mut left = mask;
        for index in 0.. {
            if left == 0 {
                break;
            }
            let named = left & 1 == 1;
            left >>= 1;
            if !named {
                continue;
            }
            let Some(hash) = trie.nodes[id as usize].unopened_hash(index) else {
                return Err(self.bad("the mask names a child that is absent or lies in its parent"));
            };
            let child = self.node(trie, hash, depth)?;
            if under_extension && !matches!(trie.nodes[child as usize].kind, Kind::Branch { .. }) {
                return Err(TrieError::BadNode {
                    what: "an extension leads to something else than a branch",
                });
            }
            trie.nodes[id as usize].set_child(index, Child::live(child));
        }
        Ok(id)
    }

    fn span(&mut self) -> Result<StorageSpan, TrieError> {
        let words = self.word()?;
        if words == 0 {
            return Ok(StorageSpan::default());
        }
        let start = u32::try_from(self.storage_words)
            .map_err(|_| self.bad("the storage section is too long"))?;
        self.storage_words += u64::from(words);
        Ok(StorageSpan { start, words })
    }
}

/// Writes the part of the state with this `root` that can be reached through `nodes`.
///
/// Nodes that `nodes` does not have stay unrevealed, so their absence shows only when a trie is read.
/// Fails if a node is not what its hash says.
pub fn encode<'n>(
    root: B256,
    nodes: &impl Fn(&B256) -> Option<&'n [u8]>,
) -> Result<Streams, TrieError> {
    let mut storage = Vec::new();
    let accounts = Writer::new(nodes, Some(&mut storage)).trie(root)?;
    Ok(Streams { accounts, storage })
}

struct Writer<'w, F> {
    nodes: &'w F,
    out: Vec<u8>,
    count: u32,
    /// Where storage tries go; `None` while one is being written.
    storage: Option<&'w mut Vec<u8>>,
    /// In a trie of hashed keys no node occurs twice. One that does, in a made-up witness, is written once:
    /// otherwise a few nodes that name each other often could fill all memory.
    seen: BTreeSet<B256>,
}

impl<'w, 'n, F: Fn(&B256) -> Option<&'n [u8]>> Writer<'w, F> {
    const fn new(nodes: &'w F, storage: Option<&'w mut Vec<u8>>) -> Self {
        Self { nodes, out: Vec::new(), count: 0, storage, seen: BTreeSet::new() }
    }

    fn trie(mut self, root: B256) -> Result<Vec<u8>, TrieError> {
        self.out.extend_from_slice(&[0; 4]);
        if root != EMPTY_ROOT
            && let Some(rlp) = (self.nodes)(&root)
        {
            self.node(rlp, &root, 0)?;
        }
        self.out[..4].copy_from_slice(&self.count.to_le_bytes());
        Ok(self.out)
    }

    fn node(&mut self, rlp: &'n [u8], hash: &B256, depth: usize) -> Result<(), TrieError> {
        let node = Node::verified(rlp, hash, depth)?;
        let header = self.out.len();
        let len = u32::try_from(rlp.len()).map_err(|_| TrieError::TooLarge)?;
        self.out.extend_from_slice(&[0; 4]);
        self.out.extend_from_slice(rlp);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self.count += 1;
        if self.out.len() > MAX_STREAM {
            return Err(TrieError::TooLarge);
        }
        let depth = match &node.kind {
            Kind::Leaf { value, .. } => {
                if let Some(storage) = &mut self.storage {
                    let words = match storage_root(value) {
                        Some(root) if root != EMPTY_ROOT && (self.nodes)(&root).is_some() => {
                            let stream = Writer::new(self.nodes, None).trie(root)?;
                            storage.extend_from_slice(&stream);
                            if storage.len() > MAX_STREAM {
                                return Err(TrieError::TooLarge);
                            }
                            u32::try_from(stream.len() / 4).map_err(|_| TrieError::TooLarge)?
                        }
                        _ => 0,
                    };
                    self.out.extend_from_slice(&words.to_le_bytes());
                }
                64
            }
            Kind::Extension { path, .. } => depth + path.len(),
            Kind::Branch { .. } | Kind::Blind => depth + 1,
        };
        let mut mask = 0;
        for index in 0..16 {
            let Some(hash) = node.unopened_hash(index) else { continue };
            let Some(rlp) = (self.nodes)(hash) else { continue };
            if self.seen.insert(*hash) {
                mask |= 1 << index;
                self.node(rlp, hash, depth)?;
            }
        }
        self.out[header..header + 4].copy_from_slice(&(len | mask << 16).to_le_bytes());
        Ok(())
    }
}

/// The storage root in the RLP of an account: `[nonce, balance, storage root, code hash]`.
fn storage_root(account: &[u8]) -> Option<B256> {
    let list = Item::first(account)?;
    let nonce = Item::at(account, list.start)?;
    let balance = Item::at(account, nonce.end)?;
    let root = Item::at(account, balance.end)?;
    account[root.start..root.end].try_into().ok()
}
