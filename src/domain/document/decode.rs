//! Reads documents: whole, by prefix, by field.

use std::cell::RefCell;
use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
use zstd::zstd_safe::DCtx;

use super::layout::{Field, Layout};
use super::{CLOSE, DocumentError};

/// The name in `fields=` that stands for every small field.
const HEAD: &str = "head";

const UNDECODABLE: DocumentError = DocumentError::Corrupt("its frame cannot be decoded");

/// Which fields an answer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Projection {
    names: Vec<String>,
}

impl Projection {
    /// The fields of these names; `head` stands for every small field.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// The names in order, comma-separated: equal for equal projections.
    pub fn to_text(&self) -> String {
        self.names.join(",")
    }

    fn wants(&self, field: &Field<'_>) -> bool {
        let named = |name: &str| self.names.binary_search_by(|probe| probe.as_str().cmp(name)).is_ok();
        (field.segment == 0 && named(HEAD)) || named(field.name)
    }
}

/// A stored document: a layout and the frame that it describes.
#[derive(Clone, Copy, Debug)]
pub struct Document<'e> {
    layout: &'e Layout,
    frame: &'e Bytes,
}

impl<'e> Document<'e> {
    /// The document that `layout` describes in `frame`.
    pub fn new(layout: &'e Layout, frame: &'e Bytes) -> Self {
        Self { layout, frame }
    }

    /// Where its fields lie.
    pub fn layout(&self) -> &'e Layout {
        self.layout
    }

    /// The whole document, decoded.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`] when the frame is not what the layout says.
    pub fn decode(&self) -> Result<Vec<u8>, DocumentError> {
        decode_exactly(self.frame, self.layout.raw_size())
    }

    /// The whole document, decoded as it is read: memory stays bounded however large it is.
    ///
    /// # Errors
    /// None today; the decoder is created here.
    pub fn reader(&self) -> std::io::Result<impl Read + Send + use<>> {
        zstd::stream::read::Decoder::with_buffer(std::io::Cursor::new(self.frame.clone()))
    }

    /// The projection as a slice of the stored frame, if it is one: the fields of the first segments and no other.
    pub fn prefix(&self, projection: &Projection) -> Option<Bytes> {
        let mut end = None;
        let mut wanted_before = true;
        for field in self.layout.fields() {
            let wanted = projection.wants(&field);
            if wanted && !wanted_before {
                return None;
            }
            if wanted {
                end = Some(field.stored_end);
            } else {
                // A segment is taken whole or not at all.
                if end == Some(field.stored_end) {
                    return None;
                }
                wanted_before = false;
            }
        }
        // Nothing wanted: an empty object is a slice only where the head is empty.
        let end = match end {
            Some(end) => end,
            None if self.layout.head_end().0 == 1 => self.layout.head_end().1,
            None => return None,
        };
        if end + CLOSE.len() as u64 == self.layout.stored_size() {
            return Some(self.frame.clone());
        }
        closed(self.frame, end)
    }

    /// The projection as JSON, decoded from the shortest prefix that holds it.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`] when the frame is not what the layout says.
    pub fn project(&self, projection: &Projection) -> Result<Vec<u8>, DocumentError> {
        let wanted: Vec<Field<'_>> = self.layout.fields().filter(|field| projection.wants(field)).collect();
        let Some(last) = wanted.last() else { return Ok(b"{}".to_vec()) };
        let raw = self.decode_to(last)?;
        let size: u64 = wanted.iter().map(|field| field.member.end - field.member.start + 1).sum();
        let mut json = Vec::with_capacity(usize::try_from(size + 1).unwrap_or(0));
        for field in &wanted {
            json.push(if json.is_empty() { b'{' } else { b',' });
            json.extend_from_slice(slice(&raw, &field.member)?);
        }
        json.push(b'}');
        Ok(json)
    }

    /// The raw JSON text of one field's value, if the document has the field.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`] when the frame is not what the layout says.
    pub fn value(&self, name: &str) -> Result<Option<Vec<u8>>, DocumentError> {
        let Some(field) = self.layout.field(name) else { return Ok(None) };
        let mut raw = self.decode_to(&field)?;
        let quoted = serde_json::to_string(name).map_err(|_| UNDECODABLE)?.len() as u64 + 1;
        let value = field.member.start + quoted..field.member.end;
        slice(&raw, &value)?;
        // Both ends were checked: the value is cut out in place, because it may be most of a large document.
        raw.truncate(usize::try_from(value.end).map_err(|_| UNDECODABLE)?);
        raw.drain(..usize::try_from(value.start).map_err(|_| UNDECODABLE)?);
        Ok(Some(raw))
    }

    /// Decodes up to the end of the segment that holds `field`.
    fn decode_to(&self, field: &Field<'_>) -> Result<Vec<u8>, DocumentError> {
        let prefix = closed(self.frame, field.stored_end).ok_or(UNDECODABLE)?;
        decode_exactly(&prefix, field.raw_end + 1)
    }
}

/// The first `end` bytes of a frame, closed.
fn closed(frame: &Bytes, end: u64) -> Option<Bytes> {
    let prefix = frame.get(..usize::try_from(end).ok()?)?;
    let mut closed = Vec::with_capacity(prefix.len() + CLOSE.len());
    closed.extend_from_slice(prefix);
    closed.extend_from_slice(&CLOSE);
    Some(closed.into())
}

fn slice<'r>(raw: &'r [u8], range: &Range<u64>) -> Result<&'r [u8], DocumentError> {
    let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end)) else {
        return Err(UNDECODABLE);
    };
    raw.get(start..end).ok_or(UNDECODABLE)
}

fn decode_exactly(frame: &[u8], raw_size: u64) -> Result<Vec<u8>, DocumentError> {
    thread_local! {
        static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    let mut raw = Vec::with_capacity(usize::try_from(raw_size).map_err(|_| UNDECODABLE)?);
    DECOMPRESSOR
        .with_borrow_mut(|decompressor| decompressor.decompress(&mut raw, frame))
        .map_err(|_| UNDECODABLE)?;
    if raw.len() as u64 == raw_size { Ok(raw) } else { Err(UNDECODABLE) }
}
