//! The schema of a server's database, and how it is brought to this version's.

use crate::{
    artifacts::Sharing,
    config::Config,
    data_folder::{existing, lock},
    database::{Database, Schema, SchemaReport},
    error::Error,
};

/// What the schema of the server with these settings is, and what [`run`] would do. Changes nothing.
///
/// # Errors
/// Anything that cannot be opened.
pub async fn plan(config: &Config) -> Result<SchemaReport, Error> {
    config.check()?;
    Ok(match &config.database {
        Some(url) => Database::postgres_schema(url).await?,
        None => Database::sqlite_schema(&existing(&config.data_dir)?).await?,
    })
}

/// Brings the database to this version's schema. Servers of the version before may run on PostgreSQL meanwhile, and afterwards.
///
/// # Errors
/// [`Error::FolderInUse`] if a server with SQLite runs there; anything that cannot be opened or changed.
pub async fn run(config: &Config) -> Result<SchemaReport, Error> {
    let plan = plan(config).await?;
    let migrated = match &config.database {
        Some(url) => Database::postgres(url, Schema::Migrated).await?,
        None => {
            let _lock = lock(&config.data_dir, Sharing::Alone)?;
            Database::sqlite(&existing(&config.data_dir)?, Schema::Migrated).await?
        }
    };
    migrated.close().await;
    Ok(plan)
}
