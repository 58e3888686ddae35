//! Ethereum's official blockchain tests (execution-spec-tests), run the way a proof is made.
//!
//! For each test the pre-state trie is built, our witness builder records what the executor touches, and the program
//! runs on that witness alone: block after block, and once more as one batch where valid blocks are consecutive.
//!
//! * A valid block must reach the test's hash, which commits to state, receipts and everything else.
//! * An invalid block must be refused, for the reason that the test names ([`expect`]).
//! * Nothing is skipped except forks before the merge and forks that the program does not have, and those are
//!   counted.
//!
//! [`extremes`] has inputs of our own: what a hostile prover would try.
#![expect(
    clippy::result_large_err,
    reason = "a test takes milliseconds, and its failure is told once"
)]

mod check;
pub mod expect;
pub mod extremes;
pub mod fixture;
mod report;
pub mod source;

pub use check::{Failure, SecondRun, check};
pub use fixture::{Fixture, Fork, Network};
pub use report::{Counts, Failed, NoTests, Report};
pub use source::SourceError;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

/// Which tests are run, and how.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds functions")]
pub struct Options<'a> {
    /// Only tests of this network, as the fixtures name it.
    pub network: Option<&'a str>,
    /// Only tests whose name contains this.
    pub filter: Option<&'a str>,
    /// About one test in this many, chosen by the hash of its name, so that the choice is always the same.
    pub sample: u64,
    /// Number of threads.
    pub jobs: usize,
    /// What to do about a file that holds no tests.
    pub not_tests: NotTests,
    /// Runs each input a second time elsewhere, which must give the same result.
    pub second: Option<&'a SecondRun<'a>>,
    /// Called after each file with the number of its tests.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What to do about a file that holds no tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotTests {
    /// The run ends with an error that names it.
    #[default]
    Refuse,
    /// It is skipped, counted and named in the report.
    Skip,
}

/// Runs the tests in `paths`: folders, `.json` files and `.tar` archives, also compressed with zstd.
///
/// # Errors
/// [`SourceError`] if a path cannot be read, or holds something that is not a test and is not to be skipped. A failed
/// test is not an error.
pub fn run(paths: &[PathBuf], options: &Options<'_>) -> Result<Report, SourceError> {
    let jobs = options.jobs.max(1);
    // Bounded, so that an archive of any size takes constant memory.
    let (sender, receiver) = mpsc::sync_channel::<source::File>(2 * jobs);
    let receiver = Mutex::new(receiver);
    let next = || receiver.lock().expect("no thread panics with the lock").recv().ok();
    // After an error the files that wait are taken and dropped, so that nobody waits for room for the next one.
    let ended = AtomicBool::new(false);
    let work = || {
        let mut outcome = Ok(Report::default());
        while let Some(file) = next() {
            let Ok(report) = &mut outcome else { continue };
            if ended.load(Ordering::Relaxed) {
                continue;
            }
            match run_file(&file, options, report) {
                Ok(tests) => (options.progress)(tests),
                Err(SourceError::Malformed { path, source })
                    if options.not_tests == NotTests::Skip =>
                {
                    report.not_tests(path, &source);
                }
                Err(error) => {
                    ended.store(true, Ordering::Relaxed);
                    outcome = Err(error);
                }
            }
        }
        outcome
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let read = source::read(paths, &mut |file| {
            !ended.load(Ordering::Relaxed) && sender.send(file).is_ok()
        });
        drop(sender);
        let mut whole = Report::default();
        let mut outcome = Ok(());
        for worker in workers {
            match worker.join().expect("tests are caught when they panic") {
                Ok(report) => whole.merge(report),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.and(read).map(|()| whole)
    })
}

fn run_file(
    file: &source::File,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<u64, SourceError> {
    let fixtures = fixture::parse(file)?;
    let tests = fixtures.len() as u64;
    for (name, fixture) in fixtures {
        let chosen = options.network.is_none_or(|network| network == fixture.network)
            && options.filter.is_none_or(|part| name.contains(part))
            && is_in_sample(&name, options.sample);
        if !chosen {
            continue;
        }
        let network = match Network::parse(&fixture.network) {
            Ok(network) => network,
            Err(fixture::NotRun::Unknown) => {
                let reason = format!("unknown network {}", fixture.network);
                report.failed(&fixture.network, name, reason);
                continue;
            }
            Err(reason) => {
                report.skipped(&fixture.network, reason);
                continue;
            }
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&fixture, network, options.second)));
        match outcome {
            Ok(Ok(blocks)) => report.passed(&fixture.network, blocks),
            Ok(Err(failure)) => report.failed(&fixture.network, name, failure.to_string()),
            Err(_) => report.failed(&fixture.network, name, "panicked".into()),
        }
    }
    Ok(tests)
}

/// Whether a test belongs to the fixed sample of about one in `sample`.
fn is_in_sample(name: &str, sample: u64) -> bool {
    let hash = alloy_primitives::keccak256(name);
    let mut word = [0; 8];
    word.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(word).is_multiple_of(sample.max(1))
}
