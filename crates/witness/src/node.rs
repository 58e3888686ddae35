//! Blocks from an L2 node over JSON-RPC.

mod claim;

use crate::{
    BlockFile, Error, ErrorSource, Prepared, Recording, Rules,
    assemble::{self, Claim, Parent},
    proofs::KnownKeys,
    rpc::{Answer, Limits, METHOD_NOT_FOUND, Rpc},
};
use alloy_primitives::{B256, U64};
use program::{ChainConfig, Terms};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// How to ask a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// Where witnesses come from.
    pub witness: WitnessSource,
    /// Limits on the requests sent to it.
    pub limits: Limits,
    /// Where its answers are recorded.
    pub record: Option<Recording>,
}

/// Where a node's witnesses come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WitnessSource {
    /// From `debug_executionWitness`; from proofs if that does not work, and what a witness lacks from proofs too.
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
        let rpc = Rpc::new(url, &options)?;
        let (terms, source) = (Terms::default(), options.witness);
        let keys = KnownKeys::default();
        let node = Self { rpc, config, terms, source, keys };
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
            // The node does not know the tag.
            Err(error @ Error::Rpc { code: METHOD_NOT_FOUND | -32602 | -32600, .. }) => Err(error),
            // While there is no such block, each client has an error of its own, if it answers with one at all.
            Err(Error::Rpc { .. }) => self.head().await.map(|_| 0),
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
        let claims = Arc::new(self.claims(first, last).await?);
        let prepared = self.execute(claims.clone()).await;
        let missing = match prepared {
            // Some nodes' witnesses lack absent accounts, or what a collapsing branch needs; their proofs have it.
            Err(error @ Error::Incomplete { .. }) if self.source == WitnessSource::Any => error,
            prepared => return prepared,
        };
        match self.complete(&claims).await {
            Ok(claims) => self.execute(Arc::new(claims)).await,
            Err(error) => Err(self.neither(first, missing, error)),
        }
    }

    /// One block and its witness as the node reports them, to keep for later; they have not been executed.
    ///
    /// # Errors
    /// As [`Node::prepare`].
    pub async fn fetch(&self, number: u64) -> Result<BlockFile, Error> {
        let mut claim = self.claim(number).await?;
        self.add_parent(&mut claim).await?;
        Ok(BlockFile::new(self.rpc.name(), self.config.chain_id, claim))
    }

    async fn execute(&self, claims: Arc<Vec<Claim>>) -> Result<Prepared, Error> {
        let (config, terms, name) = (self.config.clone(), self.terms, self.rpc.name());
        // Executing takes long and never awaits.
        tokio::task::spawn_blocking(move || {
            let rules = Rules { config: &config, terms };
            assemble::prepare(rules, &claims, Parent::Header, &name)
        })
        .await
        .expect("executing an input does not panic")
    }

    async fn ask<R: Answer>(&self, method: &'static str, params: Value) -> Result<R, Error> {
        self.rpc.ask(method, params).await
    }
}
