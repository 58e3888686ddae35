//! What is known so far of a block's pre-state, and what of it is wanted.

use super::keys::Words;
use crate::{
    Error, ErrorSource,
    assemble::{self, Witness, WitnessHeader},
    record::{Recorded, Recorder, Store},
};
use alloy_consensus::{
    Header, Transaction as _, constants::EMPTY_ROOT_HASH, transaction::SignerRecoverable,
};
use alloy_eips::{
    eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS,
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, Sealed, U256, keccak256,
    map::{AddressMap, B256Map, HashMap},
};
use alloy_rlp::Decodable;
use program::{
    ChainConfig,
    consensus::{DecodedBlock, Violation},
    execute,
    state::State,
    trie::Trie,
};
use revm::{Database, bytecode::Bytecode, state::AccountInfo};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

/// `BLOCKHASH` reaches this far back.
const MAX_ANCESTORS: u64 = 256;

/// Accounts, each with slots of its storage.
pub(super) type Keys = BTreeMap<Address, BTreeSet<U256>>;

/// How many accounts and slots these are.
pub(super) fn number_of(keys: &Keys) -> usize {
    keys.values().map(|slots| 1 + slots.len()).sum()
}

/// A block, and what lies before it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) config: ChainConfig,
    pub(super) decoded: DecodedBlock,
    /// The senders of its transactions, where the signatures are valid.
    pub(super) senders: Vec<Option<Address>>,
    pub(super) parent: Sealed<Header>,
}

impl Block {
    /// The block with this RLP on top of `parent`.
    pub(super) fn decode(
        config: &ChainConfig,
        rlp: &[u8],
        parent: Sealed<Header>,
    ) -> Result<Self, Violation> {
        let decoded = DecodedBlock::decode(rlp)?;
        let transactions = decoded.body.transactions.iter();
        let senders = transactions.map(|transaction| transaction.recover_signer().ok()).collect();
        Ok(Self { config: config.clone(), decoded, senders, parent })
    }
}

/// An account's proof, as the node gives it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountProof {
    #[serde(deserialize_with = "assemble::list")]
    account_proof: Vec<Bytes>,
    #[serde(default, deserialize_with = "assemble::list")]
    storage_proof: Vec<SlotProof>,
}

#[derive(Debug, Deserialize)]
struct SlotProof {
    #[serde(deserialize_with = "assemble::list")]
    proof: Vec<Bytes>,
}

impl AccountProof {
    /// The nodes of the proof, from the roots down.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Bytes> {
        self.account_proof.iter().chain(self.storage_proof.iter().flat_map(|slot| &slot.proof))
    }
}

/// What is to be asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) keys: Keys,
    /// Codes by hash, each with an account that has it.
    pub(super) codes: B256Map<Address>,
    /// Numbers of ancestors whose headers are wanted.
    pub(super) headers: Range<u64>,
}

impl Wanted {
    pub(super) fn len(&self) -> usize {
        let headers = usize::try_from(self.headers.end - self.headers.start);
        number_of(&self.keys) + self.codes.len() + headers.unwrap_or(usize::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.codes.is_empty() && self.headers.is_empty()
    }
}

/// What the node answered.
#[derive(Debug)]
pub(super) struct Answers {
    /// What proofs were asked for.
    pub(super) keys: Keys,
    pub(super) proofs: Vec<AccountProof>,
    /// Codes that have these hashes.
    pub(super) codes: Vec<(B256, Bytes)>,
    /// The newest first.
    pub(super) headers: Vec<Sealed<Header>>,
}

/// An account, as the EVM is to see it, and its storage.
#[derive(Clone, Debug)]
struct Account {
    info: AccountInfo,
    storage_root: B256,
}

/// What is known so far of a block's pre-state.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) block: Arc<Block>,
    node: ErrorSource,
    /// Headers of ancestors by number, the parent's included.
    ancestors: BTreeMap<u64, Sealed<Header>>,
    pub(super) store: Store,
    /// What was looked up in `store`.
    accounts: AddressMap<Option<Account>>,
    slots: HashMap<(Address, U256), U256>,
}

impl Known {
    pub(super) fn new(block: Block, node: ErrorSource) -> Self {
        let parent = block.parent.clone();
        Self {
            block: Arc::new(block),
            node,
            ancestors: [(parent.number, parent)].into(),
            store: Store::default(),
            accounts: AddressMap::default(),
            slots: HashMap::default(),
        }
    }

    pub(super) fn parent(&self) -> &Sealed<Header> {
        &self.block.parent
    }

    /// What the block touches, as far as can be seen without executing it.
    pub(super) fn first_guess(&self) -> Wanted {
        let Block { config, decoded, senders, .. } = &*self.block;
        let header = &decoded.header;
        let mut keys = Keys::new();
        let mut add = |address: Address, slots: &[U256]| {
            keys.entry(address).or_default().extend(slots);
        };
        add(header.beneficiary, &[]);
        senders.iter().flatten().for_each(|sender| add(*sender, &[]));
        for transaction in &decoded.body.transactions {
            transaction.to().into_iter().for_each(|to| add(to, &[]));
            for item in transaction.access_list().into_iter().flat_map(|list| &list.0) {
                let slots: Vec<U256> = item.storage_keys.iter().map(|key| (*key).into()).collect();
                add(item.address, &slots);
            }
            for authorization in transaction.authorization_list().into_iter().flatten() {
                add(authorization.address, &[]);
            }
        }
        for withdrawal in decoded.body.withdrawals.iter().flatten() {
            add(withdrawal.address, &[]);
        }
        // The ring buffers of EIP-4788 and EIP-2935, and the queues' heads of EIP-7002 and EIP-7251.
        let time = header.timestamp;
        if config.is_cancun_active_at_timestamp(time) {
            let slot = U256::from(time % 8191);
            add(BEACON_ROOTS_ADDRESS, &[slot, slot + U256::from(8191)]);
        }
        if config.is_prague_active_at_timestamp(time) {
            add(HISTORY_STORAGE_ADDRESS, &[U256::from(header.number.saturating_sub(1) % 8191)]);
            let queue = [0, 1, 2, 3].map(U256::from);
            add(WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, &queue);
            add(CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, &queue);
        }
        Wanted { keys, ..Wanted::default() }
    }

    /// Adds what the node answered. Returns the codes of the accounts in it that are not known yet.
    ///
    /// # Errors
    /// [`Error::BadProof`] if a proof does not show what it was asked to show; [`Error::Unlinked`] if a header is not
    /// the one that its child names.
    pub(super) fn learn(&mut self, answers: Answers) -> Result<B256Map<Address>, Error> {
        let Answers { keys, proofs, codes, headers } = answers;
        for node in proofs.iter().flat_map(AccountProof::nodes) {
            self.store.put_node(keccak256(node), node);
        }
        for (hash, code) in codes {
            self.store.put_code(hash, code);
        }
        for header in headers {
            let number = header.number + 1;
            if self.ancestors.get(&number).is_none_or(|child| child.parent_hash != header.hash()) {
                return Err(Error::Unlinked { node: self.node.clone(), number });
            }
            self.ancestors.insert(header.number, header);
        }
        // SOUNDNESS of what we enqueue: a proof shows what it is asked to show, under the parent's root, or is refused here.
        let mut codes = B256Map::default();
        for (address, slots) in keys {
            let (node, block) = (self.node.clone(), self.parent().number);
            let bad = Error::BadProof { node, address, block };
            let Some(account) = self.account(address) else { return Err(bad) };
            if let Some(AccountInfo { code_hash, .. }) = account
                && code_hash != KECCAK256_EMPTY
                && !code_hash.is_zero()
                && self.store.code(&code_hash).is_none()
            {
                codes.insert(code_hash, address);
            }
            if slots.into_iter().any(|slot| self.slot(address, slot).is_none()) {
                return Err(bad);
            }
        }
        Ok(codes)
    }

    /// Adds what is in a witness, so that only what it lacks has to be asked for.
    pub(super) fn learn_witness(&mut self, witness: &Witness) {
        witness.state.iter().for_each(|node| self.store.put_node(keccak256(node), node));
        for code in &witness.codes {
            self.store.put_code(keccak256(code), code.clone());
        }
        let mut headers = witness.headers_by_hash();
        let mut after = self.parent().clone();
        while (self.ancestors.len() as u64) < MAX_ANCESTORS
            && let Some((header, _)) = headers.remove(&after.parent_hash)
            && Some(header.number) == after.number.checked_sub(1)
        {
            after = Sealed::new_unchecked(header, after.parent_hash);
            self.ancestors.insert(after.number, after.clone());
        }
    }

    /// The account at `address`, as the EVM is to see it; `None` if that is not known yet.
    pub(super) fn account(&mut self, address: Address) -> Option<Option<AccountInfo>> {
        if let Some(account) = self.accounts.get(&address) {
            return Some(account.as_ref().map(|account| account.info.clone()));
        }
        let mut state = State::from_source(self.block.parent.state_root, &self.store);
        let info = state.basic(address).ok()?;
        let storage_root = state.account(address).ok()?.map(|account| account.storage_root);
        let account = info.zip(storage_root);
        let account = account.map(|(info, storage_root)| Account { info, storage_root });
        self.accounts.insert(address, account.clone());
        Some(account.map(|account| account.info))
    }

    /// The value of a slot; `None` if it is not known yet.
    pub(super) fn slot(&mut self, address: Address, slot: U256) -> Option<U256> {
        if let Some(value) = self.slots.get(&(address, slot)) {
            return Some(*value);
        }
        let value = match self.storage_root(address)? {
            EMPTY_ROOT_HASH => U256::ZERO,
            root => {
                let mut store = &self.store;
                match Trie::from_root(root).get(&keccak256(B256::from(slot)), &mut store).ok()? {
                    Some(mut rlp) => U256::decode(&mut rlp).ok()?,
                    None => U256::ZERO,
                }
            }
        };
        self.slots.insert((address, slot), value);
        Some(value)
    }

    /// The root of an account's storage; `None` if it is not known yet.
    pub(super) fn storage_root(&mut self, address: Address) -> Option<B256> {
        self.account(address)?;
        let account = self.accounts.get(&address)?;
        Some(account.as_ref().map_or(EMPTY_ROOT_HASH, |account| account.storage_root))
    }

    /// The hash of an ancestor; or the headers that are missing to know it.
    pub(super) fn block_hash(&self, number: u64) -> Result<B256, Range<u64>> {
        match self.ancestors.get(&number) {
            Some(header) => Ok(header.hash()),
            None => {
                let reach = self.block.decoded.header.number.saturating_sub(MAX_ANCESTORS);
                let known = self.ancestors.keys().next().expect("the parent is known");
                Err(number.max(reach)..*known)
            }
        }
    }

    /// Whether this code is there.
    pub(super) fn has_code(&self, hash: &B256) -> bool {
        self.store.code(hash).is_some()
    }

    /// This code, for the EVM.
    pub(super) fn bytecode(&self, hash: B256) -> Option<Bytecode> {
        State::from_source(self.block.parent.state_root, &self.store).code(hash).ok()
    }

    /// The slots and addresses that were looked up.
    pub(super) fn words(&self) -> Words {
        Words {
            slots: self.slots.keys().map(|(_, slot)| B256::from(*slot)).collect(),
            addresses: self.accounts.keys().copied().collect(),
        }
    }

    /// Executes the block as the program does, and records what the execution reads.
    pub(super) fn record(&self) -> Result<Recorded, program::Error> {
        let Block { config, decoded, parent, .. } = &*self.block;
        let mut state = State::from_source(parent.state_root, Recorder::new(&self.store));
        self.ancestors.values().for_each(|known| state.remember_block(known.number, known.hash()));
        execute::execute(config, decoded, &mut state)?;
        Ok(Recorded::new(state, decoded.header.number))
    }

    /// What was recorded, with the headers that it needs.
    pub(super) fn witness(&self, recorded: Recorded) -> Witness {
        let headers = self.ancestors.range(recorded.oldest_block..);
        let rlp = |header: &Sealed<Header>| {
            WitnessHeader::Bytes(alloy_rlp::encode(header.inner()).into())
        };
        Witness {
            state: recorded.nodes,
            codes: recorded.codes,
            headers: headers.map(|(_, header)| rlp(header)).collect(),
        }
    }
}
