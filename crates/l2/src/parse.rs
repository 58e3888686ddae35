//! Values of flags.

use std::time::Duration;

/// Consecutive blocks, both ends included. Invariant: `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRange {
    first: u64,
    last: u64,
}

impl BlockRange {
    /// The first block.
    pub(crate) fn first(self) -> u64 {
        self.first
    }

    /// The last block, itself included.
    pub(crate) fn last(self) -> u64 {
        self.last
    }
}

/// `7` or `7..9`.
pub(crate) fn block_range(text: &str) -> Result<BlockRange, String> {
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| format!("`{text}` is no block number; write `7` or `7..9`"))
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first == 0 {
        return Err("block 0 is the genesis: nothing was executed in it".to_owned());
    }
    if first > last {
        return Err(format!("the first block {first} comes after the last block {last}"));
    }
    Ok(BlockRange { first, last })
}

/// `latest`, `safe`, `finalized`, or a number of blocks.
pub(crate) fn depth(text: &str) -> Result<witness::Depth, String> {
    match text {
        "latest" => Ok(witness::Depth::Latest),
        "safe" => Ok(witness::Depth::Safe),
        "finalized" => Ok(witness::Depth::Finalized),
        number => number.parse().map(witness::Depth::Behind).map_err(|_| {
            format!("`{text}` is no depth; write latest, safe, finalized, or a number of blocks")
        }),
    }
}

/// `500ms`, `2s`, `5m` or `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write for example 500ms, 2s, 5m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// A [`duration`] that is not zero.
pub(crate) fn duration_above_zero(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than zero".to_owned()),
        time => Ok(time),
    }
}

/// How long something is good; none is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime(pub Option<Duration>);

/// A [`duration_above_zero`], `90d` or `never`.
pub(crate) fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" {
        return Ok(Lifetime(None));
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match days.filter(|days| (1..=36_500).contains(days)) {
        Some(days) => Ok(Lifetime(Some(Duration::from_secs(days * 86_400)))),
        None => duration_above_zero(text).map(|time| Lifetime(Some(time))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_may_be_days_or_endless() {
        assert_eq!(lifetime("never"), Ok(Lifetime(None)));
        for (text, hours) in [("90d", 2_160), ("12h", 12)] {
            assert_eq!(lifetime(text), Ok(Lifetime(Some(Duration::from_secs(hours * 3_600)))));
        }
        for wrong in ["", "0d", "0s", "d", "-1d", "999999999d", "forever"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in
            ["", "2", "s", "2 s", "-1s", "1d", "99999999999999999999s", "9999999999999999999h"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration_above_zero("0s").is_err());
    }

    #[test]
    fn depths_have_names_or_numbers() {
        use witness::Depth;
        assert_eq!(depth("latest"), Ok(Depth::Latest));
        assert_eq!(depth("safe"), Ok(Depth::Safe));
        assert_eq!(depth("finalized"), Ok(Depth::Finalized));
        assert_eq!(depth("12"), Ok(Depth::Behind(12)));
        assert!(depth("newest").is_err() && depth("-1").is_err() && depth("").is_err());
    }

    #[test]
    fn block_ranges_are_not_empty_and_leave_the_genesis_out() {
        assert_eq!(block_range("7"), Ok(BlockRange { first: 7, last: 7 }));
        assert_eq!(block_range("7..9"), Ok(BlockRange { first: 7, last: 9 }));
        for wrong in ["", "0", "0..3", "9..7", "7..", "..7", "7...9", "0x7"] {
            assert!(block_range(wrong).is_err(), "{wrong}");
        }
    }
}
