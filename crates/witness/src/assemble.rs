//! Turns blocks and their witnesses, wherever they come from, into an executed input.

use crate::{
    Error, ErrorSource, Prepared, Rules, Withdrawal,
    cost::{self, Estimate},
    genesis,
};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, Sealed, keccak256, map::B256Map};
use alloy_rlp::Decodable;
use program::{
    AssumedParent, ChainConfig, Input, Outcome,
    consensus::{DecodedBlock, Violation},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use std::{collections::BTreeSet, fmt, marker::PhantomData};

/// The last type of transactions: EIP-7702's.
pub(crate) const LAST_TYPE: u8 = 4;
/// `BLOCKHASH` reaches this far back.
const MAX_ANCESTORS: usize = 256;

/// The part of `debug_executionWitness`'s answer that we use.
///
/// reth, ethrex and Nethermind give lists of byte strings and headers as RLP; geth gives headers as objects, and `null` for
/// an empty list; older nodes give maps, from hash to bytes or from bytes to nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Witness {
    #[serde(deserialize_with = "items")]
    pub(crate) state: Vec<Bytes>,
    #[serde(default, deserialize_with = "items")]
    pub(crate) codes: Vec<Bytes>,
    #[serde(default, deserialize_with = "list")]
    pub(crate) headers: Vec<WitnessHeader>,
}

impl Witness {
    /// The headers that can be decoded, by hash.
    pub(crate) fn headers_by_hash(&self) -> B256Map<(Header, Bytes)> {
        let header = |header: &WitnessHeader| {
            let rlp = header.rlp();
            let decoded = Header::decode(&mut rlp.as_ref()).ok()?;
            Some((keccak256(&rlp), (decoded, rlp)))
        };
        self.headers.iter().filter_map(header).collect()
    }
}

/// Maximum number of items of one kind in a witness: a hundred times what a full Ethereum block needs.
const MAX_ITEMS: usize = 1 << 20;

fn items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
    struct Items;

    impl<'de> Visitor<'de> for Items {
        type Value = Vec<Bytes>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "a list or a map of at most {MAX_ITEMS} byte strings, or null")
        }

        fn visit_unit<E>(self) -> Result<Vec<Bytes>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Bytes>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                push(&mut items, item)?;
            }
            Ok(items)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Bytes>, A::Error> {
            let mut items = Vec::new();
            while let Some((key, value)) = map.next_entry::<Bytes, Option<Form<IgnoredAny>>>()? {
                let item = match value {
                    Some(Form::Bytes(bytes)) => bytes,
                    Some(Form::Object(_)) | None => key,
                };
                push(&mut items, item)?;
            }
            Ok(items)
        }
    }

    deserializer.deserialize_any(Items)
}

fn push<T, E: de::Error>(items: &mut Vec<T>, item: T) -> Result<(), E> {
    if items.len() == MAX_ITEMS {
        return Err(E::custom(format_args!("a list has more than {MAX_ITEMS} items")));
    }
    items.push(item);
    Ok(())
}

/// A list that is bounded, or `null`, which is an empty one.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "a list of at most {MAX_ITEMS} items, or null")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                push(&mut items, item)?;
            }
            Ok(items)
        }
    }

    deserializer.deserialize_any(List(PhantomData))
}

/// A byte string, or an object in its place. (An untagged enum would keep the whole of what it is given, whatever that is.)
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Form<T> {
    Bytes(Bytes),
    Object(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Form<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Form<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a byte string or an object")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Form<T>, E> {
                text.parse().map(Form::Bytes).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Form<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Form::Object)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A header is RLP for most nodes, and an object for geth.
pub(crate) type WitnessHeader = Form<Box<Header>>;

impl WitnessHeader {
    pub(crate) fn rlp(&self) -> Bytes {
        match self {
            Self::Bytes(rlp) => rlp.clone(),
            Self::Object(header) => alloy_rlp::encode(header).into(),
        }
    }
}

/// A block as somebody described it.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) header: Sealed<Header>,
    pub(crate) rlp: Bytes,
    pub(crate) witness: Witness,
}

/// Which rule ties the first block to the state it runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parent<'p> {
    /// The parent's header, which must be in the witness.
    Header,
    /// Taken on trust, for executions that are never proven.
    Assumed(&'p AssumedParent),
}

/// The header of a block given as RLP; the program checks the rest.
pub(crate) fn header_of(block: &[u8]) -> Result<Sealed<Header>, alloy_rlp::Error> {
    let mut rest = block;
    let mut body = alloy_rlp::Header::decode_bytes(&mut rest, true)?;
    Ok(Sealed::new(Header::decode(&mut body)?))
}

/// Makes one batch of consecutive blocks and executes it. `claims` must not be empty.
pub(crate) fn prepare(
    rules: Rules<'_>,
    claims: &[Claim],
    parent: Parent<'_>,
    culprit: &ErrorSource,
) -> Result<Prepared, Error> {
    let first = &claims[0].header;
    claims.iter().try_for_each(|claim| check_types(rules.config, claim, culprit))?;
    let refused = |reason| refusal(culprit, first.number, reason);
    let (headers, parent_root) = ancestors(claims);
    let pre_state_root = match (parent, parent_root) {
        (Parent::Assumed(parent), _) => parent.state_root,
        (Parent::Header, Some(root)) => root,
        (Parent::Header, None) => {
            return Err(refused(program::Error::MissingParent { number: first.number }));
        }
    };
    // A set, so that blocks share items, and a node may list them in any order.
    let codes: BTreeSet<&Bytes> = claims.iter().flat_map(|claim| &claim.witness.codes).collect();
    let input = Input {
        config: rules.config.clone(),
        terms: rules.terms,
        headers,
        blocks: claims.iter().map(|claim| claim.rlp.clone()).collect(),
        codes: codes.into_iter().filter(|code| !code.is_empty()).cloned().collect(),
        nodes: claims.iter().flat_map(|claim| &claim.witness.state).cloned().collect(),
    };
    let input = input.encode(pre_state_root).map_err(refused)?;
    // SOUNDNESS of what we enqueue: what is said about the blocks holds because it was executed here.
    let run = match parent {
        Parent::Header => {
            program::run_counted(&input).map(|(run, counts)| (run, cost::estimate(&counts)))
        }
        Parent::Assumed(parent) => program::run_assuming_parent(&input, parent.clone())
            .map(|run| (run, Estimate::default())),
    };
    let (Outcome { statement, blocks, .. }, estimate) = run.map_err(refused)?;
    let deposits = match rules.config.bridge {
        true => Some(deposits(claims).map_err(refused)?),
        false => None,
    };
    Ok(Prepared { input, statement, blocks, deposits, estimate })
}

/// The withdrawals of blocks, in order.
fn deposits(claims: &[Claim]) -> Result<Vec<Withdrawal>, program::Error> {
    let mut all = Vec::new();
    for claim in claims {
        let block = DecodedBlock::decode(&claim.rlp)
            .map_err(|violation| violation.in_block(claim.header.number))?;
        all.extend(block.body.withdrawals.iter().flatten().copied());
    }
    Ok(all)
}

/// Refuses what the program would refuse without saying which kind it is, and blobs where they are off.
fn check_types(config: &ChainConfig, claim: &Claim, culprit: &ErrorSource) -> Result<(), Error> {
    let block = claim.header.number;
    if let Some((index, kind)) = unknown_type(&claim.rlp) {
        return Err(Error::UnknownTransaction { culprit: culprit.clone(), block, index, kind });
    }
    let used = claim.header.blob_gas_used.unwrap_or_default();
    if used > 0 && genesis::blobs_are_off(config, claim.header.timestamp) {
        let violation = Violation::BlobGasAboveLimit { used, limit: 0 };
        return Err(refusal(culprit, block, violation.in_block(block)));
    }
    Ok(())
}

/// The position and type of the first transaction of a block's RLP whose type Ethereum does not have up to Osaka. What
/// else is wrong with the RLP, the program says.
pub(crate) fn unknown_type(mut block: &[u8]) -> Option<(usize, u8)> {
    let mut body = alloy_rlp::Header::decode_bytes(&mut block, true).ok()?;
    alloy_rlp::Header::decode_bytes(&mut body, true).ok()?;
    let mut transactions = alloy_rlp::Header::decode_bytes(&mut body, true).ok()?;
    for index in 0.. {
        if transactions.is_empty() {
            break;
        }
        let item = alloy_rlp::Header::decode(&mut transactions).ok()?;
        let bytes = transactions.split_off(..item.payload_length)?;
        if !item.list
            && let Some(kind) = bytes.first().filter(|kind| **kind > LAST_TYPE)
        {
            return Some((index, *kind));
        }
    }
    None
}

/// The chain of headers that ends in the first block's parent, oldest first, and that parent's state root.
/// Headers that do not link are left out.
fn ancestors(claims: &[Claim]) -> (Vec<Bytes>, Option<B256>) {
    let given: B256Map<(Header, Bytes)> =
        claims.iter().flat_map(|claim| claim.witness.headers_by_hash()).collect();
    let mut chain = Vec::new();
    let mut next = claims[0].header.parent_hash;
    while let Some((header, rlp)) = given.get(&next)
        && chain.len() < MAX_ANCESTORS
    {
        chain.push(rlp.clone());
        next = header.parent_hash;
    }
    chain.reverse();
    (chain, given.get(&claims[0].header.parent_hash).map(|(parent, _)| parent.state_root))
}

pub(crate) fn refusal(culprit: &ErrorSource, block: u64, reason: program::Error) -> Error {
    use program::{Error as Reason, trie::TrieError};
    let culprit = culprit.clone();
    match reason {
        Reason::MissingParent { .. }
        | Reason::MissingHeader { .. }
        | Reason::MissingCode { .. }
        | Reason::Trie(TrieError::MissingNode { .. }) => {
            Error::Incomplete { culprit, block, missing: reason }
        }
        // Of several blocks, it says which.
        Reason::Block { number, .. } | Reason::Execution { number, .. } => {
            Error::Refused { culprit, block: number, reason }
        }
        reason => Error::Refused { culprit, block, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(transactions: &[&[u8]]) -> Vec<u8> {
        let list = |items: Vec<u8>| {
            let mut rlp = Vec::new();
            alloy_rlp::Header { list: true, payload_length: items.len() }.encode(&mut rlp);
            rlp.extend(items);
            rlp
        };
        let transactions = transactions.concat();
        list([list(vec![]), list(transactions), list(vec![])].concat())
    }

    #[test]
    fn a_transaction_of_an_unknown_type_is_named_with_it() {
        let (legacy, typed): (&[u8], &[u8]) = (&[0xc1, 0x80], &[0x82, 0x02, 0xc0]);
        assert_eq!(unknown_type(&block(&[legacy, typed])), None);
        assert_eq!(unknown_type(&block(&[legacy, &[0x82, 0x7e, 0xc0], typed])), Some((1, 0x7e)));
        assert_eq!(unknown_type(&block(&[&[0x05]])), Some((0, 5)));
        for cut in [&[][..], &[0xc0], &[0xff], &block(&[typed])[..4]] {
            assert_eq!(unknown_type(cut), None);
        }
    }
}
