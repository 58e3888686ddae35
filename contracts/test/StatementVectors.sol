// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Deposit, Deposits, Statement, Statements} from "../src/Statement.sol";

/// The libraries' functions for callers from outside, and vectors that every implementation must give.
contract StatementVectors {
    function decode(bytes calldata publicValues) external pure returns (Statement memory) {
        return Statements.decode(publicValues);
    }

    function encode(Statement memory statement) external pure returns (bytes memory) {
        return abi.encode(statement);
    }

    function digest(Statement memory statement) external pure returns (bytes32) {
        return Statements.digest(statement);
    }

    /// The last link of a chain that goes on from `start`, and the digest of both.
    function deposits(bytes32 start, Deposit[] memory consumed) public pure returns (bytes32 link, bytes32 both) {
        link = start;
        for (uint256 i = 0; i < consumed.length; i++) {
            link = Deposits.next(link, consumed[i]);
        }
        both = Deposits.digest(start, link);
    }

    /// A statement, and its digest.
    function golden() public pure returns (Statement memory statement, bytes32 statementDigest) {
        statement = Statement({
            version: 2,
            chainConfigDigest: hex"1111111111111111111111111111111111111111111111111111111111111111",
            parentHash: hex"2222222222222222222222222222222222222222222222222222222222222222",
            lastHash: hex"3333333333333333333333333333333333333333333333333333333333333333",
            firstNumber: 7,
            lastNumber: 9,
            preStateRoot: hex"4444444444444444444444444444444444444444444444444444444444444444",
            postStateRoot: hex"5555555555555555555555555555555555555555555555555555555555555555",
            depositsDigest: hex"6666666666666666666666666666666666666666666666666666666666666666",
            depositsCount: 3,
            messagesRoot: 0,
            lastTimestamp: 1_700_000_000,
            dataCommitment: 0,
            beneficiary: 0x7777777777777777777777777777777777777777
        });
        statementDigest = 0x2db603b0a2d7917aa1f130d2108d20008a3a45542e9ec1bdd85d2a016d61d8b3;
    }

    /// Deposits and what they make of the chain that goes on from `start`: without any, the digest is `none`.
    function goldenDeposits()
        public
        pure
        returns (bytes32 start, Deposit[] memory consumed, bytes32 none, bytes32 link, bytes32 both)
    {
        start = hex"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c";
        consumed = new Deposit[](3);
        consumed[0] = Deposit(5, 0, address(bytes20(hex"d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5")), 5_000_000_000);
        consumed[1] = Deposit(6, 0, address(bytes20(hex"d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6")), 6_000_000_000);
        consumed[2] = Deposit(7, 0, address(bytes20(hex"d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7d7")), 7_000_000_000);
        none = 0xc4b2e8fea28e6536dd80a0d79cc6efc65da549bfa9fbc7e6f243174f9be77ab9;
        link = 0x5d519dd3da84c753db30ad8eee647b54c9ffe4d85921d5242c42ebe6cdd10f95;
        both = 0xd6e405cbdb6e90b7b9fac4f3db76cd5b88e9a65d8914fdd983b02caa3128eaf4;
    }

    /// Whether the vectors are what this file computes.
    function holds() external pure returns (bool) {
        (Statement memory statement, bytes32 statementDigest) = golden();
        if (Statements.digest(statement) != statementDigest) return false;
        (bytes32 start, Deposit[] memory consumed, bytes32 none, bytes32 link, bytes32 both) = goldenDeposits();
        (bytes32 foundLink, bytes32 found) = deposits(start, consumed);
        (, bytes32 empty) = deposits(start, new Deposit[](0));
        return foundLink == link && found == both && empty == none;
    }
}
