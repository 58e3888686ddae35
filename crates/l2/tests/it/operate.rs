//! What an operator sees of a server and tells it, as commands.

use serde_json::Value;

use crate::common::{Service, fails, run};

/// Runs the command, which must succeed, with `--json`.
fn json(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("one document of JSON")
}

#[test]
fn an_operator_decides_about_jobs_and_clients_and_checks_the_rest() {
    let (_node, started) = Service::start(&["node", "--node-port", "0", "--block-time", "200ms"]);
    let node = started["node"].as_str().expect("it names the node").to_owned();
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (server_data, client_data) = (path("server"), path("client"));
    let (mut server, started) = Service::start(&[
        "server",
        "--prover",
        "exec",
        "--danger-accept-exec",
        "--rpc-url",
        &node,
        "--listen-port",
        "0",
        "--data-dir",
        &server_data,
    ]);
    let url = started["server"].as_str().expect("it names itself").to_owned();
    let ask = |arguments: &[&str]| json(&[arguments, &["--server", &url]].concat());
    let list = |state: &str| loop {
        let jobs = ask(&["jobs", "list", "--state", state]);
        if jobs.as_array().is_some_and(|jobs| !jobs.is_empty()) {
            return jobs;
        }
    };

    let job = list("ready")[0]["job"].as_str().expect("a job has an id").to_owned();
    assert_eq!(ask(&["jobs", "prioritise", &job, "-7"])["priority"], -7);
    let cancelled = ask(&["jobs", "cancel", &job]);
    assert_eq!((&cancelled["state"], &cancelled["cause"]), (&"dead".into(), &"cancelled".into()));
    assert_eq!(list("dead")[0]["job"], *job);
    let shown = run(&["jobs", "show", &job, "--server", &url]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("dead (cancelled)") && shown.contains("priority -7"), "{shown}");
    assert_eq!(ask(&["jobs", "requeue", &job])["state"], "ready");
    let error = fails(1, &["jobs", "requeue", &job, "--server", &url]);
    assert!(error.contains("only a job that was given up can be requeued"), "{error}");
    let error = fails(1, &["jobs", "show", &"0".repeat(32), "--server", &url]);
    assert!(error.contains("there is no job 0000"), "{error}");

    // Nobody gets a job while the server drains.
    ask(&["clients", "drain", "--all"]);
    let client = ["client", "--prover", "exec", "--server", &url, "--data-dir", &client_data];
    let (mut client, _) = Service::start(&client);
    let id = loop {
        if let Ok(id) = std::fs::read_to_string(folder.path().join("client/client-id")) {
            break id.trim().to_owned();
        }
    };
    assert_eq!(ask(&["jobs", "list", "--state", "proved"]), Value::Array(Vec::new()));
    ask(&["clients", "release", "--all"]);
    list("proved");
    for (deed, standing) in
        [("quarantine", [true, false]), ("release", [false, false]), ("drain", [false, true])]
    {
        let clients = ask(&["clients", deed, &id]);
        let found = ["quarantined", "draining"].map(|key| clients[0][key] == true);
        assert_eq!(found, standing, "{deed}");
    }

    let error = fails(1, &["fsck", "--data-dir", &server_data]);
    assert!(error.contains("is used by another server: stop it"), "{error}");
    assert_eq!((client.terminate(), server.terminate()), (Some(0), Some(0)));
    let checked = json(&["fsck", "--data-dir", &server_data]);
    assert_eq!(checked["findings"], Value::Array(Vec::new()));
    assert!(
        checked["jobs"].as_u64() > Some(0) && checked["artifacts"].as_u64() > Some(0),
        "{checked}"
    );

    // A disk forgets.
    std::fs::remove_dir_all(folder.path().join("server/artifacts")).expect("removed");
    let output = run(&["fsck", "--data-dir", &server_data]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("is missing; it is the proof of job") && text.contains("NOT all is well"),
        "{text}"
    );
    let error = fails(1, &["fsck", "--data-dir", &path("nowhere")]);
    assert!(error.contains("nowhere"), "{error}");
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
