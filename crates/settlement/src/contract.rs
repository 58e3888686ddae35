//! The contracts on L1, as far as a sender speaks to them.

use alloy_primitives::{Bytes, hex};
use alloy_sol_types::{SolInterface as _, sol};

sol! {
    /// The last settled block, and how many deposits are consumed up to it.
    #[derive(Debug, PartialEq, Eq, Default)]
    struct Head {
        bytes32 hash;
        bytes32 stateRoot;
        uint64 number;
        uint64 deposits;
        bytes32 link;
    }

    /// A proof system that counts.
    #[derive(Debug, PartialEq, Eq, Default)]
    struct System {
        address adapter;
        bytes32 programId;
        bytes32 family;
    }

    /// What the contract goes by.
    #[derive(Debug, PartialEq, Eq, Default)]
    struct Policy {
        System[] systems;
        uint8 threshold;
        bytes32 chainConfigDigest;
        address sequencer;
        uint64 delay;
        uint64 finality;
        uint64 window;
        uint64 fallbackAfter;
    }

    /// Who may do what besides settling.
    #[derive(Debug, PartialEq, Eq, Default)]
    struct Roles {
        address governance;
        address guardian;
        address council;
    }

    /// Where withdrawals of the L2 are recorded.
    #[derive(Debug, PartialEq, Eq, Default)]
    struct L2 {
        uint256 chainId;
        address outbox;
    }

    /// A proof for one of the systems.
    #[derive(Debug, PartialEq, Eq)]
    struct Proof {
        uint8 system;
        bytes data;
    }

    /// What leaves the L2.
    #[derive(Debug, PartialEq, Eq)]
    struct Withdrawal {
        uint64 nonce;
        address from;
        address to;
        uint256 amount;
    }

    /// What a bridge keeps of a block.
    #[derive(Debug)]
    struct Roots {
        bytes32 state;
        bytes32 outboxStorage;
    }

    /// Where ether leaves the L2.
    #[derive(Debug)]
    interface IOutbox {
        event Withdrawn(bytes32 indexed id, address indexed from, address indexed to, uint256 amount, uint64 nonce);
    }

    /// The contract that settles.
    #[derive(Debug)]
    interface IRollup {
        error Frozen(uint64 until);
        error OnlySequencer();
        error WrongChainConfig(bytes32 found, bytes32 expected);
        error WrongFirstNumber(uint64 found, uint256 expected);
        error WrongParent(bytes32 found, bytes32 expected);
        error WrongPreStateRoot(bytes32 found, bytes32 expected);
        error TimestampAhead(uint64 found, uint256 limit);
        error WrongDeposits(bytes32 found, bytes32 expected);
        error DepositOverdue(uint256 index, uint256 madeAt);
        error NotEnoughProofs(uint256 found, uint256 threshold);
        error ProofOrder(uint8 system);
        error UnknownSystem(uint8 system);
        error SameFamily(bytes32 family);
        error ProofRefused(uint8 system, bytes reason);
        error MalformedStatement(string what);
        error UnknownLink(uint256 index, bytes32 link);
        error NotSettled(uint64 number, bytes32 stateRoot);
        error NotFinal(uint256 from);
        error InvalidThreshold(uint256 threshold, uint256 families);
        error InvalidSystem(uint256 index);
        error InvalidTimes();
        event Settled(uint64 indexed firstNumber, uint64 indexed lastNumber, bytes32 lastHash, bytes32 stateRoot, uint64 deposits, address beneficiary);
        function claimable(uint64 number, bytes32 stateRoot) external view;
        function bridge() external view returns (address);
        function head() external view returns (Head memory);
        function policy() external view returns (Policy memory);
        function settle(bytes calldata values, bytes32 link, Proof[] calldata proofs) external;
    }

    /// RISC Zero's router: the verifier for proofs that begin with a selector.
    #[derive(Debug)]
    interface IRouter {
        function getVerifier(bytes4 selector) external view returns (address);
    }

    /// One of RISC Zero's verifiers.
    #[derive(Debug)]
    interface IVerifier {
        function SELECTOR() external view returns (bytes4);
    }

    /// The contract that queues deposits and pays withdrawals.
    #[derive(Debug)]
    interface IBridge {
        error WrongOutboxCode(bytes32 codeHash);
        error NotOpened(uint64 number);
        error WrongWord(bytes32 word);
        error AlreadyClaimed(bytes32 id);
        error TransferFailed(address to, uint256 amount);
        error NotInTrie();
        error ProofTooShort();
        error ProofTooLong();
        error WrongNode(uint256 level);
        error MalformedNode();
        error MalformedValue();
        error EmbeddedNode();
        event Deposited(uint64 indexed index, address indexed from, address indexed to, uint64 amountGwei, bytes32 link);
        function deposits() external view returns (uint64);
        function outbox() external view returns (address);
        function l2ChainId() external view returns (uint256);
        function claimed(bytes32 id) external view returns (bool);
        function opened(uint64 number) external view returns (Roots memory);
        function claim(Withdrawal calldata withdrawal, uint64 number, bytes[] calldata accountProof, bytes[] calldata storageProof) external;
        function next(uint256 index, bytes32 link) external view returns (uint256 at);
    }
}

/// What a revert says: an error of the contracts, a text, or the first bytes of what else it is.
pub fn reason(data: &Bytes) -> String {
    let bridge = || IBridge::IBridgeErrors::abi_decode(data).map(|error| format!("{error:?}"));
    let rollup = IRollup::IRollupErrors::abi_decode(data).map(|error| format!("{error:?}"));
    let text = match rollup.or_else(|_| bridge()) {
        // Each stands in the variant of its name.
        Ok(error) => match error.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')')) {
            Some(inner) => inner.to_owned(),
            None => error,
        },
        Err(_) => match alloy_sol_types::decode_revert_reason(data) {
            Some(text) => text,
            None if data.is_empty() => "no reason".to_owned(),
            None => hex::encode_prefixed(data),
        },
    };
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
