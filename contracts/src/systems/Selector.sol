// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// @notice Lets only proofs through that begin with the selector of one verifier.
///
/// A router sends each proof to the verifier that its first four bytes name, and the router's owner can add verifiers. Without this
/// check that owner could settle anything.
abstract contract Selector {
    /// @notice The first four bytes of every proof.
    bytes4 public immutable selector;

    /// @notice The proof is for another verifier.
    error WrongSelector(bytes4 found, bytes4 expected);

    constructor(bytes4 selector_) {
        selector = selector_;
    }

    modifier selected(bytes calldata proof) {
        if (bytes4(proof) != selector) revert WrongSelector(bytes4(proof), selector);
        _;
    }
}
