//! The dashboard from outside a browser: sessions, headers, and the stream of what changes.

use crate::{
    common::{Chain, Echo, client_config, config, http, serve, token, until},
    crowd::memory,
    postgres::Postgres,
};
use client::Client;
use protocol::Session;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use server::{
    Config, Running,
    access::gate::Access,
    config::{Auth, Limits},
    tokens::{Role, Tokens},
};
use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

fn closed(dir: &std::path::Path) -> Config {
    Config { auth: Auth::Required, ..config(dir) }
}

/// What a browser has that has signed in.
struct Browser {
    url: String,
    cookie: String,
    session: Session,
}

impl Browser {
    async fn sign_in(server: &Running, token: &str) -> Self {
        let answer = sign_in(server, token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { url: server.url(), cookie, session: answer.json().await.unwrap() }
    }

    /// A request with the cookie alone.
    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        http().request(method, format!("{}{path}", self.url)).header("cookie", &self.cookie)
    }

    /// A request as the page sends it.
    fn send(&self, method: Method, path: &str) -> RequestBuilder {
        let half = self.session.csrf.as_ref().expect("it has signed in with a token");
        self.bare(method, path).header("x-csrf-token", half)
    }
}

async fn sign_in(server: &Running, token: &str) -> Response {
    let post = http().post(format!("{}/v1/session", server.url())).bearer_auth(token);
    post.send().await.unwrap()
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_exchanged_for_a_cookie_that_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, viewer) = token(&config, Role::Viewer).await;
    let server = serve(config.clone(), &Chain::new(0)).await;
    let answer = sign_in(&server, &viewer).await;
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200")
            && !cookie.contains(&viewer[22..]),
        "{cookie}"
    );
    // Behind a proxy that speaks TLS it goes nowhere without TLS.
    let host = server.addr().to_string();
    let post = http().post(format!("{}/v1/session", server.url())).bearer_auth(&viewer);
    let secure = post.header("origin", format!("https://{host}")).send().await.unwrap();
    let secure = secure.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(secure.starts_with("__Host-l2p_") && secure.contains("; Secure;"), "{secure}");

    let browser = Browser::sign_in(&server, &viewer).await;
    assert_eq!(browser.session.role, "viewer");
    assert_eq!(browser.session.name.as_deref(), Some("viewer"));
    server.stop().await;
    let server = serve(config, &Chain::new(0)).await;
    let browser = Browser { url: server.url(), ..browser };
    let again = browser.send(Method::GET, "/v1/session").send().await.unwrap();
    // The second half is told once.
    let told = Session { csrf: None, ..browser.session.clone() };
    assert_eq!(again.json::<Session>().await.unwrap(), told);
    // A session does not prolong itself.
    let more = browser.send(Method::POST, "/v1/session").send().await.unwrap();
    assert_eq!((more.status(), more.headers().get("set-cookie")), (StatusCode::OK, None));
    let out = browser.send(Method::DELETE, "/v1/session").send().await.unwrap();
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    assert!(out.headers()["set-cookie"].to_str().unwrap().ends_with("Max-Age=0"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_servers_own_page_changes_something_with_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, operator) = token(&config, Role::Operator).await;
    let server = serve(config, &Chain::new(0)).await;
    let browser = Browser::sign_in(&server, &operator).await;
    let drains = async || server.status().await.unwrap().draining_since.is_some();
    let drain = || browser.send(Method::POST, "/v1/drain");
    let bare = || browser.bare(Method::POST, "/v1/drain");
    for (what, request) in [
        ("no header", bare()),
        ("a guess", bare().header("x-csrf-token", "0".repeat(64))),
        ("an empty header", bare().header("x-csrf-token", "")),
        ("another site", drain().header("origin", "http://evil.example")),
        ("a sandbox", drain().header("origin", "null")),
        ("another port of this host", drain().header("origin", "http://127.0.0.1:1")),
        ("another scheme", drain().header("origin", format!("x-evil://{}", server.addr()))),
        ("another site, as the browser says", drain().header("sec-fetch-site", "cross-site")),
        ("another port, as the browser says", drain().header("sec-fetch-site", "same-site")),
    ] {
        assert_eq!(status(request).await, StatusCode::FORBIDDEN, "{what}");
        assert!(!drains().await, "{what}");
    }
    let read = browser.send(Method::GET, "/v1/status").header("sec-fetch-site", "same-site");
    assert_eq!(status(read).await, StatusCode::FORBIDDEN, "another port does not read either");
    let own = drain().header("origin", server.url()).header("sec-fetch-site", "same-origin");
    assert_eq!(status(own).await, StatusCode::NO_CONTENT);
    assert!(drains().await);
    // Another's header is of no use, and neither is a cookie that was changed.
    let other = Browser::sign_in(&server, &operator).await;
    let csrf = other.session.csrf.clone().unwrap();
    if other.cookie != browser.cookie {
        let mixed = browser.bare(Method::DELETE, "/v1/drain").header("x-csrf-token", csrf);
        assert_eq!(status(mixed).await, StatusCode::FORBIDDEN);
    }
    let cut = Browser { cookie: browser.cookie[..browser.cookie.len() - 1].into(), ..other };
    assert_eq!(status(cut.bare(Method::GET, "/v1/status")).await, StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewers_session_looks_and_decides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, viewer) = token(&config, Role::Viewer).await;
    let mut others = Vec::new();
    for role in [Role::Client, Role::Producer, Role::Consumer] {
        others.push(token(&config, role).await.1);
    }
    let server = serve(config.clone(), &Chain::new(0)).await;
    for other in others {
        let answer = sign_in(&server, &other).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert!(!answer.headers().contains_key("set-cookie"));
    }
    let browser = Browser::sign_in(&server, &viewer).await;
    let before = crate::common::everything(&config).await;
    let mut refused = 0;
    for endpoint in server::http::endpoints::endpoints() {
        let Access::Only(roles) = endpoint.access else { continue };
        if roles.contains(&Role::Viewer) {
            continue;
        }
        let path = endpoint.path.replace("{deed}", "quarantine");
        let path = path.replace("{sha256}", &"0".repeat(64));
        let path = path.replace("{job}", &"0".repeat(32)).replace("{client}", &"0".repeat(32));
        let request = browser.send(endpoint.method.clone(), &path).body("{");
        assert_eq!(status(request).await, StatusCode::FORBIDDEN, "{} {path}", endpoint.method);
        refused += 1;
    }
    assert!(refused > 10);
    assert_eq!(crate::common::everything(&config).await, before);
    assert_eq!(status(browser.send(Method::GET, "/v1/jobs")).await, StatusCode::OK);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_cookie_alone_can_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, operator) = token(&config, Role::Operator).await;
    let server = serve(config.clone(), &Chain::new(0)).await;
    let browser = Browser::sign_in(&server, &operator).await;
    let before = crate::common::everything(&config).await;
    // As a program on another port of this host gets it, from a browser that visits it.
    for endpoint in server::http::endpoints::endpoints() {
        if endpoint.access == Access::Public {
            continue;
        }
        let path = endpoint.path.replace("{deed}", "quarantine");
        let path = path.replace("{sha256}", &"0".repeat(64));
        let path = path.replace("{job}", &"0".repeat(32)).replace("{client}", &"0".repeat(32));
        let request = browser.bare(endpoint.method.clone(), &path).body("{");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{} {path}", endpoint.method);
        let text = answer.text().await.unwrap();
        let half = browser.session.csrf.as_ref().unwrap();
        assert!(!text.contains(half) && text.contains("sign in again"), "{path}: {text}");
    }
    assert_eq!(crate::common::everything(&config).await, before);
    // With both halves, by the same words.
    assert_eq!(
        status(browser.send(Method::POST, "/v1/pause")).await,
        StatusCode::NO_CONTENT,
        "the page itself may"
    );
    server.stop().await;
}

/// Nor use up what the session's owner may ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_too_often_with_the_cookie_alone_slows_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        requests_per_second: NonZeroU32::MIN,
        requests_at_once: NonZeroU32::new(8).unwrap(),
        ..Limits::default()
    };
    let config = Config { limits, ..closed(dir.path()) };
    let (_, viewer) = token(&config, Role::Viewer).await;
    let server = serve(config, &Chain::new(0)).await;
    let browser = Browser::sign_in(&server, &viewer).await;
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(status(browser.bare(Method::GET, "/v1/session")).await);
    }
    let refused = |with| answers.iter().filter(|answer| **answer == with).count();
    assert!(refused(StatusCode::FORBIDDEN) > 0 && refused(StatusCode::TOO_MANY_REQUESTS) > 0);
    assert_eq!(status(browser.send(Method::GET, "/v1/session")).await, StatusCode::OK);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_that_others_have_planted_lock_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, operator) = token(&config, Role::Operator).await;
    let (_, viewer) = token(&config, Role::Viewer).await;
    let server = serve(config, &Chain::new(0)).await;
    let browser = Browser::sign_in(&server, &operator).await;
    // Another session, which is good: whoever plants it may have a token.
    let other = Browser::sign_in(&server, &viewer).await;
    let (name, value) = browser.cookie.split_once('=').unwrap();
    let half = browser.session.csrf.as_ref().unwrap();
    let session = async |cookies: String| {
        let get = http().get(format!("{}/v1/session", server.url())).header("cookie", cookies);
        let answer = get.header("x-csrf-token", half).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json::<Session>().await.unwrap().role
    };
    let well_formed = format!("{}-{}", value.rsplit_once('-').unwrap().0, "0".repeat(64));
    for planted in ["bad", "", &well_formed, other.cookie.split_once('=').unwrap().1] {
        for name in [name.to_owned(), format!("__Host-{name}")] {
            let (ours, planted) = (&browser.cookie, format!("{name}={planted}"));
            assert_eq!(session(format!("{planted}; {ours}")).await, "operator", "{planted}");
            assert_eq!(session(format!("{ours}; {planted}")).await, "operator", "{planted}");
        }
    }
    // As many as a browser keeps.
    let many = vec![format!("{name}=bad"); 150].join("; ");
    assert_eq!(session(format!("{many}; {}", browser.cookie)).await, "operator");
    server.stop().await;
}

/// Reads events of a stream.
struct Events(Response, Vec<u8>);

impl Events {
    async fn open(request: RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self(answer, Vec::new())
    }

    /// The next event with news; none when the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.1.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.1.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                match event.strip_prefix("data: ") {
                    Some(data) => return Some(serde_json::from_str(data).unwrap()),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.0.chunk()).await;
            self.1.extend_from_slice(&chunk.expect("it says something").ok()??);
        }
    }

    async fn until(&mut self, done: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if done(&event) {
                return event;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_soon_what_changes_and_ends_with_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (viewer_id, viewer) = token(&config, Role::Viewer).await;
    let (_, operator) = token(&config, Role::Operator).await;
    let chain = Chain::new(3);
    let server = serve(config.clone(), &chain).await;
    let browser = Browser::sign_in(&server, &viewer).await;
    let mut events = Events::open(browser.send(Method::GET, "/v1/events")).await;
    let whole = events.next().await.unwrap();
    assert_eq!(whole["whole"], true);
    for key in ["version", "page", "chain", "counts", "queue", "switches", "intake"] {
        assert!(!whole["set"]["server"][key].is_null(), "{key}: {whole}");
    }
    let ready = |event: &Value| event["set"]["server"]["counts"]["ready"] == 3;
    if !ready(&whole) {
        events.until(ready).await;
    }

    // A fifth of a second where there is a core for it (docs/dashboard.md). The quickest of a few: how busy this machine is otherwise is
    // not the server's doing.
    let mut quickest = Duration::MAX;
    for n in 0..8 {
        let (method, paused) =
            if n % 2 == 0 { (Method::POST, true) } else { (Method::DELETE, false) };
        let begun = Instant::now();
        let path = format!("{}/v1/pause", server.url());
        let request = http().request(method, path).bearer_auth(&operator);
        assert_eq!(status(request).await, StatusCode::NO_CONTENT);
        events
            .until(|event| {
                let switches = &event["set"]["server"]["switches"];
                !switches.is_null() && switches["paused_since"].is_null() != paused
            })
            .await;
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_secs(2), "{quickest:?}");

    // So is who did it, although that is read every two seconds otherwise: the first came at some time in between, those after it right
    // after such a look.
    let mut quickest = Duration::MAX;
    for n in 0..4 {
        let begun = Instant::now();
        let path = format!("{}/v1/drain", server.url());
        let method = if n % 2 == 0 { Method::POST } else { Method::DELETE };
        let request = http().request(method, path).bearer_auth(&operator);
        assert_eq!(status(request).await, StatusCode::NO_CONTENT);
        events.until(|event| event["set"]["audit"].to_string().contains("\"drain\"")).await;
        if n > 0 {
            quickest = quickest.min(begun.elapsed());
        }
    }
    assert!(quickest < Duration::from_millis(1_500), "{quickest:?}");

    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    tokens.revoke(viewer_id).await.unwrap();
    tokens.close().await;
    let begun = Instant::now();
    while events.next().await.is_some() {}
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(status(browser.send(Method::GET, "/v1/events")).await, StatusCode::UNAUTHORIZED);
    // One that is open does not keep the server from stopping.
    let path = format!("{}/v1/events", server.url());
    let mut last = Events::open(http().get(path).bearer_auth(&operator)).await;
    last.next().await.unwrap();
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    while last.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_counted_for_each_caller_and_in_all() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { streams: 3, streams_per_caller: 2, ..Limits::default() };
    let config = Config { limits, ..closed(dir.path()) };
    let mut tokens = Vec::new();
    for _ in 0..2 {
        tokens.push(token(&config, Role::Viewer).await.1);
    }
    let server = serve(config, &Chain::new(0)).await;
    let url = format!("{}/v1/events", server.url());
    let open = |n: usize| http().get(&url).bearer_auth(&tokens[n]);
    let mut crowd = vec![Events::open(open(0)).await, Events::open(open(0)).await];
    assert_eq!(status(open(0)).await, StatusCode::TOO_MANY_REQUESTS);
    crowd.push(Events::open(open(1)).await);
    assert_eq!(status(open(1)).await, StatusCode::SERVICE_UNAVAILABLE);
    // They are not in the way of anything else.
    let other = http().get(format!("{}/v1/status", server.url())).bearer_auth(&tokens[0]);
    assert_eq!(status(other).await, StatusCode::OK);
    drop(crowd);
    until("there is room again", async || status(open(1)).await == StatusCode::OK).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_cannot_take_all_streams() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { streams: 16, ..Limits::default() };
    assert!(limits.streams_per_caller <= 16, "one token is far from all");
    let config = Config { limits, ..closed(dir.path()) };
    let (_, operator) = token(&config, Role::Operator).await;
    let mut viewers = Vec::new();
    for _ in 0..2 {
        viewers.push(token(&config, Role::Viewer).await.1);
    }
    let server = serve(config, &Chain::new(0)).await;
    let open = |token: &str| http().get(format!("{}/v1/events", server.url())).bearer_auth(token);
    let mut crowd = Vec::new();
    for viewer in &viewers {
        for _ in 0..16 {
            let answer = open(viewer).send().await.unwrap();
            if answer.status().is_success() {
                crowd.push(answer);
            }
        }
    }
    assert_eq!(crowd.len(), 14);
    let refused = open(&viewers[1]).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let why: protocol::ApiError = refused.json().await.unwrap();
    assert!(why.message.contains("14 dashboards are open already"), "{why}");
    let _operators = (Events::open(open(&operator)).await, Events::open(open(&operator)).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_client_was_heard_is_not_told_with_all_that_is_known_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(0)).await;
    let client = protocol::ClientId::from_bytes([7; 16]);
    let gpu = protocol::Gpu { name: "a GPU with a long name".into(), memory_bytes: 1 << 37 };
    let capability = protocol::Capability {
        gpus: vec![gpu; 16],
        ..protocol::Capability::new(
            protocol::ProofSystem::Exec,
            alloy_primitives::B256::ZERO,
            false,
        )
    };
    let visit = async || {
        let request = protocol::ProofData::Request(protocol::Request {
            client,
            capabilities: vec![capability.clone()],
            wait_ms: 0,
            origin: Some(protocol::Origin {
                instance: protocol::InstanceId::from_bytes([7; 16]),
                name: "fat".into(),
                host: "host".into(),
            }),
        });
        let post = http().post(format!("{}/v1/request", server.url())).json(&request);
        assert_eq!(status(post).await, StatusCode::OK);
    };
    visit().await;
    let mut events = Events::open(http().get(format!("{}/v1/events", server.url()))).await;
    let key = client.to_string();
    let whole = events.until(|event| !event["set"]["clients"][&key].is_null()).await;
    assert_eq!(whole["set"]["hardware"][&key][0]["gpus"].as_array().unwrap().len(), 16);
    let heard = whole["set"]["heard"][&key].as_u64().unwrap();
    // Some ten seconds later it was heard later. Nothing else is said of it, and that seldom.
    let begun = Instant::now();
    loop {
        visit().await;
        let Ok(event) = tokio::time::timeout(Duration::from_millis(500), events.next()).await
        else {
            continue;
        };
        let set = &event.unwrap()["set"];
        assert!(set["clients"].is_null() && set["hardware"].is_null(), "{set}");
        if let Some(later) = set["heard"][&key].as_u64() {
            assert!(later >= heard + 10_000, "{heard} {later}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it was heard");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_dashboards_cost_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(20);
    let limits = Limits { streams_per_caller: 128, ..Limits::default() };
    let config = Config { ready_jobs: 1_000, limits, ..config(dir.path()) };
    let server = serve(config, &chain).await;
    let url = format!("{}/v1/events", server.url());
    let mut first = Events::open(http().get(&url)).await;
    first.until(|event| event["set"]["server"]["counts"]["ready"] == 20).await;
    let before = memory();
    let client = http();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut events = Events::open(client.get(&url)).await;
        assert_eq!(events.next().await.unwrap()["whole"], true);
        crowd.push(events);
    }
    chain.head.store(60, std::sync::atomic::Ordering::SeqCst);
    for events in &mut crowd {
        events.until(|event| event["set"]["server"]["counts"]["ready"] == 60).await;
    }
    // The readers in this process are counted too.
    let held = memory().saturating_sub(before);
    assert!(held < 50 << 20, "{held} bytes for a hundred dashboards");
    drop(crowd);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_proofs_took_is_shown_from_either_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut configs = vec![config(&dir.path().join("sqlite"))];
    let postgres = Postgres::start().await;
    if let Some(postgres) = &postgres {
        let database = Some(postgres.url());
        configs.push(Config { database, ..config(&dir.path().join("postgres")) });
    }
    for config in configs {
        let server = serve(config, &Chain::new(2)).await;
        let name = format!("client of {}", server.addr().port());
        let client_config = client_config(dir.path(), &name, &server.url());
        let client = Client::start(client_config, Arc::new(Echo::default())).await.unwrap();
        let proved = async || server.status().await.unwrap().counts.proved == 2;
        until("both blocks are proved", proved).await;
        let mut events = Events::open(http().get(format!("{}/v1/events", server.url()))).await;
        // Blocks, state, times, gas, cycles expected and proven: see `store::trends`.
        let of_the_second = |row: &&Value| row[1] == 2 && row[3] == "proved";
        let row: Value = loop {
            let event = events.next().await.unwrap();
            let rows = event["set"]["trends"].as_object();
            if let Some(row) = rows.and_then(|rows| rows.values().find(of_the_second)) {
                break row.clone();
            }
        };
        assert_eq!((&row[1], &row[2], &row[3]), (&2.into(), &2.into(), &"proved".into()));
        let (created, leased) = (row[4].as_u64().unwrap(), row[5].as_u64().unwrap());
        let proved_at = row[6].as_u64().unwrap();
        assert!(created <= leased && leased <= proved_at, "{row}");
        assert_eq!((&row[7], &row[8], &row[9]), (&21_000.into(), &1_000.into(), &Value::Null));
        client.stop().await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_may_load_itself_alone_and_nobody_may_keep_or_frame_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let server = serve(config, &Chain::new(0)).await;
    let get =
        async |path: &str| http().get(format!("{}{path}", server.url())).send().await.unwrap();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
        ("/plots.js", "text/javascript; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let headers = answer.headers();
        assert_eq!(headers["content-type"], kind);
        let policy = headers["content-security-policy"].to_str().unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "trusted-types 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {rule}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    // Refusals and answers of the API too.
    for path in ["/", "/v1/status", "/livez", "/nowhere"] {
        let answer = get(path).await;
        let headers = answer.headers();
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(headers[name], value, "{path}");
        }
        assert!(
            headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'")
        );
    }
    // Nothing of the server is in what a stranger gets.
    assert_eq!(get("/v1/session").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(get("/v1/events").await.status(), StatusCode::UNAUTHORIZED);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tokens_the_page_works_by_names_of_loopback_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(0)).await;
    let get = |path: &str| http().get(format!("{}{path}", server.url()));
    let session: Session = get("/v1/session").send().await.unwrap().json().await.unwrap();
    assert_eq!((session.role.as_str(), session.csrf), ("operator", None));
    let answer = sign_in(&server, "whatever").await;
    assert_eq!((answer.status(), answer.headers().get("set-cookie")), (StatusCode::OK, None));
    for path in ["/", "/dashboard.js", "/v1/session", "/v1/events"] {
        // DNS rebinding: a stranger's name for this machine.
        let rebound = get(path).header("host", "evil.example:3900");
        assert_eq!(status(rebound).await, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(!dir.path().join("server/session.key").exists(), "there is nothing to seal");
    server.stop().await;
}
