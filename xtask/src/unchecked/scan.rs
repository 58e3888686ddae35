//! Finds unchecked operations in Rust's sources, as tokens: no macro is expanded and no name is resolved.
//!
//! Code that a feature, a test or another target leaves out is not read. A condition that cannot be decided counts as
//! met.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Uses;
use crate::tokens::{Token, closing, end_of_braces, end_of_item, tokens};

/// Operations by name, on any type; also every name that begins or ends with "unchecked".
const NAMED: [&str; 20] = [
    "assume",
    "assume_init",
    "assume_init_mut",
    "assume_init_read",
    "assume_init_ref",
    "copy_nonoverlapping",
    "debug_unreachable",
    "from_raw",
    "from_raw_parts",
    "from_raw_parts_mut",
    "read_unaligned",
    "read_volatile",
    "set_len",
    "slice_assume_init_mut",
    "slice_assume_init_ref",
    "transmute",
    "transmute_copy",
    "write_bytes",
    "write_unaligned",
    "zeroed",
];
/// Pointer arithmetic, where it is in unsafe code.
const POINTER: [&str; 8] = [
    "add",
    "byte_add",
    "byte_offset",
    "byte_sub",
    "offset",
    "offset_from",
    "offset_from_unsigned",
    "sub",
];

/// Passes on the files of a crate, from its root on, each with its uses.
pub(super) fn module_tree(
    root: &Path,
    features: &BTreeSet<String>,
    found: &mut dyn FnMut(&Path, Uses),
) -> anyhow::Result<()> {
    let folder = root.parent().context("a source lies in a folder")?.to_owned();
    let mut files = vec![(root.to_owned(), folder)];
    let mut seen = BTreeSet::new();
    while let Some((path, folder)) = files.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let scanned = scan(&text, features);
        for module in scanned.modules {
            files.extend(module.file(&path, &folder));
        }
        found(&path, scanned.uses);
    }
    Ok(())
}

/// A `mod name;` or an `include!`.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    /// Inline modules around it.
    inside: Vec<String>,
    name: String,
    /// The path that its attribute, or the `include!`, gives.
    path: Option<String>,
}

impl Module {
    /// Its file, and the folder of its own modules. `None` if there is none, as in a macro's pattern.
    fn file(&self, of: &Path, folder: &Path) -> Option<(PathBuf, PathBuf)> {
        let folder = self.inside.iter().fold(folder.to_owned(), |folder, name| folder.join(name));
        let candidates = match &self.path {
            Some(path) => {
                let file = of.parent()?.join(path);
                let own = file.parent()?.to_owned();
                vec![(file, own)]
            }
            None => {
                let own = folder.join(&self.name);
                vec![
                    (folder.join(format!("{}.rs", self.name)), own.clone()),
                    (own.join("mod.rs"), own),
                ]
            }
        };
        candidates.into_iter().find(|(file, _)| file.exists())
    }
}

#[derive(Debug, Default)]
struct Scanned {
    uses: Uses,
    modules: Vec<Module>,
}

/// What a pair of braces is.
#[derive(Debug, PartialEq, Eq)]
enum Braces {
    Unsafe,
    Module(String),
    Other,
}

fn scan(text: &str, features: &BTreeSet<String>) -> Scanned {
    let tokens = tokens(text);
    let mut scanned = Scanned::default();
    let mut braces = Vec::<Braces>::new();
    let mut next_braces = Braces::Other;
    let mut path = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at.checked_sub(1).and_then(|at| tokens[at].word());
        let after = tokens.get(at + 1);
        match token {
            Token::Sign('#') => {
                let inner = after.is_some_and(|token| token.is('!'));
                let open = at + 1 + usize::from(inner);
                if tokens.get(open).is_some_and(|token| token.is('[')) {
                    let close = closing(&tokens, open);
                    let attribute = &tokens[open + 1..close.min(tokens.len())];
                    at = close + 1;
                    if left_out(attribute, features) {
                        if inner && braces.is_empty() {
                            return scanned;
                        }
                        at = if inner {
                            end_of_braces(&tokens, at)
                        } else {
                            end_of_item(&tokens, at)
                        };
                    }
                    if let [Token::Word(word), Token::Sign('='), Token::Text(text)] = attribute
                        && word == "path"
                    {
                        path = Some(text.clone());
                    }
                    continue;
                }
            }
            Token::Sign('{') => {
                braces.push(core::mem::replace(&mut next_braces, Braces::Other));
            }
            Token::Sign('}') => {
                braces.pop();
            }
            Token::Sign(';') => next_braces = Braces::Other,
            Token::Word(word) if word == "unsafe" => {
                let ahead: Vec<&Token> = tokens.iter().skip(at + 1).take(4).collect();
                let block = ahead.first().is_some_and(|token| token.is('{'));
                let function = ahead
                    .iter()
                    .take_while(|token| matches!(token, Token::Text(_) | Token::Word(_)))
                    .any(|token| token.word() == Some("fn"))
                    // Not a type.
                    && !ahead.windows(2).any(|pair| pair[0].word() == Some("fn") && pair[1].is('('));
                if block || function {
                    *scanned.uses.entry("unsafe".to_owned()).or_default() += 1;
                    next_braces = Braces::Unsafe;
                }
            }
            Token::Word(word) if word == "use" => {
                at += tokens[at..].iter().position(|token| token.is(';')).unwrap_or(0);
            }
            Token::Word(word) if word == "mod" => {
                if let (Some(name), Some(end)) = (after.and_then(Token::word), tokens.get(at + 2)) {
                    if end.is(';') {
                        let inside = braces.iter().filter_map(|braces| match braces {
                            Braces::Module(name) => Some(name.clone()),
                            _ => None,
                        });
                        let (inside, name) = (inside.collect(), name.to_owned());
                        scanned.modules.push(Module { inside, name, path: path.take() });
                    } else if end.is('{') {
                        next_braces = Braces::Module(name.to_owned());
                    }
                }
            }
            Token::Word(word) if word == "include" => {
                let ahead = tokens.iter().skip(at + 1).take(3).collect::<Vec<_>>();
                if let [Token::Sign('!'), Token::Sign(_), Token::Text(file)] = ahead[..] {
                    let (inside, name) = (Vec::new(), String::new());
                    scanned.modules.push(Module { inside, name, path: Some(file.clone()) });
                }
            }
            Token::Word(word) if before != Some("fn") && before != Some("macro_rules") => {
                let called = after.is_some_and(|token| token.is('('));
                let method = at > 0 && tokens[at - 1].is('.');
                if named(word) && (word != "assume" || after.is_some_and(|token| token.is('!'))) {
                    *scanned.uses.entry(word.clone()).or_default() += 1;
                } else if POINTER.contains(&word.as_str())
                    && called
                    && method
                    && braces.contains(&Braces::Unsafe)
                {
                    *scanned.uses.entry("pointer".to_owned()).or_default() += 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    scanned
}

fn named(word: &str) -> bool {
    NAMED.contains(&word)
        || word.starts_with("unchecked_")
        || word.ends_with("_unchecked")
        || word.contains("_unchecked_")
}

/// Whether an attribute keeps the code after it out of the guest.
fn left_out(attribute: &[Token], features: &BTreeSet<String>) -> bool {
    match attribute {
        [Token::Word(word)] => word == "test" || word == "bench",
        [Token::Word(word), Token::Sign('('), condition @ .., Token::Sign(')')]
            if word == "cfg" =>
        {
            holds(condition, features) == Some(false)
        }
        _ => false,
    }
}

/// Whether a condition of `cfg` holds in the guest; `None` if that cannot be decided.
fn holds(condition: &[Token], features: &BTreeSet<String>) -> Option<bool> {
    match condition {
        [Token::Word(word)] => match word.as_str() {
            "test" | "doc" | "docsrs" | "doctest" | "miri" | "kani" | "fuzzing" | "loom"
            | "unix" | "windows" => Some(false),
            _ => None,
        },
        [Token::Word(key), Token::Sign('='), Token::Text(value)] => match key.as_str() {
            "feature" => Some(features.contains(value)),
            "target_arch" => Some(value == "riscv32"),
            "target_os" => Some(value == "zkvm"),
            "target_pointer_width" => Some(value == "32"),
            "target_endian" => Some(value == "little"),
            "target_feature" if !["m", "a", "c"].contains(&value.as_str()) => Some(false),
            _ => None,
        },
        [Token::Word(word), Token::Sign('('), inner @ .., Token::Sign(')')] => {
            let all: Vec<Option<bool>> =
                parts(inner).into_iter().map(|part| holds(part, features)).collect();
            match word.as_str() {
                "not" => all.first().copied().flatten().map(|holds| !holds),
                "all" if all.contains(&Some(false)) => Some(false),
                "all" if all.contains(&None) => None,
                "all" => Some(true),
                "any" if all.contains(&Some(true)) => Some(true),
                "any" if all.contains(&None) => None,
                "any" => Some(false),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The parts between the commas that are in no bracket.
fn parts(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at < tokens.len() {
        match &tokens[at] {
            Token::Sign(',') => {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            Token::Sign('(' | '[' | '{') => at = closing(tokens, at),
            _ => {}
        }
        at += 1;
    }
    if start < tokens.len() {
        parts.push(&tokens[start..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The uses in a source whose crate has the feature "on".
    fn uses(text: &str) -> String {
        let features = BTreeSet::from(["on".to_owned()]);
        let uses = scan(text, &features).uses;
        uses.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn operations_are_found_by_name_and_pointers_in_unsafe_code() {
        assert_eq!(
            uses("fn f() { unsafe { v.set_len(2); *p.add(1) = *p.sub(2).add(1) } a.add(1) }"),
            "pointer 3, set_len 1, unsafe 1"
        );
        assert_eq!(
            uses("unsafe fn f(p: *const u8) -> u8 { *p.offset(1) } fn g() { x.add(1) }"),
            "pointer 1, unsafe 1"
        );
        assert_eq!(
            uses("assume!(n > 0); debug_unreachable!(); assume(x)"),
            "assume 1, debug_unreachable 1"
        );
        assert_eq!(uses("pub const unsafe extern \"C\" fn f() {}"), "unsafe 1");
        assert_eq!(
            uses("slice.get_unchecked(1); n.unchecked_add(2)"),
            "get_unchecked 1, unchecked_add 1"
        );
    }

    #[test]
    fn definitions_imports_comments_and_texts_are_no_uses() {
        assert_eq!(
            uses(
                r##"use core::hint::{unreachable_unchecked, transmute}; // transmute(x)
                /* transmute /* nested */ transmute */ fn set_len() {} macro_rules! assume { () => {} }
                const A: &str = "transmute(x)"; const B: &[u8] = br#"set_len("x")"#; const C: char = '"';
                fn f<'a>(x: &'a str) -> char { '\'' } unsafe impl Send for X {} type F = unsafe fn(u8);"##
            ),
            ""
        );
    }

    #[test]
    fn what_the_guest_does_not_compile_is_left_out() {
        for left_out in [
            "#[cfg(test)] mod tests { fn f() { transmute(x) } }",
            "#[test] fn f<A, B>() { transmute(x) }",
            "#[cfg(feature = \"off\")] fn f() { transmute(x) }",
            "#[cfg(not(feature = \"on\"))] #[inline] pub fn f<A, B>() -> u8 { transmute(x) }",
            "#[cfg(all(feature = \"on\", target_arch = \"x86_64\"))] { transmute(x) }",
            "#![cfg(test)] fn f() { transmute(x) }",
        ] {
            assert_eq!(uses(left_out), "", "{left_out}");
            assert!(
                !uses(&format!("{left_out} fn g() {{ set_len(1) }}")).contains("transmute"),
                "{left_out}"
            );
        }
        for kept in [
            "#[cfg(not(test))] fn f() { transmute(x) }",
            "#[cfg(feature = \"on\")] fn f() { transmute(x) }",
            "#[cfg(any(test, some_flag))] fn f() { transmute(x) }",
            "#[cfg(test)] use a::{b, c}; fn f() { transmute(x) }",
            "fn f(#[cfg(test)] a: u8, b: u8) { transmute(x) }",
        ] {
            assert_eq!(uses(kept), "transmute 1", "{kept}");
        }
    }

    #[test]
    fn modules_are_followed_where_they_are_declared() {
        let text =
            "mod a; pub(crate) mod b { mod c; } #[path = \"d/e.rs\"] mod d; #[cfg(test)] mod f;";
        let modules = scan(text, &BTreeSet::new()).modules;
        let told: Vec<String> = modules
            .iter()
            .map(|module| format!("{}|{}|{:?}", module.inside.join("/"), module.name, module.path))
            .collect();
        assert_eq!(told, ["|a|None", "b|c|None", "|d|Some(\"d/e.rs\")"]);
    }
}
