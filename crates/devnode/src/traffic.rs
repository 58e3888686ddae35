//! Honest work for the prover: a seeded stream of transactions.
//!
//! * The same seed on the same chain gives the same transactions, byte for byte.
//! * It signs with dev accounts 5 to 9 and leaves 0 to 4 to people, whose nonces it would otherwise use up.

pub(crate) mod precompiles;

use crate::{Chain, PoolError, Transaction, accounts, genesis::DEV_BASE_FEE};
use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxLegacy};
use alloy_eips::{
    eip2930::{AccessList, AccessListItem},
    eip7702::Authorization,
};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, SolValue};
use rand::{Rng, SeedableRng, rngs::StdRng};

alloy_sol_types::sol! {
    /// The ERC-20 of `contracts/Token.sol`.
    interface Token {
        function transfer(address to, uint256 value) external returns (bool);
    }
    /// `contracts/Store.sol`.
    interface Store {
        function write(uint256 first, uint256 count, uint256 value) external;
        function clear(uint256 first, uint256 count) external;
        function sum(uint256 first, uint256 count) external;
        function remember(uint256 back) external;
        function fail() external;
    }
    /// `contracts/Precompiles.sol`.
    interface Precompiles {
        function use(address precompile, bytes input) external;
    }
}

const TOKEN_CODE: &str = include_str!("../contracts/Token.hex");
const STORE_CODE: &str = include_str!("../contracts/Store.hex");
const PRECOMPILES_CODE: &str = include_str!("../contracts/Precompiles.hex");

/// Store slots that are written and cleared: few enough that ranges meet again and again.
const SLOTS: u64 = 192;
/// The first dev account that signs traffic.
const FIRST_SENDER: usize = 5;
/// Offered to the block's producer, in wei per gas.
const TIP: u128 = 1_000_000;

/// A kind of transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// ETH to an account that exists, in a legacy, EIP-2930 or EIP-1559 transaction.
    Transfer,
    /// ETH to an account that does not exist yet.
    Fresh,
    /// Deployment of a contract.
    Deploy,
    /// ERC-20 transfers, to old and new holders.
    Token,
    /// Writes, clears and reads of many slots, `BLOCKHASH`, and a revert now and then.
    Storage,
    /// Calls of every precompile.
    Precompile,
    /// An EIP-7702 transaction: a fresh account delegates to a contract and writes its own storage.
    Delegate,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Transfer,
        Self::Fresh,
        Self::Deploy,
        Self::Token,
        Self::Storage,
        Self::Precompile,
        Self::Delegate,
    ];
}

impl std::str::FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        serde_json::from_value(text.into()).map_err(|_| UnknownKind(text.into()))
    }
}

/// The text names no [`Kind`].
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "unknown kind of traffic {0:?}: use transfer, fresh, deploy, token, storage, precompile or delegate"
)]
pub struct UnknownKind(String);

/// What traffic to make.
#[derive(Clone, Debug)]
pub struct TrafficConfig {
    /// Determines everything that is random.
    pub seed: u64,
    /// Transactions made for each block.
    pub per_block: usize,
    /// The kinds to generate; a kind that is listed twice comes twice as often.
    pub kinds: Vec<Kind>,
    /// Stops after that many transactions (not counting the deployments that prepare them).
    pub stop_after: Option<u64>,
}

impl Default for TrafficConfig {
    /// Three transactions of any kind per block, without end.
    fn default() -> Self {
        Self { seed: 1, per_block: 3, kinds: Kind::ALL.to_vec(), stop_after: None }
    }
}

/// Makes transactions and submits them to a [`Chain`].
#[derive(Clone, Debug)]
pub struct Traffic {
    config: TrafficConfig,
    rng: StdRng,
    senders: Vec<PrivateKeySigner>,
    contracts: Option<Contracts>,
    made: u64,
}

#[derive(Clone, Copy, Debug)]
struct Contracts {
    token: Address,
    store: Address,
    precompiles: Address,
}

/// The parts of a transaction that differ.
struct Draft {
    to: TxKind,
    value: U256,
    input: Bytes,
    gas_limit: u64,
}

impl Draft {
    fn call(to: Address, call: impl SolCall, gas_limit: u64) -> Self {
        Self { to: to.into(), value: U256::ZERO, input: call.abi_encode().into(), gas_limit }
    }

    fn pay(to: Address, value: u64) -> Self {
        Self { to: to.into(), value: U256::from(value), input: Bytes::new(), gas_limit: 21_000 }
    }

    fn deploy(code: &str, arguments: &[u8]) -> Self {
        let mut input = hex::decode(code.trim()).expect("the checked-in code is hexadecimal");
        input.extend_from_slice(arguments);
        Self { to: TxKind::Create, value: U256::ZERO, input: input.into(), gas_limit: 1_500_000 }
    }
}

impl Traffic {
    /// A generator that has not made anything yet.
    pub fn new(config: TrafficConfig) -> Self {
        Self {
            rng: StdRng::seed_from_u64(config.seed),
            senders: (FIRST_SENDER..accounts::KEYS.len()).map(accounts::signer).collect(),
            contracts: None,
            made: 0,
            config,
        }
    }

    /// How many transactions it has made.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Whether it has made all transactions that it was configured for.
    pub fn is_done(&self) -> bool {
        self.config.kinds.is_empty()
            || self.config.stop_after.is_some_and(|limit| self.made >= limit)
    }

    /// Submits the next block's transactions to `chain`; the first call also submits the deployments of the
    /// contracts. Returns how many transactions were submitted.
    ///
    /// # Errors
    /// Any error of the pool, for example once the senders have spent all that they own.
    pub fn fill(&mut self, chain: &mut Chain) -> Result<usize, PoolError> {
        if self.is_done() {
            return Ok(0);
        }
        let contracts = match self.contracts {
            Some(contracts) => contracts,
            None => self.prepare(chain)?,
        };
        let mut count = 0;
        while count < self.config.per_block && !self.is_done() {
            let kind = self.config.kinds[self.rng.random_range(0..self.config.kinds.len())];
            self.make(kind, contracts, chain)?;
            self.made += 1;
            count += 1;
        }
        Ok(count)
    }

    /// Deploys the contracts and gives every sender tokens, if any kind of traffic needs them.
    fn prepare(&mut self, chain: &mut Chain) -> Result<Contracts, PoolError> {
        let sender = self.senders[0].address();
        let nonce = chain.next_nonce(&sender);
        let contracts = Contracts {
            token: sender.create(nonce),
            store: sender.create(nonce + 1),
            precompiles: sender.create(nonce + 2),
        };
        self.contracts = Some(contracts);
        let calls_nothing =
            |kind: &Kind| matches!(kind, Kind::Transfer | Kind::Fresh | Kind::Deploy);
        if self.config.kinds.iter().all(calls_nothing) {
            return Ok(contracts);
        }
        let supply = U256::from(u128::MAX);
        self.submit(chain, 0, Draft::deploy(TOKEN_CODE, &supply.abi_encode()))?;
        self.submit(chain, 0, Draft::deploy(STORE_CODE, &[]))?;
        self.submit(chain, 0, Draft::deploy(PRECOMPILES_CODE, &[]))?;
        for to in self.senders[1..].iter().map(PrivateKeySigner::address).collect::<Vec<_>>() {
            let call = Token::transferCall { to, value: U256::from(u64::MAX) };
            self.submit(chain, 0, Draft::call(contracts.token, call, 100_000))?;
        }
        Ok(contracts)
    }

    fn make(
        &mut self,
        kind: Kind,
        contracts: Contracts,
        chain: &mut Chain,
    ) -> Result<(), PoolError> {
        let sender = self.rng.random_range(0..self.senders.len());
        match kind {
            Kind::Transfer => self.transfer(sender, chain),
            Kind::Fresh => {
                let to = Address::from(self.rng.random::<[u8; 20]>());
                let draft = Draft::pay(to, self.rng.random_range(1..1_000_000_000));
                self.submit(chain, sender, draft)
            }
            Kind::Deploy => {
                let draft = if self.rng.random() {
                    let supply = U256::from(self.rng.random::<u64>());
                    Draft::deploy(TOKEN_CODE, &supply.abi_encode())
                } else {
                    Draft::deploy(STORE_CODE, &[])
                };
                self.submit(chain, sender, draft)
            }
            Kind::Token => {
                let to = if self.rng.random() {
                    self.senders[self.rng.random_range(0..self.senders.len())].address()
                } else {
                    Address::from(self.rng.random::<[u8; 20]>())
                };
                let value = U256::from(self.rng.random_range(1..1_000_000u64));
                let call = Token::transferCall { to, value };
                self.submit(chain, sender, Draft::call(contracts.token, call, 120_000))
            }
            Kind::Storage => {
                let draft = self.storage(contracts.store, chain.head().number + 1);
                self.submit(chain, sender, draft)
            }
            Kind::Precompile => {
                let (precompile, input) = precompiles::random_call(&mut self.rng);
                let call = Precompiles::useCall { precompile, input };
                self.submit(chain, sender, Draft::call(contracts.precompiles, call, 600_000))
            }
            Kind::Delegate => self.delegate(sender, contracts.store, chain),
        }
    }

    fn transfer(&mut self, sender: usize, chain: &mut Chain) -> Result<(), PoolError> {
        let to = self.senders[self.rng.random_range(0..self.senders.len())].address();
        let Draft { to, value, input, gas_limit } =
            Draft::pay(to, self.rng.random_range(0..1_000_000_000));
        let (chain_id, gas_price) = (chain.config().chain_id, max_fee(chain));
        let nonce = chain.next_nonce(&self.senders[sender].address());
        let transaction = match self.rng.random_range(0..3) {
            0 => {
                let chain_id = Some(chain_id);
                let unsigned = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input };
                sign(unsigned, &self.senders[sender])
            }
            1 => {
                let storage_keys = vec![B256::from(self.rng.random::<[u8; 32]>())];
                let address = self.senders[0].address();
                let unsigned = TxEip2930 {
                    chain_id,
                    nonce,
                    gas_price,
                    gas_limit: gas_limit + 5_000,
                    to,
                    value,
                    access_list: AccessList(vec![AccessListItem { address, storage_keys }]),
                    input,
                };
                sign(unsigned, &self.senders[sender])
            }
            _ => return self.submit(chain, sender, Draft { to, value, input, gas_limit }),
        };
        chain.submit(transaction).map(drop)
    }

    fn storage(&mut self, store: Address, number: u64) -> Draft {
        let first = self.rng.random_range(0..SLOTS);
        let count = self.rng.random_range(1..=24u64);
        let gas = 60_000 + count * 25_000;
        let (first, count) = (U256::from(first), U256::from(count));
        match self.rng.random_range(0..16) {
            0..6 => {
                let value = U256::from(self.rng.random::<u64>());
                Draft::call(store, Store::writeCall { first, count, value }, gas)
            }
            6..10 => Draft::call(store, Store::clearCall { first, count }, gas),
            10 => {
                let call = Store::clearCall { first: U256::ZERO, count: U256::from(SLOTS + 24) };
                Draft::call(store, call, 3_000_000)
            }
            11..13 => Draft::call(store, Store::sumCall { first, count }, gas),
            13..15 => {
                let back = U256::from(self.rng.random_range(1..=number.min(12)));
                Draft::call(store, Store::rememberCall { back }, 150_000)
            }
            _ => Draft::call(store, Store::failCall {}, 100_000),
        }
    }

    fn delegate(
        &mut self,
        sender: usize,
        store: Address,
        chain: &mut Chain,
    ) -> Result<(), PoolError> {
        let mut key = self.rng.random::<[u8; 32]>();
        // Keeps the key below the curve's order.
        key[0] &= 0x7f;
        let authority =
            PrivateKeySigner::from_bytes(&key.into()).expect("the key is in range and not zero");
        let chain_id = chain.config().chain_id;
        let authorization =
            Authorization { chain_id: U256::from(chain_id), address: store, nonce: 0 };
        let signature = authority
            .sign_hash_sync(&authorization.signature_hash())
            .expect("signing with a local key cannot fail");
        let call =
            Store::writeCall { first: U256::ZERO, count: U256::from(3), value: U256::from(7) };
        let unsigned = TxEip7702 {
            chain_id,
            nonce: chain.next_nonce(&self.senders[sender].address()),
            gas_limit: 250_000,
            max_fee_per_gas: max_fee(chain),
            max_priority_fee_per_gas: TIP,
            to: authority.address(),
            value: U256::ZERO,
            access_list: AccessList::default(),
            authorization_list: vec![authorization.into_signed(signature)],
            input: call.abi_encode().into(),
        };
        chain.submit(sign(unsigned, &self.senders[sender])).map(drop)
    }

    fn submit(&mut self, chain: &mut Chain, sender: usize, draft: Draft) -> Result<(), PoolError> {
        let signer = &self.senders[sender];
        let unsigned = TxEip1559 {
            chain_id: chain.config().chain_id,
            nonce: chain.next_nonce(&signer.address()),
            gas_limit: draft.gas_limit,
            max_fee_per_gas: max_fee(chain),
            max_priority_fee_per_gas: TIP,
            to: draft.to,
            value: draft.value,
            access_list: AccessList::default(),
            input: draft.input,
        };
        chain.submit(sign(unsigned, signer)).map(drop)
    }
}

/// Enough for several full blocks in a row.
fn max_fee(chain: &Chain) -> u128 {
    2 * u128::from(chain.head().base_fee_per_gas.unwrap_or_default()).max(DEV_BASE_FEE) + TIP
}

pub(crate) fn sign<T>(unsigned: T, signer: &PrivateKeySigner) -> Transaction
where
    T: SignableTransaction<Signature>,
    alloy_consensus::Signed<T>: Into<Transaction>,
{
    let signature = signer
        .sign_hash_sync(&unsigned.signature_hash())
        .expect("signing with a local key cannot fail");
    unsigned.into_signed(signature).into()
}
