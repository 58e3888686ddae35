//! A block and its witness, in the first way that works.
//!
//! * What decides is whether a way works, not how the node words its refusal. A way that failed where another one worked is not
//!   tried again for a while.
//! * What a witness lacks is asked for by proofs, and no more than that.

use super::{Node, WitnessSource};
use crate::{
    Error,
    assemble::{self, Claim, Witness, WitnessHeader},
    proofs::Collector,
    rpc::METHOD_NOT_FOUND,
    trouble::Trouble,
};
use alloy_consensus::Header;
use alloy_primitives::{Bytes, Sealed, U64, keccak256};
use alloy_rpc_types_eth::Block;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Deserializer, de};
use serde_json::{json, value::RawValue};

/// Blocks of a batch that are fetched at the same time.
const BLOCKS_AT_ONCE: usize = 4;

impl Node {
    pub(super) async fn claims(&self, first: u64, last: u64) -> Result<Vec<Claim>, Error> {
        let mut fetched = futures::stream::iter(first..=last)
            .map(|number| self.claim(number))
            .buffered(BLOCKS_AT_ONCE);
        let mut claims: Vec<Claim> = Vec::new();
        while let Some(claim) = fetched.try_next().await? {
            if let Some(before) = claims.last()
                && before.header.hash() != claim.header.parent_hash
            {
                let number = claim.header.number;
                return Err(Error::Unlinked { node: self.rpc.name(), number });
            }
            claims.push(claim);
        }
        drop(fetched);
        self.add_parent(&mut claims[0]).await?;
        Ok(claims)
    }

    pub(super) async fn claim(&self, number: u64) -> Result<Claim, Error> {
        let rlp = self.raw_block(number).await?;
        let header = assemble::header_of(&rlp).map_err(|error| {
            self.rpc.malformed(format!("its block {number} is not a block's RLP: {error}"))
        })?;
        if header.number != number {
            let reason = format!("its block {number} has number {}", header.number);
            return Err(self.rpc.malformed(reason));
        }
        let witness = self.witness(&header, &rlp).await?;
        Ok(Claim { header, rlp, witness })
    }

    /// The witness, in the first way that works.
    async fn witness(&self, header: &Sealed<Header>, rlp: &[u8]) -> Result<Witness, Error> {
        if self.source == WitnessSource::Proofs {
            return self.witness_from_proofs(header, rlp).await;
        }
        let by_number = ("debug_executionWitness", json!([U64::from(header.number)]));
        let by_hash = ("debug_executionWitnessByBlockHash", json!([header.hash()]));
        let mut failed: Vec<(&'static str, Trouble)> = Vec::new();
        for (method, params) in [by_number, by_hash] {
            match self.rpc.attempt(method, params).await {
                Ok(witness) => {
                    failed
                        .into_iter()
                        .for_each(|(method, trouble)| self.rpc.avoid(method, trouble));
                    return Ok(witness);
                }
                Err(trouble) if trouble.is_away() => {
                    return Err(trouble.into_error(&self.rpc, method));
                }
                Err(trouble) => failed.push((method, trouble)),
            }
        }
        let first = failed.iter().position(|(_, trouble)| !trouble.is_no_such_method());
        let (method, trouble) = failed[first.unwrap_or_default()].clone();
        let refused = match first {
            Some(_) => trouble.into_error(&self.rpc, method),
            None => Error::NoWitnessApi { node: self.rpc.name(), allowed: self.source },
        };
        if self.source == WitnessSource::ExecutionWitness {
            return Err(refused);
        }
        match self.witness_from_proofs(header, rlp).await {
            Ok(witness) => {
                failed.into_iter().for_each(|(method, trouble)| self.rpc.avoid(method, trouble));
                Ok(witness)
            }
            Err(error) => Err(self.neither(header.number, refused, error)),
        }
    }

    /// The error that says why there is neither a witness nor proofs.
    pub(super) fn neither(&self, block: u64, witness: Error, proofs: Error) -> Error {
        let node = self.rpc.name();
        match (&witness, &proofs) {
            (Error::NoWitnessApi { .. }, _) => proofs,
            (_, Error::NoWitnessApi { .. }) => witness,
            // Not a matter of the witness.
            (
                _,
                Error::Refused { .. }
                | Error::UnknownTransaction { .. }
                | Error::UnknownNode { .. }
                | Error::Busy { .. }
                | Error::Unreachable { .. }
                | Error::BlockNotFound { .. }
                | Error::Unlinked { .. },
            ) => proofs,
            _ => Error::NoWitness {
                node,
                block,
                witness: crate::error::list(&[witness]),
                proofs: crate::error::list(&[proofs]),
            },
        }
    }

    async fn witness_from_proofs(
        &self,
        header: &Sealed<Header>,
        rlp: &[u8],
    ) -> Result<Witness, Error> {
        let (node, number) = (self.rpc.name(), header.number);
        let Some(parent) = number.checked_sub(1) else {
            return Err(Error::BlockNotFound { node, number });
        };
        let params = json!([U64::from(parent), false]);
        let found: Option<Header> = self.rpc.find("eth_getBlockByNumber", params).await?;
        let Some(found) = found else {
            return Err(Error::BlockNotFound { node, number: parent });
        };
        let found = Sealed::new(found);
        if found.hash() != header.parent_hash || found.number != parent {
            return Err(Error::Unlinked { node, number });
        }
        // It is large, and nearly never needed.
        let collected = Box::pin(Collector::new(self, &self.rpc).collect(rlp, found)).await;
        collected.map_err(|error| self.without_proofs(error))
    }

    /// The same blocks, with what their witnesses lack.
    pub(super) async fn complete(&self, claims: &[Claim]) -> Result<Vec<Claim>, Error> {
        let mut complete: Vec<Claim> = Vec::with_capacity(claims.len());
        for claim in claims {
            let parent = match complete.last() {
                Some(before) => before.header.clone(),
                None => self.parent(claim)?,
            };
            let collector = Collector::new(self, &self.rpc);
            let witness = Box::pin(collector.complete(&claim.rlp, parent, &claim.witness)).await;
            let witness = witness.map_err(|error| self.without_proofs(error))?;
            complete.push(Claim { witness, ..claim.clone() });
        }
        Ok(complete)
    }

    /// The header of the block before, which [`add_parent`](Self::add_parent) has looked for.
    fn parent(&self, claim: &Claim) -> Result<Sealed<Header>, Error> {
        let (hash, number) = (claim.header.parent_hash, claim.header.number);
        let Some(parent) = number.checked_sub(1) else {
            return Err(Error::BlockNotFound { node: self.rpc.name(), number });
        };
        match claim.witness.headers_by_hash().remove(&hash) {
            Some((header, _)) if header.number == parent => Ok(Sealed::new_unchecked(header, hash)),
            _ => Err(Error::Unlinked { node: self.rpc.name(), number }),
        }
    }

    /// That the node has no `eth_getProof` is better said in another way.
    fn without_proofs(&self, error: Error) -> Error {
        match error {
            Error::Rpc { method: "eth_getProof", code: METHOD_NOT_FOUND, node, .. }
            | Error::Http { method: "eth_getProof", status: 404 | 405 | 501, node, .. } => {
                Error::NoWitnessApi { node, allowed: self.source }
            }
            error => error,
        }
    }

    /// The block's RLP, from `debug_getRawBlock` if that works.
    pub(crate) async fn raw_block(&self, number: u64) -> Result<Bytes, Error> {
        let (method, params) = ("debug_getRawBlock", json!([U64::from(number)]));
        let trouble = match self.rpc.attempt::<Option<Bytes>>(method, params).await {
            Ok(Some(rlp)) if !rlp.is_empty() => return Ok(rlp),
            Ok(_) => Trouble::Null,
            Err(trouble) if trouble.is_away() => {
                return Err(trouble.into_error(&self.rpc, method));
            }
            Err(trouble) => trouble,
        };
        let params = json!([U64::from(number), true]);
        let block: Option<BlockObject> = self.rpc.find("eth_getBlockByNumber", params).await?;
        let block = match block {
            Some(BlockObject::Known(block)) => block,
            Some(BlockObject::UnknownType { index, kind }) => {
                let culprit = self.rpc.name();
                return Err(Error::UnknownTransaction { culprit, block: number, index, kind });
            }
            None => return Err(Error::BlockNotFound { node: self.rpc.name(), number }),
        };
        let said = block.header.hash;
        let block = block.into_consensus().map_transactions(|transaction| transaction.into_inner());
        // Without this check the program would only find that some root differs.
        if block.header.hash_slow() != said {
            return Err(self.rpc.malformed(format!(
                "its block {number} has header fields that Ethereum does not"
            )));
        }
        self.rpc.avoid(method, trouble);
        Ok(alloy_rlp::encode(block).into())
    }

    /// Fetches the parent's header if the witness came without it.
    pub(super) async fn add_parent(&self, claim: &mut Claim) -> Result<(), Error> {
        let (wanted, number) = (claim.header.parent_hash, claim.header.number);
        let headers = &mut claim.witness.headers;
        if number == 0 || headers.iter().any(|header| keccak256(header.rlp()) == wanted) {
            return Ok(());
        }
        let params = json!([U64::from(number - 1), false]);
        let parent: Option<Header> = self.rpc.find("eth_getBlockByNumber", params).await?;
        headers.extend(parent.map(|header| WitnessHeader::Object(Box::new(header))));
        Ok(())
    }
}

/// A block as a node gives it as an object.
#[derive(Debug)]
enum BlockObject {
    Known(Box<Block>),
    /// The position and type of the first transaction whose type Ethereum does not have up to Osaka.
    UnknownType {
        index: usize,
        kind: u8,
    },
}

impl<'de> Deserialize<'de> for BlockObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        if let Some((index, kind)) = unknown_type(text) {
            return Ok(Self::UnknownType { index, kind });
        }
        serde_json::from_str(text).map(Self::Known).map_err(de::Error::custom)
    }
}

/// The position and type of the first transaction of a block, in JSON, whose type Ethereum does not have up to Osaka.
fn unknown_type(block: &str) -> Option<(usize, u8)> {
    #[derive(Deserialize)]
    struct Kinds {
        #[serde(deserialize_with = "assemble::list")]
        transactions: Vec<Kind>,
    }

    #[derive(Deserialize)]
    struct Kind {
        #[serde(default, rename = "type")]
        kind: Option<String>,
    }

    let Kinds { transactions } = serde_json::from_str(block).ok()?;
    let mut kinds = transactions.iter().enumerate().filter_map(|(index, Kind { kind })| {
        let kind = u8::from_str_radix(kind.as_ref()?.strip_prefix("0x")?, 16).ok()?;
        Some((index, kind))
    });
    kinds.find(|(_, kind)| *kind > assemble::LAST_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_transaction_of_another_chain_is_named_with_its_type() {
        let block = |kinds: &[&str]| {
            let transactions: Vec<Value> =
                kinds.iter().map(|kind| json!({ "type": kind })).collect();
            json!({ "transactions": transactions }).to_string()
        };
        assert_eq!(unknown_type(&block(&["0x0", "0x2", "0x7e"])), Some((2, 0x7e)));
        assert_eq!(unknown_type(&block(&["0x64", "0x65"])), Some((0, 0x64)));
        assert_eq!(unknown_type(&block(&["0x0", "0x1", "0x2", "0x3", "0x4"])), None);
        // Some nodes leave the type of old transactions out.
        assert_eq!(unknown_type(r#"{ "transactions": [{}] }"#), None);
        assert_eq!(unknown_type("null"), None);
        let block: BlockObject = serde_json::from_str(&block(&["0x0", "0x7e"])).unwrap();
        assert!(matches!(block, BlockObject::UnknownType { index: 1, kind: 0x7e }));
        assert!(serde_json::from_str::<BlockObject>("null").is_err());
    }
}
