//! Header values that are put together: on the stack, so that each takes one allocation.

use std::fmt;

use http::HeaderValue;

/// The text of a header value of at most 64 bytes. What is too much is left out.
pub(super) struct HeaderText {
    bytes: [u8; 64],
    length: usize,
}

impl HeaderText {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }

    /// Appends `text`.
    pub(super) fn push(&mut self, text: &[u8]) {
        let (_, free) = self.bytes.split_at_mut(self.length);
        let fits = text.len().min(free.len());
        free[..fits].copy_from_slice(&text[..fits]);
        self.length += fits;
    }

    /// Appends a number in lower-case hexadecimal digits, without leading zeros.
    pub(super) fn push_hex(&mut self, number: u64) {
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
        for place in (0..digits).rev() {
            let digit = (number >> (place * 4)) & 15;
            self.push(&b"0123456789abcdef"[usize::from(digit as u8)..][..1]);
        }
    }

    /// The value; `fallback` where the text is none.
    pub(super) fn value(&self, fallback: &'static str) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[..self.length]).unwrap_or(HeaderValue::from_static(fallback))
    }
}

impl fmt::Write for HeaderText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_is_pushed_up_to_its_size() {
        let mut text = HeaderText::new();
        for number in [0, 1, 15, 16, 0xdead_beef, u64::MAX] {
            text.push_hex(number);
            text.push(b" ");
        }
        assert_eq!(text.value("-"), "0 1 f 10 deadbeef ffffffffffffffff ");
        text.push(&[b'x'; 100]);
        assert_eq!(text.value("-").len(), 64);
        text = HeaderText::new();
        text.push(b"a\nb");
        assert_eq!(text.value("fallback"), "fallback");
    }
}
