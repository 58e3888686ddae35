//! EIP-2537's operations and EIP-4844's proofs, with RISC Zero's big-integer circuit: the first group by `risc0-crypto`,
//! the second and pairings by [`crate::pairing`], maps by arkworks' formulas in [`crate::map`].

use alloy_primitives::U256;
use ark_bls12_381 as ark;
use ark_ec::short_weierstrass::SWCurveConfig as _;
use ark_ff::PrimeField as _;
use revm::precompile::PrecompileHalt;
use revm::precompile::bls12_381::{G1Point, G1PointScalar, G2Point, G2PointScalar};
use risc0_bigint2::field::{
    extfield_deg2_add_384, extfield_deg2_sub_384, extfield_xxone_mul_384, modinv_384,
};
use risc0_crypto::curves::bls12_381::{Affine, Fq, FqConfig, Fr, FrConfig};
use risc0_crypto::field::{FieldConfig as _, UnverifiedFp};
use risc0_crypto::{BigInt, fp};

use crate::map;
use crate::pairing::{
    self, Arithmetic, Bls12_381, Curve as _, Fp2, Point, Twisted, Words, constant, product_is_one,
    square, words,
};

/// Bytes of a coordinate.
const FIELD: usize = 48;

/// The sum of two points of the curve, which need not lie in the subgroup.
pub fn add(a: &G1Point, b: &G1Point) -> Result<[u8; 2 * FIELD], PrecompileHalt> {
    Ok(encode(&(&decode(a)? + &decode(b)?)))
}

/// The sum of multiples of points of the subgroup.
pub fn multiply_and_add(
    pairs: &mut dyn Iterator<Item = Result<G1PointScalar, PrecompileHalt>>,
) -> Result<[u8; 2 * FIELD], PrecompileHalt> {
    let mut sum = Affine::IDENTITY;
    for pair in pairs {
        let (point, scalar) = pair?;
        let point = checked(&point)?;
        // Any number of 256 bits, not only those below the order.
        let scalar = UnverifiedFp::<FrConfig, 12>::from_bigint(BigInt::from_be_bytes(&scalar));
        sum += &(&point * &scalar);
    }
    Ok(encode(&sum))
}

fn decode((x, y): &G1Point) -> Result<Affine, PrecompileHalt> {
    let [x, y] = [x, y].map(|bytes| Fq::from_bigint(BigInt::from_be_bytes(bytes)));
    let (x, y) = x.zip(y).ok_or(PrecompileHalt::NonCanonicalFp)?;
    if x.is_zero() && y.is_zero() {
        return Ok(Affine::IDENTITY);
    }
    Affine::new(x, y).ok_or(PrecompileHalt::Bls12381G1NotOnCurve)
}

/// A point of the first group.
fn checked(point: &G1Point) -> Result<Affine, PrecompileHalt> {
    let point = decode(point)?;
    match is_in_group(&point) {
        true => Ok(point),
        false => Err(PrecompileHalt::Bls12381G1NotInSubgroup),
    }
}

/// Of a point of the curve, whether it is in the first group.
///
/// SOUNDNESS: with a third root of one, (x, y) to (root x, y) is an endomorphism phi for which phi^2 + phi + 1 is zero. What
/// phi + z^2 makes zero, where z is the curve's parameter, its norm z^4 - z^2 + 1 makes zero; that is the group's order
/// (Scott, "A note on group membership tests for G1, G2 and GT on BLS pairing-friendly curves", section 3).
fn is_in_group(point: &Affine) -> bool {
    /// Of the two roots the one for which all of the group passes.
    const ROOT: Fq =
        fp!("0x5f19672fdf76ce51ba69c6076a0f77eaddb3a93be6f89688de17d813620a00022e01fffffffefffe");
    let Some((x, y)) = point.xy() else { return true };
    let image = Affine::new(&x * &ROOT, y).expect("the curve's equation has no other term with x");
    multiply(&multiply(point, Bls12_381::X), Bls12_381::X) == -&image
}

fn multiply(point: &Affine, by: u64) -> Affine {
    let mut words = [0; 12];
    (words[0], words[1]) = (by as u32, (by >> 32) as u32);
    point * &UnverifiedFp::<FrConfig, 12>::from_bigint(BigInt(words))
}

fn encode(point: &Affine) -> [u8; 2 * FIELD] {
    let mut bytes = [0; 2 * FIELD];
    if let Some((x, y)) = point.xy() {
        x.as_bigint().write_be_bytes(&mut bytes[..FIELD]);
        y.as_bigint().write_be_bytes(&mut bytes[FIELD..]);
    }
    bytes
}

/// The sum of two points of the twist, which need not lie in the second group.
pub fn add2(a: &G2Point, b: &G2Point) -> Result<[u8; 4 * FIELD], PrecompileHalt> {
    Ok(encode2(&pairing::add(&decode2(a)?, &decode2(b)?)))
}

/// The sum of multiples of points of the second group.
pub fn multiply_and_add2(
    pairs: &mut dyn Iterator<Item = Result<G2PointScalar, PrecompileHalt>>,
) -> Result<[u8; 4 * FIELD], PrecompileHalt> {
    let mut terms = Vec::new();
    for pair in pairs {
        let (point, scalar) = pair?;
        if let Some(point) = checked2(&point)? {
            terms.push(Term::new(point, U256::from_be_bytes(scalar)));
        }
    }
    // All points are doubled together.
    let mut sum = None;
    for bit in (0..u64::BITS).rev() {
        sum = pairing::double(&sum);
        for term in &terms {
            let choice = (0..4).map(|i| ((term.digits[i] >> bit & 1) as usize) << i).sum::<usize>();
            sum = pairing::add(&sum, &term.sums[choice]);
        }
    }
    Ok(encode2(&sum))
}

/// A multiple of a point of the second group, where multiplying by the curve's parameter is [`Point::psi`]: a multiplier of
/// 256 bits becomes four of 64 (Galbraith, Lin and Scott, "Endomorphisms for faster elliptic curve cryptography").
struct Term {
    /// The multiplier in base |x|.
    digits: [u64; 4],
    /// The sums of those of P, |x| P, |x|^2 P and |x|^3 P that the bits of an index name.
    sums: [Twisted<Bls12_381, 12>; 16],
}

impl Term {
    fn new(point: Point<Bls12_381, 12>, scalar: U256) -> Self {
        let mut rest = scalar % U256::from_limbs(ark::Fr::MODULUS.0);
        let digits = [(); 4].map(|()| {
            let (quotient, digit) = rest.div_rem(U256::from(Bls12_381::X));
            rest = quotient;
            digit.as_limbs()[0]
        });
        let (mut power, mut sums) = (point, [None; 16]);
        for i in 0..4 {
            for j in 0..1 << i {
                sums[j + (1 << i)] = pairing::add(&sums[j], &Some(power));
            }
            // The parameter is negative.
            power = power.psi().negative();
        }
        Self { digits, sums }
    }
}

/// EIP-2537's map of a field element to the first group.
pub fn map(element: &[u8; FIELD]) -> Result<[u8; 2 * FIELD], PrecompileHalt> {
    let point = match map::to_curve(&number(element)?) {
        Some(coordinates) => {
            let [x, y] = coordinates.map(|number| Fq::from_bigint(BigInt(number)));
            x.zip(y).and_then(|(x, y)| Affine::new(x, y)).expect("the map ends on the curve")
        }
        None => Affine::IDENTITY,
    };
    // 1 - x is a multiple of what of the cofactor is needed (RFC 9380, section 8.8.1).
    Ok(encode(&multiply(&point, Bls12_381::X + 1)))
}

/// EIP-2537's map of an element of the quadratic field to the second group.
pub fn map2(element: &([u8; FIELD], [u8; FIELD])) -> Result<[u8; 4 * FIELD], PrecompileHalt> {
    let point = map::to_twist(&[number(&element.0)?, number(&element.1)?]);
    let point = point.map(|[x, y]| Point { x: Fp2::new(x), y: Fp2::new(y) });
    // (x^2 - x - 1) P + (x - 1) psi(P) + psi^2(2 P) (Budroni and Pintore, "Efficient hash maps to G2 on BLS curves"), where
    // x is negative.
    let negative = |point: Twisted<_, 12>| point.map(|point| point.negative());
    let psi = |point: Twisted<_, 12>| point.map(|point| point.psi());
    let times_x = |point: &_| negative(pairing::multiply(point, Bls12_381::X));
    let image = psi(point);
    let x_point = times_x(&point);
    let x_sum = times_x(&pairing::add(&x_point, &image));
    let twice = psi(psi(pairing::double(&point)));
    let subtracted = pairing::add(&pairing::add(&x_point, &image), &point);
    Ok(encode2(&pairing::add(&pairing::add(&x_sum, &twice), &negative(subtracted))))
}

/// Whether the product of the pairings is one.
pub fn pairing_check(pairs: &[(G1Point, G2Point)]) -> Result<bool, PrecompileHalt> {
    let mut points = Vec::new();
    for (one, two) in pairs {
        points.push((checked(one)?, checked2(two)?));
    }
    Ok(pairings_cancel_out(&points))
}

/// EIP-4844: whether the polynomial with this commitment is `y` at `z`.
pub fn verify_kzg(
    commitment: &[u8; FIELD],
    z: &[u8; 32],
    y: &[u8; 32],
    proof: &[u8; FIELD],
) -> Option<bool> {
    let (commitment, proof) = (decompress(commitment)?, decompress(proof)?);
    let [z, y] = [z, y].map(|bytes| Fr::from_bigint(BigInt::from_be_bytes(bytes)));
    let (z, y) = (z?, y?);
    // e(C - y, -1) * e(proof, tau - z) = 1, with what is multiplied by z moved to the first group.
    let left = &(&commitment - &(&Affine::GENERATOR * &y)) + &(&proof * &z);
    let [tau, generator] = [TAU, GENERATOR2].map(Some);
    Some(pairings_cancel_out(&[(left, generator.map(|point| point.negative())), (proof, tau)]))
}

/// A point of the first group in 48 bytes: x, and in the three highest bits that it is one, whether it is infinity
/// and whether y is the larger root.
fn decompress(bytes: &[u8; FIELD]) -> Option<Affine> {
    let (flags, mut x) = (bytes[0] >> 5, *bytes);
    x[0] &= 0x1f;
    match flags {
        0b100 | 0b101 => {
            let x = Fq::from_bigint(BigInt::from_be_bytes(&x))?;
            let (even, odd) = Affine::ys_from_x(x)?;
            let even_is_larger = even.as_bigint() > odd.as_bigint();
            let y = if even_is_larger == (flags == 0b101) { even } else { odd };
            Affine::new(x, y).filter(is_in_group)
        }
        0b110 if x == [0; FIELD] => Some(Affine::IDENTITY),
        _ => None,
    }
}

/// Whether the product of the pairings of points of both groups is one.
fn pairings_cancel_out(pairs: &[(Affine, Twisted<Bls12_381, 12>)]) -> bool {
    product_is_one(pairs.iter().filter_map(|(one, two)| {
        // Paired with infinity, everything is one.
        let ((x, y), two) = one.xy().zip(*two)?;
        Some(([x.as_bigint().0, y.as_bigint().0], two))
    }))
}

fn number(bytes: &[u8]) -> Result<[u32; 12], PrecompileHalt> {
    let number = Fq::from_bigint(BigInt::from_be_bytes(bytes));
    Ok(number.ok_or(PrecompileHalt::NonCanonicalFp)?.as_bigint().0)
}

fn decode2((x0, x1, y0, y1): &G2Point) -> Result<Twisted<Bls12_381, 12>, PrecompileHalt> {
    let x = Fp2::new([number(x0)?, number(x1)?]);
    let y = Fp2::new([number(y0)?, number(y1)?]);
    if x.is_zero() && y.is_zero() {
        return Ok(None);
    }
    let point = Point { x, y };
    // SOUNDNESS: nothing is computed with a point off the curve.
    match point.is_on_curve() {
        true => Ok(Some(point)),
        false => Err(PrecompileHalt::Bls12381G2NotOnCurve),
    }
}

/// A point of the second group.
fn checked2(point: &G2Point) -> Result<Twisted<Bls12_381, 12>, PrecompileHalt> {
    let point = decode2(point)?;
    match point.is_none_or(|point| Bls12_381::is_in_group(&point)) {
        true => Ok(point),
        false => Err(PrecompileHalt::Bls12381G2NotInSubgroup),
    }
}

fn encode2(point: &Twisted<Bls12_381, 12>) -> [u8; 4 * FIELD] {
    let mut bytes = [0; 4 * FIELD];
    if let Some(Point { x, y }) = point {
        let numbers = [x.words, y.words].into_iter().flatten();
        for (number, bytes) in numbers.zip(bytes.chunks_exact_mut(FIELD)) {
            BigInt(number).write_be_bytes(bytes);
        }
    }
    bytes
}

const GENERATOR2: Point<Bls12_381, 12> =
    Point { x: constant(ark::g2::Config::GENERATOR.x), y: constant(ark::g2::Config::GENERATOR.y) };

/// The ceremony's secret times the generator of the second group (`g2_monomial_1` of trusted_setup_4096.json), as x and
/// y, the real part first.
const TAU: Point<Bls12_381, 12> = Point {
    x: Fp2::new([
        words(&ark_ff::BigInt([
            0xc98e_dada_20c1_def2,
            0x0870_41de_6210_00ed,
            0xa368_5147_7ba4_c60b,
            0x3926_c911_ccec_eac9,
            0x7344_29b7_b386_08e2,
            0x185c_bfee_5349_2714,
        ])),
        words(&ark_ff::BigInt([
            0xafaa_ab24_f349_9f72,
            0x2914_e587_0cb4_52d2,
            0x1009_a2ce_615a_c53d,
            0x2618_7075_cbfb_efa8,
            0x843b_c287_230a_f389,
            0x15bf_d7dd_8cde_b128,
        ])),
    ]),
    y: Fp2::new([
        words(&ark_ff::BigInt([
            0xee68_9bfb_bb83_2a99,
            0x4ce2_6d10_5941_f383,
            0xe824_51a4_96a9_c979,
            0x1315_6949_0e28_de18,
            0xd7d5_ee85_99d1_fca2,
            0x0143_53bd_b96b_626d,
        ])),
        words(&ark_ff::BigInt([
            0x2304_8ef3_0d0a_154f,
            0x9495_346f_3d7a_c9cd,
            0xda5e_d1ba_9bfa_0789,
            0xef79_de09_fc63_671f,
            0x0343_2fca_e018_1b4b,
            0x1666_c54b_0a32_5295,
        ])),
    ]),
};

static MODULUS: [u32; 12] = FqConfig::MODULUS.0;
static MODULUS_SQUARED: [u32; 24] = square(&FqConfig::MODULUS.0);

/// SOUNDNESS: the library's functions check that what the circuit gives is reduced.
impl Arithmetic<12> for Bls12_381 {
    fn multiply(a: &Words<12>, b: &Words<12>, product: &mut Words<12>) {
        extfield_xxone_mul_384(a, b, &MODULUS, &MODULUS_SQUARED, product);
    }

    fn add(a: &Words<12>, b: &Words<12>, sum: &mut Words<12>) {
        extfield_deg2_add_384(a, b, &MODULUS, sum);
    }

    fn subtract(a: &Words<12>, b: &Words<12>, difference: &mut Words<12>) {
        extfield_deg2_sub_384(a, b, &MODULUS, difference);
    }

    fn invert(a: &[u32; 12], inverse: &mut [u32; 12]) {
        modinv_384(a, &MODULUS, inverse);
    }
}
