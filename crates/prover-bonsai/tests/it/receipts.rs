//! Receipts as engines return them, made of the real proofs that are checked in.

use std::fs;
use std::path::Path;

use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    Digest, FakeReceipt, InnerReceipt, MaybePruned, Receipt, ReceiptClaim, SuccinctReceipt,
    SuccinctReceiptVerifierParameters,
};

/// Bytes before the journal: magic, version, kind, program id, journal length.
const HEADER: usize = 4 + 1 + 1 + 32 + 4;

/// A proof that is checked in.
pub(crate) struct Real {
    pub proof: Vec<u8>,
    pub program_id: [u8; 32],
    pub statement: Vec<u8>,
}

impl Real {
    /// A block of the dev chain, proven with the pinned program.
    pub(crate) fn dev_block() -> Self {
        Self::named("dev-block")
    }

    /// One of a program that was pinned before, and is revoked.
    pub(crate) fn of_another_program() -> Self {
        Self::named("revoked")
    }

    fn named(name: &str) -> Self {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
        let folder = Path::new(&folder).join("../verifier/tests/fixtures");
        let proof = fs::read(folder.join(name).with_extension("proof")).expect("it is checked in");
        let program_id = proof[6..38].try_into().expect("32 bytes");
        let end = HEADER + word(&proof[HEADER - 4..]);
        let statement = proof[HEADER..end].to_vec();
        Self { proof, program_id, statement }
    }

    /// RISC Zero's receipt of it.
    pub(crate) fn receipt(&self) -> Receipt {
        let mut rest = &self.proof[HEADER + self.statement.len()..];
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at(length);
            rest = left;
            taken
        };
        let control_id = Digest::try_from(take(32)).expect("32 bytes");
        let index = u32::from(take(1)[0]);
        let siblings: Vec<Digest> =
            (0..8).map(|_| Digest::try_from(take(32)).expect("32 bytes")).collect();
        let words = word(take(4));
        let seal: Vec<u32> = take(4 * words)
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect();
        let parameters: Digest = SuccinctReceiptVerifierParameters::default().digest();
        let claim = MaybePruned::Value(claim(self.program_id, &self.statement));
        let fields = (seal, control_id, claim, "poseidon2", parameters, index, siblings);
        let encoded = borsh::to_vec(&fields).expect("it is written to memory");
        let inner: SuccinctReceipt<ReceiptClaim> =
            borsh::from_slice(&encoded).expect("RISC Zero's receipts have these fields");
        Receipt::new(InnerReceipt::Succinct(inner), self.statement.clone())
    }

    /// The receipt as engines send it.
    pub(crate) fn sent(&self) -> Vec<u8> {
        bincode::serialize(&self.receipt()).expect("it is written to memory")
    }

    /// A receipt of dev mode for the same claim.
    pub(crate) fn fake(&self) -> Vec<u8> {
        let inner = FakeReceipt::new(claim(self.program_id, &self.statement));
        let receipt = Receipt::new(InnerReceipt::Fake(inner), self.statement.clone());
        bincode::serialize(&receipt).expect("it is written to memory")
    }
}

fn claim(program_id: [u8; 32], statement: &[u8]) -> ReceiptClaim {
    ReceiptClaim::ok(program_id, MaybePruned::Pruned(statement.digest()))
}

fn word(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")) as usize
}
