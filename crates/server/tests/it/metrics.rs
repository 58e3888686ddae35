//! What an operator's instruments see: metrics of a server and its clients that did real work, and readiness.

use crate::common::{Chain, Echo, Hand, client_config, config, serve, until};
use client::Client;
use openmetrics_parser::{OpenMetricsValue, openmetrics::parse_openmetrics};
use protocol::{
    ArtifactRef, Capability, Fail, FailureClass, ProofData, ProofKind, ProofSystem, Readiness,
    Request, Response, Submit, Verdict, paths,
};
use serde_json::Value;
use server::Config;
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A text of metrics, read by a parser that refuses what Prometheus would refuse.
#[derive(Default)]
struct Scrape {
    /// Values by `name{label="value",…}`.
    samples: BTreeMap<String, f64>,
    /// Type, labels and help of each metric.
    families: BTreeMap<String, [String; 3]>,
}

impl Scrape {
    fn of(text: &str) -> Self {
        let exposition =
            parse_openmetrics(text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let mut scrape = Self::default();
        for (name, family) in exposition.families {
            let labels = family.get_label_names().join(", ");
            let about = [family.family_type.to_string(), labels, family.help.clone()];
            scrape.families.insert(name.clone(), about);
            for sample in family.iter_samples() {
                let labels = sample.get_labelset().unwrap();
                let labels: Vec<_> =
                    labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
                let labels = if labels.is_empty() {
                    String::new()
                } else {
                    format!("{{{}}}", labels.join(","))
                };
                let mut add = |suffix: &str, value| {
                    scrape.samples.insert(format!("{name}{suffix}{labels}"), value);
                };
                match &sample.value {
                    OpenMetricsValue::Gauge(value) => add("", value.as_f64()),
                    OpenMetricsValue::Counter(counter) => add("_total", counter.value.as_f64()),
                    OpenMetricsValue::Histogram(histogram) => {
                        add("_sum", histogram.sum.as_ref().unwrap().as_f64());
                        add("_count", histogram.count.unwrap() as f64);
                    }
                    OpenMetricsValue::Info => add("_info", 1.0),
                    other => panic!("{name} has a value that nobody expects: {other:?}"),
                }
            }
        }
        scrape
    }

    async fn from(url: &str) -> (Self, String) {
        let answer = reqwest::get(format!("{url}{}", paths::METRICS)).await.unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        let text = answer.text().await.unwrap();
        (Self::of(&text), text)
    }

    fn get(&self, name: &str) -> f64 {
        let found = self.samples.get(name);
        *found.unwrap_or_else(|| panic!("{name} is not in {:#?}", self.samples.keys()))
    }

    fn check(&self, expected: &[(&str, f64)]) {
        for (name, value) in expected {
            assert_eq!(self.get(name), *value, "{name}");
        }
    }
}

impl Hand {
    async fn lease(&self) -> Response {
        let (system, program_id) = (ProofSystem::Exec, alloy_primitives::B256::ZERO);
        let capabilities = vec![Capability::new(system, program_id, true)];
        let request = Request { client: self.client, capabilities, wait_ms: 10_000, origin: None };
        match self.post(paths::REQUEST, ProofData::Request(request)).await {
            ProofData::Response(response) => response,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_what_happened_and_docs_name_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(3);
    let (lease, heartbeat) = (Duration::from_secs(2), Duration::from_millis(500));
    let config = Config { lease, heartbeat, ..config(dir.path()) };
    let server = serve(config.clone(), &chain).await;
    let url = server.url();

    // One client fails, one falls silent, one lies, and says whatever it likes meanwhile.
    let failing = Hand::new(&url, 1);
    let job = failing.lease().await;
    let again = failing.lease().await;
    assert_eq!(again.lease, job.lease, "asking twice gets the same lease");
    let fail = ProofData::Fail(Fail {
        client: failing.client,
        lease: job.lease,
        class: FailureClass::OutOfMemory,
        message: "hostile\n# HELP hostile".into(),
    });
    failing.post(&paths::fail(&job.job), fail).await;
    Hand::new(&url, 2).lease().await;
    let liar = Hand::new(&url, 3);
    let job = liar.lease().await;
    let proof = ArtifactRef::of(b"hostile");
    let upload = reqwest::Client::new().put(format!("{url}{}", paths::artifact(&proof.sha256)));
    assert_eq!(upload.body("hostile").send().await.unwrap().status(), 201);
    let submit = ProofData::Submit(Submit {
        client: liar.client,
        lease: job.lease,
        system: job.system,
        program_id: job.program_id,
        kind: ProofKind::Composite,
        proof,
    });
    let ProofData::SubmitAck(ack) = liar.post(&paths::submit(&job.job), submit).await else {
        panic!("no verdict");
    };
    assert!(matches!(ack.verdict, Verdict::Rejected { .. }), "{ack:?}");
    let hostile = reqwest::Method::from_bytes(b"HOSTILE").unwrap();
    let hostile = reqwest::Client::new().request(hostile, format!("{url}/hostile?hostile"));
    assert_eq!(hostile.send().await.unwrap().status(), 404);

    let prover = Arc::new(Echo { takes: Duration::from_millis(50), ..Echo::default() });
    let honest =
        Client::start(client_config(dir.path(), "honest", &url), prover.clone()).await.unwrap();
    until("all is proved and known", async || {
        server.status().await.unwrap().counts.proved == 3 && honest.status().accepted == 3
    })
    .await;
    assert_eq!(prover.proven.lock().unwrap().len(), 3, "each block was proven once");

    let (scrape, text) = Scrape::from(&url).await;
    assert!(!text.contains("hostile"), "{text}");
    let statement = 448.0;
    scrape.check(&[
        (r#"prover_server_jobs{state="proved"}"#, 3.0),
        (r#"prover_server_jobs{state="ready"}"#, 0.0),
        (r#"prover_server_jobs{state="dead"}"#, 0.0),
        (r#"prover_server_intake{state="following"}"#, 1.0),
        (r#"prover_server_intake{state="halted"}"#, 0.0),
        ("prover_server_head_block", 3.0),
        ("prover_server_enqueued_block", 3.0),
        ("prover_server_proved_block", 3.0),
        ("prover_server_lag_blocks", 0.0),
        ("prover_server_oldest_open_batch_age_seconds", 0.0),
        (r#"prover_server_leases_granted_total{system="exec"}"#, 6.0),
        (r#"prover_server_leases_granted_total{system="risc0"}"#, 0.0),
        ("prover_server_leases_expired_total", 1.0),
        ("prover_server_lease_latency_seconds_count", 6.0),
        (r#"prover_server_failures_total{class="out_of_memory"}"#, 1.0),
        (r#"prover_server_failures_total{class="guest_panic"}"#, 0.0),
        (r#"prover_server_submissions_total{verdict="accepted"}"#, 3.0),
        (r#"prover_server_submissions_total{verdict="rejected"}"#, 1.0),
        (r#"prover_server_submissions_total{verdict="duplicate"}"#, 0.0),
        (r#"prover_server_proving_seconds_count{system="exec"}"#, 3.0),
        (r#"prover_server_proving_seconds_count{system="risc0"}"#, 0.0),
        (r#"prover_server_verifying_seconds_count{system="exec"}"#, 4.0),
        ("prover_server_clients_alive", 4.0),
        ("prover_server_clients_busy", 0.0),
        ("prover_server_clients_quarantined", 0.0),
        ("prover_server_verification_queue", 0.0),
        ("prover_server_requests_waiting", 1.0),
        ("prover_server_jobs_without_prover", 0.0),
        ("prover_server_token_expiry_timestamp_seconds", 0.0),
        ("prover_server_certificate_expiry_timestamp_seconds", 0.0),
        (r#"prover_server_artifact_bytes_total{direction="in"}"#, 3.0 * statement + 7.0),
        (r#"prover_server_artifact_bytes_total{direction="out"}"#, 3.0 * statement),
        (
            r#"prover_server_http_requests_total{endpoint="other",method="other",status="404"}"#,
            1.0,
        ),
        (
            r#"prover_server_http_requests_total{endpoint="/v1/jobs/{job}/fail",method="POST",status="200"}"#,
            1.0,
        ),
    ]);
    // 21,000 gas and a thousand cycles in each block.
    let proving = scrape.get(r#"prover_server_proving_seconds_sum{system="exec"}"#);
    assert!(proving >= 0.15, "{proving}");
    for (name, units) in [("mgas", 0.021), ("mcycle", 0.001)] {
        let name = format!(r#"prover_server_proving_per_{name}_seconds_sum{{system="exec"}}"#);
        assert!((scrape.get(&name) * units / proving - 1.0).abs() < 1e-9, "{name}");
    }

    let mine = Scrape::of(&honest.metrics().text([&honest.status()]));
    mine.check(&[
        (r#"prover_client_proofs_total{verdict="accepted"}"#, 3.0),
        (r#"prover_client_proofs_total{verdict="rejected"}"#, 0.0),
        (r#"prover_client_failures_total{class="timeout"}"#, 0.0),
        ("prover_client_proving_seconds_count", 3.0),
        (r#"prover_client_phase{phase="idle"}"#, 1.0),
        (r#"prover_client_phase{phase="proving"}"#, 0.0),
    ]);

    let mut table = "# Metrics\n\nWritten by `UPDATE_EXPECT=1 cargo nextest run -E 'test(docs_name_them_all)'`. \
         What they are good for is in [operate.md](operate.md#metrics).\n\n\
         The server serves them at `/metrics`, a client where `--metrics-addr` says, as OpenMetrics text. \
         A counter's samples end in `_total`, those of a histogram in `_bucket`, `_sum` and `_count`.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n"
        .to_owned();
    let families: Vec<_> = scrape.families.into_iter().chain(mine.families).collect();
    let [alerts, panels] = crate::expressions::check(&families.iter().cloned().collect());
    assert!(alerts > 20 && panels > 30, "{alerts} and {panels}");
    let words = include_str!("../../../../docs/operate.md")
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| ["prover_server_", "prover_client_"].iter().any(|o| word.starts_with(o)));
    for word in words {
        let ends = ["", "_total", "_bucket", "_sum", "_count"];
        let known = |name: &str| ends.iter().any(|end| word.strip_suffix(end) == Some(name));
        assert!(families.iter().any(|(name, _)| known(name)), "{word} is no metric");
    }
    for (name, [kind, labels, help]) in families {
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    expect_test::expect_file!["../../../../docs/metrics.md"].assert_eq(&table);

    // A restart counts anew what happens, and knows how things stand.
    honest.stop().await;
    server.stop().await;
    chain.head.store(5, Ordering::SeqCst);
    let server = serve(config, &chain).await;
    until("new blocks have jobs", async || server.status().await.unwrap().counts.ready == 2).await;
    let (scrape, _) = Scrape::from(&server.url()).await;
    scrape.check(&[
        (r#"prover_server_jobs{state="proved"}"#, 3.0),
        (r#"prover_server_jobs{state="ready"}"#, 2.0),
        ("prover_server_lag_blocks", 2.0),
        ("prover_server_jobs_without_prover", 2.0),
        (r#"prover_server_leases_granted_total{system="exec"}"#, 0.0),
    ]);
    assert!(scrape.get("prover_server_oldest_open_batch_age_seconds") > 0.0);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_do_its_work_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(1);
    let server = serve(config(dir.path()), &chain).await;
    let url = server.url();
    let problems = async || {
        let answer = reqwest::get(format!("{url}{}", paths::READYZ)).await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        let found: Readiness = serde_json::from_value(body).unwrap();
        assert_eq!((found.ready, found.checks.len()), (status == 200, 5), "{found:?}");
        assert!(found.ready || status == 503, "{status}");
        let bad = found.checks.into_iter().filter(|check| !check.ok);
        bad.map(|check| check.name).collect::<Vec<_>>()
    };
    until("it is ready", async || problems().await.is_empty()).await;

    let drain = |method| reqwest::Client::new().request(method, format!("{url}{}", paths::DRAIN));
    drain(reqwest::Method::POST).send().await.unwrap();
    assert!(problems().await.is_empty(), "finished proofs still come here");
    drain(reqwest::Method::DELETE).send().await.unwrap();

    let (folder, away) = (dir.path().join("server/artifacts"), dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "no folder").unwrap();
    assert_eq!(problems().await, ["artifacts"]);
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    assert!(problems().await.is_empty());
    let probe = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with("probe");
    let left = fs::read_dir(&folder).unwrap().map(Result::unwrap).filter(probe).count();
    assert_eq!(left, 0, "the check leaves nothing behind");

    until("the block has a job", async || server.status().await.unwrap().counts.ready == 1).await;
    *chain.name.lock().unwrap() = "other";
    chain.head.store(2, Ordering::SeqCst);
    until("the intake halts", async || problems().await == ["intake"]).await;

    let livez = reqwest::get(format!("{url}{}", paths::LIVEZ)).await.unwrap();
    assert_eq!((livez.status().as_u16(), livez.text().await.unwrap()), (200, "ok\n".into()));
    server.stop().await;
}
