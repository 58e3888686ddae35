//! Sessions on disk: what an engine was given, for the next process if this one is killed.
//!
//! * A session's id is durable before the engine is asked about it, and the number of sessions before one is begun: the cap holds
//!   across restarts.
//! * One file for each engine, program, input and kind: `NAME.json`. While a process works on it, it holds a lock on `NAME.lock`.
//! * A file is there whole or not at all. It is removed when its work is proven, given up or cancelled.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use alloy_primitives::B256;
use client::prover::ProofKind;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::error::Trouble;

/// The longest file that is read as a session.
const MAX_FILE: u64 = 64 << 10;

/// The folder.
#[derive(Debug)]
pub(crate) struct Sessions {
    folder: PathBuf,
    engine: String,
}

/// What is kept of one work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The engine's URL.
    pub engine: String,
    /// The program.
    pub program_id: B256,
    /// SHA-256 of the input.
    pub input: B256,
    /// The kind of proof.
    pub kind: ProofKind,
    /// How many sessions were begun, as far as is known.
    pub sessions: u32,
    /// The id of the one that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// A note that this process alone works on. Dropping it lets another process have it.
#[derive(Debug)]
pub(crate) struct Held {
    pub note: Note,
    path: PathBuf,
    _lock: Lock,
}

impl Sessions {
    /// Opens the folder and makes it if it is missing.
    pub(crate) fn open(config: &Config) -> Result<Self, Trouble> {
        let folder = config.sessions.clone();
        fs::create_dir_all(&folder).map_err(disk(&folder))?;
        // With and without a slash at its end it is the same engine.
        let engine = config.url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { folder, engine })
    }

    /// The note of this work, as the last process left it or new.
    pub(crate) fn hold(
        &self,
        program_id: B256,
        input: &[u8],
        kind: ProofKind,
    ) -> Result<Held, Trouble> {
        let (engine, input) = (self.engine.clone(), B256::from_slice(&Sha256::digest(input)));
        let note = Note { engine, program_id, input, kind, sessions: 0, session: None };
        let key = serde_json::to_vec(&(&note.engine, program_id, input, kind))
            .expect("texts and numbers can be written as JSON");
        let path = self.folder.join(format!("{}.json", hex::encode(Sha256::digest(key))));
        let lock = Lock::take(&path.with_extension("lock"))?;
        let held = |note| Held { note, path: path.clone(), _lock: lock };
        match read(&path)? {
            None => Ok(held(note)),
            Some(found) if Note { sessions: 0, session: None, ..found.clone() } == note => {
                Ok(held(found))
            }
            Some(_) => Err(damaged(&path, "it is the note of another work".to_owned())),
        }
    }

    /// The notes of other works on this engine that nobody works on, and has not for `age`.
    pub(crate) fn abandoned(&self, age: Duration) -> Result<Vec<Held>, Trouble> {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(disk(&self.folder))? {
            let path = file.map_err(disk(&self.folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let touched = fs::metadata(&path).and_then(|file| file.modified());
            let old = |at: SystemTime| at.elapsed().is_ok_and(|elapsed| elapsed >= age);
            if !touched.is_ok_and(old) {
                continue;
            }
            // Held by another process, damaged or of another engine: not ours to clean up.
            if let Ok(lock) = Lock::take(&path.with_extension("lock"))
                && let Ok(Some(note)) = read(&path)
                && note.engine == self.engine
            {
                found.push(Held { note, path, _lock: lock });
            }
        }
        Ok(found)
    }
}

impl Held {
    /// Notes, durably, that one more session is about to begin.
    pub(crate) fn begin(&mut self) -> Result<(), Trouble> {
        self.note.sessions += 1;
        self.note.session = None;
        self.write()
    }

    /// Notes, durably, which session is waited for.
    pub(crate) fn began(&mut self, session: String) -> Result<(), Trouble> {
        self.note.session = Some(session);
        self.write()
    }

    /// Notes, durably, that the session was not begun after all.
    pub(crate) fn not_begun(&mut self) -> Result<(), Trouble> {
        self.note.sessions = self.note.sessions.saturating_sub(1);
        match self.note.sessions {
            0 => self.forget(),
            _ => self.write(),
        }
    }

    /// Notes that somebody waits for the session. No harm is done if that is lost.
    pub(crate) fn touch(&self) {
        let file = File::options().append(true).open(&self.path);
        let _touched = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Forgets the work.
    pub(crate) fn forget(&mut self) -> Result<(), Trouble> {
        (self.note.sessions, self.note.session) = (0, None);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(&self.path)(error)),
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<(), Trouble> {
        let folder = self.path.parent().expect("every note is in the folder");
        let text = serde_json::to_vec_pretty(&self.note).expect("it is texts and numbers");
        let go = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()
        };
        go().map_err(disk(&self.path))
    }
}

/// A lock on a file that is there only while the lock is held.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn take(path: &Path) -> Result<Self, Trouble> {
        loop {
            let file = File::options().create(true).append(true).open(path).map_err(disk(path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Trouble::InUse(path.to_owned())),
                Err(TryLockError::Error(error)) => return Err(disk(path)(error)),
            }
            // Whoever had it before may have removed the file in the meantime: then the lock is on nothing.
            let ours = file.metadata().map_err(disk(path))?;
            if fs::metadata(path).is_ok_and(|there| there.ino() == ours.ino()) {
                return Ok(Self { path: path.to_owned(), file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // ORDER: removed while it is held, so that nobody removes a file that another process has locked since.
        let _removed = fs::remove_file(&self.path);
        let _unlocked = self.file.unlock();
    }
}

fn read(path: &Path) -> Result<Option<Note>, Trouble> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk(path)(error)),
        Ok(file) if file.len() > MAX_FILE => {
            return Err(damaged(path, "it is too long".to_owned()));
        }
        Ok(_) => {}
    }
    let text = fs::read(path).map_err(disk(path))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| damaged(path, error.to_string()))
}

fn damaged(path: &Path, detail: String) -> Trouble {
    Trouble::Disk { path: path.to_owned(), detail }
}

fn disk(path: &Path) -> impl Fn(io::Error) -> Trouble {
    let path = path.to_owned();
    move |error| Trouble::Disk { path: path.clone(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUCCINCT: ProofKind = ProofKind::Succinct;

    fn open(folder: &Path, url: &str) -> Sessions {
        Sessions::open(&Config::new(url.parse().unwrap(), folder.into())).unwrap()
    }

    #[test]
    fn a_session_is_found_by_engine_program_input_and_kind() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = open(folder.path(), "http://127.0.0.1:1");
        let id = B256::repeat_byte(1);
        let mut held = sessions.hold(id, b"a", SUCCINCT).unwrap();
        held.begin().unwrap();
        held.began("s1".to_owned()).unwrap();
        drop(held);

        let again = open(folder.path(), "http://127.0.0.1:1/").hold(id, b"a", SUCCINCT).unwrap();
        assert_eq!((again.note.session.as_deref(), again.note.sessions), (Some("s1"), 1));
        drop(again);
        let elsewhere = open(folder.path(), "http://127.0.0.1:2");
        for other in [
            elsewhere.hold(id, b"a", SUCCINCT),
            sessions.hold(B256::repeat_byte(2), b"a", SUCCINCT),
            sessions.hold(id, b"b", SUCCINCT),
            sessions.hold(id, b"a", ProofKind::Composite),
        ] {
            assert_eq!(other.unwrap().note.session, None);
        }
        sessions.hold(id, b"a", SUCCINCT).unwrap().forget().unwrap();
        assert_eq!(sessions.hold(id, b"a", SUCCINCT).unwrap().note.sessions, 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn one_process_at_a_time_works_on_a_session() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = open(folder.path(), "http://127.0.0.1:1");
        let held = sessions.hold(B256::ZERO, b"a", SUCCINCT).unwrap();
        let second = sessions.hold(B256::ZERO, b"a", SUCCINCT).unwrap_err();
        assert!(matches!(second, Trouble::InUse(_)), "{second}");
        drop(held);
        sessions.hold(B256::ZERO, b"a", SUCCINCT).unwrap();
    }

    #[test]
    fn a_session_is_abandoned_when_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = open(folder.path(), "http://127.0.0.1:1");
        let mut held = sessions.hold(B256::ZERO, b"a", SUCCINCT).unwrap();
        held.begin().unwrap();
        let count = |age| sessions.abandoned(Duration::from_secs(age)).unwrap().len();
        assert_eq!(count(0), 0, "it is held");
        let path = held.path.clone();
        drop(held);
        assert_eq!((count(0), count(60)), (1, 0));
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
        assert_eq!(count(60), 1);
        sessions.hold(B256::ZERO, b"a", SUCCINCT).unwrap().touch();
        assert_eq!(count(60), 0);
        let elsewhere = open(folder.path(), "http://127.0.0.1:2");
        assert_eq!(elsewhere.abandoned(Duration::ZERO).unwrap().len(), 0);
    }

    #[test]
    fn a_damaged_note_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = open(folder.path(), "http://127.0.0.1:1");
        let mut held = sessions.hold(B256::ZERO, b"a", SUCCINCT).unwrap();
        held.begin().unwrap();
        let path = held.path.clone();
        drop(held);
        for text in ["{", &" ".repeat(70_000)] {
            fs::write(&path, text).unwrap();
            let error = sessions.hold(B256::ZERO, b"a", SUCCINCT).unwrap_err();
            assert!(
                matches!(&error, Trouble::Disk { path: named, .. } if *named == path),
                "{error}"
            );
        }
    }
}
