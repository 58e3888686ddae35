//! Garbage collection and backup: which artifacts somebody still needs.

use super::fsck;
use crate::{
    Config, Error,
    artifacts::Artifacts,
    database::{Database, Schema},
    dispatch::JobError,
    store::{JobStore, StoreError},
};
use futures::TryStreamExt;
use protocol::Garbage;
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Artifacts removed under one lock of the database: work waits for it.
const AT_A_TIME: usize = 10;

/// Removes artifacts that nothing needs any more and that were stored longer ago than `age`: inputs of proved jobs,
/// rejected proofs, uploads that were never submitted. With `dry_run` it only counts them.
///
/// Servers go on meanwhile. Nobody can add a batch or hand in a proof while garbage is looked at and removed; an input that
/// is stored again has a new age, and the intake makes sure that it is there when its batch has been added.
///
/// # Errors
/// [`JobError::Store`] or [`JobError::Artifacts`]; what was removed by then was garbage.
pub async fn collect(
    store: &JobStore,
    artifacts: &Artifacts,
    age: Duration,
    dry_run: bool,
) -> Result<Garbage, JobError> {
    let db = store.database();
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let needed = store.needed_artifacts(&mut db.begin_reading().await?).await?;
    let needed: HashSet<_> = needed.into_iter().map(|(artifact, _)| artifact.sha256).collect();
    let mut garbage = Garbage { dry_run, ..Garbage::default() };
    let mut listed = artifacts.list();
    let mut old = Vec::new();
    loop {
        let found = listed.try_next().await?;
        let last = found.is_none();
        if let Some((artifact, stored)) = found {
            if stored < before && !needed.contains(&artifact.sha256) {
                old.push(artifact);
            } else {
                garbage.kept += 1;
            }
        }
        if old.len() < AT_A_TIME && !last {
            continue;
        }
        let mut tx = db.begin().await?;
        db.lock_artifacts(&mut tx).await?;
        for artifact in old.drain(..) {
            // ORDER: asked again under the lock: a batch or a proof may have come with it since.
            let stored = artifacts.stored(artifact.sha256).await;
            if store.needs(&mut tx, artifact.sha256).await? || stored? >= before {
                garbage.kept += 1;
                continue;
            }
            if !dry_run {
                artifacts.delete(artifact.sha256).await?;
            }
            garbage.removed += 1;
            garbage.bytes += artifact.len;
        }
        // The lock goes with the transaction, which wrote nothing.
        drop(tx);
        if last {
            return Ok(garbage);
        }
    }
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
