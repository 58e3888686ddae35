//! scripts/build.sh, with a cargo that only says what cargo says.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

/// What the script makes of a `cargo build` that does `build`.
fn built(build: &str) -> Output {
    let folder = tempfile::tempdir().expect("temporary folder");
    let cargo = folder.path().join("cargo");
    let tree = "[ $1 != tree ] || { echo 'serde v1.0.0|std'; echo 'l2 v0.1.0 (/l2)|'; exit; }";
    std::fs::write(&cargo, format!("#!/bin/bash\n{tree}\n{build}\n")).expect("written");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).expect("its owner");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/build.sh");
    let mut command = Command::new("bash");
    command.arg(script).args(["--profile", "quick", "-p", "l2"]).env("CARGO", &cargo);
    command.output().expect("bash is there")
}

const SERDE: &str = r#"echo '{"reason":"compiler-artifact","package_id":"registry+https://github.com/rust-lang/crates.io-index#serde@1.0.0","target":{"kind":["lib"]}}'"#;

#[test]
fn a_build_that_has_nothing_to_do_says_nothing() {
    let output = built(&format!("{SERDE}\necho '    Finished `quick` profile' >&2"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()));
}

#[test]
fn a_build_that_fails_says_cargos_errors_in_full_and_has_its_status() {
    let error = "error[E0308]: mismatched types\n --> src/main.rs:1:1\n  |\n";
    let output = built(&format!(
        "echo '   Compiling serde v1.0.0' >&2\nsleep 1.5\n{SERDE}\nprintf '{error}' >&2\nexit 101"
    ));
    assert_eq!(output.status.code(), Some(101));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains(error), "{said}");
    assert!(said.contains("0 of 2 crates, about "), "{said}");
    assert!(!said.contains("Compiling") && !said.contains("reason"), "{said}");
    assert!(!said.contains("built in"), "{said}");
}
