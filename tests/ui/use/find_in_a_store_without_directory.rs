use std::time::Duration;

use session_runtime::store::{Outcome, Row, Table, Update};
use session_runtime::{Databag, SessionId, Sessions, Store, StoreError};

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    tenant: Option<String>,
}

struct Sealed;

impl Store for Sealed {
    async fn prepare(&mut self, _: &Table, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }
    async fn load(&self, _: SessionId) -> Result<Option<Row>, StoreError> {
        Ok(None)
    }
    async fn insert(&self, _: Row) -> Result<(), StoreError> {
        Ok(())
    }
    async fn update(&self, _: Update) -> Result<Outcome, StoreError> {
        Ok(Outcome::Gone)
    }
    async fn delete(&self, _: SessionId) -> Result<bool, StoreError> {
        Ok(false)
    }
}

fn of_tenant(sessions: &Sessions<Shop, Sealed>) {
    let _ = sessions.find(Shop::TENANT.eq("acme"));
}

fn main() {
    let _ = of_tenant;
}
