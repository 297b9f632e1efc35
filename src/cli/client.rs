//! Talks to a running service: where it is, who asks, and what its answers mean for the exit code.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Method, Request, Response, StatusCode, Url};
use serde_json::{Map, Value};

use super::Hidden;
use super::exit::{Exit, Failure, Outcome, chain};

/// Where the service is unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may pause; longer than a service lets a request take by default.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// How often a request is sent again to a service that says when to.
const RETRIES: usize = 3;

/// The longest time that is waited for because a service says so.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The most of an answer that is read to find out what went wrong.
const PROBLEM_BYTES: usize = 64 << 10;

/// Which service, and who asks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Service")]
pub(super) struct ServiceArgs {
    #[arg(
        long = "url",
        id = "service_url",
        global = true,
        value_name = "URL",
        help = format!("Where the service is [variable: CRAWLCACHE_URL] [default: {DEFAULT_URL}]")
    )]
    pub(super) url: Option<String>,

    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        help = "The token to present; better in the variable, since others here can list arguments [variable: \
                CRAWLCACHE_TOKEN]"
    )]
    token: Option<Hidden>,
}

/// A service to ask.
#[derive(Debug)]
pub(super) struct Service {
    base: Url,
    client: reqwest::Client,
}

impl Service {
    /// The service that the arguments or the environment name. `patience` bounds the pauses of an answer.
    pub(super) fn new(args: &ServiceArgs, patience: Option<Duration>) -> Outcome<Self> {
        let url = given(args.url.clone(), "CRAWLCACHE_URL")?.unwrap_or_else(|| DEFAULT_URL.to_owned());
        let token = given(args.token.as_ref().map(|token| token.0.clone()), "CRAWLCACHE_TOKEN")?;
        let base = base_url(&url)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("crawlcache/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // The API never redirects, and a token must not travel elsewhere.
            .redirect(reqwest::redirect::Policy::none());
        if let Some(patience) = patience {
            builder = builder.read_timeout(patience);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|_| Failure::usage("the token has characters that no token has"))?;
            value.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
        if is_loopback(&base) {
            // A proxy would look for the service on its own host.
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // The certificates of the system take milliseconds to read, and a small container has none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| Failure::local("no request can be made", &error))?;
        Ok(Self { base, client })
    }

    /// A service to ask with ordinary patience.
    pub(super) fn patient(args: &ServiceArgs) -> Outcome<Self> {
        Self::new(args, Some(READ_TIMEOUT))
    }

    /// A request for a path of the API.
    pub(super) fn request(&self, method: Method, path: &str, query: &[(&str, Option<String>)]) -> Request {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Request::new(method, url)
    }

    /// Sends a request once, and checks that the answer is a success.
    pub(super) async fn send(&self, request: Request) -> Outcome<Response> {
        accept(self.execute(request).await?).await
    }

    /// As [`Service::send`], but sends it again, a few times, when the service is busy and says when to.
    pub(super) async fn send_again(&self, request: Request) -> Outcome<Response> {
        for _ in 0..RETRIES {
            let Some(copy) = request.try_clone() else { break };
            let response = self.execute(copy).await?;
            match wait_for(response.status(), response.headers()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return accept(response).await,
            }
        }
        self.send(request).await
    }

    /// Sends a request, whatever the answer is.
    pub(super) async fn execute(&self, request: Request) -> Outcome<Response> {
        self.client.execute(request).await.map_err(|error| self.no_answer(error))
    }

    fn no_answer(&self, error: reqwest::Error) -> Failure {
        let never_sent = error.is_connect() || error.is_timeout();
        let error = error.without_url();
        let timeout = if error.is_timeout() { "it takes too long: " } else { "" };
        let detail = format!("no answer from {}: {timeout}{}", self.base, chain(&error));
        let exit = if never_sent { Exit::Unreachable } else { Exit::Failed };
        Failure::new(exit, if never_sent { "unreachable" } else { "broken_off" }, detail)
    }
}

/// A request with a body in memory.
pub(super) fn with_body(
    mut request: Request,
    headers: &[(&'static str, &'static str)],
    body: Bytes,
) -> Request {
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    *request.body_mut() = Some(Body::from(body));
    request
}

/// The failure of an answer that broke off.
pub(super) fn broken_off(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    Failure::new(Exit::Failed, "broken_off", format!("the answer broke off: {}", chain(&error)))
}

/// Has a service do something small: a request with a JSON body, where there is one, and an answer in JSON.
pub(super) async fn call(
    service: &Service,
    method: Method,
    path: &str,
    query: &[(&str, Option<String>)],
    body: Option<&Value>,
) -> Outcome<Value> {
    let mut request = service.request(method, path, query);
    if let Some(body) = body {
        request = with_body(request, &[("content-type", "application/json")], body.to_string().into());
    }
    json(service.send(request).await?).await
}

/// An answer that is one JSON value.
pub(super) async fn json(response: Response) -> Outcome<Value> {
    let bytes = response.bytes().await.map_err(broken_off)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::local("the answer is not that of crawlcache", &error))
}

/// The argument, or else the variable; an empty one counts as missing.
fn given(argument: Option<String>, variable: &str) -> Outcome<Option<String>> {
    if argument.is_some() {
        return Ok(argument);
    }
    let Some((_, value)) = crate::config::process_environment().find(|(name, _)| name == variable) else {
        return Ok(None);
    };
    let value = value.into_string().map_err(|_| Failure::usage(format!("{variable} is not Unicode")))?;
    Ok(Some(value).filter(|value| !value.is_empty()))
}

fn base_url(text: &str) -> Outcome<Url> {
    let wrong =
        |why: &str| Failure::usage(format!("the address of the service {why}, such as {DEFAULT_URL}"));
    // What was given is not repeated: it may hold a password.
    let url = Url::parse(text).map_err(|error| wrong(&format!("must be a url ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "must hold no user and no password; give a token with --token or CRAWLCACHE_TOKEN",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must hold neither `?` nor `#`"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// How long a busy service asks to wait.
fn wait_for(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// A success as it is; anything else as the failure that it describes.
async fn accept(mut response: Response) -> Outcome<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > PROBLEM_BYTES {
            break;
        }
    }
    Err(failure_of(status, &body))
}

/// What an unsuccessful answer means.
fn failure_of(status: StatusCode, body: &[u8]) -> Failure {
    let problem: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let member = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
    let Some(code) = member("code") else {
        let exit = exit_of(status, "");
        let detail = format!(
            "the service answered {status}, which is not how crawlcache speaks: is the address right?"
        );
        return Failure::new(exit, "unexpected_answer", detail);
    };
    let detail = member("detail").or_else(|| member("title")).unwrap_or_else(|| status.to_string());
    Failure::new(exit_of(status, &code), code, detail).with(problem)
}

fn exit_of(status: StatusCode, code: &str) -> Exit {
    match (status.as_u16(), code) {
        (401 | 403, _) => Exit::Refused,
        (502..=504, _) => Exit::Unreachable,
        (_, "result_not_found" | "field_not_found" | "work_not_found" | "outbox_row_not_found") => {
            Exit::NotFound
        }
        (_, "invalid_parameter" | "invalid_url" | "invalid_variant") => Exit::Usage,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(url: &str) -> Outcome<Service> {
        Service::new(
            &ServiceArgs { url: Some(url.to_owned()), token: Some(Hidden("cc_secret".into())) },
            None,
        )
    }

    #[test]
    fn addresses_may_have_a_path() {
        for (base, expected) in [
            ("http://127.0.0.1:1", "http://127.0.0.1:1/v1/result?url=https%3A%2F%2Fa%2F%3Fb%3D1%262"),
            ("https://host/cache/", "https://host/cache/v1/result?url=https%3A%2F%2Fa%2F%3Fb%3D1%262"),
        ] {
            let query = [("url", Some("https://a/?b=1&2".to_owned())), ("variant", None)];
            let request = service(base).expect(base).request(Method::GET, "/v1/result", &query);
            assert_eq!(request.url().as_str(), expected);
        }
    }

    #[test]
    fn wrong_addresses_are_usage_and_not_repeated() {
        for url in [
            "localhost:8080",
            "ftp://h/",
            "http://user:5ec4e7@h/",
            "http://h/?x",
            "http://h/#x",
            "5ec4e7",
            "",
        ] {
            let failure = service(url).expect_err(url);
            assert_eq!(failure.exit(), Exit::Usage, "{url}");
            assert!(!failure.text(true).expect("text").contains("5ec4e7"));
        }
        let args = ServiceArgs { url: None, token: Some(Hidden("5ec4e7\n\u{e9}".into())) };
        let failure = Service::patient(&args).expect_err("no header");
        assert!(!format!("{failure:?}{args:?}").contains("5ec4e7"));
    }

    #[test]
    fn no_token_is_shown() {
        let service = service("http://h").expect("valid");
        assert!(!format!("{service:?}").contains("secret"), "{service:?}");
    }

    #[test]
    fn loopback_needs_no_proxy() {
        for (url, loopback) in [
            ("http://localhost:1", true),
            ("http://a.localhost", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:8", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&base_url(url).expect(url)), loopback, "{url}");
        }
    }

    #[test]
    fn answers_mean_exit_codes() {
        let problem = |code: &str| format!(r#"{{"code":"{code}","detail":"why","reason":"absent"}}"#);
        for (status, code, exit) in [
            (404, "result_not_found", Exit::NotFound),
            (404, "field_not_found", Exit::NotFound),
            (404, "work_not_found", Exit::NotFound),
            (409, "not_routed", Exit::Failed),
            (412, "precondition_failed", Exit::Failed),
            (404, "not_found", Exit::Failed),
            (401, "unauthorized", Exit::Refused),
            (403, "forbidden", Exit::Refused),
            (503, "overloaded", Exit::Unreachable),
            (400, "invalid_url", Exit::Usage),
            (400, "malformed_json", Exit::Failed),
            (507, "storage_full", Exit::Failed),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let failure = failure_of(status, problem(code).as_bytes());
            assert_eq!(failure.exit(), exit, "{code}");
            assert_eq!(failure.text(false), Some(format!("error: why ({code}: absent)")));
        }
        for (status, exit) in
            [(404, Exit::Failed), (302, Exit::Failed), (502, Exit::Unreachable), (403, Exit::Refused)]
        {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(failure_of(status, b"<html>").exit(), exit, "{status}");
        }
    }

    #[test]
    fn only_a_busy_service_is_waited_for() {
        let wait = |status: u16, after: Option<&str>| {
            let headers = after.map(|after| (RETRY_AFTER, HeaderValue::from_str(after).expect("a value")));
            wait_for(StatusCode::from_u16(status).expect("a status"), &headers.into_iter().collect())
        };
        assert_eq!(wait(503, Some("2")), Some(Duration::from_secs(2)));
        assert_eq!(wait(503, Some("86400")), Some(LONGEST_WAIT));
        for (status, after) in [(503, None), (503, Some("soon")), (429, Some("1")), (200, Some("1"))] {
            assert_eq!(wait(status, after), None, "{status} {after:?}");
        }
    }
}
