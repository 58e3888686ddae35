//! From what a person names (a file, or blocks of a node) to the program's input.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use program::{AssumedParent, BlockSummary, ChainConfig, Outcome, Statement, Terms};
use witness::Rules;

use crate::args::{Source, TermsArgs};
use crate::chain::{self, ChainArg};
use crate::parse::BlockRange;

/// A run of blocks, ready for a prover.
#[derive(Debug)]
pub(crate) struct Prepared {
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
    /// An input that was read, and what the program found in it.
    pub(crate) fn from_input(name: String, input: Vec<u8>, outcome: Outcome) -> Self {
        let (statement, blocks) = (outcome.statement, outcome.blocks);
        Self { name, input, statement, blocks, assumed_parent: None }
    }

    /// Gas used by all blocks.
    pub(crate) fn gas_used(&self) -> u64 {
        self.blocks.iter().map(|block| block.gas_used).sum()
    }

    /// Number of transactions in all blocks.
    pub(crate) fn transactions(&self) -> usize {
        self.blocks.iter().map(|block| block.transactions).sum()
    }
}

/// Whether a block file without a parent header is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// It is refused as incomplete.
    Required,
    /// Exactly the rules of the header against its parent are skipped. Such an execution is never proven.
    MayBeAssumed,
}

/// Whether a file is one of blocks, by its name.
pub(crate) fn is_block_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json" || extension == "zst")
}

/// The terms that the flags name, for blocks of the chain of `config`.
fn terms(flags: &TermsArgs, config: &ChainConfig) -> anyhow::Result<Terms> {
    let (id, beneficiary) = (config.chain_id, flags.beneficiary.unwrap_or_default());
    match (config.bridge, flags.deposits_start) {
        (true, None) => {
            bail!("chain {id} has a bridge: --deposits-start must say where the deposits start")
        }
        (false, Some(_)) => bail!("chain {id} has no bridge: --deposits-start is of no use"),
        (_, start) => Ok(Terms { beneficiary, deposits_start: start.unwrap_or_default() }),
    }
}

/// Reads an input made by `l2-prover witness`. It has its terms, so that no flag may name others.
pub(crate) fn read_input(path: &Path, flags: Option<&TermsArgs>) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let given = |flags: &TermsArgs| flags.beneficiary.is_some() || flags.deposits_start.is_some();
    ensure!(
        !flags.is_some_and(given),
        "{name} is an input, which has its terms already: --beneficiary and --deposits-start are for blocks"
    );
    read_at_most(path, program::bound::MAX_INPUT)
}

/// Reads a file that has no business to be longer than `limit` bytes.
pub(crate) fn read_at_most(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("failed to read {name}"))?;
    ensure!(bytes.len() <= limit, "{name} has more than {limit} bytes");
    Ok(bytes)
}

/// Reads a block file (`.json`, `.json.zst`) or an input made by `l2-prover witness`. Without flags for the terms it does
/// not matter what the statement says besides.
pub(crate) fn from_file(
    path: &Path,
    chain: Option<&ChainArg>,
    flags: Option<&TermsArgs>,
    parent: Parent,
) -> anyhow::Result<Prepared> {
    let name = path.display().to_string();
    if !is_block_file(path) {
        let input = read_input(path, flags)?;
        let outcome =
            program::run_detailed(&input).with_context(|| format!("{name} is refused"))?;
        return Ok(Prepared::from_input(name, input, outcome));
    }
    let file = witness::file::read(path)?;
    let config = match chain {
        Some(chain) => chain.config()?,
        None => chain::by_id(file.chain_id()).with_context(|| name.clone())?,
    };
    let terms = flags.map(|flags| terms(flags, &config)).transpose()?.unwrap_or_default();
    let rules = Rules { config: &config, terms };
    let (prepared, assumed_parent) = match file.prepare(rules) {
        Err(witness::Error::Incomplete {
            missing: program::Error::MissingParent { .. }, ..
        }) if parent == Parent::MayBeAssumed => {
            (file.prepare_assuming_parent(rules)?, file.assumed_parent().cloned())
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
pub(crate) async fn connect(source: &Source) -> anyhow::Result<(witness::Node, BlockRange)> {
    let (url, range) =
        source.rpc_url.as_deref().zip(source.block).context("--rpc-url needs --block")?;
    let chain = source.chain.as_ref().unwrap_or(&ChainArg::Dev);
    let options = source.access.options()?;
    let config = chain.config_at(&[url.to_owned()], &options).await?;
    let terms = terms(&source.terms, &config)?;
    let node = witness::Node::connect_with(url, config, options)
        .await
        .context("failed to use the node (see --rpc-url, --chain)")?;
    Ok((node.with_terms(terms).with_known_keys(chain.known_keys()?), range))
}

/// Fetches blocks and witness from the node that the flags name.
pub(crate) async fn from_node(source: &Source) -> anyhow::Result<Prepared> {
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
pub(crate) async fn from_file_or_node(
    file: Option<&Path>,
    source: &Source,
) -> anyhow::Result<Prepared> {
    match file {
        Some(path) => from_file(path, source.chain.as_ref(), Some(&source.terms), Parent::Required),
        None => from_node(source).await,
    }
}

/// A statement as indented lines for people.
#[derive(Debug)]
pub(crate) struct StatementText<'a>(pub &'a Statement);

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
        writeln!(f, "  last timestamp       {}", statement.last_timestamp)?;
        // A chain with a bridge says where its deposits stand, even if these blocks have none.
        if !statement.deposits_digest.is_zero() {
            let (count, digest) = (statement.deposits_count, statement.deposits_digest);
            writeln!(f, "  deposits             {count}, digest {digest}")?;
        }
        if !statement.beneficiary.is_zero() {
            writeln!(f, "  beneficiary          {}", statement.beneficiary)?;
        }
        writeln!(f, "  chain config digest  {}", statement.chain_config_digest)?;
        write!(f, "  statement digest     {}", statement.digest())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_flags_for_the_terms_must_fit_the_chain() {
        let (plain, bridged) =
            (ChainConfig::dev(), ChainConfig { bridge: true, ..ChainConfig::dev() });
        let start = Some(B256::repeat_byte(7));
        let flags = |deposits_start| TermsArgs {
            beneficiary: Some(Address::repeat_byte(1)),
            deposits_start,
        };
        let found = terms(&flags(start), &bridged).expect("they fit");
        assert_eq!(
            found,
            Terms { beneficiary: Address::repeat_byte(1), deposits_start: B256::repeat_byte(7) }
        );
        assert_eq!(terms(&TermsArgs::default(), &plain).expect("they fit"), Terms::default());
        let texts = [(flags(None), &bridged), (flags(start), &plain)]
            .map(|(flags, config)| terms(&flags, config).expect_err("they do not fit").to_string());
        expect![[r#"
            chain 1337 has a bridge: --deposits-start must say where the deposits start
            chain 1337 has no bridge: --deposits-start is of no use"#]]
        .assert_eq(&texts.join("\n"));
    }

    #[test]
    fn no_more_of_a_file_is_read_than_it_may_have() {
        let folder = tempfile::tempdir().expect("it is made");
        let path = folder.path().join("proof");
        std::fs::write(&path, [0; 8]).expect("it is written");
        assert_eq!(read_at_most(&path, 8).expect("it fits"), [0; 8]);
        let error = read_at_most(&path, 7).expect_err("it does not fit").to_string();
        assert!(error.ends_with("proof has more than 7 bytes"), "{error}");
    }

    #[test]
    fn a_statement_tells_of_deposits_and_beneficiary_if_there_are_any() {
        let text = |statement: &Statement| format!("statement\n{}", StatementText(statement));
        let mut statement = Statement {
            version: program::statement::VERSION,
            chain_config_digest: B256::repeat_byte(0x11),
            parent_hash: B256::repeat_byte(0x22),
            last_hash: B256::repeat_byte(0x33),
            first_number: 7,
            last_number: 9,
            pre_state_root: B256::repeat_byte(0x44),
            post_state_root: B256::repeat_byte(0x55),
            deposits_digest: B256::ZERO,
            deposits_count: 0,
            messages_root: B256::ZERO,
            last_timestamp: 1_700_000_000,
            data_commitment: B256::ZERO,
            beneficiary: Address::ZERO,
        };
        expect![[r#"
            statement
              blocks               7 to 9
              parent hash          0x2222222222222222222222222222222222222222222222222222222222222222
              last hash            0x3333333333333333333333333333333333333333333333333333333333333333
              pre-state root       0x4444444444444444444444444444444444444444444444444444444444444444
              post-state root      0x5555555555555555555555555555555555555555555555555555555555555555
              last timestamp       1700000000
              chain config digest  0x1111111111111111111111111111111111111111111111111111111111111111
              statement digest     0xf6c0bc046af42a64d32539b38e32107e280ed95caf4b0313725886337381c2fb"#]]
        .assert_eq(&text(&statement));
        statement.deposits_count = 3;
        statement.deposits_digest = B256::repeat_byte(0x66);
        statement.beneficiary = Address::repeat_byte(0x77);
        expect![[r#"
            statement
              blocks               7 to 9
              parent hash          0x2222222222222222222222222222222222222222222222222222222222222222
              last hash            0x3333333333333333333333333333333333333333333333333333333333333333
              pre-state root       0x4444444444444444444444444444444444444444444444444444444444444444
              post-state root      0x5555555555555555555555555555555555555555555555555555555555555555
              last timestamp       1700000000
              deposits             3, digest 0x6666666666666666666666666666666666666666666666666666666666666666
              beneficiary          0x7777777777777777777777777777777777777777
              chain config digest  0x1111111111111111111111111111111111111111111111111111111111111111
              statement digest     0x2db603b0a2d7917aa1f130d2108d20008a3a45542e9ec1bdd85d2a016d61d8b3"#]]
        .assert_eq(&text(&statement));
    }
}
