//! The sender, its store and an L1, under faults that a seed chooses: reorgs, lost transactions, fees that rise, RPCs that fail and
//! lie, clocks that jump, crashes at every label, two senders, and other people's transactions.
//!
//! `SEEDS=1000` tries more of them, `SEED=7` only that one.

mod l1;
#[path = "../world/l2.rs"]
mod l2;

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_network::TxSignerSync as _;
use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_signer_local::PrivateKeySigner;
use l1::{CHAIN, Counts, Endpoint, GWEI, L1, ROLLUP, Shared};
use l2::{DIGEST, JOBS, L2, PROGRAM, hash, root};
use program::Statement;
use protocol::{LeaseId, ProofKind};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use server::{
    artifacts::{Artifacts, Place, Sharing},
    clock::Timestamp,
    jobs::{NewBatch, settlement::Rollup},
    store::JobStore,
};
use settlement::{
    Caps, Config, Error, Label, Rpc, Rules, Sender, Tick, Trial, Wallet, check, contract::Head,
    state::Alarm,
};
use sqlx::Executor as _;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

const CONTRACT: Rollup = Rollup { chain_id: CHAIN, address: ROLLUP };
const SLOT: u64 = 12_000;
fn rules() -> Rules {
    Rules {
        bump_after: Duration::from_secs(60),
        resend_after: Duration::from_secs(12),
        caps: Caps { max: 100 * GWEI, priority: 50 * GWEI },
    }
}

fn config() -> Config {
    Config {
        rollup: ROLLUP,
        chain_id: Some(CHAIN),
        kind: ProofKind::Composite,
        rules: rules(),
        ..Config::default()
    }
}

fn key(n: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(n)).unwrap()
}

/// The call that settles the batch at `place`.
fn call(l2: &L2, links: &[B256], place: usize) -> Vec<u8> {
    let statement = |batch: &NewBatch| Statement::abi_decode(&batch.statement).unwrap();
    let consumed: u64 =
        l2.batches[..=place].iter().map(|batch| statement(batch).deposits_count).sum();
    let values = l2.batches[place].statement.clone();
    let proof = check::mock(PROGRAM, &values);
    check::call(values, links[usize::try_from(consumed).unwrap()], vec![(0, proof)])
}

struct World {
    rng: StdRng,
    l1: Shared,
    l2: L2,
    links: Vec<B256>,
    store: JobStore,
    artifacts: Artifacts,
    now: Arc<AtomicU64>,
    proven: usize,
    _folder: TempDir,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug)]
struct Faults {
    /// Of a thousand requests.
    fails: u32,
    lies: u32,
    /// Of a hundred slots.
    reorgs: u32,
    losses: u32,
    foreign: u32,
    others: u32,
    spikes: u32,
    clocks: u32,
    /// Of a hundred ticks.
    crashes: u32,
    interruptions: u32,
}

impl Faults {
    const NONE: Self = Self {
        fails: 0,
        lies: 0,
        reorgs: 0,
        losses: 0,
        foreign: 0,
        others: 0,
        spikes: 0,
        clocks: 0,
        crashes: 0,
        interruptions: 0,
    };

    /// Each of them often, seldom or never.
    fn some(rng: &mut StdRng) -> Self {
        let mut some = |often: u32| match rng.random_range(0..3) {
            0 => 0,
            1 => often.div_ceil(4),
            _ => often,
        };
        Self {
            fails: some(100),
            lies: some(60),
            reorgs: some(15),
            losses: some(15),
            foreign: some(10),
            others: some(8),
            spikes: some(10),
            clocks: some(4),
            crashes: some(30),
            interruptions: some(15),
        }
    }
}

impl World {
    async fn new(seed: u64, batches: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Nothing here has to outlive a power cut.
        let memory = std::path::Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let store = JobStore::open(&folder.path().join("jobs.sqlite"), JOBS).await.unwrap();
        let place = Place::Folder(folder.path().join("artifacts"), Sharing::Alone);
        let artifacts = Artifacts::open(&place, 1 << 20).unwrap();
        let mut links = vec![B256::ZERO];
        for _ in 0..2 * batches {
            links.push(keccak256(links.last().unwrap()));
        }
        let l2 = L2::new(&mut rng, batches, links.clone());
        let genesis = Head { hash: hash(0), stateRoot: root(0), ..Head::default() };
        let l1 = L1::new(seed, genesis, DIGEST, key(1).address(), links.clone());
        let now = Arc::new(AtomicU64::new(1_700_000_000_000));
        let l1 = Arc::new(Mutex::new(l1));
        let this = Self { rng, l1, l2, links, store, artifacts, now, proven: 0, _folder: folder };
        // What was durable at some time.
        let ever = "CREATE TABLE ever (hash BLOB PRIMARY KEY);
            CREATE TRIGGER durable AFTER UPDATE ON settlements WHEN NEW.tx_hash IS NOT NULL BEGIN
            INSERT INTO ever SELECT NEW.tx_hash WHERE NEW.tx_hash NOT IN (SELECT hash FROM ever); END";
        this.store.database().readers().execute(ever).await.unwrap();
        this
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        (0..2).map(|_| Endpoint::new(&self.l1)).collect()
    }

    fn sender(&self, n: u8, endpoints: &[Endpoint]) -> Sender {
        let rpcs = endpoints.iter().zip(["http://a", "http://b"]);
        let rpcs = rpcs.map(|(endpoint, name)| Rpc::new(name, endpoint.clone()));
        let (store, artifacts) = (self.store.clone(), self.artifacts.clone());
        Sender::new(config(), store, artifacts, Wallet::new(key(1)), rpcs.collect(), [n; 16])
    }

    /// The next batch is proven.
    async fn prove(&mut self) {
        let Some(batch) = self.l2.batches.get(self.proven) else { return };
        self.proven += 1;
        l2::prove(&self.store, batch, self.now(), LeaseId::from_bytes(self.rng.random())).await;
    }

    /// Somebody uses the wallet for something else.
    fn foreign(&mut self) {
        let mut l1 = self.l1.lock().unwrap();
        let fee = u128::from(GWEI) * self.rng.random_range(2..90);
        let mut tx = TxEip1559 {
            chain_id: CHAIN,
            nonce: l1.nonce(key(1).address()),
            gas_limit: 21_000,
            max_fee_per_gas: fee,
            max_priority_fee_per_gas: fee / 2,
            to: Address::repeat_byte(9).into(),
            ..TxEip1559::default()
        };
        let signature = key(1).sign_transaction_sync(&mut tx).unwrap();
        if l1.hand_in(TxEnvelope::from(tx.into_signed(signature))).is_ok() {
            l1.counts.foreign += 1;
        }
    }

    /// Twelve seconds pass.
    async fn slot(&mut self, faults: &Faults) {
        self.now.fetch_add(SLOT, Ordering::SeqCst);
        if self.rng.random_ratio(1, 3) {
            self.prove().await;
        }
        let hundred = |rng: &mut StdRng, of| rng.random_ratio(of, 100);
        if hundred(&mut self.rng, faults.clocks) {
            let hours = self.rng.random_range(0..200) * 3_600_000_u64;
            match self.rng.random_bool(0.5) {
                true => self.now.fetch_add(hours, Ordering::SeqCst),
                false => self.now.fetch_sub(hours, Ordering::SeqCst),
            };
        }
        if hundred(&mut self.rng, faults.foreign) {
            self.foreign();
        }
        let mut l1 = self.l1.lock().unwrap();
        if hundred(&mut self.rng, faults.losses) {
            l1.lose();
        }
        if hundred(&mut self.rng, faults.others) {
            let head = l1.head().number;
            let proven = &self.l2.batches[..self.proven];
            if let Some(next) = proven.iter().position(|it| it.blocks.first() == head + 1) {
                l1.settle_by_another(&call(&self.l2, &self.links, next));
            }
        }
        if hundred(&mut self.rng, faults.reorgs) {
            l1.reorg(self.rng.random_range(1..6));
        }
        let spike = hundred(&mut self.rng, faults.spikes);
        let base_fee = if spike { GWEI * self.rng.random_range(2..300) } else { GWEI };
        l1.mine(self.rng.random_bool(0.8), base_fee);
    }

    /// No transaction was handed in that had not been durable before.
    async fn nothing_was_sent_too_early(&self) {
        let ever = sqlx::query_scalar("SELECT hash FROM ever");
        let ever: Vec<Vec<u8>> = ever.fetch_all(self.store.database().readers()).await.unwrap();
        let ever: BTreeSet<_> = ever.iter().map(|hash| B256::from_slice(hash)).collect();
        let handed_in = self.l1.lock().unwrap().handed_in.clone();
        assert!(handed_in.is_subset(&ever), "sent, and never durable");
    }
}

/// Runs one seed; says what happened, and at how many labels a sender crashed.
async fn run(seed: u64, faults: Option<Faults>) -> (Counts, Vec<Label>) {
    let mut world = World::new(seed, 8).await;
    let faults = faults.unwrap_or_else(|| Faults::some(&mut world.rng));
    let endpoints = [world.endpoints(), world.endpoints()];
    let (first, second) = (world.sender(1, &endpoints[0]), world.sender(2, &endpoints[1]));
    let mut senders = [first, second].map(|sender| Arc::new(tokio::sync::Mutex::new(sender)));
    let mut crashed = Vec::new();
    for _ in 0..60 {
        world.slot(&faults).await;
        for which in 0..2_u8 {
            let at = usize::from(which);
            // One of them is away now and then, for longer than its lease.
            if world.rng.random_ratio(1, 8) {
                continue;
            }
            for endpoint in &endpoints[at] {
                *endpoint.fails.lock().unwrap() = faults.fails;
            }
            *endpoints[at][0].lies.lock().unwrap() = faults.lies;
            if world.rng.random_ratio(faults.interruptions, 100) {
                // It stops in the middle for so long that the other one takes its place.
                let (other, clock) = (senders[1 - at].clone(), world.now.clone());
                let future = async move {
                    let now = Timestamp(clock.fetch_add(100_000, Ordering::SeqCst) + 100_000);
                    drop(other.lock().await.tick(now, &mut |_| true).await);
                };
                let after = world.rng.random_range(0..14);
                *endpoints[at][0].meanwhile.lock().unwrap() = Some((after, Box::pin(future)));
            }
            let crash = world.rng.random_ratio(faults.crashes, 100);
            let mut left = if crash { world.rng.random_range(1..=10) } else { u32::MAX };
            let mut last = None;
            let mut pass = |label| {
                left -= 1;
                last = Some(label);
                left > 0
            };
            let ticked = senders[at].lock().await.tick(world.now(), &mut pass).await;
            *endpoints[at][0].meanwhile.lock().unwrap() = None;
            if matches!(ticked, Err(Error::Stopped)) {
                crashed.extend(last);
                // A new process, under a new name, that has nothing but the store.
                let name = world.rng.random_range(3..=255);
                let sender = world.sender(name, &endpoints[at]);
                senders[at] = Arc::new(tokio::sync::Mutex::new(sender));
            }
            world.nothing_was_sent_too_early().await;
        }
    }
    // From here on nothing goes wrong.
    for endpoint in endpoints.iter().flatten() {
        (*endpoint.fails.lock().unwrap(), *endpoint.lies.lock().unwrap()) = (0, 0);
    }
    let last = world.l2.batches.last().unwrap().blocks.last();
    let mut told = Vec::new();
    for slots in 0.. {
        if slots == 400 {
            let open = world.store.open_settlements(&CONTRACT).await.unwrap();
            let open: Vec<_> = open
                .iter()
                .map(|row| {
                    (row.blocks, row.state, row.wasted, row.tx.as_ref().map(|tx| (tx.nonce, tx.at)))
                })
                .collect();
            let (known, l1) = (world.store.settled_on().await.unwrap(), world.l1.lock().unwrap());
            panic!(
                "seed {seed}: not all is settled after {faults:?}: {open:?} {known:?} {told:?} at {:?}, nonce {}, {:?}",
                world.now(),
                l1.nonce(key(1).address()),
                l1.waiting(key(1).address())
            );
        }
        world.slot(&Faults::NONE).await;
        told.clear();
        for sender in &senders {
            told.push(sender.lock().await.tick(world.now(), &mut |_| true).await);
        }
        let open = world.store.open_settlements(&CONTRACT).await.unwrap();
        let (head, is_final) = {
            let l1 = world.l1.lock().unwrap();
            (l1.head().number, l1.finalized_head() == last)
        };
        if head == last && is_final && open.is_empty() && world.proven == world.l2.batches.len() {
            break;
        }
    }
    world.nothing_was_sent_too_early().await;
    let l1 = world.l1.lock().unwrap();
    if faults.lies == 0 {
        let waiting = l1.waiting(key(1).address());
        assert!(waiting.is_empty(), "seed {seed}: nonces {waiting:?} wait for ever; {faults:?}");
    }
    (l1.counts, crashed)
}

#[tokio::test]
async fn each_batch_is_settled_once_whatever_happens() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(40),
    };
    let (mut all, mut labels) = (Counts::default(), BTreeSet::new());
    let many = seeds.end - seeds.start >= 40;
    for seed in seeds {
        let (counts, crashed) = run(seed, None).await;
        all.settled += counts.settled;
        all.reverted += counts.reverted;
        all.reorgs += counts.reorgs;
        all.foreign += counts.foreign;
        all.others += counts.others;
        all.lost += counts.lost;
        all.lies += counts.lies;
        all.replaced += counts.replaced;
        labels.extend(crashed);
    }
    if many {
        // The faults did happen.
        for count in
            [all.settled, all.reorgs, all.foreign, all.others, all.lost, all.lies, all.replaced]
        {
            assert!(count > 5, "{all:?}");
        }
        assert_eq!(labels, Label::ALL.into(), "a sender crashed at each label");
    }
    // Run with --no-capture to see it.
    std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{all:?}\n")).unwrap();
}

/// Crashes and two senders alone cost nothing: no transaction is included that reverts.
#[tokio::test]
async fn crashes_and_takeovers_waste_no_gas() {
    for seed in 1_000..1_010 {
        let faults =
            Faults { crashes: 60, interruptions: 40, losses: 10, fails: 50, ..Faults::NONE };
        let (counts, _) = run(seed, Some(faults)).await;
        assert_eq!((counts.settled, counts.reverted), (8, 0), "seed {seed}");
    }
}

/// From a proven batch to its transaction in the pool it takes one look.
#[tokio::test]
async fn a_proven_batch_is_sent_at_once() {
    let mut world = World::new(1, 2).await;
    let mut sender = world.sender(1, &world.endpoints());
    let tick = sender.tick(world.now(), &mut |_| true).await.unwrap();
    assert!(
        matches!(tick, Tick::Done { settled: 0, alarm: Some(_) }),
        "nothing is known: {tick:?}"
    );
    world.prove().await;
    let tick = sender.tick(world.now(), &mut |_| true).await.unwrap();
    assert_eq!(tick, Tick::Done { settled: 0, alarm: None });
    assert_eq!(world.l1.lock().unwrap().waiting(key(1).address()), [0]);
    let mut other = world.sender(2, &world.endpoints());
    assert_eq!(other.tick(world.now(), &mut |_| true).await.unwrap(), Tick::Standby);
}

/// An RPC that fails, or lies all the time, is left for the next one.
#[tokio::test]
async fn one_honest_rpc_is_enough() {
    let mut world = World::new(2, 2).await;
    world.prove().await;
    for (fails, lies) in [(1_000, 0), (0, 1_000)] {
        let endpoints = world.endpoints();
        *endpoints[0].fails.lock().unwrap() = fails;
        *endpoints[0].lies.lock().unwrap() = lies;
        let mut sender = world.sender(1, &endpoints);
        let mut ticks = Vec::new();
        for _ in 0..2 {
            ticks.push(sender.tick(world.now(), &mut |_| true).await);
        }
        let done = ticks.iter().any(|tick| matches!(tick, Ok(Tick::Done { alarm: None, .. })));
        assert!(done && !ticks[0].as_ref().is_ok_and(|tick| *tick == Tick::Standby), "{ticks:?}");
    }
    assert_eq!(world.l1.lock().unwrap().waiting(key(1).address()), [0]);
}

/// One that says, every other time, that nothing is settled, has a batch paid for once, if there is an honest one beside it; and what
/// only it calls final is not.
#[tokio::test]
async fn an_rpc_that_takes_back_what_it_said_costs_nothing() {
    for alone in [false, true] {
        let mut world = World::new(4, 1).await;
        world.prove().await;
        let mut endpoints = world.endpoints();
        if alone {
            endpoints.truncate(1);
        }
        let mut sender = world.sender(1, &endpoints);
        let calm = Faults::NONE;
        for n in 0..60 {
            *endpoints[0].forgets.lock().unwrap() = n % 2 == 1;
            drop(sender.tick(world.now(), &mut |_| true).await);
            let open = world.store.open_settlements(&CONTRACT).await.unwrap();
            let is_final = world.l1.lock().unwrap().finalized_head() > 0;
            assert!(alone || is_final || !open.is_empty(), "it is final, says one RPC");
            world.slot(&calm).await;
        }
        let counts = world.l1.lock().unwrap().counts;
        assert_eq!(counts.settled, 1);
        assert_eq!(counts.reverted > 0, alone, "{counts:?}");
    }
}

/// One that says another nonce than the wallet has delays a batch until the first replacement, and no longer.
#[tokio::test]
async fn an_rpc_that_lies_about_the_nonce_is_not_asked_twice() {
    let mut world = World::new(5, 1).await;
    world.prove().await;
    let endpoints = world.endpoints();
    *endpoints[0].nonce.lock().unwrap() = Some(3);
    let mut sender = world.sender(1, &endpoints);
    for _ in 0..16 {
        drop(sender.tick(world.now(), &mut |_| true).await);
        world.slot(&Faults::NONE).await;
    }
    let counts = world.l1.lock().unwrap().counts;
    assert_eq!((counts.settled, counts.reverted), (1, 0), "{counts:?}");
}

/// One that invents what is settled is noticed, and then the other one is asked.
#[tokio::test]
async fn an_rpc_that_says_that_more_is_settled_than_is_stops_nobody_for_long() {
    let mut world = World::new(7, 1).await;
    world.prove().await;
    let endpoints = world.endpoints();
    let batch = &world.l2.batches[0];
    let statement = Statement::abi_decode(&batch.statement).unwrap();
    let mut head = world.l1.lock().unwrap().head();
    head.number = statement.last_number;
    (head.hash, head.stateRoot) = (statement.last_hash, statement.post_state_root);
    *endpoints[0].head.lock().unwrap() = Some(head);
    let mut sender = world.sender(1, &endpoints);
    let mut alarms = Vec::new();
    for _ in 0..16 {
        if let Ok(Tick::Done { alarm: Some(alarm), .. }) =
            sender.tick(world.now(), &mut |_| true).await
        {
            alarms.push(alarm);
        }
        world.slot(&Faults::NONE).await;
    }
    assert!(alarms.iter().any(|alarm| matches!(alarm, Alarm::Disputed { .. })), "{alarms:?}");
    let counts = world.l1.lock().unwrap().counts;
    assert_eq!((counts.settled, counts.reverted), (1, 0), "{counts:?}");
}

/// Nobody answers, and it is known nevertheless that somebody wants to settle.
#[tokio::test]
async fn a_sender_without_an_l1_is_seen() {
    let world = World::new(8, 1).await;
    let endpoints = world.endpoints();
    for endpoint in &endpoints {
        *endpoint.fails.lock().unwrap() = 1_000;
    }
    world.sender(1, &endpoints).tick(world.now(), &mut |_| true).await.unwrap_err();
    let known = world.store.settled_on().await.unwrap();
    let [(CONTRACT, seen)] = &known[..] else { panic!("{known:?}") };
    assert_eq!(seen.alarm.as_deref(), Some("settlement_l1_failed"));
}

/// One that is of a branch of its own, where all is settled, keeps nobody from settling on the other one.
#[tokio::test]
async fn what_is_settled_on_one_branch_is_settled_on_the_other_too() {
    let (mut world, branch) = (World::new(6, 1).await, World::new(6, 1).await);
    world.prove().await;
    let (here, there) = (world.endpoints().remove(0), branch.endpoints().remove(0));
    let mut alone = world.sender(1, std::slice::from_ref(&there));
    for _ in 0..3 {
        drop(alone.tick(world.now(), &mut |_| true).await);
        world.now.fetch_add(SLOT, Ordering::SeqCst);
        branch.l1.lock().unwrap().mine(true, GWEI);
    }
    assert_eq!(branch.l1.lock().unwrap().counts.settled, 1);
    let mut sender = world.sender(1, &[there, here]);
    for _ in 0..8 {
        drop(sender.tick(world.now(), &mut |_| true).await);
        world.slot(&Faults::NONE).await;
    }
    assert_eq!(world.l1.lock().unwrap().counts.settled, 1);
}

/// What a dry run shows: each field, gas and fees, and nothing is written, signed or sent.
#[tokio::test]
async fn a_trial_says_what_would_happen_and_does_nothing() {
    let mut world = World::new(3, 2).await;
    let mut sender = world.sender(1, &world.endpoints());
    assert!(sender.trial().await.unwrap().is_none(), "nothing is proven");
    world.prove().await;
    let trial = sender.trial().await.unwrap().unwrap();
    assert_eq!((trial.head, trial.blocks), (0, world.l2.batches[0].blocks));
    assert_eq!(trial.fields.len(), 15);
    assert!(trial.fields.iter().all(|field| field.fits), "{:?}", trial.fields);
    assert_eq!((&trial.gas, trial.wallet), (&Ok(90_000), key(1).address()));
    assert_eq!(trial.refusal(), None);
    assert_eq!(trial.fees.unwrap().max, 3 * GWEI);
    for (name, poor) in [
        ("settle-max-gas", Trial { max_gas: 90_000, ..trial.clone() }),
        ("send ether", Trial { balance: U256::from(1), ..trial.clone() }),
        ("reverted", Trial { gas: Err("reverted".into()), ..trial.clone() }),
        ("higher fees", Trial { fees: Err(Default::default()), ..trial.clone() }),
    ] {
        assert!(poor.refusal().is_some_and(|why| why.contains(name)), "{name}");
    }
    // The first RPC fails: the next one is asked.
    let endpoints = world.endpoints();
    *endpoints[0].fails.lock().unwrap() = 1_000;
    assert!(world.sender(1, &endpoints).trial().await.unwrap().is_some());
    assert_eq!(world.store.open_settlements(&CONTRACT).await.unwrap(), []);
    assert_eq!(world.store.settled_on().await.unwrap(), []);
    // Somebody else was faster.
    let call = call(&world.l2, &world.links, 0);
    world.l1.lock().unwrap().settle_by_another(&call);
    assert!(sender.trial().await.unwrap().is_none(), "the next batch is not proven");
    assert!(world.l1.lock().unwrap().waiting(key(1).address()).is_empty());
}
