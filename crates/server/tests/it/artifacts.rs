//! Artifacts in a folder and in an S3-compatible store: one suite for both, and a whole round of proving over S3.

use crate::common::{Chain, Echo, client_config, config, http, serve, until};
use bytes::Bytes;
use futures::TryStreamExt;
use protocol::ArtifactId;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use server::{
    Config,
    artifacts::{ArtifactError, Artifacts, Place, Sharing},
    backup,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A real S3-compatible server, with signatures and multipart uploads, over a folder.
struct S3 {
    _folder: TempDir,
    addr: std::net::SocketAddr,
    task: JoinHandle<()>,
}

impl S3 {
    const KEYS: [&str; 2] = ["AKIAPROVER", "hunter2"];

    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(Self::KEYS[0], Self::KEYS[1]));
        let service = service.build();
        let answer = async move |request: axum::extract::Request| {
            let request = request.map(s3s::Body::http_body_unsync);
            service.call(request).await.unwrap().map(axum::body::Body::new)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { _folder: folder, addr, task }
    }

    /// As its environment tells a server.
    fn place(&self) -> Place {
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", Self::KEYS[0]),
            ("AWS_SECRET_ACCESS_KEY", Self::KEYS[1]),
            ("AWS_ENDPOINT", &format!("http://{}", self.addr)),
            ("AWS_ALLOW_HTTP", "true"),
        ] {
            // SAFETY: nextest runs each test in a process of its own, and nothing there reads the environment meanwhile.
            #[expect(unsafe_code, reason = "setting the environment is unsafe")]
            unsafe {
                std::env::set_var(name, value);
            }
        }
        Place::S3("s3://bucket/l2/mainnet".parse().unwrap())
    }
}

/// Every property of a place, at a place.
async fn keeps_what_it_is_given(place: &Place) {
    const LIMIT: usize = 20_000_000;
    let artifacts = Artifacts::open(place, LIMIT as u64).unwrap();
    // More than two parts of S3's, and an odd end.
    let long: Vec<u8> = (0..=250).cycle().take(LIMIT).collect();
    let stored = artifacts.put(long.clone()).await.unwrap();
    assert_eq!((stored.sha256, stored.len), (ArtifactId::of(&long), LIMIT as u64));
    assert_eq!(artifacts.read(stored.sha256).await.unwrap(), long);
    let (pieces, len) = artifacts.reader(stored.sha256).await.unwrap();
    assert_eq!(len, LIMIT as u64);
    assert_eq!(pieces.try_collect::<Vec<Bytes>>().await.unwrap().concat(), long);
    for from in [1, 300_000, LIMIT - 1] {
        let (pieces, len) = artifacts.reader_from(stored.sha256, from as u64).await.unwrap();
        assert_eq!(len, LIMIT as u64, "of the whole");
        let rest = pieces.try_collect::<Vec<Bytes>>().await.unwrap().concat();
        assert!(rest == long[from..], "from {from}");
    }
    let empty = artifacts.put(Vec::new()).await.unwrap();
    assert_eq!(artifacts.read(empty.sha256).await.unwrap(), b"");

    let pieces = |all: &[u8]| {
        let pieces: Vec<_> = all.chunks(100_000).map(Bytes::copy_from_slice).map(Ok).collect();
        futures::stream::iter::<Vec<Result<Bytes, Infallible>>>(pieces)
    };
    let other = ArtifactId::of(b"other");
    let error = artifacts.receive(other, pieces(&long)).await.unwrap_err();
    assert!(matches!(error, ArtifactError::HashMismatch { expected, .. } if expected == other));
    let longer = [&long[..], b"x"].concat();
    let error = artifacts.receive(ArtifactId::of(&longer), pieces(&longer)).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TooLarge { .. }), "{error}");
    for id in [other, ArtifactId::of(&longer)] {
        for error in [
            artifacts.read(id).await.unwrap_err(),
            artifacts.len(id).await.unwrap_err(),
            artifacts.delete(id).await.err().unwrap_or(ArtifactError::Missing(id)),
        ] {
            assert!(matches!(error, ArtifactError::Missing(missing) if missing == id), "{error}");
        }
    }
    let mut all: Vec<_> =
        artifacts.list().map_ok(|(artifact, _)| artifact).try_collect().await.unwrap();
    all.sort_by_key(|artifact| artifact.len);
    assert_eq!(all, [empty, stored]);
    artifacts.delete(empty.sha256).await.unwrap();
    assert!(matches!(artifacts.read(empty.sha256).await, Err(ArtifactError::Missing(_))));

    assert_eq!(artifacts.name("first".into()).await.unwrap(), "first");
    let again = Artifacts::open(place, 1).unwrap();
    assert_eq!(again.name("second".into()).await.unwrap(), "first");
}

#[tokio::test]
async fn a_folder_keeps_what_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Folder(dir.path().join("artifacts"), Sharing::Alone);
    keeps_what_it_is_given(&place).await;
    // What a dead server was writing is cleared; what a live one may be writing is not.
    let half = dir.path().join("artifacts/ab");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("abcd#1"), "half").unwrap();
    let Place::Folder(root, _) = place else { unreachable!() };
    Artifacts::open(&Place::Folder(root.clone(), Sharing::Shared), 1).unwrap();
    assert!(half.join("abcd#1").exists());
    Artifacts::open(&Place::Folder(root, Sharing::Alone), 1).unwrap();
    assert!(!half.join("abcd#1").exists());
}

#[tokio::test]
async fn an_s3_store_keeps_what_it_is_given() {
    let s3 = S3::start().await;
    keeps_what_it_is_given(&s3.place()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_proven_over_an_s3_store() {
    let (s3, dir, chain) = (S3::start().await, tempfile::tempdir().unwrap(), Chain::new(5));
    let Place::S3(url) = s3.place() else { unreachable!() };
    let config = Config { artifacts: Some(url), ..config(dir.path()) };
    let server = serve(config.clone(), &chain).await;
    let client = client_config(dir.path(), "a", &server.url());
    let client = client::Client::start(client, Arc::new(Echo::default())).await.unwrap();
    until("all is proved", async || server.status().await.unwrap().proved_through == Some(5)).await;
    client.stop().await;
    server.stop().await;
    assert!(!dir.path().join("server/artifacts").exists(), "nothing is kept here");
    let report = server::fsck::run(&config).await.unwrap();
    assert_eq!((report.artifacts, report.findings), (5, vec![]));
    // An outage is an error that names the place, not a wrong answer.
    s3.task.abort();
    let artifacts = Artifacts::existing(&config.artifacts_place()).unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(50), artifacts.read(ArtifactId::of(b"")));
    assert!(matches!(asked.await.unwrap().unwrap_err(), ArtifactError::Store(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_goes_and_what_is_needed_stays() {
    let (dir, chain) = (tempfile::tempdir().unwrap(), Chain::new(3));
    let config = config(dir.path());
    let server = serve(config.clone(), &chain).await;
    let client = client_config(dir.path(), "a", &server.url());
    let client = client::Client::start(client, Arc::new(Echo::default())).await.unwrap();
    until("all is proved", async || server.status().await.unwrap().proved_through == Some(3)).await;
    client.stop().await;
    // One more, which nobody proves.
    chain.head.store(4, std::sync::atomic::Ordering::SeqCst);
    until("it waits", async || server.status().await.unwrap().counts.ready == 1).await;
    let artifacts = Artifacts::existing(&config.artifacts_place()).unwrap();
    let count = async || artifacts.list().try_collect::<Vec<_>>().await.unwrap().len();
    // A block's input is its proof here, so that its own need keeps it. This one nobody asked for.
    let lost = artifacts.put(b"never submitted".to_vec()).await.unwrap();
    assert_eq!(count().await, 5);

    let collect = async |older_than_ms, dry_run| {
        let asked = protocol::CollectGarbage { older_than_ms, dry_run };
        let url = format!("{}{}", server.url(), protocol::paths::GARBAGE);
        let answer = reqwest::Client::new().post(url).json(&asked).send().await.unwrap();
        let protocol::Garbage { removed, bytes, kept, .. } =
            answer.error_for_status().unwrap().json().await.unwrap();
        (removed, bytes, kept)
    };
    assert_eq!(collect(3_600_000, false).await, (0, 0, 5), "all is young");
    assert_eq!(collect(0, true).await, (1, lost.len, 4));
    assert_eq!(count().await, 5, "nothing was removed");
    assert_eq!(collect(0, false).await, (1, lost.len, 4));
    assert!(matches!(artifacts.read(lost.sha256).await, Err(ArtifactError::Missing(_))));

    // The copy of a running server is whole, and a server goes on from it.
    let copy = dir.path().join("copy");
    let copied = backup::backup(&config, &copy).await.unwrap();
    assert_eq!((copied.jobs, copied.artifacts), (true, 4));
    let error = backup::backup(&config, &copy).await.unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    server.stop().await;
    let copy = Config { data_dir: copy, ..config };
    assert_eq!(server::fsck::run(&copy).await.unwrap().findings, []);
    let server = serve(copy, &chain).await;
    let client = client_config(dir.path(), "b", &server.url());
    let client = client::Client::start(client, Arc::new(Echo::default())).await.unwrap();
    until("the rest is proved", async || server.status().await.unwrap().proved_through == Some(4))
        .await;
    client.stop().await;

    let history: protocol::JobHistory = {
        let job = server.status().await.unwrap().jobs[0].job;
        let url = format!("{}{}", server.url(), protocol::paths::history(&job));
        reqwest::get(url).await.unwrap().error_for_status().unwrap().json().await.unwrap()
    };
    assert_eq!(history.leases.len(), 1);
    assert_eq!(history.leases[0].outcome.as_deref(), Some("proved"));
    assert_eq!(history.proofs.len(), 1);
    assert_eq!(history.proofs[0].verdict.as_deref(), Some("accepted"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_broke_continues_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    until("the job is there", async || server.status().await.unwrap().counts.ready == 1).await;
    let input = server.status().await.unwrap().jobs[0].prover_inputs;
    let url = format!("{}/v1/artifacts/{}", server.url(), input.sha256);
    let http = http();
    let get = async |range: &str| {
        let answer = http.get(&url).header("range", range).send().await.unwrap();
        let header = answer.headers().get("content-range").cloned();
        let header = header.map(|range| range.to_str().unwrap().to_owned());
        (answer.status().as_u16(), header, answer.bytes().await.unwrap())
    };
    let (status, header, whole) = get("bytes=0-").await;
    assert_eq!((status, header, whole.len()), (200, None, 448));
    let (status, header, rest) = get("bytes=400-").await;
    assert_eq!((status, header.as_deref()), (206, Some("bytes 400-447/448")));
    assert_eq!(rest, whole[400..]);
    let (status, header, _) = get("bytes=448-").await;
    assert_eq!((status, header.as_deref()), (416, Some("bytes */448")));
    for other in ["bytes=1-2", "bytes=-5", "lines=1-", "bytes=x-"] {
        assert_eq!(get(other).await.0, 200, "{other}: the whole");
    }
    server.stop().await;
}
