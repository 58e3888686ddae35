//! The prover that does not prove: it runs the program natively.

use crate::prover::{
    BoxError, Cancel, Execution, Progress, ProofKind, ProofSystem, ProveError, Prover,
};
use alloy_primitives::B256;

/// Runs the program natively and hands out its statement as the "proof". It proves nothing: servers refuse it unless a
/// `danger_` setting allows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecProver;

impl Prover for ExecProver {
    fn system(&self) -> ProofSystem {
        ProofSystem::Exec
    }

    fn program_id(&self) -> B256 {
        B256::ZERO
    }

    fn danger(&self) -> Option<&str> {
        Some("exec")
    }

    fn prove(
        &self,
        input: &[u8],
        _kind: ProofKind,
        cancel: &Cancel,
        _progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        cancel.check()?;
        let execution = self.execute(input)?;
        cancel.check()?;
        Ok(execution.public_values)
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        // A panic of the program means the same as in a zkVM: there is no proof of this input.
        let statement = std::panic::catch_unwind(|| program::run(input))
            .map_err(|panic| ProveError::Failed(BoxError::from(panic_text(&*panic))))?
            .map_err(|error| ProveError::BadInput(error.to_string()))?;
        Ok(Execution { public_values: statement.abi_encode(), cycles: None })
    }
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a message"))
}
