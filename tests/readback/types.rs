//! The types and their values.

pub(crate) use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
pub(crate) use std::net::{IpAddr, SocketAddr};
pub(crate) use std::num::NonZeroU32;
pub(crate) use std::time::{Duration, SystemTime};

pub(crate) use chrono::{DateTime, NaiveDate, Utc};
use proptest::prelude::*;
pub(crate) use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
pub(crate) use serde_json::Value;
pub(crate) use url::Url;
pub(crate) use uuid::Uuid;

pub(crate) fn vec<S: Strategy + Clone>(items: S) -> impl Strategy<Value = Vec<S::Value>> + Clone {
    proptest::collection::vec(items, 0..12)
}

pub(crate) fn map<K: Strategy<Value: Ord> + Clone, V: Strategy + Clone>(
    keys: K,
    values: V,
) -> impl Strategy<Value = BTreeMap<K::Value, V::Value>> + Clone {
    proptest::collection::btree_map(keys, values, 0..8)
}

pub(crate) fn floats() -> impl Strategy<Value = f64> + Clone {
    prop_oneof![
        4 => finite(),
        1 => Just(f64::NAN),
        1 => Just(-f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
    ]
}

pub(crate) fn finite() -> impl Strategy<Value = f64> + Clone {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite())
}

pub(crate) fn text(len: usize) -> impl Strategy<Value = String> + Clone {
    any::<char>().prop_map(move |char| String::from(char).repeat(len / 4))
}

pub(crate) fn json() -> impl Strategy<Value = Value> + Clone {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        finite().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::hash_map(".{0,5}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

pub(crate) fn instants() -> impl Strategy<Value = DateTime<Utc>> + Clone {
    (-8_000_000_000_000_i64..8_000_000_000_000, 0_u32..1_000_000_000)
        .prop_filter_map("a time", |(seconds, nanos)| DateTime::from_timestamp(seconds, nanos))
}

pub(crate) fn days() -> impl Strategy<Value = NaiveDate> + Clone {
    (-90_000_000_i32..90_000_000).prop_filter_map("a date", NaiveDate::from_num_days_from_ce_opt)
}

pub(crate) fn url(host: Option<String>) -> Option<Url> {
    host.map(|host| Url::parse(&format!("https://{host}.example/?q=1")).expect("a URL"))
}

pub(crate) fn decimals() -> impl Strategy<Value = Decimal> + Clone {
    (any::<i64>(), 0_u32..28).prop_map(|(digits, scale)| Decimal::new(digits, scale))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Colour {
    #[default]
    Red,
    Green,
}

pub(crate) fn colours() -> impl Strategy<Value = Colour> + Clone {
    prop_oneof![Just(Colour::Red), Just(Colour::Green)]
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum External {
    #[default]
    Nothing,
    One(u8),
    Two(Option<String>, Colour),
    Named {
        id: i32,
        more: Vec<u16>,
    },
}

pub(crate) fn external() -> impl Strategy<Value = External> + Clone {
    prop_oneof![
        Just(External::Nothing),
        any::<u8>().prop_map(External::One),
        (any::<Option<String>>(), colours()).prop_map(|(text, colour)| External::Two(text, colour)),
        (any::<i32>(), vec(any::<u16>())).prop_map(|(id, more)| External::Named { id, more }),
    ]
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub(crate) enum Internal {
    Empty,
    Named { id: u32, note: Option<String> },
}

pub(crate) fn internal() -> impl Strategy<Value = Internal> + Clone {
    prop_oneof![
        Just(Internal::Empty),
        (any::<u32>(), any::<Option<String>>()).prop_map(|(id, note)| Internal::Named { id, note }),
    ]
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
pub(crate) enum Adjacent {
    Empty,
    One(i64),
    Named { id: u32 },
}

pub(crate) fn adjacent() -> impl Strategy<Value = Adjacent> + Clone {
    prop_oneof![
        Just(Adjacent::Empty),
        any::<i64>().prop_map(Adjacent::One),
        any::<u32>().prop_map(|id| Adjacent::Named { id }),
    ]
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    Number(i64),
    Text(String),
}

pub(crate) fn untagged() -> impl Strategy<Value = Untagged> + Clone {
    prop_oneof![any::<i64>().prop_map(Untagged::Number), ".{0,9}".prop_map(Untagged::Text)]
}

/// The second variant is never read: the first takes every number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Ambiguous {
    Small(u8),
    Also(u8),
}

pub(crate) fn ambiguous() -> impl Strategy<Value = Ambiguous> + Clone {
    prop_oneof![any::<u8>().prop_map(Ambiguous::Small), any::<u8>().prop_map(Ambiguous::Also)]
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flattened {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, i64>,
}

pub(crate) fn flattened() -> impl Strategy<Value = Flattened> + Clone {
    (any::<u32>(), map("[a-c]{1,3}", any::<i64>())).prop_map(|(id, rest)| Flattened { id, rest })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Omitting {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<(u8, u8)>,
    last: u8,
}

pub(crate) fn omitting() -> impl Strategy<Value = Omitting> + Clone {
    let small = || 0_u8..3;
    (proptest::option::of(small()), proptest::option::of((small(), small())), small())
        .prop_map(|(exact, range, last)| Omitting { exact, range, last })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Skipping {
    kept: u8,
    #[serde(skip)]
    lost: bool,
}

pub(crate) fn skipping() -> impl Strategy<Value = Skipping> + Clone {
    any::<(u8, bool)>().prop_map(|(kept, lost)| Skipping { kept, lost })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Wrapper(pub(crate) u64);

/// Writes what it does not read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Validated(String);

impl Default for Validated {
    fn default() -> Self {
        Self("valid".to_owned())
    }
}

impl TryFrom<String> for Validated {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.starts_with("valid") { Ok(Self(text)) } else { Err("not valid") }
    }
}

pub(crate) fn validated() -> impl Strategy<Value = Validated> + Clone {
    "(in)?valid.{0,5}".prop_map(Validated)
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Versioned<T> {
    version: u8,
    value: T,
}

pub(crate) fn versioned((one, two, value): (u8, u8, Option<u16>)) -> Versioned<Versioned<Option<u16>>> {
    Versioned { version: one, value: Versioned { version: two, value } }
}

/// Has no `==`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Incomparable {
    tags: HashMap<String, Option<f64>>,
}

impl std::fmt::Debug for Incomparable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = |value: &Option<f64>| value.map(f64::to_bits);
        f.debug_map()
            .entries(self.tags.iter().map(|(tag, value)| (tag, bits(value))).collect::<BTreeMap<_, _>>())
            .finish()
    }
}

pub(crate) fn incomparable() -> impl Strategy<Value = Incomparable> + Clone {
    map("[a-z]{0,5}", proptest::option::of(floats()))
        .prop_map(|tags| Incomparable { tags: HashMap::from_iter(tags) })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    name: String,
    children: Vec<Tree>,
}

pub(crate) fn tree() -> impl Strategy<Value = Tree> + Clone {
    let leaf = ".{0,3}".prop_map(|name| Tree { name, children: Vec::new() });
    leaf.prop_recursive(6, 40, 4, |inner| {
        (".{0,3}", proptest::collection::vec(inner, 0..4))
            .prop_map(|(name, children)| Tree { name, children })
    })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain {
    next: Option<Box<Chain>>,
}

/// Makes a chain of so many links; 128 are allowed.
pub(crate) fn chain(links: usize) -> Chain {
    (0..links).fold(Chain::default(), |next, _| Chain { next: Some(Box::new(next)) })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Nested(Vec<Nested>);

pub(crate) fn nested(levels: usize) -> Nested {
    (0..levels).fold(Nested::default(), |inner, _| Nested(vec![inner]))
}

pub(crate) fn nested_json(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}
