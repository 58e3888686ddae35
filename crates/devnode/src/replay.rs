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
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use std::{
    collections::{BTreeMap, HashMap},
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
        let error = json!({ "code": -32_700, "message": "the request is no JSON" });
        let refused = json!({ "jsonrpc": "2.0", "id": null, "error": error });
        return response(StatusCode::OK, true, refused.to_string());
    };
    match script.answer(&request) {
        Answer::Http { status, retry_after_ms, body } => {
            // No other status ends an exchange.
            let status = Some(status).filter(|status| (200..600).contains(status));
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
            let mut response = match body {
                Recorded::Json(json) => response(status, true, json.get().to_owned()),
                Recorded::Text(text) => response(status, false, text),
            };
            if let Some(wait) = retry_after_ms {
                let seconds = format!("{}.{:03}", wait / 1000, wait % 1000);
                let seconds = HeaderValue::from_str(&seconds).expect("digits are a header's value");
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            response
        }
        Answer::Silent => std::future::pending().await,
        Answer::TooLong => {
            let spaces = Bytes::from_static(&[b' '; 1 << 16]);
            let endless = stream::repeat_with(move || Ok::<_, io::Error>(spaces.clone()));
            Response::new(Body::from_stream(endless))
        }
        Answer::Away | Answer::Cut => {
            let end = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionAborted));
            Response::new(Body::from_stream(stream::iter([end])))
        }
    }
}

fn response(status: StatusCode, json: bool, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    if json {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    response
}

/// One answer to a call, field by field. Whoever recorded need not be trusted: an answer may be anything.
type Fields = BTreeMap<String, Box<RawValue>>;

/// What was recorded, by what is asked.
#[derive(Debug)]
struct Script {
    /// Whole requests, with how often each was asked.
    whole: Mutex<HashMap<String, (usize, Vec<Exchange>)>>,
    /// Answers to single calls, also of batches.
    single: HashMap<String, Fields>,
    /// Proofs of accounts, without slots, by address and block.
    accounts: HashMap<String, Value>,
    /// Proofs of slots, by address, block and slot.
    slots: HashMap<String, Value>,
}

impl Script {
    fn new(exchanges: Vec<Exchange>) -> Self {
        let mut script = Self {
            whole: Mutex::default(),
            single: HashMap::new(),
            accounts: HashMap::new(),
            slots: HashMap::new(),
        };
        let mut whole = HashMap::<_, (usize, Vec<Exchange>)>::new();
        for exchange in exchanges {
            if let Answer::Http { status: 200, body: Recorded::Json(body), .. } = &exchange.answer {
                script.learn(&exchange.request, body);
            }
            whole.entry(questions(&exchange.request)).or_default().1.push(exchange);
        }
        Self { whole: Mutex::new(whole), ..script }
    }

    /// Learns the answers to each call.
    fn learn(&mut self, request: &Value, body: &RawValue) {
        let by_id: HashMap<String, &Value> =
            calls(request).iter().map(|call| (id_of(&call["id"]), call)).collect();
        for fields in items(body).into_iter().filter_map(Result::ok) {
            let Some(call) = fields.get("id").and_then(|id| by_id.get(&raw_id(id))) else {
                continue;
            };
            if call["method"] == "eth_getProof"
                && let Some(proof) = fields.get("result")
                && let Ok(mut account) = serde_json::from_str::<Value>(proof.get())
                && let Some(Value::Array(proven)) = account.get_mut("storageProof").map(Value::take)
            {
                for (slot, proof) in slots_of(call).iter().zip(proven) {
                    self.slots.insert(format!("{}{slot}", account_of(call)), proof);
                }
                self.accounts.insert(account_of(call), account);
            }
            self.single.insert(question(call), fields);
        }
    }

    fn answer(&self, request: &Value) -> Answer {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, exchanges)) = whole.get_mut(&questions(request)) {
            let exchange = &exchanges[(*asked).min(exchanges.len() - 1)];
            *asked += 1;
            return renumbered(exchange, request);
        }
        drop(whole);
        let answers: Vec<Fields> = calls(request).iter().map(|call| self.one(call)).collect();
        let body = match request.is_array() {
            true => to_raw_value(&answers),
            false => to_raw_value(&answers.first()),
        };
        let body = body.expect("answers have only text keys");
        Answer::Http { status: 200, retry_after_ms: None, body: Recorded::Json(body) }
    }

    fn one(&self, call: &Value) -> Fields {
        let known = self.single.get(&question(call)).cloned().or_else(|| self.proof(call));
        let mut answer = known.unwrap_or_else(|| {
            let text = format!("the recording has no answer to {}", question(call));
            tracing::warn!(text, "a call was not recorded");
            let error = json!({ "code": NOT_RECORDED, "message": text });
            [("error".to_owned(), raw(&error))].into()
        });
        answer.insert("id".to_owned(), raw(&call["id"]));
        answer
    }

    /// A proof, put together from others.
    fn proof(&self, call: &Value) -> Option<Fields> {
        let account = account_of(call);
        let mut proof = self.accounts.get(&account)?.clone();
        let slots = slots_of(call).iter();
        let slots = slots.map(|slot| self.slots.get(&format!("{account}{slot}")).cloned());
        proof["storageProof"] = Value::Array(slots.collect::<Option<_>>()?);
        Some([("result".to_owned(), raw(&proof))].into())
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("a value has only text keys")
}

/// The calls of a batch, or the only one.
fn calls(request: &Value) -> &[Value] {
    request.as_array().map_or_else(|| std::slice::from_ref(request), Vec::as_slice)
}

/// The answers in a body; what is no object stays as it is.
fn items(body: &RawValue) -> Vec<Result<Fields, Box<RawValue>>> {
    let all = serde_json::from_str::<Vec<Box<RawValue>>>(body.get());
    let all = all.unwrap_or_else(|_| vec![body.to_owned()]);
    all.into_iter().map(|item| serde_json::from_str(item.get()).map_err(|_| item)).collect()
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

/// An id, whether it is a number or a text: some nodes make it a text.
fn id_of(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

fn raw_id(id: &RawValue) -> String {
    id.get().trim_matches('"').to_owned()
}

/// What was answered, with the ids of `request` where those of the recorded request were.
fn renumbered(exchange: &Exchange, request: &Value) -> Answer {
    let Answer::Http { status, retry_after_ms, body: Recorded::Json(body) } = &exchange.answer
    else {
        return exchange.answer.clone();
    };
    let asked = calls(&exchange.request).iter().zip(calls(request));
    let ids: HashMap<String, &Value> =
        asked.map(|(then, now)| (id_of(&then["id"]), &now["id"])).collect();
    let renumber = |item: Result<Fields, Box<RawValue>>| -> Box<RawValue> {
        let mut fields = match item {
            Ok(fields) => fields,
            Err(item) => return item,
        };
        if let Some(id) = fields.get_mut("id")
            && let Some(now) = ids.get(&raw_id(id))
        {
            *id = match id.get().starts_with('"') {
                true => raw(&now.to_string().into()),
                false => raw(now),
            };
        }
        to_raw_value(&fields).expect("an answer has only text keys")
    };
    let mut answers: Vec<Box<RawValue>> = items(body).into_iter().map(renumber).collect();
    let body = match body.get().trim_start().starts_with('[') {
        true => to_raw_value(&answers).expect("a list has no keys"),
        false => answers.swap_remove(0),
    };
    let (status, retry_after_ms) = (*status, *retry_after_ms);
    Answer::Http { status, retry_after_ms, body: Recorded::Json(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(request: Value, answer: Value) -> Exchange {
        let body = Recorded::Json(raw(&answer));
        let answer = Answer::Http { status: 200, retry_after_ms: None, body };
        Exchange { request, answer, took_ms: 1 }
    }

    fn call(id: u64, method: &str) -> Value {
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": [] })
    }

    fn said(script: &Script, request: &Value) -> Value {
        match script.answer(request) {
            Answer::Http { body: Recorded::Json(json), .. } => {
                serde_json::from_str(json.get()).unwrap()
            }
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

    #[test]
    fn a_recording_of_a_stranger_s_breaks_nothing() {
        // No ids; answers that are no objects; as many as there is room for, and none that fits.
        let many: Vec<Value> = (0..60_000).map(|_| json!({ "id": 1 })).collect();
        for (request, answer) in [
            (json!({}), json!("x")),
            (json!(5), json!([["q"]])),
            (json!([]), json!([])),
            (json!([{ "id": 1 }]), json!([1, null, { "id": {} }])),
            (json!(many), json!(vec![0; 60_000])),
        ] {
            let script = Script::new(vec![exchange(request.clone(), answer.clone())]);
            for asked in [request, call(1, "a"), json!([call(1, "a")])] {
                script.answer(&asked);
            }
        }
    }
}
