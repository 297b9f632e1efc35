//! The outbox: writes that DynamoDB has yet to get, at most one a key, in the order in which they came.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};

use super::queue;
use crate::domain::session::SessionId;
use crate::domain::{Key, KeyId, Namespace, Timestamp, Version};
use crate::store::sqlite::error::{corrupt, from_sqlite};
use crate::store::sqlite::rows::{one, signed, time, total, unsigned};
use crate::store::sqlite::writer::Totals;
use crate::store::sqlite::{FILE_NAME, OpenError, SqliteStore, schema};
use crate::store::{Error, Result};

/// How many rows, parked ones included, wait in the database of a data directory, and where that is; none where there is no
/// database. It is opened to be read only, also while another process has it open.
///
/// # Errors
/// When it cannot be read.
pub fn left_in(data_dir: &Path) -> std::result::Result<Option<(u64, PathBuf)>, OpenError> {
    let path = data_dir.join(FILE_NAME);
    if !path.exists() {
        return Ok(None);
    }
    let connection = schema::open_reader(&path, 0)?;
    let rows = connection.query_row(
        "select coalesce(sum(value), 0) from totals where name in ('outbox', 'parked')",
        [],
        |row| unsigned(row, 0),
    );
    let rows = rows.map_err(|error| schema::describe(&path, &error))?;
    Ok(Some((rows, path)))
}

/// What a row of the outbox is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queued {
    /// A result.
    Result(Key),
    /// A session.
    Session(Namespace, SessionId),
}

impl Queued {
    /// The id of the row.
    pub fn id(&self) -> KeyId {
        match self {
            Self::Result(key) => key.id(),
            Self::Session(namespace, id) => super::session_id(namespace, id),
        }
    }

    /// Its namespace, its url or id, and its variant.
    pub(super) fn parts(&self) -> (&Namespace, &str, &str) {
        match self {
            Self::Result(key) => (key.namespace(), key.url(), key.variant()),
            Self::Session(namespace, id) => (namespace, id.as_str(), ""),
        }
    }

    /// `result` or `session`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Result(_) => "result",
            Self::Session(..) => "session",
        }
    }
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the order.
    pub seq: i64,
    /// What it is about.
    pub what: Queued,
    /// The version that the other side must have at least.
    pub version: Version,
    /// When the first write that it stands for came.
    pub enqueued_at: Timestamp,
    /// Not to be tried before.
    pub due_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last try said.
    pub error: Option<String>,
}

/// What came of trying a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The other side has this version, or a newer one.
    Delivered {
        /// The version that was delivered.
        version: Version,
    },
    /// To be tried again.
    Later {
        /// Not before.
        due_at: Timestamp,
        /// What it said.
        error: String,
    },
    /// To be tried again, through no fault of its own: this was no attempt.
    Wait {
        /// Not before.
        due_at: Timestamp,
        /// What it said.
        error: String,
    },
    /// The other side has judged this version and does not take it. What else the row stands for is what SQLite has.
    Refused {
        /// The version that was refused.
        version: Version,
    },
    /// Not to be tried again before somebody says so.
    Park {
        /// What it said.
        error: String,
    },
}

/// How the outbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxStatus {
    /// Rows that wait, parked ones aside.
    pub queued: u64,
    /// Rows that are parked.
    pub parked: u64,
    /// When the oldest row that waits came. Left to itself, SQLite takes the index by due time, and sorts.
    pub oldest: Option<Timestamp>,
}

impl SqliteStore {
    /// Up to `limit` rows that are due, in order. Nothing is marked: there is one relay.
    ///
    /// # Errors
    /// As any read.
    pub async fn outbox_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Row>> {
        self.rows(
            "select {} from outbox where parked = 0 and due_at <= ?1 order by due_at, seq",
            [signed(now.as_millis())],
            limit,
        )
        .await
    }

    /// The row of a key, parked or not.
    ///
    /// # Errors
    /// As any read.
    pub async fn outbox_row(&self, id: KeyId) -> Result<Option<Row>> {
        let sql = format!("select {ROW_COLUMNS} from outbox where id = ?1");
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&sql).map_err(|error| from_sqlite(&error))?;
            one(&mut statement, [&id.as_bytes()[..]], row_of)
        })
        .await
    }

    /// Writes down what came of trying rows: one transaction. A row whose version has grown meanwhile stays, due now.
    ///
    /// # Errors
    /// As any write.
    pub async fn outbox_tried(&self, tried: Vec<(KeyId, Tried)>) -> Result<()> {
        let now = self.0.clock.now();
        self.write(0, move |connection, totals| {
            for (id, tried) in &tried {
                note(connection, totals, *id, tried, now)?;
            }
            Ok(Ok(()))
        })
        .await
    }

    /// How the outbox is.
    ///
    /// # Errors
    /// As any read.
    pub async fn outbox_status(&self) -> Result<OutboxStatus> {
        self.read(|connection| {
            let total = |name| total(connection, name);
            let oldest = || connection.prepare_cached(OLDEST)?.query_row([], |row| time(row, 0)).optional();
            (|| Ok(OutboxStatus { queued: total("outbox")?, parked: total("parked")?, oldest: oldest()? }))()
                .map_err(|error: rusqlite::Error| from_sqlite(&error))
        })
        .await
    }

    /// Rows in order, from behind `after` on; only parked ones if asked for.
    ///
    /// # Errors
    /// As any read.
    pub async fn outbox_rows(&self, parked: bool, after: i64, limit: usize) -> Result<Vec<Row>> {
        let sql = if parked {
            "select {} from outbox where seq > ?1 and parked = 1 order by seq"
        } else {
            "select {} from outbox where seq > ?1 order by seq"
        };
        self.rows(sql, [after], limit).await
    }

    /// Lets parked rows be tried again: all, or the one with this place. Says how many there were.
    ///
    /// # Errors
    /// As any write.
    pub async fn outbox_unpark(&self, seq: Option<i64>, now: Timestamp) -> Result<u64> {
        self.write(0, move |connection, totals| {
            let unparked = connection
                .prepare_cached(
                    "update outbox set parked = 0, attempts = 0, due_at = ?2
                     where parked = 1 and (?1 is null or seq = ?1)",
                )?
                .execute((seq, signed(now.as_millis())))?;
            let rows = i64::try_from(unparked).unwrap_or(0);
            totals.parked -= rows;
            totals.outbox += rows;
            Ok(Ok(unparked as u64))
        })
        .await
    }

    /// Gives up a parked row: the other side will not be told. False if no such row is parked.
    ///
    /// # Errors
    /// As any write.
    pub async fn outbox_discard(&self, seq: i64) -> Result<bool> {
        self.write(0, move |connection, totals| {
            let discarded = connection
                .prepare_cached("delete from outbox where seq = ?1 and parked = 1")?
                .execute([seq])?;
            totals.parked -= i64::try_from(discarded).unwrap_or(0);
            Ok(Ok(discarded > 0))
        })
        .await
    }

    /// The rows that a statement finds, the columns left open in it, up to `limit`.
    async fn rows<P: rusqlite::Params + Send + 'static>(
        &self,
        sql: &str,
        parameters: P,
        limit: usize,
    ) -> Result<Vec<Row>> {
        let sql = sql.replace("{}", ROW_COLUMNS);
        self.read(move |connection| {
            let read = |error: rusqlite::Error| from_sqlite(&error);
            let mut statement = connection.prepare_cached(&sql).map_err(read)?;
            let mut found = statement.query(parameters).map_err(read)?;
            let mut rows = Vec::new();
            while rows.len() < limit
                && let Some(row) = found.next().map_err(read)?
            {
                match row_of(row) {
                    Ok(row) => rows.push(row),
                    // One damaged row must not hold up those behind it.
                    Err(Error::Corrupt { detail, .. }) => {
                        tracing::error!(detail, "a damaged row of the outbox was left out");
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(rows)
        })
        .await
    }
}

/// The columns that [`row_of`] reads, in its order.
const ROW_COLUMNS: &str =
    "seq, kind, namespace, name, variant, version, enqueued_at, due_at, attempts, error";

/// When the oldest row that waits came. Left to itself, SQLite takes the index by due time, and sorts.
pub(in crate::store::sqlite) const OLDEST: &str =
    "select enqueued_at from outbox indexed by outbox_by_age where parked = 0 order by enqueued_at limit 1";

fn row_of(row: &rusqlite::Row<'_>) -> Result<Row> {
    let seq: i64 = row.get(0).map_err(|error| from_sqlite(&error))?;
    let broken = |error: String| corrupt(format!("row {seq} of the outbox: {error}"));
    let read = || -> rusqlite::Result<_> {
        let (kind, namespace): (String, String) = (row.get(1)?, row.get(2)?);
        let (name, variant): (String, String) = (row.get(3)?, row.get(4)?);
        let times = (time(row, 6)?, time(row, 7)?);
        let facts = (Version::from_u64(unsigned(row, 5)?), times, row.get(8)?, row.get(9)?);
        Ok((kind, namespace, name, variant, facts))
    };
    let (kind, namespace, name, variant, (version, (enqueued_at, due_at), attempts, error)) = read()
        .map_err(|error| match error {
            rusqlite::Error::SqliteFailure(..) => from_sqlite(&error),
            _ => broken(error.to_string()),
        })?;
    let namespace = Namespace::new(&namespace).map_err(|error| broken(error.to_string()))?;
    let what = match kind.as_str() {
        "result" => Key::new(&namespace, &name, &variant).map(Queued::Result).map_err(|it| it.to_string()),
        "session" => {
            SessionId::new(&name).map(|id| Queued::Session(namespace, id)).map_err(|error| error.to_string())
        }
        _ => Err(format!("neither a result nor a session but `{kind}`")),
    };
    Ok(Row { seq, what: what.map_err(broken)?, version, enqueued_at, due_at, attempts, error })
}

/// Has a row that stands for version `?2` of a result stand for what SQLite has instead, due now.
const REFUSED: &str = "update outbox set due_at = min(due_at, ?3), version = max(
        coalesce((select version from results where results.id = ?1), 0),
        coalesce((select version from tombstones where tombstones.id = ?1), 0))
    where id = ?1 and version = ?2 and parked = 0";

/// Writes down what came of trying one row.
fn note(
    connection: &Connection,
    totals: &mut Totals,
    id: KeyId,
    tried: &Tried,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let key = &id.as_bytes()[..];
    match tried {
        Tried::Delivered { version } => {
            queue::settle(connection, totals, id, *version)?;
            // What is still there came meanwhile.
            connection
                .prepare_cached("update outbox set due_at = min(due_at, ?2) where id = ?1")?
                .execute((key, signed(now.as_millis())))?;
        }
        Tried::Refused { version } => {
            connection.prepare_cached(REFUSED)?.execute((
                key,
                signed(version.as_u64()),
                signed(now.as_millis()),
            ))?;
            // Where SQLite has nothing either, the row stands for nothing.
            queue::settle(connection, totals, id, Version::default())?;
        }
        Tried::Later { due_at, error } => {
            connection
                .prepare_cached(
                    "update outbox set due_at = ?2, error = ?3, attempts = attempts + 1
                     where id = ?1 and parked = 0",
                )?
                .execute((key, signed(due_at.as_millis()), error))?;
        }
        Tried::Wait { due_at, error } => {
            connection
                .prepare_cached("update outbox set due_at = ?2, error = ?3 where id = ?1 and parked = 0")?
                .execute((key, signed(due_at.as_millis()), error))?;
        }
        Tried::Park { error } => {
            let parked = connection
                .prepare_cached(
                    "update outbox set parked = 1, error = ?2, attempts = attempts + 1
                     where id = ?1 and parked = 0",
                )?
                .execute((key, error))?;
            let parked = i64::try_from(parked).unwrap_or(0);
            totals.outbox -= parked;
            totals.parked += parked;
        }
    }
    Ok(())
}
