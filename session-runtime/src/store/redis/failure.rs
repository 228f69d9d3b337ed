//! Why a call of Redis failed.

use redis::RedisError;

use crate::store::{ColumnRef, StoreError};

/// Why a call failed. It is logged: it names fields and shows no value of a row.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("cannot connect to the server")]
    Connect(#[source] RedisError),
    #[error("there is a row of this id")]
    Taken,
    #[error("the call was sent twice, and the first may have changed the row before others did")]
    Unconfirmed,
    #[error("Redis {0} is too old: 6.2 or later is needed")]
    OldServer(String),
    #[error("{reached} of {needed} replicas have acknowledged the write; it may be stored all the same")]
    TooFewReplicas { reached: u32, needed: u32 },
    #[error("the store was not prepared for a table")]
    NotPrepared,
    #[error(
        "the near cache needs a store of `RedisStore::connect` on one server or behind sentinels: the connections of a \
         cluster, and those that the program has made, are replaced without notice, and with them the news of changes"
    )]
    NoNearCache,
    #[error("the deadline has passed")]
    Deadline,
    #[error("the table has no column {0:?}")]
    NoColumn(ColumnRef),
    #[error("{mismatch}, or remove the key {key:?} when none of them is left")]
    Column { mismatch: String, key: String },
    #[error("the table has {table} projected columns, and the row {row}")]
    ColumnCount { table: usize, row: usize },
    #[error("field {field:?} of the row does not hold {expected}")]
    Malformed { field: String, expected: &'static str },
}

impl Failure {
    /// Makes the error of a call. A row or a filter that does not fit the table is refused for good.
    pub(super) fn into_error(self, operation: &'static str) -> StoreError {
        match self {
            Self::NoColumn(_) | Self::ColumnCount { .. } => StoreError::refused(operation, None, self),
            Self::TooFewReplicas { .. } => StoreError::undurable(operation, self),
            Self::Deadline => StoreError::deadline(operation),
            _ => StoreError::new(operation, self),
        }
    }

    pub(super) fn malformed(field: &str, expected: &'static str) -> Self {
        Self::Malformed { field: field.to_owned(), expected }
    }
}
