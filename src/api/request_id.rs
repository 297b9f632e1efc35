//! Request ids: the caller's, if it is fit to be logged, or one of our own.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::header_text::HeaderText;

/// The header that carries a request's id both ways.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a caller.
const MAX_BYTES: usize = 128;

/// Hands out ids: a random part for the process and a number for the request.
#[derive(Debug)]
pub(super) struct RequestIds {
    /// Eight hexadecimal digits.
    process: [u8; 8],
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let mut process = [0; 8];
        // Without randomness ids of two processes might meet in one log, which is no reason not to start.
        let _ = getrandom::fill(&mut process);
        Self {
            process: process.map(|byte| b"0123456789abcdef"[usize::from(byte & 15)]),
            next: AtomicU64::new(1),
        }
    }

    /// The id for a request.
    pub(super) fn id_for(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(given) = headers.get(REQUEST_ID) {
            let bytes = given.as_bytes();
            if !bytes.is_empty() && bytes.len() <= MAX_BYTES && bytes.iter().all(u8::is_ascii_graphic) {
                return given.clone();
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = HeaderText::new();
        id.push(&self.process);
        id.push(b"-");
        id.push_hex(number);
        id.value("unknown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_over_what_can_be_logged_and_nothing_else() {
        let ids = RequestIds::new();
        let id = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).expect("a header value"));
            ids.id_for(&headers)
        };
        assert_eq!(id(b"trace-1"), "trace-1");
        for unfit in [&b""[..], b"two words", b"caf\xe9", &[b'x'; 129]] {
            assert_ne!(id(unfit).as_bytes(), unfit);
        }
        assert_ne!(ids.id_for(&HeaderMap::new()), ids.id_for(&HeaderMap::new()));
    }
}
