//! What the guest does without a check: every use in the sources of the crates that are linked into it,
//! counted and explained.
//!
//! * The crates are those that `guests/Cargo.lock` gives the guest for its own target and features: normal dependencies, no procedural macros.
//! * The sources are the modules that these features compile. Comments, strings and tests do not count.
//! * `guests/risc0/unchecked.toml` has a row for each file, with the number of uses of each operation and
//!   the reason why they are sound. The check refuses a use more or less, and a row without a reason.
//!
//! A crate counts as a whole, whether or not the linker keeps its functions: inlined code leaves no name in
//! the linker's map. The standard library is not read: it belongs to the compiler.

mod scan;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use cargo_metadata::MetadataCommand;

use crate::guests::RISC0_TARGET;
use table::Table;

/// How often a file uses each operation.
type Uses = BTreeMap<String, usize>;
/// By crate, as its name and version, and by file, as its path inside the crate.
type Found = BTreeMap<String, BTreeMap<String, Uses>>;

/// Compares the sources with the table of the checkout at `root`.
///
/// # Errors
/// Names every row that differs from the sources, or that nobody has explained.
pub(crate) fn check(root: &Path) -> anyhow::Result<String> {
    let path = path(root);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let table =
        Table::parse(&text).with_context(|| format!("failed to read {}", path.display()))?;
    let found = find(root)?;
    let faults = table.faults(&found);
    if !faults.is_empty() {
        bail!(
            "the guest's sources and {} disagree:\n  {}\n\
             `cargo xtask unchecked --write` brings the rows up to date; their reasons are yours to give",
            path.display(),
            faults.join("\n  ")
        );
    }
    Ok(format!("{}, all explained", told(&found)))
}

/// Brings the table up to date. Unchanged rows keep their reasons; the others have none.
///
/// # Errors
/// If the sources or the table cannot be read, or the table cannot be written.
pub(crate) fn write(root: &Path) -> anyhow::Result<String> {
    let path = path(root);
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => Table::parse(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::default(),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", path.display()));
        }
    };
    let found = find(root)?;
    let table = old.updated(&found);
    let unexplained = table.faults(&found).len();
    std::fs::write(&path, table.to_string())
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(format!("{}, {unexplained} rows wait for a reason", told(&found)))
}

fn path(root: &Path) -> PathBuf {
    root.join("guests/risc0/unchecked.toml")
}

fn told(found: &Found) -> String {
    let files = found.values().flat_map(BTreeMap::values);
    let uses: usize = files.clone().flat_map(BTreeMap::values).sum();
    format!("{uses} unchecked uses in {} files of {} crates", files.count(), found.len())
}

/// Every use in the sources of the guest's crates.
fn find(root: &Path) -> anyhow::Result<Found> {
    let manifest = root.join("guests/Cargo.toml");
    let linked = linked(&manifest)?;
    let metadata = MetadataCommand::new()
        .manifest_path(&manifest)
        .other_options(["--locked", "--filter-platform", RISC0_TARGET].map(str::to_owned).to_vec())
        .exec()
        .with_context(|| format!("failed to read the metadata of {}", manifest.display()))?;
    let mut found = Found::new();
    for (name, features) in &linked {
        let package = metadata
            .packages
            .iter()
            .find(|package| format!("{} {}", package.name, package.version) == *name)
            .with_context(|| format!("cargo's metadata does not have {name}"))?;
        let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
        let targets = package.targets.iter().filter(|target| {
            !target.is_custom_build() && (target.is_bin() || target.is_lib() || target.is_rlib())
        });
        let mut files = BTreeMap::new();
        for target in targets {
            let source = target.src_path.as_std_path();
            scan::module_tree(source, features, &mut |path, uses| {
                let inside = path.strip_prefix(folder.as_std_path()).unwrap_or(path);
                files.insert(inside.display().to_string(), uses);
            })
            .with_context(|| format!("failed to read the sources of {name}"))?;
        }
        files.retain(|_, uses| !uses.is_empty());
        if !files.is_empty() {
            found.insert(name.clone(), files);
        }
    }
    Ok(found)
}

/// The crates that are linked into the guest, with their features: those that cargo would compile for its
/// target.
fn linked(manifest: &Path) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "tree",
        "--locked",
        "--quiet",
        "--package",
        "guest-risc0",
        "--target",
        RISC0_TARGET,
    ]);
    cargo.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"]);
    cargo.args(["--format", "{p}|{f}", "--manifest-path"]).arg(manifest);
    let output = cargo.output().context("failed to run cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).context("cargo tree does not write UTF-8")?;
    let mut linked = BTreeMap::<String, BTreeSet<String>>::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (package, features) = line.split_once('|').context("cargo tree has another format")?;
        let mut words = package.split(' ');
        let (name, version) = words.next().zip(words.next()).context("a crate has no version")?;
        let version = version.trim_start_matches('v');
        linked
            .entry(format!("{name} {version}"))
            .or_default()
            .extend(features.split(',').filter(|f| !f.is_empty()).map(str::to_owned));
    }
    ensure!(linked.len() > 10, "cargo tree names only {} crates", linked.len());
    Ok(linked)
}
