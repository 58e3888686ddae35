//! What can go wrong on the way to an input, grouped by who can do something about it.

use crate::{WitnessSource, trouble::remedy};
use alloy_primitives::{Address, B256};
use program::Bound;
use std::{error::Error as _, fmt, io, path::PathBuf, time::Duration};

/// What a node lacks that gives no witnesses, and what to do.
fn lacking(allowed: WitnessSource) -> &'static str {
    match allowed {
        WitnessSource::Any => {
            "offers neither debug_executionWitness nor eth_getProof: enable its debug API or use another node"
        }
        WitnessSource::ExecutionWitness => {
            "has no debug_executionWitness: enable its debug API, or allow proofs in its place (--witness-from any)"
        }
        WitnessSource::Proofs => {
            "has no eth_getProof: use another node, or allow debug_executionWitness in its place (--witness-from any)"
        }
    }
}

/// Why there is no input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read block file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write block file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// What nodes answer cannot be recorded there. Name another folder.
    #[error("cannot record what a node answers in {}", path.display())]
    Record {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The file or answer is truncated or has another format. Get it again.
    #[error("{culprit} is malformed: {reason}")]
    Malformed {
        /// Who gave it.
        culprit: ErrorSource,
        /// What is wrong.
        reason: String,
    },
    /// The blocks are of another chain. Use the chain config that belongs to them.
    #[error("{culprit} is of chain {found}, but the chain config is that of chain {expected}")]
    WrongChain {
        /// Who gave them.
        culprit: ErrorSource,
        /// Chain id of the config.
        expected: u64,
        /// Chain id of the blocks.
        found: u64,
    },
    /// The witness lacks something that executing the blocks needs. Only its maker can add it.
    #[error("the witness of block {block} in {culprit} is incomplete")]
    Incomplete {
        /// Who gave it.
        culprit: ErrorSource,
        /// The first block of the batch.
        block: u64,
        /// What is missing.
        #[source]
        missing: program::Error,
    },
    /// The program refuses the blocks: they are invalid, or of a kind it does not prove.
    #[error("the program refuses block {block} in {culprit}")]
    Refused {
        /// Who gave it.
        culprit: ErrorSource,
        /// The first block of the batch.
        block: u64,
        /// Why.
        #[source]
        reason: program::Error,
    },
    /// A block has a transaction of a type that Ethereum does not have up to Osaka: it is of a chain with other rules.
    #[error(
        "block {block} in {culprit} has a transaction of type {kind:#04x} (number {index}), which the program does not \
         have: it is of a chain with other rules than Ethereum's"
    )]
    UnknownTransaction {
        /// Who gave it.
        culprit: ErrorSource,
        /// The block.
        block: u64,
        /// Its position in the block.
        index: usize,
        /// Its type.
        kind: u8,
    },
    /// No blocks were asked for.
    #[error("blocks {first} to {last} are not a range: the first must not come after the last")]
    EmptyRange {
        /// First block asked for.
        first: u64,
        /// Last block asked for.
        last: u64,
    },
    /// The node's address is not a URL.
    #[error(
        "the L2 node's URL is invalid, expected something like http://localhost:8545: {reason}"
    )]
    Url {
        /// What is wrong with it. The URL itself may hold a password.
        reason: String,
    },
    /// The node did not answer. Check that it runs and can be reached; trying again may help.
    #[error("{node} is unreachable: {reason}")]
    Unreachable {
        /// The node.
        node: ErrorSource,
        /// What happened.
        reason: String,
    },
    /// The node gives no witnesses. Enable its debug API, or use another node.
    #[error("{node} {}", lacking(*allowed))]
    NoWitnessApi {
        /// The node.
        node: ErrorSource,
        /// Where witnesses may come from.
        allowed: WitnessSource,
    },
    /// Neither the node's execution witness nor its proofs are of use. Mend one of the two, or use another node.
    #[error(
        "{node} gives no witness of block {block}: {witness}; and none can be made of its proofs: {proofs}"
    )]
    NoWitness {
        /// The node.
        node: ErrorSource,
        /// The block.
        block: u64,
        /// What is wrong with `debug_executionWitness`.
        witness: String,
        /// What is wrong with `eth_getProof`.
        proofs: String,
    },
    /// The node's capacity is exhausted, or the plan's behind its URL. Ask it more slowly, or another node as well.
    #[error(
        "{node} has no capacity for {method}{}: {message}; lower --rpc-per-second or --rpc-concurrency, or name another node as well",
        wait.map(|wait| format!(", and wants to be left alone for {} s", wait.as_secs())).unwrap_or_default()
    )]
    Busy {
        /// The node.
        node: ErrorSource,
        /// The JSON-RPC method.
        method: &'static str,
        /// The node's message.
        message: String,
        /// How long the node wants to be left alone, if it says so.
        wait: Option<Duration>,
    },
    /// The node, or a gateway before it, answered with an HTTP status that is no success.
    #[error("{node} answers {method} with HTTP status {status} ({message}): {}", remedy(*status))]
    Http {
        /// The node.
        node: ErrorSource,
        /// The JSON-RPC method.
        method: &'static str,
        /// The status.
        status: u16,
        /// The beginning of what came with it.
        message: String,
    },
    /// The node's answer is longer than the limit. Raise the limit, or use another node.
    #[error(
        "{node} gives an answer to {method} that is longer than {longest} bytes: raise --rpc-max-answer-bytes or use another node"
    )]
    TooLong {
        /// The node.
        node: ErrorSource,
        /// The JSON-RPC method.
        method: &'static str,
        /// The limit, in bytes.
        longest: usize,
    },
    /// The node no longer has the state. Use one that keeps old states (an archive node).
    #[error("{node} has no state for {method} that far back: {message}; use a node that keeps it")]
    Pruned {
        /// The node.
        node: ErrorSource,
        /// The JSON-RPC method.
        method: &'static str,
        /// The node's message.
        message: String,
    },
    /// The node's proof is not of the state that its block names: the node lies, or its chain changed meanwhile.
    #[error(
        "{node} gave a proof of account {address} that does not lead to the state of block {block}"
    )]
    BadProof {
        /// The node.
        node: ErrorSource,
        /// The account.
        address: Address,
        /// The block whose state was asked for.
        block: u64,
    },
    /// Executing the block keeps asking for more state. The block or the node is not what it claims to be.
    #[error(
        "executing block {block} of {node} asks for ever more state: {keys} accounts and slots in {rounds} rounds"
    )]
    Endless {
        /// The node.
        node: ErrorSource,
        /// The block.
        block: u64,
        /// Accounts and slots asked for.
        keys: usize,
        /// Rounds of questions.
        rounds: usize,
    },
    /// Nothing that the node offers shows a trie node that the block needs. Ask another one, or one more.
    #[error(
        "{node} has no way to show a trie node that block {block} needs: {missing}{}; add to --rpc-url a node that has \
         debug_executionWitness, debug_storageRangeAt and debug_accountRange, or the states of the blocks before",
        more_nodes(*.more)
    )]
    UnknownNode {
        /// The node that was asked.
        node: ErrorSource,
        /// The block.
        block: u64,
        /// The first trie node that is missing.
        missing: Box<MissingNode>,
        /// How many others are missing too.
        more: usize,
    },
    /// The node does not report rules that the program has. Name a genesis file instead.
    #[error(
        "{node} does not tell the rules of its chain: {reason}; give a chain by name or its genesis file"
    )]
    NoConfig {
        /// The node.
        node: ErrorSource,
        /// Why.
        reason: String,
    },
    /// The node is behind the others: it does not get new blocks, or not in time.
    #[error("{node} lags: it is at block {head}, another node at {newest}")]
    Lags {
        /// The node.
        node: ErrorSource,
        /// Its newest block.
        head: u64,
        /// The newest block of all.
        newest: u64,
    },
    /// None of several nodes could do it.
    #[error("no node could do it: {}", list(.0))]
    AllFailed(Vec<Error>),
    /// The node does not have the block (yet).
    #[error("{node} has no block {number}")]
    BlockNotFound {
        /// The node.
        node: ErrorSource,
        /// The block asked for.
        number: u64,
    },
    /// The node's blocks do not follow one another: most likely they changed while they were read. Try again.
    #[error("{node} gave a block {number} that does not follow block {} it gave before", number - 1)]
    Unlinked {
        /// The node.
        node: ErrorSource,
        /// The later of the two.
        number: u64,
    },
    /// The node answered with an error.
    #[error("{node} refuses {method}: {message} (code {code})")]
    Rpc {
        /// The node.
        node: ErrorSource,
        /// The JSON-RPC method.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's message.
        message: String,
    },
}

impl Error {
    /// Whether a block needs a trie node that no node showed ([`Error::UnknownNode`]). The blocks before it need not.
    pub fn lacks_trie_node(&self) -> bool {
        match self {
            Self::UnknownNode { .. } => true,
            Self::AllFailed(errors) => errors.iter().any(Self::lacks_trie_node),
            _ => false,
        }
    }

    /// The bound of the program's domain that the blocks exceed, if that is the reason.
    pub fn bound(&self) -> Option<Bound> {
        match self {
            Self::Refused { reason: program::Error::Bound(bound), .. } => Some(*bound),
            Self::AllFailed(errors) => errors.iter().find_map(Self::bound),
            _ => None,
        }
    }
}

/// A trie node that a collapsing branch needs and that no proof of what its block touches shows: the branch's last child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingNode {
    /// The account in whose storage trie it is; `None` for the trie of the accounts.
    pub owner: Option<Address>,
    /// The way to it from the root, in hexadecimal digits.
    pub path: String,
    /// Its hash.
    pub hash: B256,
}

impl fmt::Display for MissingNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, path, hash } = self;
        match owner {
            Some(owner) => write!(f, "{hash} at path 0x{path} of the storage of {owner}"),
            None => write!(f, "{hash} at path 0x{path} of the accounts"),
        }
    }
}

fn more_nodes(more: usize) -> String {
    if more == 0 { String::new() } else { format!(", and {more} more") }
}

/// Where blocks came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorSource {
    /// A block file.
    File(PathBuf),
    /// A node: scheme, host and port of its URL. The rest may hold a password.
    Node(String),
}

impl fmt::Display for ErrorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "block file {}", path.display()),
            Self::Node(origin) => write!(f, "L2 node {origin}"),
        }
    }
}

/// An error with its causes, in one line: what is missing or wrong is often the last of them. Nothing is said twice.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// Errors with their causes, in one line.
pub(crate) fn list(errors: &[Error]) -> String {
    let texts = errors.iter().map(|error| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    });
    texts.collect::<Vec<_>>().join("; ")
}
