//! Comparing and copying memory a word at a time: what LLVM calls for slices. The compiler's own compares byte by byte, and RISC
//! Zero's own copies so whatever does not start on a word.
//!
//! Nothing is read or written beyond `len`, not even to the end of a word. A test of `program` runs this file natively.

/// Whether both are words and start on one.
fn aligned(a: *const u8, b: *const u8) -> bool {
    (a as usize | b as usize) & 3 == 0
}

/// C's `memcmp`.
///
/// # Safety
///
/// Both must be readable for `len` bytes.
#[cfg_attr(target_os = "zkvm", unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let (mut a, mut b, mut left) = (a, b, len);
    if aligned(a, b) {
        while left >= 4 {
            // SAFETY: that many are left, and both are on words.
            let (x, y) = unsafe { (get(a, 0), get(b, 0)) };
            if x != y {
                return order(x, y);
            }
            (a, b, left) = (a.wrapping_add(4), b.wrapping_add(4), left.wrapping_sub(4));
        }
        if left == 0 {
            return 0;
        }
    }
    // SAFETY: that many are left.
    unsafe { compare_bytes(a, b, left) }
}

/// `memcmp` of bytes that lie anywhere. By itself, so that the rest is small enough to be inlined.
///
/// # Safety
///
/// As [`memcmp`].
#[inline(never)]
unsafe fn compare_bytes(a: *const u8, b: *const u8, len: usize) -> i32 {
    let (mut a, mut b, mut left) = (a, b, len);
    while left >= 4 {
        for i in 0..4 {
            // SAFETY: that many are left.
            let (x, y) = unsafe { (get::<u8>(a, i), get::<u8>(b, i)) };
            if x != y {
                return i32::from(x) - i32::from(y);
            }
        }
        (a, b, left) = (a.wrapping_add(4), b.wrapping_add(4), left.wrapping_sub(4));
    }
    for i in 0..left {
        // SAFETY: that many are left.
        let (x, y) = unsafe { (get::<u8>(a, i), get::<u8>(b, i)) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// How words that differ compare byte by byte.
fn order(x: u32, y: u32) -> i32 {
    if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 }
}

/// `memcmp` for those who only ask whether both are equal.
///
/// # Safety
///
/// As [`memcmp`].
#[cfg_attr(target_os = "zkvm", unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the same.
    unsafe { memcmp(a, b, len) }
}

/// C's `memcpy`: the linker puts it in the place of RISC Zero's (`build.rs`).
///
/// All accesses are volatile, or LLVM would see a loop that copies and make it a call of `memcpy`.
///
/// # Safety
///
/// `from` must be readable and `to` writable for `len` bytes, and they must not overlap.
#[cfg_attr(target_os = "zkvm", unsafe(no_mangle))]
pub(crate) unsafe extern "C" fn word_memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let (mut at, mut from, mut left) = (to, from, len);
    if !aligned(at, from) {
        if left < 12 {
            // SAFETY: that many are left.
            unsafe { copy_bytes(at, from, left) };
            return to;
        }
        while from as usize & 3 != 0 {
            // SAFETY: at most three of twelve.
            unsafe { put(at, get::<u8>(from, 0), 0) };
            (at, from, left) = step(at, from, left, 1);
        }
        if at as usize & 3 != 0 {
            // SAFETY: at least nine are left, and `from` is on a word.
            unsafe { copy_shifted(at, from, left) };
            return to;
        }
    }
    while left >= 32 {
        // SAFETY: that many are left, and both are on words.
        unsafe {
            copy_quad(at, from, 0);
            copy_quad(at, from, 4);
        }
        (at, from, left) = step(at, from, left, 32);
    }
    if left & 16 != 0 {
        // SAFETY: as above.
        unsafe { copy_quad(at, from, 0) };
        (at, from, left) = step(at, from, left, 16);
    }
    if left & 8 != 0 {
        // SAFETY: as above.
        let (a, b) = unsafe { (get::<u32>(from, 0), get::<u32>(from, 1)) };
        unsafe {
            put(at, a, 0);
            put(at, b, 1);
        }
        (at, from, left) = step(at, from, left, 8);
    }
    if left & 4 != 0 {
        // SAFETY: as above.
        unsafe { put(at, get::<u32>(from, 0), 0) };
        (at, from, left) = step(at, from, left, 4);
    }
    if left != 0 {
        // SAFETY: at most three are left.
        unsafe { copy_tail(at, from, left) };
    }
    to
}

/// Copies to a place that is not on a word, from one that is: each word goes to two.
///
/// # Safety
///
/// As [`word_memcpy`]; `len` is at least four.
#[inline(always)]
unsafe fn copy_shifted(to: *mut u8, from: *const u8, len: usize) {
    let (mut at, mut from, mut left) = (to, from, len);
    let beyond = at as usize & 3;
    let (up, down) = (8 * beyond as u32, 32 - 8 * beyond as u32);
    // SAFETY: at least four are left, of which these are at most three.
    let mut held = unsafe {
        let word = get::<u32>(from, 0);
        match beyond {
            1 => {
                put(at, word as u8, 0);
                put(at.wrapping_add(1), (word >> 8) as u16, 0);
            }
            2 => put(at, word as u16, 0),
            _ => put(at, word as u8, 0),
        }
        word >> (down & 31)
    };
    at = at.wrapping_add(4 - beyond);
    (_, from, left) = step(at, from, left, 4);
    // From here on `beyond` bytes are in `held`, and `at` is on a word.
    while left >= 16 {
        // SAFETY: that many are left, and both are on words.
        unsafe {
            let (a, b, c, d) = (
                get::<u32>(from, 0),
                get::<u32>(from, 1),
                get::<u32>(from, 2),
                get::<u32>(from, 3),
            );
            put(at, held | a << (up & 31), 0);
            put(at, a >> (down & 31) | b << (up & 31), 1);
            put(at, b >> (down & 31) | c << (up & 31), 2);
            put(at, c >> (down & 31) | d << (up & 31), 3);
            held = d >> (down & 31);
        }
        (at, from, left) = step(at, from, left, 16);
    }
    while left >= 4 {
        // SAFETY: as above.
        unsafe {
            let word = get::<u32>(from, 0);
            put(at, held | word << (up & 31), 0);
            held = word >> (down & 31);
        }
        (at, from, left) = step(at, from, left, 4);
    }
    // SAFETY: what is held and what is left are the bytes that were not written yet.
    unsafe {
        match beyond {
            1 => put(at, held as u8, 0),
            2 => put(at, held as u16, 0),
            _ => {
                put(at, held as u16, 0);
                put(at.wrapping_add(2), (held >> 16) as u8, 0);
            }
        }
        if left != 0 {
            copy_tail(at.wrapping_add(beyond), from, left);
        }
    }
}

/// Copies four words, after `skip` of them.
///
/// # Safety
///
/// They must be readable and writable, and on words.
#[inline(always)]
unsafe fn copy_quad(to: *mut u8, from: *const u8, skip: usize) {
    // SAFETY: the caller's.
    unsafe {
        let (a, b, c, d) = (
            get::<u32>(from, skip),
            get::<u32>(from, skip + 1),
            get::<u32>(from, skip + 2),
            get::<u32>(from, skip + 3),
        );
        put(to, a, skip);
        put(to, b, skip + 1);
        put(to, c, skip + 2);
        put(to, d, skip + 3);
    }
}

/// Copies one, two or three bytes.
///
/// # Safety
///
/// As [`word_memcpy`].
#[inline(always)]
unsafe fn copy_tail(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's; the last byte may be written twice.
    unsafe {
        put(to, get::<u8>(from, 0), 0);
        if len > 1 {
            put(to, get::<u8>(from, 1), 1);
        }
        if len > 2 {
            put(to, get::<u8>(from, 2), 2);
        }
    }
}

/// Copies a few bytes that lie anywhere.
///
/// # Safety
///
/// As [`word_memcpy`].
#[inline(always)]
unsafe fn copy_bytes(to: *mut u8, from: *const u8, len: usize) {
    let (mut at, mut from, mut left) = (to, from, len);
    while left >= 4 {
        // SAFETY: that many are left.
        unsafe {
            let (a, b, c, d) =
                (get::<u8>(from, 0), get::<u8>(from, 1), get::<u8>(from, 2), get::<u8>(from, 3));
            put(at, a, 0);
            put(at, b, 1);
            put(at, c, 2);
            put(at, d, 3);
        }
        (at, from, left) = step(at, from, left, 4);
    }
    if left != 0 {
        // SAFETY: at most three are left.
        unsafe { copy_tail(at, from, left) };
    }
}

/// Both pointers after `by` bytes, and what is left then.
#[inline(always)]
fn step(to: *mut u8, from: *const u8, left: usize, by: usize) -> (*mut u8, *const u8, usize) {
    (to.wrapping_add(by), from.wrapping_add(by), left.wrapping_sub(by))
}

/// Item `index` at `from`.
///
/// # Safety
///
/// It must be readable, and lie as its type asks.
#[inline(always)]
unsafe fn get<T: Copy>(from: *const u8, index: usize) -> T {
    // SAFETY: the caller's.
    unsafe { from.cast::<T>().wrapping_add(index).read_volatile() }
}

/// Writes item `index` at `to`.
///
/// # Safety
///
/// It must be writable, and lie as its type asks.
#[inline(always)]
unsafe fn put<T: Copy>(to: *mut u8, value: T, index: usize) {
    // SAFETY: the caller's.
    unsafe { to.cast::<T>().wrapping_add(index).write_volatile(value) }
}
