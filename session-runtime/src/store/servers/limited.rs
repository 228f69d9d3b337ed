//! A write and the removal of a user's surplus rows, in one transaction.
//!
//! Without a lock, two log-ins of one user would not see each other's rows, and the user would have one too many. So each of
//! them first takes a lock of the user, and begins to read only then.

use super::driver::{Connection, Failure, Query, SqlDriver};
use super::startup::lock_number;
use crate::store::sql::{Cells, Datum};
use crate::value::Value;

/// The number of the lock of a table's user. Users with the same number wait for each other.
pub(super) fn user_lock(table: &str, user: Option<&Value>) -> i64 {
    let user = match user.map(Datum::from) {
        None => Vec::new(),
        Some(Datum::Integer(integer)) => integer.to_be_bytes().to_vec(),
        Some(Datum::Real(real)) => real.to_be_bytes().to_vec(),
        Some(Datum::Text(text)) => text.into_owned().into_bytes(),
        Some(Datum::Blob(blob)) => blob.into_owned(),
    };
    lock_number(&[b"user of ", table.as_bytes(), b"\0", &user].concat())
}

/// Makes a write under the lock of a number and removes the rows of a statement made by
/// [`Dialect::surplus`](crate::store::sql::dialect::Dialect::surplus), both or neither. Returns how many rows the write has
/// changed, and the ids of those that were removed: none if it has changed none.
pub(super) async fn write<D: SqlDriver>(
    connection: &mut Connection<D>,
    write: &Query<'_>,
    (lock, surplus): (i64, &Query<'_>),
    delete: &str,
) -> Result<(u64, Vec<Cells>), Failure> {
    let is_locked = D::run(connection, D::begin_locked(lock)).await.map_err(Failure::undone::<D>)?;
    let written = async {
        if !is_locked {
            return Err(Failure::UserLocked);
        }
        let changed = D::execute(connection, write).await.map_err(Failure::undone::<D>)?;
        let removed = match changed {
            0 => Vec::new(),
            _ => D::remove_within(connection, surplus, delete).await.map_err(Failure::undone::<D>)?,
        };
        Ok((changed, removed))
    };
    let result = match written.await {
        Ok(written) => {
            let committed = D::run(connection, D::end_locked("COMMIT", lock)).await;
            committed.map(|_| written).map_err(Failure::of::<D>)
        }
        Err(failure) => Err(failure),
    };
    // The server would keep the lock, and what was written, for as long as the connection lives.
    if result.as_ref().err().is_some_and(Failure::leaves_connection_clean) {
        D::run(connection, D::end_locked("ROLLBACK", lock)).await.map_err(Failure::undone::<D>)?;
    }
    result
}
