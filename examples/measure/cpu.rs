//! The CPU time of a process, as the kernel counts it.

use std::io::{Error, ErrorKind};

/// User and system time of a process so far, of all its threads, in ticks of the kernel.
///
/// # Errors
/// Where there is no such process, or no `/proc`.
pub(crate) fn cpu_ticks(pid: u32) -> std::io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |place: usize| {
        let field = fields.get(place).and_then(|field| field.parse::<u64>().ok());
        field.ok_or_else(|| Error::new(ErrorKind::InvalidData, "the kernel says less than it should"))
    };
    Ok(ticks(11)? + ticks(12)?)
}
