//! JSON-RPC over a [`Chain`]: it only translates, every answer comes from the chain.
//!
//! Methods run on blocking threads, because most of them execute or hash.

mod convert;
mod ranges;

use crate::{CallError, Chain, Mined, PoolError, node::Shared};
use alloy_eips::{BlockId, BlockNumberOrTag, eip2718::Encodable2718};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::{
    FeeHistory, Filter, FilterBlockOption, Log, TransactionRequest, state::StateOverride,
};
use jsonrpsee::{
    Extensions, PendingSubscriptionSink, RpcModule,
    types::{ErrorObjectOwned, Params, params::ParamsSequence},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::sync::Arc;

/// Maximum number of blocks in an answer of `eth_feeHistory`.
const FEE_HISTORY: u64 = 1024;

type Answer = Result<Value, ErrorObjectOwned>;

/// Methods by their names.
struct Methods(RpcModule<Shared>);

impl Methods {
    fn add(&mut self, name: &'static str, handler: fn(&Shared, &mut ParamsSequence<'_>) -> Answer) {
        let method = move |params: Params<'_>, shared: Arc<Shared>, _: Extensions| {
            handler(&shared, &mut params.sequence())
        };
        self.0.register_blocking_method(name, method).expect("every method has its own name");
    }
}

/// Every method of the node.
pub(crate) fn module(shared: Arc<Shared>) -> RpcModule<Shared> {
    let mut methods = Methods(RpcModule::from_arc(shared));
    for group in [node, blocks, state, execution, transactions, debug] {
        group(&mut methods);
    }
    let Methods(mut module) = methods;
    module
        .register_subscription("eth_subscribe", "eth_subscription", "eth_unsubscribe", subscribe)
        .expect("every method has its own name");
    module
}

/// The node itself, and what every client asks first.
fn node(methods: &mut Methods) {
    methods.add("web3_clientVersion", |_, _| {
        Ok(concat!("l2-devnode/v", env!("CARGO_PKG_VERSION")).into())
    });
    methods.add("web3_sha3", |_, p| {
        let data: Bytes = next(p)?;
        ok(alloy_primitives::keccak256(data))
    });
    methods.add("net_version", |s, _| ok(s.read().config().chain_id.to_string()));
    methods.add("net_listening", |_, _| Ok(true.into()));
    methods.add("net_peerCount", |_, _| Ok("0x0".into()));
    methods.add("eth_chainId", |s, _| ok(U64::from(s.read().config().chain_id)));
    methods.add("eth_syncing", |_, _| Ok(false.into()));
    methods.add("eth_mining", |_, _| Ok(true.into()));
    // The node holds no keys: clients sign and send raw transactions.
    methods.add("eth_accounts", |_, _| Ok(json!([])));
    methods.add("eth_blockNumber", |s, _| ok(U64::from(s.read().head().number)));
}

/// Blocks, and the transactions and receipts in them.
fn blocks(methods: &mut Methods) {
    methods.add("eth_getBlockByNumber", |s, p| {
        let (tag, full): (BlockNumberOrTag, bool) = (next(p)?, optional(p)?.unwrap_or(false));
        block(&s.read(), tag.into(), full)
    });
    methods.add("eth_getBlockByHash", |s, p| {
        let (hash, full): (B256, bool) = (next(p)?, optional(p)?.unwrap_or(false));
        block(&s.read(), hash.into(), full)
    });
    methods.add("eth_getBlockTransactionCountByNumber", |s, p| {
        let tag: BlockNumberOrTag = next(p)?;
        let chain = s.read();
        ok(chain.resolve(tag.into()).map(|mined| U64::from(mined.block.body.transactions.len())))
    });
    methods.add("eth_getBlockTransactionCountByHash", |s, p| {
        let hash: B256 = next(p)?;
        let chain = s.read();
        ok(chain.resolve(hash.into()).map(|mined| U64::from(mined.block.body.transactions.len())))
    });
    methods.add("eth_getUncleCountByBlockNumber", |_, _| Ok("0x0".into()));
    methods.add("eth_getUncleCountByBlockHash", |_, _| Ok("0x0".into()));
    methods.add("eth_getBlockReceipts", |s, p| {
        let id: BlockId = next(p)?;
        let chain = s.read();
        ok(chain.resolve(id).map(|mined| convert::receipts(mined, &chain)))
    });
    methods.add("eth_getTransactionByHash", |s, p| {
        let (hash, chain): (B256, _) = (next(p)?, s.read());
        match chain.find(&hash) {
            Some((mined, index)) => ok(convert::transaction(mined, index)),
            None => ok(chain.pool().get(&hash).map(convert::pending)),
        }
    });
    methods.add("eth_getTransactionByBlockNumberAndIndex", |s, p| {
        let (tag, index): (BlockNumberOrTag, U64) = (next(p)?, next(p)?);
        by_index(&s.read(), tag.into(), index)
    });
    methods.add("eth_getTransactionByBlockHashAndIndex", |s, p| {
        let (hash, index): (B256, U64) = (next(p)?, next(p)?);
        by_index(&s.read(), hash.into(), index)
    });
    methods.add("eth_getTransactionReceipt", |s, p| {
        let (hash, chain): (B256, _) = (next(p)?, s.read());
        ok(chain
            .find(&hash)
            .map(|(mined, index)| convert::receipts(mined, &chain).swap_remove(index)))
    });
    methods.add("eth_getRawTransactionByHash", raw_transaction);
}

/// Accounts and storage, with and without proof.
fn state(methods: &mut Methods) {
    methods.add("eth_getBalance", |s, p| {
        let (address, id): (Address, _) = (next(p)?, block_id(p)?);
        let chain = s.read();
        ok(chain.account(at(&chain, id)?, &address).map_err(internal)?.balance)
    });
    methods.add("eth_getTransactionCount", |s, p| {
        let (address, id): (Address, _) = (next(p)?, block_id(p)?);
        let chain = s.read();
        if id.is_pending() {
            return ok(U64::from(chain.next_nonce(&address)));
        }
        ok(U64::from(chain.account(at(&chain, id)?, &address).map_err(internal)?.nonce))
    });
    methods.add("eth_getCode", |s, p| {
        let (address, id): (Address, _) = (next(p)?, block_id(p)?);
        let chain = s.read();
        ok(chain.code(at(&chain, id)?, &address).map_err(internal)?)
    });
    methods.add("eth_getStorageAt", |s, p| {
        let (address, slot, id): (Address, U256, _) = (next(p)?, next(p)?, block_id(p)?);
        let chain = s.read();
        ok(B256::from(chain.storage(at(&chain, id)?, &address, slot).map_err(internal)?))
    });
    methods.add("eth_getProof", |s, p| {
        let (address, slots, id): (Address, Vec<U256>, _) = (next(p)?, next(p)?, block_id(p)?);
        let chain = s.read();
        ok(chain.proof(at(&chain, id)?, &address, &slots).map_err(internal)?)
    });
}

/// What a transaction would do, and what it costs.
fn execution(methods: &mut Methods) {
    methods.add("eth_call", |s, p| {
        let (request, id): (TransactionRequest, _) = (next(p)?, block_id(p)?);
        let overrides: Option<StateOverride> = optional(p)?;
        let chain = s.read();
        ok(chain.call(at(&chain, id)?, request, overrides).map_err(call_error)?)
    });
    methods.add("eth_estimateGas", |s, p| {
        let (request, id): (TransactionRequest, _) = (next(p)?, block_id(p)?);
        let overrides: Option<StateOverride> = optional(p)?;
        let chain = s.read();
        ok(U64::from(chain.estimate(at(&chain, id)?, request, overrides).map_err(call_error)?))
    });
    methods.add("eth_gasPrice", |s, _| {
        ok(U256::from(u128::from(s.read().next_base_fee()) + Chain::SUGGESTED_TIP))
    });
    methods.add("eth_maxPriorityFeePerGas", |_, _| ok(U256::from(Chain::SUGGESTED_TIP)));
    methods.add("eth_blobBaseFee", |s, _| ok(U256::from(s.read().next_blob_fee())));
    methods.add("eth_feeHistory", fee_history);
    methods.add("eth_getLogs", |s, p| {
        let filter: Filter = next(p)?;
        ok(logs(&s.read(), &filter)?)
    });
}

/// Sending transactions, and those that wait.
fn transactions(methods: &mut Methods) {
    methods.add("eth_sendRawTransaction", |s, p| {
        let raw: Bytes = next(p)?;
        let hash = s.write().submit_raw(&raw).map_err(pool_error)?;
        s.submitted();
        ok(hash)
    });
    methods.add("evm_mine", |s, _| {
        s.mine_now().map_err(internal)?;
        Ok("0x0".into())
    });
    methods.add("txpool_status", |s, _| {
        let (pending, queued) = convert::pool(&s.read());
        Ok(json!({ "pending": U64::from(pending.count()), "queued": U64::from(queued.count()) }))
    });
    methods.add("txpool_content", |s, _| {
        let (pending, queued) = convert::pool(&s.read());
        Ok(json!({ "pending": pending.content(), "queued": queued.content() }))
    });
}

/// Raw data, and witnesses for provers.
fn debug(methods: &mut Methods) {
    methods.add("debug_getRawBlock", |s, p| {
        let (id, chain): (BlockId, _) = (next(p)?, s.read());
        ok(alloy_rlp_bytes(&at(&chain, id)?.block))
    });
    methods.add("debug_getRawHeader", |s, p| {
        let (id, chain): (BlockId, _) = (next(p)?, s.read());
        ok(alloy_rlp_bytes(&at(&chain, id)?.block.header))
    });
    methods.add("debug_getRawReceipts", |s, p| {
        let (id, chain): (BlockId, _) = (next(p)?, s.read());
        ok(at(&chain, id)?.raw_receipts())
    });
    methods.add("debug_getRawTransaction", raw_transaction);
    methods.add("debug_storageRangeAt", ranges::of_storage);
    methods.add("debug_accountRange", ranges::of_accounts);
    methods.add("debug_executionWitness", |s, p| {
        let (tag, chain): (BlockNumberOrTag, _) = (next(p)?, s.read());
        let number = at(&chain, tag.into())?.block.header.number;
        ok(chain.execution_witness(number).map_err(internal)?)
    });
    methods.add("debug_executionWitnessByBlockHash", |s, p| {
        let (hash, chain): (B256, _) = (next(p)?, s.read());
        let number = at(&chain, hash.into())?.block.header.number;
        ok(chain.execution_witness(number).map_err(internal)?)
    });
}

/// `eth_subscribe`: the headers of new blocks, each once and in order.
async fn subscribe(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    shared: Arc<Shared>,
    _: Extensions,
) {
    let what: Result<String, _> = next(&mut params.sequence());
    if !what.is_ok_and(|what| what == "newHeads") {
        pending.reject(invalid("only newHeads can be subscribed to")).await;
        return;
    }
    let mut heads = shared.heads();
    let mut told = *heads.borrow_and_update();
    // A client that is gone ends the subscription.
    let Ok(sink) = pending.accept().await else { return };
    loop {
        tokio::select! {
            () = sink.closed() => return,
            changed = heads.changed() => if changed.is_err() { return },
        }
        let newest = *heads.borrow_and_update();
        for number in told + 1..=newest {
            let block = shared.read().block(number).map(|mined| convert::block(mined, false));
            let Some(Ok(message)) = block.map(|block| serde_json::value::to_raw_value(&block))
            else {
                return;
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        told = newest;
    }
}

fn block(chain: &Chain, id: BlockId, full: bool) -> Answer {
    if id.is_pending() {
        return ok(convert::pending_block(&chain.preview().map_err(internal)?, full));
    }
    ok(chain.resolve(id).map(|mined| convert::block(mined, full)))
}

fn by_index(chain: &Chain, id: BlockId, index: U64) -> Answer {
    let index = usize::try_from(index.to::<u64>()).unwrap_or(usize::MAX);
    ok(chain
        .resolve(id)
        .filter(|mined| index < mined.block.body.transactions.len())
        .map(|mined| convert::transaction(mined, index)))
}

fn raw_transaction(shared: &Shared, params: &mut ParamsSequence<'_>) -> Answer {
    let (hash, chain): (B256, _) = (next(params)?, shared.read());
    let mined = chain.find(&hash).map(|(mined, index)| &mined.block.body.transactions[index]);
    let found = mined.or_else(|| chain.pool().get(&hash).map(|pooled| pooled.inner()));
    ok(found.map(|transaction| Bytes::from(transaction.encoded_2718())))
}

fn fee_history(shared: &Shared, params: &mut ParamsSequence<'_>) -> Answer {
    let (count, newest): (U64, BlockNumberOrTag) = (next(params)?, next(params)?);
    let percentiles: Vec<f64> = optional(params)?.unwrap_or_default();
    let chain = shared.read();
    let newest = at(&chain, newest.into())?.block.header.number;
    let count = count.to::<u64>().min(FEE_HISTORY).min(newest + 1);
    let oldest = newest + 1 - count;
    let mut history = FeeHistory { oldest_block: oldest, ..Default::default() };
    let mut rewards = Vec::new();
    for number in oldest..=newest {
        let mined = chain.block(number).expect("the range lies below the head");
        let header = &mined.block.header;
        history.base_fee_per_gas.push(header.base_fee_per_gas.unwrap_or_default().into());
        history.gas_used_ratio.push(ratio(header.gas_used, header.gas_limit));
        history.base_fee_per_blob_gas.push(chain.blob_fee(header));
        let blob_limit =
            chain.blob_params(header.timestamp).map_or(0, |params| params.max_blob_gas_per_block());
        history
            .blob_gas_used_ratio
            .push(ratio(header.blob_gas_used.unwrap_or_default(), blob_limit));
        rewards.push(mined.rewards(&percentiles));
    }
    let newest = &chain.block(newest).expect("it was just resolved").block.header;
    history.base_fee_per_gas.push(chain.base_fee_after(newest).into());
    history.base_fee_per_blob_gas.push(chain.blob_fee_after(newest));
    history.reward = (!percentiles.is_empty()).then_some(rewards);
    ok(history)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn logs(chain: &Chain, filter: &Filter) -> Result<Vec<Log>, ErrorObjectOwned> {
    let range = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let number = at(chain, hash.into())?.block.header.number;
            number..=number
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let head = chain.head().number;
            // A range may reach beyond the head: clients ask for future blocks.
            let number = |tag: Option<BlockNumberOrTag>| match tag.unwrap_or_default() {
                BlockNumberOrTag::Number(number) => number,
                BlockNumberOrTag::Earliest => 0,
                _ => head,
            };
            let (from, to) = (number(from_block), number(to_block));
            if from > to {
                return Err(invalid("invalid block range: fromBlock is after toBlock"));
            }
            from..=to.min(head)
        }
    };
    Ok(range
        .filter_map(|number| chain.block(number))
        .filter(|mined| filter.matches_bloom(mined.block.header.logs_bloom))
        .flat_map(|mined| convert::logs(mined).into_iter().flatten())
        .filter(|log| filter.matches(&log.inner))
        .collect())
}

/// The block `id` names, or geth's error for one that is not there.
fn at(chain: &Chain, id: BlockId) -> Result<&Mined, ErrorObjectOwned> {
    chain.resolve(id).ok_or_else(|| {
        ErrorObjectOwned::owned(-32001, format!("block not found: {id:?}"), None::<()>)
    })
}

fn next<T: DeserializeOwned>(params: &mut ParamsSequence<'_>) -> Result<T, ErrorObjectOwned> {
    let value: Value = params.next()?;
    serde_json::from_value(value).map_err(invalid)
}

fn optional<T: DeserializeOwned>(
    params: &mut ParamsSequence<'_>,
) -> Result<Option<T>, ErrorObjectOwned> {
    let Some(value) = params.optional_next::<Value>()? else { return Ok(None) };
    serde_json::from_value(value).map_err(invalid)
}

fn block_id(params: &mut ParamsSequence<'_>) -> Result<BlockId, ErrorObjectOwned> {
    Ok(optional(params)?.unwrap_or_default())
}

fn ok(answer: impl Serialize) -> Answer {
    serde_json::to_value(answer).map_err(internal)
}

fn alloy_rlp_bytes(item: &impl alloy_rlp::Encodable) -> Bytes {
    alloy_rlp::encode(item).into()
}

fn invalid(error: impl ToString) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32602, error.to_string(), None::<()>)
}

fn internal(error: impl ToString) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32603, error.to_string(), None::<()>)
}

fn pool_error(error: PoolError) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32000, error.to_string(), None::<()>)
}

fn call_error(error: CallError) -> ErrorObjectOwned {
    match &error {
        CallError::Reverted(output) => ErrorObjectOwned::owned(3, error.to_string(), Some(output)),
        CallError::Request(_) => invalid(error),
        CallError::State(_) => internal(error),
        _ => ErrorObjectOwned::owned(-32000, error.to_string(), None::<()>),
    }
}
