//! Scenarios that the executable specification made and judged: a fixed set of those that `make scenarios` makes by
//! the thousand. docs/conformance.md says what each family is.

use conformance::{NotTests, Options, run};
use expect_test::expect;
use std::{fmt::Write as _, path::PathBuf};

/// What `scripts/scenarios/families` names.
const FAMILIES: [&str; 10] = [
    "collisions",
    "delegations",
    "deposits",
    "fees",
    "headers",
    "lifecycles",
    "system_contracts",
    "transactions",
    "tries",
    "withdrawals",
];

#[test]
fn every_scenario_of_the_fixed_set_ends_as_the_specification_says() {
    let archive = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios.tar.zst");
    let mut counts = String::new();
    let mut failures = Vec::new();
    for family in FAMILIES {
        let report = run(
            std::slice::from_ref(&archive),
            &Options {
                network: None,
                filter: Some(&format!("{family}/")),
                sample: 1,
                jobs: std::thread::available_parallelism().unwrap().get(),
                not_tests: NotTests::Refuse,
                second: None,
                progress: &|_| {},
            },
        )
        .unwrap();
        let total = report.total();
        writeln!(counts, "{family}: {} scenarios, {} blocks", total.passed, total.blocks).unwrap();
        failures.extend(report.failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
    expect![[r#"
        collisions: 92 scenarios, 208 blocks
        delegations: 99 scenarios, 196 blocks
        deposits: 41 scenarios, 79 blocks
        fees: 43 scenarios, 86 blocks
        headers: 81 scenarios, 257 blocks
        lifecycles: 208 scenarios, 574 blocks
        system_contracts: 83 scenarios, 180 blocks
        transactions: 122 scenarios, 248 blocks
        tries: 44 scenarios, 119 blocks
        withdrawals: 44 scenarios, 92 blocks
    "#]]
    .assert_eq(&counts);
}
