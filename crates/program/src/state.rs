//! The state that blocks run on: the account trie, the storage tries and the codes.
//!
//! * Reads go through the tries, down to a root that the statement binds.
//! * A storage trie is opened when it is first read; its root comes from the account's leaf.
//! * After each block, `State::apply` writes its changes into the same tries, so that the next
//!   block of a batch reads them, and nodes and codes are revealed once per batch.

use crate::{
    Error,
    code::{PaddedCode, bytecode},
    hashes::{AccountId, Hashes},
    interpreter::Lasting,
    overlay::{Change, Changes, OldStorage, STORAGE_WITHOUT_CODE, has_storage_only},
    phase::Phase,
    trie::{NodeSource, StorageSpan, Trie},
};
use alloc::{collections::BTreeMap, vec::Vec};
use alloy_consensus::constants::{EMPTY_ROOT_HASH, KECCAK_EMPTY};
use alloy_primitives::{
    Address, B256, Bytes, U256, keccak256,
    map::{B256Map, hash_map::Entry},
};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::TrieAccount;
use revm::{bytecode::Bytecode, context_interface::DBErrorMarker, state::AccountInfo};

/// A source of nodes and codes that the encoded witness does not hold.
///
/// A node's own database is one; wrapped in a recorder of what is read, it records an execution witness. Whatever a
/// source returns is hashed before it is used.
pub trait StateSource<'a>: NodeSource<'a> + core::fmt::Debug {
    /// The code with this hash, if the source has it.
    fn code(&mut self, hash: &B256) -> Option<&'a [u8]>;
}

/// The source of a guest: there is nothing beyond the witness.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl NodeSource<'_> for NoSource {
    fn node(&mut self, _: &B256) -> Option<&'static [u8]> {
        None
    }
}

impl StateSource<'_> for NoSource {
    fn code(&mut self, _: &B256) -> Option<&'static [u8]> {
        None
    }
}

/// The state of a chain at one block, of which only a part need be known.
#[derive(Debug)]
pub struct State<'a, S> {
    accounts: Trie<'a>,
    /// The storage section of the encoded witness.
    storage_stream: &'a [u8],
    /// What is known of accounts, by their ids.
    known: Vec<Known<'a>>,
    codes: B256Map<Bytecode>,
    new_codes: Vec<(B256, Bytes)>,
    block_hashes: BTreeMap<u64, B256>,
    oldest_block_asked: Option<u64>,
    hashes: Hashes,
    /// For the EVMs of the blocks, one after the other.
    pub(crate) lasting: Lasting,
    source: S,
    failure: Option<Error>,
}

/// What was read of an account, as the tries have it now.
#[derive(Debug, Default)]
struct Known<'a> {
    /// What its leaf holds, if it was read; `Some(None)` if there is none.
    leaf: Option<Option<Leaf>>,
    /// Its storage trie, if that was opened.
    storage: Option<Trie<'a>>,
}

/// An account, and where its storage trie lies.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    account: TrieAccount,
    span: StorageSpan,
}

impl<'a> State<'a, NoSource> {
    /// The state in the two streams of an encoded witness, and nothing beyond.
    ///
    /// # Errors
    /// [`Error::Trie`] if the account stream is not the trie with this root.
    pub fn from_streams(root: B256, accounts: &'a [u8], storages: &'a [u8]) -> Result<Self, Error> {
        let accounts = Trie::decode_accounts(accounts, storages, root)?;
        Ok(Self::new(accounts, storages, NoSource))
    }
}

impl<'a, S: StateSource<'a>> State<'a, S> {
    /// The state with this root, all of which is read from `source`.
    pub fn from_source(root: B256, source: S) -> Self {
        Self::new(Trie::from_root(root), &[], source)
    }
}

impl<'a, S> State<'a, S> {
    fn new(accounts: Trie<'a>, storage_stream: &'a [u8], source: S) -> Self {
        Self {
            accounts,
            storage_stream,
            known: Vec::new(),
            codes: B256Map::default(),
            new_codes: Vec::new(),
            block_hashes: BTreeMap::new(),
            oldest_block_asked: None,
            hashes: Hashes::default(),
            lasting: Lasting::default(),
            source,
            failure: None,
        }
    }

    /// Adds a contract's code, under its own hash. It is copied unless it lies in `owner`.
    pub(crate) fn insert_code(&mut self, code: &PaddedCode<'_>, owner: Option<&Bytes>) {
        // SOUNDNESS: a code is found by the hash of its bytes only.
        self.codes.insert(keccak256(code.bytes()), code.bytecode(owner));
    }

    /// Makes `BLOCKHASH` of this block answerable. The caller vouches for the hash.
    pub fn remember_block(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// The oldest block whose hash was asked for: how far back a witness's headers must reach.
    pub fn oldest_block_asked(&self) -> Option<u64> {
        self.oldest_block_asked
    }

    /// The source, for instance to see what it recorded.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Ends the use of the state and gives the source back.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Takes the error that a read ran into, if any did.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Codes that blocks have deployed since the last call, with their hashes.
    pub fn take_new_codes(&mut self) -> Vec<(B256, Bytes)> {
        core::mem::take(&mut self.new_codes)
    }

    /// Hands out the trie nodes made since the last call: what a node's database must add.
    pub fn new_nodes(&mut self, mut sink: impl FnMut(B256, &[u8])) {
        for trie in self.known.iter_mut().filter_map(|known| known.storage.as_mut()) {
            trie.new_nodes(&mut sink);
        }
        self.accounts.new_nodes(sink);
    }

    /// The hashes known so far.
    pub(crate) fn hashes(&mut self) -> &mut Hashes {
        &mut self.hashes
    }

    /// The id of an address, and what is known of it.
    pub(crate) fn id(&mut self, address: Address) -> AccountId {
        let id = self.hashes.id(address);
        if id.index() >= self.known.len() {
            self.known.resize_with(id.index() + 1, Known::default);
        }
        id
    }
}

impl<'a, S: StateSource<'a>> State<'a, S> {
    /// The state root.
    ///
    /// # Errors
    /// None today; a trie that is hashed lazily may have some.
    pub fn root(&mut self) -> Result<B256, Error> {
        Ok(self.accounts.root())
    }

    /// The account at `address`; `None` if it is shown to be absent.
    ///
    /// # Errors
    /// [`Error::Trie`] if the witness does not show which; [`Error::Account`] if the leaf is not
    /// an account.
    pub fn account(&mut self, address: Address) -> Result<Option<TrieAccount>, Error> {
        let id = self.id(address);
        Ok(self.leaf(id)?.map(|leaf| leaf.account))
    }

    fn leaf(&mut self, id: AccountId) -> Result<Option<&Leaf>, Error> {
        let known = &mut self.known[id.index()];
        if known.leaf.is_none() {
            let hashed = self.hashes.hashed(id);
            known.leaf = Some(match self.accounts.get_account(hashed, &mut self.source)? {
                Some((mut rlp, span)) => {
                    let account = TrieAccount::decode(&mut rlp)
                        .ok()
                        .filter(|_| rlp.is_empty())
                        .ok_or(Error::Account { hashed_address: *hashed })?;
                    Some(Leaf { account, span })
                }
                None => None,
            });
        }
        Ok(known.leaf.as_ref().and_then(Option::as_ref))
    }

    /// The storage trie of an account, opened if need be, and the source.
    fn storage_trie(&mut self, id: AccountId) -> Result<(&mut Trie<'a>, &mut S), Error> {
        if self.known[id.index()].storage.is_none() {
            let stream = self.storage_stream;
            // SOUNDNESS: the storage root comes from the account's leaf.
            let trie = match self.leaf(id)? {
                Some(Leaf { account, span }) => Phase::PreState
                    .run(|| Trie::decode_storage(stream, *span, account.storage_root))?,
                None => Trie::empty(),
            };
            self.known[id.index()].storage = Some(trie);
        }
        let trie = self.known[id.index()].storage.as_mut().expect("opened above");
        Ok((trie, &mut self.source))
    }

    /// The value of a storage slot; zero if it is shown to be absent.
    ///
    /// # Errors
    /// [`Error::Trie`] if the witness does not show it; [`Error::Slot`] if it is not an integer.
    pub fn slot(&mut self, address: Address, slot: U256) -> Result<U256, Error> {
        let id = self.id(address);
        self.slot_of(id, slot)
    }

    fn slot_of(&mut self, id: AccountId, slot: U256) -> Result<U256, Error> {
        let hashed_slot = self.hashes.word(B256::from(slot));
        let (trie, source) = self.storage_trie(id)?;
        let Some(mut rlp) = trie.get(&hashed_slot, source)? else {
            return Ok(U256::ZERO);
        };
        let value = U256::decode(&mut rlp).map_err(|_| Error::Slot { hashed_slot })?;
        match rlp.is_empty() {
            true => Ok(value),
            false => Err(Error::Slot { hashed_slot }),
        }
    }

    /// The code with this hash.
    ///
    /// # Errors
    /// [`Error::MissingCode`] if neither the witness nor the source has it.
    pub fn code(&mut self, hash: B256) -> Result<Bytecode, Error> {
        if hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        match self.codes.entry(hash) {
            Entry::Occupied(code) => Ok(code.get().clone()),
            Entry::Vacant(vacant) => {
                let code = self.source.code(&hash).ok_or(Error::MissingCode { hash })?;
                // SOUNDNESS: a source is not believed.
                if keccak256(code) != hash {
                    return Err(Error::MissingCode { hash });
                }
                Ok(vacant.insert(bytecode(code)).clone())
            }
        }
    }

    /// Writes the changes of one block into the tries.
    ///
    /// # Errors
    /// [`Error::Trie`] if the witness lacks a node that the changes need, including the last child of a collapsing
    /// branch; [`Error::CreatedOverStorage`] if an account was created where there is storage.
    pub(crate) fn apply(&mut self, changes: Changes) -> Result<(), Error> {
        for (hash, code) in changes.codes {
            if let Entry::Vacant(vacant) = self.codes.entry(hash) {
                self.new_codes.push((hash, code.original_bytes()));
                vacant.insert(code);
            }
        }
        // Sorted by their hashes, so that what is asked of a source does not depend on who was read first. Four bytes nearly
        // always decide.
        let mut order: Vec<(u32, usize)> = changes
            .accounts
            .iter()
            .enumerate()
            .map(|(at, (id, _))| (leading(self.hashes.hashed(*id)), at))
            .collect();
        order.sort_unstable_by(|(a, x), (b, y)| {
            let hashed = |at: usize| self.hashes.hashed(changes.accounts[at].0);
            a.cmp(b).then_with(|| hashed(*x).cmp(hashed(*y)))
        });
        // ORDER: inserts before removals, in every trie: a branch that keeps two children
        // at the end never needs the siblings of one that collapses on the way.
        let mut removed = Vec::new();
        for (_, at) in order {
            let (id, change) = &changes.accounts[at];
            match &change.info {
                Some(info) => self.write(*id, info, change)?,
                None => removed.push(*id),
            }
        }
        for id in removed {
            let hashed = self.hashes.hashed(id);
            self.accounts.remove(hashed, &mut self.source)?;
            self.known[id.index()] = Known { leaf: Some(None), storage: None };
        }
        Ok(())
    }

    /// Writes an account that exists after the block, and its slots.
    fn write(&mut self, id: AccountId, info: &AccountInfo, change: &Change) -> Result<(), Error> {
        let old = self.leaf(id)?.copied();
        // SOUNDNESS: untouched storage keeps the root in the account's leaf.
        let mut storage_root = old.map_or(EMPTY_ROOT_HASH, |old| old.account.storage_root);
        if change.old_storage != OldStorage::Kept {
            // SOUNDNESS: a contract starts without storage, whatever the EVM thought of its account (EIP-7610).
            if change.old_storage == OldStorage::None && storage_root != EMPTY_ROOT_HASH {
                let hashed_address = *self.hashes.hashed(id);
                return Err(Error::CreatedOverStorage { hashed_address });
            }
            self.known[id.index()].storage = Some(Trie::empty());
            storage_root = EMPTY_ROOT_HASH;
        }
        if !change.slots.is_empty() {
            let mut slots: Vec<(B256, &U256)> = change
                .slots
                .iter()
                .map(|(slot, value)| (self.hashes.word(B256::from(*slot)), value))
                .collect();
            slots.sort_unstable_by(|(a, x), (b, y)| {
                x.is_zero().cmp(&y.is_zero()).then_with(|| a.cmp(b))
            });
            let (trie, source) = self.storage_trie(id)?;
            for (slot, value) in slots {
                match value.is_zero() {
                    true => drop(trie.remove(&slot, source)?),
                    false => trie.insert(&slot, alloy_rlp::encode(value), source)?,
                }
            }
            storage_root = trie.root();
        }
        #[expect(clippy::needless_update, reason = "alloy's account-ext feature adds a field")]
        let account = TrieAccount {
            nonce: info.nonce,
            balance: info.balance,
            storage_root,
            code_hash: match info.code_hash {
                STORAGE_WITHOUT_CODE => KECCAK_EMPTY,
                code_hash => code_hash,
            },
            ..Default::default()
        };
        let mut rlp = Vec::with_capacity(account.length());
        account.encode(&mut rlp);
        self.accounts.insert(self.hashes.hashed(id), rlp, &mut self.source)?;
        // The trie keeps the place of the storage trie, too.
        let span = old.map_or(StorageSpan::default(), |old| old.span);
        self.known[id.index()].leaf = Some(Some(Leaf { account, span }));
        Ok(())
    }

    /// The account with this id as the EVM sees it.
    pub(crate) fn info(&mut self, id: AccountId) -> Result<Option<AccountInfo>, ReadError> {
        let leaf = match self.leaf(id) {
            Ok(leaf) => leaf,
            Err(error) => return Err(self.fail(error)),
        };
        Ok(leaf.map(|Leaf { account, .. }| {
            // EIP-7610: see `overlay`.
            let marked = has_storage_only(account);
            AccountInfo {
                nonce: account.nonce,
                balance: account.balance,
                code_hash: if marked { STORAGE_WITHOUT_CODE } else { account.code_hash },
                code: marked.then(Bytecode::default),
                ..Default::default()
            }
        }))
    }

    /// The value of a slot of the account with this id.
    pub(crate) fn value(&mut self, id: AccountId, slot: U256) -> Result<U256, ReadError> {
        let value = self.slot_of(id, slot);
        self.noting(value)
    }

    /// Keeps the first failure for [`Self::take_failure`]: the executor passes on only its message.
    fn noting<T>(&mut self, result: Result<T, Error>) -> Result<T, ReadError> {
        result.map_err(|error| self.fail(error))
    }

    /// Notes a failure, and gives the error that ends the execution.
    pub(crate) fn fail(&mut self, error: Error) -> ReadError {
        self.failure.get_or_insert_with(|| error.clone());
        ReadError(error)
    }
}

/// The first four bytes of a hash, which order hashes as all their bytes do unless they are equal.
fn leading(hash: &B256) -> u32 {
    let [a, b, c, d, ..] = hash.0;
    u32::from_be_bytes([a, b, c, d])
}

/// A read that the state could not answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReadError(Error);

impl DBErrorMarker for ReadError {}

impl<'a, S: StateSource<'a>> revm::Database for State<'a, S> {
    type Error = ReadError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        let id = self.id(address);
        self.info(id)
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, ReadError> {
        let code = self.code(code_hash);
        self.noting(code)
    }

    fn storage(&mut self, address: Address, index: U256) -> Result<U256, ReadError> {
        let id = self.id(address);
        self.value(id, index)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ReadError> {
        self.oldest_block_asked =
            Some(self.oldest_block_asked.map_or(number, |oldest| oldest.min(number)));
        let hash = self.block_hashes.get(&number).copied().ok_or(Error::MissingHeader { number });
        self.noting(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nodes(B256Map<Vec<u8>>);

    impl<'a> NodeSource<'a> for &'a Nodes {
        fn node(&mut self, hash: &B256) -> Option<&'a [u8]> {
            let nodes: &'a Nodes = self;
            nodes.0.get(hash).map(Vec::as_slice)
        }
    }

    impl<'a> StateSource<'a> for &'a Nodes {
        fn code(&mut self, _: &B256) -> Option<&'a [u8]> {
            None
        }
    }

    /// Adds a trie with this one value, and gives its root.
    fn put(nodes: &mut Nodes, key: B256, value: Vec<u8>) -> B256 {
        let mut trie = Trie::empty();
        trie.insert(&key, value, &mut NoSource).unwrap();
        let root = trie.root();
        trie.new_nodes(|hash, node| drop(nodes.0.insert(hash, node.to_vec())));
        root
    }

    #[test]
    fn a_leaf_that_is_no_account_or_no_number_is_refused() {
        let (address, slot) = (Address::ZERO, U256::ZERO);
        let (hashed_address, hashed_slot) = (keccak256(address), keccak256(B256::ZERO));
        let honest = TrieAccount { storage_root: EMPTY_ROOT_HASH, ..Default::default() };
        let account = alloy_rlp::encode(honest);
        for leaf in [vec![0x80], account[1..].to_vec(), [account.as_slice(), &[0]].concat()] {
            let mut nodes = Nodes(B256Map::default());
            let root = put(&mut nodes, hashed_address, leaf);
            let found = State::from_source(root, &nodes).account(address);
            assert_eq!(found, Err(Error::Account { hashed_address }));
        }
        // A list, a leading zero, more than 32 bytes, and bytes after the number.
        for leaf in
            [vec![0xc0], vec![0x82, 0, 1], [&[0xa1], [1; 33].as_slice()].concat(), vec![1, 1]]
        {
            let mut nodes = Nodes(B256Map::default());
            let storage_root = put(&mut nodes, hashed_slot, leaf);
            let account = alloy_rlp::encode(TrieAccount { storage_root, ..honest });
            let root = put(&mut nodes, hashed_address, account);
            let found = State::from_source(root, &nodes).slot(address, slot);
            assert_eq!(found, Err(Error::Slot { hashed_slot }));
        }
    }
}
