//! EIP-2537's operations in G1, with RISC Zero's big-integer circuit.

use revm::precompile::PrecompileHalt;
use revm::precompile::bls12_381::{G1Point, G1PointScalar};
use risc0_crypto::BigInt;
use risc0_crypto::curves::bls12_381::{Affine, Fq, FrConfig};
use risc0_crypto::field::UnverifiedFp;

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
