//! A batch: consecutive blocks on one live state, from an encoded input to the statement.

use crate::{
    Error, Statement,
    consensus::{self, DecodedBlock, Violation},
    execute,
    input::InputRef,
    interpreter::Product,
    phase::Phase,
    senders::{self, Check, Senders},
    state::{NoSource, State},
    statement::{self, DepositsChain},
};
use alloc::vec::Vec;
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, Sealed};

/// What [`run_detailed`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What a proof commits to.
    pub statement: Statement,
    /// The blocks, in order.
    pub blocks: Vec<BlockSummary>,
}

/// One block of a batch, for people and for estimates.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct BlockSummary {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Gas used.
    pub gas_used: u64,
    /// Number of transactions.
    pub transactions: usize,
}

/// Executes an encoded [`crate::Input`] and returns what the execution has shown.
///
/// # Errors
/// [`Error`]: the input is malformed, its witness is incomplete, or a block is invalid. Such an input has no
/// statement.
pub fn run(input: &[u8]) -> Result<Statement, Error> {
    run_detailed(input).map(|outcome| outcome.statement)
}

/// What a machine computes in ways of its own, with the same results.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Whether the input's claims about senders are true.
    pub check: Check,
    /// `MULMOD`.
    pub product: Product,
}

/// [`run`] on shared bytes: contract codes are executed in place, inside `input`, on this machine.
///
/// # Errors
/// As [`run`].
pub fn run_in_place(input: &Bytes, machine: Machine) -> Result<Statement, Error> {
    run_input(input, Some((input, machine))).map(|outcome| outcome.statement)
}

/// [`run`], which also returns a summary of each block.
///
/// # Errors
/// As [`run`].
pub fn run_detailed(input: &[u8]) -> Result<Outcome, Error> {
    run_input(input, None)
}

#[cfg(feature = "std")]
fn run_input(input: &[u8], place: Option<(&Bytes, Machine)>) -> Result<Outcome, Error> {
    crate::heap::bounded(input.len(), || run_all(input, place))
}

#[cfg(not(feature = "std"))]
use run_all as run_input;

fn run_all(input: &[u8], place: Option<(&Bytes, Machine)>) -> Result<Outcome, Error> {
    let (owner, machine) = place.unzip();
    let input = Phase::Input.run(|| InputRef::decode(input))?;
    let ancestors = Phase::Input.run(|| ancestors(&input.headers))?;
    let blocks = Phase::Input.run(|| decode_blocks(&input.blocks))?;
    let first = &blocks[0];
    let Some(parent) = ancestors.last() else {
        return Err(Error::MissingParent { number: first.header.number });
    };
    let mut state = state(&input, parent.state_root, owner)?;
    state.lasting.product = machine.map(|machine| machine.product);
    for ancestor in &ancestors {
        state.remember_block(ancestor.number, ancestor.hash());
    }
    let invalid = |violation: Violation| violation.in_block(first.header.number);
    consensus::check_against_parent(&input.config, &first.header, parent).map_err(invalid)?;
    let hints = senders::hints(input.hints, &blocks)?;
    #[cfg(feature = "std")]
    crate::heap::count(senders::GUEST_HEAP + hints.len() * senders::GUEST_HEAP_EACH);
    let checked = Phase::Senders
        .run(|| machine.and_then(|machine| senders::check(&blocks, hints, machine.check)));
    let senders = checked.as_deref().map_or(Senders::Claimed(hints), Senders::Checked);
    run_blocks(&input, &blocks, senders, &mut state, parent.state_root)
}

/// What is taken on trust about the ancestors of an input's first block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumedParent {
    /// The parent's state root: the state on which the first block runs.
    pub state_root: B256,
    /// Hashes for `BLOCKHASH`, from the parent's parent's on, each followed by its parent's. The parent's own
    /// hash is in the first block's header. May be empty.
    pub ancestor_hashes: Vec<B256>,
}

impl From<B256> for AssumedParent {
    fn from(state_root: B256) -> Self {
        Self { state_root, ancestor_hashes: Vec::new() }
    }
}

/// [`run_detailed`] for an input without a parent header. It trusts the given state root of the parent and
/// hashes of older blocks, and skips the rules of [`consensus::check_against_parent`] for the first block, and
/// no others.
///
/// The result is an execution of the blocks and never a proof: no guest calls this.
///
/// # Errors
/// As [`run`].
pub fn run_assuming_parent(
    input: &[u8],
    parent: impl Into<AssumedParent>,
) -> Result<Outcome, Error> {
    let AssumedParent { state_root, ancestor_hashes } = parent.into();
    let input = InputRef::decode(input)?;
    let blocks = decode_blocks(&input.blocks)?;
    let first = &blocks[0].header;
    let mut state = state(&input, state_root, None)?;
    let hashes = core::iter::once(first.parent_hash).chain(ancestor_hashes);
    for (number, hash) in (0..first.number).rev().zip(hashes) {
        state.remember_block(number, hash);
    }
    let senders = Senders::Claimed(senders::hints(input.hints, &blocks)?);
    run_blocks(&input, &blocks, senders, &mut state, state_root)
}

fn state<'a>(
    input: &InputRef<'a>,
    pre_state_root: B256,
    owner: Option<&Bytes>,
) -> Result<State<'a, NoSource>, Error> {
    let mut state = Phase::PreState
        .run(|| State::from_streams(pre_state_root, input.accounts, input.storages))?;
    Phase::Codes.run(|| input.codes.iter().for_each(|code| state.insert_code(code, owner)));
    Ok(state)
}

fn decode_blocks(blocks: &[&[u8]]) -> Result<Vec<DecodedBlock>, Error> {
    if blocks.is_empty() {
        return Err(Error::Input { what: "expected at least one block", offset: 0 });
    }
    let mut decoded = Vec::<DecodedBlock>::new();
    for block in blocks {
        let number = decoded.last().map_or(0, |block| block.header.number.saturating_add(1));
        decoded.push(DecodedBlock::decode(block).map_err(|violation| violation.in_block(number))?);
    }
    Ok(decoded)
}

/// Hashes the ancestors' headers and checks that they are one chain.
fn ancestors(headers: &[&[u8]]) -> Result<Vec<Sealed<Header>>, Error> {
    let mut chain = Vec::<Sealed<Header>>::new();
    for (index, rlp) in headers.iter().enumerate() {
        let rest = &mut &**rlp;
        let header =
            Header::decode_sealed(rest).ok().filter(|_| rest.is_empty()).ok_or(Error::Input {
                what: "expected the RLP of a header among the ancestors",
                offset: 0,
            })?;
        // SOUNDNESS: BLOCKHASH reads from this chain, so every link is a hash.
        if let Some(last) = chain.last()
            && (header.parent_hash != last.hash()
                || Some(header.number) != last.number.checked_add(1))
        {
            return Err(Error::BrokenHeaderChain { index: index - 1 });
        }
        chain.push(header);
    }
    Ok(chain)
}

fn run_blocks(
    InputRef { config, terms, .. }: &InputRef<'_>,
    blocks: &[DecodedBlock],
    mut senders: Senders<'_>,
    state: &mut State<'_, NoSource>,
    pre_state_root: B256,
) -> Result<Outcome, Error> {
    let mut summaries = Vec::new();
    let mut deposits = DepositsChain::new(terms.deposits_start);
    for (index, block) in blocks.iter().enumerate() {
        let number = block.header.number;
        let invalid = |violation: Violation| violation.in_block(number);
        consensus::check_header(config, block).map_err(invalid)?;
        if let Some(parent) = index.checked_sub(1).map(|parent| &blocks[parent].header) {
            consensus::check_against_parent(config, &block.header, parent).map_err(invalid)?;
        }
        let senders = senders.split_off(block.body.transactions.len());
        let executed =
            Phase::Execution.run(|| execute::execute_sent(config, block, senders, state))?;
        // SOUNDNESS: withdrawals create ether. Those of a chain with a bridge are bound, all of them, in order.
        if config.bridge {
            block.body.withdrawals.iter().flatten().for_each(|deposit| deposits.push(deposit));
        }
        summaries.push(BlockSummary {
            number,
            hash: block.header.hash(),
            gas_used: executed.fields.gas_used,
            transactions: executed.receipts.len(),
        });
    }
    let (first, last) = (&blocks[0].header, &blocks[blocks.len() - 1].header);
    let statement = Statement {
        version: statement::VERSION,
        chain_config_digest: config.digest(),
        parent_hash: first.parent_hash,
        last_hash: last.hash(),
        first_number: first.number,
        last_number: last.number,
        pre_state_root,
        post_state_root: last.state_root,
        deposits_digest: if config.bridge { deposits.digest() } else { B256::ZERO },
        deposits_count: deposits.count(),
        messages_root: B256::ZERO,
        last_timestamp: last.timestamp,
        data_commitment: B256::ZERO,
        beneficiary: terms.beneficiary,
    };
    Ok(Outcome { statement, blocks: summaries })
}
