//! The program's input: blocks and their witness, as one flat byte string.
//!
//! All numbers are little-endian `u32`. An item is its length, its bytes, and zeros up to the next
//! multiple of four, so that every item starts on a word boundary and can be used in place.
//!
//! ```text
//! magic "L2P4"
//! item                 chain config, as ChainConfig::encode
//! item                 52 bytes: who is rewarded, and the first link of the chain of deposits
//! count, items         ancestors' headers (RLP), oldest first; the last is the first block's parent
//! count, items         blocks (RLP), in order
//! item                 96 bytes for each transaction of all blocks, in order: senders::Hint
//! count, items         contract codes, each followed by 36 more zeros, because it is executed in place
//! item                 account trie, as trie::encode
//! item                 storage tries, as trie::encode
//! ```
//!
//! There is nothing after the last item, and padding is zero: one input has one encoding, but for the hints. Those are
//! what the host says about signatures; no statement depends on them.

use crate::{
    ChainConfig, Error,
    bound::{Bound, MAX_BLOCKS, MAX_HEADERS, MAX_INPUT},
    code::{self, PaddedCode},
};
#[cfg(feature = "std")]
use crate::{
    consensus::DecodedBlock,
    senders::{self, Hint},
    trie,
};
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, Bytes};
#[cfg(feature = "std")]
use alloy_primitives::{keccak256, map::B256Map};

/// "L2P4" as a little-endian word.
const MAGIC: u32 = u32::from_le_bytes(*b"L2P4");

/// The parts of a statement that the prover chooses and that a contract compares with its own values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Terms {
    /// Who may claim the reward of the proof; zero means nobody.
    pub beneficiary: Address,
    /// The link of [`crate::statement::DepositsChain`] before the first block; unused without a bridge.
    pub deposits_start: B256,
}

/// Everything that a proof needs, as the host holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The rules.
    pub config: ChainConfig,
    /// Who is rewarded, and where the deposits start.
    pub terms: Terms,
    /// RLP headers of ancestors, oldest first; the last one is the first block's parent.
    pub headers: Vec<Bytes>,
    /// RLP blocks in order, as `debug_getRawBlock` gives them.
    pub blocks: Vec<Bytes>,
    /// Codes of the contracts that run.
    pub codes: Vec<Bytes>,
    /// Nodes of the state trie and of storage tries, in any order.
    pub nodes: Vec<Bytes>,
}

#[cfg(feature = "std")]
impl Input {
    /// Encodes the input for [`crate::run`]. Nodes that cannot be reached from `pre_state_root`
    /// are left out. The hints are computed here: each signer's key, and what else speeds up its check.
    ///
    /// # Errors
    /// [`Error::Trie`] if a node that is reached is not a trie node.
    pub fn encode(&self, pre_state_root: B256) -> Result<Vec<u8>, Error> {
        self.encode_with_hints(pre_state_root, &self.hints())
    }

    /// [`Self::encode`] with hints of one's own.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_hints(
        &self,
        pre_state_root: B256,
        hints: &[Hint],
    ) -> Result<Vec<u8>, Error> {
        let nodes: B256Map<&[u8]> =
            self.nodes.iter().map(|node| (keccak256(node), node.as_ref())).collect();
        let streams = trie::encode(pre_state_root, &|hash| nodes.get(hash).copied())?;
        let mut out = Vec::new();
        put_word(&mut out, MAGIC);
        put_item(&mut out, &self.config.encode());
        let Terms { beneficiary, deposits_start } = &self.terms;
        put_item(&mut out, &[beneficiary.as_slice(), deposits_start.as_slice()].concat());
        for items in [&self.headers, &self.blocks] {
            put_word(&mut out, length(items.len()));
            items.iter().for_each(|item| put_item(&mut out, item));
        }
        put_item(&mut out, hints.as_flattened());
        put_word(&mut out, length(self.codes.len()));
        for code in &self.codes {
            put_item(&mut out, code);
            out.extend_from_slice(&[0; code::PADDING]);
        }
        put_item(&mut out, &streams.accounts);
        put_item(&mut out, &streams.storage);
        Ok(out)
    }

    /// The hints for all transactions. A block that cannot be decoded has none, and the program refuses it.
    pub fn hints(&self) -> Vec<Hint> {
        let blocks = self.blocks.iter().filter_map(|block| DecodedBlock::decode(block).ok());
        blocks.flat_map(|block| block.body.transactions).map(|tx| senders::hint(&tx)).collect()
    }
}

#[cfg(feature = "std")]
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("an input item is shorter than 4 GiB")
}

#[cfg(feature = "std")]
fn put_word(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_le_bytes());
}

#[cfg(feature = "std")]
fn put_item(out: &mut Vec<u8>, item: &[u8]) {
    put_word(out, length(item.len()));
    out.extend_from_slice(item);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// An encoded input, read in place.
#[derive(Debug)]
pub(crate) struct InputRef<'a> {
    pub(crate) config: ChainConfig,
    pub(crate) terms: Terms,
    pub(crate) headers: Vec<&'a [u8]>,
    pub(crate) blocks: Vec<&'a [u8]>,
    pub(crate) hints: &'a [u8],
    pub(crate) codes: Vec<PaddedCode<'a>>,
    pub(crate) accounts: &'a [u8],
    pub(crate) storages: &'a [u8],
}

impl<'a> InputRef<'a> {
    /// Splits the bytes into items; hashes nothing.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_INPUT {
            return Err(Bound::Input { len: bytes.len() }.into());
        }
        let mut reader = Reader { bytes, offset: 0 };
        if reader.word()? != MAGIC {
            return Err(Error::Input { what: "expected the magic bytes L2P4", offset: 0 });
        }
        let input = Self {
            config: ChainConfig::decode(reader.item()?)?,
            terms: reader.terms()?,
            headers: reader.items(MAX_HEADERS, |count| Bound::Headers { count })?,
            blocks: reader.items(MAX_BLOCKS, |count| Bound::Blocks { count })?,
            hints: reader.item()?,
            codes: reader.codes()?,
            accounts: reader.item()?,
            storages: reader.item()?,
        };
        match reader.offset == bytes.len() {
            true => Ok(input),
            false => Err(Error::Input { what: "trailing bytes", offset: reader.offset }),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &'static str) -> Error {
        Error::Input { what, offset: self.offset }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.offset..];
        let taken = rest.get(..len).ok_or(self.error("truncated"))?;
        self.offset += len;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, Error> {
        let mut word = [0; 4];
        word.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(word))
    }

    fn item(&mut self) -> Result<&'a [u8], Error> {
        let len = self.word()? as usize;
        let item = self.take(len)?;
        let padding = self.take((4 - len % 4) % 4)?;
        match padding.iter().all(|byte| *byte == 0) {
            true => Ok(item),
            false => Err(self.error("padding is not zero")),
        }
    }

    fn terms(&mut self) -> Result<Terms, Error> {
        let item = self.item()?;
        match item.split_first_chunk::<20>() {
            Some((beneficiary, start)) if start.len() == 32 => Ok(Terms {
                beneficiary: beneficiary.into(),
                deposits_start: B256::from_slice(start),
            }),
            _ => Err(self.error("expected 52 bytes of terms")),
        }
    }

    /// Reads a list of at most `most` items. Nothing is allocated for items that are not there.
    fn items(
        &mut self,
        most: usize,
        bound: impl Fn(usize) -> Bound,
    ) -> Result<Vec<&'a [u8]>, Error> {
        let count = self.word()? as usize;
        if count > most {
            return Err(bound(count).into());
        }
        (0..count).map(|_| self.item()).collect()
    }

    fn codes(&mut self) -> Result<Vec<PaddedCode<'a>>, Error> {
        (0..self.word()?).map(|_| self.code()).collect()
    }

    /// A code with the zeros after it.
    fn code(&mut self) -> Result<PaddedCode<'a>, Error> {
        let start = self.offset + 4;
        let len = self.item()?.len();
        // SOUNDNESS: what is executed after a code's end is STOP, and no byte of the host's.
        if self.take(code::PADDING)?.iter().any(|byte| *byte != 0) {
            return Err(self.error("padding is not zero"));
        }
        let padded = &self.bytes[start..start + len + code::PADDING];
        Ok(PaddedCode { padded, len })
    }
}
