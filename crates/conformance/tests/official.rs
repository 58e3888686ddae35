//! Ethereum's official tests: a fixed sample of about one in twenty, and of one in ten on 32 bits. `l2-prover
//! conformance` runs all of them.
#![expect(clippy::print_stdout, reason = "how many tests were run is told with --no-capture")]

mod support;

use conformance::{NotTests, Options, run};

/// One test in this many is run. On 32 bits nothing else runs them.
const SAMPLE: u64 = if cfg!(target_pointer_width = "32") { 10 } else { 20 };

#[test]
fn a_spread_of_official_tests_passes() {
    let name = "eest-v5.4.0-blockchain_tests.tar.zst";
    let Some(archive) = support::archive(name, "about 1,000 official tests") else { return };
    let options = Options {
        network: None,
        filter: None,
        sample: SAMPLE,
        jobs: std::thread::available_parallelism().unwrap().get(),
        not_tests: NotTests::Refuse,
        second: None,
        progress: &|_| {},
    };
    let report = run(&[archive], &options).unwrap();
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    let total = report.total();
    println!("{} official tests with {} blocks passed", total.passed, total.blocks);
    assert!(total.passed > 20_000 / SAMPLE, "the spread has shrunk to {} tests", total.passed);
}
