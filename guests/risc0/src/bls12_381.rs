//! EIP-2537's operations and EIP-4844's proofs, with RISC Zero's big-integer circuit: G1 by `risc0-crypto`, G2 and pairings
//! by arkworks' formulas.

use alloy_primitives::U256;
use ark_bls12_381 as ark;
use ark_ec::bls12::{Bls12, Bls12Config, G1Affine, G2Affine, TwistType};
use ark_ec::hashing::curve_maps::swu::SWUConfig;
use ark_ec::hashing::curve_maps::wb::{IsogenyMap, WBConfig, WBMap};
use ark_ec::hashing::map_to_curve_hasher::MapToCurve as _;
use ark_ec::pairing::Pairing as _;
use ark_ec::short_weierstrass::{self as sw, SWCurveConfig};
use ark_ec::{AffineRepr as _, CurveConfig, CurveGroup as _};
use ark_ff::{
    AdditiveGroup as _, Field as _, Fp, Fp2, Fp2Config, Fp6, Fp6Config, Fp12Config, MontFp,
    One as _, PrimeField, Zero as _,
};
use revm::precompile::PrecompileHalt;
use revm::precompile::bls12_381::{G1Point, G1PointScalar, G2Point, G2PointScalar};
use risc0_crypto::BigInt;
use risc0_crypto::curves::bls12_381::{Affine, Fq, Fr, FrConfig};
use risc0_crypto::field::UnverifiedFp;

use crate::field::{self, Plain, plain};

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
        let point = decode(&point)?;
        if !point.is_in_correct_subgroup() {
            return Err(PrecompileHalt::Bls12381G1NotInSubgroup);
        }
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

fn encode(point: &Affine) -> [u8; 2 * FIELD] {
    let mut bytes = [0; 2 * FIELD];
    if let Some((x, y)) = point.xy() {
        x.as_bigint().write_be_bytes(&mut bytes[..FIELD]);
        y.as_bigint().write_be_bytes(&mut bytes[FIELD..]);
    }
    bytes
}

/// The sum of two points of the second curve, which need not lie in the subgroup.
pub fn add2(a: &G2Point, b: &G2Point) -> Result<[u8; 4 * FIELD], PrecompileHalt> {
    Ok(encode2((decode2(a)? + decode2(b)?).into_affine()))
}

/// The sum of multiples of points of the second subgroup.
pub fn multiply_and_add2(
    pairs: &mut dyn Iterator<Item = Result<G2PointScalar, PrecompileHalt>>,
) -> Result<[u8; 4 * FIELD], PrecompileHalt> {
    let mut terms = Vec::new();
    for pair in pairs {
        let (point, scalar) = pair?;
        terms.push(Term::new(checked2(&point)?, U256::from_be_bytes(scalar)));
    }
    // All points are doubled together.
    let mut sum = sw::Projective::<G2>::zero();
    for bit in (0..u64::BITS).rev() {
        sum.double_in_place();
        for term in &terms {
            let choice = (0..4).map(|i| ((term.digits[i] >> bit & 1) as usize) << i).sum::<usize>();
            if choice != 0 {
                sum += term.sums[choice - 1];
            }
        }
    }
    Ok(encode2(sum.into_affine()))
}

/// A multiple of a point of the second subgroup, where multiplying by the curve's parameter is [`psi`]: a multiplier of
/// 256 bits becomes four of 64 (Galbraith, Lin and Scott, "Endomorphisms for faster elliptic curve cryptography").
struct Term {
    /// The multiplier in base |x|.
    digits: [u64; 4],
    /// The sums of those of P, |x| P, |x|^2 P and |x|^3 P that the bits of an index, plus one, name.
    sums: Vec<G2Affine<Config>>,
}

impl Term {
    fn new(point: G2Affine<Config>, scalar: U256) -> Self {
        let mut rest = scalar % U256::from_limbs(<ark::Fr as PrimeField>::MODULUS.0);
        let digits = [(); 4].map(|()| {
            let (quotient, digit) = rest.div_rem(U256::from(X));
            rest = quotient;
            digit.as_limbs()[0]
        });
        let mut powers = [point; 4];
        for i in 1..4 {
            // The parameter is negative.
            powers[i] = -psi(&powers[i - 1]);
        }
        let mut sums = vec![sw::Projective::<G2>::zero()];
        for power in powers {
            for i in 0..sums.len() {
                sums.push(sums[i] + power);
            }
        }
        Self { digits, sums: sw::Projective::normalize_batch(&sums[1..]) }
    }
}

/// EIP-2537's map of a field element to the first subgroup.
pub fn map(element: &[u8; FIELD]) -> Result<[u8; 2 * FIELD], PrecompileHalt> {
    let element = field::decode(element).ok_or(PrecompileHalt::NonCanonicalFp)?;
    let point: sw::Affine<G1> = WBMap::map_to_curve(element).expect("every element has a point");
    let mut bytes = [0; 2 * FIELD];
    // 1 - x is a multiple of what of the cofactor is needed (RFC 9380, section 8.8.1).
    if let Some((x, y)) = point.mul_bigint([X + 1]).into_affine().xy() {
        field::encode(x, &mut bytes[..FIELD]);
        field::encode(y, &mut bytes[FIELD..]);
    }
    Ok(bytes)
}

/// EIP-2537's map of an element of the quadratic field to the second subgroup.
pub fn map2(element: &([u8; FIELD], [u8; FIELD])) -> Result<[u8; 4 * FIELD], PrecompileHalt> {
    let [c0, c1] = [&element.0, &element.1].map(|bytes| field::decode(bytes));
    let (c0, c1) = c0.zip(c1).ok_or(PrecompileHalt::NonCanonicalFp)?;
    let point: G2Affine<Config> =
        WBMap::map_to_curve(Fq2::new(c0, c1)).expect("every element has a point");
    // (x^2 - x - 1) P + (x - 1) psi(P) + psi^2(2 P) (Budroni and Pintore, "Efficient hash maps to G2 on BLS curves").
    let image = psi(&point);
    let x_point = -point.mul_bigint([X]);
    let x_sum = -G2::mul_projective(&(x_point + image), &[X]);
    let twice = psi(&psi(&(point + point).into_affine()));
    Ok(encode2((x_sum - x_point - image + twice - point).into_affine()))
}

/// Raising to the prime between untwisting and twisting: of a point of the second subgroup, x times it.
fn psi(point: &G2Affine<Config>) -> G2Affine<Config> {
    /// (u + 1)^((1 - p) / 3) and (u + 1)^((1 - p) / 2).
    const FACTORS: [Fq2; 2] = [
        plain2(ark::Fq2::new(
            MontFp!("0"),
            MontFp!(
                "4002409555221667392624310435006688643935503118305586438271171395842971157480381377015405980053539358417135540939437"
            ),
        )),
        plain2(ark::Fq2::new(
            MontFp!(
                "2973677408986561043442465346520108879172042883009249989176415018091420807192182638567116318576472649347015917690530"
            ),
            MontFp!(
                "1028732146235106349975324479215795277384839936929757896155643118032610843298655225875571310552543014690878354869257"
            ),
        )),
    ];
    let mut image = *point;
    image.x.conjugate_in_place();
    image.y.conjugate_in_place();
    image.x *= FACTORS[0];
    image.y *= FACTORS[1];
    image
}

/// SOUNDNESS: of the curve's points, exactly those of the subgroup are multiplied by x when [`psi`] is applied (Scott, "A
/// note on group membership tests for G1, G2 and GT on BLS pairing-friendly curves", section 4).
fn in_subgroup2(point: &G2Affine<Config>) -> bool {
    -point.mul_bigint([X]) == psi(point)
}

/// Whether the product of the pairings is one.
pub fn pairing_check(pairs: &[(G1Point, G2Point)]) -> Result<bool, PrecompileHalt> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (one, two) in pairs {
        let (one, two) = (decode(one)?, checked2(two)?);
        if !one.is_in_correct_subgroup() {
            return Err(PrecompileHalt::Bls12381G1NotInSubgroup);
        }
        left.push(one);
        right.push(two);
    }
    Ok(product_is_one(&left, &right))
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
    let tau = G2Affine::<Config>::new_unchecked(Fq2::new(TAU[0], TAU[1]), Fq2::new(TAU[2], TAU[3]));
    Some(product_is_one(&[left, proof], &[-G2::GENERATOR, tau]))
}

/// A point of the first subgroup in 48 bytes: x, and in the three highest bits that it is one, whether it is infinity
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
            Affine::new_in_subgroup(x, y)
        }
        0b110 if x == [0; FIELD] => Some(Affine::IDENTITY),
        _ => None,
    }
}

/// Points of both subgroups.
fn product_is_one(left: &[Affine], right: &[G2Affine<Config>]) -> bool {
    let (mut ones, mut twos) = (Vec::new(), Vec::new());
    for (one, two) in left.iter().zip(right) {
        // Paired with infinity, everything is one.
        if let (Some((x, y)), false) = (one.xy(), two.is_zero()) {
            let [x, y] = [x, y].map(|number| {
                let mut bytes = [0; FIELD];
                number.as_bigint().write_be_bytes(&mut bytes);
                field::decode(&bytes).expect("both libraries have the same modulus")
            });
            ones.push(G1Affine::<Config>::new_unchecked(x, y));
            twos.push(*two);
        }
    }
    ones.is_empty() || Bls12::<Config>::multi_pairing(ones, twos).0.is_one()
}

fn decode2((x0, x1, y0, y1): &G2Point) -> Result<G2Affine<Config>, PrecompileHalt> {
    let number = |bytes: &[u8]| field::decode(bytes).ok_or(PrecompileHalt::NonCanonicalFp);
    let (x, y) = (Fq2::new(number(x0)?, number(x1)?), Fq2::new(number(y0)?, number(y1)?));
    if x.is_zero() && y.is_zero() {
        return Ok(G2Affine::<Config>::identity());
    }
    let point = G2Affine::<Config>::new_unchecked(x, y);
    // SOUNDNESS: nothing is computed with a point off the curve.
    match point.is_on_curve() {
        true => Ok(point),
        false => Err(PrecompileHalt::Bls12381G2NotOnCurve),
    }
}

/// A point of the second subgroup.
fn checked2(point: &G2Point) -> Result<G2Affine<Config>, PrecompileHalt> {
    let point = decode2(point)?;
    match G2::is_in_correct_subgroup_assuming_on_curve(&point) {
        true => Ok(point),
        false => Err(PrecompileHalt::Bls12381G2NotInSubgroup),
    }
}

fn encode2(point: G2Affine<Config>) -> [u8; 4 * FIELD] {
    let mut bytes = [0; 4 * FIELD];
    if let Some((x, y)) = point.xy() {
        for (number, bytes) in
            [x.c0, x.c1, y.c0, y.c1].into_iter().zip(bytes.chunks_exact_mut(FIELD))
        {
            field::encode(number, bytes);
        }
    }
    bytes
}

/// The ceremony's secret times the generator of the second group (`g2_monomial_1` of trusted_setup_4096.json), as x and
/// y, the real part first.
const TAU: [F; 4] = [
    number([
        0xc98e_dada_20c1_def2,
        0x0870_41de_6210_00ed,
        0xa368_5147_7ba4_c60b,
        0x3926_c911_ccec_eac9,
        0x7344_29b7_b386_08e2,
        0x185c_bfee_5349_2714,
    ]),
    number([
        0xafaa_ab24_f349_9f72,
        0x2914_e587_0cb4_52d2,
        0x1009_a2ce_615a_c53d,
        0x2618_7075_cbfb_efa8,
        0x843b_c287_230a_f389,
        0x15bf_d7dd_8cde_b128,
    ]),
    number([
        0xee68_9bfb_bb83_2a99,
        0x4ce2_6d10_5941_f383,
        0xe824_51a4_96a9_c979,
        0x1315_6949_0e28_de18,
        0xd7d5_ee85_99d1_fca2,
        0x0143_53bd_b96b_626d,
    ]),
    number([
        0x2304_8ef3_0d0a_154f,
        0x9495_346f_3d7a_c9cd,
        0xda5e_d1ba_9bfa_0789,
        0xef79_de09_fc63_671f,
        0x0343_2fca_e018_1b4b,
        0x1666_c54b_0a32_5295,
    ]),
];

const fn number(limbs: [u64; 6]) -> F {
    Fp(ark_ff::BigInt(limbs), core::marker::PhantomData)
}

/// The curve's parameter x is negative; this is -x.
const X: u64 = ark::Config::X[0];

field::tower!(F, 6, in_subgroup2);

#[derive(Debug)]
pub struct Config;

impl Bls12Config for Config {
    const X: &'static [u64] = ark::Config::X;
    const X_IS_NEGATIVE: bool = ark::Config::X_IS_NEGATIVE;
    const TWIST_TYPE: TwistType = ark::Config::TWIST_TYPE;
    type Fp = F;
    type Fp2Config = Quadratic;
    type Fp6Config = Sextic;
    type Fp12Config = Dodecic;
    type G1Config = G1;
    type G2Config = G2;
}

const fn plain_all<const N: usize>(all: &[ark::Fq]) -> [F; N] {
    assert!(all.len() == N);
    let mut plain_all = [F::ZERO; N];
    let mut i = 0;
    while i < N {
        plain_all[i] = plain(all[i]);
        i += 1;
    }
    plain_all
}

/// The curve from which RFC 9380 maps to `$group`, and the isogeny between the two.
macro_rules! isogeny {
    ($from:ident, $group:ident, $ark:ty, $field:ty, $plain:ident, $plain_all:ident) => {
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $from;

        impl CurveConfig for $from {
            type BaseField = $field;
            type ScalarField = ark::Fr;
            const COFACTOR: &'static [u64] = Ark::<$ark>::COFACTOR;
            const COFACTOR_INV: ark::Fr = Ark::<$ark>::COFACTOR_INV;
        }

        impl SWCurveConfig for $from {
            const COEFF_A: $field = $plain(Ark::<$ark>::COEFF_A);
            const COEFF_B: $field = $plain(Ark::<$ark>::COEFF_B);
            const GENERATOR: sw::Affine<Self> = sw::Affine::new_unchecked(
                $plain(Ark::<$ark>::GENERATOR.x),
                $plain(Ark::<$ark>::GENERATOR.y),
            );
            type ZeroFlag = ();
        }

        impl SWUConfig for $from {
            const ZETA: $field = $plain(Ark::<$ark>::ZETA);
        }

        impl WBConfig for $group {
            type IsogenousCurve = $from;
            const ISOGENY_MAP: IsogenyMap<'static, $from, Self> = {
                type Map = IsogenyMap<'static, Ark<$ark>, $ark>;
                const MAP: Map = <$ark as WBConfig>::ISOGENY_MAP;
                IsogenyMap {
                    x_map_numerator: &$plain_all::<{ MAP.x_map_numerator.len() }>(
                        MAP.x_map_numerator,
                    ),
                    x_map_denominator: &$plain_all::<{ MAP.x_map_denominator.len() }>(
                        MAP.x_map_denominator,
                    ),
                    y_map_numerator: &$plain_all::<{ MAP.y_map_numerator.len() }>(
                        MAP.y_map_numerator,
                    ),
                    y_map_denominator: &$plain_all::<{ MAP.y_map_denominator.len() }>(
                        MAP.y_map_denominator,
                    ),
                }
            };
        }
    };
}

type Ark<G> = <G as WBConfig>::IsogenousCurve;

isogeny!(Isogenous1, G1, ark::g1::Config, F, plain, plain_all);
isogeny!(Isogenous2, G2, ark::g2::Config, Fq2, plain2, plain_all2);
