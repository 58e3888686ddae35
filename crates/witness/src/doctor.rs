//! What a node can do for a prover, found out by asking it.
//!
//! * Everything is tried as a server would do it: a block is prepared in each of the ways, and executed.
//! * Nothing is asked that is known to harm a node: execution witnesses stop geth before 1.17.2, so it is asked for none, and others
//!   for those of the examined block only.

mod checkup;

pub use checkup::{Check, Checkup, Cost, Verdict};

use crate::{
    Error, KnownKeys, Node, NodeOptions, WitnessSource, chain_config,
    error::list,
    heads,
    nodes::no_answer,
    rpc::{Call, METHOD_NOT_FOUND, Rpc},
};
use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes, U64};
use program::ChainConfig;
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// How far back the block is looked for that is examined: one with transactions says more.
const SEARCH: usize = 16;
/// Distances from the head at which a proof is asked for.
const DISTANCES: [u64; 6] = [1, 32, 128, 1024, 10_000, 100_000];
/// A newest block that is older has not come from a node that follows its chain.
const OLD: u64 = 600;
/// How far in the future a block may be before one of the two clocks is wrong, in seconds.
const AHEAD: u64 = 15;
/// How long a subscription over WebSocket may take, a batch, or a proof.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the examined block may take in each way. A server is more patient, but a person waits for a doctor.
const PREPARING: Duration = Duration::from_secs(20);
/// How long everything may take. What does not fit in is said not to have been answered.
const WHOLE: Duration = Duration::from_secs(90);

/// Whom to examine, and how.
#[derive(Clone, Debug)]
pub struct Examination<'e> {
    /// The node's URL.
    pub url: &'e str,
    /// WebSocket of the node, if announcements of blocks are wanted.
    pub ws_url: Option<&'e str>,
    /// The rules of the chain that it should be of.
    pub config: &'e ChainConfig,
    /// Keys that are known to be in use on that chain.
    pub keys: &'e KnownKeys,
    /// How it is asked.
    pub options: NodeOptions,
    /// The block to prepare; `None`: the newest one with transactions.
    pub block: Option<u64>,
    /// Now, in seconds since 1970.
    pub now: u64,
}

impl Examination<'_> {
    /// Asks the node for everything that a prover needs of it. What it cannot do is a finding, not an error.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub async fn run(&self) -> Result<Checkup, Error> {
        let rpc = Rpc::new(self.url, &self.options)?;
        let until = Instant::now() + WHOLE;
        let mut checkup = Checkup {
            node: rpc.name().to_string(),
            usable: false,
            checks: Vec::new(),
            costs: Vec::new(),
        };
        let node = match self.connect(WitnessSource::Any).await {
            Ok(node) => node,
            Err(error) => {
                let advice = match error {
                    Error::WrongChain { .. } => "name the chain with --chain, or another node",
                    Error::Url { .. } => "name its JSON-RPC: http:// or https://",
                    _ => "check that the node runs, and its address",
                };
                checkup.note("chain", Verdict::Bad, said(&error), Some(advice));
                return Ok(checkup);
            }
        };
        let begun = Instant::now();
        let head = node.head().await;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        let chain_id = self.config.chain_id;
        checkup.good("chain", format!("{chain_id}; a call takes {took:.1} ms"));
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                checkup.note("head", Verdict::Bad, said(&error), None);
                return Ok(checkup);
            }
        };
        self.head(&rpc, head, &mut checkup).await;
        finality(&node, until, &mut checkup).await;
        batches(&rpc, self.options.limits.batch, until, &mut checkup).await;
        if let Some(ws_url) = self.ws_url {
            announcements(ws_url, &mut checkup).await;
        }
        let examined = within(until, 3 * PATIENCE, self.examined(&node, head)).await;
        let Some(block) = examined.unwrap_or(Some(head).filter(|head| *head > 0)) else {
            let found = format!("block {head} is the newest, and there is none to prepare");
            let advice = Some("examine the node again when its chain has blocks");
            checkup.note("blocks", Verdict::Bad, found, advice);
            return Ok(checkup);
        };
        self.blocks(&rpc, block, until, &mut checkup).await;
        let version = within(until, PATIENCE, rpc.ask("web3_clientVersion", json!([]))).await;
        let harmed = version
            .is_some_and(|said| said.is_ok_and(|version: String| stops_when_asked(&version)));
        if harmed {
            let found = "geth before 1.17.2 may stop when it is asked for a witness".to_owned();
            let advice =
                "update it; until then use --witness-from proofs, or leave debug out of --http.api";
            checkup.note("version", Verdict::Fair, found, Some(advice));
        }
        if self.ways(block, harmed, until, &mut checkup).await {
            how_far_back(&rpc, head, until, &mut checkup).await;
        }
        Ok(checkup)
    }

    async fn connect(&self, witness: WitnessSource) -> Result<Node, Error> {
        let options = NodeOptions { witness, ..self.options.clone() };
        let node = Node::connect_with(self.url, self.config.clone(), options).await?;
        Ok(node.with_known_keys(self.keys.clone()))
    }

    /// The newest block: its age, and whether the node's rules for it are those of the config.
    async fn head(&self, rpc: &Rpc, head: u64, checkup: &mut Checkup) {
        let params = json!([U64::from(head), false]);
        let header: Result<Option<Header>, _> = rpc.find("eth_getBlockByNumber", params).await;
        let header = match header {
            Ok(Some(header)) => header,
            Ok(None) => {
                let found = format!("block {head} is the newest, and is not there");
                return checkup.note("head", Verdict::Fair, found, None);
            }
            Err(error) => return checkup.note("head", Verdict::Bad, said(&error), None),
        };
        let (time, now) = (header.timestamp, self.now);
        if time > now + AHEAD {
            let found = format!("block {head} is {} s in the future", time - now);
            let advice = Some("set the clock of this machine, or of the node's");
            checkup.note("head", Verdict::Fair, found, advice);
        } else if now.saturating_sub(time) > OLD {
            let found = format!("block {head} is {} s old", now - time);
            let advice = Some("check that the node follows its chain, and the clocks");
            checkup.note("head", Verdict::Fair, found, advice);
        } else {
            checkup.good("head", format!("block {head} is {} s old", now.saturating_sub(time)));
        }
        match chain_config(self.url, &self.options).await {
            Ok(told) => match difference(self.config, &told, time) {
                None => checkup.good("rules", "eth_config agrees with the chain config".into()),
                Some(found) => {
                    let advice = Some("give the node's genesis file with --chain, or --chain node");
                    checkup.note("rules", Verdict::Bad, found, advice);
                }
            },
            // Many nodes have no eth_config, and need none.
            Err(Error::NoConfig { reason, .. }) => {
                checkup.note("rules", Verdict::Fair, format!("not told: {reason}"), None);
            }
            Err(error) => checkup.note("rules", Verdict::Fair, said(&error), None),
        }
    }

    /// The block to prepare.
    async fn examined(&self, node: &Node, head: u64) -> Option<u64> {
        if self.block.is_some() {
            return self.block;
        }
        for number in (1..=head).rev().take(SEARCH) {
            if let Ok(Some(block)) = node.block(number).await
                && block.gas_used > 0
            {
                return Some(number);
            }
        }
        Some(head).filter(|head| *head > 0)
    }

    async fn blocks(&self, rpc: &Rpc, block: u64, until: Instant, checkup: &mut Checkup) {
        let params = json!([U64::from(block)]);
        let raw = within(until, 2 * PATIENCE, rpc.ask::<Bytes>("debug_getRawBlock", params)).await;
        let reason = match raw {
            Some(Ok(_)) => return checkup.good("blocks", "debug_getRawBlock".into()),
            Some(Err(error)) => said(&error),
            None => no_answer(2 * PATIENCE),
        };
        let found = format!("as objects (eth_getBlockByNumber): {reason}");
        checkup.note("blocks", Verdict::Fair, found, None);
    }

    /// Prepares the block in each way; asks for no witness if that harms the node. Returns whether it can be prepared from proofs
    /// alone.
    async fn ways(&self, block: u64, harmed: bool, until: Instant, checkup: &mut Checkup) -> bool {
        let mut results = Vec::new();
        let allowed = match self.options.witness {
            WitnessSource::Any if harmed => WitnessSource::Proofs,
            allowed => allowed,
        };
        let label = match self.options.witness {
            WitnessSource::Any => "any",
            WitnessSource::ExecutionWitness => "--witness-from execution-witness",
            WitnessSource::Proofs => "--witness-from proofs",
        };
        for (way, source) in [
            ("debug_executionWitness", WitnessSource::ExecutionWitness),
            ("eth_getProof", WitnessSource::Proofs),
            (label, allowed),
        ] {
            if harmed && source == WitnessSource::ExecutionWitness {
                results.push(Err((Lack::Other, "not asked for".to_owned())));
                continue;
            }
            let begun = Instant::now();
            let prepared = async {
                let node = self.connect(source).await?;
                let before = node.calls();
                let prepared = node.prepare(block, block).await?;
                Ok::<_, Error>(Cost {
                    way,
                    block,
                    calls: node.calls() - before,
                    milliseconds: begun.elapsed().as_millis(),
                    input_bytes: prepared.input.len(),
                })
            };
            let Some(prepared) = within(until, PREPARING, prepared).await else {
                results.push(Err((Lack::Other, no_answer(PREPARING))));
                continue;
            };
            match prepared {
                Ok(cost) => {
                    checkup.costs.push(cost);
                    results.push(Ok(()));
                }
                Err(Error::NoWitnessApi { .. }) if way != label => {
                    results.push(Err((Lack::Method, format!("the node has no {way}"))));
                }
                Err(error) => results.push(Err((Lack::of(&error), said(&error)))),
            }
        }
        let [witness, proofs, any] = &results[..] else { unreachable!("there are three ways") };
        match witness {
            Ok(()) => checkup.good("witness", "complete".into()),
            Err((lack, found)) => {
                let advice = match lack {
                    Lack::Nodes if any.is_ok() => {
                        Some("nothing: proofs of what is missing are asked for")
                    }
                    Lack::Method => Some(
                        "enable the debug API (geth, reth: --http.api eth,debug; Erigon: that and \
                         --prune.include-commitment-history; Besu: --rpc-http-api ETH,NET,WEB3,DEBUG; ethrex: --http.api \
                         eth,net,web3,debug; Nethermind: --JsonRpc.EnabledModules Eth,Subscribe,Debug): it saves calls",
                    ),
                    Lack::Refused => Some(
                        "see what its error asks for; docs/nodes.md has the settings of each client",
                    ),
                    _ => None,
                };
                checkup.note("witness", Verdict::Fair, found.clone(), advice);
            }
        }
        match proofs {
            Ok(()) => checkup.good("proofs", "a block can be prepared from them alone".into()),
            Err((lack, found)) => {
                let (verdict, advice) = match (any, lack) {
                    (Ok(()), _) => {
                        (Verdict::Fair, Some("nothing, as long as witnesses are complete"))
                    }
                    (Err(_), Lack::Method | Lack::Refused) => {
                        (Verdict::Bad, Some("use a node that keeps the state of its blocks"))
                    }
                    (Err(_), _) => (Verdict::Bad, None),
                };
                checkup.note("proofs", verdict, found.clone(), advice);
            }
        }
        checkup.usable =
            any.is_ok() && !checkup.checks.iter().any(|check| check.verdict == Verdict::Bad);
        match (any, proofs) {
            (Err((_, found)), Err((_, same))) if found == same => {}
            (Err((_, found)), _) => checkup.note("preparing", Verdict::Bad, found.clone(), None),
            (Ok(()), _) => {}
        }
        proofs.is_ok()
    }
}

/// What comes of this in time, and before `until`.
async fn within<T>(until: Instant, most: Duration, work: impl Future<Output = T>) -> Option<T> {
    let left = until.saturating_duration_since(Instant::now());
    tokio::time::timeout(most.min(left), work).await.ok()
}

/// Whether this version of a node may stop when it is asked for the witness of a block behind its head: geth's that have the method,
/// before 1.17.2 (go-ethereum #33572).
fn stops_when_asked(version: &str) -> bool {
    let Some(rest) = version.strip_prefix("Geth/v") else { return false };
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let mut numbers = rest.splitn(3, '.').map(|text| number(text).parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next()) < (1, 17, 2)
}

/// Why a way does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The node has no such method.
    Method,
    /// It refuses the method, in words of its own.
    Refused,
    /// The witness lacks something.
    Nodes,
    /// The error says what to do.
    Other,
}

impl Lack {
    fn of(error: &Error) -> Self {
        match error {
            Error::NoWitnessApi { .. } | Error::Rpc { code: METHOD_NOT_FOUND, .. } => Self::Method,
            Error::Rpc { .. } => Self::Refused,
            Error::Incomplete { .. } => Self::Nodes,
            _ => Self::Other,
        }
    }
}

fn said(error: &Error) -> String {
    list(std::slice::from_ref(error))
}

async fn finality(node: &Node, until: Instant, checkup: &mut Checkup) {
    // Of several nodes behind one address, one may not have heard yet.
    let asked = async {
        match node.finalized().await {
            Ok(Some(block)) => Ok(Some(block)),
            _ => node.finalized().await,
        }
    };
    let Some(finalized) = within(until, 2 * PATIENCE, asked).await else {
        return checkup.note("finality", Verdict::Fair, no_answer(2 * PATIENCE), None);
    };
    match finalized {
        Ok(Some(block)) => checkup.good("finality", format!("block {block} is final")),
        Ok(None) => {
            let advice = Some(
                "follow `latest` or a number of blocks, or examine the node again when its chain is older",
            );
            checkup.note("finality", Verdict::Fair, "no block is final yet".into(), advice);
        }
        Err(error) => checkup.note("finality", Verdict::Fair, said(&error), None),
    }
}

/// The largest batch that it takes, among those that are tried when one is refused.
async fn batches(rpc: &Rpc, limit: usize, until: Instant, checkup: &mut Checkup) {
    let call: Call = ("eth_blockNumber", json!([]));
    let mut size = limit;
    while size > 1 {
        // One failure may have passed by the second time.
        let calls = vec![&call; size];
        let tried = async { rpc.takes_batch(&calls).await || rpc.takes_batch(&calls).await };
        match within(until, PATIENCE, tried).await {
            Some(true) => break,
            Some(false) => size /= 4,
            None => {
                let advice = Some("--rpc-batch 1");
                let found = format!("of {size} calls: {}", no_answer(PATIENCE));
                return checkup.note("batches", Verdict::Fair, found, advice);
            }
        }
    }
    match size {
        size if size == limit => checkup.good("batches", format!("of {size} calls")),
        0 | 1 => {
            let advice = Some("--rpc-batch 1 saves the attempts; more --rpc-concurrency helps");
            checkup.note("batches", Verdict::Fair, "none are taken".into(), advice);
        }
        size => {
            let advice = format!("--rpc-batch {size} saves the attempts");
            let found = format!("of {size} calls, not of {limit}");
            checkup.note("batches", Verdict::Fair, found, Some(&advice));
        }
    }
}

async fn announcements(ws_url: &str, checkup: &mut Checkup) {
    let found = match tokio::time::timeout(PATIENCE, heads::subscribes(ws_url)).await {
        Ok(Ok(())) => return checkup.good("newHeads", "new blocks are announced".into()),
        Ok(Err(reason)) => reason,
        Err(_) => format!("no subscription in {} s", PATIENCE.as_secs()),
    };
    let advice = Some("leave out --ws-url: the head is asked for anyway");
    checkup.note("newHeads", Verdict::Fair, found, advice);
}

/// How old a block may be whose state the node proves.
async fn how_far_back(rpc: &Rpc, head: u64, until: Instant, checkup: &mut Checkup) {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Proof {
        #[expect(dead_code, reason = "that it is there is all that counts")]
        account_proof: Vec<Bytes>,
    }
    let (mut reached, mut refused) = (None, None);
    let distances = DISTANCES.into_iter().filter(|distance| *distance < head).chain([head]);
    for distance in distances {
        let block = U64::from(head - distance);
        let params = json!([Address::ZERO, [], block]);
        match within(until, PATIENCE, rpc.ask::<Proof>("eth_getProof", params)).await {
            Some(Ok(_)) => reached = Some(distance),
            Some(Err(error)) => refused = Some((distance, said(&error))),
            None => refused = Some((distance, no_answer(PATIENCE))),
        }
        if refused.is_some() {
            break;
        }
    }
    let far = reached.map_or("no proofs".into(), |far| format!("proofs {far} blocks back"));
    match refused {
        None => checkup.good("history", format!("{far}: the whole chain")),
        Some((distance, reason)) => {
            let found = format!("{far}; not {distance}: {reason}");
            let advice = Some(
                "to prove older blocks than that from proofs, use a node that keeps the proofs of old states (docs/nodes.md says how \
                 each client does), or (reth) --rpc.eth-proof-window",
            );
            checkup.note("history", Verdict::Fair, found, advice);
        }
    }
}

/// What differs between the rules at a time.
fn difference(given: &ChainConfig, told: &ChainConfig, time: u64) -> Option<String> {
    type Rules = (&'static str, Option<(u64, u64, u64)>);
    let rules = |config: &ChainConfig| -> Rules {
        let active = |at: Option<u64>| at.is_some_and(|at| at <= time);
        let fork = match config {
            config if active(config.osaka_time) => "Osaka",
            config if active(config.prague_time) => "Prague",
            config if active(config.cancun_time) => "Cancun",
            config if active(config.shanghai_time) => "Shanghai",
            _ => "Paris",
        };
        let blobs = config.blob_schedule.iter().rfind(|blobs| blobs.time <= time);
        (fork, blobs.map(|blobs| (blobs.target, blobs.max, blobs.update_fraction)))
    };
    let ((ours, our_blobs), (theirs, their_blobs)) = (rules(given), rules(told));
    if ours != theirs {
        return Some(format!("the node is at {theirs}, the chain config at {ours}"));
    }
    if our_blobs != their_blobs {
        let text = |blobs: Option<(u64, u64, u64)>| {
            blobs.map_or("none".to_owned(), |(target, max, fraction)| {
                format!("target {target}, max {max}, update fraction {fraction}")
            })
        };
        return Some(format!(
            "the node has blobs {}, the chain config {}",
            text(their_blobs),
            text(our_blobs)
        ));
    }
    let (ours, theirs) = (given.deposit_contract, told.deposit_contract);
    (given.prague_time.is_some() && ours != theirs).then(|| {
        format!("the node's deposit contract is {theirs}, that of the chain config {ours}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_geth_that_a_witness_may_stop_are_known() {
        for version in [
            "Geth/v1.16.7-stable-b9f3a3d9/linux-amd64/go1.25.1",
            "Geth/v1.17.1-stable",
            "Geth/v1.9.25",
        ] {
            assert!(stops_when_asked(version), "{version}");
        }
        for version in [
            "Geth/v1.17.2-stable",
            "Geth/v1.18.0-unstable",
            "Geth/v2.0.0",
            "reth/v1.9.3-x",
            "erigon/3.5.0",
            "",
        ] {
            assert!(!stops_when_asked(version), "{version}");
        }
    }

    #[test]
    fn rules_are_compared_at_the_time_of_the_newest_block() {
        let (mainnet, time) = (ChainConfig::mainnet(), 1_760_000_000);
        assert_eq!(difference(&mainnet, &mainnet, time), None);
        // A fork to come, and what was before, make no difference.
        let later =
            ChainConfig { osaka_time: Some(time + 1), shanghai_time: Some(0), ..mainnet.clone() };
        assert_eq!(difference(&later, &mainnet, time), None);
        let found = |config: &ChainConfig| difference(config, &mainnet, time).unwrap();
        let early = ChainConfig { osaka_time: Some(time), ..mainnet.clone() };
        assert_eq!(found(&early), "the node is at Prague, the chain config at Osaka");
        let mut blobs = mainnet.clone();
        blobs.blob_schedule.iter_mut().for_each(|blobs| blobs.max += 1);
        assert!(found(&blobs).contains("the node has blobs target 6, max 9"), "{}", found(&blobs));
        let contract = ChainConfig { deposit_contract: Address::ZERO, ..mainnet.clone() };
        assert!(found(&contract).contains("deposit contract"));
    }
}
