//! What the command says when it is called in a wrong way or given something broken: exit code 2 or 1, and a message that
//! names the thing and what to do.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::common::{fails, l2_prover, recorded, run};
use expect_test::{expect, expect_file};

#[test]
fn the_help_is_reviewed() {
    for command in [
        "",
        "dev",
        "node",
        "server",
        "client",
        "status",
        "top",
        "jobs",
        "clients",
        "settle",
        "tokens",
        "config",
        "fsck",
        "doctor",
        "prove",
        "execute",
        "verify",
        "witness",
        "inspect",
        "conformance",
        "completions",
        "man",
    ] {
        let arguments = [command, "--help"];
        let output = run(&arguments[usize::from(command.is_empty())..]);
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).expect("the help is UTF-8");
        let name = if command.is_empty() { "l2-prover" } else { command };
        expect_file![format!("help/{name}.txt")].assert_eq(&help);
    }
}

#[test]
fn a_wrong_call_exits_with_2() {
    for arguments in [
        &[][..],
        &["prove"],
        &["execute"],
        &["server"],
        &["prove", "--rpc-url", "http://127.0.0.1:1"],
        &["prove", "block.json", "--assume-parent"],
        &["execute", "--rpc-url", "http://127.0.0.1:1", "--block", "9..7"],
        &["dev", "--blocks", "0"],
        &["dev", "--prover", "sp1"],
        &["verify", "proof.bin", "--program-id", "0x12"],
    ] {
        fails(2, arguments);
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = fails(1, &["prove", "--prover", "exec", "nowhere/block.json"]);
    assert!(error.contains("nowhere/block.json"), "{error}");
    let error = fails(1, &["verify", "nowhere/proof.bin"]);
    expect![[r#"
        error: failed to read nowhere/proof.bin: No such file or directory (os error 2)
    "#]]
    .assert_eq(&error);
}

#[test]
fn a_malformed_file_is_refused_and_the_others_are_run() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut files = Vec::new();
    for (name, bytes) in [
        ("empty.json", &b""[..]),
        ("text.json", b"{\"chain\": "),
        ("list.json", b"[]"),
        ("not-zstd.json.zst", b"{}"),
        ("input.bin", b"L2P1 and then nothing"),
        ("empty.bin", b""),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        files.push(path.display().to_string());
    }
    let mut arguments = vec!["execute", "--json"];
    arguments.extend(files.iter().map(String::as_str));
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let lines = crate::common::json_lines(&output.stdout);
    assert_eq!(lines.len(), files.len(), "{lines:?}");
    for (line, file) in lines.iter().zip(&files) {
        assert_eq!(line["file"], **file);
        let error = line["error"].as_str().expect("it is refused");
        // What the program says of an input, it says in the prover as well.
        match file.ends_with(".bin") {
            true => assert!(error.ends_with(" (natively and in exec)"), "{error}"),
            false => assert!(error.contains(file.as_str()), "{error}"),
        }
    }
    assert!(String::from_utf8_lossy(&output.stderr).contains("6 of 6 files refused"));
}

#[test]
fn a_truncated_input_is_refused() {
    let Some(block) = recorded("1-22615247.json.zst") else { return };
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("input.bin").display().to_string();
    let output = run(&["witness", &block.display().to_string(), "--out", &out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(run(&["execute", &out]).status.success());
    let bytes = std::fs::read(&out).expect("written");
    std::fs::write(&out, &bytes[..bytes.len() / 2]).expect("written");
    let output = run(&["execute", &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("REFUSED"));
}

#[test]
fn another_chain_is_refused() {
    let Some(block) = recorded("1-22615247.json.zst") else { return };
    let error =
        fails(1, &["prove", "--prover", "exec", "--chain", "hoodi", &block.display().to_string()]);
    assert!(error.contains("560048"), "{error}");
    let error =
        fails(1, &["prove", "--prover", "exec", "--chain", "hodi", &block.display().to_string()]);
    assert!(error.contains("hodi") && error.contains("known chains"), "{error}");
}

#[test]
fn an_unreachable_node_is_named() {
    let url = "http://127.0.0.1:9";
    let error = fails(1, &["prove", "--prover", "exec", "--rpc-url", url, "--block", "1"]);
    assert!(error.contains(url), "{error}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let error = fails(1, &["node", "--node-port", &port]);
    assert!(error.contains(&port) && error.contains("in use"), "{error}");
    let server = ["server", "--dev-node", "--node-port", "0", "--listen-port", &port];
    let error = fails(1, &server);
    assert!(error.contains(&port) && error.contains("in use"), "{error}");
}

#[test]
fn mocked_proofs_are_refused_unless_asked_for() {
    let error = fails(
        1,
        &["server", "--dev-node", "--node-port", "0", "--listen-port", "0", "--prover", "exec"],
    );
    assert!(error.contains("danger_accept_exec"), "{error}");

    let folder = tempfile::tempdir().expect("temporary folder");
    let proof = folder.path().join("proof.bin").display().to_string();
    std::fs::write(&proof, [0; 448]).expect("written");
    let error = fails(1, &["verify", "--prover", "exec", &proof]);
    assert!(error.contains("proves nothing"), "{error}");
}

#[test]
fn a_proof_of_another_chain_or_of_other_blocks_is_refused_if_one_is_expected() {
    let dev = program::ChainConfig::dev().digest();
    let parent = alloy_primitives::B256::repeat_byte(7);
    let statement = program::Statement {
        version: program::statement::VERSION,
        chain_config_digest: dev,
        parent_hash: parent,
        last_hash: Default::default(),
        first_number: 1,
        last_number: 4,
        pre_state_root: Default::default(),
        post_state_root: Default::default(),
        deposits_digest: Default::default(),
        deposits_count: 0,
        messages_root: Default::default(),
        last_timestamp: 0,
        data_commitment: Default::default(),
        beneficiary: Default::default(),
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    let proof = folder.path().join("proof.bin").display().to_string();
    std::fs::write(&proof, statement.abi_encode()).expect("written");
    let verify = ["verify", "--danger-accept-exec", &proof];
    let parent = parent.to_string();
    for expected in [&[][..], &["--chain", "dev"], &["--parent-hash", &parent]] {
        assert!(run(&[&verify[..], expected].concat()).status.success(), "{expected:?}");
    }
    let error = fails(1, &[&verify[..], &["--chain", "mainnet"]].concat());
    assert!(error.contains(&format!("ran under the config {dev}")), "{error}");
    let other = format!("0x{}", "08".repeat(32));
    let error = fails(1, &[&verify[..], &["--parent-hash", &other]].concat()).replace('\n', " ");
    assert!(error.contains(&parent) && error.contains(&other), "{error}");
}

#[test]
fn a_signal_ends_a_command_that_waits_for_a_node_or_a_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("out").display().to_string();
    let commands: [&[&str]; 9] = [
        &["witness", "--rpc-url", &url, "--block", "1", "--out", &out],
        &["execute", "--rpc-url", &url, "--block", "1"],
        &["prove", "--rpc-url", &url, "--block", "1", "--prover", "exec", "--out", &out],
        &["server", "--rpc-url", &url, "--chain", "node", "--data-dir", &out],
        &["server", "--rpc-url", &url, "--data-dir", &out],
        &["bench", "node", "--rpc-url", &url, "--block", "1"],
        &["top", "--server", &url],
        &["status", "--server", &url],
        &["proofs", "export", "--server", &url, "--out", &out],
    ];
    for command in commands {
        let child = l2_prover(command).stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        let child = child.expect("the command can be started");
        // It has asked, and gets no answer.
        let (_silent, _) = listener.accept().expect("it connects");
        let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(kill.expect("there is a kill").success());
        let output = child.wait_with_output().expect("it is our child");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command:?}: {error}");
        assert!(error.contains("interrupted"), "{command:?}: {error}");
    }
}

#[test]
fn a_proof_of_a_revoked_program_is_refused_with_the_reason() {
    let revoked = verifier::REVOKED[0];
    let id = alloy_primitives::B256::new(revoked.id);
    let folder = tempfile::tempdir().expect("temporary folder");
    let proof = folder.path().join("proof.bin").display().to_string();
    std::fs::write(&proof, [&b"L2R0\x01\x02"[..], &revoked.id].concat()).expect("written");
    let reason = format!("program {id} is revoked, because {}", revoked.reason);
    for asked in [&["verify", &proof][..], &["verify", &proof, "--program-id", &id.to_string()]] {
        let error = fails(1, asked);
        assert!(error.replace('\n', " ").contains(&reason), "{error}");
    }
}

#[test]
fn an_address_others_may_reach_is_refused() {
    let error = fails(
        1,
        &[
            "server",
            "--dev-node",
            "--node-port",
            "0",
            "--listen-ip",
            "0.0.0.0",
            "--listen-port",
            "0",
        ],
    );
    assert!(error.contains("0.0.0.0"), "{error}");
}

#[test]
fn errors_are_json_if_asked_for() {
    let error = fails(1, &["verify", "--json", "nowhere"]);
    let error: serde_json::Value = serde_json::from_str(&error).expect("one JSON document");
    assert!(error["error"].as_str().expect("a text").contains("nowhere"));
}
