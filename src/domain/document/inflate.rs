//! Undoes the content coding of an uploaded body, never beyond a limit.

use std::io::{Cursor, Read};

use bytes::Bytes;

use super::DocumentError;

/// The largest window a body may ask for: 8 MiB, as RFC 9659 has it.
const MAX_WINDOW_LOG: u32 = 23;

/// The content coding of a body (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Coding {
    /// As it is.
    #[default]
    Identity,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// The token in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// An uploaded body that can be decoded more than once.
#[derive(Clone, Debug)]
pub struct Inflate {
    /// The body as it came.
    pub body: Bytes,
    /// Its coding.
    pub coding: Coding,
    /// The most bytes it may decode to.
    pub limit: u64,
}

impl Inflate {
    /// The decoded body, unless it is longer than `most` bytes: then `None`, and nothing is kept.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`] beyond the limit, [`DocumentError::BadCoding`] for a broken body.
    pub fn read_whole(&self, most: u64) -> Result<Option<Bytes>, DocumentError> {
        if self.coding == Coding::Identity {
            self.check_length(self.body.len() as u64)?;
            return Ok((self.body.len() as u64 <= most).then(|| self.body.clone()));
        }
        let mut raw = Vec::with_capacity(self.body.len().saturating_mul(4).min(1 << 20));
        self.open()?.take(most + 1).read_to_end(&mut raw).map_err(|error| self.broken(&error))?;
        self.check_length(raw.len() as u64)?;
        Ok((raw.len() as u64 <= most).then(|| raw.into()))
    }

    /// A reader of the decoded body from its start. Reading past the limit is up to the caller to stop.
    ///
    /// # Errors
    /// [`DocumentError::BadCoding`] when no decoder can be made.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, DocumentError> {
        let source = Cursor::new(self.body.clone());
        Ok(match self.coding {
            Coding::Identity => Box::new(source),
            Coding::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(source).map_err(|error| self.broken(&error))?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(|error| self.broken(&error))?;
                Box::new(decoder)
            }
            Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        })
    }

    /// The error for a decoder's complaint.
    pub(super) fn broken(&self, error: &std::io::Error) -> DocumentError {
        DocumentError::BadCoding { coding: self.coding.as_str(), detail: error.to_string() }
    }

    /// Refuses a decoded length beyond the limit.
    pub(super) fn check_length(&self, length: u64) -> Result<(), DocumentError> {
        if length > self.limit { Err(DocumentError::TooLarge { limit: self.limit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate(body: impl Into<Bytes>, coding: Coding, limit: u64) -> Result<Option<Bytes>, DocumentError> {
        Inflate { body: body.into(), coding, limit }.read_whole(limit)
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = zstd::bulk::compress(&vec![b' '; 10 << 20], 3).expect("compresses");
        assert_eq!(inflate(bomb, Coding::Zstd, 1 << 20), Err(DocumentError::TooLarge { limit: 1 << 20 }));
    }

    #[test]
    fn truncated_and_foreign_bytes_are_refused() {
        let whole = zstd::bulk::compress(br#"{"a":"some text that is long enough"}"#, 3).expect("compresses");
        for cut in 1..whole.len() {
            let result = inflate(whole[..cut].to_vec(), Coding::Zstd, 1000);
            assert!(
                matches!(result, Err(DocumentError::BadCoding { coding: "zstd", .. })),
                "cut at {cut}: {result:?}"
            );
        }
        assert!(matches!(
            inflate("{}", Coding::Gzip, 1000),
            Err(DocumentError::BadCoding { coding: "gzip", .. })
        ));
    }
}
