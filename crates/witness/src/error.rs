//! What can go wrong on the way to an input, grouped by who can do something about it.

use std::{fmt, io, path::PathBuf};

/// Why there is no input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read block file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The file or answer is cut, or not of the expected form. Get it again.
    #[error("{culprit} is malformed: {reason}")]
    Malformed {
        /// Who gave it.
        culprit: Culprit,
        /// What is wrong.
        reason: String,
    },
    /// The blocks are another chain's. Use the chain config that belongs to them.
    #[error("{culprit} is of chain {found}, but the chain config is that of chain {expected}")]
    WrongChain {
        /// Who gave them.
        culprit: Culprit,
        /// Chain id of the config.
        expected: u64,
        /// Chain id of the blocks.
        found: u64,
    },
    /// The witness lacks something that executing the blocks needs. Only its maker can add it.
    #[error("the witness of block {block} in {culprit} is incomplete")]
    Incomplete {
        /// Who gave it.
        culprit: Culprit,
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
        culprit: Culprit,
        /// The first block of the batch.
        block: u64,
        /// Why.
        #[source]
        reason: program::Error,
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
        node: Culprit,
        /// What happened.
        reason: String,
    },
    /// The node has no `debug_executionWitness`. Switch its debug API on, or use another node.
    #[error(
        "{node} does not offer debug_executionWitness: enable its debug API or use another node"
    )]
    NoWitnessApi {
        /// The node.
        node: Culprit,
    },
    /// The node does not have the block (yet).
    #[error("{node} has no block {number}")]
    BlockNotFound {
        /// The node.
        node: Culprit,
        /// The block asked for.
        number: u64,
    },
    /// The node's blocks do not follow one another: most likely they changed while they were read. Try again.
    #[error("{node} gave a block {number} that does not follow block {} it gave before", number - 1)]
    Unlinked {
        /// The node.
        node: Culprit,
        /// The later of the two.
        number: u64,
    },
    /// The node answered with an error.
    #[error("{node} refuses {method}: {message} (code {code})")]
    Rpc {
        /// The node.
        node: Culprit,
        /// The JSON-RPC method.
        method: &'static str,
        /// The JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
}

/// Where blocks came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Culprit {
    /// A block file.
    File(PathBuf),
    /// A node: scheme, host and port of its URL. The rest may hold a password.
    Node(String),
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "block file {}", path.display()),
            Self::Node(origin) => write!(f, "L2 node {origin}"),
        }
    }
}
