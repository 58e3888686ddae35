//! Answers as nodes did that were recorded ([`witness::exchange`]): for tests, and to look into what somebody reports.
//!
//! * A request that was recorded gets what was answered then, under its own ids: the first time the first answer, and so on; the
//!   last one stays.
//! * A batch that was not recorded as one is answered call by call, and `eth_getProof` slot by slot: how many are asked for at once
//!   depends on how fast answers come.
//! * What was not recorded is an error with the code [`NOT_RECORDED`].
//! * Where no answer came, none comes; where no connection could be made, it ends without an answer.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, Response, StatusCode, header},
};
use futures::stream;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use witness::exchange::{Answer, Body as Recorded, Exchange, NOT_RECORDED};

/// A node that answers as one did before. It stops when this value is dropped.
#[derive(Debug)]
pub struct Replay {
    addr: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
}

impl Replay {
    /// Listens at `listen` (port 0: a free one) and answers as in `exchanges`.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn start(listen: SocketAddr, exchanges: Vec<Exchange>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let script = Arc::new(Script::new(exchanges));
        let router = Router::new().fallback(answer).with_state(script);
        let stopping = CancellationToken::new();
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(stopping.clone().cancelled_owned());
        Ok(Self { addr, stopping, serving: tokio::spawn(served.into_future()) })
    }

    /// Its JSON-RPC address.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stopping.cancel();
        // Whoever waits for an answer that never comes would keep it.
        self.serving.abort();
    }
}

async fn answer(State(script): State<Arc<Script>>, body: Bytes) -> Response<Body> {
    let Ok(request) = serde_json::from_slice(&body) else {
        let refused = error(&Value::Null, -32_700, "the request is no JSON");
        return json_response(StatusCode::OK, refused.to_string());
    };
    match script.answer(&request) {
        Answer::Http { status, retry_after_ms, body } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut response = match body {
                Recorded::Json(value) => json_response(status, value.to_string()),
                Recorded::Text(text) => {
                    let mut response = Response::new(Body::from(text));
                    *response.status_mut() = status;
                    response
                }
            };
            if let Some(wait) = retry_after_ms {
                response.headers_mut().insert(header::RETRY_AFTER, wait.div_ceil(1000).into());
            }
            response
        }
        Answer::Silent => std::future::pending().await,
        Answer::TooLong => {
            let spaces = Bytes::from_static(&[b' '; 1 << 16]);
            Response::new(Body::from_stream(stream::repeat_with(move || {
                Ok::<_, io::Error>(spaces.clone())
            })))
        }
        Answer::Away | Answer::Cut => {
            let end = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionAborted));
            Response::new(Body::from_stream(stream::iter([end])))
        }
    }
}

fn json_response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What was recorded, by what is asked.
#[derive(Debug)]
struct Script {
    /// Whole requests, with how often each was asked.
    whole: Mutex<HashMap<String, (usize, Vec<Exchange>)>>,
    /// Answers to single calls, also of batches, with their ids in the recording.
    single: HashMap<String, Value>,
    /// Proofs of accounts, without slots, by address and block.
    accounts: HashMap<String, Value>,
    /// Proofs of slots, by address, block and slot.
    slots: HashMap<String, Value>,
}

impl Script {
    fn new(exchanges: Vec<Exchange>) -> Self {
        let (mut single, mut accounts, mut slots) =
            (HashMap::new(), HashMap::new(), HashMap::new());
        for exchange in &exchanges {
            let Answer::Http { status: 200, body: Recorded::Json(body), .. } = &exchange.answer
            else {
                continue;
            };
            for call in calls(&exchange.request) {
                let answered = calls(body).iter().find(|item| is_about(item, call));
                if let Some(answer) = answered {
                    single.insert(question(call), answer.clone());
                    if call["method"] == "eth_getProof" {
                        let mut account = answer.clone();
                        if let Some(Value::Array(proven)) =
                            account.pointer_mut("/result/storageProof").map(Value::take)
                        {
                            for (slot, proof) in slots_of(call).iter().zip(proven) {
                                slots.insert(format!("{}{slot}", account_of(call)), proof);
                            }
                            accounts.insert(account_of(call), account);
                        }
                    }
                }
            }
        }
        let mut whole = HashMap::<_, (usize, Vec<Exchange>)>::new();
        for exchange in exchanges {
            whole.entry(questions(&exchange.request)).or_default().1.push(exchange);
        }
        Self { whole: Mutex::new(whole), single, accounts, slots }
    }

    fn answer(&self, request: &Value) -> Answer {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, exchanges)) = whole.get_mut(&questions(request)) {
            let exchange = &exchanges[(*asked).min(exchanges.len() - 1)];
            *asked += 1;
            return renumbered(exchange, request);
        }
        let answers: Vec<Value> = calls(request).iter().map(|call| self.one(call)).collect();
        let body = match request.is_array() {
            true => Value::Array(answers),
            false => answers.into_iter().next().unwrap_or_default(),
        };
        Answer::Http { status: 200, retry_after_ms: None, body: Recorded::Json(body) }
    }

    fn one(&self, call: &Value) -> Value {
        let answer = self.single.get(&question(call)).cloned().or_else(|| self.proof(call));
        let Some(mut answer) = answer else {
            let text = format!("the recording has no answer to {}", question(call));
            tracing::warn!(text, "a call was not recorded");
            return error(&call["id"], NOT_RECORDED, &text);
        };
        answer["id"] = call["id"].clone();
        answer
    }

    /// A proof, put together from others.
    fn proof(&self, call: &Value) -> Option<Value> {
        let account = account_of(call);
        let mut answer = self.accounts.get(&account)?.clone();
        let slots =
            slots_of(call).iter().map(|slot| self.slots.get(&format!("{account}{slot}")).cloned());
        answer["result"]["storageProof"] = Value::Array(slots.collect::<Option<_>>()?);
        Some(answer)
    }
}

/// The calls of a batch, or the only one.
fn calls(request: &Value) -> &[Value] {
    request.as_array().map_or_else(|| std::slice::from_ref(request), Vec::as_slice)
}

/// What a call asks, whatever its id.
fn question(call: &Value) -> String {
    format!("{}{}", call["method"].as_str().unwrap_or_default(), call["params"])
}

/// Whose proof a call of `eth_getProof` asks for, and at which block.
fn account_of(call: &Value) -> String {
    format!("{}{}", call["params"][0], call["params"][2])
}

fn slots_of(call: &Value) -> &[Value] {
    call["params"][1].as_array().map_or(&[], Vec::as_slice)
}

/// What a whole request asks.
fn questions(request: &Value) -> String {
    let kind = if request.is_array() { "batch " } else { "" };
    calls(request).iter().fold(kind.to_owned(), |text, call| text + &question(call))
}

/// Whether an answer has the id of this call; some nodes make it a text.
fn is_about(answer: &Value, call: &Value) -> bool {
    answer["id"] == call["id"] || answer["id"].as_str() == Some(&call["id"].to_string())
}

/// What was answered, with the ids of `request` where those of the recorded request were.
fn renumbered(exchange: &Exchange, request: &Value) -> Answer {
    let mut answer = exchange.answer.clone();
    if let Answer::Http { body: Recorded::Json(body), .. } = &mut answer {
        let items = match body {
            Value::Array(items) => items.as_mut_slice(),
            item => std::slice::from_mut(item),
        };
        for item in items {
            let asked = calls(&exchange.request).iter().zip(calls(request));
            let id =
                asked.clone().find(|(then, _)| is_about(item, then)).map(|(_, now)| &now["id"]);
            if let Some(id) = id {
                item["id"] =
                    if item["id"].is_string() { id.to_string().into() } else { id.clone() };
            }
        }
    }
    answer
}

fn error(id: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(request: Value, answer: Value) -> Exchange {
        let body = Recorded::Json(answer);
        let answer = Answer::Http { status: 200, retry_after_ms: None, body };
        Exchange { request, answer, took_ms: 1 }
    }

    fn call(id: u64, method: &str) -> Value {
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": [] })
    }

    fn said(script: &Script, request: &Value) -> Value {
        match script.answer(request) {
            Answer::Http { body: Recorded::Json(value), .. } => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_come_in_their_order_and_under_the_ids_of_who_asks() {
        let script = Script::new(vec![
            exchange(call(5, "a"), json!({ "id": 5, "result": 1 })),
            exchange(call(6, "a"), json!({ "id": "6", "result": 2 })),
            exchange(call(7, "b"), json!({ "id": 99, "result": 3 })),
        ]);
        assert_eq!(said(&script, &call(1, "a")), json!({ "id": 1, "result": 1 }));
        assert_eq!(said(&script, &call(2, "a")), json!({ "id": "2", "result": 2 }));
        assert_eq!(said(&script, &call(3, "a")), json!({ "id": "3", "result": 2 }));
        // An id that was wrong stays wrong.
        assert_eq!(said(&script, &call(4, "b")), json!({ "id": 99, "result": 3 }));
        assert_eq!(said(&script, &call(5, "c"))["error"]["code"], NOT_RECORDED);
    }

    #[test]
    fn slots_are_proven_in_other_groups_than_they_were_asked_for() {
        let proof = |id: u64, slots: &[&str]| json!({ "id": id, "method": "eth_getProof", "params": ["0xa", slots, "0x1"] });
        let script = Script::new(vec![exchange(
            proof(5, &["0x1", "0x2"]),
            json!({ "id": 5, "result": { "nonce": "0x7", "storageProof": [{ "key": "0x1" }, { "key": "0x2" }] } }),
        )]);
        for slots in [&["0x2"][..], &["0x2", "0x1"], &[]] {
            let answer = said(&script, &proof(9, slots));
            let keys: Vec<_> = slots.iter().map(|slot| json!({ "key": slot })).collect();
            let result = json!({ "nonce": "0x7", "storageProof": keys });
            assert_eq!(answer, json!({ "id": 9, "result": result }));
        }
        assert_eq!(said(&script, &proof(9, &["0x1", "0x3"]))["error"]["code"], NOT_RECORDED);
    }

    #[test]
    fn another_batch_than_the_recorded_one_is_answered_call_by_call() {
        let script = Script::new(vec![exchange(
            json!([call(5, "a"), call(6, "b")]),
            json!([{ "id": 6, "result": 2 }, { "id": 5, "result": 1 }]),
        )]);
        let same = said(&script, &json!([call(1, "a"), call(2, "b")]));
        assert_eq!(same, json!([{ "id": 2, "result": 2 }, { "id": 1, "result": 1 }]));
        let other = said(&script, &json!([call(8, "b")]));
        assert_eq!(other, json!([{ "id": 8, "result": 2 }]));
        assert_eq!(said(&script, &call(9, "a")), json!({ "id": 9, "result": 1 }));
    }
}
