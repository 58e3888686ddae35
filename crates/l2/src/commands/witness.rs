//! `l2-prover witness`: makes the program's input, to be proven elsewhere.

use std::fmt;

use anyhow::Context as _;
use program::{BlockSummary, Statement};
use serde::Serialize;

use crate::args::Witness;
use crate::blocks::{self, StatementText};
use crate::output::{Output, thousands};

/// Runs the command.
pub async fn run(args: Witness, output: &Output) -> anyhow::Result<()> {
    let prepared = blocks::from_file_or_node(args.file.as_deref(), &args.source).await?;
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
