//! Executes a block to find what it reads and changes.
//!
//! What is not known is asked for while the block is executed, as often as allowed, and treated as empty from then on.

use super::known::{Answers, Block, Known, Wanted};
use crate::Error;
use alloy_consensus::{TxType, transaction::Recovered};
use alloy_evm::{
    Evm,
    block::BlockExecutor,
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor,
        receipt_builder::{ReceiptBuilder, ReceiptBuilderCtx},
    },
};
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, map::B256Map};
use program::{Receipt, Transaction, build::BlockEvm, execute};
use revm::{
    bytecode::Bytecode,
    context_interface::DBErrorMarker,
    database::{
        State as Overlay,
        states::{BundleAccount, bundle_state::BundleRetention},
    },
    state::AccountInfo,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// A question of an execution that waits for the answer.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) wanted: Wanted,
    pub(super) answer: oneshot::Sender<Result<Answers, Error>>,
}

/// The result of an execution.
#[derive(Debug)]
pub(super) struct Reads {
    /// What was treated as empty.
    pub(super) missed: Wanted,
    /// May be wrong if anything was missed.
    pub(super) changes: Changes,
    /// How long it took, without the time in which it waited for answers.
    pub(super) executing: Duration,
}

/// What a block changes.
pub(super) type Changes = BTreeMap<Address, Change>;

/// What a block changes of one account.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    /// Whether the account is gone afterwards.
    pub(super) deleted: bool,
    /// New values of slots. None if the account's storage from before the block is gone.
    pub(super) slots: BTreeMap<U256, U256>,
}

/// Executes the block; asks `questions` times at most for what is not known.
///
/// # Errors
/// The error with which a question was answered.
pub(super) fn execute(
    mut known: Known,
    questions: usize,
    asker: mpsc::Sender<Question>,
) -> Result<(Known, Reads), Error> {
    let begun = Instant::now();
    let mut reader = Reader {
        known: &mut known,
        asker,
        questions,
        missed: Wanted::default(),
        owners: B256Map::default(),
        waited: Duration::ZERO,
        failure: None,
    };
    let changes = run(&mut reader);
    let Reader { missed, waited, failure, .. } = reader;
    match failure {
        Some(error) => Err(error),
        None => Ok((known, Reads { missed, changes, executing: begun.elapsed() - waited })),
    }
}

fn run(reader: &mut Reader<'_>) -> Changes {
    let block = reader.known.block.clone();
    let Block { config, decoded, senders, .. } = &*block;
    let header = decoded.header.inner();
    let db = Overlay::builder().with_database(reader).with_bundle_update().build();
    let evm = BlockEvm::new(db, execute::evm_env(config, header));
    let withdrawals = decoded.body.withdrawals.as_ref().map(|list| list.as_slice());
    let context = EthBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        ommers: &[],
        withdrawals: withdrawals.map(Cow::Borrowed),
        extra_data: header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: None,
    };
    let mut executor = EthBlockExecutor::new(evm, context, config, Receipts);
    // Errors may come from what is not known yet. If they are the block's own, recording the witness finds them
    // again.
    let _ = executor.apply_pre_execution_changes();
    for (transaction, sender) in decoded.body.transactions.iter().zip(senders) {
        if let Some(sender) = sender {
            let _ = executor.execute_transaction(Recovered::new_unchecked(transaction, *sender));
        }
    }
    let Ok((evm, _)) = executor.finish() else { return Changes::new() };
    let mut db = evm.into_db();
    db.merge_transitions(BundleRetention::PlainState);
    db.take_bundle()
        .state
        .into_iter()
        .map(|(address, account)| (address, change(&account)))
        .collect()
}

fn change(account: &BundleAccount) -> Change {
    let deleted = account.info.as_ref().is_none_or(AccountInfo::is_empty);
    let kept = !deleted && !account.status.was_destroyed();
    let changed = account.storage.iter().filter(|(_, slot)| kept && slot.is_changed());
    Change { deleted, slots: changed.map(|(slot, value)| (*slot, value.present_value)).collect() }
}

/// The state of which something is known.
#[derive(Debug)]
struct Reader<'k> {
    known: &'k mut Known,
    asker: mpsc::Sender<Question>,
    /// How often it may still ask.
    questions: usize,
    missed: Wanted,
    /// For each code, an account that has it.
    owners: B256Map<Address>,
    waited: Duration,
    failure: Option<Error>,
}

/// The execution is of no further use.
#[derive(Debug, thiserror::Error)]
#[error("a question was not answered")]
struct Unanswered;

impl DBErrorMarker for Unanswered {}

impl Reader<'_> {
    /// Asks for what is wanted, or notes that it is missing. Returns whether it is known now.
    fn want(&mut self, wanted: Wanted) -> Result<bool, Unanswered> {
        if self.failure.is_some() {
            return Err(Unanswered);
        }
        let Some(left) = self.questions.checked_sub(1) else {
            self.miss(wanted);
            return Ok(false);
        };
        self.questions = left;
        let begun = Instant::now();
        let answers = self.ask(wanted);
        self.waited += begun.elapsed();
        match answers?.and_then(|answers| self.known.learn(answers)) {
            Ok(_) => Ok(true),
            Err(error) => {
                self.failure = Some(error);
                Err(Unanswered)
            }
        }
    }

    fn ask(&self, wanted: Wanted) -> Result<Result<Answers, Error>, Unanswered> {
        let (answer, answered) = oneshot::channel();
        // Neither fails unless whoever wanted the block has gone.
        self.asker.blocking_send(Question { wanted, answer }).map_err(|_| Unanswered)?;
        answered.blocking_recv().map_err(|_| Unanswered)
    }

    fn miss(&mut self, wanted: Wanted) {
        let Wanted { keys, codes, headers } = wanted;
        for (address, slots) in keys {
            self.missed.keys.entry(address).or_default().extend(slots);
        }
        self.missed.codes.extend(codes);
        if !headers.is_empty() {
            let missed = &self.missed.headers;
            let oldest = match missed.is_empty() {
                true => headers.start,
                false => missed.start.min(headers.start),
            };
            self.missed.headers = oldest..headers.end;
        }
    }
}

impl revm::Database for &mut Reader<'_> {
    type Error = Unanswered;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Unanswered> {
        let mut account = self.known.account(address);
        if account.is_none() {
            let keys = [(address, [].into())].into();
            if self.want(Wanted { keys, ..Wanted::default() })? {
                account = self.known.account(address);
            }
        }
        let account = account.flatten();
        if let Some(account) = &account {
            self.owners.insert(account.code_hash, address);
        }
        Ok(account)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, Unanswered> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytecode::default());
        }
        if !self.known.has_code(&hash)
            && let Some(owner) = self.owners.get(&hash).copied()
        {
            self.want(Wanted {
                codes: [(hash, owner)].into_iter().collect(),
                ..Wanted::default()
            })?;
        }
        Ok(self.known.bytecode(hash).unwrap_or_default())
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Unanswered> {
        let mut value = self.known.slot(address, slot);
        if value.is_none() {
            let keys = [(address, [slot].into())].into();
            if self.want(Wanted { keys, ..Wanted::default() })? {
                value = self.known.slot(address, slot);
            }
        }
        Ok(value.unwrap_or_default())
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Unanswered> {
        if let Err(headers) = self.known.block_hash(number) {
            self.want(Wanted { headers, ..Wanted::default() })?;
        }
        Ok(self.known.block_hash(number).unwrap_or_default())
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
