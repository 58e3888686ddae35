//! Garbage collection: artifacts that nobody needs any more.

use crate::{artifacts::Artifacts, dispatch::JobError, store::JobStore};
use futures::TryStreamExt;
use protocol::Garbage;
use std::{
    collections::HashSet,
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
