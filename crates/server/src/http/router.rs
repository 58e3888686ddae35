//! Routes requests to the endpoints, past the guard that stands before all of them.

use super::{
    body::{Paced, With},
    dashboard,
    endpoints::{Endpoint, endpoints},
    error::{Answer, no_such_endpoint},
    limits::Budget,
    peer::{Peer, Who},
    schema::Takes,
    service::Service,
};
use crate::{
    access::{gate::Access, tokens::Role},
    dashboard::feed::News,
    observe::metrics::Metrics,
};
use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    handler::Handler,
    middleware::{Next, from_fn_with_state, map_response},
    response::Response,
};
use std::{collections::BTreeSet, net::Ipv6Addr, sync::LazyLock, time::Instant};

/// Serves the endpoints.
pub fn router(service: Service) -> Router {
    let message_bytes = service.limiter().limits().message_bytes;
    let mut router = Router::new();
    for Endpoint { path, access, handler, takes, budget, .. } in endpoints() {
        let body = match takes {
            Takes::Nothing | Takes::Message(_) => DefaultBodyLimit::max(message_bytes),
            Takes::Artifact => DefaultBodyLimit::disable(),
        };
        let guard = from_fn_with_state((service.clone(), access, budget), guard);
        router = router.route(path, handler.layer(body).layer(guard));
    }
    // Strangers do not learn either what there is and what not.
    let stranger = from_fn_with_state((service.clone(), Access::Known, Budget::Other), guard);
    let nowhere = no_such_endpoint.layer(stranger);
    router
        .fallback(nowhere.clone())
        .method_not_allowed_fallback(nowhere)
        .layer(map_response(dashboard::with_headers))
        .layer(from_fn_with_state(service.metrics().clone(), count))
        .with_state(service)
}

/// Lets a request pass if its caller may do this now.
async fn guard(
    State((service, access, budget)): State<(Service, Access, Budget)>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let nobody = Peer { ip: Ipv6Addr::UNSPECIFIED.into(), certificate: None };
    let peer = request.extensions().get().copied().unwrap_or(nobody);
    let (token, caller) = service.gate().admit(access, peer.certificate, request.headers());
    let who = token.map_or_else(|| Who::peer(peer.ip), Who::Token);
    let limiter = service.limiter();
    limiter.rate(who, budget)?;
    if let Err(denied) = &caller {
        // A caller's own words are not logged: they may be a token, mistyped.
        tracing::debug!(ip = %peer.ip, ?who, %denied, "a request was refused");
    }
    let caller = caller?;
    let open = limiter.open(who, budget)?;
    let mut request = request.map(|body| Body::new(Paced::new(body, limiter.limits())));
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(who);
    let news = news(access, budget).filter(|_| !request.method().is_safe());
    let answer = next.run(request).await;
    if let Some(news) = news.filter(|_| answer.status().is_success()) {
        service.feed().news(news);
    }
    Ok(answer.map(|body| Body::new(With::new(body, open))))
}

/// What a request for a change tells viewers, if it succeeds. Heartbeats and uploads are many, and change little.
fn news(access: Access, budget: Budget) -> Option<News> {
    match (access, budget) {
        (_, Budget::Heartbeat | Budget::Upload | Budget::Stream) => None,
        (Access::Only([Role::Operator]), _) => Some(News::Decided),
        _ => Some(News::Moved),
    }
}

/// The paths of all endpoints: the only ones that become labels.
static PATHS: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| endpoints().iter().map(|endpoint| endpoint.path).collect());

/// Counts the requests that a server answers.
async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let endpoint = PATHS.get(path.map_or("", MatchedPath::as_str)).copied().unwrap_or("other");
    let method = ["GET", "POST", "PUT", "DELETE"]
        .into_iter()
        .find(|method| *method == request.method().as_str())
        .unwrap_or("other");
    let begun = Instant::now();
    let response = next.run(request).await;
    metrics.answered(method, endpoint, response.status().as_u16(), begun.elapsed());
    response
}
