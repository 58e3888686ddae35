//! Verifies proofs: [`verify`] takes a proof and a program id, and returns what the proof commits to.
//!
//! * The caller chooses the program id and the [`Policy`]. Nothing else is trusted.
//! * A program that was pinned once and turned out to be wrong is refused by name: [`REVOKED`].
//! * A proof system that proves nothing is refused unless the policy accepts it by name. No
//!   environment variable changes that.
//! * Every byte of a proof is bound or refused: no two proofs differ in a byte that is not checked.
//! * No proving code is linked, and no input makes [`verify`] or [`verify_part`] panic.
//!
//! The public values are opaque here: callers compare them with the statement they expect.
//!
//! # Example
//!
//! A succinct proof of a block of the dev chain, verified against the pinned program:
//!
//! ```
//! use verifier::{Kind, Policy, System, verify};
//!
//! let proof = std::fs::read("tests/fixtures/dev-block.proof")?;
//! let program_id = System::Risc0.program_id();
//! let verified = verify(System::Risc0, program_id, &proof, &Policy::default())?;
//! assert_eq!(verified.kind, Kind::Succinct);
//! // `program::Statement::abi_decode` reads them; `contracts/src/Statement.sol` does so on chain.
//! assert_eq!(verified.public_values.len(), 14 * 32);
//!
//! // The same proof proves nothing about another program.
//! assert!(verify(System::Risc0, [7; 32], &proof, &Policy::default()).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bundle;
mod bytes;
mod pinned;
mod pinned_aggregate;
pub mod plan;
mod revoked;
pub mod risc0;

use std::fmt;
use std::str::FromStr;

pub use pinned::RISC0_PROGRAM_ID;
pub use pinned_aggregate::RISC0_AGGREGATE_ID;
pub use plan::{Claim, Plan, verify_part};
pub use revoked::{REVOKED, Revoked, check_not_revoked};

/// Program id of the `exec` system, which has no program image.
pub const EXEC_PROGRAM_ID: [u8; 32] = [0; 32];

/// Maximum length of the public values that a proof carries, in bytes.
pub const MAX_PUBLIC_VALUES: usize = 64 * 1024;

/// Maximum length of a proof, in bytes. A composite receipt has about 250 kB for each segment.
pub const MAX_PROOF: usize = 1024 * 1024 * 1024;

/// Verifies `proof`, made by `system` for the program `program_id`.
///
/// Blocks the thread: a succinct receipt takes tens of milliseconds, a composite one that much for each segment.
///
/// # Errors
/// Says why the proof is refused. A refused proof has proven nothing, whatever it carries.
pub fn verify(
    system: System,
    program_id: [u8; 32],
    proof: &[u8],
    policy: &Policy,
) -> Result<Verified, VerifyError> {
    if proof.len() > MAX_PROOF {
        return Err(VerifyError::TooLarge { what: "proof", size: proof.len(), limit: MAX_PROOF });
    }
    // SOUNDNESS: a revoked program can be made to commit to what is false, so that even its valid proofs prove nothing.
    check_not_revoked(&program_id)?;
    match system {
        System::Exec => verify_exec(program_id, proof, policy),
        System::Risc0 => risc0::verify(program_id, proof, policy),
    }
}

/// Verifies `proof` for whichever of the two pinned programs it names: our program, or the one that folds its proofs. Returns the id of
/// that program too. Blocks as [`verify`] does.
///
/// # Errors
/// As [`verify`]; of a proof of any other program, that it is not of our program.
pub fn verify_pinned(
    system: System,
    proof: &[u8],
    policy: &Policy,
) -> Result<([u8; 32], Verified), VerifyError> {
    let (ours, folds) = (system.program_id(), system.aggregate_id());
    match verify(system, ours, proof, policy) {
        Err(VerifyError::WrongProgram { found, .. }) if found == folds => {
            verify(system, folds, proof, policy).map(|verified| (folds, verified))
        }
        other => other.map(|verified| (ours, verified)),
    }
}

/// What RISC Zero's verifier contracts take for a proof: the selector of one, and what it verifies. None if there is no contract for
/// such a proof. A proof of dev mode has what the mock verifier takes, which real ones refuse.
///
/// # Errors
/// [`VerifyError`] if the bytes are no proof of this program. Whether they prove anything is not looked at: see [`verify`].
pub fn seal(
    system: System,
    program_id: [u8; 32],
    proof: &[u8],
) -> Result<Option<Vec<u8>>, VerifyError> {
    match system {
        System::Exec => Ok(None),
        System::Risc0 => risc0::seal(program_id, proof),
    }
}

/// What RISC Zero's Groth16 proofs begin with in a contract: it names the verifier behind a router.
pub fn risc0_selector() -> [u8; 4] {
    risc0::selector()
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The bytes that the program committed: the statement's ABI encoding.
    pub public_values: Vec<u8>,
    /// How they were proven.
    pub kind: Kind,
    /// Proven cycles of the zkVM, including padding, as far as the proof shows them: a composite one does.
    pub cycles: Option<u64>,
}

/// The shape of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Nothing is proven: the program ran natively.
    Exec,
    /// Nothing is proven: the program ran in the zkVM's executor.
    DevMode,
    /// One proof for each segment of the run.
    Composite,
    /// One proof of constant size.
    Succinct,
    /// One proof of 256 bytes, which contracts verify.
    Groth16,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exec => "exec",
            Self::DevMode => "dev mode",
            Self::Composite => "composite",
            Self::Succinct => "succinct",
            Self::Groth16 => "groth16",
        })
    }
}

/// What made a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum System {
    /// The program ran natively; its "proof" is the public values themselves and proves nothing.
    Exec,
    /// RISC Zero's zkVM.
    Risc0,
}

impl System {
    /// The id of our program in this proof system, as pinned in this version.
    pub const fn program_id(self) -> [u8; 32] {
        match self {
            Self::Exec => EXEC_PROGRAM_ID,
            Self::Risc0 => RISC0_PROGRAM_ID,
        }
    }

    /// The id of the program that folds proofs of our program in this proof system, as pinned in this version.
    pub const fn aggregate_id(self) -> [u8; 32] {
        match self {
            Self::Exec => EXEC_PROGRAM_ID,
            Self::Risc0 => RISC0_AGGREGATE_ID,
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exec => "exec",
            Self::Risc0 => "risc0",
        })
    }
}

impl FromStr for System {
    type Err = UnknownSystem;

    fn from_str(name: &str) -> Result<Self, UnknownSystem> {
        match name {
            "exec" => Ok(Self::Exec),
            "risc0" => Ok(Self::Risc0),
            _ => Err(UnknownSystem(name.to_owned())),
        }
    }
}

/// The text is not the name of a proof system that this version knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown proof system {0:?}: use exec or risc0")]
pub struct UnknownSystem(String);

/// Which proofs are accepted although they prove nothing. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Accepts native runs. Whoever can send a proof can then state anything.
    pub danger_accept_exec: bool,
    /// Accepts RISC Zero's dev-mode receipts. Whoever can send a proof can then state anything.
    pub danger_accept_dev_mode: bool,
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// An exec proof proves nothing, and the policy does not accept it.
    #[error("an exec proof proves nothing and is refused: set danger_accept_exec to accept it")]
    ExecRefused,
    /// A dev-mode proof proves nothing, and the policy does not accept it.
    #[error(
        "a dev-mode proof proves nothing and is refused: set danger_accept_dev_mode to accept it"
    )]
    DevModeRefused,
    /// The proof was made for another program.
    #[error("the proof is of program {}, not of program {}", Id(.found), Id(.expected))]
    WrongProgram {
        /// The program id that the caller asked for.
        expected: [u8; 32],
        /// The program id that the proof names.
        found: [u8; 32],
    },
    /// The proof is of a program that must no longer be trusted, or the caller asked for one.
    #[error("program {} is revoked, because {reason}", Id(.program_id))]
    Revoked {
        /// The revoked program.
        program_id: [u8; 32],
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The proof, or a part of it, is larger than any honest one.
    #[error("the {what} is too large: {size} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most bytes accepted.
        limit: usize,
    },
    /// The bytes are not a proof in our format: truncated, extended or of another version.
    #[error("the proof is malformed: {what} at byte {offset}")]
    Malformed {
        /// What was expected there.
        what: &'static str,
        /// Bytes from the proof's start.
        offset: usize,
    },
    /// The proof is well-formed and proves nothing, or something else.
    #[error("the proof is invalid: {0}")]
    Invalid(String),
}

/// An exec proof is the public values; its program id is [`EXEC_PROGRAM_ID`].
fn verify_exec(
    program_id: [u8; 32],
    proof: &[u8],
    policy: &Policy,
) -> Result<Verified, VerifyError> {
    // SOUNDNESS: nothing is proven by these bytes, so that only an explicit policy accepts them.
    if !policy.danger_accept_exec {
        return Err(VerifyError::ExecRefused);
    }
    if program_id != EXEC_PROGRAM_ID {
        return Err(VerifyError::WrongProgram { expected: program_id, found: EXEC_PROGRAM_ID });
    }
    check_public_values(proof)?;
    Ok(Verified { public_values: proof.to_vec(), kind: Kind::Exec, cycles: None })
}

fn check_public_values(bytes: &[u8]) -> Result<(), VerifyError> {
    if bytes.len() > MAX_PUBLIC_VALUES {
        return Err(VerifyError::TooLarge {
            what: "public values",
            size: bytes.len(),
            limit: MAX_PUBLIC_VALUES,
        });
    }
    Ok(())
}

/// A program id as hexadecimal text.
struct Id<'a>(&'a [u8; 32]);

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
