//! The example in the description of the frame format is what the codec reads and writes.
//!
//! `UPDATE_DOCUMENTS=1 cargo test --lib documented` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::domain::Etag;

const PAGE: &str = "docs/frame-format.md";

fn example() -> String {
    let (html, markdown) = ("<p>Hello</p>".repeat(120), "Hello\\n".repeat(240));
    format!(r#"{{"html":"{html}","url":"https://example.com/","markdown":"{markdown}","success":true}}"#)
}

fn hex(bytes: &[u8]) -> String {
    let mut lines = String::new();
    for line in bytes.chunks(32) {
        let line: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(lines, "{}", line.join(" ")).expect("a string takes everything");
    }
    lines
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).expect("two digits")).collect()
}

/// The page's text between two markers, and where it lies.
fn between<'p>(page: &'p str, name: &str) -> (usize, &'p str) {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let from = page.find(&begin).unwrap_or_else(|| panic!("{PAGE} lacks {begin}")) + begin.len();
    (from, page[from..].split(&end).next().expect("split gives one at least"))
}

/// The fenced blocks of a text.
fn blocks(text: &str) -> Vec<&str> {
    text.split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').map_or("", |(_, block)| block))
        .collect()
}

/// What the page must say of an encoded document.
fn described(encoded: &Encoded) -> (String, String) {
    let Encoded { frame, layout, .. } = encoded;
    let id = Etag::of(frame);
    let example = format!(
        "The frame, {} bytes, with the id `{id}`:\n\n```hex\n{}```\n\nThe layout, {} bytes:\n\n```hex\n{}```\n\nThe etag: `{}`\n",
        frame.len(),
        hex(frame),
        layout.as_bytes().len(),
        hex(layout.as_bytes()),
        encoded.etag
    );
    let mut table = "| bytes | meaning |\n|---|---|\n| `01` | format |\n".to_owned();
    let mut rest = &layout.as_bytes()[1..];
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at(count);
        rest = after;
        hex(taken).trim_end().to_owned()
    };
    let width = |number: u64| {
        if number < 128 {
            1
        } else if number < 1 << 14 {
            2
        } else {
            3
        }
    };
    let fields: Vec<Field<'_>> = layout.fields().collect();
    let mut start = 0;
    for segment in fields.chunk_by(|a, b| a.segment == b.segment) {
        let stored = segment[0].stored_end - start;
        let count = segment.len();
        writeln!(table, "| `{}` | segment {}: {count} of the fields |", take(1), segment[0].segment)
            .expect("fits");
        let bytes = take(width(stored));
        writeln!(
            table,
            "| `{bytes}` | … in {stored} bytes of the frame, up to byte {} |",
            segment[0].stored_end
        )
        .expect("fits");
        start = segment[0].stored_end;
        for field in segment {
            let length = field.member.end - field.member.start;
            let name = take(1 + field.name.len());
            writeln!(table, "| `{name}` | {} bytes: `{}` |", field.name.len(), field.name).expect("fits");
            let code = take(width(length << 1));
            writeln!(
                table,
                "| `{code}` | {} = 2 × {length}: the member has {length} bytes, and is not blank |",
                length << 1
            )
            .expect("fits");
        }
    }
    assert!(rest.is_empty(), "all bytes are explained");
    (example, table)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test takes its switch from the environment")]
fn the_page_shows_what_the_codec_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let encoded = encode(example().as_bytes(), 3).expect("an object");
    let (text, table) = described(&encoded);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        let mut page = page;
        for (name, new) in [("example", text), ("bytes", table)] {
            let (from, old) = between(&page, name);
            let old = from..from + old.len();
            page.replace_range(old, &new);
        }
        std::fs::write(&path, page).expect("the page can be written");
        return;
    }
    let shown = between(&page, "example").1;
    let blocks = blocks(shown);
    let (frame, layout) = (unhex(blocks[0]), Layout::from_bytes(&unhex(blocks[1])).expect("a layout"));
    let frame = frame.into();
    let document = Document::new(&layout, &frame);
    // Another release of the compressor may write other bytes: what they say must stay, and stay readable.
    assert_eq!(document.decode(), Document::new(&encoded.layout, &encoded.frame).decode());
    let members = |layout: &Layout| {
        layout.fields().map(|field| (field.name.to_owned(), field.member, field.segment)).collect::<Vec<_>>()
    };
    assert_eq!(members(&layout), members(&encoded.layout));
    let raw = document.decode().expect("decodes");
    assert_eq!(Etag::of(&raw[..raw.len() - 1]), encoded.etag, "the closing brace is not hashed");
    let shown_as =
        Encoded { frame: frame.clone(), layout: layout.clone(), etag: encoded.etag, facts: encoded.facts };
    let (text, table) = described(&shown_as);
    assert_eq!(
        (shown, between(&page, "bytes").1),
        (text.as_str(), table.as_str()),
        "UPDATE_DOCUMENTS=1 writes it anew"
    );
    let prefix = document.prefix(&Projection::new(["head", "markdown"])).expect("a slice");
    assert_eq!(prefix[prefix.len() - CLOSE.len()..], CLOSE);
    assert!(page.contains("09 00 00 7D") && prefix.len() < frame.len());
}
