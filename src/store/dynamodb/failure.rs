//! What AWS answered, sorted by what can be done about it.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::{BACKEND, S3};
use crate::store::{Error, chain};

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Which service: DynamoDB or S3.
    pub(super) backend: &'static str,
    /// What kind of failure.
    pub(super) kind: Kind,
    /// What was said.
    pub(super) detail: String,
}

/// The conditions that matter to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The condition of a conditional write does not hold.
    Condition,
    /// Capacity is used up, even after retries.
    Throttled,
    /// No answer in time.
    Timeout,
    /// No connection, or an error of the service itself.
    Unavailable,
    /// All requests that may be under way are.
    Overloaded,
    /// The credentials do not permit it.
    AccessDenied,
    /// There are none, or they are expired or unknown.
    Credentials,
    /// The signature's time is not the service's.
    ClockSkew,
    /// There is no such table or index.
    MissingTable,
    /// There is no such bucket here.
    MissingBucket,
    /// A table lacks an index.
    MissingIndex,
    /// A table has other keys.
    WrongSchema,
    /// An item is larger than DynamoDB allows.
    TooLarge,
    /// There is no such object.
    MissingObject,
    /// It exists already, or is being changed.
    InUse,
    /// Others were writing the same, each time that it was tried: nothing was done.
    Conflict,
    /// The endpoint does not know the operation.
    Unknown,
    /// Anything else.
    Other,
}

impl Failure {
    /// One of DynamoDB.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { backend: BACKEND, kind, detail: detail.into() }
    }

    /// The same of S3.
    pub(super) fn of_s3(self) -> Self {
        Self { backend: S3, ..self }
    }

    /// All requests that may be under way have been for as long as an operation may take.
    pub(super) fn no_turn() -> Self {
        Self::new(Kind::Overloaded, "all connections have been busy for as long as an operation may take")
    }

    /// Sorts what the SDK returned.
    pub(super) fn of<E>(error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let detail = chain(error);
        let kind = match error {
            SdkError::TimeoutError(_) => Kind::Timeout,
            SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_)
                if is_about_credentials(error) =>
            {
                Kind::Credentials
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Kind::Timeout,
            SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => Kind::Unavailable,
            SdkError::ServiceError(service) => {
                let said = service.err();
                let status = service.raw().status().as_u16();
                let kind =
                    kind_of(said.code().unwrap_or_default(), said.message().unwrap_or_default(), status);
                let detail = format!(
                    "{}: {}",
                    said.code().unwrap_or("no code"),
                    said.message().unwrap_or("no message")
                );
                return Self::new(kind, detail);
            }
            _ => Kind::Other,
        };
        Self::new(kind, detail)
    }

    /// The condition of a conditional write does not hold.
    pub(super) fn is_condition(&self) -> bool {
        self.kind == Kind::Condition
    }
}

impl From<Failure> for Error {
    fn from(Failure { backend, kind, detail }: Failure) -> Self {
        match kind {
            Kind::Throttled => Self::Throttled { backend, detail },
            Kind::Timeout => Self::Timeout { backend, detail },
            Kind::Unavailable | Kind::InUse => Self::Unavailable { backend, detail },
            Kind::Overloaded | Kind::Conflict => Self::Overloaded { backend, detail },
            Kind::AccessDenied => Self::AccessDenied { backend, detail },
            Kind::Credentials => Self::Credentials { backend, detail },
            Kind::ClockSkew => Self::ClockSkew { backend, detail },
            Kind::MissingTable => Self::MissingTable { backend, detail },
            Kind::MissingBucket => Self::MissingBucket { backend, detail },
            Kind::WrongSchema => Self::WrongSchema { backend, detail },
            Kind::MissingIndex => Self::Unsupported {
                backend,
                detail: "a table lacks the index for this: run `crawlcache tables create --update`"
                    .to_owned(),
            },
            Kind::TooLarge => Self::TooLarge { backend, detail },
            Kind::Condition | Kind::MissingObject | Kind::Unknown | Kind::Other => {
                Self::Backend { backend, detail }
            }
        }
    }
}

/// Whether no credentials could be had: the reason lies deep in the chain of causes.
fn is_about_credentials(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Codes of DynamoDB and S3: their API references, "Common Errors", and the errors of each operation.
fn kind_of(code: &str, message: &str, status: u16) -> Kind {
    match code {
        "ConditionalCheckFailedException" | "PreconditionFailed" => Kind::Condition,
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "LimitExceededException"
        | "SlowDown" => Kind::Throttled,
        "TransactionConflictException"
        | "TransactionInProgressException"
        | "ReplicatedWriteConflictException"
        | "OperationAborted"
        | "ConditionalRequestConflict" => Kind::Conflict,
        "TransactionCanceledException" => kind_of_cancellation(message),
        "AccessDeniedException" | "AccessDenied" | "KMSAccessDeniedException" | "AllAccessDisabled" => {
            Kind::AccessDenied
        }
        // A key of KMS that is disabled, deleted or not this account's.
        _ if code.starts_with("KMS.") => Kind::AccessDenied,
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => Kind::ClockSkew,
        "InvalidSignatureException" | "SignatureDoesNotMatch" if is_about_time(message) => Kind::ClockSkew,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignatureException"
        | "InvalidToken" => Kind::Credentials,
        "ResourceNotFoundException" | "TableNotFoundException" => Kind::MissingTable,
        // One of this name may be in another region.
        "NoSuchBucket" | "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => {
            Kind::MissingBucket
        }
        "ResourceInUseException" | "TableInUseException" => Kind::InUse,
        "NoSuchKey" | "NotFound" => Kind::MissingObject,
        "ItemCollectionSizeLimitExceededException" => Kind::TooLarge,
        "ValidationException" => kind_of_validation(message),
        "UnknownOperationException"
        | "UnsupportedOperationException"
        | "InvalidAction"
        | "NotImplemented" => Kind::Unknown,
        _ if status == 501 => Kind::Unknown,
        "RequestTimeout" | "RequestTimeoutException" => Kind::Timeout,
        // The answer to a HEAD has no body, and so no code.
        "" if status == 301 || status == 307 => Kind::MissingBucket,
        "" if status == 403 => Kind::AccessDenied,
        "" if status == 429 || status == 503 => Kind::Throttled,
        _ if status >= 500 => Kind::Unavailable,
        _ => Kind::Other,
    }
}

/// A signature names the time at which it was made.
fn is_about_time(message: &str) -> bool {
    message.contains("Signature expired") || message.contains("Signature not yet current")
}

/// A transaction, or a statement of `PartiQL`, names a reason for each of its items.
fn kind_of_cancellation(message: &str) -> Kind {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["ConditionalCheckFailed", "DuplicateItem"]) {
        Kind::Condition
    } else if says(&["TransactionConflict"]) {
        Kind::Conflict
    } else if says(&["ThrottlingError", "ProvisionedThroughputExceeded"]) {
        Kind::Throttled
    } else {
        Kind::Other
    }
}

/// DynamoDB has one code for everything that is wrong with a request.
fn kind_of_validation(message: &str) -> Kind {
    let message = message.to_ascii_lowercase();
    let says = |words: &str| message.contains(words);
    if says("does not have the specified index") {
        Kind::MissingIndex
    } else if says("item size") || says("exceeded the maximum allowed size") {
        Kind::TooLarge
    } else if says("does not match the schema")
        || says("missing the key")
        || says("type mismatch for")
        || says("number of conditions on the keys is invalid")
        || says("missed key element")
    {
        Kind::WrongSchema
    } else {
        Kind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_conditions() {
        for (code, message, status, kind) in [
            ("ProvisionedThroughputExceededException", "", 400, Kind::Throttled),
            ("AccessDeniedException", "User: x is not authorized", 400, Kind::AccessDenied),
            (
                "InvalidSignatureException",
                "Signature expired: 20260101T000000Z is now earlier",
                400,
                Kind::ClockSkew,
            ),
            (
                "InvalidSignatureException",
                "The request signature we calculated does not match",
                400,
                Kind::Credentials,
            ),
            (
                "ExpiredTokenException",
                "The security token included in the request is expired",
                400,
                Kind::Credentials,
            ),
            ("ResourceNotFoundException", "Requested resource not found", 400, Kind::MissingTable),
            (
                "ValidationException",
                "The provided key element does not match the schema",
                400,
                Kind::WrongSchema,
            ),
            (
                "ValidationException",
                "One of the required keys was not given a value: Missing the key url",
                400,
                Kind::WrongSchema,
            ),
            ("ValidationException", "Item size has exceeded the maximum allowed size", 400, Kind::TooLarge),
            ("ValidationException", "ExpressionAttributeValues must not be empty", 400, Kind::Other),
            ("TransactionConflictException", "Transaction is ongoing for the item", 400, Kind::Conflict),
            ("TransactionInProgressException", "", 400, Kind::Conflict),
            ("ReplicatedWriteConflictException", "", 400, Kind::Conflict),
            (
                "TransactionCanceledException",
                "Transaction cancelled, please refer cancellation reasons for specific reasons [None, TransactionConflict]",
                400,
                Kind::Conflict,
            ),
            (
                "TransactionCanceledException",
                "specific reasons [TransactionConflict, ConditionalCheckFailed]",
                400,
                Kind::Condition,
            ),
            ("TransactionCanceledException", "specific reasons [ThrottlingError]", 400, Kind::Throttled),
            ("TransactionCanceledException", "specific reasons [ValidationError]", 400, Kind::Other),
            ("NoSuchBucket", "The specified bucket does not exist", 404, Kind::MissingBucket),
            ("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong", 400, Kind::MissingBucket),
            ("", "", 301, Kind::MissingBucket),
            ("KMS.DisabledException", "the key is disabled", 400, Kind::AccessDenied),
            ("OperationAborted", "A conflicting operation is in progress", 409, Kind::Conflict),
            ("UnknownOperationException", "UpdateTimeToLive is not supported", 400, Kind::Unknown),
            ("", "", 501, Kind::Unknown),
            ("InternalServerError", "", 500, Kind::Unavailable),
            ("", "", 503, Kind::Throttled),
            ("", "", 403, Kind::AccessDenied),
            ("", "", 502, Kind::Unavailable),
            (
                "ValidationException",
                "The table does not have the specified index: time-index",
                400,
                Kind::MissingIndex,
            ),
            ("ConditionalCheckFailedException", "The conditional request failed", 400, Kind::Condition),
        ] {
            assert_eq!(kind_of(code, message, status), kind, "{code}: {message}");
        }
    }

    #[test]
    fn a_failure_names_the_service_that_failed() {
        let denied = Failure::new(Kind::AccessDenied, "no");
        assert_eq!(Error::from(denied.clone()).backend(), Some("dynamodb"));
        assert_eq!(Error::from(denied.of_s3()).backend(), Some("s3"));
    }

    #[test]
    fn a_conflict_is_neither_an_outage_nor_for_ever() {
        let error = Error::from(Failure::new(Kind::Conflict, "others write it"));
        assert!(error.is_transient() && !error.is_outage(), "{error:?}");
    }

    #[test]
    fn causes_are_searched_to_the_end() {
        let deep = SdkError::<aws_sdk_dynamodb::operation::get_item::GetItemError>::construction_failure(
            CredentialsError::provider_error(CredentialsError::not_loaded("none")),
        );
        assert_eq!(Failure::of(&deep).kind, Kind::Credentials);
        let other = SdkError::<aws_sdk_dynamodb::operation::get_item::GetItemError>::timeout_error("late");
        assert_eq!(Failure::of(&other).kind, Kind::Timeout);
    }
}
