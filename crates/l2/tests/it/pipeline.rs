//! The whole pipeline with the exec prover, as a user runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::Output;

use protocol::{JobState, Status};
use serde_json::{Value, json};

use crate::common::{Service, free_port, json_lines, rpc, run, status_when, text};

/// Two clients prove so many blocks of a dev chain.
fn dev(blocks: &str, block_time: &str, more: &[&str]) -> Output {
    let args = ["dev", "--prover", "exec", "--blocks", blocks, "--block-time", block_time];
    run(&[&args[..], &["--clients", "2", "--node-port", "0", "--server-port", "0", "--json"], more]
        .concat())
}

#[test]
fn dev_proves_blocks_and_ends() {
    let output = dev("3", "1s", &[]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("prove NOTHING"), "a mock must be said loudly: {stderr}");
    let lines = json_lines(&output.stdout);
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert_eq!((&first["event"], &first["clients"]), (&json!("started"), &json!(2)));
    assert_eq!((&last["event"], &last["proves_nothing"]), (&json!("finished"), &json!(true)));
    assert!(last["blocks"].as_u64() >= Some(3), "{last}");
    let proved: BTreeSet<_> = lines
        .iter()
        .filter(|line| line["state"] == "proved")
        .filter_map(|line| line["block_numbers"]["first"].as_u64())
        .collect();
    assert!(proved.is_superset(&BTreeSet::from([1, 2, 3])), "{proved:?}");
}

#[test]
fn dev_finds_a_port_where_the_usual_one_is_taken() {
    // By this test, or by another server of this machine.
    let _taken = TcpListener::bind("127.0.0.1:3900");
    let dev = ["dev", "--prover", "exec", "--blocks", "1", "--block-time", "500ms"];
    let output = run(&[&dev[..], &["--node-port", "0", "--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let started = &json_lines(&output.stdout)[0];
    let server = text(started, "server");
    assert!(!server.ends_with(":3900"), "{server}");
    assert_eq!(text(started, "dashboard"), format!("{server}/"));
}

#[test]
fn dev_proves_blocks_in_parts() {
    let output = dev("6", "500ms", &["--split", "--split-segment-po2", "16"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let lines = json_lines(&output.stdout);
    let proved = |work: &str, what: fn(&Value) -> Option<String>| {
        let of = |line: &&Value| work.is_empty() || line["part"]["work"] == work;
        let parts =
            lines.iter().filter(|line| line["part"].is_object() && line["state"] == "proved");
        parts.filter(of).filter_map(what).collect::<BTreeSet<_>>()
    };
    // Who is called first may take all segments of a run as short as these: the other has its keccak parts meanwhile.
    let clients = proved("", |line| line["client"].as_str().map(str::to_owned));
    assert_eq!(clients.len(), 2, "both clients prove parts: {lines:?}");
    // Who is known to prove this fast gets all keccak batches at once: nothing is left to unite.
    for (work, least) in [("segments", 6), ("keccak", 6), ("unite", 1), ("finish", 6)] {
        let blocks = proved(work, |line| Some(line["block_numbers"]["first"].to_string()));
        assert!(blocks.len() >= least, "{least} blocks have proofs of {work}: {lines:?}");
    }
}

#[test]
fn dev_folds_proofs_and_makes_proofs_for_contracts() {
    let output = dev("4", "500ms", &["--aggregate", "2", "--groth16"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let lines = json_lines(&output.stdout);
    let proved: BTreeSet<_> = lines
        .iter()
        .filter(|line| line["kind"] == "aggregate" && line["state"] == "proved")
        .map(|line| line["block_numbers"].to_string())
        .collect();
    for blocks in [json!({"first": 1, "last": 2}), json!({"first": 3, "last": 4})] {
        assert!(proved.contains(&blocks.to_string()), "{proved:?}");
    }
    let groth16 = |line: &Value| line["kind"] == "groth16" && line["block_numbers"]["first"] == 1;
    assert!(lines.iter().any(groth16), "{lines:?}");
}

/// Proofs by exec of three consecutive batches are the statements themselves.
#[test]
fn proofs_are_folded_in_order_and_in_no_other() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../verifier/tests/fixtures/dev-block.json");
    let fixture = std::fs::read_to_string(fixture).expect("it is checked in");
    let fixture: Value = serde_json::from_str(&fixture).expect("JSON");
    let first = alloy_primitives::hex::decode(text(&fixture, "public_values")).expect("digits");
    let mut statement = program::Statement::abi_decode(&first).expect("a statement");
    let mut proofs = Vec::new();
    for block in 1..=3_u8 {
        proofs.push(file(&block.to_string()));
        std::fs::write(&proofs[proofs.len() - 1], statement.abi_encode()).expect("written");
        let next = program::Statement {
            parent_hash: statement.last_hash,
            last_hash: alloy_primitives::B256::repeat_byte(block),
            first_number: statement.last_number + 1,
            last_number: statement.last_number + 1,
            pre_state_root: statement.post_state_root,
            ..statement
        };
        statement = next;
    }
    let out = file("folded");
    let fold = |these: &[usize]| {
        let these: Vec<_> = these.iter().map(|at| proofs[*at].as_str()).collect();
        run(&[&["fold", "--prover", "exec", "--out", &out, "--json"], &these[..]].concat())
    };
    for these in [&[0, 2][..], &[1, 0], &[0, 0]] {
        let output = fold(these);
        let error = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        assert!(!output.status.success());
        assert!(
            error.contains("does not continue") && error.contains("(blocks 1 to 1)"),
            "{error}"
        );
        assert!(!std::path::Path::new(&out).exists());
    }
    let output = fold(&[0, 1, 2]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verified = run(&["verify", &out, "--danger-accept-exec", "--json"]);
    let verified = &json_lines(&verified.stdout)[0];
    assert_eq!(
        (&verified["statement"]["first_number"], &verified["statement"]["last_number"]),
        (&json!(1), &json!(3))
    );
}

fn real_proof(name: &str) -> String {
    format!("{}/../verifier/tests/fixtures/{name}.proof", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_real_folded_proof_is_verified() {
    let verified = run(&["verify", &real_proof("folded"), "--chain", "dev", "--json"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let verified = &json_lines(&verified.stdout)[0];
    assert_eq!(
        (&verified["statement"]["first_number"], &verified["statement"]["last_number"]),
        (&json!(1), &json!(3))
    );
}

#[test]
fn a_real_proof_of_a_program_that_was_pinned_before_is_refused_unless_that_is_named() {
    let program = "0x0aed5b68e82d22348da01fb1c94ed44837043d266233045acf39a4ee28b061c2";
    let proof = real_proof("mainnet-22615247");
    let refused = run(&["verify", &proof, "--chain", "mainnet"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains(program), "{said}");
    let verified =
        run(&["verify", &proof, "--chain", "mainnet", "--program-id", program, "--json"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(json_lines(&verified.stdout)[0]["program_id"], json!(program));
}

#[test]
fn sigterm_ends_every_service_in_order() {
    let (mut node, started) = Service::start(&["node", "--node-port", "0"]);
    let url = text(&started, "node");
    let folder = tempfile::tempdir().expect("temporary folder");
    let (server_data, client_data) = (folder.path().join("server"), folder.path().join("client"));
    let (mut server, started) = Service::start(&[
        "server",
        "--prover",
        "exec",
        "--danger-accept-exec",
        "--rpc-url",
        &url,
        "--listen-port",
        "0",
        "--data-dir",
        &server_data.display().to_string(),
    ]);
    let (mut client, _) = Service::start(&[
        "client",
        "--prover",
        "exec",
        "--server",
        &text(&started, "server"),
        "--data-dir",
        &client_data.display().to_string(),
    ]);
    assert_eq!(
        (client.terminate(), server.terminate(), node.terminate()),
        (Some(0), Some(0), Some(0))
    );
}

#[tokio::test]
async fn a_killed_server_skips_no_block_and_lets_none_be_proven_twice() {
    const BLOCKS: u64 = 40;
    let (_node, started) = Service::start(&["node", "--node-port", "0", "--block-time", "1h"]);
    let node = text(&started, "node");
    for _ in 0..BLOCKS {
        rpc(&node, "evm_mine").await;
    }

    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let (port, server_data) = (port.to_string(), path("server"));
    let start_server = || {
        let arguments = [
            "server",
            "--prover",
            "exec",
            "--danger-accept-exec",
            "--lease",
            "4s",
            "--rpc-url",
            &node,
            "--listen-port",
            &port,
            "--data-dir",
            &server_data,
        ];
        Service::start(&arguments).0
    };

    let mut server = start_server();
    let clients = [path("client-1"), path("client-2")];
    let _clients = clients.map(|data| {
        Service::start(&["client", "--prover", "exec", "--server", &endpoint, "--data-dir", &data])
            .0
    });

    // Killed again and again, each time with jobs under way, until everything is proven.
    let mut acknowledged = BTreeMap::new();
    for goal in [3, 10, 20, BLOCKS] {
        let status = status_when(&endpoint, |status| status.counts.proved >= goal).await;
        keep_acknowledged(&mut acknowledged, &status);
        if goal < BLOCKS {
            server.kill();
            server = start_server();
        }
    }
    let status = status_when(&endpoint, |status| status.proved_through == Some(BLOCKS)).await;
    keep_acknowledged(&mut acknowledged, &status);
    let blocks: Vec<_> = acknowledged.keys().copied().collect();
    assert_eq!(blocks, (1..=BLOCKS).collect::<Vec<_>>(), "a block was skipped");
    assert_eq!(status.jobs.len() as u64, BLOCKS, "a block has two jobs");
    let proofs: u64 = status.clients.iter().map(|client| client.proved).sum();
    assert_eq!(proofs, BLOCKS, "a block was proven twice: {:?}", status.clients);
    assert_eq!(server.terminate(), Some(0));
}

/// Remembers the proved jobs, and that none of those remembered has changed.
fn keep_acknowledged(acknowledged: &mut BTreeMap<u64, Value>, status: &Status) {
    for job in status.jobs.iter().filter(|job| job.state == JobState::Proved) {
        let facts = json!([job.job, job.client, job.proof, job.leased_at, job.finished_at]);
        let block = job.block_numbers.first();
        let before = acknowledged.entry(block).or_insert_with(|| facts.clone());
        assert_eq!(
            *before, facts,
            "block {block} was proven again after its proof was acknowledged"
        );
    }
}
