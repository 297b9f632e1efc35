//! Seals the credentials of sessions for stores, and opens them again.
//!
//! A store that keeps sessions as JSON has them written and read here; one that keeps them in another form seals
//! and opens the credentials alone. As JSON, a session is `{"sealed": "v1.<key id>.<data>", "session": …, "events": …}`,
//! with `sealed` only where there is something to hide. The data is base64 of a nonce, what AES-256-GCM makes of the
//! credentials, and the tag. Namespace and id are authenticated with them, so what is sealed for one session opens
//! in no other. The key id tells a wrong key from damaged data, and which of several keys opens what was sealed: there is
//! one that seals, and there may be older ones that only open.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::config::EncryptionKey;
use crate::domain::Namespace;
use crate::domain::session::{Event, Secrets, Session, SessionId, SessionRecord, put_back, take_secrets};

/// The only version of the format; also part of what is authenticated.
const FORMAT: &str = "v1";

/// What comes before the text that is sealed, in the stored JSON.
const OPENING: &[u8] = br#"{"sealed":""#;

/// Why what is stored cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// There is no key to open it.
    #[error("its credentials are sealed, and no key is configured (sessions.encryption_key)")]
    Closed,
    /// No session as JSON.
    #[error("a session is not readable: {0}")]
    Json(String),
    /// Sealed under a key that is not among the configured ones.
    #[error(
        "session {id} is sealed under the key {stored}, which is not configured; configured is {configured}"
    )]
    WrongKey {
        /// The session.
        id: SessionId,
        /// The id of the key that sealed it.
        stored: String,
        /// The ids of the keys that are configured.
        configured: String,
    },
    /// Not what was sealed here.
    #[error("the sealed part of session {id} is damaged")]
    Damaged {
        /// The session.
        id: SessionId,
    },
    /// The cipher refused to work.
    #[error("session {id} cannot be sealed")]
    Cipher {
        /// The session.
        id: SessionId,
    },
}

impl SealError {
    /// What a store says of it.
    pub(super) fn into_error(self, backend: &'static str) -> Error {
        let detail = self.to_string();
        match self {
            Self::WrongKey { .. } => Error::Sealed { backend, detail },
            _ => Error::Corrupt { backend, detail },
        }
    }
}

/// A record as it is written.
#[derive(Serialize)]
struct Written<'a> {
    // First, so that [`sealed_part`] finds it without parsing.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    session: &'a Session,
    events: &'a [Event],
}

/// A record as it is read.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    sealed: Option<String>,
    session: Session,
    #[serde(default)]
    events: Vec<Event>,
}

/// Turns sessions into what is stored, and back.
pub(super) struct Sealer {
    /// The key that seals.
    key: Option<Key>,
    /// Those before it, which only open.
    older: Vec<Key>,
    /// Whether it was said already that a session stays closed for want of a key.
    told: AtomicBool,
}

struct Key {
    cipher: RandomizedNonceKey,
    id: String,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("key_ids", &self.keys().map(|key| &key.id).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// With a key it seals; without one it writes credentials as they are, whatever older keys there are.
    pub(super) fn new(key: &EncryptionKey) -> Self {
        let keep = |bits: &[u8; 32]| Key {
            cipher: RandomizedNonceKey::new(&AES_256_GCM, bits).expect("the key has the cipher's length"),
            id: blake3::hash(bits).to_hex()[..16].to_owned(),
        };
        let older = if key.is_set() { key.older().iter().map(keep).collect() } else { Vec::new() };
        Self { key: key.expose().map(keep), older, told: AtomicBool::new(false) }
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.key.iter().chain(&self.older)
    }

    /// How a stored session stands to the key that seals: `sealed` is its sealed part, `session` what is beside it.
    pub(super) fn standing(&self, sealed: Option<&str>, session: &Session) -> Standing {
        let Some(key) = &self.key else { return Standing::Keyless };
        let is_whole = take_secrets(&mut session.clone()).is_empty();
        match sealed.map(key_id) {
            None if is_whole => Standing::Open,
            Some(Some(id)) if id == key.id && is_whole => Standing::Current,
            _ => Standing::Outdated,
        }
    }

    /// Whether there is no key, so that what others sealed stays closed.
    pub(super) const fn is_without_key(&self) -> bool {
        self.key.is_none()
    }

    /// The JSON to store.
    pub(super) fn write(&self, namespace: &Namespace, record: &SessionRecord) -> Result<Vec<u8>, SealError> {
        let SessionRecord { session, events } = record;
        let (session, sealed) = self.seal(namespace, session)?;
        serde_json::to_vec(&Written { sealed, session: &session, events })
            .map_err(|error| SealError::Json(error.to_string()))
    }

    /// The record in stored JSON. Without a key, a sealed session comes without its credentials.
    pub(super) fn read(&self, namespace: &Namespace, body: &[u8]) -> Result<SessionRecord, SealError> {
        let Stored { sealed, mut session, events } =
            serde_json::from_slice(body).map_err(|error| SealError::Json(error.to_string()))?;
        if let Some(sealed) = sealed {
            self.open(namespace, &mut session, &sealed)?;
        }
        Ok(SessionRecord { session, events })
    }

    /// What is stored of a session beside what is sealed of it.
    pub(super) fn beside(body: &[u8]) -> Result<Session, SealError> {
        let stored: Stored =
            serde_json::from_slice(body).map_err(|error| SealError::Json(error.to_string()))?;
        Ok(stored.session)
    }

    /// As [`Sealer::read`], for a copy that has to be whole.
    ///
    /// # Errors
    /// [`SealError::Closed`] too, where credentials stay sealed for want of a key.
    pub(super) fn read_whole(&self, namespace: &Namespace, body: &[u8]) -> Result<SessionRecord, SealError> {
        #[derive(Deserialize)]
        struct Sealed {
            sealed: Option<String>,
        }
        let probe: Sealed =
            serde_json::from_slice(body).map_err(|error| SealError::Json(error.to_string()))?;
        if self.key.is_none() && probe.sealed.is_some() {
            return Err(SealError::Closed);
        }
        self.read(namespace, body)
    }

    /// The session as it may be read by others, and its credentials sealed: none without a key, and where there
    /// is nothing to hide.
    pub(super) fn seal<'s>(
        &self,
        namespace: &Namespace,
        session: &'s Session,
    ) -> Result<(Cow<'s, Session>, Option<String>), SealError> {
        let Some(key) = &self.key else { return Ok((Cow::Borrowed(session), None)) };
        let mut public = session.clone();
        let secrets = take_secrets(&mut public);
        if secrets.is_empty() {
            return Ok((Cow::Borrowed(session), None));
        }
        let sealed = key.seal(namespace, &session.id, &secrets)?;
        Ok((Cow::Owned(public), Some(sealed)))
    }

    /// Puts sealed credentials back. Without a key they stay closed.
    pub(super) fn open(
        &self,
        namespace: &Namespace,
        session: &mut Session,
        sealed: &str,
    ) -> Result<(), SealError> {
        if self.key.is_none() {
            self.tell(&session.id);
            return Ok(());
        }
        let id = &session.id;
        let stored = key_id(sealed).ok_or_else(|| SealError::Damaged { id: id.clone() })?;
        let Some(key) = self.keys().find(|key| key.id == stored) else {
            let configured: Vec<&str> = self.keys().map(|key| &*key.id).collect();
            let (stored, configured) = (stored.to_owned(), configured.join(", "));
            return Err(SealError::WrongKey { id: id.clone(), stored, configured });
        };
        let secrets = key.open(namespace, id, sealed)?;
        // What was written while there was no key is newer than what had been sealed before.
        let newer = take_secrets(session);
        put_back(session, secrets);
        put_back(session, newer);
        Ok(())
    }

    /// Says once that a session stays closed.
    fn tell(&self, id: &SessionId) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                session = %id,
                "sealed sessions are served without their credentials: sessions.encryption_key is not configured"
            );
        }
    }
}

/// How a stored session stands to the key that seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is nothing to hide.
    Open,
    /// It is sealed under that key, and whole.
    Current,
    /// It is sealed under an older one, or its credentials were written while there was none.
    Outdated,
    /// There is no key.
    Keyless,
}

/// The id of the key that something is sealed under.
fn key_id(sealed: &str) -> Option<&str> {
    Some(sealed.strip_prefix(FORMAT)?.strip_prefix('.')?.split_once('.')?.0)
}

/// The sealed part of stored JSON.
pub(super) fn sealed_part(body: &[u8]) -> Option<&[u8]> {
    let rest = body.strip_prefix(OPENING)?;
    Some(&rest[..memchr::memchr(b'"', rest)?])
}

/// `body`, written without a key, with a sealed part that must not get lost.
pub(super) fn with_sealed_part(body: &[u8], sealed: &[u8]) -> Vec<u8> {
    let members = body.strip_prefix(b"{").unwrap_or(body);
    [OPENING, sealed, b"\",", members].concat()
}

/// What is authenticated with the credentials. Neither name can contain a zero byte.
fn context(namespace: &Namespace, id: &SessionId) -> Vec<u8> {
    ["crawlcache session", FORMAT, namespace.as_str(), id.as_str()].join("\0").into_bytes()
}

impl Key {
    fn seal(&self, namespace: &Namespace, id: &SessionId, secrets: &Secrets) -> Result<String, SealError> {
        let refused = || SealError::Cipher { id: id.clone() };
        let mut data = serde_json::to_vec(secrets).map_err(|_| refused())?;
        let nonce = self
            .cipher
            .seal_in_place_append_tag(Aad::from(context(namespace, id)), &mut data)
            .map_err(|_| refused())?;
        let data = URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &data].concat());
        Ok(format!("{FORMAT}.{}.{data}", self.id))
    }

    fn open(&self, namespace: &Namespace, id: &SessionId, sealed: &str) -> Result<Secrets, SealError> {
        let damaged = || SealError::Damaged { id: id.clone() };
        let (_, data) = sealed.rsplit_once('.').ok_or_else(damaged)?;
        let mut data = URL_SAFE_NO_PAD.decode(data).map_err(|_| damaged())?;
        let (nonce, data) = data.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let open = self
            .cipher
            .open_in_place(nonce, Aad::from(context(namespace, id)), data)
            .map_err(|_| damaged())?;
        serde_json::from_slice(open).map_err(|_| damaged())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::OlderKeys;
    use crate::domain::session::change::{Stamp, create};
    use crate::domain::session::{Limits, redact};
    use crate::domain::{Timestamp, Version};

    fn key(digits: &str) -> Sealer {
        Sealer::new(&EncryptionKey::from_hex(&digits.repeat(32)).expect("64 digits"))
    }

    fn keyless() -> Sealer {
        Sealer::new(&EncryptionKey::default())
    }

    fn record() -> SessionRecord {
        let body = json!({
            "signing_key": "hunter2", "connect_url": "ws://10.0.0.1?signingKey=hunter2",
            "model_config": {"model": "m", "api_key": "hunter2"}, "state": {"n": 1},
        });
        let stamp = Stamp { now: Timestamp::from_secs(1_768_473_000), version: Version::from_u64(7) };
        create(SessionId::from_random(1), body, stamp, &Limits::default()).expect("valid")
    }

    fn home() -> Namespace {
        Namespace::default()
    }

    fn contains(body: &[u8], text: &str) -> bool {
        memchr::memmem::find(body, text.as_bytes()).is_some()
    }

    #[test]
    fn what_is_sealed_is_hidden_and_comes_back() {
        let body = key("0a").write(&home(), &record()).expect("seals");
        assert!(!contains(&body, "hunter2") && contains(&body, "\"model\":\"m\""));
        assert_eq!(key("0a").read(&home(), &body), Ok(record()));
        assert_ne!(key("0a").write(&home(), &record()).expect("seals"), body, "a nonce is never used twice");
    }

    #[test]
    fn nothing_to_hide_and_no_key_leave_the_plain_form() {
        let plain = serde_json::to_vec(&record()).expect("JSON");
        assert_eq!(keyless().write(&home(), &record()), Ok(plain.clone()));
        assert_eq!(key("0a").read(&home(), &plain), Ok(record()), "written before there was a key");
        let mut open = record();
        redact(&mut open.session);
        assert_eq!(key("0a").write(&home(), &open), Ok(serde_json::to_vec(&open).expect("JSON")));
    }

    #[test]
    fn a_wrong_key_is_told_from_damage() {
        let body = key("0a").write(&home(), &record()).expect("seals");
        let refused = key("0b").read(&home(), &body).unwrap_err();
        let told = refused.to_string();
        assert!(matches!(refused, SealError::WrongKey { .. }) && !told.contains("hunter2"), "{told}");
        let sealed = sealed_part(&body).expect("sealed").to_vec();
        for at in [0, 25, sealed.len() - 1] {
            let mut other = sealed.clone();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let bare = serde_json::to_vec(&record()).expect("JSON");
            let read = key("0a").read(&home(), &with_sealed_part(&bare, &other));
            assert_eq!(read, Err(SealError::Damaged { id: SessionId::from_random(1) }), "{at}");
        }
    }

    #[test]
    fn older_keys_open_and_only_the_current_one_seals() {
        let before = key("0a").write(&home(), &record()).expect("seals");
        let keys = |current: &str, older: &[&str]| {
            let older: Vec<String> = older.iter().map(|digits| digits.repeat(32)).collect();
            let current = EncryptionKey::from_hex(&current.repeat(32)).expect("64 digits or none");
            Sealer::new(&current.with_older(&OlderKeys::from_hex(&older).expect("keys")))
        };
        let standing = |sealer: &Sealer, body: &[u8]| {
            let stored: Stored = serde_json::from_slice(body).expect("JSON");
            sealer.standing(stored.sealed.as_deref(), &stored.session)
        };
        let both = keys("0b", &["0c", "0a"]);
        assert_eq!(both.read(&home(), &before), Ok(record()));
        assert_eq!(standing(&both, &before), Standing::Outdated);
        let after = both.write(&home(), &record()).expect("seals");
        assert_eq!(
            (key("0b").read(&home(), &after), standing(&both, &after)),
            (Ok(record()), Standing::Current)
        );
        assert!(matches!(key("0a").read(&home(), &after), Err(SealError::WrongKey { .. })));
        let plain = keyless().write(&home(), &record()).expect("JSON");
        assert_eq!(standing(&both, &plain), Standing::Outdated, "credentials from before there was a key");
        let mut open = record();
        redact(&mut open.session);
        assert_eq!(standing(&both, &both.write(&home(), &open).expect("JSON")), Standing::Open);
        // Without a current key nothing is opened: what is sealed must not be written in the clear.
        let closed = keys("", &["0a"]);
        assert_eq!((closed.read(&home(), &before), closed.is_without_key()), (Ok(open), true));
        assert_eq!(standing(&closed, &before), Standing::Keyless);
    }

    #[test]
    fn it_opens_only_where_it_was_sealed() {
        let body = key("0a").write(&home(), &record()).expect("seals");
        let elsewhere = Namespace::new("elsewhere").expect("a name");
        assert!(matches!(key("0a").read(&elsewhere, &body), Err(SealError::Damaged { .. })));
        let text = String::from_utf8(body).expect("JSON").replace("sess_00000001", "sess_00000002");
        assert!(matches!(key("0a").read(&home(), text.as_bytes()), Err(SealError::Damaged { .. })));
    }

    #[test]
    fn without_the_key_everything_else_is_read_and_nothing_is_lost() {
        let body = key("0a").write(&home(), &record()).expect("seals");
        let mut read = keyless().read(&home(), &body).expect("readable");
        let mut open = record();
        redact(&mut open.session);
        assert_eq!(read, open);
        read.session.signing_key = Some("newer".to_owned());
        let written = keyless().write(&home(), &read).expect("JSON");
        let kept = with_sealed_part(&written, sealed_part(&body).expect("sealed"));
        assert_eq!(sealed_part(&kept), sealed_part(&body));
        let mut wanted = record();
        wanted.session.signing_key = Some("newer".to_owned());
        assert_eq!(key("0a").read(&home(), &kept), Ok(wanted));
    }
}
