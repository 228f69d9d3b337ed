//! Sessions for tests of handlers, without a store of their own.

use std::future::ready;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::slot::Slot;
use crate::backend::Opened;
use crate::backend::rows::StoredRows;
use crate::bag::Databag;
use crate::engine::config::SessionConfig;
use crate::engine::core::{BagEncoding, Engine, Parts, os_token};
use crate::engine::hooks::Hooks;
use crate::engine::load::{Active, Client};
use crate::envelope::Protection;
use crate::store::{LimitedWrite, Outcome, Row, Store, StoreError, Table, Update, Write};
use crate::token::SessionId;

/// Makes a slot that holds a new session with this content.
///
/// # Panics
///
/// If the bag cannot be encoded: then it could not be stored either.
pub(crate) fn slot_for_test<T: Databag>(bag: T) -> Rc<Slot<T>> {
    let engine = Arc::new(engine::<T>());
    let mut active: Active<T> = engine.fresh(Client::default()).expect("the bag can be encoded");
    active.bag = bag;
    active.set_up_bag();
    Rc::new(Slot::holding(engine, active))
}

fn engine<T: Databag>() -> Engine {
    let config = SessionConfig { max_state_bytes: usize::MAX, ..SessionConfig::new(T::SCHEMA) };
    let parts = Parts {
        protection: Protection::Plain,
        hooks: Hooks::default(),
        clock: Box::new(SystemTime::now),
        tokens: Box::new(os_token),
        encoding: BagEncoding::of::<T>().expect("the bag's defaults can be stored"),
    };
    let backend = Box::new(StoredRows::new(Arc::new(OneRow::default()), Arc::default()));
    let opened = Opened { owner: T::SCHEMA.name.to_owned(), backend, directory: None };
    Engine::new::<T>(config, parts, opened, T::SCHEMA.cookie.name)
}

/// A store of one row: a request has one session.
#[derive(Default)]
struct OneRow(Mutex<Option<Row>>);

impl OneRow {
    fn row(&self) -> MutexGuard<'_, Option<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for OneRow {
    fn prepare(&mut self, _: &Table, _: Duration) -> impl Future<Output = Result<(), StoreError>> + Send {
        ready(Ok(()))
    }

    async fn load(&self, id: SessionId, _: Instant) -> Result<Option<Row>, StoreError> {
        Ok(self.row().clone().filter(|row| row.id == id))
    }

    async fn insert(&self, row: Row, _: Instant) -> Result<(), StoreError> {
        self.row().replace(row);
        Ok(())
    }

    async fn update(&self, update: Update, _: Instant) -> Result<Outcome, StoreError> {
        match &mut *self.row() {
            Some(row) if row.id == update.id => {
                *row = update.row;
                Ok(Outcome::Stored)
            }
            _ => Ok(Outcome::Gone),
        }
    }

    /// There is no other session of the user.
    async fn write_limited(
        &self,
        limited: LimitedWrite,
        deadline: Instant,
    ) -> Result<(Outcome, Vec<SessionId>), StoreError> {
        let outcome = match limited.write {
            Write::Insert(row) => self.insert(row, deadline).await.map(|()| Outcome::Stored)?,
            Write::Update(update) => self.update(update, deadline).await?,
        };
        Ok((outcome, Vec::new()))
    }

    async fn delete(&self, _: SessionId, _: Instant) -> Result<bool, StoreError> {
        Ok(self.row().take().is_some())
    }
}
