//! A transaction that somebody waits for: it is sent once, and not replaced. What it may cost is limited, whatever an RPC says.

use crate::{
    fees::{Caps, offer},
    l1::{L1Error, Receipt, Rpc},
    wallet::{Wallet, WalletError},
};
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, TxKind, U256};
use server::jobs::settlement::Fees;
use std::time::Duration;

/// How long a transaction may take to be in a block.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a transaction did not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnceError {
    /// L1's RPC failed, or the contract would refuse the call: then nothing was sent.
    #[error(transparent)]
    Rpc(#[from] L1Error),
    /// The wallet did not sign.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// It takes more gas than is allowed: an RPC may say anything.
    #[error("L1 says that it takes {needed} gas, and {allowed} are allowed: see --max-gas")]
    Gas {
        /// What it takes.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// The fees are more than is allowed.
    #[error("L1 asks for {needed} wei a gas, and {allowed} are allowed: see --max-fee-gwei")]
    Fees {
        /// What it takes.
        needed: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// It was sent, and is in no block.
    #[error(
        "transaction {0} was sent, and is in no block of L1 yet: see what becomes of it before you try again"
    )]
    Pending(B256),
    /// It is in a block, and failed.
    #[error("transaction {0} failed")]
    Failed(B256),
}

/// What a transaction may cost, whatever an RPC says.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// L1's chain id; left out: what the RPC says.
    pub chain_id: Option<u64>,
    /// Most gas.
    pub max_gas: u64,
    /// Most wei for each.
    pub max_fee: u64,
}

/// A transaction that did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The transaction on L1.
    pub tx: B256,
    /// Its block.
    pub block: u64,
    /// What it used.
    pub gas: u64,
    /// The contract that it made, if it is one that makes one.
    pub contract: Address,
}

/// What a transaction takes now.
pub(crate) struct Price {
    /// As L1 says it.
    pub(crate) gas: u64,
    nonce: u64,
    fees: Fees,
}

/// What a transaction of `from` takes now, if that is allowed.
pub(crate) async fn price(
    l1: &Rpc,
    from: Address,
    to: TxKind,
    data: &[u8],
    limits: Limits,
) -> Result<Price, OnceError> {
    let Limits { max_gas, max_fee, .. } = limits;
    let (gas, nonce, market) = l1.price(from, to, data).await?;
    if gas > max_gas {
        return Err(OnceError::Gas { needed: gas, allowed: max_gas });
    }
    let caps = Caps { max: max_fee, priority: max_fee };
    let fees = offer(market, None, caps)
        .map_err(|high| OnceError::Fees { needed: high.needed.max, allowed: max_fee })?;
    Ok(Price { gas, nonce, fees })
}

/// Sends a call, or what makes a contract, and waits until it is in a block. `signed` learns the transaction's hash before it is sent:
/// whoever interrupts the process wants to know what may be in a block some day.
pub(crate) async fn send(
    l1: &mut Rpc,
    wallet: &Wallet,
    to: TxKind,
    data: Vec<u8>,
    limits: Limits,
    signed: &mut (dyn FnMut(B256) + Send),
) -> Result<Done, OnceError> {
    let chain_id = l1.chain(limits.chain_id).await?;
    let Price { gas, nonce, fees } = price(l1, wallet.address(), to, &data, limits).await?;
    let tx = TxEip1559 {
        chain_id,
        nonce,
        // Code that is not ours may take more the second time.
        gas_limit: gas.saturating_add(gas / 4).min(limits.max_gas),
        max_fee_per_gas: fees.max.into(),
        max_priority_fee_per_gas: fees.priority.into(),
        to,
        value: U256::ZERO,
        access_list: Default::default(),
        input: data.into(),
    };
    let (tx, raw) = wallet.sign(tx).await?;
    signed(tx);
    l1.send(&raw).await?;
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        // It is sent: what fails now is asked again.
        if let Ok(Some(Receipt { status, block, gas, .. })) = l1.receipt(tx).await {
            let contract = wallet.address().create(nonce);
            return match status {
                true => Ok(Done { tx, block, gas, contract }),
                false => Err(OnceError::Failed(tx)),
            };
        }
        let rest = Duration::from_millis(500);
        tokio::time::sleep(rest).await;
        waited += rest;
    }
    Err(OnceError::Pending(tx))
}
