//! Writes a document as one zstd frame, flushed at each segment's end.

use std::cell::RefCell;

use bytes::Bytes;
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use super::layout::{Builder, Layout};
use super::split::{Facts, is_blank, order, split};
use super::{CLOSE, DocumentError};
use crate::domain::entry::Etag;

/// The largest window: 2 MiB. RFC 9659 lets a decoder refuse more than 8 MiB, and larger ones cost every reader memory.
const MAX_WINDOW_LOG: u32 = 21;

/// The smallest window that zstd knows: 1 KiB.
const MIN_WINDOW_LOG: u32 = 10;

/// A document as stores keep it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// One zstd frame.
    pub frame: Bytes,
    /// Where each field lies in it.
    pub layout: Layout,
    /// The hash of the content.
    pub etag: Etag,
    /// What the entry keeps beside the body.
    pub facts: Facts,
}

/// Encodes a JSON object that is whole in memory.
///
/// # Errors
/// [`DocumentError`] unless `raw` is a JSON object whose top-level fields have distinct names.
pub fn encode(raw: &[u8], level: i32) -> Result<Encoded, DocumentError> {
    let members = split(raw)?;
    let order = order(members.iter().map(|(name, value)| (name.as_ref(), value.len() as u64)));
    let mut facts = Facts::default();
    FrameWriter::with(level, raw.len() as u64, |writer| {
        for &index in &order.head {
            let (name, value) = &members[index];
            facts.note(name, value);
            writer.member(name, value.len() as u64, is_blank(value))?;
            writer.write(value.as_bytes())?;
        }
        writer.end_segment()?;
        for &index in &order.large {
            let (name, value) = &members[index];
            facts.note(name, value);
            writer.member(name, value.len() as u64, false)?;
            writer.write(value.as_bytes())?;
            writer.end_segment()?;
        }
        Ok(())
    })
    .map(|(frame, layout, etag)| Encoded { frame, layout, etag, facts })
}

thread_local! {
    // A compressor holds about 3 MiB of tables: one a thread, reset between documents.
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
}

/// Writes members into a frame, hashing and measuring on the way.
pub(super) struct FrameWriter<'c> {
    compressor: &'c mut CCtx<'static>,
    out: Vec<u8>,
    segment_start: usize,
    layout: Builder,
    hasher: blake3::Hasher,
    first: bool,
}

impl FrameWriter<'_> {
    /// Runs `write` on a new frame for about `raw_size` bytes and closes it.
    pub(super) fn with(
        level: i32,
        raw_size: u64,
        write: impl FnOnce(&mut FrameWriter<'_>) -> Result<(), DocumentError>,
    ) -> Result<(Bytes, Layout, Etag), DocumentError> {
        COMPRESSOR.with_borrow_mut(|compressor| {
            prepare(compressor, level, raw_size);
            let capacity = usize::try_from(raw_size / 6).unwrap_or(0).clamp(512, 1 << 20);
            let mut writer = FrameWriter {
                compressor,
                out: Vec::with_capacity(capacity),
                segment_start: 0,
                layout: Builder::new(),
                hasher: blake3::Hasher::new(),
                first: true,
            };
            writer.write(b"{")?;
            write(&mut writer)?;
            let FrameWriter { mut out, layout, hasher, .. } = writer;
            out.extend_from_slice(&CLOSE);
            // The frame lives as long as the entry: spare capacity would be held for days.
            out.shrink_to_fit();
            Ok((out.into(), layout.finish()?, Etag::finish(&hasher)))
        })
    }

    /// Begins a member: what follows must be `value_length` bytes of value.
    pub(super) fn member(&mut self, name: &str, value_length: u64, blank: bool) -> Result<(), DocumentError> {
        if !std::mem::take(&mut self.first) {
            self.write(b",")?;
        }
        let quoted = serde_json::to_string(name).map_err(|error| DocumentError::Syntax(error.to_string()))?;
        self.layout.field(name, quoted.len() as u64 + 1 + value_length, blank);
        self.write(quoted.as_bytes())?;
        self.write(b":")
    }

    /// Appends raw bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), DocumentError> {
        self.hasher.update(bytes);
        let mut input = InBuffer::around(bytes);
        while input.pos < bytes.len() {
            self.step(&mut input, ZSTD_EndDirective::ZSTD_e_continue)?;
        }
        Ok(())
    }

    /// Flushes: everything so far can be decoded without what follows.
    pub(super) fn end_segment(&mut self) -> Result<(), DocumentError> {
        while self.step(&mut InBuffer::around(&[]), ZSTD_EndDirective::ZSTD_e_flush)? > 0 {}
        self.layout.end_segment((self.out.len() - self.segment_start) as u64);
        self.segment_start = self.out.len();
        Ok(())
    }

    fn step(
        &mut self,
        input: &mut InBuffer<'_>,
        directive: ZSTD_EndDirective,
    ) -> Result<usize, DocumentError> {
        if self.out.capacity() - self.out.len() < 1024 {
            self.out.reserve(self.out.capacity().max(4096));
        }
        let written = self.out.len();
        let mut output = OutBuffer::around_pos(&mut self.out, written);
        self.compressor
            .compress_stream2(&mut output, input, directive)
            .map_err(|_| DocumentError::Corrupt("the compressor failed"))
    }
}

fn prepare(compressor: &mut CCtx<'_>, level: i32, raw_size: u64) {
    let window = raw_size.max(1).next_power_of_two().trailing_zeros().clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG);
    compressor.reset(ResetDirective::SessionAndParameters).expect("a reset cannot fail");
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window),
        // A prefix could carry neither the size of the whole nor its checksum.
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
    ] {
        compressor
            .set_parameter(parameter)
            .expect("the configuration bounds the level, and the window is in range");
    }
}
