//! The table: what is known of each file, and why it is sound.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, bail};

use super::{Found, Uses};

/// The placeholder for a reason that nobody has given yet.
const UNEXPLAINED: &str = "unexplained";

const HEAD: &str = "\
# What the guest does without a check, by crate and file: how often, and why that is sound.
# `cargo xtask unchecked` compares it with the sources; `--write` brings it up to date and leaves reasons to be given.
# A file without a reason of its own has its crate's. docs/soundness.md follows the numbers that a prover can choose.
# That no instruction of a crate is in the guest was seen in a build with names: docs/soundness.md, experiment 8.
";

/// By crate, as its name and version.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<String, Crate>);

#[derive(Debug, Default)]
struct Crate {
    /// The reason for files that have none of their own.
    reason: Option<String>,
    files: BTreeMap<String, Row>,
}

#[derive(Debug)]
struct Row {
    uses: Uses,
    reason: Option<String>,
}

impl Table {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let document: toml::Table = toml::from_str(text).context("it is not TOML")?;
        let mut table = Self::default();
        for (name, entry) in document {
            let entry = entry.as_table().with_context(|| format!("[{name:?}] is no table"))?;
            let mut parsed = Crate::default();
            for (key, value) in entry {
                match value {
                    toml::Value::String(reason) if key == "reason" => {
                        parsed.reason = Some(reason.clone());
                    }
                    toml::Value::Table(row) => {
                        let row = row_of(row).with_context(|| format!("{name}: {key}"))?;
                        parsed.files.insert(key.clone(), row);
                    }
                    _ => bail!("{name}: `{key}` is neither a reason nor a file"),
                }
            }
            table.0.insert(name, parsed);
        }
        Ok(table)
    }

    /// Every difference between `found` and the table, and every row that nobody has explained.
    pub(super) fn faults(&self, found: &Found) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, files) in found {
            let known = self.0.get(name);
            for (file, uses) in files {
                match known.and_then(|known| Some((known, known.files.get(file)?))) {
                    None => faults.push(format!("{name}: {file} has no row, but {}", listed(uses))),
                    Some((_, row)) if row.uses != *uses => faults.push(format!(
                        "{name}: {file} has {}, its row says {}",
                        listed(uses),
                        listed(&row.uses)
                    )),
                    Some((known, row)) => {
                        let reason = row.reason.as_ref().or(known.reason.as_ref());
                        if reason
                            .is_none_or(|reason| reason.trim().is_empty() || reason == UNEXPLAINED)
                        {
                            faults.push(format!("{name}: nobody has explained {file}"));
                        }
                    }
                }
            }
        }
        for (name, known) in &self.0 {
            for file in known.files.keys() {
                if !found.get(name).is_some_and(|files| files.contains_key(file)) {
                    faults.push(format!("{name}: {file} has a row, but no unchecked use"));
                }
            }
        }
        faults
    }

    /// The table for `found`. A file with the same uses as before, perhaps of another version of its crate, keeps its
    /// reason.
    pub(super) fn updated(&self, found: &Found) -> Self {
        let updated = found.iter().map(|(name, files)| {
            let before = self.before(name);
            let files = files.iter().map(|(file, uses)| {
                let row = before.and_then(|before| before.files.get(file));
                let reason = match row {
                    Some(row) if row.uses == *uses => row.reason.clone(),
                    _ => Some(UNEXPLAINED.to_owned()),
                };
                (file.clone(), Row { uses: uses.clone(), reason })
            });
            let reason = before.and_then(|before| before.reason.clone());
            (name.clone(), Crate { reason, files: files.collect() })
        });
        Self(updated.collect())
    }

    /// The crate with this name and version, or of another version if there is only one.
    fn before(&self, name: &str) -> Option<&Crate> {
        self.0.get(name).or_else(|| {
            let short = |name: &str| name.split(' ').next().map(str::to_owned);
            let mut others = self.0.iter().filter(|(other, _)| short(other) == short(name));
            others.next().filter(|_| others.next().is_none()).map(|(_, known)| known)
        })
    }
}

fn row_of(row: &toml::Table) -> anyhow::Result<Row> {
    let mut parsed = Row { uses: Uses::new(), reason: None };
    for (key, value) in row {
        match value {
            toml::Value::String(reason) if key == "reason" => parsed.reason = Some(reason.clone()),
            toml::Value::Integer(count) => {
                let count = usize::try_from(*count).context("a count is negative")?;
                parsed.uses.insert(key.clone(), count);
            }
            _ => bail!("`{key}` is neither a reason nor a count"),
        }
    }
    Ok(parsed)
}

fn listed(uses: &Uses) -> String {
    let uses: Vec<String> = uses.iter().map(|(name, count)| format!("{name} {count}")).collect();
    uses.join(", ")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        f.write_str(HEAD)?;
        for (name, known) in &self.0 {
            writeln!(f, "\n[{}]", quoted(name))?;
            if let Some(reason) = &known.reason {
                writeln!(f, "reason = {}", quoted(reason))?;
            }
            for (file, row) in &known.files {
                let mut parts: Vec<String> =
                    row.uses.iter().map(|(name, count)| format!("{name} = {count}")).collect();
                if let Some(reason) = &row.reason {
                    parts.push(format!("reason = {}", quoted(reason)));
                }
                writeln!(f, "{} = {{ {} }}", quoted(file), parts.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &[(&str, &str, &str, usize)]) -> Found {
        let mut found = Found::new();
        for (name, file, operation, count) in rows {
            let files = found.entry((*name).to_owned()).or_default();
            files.entry((*file).to_owned()).or_default().insert((*operation).to_owned(), *count);
        }
        found
    }

    const TABLE: &str = "
        ['a 1.0.0']
        reason = 'lengths are constants'
        'src/lib.rs' = { set_len = 2 }
        'src/x.rs' = { transmute = 1, reason = 'the same layout' }
    ";
    const ROWS: [(&str, &str, &str, usize); 2] =
        [("a 1.0.0", "src/lib.rs", "set_len", 2), ("a 1.0.0", "src/x.rs", "transmute", 1)];

    fn faults(rows: &[(&str, &str, &str, usize)]) -> Vec<String> {
        Table::parse(TABLE).unwrap().faults(&found(rows))
    }

    #[test]
    fn what_is_as_it_was_passes() {
        assert_eq!(faults(&ROWS), Vec::<String>::new());
    }

    #[test]
    fn a_use_more_a_new_file_and_a_use_that_is_gone_are_faults() {
        let mut rows = ROWS.to_vec();
        rows[0].3 = 3;
        assert_eq!(faults(&rows), ["a 1.0.0: src/lib.rs has set_len 3, its row says set_len 2"]);
        let mut rows = ROWS.to_vec();
        rows.push(("b 0.1.0", "src/lib.rs", "set_len", 1));
        assert_eq!(faults(&rows), ["b 0.1.0: src/lib.rs has no row, but set_len 1"]);
        assert_eq!(faults(&ROWS[..1]), ["a 1.0.0: src/x.rs has a row, but no unchecked use"]);
    }

    #[test]
    fn an_update_keeps_the_reasons_of_what_is_as_it_was_and_asks_for_the_others() {
        let rows = [
            ("a 1.0.1", "src/lib.rs", "set_len", 2),
            ("a 1.0.1", "src/x.rs", "transmute", 2),
            ("a 1.0.1", "src/y.rs", "set_len", 1),
        ];
        let updated = Table::parse(TABLE).unwrap().updated(&found(&rows));
        let again = Table::parse(&updated.to_string()).unwrap();
        assert_eq!(
            again.faults(&found(&rows)),
            ["a 1.0.1: nobody has explained src/x.rs", "a 1.0.1: nobody has explained src/y.rs"]
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let table = Table::parse(TABLE).unwrap();
        assert_eq!(Table::parse(&table.to_string()).unwrap().to_string(), table.to_string());
        assert!(Table::parse("['a 1.0.0']\n'src/lib.rs' = 'no row'").is_err());
        assert!(Table::parse("['a 1.0.0']\n'src/lib.rs' = { set_len = -1 }").is_err());
    }
}
