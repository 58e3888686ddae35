//! Declared lengths that do not match the content: of the input's items, and of every kind of item in a
//! block's RLP.

use super::{
    Case, Marks,
    code::ECHO,
    power,
    scene::{GAS_PRICE, Scene, sign},
};
use alloy_consensus::{TxEip1559, TxLegacy};
use alloy_primitives::{Bytes, TxKind, U256};
use alloy_rlp::Header;
use program::Input;

/// The cases of all lengths.
pub(super) fn cases() -> Vec<Case> {
    let mut scene = Scene::osaka();
    let input = Bytes::from(vec![0x60; 64]);
    scene.transactions.push(sign(TxLegacy {
        chain_id: Some(scene.config.chain_id),
        nonce: 0,
        gas_price: GAS_PRICE,
        gas_limit: 50_000,
        to: TxKind::Call(ECHO),
        value: U256::ZERO,
        input: input.clone(),
    }));
    scene.transactions.push(sign(TxEip1559 {
        chain_id: scene.config.chain_id,
        nonce: 0,
        gas_limit: 50_000,
        max_fee_per_gas: GAS_PRICE,
        max_priority_fee_per_gas: 0,
        to: TxKind::Call(ECHO),
        value: U256::ZERO,
        access_list: Default::default(),
        input,
    }));
    let (input, root, _) = scene.input();
    let case = |name: String, input: Vec<u8>| Case { name, input, marks: Marks::default() };
    let encode =
        |input: &Input| input.encode(root).expect("the nodes are those that were recorded");

    let honest = encode(&input);
    let mut cases = vec![case("an honest encoding".into(), honest.clone())];
    for (what, at) in words(&honest) {
        for length in [1 << 16, 1 << 31, u32::MAX - 31, u32::MAX - 3, u32::MAX] {
            let mut changed = honest.clone();
            changed[at..at + 4].copy_from_slice(&length.to_le_bytes());
            cases.push(case(format!("{what} is {}", power(length)), changed));
        }
    }
    let mut declared = |what: &str, path: &[usize], in_parent: bool| {
        let rlp = if in_parent { &input.headers[0] } else { &input.blocks[0] };
        let actual = length(rlp, path);
        for bits in [31, 32, 63] {
            let edge = 1u64 << bits;
            for length in [edge - 1, edge, edge + actual.max(1)] {
                let mut input = input.clone();
                let item = if in_parent { &mut input.headers[0] } else { &mut input.blocks[0] };
                *item = with_length(rlp, path, length).into();
                cases.push(case(format!("{what} claims {} bytes", power(length)), encode(&input)));
            }
        }
        let mut input = input.clone();
        let item = if in_parent { &mut input.headers[0] } else { &mut input.blocks[0] };
        *item = with_length(rlp, path, u64::MAX).into();
        cases.push(case(format!("{what} claims {} bytes", power(u64::MAX)), encode(&input)));
    };
    declared("the parent's header", &[], true);
    declared("the parent's extra data", &[12], true);
    for (what, path) in [
        ("a block", &[][..]),
        ("a header", &[0]),
        ("a header's number", &[0, 8]),
        ("a header's extra data", &[0, 12]),
        ("the transactions", &[1]),
        ("a legacy transaction", &[1, 0]),
        ("a legacy transaction's nonce", &[1, 0, 0]),
        ("a legacy transaction's calldata", &[1, 0, 5]),
        ("a typed transaction", &[1, 1]),
        ("a typed transaction's list", &[1, 1, 0]),
        ("a typed transaction's calldata", &[1, 1, 0, 7]),
        ("a typed transaction's access list", &[1, 1, 0, 8]),
        ("the ommers", &[2]),
        ("the withdrawals", &[3]),
    ] {
        declared(what, path, false);
    }
    cases
}

/// Where an encoded input declares a length, in the order of `program::input`.
fn words(encoded: &[u8]) -> Vec<(&'static str, usize)> {
    let mut at = 4;
    let mut words = Vec::new();
    let mut word = |what, is_item: bool| {
        words.push((what, at));
        let mut length = [0; 4];
        length.copy_from_slice(&encoded[at..at + 4]);
        let length = if is_item { u32::from_le_bytes(length).next_multiple_of(4) } else { 0 };
        at += 4 + length as usize;
    };
    word("the chain config's length", true);
    word("the terms' length", true);
    word("the number of headers", false);
    word("a header's length in the input", true);
    word("the number of blocks", false);
    word("a block's length in the input", true);
    word("the hints' length", true);
    word("the number of codes", false);
    word("a code's length", true);
    words
}

/// The items inside an item. The one child of a string is the list that follows its first byte.
fn children(list: bool, payload: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let (before, mut rest) = payload.split_at(usize::from(!list));
    let mut children = Vec::new();
    while !rest.is_empty() {
        let whole = rest;
        let header = Header::decode(&mut rest).expect("the block was encoded just now");
        rest = &rest[header.payload_length..];
        children.push(&whole[..whole.len() - rest.len()]);
    }
    (before, children)
}

fn split(item: &[u8]) -> (bool, &[u8]) {
    let mut rest = item;
    let header = Header::decode(&mut rest).expect("the block was encoded just now");
    (header.list, &rest[..header.payload_length])
}

/// The length of the payload of the item at `path`.
fn length(item: &[u8], path: &[usize]) -> u64 {
    let (list, payload) = split(item);
    match path.split_first() {
        None => payload.len() as u64,
        Some((index, path)) => length(children(list, payload).1[*index], path),
    }
}

/// The item, in which the one at `path` claims to be `length` bytes long. All items around it declare their
/// true lengths.
fn with_length(item: &[u8], path: &[usize], length: u64) -> Vec<u8> {
    let (list, payload) = split(item);
    let Some((index, path)) = path.split_first() else {
        let bytes = length.to_be_bytes();
        let bytes = &bytes[length.leading_zeros() as usize / 8..];
        let long_form = if list { 0xf7 } else { 0xb7 };
        let first = long_form + u8::try_from(bytes.len()).expect("a number has 8 bytes");
        return [&[first], bytes, payload].concat();
    };
    let (before, mut items) = children(list, payload);
    let changed = with_length(items[*index], path, length);
    items[*index] = &changed;
    let payload = [before, &items.concat()].concat();
    let mut out = Vec::new();
    Header { list, payload_length: payload.len() }.encode(&mut out);
    out.extend(payload);
    out
}
