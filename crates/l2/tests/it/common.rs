//! Runs the built command, in processes of its own.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use protocol::Status;
use serde_json::{Value, json};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A free port, below those that the system gives to whoever asks for any.
pub(crate) fn free_port() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 64 + ASKED.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(10_000 + number % 20_000).expect("it is below 30,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The command, with nothing of the caller's settings.
pub(crate) fn l2_prover(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("l2-prover"));
    // For the test's own HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    without_settings(&mut command);
    command.args(arguments).stdin(Stdio::null()).env("COLUMNS", "100");
    command
}

/// Takes the caller's settings away from a command.
pub(crate) fn without_settings(command: &mut Command) {
    let ours = [
        "PROVER_",
        "DEV_NODE_",
        "L2_PROVER_LOG",
        "L2_PROVER_TOKEN",
        "L2_PROVER_SERVER",
        "L2_PROVER_C",
        "RISC0_",
        "OTEL_",
    ];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    l2_prover(arguments).output().expect("the command can be started")
}

/// Runs the command, which must fail with `code`; returns its stderr.
pub(crate) fn fails(code: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

/// The lines of JSON in `stdout`.
pub(crate) fn json_lines(stdout: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A block file of the recorded blocks, if they are on this machine.
pub(crate) fn recorded(name: &str) -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("L2_PROVER_DATA")?).join("blocks").join(name);
    assert!(path.is_file(), "{} is missing, but L2_PROVER_DATA is set", path.display());
    Some(path)
}

/// A process that serves, and is killed with the test.
pub(crate) struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Service {
    /// Starts the command with `--json` and waits for its first line.
    pub(crate) fn start(arguments: &[&str]) -> (Self, Value) {
        Self::start_with(arguments, &[])
    }

    /// The same, with these environment variables.
    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> (Self, Value) {
        let mut child = l2_prover(arguments)
            .envs(variables.iter().copied())
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the command can be started");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut service = Self { child, stdout };
        let started =
            service.line().unwrap_or_else(|| panic!("{arguments:?} ended without a word"));
        assert_eq!(started["event"], "started", "{started}");
        (service, started)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on stdout.
    pub(crate) fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout is UTF-8");
        (!line.is_empty())
            .then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")))
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is gone");
    }

    /// SIGTERM.
    pub(crate) fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill").args(["-TERM", &pid]).status().expect("there is a kill").success()
        );
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal();
        self.ended("30 s after SIGTERM", Duration::from_secs(30))
    }

    /// Waits until it ends by itself, until `when`; returns the exit code.
    pub(crate) fn ended(&mut self, when: &str, within: Duration) -> Option<i32> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the process goes on {when}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's status as soon as it is as wanted.
pub(crate) async fn status_when(endpoint: &str, wanted: impl Fn(&Status) -> bool) -> Status {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < deadline {
        let answer = reqwest::get(format!("{endpoint}{}", protocol::paths::STATUS)).await;
        // Its database may be away.
        if let Ok(answer) = answer.and_then(reqwest::Response::error_for_status) {
            let status: Status = answer.json().await.expect("the status is JSON");
            if wanted(&status) {
                return status;
            }
            last = Some(status);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the server did not get there: {last:#?}");
}

/// A call of the node.
pub(crate) async fn rpc(url: &str, method: &str) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": [] });
    let answer =
        reqwest::Client::new().post(url).json(&request).send().await.expect("the node answers");
    let answer: Value = answer.json().await.expect("the answer is JSON");
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

/// A text in a JSON object.
pub(crate) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("{value} has no text {key}")).to_owned()
}
