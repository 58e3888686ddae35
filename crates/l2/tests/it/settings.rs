//! Flags win over the environment, the environment over the file `.env`.

use crate::common::l2_prover;

/// Which server a client with these settings wants to talk to.
fn endpoint(file: Option<&str>, environment: Option<&str>, flag: Option<&str>) -> String {
    let folder = tempfile::tempdir().expect("temporary folder");
    if let Some(value) = file {
        let text = format!("# settings\nPROVER_CLIENT_PROVER_SERVER_ENDPOINT={value}\n");
        std::fs::write(folder.path().join(".env"), text).expect("written");
    }
    let mut command = l2_prover(&["client", "--prover", "exec", "--json"]);
    command.current_dir(folder.path());
    if let Some(value) = environment {
        command.env("PROVER_CLIENT_PROVER_SERVER_ENDPOINT", value);
    }
    if let Some(value) = flag {
        command.args(["--server", value]);
    }
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the command can be started");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("UTF-8");
    child.kill().expect("it can be killed");
    child.wait().expect("it is gone");
    let started: serde_json::Value = serde_json::from_str(&line).expect("the first line is JSON");
    started["server"].as_str().expect("it names the server").to_owned()
}

#[test]
fn flags_win_over_environment_over_file() {
    let (file, environment, flag) =
        ("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3");
    assert_eq!(endpoint(Some(file), Some(environment), Some(flag)), flag);
    assert_eq!(endpoint(Some(file), Some(environment), None), environment);
    assert_eq!(endpoint(Some(file), None, None), file);
    assert_eq!(endpoint(None, None, None), "http://127.0.0.1:3900");
}

#[test]
fn a_client_may_have_several_servers() {
    let both = "http://127.0.0.1:1,http://127.0.0.1:2";
    assert_eq!(endpoint(None, Some(both), None), "http://127.0.0.1:1, http://127.0.0.1:2");
    let mut twice = l2_prover(&["client", "--server", "http://127.0.0.1:1", "--server", "nowhere"]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = twice.args(["--prover", "exec"]).current_dir(folder.path()).output();
    let error = String::from_utf8_lossy(&output.expect("started").stderr).into_owned();
    assert!(error.contains("\"nowhere\", which is no address of a Prover Server"), "{error}");
}

#[test]
fn a_malformed_file_is_an_error() {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join(".env"), "this is no setting\n").expect("written");
    let output = l2_prover(&["verify", "x"]).current_dir(folder.path()).output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(".env"));
}

#[test]
fn the_example_file_can_be_used_and_names_only_settings_that_exist() {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let text = std::fs::read_to_string(std::path::Path::new(&folder).join(".example.env"))
        .expect("it is there");
    let help = |command| {
        let output = crate::common::run(&[command, "--help"]);
        String::from_utf8(output.stdout).expect("the help is UTF-8")
    };
    let engine = assert_cmd::cargo::cargo_bin!("l2-prover-bonsai");
    let engine = std::process::Command::new(engine).arg("--help").output().expect("started");
    let engine = String::from_utf8(engine.stdout).expect("the help is UTF-8");
    let help = help("server") + &help("client") + &engine;
    let mut names = 0;
    for line in text.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        let Some((name, _)) = line.split_once('=').filter(|(name, _)| !name.contains(' ')) else {
            continue;
        };
        let shown = ['=', ']'].iter().any(|end| help.contains(&format!("[env: {name}{end}")));
        assert!(shown, "{name} is no setting");
        names += 1;
    }
    assert!(names > 10);

    // With every line active it still parses: only --dev-node and the node's URL exclude each other.
    let folder = tempfile::tempdir().expect("temporary folder");
    let all: Vec<_> = text
        .lines()
        .map(|line| line.strip_prefix("#P").map_or(line.into(), |rest| format!("P{rest}")))
        .collect();
    std::fs::write(folder.path().join(".env"), all.join("\n")).expect("written");
    let output = l2_prover(&["server"])
        .env("PROVER_SERVER_RPC_URL", "http://127.0.0.1:9")
        .current_dir(folder.path())
        .output()
        .expect("started");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("http://127.0.0.1:9"), "{error}");
}
