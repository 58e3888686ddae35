//! Peers that take their time: they are cut, and nobody else notices.

use crate::common::{Chain, config, http, nothing_is_half_stored, raw, serve, to_end, until};
use protocol::ArtifactId;
use server::{Config, Running, config::Limits};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Short patience, so that the test has an end.
fn impatient(dir: &Path) -> Config {
    let limits = Limits {
        header_time: Duration::from_millis(300),
        idle_time: Duration::from_millis(900),
        message_time: Duration::from_secs(2),
        slow_time: Duration::from_millis(300),
        bytes_per_second: 10_000,
        ..Limits::default()
    };
    Config { limits, ..config(dir) }
}

/// Sends `head`, then a byte of `rest` at a time, until the server hangs up. Returns its last words.
async fn drip(running: &Running, head: &str, rest: &'static [u8]) -> String {
    let mut stream = raw(running).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sent = Arc::new(AtomicUsize::new(0));
    let dripping = tokio::spawn({
        let sent = sent.clone();
        async move {
            for byte in rest {
                if write.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let mut bytes = Vec::new();
    let end = AsyncReadExt::read_to_end(&mut read, &mut bytes);
    let _ = tokio::time::timeout(Duration::from_secs(60), end).await.expect("it is cut");
    dripping.abort();
    assert!(sent.load(Ordering::Relaxed) < rest.len(), "it was cut before it was done");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_drip_are_cut_while_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(impatient(dir.path()), &Chain::new(0)).await;
    let loris = |head: &'static str| drip(&running, head, &[b'x'; 30_000]);
    let lorises = futures::future::join_all((0..20).map(|n| {
        loris(match n % 3 {
            0 => "",
            1 => "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
            // The second request on a connection, too.
            _ => "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nx-slow: ",
        })
    }));
    let others = async {
        for _ in 0..20 {
            let answer = http().get(format!("{}/livez", running.url())).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    };
    let (answers, ()) = tokio::join!(lorises, others);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.contains("200 OK"), n % 3 == 2, "{n}: {answer}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_drip_are_cut_with_a_reason_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(impatient(dir.path()), &Chain::new(0)).await;
    let id = ArtifactId::of(b"never whole");
    for head in [
        format!(
            "PUT /v1/artifacts/{id} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 30000\r\n\r\n"
        ),
        "POST /v1/request HTTP/1.1\r\nhost: localhost\r\ncontent-length: 30000\r\n\r\n".to_owned(),
    ] {
        let answer = drip(&running, &head, &[b'x'; 30_000]).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"too_slow\""), "{answer}");
    }
    nothing_is_half_stored(dir.path()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_its_answer_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = impatient(dir.path());
    config.limits.connections_per_address = 1;
    let running = serve(config, &Chain::new(0)).await;
    let bytes = vec![7; 64 << 20];
    let id = ArtifactId::of(&bytes);
    let path = format!("{}/v1/artifacts/{id}", running.url());
    assert_eq!(http().put(&path).body(bytes).send().await.unwrap().status(), 201);
    // The lazy one has the only connection that there may be, until it is cut.
    let mut lazy = loop {
        let mut lazy = raw(&running).await;
        let head = format!("GET /v1/artifacts/{id} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut begun = [0; 12];
        if lazy.write_all(head.as_bytes()).await.is_ok()
            && lazy.read_exact(&mut begun).await.is_ok()
            && &begun == b"HTTP/1.1 200"
        {
            break lazy;
        }
    };
    until("it is cut", async || {
        let live = http().get(format!("{}/livez", running.url())).send().await;
        live.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    assert!(to_end(&mut lazy).await.len() < 64 << 20);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_work_is_not_being_slow_and_a_quiet_connection_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let running = serve(impatient(dir.path()), &Chain::new(0)).await;
    let wait = serde_json::json!({"type": "Request", "client": "00".repeat(16), "wait_ms": 2_500,
        "capabilities": [{"system": "exec", "program_id": format!("0x{}", "00".repeat(32))}]})
    .to_string();
    let mut stream = raw(&running).await;
    let head = format!(
        "POST /v1/request HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{wait}",
        wait.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer comes after all patience for silent peers, and then the silent peer is let go.
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("nothing_ready"), "{answer}");
    running.stop().await;
}
