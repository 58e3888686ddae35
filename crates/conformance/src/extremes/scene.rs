//! One block, on a state and a parent made up for it.

use super::{
    Case, Marks,
    code::{DRIVER, ECHO, LOG_LENGTH, WORKER, driver, echo},
};
use alloy_consensus::{
    EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header, SignableTransaction, Transaction as _,
    TxEip1559, TxEip4844, TxLegacy,
    proofs::{calculate_transaction_root, calculate_withdrawals_root},
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::{eip2935, eip4788, eip7002, eip7251, eip7685::EMPTY_REQUESTS_HASH};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{
    Address, B256, Bytes, Sealable, Sealed, Signature, TxKind, U256, keccak256,
};
use program::{
    Block, ChainConfig, Error, Input, Receipt, Transaction,
    build::{Attributes, BlockBuilder, PushError},
    consensus::{self, DecodedBlock, NextFees},
    execute,
    state::State,
};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};
use witness::record::{Recorded, Recorder, Store};

/// The maximum gas of a transaction under Osaka (EIP-7825).
pub(super) const TRANSACTION_GAS: u64 = 1 << 24;
/// The gas price of every transaction, unless a case is about fees.
pub(super) const GAS_PRICE: u128 = 1_000_000_000;
/// Gas that the driver takes for a tuple, beside what it passes on.
const DRIVER_GAS: u64 = 8_000;
/// Gas that a transaction of the driver keeps for its calldata.
const SPARE_GAS: u64 = 1_500_000;

/// A chain of one block.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) config: ChainConfig,
    /// The header of the block's parent. Its state root is filled in.
    pub(super) parent: Header,
    pub(super) accounts: BTreeMap<Address, GenesisAccount>,
    /// In the block's order. Their senders are whoever the made-up signatures recover to.
    pub(super) transactions: Vec<Transaction>,
    pub(super) attributes: Attributes,
    /// The balance of every sender.
    pub(super) purse: U256,
    /// The nonce of every sender.
    pub(super) nonce: u64,
}

impl Scene {
    /// Osaka from the start, an ordinary parent, the contracts that the rules call, and [`ECHO`].
    pub(super) fn osaka() -> Self {
        let contracts = [
            (eip4788::BEACON_ROOTS_ADDRESS, &eip4788::BEACON_ROOTS_CODE),
            (eip2935::HISTORY_STORAGE_ADDRESS, &eip2935::HISTORY_STORAGE_CODE),
            (
                eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
                &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE,
            ),
            (
                eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
                &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE,
            ),
        ];
        let accounts = contracts.into_iter().map(|(address, code)| (address, contract(code)));
        let parent = Header {
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            number: 999,
            timestamp: 1_000_000,
            gas_limit: 60_000_000,
            base_fee_per_gas: Some(7),
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: Some(EMPTY_REQUESTS_HASH),
            ..Default::default()
        };
        Self {
            config: ChainConfig::dev(),
            attributes: Attributes::default(),
            parent,
            accounts: accounts.chain([(ECHO, contract(&echo()))]).collect(),
            transactions: Vec::new(),
            purse: U256::MAX >> 8,
            nonce: 0,
        }
    }

    /// The same under Prague, where no rule limits the gas of a transaction.
    pub(super) fn prague() -> Self {
        let mut scene = Self::osaka();
        scene.config.osaka_time = None;
        scene
    }

    /// Puts `code` at [`WORKER`].
    pub(super) fn worker(mut self, code: Vec<u8>) -> Self {
        let account = GenesisAccount { balance: U256::from(1_000), ..contract(&code) };
        self.accounts.insert(WORKER, account);
        self
    }

    /// Calls the worker with `gas` for each tuple, in as few transactions as possible.
    pub(super) fn drive(mut self, gas: u64, tuples: &[Vec<U256>], blobs: &[B256]) -> Self {
        let width = tuples[0].len();
        self.accounts.insert(DRIVER, contract(&driver(gas, width)));
        let each = usize::try_from((TRANSACTION_GAS - SPARE_GAS) / (gas + DRIVER_GAS))
            .expect("as many as a transaction's gas lets there be")
            .max(1);
        for tuples in tuples.chunks(each) {
            self.call(DRIVER, TRANSACTION_GAS, words(&tuples.concat()), blobs);
        }
        self
    }

    /// Calls the worker with each tuple, in a transaction of its own with this gas.
    pub(super) fn single(mut self, gas: u64, tuples: &[Vec<U256>]) -> Self {
        for tuple in tuples {
            self.call(WORKER, gas, words(tuple), &[]);
        }
        self
    }

    fn call(&mut self, to: Address, gas_limit: u64, input: Bytes, blobs: &[B256]) {
        let chain_id = self.config.chain_id;
        // Two transactions with the same content would have the same sender.
        let index = self.transactions.len();
        let value = U256::ZERO;
        let transaction = match blobs.is_empty() {
            true => sign(TxLegacy {
                chain_id: Some(chain_id),
                nonce: self.nonce,
                gas_price: GAS_PRICE + index as u128,
                gas_limit,
                to: to.into(),
                value,
                input,
            }),
            false => sign(TxEip4844 {
                chain_id,
                nonce: self.nonce,
                gas_limit,
                max_fee_per_gas: GAS_PRICE + index as u128,
                max_priority_fee_per_gas: 0,
                to,
                value,
                access_list: Default::default(),
                blob_versioned_hashes: blobs.to_vec(),
                max_fee_per_blob_gas: GAS_PRICE,
                input,
            }),
        };
        self.transactions.push(transaction);
    }

    /// Adds a transfer of zero wei that may use this much gas.
    pub(super) fn transfer(&mut self, gas_limit: u64, max_fee: u128) {
        self.transactions.push(sign(TxEip1559 {
            chain_id: self.config.chain_id,
            nonce: self.nonce,
            gas_limit,
            max_fee_per_gas: max_fee,
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(ECHO),
            value: U256::ZERO,
            access_list: Default::default(),
            input: Bytes::new(),
        }));
    }

    /// Makes the block's gas limit the sum of its transactions'.
    pub(super) fn room_for_all(mut self) -> Self {
        let gas = self.transactions.iter().map(|transaction| transaction.gas_limit());
        self.parent.gas_limit = gas.fold(self.parent.gas_limit, u64::saturating_add);
        self
    }

    /// The case with this name and these operands.
    pub(super) fn with_operands(self, name: String, tuples: &[Vec<U256>]) -> Case {
        let (input, receipts) = self.encoded();
        let text = marks(&receipts.unwrap_or_default());
        let tuples = tuples.iter().map(|tuple| super::tuple(tuple)).collect();
        Case { name, input, marks: Marks { text, tuples } }
    }

    /// The case with this name.
    pub(super) fn case(self, name: String) -> Case {
        Case { name, input: self.encoded().0, marks: Marks::default() }
    }

    fn encoded(self) -> (Vec<u8>, Option<Vec<Receipt>>) {
        let (input, root, receipts) = self.input();
        let encoded = input.encode(root);
        (encoded.expect("the recorder's nodes were hashed when they were read"), receipts)
    }

    /// The input, the parent's state root, and the block's receipts if a block could be made. If none could be
    /// made, the block is close to what an honest header would give, and the program has to say what is wrong
    /// with it.
    pub(super) fn input(mut self) -> (Input, B256, Option<Vec<Receipt>>) {
        for transaction in &self.transactions {
            let sender = transaction.recover_signer().expect("the signature was tried");
            let account = self.accounts.entry(sender).or_default();
            account.balance = self.purse;
            account.nonce = Some(self.nonce);
        }
        let (store, root) = Store::with_accounts(&self.accounts);
        self.parent.state_root = root;
        if self.attributes.timestamp == 0 {
            self.attributes.timestamp = self.parent.timestamp.saturating_add(12);
        }
        if self.attributes.gas_limit == 0 {
            self.attributes.gas_limit = self.parent.gas_limit;
        }
        let parent = self.parent.clone().seal_slow();
        let made = (self.parent.number < u64::MAX)
            .then(|| catch_unwind(AssertUnwindSafe(|| self.made(&store, &parent))))
            .and_then(Result::ok)
            .and_then(Result::ok);
        let (block, recorded, receipts) = match made {
            Some((block, recorded, receipts)) => (block, recorded, Some(receipts)),
            None => {
                let block = self.guessed(&parent);
                let recorded = self.touched(&store, &parent, &block);
                (block, recorded, None)
            }
        };
        let input = Input {
            config: self.config,
            terms: program::Terms::default(),
            headers: vec![alloy_rlp::encode(&self.parent).into()],
            blocks: vec![alloy_rlp::encode(&block).into()],
            codes: recorded.codes,
            nodes: recorded.nodes,
        };
        (input, root, receipts)
    }

    /// The block as a node would make it. A transaction that the node refuses is put at its end.
    fn made(
        &self,
        store: &Store,
        parent: &Sealed<Header>,
    ) -> Result<(Block, Recorded, Vec<Receipt>), Error> {
        let mut state = State::from_source(parent.state_root, Recorder::new(store));
        let mut builder = BlockBuilder::new(&self.config, parent, &self.attributes, &mut state)?;
        let mut refused = Vec::new();
        for transaction in &self.transactions {
            let sender = transaction.recover_signer().expect("the signature was tried");
            match builder.push(Recovered::new_unchecked(transaction, sender)) {
                Ok(()) => {}
                Err(PushError::Fatal(reason)) => {
                    return Err(Error::Execution { number: parent.number, reason });
                }
                Err(_) => refused.push(transaction.clone()),
            }
        }
        let built = builder.finish()?;
        let mut block = built.block;
        block.body.transactions.extend(refused);
        block.header.transactions_root = calculate_transaction_root(&block.body.transactions);
        block.header.blob_gas_used = self.blob_gas();
        Ok((block, Recorded::new(state, parent.number + 1), built.receipts))
    }

    /// Blob gas of all transactions.
    fn blob_gas(&self) -> Option<u64> {
        let gas = self.transactions.iter().filter_map(|transaction| transaction.blob_gas_used());
        Some(gas.fold(0, u64::saturating_add))
    }

    /// A block whose header is filled in without executing anything.
    fn guessed(&self, parent: &Sealed<Header>) -> Block {
        let fees = NextFees::of(&self.config, parent, self.attributes.timestamp).ok();
        let header = Header {
            parent_hash: parent.hash(),
            number: parent.number.wrapping_add(1),
            timestamp: self.attributes.timestamp,
            gas_limit: self.attributes.gas_limit,
            gas_used: 0,
            base_fee_per_gas: fees.map_or(parent.base_fee_per_gas, |fees| Some(fees.base_fee)),
            excess_blob_gas: fees.map_or(parent.excess_blob_gas, |fees| fees.excess_blob_gas),
            blob_gas_used: self.blob_gas(),
            beneficiary: self.attributes.beneficiary,
            transactions_root: calculate_transaction_root(&self.transactions),
            receipts_root: EMPTY_ROOT_HASH,
            withdrawals_root: Some(calculate_withdrawals_root(&self.attributes.withdrawals)),
            ..self.parent.clone()
        };
        let body = alloy_consensus::BlockBody {
            transactions: self.transactions.clone(),
            ommers: Vec::new(),
            withdrawals: Some(self.attributes.withdrawals.clone()),
        };
        Block { header, body }
    }

    /// What executing a block reads before it fails.
    fn touched(&self, store: &Store, parent: &Sealed<Header>, block: &Block) -> Recorded {
        let mut state = State::from_source(parent.state_root, Recorder::new(store));
        let decoded = DecodedBlock::decode(&alloy_rlp::encode(block))
            .expect("the block was encoded just now");
        let run = || {
            let _whether_it_fails_is_not_the_question =
                consensus::check_header(&self.config, &decoded)
                    .and_then(|()| {
                        consensus::check_against_parent(&self.config, &decoded.header, parent)
                    })
                    .is_ok()
                    .then(|| execute::execute(&self.config, &decoded, &mut state));
        };
        let _a_panic_is_told_by_the_program = catch_unwind(AssertUnwindSafe(run));
        Recorded::new(state, parent.number.saturating_add(1))
    }
}

/// An account with this code.
pub(super) fn contract(code: &[u8]) -> GenesisAccount {
    GenesisAccount { nonce: Some(1), code: Some(code.to_vec().into()), ..Default::default() }
}

fn words(words: &[U256]) -> Bytes {
    words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect()
}

/// Signs with a made-up signature: whoever it recovers to is the sender, who has money in the made-up state.
pub(super) fn sign<T: SignableTransaction<Signature> + Clone>(transaction: T) -> Transaction
where
    Transaction: From<alloy_consensus::Signed<T>>,
{
    (1..=64u64)
        .map(|r| Signature::new(U256::from(r), U256::ONE, false))
        .map(|signature| Transaction::from(transaction.clone().into_signed(signature)))
        .find(|signed| signed.recover_signer().is_ok())
        .expect("half of all numbers are on the curve")
}

/// The results of the tuples: for the driver's transactions, what it logged; for others, what their receipts say.
fn marks(receipts: &[Receipt]) -> String {
    let mut before = 0;
    let mut text = String::new();
    for receipt in receipts {
        let spent = receipt.cumulative_gas_used - before;
        before = receipt.cumulative_gas_used;
        let logs: Vec<_> = receipt.logs.iter().filter(|log| log.address == DRIVER).collect();
        if logs.is_empty() {
            let what = [u64::from(receipt.success), spent].map(u64::to_be_bytes).concat();
            text.push(mark(receipt.success, &what));
        }
        for log in logs {
            let data = &log.data.data;
            debug_assert_eq!(data.len(), LOG_LENGTH);
            text.push(mark(data[63] == 1, data));
        }
    }
    text
}

/// A lower case letter or digit for what succeeded, an upper case letter for what did not.
fn mark(success: bool, what: &[u8]) -> char {
    const GOOD: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    const BAD: &[u8; 26] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let byte = usize::from(keccak256(what)[0]);
    match success {
        true => char::from(GOOD[byte % GOOD.len()]),
        false => char::from(BAD[byte % BAD.len()]),
    }
}
