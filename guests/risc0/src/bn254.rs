//! EIP-197's pairing check: arkworks' formulas over a field whose products are RISC Zero's big-integer circuit.

use ark_bn254 as ark;
use ark_ec::bn::{Bn, BnConfig, G1Affine, G2Affine, TwistType};
use ark_ec::pairing::Pairing as _;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::{AffineRepr as _, CurveConfig};
use ark_ff::{
    AdditiveGroup as _, Fp, Fp2, Fp2Config, Fp6, Fp6Config, Fp12Config, One as _, Zero as _,
};
use revm::precompile::PrecompileHalt;

use crate::field::{self, Plain, plain};

// The tower and both curves: arkworks' own constants.

type Fq = Fp<Plain<ark::FqConfig>, 4>;
type Fq2 = Fp2<Quadratic>;

const fn plain2(x: ark::Fq2) -> Fq2 {
    Fq2::new(plain(x.c0), plain(x.c1))
}

const fn plain_all<const N: usize>(all: &[ark::Fq2]) -> [Fq2; N] {
    let mut plain = [Fq2::ZERO; N];
    let mut i = 0;
    while i < N {
        plain[i] = plain2(all[i]);
        i += 1;
    }
    plain
}

#[derive(Clone, Copy, Debug)]
pub struct Quadratic;

impl Fp2Config for Quadratic {
    type Fp = Fq;
    const NONRESIDUE: Fq = plain(ark::Fq2Config::NONRESIDUE);
    const FROBENIUS_COEFF_FP2_C1: &'static [Fq] = &[
        plain(ark::Fq2Config::FROBENIUS_COEFF_FP2_C1[0]),
        plain(ark::Fq2Config::FROBENIUS_COEFF_FP2_C1[1]),
    ];

    fn mul_fp_by_nonresidue_in_place(fe: &mut Fq) -> &mut Fq {
        // It is -1.
        fe.neg_in_place()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Sextic;

impl Fp6Config for Sextic {
    type Fp2Config = Quadratic;
    const NONRESIDUE: Fq2 = plain2(ark::Fq6Config::NONRESIDUE);
    const FROBENIUS_COEFF_FP6_C1: &'static [Fq2] =
        &plain_all::<6>(ark::Fq6Config::FROBENIUS_COEFF_FP6_C1);
    const FROBENIUS_COEFF_FP6_C2: &'static [Fq2] =
        &plain_all::<6>(ark::Fq6Config::FROBENIUS_COEFF_FP6_C2);
}

#[derive(Clone, Copy, Debug)]
pub struct Dodecic;

impl Fp12Config for Dodecic {
    type Fp6Config = Sextic;
    const NONRESIDUE: Fp6<Sextic> = Fp6::new(
        plain2(ark::Fq12Config::NONRESIDUE.c0),
        plain2(ark::Fq12Config::NONRESIDUE.c1),
        plain2(ark::Fq12Config::NONRESIDUE.c2),
    );
    const FROBENIUS_COEFF_FP12_C1: &'static [Fq2] =
        &plain_all::<12>(ark::Fq12Config::FROBENIUS_COEFF_FP12_C1);
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct G1;

impl CurveConfig for G1 {
    type BaseField = Fq;
    type ScalarField = ark::Fr;
    const COFACTOR: &'static [u64] = ark::g1::Config::COFACTOR;
    const COFACTOR_INV: ark::Fr = ark::g1::Config::COFACTOR_INV;
}

impl SWCurveConfig for G1 {
    const COEFF_A: Fq = plain(ark::g1::Config::COEFF_A);
    const COEFF_B: Fq = plain(ark::g1::Config::COEFF_B);
    const GENERATOR: Affine<Self> = Affine::new_unchecked(
        plain(ark::g1::Config::GENERATOR.x),
        plain(ark::g1::Config::GENERATOR.y),
    );
    type ZeroFlag = ();
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct G2;

impl CurveConfig for G2 {
    type BaseField = Fq2;
    type ScalarField = ark::Fr;
    const COFACTOR: &'static [u64] = ark::g2::Config::COFACTOR;
    const COFACTOR_INV: ark::Fr = ark::g2::Config::COFACTOR_INV;
}

impl SWCurveConfig for G2 {
    const COEFF_A: Fq2 = plain2(ark::g2::Config::COEFF_A);
    const COEFF_B: Fq2 = plain2(ark::g2::Config::COEFF_B);
    const GENERATOR: Affine<Self> = Affine::new_unchecked(
        plain2(ark::g2::Config::GENERATOR.x),
        plain2(ark::g2::Config::GENERATOR.y),
    );
    type ZeroFlag = ();
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
