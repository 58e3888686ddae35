//! `l2-prover status` and `l2-prover top`: how things stand on a Prover Server, live on the terminal or once as text.
//!
//! Everything shown comes from one status, so that a screen is consistent and can be drawn without a server.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use comfy_table::{Table, presets};
use crossterm::{cursor, execute, queue, style::Print, terminal};
use protocol::{
    BlockRange, Capability, ClientId, Counts, IntakeStatus, JobState, JobSummary, Progress,
    ProofKind, SettlementStatus, Status, paths,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::Operated;
use crate::commands::operate;
use crate::logs::escaped;
use crate::output::{Output, chain, thousands};
use crate::parse;
use crate::signals::unless_interrupted;
use crate::view::about;

/// `l2-prover top`
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The server
    #[command(flatten)]
    pub operated: Operated,
    /// Print how things stand once, as `status` does; also with --json, or if there is no terminal
    #[arg(long)]
    pub once: bool,
    /// How often to look
    #[arg(long, default_value = "1s", value_parser = parse::duration_above_zero, value_name = "TIME")]
    pub every: Duration,
}

/// Rates are means over this time, or over the time since the oldest job that the status shows, if that is shorter.
const WINDOW: Duration = Duration::from_secs(600);

/// So many of the jobs that the status shows are the newest.
const NEWEST: usize = 100;

/// Events shown.
const EVENTS: usize = 8;

/// Clients shown; those that work come first.
const CLIENTS: usize = 16;

/// A client that was silent for so long is not shown, unless it has a job.
const GONE: Duration = Duration::from_secs(600);

/// Runs `l2-prover status`.
pub(crate) async fn once(operated: &Operated, output: &Output) -> anyhow::Result<()> {
    output.report(&Snapshot::of(&operate::read(operated, paths::STATUS).await?))
}

/// Runs `l2-prover top`.
pub(crate) async fn run(
    args: Top,
    output: &Output,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if args.once || output.json() || !std::io::stdout().is_terminal() {
        return unless_interrupted(&shutdown, once(&args.operated, output)).await;
    }
    let first = operate::read(&args.operated, paths::STATUS);
    let mut snapshot = Snapshot::of(&unless_interrupted(&shutdown, first).await?);
    let mut trouble = None;
    let screen = Screen::enter().context("failed to use the terminal")?;
    loop {
        screen.draw(&snapshot, trouble.as_deref()).context("failed to draw on the terminal")?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(args.every) => {}
        }
        let read = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            read = operate::read(&args.operated, paths::STATUS) => read,
        };
        match read {
            Ok(status) => (snapshot, trouble) = (Snapshot::of(&status), None),
            // The last screen stays: it says what was known.
            Err(error) => trouble = Some(chain(&error)),
        }
    }
}

/// How things stand.
#[derive(Debug, Serialize)]
struct Snapshot {
    /// The server's time, in milliseconds since the Unix epoch.
    now: u64,
    intake: IntakeStatus,
    /// Since when an operator has no new batches taken in, in milliseconds since the Unix epoch.
    paused_since: Option<u64>,
    /// Since when an operator has no leases granted.
    draining_since: Option<u64>,
    head: Option<u64>,
    enqueued: Option<u64>,
    proved: Option<u64>,
    /// Blocks from the last one proved without a gap to the head.
    lag: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settlements: Vec<SettlementStatus>,
    jobs: Counts,
    rates: Rates,
    clients: Vec<Client>,
    events: Vec<Event>,
}

/// Means over the last ten minutes, or since the oldest of the newest jobs, whatever is shorter.
#[derive(Debug, Default, Serialize)]
struct Rates {
    seconds: u64,
    blocks_per_minute: f64,
    mgas_per_second: f64,
    /// From lease to accepted proof.
    seconds_per_proof: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Client {
    client: ClientId,
    /// What it calls itself.
    name: Option<String>,
    /// `proving`, `idle`, `failing`, `resting`, `silent`, `draining` or `quarantined`.
    standing: &'static str,
    blocks: Option<BlockRange>,
    /// What it makes of the proofs of these blocks, if it does not prove the blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<ProofKind>,
    progress: Option<Progress>,
    /// How long it has had its job.
    seconds: Option<u64>,
    /// How long ago it was heard.
    silent_seconds: u64,
    proved: u64,
    rejected: u64,
    /// How fast it proves, if that was measured.
    cycles_per_second: Option<u64>,
    /// What it can prove, and on what, as it says.
    capabilities: Vec<Capability>,
}

#[derive(Debug, Serialize)]
struct Event {
    /// How long ago.
    seconds: u64,
    blocks: BlockRange,
    /// What is made of the proofs of these blocks, if that is what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<ProofKind>,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Snapshot {
    fn of(status: &Status) -> Self {
        let before = status
            .proved_through
            .or_else(|| status.jobs.first().map(|job| job.block_numbers.first() - 1));
        let lag = status.head.zip(before).map(|(head, proved)| head.saturating_sub(proved));
        Self {
            now: status.now,
            intake: status.intake.clone(),
            paused_since: status.paused_since,
            draining_since: status.draining_since,
            head: status.head,
            enqueued: status.last_enqueued,
            proved: status.proved_through,
            lag,
            settlements: status.settlements.clone(),
            jobs: status.counts,
            rates: rates(status),
            clients: clients(status),
            events: events(status),
        }
    }
}

fn rates(status: &Status) -> Rates {
    // Those before the newest are there because clients have them: what was proved meanwhile is not shown.
    let newest = status.jobs.iter().rev().take(NEWEST);
    let Some(oldest) = newest.map(|job| job.created_at).min() else {
        return Rates::default();
    };
    let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
    let since = oldest.max(status.now.saturating_sub(window));
    let proved: Vec<&JobSummary> = status
        .jobs
        .iter()
        .filter(|job| job.state == JobState::Proved && job.is_of_batch())
        .filter(|job| job.finished_at.is_some_and(|finished| finished >= since))
        .collect();
    let millis = status.now.saturating_sub(since);
    let seconds = millis as f64 / 1e3;
    if proved.is_empty() || millis == 0 {
        return Rates { seconds: millis / 1_000, ..Rates::default() };
    }
    let blocks: u64 = proved.iter().map(|job| length(&job.block_numbers)).sum();
    let gas: u64 = proved.iter().map(|job| job.gas_used).sum();
    let times = proved.iter().filter_map(|job| job.finished_at?.checked_sub(job.leased_at?));
    let (sum, count) = times.fold((0, 0), |(sum, count), time| (sum + time, count + 1));
    Rates {
        seconds: millis / 1_000,
        blocks_per_minute: blocks as f64 * 60.0 / seconds,
        mgas_per_second: gas as f64 / 1e6 / seconds,
        seconds_per_proof: (count > 0).then(|| sum as f64 / 1e3 / f64::from(count)),
    }
}

fn length(blocks: &BlockRange) -> u64 {
    blocks.last() - blocks.first() + 1
}

fn clients(status: &Status) -> Vec<Client> {
    let gone = u64::try_from(GONE.as_millis()).unwrap_or(u64::MAX);
    let mut clients: Vec<Client> = status
        .clients
        .iter()
        .map(|client| {
            let job = status.jobs.iter().find(|job| {
                job.client == Some(client.client)
                    && matches!(job.state, JobState::Leased | JobState::Verifying)
            });
            let standing = match (client.quarantined, client.draining, job, client.rests_until) {
                (true, ..) => "quarantined",
                (_, true, ..) => "draining",
                (_, _, Some(_), _) => "proving",
                (_, _, _, Some(_)) => "resting",
                _ if client.silent => "silent",
                // It asks for work, or its prover is broken and it does not.
                _ if client.failed > 0 => "failing",
                _ => "idle",
            };
            Client {
                client: client.client,
                name: client.name.clone(),
                standing,
                blocks: job.map(|job| job.block_numbers),
                kind: job.and_then(JobSummary::made),
                progress: job.and_then(|job| job.progress),
                seconds: job.and_then(|job| Some(ago(status, job.leased_at?))),
                silent_seconds: ago(status, client.last_seen),
                proved: client.proved,
                rejected: client.rejected,
                cycles_per_second: client.cycles_per_second,
                capabilities: client.capabilities.clone(),
            }
        })
        .filter(|client| client.blocks.is_some() || client.silent_seconds * 1_000 < gone)
        .collect();
    clients.sort_by_key(|client| client.blocks.map_or(u64::MAX, |blocks| blocks.first()));
    clients
}

fn events(status: &Status) -> Vec<Event> {
    let mut events = Vec::new();
    for job in status.jobs.iter().filter(|job| job.part.is_none()) {
        let mut add = |at: Option<u64>, what, detail: Option<&String>| {
            if let Some(at) = at {
                let client = (what != "enqueued").then_some(job.client).flatten();
                let (blocks, seconds) = (job.block_numbers, ago(status, at));
                let kind = job.made();
                let event = Event { seconds, blocks, kind, what, client, detail: detail.cloned() };
                events.push((at, event));
            }
        };
        add(Some(job.created_at), "enqueued", None);
        match job.state {
            JobState::Leased | JobState::Verifying => add(job.leased_at, "leased", None),
            JobState::Proved => add(job.finished_at, "proved", None),
            JobState::Dead => add(job.finished_at, "given up", job.last_error.as_ref()),
            JobState::Superseded => add(job.finished_at, "superseded", None),
            // It was tried, and failed.
            JobState::Ready => {
                add(job.last_error.as_ref().and(job.leased_at), "tried", job.last_error.as_ref());
            }
        }
    }
    events.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    events.into_iter().take(EVENTS).map(|(_, event)| event).collect()
}

/// Whole seconds since `at`.
fn ago(status: &Status, at: u64) -> u64 {
    status.now.saturating_sub(at) / 1_000
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u64>| number.map_or("–".to_owned(), thousands);
        let intake = match &self.intake {
            IntakeStatus::Off => "off".to_owned(),
            IntakeStatus::Standby => "standby".to_owned(),
            IntakeStatus::Following => "following".to_owned(),
            IntakeStatus::Full => "full".to_owned(),
            IntakeStatus::Retrying { error } => format!("RETRYING: {}", escaped(error)),
            IntakeStatus::Halted { error } => format!("HALTED: {}", escaped(error)),
        };
        writeln!(
            f,
            "blocks   head {}, with a job {}, proved {}, lag {}",
            number(self.head),
            number(self.enqueued),
            number(self.proved),
            number(self.lag)
        )?;
        let ago = |since: u64| duration(self.now.saturating_sub(since) / 1_000);
        match self.paused_since {
            Some(since) => writeln!(f, "intake   PAUSED by an operator {} ago", ago(since))?,
            None => writeln!(f, "intake   {intake}")?,
        }
        if let Some(since) = self.draining_since {
            writeln!(
                f,
                "leases   NONE is granted: an operator drained all clients {} ago",
                ago(since)
            )?;
        }
        for it in &self.settlements {
            let behind = self.proved.unwrap_or(0).saturating_sub(it.settled.unwrap_or(0));
            write!(
                f,
                "L1       settled {}, final {}, {} behind",
                number(it.settled),
                number(it.finalized),
                thousands(behind)
            )?;
            if let Some(gwei) = it.balance_gwei {
                write!(f, ", wallet {:.4} ether", gwei as f64 / 1e9)?;
            }
            match &it.alarm {
                Some(code) => writeln!(f, ", ALARM {}", escaped(code))?,
                None => writeln!(f)?,
            }
            let (rollup, chain) = (escaped(&it.rollup), it.l1_chain_id);
            writeln!(f, "         contract {rollup} on chain {chain}")?;
            writeln!(f, "         validium: the data of the blocks is not on L1")?;
        }
        let Counts { ready, leased, verifying, proved, dead, superseded, set_aside } = self.jobs;
        writeln!(
            f,
            "jobs     {ready} ready, {leased} leased, {verifying} verifying, {proved} proved, {dead} dead"
        )?;
        if superseded > 0 {
            writeln!(f, "         {superseded} superseded by a reorg")?;
        }
        if set_aside > 0 {
            writeln!(f, "         {set_aside} set aside: their proofs are no longer wanted")?;
        }
        let rates = &self.rates;
        write!(
            f,
            "rates    {:.1} blocks/min, {:.2} Mgas/s",
            rates.blocks_per_minute, rates.mgas_per_second
        )?;
        if let Some(seconds) = rates.seconds_per_proof {
            write!(f, ", {seconds:.1} s for a proof")?;
        }
        writeln!(f, " (last {})\n", duration(rates.seconds))?;

        let mut clients = table([
            "client", "name", "does", "blocks", "progress", "since", "heard", "proved", "rejected",
            "speed", "prover",
        ]);
        for client in self.clients.iter().take(CLIENTS) {
            clients.add_row([
                client.client.to_string(),
                client
                    .name
                    .as_deref()
                    .map_or(String::new(), |name| escaped(name).chars().take(16).collect()),
                client.standing.to_owned(),
                client.blocks.map_or(String::new(), |blocks| about(blocks, client.kind)),
                client.progress.map_or(String::new(), |progress| progress.to_string()),
                client.seconds.map_or(String::new(), duration),
                duration(client.silent_seconds),
                client.proved.to_string(),
                client.rejected.to_string(),
                client.cycles_per_second.map_or(String::new(), operate::speed),
                client.capabilities.first().map_or(String::new(), operate::prover),
            ]);
        }
        writeln!(f, "{clients}")?;
        if let Some(more) = self.clients.len().checked_sub(CLIENTS + 1) {
            writeln!(f, "and {} more", more + 1)?;
        }
        let mut events = table(["ago", "blocks", "happened", "client", "detail"]);
        for event in &self.events {
            events.add_row([
                duration(event.seconds),
                about(event.blocks, event.kind),
                event.what.to_owned(),
                event.client.map_or(String::new(), |client| format!("{:.8}", client.to_string())),
                event.detail.as_deref().map_or(String::new(), operate::shortened),
            ]);
        }
        write!(f, "\n{events}")
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// The terminal, which is as it was when this is dropped.
struct Screen;

impl Screen {
    fn enter() -> std::io::Result<Self> {
        execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(Self)
    }

    /// Draws over what is there, without a blank screen in between.
    fn draw(&self, snapshot: &Snapshot, trouble: Option<&str>) -> std::io::Result<()> {
        let (width, height) = terminal::size()?;
        let mut stdout = std::io::stdout().lock();
        let lines = lines(snapshot, trouble, width.into(), height.into());
        for (row, line) in (0u16..).zip(&lines) {
            queue!(
                stdout,
                cursor::MoveTo(0, row),
                Print(line),
                terminal::Clear(terminal::ClearType::UntilNewLine)
            )?;
        }
        queue!(stdout, terminal::Clear(terminal::ClearType::FromCursorDown))?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = execute!(std::io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
    }
}

/// What is drawn on a terminal of this size.
fn lines(snapshot: &Snapshot, trouble: Option<&str>, width: usize, height: usize) -> Vec<String> {
    let mut text = String::new();
    let _ = match trouble {
        Some(trouble) => writeln!(text, "NO ANSWER  {}\n", escaped(trouble)),
        None => writeln!(text, "l2-prover top (ctrl-c ends)\n"),
    };
    let _ = write!(text, "{snapshot}");
    text.lines().take(height).map(|line| line.chars().take(width).collect()).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use protocol::{ArtifactRef, ClientSummary, JobId, ProofKind, ProofSystem};

    use super::*;

    fn job(number: u64, state: JobState) -> JobSummary {
        let worked_on = state != JobState::Ready;
        let started = 1_000_000 + 10_000 * number;
        JobSummary {
            job: JobId::from_bytes([u8::try_from(number).expect("small"); 16]),
            block_numbers: BlockRange::new(number, number).expect("not empty"),
            state,
            cause: None,
            priority: 0,
            system: ProofSystem::Risc0,
            program_id: alloy_primitives::B256::ZERO,
            kind: ProofKind::Composite,
            part: None,
            gas_used: 30_000_000,
            transactions: number,
            prover_inputs: ArtifactRef::of(b"input"),
            client: worked_on.then_some(ClientId::from_bytes([0xab; 16])),
            progress: (state == JobState::Leased)
                .then_some(Progress::Segment { done: 3, total: 8 }),
            created_at: started,
            leased_at: worked_on.then_some(started + 1_000),
            finished_at: (state == JobState::Proved).then_some(started + 13_500),
            failures: 0,
            lost: 0,
            proof: None,
            last_error: None,
        }
    }

    fn client(n: u8, quarantined: bool) -> ClientSummary {
        ClientSummary {
            client: ClientId::from_bytes([n; 16]),
            name: (n == 0xab).then(|| "gpu-1\u{1b}[2J".to_owned()),
            last_seen: 1_055_000,
            proved: 2,
            rejected: u64::from(quarantined),
            failed: 0,
            silent: false,
            rests_until: None,
            quarantined,
            draining: false,
            capabilities: vec![Capability {
                engine: Some("risc0 cpu".into()),
                ..Capability::new(ProofSystem::Risc0, alloy_primitives::B256::ZERO, false)
            }],
            cycles_per_second: (n == 0xab).then_some(18_000),
        }
    }

    fn status() -> Status {
        let mut jobs = vec![
            job(1, JobState::Proved),
            job(2, JobState::Proved),
            job(3, JobState::Leased),
            job(4, JobState::Ready),
        ];
        jobs[3].last_error = Some("backend_failed: \u{1b}[2Jthe GPU\nis on fire".into());
        jobs[3].leased_at = Some(1_050_000);
        Status {
            now: 1_060_000,
            intake: IntakeStatus::Following,
            head: Some(1_204),
            last_enqueued: Some(4),
            proved_through: Some(2),
            finalized: None,
            counts: Counts { ready: 1, leased: 1, proved: 2, ..Counts::default() },
            jobs,
            clients: vec![client(0xcd, true), client(0xab, false)],
            draining_since: None,
            paused_since: Some(1_000_000),
            settlements: vec![SettlementStatus {
                l1_chain_id: 1,
                rollup: "0x00".into(),
                settled: Some(1),
                finalized: None,
                balance_gwei: Some(1_234_567_890),
                waiting_since: None,
                alarm: Some("settlement_stuck".into()),
                seen_at: Some(1_050_000),
            }],
        }
    }

    #[test]
    fn the_screen_shows_who_proves_what_and_what_happened() {
        let screen = lines(&Snapshot::of(&status()), None, 140, 40);
        let screen: Vec<_> = screen.iter().map(|line| line.trim_end()).collect();
        expect![[r#"
            l2-prover top (ctrl-c ends)

            blocks   head 1,204, with a job 4, proved 2, lag 1,202
            intake   PAUSED by an operator 60 s ago
            L1       settled 1, final –, 1 behind, wallet 1.2346 ether, ALARM settlement_stuck
                     contract 0x00 on chain 1
                     validium: the data of the blocks is not on L1
            jobs     1 ready, 1 leased, 0 verifying, 2 proved, 0 dead
            rates    2.4 blocks/min, 1.20 Mgas/s, 12.5 s for a proof (last 50 s)

             client                            name            does         blocks  progress     since  heard  proved  rejected  speed   prover
             abababababababababababababababab  gpu-1\u{1b}[2J  proving      3       segment 3/8  29 s   5 s    2       0         18 kHz  risc0 cpu
             cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd                  quarantined                              5 s    2       1                 risc0 cpu

             ago   blocks  happened  client    detail
             10 s  4       tried               backend_failed: \u{1b}[2Jthe GPU\nis on fire
             20 s  4       enqueued
             26 s  2       proved    abababab
             29 s  3       leased    abababab
             30 s  3       enqueued
             36 s  1       proved    abababab
             40 s  2       enqueued
             50 s  1       enqueued"#]].assert_eq(&screen.join("\n"));
    }

    #[test]
    fn a_small_terminal_and_a_lost_server_are_drawn_too() {
        let trouble = "failed to reach the Prover Server: \u{1b}]0;owned\u{7}";
        let screen = lines(&Snapshot::of(&status()), Some(trouble), 40, 5);
        assert_eq!(screen.len(), 5);
        assert!(screen.iter().all(|line| line.chars().count() <= 40), "{screen:?}");
        assert!(screen[0].starts_with("NO ANSWER  failed to reach"), "{screen:?}");
        assert!(!screen.concat().chars().any(char::is_control), "{screen:?}");
    }

    #[test]
    fn nothing_known_is_no_reason_to_fail() {
        let empty = Status {
            head: None,
            last_enqueued: None,
            proved_through: None,
            counts: Counts::default(),
            jobs: Vec::new(),
            clients: Vec::new(),
            ..status()
        };
        let snapshot = Snapshot::of(&empty);
        assert_eq!((snapshot.lag, snapshot.rates.blocks_per_minute), (None, 0.0));
        assert!(snapshot.to_string().starts_with("blocks   head –"), "{snapshot}");
    }
}
