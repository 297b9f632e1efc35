//! Which parts of a session are credentials, and how to hide them or take them out for sealing.
//!
//! They are `signing_key`, `connect_url` (it carries the key), every member of `model_config`, at any depth, whose
//! name ends like a credential's, and unknown attributes that are the first two in another spelling
//! (`signingKey`). What a client keeps in `state`, `user_metadata` or events is its own and is not looked into.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Session;

/// How the name of a credential ends, in lower case and without `_` and `-`.
const SUFFIXES: [&str; 4] = ["apikey", "secret", "token", "password"];

/// The credentials of one session, each under the JSON pointer (RFC 6901) of its place in the session.
///
/// Serialises as one JSON object, to be sealed. `Debug` shows places, no values.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(Map<String, Value>);

impl Secrets {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON pointer of each.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.paths()).finish()
    }
}

/// Removes the credentials.
pub fn redact(session: &mut Session) {
    drop(take_secrets(session));
}

/// Removes the credentials and returns them.
pub fn take_secrets(session: &mut Session) -> Secrets {
    let mut taken = Map::new();
    if let Some(url) = session.connect_url.take() {
        taken.insert("/connect_url".to_owned(), Value::String(url));
    }
    if let Some(key) = session.signing_key.take() {
        taken.insert("/signing_key".to_owned(), Value::String(key));
    }
    take_members(&mut session.extra, "", &mut taken, is_alias);
    take_nested(&mut session.model_config, "/model_config", &mut taken);
    Secrets(taken)
}

/// Puts back what [`take_secrets`] took. A credential whose place is gone, because the object that held it was
/// removed meanwhile, is dropped.
pub fn put_back(session: &mut Session, secrets: Secrets) {
    let mut config = Value::Object(std::mem::take(&mut session.model_config));
    for (path, value) in secrets.0 {
        match (path.as_str(), value) {
            ("/connect_url", Value::String(url)) => session.connect_url = Some(url),
            ("/signing_key", Value::String(key)) => session.signing_key = Some(key),
            (path, value) => match path.strip_prefix("/model_config") {
                Some(inner) if inner.starts_with('/') => {
                    if let Some((members, name)) = place(&mut config, inner) {
                        members.insert(name, value);
                    }
                }
                _ => {
                    session.extra.insert(unescape(path.trim_start_matches('/')), value);
                }
            },
        }
    }
    if let Value::Object(config) = config {
        session.model_config = config;
    }
}

/// Adds to `body`, a replacement for `current`, the credentials that it lacks.
///
/// For clients that may not see credentials: what they read, changed and sent back would otherwise erase them.
/// A credential inside an object that the body leaves out goes with that object.
pub fn keep_unseen(current: &Session, body: &mut Value) {
    let Secrets(secrets) = take_secrets(&mut current.clone());
    for (path, value) in secrets {
        if let Some((members, name)) = place(body, &path) {
            members.entry(name).or_insert(value);
        }
    }
}

/// The object that holds, or would hold, what `path` points to, and the member's name.
fn place<'a>(root: &'a mut Value, path: &str) -> Option<(&'a mut Map<String, Value>, String)> {
    let (parent, name) = path.rsplit_once('/')?;
    Some((root.pointer_mut(parent)?.as_object_mut()?, unescape(name)))
}

/// Takes credentials out of `members` and of all objects within.
fn take_nested(members: &mut Map<String, Value>, path: &str, taken: &mut Map<String, Value>) {
    take_members(members, path, taken, is_credential);
    for (name, value) in members {
        descend(value, &format!("{path}/{}", escape(name)), taken);
    }
}

fn descend(value: &mut Value, path: &str, taken: &mut Map<String, Value>) {
    match value {
        Value::Object(members) => take_nested(members, path, taken),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                descend(item, &format!("{path}/{index}"), taken);
            }
        }
        _ => {}
    }
}

/// Takes the members out whose plain name is `wanted`.
fn take_members(
    members: &mut Map<String, Value>,
    path: &str,
    taken: &mut Map<String, Value>,
    wanted: fn(&str) -> bool,
) {
    let names: Vec<String> = members.keys().filter(|name| wanted(&plain(name))).cloned().collect();
    for name in names {
        if let Some(value) = members.remove(&name) {
            taken.insert(format!("{path}/{}", escape(&name)), value);
        }
    }
}

/// A name in lower case, without `_` and `-`.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_credential(plain: &str) -> bool {
    SUFFIXES.iter().any(|suffix| plain.ends_with(suffix))
}

fn is_alias(plain: &str) -> bool {
    matches!(plain, "signingkey" | "connecturl")
}

/// A name as a JSON pointer has it.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescape(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::session::change::{Stamp, create, replace};
    use crate::domain::session::{Limits, SessionId};
    use crate::domain::time::{Timestamp, Version};

    const STAMP: Stamp = Stamp { now: Timestamp::from_secs(1_768_473_000), version: Version::from_u64(1) };

    fn body() -> Value {
        json!({
            "signing_key": "K1", "connect_url": "ws://10.0.0.1:9223?signingKey=K1", "signingKey": "K1",
            "model_config": {
                "model_name": "gpt-4", "modelAPIKey": "K2", "model-api-key": "K2", "CLIENT_SECRET": {"v": "K2"},
                "max_tokens": 100, "token_limit": 5,
                "fallback": [{"name": "b", "password": "K2"}, {"a/b~c": {"access_token": "K2"}}],
            },
            "user_metadata": {"password": "mine"}, "state": {"token": "mine"},
        })
    }

    fn session() -> Session {
        create(SessionId::from_random(1), body(), STAMP, &Limits::default()).expect("complete").session
    }

    #[test]
    fn finds_every_credential_and_nothing_else() {
        let mut session = session();
        let secrets = take_secrets(&mut session);
        let mut paths: Vec<&str> = secrets.paths().collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/connect_url",
                "/model_config/CLIENT_SECRET",
                "/model_config/fallback/0/password",
                "/model_config/fallback/1/a~1b~0c/access_token",
                "/model_config/model-api-key",
                "/model_config/modelAPIKey",
                "/signingKey",
                "/signing_key",
            ]
        );
        let left = serde_json::to_string(&session).expect("JSON");
        assert!(!left.contains("K1") && !left.contains("K2"), "{left}");
        for kept in ["gpt-4", "max_tokens", "token_limit", "mine"] {
            assert!(left.contains(kept), "{kept}");
        }
        let shown = format!("{secrets:?}");
        assert!(shown.contains("/signing_key") && !shown.contains("K1") && !shown.contains("K2"), "{shown}");
    }

    #[test]
    fn goes_through_storage_and_back() {
        let original = session();
        let mut open = original.clone();
        let sealed = serde_json::to_string(&take_secrets(&mut open)).expect("JSON");
        put_back(&mut open, serde_json::from_str(&sealed).expect("JSON"));
        assert_eq!(open, original);
        assert!(open.signing_key.is_some());
    }

    #[test]
    fn redacting_twice_changes_nothing_more() {
        let mut session = session();
        redact(&mut session);
        let once = session.clone();
        assert!(take_secrets(&mut session).is_empty());
        assert_eq!(session, once);
    }

    #[test]
    fn a_place_that_is_gone_is_no_error() {
        let mut session = session();
        let secrets = take_secrets(&mut session);
        session.model_config = Map::new();
        put_back(&mut session, secrets);
        assert_eq!(session.signing_key.as_deref(), Some("K1"));
        let mut names: Vec<&String> = session.model_config.keys().collect();
        names.sort_unstable();
        assert_eq!(names, ["CLIENT_SECRET", "model-api-key", "modelAPIKey"]);
    }

    #[test]
    fn sending_back_a_redacted_session_erases_nothing() {
        let record = create(SessionId::from_random(1), body(), STAMP, &Limits::default()).expect("complete");
        let mut read = record.session.clone();
        redact(&mut read);
        let mut echo = serde_json::to_value(&read).expect("JSON");
        echo["model_config"]["model_name"] = json!("gpt-5");
        keep_unseen(&record.session, &mut echo);
        let next =
            replace(Some(&record), &record.session.id, echo, STAMP, &Limits::default()).expect("valid");
        let mut wanted = record.session.clone();
        wanted.model_config.insert("model_name".to_owned(), json!("gpt-5"));
        assert_eq!(next.session, wanted);
    }

    #[test]
    fn a_new_credential_wins_over_the_unseen_one() {
        let mut body = json!({"signing_key": "new", "model_config": null});
        keep_unseen(&session(), &mut body);
        assert_eq!(body["signing_key"], json!("new"));
        assert_eq!(body["connect_url"], json!("ws://10.0.0.1:9223?signingKey=K1"));
        assert_eq!(body["model_config"], json!(null));
    }
}
