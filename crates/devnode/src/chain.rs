//! The chain: blocks, their states, and the pool of pending transactions.
//!
//! * Blocks are made by [`program::build`], and their witnesses come from re-executing them with
//!   [`program::execute`]: the rules exist only once.
//! * Every state ever reached stays readable.
//! * Given the same genesis, transactions and timestamps, two chains are equal, byte for byte.

use crate::{
    GenesisError, PoolError, Transaction, genesis,
    pool::{Pool, Rules, Sender},
};
use alloy_consensus::{
    Block, Header, Transaction as _, TrieAccount, TxReceipt,
    transaction::{Recovered, SignerRecoverable, TxEip4844Variant},
};
use alloy_eips::{
    BlockId, BlockNumberOrTag, Decodable2718,
    eip4895::{Withdrawal, Withdrawals},
    eip7594::BlobTransactionSidecarVariant,
    eip7840::BlobParams,
};
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, Bytes, Sealed, U256, keccak256, map::B256Map};
use alloy_rlp::{Decodable, Encodable};
use alloy_rpc_types_debug::ExecutionWitness;
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof};
use program::{
    ChainConfig, Input, Receipt,
    build::{Attributes, BlockBuilder, PushError},
    consensus::{self, DecodedBlock, MAX_BLOCK_SIZE, NextFees, Violation},
    execute,
    state::State,
    trie::Trie,
};
use std::{collections::VecDeque, ops::RangeInclusive};
use tracing::debug;
use witness::record::{Recorded, Recorder, Store};

/// How far back `BLOCKHASH` reaches, in blocks.
const BLOCK_HASHES: u64 = 256;
/// A block consumes so many deposits at most, as on Ethereum: EIP-4895's limit of the consensus layer.
const DEPOSITS_IN_A_BLOCK: usize = 16;
/// Bytes of a block's RLP that are kept free for its header and withdrawals.
const BLOCK_OVERHEAD: usize = 4096;

/// Why the chain could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A block's timestamp must be later than its parent's.
    #[error("timestamp {timestamp} is not after the head's {head}: choose a later one")]
    Timestamp {
        /// The timestamp asked for, in seconds.
        timestamp: u64,
        /// The head's, in seconds.
        head: u64,
    },
    /// There is no such block.
    #[error("there is no block {number} yet: the head is {head}")]
    NoBlock {
        /// The number asked for.
        number: u64,
        /// The head's number.
        head: u64,
    },
    /// The genesis block has no transactions and no parent to execute it on.
    #[error("block 0 is not executed, so it has no witness: ask for a later block")]
    GenesisWitness,
    /// The executor failed. This is a bug, because the chain's own blocks are valid.
    #[error("failed to execute the chain's own block")]
    Program(#[from] program::Error),
    /// The executor failed in the middle of a transaction, which is a bug too.
    #[error("failed to execute a transaction: {0}")]
    Fatal(String),
    /// The block could not be written to the block file.
    #[error("failed to keep the block")]
    File(#[source] std::io::Error),
}

/// Why a deposit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DepositError {
    /// The genesis says nothing of a bridge.
    #[error("the chain has no bridge: its genesis needs \"bridge\": true in its config")]
    NoBridge,
    /// Deposits are consumed in order, and each once.
    #[error("deposit {found} was given, but deposit {expected} comes next")]
    Order {
        /// The index of the one given.
        found: u64,
        /// The index of the one that comes next.
        expected: u64,
    },
}

/// A block of the chain and the results of its execution.
#[derive(Clone, Debug)]
pub struct Mined {
    /// The block.
    pub block: Block<Transaction>,
    /// Its hash.
    pub hash: B256,
    /// Who signed each transaction.
    pub senders: Vec<Address>,
    /// One receipt per transaction.
    pub receipts: Vec<Receipt>,
}

impl Mined {
    /// The receipts in the encoding of EIP-2718, as in the receipts trie.
    pub fn raw_receipts(&self) -> Vec<Bytes> {
        use alloy_eips::Encodable2718;
        self.receipts.iter().map(|receipt| receipt.with_bloom_ref().encoded_2718().into()).collect()
    }

    /// Effective tips, in wei per gas, at the given percentiles of the block's gas.
    pub(crate) fn rewards(&self, percentiles: &[f64]) -> Vec<u128> {
        let base_fee = self.block.header.base_fee_per_gas.unwrap_or_default();
        let mut before = 0;
        let mut tips: Vec<(u128, u64)> = self
            .block
            .body
            .transactions
            .iter()
            .zip(&self.receipts)
            .map(|(transaction, receipt)| {
                let gas = receipt.cumulative_gas_used - before;
                before = receipt.cumulative_gas_used;
                (transaction.effective_tip_per_gas(base_fee).unwrap_or_default(), gas)
            })
            .collect();
        tips.sort_unstable();
        let at = |percentile: &f64| {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a gas price oracle is no exact science"
            )]
            let wanted = self.block.header.gas_used as f64 * percentile / 100.0;
            let mut seen = 0;
            let tip = tips.iter().find(|(_, gas)| {
                seen += gas;
                #[expect(clippy::cast_precision_loss, reason = "as above")]
                let enough = seen as f64 >= wanted;
                enough
            });
            tip.or(tips.last()).map_or(0, |(tip, _)| *tip)
        };
        percentiles.iter().map(at).collect()
    }
}

/// A chain in memory.
#[derive(Debug)]
pub struct Chain {
    config: ChainConfig,
    store: Store,
    /// By number.
    blocks: Vec<Mined>,
    by_hash: B256Map<u64>,
    /// Block number and position of every mined transaction.
    transactions: B256Map<(u64, usize)>,
    pool: Pool,
    /// Those that no block has consumed yet.
    deposits: VecDeque<Withdrawal>,
    /// The index of the deposit after those.
    next_deposit: u64,
    beneficiary: Address,
}

/// Trie nodes and codes, with their hashes.
type Changes = (Vec<(B256, Vec<u8>)>, Vec<(B256, Bytes)>);

/// What a block added to the state.
fn changes<S>(state: &mut State<'_, S>) -> Changes {
    let mut nodes = Vec::new();
    state.new_nodes(|hash, node| nodes.push((hash, node.to_vec())));
    (nodes, state.take_new_codes())
}

/// A block that has been made but does not belong to the chain yet.
struct Draft {
    mined: Mined,
    nodes: Vec<(B256, Vec<u8>)>,
    codes: Vec<(B256, Bytes)>,
    /// Transactions that turned out invalid.
    invalid: Vec<B256>,
}

impl Chain {
    /// What `eth_maxPriorityFeePerGas` answers, in wei per gas.
    pub const SUGGESTED_TIP: u128 = 1_000_000_000;

    /// The chain of `genesis`, without further blocks.
    ///
    /// # Errors
    /// [`GenesisError`] if no provable chain can start there.
    pub fn new(genesis: &Genesis) -> Result<Self, GenesisError> {
        genesis::check(genesis)?;
        let config = genesis::rules(genesis)?;
        if config.paris_block > 0 {
            let reason = format!("proof of stake starts at block {} only", config.paris_block);
            return Err(GenesisError::Unprovable(reason));
        }
        let (store, state_root) = Store::with_accounts(&genesis.alloc);
        let header = genesis::header(genesis, state_root);
        let hash = header.hash_slow();
        let withdrawals = header.withdrawals_root.map(|_| Default::default());
        let body = alloy_consensus::BlockBody { transactions: vec![], ommers: vec![], withdrawals };
        let block = Block { header, body };
        let chain = Self {
            config,
            store,
            beneficiary: genesis.coinbase,
            blocks: vec![Mined { block, hash, senders: vec![], receipts: vec![] }],
            by_hash: [(hash, 0)].into_iter().collect(),
            transactions: B256Map::default(),
            pool: Pool::default(),
            deposits: VecDeque::new(),
            next_deposit: 0,
        };
        match chain.try_first() {
            Ok(()) => Ok(chain),
            Err(ChainError::Program(error)) => Err(GenesisError::Refused(error.into())),
            Err(error) => Err(GenesisError::Unprovable(error.to_string())),
        }
    }

    /// Makes the first block after the genesis for trial, and checks its header as the program does.
    fn try_first(&self) -> Result<(), ChainError> {
        let invalid = |violation: Violation| violation.in_block(1);
        let first = self.preview()?.block;
        let first = DecodedBlock::decode(&alloy_rlp::encode(&first)).map_err(invalid)?;
        let genesis = Sealed::new_unchecked(self.head().clone(), self.latest().hash);
        consensus::check_header(&self.config, &first).map_err(invalid)?;
        consensus::check_against_parent(&self.config, &first.header, &genesis).map_err(invalid)?;
        Ok(())
    }

    /// The rules.
    pub fn config(&self) -> &ChainConfig {
        &self.config
    }

    /// The newest block's header.
    pub fn head(&self) -> &Header {
        &self.latest().block.header
    }

    fn latest(&self) -> &Mined {
        self.blocks.last().expect("there is always the genesis block")
    }

    /// The transactions that wait to be mined.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The block `number`.
    pub fn block(&self, number: u64) -> Option<&Mined> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    /// The block that `id` names. Pending is the latest block, because nothing is decided before it is mined;
    /// and every block is final at once.
    pub fn resolve(&self, id: BlockId) -> Option<&Mined> {
        match id {
            BlockId::Hash(hash) => self.block(*self.by_hash.get(&hash.block_hash)?),
            BlockId::Number(BlockNumberOrTag::Number(number)) => self.block(number),
            BlockId::Number(BlockNumberOrTag::Earliest) => self.block(0),
            BlockId::Number(_) => Some(self.latest()),
        }
    }

    /// The block that has the transaction `hash`, and its position there.
    pub fn find(&self, hash: &B256) -> Option<(&Mined, usize)> {
        let (number, index) = *self.transactions.get(hash)?;
        Some((self.block(number)?, index))
    }

    /// Takes a signed transaction into the pool.
    ///
    /// # Errors
    /// [`PoolError`], with geth's messages.
    pub fn submit(&mut self, transaction: Transaction) -> Result<B256, PoolError> {
        let signer = transaction.recover_signer().map_err(|_| PoolError::BadSignature)?;
        let account = self.account(self.latest(), &signer).unwrap_or_default();
        let rules = Rules {
            chain_id: self.config.chain_id,
            spec: self.env(self.latest()).cfg_env.spec,
            block_gas_limit: self.head().gas_limit,
        };
        let sender = Sender { nonce: account.nonce, balance: account.balance };
        self.pool.add(Recovered::new_unchecked(transaction, signer), sender, rules)
    }

    /// [`Chain::submit`] from the bytes of `eth_sendRawTransaction`. A blob transaction may come
    /// with its sidecar, which is neither checked nor kept.
    ///
    /// # Errors
    /// As [`Chain::submit`], and [`PoolError::Malformed`].
    pub fn submit_raw(&mut self, raw: &[u8]) -> Result<B256, PoolError> {
        type Pooled =
            alloy_consensus::EthereumTxEnvelope<TxEip4844Variant<BlobTransactionSidecarVariant>>;
        let transaction = Pooled::decode_2718_exact(raw)
            .map_err(|error| PoolError::Malformed(error.to_string()))?;
        self.submit(transaction.into())
    }

    /// Takes a deposit on L1 into the queue, in the form of the withdrawal of the block that consumes it (EIP-4895): its index is its
    /// number in the bridge's queue. It is forgotten with the node until a block has it.
    ///
    /// # Errors
    /// [`DepositError`]
    pub fn deposit(&mut self, deposit: Withdrawal) -> Result<(), DepositError> {
        if !self.config.bridge {
            return Err(DepositError::NoBridge);
        }
        let (found, expected) = (deposit.index, self.next_deposit);
        if found != expected {
            return Err(DepositError::Order { found, expected });
        }
        self.deposits.push_back(deposit);
        self.next_deposit += 1;
        Ok(())
    }

    /// The index of the deposit that comes next: all before it are in blocks or in the queue.
    pub fn next_deposit(&self) -> u64 {
        self.next_deposit
    }

    /// The nonce `sender` should use next, after its pending transactions that follow without a gap.
    pub fn next_nonce(&self, sender: &Address) -> u64 {
        let account = self.account(self.latest(), sender).unwrap_or_default();
        self.pool.next_nonce(sender, account.nonce)
    }

    /// Whether a block made now would have a deposit, or a transaction to try.
    pub fn has_ready(&self) -> bool {
        !self.deposits.is_empty()
            || self.pool.ready(self.next_base_fee(), |sender| self.nonce(sender)).next().is_some()
    }

    fn nonce(&self, sender: &Address) -> u64 {
        self.account(self.latest(), sender).unwrap_or_default().nonce
    }

    /// Makes the next block, from the best-paying transactions of the pool.
    ///
    /// # Errors
    /// [`ChainError::Timestamp`] if `timestamp` (in seconds) is not after the head's. An error leaves the chain
    /// unchanged.
    pub fn mine(&mut self, timestamp: u64) -> Result<&Mined, ChainError> {
        let draft = self.draft(timestamp)?;
        Ok(self.adopt(draft))
    }

    /// Imports, from its RLP, a block that a chain of the same genesis made before.
    ///
    /// # Errors
    /// [`ChainError::Program`] if it is not a valid block after the head. An error leaves the chain unchanged.
    pub fn import(&mut self, rlp: &[u8]) -> Result<&Mined, ChainError> {
        let head = self.latest();
        let number = head.block.header.number + 1;
        let invalid = |violation: Violation| violation.in_block(number);
        let decoded = DecodedBlock::decode(rlp).map_err(invalid)?;
        let (header, parent) = (decoded.header.parent_hash, head.hash);
        if header != parent {
            return Err(invalid(Violation::ParentHash { header, parent }).into());
        }
        let mut state = self.state(head, &self.store);
        let executed = execute::execute(&self.config, &decoded, &mut state)?;
        let (nodes, codes) = changes(&mut state);
        let recover = |transaction: &Transaction| {
            transaction.recover_signer().expect("its sender was recovered to execute it")
        };
        let senders = decoded.body.transactions.iter().map(recover).collect();
        let hash = decoded.header.hash();
        let block = Block { header: decoded.header.into_inner(), body: decoded.body };
        let mined = Mined { block, hash, senders, receipts: executed.receipts };
        Ok(self.adopt(Draft { mined, nodes, codes, invalid: Vec::new() }))
    }

    fn adopt(&mut self, draft: Draft) -> &Mined {
        let number = draft.mined.block.header.number;
        for (hash, node) in &draft.nodes {
            self.store.put_node(*hash, node);
        }
        for (hash, code) in draft.codes {
            self.store.put_code(hash, code);
        }
        for (index, transaction) in draft.mined.block.body.transactions.iter().enumerate() {
            self.transactions.insert(*transaction.tx_hash(), (number, index));
        }
        for deposit in draft.mined.block.body.withdrawals.iter().flatten() {
            // One of an imported block was never in the queue.
            if self.deposits.pop_front_if(|first| first.index == deposit.index).is_none() {
                self.next_deposit = deposit.index + 1;
            }
        }
        self.by_hash.insert(draft.mined.hash, number);
        self.blocks.push(draft.mined);
        for hash in &draft.invalid {
            self.pool.remove(hash);
        }
        // All senders: an EIP-7702 authorization moves a nonce without a transaction of the account.
        for sender in self.pool.senders() {
            let nonce = self.nonce(&sender);
            self.pool.settle(&sender, nonce);
        }
        self.latest()
    }

    /// The block that would be made one second after the head; the chain does not change.
    ///
    /// # Errors
    /// As [`Chain::mine`].
    pub fn preview(&self) -> Result<Mined, ChainError> {
        Ok(self.draft(self.head().timestamp.saturating_add(1))?.mined)
    }

    fn draft(&self, timestamp: u64) -> Result<Draft, ChainError> {
        let head = self.latest();
        let parent = &head.block.header;
        if timestamp <= parent.timestamp {
            return Err(ChainError::Timestamp { timestamp, head: parent.timestamp });
        }
        let attributes = Attributes {
            timestamp,
            beneficiary: self.beneficiary,
            prev_randao: keccak256(head.hash),
            gas_limit: parent.gas_limit,
            extra_data: Bytes::from_static(b"l2-devnode"),
            withdrawals: Withdrawals::new(
                self.deposits.iter().take(DEPOSITS_IN_A_BLOCK).copied().collect(),
            ),
            parent_beacon_block_root: keccak256(
                [b"beacon".as_slice(), head.hash.as_slice()].concat(),
            ),
        };
        let mut state = self.state(head, &self.store);
        let sealed = Sealed::new_unchecked(parent.clone(), head.hash);
        let mut builder = BlockBuilder::new(&self.config, &sealed, &attributes, &mut state)?;
        let base_fee = builder.header().base_fee_per_gas.unwrap_or_default();
        let mut ready = self.pool.ready(base_fee, |sender| self.nonce(sender));
        let (mut senders, mut invalid, mut size) = (Vec::new(), Vec::new(), BLOCK_OVERHEAD);
        while let Some(transaction) = ready.next() {
            if size + transaction.length() > MAX_BLOCK_SIZE {
                continue;
            }
            match builder.push(transaction.as_recovered_ref()) {
                Ok(()) => {
                    size += transaction.length();
                    senders.push(transaction.signer());
                    ready.taken(transaction.signer());
                }
                Err(PushError::BlockFull) => {}
                Err(PushError::Invalid(reason)) => {
                    debug!(hash = %transaction.tx_hash(), reason, "transaction dropped");
                    invalid.push(*transaction.tx_hash());
                }
                Err(error) => return Err(ChainError::Fatal(error.to_string())),
            }
        }
        let built = builder.finish()?;
        let (nodes, codes) = changes(&mut state);
        let mined =
            Mined { block: built.block, hash: built.hash, senders, receipts: built.receipts };
        Ok(Draft { mined, nodes, codes, invalid })
    }

    /// The state after the block `at`, read from `source`; `BLOCKHASH` knows `at` and the 255 blocks before it.
    pub(crate) fn state<'a, S: program::state::StateSource<'a>>(
        &self,
        at: &Mined,
        source: S,
    ) -> State<'a, S> {
        let mut state = State::from_source(at.block.header.state_root, source);
        let number = at.block.header.number;
        for number in (number + 1).saturating_sub(BLOCK_HASHES)..=number {
            state.remember_block(number, self.block(number).expect("the block has ancestors").hash);
        }
        state
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The RLP of block `number`, as `debug_getRawBlock` gives it.
    pub fn raw_block(&self, number: u64) -> Option<Bytes> {
        Some(alloy_rlp::encode(&self.block(number)?.block).into())
    }

    /// What a stateless re-execution of block `number` needs: all trie nodes and codes that it reads, also to
    /// write the post-state, and the headers back to the oldest `BLOCKHASH` that it reads, at least the
    /// parent's. `keys` is empty: the nodes suffice.
    ///
    /// # Errors
    /// [`ChainError::NoBlock`] or [`ChainError::GenesisWitness`].
    pub fn execution_witness(&self, number: u64) -> Result<ExecutionWitness, ChainError> {
        let Recorded { nodes, codes, oldest_block } = self.record(number)?;
        let headers = (oldest_block..number)
            .map(|number| &self.block(number).expect("the block has ancestors").block.header);
        Ok(ExecutionWitness { state: nodes, codes, ..Default::default() }.with_headers(headers))
    }

    /// The program's input for consecutive blocks, and the state root before them.
    ///
    /// # Errors
    /// As [`Self::execution_witness`].
    pub fn input(&self, blocks: RangeInclusive<u64>) -> Result<(Input, B256), ChainError> {
        let first = *blocks.start();
        let recorded: Recorded =
            blocks.clone().map(|number| self.record(number)).collect::<Result<_, _>>()?;
        let header = |number| &self.block(number).expect("it was executed").block.header;
        let input = Input {
            config: self.config.clone(),
            terms: program::Terms::default(),
            headers: (recorded.oldest_block..first)
                .map(|number| alloy_rlp::encode(header(number)).into())
                .collect(),
            blocks: blocks.map(|number| self.raw_block(number).expect("as above")).collect(),
            codes: recorded.codes,
            nodes: recorded.nodes,
        };
        Ok((input, header(first - 1).state_root))
    }

    fn record(&self, number: u64) -> Result<Recorded, ChainError> {
        let mined =
            self.block(number).ok_or(ChainError::NoBlock { number, head: self.head().number })?;
        let parent = number
            .checked_sub(1)
            .and_then(|parent| self.block(parent))
            .ok_or(ChainError::GenesisWitness)?;
        let invalid = |violation: Violation| violation.in_block(number);
        let block = DecodedBlock::decode(&alloy_rlp::encode(&mined.block)).map_err(invalid)?;
        let mut state = self.state(parent, Recorder::new(&self.store));
        execute::execute(&self.config, &block, &mut state)?;
        Ok(Recorded::new(state, number))
    }

    /// The account at `address` after the block `at`; the empty account if there is none.
    ///
    /// # Errors
    /// Never [`ChainError::Program`], as long as the store is complete.
    pub fn account(&self, at: &Mined, address: &Address) -> Result<TrieAccount, ChainError> {
        Ok(State::from_source(at.block.header.state_root, &self.store)
            .account(*address)?
            .unwrap_or_default())
    }

    /// The code at `address` after the block `at`.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub fn code(&self, at: &Mined, address: &Address) -> Result<Bytes, ChainError> {
        let account = self.account(at, address)?;
        Ok(self.store.code(&account.code_hash).cloned().unwrap_or_default())
    }

    /// The storage slot of `address` after the block `at`.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub fn storage(&self, at: &Mined, address: &Address, slot: U256) -> Result<U256, ChainError> {
        Ok(State::from_source(at.block.header.state_root, &self.store).slot(*address, slot)?)
    }

    /// Merkle proofs of the account at `address` and of its `slots` after the block `at` (EIP-1186).
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub fn proof(
        &self,
        at: &Mined,
        address: &Address,
        slots: &[U256],
    ) -> Result<EIP1186AccountProofResponse, ChainError> {
        let (leaf, account_proof) = self.path(at.block.header.state_root, keccak256(address))?;
        let account = match leaf {
            Some(leaf) => TrieAccount::decode(&mut leaf.as_slice())
                .map_err(|_| program::Error::Account { hashed_address: keccak256(address) })?,
            None => TrieAccount::default(),
        };
        let storage_proof = slots.iter().map(|slot| {
            let hashed_slot = keccak256(B256::from(*slot));
            let (leaf, proof) = self.path(account.storage_root, hashed_slot)?;
            let value = match leaf {
                Some(leaf) => U256::decode(&mut leaf.as_slice())
                    .map_err(|_| program::Error::Slot { hashed_slot })?,
                None => U256::ZERO,
            };
            Ok(EIP1186StorageProof { key: B256::from(*slot).into(), value, proof })
        });
        Ok(EIP1186AccountProofResponse {
            address: *address,
            balance: account.balance,
            code_hash: account.code_hash,
            nonce: account.nonce,
            storage_hash: account.storage_root,
            account_proof,
            storage_proof: storage_proof.collect::<Result<_, ChainError>>()?,
        })
    }

    /// At most `most` accounts after the block `at`, from the hashed address `first` on, by hashed address in its order.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub fn accounts_from(
        &self,
        at: &Mined,
        first: B256,
        most: usize,
    ) -> Result<Vec<(B256, TrieAccount)>, ChainError> {
        let leaves = self.store.leaves(at.block.header.state_root, first, most);
        let account = |(hashed_address, leaf): (B256, Vec<u8>)| {
            let account = TrieAccount::decode(&mut leaf.as_slice());
            let bad = |_| program::Error::Account { hashed_address }.into();
            account.map(|account| (hashed_address, account)).map_err(bad)
        };
        leaves.into_iter().map(account).collect()
    }

    /// At most `most` slots of `address` after the block `at` that are not zero, from the hashed slot `first` on, by
    /// hashed slot in its order.
    ///
    /// # Errors
    /// As [`Chain::account`].
    pub fn slots_from(
        &self,
        at: &Mined,
        address: &Address,
        first: B256,
        most: usize,
    ) -> Result<Vec<(B256, U256)>, ChainError> {
        let leaves = self.store.leaves(self.account(at, address)?.storage_root, first, most);
        let slot = |(hashed_slot, leaf): (B256, Vec<u8>)| {
            let value = U256::decode(&mut leaf.as_slice());
            let bad = |_| program::Error::Slot { hashed_slot }.into();
            value.map(|value| (hashed_slot, value)).map_err(bad)
        };
        leaves.into_iter().map(slot).collect()
    }

    /// The value at `key` in the trie with this root, and the nodes on the path to it.
    fn path(&self, root: B256, key: B256) -> Result<(Option<Vec<u8>>, Vec<Bytes>), ChainError> {
        let mut recorder = Recorder::new(&self.store);
        let mut trie = Trie::from_root(root);
        let value = trie.get(&key, &mut recorder).map_err(program::Error::from)?;
        Ok((value.map(<[u8]>::to_vec), recorder.into_nodes()))
    }

    /// The environment in which the transactions of `at` ran.
    pub(crate) fn env(&self, at: &Mined) -> alloy_evm::EvmEnv {
        execute::evm_env(&self.config, &at.block.header)
    }

    /// Base fee of the next block, in wei per gas.
    pub fn next_base_fee(&self) -> u64 {
        self.base_fee_after(self.head())
    }

    pub(crate) fn base_fee_after(&self, header: &Header) -> u64 {
        self.fees_after(header).base_fee
    }

    fn fees_after(&self, header: &Header) -> NextFees {
        NextFees::of(&self.config, header, header.timestamp + 1)
            .expect("the chain's own headers are valid")
    }

    /// Blob fee of the next block, in wei per blob gas.
    pub fn next_blob_fee(&self) -> u128 {
        self.blob_fee_after(self.head())
    }

    pub(crate) fn blob_fee_after(&self, header: &Header) -> u128 {
        let params = self.blob_params(header.timestamp + 1);
        let excess = self.fees_after(header).excess_blob_gas;
        params.zip(excess).map_or(0, |(params, excess)| params.calc_blob_fee(excess))
    }

    /// Blob fee in the block with this header, in wei per blob gas.
    pub(crate) fn blob_fee(&self, header: &Header) -> u128 {
        let params = self.blob_params(header.timestamp);
        params
            .zip(header.excess_blob_gas)
            .map_or(0, |(params, excess)| params.calc_blob_fee(excess))
    }

    pub(crate) fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        self.config.blob_params(timestamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dev_genesis_is_the_programs_dev_chain() {
        let chain = Chain::new(&genesis::dev()).unwrap();
        assert_eq!(*chain.config(), ChainConfig::dev());
    }

    #[test]
    fn the_genesis_state_root_is_the_reference_tries() {
        let mut genesis = genesis::dev();
        let slots = (0u64..40).map(|i| (B256::from(U256::from(i)), B256::from(U256::from(i * i))));
        genesis.alloc.values_mut().next().unwrap().storage = Some(slots.collect());
        let expected = alloy_trie::root::state_root_unhashed(
            genesis
                .alloc
                .iter()
                .map(|(address, account)| (*address, TrieAccount::from(account.clone()))),
        );
        assert_eq!(Chain::new(&genesis).unwrap().head().state_root, expected);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut chain = Chain::new(&genesis::dev()).unwrap();
        let timestamp = chain.head().timestamp;
        assert!(matches!(chain.mine(timestamp), Err(ChainError::Timestamp { .. })));
        chain.mine(timestamp + 1).unwrap();
        assert_eq!(chain.head().number, 1);
    }

    #[test]
    fn a_genesis_whose_first_block_would_be_refused_is_refused() {
        let dear = Genesis { base_fee_per_gas: Some(1 << 63), ..genesis::dev() };
        let error = Chain::new(&dear).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            matches!(error, GenesisError::Refused(_)) && source.contains("base fee"),
            "{source}"
        );
        let late = Genesis { timestamp: u64::MAX, ..genesis::dev() };
        assert!(matches!(Chain::new(&late), Err(GenesisError::Unprovable(_))));
        for gas_limit in [5_000, i64::MAX as u64] {
            let mut chain = Chain::new(&Genesis { gas_limit, ..genesis::dev() }).unwrap();
            chain.mine(chain.head().timestamp + 1).unwrap();
            let (input, root) = chain.input(1..=1).unwrap();
            program::run(&input.encode(root).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_genesis_with_rules_that_are_not_proven_is_refused() {
        let mut genesis = genesis::dev();
        genesis.config.amsterdam_time = Some(0);
        assert!(matches!(Chain::new(&genesis), Err(GenesisError::Rules(_))));
        genesis.config.amsterdam_time = Some(u64::MAX);
        Chain::new(&genesis).unwrap();
        genesis.config.amsterdam_time = None;
        genesis.config.merge_netsplit_block = Some(5);
        assert!(matches!(Chain::new(&genesis), Err(GenesisError::Unprovable(_))));
    }
}
