// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Bridge} from "../src/Bridge.sol";
import {Head, IProofSystem, Policy, Proof, Rollup, System} from "../src/Rollup.sol";
import {Deposits, MalformedStatement, Statement} from "../src/Statement.sol";
import {DangerMock} from "../src/systems/DangerMock.sol";
import {Base, check, equal, vm} from "./Base.sol";

/// `Rollup.settle`.
contract SettleTest is Base {
    bytes internal falseProof =
        abi.encodeWithSelector(Rollup.ProofRefused.selector, uint8(0), abi.encodeWithSelector(DangerMock.NotTheMockProof.selector));

    function test_a_batch_becomes_the_head() public {
        Statement memory first = batch();
        vm.expectEmit(address(rollup));
        emit Rollup.Settled(101, 103, first.lastHash, first.postStateRoot, 0, address(0xbe9e));
        settle(first);
        Head memory head = rollup.head();
        check(head.hash == first.lastHash && head.stateRoot == first.postStateRoot, "the batch's block");
        equal(head.number, 103, "number");
        equal(head.deposits, 0, "deposits");
        equal(rollup.settledAt(103, first.postStateRoot), START, "time");
        equal(rollup.settledAt(102, first.postStateRoot), 0, "another block");
        vm.warp(START + 100);
        settle(batch());
        equal(rollup.head().number, 106, "number");
        equal(rollup.lastSettled(), START + 100, "time");
        equal(rollup.settledAt(103, first.postStateRoot), START, "time of the first one");
    }

    function test_several_batches_folded_into_one_proof_are_settled_as_one() public {
        bytes32 link = deposit(ANYBODY, 1 gwei);
        link = deposit(SEQUENCER, 7 gwei);
        Statement memory folded = batch(2, link);
        folded.lastNumber = 900;
        settle(folded, link);
        Head memory head = rollup.head();
        equal(head.number, 900, "number");
        equal(head.deposits, 2, "deposits");
        check(head.link == link, "link");
    }

    /// Each word of the statement, changed after the proof was made and with a proof of the change.
    function test_each_word_changed_is_refused_by_name() public {
        deposit(ANYBODY, 1 gwei);
        bytes32 link = deposit(ANYBODY, 2 gwei);
        Head memory head = rollup.head();
        bytes memory good = abi.encode(batch(2, link));
        bytes32 digest = Deposits.digest(head.link, link);
        for (uint256 word = 0; word < 14; word++) {
            bytes memory values = bytes.concat(good);
            values[word * 32 + 31] ^= 0x01;
            bytes32 found;
            assembly {
                found := mload(add(add(values, 32), mul(word, 32)))
            }
            bytes memory reason;
            if (word == 0) reason = malformed("version");
            if (word == 1) reason = abi.encodeWithSelector(Rollup.WrongChainConfig.selector, found, RULES);
            if (word == 2) reason = abi.encodeWithSelector(Rollup.WrongParent.selector, found, head.hash);
            if (word == 4) reason = abi.encodeWithSelector(Rollup.WrongFirstNumber.selector, found, 101);
            if (word == 6) reason = abi.encodeWithSelector(Rollup.WrongPreStateRoot.selector, found, head.stateRoot);
            if (word == 8) reason = abi.encodeWithSelector(Rollup.WrongDeposits.selector, found, digest);
            if (word == 9) reason = abi.encodeWithSelector(Bridge.UnknownLink.selector, found, link);
            if (word == 10) reason = malformed("messages root");
            if (word == 12) reason = malformed("data commitment");
            // Whatever it says of the other words, it becomes the head: only the proof says that it is so.
            bool anything = word == 3 || word == 5 || word == 7 || word == 11 || word == 13;
            check(anything == (reason.length == 0), "every word is in the list");

            vm.prank(SEQUENCER);
            vm.expectRevert(anything ? falseProof : reason);
            rollup.settle(values, link, proofsOf(good));
            if (anything) continue;
            vm.prank(SEQUENCER);
            vm.expectRevert(reason);
            rollup.settle(values, link, proofsOf(values));
        }
        vm.prank(SEQUENCER);
        rollup.settle(good, link, proofsOf(good));
    }

    function test_the_last_number_is_not_below_the_first() public {
        Statement memory bad = batch();
        bad.lastNumber = 100;
        refuse(malformed("block numbers"), bad);
        bad.lastNumber = 101;
        settle(bad);
    }

    function test_a_word_beyond_its_type_and_other_lengths_are_refused() public {
        bytes memory good = abi.encode(batch());
        uint256[6] memory narrow = [uint256(0), 4, 5, 9, 11, 13];
        for (uint256 i = 0; i < narrow.length; i++) {
            bytes memory values = bytes.concat(good);
            values[narrow[i] * 32] = 0x01;
            refuseBytes("", values);
        }
        refuseBytes(malformed("length"), bytes.concat(good, hex"00"));
        refuseBytes(malformed("length"), bytes.concat(good, new bytes(32)));
        refuseBytes(malformed("length"), "");
        Statement memory undigested = batch(1, 0);
        undigested.depositsDigest = 0;
        refuse(malformed("deposits"), undigested);
    }

    function test_a_replay_a_gap_and_a_sibling_are_refused() public {
        Statement memory first = batch();
        settle(first);
        refuse(abi.encodeWithSelector(Rollup.WrongFirstNumber.selector, 101, 104), first);
        Statement memory gap = batch();
        gap.firstNumber++;
        refuse(abi.encodeWithSelector(Rollup.WrongFirstNumber.selector, 105, 104), gap);
        Statement memory sibling = batch();
        sibling.parentHash = keccak256("sibling");
        refuse(abi.encodeWithSelector(Rollup.WrongParent.selector, keccak256("sibling"), first.lastHash), sibling);
        settle(batch());
    }

    function test_a_head_with_the_last_number_is_the_end_and_nothing_wraps() public {
        Statement memory last = batch();
        last.lastNumber = type(uint64).max;
        settle(last);
        Statement memory wrapped = last;
        (wrapped.parentHash, wrapped.preStateRoot) = (last.lastHash, last.postStateRoot);
        (wrapped.firstNumber, wrapped.lastNumber) = (0, 3);
        refuse(abi.encodeWithSelector(Rollup.WrongFirstNumber.selector, 0, uint256(type(uint64).max) + 1), wrapped);
    }

    function test_a_block_too_far_ahead_of_L1_is_refused() public {
        Statement memory ahead = batch();
        ahead.lastTimestamp = uint64(START + 15 minutes + 1);
        refuse(abi.encodeWithSelector(Rollup.TimestampAhead.selector, START + 901, START + 900), ahead);
        ahead.lastTimestamp--;
        settle(ahead);
    }

    function test_deposits_that_do_not_exist_are_not_consumed() public {
        bytes32 link = deposit(ANYBODY, 1 gwei);
        // A deposit of the batch's own invention.
        bytes32 invented = keccak256("invented");
        refuse(unknown(2, invented), batch(2, invented), invented);
        refuse(unknown(1, invented), batch(1, invented), invented);
        // The right link, and another count: one deposit twice, or none.
        refuse(unknown(2, link), batch(2, link), link);
        refuse(unknown(0, link), batch(0, link), link);
        // Counts around the width of the type.
        refuse(unknown(type(uint64).max, link), batch(type(uint64).max, link), link);
        settle(batch(1, link), link);
        refuse(unknown(uint256(type(uint64).max) + 1, link), batch(type(uint64).max, link), link);
        // The link is the queue's, but the batch starts from another one.
        bytes32 second = deposit(ANYBODY, 1 gwei);
        Statement memory bad = batch(1, second);
        bad.depositsDigest = Deposits.digest(0, second);
        refuse(abi.encodeWithSelector(Rollup.WrongDeposits.selector, bad.depositsDigest, Deposits.digest(link, second)), bad, second);
        settle(batch(1, second), second);
        equal(rollup.head().deposits, 2, "deposits");
    }

    function test_a_batch_consumes_a_part_of_the_queue() public {
        bytes32 first = deposit(ANYBODY, 1 gwei);
        bytes32 second = deposit(ANYBODY, 2 gwei);
        deposit(ANYBODY, 3 gwei);
        settle(batch(2, second), second);
        equal(rollup.head().deposits, 2, "deposits");
        settle(batch());
        // Nothing is consumed again.
        refuse(unknown(2, first), batch(0, first), first);
    }

    function test_a_statement_of_a_chain_without_a_bridge_is_refused() public {
        Statement memory bad = batch();
        bad.depositsDigest = 0;
        refuse(abi.encodeWithSelector(Rollup.WrongDeposits.selector, bytes32(0), Deposits.digest(0, 0)), bad);
    }

    function test_an_overdue_deposit_must_be_consumed() public {
        bytes32 first = deposit(ANYBODY, 1 gwei);
        vm.warp(START + 100);
        bytes32 second = deposit(ANYBODY, 1 gwei);
        vm.warp(START + WINDOW);
        settle(batch());
        vm.warp(START + WINDOW + 1);
        refuse(abi.encodeWithSelector(Rollup.DepositOverdue.selector, 0, START), batch());
        settle(batch(1, first), first);
        vm.warp(START + WINDOW + 100);
        settle(batch());
        vm.warp(START + WINDOW + 101);
        refuse(abi.encodeWithSelector(Rollup.DepositOverdue.selector, 1, START + 100), batch());
        settle(batch(1, second), second);
    }

    function test_only_the_sequencer_settles_until_a_deposit_is_overdue() public {
        bytes32 link = deposit(ANYBODY, 1 gwei);
        vm.warp(START + WINDOW);
        refuseAs(ANYBODY, abi.encodeWithSelector(Rollup.OnlySequencer.selector), batch(1, link), link);
        vm.warp(START + WINDOW + 1);
        refuseAs(ANYBODY, abi.encodeWithSelector(Rollup.DepositOverdue.selector, 0, START), batch(), 0);
        settleAs(ANYBODY, batch(1, link), link);
        refuseAs(ANYBODY, abi.encodeWithSelector(Rollup.OnlySequencer.selector), batch(), link);
    }

    function test_anybody_settles_when_nothing_was_settled_for_long() public {
        settle(batch());
        vm.warp(START + FALLBACK);
        refuseAs(ANYBODY, abi.encodeWithSelector(Rollup.OnlySequencer.selector), batch(), 0);
        vm.warp(START + FALLBACK + 1);
        settleAs(ANYBODY, batch(), 0);
        refuseAs(ANYBODY, abi.encodeWithSelector(Rollup.OnlySequencer.selector), batch(), 0);
        settle(batch());
    }

    function test_a_frozen_contract_settles_nothing() public {
        freeze();
        refuse(abi.encodeWithSelector(Rollup.Frozen.selector, START + 14 days), batch());
        vm.warp(START + 14 days - 1);
        refuse(abi.encodeWithSelector(Rollup.Frozen.selector, START + 14 days), batch());
        vm.warp(START + 14 days);
        settle(batch());
    }

    function test_false_proofs_other_programs_and_no_proof_are_refused() public {
        bytes memory values = abi.encode(batch());
        refuseProofs(abi.encodeWithSelector(Rollup.NotEnoughProofs.selector, 0, 1), values, new Proof[](0));
        Proof[] memory proofs = proofsOf(values);
        proofs[0].data = mockProof(keccak256("another program"), values);
        refuseProofs(falseProof, values, proofs);
        proofs[0].data = bytes.concat(mockProof(PROGRAM, values), hex"00");
        refuseProofs(falseProof, values, proofs);
        proofs[0].data = "";
        refuseProofs(falseProof, values, proofs);
        for (uint256 i = 0; i < 86; i++) {
            proofs[0].data = mockProof(PROGRAM, values);
            proofs[0].data[i] ^= 0x80;
            refuseProofs(falseProof, values, proofs);
        }
        proofs[0] = Proof(1, mockProof(PROGRAM, values));
        refuseProofs(abi.encodeWithSelector(Rollup.UnknownSystem.selector, 1), values, proofs);
    }

    /// Two of three systems, the last two of which are of one family.
    function twoOfThree() internal returns (bytes memory values, Proof[] memory proofs) {
        Policy memory policy = policyOf(mock);
        System memory second = System(address(new DangerMock()), keccak256("second"), "two");
        System memory third = System(second.adapter, keccak256("third"), "two");
        policy.systems = new System[](3);
        (policy.systems[0], policy.systems[1], policy.systems[2]) = (policyOf(mock).systems[0], second, third);
        policy.threshold = 2;
        rollup = deploy(policy);
        bridge = rollup.bridge();
        values = abi.encode(batch());
        proofs = new Proof[](3);
        proofs[0] = Proof(0, mockProof(PROGRAM, values));
        proofs[1] = Proof(1, mockProof(second.programId, values));
        proofs[2] = Proof(2, mockProof(third.programId, values));
    }

    function some(Proof[] memory from, uint256 first, uint256 second) internal pure returns (Proof[] memory proofs) {
        proofs = new Proof[](2);
        (proofs[0], proofs[1]) = (from[first], from[second]);
    }

    function test_k_proofs_of_different_families_settle() public {
        (bytes memory values, Proof[] memory proofs) = twoOfThree();
        uint256 before = vm.snapshotState();
        vm.prank(SEQUENCER);
        rollup.settle(values, 0, some(proofs, 0, 1));
        vm.revertToState(before);
        vm.prank(SEQUENCER);
        rollup.settle(values, 0, some(proofs, 0, 2));
    }

    function test_a_proof_or_a_family_counts_once_and_the_order_is_fixed() public {
        (bytes memory values, Proof[] memory proofs) = twoOfThree();
        refuseProofs(abi.encodeWithSelector(Rollup.ProofOrder.selector, 0), values, some(proofs, 0, 0));
        refuseProofs(abi.encodeWithSelector(Rollup.ProofOrder.selector, 0), values, some(proofs, 1, 0));
        refuseProofs(abi.encodeWithSelector(Rollup.SameFamily.selector, bytes32("two")), values, some(proofs, 1, 2));
        refuseProofs(abi.encodeWithSelector(Rollup.SameFamily.selector, bytes32("two")), values, proofs);
        Proof[] memory one = new Proof[](1);
        one[0] = proofs[1];
        refuseProofs(abi.encodeWithSelector(Rollup.NotEnoughProofs.selector, 1, 2), values, one);
        // One false proof among enough.
        Proof[] memory bad = some(proofs, 0, 1);
        bad[1].data = bad[0].data;
        refuseProofs(
            abi.encodeWithSelector(Rollup.ProofRefused.selector, uint8(1), abi.encodeWithSelector(DangerMock.NotTheMockProof.selector)),
            values,
            bad
        );
    }

    function test_an_adapter_whose_code_is_gone_accepts_nothing() public {
        bytes memory values = abi.encode(batch());
        vm.etch(address(mock), "");
        vm.prank(SEQUENCER);
        vm.expectRevert();
        rollup.settle(values, 0, proofsOf(values));
    }

    /// Whatever it does, what is settled is the batch that was proven.
    function testFuzz_only_the_right_proof_settles(uint256 bit) public {
        bytes memory good = abi.encode(batch());
        bytes memory values = bytes.concat(good);
        values[(bit / 8) % 448] ^= bytes1(uint8(1 << (bit % 8)));
        Proof[] memory proofs = proofsOf(good);
        vm.prank(SEQUENCER);
        vm.expectRevert();
        rollup.settle(values, 0, proofs);
    }

    function refuseProofs(bytes memory reason, bytes memory values, Proof[] memory proofs) internal {
        vm.prank(SEQUENCER);
        vm.expectRevert(reason);
        rollup.settle(values, 0, proofs);
    }

    function refuseBytes(bytes memory reason, bytes memory values) internal {
        Proof[] memory proofs = proofsOf(values);
        vm.prank(SEQUENCER);
        vm.expectRevert(reason);
        rollup.settle(values, 0, proofs);
    }

    function malformed(string memory what) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(MalformedStatement.selector, what);
    }

    function unknown(uint256 index, bytes32 link) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(Bridge.UnknownLink.selector, index, link);
    }
}
