//! The guest's `memcpy`, `memcmp` and `bcmp`, run natively: every length, at every place within a word.
#![expect(unsafe_code, reason = "they are C's functions, and take pointers")]

#[expect(clippy::cast_possible_truncation, reason = "it writes words in parts")]
#[path = "../../../guests/risc0/src/memory.rs"]
mod memory;

/// Bytes around what is copied or compared.
const ROOM: usize = 8;

/// Bytes that start on a word, no two words of which are alike.
fn bytes(seed: u32) -> Vec<u32> {
    (0..64).map(|i| (i + 1 + seed).wrapping_mul(0x9e37_79b1)).collect()
}

/// Words as bytes.
fn view(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: words are bytes.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 4) }
}

#[test]
fn what_is_copied_is_the_same_and_nothing_else_is_touched() {
    for len in 0..200 {
        for (from, to) in (0..4).flat_map(|from| (0..4).map(move |to| (from, to))) {
            let (mut source, mut target) = (bytes(0), bytes(1000));
            let (source, target) = (view(&mut source), view(&mut target));
            let mut expected = target.to_vec();
            expected[ROOM + to..][..len].copy_from_slice(&source[from..][..len]);
            let end = &mut target[ROOM + to..];
            let to_pointer = end.as_mut_ptr();
            // SAFETY: both are longer, and do not overlap.
            let returned = unsafe { memory::word_memcpy(to_pointer, source[from..].as_ptr(), len) };
            assert_eq!(returned, to_pointer);
            assert_eq!(target, expected, "{len} bytes from {from} to {to}");
        }
    }
}

#[test]
fn bytes_compare_as_slices_do() {
    for len in 0..50 {
        for (one, other) in (0..4).flat_map(|one| (0..4).map(move |other| (one, other))) {
            // Differs from byte `differ` on, or not at all.
            for differ in 0..=len {
                let (mut a, mut b) = (bytes(0), bytes(0));
                let same = view(&mut a)[..len].to_vec();
                let (a, b) = (&mut view(&mut a)[one..][..len], &mut view(&mut b)[other..][..len]);
                a.copy_from_slice(&same);
                b.copy_from_slice(&same);
                for (i, byte) in b.iter_mut().enumerate().skip(differ) {
                    *byte ^= if i % 2 == 0 { 0x81 } else { 0x18 };
                }
                // SAFETY: both have that many bytes.
                let (ordered, equal) = unsafe {
                    let (a, b) = (a.as_ptr(), b.as_ptr());
                    (memory::memcmp(a, b, len), memory::bcmp(a, b, len) == 0)
                };
                assert_eq!(ordered.cmp(&0), (*a).cmp(b), "{len} bytes at {one} and {other}");
                assert_eq!(equal, *a == *b);
            }
        }
    }
}
