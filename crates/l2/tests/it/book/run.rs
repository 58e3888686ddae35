//! Runs the blocks of a page.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::blocks::{Block, Mark};
use crate::common::{free_port, without_settings};
use crate::deploy::root;

/// How long a block is tried: a chain needs time for its first blocks.
const PATIENCE: Duration = Duration::from_secs(30);

/// A reader's machine: a fresh folder, with a home in it and with `l2-prover` on the path, and two free ports in place of those
/// that the pages name.
pub(super) struct Machine {
    folder: TempDir,
    bin: TempDir,
    node: u16,
    server: u16,
    background: Vec<Child>,
}

impl Machine {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["contracts", "deploy", "scripts"] {
            let link = std::os::unix::fs::symlink(
                fs::canonicalize(root().join(name)).expect("there"),
                folder.path().join(name),
            );
            link.expect("linked");
        }
        // No zkVM's executable stands beside it there.
        let bin = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary folder");
        let prover: PathBuf = assert_cmd::cargo::cargo_bin!("l2-prover").into();
        fs::hard_link(&prover, bin.path().join("l2-prover")).expect("linked");
        Self { folder, bin, node: free_port(), server: free_port(), background: Vec::new() }
    }

    /// Runs the blocks of a page, in order.
    pub(super) fn run(&mut self, blocks: &[Block]) {
        for block in blocks {
            match &block.mark {
                Mark::File(name) => {
                    fs::write(self.folder.path().join(name), &block.text).expect("written");
                }
                Mark::Run { beside } => {
                    if let Some(command) = beside {
                        self.start(&block.place, command);
                    }
                    self.persist(block);
                }
                Mark::Background => self.start(&block.place, &block.text),
                Mark::None | Mark::Not | Mark::Demo => {}
            }
        }
    }

    /// Starts a command that goes on, and waits for its first line.
    fn start(&mut self, place: &str, command: &str) {
        let mut child = self
            .bash(&format!("exec {command}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        self.background.push(child);
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next().and_then(Result::ok);
        assert!(first.is_some(), "{place}: `{command}` ended without a word");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Runs a block until it ends well.
    fn persist(&self, block: &Block) {
        let end = Instant::now() + PATIENCE;
        while let Err(why) = self.attempt(block) {
            let again = !self.background.is_empty() && Instant::now() < end;
            assert!(again, "{}: {why}", block.place);
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn attempt(&self, block: &Block) -> Result<(), String> {
        let screens = match block.language.as_str() {
            "console" => block.screens(),
            _ => vec![(block.text.as_str(), "")],
        };
        for (command, shown) in screens {
            let output =
                self.bash(&format!("exec 2>&1\n{command}")).output().expect("bash can be started");
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            if !output.status.success() {
                return Err(format!("{command}\n{}\n{printed}", output.status));
            }
            let (found, wanted) = (shape(&printed), shape(shown));
            if !shown.is_empty() && !fits(&wanted, &found) {
                return Err(format!("{command}\nshows {wanted:#?}\nprints {found:#?}\n{printed}"));
            }
        }
        Ok(())
    }

    fn bash(&self, script: &str) -> Command {
        let (node, server) = (self.node.to_string(), self.server.to_string());
        let script = script
            .replace("127.0.0.1:8545", &format!("127.0.0.1:{node}"))
            .replace("127.0.0.1:3900", &format!("127.0.0.1:{server}"));
        let mut path = self.bin.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new("timeout");
        without_settings(&mut command);
        command
            .args(["60", "bash", "-euo", "pipefail", "-c", &script])
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("PATH", path)
            .env("DEV_NODE_LISTEN_PORT", node)
            .env("PROVER_SERVER_LISTEN_PORT", &server)
            .env("L2_PROVER_SERVER", format!("http://127.0.0.1:{server}"))
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in &mut self.background {
            // SIGTERM, which `timeout` passes on. It may have ended before.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

/// What stays of a screen from run to run: the words of each line up to its first figure, each once.
pub(super) fn shape(screen: &str) -> Vec<String> {
    let mut shape = Vec::new();
    for line in screen.lines().filter(|line| !line.trim().is_empty()) {
        let digit = |c: char| c.is_ascii_digit();
        let figure = |word: &&str| word.replace("l2-prover", "").contains(digit);
        let words: Vec<_> = line.split_whitespace().take_while(|word| !figure(word)).collect();
        let line = match words.first() {
            None => "#".to_owned(),
            Some(rule) if rule.starts_with(['─', '═']) => "─".to_owned(),
            Some(_) => words.join(" "),
        };
        if !shape.contains(&line) {
            shape.push(line);
        }
    }
    shape
}

/// Whether what is printed is what a page shows, where `…` stands for any other lines.
fn fits(shown: &[String], printed: &[String]) -> bool {
    let mut lines = shown.iter().filter(|line| *line != "…");
    shown == printed
        || shown.iter().any(|line| line == "…") && lines.all(|line| printed.contains(line))
}

#[test]
fn a_shape_has_words_and_no_figures() {
    let screen = "jobs     0 ready, 8 proved\n───\n client  name\n═══\n d8af  gpu-1  idle\n\n bdf4  gpu-2  busy\n";
    assert_eq!(shape(screen), ["jobs", "─", "client name", "#"]);
    let fits = |shown: &str, printed: &str| fits(&shape(shown), &shape(printed));
    assert!(fits("a 1\nb 2", "a 3\nb 4") && !fits("a\nb", "a\nc\nb"));
    assert!(fits("a\n…\nb", "a\nc\nb\nd") && !fits("a\n…\nd", "a\nb"));
}
