//! EIP-197's pairing check: the first group by `risc0-crypto`, the rest by [`crate::pairing`].

use revm::precompile::PrecompileHalt;
use risc0_bigint2::field::{
    extfield_deg2_add_256, extfield_deg2_sub_256, extfield_xxone_mul_256, modinv_256,
};
use risc0_crypto::BigInt;
use risc0_crypto::curves::bn254::{Affine, Fq, FqConfig};
use risc0_crypto::field::FieldConfig as _;

use crate::pairing::{Arithmetic, Bn254, Curve as _, Fp2, Point, Words, product_is_one, square};

static MODULUS: [u32; 8] = FqConfig::MODULUS.0;
static MODULUS_SQUARED: [u32; 16] = square(&FqConfig::MODULUS.0);

/// SOUNDNESS: the library's functions check that what the circuit gives is reduced.
impl Arithmetic<8> for Bn254 {
    fn multiply(a: &Words<8>, b: &Words<8>, product: &mut Words<8>) {
        extfield_xxone_mul_256(a, b, &MODULUS, &MODULUS_SQUARED, product);
    }

    fn add(a: &Words<8>, b: &Words<8>, sum: &mut Words<8>) {
        extfield_deg2_add_256(a, b, &MODULUS, sum);
    }

    fn subtract(a: &Words<8>, b: &Words<8>, difference: &mut Words<8>) {
        extfield_deg2_sub_256(a, b, &MODULUS, difference);
    }

    fn invert(a: &[u32; 8], inverse: &mut [u32; 8]) {
        modinv_256(a, &MODULUS, inverse);
    }
}

/// Whether the product of the pairings is one. Points are as EIP-197 encodes them.
pub fn pairing_check(points: &[(&[u8], &[u8])]) -> Result<bool, PrecompileHalt> {
    let mut pairs = Vec::new();
    for (one, two) in points {
        let (one, two) = (decode(one)?, decode2(two)?);
        // Paired with infinity, everything is one.
        if let (Some((x, y)), Some(two)) = (one.xy(), two) {
            pairs.push(([x.as_bigint().0, y.as_bigint().0], two));
        }
    }
    Ok(product_is_one(pairs))
}

fn coordinates<const N: usize>(bytes: &[u8]) -> Result<[Fq; N], PrecompileHalt> {
    let mut all = [Fq::ZERO; N];
    for (coordinate, bytes) in all.iter_mut().zip(bytes.chunks_exact(32)) {
        *coordinate = Fq::from_bigint(BigInt::from_be_bytes(bytes))
            .ok_or(PrecompileHalt::Bn254FieldPointNotAMember)?;
    }
    Ok(all)
}

/// SOUNDNESS: a point is infinity, which is written as zeros, or it is on the curve. All of the curve is the group.
fn decode(bytes: &[u8]) -> Result<Affine, PrecompileHalt> {
    let [x, y] = coordinates(bytes)?;
    if x.is_zero() && y.is_zero() {
        return Ok(Affine::IDENTITY);
    }
    Affine::new(x, y).ok_or(PrecompileHalt::Bn254AffineGFailedToCreate)
}

/// SOUNDNESS: a point is infinity, which is written as zeros, or it is on the twist and in the group.
fn decode2(bytes: &[u8]) -> Result<Option<Point<Bn254, 8>>, PrecompileHalt> {
    // A coordinate's imaginary part comes first.
    let [x1, x0, y1, y0] = coordinates(bytes)?.map(|number: Fq| number.as_bigint().0);
    let point = Point { x: Fp2::new([x0, x1]), y: Fp2::new([y0, y1]) };
    if point.x.is_zero() && point.y.is_zero() {
        return Ok(None);
    }
    match point.is_on_curve() && Bn254::is_in_group(&point) {
        true => Ok(Some(point)),
        false => Err(PrecompileHalt::Bn254AffineGFailedToCreate),
    }
}
