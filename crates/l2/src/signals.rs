//! ctrl-c and SIGTERM.

use std::future::Future;
use std::io;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was interrupted twice.
const INTERRUPTED: i32 = 130;

/// A token that the first ctrl-c or SIGTERM cancels. A second one ends the process at once.
///
/// # Errors
/// If the signals cannot be handled.
pub(crate) fn shutdown() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancel = token.clone();
    // Lives as long as the process.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}

/// The result of `work`, which is dropped where it waits when the process is interrupted first.
///
/// # Errors
/// Those of `work`, or that it was interrupted.
pub(crate) async fn unless_interrupted<T>(
    shutdown: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => bail!("interrupted"),
        done = work => done,
    }
}

/// From now on ctrl-c and SIGTERM do nothing: another process decides when this one ends.
///
/// # Errors
/// If the signals cannot be handled.
pub(crate) fn ignore() -> io::Result<()> {
    // Listening once takes the default away for the rest of the process.
    let _interrupt = signal(SignalKind::interrupt())?;
    let _terminate = signal(SignalKind::terminate())?;
    Ok(())
}
