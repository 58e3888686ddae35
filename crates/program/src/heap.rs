//! How much of a guest's heap an input uses, counted while it runs natively.
//!
//! A guest's allocator never frees, so an input takes the sum of all that it allocates. A native run makes the same
//! allocations with pointers of twice the size, except for curve arithmetic, whose share `evm` adds. So the count is
//! at least what the guest will allocate.
//!
//! To have inputs refused that may not fit, install [`Meter`] as the global allocator of the binary.

use crate::bound::Bound;
use core::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
};

/// Bytes of a guest's heap: RISC Zero's user memory, less the program and its stack.
pub const GUEST_HEAP: u64 = 0xC000_0000 - 0x0100_0000;

std::thread_local! {
    /// Bytes that this thread has allocated, freed ones included.
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
    /// How many bytes it may have allocated by the end of the current run.
    static LIMIT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// A global allocator that counts what each thread allocates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter<A>(pub A);

/// Counts bytes that this thread has allocated, or that a guest would.
pub(crate) fn count(bytes: usize) {
    // A thread that is ending may allocate after its counter is gone.
    let _ = ALLOCATED.try_with(|all| all.set(all.get() + bytes as u64));
}

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: every call is passed on unchanged.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Meter<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A guest allocates a new block and copies.
        count(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { self.0.realloc(at, layout, size) }
    }
}

/// Runs `work` on an input of `len` bytes, and refuses it if a guest's heap may be too small for that.
///
/// Without [`Meter`] in place, nothing is counted and nothing refused.
pub(crate) fn bounded<T, E: From<Bound>>(
    len: usize,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    /// Lifts the limit, also if the work panics.
    struct Lifted;
    impl Drop for Lifted {
        fn drop(&mut self) {
            LIMIT.set(u64::MAX);
        }
    }
    LIMIT.set((ALLOCATED.get() + GUEST_HEAP).saturating_sub(len as u64));
    let _lifted = Lifted;
    let result = work()?;
    check()?;
    Ok(result)
}

/// Refuses what [`bounded`] runs as soon as it has allocated too much.
pub(crate) fn check() -> Result<(), Bound> {
    match ALLOCATED.get().checked_sub(LIMIT.get()) {
        None | Some(0) => Ok(()),
        Some(more) => Err(Bound::Heap { bytes: GUEST_HEAP + more, limit: GUEST_HEAP }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{alloc::System, hint::black_box};

    #[global_allocator]
    static METER: Meter<System> = Meter(System);

    #[test]
    fn what_is_freed_counts_and_what_goes_beyond_a_guest_s_heap_is_refused() {
        let megabytes = |times: u64| {
            bounded(100, || -> Result<(), Bound> {
                (0..times).for_each(|_| drop(black_box(Vec::<u8>::with_capacity(1 << 20))));
                Ok(())
            })
        };
        assert_eq!(
            megabytes(GUEST_HEAP >> 20),
            Err(Bound::Heap { bytes: GUEST_HEAP + 100, limit: GUEST_HEAP })
        );
        assert_eq!(megabytes((GUEST_HEAP >> 20) - 1), Ok(()));
        assert_eq!(check(), Ok(()), "the next run starts anew");
    }
}
