//! The client's folder: its id, and the proofs that the server has not acknowledged.
//!
//! * A proof is on disk, durable, before the server hears of it, and stays until the server has judged it.
//! * A proof that the server rejects or is too large for it is kept, with the reason, in `rejected/`.
//! * One client at a time uses a folder.
//! * `inputs/` and `scratch/` hold what only a running client needs.

use protocol::{ArtifactRef, ClientId, JobId, Submit};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another client uses it.
    #[error("folder {} is used by another client: stop it, or set another data_dir", .0.display())]
    InUse(PathBuf),
    /// The file with the client's id holds something else.
    #[error("file {} does not hold a client id ({detail}): delete it to get a new id", path.display())]
    Id {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The disk failed.
    #[error("{} failed: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Folder of the proving process's temporary files, below the client's.
pub const SCRATCH: &str = "scratch";

type Result<T, E = JournalError> = std::result::Result<T, E>;

/// The client's folder. Dropping it lets another client have it. All methods block.
#[derive(Debug)]
pub struct Journal {
    root: PathBuf,
    client: ClientId,
    _lock: File,
}

/// A proof on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The job.
    pub job: JobId,
    /// The message that hands the proof in.
    pub submit: Submit,
}

#[derive(Serialize)]
struct Rejected<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    reason: &'a str,
}

impl Journal {
    /// Opens the folder and makes it if it is missing. `fresh_id` becomes the client's id if it has none.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(root: &Path, fresh_id: ClientId) -> Result<Self> {
        for folder in ["proofs", "rejected"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io_error(&path))?;
        }
        let path = root.join("lock");
        let lock =
            File::options().create(true).append(true).open(&path).map_err(io_error(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(root.into())),
            Err(TryLockError::Error(source)) => return Err(JournalError::Io { path, source }),
        }
        let path = root.join("client-id");
        let client = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|error: protocol::InvalidId| {
                JournalError::Id { path, detail: error.to_string() }
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write(&path, fresh_id.to_string().as_bytes())?;
                fresh_id
            }
            Err(source) => return Err(JournalError::Io { path, source }),
        };
        // Inputs are fetched anew: what lies there was left by a client that died.
        for folder in ["inputs", SCRATCH] {
            let path = root.join(folder);
            crate::process::empty(&path).map_err(io_error(&path))?;
        }
        Ok(Self { root: root.into(), client, _lock: lock })
    }

    /// The client's id.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Where to download the input of `job` to.
    pub fn input_path(&self, job: &JobId) -> PathBuf {
        self.root.join("inputs").join(job.to_string())
    }

    /// Keeps a proof until it is judged.
    ///
    /// # Errors
    /// [`JournalError::Io`]: the proof is not safe.
    pub fn keep(&self, entry: &Entry, proof: &[u8]) -> Result<()> {
        // ORDER: the proof before the message that names it: an entry that can be read is complete.
        write(&self.proof_path(entry), proof)?;
        write(&self.entry_path(entry), &json(entry))
    }

    /// The proofs that wait for a verdict, oldest first. A file that cannot be read as one is left alone and logged.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn open_entries(&self) -> Result<Vec<Entry>> {
        let folder = self.root.join("proofs");
        let mut found = Vec::new();
        for file in fs::read_dir(&folder).map_err(io_error(&folder))? {
            let file = file.map_err(io_error(&folder))?;
            let path = file.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let changed = file
                .metadata()
                .and_then(|metadata| metadata.modified())
                .map_err(io_error(&path))?;
            let text = fs::read(&path).map_err(io_error(&path))?;
            match serde_json::from_slice::<Entry>(&text) {
                Ok(entry) if self.is_whole(&entry) => found.push((changed, entry)),
                Ok(_) => {
                    tracing::error!(file = %path.display(), "kept proof is damaged; it is left where it is")
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "journal entry is damaged; it is left where it is")
                }
            }
        }
        found.sort_by_key(|(changed, _)| *changed);
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }

    /// Where the proof's bytes are.
    pub fn proof_path(&self, entry: &Entry) -> PathBuf {
        self.root.join("proofs").join(format!("{}.proof", name(entry)))
    }

    /// Forgets a proof that the server has.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn forget(&self, entry: &Entry) -> Result<()> {
        // ORDER: the message first: a proof without it is never handed in again.
        for path in [self.entry_path(entry), self.proof_path(entry)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts a proof that the server refuses aside, with the reason. Returns where its bytes are.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn put_aside(&self, entry: &Entry, reason: &str) -> Result<PathBuf> {
        let folder = self.root.join("rejected");
        let kept = folder.join(format!("{}.proof", name(entry)));
        write(&folder.join(format!("{}.json", name(entry))), &json(&Rejected { entry, reason }))?;
        let from = self.proof_path(entry);
        fs::rename(&from, &kept).map_err(io_error(&from))?;
        self.forget(entry)?;
        Ok(kept)
    }

    fn entry_path(&self, entry: &Entry) -> PathBuf {
        self.root.join("proofs").join(format!("{}.json", name(entry)))
    }

    /// Whether the proof's bytes are those the message names.
    fn is_whole(&self, entry: &Entry) -> bool {
        fs::read(self.proof_path(entry))
            .is_ok_and(|bytes| ArtifactRef::of(&bytes) == entry.submit.proof)
    }
}

/// One file for each lease: ids are hexadecimal, so this is a safe name.
fn name(entry: &Entry) -> String {
    format!("{}-{}", entry.job, entry.submit.lease)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("ids, names and numbers can be written as JSON")
}

/// Writes a file so that it is there whole and durable, or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().expect("every file lies in the client's folder");
    let go = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    go().map_err(io_error(path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use protocol::{LeaseId, ProofKind, ProofSystem};

    fn id(n: u8) -> ClientId {
        ClientId::from_bytes([n; 16])
    }

    fn entry(n: u8, proof: &[u8]) -> Entry {
        let submit = Submit {
            client: id(1),
            lease: LeaseId::from_bytes([n; 16]),
            system: ProofSystem::Risc0,
            program_id: B256::ZERO,
            kind: ProofKind::Succinct,
            proof: ArtifactRef::of(proof),
        };
        Entry { job: JobId::from_bytes([n; 16]), submit }
    }

    #[test]
    fn a_kept_proof_survives_until_it_is_forgotten_or_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), id(1)).unwrap();
        let (a, b) = (entry(1, b"a"), entry(2, b"b"));
        journal.keep(&a, b"a").unwrap();
        journal.keep(&b, b"b").unwrap();
        drop(journal);

        let journal = Journal::open(dir.path(), id(9)).unwrap();
        assert_eq!(journal.client(), id(1), "the first id stays");
        let mut open = journal.open_entries().unwrap();
        open.sort_by_key(|entry| entry.job);
        assert_eq!(open, [a.clone(), b.clone()]);
        assert_eq!(fs::read(journal.proof_path(&a)).unwrap(), b"a");

        journal.forget(&a).unwrap();
        let kept = journal.put_aside(&b, "of another statement").unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"b");
        assert!(
            fs::read_to_string(kept.with_extension("json"))
                .unwrap()
                .contains("of another statement")
        );
        assert_eq!(journal.open_entries().unwrap(), []);
        assert_eq!(fs::read_dir(dir.path().join("proofs")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_proof_is_not_handed_in() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), id(1)).unwrap();
        let a = entry(1, b"a");
        journal.keep(&a, b"a").unwrap();
        fs::write(journal.proof_path(&a), b"x").unwrap();
        fs::write(dir.path().join("proofs/other.json"), b"{").unwrap();
        assert_eq!(journal.open_entries().unwrap(), []);
        assert!(journal.proof_path(&a).exists(), "nothing is deleted");
    }

    #[test]
    fn two_clients_never_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path(), id(1)).unwrap();
        let second = Journal::open(dir.path(), id(2)).unwrap_err();
        assert!(matches!(second, JournalError::InUse(path) if path == dir.path()));
        drop(first);
        Journal::open(dir.path(), id(2)).unwrap();
    }

    #[test]
    fn a_damaged_id_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client-id"), "me").unwrap();
        let error = Journal::open(dir.path(), id(1)).unwrap_err();
        assert!(error.to_string().contains("client-id does not hold a client id"), "{error}");
    }
}
