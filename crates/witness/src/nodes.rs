//! Several nodes of one chain, any of which may fail.
//!
//! * The first node that works is asked. A node that fails is named in the log and not asked again for a while.
//! * A node that takes long is not waited for alone: the next one is asked too, and the first answer counts. A witness may
//!   take minutes, so it is not given up either.
//! * The newest block is the newest that any node has; a node that lags behind the others is named too.
//! * A node of another chain is refused at the start, and whenever it reconnects.

use crate::{
    Depth, Error, ErrorSource, HeaderSummary, KnownKeys, Node, NodeOptions, Prepared, heads::Heads,
};
use alloy_primitives::{Address, B256};
use futures::{StreamExt, stream::FuturesUnordered};
use program::{ChainConfig, Terms};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

/// How long a node rests after its first failure; twice as long after each further one.
const REST: Duration = Duration::from_secs(1);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// How long a node may take to report its newest block: a silent one must not delay the others.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// When a node has not answered for so long, the next one is asked too.
const PATIENCE: Duration = Duration::from_secs(4);
/// The same for what a node has ready.
const PATIENCE_FOR_HEADERS: Duration = Duration::from_secs(1);
/// How long, at least, the others may take to report their newest block after the first one has.
const GRACE: Duration = Duration::from_millis(500);
/// How long a call to a node is asked again and again while others wait to be asked.
const RETRY_OF_SEVERAL: Duration = Duration::from_millis(1500);
/// A node this many blocks behind the others lags.
const LAG: u64 = 8;

/// The nodes.
#[derive(Debug)]
pub struct Nodes {
    endpoints: Vec<Endpoint>,
    config: ChainConfig,
    options: NodeOptions,
    depth: Depth,
    heads: Option<Heads>,
    keys: KnownKeys,
}

/// What is wrong with a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The node: scheme, host and port.
    pub node: String,
    /// Its latest failure.
    pub error: String,
}

#[derive(Debug)]
struct Endpoint {
    url: String,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// The connection, if there is one.
    node: Option<Node>,
    failures: u32,
    rests_until: Option<Instant>,
    fault: Option<Fault>,
    /// The latest refusal of a block that was logged: the node gives it again and again, and works all the same.
    refused: Option<String>,
}

impl Endpoint {
    fn health(&self) -> MutexGuard<'_, Health> {
        // Every change is one assignment after another, and none can panic.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rests(&self) -> bool {
        self.health().rests_until.is_some_and(|until| until > Instant::now())
    }

    /// It did not answer in time.
    fn silent(&self) -> Error {
        let node = ErrorSource::Node(origin(&self.url));
        let reason = format!("no newest block in {} s", HEAD_TIMEOUT.as_secs());
        Error::Unreachable { node, reason }
    }

    /// It did not answer while others did.
    fn late(&self, waited: Duration) -> Error {
        let node = ErrorSource::Node(origin(&self.url));
        let reason = format!("no newest block in {} ms, and others have one", waited.as_millis());
        Error::Unreachable { node, reason }
    }

    /// It has not answered yet, and the next one is asked too.
    fn takes_long(&self, patience: Duration) {
        let node = ErrorSource::Node(origin(&self.url)).to_string();
        let error = no_answer(patience);
        let mut health = self.health();
        if health.fault.as_ref().is_none_or(|fault| fault.error != error) {
            tracing::warn!(
                code = "node_slow",
                node,
                "a node takes long; the next one is asked too"
            );
        }
        health.fault = Some(Fault { node, error });
    }

    fn works(&self) {
        let mut health = self.health();
        let fault = health.fault.take().filter(|_| health.failures > 0);
        if fault.is_some_and(|fault| health.refused.as_ref() != Some(&fault.error)) {
            tracing::info!(node = origin(&self.url), "a node works again");
        }
        (health.failures, health.rests_until) = (0, None);
    }

    fn fails(&self, error: &Error) {
        let wanted = match error {
            Error::Busy { wait, .. } => wait.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let mut health = self.health();
        let refused = matches!(error, Error::Refused { .. });
        let error = crate::error::list(std::slice::from_ref(error));
        let node = ErrorSource::Node(origin(&self.url)).to_string();
        let known = health.refused.as_ref() == Some(&error)
            || health.fault.as_ref().is_some_and(|fault| fault.error == error);
        if refused {
            health.refused = Some(error.clone());
        }
        if !known {
            tracing::warn!(code = "node_failed", node, error, "a node failed");
        }
        let rest = REST * 2u32.saturating_pow(health.failures.min(6));
        health.rests_until = Some(Instant::now() + rest.max(wanted).min(LONGEST_REST));
        health.failures = health.failures.saturating_add(1);
        health.fault = Some(Fault { node, error });
        // A node that later answers at this address has to report its chain again.
        health.node = None;
    }
}

impl Nodes {
    /// Connects to the nodes at `urls`, in order of preference, and checks that they are of the chain of `config`. As
    /// long as one node can be reached, the others are tried again later.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Record`] and [`Error::WrongChain`] of any node; [`Error::Unreachable`] or whatever went
    /// wrong if no node works.
    ///
    /// # Panics
    /// If `urls` is empty.
    pub async fn connect(
        urls: &[String],
        config: ChainConfig,
        options: NodeOptions,
        depth: Depth,
    ) -> Result<Self, Error> {
        let (nodes, errors) = Self::try_connect(urls, config, options, depth).await?;
        match errors.len() == nodes.endpoints.len() {
            true => Err(one_or_all(errors)),
            false => Ok(nodes),
        }
    }

    /// [`Self::connect`] that also returns if no node works now: each is tried again whenever something is asked. Returns what is wrong
    /// with those that do not work.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Record`] and [`Error::WrongChain`] of any node.
    ///
    /// # Panics
    /// If `urls` is empty.
    pub async fn try_connect(
        urls: &[String],
        config: ChainConfig,
        mut options: NodeOptions,
        depth: Depth,
    ) -> Result<(Self, Vec<Error>), Error> {
        assert!(!urls.is_empty(), "there is a node at least");
        warm_up();
        if urls.len() > 1 {
            options.limits.retry = options.limits.retry.min(RETRY_OF_SEVERAL);
        }
        let endpoint = |url: &String| Endpoint { url: url.clone(), health: Mutex::default() };
        let nodes = Self {
            endpoints: urls.iter().map(endpoint).collect(),
            config,
            options,
            depth,
            heads: None,
            keys: KnownKeys::default(),
        };
        let mut errors = Vec::new();
        // With another to go on with, none is waited for long.
        let patience = if urls.len() > 1 { PATIENCE } else { Duration::MAX };
        let these = &nodes;
        let connected = nodes.endpoints.iter().map(|endpoint| async move {
            let connected = tokio::time::timeout(patience, these.node(endpoint)).await;
            (endpoint, connected.unwrap_or_else(|_| Err(endpoint.silent())))
        });
        for (endpoint, connected) in futures::future::join_all(connected).await {
            match connected {
                Ok(_) => {}
                Err(
                    error @ (Error::Url { .. } | Error::Record { .. } | Error::WrongChain { .. }),
                ) => return Err(error),
                Err(error) => {
                    endpoint.fails(&error);
                    errors.push(error);
                }
            }
        }
        Ok((nodes, errors))
    }

    /// Also listens for new blocks at `url` (`ws://…` or `wss://…`).
    ///
    /// # Errors
    /// [`Error::Url`]. A connection that cannot be made or is lost is retried for ever.
    pub fn listen(&mut self, url: &str) -> Result<(), Error> {
        self.heads = Some(Heads::follow(url)?);
        Ok(())
    }

    /// Tells that `keys` are in use on the chain.
    pub fn know(&mut self, keys: KnownKeys) {
        self.keys = keys;
    }

    /// Returns when there may be a newer block, if [`listen`](Self::listen) was called; otherwise never.
    pub async fn news(&self) {
        match &self.heads {
            Some(heads) => heads.news().await,
            None => std::future::pending().await,
        }
    }

    /// The number of the newest block at the configured depth, among all nodes.
    ///
    /// # Errors
    /// If no node could say.
    pub async fn head(&self) -> Result<u64, Error> {
        let mut heads = Vec::new();
        let mut errors = Vec::new();
        let (begun, mut until) = (Instant::now(), None);
        let mut late = self.order();
        let mut asked: FuturesUnordered<_> =
            late.iter().map(|endpoint| self.head_of(endpoint)).collect();
        loop {
            let answer = match until {
                None => asked.next().await,
                Some(until) => tokio::time::timeout_at(until, asked.next()).await.unwrap_or(None),
            };
            let Some((endpoint, head)) = answer else { break };
            late.retain(|other| !std::ptr::eq(*other, endpoint));
            match head {
                Ok(head) => {
                    heads.push((endpoint, head));
                    let grace = GRACE.max(2 * begun.elapsed());
                    until.get_or_insert((Instant::now() + grace).into());
                }
                Err(error) => {
                    endpoint.fails(&error);
                    errors.push(error);
                }
            }
        }
        // The others are better, and are asked first from now on.
        for endpoint in late {
            endpoint.fails(&endpoint.late(begun.elapsed()));
        }
        let Some(newest) = heads.iter().map(|(_, head)| *head).max() else {
            return Err(one_or_all(errors));
        };
        for (endpoint, head) in heads {
            let node = endpoint.health().node.clone();
            if let Some(node) = node
                && newest - head > LAG
            {
                endpoint.fails(&Error::Lags { node: node.name(), head, newest });
            }
        }
        Ok(newest)
    }

    async fn head_of<'e>(&self, endpoint: &'e Endpoint) -> (&'e Endpoint, Result<u64, Error>) {
        let head = tokio::time::timeout(HEAD_TIMEOUT, async {
            self.node(endpoint).await?.head_at(self.depth).await
        });
        (endpoint, head.await.unwrap_or_else(|_| Err(endpoint.silent())))
    }

    /// The number of the newest block that all nodes that answer, and call any block final, call so; `None` if none does. A
    /// node that cannot say it is as good as before.
    ///
    /// # Errors
    /// If no node could say.
    pub async fn finalized(&self) -> Result<Option<u64>, Error> {
        let asked = self.order().into_iter().map(|endpoint| async move {
            let finalized = async { self.node(endpoint).await?.finalized().await };
            let finalized = tokio::time::timeout(HEAD_TIMEOUT, finalized).await;
            finalized.unwrap_or_else(|_| Err(endpoint.silent()))
        });
        let (mut finalized, mut errors) = (Vec::new(), Vec::new());
        for answer in futures::future::join_all(asked).await {
            match answer {
                Ok(answer) => finalized.push(answer),
                Err(error) => errors.push(error),
            }
        }
        if finalized.is_empty() {
            return Err(one_or_all(errors));
        }
        Ok(finalized.into_iter().flatten().min())
    }

    /// What the first working node reports about the block with this number; `None` if it has no such block.
    ///
    /// # Errors
    /// If no node could say.
    pub async fn block(&self, number: u64) -> Result<Option<HeaderSummary>, Error> {
        self.each(PATIENCE_FOR_HEADERS, |node| async move { node.block(number).await }).await
    }

    /// Whether any node has the block with this number and hash. Those that say otherwise have failed then.
    pub async fn any_has(&self, number: u64, hash: B256) -> bool {
        let asked = self.endpoints.iter().map(|endpoint| async move {
            let block = async { self.node(endpoint).await?.block(number).await };
            let block = tokio::time::timeout(HEAD_TIMEOUT, block).await;
            (endpoint, block.unwrap_or_else(|_| Err(endpoint.silent())))
        });
        let answers = futures::future::join_all(asked).await;
        let has = |answer: &Result<Option<HeaderSummary>, Error>| matches!(answer, Ok(Some(block)) if block.hash == hash);
        let found = answers.iter().any(|(_, answer)| has(answer));
        for (endpoint, answer) in answers {
            match answer {
                answer if !found || has(&answer) => {}
                Err(error) => endpoint.fails(&error),
                Ok(other) => {
                    let other = other.map_or("none".to_owned(), |block| block.hash.to_string());
                    let reason =
                        format!("its block {number} is {other}, that of another node is {hash}");
                    let culprit = ErrorSource::Node(origin(&endpoint.url));
                    endpoint.fails(&Error::Malformed { culprit, reason });
                }
            }
        }
        found
    }

    /// Makes the input of the batch of blocks `first..=last`, whose proof rewards `beneficiary`, and executes it: see
    /// [`Node::prepare`].
    ///
    /// # Errors
    /// What went wrong with the node, or with each of several.
    pub async fn prepare(
        &self,
        first: u64,
        last: u64,
        beneficiary: Address,
    ) -> Result<Prepared, Error> {
        let terms = Terms { beneficiary, ..Terms::default() };
        self.each(PATIENCE, |node| async move {
            let node = node.with_terms(terms).with_known_keys(self.keys.clone());
            node.prepare(first, last).await
        })
        .await
    }

    /// What is wrong with the nodes that failed last.
    pub fn faults(&self) -> Vec<Fault> {
        self.endpoints.iter().filter_map(|endpoint| endpoint.health().fault.clone()).collect()
    }

    /// Asks the nodes in turn until one succeeds.
    async fn each<R, F: Future<Output = Result<R, Error>>>(
        &self,
        patience: Duration,
        ask: impl Fn(Node) -> F,
    ) -> Result<R, Error> {
        let mut errors = Vec::new();
        let order: Vec<&Endpoint> = self.order();
        let (these, ask) = (&order, &ask);
        let asked = |at: usize| async move {
            let answer = async { ask(self.node(these[at]).await?).await };
            (at, answer.await)
        };
        let mut silent = BTreeSet::<usize>::new();
        let (mut asking, mut next) = (FuturesUnordered::new(), 0);
        loop {
            if asking.is_empty() {
                if next == order.len() {
                    return Err(one_or_all(errors));
                }
                asking.push(asked(next));
                next += 1;
            }
            let answered = asking.next();
            let answered = match next < order.len() {
                true => tokio::time::timeout(patience, answered).await.ok(),
                false => Some(answered.await),
            };
            match answered {
                Some(Some((at, Ok(answer)))) => {
                    order[at].works();
                    silent.remove(&at);
                    // They may work, but not as well.
                    for at in silent {
                        let (node, reason) =
                            (ErrorSource::Node(origin(&order[at].url)), no_answer(patience));
                        order[at].fails(&Error::Unreachable { node, reason });
                    }
                    return Ok(answer);
                }
                Some(Some((at, Err(error)))) => {
                    // The blocks exceed a bound of the program, which is not the node's fault.
                    if error.bound().is_none() {
                        order[at].fails(&error);
                    }
                    silent.remove(&at);
                    errors.push(error);
                }
                Some(None) => {}
                None => {
                    order[next - 1].takes_long(patience);
                    silent.insert(next - 1);
                    asking.push(asked(next));
                    next += 1;
                }
            }
        }
    }

    /// The nodes that may be asked now, in order of preference; all nodes if none may.
    fn order(&self) -> Vec<&Endpoint> {
        let awake: Vec<&Endpoint> =
            self.endpoints.iter().filter(|endpoint| !endpoint.rests()).collect();
        if awake.is_empty() { self.endpoints.iter().collect() } else { awake }
    }

    /// The connection to a node, which is made if need be.
    async fn node(&self, endpoint: &Endpoint) -> Result<Node, Error> {
        if let Some(node) = &endpoint.health().node {
            return Ok(node.clone());
        }
        let node =
            Node::connect_with(&endpoint.url, self.config.clone(), self.options.clone()).await?;
        endpoint.health().node = Some(node.clone());
        Ok(node)
    }
}

impl fmt::Display for Nodes {
    /// Scheme, host and port of each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.endpoints.iter().map(|endpoint| origin(&endpoint.url)).collect();
        f.write_str(&names.join(", "))
    }
}

/// Loads the trusted setup of KZG, which takes seconds, before the first block needs it. It runs in the background and ends
/// by itself.
fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(|| {
            let crypto = revm::precompile::crypto();
            crypto.verify_kzg_proof(&[0; 32], &[0; 32], &[0; 48], &[0; 48])
        });
    });
}

/// The part of a URL that may be shown.
fn origin(url: &str) -> String {
    let url = url.parse::<reqwest::Url>();
    url.map_or_else(|_| "?".to_owned(), |url| url.origin().ascii_serialization())
}

/// For people: nothing came for so long.
pub(crate) fn no_answer(waited: Duration) -> String {
    format!("no answer in {} s", waited.as_secs())
}

fn one_or_all(mut errors: Vec<Error>) -> Error {
    match errors.len() {
        1 => errors.swap_remove(0),
        _ => Error::AllFailed(errors),
    }
}
