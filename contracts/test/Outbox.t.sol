// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Outbox, Withdrawal, Withdrawals} from "../src/Outbox.sol";
import {check, equal, vm} from "./Base.sol";

/// `Outbox`, as it stands in a genesis: its runtime code, nothing else.
contract OutboxTest {
    Outbox internal constant outbox = Outbox(0x00000000000000000000000000000000000000B0);

    function setUp() public {
        vm.etch(address(outbox), type(Outbox).runtimeCode);
        vm.chainId(1337);
        vm.deal(address(this), 100 ether);
    }

    function test_a_withdrawal_is_recorded_where_storage_proofs_look() public {
        bytes32 id = keccak256(abi.encode(1337, address(outbox), uint64(0), address(this), address(0x70), 3 ether + 1));
        vm.expectEmit(address(outbox));
        emit Outbox.Withdrawn(id, address(this), address(0x70), 3 ether + 1, 0);
        check(outbox.withdraw{value: 3 ether + 1}(address(0x70)) == id, "id");
        bytes32 word = id | bytes32(uint256(1) << 255);
        check(vm.load(address(outbox), keccak256(abi.encode(id, uint256(0)))) == word, "slot");
        check(outbox.sent(id) == word, "sent");
        equal(uint256(vm.load(address(outbox), bytes32(uint256(1)))), 1, "the slot of the nonce");
        equal(address(outbox).balance, 3 ether + 1, "the ether stays");
    }

    function test_the_same_withdrawal_twice_is_two() public {
        bytes32 first = outbox.withdraw{value: 1}(address(0x70));
        bytes32 second = outbox.withdraw{value: 1}(address(0x70));
        check(first != second, "ids differ");
        check(second == Withdrawals.id(Withdrawal(1, address(this), address(0x70), 1), 1337, address(outbox)), "nonce");
        equal(outbox.nonce(), 2, "nonce");
    }

    function test_a_withdrawal_of_nothing_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(Outbox.NoValue.selector));
        outbox.withdraw(address(0x70));
        (bool ok,) = address(outbox).call{value: 1}("");
        check(!ok, "ether without a call is refused");
    }
}
