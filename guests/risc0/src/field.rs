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
    // Nobody takes a root here.
    const SQRT_PRECOMP: Option<SqrtPrecomputation<Fp<Self, N>>> = None;

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
