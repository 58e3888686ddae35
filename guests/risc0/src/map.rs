//! Maps of field elements to points of BLS12-381 (RFC 9380): arkworks' formulas over a field whose products are RISC Zero's
//! big-integer circuit.

use core::marker::PhantomData;

use ark_bls12_381 as ark;
use ark_ec::hashing::curve_maps::swu::SWUConfig;
use ark_ec::hashing::curve_maps::wb::{IsogenyMap, WBConfig, WBMap};
use ark_ec::hashing::map_to_curve_hasher::MapToCurve as _;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::{AffineRepr as _, CurveConfig};
use ark_ff::{
    AdditiveGroup as _, BigInteger as _, Fp, Fp2, Fp2Config, FpConfig, MontBackend, MontConfig,
    SqrtPrecomputation,
};
use risc0_bigint2::field::{modinv_384, modmul_384};

use crate::pairing;

/// The coordinates of the point that the element is mapped to, unless that is infinity: on the curve, not yet in the first
/// group.
pub fn to_curve(element: &[u32; 12]) -> Option<[[u32; 12]; 2]> {
    let point: Affine<G1> =
        WBMap::map_to_curve(number(element)).expect("every element has a point");
    point.xy().map(|(x, y)| [words(&x), words(&y)])
}

/// The coordinates of the point that the element is mapped to, unless that is infinity: on the twist, not yet in the second
/// group.
pub fn to_twist(element: &[[u32; 12]; 2]) -> Option<[[[u32; 12]; 2]; 2]> {
    let element = Fp2::new(number(&element[0]), number(&element[1]));
    let point: Affine<G2> = WBMap::map_to_curve(element).expect("every element has a point");
    point.xy().map(|(x, y)| [x, y].map(|a| [words(&a.c0), words(&a.c1)]))
}

fn number(words: &[u32; 12]) -> F {
    Fp(BigInt::new(bytemuck::cast(*words)), PhantomData)
}

fn words(number: &F) -> [u32; 12] {
    bytemuck::cast(number.0.0)
}

type BigInt = ark_ff::BigInt<6>;

/// The prime field, in which a number is kept as it is, not in Montgomery's form: the circuit multiplies modulo any prime.
#[derive(Debug)]
struct Plain;

type F = Fp<Plain, 6>;
type Fq2 = Fp2<Quadratic>;

const fn plain(x: ark::Fq) -> F {
    Fp(pairing::plain(&x), PhantomData)
}

const fn plain2(x: ark::Fq2) -> Fq2 {
    Fq2::new(plain(x.c0), plain(x.c1))
}

fn as_words(number: &BigInt) -> &[u32; 12] {
    bytemuck::cast_ref(&number.0)
}

fn reduce(a: &mut BigInt) {
    if *a >= Plain::MODULUS {
        a.sub_with_borrow(&Plain::MODULUS);
    }
}

/// SOUNDNESS: the library's functions check that what the circuit gives is reduced.
fn product(a: &BigInt, b: &BigInt) -> BigInt {
    let mut product = BigInt::zero();
    let words = bytemuck::cast_mut(&mut product.0);
    modmul_384(as_words(a), as_words(b), as_words(&Plain::MODULUS), words);
    product
}

impl FpConfig<6> for Plain {
    const MODULUS: BigInt = ark::FqConfig::MODULUS;
    const GENERATOR: F = plain(ark::FqConfig::GENERATOR);
    const ZERO: F = Fp(BigInt::zero(), PhantomData);
    const ONE: F = Fp(BigInt::one(), PhantomData);
    const NEG_ONE: F = plain(<MontBackend<ark::FqConfig, 6> as FpConfig<6>>::NEG_ONE);
    const TWO_ADICITY: u32 = <MontBackend<ark::FqConfig, 6> as FpConfig<6>>::TWO_ADICITY;
    const TWO_ADIC_ROOT_OF_UNITY: F = plain(ark::FqConfig::TWO_ADIC_ROOT_OF_UNITY);
    const SQRT_PRECOMP: Option<SqrtPrecomputation<F>> = match ark::FqConfig::SQRT_PRECOMP {
        Some(SqrtPrecomputation::Case3Mod4 { modulus_plus_one_div_four }) => {
            Some(SqrtPrecomputation::Case3Mod4 { modulus_plus_one_div_four })
        }
        _ => None,
    };

    // The modulus leaves bits free, so sums of two reduced numbers do not overflow.
    fn add_assign(a: &mut F, b: &F) {
        a.0.add_with_carry(&b.0);
        reduce(&mut a.0);
    }

    fn sub_assign(a: &mut F, b: &F) {
        if a.0 < b.0 {
            a.0.add_with_carry(&Self::MODULUS);
        }
        a.0.sub_with_borrow(&b.0);
    }

    fn double_in_place(a: &mut F) {
        a.0.mul2();
        reduce(&mut a.0);
    }

    fn neg_in_place(a: &mut F) {
        if !a.0.is_zero() {
            let mut negative = Self::MODULUS;
            negative.sub_with_borrow(&a.0);
            a.0 = negative;
        }
    }

    fn mul_assign(a: &mut F, b: &F) {
        a.0 = product(&a.0, &b.0);
    }

    fn sum_of_products<const M: usize>(a: &[F; M], b: &[F; M]) -> F {
        let mut products = a.iter().zip(b).map(|(a, b)| Fp(product(&a.0, &b.0), PhantomData));
        let mut sum = products.next().unwrap_or(Self::ZERO);
        products.for_each(|product| sum += product);
        sum
    }

    fn square_in_place(a: &mut F) {
        a.0 = product(&a.0, &a.0);
    }

    fn inverse(a: &F) -> Option<F> {
        if a.0.is_zero() {
            return None;
        }
        let mut inverse = BigInt::zero();
        let words = bytemuck::cast_mut(&mut inverse.0);
        modinv_384(as_words(&a.0), as_words(&Self::MODULUS), words);
        Some(Fp(inverse, PhantomData))
    }

    fn from_bigint(number: BigInt) -> Option<F> {
        (number < Self::MODULUS).then_some(Fp(number, PhantomData))
    }

    fn into_bigint(number: F) -> BigInt {
        number.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Quadratic;

impl Fp2Config for Quadratic {
    type Fp = F;
    const NONRESIDUE: F = plain(ark::Fq2Config::NONRESIDUE);
    const FROBENIUS_COEFF_FP2_C1: &'static [F] = &[
        plain(ark::Fq2Config::FROBENIUS_COEFF_FP2_C1[0]),
        plain(ark::Fq2Config::FROBENIUS_COEFF_FP2_C1[1]),
    ];

    fn mul_fp_by_nonresidue_in_place(fe: &mut F) -> &mut F {
        // It is -1.
        fe.neg_in_place()
    }
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

const fn plain_all2<const N: usize>(all: &[ark::Fq2]) -> [Fq2; N] {
    assert!(all.len() == N);
    let mut plain = [Fq2::ZERO; N];
    let mut i = 0;
    while i < N {
        plain[i] = plain2(all[i]);
        i += 1;
    }
    plain
}

/// A curve of arkworks over these fields.
macro_rules! curve {
    ($curve:ident, $ark:ty, $field:ty, $plain:ident) => {
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        struct $curve;

        impl CurveConfig for $curve {
            type BaseField = $field;
            type ScalarField = ark::Fr;
            const COFACTOR: &'static [u64] = <$ark>::COFACTOR;
            const COFACTOR_INV: ark::Fr = <$ark>::COFACTOR_INV;
        }

        impl SWCurveConfig for $curve {
            const COEFF_A: $field = $plain(<$ark>::COEFF_A);
            const COEFF_B: $field = $plain(<$ark>::COEFF_B);
            const GENERATOR: Affine<Self> =
                Affine::new_unchecked($plain(<$ark>::GENERATOR.x), $plain(<$ark>::GENERATOR.y));
            type ZeroFlag = ();
        }
    };
}

/// The curve `$group`, the one from which RFC 9380 maps to it, and the isogeny between the two.
macro_rules! isogeny {
    ($from:ident, $group:ident, $ark:ty, $field:ty, $plain:ident, $plain_all:ident) => {
        curve!($group, $ark, $field, $plain);
        curve!($from, Ark<$ark>, $field, $plain);

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
