//! Has the program proven by an engine on other machines: Bento, r0vm's cluster, Hierophant or a hosted service, through the
//! Bonsai REST dialect. Which engine when, and what each lacks: `docs/engines.md`.
//!
//! * Nothing that an engine says is trusted. Its receipt counts when `verifier` accepts it for the pinned program and for the
//!   statement that this machine computed itself.
//! * A session's id is on disk, durable, before the engine is asked about it. Whoever starts with the same engine, program,
//!   input and kind goes on with that session.
//! * An engine that makes no progress is told to stop, where it can, and gets the work once more, so many times and not oftener.
//! * Whatever is read has a limit in length and in time. No redirect is followed, and of a URL in an answer only the path counts,
//!   on the engine's own address. The key is in no error and no log.

mod config;
mod dialect;
mod error;
mod http;
mod receipt;
mod sessions;
mod work;

use std::sync::Arc;

use alloy_primitives::B256;
use client::prover::{Cancel, Execution, Progress, ProofKind, ProofSystem};
use client::{ExecProver, ProveError, Prover};

pub use config::{Config, SetupError};
pub use error::{EngineError, Trouble};

use dialect::Dialect;
use sessions::Sessions;
use work::Work;

/// The program binary that engines get: the guest and the kernel it runs on.
const PROGRAM: &[u8] = include_bytes!("../../../guests/risc0/pinned/l2-program.bin");

/// An engine on other machines.
#[derive(Clone)]
pub struct BonsaiProver {
    config: Config,
    /// Runs the program here. Its statement is the one that a receipt must commit to.
    local: Arc<dyn Prover>,
}

impl std::fmt::Debug for BonsaiProver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BonsaiProver").field("config", &self.config).finish_non_exhaustive()
    }
}

impl BonsaiProver {
    /// An engine that is used as `config` says. It is not called yet.
    ///
    /// # Errors
    /// [`SetupError`] if the config weakens what it must not, or names what cannot be used.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        Self::with_local(config, Arc::new(ExecProver))
    }

    /// As [`new`](Self::new), where `local` runs the program on this machine.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_local(config: Config, local: Arc<dyn Prover>) -> Result<Self, SetupError> {
        config.check()?;
        Ok(Self { config, local })
    }

    fn dialect(&self) -> Result<Dialect<'_>, ProveError> {
        Dialect::new(&self.config).map_err(|error| ProveError::Unavailable(error.into()))
    }
}

impl Prover for BonsaiProver {
    fn system(&self) -> ProofSystem {
        ProofSystem::Risc0
    }

    fn program_id(&self) -> B256 {
        B256::from(verifier::RISC0_PROGRAM_ID)
    }

    fn danger(&self) -> Option<&str> {
        None
    }

    fn engine(&self) -> Option<String> {
        Some("bonsai".into())
    }

    /// The dialect has no word for kinds, and engines return succinct receipts.
    fn kinds(&self) -> Vec<ProofKind> {
        vec![ProofKind::Succinct]
    }

    fn prove(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        if kind != ProofKind::Succinct {
            let text =
                format!("engines make succinct proofs, not {kind} ones: ask for --kind succinct");
            return Err(ProveError::Unavailable(text.into()));
        }
        // What the program refuses here it refuses there, hours later.
        let statement = self.local.execute(input)?.public_values;
        cancel.check()?;
        let (config, dialect) = (&self.config, self.dialect()?);
        let sessions = Sessions::open(config).map_err(|error| config.failed(error))?;
        let work = Work { config, dialect: &dialect, sessions: &sessions, input, kind, progress };
        let bytes = block_on(work.prove(&statement, cancel))??;
        Ok(bytes)
    }

    /// Runs the program on this machine: of an engine's run only a proof would be trusted.
    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        self.local.execute(input)
    }

    /// Asks the engine whether it has the program, which shows that it is there, takes the key and speaks the dialect.
    fn self_test(&self) -> Result<(), ProveError> {
        let dialect = self.dialect()?;
        let asked = block_on(dialect.knows_program(&hex::encode(verifier::RISC0_PROGRAM_ID)))?;
        asked.map(drop).map_err(|trouble| self.config.failed(trouble))
    }
}

/// Runs `future` to its end on this thread, which a prover has for itself.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, ProveError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ProveError::Unavailable(error.into()))?;
    Ok(runtime.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_engines_get_is_the_pinned_one() {
        let id = risc0_binfmt::compute_image_id(PROGRAM).unwrap();
        assert_eq!(id.as_bytes(), verifier::RISC0_PROGRAM_ID);
    }
}
