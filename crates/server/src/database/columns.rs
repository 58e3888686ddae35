//! Columns: how each type is written into one, and read back.
//!
//! What cannot be read back was not written by this program: the database is damaged, and the error names the column and says
//! what it holds instead.

use crate::{
    clock::Timestamp,
    jobs::{
        outcome::{LeaseOutcome, RecordedVerdict},
        party::Party,
        settlement::{Rollup, SettlementState},
    },
};
use alloy_primitives::B256;
use protocol::{ArtifactId, ClientId, DeadCause, JobId, JobState, LeaseId, ProofKind, ProofSystem};
use sqlx::{
    Any, Database, Decode, Encode, Type, any::AnyTypeInfo, encode::IsNull, error::BoxDynError,
};

/// A type that stands in columns.
pub(crate) trait Column: Sized {
    /// What stands there for it.
    type Raw: Type<Any> + for<'r> Decode<'r, Any> + for<'q> Encode<'q, Any> + 'static;

    /// What is written.
    fn write(&self) -> Self::Raw;

    /// What was written.
    ///
    /// # Errors
    /// Says what stands there instead.
    fn read(raw: Self::Raw) -> Result<Self, BoxDynError>;
}

/// A value on its way into a column, or out of one: sqlx's traits cannot be given to the types of other crates.
pub(crate) struct Col<T>(pub(crate) T);

impl<T: Column> Type<Any> for Col<T> {
    fn type_info() -> AnyTypeInfo {
        T::Raw::type_info()
    }

    fn compatible(info: &AnyTypeInfo) -> bool {
        T::Raw::compatible(info)
    }
}

impl<T: Column> Encode<'_, Any> for Col<T> {
    fn encode_by_ref(
        &self,
        buffer: &mut <Any as Database>::ArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        self.0.write().encode_by_ref(buffer)
    }
}

impl<'r, T: Column> Decode<'r, Any> for Col<T> {
    fn decode(value: <Any as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        T::read(T::Raw::decode(value)?).map(Self)
    }
}

impl<T: Column> Column for Option<T> {
    type Raw = Option<T::Raw>;

    fn write(&self) -> Self::Raw {
        self.as_ref().map(T::write)
    }

    fn read(raw: Self::Raw) -> Result<Self, BoxDynError> {
        raw.map(T::read).transpose()
    }
}

/// What the database has itself.
macro_rules! plain {
    ($($type:ty)*) => {$(
        impl Column for $type {
            type Raw = Self;

            fn write(&self) -> Self {
                self.clone()
            }

            fn read(raw: Self) -> Result<Self, BoxDynError> {
                Ok(raw)
            }
        }
    )*};
}

plain! { i64 String Vec<u8> }

/// The database's integers are signed; ours go in and come out bit by bit. (Order holds for every number a chain can reach.)
impl Column for u64 {
    type Raw = i64;

    fn write(&self) -> i64 {
        self.cast_signed()
    }

    fn read(raw: i64) -> Result<Self, BoxDynError> {
        Ok(raw.cast_unsigned())
    }
}

impl Column for Timestamp {
    type Raw = i64;

    fn write(&self) -> i64 {
        self.0.write()
    }

    fn read(raw: i64) -> Result<Self, BoxDynError> {
        u64::read(raw).map(Self)
    }
}

/// Numbers of fewer bits.
macro_rules! small {
    ($($type:ty)*) => {$(
        impl Column for $type {
            type Raw = i64;

            fn write(&self) -> i64 {
                i64::from(*self)
            }

            fn read(raw: i64) -> Result<Self, BoxDynError> {
                let wrong = |_| format!("{raw} is not from {} to {}", Self::MIN, Self::MAX);
                Ok(Self::try_from(raw).map_err(wrong)?)
            }
        }
    )*};
}

small! { u32 i32 }

impl Column for bool {
    type Raw = i64;

    fn write(&self) -> i64 {
        i64::from(*self)
    }

    fn read(raw: i64) -> Result<Self, BoxDynError> {
        Ok(raw != 0)
    }
}

impl<const N: usize> Column for [u8; N] {
    type Raw = Vec<u8>;

    fn write(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn read(raw: Vec<u8>) -> Result<Self, BoxDynError> {
        let len = raw.len();
        Ok(raw.try_into().map_err(|_| format!("{N} bytes were expected, not {len}"))?)
    }
}

impl Column for B256 {
    type Raw = Vec<u8>;

    fn write(&self) -> Vec<u8> {
        self.0.write()
    }

    fn read(raw: Vec<u8>) -> Result<Self, BoxDynError> {
        Column::read(raw).map(Self)
    }
}

impl Column for Party {
    type Raw = Vec<u8>;

    fn write(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    fn read(raw: Vec<u8>) -> Result<Self, BoxDynError> {
        Ok(Self::from_bytes(Column::read(raw)?).ok_or("neither a client nor a token")?)
    }
}

impl Column for Rollup {
    type Raw = Vec<u8>;

    fn write(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    fn read(raw: Vec<u8>) -> Result<Self, BoxDynError> {
        Column::read(raw).map(Self::from_bytes)
    }
}

/// One after the other.
impl Column for Vec<Party> {
    type Raw = Vec<u8>;

    fn write(&self) -> Vec<u8> {
        self.iter().flat_map(|party| party.to_bytes()).collect()
    }

    fn read(raw: Vec<u8>) -> Result<Self, BoxDynError> {
        raw.chunks(Party::BYTES).map(|party| Column::read(party.to_vec())).collect()
    }
}

macro_rules! ids {
    ($($type:ty)*) => {$(
        impl Column for $type {
            type Raw = Vec<u8>;

            fn write(&self) -> Vec<u8> {
                self.as_bytes().to_vec()
            }

            fn read(raw: Vec<u8>) -> Result<Self, BoxDynError> {
                Column::read(raw).map(Self::from_bytes)
            }
        }
    )*};
}

ids! { JobId LeaseId ClientId ArtifactId }

/// What is written as its messages have it.
macro_rules! displayed {
    ($($type:ty)*) => {$(
        impl Column for $type {
            type Raw = String;

            fn write(&self) -> String {
                self.to_string()
            }

            fn read(raw: String) -> Result<Self, BoxDynError> {
                Ok(raw.parse()?)
            }
        }
    )*};
}

displayed! { ProofSystem ProofKind }

/// One of several names.
macro_rules! named {
    ($($type:ty: $all:expr, $what:literal;)*) => {$(
        impl Column for $type {
            type Raw = String;

            fn write(&self) -> String {
                self.name().to_owned()
            }

            fn read(raw: String) -> Result<Self, BoxDynError> {
                let found = $all.into_iter().find(|one: &Self| one.name() == raw);
                Ok(found.ok_or_else(|| format!("{raw:?} is not {}", $what))?)
            }
        }
    )*};
}
pub(crate) use named;

/// The states that a job's row may name. That its batch is off the chain stands beside it.
const STATES: [JobState; 5] =
    [JobState::Ready, JobState::Leased, JobState::Verifying, JobState::Proved, JobState::Dead];

/// The causes that a dead job's row may name. None is named if its budgets are spent.
const CAUSES: [DeadCause; 2] = [DeadCause::Quarantined, DeadCause::Cancelled];

named! {
    JobState: STATES, "the state of a job";
    DeadCause: CAUSES, "why a job was given up";
    LeaseOutcome: LeaseOutcome::ALL, "how a lease ended";
    RecordedVerdict: RecordedVerdict::ALL, "a verdict";
    SettlementState: SettlementState::ALL, "how far a batch is on its way to L1";
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use std::fmt::Debug;

    fn returns<T: Column + Debug + PartialEq + Clone>(values: &[T]) {
        for value in values {
            assert_eq!(&T::read(value.write()).unwrap(), value);
            assert_eq!(
                Option::<T>::read(Some(value.clone()).write()).unwrap().as_ref(),
                Some(value)
            );
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        returns(&[0, 1, u64::MAX]);
        returns(&[0, u32::MAX]);
        returns(&[i32::MIN, i32::MAX]);
        returns(&[Timestamp(7)]);
        returns(&[true, false]);
        let party = Party::Client(ClientId::from_bytes([2; 16]));
        returns(&[Party::Token(1), party]);
        returns(&[vec![], vec![party], vec![party, Party::Token(u64::MAX)]]);
        returns(&[B256::repeat_byte(1)]);
        returns(&[JobId::from_bytes([1; 16])]);
        returns(&[ArtifactId::from_bytes([1; 32])]);
        returns(&[ProofSystem::Exec, ProofSystem::Risc0]);
        returns(&[ProofKind::Composite, ProofKind::Succinct]);
        returns(&STATES);
        returns(&CAUSES);
        returns(&LeaseOutcome::ALL);
        returns(&RecordedVerdict::ALL);
        returns(&SettlementState::ALL);
        returns(&[Rollup { chain_id: u64::MAX - 1, address: Address::repeat_byte(7) }]);
        assert_eq!(Option::<JobId>::read(None).unwrap(), None);
    }

    #[test]
    fn what_was_not_written_here_is_named() {
        fn wrong<T: Column>(raw: T::Raw, says: &str) {
            assert_eq!(T::read(raw).err().expect("it is no such value").to_string(), says);
        }
        wrong::<JobId>(vec![1; 3], "16 bytes were expected, not 3");
        wrong::<Party>(vec![9; 17], "neither a client nor a token");
        wrong::<Vec<Party>>(vec![0; 18], "17 bytes were expected, not 1");
        wrong::<B256>(Vec::new(), "32 bytes were expected, not 0");
        wrong::<u32>(-1, "-1 is not from 0 to 4294967295");
        wrong::<JobState>("lost".into(), "\"lost\" is not the state of a job");
        wrong::<JobState>("superseded".into(), "\"superseded\" is not the state of a job");
        wrong::<DeadCause>("budget".into(), "\"budget\" is not why a job was given up");
        wrong::<RecordedVerdict>(String::new(), "\"\" is not a verdict");
    }
}
