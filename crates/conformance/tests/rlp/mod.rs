//! A block's RLP, decoded down to the last field and encoded again.

use alloy_rlp::Header;

/// An RLP item; a typed transaction is decoded too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rlp {
    /// A string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Rlp>),
    /// A string that holds a transaction type and a list (EIP-2718).
    Typed(u8, Vec<Rlp>),
}

/// One way to change a string.
pub(crate) type Change = fn(&[u8]) -> Vec<u8>;

/// The changes that every field goes through.
pub(crate) const CHANGES: [Change; 5] = [
    // The next number.
    |bytes| {
        let mut bytes = bytes.to_vec();
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return bytes;
            }
        }
        bytes.insert(0, 1);
        bytes
    },
    // The empty string.
    |_| Vec::new(),
    // All bits set.
    |bytes| vec![0xff; bytes.len().max(1)],
    // One byte less.
    |bytes| bytes.get(1..).unwrap_or_default().to_vec(),
    // A leading zero.
    |bytes| [&[0], bytes].concat(),
];

impl Rlp {
    /// Decodes an item.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let item = Self::next(&mut rest)?;
        rest.is_empty().then_some(item)
    }

    fn next(rest: &mut &[u8]) -> Option<Self> {
        let header = Header::decode(rest).ok()?;
        let (payload, after) = rest.split_at_checked(header.payload_length)?;
        *rest = after;
        if header.list {
            return Some(Self::List(Self::all(payload)?));
        }
        // No field of a block starts like this and is not a typed transaction: strings of fields are shorter.
        if let [kind @ 1..=4, inner @ ..] = payload
            && inner.len() > 60
            && let Some(Self::List(fields)) = Self::decode(inner)
        {
            return Some(Self::Typed(*kind, fields));
        }
        Some(Self::Bytes(payload.to_vec()))
    }

    fn all(mut rest: &[u8]) -> Option<Vec<Self>> {
        let mut items = Vec::new();
        while !rest.is_empty() {
            items.push(Self::next(&mut rest)?);
        }
        Some(items)
    }

    /// The item's encoding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let payload = self.payload();
        match self {
            Self::List(_) => {
                let mut out = Vec::new();
                Header { list: true, payload_length: payload.len() }.encode(&mut out);
                out.extend(payload);
                out
            }
            Self::Bytes(_) | Self::Typed(..) => alloy_rlp::encode(payload.as_slice()),
        }
    }

    /// The payload of the encoding.
    pub(crate) fn payload(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::List(items) => items.iter().flat_map(Self::encode).collect(),
            Self::Typed(kind, fields) => {
                [vec![*kind], Self::List(fields.clone()).encode()].concat()
            }
        }
    }

    /// Paths to all strings, and to all empty lists.
    pub(crate) fn leaves(&self) -> Vec<Vec<usize>> {
        match self {
            Self::List(items) | Self::Typed(_, items) if !items.is_empty() => items
                .iter()
                .enumerate()
                .flat_map(|(index, item)| {
                    item.leaves().into_iter().map(move |path| [vec![index], path].concat())
                })
                .collect(),
            _ => vec![Vec::new()],
        }
    }

    /// The item with the leaf at `path` changed; `None` if it stays the same.
    pub(crate) fn changed(&self, path: &[usize], change: Change) -> Option<Self> {
        let mut changed = self.clone();
        let mut item = &mut changed;
        for index in path {
            let (Self::List(items) | Self::Typed(_, items)) = item else { return None };
            item = items.get_mut(*index)?;
        }
        *item = match item {
            Self::Bytes(bytes) => Self::Bytes(change(bytes)),
            // An empty list gets a string, which no list here may contain.
            Self::List(_) | Self::Typed(..) => Self::List(vec![Self::Bytes(change(&[]))]),
        };
        (changed != *self).then_some(changed)
    }
}

/// Names the field at `path` of a block.
pub(crate) fn describe(block: &Rlp, path: &[usize]) -> String {
    const HEADER: [&str; 21] = [
        "parentHash",
        "ommersHash",
        "beneficiary",
        "stateRoot",
        "transactionsRoot",
        "receiptsRoot",
        "logsBloom",
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "extraData",
        "prevRandao",
        "nonce",
        "baseFeePerGas",
        "withdrawalsRoot",
        "blobGasUsed",
        "excessBlobGas",
        "parentBeaconBlockRoot",
        "requestsHash",
    ];
    const LEGACY: [&str; 9] =
        ["nonce", "gasPrice", "gasLimit", "to", "value", "data", "v", "r", "s"];
    const ACCESS_LIST: [&str; 11] = [
        "chainId",
        "nonce",
        "gasPrice",
        "gasLimit",
        "to",
        "value",
        "data",
        "accessList",
        "yParity",
        "r",
        "s",
    ];
    const FEE_MARKET: [&str; 12] = [
        "chainId",
        "nonce",
        "maxPriorityFeePerGas",
        "maxFeePerGas",
        "gasLimit",
        "to",
        "value",
        "data",
        "accessList",
        "yParity",
        "r",
        "s",
    ];
    const SET_CODE: [&str; 13] = [
        "chainId",
        "nonce",
        "maxPriorityFeePerGas",
        "maxFeePerGas",
        "gasLimit",
        "to",
        "value",
        "data",
        "accessList",
        "authorizationList",
        "yParity",
        "r",
        "s",
    ];
    const WITHDRAWAL: [&str; 4] = ["index", "validatorIndex", "address", "amount"];
    match path {
        [0, field] => format!("header {}", HEADER[*field]),
        [1, index, field, ..] => {
            let Rlp::List(items) = block else { panic!("a block is a list") };
            let Rlp::List(transactions) = &items[1] else { panic!("transactions are a list") };
            match &transactions[*index] {
                Rlp::Typed(1, _) => format!("transaction {}", ACCESS_LIST[*field]),
                Rlp::Typed(2, _) => format!("transaction {}", FEE_MARKET[*field]),
                Rlp::Typed(4, _) => format!("transaction {}", SET_CODE[*field]),
                Rlp::Typed(kind, _) => format!("transaction of type {kind}, field {field}"),
                _ => format!("transaction {}", LEGACY[*field]),
            }
        }
        [1] => "transactions: none, then one that is no transaction".into(),
        [2, ..] => "ommers".into(),
        [3, _, field] => format!("withdrawal {}", WITHDRAWAL[*field]),
        [3] => "withdrawals: none, then one that is no withdrawal".into(),
        other => panic!("no field of a block is at {other:?}"),
    }
}
