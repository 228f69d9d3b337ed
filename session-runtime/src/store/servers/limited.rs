//! A write and the removal of a user's surplus rows, in one transaction.
//!
//! Without a lock, two log-ins of one user would not see each other's rows, and the user would have one too many. So each of
//! them first takes a lock of the user, and begins to read only then. The row that is written and those that stay are not
//! locked for longer than without a limit.

use super::QueryResult;
use super::driver::{Connection, Failure, Query, SqlDriver};
use super::startup::lock_number;
use crate::store::sql::Datum;
use crate::value::Value;

/// What follows a write in its transaction.
#[derive(Clone, Debug)]
pub(super) struct Limit<'a> {
    /// The number of the user's lock.
    lock: i64,
    /// Removes the surplus rows, as [`Dialect::surplus`](crate::store::sql::dialect::Dialect::surplus) does.
    surplus: Query<'a>,
}

impl<'a> Limit<'a> {
    /// Makes the limit of a user of a table. Two users with the same number wait for each other.
    pub(super) fn new(table: &str, user: Option<&Value>, surplus: Query<'a>) -> Self {
        let user = match user.map(Datum::from) {
            None => Vec::new(),
            Some(Datum::Integer(integer)) => integer.to_be_bytes().to_vec(),
            Some(Datum::Real(real)) => real.to_be_bytes().to_vec(),
            Some(Datum::Text(text)) => text.into_owned().into_bytes(),
            Some(Datum::Blob(blob)) => blob.into_owned(),
        };
        Self { lock: lock_number(&[b"user of ", table.as_bytes(), b"\0", &user].concat()), surplus }
    }

    /// Makes a write and removes the surplus rows, both or neither; removes none if the write changes no row.
    pub(super) async fn write<D: SqlDriver>(
        &self,
        connection: &mut Connection<D>,
        write: &Query<'_>,
        delete: &str,
    ) -> Result<QueryResult, Failure> {
        let begin = D::begin_locked(self.lock);
        let is_locked = D::run(connection, begin).await.map_err(undone::<D>)?;
        let written = async {
            if !is_locked {
                return Err(Failure::UserLocked);
            }
            let changed = D::execute(connection, write).await.map_err(undone::<D>)?;
            let rows = match changed {
                0 => Vec::new(),
                _ => D::remove_within(connection, &self.surplus, delete).await.map_err(undone::<D>)?,
            };
            Ok(QueryResult { changed, rows })
        };
        match written.await {
            Ok(result) => {
                let commit = D::end_locked("COMMIT", self.lock);
                D::run(connection, commit).await.map_err(Failure::of::<D>)?;
                Ok(result)
            }
            // The server may keep the lock, and what was written, for as long as the connection lives.
            Err(failure) if failure.leaves_connection_clean() => {
                D::run(connection, D::end_locked("ROLLBACK", self.lock)).await.map_err(undone::<D>)?;
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }
}

/// The server undoes what is not committed.
pub(super) fn undone<D: SqlDriver>(error: sqlx::Error) -> Failure {
    match Failure::of::<D>(error) {
        Failure::ConnectionLost(error) => Failure::Terminated(error),
        failure => failure,
    }
}
