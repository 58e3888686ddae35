//! The statement: everything a verifier learns from a proof, and all that it may rely on.
//!
//! Fourteen ABI words, so that a contract decodes it with `abi.decode`. Fields which no milestone
//! fills yet are zero, and a statement in which they are not is refused.

use crate::Error;
use alloc::vec::Vec;
use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{SolValue, sol};

/// The layout of [`Statement`] that this crate reads and writes.
pub const VERSION: u32 = 1;

/// Length of an encoded statement in bytes: fourteen ABI words.
pub const ENCODED_LEN: usize = 14 * 32;

mod abi {
    super::sol! {
        struct Statement {
            uint32 version;
            bytes32 chainConfigDigest;
            bytes32 parentHash;
            bytes32 lastHash;
            uint64 firstNumber;
            uint64 lastNumber;
            bytes32 preStateRoot;
            bytes32 postStateRoot;
            bytes32 depositsDigest;
            uint64 depositsCount;
            bytes32 messagesRoot;
            uint64 messagesCount;
            bytes32 dataCommitment;
            address beneficiary;
        }
    }
}

/// "Under this chain config, the blocks from `first_number` to `last_number`, on top of
/// `parent_hash`, are valid and end in `last_hash`."
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Statement {
    /// Layout version, [`VERSION`].
    pub version: u32,
    /// [`crate::ChainConfig::digest`] of the rules under which the blocks ran.
    pub chain_config_digest: B256,
    /// Hash of the block before the first one.
    pub parent_hash: B256,
    /// Hash of the last block.
    pub last_hash: B256,
    /// Number of the first block.
    pub first_number: u64,
    /// Number of the last block, at least `first_number`.
    pub last_number: u64,
    /// State root before the first block.
    pub pre_state_root: B256,
    /// State root after the last block.
    pub post_state_root: B256,
    /// Digest of the L1 to L2 deposits consumed; zero until there is a bridge.
    pub deposits_digest: B256,
    /// Number of L1 to L2 deposits consumed; zero until there is a bridge.
    pub deposits_count: u64,
    /// Merkle root of the L2 to L1 messages; zero until there is a bridge.
    pub messages_root: B256,
    /// Number of L2 to L1 messages; zero until there is a bridge.
    pub messages_count: u64,
    /// Commitment to the published data; zero means validium.
    pub data_commitment: B256,
    /// Who may claim the reward of a proof; zero means nobody.
    pub beneficiary: Address,
}

impl Statement {
    /// The public values of a proof: [`ENCODED_LEN`] bytes.
    pub fn abi_encode(&self) -> Vec<u8> {
        abi::Statement {
            version: self.version,
            chainConfigDigest: self.chain_config_digest,
            parentHash: self.parent_hash,
            lastHash: self.last_hash,
            firstNumber: self.first_number,
            lastNumber: self.last_number,
            preStateRoot: self.pre_state_root,
            postStateRoot: self.post_state_root,
            depositsDigest: self.deposits_digest,
            depositsCount: self.deposits_count,
            messagesRoot: self.messages_root,
            messagesCount: self.messages_count,
            dataCommitment: self.data_commitment,
            beneficiary: self.beneficiary,
        }
        .abi_encode()
    }

    /// Reads public values.
    ///
    /// # Errors
    /// [`Error::Statement`] if the bytes are not the canonical encoding of a statement of this
    /// [`VERSION`], if the block numbers are out of order, or if a field that must be zero is not.
    pub fn abi_decode(bytes: &[u8]) -> Result<Self, Error> {
        let abi = abi::Statement::abi_decode_validate(bytes)
            .map_err(|_| Error::Statement("not an ABI-encoded statement"))?;
        let statement = Self {
            version: abi.version,
            chain_config_digest: abi.chainConfigDigest,
            parent_hash: abi.parentHash,
            last_hash: abi.lastHash,
            first_number: abi.firstNumber,
            last_number: abi.lastNumber,
            pre_state_root: abi.preStateRoot,
            post_state_root: abi.postStateRoot,
            deposits_digest: abi.depositsDigest,
            deposits_count: abi.depositsCount,
            messages_root: abi.messagesRoot,
            messages_count: abi.messagesCount,
            data_commitment: abi.dataCommitment,
            beneficiary: abi.beneficiary,
        };
        if statement.version != VERSION {
            return Err(Error::Statement("unknown statement version"));
        }
        if statement.first_number > statement.last_number {
            return Err(Error::Statement("first block after last block"));
        }
        // SOUNDNESS: nobody may read a meaning into a field that the program does not compute.
        let unfilled = statement.deposits_digest.is_zero()
            && statement.deposits_count == 0
            && statement.messages_root.is_zero()
            && statement.messages_count == 0
            && statement.data_commitment.is_zero()
            && statement.beneficiary.is_zero();
        if !unfilled {
            return Err(Error::Statement("a reserved field is not zero"));
        }
        // SOUNDNESS: one statement has one encoding.
        if bytes != statement.abi_encode() {
            return Err(Error::Statement("not the canonical encoding"));
        }
        Ok(statement)
    }

    /// Keccak-256 of the encoded statement.
    pub fn digest(&self) -> B256 {
        keccak256(self.abi_encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{b256, hex};

    fn sample() -> Statement {
        Statement {
            version: VERSION,
            chain_config_digest: B256::repeat_byte(0x11),
            parent_hash: B256::repeat_byte(0x22),
            last_hash: B256::repeat_byte(0x33),
            first_number: 7,
            last_number: 9,
            pre_state_root: B256::repeat_byte(0x44),
            post_state_root: B256::repeat_byte(0x55),
            deposits_digest: B256::ZERO,
            deposits_count: 0,
            messages_root: B256::ZERO,
            messages_count: 0,
            data_commitment: B256::ZERO,
            beneficiary: Address::ZERO,
        }
    }

    /// The golden vector: a Solidity `abi.encode` of the same struct must give these bytes.
    #[test]
    fn the_encoding_is_the_golden_one() {
        let word = |n: u64| B256::from(alloy_primitives::U256::from(n));
        let zero = B256::ZERO;
        let golden: Vec<u8> = [
            word(1),
            B256::repeat_byte(0x11),
            B256::repeat_byte(0x22),
            B256::repeat_byte(0x33),
            word(7),
            word(9),
            B256::repeat_byte(0x44),
            B256::repeat_byte(0x55),
            zero,
            zero,
            zero,
            zero,
            zero,
            zero,
        ]
        .concat();
        let encoded = sample().abi_encode();
        assert_eq!(hex::encode(&encoded), hex::encode(golden));
        assert_eq!(encoded.len(), ENCODED_LEN);
        assert_eq!(
            sample().digest(),
            b256!("a936232ffe1f10113aa24a8bdc866c3377fd57825b1497b6419b8f184d75bd7a")
        );
    }

    #[test]
    fn a_statement_survives_its_encoding() {
        assert_eq!(Statement::abi_decode(&sample().abi_encode()).unwrap(), sample());
    }

    #[test]
    fn reserved_fields_and_strange_encodings_are_refused() {
        let good = sample().abi_encode();
        for word in [0, 8, 9, 10, 11, 12, 13] {
            let mut bad = good.clone();
            bad[word * 32 + 31] ^= 1;
            assert!(Statement::abi_decode(&bad).is_err(), "word {word}");
        }
        for word in [0, 4, 5, 9, 11, 13] {
            let mut bad = good.clone();
            bad[word * 32] = 1; // above the type's width
            assert!(Statement::abi_decode(&bad).is_err(), "width of word {word}");
        }
        assert!(Statement::abi_decode(&good[..good.len() - 1]).is_err());
        assert!(Statement::abi_decode(&[good.as_slice(), &[0]].concat()).is_err());
        assert!(Statement::abi_decode(&[good.as_slice(), &[0; 32]].concat()).is_err());
        let mut swapped = sample();
        (swapped.first_number, swapped.last_number) = (9, 7);
        assert!(Statement::abi_decode(&swapped.abi_encode()).is_err());
    }
}
