//! Ids and ranges: newtypes which are valid once they exist.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, fmt, str::FromStr};

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {digits} lower-case hexadecimal digits, not {text:?}")]
pub struct InvalidId {
    what: &'static str,
    digits: usize,
    text: String,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        ///
        /// As text, in JSON and in paths: lower-case hexadecimal digits without a prefix.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let mut bytes = [0; $bytes];
                if parse_hex(text.as_bytes(), &mut bytes).is_none() {
                    // Only the start of the text is repeated: it may be hostile and of any length.
                    let text = text.chars().take(80).collect();
                    return Err(InvalidId { what: $what, digits: 2 * $bytes, text });
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let pattern = format!("^[0-9a-f]{{{}}}$", 2 * $bytes);
                json_schema!({ "type": "string", "pattern": pattern })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id! {
    /// A job: one proof wanted for one batch. Derived from what is to be proven, so that the same job has the same id
    /// on every server, even on one that lost its database.
    JobId, 16, "a job id"
}
hex_id! {
    /// A lease: 128 random bits, so that whoever knows it has the authority over it.
    LeaseId, 16, "a lease id"
}
hex_id! {
    /// A Prover Client: 128 random bits, made once and kept in the client's folder.
    ClientId, 16, "a client id"
}
hex_id! {
    /// A process of a Prover Client: 128 random bits, made at each start.
    InstanceId, 16, "an instance id"
}
hex_id! {
    /// An artifact: the SHA-256 of its bytes.
    ArtifactId, 32, "an artifact id"
}

impl ArtifactId {
    /// The id of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// Fills `out` from exactly as many lower-case hexadecimal digits as it needs. Each id has one spelling, because it
/// becomes a file name.
fn parse_hex(text: &[u8], out: &mut [u8]) -> Option<()> {
    if text.len() != 2 * out.len() {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

/// Schema of a 32-byte hash or id with the prefix `0x`.
pub(crate) struct Bytes32;

impl JsonSchema for Bytes32 {
    fn schema_name() -> Cow<'static, str> {
        "Bytes32".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0x[0-9a-f]{64}$" })
    }
}

/// Names immutable bytes by their hash and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactRef {
    /// SHA-256 of the bytes.
    pub sha256: ArtifactId,
    /// Length in bytes.
    pub len: u64,
}

impl ArtifactRef {
    /// The reference to `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: ArtifactId::of(bytes), len: bytes.len() as u64 }
    }
}

/// A non-empty run of consecutive L2 blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawRange")]
pub struct BlockRange {
    first: u64,
    last: u64, // invariant: first <= last
}

/// The first block of a range comes after its last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block range must not end before it starts: {first}..={last}")]
pub struct InvalidRange {
    first: u64,
    last: u64,
}

impl BlockRange {
    /// The blocks `first..=last`.
    ///
    /// # Errors
    /// [`InvalidRange`] if `last` comes before `first`.
    pub fn new(first: u64, last: u64) -> Result<Self, InvalidRange> {
        if first <= last { Ok(Self { first, last }) } else { Err(InvalidRange { first, last }) }
    }

    /// Number of the first block.
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Number of the last block, which belongs to the range.
    pub const fn last(&self) -> u64 {
        self.last
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[derive(Deserialize, JsonSchema)]
struct RawRange {
    first: u64,
    last: u64,
}

impl TryFrom<RawRange> for BlockRange {
    type Error = InvalidRange;

    fn try_from(raw: RawRange) -> Result<Self, InvalidRange> {
        Self::new(raw.first, raw.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!(text.parse::<LeaseId>().unwrap().to_string(), text);
        for wrong in [
            "",
            "00",
            &text.to_uppercase(),
            &format!("0x{text}"),
            &format!("{text}00"),
            "../../../../etc/passwd 12345678",
        ] {
            assert!(wrong.parse::<LeaseId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_backward_range_cannot_be_read() {
        let error = serde_json::from_str::<BlockRange>(r#"{"first":2,"last":1}"#).unwrap_err();
        assert!(
            error.to_string().starts_with("a block range must not end before it starts: 2..=1"),
            "{error}"
        );
        assert_eq!(
            serde_json::from_str::<BlockRange>(r#"{"first":1,"last":1}"#).unwrap().to_string(),
            "1"
        );
    }

    #[test]
    fn an_artifact_id_is_what_sha256sum_prints() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ArtifactId::of(b"abc").to_string(), expected);
    }
}
