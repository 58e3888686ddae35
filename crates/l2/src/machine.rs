//! What this machine is: how much memory a prover may use, and which GPUs.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use protocol::Gpu;
use sysinfo::{CGroupLimits, ProcessRefreshKind, ProcessesToUpdate, System};

/// The list of devices that CUDA may use, by which an operator chooses.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// A driver that does not answer for so long has no GPU that proves.
const DRIVER: Duration = Duration::from_secs(10);

/// A GPU of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// Its number in the order of the bus, as `nvidia-smi` counts.
    pub index: u32,
    /// Its id, which stays the same wherever it is plugged in.
    pub uuid: String,
    /// Its name and memory.
    pub gpu: Gpu,
}

impl Card {
    /// What a process has to have in its environment to use this card alone. CUDA counts cards by their speed, unless it is told
    /// to count as the driver does.
    pub(crate) fn environment(&self) -> [(OsString, OsString); 2] {
        [("CUDA_DEVICE_ORDER".into(), "PCI_BUS_ID".into()), (VISIBLE.into(), self.index.to_string().into())]
    }
}

/// The memory that this process may use, in bytes: the machine's, or less in a container or a service with a limit.
pub(crate) fn usable_memory() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let limit = |limits: Option<CGroupLimits>| limits.map(|limits| limits.total_memory);
    let mut memory = vec![Some(system.total_memory()), limit(system.cgroup_limits())];
    if let Ok(pid) = sysinfo::get_current_pid() {
        let (ours, only) = ([pid], ProcessRefreshKind::nothing());
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&ours), true, only);
        memory.push(system.process(pid).and_then(|process| limit(process.cgroup_limits())));
    }
    memory.into_iter().flatten().filter(|bytes| *bytes > 0).min()
}

/// The GPUs of NVIDIA that this process may use, as the driver's `nvidia-smi` says. None without it.
pub(crate) async fn cards() -> Vec<Card> {
    let ask = tokio::process::Command::new("nvidia-smi")
        .args(["--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(Ok(answer)) = tokio::time::timeout(DRIVER, ask).await else { return Vec::new() };
    if !answer.status.success() {
        return Vec::new();
    }
    let all = parse(&String::from_utf8_lossy(&answer.stdout));
    visible(all, std::env::var(VISIBLE).ok().as_deref())
}

/// Reads lines as `0, GPU-8a3b…, NVIDIA L4, 23034`. What is no such line is left out, as a card whose memory the driver cannot tell.
fn parse(text: &str) -> Vec<Card> {
    let card = |line: &str| {
        let (index, rest) = line.split_once(',')?;
        let (uuid, rest) = rest.split_once(',')?;
        let (name, mebibytes) = rest.rsplit_once(',')?;
        let memory_bytes = mebibytes.trim().parse::<u64>().ok()?.checked_mul(1 << 20)?;
        let gpu = Gpu { name: name.trim().to_owned(), memory_bytes };
        Some(Card { index: index.trim().parse().ok()?, uuid: uuid.trim().to_owned(), gpu })
    };
    text.lines().filter_map(card).collect()
}

/// The cards that [`VISIBLE`] names, in its order: by number, or by the beginning of an id. As in CUDA, the first name of none ends
/// the list.
fn visible(all: Vec<Card>, named: Option<&str>) -> Vec<Card> {
    let Some(named) = named else { return all };
    let find = |name: &str| match name.parse::<u32>() {
        Ok(index) => all.iter().find(|card| card.index == index).cloned(),
        Err(_) if name.starts_with("GPU-") => {
            all.iter().find(|card| card.uuid.starts_with(name)).cloned()
        }
        Err(_) => None,
    };
    named.split(',').map(|name| find(name.trim())).take_while(Option::is_some).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `nvidia-smi` answers on a machine with three cards, the last of which has fallen off the bus.
    const ANSWER: &str = "\
0, GPU-8a3bd7f2-1f1c-4c5d-9d0a-0c1f7b6a2e11, NVIDIA L4, 23034
1, GPU-5512c0aa-93ee-4b7e-8f1e-6d1f0a2b3c4d, NVIDIA H200, 143771
2, GPU-00000000-0000-0000-0000-000000000000, [Unknown Error], [Unknown Error]
";

    fn names(cards: &[Card]) -> Vec<(u32, &str, u64)> {
        cards
            .iter()
            .map(|card| (card.index, &*card.gpu.name, card.gpu.memory_bytes >> 30))
            .collect()
    }

    #[test]
    fn the_drivers_answer_is_read() {
        let (l4, h200) = ((0, "NVIDIA L4", 22), (1, "NVIDIA H200", 140));
        assert_eq!(names(&parse(ANSWER)), [l4, h200]);
        assert_eq!(parse("No devices were found\n"), []);
        for (named, expected) in [
            (None, &[l4, h200][..]),
            (Some("1,0"), &[h200, l4]),
            (Some(" GPU-5512 "), &[h200]),
            (Some("1,7,0"), &[h200]),
            (Some("-1"), &[]),
            (Some("MIG-5512c0aa"), &[]),
            (Some(""), &[]),
        ] {
            assert_eq!(names(&visible(parse(ANSWER), named)), expected, "{named:?}");
        }
    }

    #[test]
    fn some_memory_can_be_used() {
        assert!(usable_memory() > Some(1 << 20));
    }
}
