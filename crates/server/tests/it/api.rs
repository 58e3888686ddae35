//! Endpoints under hostile and mistaken input: a typed refusal, and nothing changed.

use crate::common::{Chain, config, serve};
use protocol::{ApiError, ArtifactId, ArtifactRef, ErrorCode};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use server::{Config, Error, Server};

const ID: &str = "00112233445566778899aabbccddeeff";

async fn refused(
    http: &Client,
    method: Method,
    url: String,
    body: impl Into<reqwest::Body>,
) -> (StatusCode, ErrorCode) {
    let answer = http.request(method, url).body(body).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    let error: ApiError =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {status} {text}"));
    (status, error.code)
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_with_its_reason() {
    use ErrorCode::{
        LeaseLost, Malformed, NoSuchArtifact, NoSuchEndpoint, NoSuchJob, TooLarge, UnknownMessage,
    };
    let dir = tempfile::tempdir().unwrap();
    let running = serve(config(dir.path()), &Chain::new(1)).await;
    let (http, url) = (Client::builder().no_proxy().build().unwrap(), running.url());
    crate::common::until("there is a job", async || {
        !running.status().await.unwrap().jobs.is_empty()
    })
    .await;
    let before = running.status().await.unwrap();
    let job = before.jobs[0].job;

    let beat = json!({"type": "Heartbeat", "client": ID, "lease": ID}).to_string();
    let fail =
        json!({"type": "Fail", "client": ID, "lease": ID, "class": "timeout", "message": ""})
            .to_string();
    let submit = json!({"type": "Submit", "client": ID, "lease": ID, "system": "exec", "kind": "composite",
        "program_id": format!("0x{}", "00".repeat(32)), "proof": ArtifactRef::of(b"never uploaded")})
    .to_string();
    let posts = [
        ("/v1/request".into(), "{".into(), 400, Malformed),
        ("/v1/request".into(), String::new(), 400, Malformed),
        ("/v1/request".into(), "[".repeat(50_000), 400, Malformed),
        ("/v1/request".into(), r#"{"type":"Request"}"#.into(), 400, Malformed),
        ("/v1/request".into(), r#"{"type":"Payment","amount":9}"#.into(), 400, UnknownMessage),
        ("/v1/request".into(), beat.clone(), 400, UnknownMessage),
        ("/v1/request".into(), format!("{{\"type\":\"{}\"}}", "x".repeat(70_000)), 413, TooLarge),
        (format!("/v1/jobs/{ID}/heartbeat"), beat.clone(), 404, NoSuchJob),
        (format!("/v1/jobs/{ID}/fail"), fail.clone(), 404, NoSuchJob),
        (format!("/v1/jobs/{job}/fail"), fail.clone(), 409, LeaseLost),
        (format!("/v1/jobs/{job}/submit"), submit.clone(), 409, NoSuchArtifact),
        (format!("/v1/jobs/{job}/submit"), beat.clone(), 400, UnknownMessage),
        ("/v1/jobs/..%2f..%2fetc/submit".into(), submit.clone(), 400, Malformed),
        (format!("/v1/jobs/{ID}/requeue"), String::new(), 404, NoSuchJob),
        (format!("/v1/jobs/{job}/requeue"), String::new(), 409, ErrorCode::WrongState),
        (format!("/v1/jobs/{ID}/cancel"), String::new(), 404, NoSuchJob),
        (format!("/v1/jobs/{ID}/priority"), r#"{"priority":1}"#.into(), 404, NoSuchJob),
        (format!("/v1/jobs/{job}/priority"), r#"{"priority":101}"#.into(), 400, Malformed),
        (format!("/v1/jobs/{job}/priority"), "9".into(), 400, Malformed),
        (format!("/v1/clients/{ID}/drain"), String::new(), 404, ErrorCode::NoSuchClient),
        ("/v1/clients/me/drain".into(), String::new(), 400, Malformed),
        (format!("/v1/clients/{ID}/reward"), String::new(), 404, NoSuchEndpoint),
        ("/v2/request".into(), String::new(), 404, NoSuchEndpoint),
        ("/v1/status".into(), String::new(), 404, NoSuchEndpoint),
    ];
    for (path, body, status, code) in posts {
        let shown = body.chars().take(60).collect::<String>();
        let found = refused(&http, Method::POST, format!("{url}{path}"), body).await;
        assert_eq!(found, (StatusCode::from_u16(status).unwrap(), code), "{path} {shown}");
    }
    for (path, status, code) in
        [(format!("/v1/jobs/{ID}"), 404, NoSuchJob), ("/v1/jobs?state=lost".into(), 400, Malformed)]
    {
        let found = refused(&http, Method::GET, format!("{url}{path}"), "").await;
        assert_eq!(found, (StatusCode::from_u16(status).unwrap(), code), "{path}");
    }
    let mut after = running.status().await.unwrap();
    after.now = before.now;
    assert_eq!(after, before, "nothing has changed, and nobody was counted as a client");

    assert_eq!(
        http.get(format!("{url}/livez")).send().await.unwrap().text().await.unwrap(),
        "ok\n"
    );
    running.stop().await;
}

#[tokio::test]
async fn artifacts_are_what_their_name_says() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let running =
        serve(Config { max_artifact_bytes: limit, ..config(dir.path()) }, &Chain::new(0)).await;
    let (http, url) = (Client::builder().no_proxy().build().unwrap(), running.url());
    let bytes = vec![7; usize::try_from(limit).unwrap()];
    let path = |id: ArtifactId| format!("{url}/v1/artifacts/{id}");
    let id = ArtifactId::of(&bytes);

    let found = refused(&http, Method::GET, path(id), "").await;
    assert_eq!(found, (StatusCode::NOT_FOUND, ErrorCode::NoSuchArtifact));
    let found = refused(&http, Method::PUT, path(id), "other bytes").await;
    assert_eq!(found, (StatusCode::BAD_REQUEST, ErrorCode::HashMismatch));
    let found =
        refused(&http, Method::PUT, format!("{url}/v1/artifacts/..%2f..%2fjobs.sqlite"), "x").await;
    assert_eq!(found, (StatusCode::BAD_REQUEST, ErrorCode::Malformed));
    let long = [&bytes[..], b"!"].concat();
    let found = refused(&http, Method::PUT, path(ArtifactId::of(&long)), long).await;
    assert_eq!(found, (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge));
    assert_eq!(http.get(path(id)).send().await.unwrap().status(), 404);

    for _ in 0..2 {
        assert_eq!(http.put(path(id)).body(bytes.clone()).send().await.unwrap().status(), 201);
    }
    let answer = http.get(path(id)).send().await.unwrap();
    assert_eq!(answer.content_length(), Some(limit));
    assert_eq!(answer.bytes().await.unwrap(), bytes);
    running.stop().await;
}

#[tokio::test]
async fn a_submission_must_name_the_length_of_what_was_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(config(dir.path()), &Chain::new(1)).await;
    let (http, url) = (Client::builder().no_proxy().build().unwrap(), running.url());
    crate::common::until("there is a job", async || {
        !running.status().await.unwrap().jobs.is_empty()
    })
    .await;
    let job = running.status().await.unwrap().jobs[0].job;
    let id = ArtifactId::of(b"proof");
    http.put(format!("{url}/v1/artifacts/{id}")).body("proof").send().await.unwrap();
    let submit = json!({"type": "Submit", "client": ID, "lease": ID, "system": "exec", "kind": "composite",
        "program_id": format!("0x{}", "00".repeat(32)), "proof": {"sha256": id, "len": 6}});
    let found =
        refused(&http, Method::POST, format!("{url}/v1/jobs/{job}/submit"), submit.to_string())
            .await;
    assert_eq!(found, (StatusCode::BAD_REQUEST, ErrorCode::Malformed));
    running.stop().await;
}

#[tokio::test]
async fn a_client_whose_proofs_would_be_refused_gets_no_job() {
    let dir = tempfile::tempdir().unwrap();
    let strict = Config {
        system: protocol::ProofSystem::Risc0,
        danger_accept_exec: false,
        ..config(dir.path())
    };
    let running = serve(strict, &Chain::new(1)).await;
    let http = Client::builder().no_proxy().build().unwrap();
    let revoked = alloy_primitives::B256::new(verifier::REVOKED[0].id);
    for (system, program_id, mocked, reason) in [
        ("exec", alloy_primitives::B256::ZERO, true, "mocked_proofs_refused"),
        ("risc0", alloy_primitives::B256::ZERO, true, "mocked_proofs_refused"),
        ("risc0", revoked, false, "program_revoked"),
    ] {
        let request = json!({"type": "Request", "client": ID,
            "capabilities": [{"system": system, "program_id": program_id, "mocked": mocked}]});
        let answer =
            http.post(format!("{}/v1/request", running.url())).json(&request).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((&answer["type"], &answer["reason"]), (&"NoWork".into(), &reason.into()));
    }
    running.stop().await;
}

#[tokio::test]
async fn a_server_says_why_it_cannot_start() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(0);
    let running = serve(config(dir.path()), &chain).await;

    let port = running.addr().port();
    let other =
        Config { listen_port: port, data_dir: dir.path().join("other"), ..config(dir.path()) };
    let error = Server::start(other, Some(chain.clone())).await.unwrap_err();
    assert!(matches!(&error, Error::AddressInUse(addr) if *addr == running.addr()), "{error}");

    let error = Server::start(config(dir.path()), Some(chain.clone())).await.unwrap_err();
    assert!(matches!(&error, Error::FolderInUse(path) if path.ends_with("server")), "{error}");
    running.stop().await;

    std::fs::write(dir.path().join("server/jobs.sqlite"), "x".repeat(5_000)).unwrap();
    let error = Server::start(config(dir.path()), Some(chain)).await.unwrap_err();
    assert!(error.to_string().contains("jobs.sqlite is damaged"), "{error}");
}

/// The most memory this process has held, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_300_mb_artifact_passes_through_in_less_than_64_mb() {
    use futures::StreamExt;
    use sha2::{Digest, Sha256};
    const PIECES: usize = 300;
    static PIECE: [u8; 1_000_000] = [0x5a; 1_000_000];

    let mut hash = Sha256::new();
    (0..PIECES).for_each(|_| hash.update(PIECE));
    let id = ArtifactId::from_bytes(hash.finalize().into());
    let dir = tempfile::tempdir().unwrap();
    let running = serve(config(dir.path()), &Chain::new(0)).await;
    let http = Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/artifacts/{id}", running.url());
    assert_eq!(http.get(&url).send().await.unwrap().status(), 404);
    let idle = peak_memory();

    let pieces = (0..PIECES).map(|_| Ok::<_, std::io::Error>(&PIECE[..]));
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    assert_eq!(http.put(&url).body(body).send().await.unwrap().status(), 201);
    let mut found = Sha256::new();
    let mut pieces = http.get(&url).send().await.unwrap().bytes_stream();
    while let Some(piece) = pieces.next().await {
        found.update(piece.unwrap());
    }
    assert_eq!(ArtifactId::from_bytes(found.finalize().into()), id);
    // The sender and the receiver live in this process too: their share is counted.
    let held = peak_memory() - idle;
    assert!(held < 64_000_000, "{held} bytes");
    running.stop().await;
}
