use std::time::Duration;

use session_runtime::store::{Outcome, Row, Table, Update};
use session_runtime::{Databag, SessionId, Sessions, Store, StoreError};

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
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

async fn elsewhere(sessions: Sessions<Shop, Sealed>) {
    let _ = sessions.of_user(7).await;
}

fn main() {
    let _ = elsewhere;
}
