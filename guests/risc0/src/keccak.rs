//! Keccak-256 by RISC Zero's keccak circuit.
//!
//! The host permutes. What it answered is bound by a claim, which is SHA-256 (without its final padding) over all
//! states in the order they were asked for, each state before its permutation and after, padded with zeros to four
//! blocks. The circuit proves the claim, and the receipt of the guest holds only together with that proof.
//!
//! States are built where they are hashed: no state is ever copied, and many go into one call of the SHA-256 circuit.

use core::cell::UnsafeCell;

use risc0_circuit_keccak::KECCAK_CONTROL_ROOT;
use risc0_circuit_recursion::control_id::ALLOWED_CONTROL_ROOT;
use risc0_zkvm::guest::{env, sha::SHA256_INIT};
use risc0_zkvm::sha::{Digest, Digestible as _};
use risc0_zkvm::{Assumption, UnionClaim};
use risc0_zkvm_platform::syscall::{sys_keccak, sys_prove_keccak, sys_sha_buffer};

/// Bytes that one permutation absorbs, and the words that they are.
const RATE: usize = 136;
const RATE_WORDS: usize = RATE / 4;
/// Words of a state, and of a state with the zeros that the claim has after it.
const STATE: usize = 50;
const PADDED: usize = 64;
/// Permutations that are hashed into the claim at once.
const SLOTS: usize = 5;
/// Blocks of SHA-256 that a slot takes.
const SLOT_BLOCKS: u32 = 2 * PADDED as u32 / 16;

/// A permutation: the state before it and after it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Slot {
    before: [u32; PADDED],
    after: [u32; PADDED],
}

/// The permutations so far.
struct Transcript {
    /// The last ones: those below `used` are not in `claim` yet. What follows a state is never written to.
    slots: [Slot; SLOTS],
    used: usize,
    /// State of SHA-256 over the batch so far.
    claim: Digest,
    /// Peaks of a Merkle mountain range over the batches, with their heights, which fall from left to right.
    peaks: Vec<(u32, Assumption)>,
    batches: u32,
    /// Whether anything was permuted since the last batch.
    open: bool,
}

/// A guest has one thread.
struct Single(UnsafeCell<Transcript>);
// SAFETY: there is no second thread to share with.
unsafe impl Sync for Single {}

static TRANSCRIPT: Single = Single(UnsafeCell::new(Transcript {
    slots: [Slot { before: [0; PADDED], after: [0; PADDED] }; SLOTS],
    used: 0,
    claim: SHA256_INIT,
    peaks: Vec::new(),
    batches: 0,
    open: false,
}));

impl Transcript {
    /// Permutes the next slot's state and gives the slot's index.
    fn permute(&mut self) -> usize {
        let index = self.used;
        self.used += 1;
        self.open = true;
        let slot = &mut self.slots[index];
        // SAFETY: both are 200 bytes and aligned to 8, and the first is only read.
        let is_full =
            unsafe { sys_keccak(slot.before.as_ptr().cast(), slot.after.as_mut_ptr().cast()) };
        // A full batch must be closed before the next permutation.
        if is_full == 1 {
            self.close_batch();
        } else if self.used == SLOTS {
            self.hash_slots();
        }
        index
    }

    /// SOUNDNESS: every state that the host answered goes into the claim, in order, before its slot is used again.
    fn hash_slots(&mut self) {
        let claim: *mut [u32; 8] = self.claim.as_mut();
        let blocks = self.used as u32 * SLOT_BLOCKS;
        // SAFETY: the slots in use are that many blocks, and a digest may be read and written at once.
        unsafe { sys_sha_buffer(claim, claim, self.slots.as_ptr().cast(), blocks) };
        self.used = 0;
    }

    fn close_batch(&mut self) {
        if self.used > 0 {
            self.hash_slots();
        }
        let words: [u32; 8] = *self.claim.as_ref();
        let claim = Digest::new(words.map(u32::to_be));
        // SAFETY: both are digests.
        unsafe { sys_prove_keccak(claim.as_ref(), KECCAK_CONTROL_ROOT.as_ref()) };
        let mut height = 0;
        let mut new = Assumption { claim, control_root: KECCAK_CONTROL_ROOT };
        while let Some((_, peak)) = self.peaks.pop_if(|(top, _)| *top == height) {
            new = united(&new, &peak);
            height += 1;
        }
        self.peaks.push((height, new));
        self.claim = SHA256_INIT;
        self.batches += 1;
        self.open = false;
    }
}

/// What RISC Zero's recursion says of two assumptions that hold.
fn united(one: &Assumption, other: &Assumption) -> Assumption {
    let (one, other) = (one.digest(), other.digest());
    let claim = UnionClaim { left: one.min(other), right: one.max(other) }.digest();
    Assumption { claim, control_root: ALLOWED_CONTROL_ROOT }
}

/// Makes everything that was committed and will be depend on the permutations so far.
pub fn settle() {
    // SAFETY: nothing else holds the transcript now.
    let transcript = unsafe { &mut *TRANSCRIPT.0.get() };
    if transcript.open {
        transcript.close_batch();
    }
    let mut peaks = core::mem::take(&mut transcript.peaks).into_iter().map(|(_, peak)| peak);
    let Some(first) = peaks.next() else { return };
    let root = peaks.fold(first, |all, peak| united(&all, &peak));
    // SOUNDNESS: the receipt is worth nothing without a proof of this.
    let assumed = env::verify_assumption2(root.claim, root.control_root);
    assumed.expect("assuming never fails");
}

/// Keccak-256 of `len` bytes at `bytes`, written to 32 bytes at `output`: alloy-primitives' hook.
///
/// # Safety
///
/// `bytes` must be readable for `len` bytes and `output` writable for 32.
#[unsafe(no_mangle)]
unsafe extern "C" fn native_keccak256(bytes: *const u8, len: usize, output: *mut u8) {
    // SAFETY: alloy-primitives passes a slice's parts.
    let input = unsafe { core::slice::from_raw_parts(bytes, len) };
    // SAFETY: nothing else holds the transcript now, and nothing below calls back.
    let transcript = unsafe { &mut *TRANSCRIPT.0.get() };
    let mut blocks = input.chunks_exact(RATE);
    let mut last = None;
    for block in &mut blocks {
        transcript.absorb(last, block);
        last = Some(transcript.permute());
    }
    let rest = blocks.remainder();
    transcript.absorb(last, rest);
    let state: &mut [u8] =
        bytemuck::cast_slice_mut(&mut transcript.slots[transcript.used].before[..RATE_WORDS]);
    state[rest.len()] ^= 0x01;
    state[RATE - 1] ^= 0x80;
    let hash = transcript.slots[transcript.permute()].after.as_ptr();
    // SAFETY: the caller gives 32 writable bytes, which cannot overlap the transcript.
    unsafe { core::ptr::copy_nonoverlapping(hash.cast::<u8>(), output, 32) };
}

impl Transcript {
    /// Puts the state after slot `last`, or zeros, xored with `block`, at most [`RATE`] bytes, into the next slot.
    #[inline]
    fn absorb(&mut self, last: Option<usize>, block: &[u8]) {
        const ZERO: &[u32; STATE] = &[0; STATE];
        let next = self.used;
        let (before, after): (&mut [u32; STATE], &[u32; STATE]) = match last {
            // Disjoint fields of one slot or different slots; the slots are indexed below their number.
            Some(last) => {
                let after = self.slots[last].after.as_ptr().cast();
                let before = self.slots[next].before.as_mut_ptr().cast();
                // SAFETY: `before` and `after` of slots never overlap, and both are longer.
                unsafe { (&mut *before, &*after) }
            }
            None => {
                (self.slots[next].before.first_chunk_mut().expect("a state fits into a slot"), ZERO)
            }
        };
        let (chunks, tail) = block.as_chunks::<4>();
        let words = chunks.len();
        match bytemuck::try_cast_slice::<[u8; 4], u32>(chunks) {
            Ok(aligned) => {
                for i in 0..words {
                    before[i] = after[i] ^ aligned[i];
                }
            }
            Err(_) => {
                for i in 0..words {
                    before[i] = after[i] ^ u32::from_le_bytes(chunks[i]);
                }
            }
        }
        before[words..].copy_from_slice(&after[words..]);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut before[words..]);
        bytes.iter_mut().zip(tail).for_each(|(byte, new)| *byte ^= new);
    }
}
