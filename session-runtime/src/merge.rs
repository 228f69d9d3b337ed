//! Merging: two requests changed one session, field by field against what both started from.
//!
//! A field that one side changed is that side's. One that both changed is settled by its policy, which
//! the derive names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bag::Databag;
use crate::codec::{Codec, CodecError};
use crate::error::Error;
use crate::record::Fields;

/// Returns `theirs` with what `ours` changed since `base`.
///
/// # Errors
///
/// [`Error::Conflict`] if both changed a field whose policy is to refuse that.
pub(crate) fn merge<T: Databag>(base: &Fields, ours: &Fields, theirs: &Fields) -> Result<Fields, Error> {
    let mut merged = Fields::default();
    for (index, field) in T::SCHEMA.fields.iter().enumerate() {
        let sides = Sides { base: base.get(index), ours: ours.get(index), theirs: theirs.get(index) };
        if sides.ours == sides.base {
            merged.push(sides.theirs);
        } else if sides.theirs == sides.base {
            merged.push(sides.ours);
        } else {
            match T::merge(index, sides).map_err(|source| Error::Encode { field: field.name, source })? {
                Settled::Ours => merged.push(sides.ours),
                Settled::Value(value) => merged.push(&value),
                // Both want the same.
                Settled::Refused if sides.ours == sides.theirs => merged.push(sides.ours),
                Settled::Refused => return Err(Error::Conflict { field: field.name }),
            }
        }
    }
    Ok(merged)
}

/// The encodings of a field that two requests have changed.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Sides<'a> {
    /// What both started from.
    pub base: &'a [u8],
    /// What the request wants that writes now.
    pub ours: &'a [u8],
    /// What is stored.
    pub theirs: &'a [u8],
}

/// What becomes of a field that two requests have changed.
#[derive(Debug)]
#[doc(hidden)]
pub enum Settled {
    /// The later writer wins.
    Ours,
    /// The encoding of both.
    Value(Vec<u8>),
    /// The later writer is refused.
    Refused,
}

impl Sides<'_> {
    fn settle<C: Codec, T: Serialize + DeserializeOwned>(
        self,
        settle: impl FnOnce(T, T, T) -> Result<T, CodecError>,
    ) -> Result<Settled, CodecError> {
        let settled = settle(C::decode(self.base)?, C::decode(self.ours)?, C::decode(self.theirs)?)?;
        let mut value = Vec::new();
        C::encode(&settled, &mut value)?;
        Ok(Settled::Value(value))
    }
}

/// The policies, as generated code calls them.
#[doc(hidden)]
impl Sides<'_> {
    /// `merge = "sum"`
    pub fn sum<C: Codec, T: Sum + Serialize + DeserializeOwned>(self) -> Result<Settled, CodecError> {
        self.settle::<C, T>(|base, ours, theirs| Ok(T::sum(base, ours, theirs)))
    }

    /// `merge = "max"`
    pub fn max<C: Codec, T: Extreme + Serialize + DeserializeOwned>(self) -> Result<Settled, CodecError> {
        self.settle::<C, T>(|_, ours, theirs| Ok(if theirs > ours { theirs } else { ours }))
    }

    /// `merge = "min"`
    pub fn min<C: Codec, T: Extreme + Serialize + DeserializeOwned>(self) -> Result<Settled, CodecError> {
        self.settle::<C, T>(|_, ours, theirs| Ok(if theirs < ours { theirs } else { ours }))
    }

    /// `merge = "entries"`
    pub fn entries<C: Codec, T: Entries + Serialize + DeserializeOwned>(self) -> Result<Settled, CodecError> {
        self.settle::<C, T>(T::merge_entries::<C>)
    }

    /// `merge = "append"`
    pub fn append<C: Codec, T: Append + Serialize + DeserializeOwned>(self) -> Result<Settled, CodecError> {
        self.settle::<C, T>(T::merge_additions::<C>)
    }

    /// `merge = path::to::function`
    pub fn function<C: Codec, T: Serialize + DeserializeOwned>(
        self,
        function: fn(&T, &T, &T) -> T,
    ) -> Result<Settled, CodecError> {
        self.settle::<C, T>(|base, ours, theirs| Ok(function(&base, &ours, &theirs)))
    }
}

/// A number: the differences of both sides can be added up.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"sum\"`",
    label = "not a number",
    note = "`merge = \"sum\"` adds up what both requests added: it is for integers of up to 64 bits, `f32` and `f64`"
)]
#[doc(hidden)]
pub trait Sum: Sized {
    /// Returns `theirs` and the difference of `ours` to `base`; held at the ends of the range.
    fn sum(base: Self, ours: Self, theirs: Self) -> Self;
}

macro_rules! sum {
    ($($integer:ty),+) => {$(
        #[diagnostic::do_not_recommend]
        impl Sum for $integer {
            fn sum(base: Self, ours: Self, theirs: Self) -> Self {
                let sum = i128::from(theirs) + i128::from(ours) - i128::from(base);
                let held = sum.clamp(i128::from(Self::MIN), i128::from(Self::MAX));
                Self::try_from(held).unwrap_or(theirs)
            }
        }
    )+};
}

sum!(i8, i16, i32, i64, u8, u16, u32, u64);

#[diagnostic::do_not_recommend]
impl Sum for f32 {
    fn sum(base: Self, ours: Self, theirs: Self) -> Self {
        theirs + (ours - base)
    }
}

#[diagnostic::do_not_recommend]
impl Sum for f64 {
    fn sum(base: Self, ours: Self, theirs: Self) -> Self {
        theirs + (ours - base)
    }
}

/// A value with an order.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"max\"` or `\"min\"`",
    label = "has no order",
    note = "`merge = \"max\"` and `merge = \"min\"` need `PartialOrd`: derive it, or name a function, \
            `merge = path::to::function`"
)]
#[doc(hidden)]
pub trait Extreme: PartialOrd {}

impl<T: PartialOrd> Extreme for T {}

/// A map or a set: what each side added, changed or removed is known entry by entry.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"entries\"`",
    label = "not a map or a set",
    note = "`merge = \"entries\"` is for `BTreeMap`, `HashMap`, `BTreeSet` and `HashSet`"
)]
#[doc(hidden)]
pub trait Entries: Sized {
    /// Returns `theirs` with the entries that `ours` added, changed or removed since `base`.
    fn merge_entries<C: Codec>(base: Self, ours: Self, theirs: Self) -> Result<Self, CodecError>;
}

/// A list that grows at its end.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"append\"`",
    label = "not a `Vec`",
    note = "`merge = \"append\"` keeps what both requests added at the end of a `Vec`"
)]
#[doc(hidden)]
pub trait Append: Sized {
    /// Returns one list with what either side added at the end, theirs first. A side that changed what
    /// was there before takes the other's additions; if both did, ours stays.
    fn merge_additions<C: Codec>(base: Self, ours: Self, theirs: Self) -> Result<Self, CodecError>;
}

fn encoded<C: Codec>(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    C::encode(value, &mut bytes)?;
    Ok(bytes)
}

/// The encodings of an entry, which need no `==` and no order of its key and value.
struct Encoded {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Tells which entries of `ours` and of `theirs` the merged map or set has.
fn choose(base: &[Encoded], ours: &[Encoded], theirs: &[Encoded]) -> [Vec<bool>; 2] {
    let by_key = |entries: &[Encoded]| -> BTreeMap<_, _> {
        entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    };
    let (before, mine) = (by_key(base), by_key(ours));
    let changed = |entry: &Encoded| before.get(&entry.key) != Some(&entry.value);
    let untouched = |entry: &Encoded| match (before.get(&entry.key), mine.get(&entry.key)) {
        (before, Some(mine)) => before == Some(mine),
        (before, None) => before.is_none(),
    };
    [ours.iter().map(changed).collect(), theirs.iter().map(untouched).collect()]
}

fn merge_entries<M, E>(
    [base, ours, theirs]: [M; 3],
    encode: &dyn Fn(&E) -> Result<Encoded, CodecError>,
) -> Result<M, CodecError>
where
    M: IntoIterator<Item = E> + Extend<E> + Default,
{
    let read = |side: M| {
        let entries: Vec<E> = side.into_iter().collect();
        let encoded = entries.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, CodecError>((entries, encoded))
    };
    let ((_, base), (ours, mine), (theirs, other)) = (read(base)?, read(ours)?, read(theirs)?);
    let mut merged = M::default();
    for (entries, chosen) in [ours, theirs].into_iter().zip(choose(&base, &mine, &other)) {
        merged.extend(entries.into_iter().zip(chosen).filter_map(|(entry, chosen)| chosen.then_some(entry)));
    }
    Ok(merged)
}

fn merge_map<C: Codec, M, K: Serialize, V: Serialize>(base: M, ours: M, theirs: M) -> Result<M, CodecError>
where
    M: IntoIterator<Item = (K, V)> + Extend<(K, V)> + Default,
{
    merge_entries([base, ours, theirs], &|(key, value)| {
        Ok(Encoded { key: encoded::<C>(key)?, value: encoded::<C>(value)? })
    })
}

fn merge_set<C: Codec, S, V: Serialize>(base: S, ours: S, theirs: S) -> Result<S, CodecError>
where
    S: IntoIterator<Item = V> + Extend<V> + Default,
{
    merge_entries([base, ours, theirs], &|value| Ok(Encoded { key: encoded::<C>(value)?, value: Vec::new() }))
}

#[diagnostic::do_not_recommend]
impl<K: Serialize + Ord, V: Serialize> Entries for BTreeMap<K, V> {
    fn merge_entries<C: Codec>(base: Self, ours: Self, theirs: Self) -> Result<Self, CodecError> {
        merge_map::<C, _, _, _>(base, ours, theirs)
    }
}

#[diagnostic::do_not_recommend]
impl<K: Serialize + Eq + Hash, V: Serialize, S: BuildHasher + Default> Entries for HashMap<K, V, S> {
    fn merge_entries<C: Codec>(base: Self, ours: Self, theirs: Self) -> Result<Self, CodecError> {
        merge_map::<C, _, _, _>(base, ours, theirs)
    }
}

#[diagnostic::do_not_recommend]
impl<V: Serialize + Ord> Entries for BTreeSet<V> {
    fn merge_entries<C: Codec>(base: Self, ours: Self, theirs: Self) -> Result<Self, CodecError> {
        merge_set::<C, _, _>(base, ours, theirs)
    }
}

#[diagnostic::do_not_recommend]
impl<V: Serialize + Eq + Hash, S: BuildHasher + Default> Entries for HashSet<V, S> {
    fn merge_entries<C: Codec>(base: Self, ours: Self, theirs: Self) -> Result<Self, CodecError> {
        merge_set::<C, _, _>(base, ours, theirs)
    }
}

#[diagnostic::do_not_recommend]
impl<V: Serialize> Append for Vec<V> {
    fn merge_additions<C: Codec>(base: Self, ours: Self, theirs: Self) -> Result<Self, CodecError> {
        let encode = |list: &Self| list.iter().map(encoded::<C>).collect::<Result<Vec<_>, _>>();
        let (before, mine, other) = (encode(&base)?, encode(&ours)?, encode(&theirs)?);
        let (mut first, second) = if mine.starts_with(&before) {
            (theirs, ours)
        } else if other.starts_with(&before) {
            (ours, theirs)
        } else {
            return Ok(ours);
        };
        first.extend(second.into_iter().skip(before.len()));
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Bincode;

    fn entries<T: Entries>(base: T, ours: T, theirs: T) -> T {
        T::merge_entries::<Bincode>(base, ours, theirs).expect("encodes")
    }

    fn append(base: &[u8], ours: &[u8], theirs: &[u8]) -> Vec<u8> {
        Vec::merge_additions::<Bincode>(base.to_vec(), ours.to_vec(), theirs.to_vec()).expect("encodes")
    }

    #[test]
    fn entries_keep_the_additions_changes_and_removals_of_both_sides() {
        let base = BTreeMap::from([
            ("kept", 1),
            ("removed by us", 1),
            ("removed by them", 1),
            ("changed", 1),
            ("both", 1),
        ]);
        let ours =
            BTreeMap::from([("kept", 1), ("removed by them", 1), ("changed", 2), ("ours", 1), ("both", 2)]);
        let theirs =
            BTreeMap::from([("kept", 1), ("removed by us", 1), ("changed", 1), ("theirs", 1), ("both", 3)]);
        let merged = BTreeMap::from([("kept", 1), ("changed", 2), ("ours", 1), ("theirs", 1), ("both", 2)]);
        assert_eq!(entries(base.clone(), ours.clone(), theirs.clone()), merged);
        let hashed = |map: BTreeMap<&'static str, i32>| map.into_iter().collect::<HashMap<_, _>>();
        assert_eq!(entries(hashed(base), hashed(ours), hashed(theirs)), hashed(merged));
    }

    #[test]
    fn sets_keep_the_additions_and_removals_of_both_sides() {
        let merged = entries(BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4]), BTreeSet::from([1, 3, 5]));
        assert_eq!(merged, BTreeSet::from([3, 4, 5]));
    }

    #[test]
    fn lists_keep_what_either_side_appended() {
        assert_eq!(append(&[1], &[1, 2], &[1, 3]), [1, 3, 2]);
        assert_eq!(append(&[1, 9], &[9, 2], &[1, 9, 3]), [9, 2, 3]);
        assert_eq!(append(&[1, 9], &[1, 9, 2], &[9]), [9, 2]);
        assert_eq!(append(&[1, 9], &[9], &[1]), [9]);
    }

    /// What the derive makes of the policies.
    #[derive(crate::Databag)]
    struct Shop {
        cart: BTreeMap<String, u32>,
        theme: String,
        #[databag(merge = "sum")]
        visits: u32,
        #[databag(merge = "append")]
        log: Vec<String>,
        #[databag(merge = "max")]
        best: u32,
        #[databag(merge = "min")]
        least: u32,
        #[databag(merge = longer)]
        note: String,
        #[databag(merge = "reject")]
        address: String,
        #[databag(merge = "last")]
        seen: BTreeSet<u8>,
    }

    #[expect(clippy::ptr_arg, reason = "a policy is told the field's own type")]
    fn longer(_base: &String, ours: &String, theirs: &String) -> String {
        if theirs.len() > ours.len() { theirs.clone() } else { ours.clone() }
    }

    fn shop(sku: &str, text: &str, number: u32) -> Shop {
        Shop {
            cart: BTreeMap::from([(sku.to_owned(), 1)]),
            theme: text.to_owned(),
            visits: number,
            log: vec!["first".to_owned(), sku.to_owned()],
            best: number,
            least: number,
            note: text.to_owned(),
            address: String::new(),
            seen: BTreeSet::from([u8::try_from(number).unwrap_or(0)]),
        }
    }

    #[test]
    fn every_field_follows_the_policy_that_the_bag_names() {
        let mut base = Shop::defaults();
        base.log.push("first".to_owned());
        base.visits = 1;
        let of = |shop: &Shop| Fields::of(shop).expect("encodes");
        let (ours, theirs) = (shop("tea", "short", 3), shop("jam", "much longer", 5));
        let merged = merge::<Shop>(&of(&base), &of(&ours), &of(&theirs)).expect("nothing is refused");
        let mut shop = Shop::defaults();
        merged.decode_into(&mut shop).expect("decodes");
        assert_eq!(shop.cart.keys().collect::<Vec<_>>(), ["jam", "tea"]);
        assert_eq!((shop.theme.as_str(), shop.note.as_str()), ("short", "much longer"));
        assert_eq!((shop.visits, shop.best, shop.least), (7, 5, 3));
        assert_eq!(shop.log, ["first", "jam", "tea"]);
        assert_eq!(shop.seen, BTreeSet::from([3]));
    }

    #[test]
    fn two_additions_of_the_same_are_two_additions() {
        let of = |visits, log: &[&str]| {
            let log = log.iter().copied().map(str::to_owned).collect();
            Fields::of(&Shop { visits, log, ..Shop::defaults() }).expect("encodes")
        };
        let merged =
            merge::<Shop>(&of(1, &[]), &of(2, &["tea"]), &of(2, &["tea"])).expect("nothing is refused");
        let mut shop = Shop::defaults();
        merged.decode_into(&mut shop).expect("decodes");
        assert_eq!((shop.visits, shop.log.as_slice()), (3, &["tea".to_owned(), "tea".to_owned()][..]));
    }

    #[test]
    fn a_field_that_refuses_conflicts_names_itself() {
        let of = |address: &str| {
            let mut shop = Shop::defaults();
            address.clone_into(&mut shop.address);
            Fields::of(&shop).expect("encodes")
        };
        let refused = merge::<Shop>(&of(""), &of("ours"), &of("theirs"));
        assert!(matches!(refused, Err(Error::Conflict { field: "address" })));
        assert!(merge::<Shop>(&of(""), &of("same"), &of("same")).is_ok());
        assert!(merge::<Shop>(&of(""), &of("ours"), &of("")).is_ok());
    }

    #[test]
    fn sums_add_up_both_differences_and_hold_at_the_ends() {
        assert_eq!(u32::sum(10, 11, 15), 16);
        assert_eq!(u32::sum(10, 11, 11), 12);
        assert_eq!(u32::sum(10, 0, 5), 0);
        assert_eq!(u64::sum(0, u64::MAX, 5), u64::MAX);
        assert_eq!(i8::sum(0, -100, -100), i8::MIN);
        assert!((f64::sum(1.0, 1.5, 2.0) - 2.5).abs() < f64::EPSILON);
    }
}
