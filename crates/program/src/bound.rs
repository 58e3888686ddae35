//! The domain of the program: what it decides, and what it refuses to decide.
//!
//! A prover invents everything that the program reads: the chain config, the parent's header with its gas limit, the
//! state with its balances. Values that no chain has, and that do not fit 32 bits or a guest's memory, are refused
//! here, each with an error of its own, natively and in a guest alike. docs/soundness.md says what each bound makes
//! safe.

use revm::interpreter::InstructionResult;

/// Maximum length of an encoded input, in bytes.
pub const MAX_INPUT: usize = 1 << 29;
/// Maximum number of ancestors' headers: as far back as `BLOCKHASH` reaches.
pub const MAX_HEADERS: usize = 256;
/// Maximum number of blocks in one input.
pub const MAX_BLOCKS: usize = 1 << 14;
/// Maximum number of transactions in one block.
pub const MAX_TRANSACTIONS: usize = 1 << 19;
/// Maximum gas limit with which a transaction's memory cannot reach a bound.
///
/// No chain has transactions with more gas, and from Osaka on none can have (EIP-7825); tests and made-up chains do.
pub const ORDINARY_GAS: u64 = 1 << 30;
/// Maximum EVM memory, in bytes, of all frames of a transaction at once, if it has at most [`ORDINARY_GAS`].
///
/// Such a transaction cannot pay for more, so this refuses nothing. Memory grows by doubling: a buffer of this size
/// and its successor together take at most 1.5 GiB.
pub const MAX_MEMORY: u64 = (1 << 29) - 32;
/// Maximum EVM memory, in bytes, of all frames at once of a transaction with more gas.
pub const MAX_EXTRAORDINARY_MEMORY: u64 = 1 << 30;
/// Maximum EVM memory, in bytes, of one frame of such a transaction, and the longest operand of its modular
/// exponentiations.
pub const MAX_EXTRAORDINARY_FRAME: u64 = 1 << 26;
/// Bound of base fees, in wei: below it, the next base fee fits 64 bits.
pub const MAX_BASE_FEE: u64 = 1 << 63;

/// A bound of the program's domain that the input exceeds.
///
/// The blocks may be valid or invalid: the program makes no statement about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "std", derive(strum::VariantNames))]
#[non_exhaustive]
pub enum Bound {
    /// The input is too long.
    #[error("the input has {len} bytes, at most {MAX_INPUT} are supported: use fewer blocks")]
    Input {
        /// Its length in bytes.
        len: usize,
    },
    /// Too many headers of ancestors.
    #[error("the input has {count} headers of ancestors, at most {MAX_HEADERS} are of use")]
    Headers {
        /// How many there are.
        count: usize,
    },
    /// Too many blocks.
    #[error("the input has {count} blocks, at most {MAX_BLOCKS} are supported: use fewer blocks")]
    Blocks {
        /// How many there are.
        count: usize,
    },
    /// A block has too many transactions.
    #[error("a block has more than {MAX_TRANSACTIONS} transactions")]
    Transactions,
    /// A transaction with more than [`ORDINARY_GAS`] may be able to pay for more EVM memory than there is.
    #[error(
        "a transaction of {gas} gas asks for more than {MAX_EXTRAORDINARY_FRAME} bytes of memory in a frame, or \
         {MAX_EXTRAORDINARY_MEMORY} in all: at most {ORDINARY_GAS} gas are fully supported"
    )]
    Memory {
        /// The transaction's gas limit.
        gas: u64,
    },
    /// Balances add up to 2^256 wei or more.
    #[error("a balance would reach 2^256 wei")]
    Ether,
    /// The base fee is [`MAX_BASE_FEE`] or more.
    #[error("a base fee is {base_fee} wei, at least {MAX_BASE_FEE}")]
    BaseFee {
        /// The base fee, in wei.
        base_fee: u64,
    },
    /// A blob fee that does not fit 128 bits.
    #[error("the excess blob gas {excess} makes a fee of 2^128 wei or more")]
    BlobFee {
        /// Excess blob gas of the block.
        excess: u64,
    },
    /// A guest's heap may be too small for the input.
    #[error(
        "the input may take {bytes} bytes of a guest's heap, which has {limit}: use fewer blocks"
    )]
    Heap {
        /// The most bytes that the input may take.
        bytes: u64,
        /// The bytes that a guest has.
        limit: u64,
    },
}

/// Whether a frame that ended with `result` may have been able to pay for more memory than [`extraordinary_memory`].
/// It started with `gas_limit`, and the frames below it have `below` bytes of memory.
///
/// revm refuses to grow its memory beyond a limit before it checks the gas, and refuses operands that are larger than
/// a machine word without computing what they cost. It reports this under several names, all of which mean "out of
/// gas" unless the frame had the gas.
pub(crate) fn may_exceed_memory(result: InstructionResult, gas_limit: u64, below: usize) -> bool {
    use InstructionResult::{
        CreateInitCodeSizeLimit, InvalidOperandOOG, MemoryLimitOOG, OutOfGas, OutOfOffset,
    };
    matches!(
        result,
        MemoryLimitOOG | InvalidOperandOOG | OutOfGas | OutOfOffset | CreateInitCodeSizeLimit
    ) && gas_limit >= gas_to_exceed(below)
}

/// Where a frame's memory must end in the buffer of all frames, if the transaction has extraordinary gas.
pub(crate) fn extraordinary_memory(below: usize) -> u64 {
    MAX_EXTRAORDINARY_MEMORY.min(below as u64 + MAX_EXTRAORDINARY_FRAME)
}

/// The least gas with which a frame above `below` bytes can get more memory than there is (Yellow Paper, appendix H).
fn gas_to_exceed(below: usize) -> u64 {
    let words = extraordinary_memory(below).saturating_sub(below as u64) / 32;
    3 * words + words * words / 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ChainConfig, Error, Input, Terms,
        consensus::{DecodedBlock, NextFees},
    };
    use alloc::{vec, vec::Vec};
    use alloy_consensus::Header;

    /// The most memory that the frames of a transaction have at once, in bytes.
    ///
    /// A frame that spends `m` of its gas `g` on memory gets at most `(512 * m)^(1/2)` words for it, and passes on at
    /// most 63/64 of the rest (EIP-150). If all frames above it get at most `c * gas^(1/2)` words, all frames from
    /// this one up get at most `(512 + 63/64 * c^2)^(1/2) * g^(1/2)`, by Cauchy's inequality.
    fn most_memory(gas: f64) -> f64 {
        let squared = (0..=1024).fold(0.0, |above, _| 512.0 + 63.0 / 64.0 * above);
        32.0 * f64::sqrt(squared * gas)
    }

    #[test]
    fn ordinary_gas_cannot_pay_for_the_memory_bound() {
        let most = most_memory(ORDINARY_GAS as f64);
        assert!(most < MAX_MEMORY as f64, "{most}");
    }

    #[test]
    fn a_frame_without_the_gas_is_out_of_gas_and_one_with_it_ends_the_proof() {
        let enough = gas_to_exceed(0);
        for result in [
            InstructionResult::MemoryLimitOOG,
            InstructionResult::InvalidOperandOOG,
            InstructionResult::OutOfGas,
        ] {
            assert!(!may_exceed_memory(result, enough - 1, 0));
            assert!(may_exceed_memory(result, enough, 0));
            assert!(may_exceed_memory(result, 7, 1 << 30));
        }
        assert!(!may_exceed_memory(InstructionResult::MemoryOOG, u64::MAX, 0));
        assert!(!may_exceed_memory(InstructionResult::Stop, u64::MAX, 0));
    }

    /// An input's beginning, and a word after it.
    fn input(words: &[u32]) -> Vec<u8> {
        let input = Input {
            config: ChainConfig::mainnet(),
            terms: Terms::default(),
            headers: Vec::new(),
            blocks: Vec::new(),
            codes: Vec::new(),
            nodes: Vec::new(),
        };
        let mut bytes = input.encode(crate::trie::EMPTY_ROOT).expect("there is nothing in it");
        // Three counts, the length of the hints, two lengths of streams, and the count in the first of them.
        bytes.truncate(bytes.len() - 7 * 4);
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes
    }

    #[test]
    fn counts_are_refused_before_anything_is_allocated() {
        let most = u32::MAX as usize;
        for (words, expected) in [
            (vec![u32::MAX], Bound::Headers { count: most }.into()),
            (vec![257], Bound::Headers { count: 257 }.into()),
            (vec![0, u32::MAX], Bound::Blocks { count: most }.into()),
            (vec![0, 1 << 15], Bound::Blocks { count: 1 << 15 }.into()),
        ] {
            assert_eq!(crate::run(&input(&words)), Err(expected), "{words:?}");
        }
        // The number of codes has no bound of its own: each code takes bytes of the input.
        // Nor have the hints.
        for words in [[0, 0, u32::MAX, 0], [0, 0, 0, u32::MAX]] {
            assert!(matches!(crate::run(&input(&words)), Err(Error::Input { .. })));
        }
        let len = MAX_INPUT + 1;
        assert_eq!(crate::run(&vec![0; len]), Err(Bound::Input { len }.into()));
    }

    #[test]
    fn a_block_of_too_many_transactions_is_refused() {
        // Nonce, price, gas, recipient, value, data, v, r, s.
        let transaction = [0xc9, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 27, 1, 1];
        let block = |count: usize| {
            let mut body = alloy_rlp::encode(Header::default());
            alloy_rlp::Header { list: true, payload_length: count * transaction.len() }
                .encode(&mut body);
            body.extend(transaction.repeat(count));
            body.push(0xc0);
            let mut block = Vec::new();
            alloy_rlp::Header { list: true, payload_length: body.len() }.encode(&mut block);
            block.extend(body);
            DecodedBlock::decode(&block)
        };
        assert_eq!(block(3).map(|block| block.body.transactions.len()), Ok(3));
        assert_eq!(block(MAX_TRANSACTIONS + 1).map(drop), Err(Bound::Transactions.into()));
    }

    #[test]
    fn a_base_fee_whose_successor_may_not_fit_is_refused() {
        let next = |base_fee| {
            let parent = Header {
                base_fee_per_gas: Some(base_fee),
                gas_limit: 30_000_000,
                gas_used: 30_000_000,
                ..Header::default()
            };
            NextFees::of(&ChainConfig::mainnet(), &parent, 0).map(|fees| fees.base_fee)
        };
        let most = MAX_BASE_FEE - 1;
        assert_eq!(next(most), Ok(most + most / 8));
        for base_fee in [MAX_BASE_FEE, u64::MAX] {
            assert_eq!(next(base_fee), Err(Bound::BaseFee { base_fee }.into()));
        }
    }
}
