//! The data folder: who may use it, and how much room it has.
//!
//! What is under way may use up the space that what is new may not.

use crate::{artifacts::Sharing, config::Limits, error::Error};
use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Makes the folder and takes it for this process, or for all servers on one database. The lock goes with the process,
/// however that ends.
pub(crate) fn lock(folder: &Path, sharing: Sharing) -> Result<File, Error> {
    let fail = |source| Error::Folder { path: folder.into(), source };
    fs::create_dir_all(folder).map_err(fail)?;
    let file = File::options().create(true).append(true).open(folder.join("lock")).map_err(fail)?;
    let locked = match sharing {
        Sharing::Alone => file.try_lock(),
        Sharing::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::FolderInUse(folder.into())),
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

/// Name of the SQLite file in a server's folder.
pub const JOBS: &str = "jobs.sqlite";

/// The SQLite file in a server's folder.
pub(crate) fn existing(data_dir: &Path) -> Result<PathBuf, Error> {
    let file = data_dir.join(JOBS);
    match fs::metadata(&file) {
        Ok(_) => Ok(file),
        Err(source) => Err(Error::Folder { path: file, source }),
    }
}

/// There is too little space left for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the data folder has less than {wanted} bytes left, which are kept free: make room on the server's disk"
)]
pub struct NoRoom {
    /// Bytes that must be.
    pub wanted: u64,
}

/// The space of the data folder. Clones are about the same.
#[derive(Clone, Debug)]
pub struct Space {
    folder: Arc<Path>,
    for_new: u64,
    for_proofs: u64,
}

impl Space {
    /// The space of `folder`.
    pub fn new(folder: &Path, limits: &Limits) -> Self {
        let Limits { min_free_bytes, reserved_free_bytes, .. } = *limits;
        Self {
            folder: PathBuf::from(folder).into(),
            for_new: min_free_bytes,
            for_proofs: reserved_free_bytes,
        }
    }

    /// Whether there is room for something new. Blocks for a moment.
    ///
    /// # Errors
    /// [`NoRoom`] if there is not.
    pub fn for_new(&self) -> Result<(), NoRoom> {
        self.check(self.for_new)
    }

    /// Whether there is room for a proof under way. Blocks for a moment.
    ///
    /// # Errors
    /// [`NoRoom`] if there is not.
    pub fn for_proofs(&self) -> Result<(), NoRoom> {
        self.check(self.for_proofs)
    }

    fn check(&self, wanted: u64) -> Result<(), NoRoom> {
        match free(&self.folder) {
            Ok(free) if free < wanted => Err(NoRoom { wanted }),
            // What a folder that cannot be asked is worth is said by whoever writes to it.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Bytes that this process may still write to the file system of `folder`.
fn free(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
