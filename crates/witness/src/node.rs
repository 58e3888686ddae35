//! Blocks from an L2 node over JSON-RPC.

use crate::{
    BlockFile, Error, ErrorSource, Prepared, Rules,
    assemble::{self, Claim, Parent, Witness, WitnessHeader},
    proofs::{Collector, KnownKeys},
    rpc::{Answer, Failure, Limits, METHOD_NOT_FOUND, Rpc},
};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, Sealed, U64, keccak256};
use alloy_rpc_types_eth::Block;
use futures::{StreamExt, TryStreamExt};
use program::{ChainConfig, Terms};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Blocks of a batch that are fetched at the same time.
const BLOCKS_AT_ONCE: usize = 4;

/// How to ask a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// Where witnesses come from.
    pub witness: WitnessSource,
    /// Limits on the requests sent to it.
    pub limits: Limits,
}

/// Where a node's witnesses come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WitnessSource {
    /// From `debug_executionWitness`; from proofs if the node lacks that method or its witness is incomplete.
    #[default]
    Any,
    /// From `debug_executionWitness` alone.
    ExecutionWitness,
    /// From `eth_getProof` and `eth_getCode` alone.
    Proofs,
}

/// Which block counts as the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// The node's latest block.
    #[default]
    Latest,
    /// The latest block that is safe from reorgs, as the node sees it.
    Safe,
    /// The latest final block.
    Finalized,
    /// The block that is this many blocks before the latest.
    Behind(u64),
}

/// What a node reports about a block, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSummary {
    /// Its hash.
    pub hash: B256,
    /// Gas used by its transactions.
    pub gas_used: u64,
}

/// An L2 node. It need not be trusted.
#[derive(Clone, Debug)]
pub struct Node {
    rpc: Rpc,
    config: ChainConfig,
    terms: Terms,
    source: WitnessSource,
    keys: KnownKeys,
    /// Whether the node has answered that it does not know `debug_executionWitness`.
    lacks_witness: Arc<AtomicBool>,
}

impl Node {
    /// Connects to the node at `url` (HTTP or HTTPS) and checks that it is of the chain of `config`.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Unreachable`], [`Error::WrongChain`].
    pub async fn connect(url: &str, config: ChainConfig) -> Result<Self, Error> {
        Self::connect_with(url, config, NodeOptions::default()).await
    }

    /// [`Node::connect`] with other options than the default ones.
    ///
    /// # Errors
    /// As [`Node::connect`].
    pub async fn connect_with(
        url: &str,
        config: ChainConfig,
        options: NodeOptions,
    ) -> Result<Self, Error> {
        let rpc = Rpc::new(url, options.limits)?;
        let lacks_witness = Arc::new(AtomicBool::new(false));
        let (terms, source) = (Terms::default(), options.witness);
        let keys = KnownKeys::default();
        let node = Self { rpc, config, terms, source, keys, lacks_witness };
        let found: U64 = node.ask("eth_chainId", json!([])).await?;
        match found.to::<u64>() == node.config.chain_id {
            true => Ok(node),
            false => {
                let (expected, found) = (node.config.chain_id, found.to());
                Err(Error::WrongChain { culprit: node.rpc.name(), expected, found })
            }
        }
    }

    /// The same node, with these terms in its inputs instead of the default ones.
    pub fn with_terms(self, terms: Terms) -> Self {
        Self { terms, ..self }
    }

    /// The same node; `keys` are known to be in use on its chain.
    pub fn with_known_keys(self, keys: KnownKeys) -> Self {
        Self { keys, ..self }
    }

    pub(crate) fn known_keys(&self) -> &KnownKeys {
        &self.keys
    }

    /// Its name in errors: scheme, host and port.
    pub fn name(&self) -> ErrorSource {
        self.rpc.name()
    }

    /// The rules of its chain.
    pub fn config(&self) -> &ChainConfig {
        &self.config
    }

    /// The rules and terms under which its blocks are proven.
    pub fn rules(&self) -> Rules<'_> {
        Rules { config: &self.config, terms: self.terms }
    }

    /// Calls made so far; each call of a batch counts.
    pub fn calls(&self) -> u64 {
        self.rpc.calls()
    }

    /// The number of the node's latest block.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Rpc`], [`Error::Malformed`].
    pub async fn head(&self) -> Result<u64, Error> {
        self.plausible(self.ask::<U64>("eth_blockNumber", json!([])).await?.to())
    }

    /// Refuses a number that no chain reaches: differences of block numbers have to fit signed counters.
    fn plausible(&self, number: u64) -> Result<u64, Error> {
        if i64::try_from(number).is_ok() {
            return Ok(number);
        }
        Err(self
            .rpc
            .malformed(format!("its newest block has number {number}, which no chain reaches")))
    }

    /// The number of the newest block at this `depth`; 0 if there is none yet.
    ///
    /// # Errors
    /// As [`Node::head`].
    pub async fn head_at(&self, depth: Depth) -> Result<u64, Error> {
        #[derive(Debug, Deserialize)]
        struct Number {
            number: U64,
        }
        let tag = match depth {
            Depth::Latest => return self.head().await,
            Depth::Behind(blocks) => return Ok(self.head().await?.saturating_sub(blocks)),
            Depth::Safe => "safe",
            Depth::Finalized => "finalized",
        };
        match self.ask::<Option<Number>>("eth_getBlockByNumber", json!([tag, false])).await {
            Ok(block) => self.plausible(block.map_or(0, |block| block.number.to())),
            // geth's answer while there is no such block.
            Err(Error::Rpc { message, .. }) if message.contains("not found") => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The number of the newest block that the node calls final; `None` if there is none yet, or the node does not know what
    /// that is.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Malformed`].
    pub async fn finalized(&self) -> Result<Option<u64>, Error> {
        match self.head_at(Depth::Finalized).await {
            Ok(number) => Ok(Some(number).filter(|number| *number > 0)),
            Err(Error::Rpc { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the node reports about its block with this number, unchecked, or `None` if it has none.
    ///
    /// # Errors
    /// As [`Node::head`].
    pub async fn block(&self, number: u64) -> Result<Option<HeaderSummary>, Error> {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Block {
            hash: B256,
            gas_used: U64,
        }
        let block: Option<Block> =
            self.ask("eth_getBlockByNumber", json!([U64::from(number), false])).await?;
        Ok(block.map(|Block { hash, gas_used }| HeaderSummary { hash, gas_used: gas_used.to() }))
    }

    /// Makes the input of the batch of blocks `first..=last` and executes it.
    ///
    /// # Errors
    /// Any of [`Error`] that concerns a node or blocks. [`Error::Unlinked`], [`Error::Unreachable`] and
    /// [`Error::BlockNotFound`] may pass by themselves.
    pub async fn prepare(&self, first: u64, last: u64) -> Result<Prepared, Error> {
        if first > last {
            return Err(Error::EmptyRange { first, last });
        }
        let source = self.source_now();
        let prepared = self.prepare_from(source, first, last).await;
        match prepared {
            // Some nodes' witnesses lack what a collapsing branch needs; their proofs contain it.
            Err(Error::Incomplete { .. }) if source == WitnessSource::Any => {
                let proven = self.prepare_from(WitnessSource::Proofs, first, last).await;
                proven.or(prepared)
            }
            prepared => prepared,
        }
    }

    /// One block and its witness as the node reports them, to keep for later; they have not been executed.
    ///
    /// # Errors
    /// As [`Node::prepare`].
    pub async fn fetch(&self, number: u64) -> Result<BlockFile, Error> {
        let mut claim = self.claim(number, self.source_now()).await?;
        self.add_parent(&mut claim).await?;
        Ok(BlockFile::new(self.rpc.name(), self.config.chain_id, claim))
    }

    /// Where witnesses come from, given the node's answers so far.
    fn source_now(&self) -> WitnessSource {
        match self.lacks_witness.load(Ordering::Relaxed) {
            true if self.source == WitnessSource::Any => WitnessSource::Proofs,
            _ => self.source,
        }
    }

    async fn prepare_from(
        &self,
        source: WitnessSource,
        first: u64,
        last: u64,
    ) -> Result<Prepared, Error> {
        let mut fetched = futures::stream::iter(first..=last)
            .map(|number| self.claim(number, source))
            .buffered(BLOCKS_AT_ONCE);
        let mut claims: Vec<Claim> = Vec::new();
        while let Some(claim) = fetched.try_next().await? {
            if let Some(before) = claims.last()
                && before.header.hash() != claim.header.parent_hash
            {
                let number = claim.header.number;
                return Err(Error::Unlinked { node: self.rpc.name(), number });
            }
            claims.push(claim);
        }
        drop(fetched);
        self.add_parent(&mut claims[0]).await?;
        let (config, terms, name) = (self.config.clone(), self.terms, self.rpc.name());
        // Executing takes long and never awaits.
        tokio::task::spawn_blocking(move || {
            let rules = Rules { config: &config, terms };
            assemble::prepare(rules, &claims, Parent::Header, &name)
        })
        .await
        .expect("executing an input does not panic")
    }

    async fn claim(&self, number: u64, source: WitnessSource) -> Result<Claim, Error> {
        let rlp = self.raw_block(number).await?;
        let header = assemble::header_of(&rlp).map_err(|error| {
            self.rpc.malformed(format!("its block {number} is not a block's RLP: {error}"))
        })?;
        if header.number != number {
            let reason = format!("its block {number} has number {}", header.number);
            return Err(self.rpc.malformed(reason));
        }
        let witness = match source {
            WitnessSource::Proofs => None,
            WitnessSource::Any | WitnessSource::ExecutionWitness => {
                self.execution_witness(number, header.hash()).await?
            }
        };
        let witness = match witness {
            Some(witness) => witness,
            None if source == WitnessSource::ExecutionWitness => {
                return Err(Error::NoWitnessApi { node: self.rpc.name() });
            }
            None => self.witness_from_proofs(&header, &rlp).await?,
        };
        Ok(Claim { header, rlp, witness })
    }

    /// The answer to `debug_executionWitness`, or `None` if the node lacks the method.
    async fn execution_witness(&self, number: u64, hash: B256) -> Result<Option<Witness>, Error> {
        let by_number = ("debug_executionWitness", json!([U64::from(number)]));
        let by_hash = ("debug_executionWitnessByBlockHash", json!([hash]));
        for (method, params) in [by_number, by_hash] {
            match self.rpc.request(method, params).await {
                Ok(witness) => return Ok(Some(witness)),
                Err(Failure::NoSuchMethod) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        self.lacks_witness.store(true, Ordering::Relaxed);
        Ok(None)
    }

    async fn witness_from_proofs(
        &self,
        header: &Sealed<Header>,
        rlp: &[u8],
    ) -> Result<Witness, Error> {
        let (node, number) = (self.rpc.name(), header.number);
        let Some(parent) = number.checked_sub(1) else {
            return Err(Error::BlockNotFound { node, number });
        };
        let params = json!([U64::from(parent), false]);
        let found: Option<Header> = self.ask("eth_getBlockByNumber", params).await?;
        let found =
            found.ok_or_else(|| Error::BlockNotFound { node: node.clone(), number: parent })?;
        let parent = Sealed::new(found);
        if parent.hash() != header.parent_hash {
            return Err(Error::Unlinked { node, number });
        }
        // It is large, and nearly never needed.
        let witness = Box::pin(Collector::new(self, &self.rpc).collect(rlp, parent)).await;
        witness.map_err(|error| match error {
            Error::Rpc { method: "eth_getProof", code: METHOD_NOT_FOUND, .. } => {
                Error::NoWitnessApi { node }
            }
            error => error,
        })
    }

    /// The block's RLP, from `debug_getRawBlock` if the node has that method.
    pub(crate) async fn raw_block(&self, number: u64) -> Result<Bytes, Error> {
        let not_found = || Error::BlockNotFound { node: self.rpc.name(), number };
        let raw: Result<Option<Bytes>, _> =
            self.rpc.request("debug_getRawBlock", json!([U64::from(number)])).await;
        match raw {
            Ok(Some(rlp)) if !rlp.is_empty() => Ok(rlp),
            Ok(_) => Err(not_found()),
            Err(Failure::NoSuchMethod) => {
                let params = json!([U64::from(number), true]);
                let block: Value = self
                    .ask::<Option<Value>>("eth_getBlockByNumber", params)
                    .await?
                    .ok_or_else(not_found)?;
                let culprit = self.rpc.name();
                if let Some((index, kind)) = unknown_type(&block) {
                    return Err(Error::UnknownTransaction { culprit, block: number, index, kind });
                }
                let block: Block = serde_json::from_value(block).map_err(|error| {
                    self.rpc.malformed(format!("its block {number} is no block: {error}"))
                })?;
                let said = block.header.hash;
                let block =
                    block.into_consensus().map_transactions(|transaction| transaction.into_inner());
                // Without this check the program would only find that some root differs.
                if block.header.hash_slow() != said {
                    return Err(self.rpc.malformed(format!(
                        "its block {number} has header fields that Ethereum does not"
                    )));
                }
                Ok(alloy_rlp::encode(block).into())
            }
            // For a missing block, some nodes answer with an error instead of `null`.
            Err(Failure::Other(Error::Rpc { .. })) if self.block(number).await?.is_none() => {
                Err(not_found())
            }
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// Fetches the parent's header if the witness came without it.
    async fn add_parent(&self, claim: &mut Claim) -> Result<(), Error> {
        let (wanted, number) = (claim.header.parent_hash, claim.header.number);
        let headers = &mut claim.witness.headers;
        if number == 0 || headers.iter().any(|header| keccak256(header.rlp()) == wanted) {
            return Ok(());
        }
        let params = json!([U64::from(number - 1), false]);
        let parent: Option<Header> = self.ask("eth_getBlockByNumber", params).await?;
        headers.extend(parent.map(|header| WitnessHeader::Object(Box::new(header))));
        Ok(())
    }

    async fn ask<R: Answer>(&self, method: &'static str, params: Value) -> Result<R, Error> {
        let answer = self.rpc.request(method, params).await;
        answer.map_err(|failure| failure.into_error(&self.rpc, method))
    }
}

/// The position and type of the first transaction of a block, in JSON, whose type Ethereum does not have up to Osaka.
fn unknown_type(block: &Value) -> Option<(usize, u8)> {
    let transactions = block["transactions"].as_array()?.iter().enumerate();
    let kinds = transactions.map(|(index, transaction)| (index, &transaction["type"]));
    let kinds = kinds.filter_map(|(index, kind)| {
        let kind = u8::from_str_radix(kind.as_str()?.strip_prefix("0x")?, 16).ok()?;
        Some((index, kind))
    });
    kinds.into_iter().find(|(_, kind)| *kind > assemble::LAST_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_of_another_chain_is_named_with_its_type() {
        let block = |kinds: &[&str]| {
            let transactions: Vec<Value> =
                kinds.iter().map(|kind| json!({ "type": kind })).collect();
            json!({ "transactions": transactions })
        };
        assert_eq!(unknown_type(&block(&["0x0", "0x2", "0x7e"])), Some((2, 0x7e)));
        assert_eq!(unknown_type(&block(&["0x64", "0x65"])), Some((0, 0x64)));
        assert_eq!(unknown_type(&block(&["0x0", "0x1", "0x2", "0x3", "0x4"])), None);
        // Some nodes leave the type of old transactions out.
        assert_eq!(unknown_type(&json!({ "transactions": [{}] })), None);
        assert_eq!(unknown_type(&Value::Null), None);
    }
}
