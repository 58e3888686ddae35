//! The parent's hold on a child: its messages, its last words, its end.

use super::messages::Message;
use crate::prover::ProveError;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

/// How much of the end of the child's stderr is searched for a reason, in bytes. There may be a backtrace after it.
const LAST_WORDS: usize = 32 * 1024;

/// How much of it goes into a report, in characters.
const REPORTED: usize = 1_000;

/// The longest message, in bytes; what is longer is none.
const LONGEST_LINE: u64 = 1 << 20;

/// What Rust's allocator, C++'s, CUDA and RISC Zero on CUDA say when there is no memory, in lower case.
const STARVED: [&str; 6] = [
    "memory allocation of",
    "bad_alloc",
    "out of memory",
    "outofmemory",
    "cudaerrormemoryallocation",
    "allocation failed on",
];

/// A child that is killed, with all it has started, when this is dropped.
pub(super) struct Running {
    pub(super) child: Child,
    status: Option<ExitStatus>,
}

impl Running {
    pub(super) fn new(child: Child) -> Self {
        Self { child, status: None }
    }

    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        // ORDER: only a child that has not been waited for still owns its number, and so its group.
        if let Some(group) = self.pid() {
            let _gone = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    /// Its status, if it has ended. What it started ends with it.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(pid) = self.pid().filter(|_| self.status.is_none()) else {
            return Ok(self.status);
        };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(pid), look)? {
            None => Ok(None),
            Some(_) => self.kill().map(Some),
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Its messages. The channel is closed when it closes its stdout.
    pub(super) fn messages(&mut self) -> io::Result<mpsc::Receiver<Message>> {
        // A child says a few hundred things in an hour; if it says more than we take, it waits.
        let (tell, messages) = mpsc::sync_channel(64);
        let stdout = self.child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        thread::Builder::new().name("prover-stdout".into()).spawn(move || {
            let (mut stdout, mut line) = (BufReader::new(stdout), Vec::new());
            while let Ok(1..) = next_line(&mut stdout, &mut line) {
                match serde_json::from_slice(&line) {
                    Ok(message) => {
                        if tell.send(message).is_err() {
                            return;
                        }
                    }
                    // Libraries print where they should not.
                    Err(_) => {
                        tracing::debug!(line = %String::from_utf8_lossy(&line), "proving process printed")
                    }
                }
            }
        })?;
        Ok(messages)
    }

    /// Passes its stderr on to ours, and remembers the end.
    pub(super) fn last_words(&mut self) -> io::Result<LastWords> {
        let words = LastWords::default();
        let (kept, mut stderr) =
            (words.clone(), self.child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
        thread::Builder::new().name("prover-stderr".into()).spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stderr.read(&mut buffer) {
                let _closed = io::stderr().write_all(&buffer[..len]);
                kept.add(&buffer[..len]);
            }
        })?;
        Ok(words)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.kill();
    }
}

#[derive(Clone, Default)]
pub(super) struct LastWords(Arc<Mutex<Vec<u8>>>);

impl LastWords {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }

    pub(super) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).trim().to_owned()
    }
}

/// Reads a line into `line`, or the first [`LONGEST_LINE`] bytes of one that is longer: a child that prints without end shall not
/// take our memory. Returns how much was read; 0 at the end.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    from.by_ref().take(LONGEST_LINE).read_until(b'\n', line)
}

/// A text of the child's for people: no control characters, which a terminal would obey, and not too long.
pub(super) fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text.chars().take(REPORTED).map(visible).collect()
}

/// The line that tells of a lack of memory, if there is one.
pub(super) fn starved(said: &str) -> Option<&str> {
    said.lines().find(|line| {
        let line = line.to_lowercase();
        STARVED.iter().any(|cry| line.contains(cry))
    })
}

/// Why a child that reported nothing has ended.
pub(super) fn ended(status: ExitStatus, last_words: &str) -> ProveError {
    if let Some(cry) = starved(last_words) {
        return ProveError::OutOfMemory(format!("{cry} ({status})"));
    }
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return ProveError::OutOfMemory(format!(
            "the proving process was killed ({status}), as Linux does when memory runs out; smaller segments need less"
        ));
    }
    let skipped = last_words.chars().count().saturating_sub(REPORTED);
    let said = plain(&last_words.chars().skip(skipped).collect::<String>());
    let said = if said.is_empty() { "it said nothing".into() } else { format!("it said: {said}") };
    match status.signal() {
        Some(_) => {
            ProveError::Failed(format!("the proving process crashed ({status}); {said}").into())
        }
        None => ProveError::Unavailable(
            format!("the proving process ended without a result ({status}); {said}").into(),
        ),
    }
}
