//! The data folder: who may use it, and how much room it has.
//!
//! What is under way may use up the space that what is new may not.

use crate::{
    artifacts::Sharing,
    config::{Config, Limits},
    error::Error,
};
use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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

/// Between two looks at the disk while an upload comes in, so many bytes come at most. An upload whose length nobody has
/// announced reserves so many at a time.
const STEP: u64 = 4 << 20;

type Free = Arc<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// The space of the data folder. Clones are about the same.
#[derive(Clone)]
pub struct Space {
    free: Free,
    for_new: u64,
    for_proofs: u64,
    /// Whether uploads are written to it.
    holds_artifacts: bool,
    /// Bytes that uploads under way may still write.
    reserved: Arc<AtomicU64>,
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("reserved", &self.reserved).finish_non_exhaustive()
    }
}

impl Space {
    /// The space of the folder of the server that `config` is of.
    pub fn new(config: &Config) -> Self {
        let folder = config.data_dir.clone();
        let free: Free = Arc::new(move || free(&folder));
        Self { holds_artifacts: config.artifacts.is_none(), ..Self::with(free, &config.limits) }
    }

    fn with(free: Free, limits: &Limits) -> Self {
        let Limits { min_free_bytes, reserved_free_bytes, .. } = *limits;
        Self {
            free,
            for_new: min_free_bytes,
            for_proofs: reserved_free_bytes,
            holds_artifacts: true,
            reserved: Arc::default(),
        }
    }

    /// Whether there is room for something new. Blocks for a moment.
    ///
    /// # Errors
    /// [`NoRoom`] if there is not.
    pub fn for_new(&self) -> Result<(), NoRoom> {
        self.check(self.for_new)
    }

    /// Room for an upload of so many bytes; 0 if nobody has said how many. Blocks for a moment.
    ///
    /// # Errors
    /// [`NoRoom`] if there is not, beside that of the uploads under way.
    pub fn reserve(&self, bytes: u64) -> Result<Room, NoRoom> {
        let mut room = Room { space: self.clone(), left: 0, unseen: 0 };
        room.grow(bytes)?;
        Ok(room)
    }

    fn check(&self, wanted: u64) -> Result<(), NoRoom> {
        let reserved = self.reserved.load(Ordering::SeqCst);
        match (self.free)() {
            Ok(free) if free.saturating_sub(reserved) < wanted => Err(NoRoom { wanted }),
            // What a folder that cannot be asked is worth is said by whoever writes to it.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Room that one upload has, until it is dropped.
#[derive(Debug)]
pub struct Room {
    space: Space,
    /// Bytes reserved and not yet written.
    left: u64,
    /// Bytes written since the last look at the disk.
    unseen: u64,
}

impl Room {
    /// So many bytes more are about to be written. Now and again it blocks for a moment.
    ///
    /// # Errors
    /// [`NoRoom`] if there is none for them: the upload has to end.
    pub fn take(&mut self, bytes: u64) -> Result<(), NoRoom> {
        if bytes > self.left {
            self.grow((bytes - self.left).max(STEP))?;
        } else if self.unseen >= STEP {
            // Others write to the disk as well.
            self.space.check(self.space.for_proofs)?;
            self.unseen = 0;
        }
        self.unseen += bytes;
        self.release(bytes);
        Ok(())
    }

    fn grow(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let bytes = if self.space.holds_artifacts { bytes } else { 0 };
        // ORDER: counted before it is looked whether there is room, or two uploads take the same.
        self.space.reserved.fetch_add(bytes, Ordering::SeqCst);
        self.left += bytes;
        self.unseen = 0;
        self.space.check(self.space.for_proofs)
    }

    fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.space.reserved.fetch_sub(bytes, Ordering::SeqCst);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.release(self.left);
    }
}

/// Bytes that this process may still write to the file system of `folder`.
fn free(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_under_way_do_not_take_the_same_room() {
        const MB: u64 = 1 << 20;
        let disk = Arc::new(AtomicU64::new(100 * MB));
        let seen = disk.clone();
        let limits =
            Limits { reserved_free_bytes: 50 * MB, min_free_bytes: 60 * MB, ..Limits::default() };
        let space = Space::with(Arc::new(move || Ok(seen.load(Ordering::SeqCst))), &limits);
        let refused = NoRoom { wanted: 50 * MB };
        let writes = |room: &mut Room, mb: u64| {
            for _ in 0..mb {
                room.take(MB)?;
                disk.fetch_sub(MB, Ordering::SeqCst);
            }
            Ok::<_, NoRoom>(())
        };

        // 50 MB may be written: one takes 30, so another of 30 finds too little.
        let mut first = space.reserve(30 * MB).unwrap();
        assert_eq!(space.reserve(30 * MB).unwrap_err(), refused);
        let mut second = space.reserve(20 * MB).unwrap();
        assert_eq!(space.for_new().unwrap_err(), NoRoom { wanted: 60 * MB });
        // It is the same while they write, and what they have written is not counted twice.
        writes(&mut first, 10).unwrap();
        assert_eq!(space.reserve(1).unwrap_err(), refused);
        writes(&mut first, 20).unwrap();
        writes(&mut second, 10).unwrap();
        // One breaks off: its room is free again.
        drop(second);
        let third = space.reserve(10 * MB).unwrap();
        drop((first, third));

        // One that does not say how long it is ends before the reserve is touched.
        let mut endless = space.reserve(0).unwrap();
        assert_eq!(writes(&mut endless, 100).unwrap_err(), refused);
        assert!(disk.load(Ordering::SeqCst) >= 50 * MB);
        drop(endless);

        // Somebody else fills the disk meanwhile.
        disk.store(100 * MB, Ordering::SeqCst);
        let mut long = space.reserve(40 * MB).unwrap();
        writes(&mut long, 1).unwrap();
        disk.store(20 * MB, Ordering::SeqCst);
        assert_eq!(writes(&mut long, 10).unwrap_err(), refused);
    }
}
