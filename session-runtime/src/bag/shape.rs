//! Shapes: what a stored type looks like to its codec, found by running its `Deserialize`.
//!
//! A fingerprint of a type's spelling would change with a `use`, and would not change when a struct inside the type
//! gains a field. So the type is deserialized from made-up values by a tracer, which notes, path by path, what the
//! type asks for:
//!
//! ```text
//! Option<Address>    ""        option
//!                    "?"       struct street,zip
//!                    "?.0"     str
//!                    "?.1"     u32
//! ```
//!
//! A run follows one variant of each enum. Runs are repeated until nothing is left to follow. Inside a recursive type
//! the type is not followed again. A part that refuses all made-up values is marked `unchecked`, and a part that could
//! not be reached because of it is `unchecked` alone:
//!
//! ```text
//! (Email, u32)       ""        tuple 2
//!                    ".0"      str unchecked
//!                    ".1"      unchecked
//! ```

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

pub(crate) use super::exploration::Shape;
use super::tracer::trace;
use crate::codec::{self, Codec, Framing};

/// Collects the shapes of a bag's stored fields.
#[derive(Debug)]
#[doc(hidden)]
#[derive(Default)]
pub struct Shapes {
    fields: Vec<FieldShape>,
}

/// The codec of a field and the shapes of its stored types.
#[derive(Debug)]
pub(crate) struct FieldShape {
    pub(crate) codec: FieldCodec,
    pub(crate) current: Shape,
    /// The shape of the type that `from` names.
    pub(crate) older: Option<Shape>,
}

#[doc(hidden)]
impl Shapes {
    /// Notes the codec and the type of the next field.
    pub fn field<C: Codec, T: DeserializeOwned>(&mut self) {
        let mut none = Vec::new();
        let none = codec::encode::<C, _>(&None::<()>, &mut none).map(|()| none);
        let codec = FieldCodec {
            name: C::NAME,
            is_json: C::FRAMING == Framing::JsonObject,
            is_self_describing: C::SELF_DESCRIBING,
            none: none.ok(),
        };
        self.fields.push(FieldShape { codec, current: shape::<T>(C::HUMAN_READABLE), older: None });
    }

    /// Notes the type as which the last field was stored before.
    pub fn older<C: Codec, T: DeserializeOwned>(&mut self) {
        let older = shape::<T>(C::HUMAN_READABLE);
        if let Some(field) = self.fields.last_mut() {
            field.older = Some(older);
        }
    }
}

/// What is known of the codec of a field.
#[derive(Debug)]
pub(crate) struct FieldCodec {
    pub(crate) name: &'static str,
    /// Whether its output is JSON.
    pub(crate) is_json: bool,
    pub(crate) is_self_describing: bool,
    /// The encoding of `None`, which is an empty flash field; `None` if the codec has none.
    pub(crate) none: Option<Vec<u8>>,
}

impl Shapes {
    pub(super) fn finish(self) -> Vec<FieldShape> {
        self.fields
    }
}

impl FieldShape {
    /// Returns whether the codec cannot read the field back: its type asks the format which type a value has, and the
    /// format does not store that.
    pub(crate) fn is_unreadable(&self) -> bool {
        let asks = |shape: &Shape| asks_for_any(shape).is_some();
        !self.codec.is_self_describing && (asks(&self.current) || self.older.as_ref().is_some_and(asks))
    }
}

/// Returns the first 64 bits of SHA-256 over the name of a codec and the lines of a shape.
pub(crate) fn fingerprint(codec: &str, shape: &Shape) -> u64 {
    let mut hash = Sha256::new();
    hash.update(codec);
    hash.update(b"\n");
    for (path, kind) in shape {
        hash.update(path);
        hash.update(b"\t");
        hash.update(kind);
        hash.update(b"\n");
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
}

/// Returns the first path at which a type lets the format tell what comes next. Only self-describing formats can.
fn asks_for_any(shape: &Shape) -> Option<&str> {
    shape.iter().find(|(_, kind)| kind.split(' ').next() == Some("any")).map(|(path, _)| path.as_str())
}

fn shape<T: DeserializeOwned>(human_readable: bool) -> Shape {
    trace(human_readable, &|tracer| T::deserialize(tracer).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use serde::Deserialize;

    use super::*;

    fn lines<T: DeserializeOwned>(human_readable: bool) -> Vec<String> {
        shape::<T>(human_readable).into_iter().map(|(path, kind)| format!("{path} {kind}")).collect()
    }

    fn same<A: DeserializeOwned, B: DeserializeOwned>() -> bool {
        shape::<A>(false) == shape::<B>(false)
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Address {
        street: String,
        zip: u32,
    }

    #[test]
    fn a_shape_names_fields_and_their_types() {
        assert_eq!(lines::<Option<Address>>(false), [" option", "? struct street,zip", "?.0 str", "?.1 u32"]);
    }

    #[test]
    fn the_spelling_of_a_type_does_not_count() {
        type Cart = BTreeMap<String, u32>;
        assert!(same::<Cart, HashMap<String, u32>>());
        assert!(same::<Box<str>, String>());
    }

    #[test]
    fn a_changed_type_inside_a_type_counts() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Moved {
            street: String,
            zip: String,
        }
        assert!(!same::<Vec<Address>, Vec<Moved>>());
        assert!(!same::<u32, u64>());
        assert!(!same::<Option<u32>, u32>());
    }

    #[test]
    fn a_shape_has_every_variant_of_an_enum() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum Payment {
            Cash,
            Card { number: String, limit: Option<NonZeroU32> },
            Transfer(String, Colour),
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum Colour {
            Red,
            Green(u8),
        }
        assert_eq!(
            lines::<Payment>(false),
            [
                " enum Cash,Card,Transfer",
                ":0 unit",
                ":1 struct number,limit",
                ":1.0 str",
                ":1.1 option",
                ":1.1? u32",
                ":2 tuple 2",
                ":2.0 str",
                ":2.1 enum Red,Green",
                ":2.1:0 unit",
                ":2.1:1 u8",
            ]
        );
    }

    #[test]
    fn the_shape_of_a_recursive_type_ends() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Tree {
            left: Option<Box<Tree>>,
            right: Option<Box<Tree>>,
            name: String,
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum List {
            Cons(u8, Box<List>),
            Nil,
        }
        assert_eq!(
            lines::<Tree>(false),
            [
                " struct left,right,name",
                ".0 option",
                ".0? recursion to \"\"",
                ".1 option",
                ".1? recursion to \"\"",
                ".2 str",
            ]
        );
        assert_eq!(
            lines::<List>(false),
            [" enum Cons,Nil", ":0 tuple 2", ":0.0 u8", ":0.1 recursion to \"\"", ":1 unit"]
        );
    }

    #[test]
    fn types_with_a_syntax_are_followed_to_their_end() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Visit {
            from: IpAddr,
            count: NonZeroU32,
            last: bool,
        }
        assert_eq!(lines::<Visit>(true), [" struct from,count,last", ".0 str", ".1 u32", ".2 bool"]);
        assert!(lines::<Visit>(false).contains(&".2 bool".to_owned()));
    }

    #[test]
    fn fingerprints_are_pinned() {
        assert_eq!(
            format!("{:016x}", fingerprint("bincode", &shape::<Option<Address>>(false))),
            "e8eddd8fa6411f43"
        );
    }

    /// A text that no made-up text is.
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(try_from = "String")]
    struct Code(String);

    impl TryFrom<String> for Code {
        type Error = &'static str;

        fn try_from(text: String) -> Result<Self, Self::Error> {
            if text == "DB-1" { Ok(Self(text)) } else { Err("not a code") }
        }
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Order<A, N = String> {
        code: Code,
        amount: A,
        note: N,
    }

    #[test]
    fn a_generic_inside_itself_is_no_recursion() {
        type Nested<T> = Result<Result<Result<T, u8>, u16>, u32>;
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Versioned<T> {
            version: u8,
            value: T,
        }
        assert!(!same::<Versioned<Versioned<u32>>, Versioned<Versioned<i32>>>());
        assert!(!same::<Versioned<Versioned<u32>>, Versioned<i32>>());
        assert!(!same::<Versioned<Versioned<i32>>, Versioned<i32>>());
        assert!(!same::<Nested<u32>, Nested<i32>>());
        let nested = lines::<Nested<i64>>(false);
        assert!(nested.contains(&":0:0:0 i64".to_owned()), "{nested:?}");
    }

    #[test]
    fn parts_beside_a_validated_one_are_checked() {
        assert_eq!(
            lines::<Order<u32>>(false),
            [" struct code,amount,note", ".0 str unchecked", ".1 u32", ".2 str"]
        );
        assert!(!same::<Order<u32>, Order<i64>>());
        assert!(!same::<Order<u32, String>, Order<u32, Vec<u8>>>());
    }

    #[test]
    fn parts_beside_a_validated_one_are_checked_wherever_it_is() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Outer<A> {
            order: Order<A>,
            last: A,
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum Event<A> {
            Opened,
            Ordered { code: Code, amount: A },
            Paid(Order<A>),
            Moved(Code, Vec<Order<A>>),
            Closed(A),
        }
        assert!(!same::<Option<Order<u32>>, Option<Order<i64>>>());
        assert!(!same::<Vec<Order<u32>>, Vec<Order<i64>>>());
        assert!(!same::<BTreeMap<Code, u32>, BTreeMap<Code, i64>>());
        assert!(!same::<BTreeMap<Code, Order<u32>>, BTreeMap<Code, Order<i64>>>());
        assert!(!same::<Event<u32>, Event<i64>>());
        assert_eq!(
            lines::<Outer<u32>>(false),
            [
                " struct order,last",
                ".0 struct code,amount,note",
                ".0.0 str unchecked",
                ".0.1 u32",
                ".0.2 str",
                ".1 u32",
            ]
        );
        let event = lines::<Event<u32>>(false);
        for line in [":1.1 u32", ":2.1 u32", ":3.0 str unchecked", ":3.1 unchecked", ":4 u32"] {
            assert!(event.contains(&line.to_owned()), "{line}: {event:?}");
        }
        assert_eq!(
            lines::<(BTreeMap<Code, Result<u8, Order<u16>>>, bool)>(false),
            [
                " tuple 2",
                ".0 map",
                ".0.key str unchecked",
                ".0.value enum Ok,Err",
                ".0.value:0 u8",
                ".0.value:1 struct code,amount,note",
                ".0.value:1.0 str unchecked",
                ".0.value:1.1 u16",
                ".0.value:1.2 str",
                ".1 bool",
            ]
        );
    }

    #[test]
    fn what_was_never_reached_is_unchecked() {
        assert_eq!(lines::<(Code, u32)>(false), [" tuple 2", ".0 str unchecked", ".1 unchecked"]);
        assert_eq!(
            lines::<(u8, Option<(Code, u32)>, u16)>(false),
            [
                " tuple 3",
                ".0 u8",
                ".1 option",
                ".1? tuple 2",
                ".1?.0 str unchecked",
                ".1?.1 unchecked",
                ".2 u16",
            ]
        );
    }

    #[test]
    fn every_variant_before_a_refused_part_is_followed() {
        assert_eq!(
            lines::<Vec<(Result<u8, Result<u16, u32>>, Code)>>(false),
            [
                " seq",
                ".0 tuple 2",
                ".0.0 enum Ok,Err",
                ".0.0:0 u8",
                ".0.0:1 enum Ok,Err",
                ".0.0:1:0 u16",
                ".0.0:1:1 u32",
                ".0.1 str unchecked",
            ]
        );
    }

    #[test]
    fn a_check_of_a_whole_struct_is_passed_if_some_value_passes_it() {
        #[derive(Deserialize)]
        struct Parts {
            email: String,
            age: u32,
            size: u8,
        }
        #[derive(Deserialize)]
        #[serde(try_from = "Parts")]
        struct Person;
        impl TryFrom<Parts> for Person {
            type Error = &'static str;
            fn try_from(Parts { email, .. }: Parts) -> Result<Self, Self::Error> {
                if email.contains('@') { Ok(Self) } else { Err("not an e-mail address") }
            }
        }
        let _ = |parts: Parts| (parts.age, parts.size);
        assert_eq!(lines::<(Person, bool)>(false).last().map(String::as_str), Some(".1 bool"));
    }

    #[test]
    fn aliases_and_unknown_fields_are_no_parts() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Aliased {
            #[serde(alias = "a", alias = "z")]
            code: Code,
            #[serde(alias = "b")]
            amount: u32,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Strict {
            code: Code,
            #[serde(alias = "b")]
            amount: u32,
        }
        assert_eq!(lines::<Aliased>(false), [" struct a,code,z,amount,b", ".0 str unchecked", ".1 u32"]);
        assert_eq!(lines::<Strict>(false), [" struct code,amount,b", ".0 str unchecked", ".1 u32"]);
    }

    #[test]
    fn parts_behind_a_recursion_are_checked() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum Expr<T> {
            Add(Box<Expr<T>>, Box<Expr<T>>),
            Scaled(Box<Expr<T>>, T),
            Num(i64),
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Tree<T> {
            children: Option<(Box<Tree<T>>, T)>,
            code: Option<Code>,
        }
        assert_eq!(
            lines::<Expr<u32>>(false),
            [
                " enum Add,Scaled,Num",
                ":0 tuple 2",
                ":0.0 recursion to \"\"",
                ":0.1 recursion to \"\"",
                ":1 tuple 2",
                ":1.0 recursion to \"\"",
                ":1.1 u32",
                ":2 i64",
            ]
        );
        assert!(!same::<Expr<u32>, Expr<i32>>());
        assert!(!same::<Tree<u32>, Tree<i32>>());
        assert!(lines::<Tree<u32>>(false).contains(&".0?.1 u32".to_owned()));
    }

    #[test]
    fn mutual_and_endless_recursion_end() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct File {
            folder: Option<Box<Folder>>,
            size: u64,
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Folder {
            files: Vec<File>,
            parent: (Option<Box<File>>, u8),
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct List(Vec<List>);
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Endless {
            next: Box<Endless>,
            name: String,
        }
        assert_eq!(
            lines::<File>(false),
            [
                " struct folder,size",
                ".0 option",
                ".0? struct files,parent",
                ".0?.0 seq",
                ".0?.0.0 recursion to \"\"",
                ".0?.1 tuple 2",
                ".0?.1.0 option",
                ".0?.1.0? recursion to \"\"",
                ".0?.1.1 u8",
                ".1 u64",
            ]
        );
        assert_eq!(lines::<List>(false), [" seq", ".0 recursion to \"\""]);
        assert_eq!(lines::<Endless>(false), [" struct next,name", ".0 recursion to \"\"", ".1 str"]);
    }

    macro_rules! large_enum {
        ($name:ident $content:ty: $($variant:ident)+) => {
            #[derive(Deserialize)]
            #[allow(dead_code)]
            enum $name {
                $($variant($content),)+
            }
        };
    }

    #[test]
    fn a_large_enum_with_enums_inside_is_complete() {
        large_enum!(Large Result<Option<Order<u8>>, Result<u16, bool>>:
            A0 A1 A2 A3 A4 A5 A6 A7 A8 A9 B0 B1 B2 B3 B4 B5 B6 B7 B8 B9
            C0 C1 C2 C3 C4 C5 C6 C7 C8 C9 D0 D1 D2 D3 D4 D5 D6 D7 D8 D9);
        let large = lines::<Large>(false);
        for variant in 0..40 {
            for line in [":0?.1 u8", ":1:0 u16", ":1:1 bool"] {
                assert!(large.contains(&format!(":{variant}{line}")), "{variant}{line}");
            }
        }
        assert!(!large.iter().any(|line| line.ends_with(" unchecked") && !line.contains("str")), "{large:?}");
    }

    #[test]
    fn a_type_without_an_end_in_sight_ends_at_a_bound() {
        type Two<T> = Box<(T, T)>;
        type Many<T> = Two<Two<Two<Two<Two<Two<Two<Two<T>>>>>>>>;
        large_enum!(Few Code: A B C D E F G H);
        let start = std::time::Instant::now();
        for shape in [lines::<Many<Many<Vec<Few>>>>(false), lines::<Two<Two<Many<Many<bool>>>>>(false)] {
            assert!(shape.iter().any(|line| line.ends_with(" unchecked")));
        }
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    #[test]
    fn what_only_a_self_describing_format_reads_is_found_everywhere() {
        #[derive(Deserialize)]
        #[serde(untagged)]
        #[allow(dead_code)]
        enum Untagged {
            Number(u32),
            Text(String),
        }
        #[derive(Deserialize)]
        #[serde(tag = "t")]
        #[allow(dead_code)]
        enum Tagged {
            Number { value: u32 },
        }
        #[derive(Deserialize)]
        #[serde(tag = "t", content = "c")]
        #[allow(dead_code)]
        enum Adjacent {
            Number(u32),
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Flattened {
            id: u32,
            #[serde(flatten)]
            address: Address,
        }
        #[derive(Deserialize)]
        #[allow(dead_code)]
        enum Later<T> {
            First(Code),
            Second(Option<Vec<T>>),
        }
        fn any<T: DeserializeOwned>() -> Option<String> {
            asks_for_any(&shape::<T>(false)).map(str::to_owned)
        }
        fn assert_any<T: DeserializeOwned>(path: &str) {
            let of = |outer: &str| Some(format!("{outer}{path}"));
            assert_eq!(any::<T>(), of(""));
            assert_eq!(any::<Option<Vec<T>>>(), of("?.0"));
            assert_eq!(any::<Later<T>>(), of(":1?.0"));
            assert_eq!(any::<BTreeMap<Code, T>>(), of(".value"));
            assert_eq!(any::<Order<T>>(), of(".1"));
        }
        assert_any::<Untagged>("");
        assert_any::<Tagged>("");
        assert_any::<serde_json::Value>("");
        assert_eq!(any::<Option<serde::de::IgnoredAny>>().as_deref(), Some("?"));
        assert_any::<Flattened>(".value");
        assert_any::<Adjacent>(".1");
        assert_eq!(any::<Order<Vec<Address>>>(), None);
        assert_eq!(any::<Later<HashMap<String, IpAddr>>>(), None);
    }

    #[test]
    fn many_texts_with_a_syntax_are_accepted() {
        #[derive(Deserialize)]
        #[serde(try_from = "String")]
        struct Version;
        impl TryFrom<String> for Version {
            type Error = std::num::ParseIntError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                let mut numbers = text.splitn(3, '.').map(str::parse::<u32>);
                (0..3).try_for_each(|_| numbers.next().unwrap_or_else(|| "".parse()).map(drop))?;
                Ok(Self)
            }
        }
        assert_eq!(lines::<(Version, bool)>(true), [" tuple 2", ".0 str", ".1 bool"]);
    }
}
