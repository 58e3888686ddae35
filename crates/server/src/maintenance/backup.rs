//! Backup: a server's jobs and the artifacts that are needed, in a new folder that a server can be started from.

use crate::{
    artifacts::Artifacts,
    config::Config,
    data_folder,
    database::{Database, Schema},
    error::Error,
    store::{JobStore, StoreError},
};
use serde::Serialize;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// The folder. A server that is given it as its `data_dir` goes on from here.
    pub folder: PathBuf,
    /// Whether the jobs are in it: those in PostgreSQL are not.
    pub jobs: bool,
    /// Artifacts copied: those that are needed.
    pub artifacts: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies a server's jobs, unless they are in PostgreSQL, and the artifacts that are needed into a new folder, of which a
/// server can be started. The server may run meanwhile.
///
/// # Errors
/// [`Error::Folder`] if `to` exists and is not empty, or cannot be written; [`Error::Artifacts`] if an artifact is missing
/// or damaged: `fsck` says what to do about it. Then a folder that was new is removed again.
pub async fn backup(config: &Config, to: &Path) -> Result<Backup, Error> {
    config.check()?;
    let new = !to.exists();
    let copied = copy(config, to).await;
    if copied.is_err() && new {
        // What is not complete is no backup. If it cannot be removed, the error that follows is what counts.
        let _left = std::fs::remove_dir_all(to);
    }
    copied
}

async fn copy(config: &Config, to: &Path) -> Result<Backup, Error> {
    let fail = |source| Error::Folder { path: to.into(), source };
    // Before anything is made: what is to be copied is there.
    let from = Artifacts::existing(&config.artifacts_place())?;
    std::fs::create_dir_all(to).map_err(fail)?;
    if std::fs::read_dir(to).map_err(fail)?.next().is_some() {
        return Err(fail(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty")));
    }
    // ORDER: the jobs first. What they need is stored before they are, and nobody removes it.
    let copy = Config { data_dir: to.into(), ..Config::default() };
    let db = match &config.database {
        Some(url) => Database::postgres(url, Schema::AsItIs).await?,
        None => {
            let file = data_folder::existing(&config.data_dir)?;
            let snapshot = to.join(data_folder::JOBS);
            let db = Database::sqlite(&file, Schema::AsItIs).await?;
            let copied = db.copy(&snapshot).await;
            db.close().await;
            copied?;
            Database::sqlite(&snapshot, Schema::AsItIs).await?
        }
    };
    let store = JobStore::reading(db);
    let needed = async {
        let mut tx = store.database().begin_reading().await?;
        store.needed_artifacts(&mut tx).await
    };
    let needed: Result<_, StoreError> = needed.await;
    store.close().await;
    let needed: HashMap<_, _> =
        needed?.into_iter().map(|(artifact, _)| (artifact.sha256, artifact.len)).collect();
    let into = Artifacts::open(&copy.artifacts_place(), u64::MAX)?;
    let backup = Backup {
        folder: to.into(),
        jobs: config.database.is_none(),
        artifacts: needed.len() as u64,
        bytes: needed.values().sum(),
    };
    for id in needed.into_keys() {
        let (pieces, _) = from.reader(id).await?;
        // The hash is checked: a copy of something damaged is no backup.
        into.receive(id, pieces).await?;
    }
    Ok(backup)
}
