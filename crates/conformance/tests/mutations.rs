//! Whatever is changed in an honest input, the program refuses it or returns the same as before.
//!
//! The changes are made one at a time: to every item of the witness, to every field of every block (the RLP is taken
//! apart, so that no field can be forgotten), and to the encoding at any place. The results are a table,
//! `docs/mutations.md`: which check refuses which change. `UPDATE_EXPECT=1` writes it anew.

mod rlp;

use alloy_consensus::proofs::calculate_withdrawals_root;
use alloy_eips::eip4895::{Withdrawal, Withdrawals};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_trie::root::ordered_trie_root_encoded;
use devnode::{Chain, Kind, Traffic, TrafficConfig, genesis};
use expect_test::expect_file;
use program::{
    ChainConfig, Error, Input, Statement,
    build::{Attributes, BlockBuilder},
    consensus::Violation,
    trie::TrieError,
};
use proptest::prelude::*;
use rlp::Rlp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};
use strum::VariantNames;
use witness::record::{Recorded, Recorder, Store};

/// An honest input and its outcome.
struct Honest {
    input: Input,
    pre_state_root: B256,
    statement: Statement,
}

impl Honest {
    fn new(input: Input, pre_state_root: B256) -> Self {
        let statement = program::run(&input.encode(pre_state_root).unwrap()).unwrap();
        Self { input, pre_state_root, statement }
    }

    /// The outcome of the input after `change`.
    fn outcome(&self, change: impl FnOnce(&mut Input)) -> String {
        let mut input = self.input.clone();
        change(&mut input);
        match input.encode(self.pre_state_root) {
            Ok(encoded) => self.judge(&encoded, &input),
            // The host's encoder needs a whole trie; the encoded form is changed byte by byte elsewhere.
            Err(error) => name(&error),
        }
    }

    fn judge(&self, encoded: &[u8], input: &Input) -> String {
        let (outcome, statement) = compare(encoded, &self.statement);
        // A true statement about another block is not a false one: its hash is the other block's.
        if let Some(other) = statement {
            let Some(Rlp::List(items)) = Rlp::decode(input.blocks.last().unwrap()) else {
                panic!("a block is a list")
            };
            assert_eq!(other.last_hash, keccak256(items[0].encode()));
        }
        outcome
    }
}

/// What the program says of `encoded`. A statement other than `honest` must be true of another block or of other rules:
/// it is returned, and differs in the hash that names them and in nothing else. The header has fields that nothing but
/// its hash depends on, and the chain config has rules that a block may not meet.
fn compare(encoded: &[u8], honest: &Statement) -> (String, Option<Statement>) {
    let statement = match program::run(encoded) {
        Err(error) => return (name(&error), None),
        Ok(statement) if statement == *honest => return ("same statement".into(), None),
        Ok(statement) => statement,
    };
    let Statement { last_hash, last_timestamp, chain_config_digest, beneficiary, .. } = statement;
    let same =
        Statement { last_hash, last_timestamp, chain_config_digest, beneficiary, ..honest.clone() };
    assert_eq!(statement, same);
    let what = if last_hash != honest.last_hash {
        "true statement about the other block"
    } else if chain_config_digest != honest.chain_config_digest {
        "true statement about the other chain config"
    } else {
        "true statement for another beneficiary"
    };
    (what.into(), Some(statement))
}

/// The name of the check that refuses the input.
fn name(error: &Error) -> String {
    let variant =
        |debug: String| debug.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
    match error {
        Error::Block { violation, .. } => match violation {
            Violation::Root { field, .. }
            | Violation::Number64 { field, .. }
            | Violation::ForkField { field, .. }
            | Violation::NotEmpty(field) => {
                format!("{} {field}", variant(format!("{violation:?}")))
            }
            Violation::Transaction { reason, .. } => {
                format!("Transaction {}", variant(format!("{reason:?}")))
            }
            violation => variant(format!("{violation:?}")),
        },
        Error::Trie(error) => format!("Trie {}", variant(format!("{error:?}"))),
        error => variant(format!("{error:?}")),
    }
}

/// A block with every kind of transaction that the dev chain makes.
fn traffic() -> Honest {
    let mut chain = Chain::new(&genesis::dev()).unwrap();
    let config =
        TrafficConfig { seed: 3, per_block: 12, kinds: Kind::ALL.to_vec(), stop_after: None };
    let mut traffic = Traffic::new(config);
    for _ in 0..4 {
        traffic.fill(&mut chain).unwrap();
        chain.mine(chain.head().timestamp + 2).unwrap();
    }
    let (input, root) = chain.input(4..=4).unwrap();
    Honest::new(input, root)
}

/// A block with withdrawals and nothing else.
fn withdrawals() -> Honest {
    let genesis = genesis::dev();
    let chain = Chain::new(&genesis).unwrap();
    let (store, root) = Store::with_accounts(&genesis.alloc);
    let parent = chain.block(0).unwrap();
    let list = (0..3u8).map(|index| Withdrawal {
        index: index.into(),
        validator_index: 7,
        address: Address::repeat_byte(index + 1),
        amount: 1_000 + u64::from(index),
    });
    let attributes = Attributes {
        timestamp: parent.block.header.timestamp + 12,
        gas_limit: parent.block.header.gas_limit,
        withdrawals: Withdrawals::new(list.collect()),
        ..Default::default()
    };
    let sealed = alloy_primitives::Sealed::new_unchecked(parent.block.header.clone(), parent.hash);
    let mut state = program::state::State::from_source(root, Recorder::new(&store));
    let built = BlockBuilder::new(chain.config(), &sealed, &attributes, &mut state)
        .unwrap()
        .finish()
        .unwrap();
    let recorded = Recorded::new(state, 1);
    let input = Input {
        config: chain.config().clone(),
        terms: program::Terms::default(),
        headers: vec![alloy_rlp::encode(&parent.block.header).into()],
        blocks: vec![alloy_rlp::encode(&built.block).into()],
        codes: recorded.codes,
        nodes: recorded.nodes,
    };
    Honest::new(input, root)
}

/// Small recorded real blocks; none if the folder is absent.
#[expect(clippy::print_stdout, reason = "a test that skips something says so")]
fn real() -> Vec<(Vec<u8>, Statement)> {
    let Some(folder) = std::env::var_os("L2_PROVER_DATA") else {
        println!("skipped: L2_PROVER_DATA is not set, so there are no real blocks");
        return Vec::new();
    };
    ["1-22615247", "1-19426587"]
        .map(|name| {
            let path = std::path::Path::new(&folder).join(format!("blocks/{name}.json.zst"));
            let prepared =
                witness::file::read(path).unwrap().prepare(&ChainConfig::mainnet()).unwrap();
            (prepared.input, prepared.statement)
        })
        .into()
}

#[derive(Default)]
struct Table(BTreeMap<String, BTreeMap<String, usize>>);

impl Table {
    fn count(&mut self, change: impl Into<String>, outcome: String) {
        *self.0.entry(change.into()).or_default().entry(outcome).or_default() += 1;
    }

    fn render(&self) -> String {
        let mut text = String::from("| change | outcome | times |\n|---|---|---|\n");
        for (change, outcomes) in &self.0 {
            for (outcome, times) in outcomes {
                text += &format!("| {change} | {outcome} | {times} |\n");
            }
        }
        text
    }
}

#[test]
fn every_change_of_a_generated_block_is_refused_or_changes_nothing() {
    let mut table = Table::default();
    for honest in [traffic(), withdrawals()] {
        witness_items(&honest, &mut table);
        fields(&honest, &mut table);
        encodings(&honest, &mut table);
    }
    let head = "# Which check refuses which change\n\nWritten by `UPDATE_EXPECT=1 cargo nextest run -E 'test(every_change_of_a_generated_block)'`; \
        see [conformance.md](conformance.md#mutations).\n\n";
    expect_file!["../../../docs/mutations.md"].assert_eq(&format!("{head}{}", table.render()));
}

type List = fn(&mut Input) -> &mut Vec<Bytes>;
const LISTS: [(&str, List); 4] = [
    ("witness node", |input| &mut input.nodes),
    ("witness code", |input| &mut input.codes),
    ("ancestor header", |input| &mut input.headers),
    ("block", |input| &mut input.blocks),
];

fn witness_items(honest: &Honest, table: &mut Table) {
    for (what, list) in LISTS {
        let items = list(&mut honest.input.clone()).len();
        for index in 0..items {
            table.count(
                format!("{what}: dropped"),
                honest.outcome(|input| drop(list(input).remove(index))),
            );
            table.count(
                format!("{what}: given twice"),
                honest.outcome(|input| {
                    let item = list(input)[index].clone();
                    list(input).insert(index, item);
                }),
            );
            table.count(
                format!("{what}: swapped with its neighbour"),
                honest.outcome(|input| list(input).swap(index, (index + 1) % items)),
            );
            for at in [0, 1, 2] {
                table.count(
                    format!("{what}: a bit flipped"),
                    honest.outcome(|input| {
                        let item = &mut list(input)[index];
                        let mut bytes = item.to_vec();
                        let place = at * (bytes.len() - 1) / 2;
                        bytes[place] ^= 1 << (index % 8);
                        *item = bytes.into();
                    }),
                );
            }
            table.count(
                format!("{what}: a byte longer"),
                honest.outcome(|input| {
                    let item = &mut list(input)[index];
                    *item = [item, [0u8].as_slice()].concat().into();
                }),
            );
            table.count(
                format!("{what}: a byte shorter"),
                honest.outcome(|input| {
                    let item = &mut list(input)[index];
                    *item = item.slice(..item.len() - 1);
                }),
            );
        }
        table.count(
            format!("{what}: one added"),
            honest.outcome(|input| list(input).push(Bytes::from_static(b"\xc2\x80\x80"))),
        );
    }
}

/// Changes every leaf of a block's RLP in several ways: once alone, and once with the roots of transactions and
/// withdrawals adjusted, so that the change reaches the checks behind them.
fn fields(honest: &Honest, table: &mut Table) {
    let block = Rlp::decode(&honest.input.blocks[0]).unwrap();
    for path in block.leaves() {
        for change in rlp::CHANGES {
            let Some(changed) = block.changed(&path, change) else { continue };
            let what = rlp::describe(&block, &path);
            let outcome = honest.outcome(|input| input.blocks[0] = changed.encode().into());
            table.count(what.clone(), outcome);
            if path[0] != 0
                && let Some(fitting) = with_fitting_roots(&changed)
            {
                let outcome = honest.outcome(|input| input.blocks[0] = fitting.encode().into());
                table.count(format!("{what}, roots made to fit"), outcome);
            }
        }
    }
}

fn with_fitting_roots(block: &Rlp) -> Option<Rlp> {
    let Rlp::List(mut items) = block.clone() else { return None };
    let Rlp::List(transactions) = &items[1] else { return None };
    let transactions: Vec<Vec<u8>> = transactions
        .iter()
        .map(|transaction| match transaction {
            Rlp::Typed(..) => transaction.payload(),
            other => other.encode(),
        })
        .collect();
    let transactions = ordered_trie_root_encoded(&transactions);
    let withdrawals: Withdrawals =
        alloy_rlp::Decodable::decode(&mut items[3].encode().as_slice()).ok()?;
    let Rlp::List(header) = &mut items[0] else { return None };
    header[4] = Rlp::Bytes(transactions.to_vec());
    header[16] = Rlp::Bytes(calculate_withdrawals_root(&withdrawals).to_vec());
    Some(Rlp::List(items))
}

fn encodings(honest: &Honest, table: &mut Table) {
    let whole = honest.input.encode(honest.pre_state_root).unwrap();
    let judge = |bytes: &[u8]| compare(bytes, &honest.statement).0;
    for length in (0..whole.len()).step_by(97) {
        table.count("encoding: cut short", judge(&whole[..length]));
    }
    for extra in 1..=8 {
        let mut longer = whole.clone();
        longer.resize(whole.len() + extra, 0);
        table.count("encoding: extended", judge(&longer));
    }
    for at in (0..whole.len()).step_by(31) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        table.count("encoding: a bit flipped", judge(&flipped));
    }
}

/// Encoded inputs and their statements.
static HONEST: LazyLock<Vec<(Vec<u8>, Statement)>> = LazyLock::new(|| {
    let generated = [traffic(), withdrawals()]
        .map(|honest| (honest.input.encode(honest.pre_state_root).unwrap(), honest.statement));
    generated.into_iter().chain(real()).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes of the encoding are overwritten, removed or inserted anywhere.
    #[test]
    fn no_edit_of_an_encoding_gives_another_statement(
        which in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        removed in 0usize..40,
        inserted in proptest::collection::vec(any::<u8>(), 0..40),
        aligned in any::<bool>(),
    ) {
        let (encoded, honest) = &HONEST[which.index(HONEST.len())];
        let mut at = at.index(encoded.len());
        if aligned {
            at -= at % 4;
        }
        let mut edited = encoded.clone();
        edited.splice(at..(at + removed).min(encoded.len()), inserted);
        compare(&edited, honest);
    }
}

/// The checks that no single change of these blocks can reach, and the tests that reach them.
const ELSEWHERE: [(&str, &str); 20] = [
    ("ProofOfWork", "devnode: a_block_before_the_merge_is_refused"),
    ("ForkField", "devnode: fields_of_another_fork_are_refused"),
    ("ExtraData", "devnode: a_header_that_breaks_any_rule_is_refused"),
    ("GasUsedAboveLimit", "devnode: a_header_that_breaks_any_rule_is_refused"),
    (
        "GasLimitBounds",
        "devnode: an_assumed_parent_skips_the_rules_against_the_parent_and_no_others",
    ),
    ("BlockSize", "official tests of EIP-7934"),
    ("BlobGasAboveLimit", "official tests of EIP-4844"),
    ("SystemCall", "official tests of EIP-7002 and EIP-7251"),
    ("Deposit", "official tests of EIP-6110"),
    ("GasAllowance", "official tests of the block gas limit"),
    ("Account", "program: a_leaf_that_is_no_account_or_no_number_is_refused"),
    ("Slot", "program: a_leaf_that_is_no_account_or_no_number_is_refused"),
    ("BadNode", "program: nodes_that_no_trie_of_hashed_keys_has_are_refused"),
    ("BadValue", "program: an_empty_value_is_not_a_removal"),
    ("Statement", "program: of a statement that is decoded, not of an input"),
    ("TooLarge", "of the host's encoder, which no proof passes through"),
    ("Execution", "of an executor that fails for no reason of the block's: none is known"),
    ("Block", "of every violation"),
    ("Bound", "program: bounds are named; conformance: extremes"),
    (
        "CreatedOverStorage",
        "of an executor that creates an account where there is storage: ours does not",
    ),
];

#[test]
fn a_check_that_no_change_exercises_is_tested_elsewhere() {
    let table = include_str!("../../../docs/mutations.md");
    let seen: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.split('|').nth(2))
        .flat_map(str::split_whitespace)
        .collect();
    let checks = Violation::VARIANTS.iter().chain(Error::VARIANTS).chain(TrieError::VARIANTS);
    for check in checks {
        let elsewhere = ELSEWHERE.iter().find(|(name, _)| name == check);
        assert_ne!(seen.contains(check), elsewhere.is_some(), "{check}");
    }
}
