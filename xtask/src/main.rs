//! Maintenance commands of this repository: `cargo xtask <command>`.

mod book;
mod guests;
mod house;
mod layers;
mod pages;
mod pictures;
mod rooms;
mod soundness;
mod test32;
mod tokens;
mod unchecked;
mod unlinked;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Maintenance commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Builds the guests and pins their program ids; installs their compiler where it can.
    Guests {
        /// Changes nothing; fails if a guest's id is not the pinned one.
        #[arg(long)]
        check: bool,
        /// Pins nothing; writes the program binary with names and lines to this file, for `l2-prover bench cycles`.
        #[arg(long, value_name = "FILE", conflicts_with = "check")]
        symbols: Option<PathBuf>,
    },
    /// Builds `program` for a bare RISC-V machine, as a guest without an operating system would.
    Bare,
    /// Runs the tests of what is proven on 32 bits, like a guest, with and without overflow checks.
    Test32,
    /// Fails on a dependency between our crates, or between the rooms of the larger ones, that ARCHITECTURE.md does not
    /// draw, and on a circle of more than two files.
    Layers,
    /// Measures how easy the code is to walk through: files, functions, docs, arrows and circles between modules.
    House {
        /// Another checkout instead of this one.
        #[arg(long, value_name = "FOLDER")]
        tree: Option<PathBuf>,
    },
    /// Fails on a link between pages that leads nowhere, and on a walk of ARCHITECTURE.md through files that do not exist.
    Pages,
    /// Makes the book of docs/ in the target folder, with mdbook; fails on a page that is not in it and on a broken link.
    Book,
    /// Draws the pictures of docs/how-it-works.md from the tables of docs/benchmarks.md and docs/cycles.md.
    Pictures {
        /// Draws nothing; fails if a picture is older than its table.
        #[arg(long)]
        check: bool,
    },
    /// Fails on an unchecked operation in the guest's sources that guests/risc0/unchecked.toml does not explain.
    Unchecked {
        /// Brings the table up to date; new rows need a reason.
        #[arg(long)]
        write: bool,
    },
    /// Fails if `l2-prover` links a prover: each zkVM's is an executable of its own.
    Unlinked {
        /// Looks at the symbols of this executable too.
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
    },
    /// Removes each check marked `SOUNDNESS:` in turn, in a copy of the tree; fails unless a test notices each.
    Soundness {
        /// Removes nothing; fails if a mark has no row in xtask/soundness.toml, or a row has no mark.
        #[arg(long)]
        list: bool,
        /// Removes the checks of guests and no others: each builds a guest and runs it in the zkVM's executor.
        #[arg(long)]
        guest: bool,
        /// Only the checks whose file or mark contains this.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
}

fn main() -> ExitCode {
    // Inside a guest's build, cargo calls this command instead of rustc.
    if std::env::var_os(guests::AS_RUSTC).is_some() {
        return guests::as_rustc();
    }
    let chore = Cli::parse().chore;
    let done = root().and_then(|root| match chore {
        Chore::Guests { symbols: Some(file), .. } => guests::with_symbols(&root, &file),
        Chore::Guests { check: false, .. } => guests::pin(&root),
        Chore::Guests { check: true, .. } => guests::check(&root),
        Chore::Bare => guests::bare(&root),
        Chore::Test32 => test32::run(&root),
        Chore::Layers => layers::check(&root).and_then(|crates| {
            let rooms = rooms::check(&root)?;
            Ok(format!(
                "{crates} arrows between our crates and {rooms} between their rooms, all drawn"
            ))
        }),
        Chore::House { tree } => house::measure(&tree.unwrap_or(root)),
        Chore::Pages => pages::check(&root),
        Chore::Book => book::make(&root),
        Chore::Pictures { check: true } => pictures::check(&root),
        Chore::Pictures { check: false } => pictures::draw(&root),
        Chore::Unchecked { write: false } => unchecked::check(&root),
        Chore::Unchecked { write: true } => unchecked::write(&root),
        Chore::Unlinked { binary } => unlinked::check(&root, binary.as_deref()),
        Chore::Soundness { list, guest, only } => {
            soundness::check(&root, &soundness::Options { list, guest, only })
        }
    });
    match done {
        Ok(told) => {
            say(&told);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The checkout in which `cargo xtask` was called. It is looked up at run time: several checkouts share one target
/// folder, and so one binary of this command.
fn root() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").context("call this as `cargo xtask`")?;
    let root = Path::new(&folder).parent().context("xtask does not lie in a checkout")?;
    Ok(root.to_owned())
}

#[expect(clippy::print_stderr, reason = "a chore's only output is for the person who runs it")]
fn say(text: &str) {
    eprintln!("{text}");
}
