//! A JSON-RPC proxy on loopback that answers as some real node or gateway does, in front of a dev node.

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What is asked: one call, or a batch.
pub(crate) struct Asked {
    pub request: Value,
    /// How often the same was asked before.
    pub before: u32,
}

impl Asked {
    pub(crate) fn is_batch(&self) -> bool {
        self.request.is_array()
    }

    pub(crate) fn calls(&self) -> &[Value] {
        match &self.request {
            Value::Array(calls) => calls,
            call => std::slice::from_ref(call),
        }
    }

    /// Whether one of the calls is of one of these methods.
    pub(crate) fn any_of(&self, methods: &[&str]) -> bool {
        self.calls().iter().any(|call| methods.contains(&method(call)))
    }
}

pub(crate) fn method(call: &Value) -> &str {
    call["method"].as_str().expect("a call has a method")
}

/// An error as the answer to this call.
pub(crate) fn error(call: &Value, code: impl Into<Value>, message: &str) -> Value {
    let error = json!({ "code": code.into(), "message": message });
    json!({ "jsonrpc": "2.0", "id": call["id"], "error": error })
}

/// What to answer.
pub(crate) enum Say {
    /// What the node says.
    Node,
    /// What the node says to each call, but for those that are answered here.
    Each(fn(&Value) -> Option<Value>),
    /// What the node says, changed.
    Edited(fn(Value) -> Value),
    /// The bytes of what the node says, with this `Content-Encoding`, packed.
    Packed(&'static str, fn(&[u8]) -> Vec<u8>),
    /// This value.
    Json(Value),
    /// This status, header and body.
    Http(u16, &'static str, &'static str),
    /// The beginning of an answer, and then nothing.
    Cut,
    /// Nothing.
    HangUp,
    /// Nothing, and the connection stays.
    Silence,
    /// Ever more of the same.
    Endless(&'static str),
}

pub(crate) type Mode = fn(&Asked) -> Say;

/// How often each question was asked: whether by a batch, the first call's method and its parameters.
pub(crate) type Seen = Arc<Mutex<HashMap<(bool, String, String), u32>>>;

/// Starts the proxy and gives its URL. It runs until the test ends.
pub(crate) async fn start(upstream: String, mode: Mode) -> String {
    start_seen(upstream, mode).await.0
}

/// [`start`], with what it is asked.
pub(crate) async fn start_seen(upstream: String, mode: Mode) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (http, seen) = (reqwest::Client::new(), Seen::default());
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let proxy =
                Proxy { upstream: upstream.clone(), http: http.clone(), seen: seen.clone() };
            // Whoever asked may hang up.
            tokio::spawn(async move { proxy.serve(stream, mode).await.unwrap_or_default() });
        }
    });
    (url, counted)
}

struct Proxy {
    upstream: String,
    http: reqwest::Client,
    seen: Seen,
}

impl Proxy {
    async fn serve(&self, stream: TcpStream, mode: Mode) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                match line.to_lowercase().strip_prefix("content-length:") {
                    Some(text) => length = text.trim().parse().expect("a length"),
                    None if line.trim().is_empty() => break,
                    None => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let request: Value = serde_json::from_slice(&body).expect("the request is JSON");
            let asked = Asked { before: self.count(&request), request };
            if !self.answer(&mut stream, &asked, mode(&asked)).await? {
                return Ok(());
            }
        }
    }

    fn count(&self, request: &Value) -> u32 {
        let first = if request.is_array() { &request[0] } else { request };
        let question = (request.is_array(), method(first).to_owned(), first["params"].to_string());
        let mut seen = self.seen.lock().unwrap();
        let times = seen.entry(question).or_insert(0);
        *times += 1;
        *times - 1
    }

    /// Returns whether the connection stays.
    async fn answer(
        &self,
        stream: &mut BufReader<TcpStream>,
        asked: &Asked,
        say: Say,
    ) -> std::io::Result<bool> {
        let json = "content-type: application/json";
        let (status, header, body) = match say {
            Say::Node => (200, json.to_owned(), text(&self.forward(&asked.request).await)),
            Say::Each(change) => {
                let mut answers = Vec::new();
                for call in asked.calls() {
                    answers.push(match change(call) {
                        Some(answer) => answer,
                        None => self.forward(call).await,
                    });
                }
                let whole = Value::Array(answers);
                let body = if asked.is_batch() { text(&whole) } else { text(&whole[0]) };
                (200, json.to_owned(), body)
            }
            Say::Edited(change) => {
                (200, json.to_owned(), text(&change(self.forward(&asked.request).await)))
            }
            Say::Packed(encoding, pack) => {
                let body = pack(&text(&self.forward(&asked.request).await));
                (200, format!("{json}\r\ncontent-encoding: {encoding}"), body)
            }
            Say::Json(value) => (200, json.to_owned(), text(&value)),
            Say::Http(status, header, body) => (status, header.to_owned(), body.into()),
            Say::Cut => {
                let beginning = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"jsonrpc\"";
                stream.write_all(beginning).await?;
                stream.shutdown().await?;
                return Ok(false);
            }
            Say::Silence => return std::future::pending().await,
            Say::HangUp => {
                stream.shutdown().await?;
                return Ok(false);
            }
            Say::Endless(piece) => {
                let head =
                    format!("HTTP/1.1 200 OK\r\n{json}\r\ntransfer-encoding: chunked\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                let piece = piece.repeat((1 << 16) / piece.len());
                loop {
                    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                    stream.write_all(chunk.as_bytes()).await?;
                }
            }
        };
        let header = if header.is_empty() { header } else { format!("{header}\r\n") };
        let head = format!("HTTP/1.1 {status} ?\r\n{header}content-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        Ok(true)
    }

    async fn forward(&self, request: &Value) -> Value {
        let answer = self.http.post(&self.upstream).json(request).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}
