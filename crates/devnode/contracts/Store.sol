// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// Writes and clears many storage slots, so that storage tries grow, shrink and collapse.
contract Store {
    mapping(uint256 => uint256) public values;

    event Wrote(uint256 first, uint256 count);
    event Cleared(uint256 first, uint256 count);
    event Remembered(uint256 indexed number, bytes32 hash);

    /// Sets `count` slots from `first` on to non-zero values.
    function write(uint256 first, uint256 count, uint256 value) external {
        for (uint256 i = 0; i < count; i++) values[first + i] = value + i + 1;
        emit Wrote(first, count);
    }

    /// Sets `count` slots from `first` on to zero.
    function clear(uint256 first, uint256 count) external {
        for (uint256 i = 0; i < count; i++) delete values[first + i];
        emit Cleared(first, count);
    }

    /// Reads `count` slots from `first` on, set or not, and stores their sum.
    function sum(uint256 first, uint256 count) external {
        uint256 total;
        for (uint256 i = 0; i < count; i++) total += values[first + i];
        values[type(uint256).max] = total;
    }

    /// Stores the hash of the block `back` blocks ago (zero if the EVM no longer knows it).
    function remember(uint256 back) external {
        uint256 number = block.number - back;
        bytes32 hash = blockhash(number);
        values[type(uint256).max - 1] = uint256(hash);
        emit Remembered(number, hash);
    }

    /// Writes a slot and then reverts.
    function fail() external {
        values[0] = 1;
        revert("asked to fail");
    }
}
