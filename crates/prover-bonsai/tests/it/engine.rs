//! A scripted engine: it speaks the dialect as r0vm's cluster does, and fails as it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What an engine answers.
pub(crate) enum Reply {
    /// Status, headers, body.
    Http(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The connection ends without an answer, as when a handler of r0vm panics.
    Close,
    /// No answer comes.
    Hang,
    /// A body one byte at a time, each after this pause.
    Drip(Vec<u8>, Duration),
    /// A body without end.
    Endless,
    /// A body that is said to have this length, and never comes.
    Announced(u64),
}

impl Reply {
    pub(crate) fn status(status: u16, text: &str) -> Self {
        Self::Http(status, Vec::new(), text.into())
    }

    pub(crate) fn json(value: serde_json::Value) -> Self {
        Self::status(200, &value.to_string())
    }

    pub(crate) fn running(state: &str) -> Self {
        Self::json(serde_json::json!({"status": "RUNNING", "state": state, "elapsed_time": 1.5}))
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Method and path with query, for example `GET /sessions/status/s1`.
    pub line: String,
    /// How many requests with this line came before.
    pub before: usize,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What the engine holds. r0vm's holds all but receipts in memory.
#[derive(Default)]
pub(crate) struct Memory {
    pub programs: BTreeMap<String, Bytes>,
    pub inputs: BTreeMap<String, Bytes>,
    /// Sessions, with how often each was asked about.
    pub sessions: BTreeMap<String, usize>,
    pub receipts: BTreeMap<String, Vec<u8>>,
    /// Sessions that were created, over all restarts.
    pub created: usize,
    pub stopped: Vec<String>,
    /// Every request.
    pub calls: Vec<Call>,
    /// What each proven session's receipt is.
    pub receipt: Vec<u8>,
}

impl Memory {
    /// The lines of all requests.
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.calls.iter().map(|call| call.line.as_str()).collect()
    }

    /// How many requests began so.
    pub(crate) fn count(&self, beginning: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(beginning)).count()
    }

    /// What an engine without faults answers. A session is proven when it was asked about three times.
    fn answer(&mut self, call: &Call, host: &str) -> Reply {
        let (method, path) = call.line.split_once(' ').expect("a method and a path");
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let url = |path: &str| format!("http://{host}/{path}");
        match (method, &parts[..]) {
            ("GET", ["images", "upload", id]) => match self.programs.contains_key(*id) {
                true => Reply::status(204, ""),
                false => {
                    let url = url(&format!("images/upload/{id}"));
                    Reply::json(serde_json::json!({ "url": url }))
                }
            },
            ("PUT", ["images", "upload", id]) => {
                self.programs.insert((*id).to_owned(), call.body.clone());
                Reply::status(200, "")
            }
            ("GET", ["inputs", "upload"]) => {
                let id = format!("input-{}", call.before + 1);
                let url = url(&format!("inputs/upload/{id}"));
                Reply::json(serde_json::json!({"url": url, "uuid": id}))
            }
            ("PUT", ["inputs", "upload", id]) => {
                self.inputs.insert((*id).to_owned(), call.body.clone());
                Reply::status(200, "")
            }
            ("POST", ["sessions", "create"]) => {
                let wanted: serde_json::Value = serde_json::from_slice(&call.body).expect("JSON");
                let known = |map: &BTreeMap<String, Bytes>, key: &str| {
                    map.contains_key(wanted[key].as_str().expect("an id"))
                };
                if !known(&self.programs, "img") || !known(&self.inputs, "input") {
                    return internal();
                }
                self.created += 1;
                let id = format!("s{}", self.created);
                self.sessions.insert(id.clone(), 0);
                Reply::json(serde_json::json!({ "uuid": id }))
            }
            ("GET", ["sessions", "status", id]) => {
                let Some(asked) = self.sessions.get_mut(*id) else { return internal() };
                *asked += 1;
                if *asked < 3 {
                    return Reply::running(&format!("ProveSegments: {asked}/3"));
                }
                self.receipts.insert((*id).to_owned(), self.receipt.clone());
                let url = url(&format!("receipts/stark/receipt/{id}"));
                Reply::json(serde_json::json!({"status": "SUCCEEDED", "receipt_url": url}))
            }
            ("GET", ["sessions", "stop", id]) => {
                self.stopped.push((*id).to_owned());
                Reply::status(200, "")
            }
            ("GET", ["receipts", "stark", "receipt", id]) => match self.receipts.get(*id) {
                Some(receipt) => Reply::Http(200, Vec::new(), receipt.clone()),
                None => Reply::status(404, "receipt does not exist"),
            },
            ("GET", ["receipts", id]) => match self.receipts.contains_key(*id) {
                true => {
                    let url = url(&format!("receipts/stark/receipt/{id}"));
                    Reply::json(serde_json::json!({ "url": url }))
                }
                false => Reply::status(404, "receipt does not exist"),
            },
            _ => Reply::status(404, ""),
        }
    }
}

fn internal() -> Reply {
    Reply::status(500, r#"{"type":"InternalErr","msg":"internal error"}"#)
}

type Fault = dyn Fn(&Call, &mut Memory) -> Option<Reply> + Send + Sync;

struct Shared {
    memory: Mutex<Memory>,
    /// Looked at before the answer without faults.
    fault: Box<Fault>,
}

/// The engine. It ends when it is dropped.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    addr: SocketAddr,
    runtime: Option<Runtime>,
}

impl Engine {
    /// An engine without faults, which returns `receipt`.
    pub(crate) fn new(receipt: Vec<u8>) -> Self {
        Self::with(receipt, |_, _| None)
    }

    /// An engine that answers with what `fault` returns, if it returns anything.
    pub(crate) fn with(
        receipt: Vec<u8>,
        fault: impl Fn(&Call, &mut Memory) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let memory = Mutex::new(Memory { receipt, ..Memory::default() });
        let shared = Arc::new(Shared { memory, fault: Box::new(fault) });
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let (runtime, addr) = serve(shared.clone(), any_port);
        Self { shared, addr, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it holds, and what it was asked.
    pub(crate) fn memory<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.shared.memory.lock().expect("no test panics with it"))
    }

    /// Sessions that were created.
    pub(crate) fn created(&self) -> usize {
        self.memory(|memory| memory.created)
    }

    /// Its REST API goes away, with all connections.
    pub(crate) fn go(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// It comes back at the same address.
    pub(crate) fn come_back(&mut self) {
        self.runtime = Some(serve(self.shared.clone(), self.addr).0);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.go();
    }
}

fn serve(shared: Arc<Shared>, addr: SocketAddr) -> (Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind(addr)).expect("the port is free");
    let addr = listener.local_addr().expect("it is bound");
    let app = Router::new().fallback(answer).with_state(shared);
    runtime.spawn(async { axum::serve(listener, app).await });
    (runtime, addr)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let host = parts.headers["host"].to_str().expect("a host").to_owned();
    let reply = {
        let mut memory = shared.memory.lock().expect("no test panics with it");
        let line = format!("{} {}", parts.method, parts.uri.path_and_query().expect("a path"));
        let before = memory.calls.iter().filter(|call| call.line == line).count();
        let call = Call { line, before, headers: parts.headers, body };
        memory.calls.push(call.clone());
        match (shared.fault)(&call, &mut memory) {
            Some(reply) => reply,
            None => memory.answer(&call, &host),
        }
    };
    match reply {
        Reply::Http(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(body.into()).expect("a response")
        }
        Reply::Close => std::panic::resume_unwind(Box::new("the connection ends")),
        Reply::Hang => std::future::pending().await,
        Reply::Drip(bytes, pause) => {
            let drops = stream::iter(bytes).then(move |byte| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, std::io::Error>(vec![byte])
            });
            Response::new(Body::from_stream(drops))
        }
        Reply::Endless => {
            let piece = || Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096]));
            Response::new(Body::from_stream(stream::repeat_with(piece)))
        }
        Reply::Announced(length) => {
            let nothing = stream::pending::<Result<Bytes, std::io::Error>>();
            let response = Response::builder().header("content-length", length);
            response.body(Body::from_stream(nothing)).expect("a response")
        }
    }
}
