//! Marks which part of a run is being executed, so that runs can be measured.
//!
//! On RISC-V a mark is one hint, `addi x0, x0, n`: an instruction without effect, which takes one cycle and is
//! visible to a host that traces the machine. Natively, `observe` passes it to a closure.

use alloc::{collections::BTreeMap, vec::Vec};

/// Part of a run. Phases may be nested; [`Meter`] keeps track of what belongs to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Reading the input, decoding blocks and headers, the transactions' root.
    Input,
    /// Hashing and tying the nodes of the pre-state; a storage trie when it is first read.
    PreState,
    /// Hashing and analysing contract codes.
    Codes,
    /// Recovering the senders from signatures.
    Senders,
    /// Everything that transactions and system calls do and that no other phase names.
    Execution,
    /// Writing changes into the tries, and the new state root.
    PostState,
    /// Receipts' root, logs bloom, requests.
    Receipts,
}

/// `addi x0, x0, 0`, the usual no-op, which is no mark.
const NOP: u32 = 0x13;
/// Marks are numbered from here: no compiler emits these hints.
const FIRST_MARK: u32 = 0x500;
const LEAVE: u32 = 0x4ff;
/// This plus the address of a precompile: the guest computes it in software.
const SOFTWARE: u32 = 0x600;

/// Marks that a call of the precompile at this address is computed in software though it could be accelerated.
/// `MARK` is 0x600 plus the address.
#[inline(always)]
pub fn software_call<const MARK: u32>() {
    const { assert!(MARK >> 8 == SOFTWARE >> 8) };
    mark::<MARK>();
}

impl Phase {
    /// Every phase, in the order of a run.
    pub const ALL: [Self; 7] = [
        Self::Input,
        Self::PreState,
        Self::Codes,
        Self::Senders,
        Self::Execution,
        Self::PostState,
        Self::Receipts,
    ];

    /// The name, for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::PreState => "pre-state",
            Self::Codes => "codes",
            Self::Senders => "senders",
            Self::Execution => "execution",
            Self::PostState => "post-state",
            Self::Receipts => "receipts",
        }
    }

    /// Runs `work` as part of this phase.
    #[inline(always)]
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Input => mark::<0x500>(),
            Self::PreState => mark::<0x501>(),
            Self::Codes => mark::<0x502>(),
            Self::Senders => mark::<0x503>(),
            Self::Execution => mark::<0x504>(),
            Self::PostState => mark::<0x505>(),
            Self::Receipts => mark::<0x506>(),
        }
        let done = work();
        mark::<0x4ff>();
        done
    }
}

/// Has no effect but to be visible in a trace.
#[inline(always)]
fn mark<const N: u32>() {
    #[cfg(target_arch = "riscv32")]
    #[expect(unsafe_code, reason = "one instruction without effect")]
    // SAFETY: a hint writes no register and no memory.
    unsafe {
        core::arch::asm!("addi x0, x0, {}", const N, options(nostack, preserves_flags));
    }
    #[cfg(feature = "std")]
    native::tell(N << 20 | NOP);
}

/// Sums up what each phase took, in any unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    totals: [u64; Phase::ALL.len()],
    outside: u64,
    stack: Vec<Phase>,
    software_calls: BTreeMap<u8, u64>,
}

impl Meter {
    /// Adds to the phase that is under way.
    #[inline]
    pub fn add(&mut self, amount: u64) {
        match self.stack.last() {
            Some(phase) => self.totals[*phase as usize] += amount,
            None => self.outside += amount,
        }
    }

    /// Follows an instruction of the program if it is a mark.
    #[inline]
    pub fn follow(&mut self, instruction: u32) {
        // A hint differs only in its number from the no-op.
        if instruction & 0xf_ffff != NOP {
            return;
        }
        match instruction >> 20 {
            LEAVE => drop(self.stack.pop()),
            number if number >> 8 == SOFTWARE >> 8 => {
                let [precompile, ..] = number.to_le_bytes();
                *self.software_calls.entry(precompile).or_default() += 1;
            }
            number => {
                let phase = number.checked_sub(FIRST_MARK).map(|index| index as usize);
                if let Some(phase) = phase.and_then(|index| Phase::ALL.get(index)) {
                    self.stack.push(*phase);
                }
            }
        }
    }

    /// What the phases took, each without those nested in it.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, u64)> + '_ {
        Phase::ALL.into_iter().zip(self.totals)
    }

    /// How often each precompile was computed in software: see [`software_call`].
    pub fn software_calls(&self) -> &BTreeMap<u8, u64> {
        &self.software_calls
    }

    /// What belongs to no phase.
    pub fn outside(&self) -> u64 {
        self.outside
    }
}

#[cfg(feature = "std")]
pub use native::observe;

#[cfg(feature = "std")]
mod native {
    use std::cell::RefCell;

    type Observer = Box<dyn FnMut(u32)>;

    thread_local! {
        static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    }

    /// Runs `work` and passes every mark to `observer`, as the instruction that it is for a RISC-V guest, which is
    /// what [`super::Meter::follow`] takes.
    pub fn observe<T>(observer: impl FnMut(u32) + 'static, work: impl FnOnce() -> T) -> T {
        OBSERVER.set(Some(Box::new(observer)));
        let done = work();
        OBSERVER.set(None);
        done
    }

    #[inline]
    pub(super) fn tell(instruction: u32) {
        OBSERVER.with_borrow_mut(|observer| {
            if let Some(observer) = observer {
                observer(instruction);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, rc::Rc};

    #[test]
    fn a_meter_gives_each_phase_what_it_took_itself() {
        let meter = Rc::new(RefCell::new(Meter::default()));
        let shared = meter.clone();
        let tick = |amount| meter.borrow_mut().add(amount);
        observe(
            move |mark| shared.borrow_mut().follow(mark),
            || {
                tick(1);
                Phase::Execution.run(|| {
                    tick(10);
                    Phase::PreState.run(|| tick(100));
                    tick(20);
                });
                tick(2);
            },
        );
        let meter = meter.borrow();
        let took: Vec<_> = meter.phases().filter(|(_, took)| *took > 0).collect();
        assert_eq!(took, [(Phase::PreState, 100), (Phase::Execution, 30)]);
        assert_eq!(meter.outside(), 3);
    }

    #[test]
    fn other_instructions_are_no_marks() {
        let mut meter = Meter::default();
        // Nothing, an addition with a register, and hints of other numbers.
        for instruction in [NOP, 0x5000_0093, 0x0000_8013, 0x3ff << 20 | NOP, 0x507 << 20 | NOP] {
            meter.follow(instruction);
            meter.add(1);
        }
        assert_eq!(meter.outside(), 5);
    }
}
