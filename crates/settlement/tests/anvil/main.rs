//! Senders in processes of their own, killed at random instants, on a real chain: anvil with the contracts of this repository.
//!
//! `ANVIL` names the executable; without it these tests are skipped. `KILLS` is how many processes are killed (20). Run them with
//! `make settle-chaos`, which fetches anvil.

#[path = "../world/anvil.rs"]
mod anvil;
#[path = "../world/l2.rs"]
mod l2;

use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, U256};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall as _, sol};
use anvil::Anvil;
use l2::{DIGEST, JOBS, L2, PROGRAM, hash, root};
use program::statement::DepositsChain;
use protocol::{LeaseId, ProofKind};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use server::{
    artifacts::{Artifacts, Place, Sharing},
    clock::wall,
    jobs::settlement::Rollup,
    store::JobStore,
};
use settlement::{Caps, Config, Rpc, Rules, Sender, Wallet, contract::Head};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

sol! {
    function deposit(address to) external payable returns (uint64 index);
    event Settled(uint64 indexed firstNumber, uint64 indexed lastNumber, bytes32 lastHash, bytes32 stateRoot, uint64 deposits, address beneficiary);
}

const CHAIN: u64 = 31_337;
const GWEI: u64 = 1_000_000_000;
const BATCHES: usize = 12;
/// What a child is told: folder, URL and contract.
const CHILD: &str = "SETTLEMENT_TEST_CHILD";

fn config(rollup: Address) -> Config {
    Config {
        rollup,
        chain_id: Some(CHAIN),
        kind: ProofKind::Composite,
        rules: Rules {
            bump_after: Duration::from_secs(3),
            resend_after: Duration::from_millis(700),
            caps: Caps { max: 500 * GWEI, priority: 100 * GWEI },
        },
        poll: Duration::from_millis(200),
        lease: Duration::from_secs(1),
        ..Config::default()
    }
}

async fn open(folder: &Path) -> JobStore {
    JobStore::open(&folder.join("jobs.sqlite"), JOBS).await.unwrap()
}

/// Not a test of its own: what the processes do that are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the other test starts"]
async fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let told: Value = serde_json::from_str(&told).unwrap();
    let folder = PathBuf::from(told["folder"].as_str().unwrap());
    let url = told["url"].as_str().unwrap().parse().unwrap();
    let rollup = told["rollup"].as_str().unwrap().parse().unwrap();
    let store = open(&folder).await;
    let place = Place::Folder(folder.join("artifacts"), Sharing::Shared);
    let artifacts = Artifacts::existing(&place).unwrap();
    let wallet = Wallet::keystore(&folder.join("key"), &folder.join("password")).unwrap();
    let rpcs = vec![Rpc::http(&url).unwrap()];
    let sender = Sender::new(config(rollup), store, artifacts, wallet, rpcs, rand::random());
    sender.run(CancellationToken::new()).await;
}

struct Killed(Child);

impl Killed {
    fn start(folder: &Path, anvil: &Anvil, rollup: Address) -> Self {
        let told = json!({ "folder": folder, "url": anvil.url, "rollup": rollup });
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored"])
            .env(CHILD, told.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL: nothing is tidied up.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Deposits on L1, the contracts, and a wallet with ether.
async fn deploy(anvil: &Anvil, wallet: Address) -> (Address, Vec<B256>) {
    let genesis = Head { hash: hash(0), stateRoot: root(0), ..Head::default() };
    let outbox = Address::repeat_byte(1);
    let (rollup, bridge) = anvil.deploy(genesis, PROGRAM, DIGEST, wallet, 1_337, outbox).await;
    let mut chain = DepositsChain::new(B256::ZERO);
    let mut links = vec![B256::ZERO];
    for index in 0..2 * BATCHES as u64 {
        let to = Address::with_last_byte(7);
        anvil.send(Some(bridge), depositCall { to }.abi_encode(), GWEI).await;
        chain.push(&Withdrawal { index, validator_index: 0, address: to, amount: 1 });
        links.push(chain.link());
    }
    let ether = json!([wallet, "0x56bc75e2d63100000"]);
    anvil.ask("anvil_setBalance", ether).await.unwrap();
    for _ in 0..8 {
        anvil.mine().await;
    }
    (rollup, links)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn killed_at_any_instant_each_batch_is_settled_once_on_anvil() {
    let Some(program) = std::env::var_os("ANVIL") else {
        eprintln!("skipped: ANVIL names no executable (make settle-chaos)");
        return;
    };
    let kills = std::env::var("KILLS").ok().map_or(20, |text| text.parse::<u32>().unwrap());
    let mut rng = StdRng::seed_from_u64(18);
    let (folder, anvil) = (TempDir::new().unwrap(), Anvil::start(Path::new(&program)).await);
    let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x42)).unwrap();
    std::fs::write(folder.path().join("password"), "correct horse\n").unwrap();
    let encrypted = PrivateKeySigner::encrypt_keystore(
        folder.path(),
        &mut rand08::thread_rng(),
        key.to_bytes(),
        "correct horse",
        Some("key"),
    );
    encrypted.unwrap();
    let (rollup, links) = deploy(&anvil, key.address()).await;
    let l2 = L2::new(&mut rng, BATCHES, links);
    let store = open(folder.path()).await;
    let mut waiting = l2.batches.iter();
    let (mut killed, mut reorgs) = (0, 0);
    let start = || Killed::start(folder.path(), &anvil, rollup);
    while killed < kills {
        // Enough is left to do until the last one.
        if let Some(due) = waiting.len().checked_sub(1)
            && killed as usize * BATCHES >= (BATCHES - due - 1) * kills as usize
            && let Some(batch) = waiting.next()
        {
            l2::prove(&store, batch, wall(), LeaseId::from_bytes(rng.random())).await;
        }
        let mut running = vec![start()];
        if rng.random_ratio(1, 4) {
            running.push(start());
        }
        for _ in 0..rng.random_range(1..14) {
            tokio::time::sleep(Duration::from_millis(rng.random_range(20..160))).await;
            match rng.random_range(0..20) {
                0 => {
                    let reorg = json!([rng.random_range(1..4), []]);
                    reorgs += u32::from(anvil.ask("anvil_reorg", reorg).await.is_ok());
                }
                1 => drop(anvil.ask("anvil_dropAllTransactions", json!([])).await),
                2 => {
                    let fee = format!("{:#x}", GWEI * rng.random_range(1..200));
                    drop(anvil.ask("anvil_setNextBlockBaseFeePerGas", json!([fee])).await);
                }
                3..8 => {}
                _ => anvil.mine().await,
            }
        }
        killed += u32::try_from(running.len()).unwrap();
        drop(running);
    }
    for batch in waiting {
        l2::prove(&store, batch, wall(), LeaseId::from_bytes(rng.random())).await;
    }
    let last = l2.batches.last().unwrap().blocks.last();
    let (_running, begun) = (start(), Instant::now());
    let contract = Rollup { chain_id: CHAIN, address: rollup };
    loop {
        anvil.mine().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let head = anvil.head(rollup, "finalized").await.map(|head| head.number);
        let open = store.open_settlements(&contract).await.unwrap();
        if head == Some(last) && open.is_empty() {
            break;
        }
        let states: Vec<_> = open.iter().map(|row| (row.blocks, row.state)).collect();
        let known = store.settled_on().await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{head:?} of {last}: {states:?} {known:?}"
        );
    }
    // Each batch once, by its event.
    let logs = json!([{ "address": rollup, "fromBlock": "0x0", "topics": [<Settled as alloy_sol_types::SolEvent>::SIGNATURE_HASH] }]);
    let logs = anvil.ask("eth_getLogs", logs).await.unwrap();
    let firsts = logs
        .as_array()
        .unwrap()
        .iter()
        .map(|log| log["topics"][1].as_str().unwrap().parse::<U256>());
    let firsts: Vec<u64> = firsts.map(|first| first.unwrap().to()).collect();
    let expected: Vec<u64> = l2.batches.iter().map(|batch| batch.blocks.first()).collect();
    assert_eq!(firsts, expected);
    let nonce = |at| anvil.number("eth_getTransactionCount", json!([key.address(), at]));
    let (latest, pending) = (nonce("latest").await, nonce("pending").await);
    assert_eq!(latest, pending, "no transaction waits");
    std::io::Write::write_fmt(
        &mut std::io::stdout(),
        format_args!("{killed} processes killed, {reorgs} reorgs, {BATCHES} batches settled with {latest} transactions\n"),
    )
    .unwrap();
}
