//! What an operator sees of a server and tells it, as commands.

use serde_json::Value;

use crate::common::{Service, fails, run, text};

/// Runs the command, which must succeed, with `--json`.
fn json(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("one document of JSON")
}

/// A dev node and a Prover Server that takes exec "proofs" of its blocks.
struct Served {
    _node: Service,
    server: Service,
    url: String,
    folder: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        let (node, started) =
            Service::start(&["node", "--node-port", "0", "--block-time", "200ms"]);
        let node_url = text(&started, "node");
        let folder = tempfile::tempdir().expect("temporary folder");
        let data_dir = folder.path().join("server").display().to_string();
        let (server, started) = Service::start(&[
            "server",
            "--prover",
            "exec",
            "--danger-accept-exec",
            "--rpc-url",
            &node_url,
            "--listen-port",
            "0",
            "--data-dir",
            &data_dir,
        ]);
        Self { _node: node, server, url: text(&started, "server"), folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn client(&self) -> Service {
        let data_dir = self.path("client");
        let client = ["client", "--prover", "exec", "--server", &self.url];
        Service::start(&[&client[..], &["--data-dir", &data_dir]].concat()).0
    }

    /// What the server answers to a command.
    fn ask(&self, arguments: &[&str]) -> Value {
        json(&[arguments, &["--server", &self.url]].concat())
    }

    /// The jobs in a state, as soon as there are as many.
    fn list(&self, state: &str, count: usize) -> Value {
        loop {
            let jobs = self.ask(&["jobs", "list", "--state", state]);
            if jobs.as_array().is_some_and(|jobs| jobs.len() >= count) {
                return jobs;
            }
        }
    }
}

#[test]
fn an_operator_decides_about_jobs_and_clients_and_checks_the_rest() {
    let mut served = Served::start();
    let (url, server_data) = (served.url.clone(), served.path("server"));
    let job = served.list("ready", 1)[0]["job"].as_str().expect("a job has an id").to_owned();
    assert_eq!(served.ask(&["jobs", "prioritise", &job, "-7"])["priority"], -7);
    let cancelled = served.ask(&["jobs", "cancel", &job]);
    assert_eq!((&cancelled["state"], &cancelled["cause"]), (&"dead".into(), &"cancelled".into()));
    assert_eq!(served.list("dead", 1)[0]["job"], *job);
    let shown = run(&["jobs", "show", &job, "--server", &url]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("dead (cancelled)") && shown.contains("priority -7"), "{shown}");
    assert_eq!(served.ask(&["jobs", "requeue", &job])["state"], "ready");
    let error = fails(1, &["jobs", "requeue", &job, "--server", &url]);
    assert!(error.contains("only a job that was given up can be requeued"), "{error}");
    let error = fails(1, &["jobs", "show", &"0".repeat(32), "--server", &url]);
    assert!(error.contains("there is no job 0000"), "{error}");

    // Nobody gets a job while the server drains.
    served.ask(&["clients", "drain", "--all"]);
    let mut client = served.client();
    let id = loop {
        if let Ok(id) = std::fs::read_to_string(served.path("client/client-id")) {
            break id.trim().to_owned();
        }
    };
    assert_eq!(served.ask(&["jobs", "list", "--state", "proved"]), Value::Array(Vec::new()));
    served.ask(&["clients", "release", "--all"]);
    served.list("proved", 1);
    for (deed, standing) in
        [("quarantine", [true, false]), ("release", [false, false]), ("drain", [false, true])]
    {
        let clients = served.ask(&["clients", deed, &id]);
        let found = ["quarantined", "draining"].map(|key| clients[0][key] == true);
        assert_eq!(found, standing, "{deed}");
    }

    let error = fails(1, &["fsck", "--data-dir", &server_data]);
    assert!(error.contains("is used by another server: stop it"), "{error}");
    assert_eq!((client.terminate(), served.server.terminate()), (Some(0), Some(0)));
    let checked = json(&["fsck", "--data-dir", &server_data]);
    assert_eq!(checked["findings"], Value::Array(Vec::new()));
    assert!(
        checked["jobs"].as_u64() > Some(0) && checked["artifacts"].as_u64() > Some(0),
        "{checked}"
    );

    // A disk forgets.
    std::fs::remove_dir_all(served.path("server/artifacts")).expect("removed");
    let output = run(&["fsck", "--data-dir", &server_data]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("is missing; it is the proof of job") && text.contains("NOT all is well"),
        "{text}"
    );
    let error = fails(1, &["fsck", "--data-dir", &served.path("nowhere")]);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn what_a_server_keeps_is_exported_verified_saved_and_cleared() {
    let mut served = Served::start();
    let (url, server_data) = (served.url.clone(), served.path("server"));
    let mut client = served.client();
    served.list("proved", 3);
    assert_eq!(client.terminate(), Some(0));
    let proved = served.list("proved", 3).as_array().expect("a list").len();

    let verify = ["proofs", "verify", "--danger-accept-exec"];
    let verified = served.ask(&verify);
    assert_eq!((&verified["proofs"], &verified["blocks"]), (&proved.into(), &proved.into()));
    assert_eq!(verified["runs"].as_array().map(Vec::len), Some(1), "{verified}");
    let error = fails(1, &["proofs", "verify", "--server", &url]);
    assert!(error.contains("is refused: an exec proof proves nothing"), "{error}");
    let error = fails(1, &["proofs", "verify", "--block", "1000000", "--server", &url]);
    assert!(error.contains("no proof of these blocks"), "{error}");

    let out = served.path("proofs");
    let exported = served.ask(&["proofs", "export", "--block", "2..3", "--out", &out]);
    let files = exported["proofs"].as_array().expect("a list");
    assert_eq!(files.len(), 2, "{exported}");
    for file in files {
        let file = file["file"].as_str().expect("it has a name");
        json(&["verify", "--prover", "exec", file, "--danger-accept-exec"]);
    }

    // Blocks that were asked for and have no proof.
    let beyond = format!("2..{}", proved + 2);
    let some = ["--block", &beyond, "--server", &url];
    let error = fails(1, &[&verify[..], &some].concat());
    let missing = format!("no accepted proof of blocks {}-{}", proved + 1, proved + 2);
    assert!(error.contains(&missing), "{error}");
    let some = ["--block", &beyond, "--allow-gaps", "--out", &out];
    served.ask(&[&["proofs", "export"], &some[..]].concat());
    let error = fails(1, &[&verify[..], &["--chain", "mainnet", "--server", &url]].concat());
    assert!(error.contains("ran under the config"), "{error}");

    // A job that nobody wanted: elsewhere the program runs on its input all the same.
    let job = served.list("ready", 1)[0]["job"].as_str().expect("a job has an id").to_owned();
    served.ask(&["jobs", "cancel", &job]);
    assert_eq!(served.ask(&["failures", "list"])[0]["job"], *job);
    let failure = served.path("failure");
    served.ask(&["failures", "export", &job, "--out", &failure]);
    let replayed = json(&["failures", "replay", &failure]);
    assert_eq!(replayed["job"], *job);
    assert!(replayed["executed"]["statement"]["last_hash"].is_string(), "{replayed}");
    std::fs::write(served.path("failure/input.bin"), "something else").expect("written");
    let error = fails(1, &["failures", "replay", &failure]);
    assert!(error.contains("input.bin is damaged: export it again"), "{error}");
    let error = fails(1, &["failures", "replay", &out]);
    assert!(error.contains("holds no failure"), "{error}");

    let backup = served.path("backup");
    let save = ["backup", "--data-dir", &server_data, "--out", &backup];
    let saved = json(&save);
    assert_eq!(saved["jobs"], true);
    let error = fails(1, &save);
    assert!(error.contains("not empty"), "{error}");

    // The inputs of what is proved; never a proof.
    let gc = ["gc", "--older-than", "0s"];
    let would = served.ask(&[&gc[..], &["--dry-run"]].concat());
    assert_eq!((&would["removed"], &would["dry_run"]), (&proved.into(), &true.into()), "{would}");
    let removed = served.ask(&gc);
    assert_eq!((&removed["removed"], &removed["bytes"]), (&would["removed"], &would["bytes"]));
    assert_eq!(served.ask(&gc)["removed"], 0);
    assert_eq!(served.ask(&verify), verified);

    assert_eq!(served.server.terminate(), Some(0));
    for data_dir in [&server_data, &backup] {
        let checked = json(&["fsck", "--data-dir", data_dir]);
        assert_eq!(checked["findings"], Value::Array(Vec::new()), "{data_dir}");
    }
}

#[tokio::test]
async fn a_client_serves_its_metrics_where_it_is_told_to() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data_dir = folder.path().display().to_string();
    let nowhere = ["client", "--prover", "exec", "--server", "http://127.0.0.1:1"];
    let metrics = ["--data-dir", &data_dir, "--metrics-addr", "127.0.0.1:0"];
    let (mut client, started) = Service::start(&[&nowhere[..], &metrics].concat());
    let url = format!("http://{}/metrics", started["metrics"].as_str().expect("an address"));
    let deadline = std::time::Instant::now() + crate::common::PATIENCE;
    loop {
        let text = match reqwest::get(&url).await {
            Ok(answer) => answer.text().await.expect("a text"),
            Err(_not_yet) => String::new(),
        };
        if text.contains("prover_client_phase{phase=\"unreachable\"} 1") {
            assert!(text.contains("prover_client_build_info{"), "{text}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(client.terminate(), Some(0));
}
