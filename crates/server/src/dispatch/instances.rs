//! Processes that use one client's id, or one lease: the copy of a client's folder has both too.
//!
//! A client that starts anew is another process under the same id, and the one before is never heard again. If it is, both run.

use protocol::{Capability, ClientId, InstanceId};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, Hash, RandomState},
};

/// So many clients, or leases, are remembered. When there are more, all are forgotten: a copy is noticed a little later.
const MOST: usize = 10_000;

/// So many earlier processes of each are remembered.
const MAX_EARLIER: usize = 8;

/// Which processes were heard under each client's id, or under each lease. Kept in memory: another server, or this one after a
/// restart, notices for itself.
#[derive(Debug)]
pub(super) struct Instances<K>(HashMap<K, Processes>);

#[derive(Debug)]
struct Processes {
    latest: InstanceId,
    earlier: VecDeque<InstanceId>,
}

impl<K> Default for Instances<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Instances<K> {
    /// Whether a process would be heard for the first time.
    pub(super) fn is_new(&self, key: K, instance: InstanceId) -> bool {
        self.0.get(&key).is_none_or(|it| it.latest != instance && !it.earlier.contains(&instance))
    }

    /// Notes that a process was heard. False: another one was heard since this one began.
    pub(super) fn is_latest(&mut self, key: K, instance: InstanceId) -> bool {
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let new = || Processes { latest: instance, earlier: VecDeque::new() };
        let processes = self.0.entry(key).or_insert_with(new);
        if processes.earlier.contains(&instance) {
            return false;
        }
        if processes.latest != instance {
            processes.earlier.push_back(processes.latest);
            if processes.earlier.len() > MAX_EARLIER {
                processes.earlier.pop_front();
            }
            processes.latest = instance;
        }
        true
    }
}

/// What clients said of themselves, as far as that was written down: hashes of it. Kept in memory, as the processes are.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    hasher: RandomState,
    noted: HashMap<ClientId, u64>,
}

impl Descriptions {
    /// Whether a client says something else of itself than before, which is noted.
    pub(super) fn is_new(&mut self, client: ClientId, capabilities: &[Capability]) -> bool {
        let text = serde_json::to_vec(capabilities).unwrap_or_default();
        let hash = self.hasher.hash_one(text);
        if self.noted.len() >= MOST && !self.noted.contains_key(&client) {
            self.noted.clear();
        }
        self.noted.insert(client, hash) != Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use protocol::ProofSystem;

    #[test]
    fn what_a_client_says_of_itself_is_new_when_it_changes() {
        let client = ClientId::from_bytes([1; 16]);
        let before = Capability::new(ProofSystem::Risc0, B256::ZERO, false);
        let after = Capability { segment_po2: Some(19), ..before.clone() };
        let mut said = Descriptions::default();
        for (capability, new) in
            [(&before, true), (&before, false), (&after, true), (&after, false), (&before, true)]
        {
            assert_eq!(said.is_new(client, std::slice::from_ref(capability)), new);
        }
    }

    #[test]
    fn a_client_may_start_anew_and_a_copy_of_it_is_noticed() {
        let (client, other) = (ClientId::from_bytes([1; 16]), ClientId::from_bytes([2; 16]));
        let [a, b, c] = [1, 2, 3].map(|n| InstanceId::from_bytes([n; 16]));
        let mut instances = Instances::default();
        // A restart, and another.
        assert!(instances.is_latest(client, a) && instances.is_latest(client, a));
        assert!(instances.is_latest(client, b) && instances.is_latest(client, c));
        assert!(instances.is_latest(other, a), "of another client");
        // One of those that were thought to be gone is still there.
        assert!(!instances.is_latest(client, a) && !instances.is_latest(client, b));
        assert!(instances.is_latest(client, c), "the latest one goes on");
        for n in 10..60 {
            let client = ClientId::from_bytes([3; 16]);
            assert!(instances.is_latest(client, InstanceId::from_bytes([n; 16])));
        }
        assert!(instances.0.values().all(|processes| processes.earlier.len() <= MAX_EARLIER));
    }
}
