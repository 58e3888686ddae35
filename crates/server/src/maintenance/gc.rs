//! Garbage collection: artifacts that nobody needs any more.

use crate::{
    artifacts::Artifacts,
    clock::Timestamp,
    dispatch::JobError,
    store::{Actor, JobStore, StoreError},
};
use futures::TryStreamExt;
use protocol::{ArtifactRef, Garbage};
use std::time::{Duration, SystemTime};

/// What was stored within so long may be on its way into the database.
const FRESH: Duration = Duration::from_secs(10);

/// So long it has for that before it is looked up.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// So many artifacts are looked up in the database at once.
const AT_A_TIME: usize = 100;

/// Removes artifacts that nothing needs any more and that were stored longer ago than `age`: inputs of proved jobs,
/// rejected proofs, uploads that were never submitted. With `dry_run` it only counts them.
///
/// Servers go on meanwhile, and nobody waits for it: it only reads the database. Something may come to be needed between
/// the look and the removal, but then it is made again. The intake stores an input again if it is not there when its batch has been
/// added. A client that hands in a proof which it uploaded long ago is asked for the bytes again.
///
/// # Errors
/// [`JobError::Store`] or [`JobError::Artifacts`]; what was removed by then was garbage.
pub async fn collect(
    store: &JobStore,
    artifacts: &Artifacts,
    age: Duration,
    dry_run: bool,
) -> Result<Garbage, JobError> {
    let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut garbage = Garbage { dry_run, ..Garbage::default() };
    let mut listed = artifacts.list();
    let (mut old, mut fresh): (Vec<ArtifactRef>, _) = (Vec::new(), false);
    loop {
        let found = listed.try_next().await?;
        let last = found.is_none();
        match found {
            Some((artifact, stored)) if stored < before => {
                fresh |= stored.elapsed().is_ok_and(|age| age < FRESH);
                old.push(artifact);
            }
            Some(_) => garbage.kept += 1,
            None => {}
        }
        if old.len() < AT_A_TIME && !last {
            continue;
        }
        if std::mem::take(&mut fresh) {
            tokio::time::sleep(ON_ITS_WAY).await;
        }
        let ids: Vec<_> = old.iter().map(|artifact| artifact.sha256).collect();
        let needed = store.needed_of(&ids).await?;
        for artifact in old.drain(..) {
            // It may have been stored again since it was listed.
            let needed = needed.contains(&artifact.sha256);
            if needed || artifacts.stored(artifact.sha256).await? >= before {
                garbage.kept += 1;
                continue;
            }
            if !dry_run {
                artifacts.delete(artifact.sha256).await?;
            }
            garbage.removed += 1;
            garbage.bytes += artifact.len;
        }
        if last {
            return Ok(garbage);
        }
    }
}

/// Records that `by` had garbage removed.
///
/// # Errors
/// [`StoreError`] if the database fails.
pub async fn record(
    store: &JobStore,
    garbage: &Garbage,
    by: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let subject = format!("{} artifacts", garbage.removed);
    let detail = Some(format!("{} bytes, {} kept", garbage.bytes, garbage.kept));
    store.note(by, "garbage", subject, detail, now).await
}
