//! A man in the middle: passes what a client says on to a server, and tells a test of each step first.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;

/// What a client is about to do, or has just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has a lease, which is on its way to it.
    Leased,
    /// Half of the input is on its way to it.
    HalfDownloaded,
    /// The whole input is on its way to it.
    Downloaded,
    /// It wants to upload a proof; the server has not seen it.
    Uploading,
    /// The server has the proof's bytes.
    Uploaded,
    /// The server has judged the proof; the client does not know.
    Judged,
}

/// What the proxy does at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Go on as if nothing were in between.
    PassOn,
    /// Say nothing more.
    Hang,
}

type Watch = dyn FnMut(Step) -> Then + Send;

#[derive(Clone)]
struct Proxy {
    server: Arc<str>,
    watch: Arc<Mutex<Box<Watch>>>,
    http: reqwest::Client,
}

/// Starts a proxy in front of `server` and returns its address. `watch` may block.
pub(crate) fn start(server: &str, watch: impl FnMut(Step) -> Then + Send + 'static) -> String {
    let proxy = Proxy {
        server: server.into(),
        watch: Arc::new(Mutex::new(Box::new(watch))),
        http: reqwest::Client::new(),
    };
    serve(Router::new().fallback(pass_on).with_state(proxy))
}

/// Serves `router` on a port of its own, for as long as the test runs.
pub(crate) fn serve(router: Router) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn pass_on(State(proxy): State<Proxy>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
    let submits = path.ends_with("/submit");
    let before = match method.as_str() {
        "PUT" => Some(Step::Uploading),
        "POST" if submits => Some(Step::Uploaded),
        _ => None,
    };
    if before.is_some_and(|step| proxy.tell(step) == Then::Hang) {
        return hang().await;
    }
    let answer = proxy
        .http
        .request(method.clone(), format!("{}{path}", proxy.server))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await;
    let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
    let status = answer.status();
    let bytes = answer.bytes().await.unwrap_or_default();
    let after = if submits {
        Some(Step::Judged)
    } else if path == protocol::paths::REQUEST && contains(&bytes, "\"Response\"") {
        Some(Step::Leased)
    } else if method == "GET" && path.contains("/artifacts/") {
        if proxy.tell(Step::HalfDownloaded) == Then::Hang {
            let half = bytes.slice(..bytes.len() / 2);
            let pieces = futures::stream::iter([Ok::<Bytes, std::io::Error>(half)]);
            return Body::from_stream(pieces.chain(futures::stream::pending())).into_response();
        }
        Some(Step::Downloaded)
    } else {
        None
    };
    if after.is_some_and(|step| proxy.tell(step) == Then::Hang) {
        return hang().await;
    }
    (status, [("content-type", "application/json")], bytes).into_response()
}

impl Proxy {
    fn tell(&self, step: Step) -> Then {
        tokio::task::block_in_place(|| (self.watch.lock().expect("no test panics in it"))(step))
    }
}

async fn hang() -> Response {
    std::future::pending().await
}

fn contains(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}
