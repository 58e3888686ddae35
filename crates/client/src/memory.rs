//! Peak memory of this process, as Linux counts it: what commands report, and a prover executable tells its parent.

/// Starts a new peak, so that [`peak`] speaks of what comes next. Does nothing where Linux does not let us.
pub fn reset_peak() {
    // 5 resets VmHWM; see proc_pid_clear_refs(5). Without the permission the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The largest resident set in bytes, or `None` where there is no procfs.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_is_at_least_what_was_just_touched() {
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak().expect("procfs is there") >= 64 << 20);
        drop(touched);
    }
}
