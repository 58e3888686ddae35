//! Turns a succinct proof into a Groth16 proof of 256 bytes, which contracts verify.
//!
//! RISC Zero's own prover for that runs in a container, because it needs a proving key of gigabytes: this needs Docker and the image
//! [`IMAGE`]. Nothing is downloaded while a job is at hand: a client without both makes no such proofs, and [`ready`] says what it lacks.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use client::{Cancel, Progress, ProveError};
use risc0_zkvm::{InnerReceipt, ProverOpts, get_prover_server};
use verifier::{System, VerifyError, bundle};

use crate::Config;

/// The container image with RISC Zero's Groth16 prover and its proving key, as risc0-groth16 3.0.6-rc.1 names it.
pub const IMAGE: &str = "risczero/risc0-groth16-prover:v2025-04-03.1";

/// How long Docker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is missing on this machine for Groth16 proofs. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// The container's prover runs on x86 alone.
    #[error(
        "RISC Zero's Groth16 prover runs on x86_64 alone, and this machine is {0}: use another one for this step"
    )]
    Architecture(&'static str),
    /// There is no Docker, or it does not answer.
    #[error(
        "docker does not work here ({0}): install Docker, start its daemon, and let this user use it"
    )]
    Docker(String),
    /// The image is not there.
    #[error(
        "the image {IMAGE} is missing: `docker pull {IMAGE}`, or `docker save {IMAGE}` on a machine with internet and `docker load` here"
    )]
    Image,
}

/// Whether this machine can make Groth16 proofs. Asks Docker; blocks for a moment.
///
/// # Errors
/// [`Missing`] names what it lacks.
pub fn ready() -> Result<(), Missing> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Missing::Architecture(std::env::consts::ARCH));
    }
    if !docker("docker", &["version"])? {
        return Err(Missing::Docker("`docker version` fails".to_owned()));
    }
    match docker("docker", &["image", "inspect", IMAGE])? {
        true => Ok(()),
        false => Err(Missing::Image),
    }
}

/// Whether a command of Docker succeeds. What it prints is not looked at.
fn docker(program: &str, arguments: &[&str]) -> Result<bool, Missing> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Missing::Docker("it is not installed".to_owned()),
        _ => Missing::Docker(error.to_string()),
    })?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(Missing::Docker(error.to_string())),
        }
    }
    let _gone = child.kill().and_then(|()| child.wait());
    Err(Missing::Docker(format!("no answer within {} s", PATIENCE.as_secs())))
}

/// Makes a Groth16 proof of the one succinct proof in a bundle, which is of either of the pinned programs.
pub(crate) fn prove(
    config: Config,
    bundle: &[u8],
    cancel: &Cancel,
    progress: &dyn Fn(Progress),
) -> Result<Vec<u8>, ProveError> {
    let members = bundle::decode(bundle).map_err(refused)?;
    let [member] = members[..] else {
        let text = format!("a Groth16 proof is made of one proof, not of {}", members.len());
        return Err(ProveError::BadInput(text));
    };
    let verified = verifier::verify_pinned(System::Risc0, member.proof, &config.policy());
    let (program_id, verified) = verified.map_err(refused)?;
    let values = verified.public_values;
    if values != member.public_values {
        let text = "the proof is of another statement than the bundle says";
        return Err(ProveError::BadInput(text.to_owned()));
    }
    // A mocked proof has no shape that could be changed.
    if config.dev_mode {
        return Ok(member.proof.to_vec());
    }
    ready().map_err(|missing| ProveError::Unavailable(missing.into()))?;
    progress(Progress::Compressing);
    let receipt = verifier::risc0::receipt(program_id, member.proof).map_err(refused)?;
    let failed = |error: anyhow::Error| ProveError::Failed(error.into());
    let server = get_prover_server(&ProverOpts::groth16().with_dev_mode(false)).map_err(failed)?;
    let succinct =
        receipt.inner.succinct().map_err(|error| ProveError::Failed(error.into()))?.clone();
    cancel.check()?;
    let groth16 = server.succinct_to_groth16(&succinct).map_err(failed)?;
    config.finished(program_id, InnerReceipt::Groth16(groth16), values)
}

fn refused(error: VerifyError) -> ProveError {
    ProveError::BadInput(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_that_is_missing_fails_or_hangs_is_named() {
        assert_eq!(docker("true", &[]), Ok(true));
        assert_eq!(docker("false", &[]), Ok(false));
        let missing = docker("no-such-docker", &[]).expect_err("it is not there").to_string();
        assert!(missing.contains("it is not installed"), "{missing}");
        let hangs = docker("sleep", &["60"]).expect_err("it hangs").to_string();
        assert!(hangs.contains("no answer within 5 s"), "{hangs}");
    }
}
