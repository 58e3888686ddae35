//! Makes the contracts on L1, after checking what no contract can check.

use crate::{
    check::EXEC_PROGRAM_ID,
    contract::{Head, IBridge, IRollup, IRouter, IVerifier, L2, Policy, Roles, System},
    l1::{L1Error, Rpc},
    once::{self, Done, Limits, OnceError},
    wallet::Wallet,
};
use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, FixedBytes, TxKind, U256, hex, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use std::time::Duration;

/// The chain ids of development chains: on no other anything counts that proves nothing.
pub const DEVELOPMENT: [u64; 2] = [31_337, 1_337];

/// The selector of RISC Zero's mock verifier, which takes receipts of dev mode.
pub const DEV_MODE_SELECTOR: [u8; 4] = [0xff; 4];

/// Why nothing was deployed, or not everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// L1's RPC failed.
    #[error(transparent)]
    Rpc(#[from] L1Error),
    /// Proofs that prove nothing would count.
    #[error(
        "chain {0} is no development chain (31337, 1337): nothing that proves nothing may count there"
    )]
    Mocked(u64),
    /// There is no contract that verifies RISC Zero's proofs.
    #[error(
        "there is no contract at {0} on L1: give the address of RISC Zero's router, or of one of its verifiers"
    )]
    NoVerifier(Address),
    /// It verifies proofs of other versions of RISC Zero.
    #[error(
        "the verifier at {verifier} takes no proofs with the selector {selector}, which ours have: {says}"
    )]
    UnknownSelector {
        /// The router or verifier.
        verifier: Address,
        /// What our proofs begin with.
        selector: FixedBytes<4>,
        /// What it says.
        says: String,
    },
    /// It verifies nothing.
    #[error("the verifier at {0} accepts a proof of zeros: it verifies nothing")]
    AcceptsAnything(Address),
    /// No policy has so many families of proofs.
    #[error(
        "{threshold} proofs of different families are to be needed, and there are {families} families"
    )]
    Threshold {
        /// How many proofs a batch shall need.
        threshold: u8,
        /// How many families there are.
        families: usize,
    },
    /// A contract was not made.
    #[error("failed to make {contract}")]
    Send {
        /// Which.
        contract: &'static str,
        /// Why.
        #[source]
        source: OnceError,
    },
    /// What L1 has now is not what was sent.
    #[error(
        "the contract {rollup} does not have the {what} that it was made with: do not use it, and ask another RPC"
    )]
    Other {
        /// The contract.
        rollup: Address,
        /// What differs.
        what: &'static str,
    },
}

/// Proofs that shall count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proofs {
    /// RISC Zero's.
    RiscZero {
        /// Its router on L1, or one of its verifiers.
        verifier: Address,
        /// What the proofs begin with.
        selector: [u8; 4],
        /// The programs.
        programs: Vec<B256>,
    },
    /// Those of the exec prover, which prove nothing.
    Exec,
}

impl Proofs {
    /// Whose bugs they share.
    pub fn family(&self) -> B256 {
        match self {
            Self::RiscZero { .. } => keccak256("risc0"),
            Self::Exec => keccak256("exec"),
        }
    }

    /// The programs.
    pub fn programs(&self) -> &[B256] {
        match self {
            Self::RiscZero { programs, .. } => programs,
            Self::Exec => &[EXEC_PROGRAM_ID],
        }
    }

    /// Whether they prove nothing.
    pub fn are_mocked(&self) -> bool {
        match self {
            Self::RiscZero { selector, .. } => *selector == DEV_MODE_SELECTOR,
            Self::Exec => true,
        }
    }

    /// The name of the adapter's artifact, and what makes one.
    fn adapter(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::RiscZero { verifier, selector, .. } => {
                let arguments = (*verifier, FixedBytes(*selector)).abi_encode_params();
                ("RiscZero", [code(Contract::RiscZero), arguments].concat())
            }
            Self::Exec => ("DangerMock", code(Contract::DangerMock)),
        }
    }
}

/// What is deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// L1.
    pub chain_id: u64,
    /// The L2's chain id.
    pub l2_chain_id: u64,
    /// The L2's rules.
    pub chain_config_digest: B256,
    /// The L2's block 0.
    pub genesis: Head,
    /// The Outbox on the L2.
    pub outbox: Address,
    /// What counts as a proof.
    pub proofs: Vec<Proofs>,
    /// So many of different families for each batch.
    pub threshold: u8,
    /// Who may settle at any time.
    pub sequencer: Address,
    /// From a proposal of another policy to its application.
    pub delay: Duration,
    /// From a settlement to claims against it.
    pub finality: Duration,
    /// How old a deposit may become before a batch must consume it.
    pub window: Duration,
    /// After so long without a settlement, anybody may settle.
    pub fallback_after: Duration,
    /// Who may do what besides settling.
    pub roles: Roles,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Where batches are settled.
    pub rollup: Address,
    /// Where deposits are made and withdrawals claimed.
    pub bridge: Address,
    /// The policy in force.
    pub policy: Policy,
    /// The transactions, with the names of the contracts that they made. The last one made the rollup.
    pub transactions: Vec<(&'static str, Done)>,
}

impl Deployment {
    /// Checks what no contract can check, on L1.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn check(&self, l1: &mut Rpc) -> Result<(), DeployError> {
        l1.chain(Some(self.chain_id)).await?;
        let development = DEVELOPMENT.contains(&self.chain_id);
        // SOUNDNESS: on a chain where ether has a price, whoever can write a mocked proof could settle anything.
        if !development && self.proofs.iter().any(Proofs::are_mocked) {
            return Err(DeployError::Mocked(self.chain_id));
        }
        let families: std::collections::BTreeSet<_> =
            self.proofs.iter().map(Proofs::family).collect();
        if self.threshold == 0 || usize::from(self.threshold) > families.len() {
            let (threshold, families) = (self.threshold, families.len());
            return Err(DeployError::Threshold { threshold, families });
        }
        for proofs in &self.proofs {
            if let Proofs::RiscZero { verifier, selector, .. } = proofs {
                check_verifier(l1, *verifier, FixedBytes(*selector)).await?;
            }
        }
        Ok(())
    }

    /// Makes the contracts, one transaction after another, and reads back what there is. What was made before an error is of no use, and
    /// does no harm.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn make(
        &self,
        l1: &mut Rpc,
        wallet: &Wallet,
        limits: Limits,
    ) -> Result<Deployed, DeployError> {
        let limits = Limits { chain_id: Some(self.chain_id), ..limits };
        let (mut transactions, mut systems) = (Vec::new(), Vec::new());
        for proofs in &self.proofs {
            let (contract, data) = proofs.adapter();
            let made = once::send(l1, wallet, TxKind::Create, data, limits).await;
            let made = made.map_err(|source| DeployError::Send { contract, source })?;
            transactions.push((contract, made));
            systems.extend(proofs.programs().iter().map(|program| System {
                adapter: made.contract,
                programId: *program,
                family: proofs.family(),
            }));
        }
        let policy = self.policy(systems);
        let place = L2 { chainId: U256::from(self.l2_chain_id), outbox: self.outbox };
        let arguments = (self.genesis.clone(), policy.clone(), self.roles.clone(), place);
        let data = [code(Contract::Rollup), arguments.abi_encode_params()].concat();
        let made = once::send(l1, wallet, TxKind::Create, data, limits).await;
        let made = made.map_err(|source| DeployError::Send { contract: "Rollup", source })?;
        transactions.push(("Rollup", made));
        let rollup = made.contract;
        let at = BlockId::number(made.block);
        let other = |what| DeployError::Other { rollup, what };
        if l1.call(rollup, IRollup::headCall {}, at, "the head").await? != self.genesis {
            return Err(other("genesis"));
        }
        if l1.call(rollup, IRollup::policyCall {}, at, "the policy").await? != policy {
            return Err(other("policy"));
        }
        let bridge = l1.call(rollup, IRollup::bridgeCall {}, at, "the bridge").await?;
        if l1.call(bridge, IBridge::outboxCall {}, at, "the Outbox").await? != self.outbox {
            return Err(other("Outbox"));
        }
        Ok(Deployed { rollup, bridge, policy, transactions })
    }

    fn policy(&self, systems: Vec<System>) -> Policy {
        Policy {
            systems,
            threshold: self.threshold,
            chainConfigDigest: self.chain_config_digest,
            sequencer: self.sequencer,
            delay: self.delay.as_secs(),
            finality: self.finality.as_secs(),
            window: self.window.as_secs(),
            fallbackAfter: self.fallback_after.as_secs(),
        }
    }
}

sol! {
    function verify(bytes calldata seal, bytes32 imageId, bytes32 journalDigest) external view;
}

/// Whether the router, or the verifier, takes proofs that begin with `selector`, and refuses one that is none.
async fn check_verifier(
    l1: &Rpc,
    verifier: Address,
    selector: FixedBytes<4>,
) -> Result<(), DeployError> {
    if !l1.has_code(verifier).await? {
        return Err(DeployError::NoVerifier(verifier));
    }
    let at = BlockId::latest();
    let unknown = |says: String| DeployError::UnknownSelector { verifier, selector, says };
    let routed = l1.view(verifier, IRouter::getVerifierCall { selector }, at, "a verifier").await?;
    let routed = match routed {
        Ok(data) => IRouter::getVerifierCall::abi_decode_returns_validate(&data).ok(),
        Err(_) => None,
    };
    match routed {
        Some(routed) if l1.has_code(routed).await? => {}
        Some(routed) => return Err(unknown(format!("its verifier at {routed} is no contract"))),
        // It may be a verifier itself.
        None => {
            let own = l1.view(verifier, IVerifier::SELECTORCall {}, at, "its selector").await?;
            let own = own.map_err(|_| unknown("it knows none such".to_owned()))?;
            match IVerifier::SELECTORCall::abi_decode_returns_validate(&own) {
                Ok(own) if own == selector => {}
                Ok(own) => return Err(unknown(format!("its own is {own}"))),
                Err(_) => return Err(unknown("it is neither a router nor a verifier".to_owned())),
            }
        }
    }
    // SOUNDNESS: what accepts this accepts everything.
    let seal = [selector.as_slice(), &[0; 256]].concat().into();
    let zeros = verifyCall { seal, imageId: B256::ZERO, journalDigest: B256::ZERO };
    match l1.view(verifier, zeros, at, "what it says of a proof of zeros").await? {
        Ok(_) => Err(DeployError::AcceptsAnything(verifier)),
        Err(_) => Ok(()),
    }
}

/// The contracts of this repository that are made on L1, and the one of the L2.
#[derive(Clone, Copy, Debug)]
enum Contract {
    Rollup,
    RiscZero,
    DangerMock,
}

/// What makes a contract, without its arguments.
fn code(contract: Contract) -> Vec<u8> {
    match contract {
        Contract::Rollup => {
            field(include_str!("../../../contracts/artifacts/Rollup.json"), "bytecode")
        }
        Contract::RiscZero => {
            field(include_str!("../../../contracts/artifacts/RiscZero.json"), "bytecode")
        }
        Contract::DangerMock => {
            field(include_str!("../../../contracts/artifacts/DangerMock.json"), "bytecode")
        }
    }
}

/// The code that the Outbox has in the L2's genesis.
pub fn outbox_code() -> Vec<u8> {
    field(include_str!("../../../contracts/artifacts/Outbox.json"), "deployedBytecode")
}

/// A field of an artifact, which is part of this executable.
fn field(artifact: &str, name: &str) -> Vec<u8> {
    let artifact: serde_json::Value = serde_json::from_str(artifact).expect("it is JSON");
    let text = artifact[name].as_str().expect("an artifact has code");
    hex::decode(text).expect("code is hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_artifact_has_code() {
        let made = [Contract::Rollup, Contract::RiscZero, Contract::DangerMock].map(code);
        assert!(made.iter().all(|code| code.len() > 100), "{:?}", made.map(|code| code.len()));
        assert!(outbox_code().len() > 100);
    }
}
