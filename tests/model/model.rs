//! The model, the steps for it and for `Sessions`, and the comparison.
//!
//! Two processes share a store, a clock and two keys; each has another current key.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use databag_tests::ManualClock;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use session_runtime::{
    Cleanup, Clock as _, Databag, Directory, Error, Keyring, SessionId, Sessions, Snapshot, Token,
};

const IDLE: Duration = Duration::from_mins(30);
const ABSOLUTE: Duration = Duration::from_mins(40);

#[derive(Clone, Debug, PartialEq, Databag)]
#[databag(table = "model", idle = "30m", absolute = "40m")]
struct Bag {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(column, index)]
    tenant: Option<String>,
    #[databag(column)]
    visits: u32,
    notes: Vec<String>,
}

/// A step. Processes are 0 and 1; sessions are numbered in the order of their creation.
#[derive(Clone, Debug)]
enum Step {
    Create {
        user: Option<i64>,
        tenant: Option<u8>,
        visits: u32,
    },
    Load(usize),
    Get(usize),
    Update {
        session: usize,
        tenant: Option<u8>,
        note: String,
    },
    /// Changes the user field, as a plain change of the bag.
    ChangeUser {
        session: usize,
        user: Option<i64>,
    },
    Delete(usize),
    OfUser(i64),
    RevokeUser(i64),
    RevokeUserExcept(i64, usize),
    FindByTenant(u8),
    CountByVisits(u32),
    DeleteByTenant(u8),
    CountAll,
    Advance(u64),
    Prune,
    ResealAll,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let (user, tenant, session) = (0_i64..4, 0_u8..3, 0_usize..12);
    let step = prop_oneof![
        8 => (proptest::option::of(user.clone()), proptest::option::of(tenant.clone()), 0_u32..4)
            .prop_map(|(user, tenant, visits)| Step::Create { user, tenant, visits }),
        3 => session.clone().prop_map(Step::Load),
        3 => session.clone().prop_map(Step::Get),
        6 => (session.clone(), proptest::option::of(tenant.clone()), "[a-z]{0,3}")
            .prop_map(|(session, tenant, note)| Step::Update { session, tenant, note }),
        4 => (session.clone(), proptest::option::of(user.clone()))
            .prop_map(|(session, user)| Step::ChangeUser { session, user }),
        2 => session.clone().prop_map(Step::Delete),
        2 => user.clone().prop_map(Step::OfUser),
        1 => user.clone().prop_map(Step::RevokeUser),
        2 => (user, session).prop_map(|(user, session)| Step::RevokeUserExcept(user, session)),
        2 => tenant.clone().prop_map(Step::FindByTenant),
        2 => (0_u32..6).prop_map(Step::CountByVisits),
        1 => tenant.prop_map(Step::DeleteByTenant),
        1 => Just(Step::CountAll),
        4 => (0_u64..25).prop_map(Step::Advance),
        2 => Just(Step::Prune),
        2 => Just(Step::ResealAll),
        1 => prop_oneof![9 => Just(Step::CountAll), 1 => Just(Step::Clear)],
    ];
    proptest::collection::vec((0_usize..2, step), 1..60)
}

/// Unique tokens, of which the last one is known: an update does not return the new token.
#[derive(Clone)]
struct Made(Arc<AtomicU64>);

impl Made {
    /// Begins after the tokens of the previous sequences: a server may remember for a moment that their sessions ended.
    fn new() -> Self {
        static SEQUENCES: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(AtomicU64::new(SEQUENCES.fetch_add(1, Ordering::Relaxed) << 32)))
    }

    fn source(&self) -> impl Fn() -> [u8; 32] + Send + Sync + 'static {
        let made = self.0.clone();
        move || Self::bytes(made.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn last(&self) -> Token {
        Token::from_bytes(Self::bytes(self.0.load(Ordering::Relaxed)))
    }

    fn bytes(number: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes
    }
}

/// A session of the model.
#[derive(Clone, Debug)]
struct Entry {
    bag: Bag,
    created: SystemTime,
    expires: SystemTime,
    /// The process whose current key seals it.
    sealed_by: usize,
}

/// Every session that has a row, expired or not.
#[derive(Default)]
struct Model {
    entries: BTreeMap<SessionId, Entry>,
}

impl Model {
    fn live(&self, id: SessionId, now: SystemTime) -> Option<&Entry> {
        self.entries.get(&id).filter(|entry| entry.expires > now)
    }

    /// Returns the live sessions that match, the newest first.
    fn find(&self, now: SystemTime, matches: impl Fn(&Bag) -> bool) -> Vec<SessionId> {
        let found = self.entries.iter().filter(|(_, entry)| entry.expires > now && matches(&entry.bag));
        let mut found: Vec<_> = found.map(|(id, entry)| (entry.created, *id)).collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// Ends the matching sessions, expired or not, and returns how many there were.
    fn remove(&mut self, matches: impl Fn(SessionId, &Entry) -> bool) -> u64 {
        let before = self.entries.len();
        self.entries.retain(|id, entry| !matches(*id, entry));
        (before - self.entries.len()) as u64
    }
}

fn tenant(number: u8) -> String {
    format!("tenant {number}")
}

fn ids(found: &[Snapshot<Bag>]) -> Vec<SessionId> {
    found.iter().map(Snapshot::id).collect()
}

fn agree(found: Option<&Snapshot<Bag>>, expected: Option<&Entry>) -> bool {
    match (found, expected) {
        (None, None) => true,
        (Some(found), Some(entry)) => {
            **found == entry.bag && found.created() == entry.created && found.expires() == entry.expires
        }
        _ => false,
    }
}

/// Takes all steps with both and returns the first step whose results differ.
async fn run<S: Directory>(stores: [S; 2], steps: &[(usize, Step)]) -> Result<(), String> {
    let (clock, keys) = (ManualClock::default(), [Keyring::generate_text(), Keyring::generate_text()]);
    let (mut processes, made) = (Vec::new(), Made::new());
    for (process, store) in stores.into_iter().enumerate() {
        let keyring = format!("{},{}", keys[process].as_str(), keys[1 - process].as_str());
        let builder = Sessions::<Bag>::builder(store)
            .keyring(Keyring::parse(&keyring).expect("keys"))
            .cleanup(Cleanup::Never)
            .clock(clock.clone())
            .token_source(made.source());
        processes.push(builder.build().await.expect("good settings"));
    }
    // A server may have the sessions of the previous sequence.
    processes[0].clear().await.map_err(|error| error.to_string())?;
    let (mut model, mut tokens) = (Model::default(), Vec::new());
    for (number, (process, step)) in steps.iter().enumerate() {
        let same = take(&processes[*process], *process, &clock, &mut model, &mut tokens, &made, step).await;
        if !same.map_err(|error| format!("step {number}, {step:?}: {error}"))? {
            return Err(format!("step {number} by process {process}, {step:?}: the results differ"));
        }
        // Both processes read the clock at each step, and agree on which sessions are live.
        for (process, sessions) in processes.iter().enumerate() {
            let count = sessions.count_all().await.map_err(|error| error.to_string())?;
            let now = clock.now();
            if count != model.find(now, |_| true).len() as u64 {
                return Err(format!("after step {number}, {step:?}, process {process} counts {count}"));
            }
        }
    }
    // The sessions are the same at the end.
    let now = clock.now();
    for token in &tokens {
        let found = processes[0].load(token).await.map_err(|error| error.to_string())?;
        if !agree(found.as_ref(), model.live(token.session_id(), now)) {
            return Err(format!("in the end, {:?} differs", token.session_id()));
        }
    }
    Ok(())
}

/// Takes a step with both and returns whether the results are the same.
#[expect(clippy::too_many_lines, reason = "an arm for every step")]
async fn take(
    sessions: &Sessions<Bag>,
    process: usize,
    clock: &ManualClock,
    model: &mut Model,
    tokens: &mut Vec<Token>,
    made: &Made,
    step: &Step,
) -> Result<bool, Error> {
    let token = |session: usize| tokens.get(session).cloned();
    Ok(match step {
        Step::Create { user, tenant: of, visits } => {
            let bag = Bag { user_id: *user, tenant: of.map(tenant), visits: *visits, notes: Vec::new() };
            let (token, created) = sessions.create(bag.clone()).await?;
            let now = clock.now();
            let entry = Entry { bag, created: now, expires: now + IDLE.min(ABSOLUTE), sealed_by: process };
            let same = agree(Some(&created), Some(&entry)) && created.id() == token.session_id();
            model.entries.insert(token.session_id(), entry);
            tokens.push(token);
            same
        }
        Step::Load(session) | Step::Get(session) => {
            let Some(token) = token(*session) else { return Ok(true) };
            let found = match step {
                Step::Load(_) => sessions.load(&token).await?,
                _ => sessions.get(token.session_id()).await?,
            };
            let now = clock.now();
            agree(found.as_ref(), model.live(token.session_id(), now))
        }
        Step::Update { session, tenant: of, note } => {
            let Some(token) = token(*session) else { return Ok(true) };
            let change = |bag: &mut Bag| {
                bag.tenant = of.map(tenant);
                bag.visits += 1;
                bag.notes.push(note.clone());
                bag.visits
            };
            let visits = match sessions.update(token.session_id(), change).await {
                Ok(visits) => Some(visits),
                Err(Error::Ended) => None,
                Err(error) => return Err(error),
            };
            let now = clock.now();
            let entry = model.entries.get_mut(&token.session_id()).filter(|entry| entry.expires > now);
            let expected = entry.map(|entry| {
                entry.sealed_by = process;
                change(&mut entry.bag)
            });
            visits == expected
        }
        Step::ChangeUser { session, user } => {
            let Some(token) = token(*session) else { return Ok(true) };
            let change = |bag: &mut Bag| std::mem::replace(&mut bag.user_id, *user);
            let before = match sessions.update(token.session_id(), change).await {
                Ok(before) => Some(before),
                Err(Error::Ended) => None,
                Err(error) => return Err(error),
            };
            let now = clock.now();
            let expected = model.live(token.session_id(), now).map(|entry| entry.bag.user_id);
            if expected.is_some_and(|expected| expected != *user)
                && let Some(mut entry) = model.entries.remove(&token.session_id())
            {
                // It starts again under a new id.
                entry.bag.user_id = *user;
                (entry.created, entry.expires, entry.sealed_by) = (now, now + IDLE.min(ABSOLUTE), process);
                let renamed = made.last();
                model.entries.insert(renamed.session_id(), entry);
                tokens.push(renamed);
            }
            before == expected
        }
        Step::Delete(session) => {
            let Some(token) = token(*session) else { return Ok(true) };
            let deleted = sessions.delete(token.session_id()).await?;
            deleted == model.entries.remove(&token.session_id()).is_some()
        }
        Step::OfUser(user) => {
            let found = sessions.of_user(*user).await?;
            let now = clock.now();
            ids(&found) == model.find(now, |bag| bag.user_id == Some(*user))
        }
        Step::RevokeUser(user) => {
            let revoked = sessions.revoke_user(*user).await?;
            revoked == model.remove(|_, entry| entry.bag.user_id == Some(*user))
        }
        Step::RevokeUserExcept(user, session) => {
            let Some(kept) = token(*session).map(|token| token.session_id()) else { return Ok(true) };
            let revoked = sessions.revoke_user_except(*user, kept).await?;
            revoked == model.remove(|id, entry| id != kept && entry.bag.user_id == Some(*user))
        }
        Step::FindByTenant(number) => {
            let of = tenant(*number);
            let found = sessions.find(Bag::TENANT.eq(of.as_str())).await?;
            let now = clock.now();
            let all = found.iter().all(|found| agree(Some(found), model.live(found.id(), now)));
            all && ids(&found) == model.find(now, |bag| bag.tenant.as_ref() == Some(&of))
        }
        Step::CountByVisits(visits) => {
            let count = sessions.find(Bag::VISITS.ge(*visits)).count().await?;
            let now = clock.now();
            count == model.find(now, |bag| bag.visits >= *visits).len() as u64
        }
        Step::DeleteByTenant(number) => {
            let of = tenant(*number);
            let deleted = sessions.find(Bag::TENANT.eq(of.as_str())).delete().await?;
            deleted == model.remove(|_, entry| entry.bag.tenant.as_ref() == Some(&of))
        }
        Step::CountAll => {
            let count = sessions.count_all().await?;
            let now = clock.now();
            count == model.find(now, |_| true).len() as u64
        }
        Step::Advance(minutes) => {
            clock.advance(Duration::from_mins(*minutes));
            true
        }
        Step::Prune => {
            let pruned = sessions.prune().await?;
            let now = clock.now();
            pruned == model.remove(|_, entry| entry.expires <= now)
        }
        Step::ResealAll => {
            let resealed = sessions.reseal_all(|_, _| {}).await?;
            let now = clock.now();
            let mut expected = 0;
            let live = model.entries.values_mut().filter(|entry| entry.expires > now);
            for entry in live.filter(|entry| entry.sealed_by != process) {
                entry.sealed_by = process;
                expected += 1;
            }
            resealed == expected
        }
        Step::Clear => sessions.clear().await? == model.remove(|_, _| true),
    })
}

/// Tries so many sequences, or the number in `PROPTEST_CASES`, with the two handles of two processes on a store; returns
/// the shortest sequence whose results differ.
pub(crate) fn try_all<S: Directory>(
    name: &str,
    cases: u32,
    open: impl AsyncFn() -> [S; 2],
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let cases = config.cases;
    let since = std::time::Instant::now();
    let tried = TestRunner::new(config).run(&steps(), |steps| {
        let run = async { run(open().await, &steps).await };
        runtime.block_on(run).map_err(TestCaseError::fail)
    });
    tried.map_err(|error| error.to_string())?;
    println!("{name}: {cases} sequences in {:.1?}", since.elapsed());
    Ok(())
}
