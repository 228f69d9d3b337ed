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
//! A run follows one variant of each enum and one branch of each recursion. Runs are repeated until nothing is left
//! to follow. If a type refuses all made-up values, its shape ends there.

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

pub(crate) use super::tracer::Shape;
use super::tracer::trace;
use crate::codec::Codec;

/// Collects the shapes of a bag's stored fields.
#[derive(Debug)]
#[doc(hidden)]
pub struct Shapes {
    human_readable: bool,
    fields: Vec<FieldShape>,
}

/// The shapes of a field's stored types.
#[derive(Debug)]
pub(crate) struct FieldShape {
    pub(crate) current: Shape,
    /// The shape of the type that `from` names.
    pub(crate) older: Option<Shape>,
}

#[doc(hidden)]
impl Shapes {
    /// Notes the type of the next field.
    pub fn field<T: DeserializeOwned>(&mut self) {
        self.fields.push(FieldShape { current: shape::<T>(self.human_readable), older: None });
    }

    /// Notes the type as which the last field was stored before.
    pub fn older<T: DeserializeOwned>(&mut self) {
        let older = shape::<T>(self.human_readable);
        if let Some(field) = self.fields.last_mut() {
            field.older = Some(older);
        }
    }
}

impl Shapes {
    pub(crate) fn new<C: Codec>() -> Self {
        Self { human_readable: C::HUMAN_READABLE, fields: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<FieldShape> {
        self.fields
    }
}

/// Returns the first 64 bits of SHA-256 over the lines of a shape.
pub(crate) fn fingerprint(shape: &Shape) -> u64 {
    let mut hash = Sha256::new();
    for (path, kind) in shape {
        hash.update(path);
        hash.update(b"\t");
        hash.update(kind);
        hash.update(b"\n");
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter().take(8).fold(0, |bits, &byte| bits << 8 | u64::from(byte))
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
        fingerprint(&shape::<A>(false)) == fingerprint(&shape::<B>(false))
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
        assert_eq!(format!("{:016x}", fingerprint(&shape::<Option<Address>>(false))), "0a9c3e75861c4f0e");
    }
}
