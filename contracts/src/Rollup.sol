// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Bridge} from "./Bridge.sol";
import {Deposits, Statement, Statements} from "./Statement.sol";

/// A proof system, behind an adapter of ours.
interface IProofSystem {
    /// @notice Reverts unless `proof` shows that the program with this id committed to `values`.
    function verify(bytes32 programId, bytes calldata values, bytes calldata proof) external view;
}

/// The last settled L2 block, and the deposits that the L2 has consumed.
struct Head {
    bytes32 hash;
    bytes32 stateRoot;
    uint64 number;
    uint64 deposits;
    /// The chain's link after those deposits.
    bytes32 link;
}

/// A program under a proof system.
struct System {
    address adapter;
    bytes32 programId;
    /// Whose bugs it shares: proofs of one family count once.
    bytes32 family;
}

/// What is accepted, from whom and when. Times are in seconds.
struct Policy {
    System[] systems;
    /// How many proofs, of different families, a batch needs.
    uint8 threshold;
    /// The rules of the L2.
    bytes32 chainConfigDigest;
    /// Who may settle at any time; zero for nobody.
    address sequencer;
    /// From a proposal of another policy to its application.
    uint64 delay;
    /// From a settlement to claims against it.
    uint64 finality;
    /// How old a deposit may become before a batch must consume it.
    uint64 window;
    /// After so long without a settlement, anybody may settle.
    uint64 fallbackAfter;
}

/// A proof of the system with this index in the policy.
struct Proof {
    uint8 system;
    bytes data;
}

/// Who may do what besides settling: see contracts/README.md. Each is a contract of its owners, a multisig for instance.
struct Roles {
    address governance;
    address guardian;
    address council;
}

/// Where withdrawals of the L2 are recorded. The code there must be the Outbox's of these sources.
struct L2 {
    uint256 chainId;
    address outbox;
}

/// Holds a policy as its code, behind a byte that halts: one account to read instead of a slot for each field.
contract PolicyHolder {
    constructor(bytes memory encoded) {
        bytes memory code = bytes.concat(hex"00", encoded);
        assembly ("memory-safe") {
            return(add(code, 32), mload(code))
        }
    }
}

/// @title Settlement of an L2
/// @notice Accepts batches of L2 blocks with proofs that they are valid, one after another. Nothing unproven is stored, and no settled
/// batch is ever undone, except by the council while the guardian's freeze lasts.
///
/// VALIDIUM: THE DATA OF THE BLOCKS IS NOT PUBLISHED ON L1. A statement that commits to data is refused, because this contract could not
/// check it. Whoever keeps the L2's blocks to itself can keep everybody from proving withdrawals, though nobody can steal.
///
/// It cannot be upgraded. Governance can replace the policy, which says which proofs count, after a delay that leaves everybody time
/// to withdraw.
contract Rollup {
    /// @notice How far ahead of L1's time an L2 block may be: beyond, forks and timelocks of the L2 could be run ahead.
    uint256 public constant MAX_AHEAD = 15 minutes;

    /// @notice How long a freeze lasts.
    uint256 public constant FREEZE = 14 days;

    /// @notice The least time, beyond `finality`, from a proposal to a new policy: so long one can still withdraw under the old one.
    uint256 public constant MIN_EXIT = 7 days;

    /// @notice The least `window`: a deposit is consumed only after L1 has finalized it.
    uint256 public constant MIN_WINDOW = 1 hours;

    /// @notice The most for `finality`, `window` and `fallbackAfter`: beyond, a policy would keep everybody's ether.
    uint256 public constant MAX_WAIT = 30 days;

    /// @notice The most for `delay`.
    uint256 public constant MAX_DELAY = 365 days;

    /// @notice Holds the deposits.
    Bridge public immutable bridge;

    /// @notice Proposes policies, and renews the guardian's freeze.
    address public immutable governance;

    /// @notice May freeze once.
    address public immutable guardian;

    /// @notice May act at once while it is frozen.
    address public immutable council;

    // The head: two slots and a third with its numbers, then its link.
    bytes32 private headHash;
    bytes32 private headStateRoot;
    uint64 private headNumber;
    uint64 private headDeposits;

    /// @notice L1's time of the last settlement, or of the deployment.
    uint64 public lastSettled;

    /// @notice What was settled at or before this time was discarded by the council: nobody can claim against it. Zero at first.
    uint64 public discardedAt;

    /// The head's link with each bit inverted: so the slot is not zero before the first deposit, and settling that one costs no more.
    bytes32 private invertedLink;

    /// The code of this account is the policy.
    address private policyHolder;

    /// @notice Frozen before this time.
    uint64 public frozenUntil;

    /// @notice Whether the guardian has spent its freeze.
    bool public freezeSpent;

    /// @notice Keccak-256 of the ABI encoding of the proposed policy, zero if there is none.
    bytes32 public proposal;

    /// @notice When it was proposed.
    uint64 public proposedAt;

    /// @notice L1's time of the settlement of the batch that ends with this block and this state root, zero if there is none.
    mapping(uint64 number => mapping(bytes32 stateRoot => uint64 time)) public settledAt;

    /// @notice A batch was settled. `deposits`: how many the L2 has consumed since its genesis.
    event Settled(
        uint64 indexed firstNumber,
        uint64 indexed lastNumber,
        bytes32 lastHash,
        bytes32 stateRoot,
        uint64 deposits,
        address beneficiary
    );

    /// @notice Governance proposes the policy with this hash; zero takes the proposal back.
    event PolicyProposed(bytes32 indexed hash);

    /// @notice This policy is in force.
    event PolicyApplied(Policy policy);

    /// @notice `settle` and `claim` are refused before this time.
    event FreezeSet(uint64 until);

    /// @notice The guardian may freeze once more.
    event FreezeRenewed();

    /// @notice The council has set the head, and discarded what was settled before.
    event Rescued(Head head);

    /// @notice The guardian has frozen `settle` and `claim`.
    error Frozen(uint64 until);

    /// @notice Only the sequencer may settle now.
    error OnlySequencer();

    /// @notice The batch ran under other rules.
    error WrongChainConfig(bytes32 found, bytes32 expected);

    /// @notice The batch does not begin after the head.
    error WrongFirstNumber(uint64 found, uint256 expected);

    /// @notice The batch is on top of another block than the head.
    error WrongParent(bytes32 found, bytes32 expected);

    /// @notice The batch begins in another state than the head's.
    error WrongPreStateRoot(bytes32 found, bytes32 expected);

    /// @notice The last block is too far ahead of L1's time.
    error TimestampAhead(uint64 found, uint256 limit);

    /// @notice The batch consumes other deposits than the next ones of the queue up to `link`.
    error WrongDeposits(bytes32 found, bytes32 expected);

    /// @notice The batch must consume the deposit with this index.
    error DepositOverdue(uint256 index, uint256 madeAt);

    /// @notice There are fewer proofs than the policy demands.
    error NotEnoughProofs(uint256 found, uint256 threshold);

    /// @notice The proofs are not in ascending order of their systems, or two are of the same.
    error ProofOrder(uint8 system);

    /// @notice The policy has no such system.
    error UnknownSystem(uint8 system);

    /// @notice Two proofs are of the same family.
    error SameFamily(bytes32 family);

    /// @notice The system refuses the proof, for this reason.
    error ProofRefused(uint8 system, bytes reason);

    /// @notice No batch was settled that ends with this block in this state, or it was discarded.
    error NotSettled(uint64 number, bytes32 stateRoot);

    /// @notice Claims against this block are possible from this time on.
    error NotFinal(uint256 from);

    /// @notice Only this account may do that.
    error OnlyRole(address role);

    /// @notice The policy's threshold is zero, or more than it has families.
    error InvalidThreshold(uint256 threshold, uint256 families);

    /// @notice The system with this index has no code, id or family, or its adapter stands under another family too.
    error InvalidSystem(uint256 index);

    /// @notice The policy's times are outside their limits.
    error InvalidTimes();

    /// @notice This policy was not proposed.
    error NotProposed(bytes32 hash);

    /// @notice The proposed policy can be applied from this time on.
    error TooEarly(uint256 from);

    /// @notice The guardian has spent its freeze, and governance has not renewed it.
    error FreezeSpent();

    /// @notice The council may act only while it is frozen.
    error NotFrozen();

    modifier only(address role) {
        if (msg.sender != role) revert OnlyRole(role);
        _;
    }

    modifier whileFrozen() {
        if (block.timestamp >= frozenUntil) revert NotFrozen();
        _;
    }

    /// @notice Creates the Bridge too.
    /// @param genesis the block after which the first batch begins; the queue of deposits is empty
    constructor(Head memory genesis, Policy memory policy_, Roles memory roles, L2 memory l2) {
        bridge = new Bridge(l2.chainId, l2.outbox);
        governance = roles.governance;
        guardian = roles.guardian;
        council = roles.council;
        setHead(genesis);
        setPolicy(policy_);
        lastSettled = uint64(block.timestamp);
    }

    /// @notice The last settled block, and the deposits that were consumed.
    function head() public view returns (Head memory) {
        return Head(headHash, headStateRoot, headNumber, headDeposits, ~invertedLink);
    }

    /// @notice The policy in force.
    function policy() public view returns (Policy memory) {
        bytes memory code = policyHolder.code;
        assembly ("memory-safe") {
            // Without the first byte: a length, and after it the encoding.
            let length := sub(mload(code), 1)
            code := add(code, 1)
            mstore(code, length)
        }
        return abi.decode(code, (Policy));
    }

    /// @notice Settles the batch after the head.
    ///
    /// The statement's version, length and widths are checked when it is read; its `messagesRoot` and `dataCommitment` must be zero.
    /// Nothing has to be known about `beneficiary`; the last block and state become the head.
    /// @param values the public values of the proofs: a statement
    /// @param link the chain of deposits' link after those that the batch consumes, the head's if it consumes none
    /// @param proofs in ascending order of their systems
    function settle(bytes calldata values, bytes32 link, Proof[] calldata proofs) external {
        if (block.timestamp < frozenUntil) revert Frozen(frozenUntil);
        Statement memory batch = Statements.decode(values);
        Policy memory rules = policy();
        Head memory last = head();
        if (msg.sender != rules.sequencer && !fallbackIsOn(last, rules)) revert OnlySequencer();
        if (batch.chainConfigDigest != rules.chainConfigDigest) {
            revert WrongChainConfig(batch.chainConfigDigest, rules.chainConfigDigest);
        }
        if (batch.firstNumber != uint256(last.number) + 1) {
            revert WrongFirstNumber(batch.firstNumber, uint256(last.number) + 1);
        }
        if (batch.parentHash != last.hash) revert WrongParent(batch.parentHash, last.hash);
        if (batch.preStateRoot != last.stateRoot) revert WrongPreStateRoot(batch.preStateRoot, last.stateRoot);
        if (batch.lastTimestamp > block.timestamp + MAX_AHEAD) {
            revert TimestampAhead(batch.lastTimestamp, block.timestamp + MAX_AHEAD);
        }
        bytes32 digest = Deposits.digest(last.link, link);
        if (batch.depositsDigest != digest) revert WrongDeposits(batch.depositsDigest, digest);
        uint256 consumed = uint256(last.deposits) + batch.depositsCount;
        // Reverts unless the queue has so many deposits, up to this link.
        uint256 madeAt = bridge.next(consumed, link);
        if (overdue(madeAt, rules)) revert DepositOverdue(consumed, madeAt);
        verify(rules, values, proofs);

        headHash = batch.lastHash;
        headStateRoot = batch.postStateRoot;
        headNumber = batch.lastNumber;
        headDeposits = uint64(consumed);
        lastSettled = uint64(block.timestamp);
        if (batch.depositsCount != 0) invertedLink = ~link;
        settledAt[batch.lastNumber][batch.postStateRoot] = uint64(block.timestamp);
        emit Settled(
            batch.firstNumber,
            batch.lastNumber,
            batch.lastHash,
            batch.postStateRoot,
            uint64(consumed),
            batch.beneficiary
        );
    }

    /// @notice Reverts unless withdrawals may be claimed now against this state root of this block.
    function claimable(uint64 number, bytes32 stateRoot) external view {
        if (block.timestamp < frozenUntil) revert Frozen(frozenUntil);
        uint256 time = settledAt[number][stateRoot];
        // Zero, if it was never settled, is not after `discardedAt` either.
        if (time <= discardedAt) revert NotSettled(number, stateRoot);
        uint256 from = time + policy().finality;
        if (block.timestamp < from) revert NotFinal(from);
    }

    /// @notice Governance: proposes the policy whose ABI encoding has this hash, instead of any before; zero takes it back.
    function proposePolicy(bytes32 hash) external only(governance) {
        proposal = hash;
        proposedAt = uint64(block.timestamp);
        emit PolicyProposed(hash);
    }

    /// @notice Anybody: applies the proposed policy when the delay is over. A freeze makes the delay begin again at its end, because
    /// nobody can withdraw meanwhile.
    function applyPolicy(Policy calldata proposed) external {
        bytes32 hash = keccak256(abi.encode(proposed));
        if (hash != proposal) revert NotProposed(hash);
        uint256 start = proposedAt > frozenUntil ? proposedAt : frozenUntil;
        uint256 from = start + policy().delay;
        if (block.timestamp < from) revert TooEarly(from);
        setPolicy(proposed);
    }

    /// @notice Guardian: refuses `settle` and `claim` for 14 days.
    function freeze() external only(guardian) {
        if (freezeSpent) revert FreezeSpent();
        freezeSpent = true;
        frozenUntil = uint64(block.timestamp + FREEZE);
        emit FreezeSet(frozenUntil);
    }

    /// @notice Governance: lets the guardian freeze once more.
    function renewFreeze() external only(governance) {
        freezeSpent = false;
        emit FreezeRenewed();
    }

    /// @notice Council: ends a freeze.
    function unfreeze() external only(council) whileFrozen {
        frozenUntil = uint64(block.timestamp);
        emit FreezeSet(frozenUntil);
    }

    /// @notice Council, while it is frozen: applies a policy at once, and goes on from `from`.
    ///
    /// If `from` is not the head, what was settled so far is discarded: nobody can claim against it any more, only against what is
    /// settled later. What was paid stays paid. A proposal of governance is void.
    function rescue(Policy calldata policy_, Head calldata from) external only(council) whileFrozen {
        setPolicy(policy_);
        if (keccak256(abi.encode(from)) == keccak256(abi.encode(head()))) return;
        setHead(from);
        discardedAt = uint64(block.timestamp);
        emit Rescued(from);
    }

    /// Whether anybody may settle.
    function fallbackIsOn(Head memory last, Policy memory rules) private view returns (bool) {
        if (block.timestamp > uint256(lastSettled) + rules.fallbackAfter) return true;
        return overdue(bridge.next(last.deposits, last.link), rules);
    }

    function overdue(uint256 madeAt, Policy memory rules) private view returns (bool) {
        return madeAt != 0 && block.timestamp > madeAt + rules.window;
    }

    function verify(Policy memory rules, bytes calldata values, Proof[] calldata proofs) private view {
        if (proofs.length < rules.threshold) revert NotEnoughProofs(proofs.length, rules.threshold);
        for (uint256 i = 0; i < proofs.length; i++) {
            uint8 index = proofs[i].system;
            if (i > 0 && index <= proofs[i - 1].system) revert ProofOrder(index);
            if (index >= rules.systems.length) revert UnknownSystem(index);
            System memory system = rules.systems[index];
            for (uint256 j = 0; j < i; j++) {
                if (rules.systems[proofs[j].system].family == system.family) revert SameFamily(system.family);
            }
            try IProofSystem(system.adapter).verify(system.programId, values, proofs[i].data) {}
            catch (bytes memory reason) {
                revert ProofRefused(index, reason);
            }
        }
    }

    function setHead(Head memory from) private {
        // Reverts unless the link is the queue's.
        bridge.next(from.deposits, from.link);
        headHash = from.hash;
        headStateRoot = from.stateRoot;
        headNumber = from.number;
        headDeposits = from.deposits;
        invertedLink = ~from.link;
    }

    function setPolicy(Policy memory rules) private {
        uint256 families = 0;
        for (uint256 i = 0; i < rules.systems.length; i++) {
            System memory system = rules.systems[i];
            if (system.adapter.code.length == 0 || system.programId == 0 || system.family == 0) revert InvalidSystem(i);
            bool known = false;
            for (uint256 j = 0; j < i; j++) {
                bool same = rules.systems[j].family == system.family;
                if (rules.systems[j].adapter == system.adapter && !same) revert InvalidSystem(i);
                known = known || same;
            }
            if (!known) families++;
        }
        if (rules.threshold == 0 || rules.threshold > families) revert InvalidThreshold(rules.threshold, families);
        if (
            rules.delay < MIN_EXIT + rules.finality || rules.delay > MAX_DELAY || rules.finality > MAX_WAIT
                || rules.window < MIN_WINDOW || rules.window > MAX_WAIT || rules.fallbackAfter > MAX_WAIT
        ) revert InvalidTimes();
        policyHolder = address(new PolicyHolder(abi.encode(rules)));
        proposal = 0;
        emit PolicyApplied(rules);
    }
}
