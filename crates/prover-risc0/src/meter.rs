//! What a run costs, and where: the executor reports every instruction, the program marks its phases.

use std::collections::BTreeMap;

use program::phase::{Meter, Phase};
use risc0_zkvm::{TraceCallback, TraceEvent};

/// The instruction with which a guest makes a system call.
const ECALL: u32 = 0x73;
/// Where the executor keeps `t0`, which holds the number of the system call.
const T0: u32 = 0xffff_0080 + 4 * 5;
/// Guests run below this address, the kernel above.
const USER_END: u32 = 0xc000_0000;

/// Cycles of one phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseCycles {
    /// Cycles of instructions and accelerators.
    pub user: u64,
    /// Cycles of pages that were read or written for the first time in their segment.
    pub paging: u64,
}

/// What a run costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measurement {
    /// What the guest committed.
    pub public_values: Vec<u8>,
    /// Cycles of instructions and accelerators.
    pub user: u64,
    /// Cycles of paging.
    pub paging: u64,
    /// All cycles that a prover proves: segments are padded to powers of two.
    pub total: u64,
    /// Number of segments.
    pub segments: u64,
    /// Keccak permutations left to the accelerator. Each takes [`KECCAK_ROWS`] rows of a circuit of its own.
    pub keccak_permutations: u64,
    /// Calls of the SHA-256 accelerator.
    pub sha256_calls: u64,
    /// Calls of the big-integer accelerator.
    pub bigint_calls: u64,
    /// Calls of precompiles computed in software although others of their kind are accelerated, by address.
    pub software_calls: BTreeMap<u8, u64>,
    /// Cycles by phase, each without the phases nested in it.
    pub phases: Vec<(Phase, PhaseCycles)>,
    /// Cycles outside all phases: start, and committing the statement.
    pub outside: PhaseCycles,
}

/// Rows of the keccak circuit for one permutation.
pub const KECCAK_ROWS: u64 = 200;

impl Measurement {
    /// Rows of the keccak circuit, without padding.
    pub fn keccak_cycles(&self) -> u64 {
        self.keccak_permutations * KECCAK_ROWS
    }
}

impl From<Measurement> for client::Measurement {
    fn from(measured: Measurement) -> Self {
        let cycles =
            |cycles: PhaseCycles| client::PhaseCycles { user: cycles.user, paging: cycles.paging };
        let phases = measured.phases.iter();
        let phases = phases.map(|(phase, spent)| (phase.name().to_owned(), cycles(*spent)));
        Self {
            user: measured.user,
            paging: measured.paging,
            total: measured.total,
            segments: measured.segments,
            keccak_permutations: measured.keccak_permutations,
            keccak_cycles: measured.keccak_cycles(),
            sha256_calls: measured.sha256_calls,
            bigint_calls: measured.bigint_calls,
            phases: phases.chain([("outside".to_owned(), cycles(measured.outside))]).collect(),
            software_calls: measured.software_calls,
            public_values: measured.public_values,
        }
    }
}

/// Follows a run.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    user: Meter,
    paging: Meter,
    cycle: u64,
    t0: u32,
    pub(crate) calls: BTreeMap<u32, u64>,
}

impl Tracer {
    /// Ends the run, which took `user_cycles` user cycles.
    pub(crate) fn finish(&mut self, user_cycles: u64) {
        self.user.add(user_cycles.saturating_sub(self.cycle));
    }

    pub(crate) fn phases(&self) -> Vec<(Phase, PhaseCycles)> {
        let paging = self.paging.phases().map(|(_, paging)| paging);
        let both = self.user.phases().zip(paging);
        both.map(|((phase, user), paging)| (phase, PhaseCycles { user, paging })).collect()
    }

    pub(crate) fn outside(&self) -> PhaseCycles {
        PhaseCycles { user: self.user.outside(), paging: self.paging.outside() }
    }

    pub(crate) fn software_calls(&self) -> BTreeMap<u8, u64> {
        self.user.software_calls().clone()
    }
}

impl TraceCallback for Tracer {
    fn trace_callback(&mut self, event: TraceEvent) -> anyhow::Result<()> {
        match event {
            TraceEvent::InstructionStart { cycle, pc, insn } => {
                self.user.add(cycle - self.cycle);
                self.cycle = cycle;
                if pc < USER_END {
                    if insn == ECALL {
                        *self.calls.entry(self.t0).or_default() += 1;
                    }
                    self.user.follow(insn);
                    self.paging.follow(insn);
                }
            }
            TraceEvent::MemorySet { addr: T0, region } => {
                // The executor reports words in big-endian order.
                self.t0 = region.try_into().map_or(0, u32::from_be_bytes);
            }
            TraceEvent::PageIn { cycles } | TraceEvent::PageOut { cycles } => {
                self.paging.add(cycles);
            }
            _ => {}
        }
        Ok(())
    }
}
