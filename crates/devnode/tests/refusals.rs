//! What the program refuses: one wrong input for each check that a false proof would have to get past.

use alloy_consensus::{Header, SignableTransaction, TxEip1559, transaction::SignerRecoverable};
use alloy_eips::eip4895::Withdrawal;
use alloy_network::TxSignerSync;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, Signature, TxKind, U256};
use devnode::{Chain, Kind, Traffic, TrafficConfig, accounts, genesis};
use program::{
    Block, ChainConfig, Error, Input, Machine, Transaction,
    consensus::{InvalidTransaction, Violation},
    senders::{Check, Claim, Hint},
    trie::TrieError,
};

/// A block of honest work, its input, and the state root before it.
struct Case {
    input: Input,
    block: Block,
    pre_state_root: B256,
}

impl Case {
    fn new() -> Self {
        let mut chain = Chain::new(&genesis::dev()).unwrap();
        let config =
            TrafficConfig { seed: 7, per_block: 10, kinds: Kind::ALL.to_vec(), stop_after: None };
        let mut traffic = Traffic::new(config);
        for _ in 0..4 {
            traffic.fill(&mut chain).unwrap();
            let timestamp = chain.head().timestamp + 2;
            chain.mine(timestamp).unwrap();
        }
        let number = chain.head().number;
        let (input, pre_state_root) = chain.input(number..=number).unwrap();
        Self { input, block: chain.block(number).unwrap().block.clone(), pre_state_root }
    }

    fn run(&self) -> Result<program::Statement, Error> {
        program::run(&self.input.encode(self.pre_state_root).unwrap())
    }

    /// The rule that the block breaks after `change`.
    fn violation(&self, change: impl FnOnce(&mut Block)) -> Violation {
        let mut block = self.block.clone();
        change(&mut block);
        let mut input = self.input.clone();
        input.blocks = vec![alloy_rlp::encode(&block).into()];
        match program::run(&input.encode(self.pre_state_root).unwrap()) {
            Err(Error::Block { violation, .. }) => violation,
            other => panic!("expected an invalid block, got {other:?}"),
        }
    }

    fn header(&self, change: impl FnOnce(&mut Header)) -> Violation {
        self.violation(|block| change(&mut block.header))
    }

    /// The rule that a block with one more transaction breaks, if its transaction root is correct.
    fn transaction(&self, transaction: Transaction) -> Violation {
        self.violation(|block| {
            block.body.transactions.push(transaction);
            block.header.transactions_root =
                alloy_consensus::proofs::calculate_transaction_root(&block.body.transactions);
        })
    }

    /// Who sent the block's first transaction.
    fn sender(&self) -> Address {
        self.block.body.transactions[0].recover_signer().unwrap()
    }

    fn transfer(&self) -> TxEip1559 {
        TxEip1559 {
            chain_id: self.input.config.chain_id,
            nonce: u64::MAX - 1,
            gas_limit: 21_000,
            max_fee_per_gas: 1_000_000_000_000,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(Address::repeat_byte(0xaa)),
            ..Default::default()
        }
    }
}

/// Signs as a sender that the witness shows.
fn sign(mut transaction: TxEip1559, case: &Case) -> Transaction {
    let sender = case.sender();
    let signer = (0..10).map(accounts::signer).find(|signer| signer.address() == sender).unwrap();
    let signature = signer.sign_transaction_sync(&mut transaction).unwrap();
    Transaction::Eip1559(transaction.into_signed(signature))
}

macro_rules! refused {
    ($case:expr, $($pattern:pat => $change:expr),+ $(,)?) => {
        $({
            let violation = $case.header($change);
            assert!(
                matches!(violation, $pattern),
                "{}: got {violation:?}", stringify!($change)
            );
        })+
    };
}

#[test]
fn the_case_itself_is_accepted() {
    let case = Case::new();
    let statement = case.run().unwrap();
    assert_eq!(statement.last_hash, case.block.header.hash_slow());
    assert!(case.block.body.transactions.len() > 5);
}

#[test]
fn a_header_that_breaks_any_rule_is_refused() {
    let case = Case::new();
    refused!(case,
        Violation::ParentHash { .. } => |h| h.parent_hash.0[0] ^= 1,
        Violation::Number { .. } => |h| h.number += 1,
        Violation::Timestamp { .. } => |h| h.timestamp -= 2,
        Violation::GasLimit { .. } => |h| h.gas_limit += h.gas_limit / 1024 + 1,
        Violation::GasLimit { .. } => |h| h.gas_limit = u64::MAX,
        Violation::GasUsedAboveLimit { .. } => |h| h.gas_used = h.gas_limit + 1,
        Violation::Number64 { field: "baseFeePerGas", .. } =>
            |h| h.base_fee_per_gas = h.base_fee_per_gas.map(|fee| fee + 1),
        Violation::Number64 { field: "excessBlobGas", .. } => |h| h.excess_blob_gas = Some(131_072),
        Violation::Number64 { field: "blobGasUsed", .. } => |h| h.blob_gas_used = Some(131_072),
        Violation::Number64 { field: "gasUsed", .. } => |h| h.gas_used -= 1,
        Violation::NotEmpty("difficulty") => |h| h.difficulty = U256::from(1),
        Violation::NotEmpty("nonce") => |h| h.nonce = B64::with_last_byte(1),
        Violation::NotEmpty("ommers") => |h| h.ommers_hash = B256::ZERO,
        Violation::ExtraData { len: 33 } => |h| h.extra_data = Bytes::from(vec![0; 33]),
        Violation::Root { field: "stateRoot", .. } => |h| h.state_root.0[31] ^= 1,
        Violation::Root { field: "transactionsRoot", .. } => |h| h.transactions_root.0[0] ^= 1,
        Violation::Root { field: "receiptsRoot", .. } => |h| h.receipts_root.0[0] ^= 1,
        Violation::Root { field: "withdrawalsRoot", .. } => |h| h.withdrawals_root = Some(B256::ZERO),
        Violation::Root { field: "requestsHash", .. } => |h| h.requests_hash = Some(B256::ZERO),
        Violation::LogsBloom => |h| h.logs_bloom = Bloom::repeat_byte(0xff),
        Violation::ForkField { field: "blockAccessListHash", expected: false } =>
            |h| h.block_access_list_hash = Some(B256::ZERO),
    );
    // Each of the other fields is bound by its effect on the execution.
    refused!(case,
        Violation::Root { .. } => |h| h.beneficiary = case.sender(),
        Violation::Root { .. } => |h| h.parent_beacon_block_root = Some(B256::repeat_byte(1)),
    );
}

#[test]
fn fields_of_another_fork_are_refused() {
    let case = Case::new();
    for (fork, field, expected) in [
        (|c: &mut ChainConfig| c.prague_time = None, "requestsHash", false),
        (|c: &mut ChainConfig| c.cancun_time = None, "blobGasUsed", false),
        (|c: &mut ChainConfig| c.shanghai_time = None, "withdrawalsRoot", false),
    ] as [(fn(&mut ChainConfig), &str, bool); 3]
    {
        let mut case = Case { input: case.input.clone(), block: case.block.clone(), ..case };
        let config = &mut case.input.config;
        config.osaka_time = None;
        if field != "requestsHash" {
            config.prague_time = None;
        }
        if field == "withdrawalsRoot" {
            config.cancun_time = None;
        }
        fork(config);
        match case.run() {
            Err(Error::Block {
                violation: Violation::ForkField { field: found, expected: wanted },
                ..
            }) => {
                assert_eq!((found, wanted), (field, expected));
            }
            other => panic!("{field}: {other:?}"),
        }
    }
    let missing = case.header(|h| {
        h.requests_hash = None;
    });
    assert_eq!(missing, Violation::ForkField { field: "requestsHash", expected: true });
}

#[test]
fn a_block_before_the_merge_is_refused() {
    let mut case = Case::new();
    case.input.config.paris_block = 5;
    let refusal = case.run().unwrap_err();
    assert_eq!(
        refusal,
        Error::Block { number: 4, violation: Violation::ProofOfWork { paris_block: 5 } }
    );
}

#[test]
fn the_chain_config_is_part_of_the_statement() {
    let case = Case::new();
    let honest = case.run().unwrap();
    let mut other = Case { input: case.input.clone(), block: case.block.clone(), ..case };
    other.input.config.deposit_contract = Address::ZERO;
    assert_ne!(other.run().unwrap().chain_config_digest, honest.chain_config_digest);
    // With another chain's id the block does not even execute: the transactions are signed for this
    // chain.
    other.input.config.chain_id += 1;
    assert!(matches!(
        other.run(),
        Err(Error::Block { violation: Violation::Transaction { .. }, .. })
    ));
}

#[test]
fn transactions_that_may_not_stand_in_the_block_are_refused() {
    let case = Case::new();
    let honest = case.transfer();
    let invalid = |tx| match case.transaction(tx) {
        Violation::Transaction { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let nonce = invalid(sign(honest.clone(), &case));
    assert!(matches!(nonce, InvalidTransaction::NonceTooHigh { .. }), "{nonce}");
    let foreign = invalid(sign(TxEip1559 { chain_id: 1, ..honest.clone() }, &case));
    assert_eq!(foreign, InvalidTransaction::InvalidChainId);
    let poor = invalid(sign(TxEip1559 { gas_limit: 20_999, ..honest.clone() }, &case));
    assert!(matches!(poor, InvalidTransaction::CallGasCostMoreThanGasLimit { .. }), "{poor}");
    let greedy = invalid(sign(TxEip1559 { gas_limit: 16_777_217, ..honest.clone() }, &case));
    assert!(matches!(greedy, InvalidTransaction::TxGasLimitGreaterThanCap { .. }), "EIP-7825");
    let cheap = invalid(sign(TxEip1559 { max_fee_per_gas: 1, ..honest }, &case));
    assert_eq!(cheap, InvalidTransaction::GasPriceLessThanBasefee);
}

#[test]
fn signatures_that_are_not_canonical_are_refused() {
    let case = Case::new();
    let Transaction::Eip1559(signed) = sign(case.transfer(), &case) else { unreachable!() };
    let (transaction, good) = (signed.tx().clone(), *signed.signature());
    let order = U256::from_be_bytes(alloy_primitives::hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    for (name, bad) in [
        ("high s", Signature::new(good.r(), order - good.s(), !good.v())),
        ("zero r", Signature::new(U256::ZERO, good.s(), good.v())),
        ("zero s", Signature::new(good.r(), U256::ZERO, good.v())),
        ("r of the order", Signature::new(order, good.s(), good.v())),
    ] {
        let bad = Transaction::Eip1559(transaction.clone().into_signed(bad));
        let violation = case.transaction(bad);
        assert!(matches!(violation, Violation::Signature { .. }), "{name}: {violation:?}");
    }
}

/// Finds every claim true.
fn credulous(claims: &[Claim<'_>]) -> Option<Vec<Address>> {
    Some(claims.iter().map(|claim| Address::from_raw_public_key(claim.key())).collect())
}

/// A check that is sure of nothing.
fn unsure(_: &[Claim<'_>]) -> Option<Vec<Address>> {
    None
}

/// A machine with this check.
fn with(check: Check) -> Machine {
    Machine { check, product: |a, b, modulus| a.mul_mod(*b, *modulus) }
}

#[test]
fn a_check_of_all_senders_is_not_asked_about_a_high_s() {
    let mut case = Case::new();
    let Transaction::Eip1559(signed) = sign(case.transfer(), &case) else { unreachable!() };
    let good = *signed.signature();
    let order = U256::from_be_bytes(alloy_primitives::hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let bad = Signature::new(good.r(), order - good.s(), !good.v());
    let index = case.block.body.transactions.len();
    // The key is that of the same transaction with a low s.
    case.block.body.transactions.push(Transaction::Eip1559(signed.clone()));
    case.input.blocks = vec![alloy_rlp::encode(&case.block).into()];
    let hints = case.input.hints();
    let bad = Transaction::Eip1559(signed.tx().clone().into_signed(bad));
    case.block.body.transactions[index] = bad;
    case.block.header.transactions_root =
        alloy_consensus::proofs::calculate_transaction_root(&case.block.body.transactions);
    case.input.blocks = vec![alloy_rlp::encode(&case.block).into()];
    let input = case.input.encode_with_hints(case.pre_state_root, &hints).unwrap();
    for check in [credulous, unsure] {
        match program::run_in_place(&input.clone().into(), with(check)) {
            Err(Error::Block { violation, .. }) => {
                assert_eq!(violation, Violation::Signature { index });
            }
            other => panic!("expected an invalid signature, got {other:?}"),
        }
    }
}

#[test]
fn senders_are_those_of_the_check_or_recovered() {
    let case = Case::new();
    let input: Bytes = case.input.encode(case.pre_state_root).unwrap().into();
    let statement = case.run().unwrap();
    for check in [credulous, unsure] {
        assert_eq!(program::run_in_place(&input, with(check)), Ok(statement.clone()));
    }
    let nobody = |claims: &[Claim<'_>]| Some(vec![Address::repeat_byte(7); claims.len()]);
    let refused = program::run_in_place(&input, with(nobody));
    assert!(matches!(refused, Err(Error::Block { .. })), "{refused:?}");
}

#[test]
fn a_hint_that_names_another_key_is_refused() {
    let case = Case::new();
    let number = case.block.header.number;
    let honest = case.input.hints();
    assert_eq!(honest.len(), case.block.body.transactions.len());
    let run = |hints: &[Hint]| {
        let input = case.input.encode_with_hints(case.pre_state_root, hints).unwrap();
        let alone = program::run(&input);
        assert_eq!(program::run_in_place(&input.into(), with(unsure)), alone);
        alone
    };
    assert!(run(&honest).is_ok());
    for index in 0..honest.len() {
        for at in [0, 31, 32, 63] {
            let mut hints = honest.clone();
            hints[index][at] ^= 1;
            assert_eq!(run(&hints), Err(Error::SenderHint { number, index }));
        }
        // Whoever is told a wrong nonce point has to recover the key, and finds the same.
        let mut hints = honest.clone();
        hints[index][64] ^= 1;
        assert!(run(&hints).is_ok());
    }
    let mut hints = honest.clone();
    hints[1] = [0; 96];
    assert_eq!(run(&hints), Err(Error::SenderHint { number, index: 1 }));
    for hints in [&honest[1..], &[honest.as_slice(), &[honest[0]]].concat(), &[]] {
        assert!(matches!(run(hints), Err(Error::Input { what, .. }) if what.contains("one hint")));
    }
}

#[test]
fn a_body_that_the_header_does_not_commit_to_is_refused() {
    let case = Case::new();
    let violation = case.violation(|block| drop(block.body.transactions.pop()));
    assert!(matches!(violation, Violation::Root { field: "transactionsRoot", .. }));
    let violation = case.violation(|block| block.body.transactions.swap(0, 1));
    assert!(matches!(violation, Violation::Root { field: "transactionsRoot", .. }));
    let withdrawal = Withdrawal { index: 0, validator_index: 0, address: Address::ZERO, amount: 1 };
    let violation =
        case.violation(|block| block.body.withdrawals.as_mut().unwrap().push(withdrawal));
    assert!(matches!(violation, Violation::Root { field: "withdrawalsRoot", .. }));
    let ommer = case.block.header.clone();
    let violation = case.violation(|block| block.body.ommers.push(ommer));
    assert_eq!(violation, Violation::NotEmpty("ommers"));
}

#[test]
fn a_withdrawal_that_is_committed_to_is_paid() {
    let case = Case::new();
    let withdrawal = Withdrawal { index: 0, validator_index: 0, address: case.sender(), amount: 1 };
    let violation = case.violation(|block| {
        let list = block.body.withdrawals.as_mut().unwrap();
        list.push(withdrawal);
        block.header.withdrawals_root =
            Some(alloy_consensus::proofs::calculate_withdrawals_root(list));
    });
    assert!(matches!(violation, Violation::Root { field: "stateRoot", .. }), "{violation:?}");
}

#[test]
fn block_bytes_in_any_other_form_are_refused() {
    let case = Case::new();
    let rlp = case.input.blocks[0].to_vec();
    let refused = |bytes: Vec<u8>| {
        let mut input = case.input.clone();
        input.blocks = vec![bytes.into()];
        match program::run(&input.encode(case.pre_state_root).unwrap()) {
            Err(Error::Block { violation, .. }) => violation,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(refused([rlp.as_slice(), &[0x80]].concat()), Violation::Rlp(_)));
    for len in [0, 1, 10, rlp.len() / 2, rlp.len() - 1] {
        assert!(matches!(refused(rlp[..len].to_vec()), Violation::Rlp(_)), "cut at {len}");
    }
    // Wrapped like a typed transaction, it has the same bytes, so the same root of transactions.
    let wrapped = with_wrapped_legacy_transactions(&rlp);
    assert_ne!(wrapped, rlp);
    assert!(matches!(refused(wrapped), Violation::MalformedTransaction { .. }));
}

/// The block with each legacy transaction, a list, in a string.
fn with_wrapped_legacy_transactions(block: &[u8]) -> Vec<u8> {
    let Ok(alloy_rlp::PayloadView::List(mut parts)) = alloy_rlp::Header::decode_raw(&mut &*block)
    else {
        panic!("a block is a list");
    };
    let Ok(alloy_rlp::PayloadView::List(transactions)) =
        alloy_rlp::Header::decode_raw(&mut &*parts[1])
    else {
        panic!("its transactions are a list");
    };
    let list = |items: &[u8]| {
        let mut list = Vec::new();
        alloy_rlp::Header { list: true, payload_length: items.len() }.encode(&mut list);
        [list, items.to_vec()].concat()
    };
    let mut items = Vec::new();
    for item in transactions {
        match item[0] {
            0xc0.. => alloy_rlp::Encodable::encode(item, &mut items),
            _ => items.extend_from_slice(item),
        }
    }
    let transactions = list(&items);
    parts[1] = &transactions;
    list(&parts.concat())
}

#[test]
fn ancestors_that_are_not_one_chain_are_refused() {
    let mut case = Case::new();
    assert!(!case.input.headers.is_empty());
    let parent = case.input.headers.last().unwrap().clone();
    case.input.headers = vec![parent.clone(), parent.clone()];
    assert_eq!(case.run().unwrap_err(), Error::BrokenHeaderChain { index: 0 });
    case.input.headers = vec![[parent.as_ref(), &[0]].concat().into()];
    assert!(matches!(case.run(), Err(Error::Input { .. })));
    case.input.headers = vec![];
    assert_eq!(case.run().unwrap_err(), Error::MissingParent { number: 4 });
}

#[test]
fn a_witness_without_one_of_its_nodes_or_codes_is_refused() {
    let case = Case::new();
    for index in 0..case.input.nodes.len() {
        let mut input = case.input.clone();
        input.nodes.remove(index);
        let refusal = program::run(&input.encode(case.pre_state_root).unwrap());
        assert!(
            matches!(refusal, Err(Error::Trie(TrieError::MissingNode { .. }))),
            "node {index}: {refusal:?}"
        );
    }
    for index in 0..case.input.codes.len() {
        let mut input = case.input.clone();
        input.codes.remove(index);
        let refusal = program::run(&input.encode(case.pre_state_root).unwrap());
        assert!(matches!(refusal, Err(Error::MissingCode { .. })), "code {index}: {refusal:?}");
        // Another code in its place has another hash.
        let mut input = case.input.clone();
        input.codes[index] = [input.codes[index].as_ref(), &[0]].concat().into();
        let refusal = program::run(&input.encode(case.pre_state_root).unwrap());
        assert!(matches!(refusal, Err(Error::MissingCode { .. })), "code {index}: {refusal:?}");
    }
}

#[test]
fn no_flipped_byte_of_an_input_gives_another_statement() {
    let case = Case::new();
    let honest = case.run().unwrap();
    let encoded = case.input.encode(case.pre_state_root).unwrap();
    let mut accepted = 0;
    for index in (0..encoded.len()).step_by(97) {
        let mut bytes = encoded.clone();
        bytes[index] ^= 1 << (index % 8);
        if let Ok(statement) = program::run(&bytes) {
            // Only what the statement binds may differ: another chain config is another claim.
            assert_ne!(statement.chain_config_digest, honest.chain_config_digest, "byte {index}");
            accepted += 1;
        }
    }
    assert!(accepted < 10);
    for len in [0, 3, 4, 100, encoded.len() / 2, encoded.len() - 4, encoded.len() - 1] {
        assert!(program::run(&encoded[..len]).is_err(), "cut at {len}");
    }
    assert!(program::run(&[encoded.as_slice(), &[0; 4]].concat()).is_err());
}

#[test]
fn an_assumed_parent_skips_the_rules_against_the_parent_and_no_others() {
    let mut case = Case::new();
    let honest = case.run().unwrap();
    case.input.headers.clear();
    let run = |case: &Case| {
        program::run_assuming_parent(
            &case.input.encode(case.pre_state_root).unwrap(),
            case.pre_state_root,
        )
    };
    assert_eq!(run(&case).unwrap().statement, honest);
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut block = case.block.clone();
        change(&mut block.header);
        let mut input = case.input.clone();
        input.blocks = vec![alloy_rlp::encode(&block).into()];
        match run(&Case { input, block, ..case }) {
            Err(Error::Block { violation, .. }) => violation,
            other => panic!("expected an invalid block, got {other:?}"),
        }
    };
    assert!(matches!(
        changed(&|header| header.state_root = B256::ZERO),
        Violation::Root { field: "stateRoot", .. }
    ));
    for limit in [4999, 1 << 63] {
        let violation = changed(&|header| (header.gas_limit, header.gas_used) = (limit, 0));
        assert_eq!(violation, Violation::GasLimitBounds { limit });
    }
    // And another state root cannot be taken on trust in its place.
    case.input.blocks = vec![alloy_rlp::encode(&case.block).into()];
    let encoded = case.input.encode(case.pre_state_root).unwrap();
    assert!(program::run_assuming_parent(&encoded, B256::repeat_byte(1)).is_err());
}
