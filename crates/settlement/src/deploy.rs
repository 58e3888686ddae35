//! Makes the contracts on L1, after checking what no contract can check.

use crate::{
    check::EXEC_PROGRAM_ID,
    contract::{Head, IBridge, IRollup, IRouter, IVerifier, L2, Policy, Roles, System},
    l1::{L1Error, Rpc},
    once::{self, Done, Limits, OnceError},
    wallet::Wallet,
};
use alloy_eips::{BlockId, eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, B256, FixedBytes, TxKind, U256, b256, hex, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use std::{collections::BTreeSet, time::Duration};

/// The chain ids of development chains: on no other anything counts that proves nothing.
pub const DEVELOPMENT: [u64; 2] = [31_337, 1_337];

/// The selector of RISC Zero's mock verifier, which takes receipts of dev mode.
pub const DEV_MODE_SELECTOR: [u8; 4] = [0xff; 4];

/// What the contract `Rollup` demands of a policy's times.
const MIN_EXIT: Duration = Duration::from_secs(7 * 86_400);
const MAX_DELAY: Duration = Duration::from_secs(365 * 86_400);
const MAX_WAIT: Duration = Duration::from_secs(30 * 86_400);
const MIN_WINDOW: Duration = Duration::from_secs(3_600);

/// What all transactions take together, about.
const GAS: u64 = 5_500_000;

/// The contracts that the rules call in each block: EIP-4788, 2935, 7002 and 7251.
const SYSTEM: [Address; 4] = [
    eip4788::BEACON_ROOTS_ADDRESS,
    eip2935::HISTORY_STORAGE_ADDRESS,
    eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
    eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
];

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
    #[error("the verifier at {0} accepts what is no proof: it verifies nothing")]
    AcceptsAnything(Address),
    /// It does not take what RISC Zero's verifier takes.
    #[error("the verifier at {0} refuses a proof that is known to hold: it is not RISC Zero's")]
    RefusesProofs(Address),
    /// The contract would refuse it.
    #[error("no contract takes this: {0}")]
    Times(&'static str),
    /// Nobody would have the role.
    #[error("the {0} would be the zero address: nobody could act as it, ever")]
    Nobody(&'static str),
    /// The Outbox is where there is code of the protocol's own.
    #[error("the Outbox cannot be at {0}: on the L2 that address has code of the protocol's own")]
    Reserved(Address),
    /// The L2 cannot be told from L1, or from none.
    #[error(
        "the L2's chain id {0} cannot be zero or L1's: transactions could be repeated on the other chain"
    )]
    ChainId(u64),
    /// The wallet has too little.
    #[error(
        "the wallet {wallet} has {balance} wei, and {needed} may be needed at L1's fees of now: send ether to it"
    )]
    Poor {
        /// The wallet.
        wallet: Address,
        /// What it has, in wei.
        balance: U256,
        /// What may be needed.
        needed: U256,
    },
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
                ("RiscZero", [Contract::RiscZero.code(), arguments].concat())
            }
            Self::Exec => ("DangerMock", Contract::DangerMock.code()),
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
    /// Checks what no contract can check, and what the contracts would refuse after an adapter was paid for.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn check(&self, l1: &mut Rpc, wallet: Address) -> Result<(), DeployError> {
        self.check_alone()?;
        l1.chain(Some(self.chain_id)).await?;
        let balance = l1.balance(wallet).await?;
        let needed = U256::from(GAS) * U256::from(l1.market().await?.base_fee);
        if balance < needed {
            return Err(DeployError::Poor { wallet, balance, needed });
        }
        for proofs in &self.proofs {
            if let Proofs::RiscZero { verifier, selector, .. } = proofs {
                check_verifier(l1, *verifier, FixedBytes(*selector)).await?;
            }
        }
        Ok(())
    }

    /// What can be said without L1.
    fn check_alone(&self) -> Result<(), DeployError> {
        let development = DEVELOPMENT.contains(&self.chain_id);
        // SOUNDNESS: on a chain where ether has a price, whoever can write a mocked proof could settle anything.
        if !development && self.proofs.iter().any(Proofs::are_mocked) {
            return Err(DeployError::Mocked(self.chain_id));
        }
        let families: BTreeSet<_> = self.proofs.iter().map(Proofs::family).collect();
        if self.threshold == 0 || usize::from(self.threshold) > families.len() {
            let (threshold, families) = (self.threshold, families.len());
            return Err(DeployError::Threshold { threshold, families });
        }
        let Roles { governance, guardian, council } = self.roles;
        for (role, who) in [
            ("governance", governance),
            ("guardian", guardian),
            ("council", council),
            ("sequencer", self.sequencer),
        ] {
            if who.is_zero() {
                return Err(DeployError::Nobody(role));
            }
        }
        if self.l2_chain_id == 0 || self.l2_chain_id == self.chain_id {
            return Err(DeployError::ChainId(self.l2_chain_id));
        }
        // Precompiles of today and tomorrow, and what the rules call in each block.
        let low = self.outbox.0[..18].iter().all(|byte| *byte == 0) && self.outbox.0[18] < 2;
        if low || SYSTEM.contains(&self.outbox) {
            return Err(DeployError::Reserved(self.outbox));
        }
        let Self { delay, finality, window, fallback_after, .. } = *self;
        let times = [
            (delay < MIN_EXIT + finality, "--delay must be 168h more than --finality at least"),
            (delay > MAX_DELAY, "--delay must be 8760h at most"),
            (finality > MAX_WAIT, "--finality must be 720h at most"),
            (window < MIN_WINDOW, "--window must be 1h at least"),
            (window > MAX_WAIT, "--window must be 720h at most"),
            (fallback_after > MAX_WAIT, "--fallback-after must be 720h at most"),
        ];
        match times.into_iter().find(|(refused, _)| *refused) {
            Some((_, why)) => Err(DeployError::Times(why)),
            None => Ok(()),
        }
    }

    /// Makes the contracts, one transaction after another, and reads back what there is. What was made before an error is of no use, and
    /// does no harm. `signed` learns each transaction's hash before it is sent.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn make(
        &self,
        l1: &mut Rpc,
        wallet: &Wallet,
        limits: Limits,
        signed: &mut (dyn FnMut(B256) + Send),
    ) -> Result<Deployed, DeployError> {
        let limits = Limits { chain_id: Some(self.chain_id), ..limits };
        let (mut transactions, mut systems) = (Vec::new(), Vec::new());
        for proofs in &self.proofs {
            let (contract, data) = proofs.adapter();
            let made = once::send(l1, wallet, TxKind::Create, data, limits, signed).await;
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
        let data = [Contract::Rollup.code(), arguments.abi_encode_params()].concat();
        let made = once::send(l1, wallet, TxKind::Create, data, limits, signed).await;
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
    // SOUNDNESS: what accepts such a thing accepts what was never proven. No probe shows that a verifier is sound; it shows which contract is
    // certainly another one.
    let known = hex::decode(KNOWN_SEAL).expect("it is hexadecimal");
    let mut flipped = known.clone();
    flipped[9] ^= 1;
    // What RISC Zero's mock verifier takes.
    let claim = hex::decode(KNOWN_CLAIM).expect("it is hexadecimal");
    let takes = async |seal: &[u8], journal: B256| {
        let call = known_with(selector, seal, journal);
        Ok::<_, L1Error>(l1.view(verifier, call, at, "what it says of a proof").await?.is_ok())
    };
    let journal = KNOWN_JOURNAL;
    for (seal, journal) in [(&[0; 256][..], journal), (&flipped, journal), (&known, B256::ZERO)] {
        if takes(seal, journal).await? {
            return Err(DeployError::AcceptsAnything(verifier));
        }
    }
    if selector == DEV_MODE_SELECTOR {
        return Ok(());
    }
    if takes(&claim, journal).await? {
        return Err(DeployError::AcceptsAnything(verifier));
    }
    match takes(&known, journal).await? {
        true => Ok(()),
        false => Err(DeployError::RefusesProofs(verifier)),
    }
}

/// The call by which a verifier is asked about a receipt that is known to hold.
pub fn known_call() -> Vec<u8> {
    let seal = hex::decode(KNOWN_SEAL).expect("it is hexadecimal");
    known_with(FixedBytes(verifier::risc0_selector()), &seal, KNOWN_JOURNAL).abi_encode()
}

/// It with another seal or journal.
fn known_with(selector: FixedBytes<4>, seal: &[u8], journal: B256) -> verifyCall {
    let seal = [selector.as_slice(), seal].concat().into();
    verifyCall { seal, imageId: KNOWN_IMAGE, journalDigest: journal }
}

// The receipt with which RISC Zero tests its contracts (crate risc0-ethereum-contracts 3.0.1, test/TestReceiptV3_0.sol, Apache-2.0).
const KNOWN_IMAGE: B256 = b256!("11d264ed8dfdee222b820f0278e4d7f55d4b69a5472253a471c102265a91ea1a");
// SHA-256 of "just a simple receipt".
const KNOWN_JOURNAL: B256 =
    b256!("3b8839d29d6fc9286b8f95f9c676ff10c1add3c8bfe3b8d6153be90020ed91be");
// The digest of its claim.
const KNOWN_CLAIM: &str = "196cb48d86169e90c105e595a02aef4cbc6e2c9e5a9caa1a74c2ebbd29211480";
const KNOWN_SEAL: &str = "2ccb718fd9092cc11546eeded62a44d3ed274076dd3ec154fae8739f3432050b2005be2c5dbe6c08bfd04b30601a462540962bc26a2f38c5cfc0a4d76d8f1b8015e690a1b230081234867edeedb2f98bcdf33d0471c2aa5e8db63b72333f871527eb5d1fcf0a7af50fb8f42e8699e2c4eda3cd93f4e2a930096ae78e38bea4020c5c3d963dc453b4b302170e47c0cf53382255143c8fcef474d8b6eaaa8daaaf092c2f650809a3afbd122ef128cb882c2de7a6ccddd2e544b645fa3fedf6bcc92e09be04876a07778231fd5b93305d35fd8af23f040a11682a8c64130370804f28f07a76fa538755276e42c04b5f7eb97b04b68b65fa50e3181a0452069a3667";

/// The contracts of this repository that are made on L1.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Contract {
    /// Where batches are settled; it makes the bridge.
    Rollup,
    /// The adapter for RISC Zero's proofs.
    RiscZero,
    /// What accepts anybody's proofs, on development chains.
    DangerMock,
}

impl Contract {
    /// What makes it, without its arguments.
    pub fn code(self) -> Vec<u8> {
        let artifact = match self {
            Self::Rollup => include_str!("../../../contracts/artifacts/Rollup.json"),
            Self::RiscZero => include_str!("../../../contracts/artifacts/RiscZero.json"),
            Self::DangerMock => include_str!("../../../contracts/artifacts/DangerMock.json"),
        };
        field(artifact, "bytecode")
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

    /// One that nothing is to be said against.
    fn plan() -> Deployment {
        let day = Duration::from_secs(86_400);
        let own = Address::repeat_byte(1);
        Deployment {
            chain_id: 31_337,
            l2_chain_id: 5,
            chain_config_digest: B256::repeat_byte(7),
            genesis: Head::default(),
            outbox: Address::repeat_byte(2),
            proofs: vec![Proofs::Exec],
            threshold: 1,
            sequencer: own,
            delay: 8 * day,
            finality: day,
            window: day,
            fallback_after: day,
            roles: Roles { governance: own, guardian: own, council: own },
        }
    }

    #[test]
    fn what_proves_nothing_counts_on_development_chains_only() {
        let dev_mode = Proofs::RiscZero {
            verifier: Address::repeat_byte(3),
            selector: DEV_MODE_SELECTOR,
            programs: vec![B256::repeat_byte(9)],
        };
        let real = Proofs::RiscZero {
            verifier: Address::repeat_byte(3),
            selector: verifier::risc0_selector(),
            programs: vec![B256::repeat_byte(9)],
        };
        for mocked in [vec![Proofs::Exec], vec![dev_mode.clone()], vec![real.clone(), dev_mode]] {
            for chain_id in [1, 31_337] {
                let checked =
                    Deployment { proofs: mocked.clone(), chain_id, ..plan() }.check_alone();
                match chain_id {
                    1 => assert!(matches!(checked, Err(DeployError::Mocked(1))), "{mocked:?}"),
                    _ => checked.unwrap(),
                }
            }
        }
        Deployment { proofs: vec![real], chain_id: 1, ..plan() }.check_alone().unwrap();
    }

    #[test]
    fn what_no_contract_takes_or_nobody_can_use_is_refused_before_it_is_paid_for() {
        plan().check_alone().unwrap();
        for threshold in [0, 2] {
            let error = Deployment { threshold, ..plan() }.check_alone().unwrap_err();
            assert!(matches!(error, DeployError::Threshold { .. }), "{error}");
        }
        let day = Duration::from_secs(86_400);
        for (plan, what) in [
            (Deployment { delay: day, ..plan() }, "--delay"),
            (Deployment { finality: 31 * day, delay: 99 * day, ..plan() }, "--finality"),
            (Deployment { window: Duration::from_secs(600), ..plan() }, "--window"),
            (Deployment { fallback_after: 31 * day, ..plan() }, "--fallback-after"),
            (
                Deployment { roles: Roles { guardian: Address::ZERO, ..plan().roles }, ..plan() },
                "guardian",
            ),
            (Deployment { sequencer: Address::ZERO, ..plan() }, "sequencer"),
            (Deployment { l2_chain_id: 31_337, ..plan() }, "chain id"),
            (Deployment { outbox: Address::with_last_byte(1), ..plan() }, "cannot be at"),
            (Deployment { outbox: eip4788::BEACON_ROOTS_ADDRESS, ..plan() }, "cannot be at"),
        ] {
            let error = plan.check_alone().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn the_known_claim_is_that_of_the_known_receipt() {
        let journal = b"just a simple receipt";
        let length = 21_u32.to_le_bytes();
        let mocked = [&b"L2R0\x01\x00"[..], &KNOWN_IMAGE[..], &length, journal].concat();
        let seal =
            verifier::seal(verifier::System::Risc0, KNOWN_IMAGE.0, &mocked).unwrap().unwrap();
        assert_eq!(hex::encode(&seal[4..]), KNOWN_CLAIM);
    }

    #[test]
    fn every_artifact_has_code() {
        let made = [Contract::Rollup, Contract::RiscZero, Contract::DangerMock].map(Contract::code);
        assert!(made.iter().all(|code| code.len() > 100), "{:?}", made.map(|code| code.len()));
        assert!(outbox_code().len() > 100);
    }
}
