//! Touches: a session that was only read, or that a connection uses, extends its idle expiry.

use tokio::time::Instant;

#[cfg(feature = "actix")]
use super::commit::is_to_be_touched;
use super::commit::{Plan, plan_touch};
#[cfg(feature = "actix")]
use super::core::CookieUpdate;
use super::core::Engine;
use super::load::UsedBy;
#[cfg(feature = "actix")]
use super::load::{Active, LoadOutcome};
use super::update::yield_before_retry;
#[cfg(feature = "actix")]
use super::update::{log_failed_touch, set_cookie};
use crate::bag::Databag;
use crate::error::Error;
use crate::store::Outcome;
use crate::token::SessionId;

impl Engine {
    /// Extends the idle expiry of the session of an id, as a request of its visitor does, and returns whether there is one.
    pub(crate) async fn touch_by_id<T: Databag>(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> Result<bool, Error> {
        loop {
            let touch = {
                let Some(mut active) = self.load_by_id::<T>(id, deadline).await? else { return Ok(false) };
                active.used_by = UsedBy::Visitor;
                match plan_touch(&self.context, &active, self.now())? {
                    Plan::Touch(write) => self.touch_row(&active, &write, deadline),
                    _ => return Ok(true),
                }
            };
            match touch.await? {
                Outcome::Stored => return Ok(true),
                Outcome::Gone => return Ok(false),
                Outcome::Conflict => yield_before_retry(deadline).await?,
            }
        }
    }
}

#[cfg(feature = "actix")]
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
        touched.inspect_err(|error| log_failed_touch::<T>(active.id, error)).ok().flatten()
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
