//! Blocks from an L2 node over JSON-RPC.

use crate::{
    Culprit, Error, Prepared,
    assemble::{self, Claim, Parent, Witness, WitnessHeader},
};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, U64, keccak256};
use alloy_provider::{
    Provider, ProviderBuilder, RootProvider,
    transport::{RpcError, TransportError},
};
use alloy_rpc_types_eth::Block;
use program::ChainConfig;
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fmt::Debug, time::Duration};

/// How long one answer may take. Witnesses of large blocks are minutes of work for some nodes.
const TIMEOUT: Duration = Duration::from_secs(180);
/// JSON-RPC's code for a method that does not exist.
const METHOD_NOT_FOUND: i64 = -32601;

/// An L2 node that nobody has to trust.
#[derive(Clone, Debug)]
pub struct Node {
    provider: RootProvider,
    name: Culprit,
    /// Path and query of the URL. They may hold a key, so they are not shown.
    secrets: String,
    config: ChainConfig,
}

/// An HTTP client for `url`.
fn http(url: &Url) -> Result<reqwest::Client, Error> {
    // Already there if this is not the first client: it is the same one then, or what the program chose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder();
    // The system's authorities are needed only for https; there may be none.
    let http = if url.scheme() == "https" { http } else { http.tls_certs_only([]) };
    http.build().map_err(|error| Error::Url { reason: error.to_string() })
}

/// Why a request had no answer.
enum Failure {
    NoSuchMethod,
    Other(Error),
}

impl Node {
    /// Connects to the node at `url` (HTTP or HTTPS) and checks that it is of the chain of `config`.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Unreachable`], [`Error::WrongChain`].
    pub async fn connect(url: &str, config: ChainConfig) -> Result<Self, Error> {
        let url: Url = url.parse().map_err(|error| Error::Url { reason: format!("{error}") })?;
        let (origin, mut quoted) = (url.origin().ascii_serialization(), url.clone());
        // The HTTP client leaves these out when it quotes the URL.
        let _ = (quoted.set_username(""), quoted.set_password(None));
        let secrets = quoted.as_str().strip_prefix(&origin).unwrap_or_default().to_owned();
        let provider = ProviderBuilder::default().connect_reqwest(http(&url)?, url);
        let node = Self { provider, name: Culprit::Node(origin), secrets, config };
        let found: U64 = node.ask("eth_chainId", json!([])).await?;
        match found.to::<u64>() == node.config.chain_id {
            true => Ok(node),
            false => {
                let (expected, found) = (node.config.chain_id, found.to());
                Err(Error::WrongChain { culprit: node.name, expected, found })
            }
        }
    }

    /// The number of the node's latest block.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Rpc`], [`Error::Malformed`].
    pub async fn head(&self) -> Result<u64, Error> {
        Ok(self.ask::<U64>("eth_blockNumber", json!([])).await?.to())
    }

    /// The hash of the node's block with this number, or `None` if it has none. Nobody has checked it.
    ///
    /// # Errors
    /// As [`Node::head`].
    pub async fn block_hash(&self, number: u64) -> Result<Option<B256>, Error> {
        #[derive(Debug, Deserialize)]
        struct Hash {
            hash: B256,
        }
        let block: Option<Hash> =
            self.ask("eth_getBlockByNumber", json!([U64::from(number), false])).await?;
        Ok(block.map(|block| block.hash))
    }

    /// Makes the input of the batch of blocks `first..=last` and executes it.
    ///
    /// # Errors
    /// Any of [`Error`] that concerns a node or blocks. [`Error::Unlinked`], [`Error::Unreachable`] and
    /// [`Error::BlockNotFound`] may pass by themselves.
    pub async fn prepare(&self, first: u64, last: u64) -> Result<Prepared, Error> {
        if first > last {
            return Err(Error::EmptyRange { first, last });
        }
        let mut claims: Vec<Claim> = Vec::new();
        for number in first..=last {
            let claim = self.claim(number).await?;
            if let Some(before) = claims.last()
                && before.header.hash() != claim.header.parent_hash
            {
                return Err(Error::Unlinked { node: self.name.clone(), number });
            }
            claims.push(claim);
        }
        self.add_parent(&mut claims[0]).await?;
        let (config, name) = (self.config.clone(), self.name.clone());
        // Executing takes long and never waits.
        tokio::task::spawn_blocking(move || {
            assemble::prepare(&config, &claims, Parent::Header, &name)
        })
        .await
        .expect("executing an input does not panic")
    }

    async fn claim(&self, number: u64) -> Result<Claim, Error> {
        let rlp = self.raw_block(number).await?;
        let header = assemble::header_of(&rlp).map_err(|error| {
            self.malformed(format!("its block {number} is not a block's RLP: {error}"))
        })?;
        if header.number != number {
            return Err(self.malformed(format!("its block {number} has number {}", header.number)));
        }
        let witness = self.request("debug_executionWitness", json!([U64::from(number)])).await;
        let witness: Witness = witness.map_err(|failure| match failure {
            Failure::NoSuchMethod => Error::NoWitnessApi { node: self.name.clone() },
            Failure::Other(error) => error,
        })?;
        Ok(Claim { header, rlp, witness })
    }

    /// The block's RLP, from `debug_getRawBlock` if the node has that.
    async fn raw_block(&self, number: u64) -> Result<Bytes, Error> {
        let not_found = || Error::BlockNotFound { node: self.name.clone(), number };
        let raw: Result<Option<Bytes>, _> =
            self.request("debug_getRawBlock", json!([U64::from(number)])).await;
        match raw {
            Ok(Some(rlp)) if !rlp.is_empty() => Ok(rlp),
            Ok(_) => Err(not_found()),
            Err(Failure::NoSuchMethod) => {
                let params = json!([U64::from(number), true]);
                let block: Block = self
                    .ask::<Option<Block>>("eth_getBlockByNumber", params)
                    .await?
                    .ok_or_else(not_found)?;
                let said = block.header.hash;
                let block =
                    block.into_consensus().map_transactions(|transaction| transaction.into_inner());
                // Otherwise the program would only find that some root differs.
                if block.header.hash_slow() != said {
                    return Err(self.malformed(format!(
                        "its block {number} has header fields that Ethereum does not"
                    )));
                }
                Ok(alloy_rlp::encode(block).into())
            }
            // Some nodes say so with an error.
            Err(Failure::Other(Error::Rpc { .. })) if self.block_hash(number).await?.is_none() => {
                Err(not_found())
            }
            Err(Failure::Other(error)) => Err(error),
        }
    }

    /// Fetches the parent's header if the witness came without.
    async fn add_parent(&self, claim: &mut Claim) -> Result<(), Error> {
        let (wanted, number) = (claim.header.parent_hash, claim.header.number);
        let headers = &mut claim.witness.headers;
        if number == 0 || headers.iter().any(|header| keccak256(header.rlp()) == wanted) {
            return Ok(());
        }
        let params = json!([U64::from(number - 1), false]);
        let parent: Option<Header> = self.ask("eth_getBlockByNumber", params).await?;
        headers.extend(parent.map(|header| WitnessHeader::Object(Box::new(header))));
        Ok(())
    }

    async fn ask<R>(&self, method: &'static str, params: Value) -> Result<R, Error>
    where
        R: DeserializeOwned + Debug + Send + Sync + Unpin + 'static,
    {
        self.request(method, params).await.map_err(|failure| match failure {
            Failure::NoSuchMethod => Error::Rpc {
                node: self.name.clone(),
                method,
                code: METHOD_NOT_FOUND,
                message: "no such method".into(),
            },
            Failure::Other(error) => error,
        })
    }

    async fn request<R>(&self, method: &'static str, params: Value) -> Result<R, Failure>
    where
        R: DeserializeOwned + Debug + Send + Sync + Unpin + 'static,
    {
        let node = self.name.clone();
        let answer = self.provider.raw_request(method.into(), params);
        let Ok(answer) = tokio::time::timeout(TIMEOUT, answer).await else {
            let reason = format!("no answer to {method} in {} s", TIMEOUT.as_secs());
            return Err(Failure::Other(Error::Unreachable { node, reason }));
        };
        answer.map_err(|error: TransportError| match error {
            RpcError::ErrorResp(error) if error.code == METHOD_NOT_FOUND => Failure::NoSuchMethod,
            RpcError::ErrorResp(error) => Failure::Other(Error::Rpc {
                node,
                method,
                code: error.code,
                message: error.message.into(),
            }),
            RpcError::DeserError { err, .. } => {
                Failure::Other(self.malformed(format!("its answer to {method}: {err}")))
            }
            RpcError::NullResp => {
                Failure::Other(self.malformed(format!("its answer to {method} is null")))
            }
            other => {
                // The message may quote the whole URL.
                let mut reason = chain(&other);
                if self.secrets.len() > 1 {
                    reason = reason.replace(&self.secrets, "/…");
                }
                Failure::Other(Error::Unreachable { node, reason })
            }
        })
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Malformed { culprit: self.name.clone(), reason }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
