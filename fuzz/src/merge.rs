//! Two requests that change the same session: a field that one of them has changed has its value, and one that both have
//! changed follows its policy.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::ManuallyDrop;

use actix_web::test::TestRequest;
use session_runtime::access::ById;
use session_runtime::store::Unlisted;
use session_runtime::{Databag, Error, Session, Sessions};

use crate::http::{Site, run as wait};
use crate::input::Input;
use crate::rows::{Loads, Shelf, keyring, steady};
use crate::{Target, page};

/// The target.
pub const TARGET: Target = Target {
    name: "merge",
    run,
    starts: || {
        let mut starts = vec![vec![], (0..=255).collect(), vec![0xFF; 200]];
        starts.extend((1..8).map(|n| (0..200_u8).map(|byte| byte.wrapping_mul(n) % 9).collect()));
        starts
    },
    weight: 4,
    words: &["\u{1}", "\0", "\u{2}", "\u{7F}"],
};

/// A field for each policy.
#[derive(Clone, Debug, PartialEq, Databag)]
#[databag(name = "Merged", table = "merged")]
struct Merged {
    last: u8,
    entries: BTreeMap<u8, u8>,
    set: BTreeSet<u8>,
    #[databag(merge = "append")]
    list: Vec<u8>,
    #[databag(merge = "sum")]
    sum: i64,
    #[databag(merge = "sum")]
    small: u8,
    #[databag(merge = "max")]
    max: i64,
    #[databag(merge = "min")]
    min: i64,
    #[databag(merge = "reject")]
    guarded: u8,
    #[databag(merge = longer)]
    chosen: String,
}

#[expect(clippy::ptr_arg, reason = "a policy takes the field's own type")]
fn longer(_base: &String, ours: &String, theirs: &String) -> String {
    if theirs.len() > ours.len() { theirs.clone() } else { ours.clone() }
}

impl Merged {
    /// Makes a bag from this one; a request changes few fields.
    fn changed(&self, input: &mut Input<'_>) -> Self {
        let mut bag = self.clone();
        let fields = u16::from(input.byte()) << 8 | u16::from(input.byte());
        let has = |field: u16| fields & 1 << field != 0;
        if has(0) {
            bag.last = input.byte();
        }
        if has(1) {
            let changes: Vec<(u8, Option<u8>)> =
                input.list(|input| (input.byte() % 8, input.option(Input::byte)));
            for (key, value) in changes {
                match value {
                    Some(value) => drop(bag.entries.insert(key, value)),
                    None => drop(bag.entries.remove(&key)),
                }
            }
        }
        if has(2) {
            bag.set = input.list(|input| input.byte() % 8);
        }
        if has(3) {
            bag.list.extend(input.list::<u8, Vec<_>>(|input| input.byte() % 4));
        }
        if has(10) {
            bag.list = input.list(|input| input.byte() % 4);
        }
        if has(4) {
            bag.sum = input.integer();
        }
        if has(5) {
            bag.small = input.byte();
        }
        if has(6) {
            bag.max = input.integer();
        }
        if has(7) {
            bag.min = input.integer();
        }
        if has(8) {
            bag.guarded = input.byte() % 4;
        }
        if has(9) {
            bag.chosen = input.text();
        }
        bag
    }
}

struct World {
    site: Site,
    sessions: Loads<Merged>,
}

thread_local! {
    static WORLD: ManuallyDrop<World> = ManuallyDrop::new(wait(async {
        let builder = Sessions::<Merged>::builder(Unlisted(Shelf::default())).keyring(keyring()).token_source(|| [7; 32]);
        let sessions: Loads<Merged> = steady(builder).build().await.expect("good settings");
        World { site: page!(sessions, handle), sessions }
    }));
    /// What the two requests make of the session.
    static CHANGES: Cell<Option<[Merged; 2]>> = const { Cell::new(None) };
}

/// Changes the session after another request has done so.
async fn handle(
    mut session: Session<Merged>,
    sessions: Sessions<Merged, ById>,
) -> Result<&'static str, Error> {
    let [theirs, ours] = CHANGES.take().expect("there is a case");
    sessions.update(session.id(), |bag| *bag = theirs.clone()).await?;
    *session.last_mut() = ours.last;
    *session.entries_mut() = ours.entries;
    *session.set_mut() = ours.set;
    *session.list_mut() = ours.list;
    *session.sum_mut() = ours.sum;
    *session.small_mut() = ours.small;
    *session.max_mut() = ours.max;
    *session.min_mut() = ours.min;
    *session.guarded_mut() = ours.guarded;
    *session.chosen_mut() = ours.chosen;
    Ok("done")
}

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let base = Merged::defaults().changed(&mut input);
    let (theirs, ours) = (base.changed(&mut input), base.changed(&mut input));
    WORLD.with(|world| {
        let World { site, sessions } = &**world;
        let (token, session) = wait(sessions.create(base.clone())).expect("stored");
        CHANGES.set(Some([theirs.clone(), ours.clone()]));
        let answer = wait(site(TestRequest::default().cookie(sessions.cookie(&token))));
        let stored = wait(sessions.load(&token)).expect("answers").expect("it lives").into_bag();
        assert!(wait(sessions.delete(session.id())).expect("answers"));
        let is_refused =
            both(&base.guarded, &ours.guarded, &theirs.guarded) && ours.guarded != theirs.guarded;
        if is_refused {
            assert_eq!((answer.status, stored), (409, theirs));
            return;
        }
        assert_eq!(answer.status, 200);
        let lists = both(&base.list, &ours.list, &theirs.list);
        let mut expected = expected(&base, &ours, &theirs);
        if lists && expected.list.is_empty() {
            // Neither list only grew, so it is not known here where its items come from.
            let count = |list: &[u8]| list.iter().fold(0, |count, _| count + 1);
            assert!(count(&stored.list) <= count(&ours.list) + count(&theirs.list));
            expected.list.clone_from(&stored.list);
        }
        assert_eq!(stored, expected, "base {base:?} ours {ours:?} theirs {theirs:?}");
    });
}

/// Returns whether both requests have changed a field.
fn both<T: PartialEq>(base: &T, ours: &T, theirs: &T) -> bool {
    base != ours && base != theirs
}

/// Merges a field.
fn merged<T: PartialEq + Clone>(base: &T, ours: &T, theirs: &T, policy: impl Fn() -> T) -> T {
    if both(base, ours, theirs) {
        policy()
    } else if base == ours {
        theirs.clone()
    } else {
        ours.clone()
    }
}

/// Returns what the policies say.
fn expected(base: &Merged, ours: &Merged, theirs: &Merged) -> Merged {
    let sum = |base: i128, ours: i128, theirs: i128, most: std::ops::RangeInclusive<i128>| {
        (theirs + ours - base).clamp(*most.start(), *most.end())
    };
    let entry = |key: u8| {
        let [base, ours, theirs] = [base, ours, theirs].map(|bag| bag.entries.get(&key).copied());
        merged(&base, &ours, &theirs, || ours).map(|value| (key, value))
    };
    let member = |key: &u8| {
        let [base, ours, theirs] = [base, ours, theirs].map(|bag| bag.set.contains(key));
        merged(&base, &ours, &theirs, || ours)
    };
    Merged {
        last: merged(&base.last, &ours.last, &theirs.last, || ours.last),
        entries: (0..8).filter_map(entry).collect(),
        set: (0..8).filter(member).collect(),
        list: merged(&base.list, &ours.list, &theirs.list, || {
            match (ours.list.strip_prefix(&*base.list), theirs.list.strip_prefix(&*base.list)) {
                (Some(ours), Some(_)) => [&theirs.list, ours].concat(),
                _ => Vec::new(),
            }
        }),
        sum: i64::try_from(sum(
            base.sum.into(),
            ours.sum.into(),
            theirs.sum.into(),
            i64::MIN.into()..=i64::MAX.into(),
        ))
        .expect("clamped"),
        small: u8::try_from(sum(base.small.into(), ours.small.into(), theirs.small.into(), 0..=255))
            .expect("clamped"),
        max: merged(&base.max, &ours.max, &theirs.max, || ours.max.max(theirs.max)),
        min: merged(&base.min, &ours.min, &theirs.min, || ours.min.min(theirs.min)),
        guarded: merged(&base.guarded, &ours.guarded, &theirs.guarded, || ours.guarded),
        chosen: merged(&base.chosen, &ours.chosen, &theirs.chosen, || {
            longer(&base.chosen, &ours.chosen, &theirs.chosen)
        }),
    }
}
