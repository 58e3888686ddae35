//! A block's witness from `eth_getProof` and `eth_getCode`, for nodes that have no `debug_executionWitness`.
//!
//! ```text
//! senders, receivers, access lists ─▶ proofs at the parent ─▶ execute ─▶ what was missing ─┐
//!                                              ▲                  │                        │
//!                                              └──────────────────┼────────────────────────┘
//!                                                                 ▼ nothing was missing
//!                                       proofs of what was deleted, at the block itself ─▶ siblings ─▶ Recorded
//! ```
//!
//! * What is missing is treated as empty and the execution continues, so that one round finds what all transactions
//!   miss.
//! * Every proof is checked against the state root of the parent's header as it arrives.
//! * If a branch collapses, its last child has to be known, and no proof at the parent shows it. The proof of the
//!   deleted key after the block shows that child merged into its new place, from which it is cut back. A child that
//!   is itself a branch is asked for with a key that is found by trial.

use crate::{
    Error,
    assemble::{self, Witness, WitnessHeader},
    record::{Recorded, Recorder, Store},
    rpc::{Call, Rpc},
};
use alloy_consensus::{
    Header, Transaction as _, TxType,
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::{
    eip2935::HISTORY_STORAGE_ADDRESS, eip4788::BEACON_ROOTS_ADDRESS,
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
};
use alloy_evm::{
    Evm,
    block::BlockExecutor,
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor,
        receipt_builder::{ReceiptBuilder, ReceiptBuilderCtx},
    },
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, Sealed, U64, U256, keccak256, map::B256Map,
};
use alloy_rlp::Decodable;
use alloy_trie::nodes::{ExtensionNode, LeafNode, TrieNode};
use program::{
    ChainConfig, Receipt, Transaction, build::BlockEvm, consensus::DecodedBlock, execute,
    state::State, trie::TrieError,
};
use revm::{
    bytecode::Bytecode,
    database::{State as Overlay, states::bundle_state::BundleRetention},
    state::AccountInfo,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
};

/// Maximum number of rounds of requests. A round finds what the one before made reachable, so this bounds the length
/// of a chain of reads in which each depends on the value of the one before.
const MAX_ROUNDS: usize = 256;
/// Maximum number of accounts and slots that a block may need. The most demanding block of 60 million gas needs a
/// tenth.
const MAX_KEYS: usize = 1 << 18;
/// Slots asked for in one call.
const SLOTS_PER_CALL: usize = 128;
/// How far below the root, in nibbles, to look for a collapsing branch's last child that is a branch too: 16 million
/// hashes.
const MAX_SEARCH: usize = 6;
/// `BLOCKHASH` reaches this far back.
const MAX_ANCESTORS: u64 = 256;

/// Accounts, each with slots of its storage.
type Keys = BTreeMap<Address, BTreeSet<U256>>;

/// Collects the witness of one block.
#[derive(Debug)]
pub(crate) struct Collector<'r> {
    rpc: &'r Rpc,
    known: Arc<Known>,
    asked: Keys,
    rounds: usize,
}

/// What is known so far of the block's pre-state.
#[derive(Debug)]
struct Known {
    config: ChainConfig,
    block: DecodedBlock,
    senders: Vec<Option<Address>>,
    parent: Sealed<Header>,
    /// Headers of ancestors by number, the parent's included.
    ancestors: BTreeMap<u64, Sealed<Header>>,
    store: Store,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountProof {
    account_proof: Vec<Bytes>,
    #[serde(default)]
    storage_proof: Vec<SlotProof>,
}

#[derive(Debug, Deserialize)]
struct SlotProof {
    proof: Vec<Bytes>,
}

impl<'r> Collector<'r> {
    /// Prepares for the block with this RLP, whose parent has this header.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is no block.
    pub(crate) fn new(
        rpc: &'r Rpc,
        config: &ChainConfig,
        rlp: &[u8],
        parent: Sealed<Header>,
    ) -> Result<Self, Error> {
        let number = parent.number + 1;
        let block = DecodedBlock::decode(rlp).map_err(|violation| {
            assemble::refusal(&rpc.name(), number, violation.in_block(number))
        })?;
        let senders =
            block.body.transactions.iter().map(|transaction| transaction.recover_signer().ok());
        let known = Known {
            senders: senders.collect(),
            config: config.clone(),
            block,
            ancestors: [(parent.number, parent.clone())].into(),
            parent,
            store: Store::default(),
        };
        Ok(Self { rpc, known: Arc::new(known), asked: Keys::new(), rounds: 0 })
    }

    /// Asks, executes and asks again until nothing is missing.
    ///
    /// # Errors
    /// Any error of a node; [`Error::Refused`] if the block is invalid.
    pub(crate) async fn collect(mut self) -> Result<Witness, Error> {
        let mut wanted = self.known.first_guess();
        let removed = loop {
            self.fetch(wanted).await?;
            let Guess { misses, removed } = self.work(Known::guess).await;
            if misses.is_empty() {
                break removed;
            }
            self.rounds += 1;
            let keys = self.asked.values().map(|slots| 1 + slots.len()).sum();
            if self.rounds == MAX_ROUNDS || keys > MAX_KEYS {
                let (node, block) = (self.rpc.name(), self.number());
                return Err(Error::Endless { node, block, keys, rounds: self.rounds });
            }
            self.fetch_codes(misses.codes).await?;
            if let Some(oldest) = misses.headers.first() {
                self.fetch_headers(*oldest).await?;
            }
            wanted = misses.keys;
        };
        let mut after = Some(removed.clone());
        loop {
            let (hash, path) = match self.work(Known::record).await {
                Ok(recorded) => return Ok(self.known.witness(recorded)),
                Err(program::Error::Trie(TrieError::MissingNode { hash, path })) => (hash, path),
                Err(error) => return Err(self.refusal(error)),
            };
            // The proofs of deletions show all siblings at once; what is still missing is a branch.
            let found = match after.take() {
                Some(keys) if !keys.is_empty() => self.fetch_after(keys).await.map(|()| true)?,
                _ => self.search(hash, &path.to_string(), &removed).await?,
            };
            if !found {
                let missing = TrieError::MissingNode { hash, path };
                return Err(self.refusal(program::Error::Trie(missing)));
            }
        }
    }

    fn number(&self) -> u64 {
        self.known.parent.number + 1
    }

    fn refusal(&self, error: program::Error) -> Error {
        assemble::refusal(&self.rpc.name(), self.number(), error)
    }

    /// Executing takes long and never awaits, so it runs on a thread of its own.
    async fn work<R: Send + 'static>(&self, work: impl FnOnce(&Known) -> R + Send + 'static) -> R {
        let known = self.known.clone();
        let done = tokio::task::spawn_blocking(move || work(&known));
        done.await.expect("executing a block does not panic")
    }

    fn learn(&mut self) -> &mut Known {
        Arc::get_mut(&mut self.known).expect("nobody else has it while nothing is executed")
    }

    /// Asks for proofs at the parent, and for the codes of the accounts in them.
    async fn fetch(&mut self, wanted: Keys) -> Result<(), Error> {
        let mut new = Keys::new();
        for (address, slots) in wanted {
            let known = self.asked.get(&address);
            let fresh: BTreeSet<U256> = slots
                .into_iter()
                .filter(|slot| known.is_none_or(|known| !known.contains(slot)))
                .collect();
            if known.is_none() || !fresh.is_empty() {
                self.asked.entry(address).or_default().extend(&fresh);
                new.insert(address, fresh);
            }
        }
        let parent = self.known.parent.number;
        for proof in self.proofs(&new, parent).await? {
            self.learn().put(&proof);
        }
        let mut codes = B256Map::default();
        // SOUNDNESS of what we enqueue: a proof shows what it is asked to show, under the parent's root, or is refused here.
        let mut state = State::from_source(self.known.parent.state_root, &self.known.store);
        for (address, slots) in new {
            let bad = |_| Error::BadProof { node: self.rpc.name(), address, block: parent };
            if let Some(account) = state.account(address).map_err(bad)?
                && account.code_hash != KECCAK256_EMPTY
                && self.known.store.code(&account.code_hash).is_none()
            {
                codes.insert(account.code_hash, address);
            }
            for slot in slots {
                state.slot(address, slot).map_err(bad)?;
            }
        }
        self.fetch_codes(codes).await
    }

    async fn proofs(&self, keys: &Keys, block: u64) -> Result<Vec<AccountProof>, Error> {
        let call = |address: &Address, slots: &[U256]| -> Call {
            let slots: Vec<B256> = slots.iter().map(|slot| B256::from(*slot)).collect();
            ("eth_getProof", json!([address, slots, U64::from(block)]))
        };
        let mut calls = Vec::new();
        for (address, slots) in keys {
            let slots: Vec<U256> = slots.iter().copied().collect();
            if slots.is_empty() {
                calls.push(call(address, &[]));
            }
            calls.extend(slots.chunks(SLOTS_PER_CALL).map(|slots| call(address, slots)));
        }
        self.rpc.request_all(&calls).await
    }

    async fn fetch_codes(&mut self, codes: B256Map<Address>) -> Result<(), Error> {
        let parent = U64::from(self.known.parent.number);
        let calls: Vec<Call> =
            codes.values().map(|address| ("eth_getCode", json!([address, parent]))).collect();
        let answers: Vec<Bytes> = self.rpc.request_all(&calls).await?;
        for ((hash, address), code) in codes.into_iter().zip(answers) {
            if keccak256(&code) != hash {
                return Err(self.rpc.malformed(format!(
                    "its code of {address} at block {parent} does not have the hash {hash} that its proof shows"
                )));
            }
            self.learn().store.put_code(hash, code);
        }
        Ok(())
    }

    /// Asks for the headers from block `oldest` on.
    async fn fetch_headers(&mut self, oldest: u64) -> Result<(), Error> {
        let oldest = oldest.max(self.number().saturating_sub(MAX_ANCESTORS));
        let known = *self.known.ancestors.keys().next().expect("the parent is known");
        let calls: Vec<Call> = (oldest..known)
            .rev()
            .map(|number| ("eth_getBlockByNumber", json!([U64::from(number), false])))
            .collect();
        let headers: Vec<Option<Header>> = self.rpc.request_all(&calls).await?;
        for (number, header) in (oldest..known).rev().zip(headers) {
            let not_found = || Error::BlockNotFound { node: self.rpc.name(), number };
            let header = Sealed::new(header.ok_or_else(not_found)?);
            if self.known.ancestors[&(number + 1)].parent_hash != header.hash() {
                return Err(Error::Unlinked { node: self.rpc.name(), number: number + 1 });
            }
            self.learn().ancestors.insert(number, header);
        }
        Ok(())
    }

    /// Asks for proofs of deleted keys after the block, and cuts the nodes in them back to what was merged into them.
    async fn fetch_after(&mut self, keys: Keys) -> Result<(), Error> {
        for proof in self.proofs(&keys, self.number()).await? {
            let AccountProof { account_proof, storage_proof } = proof;
            let storage = storage_proof.into_iter().flat_map(|slot| slot.proof);
            for node in account_proof.into_iter().chain(storage) {
                for node in cut_back(&node) {
                    self.learn().store.put_node(keccak256(&node), &node);
                }
            }
        }
        Ok(())
    }

    /// Asks for the node with this hash at this path (`0x` and nibbles), by a key that leads there. Returns whether it
    /// came.
    async fn search(&mut self, hash: B256, path: &str, removed: &Keys) -> Result<bool, Error> {
        let nibbles: Vec<u8> = path
            .bytes()
            .skip(2)
            .map(|digit| if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 })
            .collect();
        if nibbles.is_empty() || nibbles.len() > MAX_SEARCH {
            return Ok(false);
        }
        // The collapsing branch lies on the path to what was removed: an account, or slots of one.
        let parent = &nibbles[..nibbles.len() - 1];
        let account = removed.keys().any(|address| starts_with(&keccak256(address), parent));
        let owners: Vec<Address> = removed
            .iter()
            .filter(|(_, slots)| {
                slots.iter().any(|slot| starts_with(&keccak256(B256::from(*slot)), parent))
            })
            .map(|(address, _)| *address)
            .collect();
        let slots = !owners.is_empty();
        let found = tokio::task::spawn_blocking(move || {
            let slot = slots.then(|| word_under(&nibbles, |word| keccak256(word)));
            let address = account.then(|| word_under(&nibbles, |word| keccak256(&word[12..])));
            (slot.flatten(), address.flatten())
        });
        let (slot, address) = found.await.expect("hashing does not panic");
        let mut wanted = Keys::new();
        if let Some(slot) = slot {
            wanted.extend(owners.into_iter().map(|owner| (owner, [slot.into()].into())));
        }
        if let Some(address) = address {
            wanted.entry(Address::from_word(address)).or_default();
        }
        self.fetch(wanted).await?;
        Ok(self.known.store.has_node(&hash))
    }
}

/// What an execution missed.
#[derive(Debug, Default)]
struct Misses {
    keys: Keys,
    /// By hash, with an account that has the code.
    codes: B256Map<Address>,
    headers: BTreeSet<u64>,
}

impl Misses {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.codes.is_empty() && self.headers.is_empty()
    }
}

/// The result of an execution that treats everything unknown as empty.
#[derive(Debug, Default)]
struct Guess {
    misses: Misses,
    /// Slots set to zero and accounts deleted; may be wrong if anything was missed.
    removed: Keys,
}

impl Known {
    fn put(&mut self, proof: &AccountProof) {
        let slots = proof.storage_proof.iter().flat_map(|slot| &slot.proof);
        for node in proof.account_proof.iter().chain(slots) {
            self.store.put_node(keccak256(node), node);
        }
    }

    /// What the block touches, as far as can be seen without executing it.
    fn first_guess(&self) -> Keys {
        let header = &self.block.header;
        let mut keys = Keys::new();
        let mut add = |address: Address, slots: &[U256]| {
            keys.entry(address).or_default().extend(slots);
        };
        add(header.beneficiary, &[]);
        self.senders.iter().flatten().for_each(|sender| add(*sender, &[]));
        for transaction in &self.block.body.transactions {
            transaction.to().into_iter().for_each(|to| add(to, &[]));
            for item in transaction.access_list().into_iter().flat_map(|list| &list.0) {
                let slots: Vec<U256> = item.storage_keys.iter().map(|key| (*key).into()).collect();
                add(item.address, &slots);
            }
            for authorization in transaction.authorization_list().into_iter().flatten() {
                add(authorization.address, &[]);
            }
        }
        for withdrawal in self.block.body.withdrawals.iter().flatten() {
            add(withdrawal.address, &[]);
        }
        // The ring buffers of EIP-4788 and EIP-2935, and the queues' heads of EIP-7002 and EIP-7251.
        let time = header.timestamp;
        if self.config.is_cancun_active_at_timestamp(time) {
            let slot = U256::from(time % 8191);
            add(BEACON_ROOTS_ADDRESS, &[slot, slot + U256::from(8191)]);
        }
        if self.config.is_prague_active_at_timestamp(time) {
            add(HISTORY_STORAGE_ADDRESS, &[U256::from(header.number.saturating_sub(1) % 8191)]);
            let queue = [0, 1, 2, 3].map(U256::from);
            add(WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, &queue);
            add(CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, &queue);
        }
        keys
    }

    /// Executes the block on what is known, and treats everything else as empty.
    fn guess(&self) -> Guess {
        let header = self.block.header.inner();
        let mut misses = Misses::default();
        let mut state = State::from_source(self.parent.state_root, &self.store);
        self.ancestors.values().for_each(|known| state.remember_block(known.number, known.hash()));
        let guesser = Guesser { state, misses: &mut misses, owners: B256Map::default() };
        let db = Overlay::builder().with_database(guesser).with_bundle_update().build();
        let evm = BlockEvm::new(db, execute::evm_env(&self.config, header));
        let withdrawals = self.block.body.withdrawals.as_ref().map(|list| list.as_slice());
        let context = EthBlockExecutionCtx {
            parent_hash: header.parent_hash,
            parent_beacon_block_root: header.parent_beacon_block_root,
            ommers: &[],
            withdrawals: withdrawals.map(Cow::Borrowed),
            extra_data: header.extra_data.clone(),
            tx_count_hint: None,
            slot_number: None,
        };
        let mut executor = EthBlockExecutor::new(evm, context, &self.config, Receipts);
        // Errors may come from what is not known yet. If they are the block's own, recording the witness finds them
        // again.
        let _ = executor.apply_pre_execution_changes();
        for (transaction, sender) in self.block.body.transactions.iter().zip(&self.senders) {
            if let Some(sender) = sender {
                let _ =
                    executor.execute_transaction(Recovered::new_unchecked(transaction, *sender));
            }
        }
        let mut removed = Keys::new();
        if let Ok((evm, _)) = executor.finish() {
            let mut db = evm.into_db();
            db.merge_transitions(BundleRetention::PlainState);
            for (address, account) in db.take_bundle().state {
                let zero = |value: &revm::database::states::StorageSlot| {
                    value.is_changed() && value.present_value.is_zero()
                };
                let slots: BTreeSet<U256> = account
                    .storage
                    .iter()
                    .filter(|(_, value)| zero(value))
                    .map(|(slot, _)| *slot)
                    .collect();
                let deleted = account.info.as_ref().is_none_or(AccountInfo::is_empty);
                if deleted || !slots.is_empty() {
                    removed.insert(address, slots);
                }
            }
        }
        Guess { misses, removed }
    }

    /// Executes the block as the program does, and records what the execution reads.
    fn record(&self) -> Result<Recorded, program::Error> {
        let mut state = State::from_source(self.parent.state_root, Recorder::new(&self.store));
        self.ancestors.values().for_each(|known| state.remember_block(known.number, known.hash()));
        execute::execute(&self.config, &self.block, &mut state)?;
        Ok(Recorded::new(state, self.block.header.number))
    }

    fn witness(&self, recorded: Recorded) -> Witness {
        let headers = self.ancestors.range(recorded.oldest_block..);
        let rlp =
            |header: &Sealed<Header>| WitnessHeader::Rlp(alloy_rlp::encode(header.inner()).into());
        Witness {
            state: recorded.nodes,
            codes: recorded.codes,
            headers: headers.map(|(_, header)| rlp(header)).collect(),
        }
    }
}

/// A state that treats what it does not know as empty, and records it.
#[derive(Debug)]
struct Guesser<'g> {
    state: State<'g, &'g Store>,
    misses: &'g mut Misses,
    /// For each code, an account that has it.
    owners: B256Map<Address>,
}

impl revm::Database for Guesser<'_> {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        let Ok(account) = self.state.basic(address) else {
            self.misses.keys.entry(address).or_default();
            return Ok(None);
        };
        if let Some(account) = &account {
            self.owners.insert(account.code_hash, address);
        }
        Ok(account)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.state.code_by_hash(hash).unwrap_or_else(|_| {
            self.misses.codes.extend(self.owners.get(&hash).map(|owner| (hash, *owner)));
            Bytecode::default()
        }))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.state.storage(address, slot).unwrap_or_else(|_| {
            self.misses.keys.entry(address).or_default().insert(slot);
            U256::ZERO
        }))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        Ok(self.state.block_hash(number).unwrap_or_else(|_| {
            self.misses.headers.insert(number);
            B256::ZERO
        }))
    }
}

/// Receipts that are never read.
#[derive(Clone, Copy, Debug)]
struct Receipts;

impl ReceiptBuilder for Receipts {
    type Transaction = Transaction;
    type Receipt = Receipt;

    fn build_receipt<E: Evm>(&self, context: ReceiptBuilderCtx<'_, TxType, E>) -> Receipt {
        Receipt {
            tx_type: context.tx_type,
            success: context.result.is_success(),
            cumulative_gas_used: context.cumulative_gas_used,
            logs: context.result.into_logs(),
        }
    }
}

/// The nodes that may have been merged into this leaf or extension: the same node with less of its path.
fn cut_back(node: &[u8]) -> Vec<Vec<u8>> {
    let mut nodes = Vec::new();
    match TrieNode::decode(&mut &*node) {
        Ok(TrieNode::Leaf(LeafNode { key, value })) => {
            for skip in 1..=key.len() {
                let leaf = LeafNode { key: key.slice(skip..), value: value.clone() };
                let mut rlp = Vec::new();
                leaf.as_ref().rlp(&mut rlp);
                nodes.push(rlp);
            }
        }
        Ok(TrieNode::Extension(ExtensionNode { key, child })) => {
            for skip in 1..key.len() {
                let extension = ExtensionNode { key: key.slice(skip..), child: child.clone() };
                let mut rlp = Vec::new();
                extension.as_ref().rlp(&mut rlp);
                nodes.push(rlp);
            }
        }
        _ => {}
    }
    nodes
}

fn starts_with(hash: &B256, nibbles: &[u8]) -> bool {
    nibbles.iter().enumerate().all(|(index, nibble)| {
        let byte = hash[index / 2];
        *nibble == if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
    })
}

/// A word whose hash begins with these nibbles.
fn word_under(nibbles: &[u8], hash: impl Fn(&B256) -> B256) -> Option<B256> {
    // Thirty times as many as it takes on average.
    let tries = 30u64 << (4 * nibbles.len());
    let mut words = (0..tries).map(|number| B256::from(U256::from(number)));
    words.find(|word| starts_with(&hash(word), nibbles))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_node_is_cut_back_to_what_it_was() {
        let was =
            LeafNode { key: alloy_trie::Nibbles::from_nibbles([3, 4, 5]), value: vec![7; 40] };
        let merged =
            LeafNode { key: alloy_trie::Nibbles::from_nibbles([1, 2, 3, 4, 5]), ..was.clone() };
        let rlp = |leaf: &LeafNode| alloy_rlp::encode(leaf);
        assert!(cut_back(&rlp(&merged)).contains(&rlp(&was)));
        assert!(!cut_back(&rlp(&was)).contains(&rlp(&merged)));
        assert!(cut_back(&[0x80]).is_empty() && cut_back(&[]).is_empty());
    }

    #[test]
    fn a_key_is_found_under_a_path() {
        for nibbles in [&[7u8][..], &[0, 15], &[10, 0, 3]] {
            let key = word_under(nibbles, |word| keccak256(word)).unwrap();
            assert!(starts_with(&keccak256(key), nibbles));
        }
    }
}
