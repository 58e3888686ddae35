//! Whatever cannot be read is named, and a test that cannot pass fails.

use conformance::{Options, Report, SourceError, run};
use std::path::{Path, PathBuf};

fn run_all(paths: &[PathBuf]) -> Result<Report, SourceError> {
    let options = Options {
        network: None,
        filter: None,
        sample: 1,
        jobs: 2,
        second: None,
        progress: &|_| {},
    };
    run(paths, &options)
}

/// A test of an empty genesis and one block that is nonsense.
fn fixture(network: &str, exception: &str) -> String {
    format!(
        r#"{{"a test[{network}]": {{"network": "{network}", "genesisRLP": "0xc0", "pre": {{}}, "lastblockhash":
        "0x{:064x}", "blocks": [{{"rlp": "0xc0", "expectException": "{exception}"}}]}}}}"#,
        0
    )
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_is_no_test_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json");
    let error = run_all(&[missing]).unwrap_err();
    assert!(
        matches!(&error, SourceError::Unreadable { path, .. } if path.ends_with("missing.json")),
        "{error}"
    );
    let error = run_all(&[write(folder.path(), "broken.json", "{\"x\": 1}")]).unwrap_err();
    assert!(
        matches!(&error, SourceError::Malformed { path, .. } if path.ends_with("broken.json")),
        "{error}"
    );
    let error = run_all(&[write(folder.path(), "cut.tar.zst", "no archive")]).unwrap_err();
    assert!(
        matches!(&error, SourceError::Unreadable { path, .. } if path.ends_with("cut.tar.zst")),
        "{error}"
    );
}

#[test]
fn forks_before_the_merge_are_counted_and_unknown_ones_fail() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "old.json", &fixture("London", "x"));
    write(folder.path(), "new.json", &fixture("Atlantis", "x"));
    write(folder.path(), "notes.txt", "not a test");
    let report = run_all(&[folder.path().to_owned()]).unwrap();
    assert_eq!(report.skipped.get("before the merge"), Some(&1));
    assert_eq!(report.failures.len(), 1);
    assert!(report.failures[0].reason.contains("Atlantis"));
}

#[test]
fn a_test_that_cannot_pass_fails() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "nonsense.json",
        &fixture("Prague", "BlockException.RLP_STRUCTURES_ENCODING"),
    );
    let report = run_all(&[folder.path().to_owned()]).unwrap();
    assert_eq!(report.total().failed, 1);
    assert!(report.failures[0].reason.starts_with("genesis"), "{}", report.failures[0].reason);
}
