//! Parts: one proof, made by several clients.
//!
//! Executing the program is a thousand times cheaper than proving its run. So every client that helps with a proof gets the same
//! input and the same segment size, executes all of it, and proves the segments that were dealt to it. What it hands in is one
//! receipt of its range, whatever the range's length.

use crate::{ArtifactRef, JobId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the client of a job of the kind [`Part`](crate::ProofKind::Part) has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// What to prove.
    #[serde(flatten)]
    pub work: PartWork,
    /// A segment of the run has at most 2 to this power cycles.
    pub segment_po2: u32,
    /// What the run consists of, as the server executed it: an artifact in the format of `verifier::Plan`. A client whose own
    /// execution differs has another version, and proves nothing that the server would take.
    pub plan: ArtifactRef,
    /// Proofs of other parts that this one is made of, in the order of their ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<ArtifactRef>,
}

/// The kinds of parts. A range goes from `first` up to `end`, which does not belong to it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum PartWork {
    /// Execute the program, prove these segments, and lift and join their proofs into one.
    Segments {
        /// The first segment.
        first: u32,
        /// The one after the last.
        end: u32,
    },
    /// Execute the program, prove these batches of keccak permutations, and unite their proofs into one. There are a power of two of
    /// them, and `first` is a multiple of it.
    Keccak {
        /// The first batch.
        first: u32,
        /// The one after the last.
        end: u32,
    },
    /// Join the proofs of adjacent ranges of segments into one.
    Join {
        /// The first segment.
        first: u32,
        /// The one after the last.
        end: u32,
    },
    /// Unite the proofs of all batches of keccak permutations into one.
    Unite {
        /// How many batches there are.
        end: u32,
    },
    /// Join the proofs of all segments into one and, if the program left keccak permutations to the accelerator, resolve it with the
    /// proof of all of those, which is the last of the proofs. The result is the succinct proof of the batch.
    Finish,
}

/// Which part of which job's proof a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PartOf {
    /// The job that waits for the whole proof.
    pub parent: JobId,
    /// What to prove.
    #[serde(flatten)]
    pub work: PartWork,
}

impl PartWork {
    /// The name of its kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Segments { .. } => "segments",
            Self::Keccak { .. } => "keccak",
            Self::Join { .. } => "join",
            Self::Unite { .. } => "unite",
            Self::Finish => "finish",
        }
    }

    /// The segments or batches that it is about; nothing of a kind that is about all.
    pub const fn range(&self) -> (u32, u32) {
        match *self {
            Self::Segments { first, end }
            | Self::Keccak { first, end }
            | Self::Join { first, end } => (first, end),
            Self::Unite { end } => (0, end),
            Self::Finish => (0, 0),
        }
    }
}

impl fmt::Display for PartWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, (first, end)) = (self.name(), self.range());
        match self {
            Self::Finish => f.write_str(name),
            _ => write!(f, "{name} {first}..{end}"),
        }
    }
}
