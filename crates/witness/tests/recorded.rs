//! What real clients answered: blocks 36 to 45 of the public test chain of ethereum/execution-apis, each with the witness that geth gives
//! (headers as objects, `keys` null, absent accounts left out) and with the canonical one. From the folder that `L2_PROVER_DATA` names.

mod support;

use alloy_genesis::Genesis;
use program::{BlockSummary, ChainConfig, Statement};
use std::path::PathBuf;
use support::text;
use witness::file;

fn recorded() -> Option<(PathBuf, ChainConfig)> {
    let data = std::env::var_os("L2_PROVER_DATA");
    #[expect(
        clippy::print_stderr,
        reason = "whoever reads the tests' output should know what did not run"
    )]
    let Some(data) = data else {
        eprintln!("skipped: L2_PROVER_DATA is not set, so there are no recorded answers to run");
        return None;
    };
    let folder = PathBuf::from(data).join("recorded");
    let genesis = std::fs::read(folder.join("genesis.json")).unwrap();
    let genesis: Genesis = serde_json::from_slice(&genesis).unwrap();
    Some((folder, ChainConfig::try_from(&genesis.config).unwrap()))
}

#[test]
fn each_client_s_witnesses_give_the_same_statement() {
    let Some((folder, config)) = recorded() else { return };
    let blocks = |client: &str| -> Vec<(Statement, Vec<BlockSummary>)> {
        let block = |number: u64| {
            let file = file::read(folder.join(format!("{client}-{number}.json"))).unwrap();
            let prepared = file.prepare(&config);
            let prepared =
                prepared.unwrap_or_else(|error| panic!("{client} {number}: {}", text(&error)));
            assert_eq!(program::run(&prepared.input).unwrap(), prepared.statement);
            (prepared.statement, prepared.blocks)
        };
        (36..=45).map(block).collect()
    };
    let (geth, canonical) = (blocks("geth"), blocks("canonical"));
    assert_eq!(geth, canonical);
    for pair in geth.windows(2) {
        assert_eq!(pair[0].0.post_state_root, pair[1].0.pre_state_root);
    }
}

#[test]
fn ten_recorded_blocks_are_one_batch() {
    let Some((folder, config)) = recorded() else { return };
    let batch = |client: &str| {
        let read =
            |number: u64| file::read(folder.join(format!("{client}-{number}.json"))).unwrap();
        let files: Vec<_> = (36..=45).map(read).collect();
        file::prepare_batch(&files, &config).unwrap_or_else(|error| panic!("{}", text(&error)))
    };
    let (geth, canonical) = (batch("geth"), batch("canonical"));
    assert_eq!(geth.statement, canonical.statement);
    assert_eq!((geth.statement.first_number, geth.statement.last_number), (36, 45));
}
