//! Fees: what a transaction offers, and what one that replaces it must.

use server::jobs::settlement::Fees;

/// Wei in a gwei.
pub const GWEI: u64 = 1_000_000_000;

/// What L1 asks for now, in wei for each gas. It is what an RPC says, which may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Market {
    /// The newest block's base fee.
    pub base_fee: u64,
    /// What is usual for a block's builder.
    pub tip: u64,
}

/// The most that is offered, in wei for each gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// All in all.
    pub max: u64,
    /// For the block's builder.
    pub priority: u64,
}

/// It takes more than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooHigh {
    /// What it takes.
    pub needed: Fees,
}

/// What to offer now. `replaces` is the most that was offered for the same nonce before.
///
/// There is room for the base fee to double: it grows by an eighth a block at most.
///
/// # Errors
/// [`TooHigh`] if less than what is needed now, or to replace what was offered, is allowed.
pub fn offer(market: Market, replaces: Option<Fees>, caps: Caps) -> Result<Fees, TooHigh> {
    let mut priority = market.tip.clamp(1, caps.priority.max(1));
    let mut lowest = market.base_fee.saturating_add(priority);
    let mut max = market.base_fee.saturating_mul(2).saturating_add(priority);
    if let Some(before) = replaces {
        priority = priority.max(raised(before.priority));
        lowest = lowest.max(raised(before.max));
        max = max.max(lowest);
    }
    if lowest > caps.max || priority > caps.priority {
        return Err(TooHigh { needed: Fees { max: lowest, priority } });
    }
    let max = max.min(caps.max);
    Ok(Fees { max, priority: priority.min(max) })
}

/// An eighth more, rounded up. Nodes take no replacement for less than a tenth more.
fn raised(fee: u64) -> u64 {
    fee.saturating_add(fee.div_ceil(8).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { max: 100 * GWEI, priority: 5 * GWEI };

    fn market(base_fee: u64, tip: u64) -> Market {
        Market { base_fee: base_fee * GWEI, tip: tip * GWEI }
    }

    fn fees(max: u64, priority: u64) -> Fees {
        Fees { max: max * GWEI, priority: priority * GWEI }
    }

    #[test]
    fn the_base_fee_may_double() {
        assert_eq!(offer(market(10, 2), None, CAPS), Ok(fees(22, 2)));
        assert_eq!(offer(market(60, 2), None, CAPS), Ok(fees(100, 2)), "as far as is allowed");
        assert_eq!(offer(market(0, 0), None, CAPS), Ok(Fees { max: 1, priority: 1 }));
    }

    #[test]
    fn no_more_than_allowed_is_offered_whatever_an_rpc_says() {
        for (base_fee, tip) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX), (7, u64::MAX)] {
            for replaces in [None, Some(fees(80, 1)), Some(Fees { max: u64::MAX, priority: 1 })] {
                if let Ok(fees) = offer(Market { base_fee, tip }, replaces, CAPS) {
                    assert!(fees.max <= CAPS.max && fees.priority <= CAPS.priority, "{fees:?}");
                }
            }
        }
        let dear = offer(market(99, 2), None, CAPS).unwrap_err();
        assert_eq!(dear.needed, fees(101, 2));
    }

    #[test]
    fn a_replacement_offers_an_eighth_more_of_both_or_there_is_none() {
        let mut before = offer(market(10, 1), None, CAPS).unwrap();
        let mut times = 0;
        while let Ok(after) = offer(market(10, 1), Some(before), CAPS) {
            // What geth asks for, and anvil and reth too.
            assert!(
                after.max * 10 >= before.max * 11 && after.priority * 10 >= before.priority * 11
            );
            assert!(after.max <= CAPS.max && after.priority <= CAPS.priority);
            (before, times) = (after, times + 1);
        }
        assert_eq!(times, 13, "the first of both caps ends it");
    }
}
