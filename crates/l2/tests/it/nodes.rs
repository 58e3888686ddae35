//! Nodes as a person names them: blocks fetched one by one, several nodes, and what an input holds.

use std::sync::Arc;

use protocol::{IntakeStatus, Status};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::common::{Service, fails, json_lines, recorded, rpc, run, status_when, text};

/// A dev node with blocks 1 to `blocks`.
async fn node(blocks: u64) -> (Service, String) {
    let (node, started) =
        Service::start(&["node", "--node-port", "0", "--block-time", "1h", "--no-traffic"]);
    let url = text(&started, "node");
    for _ in 0..blocks {
        rpc(&url, "evm_mine").await;
    }
    (node, url)
}

fn report(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    json_lines(&output.stdout).pop().expect("a report")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_a_node_can_do_and_fails_if_it_is_of_no_use() {
    let (_node, url) = node(2).await;
    let ws_url = url.replacen("http", "ws", 1);
    let found = report(&["doctor", "--json", "--rpc-url", &url, "--ws-url", &ws_url]);
    assert_eq!((&found["event"], &found["usable"]), (&"examined".into(), &true.into()), "{found}");
    let ways: Vec<_> =
        found["costs"].as_array().expect("a list").iter().map(|cost| &cost["way"]).collect();
    assert_eq!(ways, ["debug_executionWitness", "eth_getProof", "any"]);
    let output = run(&["doctor", "--rpc-url", &url]);
    let screen = String::from_utf8(output.stdout).expect("it is UTF-8");
    assert!(screen.ends_with("its blocks can be prepared\n"), "{screen}");

    let nowhere = format!("http://127.0.0.1:1/secret-key,{url}");
    let output = run(&["doctor", "--rpc-url", &nowhere]);
    let screen = String::from_utf8(output.stdout).expect("it is UTF-8");
    assert_eq!(output.status.code(), Some(1), "{screen}");
    assert!(screen.contains("BAD   chain") && screen.contains("can NOT be prepared"), "{screen}");
    assert!(
        screen.contains("its blocks can be prepared"),
        "the other one is looked at too: {screen}"
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("blocks of 1 of 2 nodes cannot be prepared"), "{error}");
    assert!(!screen.contains("secret") && !error.contains("secret"), "{screen}{error}");
    fails(1, &["doctor", "--chain", "mainnet", "--rpc-url", &url]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_blocks_are_fetched_one_by_one_and_a_run_that_was_cut_goes_on() {
    let (_node, url) = node(3).await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (out, left) = (path("out.bin"), path("out.bin.blocks"));
    let made = report(&["witness", "--json", "--rpc-url", &url, "--block", "1..3", "--out", &out]);
    let input = std::fs::read(&out).expect("it was written");
    assert!(!std::path::Path::new(&left).exists(), "nothing is left");

    // What a run left that was cut: a block of now, and one of another time.
    std::fs::create_dir(&left).expect("created");
    let one = path("one.bin");
    report(&["witness", "--json", "--rpc-url", &url, "--block", "1", "--out", &one]);
    std::fs::write(format!("{left}/2.json.zst"), "cut").expect("written");
    let again = report(&["witness", "--json", "--rpc-url", &url, "--block", "1..3", "--out", &out]);
    assert_eq!(made["statement"], again["statement"]);
    assert_eq!(std::fs::read(&out).expect("it was written"), input);

    // By proofs it is the same input.
    let proofs = ["--witness-from", "proofs", "--rpc-batch", "2", "--out", &one];
    let arguments = [&["witness", "--json", "--rpc-url", &url, "--block", "1..3"], &proofs[..]];
    report(&arguments.concat());
    assert_eq!(std::fs::read(&one).expect("it was written"), input);

    let found = report(&["inspect", "--json", &out]);
    assert_eq!(found["blocks"], serde_json::json!([1, 2, 3]));
    assert_eq!(found["bytes"], input.len());
    assert_eq!(found["chain_config_digest"], made["statement"]["chain_config_digest"]);
    let parts = [
        "block_bytes",
        "hint_bytes",
        "header_bytes",
        "code_bytes",
        "account_bytes",
        "storage_bytes",
    ];
    let sum: u64 = parts.iter().map(|part| found[part].as_u64().expect("a number")).sum();
    let rest = input.len() as u64 - sum;
    assert!(rest < 200, "magic, chain config and two lengths: {rest} bytes");
    std::fs::write(&one, &input[..input.len() - 1]).expect("written");
    assert!(fails(1, &["inspect", &one]).contains("truncated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_uses_the_first_node_that_works() {
    let (_node, url) = node(2).await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let (data, ws) = (dir.path().display().to_string(), url.replacen("http", "ws", 1));
    let urls = format!("http://127.0.0.1:1/secret,{url}");
    let exec = ["server", "--prover", "exec", "--danger-accept-exec", "--listen-port", "0"];
    let more = ["--data-dir", &data, "--rpc-url", &urls, "--ws-url", &ws, "--follow", "1"];
    let (_server, started) = Service::start(&[exec.as_slice(), &more].concat());
    let named = text(&started, "node");
    assert!(
        named.starts_with("http://127.0.0.1:1, http://"),
        "without what may be secret: {named}"
    );
    assert!(text(&started, "chain_config_digest").starts_with("0x"));
    let server = text(&started, "server");
    let status = status_when(&server, |status| status.last_enqueued == Some(1)).await;
    assert_eq!(status.head, Some(1), "one behind the latest");
    rpc(&url, "evm_mine").await;
    status_when(&server, |status| status.last_enqueued == Some(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_while_its_node_is_away() {
    let (mut node, url) = node(0).await;
    let port = url.rsplit(':').next().expect("it has a port").to_owned();
    node.kill();
    let dir = tempfile::tempdir().expect("temporary folder");
    let data = dir.path().display().to_string();
    let exec = ["server", "--prover", "exec", "--danger-accept-exec", "--listen-port", "0"];
    let more = ["--data-dir", &data, "--rpc-url", &url];
    let (_server, started) = Service::start(&[exec.as_slice(), &more].concat());
    let server = text(&started, "server");
    let names_it = |status: &Status| matches!(&status.intake, IntakeStatus::Retrying { error } if error.contains(&url));
    status_when(&server, names_it).await;

    let (_node, again) =
        Service::start(&["node", "--node-port", &port, "--block-time", "1h", "--no-traffic"]);
    assert_eq!(text(&again, "node"), url);
    rpc(&url, "evm_mine").await;
    status_when(&server, |status| status.last_enqueued == Some(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_node_is_answered_for_again() {
    let (mut node, url) = node(2).await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let folder = dir.path().join("recording").display().to_string();
    let execute = |url: &str, more: &[&str]| {
        let arguments = ["execute", "--json", "--rpc-url", url, "--block", "1..2"];
        report(&[&arguments[..], more].concat())["statement"].clone()
    };
    let first = execute(&url, &["--witness-from", "proofs", "--record", &folder]);
    node.kill();
    let (_replay, started) = Service::start(&["replay", &folder, "--node-port", "0"]);
    let replayed = text(&started["nodes"][0], "url");
    assert_eq!(execute(&replayed, &["--witness-from", "proofs"]), first);
    // What was not asked then is named.
    let error = fails(1, &["execute", "--rpc-url", &replayed, "--block", "7"]);
    assert!(error.contains("the recording has no answer to"), "{error}");
    let error = fails(1, &["replay", &dir.path().display().to_string()]);
    assert!(error.contains("holds no recording"), "{error}");
}

/// Ends TLS before `target`, with a certificate of an authority made for it. Returns its port and the authority's certificate.
async fn behind_tls(target: String) -> (u16, String) {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    let own_key = key();
    let certificate = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = certificate.signed_by(&own_key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(own_key.serialize_der()).into(),
        )
        .expect("they belong together");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                let mut outside = acceptor.accept(stream).await?;
                let mut inside = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside).await
            });
        }
    });
    (port, issuer.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_tls_is_followed_if_its_authority_is_known() {
    let (_node, url) = node(1).await;
    let (port, authority) = behind_tls(url.replacen("http://", "", 1)).await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let ca = path("ca.pem");
    std::fs::write(&ca, authority).expect("written");
    let (data, http, ws) =
        (path("server"), format!("https://localhost:{port}"), format!("wss://localhost:{port}"));
    let exec = ["server", "--prover", "exec", "--danger-accept-exec", "--listen-port", "0"];
    // Not asked within the test's patience: the news come over the WebSocket.
    let config = path("server.toml");
    std::fs::write(&config, "poll_interval = '1h'\n").expect("written");
    let more = ["--config", &config, "--data-dir", &data, "--rpc-url", &http, "--ws-url", &ws];
    let arguments = [exec.as_slice(), &more].concat();
    let (_server, started) = Service::start_with(&arguments, &[("SSL_CERT_FILE", &ca)]);
    let server = text(&started, "server");
    status_when(&server, |status| status.last_enqueued == Some(1)).await;
    rpc(&url, "evm_mine").await;
    status_when(&server, |status| status.last_enqueued == Some(2)).await;

    let arguments = ["execute", "--prover", "exec", "--rpc-url", &http, "--block", "1"];
    assert!(fails(1, &arguments).contains("certificate"), "nobody vouches for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_tell_its_chain_says_what_to_do() {
    let (_node, url) = node(1).await;
    let arguments = ["execute", "--rpc-url", &url, "--block", "1", "--chain", "node"];
    let error = fails(1, &arguments);
    assert!(error.contains("has no eth_config") && error.contains("genesis file"), "{error}");
    let error = fails(1, &[&arguments[..5], &["--chain", "anvil"]].concat());
    assert!(error.contains("of chain 1337") && error.contains("chain 31337"), "{error}");
}

#[test]
fn two_blocks_share_what_they_share() {
    let (Some(one), Some(two)) = (recorded("1-24628607.json.zst"), recorded("1-24628608.json.zst"))
    else {
        return;
    };
    let files = [one.display().to_string(), two.display().to_string()];
    let found = report(&["inspect", "--json", &files[0], &files[1]]);
    let bytes = |value: &Value| value.as_u64().expect("a number");
    let (batch, sharing) = (bytes(&found["bytes"]), &found["sharing"]);
    assert!(batch < bytes(&sharing["single_bytes"]), "{found}");
    assert!(batch < bytes(&sharing["witness_bytes"]), "{found}");
    assert_eq!(found["accounts"].as_array().expect("a list").len(), 10);
}
