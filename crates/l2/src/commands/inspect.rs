//! `l2-prover inspect`: what an input holds, and what its blocks save by sharing it.

use std::fmt;
use std::path::{Path, PathBuf};

use alloy_primitives::B256;
use anyhow::{Context as _, ensure};
use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;
use witness::{BlockFile, Inspection};

use crate::chain::ChainArg;
use crate::output::{Output, thousands};
use crate::{blocks, chain};

/// `l2-prover inspect`
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// An input made by `l2-prover witness`, or block files (.json or .json.zst) of consecutive blocks, which are taken as one
    /// batch
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The chain of block files [default: by the chain id]
    #[arg(long, value_name = "CHAIN")]
    pub chain: Option<ChainArg>,
    /// How many accounts to list, of those whose storage takes up most
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub top: usize,
}

/// Runs the command.
pub(crate) fn run(args: Inspect, output: &Output) -> anyhow::Result<()> {
    let names: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    let name = names.join(", ");
    let (input, sharing) = match &args.files[..] {
        [path] if !blocks::is_block_file(path) => (blocks::read_input(path, None)?, None),
        files => {
            ensure!(
                files.iter().all(|path| blocks::is_block_file(path)),
                "several files must be block files (.json or .json.zst): an input is a whole batch"
            );
            let (input, sharing) = batch(&args, files)?;
            (input, Some(sharing))
        }
    };
    let found = witness::inspect(&input, args.top);
    let found = found.with_context(|| format!("{name} is not an input"))?;
    output.report(&Report { file: name, found, sharing })
}

/// One batch of block files, and what that saves.
fn batch(args: &Inspect, paths: &[impl AsRef<Path>]) -> anyhow::Result<(Vec<u8>, Sharing)> {
    let mut files = Vec::new();
    let mut sharing = Sharing::default();
    for path in paths {
        let file = witness::file::read(path)?;
        sharing.witness_bytes += file.witness_bytes();
        sharing.file_bytes += std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        files.push(file);
    }
    files.sort_by_key(BlockFile::number);
    let config = match &args.chain {
        Some(chain) => chain.config()?,
        None => chain::by_id(files[0].chain_id())?,
    };
    for file in &files {
        sharing.single_bytes += file.prepare(&config)?.input.len() as u64;
    }
    Ok((witness::file::prepare_batch(&files, &config)?.input, sharing))
}

/// What the blocks of a batch take up otherwise, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sharing {
    /// An input for each block.
    single_bytes: u64,
    /// The nodes, codes and headers of all witnesses.
    witness_bytes: u64,
    /// The block files.
    file_bytes: u64,
}

#[derive(Serialize)]
struct Report {
    file: String,
    #[serde(flatten)]
    found: Inspection,
    #[serde(skip_serializing_if = "Option::is_none")]
    sharing: Option<Sharing>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.found;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let mut row = |what: &str, count: u64, bytes: Option<u64>| {
            let bytes = bytes.map_or(String::new(), |bytes| format!("{} bytes", thousands(bytes)));
            table.add_row([what.to_owned(), thousands(count), bytes]);
        };
        row("blocks", found.blocks.len() as u64, Some(found.block_bytes));
        row("transactions, hints", found.transactions, Some(found.hint_bytes));
        row("gas", found.gas_used, None);
        row("ancestors' headers", found.headers, Some(found.header_bytes));
        row("codes", found.codes, Some(found.code_bytes));
        row("account nodes", found.account_nodes, Some(found.account_bytes));
        row("storage nodes", found.storage_nodes, Some(found.storage_bytes));
        writeln!(f, "{}: {} bytes", self.file, thousands(found.bytes))?;
        if let (Some(first), Some(last)) = (found.blocks.first(), found.blocks.last()) {
            writeln!(f, "blocks {first} to {last}")?;
        }
        writeln!(f, "chain config digest {}", found.chain_config_digest)?;
        if !found.terms.beneficiary.is_zero() {
            writeln!(f, "beneficiary {}", found.terms.beneficiary)?;
        }
        if !found.terms.deposits_start.is_zero() {
            writeln!(f, "deposits start at {}", found.terms.deposits_start)?;
        }
        write!(f, "{table}")?;
        if let Some(sharing) = &self.sharing {
            for (what, bytes) in [
                ("an input for each block", sharing.single_bytes),
                ("the witnesses as they came", sharing.witness_bytes),
                ("the block files", sharing.file_bytes),
            ] {
                let share = percent(found.bytes, bytes);
                write!(f, "\n{share} of {what}, {} bytes", thousands(bytes))?;
            }
        }
        for account in &found.accounts {
            let name = match account.address {
                Some(address) => address.to_string(),
                None => hashed(account.hashed_address),
            };
            write!(
                f,
                "\nstorage of {name}: {} nodes, {} bytes",
                thousands(account.nodes),
                thousands(account.bytes)
            )?;
        }
        Ok(())
    }
}

fn hashed(address: B256) -> String {
    format!("the account with hash {address}")
}

/// `part` in percent of `whole`, with one digit after the point.
fn percent(part: u64, whole: u64) -> String {
    let tenths = (1000 * part).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}
