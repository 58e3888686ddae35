//! Block files: a block with its execution witness as JSON, plain or compressed with zstd.
//!
//! The fields `chain_id`, `number`, `block_hash`, `block_rlp` (as `debug_getRawBlock` gives it), `witness` (as
//! `debug_executionWitness` gives it) and, for [`BlockFile::prepare_assuming_parent`], `prev_state_root` and
//! `block_hashes` are read; others are ignored.

use crate::{
    Error, ErrorSource, Prepared, Rules,
    assemble::{self, Claim, Parent, Witness},
};
use alloy_primitives::{B256, Bytes};
use program::{AssumedParent, ChainConfig};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// The first bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Maximum length of an unpacked file, in bytes.
const MAX_UNPACKED: u64 = 1 << 29;

/// A block file that was read. It is well-formed; nothing else has been checked.
#[derive(Clone, Debug)]
pub struct BlockFile {
    culprit: ErrorSource,
    chain_id: u64,
    assumed: Option<AssumedParent>,
    claim: Claim,
}

#[derive(Deserialize, Serialize)]
struct Schema {
    chain_id: u64,
    number: u64,
    block_hash: B256,
    block_rlp: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_state_root: Option<B256>,
    /// The first hash is the parent's, or its parent's; both forms are in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    block_hashes: Vec<B256>,
    witness: Witness,
}

/// Reads a block file. Its first bytes show whether it is compressed.
///
/// # Errors
/// [`Error::Read`] and [`Error::Malformed`].
pub fn read(path: impl AsRef<Path>) -> Result<BlockFile, Error> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_UNPACKED + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    BlockFile::parse(path.to_owned(), &bytes)
}

/// Makes one batch of the consecutive blocks in `files`.
///
/// # Errors
/// As [`BlockFile::prepare`]; errors name the first file.
///
/// # Panics
/// If `files` is empty.
pub fn prepare_batch<'r>(
    files: &[BlockFile],
    rules: impl Into<Rules<'r>>,
) -> Result<Prepared, Error> {
    let rules = rules.into();
    for file in files {
        file.check_chain(rules.config)?;
    }
    let claims: Vec<Claim> = files.iter().map(|file| file.claim.clone()).collect();
    assemble::prepare(rules, &claims, Parent::Header, &files[0].culprit)
}

impl BlockFile {
    /// The block file of what `culprit` says about a block.
    pub(crate) fn new(culprit: ErrorSource, chain_id: u64, claim: Claim) -> Self {
        Self { culprit, chain_id, assumed: None, claim }
    }

    /// The file's JSON.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn json(&self) -> Result<Vec<u8>, Error> {
        let assumed = self.assumed.clone();
        let schema = Schema {
            chain_id: self.chain_id,
            number: self.number(),
            block_hash: self.block_hash(),
            block_rlp: self.claim.rlp.clone(),
            prev_state_root: assumed.as_ref().map(|assumed| assumed.state_root),
            block_hashes: assumed.map_or_else(Vec::new, |assumed| assumed.ancestor_hashes),
            witness: self.claim.witness.clone(),
        };
        let failed = |error: serde_json::Error| Error::Write {
            path: format!("block {}", self.number()).into(),
            source: error.into(),
        };
        serde_json::to_vec(&schema).map_err(failed)
    }

    /// The file's JSON, compressed.
    ///
    /// # Errors
    /// As [`BlockFile::json`].
    pub fn zstd(&self) -> Result<Vec<u8>, Error> {
        let path = || format!("block {}", self.number()).into();
        let compressed = zstd::encode_all(self.json()?.as_slice(), 3);
        compressed.map_err(|source| Error::Write { path: path(), source })
    }

    /// Writes the file to `path`, compressed. It appears as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let (bytes, part) = (self.zstd()?, path.with_extension("part"));
        fs::write(&part, bytes)
            .and_then(|()| fs::rename(part, path))
            .map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, Error> {
        let culprit = ErrorSource::File(path);
        let malformed = |reason: String| Error::Malformed { culprit: culprit.clone(), reason };
        let unpacked;
        let json = if bytes.starts_with(&ZSTD_MAGIC) {
            unpacked = unpack(bytes).map_err(&malformed)?;
            &unpacked
        } else {
            bytes
        };
        let schema: Schema =
            serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        let header = assemble::header_of(&schema.block_rlp)
            .map_err(|error| malformed(format!("block_rlp is not a block: {error}")))?;
        if header.hash() != schema.block_hash || header.number != schema.number {
            let (number, hash) = (header.number, header.hash());
            return Err(malformed(format!(
                "number or block_hash is not that of block_rlp: block {number}, {hash}"
            )));
        }
        let mut ancestor_hashes = schema.block_hashes;
        ancestor_hashes.retain(|hash| *hash != header.parent_hash);
        let assumed =
            schema.prev_state_root.map(|state_root| AssumedParent { state_root, ancestor_hashes });
        let claim = Claim { header, rlp: schema.block_rlp, witness: schema.witness };
        Ok(Self { culprit, chain_id: schema.chain_id, assumed, claim })
    }

    /// The chain that the file claims its block is of.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The block's number.
    pub fn number(&self) -> u64 {
        self.claim.header.number
    }

    /// The hash of the block's header.
    pub fn block_hash(&self) -> B256 {
        self.claim.header.hash()
    }

    /// Bytes of the nodes, codes and headers of its witness.
    pub fn witness_bytes(&self) -> u64 {
        let witness = &self.claim.witness;
        let headers = witness.headers.iter().map(|header| header.rlp().len());
        let items = witness.state.iter().chain(&witness.codes).map(|item| item.len());
        items.chain(headers).sum::<usize>() as u64
    }

    /// Makes the block's input and executes it under `rules`.
    ///
    /// # Errors
    /// [`Error::WrongChain`]; [`Error::Incomplete`], also if the parent's header is not in the file;
    /// [`Error::Refused`].
    pub fn prepare<'r>(&self, rules: impl Into<Rules<'r>>) -> Result<Prepared, Error> {
        let rules = rules.into();
        self.check_chain(rules.config)?;
        assemble::prepare(rules, core::slice::from_ref(&self.claim), Parent::Header, &self.culprit)
    }

    /// What the file claims about the block's ancestors without showing it, for
    /// [`program::run_assuming_parent`]. `None` if it has no `prev_state_root`.
    pub fn assumed_parent(&self) -> Option<&AssumedParent> {
        self.assumed.as_ref()
    }

    /// Like [`BlockFile::prepare`], but without a parent header: takes [`BlockFile::assumed_parent`] on trust
    /// and skips exactly the rules that compare the block's header with its parent's.
    ///
    /// The input of a file without a parent header cannot be proven: the program refuses it.
    ///
    /// # Errors
    /// As [`BlockFile::prepare`], and [`Error::Malformed`] if the file has no `prev_state_root`.
    pub fn prepare_assuming_parent<'r>(
        &self,
        rules: impl Into<Rules<'r>>,
    ) -> Result<Prepared, Error> {
        let rules = rules.into();
        self.check_chain(rules.config)?;
        let parent = self.assumed.as_ref().ok_or_else(|| Error::Malformed {
            culprit: self.culprit.clone(),
            reason: "missing field `prev_state_root`".into(),
        })?;
        assemble::prepare(
            rules,
            core::slice::from_ref(&self.claim),
            Parent::Assumed(parent),
            &self.culprit,
        )
    }

    fn check_chain(&self, config: &ChainConfig) -> Result<(), Error> {
        let (expected, found) = (config.chain_id, self.chain_id);
        match found == expected {
            true => Ok(()),
            false => Err(Error::WrongChain { culprit: self.culprit.clone(), expected, found }),
        }
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    zstd::Decoder::new(bytes)
        .and_then(|decoder| decoder.take(MAX_UNPACKED + 1).read_to_end(&mut unpacked))
        .map_err(|error| format!("zstd: {error}"))?;
    match unpacked.len() as u64 > MAX_UNPACKED {
        true => Err(format!("it unpacks to more than {MAX_UNPACKED} bytes")),
        false => Ok(unpacked),
    }
}
