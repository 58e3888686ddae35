//! The outcomes of a hostile prover's inputs are the same on 64 bits and on 32 bits, with and without overflow
//! checks.
//!
//! `tests/extremes.txt` holds a line for each case ([`conformance::extremes`]). `UPDATE_EXPECT=1` writes it anew; a build
//! for 64 bits should do that, and `cargo xtask test32` compare.

use conformance::extremes::{self, Case};
use expect_test::expect_file;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn extreme_inputs_come_to_the_same_on_every_machine() {
    let file = expect_file!["extremes.txt"];
    let text = file.data();
    let expected: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(": ")).collect();
    let mut table = String::new();
    let mut others = Vec::new();
    let mut names = BTreeSet::new();
    for case in extremes::cases() {
        let line = case.line();
        // Counting, which happens before a job is enqueued, changes nothing.
        let counted = program::run_counted(&case.input).map(|(outcome, _)| outcome);
        assert_eq!(counted, program::run_detailed(&case.input), "{}", case.name);
        // The operands of a refused block would say nothing.
        assert_eq!(case.marks.text.len(), case.marks.tuples.len(), "{}", case.name);
        assert!(names.insert(case.name.clone()), "two cases are named {}", case.name);
        if let Some((_, found)) = line.split_once(": ")
            && let Some(expected) = expected.get(case.name.as_str())
            && found != *expected
        {
            others.push(format!("{}: {}", case.name, difference(&case, found, expected)));
        }
        table += &line;
        table.push('\n');
    }
    assert!(!table.contains(extremes::PANICKED), "the program panicked:\n{table}");
    if !others.is_empty() && std::env::var_os("UPDATE_EXPECT").is_none() {
        panic!("{} cases come to something else:\n{}", others.len(), others.join("\n"));
    }
    file.assert_eq(&table);
}

/// The operands whose results differ, or else the difference itself.
fn difference(case: &Case, found: &str, expected: &str) -> String {
    let marks = |text: &str| text.rsplit_once("; ").map(|(_, marks)| marks.to_owned());
    if let (Some(found), Some(expected)) = (marks(found), marks(expected))
        && found.len() == expected.len()
        && found != expected
    {
        let tuples = found.chars().zip(expected.chars()).zip(&case.marks.tuples);
        let others = tuples.filter(|((found, expected), _)| found != expected);
        let others: Vec<_> = others.map(|(_, tuple)| tuple.as_str()).take(10).collect();
        return format!("with operands {}", others.join(" | "));
    }
    format!("{found}\n    expected {expected}")
}
