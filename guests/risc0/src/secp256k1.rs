//! Who signed: recovery of secp256k1 keys with RISC Zero's big-integer circuit.
//!
//! A key is `u1 * G + u2 * R`. The curve's endomorphism `(x, y) -> (beta * x, y)`, which multiplies by `lambda`, splits
//! each scalar into two of half the length (Gallant, Lambert and Vanstone, CRYPTO 2001), so that half of the doublings
//! are needed. The four sums are interleaved, each scalar in non-adjacent form with a window.

use std::sync::OnceLock;

use alloy_primitives::Address;
use risc0_crypto::curves::secp256k1::{Affine, Fq, FqConfig, Fr};
use risc0_crypto::field::UnverifiedFp;
use risc0_crypto::{BigInt, fp};

/// A cube root of one in the field of scalars, and the one in the field of coordinates that belongs to it.
const LAMBDA: Fr = fp!("0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72");
pub(crate) const BETA: Fq =
    fp!("0x7ae96a2b657c07106e64479eac3434e99cf0497512f58995c1396c28719501ee");
/// A short basis of the lattice of `(a, b)` with `a + b * lambda = 0`, as `-b` of its two vectors.
const MINUS_B1: Fr = fp!("0xe4437ed6010e88286f547fa90abfe4c3");
const MINUS_B2: Fr = fp!("0xfffffffffffffffffffffffffffffffe8a280ac50774346dd765cda83db1562c");
/// 2^384 times the other vector's `b`, over the order of the group, little-endian.
const G1: [u32; 8] = [
    0x45db_b031,
    0xe893_209a,
    0x71e8_ca7f,
    0x3daa_8a14,
    0x9284_eb15,
    0xe86c_90e4,
    0xa7d4_6bcd,
    0x3086_d221,
];
const G2: [u32; 8] = [
    0x8ac4_7f71,
    0x1571_b4ae,
    0x9df5_06c6,
    0x2212_08ac,
    0x0abf_e4c4,
    0x6f54_7fa9,
    0x010e_8828,
    0xe443_7ed6,
];

/// Bits of the windows: of the generator, whose multiples are computed once, and of any other point.
const GENERATOR_WINDOW: usize = 7;
const WINDOW: usize = 5;
/// Digits of a half scalar: it has at most 129 bits, and recoding may carry.
pub(crate) const DIGITS: usize = 132;

/// The signer's address, if the signature is one. `parity` is that of the nonce point's y.
pub fn recover(signature: &[u8; 64], parity: u8, message: &[u8; 32]) -> Option<Address> {
    let (r, s) = signature.split_at(32);
    let [r, s] = [r, s].map(|bytes| Fr::from_bigint(BigInt::from_be_bytes(bytes)));
    let (r, s) = (r?, s?);
    if r.is_zero() || s.is_zero() {
        return None;
    }
    let nonce = point(Fq::from_bigint(r.to_bigint())?, parity == 1)?;
    let inverse = r.inverse();
    let u1 = -&(&inverse * &Fr::from_be_bytes_mod_order(message));
    let u2 = &inverse * &s;
    let (x, y) = sum(&u1, &u2, &nonce).xy()?;
    let mut key = [0; 64];
    x.as_bigint().write_be_bytes(&mut key[..32]);
    y.as_bigint().write_be_bytes(&mut key[32..]);
    Some(Address::from_raw_public_key(&key))
}

/// The point with this x, if there is one.
fn point(x: Fq, odd: bool) -> Option<Affine> {
    let square = &(&(&x * &x) * &x) + &fp!("0x7");
    let root = square_root(square.as_unverified());
    // SOUNDNESS: where this is not a root, there is none.
    if !(&root * &root).check_is_eq(square.as_unverified()) {
        return None;
    }
    let root = root.check();
    let y = if root.as_bigint().is_odd() == odd { root } else { -&root };
    // SAFETY: its square is what the curve's equation asks for.
    Some(unsafe { Affine::new_unchecked(x, y) })
}

/// `a^((p + 1) / 4)`: a root of `a` if `a` is a square, as p is 3 modulo 4.
///
/// The exponent is, from the top, 223 ones, a zero, 22 ones, four zeros, two ones and two zeros.
fn square_root(a: &Uf) -> Uf {
    let ones = |n: &Uf, squarings: usize, low: &Uf| &squared(n, squarings) * low;
    let x2 = ones(a, 1, a);
    let x3 = ones(&x2, 1, a);
    let x6 = ones(&x3, 3, &x3);
    let x9 = ones(&x6, 3, &x3);
    let x11 = ones(&x9, 2, &x2);
    let x22 = ones(&x11, 11, &x11);
    let x44 = ones(&x22, 22, &x22);
    let x88 = ones(&x44, 44, &x44);
    let x176 = ones(&x88, 88, &x88);
    let x220 = ones(&x176, 44, &x44);
    let x223 = ones(&x220, 3, &x3);
    let top = ones(&x223, 23, &x22);
    squared(&ones(&top, 6, &x2), 2)
}

type Uf = UnverifiedFp<FqConfig, 8>;

fn squared(a: &Uf, times: usize) -> Uf {
    let mut a = *a;
    (0..times).for_each(|_| a.square_in_place());
    a
}

/// `a * G + b * point`.
fn sum(a: &Fr, b: &Fr, point: &Affine) -> Affine {
    static GENERATOR: OnceLock<Multiples<{ 1 << (GENERATOR_WINDOW - 1) }>> = OnceLock::new();
    let generator = GENERATOR.get_or_init(|| Multiples::of(&Affine::GENERATOR));
    let multiples = Multiples::<{ 1 << (WINDOW - 1) }>::of(point);
    let mut digits = [[0_i8; DIGITS]; 4];
    let mut top = 0;
    for (index, (k, window)) in [(a, GENERATOR_WINDOW), (b, WINDOW)].into_iter().enumerate() {
        for (half, part) in split(k).iter().enumerate() {
            write_digits(part, window, |at, digit| {
                digits[2 * index + half][at] = digit;
                top = top.max(at + 1);
            });
        }
    }
    let [a1, a2, b1, b2] = &digits;

    let (mut one, mut other) = (Affine::IDENTITY, Affine::IDENTITY);
    let (mut now, mut next) = (&mut one, &mut other);
    for at in (0..top).rev() {
        next.double_into(now);
        core::mem::swap(&mut now, &mut next);
        for (half, [fixed, free]) in [[a1[at], b1[at]], [a2[at], b2[at]]].into_iter().enumerate() {
            if fixed != 0 {
                next.add_into(now, generator.get(half, fixed));
                core::mem::swap(&mut now, &mut next);
            }
            if free != 0 {
                next.add_into(now, multiples.get(half, free));
                core::mem::swap(&mut now, &mut next);
            }
        }
    }
    *now
}

/// The odd multiples of a point, and those of its image: 1, -1, 3, -3 and so on.
struct Multiples<const N: usize>([[Affine; N]; 2]);

impl<const N: usize> Multiples<N> {
    /// `point` is not the point at infinity.
    fn of(point: &Affine) -> Self {
        let twice = point.double();
        let mut all = [[Affine::IDENTITY; N]; 2];
        let mut odd = *point;
        for at in (0..N).step_by(2) {
            let (x, y) = odd.xy().expect("the order of the group is a prime");
            let minus = -&y;
            for (half, x) in [x, &x * &BETA].into_iter().enumerate() {
                // SAFETY: a negative lies on the curve, and so does an image: beta's cube is one.
                unsafe {
                    all[half][at] = Affine::new_unchecked(x, y);
                    all[half][at + 1] = Affine::new_unchecked(x, minus);
                }
            }
            if at + 2 < N {
                let mut next = Affine::IDENTITY;
                next.add_into(&odd, &twice);
                odd = next;
            }
        }
        Self(all)
    }

    /// `digit` times the point, or its image.
    fn get(&self, half: usize, digit: i8) -> &Affine {
        &self.0[half][usize::from(digit.unsigned_abs()) - usize::from(digit > 0)]
    }
}

/// Splits `k` into two short parts: the first and lambda times the second add up to it.
pub(crate) fn split(k: &Fr) -> [Fr; 2] {
    let [c1, c2] = [G1, G2].map(|g| Fr::from_bigint(high(k.as_bigint().as_ref(), &g)));
    let [c1, c2] = [c1, c2].map(|c| c.expect("it has 128 bits"));
    // Whatever c1 and c2 are, the parts add up to k; they make both parts short.
    let second = &(&c1 * &MINUS_B1) + &(&c2 * &MINUS_B2);
    [k - &(&second * &LAMBDA), second]
}

/// About `a * b / 2^384`. Products of lower limbs are left out, so it may be too small by one.
fn high(a: &[u32; 8], b: &[u32; 8]) -> BigInt<8> {
    let mut limbs = [0; 8];
    let mut carry = 0_u64;
    let mut over = 0;
    for column in 10..15 {
        for i in column - 7..8 {
            let (sum, overflow) = carry.overflowing_add(u64::from(a[i]) * u64::from(b[column - i]));
            carry = sum;
            over += u64::from(overflow);
        }
        if column >= 12 {
            limbs[column - 12] = carry as u32;
        }
        carry = carry >> 32 | over << 32;
        over = 0;
    }
    limbs[3] = carry as u32;
    BigInt::new(limbs)
}

/// The non-adjacent form of a short `k`, or of one whose negative is short: `put` gets each digit that is not zero and
/// its place, the lowest first. Digits are odd, and below half of the window in absolute value.
#[inline(always)]
pub(crate) fn write_digits(k: &Fr, window: usize, mut put: impl FnMut(usize, i8)) {
    let negative = k.is_high();
    let k = if negative { -k } else { *k };
    let limbs: &[u32; 8] = k.as_bigint().as_ref();
    let bit = |at: usize| limbs[at / 32] >> (at % 32) & 1;
    let bits = |at: usize| {
        let (limb, shift) = (at / 32, at % 32);
        let two = u64::from(limbs[limb]) | u64::from(limbs[limb + 1]) << 32;
        (two >> shift) as u32 & ((1 << window) - 1)
    };
    let (mut at, mut carry) = (0, 0);
    while at < DIGITS {
        if bit(at) == carry {
            at += 1;
            continue;
        }
        let value = bits(at) + carry;
        carry = value >> (window - 1);
        let digit = value as i32 - ((carry as i32) << window);
        put(at, if negative { -digit } else { digit } as i8);
        at += window;
    }
    // SOUNDNESS: nothing of the scalar is left out.
    assert!(carry == 0 && k.as_bigint().bit_len() < DIGITS as u32, "a half scalar is too long");
}
