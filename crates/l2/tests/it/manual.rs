//! Completions and man pages, in the programs that read them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::run;

/// Runs another program; `None` if this machine lacks it.
fn other(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{program}: {error}"),
    }
}

/// The completions for `shell`, in a file of `folder`.
fn completions(shell: &str, folder: &Path) -> String {
    let output = run(&["completions", shell]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let file = folder.join(shell);
    std::fs::write(&file, output.stdout).expect("written");
    file.to_str().expect("temporary folders have plain names").to_owned()
}

#[test]
fn shells_can_read_their_completions() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let file = completions(shell, folder.path());
        let Some(checked) = other(shell, &[check, &file]) else { continue };
        assert!(checked.status.success(), "{shell}: {checked:?}");
    }
    for shell in ["elvish", "powershell"] {
        let text = std::fs::read_to_string(completions(shell, folder.path())).expect("UTF-8");
        assert!(text.contains("--listen-port"), "{shell} does not know the flags of `server`");
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = completions("bash", folder.path());
    let complete = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let script = format!(
            "source '{file}'; COMP_WORDS=({line}); COMP_CWORD={}; \
             function=$(complete -p l2-prover | sed 's/.* -F \\([^ ]*\\) .*/\\1/'); $function l2-prover '{last}' '{before}'; echo \"${{COMPREPLY[*]}}\"",
            words.len() - 1
        );
        let output = other("bash", &["-c", &script]).expect("bash is everywhere");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    assert_eq!(complete("l2-prover serv"), "server");
    assert_eq!(complete("l2-prover server --listen-"), "--listen-ip --listen-port");
    assert_eq!(complete("l2-prover server --auth req"), "required");
    assert_eq!(complete("l2-prover jobs pri"), "prioritise");
    assert_eq!(complete("l2-prover tokens create --role op"), "operator");
}

#[test]
fn every_command_has_a_man_page_that_can_be_read() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().join("new/man1");
    let output = run(&["--json", "man", "--out", out.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let files = std::fs::read_dir(&out).expect("a folder");
    let pages: BTreeSet<_> =
        files.map(|file| file.expect("read").file_name().into_string().expect("UTF-8")).collect();
    assert_eq!(report["pages"], pages.len());

    // The commands of the help, and one below another.
    let help = String::from_utf8(run(&["--help"]).stdout).expect("UTF-8");
    let commands = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next());
    let named = commands.expect("the help lists them").lines().filter_map(|line| {
        let line = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
        line.split_whitespace().next().filter(|name| *name != "help")
    });
    let named: Vec<_> = named.collect();
    assert!(named.contains(&"server") && named.len() > 30, "{named:?}");
    for name in named.into_iter().chain(["tokens-create"]) {
        assert!(pages.contains(&format!("l2-prover-{name}.1")), "{name} has no page");
    }
    assert!(!pages.contains("l2-prover-prover-process.1") && !pages.contains("l2-prover-help.1"));

    for page in &pages {
        let path = out.join(page);
        let Some(shown) = other("groff", &["-man", "-Tutf8", "-ww", path.to_str().expect("UTF-8")])
        else {
            return;
        };
        let problems = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && problems.is_empty(), "{page}: {problems}");
    }
    let server = std::fs::read_to_string(out.join("l2-prover-server.1")).expect("UTF-8");
    for what in ["\\-\\-listen\\-port", "PROVER_SERVER_LISTEN_PORT"] {
        assert!(server.contains(what), "the page of `server` does not say {what}");
    }
}
