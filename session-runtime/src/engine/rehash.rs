//! Rows with hashes under older keys are written again before a store counts the sessions of their user.

use tokio::time::Instant;

use super::blind::one_of;
use super::commit::{Plan, RowWrite};
use super::core::{Engine, next_page};
use super::load::{Intent, LoadOutcome};
use crate::backend::Custody;
use crate::bag::Databag;
use crate::error::Error;
use crate::store::{ColumnRef, Filter};
use crate::token::SessionId;

impl Engine {
    /// Returns which rows of the user of a write have the user's hash under an older key, if the write ends surplus sessions
    /// of the user. The store would not count them.
    pub(super) fn uncounted(&self, write: &RowWrite) -> Option<Filter> {
        let (context, user) = (&self.context, &write.stored.projection.user);
        write.max_per_user?;
        let mut hashes = context.blind.hashes(&context.protection, ColumnRef::User, user.as_slice())?;
        hashes.pop();
        (!hashes.is_empty()).then(|| one_of(ColumnRef::User, hashes))
    }

    /// Writes the rows of a filter again, under the current key; `own` is written by the caller. No other process makes new
    /// ones, if all have the same current key.
    pub(super) async fn rehash<T: Databag>(
        &self,
        filter: &Filter,
        own: SessionId,
        deadline: Instant,
    ) -> Result<(), Error> {
        if self.backend.custody() == Custody::Client {
            return Ok(());
        }
        let directory = self.directory.as_deref().ok_or_else(|| {
            Error::Usage(
                "the sessions of a user whose column is blind, under an older key, are found by a list, and this store has \
                 none: remove the older keys, or implement `Directory` for the store"
                    .to_owned(),
            )
        })?;
        let mut after = None;
        while let Some(rows) = next_page(directory, filter, &mut after, deadline).await? {
            for row in rows.into_iter().filter(|row| row.id != own) {
                // What cannot be opened, or not be written any more, denies no log-in.
                let Ok(LoadOutcome::Live(mut active)) = self.open::<T>(row, None, None) else { continue };
                active.intent = Intent::Keep;
                let Ok(Plan::Write(write)) = self.plan(&active) else { continue };
                match self.touch_row(&active, &write, deadline).await {
                    // After a conflict or a rename the row has been written by another request, under the current key.
                    Ok(_) => {}
                    Err(error) if error.is_refused() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
