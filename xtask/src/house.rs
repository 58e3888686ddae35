//! How easy the code is to walk through, in numbers: `cargo xtask house`, for the table of docs/decisions/0014.
//!
//! * What is measured is production code: `crates/*/src` without test modules, and without generated files.
//! * It is read as text in rustfmt's layout, so a figure can be off where a macro writes code. Two runs are comparable.
//! * A file uses another one if it names a path into it, directly or through a re-export.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The crates whose modules are drawn: those with rooms of their own.
const ROOMY: [&str; 4] = ["server", "client", "program", "l2"];

/// Measures the checkout at `root`. Returns a table in Markdown.
///
/// # Errors
/// Names the folder or file that cannot be read.
pub fn measure(root: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    let mut crates = BTreeMap::new();
    for folder in sorted(&root.join("crates"))? {
        let Some(name) = folder.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        let mut sources = Vec::new();
        collect(&folder.join("src"), &folder.join("src"), &mut sources)?;
        files.extend(
            sources.iter().map(|source| (format!("{name}/{}", source.path), source.clone())),
        );
        crates.insert(name, sources);
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
        let Some(sources) = crates.get(name) else { continue };
        let graph = Graph::of(sources);
        let (rooms, arrows, mutual) = graph.rooms();
        row(&format!("`{name}`: rooms (modules of the first level)"), rooms.to_string());
        row(&format!("`{name}`: arrows between them"), arrows.to_string());
        row(&format!("`{name}`: pairs of rooms with arrows both ways"), mutual.to_string());
        let circles = graph.circles();
        let largest = circles.iter().map(Vec::len).max().unwrap_or_default();
        row(&format!("`{name}`: files in the largest import circle"), largest.to_string());
    }
    Ok(table)
}

/// A source file without its tests.
#[derive(Clone, Debug)]
struct Source {
    /// Below `src`.
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

/// `text` without what stands under `#[cfg(test)]`.
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
            // A module's docs stand in its file.
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

/// Which files of a crate use which.
#[derive(Debug)]
struct Graph {
    /// Module paths by file; the crate's root is the empty one.
    modules: Vec<Vec<String>>,
    /// From the file with this index to others.
    uses: Vec<BTreeSet<usize>>,
}

impl Graph {
    fn of(sources: &[Source]) -> Self {
        let modules: Vec<_> = sources.iter().map(|source| module(&source.path)).collect();
        let index: BTreeMap<_, _> = modules.iter().cloned().zip(0..).collect();
        let paths: Vec<_> =
            sources.iter().zip(&modules).map(|(s, m)| paths(&s.code, m, &index)).collect();
        // What each file hands on: `pub use child::Name`.
        let mut handed: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for (at, found) in paths.iter().enumerate() {
            for path in found.iter().filter(|path| path.handed_on) {
                let (Some(to), Some(name)) = (owner(&path.names, &index), path.names.last()) else {
                    continue;
                };
                let known = modules[at].iter().chain([name]).cloned().collect();
                handed.entry(known).or_insert(to);
            }
        }
        let uses = paths.iter().enumerate().map(|(at, found)| {
            let targets = found.iter().filter_map(|path| {
                let names = &path.names;
                let through = (1..=names.len()).find_map(|n| handed.get(&names[..n]).copied());
                through.filter(|_| !path.handed_on).or_else(|| owner(names, &index))
            });
            targets.filter(|to| *to != at).collect()
        });
        let uses = uses.collect();
        Self { modules, uses }
    }

    /// Modules of the first level, arrows between them, and pairs with arrows both ways. The crate's root is no room.
    fn rooms(&self) -> (usize, usize, usize) {
        let room = |at: usize| self.modules[at].first();
        let rooms: BTreeSet<_> = (0..self.modules.len()).filter_map(room).collect();
        let arrows: BTreeSet<_> = (0..self.uses.len())
            .flat_map(|from| self.uses[from].iter().map(move |to| (from, *to)))
            .filter_map(|(from, to)| Some((room(from)?, room(to)?)))
            .filter(|(from, to)| from != to)
            .collect();
        let mutual = arrows.iter().filter(|(a, b)| a < b && arrows.contains(&(*b, *a))).count();
        (rooms.len(), arrows.len(), mutual)
    }

    /// Sets of files each of which uses, over others of the set, all of them. The crate's root, which uses everything, is left
    /// out.
    fn circles(&self) -> Vec<Vec<usize>> {
        let reach: Vec<BTreeSet<usize>> =
            (0..self.uses.len()).map(|from| self.reach(from)).collect();
        let mut circles = Vec::new();
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        for from in 0..reach.len() {
            if seen.contains(&from) || !reach[from].contains(&from) {
                continue;
            }
            let circle: Vec<_> =
                reach[from].iter().copied().filter(|to| reach[*to].contains(&from)).collect();
            seen.extend(&circle);
            circles.push(circle);
        }
        circles
    }

    /// What the file `from` uses, directly or not.
    fn reach(&self, from: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = self.uses[from].iter().copied().collect();
        while let Some(next) = open.pop() {
            if !self.modules[next].is_empty() && found.insert(next) {
                open.extend(&self.uses[next]);
            }
        }
        found
    }
}

/// The module that the file at `path` below `src` is.
fn module(path: &str) -> Vec<String> {
    let mut names: Vec<_> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str())) {
        names.pop();
    }
    names
}

/// The file that holds what `names` leads to: the longest part of it that is a module.
fn owner(names: &[String], index: &BTreeMap<Vec<String>, usize>) -> Option<usize> {
    (0..=names.len()).rev().find_map(|n| index.get(&names[..n]).copied())
}

/// A path into the crate that a file names.
#[derive(Debug)]
struct Named {
    /// From the crate's root.
    names: Vec<String>,
    /// Whether others see it there (`pub use`).
    handed_on: bool,
}

/// The paths into the crate that the file of `module` names outside comments.
fn paths(code: &str, module: &[String], index: &BTreeMap<Vec<String>, usize>) -> Vec<Named> {
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line.split(" // ").next().unwrap_or_default(), "\n"])
        .collect();
    let mut found = Vec::new();
    let mut statement = 0;
    for (at, _) in code.match_indices("::") {
        let start =
            code[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |n| n + 1);
        // Only where a path begins.
        if code[..start].ends_with("::") || start == at {
            continue;
        }
        let first = &code[start..at];
        let child = || {
            module.iter().map(String::as_str).chain([first]).map(str::to_owned).collect::<Vec<_>>()
        };
        let base = match first {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module[..module.len().saturating_sub(1)].to_vec(),
            _ if index.contains_key(&child()) => child(),
            _ => continue,
        };
        if let Some(end) = code[statement..start].rfind([';', '}']) {
            statement += end;
        }
        let handed_on = code[statement..start].contains("pub use")
            || code[statement..start].contains("pub(crate) use");
        for names in tree(&code[at + 2..]) {
            let names = base.iter().cloned().chain(names).collect();
            found.push(Named { names, handed_on });
        }
    }
    found
}

/// The paths of a use tree, `a::{b, c::D}`, of which `rest` holds what follows the first `::`.
fn tree(rest: &str) -> Vec<Vec<String>> {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let mut paths = Vec::new();
        let (mut depth, mut start) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let part = group[start..at].trim();
                    if !part.is_empty() {
                        paths.extend(tree(part));
                    }
                    start = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
        return paths;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let name = rest[..end].to_owned();
    match rest[end..].strip_prefix("::") {
        _ if name.is_empty() => vec![Vec::new()],
        Some(more) if !more.starts_with('<') => tree(more)
            .into_iter()
            .map(|path| [name.clone()].into_iter().chain(path).collect())
            .collect(),
        _ => vec![vec![name]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, code: &str) -> Source {
        Source { path: path.to_owned(), code: without_tests(code) }
    }

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

    #[test]
    fn a_use_tree_is_its_paths() {
        let paths: Vec<_> = tree("{a::{B, c}, D}").iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["a::B", "a::c", "D"]);
    }

    #[test]
    fn circles_and_arrows_are_found() {
        let sources = [
            source("lib.rs", "mod a;\npub use b::B;\n"),
            source("a.rs", "use crate::{B, c::{C, D}};\n"),
            source("b.rs", "use super::c::C;\n// use crate::a::A;\n"),
            source(
                "c.rs",
                "fn f() {\n    crate::a::go();\n}\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n",
            ),
        ];
        let graph = Graph::of(&sources);
        assert_eq!(graph.rooms(), (3, 4, 1));
        assert_eq!(graph.circles(), [vec![1, 2, 3]]);
    }
}
