//! A small HTTP/1.1 client over a plain socket: it sends whatever bytes a test wants and checks the framing
//! of what comes back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// A request to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    address: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Payload,
}

#[derive(Clone, Debug)]
enum Payload {
    None,
    Whole(Vec<u8>),
    Chunked(Vec<u8>),
}

/// How many bytes a chunk of a chunked body has.
const CHUNK: usize = 8 << 10;

impl Request {
    pub(crate) fn new(address: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            address,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Payload::None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with `Content-Length`.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Payload::Whole(body.into());
        self
    }

    /// A body without `Content-Length`, in chunks.
    pub(crate) fn chunked(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Payload::Chunked(body.into());
        self
    }

    /// A JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// An NDJSON body.
    pub(crate) fn ndjson(self, lines: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/x-ndjson").body(lines)
    }

    /// The request line and the headers, with the line that ends them.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.address);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        match &self.body {
            Payload::None => {}
            Payload::Whole(body) => head.extend(["content-length: ", &body.len().to_string(), "\r\n"]),
            Payload::Chunked(_) => head.push_str("transfer-encoding: chunked\r\n"),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Sends it on a connection of its own and reads the answer.
    pub(crate) fn send(&self) -> Answer {
        self.try_send().unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.target))
    }

    /// As [`Request::send`], for when there may be no answer.
    pub(crate) fn try_send(&self) -> io::Result<Answer> {
        self.send_on(&mut Connection::try_open(self.address)?)
    }

    /// Sends it on an open connection.
    pub(crate) fn send_on(&self, connection: &mut Connection) -> io::Result<Answer> {
        let written = connection.write(&self.head()).and_then(|()| match &self.body {
            Payload::None => Ok(()),
            Payload::Whole(body) => connection.write(body),
            Payload::Chunked(body) => {
                for chunk in body.chunks(CHUNK) {
                    connection.write(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                    connection.write(chunk)?;
                    connection.write(b"\r\n")?;
                }
                connection.write(b"0\r\n\r\n")
            }
        });
        // A server may answer before it has read everything: what counts is the answer.
        connection.answer(&self.method).map_err(|error| written.err().unwrap_or(error))
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("the server accepts connections")
    }

    pub(crate) fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Hangs up.
    pub(crate) fn close(&self, how: std::net::Shutdown) {
        self.0.get_ref().shutdown(how).expect("open until now");
    }

    /// Reads one answer to a request of that method.
    pub(crate) fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.answer_head()?;
        answer.body = self.body_of(method, &answer)?;
        Ok(answer)
    }

    /// Reads the head of an answer only.
    pub(crate) fn answer_head(&mut self) -> io::Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| broken(&format!("no status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Answer { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken("a header without a colon"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads what is left of a body of known length in pieces.
    pub(crate) fn read_in_pieces(&mut self, length: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let piece = self.0.fill_buf()?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let read = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&piece[..read]);
            self.0.consume(read);
            left -= read as u64;
        }
        Ok(())
    }

    /// Whether the server closes the connection without another byte.
    pub(crate) fn is_closed_by_the_server(&mut self) -> bool {
        match self.0.fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            }
        }
    }

    fn body_of(&mut self, method: &str, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if method == "HEAD" || answer.status == 204 || answer.status == 304 {
            return Ok(body);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line()?;
                let size = u64::from_str_radix(&line, 16).map_err(|_| broken("a bad chunk size"))?;
                let before = body.len();
                self.0.by_ref().take(size).read_to_end(&mut body)?;
                if (body.len() - before) as u64 != size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if !self.line()?.is_empty() {
                    return Err(broken("a chunk that is longer than it says"));
                }
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        let length: u64 = answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .ok_or_else(|| broken("an answer without a length"))?;
        self.0.by_ref().take(length).read_to_end(&mut body)?;
        if body.len() as u64 == length { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// As it was sent, in whatever coding.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Checks the status; shows the body when it is another.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The body with its content coding undone.
    #[track_caller]
    pub(crate) fn decoded(&self) -> Vec<u8> {
        let mut decoded = Vec::new();
        match self.header("content-encoding") {
            None => return self.body.clone(),
            Some("zstd") => decoded = zstd::decode_all(&self.body[..]).expect("a zstd frame"),
            Some("gzip") => {
                flate2::read::GzDecoder::new(&self.body[..])
                    .read_to_end(&mut decoded)
                    .expect("a gzip member");
            }
            Some(other) => panic!("nobody asked for {other}"),
        }
        decoded
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let decoded = self.decoded();
        serde_json::from_slice(&decoded)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&decoded)))
    }

    /// The JSON objects of an NDJSON body.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), Some("application/x-ndjson"));
        let text = String::from_utf8(self.decoded()).expect("UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'), "the last line ends, too: {text:?}");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Checks that this is a problem as RFC 9457 has it, with that status and code, and returns it.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, Some("application/problem+json")),
            "{text}"
        );
        assert!(self.header("x-request-id").is_some_and(|id| !id.is_empty()), "no request id: {text}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{text}");
        assert_eq!(problem["status"], status, "{text}");
        assert_eq!(problem["type"], format!("urn:crawlcache:problem:{code}"), "{text}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {text}");
        }
        problem
    }

    /// As [`Answer::problem`], with the field that it must name.
    #[track_caller]
    pub(crate) fn problem_with(&self, status: u16, code: &str, field: &str) -> Value {
        let problem = self.problem(status, code);
        assert_eq!(problem["field"], field, "{problem}");
        problem
    }
}
