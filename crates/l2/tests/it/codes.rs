//! Every warning and error has a stable code, and docs/operate.md says what to do about it.

use std::collections::{BTreeMap, BTreeSet};
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

#[test]
fn every_warning_has_a_code_that_the_docs_explain() {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let root = Path::new(&folder).join("../..");
    let mut codes = Codes::new();
    for name in CRATES {
        read(&root.join("crates").join(name).join("src"), name, &mut codes);
    }
    assert!(codes.len() > 20, "{codes:#?}");

    let text = fs::read_to_string(root.join("docs/operate.md")).expect("the operator's manual");
    let table = text.split("## Log codes").nth(1).expect("a chapter on log codes");
    let table = table.split("\n## ").next().unwrap_or_default();
    let mut told = Codes::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, code, level, from, meaning, advice, _] = cells[..] else {
            panic!("a row of other cells: {row}")
        };
        assert!(!meaning.is_empty() && !advice.is_empty(), "{row}");
        let all = |cell: &str| cell.split(", ").map(str::to_owned).collect();
        told.insert(code.trim_matches('`').to_owned(), [all(level), all(from)]);
    }
    for (code, found) in &codes {
        assert_eq!(told.get(code), Some(found), "{code}: what docs/operate.md has, and the source");
    }
    let gone: Vec<_> = told.keys().filter(|code| !codes.contains_key(*code)).collect();
    assert!(gone.is_empty(), "docs/operate.md explains codes that no source has: {gone:?}");
}
