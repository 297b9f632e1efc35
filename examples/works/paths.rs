//! Gets of given paths: pages of a listing, keys that are not there.

use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode};
use http_body_util::Full;

use super::{Client, Dice, Exchange, Expected, Failure, Turn, Work};

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// What to ask for, in turn. `{}` stands for a number of seven digits that grows with each request.
    #[arg(long, required = true)]
    path: Vec<String>,
    /// A header, as NAME:VALUE.
    #[arg(long)]
    header: Vec<String>,
    /// The status of each answer.
    #[arg(long, default_value = "200")]
    status: StatusCode,
    /// By how many bytes answers to the same path may differ: ages gain digits.
    #[arg(long, default_value_t = 0)]
    slack: usize,
    /// The number of the first request.
    #[arg(long, default_value_t = 1_000_000)]
    first: usize,
}

pub(super) struct Paths {
    options: Options,
    /// How long the answer to each path is.
    lengths: Vec<usize>,
    turn: Turn,
}

impl Paths {
    pub(super) async fn new(options: &Options, client: &mut Client) -> Result<Self, Failure> {
        let mut paths =
            Self { options: options.clone(), lengths: Vec::new(), turn: Turn::from(options.first) };
        for path in &options.path {
            let body = client.ask(paths.request(path, options.first)?, options.status).await?;
            paths.lengths.push(body.len());
        }
        Ok(paths)
    }

    fn request(&self, path: &str, number: usize) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request =
            Request::get(path.replace("{}", &format!("{number:07}"))).header("host", "127.0.0.1");
        for header in &self.options.header {
            let (name, value) = header.split_once(':').ok_or("headers are NAME:VALUE")?;
            request = request.header(name.trim(), value.trim());
        }
        Ok(request.body(Full::default())?)
    }
}

impl Work for Paths {
    fn next(&self, _: &mut Dice) -> Result<Exchange, Failure> {
        let number = self.turn.next();
        let place = number % self.lengths.len();
        let expected = Expected::Length { bytes: self.lengths[place], slack: self.options.slack };
        let request = self.request(&self.options.path[place], number)?;
        Ok(Exchange { request, status: self.options.status, expected, part: 0 })
    }
}
