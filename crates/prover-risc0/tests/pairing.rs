//! The guest's pairings and second groups, with arkworks' fields in place of the circuit, against arkworks' curves.

#![expect(clippy::cast_possible_truncation, reason = "numbers are taken apart into words")]

#[path = "../../../guests/risc0/src/pairing.rs"]
#[expect(unreachable_pub, reason = "a module of the guest")]
mod pairing;

use ark_ec::pairing::Pairing;
use ark_ec::scalar_mul::double_and_add_affine as multiply;
use ark_ec::{AffineRepr as _, CurveConfig as _, CurveGroup as _};
use ark_ff::{Field as _, PrimeField as _, Zero as _};
use num_bigint::{BigInt, BigUint};
use num_integer::Integer as _;
use pairing::{Arithmetic, Bls12_381, Bn254, Curve as _, Fp2, Fp12, Point, Twisted, Words};

/// What arkworks has for a curve.
macro_rules! curve {
    ($module:ident, $curve:ident, $ark:ident, $engine:ident, $words:literal, $limbs:literal, $multiple:expr) => {
        mod $module {
            use super::*;

            type Affine1 = $ark::G1Affine;
            type Affine2 = $ark::G2Affine;

            fn number(words: &[u32; $words]) -> $ark::Fq {
                let limbs = core::array::from_fn(|i| {
                    u64::from(words[2 * i]) | u64::from(words[2 * i + 1]) << 32
                });
                $ark::Fq::from_bigint(ark_ff::BigInt::<$limbs>(limbs)).expect("numbers are reduced")
            }

            fn words(number: $ark::Fq) -> [u32; $words] {
                pairing::words(&number.into_bigint())
            }

            fn element(a: &Words<$words>) -> $ark::Fq2 {
                $ark::Fq2::new(number(&a[0]), number(&a[1]))
            }

            fn element_words(a: $ark::Fq2) -> Words<$words> {
                [words(a.c0), words(a.c1)]
            }

            impl Arithmetic<$words> for $curve {
                fn multiply(a: &Words<$words>, b: &Words<$words>, product: &mut Words<$words>) {
                    *product = element_words(element(a) * element(b));
                }

                fn add(a: &Words<$words>, b: &Words<$words>, sum: &mut Words<$words>) {
                    *sum = element_words(element(a) + element(b));
                }

                fn subtract(a: &Words<$words>, b: &Words<$words>, difference: &mut Words<$words>) {
                    *difference = element_words(element(a) - element(b));
                }

                fn invert(a: &[u32; $words], inverse: &mut [u32; $words]) {
                    *inverse = words(number(a).inverse().expect("zero has no inverse"));
                }
            }

            fn point(point: Affine2) -> Twisted<$curve, $words> {
                let (x, y) = point.xy()?;
                Some(Point { x: Fp2::new(element_words(x)), y: Fp2::new(element_words(y)) })
            }

            fn one(point: Affine1) -> [[u32; $words]; 2] {
                let (x, y) = point.xy().expect("not infinity");
                [words(x), words(y)]
            }

            /// A point of the twist, seldom of the second group.
            fn twisted(seed: u64) -> Affine2 {
                (seed..)
                    .find_map(|x| {
                        Affine2::get_point_from_x_unchecked(
                            $ark::Fq2::new(x.into(), 7.into()),
                            x % 2 == 0,
                        )
                    })
                    .expect("half of all x belong to a point")
            }

            fn order() -> BigUint {
                $ark::Fr::MODULUS.into()
            }

            fn cofactor() -> BigUint {
                let limbs = $ark::g2::Config::COFACTOR;
                limbs.iter().rev().fold(BigUint::ZERO, |sum, limb| (sum << 64) + limb)
            }

            #[test]
            fn the_prime_s_square_is_its_square() {
                let prime = pairing::words::<_, $words>(&$ark::Fq::MODULUS);
                let square: [u32; 2 * $words] = pairing::square(&prime);
                assert_eq!(BigUint::from_slice(&square), BigUint::from_slice(&prime).pow(2));
                assert_eq!(BigUint::from_slice(&prime), BigUint::from($ark::Fq::MODULUS));
            }

            #[test]
            fn what_is_on_the_twist_is_told_from_what_is_not() {
                for point in [Affine2::generator(), twisted(1)] {
                    let ours = super::$module::point(point).expect("not infinity");
                    assert!(ours.is_on_curve());
                    let wrong = Point { x: ours.y, y: ours.x };
                    assert!(!wrong.is_on_curve());
                }
            }

            #[test]
            fn sums_are_those_of_arkworks() {
                let points: Vec<Affine2> = vec![
                    Affine2::zero(),
                    Affine2::generator(),
                    -Affine2::generator(),
                    twisted(3),
                    twisted(100),
                ];
                for a in &points {
                    assert_eq!(pairing::double(&point(*a)), point((*a + *a).into_affine()));
                    for b in &points {
                        let sum = pairing::add(&point(*a), &point(*b));
                        assert_eq!(sum, point((*a + *b).into_affine()));
                    }
                    for by in [0, 1, 2, 3, 5, 0xffff_ffff_ffff_ffff, $curve::X] {
                        let product = pairing::multiply(&point(*a), by);
                        assert_eq!(product, point(multiply(a, [by]).into_affine()));
                    }
                }
            }

            #[test]
            fn points_of_other_orders_are_not_in_the_group() {
                let group = |a: Affine2| $curve::is_in_group(&point(a).expect("not infinity"));
                assert!(group(Affine2::generator()));
                let order_of_twist = cofactor() * order();
                assert!(multiply(&twisted(5), order_of_twist.to_u64_digits()).is_zero());
                let mut all = 0;
                for seed in 0..20 {
                    let other = twisted(1_000 * seed);
                    assert!(!group(other));
                    let cleared = multiply(&other, cofactor().to_u64_digits()).into_affine();
                    assert!(group(cleared));
                    assert!(!group((other + cleared).into_affine()));
                    // Without the group's part, of each small order that the cofactor has.
                    let rest = multiply(&other, order().to_u64_digits()).into_affine();
                    assert!(!group(rest));
                    for prime in (2_u32..20_000).filter(|n| (&cofactor() % n) == BigUint::ZERO) {
                        if (2..prime).any(|n| prime % n == 0) {
                            continue;
                        }
                        let mut cofactor = cofactor();
                        while (&cofactor % prime) == BigUint::ZERO {
                            cofactor /= prime;
                        }
                        let small = multiply(&rest, cofactor.to_u64_digits()).into_affine();
                        if !small.is_zero() {
                            assert!(!group(small), "order {prime}");
                            assert!(!group((small + cleared).into_affine()), "order {prime}");
                            all += 1;
                        }
                    }
                }
                assert!(all > 10, "{all} points of small orders");
            }

            #[test]
            fn products_are_one_exactly_if_those_of_arkworks_are() {
                let (g1, g2) = (Affine1::generator(), Affine2::generator());
                let first = |by: u64| multiply(&g1, [by]).into_affine();
                let second = |by: u64| multiply(&g2, [by]).into_affine();
                let mut ones = 0;
                for pairs in [
                    vec![],
                    vec![(first(1), second(1))],
                    vec![(first(1), second(1)), (first(1), -second(1))],
                    vec![(first(7), second(11)), (-first(77), second(1))],
                    vec![(first(7), second(11)), (-first(1), second(77))],
                    vec![(first(7), second(11)), (-first(1), second(78))],
                    vec![(first(7), second(11)), (first(1), second(77))],
                    vec![(first(u64::MAX), second(3)), (-first(3), second(u64::MAX))],
                    vec![(first(2), second(3)), (first(4), second(5)), (-first(26), second(1))],
                    vec![(first(2), second(3)), (first(4), second(5)), (-first(27), second(1))],
                    vec![(first(5), second(5)); 3],
                ] {
                    let expected = $ark::$engine::multi_pairing(
                        pairs.iter().map(|pair| pair.0),
                        pairs.iter().map(|pair| pair.1),
                    );
                    let expected = expected.is_zero();
                    let ours =
                        pairs.iter().map(|(a, b)| (one(*a), point(*b).expect("not infinity")));
                    assert_eq!(pairing::product_is_one(ours), expected, "{pairs:?}");
                    ones += usize::from(expected);
                }
                assert_eq!(ones, 6);
            }

            /// SOUNDNESS: the final power of a product of pairings is one only if the product's own is.
            #[test]
            fn the_hard_part_raises_to_a_multiple_that_is_prime_to_the_order() {
                let prime = BigUint::from($ark::Fq::MODULUS);
                let (exponent, rest) = (prime.pow(4) - prime.pow(2) + 1_u8).div_rem(&order());
                assert_eq!(rest, BigUint::ZERO);
                let x = BigUint::from($curve::X);
                let multiple: BigUint = $multiple(&x);
                assert_eq!(multiple.gcd(&order()), 1_u8.into());
                let element = |i: u32| Fp2::new([[i; $words], [i + 1; $words]]);
                let f = Fp12::<$curve, $words>([1, 2, 3, 4, 5, 6].map(element)).cyclotomic();
                let exponent = exponent * multiple;
                let power = (0..exponent.bits()).rev().fold(Fp12::ONE, |power, bit| {
                    let square = &power * &power;
                    if exponent.bit(bit) { &square * &f } else { square }
                });
                assert_ne!(power, Fp12::ONE);
                assert_eq!($curve::hard_part(&f), power);
            }
        }
    };
}

curve!(bn254, Bn254, ark_bn254, Bn254, 8, 4, |x: &BigUint| 2_u8
    * x
    * (6_u8 * x * x + 3_u8 * x + 1_u8));
curve!(bls12_381, Bls12_381, ark_bls12_381, Bls12_381, 12, 6, |_: &BigUint| 3_u8.into());

/// SOUNDNESS: what BN254's membership test accepts has an order that divides the group's.
#[test]
fn bn254_accepts_only_orders_that_divide_the_order_of_the_group() {
    let x = BigInt::from(Bn254::X);
    let [p, r] = [ark_bn254::Fq::MODULUS.into(), ark_bn254::Fr::MODULUS.into()]
        .map(|n: BigUint| BigInt::from(n));
    let t: BigInt = 6 * &x * &x + 1;
    assert_eq!(&p + 1 - &t, r);
    // (x + 1) + x psi + x psi^2 - 2 x psi^3, with psi^2 = t psi - p.
    let (mut low, mut high) = (BigInt::ZERO, BigInt::ZERO);
    for coefficient in [-2 * &x, x.clone(), x.clone(), &x + 1] {
        (low, high) = (coefficient - &p * &high, low + &t * &high);
    }
    let norm = &low * &low + &t * &low * &high + &p * &high * &high;
    let points = &r * (2 * &p - &r);
    assert_eq!(norm.gcd(&points), r);
}
