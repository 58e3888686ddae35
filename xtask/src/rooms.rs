//! Which rooms of a crate may use which: ARCHITECTURE.md draws the allowed arrows, the crate's sources have the real
//! ones.
//!
//! * A room is a module at the root of a crate, with everything below it. The root itself (`lib.rs`) is the last room.
//! * The tables in ARCHITECTURE.md are the only place where an arrow is allowed, and arrows point only down: a row may
//!   name only rows above it. Arrows that still point up are in a column of their own.
//! * No more than two files import each other in a circle, wherever they are.
//! * A re-export (`pub use`) of a file's own modules is an address and not an arrow: whoever goes through it uses the file behind it. A
//!   re-export of anything else is an arrow too, however visible it is.
//! * Tests may use anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::layers::{Drawn, names, points_down};
use crate::tokens::{Token, closing, end_of_item, tokens};

/// The crates whose rooms are checked, and whether their files may import each other in circles. Those of `program`
/// may: it changes only when its pinned id does.
const CRATES: [(&str, Circles); 3] =
    [("server", Circles::Refused), ("client", Circles::Refused), ("program", Circles::Kept)];

/// How circles of more than two files are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circles {
    Refused,
    Kept,
}

/// The arrows of a crate in figures, without its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Number of modules of the first level.
    pub rooms: usize,
    /// Number of arrows between them.
    pub arrows: usize,
    /// Number of pairs of modules with arrows both ways.
    pub mutual: usize,
    /// Number of files in the largest circle, or 0.
    pub largest_circle: usize,
}

/// Counts the arrows of the crate with these sources.
///
/// # Errors
/// Names the file that cannot be read.
pub(crate) fn figures(sources: &Path) -> anyhow::Result<Figures> {
    Ok(counted(Sources::read(sources)?.arrows()))
}

fn counted(mut arrows: Arrows) -> Figures {
    let root = Module::new();
    arrows.remove(&root);
    for used in arrows.values_mut() {
        used.remove(&root);
    }
    let rooms = rooms(&arrows);
    let both_ways = |from: &str, to: &str| from < to && rooms[to].contains(from);
    let pairs = || rooms.iter().flat_map(|(from, used)| used.iter().map(move |to| (*from, *to)));
    Figures {
        rooms: rooms.len(),
        arrows: pairs().count(),
        mutual: pairs().filter(|(from, to)| both_ways(from, to)).count(),
        largest_circle: circles(&arrows).iter().map(Vec::len).max().unwrap_or_default(),
    }
}

/// A module's path from the crate's root, which is the empty one.
type Module = Vec<String>;
/// Each file, as its module, with the files that it uses.
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

/// Compares the arrows between the rooms of our larger crates with the tables of ARCHITECTURE.md.
///
/// Returns how many arrows between rooms were checked.
///
/// # Errors
/// Names every arrow that no row draws, every room without a row, every row without a room, and every circle of files.
pub(crate) fn check(root: &Path) -> anyhow::Result<usize> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md"))
        .context("failed to read ARCHITECTURE.md")?;
    let (mut faults, mut checked) = (Vec::new(), 0);
    for (name, allowed) in CRATES {
        let table = Table::parse(&text, name).with_context(|| format!("the rooms of `{name}`"))?;
        let sources = Sources::read(&root.join("crates").join(name).join("src"))?;
        let arrows = sources.arrows();
        faults.extend(
            table.faults(&arrows, allowed).into_iter().map(|fault| format!("{name}: {fault}")),
        );
        checked += rooms(&arrows).values().map(BTreeSet::len).sum::<usize>();
    }
    if !faults.is_empty() {
        bail!("the rooms and their tables in ARCHITECTURE.md disagree:\n  {}", faults.join("\n  "));
    }
    Ok(checked)
}

/// What a file uses, before names are resolved.
#[derive(Debug, Default)]
struct File {
    /// The module of the file in which each path is, and the path.
    paths: Vec<(Module, Vec<String>)>,
    /// Names that the file re-exports, and where they come from.
    exports: Vec<(String, Vec<String>)>,
}

/// The files of a crate, without those that only tests have.
#[derive(Clone, Debug, Default)]
struct Sources(BTreeMap<Module, String>);

impl Sources {
    /// Reads the sources below `folder`, following `mod` declarations from `lib.rs` or `main.rs` on.
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut found = Self::default();
        let mut open = vec![Module::new()];
        while let Some(module) = open.pop() {
            let base = module.iter().fold(folder.to_owned(), |path, name| path.join(name));
            let candidates = match module.last() {
                None => vec![folder.join("lib.rs"), folder.join("main.rs")],
                Some(_) => vec![base.with_extension("rs"), base.join("mod.rs")],
            };
            let file = candidates.iter().find(|file| file.is_file());
            let file = file.with_context(|| format!("there is no {}", candidates[0].display()))?;
            let text = fs::read_to_string(file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            let below = declared(&production(&tokens(&text)));
            open.extend(below.into_iter().map(|name| [&module[..], &[name]].concat()));
            found.0.insert(module, text);
        }
        Ok(found)
    }

    /// Which file uses which.
    fn arrows(&self) -> Arrows {
        let files: BTreeMap<&Module, File> =
            self.0.iter().map(|(module, text)| (module, self.scan(module, text))).collect();
        let mut arrows = Arrows::new();
        for (module, file) in &files {
            let used = file.paths.iter().filter_map(|(from, path)| {
                self.resolve(&files, from, path, 0).filter(|used| used != *module)
            });
            // What a file passes on of its own modules is an address; what it passes on of others, it uses.
            let passed_on = file.exports.iter().filter_map(|(_, path)| {
                let used = self.resolve(&files, module, path, 0)?;
                (!used.starts_with(module)).then_some(used)
            });
            arrows.insert((*module).clone(), used.chain(passed_on).collect());
        }
        arrows
    }

    fn scan(&self, module: &Module, text: &str) -> File {
        let tokens = production(&tokens(text));
        let mut file = File::default();
        // Inline modules of the file, and the braces in between.
        let mut inside: Vec<Option<String>> = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let here = || -> Module {
                module.iter().cloned().chain(inside.iter().flatten().cloned()).collect()
            };
            let word = token.word();
            let after_colons = at > 1 && tokens[at - 2..at].iter().all(|token| token.is(':'));
            if word == Some("use") {
                let end = at + tokens[at..].iter().position(|t| t.is(';')).unwrap_or(0);
                let exported =
                    at > 0 && (tokens[at - 1].word() == Some("pub") || tokens[at - 1].is(')'));
                let mut tree = Vec::new();
                flatten(&tokens[at + 1..end], &mut Vec::new(), &mut tree);
                for (path, name) in tree {
                    if exported && inside.is_empty() {
                        file.exports.push((name, path));
                    } else {
                        file.paths.push((here(), path));
                    }
                }
                at = end;
            } else if word == Some("mod")
                && let Some(name) = tokens.get(at + 1).and_then(Token::word)
                && tokens.get(at + 2).is_some_and(|token| token.is('{'))
            {
                inside.push(Some(name.to_owned()));
                at += 2;
            } else if token.is('{') {
                inside.push(None);
            } else if token.is('}') {
                inside.pop();
            } else if let Some(first) = word
                && !after_colons
                && tokens.get(at + 1).is_some_and(|token| token.is(':'))
                && tokens.get(at + 2).is_some_and(|token| token.is(':'))
            {
                let mut path = vec![first.to_owned()];
                while tokens.get(at + 1).is_some_and(|token| token.is(':'))
                    && tokens.get(at + 2).is_some_and(|token| token.is(':'))
                    && let Some(next) = tokens.get(at + 3).and_then(Token::word)
                {
                    path.push(next.to_owned());
                    at += 3;
                }
                file.paths.push((here(), path));
            }
            at += 1;
        }
        file
    }

    /// The file that contains what `path` names, if it is a file of this crate.
    fn resolve(
        &self,
        files: &BTreeMap<&Module, File>,
        from: &Module,
        path: &[String],
        depth: usize,
    ) -> Option<Module> {
        // A re-export of itself would never end.
        if depth > 8 {
            return None;
        }
        let mut at = from.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Module::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            // Another crate, or a module below.
            first => {
                let below = [&at[..], &[first.to_owned()]].concat();
                if !self.0.contains_key(&below) {
                    return None;
                }
            }
        }
        while let Some(("super", tail)) =
            rest.split_first().map(|(first, tail)| (first.as_str(), tail))
        {
            at.pop();
            rest = tail;
        }
        while let Some((name, tail)) = rest.split_first() {
            let below = [&at[..], std::slice::from_ref(name)].concat();
            if !self.0.contains_key(&below) {
                break;
            }
            (at, rest) = (below, tail);
        }
        // Inline modules belong to their file.
        while !self.0.contains_key(&at) {
            at.pop();
        }
        if let Some(name) = rest.first() {
            for (exported, source) in &files.get(&at)?.exports {
                let onward = match exported.as_str() {
                    "*" => [&source[..source.len() - 1], rest].concat(),
                    _ if exported == name => [&source[..], &rest[1..]].concat(),
                    _ => continue,
                };
                if let Some(found) = self.resolve(files, &at, &onward, depth + 1)
                    && found != at
                {
                    return Some(found);
                }
            }
        }
        Some(at)
    }
}

/// The tokens without attributes and without items that only tests have.
fn production(all: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while let Some(token) = all.get(at) {
        let open = at + 1 + usize::from(all.get(at + 1).is_some_and(|token| token.is('!')));
        if token.is('#') && all.get(open).is_some_and(|token| token.is('[')) {
            let close = closing(all, open);
            let words: Vec<_> =
                all[open + 1..close.min(all.len())].iter().filter_map(Token::word).collect();
            let for_tests = matches!(
                words[..],
                ["test", ..] | ["cfg", "test", ..] | ["cfg", "all", "test", ..]
            );
            at = if for_tests { end_of_item(all, close + 1) } else { close + 1 };
        } else {
            kept.push(token.clone());
            at += 1;
        }
    }
    kept
}

/// The modules that are declared and have files of their own.
fn declared(tokens: &[Token]) -> Vec<String> {
    let declared = tokens.windows(3).filter_map(|three| match three {
        [Token::Word(word), Token::Word(name), end] if word == "mod" && end.is(';') => {
            Some(name.clone())
        }
        _ => None,
    });
    declared.collect()
}

/// The paths of a `use`, and the name that each gets.
fn flatten(tree: &[Token], prefix: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    let (mut at, before) = (0, prefix.len());
    while let Some(token) = tree.get(at) {
        match token {
            Token::Word(word) if word == "as" => {
                let name = tree.get(at + 1).and_then(Token::word).unwrap_or("_").to_owned();
                found.push((prefix.clone(), name));
                return prefix.truncate(before);
            }
            Token::Word(word) => prefix.push(word.clone()),
            Token::Sign('*') => {
                prefix.push("*".to_owned());
                found.push((prefix.clone(), "*".to_owned()));
                return prefix.truncate(before);
            }
            Token::Sign('{') => {
                let close = closing(tree, at).min(tree.len());
                let (mut start, mut depth) = (at + 1, 0_usize);
                for end in at + 1..=close {
                    let sign = tree.get(end);
                    match sign {
                        Some(Token::Sign('{')) => depth += 1,
                        Some(Token::Sign('}')) if depth > 0 => depth -= 1,
                        _ => {}
                    }
                    if end == close || depth == 0 && sign.is_some_and(|sign| sign.is(',')) {
                        if start < end {
                            flatten(&tree[start..end], prefix, found);
                        }
                        start = end + 1;
                    }
                }
                return prefix.truncate(before);
            }
            _ => {}
        }
        at += 1;
    }
    if prefix.len() > before {
        let mut path = prefix.clone();
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = path.last().cloned().unwrap_or_default();
        found.push((path, name));
    }
    prefix.truncate(before);
}

/// The room of a file.
fn room(module: &Module) -> &str {
    module.first().map_or("lib", String::as_str)
}

/// The arrows between rooms.
fn rooms(arrows: &Arrows) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (file, used) in arrows {
        let used = used.iter().map(room).filter(|used| *used != room(file));
        found.entry(room(file)).or_default().extend(used);
    }
    found
}

/// The groups of files in which each uses every other, through files of the group.
fn circles(arrows: &Arrows) -> Vec<Vec<&Module>> {
    let reach = |from: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = open.pop() {
            for used in arrows.get(&file).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    open.push(used.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        arrows.keys().map(|file| (file, reach(file))).collect();
    let (mut found, mut done) = (Vec::new(), BTreeSet::new());
    for (file, from_here) in &reached {
        let circle: Vec<&Module> = reached
            .iter()
            .filter(|(other, back)| from_here.contains(**other) && back.contains(*file))
            .map(|(other, _)| *other)
            .collect();
        if circle.len() > 1 && done.insert(circle.clone()) {
            found.push(circle);
        }
    }
    found
}

/// The rows of the table of a crate's rooms, in their order.
#[derive(Debug)]
struct Table(Vec<Row>);

#[derive(Debug)]
struct Row {
    name: String,
    may_use: BTreeSet<String>,
}

impl Table {
    /// Reads the table whose first column is headed ``room of `NAME` ``.
    fn parse(text: &str, crate_name: &str) -> anyhow::Result<Self> {
        let drawn = Drawn::parse(text, &format!("room of `{crate_name}`"))?;
        let (column, upward) = (drawn.column("may use")?, drawn.column("and upward").ok());
        let mut rows: Vec<Row> = Vec::new();
        for (name, cells) in drawn.rows {
            let mut may_use = match cells[column] {
                "all above" => rows.iter().map(|row| row.name.clone()).collect(),
                list => names(list)?,
            };
            points_down(&name, may_use.iter(), |used| {
                rows.iter().any(|above| above.name == *used)
            })?;
            let up = upward.map(|column| names(cells[column])).transpose()?.unwrap_or_default();
            may_use.extend(up);
            rows.push(Row { name, may_use });
        }
        Ok(Self(rows))
    }

    /// Every difference between the table and the real `arrows`.
    fn faults(&self, arrows: &Arrows, allowed: Circles) -> Vec<String> {
        let mut faults = Vec::new();
        let real = rooms(arrows);
        for (name, used) in &real {
            let Some(row) = self.0.iter().find(|row| row.name == *name) else {
                faults.push(format!("`{name}` has no row"));
                continue;
            };
            for to in used.iter().filter(|to| !row.may_use.contains(**to)) {
                let which = arrows.iter().find(|(file, used)| {
                    room(file) == *name && used.iter().any(|used| room(used) == *to)
                });
                let file = which.map(|(file, _)| path(file)).unwrap_or_default();
                faults.push(format!(
                    "`{name}` uses `{to}`, which its row does not allow: see {file}"
                ));
            }
        }
        for row in self.0.iter().filter(|row| !real.contains_key(row.name.as_str())) {
            faults.push(format!("`{}` has a row but is no room", row.name));
        }
        let circles = match allowed {
            Circles::Refused => circles(arrows),
            Circles::Kept => Vec::new(),
        };
        for circle in circles.into_iter().filter(|circle| circle.len() > 2) {
            let files: Vec<_> = circle.into_iter().map(path).collect();
            faults.push(format!("these files import each other in a circle: {}", files.join(", ")));
        }
        faults
    }
}

fn path(module: &Module) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        path.split("::").filter(|name| *name != "lib").map(str::to_owned).collect()
    }

    fn sources(files: &[(&str, &str)]) -> Sources {
        Sources(files.iter().map(|(file, text)| (module(file), (*text).to_owned())).collect())
    }

    /// The arrows of the sources, as `file > used, used`.
    fn drawn(files: &[(&str, &str)]) -> Vec<String> {
        let arrows = sources(files).arrows();
        let used = arrows.iter().filter(|(_, used)| !used.is_empty());
        used.map(|(file, used)| {
            format!("{} > {}", path(file), used.iter().map(path).collect::<Vec<_>>().join(", "))
        })
        .collect()
    }

    #[test]
    fn arrows_are_found_in_imports_and_in_paths_wherever_they_stand() {
        let a = ("a", "pub struct A; pub fn f() {}");
        let b = ("b", "mod c; pub use c::C;");
        let c = ("b::c", "pub struct C;");
        for (text, found) in [
            ("use crate::a::A;", "d > a"),
            ("use crate::{a::{self, A}, b};", "d > a, b"),
            ("fn g() -> crate::a::A { todo() }", "d > a"),
            ("fn g() { warn!(x = %crate::a::f()) }", "d > a"),
            ("mod inside { use super::super::a::A; }", "d > a"),
            ("use super::a::*;", "d > a"),
            ("pub(crate) fn g(_: super::a::A) {}", "d > a"),
            // What is passed on is used.
            ("pub use crate::a::A;", "d > a"),
            ("pub(crate) use crate::a::A;", "d > a"),
            ("pub(self) use super::a::A;", "d > a"),
            // A re-export of what is below is an address.
            ("use crate::b::C;", "d > b::c"),
            ("use crate::b::C as D;", "d > b::c"),
            ("use crate::Root;", "d > lib"),
        ] {
            let lib = ("lib", "mod a; mod b; mod d; pub struct Root;");
            assert_eq!(drawn(&[lib, a, b, c, ("d", text)]), [found], "{text}");
        }
        for text in [
            "use std::a::A;",
            "// use crate::a::A;",
            "/// See [`crate::a::A`].\nfn g() {}",
            "const TEXT: &str = \"crate::a::A\";",
            "#[cfg(test)] mod tests { use crate::a::A; }",
            "#[cfg(test)] use crate::a::A;",
        ] {
            assert_eq!(drawn(&[("lib", ""), a, ("d", text)]), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_use_tree_is_its_paths() {
        let mut found = Vec::new();
        flatten(&tokens("{a::{B, c}, D}"), &mut Vec::new(), &mut found);
        let paths: Vec<_> = found.iter().map(|(path, _)| path.join("::")).collect();
        assert_eq!(paths, ["a::B", "a::c", "D"]);
    }

    #[test]
    fn circles_and_arrows_are_counted_without_the_root() {
        let arrows = sources(&[
            ("lib", "mod a;\npub use b::B;\n"),
            ("a", "use crate::{B, c::{C, D}};\n"),
            ("b", "use super::c::C;\n// use crate::a::A;\n"),
            (
                "c",
                "fn f() {\n    crate::a::go();\n}\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n",
            ),
        ])
        .arrows();
        let found = Figures { rooms: 3, arrows: 4, mutual: 1, largest_circle: 3 };
        assert_eq!(counted(arrows.clone()), found);
        assert_eq!(circles(&arrows), [[&module("a"), &module("b"), &module("c")]]);
    }

    #[test]
    fn a_table_may_name_only_rows_above_but_for_what_it_says_points_up() {
        let table = |rows: &str| {
            let head = "| room of `x` | there | may use | and upward |\n|---|---|---|---|\n";
            Table::parse(&format!("{head}{rows}\n"), "x")
        };
        let arrows = sources(&[
            ("lib", "use a::A;"),
            ("a", "use crate::b::B; pub struct A;"),
            ("b", "use crate::a::A; pub struct B;"),
        ])
        .arrows();
        let rows = "| `a` | - | – | `b` |\n| `b` | - | `a` | – |\n| `lib` | - | all above | – |";
        let faults = table(rows).unwrap().faults(&arrows, Circles::Refused);
        assert_eq!(faults, Vec::<String>::new(), "two files may use each other");
        let up = table("| `a` | - | `b` | – |\n| `b` | - | – | – |").unwrap_err().to_string();
        assert!(up.contains("arrows point only down"), "{up}");
        let rows = "| `a` | - | – | – |\n| `c` | - | – | – |\n| `lib` | - | all above | – |";
        assert_eq!(
            table(rows).unwrap().faults(&arrows, Circles::Refused),
            [
                "`a` uses `b`, which its row does not allow: see a",
                "`b` has no row",
                "`c` has a row but is no room"
            ]
        );
    }

    /// This repository's server, with `use` declarations added to its files.
    fn planted(imports: &[(&str, &str)]) -> Vec<String> {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
        let root = Path::new(&folder).parent().expect("xtask lies in the root");
        let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
        let mut sources = Sources::read(&root.join("crates/server/src")).unwrap();
        for (file, import) in imports {
            let file = sources.0.get_mut(&module(file)).expect("there is such a file");
            file.push_str(&format!("\nuse {import};\n"));
        }
        let table = Table::parse(&text, "server").unwrap();
        table.faults(&sources.arrows(), Circles::Refused)
    }

    #[test]
    fn an_arrow_planted_between_two_rooms_of_the_server_is_found() {
        assert_eq!(planted(&[]), Vec::<String>::new());
        let faults = planted(&[("jobs::state", "crate::http::router::router")]);
        let fault = "`jobs` uses `http`, which its row does not allow: see jobs::state";
        assert!(faults.iter().any(|found| found == fault), "{faults:?}");
    }

    #[test]
    fn a_circle_of_three_files_planted_in_a_room_of_the_server_is_found() {
        let imports = [
            ("store::chain", "super::leases::Offer"),
            ("store::leases", "super::submissions::Submitted"),
            ("store::submissions", "super::chain::Superseded"),
        ];
        assert_eq!(planted(&imports[..2]), Vec::<String>::new(), "no circle");
        assert_eq!(
            planted(&imports),
            [
                "these files import each other in a circle: store::chain, store::leases, store::submissions"
            ]
        );
    }

    #[test]
    fn this_repository_keeps_its_rooms() {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
        let root = Path::new(&folder).parent().expect("xtask lies in the root");
        let arrows = check(root).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(arrows > 50, "only {arrows} arrows were found: the sources were not read");
    }
}
