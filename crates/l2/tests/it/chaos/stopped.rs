//! A client is stopped (SIGSTOP) with a job: for less than its lease, and for more.

use std::sync::mpsc;
use std::time::Duration;

use super::{Arena, signal};
use crate::common::{PATIENCE, Service};
use crate::proxy::{self, Step, Then};

/// A client that is stopped when it has the input, and goes on after `pause`.
async fn stopped_for(arena: &Arena, pause: Duration) -> Service {
    arena.mine(1).await;
    let (tell, reached) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let mut once = Some((tell, gone));
    let proxy = proxy::start(&arena.endpoint(), move |now| {
        if now == Step::Downloaded
            && let Some((tell, gone)) = once.take()
        {
            tell.send(()).expect("the test waits");
            gone.recv_timeout(PATIENCE).expect("the test goes on");
        }
        Then::PassOn
    });
    let client = arena.client("stopped", &proxy);
    tokio::task::block_in_place(|| {
        reached.recv_timeout(PATIENCE).expect("it comes there");
        signal(client.id(), "-STOP");
        go.send(()).expect("the proxy waits");
        std::thread::sleep(pause);
    });
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stopped_for_less_than_its_lease_keeps_its_job() {
    let Some(arena) = Arena::new("10s", false).await else { return };
    let stopped = stopped_for(&arena, Duration::from_secs(1)).await;
    let _idle = arena.client("idle", &arena.endpoint());
    tokio::time::sleep(Duration::from_secs(2)).await;
    signal(stopped.id(), "-CONT");
    let status = arena.finish(1).await;
    assert_eq!((status.jobs[0].lost, status.jobs[0].failures), (0, 0), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stopped_for_more_than_its_lease_loses_its_job_to_another() {
    let Some(arena) = Arena::new("2s", false).await else { return };
    let stopped = stopped_for(&arena, Duration::from_secs(1)).await;
    let _idle = arena.client("idle", &arena.endpoint());
    let proved = |status: &protocol::Status| status.counts.proved == 1;
    crate::common::status_when(&arena.endpoint(), proved).await;
    // It comes back with a proof that nobody needs any more, and with no harm.
    signal(stopped.id(), "-CONT");
    arena.mine(1).await;
    let status = arena.finish(2).await;
    assert_eq!(status.jobs[0].lost, 1, "{status:?}");
}
