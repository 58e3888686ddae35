//! Helpers for tests of official fixtures.

use std::path::PathBuf;

/// The archive with this name in the data folder; prints what is skipped if it is absent.
#[expect(clippy::print_stdout, reason = "a test that skips something says so")]
pub(crate) fn archive(name: &str, skipped: &str) -> Option<PathBuf> {
    let archive = std::env::var_os("L2_PROVER_DATA")
        .map(|folder| PathBuf::from(folder).join("official").join(name))
        .filter(|path| path.exists());
    if archive.is_none() {
        println!("skipped: {skipped}, because L2_PROVER_DATA names no folder with them");
    }
    archive
}
