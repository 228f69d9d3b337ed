//! Touches: a session that was only read extends its idle expiry.

use tokio::time::Instant;

use super::commit::{Plan, is_to_be_touched, plan_touch};
use super::core::{CookieUpdate, Engine};
use super::load::{Active, LoadOutcome};
use super::update::{log_failed_touch, set_cookie, yield_before_retry};
use crate::bag::Databag;
use crate::error::Error;
use crate::store::Outcome;

impl Engine {
    /// Returns whether [`touch`](Self::touch) has anything to do.
    pub(crate) fn is_to_be_touched<T>(&self, active: &Active<T>) -> bool {
        is_to_be_touched(&self.context, active, self.now())
    }

    /// Extends the idle expiry; best effort, because no handler asked for it.
    pub(crate) async fn touch<T: Databag>(
        &self,
        active: &Active<T>,
        deadline: Instant,
    ) -> Option<CookieUpdate> {
        let touched = self.try_touch(active, deadline).await;
        touched.inspect_err(|error| log_failed_touch(active.id, error)).ok().flatten()
    }

    async fn try_touch<T: Databag>(
        &self,
        active: &Active<T>,
        deadline: Instant,
    ) -> Result<Option<CookieUpdate>, Error> {
        let mut reloaded: Option<Active<T>> = None;
        loop {
            let active = reloaded.as_ref().unwrap_or(active);
            let Plan::Touch(write) = plan_touch(&self.context, active, self.now())? else { return Ok(None) };
            let outcome = self.touch_row(active, &write, deadline).await?;
            if let (Outcome::Conflict, Some(token)) = (outcome, &active.token) {
                // The other request need not have extended the expiry.
                yield_before_retry(deadline).await?;
                match self.load(token.clone(), None, deadline).await? {
                    LoadOutcome::Live(current) => reloaded = Some(current),
                    LoadOutcome::Rejected(_) => return Ok(None),
                }
                continue;
            }
            if outcome != Outcome::Stored {
                return Ok(None);
            }
            let token = self.backend.token(&write.row, write.token).or_else(|| active.token.clone());
            return Ok(set_cookie(token, &write.stored));
        }
    }

    /// Returns whether only the expiry of the session would be written.
    pub(crate) fn only_touches<T: Databag>(&self, active: &Active<T>) -> bool {
        matches!(self.plan(active), Ok(Plan::Touch(_)))
    }
}
