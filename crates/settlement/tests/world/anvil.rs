//! An L1: anvil, with the contracts of this repository.

use alloy_primitives::{Address, B256, U256, hex};
use alloy_sol_types::{SolCall as _, SolValue as _};
use serde_json::{Value, json};
use settlement::{
    contract::{Head, IRollup, L2, Policy, Roles, System},
    deploy::Contract,
};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) struct Anvil {
    child: Child,
    pub(crate) url: String,
    http: reqwest::Client,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Anvil {
    pub(crate) async fn start(program: &Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["--no-mining", "--slots-in-an-epoch", "2", "--silent", "--port"])
            .arg(free.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        let this = Self { child, url: format!("http://127.0.0.1:{free}"), http };
        let begun = Instant::now();
        while this.ask("eth_chainId", json!([])).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "anvil does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        this
    }

    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Value, String> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.http.post(&self.url).json(&request).send().await;
        let answer = answer.map_err(|error| error.to_string())?.json::<Value>().await;
        let mut answer = answer.map_err(|error| error.to_string())?;
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["result"].take()),
        }
    }

    pub(crate) async fn mine(&self) {
        self.ask("evm_mine", json!([])).await.unwrap();
    }

    /// Sends from anvil's first account; the contract that it makes, if it makes one.
    pub(crate) async fn send(&self, to: Option<Address>, data: Vec<u8>, value: u64) -> Address {
        let accounts = self.ask("eth_accounts", json!([])).await.unwrap();
        let tx = json!([{ "from": accounts[0], "to": to, "data": hex::encode_prefixed(data), "value": format!("{value:#x}"), "gas": "0xa00000" }]);
        let hash = self.ask("eth_sendTransaction", tx).await.unwrap();
        self.mine().await;
        let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await.unwrap();
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        receipt["contractAddress"].as_str().map_or(Address::ZERO, |at| at.parse().unwrap())
    }

    /// Makes the contracts, with a policy of one system that accepts what proves nothing: the rollup and its bridge.
    pub(crate) async fn deploy(
        &self,
        genesis: Head,
        program_id: B256,
        chain_config_digest: B256,
        sequencer: Address,
        l2_chain_id: u64,
        outbox: Address,
    ) -> (Address, Address) {
        let adapter = self.send(None, Contract::DangerMock.code(), 0).await;
        let system = System { adapter, programId: program_id, family: B256::repeat_byte(1) };
        let policy = Policy {
            systems: vec![system],
            threshold: 1,
            chainConfigDigest: chain_config_digest,
            sequencer,
            delay: 8 * 86_400,
            finality: 60,
            window: 86_400,
            fallbackAfter: 86_400,
        };
        let other = Address::repeat_byte(1);
        let roles = Roles { governance: other, guardian: other, council: other };
        let place = L2 { chainId: U256::from(l2_chain_id), outbox };
        let arguments = (genesis, policy, roles, place).abi_encode_params();
        let rollup = self.send(None, [Contract::Rollup.code(), arguments].concat(), 0).await;
        let data = hex::encode_prefixed(IRollup::bridgeCall {}.abi_encode());
        let bridge = self.ask("eth_call", json!([{ "to": rollup, "data": data }, "latest"])).await;
        let bridge = hex::decode(bridge.unwrap().as_str().unwrap()).unwrap();
        (rollup, Address::abi_decode(&bridge).unwrap())
    }

    pub(crate) async fn number(&self, method: &str, params: Value) -> u64 {
        let answer = self.ask(method, params).await.unwrap();
        u64::from_str_radix(answer.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    pub(crate) async fn head(&self, rollup: Address, at: &str) -> Option<Head> {
        let data = hex::encode_prefixed(IRollup::headCall {}.abi_encode());
        let answer =
            self.ask("eth_call", json!([{ "to": rollup, "data": data }, at])).await.ok()?;
        Head::abi_decode(&hex::decode(answer.as_str()?).ok()?).ok()
    }
}
