//! How long a proof will still take, from how long its parts took so far.
//!
//! A segment and a step after the segments (a lift, a join, a batch of keccak permutations) take different times, so
//! what is done is not the share of parts that are done. What is known beforehand is how many cycles there are, and that a step costs
//! about as much as proving [`STEP_CYCLES`] cycles; how fast the machine is shows while it works.

use std::time::Duration;

use client::Progress;
use protocol::ProofKind;

/// A step after the segments takes as long as proving so many cycles: on one core, a lift or a join took 91 s and a segment of 2^18
/// cycles 237 s.
const STEP_CYCLES: f64 = 262_144.0 * 91.0 / 237.0;

/// The work of one proof: all of it, and what is done. In cycles, or what takes as long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Work {
    segments: u64,
    cycles: u64,
    steps: u64,
    done: f64,
}

impl Work {
    /// Takes in how far the prover is. Returns whether something was finished.
    pub(crate) fn learn(&mut self, progress: Progress, kind: ProofKind) -> bool {
        let before = self.done;
        match progress {
            Progress::Executed { segments, total_cycles, later_steps, .. } => {
                let joins = match kind {
                    ProofKind::Part | ProofKind::Composite | ProofKind::Groth16 => 0,
                    ProofKind::Succinct | ProofKind::Aggregate => (2 * segments).saturating_sub(1),
                };
                (self.segments, self.cycles) = (segments, total_cycles);
                self.steps = later_steps.unwrap_or(joins);
            }
            Progress::Segment { done, total } => {
                self.segments = total;
                self.done = self.cycles_of(done);
            }
            Progress::Joining { done, total } => {
                self.steps = total;
                self.done = self.cycles_of(self.segments) + STEP_CYCLES * exact(done);
            }
            _ => {}
        }
        self.done > before
    }

    /// Cycles of the first `segments` segments: all are full but the last one.
    fn cycles_of(&self, segments: u64) -> f64 {
        if segments >= self.segments {
            return exact(self.cycles);
        }
        let full = self.cycles.div_ceil(self.segments).next_power_of_two();
        exact(full.saturating_mul(segments).min(self.cycles))
    }

    /// The share that is done, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        let all = exact(self.cycles) + STEP_CYCLES * exact(self.steps);
        if all > 0.0 { (self.done / all).min(1.0) } else { 0.0 }
    }

    /// The time left, if what is done took `took`; `None` while nothing is done.
    pub(crate) fn left(&self, took: Duration) -> Option<Duration> {
        let share = self.share();
        (share > 0.0).then(|| took.mul_f64((1.0 - share) / share))
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn exact(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a proof takes on a machine of its own speed: as measured, and the estimate after each part.
    fn worst_error(segments: &[u32], batches: u64, speed: f64, kind: ProofKind) -> f64 {
        // Measured on one core, in seconds: segments of 2^16 and 2^18, lifts and joins, and a batch of keccak permutations.
        let segment = |po2: u32| 57.0 * (237.0_f64 / 57.0).powf((f64::from(po2) - 16.0) / 2.0);
        let count = segments.len() as u64;
        let joins = if kind == ProofKind::Succinct { 2 * count - 1 } else { 0 };
        let assumptions = if kind == ProofKind::Succinct { batches.min(1) } else { 0 };
        let later = (2 * batches).saturating_sub(1) + joins + assumptions;
        let mut parts: Vec<(Progress, f64)> = Vec::new();
        for (po2, done) in segments.iter().zip(1..) {
            parts.push((Progress::Segment { done, total: count }, segment(*po2) * speed));
        }
        for done in 1..=later {
            parts.push((Progress::Joining { done, total: later }, 91.0 * speed));
        }
        let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let total_cycles = segments.iter().map(|po2| 1 << po2).sum();
        let executed = Progress::Executed {
            segments: count,
            user_cycles: 1,
            total_cycles,
            later_steps: Some(later),
        };
        let (mut work, mut took, mut worst) = (Work::default(), 0.0, 0.0_f64);
        work.learn(executed, kind);
        assert_eq!(work.left(Duration::from_secs(1)), None);
        for (progress, seconds) in parts {
            took += seconds;
            assert!(work.learn(progress, kind));
            let left =
                work.left(Duration::from_secs_f64(took)).expect("something is done").as_secs_f64();
            let really = all - took;
            if took > all / 10.0 && really > all / 100.0 {
                worst = worst.max((left - really).abs() / really);
            }
        }
        assert!((work.share() - 1.0).abs() < 1e-9);
        worst
    }

    #[test]
    fn the_time_left_is_right_within_a_fifth_after_a_tenth_of_the_way() {
        let mut last_smaller = vec![20; 12];
        last_smaller.push(17);
        let shapes: [(&[u32], u64); 5] = [
            (&[18, 18, 16], 1),
            (&[16, 16], 0),
            (&last_smaller, 3),
            (&[20; 182], 40),
            (&[19; 5], 1),
        ];
        for (segments, batches) in shapes {
            for kind in [ProofKind::Composite, ProofKind::Succinct] {
                let slow = worst_error(segments, batches, 1.0, kind);
                let fast = worst_error(segments, batches, 0.01, kind);
                assert!(slow < 0.2 && fast < 0.2, "{segments:?}, {kind}: {slow}, {fast}");
            }
        }
    }

    #[test]
    fn a_prover_that_does_not_say_its_steps_is_believed_when_it_does() {
        let mut work = Work::default();
        let executed = Progress::Executed {
            segments: 2,
            user_cycles: 1,
            total_cycles: 1 << 19,
            later_steps: None,
        };
        work.learn(executed, ProofKind::Succinct);
        work.learn(Progress::Segment { done: 2, total: 2 }, ProofKind::Succinct);
        let before = work.share();
        assert!((0.6..0.7).contains(&before), "{before}");
        assert!(!work.learn(Progress::Joining { done: 0, total: 9 }, ProofKind::Succinct));
        assert!(work.share() < before);
        assert!(!work.learn(Progress::Compressing, ProofKind::Succinct));
    }
}
