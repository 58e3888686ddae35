//! A seeded simulation: servers, clients, an operator and an L2 node in one thread, with a virtual clock and everything that
//! goes wrong between them.
//!
//! A seed decides everything, so a failure is repeated with the command that it prints. After every step: nothing is lost, no
//! job is proved twice, nobody who lives loses its lease, the chain of batches has no gap and no fork. At the end, when the
//! faults have stopped: nothing is stuck.

mod clients;
mod engine;
mod faults;
mod history;
mod invariants;
mod node;
mod parts;
mod servers;
mod world;

use faults::{BAD, Faults};
use invariants::Counts;
use std::time::Instant;
use world::World;

/// Seeds of a usual run: through the model, and through the real store too.
const SEEDS: (u64, u64) = (1_500, 30);

/// Runs `seeds` one after the other, and says of the first that fails how to repeat it.
#[expect(clippy::print_stdout, reason = "what `make simulate` prints")]
fn run(name: &str, seeds: impl Iterator<Item = u64>, with_real: bool) {
    let (begun, mut totals) = (Instant::now(), Counts::default());
    let mut runs = 0;
    for seed in seeds {
        let one = std::panic::AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(World::run(seed, with_real))
        });
        match std::panic::catch_unwind(one) {
            Ok(counts) => totals += counts,
            Err(panic) => {
                println!(
                    "seed {seed} fails; repeat it: SEED={seed} cargo nextest run --no-capture -E 'test({name})'"
                );
                std::panic::resume_unwind(panic);
            }
        }
        runs += 1;
    }
    println!("{name}: {runs} seeds in {:.1} s, {totals}", begun.elapsed().as_secs_f32());
    if runs >= 1_000 {
        totals.assert_everything_happened();
    }
    assert!(!with_real || runs < SEEDS.1 || totals.of("migrations") > 0);
}

/// `SEED` alone, or `SEEDS` of them, or as many as usual.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(usual),
    }
}

#[test]
fn nothing_is_lost_doubled_or_stuck() {
    run("nothing_is_lost_doubled_or_stuck", seeds(SEEDS.0), false);
}

#[test]
fn nothing_is_lost_doubled_or_stuck_in_the_real_store() {
    let name = "nothing_is_lost_doubled_or_stuck_in_the_real_store";
    // The store takes hundreds of times as long as the model.
    run(name, seeds(SEEDS.1).take(500), true);
}

#[test]
fn one_poison_job_and_one_bad_client_leave_nine_tenths_of_the_throughput() {
    for seed in seeds(10).take(200) {
        let proved = |faults| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(World::throughput(seed, faults))
        };
        let undisturbed = proved(Faults::none());
        for bad in BAD {
            let disturbed = proved(Faults { bad: vec![bad], poison: 1, ..Faults::none() });
            assert!(
                disturbed * 10 >= undisturbed * 9,
                "seed {seed}: {disturbed} jobs instead of {undisturbed} with a client that is {bad:?}"
            );
        }
    }
}
