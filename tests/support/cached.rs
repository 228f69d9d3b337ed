//! A store whose every load may come from its cache.

use std::time::Instant;

use session_runtime::store::Row;
use session_runtime::{Directory, SessionId, Store, StoreError};

/// A store of one process: all its loads are `load_cached`.
#[derive(Clone, Debug)]
pub struct Cached<S>(pub S);

impl<S: Store> Store for Cached<S> {
    crate::forward!(0: prepare, insert, update, delete, prune, write_limited);

    async fn load(&self, id: SessionId, deadline: Instant) -> Result<Option<Row>, StoreError> {
        self.0.load_cached(id, deadline).await
    }
}

impl<S: Directory> Directory for Cached<S> {
    crate::forward!(0: find, count, remove, health);
}
