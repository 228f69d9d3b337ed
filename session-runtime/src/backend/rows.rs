//! Sessions as rows in a store.

use std::sync::Arc;
use std::time::Instant;

use super::tombstones::Tombstones;
use super::{Backend, Custody, Reloaded, Requirements};
use crate::bag::Projection;
use crate::clock::Timestamp;
use crate::codec::Framing;
use crate::envelope::Place;
use crate::store::{DynStore, LimitedWrite, Outcome, Row, RowVersions, StoreFuture, Update};
use crate::token::{SessionId, Token};

pub(crate) struct StoredRows {
    store: Arc<dyn DynStore>,
    tombstones: Arc<Tombstones>,
}

impl StoredRows {
    pub(crate) fn new(store: Arc<dyn DynStore>) -> Self {
        Self { store, tombstones: Arc::default() }
    }
}

impl Backend for StoredRows {
    fn is_token(&self, token: &Token) -> bool {
        token.sealed_session().is_none()
    }

    fn load<'a>(&'a self, token: &'a Token, deadline: Instant) -> StoreFuture<'a, Option<Row>> {
        self.store.load(token.session_id(), deadline)
    }

    fn load_cached<'a>(&'a self, token: &'a Token, deadline: Instant) -> StoreFuture<'a, Option<Row>> {
        self.store.load_cached(token.session_id(), deadline)
    }

    fn reload(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, Reloaded> {
        Box::pin(
            async move { Ok(self.store.load(id, deadline).await?.map_or(Reloaded::Gone, Reloaded::Row)) },
        )
    }

    fn load_versions<'a>(&'a self, ids: &'a [SessionId], deadline: Instant) -> StoreFuture<'a, RowVersions> {
        self.store.load_versions(ids, deadline)
    }

    fn insert(&self, row: Row, deadline: Instant) -> StoreFuture<'_, ()> {
        self.store.insert(row, deadline)
    }

    fn replace(&self, update: Update, deadline: Instant) -> StoreFuture<'_, Outcome> {
        self.store.update(update, deadline)
    }

    fn delete(&self, id: SessionId, deadline: Instant) -> StoreFuture<'_, bool> {
        self.store.delete(id, deadline)
    }

    fn prune(&self, now: Timestamp, limit: u32, deadline: Instant) -> StoreFuture<'_, u64> {
        self.store.prune(now, limit, deadline)
    }

    fn write_limited(
        &self,
        write: LimitedWrite,
        deadline: Instant,
    ) -> StoreFuture<'_, (Outcome, Vec<SessionId>)> {
        self.store.write_limited(write, deadline)
    }

    fn block(&self, id: SessionId) {
        self.tombstones.block(id, self.store.clone());
    }

    fn is_ended_here(&self, id: SessionId) -> bool {
        self.tombstones.is_blocked(id)
    }

    fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    fn token(&self, _: &Row, token: Option<Token>) -> Option<Token> {
        token
    }

    fn columns(&self, row: &mut Row) -> Option<Projection> {
        Some(Projection { user: row.user.take(), ip: row.ip, columns: std::mem::take(&mut row.columns) })
    }

    fn custody(&self) -> Custody {
        Custody::Store
    }

    fn place(&self, framing: Framing, _: &str) -> Place {
        match framing {
            Framing::Binary => Place::Bytes,
            Framing::JsonObject => Place::Text,
        }
    }

    fn max_state_len(&self, _: &str) -> usize {
        usize::MAX
    }

    fn refusal(&self, _: Requirements) -> Option<&'static str> {
        None
    }
}
