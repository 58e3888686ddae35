//! The statement: everything a verifier learns from a proof, and all that it may rely on.
//!
//! Fourteen ABI words, so that a contract decodes it with `abi.decode`. Fields that the program does not fill yet
//! are zero, and a statement in which they are not is refused.
//!
//! Version 2 binds the withdrawals of a chain with a bridge: see [`DepositsChain`].

use crate::Error;
use alloc::vec::Vec;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{SolValue, sol};

/// The layout of [`Statement`] that this crate reads and writes.
pub const VERSION: u32 = 2;

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
            uint64 lastTimestamp;
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
    /// [`DepositsChain::digest`] of the L1 to L2 deposits consumed; zero if the chain has no bridge, and never zero
    /// if it has one.
    pub deposits_digest: B256,
    /// Number of L1 to L2 deposits consumed, which are all withdrawals of all blocks; zero if the chain has no
    /// bridge.
    pub deposits_count: u64,
    /// Merkle root of the L2 to L1 messages; zero, because withdrawals are shown by storage proofs.
    pub messages_root: B256,
    /// Timestamp of the last block, in seconds.
    pub last_timestamp: u64,
    /// Commitment to the published data; zero means validium.
    pub data_commitment: B256,
    /// Who may claim the reward of a proof, as its prover's input says; zero means nobody.
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
            lastTimestamp: self.last_timestamp,
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
            last_timestamp: abi.lastTimestamp,
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
        if !statement.messages_root.is_zero() || !statement.data_commitment.is_zero() {
            return Err(Error::Statement("a reserved field is not zero"));
        }
        // SOUNDNESS: what is counted is digested as well.
        if statement.deposits_count != 0 && statement.deposits_digest.is_zero() {
            return Err(Error::Statement("deposits are counted, but not digested"));
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

/// The chain of hashes over a bridge's deposits, which L1 computes too.
///
/// A deposit is an EIP-4895 withdrawal of the L2 block that consumes it: it creates ether, so nothing but L1 can say
/// that it is right. Link `n + 1` is Keccak-256 of 76 bytes: link `n`, then the withdrawal's index, validator index,
/// address and amount in gwei, the numbers as eight bytes each, big-endian (Solidity's `abi.encodePacked`).
///
/// The host chooses the first link. A contract compares the [digest](Self::digest) with its own links, so a first
/// link that is not the contract's proves nothing to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositsChain {
    start: B256,
    link: B256,
    count: u64,
}

impl DepositsChain {
    /// The chain from this link on.
    pub const fn new(start: B256) -> Self {
        Self { start, link: start, count: 0 }
    }

    /// Adds a withdrawal of a block.
    pub fn push(&mut self, withdrawal: &Withdrawal) {
        let mut bytes = [0; 76];
        bytes[..32].copy_from_slice(self.link.as_slice());
        bytes[32..40].copy_from_slice(&withdrawal.index.to_be_bytes());
        bytes[40..48].copy_from_slice(&withdrawal.validator_index.to_be_bytes());
        bytes[48..68].copy_from_slice(withdrawal.address.as_slice());
        bytes[68..].copy_from_slice(&withdrawal.amount.to_be_bytes());
        self.link = keccak256(bytes);
        self.count += 1;
    }

    /// How many deposits were added.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The last link: the start of the next batch.
    pub const fn link(&self) -> B256 {
        self.link
    }

    /// Keccak-256 of the first link and the last one.
    pub fn digest(&self) -> B256 {
        keccak256([self.start.0, self.link.0].concat())
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
            deposits_digest: B256::repeat_byte(0x66),
            deposits_count: 3,
            messages_root: B256::ZERO,
            last_timestamp: 1_700_000_000,
            data_commitment: B256::ZERO,
            beneficiary: Address::repeat_byte(0x77),
        }
    }

    /// The golden vector: a Solidity `abi.encode` of the same struct must give these bytes.
    #[test]
    fn the_encoding_is_the_golden_one() {
        let word = |n: u64| B256::from(alloy_primitives::U256::from(n));
        let zero = B256::ZERO;
        let golden: Vec<u8> = [
            word(2),
            B256::repeat_byte(0x11),
            B256::repeat_byte(0x22),
            B256::repeat_byte(0x33),
            word(7),
            word(9),
            B256::repeat_byte(0x44),
            B256::repeat_byte(0x55),
            B256::repeat_byte(0x66),
            word(3),
            zero,
            word(1_700_000_000),
            zero,
            Address::repeat_byte(0x77).into_word(),
        ]
        .concat();
        let encoded = sample().abi_encode();
        assert_eq!(hex::encode(&encoded), hex::encode(golden));
        assert_eq!(encoded.len(), ENCODED_LEN);
        assert_eq!(
            sample().digest(),
            b256!("2db603b0a2d7917aa1f130d2108d20008a3a45542e9ec1bdd85d2a016d61d8b3")
        );
    }

    #[test]
    fn a_statement_survives_its_encoding() {
        assert_eq!(Statement::abi_decode(&sample().abi_encode()).unwrap(), sample());
    }

    #[test]
    fn reserved_fields_and_strange_encodings_are_refused() {
        let good = sample().abi_encode();
        for word in [0, 10, 12] {
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
        let mut uncommitted = sample();
        uncommitted.deposits_digest = B256::ZERO;
        assert!(Statement::abi_decode(&uncommitted.abi_encode()).is_err());
        let mut swapped = sample();
        (swapped.first_number, swapped.last_number) = (9, 7);
        assert!(Statement::abi_decode(&swapped.abi_encode()).is_err());
    }

    /// The golden vector of the chain of deposits, the same in Solidity (contracts/test).
    #[test]
    fn a_chain_of_deposits_is_the_golden_one() {
        let mut chain = DepositsChain::new(B256::repeat_byte(0x0c));
        let empty = chain.digest();
        for index in 5..8 {
            chain.push(&Withdrawal {
                index,
                validator_index: 0,
                address: Address::repeat_byte(0xd0 + u8::try_from(index).unwrap()),
                amount: 1_000_000_000 * index,
            });
        }
        assert_eq!(chain.count(), 3);
        assert_eq!(
            (empty, chain.link(), chain.digest()),
            (
                b256!("c4b2e8fea28e6536dd80a0d79cc6efc65da549bfa9fbc7e6f243174f9be77ab9"),
                b256!("5d519dd3da84c753db30ad8eee647b54c9ffe4d85921d5242c42ebe6cdd10f95"),
                b256!("d6e405cbdb6e90b7b9fac4f3db76cd5b88e9a65d8914fdd983b02caa3128eaf4")
            )
        );
    }

    #[test]
    fn every_field_and_the_order_of_deposits_move_the_digest() {
        let base = Withdrawal { index: 1, validator_index: 2, address: Address::ZERO, amount: 3 };
        let digest = |start, deposits: &[Withdrawal]| {
            let mut chain = DepositsChain::new(start);
            deposits.iter().for_each(|deposit| chain.push(deposit));
            chain.digest()
        };
        let other = Withdrawal { amount: 4, ..base };
        let all = [
            digest(B256::ZERO, &[]),
            digest(B256::repeat_byte(1), &[]),
            digest(B256::ZERO, &[base]),
            digest(B256::repeat_byte(1), &[base]),
            digest(B256::ZERO, &[Withdrawal { index: 0, ..base }]),
            digest(B256::ZERO, &[Withdrawal { validator_index: 0, ..base }]),
            digest(B256::ZERO, &[Withdrawal { address: Address::repeat_byte(1), ..base }]),
            digest(B256::ZERO, &[other]),
            digest(B256::ZERO, &[base, base]),
            digest(B256::ZERO, &[base, other]),
            digest(B256::ZERO, &[other, base]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!one.is_zero());
            assert!(all[index + 1..].iter().all(|other| one != other), "digest {index}");
        }
    }
}
