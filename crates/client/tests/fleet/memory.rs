//! A prover whose memory runs out: scripted executables that need less with smaller segments.

use crate::fake::{Echo, Fake, Manners, config, until};
use client::{
    Client, FailureClass, Prover as _, ProverProcess,
    process::{PROTOCOL, Setup, VERSION},
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

/// What RISC Zero says on a GPU that has too little memory.
const CUDA: &str = r#"{"failed":{"class":"backend_failed","detail":"RISC Zero panicked: called `Result::unwrap()` on an `Err` value: allocation failed on check: 5368709120 bytes\n\nCaused by:\n    out of memory"}}"#;

/// An executable that runs out of memory if a segment has more than 2 to the power of `most` cycles. It notes which sizes it tried.
fn short_of_memory(folder: &Path, most: u32, segment_po2: u32) -> ProverProcess {
    let program = folder.join("prover");
    let tried = folder.join("tried");
    let script = format!(
        r#"#!/bin/sh
printf '%s\n' '{{"hello":{{"protocol":{PROTOCOL},"name":"scripted","version":"{VERSION}"}}}}'
read -r work
echo "$2" >> {tried}
if [ "$2" -gt {most} ]; then
    printf '%s\n' '{CUDA}'
    exit
fi
input=$(printf '%s' "$work" | sed 's/.*"input":"\([^"]*\)".*/\1/')
proof=$(printf '%s' "$work" | sed 's/.*"proof":"\([^"]*\)".*/\1/')
cp "$input" "$proof"
sha256=$(sha256sum < "$proof" | cut -d ' ' -f 1)
printf '{{"done":{{"result":{{"proof":{{"sha256":"%s","len":%d}}}}}}}}\n' "$sha256" "$(wc -c < "$proof")"
"#,
        tried = tried.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let setup = Setup {
        program,
        arguments: ["--segment-po2", "22"].map(Into::into).to_vec(),
        environment: Vec::new(),
        folder: folder.join("client/scratch"),
        stall: Duration::from_secs(60),
        limit: Duration::from_secs(60),
    };
    ProverProcess::new(setup, &Echo::default()).with_segments(segment_po2)
}

fn tried(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join("tried")).unwrap_or_default();
    text.split_whitespace().map(|po2| po2.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_proved_with_smaller_segments_when_memory_runs_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Fake::start(1, Manners { jobs: 2, ..Manners::default() }).await;
    let prover = short_of_memory(dir.path(), 18, 20);
    let client =
        Client::start(config(dir.path(), &[&server.url]), Arc::new(prover.clone())).await.unwrap();
    until("both are proved", || server.accepted() == 2).await;
    assert_eq!(
        tried(dir.path()),
        [20, 19, 18, 18],
        "the next job does not try the larger ones again"
    );
    assert_eq!(prover.segment_po2(), Some(18), "the server hears of it with the next request");
    assert_eq!(server.seen().fails.lock().unwrap().len(), 0);
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prover_that_is_short_of_memory_with_the_smallest_segments_gives_the_job_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Fake::start(1, Manners { jobs: 1, ..Manners::default() }).await;
    let prover = short_of_memory(dir.path(), 15, 17);
    let client = Client::start(config(dir.path(), &[&server.url]), Arc::new(prover)).await.unwrap();
    let fails = || server.seen().fails.lock().unwrap().clone();
    until("it is given back", || !fails().is_empty()).await;
    client.stop().await;
    assert_eq!(tried(dir.path())[..2], [17, 16]);
    let fail = fails().remove(0);
    assert_eq!(fail.class, FailureClass::OutOfMemory);
    assert!(fail.message.contains("allocation failed on check"), "{}", fail.message);
    assert!(tried(dir.path()).iter().all(|po2| *po2 >= 16), "{:?}", tried(dir.path()));
}
