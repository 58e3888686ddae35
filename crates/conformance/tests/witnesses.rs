//! Official execution witnesses (`zkevm` fixtures of execution-spec-tests), compared with what our executor asks for.
//!
//! The fixtures are of an early Amsterdam whose gas differs from that of any release of revm, so their blocks cannot be
//! reproduced. What a block reads hardly depends on gas: the transactions are executed under BPO2 rules, with only the
//! official witness to read from.
#![expect(
    clippy::print_stdout,
    reason = "how many witnesses were compared is told with --no-capture"
)]

mod support;

use alloy_consensus::{
    Header,
    transaction::{Recovered, SignerRecoverable},
};
use alloy_primitives::{Bytes, Sealed, keccak256, map::B256Set};
use conformance::{Network, fixture, source};
use program::{
    ChainConfig, Error, Input,
    build::{Attributes, BlockBuilder, PushError},
    consensus::{DecodedBlock, Violation},
    state::State,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use witness::record::{Recorded, Recorder, Store};

/// Tests whose witness deliberately holds something that nobody needs.
const SUPERFLUOUS: [(&str, Unasked); 3] = [
    ("test_validation_codes_extra_unused_bytecode", Unasked { nodes: 0, codes: 1, headers: 0 }),
    ("test_validation_state_extra_unused_trie_node", Unasked { nodes: 1, codes: 0, headers: 0 }),
    (
        "test_witness_headers_extra_unused_older_ancestor",
        Unasked { nodes: 0, codes: 0, headers: 1 },
    ),
];

#[derive(Deserialize)]
struct Test {
    config: fixture::Config,
    blocks: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    rlp: Bytes,
    execution_witness: Witness,
    /// A root (32 bytes), whether the witness suffices (1 byte), and the chain id.
    stateless_output_bytes: Bytes,
}

#[derive(Deserialize)]
struct Witness {
    state: Vec<Bytes>,
    codes: Vec<Bytes>,
    headers: Vec<Bytes>,
}

/// How many items of a witness our executor did not ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unasked {
    nodes: usize,
    codes: usize,
    headers: usize,
}

#[test]
fn official_witnesses_hold_what_we_ask_for_and_nothing_else() {
    let name = "eest-zkevm-v0.3.3.tar.zst";
    let Some(archive) = support::archive(name, "234 official witnesses") else { return };
    let (mut sufficient, mut superfluous, mut insufficient) = (0, 0, 0);
    source::read(&[archive], &mut |file| {
        let tests: BTreeMap<String, Test> = serde_json::from_slice(&file.json).unwrap();
        for (name, Test { config, blocks }) in tests {
            let config = Network::parse("BPO2").unwrap().config(&config).unwrap();
            for (index, block) in blocks.iter().enumerate() {
                let name = format!("{name}, block {}", index + 1);
                let found = unasked(&config, block);
                if block.stateless_output_bytes[32] == 0 {
                    let error = found.expect_err(&name);
                    assert!(is_about_the_witness(&error), "{name}: {error}");
                    insufficient += 1;
                    continue;
                }
                let expected = SUPERFLUOUS
                    .iter()
                    .find(|(test, _)| index + 1 == blocks.len() && name.contains(test))
                    .map_or(Unasked::default(), |(_, expected)| *expected);
                assert_eq!(found, Ok(expected), "{name}");
                superfluous += usize::from(expected != Unasked::default());
                sufficient += 1;
            }
        }
        true
    })
    .unwrap();
    println!(
        "{sufficient} witnesses suffice, {superfluous} with more than needed; {insufficient} do not"
    );
    assert_eq!((sufficient, superfluous, insufficient), (214, 3, 20));
}

fn is_about_the_witness(error: &Error) -> bool {
    matches!(
        error,
        Error::Input { .. }
            | Error::MissingParent { .. }
            | Error::MissingHeader { .. }
            | Error::BrokenHeaderChain { .. }
            | Error::MissingCode { .. }
            | Error::Trie(_)
            // The last header is not the parent's.
            | Error::Block { violation: Violation::ParentHash { .. }, .. }
    )
}

/// Executes the block's transactions on its official witness.
fn unasked(config: &ChainConfig, block: &Block) -> Result<Unasked, Error> {
    let Witness { state: nodes, codes, headers } = &block.execution_witness;
    let decoded = DecodedBlock::decode(&block.rlp).expect("the block is well-formed");
    let header = decoded.header.inner();
    let parent = headers.last().and_then(|rlp| alloy_rlp::decode_exact::<Header>(rlp).ok());
    let input = Input {
        config: config.clone(),
        terms: program::Terms::default(),
        headers: headers.clone(),
        blocks: vec![block.rlp.clone()],
        codes: codes.clone(),
        nodes: nodes.clone(),
    };
    // The program itself judges the headers; then it refuses the block because of its fork.
    let pre_state_root = parent.as_ref().map_or(header.state_root, |parent| parent.state_root);
    match input.encode(pre_state_root).and_then(|input| program::run(&input)) {
        Err(Error::Block { violation: Violation::ForkField { .. }, .. }) => {}
        refused => return Err(refused.expect_err("the program has no rules of Amsterdam")),
    }
    let parent = Sealed::new(parent.expect("the program has read it"));

    let mut store = Store::default();
    nodes.iter().for_each(|node| store.put_node(keccak256(node), node));
    codes.iter().for_each(|code| store.put_code(keccak256(code), code.clone()));
    let mut state = State::from_source(parent.state_root, Recorder::new(&store));
    let oldest = parent.number + 1 - headers.len() as u64;
    for (number, rlp) in (oldest..).zip(headers) {
        state.remember_block(number, keccak256(rlp));
    }
    build(config, &parent, &decoded, &mut state)?;
    let recorded = Recorded::new(state, header.number);
    let asked: B256Set = recorded.nodes.iter().chain(&recorded.codes).map(keccak256).collect();
    let count =
        |items: &[Bytes]| items.iter().filter(|item| !asked.contains(&keccak256(item))).count();
    Ok(Unasked {
        nodes: count(nodes),
        codes: count(codes),
        headers: usize::try_from(recorded.oldest_block - oldest).unwrap(),
    })
}

/// Builds a block of the same transactions.
fn build<'a>(
    config: &ChainConfig,
    parent: &Sealed<Header>,
    decoded: &DecodedBlock,
    state: &mut State<'a, Recorder<'a>>,
) -> Result<(), Error> {
    let (header, body) = (decoded.header.inner(), &decoded.body);
    let attributes = Attributes {
        timestamp: header.timestamp,
        beneficiary: header.beneficiary,
        prev_randao: header.mix_hash,
        gas_limit: header.gas_limit,
        extra_data: header.extra_data.clone(),
        withdrawals: body.withdrawals.clone().unwrap_or_default(),
        parent_beacon_block_root: header.parent_beacon_block_root.unwrap_or_default(),
    };
    let built = (|| {
        let mut builder = BlockBuilder::new(config, parent, &attributes, state)?;
        for transaction in &body.transactions {
            let sender = transaction.recover_signer().expect("the signature is valid");
            match builder.push(Recovered::new_unchecked(transaction, sender)) {
                Ok(()) => {}
                Err(PushError::Fatal(_)) => return Ok(()),
                Err(error) => panic!("the transaction is valid: {error}"),
            }
        }
        builder.finish().map(drop)
    })();
    // The executor passes on only a message; the state has the typed error.
    state.take_failure().map_or(built, Err)
}
