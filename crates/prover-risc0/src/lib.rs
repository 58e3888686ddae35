//! Proves the program with RISC Zero, on this machine.
//!
//! * The program is the pinned one, `guests/risc0/pinned`: its image id is checked when a [`Risc0Prover`] is made.
//! * Proving goes step by step, so that it can be watched and cancelled between any two steps.
//! * Segments wait on disk: memory is needed for one segment at a time, whatever the length of the run.
//! * A proof is verified by `verifier` before it is handed out.
//! * Dev mode is [`Config::dev_mode`] and nothing else; the environment variable `RISC0_DEV_MODE` is not read here.

mod fold;
pub mod groth16;
mod guest;
mod meter;
mod parts;
mod replay;
mod steps;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use alloy_primitives::B256;
use client::prover::{BoxError, PartFiles, ProofKind, ProofSystem};
use client::{Cancel, Cycles, Execution, Progress, ProveError, Prover};
use risc0_binfmt::{MemoryImage, ProgramBinary};
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    Digest, FakeReceipt, InnerReceipt, MaybePruned, NullSegmentRef, Receipt, ReceiptClaim,
    SegmentRef, SystemState,
};
use verifier::{Policy, RISC0_AGGREGATE_ID, RISC0_PROGRAM_ID, System};

use crate::guest::{Run, Start, Watch};
use crate::meter::Tracer;
pub use crate::meter::{KECCAK_ROWS, Measurement, PhaseCycles};

/// The program binary that is proven: the guest and the kernel it runs on.
const PROGRAM: &[u8] = include_bytes!("../../../guests/risc0/pinned/l2-program.bin");

/// What computes proofs in this build, as [`Prover::engine`] says.
const DEVICE: &str = match (cfg!(feature = "cuda"), cfg!(feature = "metal")) {
    (true, _) => "cuda",
    (false, true) => "metal",
    (false, false) => "cpu",
};

/// Numbers of RISC Zero's `ecall`s: SHA-256 and programs of big integers.
const SHA_CALL: u32 = 3;
const BIGINT_CALL: u32 = 6;

/// Smallest and largest [`Config::segment_po2`]. A smaller one would multiply the segments: 2^15 makes 97 of what 2^16 does in 3.
pub const SEGMENT_PO2: std::ops::RangeInclusive<u32> = 16..=22;

/// How to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A segment has at most 2 to this power cycles. 18 needs about 2.5 GB of memory, 20 about 9 GB.
    pub segment_po2: u32,
    /// Runs the program in the zkVM and makes a receipt that proves nothing.
    pub dev_mode: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_po2: 18, dev_mode: false }
    }
}

impl Config {
    /// What is accepted of proofs that this prover makes or builds on.
    fn policy(&self) -> Policy {
        Policy { danger_accept_dev_mode: self.dev_mode, ..Policy::default() }
    }

    /// The proof of a receipt. If our own verifier refuses it, that is a bug; it is better to fail here than at the server.
    fn finished(
        &self,
        program_id: [u8; 32],
        receipt: InnerReceipt,
        journal: Vec<u8>,
    ) -> Result<Vec<u8>, ProveError> {
        let proof = verifier::risc0::encode(program_id, &Receipt::new(receipt, journal))
            .map_err(|error| ProveError::Failed(error.into()))?;
        verifier::verify(System::Risc0, program_id, &proof, &self.policy())
            .map_err(|error| ProveError::Failed(error.into()))?;
        Ok(proof)
    }
}

/// Why there is no prover.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The operator asked for a segment size that RISC Zero does not prove.
    #[error(
        "segment size 2^{0} is out of range: use {min} to {max}",
        min = SEGMENT_PO2.start(),
        max = SEGMENT_PO2.end()
    )]
    SegmentPo2(u32),
    /// This build carries a program that is not the pinned one: run `cargo xtask guests`.
    #[error(
        "the program in this build has image id {found}, not the pinned {}: run `cargo xtask guests` and build again",
        hex::encode(RISC0_PROGRAM_ID)
    )]
    WrongProgram {
        /// The image id, or what is wrong with the binary.
        found: String,
    },
}

/// RISC Zero on this machine.
#[derive(Clone, Debug)]
pub struct Risc0Prover {
    config: Config,
    /// Memory before a run, with its hashes: they take as long as a small block's execution.
    image: Arc<MemoryImage>,
    /// What Groth16 proofs lack here. Asked for once: Docker takes its time.
    groth16: Arc<OnceLock<Option<groth16::Missing>>>,
}

impl Risc0Prover {
    /// # Errors
    /// If the config asks for a segment size that RISC Zero lacks, or the build is inconsistent.
    pub fn new(config: Config) -> Result<Self, SetupError> {
        if !SEGMENT_PO2.contains(&config.segment_po2) {
            return Err(SetupError::SegmentPo2(config.segment_po2));
        }
        let mut image = ProgramBinary::decode(PROGRAM)
            .and_then(|binary| binary.to_image())
            .map_err(|error| SetupError::WrongProgram { found: error.to_string() })?;
        let found: Digest = SystemState { pc: 0, merkle_root: image.image_id() }.digest();
        if found != Digest::from(RISC0_PROGRAM_ID) {
            return Err(SetupError::WrongProgram { found: hex::encode(found.as_bytes()) });
        }
        Ok(Self { config, image: Arc::new(image), groth16: Arc::default() })
    }

    /// What is missing for Groth16 proofs. Dev mode needs no tool.
    fn lacks_groth16(&self) -> Option<&groth16::Missing> {
        match self.config.dev_mode {
            true => None,
            false => self.groth16.get_or_init(|| groth16::ready().err()).as_ref(),
        }
    }

    fn run_only(&self, input: &[u8], cancel: &Cancel) -> Result<Run, ProveError> {
        guest::run(Start::Image(&self.image), input, self.config.segment_po2, cancel, None, |_| {
            Ok(Box::new(NullSegmentRef))
        })
    }

    fn prove_dev_mode(
        &self,
        input: &[u8],
        cancel: &Cancel,
        progress: &dyn Fn(Progress),
    ) -> Result<Vec<u8>, ProveError> {
        let run = self.run_only(input, cancel)?;
        progress(executed(&run, None));
        self.config.finished(RISC0_PROGRAM_ID, mocked(RISC0_PROGRAM_ID, &run.journal), run.journal)
    }

    fn prove_really(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        progress: &dyn Fn(Progress),
    ) -> Result<Vec<u8>, ProveError> {
        let spill = guest::Spill::new().map_err(|error| ProveError::Unavailable(error.into()))?;
        let run = guest::run(
            Start::Image(&self.image),
            input,
            self.config.segment_po2,
            cancel,
            None,
            |segment| spill.keep(&segment),
        )?;
        progress(executed(&run, Some(steps::later_steps(&run, kind))));
        let inner = steps::prove(&run, &[], kind, cancel, progress)?;
        self.config.finished(RISC0_PROGRAM_ID, inner, run.journal)
    }
}

impl Prover for Risc0Prover {
    fn system(&self) -> ProofSystem {
        ProofSystem::Risc0
    }

    fn program_id(&self) -> B256 {
        B256::from(RISC0_PROGRAM_ID)
    }

    fn danger(&self) -> Option<&str> {
        self.config.dev_mode.then_some("dev mode")
    }

    fn kinds(&self) -> Vec<ProofKind> {
        let mut kinds =
            vec![ProofKind::Part, ProofKind::Composite, ProofKind::Succinct, ProofKind::Aggregate];
        if self.lacks_groth16().is_none() {
            kinds.push(ProofKind::Groth16);
        }
        kinds
    }

    fn lacks(&self) -> Vec<(ProofKind, String)> {
        let missing = self.lacks_groth16().map(|missing| (ProofKind::Groth16, missing.to_string()));
        missing.into_iter().collect()
    }

    fn aggregate_id(&self) -> Option<B256> {
        Some(B256::from(RISC0_AGGREGATE_ID))
    }

    fn prove(
        &self,
        input: &[u8],
        kind: ProofKind,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        caught(|| match (kind, self.config.dev_mode) {
            (ProofKind::Groth16, _) => groth16::prove(self.config, input, cancel, progress),
            (ProofKind::Aggregate, _) => fold::prove(self.config, input, cancel, progress),
            (ProofKind::Part, _) => Err(ProveError::Unavailable("a part needs a plan".into())),
            (_, true) => self.prove_dev_mode(input, cancel, progress),
            (_, false) => self.prove_really(input, kind, cancel, progress),
        })
    }

    fn segment_po2(&self) -> Option<u32> {
        Some(self.config.segment_po2)
    }

    fn engine(&self) -> Option<String> {
        let device = if self.config.dev_mode { "mocked" } else { DEVICE };
        Some(format!("risc0 {} {device}", risc0_zkvm::VERSION))
    }

    fn prove_part(
        &self,
        input: &Path,
        part: &PartFiles,
        cancel: &Cancel,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Vec<u8>, ProveError> {
        caught(|| parts::prove(self, input, part, cancel, progress))
    }

    fn plan(&self, input: &Path, segment_po2: u32) -> Result<Vec<u8>, ProveError> {
        let input = std::fs::read(input).map_err(|error| ProveError::Unavailable(error.into()))?;
        caught(|| parts::plan(self, &input, segment_po2))
    }

    fn execute(&self, input: &[u8]) -> Result<Execution, ProveError> {
        let run = caught(|| self.run_only(input, &Cancel::new()))?;
        let cycles = Cycles {
            user: run.session.user_cycles,
            total: run.session.total_cycles,
            segments: run.session.segments.len() as u64,
            keccak_permutations: Some(run.permutations()),
        };
        Ok(Execution { public_values: run.journal, cycles: Some(cycles) })
    }

    fn measure(
        &self,
        input: &[u8],
        program: Option<&Path>,
        profile: Option<&Path>,
    ) -> Result<client::Measurement, ProveError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| {
                let text = format!("cannot read the program binary {}: {error}", path.display());
                ProveError::Unavailable(text.into())
            })
        };
        let program = program.map(read).transpose()?;
        measure(program.as_deref(), input, self.config.segment_po2, profile).map(Into::into)
    }
}

/// Runs a program on `input` in the executor and counts where its cycles go; much slower than [`Prover::execute`].
/// `program` is a program binary, the pinned one if it is `None`. If it has symbols, a profile in pprof's format can be
/// written to the file `profile`.
///
/// # Errors
/// As [`Prover::execute`].
pub fn measure(
    program: Option<&[u8]>,
    input: &[u8],
    segment_po2: u32,
    profile: Option<&Path>,
) -> Result<Measurement, ProveError> {
    caught(|| {
        let tracer = Rc::new(RefCell::new(Tracer::default()));
        let program = program.unwrap_or(PROGRAM);
        let keep = |_| -> anyhow::Result<Box<dyn SegmentRef>> { Ok(Box::new(NullSegmentRef)) };
        let watch = Watch { tracer: tracer.clone(), profile };
        let run = guest::run(
            Start::Binary(program),
            input,
            segment_po2,
            &Cancel::new(),
            Some(watch),
            keep,
        )?;
        let mut tracer = tracer.borrow_mut();
        tracer.finish(run.session.user_cycles);
        let calls = |number| tracer.calls.get(&number).copied().unwrap_or_default();
        Ok(Measurement {
            user: run.session.user_cycles,
            paging: run.session.paging_cycles,
            total: run.session.total_cycles,
            segments: run.session.segments.len() as u64,
            keccak_permutations: run.permutations(),
            sha256_calls: calls(SHA_CALL),
            bigint_calls: calls(BIGINT_CALL),
            software_calls: tracer.software_calls(),
            phases: tracer.phases(),
            outside: tracer.outside(),
            public_values: run.journal,
        })
    })
}

fn executed(run: &Run, later_steps: Option<u64>) -> Progress {
    Progress::Executed {
        segments: run.session.segments.len() as u64,
        user_cycles: run.session.user_cycles,
        total_cycles: run.session.total_cycles,
        later_steps,
    }
}

/// The receipt of dev mode, which proves nothing.
fn mocked(program_id: [u8; 32], journal: &[u8]) -> InnerReceipt {
    let journal = MaybePruned::Value(journal.to_vec());
    InnerReceipt::Fake(FakeReceipt::new(ReceiptClaim::ok(Digest::from(program_id), journal)))
}

/// RISC Zero panics when something unexpected happens; a client must survive that.
fn caught<T>(prove: impl FnOnce() -> Result<T, ProveError>) -> Result<T, ProveError> {
    catch_unwind(AssertUnwindSafe(prove)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = format!("RISC Zero panicked: {}", text.unwrap_or("without a message"));
        Err(ProveError::Failed(BoxError::from(text)))
    })
}
