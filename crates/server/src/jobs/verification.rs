//! Whether a proof is what a job asked for. Nothing that a client says is believed.

use super::batch::{Target, Wanted};
use protocol::{PartWork, ProofKind, ProofSystem, Submit};
use verifier::{Claim, Kind, Plan, Policy, VerifyError};

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// It is of another proof system.
    #[error("the job asks for a proof of {wanted}, not of {found}")]
    WrongSystem {
        /// What the job asks for.
        wanted: ProofSystem,
        /// What the client says it is.
        found: ProofSystem,
    },
    /// It is of another program.
    #[error(
        "the job asks for program {wanted}, not for {found}: use a client of the server's version"
    )]
    WrongProgram {
        /// What the job asks for.
        wanted: alloy_primitives::B256,
        /// What the client says it is.
        found: alloy_primitives::B256,
    },
    /// The server cannot verify this proof system.
    #[error("this server cannot verify proofs of {0}")]
    Unsupported(ProofSystem),
    /// The verifier refuses it.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    /// It proves something else.
    #[error("the proof is of another statement than the server computed for these blocks")]
    WrongStatement,
    /// It is compressed less than the job asks for.
    #[error("the job asks for a {wanted} proof, not for a {found} one")]
    WrongKind {
        /// What the job asks for.
        wanted: ProofKind,
        /// What it is.
        found: Kind,
    },
    /// It does not prove the part that was asked for.
    #[error(
        "the job asks for {work} of a run of {segments} segments of at most 2^{segment_po2} cycles: {source}"
    )]
    WrongPart {
        /// What was asked for.
        work: PartWork,
        /// Segments of the run.
        segments: u32,
        /// Their size.
        segment_po2: u32,
        /// Why it is refused.
        source: VerifyError,
    },
    /// The verifier crashed on it.
    #[error("the verifier crashed on the proof")]
    Crashed,
}

/// What verifies proofs of this system, if this version can.
pub fn verifier_of(system: ProofSystem) -> Option<verifier::System> {
    // Both crates have the same names, and neither knows the other.
    system.to_string().parse().ok()
}

/// Checks a proof against what the job asks for, and returns the cycles it took if it shows them. Blocks, for as long as
/// verifying takes. `plan` is that of the run, if a part is wanted.
///
/// # Errors
/// [`Rejection`] says which check failed.
pub fn check(
    wanted: &Wanted,
    plan: Option<&Plan>,
    submit: &Submit,
    proof: &[u8],
    policy: &Policy,
) -> Result<Option<u64>, Rejection> {
    let Target { system, program_id, kind } = wanted.target;
    // SOUNDNESS: system and program are the job's; a client that has others made no proof for this job.
    if submit.system != system {
        return Err(Rejection::WrongSystem { wanted: system, found: submit.system });
    }
    // A client that is older than the revocation is told so, rather than only that it has another program.
    verifier::check_not_revoked(&submit.program_id.0)?;
    if submit.program_id != program_id {
        return Err(Rejection::WrongProgram { wanted: program_id, found: submit.program_id });
    }
    let verify_as = verifier_of(system).ok_or(Rejection::Unsupported(system))?;
    if let Some(part) = &wanted.part
        && let Some(claim) = claim(&part.of.work)
    {
        let plan = plan.expect("whoever wants a part has its plan");
        // SOUNDNESS: the part is checked against the plan that this server made by executing the program, not against what its client
        // says of its neighbours: a part that fits is one of this run.
        let checked = verifier::verify_part(verify_as, program_id.0, plan, &claim, proof, policy);
        return checked.map(|()| None).map_err(|source| Rejection::WrongPart {
            work: part.of.work,
            segments: plan.segments(),
            segment_po2: plan.segment_po2,
            source,
        });
    }
    let verified = verifier::verify(verify_as, program_id.0, proof, policy)?;
    // SOUNDNESS: the proof is of exactly the statement that this server computed from blocks it executed.
    if verified.public_values != wanted.statement {
        return Err(Rejection::WrongStatement);
    }
    let good_enough = match verified.kind {
        // Nothing can be built on one of 256 bytes, which is why it is taken for no other kind.
        Kind::Groth16 => kind == ProofKind::Groth16,
        Kind::Succinct => kind != ProofKind::Groth16,
        // The last part is the succinct proof of the whole.
        Kind::Composite => kind == ProofKind::Composite,
        // They prove nothing; the policy has let them pass by name, and they have no size to speak of.
        Kind::Exec | Kind::DevMode => true,
        _ => false,
    };
    if good_enough {
        Ok(verified.cycles)
    } else {
        Err(Rejection::WrongKind { wanted: kind, found: verified.kind })
    }
}

/// What a proof of a part has to claim; nothing of the last one, which is a proof of the whole.
fn claim(work: &PartWork) -> Option<Claim> {
    match *work {
        PartWork::Segments { first, end } | PartWork::Join { first, end } => {
            Some(Claim::Segments(first..end))
        }
        PartWork::Keccak { first, end } => Some(Claim::Keccak(first..end)),
        PartWork::Unite { end } => Some(Claim::Keccak(0..end)),
        PartWork::Finish => None,
    }
}

/// What came of a [`check`] on a thread of its own.
pub fn outcome(
    checked: Result<Result<Option<u64>, Rejection>, tokio::task::JoinError>,
) -> Result<Option<u64>, Rejection> {
    // SOUNDNESS: a verifier that panics has not accepted anything.
    checked.unwrap_or(Err(Rejection::Crashed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use protocol::{ArtifactRef, ClientId, LeaseId};

    const STATEMENT: [u8; 448] = [7; 448];

    fn submit(system: ProofSystem, program_id: B256) -> Submit {
        Submit {
            client: ClientId::from_bytes([1; 16]),
            lease: LeaseId::from_bytes([2; 16]),
            system,
            program_id,
            kind: ProofKind::Composite,
            proof: ArtifactRef::of(&STATEMENT),
        }
    }

    fn wanted(system: ProofSystem, program_id: B256) -> Wanted {
        Wanted {
            target: Target { system, program_id, kind: ProofKind::Composite },
            statement: STATEMENT.to_vec(),
            effort: Default::default(),
            part: None,
        }
    }

    #[test]
    fn an_exec_proof_passes_only_by_name_and_only_for_its_own_statement() {
        let (wanted, submit) =
            (wanted(ProofSystem::Exec, B256::ZERO), submit(ProofSystem::Exec, B256::ZERO));
        let strict = Policy::default();
        let open = Policy { danger_accept_exec: true, ..strict };
        assert_eq!(check(&wanted, None, &submit, &STATEMENT, &open), Ok(None));
        let refused = check(&wanted, None, &submit, &STATEMENT, &strict);
        assert_eq!(refused, Err(Rejection::Invalid(VerifyError::ExecRefused)));
        for at in [0, 32, 447] {
            let mut other = STATEMENT;
            other[at] ^= 1;
            assert_eq!(
                check(&wanted, None, &submit, &other, &open),
                Err(Rejection::WrongStatement)
            );
        }
        assert!(check(&wanted, None, &submit, &STATEMENT[..447], &open).is_err());
    }

    #[test]
    fn another_system_or_program_is_refused_even_where_exec_is_accepted() {
        let open = Policy { danger_accept_exec: true, danger_accept_dev_mode: true };
        let (ours, other) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let risc0 = wanted(ProofSystem::Risc0, ours);

        // The statement itself, passed off as a proof of the real system.
        let found = ProofSystem::Exec;
        let exec = check(&risc0, None, &submit(found, B256::ZERO), &STATEMENT, &open);
        assert_eq!(exec, Err(Rejection::WrongSystem { wanted: ProofSystem::Risc0, found }));
        let posing = check(&risc0, None, &submit(ProofSystem::Risc0, ours), &STATEMENT, &open);
        assert!(matches!(posing, Err(Rejection::Invalid(_))), "{posing:?}");

        let program = check(&risc0, None, &submit(ProofSystem::Risc0, other), &STATEMENT, &open);
        assert_eq!(program, Err(Rejection::WrongProgram { wanted: ours, found: other }));
    }

    #[tokio::test]
    async fn a_verifier_that_panics_has_accepted_nothing() {
        let crash = || -> Result<Option<u64>, Rejection> { panic!("a hostile seal") };
        let crashed = tokio::task::spawn_blocking(crash).await;
        assert_eq!(outcome(crashed), Err(Rejection::Crashed));
    }

    #[test]
    fn a_revoked_program_is_refused_by_name_whoever_names_it() {
        let revoked = B256::new(verifier::REVOKED[0].id);
        let proof = [&b"L2R0\x01\x01"[..], revoked.as_slice()].concat();
        for (wants, says) in [
            (revoked, revoked),
            (B256::repeat_byte(1), revoked),
            (B256::repeat_byte(1), B256::repeat_byte(1)),
        ] {
            let wanted = wanted(ProofSystem::Risc0, wants);
            let submit = submit(ProofSystem::Risc0, says);
            let refused =
                check(&wanted, None, &submit, &proof, &Policy::default()).expect_err("revoked");
            let told = refused.to_string();
            assert!(matches!(refused, Rejection::Invalid(VerifyError::Revoked { .. })), "{told}");
            assert!(told.contains("is revoked, because"), "{told}");
        }
    }
}
