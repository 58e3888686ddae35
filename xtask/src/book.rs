//! The book: the pages that docs/SUMMARY.md names, as HTML.
//!
//! * Pages link to files outside of docs/. So the pages and what they link to are put together in the target folder, each
//!   where the checkout has it, and mdbook makes the HTML there.
//! * Every page below docs/ is in the book, and no page of it links to a page that is not.
//! * Each link and anchor of the HTML leads somewhere, and nothing is fetched from elsewhere when the book is read. Links to
//!   other sites are not followed: the check needs no network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::guests::target_folder;
use crate::pages::relative_links;

/// The table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Makes the book of the checkout at `root`. Returns where it is.
///
/// # Errors
/// Names every page that is left out and every link that leads nowhere.
pub(crate) fn make(root: &Path) -> anyhow::Result<String> {
    let folder = target_folder(root)?.join("book");
    if let Err(error) = fs::remove_dir_all(&folder)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("failed to remove {}", folder.display()));
    }
    let chapters = assemble(root, &folder)?;
    copy(&root.join("docs/book.toml"), &folder.join("book.toml"))?;
    mdbook(&folder)?;
    let html = folder.join("html");
    let links = check(&html)?;
    Ok(format!(
        "{chapters} pages, {links} links and anchors, none of them broken: {}",
        html.join("index.html").display()
    ))
}

/// Copies the pages and what they link to into `folder`. Returns how many pages there are.
fn assemble(root: &Path, folder: &Path) -> anyhow::Result<usize> {
    let summary = read(&root.join(SUMMARY))?;
    let chapters = chapters(&summary);
    let mut pages = Vec::new();
    markdown(&root.join("docs"), &mut pages)?;
    let mut faults = Vec::new();
    for page in pages {
        let page = page.strip_prefix(root).context("docs lies in the root")?.to_owned();
        if page != Path::new(SUMMARY) && !chapters.contains(&page) {
            faults.push(format!("{SUMMARY} does not name {}", page.display()));
        }
    }
    let source = folder.join("src");
    for page in &chapters {
        let text = read(&root.join(page))?;
        for link in relative_links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() {
                continue;
            }
            let target = normal(&page.parent().unwrap_or(Path::new("")).join(path));
            if chapters.contains(&target) {
                continue;
            }
            let from = root.join(&target);
            if !from.is_file() || target.extension().is_some_and(|extension| extension == "md") {
                faults
                    .push(format!("{}: {link} is neither in the book nor a file", page.display()));
                continue;
            }
            copy(&from, &source.join(&target))?;
        }
        copy(&root.join(page), &source.join(page))?;
    }
    ensure!(faults.is_empty(), "the book lacks pages:\n  {}", faults.join("\n  "));
    fs::write(source.join("SUMMARY.md"), from_the_root(&summary))
        .context("failed to write the contents")?;
    Ok(chapters.len())
}

/// The pages that the table of contents names, by their paths from the root.
fn chapters(summary: &str) -> BTreeSet<PathBuf> {
    relative_links(&from_the_root(summary)).into_iter().map(PathBuf::from).collect()
}

/// The table of contents as it is outside of docs/.
fn from_the_root(summary: &str) -> String {
    let mut parts = summary.split("](");
    let mut moved = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (link, rest) = part.split_once(')').unwrap_or((part, ""));
        let path = normal(&Path::new("docs").join(link));
        moved += &format!("]({}){rest}", path.display());
    }
    moved
}

/// All pages below `folder`.
fn markdown(folder: &Path, pages: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            markdown(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// `path` without `..` and `.`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

fn mdbook(folder: &Path) -> anyhow::Result<()> {
    let output = match Command::new("mdbook").arg("build").arg(folder).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("mdbook is missing: `make setup-book` installs it")
        }
        output => output.context("failed to start mdbook")?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // It warns of what it leaves out.
    let clean = !said.contains("WARN") && !said.contains("ERROR");
    ensure!(output.status.success() && clean, "mdbook failed:\n{said}");
    Ok(())
}

/// Checks the links of all pages below `html`. Returns how many there are.
fn check(html: &Path) -> anyhow::Result<usize> {
    let mut pages = BTreeMap::new();
    collect(html, &mut pages)?;
    let mut faults = BTreeSet::new();
    let mut links = 0;
    for (path, page) in &pages {
        for link in &page.links {
            links += 1;
            if let Err(fault) = follow(html, &pages, path, link) {
                let page = path.strip_prefix(html).unwrap_or(path).display();
                faults.insert(format!("{page}: {fault:#}"));
            }
        }
    }
    ensure!(links > 0, "the book has no links");
    let faults: Vec<_> = faults.into_iter().collect();
    ensure!(faults.is_empty(), "the book has broken links:\n  {}", faults.join("\n  "));
    Ok(links)
}

/// What a page of HTML has: the anchors, and the links that a reader follows or a browser fetches.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    anchors: BTreeSet<String>,
    links: BTreeSet<Link>,
}

/// A link, and whether the browser fetches it by itself.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    to: String,
    fetched: bool,
}

/// The pages and style sheets below `folder`, by their paths.
fn collect(folder: &Path, pages: &mut BTreeMap<PathBuf, Page>) -> anyhow::Result<()> {
    for path in entries(folder)? {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            collect(&path, pages)?;
        } else if extension == Some("html") {
            pages.insert(path.clone(), parse(&read(&path)?));
        } else if extension == Some("css") {
            let text = read(&path)?;
            let urls = text.split("url(").skip(1).filter_map(|rest| rest.split(')').next());
            let links =
                urls.map(|url| Link { to: url.trim_matches(['"', '\'']).into(), fetched: true });
            pages.insert(path, Page { links: links.collect(), ..Page::default() });
        }
    }
    Ok(())
}

/// Reads the tags of a page. mdbook writes attributes in double quotes, and escapes `<` in text.
fn parse(text: &str) -> Page {
    let mut page = Page::default();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, rest)| rest);
            continue;
        }
        let Some((tag, after)) = rest.split_once('>') else { break };
        rest = after;
        let name = tag.split(|c: char| c.is_whitespace()).next().unwrap_or_default();
        for (attribute, value) in attributes(tag) {
            match attribute {
                "id" => {
                    page.anchors.insert(value);
                }
                "href" | "src" => {
                    page.links.insert(Link { to: value, fetched: name != "a" });
                }
                _ => {}
            }
        }
        if ["script", "style"].contains(&name) {
            rest = rest.split_once(&format!("</{name}>")).map_or("", |(_, rest)| rest);
        }
    }
    page
}

/// The attributes of a tag that have values.
fn attributes(tag: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("=\"") {
        let Some((value, after)) = after.split_once('"') else { break };
        let name = before.rsplit(|c: char| c.is_whitespace()).next().unwrap_or_default();
        found.push((name, value.replace("&amp;", "&")));
        rest = after;
    }
    found
}

/// Checks that `link` of the page at `from` leads to a file of the book, and to an anchor of it if it names one.
fn follow(
    html: &Path,
    pages: &BTreeMap<PathBuf, Page>,
    from: &Path,
    link: &Link,
) -> anyhow::Result<()> {
    let to = &link.to;
    if to.starts_with("data:") {
        return Ok(());
    }
    if to.contains("://") || to.starts_with("//") || to.starts_with("mailto:") {
        ensure!(!link.fetched, "{to} is fetched from elsewhere");
        return Ok(());
    }
    let (path, anchor) = to.split_once('#').unwrap_or((to, ""));
    let target = match path {
        "" => from.to_owned(),
        path => normal(&from.parent().context("a page lies in a folder")?.join(decoded(path))),
    };
    ensure!(target.starts_with(html), "{to} leads out of the book");
    ensure!(target.is_file(), "{to} leads nowhere");
    if let Some(page) = pages.get(&target).filter(|_| !anchor.is_empty()) {
        ensure!(page.anchors.contains(&decoded(anchor)), "{to}: there is no such anchor");
    }
    Ok(())
}

/// `text` with `%41` as `A`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code =
            after.get(..2).filter(|_| *first == b'%').and_then(|code| hex::decode(code).ok());
        match code {
            Some(code) => {
                bytes.extend(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut entries = listed.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("failed to make {}", parent.display()))?;
    fs::copy(from, to).with_context(|| format!("failed to copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_anchors_of_a_page_are_found() {
        let text = "<h2 id=\"one\"><a class=\"header\" href=\"#one\">One</a></h2> <!-- <a href=\"no\"> -->\
            <img src=\"b.png\"> <script src=\"c.js\">\"<a href='no'>\"</script> href=\"no\" <a href=\"d.html?a=1&amp;b\">";
        let page = parse(text);
        let links: Vec<_> =
            page.links.iter().map(|link| (link.to.as_str(), link.fetched)).collect();
        assert_eq!(
            links,
            [("#one", false), ("b.png", true), ("c.js", true), ("d.html?a=1&b", false)]
        );
        assert_eq!(page.anchors, ["one".to_owned()].into());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_refused() {
        let folder = std::env::temp_dir().join(format!("book-{}", std::process::id()));
        fs::create_dir_all(folder.join("docs")).unwrap();
        fs::write(folder.join("a.html"), "<p id=\"here\"><a href=\"docs/b%20c.html\">").unwrap();
        let try_page = |text: &str| {
            fs::write(folder.join("docs/b c.html"), text).unwrap();
            check(&folder).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(try_page("<a href=\"../a.html#here\"> <a href=\"https://elsewhere\">"), Ok(3));
        for (text, fault) in [
            ("<a href=\"../a.html#there\">", "no such anchor"),
            ("<a href=\"a.html\">", "leads nowhere"),
            ("<a href=\"../../a.html\">", "out of the book"),
            ("<img src=\"https://elsewhere/a.png\">", "fetched from elsewhere"),
        ] {
            let error = try_page(text).unwrap_err();
            assert!(error.contains(fault), "{text}: {error}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn chapters_are_named_from_the_root() {
        let summary = "[l2](../README.md)\n- [a](README.md)\n    - [b](../fuzz/README.md)\n";
        let moved = "[l2](README.md)\n- [a](docs/README.md)\n    - [b](fuzz/README.md)\n";
        assert_eq!(from_the_root(summary), moved);
        let paths: Vec<_> = chapters(summary).into_iter().collect();
        assert_eq!(paths, ["README.md", "docs/README.md", "fuzz/README.md"].map(PathBuf::from));
    }
}
