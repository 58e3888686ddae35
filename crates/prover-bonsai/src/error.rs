//! What can be wrong with an engine, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

/// An engine, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("engine {engine} {trouble}")]
pub struct EngineError {
    /// Its address: scheme, host and port.
    pub engine: String,
    /// What is wrong.
    pub trouble: Trouble,
}

/// What is wrong with an engine. Each text goes on after the engine's name and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// No connection was made.
    #[error("cannot be reached ({0}): start it, or correct its URL")]
    Unreachable(String),
    /// The connection ended before the answer.
    #[error("ended the connection before it answered {what} ({detail}): look at its log")]
    Cut {
        /// What it was asked.
        what: String,
        /// What the connection says.
        detail: String,
    },
    /// The answer did not come in time.
    #[error("did not answer {what} within {within:?}: look at its log and at the network")]
    Slow {
        /// What it was asked.
        what: String,
        /// How long it had.
        within: Duration,
    },
    /// It is there and has no time.
    #[error("has no time (HTTP {status}): try again later, or give it more workers")]
    Busy {
        /// The status, 429, 502, 503 or 504.
        status: u16,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// It failed inside.
    #[error("failed at {what} (HTTP {status}: {text}): look at its log")]
    Internal {
        /// What it was asked.
        what: String,
        /// The status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// It has no such thing.
    #[error("does not know {what} (HTTP 404): is this the address of its REST API?")]
    NotFound {
        /// What it was asked.
        what: String,
    },
    /// An upload is too large for it.
    #[error(
        "refuses {what} as too large (HTTP {status}): prove fewer blocks in one batch, or raise the engine's limit"
    )]
    TooLarge {
        /// What was uploaded.
        what: String,
        /// The status.
        status: u16,
    },
    /// It does not accept the key, or asks for one.
    #[error(
        "refuses the key (HTTP {status}): put a valid one into the key file, and name that with --engine-key-file"
    )]
    Key {
        /// The status, 401 or 403.
        status: u16,
    },
    /// There is no key in the file.
    #[error("was not asked, because {} holds no key ({detail}): put the engine's key alone into it", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// It answers with a redirect.
    #[error(
        "sends us to another address (HTTP {status}), which is not followed: name the address of its REST API itself"
    )]
    Redirect {
        /// The status.
        status: u16,
    },
    /// It refuses for another reason.
    #[error("refuses {what} (HTTP {status}: {text}): correct what it names")]
    Refused {
        /// What it was asked.
        what: String,
        /// The status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// What it says is not in the dialect.
    #[error(
        "answers {what} with what is not the Bonsai dialect ({detail}): is this the address of its REST API?"
    )]
    Malformed {
        /// What it was asked.
        what: String,
        /// What is wrong.
        detail: String,
    },
    /// It sends more than is read.
    #[error(
        "sends more than {limit} bytes as {what}: if that is a receipt and right, raise PROVER_BONSAI_MAX_RECEIPT_BYTES"
    )]
    TooLong {
        /// What it was asked.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// It ended the last of the sessions that the work was given.
    #[error(
        "ended session {session} as {status} ({text}), after {sessions} sessions of this work: look at its log"
    )]
    Ended {
        /// The session's id.
        session: String,
        /// The last status.
        status: String,
        /// What it says.
        text: String,
        /// How many sessions there were.
        sessions: u32,
    },
    /// It made no progress in the last of the sessions that the work was given.
    #[error(
        "made no progress in session {session} for {deadline:?}, after {sessions} sessions of this work: restart it with all its \
         workers (r0vm gives the tasks of a lost worker to no other), or raise --progress-deadline if it only is slow"
    )]
    Stuck {
        /// The session's id.
        session: String,
        /// How long its state stayed the same.
        deadline: Duration,
        /// How many sessions there were.
        sessions: u32,
    },
    /// It no longer knew the last of the sessions that the work was given.
    #[error(
        "no longer knows session {session}, after {sessions} sessions of this work: find out why it restarts (r0vm keeps its \
         sessions in memory)"
    )]
    Forgot {
        /// The session's id.
        session: String,
        /// How many sessions there were.
        sessions: u32,
    },
    /// Nobody knows whether it began the last of the sessions that the work was given.
    #[error("took this work {sessions} times and named no session; the last time it {last}")]
    NoSession {
        /// How many times it was asked for a session.
        sessions: u32,
        /// What came of the last one.
        last: Box<Self>,
    },
    /// Its receipt does not prove what was asked for.
    #[error(
        "returned a receipt that does not prove the work ({detail}): use no engine that does so twice"
    )]
    Receipt {
        /// Why it is refused.
        detail: String,
    },
    /// Another process waits for the same proof.
    #[error("works on this already, for another process that holds {}: give each client a folder of its own", .0.display())]
    InUse(PathBuf),
    /// The session's note cannot be kept or read.
    #[error("is not asked, because its sessions cannot be kept in {} ({detail}): repair the disk, or delete the file", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

impl Trouble {
    /// Whether it was certainly not heard, and may be if it is asked again.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy { .. })
    }

    /// Whether the engine has certainly not done what it was asked. A gateway that gives up may have passed it on.
    pub(crate) fn was_not_heard(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy { status: 429 | 503, .. })
    }

    /// Whether asking again may help, although it may have been heard.
    pub(crate) fn may_pass(&self) -> bool {
        self.passes()
            || matches!(
                self,
                Self::Cut { .. }
                    | Self::Slow { .. }
                    | Self::Internal { .. }
                    | Self::Malformed { .. }
            )
    }

    /// How long the engine wants to be left alone.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { wait, .. } => *wait,
            _ => None,
        }
    }
}
