//! `l2-prover` holds no proving code: its dependencies have none, and neither has a built executable.
//!
//! * Every zkVM's prover is an executable of its own (docs/prover-protocol.md). `verifier` uses RISC Zero's crates too, without their features
//!   for proving.
//! * The dependencies are those of a build of `l2` alone: cargo unites the features of whatever is built in one call.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Features of a zkVM's crates that bring its executor or prover.
const FEATURES: [&str; 5] = ["client", "cuda", "execute", "metal", "prove"];

/// The prover that has other machines prove: it is in an executable of its own too, and holds nothing that proves, which the features
/// of its dependencies show like everybody's.
const REMOTE: &str = "prover-bonsai";

/// Beginnings of the names of zkVMs' crates.
const ZKVMS: [&str; 2] = ["risc0", "sp1"];

/// Parts of the names of symbols, mangled, that only proving code has.
const SYMBOLS: [&str; 7] = [
    "risc0_zkp5prove",
    "risc0_zkvm4host6server",
    "risc0_circuit_rv32im5prove",
    "risc0_circuit_rv32im_cpu",
    "risc0_circuit_recursion5prove",
    "risc0_circuit_recursion_cpu",
    "risc0_circuit_keccak_cpu",
];

/// A part of the name of symbols that `l2-prover` has, because it verifies: without it there is nothing to see in the file.
const VERIFIER: &str = "risc0_zkp6verify";

/// Checks the dependencies of `l2` in the checkout at `root`, and the symbols of the executable `binary` if there is one.
///
/// # Errors
/// Names every crate, feature and symbol of a prover.
pub(crate) fn check(root: &Path, binary: Option<&Path>) -> anyhow::Result<String> {
    let tree = run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args([
            "tree",
            "--locked",
            "--package",
            "l2",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}|{f}",
        ]))?;
    let faults = crates_that_prove(&tree);
    ensure!(faults.is_empty(), "l2-prover links a prover:\n  {}", faults.join("\n  "));
    let Some(binary) = binary else {
        return Ok("l2-prover depends on no prover".to_owned());
    };
    let symbols = run(Command::new("nm").arg(binary))?;
    if !symbols.contains(VERIFIER) {
        bail!("{} has no symbols: give the file with its symbols, `.debug`", binary.display());
    }
    let faults = symbols_that_prove(&symbols);
    ensure!(
        faults.is_empty(),
        "{} holds proving code:\n  {}",
        binary.display(),
        faults.join("\n  ")
    );
    Ok(format!("l2-prover depends on no prover, and {} holds none", binary.display()))
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What proves among the lines `NAME vVERSION ...|FEATURE,FEATURE`.
fn crates_that_prove(tree: &str) -> Vec<String> {
    let mut faults: Vec<String> = tree
        .lines()
        .filter_map(|line| {
            let (package, features) = line.split_once('|')?;
            let name = package.split(' ').next()?;
            let of_a_zkvm = ZKVMS.iter().any(|zkvm| name.starts_with(zkvm));
            let proves = name.starts_with("prover-") && name != REMOTE
                || of_a_zkvm && name.ends_with("-sys")
                || of_a_zkvm
                    && features.split([',', ' ']).any(|feature| FEATURES.contains(&feature));
            proves.then(|| format!("{name} ({features})"))
        })
        .collect();
    faults.sort();
    faults.dedup();
    faults
}

/// The first few symbols of proving code in the output of `nm`.
fn symbols_that_prove(symbols: &str) -> Vec<&str> {
    let proves = |line: &&str| SYMBOLS.iter().any(|symbol| line.contains(symbol));
    symbols.lines().filter(proves).take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prover_is_found_by_its_crate_its_native_code_and_its_features() {
        let clean = "l2 v0.1.0 (/l2)|\nprover-bonsai v0.1.0 (/b)|\nrisc0-zkvm v3.1.0|std\nzstd-sys v2|legacy\nclap v4|client";
        assert_eq!(crates_that_prove(clean), Vec::<String>::new());
        for (line, fault) in [
            ("prover-risc0 v0.1.0 (/p)|", "prover-risc0 ()"),
            ("risc0-circuit-rv32im-sys v4.0.4|", "risc0-circuit-rv32im-sys ()"),
            ("risc0-zkvm v3.1.0|prove,std (*)", "risc0-zkvm (prove,std (*))"),
        ] {
            assert_eq!(crates_that_prove(&format!("{clean}\n{line}\n{line}")), [fault]);
        }
    }

    #[test]
    fn a_symbol_of_a_prover_is_found() {
        let verifies = "0001 T _ZN9risc0_zkp6verify5merkle17h0E";
        assert_eq!(symbols_that_prove(verifies), Vec::<&str>::new());
        let proves = "0002 T _ZN9risc0_zkp5prove6prover17h0E";
        assert_eq!(symbols_that_prove(&format!("{verifies}\n{proves}")), [proves]);
    }
}
