//! The page in which a person talks with a browser, and all it loads, carried in the program.
//!
//! Its scripts share memory with an audio worklet, which browsers allow only to pages that keep others out
//! (`Cross-Origin-Opener-Policy`, `Cross-Origin-Embedder-Policy`) and that came over TLS or from their own machine.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Where the page asks what an upgrade would be told, as a browser does not say why a WebSocket was refused.
pub const ADMISSION: &str = "/admission";

/// Whether this program was built with the page.
#[must_use]
pub const fn is_built_in() -> bool {
    MODULES.is_some()
}

/// The file that a request asks for; `None` if there is none.
pub(super) fn answer<B>(request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let asset = ASSETS.iter().find(|asset| asset.path == request.uri().path())?;
    let is_known = has_tag(request.headers(), &asset.tag);
    let body = if is_known { Bytes::new() } else { Bytes::from_static(asset.bytes) };
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    for &(name, value) in POLICIES {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::ETAG, asset.tag.clone());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    Some(response)
}

/// Whether the browser has the file already.
fn has_tag(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).any(|part| {
        let part = part.trim();
        part.strip_prefix("W/").unwrap_or(part).as_bytes() == tag.as_bytes()
    })
}

const POLICIES: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "microphone=(self), camera=(), display-capture=(), geolocation=(), payment=(), usb=()",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    // Asked for each time, and sent only where it changed: another version has the same addresses.
    ("cache-control", "no-cache"),
];

struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: HeaderValue,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let Some([simd, plain]) = MODULES else { return vec![asset("/", WITHOUT)] };
    let files = FILES.iter().map(|&(path, bytes)| asset(path, bytes));
    files.chain([asset("/wasm/dist/simd.wasm", simd), asset("/wasm/dist/plain.wasm", plain)]).collect()
});

fn asset(path: &'static str, bytes: &'static [u8]) -> Asset {
    let kind = match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        Some((_, "wasm")) => "application/wasm",
        _ => "text/html; charset=utf-8",
    };
    let hash = URL_SAFE_NO_PAD.encode(&digest(&SHA256, bytes).as_ref()[..12]);
    let tag = HeaderValue::try_from(format!("\"{hash}\"")).expect("letters and digits make a header");
    Asset { path, kind, bytes, tag }
}

/// In place of the page, where there are no modules.
const WITHOUT: &[u8] = include_bytes!("../../../page/without.html");

macro_rules! files {
    ($($path:literal: $file:literal,)+) => {
        &[$(($path, include_bytes!($file)),)+]
    };
}

/// Paths as the files have them, so that they find each other.
const FILES: &[(&str, &[u8])] = files! {
    "/": "../../../page/index.html",
    "/page/style.css": "../../../page/style.css",
    "/page/icon.svg": "../../../page/icon.svg",
    "/page/page.js": "../../../page/page.js",
    "/page/call.js": "../../../page/call.js",
    "/page/view.js": "../../../page/view.js",
    "/page/words.js": "../../../page/words.js",
    "/page/identity.js": "../../../page/identity.js",
    "/page/line.js": "../../../page/line.js",
    "/page/connection.js": "../../../page/connection.js",
    "/page/protocol.js": "../../../page/protocol.js",
    "/page/recording.js": "../../../page/recording.js",
    "/page/shared.js": "../../../page/shared.js",
    "/page/audio.js": "../../../page/audio.js",
    "/page/worklet.js": "../../../page/worklet.js",
    "/wasm/index.js": "../../../../../bindings/wasm/index.js",
    "/wasm/error.js": "../../../../../bindings/wasm/error.js",
    "/wasm/memory.js": "../../../../../bindings/wasm/memory.js",
    "/wasm/options.js": "../../../../../bindings/wasm/options.js",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, tag: Option<&HeaderValue>) -> Option<Response<Full<Bytes>>> {
        let mut request = Request::get(path);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        answer(&request.body(()).unwrap())
    }

    #[test]
    fn every_file_has_its_type_its_policies_and_a_tag_that_saves_sending_it_again() {
        for asset in ASSETS.iter() {
            let first = get(asset.path, None).unwrap();
            assert_eq!(first.status(), StatusCode::OK);
            let headers = first.headers();
            let kind = match asset.path.rsplit('.').next() {
                Some("js") => "text/javascript; charset=utf-8",
                Some("css") => "text/css; charset=utf-8",
                Some("svg") => "image/svg+xml",
                Some("wasm") => "application/wasm",
                _ if asset.path == "/" => "text/html; charset=utf-8",
                other => panic!("what type is {other:?}?"),
            };
            assert_eq!(headers[header::CONTENT_TYPE], kind, "{}", asset.path);
            assert!(POLICIES.iter().all(|(name, value)| headers[*name] == value), "{}", asset.path);
            let again = get(asset.path, Some(&headers[header::ETAG])).unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
            let other = HeaderValue::from_static("\"other\"");
            assert_eq!(get(asset.path, Some(&other)).unwrap().status(), StatusCode::OK);
        }
        let tags: std::collections::BTreeSet<_> = ASSETS.iter().map(|a| a.tag.as_bytes()).collect();
        assert_eq!(tags.len(), ASSETS.len());
    }

    #[test]
    fn all_files_of_the_page_are_there_and_nothing_else_is() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/page")).unwrap();
        let files = folder.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file());
        let files = files.map(|entry| format!("/page/{}", entry.file_name().to_str().unwrap()));
        let files: std::collections::BTreeSet<_> = files.filter(|path| !path.ends_with(".html")).collect();
        let known = FILES.iter().map(|(path, _)| (*path).to_owned());
        assert_eq!(
            known.filter(|path| path.starts_with("/page/")).collect::<std::collections::BTreeSet<_>>(),
            files
        );
        // Neither what lies beside them nor what only resembles them.
        let beside = [
            "/page/index.html",
            "/page/without.html",
            "/page/test/parts.test.mjs",
            "/wasm/package.json",
            "/Cargo.toml",
        ];
        for path in beside {
            assert!(get(path, None).is_none(), "{path}");
        }
        for path in ASSETS.iter().map(|asset| asset.path).filter(|path| *path != "/") {
            let like = [format!("{path}/"), format!("/.{path}"), path.to_uppercase(), format!("{path}%20")];
            for other in like {
                assert!(get(&other, None).is_none(), "{other}");
            }
            assert!(get(&format!("{path}?x"), None).is_some(), "{path}");
            assert!(answer(&Request::post(path).body(()).unwrap()).is_none(), "{path}");
        }
    }
}
