//! From what a person names (a file, or blocks of a node) to the program's input.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use program::{AssumedParent, BlockSummary, Statement};

use crate::args::Source;
use crate::chain::{self, ChainArg};
use crate::parse::BlockRange;

/// A run of blocks, ready for a prover.
#[derive(Debug)]
pub struct Prepared {
    /// The file's name, or the node and its blocks.
    pub name: String,
    /// The program's input.
    pub input: Vec<u8>,
    /// What it states, as the program found natively.
    pub statement: Statement,
    /// The blocks in it.
    pub blocks: Vec<BlockSummary>,
    /// What the parent's header would have shown, if the file has none and it was assumed.
    pub assumed_parent: Option<AssumedParent>,
}

impl Prepared {
    /// Gas used by all blocks.
    pub fn gas_used(&self) -> u64 {
        self.blocks.iter().map(|block| block.gas_used).sum()
    }

    /// Number of transactions in all blocks.
    pub fn transactions(&self) -> usize {
        self.blocks.iter().map(|block| block.transactions).sum()
    }
}

/// Whether a block file without a parent header is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// It is refused as incomplete.
    Required,
    /// Exactly the rules of the header against its parent are skipped. Such an execution is never proven.
    MayBeAssumed,
}

/// Whether a file is one of blocks, by its name.
pub fn is_block_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json" || extension == "zst")
}

/// Reads a block file (`.json`, `.json.zst`) or an input made by `l2-prover witness`.
pub fn from_file(
    path: &Path,
    chain: Option<&ChainArg>,
    parent: Parent,
) -> anyhow::Result<Prepared> {
    let name = path.display().to_string();
    if !is_block_file(path) {
        let input = std::fs::read(path).with_context(|| format!("failed to read {name}"))?;
        let outcome =
            program::run_detailed(&input).with_context(|| format!("{name} is refused"))?;
        let (statement, blocks) = (outcome.statement, outcome.blocks);
        return Ok(Prepared { name, input, statement, blocks, assumed_parent: None });
    }
    let file = witness::file::read(path)?;
    let config = match chain {
        Some(chain) => chain.config()?,
        None => chain::by_id(file.chain_id()).with_context(|| name.clone())?,
    };
    let (prepared, assumed_parent) = match file.prepare(&config) {
        Err(witness::Error::Incomplete {
            missing: program::Error::MissingParent { .. }, ..
        }) if parent == Parent::MayBeAssumed => {
            (file.prepare_assuming_parent(&config)?, file.assumed_parent().cloned())
        }
        prepared => (prepared?, None),
    };
    Ok(Prepared {
        name,
        input: prepared.input,
        statement: prepared.statement,
        blocks: prepared.blocks,
        assumed_parent,
    })
}

/// Connects to the node that the flags name, and says which blocks they name.
pub async fn connect(source: &Source) -> anyhow::Result<(witness::Node, BlockRange)> {
    let (url, range) =
        source.rpc_url.as_deref().zip(source.block).context("--rpc-url needs --block")?;
    let chain = source.chain.as_ref().unwrap_or(&ChainArg::Dev);
    let config = chain.config_at(&[url.to_owned()]).await?;
    let node = witness::Node::connect_with(url, config, source.access.options())
        .await
        .context("failed to use the node (see --rpc-url, --chain)")?;
    Ok((node, range))
}

/// Fetches blocks and witness from the node that the flags name.
pub async fn from_node(source: &Source) -> anyhow::Result<Prepared> {
    let (node, range) = connect(source).await?;
    let (first, last) = (range.first(), range.last());
    let prepared = node
        .prepare(first, last)
        .await
        .with_context(|| format!("failed to prepare blocks {first} to {last}"))?;
    Ok(Prepared {
        name: format!("blocks {first}..{last} of {}", node.name()),
        input: prepared.input,
        statement: prepared.statement,
        blocks: prepared.blocks,
        assumed_parent: None,
    })
}

/// A file if there is one, else blocks of a node.
pub async fn from_file_or_node(file: Option<&Path>, source: &Source) -> anyhow::Result<Prepared> {
    match file {
        Some(path) => from_file(path, source.chain.as_ref(), Parent::Required),
        None => from_node(source).await,
    }
}

/// A statement as indented lines for people.
#[derive(Debug)]
pub struct StatementText<'a>(pub &'a Statement);

impl fmt::Display for StatementText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statement = self.0;
        writeln!(
            f,
            "  blocks               {} to {}",
            statement.first_number, statement.last_number
        )?;
        writeln!(f, "  parent hash          {}", statement.parent_hash)?;
        writeln!(f, "  last hash            {}", statement.last_hash)?;
        writeln!(f, "  pre-state root       {}", statement.pre_state_root)?;
        writeln!(f, "  post-state root      {}", statement.post_state_root)?;
        writeln!(f, "  chain config digest  {}", statement.chain_config_digest)?;
        write!(f, "  statement digest     {}", statement.digest())
    }
}
