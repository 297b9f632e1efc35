//! What people see while they wait: a bar or a spinner on standard error, if that is a terminal.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Progress in bytes. Draws nothing where nobody looks.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar towards `total` bytes, or a spinner where the end is not known.
    pub(super) fn bytes(total: Option<u64>, visible: bool) -> Self {
        let template = match total {
            Some(_) => "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left {msg}",
            None => "{spinner} {bytes}, {binary_bytes_per_sec} {msg}",
        };
        Self::new(total, visible, template)
    }

    /// A bar towards `total` rows.
    pub(super) fn rows(total: u64) -> Self {
        Self::new(Some(total), true, "{bar:30} {human_pos} of {human_len} rows, {per_sec}, {eta} left {msg}")
    }

    /// A spinner beside what [`Progress::say`] tells, for work that is not counted in bytes.
    pub(super) fn items() -> Self {
        Self::new(None, true, "{spinner} {msg}")
    }

    /// A bar for work of which [`Progress::count`] tells how far it is.
    pub(super) fn counted() -> Self {
        Self::new(Some(0), true, "{bar:30} {human_pos} of {human_len}, {msg}")
    }

    /// How much is done of how much.
    pub(super) fn count(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    fn new(total: Option<u64>, visible: bool, template: &str) -> Self {
        let target = if visible && std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is right (tested)"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// How many bytes or rows there are by now.
    pub(super) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// What else to say.
    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_message(text());
        }
    }

    /// A reader whose bytes are counted.
    pub(super) fn reader<R: Read>(&self, reader: R) -> impl Read + use<R> {
        self.0.wrap_read(reader)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_read() {
        for total in [None, Some(10)] {
            let progress = Progress::bytes(total, false);
            let mut text = String::new();
            progress.reader(&b"12345"[..]).read_to_string(&mut text).expect("memory");
            assert_eq!((text.as_str(), progress.0.position()), ("12345", 5));
            progress.set(7);
            assert_eq!(progress.0.position(), 7);
        }
        let rows = Progress::rows(10);
        rows.set(3);
        assert_eq!(rows.0.position(), 3);
        let progress = Progress::counted();
        progress.count(3, 4);
        assert_eq!((progress.0.position(), progress.0.length()), (3, Some(4)));
    }
}
