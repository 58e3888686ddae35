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

/// Words of a trie's full branch, sixteen hashes, after its last whole block: most of what is hashed are such branches.
const BRANCH_END: usize = (3 + 16 * 33 + 1 - 3 * RATE) / 4;
/// Hashes of 64 bytes that are remembered.
const MEMOS: usize = 64;
/// The words that these are.
const PAIR: usize = 16;

/// What 64 bytes hash to: the slot of a mapping, which contracts compute again and again.
#[derive(Clone, Copy)]
struct Memo {
    /// `false` until there is a hash.
    known: bool,
    pair: [u32; PAIR],
    hash: [u32; 8],
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
    memos: [Memo; MEMOS],
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
    memos: [Memo { known: false, pair: [0; PAIR], hash: [0; 8] }; MEMOS],
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
    if let Some(pair) = words::<PAIR>(input) {
        let hash: *const [u32; 8] = transcript.hash_of_pair(pair);
        // SAFETY: the caller gives 32 writable bytes, which cannot overlap the transcript.
        unsafe { core::ptr::copy_nonoverlapping(hash.cast::<u8>(), output, 32) };
        return;
    }
    let (blocks, rest) = input.as_chunks::<RATE>();
    let mut last = None;
    for block in blocks {
        transcript.absorb(last, block);
        last = Some(transcript.permute());
    }
    transcript.absorb_rest(last, rest);
    let hash = transcript.slots[transcript.permute()].after.as_ptr();
    // SAFETY: the caller gives 32 writable bytes, which cannot overlap the transcript.
    unsafe { core::ptr::copy_nonoverlapping(hash.cast::<u8>(), output, 32) };
}

impl Transcript {
    /// The hash of 64 bytes, from memory if it is there.
    fn hash_of_pair(&mut self, pair: &[u32; PAIR]) -> &[u32; 8] {
        // The ends of both words: what follows the zeros of an address and of a number.
        let mixed = (pair[7] ^ pair[15] ^ pair[6].rotate_left(16)).wrapping_mul(0x9e37_79b1);
        let index = (mixed >> (u32::BITS - MEMOS.ilog2())) as usize;
        // SOUNDNESS: the hash of the very same bytes, and one that was computed.
        if !self.memos[index].known || self.memos[index].pair != *pair {
            self.absorb_rest(None, bytemuck::cast_slice(pair));
            let slot = self.permute();
            let hash = *self.slots[slot].after.first_chunk().expect("a state is longer");
            self.memos[index] = Memo { known: true, pair: *pair, hash };
        }
        &self.memos[index].hash
    }

    /// The next slot's state to fill in, and the state after slot `last`.
    #[inline(always)]
    fn states(&mut self, last: Option<usize>) -> (&mut [u32; STATE], Option<&[u32; STATE]>) {
        let next = self.used;
        let before: *mut [u32; PADDED] = &mut self.slots[next].before;
        let after = last.map(|last| {
            let after: *const [u32; PADDED] = &self.slots[last].after;
            // SAFETY: `before` and `after` of slots never overlap, and both are longer than a state.
            unsafe { &*after.cast() }
        });
        // SAFETY: the same.
        (unsafe { &mut *before.cast() }, after)
    }

    /// Puts the state after slot `last`, or zeros, xored with `block`, into the next slot.
    #[inline]
    fn absorb(&mut self, last: Option<usize>, block: &[u8; RATE]) {
        let (before, after) = self.states(last);
        if let Some(words) = words::<RATE_WORDS>(block) {
            fill(before, after, words);
            return;
        }
        let mut words = [0; RATE_WORDS];
        bytemuck::cast_slice_mut::<u32, u8>(&mut words).copy_from_slice(block);
        fill(before, after, &words);
    }

    /// Like [`Self::absorb`], with the end of the input, shorter than a block, and its padding.
    #[inline]
    fn absorb_rest(&mut self, last: Option<usize>, rest: &[u8]) {
        let (before, after) = self.states(last);
        let end = rest.len() / 4;
        match (after, words::<BRANCH_END>(rest)) {
            (after, Some(words)) => fill(before, after, words),
            (None, None) => {
                for word in before.iter_mut() {
                    put(word, 0);
                }
                bytemuck::cast_slice_mut::<u32, u8>(before)[..rest.len()].copy_from_slice(rest);
            }
            (Some(after), None) => {
                for i in 0..STATE {
                    put(&mut before[i], after[i]);
                }
                let (words, tail) = rest.as_chunks::<4>();
                match bytemuck::try_cast_slice::<[u8; 4], u32>(words) {
                    Ok(aligned) => {
                        let (fours, few) = aligned.as_chunks::<4>();
                        let (states, _) = before.as_chunks_mut::<4>();
                        for (state, four) in states.iter_mut().zip(fours) {
                            for i in 0..4 {
                                state[i] ^= four[i];
                            }
                        }
                        for (word, new) in before[4 * fours.len()..].iter_mut().zip(few) {
                            *word ^= new;
                        }
                    }
                    Err(_) => {
                        for (word, new) in before.iter_mut().zip(words) {
                            *word ^= u32::from_le_bytes(*new);
                        }
                    }
                }
                let byte = |i: usize| tail.get(i).map_or(0, |byte| u32::from(*byte) << (8 * i));
                before[end] ^= byte(0) | byte(1) | byte(2);
            }
        }
        before[end] ^= 1 << (8 * (rest.len() % 4));
        before[RATE_WORDS - 1] ^= 0x8000_0000;
    }
}

/// So many words, if the bytes are that and start on one.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8]) -> Option<&[u32; N]> {
    if bytes.len() != 4 * N {
        return None;
    }
    bytemuck::try_cast_slice::<u8, u32>(bytes).ok()?.first_chunk()
}

/// `before` is `after`, or zeros, xored with `words`. LLVM unrolls these loops only if nothing in them depends on the index.
#[inline(always)]
fn fill<const N: usize>(before: &mut [u32; STATE], after: Option<&[u32; STATE]>, words: &[u32; N]) {
    match after {
        Some(after) => {
            for i in 0..N {
                put(&mut before[i], after[i] ^ words[i]);
            }
            for i in N..STATE {
                put(&mut before[i], after[i]);
            }
        }
        None => {
            for i in 0..N {
                put(&mut before[i], words[i]);
            }
            for i in N..STATE {
                put(&mut before[i], 0);
            }
        }
    }
}

/// Writes a word where the compiler would rather make a loop or call a function for many.
#[inline(always)]
fn put(place: &mut u32, word: u32) {
    // SAFETY: a reference may be written to.
    unsafe { core::ptr::write_volatile(place, word) }
}
