//! Reads documents: whole, by prefix, by field.

use std::cell::RefCell;
use std::io::Read;
use std::ops::Range;

use bytes::Bytes;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer};

use super::layout::{Field, Layout};
use super::split::is_blank;
use super::{CLOSE, DocumentError};

/// The name in `fields=` that stands for every small field.
const HEAD: &str = "head";

/// What is decoded at a time where the size is not known.
const STEP_BYTES: usize = 128 << 10;

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

    /// The whole document, decoded, once all that the layout says of it has been seen to be so: each field and each
    /// end of a segment. For a frame and a layout that no digest vouches for.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`] when the frame is not what the layout says.
    pub fn decode_and_check(&self) -> Result<Vec<u8>, DocumentError> {
        let (head_raw, head_stored) = self.layout.head_end();
        let mut ends = vec![(head_stored, head_raw)];
        ends.extend(self.layout.fields().map(|field| (field.stored_end, field.raw_end)));
        ends.push((self.layout.stored_size(), self.layout.raw_size()));
        ends.dedup();
        let (mut decompressor, mut raw, mut from, mut missing) = (DCtx::create(), Vec::new(), 0, 0);
        for (stored_end, raw_end) in ends {
            let end = usize::try_from(stored_end).map_err(|_| UNDECODABLE)?;
            let segment = self.frame.get(from..end).ok_or(UNDECODABLE)?;
            missing = inflate_segment(&mut decompressor, segment, &mut raw, raw_end)?;
            from = end;
        }
        if from != self.frame.len() || missing != 0 {
            return Err(UNDECODABLE);
        }
        for field in self.layout.fields() {
            let quoted = serde_json::to_string(field.name).map_err(|_| UNDECODABLE)?;
            let member = std::str::from_utf8(slice(&raw, &field.member)?).map_err(|_| UNDECODABLE)?;
            let value = member.strip_prefix(&quoted).and_then(|rest| rest.strip_prefix(':'));
            if value.is_none_or(|value| field.blank && !is_blank(value)) {
                return Err(UNDECODABLE);
            }
        }
        Ok(raw)
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

/// Appends what a flushed segment decodes to, which must end at `raw_end`, and returns how many bytes the decoder waits
/// for: none where the frame ends. What is claimed of its size is not believed: memory grows with what there is.
fn inflate_segment(
    decompressor: &mut DCtx<'_>,
    segment: &[u8],
    raw: &mut Vec<u8>,
    raw_end: u64,
) -> Result<usize, DocumentError> {
    let mut input = InBuffer::around(segment);
    let mut step = Vec::with_capacity(STEP_BYTES);
    loop {
        step.clear();
        let missing = decompressor
            .decompress_stream(&mut OutBuffer::around(&mut step), &mut input)
            .map_err(|_| UNDECODABLE)?;
        raw.extend_from_slice(&step);
        if raw.len() as u64 > raw_end {
            return Err(UNDECODABLE);
        }
        if input.pos == segment.len() && step.len() < step.capacity() {
            return if raw.len() as u64 == raw_end { Ok(missing) } else { Err(UNDECODABLE) };
        }
    }
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
