//! The files of deploy/, which operators copy: they name only commands, flags and variables that exist, hold settings that a server
//! accepts, and no secrets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::common::{l2_prover, run};

/// Variables of other programs.
const OTHERS: [&str; 27] = [
    // What a Prover Server hands to its S3-compatible store, and what is standard for collectors of traces.
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_ENDPOINT",
    "AWS_REGION",
    "AWS_ALLOW_HTTP",
    // PostgreSQL, MinIO, Grafana.
    "POSTGRES_USER",
    "POSTGRES_DB",
    "POSTGRES_PASSWORD_FILE",
    "MINIO_ROOT_USER",
    "MINIO_ROOT_PASSWORD",
    "GF_SECURITY_ADMIN_PASSWORD__FILE",
    "GF_ANALYTICS_REPORTING_ENABLED",
    "GF_USERS_ALLOW_SIGN_UP",
    // Building images.
    "BUILD_IMAGE",
    "RUN_IMAGE",
    "RUST_IMAGE",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
    "NVCC_APPEND_FLAGS",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    // Our own, of the compose files and not of the command.
    "L2_PROVER_IMAGE",
    "L2_PROVER_CLIENT_IMAGE",
    // Names that systemd has for kinds of sockets.
    "AF_INET",
    "AF_INET6",
    "AF_UNIX",
];

/// Programs other than ours that a list of words may start with.
const PROGRAMS: [&str; 6] = ["chown", "curl", "l2-prover-ready", "mc", "pg_isready", "wget"];

pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    Path::new(&manifest).join("../..")
}

/// Every file below deploy/ that git would take, with its text.
fn files() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join("deploy")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("read").path();
            match path.is_dir() {
                true if path.ends_with("compose/secrets") => {}
                true => folders.push(path),
                false => {
                    let text = std::fs::read_to_string(&path).expect("text");
                    files.push((path, text));
                }
            }
        }
    }
    files
}

/// The variables that our commands read, by their help and by crates/l2/.example.env.
pub(crate) fn variables() -> BTreeSet<String> {
    let mut known: BTreeSet<String> = OTHERS.iter().map(ToString::to_string).collect();
    let commands =
        [&["server"][..], &["client"], &["node"], &["dev"], &["status"], &["tokens", "create"]];
    for command in commands {
        let help = String::from_utf8(run(&[command, &["--help"]].concat()).stdout).expect("UTF-8");
        // A line may end anywhere.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
        known.extend(shown.map(str::to_owned));
    }
    let example = std::fs::read_to_string(root().join("crates/l2/.example.env")).expect("text");
    let named = example.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
    known.extend(named.map(|name| name.trim_start_matches('#').to_owned()));
    known
}

/// What looks like a variable in `text` and is in `known` not.
pub(crate) fn unknown_variables<'a>(text: &'a str, known: &BTreeSet<String>) -> Vec<&'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| {
            let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let ours = word.starts_with("PROVER_") || word.starts_with("L2_PROVER_");
            let looks = word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.contains('_')
                && word.chars().all(upper);
            (looks || ours) && !known.contains(*word)
        })
        .collect()
}

/// The calls of our command in `text`: lists of words after `command:`, `args:`, `CMD` and the like, and the rest of a line after
/// `l2-prover` in a unit or in backticks. The error is a list that starts with no program that we know.
pub(crate) fn calls(text: &str) -> Vec<Result<Vec<String>, String>> {
    let mut calls = Vec::new();
    for line in text.lines() {
        let lists = ["command: [", "args: [", "test: [", "entrypoint: [", "CMD [", "ENTRYPOINT ["];
        for list in lists.iter().filter_map(|start| line.split_once(start)) {
            let inner = list.1.split(']').next().unwrap_or_default();
            let words = inner.split(',').map(|word| word.trim().trim_matches('"').to_owned());
            let words: Vec<_> = words.filter(|word| !word.is_empty() && word != "CMD").collect();
            match words.first().map(String::as_str) {
                None | Some("l2-prover") if words.len() < 2 => {}
                Some("l2-prover") => calls.push(Ok(words[1..].to_vec())),
                // The S3 store's: no command of ours takes a folder without a flag.
                Some("server") if words.get(1).is_some_and(|word| word.starts_with('/')) => {}
                Some(first) if first.starts_with("--") || PROGRAMS.contains(&first) => {}
                Some(first) if first.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    calls.push(Ok(words));
                }
                _ => calls.push(Err(format!("what does this start? {line}"))),
            }
        }
        for start in ["=/usr/local/bin/l2-prover ", "`l2-prover ", "-T server-1 "] {
            for rest in line.split(start).skip(1) {
                let rest = rest.split(['`', '|', '>', ';']).next().unwrap_or_default();
                let words = rest.split_whitespace().map(|word| word.trim_matches('"').to_owned());
                calls.push(Ok(words.collect()));
            }
        }
    }
    calls
}

/// Values to try where a text has a placeholder, such as `URL` or `0x…`.
const STAND_INS: [&str; 12] = [
    "1",
    "1..2",
    "1s",
    "http://127.0.0.1:1",
    "127.0.0.1:1",
    "0x0000000000000000000000000000000000000001",
    "0x0000000000000000000000000000000000000000000000000000000000000001",
    "00000000000000000000000000000001",
    "0000000000000001",
    "client",
    "exec",
    "bash",
];

/// Whether a reader has to put something in place of `value`.
fn placeholder(value: &str) -> bool {
    let upper = |c: char| c.is_ascii_uppercase();
    let capitals = value.split(|c: char| !upper(c) && !c.is_ascii_digit()).any(|word| {
        word.len() > 1 && word.starts_with(upper) || word == value && value.starts_with(upper)
    });
    capitals || value.contains(['…', '$', '*'])
}

/// What is wrong with a call: a command, a flag or a value that there is not. `…` stands for more flags.
pub(crate) fn wrong(call: &[String]) -> Option<String> {
    let mut words: Vec<_> = call.iter().filter(|word| *word != "…").cloned().collect();
    if !words.first().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase())) {
        return Some(format!("{call:?} is no command"));
    }
    // A placeholder with the words around it, and which value stands in for it.
    let mut stand_in: Option<(Vec<String>, String, usize)> = None;
    loop {
        // The flags before `--help` are judged, and nothing is done.
        let arguments = words.iter().map(String::as_str).chain(["--help"]);
        let output = run(&arguments.collect::<Vec<_>>());
        if output.status.success() {
            return None;
        }
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let value = error.split("invalid value '").nth(1).and_then(|rest| rest.split('\'').next());
        let next = match (stand_in.take(), value) {
            (Some((before, value, at)), Some(refused)) if STAND_INS[at] == refused => {
                (before, value, at + 1)
            }
            (_, Some(value)) if placeholder(value) => (words.clone(), value.to_owned(), 0),
            _ => return Some(format!("{call:?}: {}", error.lines().next().unwrap_or_default())),
        };
        let Some(value) = STAND_INS.get(next.2) else {
            return Some(format!("{call:?}: what stands for {}?", next.1));
        };
        // Several may be written alike: the first of them, then the next.
        words.clone_from(&next.0);
        if let Some(word) = words.iter_mut().find(|word| word.contains(&next.1)) {
            *word = word.replace(&next.1, value);
        }
        stand_in = Some(next);
    }
}

#[test]
fn deploy_files_name_only_what_there_is() {
    let known = variables();
    assert!(known.len() > 80, "{known:?}");
    let (mut mistakes, mut variables, mut checked) = (Vec::new(), 0, 0);
    for (path, text) in files() {
        variables += text.matches("PROVER_").count();
        for variable in unknown_variables(&text, &known) {
            mistakes.push(format!("{}: nobody reads {variable}", path.display()));
        }
        for call in calls(&text) {
            checked += 1;
            let wrong = call.map_or_else(Some, |call| wrong(&call));
            mistakes.extend(wrong.map(|wrong| format!("{}: {wrong}", path.display())));
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(variables > 50 && checked > 10, "{variables} variables and {checked} calls");
}

#[test]
fn a_typing_error_in_a_deploy_file_is_found() {
    let known = variables();
    for text in [
        "PROVER_SERVER_LISTEN_PROT=3900",
        "PROVRE_SERVER_LISTEN_PORT=3900",
        "Environment=PROVER_SERVER_Listen_PORT=1",
        "- { name: PROVER_CLIENT_METRICS, value: x }",
        "  POSTGRES_PASSWRD_FILE: /run/secrets/x",
    ] {
        assert_eq!(unknown_variables(text, &known).len(), 1, "{text}");
    }
    let first = |text: &str| {
        calls(text).into_iter().find_map(|call| call.map_or_else(Some, |call| wrong(&call)))
    };
    for text in [
        "command: [sever]",
        "args: [server, --listen-prot, \"3900\"]",
        "ExecStart=/usr/local/bin/l2-prover server --quiet",
        "CMD [\"client\", \"--prover-system\", \"risc0\"]",
        "# `l2-prover tokens make` makes one",
        "test: [CMD, wgte, -q, http://127.0.0.1]",
    ] {
        assert!(first(text).is_some(), "{text}");
    }
    for text in [
        "command: [dev, --prover, exec]",
        "ExecStart=/usr/local/bin/l2-prover server",
        "ExecStartPre=/usr/local/bin/l2-prover config check",
        "run -T server-1 tokens create --name \"$name\" --role \"$role\" --json |",
        "test: [CMD, wget, -q, http://127.0.0.1]",
        "ENTRYPOINT [\"l2-prover\"]",
    ] {
        assert_eq!(first(text), None, "{text}");
    }
}

/// `l2-prover config check` with the variables of these files, but for `changed`.
fn check(files: &[&str], changed: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut command = l2_prover(&["config", "check"]);
    for file in files {
        let text = std::fs::read_to_string(root().join("deploy").join(file)).expect("text");
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        command.envs(settings.filter_map(|line| line.split_once('=')));
    }
    command.envs(changed.iter().copied()).current_dir(folder.path()).output().expect("started")
}

#[test]
fn a_server_accepts_the_shipped_settings() {
    let secret = ("PROVER_SERVER_DATABASE", "postgres://prover:secret@db/prover");
    for files in [
        &["compose/server.env"][..],
        &["compose/server.env", "compose/demo.env"],
        &["systemd/server.env"],
    ] {
        let output = check(files, &[secret]);
        assert!(output.status.success(), "{files:?}: {output:?}");
    }
    // The check notices what operators get wrong: a server for the world without tokens.
    let output = check(&["compose/server.env"], &[secret, ("PROVER_SERVER_AUTH", "open")]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("auth"), "{error}");
}

#[test]
fn deploy_files_hold_no_secrets_and_open_nothing() {
    for (path, text) in files() {
        let name = path.display();
        assert!(!text.contains("l2p_"), "{name} has a token");
        for url in text.split("postgres://").skip(1) {
            let password = url.split('@').next().and_then(|user| user.split_once(':'));
            assert!(
                password.is_none_or(|(_, word)| word.starts_with("$(")),
                "{name} has a password"
            );
        }
        // A port without an address is open to the world, whatever the firewall says.
        for line in text.lines().filter(|line| line.trim().starts_with("ports: [")) {
            assert!(line.contains("[\"127.0.0.1:"), "{name}: {line}");
        }
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file.starts_with("Containerfile") {
            let run = text.rsplit("\nFROM ").next().expect("it has stages");
            assert!(run.contains("\nUSER 10001:10001\n"), "{name} runs as root");
        }
        if ["compose.yml", "dev.yml"].contains(&file) {
            let images = text.lines().filter(|line| line.starts_with("    image: ")).count();
            let own = text.lines().filter(|line| line.starts_with("    read_only: true")).count();
            let hardened = text.lines().filter(|line| *line == "    <<: *hardened").count();
            assert_eq!(
                images,
                own + hardened,
                "{name}: a container's root file system can be written to"
            );
        }
    }
}

/// The files below `folder` whose names end in `.rs`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn an_image_gets_every_file_that_is_built_into_the_commands() {
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).expect("text");
    let ignored: Vec<_> =
        ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(ignored.contains(&"deploy/compose/secrets") && ignored.contains(&"**/.env"));
    let mut files = Vec::new();
    for folder in std::fs::read_dir(root().join("crates")).expect("a folder") {
        sources(&folder.expect("read").path().join("src"), &mut files);
    }
    let mut embedded = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        for rest in text.split("!(\"../../../").skip(1) {
            let path = rest.split('"').next().expect("it ends");
            let hidden = ignored.iter().find(|one| Path::new(path).starts_with(one));
            assert_eq!(hidden, None, "{path}, which {} has built in", file.display());
            embedded += 1;
        }
    }
    assert!(embedded >= 7, "{embedded}");
}

#[test]
fn secrets_are_made_once_and_only_their_owner_gets_at_them() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::copy(root().join("deploy/compose/secrets.sh"), path("secrets.sh")).expect("copied");
    // In place of containers: the first try to make a token fails.
    let stub = "#!/bin/bash\ncase \" $* \" in *' tokens create '*) ;; *) exit 0;; esac\n\
        [ -e tried ] || { touch tried; exit 1; }\nwhile [ \"$1\" != tokens ]; do shift; done\n\
        exec \"$L2\" \"$@\" --data-dir database\n";
    std::fs::write(path("stub"), stub).expect("written");
    let make = || {
        let mut command = std::process::Command::new("bash");
        let compose = format!("bash {}", path("stub").display());
        command.arg(path("secrets.sh")).env("COMPOSE", compose).current_dir(folder.path());
        command.env("L2", assert_cmd::cargo::cargo_bin!("l2-prover")).output().expect("bash")
    };
    let all = || {
        let files = std::fs::read_dir(path("secrets")).expect("a folder");
        let files = files.map(|file| file.expect("read").path());
        files.map(|file| (file.clone(), std::fs::read_to_string(file).expect("text"))).collect()
    };
    assert!(!make().status.success(), "without a token there is nothing to start");
    let output = make();
    assert!(output.status.success(), "{output:?}");
    let secrets: std::collections::BTreeMap<PathBuf, String> = all();
    assert_eq!(secrets.len(), 7, "{:?}", secrets.keys());
    assert!(secrets.values().all(|text| text.trim().len() > 20));
    for name in ["viewer", "client-1", "client-2"] {
        assert!(secrets[&path("secrets").join(format!("{name}.token"))].starts_with("l2p_"));
    }
    let mode = std::fs::metadata(path("secrets")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let settings = &secrets[&path("secrets/server.env")];
    let known = variables();
    assert_eq!(unknown_variables(settings, &known), Vec::<&str>::new());
    let values: Vec<_> = settings.lines().filter_map(|line| line.split_once('=')).collect();
    assert!(values.len() == 3 && check(&["compose/server.env"], &values).status.success());

    assert!(make().status.success());
    assert_eq!(all(), secrets, "what is there stays");
}
