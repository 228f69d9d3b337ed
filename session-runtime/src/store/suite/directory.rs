//! The checks of a directory: filters, pages, and calls for many rows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{join, join_all};

use super::fixture::{
    self, CheckResult, MAX_STATE, TENANT, TimedStore, checks, ensure, ensure_bounded, hour, id, is_user,
    next, now, of_user, replace, row,
};
use crate::clock::Timestamp;
use crate::store::{ColumnRef, Comparison, Directory, Filter, Outcome, Page, Row, Scope, StoreError, Write};
use crate::value::Value;

/// Runs the checks, and returns the messages of those that fail.
pub(super) async fn check_directory<S: Directory + Clone>(open: &impl AsyncFn() -> S) -> Vec<String> {
    checks![
        open,
        filters_select_as_documented,
        text_is_compared_byte_for_byte,
        pages_follow_one_another_without_gaps_or_overlaps,
        the_newest_rows_come_first,
        a_long_state_is_seen_to_be_too_long_in_a_list,
        removing_returns_the_ids_of_the_removed_rows,
        a_limited_write_removes_the_rows_that_began_first,
        the_row_of_a_limited_write_stays,
        a_limited_update_renames_and_removes_in_one_step,
        a_limited_write_that_fails_removes_nothing,
        parallel_limited_writes_never_leave_more,
        a_session_is_removed_even_while_its_id_changes,
        the_sessions_of_a_user_are_found_after_every_change,
        a_working_store_passes_its_health_check,
    ]
}

async fn filters_select_as_documented<S: Directory>(store: TimedStore<S>) -> CheckResult {
    use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
    let base = now().saturating_add(hour());
    let later = |n: i64| Timestamp::from_millis(base.as_millis() + n);
    for (n, tenant) in [(1, Some("a")), (2, Some("b")), (3, Some("A")), (4, None)] {
        let mut row = Row { expiration: later(n * 10), ..of_user(n.cast_unsigned(), n) };
        row.columns[TENANT] = tenant.map(|tenant| Value::Text(tenant.to_owned()));
        row.ip = (n == 2).then(|| IpAddr::from([10, 0, 0, 2]));
        store.insert(row).await?;
    }
    let text = |text: &str| Value::Text(text.to_owned());
    let tenant = ColumnRef::Projected(TENANT);
    let user = |comparison, n| Filter::Compare(ColumnRef::User, comparison, Value::Integer(n));
    let is_a = || Filter::Compare(tenant, Eq, text("a"));
    let (and, or, not) = (Filter::and, Filter::or, Filter::not);
    let cases: Vec<(Filter, &[u64])> = vec![
        (Filter::All, &[1, 2, 3, 4]),
        (not(Filter::All), &[]),
        (Filter::Id(id(3)), &[3]),
        (is_a(), &[1]),
        (Filter::Compare(tenant, Ne, text("a")), &[2, 3]),
        (Filter::Compare(tenant, Lt, text("a")), &[3]),
        (not(is_a()), &[2, 3, 4]),
        (not(not(is_a())), &[1]),
        (user(Eq, 2), &[2]),
        (user(Eq, 5), &[]),
        (user(Ne, 2), &[1, 3, 4]),
        (user(Lt, 2), &[1]),
        (user(Le, 2), &[1, 2]),
        (user(Gt, 2), &[3, 4]),
        (user(Ge, 2), &[2, 3, 4]),
        (Filter::OneOf(tenant, vec![text("a"), text("b"), text("zz")]), &[1, 2]),
        (Filter::OneOf(tenant, Vec::new()), &[]),
        (not(Filter::OneOf(tenant, Vec::new())), &[1, 2, 3, 4]),
        (Filter::OneOf(ColumnRef::User, vec![Value::Integer(4), Value::Integer(1)]), &[1, 4]),
        (Filter::IsNull(tenant), &[4]),
        (Filter::Compare(ColumnRef::Ip, Eq, text("10.0.0.2")), &[2]),
        (Filter::LiveAt(later(20)), &[3, 4]),
        (and(user(Eq, 3), Filter::LiveAt(later(20))), &[3]),
        (and(user(Eq, 2), Filter::LiveAt(later(20))), &[]),
        (and(or(is_a(), user(Eq, 4)), not(user(Eq, 1))), &[4]),
        (or(is_a(), and(user(Ge, 2), user(Le, 3))), &[1, 2, 3]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<_> = expected.iter().copied().map(id).collect();
        ensure(&format!("the count of {filter:?}"), store.count(&filter).await?, expected.len() as u64)?;
        ensure(&format!("what is found by {filter:?}"), store.ids(&filter).await?, expected)?;
    }
    Ok(())
}

async fn text_is_compared_byte_for_byte<S: Directory>(store: TimedStore<S>) -> CheckResult {
    let texts = ["acme", "ACME", "acme ", " acme", "\u{E4}", "a\u{308}", "", "ss", "\u{DF}", "%", "_"];
    for (n, text) in (0..).zip(texts) {
        let mut row = row(n);
        row.columns[TENANT] = Some(Value::Text(text.to_owned()));
        store.insert(row).await?;
    }
    for (n, text) in (0..).zip(texts) {
        let value = Value::Text(text.to_owned());
        let tenant = ColumnRef::Projected(TENANT);
        let is = Filter::Compare(tenant, Comparison::Eq, value.clone());
        ensure(&format!("what equals {text:?}"), store.ids(&is).await?, vec![id(n)])?;
        let one_of = Filter::OneOf(tenant, vec![value.clone()]);
        ensure(&format!("what is one of {text:?}"), store.ids(&one_of).await?, vec![id(n)])?;
        let others = texts.len() as u64 - 1;
        let differs = Filter::Compare(tenant, Comparison::Ne, value.clone());
        ensure(&format!("what differs from {text:?}"), store.count(&differs).await?, others)?;
        let before = texts.iter().filter(|other| other.as_bytes() < text.as_bytes()).count() as u64;
        let less = Filter::Compare(tenant, Comparison::Lt, value);
        ensure(&format!("what is less than {text:?}"), store.count(&less).await?, before)?;
    }
    Ok(())
}

async fn pages_follow_one_another_without_gaps_or_overlaps<S: Directory>(
    store: TimedStore<S>,
) -> CheckResult {
    // Some ids share their first byte and some do not.
    let numbers = [5, 3, 1, 256 + 1, 4, 512 + 1, 2, 200];
    for n in numbers {
        store.insert(row(n)).await?;
    }
    let mut expected: Vec<_> = numbers.into_iter().map(id).collect();
    expected.sort_unstable();
    let filter = Filter::All.or(Filter::Id(id(1)));
    for limit in [1, 2, 3, 100] {
        let mut seen = Vec::new();
        let mut after = None;
        for _ in 0..=2 * numbers.len() {
            let page = store.find(&filter, Page::new(after, limit)).await?;
            ensure("whether a page respects its limit", page.len() as u64 <= u64::from(limit), true)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            seen.extend(page.iter().map(|row| row.id));
        }
        ensure("the ids of all pages", &seen, &expected)?;
    }
    Ok(())
}

async fn the_newest_rows_come_first<S: Directory>(store: TimedStore<S>) -> CheckResult {
    let now = now();
    let at = |millis: i64| Timestamp::from_millis(now.as_millis() - 3_600_000 + millis);
    // Two began at the same time, and the order of the ids is another one.
    for (n, user, created) in [(1, 7, 30), (2, 8, 60), (3, 7, 50), (4, 7, 10), (200, 7, 30), (6, 7, 20)] {
        store.insert(Row { created: at(created), ..of_user(n, user) }).await?;
    }
    for (filter, newest) in [
        (Filter::All, [2, 3, 200, 1, 6, 4].as_slice()),
        (is_user(7), &[3, 200, 1, 6, 4]),
        (is_user(7).and(Filter::Id(id(4)).not()), &[3, 200, 1, 6]),
    ] {
        for limit in [1, 2, 4, 100] {
            let found = store.find(&filter, Page::newest(limit)).await?;
            let found: Vec<_> = found.iter().map(|row| row.id).collect();
            let expected: Vec<_> = newest.iter().copied().map(id).take(limit as usize).collect();
            ensure(&format!("the {limit} newest rows of {filter:?}"), found, expected)?;
        }
    }
    let page = Page { after: Some(id(2)), ..Page::newest(2) };
    let found = store.find(&Filter::All, page).await?;
    let found: Vec<_> = found.iter().map(|row| row.id).collect();
    ensure("the newest rows after an id", found, vec![id(3), id(200)])
}

async fn a_long_state_is_seen_to_be_too_long_in_a_list<S: Directory>(store: TimedStore<S>) -> CheckResult {
    let stored = [(1, MAX_STATE), (2, MAX_STATE + 1), (3, 100 * MAX_STATE)];
    let stored = stored.map(|(n, length)| Row { state: vec![b'x'; length], ..of_user(n, 7) });
    for row in &stored {
        store.insert(row.clone()).await?;
    }
    for filter in [Filter::All, is_user(7)] {
        let found = store.find(&filter, Page::new(None, 10)).await?;
        ensure("the number of rows", found.len(), stored.len())?;
        for (found, stored) in found.iter().zip(&stored) {
            ensure_bounded("a listed row", found, stored)?;
        }
    }
    Ok(())
}

async fn removing_returns_the_ids_of_the_removed_rows<S: Directory>(store: TimedStore<S>) -> CheckResult {
    for n in 1..=3 {
        store.insert(of_user(n, i64::from(n < 3))).await?;
    }
    let mut removed = store.remove(&is_user(1)).await?;
    removed.sort();
    ensure("what was removed", removed, vec![id(1), id(2)])?;
    ensure("what is left", store.ids(&Filter::All).await?, vec![id(3)])?;
    ensure("what is removed again", store.remove(&is_user(1)).await?, Vec::new())?;
    ensure("what is removed in the end", store.remove(&Filter::All).await?, vec![id(3)])?;
    ensure("what is left", store.count(&Filter::All).await?, 0)
}

/// Makes a time some minutes from now.
fn at(minutes: i64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() + 60_000 * minutes)
}

async fn a_limited_write_removes_the_rows_that_began_first<S: Directory>(
    store: TimedStore<S>,
) -> CheckResult {
    let same = at(-30);
    // Of two that began at the same time, the one with the greater id stays.
    for (n, user, created, expiration) in [
        (1, 7, at(-40), at(60)),
        (2, 7, same, at(60)),
        (3, 7, same, at(60)),
        (4, 7, at(-10), at(60)),
        (5, 7, at(-5), at(-1)),
        (6, 8, at(-50), at(60)),
    ] {
        store.insert(Row { created, expiration, ..of_user(n, user) }).await?;
    }
    let removed = store.insert_limited(of_user(10, 7), 3).await?;
    ensure("what was removed", removed, (Outcome::Stored, vec![id(1), id(2), id(5)]))?;
    ensure("the rows", store.ids(&Filter::All).await?, [3, 4, 6, 10].map(id).to_vec())?;
    let removed = store.insert_limited(of_user(11, 7), 5).await?;
    ensure("what was removed within the limit", removed, (Outcome::Stored, Vec::new()))?;
    let removed = store.insert_limited(of_user(12, 7), 1).await?;
    ensure("what was removed of all", removed, (Outcome::Stored, [3, 4, 10, 11].map(id).to_vec()))?;
    ensure("the rows", store.ids(&Filter::All).await?, vec![id(6), id(12)])
}

/// The clocks of two writers differ.
async fn the_row_of_a_limited_write_stays<S: Directory>(store: TimedStore<S>) -> CheckResult {
    for (n, minutes) in [(1, 0), (2, -5), (3, 5), (4, -5), (5, 0), (6, -5)] {
        let (outcome, _) = store.insert_limited(Row { created: at(minutes), ..of_user(n, 7) }, 2).await?;
        ensure("the outcome", outcome, Outcome::Stored)?;
        let is_there = store.load(id(n)).await?.is_some();
        ensure(&format!("whether row {n} is there, begun {minutes} minutes from now"), is_there, true)?;
        ensure("the number of rows", store.count(&is_user(7)).await?, u64::from(n > 1) + 1)?;
    }
    // The other one is the one that began last, as far as the clocks tell.
    ensure("the rows", store.ids(&is_user(7)).await?, vec![id(3), id(6)])
}

async fn a_limited_update_renames_and_removes_in_one_step<S: Directory>(store: TimedStore<S>) -> CheckResult {
    for n in 1..=3 {
        store.insert(Row { created: at(-i64::try_from(n)?), ..of_user(n, 7) }).await?;
    }
    let visitor = row(4);
    store.insert(visitor.clone()).await?;
    let log_in = |old: &Row, n| {
        let row = Row { user: Some(Value::Integer(7)), ..next(&Row { id: id(n), ..old.clone() }) };
        replace(old, Scope::Row, row)
    };
    for (what, update, outcome) in [
        ("of another revision", log_in(&next(&visitor), 10), Outcome::Conflict),
        ("of no row", log_in(&row(200), 10), Outcome::Gone),
    ] {
        let made = store.write_limited(Write::Update(update), 2).await?;
        ensure(&format!("an update {what}"), made, (outcome, Vec::new()))?;
        ensure("the number of rows", store.count(&Filter::All).await?, 4)?;
    }
    let made = store.write_limited(Write::Update(log_in(&visitor, 10)), 2).await?;
    ensure("the update", made, (Outcome::Stored, vec![id(2), id(3)]))?;
    ensure("the rows", store.ids(&Filter::All).await?, vec![id(1), id(10)])?;
    // A session of the user that continues under another id is no additional one.
    let (old, new) = (next(&Row { id: id(10), ..visitor }), 11);
    let made = store.write_limited(Write::Update(log_in(&old, new)), 2).await?;
    ensure("the update of a row of the user", made, (Outcome::Stored, Vec::new()))?;
    ensure("the rows", store.ids(&Filter::All).await?, vec![id(1), id(11)])?;
    let made = store.write_limited(Write::Update(log_in(&next(&Row { id: id(11), ..old }), 12)), 1).await?;
    ensure("the update that leaves no other", made, (Outcome::Stored, vec![id(1)]))?;
    ensure("the rows", store.ids(&Filter::All).await?, vec![id(12)])
}

async fn a_limited_write_that_fails_removes_nothing<S: Directory>(store: TimedStore<S>) -> CheckResult {
    for n in 1..=3 {
        store.insert(of_user(n, 7)).await?;
    }
    store.insert(of_user(4, 8)).await?;
    if store.insert_limited(of_user(4, 7), 1).await.is_ok() {
        return Err("a second row of one id is accepted".into());
    }
    let taken = replace(&of_user(1, 7), Scope::Row, next(&of_user(4, 7)));
    if store.write_limited(Write::Update(taken), 1).await.is_ok() {
        return Err("an id that is taken is accepted".into());
    }
    ensure("the rows", store.ids(&Filter::All).await?, [1, 2, 3, 4].map(id).to_vec())?;
    ensure("the user of the row of this id", store.load(id(4)).await?.map(|row| row.user), {
        Some(Some(Value::Integer(8)))
    })
}

/// Half of the writes insert, and half of them rename a row without a user.
async fn parallel_limited_writes_never_leave_more<S: Directory>(store: TimedStore<S>) -> CheckResult {
    const MAX: u32 = 3;
    for n in 20..40 {
        store.insert(row(n)).await?;
    }
    let is_over = AtomicBool::new(false);
    let writes = async {
        let writes = (0..40).map(async |n| {
            let new = Row { id: id(100 + n), ..of_user(n, 7) };
            let write = match n {
                20.. => Write::Update(replace(&row(n), Scope::Row, next(&new))),
                _ => Write::Insert(new),
            };
            store.write_limited(write, MAX).await
        });
        let written = join_all(writes).await;
        is_over.store(true, Ordering::Relaxed);
        written
    };
    let most = async {
        let mut most = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mut ids = store.ids(&is_user(7)).await?;
            if ids.len() > MAX as usize {
                // A list may not be of one moment. A row that is still there was there all the time.
                let mut there = Vec::new();
                for id in ids {
                    there.extend(store.load(id).await?.map(|row| row.id));
                }
                ids = there;
            }
            most = most.max(ids.len());
            tokio::task::yield_now().await;
        }
        Ok::<_, StoreError>(most)
    };
    let (written, most) = join(writes, most).await;
    let mut left: BTreeSet<_> = (100..140).map(id).collect();
    for written in written {
        let (outcome, removed) = written?;
        ensure("the outcome of a write", outcome, Outcome::Stored)?;
        for id in removed {
            ensure("whether a row was removed once", left.remove(&id), true)?;
        }
    }
    ensure("whether there were too many rows", most?.max(MAX as usize), MAX as usize)?;
    ensure("the rows", store.ids(&is_user(7)).await?, left.into_iter().collect())?;
    ensure("the number of rows", store.count(&is_user(7)).await?, MAX.into())?;
    ensure("the number of all rows", store.count(&Filter::All).await?, MAX.into())
}

/// Removes the sessions of a user while the id of one of them changes all the time.
async fn a_session_is_removed_even_while_its_id_changes<S: Directory>(store: TimedStore<S>) -> CheckResult {
    for round in 0..60 {
        let mut stored = of_user(1_000 * round, 7);
        let newcomer = of_user(1_000_000 + round, 7);
        store.insert(stored.clone()).await?;
        let is_removed = AtomicBool::new(false);
        let removal = async {
            // The removal meets the change of the id at another point each time.
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            let removed = match round % 2 {
                0 => store.remove(&is_user(7)).await,
                _ => store.insert_limited(newcomer.clone(), 1).await.map(|(_, removed)| removed),
            };
            is_removed.store(true, Ordering::Relaxed);
            removed
        };
        let changes = async {
            // Ends before the ids of the next round begin, even if the store misses the row.
            for n in 1..1_000 {
                let is_late = is_removed.load(Ordering::Relaxed);
                let renamed = Row { id: id(1_000 * round + n), ..next(&stored) };
                let outcome = store.update(replace(&stored, Scope::Row, renamed.clone())).await?;
                if outcome != Outcome::Stored {
                    break;
                }
                stored = renamed;
                if is_late {
                    break;
                }
                tokio::task::yield_now().await;
            }
            Ok::<_, StoreError>(stored.id)
        };
        let (removed, last) = join(removal, changes).await;
        let (removed, last) = (removed?, last?);
        store.delete(newcomer.id).await?;
        ensure("what is left of the user", store.ids(&is_user(7)).await?, Vec::new())?;
        ensure("the row", store.load(last).await?, None)?;
        ensure("what was removed", removed, vec![last])?;
    }
    Ok(())
}

async fn the_sessions_of_a_user_are_found_after_every_change<S: Directory>(
    store: TimedStore<S>,
) -> CheckResult {
    let stored = of_user(1, 7);
    store.insert(stored.clone()).await?;
    store.insert(row(9)).await?;
    ensure("the sessions of the user", store.ids(&is_user(7)).await?, vec![id(1)])?;
    // A new id, as after each log-in; then another user with another id; then the first user again.
    let renamed = Row { id: id(2), ..next(&stored) };
    ensure(
        "the update",
        store.update(replace(&stored, Scope::Row, renamed.clone())).await?,
        Outcome::Stored,
    )?;
    ensure("the sessions of the user", store.ids(&is_user(7)).await?, vec![id(2)])?;
    let other = Row { id: id(3), user: Some(Value::Integer(8)), ..next(&renamed) };
    ensure("the update", store.update(replace(&renamed, Scope::Row, other.clone())).await?, Outcome::Stored)?;
    ensure("the sessions of the user", store.ids(&is_user(7)).await?, Vec::new())?;
    ensure("the sessions of the user", store.ids(&is_user(8)).await?, vec![id(3)])?;
    let back = Row { user: Some(Value::Integer(7)), ..next(&other) };
    ensure("the update", store.update(replace(&other, Scope::Row, back.clone())).await?, Outcome::Stored)?;
    ensure("the sessions of the user", store.ids(&is_user(7)).await?, vec![id(3)])?;
    ensure("the number of sessions of the other user", store.count(&is_user(8)).await?, 0)?;
    let touched = Row { expiration: back.expiration.saturating_add(hour()), ..next(&back) };
    let outcome = store.update(replace(&back, Scope::Expiration, touched)).await?;
    ensure("the update", outcome, Outcome::Stored)?;
    ensure("the sessions of the user", store.ids(&is_user(7)).await?, vec![id(3)])?;
    ensure("whether it was deleted", store.delete(id(3)).await?, true)?;
    ensure("the sessions of the user", store.ids(&is_user(7)).await?, Vec::new())
}

async fn a_working_store_passes_its_health_check<S: Directory>(store: TimedStore<S>) -> CheckResult {
    store.health().await?;
    store.insert(row(1)).await?;
    store.health().await?;
    ensure("the number of rows", store.count(&Filter::All).await?, 1)
}
