//! Headers, transactions, withdrawals and chain configs whose fields are at the ends of their ranges.

use super::{
    Case,
    code::{Code, ECHO, op},
    power,
    scene::{GAS_PRICE, Scene, contract, sign},
};
use alloy_consensus::{TxEip1559, TxEip4844, TxEip7702, TxLegacy};
use alloy_eips::{
    eip4895::Withdrawal,
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, b256};
use program::ChainConfig;

/// The cases of all fields.
pub(super) fn cases() -> Vec<Case> {
    [
        gas_limits(),
        times_and_numbers(),
        base_fees(),
        blob_fees(),
        transactions(),
        delegations(),
        accounts(),
        deposits(),
    ]
    .concat()
}

/// The topic of a deposit.
const DEPOSIT: U256 = U256::from_be_bytes(
    b256!("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5").0,
);
/// A plain transfer's gas.
const TRANSFER: u64 = 21_000;
/// Blob gas of one blob.
const BLOB: u64 = 1 << 17;

fn widths() -> impl Iterator<Item = u64> + Clone {
    [16, 31, 32, 63].into_iter().flat_map(|bits| {
        let edge = 1u64 << bits;
        [edge - 1, edge, edge + 1]
    })
}

fn gas_limits() -> Vec<Case> {
    let mut cases = Vec::new();
    for limit in [5_000, 21_000].into_iter().chain(widths()).chain([u64::MAX - 1, u64::MAX]) {
        // The transaction may use the whole block.
        for (rules, mut scene) in [("Osaka", Scene::osaka()), ("Prague", Scene::prague())] {
            scene.parent.gas_limit = limit;
            scene.transfer(limit, GAS_PRICE);
            cases.push(
                scene.case(format!("{rules}, gas limit {}, all of it in a transfer", power(limit))),
            );
        }
        for used in [limit / 2, limit / 2 + 1, limit] {
            let mut scene = Scene::osaka();
            (scene.parent.gas_limit, scene.parent.gas_used) = (limit, used);
            scene.transfer(TRANSFER, GAS_PRICE);
            cases.push(scene.case(format!(
                "gas limit {}, {} used by the parent",
                power(limit),
                power(used)
            )));
        }
        let step = limit / 1024;
        let higher = [limit.checked_add(step - 1), limit.checked_add(step)];
        let lower = [limit - (step - 1), limit - step];
        for next in higher.into_iter().flatten().chain(lower) {
            let mut scene = Scene::osaka();
            scene.parent.gas_limit = limit;
            scene.attributes.gas_limit = next;
            scene.transfer(TRANSFER, GAS_PRICE);
            cases.push(scene.case(format!("gas limit {} after {}", power(next), power(limit))));
        }
    }
    let mut scene = Scene::osaka();
    scene.parent.gas_used = scene.parent.gas_limit + 1;
    cases.push(scene.case("more gas used by the parent than its limit".into()));
    cases
}

fn times_and_numbers() -> Vec<Case> {
    let ends = [0, 1].into_iter().chain(widths()).chain([u64::MAX - 2, u64::MAX - 1, u64::MAX]);
    let mut cases = Vec::new();
    for (rules, scene) in [("Osaka", Scene::osaka()), ("Prague", Scene::prague())] {
        for end in ends.clone() {
            let mut timed = scene.clone();
            timed.parent.timestamp = end;
            timed.attributes.timestamp = end.saturating_add(1);
            timed.transfer(TRANSFER, GAS_PRICE);
            cases.push(timed.case(format!("{rules}, timestamp one after {}", power(end))));
            let mut numbered = scene.clone();
            numbered.parent.number = end;
            numbered.transfer(TRANSFER, GAS_PRICE);
            cases.push(numbered.case(format!("{rules}, number one after {}", power(end))));
        }
    }
    // The last timestamp at which a fork could start is not a timestamp: it means "never".
    for time in [u64::MAX - 1, u64::MAX] {
        let mut scene = Scene::prague();
        scene.config.osaka_time = Some(time);
        scene.parent.timestamp = u64::MAX - 2;
        scene.attributes.timestamp = u64::MAX;
        scene.transfer(TRANSFER, GAS_PRICE);
        cases.push(scene.case(format!("Osaka at {}, timestamp 2^64-1", power(time))));
    }
    cases
}

fn base_fees() -> Vec<Case> {
    let fees = [0, 1, 7, 8, 9].into_iter().chain(widths()).chain([u64::MAX / 9 * 8, u64::MAX]);
    let mut cases = Vec::new();
    for fee in fees {
        for limit in [60_000_000, (1 << 63) - 1] {
            for used in [0, limit / 2, limit] {
                let mut scene = Scene::osaka();
                scene.parent.base_fee_per_gas = Some(fee);
                (scene.parent.gas_limit, scene.parent.gas_used) = (limit, used);
                scene.transfer(TRANSFER, 2 * u128::from(u64::MAX));
                cases.push(scene.case(format!(
                    "base fee after {}, {} of {} gas used",
                    power(fee),
                    power(used),
                    power(limit)
                )));
            }
        }
    }
    cases
}

fn blob_fees() -> Vec<Case> {
    let excesses = [0, BLOB, 1 << 32, u64::MAX - BLOB, u64::MAX];
    let useds = [0, 9 * BLOB, 1 << 32, u64::MAX];
    let mut cases = Vec::new();
    for (rules, scene) in [("Osaka", Scene::osaka()), ("Prague", Scene::prague())] {
        for fraction in [1, 5_007_716, u64::MAX] {
            for excess in excesses {
                for used in useds {
                    let mut scene = scene.clone();
                    scene.config.blob_schedule[0].update_fraction = fraction;
                    scene.parent.excess_blob_gas = Some(excess);
                    scene.parent.blob_gas_used = Some(used);
                    scene.transactions.push(sign(blob_transaction(&scene, 1)));
                    cases.push(scene.case(format!(
                        "{rules}, blob fee after {} in excess, {} used, fraction {}",
                        power(excess),
                        power(used),
                        power(fraction)
                    )));
                }
            }
        }
        for blobs in [6, 7, 9, 10, 256, 257] {
            let mut scene = scene.clone();
            scene.config.blob_schedule[0].max = 256;
            scene.transactions.push(sign(blob_transaction(&scene, blobs)));
            cases.push(scene.case(format!("{rules}, {blobs} blobs of at most 256")));
        }
    }
    cases
}

fn blob_transaction(scene: &Scene, blobs: usize) -> TxEip4844 {
    let mut hash = B256::repeat_byte(3);
    hash[0] = 1;
    TxEip4844 {
        chain_id: scene.config.chain_id,
        nonce: 0,
        gas_limit: TRANSFER,
        max_fee_per_gas: GAS_PRICE,
        max_priority_fee_per_gas: 0,
        to: ECHO,
        value: U256::ZERO,
        access_list: Default::default(),
        blob_versioned_hashes: vec![hash; blobs],
        max_fee_per_blob_gas: u128::MAX,
        input: Bytes::new(),
    }
}

fn transactions() -> Vec<Case> {
    let plain = |scene: &Scene| TxEip1559 {
        chain_id: scene.config.chain_id,
        nonce: 0,
        gas_limit: 100_000,
        max_fee_per_gas: GAS_PRICE,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(ECHO),
        value: U256::ZERO,
        access_list: Default::default(),
        input: Bytes::new(),
    };
    let mut cases = Vec::new();
    let mut one = |name: String, rich: bool, change: &dyn Fn(&mut TxEip1559)| {
        let mut scene = Scene::prague();
        if rich {
            scene.purse = U256::MAX;
        }
        let mut transaction = plain(&scene);
        change(&mut transaction);
        scene.nonce = transaction.nonce;
        scene.parent.gas_limit = (1 << 63) - 1;
        scene.transactions.push(sign(transaction));
        cases.push(scene.case(name));
    };
    for gas in widths().chain([u64::MAX - 1, u64::MAX]) {
        one(format!("a transaction of {} gas", power(gas)), false, &|tx| tx.gas_limit = gas);
        one(format!("a creation of {} gas", power(gas)), false, &|tx| {
            (tx.gas_limit, tx.to) = (gas, TxKind::Create);
        });
    }
    for nonce in [u64::MAX - 1, u64::MAX] {
        one(format!("nonce {}", power(nonce)), false, &|tx| tx.nonce = nonce);
        one(format!("a creation with nonce {}", power(nonce)), false, &|tx| {
            (tx.nonce, tx.to) = (nonce, TxKind::Create);
        });
    }
    for fee in [u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX] {
        one(format!("fees of {}", power(fee)), false, &|tx| {
            (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (fee, fee);
        });
        one(format!("fees of {} from 2^256-1 wei", power(fee)), true, &|tx| {
            (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (fee, fee);
        });
        one(format!("fees of {} for 2^63-1 gas", power(fee)), true, &|tx| {
            (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (fee, fee);
            tx.gas_limit = (1 << 63) - 1;
        });
    }
    for value in [U256::MAX >> 8, U256::MAX - U256::from(100_000 * GAS_PRICE), U256::MAX] {
        one(format!("a transfer of {}", power(value)), true, &|tx| tx.value = value);
    }
    for length in [49_151, 49_152, 49_153, 65_535, 65_536, 65_537] {
        for (what, to) in [("calldata", TxKind::Call(ECHO)), ("creation code", TxKind::Create)] {
            one(format!("{} bytes of {what}", power(length)), false, &|tx| {
                (tx.gas_limit, tx.to) = (10_000_000, to);
                tx.input = vec![0x5b; length].into();
            });
        }
    }
    for id in widths().chain([u64::MAX / 2 - 17, u64::MAX - 1, u64::MAX]) {
        let mut scene = Scene::osaka();
        scene.config.chain_id = id;
        scene.transactions.push(sign(TxLegacy {
            chain_id: Some(id),
            nonce: 0,
            gas_price: GAS_PRICE,
            gas_limit: TRANSFER,
            to: TxKind::Call(Address::repeat_byte(1)),
            value: U256::ONE,
            input: Bytes::new(),
        }));
        cases.push(scene.case(format!("a legacy transaction on chain {}", power(id))));
    }
    cases
}

/// Authorizations (EIP-7702) for odd chains and with odd nonces. One that is skipped is not an error.
fn delegations() -> Vec<Case> {
    let id = ChainConfig::dev().chain_id;
    let ids =
        [U256::from(id), U256::from(id) + (U256::ONE << 32), U256::from(id) + (U256::ONE << 64)];
    let odd_ids = ids.into_iter().chain([U256::ZERO, U256::MAX]).map(|id| (id, 0));
    let odd_nonces = [1 << 32, u64::MAX - 1, u64::MAX].map(|nonce| (U256::from(id), nonce));
    let mut cases = Vec::new();
    for (chain_id, nonce) in odd_ids.chain(odd_nonces) {
        let authorization = Authorization { chain_id, address: ECHO, nonce };
        let signed = (1..=64u64)
            .map(|r| {
                SignedAuthorization::new_unchecked(
                    authorization.clone(),
                    0,
                    U256::from(r),
                    U256::ONE,
                )
            })
            .find(|signed| signed.recover_authority().is_ok())
            .expect("half of all numbers are on the curve");
        let authority = signed.recover_authority().expect("it was tried");
        let mut scene = Scene::osaka();
        let account =
            GenesisAccount { nonce: Some(nonce), balance: U256::ONE, ..Default::default() };
        scene.accounts.insert(authority, account);
        scene.transactions.push(sign(TxEip7702 {
            chain_id: id,
            nonce: 0,
            gas_limit: 100_000,
            max_fee_per_gas: GAS_PRICE,
            max_priority_fee_per_gas: 0,
            to: authority,
            value: U256::ZERO,
            access_list: Default::default(),
            authorization_list: vec![signed],
            input: vec![7; 33].into(),
        }));
        cases.push(scene.case(format!(
            "an authorization for chain {} with nonce {}",
            power(chain_id),
            power(nonce)
        )));
    }
    cases
}

/// Logs of the deposit contract whose offsets and lengths are correct only when truncated to fewer bits
/// (EIP-6110).
fn deposits() -> Vec<Case> {
    let mut layout = Vec::new();
    for offset in [160u64, 256, 320, 384, 512] {
        layout.push(U256::from(offset));
    }
    for length in [48usize, 32, 8, 96, 8] {
        layout.push(U256::from(length));
        layout.extend((0..length.div_ceil(32)).map(|word| {
            // A length of 8 or 48 leaves zeros at the end of its last word.
            let used = (length - 32 * word).min(32);
            U256::MAX << (256 - 8 * used)
        }));
    }
    let log = Code::default()
        .ops(&[op::CALLDATASIZE])
        .push(0)
        .push(0)
        .ops(&[op::CALLDATACOPY])
        .push(DEPOSIT)
        .ops(&[op::CALLDATASIZE])
        .push(0)
        .ops(&[op::LOG0 + 1]);
    let mut cases = Vec::new();
    let mut one = |name: String, layout: &[U256]| {
        let mut scene = Scene::osaka();
        scene.accounts.insert(scene.config.deposit_contract, contract(&log.0));
        scene.transactions.push(sign(TxLegacy {
            chain_id: Some(scene.config.chain_id),
            nonce: 0,
            gas_price: GAS_PRICE,
            gas_limit: 200_000,
            to: TxKind::Call(scene.config.deposit_contract),
            value: U256::ZERO,
            input: layout.iter().flat_map(|word| word.to_be_bytes::<32>()).collect(),
        }));
        cases.push(scene.case(name));
    };
    one("a deposit".into(), &layout);
    for (what, word) in
        [("first offset", 0), ("last offset", 4), ("first length", 5), ("last length", 16)]
    {
        for bits in [16, 31, 32, 63, 64, 255] {
            let mut odd = layout.clone();
            odd[word] |= U256::ONE << bits;
            one(format!("a deposit whose {what} is 2^{bits} too much"), &odd);
        }
    }
    cases
}

fn accounts() -> Vec<Case> {
    let rich = Address::repeat_byte(0x77);
    let balances = [0u64, 1].map(|below| U256::MAX - U256::from(below));
    let mut cases = Vec::new();
    for balance in balances {
        let mut scene = Scene::osaka();
        scene.accounts.insert(rich, GenesisAccount { balance, ..Default::default() });
        let mut paid = scene.clone();
        paid.attributes.beneficiary = rich;
        paid.transactions.push(sign(TxLegacy {
            chain_id: Some(paid.config.chain_id),
            nonce: 0,
            gas_price: GAS_PRICE,
            gas_limit: TRANSFER,
            to: TxKind::Call(ECHO),
            value: U256::ZERO,
            input: Bytes::new(),
        }));
        cases.push(paid.case(format!("fees for who has {}", power(balance))));
        let mut given = scene.clone();
        given.transactions.push(sign(TxLegacy {
            chain_id: Some(given.config.chain_id),
            nonce: 0,
            gas_price: GAS_PRICE,
            gas_limit: TRANSFER,
            to: TxKind::Call(rich),
            value: U256::from(2),
            input: Bytes::new(),
        }));
        cases.push(given.case(format!("2 wei for who has {}", power(balance))));
        for amount in [1, u64::MAX] {
            let mut withdrawn = scene.clone();
            withdrawn.attributes.withdrawals = vec![Withdrawal {
                index: u64::MAX,
                validator_index: u64::MAX,
                address: rich,
                amount,
            }]
            .into();
            cases.push(withdrawn.case(format!(
                "a withdrawal of {} gwei by who has {}",
                power(amount),
                power(balance)
            )));
        }
    }
    cases
}
