//! Makes JSON readable as it streams by: indented, in its own order, with every digit it has.

use std::io::{self, Write};

/// Indents the JSON text that is written to it.
///
/// Inside strings, characters that could drive a terminal are escaped: JSON allows DEL and the C1 controls as they are.
#[derive(Debug)]
pub(super) struct Indent<W> {
    inner: W,
    depth: usize,
    state: State,
    /// A bracket has been opened, and nothing has come after it yet.
    opened: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    InString,
    /// After a backslash.
    Escaped,
    /// After the byte C2, which begins U+0080 to U+00BF.
    Latin,
}

impl<W: Write> Indent<W> {
    /// An indenter in front of `inner`, at the start of a value.
    pub(super) const fn new(inner: W) -> Self {
        Self { inner, depth: 0, state: State::Between, opened: false }
    }

    /// Ends the last line.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.inner.write_all(b"\n")?;
        self.inner.flush()
    }

    fn string(&mut self, byte: u8, to: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::Escaped, _) => to.push(byte),
            (State::Latin, 0x80..=0x9f) => to.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            (State::Latin, _) => to.extend_from_slice(&[0xc2, byte]),
            (_, 0xc2) => {
                self.state = State::Latin;
                return;
            }
            (_, 0x7f) => to.extend_from_slice(b"\\u007f"),
            _ => to.push(byte),
        }
        self.state = match (self.state, byte) {
            (State::InString, b'\\') => State::Escaped,
            (State::InString, b'"') => State::Between,
            _ => State::InString,
        };
    }

    fn between(&mut self, byte: u8, to: &mut Vec<u8>) {
        if byte.is_ascii_whitespace() {
            return;
        }
        let closes = matches!(byte, b'}' | b']');
        if closes {
            self.depth = self.depth.saturating_sub(1);
        }
        if self.opened != closes {
            // Something follows an opening bracket, or a closing one ends a list that is not empty.
            self.line_break(to);
        }
        self.opened = false;
        to.push(byte);
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.opened = true;
            }
            b',' => self.line_break(to),
            b':' => to.push(b' '),
            b'"' => self.state = State::InString,
            _ => {}
        }
    }

    fn line_break(&self, to: &mut Vec<u8>) {
        to.push(b'\n');
        to.resize(to.len() + 2 * self.depth, b' ');
    }
}

impl<W: Write> Write for Indent<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut to = Vec::with_capacity(bytes.len() + bytes.len() / 4);
        for byte in bytes {
            match self.state {
                State::Between => self.between(*byte, &mut to),
                _ => self.string(*byte, &mut to),
            }
        }
        self.inner.write_all(&to)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indented(text: &str, piece: usize) -> String {
        let mut to = Vec::new();
        let mut indent = Indent::new(&mut to);
        for piece in text.as_bytes().chunks(piece) {
            indent.write_all(piece).expect("memory");
        }
        indent.end().expect("memory");
        String::from_utf8(to).expect("text")
    }

    #[test]
    fn looks_like_serde_json_and_keeps_order_and_digits() {
        let text = r#" {"b":[1.10, 1e2 ,{}],"a" : {"x":[],"y\"\\":"} ,: é"},"long":12345678901234567890.10,"n":[[[null]]]} "#;
        let expected = "{\n  \"b\": [\n    1.10,\n    1e2,\n    {}\n  ],\n  \"a\": {\n    \"x\": [],\n    \"y\\\"\\\\\": \"} ,: é\"\n  },\n  \"long\": 12345678901234567890.10,\n  \"n\": [\n    [\n      [\n        null\n      ]\n    ]\n  ]\n}\n";
        for piece in [1, 2, 7, 1000] {
            assert_eq!(indented(text, piece), expected);
        }
        let value = serde_json::json!({"a": [1, "two", {}, []], "b": {"c": [[]]}});
        assert_eq!(
            indented(&value.to_string(), 3),
            serde_json::to_string_pretty(&value).expect("JSON") + "\n"
        );
    }

    #[test]
    fn what_could_drive_a_terminal_is_escaped() {
        let text = "[\"a\u{9b}31m\u{7f}\u{a0}\u{bf}é\"]";
        for piece in [1, 1000] {
            assert_eq!(indented(text, piece), "[\n  \"a\\u009b31m\\u007f\u{a0}\u{bf}é\"\n]\n");
        }
    }
}
