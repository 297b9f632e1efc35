//! The life of sessions: each client has one at a time.

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::Failure;
use crate::requests::{Asked, json};

/// How long a session lives that nobody deletes.
const TTL_SECONDS: u32 = 60;

/// A client's session: created, changed, touched, read, and then deleted or, every other time, left to expire.
#[derive(Default)]
pub(crate) struct Visit {
    path: Option<String>,
    steps: u32,
    sessions: u32,
}

impl Visit {
    /// The next step.
    pub(crate) fn next(&mut self) -> Result<Asked, Failure> {
        let Some(path) = &self.path else {
            let body =
                json!({ "project_id": "bench", "ttl_seconds": TTL_SECONDS, "user_metadata": { "step": 0 } });
            let request = json("POST", "/v1/sessions", body.to_string().into())?;
            return Ok(Asked { request, expected: &[StatusCode::CREATED] });
        };
        self.steps += 1;
        let (method, path, body, expected): (_, _, _, &[StatusCode]) = match self.steps {
            1 => {
                let body = json!({ "user_metadata": { "step": 1, "note": "what a crawler keeps" } });
                ("PATCH", path.clone(), body.to_string(), &[StatusCode::OK])
            }
            2 => ("POST", format!("{path}/touch"), "{}".to_owned(), &[StatusCode::OK]),
            3 => ("GET", path.clone(), String::new(), &[StatusCode::OK]),
            _ => ("DELETE", path.clone(), String::new(), &[StatusCode::NO_CONTENT]),
        };
        let request = json(method, &path, Bytes::from(body))?;
        let leave = self.steps == 3 && self.sessions.is_multiple_of(2);
        if leave || self.steps > 3 {
            *self = Self { sessions: self.sessions + 1, ..Self::default() };
        }
        Ok(Asked { request, expected })
    }

    /// Notes where a session is that was created.
    pub(crate) fn learn(&mut self, headers: &HeaderMap) {
        if let Some(location) = headers.get(LOCATION).and_then(|location| location.to_str().ok()) {
            self.path = Some(location.to_owned());
        }
    }
}
