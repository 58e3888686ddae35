//! Pairings and second groups of BN254 and BLS12-381, for a machine that multiplies two elements of a quadratic field in
//! one call.
//!
//! There a product costs little more than a sum, and an inverse three products. So points are affine, sums of products
//! are computed term by term, and no formula trades products for sums.

use core::hint::black_box;
use core::ops::{Add, Mul, Neg, Sub};
use core::{array, fmt, iter, mem};

use ark_ec::bls12::Bls12Config as _;
use ark_ec::bn::BnConfig as _;
use ark_ec::short_weierstrass::SWCurveConfig as _;
use ark_ff::{
    BigInt, Fp, Fp2Config, Fp2ConfigWrapper, Fp6Config as _, Fp12Config as _, MontBackend,
    MontConfig, MontFp, QuadExtField,
};

/// Two numbers below a modulus, least significant words first: c0 + c1 u, where u^2 is -1.
pub type Words<const W: usize> = [[u32; W]; 2];

/// Arithmetic modulo a curve's prime on numbers of `W` words, all of which are reduced.
pub trait Arithmetic<const W: usize>: Copy + PartialEq + fmt::Debug + 'static {
    fn multiply(a: &Words<W>, b: &Words<W>, product: &mut Words<W>);
    fn add(a: &Words<W>, b: &Words<W>, sum: &mut Words<W>);
    fn subtract(a: &Words<W>, b: &Words<W>, difference: &mut Words<W>);
    /// Of a number that is not zero.
    fn invert(a: &[u32; W], inverse: &mut [u32; W]);
}

/// A curve whose second group lies on a sextic twist over F_p^2.
pub trait Curve<const W: usize>: Arithmetic<W> {
    /// w^6: the field of degree 12 is F_p^2\[w\].
    const NONRESIDUE: Fp2<Self, W>;
    /// `NONRESIDUE`^((p^k - 1) / 6) for k from 1 to 3.
    const FROBENIUS: [Fp2<Self, W>; 3];
    /// b of the twist y^2 = x^3 + b.
    const TWIST_B: Fp2<Self, W>;
    /// Whether the twist is of type D, where a point (x, y) of the twist is (x w^2, y w^3) of the curve. On one of type M,
    /// it is (x / w^2, y / w^3).
    const IS_TYPE_D: bool;
    /// What [`Point::psi`] multiplies the coordinates by.
    const PSI: [Fp2<Self, W>; 2];

    /// Of a point of the twist, whether it is in the second group.
    fn is_in_group(point: &Point<Self, W>) -> bool;
    /// The loop of the pairing.
    fn run(miller: &mut Miller<Self, W>);
    /// An element whose order divides p^4 - p^2 + 1 to the power m (p^4 - p^2 + 1) / r, where r is the order of the groups
    /// and m is not a multiple of it.
    fn hard_part(f: &Fp12<Self, W>) -> Fp12<Self, W>;
}

/// BN254, which EIP-197 calls alt_bn128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bn254;

impl Bn254 {
    /// The curve's parameter.
    pub const X: u64 = ark_bn254::Config::X[0];
}

impl Curve<8> for Bn254 {
    const NONRESIDUE: Fp2<Self, 8> = constant(ark_bn254::Fq6Config::NONRESIDUE);
    const FROBENIUS: [Fp2<Self, 8>; 3] = {
        let powers = ark_bn254::Fq12Config::FROBENIUS_COEFF_FP12_C1;
        [constant(powers[1]), constant(powers[2]), constant(powers[3])]
    };
    const TWIST_B: Fp2<Self, 8> = constant(ark_bn254::g2::Config::COEFF_B);
    const IS_TYPE_D: bool = true;
    const PSI: [Fp2<Self, 8>; 2] = [
        constant(ark_bn254::Config::TWIST_MUL_BY_Q_X),
        constant(ark_bn254::Config::TWIST_MUL_BY_Q_Y),
    ];

    /// SOUNDNESS: with t = 6 x^2 + 1, psi^2 - t psi + p is zero on the twist. So what (x + 1) + x psi + x psi^2 - 2 x psi^3
    /// makes zero has an order that divides its norm, and also the number of the twist's points. Their greatest common
    /// divisor is the group's order (Dai, Lin, Zhao and Zhou, "Fast subgroup membership testings for G1, G2 and GT on
    /// pairing-friendly curves", section 5.1; a test computes it).
    fn is_in_group(point: &Point<Self, 8>) -> bool {
        let product = multiply(&Some(*point), Self::X);
        let psi = product.map(|point| point.psi());
        let psi2 = psi.map(|point| point.psi());
        let psi3 = psi2.map(|point| point.psi());
        add(&add(&product, &Some(*point)), &add(&psi, &psi2)) == double(&psi3)
    }

    /// The optimal ate pairing of a Barreto-Naehrig curve.
    fn run(miller: &mut Miller<Self, 8>) {
        miller.multiply(6 * u128::from(Self::X) + 2);
        miller.add(Point::psi);
        miller.add(|two| two.psi().psi().negative());
    }

    /// By powers of p (Fuentes-Castañeda, Knapp and Rodríguez-Henríquez, "Faster hashing to G2", section 5), where m is
    /// 2 x (6 x^2 + 3 x + 1). The names are what multiplies powers of x.
    fn hard_part(f: &Fp12<Self, 8>) -> Fp12<Self, 8> {
        let twice = f.cyclotomic_power(Self::X).cyclotomic_square();
        let six = &twice.cyclotomic_square() * &twice;
        let six_squares = six.cyclotomic_power(Self::X);
        let twelve_cubes = six_squares.cyclotomic_square().cyclotomic_power(Self::X);
        let second = &(&twelve_cubes * &six_squares) * &six;
        let first = &second * &twice.conjugate();
        let zeroth = &(&second * &six_squares) * f;
        let third = &first * &f.conjugate();
        &(&zeroth * &first.frobenius(1)) * &(&second.frobenius(2) * &third.frobenius(3))
    }
}

/// BLS12-381.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bls12_381;

impl Bls12_381 {
    /// The curve's parameter is negative; this is what it is without its sign.
    pub const X: u64 = ark_bls12_381::Config::X[0];
}

impl Curve<12> for Bls12_381 {
    const NONRESIDUE: Fp2<Self, 12> = constant(ark_bls12_381::Fq6Config::NONRESIDUE);
    const FROBENIUS: [Fp2<Self, 12>; 3] = {
        let powers = ark_bls12_381::Fq12Config::FROBENIUS_COEFF_FP12_C1;
        [constant(powers[1]), constant(powers[2]), constant(powers[3])]
    };
    const TWIST_B: Fp2<Self, 12> = constant(ark_bls12_381::g2::Config::COEFF_B);
    const IS_TYPE_D: bool = false;
    /// (u + 1)^((1 - p) / 3) and (u + 1)^((1 - p) / 2).
    const PSI: [Fp2<Self, 12>; 2] = [
        constant(ark_bls12_381::Fq2::new(
            MontFp!("0"),
            MontFp!(
                "4002409555221667392624310435006688643935503118305586438271171395842971157480381377015405980053539358417135540939437"
            ),
        )),
        constant(ark_bls12_381::Fq2::new(
            MontFp!(
                "2973677408986561043442465346520108879172042883009249989176415018091420807192182638567116318576472649347015917690530"
            ),
            MontFp!(
                "1028732146235106349975324479215795277384839936929757896155643118032610843298655225875571310552543014690878354869257"
            ),
        )),
    ];

    /// SOUNDNESS: of the curve's points, exactly those of the group are multiplied by x when [`Point::psi`] is applied
    /// (Scott, "A note on group membership tests for G1, G2 and GT on BLS pairing-friendly curves", section 4).
    fn is_in_group(point: &Point<Self, 12>) -> bool {
        multiply(&Some(*point), Self::X) == Some(point.psi().negative())
    }

    /// The ate pairing of a Barreto-Lynn-Scott curve of degree 12. With a negative parameter the product is inverted; that
    /// is left out, because the inverse of one is one.
    fn run(miller: &mut Miller<Self, 12>) {
        miller.multiply(Self::X.into());
    }

    /// 3 (p^4 - p^2 + 1) / r is (x - 1)^2 (p + x) (p^2 + x^2 - 1) + 3 (Hayashida, Hayasaka and Teruya, "Efficient final
    /// exponentiation via cyclotomic structure for pairings over families of elliptic curves").
    fn hard_part(f: &Fp12<Self, 12>) -> Fp12<Self, 12> {
        // With the positive number: (x + 1)^2 (p - x).
        let mut power = *f;
        for _ in 0..2 {
            power = &power.cyclotomic_power(Self::X) * &power;
        }
        power = &power.frobenius(1) * &power.cyclotomic_power(Self::X).conjugate();
        let squared = power.cyclotomic_power(Self::X).cyclotomic_power(Self::X);
        power = &(&squared * &power.frobenius(2)) * &power.conjugate();
        &power * &(&f.cyclotomic_square() * f)
    }
}

/// A constant of arkworks.
pub const fn constant<C, P, T, const N: usize, const W: usize>(
    x: QuadExtField<Fp2ConfigWrapper<P>>,
) -> Fp2<C, W>
where
    P: Fp2Config<Fp = Fp<MontBackend<T, N>, N>>,
    T: MontConfig<N>,
{
    Fp2::new([words(&plain(&x.c0)), words(&plain(&x.c1))])
}

/// Takes a number out of Montgomery's form (algorithm REDC).
pub const fn plain<T: MontConfig<N>, const N: usize>(x: &Fp<MontBackend<T, N>, N>) -> BigInt<N> {
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
    BigInt(limbs)
}

/// The words of limbs, of which there are `W`.
pub const fn words<const N: usize, const W: usize>(number: &BigInt<N>) -> [u32; W] {
    let mut words = [0; W];
    let mut i = 0;
    while i < W {
        words[i] = (number.0[i / 2] >> (32 * (i % 2))) as u32;
        i += 1;
    }
    words
}

/// The square of a number, in twice as many words.
pub const fn square<const W: usize, const D: usize>(number: &[u32; W]) -> [u32; D] {
    assert!(D == 2 * W);
    let mut square = [0; D];
    let mut i = 0;
    while i < W {
        let (mut carry, mut j) = (0, 0);
        while j < W {
            let sum = number[i] as u64 * number[j] as u64 + square[i + j] as u64 + carry;
            square[i + j] = sum as u32;
            carry = sum >> 32;
            j += 1;
        }
        square[i + W] = carry as u32;
        i += 1;
    }
    square
}

/// An element of F_p^2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp2<C, const W: usize> {
    pub words: Words<W>,
    curve: core::marker::PhantomData<C>,
}

impl<C, const W: usize> Fp2<C, W> {
    pub const ZERO: Self = Self::new([[0; W]; 2]);
    pub const ONE: Self = {
        let mut words = [[0; W]; 2];
        words[0][0] = 1;
        Self::new(words)
    };

    /// Of reduced numbers.
    pub const fn new(words: Words<W>) -> Self {
        Self { words, curve: core::marker::PhantomData }
    }
}

impl<C: Curve<W>, const W: usize> Fp2<C, W> {
    /// Room for a result. The compiler does not know what is in it, so that it stores words instead of calling a function
    /// that fills bytes.
    #[inline(always)]
    fn room() -> Self {
        Self::new([[black_box(0); W]; 2])
    }

    pub fn is_zero(&self) -> bool {
        self.words == [[0; W]; 2]
    }

    #[inline(always)]
    fn set_product(&mut self, a: &Self, b: &Self) {
        C::multiply(&a.words, &b.words, &mut self.words);
    }

    #[inline(always)]
    fn set_sum(&mut self, a: &Self, b: &Self) {
        C::add(&a.words, &b.words, &mut self.words);
    }

    #[inline(always)]
    fn set_difference(&mut self, a: &Self, b: &Self) {
        C::subtract(&a.words, &b.words, &mut self.words);
    }

    fn double(&self) -> Self {
        self + self
    }

    fn square(&self) -> Self {
        self * self
    }

    /// Raised to the prime.
    pub fn conjugate(&self) -> Self {
        let [real, imaginary] = self.words;
        &Self::new([real, [0; W]]) - &Self::new([[0; W], imaginary])
    }

    /// Panics if this is zero.
    fn inverse(&self) -> Self {
        let conjugate = self.conjugate();
        // The product of both has no imaginary part.
        let norm = self * &conjugate;
        let mut inverse = Self::ZERO;
        C::invert(&norm.words[0], &mut inverse.words[0]);
        &conjugate * &inverse
    }
}

impl<C: Curve<W>, const W: usize> Add for &Fp2<C, W> {
    type Output = Fp2<C, W>;

    #[inline(always)]
    fn add(self, other: Self) -> Fp2<C, W> {
        let mut sum = Fp2::room();
        sum.set_sum(self, other);
        sum
    }
}

impl<C: Curve<W>, const W: usize> Sub for &Fp2<C, W> {
    type Output = Fp2<C, W>;

    #[inline(always)]
    fn sub(self, other: Self) -> Fp2<C, W> {
        let mut difference = Fp2::room();
        difference.set_difference(self, other);
        difference
    }
}

impl<C: Curve<W>, const W: usize> Mul for &Fp2<C, W> {
    type Output = Fp2<C, W>;

    #[inline(always)]
    fn mul(self, other: Self) -> Fp2<C, W> {
        let mut product = Fp2::room();
        product.set_product(self, other);
        product
    }
}

impl<C: Curve<W>, const W: usize> Neg for &Fp2<C, W> {
    type Output = Fp2<C, W>;

    fn neg(self) -> Fp2<C, W> {
        &Fp2::ZERO - self
    }
}

/// Where sums of products are computed: no result may lie where an operand is.
struct Sums<C, const W: usize> {
    term: Fp2<C, W>,
    other: Fp2<C, W>,
}

impl<C: Curve<W>, const W: usize> Sums<C, W> {
    fn new() -> Self {
        Self { term: Fp2::room(), other: Fp2::room() }
    }

    /// The sum of the products of the pairs, of which there is at least one.
    fn of_products<'a>(
        &mut self,
        mut pairs: impl ExactSizeIterator<Item = (&'a Fp2<C, W>, &'a Fp2<C, W>)>,
        out: &mut Fp2<C, W>,
    ) {
        // Sums are computed here and there in turns, the last one in its place.
        let (mut sum, mut next) = match pairs.len() % 2 {
            1 => (out, &mut self.other),
            _ => (&mut self.other, out),
        };
        let Some((a, b)) = pairs.next() else { return };
        sum.set_product(a, b);
        for (a, b) in pairs {
            self.term.set_product(a, b);
            next.set_sum(sum, &self.term);
            mem::swap(&mut sum, &mut next);
        }
    }
}

/// A point of the twist, in affine coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point<C, const W: usize> {
    pub x: Fp2<C, W>,
    pub y: Fp2<C, W>,
}

/// A point of the twist or infinity.
pub type Twisted<C, const W: usize> = Option<Point<C, W>>;

impl<C: Curve<W>, const W: usize> Point<C, W> {
    pub fn is_on_curve(&self) -> bool {
        self.y.square() == &(&self.x.square() * &self.x) + &C::TWIST_B
    }

    /// Raised to the prime between untwisting and twisting.
    pub fn psi(&self) -> Self {
        let [x, y] = C::PSI;
        Self { x: &self.x.conjugate() * &x, y: &self.y.conjugate() * &y }
    }

    pub fn negative(&self) -> Self {
        Self { x: self.x, y: -&self.y }
    }

    /// Moves to the mirror image of the third point of the curve on the line through this point with the slope in `line`,
    /// which also goes through a point with this `x`: to the sum of both.
    fn move_along(&mut self, line: &mut Line<C, W>, x: &Fp2<C, W>) {
        let (mut term, mut difference) = (Fp2::room(), Fp2::room());
        term.set_product(&line.slope, &self.x);
        line.offset.set_difference(&term, &self.y);
        term.set_product(&line.slope, &line.slope);
        difference.set_difference(&term, &self.x);
        self.x.set_difference(&difference, x);
        term.set_product(&line.slope, &self.x);
        self.y.set_difference(&line.offset, &term);
    }

    /// Doubles this point, along its tangent.
    ///
    /// Panics if the tangent is vertical.
    fn double(&mut self, line: &mut Line<C, W>) {
        let square = self.x.square();
        line.slope.set_product(&(&square.double() + &square), &self.y.double().inverse());
        let x = self.x;
        self.move_along(line, &x);
    }

    /// Adds `other`, along the line through both.
    ///
    /// Panics if the points are equal or opposite.
    fn add(&mut self, other: &Self, line: &mut Line<C, W>) {
        let run = &other.x - &self.x;
        line.slope.set_product(&(&other.y - &self.y), &run.inverse());
        self.move_along(line, &other.x);
    }
}

/// Twice a point.
pub fn double<C: Curve<W>, const W: usize>(point: &Twisted<C, W>) -> Twisted<C, W> {
    let mut twice = point.filter(|point| !point.y.is_zero())?;
    twice.double(&mut Line::room());
    Some(twice)
}

/// The sum of two points.
pub fn add<C: Curve<W>, const W: usize>(a: &Twisted<C, W>, b: &Twisted<C, W>) -> Twisted<C, W> {
    match (a, b) {
        (a, None) => *a,
        (None, b) => *b,
        (Some(one), Some(other)) if one.x != other.x => {
            let mut sum = *one;
            sum.add(other, &mut Line::room());
            Some(sum)
        }
        (Some(one), Some(other)) if one.y == other.y => double(a),
        _ => None,
    }
}

/// A multiple of a point.
pub fn multiply<C: Curve<W>, const W: usize>(point: &Twisted<C, W>, by: u64) -> Twisted<C, W> {
    let mut product = None;
    for bit in (0..u64::BITS - by.leading_zeros()).rev() {
        product = double(&product);
        if by >> bit & 1 == 1 {
            product = add(&product, point);
        }
    }
    product
}

/// A line on the twist: y = slope x - offset.
#[derive(Clone, Copy, Debug)]
struct Line<C, const W: usize> {
    slope: Fp2<C, W>,
    offset: Fp2<C, W>,
}

impl<C: Curve<W>, const W: usize> Line<C, W> {
    fn room() -> Self {
        Self { slope: Fp2::room(), offset: Fp2::room() }
    }
}

/// An element of F_p^12: the coefficients of the powers of w.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fp12<C, const W: usize>(pub [Fp2<C, W>; 6]);

impl<C: Curve<W>, const W: usize> Fp12<C, W> {
    pub const ONE: Self = {
        let mut coefficients = [Fp2::ZERO; 6];
        coefficients[0] = Fp2::ONE;
        Self(coefficients)
    };

    fn room() -> Self {
        Self(array::from_fn(|_| Fp2::room()))
    }

    fn square(&self) -> Self {
        let (mut sums, mut square, mut twice) = (Sums::new(), Self::room(), Self::room());
        let (mut low, mut high, mut wrapped) = (Fp2::room(), Fp2::room(), Fp2::room());
        for (twice, coefficient) in iter::zip(&mut twice.0, &self.0) {
            twice.set_sum(coefficient, coefficient);
        }
        // Coefficients whose powers add up to this one.
        let pairs = |power: usize| {
            (power.saturating_sub(5)..power / 2 + 1).map(move |i| match power - i {
                j if i == j => (i, None),
                j => (i, Some(j)),
            })
        };
        let pairs = |power: usize| {
            pairs(power).map(|(i, j)| (&self.0[i], j.map_or(&self.0[i], |j| &twice.0[j])))
        };
        for (power, out) in square.0.iter_mut().enumerate() {
            if power == 5 {
                sums.of_products(pairs(power), out);
            } else {
                sums.of_products(pairs(power), &mut low);
                sums.of_products(pairs(power + 6), &mut high);
                wrapped.set_product(&high, &C::NONRESIDUE);
                out.set_sum(&low, &wrapped);
            }
        }
        square
    }

    /// The square of an element whose order divides p^4 - p^2 + 1 (Granger and Scott, "Faster squaring in the cyclotomic
    /// subgroup of sixth degree extensions").
    fn cyclotomic_square(&self) -> Self {
        let (mut sums, mut out) = (Sums::new(), Self::room());
        let (mut half, mut square, mut wrapped) = (Fp2::room(), Fp2::room(), Fp2::room());
        // With the square a + b w^3 of each pair of coefficients: 3 a - 2 times, or 3 b + 2 times, the one in its place.
        for (i, [real, imaginary]) in [[0, 3], [2, 5], [4, 1]].into_iter().enumerate() {
            let (a, b) = (&self.0[i], &self.0[i + 3]);
            sums.term.set_product(b, b);
            wrapped.set_product(&sums.term, &C::NONRESIDUE);
            sums.term.set_product(a, a);
            square.set_sum(&sums.term, &wrapped);
            half.set_difference(&square, &self.0[real]);
            sums.term.set_sum(&half, &half);
            out.0[real].set_sum(&sums.term, &square);

            half.set_product(a, b);
            square.set_sum(&half, &half);
            if imaginary == 1 {
                wrapped.set_product(&square, &C::NONRESIDUE);
                mem::swap(&mut square, &mut wrapped);
            }
            half.set_sum(&square, &self.0[imaginary]);
            sums.term.set_sum(&half, &half);
            out.0[imaginary].set_sum(&sums.term, &square);
        }
        out
    }

    /// Raised to p^6: the inverse of an element whose order divides p^6 + 1.
    fn conjugate(&self) -> Self {
        let [a0, a1, a2, a3, a4, a5] = &self.0;
        Self([*a0, -a1, *a2, -a3, *a4, -a5])
    }

    /// Raised to p^`k`, for `k` from 1 to 3.
    fn frobenius(&self, k: usize) -> Self {
        let base = C::FROBENIUS[k - 1];
        let mut factor = Fp2::ONE;
        Self(self.0.map(|coefficient| {
            let coefficient = if k % 2 == 1 { coefficient.conjugate() } else { coefficient };
            let image = &coefficient * &factor;
            factor = &factor * &base;
            image
        }))
    }

    /// Panics if this is zero.
    fn inverse(&self) -> Self {
        // The product of all conjugates over F_p^2 lies there.
        let mut conjugate = self.frobenius(2);
        let mut others = conjugate;
        for _ in 0..4 {
            conjugate = conjugate.frobenius(2);
            others = &others * &conjugate;
        }
        let inverse = (&others * self).0[0].inverse();
        Self(others.0.map(|coefficient| &coefficient * &inverse))
    }

    /// Raised to (p^6 - 1) (p^2 + 1), the easy part of the final exponentiation: what comes out has an order that divides
    /// p^4 - p^2 + 1.
    pub fn cyclotomic(&self) -> Self {
        let unitary = &self.conjugate() * &self.inverse();
        &unitary.frobenius(2) * &unitary
    }

    /// Raised to a number that is not zero, if the order divides p^4 - p^2 + 1.
    fn cyclotomic_power(&self, by: u64) -> Self {
        let inverse = self.conjugate();
        let mut power = *self;
        for digit in non_adjacent(by.into()).skip(1) {
            power = power.cyclotomic_square();
            match digit {
                1 => power = &power * self,
                -1 => power = &power * &inverse,
                _ => {}
            }
        }
        power
    }

    /// The product with a line through untwisted points, evaluated at a point of the first group: times a number of F_p^2
    /// or w^3, which no final exponentiation sees.
    fn times_line(&self, line: &Line<C, W>, at: &Evaluation<C, W>) -> Self {
        let (slope, offset) = (&line.slope * &at.slope_factor, &line.offset * &at.offset_factor);
        let wrapped = [&slope * &C::NONRESIDUE, &offset * &C::NONRESIDUE];
        // y - slope x w + offset w^3, divided by y; or y w^3 - slope x w^2 + offset.
        let (shift, slope_shift, offset_shift) = if C::IS_TYPE_D { (0, 1, 3) } else { (3, 2, 0) };
        let (mut term, mut sum) = (Fp2::room(), Fp2::room());
        let mut product = Self::room();
        for (power, out) in product.0.iter_mut().enumerate() {
            let [one, by_slope, by_offset] = [shift, slope_shift, offset_shift].map(|shift| {
                let wraps = power < shift;
                (wraps, &self.0[if wraps { power + 6 - shift } else { power - shift }])
            });
            term.set_product(by_slope.1, if by_slope.0 { &wrapped[0] } else { &slope });
            if one.0 {
                out.set_product(one.1, &C::NONRESIDUE);
                sum.set_sum(out, &term);
            } else {
                sum.set_sum(one.1, &term);
            }
            term.set_product(by_offset.1, if by_offset.0 { &wrapped[1] } else { &offset });
            out.set_sum(&sum, &term);
        }
        product
    }
}

impl<C: Curve<W>, const W: usize> Mul for &Fp12<C, W> {
    type Output = Fp12<C, W>;

    fn mul(self, other: Self) -> Fp12<C, W> {
        let (mut sums, mut product, mut wrapped) = (Sums::new(), Fp12::room(), Fp12::room());
        for (wrapped, coefficient) in iter::zip(&mut wrapped.0, &other.0) {
            wrapped.set_product(coefficient, &C::NONRESIDUE);
        }
        for (power, out) in product.0.iter_mut().enumerate() {
            let pairs = self.0.iter().enumerate().map(|(i, a)| match power.checked_sub(i) {
                Some(j) => (a, &other.0[j]),
                None => (a, &wrapped.0[power + 6 - i]),
            });
            sums.of_products(pairs, out);
        }
        product
    }
}

/// Where lines are evaluated: of a point (x, y) of the first group, -x / y and 1 / y.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation<C, const W: usize> {
    slope_factor: Fp2<C, W>,
    offset_factor: Fp2<C, W>,
}

/// The digits of a number that is not zero in its non-adjacent form, the most significant first: -1, 0 or 1.
fn non_adjacent(number: u128) -> impl Iterator<Item = i8> {
    // The bits of three times the number, minus those of the number, without the lowest.
    let three = 3 * number;
    (1..u128::BITS - three.leading_zeros())
        .rev()
        .map(move |bit| (three >> bit & 1) as i8 - (number >> bit & 1) as i8)
}

/// A factor of a product of pairings.
#[derive(Clone, Copy, Debug)]
struct Factor<C, const W: usize> {
    at: Evaluation<C, W>,
    two: Point<C, W>,
    multiple: Point<C, W>,
}

/// A product of pairings that is being computed.
#[derive(Clone, Debug)]
pub struct Miller<C, const W: usize> {
    factors: Vec<Factor<C, W>>,
    line: Line<C, W>,
    product: Fp12<C, W>,
}

impl<C: Curve<W>, const W: usize> Miller<C, W> {
    /// Of coordinates of points of the first group, whose order is not 2, and points of the second.
    fn new(pairs: impl IntoIterator<Item = ([[u32; W]; 2], Point<C, W>)>) -> Self {
        let factor = |([x, y], two): ([[u32; W]; 2], _)| {
            let mut offset_factor = Fp2::ZERO;
            C::invert(&y, &mut offset_factor.words[0]);
            let slope_factor = -&(&Fp2::new([x, [0; W]]) * &offset_factor);
            Factor { at: Evaluation { slope_factor, offset_factor }, two, multiple: two }
        };
        let factors = pairs.into_iter().map(factor).collect();
        Self { factors, line: Line::room(), product: Fp12::ONE }
    }

    fn double(&mut self) {
        self.product = self.product.square();
        for Factor { at, multiple, .. } in &mut self.factors {
            multiple.double(&mut self.line);
            self.product = self.product.times_line(&self.line, at);
        }
    }

    fn add(&mut self, image: impl Fn(&Point<C, W>) -> Point<C, W>) {
        for Factor { at, two, multiple } in &mut self.factors {
            multiple.add(&image(two), &mut self.line);
            self.product = self.product.times_line(&self.line, at);
        }
    }

    /// The loop over the digits of a multiplier.
    fn multiply(&mut self, by: u128) {
        for digit in non_adjacent(by).skip(1) {
            self.double();
            match digit {
                1 => self.add(|two| *two),
                -1 => self.add(Point::negative),
                _ => {}
            }
        }
    }
}

/// Whether the product of the pairings is one. The pairs are coordinates of points of the first group, not infinity, and
/// points of the second.
pub fn product_is_one<C: Curve<W>, const W: usize>(
    pairs: impl IntoIterator<Item = ([[u32; W]; 2], Point<C, W>)>,
) -> bool {
    let mut miller = Miller::new(pairs);
    C::run(&mut miller);
    C::hard_part(&miller.product.cyclotomic()) == Fp12::ONE
}
