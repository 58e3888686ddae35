// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Bridge} from "../src/Bridge.sol";
import {Head, L2, Policy, Roles, Rollup, System} from "../src/Rollup.sol";
import {DangerMock} from "../src/systems/DangerMock.sol";
import {Base, check, equal, vm} from "./Base.sol";

/// Who may change what, and when.
contract PolicyTest is Base {
    function test_what_was_deployed_can_be_read() public view {
        check(keccak256(abi.encode(rollup.policy())) == keccak256(abi.encode(policyOf(mock))), "policy");
        check(keccak256(abi.encode(rollup.head())) == keccak256(abi.encode(genesis())), "head");
        check(rollup.governance() == GOVERNANCE && rollup.guardian() == GUARDIAN && rollup.council() == COUNCIL, "roles");
        equal(rollup.lastSettled(), START, "time of the deployment");
        check(address(bridge.rollup()) == address(rollup) && bridge.outbox() == OUTBOX, "the Bridge's ends");
        equal(bridge.l2ChainId(), L2_CHAIN, "the Bridge's chain");
    }

    function test_a_genesis_with_deposits_or_a_link_is_refused() public {
        Policy memory policy = policyOf(mock);
        Head memory bad = genesis();
        bad.deposits = 1;
        vm.expectRevert(abi.encodeWithSelector(Bridge.UnknownLink.selector, 1, bytes32(0)));
        this.deployFrom(bad, policy);
        bad.deposits = 0;
        bad.link = bytes32(uint256(1));
        vm.expectRevert(abi.encodeWithSelector(Bridge.UnknownLink.selector, 0, bad.link));
        this.deployFrom(bad, policy);
        this.deployFrom(genesis(), policy);
    }

    function test_policies_that_prove_nothing_are_refused() public {
        Policy memory policy = policyOf(mock);
        policy.threshold = 0;
        refused(abi.encodeWithSelector(Rollup.InvalidThreshold.selector, 0, 1), policy);
        policy.threshold = 2;
        refused(abi.encodeWithSelector(Rollup.InvalidThreshold.selector, 2, 1), policy);
        policy.systems = new System[](0);
        policy.threshold = 0;
        refused(abi.encodeWithSelector(Rollup.InvalidThreshold.selector, 0, 0), policy);
        policy.threshold = 1;
        refused(abi.encodeWithSelector(Rollup.InvalidThreshold.selector, 1, 0), policy);

        policy = policyOf(mock);
        policy.systems[0].adapter = address(0x1234);
        refused(abi.encodeWithSelector(Rollup.InvalidSystem.selector, 0), policy);
        policy = policyOf(mock);
        policy.systems[0].programId = 0;
        refused(abi.encodeWithSelector(Rollup.InvalidSystem.selector, 0), policy);
        policy = policyOf(mock);
        policy.systems[0].family = 0;
        refused(abi.encodeWithSelector(Rollup.InvalidSystem.selector, 0), policy);
        // The same adapter again: under another family it would count twice, under its own it does not count.
        policy = policyOf(mock);
        System memory first = policy.systems[0];
        policy.systems = new System[](2);
        policy.systems[0] = first;
        policy.systems[1] = System(first.adapter, keccak256("other"), "other");
        refused(abi.encodeWithSelector(Rollup.InvalidSystem.selector, 1), policy);
        policy.systems[1].family = first.family;
        policy.threshold = 2;
        refused(abi.encodeWithSelector(Rollup.InvalidThreshold.selector, 2, 1), policy);
        policy.threshold = 1;
        deploy(policy);
        // Another adapter of another family counts.
        policy.systems[1] = System(address(new DangerMock()), keccak256("other"), "other");
        policy.threshold = 2;
        deploy(policy);
    }

    function test_times_outside_their_limits_are_refused() public {
        bytes memory reason = abi.encodeWithSelector(Rollup.InvalidTimes.selector);
        Policy memory policy = policyOf(mock);
        policy.delay = 7 days + FINALITY - 1;
        refused(reason, policy);
        policy.delay = 7 days + FINALITY;
        deploy(policy);
        policy.delay = 365 days;
        deploy(policy);
        policy.delay = 365 days + 1;
        refused(reason, policy);
        policy.delay = 365 days;
        policy.finality = 30 days;
        deploy(policy);
        policy.finality = 30 days + 1;
        refused(reason, policy);
        // A sum that wraps.
        policy.finality = type(uint64).max;
        policy.delay = 7 days - 1;
        refused(reason, policy);
        policy = policyOf(mock);
        policy.window = 1 hours;
        deploy(policy);
        policy.window = 1 hours - 1;
        refused(reason, policy);
        policy.window = 30 days;
        deploy(policy);
        policy.window = 30 days + 1;
        refused(reason, policy);
        policy = policyOf(mock);
        policy.fallbackAfter = 30 days;
        deploy(policy);
        policy.fallbackAfter = 30 days + 1;
        refused(reason, policy);
        policy.fallbackAfter = 0;
        deploy(policy);
    }

    function other() internal pure returns (Policy memory policy) {
        policy.systems = new System[](1);
        policy.threshold = 1;
        policy.chainConfigDigest = keccak256("other rules");
        (policy.delay, policy.finality, policy.window, policy.fallbackAfter) = (20 days, 2 days, 2 hours, 0);
    }

    function proposed() internal returns (Policy memory policy) {
        policy = other();
        policy.systems[0] = System(address(new DangerMock()), keccak256("other program"), "other");
        vm.prank(GOVERNANCE);
        rollup.proposePolicy(keccak256(abi.encode(policy)));
    }

    function test_a_proposed_policy_is_applied_after_the_delay_and_once() public {
        Policy memory policy = proposed();
        bytes32 hash = keccak256(abi.encode(policy));
        vm.warp(START + DELAY - 1);
        vm.expectRevert(abi.encodeWithSelector(Rollup.TooEarly.selector, START + DELAY));
        rollup.applyPolicy(policy);
        vm.warp(START + DELAY);
        Policy memory another = policyOf(mock);
        another.threshold = 2;
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotProposed.selector, keccak256(abi.encode(another))));
        rollup.applyPolicy(another);
        vm.expectEmit(address(rollup));
        emit Rollup.PolicyApplied(policy);
        rollup.applyPolicy(policy);
        check(keccak256(abi.encode(rollup.policy())) == hash, "the new policy");
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotProposed.selector, hash));
        rollup.applyPolicy(policy);
        // It counts: anybody may settle, but under other rules.
        vm.warp(START + DELAY + 1);
        refuseAs(
            ANYBODY, abi.encodeWithSelector(Rollup.WrongChainConfig.selector, RULES, policy.chainConfigDigest), batch(), 0
        );
    }

    function test_a_proposed_policy_that_is_invalid_is_not_applied() public {
        Policy memory policy = policyOf(mock);
        policy.threshold = 0;
        vm.prank(GOVERNANCE);
        rollup.proposePolicy(keccak256(abi.encode(policy)));
        vm.warp(START + DELAY);
        vm.expectRevert(abi.encodeWithSelector(Rollup.InvalidThreshold.selector, 0, 1));
        rollup.applyPolicy(policy);
    }

    function test_a_proposal_is_replaced_and_taken_back() public {
        Policy memory policy = proposed();
        vm.warp(START + DELAY - 1);
        vm.prank(GOVERNANCE);
        rollup.proposePolicy(keccak256(abi.encode(policy)));
        vm.warp(START + DELAY);
        // The delay runs from the last proposal.
        vm.expectRevert(abi.encodeWithSelector(Rollup.TooEarly.selector, START + 2 * DELAY - 1));
        rollup.applyPolicy(policy);
        vm.prank(GOVERNANCE);
        rollup.proposePolicy(0);
        vm.warp(START + 3 * DELAY);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotProposed.selector, keccak256(abi.encode(policy))));
        rollup.applyPolicy(policy);
    }

    function test_a_freeze_makes_the_delay_begin_again_at_its_end() public {
        Policy memory policy = proposed();
        vm.warp(START + DELAY - 1);
        freeze();
        uint256 end = START + DELAY - 1 + 14 days;
        vm.warp(end + DELAY - 1);
        vm.expectRevert(abi.encodeWithSelector(Rollup.TooEarly.selector, end + DELAY));
        rollup.applyPolicy(policy);
        vm.warp(end + DELAY);
        rollup.applyPolicy(policy);
    }

    function test_roles_are_kept_apart() public {
        address[4] memory all = [GOVERNANCE, GUARDIAN, COUNCIL, ANYBODY];
        freeze();
        for (uint256 i = 0; i < 4; i++) {
            if (all[i] != GOVERNANCE) {
                vm.prank(all[i]);
                vm.expectRevert(abi.encodeWithSelector(Rollup.OnlyRole.selector, GOVERNANCE));
                rollup.proposePolicy(0);
                vm.prank(all[i]);
                vm.expectRevert(abi.encodeWithSelector(Rollup.OnlyRole.selector, GOVERNANCE));
                rollup.renewFreeze();
            }
            if (all[i] != GUARDIAN) {
                vm.prank(all[i]);
                vm.expectRevert(abi.encodeWithSelector(Rollup.OnlyRole.selector, GUARDIAN));
                rollup.freeze();
            }
            if (all[i] != COUNCIL) {
                vm.prank(all[i]);
                vm.expectRevert(abi.encodeWithSelector(Rollup.OnlyRole.selector, COUNCIL));
                rollup.unfreeze();
                vm.prank(all[i]);
                vm.expectRevert(abi.encodeWithSelector(Rollup.OnlyRole.selector, COUNCIL));
                rollup.rescue(policyOf(mock), genesis());
            }
        }
    }

    function test_the_guardian_freezes_once_until_governance_renews_it() public {
        check(!rollup.freezeSpent(), "not spent");
        freeze();
        equal(rollup.frozenUntil(), START + 14 days, "end");
        vm.prank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(Rollup.FreezeSpent.selector));
        rollup.freeze();
        vm.warp(START + 15 days);
        vm.prank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(Rollup.FreezeSpent.selector));
        rollup.freeze();
        vm.prank(GOVERNANCE);
        rollup.renewFreeze();
        freeze();
        equal(rollup.frozenUntil(), START + 29 days, "end of the second one");
    }

    function test_the_council_acts_only_while_frozen() public {
        bytes memory reason = abi.encodeWithSelector(Rollup.NotFrozen.selector);
        councilRefused(reason);
        freeze();
        vm.warp(START + 14 days);
        councilRefused(reason);
        vm.prank(GOVERNANCE);
        rollup.renewFreeze();
        freeze();
        vm.prank(COUNCIL);
        rollup.unfreeze();
        equal(rollup.frozenUntil(), START + 14 days, "end");
        settle(batch());
        councilRefused(reason);
    }

    function councilRefused(bytes memory reason) internal {
        Head memory head = rollup.head();
        vm.prank(COUNCIL);
        vm.expectRevert(reason);
        rollup.unfreeze();
        vm.prank(COUNCIL);
        vm.expectRevert(reason);
        rollup.rescue(policyOf(mock), head);
    }

    function test_the_council_replaces_a_policy_at_once_and_keeps_the_head() public {
        settle(batch());
        bytes32 root = rollup.head().stateRoot;
        Policy memory pending = proposed();
        freeze();
        Policy memory policy = policyOf(mock);
        policy.chainConfigDigest = keccak256("mended rules");
        Head memory head = rollup.head();
        vm.prank(COUNCIL);
        rollup.rescue(policy, head);
        check(keccak256(abi.encode(rollup.policy())) == keccak256(abi.encode(policy)), "the council's policy");
        check(keccak256(abi.encode(rollup.head())) == keccak256(abi.encode(head)), "the same head");
        // What governance had proposed is void.
        vm.warp(START + 14 days + DELAY);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotProposed.selector, keccak256(abi.encode(pending))));
        rollup.applyPolicy(pending);
        rollup.claimable(103, root);
    }

    function test_an_invalid_policy_is_refused_from_the_council_too() public {
        freeze();
        Policy memory policy = policyOf(mock);
        policy.threshold = 0;
        vm.prank(COUNCIL);
        vm.expectRevert(abi.encodeWithSelector(Rollup.InvalidThreshold.selector, 0, 1));
        rollup.rescue(policy, genesis());
    }

    function test_the_council_discards_what_a_false_proof_settled() public {
        bytes32 first = deposit(ANYBODY, 1 gwei);
        settle(batch());
        Head memory good = rollup.head();
        vm.warp(START + 1 hours);
        settle(batch(1, first), first);
        Head memory bad = rollup.head();
        freeze();
        // The link must be the queue's there too.
        Head memory impossible = good;
        impossible.link = first;
        vm.prank(COUNCIL);
        vm.expectRevert(abi.encodeWithSelector(Bridge.UnknownLink.selector, 0, first));
        rollup.rescue(policyOf(mock), impossible);
        impossible.link = 0;
        vm.expectEmit(address(rollup));
        emit Rollup.Rescued(good);
        vm.prank(COUNCIL);
        rollup.rescue(policyOf(mock), good);
        check(keccak256(abi.encode(rollup.head())) == keccak256(abi.encode(good)), "the head before");

        vm.prank(COUNCIL);
        rollup.unfreeze();
        vm.warp(START + 1 hours + 1);
        // The deposit is there to be consumed again. The bad batch may come again, and then it counts from now.
        settle(batch(1, first), first);
        vm.warp(START + 10 days);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotSettled.selector, 103, good.stateRoot));
        rollup.claimable(103, good.stateRoot);
        rollup.claimable(106, bad.stateRoot);
    }

    function test_what_was_settled_in_the_second_of_a_rescue_is_discarded() public {
        settle(batch());
        bytes32 root = rollup.head().stateRoot;
        freeze();
        vm.prank(COUNCIL);
        rollup.rescue(policyOf(mock), genesis());
        vm.warp(START + 30 days);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotSettled.selector, 103, root));
        rollup.claimable(103, root);
    }

    function test_a_root_is_claimable_after_finality_and_not_while_frozen() public {
        settle(batch());
        bytes32 root = rollup.head().stateRoot;
        vm.warp(START + FINALITY - 1);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotFinal.selector, START + FINALITY));
        rollup.claimable(103, root);
        vm.warp(START + FINALITY);
        rollup.claimable(103, root);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotSettled.selector, 102, root));
        rollup.claimable(102, root);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotSettled.selector, 103, bytes32(0)));
        rollup.claimable(103, 0);
        freeze();
        vm.expectRevert(abi.encodeWithSelector(Rollup.Frozen.selector, START + FINALITY + 14 days));
        rollup.claimable(103, root);
        vm.warp(START + FINALITY + 14 days);
        rollup.claimable(103, root);
    }

    function deployFrom(Head calldata head, Policy calldata policy) external {
        new Rollup(head, policy, Roles(GOVERNANCE, GUARDIAN, COUNCIL), L2(L2_CHAIN, OUTBOX));
    }

    function refused(bytes memory reason, Policy memory policy) internal {
        vm.expectRevert(reason);
        this.deployFrom(genesis(), policy);
    }
}
