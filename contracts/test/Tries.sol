// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// Proofs for tests: a leaf below branches whose other children are made up. (test/tries.js makes whole tries.)
library Tries {
    /// The proof of `value` at Keccak-256 of `key`, with this many nodes, and the root.
    function prove(bytes memory key, bytes memory value, uint256 levels)
        internal
        pure
        returns (bytes32 root, bytes[] memory proof)
    {
        bytes32 path = keccak256(key);
        proof = new bytes[](levels);
        uint256 depth = levels - 1;
        proof[depth] = list(abi.encodePacked(text(hexPrefix(path, depth, 64, true)), text(value)));
        while (depth > 0) {
            root = keccak256(proof[depth]);
            depth--;
            bytes memory items;
            for (uint256 i = 0; i < 16; i++) {
                bytes32 other = keccak256(abi.encode(path, depth, i));
                items = abi.encodePacked(items, hex"a0", i == nibble(path, depth) ? root : other);
            }
            proof[depth] = list(abi.encodePacked(items, hex"80"));
        }
        root = keccak256(proof[0]);
    }

    /// The value of an account's leaf.
    function account(bytes32 storageRoot, bytes32 codeHash) internal pure returns (bytes memory) {
        bytes memory balance = hex"0de0b6b3a7640000";
        return list(
            abi.encodePacked(text(hex"01"), text(balance), text(bytes.concat(storageRoot)), text(bytes.concat(codeHash)))
        );
    }

    function nibble(bytes32 path, uint256 index) internal pure returns (uint8) {
        return uint8(uint256(path) >> (252 - 4 * index)) & 15;
    }

    /// Nibbles of a path, from one index to another, as a node has them.
    function hexPrefix(bytes32 path, uint256 from, uint256 to, bool isLeaf) internal pure returns (bytes memory encoded) {
        uint8 flag = isLeaf ? 0x20 : 0;
        if ((to - from) % 2 == 1) encoded = abi.encodePacked(uint8(flag | 0x10 | nibble(path, from++)));
        else encoded = abi.encodePacked(flag);
        for (; from < to; from += 2) {
            encoded = abi.encodePacked(encoded, uint8(nibble(path, from) << 4 | nibble(path, from + 1)));
        }
    }

    /// A string in RLP.
    function text(bytes memory data) internal pure returns (bytes memory) {
        if (data.length == 1 && uint8(data[0]) < 0x80) return data;
        return abi.encodePacked(prefix(data.length, 0x80), data);
    }

    /// A list in RLP, of items that are encoded already.
    function list(bytes memory items) internal pure returns (bytes memory) {
        return abi.encodePacked(prefix(items.length, 0xc0), items);
    }

    function prefix(uint256 length, uint256 offset) private pure returns (bytes memory) {
        if (length < 56) return abi.encodePacked(uint8(offset + length));
        if (length < 256) return abi.encodePacked(uint8(offset + 56), uint8(length));
        return abi.encodePacked(uint8(offset + 57), uint16(length));
    }
}
