//! Everything a person or a script reads from us: reports on stdout, logs and warnings on stderr.
//!
//! * A report is written once, as a type: `Display` is its text, `Serialize` its JSON.
//! * Nothing else in this crate prints.

#![expect(clippy::print_stderr, reason = "this is the module that prints")]

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

use anyhow::Context as _;
use indicatif::MultiProgress;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::logs::{LogFormat, OneLine};

/// How to report. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    bars: MultiProgress,
}

impl Output {
    /// Text for people, or JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, bars: MultiProgress::new() }
    }

    /// Whether JSON was asked for.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person watches: bars and live tables make sense.
    pub(crate) fn live(&self) -> bool {
        !self.json && std::io::stderr().is_terminal() && std::io::stdout().is_terminal()
    }

    /// Where progress bars are added. They are drawn on stderr, only if it is a terminal.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Reports: text, or one line of JSON.
    ///
    /// # Errors
    /// If stdout was closed.
    pub(crate) fn report<R: Serialize + Display>(&self, report: &R) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(report)? } else { report.to_string() };
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Writes bytes to stdout as they are: what another program reads, whose form is not ours.
    ///
    /// # Errors
    /// If stdout was closed.
    pub(crate) fn raw(&self, bytes: &[u8]) -> anyhow::Result<()> {
        self.bars.suspend(|| {
            let mut stdout = std::io::stdout().lock();
            match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
                // Whoever read has seen enough, as `head` does.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
                done => done.context("failed to write to stdout"),
            }
        })
    }

    /// Warns of something that weakens a guarantee; on stderr, so that stdout stays what was asked for.
    pub(crate) fn warn(&self, text: &str) {
        self.bars.suspend(|| {
            if self.json {
                eprintln!("{}", serde_json::json!({ "warning": text }));
            } else {
                let line = "!".repeat(76);
                eprintln!("{line}\n  WARNING: {text}\n{line}");
            }
        });
    }

    /// Tells a person something on the way; on stderr, and not in JSON.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            self.bars.suspend(|| eprintln!("{text}"));
        }
    }

    /// The last word of a command that failed.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        if self.json {
            eprintln!("{}", serde_json::json!({ "error": chain(error) }));
        } else {
            eprintln!("error: {}", chain(error));
        }
    }

    /// Sends logs to stderr, without tearing the progress bars. `filter` is as for `RUST_LOG`.
    ///
    /// # Errors
    /// If `filter` is malformed.
    pub(crate) fn init_logs(&self, filter: &str, format: LogFormat) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(filter).with_context(|| {
            format!("`{filter}` is no log filter; write for example `info` or `server=debug,warn`")
        })?;
        let bars = self.bars.clone();
        let builder = tracing_subscriber::fmt().with_env_filter(filter);
        if format == LogFormat::Json {
            builder.json().with_writer(std::io::stderr).init();
        } else {
            let ansi = std::io::stderr().is_terminal();
            builder
                .with_ansi(ansi)
                .with_target(false)
                .fmt_fields(OneLine)
                .with_writer(move || AboveBars(bars.clone()))
                .init();
        }
        Ok(())
    }
}

/// Writes to stderr above the progress bars.
struct AboveBars(MultiProgress);

impl std::io::Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// An error and its causes on one line, without those that the text before has told already.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{chain, thousands};

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("disk is full")
            .context("writing failed: disk is full")
            .context("no proof");
        assert_eq!(chain(&error), "no proof: writing failed: disk is full");
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
