//! What the contract compares a statement with, compared here first: a refusal names the field, and costs nothing.

use crate::contract::{Head, IRollup, Policy, Proof};
use alloy_primitives::{Address, B256, b256, keccak256};
use alloy_sol_types::SolCall as _;
use program::Statement;
use protocol::JobProof;
use std::collections::BTreeSet;

/// A block may be so many seconds ahead of L1.
const AHEAD: u64 = 15 * 60;

/// What L1 says that a statement is compared with.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The contract's head.
    pub head: Head,
    /// Its policy.
    pub policy: Policy,
    /// The timestamp of L1's block.
    pub time: u64,
    /// The chain of deposits' link after the batch, if L1 has so many deposits.
    pub link: Option<B256>,
    /// When the first deposit was made that the batch leaves; zero if there is none. Or why the contract has no such link.
    pub next_deposit: Result<u64, String>,
}

/// A field, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in the statement, or what else is compared.
    pub name: &'static str,
    /// What the batch has.
    pub ours: String,
    /// What L1 has, or allows.
    pub l1: String,
    /// Whether they fit.
    pub fits: bool,
}

/// L1 would refuse the batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("L1 would refuse it: {name} is {ours}, and L1 has {l1}")]
pub struct Refusal {
    /// What does not fit.
    pub name: &'static str,
    /// What the batch has.
    pub ours: String,
    /// What L1 has, or allows.
    pub l1: String,
}

/// The first field that does not fit.
///
/// # Errors
/// [`Refusal`] if there is one.
pub fn refused(fields: &[Field]) -> Result<(), Refusal> {
    match fields.iter().find(|field| !field.fits) {
        None => Ok(()),
        Some(Field { name, ours, l1, .. }) => {
            Err(Refusal { name, ours: ours.clone(), l1: l1.clone() })
        }
    }
}

/// Each field of a statement, beside what L1 has.
pub fn fields(statement: &Statement, facts: &Facts) -> Vec<Field> {
    let Facts { head, policy, time, link, next_deposit } = facts;
    let equal = |name, ours: &dyn ToString, l1: &dyn ToString| {
        let (ours, l1) = (ours.to_string(), l1.to_string());
        Field { name, fits: ours == l1, ours, l1 }
    };
    let any = |name, ours: &dyn ToString| Field {
        name,
        ours: ours.to_string(),
        l1: "any".to_owned(),
        fits: true,
    };
    let digest = link.map(|link| keccak256([head.link.0, link.0].concat()));
    let no_bridge = statement.deposits_digest.is_zero();
    vec![
        equal("version", &statement.version, &program::statement::VERSION),
        equal("chainConfigDigest", &statement.chain_config_digest, &policy.chainConfigDigest),
        equal("parentHash", &statement.parent_hash, &head.hash),
        any("lastHash", &statement.last_hash),
        equal("firstNumber", &statement.first_number, &head.number.saturating_add(1)),
        Field {
            name: "lastNumber",
            ours: statement.last_number.to_string(),
            l1: format!("{} or more", statement.first_number),
            fits: statement.last_number >= statement.first_number,
        },
        equal("preStateRoot", &statement.pre_state_root, &head.stateRoot),
        any("postStateRoot", &statement.post_state_root),
        Field {
            name: "depositsDigest",
            ours: statement.deposits_digest.to_string(),
            l1: match digest {
                _ if no_bridge => "one of a chain with a bridge".to_owned(),
                Some(digest) => digest.to_string(),
                None => "fewer deposits than the batch consumes".to_owned(),
            },
            fits: !no_bridge && digest == Some(statement.deposits_digest),
        },
        {
            let (l1, fits) = match next_deposit {
                Err(says) => (says.clone(), false),
                Ok(at) if *at != 0 && at.saturating_add(policy.window) < *time => {
                    (format!("more: the next one is of {at}, and overdue"), false)
                }
                Ok(_) => ("none is overdue".to_owned(), true),
            };
            Field { name: "depositsCount", ours: statement.deposits_count.to_string(), l1, fits }
        },
        equal("messagesRoot", &statement.messages_root, &B256::ZERO),
        Field {
            name: "lastTimestamp",
            ours: statement.last_timestamp.to_string(),
            l1: format!("at most {}", time.saturating_add(AHEAD)),
            fits: statement.last_timestamp <= time.saturating_add(AHEAD),
        },
        equal("dataCommitment", &statement.data_commitment, &B256::ZERO),
        any("beneficiary", &statement.beneficiary),
    ]
}

/// Who has to send, beside who does. The contract decides: once a deposit is overdue, anybody may.
pub fn sequencer(policy: &Policy, wallet: Address) -> Field {
    Field {
        name: "sequencer",
        ours: wallet.to_string(),
        l1: policy.sequencer.to_string(),
        fits: true,
    }
}

/// What a policy calls the program of the exec prover: no contract takes an id of zero, which it has elsewhere.
pub const EXEC_PROGRAM_ID: B256 =
    b256!("657865633a2070726f766573206e6f7468696e67000000000000000000000000");

/// What a policy calls a program.
fn id_on_l1(program_id: B256) -> B256 {
    if program_id.is_zero() { EXEC_PROGRAM_ID } else { program_id }
}

/// As many proofs as the policy wants, of different families, each with the place of its system.
///
/// # Errors
/// [`Refusal`] if there are not enough.
pub fn choose<'p>(
    policy: &Policy,
    proofs: &'p [JobProof],
) -> Result<Vec<(u8, &'p JobProof)>, Refusal> {
    let (mut chosen, mut families) = (Vec::new(), BTreeSet::new());
    for (place, system) in (0..=u8::MAX).zip(&policy.systems) {
        let proof = proofs.iter().find(|proof| id_on_l1(proof.program_id) == system.programId);
        if let Some(proof) = proof
            && chosen.len() < usize::from(policy.threshold)
            && families.insert(system.family)
        {
            chosen.push((place, proof));
        }
    }
    if chosen.is_empty() || chosen.len() < usize::from(policy.threshold) {
        // An RPC may say anything, and this is logged.
        let ids = |mut ids: Vec<String>| {
            ids.truncate(8);
            if ids.is_empty() { "none".into() } else { ids.join(", ") }
        };
        let systems = policy.systems.iter().map(|system| system.programId.to_string()).collect();
        return Err(Refusal {
            name: "programId",
            ours: ids(proofs.iter().map(|proof| id_on_l1(proof.program_id).to_string()).collect()),
            l1: format!("{} of {}", policy.threshold.max(1), ids(systems)),
        });
    }
    Ok(chosen)
}

/// What the contract is called with.
pub fn call(values: Vec<u8>, link: B256, proofs: Vec<(u8, Vec<u8>)>) -> Vec<u8> {
    let proofs = proofs.into_iter().map(|(system, data)| Proof { system, data: data.into() });
    IRollup::settleCall { values: values.into(), link, proofs: proofs.collect() }.abi_encode()
}

/// What the contract `DangerMock` takes for a run that nothing proves.
pub fn mock(program_id: B256, values: &[u8]) -> Vec<u8> {
    let program_id = id_on_l1(program_id);
    [b"DANGER: proves nothing".as_slice(), &program_id[..], &keccak256(values)[..]].concat()
}

#[cfg(test)]
mod tests;
