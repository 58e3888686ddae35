//! Traces of this process, for an OpenTelemetry collector, if the standard variables name one.

use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::global;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::WithHttpConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};

/// A collector that takes longer is given up for now.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends spans until it is stopped.
#[derive(Debug)]
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends the spans of this process, a `service`, where `OTEL_EXPORTER_OTLP_ENDPOINT` says; nowhere without it.
    ///
    /// # Errors
    /// If a variable has a value that cannot work.
    pub(crate) fn start(service: &'static str) -> anyhow::Result<Self> {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let wanted =
            set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        if !wanted || std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value == "true") {
            return Ok(Self(None));
        }
        let http = reqwest::Client::builder().timeout(PATIENCE).build();
        let http = Http {
            http: http.context("failed to set up HTTP")?,
            runtime: tokio::runtime::Handle::current(),
        };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(http)
            .build()
            .context("failed to send traces as the variables OTEL_EXPORTER_OTLP_* say")?;
        let mut resource = Resource::builder();
        if !set("OTEL_SERVICE_NAME") {
            resource = resource.with_service_name(service);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_id_generator(Ids::default())
            .with_resource(resource.build())
            .build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(provider.clone());
        Ok(Self(Some(provider)))
    }

    /// Sends nothing.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Sends what is left.
    pub(crate) async fn stop(self) {
        if let Some(provider) = self.0 {
            // Blocks on a thread that needs this runtime to send. What fails has been logged there.
            let _sent = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        }
    }
}

/// A job's first span has the ids that every server finds again; all others are random.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        server::traces::first_ids().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        server::traces::first_ids().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// Sends on our runtime what the exporter's own thread, which has none, waits for.
#[derive(Debug)]
struct Http {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait::async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = answer.headers().clone();
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        });
        let sent = sent.await.unwrap_or_else(|error| Err(error.into()));
        match &sent {
            Ok(answer) if !answer.status().is_success() => {
                let status = answer.status().as_u16();
                tracing::warn!(code = "traces_not_sent", status, "collector refuses traces");
            }
            Ok(_) => {}
            Err(error) => {
                let error = &**error as &dyn std::error::Error;
                tracing::warn!(code = "traces_not_sent", error, "collector cannot be reached");
            }
        }
        sent
    }
}
