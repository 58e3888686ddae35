//! Maps the names of exceptions in execution-spec-tests to our typed errors.
//!
//! A name that is listed here is a rule that the program has; any other name fails the test that uses it.

use program::{
    Error,
    consensus::{InvalidTransaction as Tx, Violation as V},
};

/// Whether `error` is one of the exceptions in `names`, which are separated by `|`.
///
/// # Errors
/// The first unknown name, if none of the known ones fits.
pub fn any(names: &str, error: &Error) -> Result<bool, String> {
    let mut unknown = None;
    for name in names.split('|').map(str::trim) {
        match is(name, error) {
            Some(true) => return Ok(true),
            Some(false) => {}
            None => unknown = unknown.or(Some(name.to_owned())),
        }
    }
    unknown.map_or(Ok(false), Err)
}

/// Whether `error` is what the specification calls `name`; `None` if the name is unknown.
pub fn is(name: &str, error: &Error) -> Option<bool> {
    match name.split_once('.')? {
        ("TransactionException", name) => transaction(name, error),
        ("BlockException", name) => block(name, error),
        _ => None,
    }
}

fn violation(error: &Error) -> Option<&V> {
    match error {
        Error::Block { violation, .. } => Some(violation),
        _ => None,
    }
}

fn invalid(error: &Error) -> Option<&Tx> {
    match violation(error) {
        Some(V::Transaction { reason, .. }) => Some(reason),
        _ => None,
    }
}

/// Whether the violation, or the transaction's own rule, matches one of these patterns.
macro_rules! fits {
    ($error:expr, tx $pattern:pat) => {
        matches!(invalid($error), Some($pattern))
    };
    ($error:expr, $pattern:pat) => {
        matches!(violation($error), Some($pattern))
    };
}

fn transaction(name: &str, error: &Error) -> Option<bool> {
    let malformed = fits!(error, V::MalformedTransaction { .. } | V::Overflow { .. } | V::Rlp(_));
    Some(match name {
        "INSUFFICIENT_ACCOUNT_FUNDS" => fits!(error, tx Tx::LackOfFundForMaxFee { .. }),
        // A price of more than 128 bits does not even fit its field.
        "GASLIMIT_PRICE_PRODUCT_OVERFLOW" => {
            fits!(error, tx Tx::OverflowPaymentInTransaction) || fits!(error, V::Overflow { .. })
        }
        "INTRINSIC_GAS_TOO_LOW" => fits!(error, tx Tx::CallGasCostMoreThanGasLimit { .. }),
        "INTRINSIC_GAS_BELOW_FLOOR_GAS_COST" => {
            fits!(error, tx Tx::GasFloorMoreThanGasLimit { .. })
        }
        "GAS_LIMIT_EXCEEDS_MAXIMUM" => fits!(error, tx Tx::TxGasLimitGreaterThanCap { .. }),
        "GAS_ALLOWANCE_EXCEEDED" => {
            fits!(error, V::GasAllowance { .. }) || fits!(error, tx Tx::CallerGasLimitMoreThanBlock)
        }
        "SENDER_NOT_EOA" => fits!(error, tx Tx::RejectCallerWithCode),
        "NONCE_MISMATCH_TOO_LOW" => fits!(error, tx Tx::NonceTooLow { .. }),
        "NONCE_MISMATCH_TOO_HIGH" => fits!(error, tx Tx::NonceTooHigh { .. }),
        "NONCE_IS_MAX" => fits!(error, tx Tx::NonceOverflowInTransaction),
        "INITCODE_SIZE_EXCEEDED" => fits!(error, tx Tx::CreateInitCodeSizeLimit),
        "INVALID_CHAINID" => fits!(error, tx Tx::InvalidChainId | Tx::MissingChainId),
        "INSUFFICIENT_MAX_FEE_PER_GAS" => fits!(error, tx Tx::GasPriceLessThanBasefee),
        "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS" | "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS_2" => {
            fits!(error, tx Tx::PriorityFeeGreaterThanMaxFee)
        }
        "INSUFFICIENT_MAX_FEE_PER_BLOB_GAS" => {
            fits!(error, tx Tx::BlobGasPriceGreaterThanMax { .. })
        }
        "INVALID_SIGNATURE_VRS" | "EC_RECOVERY_FAIL" => {
            fits!(error, V::Signature { .. }) || malformed
        }
        "TYPE_1_TX_PRE_FORK" => fits!(error, tx Tx::Eip2930NotSupported),
        "TYPE_2_TX_PRE_FORK" => fits!(error, tx Tx::Eip1559NotSupported),
        "TYPE_3_TX_PRE_FORK" => {
            fits!(error, tx Tx::Eip4844NotSupported | Tx::BlobVersionedHashesNotSupported)
        }
        "TYPE_3_TX_ZERO_BLOBS" | "TYPE_3_TX_ZERO_BLOBS_PRE_FORK" => {
            fits!(error, tx Tx::EmptyBlobs)
        }
        "TYPE_3_TX_INVALID_BLOB_VERSIONED_HASH" => fits!(error, tx Tx::BlobVersionNotSupported),
        "TYPE_3_TX_BLOB_COUNT_EXCEEDED" => fits!(error, tx Tx::TooManyBlobs { .. }),
        "TYPE_3_TX_MAX_BLOB_GAS_ALLOWANCE_EXCEEDED" => {
            fits!(error, V::BlobGasAboveLimit { .. })
        }
        "TYPE_3_TX_CONTRACT_CREATION" => fits!(error, tx Tx::BlobCreateTransaction) || malformed,
        "TYPE_4_TX_PRE_FORK" => fits!(error, tx Tx::Eip7702NotSupported),
        "TYPE_4_EMPTY_AUTHORIZATION_LIST" => fits!(error, tx Tx::EmptyAuthorizationList),
        // A transaction that cannot be decoded is malformed, whatever its fault.
        "TYPE_3_TX_WITH_FULL_BLOBS"
        | "TYPE_4_TX_CONTRACT_CREATION"
        | "TYPE_4_INVALID_AUTHORIZATION_FORMAT"
        | "TYPE_4_INVALID_AUTHORITY_SIGNATURE"
        | "TYPE_4_INVALID_AUTHORITY_SIGNATURE_S_TOO_HIGH"
        | "TYPE_NOT_SUPPORTED"
        | "ADDRESS_TOO_SHORT"
        | "ADDRESS_TOO_LONG"
        | "NONCE_OVERFLOW"
        | "NONCE_TOO_BIG"
        | "GASLIMIT_OVERFLOW"
        | "VALUE_OVERFLOW"
        | "GASPRICE_OVERFLOW"
        | "RLP_TOO_FEW_ELEMENTS"
        | "RLP_TOO_MANY_ELEMENTS"
        | "RLP_ERROR_EOF"
        | "RLP_ERROR_SIZE"
        | "RLP_ERROR_SIZE_LEADING_ZEROS"
        | "RLP_INVALID_ACCESS_LIST_ADDRESS_TOO_SHORT"
        | "RLP_INVALID_ACCESS_LIST_ADDRESS_TOO_LONG"
        | "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_SHORT"
        | "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_LONG"
        | "RLP_INVALID_DATA"
        | "RLP_INVALID_GASLIMIT"
        | "RLP_INVALID_NONCE"
        | "RLP_INVALID_TO"
        | "RLP_INVALID_VALUE"
        | "RLP_INVALID_SIGNATURE_R"
        | "RLP_INVALID_SIGNATURE_S"
        | "RLP_INVALID_HEADER"
        | "RLP_LEADING_ZEROS_GASLIMIT"
        | "RLP_LEADING_ZEROS_GASPRICE"
        | "RLP_LEADING_ZEROS_VALUE"
        | "RLP_LEADING_ZEROS_NONCE"
        | "RLP_LEADING_ZEROS_R"
        | "RLP_LEADING_ZEROS_S"
        | "RLP_LEADING_ZEROS_V"
        | "RLP_LEADING_ZEROS_BASEFEE"
        | "RLP_LEADING_ZEROS_PRIORITY_FEE"
        | "RLP_LEADING_ZEROS_DATA_SIZE"
        | "RLP_LEADING_ZEROS_NONCE_SIZE"
        | "RLP_LEADING_ZEROS_TO_SIZE"
        | "RLP_LEADING_ZEROS_DATA" => malformed,
        _ => return None,
    })
}

fn block(name: &str, error: &Error) -> Option<bool> {
    let number =
        |wanted| matches!(violation(error), Some(V::Number64 { field, .. }) if *field == wanted);
    let root = |wanted| matches!(violation(error), Some(V::Root { field, .. }) if *field == wanted);
    let malformed = fits!(error, V::MalformedTransaction { .. } | V::Overflow { .. } | V::Rlp(_));
    let unknown_parent =
        fits!(error, V::ParentHash { .. }) || matches!(error, Error::MissingParent { .. });
    Some(match name {
        "UNKNOWN_PARENT" | "UNKNOWN_PARENT_ZERO" => unknown_parent,
        "INVALID_BLOCK_NUMBER" => fits!(error, V::Number { .. }),
        "INVALID_BLOCK_TIMESTAMP_OLDER_THAN_PARENT" => fits!(error, V::Timestamp { .. }),
        "INVALID_GASLIMIT" => fits!(error, V::GasLimit { .. } | V::GasLimitBounds { .. }),
        "GASLIMIT_TOO_BIG" => {
            fits!(error, V::GasLimitBounds { .. } | V::GasLimit { .. }) || malformed
        }
        "INVALID_BASEFEE_PER_GAS" => number("baseFeePerGas"),
        "INVALID_GAS_USED" => number("gasUsed"),
        "INVALID_GAS_USED_ABOVE_LIMIT" | "GAS_USED_OVERFLOW" => {
            fits!(error, V::GasUsedAboveLimit { .. } | V::GasAllowance { .. })
        }
        "INCORRECT_BLOB_GAS_USED" => number("blobGasUsed"),
        "INCORRECT_EXCESS_BLOB_GAS" => number("excessBlobGas"),
        "BLOB_GAS_USED_ABOVE_LIMIT" => fits!(error, V::BlobGasAboveLimit { .. }),
        "EXTRA_DATA_TOO_BIG" => fits!(error, V::ExtraData { .. }),
        "INVALID_STATE_ROOT" => root("stateRoot"),
        "INVALID_RECEIPTS_ROOT" => root("receiptsRoot"),
        "INVALID_TRANSACTIONS_ROOT" => root("transactionsRoot"),
        "INVALID_WITHDRAWALS_ROOT" => root("withdrawalsRoot"),
        "INVALID_REQUESTS" => root("requestsHash"),
        "INVALID_LOG_BLOOM" => fits!(error, V::LogsBloom),
        "INVALID_UNCLES_HASH"
        | "UNCLES_HASH_MISMATCH"
        | "TOO_MANY_UNCLES"
        | "IMPORT_IMPOSSIBLE_UNCLES_OVER_PARIS"
        | "IMPORT_IMPOSSIBLE_DIFFICULTY_OVER_PARIS" => fits!(error, V::NotEmpty(_)) || malformed,
        // A block's hash is not in its RLP but in messages that we do not read: we see what made it wrong instead.
        "INVALID_BLOCK_HASH" => false,
        "INVALID_VERSIONED_HASHES" => false,
        "INCORRECT_BLOCK_FORMAT" => fits!(error, V::ForkField { .. }) || malformed,
        "RLP_STRUCTURES_ENCODING"
        | "RLP_WITHDRAWALS_NOT_READ"
        | "RLP_INVALID_FIELD_OVERFLOW_64"
        | "RLP_INVALID_ADDRESS" => malformed,
        "RLP_BLOCK_LIMIT_EXCEEDED" => fits!(error, V::BlockSize { .. }),
        "INVALID_DEPOSIT_EVENT_LAYOUT" => fits!(error, V::Deposit(_)),
        "SYSTEM_CONTRACT_EMPTY" | "SYSTEM_CONTRACT_CALL_FAILED" => {
            fits!(error, V::SystemCall(_))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(violation: V) -> Error {
        Error::Block { number: 1, violation }
    }

    #[test]
    fn one_of_several_names_is_enough_and_another_reason_is_not() {
        let error = block(V::Transaction { index: 0, reason: Tx::NonceTooLow { tx: 0, state: 1 } });
        let names = "TransactionException.NONCE_IS_MAX|TransactionException.NONCE_MISMATCH_TOO_LOW";
        assert_eq!(any(names, &error), Ok(true));
        assert_eq!(any("TransactionException.INSUFFICIENT_ACCOUNT_FUNDS", &error), Ok(false));
        assert_eq!(any("BlockException.INVALID_STATE_ROOT", &error), Ok(false));
    }

    #[test]
    fn a_name_that_nobody_knows_is_no_pass() {
        let name = "BlockException.INVALID_MOON_PHASE";
        assert_eq!(any(name, &block(V::LogsBloom)), Err(name.into()));
        assert!(any("LogsBloom", &block(V::LogsBloom)).is_err());
    }

    #[test]
    fn a_witness_that_lacks_something_is_never_the_reason() {
        let error = Error::MissingHeader { number: 1 };
        assert_eq!(any("BlockException.RLP_STRUCTURES_ENCODING", &error), Ok(false));
    }
}
