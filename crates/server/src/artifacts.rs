//! Artifacts: immutable bytes in a folder, by their SHA-256.
//!
//! * A file under its final name is complete and durable: written to a temporary file, synced, renamed, folder synced.
//! * Bytes stream through in pieces; no artifact is held in memory unless it is asked for whole.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use protocol::{ArtifactId, ArtifactRef};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

/// Bytes read or written at a time.
const PIECE: usize = 256 * 1024;

/// Why bytes could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Nothing is stored under this name.
    #[error("there is no artifact {0}")]
    Missing(ArtifactId),
    /// More bytes than allowed.
    #[error("an artifact must not have more than {limit} bytes (max_artifact_bytes)")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The bytes are not those that were announced.
    #[error("the bytes hash to {found}, not to {expected}: send them again")]
    HashMismatch {
        /// What was announced.
        expected: ArtifactId,
        /// What the bytes hash to.
        found: ArtifactId,
    },
    /// The stored bytes are not what they were.
    #[error("file {} is damaged: restore it, or delete it and let it be made anew", .0.display())]
    Damaged(PathBuf),
    /// The sender stopped in the middle.
    #[error("the bytes ended early: {0}")]
    Interrupted(String),
    /// The disk failed.
    #[error("{} failed", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Whether other servers use the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// None may.
    Alone,
    /// All that use the same database.
    Shared,
}

/// What was half written and then not touched for so long is left from a crash.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A folder of artifacts. Clones share it.
#[derive(Clone, Debug)]
pub struct Artifacts {
    root: Arc<Path>,
    limit: u64,
}

type Result<T, E = ArtifactError> = std::result::Result<T, E>;

impl Artifacts {
    /// Opens the folder, makes it if it is missing, and clears what was half written: all of it, or, where other servers
    /// may be writing, what nobody has touched for a day. Blocks.
    ///
    /// `limit` is the most bytes an artifact may have.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub fn open(root: &Path, limit: u64, sharing: Sharing) -> Result<Self> {
        let tmp = root.join("tmp");
        let clear = || {
            fs::create_dir_all(&tmp)?;
            for file in fs::read_dir(&tmp)? {
                let file = file?;
                let stale = match sharing {
                    Sharing::Alone => true,
                    Sharing::Shared => {
                        file.metadata()?.modified()?.elapsed().is_ok_and(|age| age > STALE)
                    }
                };
                if stale {
                    fs::remove_file(file.path())?;
                }
            }
            Ok::<_, io::Error>(())
        };
        match clear() {
            // Another server cleared it at the same time, or finished what it was writing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(io_error(&tmp))?,
        }
        Ok(Self { root: root.into(), limit })
    }

    /// The folder as it is, to read from.
    pub fn existing(root: &Path) -> Self {
        Self { root: root.into(), limit: u64::MAX }
    }

    /// Stores bytes made here.
    ///
    /// # Errors
    /// [`ArtifactError::TooLarge`] or [`ArtifactError::Io`].
    pub async fn put(&self, bytes: Vec<u8>) -> Result<ArtifactRef> {
        let mut incoming = Incoming::new(self.clone())?;
        join(spawn_blocking(move || {
            incoming.write(&bytes)?;
            incoming.finish(None)
        }))
        .await
    }

    /// Stores bytes that arrive in pieces, if they hash to `expected`.
    ///
    /// # Errors
    /// [`ArtifactError::HashMismatch`], [`ArtifactError::TooLarge`], [`ArtifactError::Interrupted`] or
    /// [`ArtifactError::Io`]; nothing is kept then.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        expected: ArtifactId,
        pieces: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<ArtifactRef> {
        let mut pieces = std::pin::pin!(pieces);
        let mut incoming = Incoming::new(self.clone())?;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| ArtifactError::Interrupted(error.to_string()))?;
            incoming =
                join(spawn_blocking(move || incoming.write(&piece).map(|()| incoming))).await?;
        }
        join(spawn_blocking(move || incoming.finish(Some(expected)))).await
    }

    /// Opens an artifact for reading, and tells its length.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`] or [`ArtifactError::Io`].
    pub async fn reader(&self, id: ArtifactId) -> Result<(tokio::fs::File, u64)> {
        let path = self.path(&id);
        let file = match tokio::fs::File::open(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ArtifactError::Missing(id));
            }
            other => other.map_err(io_error(&path))?,
        };
        let len = file.metadata().await.map_err(io_error(&path))?.len();
        Ok((file, len))
    }

    /// Reads an artifact whole and checks its hash.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Damaged`] or [`ArtifactError::Io`].
    pub async fn read(&self, id: ArtifactId) -> Result<Vec<u8>> {
        let path = self.path(&id);
        join(spawn_blocking(move || {
            let mut bytes = Vec::new();
            match fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(ArtifactError::Missing(id))
                }
                Err(error) => Err(io_error(&path)(error)),
                Ok(_) if ArtifactId::of(&bytes) == id => Ok(bytes),
                Ok(_) => Err(ArtifactError::Damaged(path)),
            }
        }))
        .await
    }

    /// Whether bytes can be stored now: writes some, durably, and removes them.
    ///
    /// # Errors
    /// [`ArtifactError::Io`].
    pub async fn probe(&self) -> Result<()> {
        let mut incoming = Incoming::new(self.clone())?;
        join(spawn_blocking(move || {
            incoming.write(&[0])?;
            incoming.file.as_file().sync_all().map_err(io_error(incoming.file.path()))
        }))
        .await
    }

    fn path(&self, id: &ArtifactId) -> PathBuf {
        let name = id.to_string();
        self.root.join(&name[..2]).join(name)
    }
}

/// Bytes on their way to the disk. Dropping it forgets them.
struct Incoming {
    artifacts: Artifacts,
    file: NamedTempFile,
    hash: Sha256,
    len: u64,
}

impl Incoming {
    fn new(artifacts: Artifacts) -> Result<Self> {
        let tmp = artifacts.root.join("tmp");
        let file = NamedTempFile::new_in(&tmp).map_err(io_error(&tmp))?;
        Ok(Self { artifacts, file, hash: Sha256::new(), len: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        let limit = self.artifacts.limit;
        if self.len > limit {
            return Err(ArtifactError::TooLarge { limit });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(io_error(self.file.path()))
    }

    fn finish(self, expected: Option<ArtifactId>) -> Result<ArtifactRef> {
        let found = ArtifactId::from_bytes(self.hash.finalize().into());
        if let Some(expected) = expected
            && expected != found
        {
            return Err(ArtifactError::HashMismatch { expected, found });
        }
        let path = self.artifacts.path(&found);
        let folder = path.parent().expect("an artifact lies in a folder");
        // ORDER: bytes, name, folder: a file that can be found is complete, even after a power cut.
        self.file.as_file().sync_all().map_err(io_error(self.file.path()))?;
        if !folder.exists() {
            fs::create_dir_all(folder).map_err(io_error(folder))?;
            sync_folder(&self.artifacts.root)?;
        }
        self.file.persist(&path).map_err(|error| io_error(&path)(error.error))?;
        sync_folder(folder)?;
        Ok(ArtifactRef { sha256: found, len: self.len })
    }
}

/// The pieces of an open file, for a response's body.
pub fn pieces(file: tokio::fs::File) -> impl Stream<Item = io::Result<Bytes>> {
    tokio_util::io::ReaderStream::with_capacity(file, PIECE)
}

fn sync_folder(folder: &Path) -> Result<()> {
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { path, source }
}

async fn join<T>(task: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(ArtifactError::Interrupted(error.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pieces: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, io::Error>> + use<> {
        futures::stream::iter(
            pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect::<Vec<_>>(),
        )
    }

    #[tokio::test]
    async fn bytes_are_kept_under_their_hash_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(dir.path(), 6, Sharing::Alone).unwrap();
        let id = ArtifactId::of(b"abcdef");

        let missing = artifacts.read(id).await.unwrap_err();
        assert!(matches!(missing, ArtifactError::Missing(found) if found == id));
        let wrong = artifacts.receive(id, stream(&[b"abc", b"xyz"])).await.unwrap_err();
        assert!(matches!(wrong, ArtifactError::HashMismatch { expected, .. } if expected == id));
        let long = artifacts.receive(id, stream(&[b"abc", b"def", b"g"])).await.unwrap_err();
        assert!(matches!(long, ArtifactError::TooLarge { limit: 6 }));
        let cut = futures::stream::iter([Ok(Bytes::from_static(b"abc")), Err("connection reset")]);
        assert!(matches!(
            artifacts.receive(id, cut).await.unwrap_err(),
            ArtifactError::Interrupted(_)
        ));
        assert!(matches!(artifacts.reader(id).await.unwrap_err(), ArtifactError::Missing(_)));
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);

        for _ in 0..2 {
            let stored = artifacts.receive(id, stream(&[b"abc", b"def"])).await.unwrap();
            assert_eq!(stored, ArtifactRef { sha256: id, len: 6 });
        }
        assert_eq!(artifacts.put(b"abcdef".to_vec()).await.unwrap().sha256, id);
        assert_eq!(artifacts.read(id).await.unwrap(), b"abcdef");

        fs::write(artifacts.path(&id), b"abcdeX").unwrap();
        assert!(matches!(artifacts.read(id).await.unwrap_err(), ArtifactError::Damaged(_)));
    }
}
