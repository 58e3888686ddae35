//! Soundness: every check that is marked `// SOUNDNESS:` is taken out of a copy of the tree, and a test must fail.
//!
//! * `xtask/soundness.toml` says for each mark which edit removes its check, and which tests must notice.
//! * Each of these is a failure: a mark without a row, a row whose mark or text is gone, an edit that does not
//!   compile, an edit that no test notices.
//! * The checkout itself is never changed. The copy has a target folder of its own, below the checkout's: otherwise
//!   cargo would mistake what it built from a copy without a check for a build of the checkout.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::guests::{output, target_folder};
use crate::say;

/// The table of edits.
const TABLE: &str = "xtask/soundness.toml";

/// What a marked check begins with.
const MARK: &str = "SOUNDNESS:";

/// The options.
pub(crate) struct Options {
    /// Only compare the marks with the table.
    pub list: bool,
    /// Run the rows of guests, each of which builds a guest, and no others.
    pub guest: bool,
    /// Run the rows whose file or mark contains this.
    pub only: Option<String>,
}

#[derive(Deserialize)]
struct Table {
    check: Vec<Row>,
}

/// One edit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// The file with the mark.
    file: String,
    /// The text that is replaced: its first occurrence after the mark.
    mark: String,
    /// The replacement.
    #[serde(default)]
    find: String,
    /// What it becomes.
    #[serde(default)]
    replace: String,
    /// The package whose tests run.
    #[serde(default)]
    package: String,
    /// The targets that are built: arguments of cargo.
    #[serde(default = "of_library")]
    targets: String,
    /// The filter for its tests, as nextest takes it.
    #[serde(default)]
    tests: String,
    /// Why no edit can show that the check is needed. Such a row has no edit.
    #[serde(default)]
    explained: String,
}

fn of_library() -> String {
    "--lib".to_owned()
}

impl Row {
    /// Whether the code runs inside a zkVM.
    fn in_guest(&self) -> bool {
        self.file.starts_with("guests/")
    }

    /// The text of the file without the check.
    fn apply(&self, text: &str) -> anyhow::Result<String> {
        let place = marks(text)
            .into_iter()
            .find(|mark| mark.text.starts_with(&self.mark))
            .with_context(|| format!("{} has no mark {:?}", self.file, self.mark))?;
        let at = text[place.offset..].find(&self.find).with_context(|| {
            format!("after {:?} in {} comes no {:?}", self.mark, self.file, self.find)
        })? + place.offset;
        Ok([&text[..at], &self.replace, &text[at + self.find.len()..]].concat())
    }
}

/// A mark in a file.
#[derive(Debug, PartialEq, Eq)]
struct Mark<'a> {
    line: usize,
    /// Byte offset of its line.
    offset: usize,
    /// What follows the tag on its line.
    text: &'a str,
}

/// The marks of a source file, in order.
fn marks(source: &str) -> Vec<Mark<'_>> {
    let (mut marks, mut offset) = (Vec::new(), 0);
    for (index, line) in source.split_inclusive('\n').enumerate() {
        if let Some((before, text)) = line.split_once(MARK)
            && before.trim_start().starts_with("//")
        {
            marks.push(Mark { line: index + 1, offset, text: text.trim() });
        }
        offset += line.len();
    }
    marks
}

/// Compares the marks with the table and then, unless only that is wanted, removes one check after another.
///
/// # Errors
/// Lists everything that is wrong.
pub(crate) fn check(root: &Path, options: &Options) -> anyhow::Result<String> {
    let table =
        fs::read_to_string(root.join(TABLE)).with_context(|| format!("failed to read {TABLE}"))?;
    let table: Table = toml::from_str(&table).with_context(|| format!("failed to read {TABLE}"))?;
    let files = tracked(root)?;
    let (wrong, told) = compare(root, &files, &table.check)?;
    ensure!(wrong.is_empty(), "marks and {TABLE} do not agree:\n{}", wrong.join("\n"));
    if options.list {
        return Ok(told);
    }
    let rows: Vec<&Row> = table
        .check
        .iter()
        .filter(|row| row.explained.is_empty() && row.in_guest() == options.guest)
        .filter(|row| {
            let only = options.only.as_deref().unwrap_or_default();
            row.file.contains(only) || row.mark.contains(only)
        })
        .collect();
    ensure!(!rows.is_empty(), "no row is about {:?}", options.only.as_deref().unwrap_or_default());
    let scratch = Scratch::new(root, &files)?;
    scratch.tests_pass(&rows)?;
    let mut survivors = Vec::new();
    for row in &rows {
        let began = Instant::now();
        let outcome = scratch.without(row)?;
        let seconds = began.elapsed().as_secs();
        let what = format!("{}: {} ({seconds} s)", row.file, row.mark);
        match outcome {
            Outcome::Noticed(by) => say(&format!("noticed   {what}\n          by {by}")),
            Outcome::Trouble(trouble) => {
                say(&format!("NOT SHOWN {what}\n{trouble}"));
                survivors.push(what);
            }
        }
    }
    if !survivors.is_empty() {
        bail!(
            "{} of {} checks are not shown to be needed:\n{}",
            survivors.len(),
            rows.len(),
            survivors.join("\n")
        );
    }
    Ok(format!("{} checks taken out, one at a time: each time a test failed", rows.len()))
}

/// The faults of marks and rows, and a list of the marks.
fn compare(root: &Path, files: &[String], rows: &[Row]) -> anyhow::Result<(Vec<String>, String)> {
    let (mut wrong, mut list, mut total) = (Vec::new(), String::new(), 0);
    let mut used = BTreeSet::new();
    for file in files.iter().filter(|file| holds_checks(file)) {
        let text = fs::read_to_string(root.join(file))
            .with_context(|| format!("failed to read {file}"))?;
        let marks = marks(&text);
        for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.file == *file) {
            used.insert(index);
            match marks.iter().filter(|mark| mark.text.starts_with(&row.mark)).count() {
                1 => {}
                0 => wrong.push(format!("{file} has no mark {:?}", row.mark)),
                _ => wrong.push(format!("{file} has several marks {:?}", row.mark)),
            }
            let edits = [&row.find, &row.package, &row.tests];
            if row.explained.is_empty() == edits.iter().any(|field| field.is_empty()) {
                wrong.push(format!(
                    "the row {:?} of {file} needs an edit and tests, or why it has none",
                    row.mark
                ));
            } else if row.explained.is_empty()
                && let Err(error) = row.apply(&text)
            {
                wrong.push(error.to_string());
            }
        }
        for mark in &marks {
            total += 1;
            let rows: Vec<_> = rows
                .iter()
                .filter(|row| row.file == *file && mark.text.starts_with(&row.mark))
                .collect();
            if rows.is_empty() {
                wrong.push(format!("{file}:{} has no row: {}", mark.line, mark.text));
            }
            let _ = writeln!(list, "{file}:{}: {}", mark.line, mark.text);
            for row in rows {
                let _ = match row.explained.as_str() {
                    "" => writeln!(list, "    {} {}", row.package, row.tests),
                    why => writeln!(list, "    no edit: {why}"),
                };
            }
        }
    }
    for (_, row) in rows.iter().enumerate().filter(|(index, _)| !used.contains(index)) {
        wrong.push(format!("the row {:?} is of {}, which holds no checks", row.mark, row.file));
    }
    let _ = write!(list, "{total} marks, each with a row");
    Ok((wrong, list))
}

/// Whether marks in this file are of checks: marks in tests say what a test is about.
fn holds_checks(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    matches!(parts[..], ["crates" | "guests", _, "src", ..])
        && file.ends_with(".rs")
        && !parts.contains(&"tests.rs")
        && !parts.contains(&"tests")
}

/// The files of the checkout that git tracks, or would add.
fn tracked(root: &Path) -> anyhow::Result<Vec<String>> {
    let list = output(Command::new("git").current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let files = list.split('\0').filter(|file| !file.is_empty() && root.join(file).is_file());
    Ok(files.map(str::to_owned).collect())
}

/// A copy of the tree, in which checks are removed.
struct Scratch {
    root: PathBuf,
    target: PathBuf,
}

/// The result of removing a check.
enum Outcome {
    /// These tests failed.
    Noticed(String),
    /// No test failed, or the edit is invalid.
    Trouble(String),
}

impl Scratch {
    /// Copies files that differ. Other files keep their times, by which cargo decides what to rebuild.
    fn new(root: &Path, files: &[String]) -> anyhow::Result<Self> {
        let folder = target_folder(root)?.join("soundness");
        let scratch = Self { root: folder.join("tree"), target: folder.join("target") };
        fs::create_dir_all(&scratch.root)
            .with_context(|| format!("failed to create {}", scratch.root.display()))?;
        let wanted: BTreeSet<PathBuf> = files.iter().map(|file| scratch.root.join(file)).collect();
        for stale in all_files(&scratch.root)?.difference(&wanted) {
            fs::remove_file(stale)
                .with_context(|| format!("failed to remove {}", stale.display()))?;
        }
        for file in files {
            let (from, to) = (root.join(file), scratch.root.join(file));
            copy(&from, &to).with_context(|| format!("failed to copy {file}"))?;
        }
        Ok(scratch)
    }

    /// Fails unless every test that must notice something passes while no check is removed.
    fn tests_pass(&self, rows: &[&Row]) -> anyhow::Result<()> {
        let mut runs = BTreeMap::<_, BTreeSet<&str>>::new();
        for row in rows {
            let run = (row.package.as_str(), row.targets.as_str());
            runs.entry(run).or_default().insert(&row.tests);
        }
        for ((package, targets), tests) in runs {
            let tests: Vec<_> = tests.into_iter().map(|tests| format!("({tests})")).collect();
            let done = self.nextest(package, targets, &tests.join(" | "))?;
            let text = said(&done);
            ensure!(
                done.status.success(),
                "with every check in place, tests of {package} fail:\n{text}"
            );
        }
        Ok(())
    }

    /// Removes the check, runs its tests, and restores it.
    fn without(&self, row: &Row) -> anyhow::Result<Outcome> {
        let path = self.root.join(&row.file);
        let failed = || format!("failed to edit {}", path.display());
        let text = fs::read_to_string(&path).with_context(failed)?;
        fs::write(&path, row.apply(&text)?).with_context(failed)?;
        let outcome = self.run(row);
        fs::write(&path, text).with_context(failed)?;
        outcome
    }

    fn run(&self, row: &Row) -> anyhow::Result<Outcome> {
        if row.in_guest() {
            let mut guests = self.cargo();
            guests.args(["xtask", "guests"]);
            let built = guests.output().context("failed to run cargo")?;
            if !built.status.success() {
                return Ok(Outcome::Trouble(format!(
                    "the guest does not build:\n{}",
                    said(&built)
                )));
            }
        }
        let done = self.nextest(&row.package, &row.targets, &row.tests)?;
        Ok(match done.status.code() {
            Some(TESTS_FAILED) => Outcome::Noticed(failures(&said(&done))),
            Some(0) => Outcome::Trouble(format!("no test of {} fails: {}", row.package, row.tests)),
            _ => Outcome::Trouble(format!("the edit does not build:\n{}", said(&done))),
        })
    }

    fn nextest(&self, package: &str, targets: &str, tests: &str) -> anyhow::Result<Output> {
        let mut cargo = self.cargo();
        cargo.args(["nextest", "run", "--fail-fast"]).args(targets.split_whitespace());
        cargo.args(["--filterset", &format!("package({package}) & ({tests})")]);
        for chosen in TOGETHER.iter().filter(|chosen| chosen.contains(&package)).copied().flatten()
        {
            cargo.args(["--package", chosen]);
        }
        if package == "prover-risc0" {
            // Every edit of a guest changes what a run costs; only a change of its statement shall fail a test.
            cargo.arg("--release").env("UPDATE_EXPECT", "1");
        }
        cargo.output().context("failed to run cargo nextest")
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
                .iter()
                .any(|of_xtask| text.starts_with(of_xtask))
            {
                cargo.env_remove(&name);
            }
        }
        cargo
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_TERM_COLOR", "never");
        cargo
    }
}

/// Packages that are built together. Cargo rebuilds dependencies for each other choice of packages, so there are few
/// groups; the fewer crates of ours are in one, the sooner it is built after an edit. A package that is in none is
/// built with the whole workspace.
const TOGETHER: [&[&str]; 4] =
    [&["program"], &["verifier"], &["witness", "devnode", "conformance"], &["prover-risc0"]];

/// How nextest exits if tests ran and one failed.
const TESTS_FAILED: i32 = 100;

/// The names of the tests that failed.
fn failures(text: &str) -> String {
    let names: BTreeSet<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| {
            ["FAIL [", "TIMEOUT [", "SIGABRT ["].iter().any(|failed| line.starts_with(failed))
        })
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// The end of a command's output.
fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
    fs::write(to, bytes)?;
    // Some are scripts.
    Ok(fs::set_permissions(to, fs::metadata(from)?.permissions())?)
}

fn all_files(folder: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("failed to read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => _ = files.insert(entry.path()),
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn one() {\n    // SOUNDNESS: first, as marked.\n    if wrong {}\n}\n/// SOUNDNESS: second.\nfn two() { if wrong {} }\n";

    fn row(mark: &str, find: &str) -> Row {
        let text = |text: &str| text.to_owned();
        Row {
            file: text("a.rs"),
            mark: text(mark),
            find: text(find),
            replace: text("if false"),
            package: text("p"),
            targets: of_library(),
            tests: text("all()"),
            explained: String::new(),
        }
    }

    #[test]
    fn marks_are_found_with_their_lines() {
        let found: Vec<_> = marks(SOURCE).into_iter().map(|mark| (mark.line, mark.text)).collect();
        assert_eq!(found, [(2, "first, as marked."), (5, "second.")]);
    }

    #[test]
    fn the_edit_is_of_the_text_after_its_own_mark() {
        let edited = row("second", "if wrong").apply(SOURCE).unwrap();
        assert!(
            edited.contains("    if wrong {}\n") && edited.contains("{ if false {} }"),
            "{edited}"
        );
        let edited = row("first", "if wrong").apply(SOURCE).unwrap();
        assert!(
            edited.contains("    if false {}\n") && edited.contains("{ if wrong {} }"),
            "{edited}"
        );
        assert!(row("third", "if wrong").apply(SOURCE).is_err());
        assert!(row("second", "if right").apply(SOURCE).is_err());
    }

    #[test]
    fn marks_of_tests_are_not_checks() {
        assert!(holds_checks("crates/program/src/trie.rs"));
        assert!(holds_checks("guests/risc0/src/main.rs"));
        assert!(!holds_checks("crates/program/src/trie/tests.rs"));
        assert!(!holds_checks("crates/witness/tests/node.rs"));
    }
}
