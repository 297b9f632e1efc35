//! What can be done about what AWS said.

use crate::store::Error;
use crate::store::dynamodb::S3;

/// A sentence for whoever runs the service; `action` is what was tried on `target`.
pub(super) fn remedy(error: &Error, action: &str, target: &str) -> String {
    if error.backend() == Some(S3) {
        return match error {
            Error::Throttled { .. } => {
                "try again: S3 slows requests down while it shares out a busy prefix".to_owned()
            }
            _ => general(error, action, target).replace("dynamodb.", "s3."),
        };
    }
    general(error, action, target)
}

fn general(error: &Error, action: &str, target: &str) -> String {
    match error {
        Error::Credentials { detail, .. } => credentials(detail).to_owned(),
        Error::AccessDenied { .. } => {
            format!("allow `{action}` on {target} in the policy of these credentials")
        }
        Error::ClockSkew { .. } => {
            "set the clock of this host by NTP, such as `timedatectl set-ntp true` or chrony".to_owned()
        }
        Error::Unavailable { detail, .. } => unreachable(detail).to_owned(),
        Error::Timeout { .. } => {
            "nothing answers in time: look for a firewall, security group or missing route, or raise \
             dynamodb.attempt_millis"
                .to_owned()
        }
        Error::Throttled { .. } => {
            "bill the table on demand or give it more capacity; raise dynamodb.max_retries for short peaks"
                .to_owned()
        }
        Error::MissingBucket { .. } => {
            format!("make the bucket {target} in the region of s3.region, or name another with s3.bucket")
        }
        Error::MissingTable { .. } => "make the tables with `crawlcache tables create`".to_owned(),
        Error::WrongSchema { .. } => "see `crawlcache tables check`".to_owned(),
        _ => format!("see what the service says about `{action}`"),
    }
}

fn credentials(detail: &str) -> &'static str {
    let says = |words: &str| detail.contains(words);
    if says("Expired") || says("expired") {
        "the credentials are expired: log in again (`aws sso login`), or renew AWS_ACCESS_KEY_ID, \
         AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN together"
    } else if says("InvalidSignature") || says("SignatureDoesNotMatch") {
        "the secret does not belong to the key: check AWS_SECRET_ACCESS_KEY for cut or added characters"
    } else if says("UnrecognizedClient") || says("InvalidClientTokenId") || says("InvalidAccessKeyId") {
        "AWS does not know this key: check AWS_ACCESS_KEY_ID, and AWS_SESSION_TOKEN where the key is temporary"
    } else {
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine or task a role"
    }
}

fn unreachable(detail: &str) -> &'static str {
    let detail = detail.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    if says(&["dns error", "failed to lookup", "name or service not known", "no such host"]) {
        "the name of the host is not known: check dynamodb.endpoint or dynamodb.region, and DNS"
    } else if says(&["connection refused"]) {
        "nothing listens there: start it, or correct dynamodb.endpoint (host and port)"
    } else if says(&["certificate", "handshake", "tls", "invalidcontenttype", "corrupt message"]) {
        "TLS fails: check http against https in dynamodb.endpoint, the certificates of this host, and its clock"
    } else if says(&["unreachable", "no route"]) {
        "no route leads there: check the network of this host"
    } else {
        "try again; if it stays so, see the health page of the service"
    }
}

/// In one or two words, what kind of trouble it is.
pub(super) fn condition(error: &Error) -> String {
    let Error::Unavailable { detail, .. } = error else { return error.reason().replace('_', " ") };
    let of = unreachable(detail);
    let words = [
        ("name of the host", "DNS"),
        ("nothing listens", "refused"),
        ("TLS", "TLS"),
        ("no route", "no route"),
    ];
    let found = words.iter().find(|(start, _)| of.contains(start));
    found.map_or("unavailable", |(_, word)| word).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_condition_has_its_remedy() {
        let backend = "dynamodb";
        let credentials = |detail: &str| Error::Credentials { backend, detail: detail.to_owned() };
        let unavailable = |detail: &str| Error::Unavailable { backend, detail: detail.to_owned() };
        for (error, part) in [
            (credentials("ExpiredTokenException: The security token is expired"), "aws sso login"),
            (credentials("InvalidSignatureException: does not match"), "AWS_SECRET_ACCESS_KEY"),
            (credentials("no providers in chain provided credentials"), "AWS_PROFILE"),
            (Error::AccessDenied { backend, detail: String::new() }, "dynamodb:PutItem` on pages"),
            (unavailable("dispatch failure: dns error: failed to lookup address"), "DNS"),
            (unavailable("tcp connect error: Connection refused (os error 111)"), "dynamodb.endpoint"),
            (unavailable("invalid peer certificate: UnknownIssuer"), "TLS"),
            (Error::Timeout { backend, detail: String::new() }, "firewall"),
            (Error::ClockSkew { backend, detail: String::new() }, "NTP"),
            (Error::Throttled { backend, detail: String::new() }, "on demand"),
            (Error::MissingTable { backend, detail: String::new() }, "crawlcache tables create"),
            (Error::MissingBucket { backend: "s3", detail: String::new() }, "s3.bucket"),
        ] {
            let text = remedy(&error, "dynamodb:PutItem", "pages");
            assert!(text.contains(part), "{error}: {text}");
        }
        let refused = Error::Unavailable { backend: "s3", detail: "Connection refused".to_owned() };
        let text = remedy(&refused, "s3:GetObject", "pages");
        assert!(text.contains("s3.endpoint") && !text.contains("dynamodb"), "{text}");
        assert_eq!(condition(&unavailable("Connection refused")), "refused");
        assert_eq!(condition(&credentials("")), "credentials");
    }
}
