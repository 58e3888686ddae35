//! The senders of all transactions of an input at once: the host names their keys, one sum shows that they signed.
//!
//! A key `Q` signed `m` with `(r, s)` if `R = m/s * G + r/s * Q`, where `R` is the point with the x `r` and the parity
//! that the signature says. Each such equation is multiplied by a number that nobody can choose, as it comes out of
//! SHA-256 over all that the equations depend on, and they are added up. The sum is zero if they all hold; if one does
//! not, it is zero with a probability of 2^-128 (docs/soundness.md, "Senders").
//!
//! What this saves is doublings, which all terms share, and square roots, as the host also gives the y of `R`.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use program::senders::Claim;
use risc0_crypto::curves::secp256k1::{Affine, Config, Fq, Fr};
use risc0_crypto::{BigInt, Coords, CurveConfig, CurveOps};

use crate::crypto::sha256;
use crate::secp256k1::{BETA, DIGITS, split, write_digits};

/// Bits of the windows: of keys, whose scalars are split in two, and of nonce points, which are used once.
const KEY_WINDOW: usize = 5;
const NONCE_WINDOW: usize = 4;
/// So many points are computed before they are added up: their memory is used again.
const TABLE: usize = 1024;
/// Claims that are checked together; of more each sender is recovered.
const MAX_CLAIMS: usize = 1 << 20;

/// The signers' addresses if every claim is true: see [`program::senders::Check`].
pub fn check(claims: &[Claim<'_>]) -> Option<Vec<Address>> {
    if claims.is_empty() {
        return Some(Vec::new());
    }
    // SOUNDNESS: the transcript's length in bits, which its hash ends with, fits a word.
    if claims.len() > MAX_CLAIMS {
        return None;
    }
    let seed = sha256(&transcript(claims));
    let (mut sum, mut generator) = (Sum::new(), Fr::ZERO);
    let mut signers = Vec::<Signer>::new();
    let (mut known, mut signed) = (BTreeMap::new(), Vec::with_capacity(claims.len()));
    for (index, claim) in claims.iter().enumerate() {
        // SOUNDNESS: r and s are from 1 to the order less one.
        let [r, s] = [claim.r, claim.s].map(|number| Fr::from_bigint(limbs(&number)));
        let (r, s) = (r.filter(|r| !r.is_zero())?, s.filter(|s| !s.is_zero())?);
        // SOUNDNESS: the nonce point is the one that the signature means: on the curve, by its x and its parity.
        let y = Fq::from_bigint(BigInt::from_be_bytes(claim.nonce_y()))?;
        if y.as_bigint().is_odd() != claim.odd {
            return None;
        }
        let minus_nonce = Affine::new(Fq::from_bigint(r.to_bigint())?, -&y)?;
        let factor = coefficient(&seed, index);
        sum.add_once(&minus_nonce, &factor);
        let factor = &factor * &s.inverse();
        generator += &(&factor * &Fr::from_be_bytes_mod_order(claim.message.as_slice()));
        let signer = match known.get(claim.key()) {
            Some(signer) => *signer,
            None => {
                known.insert(claim.key(), signers.len());
                signers.push(Signer::new(claim.key())?);
                signers.len() - 1
            }
        };
        signers[signer].scalar += &(&factor * &r);
        signed.push(signers[signer].address);
    }
    for signer in &signers {
        sum.add(&signer.key, &signer.scalar);
    }
    sum.add(&Affine::GENERATOR, &generator);
    // SOUNDNESS: who did not sign leaves the sum different from zero.
    sum.is_zero().then_some(signed)
}

/// A key, and what it is multiplied with.
struct Signer {
    key: Affine,
    scalar: Fr,
    address: Address,
}

impl Signer {
    fn new(bytes: &[u8; 64]) -> Option<Self> {
        let (x, y) = bytes.split_at(32);
        let [x, y] = [x, y].map(|bytes| Fq::from_bigint(BigInt::from_be_bytes(bytes)));
        // SOUNDNESS: a key is a point of the curve, written in the one way there is.
        let key = Affine::new(x?, y?)?;
        Some(Self { key, scalar: Fr::ZERO, address: Address::from_raw_public_key(bytes) })
    }
}

/// All that the equations depend on. The nonce points follow from it.
pub(crate) fn transcript(claims: &[Claim<'_>]) -> Vec<u8> {
    let mut all = b"l2-prover: senders of a batch, 1".to_vec();
    all.reserve_exact(claims.len() * 164);
    for claim in claims {
        // SOUNDNESS: whoever could change any of these after the coefficients are known could make the sum zero.
        all.extend_from_slice(claim.message.as_slice());
        all.extend_from_slice(claim.r.as_le_slice());
        all.extend_from_slice(claim.s.as_le_slice());
        all.extend_from_slice(claim.key());
        all.extend_from_slice(&u32::from(claim.odd).to_le_bytes());
    }
    all
}

/// What the equation with this index is multiplied with: 128 bits, or one for the first. As the others are multiplied
/// with numbers of their own, that one needs none.
pub(crate) fn coefficient(seed: &[u8; 32], index: usize) -> Fr {
    if index == 0 {
        return Fr::ONE;
    }
    let mut bytes = [0; 36];
    bytes[..32].copy_from_slice(seed);
    bytes[32..].copy_from_slice(&(index as u32).to_le_bytes());
    let number = BigInt::from_le_bytes(&sha256(&bytes)[..16]);
    Fr::from_bigint(number).expect("it has 128 bits")
}

fn limbs(number: &U256) -> BigInt<8> {
    BigInt::from_le_bytes(number.as_le_slice())
}

/// A sum of multiples of points.
struct Sum {
    /// What was added up already.
    done: Affine,
    /// Odd multiples of the points that were not.
    table: Vec<Point>,
    /// For each place, the digits there, as a list in `digits`.
    places: [u16; DIGITS],
    /// A point of the table, and the next digit at the same place.
    digits: Vec<(u16, u16)>,
}

/// A point that is not zero. Where it was computed, its coordinates may be above the prime.
type Point = Coords<Config, 8>;

/// The end of a list of digits.
const END: u16 = u16::MAX;

impl Sum {
    fn new() -> Self {
        let (table, digits) = (Vec::with_capacity(TABLE), Vec::with_capacity(4 * TABLE));
        Self { done: Affine::IDENTITY, table, places: [END; DIGITS], digits }
    }

    /// Adds `scalar * point`. The point is not zero.
    fn add(&mut self, point: &Affine, scalar: &Fr) {
        let base = self.multiples(point, KEY_WINDOW, true);
        for (half, scalar) in split(scalar).iter().enumerate() {
            self.digits(scalar, KEY_WINDOW, base + 2 * half, 4);
        }
    }

    /// The same, for a scalar of at most 128 bits.
    fn add_once(&mut self, point: &Affine, scalar: &Fr) {
        let base = self.multiples(point, NONCE_WINDOW, false);
        self.digits(scalar, NONCE_WINDOW, base, 2);
    }

    /// Writes the odd multiples for digits of `window` bits into the table, each followed by its negative, by its
    /// image and by that one's negative. All lie on the curve, as beta's cube is one. Returns where they start.
    fn multiples(&mut self, point: &Affine, window: usize, images: bool) -> usize {
        let count = 1 << (window - 2);
        if self.table.len() + 4 * count > TABLE {
            self.add_up();
        }
        let base = self.table.len();
        let twice = point.double();
        let mut odd = *point;
        for at in 0..count {
            if at > 0 {
                let mut next = Affine::IDENTITY;
                next.add_into(&odd, &twice);
                odd = next;
            }
            let (x, y) = odd.xy().expect("the order of the group is a prime");
            let minus = -&y;
            self.table.push([x.into(), y.into()]);
            self.table.push([x.into(), minus.into()]);
            if images {
                let x = &x * &BETA;
                self.table.push([x.into(), y.into()]);
                self.table.push([x.into(), minus.into()]);
            }
        }
        base
    }

    /// Writes a scalar's digits, whose multiples start at `base` and are `stride` apart.
    fn digits(&mut self, scalar: &Fr, window: usize, base: usize, stride: usize) {
        write_digits(scalar, window, |at, digit| {
            let multiple = usize::from(digit.unsigned_abs() / 2) * stride;
            let point = base + multiple + usize::from(digit < 0);
            let short = |index| u16::try_from(index).expect("the table is short");
            let place = &mut self.places[at];
            let digit = (short(point), *place);
            *place = short(self.digits.len());
            self.digits.push(digit);
        });
    }

    /// Adds up what is in the table, and empties it.
    fn add_up(&mut self) {
        let unused = [Fq::ZERO.into(); 2];
        let (mut one, mut other) = (unused, unused);
        let (mut now, mut next, mut zero) = (&mut one, &mut other, true);
        for place in self.places.iter_mut().rev() {
            if !zero {
                // No point of the curve is its own negative.
                double_into(now, next);
                core::mem::swap(&mut now, &mut next);
            }
            let mut at = core::mem::replace(place, END);
            while at != END {
                let (point, rest) = self.digits[usize::from(at)];
                let point = &self.table[usize::from(point)];
                if zero {
                    (*now, zero) = (*point, false);
                } else if lowest(now) != lowest(point) {
                    // SOUNDNESS: they differ as they are written; for a host's x that is the same modulo p there is no proof.
                    add_into(now, point, next);
                    core::mem::swap(&mut now, &mut next);
                } else {
                    let sum = &affine(now) + &affine(point);
                    match sum.xy() {
                        Some((x, y)) => *now = [x.into(), y.into()],
                        None => zero = true,
                    }
                }
                at = rest;
            }
        }
        if !zero {
            self.done += &affine(now);
        }
        self.table.clear();
        self.digits.clear();
    }

    fn is_zero(&mut self) -> bool {
        self.add_up();
        self.done.is_identity()
    }
}

/// `out = 2 * point`.
fn double_into(point: &Point, out: &mut Point) {
    <<Config as CurveConfig<8>>::Ops as CurveOps<Config, 8>>::double_into(point, out);
}

/// `out = a + b`, for two x that differ.
fn add_into(a: &Point, b: &Point, out: &mut Point) {
    <<Config as CurveConfig<8>>::Ops as CurveOps<Config, 8>>::add_into(a, b, out);
}

/// The lowest word of x.
fn lowest(point: &Point) -> u32 {
    point[0].as_bigint().0[0]
}

/// The point, for sums that may need another formula.
fn affine([x, y]: &Point) -> Affine {
    Affine::new(x.check(), y.check())
        .expect("points of the table are on the curve, and so are sums")
}
