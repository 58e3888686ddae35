//! Runs the guest so that every run on an input is the same to the byte, whoever runs it.
//!
//! * RISC Zero's runtime asks for 16 random bytes when a guest starts, so that the roots of its memory tell nothing of a secret
//!   input. With other bytes, every root is another, and segments of two runs do not meet. Our inputs are public: the bytes are a
//!   hash of the input. Whatever they are, no false statement can be proven with them, because the host chooses them anyway.
//! * Everything else that the guest asks for is answered by RISC Zero's own executor.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::rc::Rc;

use client::{Cancel, Progress, ProveError};
use risc0_binfmt::{ByteAddr, MemoryImage};
use risc0_circuit_rv32im::execute::{CycleLimit, Executor, Segment, Syscall, SyscallContext};
use risc0_circuit_rv32im::{HighLowU16, MAX_INSN_CYCLES, TerminateState};
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{Digest, ExecutorEnv, ExecutorImpl, ProveKeccakRequest, SegmentRef};
use sha2::{Digest as _, Sha256};
use verifier::Plan;

use crate::SEGMENT_PO2;
use crate::guest::{Batches, Spill, framed, stopped};

/// The name of the system call for random bytes.
const RANDOM: &str = "risc0_zkvm_platform::syscall::nr::SYS_RANDOM";

/// The longest name of a system call that is looked at.
const LONGEST_NAME: u32 = 128;

/// The file that a guest writes what it commits to.
const JOURNAL: u32 = 3;

/// How a program's last segment ends that halts with code 0.
const HALTED: HighLowU16 = HighLowU16(0, 0);

/// A run, and what it consists of.
pub(crate) struct Replay {
    /// What everybody's run on this input consists of.
    pub plan: Plan,
    /// The segments that were asked for.
    pub kept: Vec<Box<dyn SegmentRef>>,
    /// What a prover would prove of those: cycles with padding.
    pub kept_cycles: u64,
    /// Batches of keccak permutations that the guest left to the accelerator, in order.
    pub keccak: Vec<ProveKeccakRequest>,
    /// Cycles of the program itself.
    pub user_cycles: u64,
    /// Where the segments are kept.
    _spill: Option<Spill>,
}

impl Replay {
    /// What is to be said of the run before proving begins.
    pub(crate) fn executed(&self, segments: u64, total_cycles: u64, later_steps: u64) -> Progress {
        let user_cycles = self.user_cycles;
        Progress::Executed { segments, user_cycles, total_cycles, later_steps: Some(later_steps) }
    }
}

/// Runs the program in `image` on `input`, and keeps the segments of `kept` on disk.
pub(crate) fn run(
    image: &MemoryImage,
    input: &[u8],
    segment_po2: u32,
    kept: Range<u32>,
    cancel: &Cancel,
) -> Result<Replay, ProveError> {
    if !SEGMENT_PO2.contains(&segment_po2) {
        let (least, most) = (SEGMENT_PO2.start(), SEGMENT_PO2.end());
        let text =
            format!("it makes segments of 2^{least} to 2^{most} cycles, not of 2^{segment_po2}");
        return Err(ProveError::Unavailable(text.into()));
    }
    let unavailable = |error: io::Error| ProveError::Unavailable(error.into());
    let spill = if kept.is_empty() { None } else { Some(Spill::new().map_err(unavailable)?) };
    let batches = Rc::new(RefCell::new(Batches::default()));
    let mut journal = Vec::new();
    let (mut states, mut refs, mut kept_cycles) = (Vec::<[u8; 32]>::new(), Vec::new(), 0);
    // It is complete only when the journal is.
    let mut last: Option<Segment> = None;
    let user_cycles = {
        let environment = ExecutorEnv::builder()
            .stdin(framed(input)?)
            .stdout(io::sink())
            .stderr(io::sink())
            .write_fd(JOURNAL, &mut journal)
            .coprocessor_callback_ref(batches.clone())
            .build()
            .map_err(failed)?;
        let calls = Calls {
            others: ExecutorImpl::new(environment, image.clone()).map_err(failed)?,
            random: Sha256::digest(input).into(),
            answered: Cell::new(None),
        };
        let mut executor = Executor::new(image.clone(), &calls, None, Vec::new(), None);
        let result =
            executor.run(segment_po2 as usize, MAX_INSN_CYCLES, CycleLimit::None, |segment| {
                anyhow::ensure!(!cancel.is_set(), "cancelled");
                if states.is_empty() {
                    states.push(segment.claim.pre_state.into());
                }
                states.push(segment.claim.post_state.into());
                let wanted = u64::from(kept.start)..u64::from(kept.end);
                if segment.claim.terminate_state.is_some() {
                    last = Some(segment);
                } else if let Some(spill) = &spill
                    && wanted.contains(&segment.index)
                {
                    kept_cycles += 1_u64 << segment.po2;
                    refs.push(spill.keep_inner(&segment, None)?);
                }
                Ok(())
            });
        cancel.check()?;
        result.map_err(|error| stopped(&error))?.user_cycles
    };
    let last = last.ok_or_else(|| ProveError::Failed("the guest did not end".into()))?;
    match last.claim.terminate_state {
        Some(TerminateState { a0: HALTED, .. }) => {}
        other => return Err(ProveError::BadInput(format!("the guest stopped with {other:?}"))),
    }
    if last.claim.output.is_none_or(|output| output == Digest::ZERO) {
        return Err(ProveError::BadInput("the guest committed nothing".to_owned()));
    }
    // A program that has halted claims no memory.
    if let Some(state) = states.last_mut() {
        *state = [0; 32];
    }
    let keccak = batches.take().0;
    let claims = keccak.iter().map(|batch| batch.claim_digest.into()).collect();
    let plan = Plan { segment_po2, states, keccak: claims, public_values: journal };
    let output = verifier::risc0::output(&plan);
    if last.claim.output != Some(output.digest()) {
        return Err(ProveError::Failed("the guest assumes what nothing proves".into()));
    }
    if let Some(spill) = &spill
        && kept.contains(&(plan.segments() - 1))
    {
        kept_cycles += 1_u64 << last.po2;
        refs.push(spill.keep_inner(&last, Some(&output)).map_err(failed)?);
    }
    Ok(Replay { plan, kept: refs, kept_cycles, keccak, user_cycles, _spill: spill })
}

/// Answers the guest's system calls.
struct Calls<'a> {
    others: ExecutorImpl<'a>,
    /// What is random in the guest.
    random: [u8; 32],
    /// What our last answer returns, until the guest has fetched it.
    answered: Cell<Option<u32>>,
}

impl Syscall for Calls<'_> {
    fn host_read(
        &self,
        context: &mut impl SyscallContext,
        fd: u32,
        buffer: &mut [u8],
    ) -> anyhow::Result<u32> {
        // A call is two reads: one at its name, for its bytes, and one at zero, for the two words that it returns.
        if fd == 0 {
            let Some(length) = self.answered.take() else {
                return self.others.host_read(context, fd, buffer);
            };
            anyhow::ensure!(buffer.len() == 8, "a system call returns two words");
            buffer[..4].copy_from_slice(&length.to_le_bytes());
            buffer[4..].fill(0);
            return Ok(8);
        }
        if !is_named(context, fd, RANDOM)? {
            self.answered.set(None);
            return self.others.host_read(context, fd, buffer);
        }
        let length = u32::try_from(buffer.len())?;
        for (index, block) in (0_u32..).zip(buffer.chunks_mut(32)) {
            let random = Sha256::new().chain_update(self.random).chain_update(index.to_le_bytes());
            block.copy_from_slice(&random.finalize()[..block.len()]);
        }
        self.answered.set(Some(length));
        Ok(length)
    }

    fn host_write(
        &self,
        context: &mut impl SyscallContext,
        fd: u32,
        buffer: &[u8],
    ) -> anyhow::Result<u32> {
        self.others.host_write(context, fd, buffer)
    }
}

/// Whether the text at this address, up to a zero, is `name`.
fn is_named(context: &mut impl SyscallContext, address: u32, name: &str) -> anyhow::Result<bool> {
    let mut found = Vec::new();
    for offset in 0..LONGEST_NAME {
        match context.peek_u8(ByteAddr(address.wrapping_add(offset)))? {
            0 => return Ok(found == name.as_bytes()),
            byte => found.push(byte),
        }
    }
    Ok(false)
}

fn failed(error: anyhow::Error) -> ProveError {
    ProveError::Failed(error.into())
}

#[cfg(test)]
mod tests {
    use devnode::{Chain, Kind, Traffic, TrafficConfig, genesis};
    use risc0_binfmt::ProgramBinary;

    use super::*;

    /// What the run consists of, and every segment as bytes.
    fn written(input: &[u8], segment_po2: u32) -> (Plan, Vec<Vec<u8>>) {
        let image = ProgramBinary::decode(crate::PROGRAM).unwrap().to_image().unwrap();
        let run = run(&image, input, segment_po2, 0..u32::MAX, &Cancel::new()).unwrap();
        let bytes =
            |segment: &dyn SegmentRef| bincode::serialize(&segment.resolve().unwrap()).unwrap();
        (run.plan, run.kept.iter().map(|segment| bytes(&**segment)).collect())
    }

    // Proofs in parts rest on this: each client finds the others' segments in its own run.
    #[test]
    fn every_run_on_an_input_has_the_same_segments_to_the_byte() {
        let mut chain = Chain::new(&genesis::dev()).unwrap();
        let kinds = vec![Kind::Transfer, Kind::Token];
        let config = TrafficConfig { seed: 1, per_block: 4, kinds, stop_after: None };
        Traffic::new(config).fill(&mut chain).unwrap();
        chain.mine(chain.head().timestamp + 2).unwrap();
        let (input, root) = chain.input(1..=1).unwrap();
        let input = input.encode(root).unwrap();
        for po2 in [16, 18] {
            let (plan, alone) = written(&input, po2);
            assert!(alone.len() > 2, "{} segments", alone.len());
            assert_eq!(alone.len(), plan.segments() as usize);
            assert_eq!(plan.public_values, program::run(&input).unwrap().abi_encode());
            // On other threads, which are in each other's way, and each at another time in its life.
            let others = std::thread::scope(|scope| {
                let runs = [(); 3].map(|()| scope.spawn(|| written(&input, po2)));
                runs.map(|run| run.join().unwrap())
            });
            for (others_plan, segments) in others {
                assert_eq!(others_plan, plan, "2^{po2}");
                assert!(segments == alone, "2^{po2}: other segments");
            }
        }
    }
}
