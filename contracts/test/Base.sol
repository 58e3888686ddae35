// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Bridge} from "../src/Bridge.sol";
import {Outbox} from "../src/Outbox.sol";
import {Head, L2, Policy, Proof, Roles, Rollup, System} from "../src/Rollup.sol";
import {Deposits, Statement} from "../src/Statement.sol";
import {DangerMock} from "../src/systems/DangerMock.sol";

/// The cheatcodes of forge that the tests use.
interface Vm {
    struct Gas {
        uint64 gasLimit;
        uint64 gasTotalUsed;
        uint64 gasMemoryUsed;
        int64 gasRefunded;
        uint64 gasRemaining;
    }

    function chainId(uint256 id) external;
    function deal(address who, uint256 amount) external;
    function etch(address where, bytes calldata code) external;
    function expectEmit(address emitter) external;
    function expectRevert(bytes calldata reason) external;
    function expectRevert() external;
    function lastCallGas() external view returns (Gas memory);
    function load(address where, bytes32 slot) external view returns (bytes32);
    function parseJsonUint(string calldata json, string calldata key) external pure returns (uint256);
    function prank(address who) external;
    function readFile(string calldata path) external view returns (string memory);
    function readFileBinary(string calldata path) external view returns (bytes memory);
    function snapshotState() external returns (uint256);
    function revertToState(uint256 id) external returns (bool);
    function toString(uint256 number) external pure returns (string memory);
    function warp(uint256 time) external;
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

function check(bool held, string memory what) pure {
    require(held, what);
}

function equal(uint256 found, uint256 expected, string memory what) pure {
    if (found != expected) {
        revert(string.concat(what, ": found ", vm.toString(found), ", expected ", vm.toString(expected)));
    }
}

/// A rollup under a policy of one mock system, and batches for it.
abstract contract Base {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant L2_CHAIN = 1337;
    address internal constant OUTBOX = 0x00000000000000000000000000000000000000B0;
    address internal constant SEQUENCER = address(0x5e9);
    address internal constant GOVERNANCE = address(0x60f);
    address internal constant GUARDIAN = address(0x94a);
    address internal constant COUNCIL = address(0xc04);
    address internal constant ANYBODY = address(0xa11);
    bytes32 internal constant PROGRAM = keccak256("program");
    bytes32 internal constant RULES = keccak256("rules");
    uint64 internal constant FINALITY = 1 days;
    uint64 internal constant WINDOW = 12 hours;
    uint64 internal constant FALLBACK = 2 days;
    uint64 internal constant DELAY = 10 days;

    DangerMock internal mock;
    Rollup internal rollup;
    Bridge internal bridge;

    function setUp() public virtual {
        vm.warp(START);
        mock = new DangerMock();
        rollup = deploy(policyOf(mock));
        bridge = rollup.bridge();
    }

    function deploy(Policy memory policy) internal returns (Rollup) {
        return new Rollup(genesis(), policy, Roles(GOVERNANCE, GUARDIAN, COUNCIL), L2(L2_CHAIN, OUTBOX));
    }

    function genesis() internal pure returns (Head memory) {
        return Head(keccak256("genesis"), keccak256("genesis state"), 100, 0, 0);
    }

    function policyOf(DangerMock adapter) internal pure returns (Policy memory policy) {
        policy.systems = new System[](1);
        policy.systems[0] = System(address(adapter), PROGRAM, "mock");
        policy.threshold = 1;
        policy.chainConfigDigest = RULES;
        policy.sequencer = SEQUENCER;
        (policy.delay, policy.finality, policy.window, policy.fallbackAfter) = (DELAY, FINALITY, WINDOW, FALLBACK);
    }

    /// A batch of three blocks after the head, which consumes `count` deposits up to `link`.
    function batch(uint64 count, bytes32 link) internal view returns (Statement memory) {
        Head memory head = rollup.head();
        return Statement({
            version: 2,
            chainConfigDigest: RULES,
            parentHash: head.hash,
            lastHash: keccak256(abi.encode("hash", head.number + 3)),
            firstNumber: head.number + 1,
            lastNumber: head.number + 3,
            preStateRoot: head.stateRoot,
            postStateRoot: keccak256(abi.encode("state", head.number + 3)),
            depositsDigest: Deposits.digest(head.link, link),
            depositsCount: count,
            messagesRoot: 0,
            lastTimestamp: uint64(block.timestamp),
            dataCommitment: 0,
            beneficiary: address(0xbe9e)
        });
    }

    /// The same without deposits.
    function batch() internal view returns (Statement memory) {
        return batch(0, rollup.head().link);
    }

    function mockProof(bytes32 program, bytes memory values) internal pure returns (bytes memory) {
        return abi.encodePacked("DANGER: proves nothing", program, keccak256(values));
    }

    function proofsOf(bytes memory values) internal pure returns (Proof[] memory proofs) {
        proofs = new Proof[](1);
        proofs[0] = Proof(0, mockProof(PROGRAM, values));
    }

    /// The sequencer settles.
    function settle(Statement memory statement, bytes32 link) internal {
        settleAs(SEQUENCER, statement, link);
    }

    function settle(Statement memory statement) internal {
        settle(statement, rollup.head().link);
    }

    function settleAs(address who, Statement memory statement, bytes32 link) internal {
        bytes memory values = abi.encode(statement);
        vm.prank(who);
        rollup.settle(values, link, proofsOf(values));
    }

    /// `settle` must revert with this error.
    function refuse(bytes memory reason, Statement memory statement, bytes32 link) internal {
        refuseAs(SEQUENCER, reason, statement, link);
    }

    function refuse(bytes memory reason, Statement memory statement) internal {
        refuse(reason, statement, rollup.head().link);
    }

    function refuseAs(address who, bytes memory reason, Statement memory statement, bytes32 link) internal {
        bytes memory values = abi.encode(statement);
        Proof[] memory proofs = proofsOf(values);
        vm.prank(who);
        vm.expectRevert(reason);
        rollup.settle(values, link, proofs);
    }

    /// A deposit by somebody; the link after it.
    function deposit(address to, uint256 amount) internal returns (bytes32) {
        vm.deal(ANYBODY, amount);
        vm.prank(ANYBODY);
        bridge.deposit{value: amount}(to);
        return bridge.lastLink();
    }

    function freeze() internal {
        vm.prank(GUARDIAN);
        rollup.freeze();
    }
}
