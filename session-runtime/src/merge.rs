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

/// `==`, where a type has it. Elsewhere values are compared by their encodings, and then the order of a
/// `HashMap` inside of one is a change.
#[doc(hidden)]
pub type Equality<T> = Option<fn(&T, &T) -> bool>;

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
    pub fn entries<C: Codec, T: Entries + Serialize + DeserializeOwned>(
        self,
        equality: Equality<T>,
    ) -> Result<Settled, CodecError> {
        self.settle::<C, T>(|base, ours, theirs| {
            T::merge_entries::<C>([base, ours, theirs], &|one, other| same::<C, T>(equality, one, other))
        })
    }

    /// `merge = "append"`
    pub fn append<C: Codec, T: Append + Serialize + DeserializeOwned>(
        self,
        equality: Equality<T>,
    ) -> Result<Settled, CodecError> {
        self.settle::<C, T>(|base, ours, theirs| {
            let same: &Same<'_, T> = &|one, other| same::<C, T>(equality, one, other);
            Ok(T::merge_additions([base, ours, theirs], same))
        })
    }

    /// `merge = "reject"`, for types whose equal values may have different encodings.
    pub fn reject<C: Codec, T: DeserializeOwned>(self, equality: Equality<T>) -> Result<Settled, CodecError> {
        let Some(equal) = equality else { return Ok(Settled::Refused) };
        let theirs = C::decode(self.theirs)?;
        let agreed = equal(&C::decode(self.base)?, &theirs) || equal(&C::decode(self.ours)?, &theirs);
        Ok(if agreed { Settled::Ours } else { Settled::Refused })
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
    /// Returns `theirs` with the entries that `ours` added, changed or removed since `base`. Whether an entry
    /// is the `same` is asked of maps and sets that have no other.
    fn merge_entries<C: Codec>(sides: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError>;
}

/// A list that grows at its end.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"append\"`",
    label = "not a `Vec`",
    note = "`merge = \"append\"` keeps what both requests added at the end of a `Vec`"
)]
#[doc(hidden)]
pub trait Append: Sized {
    /// Returns one list with what either side added, theirs first, and without what either removed. Whether an
    /// item is the `same` is asked of lists that have no other.
    fn merge_additions(sides: [Self; 3], same: &Same<'_, Self>) -> Self;
}

type Same<'a, T> = dyn Fn(&T, &T) -> bool + 'a;

fn same<C: Codec, T: Serialize>(equality: Equality<T>, one: &T, other: &T) -> bool {
    if let Some(equal) = equality {
        return equal(one, other);
    }
    encoded::<C>(one).is_ok_and(|one| encoded::<C>(other).is_ok_and(|other| one == other))
}

fn encoded<C: Codec>(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    C::encode(value, &mut bytes)?;
    Ok(bytes)
}

/// The encoding of an entry's key: it needs no order and no hash here.
type Key = Vec<u8>;

/// Tells which entries of `ours` and of `theirs` the merged map or set has.
fn choose(
    base: &[Key],
    ours: &[Key],
    theirs: &[Key],
    unchanged: &dyn Fn(usize, usize) -> bool,
) -> [Vec<bool>; 2] {
    let by_key = |keys: &[Key]| -> BTreeMap<_, _> {
        keys.iter().enumerate().map(|(entry, key)| (key.clone(), entry)).collect()
    };
    let (before, mine) = (by_key(base), by_key(ours));
    let changed = |(entry, key)| !before.get(key).is_some_and(|&before| unchanged(before, entry));
    let untouched = |key| match (before.get(key), mine.get(key)) {
        (Some(&before), Some(&mine)) => unchanged(before, mine),
        (before, mine) => before.is_none() && mine.is_none(),
    };
    [ours.iter().enumerate().map(changed).collect(), theirs.iter().map(untouched).collect()]
}

fn merge_entries<M, E>(
    [base, ours, theirs]: [M; 3],
    key: &dyn Fn(&E) -> Result<Key, CodecError>,
    same: &Same<'_, M>,
) -> Result<M, CodecError>
where
    M: IntoIterator<Item = E> + Extend<E> + Default,
{
    let read = |side: M| {
        let entries = side.into_iter().map(|entry| Ok((key(&entry)?, single::<M, E>(entry))));
        entries.collect::<Result<(Vec<_>, Vec<_>), CodecError>>()
    };
    let ((keys, base), (mine, ours), (other, theirs)) = (read(base)?, read(ours)?, read(theirs)?);
    let [changed, untouched] =
        choose(&keys, &mine, &other, &|before, entry| same(&base[before], &ours[entry]));
    let mut merged = M::default();
    for (entry, chosen) in ours.into_iter().chain(theirs).zip(changed.into_iter().chain(untouched)) {
        if chosen {
            merged.extend(entry);
        }
    }
    Ok(merged)
}

/// An entry alone can be compared by the `==` of the whole.
fn single<M: Extend<E> + Default, E>(entry: E) -> M {
    let mut single = M::default();
    single.extend([entry]);
    single
}

fn merge_map<C: Codec, M, K: Serialize, V>(sides: [M; 3], same: &Same<'_, M>) -> Result<M, CodecError>
where
    M: IntoIterator<Item = (K, V)> + Extend<(K, V)> + Default,
{
    merge_entries(sides, &|(key, _): &(K, V)| encoded::<C>(key), same)
}

fn merge_set<C: Codec, S, V: Serialize>(sides: [S; 3], same: &Same<'_, S>) -> Result<S, CodecError>
where
    S: IntoIterator<Item = V> + Extend<V> + Default,
{
    merge_entries(sides, &|value: &V| encoded::<C>(value), same)
}

#[diagnostic::do_not_recommend]
impl<K: Serialize + Ord, V> Entries for BTreeMap<K, V> {
    fn merge_entries<C: Codec>(sides: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_map::<C, _, _, _>(sides, same)
    }
}

#[diagnostic::do_not_recommend]
impl<K: Serialize + Eq + Hash, V, S: BuildHasher + Default> Entries for HashMap<K, V, S> {
    fn merge_entries<C: Codec>(sides: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_map::<C, _, _, _>(sides, same)
    }
}

#[diagnostic::do_not_recommend]
impl<V: Serialize + Ord> Entries for BTreeSet<V> {
    fn merge_entries<C: Codec>(sides: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_set::<C, _, _>(sides, same)
    }
}

#[diagnostic::do_not_recommend]
impl<V: Serialize + Eq + Hash, S: BuildHasher + Default> Entries for HashSet<V, S> {
    fn merge_entries<C: Codec>(sides: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_set::<C, _, _>(sides, same)
    }
}

/// Where the items of a list come from: the places they had in the list before, nothing for additions.
type Origins = Vec<Option<usize>>;

/// Finds the origins of so many items: what a capped list drops at its front is gone, and what follows has
/// moved up; in any other list, whatever is found further on is the same item.
fn origins(before: usize, items: usize, same: &dyn Fn(usize, usize) -> bool) -> Origins {
    let moved_up =
        |dropped: &usize| before - dropped <= items && (*dropped..before).all(|at| same(at, at - dropped));
    if let Some(dropped) = (0..before).find(moved_up) {
        return (0..items).map(|item| Some(item + dropped).filter(|at| *at < before)).collect();
    }
    let mut next = 0;
    let mut found = |item| {
        let at = (next..before).find(|at| same(*at, item))?;
        next = at + 1;
        Some(at)
    };
    (0..items).map(&mut found).collect()
}

#[diagnostic::do_not_recommend]
impl<V> Append for Vec<V> {
    fn merge_additions(sides: [Self; 3], same: &Same<'_, Self>) -> Self {
        let [base, ours, theirs] =
            sides.map(|list| list.into_iter().map(single::<Self, V>).collect::<Vec<_>>());
        let [mine, other] = [&ours, &theirs]
            .map(|side| origins(base.len(), side.len(), &|at, item| same(&base[at], &side[item])));
        let only_grew = |origins: &Origins| origins.iter().flatten().copied().eq(0..base.len());
        // Whoever has changed more than the end gives the order.
        let [(first, origins), (second, others)] = if only_grew(&other) && !only_grew(&mine) {
            [(ours, mine), (theirs, other)]
        } else {
            [(theirs, other), (ours, mine)]
        };
        let kept: BTreeSet<_> = others.iter().flatten().copied().collect();
        let first = first.into_iter().zip(origins);
        let first = first.filter(|(_, origin)| origin.is_none_or(|origin| kept.contains(&origin)));
        let second = second.into_iter().zip(others).filter(|(_, origin)| origin.is_none());
        first.chain(second).flat_map(|(item, _)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Bincode;

    fn entries<T: Entries + Serialize>(base: T, ours: T, theirs: T) -> T {
        let same: &Same<'_, T> = &|one, other| same::<Bincode, T>(None, one, other);
        T::merge_entries::<Bincode>([base, ours, theirs], same).expect("encodes")
    }

    fn append(base: &[u8], ours: &[u8], theirs: &[u8]) -> Vec<u8> {
        Vec::merge_additions([base, ours, theirs].map(<[u8]>::to_vec), &Vec::eq)
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
        assert!(append(&[1, 9], &[9], &[1]).is_empty());
        assert_eq!(append(&[1, 2, 3], &[1, 9, 3], &[1, 2, 3, 4]), [1, 9, 3, 4]);
        assert_eq!(append(&[1, 2, 3], &[1, 2, 3, 4], &[1, 9, 3]), [1, 9, 3, 4]);
        assert_eq!(append(&[1, 2, 3], &[1, 3], &[1, 3]), [1, 3], "what both removed is not doubled");
    }

    /// "The last three": both drop the first and add one.
    #[test]
    fn capped_lists_keep_what_either_side_appended() {
        assert_eq!(append(&[1, 2, 3], &[2, 3, 4], &[2, 3, 5]), [2, 3, 5, 4]);
        assert_eq!(append(&[1, 2, 3], &[2, 3, 4], &[3, 5, 6]), [3, 5, 6, 4]);
        assert_eq!(append(&[1, 2, 1, 3], &[1, 3, 4], &[2, 1, 3, 5]), [1, 3, 5, 4], "though items repeat");
        assert_eq!(append(&[1, 2, 3], &[4], &[5]), [5, 4], "both emptied it");
        assert_eq!(append(&[1, 2, 3], &[1, 3, 2], &[2, 3, 4]), [3, 4, 2], "ours moved one to the end");
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

    /// Whatever holds hash maps: each time it is decoded, it is encoded in another order.
    #[derive(crate::Databag)]
    struct Unordered {
        groups: BTreeMap<String, HashSet<u32>>,
        things: HashMap<String, Thing>,
        cart: Cart,
        #[databag(merge = "append")]
        list: Vec<HashSet<u32>>,
        #[databag(merge = "reject")]
        refused: HashSet<u32>,
    }

    type Cart = BTreeMap<String, u32>;

    #[derive(Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Thing {
        tags: HashSet<u32>,
    }

    /// What becomes of two changes, each made in a request of its own.
    fn merged(
        base: &Unordered,
        ours: impl Fn(&mut Unordered),
        theirs: impl Fn(&mut Unordered),
    ) -> Result<Unordered, Error> {
        let base = Fields::of(base).expect("encodes");
        let made = |change: &dyn Fn(&mut Unordered)| {
            let mut bag = Unordered::defaults();
            base.decode_into(&mut bag).expect("decodes");
            change(&mut bag);
            Fields::against(&bag, &base).expect("encodes")
        };
        let mut merged = Unordered::defaults();
        merge::<Unordered>(&base, &made(&ours), &made(&theirs))?.decode_into(&mut merged).expect("decodes");
        Ok(merged)
    }

    #[test]
    fn the_order_of_a_hash_map_inside_of_an_entry_is_no_change() {
        let tags: HashSet<u32> = (0..20).collect();
        let base = Unordered {
            groups: BTreeMap::from([("kept".to_owned(), tags.clone())]),
            things: HashMap::from([("kept".to_owned(), Thing { tags: tags.clone() })]),
            list: vec![tags.clone()],
            ..Unordered::defaults()
        };
        let ours = |bag: &mut Unordered| {
            bag.groups.insert("ours".to_owned(), HashSet::new());
            bag.things.insert("ours".to_owned(), Thing { tags: HashSet::new() });
            bag.list.push(HashSet::from([100]));
        };
        let theirs = |bag: &mut Unordered| {
            bag.groups.entry("kept".to_owned()).or_default().insert(99);
            bag.things.remove("kept");
            bag.list.push(HashSet::from([200]));
        };
        let merged = merged(&base, ours, theirs).expect("nothing is refused");
        assert!(merged.groups["kept"].contains(&99) && merged.groups.contains_key("ours"));
        assert_eq!(merged.things.keys().collect::<Vec<_>>(), ["ours"]);
        assert_eq!(merged.list, [tags, HashSet::from([200]), HashSet::from([100])]);
    }

    #[test]
    fn who_changes_the_same_is_not_refused_for_the_order_of_a_hash_map() {
        let change = |bag: &mut Unordered| bag.refused.extend(0..20);
        let once = merged(&Unordered::defaults(), change, change).expect("both want the same");
        assert_eq!(once.refused.len(), 20);
        let other = |bag: &mut Unordered| bag.refused.extend(0..21);
        let refused = merged(&Unordered::defaults(), change, other);
        assert!(matches!(refused, Err(Error::Conflict { field: "refused" })));
    }

    #[test]
    fn a_map_by_another_name_is_merged_by_entries() {
        let insert =
            |sku: &'static str| move |bag: &mut Unordered| *bag.cart.entry(sku.to_owned()).or_default() += 1;
        let merged = merged(&Unordered::defaults(), insert("ours"), insert("theirs")).expect("no refusal");
        assert_eq!(merged.cart.keys().collect::<Vec<_>>(), ["ours", "theirs"]);
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
