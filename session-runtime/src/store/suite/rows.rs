//! The checks of every store: rows by their ids.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::fixture::{
    self, CheckError, CheckResult, MAX_STATE, TimedStore, checks, ensure, ensure_bounded, full_row, hour, id,
    next, now, of_user, replace, row, table,
};
use crate::clock::Timestamp;
use crate::store::{Outcome, Row, RowVersion, RowVersions, Scope, Store, StoreError, Update};
use crate::token::SessionId;
use crate::value::Value;

/// Runs the checks, and returns the messages of those that fail.
pub(super) async fn check_store<S: Store + Clone>(open: &impl AsyncFn() -> S) -> Vec<String> {
    checks![
        open,
        a_row_comes_back_as_it_was_stored,
        text_state_comes_back_as_it_was_stored,
        a_long_state_is_seen_to_be_too_long,
        values_at_the_ends_of_their_ranges_come_back,
        a_second_row_of_one_id_is_refused_and_the_first_one_kept,
        ids_are_compared_byte_for_byte,
        an_update_writes_what_its_scope_says,
        an_update_of_another_revision_is_a_conflict_and_changes_nothing,
        an_update_of_a_missing_row_creates_nothing,
        one_of_concurrent_updates_of_one_revision_wins,
        a_new_id_replaces_the_old_one_whatever_the_scope,
        a_new_id_that_is_taken_changes_neither_row,
        one_of_concurrent_id_changes_of_one_row_wins,
        a_replaced_id_is_gone_for_every_call,
        delete_returns_whether_there_was_a_row,
        a_cached_load_has_what_was_acknowledged,
        the_versions_of_many_rows_are_loaded,
        an_update_racing_a_deletion_leaves_no_row,
        an_id_change_racing_a_deletion_leaves_no_row_or_the_new_one,
        pruning_removes_only_expired_rows_and_respects_its_limit,
        preparing_again_keeps_the_rows,
        a_clone_shares_the_rows,
        many_concurrent_calls_all_succeed,
    ]
}

async fn a_row_comes_back_as_it_was_stored<S: Store>(store: TimedStore<S>) -> CheckResult {
    let long = Row { state: (0..=u8::MAX).cycle().take(64 * 1024).collect(), ..row(4) };
    for stored in [row(1), full_row(2), Row { state: Vec::new(), ..row(3) }, long] {
        store.insert(stored.clone()).await?;
        ensure("the row", store.load(stored.id).await?, Some(stored))?;
    }
    ensure("a row that was never stored", store.load(id(9)).await?, None)
}

async fn text_state_comes_back_as_it_was_stored<S: Store>(store: TimedStore<S>) -> CheckResult {
    let stored = Row { state: "{\"a\":\"\u{1F36A} '\\\\\"}".into(), ..full_row(1) };
    store.insert(stored.clone()).await?;
    ensure("the row", store.load(stored.id).await?, Some(stored.clone()))?;
    let after = Row { state: b"{}".to_vec(), ..next(&stored) };
    ensure(
        "the update",
        store.update(replace(&stored, Scope::State, after.clone())).await?,
        Outcome::Stored,
    )?;
    ensure("the row", store.load(stored.id).await?, Some(after))
}

async fn a_long_state_is_seen_to_be_too_long<S: Store>(store: TimedStore<S>) -> CheckResult {
    for (n, length) in (1..).zip([MAX_STATE - 1, MAX_STATE, MAX_STATE + 1, 100 * MAX_STATE]) {
        let stored = Row { state: vec![b'x'; length], ..full_row(n) };
        store.insert(stored.clone()).await?;
        let loaded = store.load(stored.id).await?.ok_or("the row is missing")?;
        ensure_bounded("the row", &loaded, &stored)?;
    }
    Ok(())
}

async fn values_at_the_ends_of_their_ranges_come_back<S: Store>(store: TimedStore<S>) -> CheckResult {
    let mut low = Row { user: Some(Value::Integer(i64::MIN)), revision: 0, ..full_row(1) };
    low.created = Timestamp::from_millis(0);
    low.columns[..3].clone_from_slice(&[
        Some(Value::Text(String::new())),
        Some(Value::Real(f64::MIN)),
        Some(Value::Integer(i64::MIN)),
    ]);
    low.columns[3] = Some(Value::Blob(Vec::new()));
    let mut high = Row { user: Some(Value::Integer(i64::MAX)), revision: i64::MAX - 1, ..full_row(2) };
    high.expiration = now().saturating_add(Duration::from_hours(400 * 24));
    high.columns[..3].clone_from_slice(&[
        Some(Value::Text("\u{10FFFF} trailing ".to_owned())),
        Some(Value::Real(f64::MIN_POSITIVE)),
        Some(Value::Integer(i64::MAX)),
    ]);
    high.columns[3] = Some(Value::Blob(vec![0; 4096]));
    for stored in [low, high] {
        store.insert(stored.clone()).await?;
        ensure("the row", store.load(stored.id).await?, Some(stored.clone()))?;
        let outcome = store.update(replace(&stored, Scope::State, next(&stored))).await?;
        ensure("the update", outcome, Outcome::Stored)?;
        ensure("the row", store.load(stored.id).await?, Some(next(&stored)))?;
    }
    Ok(())
}

async fn a_second_row_of_one_id_is_refused_and_the_first_one_kept<S: Store>(
    store: TimedStore<S>,
) -> CheckResult {
    let first = row(1);
    store.insert(first.clone()).await?;
    ensure("whether it can be inserted again", store.insert(full_row(1)).await.is_ok(), false)?;
    ensure("the row", store.load(id(1)).await?, Some(first))
}

async fn ids_are_compared_byte_for_byte<S: Store>(store: TimedStore<S>) -> CheckResult {
    // A store that ignores case, accents, or spaces and zeros at the end would confuse them.
    let alike = [[b'a'; 32], [b'A'; 32], [b' '; 32], [0; 32], [0xE4; 32], [0xC4; 32]];
    let mut tails = [[b'a'; 32]; 3];
    for (id, tail) in tails.iter_mut().zip([b' ', 0, b'\n']) {
        id[31] = tail;
    }
    let all: Vec<_> = alike.into_iter().chain(tails).map(SessionId::from_bytes).collect();
    for (n, id) in (1..).zip(&all) {
        ensure("a row that is not stored yet", store.load(*id).await?, None)?;
        store.insert(Row { id: *id, revision: n, ..row(1) }).await?;
    }
    for (n, id) in (1..).zip(&all) {
        ensure("the revision", store.load(*id).await?.map(|row| row.revision), Some(n))?;
    }
    for (n, id) in all.iter().enumerate() {
        ensure("whether it was deleted", store.delete(*id).await?, true)?;
        for other in &all[n + 1..] {
            ensure("another row", store.load(*other).await?.is_some(), true)?;
        }
    }
    Ok(())
}

async fn an_update_writes_what_its_scope_says<S: Store>(store: TimedStore<S>) -> CheckResult {
    let mut stored = row(1);
    store.insert(stored.clone()).await?;
    let state = Row { state: b"\"new\"".to_vec(), ..next(&stored) };
    let touched = Row { expiration: state.expiration.saturating_add(hour()), ..next(&state) };
    let whole = Row { revision: touched.revision + 1, ..full_row(1) };
    let bare = Row { revision: whole.revision + 1, ..row(1) };
    let steps =
        [(Scope::State, state), (Scope::Expiration, touched), (Scope::Row, whole), (Scope::Row, bare)];
    for (scope, after) in steps {
        let outcome = store.update(replace(&stored, scope, after.clone())).await?;
        ensure("the update", outcome, Outcome::Stored)?;
        ensure("the row", store.load(id(1)).await?, Some(after.clone()))?;
        stored = after;
    }
    Ok(())
}

async fn an_update_of_another_revision_is_a_conflict_and_changes_nothing<S: Store>(
    store: TimedStore<S>,
) -> CheckResult {
    let stored = row(1);
    store.insert(stored.clone()).await?;
    for expected in [0, 2, -1] {
        for scope in [Scope::State, Scope::Expiration, Scope::Row] {
            for to in [1, 2] {
                let stale = Update { id: id(1), expected, scope, row: full_row(to) };
                ensure("the update", store.update(stale).await?, Outcome::Conflict)?;
            }
        }
    }
    ensure("the row", store.load(id(1)).await?, Some(stored))?;
    ensure("the new id", store.load(id(2)).await?, None)
}

async fn an_update_of_a_missing_row_creates_nothing<S: Store>(store: TimedStore<S>) -> CheckResult {
    for scope in [Scope::State, Scope::Expiration, Scope::Row] {
        for to in [1, 2] {
            let late = replace(&row(1), scope, Row { revision: 2, ..full_row(to) });
            ensure("the update", store.update(late).await?, Outcome::Gone)?;
        }
    }
    ensure("the row", store.load(id(1)).await?, None)?;
    ensure("the new id", store.load(id(2)).await?, None)
}

async fn one_of_concurrent_updates_of_one_revision_wins<S: Store>(store: TimedStore<S>) -> CheckResult {
    let mut stored = row(1);
    store.insert(stored.clone()).await?;
    for _round in 0..5 {
        let attempts = join_all((0..20).map(|n| {
            let after = Row { state: format!("\"{n}\"").into_bytes(), ..next(&stored) };
            let update = store.update(replace(&stored, Scope::State, after.clone()));
            async move { Ok::<_, StoreError>((update.await?, after)) }
        }));
        let mut winners = Vec::new();
        for attempt in attempts.await {
            match attempt? {
                (Outcome::Stored, after) => winners.push(after),
                (outcome, _) => ensure("the update of another writer", outcome, Outcome::Conflict)?,
            }
        }
        ensure("the number of winners", winners.len(), 1)?;
        stored = winners.remove(0);
        ensure("the row", store.load(id(1)).await?, Some(stored.clone()))?;
    }
    Ok(())
}

async fn a_new_id_replaces_the_old_one_whatever_the_scope<S: Store>(store: TimedStore<S>) -> CheckResult {
    for (n, scope) in [(1, Scope::State), (2, Scope::Expiration), (3, Scope::Row)] {
        let stored = row(n);
        store.insert(stored.clone()).await?;
        let after = Row { revision: 2, ..full_row(n + 10) };
        let outcome = store.update(replace(&stored, scope, after.clone())).await?;
        ensure("the update", outcome, Outcome::Stored)?;
        ensure("the old id", store.load(id(n)).await?, None)?;
        ensure("the new id", store.load(id(n + 10)).await?, Some(after))?;
    }
    Ok(())
}

async fn a_new_id_that_is_taken_changes_neither_row<S: Store>(store: TimedStore<S>) -> CheckResult {
    let (one, two) = (row(1), row(2));
    store.insert(one.clone()).await?;
    store.insert(two.clone()).await?;
    let update = replace(&one, Scope::Row, Row { revision: 2, ..full_row(2) });
    ensure("the update", store.update(update).await.is_ok(), false)?;
    ensure("the row", store.load(id(1)).await?, Some(one))?;
    ensure("the other row", store.load(id(2)).await?, Some(two))
}

async fn one_of_concurrent_id_changes_of_one_row_wins<S: Store>(store: TimedStore<S>) -> CheckResult {
    for round in 0..5 {
        let base = round * 20;
        let stored = of_user(base, 7);
        store.insert(stored.clone()).await?;
        let attempts = join_all((1..10).map(|n| {
            let update =
                store.update(replace(&stored, Scope::Row, Row { id: id(base + n), ..next(&stored) }));
            async move { Ok::<_, StoreError>((update.await?, n)) }
        }));
        let mut winners = Vec::new();
        for attempt in attempts.await {
            if let (Outcome::Stored, n) = attempt? {
                winners.push(n);
            }
        }
        ensure("the number of winners", winners.len(), 1)?;
        for n in 0..10 {
            let exists = store.load(id(base + n)).await?.is_some();
            ensure("whether an id has the row", exists, winners.contains(&n))?;
        }
    }
    Ok(())
}

async fn a_replaced_id_is_gone_for_every_call<S: Store>(store: TimedStore<S>) -> CheckResult {
    let stored = of_user(1, 7);
    store.insert(stored.clone()).await?;
    let moved = Row { id: id(2), ..next(&stored) };
    ensure("the update", store.update(replace(&stored, Scope::Row, moved.clone())).await?, Outcome::Stored)?;
    for expected in [stored.revision, moved.revision] {
        let late = Update { id: id(1), expected, scope: Scope::State, row: next(&stored) };
        ensure("a late update", store.update(late).await?, Outcome::Gone)?;
        let again =
            Update { id: id(1), expected, scope: Scope::Row, row: Row { id: id(3), ..next(&stored) } };
        ensure("a late change of the id", store.update(again).await?, Outcome::Gone)?;
    }
    ensure("whether the old id is deleted", store.delete(id(1)).await?, false)?;
    ensure("the row", store.load(id(2)).await?, Some(moved))?;
    ensure("whether the new id was deleted", store.delete(id(2)).await?, true)?;
    for n in 1..=3 {
        ensure("a remaining row", store.load(id(n)).await?, None)?;
    }
    Ok(())
}

async fn delete_returns_whether_there_was_a_row<S: Store>(store: TimedStore<S>) -> CheckResult {
    store.insert(full_row(1)).await?;
    ensure("whether it was deleted", store.delete(id(1)).await?, true)?;
    ensure("whether it is deleted again", store.delete(id(1)).await?, false)?;
    ensure("the row", store.load(id(1)).await?, None)?;
    // The id can be used again.
    let again = row(1);
    store.insert(again.clone()).await?;
    ensure("the row", store.load(id(1)).await?, Some(again))
}

async fn the_versions_of_many_rows_are_loaded<S: Store>(store: TimedStore<S>) -> CheckResult {
    let stored: Vec<_> = (0..10).map(|n| full_row(1 + 30 * n)).collect();
    for row in &stored {
        store.insert(row.clone()).await?;
    }
    let ids: Vec<_> = (1..=300).map(id).collect();
    for count in [0, 1, 31, 256, 300] {
        let is_asked = |row: &&Row| ids[..count].contains(&row.id);
        let expected = stored.iter().filter(is_asked).map(|row| (row.id, RowVersion::of(row))).collect();
        ensure("the versions", versions(&store, &ids[..count]).await?, expected)?;
    }
    let after = next(&stored[0]);
    ensure(
        "the update",
        store.update(replace(&stored[0], Scope::Row, after.clone())).await?,
        Outcome::Stored,
    )?;
    ensure("whether it was deleted", store.delete(stored[1].id).await?, true)?;
    let expected = BTreeMap::from([(after.id, RowVersion::of(&after))]);
    ensure("the versions", versions(&store, &[after.id, stored[1].id]).await?, expected)
}

async fn versions<S: Store>(
    store: &TimedStore<S>,
    ids: &[SessionId],
) -> Result<BTreeMap<SessionId, RowVersion>, CheckError> {
    let RowVersions { found, failed } = store.load_versions(ids).await?;
    match failed.into_iter().next() {
        Some((_, error)) => Err(error.into()),
        None => Ok(found.into_iter().collect()),
    }
}

async fn a_cached_load_has_what_was_acknowledged<S: Store>(store: TimedStore<S>) -> CheckResult {
    let cached = async |n, expected: Option<&Row>| {
        // The second one may be answered from what the first one has read.
        for _ in 0..2 {
            ensure("the row", store.load_cached(id(n)).await?, expected.cloned())?;
        }
        Ok::<_, CheckError>(())
    };
    let stored = full_row(1);
    cached(1, None).await?;
    store.insert(stored.clone()).await?;
    cached(1, Some(&stored)).await?;
    let after = next(&stored);
    ensure("the update", store.update(replace(&stored, Scope::Row, after.clone())).await?, Outcome::Stored)?;
    cached(1, Some(&after)).await?;
    let renamed = Row { id: id(2), ..next(&after) };
    ensure("the new id", store.update(replace(&after, Scope::Row, renamed.clone())).await?, Outcome::Stored)?;
    cached(1, None).await?;
    cached(2, Some(&renamed)).await?;
    ensure("whether it was deleted", store.delete(id(2)).await?, true)?;
    cached(2, None).await
}

async fn an_update_racing_a_deletion_leaves_no_row<S: Store>(store: TimedStore<S>) -> CheckResult {
    for n in 0..40 {
        let mut stored = of_user(n, 7);
        store.insert(stored.clone()).await?;
        // Deleting may open a new connection and take long, so the writes go on until it has succeeded.
        let is_deleted = AtomicBool::new(false);
        let deletion = async {
            let deleted = store.delete(id(n)).await;
            is_deleted.store(true, Ordering::Relaxed);
            deleted
        };
        let writes = async {
            loop {
                let is_late = is_deleted.load(Ordering::Relaxed);
                let outcome = store.update(replace(&stored, Scope::Expiration, next(&stored))).await?;
                if is_late || outcome != Outcome::Stored {
                    return Ok::<_, StoreError>(outcome);
                }
                stored = next(&stored);
                // A store that never waits would not let the deletion run.
                tokio::task::yield_now().await;
            }
        };
        let (deleted, last) = join(deletion, writes).await;
        ensure("whether it was deleted", deleted?, true)?;
        // A write that was under way may have found the row with another revision.
        ensure("the last update", matches!(last?, Outcome::Gone | Outcome::Conflict), true)?;
        ensure("the row", store.load(id(n)).await?, None)?;
    }
    Ok(())
}

async fn an_id_change_racing_a_deletion_leaves_no_row_or_the_new_one<S: Store>(
    store: TimedStore<S>,
) -> CheckResult {
    for n in 0..40 {
        let (old, new) = (id(2 * n), id(2 * n + 1));
        let stored = of_user(2 * n, 7);
        store.insert(stored.clone()).await?;
        let rotated = store.update(replace(&stored, Scope::Row, Row { id: new, ..next(&stored) }));
        let (deleted, rotated) = join(store.delete(old), rotated).await;
        let (deleted, rotated) = (deleted?, rotated? == Outcome::Stored);
        ensure("whether exactly one of the two succeeds", deleted != rotated, true)?;
        ensure("the old id", store.load(old).await?, None)?;
        ensure("whether the new id has the row", store.load(new).await?.is_some(), rotated)?;
    }
    Ok(())
}

async fn pruning_removes_only_expired_rows_and_respects_its_limit<S: Store>(
    store: TimedStore<S>,
) -> CheckResult {
    let now = now();
    let at = |millis: i64| Timestamp::from_millis(now.as_millis() + millis);
    for (n, millis) in [(1, -2), (2, -1), (3, 0), (4, 1), (5, 60_000)] {
        store.insert(Row { created: at(-9), expiration: at(millis), ..of_user(n, 7) }).await?;
    }
    let mut pruned = 0;
    for _ in 0..10 {
        let batch = store.prune(now, 2).await?;
        ensure("whether a batch respects its limit", batch <= 2, true)?;
        if batch == 0 {
            break;
        }
        pruned += batch;
    }
    ensure("whether only expired rows were pruned", pruned <= 3, true)?;
    ensure("whether a live row is left", store.load(id(5)).await?.is_some(), true)?;
    if pruned == 3 {
        ensure("whether a row that expires in a moment is left", store.load(id(4)).await?.is_some(), true)?;
        ensure("an expired row", store.load(id(3)).await?, None)?;
    }
    Ok(())
}

async fn preparing_again_keeps_the_rows<S: Store + Clone>(store: TimedStore<S>) -> CheckResult {
    let table = table("again");
    let first = store.clone().prepared(&table).await?;
    let stored = full_row(1);
    first.insert(stored.clone()).await?;
    let attempts = join_all((0..4).map(|_| {
        let store = store.clone();
        let table = &table;
        async move { store.prepared(table).await }
    }));
    for attempt in attempts.await {
        ensure("the row", attempt?.load(id(1)).await?, Some(stored.clone()))?;
    }
    ensure("the row", first.load(id(1)).await?, Some(stored))
}

async fn a_clone_shares_the_rows<S: Store + Clone>(store: TimedStore<S>) -> CheckResult {
    let stored = full_row(1);
    store.clone().insert(stored.clone()).await?;
    ensure("the row", store.load(id(1)).await?, Some(stored))
}

async fn many_concurrent_calls_all_succeed<S: Store>(store: TimedStore<S>) -> CheckResult {
    let calls = join_all((0..100).map(|n| {
        let store = &store;
        async move {
            let stored = of_user(n, 7);
            store.insert(stored.clone()).await?;
            let outcome = store.update(replace(&stored, Scope::State, next(&stored))).await?;
            ensure("the update", outcome, Outcome::Stored)?;
            ensure("the row", store.load(id(n)).await?, Some(next(&stored)))
        }
    }));
    calls.await.into_iter().collect()
}
