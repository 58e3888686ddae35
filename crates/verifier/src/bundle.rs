//! Proofs of consecutive batches, to be folded into one: what the client of such a job gets.
//!
//! Nothing is verified by reading a bundle. Who folds verifies each proof, and who gets the folded proof verifies that one against
//! the statement that it computed itself.
//!
//! All numbers are little-endian:
//!
//! ```text
//! "L2BU"  version u8 = 1  members u32
//! each:   length of the public values u32, public values
//!         first and last link of the deposits [64]
//!         length of the proof u32, proof
//! ```

use crate::bytes::Bytes;
use crate::{VerifyError, check_public_values};

const MAGIC: &[u8; 4] = b"L2BU";
const VERSION: u8 = 1;

/// Maximum number of members.
pub const MAX_MEMBERS: usize = 1024;

/// The proof of a batch, to be folded with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// What the proof commits to.
    pub public_values: &'a [u8],
    /// The first and the last link of the batch's deposits; zero without a bridge.
    pub deposits: [[u8; 32]; 2],
    /// The proof.
    pub proof: &'a [u8],
}

/// The bytes of a bundle.
///
/// # Errors
/// [`VerifyError::TooLarge`] if a length has no encoding.
pub fn encode(members: &[Member<'_>]) -> Result<Vec<u8>, VerifyError> {
    let size = members.iter().map(|it| it.public_values.len() + 72 + it.proof.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(9 + size);
    bytes.extend(MAGIC);
    bytes.push(VERSION);
    put_length(&mut bytes, members.len())?;
    for Member { public_values, deposits, proof } in members {
        put_length(&mut bytes, public_values.len())?;
        bytes.extend(*public_values);
        bytes.extend(deposits.as_flattened());
        put_length(&mut bytes, proof.len())?;
        bytes.extend(*proof);
    }
    Ok(bytes)
}

fn put_length(bytes: &mut Vec<u8>, length: usize) -> Result<(), VerifyError> {
    let limit = u32::MAX as usize;
    let length = u32::try_from(length).map_err(|_| VerifyError::TooLarge {
        what: "bundle of proofs",
        size: length,
        limit,
    })?;
    bytes.extend(length.to_le_bytes());
    Ok(())
}

/// Reads the bytes of a bundle. What it returns borrows them, and takes little more memory than they do.
///
/// # Errors
/// [`VerifyError::Malformed`] or [`VerifyError::TooLarge`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Member<'_>>, VerifyError> {
    let mut bytes = Bytes::new(bytes);
    bytes.version(MAGIC, "not a bundle of proofs", VERSION)?;
    let count = bytes.length()?;
    if count > MAX_MEMBERS {
        let (what, limit) = ("number of proofs in the bundle", MAX_MEMBERS);
        return Err(VerifyError::TooLarge { what, size: count, limit });
    }
    let mut members = Vec::new();
    for _ in 0..count {
        let length = bytes.length()?;
        let public_values = bytes.take(length)?;
        check_public_values(public_values)?;
        let deposits = [bytes.array()?, bytes.array()?];
        let length = bytes.length()?;
        members.push(Member { public_values, deposits, proof: bytes.take(length)? });
    }
    if !bytes.is_empty() {
        return Err(bytes.malformed("bytes after the last proof"));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_and_nothing_else() {
        let one = Member { public_values: b"one", deposits: [[1; 32], [2; 32]], proof: b"proof" };
        let two = Member { public_values: b"", deposits: [[0; 32]; 2], proof: b"" };
        for members in [&[][..], &[one], &[one, two], &[two, one, one]] {
            let bytes = encode(members).unwrap();
            assert_eq!(decode(&bytes).unwrap(), members);
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
            }
            assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        }
        let mut other = encode(&[one]).unwrap();
        for at in 0..5 {
            other[at] ^= 1;
            assert!(decode(&other).is_err(), "byte {at}");
            other[at] ^= 1;
        }
    }

    #[test]
    fn a_number_that_nobody_sends_takes_no_memory() {
        for count in [1025, u32::MAX] {
            let bytes = [&MAGIC[..], &[VERSION], &count.to_le_bytes()].concat();
            assert!(matches!(decode(&bytes), Err(VerifyError::TooLarge { .. })), "{count}");
        }
        let long = [&MAGIC[..], &[VERSION], &1_u32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(decode(&long), Err(VerifyError::Malformed { .. })));
    }
}
