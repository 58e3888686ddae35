//! `l2-prover witness`: makes the program's input, to be proven elsewhere.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use program::{BlockSummary, Statement};
use serde::Serialize;
use witness::{BlockFile, Node};

use crate::args::Source;
use crate::blocks::{self, Parent, Prepared, StatementText};
use crate::output::{Output, thousands};

/// `l2-prover witness`
#[derive(Debug, Args)]
pub(crate) struct Witness {
    /// Block file (.json or .json.zst)
    #[arg(required_unless_present = "rpc_url", conflicts_with = "rpc_url", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the blocks come from
    #[command(flatten)]
    pub source: Source,
    /// Where the program's input is written
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Blocks that are fetched at the same time.
const AT_ONCE: usize = 4;

/// Runs the command.
pub(crate) async fn run(args: Witness, output: &Output) -> anyhow::Result<()> {
    let prepared = match &args.file {
        Some(path) => {
            let (chain, terms) = (args.source.chain.as_ref(), &args.source.terms);
            blocks::from_file(path, chain, Some(terms), Parent::Required)?
        }
        None => collected(&args, output).await?,
    };
    let out = args.out.display().to_string();
    std::fs::write(&args.out, &prepared.input).with_context(|| format!("failed to write {out}"))?;
    output.report(&Written {
        file: prepared.name,
        out,
        bytes: prepared.input.len() as u64,
        statement: prepared.statement,
        blocks: prepared.blocks,
    })
}

/// Fetches the blocks one by one into a folder beside the output, where a run that was cut goes on, and makes them one batch.
async fn collected(args: &Witness, output: &Output) -> anyhow::Result<Prepared> {
    let (node, range) = blocks::connect(&args.source).await?;
    let folder = args.out.with_added_extension("blocks");
    let text = folder.display();
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {text}"))?;
    let bar = output.bars().add(ProgressBar::new(range.last() - range.first() + 1));
    let style = ProgressStyle::with_template("{spinner} blocks {wide_bar} {pos}/{len} (ETA {eta})");
    bar.set_style(style.expect("the template is well-formed"));
    let mut fetched = futures::stream::iter(range.first()..=range.last())
        .map(|number| fetch(&node, number, folder.join(format!("{number}.json.zst"))))
        .buffered(AT_ONCE);
    let mut files = Vec::new();
    while let Some(file) = fetched.next().await {
        files.push(file?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let prepared = match witness::file::prepare_batch(&files, node.rules()) {
        // What one witness lacks, the node may show in another way.
        Err(witness::Error::Incomplete { .. }) => node.prepare(range.first(), range.last()).await?,
        prepared => prepared?,
    };
    // An input of another time must not be made of what is left here.
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {text}"))?;
    Ok(Prepared {
        name: format!("blocks {}..{} of {}", range.first(), range.last(), node.name()),
        input: prepared.input,
        statement: prepared.statement,
        blocks: prepared.blocks,
        assumed_parent: None,
    })
}

/// The block from the folder, if it is there and still the node's, or from the node.
async fn fetch(node: &Node, number: u64, path: PathBuf) -> anyhow::Result<BlockFile> {
    if let Ok(file) = witness::file::read(&path)
        && node.block(number).await?.is_some_and(|block| block.hash == file.block_hash())
    {
        return Ok(file);
    }
    let file =
        node.fetch(number).await.with_context(|| format!("failed to fetch block {number}"))?;
    file.write(&path)?;
    Ok(file)
}

#[derive(Serialize)]
struct Written {
    file: String,
    out: String,
    bytes: u64,
    statement: Statement,
    blocks: Vec<BlockSummary>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: input written to {}, {} bytes",
            self.file,
            self.out,
            thousands(self.bytes)
        )?;
        write!(f, "{}", StatementText(&self.statement))
    }
}
