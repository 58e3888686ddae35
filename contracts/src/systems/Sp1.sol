// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {IProofSystem} from "../Rollup.sol";
import {Selector} from "./Selector.sol";

/// What SP1's verifiers and their gateway offer.
interface ISP1Verifier {
    /// @notice Reverts unless `proofBytes` shows that the program with this verification key committed to `publicValues`.
    function verifyProof(bytes32 programVKey, bytes calldata publicValues, bytes calldata proofBytes) external view;
}

/// @title Proofs of SP1
contract Sp1 is IProofSystem, Selector {
    /// @notice SP1's gateway, or one of its verifiers.
    ISP1Verifier public immutable verifier;

    /// @param selector_ of the verifier behind the gateway that is meant, the first four bytes of its proofs
    constructor(ISP1Verifier verifier_, bytes4 selector_) Selector(selector_) {
        verifier = verifier_;
    }

    /// @inheritdoc IProofSystem
    function verify(bytes32 programId, bytes calldata values, bytes calldata proof) external view selected(proof) {
        verifier.verifyProof(programId, values, proof);
    }
}
