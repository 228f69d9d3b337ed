//! What has happened to the sessions of one bag, minute by minute: events enter, the numbers of the last day leave.
//!
//! They are in the memory of this process, and count what this process does. No number belongs to a session or a visitor.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use super::filter::{Shown, shown_facets};
use super::groups::{Grouped, group};
use crate::bag::Databag;
use crate::clock::Timestamp;
use crate::engine::event::{EndCause, Event};
use crate::error::ErrorChain;
use crate::sessions::Sessions;

/// How many minutes are kept.
const DAY: u32 = 24 * 60;
const MINUTES: usize = DAY as usize;

/// The sessions are grouped once in so many minutes.
const GROUPED_EVERY: u32 = 15;
/// How many groups of a facet are kept each time, and how many of them a chart shows.
const GROUPS_KEPT: usize = 10;
const GROUPS_SHOWN: usize = 4;
/// How many characters of a value a chart shows.
const NAME: usize = 32;

/// The names of the reasons of [`Event::Rejected`], and how a page says them.
pub(super) const REASONS: [(&str, &str); 9] = [
    ("malformed", "malformed"),
    ("duplicate", "sent twice"),
    ("unknown", "unknown"),
    ("tampered", "tampered"),
    ("too_large", "too large"),
    ("undecodable", "not readable"),
    ("address", "another address"),
    ("user_agent", "another browser"),
    ("unknown_key", "unknown key"),
];

/// The names of the causes of [`Event::Ended`], as in [`EndCause::ALL`], and how a page says them.
pub(super) const CAUSES: [(&str, &str); EndCause::ALL.len()] = [
    ("logged_out", "signed out"),
    ("destroyed", "ended by the program"),
    ("revoked", "revoked"),
    ("replaced", "replaced"),
];

/// The numbers of the last 24 hours, for a [`Console`](crate::Console): per minute the sessions that were created and ended, the
/// tokens that were not accepted, the conflicts and the failures, and how many sessions were live.
///
/// It knows what this process has done since it was started; only the numbers of live sessions are those of the store. It takes
/// 127 KB of memory, however much happens, and if it [follows](Self::follow) the sessions the ten most frequent values of each
/// column every 15 minutes, of up to 1 KB each. An event that is counted locks it for the time of an addition; a page that is
/// shown, for a few microseconds. Clones share the numbers.
///
/// # Examples
///
/// ```
/// use session_runtime::{Databag, History, Keyring, Sessions, SqliteStore};
///
/// #[derive(Databag)]
/// struct Shop {
///     visits: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let history = History::new();
/// let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?)
///     .keyring(Keyring::generate())
///     .on_event(history.observer())
///     .build()
///     .await?;
/// history.follow(&sessions);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

struct Shared {
    /// When it was made, in minutes since the unix epoch.
    started: u32,
    minutes: Mutex<Box<[Minute]>>,
    groupings: Mutex<Vec<Grouping>>,
    is_observing: AtomicBool,
}

/// The largest groups of live sessions at a time.
struct Grouping {
    /// The name of the bag.
    bag: &'static str,
    /// In minutes since the unix epoch, a multiple of [`GROUPED_EVERY`].
    begins: u32,
    /// For each facet of the bag.
    facets: Vec<Vec<(Shown, u64)>>,
}

/// The groups of a facet that were the largest in the last day, for a chart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupsOverTime {
    /// The time of each point, in minutes since the unix epoch.
    pub(super) times: Vec<u32>,
    /// The names, and how many sessions had such a value at each time; `None` where that is not known.
    pub(super) lines: Vec<(String, Vec<Option<u64>>)>,
    /// Whether the sessions were grouped before.
    pub(super) is_followed: bool,
}

/// The numbers of a minute. Its place in the ring is its remainder.
#[derive(Clone, Copy, Default)]
struct Minute {
    /// In minutes since the unix epoch.
    begins: u32,
    counts: Counts,
    live: Option<u64>,
}

/// What has happened in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) created: u32,
    /// By the cause, as in [`EndCause::ALL`].
    pub(super) ended: [u32; EndCause::ALL.len()],
    pub(super) expired: u32,
    /// By the reason, as in [`REASONS`].
    pub(super) rejected: [u32; REASONS.len()],
    pub(super) conflicts: u32,
    pub(super) failures: u32,
}

/// The numbers of one or more minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    /// In minutes since the unix epoch.
    pub(super) begins: u32,
    /// `None` if it was over before the history was made.
    pub(super) counts: Option<Counts>,
    /// The live sessions as they were counted last.
    pub(super) live: Option<u64>,
}

/// What an event changes.
#[derive(Clone, Copy)]
enum Change {
    Created,
    Ended(usize),
    Expired,
    Rejected(usize),
    Conflicted,
    Failed,
    Live(u64),
}

impl History {
    /// Makes a history in which nothing has happened.
    pub fn new() -> Self {
        Self::since(minute_of(SystemTime::now().into()))
    }

    fn since(started: u32) -> Self {
        let minutes = Mutex::new(vec![Minute::default(); MINUTES].into_boxed_slice());
        let (groupings, is_observing) = (Mutex::default(), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { started, minutes, groupings, is_observing }) }
    }

    /// Returns the observer that fills it, for [`Builder::on_event`](crate::Builder::on_event).
    pub fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static + use<> {
        self.shared.is_observing.store(true, Ordering::Relaxed);
        let shared = self.shared.clone();
        move |event: &Event| {
            if let Some(change) = Change::of(event) {
                shared.note(change, minute_of(SystemTime::now().into()));
            }
        }
    }

    /// Counts the live sessions once a minute, and groups them by user, address and column every 15 minutes, in a task that ends
    /// with these sessions. Without it they are counted when somebody opens the console, and after each
    /// [`cleanup`](crate::Builder::cleanup), and the console has no charts of groups. To count, SQL stores read an index, Redis its
    /// lists. To group, at most 10,000 rows are read, as a sample of all. Call it once for all workers: each call begins a task.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn follow<T: Databag>(&self, sessions: &Sessions<T>) {
        let (engine, http) = (Arc::downgrade(&sessions.engine), sessions.http.clone());
        // Sessions that are dropped close their store meanwhile.
        let sessions = move || Weak::upgrade(&engine).map(|engine| Sessions::<T>::new(engine, http.clone()));
        tokio::spawn(follow(sessions, Arc::downgrade(&self.shared)));
    }

    /// Returns whether an observer fills it.
    pub(super) fn is_observing(&self) -> bool {
        self.shared.is_observing.load(Ordering::Relaxed)
    }

    /// Returns the numbers of the last `minutes` minutes, `per` of them in one interval, the oldest first. The last interval
    /// is the one that `now` is in.
    pub(super) fn last(&self, now: Timestamp, minutes: u32, per: u32) -> Vec<Interval> {
        let end = (minute_of(now) / per + 1) * per;
        let begin = end.saturating_sub(minutes);
        let mut intervals: Vec<_> = (begin..end)
            .step_by(per as usize)
            .map(|begins| {
                let is_over = begins + per <= self.shared.started;
                Interval { begins, counts: (!is_over).then(Counts::default), live: None }
            })
            .collect();
        let mut kept: Vec<Minute> = {
            let minutes = self.shared.lock();
            minutes.iter().filter(|minute| (begin..end).contains(&minute.begins)).copied().collect()
        };
        kept.sort_unstable_by_key(|minute| minute.begins);
        for minute in kept {
            let place = (minute.begins - begin) / per;
            if let Some(interval) = intervals.get_mut(place as usize) {
                // A clock that was set back counts before the start.
                interval.counts.get_or_insert_default().add(&minute.counts);
                interval.live = minute.live.or(interval.live);
            }
        }
        intervals
    }

    /// Returns the largest groups of a bag in the last day by a facet, given by its place in [`shown_facets`], with those that there
    /// are now.
    pub(super) fn groups(
        &self,
        bag: &'static str,
        now: Timestamp,
        facet: usize,
        groups_now: &Grouped,
    ) -> GroupsOverTime {
        let end = interval_of(minute_of(now)) + GROUPED_EVERY;
        let times: Vec<u32> = (end.saturating_sub(DAY)..end).step_by(GROUPED_EVERY as usize).collect();
        let groupings = self.shared.groupings.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = |time: &u32| {
            let grouping =
                groupings.iter().find(|grouping| grouping.bag == bag && grouping.begins == *time)?;
            grouping.facets.get(facet).map(Vec::as_slice)
        };
        let mut at: Vec<Option<&[(Shown, u64)]>> = times.iter().map(kept).collect();
        let groups_now = groups_now.largest();
        if let Some(last) = at.last_mut() {
            *last = Some(&groups_now);
        }
        let mut largest: Vec<(&Shown, u64)> = Vec::new();
        for (value, number) in at.iter().copied().flatten().flatten() {
            match largest.iter_mut().find(|(other, _)| *other == value) {
                Some((_, most)) => *most = (*most).max(*number),
                None => largest.push((value, *number)),
            }
        }
        largest.sort_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then_with(|| one.cmp(other)));
        let lines = largest.iter().take(GROUPS_SHOWN).map(|(value, _)| {
            let number = |groups: &[(Shown, u64)]| match groups.iter().find(|(other, _)| other == *value) {
                Some((_, number)) => Some(*number),
                // It may be one of those that were not kept.
                None => (groups.len() < GROUPS_KEPT).then_some(0),
            };
            (name_of(value), at.iter().map(|groups| groups.and_then(number)).collect())
        });
        let is_followed = groupings.iter().any(|grouping| grouping.bag == bag);
        GroupsOverTime { lines: lines.collect(), times, is_followed }
    }
}

impl Grouped {
    /// Returns those that are kept.
    fn largest(&self) -> Vec<(Shown, u64)> {
        self.of_all().take(GROUPS_KEPT).map(|(value, number)| (value.clone(), number)).collect()
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History(..)")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Box<[Minute]>> {
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: Change, begins: u32) {
        let mut minutes = self.lock();
        let Some(minute) = minutes.get_mut(begins as usize % MINUTES) else { return };
        if minute.begins != begins {
            *minute = Minute { begins, ..Minute::default() };
        }
        let counts = &mut minute.counts;
        match change {
            Change::Live(live) => minute.live = Some(live),
            Change::Created => one_more(&mut counts.created),
            Change::Ended(cause) => one_more(&mut counts.ended[cause]),
            Change::Expired => one_more(&mut counts.expired),
            Change::Rejected(reason) => one_more(&mut counts.rejected[reason]),
            Change::Conflicted => one_more(&mut counts.conflicts),
            Change::Failed => one_more(&mut counts.failures),
        }
    }

    fn note_groups(&self, bag: &'static str, grouped: &[Grouped], minute: u32) {
        let begins = interval_of(minute);
        let grouping = Grouping { bag, begins, facets: grouped.iter().map(Grouped::largest).collect() };
        let mut groupings = self.groupings.lock().unwrap_or_else(PoisonError::into_inner);
        groupings.retain(|other| {
            let is_same = other.bag == bag && other.begins == begins;
            !is_same && other.begins.abs_diff(begins) < DAY
        });
        groupings.push(grouping);
    }
}

/// Returns the minute in which the interval of this one begins.
fn interval_of(minute: u32) -> u32 {
    minute / GROUPED_EVERY * GROUPED_EVERY
}

/// Returns the name of a group, for a chart.
fn name_of(value: &Shown) -> String {
    match value {
        Shown::Nothing => "–".to_owned(),
        Shown::Hidden => "hidden".to_owned(),
        Shown::TooLong => "too long".to_owned(),
        Shown::Value(value) => match value.char_indices().nth(NAME) {
            Some((end, _)) => [&value[..end], "…"].concat(),
            None => value.clone(),
        },
    }
}

fn one_more(count: &mut u32) {
    *count = count.saturating_add(1);
}

impl Change {
    fn of(event: &Event) -> Option<Self> {
        Some(match *event {
            Event::Created { .. } => Self::Created,
            Event::Ended { cause, .. } => {
                Self::Ended(EndCause::ALL.iter().position(|other| *other == cause)?)
            }
            Event::Expired { .. } => Self::Expired,
            Event::Rejected { reason, .. } => {
                Self::Rejected(REASONS.iter().position(|(name, _)| *name == reason.name())?)
            }
            Event::Conflicted { .. } => Self::Conflicted,
            Event::Failed { .. } => Self::Failed,
            Event::Counted { live } => Self::Live(live),
            _ => return None,
        })
    }
}

impl Counts {
    /// Returns the numbers of all intervals together.
    pub(super) fn sum(intervals: &[Interval]) -> Self {
        let mut sum = Self::default();
        for counts in intervals.iter().filter_map(|interval| interval.counts.as_ref()) {
            sum.add(counts);
        }
        sum
    }

    fn add(&mut self, other: &Self) {
        let Self { created, ended, expired, rejected, conflicts, failures } = self;
        let single = [created, expired, conflicts, failures].into_iter();
        let all = single.chain(ended).chain(rejected);
        let other_single = [other.created, other.expired, other.conflicts, other.failures].into_iter();
        for (count, more) in all.zip(other_single.chain(other.ended).chain(other.rejected)) {
            *count = count.saturating_add(more);
        }
    }

    /// Returns how many sessions were ended, whatever the cause.
    pub(super) fn all_ended(&self) -> u64 {
        self.ended.iter().copied().map(u64::from).sum()
    }

    /// Returns how many tokens were not accepted, whatever the reason; an expired session is no reason.
    pub(super) fn all_rejected(&self) -> u64 {
        self.rejected.iter().copied().map(u64::from).sum()
    }
}

/// Returns the minutes since the unix epoch.
pub(super) fn minute_of(time: Timestamp) -> u32 {
    u32::try_from(time.as_millis() / 60_000).unwrap_or(0)
}

/// Counts the sessions every minute, and groups them when an interval begins, until they are gone or the history is.
async fn follow<T: Databag>(sessions: impl Fn() -> Option<Sessions<T>>, history: Weak<Shared>) {
    let facets = shown_facets(T::SCHEMA);
    let (mut minutes, mut grouped) = (interval(Duration::from_mins(1)), None);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        minutes.tick().await;
        let (Some(sessions), Some(history)) = (sessions(), history.upgrade()) else { return };
        if let Err(error) = sessions.engine.count_live(sessions.engine.now()).await {
            tracing::warn!(error = %ErrorChain(&error), "could not count the live sessions");
        }
        let minute = minute_of(SystemTime::now().into());
        // A time that fails is left out.
        if grouped.replace(interval_of(minute)) != Some(interval_of(minute)) {
            match group(&sessions, &facets).await {
                Ok(groups) => history.note_groups(T::SCHEMA.name, &groups, minute),
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "could not group the live sessions");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::REJECTED;
    use crate::error::Rejection;
    use crate::token::SessionId;

    const NOW: u32 = 30_000_000;

    fn at(minute: u32) -> Timestamp {
        Timestamp::from_millis(i64::from(minute) * 60_000)
    }

    fn note(history: &History, event: &Event, minute: u32) {
        history.shared.note(Change::of(event).expect("it is counted"), minute);
    }

    #[test]
    fn what_has_happened_is_counted_in_its_minute() {
        let (history, session) = (History::since(NOW - 24 * 60), SessionId::from_bytes([1; 32]));
        for minute in [NOW, NOW - 59, NOW - 60] {
            note(&history, &Event::Created { session }, minute);
        }
        note(&history, &Event::Counted { live: 7 }, NOW - 30);
        let hour = history.last(at(NOW), 60, 1);
        assert_eq!((hour.len(), hour[0].begins, hour[59].begins), (60, NOW - 59, NOW));
        let created = |minute: usize| hour[minute].counts.map(|counts| counts.created);
        assert_eq!([0, 58, 59].map(created), [Some(1), Some(0), Some(1)]);
        assert_eq!((hour[29].live, hour[30].live), (Some(7), None));
        assert_eq!(Counts::sum(&hour).created, 2);
        let day = history.last(at(NOW), 24 * 60, 15);
        assert_eq!((day.len(), Counts::sum(&day).created), (96, 3));
    }

    #[test]
    fn what_was_before_the_start_is_not_known() {
        let (history, session) = (History::since(NOW - 20), SessionId::from_bytes([1; 32]));
        let known = |minutes, per| -> Vec<u32> {
            let known = history.last(at(NOW), minutes, per);
            known
                .iter()
                .filter(|interval| interval.counts.is_some())
                .map(|interval| interval.begins)
                .collect()
        };
        assert_eq!(known(60, 1), (NOW - 20..=NOW).collect::<Vec<_>>());
        assert_eq!(
            known(24 * 60, 15),
            [NOW - 30, NOW - 15, NOW],
            "the interval that it was made in is known"
        );
        note(&history, &Event::Created { session }, NOW - 40);
        let hour = history.last(at(NOW), 60, 1);
        assert_eq!(Counts::sum(&hour).created, 1, "nothing is lost when the clock is set back");
        assert!(hour[20].counts.is_none());
    }

    #[test]
    fn a_minute_of_the_day_before_is_forgotten() {
        let (history, session) = (History::since(NOW - 24 * 60), SessionId::from_bytes([1; 32]));
        let day = 24 * 60;
        note(&history, &Event::Created { session }, NOW - day);
        assert_eq!(Counts::sum(&history.last(at(NOW), day, 1)), Counts::default());
        note(&history, &Event::Conflicted { session }, NOW);
        let counts = Counts::sum(&history.last(at(NOW), day, 1));
        assert_eq!((counts.created, counts.conflicts), (0, 1), "the minute of the same place is another one");
    }

    #[test]
    fn each_cause_and_each_reason_has_its_place() {
        let (history, session) = (History::since(NOW - 24 * 60), SessionId::from_bytes([1; 32]));
        assert_eq!(
            CAUSES.map(|(name, _)| name),
            *EndCause::ALL.iter().map(|cause| cause.name()).collect::<Vec<_>>()
        );
        for &cause in EndCause::ALL {
            note(&history, &Event::Ended { session, cause }, NOW);
        }
        for reason in REJECTED {
            assert_eq!(REASONS[place_of(reason)].0, reason.name());
            note(&history, &Event::Rejected { session: None, reason }, NOW);
        }
        let counts = Counts::sum(&history.last(at(NOW), 60, 1));
        assert_eq!((counts.ended, counts.rejected), ([1; 4], [1; 9]));
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn sessions_are_followed_until_they_are_gone() {
        #[derive(crate::Databag)]
        #[databag(table = "followed")]
        struct Followed {
            #[databag(user_id)]
            user_id: Option<i64>,
            #[databag(column, blind)]
            email: Option<String>,
        }
        let history = History::new();
        let store = crate::SqliteStore::in_memory().expect("a database");
        let sessions = Sessions::<Followed>::builder(store).keyring(crate::Keyring::generate());
        let sessions = sessions.on_event(history.observer()).build().await.expect("good settings");
        let bag = Followed { user_id: Some(7), email: Some("dana@example.com".to_owned()) };
        sessions.create(bag).await.expect("stored");
        let (engine, http) = (Arc::downgrade(&sessions.engine), sessions.http.clone());
        let weak =
            move || Weak::upgrade(&engine).map(|engine| Sessions::<Followed>::new(engine, http.clone()));
        let task = tokio::spawn(follow(weak, Arc::downgrade(&history.shared)));
        let kept = || -> Vec<_> {
            let groupings = history.shared.groupings.lock().expect("no panic");
            groupings.iter().map(|grouping| grouping.facets.clone()).collect()
        };
        for _ in 0..5_000 {
            if !kept().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(kept(), [vec![vec![(Shown::Value("7".to_owned()), 1)]]], "nothing of the blind column");
        let live = || history.last(SystemTime::now().into(), 60, 60)[0].live;
        assert_eq!(live(), Some(1));
        sessions.create(Followed { user_id: None, email: None }).await.expect("stored");
        // A minute passes whenever nothing else happens.
        tokio::time::pause();
        for _ in 0..120 {
            if live() == Some(2) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(live(), Some(2));
        assert!(!task.is_finished());
        drop(sessions);
        task.await.expect("it ends");
    }

    /// A reason that is new has no place yet: then this does not compile.
    fn place_of(reason: Rejection) -> usize {
        match reason {
            Rejection::Malformed => 0,
            Rejection::Duplicate => 1,
            Rejection::Unknown => 2,
            Rejection::Tampered => 3,
            Rejection::TooLarge => 4,
            Rejection::Undecodable { .. } => 5,
            Rejection::Address => 6,
            Rejection::UserAgent => 7,
            Rejection::UnknownKey => 8,
            Rejection::Expired => unreachable!("it is an event of its own"),
        }
    }

    #[test]
    fn the_largest_groups_of_a_day_are_kept() {
        let history = History::new();
        let value = |name: &str| Shown::Value(name.to_owned());
        let mut grouped = Grouped {
            groups: vec![(value("acme"), 30), (Shown::Nothing, 20), (value("b"), 2)],
            read: 52,
            total: 520,
        };
        history.shared.note_groups("shop", std::slice::from_ref(&grouped), NOW - 31);
        grouped.groups = (0..20).map(|n| (value(&n.to_string()), 2)).collect();
        grouped.groups[0] = (value("b"), 14);
        let GroupsOverTime { times, lines, is_followed } = history.groups("shop", at(NOW), 0, &grouped);
        assert!(is_followed && !history.groups("staff", at(NOW), 0, &grouped).is_followed);
        assert_eq!((times.len(), times[95]), (96, NOW));
        let names: Vec<_> = lines.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["acme", "–", "b", "1"]);
        let points = |line: usize| [92, 93, 95].map(|time| lines[line].1[time]);
        assert_eq!(points(0), [Some(300), None, None], "it may be one of those that were not kept");
        assert_eq!(points(2), [Some(20), None, Some(140)]);
        assert_eq!(points(3), [Some(0), None, Some(20)]);
        let nothing = Grouped::default();
        assert_eq!(history.groups("shop", at(NOW), 0, &nothing).lines.len(), 3);
        assert_eq!(history.groups("shop", at(NOW), 1, &nothing).lines, [], "there is no such facet");
        assert_eq!(history.groups("staff", at(NOW), 0, &nothing).lines, [], "it is another bag");
        assert_eq!(history.groups("shop", at(NOW + 3 * 24 * 60), 0, &nothing).lines, [], "the day is over");
    }

    #[test]
    fn it_takes_as_much_memory_as_it_says() {
        assert_eq!(size_of::<Minute>() * MINUTES, 126_720);
        let history = History::new();
        let many = (0..20).map(|n| (Shown::Value(n.to_string()), 1)).collect();
        let grouped = [Grouped { groups: many, read: 20, total: 20 }];
        for minute in 0..200 {
            history.shared.note_groups("shop", &grouped, NOW + minute * GROUPED_EVERY);
        }
        let groupings = history.shared.groupings.lock().expect("no panic");
        let kept: Vec<_> = groupings.iter().map(|grouping| grouping.facets[0].len()).collect();
        assert_eq!(kept, [GROUPS_KEPT; 96]);
    }
}
