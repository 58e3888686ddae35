//! Flags about blocks to work on: where they come from, and what the statement says besides.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use alloy_primitives::{Address, B256};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use witness::Recording;

use crate::chain::ChainArg;
use crate::parse;

/// Blocks to work on: a file, or a range of a node.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// JSON-RPC of a node
    #[arg(long, value_name = "URL", requires = "block")]
    pub rpc_url: Option<String>,
    /// Blocks to take from the node: `A` or `A..B`, both included
    #[arg(long, value_name = "A..B", value_parser = parse::block_range, requires = "rpc_url")]
    pub block: Option<parse::BlockRange>,
    /// The chain: mainnet, holesky, hoodi, sepolia, dev, anvil, a genesis file, or `node` for what the node says (eth_config)
    /// [default: by the chain id]
    #[arg(long, value_name = "CHAIN")]
    pub chain: Option<ChainArg>,
    /// What the statement says besides
    #[command(flatten)]
    pub terms: TermsArgs,
    /// How the node is asked
    #[command(flatten)]
    pub access: NodeAccess,
}

/// What a statement says because its prover wants it to.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct TermsArgs {
    /// Who may claim the reward of the proof: the statement names it [default: nobody]
    #[arg(long, value_name = "ADDRESS")]
    pub beneficiary: Option<Address>,
    /// Link of the chain of deposits before the first block; chains with a bridge need it, and no others
    #[arg(long, value_name = "HASH")]
    pub deposits_start: Option<B256>,
}

/// How an L2 node is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeAccess {
    /// Where witnesses come from
    #[arg(
        long,
        env = "PROVER_SERVER_WITNESS_FROM",
        value_enum,
        default_value_t = WitnessFrom::Any
    )]
    pub witness_from: WitnessFrom,
    /// Requests to a node at the same time; a batch of calls is one
    #[arg(long, env = "PROVER_SERVER_RPC_CONCURRENCY", default_value = "8", value_name = "N")]
    pub rpc_concurrency: NonZeroU16,
    /// Most calls to a node in a second; those of a batch count singly [default: no limit]
    #[arg(long, env = "PROVER_SERVER_RPC_PER_SECOND", value_name = "N")]
    pub rpc_per_second: Option<NonZeroU32>,
    /// Most calls in a batch; 1 for nodes that take no batches
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_BATCH",
        default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..=1000),
        value_name = "N"
    )]
    pub rpc_batch: u16,
    /// Longest answer of a node; a longer one is refused while it arrives
    #[arg(
        long,
        env = "PROVER_SERVER_RPC_MAX_ANSWER_BYTES",
        default_value = "268435456",
        value_name = "BYTES"
    )]
    pub rpc_max_answer_bytes: NonZeroU32,
    /// Record what is asked and answered in this folder, without the keys of URLs, for a bug report; `l2-prover replay` answers the same
    /// again
    #[arg(long, env = "PROVER_SERVER_RECORD", value_name = "FOLDER")]
    pub record: Option<PathBuf>,
}

impl NodeAccess {
    /// As the node's client has it.
    ///
    /// # Errors
    /// If the folder for recordings cannot be made.
    pub(crate) fn options(&self) -> anyhow::Result<witness::NodeOptions> {
        Ok(witness::NodeOptions {
            record: self.record.as_deref().map(Recording::into_folder).transpose()?,
            witness: match self.witness_from {
                WitnessFrom::Any => witness::WitnessSource::Any,
                WitnessFrom::ExecutionWitness => witness::WitnessSource::ExecutionWitness,
                WitnessFrom::Proofs => witness::WitnessSource::Proofs,
            },
            limits: witness::Limits {
                concurrency: usize::from(self.rpc_concurrency.get()),
                per_second: self.rpc_per_second.map(NonZeroU32::get),
                batch: self.rpc_batch.into(),
                answer: self.rpc_max_answer_bytes.get() as usize,
                ..witness::Limits::default()
            },
        })
    }
}

/// Where witnesses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WitnessFrom {
    /// debug_executionWitness, and eth_getProof where that does not work
    Any,
    /// debug_executionWitness alone
    ExecutionWitness,
    /// eth_getProof and eth_getCode alone
    Proofs,
}
