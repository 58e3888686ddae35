//! The JSON-RPC API as a client sees it: raw requests over HTTP.

use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy, transaction::RlpEcdsaEncodableTx};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, address, hex, keccak256};
use alloy_signer::SignerSync;
use devnode::{
    Config, DevNode, Error, Kind, Mining, Running, TrafficConfig, Transaction, accounts,
};
use serde_json::{Value, json};
use std::time::Duration;

const TO: Address = address!("00000000000000000000000000000000000000aa");

struct Node {
    running: Running,
    client: reqwest::Client,
}

impl Node {
    async fn start(mining: Mining, traffic: Option<TrafficConfig>) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let config = Config { listen, mining, traffic, ..Default::default() };
        let running = DevNode::start(config).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { running, client: reqwest::Client::new() }
    }

    async fn on_demand() -> Self {
        Self::start(Mining::OnDemand, None).await
    }

    async fn answer(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self.client.post(self.running.url()).json(&request).send().await.unwrap();
        response.json().await.unwrap()
    }

    async fn ok(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    async fn error(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("error").is_some(), "{method}: {answer}");
        answer["error"].take()
    }

    async fn send(&self, transaction: &Transaction) -> Value {
        self.ok("eth_sendRawTransaction", json!([raw(transaction)])).await
    }

    async fn refused(&self, transaction: &Transaction) -> String {
        let error = self.error("eth_sendRawTransaction", json!([raw(transaction)])).await;
        assert_eq!(error["code"], -32000);
        error["message"].as_str().unwrap().into()
    }
}

fn raw(transaction: &Transaction) -> Bytes {
    transaction.encoded_2718().into()
}

fn sign<T: SignableTransaction<Signature> + RlpEcdsaEncodableTx>(
    transaction: T,
    account: usize,
) -> Transaction
where
    alloy_consensus::Signed<T>: Into<Transaction>,
{
    let signature =
        accounts::signer(account).sign_hash_sync(&transaction.signature_hash()).unwrap();
    transaction.into_signed(signature).into()
}

fn transfer() -> TxEip1559 {
    TxEip1559 {
        chain_id: 1337,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TO.into(),
        value: U256::from(5),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_transfer_is_mined_at_once_and_can_be_looked_up_in_every_way() {
    let node = Node::on_demand().await;
    assert_eq!(node.ok("eth_chainId", json!([])).await, "0x539");
    assert_eq!(node.ok("net_version", json!([])).await, "1337");
    assert_eq!(node.ok("eth_blockNumber", json!([])).await, "0x0");
    assert_eq!(node.ok("eth_syncing", json!([])).await, false);
    assert_eq!(node.ok("eth_accounts", json!([])).await, json!([]));

    let from = accounts::addresses()[0];
    let hash = node.send(&sign(transfer(), 0)).await;
    assert_eq!(node.ok("eth_blockNumber", json!([])).await, "0x1");
    assert_eq!(node.ok("eth_getBalance", json!([TO, "latest"])).await, "0x5");
    assert_eq!(node.ok("eth_getBalance", json!([TO, "0x0"])).await, "0x0");
    assert_eq!(node.ok("eth_getTransactionCount", json!([from, "pending"])).await, "0x1");
    assert_eq!(node.ok("eth_getTransactionCount", json!([from, "earliest"])).await, "0x0");

    let receipt = node.ok("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["gasUsed"], "0x5208");
    assert_eq!(receipt["type"], "0x2");
    assert_eq!(receipt["from"], json!(from));
    let block = node.ok("eth_getBlockByNumber", json!(["latest", true])).await;
    assert_eq!(block["hash"], receipt["blockHash"]);
    assert_eq!(block["transactions"][0]["hash"], hash);
    let by_hash = node.ok("eth_getBlockByHash", json!([block["hash"], false])).await;
    assert_eq!(by_hash["transactions"], json!([hash]));
    assert_eq!(node.ok("eth_getBlockReceipts", json!(["0x1"])).await, json!([receipt]));
    let transaction = node.ok("eth_getTransactionByHash", json!([hash])).await;
    assert_eq!(transaction, block["transactions"][0]);
    for tag in ["safe", "finalized"] {
        assert_eq!(node.ok("eth_getBlockByNumber", json!([tag, true])).await, block);
    }
    let raw_block: Bytes =
        serde_json::from_value(node.ok("debug_getRawBlock", json!(["latest"])).await).unwrap();
    assert_eq!(raw_block, node.running.chain().raw_block(1).unwrap());
    let raw_header: Bytes =
        serde_json::from_value(node.ok("debug_getRawHeader", json!(["0x1"])).await).unwrap();
    assert_eq!(json!(keccak256(raw_header)), block["hash"]);

    let pending = node.ok("eth_getBlockByNumber", json!(["pending", false])).await;
    assert_eq!((&pending["number"], &pending["hash"]), (&json!("0x2"), &Value::Null));
    assert_eq!(node.ok("eth_getBlockByNumber", json!(["0x9", false])).await, Value::Null);
    assert_eq!(node.ok("eth_getTransactionByHash", json!([keccak256("?")])).await, Value::Null);
    node.running.stop().await;
}

#[tokio::test]
async fn what_can_never_be_mined_is_refused_in_geths_words() {
    let node = Node::on_demand().await;
    node.send(&sign(transfer(), 0)).await;
    for (transaction, words) in [
        (sign(transfer(), 0), "nonce too low"),
        (sign(TxEip1559 { chain_id: 1, ..transfer() }, 1), "invalid chain id"),
        (sign(TxEip1559 { value: U256::MAX >> 8, ..transfer() }, 1), "insufficient funds"),
        (sign(TxEip1559 { gas_limit: 20_999, ..transfer() }, 1), "intrinsic gas too low"),
        (sign(TxEip1559 { gas_limit: 31_000_000, ..transfer() }, 1), "exceeds block gas limit"),
        (sign(TxEip1559 { gas_limit: 17_000_000, ..transfer() }, 1), "gas limit too high"),
        (
            sign(TxEip1559 { max_priority_fee_per_gas: 1 << 60, ..transfer() }, 1),
            "max priority fee per gas higher",
        ),
    ] {
        let message = node.refused(&transaction).await;
        assert!(message.contains(words), "{message} does not say {words}");
    }
    let error = node.error("eth_sendRawTransaction", json!(["0x0102"])).await;
    assert_eq!(error["code"], -32000);
    let error = node.error("eth_getBalance", json!(["not an address", "latest"])).await;
    assert_eq!(error["code"], -32602);
    let error = node.error("eth_getBalance", json!([TO, "0x99"])).await;
    assert!(error["message"].as_str().unwrap().contains("not found"), "{error}");
    assert_eq!(node.error("eth_nonsense", json!([])).await["code"], -32601);
    assert_eq!(node.ok("eth_blockNumber", json!([])).await, "0x1");
    node.running.stop().await;
}

#[tokio::test]
async fn the_pool_waits_for_a_gap_and_takes_a_better_offer() {
    let mining = Mining::Interval { period: Duration::from_secs(3600), empty_blocks: false };
    let node = Node::start(mining, None).await;
    node.send(&sign(TxEip1559 { nonce: 1, ..transfer() }, 0)).await;
    let first = sign(transfer(), 0);
    node.send(&first).await;
    assert_eq!(node.refused(&first).await, "already known");
    let slightly = TxEip1559 { max_fee_per_gas: 10_100_000_000, ..transfer() };
    assert!(node.refused(&sign(slightly, 0)).await.contains("underpriced"));
    let better = TxEip1559 {
        max_fee_per_gas: 12_000_000_000,
        max_priority_fee_per_gas: 1_200_000_000,
        value: U256::from(6),
        ..transfer()
    };
    let better = node.send(&sign(better, 0)).await;
    node.send(&sign(TxEip1559 { nonce: 5, ..transfer() }, 0)).await;
    let status = node.ok("txpool_status", json!([])).await;
    assert_eq!(status, json!({ "pending": "0x2", "queued": "0x1" }));
    let content = node.ok("txpool_content", json!([])).await;
    assert_eq!(
        content["pending"].as_object().unwrap().values().next().unwrap()["0"]["hash"],
        better
    );
    let from = accounts::addresses()[0];
    assert_eq!(node.ok("eth_getTransactionCount", json!([from, "pending"])).await, "0x2");

    node.running.mine(1).await.unwrap();
    assert_eq!(node.ok("eth_getBalance", json!([TO, "latest"])).await, "0xb");
    let status = node.ok("txpool_status", json!([])).await;
    assert_eq!(status, json!({ "pending": "0x0", "queued": "0x1" }));
    node.running.stop().await;
}

#[tokio::test]
async fn contracts_can_be_deployed_called_estimated_and_searched_for_logs() {
    let node = Node::on_demand().await;
    let from = accounts::addresses()[0];
    let code = include_str!("../contracts/Token.hex").trim();
    let supply = U256::from(1_000_000u64);
    let input = [hex::decode(code).unwrap(), supply.to_be_bytes::<32>().to_vec()].concat();
    let request = json!({ "from": from, "data": Bytes::from(input.clone()) });
    let estimate: U256 =
        serde_json::from_value(node.ok("eth_estimateGas", json!([request])).await).unwrap();
    let deploy = TxEip1559 {
        gas_limit: estimate.to(),
        to: TxKind::Create,
        value: U256::ZERO,
        input: input.into(),
        ..transfer()
    };
    let hash = node.send(&sign(deploy.clone(), 0)).await;
    let receipt = node.ok("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["status"], "0x1", "the estimate is too low");
    let token = receipt["contractAddress"].clone();
    assert_ne!(token, Value::Null);
    let tight = TxEip1559 { nonce: 1, gas_limit: estimate.to::<u64>() - 1, ..deploy };
    let hash = node.send(&sign(tight, 0)).await;
    let tight = node.ok("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(tight["status"], "0x0", "the estimate is not the least");

    let word = |address: Address| address.into_word().to_string()[2..].to_owned();
    let balance_of = |of: Address| format!("0x70a08231{}", word(of));
    let call = json!({ "to": token, "data": balance_of(from) });
    let answer = node.ok("eth_call", json!([call, "latest"])).await;
    assert_eq!(answer, json!(alloy_primitives::B256::from(supply)));
    // With the supply's slot overridden, the call sees another state; the chain does not.
    let total = json!({ "to": token, "data": "0x18160ddd" });
    let slot = "0x0000000000000000000000000000000000000000000000000000000000000000";
    let seven = "0x0000000000000000000000000000000000000000000000000000000000000007";
    let overrides = json!({ token.as_str().unwrap(): { "stateDiff": { slot: seven } } });
    assert_eq!(node.ok("eth_call", json!([total, "latest", overrides])).await, seven);
    assert_ne!(node.ok("eth_call", json!([total, "latest"])).await, seven);
    assert_eq!(node.ok("eth_getStorageAt", json!([token, "0x0", "latest"])).await, answer);

    let too_much = format!("0xa9059cbb{}{}", word(TO), hex::encode([0xff; 32]));
    let error =
        node.error("eth_call", json!([{ "from": from, "to": token, "data": too_much }])).await;
    assert_eq!(error["code"], 3);
    assert!(error["message"].as_str().unwrap().contains("balance too low"), "{error}");
    let error = node
        .error("eth_estimateGas", json!([{ "from": from, "to": token, "data": too_much }]))
        .await;
    assert_eq!(error["code"], 3);

    let pay = format!("0xa9059cbb{}{:064x}", word(TO), 77);
    let input: Bytes = pay.parse().unwrap();
    let to: Address = serde_json::from_value(token.clone()).unwrap();
    let pay = TxLegacy {
        chain_id: Some(1337),
        nonce: 2,
        gas_price: 3_000_000_000,
        gas_limit: 100_000,
        to: to.into(),
        input,
        value: U256::ZERO,
    };
    node.send(&sign(pay, 0)).await;
    let topic = keccak256("Transfer(address,address,uint256)");
    let filter = json!({ "fromBlock": "0x0", "toBlock": "latest", "address": token, "topics": [topic, null, TO.into_word()] });
    let logs = node.ok("eth_getLogs", json!([filter])).await;
    assert_eq!(logs.as_array().unwrap().len(), 1);
    assert_eq!(logs[0]["blockNumber"], "0x3");
    let all = node.ok("eth_getLogs", json!([{ "fromBlock": "0x0", "address": token }])).await;
    assert_eq!(all.as_array().unwrap().len(), 2);
    let at = json!({ "blockHash": logs[0]["blockHash"] });
    assert_eq!(node.ok("eth_getLogs", json!([at])).await, logs);
    node.error("eth_getLogs", json!([{ "fromBlock": "0x3", "toBlock": "0x1" }])).await;

    let proof = node.ok("eth_getProof", json!([token, ["0x0"], "latest"])).await;
    assert_eq!(proof["storageProof"][0]["value"], format!("{supply:#x}"));
    node.running.stop().await;
}

#[tokio::test]
async fn fees_are_told_the_way_wallets_ask() {
    let node = Node::on_demand().await;
    for nonce in 0..3 {
        node.send(&sign(TxEip1559 { nonce, ..transfer() }, 0)).await;
    }
    let history = node.ok("eth_feeHistory", json!(["0x5", "latest", [10.0, 90.0]])).await;
    assert_eq!(history["oldestBlock"], "0x0");
    assert_eq!(history["baseFeePerGas"].as_array().unwrap().len(), 5);
    assert_eq!(history["reward"][3], json!(["0x3b9aca00", "0x3b9aca00"]));
    let next: U256 = serde_json::from_value(history["baseFeePerGas"][4].clone()).unwrap();
    let tip: U256 =
        serde_json::from_value(node.ok("eth_maxPriorityFeePerGas", json!([])).await).unwrap();
    let price: U256 = serde_json::from_value(node.ok("eth_gasPrice", json!([])).await).unwrap();
    assert_eq!(price, next + tip);
    node.send(&sign(TxEip1559 { nonce: 3, ..transfer() }, 0)).await;
    let block = node.ok("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(block["baseFeePerGas"], json!(next));
    node.running.stop().await;
}

#[tokio::test]
async fn the_witness_over_rpc_is_the_chains() {
    let traffic = TrafficConfig { kinds: Kind::ALL.to_vec(), ..Default::default() };
    let node = Node::start(Mining::OnDemand, Some(traffic)).await;
    node.running.mine(3).await.unwrap();
    let witness = node.ok("debug_executionWitness", json!(["0x3"])).await;
    let expected = node.running.chain().execution_witness(3).unwrap();
    assert_eq!(witness, serde_json::to_value(&expected).unwrap());
    assert!(
        !expected.state.is_empty() && !expected.codes.is_empty() && !expected.headers.is_empty()
    );
    let hash = node.ok("eth_getBlockByNumber", json!(["0x3", false])).await["hash"].clone();
    assert_eq!(node.ok("debug_executionWitnessByBlockHash", json!([hash])).await, witness);
    let error = node.error("debug_executionWitness", json!(["0x0"])).await;
    assert!(error["message"].as_str().unwrap().contains("block 0"), "{error}");
    node.running.stop().await;
}

#[tokio::test]
async fn the_clock_makes_blocks_with_traffic_until_it_ends() {
    let mining = Mining::Interval { period: Duration::from_millis(20), empty_blocks: false };
    let traffic = TrafficConfig { per_block: 2, stop_after: Some(6), ..Default::default() };
    let node = Node::start(mining, Some(traffic)).await;
    let mut heads = node.running.heads();
    tokio::time::timeout(Duration::from_secs(60), heads.wait_for(|head| *head == 3))
        .await
        .unwrap()
        .unwrap();
    assert!(node.running.traffic_is_done());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(*heads.borrow(), 3, "an empty block was made");
    node.running.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_said_so() {
    let node = Node::on_demand().await;
    let config = Config { listen: node.running.addr(), ..Default::default() };
    let error = DevNode::start(config).await.unwrap_err();
    assert!(matches!(error, Error::AddressInUse(addr) if addr == node.running.addr()), "{error}");
    // After a stop the port is free again.
    let addr = node.running.addr();
    node.running.stop().await;
    DevNode::start(Config { listen: addr, ..Default::default() }).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_block_interval_of_zero_is_refused() {
    let mining = Mining::Interval { period: Duration::ZERO, empty_blocks: true };
    let config = Config { mining, ..Default::default() };
    assert!(matches!(DevNode::start(config).await.unwrap_err(), Error::ZeroInterval));
}

#[tokio::test]
async fn new_heads_are_told_over_websocket() {
    let node = Node::on_demand().await;
    let config = node.running.chain_config().clone();
    let urls = [node.running.url()];
    let mut nodes = witness::Nodes::connect(&urls, config, Default::default(), Default::default())
        .await
        .unwrap();
    nodes.listen(&node.running.url().replacen("http", "ws", 1)).unwrap();
    let patience = Duration::from_secs(30);
    // One notification for the connection, and one for each block.
    tokio::time::timeout(patience, nodes.news()).await.unwrap();
    for number in 1..=2 {
        node.running.mine(1).await.unwrap();
        tokio::time::timeout(patience, nodes.news()).await.unwrap();
        assert_eq!(nodes.head().await.unwrap(), number);
    }
    assert!(nodes.listen("http://localhost:1").is_err());
}

#[tokio::test]
async fn a_chain_in_a_file_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks");
    let start = async || {
        let (listen, traffic) = (([127, 0, 0, 1], 0).into(), Some(TrafficConfig::default()));
        let config = Config { listen, traffic, blocks: Some(path.clone()), ..Config::default() };
        DevNode::start(config).await
    };
    let node = start().await.unwrap();
    node.mine(3).await.unwrap();
    let before = (1..=3).map(|n| node.chain().block(n).unwrap().hash).collect::<Vec<_>>();
    drop(node);
    // The last block was not written to its end.
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let node = start().await.unwrap();
    assert_eq!(node.chain().head().number, 2);
    node.mine(2).await.unwrap();
    let after = (1..=4).map(|n| node.chain().block(n).unwrap().hash).collect::<Vec<_>>();
    assert_eq!(before[..2], after[..2]);
    let hash = after[3];
    drop(node);
    let node = start().await.unwrap();
    assert_eq!(node.chain().block(4).unwrap().hash, hash);
    drop(node);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = start().await.unwrap_err();
    assert!(matches!(error, Error::Blocks { .. }), "{error}");
}
