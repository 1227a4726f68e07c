//! The management API of the old gateway, for servers that know it.
//!
//! Its token is one a day and made from the signature key, so this opens four calls and nothing else.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::config::value::Secret;
use crate::control::{Accepted, Hub, Requested};
use crate::device::credentials::Mac;
use crate::ops::counters::Counter;

/// How long a device may take to answer a command.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// The longest request, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Devices asked for at once.
const MAX_CLIENTS: usize = 1000;

struct Management {
    hub: Arc<Hub>,
    key: Secret,
}

/// The routes, opened by `key`.
pub fn router(hub: Arc<Hub>, key: Secret) -> Router {
    let state = Arc::new(Management { hub, key });
    Router::new()
        .route("/api/commands/{client}", post(command))
        .route("/api/devices/status", post(status))
        .route("/api/call/request", post(request_call))
        .route("/api/call/accept", post(accept_call))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&state), authorize))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}

/// The token of a day, given in days since 1970.
#[must_use]
pub fn token(key: &str, day: i64) -> String {
    let (year, month, day) = civil(day);
    let text = format!("{year:04}-{month:02}-{day:02}{key}");
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Year, month and day of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * m + 2) / 5 + 1)
}

async fn authorize(State(state): State<Arc<Management>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let today = i64::try_from(unix / 86_400).unwrap_or(0);
    let allowed = state.key.expose().is_some_and(|key| {
        // All three are compared, so that the time taken does not tell which day it was.
        let days = [today - 1, today, today + 1].map(|day| token(key, day));
        let equal = |token: &String| verify_slices_are_equal(token.as_bytes(), given.as_bytes()).is_ok();
        days.iter().filter(|token| equal(token)).count() > 0
    });
    if allowed {
        return next.run(request).await;
    }
    state.hub.registry.counters.add(Counter::Unauthorized);
    (StatusCode::UNAUTHORIZED, Json(json!({"error": "the bearer token is missing or wrong"}))).into_response()
}

type Body = Result<Json<Map<String, Value>>, axum::extract::rejection::JsonRejection>;

fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn bad_request(reason: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": reason}))).into_response()
}

async fn command(State(state): State<Arc<Management>>, Path(client): Path<String>, body: Body) -> Response {
    let failed =
        |code, reason: String| (code, Json(json!({"success": false, "error": reason}))).into_response();
    let Ok(Json(body)) = body else {
        return failed(StatusCode::BAD_REQUEST, "the body is not a JSON object".to_owned());
    };
    let payload = body.get("payload").and_then(Value::as_object);
    let method = payload.and_then(|payload| text(payload, "method"));
    let (Some("mcp"), Some(payload), Some(method)) = (text(&body, "type"), payload, method) else {
        return failed(
            StatusCode::BAD_REQUEST,
            "`type` must be \"mcp\", `payload.method` a string".to_owned(),
        );
    };
    let params = payload.get("params").cloned();
    match state.hub.command(&client, method.to_owned(), params, COMMAND_LIMIT).await {
        Ok(data) => Json(json!({"success": true, "data": data})).into_response(),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn status(State(state): State<Arc<Management>>, body: Body) -> Response {
    let clients = body.ok().and_then(|Json(mut body)| match body.remove("clientIds") {
        Some(Value::Array(clients)) if clients.len() <= MAX_CLIENTS => Some(clients),
        _ => None,
    });
    let Some(clients) = clients else {
        return bad_request("`clientIds` must be a list of at most 1000 client ids");
    };
    let statuses = clients.iter().filter_map(Value::as_str).map(|client| {
        let (exists, alive) = state.hub.status(client);
        (client.to_owned(), json!({"isAlive": alive, "exists": exists}))
    });
    Json(Value::Object(statuses.collect())).into_response()
}

async fn request_call(State(state): State<Arc<Management>>, body: Body) -> Response {
    let Ok(Json(body)) = body else { return bad_request("the body is not a JSON object") };
    let mac = |field| text(&body, field).and_then(|text| text.parse::<Mac>().ok());
    let (Some(caller), Some(target)) = (mac("caller_mac"), mac("target_mac")) else {
        return bad_request("`caller_mac` and `target_mac` must be MAC addresses");
    };
    let nickname = text(&body, "caller_nickname").unwrap_or("someone");
    let (status, message) = match state.hub.request_call(caller, target, nickname) {
        None => ("offline", "the device is not connected"),
        Some(Requested::Pending) => ("pending", "the device is being asked"),
        Some(Requested::Bridged) => ("bridged", "the devices are connected"),
        Some(Requested::Busy) => ("error", "one of the devices is in a call"),
    };
    Json(json!({"status": status, "message": message})).into_response()
}

async fn accept_call(State(state): State<Arc<Management>>, body: Body) -> Response {
    let mac = body.ok().and_then(|Json(body)| text(&body, "mac").and_then(|text| text.parse::<Mac>().ok()));
    let Some(mac) = mac else { return bad_request("`mac` must be a MAC address") };
    Json(match state.hub.accept_call(mac) {
        Accepted::Bridged(peer) => json!({"status": "bridged", "peerMac": peer.to_string()}),
        Accepted::NoPending => json!({"status": "no_pending", "message": "nobody is calling this device"}),
        Accepted::CallerGone => json!({"status": "caller_gone", "message": "whoever called is gone"}),
    })
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf 2026-11-23key | sha256sum`.
    #[test]
    fn the_token_is_what_servers_compute() {
        assert_eq!(token("key", 20_780), "25b713f22d3ede1e7bf95327d4a1e2e836df1e45df21ed1ca179527038b3b0c2");
    }

    #[test]
    fn days_become_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(-1), (1969, 12, 31));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(19_783), (2024, 3, 1));
        assert_eq!(civil(20_780), (2026, 11, 23));
    }
}
