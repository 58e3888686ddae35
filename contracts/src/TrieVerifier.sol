// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// @title Proofs that something is in Ethereum's state, as `eth_getProof` gives them
/// @notice Reads an account below a state root, and a word below a storage root.
///
/// A proof is the nodes from the root to the leaf. Both tries are secure ones: the path is Keccak-256 of the key, so every path has
/// 64 nibbles, every value is in a leaf, and no branch has a value. A proof that the trie lacks the key is refused.
///
/// Nodes are refused unless they are encoded as Ethereum encodes them. The hashes bind the nodes already, and a valid state has no
/// others; with the strict encoding nobody has to ask whether one node can be read in two ways.
///
/// A node of less than 32 bytes stands in its parent, without a hash. None is followed: an account's leaf has at least 70 bytes, and
/// the leaf of a word without leading zero bytes at least 35. Beside the path they may stand.
library TrieVerifier {
    /// @notice The proof ends before the leaf.
    error ProofTooShort();

    /// @notice There are nodes after the leaf.
    error ProofTooLong();

    /// @notice This node, counted from 0, is not the one whose hash its parent, or the root, is.
    error WrongNode(uint256 level);

    /// @notice A node is not encoded as Ethereum encodes the nodes of such a trie.
    error MalformedNode();

    /// @notice The path goes on in a node of less than 32 bytes.
    error EmbeddedNode();

    /// @notice The trie does not contain the key.
    error NotInTrie();

    /// @notice The leaf does not contain an account, or not a word whose first byte is not zero.
    error MalformedValue();

    /// Nibbles of a key.
    uint256 private constant NIBBLES = 64;

    /// @notice The storage root and the code hash of an account.
    function account(bytes32 stateRoot, address who, bytes[] calldata proof)
        internal
        pure
        returns (bytes32 storageRoot, bytes32 codeHash)
    {
        bytes calldata rest = list(leaf(stateRoot, keccak256(abi.encodePacked(who)), proof));
        bytes calldata field;
        // Nonce and balance: numbers, so without leading zeros.
        for (uint256 i = 0; i < 2; i++) {
            (field, rest) = stringOf(rest);
            if (field.length > 32 || (field.length != 0 && field[0] == 0)) revert MalformedValue();
        }
        (field, rest) = stringOf(rest);
        storageRoot = hashOf(field);
        (field, rest) = stringOf(rest);
        codeHash = hashOf(field);
        if (rest.length != 0) revert MalformedValue();
    }

    /// @notice The word in a slot, if its first byte is not zero.
    function word(bytes32 storageRoot, bytes32 slot, bytes[] calldata proof) internal pure returns (bytes32) {
        bytes calldata value = leaf(storageRoot, keccak256(abi.encodePacked(slot)), proof);
        if (value.length != 33 || value[0] != 0xa0 || value[1] == 0) revert MalformedValue();
        return bytes32(value[1:]);
    }

    /// The value at the path `key`.
    function leaf(bytes32 root, bytes32 key, bytes[] calldata proof) private pure returns (bytes calldata value) {
        // How many nibbles of the key are behind.
        uint256 depth = 0;
        uint256 level = 0;
        do {
            if (level == proof.length) revert ProofTooShort();
            if (keccak256(proof[level]) != root) revert WrongNode(level);
            (root, depth, value) = step(list(proof[level]), key, depth);
            level++;
        } while (root != 0);
        if (level != proof.length) revert ProofTooLong();
    }

    /// The hash of the next node and the depth there; or zero and a leaf's value.
    function step(bytes calldata items, bytes32 key, uint256 depth)
        private
        pure
        returns (bytes32 hash, uint256 end, bytes calldata value)
    {
        (bytes calldata path, bool pathIsList, bytes calldata rest) = item(items);
        bool isList;
        (value, isList, rest) = item(rest);
        if (rest.length != 0) return (child(items, key, depth), depth + 1, value);
        if (pathIsList) revert MalformedNode();
        bool isLeaf;
        (isLeaf, end) = follow(path, key, depth);
        if (isLeaf) {
            if (isList) revert MalformedNode();
        } else {
            if (isList) revert EmbeddedNode();
            if (value.length != 32) revert MalformedNode();
            hash = nodeHash(bytes32(value));
        }
    }

    /// The hash of a branch's child on the path. Whatever stands beside the path is skipped by its length.
    function child(bytes calldata items, bytes32 key, uint256 depth) private pure returns (bytes32 hash) {
        if (depth == NIBBLES) revert MalformedNode();
        uint256 on = nibble(key, depth);
        uint256 start = 0;
        // `start` only grows, by 33 at most, so nothing wraps. If it passes the end, whatever is read there fails the last check.
        unchecked {
            for (uint256 i = 0; i < 16; i++) {
                uint256 tag;
                bytes32 next;
                assembly ("memory-safe") {
                    let position := add(items.offset, start)
                    tag := byte(0, calldataload(position))
                    next := calldataload(add(position, 1))
                }
                start++;
                if (tag == 0xa0) {
                    if (i == on) hash = nodeHash(next);
                    start += 32;
                } else if (tag == 0x80) {
                    if (i == on) revert NotInTrie();
                } else {
                    // With this byte, a node that stands in its parent has at most 31 bytes.
                    if (tag < 0xc0 || tag > 0xde) revert MalformedNode();
                    if (i == on) revert EmbeddedNode();
                    start += tag - 0xc0;
                }
            }
        }
        // The branch's own value: none.
        if (start + 1 != items.length || items[start] != 0x80) revert MalformedNode();
    }

    /// No node has the hash zero, by which `step` tells a leaf.
    function nodeHash(bytes32 hash) private pure returns (bytes32) {
        if (hash == 0) revert MalformedNode();
        return hash;
    }

    /// Follows the path of a leaf or of an extension, which starts with two bits: whether it is a leaf's, and whether it is odd.
    function follow(bytes calldata path, bytes32 key, uint256 depth) private pure returns (bool isLeaf, uint256 end) {
        if (path.length == 0) revert MalformedNode();
        uint256 first = uint8(path[0]);
        uint256 odd = (first >> 4) & 1;
        if (first > 0x3f || (odd == 0 && first & 15 != 0)) revert MalformedNode();
        isLeaf = first >= 0x20;
        end = depth + 2 * (path.length - 1) + odd;
        // A leaf ends the key. An extension has nibbles, and leaves one for the branch below.
        if (isLeaf ? end != NIBBLES : end == depth || end >= NIBBLES) revert MalformedNode();
        if (odd == 1 && first & 15 != nibble(key, depth)) revert NotInTrie();
        uint256 difference = uint256(bytes32(path[1:])) ^ (uint256(key) << (4 * (depth + odd)));
        if (difference >> (8 * (33 - path.length)) != 0) revert NotInTrie();
    }

    function nibble(bytes32 key, uint256 index) private pure returns (uint256) {
        return (uint256(key) >> (252 - 4 * index)) & 15;
    }

    /// The items of a list that is the whole input.
    function list(bytes calldata input) private pure returns (bytes calldata items) {
        bool isList;
        (items, isList, input) = item(input);
        if (!isList || input.length != 0) revert MalformedNode();
    }

    /// A field of an account.
    function stringOf(bytes calldata input) private pure returns (bytes calldata data, bytes calldata rest) {
        bool isList;
        (data, isList, rest) = item(input);
        if (isList) revert MalformedValue();
    }

    function hashOf(bytes calldata field) private pure returns (bytes32) {
        if (field.length != 32) revert MalformedValue();
        return bytes32(field);
    }

    /// The first item of some RLP, and what follows it.
    function item(bytes calldata input) private pure returns (bytes calldata data, bool isList, bytes calldata rest) {
        if (input.length == 0) revert MalformedNode();
        uint256 tag = uint8(input[0]);
        if (tag < 0x80) return (input[:1], false, input[1:]);
        isList = tag >= 0xc0;
        uint256 length = tag - (isList ? 0xc0 : 0x80);
        uint256 start = 1;
        if (length > 55) {
            // The length follows, in one byte or two: no node has 64 kB.
            start = length - 54;
            if (start > 3 || input.length < start) revert MalformedNode();
            length = start == 2 ? uint8(input[1]) : uint16(bytes2(input[1:3]));
            if (length < (start == 2 ? 56 : 256)) revert MalformedNode();
        }
        if (input.length - start < length) revert MalformedNode();
        data = input[start:start + length];
        rest = input[start + length:];
        if (!isList && length == 1 && uint8(data[0]) < 0x80) revert MalformedNode();
    }
}
