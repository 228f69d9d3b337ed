//! Two releases of a bag that write the same session in turns: neither loses what only it knows.

use std::collections::BTreeMap;

use session_runtime::{Databag, Error, Token};

use crate::Target;
use crate::http::run as wait;
use crate::input::Input;
use crate::rows::{Loads, Shelf, framed, plain, unframed};

macro_rules! releases {
    ($target:ident, $name:literal, $tables:literal, $old:ident, $old_table:literal, $new:ident, $new_table:literal, $codec:literal, $is_text:literal) => {
        /// The target.
        pub const $target: Target = Target {
            name: $name,
            run: |data| {
                thread_local! {
                    static RELEASES: Releases<$old, $new> = Releases::new();
                }
                RELEASES.with(|releases| releases.run(data, $is_text));
            },
            starts: || {
                vec![
                    vec![],
                    (0..200).map(|byte| byte % 7 + 1).collect(),
                    b"\x03\x04abcd\x01\x05\x02ef\x03".to_vec(),
                ]
            },
            weight: 4,
            words: &["\u{FFFD}", "\"", "{", "#", "\0"],
        };

        /// The earlier release.
        #[derive(Clone, Debug, PartialEq, Databag)]
        #[databag(name = $tables, table = $old_table, codec = $codec)]
        struct $old {
            shared: u32,
            removed: String,
            map: BTreeMap<String, u8>,
            former_name: Vec<u8>,
            widened: u32,
            retyped: String,
        }

        /// The later release.
        #[derive(Clone, Debug, PartialEq, Databag)]
        #[databag(name = $tables, table = $new_table, codec = $codec)]
        struct $new {
            added: Vec<String>,
            shared: u32,
            #[databag(alias = "former_name")]
            new_name: Vec<u8>,
            #[databag(from = u32)]
            widened: u64,
            retyped: Option<bool>,
            map: BTreeMap<String, u8>,
        }

        impl Old for $old {
            fn made(input: &mut Input<'_>) -> Self {
                Self {
                    shared: input.byte().into(),
                    removed: input.text(),
                    map: input.list(|input| (input.text(), input.byte())),
                    former_name: input.bytes().to_vec(),
                    widened: input.byte().into(),
                    retyped: input.text(),
                }
            }

            fn change(&mut self, text: &str) {
                self.removed.push_str(text);
            }

            fn share(&mut self, shared: u32) {
                self.shared = shared;
            }
        }

        impl New<$old> for $new {
            fn expected(old: &$old) -> Self {
                Self {
                    added: Vec::new(),
                    shared: old.shared,
                    new_name: old.former_name.clone(),
                    widened: old.widened.into(),
                    retyped: None,
                    map: old.map.clone(),
                }
            }

            fn change(&mut self, added: Vec<String>, shared: u32) {
                self.added = added;
                self.shared = shared;
            }

            fn share(&mut self, shared: u32) {
                self.shared = shared;
            }

            fn lose_former_name(old: &mut $old) {
                old.former_name.clear();
            }
        }
    };
}

releases!(
    BINARY,
    "evolution",
    "released",
    OldBinary,
    "released_1",
    NewBinary,
    "released_2",
    "bincode",
    false
);
releases!(JSON, "json_evolution", "released_json", OldJson, "json_1", NewJson, "json_2", "json", true);

trait Old: Databag + Clone + PartialEq + std::fmt::Debug {
    fn made(input: &mut Input<'_>) -> Self;
    fn change(&mut self, text: &str);
    fn share(&mut self, shared: u32);
}

trait New<O>: Databag + Clone + PartialEq + std::fmt::Debug {
    fn expected(old: &O) -> Self;
    fn change(&mut self, added: Vec<String>, shared: u32);
    fn share(&mut self, shared: u32);
    /// The later release writes the field under its new name alone.
    fn lose_former_name(old: &mut O);
}

struct Releases<O, N> {
    old_shelf: Shelf,
    new_shelf: Shelf,
    old: Loads<O>,
    new: Loads<N>,
}

impl<O: Old, N: New<O>> Releases<O, N> {
    fn new() -> Self {
        let (old_shelf, new_shelf) = (Shelf::default(), Shelf::default());
        Self { old: plain(&old_shelf), new: plain(&new_shelf), old_shelf, new_shelf }
    }

    fn run(&self, data: &[u8], is_text: bool) {
        let mut input = Input(data);
        let mut old = O::made(&mut input);
        let (added, shared): (Vec<String>, _) = (input.list(Input::text), input.byte());
        let (appended, is_shared) = (input.text(), input.flag());
        let created = match wait(self.old.create(old.clone())) {
            Ok(created) => created,
            Err(Error::TooLarge { .. }) => return,
            Err(error) => panic!("{error:?}"),
        };
        let (token, id) = (created.0, created.1.id());

        // The later release reads the session, and changes two fields.
        self.deploy(&token, is_text);
        let mut new = N::expected(&old);
        let before = new.clone();
        assert_eq!(self.read_new(&token), new);
        wait(self.new.update(id, |bag| bag.change(added.clone(), shared.into()))).expect("stored");
        new.change(added, shared.into());
        assert_eq!(self.read_new(&token), new);

        // The earlier release reads it again, and changes fields.
        self.roll_back(&token, is_text);
        old.share(shared.into());
        if new != before {
            N::lose_former_name(&mut old);
        }
        assert_eq!(self.read_old(&token), old, "the earlier release has its fields");
        let change = |bag: &mut O| {
            bag.change(&appended);
            if is_shared {
                bag.share(7);
            }
        };
        wait(self.old.update(id, change)).expect("stored");
        change(&mut old);
        assert_eq!(self.read_old(&token), old);

        // The later release has all of its fields.
        self.deploy(&token, is_text);
        if is_shared {
            new.share(7);
        }
        assert_eq!(self.read_new(&token), new, "the later release has its fields");
    }

    /// Gives the session to the later release.
    fn deploy(&self, token: &Token, is_text: bool) {
        move_row(&self.old_shelf, &self.new_shelf, token, |state| {
            framed::<N>(is_text, &unframed::<O>(is_text, state))
        });
    }

    /// Gives the session to the earlier release.
    fn roll_back(&self, token: &Token, is_text: bool) {
        move_row(&self.new_shelf, &self.old_shelf, token, |state| {
            framed::<O>(is_text, &unframed::<N>(is_text, state))
        });
    }

    fn read_old(&self, token: &Token) -> O {
        wait(self.old.load(token)).expect("answers").expect("it lives").into_bag()
    }

    fn read_new(&self, token: &Token) -> N {
        wait(self.new.load(token)).expect("answers").expect("it lives").into_bag()
    }
}

fn move_row(from: &Shelf, to: &Shelf, token: &Token, state: impl Fn(&[u8]) -> Vec<u8>) {
    let mut row = from.get(token.session_id()).expect("it is stored");
    row.state = state(&row.state);
    to.replace(row);
}
