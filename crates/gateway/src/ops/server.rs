//! The operations port: health, metrics, calls and the dashboard.
//!
//! Requests from this machine are let in; those from others need the bearer token. Health and the empty page need
//! nothing, as they say nothing.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::metrics;
use super::registry::MAX_ENDED;
use crate::config::value::Secret;
use crate::control::Hub;
use crate::media::MediaId;
use crate::ops::counters::Counter;

/// The page; it brings its own style and script and loads nothing else.
const PAGE: &str = include_str!("dashboard.html");
/// Only what the page brings itself may run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Calls listed at once; a browser would not stand more.
const MAX_LISTED: usize = 500;

/// What the operations port needs.
#[derive(Debug)]
pub struct Operations {
    hub: Arc<Hub>,
    token: RwLock<Secret>,
    pages: OnceLock<Vec<String>>,
}

impl Operations {
    /// Of this gateway, with this token for other machines.
    #[must_use]
    pub fn new(hub: Arc<Hub>, token: Secret) -> Arc<Self> {
        Arc::new(Self { hub, token: RwLock::new(token), pages: OnceLock::new() })
    }

    /// Another token from here on.
    pub fn set_token(&self, token: Secret) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Where the pages are in which a person talks with a browser. To be said once.
    pub fn set_pages(&self, pages: Vec<String>) {
        let _ = self.pages.set(pages);
    }

    /// The port's routes. Serve with connection info of [`SocketAddr`].
    pub fn router(self: &Arc<Self>) -> Router {
        let open = Router::new()
            .route("/", get(page))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready));
        let closed = Router::new()
            .route("/metrics", get(metrics_page))
            .route("/api/status", get(status))
            .route("/api/calls", get(calls))
            .route("/api/calls/{id}/trace", get(trace))
            .route("/api/calls/{id}/hang_up", post(hang_up))
            .route_layer(middleware::from_fn_with_state(Arc::clone(self), authorize));
        open.merge(closed).with_state(Arc::clone(self))
    }

    fn allows(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(given) = text(header::AUTHORIZATION) {
            let given = given.strip_prefix("Bearer ").unwrap_or_default();
            let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
            return token
                .expose()
                .is_some_and(|token| verify_slices_are_equal(token.as_bytes(), given.as_bytes()).is_ok());
        }
        // A name that resolves to this machine is how a web page elsewhere would get at us through a browser here.
        let host = text(header::HOST).unwrap_or_default();
        let host = host.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix(':').unwrap_or(host);
        let local_name = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        peer.ip().to_canonical().is_loopback() && local_name
    }
}

async fn authorize(
    State(operations): State<Arc<Operations>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if operations.allows(peer, request.headers()) {
        return next.run(request).await;
    }
    operations.hub.registry.counters.add(Counter::Unauthorized);
    let error = json!({"error": "requests from other machines need the token of operations.token"});
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], Json(error)).into_response()
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, Html(PAGE)).into_response()
}

async fn ready(State(operations): State<Arc<Operations>>) -> Response {
    let why_not = if operations.hub.is_draining() {
        Some("draining\n")
    } else if operations.hub.plane.lanes().is_empty() {
        Some("no lanes\n")
    } else {
        None
    };
    why_not.map_or("ready\n".into_response(), |text| (StatusCode::SERVICE_UNAVAILABLE, text).into_response())
}

async fn metrics_page(State(operations): State<Arc<Operations>>) -> Response {
    let text = metrics::render(&operations.hub);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status(State(operations): State<Arc<Operations>>) -> Response {
    let hub = &operations.hub;
    let lanes: Vec<_> = hub.plane.lanes().into_iter().map(|lane| {
        json!({
            "sessions": lane.sessions, "load": lane.load, "departure_ms": f64::from(lane.departure_p99_micros) / 1e3,
            "missed": lane.missed, "received": lane.received, "sent": lane.sent,
        })
    }).collect();
    let totals = hub.registry.totals();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": hub.clock.now().as_nanos() as f64 / 1e9,
        "draining": hub.is_draining(),
        "devices": hub.connected(),
        "calls": hub.registry.live(),
        "sessions": hub.registry.counters.get(Counter::SessionsBegan),
        "udp_never_seen": hub.registry.counters.get(Counter::UdpNeverSeen),
        "received": totals.received,
        "lost": totals.lost,
        "lanes": lanes,
        "pages": operations.pages.get(),
    }))
    .into_response()
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    ended: bool,
    limit: Option<usize>,
}

async fn calls(State(operations): State<Arc<Operations>>, Query(listing): Query<Listing>) -> Response {
    let hub = &operations.hub;
    let limit = listing.limit.unwrap_or(100).min(MAX_LISTED + MAX_ENDED);
    Json(json!({"calls": hub.registry.views(limit, listing.ended, hub.clock.now())})).into_response()
}

async fn trace(State(operations): State<Arc<Operations>>, Path(id): Path<String>) -> Response {
    let hub = &operations.hub;
    let Some((call, events)) = hub.registry.trace(&id, hub.clock.now()) else { return unknown() };
    let disposition = format!("attachment; filename=\"call-{}.json\"", call.id);
    ([(header::CONTENT_DISPOSITION, disposition)], Json(json!({"call": call, "events": events})))
        .into_response()
}

async fn hang_up(State(operations): State<Arc<Operations>>, Path(id): Path<String>) -> Response {
    let parsed = id
        .split_once('-')
        .and_then(|(lane, serial)| Some(MediaId { lane: lane.parse().ok()?, serial: serial.parse().ok()? }));
    if parsed.is_some_and(|media| operations.hub.hang_up(media)) {
        return StatusCode::NO_CONTENT.into_response();
    }
    unknown()
}

fn unknown() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"error": "no such call"}))).into_response()
}
