//! Long lists that two requests change: the merge takes little time whatever they hold.

use std::cell::Cell;
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
    name: "append",
    run,
    starts: || {
        let list = |parts: &[(u8, &[u8])]| {
            let part = |(times, part): &(u8, &[u8])| {
                [&[*times, u8::try_from(part.len()).unwrap_or(0)], *part].concat()
            };
            let parts: Vec<u8> = parts.iter().flat_map(part).collect();
            [&[2], parts.as_slice()].concat()
        };
        let (zeros, ones) = (list(&[(255, &[0]), (0, &[1])]), list(&[(255, &[1]), (255, &[2])]));
        let (mixed, short) = (list(&[(200, &[0, 1]), (200, &[0, 0, 1])]), list(&[(0, &[1]), (0, &[])]));
        [
            [zeros.clone(), ones.clone(), mixed.clone()],
            [zeros.clone(), short.clone(), zeros.clone()],
            [mixed.clone(), zeros, ones],
            [short, mixed.clone(), mixed],
        ]
        .into_iter()
        .flat_map(|lists| {
            let brief = lists.concat();
            let rest = sum(&brief).wrapping_neg();
            [[brief.as_slice(), &[rest]].concat(), brief]
        })
        .collect()
    },
    weight: 2,
    words: &["\u{FF}", "\0", "\u{1}"],
};

/// A list.
#[derive(Clone, Debug, PartialEq, Databag)]
#[databag(name = "Appended", table = "appended")]
struct Appended {
    #[databag(merge = "append")]
    list: Vec<u8>,
}

struct World {
    site: Site,
    sessions: Loads<Appended>,
}

thread_local! {
    static WORLD: ManuallyDrop<World> = ManuallyDrop::new(wait(async {
        let builder = Sessions::<Appended>::builder(Unlisted(Shelf::default())).keyring(keyring()).token_source(|| [7; 32]);
        let sessions: Loads<Appended> = steady(builder).build().await.expect("good settings");
        World { site: page!(sessions, handle), sessions }
    }));
    static CHANGES: Cell<Option<[Vec<u8>; 2]>> = const { Cell::new(None) };
}

async fn handle(
    mut session: Session<Appended>,
    sessions: Sessions<Appended, ById>,
) -> Result<&'static str, Error> {
    let [theirs, ours] = CHANGES.take().expect("there is a case");
    sessions.update(session.id(), |bag| bag.list.clone_from(&theirs)).await?;
    *session.list_mut() = ours;
    Ok("done")
}

/// One input in 256 makes long lists: those take 15 ms, and others a hundredth of it.
fn is_long(data: &[u8]) -> bool {
    sum(data) == 0
}

fn sum(data: &[u8]) -> u8 {
    data.iter().copied().fold(0, u8::wrapping_add)
}

/// Makes a list of repeated parts.
fn list(input: &mut Input<'_>, longest: usize) -> Vec<u8> {
    let mut list = Vec::new();
    for _ in 0..input.byte() % 4 {
        let times = usize::from(input.byte());
        let part = input.bytes();
        list.extend(part.repeat(1 + times * longest / 300 / part.len().max(1)));
    }
    list.truncate(longest);
    list
}

/// Runs the target.
///
/// # Panics
///
/// If it finds something.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let longest = if is_long(data) { 30_000 } else { 300 };
    let [base, theirs, ours] = [(); 3].map(|()| list(&mut input, longest));
    WORLD.with(|world| {
        let World { site, sessions } = &**world;
        let (token, session) = wait(sessions.create(Appended { list: base.clone() })).expect("stored");
        CHANGES.set(Some([theirs.clone(), ours.clone()]));
        let answer = wait(site(TestRequest::default().cookie(sessions.cookie(&token))));
        let stored = wait(sessions.load(&token)).expect("answers").expect("it lives").into_bag().list;
        assert!(wait(sessions.delete(session.id())).expect("answers"));
        assert_eq!(answer.status, 200);
        if base == ours {
            assert_eq!(stored, theirs);
        } else if base == theirs {
            assert_eq!(stored, ours);
        } else if let (Some(added), Some(_)) = (ours.strip_prefix(&*base), theirs.strip_prefix(&*base)) {
            assert_eq!(stored, [&theirs, added].concat());
        }
    });
}
