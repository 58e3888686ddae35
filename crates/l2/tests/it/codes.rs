//! Every warning and error has a stable code, and docs/reference/codes.md says what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The crates of programs that an operator runs.
const CRATES: [&str; 8] = [
    "server",
    "client",
    "l2",
    "witness",
    "verifier",
    "prover-bonsai",
    "prover-risc0",
    "settlement",
];

/// Levels and crates of each code.
type Codes = BTreeMap<String, [BTreeSet<String>; 2]>;

/// The macro call with which `source` begins.
fn call(source: &str) -> &str {
    let (mut depth, mut quoted) = (0, false);
    for (at, c) in source.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth == 1 => return &source[..at],
            ')' if !quoted => depth -= 1,
            _ => {}
        }
    }
    source
}

fn read(folder: &Path, name: &str, codes: &mut Codes) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, name, codes);
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source");
        let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for level in ["error", "warn", "info"] {
            for (at, _) in source.match_indices(&format!("tracing::{level}!(")) {
                let call = call(&source[at..]);
                let code = call.split_once("code = \"").and_then(|(_, rest)| rest.split_once('"'));
                match code {
                    Some((code, _)) => {
                        let [levels, crates] = codes.entry(code.to_owned()).or_default();
                        levels.insert(level.to_owned());
                        crates.insert(name.to_owned());
                    }
                    None => assert_eq!(level, "info", "{}: no code in {call}", path.display()),
                }
            }
            let bare = [format!(" {level}!("), format!("\n{level}!(")];
            assert!(
                bare.iter().all(|bare| !source.contains(bare)),
                "{}: write tracing::{level}!, so that codes are found",
                path.display()
            );
        }
    }
}

const HEAD: &str = "\
# Codes

What programs can match on. `UPDATE_EXPECT=1 cargo nextest run -E 'test(every_warning_has_a_code_that_the_docs_explain)'` writes this page: codes, levels and
the crates that log them are the sources', and so are the answers, failures and exit codes. What a log code means, and what to do, is written here by
hand and kept.

## Log codes

Every warning and error has a field `code`, which stays the same when the text is improved. Match on it, not on the text.

| code | level | from | means | do |
|---|---|---|---|---|
";

/// The values of an enum of docs/openapi.json, with what they mean.
fn values(openapi: &serde_json::Value, name: &str) -> String {
    let values = openapi["components"]["schemas"][name]["oneOf"].as_array();
    let mut rows = String::new();
    for value in values.expect("an enum") {
        let text = |key: &str| value[key].as_str().expect("text").trim_end_matches('.').to_owned();
        writeln!(rows, "| `{}` | {} |", text("const"), text("description")).expect("text");
    }
    rows
}

/// The exit codes, as crates/l2/src/main.rs has them in a line.
fn exit_codes(root: &Path) -> String {
    let main = fs::read_to_string(root.join("crates/l2/src/main.rs")).expect("a source");
    let codes = main.lines().find_map(|line| line.strip_prefix("//! * Exit codes: "));
    let codes = codes.expect("a line of exit codes").trim_end_matches('.').split(", ");
    let pairs = codes.map(|code| code.split_once(' ').expect("a code and its meaning"));
    pairs.map(|(code, meaning)| format!("| {code} | {meaning} |\n")).collect()
}

#[test]
fn every_warning_has_a_code_that_the_docs_explain() {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let root = Path::new(&folder).join("../..");
    let mut codes = Codes::new();
    for name in CRATES {
        read(&root.join("crates").join(name).join("src"), name, &mut codes);
    }
    assert!(codes.len() > 20, "{codes:#?}");

    let text = fs::read_to_string(root.join("docs/reference/codes.md")).expect("the page of codes");
    let table = text.split("## Log codes").nth(1).expect("a chapter on log codes");
    let table = table.split("\n## ").next().unwrap_or_default();
    let mut told = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, code, _, _, meaning, advice, _] = cells[..] else {
            panic!("a row of other cells: {row}")
        };
        told.insert(code.trim_matches('`').to_owned(), [meaning, advice]);
    }
    let mut page = HEAD.to_owned();
    for (code, found) in &codes {
        let [levels, crates] =
            found.each_ref().map(|found| found.iter().cloned().collect::<Vec<_>>().join(", "));
        let [meaning, advice] = told.get(code).copied().unwrap_or_default();
        writeln!(page, "| `{code}` | {levels} | {crates} | {meaning} | {advice} |").expect("text");
    }
    let openapi = fs::read_to_string(root.join("docs/openapi.json")).expect("the API");
    let openapi = serde_json::from_str(&openapi).expect("JSON");
    page += "\n## Answers of a server\n\nThe `code` of an [`ApiError`](api.md#apierror):\n\n| code | means |\n|---|---|\n";
    page += &values(&openapi, "ErrorCode");
    page += "\n## Failures of a client\n\nThe `class` with which a client gives a job back, also in logs and metrics:\n\n| class | means |\n|---|---|\n";
    page += &values(&openapi, "FailureClass");
    page += "\n## Exit codes\n\n| code | means |\n|---|---|\n";
    page += &exit_codes(&root);
    expect_test::expect_file!["../../../../docs/reference/codes.md"].assert_eq(&page);
    for code in codes.keys() {
        let explained = told.get(code).is_some_and(|told| told.iter().all(|cell| !cell.is_empty()));
        assert!(
            explained,
            "docs/reference/codes.md does not say what {code} means, and what to do"
        );
    }
}
