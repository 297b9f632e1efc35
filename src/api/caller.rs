//! Who is calling, and what the token allows.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::problem::Problem;
use super::state::Api;
use crate::auth::{Principal, Scope};
use crate::domain::Namespace;

/// A caller who may read.
#[derive(Debug)]
pub(super) struct Reader(pub(super) Principal);

/// A caller who may write.
#[derive(Debug)]
pub(super) struct Writer(pub(super) Principal);

impl Reader {
    pub(super) fn namespace(&self) -> &Namespace {
        self.0.namespace()
    }

    /// Refuses a caller who may not write.
    pub(super) fn check_writes(&self, api: &Api) -> Result<(), Problem> {
        check_scope(&self.0, api, Scope::Write)
    }

    /// Whether sensitive fields of sessions may be shown.
    pub(super) fn sees_secrets(&self) -> bool {
        self.0.allows(Scope::Secrets)
    }
}

impl Writer {
    pub(super) fn namespace(&self) -> &Namespace {
        self.0.namespace()
    }
}

/// A caller who may see and do what concerns all namespaces.
#[derive(Debug)]
pub(super) struct Admin(Principal);

impl Admin {
    /// Who it is, for logs that people read.
    pub(super) fn who(&self, api: &Api) -> String {
        match self.0.name() {
            _ if api.tokens.keyring().is_empty() => "anonymous (no tokens configured)".to_owned(),
            name => name.to_owned(),
        }
    }
}

impl FromRequestParts<Api> for Admin {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        authenticate(parts, api, Scope::Admin).map(Self)
    }
}

impl FromRequestParts<Api> for Reader {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        authenticate(parts, api, Scope::Read).map(Self)
    }
}

impl FromRequestParts<Api> for Writer {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        authenticate(parts, api, Scope::Write).map(Self)
    }
}

fn authenticate(parts: &Parts, api: &Api, scope: Scope) -> Result<Principal, Problem> {
    let refuse = |reason: &str, problem: Problem| {
        api.metrics.auth_failures.with_label_values(&[reason]).inc();
        Err(problem)
    };
    let keyring = api.tokens.keyring();
    if keyring.is_empty() {
        if !api.config.server.insecure && !is_from_here(&parts.headers) {
            let detail = "without tokens only programs on this host are served, not pages of other sites; \
                          `crawlcache token create` makes a token";
            return refuse("origin", Problem::new("forbidden", detail));
        }
        return Ok(Principal::anonymous());
    }
    let Some(header) = parts.headers.get(AUTHORIZATION) else {
        return refuse("missing", Problem::new("unauthorized", "send `Authorization: Bearer <token>`"));
    };
    let token = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(principal) = token.and_then(|token| keyring.authenticate(token, api.clock.now())) else {
        return refuse("invalid", Problem::new("unauthorized", "the token is not valid, or no longer"));
    };
    check_scope(&principal, api, scope)?;
    Ok(principal)
}

/// Refuses a token that lacks a scope.
fn check_scope(principal: &Principal, api: &Api, scope: Scope) -> Result<(), Problem> {
    if principal.allows(scope) {
        return Ok(());
    }
    api.metrics.auth_failures.with_label_values(&["scope"]).inc();
    Err(Problem::new("forbidden", format!("the token `{}` lacks the scope `{scope}`", principal.name())))
}

/// Whether a request was made for this host by a program or a page on this host.
///
/// A browser sends requests to loopback addresses for any page (CSRF), even under a foreign name that its owner
/// points here (DNS rebinding); it says so in these headers, which a page cannot change.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    let host = text(HOST).is_none_or(is_loopback);
    let origin =
        text(ORIGIN).is_none_or(|origin| origin.split_once("://").is_some_and(|(_, host)| is_loopback(host)));
    let site = text(SEC_FETCH_SITE).is_none_or(|site| ["same-origin", "none"].contains(&site));
    host && origin && site
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether `host[:port]` names this host.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let from = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value)));
            is_from_here(&pairs.collect())
        };
        assert!(from(&[]));
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.9.9.9"] {
            assert!(from(&[("host", host)]), "{host}");
        }
        assert!(from(&[
            ("host", "localhost"),
            ("origin", "http://localhost:8080"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!from(&[("host", "evil.example:8080")]), "a name that somebody points here");
        assert!(!from(&[("host", "localhost.evil.example")]));
        assert!(!from(&[("host", "localhost"), ("origin", "https://evil.example")]));
        assert!(!from(&[("host", "localhost"), ("origin", "null")]), "a sandboxed page");
        assert!(!from(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
    }
}
