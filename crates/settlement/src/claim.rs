//! Claims of withdrawals: what leaves the L2 is paid by the bridge on L1, once a batch that has it is settled for long enough.
//!
//! Anybody may claim, and the ether goes to whom the withdrawal names: whoever lies here can delay a claim, and have a wallet pay for one
//! that fails.

use crate::{
    contract::{IBridge, IOutbox, IRollup, Withdrawal},
    l1::{L1Error, Rpc},
    once::{self, Done, Limits, OnceError},
    wallet::Wallet,
};
use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent, SolValue};

/// Why nothing is claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The L2's node or L1's RPC failed, or the bridge refuses the claim.
    #[error(transparent)]
    Rpc(#[from] L1Error),
    /// The transaction is not in a block of the L2, or failed there.
    #[error("transaction {0} is not in a block of the L2, or it failed there")]
    NoTransaction(B256),
    /// It withdrew nothing.
    #[error("transaction {tx} made no withdrawal from the Outbox at {outbox}")]
    NoWithdrawal {
        /// The transaction.
        tx: B256,
        /// The Outbox that the bridge pays for.
        outbox: Address,
    },
    /// No batch that has it is settled.
    #[error("block {block} of the L2 is not settled yet: the contract's head is block {head}")]
    NotSettled {
        /// The withdrawal's block.
        block: u64,
        /// The last block that is.
        head: u64,
    },
    /// It is settled, but the contract does not let anybody claim against it now.
    #[error(
        "block {block} of the L2 is settled, but nothing can be claimed against it now: {says}"
    )]
    NotClaimable {
        /// The last block of a settled batch.
        block: u64,
        /// Why, as the contract says it.
        says: String,
    },
    /// The L2's node is of another chain, or of another branch, than what is settled.
    #[error("block {block} of the L2's node is not what L1 settled: ask another node")]
    OtherChain {
        /// The block.
        block: u64,
    },
    /// The claim was not sent, or did not do what it should.
    #[error(transparent)]
    Send(#[from] OnceError),
}

/// A withdrawal, and the proof of it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its id.
    pub id: B256,
    /// Who is paid how much.
    pub withdrawal: Withdrawal,
    /// The last block of the settled batch against which it is claimed.
    pub block: u64,
    bridge: Address,
    data: Vec<u8>,
}

/// The withdrawals that the L2's transaction `tx` made and that were not paid yet, with proofs from the L2's node.
///
/// # Errors
/// [`ClaimError`].
pub async fn find(l1: &Rpc, l2: &Rpc, rollup: Address, tx: B256) -> Result<Vec<Claim>, ClaimError> {
    let at = BlockId::latest();
    let bridge = l1.call(rollup, IRollup::bridgeCall {}, at, "the bridge").await?;
    let outbox = l1.call(bridge, IBridge::outboxCall {}, at, "the Outbox").await?;
    let chain = l1.call(bridge, IBridge::l2ChainIdCall {}, at, "the L2's chain id").await?;
    let receipt = l2.receipt(tx).await?.filter(|receipt| receipt.status);
    let receipt = receipt.ok_or(ClaimError::NoTransaction(tx))?;
    let withdrawals: Vec<_> = receipt
        .logs
        .iter()
        .filter(|log| log.address == outbox)
        .filter_map(|log| IOutbox::Withdrawn::decode_log_data(&log.data).ok())
        .map(|it| Withdrawal { nonce: it.nonce, from: it.from, to: it.to, amount: it.amount })
        .collect();
    if withdrawals.is_empty() {
        return Err(ClaimError::NoWithdrawal { tx, outbox });
    }
    let mut claims = Vec::new();
    let mut settled = None;
    for withdrawal in withdrawals {
        let id = withdrawal_id(&withdrawal, chain, outbox);
        if l1.call(bridge, IBridge::claimedCall { id }, at, "whether it was paid").await? {
            continue;
        }
        let (block, root) = match settled {
            Some(settled) => settled,
            None => *settled.insert(last_claimable(l1, rollup, receipt.block).await?),
        };
        let slot = keccak256((id, U256::ZERO).abi_encode());
        let proof = l2.proof(outbox, slot, block).await?;
        let storage_proof = match &proof.storage_proof[..] {
            [slot] => slot.proof.clone(),
            _ => Vec::new(),
        };
        // Said here rather than for gas.
        if proof.account_proof.first().map(keccak256) != Some(root) {
            return Err(ClaimError::OtherChain { block });
        }
        let opened = l1.call(bridge, IBridge::openedCall { number: block }, at, "a block").await?;
        let account_proof: Vec<Bytes> =
            if opened.state == root { Vec::new() } else { proof.account_proof };
        let call = IBridge::claimCall {
            withdrawal: withdrawal.clone(),
            number: block,
            accountProof: account_proof,
            storageProof: storage_proof,
        };
        claims.push(Claim { id, withdrawal, block, bridge, data: call.abi_encode() });
    }
    Ok(claims)
}

/// The last block of the newest batch that has `block` and against which can be claimed, and its state root.
async fn last_claimable(l1: &Rpc, rollup: Address, block: u64) -> Result<(u64, B256), ClaimError> {
    let at = BlockId::latest();
    let head = l1.head(rollup).await?;
    if head.number < block {
        return Err(ClaimError::NotSettled { block, head: head.number });
    }
    let settled = l1.settled(rollup, block).await?;
    let mut refused = None;
    for batch in settled.iter().rev().filter(|batch| batch.lastNumber >= block).take(MOST_TRIED) {
        let (number, root) = (batch.lastNumber, batch.stateRoot);
        let call = IRollup::claimableCall { number, stateRoot: root };
        match l1.view(rollup, call, at, "whether it can be claimed").await? {
            Ok(_) => return Ok((number, root)),
            Err(says) => refused = Some(ClaimError::NotClaimable { block: number, says }),
        }
    }
    Err(refused.unwrap_or(ClaimError::NotSettled { block, head: head.number }))
}

/// So many settled batches are tried, from the newest on.
const MOST_TRIED: usize = 1_000;

/// What the contracts call a withdrawal.
fn withdrawal_id(it: &Withdrawal, chain_id: U256, outbox: Address) -> B256 {
    keccak256((chain_id, outbox, it.nonce, it.from, it.to, it.amount).abi_encode())
}

impl Claim {
    /// What it would take in gas, if the bridge would pay it now and that is allowed.
    ///
    /// # Errors
    /// [`OnceError`].
    pub async fn price(&self, l1: &Rpc, limits: Limits) -> Result<u64, OnceError> {
        // Anybody may claim. Who is paid would pay less, being known already.
        let (from, to) = (Address::ZERO, TxKind::Call(self.bridge));
        Ok(once::price(l1, from, to, &self.data, limits).await?.gas)
    }

    /// Has the bridge pay it, and waits until that is in a block. `signed` learns the transaction's hash before it is sent.
    ///
    /// # Errors
    /// [`OnceError`]: in particular what the bridge would say, before anything is sent.
    pub async fn send(
        &self,
        l1: &mut Rpc,
        wallet: &Wallet,
        limits: Limits,
        signed: &mut (dyn FnMut(B256) + Send),
    ) -> Result<Done, OnceError> {
        once::send(l1, wallet, TxKind::Call(self.bridge), self.data.clone(), limits, signed).await
    }
}
