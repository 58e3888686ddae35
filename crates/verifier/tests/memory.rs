//! How much memory verifying takes beside the proof itself, whatever the proof says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use verifier::{Policy, VerifyError, verify};

/// The system's allocator, counting. Growing a block counts as a second block beside the first.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to write; this one only counts")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the block came from `alloc` above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Maximum memory, in bytes, that verifying may take beside the proof.
const ALLOWED: usize = 4 << 20;

/// Approximate length of a junk proof, in bytes.
const JUNK: usize = 64 << 20;

/// Bytes of the largest seal that is read.
const SEAL: usize = 512 << 10;

/// A proof in our format; see the documentation of `verifier::risc0`.
fn envelope(kind: u8, journal: usize) -> Vec<u8> {
    let mut proof = Vec::with_capacity(JUNK + (1 << 20));
    proof.extend([&b"L2R0\x01"[..], &[kind], &[7; 32]].concat());
    put(&mut proof, journal);
    proof.resize(proof.len() + journal, 0);
    proof
}

fn put(proof: &mut Vec<u8>, length: usize) {
    proof.extend(u32::try_from(length).expect("short").to_le_bytes());
}

fn put_seal(proof: &mut Vec<u8>, bytes: usize) {
    put(proof, bytes / 4);
    proof.resize(proof.len() + bytes, 1);
}

/// A composite proof of as many segments as fit, with seals of `seal` bytes each, and assumptions.
fn composite(seal: usize, assumptions: u8) -> Vec<u8> {
    let mut proof = envelope(1, 448);
    let segments = (JUNK / (seal + 36)).min(8192);
    put(&mut proof, segments);
    for _ in 1..segments {
        put_seal(&mut proof, seal);
        proof.extend([0; 32]);
    }
    put_seal(&mut proof, seal);
    proof.push(assumptions);
    for _ in 0..assumptions {
        proof.extend([0; 64 + 32 + 1 + 8 * 32]);
        put_seal(&mut proof, 1000);
    }
    proof
}

/// Verifies, and says how many bytes it took beside the proof.
fn measured(program_id: [u8; 32], proof: &[u8]) -> (Option<VerifyError>, usize) {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let verified = verify(verifier::System::Risc0, program_id, proof, &Policy::default());
    (verified.err(), PEAK.load(Relaxed) - before)
}

// One test: it counts what the whole process allocates.
#[test]
fn a_proof_takes_little_more_memory_than_its_bytes() {
    // RISC Zero's verifier panics at an empty seal; a backtrace takes more memory than any proof does.
    std::panic::set_hook(Box::new(|_| {}));
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let file = std::path::Path::new(&folder).join("tests/fixtures/dev-block.composite.proof");
    let real = std::fs::read(file).expect("the proof is checked in");
    let program_id = real[6..38].try_into().expect("32 bytes");
    let (refused, took) = measured(program_id, &real);
    assert_eq!(refused, None);
    assert!(took < ALLOWED, "a real proof took {took} bytes");

    let mut one_seal = envelope(2, 448);
    one_seal.extend([0; 32 + 1 + 8 * 32]);
    put_seal(&mut one_seal, JUNK);
    let mut countless = envelope(1, 448);
    put(&mut countless, u32::MAX as usize);
    countless.resize(JUNK, 0);
    let more = "more segments than a proof can hold";
    for (what, proof, reason) in [
        ("large seals", composite(SEAL, 255), "the proof is invalid"),
        ("larger seals", composite(SEAL + 4, 0), "the seal is too large"),
        ("small seals", composite(1 << 13, 0), "the proof is invalid"),
        ("empty seals", composite(0, 255), "the proof is invalid"),
        ("one seal", one_seal, "the seal is too large"),
        ("more segments than bytes", countless, more),
        ("large public values", envelope(1, JUNK), "the public values is too large"),
    ] {
        let (refused, took) = measured([7; 32], &proof);
        let refused = refused.expect(what).to_string();
        assert!(refused.contains(reason), "{what}: {refused}");
        assert!(took < ALLOWED, "{what}: {took} bytes beside the {} of the proof", proof.len());
    }
}
