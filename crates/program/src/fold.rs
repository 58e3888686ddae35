//! Folding: the statements of consecutive batches become one statement about all of them.
//!
//! A guest of its own verifies a proof of each statement, folds them with [`fold`], and commits to the result, so that one proof
//! stands for many batches. Every field of a statement is therefore the first batch's, the last batch's, the same in all, or a
//! sum or digest that is made of the batches' own.

use crate::{Statement, statement};
use alloc::{boxed::Box, vec::Vec};
use alloy_primitives::{B256, keccak256};

/// The most statements that are folded at once.
pub const MAX_MEMBERS: usize = 1024;

/// Length of an encoded [`Member`] in bytes.
const MEMBER_LEN: usize = statement::ENCODED_LEN + 64;

/// A batch to be folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What its proof states.
    pub statement: Statement,
    /// The first and the last link of its [chain of deposits](statement::DepositsChain), of which the statement has the digest.
    /// Both are zero, and unused, without a bridge.
    pub deposits: [B256; 2],
}

/// Why statements cannot be folded. An index counts the statements from zero.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// The bytes are no encoded members.
    #[error("the statements to be folded are malformed: {0}")]
    Malformed(&'static str),
    /// One of the statements is none.
    #[error("statement {index} cannot be read: {error}")]
    Statement {
        /// Which.
        index: usize,
        /// Why.
        error: Box<crate::Error>,
    },
    /// There are none, or too many.
    #[error("{0} statements cannot be folded: at least 1, at most {MAX_MEMBERS}")]
    Count(usize),
    /// A batch does not continue the one before it.
    #[error("batch {index} does not continue the one before it: its {what} differs")]
    Broken {
        /// The later one.
        index: usize,
        /// What does not fit.
        what: &'static str,
    },
    /// The links are not those of which the statement has the digest.
    #[error("the links of the deposits of batch {0} are not those of its statement")]
    Deposits(usize),
    /// The deposits are more than can be counted.
    #[error("the deposits are more than can be counted")]
    TooManyDeposits,
}

/// What is true of all batches together, if what each statement says is true.
///
/// # Errors
/// [`FoldError`]: the statements are not of consecutive batches of one chain, in order, that reward the same beneficiary.
pub fn fold(members: &[Member]) -> Result<Statement, FoldError> {
    let ([first, ..], [.., last]) = (members, members) else {
        return Err(FoldError::Count(0));
    };
    if members.len() > MAX_MEMBERS {
        return Err(FoldError::Count(members.len()));
    }
    let (whole, end) = (&first.statement, &last.statement);
    let bridge = !whole.deposits_digest.is_zero();
    let mut deposits_count = 0_u64;
    for (index, Member { statement, deposits: [start, link] }) in members.iter().enumerate() {
        let broken = |what| Err(FoldError::Broken { index, what });
        // SOUNDNESS: all of them ran under the rules that the result names.
        if statement.chain_config_digest != whole.chain_config_digest {
            return broken("chain config");
        }
        // SOUNDNESS: the reward of one batch is not claimed by who proved another.
        if statement.beneficiary != whole.beneficiary {
            return broken("beneficiary");
        }
        // SOUNDNESS: the links are those that the batch's own proof bound; otherwise deposits could be left out or made up.
        let digest = if bridge { digest(start, link) } else { B256::ZERO };
        if statement.deposits_digest != digest {
            return Err(FoldError::Deposits(index));
        }
        // SOUNDNESS: a sum that wraps would state fewer deposits than there are.
        deposits_count = deposits_count
            .checked_add(statement.deposits_count)
            .ok_or(FoldError::TooManyDeposits)?;
        let Some(before) = index.checked_sub(1).map(|before| &members[before]) else { continue };
        // SOUNDNESS: each batch begins right after the block with which the one before it ended, ...
        if statement.parent_hash != before.statement.last_hash {
            return broken("parent hash");
        }
        // SOUNDNESS: ... which says the same of its number ...
        if before.statement.last_number.checked_add(1) != Some(statement.first_number) {
            return broken("first block");
        }
        // SOUNDNESS: ... and of its state.
        if statement.pre_state_root != before.statement.post_state_root {
            return broken("state root");
        }
        // SOUNDNESS: the chain of deposits goes on where it ended, so that none is consumed twice or left out.
        if bridge && *start != before.deposits[1] {
            return broken("first link of the deposits");
        }
    }
    Ok(Statement {
        version: statement::VERSION,
        chain_config_digest: whole.chain_config_digest,
        parent_hash: whole.parent_hash,
        last_hash: end.last_hash,
        first_number: whole.first_number,
        last_number: end.last_number,
        pre_state_root: whole.pre_state_root,
        post_state_root: end.post_state_root,
        deposits_digest: if bridge {
            digest(&first.deposits[0], &last.deposits[1])
        } else {
            B256::ZERO
        },
        deposits_count,
        messages_root: B256::ZERO,
        last_timestamp: end.last_timestamp,
        data_commitment: B256::ZERO,
        beneficiary: whole.beneficiary,
    })
}

/// As [`DepositsChain::digest`](statement::DepositsChain::digest).
fn digest(start: &B256, link: &B256) -> B256 {
    keccak256([start.0, link.0].concat())
}

/// What the guest reads: of each member the statement, as it is committed to, and its two links.
pub fn encode(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(members.len() * MEMBER_LEN);
    for Member { statement, deposits: [start, link] } in members {
        bytes.extend(statement.abi_encode());
        bytes.extend(start.0);
        bytes.extend(link.0);
    }
    bytes
}

/// Reads what [`encode`] writes: each member with the bytes of its statement, which are what its proof commits to.
///
/// # Errors
/// [`FoldError::Malformed`], [`FoldError::Count`] or [`FoldError::Statement`].
pub fn decode(bytes: &[u8]) -> Result<Vec<(&[u8], Member)>, FoldError> {
    if !bytes.len().is_multiple_of(MEMBER_LEN) {
        return Err(FoldError::Malformed("not a whole number of them"));
    }
    let count = bytes.len() / MEMBER_LEN;
    if count == 0 || count > MAX_MEMBERS {
        return Err(FoldError::Count(count));
    }
    let mut members = Vec::with_capacity(count);
    for (index, bytes) in bytes.chunks_exact(MEMBER_LEN).enumerate() {
        let (bytes, links) = bytes.split_at(statement::ENCODED_LEN);
        let (start, link) = links.split_at(32);
        let statement = Statement::abi_decode(bytes)
            .map_err(|error| FoldError::Statement { index, error: Box::new(error) })?;
        let deposits = [B256::from_slice(start), B256::from_slice(link)];
        members.push((bytes, Member { statement, deposits }));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::DepositsChain;
    use alloc::vec;
    use alloy_eips::eip4895::Withdrawal;
    use alloy_primitives::Address;

    /// Three consecutive batches of two blocks each, with three deposits if the chain has a bridge.
    fn batches(bridge: bool) -> Vec<Member> {
        let mut link = B256::repeat_byte(0xdd);
        (0..3)
            .map(|n: u8| {
                let start = link;
                let mut chain = DepositsChain::new(start);
                for index in 0..3 {
                    let amount = 1 + u64::from(n);
                    let to = Address::repeat_byte(n);
                    chain.push(&Withdrawal { index, validator_index: 0, address: to, amount });
                }
                link = chain.link();
                let statement = Statement {
                    version: statement::VERSION,
                    chain_config_digest: B256::repeat_byte(0xcc),
                    parent_hash: B256::repeat_byte(0x10 + n),
                    last_hash: B256::repeat_byte(0x11 + n),
                    first_number: 7 + 2 * u64::from(n),
                    last_number: 8 + 2 * u64::from(n),
                    pre_state_root: B256::repeat_byte(0x20 + n),
                    post_state_root: B256::repeat_byte(0x21 + n),
                    deposits_digest: if bridge { chain.digest() } else { B256::ZERO },
                    deposits_count: if bridge { chain.count() } else { 0 },
                    messages_root: B256::ZERO,
                    last_timestamp: 1_000 + u64::from(n),
                    data_commitment: B256::ZERO,
                    beneficiary: Address::repeat_byte(0xbe),
                };
                let deposits = if bridge { [start, link] } else { [B256::ZERO; 2] };
                Member { statement, deposits }
            })
            .collect()
    }

    #[test]
    fn the_whole_is_what_one_batch_of_all_blocks_would_state() {
        for bridge in [false, true] {
            let members = batches(bridge);
            let whole = fold(&members).unwrap();
            let mut chain = DepositsChain::new(members[0].deposits[0]);
            for n in 0..3_u8 {
                for index in 0..3 {
                    let (address, amount) = (Address::repeat_byte(n), 1 + u64::from(n));
                    chain.push(&Withdrawal { index, validator_index: 0, address, amount });
                }
            }
            let expected = Statement {
                last_hash: B256::repeat_byte(0x13),
                last_number: 12,
                post_state_root: B256::repeat_byte(0x23),
                last_timestamp: 1_002,
                deposits_digest: if bridge { chain.digest() } else { B256::ZERO },
                deposits_count: if bridge { 9 } else { 0 },
                ..members[0].statement.clone()
            };
            assert_eq!(whole, expected);
            assert_eq!(Statement::abi_decode(&whole.abi_encode()).unwrap(), whole);
        }
    }

    #[test]
    fn one_batch_is_folded_to_its_own_statement() {
        for bridge in [false, true] {
            let one = &batches(bridge)[..1];
            assert_eq!(fold(one).unwrap(), one[0].statement);
        }
    }

    #[test]
    fn folding_goes_on_from_what_was_folded() {
        let members = batches(true);
        let begun = fold(&members[..2]).unwrap();
        let deposits = [members[0].deposits[0], members[1].deposits[1]];
        let rest = [Member { statement: begun, deposits }, members[2].clone()];
        assert_eq!(fold(&rest), fold(&members));
    }

    #[test]
    fn what_is_encoded_is_read_and_nothing_else() {
        let members = batches(true);
        let bytes = encode(&members);
        let read = decode(&bytes).unwrap();
        assert!(read.iter().map(|(_, member)| member).eq(&members));
        assert!(
            read.iter().zip(&members).all(|((bytes, _), it)| **bytes == it.statement.abi_encode())
        );
        assert_eq!(decode(&[]), Err(FoldError::Count(0)));
        assert_eq!(decode(&vec![0; MEMBER_LEN * (MAX_MEMBERS + 1)]), Err(FoldError::Count(1025)));
        for len in [1, MEMBER_LEN - 1, MEMBER_LEN + 1] {
            assert!(matches!(decode(&vec![0; len]), Err(FoldError::Malformed(_))), "{len}");
        }
        let mut bad = bytes.clone();
        bad[MEMBER_LEN + 31] ^= 1; // the version of the second
        assert!(matches!(decode(&bad), Err(FoldError::Statement { index: 1, .. })));
    }

    /// Changes the second of three batches.
    fn spoilt(bridge: bool, spoil: impl FnOnce(&mut Member)) -> Result<Statement, FoldError> {
        let mut members = batches(bridge);
        spoil(&mut members[1]);
        fold(&members)
    }

    fn broken(index: usize, what: &'static str) -> Result<Statement, FoldError> {
        Err(FoldError::Broken { index, what })
    }

    #[test]
    fn too_few_or_too_many_are_not_folded() {
        assert_eq!(fold(&[]), Err(FoldError::Count(0)));
        let many = vec![batches(false)[0].clone(); MAX_MEMBERS + 1];
        assert_eq!(fold(&many), Err(FoldError::Count(MAX_MEMBERS + 1)));
    }

    #[test]
    fn a_batch_under_other_rules_is_not_folded() {
        let other = |it: &mut Member| it.statement.chain_config_digest = B256::ZERO;
        assert_eq!(spoilt(false, other), broken(1, "chain config"));
    }

    #[test]
    fn a_batch_of_another_beneficiary_is_not_folded() {
        let other = |it: &mut Member| it.statement.beneficiary = Address::ZERO;
        assert_eq!(spoilt(false, other), broken(1, "beneficiary"));
    }

    #[test]
    fn a_batch_on_another_block_is_not_folded() {
        let other = |it: &mut Member| it.statement.parent_hash = B256::ZERO;
        assert_eq!(spoilt(false, other), broken(1, "parent hash"));
    }

    #[test]
    fn a_gap_a_swap_and_a_batch_twice_are_not_folded() {
        for bridge in [false, true] {
            let members = batches(bridge);
            let of = |these: &[usize]| {
                fold(&these.iter().map(|at| members[*at].clone()).collect::<Vec<_>>())
            };
            for these in [&[0, 2][..], &[1, 0], &[0, 2, 1], &[0, 0], &[0, 1, 1, 2], &[2, 1, 0]] {
                assert!(matches!(of(these), Err(FoldError::Broken { .. })), "{these:?}");
            }
        }
        // Numbers that do not follow, although the hashes do.
        let later = |it: &mut Member| it.statement.first_number += 1;
        assert_eq!(spoilt(false, later), broken(1, "first block"));
        let mut members = batches(false);
        members[1].statement.last_number = u64::MAX;
        members[2].statement.first_number = 0;
        assert_eq!(fold(&members), broken(2, "first block"));
    }

    #[test]
    fn a_batch_on_another_state_is_not_folded() {
        let other = |it: &mut Member| it.statement.pre_state_root = B256::ZERO;
        assert_eq!(spoilt(false, other), broken(1, "state root"));
    }

    #[test]
    fn links_that_the_statement_does_not_bind_are_refused() {
        for link in [0, 1] {
            let other = |it: &mut Member| it.deposits[link] = B256::ZERO;
            assert_eq!(spoilt(true, other), Err(FoldError::Deposits(1)));
        }
        // A batch with a bridge among others without one, and the other way round.
        let bridged = batches(true)[1].clone();
        let plain = |it: &mut Member| *it = bridged.clone();
        assert_eq!(spoilt(false, plain), Err(FoldError::Deposits(1)));
        let bare = batches(false)[1].clone();
        assert_eq!(spoilt(true, |it| *it = bare.clone()), Err(FoldError::Deposits(1)));
    }

    #[test]
    fn deposits_that_do_not_go_on_where_they_ended_are_not_folded() {
        let elsewhere = |it: &mut Member| {
            it.deposits[0] = B256::ZERO;
            it.statement.deposits_digest = digest(&it.deposits[0], &it.deposits[1]);
        };
        assert_eq!(spoilt(true, elsewhere), broken(1, "first link of the deposits"));
    }

    #[test]
    fn deposits_that_cannot_be_counted_are_refused() {
        let many = |it: &mut Member| it.statement.deposits_count = u64::MAX - 2;
        assert_eq!(spoilt(true, many), Err(FoldError::TooManyDeposits));
    }
}
