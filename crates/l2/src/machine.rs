//! What this machine is: how much memory a prover may use, and which GPUs.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use protocol::Gpu;
use sysinfo::{CGroupLimits, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::args::EngineArgs;

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

/// A card that a prover works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// The card.
    pub card: Card,
    /// So many provers share it.
    pub provers: u32,
}

impl Device {
    /// The device of the prover with this number, counted from 1, of so many: the cards are dealt out in turn.
    pub(crate) fn of(cards: &[Card], number: u32, provers: u32) -> Option<Self> {
        let count = u32::try_from(cards.len()).ok().filter(|count| *count > 0)?;
        let index = number.saturating_sub(1) % count;
        let card = cards.get(index as usize)?.clone();
        // Those before this one in the circle, and one more if the last round came so far.
        let sharing = provers / count + u32::from(index < provers % count);
        Some(Self { card, provers: sharing.max(1) })
    }

    /// What a process has to have in its environment to use this card alone. CUDA counts cards by their speed, unless it is told
    /// to count as the driver does.
    pub(crate) fn environment(&self) -> [(OsString, OsString); 2] {
        let index = self.card.index.to_string();
        [("CUDA_DEVICE_ORDER".into(), "PCI_BUS_ID".into()), (VISIBLE.into(), index.into())]
    }

    /// The card's memory for one prover, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.card.gpu.memory_bytes / u64::from(self.provers)
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

/// The GPUs of NVIDIA that this process may use, as the driver's `nvidia-smi` says. None without it, and none if an engine on other
/// machines proves.
pub(crate) async fn cards_beside(engine: &EngineArgs) -> Vec<Card> {
    if engine.engine.is_some() {
        return Vec::new();
    }
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
    fn cards_are_dealt_out_in_turn() {
        let cards = parse(ANSWER);
        let devices = |provers| {
            let device = |number| Device::of(&cards, number, provers).expect("there are cards");
            (1..=provers)
                .map(|number| (device(number).card.index, device(number).provers))
                .collect::<Vec<_>>()
        };
        assert_eq!(devices(1), [(0, 1)]);
        assert_eq!(devices(2), [(0, 1), (1, 1)]);
        assert_eq!(devices(5), [(0, 3), (1, 2), (0, 3), (1, 2), (0, 3)]);
        assert_eq!(Device::of(&[], 1, 1), None);
        let second = Device::of(&cards, 2, 5).expect("there are cards");
        assert_eq!(second.memory(), (143_771 << 20) / 2);
        let environment = second
            .environment()
            .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        assert_eq!(environment, ["CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=1"]);
    }

    #[test]
    fn some_memory_can_be_used() {
        assert!(usable_memory() > Some(1 << 20));
    }
}
