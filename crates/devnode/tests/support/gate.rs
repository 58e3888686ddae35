//! A gate before a node: it refuses some methods as a node does that lacks them, may leave a trie node out of witnesses,
//! takes its time, and counts.

use alloy_primitives::{B256, Bytes, keccak256};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The gate. It is open as long as it lives.
pub(crate) struct Gate {
    url: String,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Way {
    to: String,
    refused: &'static [&'static str],
    delay: Duration,
    /// What its witnesses lack.
    lacks: Option<B256>,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    client: reqwest::Client,
}

impl Gate {
    /// Opens a gate before the node at `to` that refuses methods whose names begin with one of `refused`, and answers
    /// each request after `delay` at the earliest.
    pub(crate) async fn before(
        to: String,
        refused: &'static [&'static str],
        delay: Duration,
    ) -> Self {
        Self::open(to, refused, delay, None).await
    }

    /// Opens a gate that refuses methods whose names begin with one of `refused`, and leaves the trie node with this
    /// hash out of witnesses.
    pub(crate) async fn without(to: String, refused: &'static [&'static str], lacks: B256) -> Self {
        Self::open(to, refused, Duration::ZERO, Some(lacks)).await
    }

    async fn open(
        to: String,
        refused: &'static [&'static str],
        delay: Duration,
        lacks: Option<B256>,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let client = reqwest::Client::new();
        let way = Way { to, refused, delay, lacks, calls: calls.clone(), client };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(way.clone().serve(stream));
            }
        });
        Self { url, calls, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How often this method was called.
    pub(crate) fn calls(&self, method: &str) -> usize {
        self.calls.lock().unwrap().get(method).copied().unwrap_or_default()
    }
}

impl Way {
    /// Answers the requests of one connection.
    async fn serve(self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                match stream.read_line(&mut line).await {
                    Ok(read) if read > 0 => {}
                    _ => return,
                }
                let line = line.trim().to_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let (answer, _) = tokio::join!(
                self.answer(serde_json::from_slice(&body).unwrap()),
                tokio::time::sleep(self.delay)
            );
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            if stream.write_all((head + &answer).as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: Value) -> Value {
        let Value::Array(calls) = request else { return self.one(request).await };
        let answers = calls.into_iter().map(|call| self.one(call));
        futures::future::join_all(answers).await.into()
    }

    async fn one(&self, call: Value) -> Value {
        let method = call["method"].as_str().unwrap().to_owned();
        *self.calls.lock().unwrap().entry(method.clone()).or_default() += 1;
        if self.refused.iter().any(|prefix| method.starts_with(prefix)) {
            let error = json!({ "code": -32601, "message": "the method does not exist" });
            return json!({ "jsonrpc": "2.0", "id": call["id"], "error": error });
        }
        let answer = self.client.post(&self.to).json(&call).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        if let Some(state) = answer.pointer_mut("/result/state").and_then(Value::as_array_mut) {
            state.retain(|node| {
                let node: Bytes = node.as_str().unwrap().parse().unwrap();
                Some(keccak256(node)) != self.lacks
            });
        }
        answer
    }
}
