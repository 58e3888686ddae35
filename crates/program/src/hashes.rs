//! Hashes of addresses and words, which are trie keys and go into bloom filters; often the same hash is
//! needed for both.

use alloc::vec::Vec;
use alloy_primitives::{
    Address, B256, Bloom, Log, keccak256,
    map::{AddressMap, B256Map},
};

/// A key's hash, counted.
fn hash(key: impl AsRef<[u8]>) -> B256 {
    #[cfg(feature = "std")]
    crate::counts::key();
    keccak256(key)
}

/// An address by the order in which it was first asked for: an index where a map would be slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountId(u32);

impl AccountId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Remembers Keccak-256 of addresses and words.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    ids: AddressMap<AccountId>,
    /// The hashed addresses, by id.
    addresses: Vec<B256>,
    /// The last that was asked for, which often is the next.
    last: Option<(Address, AccountId)>,
    words: B256Map<B256>,
}

impl Hashes {
    pub(crate) fn id(&mut self, address: Address) -> AccountId {
        if let Some((last, id)) = &self.last
            && *last == address
        {
            return *id;
        }
        let id = *self.ids.entry(address).or_insert_with(|| {
            let id = u32::try_from(self.addresses.len()).expect("2^32 hashes do not fit in memory");
            self.addresses.push(hash(address));
            AccountId(id)
        });
        self.last = Some((address, id));
        id
    }

    /// The hash of the address with this id.
    pub(crate) fn hashed(&self, id: AccountId) -> &B256 {
        &self.addresses[id.index()]
    }

    pub(crate) fn address(&mut self, address: Address) -> B256 {
        let id = self.id(address);
        *self.hashed(id)
    }

    pub(crate) fn word(&mut self, word: B256) -> B256 {
        *self.words.entry(word).or_insert_with(|| hash(word))
    }

    /// The Yellow Paper's bloom filter over the address and topics of every log.
    pub(crate) fn bloom<'l>(&mut self, logs: impl IntoIterator<Item = &'l Log>) -> Bloom {
        #[cfg(feature = "std")]
        let before = self.addresses.len() + self.words.len();
        let mut bloom = Bloom::ZERO;
        for log in logs {
            bloom.m3_2048_hashed(&self.address(log.address));
            for topic in log.topics() {
                bloom.m3_2048_hashed(&self.word(*topic));
            }
        }
        #[cfg(feature = "std")]
        crate::counts::bloom_keys(self.addresses.len() + self.words.len() - before);
        bloom
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, logs_bloom};

    #[test]
    fn a_bloom_from_memory_is_the_bloom() {
        let log = |address: u8, topics: &[u8]| {
            let topics = topics.iter().map(|topic| B256::repeat_byte(*topic)).collect();
            Log::new_unchecked(Address::repeat_byte(address), topics, Bytes::new())
        };
        let logs = [log(1, &[1, 2]), log(2, &[]), log(1, &[2, 3, 1, 9])];
        let mut hashes = Hashes::default();
        for _ in 0..2 {
            assert_eq!(hashes.bloom(&logs), logs_bloom(&logs));
        }
    }
}
