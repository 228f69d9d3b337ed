//! The spans of `tracing`, by their names. They are at the level `DEBUG`, and have no token, key or value.

use tracing::Span;
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;

use super::commit::Plan;
use super::load::LoadOutcome;
use crate::error::{Error, Rejection};
use crate::token::SessionId;

/// As a filter of the log names this crate: modules may change.
const TARGET: &str = "session_runtime";

/// Returns whether no subscriber wants spans of this level. A span that is disabled still costs, with the feature `log` of
/// `tracing`, which actix-web turns on.
fn is_unwanted() -> bool {
    LevelFilter::current() < LevelFilter::DEBUG
}

/// Makes the span of a load. [`note_load`] adds its outcome.
pub(crate) fn load(bag: &'static str, session: SessionId) -> Span {
    if is_unwanted() {
        return Span::none();
    }
    tracing::debug_span!(target: TARGET, "databag.load", bag, ?session, outcome = Empty)
}

pub(crate) fn note_load<T>(span: &Span, outcome: &Result<LoadOutcome<T>, Error>) {
    if span.is_none() {
        return;
    }
    span.record(
        "outcome",
        match outcome {
            Ok(LoadOutcome::Live(_)) => "loaded",
            Ok(LoadOutcome::Rejected(Rejection::Expired)) => "expired",
            Ok(LoadOutcome::Rejected(_)) => "rejected",
            Err(_) => "failed",
        },
    );
}

/// Makes the span of a commit. [`note_commit`] adds its outcome.
pub(crate) fn commit(bag: &'static str, session: SessionId, plan: &'static str) -> Span {
    if is_unwanted() {
        return Span::none();
    }
    tracing::debug_span!(target: TARGET, "databag.commit", bag, ?session, plan, outcome = Empty)
}

pub(crate) fn note_commit<R>(span: &Span, outcome: &Result<R, Error>) {
    if span.is_none() {
        return;
    }
    span.record("outcome", if outcome.is_ok() { "done" } else { "failed" });
}

/// Returns the name of a plan.
pub(crate) fn plan_name(plan: &Result<Plan, Error>) -> &'static str {
    match plan {
        Ok(Plan::Keep) => "keep",
        Ok(Plan::Touch(_)) => "touch",
        Ok(Plan::Create(_)) => "create",
        Ok(Plan::Write(_)) => "write",
        Ok(Plan::Rotate(_)) => "rotate",
        Ok(Plan::Delete) => "delete",
        Err(_) => "refused",
    }
}
