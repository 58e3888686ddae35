//! The pictures of docs/how-it-works.md. Each is drawn from a table of docs/benchmarks.md or docs/cycles.md, which has the
//! figures and how they were measured: nothing is written down twice.
//!
//! * A picture is bars, one below the other, on a ground of its own: it can be read on light and on dark pages.
//! * A test fails when a picture is older than its table; `cargo xtask pictures` draws it anew.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::pages::outside_fences;

/// Where the pictures are.
const FOLDER: &str = "docs/images";

/// Draws all pictures of the checkout at `root`.
///
/// # Errors
/// Names the table, row or column that is not there.
pub(crate) fn draw(root: &Path) -> anyhow::Result<String> {
    let pictures = pictures(root)?;
    for (name, picture) in &pictures {
        let path = root.join(FOLDER).join(name);
        fs::write(&path, picture).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(format!("{} pictures in {FOLDER}", pictures.len()))
}

/// Draws nothing.
///
/// # Errors
/// Names the picture that is older than its table.
pub(crate) fn check(root: &Path) -> anyhow::Result<String> {
    let pictures = pictures(root)?;
    for (name, picture) in &pictures {
        let path = root.join(FOLDER).join(name);
        let found = fs::read_to_string(&path).unwrap_or_default();
        ensure!(found == *picture, "{FOLDER}/{name} is older than its table: cargo xtask pictures");
    }
    Ok(format!("{} pictures are of the tables as they are", pictures.len()))
}

/// The pictures by their files' names.
fn pictures(root: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let read = |page: &str| {
        fs::read_to_string(root.join(page)).with_context(|| format!("failed to read {page}"))
    };
    let (benchmarks, cycles) = (read("docs/benchmarks.md")?, read("docs/cycles.md")?);
    Ok(vec![
        ("phases.svg", phases(&benchmarks)?),
        ("program.svg", program(&benchmarks)?),
        ("memory.svg", memory(&benchmarks)?),
        ("ladder.svg", ladder(&benchmarks)?),
        ("batches.svg", batches(&cycles)?),
    ])
}

/// What a proof takes, step after step. A cell such as `prove / lift` has two steps.
fn phases(page: &str) -> anyhow::Result<String> {
    let table = Table::find(page, "## Proofs in parts", "part")?;
    let (mut bars, mut start) = (Vec::new(), 0.0);
    for row in &table.rows {
        let (what, steps) = row[0].rsplit_once(": ").unwrap_or((&row[0], ""));
        for (at, figure) in row[1].split(" / ").enumerate() {
            let length = number(figure)?;
            let step = steps.split(" / ").nth(at).filter(|step| !step.is_empty());
            let label = step.map_or_else(|| what.to_owned(), |step| format!("{what}: {step}"));
            bars.push(Bar { label, start, length, shown: format!("{figure} s") });
            start += length;
        }
    }
    Ok(chart(
        "Phases of a proof",
        "CPU seconds on two cores, for an empty block in two segments",
        &bars,
    ))
}

/// Where the program's cycles go.
fn program(page: &str) -> anyhow::Result<String> {
    let table = Table::find(page, "## RISC Zero cycles of real blocks", "phase")?;
    let (mut bars, mut start) = (Vec::new(), 0.0);
    for row in &table.rows {
        let length = number(&row[table.column("user cycles")?])?;
        let share = &row[table.column("share")?];
        let shown = format!("{:.1} million cycles, {share}", length / 1e6);
        bars.push(Bar { label: row[0].clone(), start, length, shown });
        start += length;
    }
    Ok(chart("Phases of the program", "User cycles of block 24628608 of mainnet, in order", &bars))
}

/// The peak memory of processes.
fn memory(page: &str) -> anyhow::Result<String> {
    let mut bars = Vec::new();
    let real = "## A real proof of a one-transfer dev block";
    let (folded, engine) = ("## Folded proofs", "## The server's job engine");
    for (label, heading, first, row, column) in [
        ("prove, segments of 2^20", real, "kind", "composite and succinct", "peak memory"),
        ("prove, segments of 2^19", folded, "step", "prove an empty", "peak memory"),
        ("prove, segments of 2^18", real, "kind", "in smaller segments", "peak memory"),
        ("fold three proofs", folded, "step", "fold three", "peak memory"),
        ("server, 50 clients that pull 100 MiB", engine, "what", "memory while 50", "figure"),
        ("server, 100,000 open jobs", engine, "what", "memory then", "figure"),
    ] {
        let table = Table::find(page, heading, first)?;
        let shown = table.row(row)?[table.column(column)?].clone();
        bars.push(Bar { label: label.into(), start: 0.0, length: number(&shown)?, shown });
    }
    Ok(chart("Memory", "Peak memory of a process, without a GPU", &bars))
}

/// What a gas costs, after each step that was measured for the whole block.
fn ladder(page: &str) -> anyhow::Result<String> {
    let table = Table::find(page, "### The ladder", "step")?;
    let cost = table.column("all in / gas")?;
    let mut bars = Vec::new();
    for row in table.rows.iter().filter(|row| !row[cost].is_empty()) {
        let label = row[0].replace('`', "");
        bars.push(Bar { label, start: 0.0, length: number(&row[cost])?, shown: row[cost].clone() });
    }
    Ok(chart(
        "Cycles for a gas",
        "RISC Zero cycles, keccak included, of block 24628608 of mainnet",
        &bars,
    ))
}

/// How the cost grows with the batch.
fn batches(page: &str) -> anyhow::Result<String> {
    let table = Table::find(page, "# What generated blocks cost", "input")?;
    let (total, cost) = (table.column("total")?, table.column("all in / gas")?);
    let mut bars = Vec::new();
    for row in table.rows.iter().filter(|row| row[0].starts_with("tokens, ")) {
        let label = row[0].replace("tokens, 1 blocks", "1 block").replace("tokens, ", "");
        let length = number(&row[total])?;
        let shown = format!("{:.1} million cycles, {} a gas", length / 1e6, row[cost]);
        bars.push(Bar { label, start: 0.0, length, shown });
    }
    Ok(chart(
        "Cost of a batch by its blocks",
        "Total cycles of dev blocks that transfer tokens",
        &bars,
    ))
}

/// A bar, and what stands beside it.
struct Bar {
    label: String,
    start: f64,
    length: f64,
    shown: String,
}

/// Draws `bars` below each other, as SVG.
fn chart(title: &str, description: &str, bars: &[Bar]) -> String {
    const STEP: usize = 44;
    const WIDTH: f64 = 520.0;
    let end = bars.iter().map(|bar| bar.start + bar.length).fold(f64::MIN_POSITIVE, f64::max);
    let height = 76 + bars.len() * STEP;
    let list: Vec<_> = bars.iter().map(|bar| format!("{}: {}", bar.label, bar.shown)).collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height}\" role=\"img\" aria-labelledby=\"title desc\" \
         font-family=\"sans-serif\" font-size=\"14\">\n\
         <title id=\"title\">{}</title>\n<desc id=\"desc\">{}. {}</desc>\n\
         <rect width=\"760\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\" stroke=\"#94a3b8\"/>\n\
         <text x=\"20\" y=\"30\" font-size=\"17\" font-weight=\"bold\" fill=\"#0f172a\">{}</text>\n\
         <text x=\"20\" y=\"51\" fill=\"#475569\">{}</text>\n",
        escaped(title),
        escaped(description),
        escaped(&list.join("; ")),
        escaped(title),
        escaped(description),
    );
    for (at, bar) in bars.iter().enumerate() {
        let y = 66 + at * STEP;
        let x = 20.0 + bar.start / end * WIDTH;
        let width = (bar.length / end * WIDTH).max(1.0);
        let beside = x + width + 8.0;
        svg += &format!(
            "<text x=\"20\" y=\"{}\" fill=\"#0f172a\">{}</text>\n\
             <rect x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"14\" fill=\"#2563eb\"/>\n\
             <text x=\"{beside:.1}\" y=\"{}\" fill=\"#334155\">{}</text>\n",
            y + 14,
            escaped(&short(&bar.label)),
            y + 20,
            y + 32,
            escaped(&bar.shown),
        );
    }
    svg + "</svg>\n"
}

/// As much of a label as fits into a line.
fn short(label: &str) -> String {
    const MOST: usize = 98;
    if label.chars().count() <= MOST {
        return label.to_owned();
    }
    let cut: String = label.chars().take(MOST).collect();
    format!("{}…", cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A table of a page.
#[derive(Debug)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The table below `heading` whose first column is called `first`.
    fn find(page: &str, heading: &str, first: &str) -> anyhow::Result<Self> {
        let level = heading.bytes().take_while(|byte| *byte == b'#').count();
        let deeper = |line: &str| {
            let found = line.bytes().take_while(|byte| *byte == b'#').count();
            found == 0 || found > level
        };
        let mut lines = outside_fences(page).skip_while(|line| *line != heading);
        lines.next().with_context(|| format!("no page has the heading `{heading}`"))?;
        let mut rows = lines
            .take_while(|line| deeper(line))
            .skip_while(|line| !line.starts_with(&format!("| {first} |")))
            .take_while(|line| line.starts_with('|'))
            .map(cells);
        let columns =
            rows.next().with_context(|| format!("`{heading}` has no table of `{first}`"))?;
        let rows: Vec<_> = rows.skip(1).collect();
        ensure!(!rows.is_empty(), "the table of `{first}` below `{heading}` is empty");
        ensure!(
            rows.iter().all(|row| row.len() == columns.len()),
            "the table of `{first}` below `{heading}` has rows of other lengths"
        );
        Ok(Self { columns, rows })
    }

    /// The place of a column.
    fn column(&self, name: &str) -> anyhow::Result<usize> {
        let place = self.columns.iter().position(|column| column == name);
        place.with_context(|| format!("there is no column `{name}` among {:?}", self.columns))
    }

    /// The only row whose first cell starts with `start`.
    fn row(&self, start: &str) -> anyhow::Result<&[String]> {
        let mut rows = self.rows.iter().filter(|row| row[0].starts_with(start));
        let row = rows.next().with_context(|| format!("there is no row `{start}`"))?;
        ensure!(rows.next().is_none(), "several rows start with `{start}`");
        Ok(row)
    }
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The number with which a cell begins; MiB count as 1.048576 MB.
fn number(cell: &str) -> anyhow::Result<f64> {
    let (figure, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let figure: f64 = figure
        .replace(',', "")
        .parse()
        .with_context(|| format!("`{cell}` begins with no number"))?;
    Ok(if unit == "MiB" { figure * 1.048_576 } else { figure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_are_of_the_tables_as_they_are() {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
        let root = Path::new(&folder).parent().expect("xtask lies in the root");
        check(root).unwrap_or_else(|error| panic!("{error:#}"));
    }

    #[test]
    fn a_table_is_found_below_its_heading_by_its_first_column() {
        let page = "# A\n| x | y |\n|---|---|\n| 1 | 2 |\n\n## B\n\n| a | b |\n|---|---|\n| one | 1,234 MB |\n| two | 2 MiB |\n\n# C\n";
        let table = Table::find(page, "# A", "a").unwrap();
        let figure = |row| number(&table.row(row).unwrap()[table.column("b").unwrap()]).unwrap();
        assert_eq!((figure("one"), figure("two")), (1234.0, 2.097_152));
        assert!(table.row("three").is_err() && table.column("c").is_err());
        assert!(Table::find(page, "# C", "a").is_err() && Table::find(page, "# D", "a").is_err());
    }

    #[test]
    fn bars_are_as_long_as_their_figures_and_hold_no_markup() {
        let bar =
            |start, length| Bar { label: "a < b".into(), start, length, shown: "1 & 2".into() };
        let svg = chart("Title", "What it shows", &[bar(0.0, 1.0), bar(1.0, 3.0)]);
        for part in [
            "x=\"20.0\" y=\"86\" width=\"130.0\"",
            "x=\"150.0\" y=\"130\" width=\"390.0\"",
            "a &lt; b",
            "1 &amp; 2",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
