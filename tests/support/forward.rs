//! A macro for stores that wrap another store: each states only the calls that it changes.

/// Writes calls of `Store` or `Directory` that forward to a store in a field.
///
/// ```
/// use session_runtime::store::{Outcome, Row, Update};
/// use session_runtime::{MemoryStore, Store, StoreError};
///
/// struct Forgetful {
///     rows: MemoryStore,
/// }
///
/// impl Store for Forgetful {
///     databag_tests::forward!(rows: prepare, load, insert, delete, prune, write_limited);
///
///     async fn update(&self, _: Update, _: std::time::Instant) -> Result<Outcome, StoreError> {
///         Ok(Outcome::Stored)
///     }
/// }
/// ```
#[macro_export]
macro_rules! forward {
    ($field:tt: $($call:ident),+ $(,)?) => {
        $($crate::forward!(@$call $field);)+
    };
    (@prepare $field:tt) => {
        async fn prepare(
            &mut self,
            table: &::session_runtime::store::Table,
            timeout: ::std::time::Duration,
        ) -> Result<(), ::session_runtime::StoreError> {
            ::session_runtime::Store::prepare(&mut self.$field, table, timeout).await
        }

        async fn claim(
            &self,
            table: &::session_runtime::store::Table,
            bag: &str,
            deadline: ::std::time::Instant,
        ) -> Result<String, ::session_runtime::StoreError> {
            ::session_runtime::Store::claim(&self.$field, table, bag, deadline).await
        }
    };
    (@load $field:tt) => {
        async fn load(
            &self,
            id: ::session_runtime::SessionId,
            deadline: ::std::time::Instant,
        ) -> Result<Option<::session_runtime::store::Row>, ::session_runtime::StoreError> {
            ::session_runtime::Store::load(&self.$field, id, deadline).await
        }

        async fn load_cached(
            &self,
            id: ::session_runtime::SessionId,
            deadline: ::std::time::Instant,
        ) -> Result<Option<::session_runtime::store::Row>, ::session_runtime::StoreError> {
            ::session_runtime::Store::load_cached(&self.$field, id, deadline).await
        }
    };
    (@insert $field:tt) => {
        async fn insert(
            &self,
            row: ::session_runtime::store::Row,
            deadline: ::std::time::Instant,
        ) -> Result<(), ::session_runtime::StoreError> {
            ::session_runtime::Store::insert(&self.$field, row, deadline).await
        }
    };
    (@update $field:tt) => {
        async fn update(
            &self,
            update: ::session_runtime::store::Update,
            deadline: ::std::time::Instant,
        ) -> Result<::session_runtime::store::Outcome, ::session_runtime::StoreError> {
            ::session_runtime::Store::update(&self.$field, update, deadline).await
        }
    };
    (@delete $field:tt) => {
        async fn delete(
            &self,
            id: ::session_runtime::SessionId,
            deadline: ::std::time::Instant,
        ) -> Result<bool, ::session_runtime::StoreError> {
            ::session_runtime::Store::delete(&self.$field, id, deadline).await
        }
    };
    (@prune $field:tt) => {
        async fn prune(
            &self,
            now: ::session_runtime::Timestamp,
            limit: u32,
            deadline: ::std::time::Instant,
        ) -> Result<u64, ::session_runtime::StoreError> {
            ::session_runtime::Store::prune(&self.$field, now, limit, deadline).await
        }
    };
    (@write_limited $field:tt) => {
        async fn write_limited(
            &self,
            write: ::session_runtime::store::LimitedWrite,
            deadline: ::std::time::Instant,
        ) -> Result<
            (::session_runtime::store::Outcome, Vec<::session_runtime::SessionId>),
            ::session_runtime::StoreError,
        > {
            ::session_runtime::Store::write_limited(&self.$field, write, deadline).await
        }
    };
    (@find $field:tt) => {
        async fn find(
            &self,
            filter: &::session_runtime::store::Filter,
            page: ::session_runtime::store::Page,
            deadline: ::std::time::Instant,
        ) -> Result<Vec<::session_runtime::store::Row>, ::session_runtime::StoreError> {
            ::session_runtime::Directory::find(&self.$field, filter, page, deadline).await
        }
    };
    (@count $field:tt) => {
        async fn count(
            &self,
            filter: &::session_runtime::store::Filter,
            deadline: ::std::time::Instant,
        ) -> Result<u64, ::session_runtime::StoreError> {
            ::session_runtime::Directory::count(&self.$field, filter, deadline).await
        }
    };
    (@remove $field:tt) => {
        async fn remove(
            &self,
            filter: &::session_runtime::store::Filter,
            deadline: ::std::time::Instant,
        ) -> Result<Vec<::session_runtime::SessionId>, ::session_runtime::StoreError> {
            ::session_runtime::Directory::remove(&self.$field, filter, deadline).await
        }
    };
    (@health $field:tt) => {
        async fn health(&self, deadline: ::std::time::Instant) -> Result<(), ::session_runtime::StoreError> {
            ::session_runtime::Directory::health(&self.$field, deadline).await
        }
    };
}
