//! Tests of what is proven, built for 32 bits.
//!
//! A guest counts in 32 bits, an ordinary test in 64. So the tests of `program` and `conformance` are built for 32-bit
//! x86 with the guests' compiler and its standard library, and run on this machine: once with overflow checks and debug
//! assertions, which stop at a number that does not fit, and once without either, where it wraps.
//!
//! Cryptography is C here, as it is natively (secp256k1, blst, c-kzg, compiled with `-m32`); Keccak is Rust's. The
//! guest's own cryptography is compared in the zkVM (`crates/prover-risc0/tests/crypto.rs`).

use std::path::Path;

use anyhow::ensure;

use crate::guests::{self, Compiler};

const TARGET: &str = "i686-unknown-linux-gnu";
/// Crates whose tests run.
const CRATES: [&str; 2] = ["program", "conformance"];

/// What happens to numbers that do not fit, and whether overflow checks are on.
const BUILDS: [(&str, &str); 2] = [("with overflow checks", "true"), ("wrapping", "false")];

/// Builds and runs the tests in both ways.
///
/// # Errors
/// Names what is missing for the build, or the build in which a test failed.
pub(crate) fn run(root: &Path) -> anyhow::Result<String> {
    let compiler = Compiler::find()?;
    ensure!(
        has_libraries(),
        "there are no C libraries for 32 bits: install Debian's packages gcc-multilib and libc6-dev-i386"
    );
    // One folder: build scripts and procedural macros are the same for both builds.
    let target = guests::target_folder(root)?.join("test32");
    let mut failed = Vec::new();
    for (name, checks) in BUILDS {
        let mut cargo = compiler.cargo(root, &[]);
        // Nothing here depends on the path of the checkout, so rustc needs no wrapper.
        cargo.env_remove("RUSTC_WRAPPER").env_remove(guests::AS_RUSTC);
        cargo.current_dir(root).args(["test", "--locked", "--lib", "--tests", "--no-fail-fast"]);
        cargo.args(CRATES.iter().flat_map(|package| ["--package", package]));
        cargo.args([
            "--profile",
            "test32",
            "--target",
            TARGET,
            "-Zbuild-std=std,panic_unwind,test",
        ]);
        cargo.arg("--target-dir").arg(&target);
        cargo.env("CARGO_INCREMENTAL", "0");
        for (setting, value) in [
            ("OVERFLOW_CHECKS", checks),
            ("DEBUG_ASSERTIONS", checks),
            ("BUILD_OVERRIDE_OVERFLOW_CHECKS", "false"),
            ("BUILD_OVERRIDE_DEBUG_ASSERTIONS", "false"),
        ] {
            cargo.env(format!("CARGO_PROFILE_TEST32_{setting}"), value);
        }
        crate::say(&format!("== 32 bits, {name}"));
        if let Err(error) = guests::run(&mut cargo) {
            crate::say(&format!("32 bits, {name}: {error:#}"));
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "tests for 32 bits failed: {}", failed.join(" and "));
    Ok(format!(
        "the tests of {} pass on 32 bits, with overflow checks and wrapping",
        CRATES.join(" and ")
    ))
}

/// Whether a C compiler finds what Debian's `libc6-dev-i386` installs, and GCC's library for 32 bits.
fn has_libraries() -> bool {
    let gcc = ["-m32", "-print-file-name=libgcc_s.so.1"];
    let libc = ["-m32", "-print-file-name=libc.so"];
    [gcc, libc].iter().all(|question| {
        // The compiler prints the name unchanged if it does not find the file.
        guests::output(std::process::Command::new("cc").args(question))
            .is_ok_and(|path| Path::new(&path).is_absolute())
    })
}
