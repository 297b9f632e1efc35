//! One connection, and the check of each answer on it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;

use super::Failure;
use crate::measure::connection::Connection;

/// A request, and what its answer must be.
pub(crate) struct Exchange {
    pub(crate) request: Request<Full<Bytes>>,
    pub(crate) status: StatusCode,
    pub(crate) expected: Expected,
    /// Its place in the parts of the work.
    pub(crate) part: usize,
}

/// What is known of a body beforehand.
#[derive(Clone)]
pub(crate) enum Expected {
    /// Its length, give or take so many bytes: an age may gain a digit.
    Length { bytes: usize, slack: usize },
    /// One of these lengths, in ascending order.
    OneOf(std::sync::Arc<[usize]>),
    /// How it begins.
    Begins(&'static str),
}

impl Expected {
    fn is(&self, body: &[u8]) -> bool {
        match self {
            Self::Length { bytes, slack } => body.len().abs_diff(*bytes) <= *slack,
            Self::OneOf(lengths) => lengths.binary_search(&body.len()).is_ok(),
            Self::Begins(text) => body.starts_with(text.as_bytes()),
        }
    }
}

/// A connection that sends its next request when it has the last answer.
pub(crate) struct Client(Connection);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        Ok(Self(Connection::to(address).await?))
    }

    /// Sends a request whose answer must have this status, and returns the body.
    pub(crate) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        status: StatusCode,
    ) -> Result<Bytes, Failure> {
        let response = self.0.send(request).await?;
        let found = response.status();
        let body = response.into_body();
        if found != status {
            return Err(format!("{found} instead of {status}: {}", beginning(&body)).into());
        }
        Ok(body)
    }

    /// Sends a request and checks its answer.
    pub(crate) async fn exchange(&mut self, exchange: Exchange) -> Result<(), Failure> {
        let body = self.ask(exchange.request, exchange.status).await?;
        if !exchange.expected.is(&body) {
            return Err(
                format!("an answer of {} bytes is another one: {}", body.len(), beginning(&body)).into()
            );
        }
        Ok(())
    }
}

fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned()
}
