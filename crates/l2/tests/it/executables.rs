//! A zkVM's prover is an executable of its own: what the command says of one that is missing or wrong, and that it proves with the right one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::fails;

#[cfg(not(feature = "build_zkvm"))]
#[test]
fn a_missing_executable_is_told_of_with_the_command_that_builds_it() {
    for arguments in [&["dev", "--prover", "risc0"][..], &["bench", "cycles", "block.json"]] {
        let error = fails(1, arguments);
        for words in ["l2-prover-risc0 is missing", "--features build_zkvm"] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}

#[test]
fn an_executable_that_is_named_must_be_there_and_fit() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let program = folder.path().join("fake");
    let named = program.display().to_string();
    let arguments = ["dev", "--prover", "risc0", "--prover-executable", &named];
    let error = fails(1, &arguments);
    assert!(error.contains(&format!("{named} is missing")), "{error}");

    let hello = r#"{"hello":{"protocol":1,"name":"l2-prover-risc0","version":"99.0.0"}}"#;
    fs::write(&program, format!("#!/bin/sh\necho '{hello}'\nexec sleep 60\n")).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may be run");
    let error = fails(1, &arguments);
    let ours = format!("this program is version {}", env!("CARGO_PKG_VERSION"));
    for words in ["l2-prover-risc0 99.0.0", &ours, "install both from the same release"] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn an_engine_is_used_in_no_way_that_weakens_a_proof_or_gives_a_key_away() {
    for (arguments, words) in [
        (
            &["dev", "--engine", "http://engine.example"][..],
            &["engine http://engine.example is on another machine", "--danger-plain-http"][..],
        ),
        (
            &["dev", "--engine", "http://me:word@127.0.0.1:1"],
            &["the engine's URL holds a user name or a password"],
        ),
        (
            &["dev", "--engine", "http://127.0.0.1:1", "--prover", "exec"],
            &["--engine makes proofs of risc0, not of exec"],
        ),
        (
            &["dev", "--engine", "http://127.0.0.1:1", "--kind", "composite"],
            &["risc0 makes no composite proofs here: use --kind succinct"],
        ),
        (
            &["dev", "--engine", "http://127.0.0.1:1", "--dev-mode"],
            &["this program wants risc0 mocked proofs"],
        ),
    ] {
        let error = fails(1, arguments);
        for words in words {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(!error.contains("word@"), "{error}");
    }
    fails(2, &["dev", "--engine", "engine.example"]);
    fails(2, &["dev", "--engine-key-file", "key"]);
}

#[cfg(feature = "build_zkvm")]
mod built {
    use crate::common::{json_lines, l2_prover};

    #[test]
    fn dev_proves_blocks_with_risc_zero_in_an_executable_of_its_own() {
        let dev =
            ["dev", "--prover", "risc0", "--blocks", "1", "--clients", "2", "--node-port", "0"];
        let output = l2_prover(&dev)
            .args(["--server-port", "0", "--json"])
            .env("RISC0_DEV_MODE", "1")
            .output();
        let output = output.expect("the command can be started");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("dev mode: these proofs are mocked"), "{stderr}");
        let lines = json_lines(&output.stdout);
        let last = &lines[lines.len() - 1];
        assert!(last["blocks"].as_u64() >= Some(1), "{last}");
    }

    #[test]
    fn cycles_are_counted_in_the_executable() {
        let bench = ["bench", "worst", "--gas", "100000", "--json", "nothing"];
        let output = l2_prover(&bench).output().expect("the command can be started");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        let lines = json_lines(&output.stdout);
        assert!(lines[0][0]["user_cycles"].as_u64() > Some(0), "{}", lines[0]);
    }

    #[test]
    fn an_executable_started_by_hand_says_its_version_and_who_starts_it() {
        let program = assert_cmd::cargo::cargo_bin!("l2-prover-risc0");
        let output = std::process::Command::new(program).arg("--version").output();
        let output = output.expect("the executable can be started");
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(version, format!("l2-prover-risc0 {}\n", env!("CARGO_PKG_VERSION")));
    }
}
