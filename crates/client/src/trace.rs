//! The client's part of a job's trace, which the server begins.

use opentelemetry::{
    global,
    trace::{SpanBuilder, Tracer},
};
use std::collections::HashMap;

/// Begins a span of the trace that came with the lease; it ends when it is dropped. None if nobody traces the job.
pub(crate) fn span(traceparent: Option<&str>, name: &'static str) -> Option<global::BoxedSpan> {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent?.to_owned())]);
    let context = global::get_text_map_propagator(|words| words.extract(&carrier));
    let span = SpanBuilder::from_name(name);
    Some(global::tracer("prover_client").build_with_context(span, &context))
}
