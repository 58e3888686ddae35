//! Input that is malformed, oversized, said twice or about somebody else's things: a typed answer, and not one row changes.

use crate::common::{Chain, config, everything, http, serve, until};
use protocol::{ApiError, ArtifactId, ArtifactRef, ErrorCode, ProofData};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const ID: &str = "00112233445566778899aabbccddeeff";

/// Sends `body` and wants a refusal of the protocol's own kind.
async fn refused(method: &Method, url: &str, body: &[u8]) -> (StatusCode, ErrorCode) {
    let answer = http().request(method.clone(), url).body(body.to_vec()).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
    let error = serde_json::from_str::<ApiError>(&text);
    let error =
        error.unwrap_or_else(|error| panic!("{method} {url} {shown}: {status} {text}: {error}"));
    assert!(error.message.len() < 1_000, "{url} {shown}: nobody fills a log with our answers");
    assert!(status.is_client_error(), "{method} {url} {shown}: {status} {text}");
    (status, error.code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_endpoint_is_changed_by_what_it_cannot_understand() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let running = serve(config.clone(), &Chain::new(1)).await;
    until("there is a job", async || !running.status().await.unwrap().jobs.is_empty()).await;
    let job = running.status().await.unwrap().jobs[0].job.to_string();
    let before = everything(&config).await;

    let deep = "[".repeat(60_000);
    let bodies: [&[u8]; 12] = [
        b"",
        b"\0\0\0\0",
        b"\xff\xfe\xfd",
        b"{",
        b"null",
        b"{\"type\":null}",
        b"{\"type\":\"SubmitAck\",\"verdict\":\"accepted\"}",
        b"{\"type\":\"Request\",\"client\":\"../../etc/passwd\",\"capabilities\":[]}",
        b"{\"priority\":1e999}",
        b"{\"priority\":99999999999999999999}",
        deep.as_bytes(),
        &[b' '; 70_000],
    ];
    let names = [
        "..%2f..%2fjobs.sqlite",
        "%00",
        "%ff%fe",
        "A%22%0a",
        &ID.to_uppercase(),
        &"0".repeat(3_000),
    ];
    for endpoint in server::http::endpoints::endpoints() {
        let url = |path: String| format!("{}{path}", running.url());
        // What needs no body is asked about things that are not there.
        let absent = endpoint
            .path
            .replace("{job}", ID)
            .replace("{client}", ID)
            .replace("{deed}", "drain")
            .replace("{sha256}", &"0".repeat(64));
        let present = endpoint.path.replace("{job}", &job);
        let takes = ["request", "heartbeat", "submit", "fail", "priority"];
        if takes.iter().any(|name| endpoint.path.ends_with(name)) {
            for body in bodies {
                refused(&endpoint.method, &url(present.clone()), body).await;
            }
        }
        if endpoint.path.contains('{') {
            for body in [&bodies[..2], &[b"{\"priority\":1}"]].concat() {
                refused(&endpoint.method, &url(absent.clone()), body).await;
            }
            for name in names {
                let (start, rest) = endpoint.path.split_once('{').unwrap();
                let rest = rest.split_once('}').unwrap().1.replace("{deed}", "drain");
                refused(&endpoint.method, &url(format!("{start}{name}{rest}")), b"x").await;
            }
        }
    }
    assert_eq!(everything(&config).await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_or_is_about_others_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let running = serve(config.clone(), &Chain::new(2)).await;
    let (http, url) = (http(), running.url());
    let post = async |path: &str, body: &Value| {
        http.post(format!("{url}{path}")).json(body).send().await.unwrap()
    };
    let program_id = format!("0x{}", "00".repeat(32));
    let lease = async |client: &str| {
        let request = json!({"type": "Request", "client": client, "wait_ms": 20_000,
            "capabilities": [{"system": "exec", "program_id": program_id}]});
        let answer = post("/v1/request", &request).await.json().await.unwrap();
        let ProofData::Response(response) = answer else { panic!("{answer:?}") };
        response
    };
    let (mine, other) = ("11".repeat(16), "22".repeat(16));
    let (a, b) = (lease(&mine).await, lease(&other).await);
    let fail = |client: &str, lease: &protocol::LeaseId| json!({"type": "Fail", "client": client, "lease": lease, "class": "timeout", "message": ""});
    let (path, code) = (format!("/v1/jobs/{}/fail", a.job), async |answer: reqwest::Response| {
        answer.json::<ApiError>().await.unwrap().code
    });

    // Somebody else's lease, or one that never was.
    let before = everything(&config).await;
    let invented = protocol::LeaseId::from_bytes([9; 16]);
    for lease in [&b.lease, &invented] {
        let answer = post(&path, &fail(&mine, lease)).await;
        assert_eq!(code(answer).await, ErrorCode::LeaseLost);
    }
    assert_eq!(everything(&config).await, before);

    // The right lease, said by another client; and history does not tell it.
    assert_eq!(code(post(&path, &fail(&other, &a.lease)).await).await, ErrorCode::LeaseLost);
    assert_eq!(everything(&config).await, before);
    let history = http.get(format!("{url}{}", protocol::paths::history(&a.job))).send().await;
    let history = history.unwrap().text().await.unwrap();
    assert!(history.contains(&mine) && !history.contains(&a.lease.to_string()), "{history}");

    // The same failure twice is one failure.
    assert_eq!(post(&path, &fail(&mine, &a.lease)).await.status(), 200);
    let before = everything(&config).await;
    assert_eq!(code(post(&path, &fail(&mine, &a.lease)).await).await, ErrorCode::LeaseLost);
    assert_eq!(everything(&config).await, before);

    // A proof that is not here, is another's upload of other length, or is handed in for a job that is not there.
    let proof = ArtifactRef::of(b"not a proof");
    let submit = |len: u64| {
        json!({"type": "Submit", "client": other, "lease": b.lease, "system": "exec", "kind": "composite",
            "program_id": program_id, "proof": {"sha256": proof.sha256, "len": len}})
    };
    let path = format!("/v1/jobs/{}/submit", b.job);
    let before = everything(&config).await;
    assert_eq!(code(post(&path, &submit(proof.len)).await).await, ErrorCode::NoSuchArtifact);
    let upload = format!("{url}{}", protocol::paths::artifact(&ArtifactId::of(b"not a proof")));
    assert_eq!(http.put(upload).body("not a proof").send().await.unwrap().status(), 201);
    assert_eq!(code(post(&path, &submit(proof.len + 1)).await).await, ErrorCode::Malformed);
    let nowhere = format!("/v1/jobs/{ID}/submit");
    assert_eq!(code(post(&nowhere, &submit(proof.len)).await).await, ErrorCode::NoSuchJob);
    assert_eq!(everything(&config).await, before);

    // A rejected proof stays rejected, and is counted once.
    let clients = async || {
        let mut clients = running.status().await.unwrap().clients;
        // That it was heard is all that may be new.
        clients.iter_mut().for_each(|client| client.last_seen = 0);
        clients.sort_by_key(|client| client.client);
        clients
    };
    let verdict = post(&path, &submit(proof.len)).await.json::<Value>().await.unwrap();
    assert_eq!(verdict["verdict"], "rejected");
    let before = clients().await;
    assert!(before.iter().any(|client| client.rejected == 1), "{before:?}");
    let again = post(&path, &submit(proof.len)).await.json::<Value>().await.unwrap();
    assert_eq!((again, clients().await), (verdict, before));
    running.stop().await;
}
