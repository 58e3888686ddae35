//! From a prover's name to the prover.

use std::sync::Arc;

use client::{ExecProver, Prover};
use protocol::{ProofKind, ProofSystem};

use crate::args::{KindArg, ProverArg, ZkvmArgs};
use crate::output::Output;
use crate::risc0;

impl ProverArg {
    /// The best prover of this build.
    pub fn best() -> Self {
        if risc0::BUILT { Self::Risc0 } else { Self::Exec }
    }

    /// The proof system, as server and client name it.
    pub fn system(self) -> ProofSystem {
        match self {
            Self::Exec => ProofSystem::Exec,
            Self::Risc0 => ProofSystem::Risc0,
        }
    }

    /// The proof system, as the verifier names it.
    pub fn verified_as(self) -> verifier::System {
        match self {
            Self::Exec => verifier::System::Exec,
            Self::Risc0 => verifier::System::Risc0,
        }
    }

    /// The program that proofs of this system are asked for by default.
    pub fn pinned_program_id(self) -> [u8; 32] {
        self.verified_as().program_id()
    }

    /// The prover itself.
    ///
    /// # Errors
    /// If this build does not have it, or it can't be set up.
    pub fn build(self, zkvm: &ZkvmArgs) -> anyhow::Result<Arc<dyn Prover>> {
        match self {
            Self::Exec => Ok(Arc::new(ExecProver)),
            Self::Risc0 => risc0::prover(zkvm),
        }
    }
}

impl From<KindArg> for ProofKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Composite => Self::Composite,
            KindArg::Succinct => Self::Succinct,
        }
    }
}

/// Says loudly that the prover's proofs prove nothing, if so. Returns whether they do not.
pub fn warn_if_mocked(prover: &dyn Prover, output: &Output) -> bool {
    let Some(danger) = prover.danger() else { return false };
    output.warn(&format!("{danger}: these proofs are mocked and prove NOTHING."));
    true
}
