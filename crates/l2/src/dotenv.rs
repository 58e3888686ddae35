//! The file `.env` in the working folder: fills variables that the environment does not set.

use anyhow::Context as _;

/// Loads `.env` if there is one. Must run before any thread is started and before flags are parsed.
///
/// # Errors
/// If the file is there but malformed: a setting that silently does not count would be worse.
pub(crate) fn load() -> anyhow::Result<()> {
    match dotenvy::from_path(".env") {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(error).context("failed to read .env in the working folder"),
    }
}
