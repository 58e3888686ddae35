//! Who can be held responsible for what happens under a lease, and how far its newcomers are trusted.
//!
//! * Anybody can make up client ids, and nobody can make up tokens. So blame goes by the token that a caller showed, and by the
//!   client only where no tokens are asked for.
//! * A newcomer is a client that has never had a proof accepted. What newcomers do badly under a token costs the token's other
//!   newcomers room, until a proof under the token is accepted. Clients that have proved something are not touched.

use super::state::{Rules, back_off};
use crate::clock::Timestamp;
use protocol::ClientId;

/// Who can be held responsible for what happens under a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A client of a server that asks for no tokens.
    Client(ClientId),
    /// The holder of the token of this id.
    Token(u64),
}

impl Party {
    /// A party in bytes: which of the two it is, and its id.
    pub const BYTES: usize = 17;

    /// Who is responsible for what `client` does that showed `token`.
    pub fn of(token: Option<u64>, client: ClientId) -> Self {
        token.map_or(Self::Client(client), Self::Token)
    }

    /// As it is stored. A client cannot choose an id whose bytes are a token's.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        match self {
            Self::Client(client) => bytes[1..].copy_from_slice(client.as_bytes()),
            Self::Token(token) => {
                bytes[0] = 1;
                bytes[9..].copy_from_slice(&token.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) writes.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[1..]);
        match bytes[0] {
            0 => Some(Self::Client(ClientId::from_bytes(id))),
            1 => Some(Self::Token(u64::try_from(u128::from_be_bytes(id)).ok()?)),
            _ => None,
        }
    }
}

/// From so many strikes on, a token's newcomers also rest.
pub const RESTING_STRIKES: u32 = 8;

/// How far a token's newcomers are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Leases that ended badly under newcomers, since a proof under the token was accepted.
    pub strikes: u32,
    /// When the last of them ended.
    pub struck_at: Timestamp,
}

impl Trust {
    /// How many leases the token's newcomers may hold together: half as many after each strike, but one always.
    pub fn may_hold(&self, rules: &Rules) -> u32 {
        rules.max_newcomers.checked_shr(self.strikes).unwrap_or(0).max(1)
    }

    /// Its newcomers get no job before this time.
    pub fn rests_until(&self) -> Timestamp {
        match (self.strikes + 1).checked_sub(RESTING_STRIKES) {
            None | Some(0) => Timestamp(0),
            Some(n) => self.struck_at + back_off(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_pass_for_a_token() {
        let token = Party::Token(7);
        let mut id = [0; 16];
        id.copy_from_slice(&token.to_bytes()[1..]);
        let client = Party::Client(ClientId::from_bytes(id));
        assert_ne!(token.to_bytes(), client.to_bytes());
        for party in [
            token,
            client,
            Party::Token(u64::MAX),
            Party::of(None, ClientId::from_bytes([255; 16])),
        ] {
            assert_eq!(Party::from_bytes(party.to_bytes()), Some(party));
        }
        assert_eq!(Party::from_bytes([2; Party::BYTES]), None);
        assert_eq!(Party::from_bytes([1; Party::BYTES]), None, "a token's id has eight bytes");
    }

    #[test]
    fn each_strike_halves_what_newcomers_may_hold_and_the_eighth_makes_them_rest() {
        let second = std::time::Duration::from_secs(1);
        let rules = Rules {
            lease: second,
            max_hold: second,
            max_failures: 1,
            max_lost: 1,
            max_rejected: 1,
            max_newcomers: 64,
        };
        let trust = |strikes| Trust { strikes, struck_at: Timestamp(1_000) };
        let may_hold = [0, 1, 2, 5, 6, 7, 40].map(|strikes| trust(strikes).may_hold(&rules));
        assert_eq!(may_hold, [64, 32, 16, 2, 1, 1, 1]);
        let rests = [0, 7, 8, 9, 100].map(|strikes| trust(strikes).rests_until().0);
        assert_eq!(rests, [0, 0, 6_000, 11_000, 601_000]);
    }
}
