//! Artifacts: immutable bytes by their SHA-256, in a folder or in an S3-compatible store.
//!
//! * What can be found under a name is complete and durable: a folder's files are synced, renamed, and the folder synced; an
//!   S3 store shows an upload when all of it is there.
//! * Bytes stream through in pieces; no artifact is held in memory unless it is asked for whole.

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    RetryConfig, WriteMultipart, aws::AmazonS3Builder, local::LocalFileSystem, memory::InMemory,
    path::Path as Location, prefix::PrefixStore,
};
use protocol::{ArtifactId, ArtifactRef};
use sha2::{Digest, Sha256};
use std::{
    convert::Infallible,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::io::AsyncSeekExt;
use tokio_util::io::ReaderStream;
use url::Url;

/// Bytes read from or written to a file at a time.
const PIECE: usize = 256 * 1024;

/// Bytes sent to an S3 store at a time. It takes no less than 5 MiB and no more than 10,000 parts.
const PART: usize = 8 * 1024 * 1024;

/// An S3-compatible store that fails is asked again for so long; then the request that needs it fails.
const OUTAGE: Duration = Duration::from_secs(20);

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
    #[error("artifact {0} is damaged: restore it, or delete it and let it be made anew")]
    Damaged(ArtifactId),
    /// The sender stopped in the middle.
    #[error("the bytes ended early: {0}")]
    Interrupted(String),
    /// The place cannot be used.
    #[error("artifacts cannot be kept in {place}")]
    Place {
        /// A folder, or a store's address.
        place: String,
        /// What the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk or the store failed.
    #[error("the store of artifacts failed")]
    Store(#[from] object_store::Error),
}

/// Where artifacts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder. Whether other servers use it, too.
    Folder(PathBuf, Sharing),
    /// An S3-compatible store: `s3://BUCKET/PREFIX`. Credentials, region and endpoint are those of the environment, in the
    /// names of the AWS command line: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, and
    /// `AWS_ALLOW_HTTP`.
    S3(Url),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(root, _) => write!(f, "folder {}", root.display()),
            Self::S3(url) => url.fmt(f),
        }
    }
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

/// A store of artifacts. Clones share it.
#[derive(Clone, Debug)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
    part: usize,
    limit: u64,
}

type Result<T, E = ArtifactError> = std::result::Result<T, E>;

impl Artifacts {
    /// Opens the place. A folder is made if it is missing, and cleared of what was half written: all of it, or, where other
    /// servers may be writing, what nobody has touched for a day. Blocks.
    ///
    /// `limit` is the most bytes an artifact may have.
    ///
    /// # Errors
    /// [`ArtifactError::Place`]. Whether an S3 store answers is only known when it is used.
    pub fn open(place: &Place, limit: u64) -> Result<Self> {
        if let Place::Folder(root, sharing) = place {
            let cleared = fs::create_dir_all(root).and_then(|()| clear(root, *sharing));
            cleared.map_err(|source| unusable(place, source))?;
        }
        Ok(Self { limit, ..Self::existing(place)? })
    }

    /// The place as it is, to read from.
    ///
    /// # Errors
    /// [`ArtifactError::Place`].
    pub fn existing(place: &Place) -> Result<Self> {
        let (store, part): (Arc<dyn ObjectStore>, _) = match place {
            // One that is gone holds nothing.
            Place::Folder(root, _) if !root.exists() => (Arc::new(InMemory::new()), PIECE),
            Place::Folder(root, _) => {
                let folder = LocalFileSystem::new_with_prefix(root);
                let folder = folder.map_err(|source| unusable(place, source))?;
                (Arc::new(folder.with_fsync(true)), PIECE)
            }
            Place::S3(url) => {
                // Already there if it is not the first: it is the same one then, or what the program chose.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let s3 = AmazonS3Builder::from_env()
                    .with_url(url.as_str())
                    .with_retry(RetryConfig { retry_timeout: OUTAGE, ..RetryConfig::default() });
                let s3 = s3.build().map_err(|source| unusable(place, source))?;
                (Arc::new(PrefixStore::new(s3, url.path().trim_matches('/'))), PART)
            }
        };
        Ok(Self { store, part, limit: u64::MAX })
    }

    /// The most bytes an artifact may have.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Stores bytes made here.
    ///
    /// # Errors
    /// [`ArtifactError::TooLarge`] or [`ArtifactError::Store`].
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<ArtifactRef> {
        let bytes = bytes.into();
        let all = bytes.clone();
        let id = blocking(move || ArtifactId::of(&all)).await;
        let pieces = (0..bytes.len()).step_by(PIECE);
        let pieces =
            pieces.map(|at| Ok::<_, Infallible>(bytes.slice(at..bytes.len().min(at + PIECE))));
        self.receive(id, futures::stream::iter(pieces)).await
    }

    /// Stores bytes made here again, if they are gone: what was stored long ago may have been removed as garbage just before
    /// something came to need it.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub async fn put_again(&self, id: ArtifactId, bytes: Bytes) -> Result<()> {
        if let Err(ArtifactError::Missing(_)) = self.len(id).await {
            self.put(bytes).await?;
        }
        Ok(())
    }

    /// Stores bytes that arrive in pieces, if they hash to `expected`.
    ///
    /// # Errors
    /// [`ArtifactError::HashMismatch`], [`ArtifactError::TooLarge`], [`ArtifactError::Interrupted`] or
    /// [`ArtifactError::Store`]; nothing is kept then.
    pub async fn receive<E: fmt::Display>(
        &self,
        expected: ArtifactId,
        pieces: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<ArtifactRef> {
        let upload = self.store.put_multipart(&location(&expected)).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, self.part);
        match self.write(expected, pieces, &mut upload).await {
            Ok(len) => {
                upload.finish().await?;
                Ok(ArtifactRef { sha256: expected, len })
            }
            Err(error) => {
                // What it could not take back is cleared at the next start, or by the bucket's own rules.
                if let Err(error) = upload.abort().await {
                    tracing::warn!(
                        code = "half_upload_left",
                        error = &error as &dyn std::error::Error,
                        "a half upload is left"
                    );
                }
                Err(error)
            }
        }
    }

    async fn write<E: fmt::Display>(
        &self,
        expected: ArtifactId,
        pieces: impl Stream<Item = Result<Bytes, E>>,
        upload: &mut WriteMultipart,
    ) -> Result<u64> {
        let mut pieces = std::pin::pin!(pieces);
        let (mut hash, mut len) = (Sha256::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| ArtifactError::Interrupted(error.to_string()))?;
            len += piece.len() as u64;
            if len > self.limit {
                return Err(ArtifactError::TooLarge { limit: self.limit });
            }
            hash.update(&piece);
            // One part on its way while the next one fills: memory is bounded, however fast a client sends.
            upload.wait_for_capacity(1).await?;
            upload.put(piece);
        }
        match ArtifactId::from_bytes(hash.finalize().into()) {
            found if found == expected => Ok(len),
            found => Err(ArtifactError::HashMismatch { expected, found }),
        }
    }

    /// An artifact's length in bytes.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`] or [`ArtifactError::Store`].
    pub async fn len(&self, id: ArtifactId) -> Result<u64> {
        Ok(self.store.head(&location(&id)).await.map_err(missing(id))?.size)
    }

    /// Opens an artifact for reading, and tells its length. Nothing says that its bytes are still those of its name: who
    /// reads them must check.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`] or [`ArtifactError::Store`].
    pub async fn reader(
        &self,
        id: ArtifactId,
    ) -> Result<(BoxStream<'static, Result<Bytes, io::Error>>, u64)> {
        self.reader_from(id, 0).await
    }

    /// The same without the first `from` bytes, of which it must have more. The length is that of the whole.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`] or [`ArtifactError::Store`].
    pub async fn reader_from(
        &self,
        id: ArtifactId,
        from: u64,
    ) -> Result<(BoxStream<'static, Result<Bytes, io::Error>>, u64)> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, ..GetOptions::default() };
        let found = self.store.get_opts(&location(&id), options).await.map_err(missing(id))?;
        let len = found.meta.size;
        let pieces = match found.payload {
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                // The file is the whole one, whatever range was asked for.
                let sought = file.seek(io::SeekFrom::Start(from)).await;
                sought.map_err(|source| object_store::Error::Generic {
                    store: "file",
                    source: source.into(),
                })?;
                ReaderStream::with_capacity(file, PIECE).boxed()
            }
            GetResultPayload::Stream(pieces) => pieces.map_err(io::Error::from).boxed(),
        };
        Ok((pieces, len))
    }

    /// Reads an artifact whole and checks its hash.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`], [`ArtifactError::Damaged`] or [`ArtifactError::Store`].
    pub async fn read(&self, id: ArtifactId) -> Result<Vec<u8>> {
        let found = self.store.get(&location(&id)).await.map_err(missing(id))?;
        let bytes = found.bytes().await?;
        blocking(move || (ArtifactId::of(&bytes) == id).then(|| bytes.into()))
            .await
            .ok_or(ArtifactError::Damaged(id))
    }

    /// When an artifact was stored last.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`] or [`ArtifactError::Store`].
    pub async fn stored(&self, id: ArtifactId) -> Result<SystemTime> {
        Ok(self.store.head(&location(&id)).await.map_err(missing(id))?.last_modified.into())
    }

    /// All artifacts, and when they were stored last.
    pub fn list(&self) -> BoxStream<'static, Result<(ArtifactRef, SystemTime)>> {
        let all = self.store.list(None).map_err(ArtifactError::from);
        all.try_filter_map(async |found| {
            // Anything else there is not ours to judge.
            let id = found.location.filename().and_then(|name| name.parse().ok());
            Ok(id.map(|sha256| {
                (ArtifactRef { sha256, len: found.size }, found.last_modified.into())
            }))
        })
        .boxed()
    }

    /// Forgets an artifact.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`] or [`ArtifactError::Store`].
    pub async fn delete(&self, id: ArtifactId) -> Result<()> {
        self.store.delete(&location(&id)).await.map_err(missing(id))
    }

    /// Whether bytes can be stored now: stores some, durably, and removes them.
    ///
    /// # Errors
    /// [`ArtifactError::Store`].
    pub async fn probe(&self) -> Result<()> {
        let probe = Location::from(format!("probe-{}", ArtifactId::from_bytes(rand::random())));
        self.store.put(&probe, PutPayload::from_static(b"probe")).await?;
        Ok(self.store.delete(&probe).await?)
    }

    /// The name that all servers on one database know these artifacts by: `fresh`, if there is none yet.
    ///
    /// # Errors
    /// [`ArtifactError::Store`].
    pub async fn name(&self, fresh: String) -> Result<String> {
        let name = Location::from("folder-id");
        let put = PutPayload::from(fresh.clone());
        match self.store.put_opts(&name, put, PutMode::Create.into()).await {
            Ok(_) => Ok(fresh),
            Err(object_store::Error::AlreadyExists { .. }) => {
                let found = self.store.get(&name).await?.bytes().await?;
                Ok(String::from_utf8_lossy(&found).into_owned())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The pieces of an artifact as they are. If all of them have been read and are not what its name says, the log says so.
pub fn watched(
    id: ArtifactId,
    pieces: BoxStream<'static, Result<Bytes, io::Error>>,
) -> BoxStream<'static, Result<Bytes, io::Error>> {
    let (mut hash, mut whole) = (Sha256::new(), true);
    let hashed = pieces.map(Some).chain(futures::stream::iter([None]));
    let watched = hashed.filter_map(move |piece| {
        match &piece {
            Some(Ok(bytes)) => hash.update(bytes),
            Some(Err(_)) => whole = false,
            None => {
                let found = ArtifactId::from_bytes(hash.finalize_reset().into());
                if whole && found != id {
                    tracing::error!(code = "artifact_damaged", artifact = %id, "a stored artifact is damaged, and was sent to somebody");
                }
            }
        }
        std::future::ready(piece)
    });
    watched.boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// `AB/ABCD…`: no folder gets too many files.
fn location(id: &ArtifactId) -> Location {
    let name = id.to_string();
    Location::from_iter([&name[..2], &name])
}

fn missing(id: ArtifactId) -> impl Fn(object_store::Error) -> ArtifactError {
    move |error| match error {
        object_store::Error::NotFound { .. } => ArtifactError::Missing(id),
        error => error.into(),
    }
}

fn unusable(
    place: &Place,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ArtifactError {
    ArtifactError::Place { place: place.to_string(), source: source.into() }
}

/// Removes what was being written when a server died: `NAME#1` beside `NAME`.
fn clear(root: &Path, sharing: Sharing) -> io::Result<()> {
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            let half = file.file_name().to_string_lossy().contains('#');
            let removed = match sharing {
                _ if !half => continue,
                Sharing::Shared
                    if !file.metadata()?.modified()?.elapsed().is_ok_and(|age| age > STALE) =>
                {
                    continue;
                }
                _ => fs::remove_file(file.path()),
            };
            match removed {
                // Another server cleared it at the same time, or finished what it was writing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    Ok(())
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
        let place = Place::Folder(dir.path().into(), Sharing::Alone);
        let artifacts = Artifacts::open(&place, 6).unwrap();
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
        assert!(matches!(artifacts.len(id).await.unwrap_err(), ArtifactError::Missing(_)));
        assert_eq!(artifacts.list().count().await, 0);

        for _ in 0..2 {
            let stored = artifacts.receive(id, stream(&[b"abc", b"def"])).await.unwrap();
            assert_eq!(stored, ArtifactRef { sha256: id, len: 6 });
        }
        assert_eq!(artifacts.put(b"abcdef".to_vec()).await.unwrap().sha256, id);
        assert_eq!(artifacts.read(id).await.unwrap(), b"abcdef");

        fs::write(dir.path().join(location(&id).as_ref()), b"abcdeX").unwrap();
        assert!(matches!(artifacts.read(id).await.unwrap_err(), ArtifactError::Damaged(_)));
    }
}
