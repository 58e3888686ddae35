//! Who signed: for each transaction the host claims a public key, which is checked and never trusted.
//!
//! * A guest checks the claims of all transactions of an input together, with a [`Check`] of its own.
//! * Where there is no such check, or a claim is false, each sender is recovered from its signature, in its turn, and
//!   compared with the claim. So an input has the same outcome with a check as without one.
//! * Where there are no claims, as when blocks are built, senders are recovered.

use crate::{
    Error, Transaction,
    consensus::{DecodedBlock, Violation},
};
use alloc::vec::Vec;
use alloy_consensus::{crypto::SECP256K1N_HALF, transaction::SignerRecoverable};
use alloy_primitives::{Address, B256, U256};

/// At least what a guest allocates to check all claims together, and for each, in bytes.
#[cfg(feature = "std")]
pub(crate) const GUEST_HEAP: usize = 1 << 18;
#[cfg(feature = "std")]
pub(crate) const GUEST_HEAP_EACH: usize = 1 << 10;

/// What the host claims about one signature, as in the input. All zeros where no key can be recovered.
pub type Hint = [u8; HINT];
/// Length of a [`Hint`] in bytes: the public key's x and y, and the y of the nonce point, each big-endian.
pub const HINT: usize = 96;

/// A signature and the key that is claimed to be its signer's.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What was signed.
    pub message: B256,
    /// The x of the nonce point, modulo the group's order.
    pub r: U256,
    /// The signature's other half: not above half of the order (EIP-2).
    pub s: U256,
    /// Whether the y of the nonce point is odd.
    pub odd: bool,
    /// The host's claim: from here on, nothing is known to be true.
    pub hint: &'a Hint,
}

impl Claim<'_> {
    /// The claimed key: x and y.
    pub fn key(&self) -> &[u8; 64] {
        self.hint.first_chunk().expect("a hint is longer")
    }

    /// The claimed y of the nonce point.
    pub fn nonce_y(&self) -> &[u8; 32] {
        self.hint.last_chunk().expect("a hint is longer")
    }
}

/// The signers' addresses, one for each claim, if **every** claim is true: if recovery from `r`, `s`, `odd` and
/// `message` gives exactly the claimed key. `None` says that some claim may be false.
pub type Check = fn(&[Claim<'_>]) -> Option<Vec<Address>>;

/// The senders of an input's transactions, or of one block's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Senders<'a> {
    /// Nothing is claimed: they are recovered.
    Unknown,
    /// The host's claims, one for each transaction.
    Claimed(&'a [Hint]),
    /// A [`Check`] found all claims true.
    Checked(&'a [Address]),
}

impl<'a> Senders<'a> {
    /// Splits off the senders of the first `count` transactions.
    pub(crate) fn split_off(&mut self, count: usize) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Claimed(hints) => Self::Claimed(split_off(hints, count)),
            Self::Checked(addresses) => Self::Checked(split_off(addresses, count)),
        }
    }

    /// The sender of the block's transaction at `index`.
    pub(crate) fn of(self, index: usize, transaction: &Transaction) -> Result<Address, Violation> {
        if let Self::Checked(addresses) = self {
            return Ok(addresses[index]);
        }
        // SOUNDNESS: the sender is who signed; a high `s` is refused (EIP-2).
        let sender = transaction.recover_signer().map_err(|_| Violation::Signature { index })?;
        match self {
            // SOUNDNESS: a false claim ends the proof.
            Self::Claimed(hints) if !names(&hints[index], sender) => {
                Err(Violation::SenderHint { index })
            }
            _ => Ok(sender),
        }
    }
}

fn split_off<'a, T>(list: &mut &'a [T], count: usize) -> &'a [T] {
    let (first, rest) = list.split_at(count);
    *list = rest;
    first
}

/// Whether the address of the hint's key is this one.
fn names(hint: &Hint, address: Address) -> bool {
    Address::from_raw_public_key(&hint[..64]) == address
}

/// The hints of the input's bytes: one for each transaction of `blocks`.
pub(crate) fn hints<'a>(bytes: &'a [u8], blocks: &[DecodedBlock]) -> Result<&'a [Hint], Error> {
    let (hints, rest) = bytes.as_chunks();
    let transactions: usize = blocks.iter().map(|block| block.body.transactions.len()).sum();
    match hints.len() == transactions && rest.is_empty() {
        true => Ok(hints),
        false => Err(Error::Input { what: "expected one hint for each transaction", offset: 0 }),
    }
}

/// The senders of all transactions, if `check` finds that all claims are true.
pub(crate) fn check(blocks: &[DecodedBlock], hints: &[Hint], check: Check) -> Option<Vec<Address>> {
    let transactions = blocks.iter().flat_map(|block| &block.body.transactions);
    let mut claims = Vec::with_capacity(hints.len());
    for (transaction, hint) in transactions.zip(hints) {
        let signature = transaction.signature();
        // SOUNDNESS: EIP-2, a high `s` signs nothing. The check does not look at it.
        if signature.s() > SECP256K1N_HALF {
            return None;
        }
        claims.push(Claim {
            message: transaction.signature_hash(),
            r: signature.r(),
            s: signature.s(),
            odd: signature.v(),
            hint,
        });
    }
    let addresses = check(&claims)?;
    assert_eq!(addresses.len(), claims.len(), "one address for each claim");
    Some(addresses)
}

/// The hint for a transaction: zeros if no key can be recovered from its signature.
#[cfg(feature = "std")]
pub(crate) fn hint(transaction: &Transaction) -> Hint {
    let signature = transaction.signature();
    if signature.s() > SECP256K1N_HALF {
        return [0; HINT];
    }
    recover(transaction.signature_hash(), signature.r(), signature.s(), signature.v())
        .unwrap_or([0; HINT])
}

/// The key that signed, and the y of the nonce point.
#[cfg(feature = "std")]
fn recover(message: B256, r: U256, s: U256, odd: bool) -> Option<Hint> {
    use secp256k1::{
        Message, PublicKey, SECP256K1,
        ecdsa::{RecoverableSignature, RecoveryId},
    };
    let parity = if odd { RecoveryId::One } else { RecoveryId::Zero };
    let [r, s] = [r, s].map(|number| number.to_be_bytes::<32>());
    let signature = RecoverableSignature::from_compact(&[r, s].concat(), parity).ok()?;
    let key = SECP256K1.recover_ecdsa(&Message::from_digest(message.0), &signature).ok()?;
    let nonce = PublicKey::from_slice(&[[2 + u8::from(odd)].as_slice(), &r].concat()).ok()?;
    let mut hint = [0; HINT];
    hint[..64].copy_from_slice(&key.serialize_uncompressed()[1..]);
    hint[64..].copy_from_slice(&nonce.serialize_uncompressed()[33..]);
    Some(hint)
}
