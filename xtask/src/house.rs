//! How easy the code is to walk through, in numbers: `cargo xtask house`, for the table of docs/decisions/0014.
//!
//! * Production code is measured: `crates/*/src` without test modules and without generated files.
//! * It is read as text in rustfmt's layout, so a figure can be off where a macro writes code. Two runs are comparable.
//! * Arrows and circles are those that `cargo xtask layers` checks; a crate's root, which uses everything, is left out.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::rooms;

/// The crates whose modules are measured: those with rooms of their own.
const ROOMY: [&str; 4] = ["server", "client", "program", "l2"];

/// Measures the checkout at `root`. Returns a table in Markdown.
///
/// # Errors
/// Names the folder or file that cannot be read.
pub(crate) fn measure(root: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for folder in sorted(&root.join("crates"))? {
        let Some(name) = folder.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        let mut sources = Vec::new();
        collect(&folder.join("src"), &folder.join("src"), &mut sources)?;
        files.extend(sources.into_iter().map(|source| (format!("{name}/{}", source.path), source)));
    }
    let functions = sorted_numbers(files.iter().flat_map(|(_, source)| functions(&source.code)));
    let items: Vec<_> = files.iter().map(|(_, source)| public_items(&source.code)).collect();
    let (all, documented) = items.iter().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
    let count = |what: &str| -> usize {
        let lines = files.iter().flat_map(|(_, source)| source.code.lines());
        lines
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|l| l.matches(what).count())
            .sum()
    };
    let mut longest: Vec<_> =
        files.iter().map(|(name, s)| (s.code.lines().count(), name)).collect();
    longest.sort_unstable();
    let mut table = "| what | figure |\n|---|---|\n".to_owned();
    let mut row = |what: &str, figure: String| {
        writeln!(table, "| {what} | {figure} |").expect("a string takes everything");
    };
    row("files", files.len().to_string());
    row(
        "lines",
        files.iter().map(|(_, source)| source.code.lines().count()).sum::<usize>().to_string(),
    );
    if let Some((lines, name)) = longest.last() {
        row("longest file", format!("`{name}`, {lines} lines"));
    }
    row(
        "files of more than 600 lines",
        longest.iter().filter(|(n, _)| *n > 600).count().to_string(),
    );
    row("functions", functions.len().to_string());
    row("median function, lines", middle(&functions, 2).to_string());
    row("nine of ten functions, lines", middle(&functions, 10).to_string());
    row("longest function, lines", functions.last().copied().unwrap_or_default().to_string());
    row("public items with docs", format!("{documented} of {all}"));
    row("`.unwrap()` outside tests", count(".unwrap()").to_string());
    row("`.expect(…)` outside tests", count(".expect(").to_string());
    for name in ROOMY {
        let rooms::Figures { rooms, arrows, mutual, largest_circle } =
            rooms::figures(&root.join("crates").join(name).join("src"))?;
        row(&format!("`{name}`: rooms (modules of the first level)"), rooms.to_string());
        row(&format!("`{name}`: arrows between them"), arrows.to_string());
        row(&format!("`{name}`: pairs of rooms with arrows both ways"), mutual.to_string());
        row(&format!("`{name}`: files in the largest import circle"), largest_circle.to_string());
    }
    Ok(table)
}

/// A source file without its tests.
#[derive(Clone, Debug)]
struct Source {
    /// The path below `src`.
    path: String,
    code: String,
}

fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn collect(src: &Path, folder: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    for path in sorted(folder)? {
        if path.is_dir() {
            collect(src, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_none_or(|name| name != "tests.rs")
        {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            let shown = path.strip_prefix(src).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { path: shown, code: without_tests(&text) });
        }
    }
    Ok(())
}

/// `text` without the items under `#[cfg(test)]`.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            // An item ends at a brace in its own column, or on its first line.
            let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
            if item.is_some_and(|item| item.ends_with('{')) {
                lines.by_ref().find(|line| *line == format!("{indent}}}"));
            }
        } else {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// How many lines each function of `code` has.
fn functions(code: &str) -> Vec<usize> {
    let lines: Vec<_> = code.lines().collect();
    let mut lengths = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let words: Vec<_> = text.split_whitespace().take(6).collect();
        let qualifiers = |word: &&&str| {
            ["const", "async", "unsafe", "pub"].contains(*word) || word.starts_with("pub(")
        };
        let skipped = words.iter().take_while(qualifiers).count();
        if words.get(skipped) != Some(&"fn") {
            continue;
        }
        let indent = &line[..line.len() - text.len()];
        if text.ends_with('}') {
            lengths.push(1);
        } else if let Some(body) = lines[start..].iter().position(|l| *l == format!("{indent}}}")) {
            // A declaration without a body ends before the next brace in its column.
            let declared = lines[start..=start + body].iter().position(|l| l.ends_with(';'));
            let opened = lines[start..=start + body].iter().position(|l| l.ends_with('{'));
            if opened.is_some_and(|opened| declared.is_none_or(|declared| opened <= declared)) {
                lengths.push(body + 1);
            }
        }
    }
    lengths
}

/// How many items of `code` are visible outside their file, and how many of those have docs.
fn public_items(code: &str) -> (usize, usize) {
    let (mut all, mut documented) = (0, 0);
    let mut docs = false;
    for line in code.lines().map(str::trim_start) {
        if line.starts_with("///") {
            docs = true;
        } else if line.starts_with("pub") && !line.contains("pub use") && !line.contains("use ") {
            // A module's docs are in its own file.
            if !line.contains(" mod ") {
                all += 1;
                documented += usize::from(docs);
            }
            docs = false;
        } else if !line.starts_with("#[") && !line.starts_with(")]") {
            docs = docs && !line.is_empty() && line.ends_with(',');
        }
    }
    (all, documented)
}

fn sorted_numbers(numbers: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut numbers: Vec<_> = numbers.into_iter().collect();
    numbers.sort_unstable();
    numbers
}

/// The number that all but one of `parts` equal parts of `sorted` do not exceed.
fn middle(sorted: &[usize], parts: usize) -> usize {
    let at = sorted.len() - sorted.len().div_ceil(parts);
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_are_not_measured() {
        let code =
            "fn a() {\n    1\n}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        assert_eq!(functions(&without_tests(code)), [3, 1]);
    }

    #[test]
    fn items_with_docs_are_counted() {
        let code = "/// Docs.\n#[derive(Debug)]\npub struct A {\n    pub b: u8,\n    /// Docs.\n    pub c: u8,\n}\npub mod d;\npub use d::E;\n";
        assert_eq!(public_items(code), (3, 2));
    }
}
