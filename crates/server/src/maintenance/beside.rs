//! The jobs and artifacts of a server that may be running, for a process beside it.

use crate::{
    artifacts::Artifacts,
    config::Config,
    data_folder::existing,
    database::{Database, Schema},
    error::Error,
    store::JobStore,
};

/// Opens what the server with these settings has. The store decides nothing about its jobs.
///
/// # Errors
/// Anything that cannot be opened, or has the schema of another version.
pub async fn open(config: &Config) -> Result<(JobStore, Artifacts), Error> {
    config.check()?;
    let database = match &config.database {
        Some(url) => Database::postgres(url, Schema::AsItIs).await?,
        None => Database::sqlite(&existing(&config.data_dir)?, Schema::AsItIs).await?,
    };
    let artifacts = Artifacts::existing(&config.artifacts_place())?;
    Ok((JobStore::reading(database), artifacts))
}
