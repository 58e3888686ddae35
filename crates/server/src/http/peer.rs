//! The other end of a connection, and whose requests are counted together.

use crate::access::tokens::TokenId;
use std::net::IpAddr;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub ip: IpAddr,
    /// SHA-256 of its certificate, which TLS has verified.
    pub certificate: Option<[u8; 32]>,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A stranger's address; of IPv6 the first 64 bits, which one machine may have all of.
    Peer(IpAddr),
    /// A token's owner.
    Token(TokenId),
}

impl Who {
    /// A stranger at `ip`.
    pub fn peer(ip: IpAddr) -> Self {
        Self::Peer(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & (u128::MAX << 64)).into()),
            v4 => v4,
        })
    }
}
