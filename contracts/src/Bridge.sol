// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Outbox, Withdrawal, Withdrawals} from "./Outbox.sol";
import {Deposit, Deposits} from "./Statement.sol";
import {TrieVerifier} from "./TrieVerifier.sol";

/// What the Bridge asks the Rollup.
interface ISettled {
    /// @notice Reverts unless withdrawals may be claimed now against this state root of this block.
    function claimable(uint64 number, bytes32 stateRoot) external view;
}

/// @title The L2's ether on L1
/// @notice Takes deposits into a queue, and pays what the Outbox on the L2 has recorded in a settled state.
///
/// * Whoever deposits is credited on the L2 by a withdrawal (EIP-4895) of one of its blocks, in the order of the queue.
/// * Every withdrawal is paid at most once, to whom it names.
/// * Nobody can take ether in another way. Ether that is forced upon this contract stays here for good.
///
/// The Rollup creates it. There are no keys.
contract Bridge {
    /// @notice Whose settled states count.
    ISettled public immutable rollup;

    /// @notice The L2's chain id.
    uint256 public immutable l2ChainId;

    /// @notice Where the Outbox is on the L2.
    address public immutable outbox;

    /// @notice Keccak-256 of the code that has to be there.
    bytes32 public immutable outboxCodeHash;

    /// @notice How many deposits were made.
    uint64 public deposits;

    /// Keeps the slot of `deposits` from being zero: the first deposit costs what the others do.
    uint64 private nonzero = 1;

    /// @notice The link of the chain of deposits after the last one; zero before the first one.
    bytes32 public lastLink;

    /// The time of the deposit with this index, by the link before it. A deposit writes this one new slot: its key says what the link
    /// is, its value when the queue went on from there.
    mapping(uint256 index => mapping(bytes32 link => uint256 madeAt)) private nextAt;

    /// A state root, and the Outbox's storage root in that state.
    struct Roots {
        bytes32 state;
        bytes32 outboxStorage;
    }

    /// @notice The roots that `open` kept for a block.
    mapping(uint64 number => Roots) public opened;

    /// @notice Whether the withdrawal with this id was paid.
    mapping(bytes32 id => bool) public claimed;

    /// @notice A deposit, and the link after it.
    event Deposited(uint64 indexed index, address indexed from, address indexed to, uint64 amountGwei, bytes32 link);

    /// @notice The Outbox's storage root in a settled state was kept.
    event Opened(uint64 indexed number, bytes32 stateRoot, bytes32 storageRoot);

    /// @notice A withdrawal was paid.
    event Claimed(bytes32 indexed id, address indexed to, uint256 amount);

    /// @notice Nothing was deposited.
    error NoValue();

    /// @notice Deposits are in whole gwei, because withdrawals of L2 blocks are.
    error NotWholeGwei(uint256 amount);

    /// @notice More gwei than a withdrawal of an L2 block can have.
    error AmountTooLarge(uint256 amount);

    /// @notice The chain of deposits has no such link after so many deposits.
    error UnknownLink(uint256 index, bytes32 link);

    /// @notice The account at the Outbox's address has other code.
    error WrongOutboxCode(bytes32 codeHash);

    /// @notice Nobody has opened this block: give an account proof.
    error NotOpened(uint64 number);

    /// @notice The Outbox has recorded something else at this withdrawal's slot.
    error WrongWord(bytes32 word);

    /// @notice The withdrawal was paid already.
    error AlreadyClaimed(bytes32 id);

    /// @notice The receiver refused the ether, or the Bridge lacks it.
    error TransferFailed(address to, uint256 amount);

    /// @notice The Rollup creates the Bridge.
    constructor(uint256 chainId, address outbox_) {
        rollup = ISettled(msg.sender);
        l2ChainId = chainId;
        outbox = outbox_;
        outboxCodeHash = keccak256(type(Outbox).runtimeCode);
    }

    /// @notice Deposits the ether of this call for an address on the L2.
    /// @dev The credit runs no code there and cannot fail. Nothing can be taken back here.
    /// @param to who is credited on the L2
    /// @return index in the queue
    function deposit(address to) external payable returns (uint64 index) {
        if (msg.value == 0) revert NoValue();
        if (msg.value % 1 gwei != 0) revert NotWholeGwei(msg.value);
        uint256 amount = msg.value / 1 gwei;
        if (amount > type(uint64).max) revert AmountTooLarge(msg.value);
        index = deposits++;
        bytes32 link = lastLink;
        nextAt[index][link] = block.timestamp;
        link = Deposits.next(link, Deposit(index, 0, to, uint64(amount)));
        lastLink = link;
        emit Deposited(index, msg.sender, to, uint64(amount), link);
    }

    /// @notice The time of the deposit with this index, zero if it was not made yet. Reverts unless `link` is the chain's after the
    /// deposits before it.
    function next(uint256 index, bytes32 link) external view returns (uint256 madeAt) {
        madeAt = index == deposits ? 0 : nextAt[index][link];
        if (madeAt == 0 && (index != deposits || link != lastLink)) revert UnknownLink(index, link);
    }

    /// @notice The id of a withdrawal of this L2.
    function idOf(Withdrawal calldata withdrawal) public view returns (bytes32) {
        return Withdrawals.id(withdrawal, l2ChainId, outbox);
    }

    /// @notice Keeps the Outbox's storage root in a settled state, so that claims against it need no account proof.
    /// @param number of the last block of a settled batch
    /// @param accountProof the Outbox's, as `eth_getProof` gives it
    function open(uint64 number, bytes[] calldata accountProof) external {
        Roots memory roots = prove(number, accountProof);
        opened[number] = roots;
        emit Opened(number, roots.state, roots.outboxStorage);
    }

    /// @notice Pays a withdrawal. Anybody may call it; the ether goes to whom the withdrawal names.
    /// @param withdrawal what the Outbox's event says
    /// @param number of the last block of a settled batch, at or after the withdrawal's block
    /// @param accountProof the Outbox's at that block; empty if the block was opened
    /// @param storageProof of the withdrawal's slot in the Outbox at that block
    function claim(Withdrawal calldata withdrawal, uint64 number, bytes[] calldata accountProof, bytes[] calldata storageProof)
        external
    {
        bytes32 id = idOf(withdrawal);
        if (claimed[id]) revert AlreadyClaimed(id);
        Roots memory roots;
        if (accountProof.length == 0) {
            roots = opened[number];
            if (roots.state == 0) revert NotOpened(number);
            rollup.claimable(number, roots.state);
        } else {
            roots = prove(number, accountProof);
        }
        // `sent` of the Outbox is in slot 0.
        bytes32 word = TrieVerifier.word(roots.outboxStorage, keccak256(abi.encode(id, uint256(0))), storageProof);
        if (word != Withdrawals.word(id)) revert WrongWord(word);

        // ORDER: before the call, so that the receiver cannot claim again.
        claimed[id] = true;
        address to = withdrawal.to;
        uint256 amount = withdrawal.amount;
        bool paid;
        // Nothing of what the receiver returns is copied: it could be large, and the caller would pay for it.
        assembly ("memory-safe") {
            paid := call(gas(), to, amount, 0, 0, 0, 0)
        }
        if (!paid) revert TransferFailed(to, amount);
        emit Claimed(id, to, amount);
    }

    /// The roots that an account proof of the Outbox shows.
    function prove(uint64 number, bytes[] calldata accountProof) private view returns (Roots memory roots) {
        if (accountProof.length == 0) revert TrieVerifier.ProofTooShort();
        roots.state = keccak256(accountProof[0]);
        rollup.claimable(number, roots.state);
        bytes32 codeHash;
        (roots.outboxStorage, codeHash) = TrieVerifier.account(roots.state, outbox, accountProof);
        if (codeHash != outboxCodeHash) revert WrongOutboxCode(codeHash);
    }
}
