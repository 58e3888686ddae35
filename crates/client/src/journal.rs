//! The client's folder: its id, and the proofs that the server has not acknowledged.
//!
//! * A proof is on disk, durable, before the server hears of it, and stays until the server has judged it.
//! * A proof that the server rejects or is too large for it is kept, with the reason, in `rejected/`.
//! * `claim.json` is the job that is being worked on. A client that starts anew asks for it again.
//! * One client at a time uses a folder.
//! * Of several provers under one name, each has a folder with a client's id of its own: the first one this, the next ones `prover-2`,
//!   `prover-3` and so on in it. When there are fewer provers than before, the first one hands in what the others have left.
//! * `inputs/` and `scratch/` hold what only a running client needs.

use crate::process::PROOF;
use alloy_primitives::B256;
use protocol::{ArtifactRef, ClientId, JobId, LeaseId, ProofKind, ProofSystem, Submit};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
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
    /// The disk has too little room.
    #[error("the disk of {} has {free} bytes free, and the client wants {wanted} (min_free_bytes): free some, or set another data_dir", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that should be.
        wanted: u64,
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

/// Folder of proofs that wait for a verdict.
const OPEN: &str = "proofs";

/// Folder of proofs that were put aside.
const ASIDE: &str = "rejected";

/// Bytes that a self-test writes.
const SELF_TEST: usize = 1 << 20;

/// Folder of the proving process's temporary files, below the client's.
pub const SCRATCH: &str = "scratch";

/// How the name of the folder of another prover begins, below that of the first one.
const ANOTHER: &str = "prover-";

/// The folder of the prover with this number, counted from 1, of the client in `root`.
pub fn folder(root: &Path, number: u32) -> PathBuf {
    match number {
        ..=1 => root.to_owned(),
        _ => root.join(format!("{ANOTHER}{number}")),
    }
}

/// The numbers of the provers that have a folder in `root`, beside the first one; in order.
///
/// # Errors
/// [`JournalError::Io`].
pub fn others(root: &Path) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(root).map_err(io_error(root))? {
        let name = entry.map_err(io_error(root))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(ANOTHER)?.parse().ok());
        // None that is written in another way.
        numbers
            .extend(number.filter(|number| *number > 1 && folder(root, *number).ends_with(&name)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

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
    /// The server that lent us the job. Entries from before this field do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The job's trace, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A job that this client has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The server that lent it.
    pub server: String,
    /// The job.
    pub job: JobId,
    /// Our lease on it.
    pub lease: LeaseId,
    /// The proof system asked for.
    pub system: ProofSystem,
    /// The program asked for.
    pub program_id: B256,
    /// The kind of proof asked for.
    pub kind: ProofKind,
    /// How many clients have begun with it: more than one if the first was killed.
    pub begun: u32,
    /// The job's trace, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A proof that was put aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// The proof.
    #[serde(flatten)]
    pub entry: Entry,
    /// Why it was put aside.
    pub reason: String,
}

impl Journal {
    /// Opens the folder and makes it if it is missing. `fresh_id` becomes the client's id if it has none.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(root: &Path, fresh_id: ClientId) -> Result<Self> {
        for folder in [OPEN, ASIDE] {
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
        let journal = Self { root: root.into(), client, _lock: lock };
        journal.rescue()?;
        // Inputs are fetched anew: what lies there was left by a client that died.
        for folder in ["inputs", SCRATCH] {
            let path = root.join(folder);
            crate::process::empty(&path).map_err(io_error(&path))?;
        }
        Ok(journal)
    }

    /// Takes over the proofs that wait for a verdict in another client's folder, which nobody may use. Returns how many they are.
    ///
    /// # Errors
    /// [`JournalError`]. What was not taken over is still there.
    pub fn adopt(&self, root: &Path) -> Result<usize> {
        let other = Self::open(root, self.client)?;
        let entries = other.open_entries()?;
        for entry in &entries {
            let path = other.proof_path(entry);
            let proof = fs::read(&path).map_err(io_error(&path))?;
            // ORDER: the proof before the message that names it, and both before the others go: it may be handed in twice, but not never.
            write(&self.proof_path(entry), &proof)?;
            write(&self.entry_path(entry), &json(entry))?;
            other.forget(entry)?;
        }
        Ok(entries.len())
    }

    /// The client's id.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Whether the disk has `wanted` bytes free. Fast, but asks the file system.
    ///
    /// # Errors
    /// [`JournalError::Full`] if it has less; [`JournalError::Io`] if it does not say.
    pub fn room(&self, wanted: u64) -> Result<()> {
        let stat =
            rustix::fs::statvfs(&self.root).map_err(|error| io_error(&self.root)(error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= wanted {
            Ok(())
        } else {
            Err(JournalError::Full { path: self.root.clone(), free, wanted })
        }
    }

    /// Writes a file and removes it, if the disk has `wanted` bytes free.
    ///
    /// # Errors
    /// [`JournalError`] if no file can be written.
    pub fn self_test(&self, wanted: u64) -> Result<()> {
        self.room(wanted)?;
        let path = self.root.join("self-test");
        let written = write(&path, &[0; SELF_TEST]);
        remove(&path)?;
        written
    }

    /// Where to download the input of `job` to.
    pub fn input_path(&self, job: &JobId) -> PathBuf {
        self.root.join("inputs").join(job.to_string())
    }

    /// Notes that this job is being worked on. There is one such note.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn claim(&self, claim: &Claim) -> Result<()> {
        // ORDER: a proof that lies there is of the job before; once it has gone, what appears there is of this one.
        remove(&self.root.join(SCRATCH).join(PROOF))?;
        write(&self.claim_path(), &json(claim))
    }

    /// The job that was being worked on when the client ended. A note that cannot be read is logged and counts as none.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn claimed(&self) -> Result<Option<Claim>> {
        let path = self.claim_path();
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text)
                .inspect_err(
                    |error| tracing::warn!(code = "claim_damaged", file = %path.display(), %error, "claim is damaged"),
                )
                .ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    /// Notes that no job is being worked on.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn unclaim(&self) -> Result<()> {
        remove(&self.claim_path())
    }

    /// Keeps the proof of the claimed job until it is judged. Returns its entry; the claim is over.
    ///
    /// # Errors
    /// [`JournalError::Io`]: the proof is not safe.
    pub fn keep(&self, claim: &Claim, proof: &[u8]) -> Result<Entry> {
        let Claim { job, lease, system, program_id, kind, .. } = *claim;
        let (client, proof_ref) = (self.client, ArtifactRef::of(proof));
        let submit = Submit { client, lease, system, program_id, kind, proof: proof_ref };
        let server = Some(claim.server.clone());
        let entry = Entry { job, submit, server, traceparent: claim.traceparent.clone() };
        // ORDER: the proof before the message that names it: an entry that can be read is complete. The claim last.
        write(&self.proof_path(&entry), proof)?;
        write(&self.entry_path(&entry), &json(&entry))?;
        self.unclaim()?;
        remove(&self.root.join(SCRATCH).join(PROOF))?;
        Ok(entry)
    }

    /// Keeps a proof that a proving process had finished when its client was killed.
    fn rescue(&self) -> Result<()> {
        let path = self.root.join(SCRATCH).join(PROOF);
        let Some(claim) = self.claimed()? else { return Ok(()) };
        match fs::read(&path) {
            Ok(proof) => {
                self.keep(&claim, &proof)?;
                tracing::info!(job = %claim.job, "finished proof found");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    /// The proofs that wait for a verdict, oldest first. A file that cannot be read as one is left alone and logged.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn open_entries(&self) -> Result<Vec<Entry>> {
        let whole = |entry: &Entry| is_whole(&self.proof_path(entry), entry);
        read_all(&self.root.join(OPEN), whole)
    }

    /// Where the proof's bytes are.
    pub fn proof_path(&self, entry: &Entry) -> PathBuf {
        self.root.join(OPEN).join(format!("{}.proof", name(entry)))
    }

    /// For how long the proof has been kept; nothing if the clock was set back since.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn kept_for(&self, entry: &Entry) -> Result<Duration> {
        let path = self.proof_path(entry);
        let kept = fs::metadata(&path).and_then(|file| file.modified());
        Ok(kept.map_err(io_error(&path))?.elapsed().unwrap_or_default())
    }

    /// Whether the proof's bytes are still those that the message names. They may have been removed, or be damaged.
    pub fn is_whole(&self, entry: &Entry) -> bool {
        is_whole(&self.proof_path(entry), entry)
    }

    /// Forgets a proof that the server has.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn forget(&self, entry: &Entry) -> Result<()> {
        // ORDER: the message first: a proof without it is never handed in again.
        remove(&self.entry_path(entry))?;
        remove(&self.proof_path(entry))
    }

    /// Puts a proof that the server refuses aside, with the reason. Returns where its bytes are.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn put_aside(&self, entry: &Entry, reason: &str) -> Result<PathBuf> {
        self.put_down(&Aside { entry: entry.clone(), reason: reason.to_owned() })?;
        let (from, kept) = (self.proof_path(entry), self.aside_path(entry));
        fs::rename(&from, &kept).map_err(io_error(&from))?;
        self.forget(entry)?;
        Ok(kept)
    }

    /// The proofs that were put aside, oldest first. A file that cannot be read as one is left alone and logged.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn aside(&self) -> Result<Vec<Aside>> {
        let whole = |aside: &Aside| is_whole(&self.aside_path(&aside.entry), &aside.entry);
        read_all(&self.root.join(ASIDE), whole)
    }

    /// Where the bytes of a proof are that was put aside.
    pub fn aside_path(&self, entry: &Entry) -> PathBuf {
        self.root.join(ASIDE).join(format!("{}.proof", name(entry)))
    }

    /// Notes why a proof was put aside.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn put_down(&self, aside: &Aside) -> Result<()> {
        write(&self.aside_path(&aside.entry).with_extension("json"), &json(aside))
    }

    /// Forgets a proof that was put aside.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn discard(&self, aside: &Aside) -> Result<()> {
        let path = self.aside_path(&aside.entry);
        remove(&path.with_extension("json"))?;
        remove(&path)
    }

    fn claim_path(&self) -> PathBuf {
        self.root.join("claim.json")
    }

    fn entry_path(&self, entry: &Entry) -> PathBuf {
        self.root.join(OPEN).join(format!("{}.json", name(entry)))
    }
}

/// The entries of a folder, oldest first. One that cannot be read, or is not `whole`, is left alone and logged.
fn read_all<T: DeserializeOwned>(folder: &Path, whole: impl Fn(&T) -> bool) -> Result<Vec<T>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).map_err(io_error(folder))? {
        let file = file.map_err(io_error(folder))?;
        let path = file.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let changed = file.metadata().and_then(|metadata| metadata.modified());
        let changed = changed.map_err(io_error(&path))?;
        let text = fs::read(&path).map_err(io_error(&path))?;
        match serde_json::from_slice::<T>(&text) {
            Ok(entry) if whole(&entry) => found.push((changed, entry)),
            Ok(_) => {
                tracing::error!(code = "entry_damaged", file = %path.display(), "kept proof is damaged; it is left where it is")
            }
            Err(error) => {
                tracing::error!(code = "entry_damaged", file = %path.display(), %error, "journal entry is damaged; it is left where it is")
            }
        }
    }
    found.sort_by_key(|(changed, _)| *changed);
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

/// Whether a proof's bytes are those the message names.
fn is_whole(path: &Path, entry: &Entry) -> bool {
    fs::read(path).is_ok_and(|bytes| ArtifactRef::of(&bytes) == entry.submit.proof)
}

/// One file for each lease: ids are hexadecimal, so this is a safe name.
fn name(entry: &Entry) -> String {
    format!("{}-{}", entry.job, entry.submit.lease)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("ids, names and numbers can be written as JSON")
}

/// Removes a file if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
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

/// Whether there is no room, or none for this user.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn id(n: u8) -> ClientId {
        ClientId::from_bytes([n; 16])
    }

    fn claim(n: u8) -> Claim {
        Claim {
            server: "http://127.0.0.1:4000".into(),
            job: JobId::from_bytes([n; 16]),
            lease: LeaseId::from_bytes([n; 16]),
            system: ProofSystem::Risc0,
            program_id: B256::ZERO,
            kind: ProofKind::Succinct,
            begun: 1,
            traceparent: None,
        }
    }

    #[test]
    fn a_kept_proof_survives_until_it_is_forgotten_or_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), id(1)).unwrap();
        let a = journal.keep(&claim(1), b"a").unwrap();
        let b = journal.keep(&claim(2), b"b").unwrap();
        assert_eq!((a.submit.proof, b.job), (ArtifactRef::of(b"a"), claim(2).job));
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
        let a = journal.keep(&claim(1), b"a").unwrap();
        fs::write(journal.proof_path(&a), b"x").unwrap();
        fs::write(dir.path().join("proofs/other.json"), b"{").unwrap();
        assert_eq!(journal.open_entries().unwrap(), []);
        assert!(journal.proof_path(&a).exists(), "nothing is deleted");
    }

    #[test]
    fn a_claim_lasts_until_its_proof_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Journal::open(dir.path(), id(1)).unwrap();
        let journal = open();
        assert_eq!(journal.claimed().unwrap(), None);
        journal.claim(&claim(1)).unwrap();
        journal.claim(&claim(2)).unwrap();
        drop(journal);
        let journal = open();
        assert_eq!(journal.claimed().unwrap(), Some(claim(2)));
        journal.keep(&claim(2), b"b").unwrap();
        assert_eq!(journal.claimed().unwrap(), None);
        fs::write(dir.path().join("claim.json"), "{").unwrap();
        assert_eq!(journal.claimed().unwrap(), None);
    }

    #[test]
    fn a_proof_whose_client_was_killed_before_it_took_it_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), id(1)).unwrap();
        let finished = dir.path().join(SCRATCH).join(PROOF);
        fs::write(&finished, b"of the job before").unwrap();
        journal.claim(&claim(3)).unwrap();
        drop(journal);
        let journal = Journal::open(dir.path(), id(1)).unwrap();
        assert_eq!(journal.open_entries().unwrap(), []);
        fs::write(&finished, b"c").unwrap();
        drop(journal);
        let journal = Journal::open(dir.path(), id(1)).unwrap();
        let open = journal.open_entries().unwrap();
        assert_eq!((open.len(), open[0].job), (1, claim(3).job));
        assert_eq!(fs::read(journal.proof_path(&open[0])).unwrap(), b"c");
        assert_eq!(journal.claimed().unwrap(), None);
        assert_eq!(fs::read_dir(dir.path().join(SCRATCH)).unwrap().count(), 0);
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
    fn the_first_prover_takes_over_what_one_that_is_not_there_any_more_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let open =
            |number| Journal::open(&folder(dir.path(), number), id(u8::try_from(number).unwrap()));
        let (first, third) = (open(1).unwrap(), open(3).unwrap());
        drop(open(12).unwrap());
        fs::create_dir(dir.path().join("prover-02")).unwrap();
        fs::create_dir(dir.path().join("prover-x")).unwrap();
        assert_eq!(others(dir.path()).unwrap(), [3, 12]);
        let own = first.keep(&claim(1), b"a").unwrap();
        let left = third.keep(&claim(2), b"b").unwrap();
        // It was killed when it had finished another.
        third.claim(&claim(3)).unwrap();
        fs::write(folder(dir.path(), 3).join(SCRATCH).join(PROOF), b"c").unwrap();
        let used = first.adopt(&folder(dir.path(), 3)).unwrap_err();
        assert!(matches!(used, JournalError::InUse(_)), "{used}");
        drop(third);
        assert_eq!(first.adopt(&folder(dir.path(), 3)).unwrap(), 2);
        assert_eq!(first.adopt(&folder(dir.path(), 3)).unwrap(), 0);
        let jobs: HashSet<JobId> =
            first.open_entries().unwrap().iter().map(|entry| entry.job).collect();
        assert_eq!(jobs, HashSet::from([own.job, left.job, claim(3).job]));
        // They are handed in under the id that proved them.
        assert_eq!(left.submit.client, id(3));
        assert!(first.open_entries().unwrap().contains(&left));
        assert_eq!(open(3).unwrap().client(), id(3));
    }

    #[test]
    fn a_damaged_id_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client-id"), "me").unwrap();
        let error = Journal::open(dir.path(), id(1)).unwrap_err();
        assert!(error.to_string().contains("client-id does not hold a client id"), "{error}");
    }
}
