// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TrieVerifier} from "../src/TrieVerifier.sol";
import {check, equal, vm} from "./Base.sol";
import {Tries} from "./Tries.sol";

/// `TrieVerifier`.
contract TrieTest {
    uint256 private constant WORD = (1 << 255) + 5;

    function word(bytes32 root, bytes32 slot, bytes[] calldata proof) external pure returns (bytes32) {
        return TrieVerifier.word(root, slot, proof);
    }

    function account(bytes32 root, address who, bytes[] calldata proof) external pure returns (bytes32, bytes32) {
        return TrieVerifier.account(root, who, proof);
    }

    /// What test/tries.js made: the contract accepts what its verifier accepts, and reads the same there.
    function test_proofs_are_judged_as_by_another_verifier() public view {
        uint256 parts = vm.parseJsonUint(vm.readFile("out/tries.parts"), "");
        uint256[2] memory seen;
        for (uint256 i = 0; i < parts; i++) {
            uint256[2] memory more = this.judge(vm.readFileBinary(string.concat("out/tries.", vm.toString(i))));
            seen[0] += more[0];
            seen[1] += more[1];
        }
        check(seen[0] > 20_000, "too few refused");
        check(seen[1] > 4_000, "too few accepted");
    }

    function judge(bytes calldata file) external view returns (uint256[2] memory seen) {
        while (file.length > 0) {
            bool isAccount = file[0] == 0x01;
            uint8 verdict = uint8(file[1]);
            bytes32 root = bytes32(file[2:]);
            bytes32 key = bytes32(file[34:]);
            bytes32 first = bytes32(file[66:]);
            bytes32 second = bytes32(file[98:]);
            bytes[] memory proof = new bytes[](uint8(file[130]));
            file = file[131:];
            for (uint256 i = 0; i < proof.length; i++) {
                uint256 length = uint16(bytes2(file[:2]));
                proof[i] = file[2:2 + length];
                file = file[2 + length:];
            }
            seen[verdict]++;
            if (isAccount) {
                try this.account(root, address(uint160(uint256(key))), proof) returns (bytes32 a, bytes32 b) {
                    check(verdict == 1, "accepted an account");
                    check(a == first && b == second, "read another account");
                } catch {
                    check(verdict == 0, "refused an account");
                }
            } else {
                try this.word(root, key, proof) returns (bytes32 a) {
                    check(verdict == 1, "accepted a word");
                    check(a == first, "read another word");
                } catch {
                    check(verdict == 0, "refused a word");
                }
            }
        }
    }

    function refuse(bytes4 reason, bytes32 slot, bytes memory node) internal {
        vm.expectRevert(abi.encodeWithSelector(reason));
        this.word(keccak256(node), slot, one(node));
    }

    function one(bytes memory node) internal pure returns (bytes[] memory proof) {
        proof = new bytes[](1);
        proof[0] = node;
    }

    function leaf(bytes memory path, bytes memory value) internal pure returns (bytes memory) {
        return Tries.list(abi.encodePacked(Tries.text(path), Tries.text(value)));
    }

    function pathOf(bytes32 slot, uint256 from) internal pure returns (bytes memory) {
        return Tries.hexPrefix(keccak256(abi.encodePacked(slot)), from, 64, true);
    }

    /// Each way to malform a node or a value, with its error.
    function test_each_malformation_is_refused_by_name() public {
        bytes4 malformed = TrieVerifier.MalformedNode.selector;
        bytes32 slot = keccak256("slot");
        bytes memory path = pathOf(slot, 0);
        bytes memory value = Tries.text(abi.encodePacked(WORD));
        bytes memory good = leaf(path, value);
        check(this.word(keccak256(good), slot, one(good)) == bytes32(WORD), "the good one");

        // Nothing, a string, a string around the node, bytes after it.
        refuse(malformed, slot, "");
        refuse(malformed, slot, hex"80");
        refuse(malformed, slot, Tries.text(good));
        refuse(malformed, slot, abi.encodePacked(good, hex"00"));
        refuse(malformed, slot, hex"c0");
        refuse(malformed, slot, hex"c101");
        // Lengths: too long, in too many bytes, cut, of more bytes than a node has.
        bytes memory items = abi.encodePacked(Tries.text(path), Tries.text(value));
        refuse(malformed, slot, abi.encodePacked(uint8(0xf9), uint16(items.length), items));
        refuse(malformed, slot, abi.encodePacked(uint8(0xfa), uint24(items.length), items));
        refuse(malformed, slot, abi.encodePacked(uint8(0xf8), uint8(items.length + 1), items));
        refuse(malformed, slot, hex"f8");
        refuse(malformed, slot, hex"f9");
        refuse(malformed, slot, hex"f901");
        refuse(malformed, slot, hex"ff");
        bytes memory small = abi.encodePacked(Tries.text(path), hex"81ff");
        refuse(malformed, slot, abi.encodePacked(uint8(0xf8), uint8(small.length), small));
        refuse(malformed, slot, abi.encodePacked(uint8(0xf9), uint16(small.length), small));
        // A byte below 0x80 with a length.
        refuse(malformed, slot, Tries.list(abi.encodePacked(Tries.text(path), hex"8105")));
        // Paths: none, a list, wrong flags, a nibble where none is, too short, too long.
        refuse(malformed, slot, leaf("", value));
        refuse(malformed, slot, Tries.list(abi.encodePacked(Tries.list(path), Tries.text(value))));
        for (uint256 flag = 4; flag < 16; flag++) {
            bytes memory wrong = bytes.concat(path);
            wrong[0] = bytes1(uint8(flag << 4));
            refuse(malformed, slot, leaf(wrong, value));
        }
        bytes memory nibble = bytes.concat(path);
        nibble[0] = 0x25;
        refuse(malformed, slot, leaf(nibble, value));
        refuse(malformed, slot, leaf(pathOf(slot, 1), value));
        refuse(malformed, slot, leaf(Tries.hexPrefix(keccak256(abi.encodePacked(slot)), 0, 63, true), value));
        refuse(malformed, slot, leaf(abi.encodePacked(path, hex"00"), value));
        // Another key.
        refuse(TrieVerifier.NotInTrie.selector, keccak256("other"), good);
        // A leaf's value that is a list, and values that are no word.
        refuse(malformed, slot, Tries.list(abi.encodePacked(Tries.text(path), Tries.list(value))));
        refuse(TrieVerifier.MalformedValue.selector, slot, leaf(path, ""));
        refuse(TrieVerifier.MalformedValue.selector, slot, leaf(path, hex"05"));
        refuse(TrieVerifier.MalformedValue.selector, slot, leaf(path, abi.encodePacked(WORD)));
        refuse(TrieVerifier.MalformedValue.selector, slot, leaf(path, abi.encodePacked(hex"a1", WORD)));
        refuse(TrieVerifier.MalformedValue.selector, slot, leaf(path, abi.encodePacked(value, hex"00")));
        refuse(TrieVerifier.MalformedValue.selector, slot, leaf(path, abi.encodePacked(hex"a0", uint256(5))));
        // No nodes at all.
        vm.expectRevert(abi.encodeWithSelector(TrieVerifier.ProofTooShort.selector));
        this.word(keccak256(good), slot, new bytes[](0));
        vm.expectRevert(abi.encodeWithSelector(TrieVerifier.WrongNode.selector, 0));
        this.word(keccak256("other"), slot, one(good));
    }

    /// A branch with `child` on the path of `slot`, `other` as another child, and `last`.
    function branch(bytes32 slot, bytes memory child, bytes memory other, bytes memory last) internal pure returns (bytes memory) {
        uint8 on = Tries.nibble(keccak256(abi.encodePacked(slot)), 0);
        bytes memory items;
        for (uint8 i = 0; i < 16; i++) {
            items = abi.encodePacked(items, i == on ? child : i == (on ^ 1) ? other : bytes(hex"80"));
        }
        return Tries.list(abi.encodePacked(items, last));
    }

    function accept(bytes32 slot, bytes memory node, bytes memory below) internal view {
        bytes[] memory proof = new bytes[](2);
        (proof[0], proof[1]) = (node, below);
        check(this.word(keccak256(node), slot, proof) == bytes32(WORD), "word");
    }

    function test_branches_are_read_strictly() public {
        bytes4 malformed = TrieVerifier.MalformedNode.selector;
        bytes32 slot = keccak256("slot");
        bytes memory value = Tries.text(abi.encodePacked(WORD));
        bytes memory below = leaf(pathOf(slot, 1), value);
        bytes memory child = Tries.text(bytes.concat(keccak256(below)));
        bytes memory none = hex"80";
        accept(slot, branch(slot, child, none, none), below);
        accept(slot, branch(slot, child, child, none), below);
        // A neighbour of less than 32 bytes stands in the branch.
        accept(slot, branch(slot, child, Tries.list(new bytes(30)), none), below);
        refuse(malformed, slot, branch(slot, child, Tries.list(new bytes(31)), none));
        // Neighbours that are no nodes.
        refuse(malformed, slot, branch(slot, child, hex"05", none));
        refuse(malformed, slot, branch(slot, child, Tries.text(new bytes(31)), none));
        refuse(malformed, slot, branch(slot, child, Tries.text(new bytes(33)), none));
        // On the path: nothing, a node that stands in the branch, the hash that no node has.
        refuse(TrieVerifier.NotInTrie.selector, slot, branch(slot, none, child, none));
        refuse(TrieVerifier.EmbeddedNode.selector, slot, branch(slot, Tries.list(hex"3005"), child, none));
        refuse(malformed, slot, branch(slot, Tries.text(new bytes(32)), child, none));
        // A length in more bytes than a node needs, of which the first two would do.
        bytes memory long;
        for (uint256 i = 0; i < 16; i++) long = abi.encodePacked(long, child);
        long = abi.encodePacked(long, none);
        accept(slot, Tries.list(long), below);
        refuse(malformed, slot, abi.encodePacked(uint8(0xfa), uint16(long.length), uint8(0), long));
        // Cut: what is on the path, and what is not.
        refuse(malformed, slot, Tries.list(abi.encodePacked(child, child, hex"a0")));
        refuse(malformed, slot, Tries.list(abi.encodePacked(child, none, child)));
        // Values of a branch, and 16 or 18 items.
        refuse(malformed, slot, branch(slot, child, none, hex"05"));
        refuse(malformed, slot, branch(slot, child, none, child));
        refuse(malformed, slot, branch(slot, child, none, hex"c0"));
        refuse(malformed, slot, branch(slot, child, none, ""));
        refuse(malformed, slot, branch(slot, child, none, hex"8080"));
    }

    /// `bd` would lead back by three bytes, into the list before it, and what stands there leads on behind it: three children in four
    /// bytes, and so one branch with two readings.
    function test_children_are_never_read_backwards() public {
        bytes32 slot = slotAt(0);
        bytes memory below = leaf(pathOf(slot, 1), Tries.text(abi.encodePacked(WORD)));
        bytes memory items = abi.encodePacked(hex"a0", keccak256(below), hex"c2c200bd");
        for (uint256 i = 0; i < 13; i++) items = abi.encodePacked(items, hex"80");
        refuse(TrieVerifier.MalformedNode.selector, slot, Tries.list(items));
    }

    /// A neighbour of one byte; among the first two items, which are read as those of a leaf could be.
    function test_a_small_neighbour_at_the_beginning_is_skipped() public view {
        bytes32 slot = slotAt(0);
        bytes memory below = leaf(pathOf(slot, 1), Tries.text(abi.encodePacked(WORD)));
        accept(slot, branch(slot, Tries.text(bytes.concat(keccak256(below))), hex"c105", hex"80"), below);
    }

    /// A slot whose path begins with this nibble.
    function slotAt(uint8 first) internal pure returns (bytes32 slot) {
        while (Tries.nibble(keccak256(abi.encodePacked(slot)), 0) != first) slot = bytes32(uint256(slot) + 1);
    }

    /// An extension of two nibbles, and what it refers to.
    function extension(bytes32 path, bytes memory child) internal pure returns (bytes memory) {
        return Tries.list(abi.encodePacked(Tries.text(Tries.hexPrefix(path, 0, 2, false)), child));
    }

    function test_extensions_are_read_strictly() public {
        bytes4 malformed = TrieVerifier.MalformedNode.selector;
        bytes32 slot = keccak256("slot");
        bytes32 path = keccak256(abi.encodePacked(slot));
        bytes[] memory proof = new bytes[](3);
        proof[2] = leaf(pathOf(slot, 3), Tries.text(abi.encodePacked(WORD)));
        bytes memory items;
        for (uint8 i = 0; i < 16; i++) {
            bytes memory child = i == Tries.nibble(path, 2) ? Tries.text(bytes.concat(keccak256(proof[2]))) : bytes(hex"80");
            items = abi.encodePacked(items, child);
        }
        proof[1] = Tries.list(abi.encodePacked(items, hex"80"));
        items = Tries.text(bytes.concat(keccak256(proof[1])));
        proof[0] = extension(path, items);
        check(this.word(keccak256(proof[0]), slot, proof) == bytes32(WORD), "word");
        refuse(TrieVerifier.EmbeddedNode.selector, slot, extension(path, Tries.list(hex"3005")));
        refuse(malformed, slot, extension(path, Tries.text(new bytes(31))));
        refuse(malformed, slot, extension(path, hex"80"));
        refuse(malformed, slot, extension(path, Tries.text(new bytes(32))));
        // Without a nibble, and with all of them.
        refuse(malformed, slot, Tries.list(abi.encodePacked(hex"00", items)));
        refuse(malformed, slot, Tries.list(abi.encodePacked(Tries.text(Tries.hexPrefix(path, 0, 64, false)), items)));
        refuse(TrieVerifier.NotInTrie.selector, slot, extension(~path, items));
    }

    /// After 64 nibbles there is no branch: below an extension of 63 and a branch, only the leaf without a nibble.
    function test_a_key_has_64_nibbles() public {
        bytes32 slot = keccak256("slot");
        bytes32 path = keccak256(abi.encodePacked(slot));
        bytes memory value = Tries.text(abi.encodePacked(WORD));
        bytes[] memory proof = new bytes[](3);
        for (uint256 i = 0; i < 2; i++) {
            proof[2] = leaf(hex"20", value);
            if (i == 1) {
                // A seventeenth item in its place, or a further child.
                bytes memory more;
                for (uint256 j = 0; j < 16; j++) more = abi.encodePacked(more, Tries.text(bytes.concat(keccak256("x"))));
                proof[2] = Tries.list(abi.encodePacked(more, hex"80"));
            }
            bytes memory items;
            for (uint8 j = 0; j < 16; j++) {
                items = abi.encodePacked(
                    items, j == Tries.nibble(path, 63) ? Tries.text(bytes.concat(keccak256(proof[2]))) : bytes(hex"80")
                );
            }
            proof[1] = Tries.list(abi.encodePacked(items, hex"80"));
            proof[0] = Tries.list(
                abi.encodePacked(Tries.text(Tries.hexPrefix(path, 0, 63, false)), Tries.text(bytes.concat(keccak256(proof[1]))))
            );
            if (i == 1) vm.expectRevert(abi.encodeWithSelector(TrieVerifier.MalformedNode.selector));
            this.word(keccak256(proof[0]), slot, proof);
        }
    }

    function test_accounts_are_read_strictly() public {
        bytes memory hash = Tries.text(bytes.concat(keccak256("storage")));
        bytes memory code = Tries.text(bytes.concat(keccak256("code")));
        bytes memory both = abi.encodePacked(hash, code);
        (bytes32 storageRoot, bytes32 codeHash) = readAccount(Tries.list(abi.encodePacked(hex"0180", both)));
        check(storageRoot == keccak256("storage") && codeHash == keccak256("code"), "account");
        (storageRoot,) = readAccount(Tries.list(abi.encodePacked(hex"80", Tries.text(bytes.concat(keccak256("rich"))), both)));
        check(storageRoot == keccak256("storage"), "a large balance");

        bytes4 value = TrieVerifier.MalformedValue.selector;
        bytes4 node = TrieVerifier.MalformedNode.selector;
        // Not a list, or more than one.
        refuseAccount(node, Tries.text(abi.encodePacked(hex"0180", both)));
        refuseAccount(node, abi.encodePacked(Tries.list(abi.encodePacked(hex"0180", both)), hex"80"));
        // Three fields, five fields.
        refuseAccount(node, Tries.list(abi.encodePacked(hex"01", both)));
        refuseAccount(node, Tries.list(abi.encodePacked(hex"0180", hash)));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"0180", both, hex"80")));
        // Numbers with leading zeros, of more than 32 bytes, and lists.
        refuseAccount(value, Tries.list(abi.encodePacked(hex"0080", both)));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"0182", hex"0001", both)));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"01", Tries.text(abi.encodePacked(hex"01", WORD)), both)));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"01", Tries.text(bytes.concat(bytes32(uint256(1)))), both)));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"c080", both)));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"01c0", both)));
        // Hashes of 31 and 33 bytes, and a list.
        refuseAccount(value, Tries.list(abi.encodePacked(hex"0180", Tries.text(new bytes(31)), code)));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"0180", hash, Tries.text(abi.encodePacked(hex"01", new bytes(30))))));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"0180", hash, Tries.text(new bytes(33)))));
        refuseAccount(value, Tries.list(abi.encodePacked(hex"0180", hash, Tries.list(new bytes(32)))));
    }

    function readAccount(bytes memory value) internal view returns (bytes32, bytes32) {
        (bytes32 root, bytes[] memory proof) = Tries.prove(abi.encodePacked(address(0xacc)), value, 3);
        return this.account(root, address(0xacc), proof);
    }

    function refuseAccount(bytes4 reason, bytes memory value) internal {
        (bytes32 root, bytes[] memory proof) = Tries.prove(abi.encodePacked(address(0xacc)), value, 3);
        vm.expectRevert(abi.encodeWithSelector(reason));
        this.account(root, address(0xacc), proof);
    }
}
