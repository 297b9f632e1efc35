//! The environment as configuration: which variables stand for keys, which for something else.

use std::ffi::{OsStr, OsString};

/// What every variable of this program begins with.
pub(super) const PREFIX: &str = "CRAWLCACHE_";

/// Names the configuration file.
pub(super) const CONFIG_FILE: &str = "CRAWLCACHE_CONFIG";

/// Variables that the command line reads; none of them is a key.
const RESERVED: [&str; 3] = [CONFIG_FILE, "CRAWLCACHE_TOKEN", "CRAWLCACHE_URL"];

/// The environment of this process, for [`super::load()`] and for the command line's own variables.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn process_environment() -> impl Iterator<Item = (OsString, OsString)> {
    // Not `vars`, which panics when any variable of the process, ours or not, is not Unicode.
    std::env::vars_os()
}

/// The path of the key that a variable stands for, known or not; `None` when it stands for no key.
pub(super) fn key_path(name: &str, value: &OsStr) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    if RESERVED.contains(&name) || is_service_link(name, value) {
        return None;
    }
    Some(rest.replacen("__", ".", 1).to_ascii_lowercase())
}

/// The variable that stands for the key of that path.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replacen('.', "__", 1).to_ascii_uppercase())
}

/// Whether it is one of the variables that Kubernetes sets in every pod for a service that is named after this
/// program: `CRAWLCACHE_SERVICE_HOST`, `CRAWLCACHE_PORT`, `CRAWLCACHE_PORT_8080_TCP_ADDR` and so on.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let port_number =
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()));
    // A bare CRAWLCACHE_PORT=8080 is someone's wish, and a mistake.
    let is_url = || value.to_str().is_some_and(|value| value.contains("://"));
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || (name.ends_with("_PORT") && is_url())
            || port_number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_each_others_inverse() {
        assert_eq!(variable("limits.body_bytes"), "CRAWLCACHE_LIMITS__BODY_BYTES");
        assert_eq!(
            key_path("CRAWLCACHE_LIMITS__BODY_BYTES", OsStr::new("1")).as_deref(),
            Some("limits.body_bytes")
        );
    }

    #[test]
    fn other_variables_stand_for_no_key() {
        for name in [
            "PATH",
            "CRAWLCACHE_CONFIG",
            "CRAWLCACHE_TOKEN",
            "CRAWLCACHE_URL",
            "CRAWLCACHE_PORT",
            "CRAWLCACHE_SERVICE_HOST",
            "CRAWLCACHE_SERVICE_PORT_HTTP",
            "CRAWLCACHE_PORT_8080_TCP_ADDR",
            "CRAWLCACHE_METRICS_PORT_9090_TCP",
        ] {
            assert_eq!(key_path(name, OsStr::new("tcp://10.0.0.1:80")), None, "{name}");
        }
        for name in ["CRAWLCACHE_", "CRAWLCACHE_LISTEN", "CRAWLCACHE_PORT", "CRAWLCACHE_X__PORT"] {
            assert!(key_path(name, OsStr::new("8080")).is_some(), "{name}");
        }
    }
}
