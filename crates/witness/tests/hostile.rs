//! A node that harms whoever asks it: endless answers, redirects, long error texts, impossible numbers, silence.

use program::ChainConfig;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use witness::{Error, Node};

/// Starts a server that answers every request with `respond`; returns its address.
async fn node<F: Future<Output = ()> + Send>(
    respond: impl Fn(TcpStream) -> F + Send + Copy + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok() {
                    respond(stream).await;
                }
            });
        }
    });
    url
}

async fn refusal(url: &str) -> String {
    match Node::connect(url, ChainConfig::dev()).await {
        Ok(_) => panic!("nothing that it said can be used"),
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    }
}

async fn say(mut stream: TcpStream, answer: &str) {
    // The other side may hang up in the middle.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let url = node(|mut stream| async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let piece = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
        let mut sent = stream.write_all(head.as_bytes()).await;
        let mut pieces = 0;
        while sent.is_ok() {
            // So much is never read.
            assert!(pieces < 40, "{pieces} MB were taken");
            sent = stream.write_all(piece.as_bytes()).await;
            pieces += 1;
        }
    })
    .await;
    let error = refusal(&url).await;
    assert!(
        error.contains("longer than 16777216 bytes") || error.contains("no answer to"),
        "{error}"
    );
    let announced = node(|stream| async move {
        say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{").await;
    })
    .await;
    assert!(refusal(&announced).await.contains("longer than 16777216 bytes"));
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let secret = node(|_| async move { panic!("a redirect was followed") }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let target = secret.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {target}/inner\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret"
            );
            say(stream, &answer).await;
        }
    });
    let error = refusal(&url).await;
    assert!(error.contains("307"), "{error}");
}

#[tokio::test]
async fn long_texts_are_quoted_in_part() {
    let long = node(|stream| async move {
        let words = "word ".repeat(1_000_000);
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":0,"error":{{"code":-32000,"message":"{words}"}}}}"#);
        say(stream, &json(&body)).await;
    })
    .await;
    let error = refusal(&long).await;
    assert!(error.contains("word word") && error.len() < 1_000, "{} bytes", error.len());
    let page = node(|stream| async move {
        let body = "<html>".repeat(1_000_000);
        let head = format!(
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        say(stream, &(head + &body)).await;
    })
    .await;
    let error = refusal(&page).await;
    assert!(error.contains("502") && error.len() < 1_000, "{} bytes", error.len());
}

#[tokio::test]
async fn a_head_that_no_chain_reaches_is_refused() {
    let url = node(|mut stream| async move {
        loop {
            // The chain's id first, and then the head.
            say_next(&mut stream).await;
            let mut request = [0; 4096];
            if !matches!(stream.read(&mut request).await, Ok(1..)) {
                return;
            }
        }
    })
    .await;
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap();
    let error = node.head().await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("no chain reaches"), "{error}");
}

async fn say_next(stream: &mut TcpStream) {
    static SAID: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let id = SAID.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let result = if id == 0 { "0x539" } else { "0xffffffffffffffff" };
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{result}"}}"#);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

#[tokio::test]
async fn a_node_that_never_answers_costs_seconds() {
    let url = node(|stream| async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(stream);
    })
    .await;
    let begun = Instant::now();
    let error = refusal(&url).await;
    assert!(error.contains("no answer to") && error.contains("in 5 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}
