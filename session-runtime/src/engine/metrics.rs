//! Events as metrics, by the facade `metrics`: names, labels and units. `docs/observability.md` lists them.
//!
//! No label has an id, or anything else that a visitor can choose.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::event::{EndCause, Event, Failure, REJECTED, Stage};

const LOADS: &str = "databag_loads_total";
const REJECTIONS: &str = "databag_rejections_total";
const FAILURES: &str = "databag_failures_total";
const CREATED: &str = "databag_sessions_created_total";
const ENDED: &str = "databag_sessions_ended_total";
const ROTATIONS: &str = "databag_rotations_total";
const TOUCHES: &str = "databag_touches_total";
const CONFLICTS: &str = "databag_conflicts_total";
const MERGES: &str = "databag_merges_total";
const CLEANUP_REMOVED: &str = "databag_cleanup_removed_total";
const CLEANUP_BATCHES: &str = "databag_cleanup_batches_total";
const LIVE: &str = "databag_sessions_live";
const RECORD_BYTES: &str = "databag_record_bytes";
const STORE_DURATION: &str = "databag_store_duration_seconds";

/// Makes the observer of the sessions of a bag.
pub(crate) fn observer(bag: &'static str) -> impl Fn(&Event) + Send + Sync + 'static {
    describe();
    begin(bag);
    move |event| note(bag, event)
}

/// Counts an event. Each metric is looked up anew: an exporter may forget one that is idle, and a handle on it counts no more.
fn note(bag: &'static str, event: &Event) {
    match *event {
        Event::Loaded { .. } => count(LOADS, [("bag", bag), ("outcome", "loaded")], 1),
        Event::Expired { .. } => count(LOADS, [("bag", bag), ("outcome", "expired")], 1),
        Event::Rejected { reason, .. } => {
            count(LOADS, [("bag", bag), ("outcome", "rejected")], 1);
            count(REJECTIONS, [("bag", bag), ("reason", reason.name())], 1);
        }
        Event::Failed { stage, failure, .. } => {
            if stage == Stage::Load {
                count(LOADS, [("bag", bag), ("outcome", "failed")], 1);
            }
            count(FAILURES, [("bag", bag), ("stage", stage.name()), ("failure", failure.name())], 1);
        }
        Event::Created { .. } => count(CREATED, [("bag", bag)], 1),
        Event::Ended { cause, .. } => count(ENDED, [("bag", bag), ("cause", cause.name())], 1),
        Event::Rotated { .. } => count(ROTATIONS, [("bag", bag)], 1),
        Event::Touched { .. } => count(TOUCHES, [("bag", bag)], 1),
        Event::Conflicted { .. } => count(CONFLICTS, [("bag", bag)], 1),
        Event::Merged { .. } => count(MERGES, [("bag", bag)], 1),
        Event::CleanedUp { removed } => {
            count(CLEANUP_BATCHES, [("bag", bag)], 1);
            count(CLEANUP_REMOVED, [("bag", bag)], removed);
        }
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        Event::Counted { live } => gauge!(LIVE, &[("bag", bag)]).set(live as f64),
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        Event::Written { bytes, .. } => histogram!(RECORD_BYTES, &[("bag", bag)]).record(bytes as f64),
        Event::StoreCall { store, operation, outcome, duration } => {
            let labels =
                [("bag", bag), ("store", store), ("op", operation.name()), ("outcome", outcome.name())];
            histogram!(STORE_DURATION, &labels).record(duration.as_secs_f64());
        }
    }
}

fn count<const N: usize>(name: &'static str, labels: [(&'static str, &'static str); N], by: u64) {
    counter!(name, &labels).increment(by);
}

/// Shows every counter as 0: a rate needs a value from before the first event.
fn begin(bag: &'static str) {
    for name in [CREATED, ROTATIONS, TOUCHES, CONFLICTS, MERGES, CLEANUP_REMOVED, CLEANUP_BATCHES] {
        count(name, [("bag", bag)], 0);
    }
    for outcome in ["loaded", "expired", "rejected", "failed"] {
        count(LOADS, [("bag", bag), ("outcome", outcome)], 0);
    }
    for reason in REJECTED {
        count(REJECTIONS, [("bag", bag), ("reason", reason.name())], 0);
    }
    for cause in EndCause::ALL {
        count(ENDED, [("bag", bag), ("cause", cause.name())], 0);
    }
    for stage in Stage::ALL {
        for failure in Failure::ALL {
            count(FAILURES, [("bag", bag), ("stage", stage.name()), ("failure", failure.name())], 0);
        }
    }
}

fn describe() {
    describe_counter!(LOADS, Unit::Count, "Requests with a token, by what became of it");
    describe_counter!(REJECTIONS, Unit::Count, "Tokens that are not accepted, by the reason");
    describe_counter!(FAILURES, Unit::Count, "Requests that could not load or store their session");
    describe_counter!(CREATED, Unit::Count, "Sessions that were stored for the first time");
    describe_counter!(ENDED, Unit::Count, "Sessions that were ended before their time, by the cause");
    describe_counter!(ROTATIONS, Unit::Count, "Sessions that continue under another id");
    describe_counter!(TOUCHES, Unit::Count, "Sessions that were only used, and extended");
    describe_counter!(CONFLICTS, Unit::Count, "Writes that met the write of another request");
    describe_counter!(MERGES, Unit::Count, "Changes that were merged with those of another request");
    describe_counter!(CLEANUP_REMOVED, Unit::Count, "Expired rows that were removed");
    describe_counter!(
        CLEANUP_BATCHES,
        Unit::Count,
        "Batches in which expired rows are removed, empty ones too"
    );
    describe_gauge!(LIVE, Unit::Count, "Live sessions of all processes, when they were last counted");
    describe_histogram!(RECORD_BYTES, Unit::Bytes, "The size of a record that was stored");
    describe_histogram!(STORE_DURATION, Unit::Seconds, "The time of a call of the store");
}
