//! Which of our crates may depend on which: ARCHITECTURE.md draws the allowed arrows, `cargo metadata` has the
//! real ones.
//!
//! * The table in ARCHITECTURE.md is the only place where an arrow is allowed.
//! * Arrows point only down: a row may name only rows above it.
//! * Guests count as crates of ours, though they live in a workspace of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// Compares the arrows between the crates of the checkout at `root` with the table of its ARCHITECTURE.md.
///
/// Returns how many arrows were checked.
///
/// # Errors
/// Names every arrow the table does not draw, every crate without a row and every row without a crate.
pub(crate) fn check(root: &Path) -> anyhow::Result<usize> {
    let path = root.join("ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let table = Table::parse(&text)
        .with_context(|| format!("failed to read the table of {}", path.display()))?;
    let arrows = arrows(root)?;
    let faults = table.faults(&arrows);
    if !faults.is_empty() {
        bail!("the crates and the table in ARCHITECTURE.md disagree:\n  {}", faults.join("\n  "));
    }
    Ok(arrows.values().map(BTreeSet::len).sum())
}

/// An arrow to the named crate, and whether only tests and examples have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    to: String,
    tests_only: bool,
}

/// Each crate of ours and its arrows to other crates of ours.
type Arrows = BTreeMap<String, BTreeSet<Arrow>>;

/// The arrows as cargo sees them, in the workspace at `root` and in the guests'.
fn arrows(root: &Path) -> anyhow::Result<Arrows> {
    let mut found = Arrows::new();
    for manifest in manifests(root)? {
        let metadata =
            MetadataCommand::new().manifest_path(&manifest).no_deps().exec().with_context(
                || format!("failed to read the metadata of {}", manifest.display()),
            )?;
        for package in metadata.packages {
            // A dependency with a path lives in this repository.
            let arrows =
                package.dependencies.iter().filter(|dependency| dependency.path.is_some()).map(
                    |dependency| Arrow {
                        to: dependency.name.clone(),
                        tests_only: dependency.kind == DependencyKind::Development,
                    },
                );
            found.entry(package.name.to_string()).or_default().extend(arrows);
        }
    }
    Ok(found)
}

fn manifests(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut manifests = vec![root.join("Cargo.toml")];
    let guests = root.join("guests");
    if guests.is_dir() {
        manifests.push(guests.join("Cargo.toml"));
        for entry in std::fs::read_dir(&guests)
            .with_context(|| format!("failed to list {}", guests.display()))?
        {
            manifests.push(entry?.path().join("Cargo.toml"));
        }
    }
    manifests.retain(|manifest| manifest.is_file());
    Ok(manifests)
}

/// The rows of ARCHITECTURE.md's table, in their order.
#[derive(Debug, PartialEq, Eq)]
struct Table(Vec<Row>);

#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    may_use: BTreeSet<String>,
    tests_may_use: BTreeSet<String>,
}

impl Table {
    /// Reads the first table whose first column is headed `crate`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let drawn = Drawn::parse(text, "crate")?;
        let (may_use, tests) = (drawn.column("may use of ours")?, drawn.column("its tests also")?);
        let mut rows: Vec<Row> = Vec::new();
        for (name, cells) in drawn.rows {
            let row =
                Row { may_use: names(cells[may_use])?, tests_may_use: names(cells[tests])?, name };
            points_down(&row.name, row.may_use.iter().chain(&row.tests_may_use), |used| {
                rows.iter().any(|above| above.name == *used)
            })?;
            rows.push(row);
        }
        Ok(Self(rows))
    }

    /// Every difference between the table and the real `arrows`.
    fn faults(&self, arrows: &Arrows) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, uses) in arrows {
            let Some(row) = self.0.iter().find(|row| row.name == *name) else {
                faults.push(format!("`{name}` has no row"));
                continue;
            };
            for arrow in uses {
                let drawn = row.may_use.contains(&arrow.to)
                    || arrow.tests_only && row.tests_may_use.contains(&arrow.to);
                if !drawn {
                    let who = if arrow.tests_only { "the tests of " } else { "" };
                    faults.push(format!(
                        "{who}`{name}` uses `{}`, which its row does not allow",
                        arrow.to
                    ));
                }
            }
        }
        for row in self.0.iter().filter(|row| !arrows.contains_key(&row.name)) {
            faults.push(format!("`{}` has a row but is no crate", row.name));
        }
        faults
    }
}

/// A table of the page, whose rows have distinct names.
pub(crate) struct Drawn<'t> {
    header: Vec<&'t str>,
    /// Each row's name and cells, in their order.
    pub(crate) rows: Vec<(String, Vec<&'t str>)>,
}

impl<'t> Drawn<'t> {
    /// Reads the first table whose first column is headed `head`.
    pub(crate) fn parse(text: &'t str, head: &str) -> anyhow::Result<Self> {
        let mut lines =
            text.lines().skip_while(|line| cells(line).is_none_or(|cells| cells[0] != head));
        let header = lines
            .next()
            .and_then(cells)
            .with_context(|| format!("there is no table whose first column is `{head}`"))?;
        let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
        // The line below the header is only a separator.
        for line in lines.skip(1) {
            let Some(cells) = cells(line) else { break };
            if cells.len() != header.len() {
                bail!(
                    "the row `{line}` has {} cells, the header has {}",
                    cells.len(),
                    header.len()
                );
            }
            let name = cells[0].trim_matches('`').to_owned();
            if rows.iter().any(|(above, _)| *above == name) {
                bail!("`{name}` has two rows");
            }
            rows.push((name, cells));
        }
        Ok(Self { header, rows })
    }

    /// The position of the column headed `name`.
    pub(crate) fn column(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.header.iter().position(|cell| *cell == name);
        found.with_context(|| format!("the table has no column `{name}`"))
    }
}

/// Checks that the row `name` uses only rows above it, as `is_above` says.
pub(crate) fn points_down<'u>(
    name: &str,
    mut may_use: impl Iterator<Item = &'u String>,
    is_above: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    match may_use.find(|used| !is_above(used)) {
        None => Ok(()),
        Some(used) => {
            bail!("`{name}` may use `{used}`, which has no row above it: arrows point only down")
        }
    }
}

/// The cells of a table's line, or `None` for any other line.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// The crate names in a cell such as `` `program`, `protocol` ``; a dash means none.
pub(crate) fn names(cell: &str) -> anyhow::Result<BTreeSet<String>> {
    if cell == "–" {
        return Ok(BTreeSet::new());
    }
    cell.split(',')
        .map(|name| {
            let quoted = name.trim().strip_prefix('`').and_then(|name| name.strip_suffix('`'));
            quoted
                .map(str::to_owned)
                .with_context(|| format!("`{cell}` is neither a list of `names` nor a dash"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# Crates\n\n| crate | lives there | may use of ours | its tests also |\n|---|---|---|---|\n";

    fn table(rows: &str) -> anyhow::Result<Table> {
        Table::parse(&format!("{HEAD}{rows}\nText below.\n| `x` | not | of the | table |\n"))
    }

    /// The faults that the table with `rows` finds in crates given as `a > b, c; d ~ a` (`>` uses, `~` uses in
    /// tests).
    fn faults(rows: &str, crates: &str) -> Vec<String> {
        let mut arrows = Arrows::new();
        for item in crates.split(';').map(str::trim) {
            let (name, sign, uses) = match (item.split_once('>'), item.split_once('~')) {
                (Some((name, uses)), _) => (name, '>', uses),
                (_, Some((name, uses))) => (name, '~', uses),
                _ => (item, '>', ""),
            };
            let uses = uses.split(',').map(str::trim).filter(|name| !name.is_empty());
            let uses = uses.map(|to| Arrow { to: to.to_owned(), tests_only: sign == '~' });
            arrows.entry(name.trim().to_owned()).or_default().extend(uses);
        }
        table(rows).expect("the table is well-formed").faults(&arrows)
    }

    const ROWS: &str = "| `a` | base | – | – |\n| `b` | top | `a` | – |\n| `c` | cli | `b` | `a` |";

    #[test]
    fn drawn_arrows_pass() {
        assert_eq!(faults(ROWS, "a; b > a; c > b; c ~ a"), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_a_fault() {
        assert_eq!(faults(ROWS, "a; b > a; c > a"), ["`c` uses `a`, which its row does not allow"]);
        assert_eq!(
            faults(ROWS, "a ~ b; b; c"),
            ["the tests of `a` uses `b`, which its row does not allow"]
        );
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_faults() {
        assert_eq!(faults(ROWS, "a; b; d"), ["`d` has no row", "`c` has a row but is no crate"]);
    }

    #[test]
    fn a_table_that_cannot_be_meant_is_refused() {
        let refused = |rows: &str| format!("{:#}", table(rows).expect_err("refused"));
        assert!(
            refused("| `a` | base | `b` | – |\n| `b` | top | – | – |")
                .contains("arrows point only down")
        );
        assert!(refused("| `a` | base | – | – |\n| `a` | base | – | – |").contains("two rows"));
        assert!(refused("| `a` | base | all | – |").contains("neither a list"));
        assert!(refused("| `a` | base | – |").contains("3 cells"));
        assert!(Table::parse("no table").is_err());
    }

    #[test]
    fn this_repository_keeps_its_layers() {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
        let root = Path::new(&folder).parent().expect("xtask lies in the root");
        let arrows = check(root).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(arrows > 10, "only {arrows} arrows were found: the metadata was not read");
    }
}
