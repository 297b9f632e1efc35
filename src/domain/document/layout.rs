//! Where each field of a document lies: the table that makes a projection a slice.
//!
//! A layout is kept as the few hundred bytes that stores keep, and read by walking them:
//! a format byte, then per segment `field count, stored length`, then per field
//! `name length, name, member length * 2 + blank`; all numbers are unsigned LEB128.
//! The first segment is always the head. A *member* is the text `"name":value`.

use std::ops::Range;

use super::{CLOSE, DocumentError};

const FORMAT: u8 = 1;

/// The layout of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    bytes: Box<[u8]>,
    raw_size: u64,
    stored_size: u64,
}

/// One top-level field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where `"name":value` lies in the raw document.
    pub member: Range<u64>,
    /// Whether the value is `null`, `""`, `[]` or `{}`.
    pub blank: bool,
    /// The segment it is stored in; 0 is the head.
    pub segment: usize,
    /// Where its segment ends in the raw document.
    pub raw_end: u64,
    /// Where its segment ends in the frame.
    pub stored_end: u64,
}

impl Layout {
    /// The layout that a store kept as bytes.
    ///
    /// # Errors
    /// [`DocumentError::Corrupt`] when the bytes are not a layout.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DocumentError> {
        const BROKEN: DocumentError = DocumentError::Corrupt("its layout cannot be read");
        let mut reader = Reader { rest: bytes };
        if reader.byte() != Some(FORMAT) {
            return Err(BROKEN);
        }
        let (mut raw, mut stored) = (1_u64, 0_u64);
        let mut first = true;
        while !reader.rest.is_empty() {
            let count = reader.number().ok_or(BROKEN)?;
            let length = reader.number().ok_or(BROKEN)?;
            stored = stored.checked_add(length).ok_or(BROKEN)?;
            for _ in 0..count {
                let name = reader.name().ok_or(BROKEN)?;
                // Names are short and most are ASCII, which takes a fraction of the time to see.
                if !name.is_ascii() && std::str::from_utf8(name).is_err() {
                    return Err(BROKEN);
                }
                let member = reader.number().ok_or(BROKEN)? >> 1;
                raw = raw
                    .checked_add(member)
                    .and_then(|raw| raw.checked_add(u64::from(!first)))
                    .ok_or(BROKEN)?;
                first = false;
            }
        }
        let stored_size = stored.checked_add(CLOSE.len() as u64).ok_or(BROKEN)?;
        Ok(Self { bytes: bytes.into(), raw_size: raw + 1, stored_size })
    }

    /// The bytes that a store keeps.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The document's size in bytes, decoded.
    pub fn raw_size(&self) -> u64 {
        self.raw_size
    }

    /// The frame's size in bytes.
    pub fn stored_size(&self) -> u64 {
        self.stored_size
    }

    /// The fields in stored order.
    pub fn fields(&self) -> Fields<'_> {
        Fields {
            reader: Reader { rest: self.bytes.get(1..).unwrap_or_default() },
            in_segment: 0,
            segment: 0,
            segments_seen: 0,
            raw: 1,
            raw_end: 1,
            stored_end: 0,
            first: true,
        }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<Field<'_>> {
        self.fields().find(|field| field.name == name)
    }

    /// Whether the field is there and not blank.
    pub fn has(&self, name: &str) -> bool {
        self.field(name).is_some_and(|field| !field.blank)
    }

    /// Where the head ends: in the raw document, and in the frame.
    pub fn head_end(&self) -> (u64, u64) {
        let mut reader = Reader { rest: self.bytes.get(1..).unwrap_or_default() };
        let (count, length) = (reader.number().unwrap_or(0), reader.number().unwrap_or(0));
        let raw_end = if count == 0 { 1 } else { self.fields().next().map_or(1, |field| field.raw_end) };
        (raw_end, length)
    }

    /// How many bytes it holds on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Walks the fields of a [`Layout`] in stored order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    reader: Reader<'a>,
    in_segment: u64,
    segment: usize,
    segments_seen: usize,
    raw: u64,
    raw_end: u64,
    stored_end: u64,
    first: bool,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while self.in_segment == 0 {
            let count = self.reader.number()?;
            self.stored_end += self.reader.number()?;
            self.segment = self.segments_seen;
            self.segments_seen += 1;
            self.in_segment = count;
            self.raw_end = self.raw_end_of_segment(count)?;
        }
        self.in_segment -= 1;
        let name = std::str::from_utf8(self.reader.name()?).ok()?;
        let packed = self.reader.number()?;
        let start = self.raw + u64::from(!self.first);
        let member = start..start + (packed >> 1);
        self.first = false;
        self.raw = member.end;
        Some(Field {
            name,
            member,
            blank: packed & 1 == 1,
            segment: self.segment,
            raw_end: self.raw_end,
            stored_end: self.stored_end,
        })
    }
}

impl Fields<'_> {
    fn raw_end_of_segment(&self, count: u64) -> Option<u64> {
        let mut ahead = self.reader.clone();
        let (mut raw, mut first) = (self.raw, self.first);
        for _ in 0..count {
            ahead.name()?;
            raw += (ahead.number()? >> 1) + u64::from(!first);
            first = false;
        }
        Some(raw)
    }
}

#[derive(Clone, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (name, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(name)
    }
}

/// Builds a layout while the document is written.
#[derive(Debug, Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    fields: Vec<u8>,
    count: u64,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { bytes: vec![FORMAT], ..Self::default() }
    }

    pub(super) fn field(&mut self, name: &str, member_length: u64, blank: bool) {
        put_number(&mut self.fields, name.len() as u64);
        self.fields.extend_from_slice(name.as_bytes());
        put_number(&mut self.fields, member_length << 1 | u64::from(blank));
        self.count += 1;
    }

    pub(super) fn end_segment(&mut self, stored_length: u64) {
        put_number(&mut self.bytes, self.count);
        put_number(&mut self.bytes, stored_length);
        self.bytes.append(&mut self.fields);
        self.count = 0;
    }

    pub(super) fn finish(self) -> Result<Layout, DocumentError> {
        Layout::from_bytes(&self.bytes)
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Layout {
        let mut builder = Builder::new();
        builder.field("a", 5, false);
        builder.field("b", 8, true);
        builder.end_segment(30);
        builder.field("html", 300, false);
        builder.end_segment(90);
        builder.finish().expect("a layout")
    }

    #[test]
    fn walks_what_was_built() {
        let layout = sample();
        let fields: Vec<_> = layout.fields().collect();
        assert_eq!(fields.len(), 3);
        assert_eq!((fields[0].member.clone(), fields[0].raw_end, fields[0].stored_end), (1..6, 15, 30));
        assert_eq!((fields[1].member.clone(), fields[1].blank, fields[1].segment), (7..15, true, 0));
        assert_eq!((fields[2].member.clone(), fields[2].segment, fields[2].stored_end), (16..316, 1, 120));
        assert_eq!((layout.raw_size(), layout.stored_size()), (317, 124));
        assert_eq!(layout.head_end(), (15, 30));
        assert!(layout.has("html") && !layout.has("b") && !layout.has("c"));
        assert_eq!(Layout::from_bytes(layout.as_bytes()), Ok(layout));
    }

    #[test]
    fn broken_bytes_are_an_error_and_never_a_panic() {
        let good = sample();
        for cut in 0..good.as_bytes().len() {
            let _ = Layout::from_bytes(&good.as_bytes()[..cut]).map(|layout| layout.fields().count());
        }
        for bytes in [
            &b""[..],
            b"\x02",
            b"\x01\x01\x05\x02\xff\xfe\x02",
            b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(Layout::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }
}
