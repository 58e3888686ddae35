//! Comparing memory a word at a time: what LLVM calls for slices, and the compiler's own goes byte by byte.

/// Whether both are words and start on one.
fn aligned(a: *const u8, b: *const u8) -> bool {
    (a as usize | b as usize) & 3 == 0
}

/// C's `memcmp`.
///
/// # Safety
///
/// Both must be readable for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    if aligned(a, b) {
        while at + 4 <= len {
            // SAFETY: below `len`, and on a word.
            let (x, y) =
                unsafe { (a.add(at).cast::<u32>().read(), b.add(at).cast::<u32>().read()) };
            if x != y {
                return if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 };
            }
            at += 4;
        }
    }
    while at < len {
        // SAFETY: below `len`.
        let (x, y) = unsafe { (a.add(at).read(), b.add(at).read()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// `memcmp` for those who only ask whether both are equal.
///
/// # Safety
///
/// As [`memcmp`].
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same.
    unsafe { memcmp(a, b, len) }
}
