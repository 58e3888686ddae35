//! The executable's side.

use super::messages::{Assignment, Hello, Identity, Message, Outcome, PROTOCOL, VERSION, Work};
use crate::{
    exec::panic_text,
    journal, memory,
    prover::{BoxError, Cancel, ProveError, Prover},
};
use protocol::ArtifactRef;
use rustix::process::{Pid, Signal};
use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

/// Says on stdout who this is, reads an assignment from stdin, does it with the prover that `build` makes, and reports on stdout.
/// `name` is the executable's. To be called early, by a process that prints nothing else on stdout. Blocks.
///
/// # Errors
/// If the parent cannot be understood or is gone. Failures of the prover are reported to the parent, not returned.
pub fn serve(
    name: &str,
    build: impl FnOnce() -> Result<Arc<dyn Prover>, BoxError>,
) -> io::Result<()> {
    let hello = Hello { protocol: PROTOCOL, name: name.into(), version: VERSION.into() };
    say(&Message::Hello(hello))?;
    let mut line = String::new();
    if BufReader::new(io::stdin()).read_line(&mut line)? == 0 {
        // The parent has no work for a program of this version, and says so itself.
        return Ok(());
    }
    let assignment: Assignment = serde_json::from_str(&line)?;
    if assignment.protocol != PROTOCOL {
        let theirs = assignment.protocol;
        return Err(io::Error::other(format!(
            "{name} {VERSION} speaks version {PROTOCOL} of the prover protocol, its parent version {theirs}"
        )));
    }
    // ORDER: ask to die with the parent, then look whether it was there to hear it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if Pid::as_raw(rustix::process::getppid()).cast_unsigned() != assignment.parent {
        return Err(io::Error::other("the process that asked for a proof is gone"));
    }
    // The client's heartbeats come first, and if memory runs out the kernel shall choose this process. Both are wishes.
    let _nicer = rustix::process::nice(5);
    let _first_to_go = fs::write("/proc/self/oom_score_adj", "500");

    let last = match build().map_err(ProveError::Unavailable).and_then(|prover| {
        let work = AssertUnwindSafe(|| perform(&*prover, &assignment.work));
        catch_unwind(work)
            .unwrap_or_else(|panic| Err(ProveError::Failed(panic_text(&*panic).into())))
    }) {
        Ok(result) => Message::Done { result, peak_memory_bytes: memory::peak() },
        Err(error) => Message::Failed { class: error.class(), detail: error.detail() },
    };
    say(&last)
}

fn perform(prover: &dyn Prover, work: &Work) -> Result<Outcome, ProveError> {
    let read = |path: &Path| fs::read(path).map_err(ProveError::unavailable);
    // A parent that does not listen any more is about to end us.
    let progress = |step| drop(say(&Message::Progress(step)));
    match work {
        Work::Identify => Ok(Outcome::Identity(Identity::of(prover))),
        Work::Prove { input, kind, proof } => {
            let bytes = prover.prove_file(input, *kind, &Cancel::new(), &progress)?;
            Ok(Outcome::Proof(write(proof, &bytes)?))
        }
        Work::Execute { input, public_values } => {
            let execution = prover.execute(&read(input)?)?;
            let public_values = write(public_values, &execution.public_values)?;
            Ok(Outcome::Executed { public_values, cycles: execution.cycles })
        }
        Work::Measure { input, public_values, program, profile } => {
            let measurement =
                prover.measure(&read(input)?, program.as_deref(), profile.as_deref())?;
            let public_values = write(public_values, &measurement.public_values)?;
            Ok(Outcome::Measured { public_values, measurement })
        }
        Work::Plan { input, segment_po2, plan } => {
            let bytes = prover.plan(input, *segment_po2)?;
            Ok(Outcome::Planned(write(plan, &bytes)?))
        }
        Work::ProvePart { input, part, proof } => {
            let bytes = prover.prove_part(input, part, &Cancel::new(), &progress)?;
            Ok(Outcome::Proof(write(proof, &bytes)?))
        }
        Work::SelfTest => prover.self_test().map(|()| Outcome::Healthy),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<ArtifactRef, ProveError> {
    journal::write(path, bytes).map_err(|error| ProveError::Unavailable(error.into()))?;
    Ok(ArtifactRef::of(bytes))
}

fn say(message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}
