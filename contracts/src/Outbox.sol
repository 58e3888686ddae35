// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

/// What leaves the L2, once.
struct Withdrawal {
    /// The Outbox's count of withdrawals before this one.
    uint64 nonce;
    /// Who called the Outbox.
    address from;
    /// Who is paid on L1.
    address to;
    /// In wei.
    uint256 amount;
}

/// What a withdrawal is called.
library Withdrawals {
    /// The chain's and the Outbox's part keep withdrawals of other chains apart, the nonce those of this one.
    function id(Withdrawal memory withdrawal, uint256 chainId, address outbox) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(chainId, outbox, withdrawal.nonce, withdrawal.from, withdrawal.to, withdrawal.amount)
        );
    }

    /// What the Outbox stores of it. Its first bit is set, so that the leaf of it is never so small that it stands in its parent.
    function word(bytes32 withdrawalId) internal pure returns (bytes32) {
        return withdrawalId | bytes32(uint256(1) << 255);
    }
}

/// @title Where ether leaves the L2
/// @notice Its runtime code is in the L2's genesis, without storage. The ether that it gets stays here for good: the Bridge pays it out
/// on L1.
contract Outbox {
    /// @notice The word of a withdrawal's id, once it was made. In slot 0: storage proofs rely on it.
    mapping(bytes32 id => bytes32 word) public sent;

    /// @notice How many withdrawals there were.
    uint64 public nonce;

    /// @notice A withdrawal; the Bridge needs these fields to pay it.
    event Withdrawn(bytes32 indexed id, address indexed from, address indexed to, uint256 amount, uint64 nonce);

    /// @notice Nothing was withdrawn.
    error NoValue();

    /// @notice Withdraws the ether of this call to an address on L1.
    /// @dev Whether `to` can be paid is seen on L1 only: an address that refuses ether leaves the withdrawal unpaid.
    /// @param to who is paid on L1
    /// @return id under which `Bridge.claim` pays it, once
    function withdraw(address to) external payable returns (bytes32 id) {
        if (msg.value == 0) revert NoValue();
        Withdrawal memory withdrawal = Withdrawal(nonce++, msg.sender, to, msg.value);
        id = Withdrawals.id(withdrawal, block.chainid, address(this));
        sent[id] = Withdrawals.word(id);
        emit Withdrawn(id, msg.sender, to, msg.value, withdrawal.nonce);
    }
}
