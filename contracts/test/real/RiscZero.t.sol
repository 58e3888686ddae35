// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Head, L2, Policy, Proof, Roles, Rollup, System} from "../../src/Rollup.sol";
import {Statement} from "../../src/Statement.sol";
import {IRiscZeroVerifier as IVerifier, RiscZero} from "../../src/systems/RiscZero.sol";
import {Selector} from "../../src/systems/Selector.sol";
import {vm, check} from "../Base.sol";
import {RiscZeroVerifierRouter} from "risc0/src/RiscZeroVerifierRouter.sol";
import {IRiscZeroVerifier, VerificationFailed} from "risc0/src/IRiscZeroVerifier.sol";
import {ControlID, RiscZeroGroth16Verifier} from "risc0/src/groth16/RiscZeroGroth16Verifier.sol";
import {TestReceipt} from "risc0/test/TestReceiptV3_0.sol";

/// RISC Zero's own verifier and router, as mainnet has them, and a receipt that they recorded, through our adapter.
contract RealRiscZeroTest {
    RiscZeroGroth16Verifier private verifier;
    RiscZeroVerifierRouter private router;
    RiscZero private adapter;

    function setUp() public {
        verifier = new RiscZeroGroth16Verifier(ControlID.CONTROL_ROOT, ControlID.BN254_CONTROL_ID);
        router = new RiscZeroVerifierRouter(address(this));
        router.addVerifier(verifier.SELECTOR(), IRiscZeroVerifier(address(verifier)));
        adapter = new RiscZero(IVerifier(address(router)), 0x73c457ba);
    }

    function test_the_selector_is_that_of_mainnets_verifier() public view {
        check(verifier.SELECTOR() == 0x73c457ba, "selector");
    }

    function test_the_recorded_receipt_is_accepted() public {
        uint256 before = gasleft();
        adapter.verify(TestReceipt.IMAGE_ID, TestReceipt.JOURNAL, TestReceipt.SEAL);
        emit log_named_uint("gas of the adapter with a real proof", before - gasleft());
    }

    event log_named_uint(string key, uint256 val);

    function test_one_bit_off_is_refused() public view {
        bytes memory seal = TestReceipt.SEAL;
        for (uint256 i = 0; i < 64; i++) {
            bytes memory bad = bytes.concat(seal);
            // A bit in every fourth byte or so after the selector: of each of the proof's eight words.
            uint256 where = 4 + (i * (seal.length - 4)) / 64;
            bad[where] ^= bytes1(uint8(1 << (i % 8)));
            refused(TestReceipt.IMAGE_ID, TestReceipt.JOURNAL, bad);
        }
        for (uint256 bit = 0; bit < 256; bit += 17) {
            refused(TestReceipt.IMAGE_ID ^ bytes32(uint256(1) << bit), TestReceipt.JOURNAL, seal);
        }
        for (uint256 i = 0; i < TestReceipt.JOURNAL.length; i++) {
            bytes memory values = bytes.concat(TestReceipt.JOURNAL);
            values[i] ^= 0x01;
            refused(TestReceipt.IMAGE_ID, values, seal);
        }
        refused(TestReceipt.IMAGE_ID, bytes.concat(TestReceipt.JOURNAL, hex"00"), seal);
        refused(TestReceipt.IMAGE_ID, TestReceipt.JOURNAL, new bytes(0));
        // Bytes after the seal are ignored by RISC Zero's verifier: the same proof of the same values.
        adapter.verify(TestReceipt.IMAGE_ID, TestReceipt.JOURNAL, bytes.concat(seal, hex"00"));
    }

    function refused(bytes32 imageId, bytes memory values, bytes memory seal) private view {
        // A point off the curve makes the precompile burn all gas that it gets.
        try adapter.verify{gas: 1_000_000}(imageId, values, seal) {
            check(false, "accepted");
        } catch {}
    }

    function test_another_selector_is_refused_before_the_router() public {
        bytes memory seal = TestReceipt.SEAL;
        seal[0] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(Selector.WrongSelector.selector, bytes4(0x72c457ba), bytes4(0x73c457ba)));
        adapter.verify(TestReceipt.IMAGE_ID, TestReceipt.JOURNAL, seal);
        // RISC Zero's owner takes the verifier away: nothing is accepted any more.
        router.removeVerifier(0x73c457ba);
        refused(TestReceipt.IMAGE_ID, TestReceipt.JOURNAL, TestReceipt.SEAL);
    }

    /// The receipt is real, but of another program and other values than a batch's: the rollup says whose proof it is.
    function test_a_batch_is_not_settled_with_it() public {
        Policy memory policy;
        policy.systems = new System[](1);
        policy.systems[0] = System(address(adapter), TestReceipt.IMAGE_ID, "risc0");
        (policy.threshold, policy.delay, policy.window) = (1, 10 days, 1 days);
        Rollup rollup = new Rollup(Head(0, 0, 0, 0, 0), policy, Roles(address(1), address(2), address(3)), L2(1, address(4)));
        Statement memory batch;
        (batch.version, batch.firstNumber, batch.lastNumber) = (2, 1, 1);
        batch.depositsDigest = keccak256(abi.encodePacked(bytes32(0), bytes32(0)));
        Proof[] memory proofs = new Proof[](1);
        proofs[0] = Proof(0, TestReceipt.SEAL);
        vm.warp(block.timestamp + 1);
        vm.expectRevert(
            abi.encodeWithSelector(Rollup.ProofRefused.selector, uint8(0), abi.encodeWithSelector(VerificationFailed.selector))
        );
        rollup.settle(abi.encode(batch), 0, proofs);
    }
}
