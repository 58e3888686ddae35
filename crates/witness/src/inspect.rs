//! What an input holds, and how many bytes each part takes.

use crate::Withdrawal;
use alloy_consensus::{Header, Transaction as _, transaction::SignerRecoverable};
use alloy_primitives::{Address, B256, keccak256, map::B256Map};
use alloy_rlp::Decodable;
use alloy_trie::{Nibbles, nodes::TrieNode};
use program::{
    ChainConfig, Error, Statement, Terms, consensus::DecodedBlock, statement::DepositsChain,
};
use serde::Serialize;

/// Zeros after a code, which let it be executed in place.
const CODE_PADDING: usize = 36;

/// What an input holds. Everything is in bytes of the input, padding included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Length of the input.
    pub bytes: u64,
    /// The digest of its chain config.
    pub chain_config_digest: B256,
    /// Who is rewarded, and where the deposits start.
    pub terms: Terms,
    /// The numbers of its blocks.
    pub blocks: Vec<u64>,
    /// Gas used by those blocks, as their headers say.
    pub gas_used: u64,
    /// Number of transactions in them.
    pub transactions: u64,
    /// Bytes of the blocks.
    pub block_bytes: u64,
    /// Bytes of the hints: a key for each transaction.
    pub hint_bytes: u64,
    /// Number of ancestors' headers.
    pub headers: u64,
    /// Bytes of those.
    pub header_bytes: u64,
    /// Number of codes.
    pub codes: u64,
    /// Bytes of those.
    pub code_bytes: u64,
    /// Number of nodes of the account trie.
    pub account_nodes: u64,
    /// Bytes of those.
    pub account_bytes: u64,
    /// Number of nodes of storage tries.
    pub storage_nodes: u64,
    /// Bytes of those.
    pub storage_bytes: u64,
    /// Accounts with the largest storage, largest first.
    pub accounts: Vec<AccountSize>,
}

/// The size of one account's storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountSize {
    /// Keccak-256 of its address.
    pub hashed_address: B256,
    /// Its address, if the blocks name it.
    pub address: Option<Address>,
    /// Number of nodes of its storage trie.
    pub nodes: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// Has the `deposits` of an input's blocks come after the link `start`: the input says so from now on, and so does `statement`, which is
/// what the program states of it. Returns the link after them. Nothing else that the program states depends on that link, so the blocks
/// can be executed before it is known.
///
/// # Errors
/// [`Error::Input`] if the bytes are not an input.
pub fn place_deposits(
    input: &mut [u8],
    statement: &mut Statement,
    deposits: &[Withdrawal],
    start: B256,
) -> Result<B256, Error> {
    let mut reader = Reader { input, at: 0 };
    reader.take(4)?;
    reader.item()?;
    let terms = reader.at;
    reader.terms()?;
    // After the item's length and the beneficiary.
    let at = terms + 4 + Address::len_bytes();
    input[at..at + B256::len_bytes()].copy_from_slice(start.as_slice());
    let mut chain = DepositsChain::new(start);
    deposits.iter().for_each(|deposit| chain.push(deposit));
    statement.deposits_digest = chain.digest();
    Ok(chain.link())
}

/// Decodes an [`program::Input`] without executing it. At most `most` accounts are listed.
///
/// # Errors
/// [`Error::Input`] if the bytes are not an input; other errors if an item in it is malformed.
pub fn inspect(input: &[u8], most: usize) -> Result<Inspection, Error> {
    let mut reader = Reader { input, at: 0 };
    if reader.take(4)? != b"L2P4" {
        return Err(Error::Input { what: "expected the magic bytes L2P4", offset: 0 });
    }
    let config = ChainConfig::decode(reader.item()?)?;
    let terms = reader.terms()?;
    let (headers, header_bytes) = reader.items(0)?;
    let (blocks, block_bytes) = reader.items(0)?;
    let hints = reader.item()?;
    let (codes, code_bytes) = reader.items(CODE_PADDING)?;
    let accounts = reader.item()?;
    let storage = reader.item()?;
    let mut found = Inspection {
        bytes: input.len() as u64,
        chain_config_digest: config.digest(),
        terms,
        blocks: Vec::new(),
        gas_used: 0,
        transactions: 0,
        block_bytes,
        hint_bytes: hints.len() as u64,
        headers: headers.len() as u64,
        header_bytes,
        codes: codes.len() as u64,
        code_bytes,
        account_nodes: 0,
        account_bytes: accounts.len() as u64,
        storage_nodes: 0,
        storage_bytes: storage.len() as u64,
        accounts: Vec::new(),
    };
    let mut names = B256Map::default();
    for header in headers {
        if let Ok(header) = Header::decode(&mut &*header) {
            names.insert(keccak256(header.beneficiary), header.beneficiary);
        }
    }
    for block in blocks {
        let number = found.blocks.last().map_or(0, |last| last + 1);
        let block = DecodedBlock::decode(block).map_err(|violation| violation.in_block(number))?;
        found.blocks.push(block.header.number);
        found.gas_used += block.header.gas_used;
        found.transactions += block.body.transactions.len() as u64;
        for transaction in &block.body.transactions {
            let listed = transaction.access_list().into_iter().flat_map(|list| &list.0);
            let named = transaction.to().into_iter().chain(transaction.recover_signer().ok());
            for address in named.chain(listed.map(|item| item.address)) {
                names.insert(keccak256(address), address);
            }
        }
    }
    let mut words = Reader { input: accounts, at: 0 };
    found.account_nodes = u64::from(words.word()?);
    let mut leaves = Vec::new();
    if found.account_nodes > 0 {
        words.account_node(&mut Nibbles::default(), &mut leaves)?;
    }
    let mut storages = Reader { input: storage, at: 0 };
    for (hashed_address, len) in leaves {
        let stream = storages.take(4 * len)?;
        let nodes = u64::from(Reader { input: stream, at: 0 }.word()?);
        found.storage_nodes += nodes;
        let (address, bytes) = (names.get(&hashed_address).copied(), stream.len() as u64);
        found.accounts.push(AccountSize { hashed_address, address, nodes, bytes });
    }
    found
        .accounts
        .sort_by_key(|account| (core::cmp::Reverse(account.bytes), account.hashed_address));
    found.accounts.truncate(most);
    Ok(found)
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let taken = self.at.checked_add(len).and_then(|end| self.input.get(self.at..end));
        let taken = taken.ok_or(Error::Input { what: "truncated", offset: self.at })?;
        self.at += len;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    fn item(&mut self) -> Result<&'a [u8], Error> {
        let len = self.word()? as usize;
        let item = self.take(len)?;
        self.take((4 - len % 4) % 4)?;
        Ok(item)
    }

    fn terms(&mut self) -> Result<Terms, Error> {
        let offset = self.at;
        match self.item()?.split_first_chunk::<20>() {
            Some((beneficiary, start)) if start.len() == 32 => Ok(Terms {
                beneficiary: beneficiary.into(),
                deposits_start: B256::from_slice(start),
            }),
            _ => Err(Error::Input { what: "expected 52 bytes of terms", offset }),
        }
    }

    /// A list of items, each followed by `padding` bytes, and how many bytes the list takes.
    fn items(&mut self, padding: usize) -> Result<(Vec<&'a [u8]>, u64), Error> {
        let begun = self.at;
        let count = self.word()? as usize;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.item()?);
            self.take(padding)?;
        }
        Ok((items, (self.at - begun) as u64))
    }

    /// Reads the node at `path` and all that follow it, and for each account leaf the length of its storage, in
    /// words.
    fn account_node(
        &mut self,
        path: &mut Nibbles,
        leaves: &mut Vec<(B256, usize)>,
    ) -> Result<(), Error> {
        let malformed = Error::Input { what: "not an account trie", offset: self.at };
        let header = self.word()?;
        let (len, mask) = ((header & 0xffff) as usize, header >> 16);
        let node = self.take(len)?;
        self.take((4 - len % 4) % 4)?;
        let depth = path.len();
        match TrieNode::decode(&mut &*node).map_err(|_| malformed.clone())? {
            TrieNode::Leaf(leaf) => {
                let words = self.word()? as usize;
                if depth + leaf.key.len() != 64 {
                    return Err(malformed);
                }
                path.extend(&leaf.key);
                if words > 0 {
                    leaves.push((B256::from_slice(&path.pack()), words));
                }
            }
            TrieNode::Extension(extension) if mask & 1 == 1 => {
                if depth + extension.key.len() >= 64 {
                    return Err(malformed);
                }
                path.extend(&extension.key);
                self.account_node(path, leaves)?;
            }
            TrieNode::Branch(_) if depth < 64 => {
                for index in (0..16u8).filter(|index| mask >> index & 1 == 1) {
                    path.push(index);
                    self.account_node(path, leaves)?;
                    path.truncate(depth);
                }
            }
            _ => {}
        }
        path.truncate(depth);
        Ok(())
    }
}
