//! What the pages (`*.md`) promise a reader: that links lead somewhere, and that ARCHITECTURE.md's walks name real
//! files.
//!
//! * A relative link must point at a file or folder of the checkout; one with a fragment, at a heading of that page.
//! * A page of `docs/` that a source, a script or a setting names must exist.
//! * A file of the checkout that ARCHITECTURE.md names in backticks must exist.
//! * The walks are under [`WALKS`]. Each is a third-level heading with a numbered list, each line of which starts
//!   with a file in backticks.
//! * Links to other sites are not followed: the check needs no network.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// The heading of ARCHITECTURE.md that the walks are under.
const WALKS: &str = "## Seven walks";

/// How many walks there are.
const WALK_COUNT: usize = 7;

/// The folder of the decisions. A source may name one by its number.
const DECISIONS: &str = "docs/decisions/";

/// Folders that are not part of the checkout, or have no text of ours.
const SKIPPED: [&str; 6] =
    ["target", "corpus", "artifacts", "scenarios-failed", "node_modules", "__pycache__"];

/// Checks links, named pages and walks of the checkout at `root`. Returns a summary of what was checked.
///
/// # Errors
/// Names every link that leads nowhere, every page that is named and does not exist, and every fault of the walks.
pub(crate) fn check(root: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    let mut faults = Vec::new();
    let (mut links, mut pages) = (0, 0);
    for file in &files {
        let shown = file.strip_prefix(root).unwrap_or(file).display();
        let Ok(text) = fs::read_to_string(file) else { continue };
        if file.extension().is_some_and(|extension| extension == "md") {
            pages += 1;
            for link in relative_links(&text) {
                links += 1;
                if let Err(fault) = follow(file, &link) {
                    faults.push(format!("{shown}: {fault}"));
                }
            }
        } else {
            for page in named_pages(&text) {
                links += 1;
                if !exists_as_named(root, &page) {
                    faults.push(format!("{shown}: {page} does not exist"));
                }
            }
        }
    }
    let path = root.join("ARCHITECTURE.md");
    let text =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let walks = walks(&text)?;
    for walk in &walks {
        for file in walk.files.iter().filter(|file| !root.join(file).is_file()) {
            faults.push(format!("ARCHITECTURE.md: walk `{}`: {file} does not exist", walk.title));
        }
    }
    faults.extend(
        missing(root, &text).into_iter().map(|file| format!("ARCHITECTURE.md: there is no {file}")),
    );
    if !faults.is_empty() {
        bail!("pages lead nowhere:\n  {}", faults.join("\n  "));
    }
    Ok(format!("{links} links, {pages} pages, {} walks: all lead somewhere", walks.len()))
}

/// All files below `folder` that may contain text of ours, in the order of their names.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut entries = listed.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let ours =
            !name.starts_with('.') || [".github", ".ci", ".cargo", ".config"].contains(&&*name);
        if entry.file_type()?.is_dir() {
            if ours && !SKIPPED.contains(&&*name) {
                collect(&path, files)?;
            }
        } else {
            let text = ["md", "rs", "toml", "sh", "py", "yml", "sol", "hex"]
                .iter()
                .any(|extension| path.extension().is_some_and(|found| found == *extension));
            if text || name == "Makefile" || name == ".example.env" {
                files.push(path);
            }
        }
    }
    Ok(())
}

/// The targets of the Markdown links in `text` that point into the checkout, outside code.
pub(crate) fn relative_links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in outside_fences(text) {
        // A code span's content is no link.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("x");
        let mut rest = prose.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            let target = rest[..end].split(' ').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                links.push(target.to_owned());
            }
        }
    }
    links
}

/// The lines of `text` that are not in a fenced block.
pub(crate) fn outside_fences(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Checks that `link`, found in the page `from`, leads to a file, and to a heading if it has a fragment.
fn follow(from: &Path, link: &str) -> anyhow::Result<()> {
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => from.to_owned(),
        path => from.parent().context("a page lies in a folder")?.join(path),
    };
    ensure!(target.exists(), "{link} leads nowhere");
    if !fragment.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
        let text = fs::read_to_string(&target)
            .with_context(|| format!("failed to read {}", target.display()))?;
        let headings = outside_fences(&text).filter(|line| line.starts_with('#'));
        ensure!(
            headings.map(anchor).any(|heading| heading == fragment),
            "{link}: there is no such heading"
        );
    }
    Ok(())
}

/// The fragment by which GitHub links to a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The pages of `docs/` named in a file that is not a page, as it names them.
fn named_pages(text: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || ['/', '-', '_', '.'].contains(&c);
    let words = text.split(|c| !part(c)).map(|word| word.trim_end_matches('.'));
    words
        .filter(|word| {
            let number =
                word.strip_prefix(DECISIONS).is_some_and(|page| page.parse::<u16>().is_ok());
            number
                || word.starts_with("docs/")
                    && [".md", ".sol"].iter().any(|end| word.ends_with(end))
        })
        .map(str::to_owned)
        .collect()
}

/// Whether `page` exists; a decision may be named by its number alone.
fn exists_as_named(root: &Path, page: &str) -> bool {
    let by_number = || {
        let (folder, number) = page.rsplit_once('/').unwrap_or(("", page));
        let Ok(entries) = fs::read_dir(root.join(folder)) else { return false };
        let start = format!("{number}-");
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&start))
    };
    root.join(page).exists() || page.starts_with(DECISIONS) && by_number()
}

/// The files and folders that a page names between backticks, as paths from the root, and that do not exist.
fn missing(root: &Path, page: &str) -> Vec<String> {
    const FOLDERS: [&str; 5] = ["crates/", "docs/", "guests/", "fuzz/", "xtask/"];
    let named = page.split('`').skip(1).step_by(2);
    let paths = named.filter(|name| FOLDERS.iter().any(|folder| name.starts_with(folder)));
    paths.filter(|path| !root.join(path).exists()).map(str::to_owned).collect()
}

/// A walk through the code: its heading and the files it names.
#[derive(Debug, PartialEq, Eq)]
struct Walk {
    title: String,
    files: Vec<String>,
}

/// Reads the walks of ARCHITECTURE.md's `text`.
fn walks(text: &str) -> anyhow::Result<Vec<Walk>> {
    let mut lines = text.lines().skip_while(|line| *line != WALKS);
    lines.next().with_context(|| format!("ARCHITECTURE.md has no heading `{WALKS}`"))?;
    let mut walks: Vec<Walk> = Vec::new();
    for line in lines.take_while(|line| !line.starts_with("## ")) {
        if let Some(title) = line.strip_prefix("### ") {
            walks.push(Walk { title: title.to_owned(), files: Vec::new() });
        } else if line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok()) {
            let (_, step) = line.split_once(". ").unwrap_or_default();
            let file = step.strip_prefix('`').and_then(|step| step.split_once('`'));
            let (file, _) = file
                .with_context(|| format!("ARCHITECTURE.md: `{line}` does not start with a file"))?;
            let walk = walks.last_mut().with_context(|| {
                format!("ARCHITECTURE.md: `{line}` stands before the first walk's heading")
            })?;
            walk.files.push(file.to_owned());
        }
    }
    ensure!(walks.len() == WALK_COUNT, "ARCHITECTURE.md has {} walks, not seven", walks.len());
    if let Some(short) = walks.iter().find(|walk| walk.files.len() < 2) {
        bail!("ARCHITECTURE.md: walk `{}` names fewer than two files", short.title);
    }
    Ok(walks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code() {
        let text = "[a](b.md#c) and [d](https://e) and `[f](g)`\n```\n[h](i)\n```\n[j](#k)";
        assert_eq!(relative_links(text), ["b.md#c", "#k"]);
    }

    #[test]
    fn a_heading_has_the_anchor_that_github_gives_it() {
        assert_eq!(anchor("## What a hostile prover would try"), "what-a-hostile-prover-would-try");
        assert_eq!(anchor("### `modexp`, and 32 bits!"), "modexp-and-32-bits");
    }

    #[test]
    fn pages_named_in_sources_are_found() {
        let text = "//! See docs/operate.md. Also (docs/decisions/0010); not docs/.";
        assert_eq!(named_pages(text), ["docs/operate.md", "docs/decisions/0010"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_refused() {
        let page = root().join("README.md");
        assert!(follow(&page, "ARCHITECTURE.md").is_ok());
        assert!(follow(&page, "docs/no-such-page").is_err());
        assert!(follow(&page, "ARCHITECTURE.md#no-such-heading").is_err());
        assert!(!exists_as_named(&root(), &format!("{DECISIONS}9999")));
    }

    #[test]
    fn a_page_names_only_files_that_there_are() {
        let page = "See `crates/server/src/lib.rs`, `crates/server/src/gone.rs` and `fn f()`.";
        assert_eq!(missing(&root(), page), ["crates/server/src/gone.rs"]);
    }

    #[test]
    fn walks_have_files() {
        let walk = |title: &str| format!("### {title}\n1. `a.rs`: x\n2. `b.rs`: y\n\n");
        let seven: String = (0..7).map(|n| walk(&n.to_string())).collect();
        let page = |walks: &str| format!("# A\n{WALKS}\n\n{walks}## Next\n1. no file\n");
        assert_eq!(walks(&page(&seven)).unwrap()[6].files, ["a.rs", "b.rs"]);
        assert!(walks(&page(&walk("one"))).is_err());
        assert!(walks(&page(&format!("{seven}### Eight\n1. no file\n"))).is_err());
        assert!(walks("# A page without").is_err());
    }

    #[test]
    fn every_page_of_this_repository_leads_somewhere() {
        check(&root()).unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn root() -> PathBuf {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
        Path::new(&folder).parent().expect("xtask lies in the root").to_owned()
    }
}
