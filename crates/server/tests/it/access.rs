//! Who may do what: every endpoint, every role, and strangers.

use crate::common::{
    Chain, Echo, client_config, config, everything, http, raw, serve, to_end, token, until,
};
use client::{Access, Client, Phase};
use protocol::{
    ApiError, Capability, ClientId, ErrorCode, Fail, FailureClass, Heartbeat, InstanceId,
    NoWorkReason, Origin, ProofData, ProofSystem, Request,
};
use reqwest::{Method, StatusCode};
use serde_json::json;
use server::{
    Config,
    access::gate::Access as May,
    config::Auth,
    config::Limits,
    tokens::{NewToken, Role, TokenError, Tokens},
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use tokio::io::AsyncWriteExt;

const ID: &str = "00112233445566778899aabbccddeeff";

fn closed(dir: &std::path::Path) -> Config {
    Config { auth: Auth::Required, ..config(dir) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_cannot_use_a_server_that_needs_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    let url = server.url();
    let send = async |method: Method, path: &str, header: (&str, &str)| {
        let request = http().request(method, format!("{url}{path}")).header(header.0, header.1);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    for (header, value) in
        [("origin", "http://evil.example"), ("origin", "null"), ("host", "evil.example:3900")]
    {
        for (method, path) in
            [(Method::POST, "/v1/drain"), (Method::GET, "/v1/status"), (Method::GET, "/livez")]
        {
            let (status, text) = send(method, path, (header, value)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{header}: {value}: {path}: {text}");
            let error: ApiError = serde_json::from_str(&text).unwrap();
            assert_eq!(error.code, ErrorCode::Forbidden);
        }
    }
    // A form or a picture of another page may come without an origin; the browser says all the same that it is of another page.
    for site in ["cross-site", "same-site"] {
        for (method, path) in [(Method::POST, "/v1/drain"), (Method::GET, "/v1/status")] {
            let (status, text) = send(method, path, ("sec-fetch-site", site)).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{site}: {path}: {text}");
        }
        // A link elsewhere may lead to the dashboard.
        assert_eq!(send(Method::GET, "/", ("sec-fetch-site", site)).await.0, StatusCode::OK);
    }
    let strange = url.replace("http:", "x-evil:");
    assert_eq!(
        send(Method::POST, "/v1/drain", ("origin", &strange)).await.0,
        StatusCode::FORBIDDEN
    );
    assert!(server.status().await.unwrap().draining_since.is_none());
    for header in [("origin", url.as_str()), ("sec-fetch-site", "same-origin"), ("x-none", "")] {
        let (status, text) = send(Method::POST, "/v1/drain", header).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{header:?}: {text}");
    }
    let port = url.rsplit(':').next().unwrap();
    let named = format!("localhost:{port}");
    assert_eq!(send(Method::GET, "/v1/status", ("host", &named)).await.0, StatusCode::OK);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_for_work_leave_room_for_heartbeats() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { requests_open: 2, ..Limits::default() };
    let config = Config { limits, ..config(dir.path()) };
    let server = serve(config.clone(), &Chain::new(0)).await;
    let url = server.url();
    let capability = Capability::new(ProofSystem::Exec, config.wanted_program_id(), false);
    let request = |wait_ms| {
        ProofData::Request(Request {
            client: ID.parse().unwrap(),
            capabilities: vec![capability.clone()],
            wait_ms,
            origin: None,
        })
    };
    let waits = || {
        let waits = http().post(format!("{url}/v1/request")).json(&request(20_000));
        tokio::spawn(waits.send())
    };
    let another = serde_json::to_string(&request(0)).unwrap();
    let mut waiting = Vec::new();
    until("another request is one too many", async || {
        // It may itself have been one too many, beside the one below.
        waiting.push(waits());
        let (status, _) = ask(&url, &Method::POST, "/v1/request", None, &another).await;
        status == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    let (client, lease) = (ID.parse().unwrap(), ID.parse().unwrap());
    let beat = ProofData::Heartbeat(Heartbeat { client, lease, progress: None, instance: None });
    let beat = serde_json::to_string(&beat).unwrap();
    let path = format!("/v1/jobs/{ID}/heartbeat");
    let (status, code) = ask(&url, &Method::POST, &path, None, &beat).await;
    assert_eq!((status, code), (StatusCode::NOT_FOUND, Some(ErrorCode::NoSuchJob)));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_a_token_makes_up_hold_few_jobs_and_kill_none() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { max_newcomers: 3, ready_jobs: 12, ..closed(dir.path()) };
    let program_id = config.wanted_program_id();
    let (bad, good) = (token(&config, Role::Client).await.1, token(&config, Role::Client).await.1);
    let server = serve(config, &Chain::new(12)).await;
    let url = server.url();
    let post = async |token: &str, path: &str, message: &ProofData| -> ProofData {
        let answer = http().post(format!("{url}{path}")).bearer_auth(token).json(message);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    };
    let request = async |token: &str, client| {
        let able = Capability::new(ProofSystem::Exec, program_id, false);
        let (capabilities, wait_ms) = (vec![able], 0);
        let request = ProofData::Request(Request { client, capabilities, wait_ms, origin: None });
        post(token, "/v1/request", &request).await
    };
    until("the jobs are ready", async || server.status().await.unwrap().counts.ready == 12).await;

    let (mut took, mut resting) = (Vec::new(), 0);
    for _ in 0..40 {
        let client = ClientId::from_bytes(rand::random());
        match request(&bad, client).await {
            ProofData::Response(lease) => took.push((client, lease)),
            ProofData::NoWork(no) => {
                assert_eq!(no.reason, NoWorkReason::Resting);
                assert!((4_000..=5_000).contains(&no.retry_after_ms), "{no:?}");
                resting += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((took.len(), resting), (3, 37), "max_newcomers");
    for (client, lease) in took {
        let class = FailureClass::GuestPanic;
        let fail = Fail { client, lease: lease.lease, class, message: "no".into() };
        post(&bad, &format!("/v1/jobs/{}/fail", lease.job), &ProofData::Fail(fail)).await;
    }
    // It goes on as long as it can, with one job at a time.
    for _ in 0..40 {
        let client = ClientId::from_bytes(rand::random());
        if let ProofData::Response(lease) = request(&bad, client).await {
            let class = FailureClass::GuestPanic;
            let fail = Fail { client, lease: lease.lease, class, message: "no".into() };
            post(&bad, &format!("/v1/jobs/{}/fail", lease.job), &ProofData::Fail(fail)).await;
        }
    }
    let status = server.status().await.unwrap();
    assert_eq!(status.counts.dead, 0);
    let failures: u32 = status.jobs.iter().map(|job| job.failures).sum();
    assert!(failures <= 8 + 1, "{failures} failures until the token's newcomers rest");
    let answer = request(&good, ClientId::from_bytes(rand::random())).await;
    assert!(matches!(answer, ProofData::Response(_)), "{answer:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_takes_what_a_client_of_another_token_has() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { ready_jobs: 4, ..closed(dir.path()) };
    let program_id = config.wanted_program_id();
    let [bound, unbound] = [1, 2].map(|n| ClientId::from_bytes([n; 16]));
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    let new = NewToken {
        name: "bound".into(),
        role: Role::Client,
        client: Some(bound),
        certificate: None,
        lifetime: None,
    };
    let (_, own) = tokens.create(&new).await.unwrap();
    let own = own.unwrap().text();
    tokens.close().await;
    let (other, attacker) =
        (token(&config, Role::Client).await.1, token(&config, Role::Client).await.1);
    let server = serve(config, &Chain::new(4)).await;
    let request = async |token: &str, client, instance: u8| {
        let able = Capability::new(ProofSystem::Exec, program_id, false);
        let instance = InstanceId::from_bytes([instance; 16]);
        let origin = Origin { instance, name: "x".into(), host: "x".into() };
        let (capabilities, origin) = (vec![able], Some(origin));
        let request = ProofData::Request(Request { client, capabilities, wait_ms: 0, origin });
        let answer = http().post(format!("{}/v1/request", server.url())).bearer_auth(token);
        let answer = answer.json(&request).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => Ok(answer.json::<ProofData>().await.unwrap()),
            status => Err(status),
        }
    };
    until("the jobs are ready", async || server.status().await.unwrap().counts.ready == 4).await;

    assert!(matches!(request(&own, bound, 1).await, Ok(ProofData::Response(_))));
    assert_eq!(request(&attacker, bound, 9).await, Err(StatusCode::FORBIDDEN), "it has a token");
    let Ok(ProofData::Response(held)) = request(&other, unbound, 1).await else { panic!("no job") };
    match request(&attacker, unbound, 9).await.unwrap() {
        ProofData::Response(taken) => assert_ne!(taken.lease, held.lease, "a lease is a secret"),
        other => panic!("{other:?}"),
    }
    // The first goes on with its own, and is not told that it is a copy.
    match request(&other, unbound, 1).await.unwrap() {
        ProofData::Response(again) => assert_eq!(again.lease, held.lease),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

/// The status and, of a refusal, the code.
async fn ask(
    url: &str,
    method: &Method,
    path: &str,
    header: Option<&str>,
    body: &str,
) -> (StatusCode, Option<ErrorCode>) {
    let mut request = http().request(method.clone(), format!("{url}{path}")).body(body.to_owned());
    if let Some(header) = header {
        request = request.header("authorization", header);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let endless = answer.headers().get("content-type").is_some_and(|it| it == "text/event-stream");
    let text = if endless { String::new() } else { answer.text().await.unwrap() };
    let error = (!status.is_success()).then(|| {
        serde_json::from_str::<ApiError>(&text)
            .unwrap_or_else(|error| panic!("{method} {path}: {status} {text:?}: {error}"))
    });
    (status, error.map(|error| error.code))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_endpoint_lets_in_the_roles_it_names_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let mut owners = Vec::new();
    for role in Role::ALL {
        owners.push((role, format!("Bearer {}", token(&config, role).await.1)));
    }
    let operator = owners.iter().find(|(role, _)| *role == Role::Operator).unwrap().1.clone();
    let (revoked, gone) = token(&config, Role::Operator).await;
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    tokens.revoke(revoked).await.unwrap();
    let short = NewToken {
        name: "short".into(),
        role: Role::Operator,
        client: None,
        certificate: None,
        lifetime: Some(Duration::from_millis(1)),
    };
    let (_, expired) = tokens.create(&short).await.unwrap();
    tokens.close().await;
    let expired = expired.unwrap().text();
    // The last digit of the secret is another one.
    let last = if operator.ends_with('0') { '1' } else { '0' };
    let guessed = format!("{}{last}", &operator[..operator.len() - 1]);
    let strangers = [
        None,
        Some(format!("Bearer {gone}")),
        Some(format!("Bearer {expired}")),
        Some(guessed),
        Some(operator.replace("Bearer", "Basic")),
        Some("Bearer".to_owned()),
        Some("Bearer l2p_".to_owned()),
        Some(format!("Bearer {}", "x".repeat(4_000))),
    ];

    let running = serve(config.clone(), &Chain::new(1)).await;
    let url = running.url();
    until("there is a job", async || !running.status().await.unwrap().jobs.is_empty()).await;
    let job = running.status().await.unwrap().jobs[0].job.to_string();
    let before = everything(&config).await;
    let endpoints = server::http::endpoints::endpoints();
    assert!(endpoints.len() > 10);
    let path = |path: &str| {
        path.replace("{job}", &job)
            .replace("{client}", ID)
            .replace("{deed}", "quarantine")
            .replace("{sha256}", &"0".repeat(64))
    };
    // A job that is there, and one that is not: the answers must not differ.
    for endpoint in &endpoints {
        let public = endpoint.access == May::Public;
        for stranger in &strangers {
            for path in [path(endpoint.path), path(endpoint.path).replace(&job, ID)] {
                let found = ask(&url, &endpoint.method, &path, stranger.as_deref(), "{").await;
                let expected = match public {
                    true => (StatusCode::OK, None),
                    false => (StatusCode::UNAUTHORIZED, Some(ErrorCode::Unauthenticated)),
                };
                assert_eq!(found, expected, "{} {path} {stranger:?}", endpoint.method);
            }
        }
        for (role, header) in &owners {
            let may = match endpoint.access {
                May::Public | May::Known => true,
                May::Only(roles) => roles.contains(role),
            };
            if !may {
                let path = path(endpoint.path);
                let found = ask(&url, &endpoint.method, &path, Some(header), "{").await;
                let expected = (StatusCode::FORBIDDEN, Some(ErrorCode::Forbidden));
                assert_eq!(found, expected, "{} {path} {role:?}", endpoint.method);
            }
        }
    }
    // What is not there is not told to strangers either.
    for (method, path) in [(Method::GET, "/v2/secret"), (Method::PUT, "/v1/status")] {
        let found = ask(&url, &method, path, None, "").await;
        assert_eq!(found, (StatusCode::UNAUTHORIZED, Some(ErrorCode::Unauthenticated)));
        let found = ask(&url, &method, path, Some(&owners[0].1), "").await;
        assert_eq!(found, (StatusCode::NOT_FOUND, Some(ErrorCode::NoSuchEndpoint)));
    }
    assert_eq!(everything(&config).await, before, "nobody who was refused has changed anything");

    for endpoint in &endpoints {
        for (role, header) in &owners {
            let may = match endpoint.access {
                May::Public | May::Known => true,
                May::Only(roles) => roles.contains(role),
            };
            if may {
                let path = path(endpoint.path);
                let (_, code) = ask(&url, &endpoint.method, &path, Some(header), "{").await;
                let shut = [ErrorCode::Unauthenticated, ErrorCode::Forbidden];
                assert!(!code.is_some_and(|code| shut.contains(&code)), "{path} {role:?} {code:?}");
            }
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn a_stranger_is_refused_before_its_body_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(closed(dir.path()), &Chain::new(0)).await;
    let mut stream = raw(&running).await;
    let id = "0".repeat(64);
    let head = format!(
        "PUT /v1/artifacts/{id} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("unauthenticated"), "{answer}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_proves_with_a_token_and_keeps_its_proof_while_it_has_none() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(1));
    let config = closed(dir.path());
    let running = serve(config.clone(), &chain).await;
    let file = dir.path().join("token");
    let (first, text) = token(&config, Role::Client).await;
    std::fs::write(&file, text).unwrap();
    let access = Access { token_file: Some(file.clone()), ..Access::default() };
    let client_config = client::Config { access, ..client_config(dir.path(), "a", &running.url()) };
    let echo = Arc::new(Echo { takes: Duration::from_secs(2), ..Echo::default() });
    let client = Client::start(client_config, echo.clone()).await.unwrap();
    until("it proves", async || running.status().await.unwrap().counts.leased == 1).await;

    // Its token ends while it proves.
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    tokens.revoke(first).await.unwrap();
    tokens.close().await;
    until("it has proved", async || !echo.proven.lock().unwrap().is_empty()).await;
    until("it has tried to hand it in", async || {
        !matches!(client.status().phase, Phase::Proving(_) | Phase::Downloading(_))
    })
    .await;
    assert_eq!(running.status().await.unwrap().counts.proved, 0);
    std::fs::write(&file, token(&config, Role::Client).await.1).unwrap();
    until("the proof is in", async || running.status().await.unwrap().counts.proved == 1).await;
    assert_eq!(echo.proven.lock().unwrap().len(), 1, "it was proved once");
    client.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_one_client_speaks_for_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let mine = ClientId::from_bytes([1; 16]);
    let other = ClientId::from_bytes([2; 16]);
    let new = NewToken {
        name: "one".into(),
        role: Role::Client,
        client: Some(mine),
        certificate: None,
        lifetime: None,
    };
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    let header = format!("Bearer {}", tokens.create(&new).await.unwrap().1.unwrap().text());
    let operator = NewToken { role: Role::Operator, ..new.clone() };
    assert!(matches!(tokens.create(&operator).await, Err(TokenError::Bound(Role::Operator))));
    let nameless = NewToken { name: "\u{1b}[2J".into(), ..new };
    assert!(matches!(tokens.create(&nameless).await, Err(TokenError::Name)));
    tokens.close().await;
    let running = serve(config.clone(), &Chain::new(1)).await;
    until("there is a job", async || !running.status().await.unwrap().jobs.is_empty()).await;
    let before = everything(&config).await;
    let zero = "0".repeat(64);
    let messages = |client: ClientId| {
        let proof = json!({"sha256": zero, "len": 1});
        [
            (
                "/v1/request".to_owned(),
                json!({"type": "Request", "client": client, "capabilities": []}),
            ),
            (
                format!("/v1/jobs/{ID}/heartbeat"),
                json!({"type": "Heartbeat", "client": client, "lease": ID}),
            ),
            (
                format!("/v1/jobs/{ID}/fail"),
                json!({"type": "Fail", "client": client, "lease": ID, "class": "timeout", "message": ""}),
            ),
            (
                format!("/v1/jobs/{ID}/submit"),
                json!({"type": "Submit", "client": client, "lease": ID, "system": "exec",
                "kind": "composite", "program_id": format!("0x{zero}"), "proof": proof}),
            ),
        ]
    };
    for (path, message) in messages(other) {
        let found =
            ask(&running.url(), &Method::POST, &path, Some(&header), &message.to_string()).await;
        assert_eq!(found, (StatusCode::FORBIDDEN, Some(ErrorCode::Forbidden)), "{path}");
    }
    assert_eq!(everything(&config).await, before);
    for (path, message) in messages(mine) {
        let found =
            ask(&running.url(), &Method::POST, &path, Some(&header), &message.to_string()).await;
        assert_ne!(found.1, Some(ErrorCode::Forbidden), "{path}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_can_be_made_rotated_and_revoked_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let running = serve(config.clone(), &Chain::new(0)).await;
    let works = async |text: &str| {
        let header = format!("Bearer {text}");
        ask(&running.url(), &Method::GET, "/v1/status", Some(&header), "").await.0 == StatusCode::OK
    };
    let (id, first) = token(&config, Role::Viewer).await;
    until("the first works", async || works(&first).await).await;
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    let (next, second) = tokens.rotate(id, None, None, Duration::from_secs(3_600)).await.unwrap();
    let second = second.unwrap().text();
    until("the second works", async || works(&second).await).await;
    assert!(works(&first).await, "the old one is good for an hour more");
    let (_, third) = tokens.rotate(next.id, None, None, Duration::ZERO).await.unwrap();
    let third = third.unwrap().text();
    until("the second has ended", async || !works(&second).await).await;
    assert!(works(&third).await);
    let ended = tokens.rotate(next.id, None, None, Duration::ZERO).await;
    assert!(matches!(ended, Err(TokenError::Ended(_))));
    tokens.revoke(id).await.unwrap();
    until("the first has ended", async || !works(&first).await).await;
    let names: Vec<_> = tokens.list().await.unwrap().into_iter().map(|token| token.name).collect();
    assert_eq!(names, ["viewer"; 3]);
    tokens.close().await;
    // The database has no secret, not even a part of one.
    let rows = everything(&config).await.to_lowercase();
    for text in [first, second, third] {
        assert!(!rows.contains(&text[21..]), "a secret is in the database");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_too_often_waits_and_the_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        requests_per_second: NonZeroU32::MIN,
        requests_at_once: NonZeroU32::new(3).unwrap(),
        ..Limits::default()
    };
    let config = Config { limits, ..closed(dir.path()) };
    let (eager, calm) =
        (token(&config, Role::Viewer).await.1, token(&config, Role::Viewer).await.1);
    let running = serve(config, &Chain::new(0)).await;
    let get = async |token: &str| {
        http().get(format!("{}/v1/status", running.url())).bearer_auth(token).send().await.unwrap()
    };
    let mut refused = None;
    for _ in 0..20 {
        let answer = get(&eager).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty at once are too many");
    assert_eq!(refused.headers()["retry-after"], "1");
    let error: ApiError = refused.json().await.unwrap();
    assert!(error.code == ErrorCode::RateLimited && error.retryable, "{error:?}");
    assert!((1..=1_000).contains(&error.retry_after_ms.unwrap()), "{error:?}");
    assert_eq!(get(&calm).await.status(), StatusCode::OK);
    until("the eager one may ask again", async || get(&eager).await.status() == StatusCode::OK)
        .await;
    // Guessing tokens is asking, too.
    until("a guesser waits", async || {
        get("l2p_guess").await.status() == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_expire_by_the_wall_clock_although_the_jobs_time_is_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    let new = NewToken {
        name: "short".into(),
        role: Role::Viewer,
        client: None,
        certificate: None,
        lifetime: Some(Duration::from_secs(600)),
    };
    let (_, shown) = tokens.create(&new).await.unwrap();
    let now = tokens.now().await.unwrap();
    tokens.close().await;
    // A server ran here while the clock was ten days ahead.
    let file = sqlx::sqlite::SqliteConnectOptions::new();
    let file = file.filename(config.data_dir.join("jobs.sqlite"));
    let mut database = sqlx::ConnectOptions::connect(&file).await.unwrap();
    let ahead = i64::try_from(now.0).unwrap() + 10 * 86_400_000;
    sqlx::query("INSERT INTO clients (id, first_seen, last_seen) VALUES ($1, $2, $2)")
        .bind(vec![1u8; 16])
        .bind(ahead)
        .execute(&mut database)
        .await
        .unwrap();
    sqlx::Connection::close(database).await.unwrap();

    let running = serve(config.clone(), &Chain::new(0)).await;
    assert!(running.status().await.unwrap().now >= ahead.unsigned_abs(), "no time runs back");
    let header = format!("Bearer {}", shown.unwrap().text());
    let status = ask(&running.url(), &Method::GET, "/v1/status", Some(&header), "").await.0;
    assert_eq!(status, StatusCode::OK);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_database_have_the_same_tokens() {
    let Some(postgres) = crate::postgres::Postgres::start().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = Config { database: Some(postgres.url()), ..closed(dir.path()) };
    let tokens = Tokens::open(&config.data_dir, config.database.as_ref()).await.unwrap();
    let new = NewToken {
        name: "both".into(),
        role: Role::Viewer,
        client: None,
        certificate: None,
        lifetime: Some(Duration::from_secs(600)),
    };
    let (token, shown) = tokens.create(&new).await.unwrap();
    let header = format!("Bearer {}", shown.unwrap().text());
    let servers =
        [serve(config.clone(), &Chain::new(0)).await, serve(config.clone(), &Chain::new(0)).await];
    let status = async |server: &server::Running| {
        ask(&server.url(), &Method::GET, "/v1/status", Some(&header), "").await.0
    };
    for server in &servers {
        assert_eq!(status(server).await, StatusCode::OK);
    }
    tokens.revoke(token.id).await.unwrap();
    assert!(tokens.list().await.unwrap()[0].revoked_at.is_some());
    tokens.close().await;
    for server in servers {
        until("it is refused", async || status(&server).await == StatusCode::UNAUTHORIZED).await;
        server.stop().await;
    }
}
