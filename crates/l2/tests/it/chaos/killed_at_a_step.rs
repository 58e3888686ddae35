//! The server is killed at each step of a job's way: after it has lent the job, while it sends the input, before and after it
//! has the proof, after it has judged it and before its client knows.

use std::sync::mpsc;

use super::Arena;
use crate::common::PATIENCE;
use crate::proxy::{self, Step, Then};

async fn check(database: bool) {
    let Some(mut arena) = Arena::new("60s", database).await else { return };
    let steps = [
        Step::Leased,
        Step::HalfDownloaded,
        Step::Downloaded,
        Step::Uploading,
        Step::Uploaded,
        Step::Judged,
    ];
    let blocks = steps.len() as u64;
    for (step, goal) in steps.into_iter().zip(1..) {
        arena.mine(1).await;
        let (tell, reached) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let mut once = Some((tell, gone));
        let proxy = proxy::start(&arena.endpoint(), move |now| {
            if now == step
                && let Some((tell, gone)) = once.take()
            {
                tell.send(()).expect("the test waits");
                gone.recv_timeout(PATIENCE).expect("the test goes on");
            }
            Then::PassOn
        });
        let client = arena.client("a", &proxy);
        tokio::task::block_in_place(|| {
            reached.recv_timeout(PATIENCE).expect("it comes there");
            arena.kill_server();
            go.send(()).expect("the proxy waits");
        });
        let proved = |status: &protocol::Status| status.counts.proved == goal;
        let status = crate::common::status_when(&arena.endpoint(), proved).await;
        for job in &status.jobs {
            assert_eq!((job.failures, job.lost), (0, 0), "killed at {step:?}: {job:?}");
        }
        drop(client);
    }
    arena.finish(blocks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_step_loses_nothing() {
    check(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_step_loses_nothing_on_postgresql() {
    check(true).await;
}
