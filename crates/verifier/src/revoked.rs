//! Programs that were pinned once and must no longer be trusted.
//!
//! * No proof of one is accepted, whatever it carries, and no caller can ask for one.
//! * A proof outlives the version that made it: an id is never removed from this list.

use crate::VerifyError;

/// A program that was pinned, and why its proofs prove nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its program id.
    pub id: [u8; 32],
    /// What is wrong with it. Reads well after "because ".
    pub reason: &'static str,
}

/// What is wrong with every program up to 0xb1acfb09….
const MEMORY: &str = "its EVM computes places in memory modulo 2^32, so that it can be made to commit to a false statement";

/// What is also wrong with every program before 0x6441dadd….
const RULES: &str = "it accepts blocks that break four of Ethereum's rules (a contract created over storage, malformed deposit logs, \
     a missing system contract, one that runs out of gas), and its EVM computes places in memory modulo 2^32: it can be made \
     to commit to a false statement";

/// What is wrong with 0xb7b58daf….
const STORAGE: &str = "an account that self-destruction leaves empty keeps its storage in it until the transaction ends";

/// What is wrong with 0x13add4e3….
const CLEARED: &str = "clearing a delegation takes storage from accounts that keep it, and leaves it to some that lose it";

/// Every program that is revoked, in the order in which they were pinned.
#[rustfmt::skip]
pub const REVOKED: &[Revoked] = &[
    Revoked { id: id("230105e3993d5c157a1388b1432516b292bee66cb261accc6f3beb689e2613cc"), reason: RULES },
    Revoked { id: id("af2a62392522066ebbda93bb9c1873f8686c510ebea488920f5b9461b03475cd"), reason: RULES },
    Revoked { id: id("6441daddcf3a0e863ddc806ed48bfd1be93a72e376b75204a87775b984e62959"), reason: MEMORY },
    Revoked { id: id("4a600e0f6439d495743b17530e737f35a322735ad85dc7f700f27cf7a5b37396"), reason: MEMORY },
    Revoked { id: id("15a7f6bea7a70e7a9480c88c9daa769ef4a68356fb24f9f86d93db385801fa8e"), reason: MEMORY },
    Revoked { id: id("0bf05102c5464f26632ff886ac9c86431a204ec6d70f2ea7c6c572d422880601"), reason: MEMORY },
    Revoked { id: id("b1acfb099008ff38d1009eba7a37c06c7427a4ed09ac234a19da4fc9bce6f5a1"), reason: MEMORY },
    Revoked { id: id("b7b58daf6fed2eab9119a6769f313b17d7016b2e6f926dba195012f2c1aacfcd"), reason: STORAGE },
    Revoked { id: id("13add4e3b49b870ba8b25126c67a8c67a3d2d31a97c095a474ca2ce7dab38c19"), reason: CLEARED },
];

/// Refuses a program that is revoked. [`verify`](crate::verify) calls this itself.
///
/// # Errors
/// [`VerifyError::Revoked`], with the reason.
pub fn check_not_revoked(program_id: &[u8; 32]) -> Result<(), VerifyError> {
    match REVOKED.iter().find(|revoked| revoked.id == *program_id) {
        None => Ok(()),
        Some(&Revoked { id, reason }) => Err(VerifyError::Revoked { program_id: id, reason }),
    }
}

/// Reads a program id from hexadecimal text, as it is written everywhere else.
const fn id(text: &str) -> [u8; 32] {
    let digits = text.as_bytes();
    assert!(digits.len() == 64, "a program id has 64 digits");
    let mut id = [0; 32];
    let mut at = 0;
    while at < 32 {
        id[at] = digit(digits[2 * at]) * 16 + digit(digits[2 * at + 1]);
        at += 1;
    }
    id
}

const fn digit(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => character - b'0',
        b'a'..=b'f' => character - b'a' + 10,
        _ => panic!("a program id is written in lower-case hexadecimal digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::System;

    #[test]
    fn what_is_pinned_is_not_revoked() {
        for system in [System::Exec, System::Risc0] {
            assert_eq!(check_not_revoked(&system.program_id()), Ok(()), "{system}");
            assert_eq!(check_not_revoked(&system.aggregate_id()), Ok(()), "{system}");
        }
    }

    #[test]
    fn every_revoked_id_is_there_once_and_refused_with_its_reason() {
        for (index, revoked) in REVOKED.iter().enumerate() {
            assert!(!REVOKED[..index].iter().any(|other| other.id == revoked.id));
            let refused = check_not_revoked(&revoked.id).expect_err("it is revoked").to_string();
            let id: String = revoked.id.iter().map(|byte| format!("{byte:02x}")).collect();
            let told = format!("program 0x{id} is revoked, because {}", revoked.reason);
            assert_eq!(refused, told);
        }
        assert_eq!(REVOKED[0].id[..4], [0x23, 0x01, 0x05, 0xe3]);
    }
}
