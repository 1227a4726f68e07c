//! Which web pages may call while no token is asked for: only ours. A browser lets any page of any site open WebSockets.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap};

/// Whether a browser that says it shows a page of some site may call without a token.
///
/// The page must have come from here. Without TLS that takes a name that no other site can give itself: an address, or
/// `localhost`. Any other name may lead to its owner's server for the page and to us for the call (DNS rebinding); with TLS it
/// may not, as the browser has held our certificate to it.
pub(super) fn may_call(headers: &HeaderMap, is_encrypted: bool) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    site == Some(host) && (is_encrypted || is_nobodys(host))
}

/// Whether a host, with its port or without, is a name that nobody owns.
fn is_nobodys(host: &str) -> bool {
    let name = host.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix(':').unwrap_or(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(origin: Option<&str>, host: &str, is_encrypted: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        may_call(&headers, is_encrypted)
    }

    #[test]
    fn what_is_no_page_may_call() {
        assert!(may(None, "elsewhere.test", false));
    }

    #[test]
    fn a_page_of_ours_may_call_and_no_other() {
        for host in [
            "127.0.0.1:8086",
            "localhost:8086",
            "localhost",
            "192.168.1.5:8086",
            "[::1]:8086",
            "[fd00::1]",
            "10.0.0.1",
        ] {
            assert!(may(Some(&format!("http://{host}")), host, false), "{host}");
            assert!(!may(Some("http://elsewhere.test"), host, false), "{host}");
        }
        for origin in ["null", "http://", "192.168.1.5:8086"] {
            assert!(!may(Some(origin), "192.168.1.5:8086", true), "{origin}");
        }
    }

    #[test]
    fn a_name_that_somebody_may_own_needs_a_certificate() {
        for host in
            ["evil.test:8086", "gateway.lan", "localhost.evil.test", "192.168.1.5.evil.test", "1.evil"]
        {
            let origin = format!("https://{host}");
            assert!(!may(Some(&origin), host, false), "{host}");
            assert!(may(Some(&origin), host, true), "{host}");
        }
    }
}
