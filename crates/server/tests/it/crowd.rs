//! More connections than anybody needs.

use crate::common::{Chain, config, http, raw, serve, to_end, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::{Config, config::Limits};
use tokio::io::AsyncWriteExt;

const WANTED: u64 = 10_000;

/// As many connections as this process may hold both ends of, up to [`WANTED`].
fn possible() -> u64 {
    let most = 2 * WANTED + 1_000;
    // A privileged process may raise both.
    let raised = Rlimit { current: Some(most), maximum: Some(most) };
    if getrlimit(Resource::Nofile).current.is_some_and(|now| now < most)
        && setrlimit(Resource::Nofile, raised).is_err()
    {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(most);
    WANTED.min(files.saturating_sub(1_000) / 2)
}

/// The memory this process holds, in bytes.
pub(crate) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_cost_little_and_leave_room_for_others() {
    let connections = usize::try_from(possible()).unwrap();
    assert!(connections > 100, "only {connections} connections are possible here");
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        connections: connections + 10,
        connections_per_address: connections + 10,
        header_time: std::time::Duration::from_secs(600),
        idle_time: std::time::Duration::from_secs(600),
        ..Limits::default()
    };
    let running = serve(Config { limits, ..config(dir.path()) }, &Chain::new(0)).await;
    let live = format!("{}/livez", running.url());
    assert_eq!(http().get(&live).send().await.unwrap().status(), 200);
    let before = memory();
    let mut crowd = Vec::new();
    for n in 0..connections {
        let mut stream = raw(&running).await;
        // A head that has begun costs more than silence.
        if n % 2 == 0 {
            stream.write_all(b"POST /v1/request HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
        }
        crowd.push(stream);
    }
    // Served after all of them, so they have been accepted.
    assert_eq!(http().get(&live).send().await.unwrap().status(), 200);
    let held = memory().saturating_sub(before);
    // The test's own ends included: less than 32 kB for each.
    assert!(held < 32_000 * connections as u64, "{held} bytes for {connections} connections");
    drop(crowd);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_told_so_and_another_may_come_later() {
    for limits in [
        Limits { connections_per_address: 3, ..Limits::default() },
        Limits { connections: 3, ..Limits::default() },
    ] {
        let dir = tempfile::tempdir().unwrap();
        let running = serve(Config { limits, ..config(dir.path()) }, &Chain::new(0)).await;
        let crowd = [raw(&running).await, raw(&running).await, raw(&running).await];
        let answer = to_end(&mut raw(&running).await).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains(r#""code":"rate_limited""#), "{answer}");
        assert!(answer.contains(r#""retryable":true"#), "{answer}");
        drop(crowd);
        until("there is room again", async || {
            let live = http().get(format!("{}/livez", running.url()));
            live.send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        running.stop().await;
    }
}
