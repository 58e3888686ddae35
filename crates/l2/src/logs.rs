//! Text for people in which what comes from outside cannot begin a line or speak to the terminal: log lines, above all. The executables of
//! zkVMs log in the same ways.

use std::error::Error;
use std::fmt;

use clap::ValueEnum;
use protocol::messages::disturbs;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for each event
    Text,
    /// A line of JSON for each event
    Json,
}

/// Writes fields as `name=value`, errors with their causes, and control characters as escapes: what comes from outside can
/// neither begin a line of its own nor speak to the terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line { writer, first: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    first: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn add(&mut self, field: &Field, text: &str) {
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        let name = if field.name() == "message" { String::new() } else { format!("{field}=") };
        let text = escaped(text);
        self.result = self.result.and_then(|()| write!(self.writer, "{space}{name}{text}"));
    }
}

impl Visit for Line<'_> {
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.add(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// `text` with escapes for control characters and for those that turn the direction of writing.
pub(crate) fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if disturbs(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_hostile_text_stays_on_its_line_and_does_not_speak_to_the_terminal() {
        let paper = Paper::default();
        let (writer, builder) = (paper.clone(), tracing_subscriber::fmt());
        let builder = builder.with_target(false).without_time().with_ansi(false);
        let subscriber = builder.fmt_fields(OneLine).with_writer(move || writer.clone()).finish();
        let hostile = "a\n2026-01-01 ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\0 é";
        let cause = io::Error::other(hostile);
        let error = anyhow::Error::new(cause).context("it failed");
        tracing::subscriber::with_default(subscriber, || {
            let error: &(dyn Error + 'static) = error.as_ref();
            tracing::warn!(code = "x", reason = %hostile, debug = ?hostile, error, "fixed text");
        });
        let text = String::from_utf8(paper.0.lock().expect("nobody panics").clone());
        let text = text.expect("it is UTF-8");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().chars().any(char::is_control), "{text}");
        let escaped = r"a\n2026-01-01 ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\u{0} é";
        assert!(text.contains(&format!("fixed text code=\"x\" reason={escaped} debug=")), "{text}");
        assert!(text.contains(&format!("error=it failed: {escaped}")), "{text}");
    }
}
