//! The sender: asks L1 and the store, has [`state::next`](crate::state::next) decide, and does it.
//!
//! * A transaction is durable before it is sent, so that after a crash the same bytes are sent again.
//! * One process at a time sends to a contract. One that only believes that it does can write nothing.
//! * An RPC that fails, contradicts itself or leads nowhere is left for the next one. Each transaction goes to all of them.

use crate::{
    check::{self, Facts, Field, Refusal},
    contract::IRollup,
    fees::{Caps, GWEI, Market, offer},
    l1::{L1Error, Observed, Rpc},
    state::{Alarm, Head, Known, Rows, Rules, Step, View, next},
    wallet::{Wallet, WalletError},
};
use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall;
use program::Statement;
use protocol::{BlockRange, JobProof, ProofKind, ProofSystem};
use server::{
    artifacts::{ArtifactError, Artifacts},
    clock::{Timestamp, millis},
    jobs::{
        settlement::{
            Fees, NewSettlement, Rollup, Settleable, Settled, Settlement, SettlementEvent,
            SettlementState, SignedTx,
        },
        verification::verifier_of,
    },
    store::{Actor, JobStore, Settler, StoreError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A proof that contracts take has a few hundred bytes; no larger one is even read.
const LARGEST_PROOF: u64 = 64 << 10;

/// So much more gas is allowed than was estimated, in percent: the state may differ when the transaction is executed.
const GAS_MARGIN: u64 = 130;

/// How often the store is asked whether another batch is proven.
const LOOK: Duration = Duration::from_millis(500);

/// An RPC that is more blocks behind another one does not follow L1.
const LAG: u64 = 32;

/// So many steps without asking L1 anew.
const STEPS: usize = 64;

/// What goes on is said again so often.
const REMIND: Duration = Duration::from_secs(600);

/// The consumer that has the proofs, for the server's retention.
const CONSUMER: &str = "settlement";

/// Settings of a sender.
#[derive(Clone, Debug)]
pub struct Config {
    /// The contract.
    pub rollup: Address,
    /// L1's chain id. Without one, the first RPC that answers says it.
    pub chain_id: Option<u64>,
    /// Which proofs are settled.
    pub kind: ProofKind,
    /// When transactions are sent again and replaced, and what they offer at most.
    pub rules: Rules,
    /// The most gas that a transaction may use.
    pub max_gas: u64,
    /// How often L1 is asked.
    pub poll: Duration,
    /// So long after its last word another sender takes this one's place.
    pub lease: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rollup: Address::ZERO,
            chain_id: None,
            kind: ProofKind::Groth16,
            rules: Rules {
                bump_after: Duration::from_secs(60),
                resend_after: Duration::from_secs(12),
                caps: Caps { max: 100 * GWEI, priority: 5 * GWEI },
            },
            max_gas: 2_000_000,
            poll: Duration::from_secs(6),
            lease: Duration::from_secs(60),
        }
    }
}

/// Where a sender passes. What is before it in this list is durable, or done, when it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// It is the one that sends.
    Held,
    /// L1 was asked.
    Observed,
    /// A batch was added.
    Taken,
    /// A batch fits what L1 has, and the call does not revert.
    Checked,
    /// A transaction is signed, and not durable.
    Signed,
    /// It is durable, and not sent.
    Durable,
    /// It is sent, to one RPC at least.
    Sent,
    /// What happened to a batch is durable.
    Noted,
}

impl Label {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Held,
        Self::Observed,
        Self::Taken,
        Self::Checked,
        Self::Signed,
        Self::Durable,
        Self::Sent,
        Self::Noted,
    ];
}

/// What became of a look at L1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Another process sends.
    Standby,
    /// All is done that can be. What waits for L1, if anything does.
    Done {
        /// The last settled block.
        settled: u64,
        /// What somebody should know.
        alarm: Option<Alarm>,
    },
}

/// Why nothing could be done now. All of it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// L1 would refuse the batch.
    #[error("blocks {blocks}: {refusal}")]
    Refused {
        /// Its blocks.
        blocks: BlockRange,
        /// The field.
        refusal: Refusal,
    },
    /// An RPC failed, or the contract refuses the call.
    #[error(transparent)]
    L1(#[from] L1Error),
    /// Two RPCs say different things, and one of them would have the batch paid for again.
    #[error(
        "a nonce was used up and blocks {blocks} are not settled, but {rpc} says {says}: one of the RPCs lies, or is behind"
    )]
    Disputed {
        /// The batch's blocks.
        blocks: BlockRange,
        /// The other RPC.
        rpc: String,
        /// What it says.
        says: String,
    },
    /// The wallet has too little.
    #[error("the wallet {wallet} has {balance} wei, and this may take {needed}: send ether to it")]
    Poor {
        /// The wallet.
        wallet: Address,
        /// What it has.
        balance: U256,
        /// What may be needed.
        needed: U256,
    },
    /// It would take more gas than is allowed.
    #[error("it takes {needed} gas, and {allowed} are allowed: see --settle-max-gas")]
    Gas {
        /// As estimated, with a margin.
        needed: u64,
        /// The setting.
        allowed: u64,
    },
    /// The wallet did not sign.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A proof cannot be read.
    #[error("the proof of blocks {blocks} cannot be read")]
    Artifact {
        /// Its blocks.
        blocks: BlockRange,
        /// Why.
        #[source]
        source: ArtifactError,
    },
    /// A proof or a statement is none that a contract takes.
    #[error("no contract takes what is proven of blocks {blocks}: {says}")]
    Unfit {
        /// Its blocks.
        blocks: BlockRange,
        /// Why.
        says: String,
    },
    /// The caller stopped it.
    #[error("it was stopped")]
    Stopped,
}

/// What a batch would be settled with, and whether L1 would take it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The contract.
    pub rollup: Rollup,
    /// The wallet.
    pub wallet: Address,
    /// The contract's head.
    pub head: u64,
    /// The batch's blocks.
    pub blocks: BlockRange,
    /// Each field.
    pub fields: Vec<Field>,
    /// What the call would take, or why it would revert.
    pub gas: Result<u64, String>,
    /// What would be offered, or what it would take at least.
    pub fees: Result<Fees, Fees>,
    /// What the wallet has, in wei.
    pub balance: U256,
    /// The most gas that is allowed.
    pub max_gas: u64,
}

impl Trial {
    /// Why nothing would be sent now, if so.
    pub fn refusal(&self) -> Option<String> {
        let refused = check::refused(&self.fields).err();
        if let Some(refusal) = refused {
            return Some(refusal.to_string());
        }
        let gas = match &self.gas {
            Ok(gas) => gas.saturating_mul(GAS_MARGIN) / 100,
            Err(says) => return Some(format!("the contract refuses it: {says}")),
        };
        let Ok(fees) = self.fees else {
            let flags = "--settle-max-fee-gwei and --settle-max-priority-fee-gwei";
            return Some(format!("it takes higher fees than are allowed: see {flags}"));
        };
        let afforded = afford(gas, fees, self.max_gas, self.wallet, self.balance);
        afforded.err().map(|error| error.to_string())
    }
}

/// Settles proven batches.
#[derive(Debug)]
pub struct Sender {
    config: Config,
    store: JobStore,
    artifacts: Artifacts,
    wallet: Wallet,
    rpcs: Vec<Rpc>,
    holder: [u8; 16],
    chain: Option<u64>,
    sent: BTreeMap<B256, Timestamp>,
    waiting: Option<(i64, Timestamp)>,
    /// Since when another RPC has less settled than the one whose turn it is.
    disputed: Option<Timestamp>,
    /// What was said last, and when.
    told: Option<(String, Instant)>,
}

impl Sender {
    /// A sender under a name of its own.
    pub fn new(
        config: Config,
        store: JobStore,
        artifacts: Artifacts,
        wallet: Wallet,
        rpcs: Vec<Rpc>,
        holder: [u8; 16],
    ) -> Self {
        let (chain, sent) = (config.chain_id, BTreeMap::new());
        Self {
            config,
            store,
            artifacts,
            wallet,
            rpcs,
            holder,
            chain,
            sent,
            waiting: None,
            disputed: None,
            told: None,
        }
    }

    /// Settles until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut held = false;
        while !shutdown.is_cancelled() {
            let ticked = match self.store.now().await {
                Ok(now) => self.tick(now, &mut |_| true).await,
                Err(error) => Err(error.into()),
            };
            let mut proven = None;
            match &ticked {
                Ok(Tick::Standby) if held => {
                    tracing::info!(rollup = %self.config.rollup, "another process settles now");
                }
                Ok(Tick::Done { .. }) if !held => {
                    tracing::info!(rollup = %self.config.rollup, wallet = %self.wallet.address(), "settling");
                }
                _ => {}
            }
            match ticked {
                Ok(Tick::Standby) => held = false,
                Ok(Tick::Done { settled, alarm }) => {
                    held = true;
                    // A head that is not known yet becomes so with the first batch.
                    let waits = !matches!(alarm, None | Some(Alarm::UnknownHead { .. }));
                    proven = (!waits).then_some(settled.saturating_add(1));
                }
                Err(_) => {}
            }
            self.rest(proven, &shutdown).await;
        }
        if let Some(settler) = self.settler() {
            // Else another waits a minute.
            let _left = self.store.leave_settling(&settler).await;
        }
    }

    /// Waits until L1 is to be asked again, or the batch that begins with `first` is proven.
    async fn rest(&self, first: Option<u64>, shutdown: &CancellationToken) {
        let mut left = self.config.poll;
        while !left.is_zero() {
            let pause = left.min(LOOK);
            left -= pause;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let Some((first, rollup)) = first.zip(self.rollup()) else { continue };
            let open = self.store.open_settlements(&rollup).await;
            let waits = open.is_ok_and(|rows| rows.iter().any(|row| row.blocks.first() >= first));
            if !waits && matches!(self.settleable(first).await, Ok(Some(_))) {
                return;
            }
        }
    }

    fn rollup(&self) -> Option<Rollup> {
        Some(Rollup { chain_id: self.chain?, address: self.config.rollup })
    }

    fn settler(&self) -> Option<Settler> {
        let lease = self.config.lease;
        Some(Settler { rollup: self.rollup()?, holder: self.holder, lease })
    }

    /// Looks at L1 once, and does all that is to be done. `pass` is asked at each [`Label`] whether to go on.
    ///
    /// # Errors
    /// [`Error`]. Nothing is lost then: the next call goes on.
    pub async fn tick(
        &mut self,
        now: Timestamp,
        pass: &mut (dyn FnMut(Label) -> bool + Send),
    ) -> Result<Tick, Error> {
        let ticked = self.look(now, pass).await;
        let trouble = match &ticked {
            Ok(Tick::Standby) | Err(Error::Stopped | Error::Store(_)) => false,
            // About the nonce the RPCs may differ, and whoever is asked next would begin anew.
            Ok(Tick::Done { alarm: Some(alarm), .. }) => !matches!(
                alarm,
                Alarm::NonceGap { .. } | Alarm::NonceWasted { .. } | Alarm::Disputed { .. }
            ),
            Ok(Tick::Done { alarm: None, .. }) => false,
            Err(_) => true,
        };
        if trouble {
            // Another RPC may know better.
            self.rpcs.rotate_left(1);
        }
        if let Err(error) = &ticked
            && !matches!(error, Error::Stopped)
        {
            self.tell(Some(Trouble::Failed(error)));
            self.note_alarm(Trouble::Failed(error).code(), now).await;
        }
        ticked
    }

    /// Says what is new, and now and then what goes on.
    fn tell(&mut self, trouble: Option<Trouble<'_>>) {
        let Some(trouble) = trouble else {
            self.told = None;
            return;
        };
        let text = trouble.text();
        let known = self.told.as_ref();
        if known.is_none_or(|(told, at)| *told != text || at.elapsed() >= REMIND) {
            trouble.log();
            self.told = Some((text, Instant::now()));
        }
    }

    async fn note_alarm(&self, code: &str, now: Timestamp) {
        let Some(settler) = self.settler() else { return };
        let noted = async {
            let known = self.store.settled_on().await?;
            let known = known.into_iter().find(|(rollup, _)| *rollup == settler.rollup);
            let seen = known.map(|(_, seen)| seen).unwrap_or_default();
            let seen = Settled { alarm: Some(code.to_owned()), ..seen };
            self.store.note_settled(&settler, &seen, now).await
        };
        // Whoever sends instead says how things stand.
        let _noted: Result<(), StoreError> = noted.await;
    }

    async fn look(
        &mut self,
        now: Timestamp,
        pass: &mut (dyn FnMut(Label) -> bool + Send),
    ) -> Result<Tick, Error> {
        // A chain that is named is known before any RPC answers: then it shows that somebody wants to settle there.
        if self.chain.is_none() {
            self.learn_chain().await?;
        }
        let Some(settler) = self.settler() else { return Ok(Tick::Standby) };
        if !self.store.hold_settling(&settler, now).await? {
            return Ok(Tick::Standby);
        }
        self.learn_chain().await?;
        go_on(pass, Label::Held)?;
        let mut seen = self.rpcs[0].observe(self.config.rollup, self.wallet.address()).await?;
        seen.finalized = self.confirmed(seen.finalized).await;
        go_on(pass, Label::Observed)?;
        let (mut alarm, mut bumped) = (None, false);
        for _ in 0..STEPS {
            let rows = self.store.open_settlements(&settler.rollup).await?;
            let view = self.view(&settler.rollup, &seen, &rows).await?;
            let stale = self.stale(&rows).await?;
            let rows_now = Rows { open: &rows, stale: &stale, sent: &self.sent };
            let plan = next(rows_now, &view, now, &self.config.rules);
            alarm = plan.alarm.or(alarm);
            let find = |id| rows.iter().find(|row| row.id == id);
            match plan.step {
                Step::Note(id, event) => {
                    let Some(row) = find(id) else { break };
                    self.store.note_settlement(&settler, id, &event, now).await?;
                    go_on(pass, Label::Noted)?;
                    self.noted(row, &event, now).await?;
                }
                Step::Take(first) => {
                    let Some(new) = self.take(first, &seen).await? else { break };
                    self.store.add_settlement(&settler, &new, now).await?;
                    go_on(pass, Label::Taken)?;
                }
                Step::Sign { id, nonce, fees, wasted } => {
                    let Some(row) = find(id) else { break };
                    if wasted {
                        self.undisputed(row).await?;
                    }
                    bumped |= row.tx.as_ref().is_some_and(|tx| tx.nonce == nonce);
                    let tx = self.transaction(row, nonce, fees, &seen).await?;
                    go_on(pass, Label::Checked)?;
                    let (hash, raw) = self.wallet.sign(tx).await?;
                    go_on(pass, Label::Signed)?;
                    let tx = SignedTx { nonce, hash, raw, fees, at: now };
                    let event = SettlementEvent::Signed { tx, wasted };
                    // ORDER: durable before it is sent; after a crash the same bytes go out again.
                    self.store.note_settlement(&settler, id, &event, now).await?;
                    tracing::info!(
                        blocks = %row.blocks, nonce, %hash, max_fee = fees.max, priority_fee = fees.priority, "transaction signed"
                    );
                    go_on(pass, Label::Durable)?;
                }
                Step::Send(ids) => {
                    for row in ids.into_iter().filter_map(find) {
                        let Some(tx) = &row.tx else { continue };
                        self.sent.insert(tx.hash, now);
                        self.send(row.blocks, tx).await;
                        go_on(pass, Label::Sent)?;
                    }
                }
                Step::Wait => break,
            }
        }
        self.repeat(&settler, now).await?;
        let alarm = match alarm {
            None | Some(Alarm::UnknownHead { .. }) => self.dispute(&seen, now).await.or(alarm),
            alarm => alarm,
        };
        if bumped {
            // The nonce may be none that L1 takes: another RPC may know better.
            self.rpcs.rotate_left(1);
        }
        self.report(&settler, &seen, alarm, now).await?;
        Ok(Tick::Done { settled: seen.head.number, alarm })
    }

    /// L1's chain id, as the RPC whose turn it is says it. Unless it was named, no other one that answers may deny it the first time.
    async fn learn_chain(&mut self) -> Result<u64, Error> {
        let [rpc, others @ ..] = &mut self.rpcs[..] else {
            return Err(L1Error::Url("there is none".to_owned()).into());
        };
        let chain_id = rpc.chain(self.chain).await?;
        if self.chain.is_none() {
            for other in others {
                if let Err(error @ L1Error::OtherChain { .. }) = other.chain(Some(chain_id)).await {
                    return Err(error.into());
                }
            }
        }
        self.chain = Some(chain_id);
        Ok(chain_id)
    }

    /// The RPCs whose turn it is not. Two of the same origin have one voice.
    fn others(&self) -> impl Iterator<Item = &Rpc> {
        let asked = self.rpcs.first().map(Rpc::name);
        self.rpcs.iter().filter(move |rpc| Some(rpc.name()) != asked)
    }

    /// Hands the transactions of settled batches to RPCs that do not have them settled. They may be behind; but if they are right, and what
    /// was asked first is another branch or lies, nothing would be settled otherwise.
    async fn repeat(&mut self, settler: &Settler, now: Timestamp) -> Result<(), Error> {
        let rows = self.store.open_settlements(&settler.rollup).await?;
        let seen = rows.iter().filter(|row| row.state == SettlementState::Seen);
        let Some(first) = seen.clone().next() else { return Ok(()) };
        let due = |tx: &SignedTx| {
            let sent = self.sent.get(&tx.hash);
            // Not at once: an RPC may be some blocks behind.
            sent.is_none_or(|sent| now.0.abs_diff(sent.0) >= millis(self.config.rules.bump_after))
        };
        let due: Vec<_> = seen.filter_map(|row| row.tx.as_ref()).filter(|tx| due(tx)).collect();
        if due.is_empty() {
            return Ok(());
        }
        for other in self.others() {
            let Ok(head) = other.head(self.config.rollup).await else { continue };
            if head.number >= first.blocks.first() {
                continue;
            }
            tracing::warn!(
                code = "settlement_disputed", rpc = other.name(), block = head.number, blocks = %first.blocks,
                "an RPC does not have settled what another one has: it gets the transactions again"
            );
            for tx in &due {
                // What it has, or cannot use, it refuses.
                drop(other.send(&tx.raw).await);
            }
        }
        let due: Vec<_> = due.into_iter().map(|tx| tx.hash).collect();
        self.sent.extend(due.into_iter().map(|hash| (hash, now)));
        Ok(())
    }

    /// Whether another RPC has had less settled for long. If that one has newest blocks too, its turn is next: what nobody settled would never
    /// be settled if one that invents a head were believed.
    async fn dispute(&mut self, seen: &Observed, now: Timestamp) -> Option<Alarm> {
        let (rollup, wallet) = (self.config.rollup, self.wallet.address());
        let mut behind = None;
        for other in self.others() {
            let Ok(observed) = other.observe(rollup, wallet).await else { continue };
            if observed.head.number < seen.head.number {
                let lives = observed.block.number.saturating_add(LAG) >= seen.block.number;
                behind = Some((other.name().to_owned(), observed.head.number, lives));
                break;
            }
        }
        let Some((name, other, lives)) = behind else {
            self.disputed = None;
            return None;
        };
        let since = *self.disputed.get_or_insert(now);
        if now.0.abs_diff(since.0) < millis(self.config.rules.bump_after) {
            return None;
        }
        if lives && let Some(at) = self.rpcs.iter().position(|rpc| rpc.name() == name) {
            self.rpcs.rotate_left(at);
            self.disputed = None;
        }
        Some(Alarm::Disputed { settled: seen.head.number, other })
    }

    /// The finalized head as far as another RPC has it too, if there is another one: what is final is forgotten.
    async fn confirmed(
        &self,
        finalized: Option<crate::contract::Head>,
    ) -> Option<crate::contract::Head> {
        let finalized = finalized?;
        if self.others().next().is_none() {
            return Some(finalized);
        }
        for other in self.others() {
            if let Ok(Some(head)) = other.finalized_head(self.config.rollup).await {
                return Some(if head.number < finalized.number { head } else { finalized });
            }
        }
        None
    }

    /// A nonce was used up, and one RPC says that the batch is not settled. If another one says that it is, nothing more is paid for it.
    async fn undisputed(&self, row: &Settlement) -> Result<(), Error> {
        for other in self.others() {
            match other.head(self.config.rollup).await {
                Ok(head) if head.number >= row.blocks.first() => {
                    let says = format!("that the contract's head is block {}", head.number);
                    return Err(Error::Disputed {
                        blocks: row.blocks,
                        rpc: other.name().into(),
                        says,
                    });
                }
                Ok(_) => break,
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// What L1 says, beside what this server knows.
    async fn view(
        &self,
        rollup: &Rollup,
        seen: &Observed,
        rows: &[Settlement],
    ) -> Result<View, Error> {
        let latest = self.head(&seen.head, rows).await?;
        let finalized = match &seen.finalized {
            Some(head) => Some(self.head(head, rows).await?),
            None => None,
        };
        Ok(View {
            latest,
            finalized,
            nonce: seen.nonce,
            offered: self.store.offered(rollup, seen.nonce).await?,
            market: market(seen),
        })
    }

    async fn head(&self, head: &crate::contract::Head, rows: &[Settlement]) -> Result<Head, Error> {
        let (number, hash) = (head.number, head.hash);
        let known = match self.store.hash_on_chain(number).await? {
            Some(here) if here == hash => Known::Same,
            Some(here) => Known::Other(here),
            // The server may have forgotten what was settled long ago.
            None if rows.iter().any(|row| row.blocks.last() == number && row.last_hash == hash) => {
                Known::Same
            }
            None => Known::Nothing,
        };
        Ok(Head { number, hash, known })
    }

    /// The batches that the L2 has abandoned.
    async fn stale(&self, rows: &[Settlement]) -> Result<BTreeSet<i64>, Error> {
        let mut stale = BTreeSet::new();
        for row in rows {
            let here = self.store.hash_on_chain(row.blocks.last()).await?;
            if here.is_some_and(|here| here != row.last_hash) {
                stale.insert(row.id);
            }
        }
        Ok(stale)
    }

    async fn settleable(&self, first: u64) -> Result<Option<Settleable>, Error> {
        Ok(self.store.settleable(first, self.config.kind).await?)
    }

    /// The batch that begins with `first`, if it is proven as the contract wants it.
    async fn take(&self, first: u64, seen: &Observed) -> Result<Option<NewSettlement>, Error> {
        let Some(found) = self.settleable(first).await? else { return Ok(None) };
        let blocks = found.blocks;
        let refused = |refusal| Error::Refused { blocks, refusal };
        let statement = decoded(blocks, &found.statement)?;
        let facts = self.rpcs[0].facts(self.config.rollup, &statement, seen).await?;
        let chosen = check::choose(&facts.policy, &found.proofs).map_err(refused)?;
        check::refused(&check::fields(&statement, &facts)).map_err(refused)?;
        let call = self.call(&found, &facts, chosen).await?;
        Ok(Some(NewSettlement {
            blocks,
            parent_hash: statement.parent_hash,
            last_hash: statement.last_hash,
            call,
        }))
    }

    async fn call(
        &self,
        found: &Settleable,
        facts: &Facts,
        chosen: Vec<(u8, &JobProof)>,
    ) -> Result<Vec<u8>, Error> {
        let mut proofs = Vec::new();
        for (place, proof) in chosen {
            proofs.push((place, self.seal(found, proof).await?));
        }
        Ok(check::call(found.statement.clone(), facts.link.unwrap_or_default(), proofs))
    }

    /// What a contract takes for a proof.
    async fn seal(&self, found: &Settleable, proof: &JobProof) -> Result<Vec<u8>, Error> {
        let blocks = found.blocks;
        let unfit = |says: String| Error::Unfit { blocks, says };
        if proof.system == ProofSystem::Exec {
            return Ok(check::mock(proof.program_id, &found.statement));
        }
        let system = verifier_of(proof.system);
        let system = system.ok_or_else(|| unfit(format!("a proof of {}", proof.system)))?;
        if proof.proof.len > LARGEST_PROOF {
            return Err(unfit(format!("a {} proof of {} bytes", proof.kind, proof.proof.len)));
        }
        let bytes = self.artifacts.read(proof.proof.sha256).await;
        let bytes = bytes.map_err(|source| Error::Artifact { blocks, source })?;
        let seal = verifier::seal(system, proof.program_id.0, &bytes);
        let seal = seal.map_err(|error| unfit(error.to_string()))?;
        seal.ok_or_else(|| unfit(format!("a {} proof: make it a groth16 one", proof.kind)))
    }

    /// The transaction to sign, if L1 would take it.
    async fn transaction(
        &self,
        row: &Settlement,
        nonce: u64,
        fees: Fees,
        seen: &Observed,
    ) -> Result<TxEip1559, Error> {
        let (rpc, blocks) = (&self.rpcs[0], row.blocks);
        let call = IRollup::settleCall::abi_decode_validate(&row.call);
        let call = call.map_err(|error| Error::Unfit { blocks, says: error.to_string() })?;
        let statement = decoded(blocks, &call.values)?;
        let facts = rpc.facts(self.config.rollup, &statement, seen).await?;
        let refused = |refusal| Error::Refused { blocks, refusal };
        check::refused(&check::fields(&statement, &facts)).map_err(refused)?;
        let wallet = self.wallet.address();
        let gas = rpc.try_call(wallet, self.config.rollup, &row.call, seen).await?;
        // What was used up for nothing may have run out of gas: an RPC may estimate too little.
        let gas = match row.wasted {
            0 => gas.saturating_mul(GAS_MARGIN) / 100,
            _ => gas.max(self.config.max_gas),
        };
        afford(gas, fees, self.config.max_gas, wallet, seen.balance)?;
        Ok(TxEip1559 {
            chain_id: self.chain.unwrap_or_default(),
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.max.into(),
            max_priority_fee_per_gas: fees.priority.into(),
            to: self.config.rollup.into(),
            value: U256::ZERO,
            access_list: Default::default(),
            input: row.call.clone().into(),
        })
    }

    /// Hands a transaction to all RPCs. If none of them takes it, it is sent again later, like one that is lost.
    async fn send(&self, blocks: BlockRange, tx: &SignedTx) {
        let (mut taken, mut refused) = (false, None);
        for rpc in &self.rpcs {
            match rpc.send(&tx.raw).await {
                Ok(()) => taken = true,
                Err(error) => refused = Some(error),
            }
        }
        let (nonce, hash) = (tx.nonce, tx.hash);
        match refused {
            Some(error) if !taken => {
                tracing::warn!(code = "settlement_not_sent", %blocks, nonce, %hash, %error, "no RPC takes a transaction");
            }
            _ => tracing::info!(%blocks, nonce, %hash, "transaction sent"),
        }
    }

    async fn noted(
        &mut self,
        row: &Settlement,
        event: &SettlementEvent,
        now: Timestamp,
    ) -> Result<(), Error> {
        let blocks = row.blocks;
        match event {
            SettlementEvent::Seen => tracing::info!(%blocks, "batch settled"),
            SettlementEvent::Unseen => tracing::warn!(
                code = "settlement_reorg",
                %blocks,
                "a reorg of L1 took a settlement away: its transaction is sent again"
            ),
            SettlementEvent::Dropped => tracing::warn!(
                code = "settlement_dropped",
                %blocks,
                "a batch cannot be settled any more: the contract, or the L2, has other blocks there"
            ),
            SettlementEvent::Final => {
                tracing::info!(%blocks, "settlement is final");
                if let Some(tx) = &row.tx {
                    self.sent.remove(&tx.hash);
                }
                self.store.delivered(&Actor::new(CONSUMER), blocks.last(), now).await?;
            }
            SettlementEvent::Signed { .. } => {}
        }
        Ok(())
    }

    /// Says how things stand: in the log what is new, in the database all of it.
    async fn report(
        &mut self,
        settler: &Settler,
        seen: &Observed,
        alarm: Option<Alarm>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let trouble = alarm.as_ref().map(Trouble::Alarm);
        self.tell(trouble);
        let rows = self.store.open_settlements(&settler.rollup).await?;
        let waits = |row: &&Settlement| row.state == SettlementState::Signed;
        let front = rows.iter().find(waits).and_then(|row| Some((row.id, row.tx.as_ref()?.at)));
        // A replacement waits since the first.
        self.waiting = match (front, self.waiting) {
            (Some((id, _)), Some((before, since))) if id == before => Some((id, since)),
            (front, _) => front,
        };
        let settled = Settled {
            settled: Some(seen.head.number),
            finalized: seen.finalized.as_ref().map(|head| head.number),
            balance_gwei: Some(gwei(seen.balance)),
            waiting_since: self.waiting.map(|(_, since)| since),
            alarm: trouble.map(|trouble| trouble.code().to_owned()),
            seen_at: Some(now),
        };
        Ok(self.store.note_settled(settler, &settled, now).await?)
    }

    /// What would be done about the next batch, if there is one that is proven, as the first RPC that can be asked says it. Nothing is
    /// written, signed or sent.
    ///
    /// # Errors
    /// [`Error`] if no RPC can tell: what the last one says.
    pub async fn trial(&mut self) -> Result<Option<Trial>, Error> {
        for _ in 1..self.rpcs.len() {
            match self.try_next().await {
                Err(Error::L1(error)) => {
                    tracing::warn!(code = "settlement_l1_failed", why = %error, "L1 could not be asked");
                    self.rpcs.rotate_left(1);
                }
                tried => return tried,
            }
        }
        self.try_next().await
    }

    async fn try_next(&mut self) -> Result<Option<Trial>, Error> {
        let chain_id = self.learn_chain().await?;
        let (rpc, wallet) = (&self.rpcs[0], self.wallet.address());
        let rollup = Rollup { chain_id, address: self.config.rollup };
        let seen = rpc.observe(rollup.address, wallet).await?;
        let head = seen.head.number;
        let Some(found) = self.settleable(head.saturating_add(1)).await? else { return Ok(None) };
        let statement = decoded(found.blocks, &found.statement)?;
        let facts: Facts = rpc.facts(rollup.address, &statement, &seen).await?;
        let mut fields = check::fields(&statement, &facts);
        fields.push(check::sequencer(&facts.policy, wallet));
        let gas = match check::choose(&facts.policy, &found.proofs) {
            Ok(chosen) => {
                let call = self.call(&found, &facts, chosen).await?;
                match rpc.try_call(wallet, rollup.address, &call, &seen).await {
                    Ok(gas) => Ok(gas),
                    Err(L1Error::Reverted(says)) => Err(says),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Refusal { name, ours, l1 }) => {
                fields.push(Field { name, ours, l1, fits: false });
                Err("it was not tried".to_owned())
            }
        };
        let offered = self.store.offered(&rollup, seen.nonce).await?;
        let fees = offer(market(&seen), offered, self.config.rules.caps);
        let fees = fees.map_err(|high| high.needed);
        let (blocks, balance) = (found.blocks, seen.balance);
        let max_gas = self.config.max_gas;
        Ok(Some(Trial { rollup, wallet, head, blocks, fields, gas, fees, balance, max_gas }))
    }
}

fn go_on(pass: &mut (dyn FnMut(Label) -> bool + Send), label: Label) -> Result<(), Error> {
    if pass(label) { Ok(()) } else { Err(Error::Stopped) }
}

/// Whether so much gas is allowed, and the wallet can pay for it.
fn afford(gas: u64, fees: Fees, allowed: u64, wallet: Address, balance: U256) -> Result<(), Error> {
    if gas > allowed {
        return Err(Error::Gas { needed: gas, allowed });
    }
    let needed = U256::from(gas) * U256::from(fees.max);
    if balance < needed {
        return Err(Error::Poor { wallet, balance, needed });
    }
    Ok(())
}

fn market(seen: &Observed) -> Market {
    Market { base_fee: seen.block.base_fee, tip: seen.tip }
}

fn gwei(wei: U256) -> u64 {
    (wei / U256::from(GWEI)).saturating_to()
}

fn decoded(blocks: BlockRange, statement: &[u8]) -> Result<Statement, Error> {
    Statement::abi_decode(statement)
        .map_err(|error| Error::Unfit { blocks, says: error.to_string() })
}

/// What keeps a batch from being settled.
#[derive(Clone, Copy)]
enum Trouble<'a> {
    Failed(&'a Error),
    Alarm(&'a Alarm),
}

impl Trouble<'_> {
    /// Its log code.
    fn code(self) -> &'static str {
        match self {
            Self::Failed(error) => match error {
                Error::Refused { .. } | Error::L1(L1Error::Reverted(_)) => "settlement_refused",
                Error::Unfit { .. } | Error::Artifact { .. } | Error::Gas { .. } => {
                    "settlement_refused"
                }
                Error::Poor { .. } => "settlement_wallet_poor",
                Error::Wallet(_) => "settlement_wallet_failed",
                Error::L1(L1Error::Changed(_)) => "settlement_outrun",
                Error::L1(_) | Error::Disputed { .. } => "settlement_l1_failed",
                Error::Store(_) | Error::Stopped => "settlement_store_failed",
            },
            Self::Alarm(alarm) => match alarm {
                Alarm::OtherHead { .. } => "settlement_other_head",
                Alarm::UnknownHead { .. } => "settlement_unknown_head",
                Alarm::FeesTooHigh(_) | Alarm::Stuck { .. } => "settlement_stuck",
                Alarm::Disputed { .. } => "settlement_disputed",
                Alarm::NonceWasted { .. } | Alarm::NonceGap { .. } => "settlement_nonce_lost",
            },
        }
    }

    fn text(self) -> String {
        match self {
            Self::Failed(error) => error.to_string(),
            Self::Alarm(alarm) => alarm.to_string(),
        }
    }

    fn log(self) {
        let why = self.text();
        match self.code() {
            "settlement_refused" => {
                tracing::error!(
                    code = "settlement_refused",
                    why,
                    "the next batch cannot be settled"
                );
            }
            "settlement_wallet_poor" => {
                tracing::error!(code = "settlement_wallet_poor", why, "the wallet lacks ether");
            }
            "settlement_wallet_failed" => {
                tracing::error!(code = "settlement_wallet_failed", why, "nothing was signed");
            }
            "settlement_l1_failed" => {
                tracing::warn!(code = "settlement_l1_failed", why, "L1 could not be asked");
            }
            "settlement_outrun" => {
                tracing::info!(code = "settlement_outrun", why, "somebody else was faster");
            }
            "settlement_disputed" => {
                tracing::error!(
                    code = "settlement_disputed",
                    why,
                    "the RPCs contradict each other"
                );
            }
            "settlement_other_head" => {
                tracing::error!(
                    code = "settlement_other_head",
                    why,
                    "the contract has settled another chain: the L2 must follow it"
                );
            }
            "settlement_unknown_head" => {
                tracing::info!(code = "settlement_unknown_head", why, "nothing to settle yet");
            }
            "settlement_stuck" => {
                tracing::warn!(code = "settlement_stuck", why, "a settlement waits for lower fees");
            }
            "settlement_nonce_lost" => {
                tracing::warn!(code = "settlement_nonce_lost", why, "a settlement is signed anew");
            }
            _ => tracing::warn!(code = "settlement_store_failed", why, "the store failed"),
        }
    }
}
