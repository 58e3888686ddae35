// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Bridge} from "../src/Bridge.sol";
import {Outbox, Withdrawal, Withdrawals} from "../src/Outbox.sol";
import {Proof, Rollup} from "../src/Rollup.sol";
import {Statement} from "../src/Statement.sol";
import {Base, check, vm} from "./Base.sol";
import {Tries} from "./Tries.sol";

/// Gas of whole transactions, compared with gas.json: more than 1 % above it fails, and so does more than the bar.
///
/// Run with `--isolate`, so that every call is a transaction of its own: storage is cold, and 21,000 and the call data are paid.
contract GasTest is Base {
    string private golden;

    function setUp() public override {
        super.setUp();
        golden = vm.readFile("gas.json");
    }

    /// Of the call before: what it used, or the floor for its call data (EIP-7623) if that is more.
    function measure(string memory what, bytes memory data, uint256 bar) internal {
        uint256 used = vm.lastCallGas().gasTotalUsed;
        uint256 tokens = 0;
        for (uint256 i = 0; i < data.length; i++) tokens += data[i] == 0 ? 1 : 4;
        uint256 floor = 21_000 + 10 * tokens;
        if (used < floor) used = floor;
        emit log_named_uint(what, used);
        check(used <= bar, string.concat(what, " is above the bar: ", vm.toString(used)));
        uint256 before = vm.parseJsonUint(golden, string.concat(".", what));
        check(used * 100 <= before * 101, string.concat(what, " grew to ", vm.toString(used), ", see gas.json"));
        check(used * 100 >= before * 99, string.concat(what, " shrank to ", vm.toString(used), ", write it into gas.json"));
    }

    event log_named_uint(string key, uint256 val);

    function depositGas(string memory what) internal {
        vm.deal(ANYBODY, 1 ether);
        vm.prank(ANYBODY);
        bridge.deposit{value: 1 ether}(0x6fC21092DA55B392b045eD78F4732bff3C580e2c);
        measure(what, abi.encodeCall(Bridge.deposit, (0x6fC21092DA55B392b045eD78F4732bff3C580e2c)), 75_000);
    }

    function test_gas_of_deposits() public {
        depositGas("deposit_first");
        for (uint256 i = 0; i < 9; i++) depositGas("deposit");
    }

    function settleGas(string memory what, uint64 count, bytes32 link, uint256 bar) internal {
        bytes memory values = abi.encode(batch(count, link));
        Proof[] memory proofs = proofsOf(values);
        vm.prank(SEQUENCER);
        rollup.settle(values, link, proofs);
        measure(what, abi.encodeCall(Rollup.settle, (values, link, proofs)), bar);
    }

    function test_gas_of_settling_with_the_mock() public {
        settleGas("settle", 0, 0, 100_000);
        settleGas("settle", 0, 0, 100_000);
        bytes32 link = deposit(ANYBODY, 1 ether);
        settleGas("settle_deposits", 1, link, 100_000);
        deposit(ANYBODY, 1 ether);
        link = deposit(ANYBODY, 1 ether);
        settleGas("settle_deposits", 2, link, 100_000);
        bytes32 middle = deposit(ANYBODY, 1 ether);
        deposit(ANYBODY, 1 ether);
        settleGas("settle_deposits", 1, middle, 100_000);
    }

    function test_gas_of_claims() public {
        deposit(ANYBODY, 100 ether);
        claims(9, 6, "claim", "open", "claim_opened");
        claims(2, 1, "claim_small", "open_small", "claim_opened_small");
    }

    function claims(uint256 levels, uint256 storageLevels, string memory whole, string memory opening, string memory opened) internal {
        Withdrawal memory w = Withdrawal(uint64(levels), 0x6fC21092DA55B392b045eD78F4732bff3C580e2c, address(uint160(levels) << 100), 1 ether);
        bytes32 id = bridge.idOf(w);
        (bytes32 root, bytes[] memory proof) = Tries.prove(
            abi.encodePacked(keccak256(abi.encode(id, uint256(0)))), Tries.text(abi.encodePacked(Withdrawals.word(id))), storageLevels
        );
        bytes[] memory accountProof;
        (root, accountProof) = Tries.prove(abi.encodePacked(OUTBOX), Tries.account(root, bridge.outboxCodeHash()), levels);
        bytes32 link = bridge.lastLink();
        Statement memory next = batch(bridge.deposits() - rollup.head().deposits, link);
        next.postStateRoot = root;
        settle(next, link);
        vm.warp(block.timestamp + FINALITY);
        // Whom nobody has paid before: 25,000 gas more.
        uint256 before = vm.snapshotState();
        bridge.claim(w, next.lastNumber, accountProof, proof);
        measure(whole, abi.encodeCall(Bridge.claim, (w, next.lastNumber, accountProof, proof)), 400_000);
        vm.revertToState(before);
        bridge.open(next.lastNumber, accountProof);
        measure(opening, abi.encodeCall(Bridge.open, (next.lastNumber, accountProof)), 400_000);
        bridge.claim(w, next.lastNumber, new bytes[](0), proof);
        measure(opened, abi.encodeCall(Bridge.claim, (w, next.lastNumber, new bytes[](0), proof)), 200_000);
    }

    function test_gas_of_a_withdrawal_on_the_L2() public {
        vm.etch(OUTBOX, type(Outbox).runtimeCode);
        for (uint256 i = 0; i < 2; i++) {
            vm.deal(ANYBODY, 1 ether);
            vm.prank(ANYBODY);
            Outbox(OUTBOX).withdraw{value: 1 ether}(ANYBODY);
            if (i == 1) measure("withdraw", abi.encodeCall(Outbox.withdraw, (ANYBODY)), 80_000);
        }
    }
}
