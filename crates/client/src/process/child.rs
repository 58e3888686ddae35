//! The parent's hold on a child: its messages, its last words, its end.

use super::messages::Message;
use crate::prover::ProveError;
use rustix::process::{Pid, Signal};
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

/// What Rust's allocator, C++'s and CUDA say when there is no memory, in lower case.
const STARVED: [&str; 3] = ["memory allocation of", "bad_alloc", "out of memory"];

/// A child that is killed, with all it has started, when this is dropped.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(status);
        }
        // ORDER: only a child that has not been waited for still owns its number.
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _gone = rustix::process::kill_process_group(group, Signal::KILL);
        }
        self.0.wait()
    }

    /// Its messages. The channel is closed when it closes its stdout.
    pub(super) fn messages(&mut self) -> io::Result<mpsc::Receiver<Message>> {
        // A child says a few hundred things in an hour; if it says more than we take, it waits.
        let (tell, messages) = mpsc::sync_channel(64);
        let stdout = self.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
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
            (words.clone(), self.0.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
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

/// Why a child that reported nothing has ended.
pub(super) fn ended(status: ExitStatus, last_words: &str) -> ProveError {
    let cry = last_words.lines().find(|line| {
        let line = line.to_lowercase();
        STARVED.iter().any(|cry| line.contains(cry))
    });
    if let Some(cry) = cry {
        return ProveError::OutOfMemory(format!("{cry} ({status})"));
    }
    if status.signal() == Some(Signal::KILL.as_raw()) {
        return ProveError::OutOfMemory(format!(
            "the proving process was killed ({status}), as Linux does when memory runs out; smaller segments need less"
        ));
    }
    let skipped = last_words.chars().count().saturating_sub(REPORTED);
    let said: String = last_words.chars().skip(skipped).collect();
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
