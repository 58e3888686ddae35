//! A block may be invalid for two reasons at once, of which a test names one.

use alloy_consensus::EMPTY_ROOT_HASH;
use alloy_primitives::Bytes;
use alloy_rlp::Decodable;
use conformance::{Failure, Fixture, Network, check, fixture, source};
use program::Block;
use std::path::PathBuf;

/// Fixtures of the fixed set of scenarios.
fn fixtures() -> Vec<Fixture> {
    let archive = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios.tar.zst");
    let mut fixtures = Vec::new();
    source::read(&[archive], &mut |file| {
        fixtures.extend(fixture::parse(&file).unwrap().into_values());
        true
    })
    .unwrap();
    fixtures
}

/// The block with the root of no transactions; `None` if it has none, or cannot be read.
fn with_no_transactions_root(rlp: &Bytes) -> Option<Bytes> {
    let mut block = Block::decode(&mut rlp.as_ref()).ok()?;
    if block.body.transactions.is_empty() {
        return None;
    }
    block.header.transactions_root = EMPTY_ROOT_HASH;
    Some(alloy_rlp::encode(&block).into())
}

#[test]
fn a_second_reason_is_right_if_the_named_one_is_true() {
    let mut seen = 0;
    for mut fixture in fixtures() {
        let network = Network::parse(&fixture.network).unwrap();
        let mut changed = false;
        for block in &mut fixture.blocks {
            let named = block.expect_exception.as_deref().unwrap_or_default();
            if named.starts_with("TransactionException.")
                && let Some(rlp) = with_no_transactions_root(&block.rlp)
            {
                block.rlp = rlp;
                changed = true;
                seen += 1;
            }
        }
        if changed {
            check(&fixture, network, None).unwrap();
        }
    }
    assert!(seen > 20, "{seen} blocks");
}

#[test]
fn a_second_reason_is_no_excuse_for_a_named_one_that_is_not_true() {
    let mut seen = 0;
    for mut fixture in fixtures() {
        let network = Network::parse(&fixture.network).unwrap();
        fixture.blocks.truncate(1);
        let block = &mut fixture.blocks[0];
        if block.expect_exception.is_none()
            && let Some(rlp) = with_no_transactions_root(&block.rlp)
        {
            let header = Block::decode(&mut rlp.as_ref()).unwrap().header;
            block.rlp = rlp;
            block.expect_exception = Some("TransactionException.NONCE_MISMATCH_TOO_LOW".into());
            fixture.last_block_hash = header.parent_hash;
            let failure = check(&fixture, network, None).unwrap_err();
            assert!(matches!(failure, Failure::Accepted { .. }), "{failure}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} blocks");
}
