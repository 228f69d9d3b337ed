//! Sessions that were ended while the store was down: refused here until the store has deleted them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::store::AnyRows;
use crate::token::SessionId;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Refused {
    ids: Arc<Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    /// Spares every load the lock: there are none, nearly always.
    count: AtomicUsize,
    set: RwLock<HashSet<SessionId>>,
}

impl Refused {
    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.ids.count.load(Ordering::Acquire) != 0
            && self.ids.set.read().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    /// Refuses a session from now on, and tries to delete it until that succeeds.
    pub(crate) fn insert(&self, id: SessionId, store: Arc<dyn AnyRows>) {
        let news = self.ids.change(|set| set.insert(id));
        if news && let Ok(runtime) = Handle::try_current() {
            runtime.spawn(delete(Arc::downgrade(&self.ids), id, store));
        }
    }
}

impl Ids {
    fn change(&self, change: impl FnOnce(&mut HashSet<SessionId>) -> bool) -> bool {
        let mut set = self.set.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut set);
        self.count.store(set.len(), Ordering::Release);
        changed
    }
}

async fn delete(ids: Weak<Ids>, id: SessionId, store: Arc<dyn AnyRows>) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(ids) = ids.upgrade() else { return };
        // A call that is never answered must not be the last one.
        if let Ok(Ok(deleted)) = tokio::time::timeout(LONGEST_PAUSE, store.delete(id)).await {
            if !deleted {
                // A request may be renaming it at this moment, and has to find that it was to end.
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            ids.change(|set| set.remove(&id));
            return;
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
