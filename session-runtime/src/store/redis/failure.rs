//! Why a call of Redis failed.

use redis::RedisError;

use crate::store::ColumnRef;

/// Why a call failed. It is logged: it names fields and shows no value of a row.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("there is a row of this id")]
    Taken,
    #[error("Redis {0} is too old: 6.2 or later is needed")]
    OldServer(String),
    #[error("{reached} of {needed} replicas have acknowledged the write; it may be stored all the same")]
    TooFewReplicas { reached: u32, needed: u32 },
    #[error("the store was not prepared for a table")]
    NotPrepared,
    #[error("the deadline has passed")]
    Deadline,
    #[error("the operating system has no random numbers")]
    NoRandomness(#[source] getrandom::Error),
    #[error("the table has no column {0:?}")]
    NoColumn(ColumnRef),
    #[error("the table has {table} projected columns, and the row {row}")]
    ColumnCount { table: usize, row: usize },
    #[error("field {field:?} of the row does not hold {expected}")]
    Malformed { field: String, expected: &'static str },
}

impl Failure {
    pub(super) fn malformed(field: &str, expected: &'static str) -> Self {
        Self::Malformed { field: field.to_owned(), expected }
    }
}
