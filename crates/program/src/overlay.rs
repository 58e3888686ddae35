//! What a block has changed so far, over the state before it.
//!
//! What a transaction leaves behind follows the executable specification (`state.py`, Paris to Osaka), and is decided
//! here and nowhere else:
//!
//! * An account that self-destructed is removed with its storage.
//! * A created account starts without storage.
//! * An account that was modified and is empty afterwards (no nonce, balance or code) is removed, with its storage if
//!   it has some. A call without value modifies nothing (see [`crate::evm`]).
//!
//! The EVM sees an account with storage, but neither code nor a nonce, under the code hash [`STORAGE_WITHOUT_CODE`]:
//! revm treats it as empty when it asks whether an account is empty, and as occupied when one is created there
//! (EIP-7610). An account whose code an authorization cleared keeps that hash for the block.

use crate::{
    bound::Bound,
    evm::is_destroyed_by_authorization,
    hashes::AccountId,
    state::{ReadError, State, StateSource},
};
use alloc::vec::Vec;
use alloy_consensus::constants::{EMPTY_ROOT_HASH, KECCAK_EMPTY};
use alloy_primitives::{
    Address, B256, U256,
    map::{B256Map, hash_map},
};
use revm::{
    Database,
    bytecode::Bytecode,
    primitives::StorageKeyMap,
    state::{Account, AccountInfo, EvmState},
};

/// The code hash under which the EVM sees an account that has storage, but neither code nor a nonce.
pub(crate) const STORAGE_WITHOUT_CODE: B256 = B256::ZERO;

/// What became of an account's storage from before the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OldStorage {
    #[default]
    Kept,
    /// The account was created in this block, so there was none.
    None,
    /// The account was destroyed in this block.
    Destroyed,
}

/// The values of a slot before the block and now.
#[derive(Clone, Copy, Debug)]
struct Slot {
    before: U256,
    now: U256,
}

/// An account that the block has read or changed.
#[derive(Debug)]
struct Entry {
    id: AccountId,
    /// As it is now; `None` if it is absent.
    info: Option<AccountInfo>,
    old_storage: OldStorage,
    slots: StorageKeyMap<Slot>,
    changed: bool,
}

impl Entry {
    fn forget_storage(&mut self, why: OldStorage) {
        self.slots.clear();
        // SOUNDNESS: an account that was created first and destroyed later was still created without storage.
        if self.old_storage == OldStorage::Kept {
            self.old_storage = why;
        }
        self.changed = true;
    }

    fn destroy(&mut self) {
        self.info = None;
        self.forget_storage(OldStorage::Destroyed);
    }

    fn set(&mut self, info: AccountInfo) {
        self.changed |= self.info.as_ref() != Some(&info);
        self.info = Some(info);
    }
}

/// One account after a block that changed it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) info: Option<AccountInfo>,
    pub(crate) old_storage: OldStorage,
    /// Slots whose values differ from those before the block.
    pub(crate) slots: Vec<(U256, U256)>,
}

/// All that a block changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) accounts: Vec<(AccountId, Change)>,
    pub(crate) codes: B256Map<Bytecode>,
}

/// The state before a block and what the block has changed so far.
#[derive(Debug)]
pub(crate) struct Overlay<'s, 'a, S> {
    state: &'s mut State<'a, S>,
    accounts: Vec<Entry>,
    /// For the id of each account, one more than its index in `accounts`; 0, or nothing, if it is not there.
    places: Vec<u32>,
    codes: B256Map<Bytecode>,
    /// Whether a code that designates another account is a delegation (EIP-7702, from Prague on), or just invalid.
    delegations: bool,
}

impl<'s, 'a, S: StateSource<'a>> Overlay<'s, 'a, S> {
    /// `delegations` says whether EIP-7702 is in force.
    pub(crate) fn new(state: &'s mut State<'a, S>, delegations: bool) -> Self {
        let (accounts, places) = (Vec::new(), Vec::new());
        Self { state, accounts, places, codes: B256Map::default(), delegations }
    }

    fn entry(&mut self, address: Address) -> Result<&mut Entry, ReadError> {
        let index = self.index(address)?;
        Ok(&mut self.accounts[index])
    }

    /// Where in `accounts` the account is, after reading it if need be.
    fn index(&mut self, address: Address) -> Result<usize, ReadError> {
        let id = self.state.id(address);
        match self.places.get(id.index()) {
            Some(0) | None => {}
            Some(place) => return Ok(*place as usize - 1),
        }
        let info = self.state.info(id)?;
        let old_storage = OldStorage::Kept;
        let slots = StorageKeyMap::default();
        self.accounts.push(Entry { id, info, old_storage, slots, changed: false });
        if id.index() >= self.places.len() {
            self.places.resize(id.index() + 1, 0);
        }
        let place = self.accounts.len();
        self.places[id.index()] = u32::try_from(place).expect("no more accounts than ids");
        Ok(place - 1)
    }

    /// Takes over what a transaction did. Returns the error that ends the block if the right result cannot be
    /// determined.
    pub(crate) fn commit_transaction(&mut self, state: EvmState) -> Result<(), ReadError> {
        self.commit(state, true)
    }

    /// Takes over what a system call did: nothing self-destructs in one.
    pub(crate) fn commit_system_call(&mut self, state: EvmState) -> Result<(), ReadError> {
        self.commit(state, false)
    }

    fn commit(&mut self, state: EvmState, self_destructs: bool) -> Result<(), ReadError> {
        for (address, account) in state {
            if !account.is_touched() {
                continue;
            }
            if let Some(code) = &account.info.code
                && !code.is_empty()
                && !self.codes.contains_key(&account.info.code_hash)
                && (account.is_created() || code.is_eip7702())
            {
                self.codes.insert(account.info.code_hash, code.clone());
            }
            self.entry(address)?.commit(account, self_destructs);
        }
        Ok(())
    }

    /// Adds `amount` wei to an account's balance: a withdrawal (EIP-4895).
    pub(crate) fn credit(&mut self, address: Address, amount: U256) -> Result<(), ReadError> {
        let entry = self.entry(address)?;
        let mut info = entry.info.clone().unwrap_or_default();
        match info.balance.checked_add(amount) {
            Some(balance) => info.balance = balance,
            None => return Err(self.state.fail(Bound::Ether.into())),
        }
        match (info.is_empty(), entry.info.is_some()) {
            (false, _) => entry.set(info),
            (true, true) => entry.destroy(),
            (true, false) => {}
        }
        Ok(())
    }

    /// Ends the block: what it changed, and the state below.
    pub(crate) fn into_changes(self) -> (Changes, &'s mut State<'a, S>) {
        let accounts = self.accounts.into_iter().filter_map(|entry| {
            let kept = entry.old_storage == OldStorage::Kept;
            let slots: Vec<(U256, U256)> = entry
                .slots
                .iter()
                .map(|(key, slot)| (key, if kept { slot.before } else { U256::ZERO }, slot.now))
                .filter_map(|(key, before, now)| (before != now).then_some((*key, now)))
                .collect();
            let Entry { id, info, old_storage, changed, .. } = entry;
            (changed || !slots.is_empty()).then_some((id, Change { info, old_storage, slots }))
        });
        (Changes { accounts: accounts.collect(), codes: self.codes }, self.state)
    }
}

impl Entry {
    fn commit(&mut self, account: Account, self_destructs: bool) {
        if account.is_selfdestructed() && self_destructs {
            self.destroy();
            return;
        }
        // Before the transaction the account had storage and nothing else.
        let bare = self.info.as_ref().is_some_and(|info| {
            info.code_hash == STORAGE_WITHOUT_CODE && info.nonce == 0 && info.balance.is_zero()
        });
        if account.is_created() {
            // Nothing is created over storage: the account was destroyed before, as a beneficiary.
            self.forget_storage(if bare { OldStorage::Destroyed } else { OldStorage::None });
        } else if is_destroyed_by_authorization(&account, self.info.is_some()) {
            // SOUNDNESS: what it has now was written after its destruction.
            self.forget_storage(OldStorage::Destroyed);
        } else if bare && account.info.is_empty_code_hash() {
            // It was destroyed as a beneficiary during the transaction (see `evm`), and exists again if it has a
            // balance.
            self.forget_storage(OldStorage::Destroyed);
            if account.info.is_empty() {
                self.info = None;
                return;
            }
        } else if account.info.is_empty() {
            // It was modified and is empty: a beneficiary that got nothing. An account that did not exist stays absent.
            if self.info.is_some() {
                self.destroy();
            }
            return;
        }
        for (key, slot) in account.storage {
            if slot.is_changed() {
                let fresh = Slot { before: U256::ZERO, now: U256::ZERO };
                self.slots.entry(key).or_insert(fresh).now = slot.present_value;
            }
        }
        self.set(account.info);
    }
}

impl<'a, S: StateSource<'a>> Database for Overlay<'_, 'a, S> {
    type Error = ReadError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        Ok(self.entry(address)?.info.clone())
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, ReadError> {
        if let Some(code) = self.codes.get(&code_hash) {
            return Ok(code.clone());
        }
        let code = self.state.code_by_hash(code_hash)?;
        match code.is_eip7702() && !self.delegations {
            true => Ok(Bytecode::new_legacy(code.original_bytes())),
            false => Ok(code),
        }
    }

    fn storage(&mut self, address: Address, key: U256) -> Result<U256, ReadError> {
        let index = self.index(address)?;
        let entry = &mut self.accounts[index];
        match entry.slots.entry(key) {
            hash_map::Entry::Occupied(slot) => Ok(slot.get().now),
            // SOUNDNESS: the storage of an account that was destroyed or created is not that of before the block.
            hash_map::Entry::Vacant(_) if entry.old_storage != OldStorage::Kept => Ok(U256::ZERO),
            hash_map::Entry::Vacant(vacant) => {
                let now = self.state.value(entry.id, key)?;
                vacant.insert(Slot { before: now, now });
                Ok(now)
            }
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ReadError> {
        self.state.block_hash(number)
    }
}

/// Whether the EVM has to see this account as one with storage, but neither code nor a nonce.
pub(crate) fn has_storage_only(account: &alloy_trie::TrieAccount) -> bool {
    account.nonce == 0
        && account.code_hash == KECCAK_EMPTY
        && account.storage_root != EMPTY_ROOT_HASH
}
