//! One JSON-RPC endpoint: keeps within its limits, asks again what may pass, and turns its answers into our types.
//!
//! * There is one policy for all calls. What may pass is asked again after growing, random pauses, for [`Limits::retry`] in all;
//!   a node that wants to be left alone for longer than that has failed at once, so that another one can be asked.
//! * A batch that is refused as a whole is asked once more, then in smaller parts, down to single calls; of one that is answered
//!   in part, only the rest is asked again. The size that worked holds for a while.
//! * A method that failed where another way worked is not asked for a while ([`Rpc::attempt`], [`Rpc::avoid`]).
//! * Nothing but scheme, host and port of its URL is ever shown: the rest may hold a key.

use crate::{
    Error, ErrorSource, NodeOptions,
    exchange::{self, Record},
    message::{self, Answers, Refusal},
    secrets::Secrets,
    transport::{Http, Lost, Reply},
    trouble::{FIRST_PAUSE, Passes, Pauses, Trouble},
};
use futures::{StreamExt, TryStreamExt};
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, error::Elapsed},
};

pub(crate) use message::{Call, METHOD_NOT_FOUND};

/// How long an answer may take that the node has ready, a block for example: then the next node is asked.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take that the node has to compute. Some nodes need minutes to make the witness of a large block.
const LONG_TIMEOUT: Duration = Duration::from_secs(180);
/// Slots in one `eth_getProof`.
const SLOTS: usize = 128;
/// How long a method that failed is not asked, nor a batch of a size that was refused.
const AVOIDED: Duration = Duration::from_secs(600);
/// How long, if the failure was of a kind that passes.
const AVOIDED_BRIEFLY: Duration = Duration::from_secs(60);

/// Limits on the requests sent to a node, and on its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of requests in flight; a batch is one.
    pub concurrency: usize,
    /// Maximum calls per second; each call of a batch counts. `None`: no limit.
    pub per_second: Option<u32>,
    /// Maximum number of calls in a batch; 1: no batches.
    pub batch: usize,
    /// Maximum length of an answer, in bytes, also of what a compressed one unpacks to: of witnesses, raw blocks and batches. A block
    /// as an object may have a quarter of it, all else a sixteenth.
    pub answer: usize,
    /// How long a call is asked again and again whose failure may pass.
    pub retry: Duration,
}

impl Default for Limits {
    /// Eight requests at once, of at most 64 calls; answers of at most 256 MiB (the witness of a block of 36 million gas has some
    /// 20 MB, and twice that as hexadecimal text); retries for 4 s.
    fn default() -> Self {
        Self {
            concurrency: 8,
            per_second: None,
            batch: 64,
            answer: 256 << 20,
            retry: Duration::from_secs(4),
        }
    }
}

/// Why a request had no answer.
pub(crate) enum Failure {
    NoSuchMethod,
    Other(Error),
}

/// The endpoint. Clones share its limits and what it remembers.
#[derive(Clone, Debug)]
pub(crate) struct Rpc(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Http,
    name: ErrorSource,
    limits: Limits,
    record: Option<Arc<Record>>,
    slots: Semaphore,
    /// When the next call may be sent.
    next: Mutex<Instant>,
    calls: AtomicU64,
    memory: Mutex<Memory>,
}

/// What did not work, and until when that is remembered.
#[derive(Debug, Default)]
struct Memory {
    methods: BTreeMap<&'static str, (Instant, Trouble)>,
    batch: Option<(Instant, usize)>,
    /// Slots in an `eth_getProof`.
    slots: Option<(Instant, usize)>,
}

impl Rpc {
    /// # Errors
    /// [`Error::Url`], [`Error::Record`].
    pub(crate) fn new(url: &str, options: &NodeOptions) -> Result<Self, Error> {
        let url: Url = url.parse().map_err(|error| Error::Url { reason: format!("{error}") })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Url { reason: format!("its scheme is {}", url.scheme()) });
        }
        let (origin, limits) = (url.origin().ascii_serialization(), options.limits);
        let record = options.record.as_ref().map(|recording| recording.of_node(&origin));
        Ok(Self(Arc::new(Inner {
            name: ErrorSource::Node(origin),
            http: Http::new(url)?,
            limits,
            record: record.transpose()?,
            slots: Semaphore::new(limits.concurrency.max(1)),
            next: Mutex::new(Instant::now()),
            calls: AtomicU64::new(0),
            memory: Mutex::default(),
        })))
    }

    /// The node's name.
    pub(crate) fn name(&self) -> ErrorSource {
        self.0.name.clone()
    }

    /// Calls sent so far.
    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn malformed(&self, reason: String) -> Error {
        Error::Malformed { culprit: self.name(), reason }
    }

    /// The beginning of a text of the node's, fit to be shown.
    pub(crate) fn quote(&self, text: &str) -> String {
        self.0.http.secrets.quote(text)
    }

    /// Sends one call.
    pub(crate) async fn request<R: Answer>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R, Failure> {
        let answer = self.persist(&(method, params), self.0.limits.retry).await;
        answer.map_err(|trouble| match trouble.is_no_such_method() {
            true => Failure::NoSuchMethod,
            false => Failure::Other(trouble.into_error(self, method)),
        })
    }

    /// [`request`](Self::request) of a method that a node should have.
    pub(crate) async fn ask<R: Answer>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R, Error> {
        let answer = self.persist(&(method, params), self.0.limits.retry).await;
        answer.map_err(|trouble| trouble.into_error(self, method))
    }

    /// [`ask`](Self::ask) for something that there may not be. A backend that lags behind others says so a moment too long.
    pub(crate) async fn find<R: Answer>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<Option<R>, Error> {
        match self.persist(&(method, params), self.0.limits.retry).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Trouble::Null) => Ok(None),
            Err(trouble) => Err(trouble.into_error(self, method)),
        }
    }

    /// Sends one call of a method whose answer can be had in another way too: for a shorter time, and not if it failed lately.
    pub(crate) async fn attempt<R: Answer>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R, Trouble> {
        let avoided = self.memory().methods.get(method).cloned();
        if let Some((_, trouble)) = avoided.filter(|(until, _)| *until > Instant::now()) {
            return Err(trouble);
        }
        self.persist(&(method, params), self.0.limits.retry / 5).await
    }

    /// Remembers that this method failed where another way worked.
    pub(crate) fn avoid(&self, method: &'static str, trouble: Trouble) {
        let briefly = trouble.passes() == Passes::Likely;
        let until = Instant::now() + if briefly { AVOIDED_BRIEFLY } else { AVOIDED };
        let methods = &mut self.memory().methods;
        if methods.get(method).is_none_or(|(until, _)| *until <= Instant::now()) {
            methods.insert(method, (until, trouble));
        }
    }

    /// Asks again and again, for as long as `window`, what may pass.
    async fn persist<R: Answer>(&self, call: &Call, window: Duration) -> Result<R, Trouble> {
        let mut pauses = Pauses::new(self.0.limits.retry, window);
        loop {
            match self.single(call).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => match pauses.next(&trouble) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(trouble),
                },
            }
        }
    }

    async fn single<R: Answer>(&self, call: &Call) -> Result<R, Trouble> {
        let id = self.pace(1).await;
        let reply = self.exchange(message::one(call, id), call.0, 1).await?;
        let said = self.settle(&reply, message::said(&reply.body, id))?;
        decode(said).map_err(|reason| match said.get() {
            "null" => Trouble::Null,
            _ => Trouble::WrongType(self.quote(&reason)),
        })
    }

    /// Sends a body with this many calls of one kind.
    async fn exchange(&self, body: Vec<u8>, method: &str, calls: usize) -> Result<Reply, Trouble> {
        let time = time_for(method, calls);
        let longest = self.0.limits.answer / if calls > 1 { 1 } else { share(method) };
        let _slot = self.0.slots.acquire().await.expect("never closed");
        let (begun, copy) = (Instant::now(), self.0.record.as_ref().map(|_| body.clone()));
        let answer = tokio::time::timeout(time, self.0.http.post(body, longest)).await;
        if let Some((record, request)) = self.0.record.as_ref().zip(copy) {
            let secrets = &self.0.http.secrets;
            record.add(&request, answer_of(&answer, secrets), begun.elapsed());
        }
        match answer {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(Lost::Away(reason))) => Err(Trouble::Away(reason)),
            Ok(Err(Lost::Cut(reason))) => Err(Trouble::Garbled(reason)),
            Ok(Err(Lost::TooLong)) => Err(Trouble::TooLong(longest)),
            Err(_) => Err(Trouble::Silent(time)),
        }
    }

    /// Weighs what a body says against the status it came with.
    fn settle<S>(
        &self,
        reply: &Reply,
        said: Result<Result<S, Refusal>, String>,
    ) -> Result<S, Trouble> {
        let &Reply { status, wait, ref body } = reply;
        // Whatever the status, an error in JSON-RPC's own form says more, unless the status asks for patience.
        let clear = !matches!(status, 408 | 425 | 429 | 502..);
        match said {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(refusal)) if clear && (status < 300 || refusal.code != 0) => {
                Err(Trouble::Refused(refusal))
            }
            Err(reason) if status < 300 => {
                Err(Trouble::Garbled(format!("{reason}: {}", self.0.http.secrets.quote_body(body))))
            }
            Ok(Err(_)) | Err(_) => {
                Err(Trouble::Status { status, wait, text: self.0.http.secrets.quote_body(body) })
            }
        }
    }

    /// Sends many calls of one kind; the answers are in the order of `calls`.
    ///
    /// # Errors
    /// The first failure.
    pub(crate) async fn request_all<R: Answer>(&self, calls: &[Call]) -> Result<Vec<R>, Error> {
        let requests: Vec<_> =
            calls.chunks(self.batch_size()).map(|calls| self.request_some(calls)).collect();
        let answers: Vec<Vec<R>> = futures::stream::iter(requests)
            .buffered(self.0.limits.concurrency.max(1))
            .try_collect()
            .await?;
        Ok(answers.into_iter().flatten().collect())
    }

    /// Asks in batches of ever fewer calls, until all are answered or one alone fails.
    async fn request_some<R: Answer>(&self, calls: &[Call]) -> Result<Vec<R>, Error> {
        let mut answers: Vec<Option<R>> = calls.iter().map(|_| None).collect();
        let (mut size, mut again, mut held) = (calls.len(), true, AVOIDED_BRIEFLY);
        loop {
            let most = size.min(self.batch_size());
            let open = answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
            let open: Vec<usize> = open.map(|(at, _)| at).take(most).collect();
            let trouble = match open[..] {
                [] => break,
                [at] => {
                    let (method, params) = calls[at].clone();
                    answers[at] = Some(self.ask(method, params).await?);
                    continue;
                }
                [first, ..] => {
                    let asked: Vec<&Call> = open.iter().map(|at| &calls[*at]).collect();
                    match self.batch(&asked).await {
                        Ok(found) => {
                            let complete = found.iter().all(Option::is_some);
                            open.iter().zip(found).for_each(|(at, found)| answers[*at] = found);
                            if !complete {
                                // Alone, it shows the real error, or works.
                                let failed = open.iter().find(|at| answers[**at].is_none());
                                let at = failed.copied().unwrap_or(first);
                                let (method, params) = calls[at].clone();
                                answers[at] = Some(self.ask(method, params).await?);
                                size = (open.len() / 2).max(1);
                            }
                            again = true;
                            continue;
                        }
                        Err(trouble) => trouble,
                    }
                }
            };
            let retry = self.0.limits.retry;
            let too_long = trouble.wait().is_some_and(|wait| wait > retry);
            if too_long || matches!(trouble, Trouble::Silent(_)) || (trouble.is_away() && !again) {
                return Err(trouble.into_error(self, calls[0].0));
            }
            // Nothing that it says tells whether it will take the same batch a moment later. One that is too large, it will not.
            let large =
                matches!(trouble, Trouble::TooLong(_) | Trouble::Status { status: 413, .. });
            if again && !large {
                tokio::time::sleep(trouble.pause(FIRST_PAUSE)).await;
                again = false;
            } else {
                (size, again) = ((open.len() / 4).max(1), true);
                // A gateway that fails for seconds refuses large and small batches.
                if trouble.passes() == Passes::Hardly {
                    held = AVOIDED;
                }
            }
        }
        if size < calls.len() && size < self.batch_size() {
            self.memory().batch = Some((Instant::now() + held, size));
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Whether a batch of these calls is answered, each of them.
    pub(crate) async fn takes_batch(&self, calls: &[&Call]) -> bool {
        let answers = self.batch::<Value>(calls).await;
        answers.is_ok_and(|answers| answers.iter().all(Option::is_some))
    }

    /// How many calls a batch may have just now.
    fn batch_size(&self) -> usize {
        let known = self.memory().batch.filter(|(until, _)| *until > Instant::now());
        let most = self.0.limits.batch.max(1);
        known.map_or(most, |(_, size)| size.min(most))
    }

    /// How many slots an `eth_getProof` may have just now.
    pub(crate) fn slots_in_a_proof(&self) -> usize {
        let known = self.memory().slots.filter(|(until, _)| *until > Instant::now());
        known.map_or(SLOTS, |(_, slots)| slots)
    }

    /// Remembers that no more than this many work.
    pub(crate) fn limit_slots_in_a_proof(&self, slots: usize) {
        self.memory().slots = Some((Instant::now() + AVOIDED, slots));
    }

    /// Sends calls as one batch. `None` stands where an answer is missing, an error, or of another type.
    async fn batch<R: Answer>(&self, calls: &[&Call]) -> Result<Vec<Option<R>>, Trouble> {
        let first = self.pace(calls.len()).await;
        let body = message::batch(calls, first);
        let reply = self.exchange(body, calls[0].0, calls.len()).await?;
        let said = message::all_said(&reply.body, first, calls.len());
        let said: Answers<'_> = self.settle(&reply, said)?;
        Ok(said.into_iter().map(|said| decode(said?.ok()?).ok()).collect())
    }

    /// Waits until `calls` more calls may be sent, and gives the first one's id.
    async fn pace(&self, calls: usize) -> u64 {
        let id = self.0.calls.fetch_add(calls as u64, Ordering::Relaxed);
        let Some(per_second) = self.0.limits.per_second else { return id };
        let at = {
            let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            let calls = u32::try_from(calls).unwrap_or(u32::MAX);
            *next = at + Duration::from_secs(1) * calls / per_second.max(1);
            at
        };
        tokio::time::sleep_until(at).await;
        id
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Every change is one assignment.
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it is recorded.
fn answer_of(answer: &Result<Result<Reply, Lost>, Elapsed>, secrets: &Secrets) -> exchange::Answer {
    match answer {
        Ok(Ok(Reply { status, wait, body })) => exchange::Answer::Http {
            status: *status,
            retry_after_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            body: exchange::Body::of(body, secrets),
        },
        Ok(Err(Lost::Away(_))) => exchange::Answer::Away,
        Ok(Err(Lost::Cut(_))) => exchange::Answer::Cut,
        Ok(Err(Lost::TooLong)) => exchange::Answer::TooLong,
        Err(_) => exchange::Answer::Silent,
    }
}

/// What an answer must be.
pub(crate) trait Answer: DeserializeOwned + Debug + Send + 'static {}
impl<R: DeserializeOwned + Debug + Send + 'static> Answer for R {}

fn decode<R: Answer>(said: &RawValue) -> Result<R, String> {
    serde_json::from_str(said.get()).map_err(|error| error.to_string())
}

/// How long the node may take to answer `calls` calls of `method`.
fn time_for(method: &str, calls: usize) -> Duration {
    let computed = method.starts_with("debug_") || method == "eth_getProof" || calls > 1;
    if computed { LONG_TIMEOUT } else { TIMEOUT }
}

/// By how much shorter than the limit a method's answer has to be. As values in memory, what JSON holds can be much longer than it,
/// most of all a block that is an object.
fn share(method: &str) -> usize {
    match method {
        "eth_getBlockByNumber" => 4,
        method if method.starts_with("debug_") => 1,
        _ => 16,
    }
}
