//! One trace for each job: block seen, prepared, enqueued, leased, proven by a client, submitted, verified, accepted.
//!
//! * A trace's id, and that of its first span, come from the job's id: every server finds them again, after a restart too,
//!   and nothing is stored.
//! * A lease carries the trace on to its client, in the words of the W3C Trace Context.
//! * Spans go to the process's global tracer. Without one they cost nothing, and a lease carries nothing.

use opentelemetry::{
    Context, KeyValue, global,
    trace::{
        Span, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId,
        Tracer,
    },
};
use protocol::JobId;
use sha2::{Digest, Sha256};
use std::{cell::Cell, collections::HashMap, time::SystemTime};

thread_local! {
    static FIRST: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// The ids of the span that is being started on this thread, if it is a trace's first: for the process's generator of ids.
pub fn first_ids() -> Option<(TraceId, SpanId)> {
    FIRST.get()
}

/// The ids of a job's trace and of its first span.
fn ids(job: JobId) -> (TraceId, SpanId) {
    let mut hash = Sha256::new();
    hash.update(b"l2-prover trace 1\0");
    hash.update(job.as_bytes());
    let hash = hash.finalize();
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&hash[..16]);
    span.copy_from_slice(&hash[16..24]);
    (TraceId::from_bytes(trace), SpanId::from_bytes(span))
}

/// Blocks were seen at `seen`, prepared at `prepared`, and are enqueued now as `job`: begins the trace.
pub fn enqueued(job: JobId, blocks: String, seen: SystemTime, prepared: SystemTime) {
    FIRST.set(Some(ids(job)));
    let facts = [KeyValue::new("job", job.to_string()), KeyValue::new("blocks", blocks)];
    let first = SpanBuilder::from_name("block seen").with_start_time(seen).with_attributes(facts);
    let mut first = tracer().build_with_context(first, &Context::new());
    FIRST.set(None);
    first.end();
    let mut prepare = child(job, SpanBuilder::from_name("prepare").with_start_time(seen), []);
    prepare.end_with_timestamp(prepared);
    child(job, SpanBuilder::from_name("enqueue").with_start_time(prepared), []).end();
}

/// Something happened to `job` between `begun` and now. What went wrong is in `error`.
pub fn happened<const N: usize>(
    job: JobId,
    name: &'static str,
    begun: SystemTime,
    facts: [KeyValue; N],
    error: Option<String>,
) {
    let mut span = child(job, SpanBuilder::from_name(name).with_start_time(begun), facts);
    if let Some(error) = error {
        span.set_status(Status::error(error));
    }
    span.end();
}

/// A lease on `job` was granted on a request that came at `asked`. Returns the `traceparent` for its client.
pub fn leased(job: JobId, client: String, asked: SystemTime) -> Option<String> {
    let span = SpanBuilder::from_name("lease").with_start_time(asked);
    let span = child(job, span, [KeyValue::new("client", client)]);
    if !span.is_recording() {
        return None;
    }
    let context = Context::new().with_remote_span_context(span.span_context().clone());
    let mut carrier = HashMap::new();
    global::get_text_map_propagator(|words| words.inject_context(&context, &mut carrier));
    carrier.remove("traceparent")
}

fn child<const N: usize>(job: JobId, span: SpanBuilder, facts: [KeyValue; N]) -> global::BoxedSpan {
    let (trace, first) = ids(job);
    let first = SpanContext::new(trace, first, TraceFlags::SAMPLED, true, Default::default());
    let context = Context::new().with_remote_span_context(first);
    tracer().build_with_context(span.with_attributes(facts), &context)
}

fn tracer() -> global::BoxedTracer {
    global::tracer("prover_server")
}
