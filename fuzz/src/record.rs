//! Records of any bytes: what decodes encodes to what decodes to the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_runtime::{Databag, Error};

use crate::Target;
use crate::http::run as wait;
use crate::rows::{Loads, Shelf, framed, plain, row, token, unframed};

/// Records of bytes.
pub const BINARY: Target = Target {
    name: "record",
    run: |data| BINARY_ROWS.with(|rows| rows.run(data)),
    starts: || starts::<Binary>(false, &[Binary::defaults(), filled!(Binary)]),
    weight: 1,
    words: &["\u{1}", "\0", "\u{FFFD}", "{", "[", "[[[[[[[[[[[[[[[[", "null"],
};

/// Records that are a JSON object.
pub const JSON: Target = Target {
    name: "json_record",
    run: |data| JSON_ROWS.with(|rows| rows.run(data)),
    starts: || starts::<Json>(true, &[Json::defaults(), filled!(Json)]),
    weight: 1,
    words: &[
        "\"#\":",
        "\"absolute\":",
        "\"types\":",
        "\"columns\":[",
        "\"v\":1",
        "null",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\u0000",
        "\\ud800",
        "1e999",
        "-0",
        "[[[[[[[[[[[[[[[[",
        "{\"children\":[",
        "\"children\"",
        "1.5",
        " ",
        "\n",
    ],
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tree {
    name: String,
    children: Vec<Tree>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Choice {
    #[default]
    Nothing,
    Number(i16),
    Pair(String, Box<Choice>),
    Named {
        id: u64,
        tags: Vec<String>,
    },
}

macro_rules! bag {
    ($bag:ident, $name:literal, $codec:literal) => {
        /// Fields of many types.
        #[derive(Clone, Debug, PartialEq, Databag)]
        #[databag(name = $name, table = $name, codec = $codec)]
        struct $bag {
            count: u8,
            number: i64,
            wide: u128,
            text: String,
            maybe: Option<String>,
            list: Vec<u32>,
            map: BTreeMap<String, Vec<u8>>,
            set: BTreeSet<u16>,
            hashed: HashMap<u8, u8>,
            nothings: Vec<()>,
            tree: Tree,
            choice: Choice,
            pair: (bool, char),
            array: [u16; 3],
            life: Duration,
            address: Option<IpAddr>,
            #[databag(flash)]
            notice: Option<String>,
            #[databag(codec = "json")]
            any: serde_json::Value,
        }
    };
}

macro_rules! filled {
    ($bag:ident) => {
        $bag {
            count: 1,
            number: -5,
            wide: u128::MAX,
            text: "caf\u{E9}".to_owned(),
            maybe: Some("x".to_owned()),
            list: vec![1, 300, 70_000],
            map: BTreeMap::from([("a".to_owned(), vec![0, 255])]),
            set: BTreeSet::from([1, 2]),
            hashed: HashMap::from([(1, 2)]),
            nothings: vec![(); 3],
            tree: Tree { name: "root".to_owned(), children: vec![Tree::default(), Tree::default()] },
            choice: Choice::Named { id: 7, tags: vec!["t".to_owned()] },
            pair: (true, '\u{1F36A}'),
            array: [1, 2, 3],
            life: Duration::new(5, 7),
            address: Some(IpAddr::from([10, 0, 0, 1])),
            notice: Some("saved".to_owned()),
            any: serde_json::json!({"a": [1, -2.5, null], "b": {"c": true}}),
        }
    };
}
use filled;

bag!(Binary, "binary_record", "bincode");
bag!(Json, "json_record", "json");

thread_local! {
    static BINARY_ROWS: Rows<Binary> = Rows::new(false, |bag| bag.count = bag.count.wrapping_add(1));
    static JSON_ROWS: Rows<Json> = Rows::new(true, |bag| bag.count = bag.count.wrapping_add(1));
}

struct Rows<T> {
    shelf: Shelf,
    sessions: Loads<T>,
    is_text: bool,
    change: fn(&mut T),
}

impl<T: Databag + Clone + PartialEq + std::fmt::Debug> Rows<T> {
    fn new(is_text: bool, change: fn(&mut T)) -> Self {
        let shelf = Shelf::default();
        Self { sessions: plain(&shelf), shelf, is_text, change }
    }

    fn run(&self, record: &[u8]) {
        self.shelf.replace(row(framed::<T>(self.is_text, record)));
        let Some(session) = wait(self.sessions.load(&token())).expect("no row is a failure") else { return };
        let id = session.id();
        let bag = session.into_bag();

        // All fields.
        match wait(self.sessions.create(bag.clone())) {
            Ok((token, _)) => {
                let again = wait(self.sessions.load(&token)).expect("answers").expect("it was written");
                assert_eq!(again.into_bag(), bag);
            }
            // The defaults of missing fields take room, and JSON can be written shorter.
            Err(Error::TooLarge { .. }) => {}
            Err(error) => panic!("a value that was read is not written: {error:?}"),
        }
        // One field; the others, also unknown ones, are kept.
        let mut changed = bag;
        (self.change)(&mut changed);
        match wait(self.sessions.update(id, |bag| (self.change)(bag))) {
            Ok(()) => {
                let again = wait(self.sessions.load(&token())).expect("answers").expect("it was written");
                assert_eq!(again.into_bag(), changed);
            }
            Err(Error::TooLarge { .. }) => {}
            Err(error) => panic!("a session that was read is not written: {error:?}"),
        }
    }
}

/// Returns the records of bags.
fn starts<T: Databag + Clone>(is_text: bool, bags: &[T]) -> Vec<Vec<u8>> {
    let shelf = Shelf::default();
    let sessions = plain::<T>(&shelf);
    let records = bags.iter().map(|bag| {
        let (_, session) = wait(sessions.create(bag.clone())).expect("stored");
        unframed::<T>(is_text, &shelf.get(session.id()).expect("stored").state)
    });
    records.collect()
}
