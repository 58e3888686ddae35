//! Whatever cannot be read is named, and a test that cannot pass fails.

use conformance::{NotTests, Options, Report, SourceError, run};
use std::path::{Path, PathBuf};

fn run_all(paths: &[PathBuf]) -> Result<Report, SourceError> {
    run_with(paths, NotTests::Refuse)
}

fn run_with(paths: &[PathBuf], not_tests: NotTests) -> Result<Report, SourceError> {
    let options = Options {
        network: None,
        filter: None,
        sample: 1,
        jobs: 2,
        not_tests,
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
fn a_folder_of_files_that_are_no_tests_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100 {
        write(folder.path(), &format!("{number:02}.json"), "[]");
    }
    let error = run_all(&[folder.path().to_owned()]).unwrap_err();
    let SourceError::Malformed { path, .. } = &error else { panic!("{error}") };
    assert!(path.ends_with(".json"), "{path}");
}

#[test]
fn what_is_no_test_is_skipped_and_counted_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..20 {
        write(folder.path(), &format!("{number:02}.json"), "{\"x\": 1}");
    }
    write(folder.path(), "old.json", &fixture("London", "x"));
    let report = run_with(&[folder.path().to_owned()], NotTests::Skip).unwrap();
    assert_eq!((report.not_tests.len(), report.skipped.get("before the merge")), (20, Some(&1)));
    assert!(report.not_tests[7].path.ends_with("07.json"));
    assert!(report.not_tests[7].reason.contains("line 1"), "{}", report.not_tests[7].reason);
    // A path that is not there is no file to skip.
    let missing = folder.path().join("missing.json");
    assert!(run_with(&[missing], NotTests::Skip).is_err());
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
