// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IProofSystem} from "../Rollup.sol";
import {Selector} from "./Selector.sol";

/// What RISC Zero's verifiers and their router offer.
interface IRiscZeroVerifier {
    /// @notice Reverts unless `seal` shows that the guest with this image id committed to a journal with this SHA-256.
    function verify(bytes calldata seal, bytes32 imageId, bytes32 journalDigest) external view;
}

/// @title Proofs of RISC Zero
contract RiscZero is IProofSystem, Selector {
    /// @notice RISC Zero's router, or one of its verifiers.
    IRiscZeroVerifier public immutable verifier;

    /// @param selector_ of the verifier behind the router that is meant, the first four bytes of its seals
    constructor(IRiscZeroVerifier verifier_, bytes4 selector_) Selector(selector_) {
        verifier = verifier_;
    }

    /// @inheritdoc IProofSystem
    function verify(bytes32 programId, bytes calldata values, bytes calldata proof) external view selected(proof) {
        verifier.verify(proof, programId, sha256(values));
    }
}
