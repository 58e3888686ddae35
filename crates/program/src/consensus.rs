//! Consensus rules: what makes a block invalid, apart from what executing it shows.
//!
//! * [`check_header`]: the header on its own, and its body against it.
//! * [`check_against_parent`]: the header against its parent's.
//! * [`check_result`]: the header against the result of the execution.

use crate::{
    ChainConfig, Error, Receipt, Transaction,
    bound::{self, Bound},
    hashes::Hashes,
};
use alloc::{string::String, vec::Vec};
use alloy_consensus::{
    BlockBody, EMPTY_OMMER_ROOT_HASH, Header, Transaction as _, TxLegacy,
    transaction::RlpEcdsaDecodableTx,
};
use alloy_eips::{
    Decodable2718, Encodable2718,
    eip1559::{BaseFeeParams, calc_next_block_base_fee},
    eip2718::Eip2718Error,
    eip7685::Requests,
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{B64, B256, Bloom, Sealed};
use alloy_rlp::Decodable;
use alloy_trie::root::{ordered_trie_root_encoded, ordered_trie_root_with_encoder};

pub use revm::context_interface::result::InvalidTransaction;

/// Maximum length of a header's extra data, in bytes (Yellow Paper, section 4.3.4).
pub const MAX_EXTRA_DATA: usize = 32;
/// Minimum gas limit of a block (Yellow Paper, section 4.3.4).
pub const MIN_GAS_LIMIT: u64 = 5000;
/// Maximum gas limit of a block (EIP-1985).
pub const MAX_GAS_LIMIT: u64 = i64::MAX as u64;
/// Maximum length of a block's RLP from Osaka on, in bytes (EIP-7934).
pub const MAX_BLOCK_SIZE: usize = 10 * 1024 * 1024 - 2 * 1024 * 1024;

/// The consensus rule that a block breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "std", derive(strum::VariantNames))]
#[non_exhaustive]
pub enum Violation {
    /// The bytes are not the RLP of a block.
    #[error("malformed block RLP: {0}")]
    Rlp(&'static str),
    /// A transaction's bytes are not a transaction of a known type.
    #[error("transaction {index} is malformed")]
    MalformedTransaction {
        /// Position in the block.
        index: usize,
    },
    /// A number in a transaction is larger than its field can hold.
    #[error("transaction {index} holds a number that is larger than its field")]
    Overflow {
        /// Position in the block.
        index: usize,
    },
    /// The block is from before the merge.
    #[error("it is a proof-of-work block: proof of stake starts at block {paris_block}")]
    ProofOfWork {
        /// First proof-of-stake block of the chain.
        paris_block: u64,
    },
    /// The difficulty, nonce or ommers of a proof-of-stake block are not empty (EIP-3675).
    #[error("{0} must be empty under proof of stake")]
    NotEmpty(&'static str),
    /// A header field is present in a fork that does not have it, or missing in one that does.
    #[error("header field {field} {}", if *.expected { "is missing" } else { "is not part of this fork" })]
    ForkField {
        /// Name of the field.
        field: &'static str,
        /// Whether the fork has the field.
        expected: bool,
    },
    /// Extra data is too long.
    #[error("extra data has {len} bytes, more than 32")]
    ExtraData {
        /// Its length in bytes.
        len: usize,
    },
    /// The gas used exceeds the gas limit.
    #[error("gas used {used} exceeds the gas limit {limit}")]
    GasUsedAboveLimit {
        /// Gas used, as the header says.
        used: u64,
        /// Gas limit.
        limit: u64,
    },
    /// The gas limit is outside the bounds that hold for every block.
    #[error("gas limit {limit} is not between {MIN_GAS_LIMIT} and {MAX_GAS_LIMIT}")]
    GasLimitBounds {
        /// The block's.
        limit: u64,
    },
    /// The gas limit differs too much from the parent's.
    #[error("gas limit {limit} is too far from its parent's {parent}")]
    GasLimit {
        /// The block's.
        limit: u64,
        /// The parent's.
        parent: u64,
    },
    /// The block is larger than EIP-7934 allows.
    #[error("block has {len} bytes, more than {MAX_BLOCK_SIZE}")]
    BlockSize {
        /// Its length in bytes.
        len: usize,
    },
    /// The parent hash in the header is not the hash of the parent.
    #[error("parent hash is {header}, but the parent is {parent}")]
    ParentHash {
        /// As the header says.
        header: B256,
        /// The parent's hash.
        parent: B256,
    },
    /// The number does not follow the parent's.
    #[error("number does not follow its parent's {parent}")]
    Number {
        /// The parent's number.
        parent: u64,
    },
    /// The timestamp is not after the parent's.
    #[error("timestamp {timestamp} is not after its parent's {parent}")]
    Timestamp {
        /// The block's, in seconds.
        timestamp: u64,
        /// The parent's, in seconds.
        parent: u64,
    },
    /// A number in the header is not the one that the rules give.
    #[error("{field} is {header}, computed {computed}")]
    Number64 {
        /// Name of the header's field.
        field: &'static str,
        /// As the header says.
        header: u64,
        /// As computed.
        computed: u64,
    },
    /// A root or hash in the header is not the one that the rules give.
    #[error("{field} is {header}, computed {computed}")]
    Root {
        /// Name of the header's field.
        field: &'static str,
        /// As the header says.
        header: B256,
        /// As computed.
        computed: B256,
    },
    /// The bloom in the header is not that of the logs.
    #[error("logs bloom does not match the receipts")]
    LogsBloom,
    /// The blobs of the block exceed the fork's limit.
    #[error("blob gas {used} exceeds the limit {limit}")]
    BlobGasAboveLimit {
        /// Blob gas of all transactions.
        used: u64,
        /// Maximum blob gas per block.
        limit: u64,
    },
    /// No sender can be recovered from a signature.
    #[error("transaction {index} has an invalid signature")]
    Signature {
        /// Position in the block.
        index: usize,
    },
    /// Not a rule: the input claims another signer. [`Self::in_block`] turns this into [`Error::SenderHint`].
    #[error("the hint for transaction {index} is not its signer's key")]
    SenderHint {
        /// Position in the block.
        index: usize,
    },
    /// A transaction cannot be executed.
    #[error("transaction {index} is invalid: {reason}")]
    Transaction {
        /// Position in the block.
        index: usize,
        /// The rule that it breaks.
        reason: InvalidTransaction,
    },
    /// A transaction may use more gas than the transactions before it left in the block.
    #[error("transaction {index} may use {limit} gas, but the block has only {available} left")]
    GasAllowance {
        /// Position in the block.
        index: usize,
        /// The transaction's gas limit.
        limit: u64,
        /// Gas left in the block.
        available: u64,
    },
    /// A contract that the rules call in each block is missing or failed (EIP-7002, EIP-7251).
    #[error("system call: {0}")]
    SystemCall(String),
    /// A log of the deposit contract is not a deposit (EIP-6110).
    #[error("deposit contract: {0}")]
    Deposit(String),
    /// Not a rule: the block is outside the program's domain. [`Self::in_block`] turns this into
    /// [`Error::Bound`].
    #[error(transparent)]
    Bound(#[from] Bound),
}

impl Violation {
    /// The error for the block with this number.
    pub fn in_block(self, number: u64) -> Error {
        match self {
            Self::Bound(bound) => Error::Bound(bound),
            Self::SenderHint { index } => Error::SenderHint { number, index },
            violation => Error::Block { number, violation },
        }
    }
}

/// A block whose RLP has been decoded and whose hash is known.
#[derive(Clone, Debug)]
pub struct DecodedBlock {
    /// The header with its hash.
    pub header: Sealed<Header>,
    /// Transactions, ommers and withdrawals.
    pub body: BlockBody<Transaction>,
    /// Root of the transaction trie, computed over the transactions' bytes as received.
    pub transactions_root: B256,
    /// Length of the RLP in bytes.
    pub len: usize,
}

impl DecodedBlock {
    /// Decodes a block strictly: nothing may be missing or left over.
    ///
    /// # Errors
    /// [`Violation::Rlp`] or [`Violation::MalformedTransaction`].
    pub fn decode(rlp: &[u8]) -> Result<Self, Violation> {
        let rest = &mut &*rlp;
        let body = &mut alloy_rlp::Header::decode_bytes(rest, true)
            .map_err(|_| Violation::Rlp("expected a list"))?;
        if !rest.is_empty() {
            return Err(Violation::Rlp("trailing bytes after the block"));
        }
        let header = Header::decode_sealed(body).map_err(|_| Violation::Rlp("header"))?;
        let transaction_list = &mut alloy_rlp::Header::decode_bytes(body, true)
            .map_err(|_| Violation::Rlp("expected a list of transactions"))?;
        let mut encoded = Vec::new();
        let mut transactions = Vec::new();
        while !transaction_list.is_empty() {
            let index = transactions.len();
            if index == bound::MAX_TRANSACTIONS {
                return Err(Bound::Transactions.into());
            }
            let bytes = transaction_bytes(transaction_list)
                .ok_or(Violation::MalformedTransaction { index })?;
            transactions.push(
                Transaction::decode_2718_exact(bytes)
                    .map_err(|error| undecodable(index, bytes, &error))?,
            );
            encoded.push(bytes);
        }
        let ommers = Vec::<Header>::decode(body).map_err(|_| Violation::Rlp("ommers"))?;
        let withdrawals = match body.is_empty() {
            true => None,
            false => Some(Decodable::decode(body).map_err(|_| Violation::Rlp("withdrawals"))?),
        };
        if !body.is_empty() {
            return Err(Violation::Rlp("trailing bytes inside the block"));
        }
        let transactions_root = ordered_trie_root_encoded(&encoded);
        let body = BlockBody { transactions, ommers, withdrawals };
        Ok(Self { header, body, transactions_root, len: rlp.len() })
    }
}

/// What is wrong with a transaction that cannot be decoded.
fn undecodable(index: usize, bytes: &[u8], error: &Eip2718Error) -> Violation {
    // The envelope's error does not say what was wrong with a legacy transaction.
    let legacy = || TxLegacy::rlp_decode_with_signature(&mut &*bytes).err();
    match error {
        Eip2718Error::RlpError(alloy_rlp::Error::Overflow) => Violation::Overflow { index },
        _ if legacy() == Some(alloy_rlp::Error::Overflow) => Violation::Overflow { index },
        _ => Violation::MalformedTransaction { index },
    }
}

/// The next transaction of a block's list, in the encoding of EIP-2718.
fn transaction_bytes<'a>(list: &mut &'a [u8]) -> Option<&'a [u8]> {
    let whole = *list;
    let header = alloy_rlp::Header::decode(list).ok()?;
    let payload = list.get(..header.payload_length)?;
    *list = &list[header.payload_length..];
    match header.list {
        // A legacy transaction is the list itself.
        true => Some(&whole[..whole.len() - list.len()]),
        // SOUNDNESS: a legacy transaction wrapped in a string is not a transaction of a block.
        false => payload.first().is_some_and(|first| *first < 0x80).then_some(payload),
    }
}

/// Checks the header on its own, and the body against the header.
///
/// # Errors
/// The first rule that is broken.
pub fn check_header(config: &ChainConfig, decoded: &DecodedBlock) -> Result<(), Violation> {
    let (header, body) = (decoded.header.inner(), &decoded.body);
    // SOUNDNESS: blocks before the merge follow rules that this program does not have.
    if header.number < config.paris_block {
        return Err(Violation::ProofOfWork { paris_block: config.paris_block });
    }
    let time = header.timestamp;
    let shanghai = config.is_shanghai_active_at_timestamp(time);
    let cancun = config.is_cancun_active_at_timestamp(time);
    let prague = config.is_prague_active_at_timestamp(time);
    // SOUNDNESS: the fork decides which fields a header has.
    for (field, present, expected) in [
        ("baseFeePerGas", header.base_fee_per_gas.is_some(), true),
        ("withdrawalsRoot", header.withdrawals_root.is_some(), shanghai),
        ("withdrawals", body.withdrawals.is_some(), shanghai),
        ("blobGasUsed", header.blob_gas_used.is_some(), cancun),
        ("excessBlobGas", header.excess_blob_gas.is_some(), cancun),
        ("parentBeaconBlockRoot", header.parent_beacon_block_root.is_some(), cancun),
        ("requestsHash", header.requests_hash.is_some(), prague),
        ("blockAccessListHash", header.block_access_list_hash.is_some(), false),
        ("slotNumber", header.slot_number.is_some(), false),
    ] {
        if present != expected {
            return Err(Violation::ForkField { field, expected });
        }
    }
    // SOUNDNESS: EIP-3675, the fields of proof of work are constants.
    if !header.difficulty.is_zero() {
        return Err(Violation::NotEmpty("difficulty"));
    }
    if header.nonce != B64::ZERO {
        return Err(Violation::NotEmpty("nonce"));
    }
    if header.ommers_hash != EMPTY_OMMER_ROOT_HASH || !body.ommers.is_empty() {
        return Err(Violation::NotEmpty("ommers"));
    }
    // SOUNDNESS: limits of single fields.
    if header.extra_data.len() > MAX_EXTRA_DATA {
        return Err(Violation::ExtraData { len: header.extra_data.len() });
    }
    if header.gas_used > header.gas_limit {
        return Err(Violation::GasUsedAboveLimit {
            used: header.gas_used,
            limit: header.gas_limit,
        });
    }
    if !(MIN_GAS_LIMIT..=MAX_GAS_LIMIT).contains(&header.gas_limit) {
        return Err(Violation::GasLimitBounds { limit: header.gas_limit });
    }
    if config.is_osaka_active_at_timestamp(time) && decoded.len > MAX_BLOCK_SIZE {
        return Err(Violation::BlockSize { len: decoded.len });
    }
    // SOUNDNESS: the body is the one that the header commits to.
    equal_roots("transactionsRoot", header.transactions_root, decoded.transactions_root)?;
    if let (Some(root), Some(withdrawals)) = (header.withdrawals_root, &body.withdrawals) {
        let computed = alloy_consensus::proofs::calculate_withdrawals_root(withdrawals);
        equal_roots("withdrawalsRoot", root, computed)?;
    }
    if let (Some(header_used), Some(params)) = (header.blob_gas_used, config.blob_params(time)) {
        let used = body
            .transactions
            .iter()
            .filter_map(|tx| tx.blob_gas_used())
            .fold(0u64, u64::saturating_add);
        let limit = params.max_blob_gas_per_block();
        if used > limit {
            return Err(Violation::BlobGasAboveLimit { used, limit });
        }
        equal("blobGasUsed", header_used, used)?;
    }
    Ok(())
}

/// Checks the header against its parent's.
///
/// # Errors
/// The first rule that is broken.
pub fn check_against_parent(
    config: &ChainConfig,
    header: &Header,
    parent: &Sealed<Header>,
) -> Result<(), Violation> {
    // SOUNDNESS: the chain has no gaps and no forks.
    if header.parent_hash != parent.hash() {
        return Err(Violation::ParentHash { header: header.parent_hash, parent: parent.hash() });
    }
    if Some(header.number) != parent.number.checked_add(1) {
        return Err(Violation::Number { parent: parent.number });
    }
    if header.timestamp <= parent.timestamp {
        return Err(Violation::Timestamp { timestamp: header.timestamp, parent: parent.timestamp });
    }
    // SOUNDNESS: the gas limit moves by less than 1/1024 of the parent's.
    if header.gas_limit.abs_diff(parent.gas_limit) >= parent.gas_limit / 1024 {
        return Err(Violation::GasLimit { limit: header.gas_limit, parent: parent.gas_limit });
    }
    // SOUNDNESS: fees follow from the parent (EIP-1559, EIP-4844, EIP-7918).
    let next = NextFees::of(config, parent, header.timestamp)?;
    equal("baseFeePerGas", header.base_fee_per_gas.unwrap_or_default(), next.base_fee)?;
    if let (Some(excess), Some(computed)) = (header.excess_blob_gas, next.excess_blob_gas) {
        equal("excessBlobGas", excess, computed)?;
    }
    Ok(())
}

/// What a block's fee fields must be, given its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextFees {
    /// `baseFeePerGas` in wei.
    pub base_fee: u64,
    /// `excessBlobGas`; `None` before Cancun.
    pub excess_blob_gas: Option<u64>,
}

impl NextFees {
    /// Computes the fees of a block with this `timestamp` on top of `parent`.
    ///
    /// # Errors
    /// [`Violation::ForkField`] if the parent has no base fee, [`Violation::Number64`] if its
    /// gas or blob gas cannot be that of a valid block.
    pub fn of(config: &ChainConfig, parent: &Header, timestamp: u64) -> Result<Self, Violation> {
        let parent_base_fee = parent
            .base_fee_per_gas
            .ok_or(Violation::ForkField { field: "parent's baseFeePerGas", expected: true })?;
        // The arithmetic below is exact for every block that satisfies its own header checks.
        if parent.gas_limit < 2 || parent.gas_used > parent.gas_limit {
            return Err(Violation::GasUsedAboveLimit {
                used: parent.gas_used,
                limit: parent.gas_limit,
            });
        }
        if parent_base_fee >= bound::MAX_BASE_FEE {
            return Err(Bound::BaseFee { base_fee: parent_base_fee }.into());
        }
        let base_fee = calc_next_block_base_fee(
            parent.gas_used,
            parent.gas_limit,
            parent_base_fee,
            BaseFeeParams::ethereum(),
        );
        let excess_blob_gas = match config.blob_params(timestamp) {
            None => None,
            Some(params) => {
                let excess = parent.excess_blob_gas.unwrap_or_default();
                let used = parent.blob_gas_used.unwrap_or_default();
                if used > u64::from(u32::MAX) || excess.checked_add(used).is_none() {
                    return Err(Violation::BlobGasAboveLimit {
                        used,
                        limit: params.max_blob_gas_per_block(),
                    });
                }
                Some(params.next_block_excess_blob_gas_osaka(excess, used, parent_base_fee))
            }
        };
        Ok(Self { base_fee, excess_blob_gas })
    }
}

/// The header fields that follow from executing a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFields {
    /// Gas used by all transactions.
    pub gas_used: u64,
    /// Root of the trie of the receipts.
    pub receipts_root: B256,
    /// Bloom of all logs.
    pub logs_bloom: Bloom,
    /// EIP-7685 hash of the requests; `None` before Prague.
    pub requests_hash: Option<B256>,
}

impl ResultFields {
    /// Computes the fields. `requests` is `None` before Prague.
    pub(crate) fn new(
        gas_used: u64,
        receipts: &[Receipt],
        requests: Option<&Requests>,
        hashes: &mut Hashes,
    ) -> Self {
        let blooms: Vec<Bloom> =
            receipts.iter().map(|receipt| hashes.bloom(&receipt.logs)).collect();
        let with_blooms: Vec<_> = receipts
            .iter()
            .zip(&blooms)
            .map(|(receipt, bloom)| alloy_consensus::ReceiptWithBloom::new(receipt, *bloom))
            .collect();
        let receipts_root =
            ordered_trie_root_with_encoder(&with_blooms, |receipt, out| receipt.encode_2718(out));
        let logs_bloom = blooms.iter().fold(Bloom::ZERO, |all, bloom| all | *bloom);
        Self { gas_used, receipts_root, logs_bloom, requests_hash: requests.map(requests_hash) }
    }
}

/// EIP-7685: SHA-256 over the SHA-256 of every request that is not empty.
fn requests_hash(requests: &Requests) -> B256 {
    let crypto = revm::precompile::crypto();
    let hashes: Vec<u8> = requests
        .iter()
        .filter(|request| request.len() > 1)
        .flat_map(|request| crypto.sha256(request))
        .collect();
    B256::from(crypto.sha256(&hashes))
}

/// Checks the header against the result of executing the block, except for the state root.
///
/// # Errors
/// The first field that differs.
pub fn check_result(header: &Header, computed: &ResultFields) -> Result<(), Violation> {
    // SOUNDNESS: the header commits to what the execution did.
    equal("gasUsed", header.gas_used, computed.gas_used)?;
    equal_roots("receiptsRoot", header.receipts_root, computed.receipts_root)?;
    if header.logs_bloom != computed.logs_bloom {
        return Err(Violation::LogsBloom);
    }
    if let (Some(header), Some(computed)) = (header.requests_hash, computed.requests_hash) {
        equal_roots("requestsHash", header, computed)?;
    }
    Ok(())
}

fn equal(field: &'static str, header: u64, computed: u64) -> Result<(), Violation> {
    match header == computed {
        true => Ok(()),
        false => Err(Violation::Number64 { field, header, computed }),
    }
}

pub(crate) fn equal_roots(
    field: &'static str,
    header: B256,
    computed: B256,
) -> Result<(), Violation> {
    match header == computed {
        true => Ok(()),
        false => Err(Violation::Root { field, header, computed }),
    }
}
