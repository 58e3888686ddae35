// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Bridge} from "../src/Bridge.sol";
import {Outbox, Withdrawal, Withdrawals} from "../src/Outbox.sol";
import {Rollup} from "../src/Rollup.sol";
import {Deposit, Deposits, Statement} from "../src/Statement.sol";
import {TrieVerifier} from "../src/TrieVerifier.sol";
import {Base, check, equal, vm} from "./Base.sol";
import {Tries} from "./Tries.sol";

/// Claims again what it is being paid, and another withdrawal.
contract Reenterer {
    Bridge private immutable bridge;
    bytes[] private again;
    bytes[] private results;
    uint256 public received;

    constructor(Bridge bridge_) {
        bridge = bridge_;
    }

    function prepare(bytes memory call) external {
        again.push(call);
    }

    function result(uint256 index) external view returns (bytes memory) {
        return results[index];
    }

    receive() external payable {
        received += msg.value;
        if (results.length > 0) return;
        for (uint256 i = 0; i < again.length; i++) {
            results.push("running");
            (bool ok, bytes memory returned) = address(bridge).call(again[i]);
            results[i] = ok ? bytes("ok") : returned;
        }
    }
}

/// Refuses ether, with a megabyte of reasons.
contract Refuser {
    receive() external payable {
        assembly {
            revert(0, 1000000)
        }
    }
}

/// Uses up whatever gas it gets.
contract Burner {
    receive() external payable {
        while (true) {}
    }
}

/// `Bridge`: deposits and claims.
contract BridgeTest is Base {
    uint64 internal number;
    bytes32 internal stateRoot;
    bytes[] internal accountProof;
    bytes[] internal storageProof;

    function withdrawal(uint64 nonce, address to, uint256 amount) internal pure returns (Withdrawal memory) {
        return Withdrawal(nonce, address(0xf40), to, amount);
    }

    function key(bytes32 id) internal pure returns (bytes memory) {
        return abi.encodePacked(keccak256(abi.encode(id, uint256(0))));
    }

    /// Settles a state in which the Outbox's storage and code have these hashes.
    function settleState(bytes32 storageRoot, bytes32 codeHash) internal {
        (stateRoot, accountProof) = Tries.prove(abi.encodePacked(OUTBOX), Tries.account(storageRoot, codeHash), 4);
        settleRoot();
    }

    /// Settles a batch that ends in `stateRoot` and consumes all deposits, and waits until it is final.
    function settleRoot() internal {
        Statement memory next = batch(bridge.deposits() - rollup.head().deposits, bridge.lastLink());
        next.postStateRoot = stateRoot;
        number = next.lastNumber;
        settle(next, bridge.lastLink());
        vm.warp(block.timestamp + FINALITY);
    }

    /// Settles a state in which the slot of a withdrawal has this value.
    function settleValue(Withdrawal memory w, bytes memory value) internal {
        bytes32 storageRoot;
        (storageRoot, storageProof) = Tries.prove(key(bridge.idOf(w)), value, 3);
        settleState(storageRoot, bridge.outboxCodeHash());
    }

    /// Settles a state in which this withdrawal was made.
    function settleWithdrawal(Withdrawal memory w) internal {
        settleValue(w, Tries.text(abi.encodePacked(Withdrawals.word(bridge.idOf(w)))));
    }

    function fund(uint256 amount) internal {
        deposit(ANYBODY, amount);
    }

    function claim(Withdrawal memory w) internal {
        bridge.claim(w, number, accountProof, storageProof);
    }

    function refuseClaim(bytes memory reason, Withdrawal memory w) internal {
        vm.expectRevert(reason);
        bridge.claim(w, number, accountProof, storageProof);
    }

    // Deposits.

    function test_deposits_are_a_chain_of_links() public {
        address to = address(0xd3);
        bytes32 before = 0;
        equal(bridge.next(0, 0), 0, "no deposit");
        for (uint64 i = 0; i < 5; i++) {
            vm.warp(START + i * 10);
            uint64 amount = 1 + i * 1_000_000_000;
            bytes32 link = keccak256(abi.encodePacked(before, i, uint64(0), to, amount));
            vm.deal(ANYBODY, uint256(amount) * 1 gwei);
            vm.expectEmit(address(bridge));
            emit Bridge.Deposited(i, ANYBODY, to, amount, link);
            vm.prank(ANYBODY);
            equal(bridge.deposit{value: uint256(amount) * 1 gwei}(to), i, "index");
            check(bridge.lastLink() == link, "link");
            equal(bridge.deposits(), i + 1, "deposits");
            equal(bridge.next(i, before), START + i * 10, "time");
            equal(bridge.next(i + 1, link), 0, "no deposit after it");
            before = link;
        }
        check(before == Deposits.next(bytesLink(4), Deposit(4, 0, to, 4_000_000_001)), "as the statement's library chains them");
        equal(address(bridge).balance, 10_000_000_005 gwei, "balance");
    }

    function bytesLink(uint64 n) internal pure returns (bytes32 link) {
        for (uint64 i = 0; i < n; i++) link = Deposits.next(link, Deposit(i, 0, address(0xd3), 1 + i * 1_000_000_000));
    }

    function test_links_that_the_queue_never_had_are_unknown() public {
        bytes32 first = deposit(ANYBODY, 1 gwei);
        bytes32 second = deposit(ANYBODY, 1 gwei);
        unknown(0, first);
        unknown(1, 0);
        unknown(1, second);
        unknown(2, first);
        unknown(2, 0);
        unknown(3, second);
        unknown(type(uint256).max, second);
        equal(bridge.next(2, second), 0, "the last one");
    }

    function unknown(uint256 index, bytes32 link) internal {
        vm.expectRevert(abi.encodeWithSelector(Bridge.UnknownLink.selector, index, link));
        bridge.next(index, link);
    }

    function test_deposits_of_nothing_of_fractions_and_of_too_much_are_refused() public {
        vm.deal(address(this), type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(Bridge.NoValue.selector));
        bridge.deposit(ANYBODY);
        vm.expectRevert(abi.encodeWithSelector(Bridge.NotWholeGwei.selector, 1 gwei + 1));
        bridge.deposit{value: 1 gwei + 1}(ANYBODY);
        vm.expectRevert(abi.encodeWithSelector(Bridge.NotWholeGwei.selector, 1));
        bridge.deposit{value: 1}(ANYBODY);
        uint256 most = uint256(type(uint64).max) * 1 gwei;
        vm.expectRevert(abi.encodeWithSelector(Bridge.AmountTooLarge.selector, most + 1 gwei));
        bridge.deposit{value: most + 1 gwei}(ANYBODY);
        bridge.deposit{value: most}(ANYBODY);
        equal(bridge.deposits(), 1, "deposits");
        (bool ok,) = address(bridge).call{value: 1 gwei}("");
        check(!ok, "ether without a call is refused");
    }

    function test_forced_ether_is_no_deposit_and_nobodys() public {
        fund(1 ether);
        // As selfdestruct does, or a block that pays its proposer.
        vm.deal(address(bridge), 6 ether);
        equal(bridge.deposits(), 1, "deposits");
        Withdrawal memory w = withdrawal(0, address(0x70), 1 ether);
        settleWithdrawal(w);
        claim(w);
        equal(address(bridge).balance, 5 ether, "the forced ether stays");
    }

    // Claims.

    function test_a_withdrawal_is_paid_once() public {
        fund(3 ether);
        Withdrawal memory w = withdrawal(7, address(0x70), 2 ether);
        bytes32 id = keccak256(abi.encode(L2_CHAIN, OUTBOX, uint64(7), address(0xf40), address(0x70), 2 ether));
        check(bridge.idOf(w) == id, "id");
        settleWithdrawal(w);
        check(!bridge.claimed(id), "not claimed");
        vm.expectEmit(address(bridge));
        emit Bridge.Claimed(id, address(0x70), 2 ether);
        claim(w);
        equal(address(0x70).balance, 2 ether, "paid");
        check(bridge.claimed(id), "claimed");
        refuseClaim(abi.encodeWithSelector(Bridge.AlreadyClaimed.selector, id), w);
        // Nor against a later root.
        settleWithdrawal(w);
        refuseClaim(abi.encodeWithSelector(Bridge.AlreadyClaimed.selector, id), w);
        bridge.open(number, accountProof);
        delete accountProof;
        refuseClaim(abi.encodeWithSelector(Bridge.AlreadyClaimed.selector, id), w);
        equal(address(0x70).balance, 2 ether, "paid once");
    }

    function test_any_other_withdrawal_than_the_proven_one_is_refused() public {
        fund(100 ether);
        Withdrawal memory w = withdrawal(7, address(0x70), 2 ether);
        settleWithdrawal(w);
        bytes memory none = abi.encodeWithSelector(TrieVerifier.NotInTrie.selector);
        for (uint256 i = 0; i < 4; i++) {
            Withdrawal memory bad = withdrawal(7, address(0x70), 2 ether);
            if (i == 0) bad.amount = 20 ether;
            if (i == 1) bad.to = address(0x71);
            if (i == 2) bad.nonce = 8;
            if (i == 3) bad.from = address(0x70);
            // Its key is another one: the proof leads elsewhere, to a node that is not below.
            vm.expectRevert();
            bridge.claim(bad, number, accountProof, storageProof);
            // A trie of one leaf, which is the other's.
            (bytes32 root, bytes[] memory leaf) =
                Tries.prove(key(bridge.idOf(w)), Tries.text(abi.encodePacked(Withdrawals.word(bridge.idOf(w)))), 1);
            storageProof = leaf;
            settleState(root, bridge.outboxCodeHash());
            refuseClaim(none, bad);
        }
        claim(w);
    }

    function test_another_word_in_the_slot_is_refused() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        bytes32 id = bridge.idOf(w);
        bytes32 other = Withdrawals.word(bytes32(uint256(id) ^ 1));
        settleValue(w, Tries.text(abi.encodePacked(other)));
        refuseClaim(abi.encodeWithSelector(Bridge.WrongWord.selector, other), w);
        // A mark as another contract might leave it: one byte, or the word without its length.
        settleValue(w, hex"01");
        refuseClaim(abi.encodeWithSelector(TrieVerifier.MalformedValue.selector), w);
        settleValue(w, abi.encodePacked(Withdrawals.word(id)));
        refuseClaim(abi.encodeWithSelector(TrieVerifier.MalformedValue.selector), w);
        equal(address(0x70).balance, 0, "nothing is paid");
    }

    function test_every_stored_word_has_32_bytes() public pure {
        check(Withdrawals.word(0) == bytes32(uint256(1) << 255), "zero");
        check(Withdrawals.word(bytes32(uint256(5))) == bytes32((uint256(1) << 255) + 5), "small");
        check(Withdrawals.word(bytes32(type(uint256).max)) == bytes32(type(uint256).max), "large");
    }

    function test_a_root_that_was_never_settled_is_refused() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        uint64 right = number;
        number--;
        refuseClaim(abi.encodeWithSelector(Rollup.NotSettled.selector, number, stateRoot), w);
        number = right;
        // The attacker's own state.
        (bytes32 root, bytes[] memory proof) = Tries.prove(abi.encodePacked(OUTBOX), Tries.account(keccak256("x"), keccak256("y")), 2);
        accountProof = proof;
        refuseClaim(abi.encodeWithSelector(Rollup.NotSettled.selector, number, root), w);
        vm.expectRevert(abi.encodeWithSelector(Rollup.NotSettled.selector, number, root));
        bridge.open(number, accountProof);
        delete accountProof;
        vm.expectRevert(abi.encodeWithSelector(TrieVerifier.ProofTooShort.selector));
        bridge.open(number, accountProof);
        refuseClaim(abi.encodeWithSelector(Bridge.NotOpened.selector, number), w);
    }

    function test_the_outbox_must_have_its_code() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        check(bridge.outboxCodeHash() == keccak256(address(new Outbox()).code), "the code that is deployed");
        (bytes32 storageRoot,) = Tries.prove(key(bridge.idOf(w)), Tries.text(abi.encodePacked(Withdrawals.word(bridge.idOf(w)))), 3);
        settleState(storageRoot, keccak256("other code"));
        bytes memory reason = abi.encodeWithSelector(Bridge.WrongOutboxCode.selector, keccak256("other code"));
        refuseClaim(reason, w);
        vm.expectRevert(reason);
        bridge.open(number, accountProof);
    }

    /// A contract of the attacker on the same L2, with the Outbox's code and made-up storage.
    function test_another_account_of_the_same_state_is_refused() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        (bytes32 storageRoot,) = Tries.prove(key(bridge.idOf(w)), Tries.text(abi.encodePacked(Withdrawals.word(bridge.idOf(w)))), 3);
        bytes[] memory proof;
        (stateRoot, proof) = Tries.prove(abi.encodePacked(address(0xbad)), Tries.account(storageRoot, bridge.outboxCodeHash()), 1);
        accountProof = proof;
        settleRoot();
        refuseClaim(abi.encodeWithSelector(TrieVerifier.NotInTrie.selector), w);
    }

    function test_claims_wait_for_finality_and_for_the_end_of_a_freeze() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        bridge.open(number, accountProof);
        bytes[] memory kept = accountProof;
        vm.warp(block.timestamp - 1);
        bytes memory reason = abi.encodeWithSelector(Rollup.NotFinal.selector, block.timestamp + 1);
        refuseClaim(reason, w);
        vm.expectRevert(reason);
        bridge.open(number, accountProof);
        delete accountProof;
        refuseClaim(reason, w);
        vm.warp(block.timestamp + 1);
        freeze();
        reason = abi.encodeWithSelector(Rollup.Frozen.selector, block.timestamp + 14 days);
        refuseClaim(reason, w);
        accountProof = kept;
        refuseClaim(reason, w);
        vm.warp(block.timestamp + 14 days);
        claim(w);
        equal(address(0x70).balance, 2 ether, "paid");
    }

    function test_an_opened_block_takes_claims_without_an_account_proof() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        (bytes32 storageRoot,) = Tries.prove(key(bridge.idOf(w)), Tries.text(abi.encodePacked(Withdrawals.word(bridge.idOf(w)))), 3);
        vm.expectEmit(address(bridge));
        emit Bridge.Opened(number, stateRoot, storageRoot);
        bridge.open(number, accountProof);
        delete accountProof;
        number--;
        refuseClaim(abi.encodeWithSelector(Bridge.NotOpened.selector, number), w);
        number++;
        claim(w);
        equal(address(0x70).balance, 2 ether, "paid");
    }

    function test_a_root_that_the_council_discarded_pays_nothing_even_if_it_was_opened() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        bridge.open(number, accountProof);
        delete accountProof;
        freeze();
        vm.prank(COUNCIL);
        rollup.rescue(policyOf(mock), genesis());
        vm.prank(COUNCIL);
        rollup.unfreeze();
        refuseClaim(abi.encodeWithSelector(Rollup.NotSettled.selector, number, stateRoot), w);
    }

    function test_cut_and_lengthened_proofs_are_refused() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        bytes[] memory kept = accountProof;
        accountProof.pop();
        refuseClaim(abi.encodeWithSelector(TrieVerifier.ProofTooShort.selector), w);
        accountProof = kept;
        accountProof.push(kept[3]);
        refuseClaim(abi.encodeWithSelector(TrieVerifier.ProofTooLong.selector), w);
        accountProof = kept;
        kept = storageProof;
        storageProof.pop();
        refuseClaim(abi.encodeWithSelector(TrieVerifier.ProofTooShort.selector), w);
        delete storageProof;
        refuseClaim(abi.encodeWithSelector(TrieVerifier.ProofTooShort.selector), w);
        storageProof = kept;
        storageProof.push("");
        refuseClaim(abi.encodeWithSelector(TrieVerifier.ProofTooLong.selector), w);
        storageProof = kept;
        (storageProof[0], storageProof[1]) = (kept[1], kept[0]);
        refuseClaim(abi.encodeWithSelector(TrieVerifier.WrongNode.selector, 0), w);
        storageProof = kept;
        claim(w);
    }

    function test_the_receiver_cannot_claim_again_while_it_is_paid() public {
        fund(10 ether);
        Reenterer attacker = new Reenterer(bridge);
        Withdrawal memory w = withdrawal(0, address(attacker), 2 ether);
        Withdrawal memory second = withdrawal(1, address(attacker), 3 ether);
        settleWithdrawal(second);
        bytes memory other = abi.encodeCall(Bridge.claim, (second, number, accountProof, storageProof));
        settleWithdrawal(w);
        attacker.prepare(abi.encodeCall(Bridge.claim, (w, number, accountProof, storageProof)));
        attacker.prepare(other);
        claim(w);
        check(
            keccak256(attacker.result(0)) == keccak256(abi.encodeWithSelector(Bridge.AlreadyClaimed.selector, bridge.idOf(w))),
            "the same again"
        );
        check(keccak256(attacker.result(1)) == keccak256("ok"), "another one is another one");
        equal(attacker.received(), 5 ether, "received");
        equal(address(bridge).balance, 5 ether, "left");
    }

    function test_a_receiver_that_refuses_leaves_the_withdrawal_unclaimed() public {
        fund(10 ether);
        Refuser refuser = new Refuser();
        Withdrawal memory w = withdrawal(0, address(refuser), 2 ether);
        settleWithdrawal(w);
        refuseClaim(abi.encodeWithSelector(Bridge.TransferFailed.selector, address(refuser), 2 ether), w);
        check(!bridge.claimed(bridge.idOf(w)), "unclaimed");
        vm.etch(address(refuser), "");
        claim(w);
        equal(address(refuser).balance, 2 ether, "paid");
    }

    function test_reasons_of_a_receiver_are_not_paid_for_and_gas_is_the_claimants() public {
        fund(10 ether);
        Withdrawal memory w = withdrawal(0, address(new Burner()), 2 ether);
        settleWithdrawal(w);
        vm.expectRevert(abi.encodeWithSelector(Bridge.TransferFailed.selector, w.to, 2 ether));
        bridge.claim{gas: 500_000}(w, number, accountProof, storageProof);
        check(!bridge.claimed(bridge.idOf(w)), "unclaimed");
    }

    function test_more_than_the_bridge_has_is_not_paid() public {
        fund(1 ether);
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        settleWithdrawal(w);
        refuseClaim(abi.encodeWithSelector(Bridge.TransferFailed.selector, address(0x70), 2 ether), w);
        fund(1 ether);
        claim(w);
        equal(address(bridge).balance, 0, "all is paid");
    }

    function test_a_withdrawal_of_another_chain_or_outbox_has_another_id() public view {
        Withdrawal memory w = withdrawal(0, address(0x70), 2 ether);
        bytes32 id = bridge.idOf(w);
        check(Withdrawals.id(w, L2_CHAIN, OUTBOX) == id, "this one");
        check(Withdrawals.id(w, L2_CHAIN + 1, OUTBOX) != id, "chain");
        check(Withdrawals.id(w, L2_CHAIN, address(uint160(OUTBOX) + 1)) != id, "outbox");
    }
}
