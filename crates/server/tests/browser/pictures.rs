//! The pictures of docs/dashboard.md: `make dashboard-pictures`.

use crate::{
    closed,
    common::{Chain, serve, token, until},
    driver::{Browser, is_here},
    in_state,
    scene::{self, Fleet},
    sign_in,
};
use protocol::{ClientId, Fail, FailureClass, JobState, ProofData};
use server::{Config, Running, tokens::Role};
use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

/// Clients, and how long their proofs take, in milliseconds.
const CLIENTS: [(&str, u64); 4] =
    [("paris-gpu-1", 700), ("paris-gpu-2", 900), ("oslo-gpu-1", 1_200), ("laptop", 2_600)];

/// A page's picture has at most so many bytes.
const LARGEST: u64 = 150_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pictures_of_the_docs() {
    let Some(folder) = std::env::var_os("PICTURES").map(PathBuf::from) else { return };
    assert!(is_here(), "there is no chromedriver: make setup-browser");
    std::fs::create_dir_all(&folder).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = Config { max_failures: 1, ..closed(dir.path()) };
    let (_, operator) = token(&config, Role::Operator).await;
    let (_, client) = token(&config, Role::Client).await;
    let (_, other) = token(&config, Role::Client).await;
    let chain = Chain::new(1);
    let server = serve(config, &chain).await;
    chain.head.store(12, Ordering::SeqCst);
    let mut fleet = Vec::new();
    for (name, takes) in CLIENTS {
        let takes = Duration::from_millis(takes);
        fleet.push(Fleet::with_token(dir.path(), &server, &[name], takes, Some(&client)).await);
    }
    let proved = async || server.status().await.unwrap().counts.proved;
    for head in (12..=90).step_by(3) {
        chain.head.store(head, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(400)).await;
        if head == 60 {
            give_up(&server, &other).await;
        }
    }
    until("many are proved", async || proved().await > 60).await;

    let browser = Browser::start(1280, 900).await;
    sign_in(&browser, &server, &operator).await;
    browser.until("document.querySelectorAll('#clients li').length >= 4 && document.querySelector('#gas-plot svg')").await;
    let shot = async |name: &str| {
        // What has the focus is framed, and a message of what was done is in front: both go first.
        browser.until("document.getElementById('toasts').childElementCount === 0").await;
        let file = folder.join(format!("dashboard-{name}.png"));
        browser.picture(&file).await;
        let bytes = small(&file);
        assert!(bytes < LARGEST, "{name}: {bytes} bytes");
    };
    browser.prefer("light").await;
    chain.head.store(140, Ordering::SeqCst);
    browser.until("document.querySelectorAll('#clients .badge.proving').length >= 3").await;
    shot("light").await;
    browser.prefer("dark").await;
    shot("dark").await;

    browser.prefer("light").await;
    browser.script("document.querySelector('#failures button').click()").await;
    browser.until("document.querySelectorAll('#attempts tbody tr').length >= 2").await;
    shot("job").await;
    browser.keys(&['\u{e00c}']).await;
    browser.press("#clients", "Quarantine").await;
    browser.until("document.getElementById('confirm').open").await;
    shot("action").await;
    browser.keys(&['\u{e00c}']).await;

    browser.size(390, 844, true).await;
    browser.goto(&server.url()).await;
    browser.until("document.querySelector('#gas-plot svg')").await;
    shot("phone").await;
    drop(browser);
    for fleet in fleet {
        fleet.stop().await;
    }
    server.stop().await;
}

/// A job is given up, with a reason.
async fn give_up(server: &Running, token: &str) {
    let mut lease = None;
    until("there is a job", async || {
        lease = scene::visit(server, 9, "rack-7", Some(token)).await;
        lease.is_some()
    })
    .await;
    let lease = lease.expect("there was one");
    // It has tried.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let fail = ProofData::Fail(Fail {
        client: ClientId::from_bytes([9; 16]),
        lease: lease.lease,
        class: FailureClass::OutOfMemory,
        message: "out of memory: the GPU has 8 GiB, and a segment of 2^21 needs 11 GiB".into(),
    });
    let post = crate::http().post(format!("{}/v1/jobs/{}/fail", server.url(), lease.job));
    post.bearer_auth(token).json(&fail).send().await.unwrap().error_for_status().unwrap();
    until("it is given up", async || in_state(server, JobState::Dead).await == 1).await;
}

/// How many bytes a picture has.
fn small(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}
