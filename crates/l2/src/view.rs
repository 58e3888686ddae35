//! What `l2-prover dev` shows while it runs: a live table on a terminal, else one line for each thing that happens.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::{BlockRange, IntakeStatus, JobId, JobState, JobSummary, ProofKind, Status};
use serde::Serialize;

use crate::output::{Output, thousands};

/// Rows of the live table.
const ROWS: usize = 12;

/// Follows a server's status.
#[derive(Debug)]
pub(crate) struct View {
    output: Output,
    live: Option<Live>,
    seen: HashMap<JobId, JobState>,
    intake: IntakeStatus,
}

#[derive(Debug)]
struct Live {
    table: ProgressBar,
    proved: ProgressBar,
}

impl View {
    /// `goal` is the number of blocks after which the run ends, if it does; `mocked`: their proofs prove nothing.
    pub(crate) fn new(output: &Output, goal: Option<u64>, mocked: bool) -> Self {
        let done = if mocked { "blocks executed, NOT proven" } else { "blocks proven" };
        let live = output.live().then(|| {
            let table = output.bars().add(ProgressBar::new_spinner());
            table.set_style(style("{msg}"));
            let proved = output.bars().add(ProgressBar::new(goal.unwrap_or(0)));
            proved.set_style(style(&match goal {
                Some(_) => format!("{{spinner}} {{wide_bar}} {{pos}}/{{len}} {done}, {{elapsed}}"),
                None => format!("{{spinner}} {{pos}} {done}, {{elapsed}} (ctrl-c stops)"),
            }));
            proved.enable_steady_tick(Duration::from_millis(200));
            Live { table, proved }
        });
        Self { output: output.clone(), live, seen: HashMap::new(), intake: IntakeStatus::Off }
    }

    /// Shows what has changed. `blocks` is how many blocks are proven so far.
    ///
    /// # Errors
    /// If stdout was closed.
    pub(crate) fn update(&mut self, status: &Status, blocks: u64) -> anyhow::Result<()> {
        if let Some(live) = &self.live {
            live.table.set_message(table(status));
            live.proved.set_position(blocks);
            return Ok(());
        }
        for job in &status.jobs {
            if self.seen.insert(job.job, job.state) != Some(job.state)
                && shown(job, self.output.json())
            {
                self.output.report(&JobEvent { event: "job", now: status.now, job })?;
            }
        }
        if self.intake != status.intake {
            self.intake = status.intake.clone();
            if let IntakeStatus::Retrying { error } | IntakeStatus::Halted { error } = &self.intake
            {
                self.output.note(&format!("intake: {error}"));
            }
        }
        Ok(())
    }

    /// Leaves the last table on the screen.
    pub(crate) fn finish(self) {
        if let Some(live) = self.live {
            live.table.abandon();
            live.proved.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

/// A person reads of the end of a job, a script of every state.
fn shown(job: &JobSummary, json: bool) -> bool {
    // A part that is given up was not needed any more.
    let unneeded = job.part.is_some() && job.state == JobState::Dead;
    json || (!unneeded && matches!(job.state, JobState::Leased | JobState::Proved | JobState::Dead))
}

/// Which blocks a job is about, and which part of their proof.
pub(crate) fn subject(job: &JobSummary) -> String {
    match &job.part {
        Some(part) => format!("{}, {}", job.block_numbers, part.work),
        None => about(job.block_numbers, job.made()),
    }
}

/// Which blocks, and what is made of their proofs.
pub(crate) fn about(blocks: BlockRange, made: Option<ProofKind>) -> String {
    match made {
        Some(kind) => format!("{blocks} {kind}"),
        None => blocks.to_string(),
    }
}

#[derive(Serialize)]
struct JobEvent<'a> {
    event: &'static str,
    now: u64,
    #[serde(flatten)]
    job: &'a JobSummary,
}

impl fmt::Display for JobEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = self.job;
        let (gas, state) = (thousands(job.gas_used), state_name(job.state));
        write!(f, "block {}: {state} ({} txs, {gas} gas", subject(job), job.transactions)?;
        if job.state != JobState::Leased {
            write!(f, ", {}", time_of(job, self.now))?;
        }
        if let Some(client) = &job.client {
            write!(f, ", client {:.8}", client.to_string())?;
        }
        f.write_char(')')?;
        match (&job.last_error, job.state) {
            (Some(error), JobState::Dead) => write!(f, ": {error}"),
            _ => Ok(()),
        }
    }
}

/// The newest jobs as a table, with a line above that sums up.
fn table(status: &Status) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["block", "txs", "gas", "state", "client", "progress", "time"]);
    for column in [0, 1, 2, 6] {
        table
            .column_mut(column)
            .expect("the header has seven columns")
            .set_cell_alignment(CellAlignment::Right);
    }
    for job in status.jobs.iter().skip(status.jobs.len().saturating_sub(ROWS)) {
        let client =
            job.client.map_or(String::new(), |client| format!("{:.8}", client.to_string()));
        let progress = match (&job.progress, &job.last_error, job.state) {
            (Some(progress), _, JobState::Leased) => progress.to_string(),
            (_, Some(error), state) if state != JobState::Proved => format!("{error:.40}"),
            _ => String::new(),
        };
        table.add_row([
            subject(job),
            job.transactions.to_string(),
            thousands(job.gas_used),
            state_name(job.state).to_owned(),
            client,
            progress,
            time_of(job, status.now),
        ]);
    }
    let number = |number: Option<u64>| number.map_or("–".to_owned(), |number| number.to_string());
    let counts = &status.counts;
    let mut text = format!(
        "head {} · proved through {} · {} ready, {} leased, {} verifying, {} proved, {} dead\n",
        number(status.head),
        number(status.proved_through),
        counts.ready,
        counts.leased,
        counts.verifying,
        counts.proved,
        counts.dead,
    );
    if counts.superseded != 0 {
        let _ = writeln!(text, "{} superseded by a reorg", counts.superseded);
    }
    if counts.set_aside != 0 {
        let _ = writeln!(text, "{} set aside: their proofs are no longer wanted", counts.set_aside);
    }
    if let IntakeStatus::Retrying { error } | IntakeStatus::Halted { error } = &status.intake {
        let _ = writeln!(text, "intake: {error}");
    }
    text.push_str(&table.to_string());
    text
}

fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Ready => "ready",
        JobState::Leased => "proving",
        JobState::Verifying => "verifying",
        JobState::Proved => "proved",
        JobState::Dead => "dead",
        JobState::Superseded => "superseded",
    }
}

/// How long the job has been worked on.
fn time_of(job: &JobSummary, now: u64) -> String {
    let Some(start) = job.leased_at else { return String::new() };
    let seconds =
        Duration::from_millis(job.finished_at.unwrap_or(now).saturating_sub(start)).as_secs_f64();
    if seconds < 100.0 { format!("{seconds:.1} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use protocol::{ArtifactRef, BlockRange, ClientId, Counts, Progress, ProofKind, ProofSystem};

    use super::*;

    fn job(number: u64, state: JobState) -> JobSummary {
        let worked_on = state != JobState::Ready;
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
            gas_used: 21_000 * number,
            transactions: number,
            prover_inputs: ArtifactRef::of(b"input"),
            client: worked_on.then_some(ClientId::from_bytes([0xab; 16])),
            progress: worked_on.then_some(Progress::Segment { done: 3, total: 8 }),
            created_at: 1_000,
            leased_at: worked_on.then_some(2_000),
            finished_at: (state == JobState::Proved).then_some(14_500),
            failures: 0,
            lost: 0,
            proof: None,
            last_error: None,
        }
    }

    #[test]
    fn the_table_shows_what_runs_and_what_is_done() {
        let status = Status {
            now: 20_000,
            intake: IntakeStatus::Retrying { error: "the node does not answer".to_owned() },
            head: Some(5),
            last_enqueued: Some(3),
            proved_through: Some(1),
            finalized: None,
            counts: Counts { ready: 1, leased: 1, proved: 1, ..Counts::default() },
            jobs: vec![job(1, JobState::Proved), job(2, JobState::Leased), job(3, JobState::Ready)],
            clients: Vec::new(),
            draining_since: None,
            paused_since: None,
            settlements: Vec::new(),
        };
        let text = table(&status);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> =
            text.lines().filter(|line| line.contains(char::is_alphanumeric)).map(words).collect();
        assert_eq!(
            lines,
            [
                "head 5 · proved through 1 · 1 ready, 1 leased, 0 verifying, 1 proved, 0 dead",
                "intake: the node does not answer",
                "block txs gas state client progress time",
                "1 1 21,000 proved abababab 12.5 s",
                "2 2 42,000 proving abababab segment 3/8 18.0 s",
                "3 3 63,000 ready",
            ]
        );
    }

    #[test]
    fn a_line_says_who_did_what() {
        let job = job(2, JobState::Proved);
        let event = JobEvent { event: "job", now: 20_000, job: &job };
        assert_eq!(
            event.to_string(),
            "block 2: proved (2 txs, 42,000 gas, 12.5 s, client abababab)"
        );
        let json = serde_json::to_value(&event).expect("it is plain data");
        assert_eq!((&json["event"], &json["state"]), (&"job".into(), &"proved".into()));
    }
}
