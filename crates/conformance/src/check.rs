//! Runs one test: records a witness for each block, runs the program on it, and compares.

use crate::{
    expect,
    fixture::{Block, Fixture, Network},
};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, Sealed, map::B256Map};
use program::{
    ChainConfig, Input, Statement, consensus,
    consensus::{DecodedBlock, Violation},
    execute,
    state::State,
};
use witness::record::{Recorded, Recorder, Store};

/// How far back `BLOCKHASH` reaches.
const BLOCK_HASHES: u64 = 256;

/// What the specification calls a `transactionsRoot` that is not that of the block's transactions.
const WRONG_TRANSACTIONS: &str = "BlockException.INVALID_TRANSACTIONS_ROOT";

/// Runs an input elsewhere: returns the statement's bytes, or why the input was refused.
pub type SecondRun<'a> = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Sync + 'a;

/// An input made from a test, and what the program must return for it.
#[derive(Clone, Debug)]
struct Case {
    /// Which blocks of the test it holds.
    blocks: String,
    /// The encoded input.
    input: Vec<u8>,
    /// Its expected outcome.
    expected: Expected,
}

/// The expected outcome of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// It is accepted, and these parts of the statement are known.
    Accept {
        /// Hash of the last block, which the test gives.
        last_hash: B256,
        /// Hash of the first block's parent.
        parent_hash: B256,
        /// State root before the blocks.
        pre_state_root: B256,
        /// State root after the blocks.
        post_state_root: B256,
    },
    /// It is refused for one of these reasons, separated by `|`.
    Refuse(String),
}

/// Why a test failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The genesis block is not the one that the test gives.
    #[error("genesis: {0}")]
    Genesis(String),
    /// A valid block was refused.
    #[error("{blocks}: refused: {reason}")]
    Refused {
        /// Which blocks.
        blocks: String,
        /// Why.
        reason: program::Error,
    },
    /// An invalid block was accepted.
    #[error("{blocks}: accepted, though {expected}")]
    Accepted {
        /// Which blocks.
        blocks: String,
        /// The exception that the test names.
        expected: String,
    },
    /// An invalid block was refused for another reason.
    #[error("{blocks}: refused for another reason than {expected}: {reason}")]
    WrongReason {
        /// Which blocks.
        blocks: String,
        /// The exception that the test names.
        expected: String,
        /// Our reason for the refusal.
        reason: program::Error,
    },
    /// The test names an exception that we have no rule for.
    #[error("no typed error is known for {0}")]
    UnknownException(String),
    /// The statement is not the one that the test asks for.
    #[error("{blocks}: {field} is {found}, expected {expected}")]
    Statement {
        /// Which blocks.
        blocks: String,
        /// The field of the statement.
        field: &'static str,
        /// Its value in the statement.
        found: B256,
        /// Its value in the test.
        expected: B256,
    },
    /// The chain ends in another block than the test says.
    #[error("the last valid block is {found}, expected {expected}")]
    LastBlock {
        /// The block found.
        found: B256,
        /// The block that the test names.
        expected: B256,
    },
    /// The second run gave another result.
    #[error("{blocks}: natively {native}, but in the second run {second}")]
    SecondRun {
        /// Which blocks.
        blocks: String,
        /// The result of the first run.
        native: String,
        /// The result of the second run.
        second: String,
    },
}

/// Runs one test. Returns how many blocks it has.
///
/// # Errors
/// The first [`Failure`].
pub fn check(
    fixture: &Fixture,
    network: Network,
    second: Option<&SecondRun<'_>>,
) -> Result<u64, Failure> {
    for case in cases(fixture, network)? {
        let outcome = program::run(&case.input);
        if let Some(second) = second {
            agree(&case, &outcome, second(&case.input))?;
        }
        case.judge(outcome)?;
    }
    Ok(fixture.blocks.len() as u64)
}

impl Case {
    fn judge(self, outcome: Result<Statement, program::Error>) -> Result<(), Failure> {
        let blocks = self.blocks;
        match (self.expected, outcome) {
            (Expected::Refuse(expected), Err(reason)) => match expect::any(&expected, &reason) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::WrongReason { blocks, expected, reason }),
                Err(unknown) => Err(Failure::UnknownException(unknown)),
            },
            (Expected::Refuse(expected), Ok(_)) => Err(Failure::Accepted { blocks, expected }),
            (Expected::Accept { .. }, Err(reason)) => Err(Failure::Refused { blocks, reason }),
            (
                Expected::Accept { last_hash, parent_hash, pre_state_root, post_state_root },
                Ok(statement),
            ) => {
                for (field, found, expected) in [
                    ("last hash", statement.last_hash, last_hash),
                    ("parent hash", statement.parent_hash, parent_hash),
                    ("state root before", statement.pre_state_root, pre_state_root),
                    ("state root after", statement.post_state_root, post_state_root),
                ] {
                    if found != expected {
                        return Err(Failure::Statement { blocks, field, found, expected });
                    }
                }
                Ok(())
            }
        }
    }
}

fn agree(
    case: &Case,
    native: &Result<Statement, program::Error>,
    second: Result<Vec<u8>, String>,
) -> Result<(), Failure> {
    let agree = match (native, &second) {
        (Ok(statement), Ok(bytes)) => statement.abi_encode() == *bytes,
        (Err(error), Err(reason)) => reason.contains(&error.to_string()),
        _ => false,
    };
    if agree {
        return Ok(());
    }
    Err(Failure::SecondRun {
        blocks: case.blocks.clone(),
        native: format!("{native:?}"),
        second: format!("{second:?}"),
    })
}

/// The inputs that a test makes: one for each block, and one for each run of consecutive valid blocks.
///
/// # Errors
/// [`Failure::Genesis`], or [`Failure::Refused`] and [`Failure::LastBlock`] where no witness can be recorded because
/// the test and we disagree.
fn cases(fixture: &Fixture, network: Network) -> Result<Vec<Case>, Failure> {
    let mut chain = Chain::new(fixture, network)?;
    let mut cases = Vec::new();
    let mut run = Vec::<Link>::new();
    for (index, block) in fixture.blocks.iter().enumerate() {
        let name = format!("block {}", index + 1);
        match &block.expect_exception {
            Some(exceptions) => cases.extend(chain.refusals(name, block, exceptions)),
            None => {
                let link = chain.valid(&name, block)?;
                cases.push(chain.case(name, std::slice::from_ref(&link), block));
                if run.last().is_some_and(|last| last.header.hash() != link.header.parent_hash) {
                    cases.extend(chain.batch(&run));
                    run.clear();
                }
                run.push(link);
            }
        }
    }
    cases.extend(chain.batch(&run));
    if chain.head != fixture.last_block_hash {
        return Err(Failure::LastBlock { found: chain.head, expected: fixture.last_block_hash });
    }
    Ok(cases)
}

/// The valid blocks so far.
struct Chain {
    config: ChainConfig,
    store: Store,
    headers: B256Map<Sealed<Header>>,
    head: B256,
}

/// A valid block, and what its execution has read.
struct Link {
    header: Sealed<Header>,
    rlp: Bytes,
    recorded: Recorded,
}

impl Chain {
    fn new(fixture: &Fixture, network: Network) -> Result<Self, Failure> {
        let wrong = |what: &dyn std::fmt::Display| Failure::Genesis(what.to_string());
        let config = network.config(&fixture.config).map_err(|error| wrong(&error))?;
        let (store, state_root) = Store::with_accounts(&fixture.pre);
        let genesis =
            DecodedBlock::decode(&fixture.genesis_rlp).map_err(|error| wrong(&error))?.header;
        if genesis.state_root != state_root {
            let roots = format!("state root is {state_root}, expected {}", genesis.state_root);
            return Err(wrong(&roots));
        }
        let head = genesis.hash();
        let headers = [(head, genesis)].into_iter().collect();
        Ok(Self { config, store, headers, head })
    }

    /// The ancestors of a block, its parent first, as far back as `BLOCKHASH` reaches.
    fn ancestors(&self, parent: B256) -> impl Iterator<Item = &Sealed<Header>> {
        std::iter::successors(self.headers.get(&parent), |header| {
            self.headers.get(&header.parent_hash)
        })
        .take(usize::try_from(BLOCK_HASHES).expect("it is small"))
    }

    /// The state after a block, which records what is read from it.
    fn state(&self, parent: &Sealed<Header>) -> State<'_, Recorder<'_>> {
        let mut state = State::from_source(parent.state_root, Recorder::new(&self.store));
        for ancestor in self.ancestors(parent.hash()) {
            state.remember_block(ancestor.number, ancestor.hash());
        }
        state
    }

    /// Executes a block that the test says is valid, and makes it the head.
    fn valid(&mut self, name: &str, block: &Block) -> Result<Link, Failure> {
        let refused = |reason| Failure::Refused { blocks: name.into(), reason };
        let invalid = |violation: Violation| refused(violation.in_block(0));
        let decoded = DecodedBlock::decode(&block.rlp).map_err(invalid)?;
        let header = decoded.header.clone();
        let Some(parent) = self.headers.get(&header.parent_hash) else {
            return Err(refused(program::Error::MissingParent { number: header.number }));
        };
        let mut state = self.state(parent);
        execute::execute(&self.config, &decoded, &mut state).map_err(refused)?;
        let (mut nodes, codes) = (Vec::new(), state.take_new_codes());
        state.new_nodes(|hash, node| nodes.push((hash, node.to_vec())));
        let recorded = Recorded::new(state, header.number);
        for (hash, node) in nodes {
            self.store.put_node(hash, &node);
        }
        for (hash, code) in codes {
            self.store.put_code(hash, code);
        }
        self.head = header.hash();
        self.headers.insert(self.head, header.clone());
        Ok(Link { header, rlp: block.rlp.clone(), recorded })
    }

    /// The inputs that a block makes which must be refused.
    ///
    /// Blocks of the older ethereum/tests are invalid for a second reason that they do not name: their `transactionsRoot`
    /// is not that of their transactions. Either reason is right. That the one they name is true is then to be seen in
    /// the same block with the right root.
    fn refusals(&self, name: String, block: &Block, exceptions: &str) -> Vec<Case> {
        let whole = DecodedBlock::decode(&block.rlp).ok();
        match whole.filter(|whole| {
            whole.header.transactions_root != whole.transactions_root
                && !exceptions.contains(WRONG_TRANSACTIONS)
        }) {
            None => vec![self.refused(name, block, exceptions.to_owned())],
            Some(DecodedBlock { header, body, transactions_root, .. }) => {
                let header = Header { transactions_root, ..header.into_inner() };
                let rlp = alloy_rlp::encode(program::Block { header, body }).into();
                let mended = Block { rlp, ..block.clone() };
                let either = format!("{exceptions}|{WRONG_TRANSACTIONS}");
                let with_its_root = format!("{name} with the root of its transactions");
                vec![
                    self.refused(name, block, either),
                    self.refused(with_its_root, &mended, exceptions.to_owned()),
                ]
            }
        }
    }

    /// An input that must be refused, with a witness of whatever the block touches before it fails.
    fn refused(&self, blocks: String, block: &Block, exceptions: String) -> Case {
        let decoded = DecodedBlock::decode(&block.rlp).ok();
        let parent = decoded
            .as_ref()
            .and_then(|block| self.headers.get(&block.header.parent_hash))
            .unwrap_or(&self.headers[&self.head]);
        let mut state = self.state(parent);
        if let Some(block) = &decoded
            && consensus::check_header(&self.config, block).is_ok()
            && consensus::check_against_parent(&self.config, &block.header, parent).is_ok()
        {
            // It does not matter whether it fails here: the program decides, on what this execution read.
            let _ = execute::execute(&self.config, block, &mut state);
        }
        let recorded = Recorded::new(state, parent.number + 1);
        let input = self.input(parent, vec![block.rlp.clone()], recorded);
        Case { blocks, input, expected: Expected::Refuse(exceptions) }
    }

    fn batch(&self, run: &[Link]) -> Option<Case> {
        let (first, last) = (run.first()?, run.last()?);
        if run.len() < 2 {
            return None;
        }
        let blocks =
            format!("blocks {} to {} as one batch", first.header.number, last.header.number);
        Some(self.accepted(blocks, run, last.header.hash()))
    }

    fn case(&self, blocks: String, run: &[Link], block: &Block) -> Case {
        // If the test spells the header out, its hash must be reached.
        let last_hash = block.block_header.map_or(run[0].header.hash(), |header| header.hash);
        self.accepted(blocks, run, last_hash)
    }

    fn accepted(&self, blocks: String, run: &[Link], last_hash: B256) -> Case {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let parent = &self.headers[&first.header.parent_hash];
        let recorded = run.iter().map(|link| link.recorded.clone()).collect();
        let input = self.input(parent, run.iter().map(|link| link.rlp.clone()).collect(), recorded);
        let expected = Expected::Accept {
            last_hash,
            parent_hash: parent.hash(),
            pre_state_root: parent.state_root,
            post_state_root: last.header.state_root,
        };
        Case { blocks, input, expected }
    }

    fn input(&self, parent: &Sealed<Header>, blocks: Vec<Bytes>, recorded: Recorded) -> Vec<u8> {
        let mut headers: Vec<Bytes> = self
            .ancestors(parent.hash())
            .take_while(|header| header.number >= recorded.oldest_block)
            .map(|header| alloy_rlp::encode(header.inner()).into())
            .collect();
        headers.reverse();
        let input = Input {
            config: self.config.clone(),
            terms: program::Terms::default(),
            headers,
            blocks,
            codes: recorded.codes,
            nodes: recorded.nodes,
        };
        input
            .encode(parent.state_root)
            .expect("the recorder's nodes were hashed when they were read")
    }
}
