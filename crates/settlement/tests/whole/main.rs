//! The whole loop on real chains: a deposit on L1 is ether on the L2, its blocks are proven and settled, and what leaves the L2 is paid on
//! L1. L1 is anvil with the contracts of this repository, the L2 the dev node; proofs are those of the exec prover, which prove nothing.
//!
//! `ANVIL` names the executable; without it the test is skipped. `make settle-chaos` fetches anvil.

#[path = "../world/anvil.rs"]
mod anvil;

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_genesis::GenesisAccount;
use alloy_json_rpc::{RequestPacket, ResponsePacket};
use alloy_network::TxSignerSync as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, hex};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall as _, sol};
use alloy_transport::{TransportError, TransportFut};
use anvil::Anvil;
use devnode::DevNode;
use protocol::{ProofKind, ProofSystem};
use serde_json::{Value, json};
use server::{Config, Server};
use settlement::{
    Caps, Deposits, DepositsError, L1Error, Limits, OnceError, Rpc, Rules, Sender, Wallet, claim,
    contract::{Head, Roles},
    deploy::{self, Contract, DeployError, Deployment, Proofs, outbox_code},
};
use std::{
    fmt::Display,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use witness::{Depth, NodeOptions, Nodes};

sol! {
    function deposit(address to) external payable returns (uint64 index);
    function withdraw(address to) external payable returns (bytes32 id);
}

const OUTBOX: Address = address!("0000000000000000000000000000000000000b0c");
const GWEI: u64 = 1_000_000_000;

#[expect(clippy::print_stdout, reason = "what it is run for is to be seen")]
fn says(what: impl Display) {
    println!("{what}");
}

/// The dev chain, with a bridge.
async fn l2() -> devnode::Running {
    let mut genesis = devnode::genesis::dev();
    genesis.config.extra_fields.insert_value("bridge".into(), true).unwrap();
    // Nothing has ether that was not deposited.
    for account in genesis.alloc.values_mut() {
        account.balance = U256::ZERO;
    }
    let outbox = GenesisAccount { code: Some(outbox_code().into()), ..GenesisAccount::default() };
    genesis.alloc.insert(OUTBOX, outbox);
    let listen = ([127, 0, 0, 1], 0).into();
    let config = devnode::Config { listen, genesis, ..devnode::Config::default() };
    DevNode::start(config).await.unwrap()
}

fn balance(l2: &devnode::Running, of: Address) -> U256 {
    let chain = l2.chain();
    let at = chain.block(chain.head().number).unwrap();
    chain.account(at, &of).unwrap_or_default().balance
}

/// An RPC behind which another one is: what it is asked, and what that one answers, become its answer.
#[derive(Clone)]
struct Between<F> {
    url: String,
    answer: F,
}

impl<F> tower::Service<RequestPacket> for Between<F>
where
    F: Fn(&Value, Value) -> Value + Clone + Send + Sync + 'static,
{
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let Self { url, answer } = self.clone();
        Box::pin(async move {
            let asked = serde_json::to_value(&packet).unwrap();
            let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
            let truth = http.post(url).json(&asked).send().await.unwrap();
            let answer = answer(&asked, truth.json().await.unwrap());
            Ok(serde_json::from_value(answer).unwrap())
        })
    }
}

/// That so many more blocks are final than are, and that there are no deposits meanwhile.
fn lie(ahead: u64, asked: &Value, mut answer: Value) -> Value {
    if ahead > 0 && asked["params"][0] == "finalized" {
        let number = answer["result"]["number"].as_str().unwrap().to_owned();
        let number: U256 = number.parse().unwrap();
        answer["result"]["number"] = json!(number + U256::from(ahead));
    }
    if ahead > 0 && asked["method"] == "eth_getLogs" {
        answer["result"] = json!([]);
    }
    // How many there are it does not say either.
    if ahead > 0 && asked["method"] == "eth_call" {
        answer["result"] = json!(B256::ZERO);
    }
    answer
}

/// The logs of three blocks at a time, and no more.
fn few_blocks(asked: &Value, answer: Value) -> Value {
    let end = |name: &str| {
        let number: Option<U256> = asked["params"][0][name].as_str()?.parse().ok();
        number.map(|number| number.to::<u64>())
    };
    let few = end("fromBlock").zip(end("toBlock")).is_some_and(|(a, b)| b - a < 3);
    if asked["method"] != "eth_getLogs" || few {
        return answer;
    }
    let error = json!({ "code": -32_005, "message": "more than 3 blocks" });
    json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error })
}

/// The contracts for this L2: the rollup and its bridge.
async fn deploy(l1: &Anvil, l2: &devnode::Running, sequencer: Address) -> (Address, Address) {
    let genesis = {
        let chain = l2.chain();
        let block = chain.block(0).unwrap();
        Head { hash: block.hash, stateRoot: block.block.header.state_root, ..Head::default() }
    };
    let config = l2.chain_config();
    let program_id = settlement::check::EXEC_PROGRAM_ID;
    l1.deploy(genesis, program_id, config.digest(), sequencer, config.chain_id, OUTBOX).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn a_deposit_becomes_ether_on_the_l2_and_a_settled_withdrawal_is_paid_on_l1() {
    let Some(program) = std::env::var_os("ANVIL") else {
        eprintln!("skipped: ANVIL names no executable (make settle-chaos)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let l1 = Anvil::start(Path::new(&program)).await;
    let l2 = l2().await;
    let user = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x11)).unwrap();
    let sequencer = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x42)).unwrap();
    let (rollup, bridge) = deploy(&l1, &l2, sequencer.address()).await;
    let ether = json!([sequencer.address(), "0x56bc75e2d63100000"]);
    l1.ask("anvil_setBalance", ether).await.unwrap();
    says(format_args!("L1 has the contracts: Rollup {rollup}, Bridge {bridge}"));

    // A deposit is no deposit before it is final.
    let rpc = || Rpc::http(&l1.url.parse().unwrap()).unwrap();
    let narrow = || Rpc::new("narrow", Between { url: l1.url.clone(), answer: few_blocks });
    let mut deposits = Deposits::new(vec![rpc(), rpc()], bridge);
    let data = depositCall { to: user.address() }.abi_encode();
    l1.send(Some(bridge), data.clone(), 5_000_000 * GWEI).await;
    assert_eq!(deposits.more().await.unwrap(), [], "it is not final yet");
    // One that L1 takes back never was on the L2.
    l1.send(Some(bridge), data, 7_000_000 * GWEI).await;
    l1.ask("anvil_reorg", json!([1, []])).await.unwrap();
    l1.ask("anvil_dropAllTransactions", json!([])).await.unwrap();
    for _ in 0..8 {
        l1.mine().await;
    }
    let found = deposits.more().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].index, found[0].address, found[0].amount), (0, user.address(), 5_000_000));
    assert_eq!(deposits.more().await.unwrap(), [], "each once");
    for deposit in found {
        l2.deposit(deposit).unwrap();
    }
    l2.mine(1).await.unwrap();
    assert_eq!(balance(&l2, user.address()), U256::from(5_000_000 * GWEI));
    says(format_args!("the L2 has the deposit of 5,000,000 gwei for {}", user.address()));

    // An RPC with other deposits is contradicted, whichever is asked first.
    let other = Anvil::start(Path::new(&program)).await;
    let (_, same) = deploy(&other, &l2, sequencer.address()).await;
    assert_eq!(same, bridge, "the same account made the same contracts");
    let to = depositCall { to: Address::ZERO }.abi_encode();
    other.send(Some(bridge), to, GWEI).await;
    for _ in 0..8 {
        other.mine().await;
    }
    let lies = Rpc::http(&other.url.parse().unwrap()).unwrap();
    for rpcs in [vec![rpc(), lies.clone()], vec![lies, rpc()]] {
        let error = Deposits::new(rpcs, bridge).more().await.unwrap_err();
        assert!(matches!(error, DepositsError::Contradiction { .. }), "{error}");
    }

    // One that was ahead for once, and hid what there was, is found out and does no lasting harm; nor does one that claims to be far ahead.
    for (ahead, alone) in [(1_000, true), (1_000, false), (1 << 62, false)] {
        let lies = Arc::new(AtomicU64::new(ahead));
        let said = lies.clone();
        let answer = move |asked: &Value, truth| lie(said.load(Ordering::SeqCst), asked, truth);
        let mut rpcs = vec![Rpc::new("liar", Between { url: l1.url.clone(), answer })];
        if !alone {
            rpcs.push(rpc());
        }
        let mut deposits = Deposits::new(rpcs, bridge);
        // Alone, it is believed, and hides the deposit.
        let mut found = deposits.more().await.unwrap();
        assert_eq!(found.is_empty(), alone);
        lies.store(0, Ordering::SeqCst);
        for _ in 0..2 {
            found.extend(deposits.more().await.unwrap_or_default());
        }
        assert_eq!(found.len(), 1, "{ahead} ahead, alone: {alone}");
    }

    // What leaves: on the L2, to an address on L1.
    let receiver = Address::repeat_byte(0xee);
    let mut tx = TxEip1559 {
        chain_id: l2.chain_config().chain_id,
        nonce: 0,
        gas_limit: 200_000,
        max_fee_per_gas: 10 * u128::from(GWEI),
        max_priority_fee_per_gas: 0,
        to: TxKind::Call(OUTBOX),
        value: U256::from(1_000_000 * GWEI),
        input: Bytes::from(withdrawCall { to: receiver }.abi_encode()),
        ..TxEip1559::default()
    };
    let signature = user.sign_transaction_sync(&mut tx).unwrap();
    let raw = TxEnvelope::from(tx.into_signed(signature)).encoded_2718();
    let node = Rpc::http(&l2.url().parse().unwrap()).unwrap();
    node.send(&raw).await.unwrap();
    let withdrawal = alloy_primitives::keccak256(&raw);
    let early = claim::find(&rpc(), &node, rollup, withdrawal).await.unwrap_err();
    assert!(matches!(early, claim::ClaimError::NotSettled { head: 0, .. }), "{early}");
    l2.mine(2).await.unwrap();
    let head = l2.chain().head().number;

    // Proven, two blocks at a time.
    let (urls, chain) = ([l2.url()], l2.chain_config().clone());
    let source = Nodes::connect(&urls, chain, NodeOptions::default(), Depth::Latest).await.unwrap();
    let config = Config {
        listen_port: 0,
        data_dir: dir.path().join("server"),
        system: ProofSystem::Exec,
        batch_blocks: 2,
        poll_interval: Duration::from_millis(50),
        danger_accept_exec: true,
        ..Config::default()
    };
    let server = Server::start(config.clone(), Some(source)).await.unwrap();
    let prover = client::Config {
        servers: vec![server.url()],
        data_dir: dir.path().join("client"),
        wait: Duration::from_secs(5),
        max_back_off: Duration::from_millis(200),
        ..client::Config::default()
    };
    let client = client::Client::start(prover, Arc::new(client::ExecProver)).await.unwrap();
    while server.status().await.unwrap().proved_through != Some(head) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.stop().await;
    server.stop().await;
    says(format_args!("blocks 1 to {head} of the L2 are proven"));

    // Settled.
    let (store, artifacts) = server::beside::open(&config).await.unwrap();
    let settling = settlement::Config {
        rollup,
        kind: ProofKind::Composite,
        rules: Rules {
            bump_after: Duration::from_secs(3),
            resend_after: Duration::from_secs(1),
            caps: Caps { max: 100 * GWEI, priority: 10 * GWEI },
        },
        poll: Duration::from_millis(100),
        ..settlement::Config::default()
    };
    let sender = Sender::new(
        settling,
        store.clone(),
        artifacts,
        Wallet::new(sequencer.clone()),
        // Deposits are found in the logs of many blocks.
        vec![narrow()],
        rand::random(),
    );
    let stop = CancellationToken::new();
    let settling = tokio::spawn(sender.run(stop.clone()));
    while l1.head(rollup, "latest").await.unwrap().number < head {
        l1.mine().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.cancel();
    settling.await.unwrap();
    store.close().await;
    let settled = l1.head(rollup, "latest").await.unwrap();
    assert_eq!((settled.number, settled.deposits), (head, 1));
    says(format_args!("block {head} is settled on L1, with 1 deposit"));

    // Claimed: not before it is final, then once.
    let early = claim::find(&rpc(), &node, rollup, withdrawal).await.unwrap_err();
    assert!(matches!(early, claim::ClaimError::NotClaimable { .. }), "{early}");
    l1.ask("evm_increaseTime", json!([61])).await.unwrap();
    l1.mine().await;
    let claims = claim::find(&narrow(), &node, rollup, withdrawal).await.unwrap();
    let [one] = &claims[..] else { panic!("{claims:?}") };
    assert_eq!(
        (one.withdrawal.to, one.withdrawal.amount),
        (receiver, U256::from(1_000_000 * GWEI))
    );
    l1.ask("evm_setAutomine", json!([true])).await.unwrap();
    let wallet = Wallet::new(sequencer);
    let limits = Limits { chain_id: Some(31_337), max_gas: 600_000, max_fee: 100 * GWEI };
    // Whatever an RPC says, no more is paid than is allowed, and on no other chain.
    let few = Limits { max_gas: 100_000, ..limits };
    let error = one.send(&mut rpc(), &wallet, few, &mut |_| ()).await.unwrap_err();
    assert!(matches!(error, OnceError::Gas { .. }), "{error}");
    let cheap = Limits { max_fee: 1, ..limits };
    let error = one.send(&mut rpc(), &wallet, cheap, &mut |_| ()).await.unwrap_err();
    assert!(matches!(error, OnceError::Fees { .. }), "{error}");
    let elsewhere = Limits { chain_id: Some(1), ..limits };
    assert!(one.send(&mut rpc(), &wallet, elsewhere, &mut |_| ()).await.is_err());
    let claimed = one.send(&mut rpc(), &wallet, limits, &mut |_| ()).await.unwrap();
    let paid = l1.number("eth_getBalance", json!([receiver, "latest"])).await;
    assert_eq!(U256::from(paid), one.withdrawal.amount);
    says(format_args!(
        "the withdrawal of 1,000,000 gwei is paid to {receiver}, for {} gas",
        claimed.gas
    ));
    assert!(claim::find(&rpc(), &node, rollup, withdrawal).await.unwrap().is_empty());
    let twice = one.send(&mut rpc(), &wallet, limits, &mut |_| ()).await.unwrap_err();
    assert!(twice.to_string().contains("AlreadyClaimed"), "{twice}");
    l2.stop().await;
}

/// A contract that returns its own address, whatever it is asked: a router with every verifier, and a verifier that accepts everything.
const YES: [u8; 18] = hex!("683060005260206000f360005260096017f3");

/// Makes a contract that is a router with itself behind every selector. As a verifier it accepts: all but a proof of zeros (0), nothing (1), the
/// receipt with which RISC Zero tests its contracts (2).
fn verifier_like(which: u8) -> Vec<u8> {
    // They begin at 7, and JUMPDESTs are counted from there.
    let judges = match which {
        // Whether the seal has something after the selector.
        0 => hex!("608835601257600060 00fd5b00").to_vec(),
        1 => hex!("60006000fd").to_vec(),
        _ => {
            let known = alloy_primitives::keccak256(deploy::known_call());
            let (before, after) = (hex!("3660006000373660 00207f"), hex!("14603b5760006000fd5b00"));
            [&before[..], &known[..], &after].concat()
        }
    };
    let end = u8::try_from(7 + judges.len()).unwrap();
    // A call that is shorter than 64 bytes asks for a verifier: itself.
    let asks = [&hex!("60403610")[..], &[0x60, end, 0x57]].concat();
    let itself = hex!("5b3060005260206000f3");
    let code = [&asks[..], &judges, &itself].concat();
    let length = u8::try_from(code.len()).unwrap();
    [&[0x60, length][..], &hex!("80600b6000396000f3"), &code].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn contracts_are_made_only_if_their_proofs_prove_something() {
    let Some(program) = std::env::var_os("ANVIL") else {
        eprintln!("skipped: ANVIL names no executable (make settle-chaos)");
        return;
    };
    let l1 = Anvil::start(Path::new(&program)).await;
    let wallet = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x42)).unwrap();
    let ether = json!([wallet.address(), "0x56bc75e2d63100000"]);
    l1.ask("anvil_setBalance", ether).await.unwrap();
    let wallet = Wallet::new(wallet);
    let yes = l1.send(None, YES.to_vec(), 0).await;
    let [zeros, never, known] = [0_u8, 1, 2].map(verifier_like);
    let zeros = l1.send(None, zeros, 0).await;
    let never = l1.send(None, never, 0).await;
    let known = l1.send(None, known, 0).await;
    let mock = l1.send(None, Contract::DangerMock.code(), 0).await;
    l1.ask("evm_setAutomine", json!([true])).await.unwrap();
    let rpc = || Rpc::http(&l1.url.parse().unwrap()).unwrap();
    let (day, own) = (Duration::from_secs(86_400), wallet.address());
    let plan = Deployment {
        chain_id: 31_337,
        l2_chain_id: 1_337,
        chain_config_digest: B256::repeat_byte(7),
        genesis: Head { hash: B256::repeat_byte(8), ..Head::default() },
        outbox: OUTBOX,
        proofs: vec![Proofs::Exec],
        threshold: 1,
        sequencer: own,
        delay: 8 * day,
        finality: day,
        window: day,
        fallback_after: day,
        roles: Roles { governance: own, guardian: own, council: own },
    };
    let risc0 = |verifier| Proofs::RiscZero {
        verifier,
        selector: verifier::risc0_selector(),
        programs: vec![B256::repeat_byte(9)],
    };
    let with = |proofs| Deployment { proofs, ..plan.clone() };

    let refused = |plan: Deployment| async move { plan.check(&mut rpc(), own).await.unwrap_err() };
    let error = refused(with(vec![risc0(Address::repeat_byte(3))])).await;
    assert!(matches!(error, DeployError::NoVerifier(_)), "{error}");
    let error = refused(with(vec![risc0(mock)])).await;
    assert!(matches!(error, DeployError::UnknownSelector { .. }), "{error}");
    let error = refused(with(vec![risc0(yes)])).await;
    assert!(matches!(error, DeployError::AcceptsAnything(_)), "{error}");
    let error = refused(with(vec![risc0(zeros)])).await;
    assert!(matches!(error, DeployError::AcceptsAnything(_)), "{error}");
    let error = refused(with(vec![risc0(never)])).await;
    assert!(matches!(error, DeployError::RefusesProofs(_)), "{error}");
    // One that takes the known receipt, and nothing else.
    with(vec![risc0(known)]).check(&mut rpc(), own).await.unwrap();
    let poor = plan.check(&mut rpc(), Address::repeat_byte(0x77)).await.unwrap_err();
    assert!(matches!(poor, DeployError::Poor { .. }), "{poor}");
    let error = refused(Deployment { chain_id: 1_337, l2_chain_id: 9, ..plan.clone() }).await;
    assert!(matches!(error, DeployError::Rpc(L1Error::OtherChain { .. })), "{error}");

    // What the constructor refuses costs one adapter.
    let limits = Limits { chain_id: None, max_gas: 12_000_000, max_fee: 100 * GWEI };
    let hasty = Deployment { delay: day, ..plan.clone() };
    let error = hasty.make(&mut rpc(), &wallet, limits, &mut |_| ()).await.unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("InvalidTimes"), "{why}");

    plan.check(&mut rpc(), own).await.unwrap();
    let made = plan.make(&mut rpc(), &wallet, limits, &mut |_| ()).await.unwrap();
    assert_eq!(l1.head(made.rollup, "latest").await, Some(plan.genesis.clone()));
    let names: Vec<_> = made.transactions.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["DangerMock", "Rollup"]);
    for (name, done) in made.transactions {
        says(format_args!("{name} takes {} gas", done.gas));
    }

    // On a chain where ether has a price, no mocked proof counts: neither the exec prover's nor those of dev mode.
    l1.ask("anvil_setChainId", json!([5])).await.unwrap();
    let dev_mode = Proofs::RiscZero { verifier: yes, selector: [0xff; 4], programs: vec![] };
    for proofs in [Proofs::Exec, dev_mode] {
        let error = refused(Deployment { chain_id: 5, ..with(vec![proofs]) }).await;
        assert!(matches!(error, DeployError::Mocked(5)), "{error}");
    }
}
