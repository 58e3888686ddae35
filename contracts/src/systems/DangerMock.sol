// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IProofSystem} from "../Rollup.sol";

/// @title Accepts what anybody can write: for development only
/// @notice Stands in for a proof system where nothing is proven: the exec prover, and RISC Zero's dev mode.
contract DangerMock is IProofSystem {
    /// @notice It lives on development chains only.
    error DevelopmentOnly(uint256 chainId);

    /// @notice Not even a mock proof of these values.
    error NotTheMockProof();

    constructor() {
        if (block.chainid != 31337 && block.chainid != 1337) revert DevelopmentOnly(block.chainid);
    }

    /// @notice Accepts "DANGER: proves nothing", followed by the program id and Keccak-256 of the values; nothing else, so that a test
    /// can tell a false proof.
    function verify(bytes32 programId, bytes calldata values, bytes calldata proof) external pure {
        bytes memory expected = abi.encodePacked("DANGER: proves nothing", programId, keccak256(values));
        if (keccak256(proof) != keccak256(expected)) revert NotTheMockProof();
    }
}
