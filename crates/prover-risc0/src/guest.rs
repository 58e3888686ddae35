//! Runs the guest in RISC Zero's executor.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use client::{Cancel, ProveError};
use risc0_binfmt::MemoryImage;
use risc0_circuit_rv32im::execute;
use risc0_zkvm::{
    CoprocessorCallback, ExecutorEnv, ExecutorImpl, ExitCode, Output, ProveKeccakRequest, Receipt,
    Segment, SegmentRef, Session, TraceCallback as _,
};

use crate::meter::Tracer;

/// What RISC Zero's executor prints before a guest's panic message.
const PANIC: &str = "Guest panicked: ";

/// A run of the guest that halted well.
pub(crate) struct Run {
    /// Cycles, segments and assumptions.
    pub session: Session,
    /// What the guest committed.
    pub journal: Vec<u8>,
    /// Batches of keccak permutations that the guest left to the accelerator, in order.
    pub keccak: Vec<ProveKeccakRequest>,
}

impl Run {
    /// Keccak permutations left to the accelerator.
    pub(crate) fn permutations(&self) -> u64 {
        self.keccak.iter().map(|batch| batch.input.len() as u64).sum()
    }
}

/// The observers of a run.
pub(crate) struct Watch<'w> {
    /// Told of every instruction.
    pub tracer: Rc<RefCell<Tracer>>,
    /// Where a profile is written.
    pub profile: Option<&'w Path>,
}

/// What a run starts from.
pub(crate) enum Start<'p> {
    /// Memory that holds the program; parts that were hashed before are not hashed again.
    Image(&'p MemoryImage),
    /// A program binary, which may have symbols for a profile.
    Binary(&'p [u8]),
    /// The binary of a guest that builds on what these receipts prove.
    Upon(&'p [u8], &'p [Receipt]),
}

/// Runs the program of `start` on `input`; `keep` gets every segment as soon as it is complete.
pub(crate) fn run(
    start: Start<'_>,
    input: &[u8],
    segment_po2: u32,
    cancel: &Cancel,
    watch: Option<Watch<'_>>,
    mut keep: impl FnMut(Segment) -> anyhow::Result<Box<dyn SegmentRef>> + Send,
) -> Result<Run, ProveError> {
    let keccak = Rc::new(RefCell::new(Batches::default()));
    let mut environment = ExecutorEnv::builder();
    environment
        .stdin(framed(input)?)
        .stdout(io::sink())
        .stderr(io::sink())
        .segment_limit_po2(segment_po2)
        .coprocessor_callback_ref(keccak.clone());
    if let Some(Watch { tracer, profile }) = watch {
        if let Some(profile) = profile {
            environment.enable_profiler(profile);
        }
        environment.trace_callback(move |event| tracer.borrow_mut().trace_callback(event));
    }
    if let Start::Upon(_, receipts) = start {
        for receipt in receipts {
            environment.add_assumption(receipt.clone());
        }
    }
    let environment = environment.build().map_err(failed)?;
    let executor = match start {
        Start::Image(image) => ExecutorImpl::new(environment, image.clone()),
        Start::Binary(program) | Start::Upon(program, _) => {
            ExecutorImpl::from_elf(environment, program)
        }
    };
    let mut executor = executor.map_err(failed)?;
    let session = executor.run_with_callback(|segment| {
        anyhow::ensure!(!cancel.is_set(), "cancelled");
        keep(segment)
    });
    cancel.check()?;
    let mut session = session.map_err(|error| stopped(&error))?;
    if session.exit_code != ExitCode::Halted(0) {
        let text = format!("the guest stopped with {:?}", session.exit_code);
        return Err(ProveError::BadInput(text));
    }
    let journal = session
        .journal
        .take()
        .ok_or_else(|| ProveError::BadInput("the guest committed nothing".to_owned()))?;
    let keccak = keccak.take().0;
    Ok(Run { session, journal: journal.bytes, keccak })
}

/// What the guest reads: the input's length, the input, and zeros up to a whole word.
pub(crate) fn framed(input: &[u8]) -> Result<impl io::BufRead + '_, ProveError> {
    let length = u32::try_from(input.len()).map_err(|_| {
        ProveError::BadInput(format!("{} bytes do not fit into the zkVM", input.len()))
    })?;
    let padding = &[0; 3][..input.len().next_multiple_of(4) - input.len()];
    Ok(io::Cursor::new(length.to_le_bytes()).chain(input).chain(padding))
}

/// Why the executor stopped: the program refused its input, or something went wrong.
pub(crate) fn stopped(error: &anyhow::Error) -> ProveError {
    let text = format!("{error:#}");
    match text.split_once(PANIC) {
        Some((_, message)) => ProveError::BadInput(message.to_owned()),
        None => ProveError::Failed(text.into()),
    }
}

fn failed(error: anyhow::Error) -> ProveError {
    ProveError::Failed(error.into())
}

/// Collects what the guest sends to the keccak accelerator.
#[derive(Default)]
pub(crate) struct Batches(pub(crate) Vec<ProveKeccakRequest>);

impl CoprocessorCallback for Batches {
    fn prove_keccak(&mut self, request: ProveKeccakRequest) -> anyhow::Result<()> {
        self.0.push(request);
        Ok(())
    }
}

/// A folder for the segments of one run, which is deleted when dropped.
pub(crate) struct Spill(tempfile::TempDir);

impl Spill {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("l2-segments-").tempdir()?))
    }

    pub(crate) fn keep(&self, segment: &Segment) -> anyhow::Result<Box<dyn SegmentRef>> {
        let (path, mut file) = self.file(segment.index)?;
        bincode::serialize_into(&mut file, segment)?;
        io::Write::flush(&mut file)?;
        Ok(Box::new(Spilled(path)))
    }

    /// As [`keep`](Self::keep), for a segment of the circuit; `output` is what the program has committed to after the last one.
    pub(crate) fn keep_inner(
        &self,
        segment: &execute::Segment,
        output: Option<&Output>,
    ) -> anyhow::Result<Box<dyn SegmentRef>> {
        let index = u32::try_from(segment.index)?;
        let (path, mut file) = self.file(index)?;
        // The fields of RISC Zero's `Segment`, which has no constructor.
        bincode::serialize_into(&mut file, &(index, segment, output))?;
        io::Write::flush(&mut file)?;
        Ok(Box::new(Spilled(path)))
    }

    fn file(&self, index: u32) -> io::Result<(PathBuf, io::BufWriter<fs::File>)> {
        let path = self.0.path().join(index.to_string());
        let file = io::BufWriter::new(fs::File::create(&path)?);
        Ok((path, file))
    }
}

/// A segment on disk.
struct Spilled(PathBuf);

impl SegmentRef for Spilled {
    fn resolve(&self) -> anyhow::Result<Segment> {
        let file = io::BufReader::new(fs::File::open(&self.0)?);
        Ok(bincode::deserialize_from(file)?)
    }
}

#[cfg(test)]
mod tests {
    use devnode::{Chain, Kind, Traffic, TrafficConfig, genesis};
    use risc0_circuit_keccak::{KECCAK_CONTROL_ROOT, compute_keccak_digest};
    use risc0_zkvm::sha::Digestible as _;
    use risc0_zkvm::{ALLOWED_CONTROL_ROOT, Assumption, NullSegmentRef, UnionClaim};

    use super::*;

    /// The claim that RISC Zero's recursion makes of two assumptions that hold.
    fn united(one: &Assumption, other: &Assumption) -> Assumption {
        let (one, other) = (one.digest(), other.digest());
        let claim = UnionClaim { left: one.min(other), right: one.max(other) }.digest();
        Assumption { claim, control_root: ALLOWED_CONTROL_ROOT }
    }

    // The accelerator's answers are not checked while the guest runs: this claim binds them.
    #[test]
    fn every_hash_is_claimed_and_assumed() {
        for (per_block, batches) in [(1, 1..=1), (200, 2..=100)] {
            let mut chain = Chain::new(&genesis::dev()).unwrap();
            let kinds = vec![Kind::Transfer];
            let config = TrafficConfig { seed: 1, per_block, kinds, stop_after: None };
            Traffic::new(config).fill(&mut chain).unwrap();
            chain.mine(chain.head().timestamp + 2).unwrap();
            let (input, root) = chain.input(1..=1).unwrap();
            let input = input.encode(root).unwrap();
            let run = run(Start::Binary(crate::PROGRAM), &input, 20, &Cancel::new(), None, |_| {
                Ok(Box::new(NullSegmentRef))
            });
            let run = run.unwrap();
            assert!(batches.contains(&run.keccak.len()), "{} batches", run.keccak.len());

            // A Merkle mountain range, as in the guest.
            let mut peaks: Vec<(u32, Assumption)> = Vec::new();
            for batch in &run.keccak {
                let states: Vec<u8> =
                    batch.input.iter().flatten().flat_map(|lane| lane.to_le_bytes()).collect();
                let claim = compute_keccak_digest(&states);
                assert_eq!(
                    batch.claim_digest, claim,
                    "the claim is of all states that were asked for"
                );
                let mut peak = Assumption { claim, control_root: KECCAK_CONTROL_ROOT };
                let mut height = 0;
                while let Some((_, top)) = peaks.pop_if(|(top, _)| *top == height) {
                    peak = united(&peak, &top);
                    height += 1;
                }
                peaks.push((height, peak));
            }
            let root =
                peaks.into_iter().map(|(_, peak)| peak).reduce(|all, peak| united(&all, &peak));
            let assumed: Vec<_> =
                run.session.assumptions.into_iter().map(|(assumed, _)| assumed).collect();
            assert_eq!(assumed, [root.expect("a block is hashed")]);
        }
    }
}
