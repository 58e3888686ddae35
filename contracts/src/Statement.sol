// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// The statement and the chain of deposits as a contract on L1 reads them. The prover's side is
// crates/program/src/statement.rs; crates/devnode/tests/statement.rs runs both on the same statements
// (contracts/test/StatementVectors.sol).

/// What a proof commits to, version 2: its public values are `abi.encode` of this, fourteen words.
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

/// A deposit: the withdrawal (EIP-4895) of the L2 block that consumes it.
struct Deposit {
    uint64 index;
    uint64 validatorIndex;
    address account;
    uint64 amountGwei;
}

/// The bytes are not the public values of a proof.
error MalformedStatement(string what);

/// Reads public values.
library Statements {
    /// The layout that this library reads.
    uint32 internal constant VERSION = 2;

    /// Length of the public values in bytes.
    uint256 internal constant LENGTH = 14 * 32;

    /// Reads public values, and refuses what the program never writes.
    ///
    /// It does not say that there is a proof of them, nor that their chain config, their program or their first block are
    /// those that the contract wants.
    function decode(bytes calldata publicValues) internal pure returns (Statement memory statement) {
        if (publicValues.length != LENGTH) revert MalformedStatement("length");
        // Reverts if a word does not fit its type.
        statement = abi.decode(publicValues, (Statement));
        if (statement.version != VERSION) revert MalformedStatement("version");
        if (statement.firstNumber > statement.lastNumber) revert MalformedStatement("block numbers");
        if (statement.messagesRoot != 0) revert MalformedStatement("messages root");
        if (statement.dataCommitment != 0) revert MalformedStatement("data commitment");
        if (statement.depositsCount != 0 && statement.depositsDigest == 0) revert MalformedStatement("deposits");
    }

    /// Keccak-256 of the public values.
    function digest(Statement memory statement) internal pure returns (bytes32) {
        return keccak256(abi.encode(statement));
    }
}

/// The chain of hashes over deposits, which L1 keeps one link at a time.
library Deposits {
    /// The link after `deposit`.
    function next(bytes32 link, Deposit memory deposit) internal pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(link, deposit.index, deposit.validatorIndex, deposit.account, deposit.amountGwei)
        );
    }

    /// What the statement of a batch says that consumes the deposits between two links.
    function digest(bytes32 start, bytes32 end) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(start, end));
    }
}
