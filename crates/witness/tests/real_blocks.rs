//! The real blocks that `L2_PROVER_DATA` points to.

mod support;

use alloy_primitives::B256;
use program::{ChainConfig, consensus::Violation, trie::TrieError};
use std::path::PathBuf;
use support::text;
use witness::{BlockFile, Error, file};

/// The files in `blocks/`, or `None`, with a printed line, if there are none here.
fn blocks() -> Option<PathBuf> {
    let folder = std::env::var_os("L2_PROVER_DATA").map(|data| PathBuf::from(data).join("blocks"));
    #[expect(
        clippy::print_stderr,
        reason = "whoever reads the tests' output should know what did not run"
    )]
    if folder.is_none() {
        eprintln!("skipped: L2_PROVER_DATA is not set, so there are no real blocks to run");
    }
    folder
}

fn read(folder: &std::path::Path, name: &str) -> (BlockFile, ChainConfig) {
    let file = file::read(folder.join(format!("{name}.json.zst"))).unwrap();
    let config = ChainConfig::preset(file.chain_id()).unwrap();
    (file, config)
}

#[test]
fn blocks_of_every_fork_since_paris_reach_their_headers_state_root() {
    let Some(folder) = blocks() else { return };
    for (name, gas) in [
        ("1-15537394", 29_983_006),
        ("1-18884864", 4_266_500),
        ("1-19426587", 2_633_933),
        ("1-21230867", 3_657_314),
        ("1-22615247", 1_331_413),
        ("1-24628607", 7_372_614),
        ("1-24628608", 12_907_474),
        ("560048-1265656", 4_402_947),
    ] {
        let (file, config) = read(&folder, name);
        let prepared = file.prepare(&config).unwrap_or_else(|error| panic!("{}", text(&error)));
        assert_eq!(prepared.statement.last_hash, file.block_hash(), "{name}");
        assert_eq!(prepared.blocks[0].gas_used, gas, "{name}");
        assert_ne!(prepared.statement.post_state_root, B256::ZERO, "{name}");
    }
}

#[test]
fn two_consecutive_blocks_are_one_batch() {
    let Some(folder) = blocks() else { return };
    let (first, config) = read(&folder, "1-24628607");
    let (second, _) = read(&folder, "1-24628608");
    let alone = [&first, &second].map(|file| file.prepare(&config).unwrap());
    let batch = file::prepare_batch(&[first, second], &config)
        .unwrap_or_else(|error| panic!("{}", text(&error)));
    assert_eq!(batch.statement.pre_state_root, alone[0].statement.pre_state_root);
    assert_eq!(batch.statement.post_state_root, alone[1].statement.post_state_root);
    // Nodes and codes are revealed once.
    assert!(batch.input.len() < alone[0].input.len() + alone[1].input.len());
}

#[test]
fn a_proof_of_work_block_is_refused_as_such() {
    let Some(folder) = blocks() else { return };
    let (file, config) = read(&folder, "1-15050000");
    for result in [file.prepare(&config), file.prepare_assuming_parent(&config)] {
        match result {
            Err(Error::Refused {
                reason:
                    program::Error::Block {
                        number: 15_050_000,
                        violation: Violation::ProofOfWork { .. },
                    },
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }
}

// SOUNDNESS: the sibling that a collapsing branch needs is missing.
#[test]
fn a_block_whose_witness_lacks_a_sibling_is_refused_naming_it() {
    let Some(folder) = blocks() else { return };
    let (file, config) = read(&folder, "1-20378342");
    match file.prepare(&config) {
        Err(Error::Incomplete {
            missing: program::Error::Trie(TrieError::MissingNode { hash, .. }),
            ..
        }) => {
            assert_ne!(hash, B256::ZERO);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_without_a_parent_header_run_only_if_the_parent_is_assumed() {
    let Some(folder) = blocks() else { return };
    for name in ["1-23587691", "17000-2971845", "17000-2971846", "17000-2971847"] {
        let (file, config) = read(&folder, name);
        let error = file.prepare(&config).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Incomplete { missing: program::Error::MissingParent { .. }, .. }
            ),
            "{name}: {error:?}"
        );
        let prepared = file
            .prepare_assuming_parent(&config)
            .unwrap_or_else(|error| panic!("{name}: {}", text(&error)));
        assert_eq!(prepared.statement.last_hash, file.block_hash(), "{name}");
        assert!(program::run(&prepared.input).is_err(), "{name}");
    }
}
