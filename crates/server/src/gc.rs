//! Garbage collection and backup: which artifacts somebody still needs.

use crate::{
    Config, Error,
    artifacts::{ArtifactError, Artifacts},
    jobs::{
        StoreError,
        database::{Database, Schema},
        fsck,
        store::JobStore,
    },
};
use futures::{StreamExt, TryStreamExt};
use protocol::{ArtifactId, Garbage};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Artifacts looked at under one lock of the database.
const LOOKED_AT: usize = 100;

/// Removes artifacts that nothing needs any more and that were stored longer ago than `age`: inputs of proved jobs,
/// rejected proofs, uploads that were never submitted. With `dry_run` it only counts them.
///
/// Servers go on meanwhile. Nobody can add a batch or hand in a proof while a piece of garbage is looked at and removed, and an
/// input that is stored again has a new age; the intake makes sure that an input is still there when its batch is added.
///
/// # Errors
/// [`Error::Store`] or [`Error::Artifacts`]; what was removed by then was garbage.
pub async fn collect(
    store: &JobStore,
    artifacts: &Artifacts,
    age: Duration,
    dry_run: bool,
) -> Result<Garbage, Error> {
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut garbage = Garbage { dry_run, ..Garbage::default() };
    let mut listed = artifacts.list().chunks(LOOKED_AT);
    while let Some(found) = listed.next().await {
        let mut old = Vec::new();
        for found in found {
            let (artifact, stored) = found?;
            if stored < before {
                old.push(artifact);
            } else {
                garbage.kept += 1;
            }
        }
        let mut tx = store.database().begin().await?;
        store.database().lock_artifacts(&mut tx).await?;
        let needed: HashSet<ArtifactId> = store
            .needed_artifacts(&mut tx)
            .await?
            .into_iter()
            .map(|(artifact, _)| artifact.sha256)
            .collect();
        for artifact in old {
            let renewed = async || match artifacts.stored(artifact.sha256).await {
                Err(ArtifactError::Missing(_)) => Ok(true),
                stored => stored.map(|stored| stored >= before),
            };
            if needed.contains(&artifact.sha256) || renewed().await? {
                garbage.kept += 1;
                continue;
            }
            garbage.removed += 1;
            garbage.bytes += artifact.len;
            if !dry_run {
                artifacts.delete(artifact.sha256).await?;
            }
        }
        // The lock goes with the transaction, which has written nothing.
        drop(tx);
    }
    Ok(garbage)
}

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
/// or damaged: `fsck` says what to do about it.
pub async fn backup(config: &Config, to: &Path) -> Result<Backup, Error> {
    config.check()?;
    let fail = |source| Error::Folder { path: to.into(), source };
    std::fs::create_dir_all(to).map_err(fail)?;
    if std::fs::read_dir(to).map_err(fail)?.next().is_some() {
        return Err(fail(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty")));
    }
    // ORDER: the jobs first. What they need is stored before they are, and nobody removes it.
    let copy = Config { data_dir: to.into(), ..Config::default() };
    let db = match &config.database {
        Some(url) => Database::postgres(url, Schema::AsItIs).await?,
        None => {
            let file = fsck::existing(&config.data_dir)?;
            let snapshot = to.join("jobs.sqlite");
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
    let from = Artifacts::existing(&config.artifacts_place())?;
    let into = Artifacts::open(&copy.artifacts_place(), u64::MAX)?;
    let mut backup = Backup {
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
