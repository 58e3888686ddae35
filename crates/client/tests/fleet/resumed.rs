//! Downloads that break.

use crate::fake::{Echo, Fake, Manners, config, start, until};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_breaks_continues_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let input: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (cut, ranges) = (Some(30_000), true);
    let manners = Manners { jobs: 1, input, cut, ranges, ..Manners::default() };
    let server = Fake::start(1, manners).await;
    let client = start(config(dir.path(), &[&server.url]), &Echo::new(0)).await;
    until("it is proved", || server.accepted() == 1).await;
    let asked = server.seen().ranges.lock().unwrap().clone();
    let wanted = [None, Some("bytes=30000-"), Some("bytes=60000-"), Some("bytes=90000-")];
    assert_eq!(asked, wanted.map(|range| range.map(str::to_owned)));
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_from_a_server_without_ranges_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let manners =
        Manners { jobs: 1, input: vec![7; 100_000], cut: Some(30_000), ..Manners::default() };
    let server = Fake::start(1, manners).await;
    let client = start(config(dir.path(), &[&server.url]), &Echo::new(0)).await;
    until("it has broken", || server.seen().ranges.lock().unwrap().len() > 1).await;
    server.change(|manners| manners.cut = None);
    let took = until("it is proved", || server.accepted() == 1).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    client.stop().await;
}
