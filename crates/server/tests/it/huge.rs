//! Bodies and heads of any size: refused as soon as that is known, and nothing of them is kept.

use crate::common::{Chain, config, everything, nothing_is_half_stored, raw, serve, to_end};
use protocol::ArtifactId;
use server::{Config, Running};
use tokio::io::AsyncWriteExt;

/// Sends `head` and then `piece` over and over until the server hangs up. Returns its answer.
async fn pour(running: &Running, head: String, piece: Vec<u8>) -> String {
    let (mut read, mut write) = raw(running).await.into_split();
    write.write_all(head.as_bytes()).await.unwrap();
    let pouring = tokio::spawn(async move {
        while !piece.is_empty() && write.write_all(&piece).await.is_ok() {}
        write
    });
    let mut bytes = Vec::new();
    let end = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut bytes);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(60), end).await.expect("it ends");
    pouring.abort();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_is_refused_before_it_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { max_artifact_bytes: 1 << 20, ..config(dir.path()) };
    let running = serve(config.clone(), &Chain::new(0)).await;
    let before = everything(&config).await;
    let artifact = format!("/v1/artifacts/{}", ArtifactId::of(b"endless"));
    for (method, path) in [("POST", "/v1/request"), ("PUT", &*artifact)] {
        // Announced: nothing has to be sent at all.
        for length in ["99999999999999", "9223372036854775807"] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
            );
            let answer = pour(&running, head, Vec::new()).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{path} {length}: {answer}");
            assert!(answer.contains("\"too_large\""), "{path} {length}: {answer}");
        }
        // Without an end.
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let piece = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let answer = pour(&running, head, piece).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
        // No length at all, or two: HTTP itself refuses.
        for length in ["-1", "1e9", "5\r\ncontent-length: 6"] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
            );
            let answer = pour(&running, head, Vec::new()).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{path} {length}: {answer}");
        }
    }
    nothing_is_half_stored(dir.path()).await;
    assert_eq!(everything(&config).await, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_too_long_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(config(dir.path()), &Chain::new(0)).await;
    let many: String = (0..65).map(|n| format!("x-{n}: y\r\n")).collect();
    for (rest, status) in [
        (format!("x-long: {}\r\n\r\n", "y".repeat(17 << 10)), "HTTP/1.1 431"),
        (format!("{many}\r\n"), "HTTP/1.1 431"),
        ("\r\n".to_owned(), "HTTP/1.1 200"),
    ] {
        let mut stream = raw(&running).await;
        let head = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{rest}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = to_end(&mut stream).await;
        assert!(answer.starts_with(status), "{}: {answer}", rest.len());
    }
    running.stop().await;
}
