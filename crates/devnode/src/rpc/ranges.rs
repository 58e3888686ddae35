//! The state in the order of its tries, page by page: `debug_storageRangeAt` and `debug_accountRange`.

use super::{Answer, at, internal, invalid, next};
use crate::node::Shared;
use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes};
use jsonrpsee::types::params::ParamsSequence;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Maximum number of slots or accounts in an answer.
const RANGE: usize = 1024;

/// `debug_storageRangeAt` as geth has it, of the state before a block's first transaction. Slots' numbers are unknown, as
/// they are to a geth that keeps no preimages.
pub(super) fn of_storage(shared: &Shared, params: &mut ParamsSequence<'_>) -> Answer {
    let (id, index): (BlockId, u64) = (next(params)?, next(params)?);
    let (address, first): (Address, Bytes) = (next(params)?, next(params)?);
    let (most, chain): (usize, _) = (next(params)?, shared.read());
    let before = at(&chain, id)?.block.header.number.checked_sub(1);
    let before = before.filter(|_| index == 0).and_then(|number| chain.block(number));
    let before =
        before.ok_or_else(|| invalid("only the state before a first transaction is listed"))?;
    let most = most.min(RANGE);
    let mut slots =
        chain.slots_from(before, &address, start(&first), most + 1).map_err(internal)?;
    let after = slots.split_off(most.min(slots.len()));
    let storage: BTreeMap<B256, Value> = slots
        .into_iter()
        .map(|(hash, value)| (hash, json!({ "key": null, "value": B256::from(value) })))
        .collect();
    Ok(json!({ "storage": storage, "nextKey": after.first().map(|(hash, _)| hash) }))
}

/// `debug_accountRange` as geth has it, without codes and storage. Addresses are unknown, as they are to a geth that keeps
/// no preimages.
pub(super) fn of_accounts(shared: &Shared, params: &mut ParamsSequence<'_>) -> Answer {
    let (id, first): (BlockId, Bytes) = (next(params)?, next(params)?);
    let (most, chain): (usize, _) = (next(params)?, shared.read());
    let mined = at(&chain, id)?;
    let found = chain.accounts_from(mined, start(&first), most.min(RANGE)).map_err(internal)?;
    let accounts: BTreeMap<String, Value> = found
        .into_iter()
        .map(|(key, account)| {
            let described = json!({
                "balance": account.balance.to_string(),
                "nonce": account.nonce,
                "root": account.storage_root,
                "codeHash": account.code_hash,
                "key": key,
            });
            (format!("pre({key})"), described)
        })
        .collect();
    let root = alloy_primitives::hex::encode(mined.block.header.state_root);
    Ok(json!({ "root": root, "accounts": accounts }))
}

/// The first hash that begins with these bytes.
fn start(bytes: &Bytes) -> B256 {
    B256::right_padding_from(&bytes[..bytes.len().min(32)])
}
