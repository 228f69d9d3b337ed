//! Bags of any values, as the derive encodes them: each is refused, or comes back equal.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use session_runtime::store::Unlisted;
use session_runtime::{ColumnValue, Databag, Error, Sessions};

use crate::Target;
use crate::http::run as wait;
use crate::input::Input;
use crate::rows::{Loads, Shelf, keyring, steady};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ColumnValue)]
#[column(rename_all = "kebab-case")]
enum Theme {
    #[default]
    Light,
    HighContrast,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Node {
    #[default]
    Leaf,
    Text(String),
    Many(Vec<Node>),
    Map {
        inner: BTreeMap<String, Node>,
        left: Option<Box<Node>>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Unit;

/// Encodes a duration as its whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(life: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        u64::try_from(life.as_millis()).unwrap_or(u64::MAX).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

macro_rules! bag {
    ($target:ident, $name:literal, $bag:ident, $table:literal, $codec:literal) => {
        /// The target.
        pub const $target: Target = Target {
            name: $name,
            run: |data| {
                thread_local! {
                    static SESSIONS: Loads<$bag> = {
                        let builder = Sessions::<$bag>::builder(Unlisted(Shelf::default())).keyring(keyring());
                        wait(steady(builder.token_source(|| [7; 32])).build()).expect("good settings")
                    };
                }
                SESSIONS.with(|sessions| run(sessions, &$bag::made(&mut Input(data))));
            },
            starts: || vec![vec![], (0..=255).collect(), (0..200).map(|byte: u8| byte % 5).collect(), vec![0xFF; 300]],
            weight: 4, words: &["\u{7F}\u{F0}", "\u{7F}\u{F8}", "\0", "\u{1F36A}", "\u{1}\u{1}\u{1}\u{1}", "\u{2}\u{2}\u{2}\u{2}"],
        };

        /// Fields of many types and attributes.
        #[derive(Clone, PartialEq, Databag)]
        #[databag(table = $table, codec = $codec)]
        struct $bag {
            #[databag(user_id)]
            user_id: Option<String>,
            #[databag(ip_addr)]
            ip_addr: Option<IpAddr>,
            #[databag(column)]
            theme: Theme,
            #[databag(column, index)]
            score: Option<i64>,
            #[databag(column)]
            tenant: String,
            #[databag(secret)]
            pin: Option<String>,
            #[databag(flash)]
            notice: Option<Vec<String>>,
            #[databag(with = millis)]
            life: Duration,
            #[databag(codec = "json")]
            nested: BTreeMap<String, Option<(i8, String)>>,
            number: f64,
            small: f32,
            signed: i128,
            node: Node,
            unit: Unit,
            letter: char,
            bytes: Vec<u8>,
            queue: VecDeque<(u16, bool)>,
            numbered: BTreeMap<i64, String>,
            hashed: HashMap<String, BTreeSet<u8>>,
            #[databag(default = Ok(0))]
            either: Result<u8, String>,
            array: [Option<u8>; 4],
            positive: Option<NonZeroU16>,
            since: Option<SystemTime>,
            boxed: Box<str>,
        }

        impl $bag {
            fn made(input: &mut Input<'_>) -> Self {
                Self {
                    user_id: input.option(Input::text),
                    // It is the request's.
                    ip_addr: None,
                    theme: if input.flag() { Theme::HighContrast } else { Theme::Light },
                    score: input.option(Input::integer),
                    tenant: input.text(),
                    pin: input.option(Input::text),
                    notice: input.option(|input| input.list(Input::text)),
                    life: Duration::from_millis(input.number()),
                    nested: input.list(|input| {
                        (input.text(), input.option(|input| (input.byte().cast_signed(), input.text())))
                    }),
                    number: number(input),
                    small: f32::from_bits(u32::try_from(input.number() >> 32).unwrap_or(0)),
                    signed: i128::from(input.integer()) * i128::from(input.integer()),
                    node: node(input, 0),
                    unit: Unit,
                    letter: input.text().chars().next().unwrap_or_default(),
                    bytes: input.bytes().to_vec(),
                    queue: input.list(|input| (u16::from(input.byte()) << 4, input.flag())),
                    numbered: input.list(|input| (input.integer(), input.text())),
                    hashed: input.list(|input| (input.text(), input.list(Input::byte))),
                    either: if input.flag() { Ok(input.byte()) } else { Err(input.text()) },
                    array: [(); 4].map(|()| input.option(Input::byte)),
                    positive: NonZeroU16::new(input.byte().into()),
                    since: input.option(|input| {
                        SystemTime::UNIX_EPOCH + Duration::new(input.number() >> 20, input.byte().into())
                    }),
                    boxed: input.text().into(),
                }
            }
        }

        impl Finite for $bag {
            fn is_finite(&self) -> bool {
                self.number.is_finite() && self.small.is_finite()
            }
        }
    };
}

bag!(BINARY, "round_trip", BinaryTypes, "types", "bincode");
bag!(JSON, "json_round_trip", JsonTypes, "json_types", "json");

fn number(input: &mut Input<'_>) -> f64 {
    f64::from_bits(input.number())
}

fn node(input: &mut Input<'_>, depth: u8) -> Node {
    match input.byte() % 4 {
        _ if depth == 100 => Node::Leaf,
        1 => Node::Text(input.text()),
        2 => Node::Many(input.list(|input| node(input, depth + 1))),
        3 => Node::Map {
            inner: input.list(|input| (input.text(), node(input, depth + 1))),
            left: input.option(|input| Box::new(node(input, depth + 1))),
        },
        _ => Node::Leaf,
    }
}

trait Finite {
    fn is_finite(&self) -> bool;
}

fn run<T: Databag + Clone + PartialEq + std::fmt::Debug + Finite>(sessions: &Loads<T>, bag: &T) {
    match wait(sessions.create(bag.clone())) {
        Ok((token, session)) => {
            let read = wait(sessions.load(&token)).expect("answers").expect("it was written");
            let read = read.into_bag();
            // NaN equals nothing.
            assert!(read == *bag || !bag.is_finite(), "{read:?} of {bag:?}");
            assert!(wait(sessions.delete(session.id())).expect("answers"));
        }
        Err(Error::TooLarge { .. }) => {}
        // JSON has no such numbers, and no value equals NaN.
        Err(error) => assert!(!bag.is_finite() || is_deep(&error), "{error:?} of {bag:?}"),
    }
}

/// Returns whether a value has too many levels.
fn is_deep(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| {
        let text = format!("{cause}: {:?}", cause.source());
        text.contains("levels")
    })
}
