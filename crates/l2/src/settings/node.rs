//! The settings about the L2 node, which are the command's own: [`server::Config`] has the others.

use std::fmt::Display;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use witness::Depth;

use crate::args::{NodeAccess, WitnessFrom};
use crate::commands::server::Server;
use crate::parse;

/// Which nodes a server asks, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSettings {
    /// The nodes, the first one that works first: one address, or several.
    #[serde(deserialize_with = "one_or_several")]
    pub rpc_url: Vec<String>,
    /// WebSocket of a node that announces new blocks.
    #[serde(deserialize_with = "address")]
    pub ws_url: Option<String>,
    /// The nodes' chain: a name, a genesis file, or `node`.
    pub chain: String,
    /// How old a block must be to be proven.
    #[serde(serialize_with = "depth_text", deserialize_with = "depth")]
    pub follow: Depth,
    /// Where witnesses come from.
    pub witness_from: WitnessFrom,
    /// Requests to a node at the same time.
    pub rpc_concurrency: NonZeroU16,
    /// Most calls to a node in a second.
    pub rpc_per_second: Option<NonZeroU32>,
    /// Most calls in a batch.
    #[serde(deserialize_with = "batch")]
    pub rpc_batch: u16,
    /// Longest answer of a node.
    pub rpc_max_answer_bytes: NonZeroU32,
    /// Folder in which the nodes' answers are recorded.
    pub record: Option<PathBuf>,
}

/// As the flags have it: these defaults only tell keys and types; what counts comes from the command line.
impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            rpc_url: Vec::new(),
            ws_url: None,
            chain: "dev".into(),
            follow: Depth::Latest,
            witness_from: WitnessFrom::Any,
            rpc_concurrency: const { NonZeroU16::new(8).expect("8 is not zero") },
            rpc_per_second: None,
            rpc_batch: 64,
            rpc_max_answer_bytes: const { NonZeroU32::new(256 << 20).expect("not zero") },
            record: None,
        }
    }
}

impl NodeSettings {
    /// What the flags and the environment say, or their defaults.
    pub(crate) fn of(args: &Server) -> Self {
        let NodeAccess {
            witness_from,
            rpc_concurrency,
            rpc_per_second,
            rpc_batch,
            rpc_max_answer_bytes,
            record,
        } = args.access.clone();
        Self {
            rpc_url: args.rpc_url.clone(),
            ws_url: args.ws_url.clone(),
            chain: args.chain.to_string(),
            follow: args.follow,
            witness_from,
            rpc_concurrency,
            rpc_per_second,
            rpc_batch,
            rpc_max_answer_bytes,
            record,
        }
    }

    /// How the nodes are asked.
    pub(crate) fn access(&self) -> NodeAccess {
        NodeAccess {
            witness_from: self.witness_from,
            rpc_concurrency: self.rpc_concurrency,
            rpc_per_second: self.rpc_per_second,
            rpc_batch: self.rpc_batch,
            rpc_max_answer_bytes: self.rpc_max_answer_bytes,
            record: self.record.clone(),
        }
    }
}

/// One text, or several, each of which may be several with commas between them, as flags have them. The message does not repeat the value: an address may hold a key.
pub(crate) fn one_or_several<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Several(Vec<String>),
    }
    let parts = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    match Texts::deserialize(deserializer) {
        Ok(Texts::One(text)) => Ok(parts(text)),
        Ok(Texts::Several(texts)) => Ok(texts.into_iter().flat_map(parts).collect()),
        Err(_) => Err(serde::de::Error::custom("must be a text, or a list of texts")),
    }
}

/// A text, likewise.
pub(crate) fn address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::deserialize(deserializer);
    text.map_err(|_| serde::de::Error::custom("must be a text"))
}

/// `latest`, `safe`, `finalized`, or a number of blocks, with or without quotes.
fn depth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Depth, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let wrong =
        || serde::de::Error::custom("must be latest, safe, finalized, or a number of blocks");
    match Written::deserialize(deserializer).map_err(|_: D::Error| wrong())? {
        Written::Number(blocks) => Ok(Depth::Behind(blocks)),
        Written::Text(text) => parse::depth(&text).map_err(serde::de::Error::custom),
    }
}

fn depth_text<S: Serializer>(depth: &Depth, serializer: S) -> Result<S::Ok, S::Error> {
    let text: &dyn Display = match depth {
        Depth::Latest => &"latest",
        Depth::Safe => &"safe",
        Depth::Finalized => &"finalized",
        Depth::Behind(blocks) => blocks,
    };
    serializer.collect_str(text)
}

fn batch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let calls = u16::deserialize(deserializer)?;
    if (1..=1000).contains(&calls) {
        return Ok(calls);
    }
    Err(serde::de::Error::custom(format!("{calls} is not in 1..=1000")))
}
