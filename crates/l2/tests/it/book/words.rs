//! What a line of a shell calls, and whether there is such a thing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::deploy::{root, unknown_variables, variables, wrong};

/// The commands in a text for a shell, each as its words.
pub(super) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|quoted| *quoted != c));
            }
            '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            ' ' | '\t' => words.extend(word.take()),
            '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

/// What commands may name.
pub(super) struct Known {
    variables: BTreeSet<String>,
    /// Of the Makefiles.
    targets: BTreeSet<String>,
    /// Of `cargo xtask`.
    chores: BTreeSet<String>,
    /// The names of tests, and of their files and folders.
    tests: String,
}

impl Known {
    pub(super) fn new() -> Self {
        let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("text");
        let makefiles = read("Makefile") + &read("crates/l2/Makefile");
        let targets = makefiles.lines().filter_map(|line| line.split_once(':'));
        let lower =
            |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || "-0123456789".contains(c));
        let targets = targets.map(|(name, _)| name.to_owned()).filter(|name| lower(name)).collect();
        let xtask = read("xtask/src/main.rs");
        let chores = xtask.split("enum Chore {").nth(1).and_then(|rest| rest.split("\n}").next());
        let chores = chores.expect("there are chores").lines().filter_map(|line| {
            let name = line.strip_prefix("    ")?.strip_suffix([',', '{'])?.trim();
            name.chars().all(char::is_alphanumeric).then(|| name.to_ascii_lowercase())
        });
        let mut variables = variables();
        // Of the tests.
        variables.insert("L2_PROVER_DATA".into());
        let mut tests = String::new();
        names(&root().join("crates"), &mut tests);
        Self { variables, targets, chores: chores.collect(), tests }
    }

    /// What a command names that there is not.
    pub(super) fn wrong(&self, words: &[String]) -> Option<String> {
        let assigned = words.iter().take_while(|word| word.contains('=')).count();
        let words = &words[assigned..];
        let plain = |word: &&String| !word.contains('=') && !word.starts_with('-');
        let there = |word: &&String| {
            let ours = ["scripts/", "deploy/", "contracts/"];
            let path = word.split("=").last().unwrap_or(word);
            let ours = ours.iter().any(|folder| path.starts_with(folder));
            ours && !path.contains(['*', '$', '…', ',']) && !root().join(path).exists()
        };
        if let Some(path) = words.iter().find(there).filter(|path| !path.contains("secrets")) {
            return Some(format!("there is no {path}"));
        }
        match words.first().map(String::as_str) {
            Some("make") => {
                let mut targets = words[1..].iter().filter(plain);
                let unknown = targets.find(|target| !self.targets.contains(*target));
                return unknown.map(|target| format!("make has no {target}"));
            }
            Some("cargo") if words.get(1).is_some_and(|word| word == "xtask") => {
                let chore = words.get(2).filter(|chore| !self.chores.contains(*chore));
                return chore.map(|chore| format!("cargo xtask has no {chore}"));
            }
            Some("cargo") => {
                let named = words.iter().flat_map(|word| {
                    let filters = ["test(", "binary("];
                    filters.into_iter().flat_map(move |filter| word.split(filter).skip(1))
                });
                let mut named = named.filter_map(|rest| rest.split(')').next());
                let unknown = named.find(|name| !self.tests.contains(name));
                return unknown.map(|name| format!("there is no test {name}"));
            }
            _ => {}
        }
        let at = words.iter().position(|word| word == "l2-prover")?;
        let called = match at.checked_sub(1).map(|before| words[before].as_str()) {
            Some("--" | "-v") | None => true,
            // A flag's value, a group, or what a script is told.
            Some(before) => {
                let others = [".py", ".sh", "chgrp"];
                !before.starts_with('-') && !others.iter().any(|end| before.ends_with(end))
            }
        };
        called.then(|| wrong(&words[at + 1..])).flatten()
    }

    /// Variables that look like ours and are not.
    pub(super) fn unknown_variables<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let ours = ["PROVER_", "L2_PROVER_", "DEV_NODE_"];
        let mut unknown = unknown_variables(text, &self.variables);
        unknown.retain(|name| ours.iter().any(|start| name.starts_with(start)));
        unknown
    }
}

/// The names of all functions and files below `folder`.
fn names(folder: &Path, names_: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("read").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            *names_ += &format!("{name}\n");
            names(&path, names_);
        } else if name.ends_with(".rs") {
            *names_ += &format!("{name}\n");
            let text = std::fs::read_to_string(&path).expect("a source");
            for rest in text.split("fn ").skip(1) {
                *names_ += rest.split('(').next().unwrap_or_default();
                names_.push('\n');
            }
        }
    }
}

#[test]
fn a_shell_s_words_are_found() {
    let text = "a \"b c\" \\\n  d # e\nf=1 g | h 'i; j' > k";
    let found = commands(text).into_iter().map(|words| words.join("+")).collect::<Vec<_>>();
    assert_eq!(found, ["a+b c+d", "f=1+g", "h+i; j", "k"]);
}
