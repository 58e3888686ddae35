//! What the pages show: clients at work, clients with bad intentions, many jobs.

use crate::common::{Echo, Hand, client_config, http};
use alloy_primitives::B256;
use client::{Access, Client, Gpu, Hardware};
use protocol::{
    Capability, ClientId, Fail, FailureClass, InstanceId, Origin, ProofData, ProofSystem, Request,
    Response,
};
use server::{Running, store::JobStore};
use sqlx::{AssertSqlSafe, Executor as _};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Clients that prove.
pub(crate) struct Fleet(Vec<client::Running>);

impl Fleet {
    /// Starts a client of each name, whose proofs take so long.
    pub(crate) async fn start(
        dir: &Path,
        server: &Running,
        names: &[&str],
        takes: Duration,
    ) -> Self {
        Self::with_token(dir, server, names, takes, None).await
    }

    /// The same with a token.
    pub(crate) async fn with_token(
        dir: &Path,
        server: &Running,
        names: &[&str],
        takes: Duration,
        token: Option<&str>,
    ) -> Self {
        let mut fleet = Vec::new();
        for name in names {
            let token = token.map(client::Secret::new);
            let config = client::Config {
                name: Some((*name).to_owned()),
                access: Access { token, ..Access::default() },
                ..client_config(dir, name, &server.url())
            };
            let hardware = Hardware {
                memory_bytes: Some(64 << 30),
                gpus: vec![Gpu { name: "NVIDIA H200".into(), memory_bytes: 141 << 30 }],
            };
            let echo = Echo { takes, hardware, ..Echo::default() };
            fleet.push(Client::start(config, Arc::new(echo)).await.unwrap());
        }
        Self(fleet)
    }

    pub(crate) async fn stop(self) {
        for client in self.0 {
            client.stop().await;
        }
    }
}

/// A client that comes once, with a name, and takes a job if there is one.
pub(crate) async fn visit(
    server: &Running,
    n: u8,
    name: &str,
    token: Option<&str>,
) -> Option<Response> {
    let program_id = B256::ZERO;
    let instance = InstanceId::from_bytes([n; 16]);
    let request = ProofData::Request(Request {
        client: ClientId::from_bytes([n; 16]),
        capabilities: vec![Capability::new(ProofSystem::Exec, program_id, false)],
        wait_ms: 0,
        origin: Some(Origin { instance, name: name.into(), host: "host".into() }),
    });
    let mut post = http().post(format!("{}/v1/request", server.url())).json(&request);
    if let Some(token) = token {
        post = post.bearer_auth(token);
    }
    match post.send().await.unwrap().error_for_status().unwrap().json().await.unwrap() {
        ProofData::Response(lease) => Some(lease),
        _ => None,
    }
}

/// A client whose name and whose error text want to be a script. Returns both, as they are kept.
pub(crate) async fn hostile(server: &Running) -> (String, String) {
    let name = "</span><img src=x onerror='owned=1'><script>owned=1</script>";
    let error = "<script>window.owned = 1</script>\"'><svg onload=owned=1><iframe srcdoc='<script>parent.owned=1</script>'></iframe> \
                 javascript:owned=1 {{owned=1}} ${owned=1} &lt;b&gt; \u{202e}reversed\u{1b}[2J\0";
    let lease = visit(server, 66, name, None).await.expect("there is a job");
    let client = ClientId::from_bytes([66; 16]);
    let class = FailureClass::BackendFailed;
    let fail = Fail { client, lease: lease.lease, class, message: error.into() };
    let hand = Hand::new(&server.url(), 66);
    hand.post(&format!("/v1/jobs/{}/fail", lease.job), ProofData::Fail(fail)).await;
    let status = server.status().await.unwrap();
    let job = status.jobs.iter().find(|job| job.job == lease.job).unwrap();
    (name.to_owned(), job.last_error.clone().expect("it failed"))
}

/// Writes so many jobs into a server's database, one in twenty of them given up and the others proved.
pub(crate) async fn fill(store: &JobStore, jobs: u32) {
    let bytes = |len: usize, number: &str| format!("CAST(printf('%0{len}d', {number}) AS BLOB)");
    let now = store.now().await.unwrap().0;
    let numbers =
        format!("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {jobs})");
    let dead = "first % 20 = 0";
    for sql in [
        format!(
            "{numbers} INSERT INTO batches (first, last, parent_hash, last_hash, statement, statement_digest, input, input_len,
             gas_used, transactions, created_at, final, estimated_cycles)
             SELECT n, n, {}, {}, {}, {}, {}, 1, 1000000 + (n * 7919) % 9000000, 10, {now} - ({jobs} - n) * 1000 - 20000, 1,
             5000000 + (n * 7919) % 9000000 FROM n",
            bytes(32, "n - 1"),
            bytes(32, "n"),
            bytes(448, "n"),
            bytes(32, "n"),
            bytes(32, "n"),
        ),
        format!(
            "INSERT INTO jobs (id, batch, system, program_id, kind, state, not_before, failures, lost, created_at, due, finished_at,
             proof, proof_len, proved_by, last_error) SELECT {}, id, 'exec', zeroblob(32), 'composite',
             CASE WHEN {dead} THEN 'dead' ELSE 'proved' END, 0, CASE WHEN {dead} THEN 3 ELSE 0 END, 0, created_at, created_at,
             created_at + 3000 + (first * 7919) % 9000, CASE WHEN {dead} THEN NULL ELSE {} END, CASE WHEN {dead} THEN NULL ELSE 1000 END,
             CASE WHEN {dead} THEN NULL ELSE {} END, CASE WHEN {dead} THEN 'the GPU is on fire' ELSE NULL END FROM batches",
            bytes(16, "first"),
            bytes(32, "first + 500000000"),
            bytes(16, "first % 4"),
        ),
        "INSERT INTO leases (id, job, client, granted_at, ended_at, outcome)
         SELECT id, id, proved_by, created_at + 1000, finished_at, 'proved' FROM jobs WHERE state = 'proved'"
            .to_owned(),
    ] {
        let mut tx = store.database().begin().await.unwrap();
        tx.execute(AssertSqlSafe(sql)).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// Serves a page of somebody else, on a port of its own, and keeps the heads of the requests that it gets.
pub(crate) async fn page(html: &'static str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(String::new()));
    let kept = heads.clone();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut request = [0; 8 << 10];
                let read = stream.read(&mut request).await.unwrap_or_default();
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&request[..read]));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{html}",
                    html.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (url, heads)
}

/// What becomes of the server's answers on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They arrive after so long.
    Takes(Duration),
    /// They do not arrive, and nothing says so.
    Stalls,
    /// The connection is cut in their place.
    Cuts,
}

/// A network between a browser and a server.
pub(crate) struct Wire {
    pub(crate) url: String,
    way: Arc<Mutex<Way>>,
}

impl Wire {
    pub(crate) async fn to(server: &Running) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let way = Arc::new(Mutex::new(Way::Takes(Duration::ZERO)));
        let (addr, now) = (server.addr(), way.clone());
        tokio::spawn(async move {
            while let Ok((browser, _)) = listener.accept().await {
                let (Ok(server), now) = (TcpStream::connect(addr).await, now.clone()) else {
                    return;
                };
                let (mut from_browser, mut to_browser) = browser.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_browser, &mut to_server).await;
                });
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                        let way = *now.lock().unwrap();
                        match way {
                            Way::Takes(time) => tokio::time::sleep(time).await,
                            Way::Stalls => return std::future::pending().await,
                            Way::Cuts => return,
                        }
                        if to_browser.write_all(&bytes[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, way }
    }

    pub(crate) fn is(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }
}

/// Text whose contrast to what is behind it is less than 4.5 to 1.
pub(crate) const CONTRAST: &str = "
    const numbers = text => (text.match(/[0-9.]+/g) || []).map(Number);
    const light = text => {
        const [r, g, b] = numbers(text).map(it => { const c = it / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = it => {
        for (; it; it = it.parentElement) {
            const color = getComputedStyle(it).backgroundColor;
            const alpha = numbers(color)[3];
            if (alpha === undefined || alpha > 0) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const poor = [];
    for (const it of document.querySelectorAll('h1, h2, h3, p, dt, dd, td, th, li, span, button, label, code, time, text')) {
        if (!it.checkVisibility() || !it.textContent.trim() || it.children.length) continue;
        const style = getComputedStyle(it);
        const [one, other] = [light(it.tagName === 'text' ? style.fill : style.color), light(behind(it))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) poor.push(`${it.tagName} ${it.textContent.slice(0, 40)} ${style.color} ${behind(it)} ${contrast.toFixed(2)}`);
    }
    return poor;
";
