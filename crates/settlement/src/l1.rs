//! L1, as several RPCs tell it. None of them is trusted: what they send is bounded in length and time, and what they say can
//! delay a settlement, and make it cost what is allowed, and nothing else.

use crate::{
    check::Facts,
    contract::{Head, IBridge, IRollup, Policy, reason},
    fees::Market,
};
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_json_rpc::{RequestPacket, ResponsePacket, RpcError};
use alloy_network::{Ethereum, TransactionBuilder};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_provider::{Provider, RootProvider};
use alloy_rpc_client::RpcClient;
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, Filter, Log, TransactionRequest};
use alloy_sol_types::{SolCall, SolEvent};
use alloy_transport::{IntoBoxTransport, TransportError, TransportErrorKind, TransportFut};
use program::Statement;
use reqwest::Client;
use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};
use url::Url;
use witness::Secrets;

/// The longest answer that is read: the hashes of a block's transactions are the largest thing that is asked for.
const LONGEST: usize = 4 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of so many blocks an RPC is asked for logs at a time, if it does not tell all at once; and so often at most.
const MOST_BLOCKS: u64 = 10_000;
const MOST_REQUESTS: usize = 2_000;

/// So much of what an RPC says stands in an error.
const QUOTED: usize = 200;

/// Why L1 said nothing useful.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum L1Error {
    /// The RPC failed, or said what makes no sense.
    #[error("{rpc} failed to tell {what}: {says}")]
    Rpc {
        /// Which.
        rpc: String,
        /// What was asked for.
        what: &'static str,
        /// What came instead.
        says: String,
    },
    /// The RPC is of another chain.
    #[error("{rpc} is of chain {found}, not of {expected}")]
    OtherChain {
        /// Which.
        rpc: String,
        /// Its chain id.
        found: u64,
        /// The one that counts.
        expected: u64,
    },
    /// The contract reverts.
    #[error("the contract refuses it: {0}")]
    Reverted(String),
    /// It reverts now, and did not in the block that was looked at: somebody else was faster.
    #[error("the contract refuses it since another block: {0}")]
    Changed(String),
    /// No transport can be made of a URL.
    #[error("this is no address of an RPC: {0}")]
    Url(String),
}

/// A block of L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its timestamp, in seconds.
    pub time: u64,
    /// Its base fee.
    pub base_fee: u64,
}

/// What became of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    /// Its block.
    pub(crate) block: u64,
    /// Whether it did what it should.
    pub(crate) status: bool,
    /// What it used.
    pub(crate) gas: u64,
    /// What it said.
    pub(crate) logs: Vec<alloy_primitives::Log>,
}

/// What an RPC says of L1 at one block.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The newest block.
    pub block: Block,
    /// The contract's head there.
    pub head: Head,
    /// Its head in the newest finalized block, if it is there.
    pub finalized: Option<Head>,
    /// The wallet's next nonce.
    pub nonce: u64,
    /// What it has, in wei.
    pub balance: U256,
    /// What is usual for a block's builder.
    pub tip: u64,
}

/// An RPC of L1.
#[derive(Clone, Debug)]
pub struct Rpc {
    name: String,
    provider: RootProvider,
    chain: Option<u64>,
    /// What must not be repeated of what it says, if it has a URL.
    secrets: Option<Secrets>,
}

impl Rpc {
    /// The one at `url`.
    ///
    /// # Errors
    /// [`L1Error::Url`].
    pub fn http(url: &Url) -> Result<Self, L1Error> {
        let name = url.origin().ascii_serialization();
        Ok(Self { secrets: Some(Secrets::of(url)), ..Self::new(name, Http::new(url)?) })
    }

    /// One that is reached through `transport`.
    pub fn new(name: impl Into<String>, transport: impl IntoBoxTransport) -> Self {
        let client = RpcClient::new(transport, false);
        let provider = RootProvider::new(client);
        Self { name: name.into(), provider, chain: None, secrets: None }
    }

    /// Its name, without what may be a key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The provider below.
    pub(crate) fn provider(&self) -> RootProvider {
        self.provider.clone()
    }

    fn ok<T>(&self, what: &'static str, result: Result<T, TransportError>) -> Result<T, L1Error> {
        result.map_err(|error| self.fails(what, &error.to_string()))
    }

    fn fails(&self, what: &'static str, says: &str) -> L1Error {
        L1Error::Rpc { rpc: self.name.clone(), what, says: self.quote(says) }
    }

    /// The beginning of what it says, without control characters and without what may be a key of its URL.
    pub(crate) fn quote(&self, says: &str) -> String {
        let says = match &self.secrets {
            Some(secrets) => secrets.quote(says),
            None => says.to_owned(),
        };
        says.chars().filter(|c| !c.is_control()).take(QUOTED).collect()
    }

    /// Its chain id, which must be `expected`, if any is. Asked for once.
    ///
    /// # Errors
    /// [`L1Error`].
    pub async fn chain(&mut self, expected: Option<u64>) -> Result<u64, L1Error> {
        let found = match self.chain {
            Some(found) => found,
            None => self.ok("its chain", self.provider.get_chain_id().await)?,
        };
        self.chain = Some(found);
        match expected {
            Some(expected) if expected != found => {
                // It may be another one behind the same address next time.
                self.chain = None;
                Err(L1Error::OtherChain { rpc: self.name.clone(), found, expected })
            }
            _ => Ok(found),
        }
    }

    /// What it says of `contract` and `wallet`. All of one block, so that no two answers can be of different moments.
    ///
    /// # Errors
    /// [`L1Error`].
    pub async fn observe(&self, contract: Address, wallet: Address) -> Result<Observed, L1Error> {
        let newest = self.block(BlockNumberOrTag::Latest).await?;
        let block = newest.ok_or_else(|| self.fails("its newest block", "there is none"))?;
        let at = BlockId::hash(block.hash);
        let head = self.call(contract, IRollup::headCall {}, at, "the contract's head").await?;
        // The contract may not be in the finalized block.
        let finalized = self.finalized_head(contract).await.ok().flatten();
        let nonce = self.provider.get_transaction_count(wallet).block_id(at).await;
        let balance = self.provider.get_balance(wallet).block_id(at).await;
        Ok(Observed {
            block,
            head,
            finalized,
            nonce: self.ok("the wallet's nonce", nonce)?,
            balance: self.ok("the wallet's balance", balance)?,
            tip: self.tip().await,
        })
    }

    /// What it says that a statement is compared with.
    ///
    /// # Errors
    /// [`L1Error`].
    pub async fn facts(
        &self,
        contract: Address,
        statement: &Statement,
        seen: &Observed,
    ) -> Result<Facts, L1Error> {
        let (at, head) = (BlockId::hash(seen.block.hash), &seen.head);
        let policy: Policy = self.call(contract, IRollup::policyCall {}, at, "the policy").await?;
        let bridge = self.call(contract, IRollup::bridgeCall {}, at, "the bridge").await?;
        let consumed = head.deposits.saturating_add(statement.deposits_count);
        let link = match statement.deposits_count {
            0 => Some(head.link),
            _ => self.link(bridge, consumed).await?,
        };
        let next_deposit = match link {
            None => Err("fewer deposits".to_owned()),
            Some(link) => {
                let next = IBridge::nextCall { index: U256::from(consumed), link };
                match self.view(bridge, next, at, "the next deposit").await? {
                    Ok(at) => match IBridge::nextCall::abi_decode_returns_validate(&at) {
                        Ok(at) => Ok(at.saturating_to()),
                        Err(error) => {
                            return Err(self.fails("the next deposit", &error.to_string()));
                        }
                    },
                    Err(says) => Err(says),
                }
            }
        };
        Ok(Facts { head: head.clone(), policy, time: seen.block.time, link, next_deposit })
    }

    /// The chain's link after so many deposits, as the last one's event has it. Whether it is true shows when it is hashed.
    async fn link(&self, bridge: Address, deposits: u64) -> Result<Option<B256>, L1Error> {
        let last = B256::from(U256::from(deposits.saturating_sub(1)));
        let filter = Filter::new()
            .address(bridge)
            .event_signature(IBridge::Deposited::SIGNATURE_HASH)
            .topic1(last);
        let logs = self.logs_back(filter, "a deposit", |found| !found.is_empty()).await?;
        let deposit = logs.last().map(|log| IBridge::Deposited::decode_log_data(log.data()));
        Ok(deposit.and_then(Result::ok).map(|deposit| deposit.link))
    }

    /// How much gas a call takes from the wallet, which must not revert.
    ///
    /// # Errors
    /// [`L1Error::Reverted`] if it does, [`L1Error::Changed`] if it does in a later block; else [`L1Error::Rpc`].
    pub async fn try_call(
        &self,
        wallet: Address,
        contract: Address,
        data: &[u8],
        seen: &Observed,
    ) -> Result<u64, L1Error> {
        let request = request(contract, data.to_vec()).with_from(wallet);
        let at = BlockId::hash(seen.block.hash);
        let called = self.provider.call(request.clone()).block(at).await;
        self.unless_reverted("what the contract says", called)?;
        let gas = self.provider.estimate_gas(request).block(BlockId::latest()).await;
        self.unless_reverted("how much gas it takes", gas).map_err(|error| match error {
            L1Error::Reverted(says) => L1Error::Changed(says),
            error => error,
        })
    }

    fn unless_reverted<T>(
        &self,
        what: &'static str,
        result: Result<T, TransportError>,
    ) -> Result<T, L1Error> {
        match result {
            Err(RpcError::ErrorResp(error)) => match error.as_revert_data() {
                Some(data) => Err(L1Error::Reverted(self.quote(&reason(&data)))),
                // What nodes say of a revert without data.
                None if error.code == 3 || error.message.contains("revert") => {
                    Err(L1Error::Reverted(self.quote(&error.message)))
                }
                None => Err(self.fails(what, &error.message)),
            },
            result => self.ok(what, result),
        }
    }

    /// Hands it a transaction. That it has it already is no error.
    ///
    /// # Errors
    /// [`L1Error::Rpc`].
    pub async fn send(&self, raw: &[u8]) -> Result<(), L1Error> {
        match self.provider.send_raw_transaction(raw).await {
            Ok(_pending) => Ok(()),
            Err(error) if error.to_string().contains("already ") => Ok(()),
            Err(error) => Err(self.fails("that it has the transaction", &error.to_string())),
        }
    }

    /// Its newest finalized block, if there is one.
    pub(crate) async fn finalized(&self) -> Result<Option<Block>, L1Error> {
        let block = self.block(BlockNumberOrTag::Finalized).await?;
        Ok(block.filter(|block| block.number > 0))
    }

    /// The deposits of these blocks, in order.
    pub(crate) async fn deposits(
        &self,
        bridge: Address,
        from: u64,
        to: u64,
    ) -> Result<Vec<IBridge::Deposited>, L1Error> {
        let filter = Filter::new()
            .address(bridge)
            .event_signature(IBridge::Deposited::SIGNATURE_HASH)
            .from_block(from)
            .to_block(to);
        let what = "deposits";
        let logs = self.ok(what, self.provider.get_logs(&filter).await)?;
        self.events(&logs, bridge, what)
    }

    /// The logs that fit a filter without a range, oldest first: all of them if the RPC tells them in one answer. Many answer about some
    /// blocks at a time only: then from the newest one back, until what was found is `enough`.
    async fn logs_back(
        &self,
        filter: Filter,
        what: &'static str,
        enough: impl Fn(&[Log]) -> bool + Send,
    ) -> Result<Vec<Log>, L1Error> {
        let whole = filter.clone().from_block(BlockNumberOrTag::Earliest);
        let why = match self.provider.get_logs(&whole).await {
            Ok(logs) => return Ok(logs),
            Err(error) => error,
        };
        let newest = self.block(BlockNumberOrTag::Latest).await?;
        let (mut found, mut span) = (Vec::new(), MOST_BLOCKS);
        let mut end = newest.map_or(0, |block| block.number);
        for _ in 0..MOST_REQUESTS {
            let start = end.saturating_sub(span - 1);
            let part = filter.clone().from_block(start).to_block(end);
            match self.provider.get_logs(&part).await {
                Ok(mut logs) => {
                    logs.append(&mut found);
                    found = logs;
                    if start == 0 || enough(&found) {
                        return Ok(found);
                    }
                    end = start - 1;
                }
                Err(_) if span > 1 => span = (span / 4).max(1),
                Err(error) => return Err(self.fails(what, &error.to_string())),
            }
        }
        let says =
            format!("{why}; asked for {span} blocks at a time, it has nothing back to block {end}");
        Err(self.fails(what, &says))
    }

    /// What `contract` says in logs, in order.
    fn events<E: SolEvent>(
        &self,
        logs: &[Log],
        contract: Address,
        what: &'static str,
    ) -> Result<Vec<E>, L1Error> {
        logs.iter()
            .filter(|log| !log.removed && log.address() == contract)
            .map(|log| E::decode_log_data(log.data()))
            .collect::<Result<_, _>>()
            .map_err(|error| self.fails(what, &error.to_string()))
    }

    /// What a call returns, or why it reverts.
    pub(crate) async fn view<C: SolCall>(
        &self,
        contract: Address,
        call: C,
        at: BlockId,
        what: &'static str,
    ) -> Result<Result<Bytes, String>, L1Error> {
        let answer = self.provider.call(request(contract, call.abi_encode())).block(at).await;
        match self.unless_reverted(what, answer) {
            Ok(answer) => Ok(Ok(answer)),
            Err(L1Error::Reverted(says)) => Ok(Err(says)),
            Err(error) => Err(error),
        }
    }

    /// What is usual for a block's builder.
    async fn tip(&self) -> u64 {
        let tip = self.provider.get_max_priority_fee_per_gas().await.unwrap_or(TIP);
        u64::try_from(tip).unwrap_or(u64::MAX)
    }

    /// What became of a transaction, if it is in a block.
    pub(crate) async fn receipt(&self, tx: B256) -> Result<Option<Receipt>, L1Error> {
        let receipt = self.provider.get_transaction_receipt(tx).await;
        let Some(receipt) = self.ok("a receipt", receipt)? else { return Ok(None) };
        let Some(block) = receipt.block_number else { return Ok(None) };
        Ok(Some(Receipt {
            block,
            status: receipt.status(),
            gas: receipt.gas_used,
            logs: receipt.logs().iter().map(|log| log.inner.clone()).collect(),
        }))
    }

    /// The hash of its block 0.
    ///
    /// # Errors
    /// [`L1Error::Rpc`].
    pub async fn genesis_hash(&self) -> Result<B256, L1Error> {
        let block = self.block(BlockNumberOrTag::Number(0)).await?;
        Ok(block.ok_or_else(|| self.fails("its block 0", "there is none"))?.hash)
    }

    /// What an account has, in wei.
    pub(crate) async fn balance(&self, of: Address) -> Result<U256, L1Error> {
        self.ok("a balance", self.provider.get_balance(of).await)
    }

    /// What L1 asks for now.
    pub(crate) async fn market(&self) -> Result<Market, L1Error> {
        let newest = self.block(BlockNumberOrTag::Latest).await?;
        let base_fee = newest.map_or(0, |block| block.base_fee);
        Ok(Market { base_fee, tip: self.tip().await })
    }

    /// Whether there is a contract.
    pub(crate) async fn has_code(&self, at: Address) -> Result<bool, L1Error> {
        let code = self.provider.get_code_at(at).await;
        Ok(!self.ok("the code of a contract", code)?.is_empty())
    }

    /// The proof of a slot at a block.
    pub(crate) async fn proof(
        &self,
        account: Address,
        slot: B256,
        block: u64,
    ) -> Result<EIP1186AccountProofResponse, L1Error> {
        let proof = self.provider.get_proof(account, vec![slot]).number(block).await;
        self.ok("the proof of a withdrawal", proof)
    }

    /// The batches that a contract has settled, oldest first: the one with `block` and those after it at least.
    pub(crate) async fn settled(
        &self,
        rollup: Address,
        block: u64,
    ) -> Result<Vec<IRollup::Settled>, L1Error> {
        let what = "the settled batches";
        let filter =
            Filter::new().address(rollup).event_signature(IRollup::Settled::SIGNATURE_HASH);
        let before = |log: &Log| {
            let batch = IRollup::Settled::decode_log_data(log.data());
            batch.is_ok_and(|batch| batch.firstNumber <= block)
        };
        let logs = self.logs_back(filter, what, |found| found.first().is_some_and(before)).await?;
        self.events(&logs, rollup, what)
    }

    /// The contract's newest head.
    pub(crate) async fn head(&self, rollup: Address) -> Result<Head, L1Error> {
        self.call(rollup, IRollup::headCall {}, BlockId::latest(), "the contract's head").await
    }

    /// The contract's head in the newest finalized block, if it is there: a chain may have none yet.
    pub(crate) async fn finalized_head(&self, rollup: Address) -> Result<Option<Head>, L1Error> {
        let Some(block) = self.finalized().await? else { return Ok(None) };
        let at = BlockId::hash(block.hash);
        self.call(rollup, IRollup::headCall {}, at, "the finalized head").await.map(Some)
    }

    /// What a call by `wallet`, or making a contract, takes now: gas, the wallet's next nonce, and what L1 asks for each gas.
    pub(crate) async fn price(
        &self,
        wallet: Address,
        to: TxKind,
        data: &[u8],
    ) -> Result<(u64, u64, Market), L1Error> {
        let request = request(to, data.to_vec()).with_from(wallet);
        let gas =
            self.unless_reverted("what it takes", self.provider.estimate_gas(request).await)?;
        let nonce = self.provider.get_transaction_count(wallet).pending().await;
        Ok((gas, self.ok("the wallet's nonce", nonce)?, self.market().await?))
    }

    async fn block(&self, which: BlockNumberOrTag) -> Result<Option<Block>, L1Error> {
        let block = self.provider.get_block_by_number(which).await;
        Ok(self.ok("a block", block)?.map(|block| Block {
            number: block.header.number,
            hash: block.header.hash,
            time: block.header.timestamp,
            base_fee: block.header.base_fee_per_gas.unwrap_or_default(),
        }))
    }

    pub(crate) async fn call<C: SolCall>(
        &self,
        contract: Address,
        call: C,
        at: BlockId,
        what: &'static str,
    ) -> Result<C::Return, L1Error> {
        let answer = self.provider.call(request(contract, call.abi_encode())).block(at).await;
        let answer: Bytes = self.ok(what, answer)?;
        C::abi_decode_returns_validate(&answer).map_err(|error| {
            let no_contract = format!("there is no such contract at {contract}");
            self.fails(what, &if answer.is_empty() { no_contract } else { error.to_string() })
        })
    }
}

/// What is offered to a block's builder if the RPC says nothing.
const TIP: u128 = 1_000_000_000;

fn request(to: impl Into<TxKind>, data: Vec<u8>) -> TransactionRequest {
    TransactionRequest {
        to: Some(to.into()),
        input: Bytes::from(data).into(),
        ..TransactionRequest::default()
    }
}

/// JSON-RPC over HTTP, with bounds that alloy's own does not have.
#[derive(Clone)]
struct Http {
    client: Client,
    url: Url,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    fn new(url: &Url) -> Result<Self, L1Error> {
        let fails = |why: String| L1Error::Url(why);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fails(format!(
                "it begins with {}:, not with http: or https:",
                url.scheme()
            )));
        }
        // Already there if it is not the first: it is the same one then, or what the program chose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No redirect is followed: the operator chose the RPC.
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
        // The system's certificate authorities are needed only for https; there may be none.
        let client = if url.scheme() == "https" { client } else { client.tls_certs_only([]) };
        let client = client.build().map_err(|error| fails(error.to_string()))?;
        Ok(Self { client, url: url.clone() })
    }

    async fn ask(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        // An error of reqwest names the URL, which may hold a key.
        let lost = |error: reqwest::Error| TransportErrorKind::custom(error.without_url());
        let mut response = self.client.post(self.url).json(&packet).send().await.map_err(lost)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(lost)? {
            if piece.len() > LONGEST - body.len() {
                return Err(TransportErrorKind::custom_str("its answer is too long"));
            }
            body.extend_from_slice(&piece);
        }
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok(answer),
            Err(_) if !status.is_success() => {
                Err(TransportErrorKind::custom_str(&format!("HTTP status {}", status.as_u16())))
            }
            Err(error) => {
                Err(TransportErrorKind::custom_str(&format!("its answer is no JSON-RPC: {error}")))
            }
        }
    }
}

impl tower::Service<RequestPacket> for Http {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().ask(packet))
    }
}

/// The type of transactions and blocks that is spoken of.
pub(crate) type L1 = Ethereum;
