//! Files that commands write and read: whole or not there, compressed as their name says.

use std::fs::{self, File};
use std::io::{self, BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;

use super::exit::{Failure, Outcome};
use super::indent::Indent;
use super::output;
use crate::domain::document::Coding;

/// The zstd level of files: about as fast as a disk.
const ZSTD_LEVEL: i32 = 3;

/// What a file name's ending says about its compression.
pub(super) fn coding_of(path: &Path) -> Coding {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("zst" | "zstd") => Coding::Zstd,
        Some("gz") => Coding::Gzip,
        _ => Coding::Identity,
    }
}

/// Where a command's data goes: standard output, or a file that is there only once it is whole.
#[derive(Debug)]
pub(super) struct Sink {
    to: To,
    /// Bytes that were written to it, before compression.
    bytes: u64,
}

#[derive(Debug)]
enum To {
    Stdout,
    IndentedStdout(Box<Indent<io::Stdout>>),
    File { writer: Option<Box<Encoder>>, place: Place },
}

/// The name of a file and the one it has until it is whole.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// `None` for what is no regular file, such as `/dev/null`: renaming would replace it.
    partial: Option<PathBuf>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // What is not whole is of no use; a leftover would be replaced the next time.
            let _ = fs::remove_file(partial);
        }
    }
}

impl Sink {
    /// Standard output, or the file that `path` names unless that is `-`.
    pub(super) fn open(path: Option<&Path>, coding: Coding) -> Outcome<Self> {
        let to = match path {
            Some(path) if path != Path::new("-") => {
                let opened = Place::open(path).and_then(|(place, file)| {
                    Ok(To::File { writer: Some(Box::new(Encoder::new(file, coding)?)), place })
                });
                opened.map_err(|error| unwritten(path, &error))?
            }
            _ => To::Stdout,
        };
        Ok(Self { to, bytes: 0 })
    }

    /// Standard output for people: JSON is indented.
    pub(super) fn indented() -> Self {
        Self { to: To::IndentedStdout(Box::new(Indent::new(io::stdout()))), bytes: 0 }
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.bytes += bytes.len() as u64;
        match &mut self.to {
            To::Stdout => io::stdout().write_all(bytes).map_err(|error| output::unwritten(&error)),
            To::IndentedStdout(indent) => indent.write_all(bytes).map_err(|error| output::unwritten(&error)),
            To::File { writer, place } => {
                let writer = writer.as_mut().expect("it is taken at the end only");
                writer.as_write().write_all(bytes).map_err(|error| unwritten(&place.path, &error))
            }
        }
    }

    /// Bytes that were written to it, before compression.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it whole: a file is on the disk and has its name. Returns its size.
    pub(super) fn finish(mut self) -> Outcome<u64> {
        match &mut self.to {
            To::Stdout => io::stdout().flush().map_err(|error| output::unwritten(&error))?,
            To::IndentedStdout(indent) => indent.end().map_err(|error| output::unwritten(&error))?,
            To::File { writer, place } => {
                let writer = writer.take().expect("it is taken here only");
                let finished = writer.finish().and_then(|file| {
                    if let Some(partial) = &place.partial {
                        file.sync_all()?;
                        fs::rename(partial, &place.path)?;
                        place.partial = None;
                    }
                    file.metadata()
                });
                return Ok(finished.map_err(|error| unwritten(&place.path, &error))?.len());
            }
        }
        Ok(self.bytes)
    }
}

impl Place {
    fn open(path: &Path) -> io::Result<(Self, File)> {
        // A link stays a link: what it points at is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(&path)?;
            return Ok((Self { path, partial: None }, file));
        }
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)?;
        Ok((Self { path, partial: Some(partial) }, file))
    }
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("{} cannot be written", path.display()), error)
}

/// A file behind a compressor.
enum Encoder {
    Plain(BufWriter<File>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
    Gzip(GzEncoder<BufWriter<File>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    fn new(file: File, coding: Coding) -> io::Result<Self> {
        let file = BufWriter::new(file);
        Ok(match coding {
            Coding::Identity => Self::Plain(file),
            Coding::Zstd => {
                let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Coding::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
        })
    }

    fn as_write(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(writer) => writer,
            Self::Zstd(writer) => writer,
            Self::Gzip(writer) => writer,
        }
    }

    fn finish(self) -> io::Result<File> {
        let buffered = match self {
            Self::Plain(writer) => writer,
            Self::Zstd(writer) => writer.finish()?,
            Self::Gzip(writer) => writer.finish()?,
        };
        buffered.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Opens a file, or standard input for `-`, with its size where that is known.
pub(super) fn open_source(path: &Path) -> Outcome<(Box<dyn Read + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let unreadable = |error: io::Error| Failure::local(format!("{} cannot be read", path.display()), &error);
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// Undoes zstd or gzip, which the first bytes tell: no JSON begins like either.
pub(super) fn inflated(mut reader: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut start)?;
    let coding = match start[..] {
        [0x28, 0xb5, 0x2f, 0xfd] => Coding::Zstd,
        [0x1f, 0x8b, ..] => Coding::Gzip,
        _ => Coding::Identity,
    };
    let whole = Cursor::new(start).chain(reader);
    Ok(match coding {
        Coding::Identity => Box::new(whole),
        Coding::Zstd => Box::new(zstd::Decoder::new(whole)?),
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(whole)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        let mut text = String::new();
        let (source, size) = open_source(path).expect("opened");
        assert_eq!(size, Some(fs::metadata(path).expect("there").len()));
        inflated(source).expect("begun").read_to_string(&mut text).expect("read");
        text
    }

    #[test]
    fn files_are_compressed_as_their_name_says_and_read_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let line = "{\"url\":\"https://a/\"}\n".repeat(1000);
        for (name, first) in
            [("a.ndjson", b"{\"".as_slice()), ("a.zst", &[0x28, 0xb5]), ("a.ndjson.gz", &[0x1f, 0x8b])]
        {
            let path = directory.path().join(name);
            fs::write(&path, "old").expect("written");
            let mut sink = Sink::open(Some(&path), coding_of(&path)).expect("opened");
            sink.write(line.as_bytes()).expect("written");
            assert_eq!(sink.bytes(), 21_000);
            assert_eq!(fs::read(&path).expect("the old one"), b"old");
            let size = sink.finish().expect("finished");
            let stored = fs::read(&path).expect("the new one");
            assert_eq!((&stored[..2], stored.len() as u64), (first, size), "{name}");
            assert_eq!(read(&path), line);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 3, "nothing partial is left");
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.zst");
        let mut sink = Sink::open(Some(&path), Coding::Zstd).expect("opened");
        sink.write(b"part").expect("written");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
        drop(sink);
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_written_to_and_links_stay_links() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let mut sink = Sink::open(Some(Path::new("/dev/null")), Coding::Identity).expect("opened");
        sink.write(b"gone").expect("written");
        sink.finish().expect("finished");
        assert!(fs::metadata("/dev/null").expect("there").file_type().is_char_device());

        let directory = tempfile::tempdir().expect("a temporary directory");
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "old").expect("written");
        symlink(&real, &link).expect("linked");
        let mut sink = Sink::open(Some(&link), Coding::Identity).expect("opened");
        sink.write(b"new").expect("written");
        sink.finish().expect("finished");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read(&real).expect("there"), b"new");
    }

    #[test]
    fn short_and_empty_sources_are_plain() {
        for text in ["", "{", "{}"] {
            let mut read = String::new();
            inflated(text.as_bytes()).expect("begun").read_to_string(&mut read).expect("read");
            assert_eq!(read, text);
        }
    }
}
