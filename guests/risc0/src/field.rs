//! arkworks' fields on RISC Zero's big-integer circuit, for pairings: the circuit multiplies, arkworks has the formulas.

use core::marker::PhantomData;

use ark_ff::{
    BigInt, BigInteger as _, Fp, FpConfig, MontBackend, MontConfig, PrimeField, SqrtPrecomputation,
};
use risc0_bigint2::field::{modinv_256, modinv_384, modmul_256, modmul_384};

/// A prime field of arkworks in which a number is kept as it is, not in Montgomery's form: the circuit multiplies modulo
/// any prime.
#[derive(Debug)]
pub struct Plain<T>(PhantomData<T>);

type Montgomery<T, const N: usize> = Fp<MontBackend<T, N>, N>;

/// Takes a constant out of Montgomery's form (algorithm REDC).
pub const fn plain<T: MontConfig<N>, const N: usize>(x: Montgomery<T, N>) -> Fp<Plain<T>, N> {
    let mut limbs = x.0.0;
    let mut round = 0;
    while round < N {
        // Add what makes the lowest limb zero, and drop it.
        let factor = limbs[0].wrapping_mul(T::INV) as u128;
        let mut carry = (limbs[0] as u128 + factor * T::MODULUS.0[0] as u128) >> 64;
        let mut i = 1;
        while i < N {
            let sum = limbs[i] as u128 + factor * T::MODULUS.0[i] as u128 + carry;
            limbs[i - 1] = sum as u64;
            carry = sum >> 64;
            i += 1;
        }
        limbs[N - 1] = carry as u64;
        round += 1;
    }
    // Of a reduced number, this is reduced.
    Fp(BigInt(limbs), PhantomData)
}

/// The limbs as words, of which there must be `W`: a constant for each field.
fn words<const N: usize, const W: usize>(number: &BigInt<N>) -> &[u32; W] {
    bytemuck::cast_slice(&number.0).try_into().expect("a field has one width")
}

fn words_mut<const N: usize, const W: usize>(number: &mut BigInt<N>) -> &mut [u32; W] {
    bytemuck::cast_slice_mut(&mut number.0).try_into().expect("a field has one width")
}

fn reduce<T: MontConfig<N>, const N: usize>(a: &mut BigInt<N>) {
    if *a >= T::MODULUS {
        a.sub_with_borrow(&T::MODULUS);
    }
}

/// SOUNDNESS: the library's functions check that what the circuit gives is reduced.
fn product<T: MontConfig<N>, const N: usize>(a: &BigInt<N>, b: &BigInt<N>) -> BigInt<N> {
    let mut product = BigInt([0; N]);
    match N {
        4 => modmul_256(words(a), words(b), words(&T::MODULUS), words_mut(&mut product)),
        6 => modmul_384(words(a), words(b), words(&T::MODULUS), words_mut(&mut product)),
        _ => unreachable!("the circuit knows two widths"),
    }
    product
}

impl<T: MontConfig<N>, const N: usize> FpConfig<N> for Plain<T> {
    const MODULUS: BigInt<N> = T::MODULUS;
    const GENERATOR: Fp<Self, N> = plain(T::GENERATOR);
    const ZERO: Fp<Self, N> = Fp(BigInt([0; N]), PhantomData);
    const ONE: Fp<Self, N> = Fp(BigInt::one(), PhantomData);
    const NEG_ONE: Fp<Self, N> = plain(<MontBackend<T, N> as FpConfig<N>>::NEG_ONE);
    const TWO_ADICITY: u32 = <MontBackend<T, N> as FpConfig<N>>::TWO_ADICITY;
    const TWO_ADIC_ROOT_OF_UNITY: Fp<Self, N> = plain(T::TWO_ADIC_ROOT_OF_UNITY);
    const SQRT_PRECOMP: Option<SqrtPrecomputation<Fp<Self, N>>> = match T::SQRT_PRECOMP {
        Some(SqrtPrecomputation::Case3Mod4 { modulus_plus_one_div_four }) => {
            Some(SqrtPrecomputation::Case3Mod4 { modulus_plus_one_div_four })
        }
        _ => None,
    };

    // The moduli leave at least one bit free, so sums of two reduced numbers do not overflow.
    fn add_assign(a: &mut Fp<Self, N>, b: &Fp<Self, N>) {
        a.0.add_with_carry(&b.0);
        reduce::<T, N>(&mut a.0);
    }

    fn sub_assign(a: &mut Fp<Self, N>, b: &Fp<Self, N>) {
        if a.0 < b.0 {
            a.0.add_with_carry(&T::MODULUS);
        }
        a.0.sub_with_borrow(&b.0);
    }

    fn double_in_place(a: &mut Fp<Self, N>) {
        a.0.mul2();
        reduce::<T, N>(&mut a.0);
    }

    fn neg_in_place(a: &mut Fp<Self, N>) {
        if !a.0.is_zero() {
            let mut negative = T::MODULUS;
            negative.sub_with_borrow(&a.0);
            a.0 = negative;
        }
    }

    fn mul_assign(a: &mut Fp<Self, N>, b: &Fp<Self, N>) {
        a.0 = product::<T, N>(&a.0, &b.0);
    }

    fn sum_of_products<const M: usize>(a: &[Fp<Self, N>; M], b: &[Fp<Self, N>; M]) -> Fp<Self, N> {
        let mut products =
            a.iter().zip(b).map(|(a, b)| Fp(product::<T, N>(&a.0, &b.0), PhantomData));
        let mut sum = products.next().unwrap_or(Self::ZERO);
        products.for_each(|product| sum += product);
        sum
    }

    fn square_in_place(a: &mut Fp<Self, N>) {
        a.0 = product::<T, N>(&a.0, &a.0);
    }

    fn inverse(a: &Fp<Self, N>) -> Option<Fp<Self, N>> {
        if a.0.is_zero() {
            return None;
        }
        let mut inverse = BigInt([0; N]);
        match N {
            4 => modinv_256(words(&a.0), words(&T::MODULUS), words_mut(&mut inverse)),
            6 => modinv_384(words(&a.0), words(&T::MODULUS), words_mut(&mut inverse)),
            _ => unreachable!("the circuit knows two widths"),
        }
        Some(Fp(inverse, PhantomData))
    }

    fn from_bigint(number: BigInt<N>) -> Option<Fp<Self, N>> {
        (number < T::MODULUS).then_some(Fp(number, PhantomData))
    }

    fn into_bigint(number: Fp<Self, N>) -> BigInt<N> {
        number.0
    }
}

/// The number in these big-endian bytes, if it is below the modulus.
pub fn decode<F: PrimeField<BigInt = BigInt<N>>, const N: usize>(bytes: &[u8]) -> Option<F> {
    let mut limbs = [0; N];
    for (limb, bytes) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        *limb = u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
    }
    F::from_bigint(BigInt(limbs))
}

/// Writes a number in big-endian bytes.
pub fn encode<F: PrimeField<BigInt = BigInt<N>>, const N: usize>(number: F, out: &mut [u8]) {
    for (limb, bytes) in number.into_bigint().0.iter().rev().zip(out.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&limb.to_be_bytes());
    }
}

/// The extension fields and both groups of a curve for pairings, with the constants of arkworks' crate, which the module
/// calls `ark`: of `$limbs` limbs, over a field that is named `$field`. `$in_subgroup2` says whether a point of the second
/// curve is in the subgroup.
macro_rules! tower {
    ($field:ident, $limbs:literal, $in_subgroup2:path) => {
        type $field = Fp<Plain<ark::FqConfig>, $limbs>;
        type Fq2 = Fp2<Quadratic>;

        const fn plain2(x: ark::Fq2) -> Fq2 {
            Fq2::new(plain(x.c0), plain(x.c1))
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

        #[derive(Clone, Copy, Debug)]
        pub struct Quadratic;

        impl Fp2Config for Quadratic {
            type Fp = $field;
            const NONRESIDUE: $field = plain(ark::Fq2Config::NONRESIDUE);
            const FROBENIUS_COEFF_FP2_C1: &'static [$field] = &[
                plain(ark::Fq2Config::FROBENIUS_COEFF_FP2_C1[0]),
                plain(ark::Fq2Config::FROBENIUS_COEFF_FP2_C1[1]),
            ];

            fn mul_fp_by_nonresidue_in_place(fe: &mut $field) -> &mut $field {
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
                &plain_all2::<6>(ark::Fq6Config::FROBENIUS_COEFF_FP6_C1);
            const FROBENIUS_COEFF_FP6_C2: &'static [Fq2] =
                &plain_all2::<6>(ark::Fq6Config::FROBENIUS_COEFF_FP6_C2);
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
                &plain_all2::<12>(ark::Fq12Config::FROBENIUS_COEFF_FP12_C1);
        }

        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct G1;

        impl CurveConfig for G1 {
            type BaseField = $field;
            type ScalarField = ark::Fr;
            const COFACTOR: &'static [u64] = ark::g1::Config::COFACTOR;
            const COFACTOR_INV: ark::Fr = ark::g1::Config::COFACTOR_INV;
        }

        impl SWCurveConfig for G1 {
            const COEFF_A: $field = plain(ark::g1::Config::COEFF_A);
            const COEFF_B: $field = plain(ark::g1::Config::COEFF_B);
            const GENERATOR: ark_ec::short_weierstrass::Affine<Self> =
                ark_ec::short_weierstrass::Affine::new_unchecked(
                    plain(ark::g1::Config::GENERATOR.x),
                    plain(ark::g1::Config::GENERATOR.y),
                );
            type ZeroFlag = ();

            fn is_in_correct_subgroup_assuming_on_curve(
                point: &ark_ec::short_weierstrass::Affine<Self>,
            ) -> bool {
                // A group of prime order is its own only subgroup that matters.
                Self::cofactor_is_one()
                    || Self::mul_affine(point, ark::Fr::characteristic()).is_zero()
            }
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
            const GENERATOR: ark_ec::short_weierstrass::Affine<Self> =
                ark_ec::short_weierstrass::Affine::new_unchecked(
                    plain2(ark::g2::Config::GENERATOR.x),
                    plain2(ark::g2::Config::GENERATOR.y),
                );
            type ZeroFlag = ();

            fn is_in_correct_subgroup_assuming_on_curve(
                point: &ark_ec::short_weierstrass::Affine<Self>,
            ) -> bool {
                $in_subgroup2(point)
            }
        }
    };
}

pub(crate) use tower;
