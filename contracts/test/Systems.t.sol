// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {DangerMock} from "../src/systems/DangerMock.sol";
import {IRiscZeroVerifier, RiscZero} from "../src/systems/RiscZero.sol";
import {Selector} from "../src/systems/Selector.sol";
import {ISP1Verifier, Sp1} from "../src/systems/Sp1.sol";
import {vm} from "./Base.sol";

/// A verifier of either system that accepts one call.
contract OneCall is IRiscZeroVerifier, ISP1Verifier {
    bytes32 private immutable expected;

    error Refused();

    constructor(bytes memory call) {
        expected = keccak256(call);
    }

    function verify(bytes calldata, bytes32, bytes32) external view {
        if (keccak256(msg.data) != expected) revert Refused();
    }

    function verifyProof(bytes32, bytes calldata, bytes calldata) external view {
        if (keccak256(msg.data) != expected) revert Refused();
    }
}

/// The adapters of proof systems. (test/real runs RISC Zero's own contracts.)
contract SystemsTest {
    bytes internal constant VALUES = "public values";
    bytes internal constant PROOF = hex"01020304aabb";
    bytes32 internal constant PROGRAM = keccak256("program");

    function test_risc_zero_is_asked_for_the_hash_of_the_values() public {
        OneCall verifier = new OneCall(abi.encodeCall(IRiscZeroVerifier.verify, (PROOF, PROGRAM, sha256(VALUES))));
        RiscZero adapter = new RiscZero(verifier, hex"01020304");
        adapter.verify(PROGRAM, VALUES, PROOF);
        vm.expectRevert(abi.encodeWithSelector(OneCall.Refused.selector));
        adapter.verify(keccak256("other"), VALUES, PROOF);
        vm.expectRevert(abi.encodeWithSelector(OneCall.Refused.selector));
        adapter.verify(PROGRAM, "public valueS", PROOF);
        vm.expectRevert(abi.encodeWithSelector(OneCall.Refused.selector));
        adapter.verify(PROGRAM, VALUES, hex"01020304aabc");
    }

    function test_sp1_is_asked_for_the_values() public {
        OneCall verifier = new OneCall(abi.encodeCall(ISP1Verifier.verifyProof, (PROGRAM, VALUES, PROOF)));
        Sp1 adapter = new Sp1(verifier, hex"01020304");
        adapter.verify(PROGRAM, VALUES, PROOF);
        vm.expectRevert(abi.encodeWithSelector(OneCall.Refused.selector));
        adapter.verify(keccak256("other"), VALUES, PROOF);
        vm.expectRevert(abi.encodeWithSelector(OneCall.Refused.selector));
        adapter.verify(PROGRAM, "public valueS", PROOF);
        vm.expectRevert(abi.encodeWithSelector(OneCall.Refused.selector));
        adapter.verify(PROGRAM, VALUES, hex"01020304aabc");
    }

    /// Whoever owns the router may add a verifier that accepts anything, under another selector.
    function test_proofs_for_another_verifier_behind_a_router_are_refused() public {
        bytes memory other = hex"01020305aabb";
        bytes memory reason = abi.encodeWithSelector(Selector.WrongSelector.selector, bytes4(hex"01020305"), bytes4(hex"01020304"));
        RiscZero risc0 =
            new RiscZero(new OneCall(abi.encodeCall(IRiscZeroVerifier.verify, (other, PROGRAM, sha256(VALUES)))), hex"01020304");
        vm.expectRevert(reason);
        risc0.verify(PROGRAM, VALUES, other);
        Sp1 sp1 = new Sp1(new OneCall(abi.encodeCall(ISP1Verifier.verifyProof, (PROGRAM, VALUES, other))), hex"01020304");
        vm.expectRevert(reason);
        sp1.verify(PROGRAM, VALUES, other);
        vm.expectRevert(abi.encodeWithSelector(Selector.WrongSelector.selector, bytes4(0), bytes4(hex"01020304")));
        sp1.verify(PROGRAM, VALUES, "");
    }

    function test_an_address_without_code_verifies_nothing() public {
        RiscZero risc0 = new RiscZero(IRiscZeroVerifier(address(0x1234)), hex"01020304");
        vm.expectRevert();
        risc0.verify(PROGRAM, VALUES, PROOF);
        Sp1 sp1 = new Sp1(ISP1Verifier(address(0x1234)), hex"01020304");
        vm.expectRevert();
        sp1.verify(PROGRAM, VALUES, PROOF);
    }

    function test_the_mock_lives_on_development_chains_only() public {
        uint256[2] memory fine = [uint256(31337), 1337];
        for (uint256 i = 0; i < 2; i++) {
            vm.chainId(fine[i]);
            new DangerMock();
        }
        uint256[5] memory real = [uint256(1), 10, 11155111, 31338, 1336];
        for (uint256 i = 0; i < 5; i++) {
            vm.chainId(real[i]);
            vm.expectRevert(abi.encodeWithSelector(DangerMock.DevelopmentOnly.selector, real[i]));
            new DangerMock();
        }
    }
}
