//! Connections between a client and its server, cut at each byte of each message.

use crate::common::{Chain, Echo, client_config, config, serve, until};
use client::Client;
use server::Config;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// Where the next cut is: so many bytes on.
type Cut = Arc<Mutex<Option<(Way, u64)>>>;

/// Passes bytes on, but for one cut.
async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    cut: Cut,
    end: CancellationToken,
) {
    let mut buffer = [0; 4096];
    loop {
        let len = tokio::select! {
            () = end.cancelled() => break,
            read = from.read(&mut buffer) => match read { Ok(len) if len > 0 => len, _ => break },
        };
        let here = {
            let mut cut = cut.lock().unwrap();
            match &mut *cut {
                Some((at, left)) if *at == way => {
                    let here = usize::try_from(*left).ok().filter(|left| *left < len);
                    match here {
                        Some(_) => *cut = None,
                        None => *left -= len as u64,
                    }
                    here
                }
                _ => None,
            }
        };
        let sent = to.write_all(&buffer[..here.unwrap_or(len)]).await;
        if here.is_some() || sent.is_err() {
            break;
        }
    }
    end.cancel();
}

/// Starts the man in the middle.
async fn proxy(server: SocketAddr, cut: Cut) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(server).await else { continue };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let end = CancellationToken::new();
            tokio::spawn(pass_on(from_client, to_server, Way::ToServer, cut.clone(), end.clone()));
            tokio::spawn(pass_on(from_server, to_client, Way::ToClient, cut.clone(), end));
        }
    });
    url
}

#[expect(clippy::print_stdout, reason = "what `make chaos` prints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_any_byte_costs_no_proof_and_no_attempt() {
    // Every byte where long, every so many where short; not a divisor of anything.
    let step = if std::env::var_os("CHAOS").is_some() { 1 } else { 41 };
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(0);
    let quick = Duration::from_millis(5);
    let server = serve(Config { poll_interval: quick, ..config(dir.path()) }, &chain).await;
    let cut: Cut = Arc::default();
    let url = proxy(server.addr(), cut.clone()).await;
    let prover = Arc::new(Echo::default());
    let client = client::Config { max_back_off: quick, ..client_config(dir.path(), "a", &url) };
    let client = Client::start(client, prover.clone()).await.unwrap();
    let proved = AtomicU64::new(0);
    for way in [Way::ToServer, Way::ToClient] {
        let mut cuts = 0;
        for byte in (0..).step_by(step) {
            *cut.lock().unwrap() = Some((way, byte));
            let goal = chain.head.fetch_add(1, Ordering::SeqCst) + 1;
            until("the block is proved, and the client knows", async || {
                client.status().accepted + client.status().duplicate >= goal
            })
            .await;
            proved.store(goal, Ordering::SeqCst);
            // The messages of one job are shorter than that.
            if cut.lock().unwrap().take().is_some() {
                break;
            }
            cuts += 1;
        }
        println!("{way:?}: cut at {cuts} places");
        assert!(cuts > 10, "{way:?}");
    }
    let blocks = proved.into_inner();
    let status = server.status().await.unwrap();
    assert_eq!((status.counts.proved, status.proved_through), (blocks, Some(blocks)));
    assert_eq!(prover.proven.lock().unwrap().len() as u64, blocks, "nothing was proven twice");
    assert!(status.jobs.iter().all(|job| (job.lost, job.failures) == (0, 0)), "{:#?}", status.jobs);
    assert_eq!(client.status().rejected, 0);
    client.stop().await;
    server.stop().await;
}
