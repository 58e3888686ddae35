//! The L2 node, whose chain changes, and whoever follows it.

use super::{
    servers::Server,
    world::{SECOND, Step, World},
};
use alloy_primitives::{B256, keccak256};
use protocol::{ArtifactRef, BlockRange};
use rand::Rng;
use server::jobs::{NewBatch, Targets, Tip, Unlinked};

/// No reorg is deeper, in blocks.
pub(super) const DEEPEST: u64 = 4;

/// What the intake decided on, a moment ago.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few of them")]
pub(super) enum Act {
    Enqueue(NewBatch),
    /// Batches that wait for a proof that is not wanted any more get another job.
    Rescue,
    Supersede {
        from: u64,
        tip: Tip,
    },
}

pub(super) fn hash(name: u64) -> B256 {
    keccak256(name.to_be_bytes())
}

impl World {
    pub(super) fn batch(&self, first: u64, last: u64) -> NewBatch {
        let name = |number: u64| self.chain[usize::try_from(number).expect("it is small")];
        let blocks = BlockRange::new(first, last).expect("it has a block");
        let (parent_hash, last_hash) = (hash(name(first - 1)), hash(name(last)));
        let statement = [parent_hash, last_hash].concat();
        NewBatch {
            blocks,
            parent_hash,
            last_hash,
            statement_digest: keccak256(&statement),
            input: ArtifactRef::of(&statement),
            statement,
            gas_used: 0,
            transactions: 0,
            estimated_cycles: 0,
            deposits: None,
        }
    }

    pub(super) async fn look_at_the_node(&mut self) {
        // Mostly one leads; that two do is possible while a connection is lost.
        if self.node_hangs_until > self.now {
            return self.counts.add("questions to a hung node");
        }
        let leads = |server: &Server| server.up && server.hung_until <= self.now;
        let Some(leader) = self.servers.iter().position(leads) else { return };
        let leads = |n: &usize| self.servers[*n].up && (*n == leader || self.now.is_multiple_of(7));
        let mut last_final = 0;
        for server in (0..self.servers.len()).filter(leads).collect::<Vec<_>>() {
            let (tip, head) = (self.engine.tip(), self.head);
            let on_chain = |number: u64, found: B256| {
                let name = self.chain.get(usize::try_from(number).expect("it is small"));
                number <= head && name.is_some_and(|name| hash(*name) == found)
            };
            let wanted = Targets::from(self.servers[server].target);
            let act = match tip {
                Some(tip) if !on_chain(tip.last, tip.last_hash) => {
                    let live = self.engine.live();
                    let gone = live.iter().find(|b| !on_chain(b.blocks.last(), b.last_hash));
                    let from = gone.expect("the last is gone").blocks.first();
                    Act::Supersede { from, tip }
                }
                _ if !self.engine.stranded(&wanted).is_empty() => Act::Rescue,
                _ => {
                    let first = tip.map_or(1, |tip| tip.last + 1);
                    // Nobody calls final what it has not found on the chain.
                    last_final = self.head.saturating_sub(DEEPEST + 1);
                    if first > head {
                        continue;
                    }
                    Act::Enqueue(self.batch(first, (first + self.batch_blocks - 1).min(head)))
                }
            };
            let life = self.servers[server].life;
            let most = if self.faults.reorgs { 3 * SECOND } else { 10 };
            let delay = self.dice.random_range(0..most);
            self.after(delay, Step::Act { server, life, act });
        }
        self.engine.finalize(last_final).await;
    }

    pub(super) async fn act(&mut self, server: usize, act: Act) {
        let Some(_told) = self.transaction(server) else { return };
        let now = self.clock(server);
        match act {
            Act::Enqueue(batch) => {
                let gone = self.engine.is_superseded(&batch);
                let target = self.servers[server].target;
                match self.engine.enqueue(&batch, target, now).await {
                    Ok(job) => {
                        self.enqueued.insert(job);
                        if gone {
                            self.counts.add("revived batches");
                        }
                    }
                    Err(Unlinked::Gap { .. } | Unlinked::Parent { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            Act::Rescue => {
                let target = self.servers[server].target;
                for job in self.engine.rescue(target, now).await {
                    self.counts.add("batches with another job");
                    self.enqueued.insert(job);
                }
            }
            Act::Supersede { from, tip } => {
                if self.engine.supersede(from, Some(tip), now).await.is_some() {
                    self.watched.retain(|job, _| {
                        let row = &self.engine.rows[self.engine.find(*job)];
                        row.job.state.lease().is_some()
                    });
                }
            }
        }
    }
}
