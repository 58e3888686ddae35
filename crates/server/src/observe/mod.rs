//! What a server tells about itself: metrics and traces.

pub mod metrics;
pub mod traces;
