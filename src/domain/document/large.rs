//! Encodes documents that are too large to hold decoded: several passes over a source that can be reopened.
//!
//! The first pass checks the JSON, the second finds where the top-level fields lie, and each large field is
//! then compressed in a pass of its own. Crawl results of 97 MB that compress several hundredfold are real:
//! decoding one a dozen times costs time, but only the decoder's window of memory.

use std::io::{BufReader, Read};

use super::encode::{Encoded, FrameWriter};
use super::inflate::Inflate;
use super::split::{Facts, check_names, is_blank, order};
use super::{DocumentError, HEAD_VALUE_BYTES, MAX_FIELDS, MAX_NAME_BYTES};

/// How much is read at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// A quoted name that is longer than this is too long however it is escaped: `\u0061` is one byte.
const MAX_QUOTED_BYTES: usize = 6 * MAX_NAME_BYTES + 2;

/// A field that facts come from is captured up to this size.
const MAX_FACT_BYTES: u64 = 64 << 10;

/// Encodes a document of any size in bounded memory.
///
/// # Errors
/// As [`super::encode()`], and what the content coding adds.
pub fn encode_large(source: &Inflate, level: i32) -> Result<Encoded, DocumentError> {
    check_json(source)?;
    let fields = find_fields(source)?;
    check_names(fields.iter().map(|field| field.name.as_str()))?;
    let order = order(fields.iter().map(|field| (field.name.as_str(), field.length())));
    let mut facts = Facts::default();
    for field in &fields {
        if let Some(value) = &field.captured {
            facts.note(&field.name, value);
        }
    }
    let raw_size = fields.last().map_or(0, |field| field.end);
    let (frame, layout, etag) = FrameWriter::with(level, raw_size, |writer| {
        for &index in &order.head {
            let field = &fields[index];
            let value =
                field.captured.as_deref().ok_or(DocumentError::Corrupt("a small field was not captured"))?;
            writer.member(&field.name, field.length(), is_blank(value))?;
            writer.write(value.as_bytes())?;
        }
        writer.end_segment()?;
        for &index in &order.large {
            let field = &fields[index];
            writer.member(&field.name, field.length(), false)?;
            for_each_chunk(source, Some(field.start..field.end), |chunk| writer.write(chunk))?;
            writer.end_segment()?;
        }
        Ok(())
    })?;
    Ok(Encoded { frame, layout, etag, facts })
}

/// A top-level field of the source.
struct Found {
    name: String,
    start: u64,
    end: u64,
    /// The value's text, where it is small or facts come from it.
    captured: Option<String>,
}

impl Found {
    fn length(&self) -> u64 {
        self.end - self.start
    }
}

fn check_json(source: &Inflate) -> Result<(), DocumentError> {
    let reader = Limited { inner: source.open()?, left: source.limit.saturating_add(1) };
    let checked: Result<serde::de::IgnoredAny, _> =
        serde_json::from_reader(BufReader::with_capacity(CHUNK_BYTES, reader));
    match checked {
        Ok(_) => Ok(()),
        Err(error) if error.is_io() => match error.io_error_kind() {
            Some(std::io::ErrorKind::FileTooLarge) => Err(DocumentError::TooLarge { limit: source.limit }),
            _ => Err(source.broken(&error.into())),
        },
        Err(error) => Err(DocumentError::Syntax(error.to_string())),
    }
}

/// Fails with `FileTooLarge` once more than `left` bytes have been read.
struct Limited {
    inner: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(read as u64);
        if self.left == 0 { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(read) }
    }
}

/// Calls `each` with the decoded bytes of `range`, or with all of them.
fn for_each_chunk(
    source: &Inflate,
    range: Option<std::ops::Range<u64>>,
    mut each: impl FnMut(&[u8]) -> Result<(), DocumentError>,
) -> Result<(), DocumentError> {
    let range = range.unwrap_or(0..u64::MAX);
    let mut reader = source.open()?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut position = 0_u64;
    while position < range.end {
        let read = reader.read(&mut buffer).map_err(|error| source.broken(&error))?;
        if read == 0 {
            break;
        }
        let from = range.start.saturating_sub(position).min(read as u64);
        let to = (range.end - position).min(read as u64);
        if from < to {
            // Both are at most `read`, which is a usize.
            each(&buffer[usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(read)])?;
        }
        position += read as u64;
    }
    Ok(())
}

/// Finds the top-level fields. The source is known to be JSON; that it is UTF-8 and an object is checked here.
fn find_fields(source: &Inflate) -> Result<Vec<Found>, DocumentError> {
    let mut scanner = Scanner::default();
    let mut utf8 = Utf8Check::default();
    for_each_chunk(source, None, |chunk| {
        utf8.feed(chunk)?;
        scanner.feed(chunk)
    })?;
    utf8.finish()?;
    Ok(scanner.fields)
}

#[derive(Default)]
struct Utf8Check {
    /// The start of a character that the last chunk cut off.
    carried: Vec<u8>,
}

impl Utf8Check {
    fn feed(&mut self, chunk: &[u8]) -> Result<(), DocumentError> {
        let mut chunk = chunk;
        while !self.carried.is_empty() {
            let Some((&byte, rest)) = chunk.split_first() else { return Ok(()) };
            self.carried.push(byte);
            chunk = rest;
            match std::str::from_utf8(&self.carried) {
                Ok(_) => self.carried.clear(),
                Err(error) if error.error_len().is_some() => return Err(not_utf8()),
                Err(_) => {}
            }
        }
        match std::str::from_utf8(chunk) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(not_utf8()),
            Err(error) => {
                self.carried.extend_from_slice(&chunk[error.valid_up_to()..]);
                Ok(())
            }
        }
    }

    fn finish(&self) -> Result<(), DocumentError> {
        if self.carried.is_empty() { Ok(()) } else { Err(not_utf8()) }
    }
}

fn not_utf8() -> DocumentError {
    DocumentError::Syntax("the text is not UTF-8".to_owned())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the opening brace.
    #[default]
    Start,
    /// Before a name, or the closing brace.
    Name,
    /// After a name, before its colon.
    Colon,
    /// After the colon, before the value's first byte.
    Value,
    /// Inside a value.
    Inside,
    /// After the closing brace.
    End,
}

/// Follows valid JSON just closely enough to know where top-level fields begin and end.
#[derive(Default)]
struct Scanner {
    fields: Vec<Found>,
    state: State,
    position: u64,
    depth: u32,
    in_string: bool,
    escaped: bool,
    name: Vec<u8>,
    /// The bytes of the names of all `fields`.
    name_bytes: usize,
    value_start: u64,
    /// Just past the last byte of the value that was not white space.
    value_end: u64,
    captured: Vec<u8>,
}

impl Scanner {
    fn feed(&mut self, chunk: &[u8]) -> Result<(), DocumentError> {
        let mut at = 0;
        while at < chunk.len() {
            // Most bytes lie inside strings: skip to the next one that matters.
            if self.in_string && !self.escaped {
                let plain = memchr::memchr2(b'"', b'\\', &chunk[at..]).unwrap_or(chunk.len() - at);
                self.keep(&chunk[at..at + plain])?;
                at += plain;
                self.position += plain as u64;
                if at == chunk.len() {
                    break;
                }
            }
            self.byte(chunk[at])?;
            at += 1;
            self.position += 1;
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), DocumentError> {
        match self.state {
            State::Name if self.name.len() + bytes.len() > MAX_QUOTED_BYTES => {
                return Err(DocumentError::NamesTooLong);
            }
            State::Name => self.name.extend_from_slice(bytes),
            State::Inside => {
                let room =
                    usize::try_from(MAX_FACT_BYTES + 1).unwrap_or(0).saturating_sub(self.captured.len());
                self.captured.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            _ => {}
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), DocumentError> {
        if self.in_string {
            self.keep(&[byte])?;
            if self.escaped {
                self.escaped = false;
            } else if byte == b'\\' {
                self.escaped = true;
            } else if byte == b'"' {
                self.in_string = false;
                self.value_end = self.position + 1;
                if self.state == State::Name {
                    self.state = State::Colon;
                }
            }
            return Ok(());
        }
        if byte.is_ascii_whitespace() {
            // Before a name it belongs to nothing, however much of it there is.
            return if self.state == State::Inside { self.keep(&[byte]) } else { Ok(()) };
        }
        match (self.state, byte) {
            (State::Start, b'{') => self.state = State::Name,
            (State::Start, _) => return Err(DocumentError::NotAnObject),
            (State::Name, b'"') => {
                self.name.clear();
                self.in_string = true;
                self.keep(b"\"")?;
            }
            (State::Name, b'}') => self.state = State::End,
            (State::Colon, b':') => self.state = State::Value,
            (State::Inside, b',') if self.depth == 0 => {
                self.end_field()?;
                self.state = State::Name;
            }
            (State::Inside, b'}') if self.depth == 0 => {
                self.end_field()?;
                self.state = State::End;
            }
            (State::Value | State::Inside, _) => {
                if self.state == State::Value {
                    self.state = State::Inside;
                    self.value_start = self.position;
                    self.captured.clear();
                }
                self.keep(&[byte])?;
                self.value_end = self.position + 1;
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end_field(&mut self) -> Result<(), DocumentError> {
        if self.fields.len() == MAX_FIELDS {
            return Err(DocumentError::TooManyFields);
        }
        let name: String =
            serde_json::from_slice(&self.name).map_err(|error| DocumentError::Syntax(error.to_string()))?;
        self.name_bytes += name.len();
        if self.name_bytes > MAX_NAME_BYTES {
            return Err(DocumentError::NamesTooLong);
        }
        let length = self.value_end - self.value_start;
        let wanted = length <= HEAD_VALUE_BYTES || (length <= MAX_FACT_BYTES && Facts::wants(&name));
        let captured = if wanted {
            self.captured.truncate(usize::try_from(length).unwrap_or(0));
            Some(String::from_utf8(std::mem::take(&mut self.captured)).map_err(|_| not_utf8())?)
        } else {
            None
        };
        self.fields.push(Found { name, start: self.value_start, end: self.value_end, captured });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::Coding;

    #[test]
    fn refuses_more_names_than_a_layout_should_hold() {
        let encode = |raw: String| {
            let source = Inflate { body: raw.into(), coding: Coding::Identity, limit: 100 << 20 };
            encode_large(&source, 1).map(|encoded| encoded.layout.fields().count())
        };
        let longest = r"\u006e".repeat(MAX_NAME_BYTES - 1);
        assert_eq!(encode(format!(r#"{{"{longest}":1,"a":2}}"#)), Ok(2));
        assert_eq!(encode(format!(r#"{{"{longest}":1,"aa":2}}"#)), Err(DocumentError::NamesTooLong));
        assert_eq!(encode(format!("{{{}\"a\":1}}", " ".repeat(MAX_QUOTED_BYTES + 1))), Ok(1));
        let endless = "n".repeat(MAX_QUOTED_BYTES);
        let mut scanner = Scanner::default();
        assert_eq!(scanner.feed(format!(r#"{{"{endless}"#).as_bytes()), Err(DocumentError::NamesTooLong));
    }
}
