//! One work on an engine: a session is begun, watched, given up and begun again, until there is a proof.
//!
//! * What was certainly not heard is said again, for [`Config::patience`]. What may have been heard is said again a few times;
//!   a new session counts as begun then.
//! * A session is given up when the engine ends it, forgets it, or shows no progress for [`Config::progress_deadline`].
//! * What a person has to repair (a key, an address, a disk) ends the attempt at once, and the session is kept for the next one.

use std::cmp::min;
use std::time::Duration;

use bytes::Bytes;
use client::ProveError;
use client::prover::{Cancel, Progress, ProofKind};
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::dialect::{self, Dialect, State};
use crate::error::Trouble;
use crate::sessions::{Held, Sessions};
use crate::{PROGRAM, receipt};

/// How often in a row an engine may fail at the same thing.
const DOUBTS: u32 = 3;
/// How often somebody looks whether the proof is still wanted.
const TICK: Duration = Duration::from_millis(50);
/// How many times the deadline by progress a session may take in all.
const MOST_DEADLINES: u32 = 24;
/// How many abandoned sessions are stopped before a new one begins.
const MAX_STOPPED: usize = 16;

/// One work.
pub(crate) struct Work<'w> {
    pub config: &'w Config,
    pub dialect: &'w Dialect<'w>,
    pub sessions: &'w Sessions,
    pub input: &'w [u8],
    pub kind: ProofKind,
    pub progress: &'w (dyn Fn(Progress) + Send + Sync),
}

/// How a session came to its end.
enum End {
    Receipt(Vec<u8>),
    /// It is not going to be proven, and another one may be.
    Lost(Trouble),
}

/// Why no session was begun.
enum NotBegun {
    /// Nobody knows whether it was.
    Perhaps(Trouble),
    No(Trouble),
}

impl Work<'_> {
    /// A proof of `statement`. When `cancel` is set, the engine is told to stop and the session is forgotten.
    pub(crate) async fn prove(
        &self,
        statement: &[u8],
        cancel: &Cancel,
    ) -> Result<Vec<u8>, ProveError> {
        let program_id = verifier::RISC0_PROGRAM_ID.into();
        let failed = |trouble| self.config.failed(trouble);
        let mut held = self.sessions.hold(program_id, self.input, self.kind).map_err(failed)?;
        let proven = tokio::select! {
            biased;
            proven = self.drive(&mut held, statement) => Some(proven),
            () = set(cancel) => None,
        };
        if let Some(proven) = proven {
            return proven.map_err(failed);
        }
        if let Some(session) = held.note.session.clone() {
            let _heard = self.dialect.stop(&session).await;
        }
        forget(&mut held);
        Err(ProveError::Cancelled)
    }

    async fn drive(&self, held: &mut Held, statement: &[u8]) -> Result<Vec<u8>, Trouble> {
        self.stop_abandoned().await?;
        if let Some(session) = &held.note.session {
            tracing::info!(session, "session of a killed prover found; going on with it");
        }
        let mut last = Trouble::NoSession {
            sessions: held.note.sessions,
            last: Box::new(Trouble::Cut {
                what: "a new session".to_owned(),
                detail: "this process was ended meanwhile".to_owned(),
            }),
        };
        loop {
            let session = match held.note.session.clone() {
                Some(session) => session,
                None if held.note.sessions >= self.config.max_sessions => {
                    forget(held);
                    return Err(last);
                }
                None => match self.begin(held).await {
                    Ok(session) => session,
                    Err(NotBegun::No(trouble)) => return Err(trouble),
                    Err(NotBegun::Perhaps(trouble)) => {
                        tracing::warn!(code = "engine_session_lost", error = %trouble, "engine may have begun a session and did not name it");
                        let sessions = held.note.sessions;
                        last = Trouble::NoSession { sessions, last: Box::new(trouble) };
                        sleep(self.config.poll_min).await;
                        continue;
                    }
                },
            };
            match self.watch(held, &session).await? {
                End::Receipt(bytes) => {
                    // Whatever it is: this session gives no other.
                    forget(held);
                    return receipt::proof(&bytes, held.note.program_id, statement)
                        .map_err(|detail| Trouble::Receipt { detail });
                }
                End::Lost(trouble) => {
                    tracing::warn!(code = "engine_session_lost", session, error = %trouble, "session is given up");
                    held.note.session = None;
                    last = trouble;
                }
            }
        }
    }

    /// Sends program and input and begins a session, whose id is on disk when this returns.
    async fn begin(&self, held: &mut Held) -> Result<String, NotBegun> {
        let image = hex::encode(held.note.program_id);
        let program = Bytes::from_static(PROGRAM);
        let input = framed(self.input).map_err(NotBegun::No)?;
        let registered = self.persist(|| self.dialect.register(&image, program.clone())).await;
        registered.map_err(NotBegun::No)?;
        (self.progress)(Progress::Other);
        let input = self.persist(|| self.dialect.submit(input.clone())).await;
        let input = input.map_err(NotBegun::No)?;
        (self.progress)(Progress::Other);
        // ORDER: counted before it is asked for, and its id kept before anything is asked about it.
        held.begin().map_err(NotBegun::No)?;
        let (since, mut pause) = (Instant::now(), self.pause());
        loop {
            match self.dialect.create(&image, &input).await {
                Ok(session) => {
                    held.began(session.clone()).map_err(NotBegun::No)?;
                    tracing::info!(session, "session begun");
                    return Ok(session);
                }
                Err(trouble)
                    if trouble.was_not_heard() && since.elapsed() < self.config.patience =>
                {
                    pause.wait(trouble.wait()).await;
                }
                // It was heard, perhaps, by an engine behind a proxy that did not wait for its answer, for example. Refused is what an engine says that has forgotten the input in the meantime.
                Err(trouble)
                    if trouble.may_pass() && !trouble.was_not_heard()
                        || matches!(
                            trouble,
                            Trouble::Refused { .. } | Trouble::NotFound { .. }
                        ) =>
                {
                    return Err(NotBegun::Perhaps(trouble));
                }
                Err(trouble) => {
                    held.not_begun().map_err(NotBegun::No)?;
                    return Err(NotBegun::No(trouble));
                }
            }
        }
    }

    /// Asks about a session until it ends.
    async fn watch(&self, held: &Held, session: &str) -> Result<End, Trouble> {
        let (sessions, deadline) = (held.note.sessions, self.config.progress_deadline);
        let (mut moved, mut word, mut pause) = (Instant::now(), None, self.pause());
        // Words that change for ever are no progress, nor is silence that ends again and again.
        let end = moved + deadline.saturating_mul(MOST_DEADLINES);
        let (mut silent, mut doubts): (Option<Instant>, u32) = (None, 0);
        loop {
            held.touch();
            let trouble = match self.dialect.state(session).await {
                Ok(State::Running(state)) => {
                    // What it did while it could not be asked is not known: the clock stood still.
                    if let Some(since) = silent.take() {
                        moved = min(moved + since.elapsed(), Instant::now());
                    }
                    doubts = 0;
                    (self.progress)(dialect::progress(state.as_deref()));
                    if word.as_ref() != Some(&state) {
                        (moved, pause) = (Instant::now(), self.pause());
                        word = Some(state);
                    }
                    if moved.elapsed() >= deadline || Instant::now() >= end {
                        let _heard = self.dialect.stop(session).await;
                        let session = session.to_owned();
                        return Ok(End::Lost(Trouble::Stuck { session, deadline, sessions }));
                    }
                    pause.wait(None).await;
                    continue;
                }
                Ok(State::Proven(place)) => {
                    (self.progress)(Progress::Compressing);
                    return self.fetch(held, session, place.as_deref()).await;
                }
                Ok(State::Ended { status, text }) => {
                    let session = session.to_owned();
                    return Ok(End::Lost(Trouble::Ended { session, status, text, sessions }));
                }
                Err(trouble) => trouble,
            };
            let since = *silent.get_or_insert_with(Instant::now);
            match &trouble {
                // This is how engines say that they know no such session.
                Trouble::Internal { .. }
                | Trouble::NotFound { .. }
                | Trouble::Refused { status: 400 | 410, .. } => {
                    doubts += 1;
                    if doubts >= DOUBTS {
                        return Ok(self.after_restart(session, sessions).await);
                    }
                }
                trouble if trouble.may_pass() && since.elapsed() < self.config.patience => {}
                _ => return Err(trouble),
            }
            pause.wait(trouble.wait()).await;
        }
    }

    /// An engine that was started anew may still have the receipt of a session that it has forgotten.
    async fn after_restart(&self, session: &str, sessions: u32) -> End {
        match self.dialect.receipt(session, None).await {
            Ok(bytes) => End::Receipt(bytes),
            Err(_) => End::Lost(Trouble::Forgot { session: session.to_owned(), sessions }),
        }
    }

    /// Fetches the receipt of a proven session.
    async fn fetch(&self, held: &Held, session: &str, place: Option<&str>) -> Result<End, Trouble> {
        let (since, mut doubts, mut pause) = (Instant::now(), 0, self.pause());
        loop {
            let trouble = match self.dialect.receipt(session, place).await {
                Ok(bytes) => return Ok(End::Receipt(bytes)),
                Err(trouble) => trouble,
            };
            // An engine may say that a session has succeeded before it has written the receipt.
            let doubtful = trouble.may_pass() && !trouble.passes()
                || matches!(trouble, Trouble::NotFound { .. } | Trouble::Refused { .. });
            match doubtful {
                true => doubts += 1,
                false if trouble.passes() && since.elapsed() < self.config.patience => {}
                false => return Err(trouble),
            }
            if doubts >= DOUBTS {
                let text = format!("its receipt cannot be had: it {trouble}");
                let (session, status) = (session.to_owned(), "SUCCEEDED".to_owned());
                let sessions = held.note.sessions;
                return Ok(End::Lost(Trouble::Ended { session, status, text, sessions }));
            }
            held.touch();
            pause.wait(trouble.wait()).await;
        }
    }

    /// Stops the sessions that killed provers left behind, so that the engine works on what is wanted.
    async fn stop_abandoned(&self) -> Result<(), Trouble> {
        let abandoned = self.sessions.abandoned(self.config.abandoned_after)?;
        for mut held in abandoned.into_iter().take(MAX_STOPPED) {
            if let Some(session) = held.note.session.clone()
                && let Err(trouble) = self.dialect.stop(&session).await
                && trouble.passes()
            {
                return Ok(());
            }
            forget(&mut held);
        }
        Ok(())
    }

    /// Asks again what may be asked twice: for long where nobody listens, a few times where it goes wrong.
    async fn persist<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, Trouble> {
        let (since, mut doubts, mut pause) = (Instant::now(), 0, self.pause());
        loop {
            let trouble = match ask().await {
                Err(trouble) if trouble.may_pass() => trouble,
                answered => return answered,
            };
            if trouble.passes() {
                if since.elapsed() >= self.config.patience {
                    return Err(trouble);
                }
            } else {
                doubts += 1;
                if doubts >= DOUBTS {
                    return Err(trouble);
                }
            }
            pause.wait(trouble.wait()).await;
        }
    }

    fn pause(&self) -> Pause {
        Pause { next: self.config.poll_min, longest: self.config.poll_max }
    }
}

/// A pause that grows.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    /// Waits, at least for as long as `wished`.
    async fn wait(&mut self, wished: Option<Duration>) {
        sleep(self.next.max(wished.unwrap_or_default())).await;
        self.next = (self.next + self.next / 2).min(self.longest);
    }
}

/// Returns when the flag is set.
async fn set(cancel: &Cancel) {
    while !cancel.is_set() {
        sleep(TICK).await;
    }
}

/// The input as the guest reads it: its length, its bytes, and as many zeros as make whole words.
fn framed(input: &[u8]) -> Result<Bytes, Trouble> {
    let length = u32::try_from(input.len()).map_err(|_| Trouble::TooLarge {
        what: format!("the input, {} bytes", input.len()),
        status: 413,
    })?;
    let mut bytes = Vec::with_capacity(input.len() + 8);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(input);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes.into())
}

/// Forgets a work that has come to its end. A note that stays costs a question later, and no proof now.
fn forget(held: &mut Held) {
    if let Err(error) = held.forget() {
        tracing::info!(%error, "note of a session cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_framed_in_whole_words() {
        assert_eq!(framed(b"").unwrap()[..], [0; 4]);
        assert_eq!(framed(b"abcd").unwrap()[..], *b"\x04\0\0\0abcd");
        assert_eq!(framed(b"abcde").unwrap()[..], *b"\x05\0\0\0abcde\0\0\0");
    }
}
