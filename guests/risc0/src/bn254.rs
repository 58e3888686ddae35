//! EIP-197's pairing check: arkworks' formulas over a field whose products are RISC Zero's big-integer circuit.

use ark_bn254 as ark;
use ark_ec::bn::{Bn, BnConfig, G1Affine, G2Affine, TwistType};
use ark_ec::pairing::Pairing as _;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::{AffineRepr as _, CurveConfig};
use ark_ff::{
    AdditiveGroup as _, Field as _, Fp, Fp2, Fp2Config, Fp6, Fp6Config, Fp12Config, One as _,
    Zero as _,
};
use revm::precompile::PrecompileHalt;

use crate::field::{self, Plain, plain};

field::tower!(Fq, 4, in_subgroup2);

/// 6 x^2 for the curve's parameter x.
const SIX_X_SQUARED: [u64; 2] = [0xf83e_9682_e87c_fd46, 0x6f4d_8248_eeb8_59fb];

/// SOUNDNESS: of the curve's points, exactly those of the subgroup are multiplied by 6 x^2 when they are untwisted, raised
/// to the prime and twisted again (El Housni, Guillevic and Piellard, "Co-factor clearing and subgroup membership
/// testing on pairing-friendly curves", section 4.3).
fn in_subgroup2(point: &Affine<G2>) -> bool {
    let mut image = *point;
    image.x.conjugate_in_place();
    image.y.conjugate_in_place();
    image.x *= Config::TWIST_MUL_BY_Q_X;
    image.y *= Config::TWIST_MUL_BY_Q_Y;
    point.mul_bigint(SIX_X_SQUARED) == image
}

#[derive(Debug)]
pub struct Config;

impl BnConfig for Config {
    const X: &'static [u64] = ark::Config::X;
    const X_IS_NEGATIVE: bool = ark::Config::X_IS_NEGATIVE;
    const ATE_LOOP_COUNT: &'static [i8] = ark::Config::ATE_LOOP_COUNT;
    const TWIST_TYPE: TwistType = ark::Config::TWIST_TYPE;
    const TWIST_MUL_BY_Q_X: Fq2 = plain2(ark::Config::TWIST_MUL_BY_Q_X);
    const TWIST_MUL_BY_Q_Y: Fq2 = plain2(ark::Config::TWIST_MUL_BY_Q_Y);
    type Fp = Fq;
    type Fp2Config = Quadratic;
    type Fp6Config = Sextic;
    type Fp12Config = Dodecic;
    type G1Config = G1;
    type G2Config = G2;
}

/// Whether the product of the pairings is one. Points are as EIP-197 encodes them.
pub fn pairing_check(pairs: &[(&[u8], &[u8])]) -> Result<bool, PrecompileHalt> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for (one, two) in pairs {
        let [x, y] = coordinates(one)?;
        // A coordinate's imaginary part comes first.
        let [x1, x0, y1, y0] = coordinates(two)?;
        let one = checked(G1Affine::<Config>::new_unchecked(x, y), x.is_zero() && y.is_zero())?;
        let (x, y) = (Fq2::new(x0, x1), Fq2::new(y0, y1));
        let two = checked(G2Affine::<Config>::new_unchecked(x, y), x.is_zero() && y.is_zero())?;
        // Paired with infinity, everything is one.
        if !one.is_zero() && !two.is_zero() {
            left.push(one);
            right.push(two);
        }
    }
    Ok(left.is_empty() || Bn::<Config>::multi_pairing(left, right).0.is_one())
}

fn coordinates<const N: usize>(bytes: &[u8]) -> Result<[Fq; N], PrecompileHalt> {
    let mut all = [Fq::zero(); N];
    for (coordinate, bytes) in all.iter_mut().zip(bytes.chunks_exact(32)) {
        *coordinate = field::decode(bytes).ok_or(PrecompileHalt::Bn254FieldPointNotAMember)?;
    }
    Ok(all)
}

/// SOUNDNESS: a point is infinity, which is written as zeros, or it is on the curve and in the subgroup.
fn checked<C: SWCurveConfig>(
    point: Affine<C>,
    is_infinity: bool,
) -> Result<Affine<C>, PrecompileHalt> {
    if is_infinity {
        return Ok(Affine::identity());
    }
    if point.is_on_curve() && C::is_in_correct_subgroup_assuming_on_curve(&point) {
        return Ok(point);
    }
    Err(PrecompileHalt::Bn254AffineGFailedToCreate)
}
