//! Merge policies, as generated code calls them: three encoded versions of a field enter, a [`MergeOutcome`] leaves.
//!
//! A policy sees one field that two requests have changed. It does not know the bag.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::comparison::{Comparison, Equality};
use crate::codec::{self, Codec, CodecError};

/// The encoded versions of a field that two requests have changed.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct FieldVersions<'a> {
    /// The version that both requests loaded.
    pub base: &'a [u8],
    /// The version of the request that writes now.
    pub ours: &'a [u8],
    /// The version that is stored.
    pub theirs: &'a [u8],
}

/// The result of merging a field.
#[derive(Debug)]
#[doc(hidden)]
pub enum MergeOutcome {
    /// The version of the request that writes now.
    Ours,
    /// An encoded value made of both versions.
    Merged(Vec<u8>),
    /// The request that writes now is rejected, unless both made the same change.
    Conflict,
    /// The request that writes now is rejected.
    Refused,
}

#[doc(hidden)]
impl FieldVersions<'_> {
    /// `merge = "sum"`
    pub fn sum<C: Codec, T: Sum + Serialize + DeserializeOwned>(self) -> Result<MergeOutcome, CodecError> {
        self.merge_values::<C, T>(None, |base, ours, theirs| Ok(T::sum(base, ours, theirs)))
    }

    /// `merge = "max"`
    pub fn max<C: Codec, T: Extreme + Serialize + DeserializeOwned>(
        self,
    ) -> Result<MergeOutcome, CodecError> {
        self.merge_values::<C, T>(Some(T::eq), |_, ours, theirs| {
            Ok(if theirs > ours { theirs } else { ours })
        })
    }

    /// `merge = "min"`
    pub fn min<C: Codec, T: Extreme + Serialize + DeserializeOwned>(
        self,
    ) -> Result<MergeOutcome, CodecError> {
        self.merge_values::<C, T>(Some(T::eq), |_, ours, theirs| {
            Ok(if theirs < ours { theirs } else { ours })
        })
    }

    /// `merge = "entries"`
    pub fn entries<C: Codec, T: Entries + Serialize + DeserializeOwned>(
        self,
        equality: Equality<T>,
    ) -> Result<MergeOutcome, CodecError> {
        self.merge_values::<C, T>(equality, |base, ours, theirs| {
            T::merge_entries::<C>([base, ours, theirs], &|one, other| same::<C, T>(equality, one, other))
        })
    }

    /// `merge = "append"`
    pub fn append<C: Codec, T: Append + Serialize + DeserializeOwned>(
        self,
        equality: Equality<T>,
    ) -> Result<MergeOutcome, CodecError> {
        self.merge_values::<C, T>(equality, |base, ours, theirs| {
            let same: &Same<'_, T> = &|one, other| same::<C, T>(equality, one, other);
            // What was decoded can be encoded.
            let encoded: &Encoding<'_, T> = &|item| encoded::<C>(item).unwrap_or_default();
            Ok(T::merge_additions([base, ours, theirs], same, encoded))
        })
    }

    /// `merge = "reject"`, for types whose equal values may have different encodings.
    pub fn reject<C: Codec, T: DeserializeOwned>(
        self,
        equality: Equality<T>,
    ) -> Result<MergeOutcome, CodecError> {
        let Some(equal) = equality else { return Ok(MergeOutcome::Conflict) };
        let [base, ours, theirs] = self.decode::<C, T>()?;
        let agreed = equal(&base, &theirs) || equal(&ours, &theirs);
        Ok(if agreed { MergeOutcome::Ours } else { MergeOutcome::Conflict })
    }

    /// `merge = path::to::function`
    pub fn function<C: Codec, T: Serialize + DeserializeOwned>(
        self,
        function: fn(&T, &T, &T) -> T,
        equality: Equality<T>,
    ) -> Result<MergeOutcome, CodecError> {
        self.merge_values::<C, T>(equality, |base, ours, theirs| Ok(function(&base, &ours, &theirs)))
    }
}

impl FieldVersions<'_> {
    pub(super) fn decode<C: Codec, T: DeserializeOwned>(self) -> Result<[T; 3], CodecError> {
        let [base, ours, theirs] = [self.base, self.ours, self.theirs].map(codec::decode::<C, T>);
        Ok([base?, ours?, theirs?])
    }

    fn merge_values<C: Codec, T: Serialize + DeserializeOwned>(
        self,
        equality: Equality<T>,
        merge: impl FnOnce(T, T, T) -> Result<T, CodecError>,
    ) -> Result<MergeOutcome, CodecError> {
        let [base, ours, theirs] = self.decode::<C, T>()?;
        let merged = merge(base, ours, theirs)?;
        let bytes = encoded::<C>(&merged)?;
        if !Comparison::ReadBack.field::<C, T>(&merged, &bytes, equality) {
            return Err(CodecError::new("the merged value would not come back from its encoding as it is"));
        }
        Ok(MergeOutcome::Merged(bytes))
    }
}

/// A number: the differences of both versions can be added.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"sum\"`",
    label = "not a number",
    note = "`merge = \"sum\"` adds the changes of both requests; it takes integers of up to 64 bits, `f32` and `f64`"
)]
#[doc(hidden)]
pub trait Sum: Sized {
    /// Returns `theirs` plus the difference between `ours` and `base`, clamped to the range of the type.
    fn sum(base: Self, ours: Self, theirs: Self) -> Self;
}

macro_rules! sum {
    ($($integer:ty),+) => {$(
        #[diagnostic::do_not_recommend]
        impl Sum for $integer {
            fn sum(base: Self, ours: Self, theirs: Self) -> Self {
                let sum = i128::from(theirs) + i128::from(ours) - i128::from(base);
                let clamped = sum.clamp(i128::from(Self::MIN), i128::from(Self::MAX));
                Self::try_from(clamped).unwrap_or(theirs)
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

/// A map or a set: it is known which entries each version added, changed or removed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"entries\"`",
    label = "not a map or a set",
    note = "`merge = \"entries\"` takes `BTreeMap`, `HashMap`, `BTreeSet` and `HashSet`"
)]
#[doc(hidden)]
pub trait Entries: Sized {
    /// Returns `theirs` with the entries that `ours` added, changed or removed since `base`. `same` compares two
    /// entries, each in a collection of its own.
    fn merge_entries<C: Codec>(versions: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError>;
}

/// A list that grows at its end.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be merged by `\"append\"`",
    label = "not a `Vec`",
    note = "`merge = \"append\"` takes a `Vec` and keeps the items that both requests added at its end"
)]
#[doc(hidden)]
pub trait Append: Sized {
    /// Returns one list with the items that either version added, those of `theirs` first, and without the items that
    /// either version removed. `same` compares two items, each in a list of its own, and `encoded` encodes one.
    fn merge_additions(versions: [Self; 3], same: &Same<'_, Self>, encoded: &Encoding<'_, Self>) -> Self;
}

type Same<'a, T> = dyn Fn(&T, &T) -> bool + 'a;

type Encoding<'a, T> = dyn Fn(&T) -> Key + 'a;

fn same<C: Codec, T: Serialize>(equality: Equality<T>, one: &T, other: &T) -> bool {
    if let Some(equal) = equality {
        return equal(one, other);
    }
    encoded::<C>(one).is_ok_and(|one| encoded::<C>(other).is_ok_and(|other| one == other))
}

pub(super) fn encoded<C: Codec>(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    codec::encode::<C, _>(value, &mut bytes)?;
    Ok(bytes)
}

/// The encoding of an entry's key. Encodings have an order and a hash for every codec.
type Key = Vec<u8>;

/// Returns which entries of `ours` and which entries of `theirs` belong to the merged map or set.
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
    let read = |version: M| {
        let (mut keys, mut entries) = (Vec::new(), Vec::new());
        for entry in version {
            keys.push(key(&entry)?);
            entries.push(single::<M, E>(entry));
        }
        Ok::<_, CodecError>((keys, entries))
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

/// Puts one entry into a collection of its own, so that the collection's `==` compares it.
fn single<M: Extend<E> + Default, E>(entry: E) -> M {
    let mut single = M::default();
    single.extend([entry]);
    single
}

fn merge_map<C: Codec, M, K: Serialize, V>(versions: [M; 3], same: &Same<'_, M>) -> Result<M, CodecError>
where
    M: IntoIterator<Item = (K, V)> + Extend<(K, V)> + Default,
{
    merge_entries(versions, &|(key, _): &(K, V)| encoded::<C>(key), same)
}

fn merge_set<C: Codec, S, V: Serialize>(versions: [S; 3], same: &Same<'_, S>) -> Result<S, CodecError>
where
    S: IntoIterator<Item = V> + Extend<V> + Default,
{
    merge_entries(versions, &|value: &V| encoded::<C>(value), same)
}

#[diagnostic::do_not_recommend]
impl<K: Serialize + Ord, V> Entries for BTreeMap<K, V> {
    fn merge_entries<C: Codec>(versions: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_map::<C, _, _, _>(versions, same)
    }
}

#[diagnostic::do_not_recommend]
impl<K: Serialize + Eq + Hash, V, S: BuildHasher + Default> Entries for HashMap<K, V, S> {
    fn merge_entries<C: Codec>(versions: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_map::<C, _, _, _>(versions, same)
    }
}

#[diagnostic::do_not_recommend]
impl<V: Serialize + Ord> Entries for BTreeSet<V> {
    fn merge_entries<C: Codec>(versions: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_set::<C, _, _>(versions, same)
    }
}

#[diagnostic::do_not_recommend]
impl<V: Serialize + Eq + Hash, S: BuildHasher + Default> Entries for HashSet<V, S> {
    fn merge_entries<C: Codec>(versions: [Self; 3], same: &Same<'_, Self>) -> Result<Self, CodecError> {
        merge_set::<C, _, _>(versions, same)
    }
}

/// For each item of a list, its position in the base list; `None` for an addition.
type Origins = Vec<Option<usize>>;

/// How many items of a list are compared with those of another at most. Items after that are found by their encodings, so
/// that two lists of many thousand items are merged in milliseconds.
const MAX_COMPARISONS: usize = 1 << 18;

/// Finds the origins of a list's items. A capped list drops items at its front, and the items behind them move up.
/// In any other list an item comes from the next equal item of the base list.
fn origins<T>(
    base: &[T],
    list: &[T],
    same: &Same<'_, T>,
    encoded: &Encoding<'_, T>,
    mut comparisons: usize,
) -> Origins {
    let moved_up = overlap(base, list, same);
    if moved_up > 0 {
        let dropped = base.len() - moved_up;
        return (0..list.len()).map(|item| Some(item + dropped).filter(|at| *at < base.len())).collect();
    }
    let mut positions: Option<HashMap<Key, Vec<usize>>> = None;
    let mut next = 0;
    let mut find = |item: &T| {
        let rest = &base[next..];
        // At least one: items that follow each other in both lists are found by their equality.
        let most = comparisons.max(1).min(rest.len());
        let near = rest[..most].iter().position(|other| same(other, item));
        comparisons = comparisons.saturating_sub(near.map_or(most, |at| at + 1));
        let at = if let Some(at) = near {
            next + at
        } else if most == rest.len() {
            return None;
        } else {
            let positions = positions.get_or_insert_with(|| {
                let mut positions: HashMap<_, Vec<_>> = HashMap::new();
                for (at, item) in base.iter().enumerate() {
                    positions.entry(encoded(item)).or_default().push(at);
                }
                positions
            });
            let equal = positions.get(&encoded(item))?;
            *equal.get(equal.partition_point(|at| *at < next))?
        };
        next = at + 1;
        Some(at)
    };
    list.iter().map(&mut find).collect()
}

/// Returns how many of the last items of `base` are the first ones of `list`, by the search of Knuth, Morris and Pratt.
fn overlap<T>(base: &[T], list: &[T], same: &Same<'_, T>) -> usize {
    let mut borders: Vec<usize> = Vec::with_capacity(list.len());
    let step = |borders: &[usize], mut matched: usize, item: &T| {
        loop {
            match list.get(matched) {
                Some(next) if same(next, item) => return matched + 1,
                _ if matched == 0 => return 0,
                _ => matched = borders[matched - 1],
            }
        }
    };
    for (at, item) in list.iter().enumerate() {
        borders.push(if at == 0 { 0 } else { step(&borders, borders[at - 1], item) });
    }
    base.iter().fold(0, |matched, item| step(&borders, matched, item))
}

#[diagnostic::do_not_recommend]
impl<V> Append for Vec<V> {
    fn merge_additions(versions: [Self; 3], same: &Same<'_, Self>, encoded: &Encoding<'_, Self>) -> Self {
        let [base, ours, theirs] =
            versions.map(|list| list.into_iter().map(single::<Self, V>).collect::<Vec<_>>());
        let [mine, other] = [&ours, &theirs].map(|list| origins(&base, list, same, encoded, MAX_COMPARISONS));
        let only_grew = |origins: &Origins| origins.iter().flatten().copied().eq(0..base.len());
        // A version that changed more than its end determines the order.
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
    use crate::codec::bincode::Bincode;

    fn entries<T: Entries + Serialize>(base: T, ours: T, theirs: T) -> T {
        let same: &Same<'_, T> = &|one, other| same::<Bincode, T>(None, one, other);
        T::merge_entries::<Bincode>([base, ours, theirs], same).expect("encodes")
    }

    fn append(base: &[u8], ours: &[u8], theirs: &[u8]) -> Vec<u8> {
        Vec::merge_additions([base, ours, theirs].map(<[u8]>::to_vec), &Vec::eq, &Vec::clone)
    }

    #[test]
    fn maps_keep_the_additions_changes_and_removals_of_both_versions() {
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
    fn sets_keep_the_additions_and_removals_of_both_versions() {
        let merged = entries(BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4]), BTreeSet::from([1, 3, 5]));
        assert_eq!(merged, BTreeSet::from([3, 4, 5]));
    }

    #[test]
    fn lists_keep_the_additions_of_both_versions() {
        assert_eq!(append(&[1], &[1, 2], &[1, 3]), [1, 3, 2]);
        assert_eq!(append(&[1, 9], &[9, 2], &[1, 9, 3]), [9, 2, 3]);
        assert_eq!(append(&[1, 9], &[1, 9, 2], &[9]), [9, 2]);
        assert!(append(&[1, 9], &[9], &[1]).is_empty());
        assert_eq!(append(&[1, 2, 3], &[1, 9, 3], &[1, 2, 3, 4]), [1, 9, 3, 4]);
        assert_eq!(append(&[1, 2, 3], &[1, 2, 3, 4], &[1, 9, 3]), [1, 9, 3, 4]);
        assert_eq!(append(&[1, 2, 3], &[1, 3], &[1, 3]), [1, 3], "an item that both removed is removed once");
    }

    /// A list of at most three items: both versions drop the first item and add one.
    #[test]
    fn capped_lists_keep_the_additions_of_both_versions() {
        assert_eq!(append(&[1, 2, 3], &[2, 3, 4], &[2, 3, 5]), [2, 3, 5, 4]);
        assert_eq!(append(&[1, 2, 3], &[2, 3, 4], &[3, 5, 6]), [3, 5, 6, 4]);
        assert_eq!(append(&[1, 2, 1, 3], &[1, 3, 4], &[2, 1, 3, 5]), [1, 3, 5, 4], "items may repeat");
        assert_eq!(append(&[1, 2, 3], &[4], &[5]), [5, 4], "both emptied it");
        assert_eq!(append(&[1, 2, 3], &[1, 3, 2], &[2, 3, 4]), [3, 4, 2], "ours moved one to the end");
    }

    /// What [`origins`] finds, in a time that grows with the square of the lengths.
    fn slow_origins(base: &[u8], list: &[u8]) -> Origins {
        let moved_up = |dropped: &usize| list.starts_with(&base[*dropped..]);
        if let Some(dropped) = (0..base.len()).find(moved_up) {
            return (0..list.len()).map(|item| Some(item + dropped).filter(|at| *at < base.len())).collect();
        }
        let mut next = 0;
        let find = |item: &u8| {
            let at = next + base[next..].iter().position(|other| other == item)?;
            next = at + 1;
            Some(at)
        };
        list.iter().map(find).collect()
    }

    #[test]
    fn origins_are_the_same_however_they_are_found() {
        // All lists of up to five of three items.
        let lists: Vec<Vec<u8>> = (0..6_u32)
            .flat_map(|length| {
                (0..3_u32.pow(length)).map(move |n| (0..length).map(move |at| n / 3_u32.pow(at) % 3))
            })
            .map(|items| items.map(|item| u8::try_from(item).expect("below 3")).collect())
            .collect();
        assert_eq!(lists.len(), 364);
        for (base, list) in lists.iter().flat_map(|base| lists.iter().map(move |list| (base, list))) {
            for comparisons in [0, 3, MAX_COMPARISONS] {
                let found = origins(base, list, &u8::eq, &|item| vec![*item], comparisons);
                assert_eq!(found, slow_origins(base, list), "{base:?} {list:?}");
            }
        }
    }

    /// Such as those of a `HashMap`, whose order is another one each time.
    #[test]
    fn items_of_a_long_list_are_found_although_their_encodings_differ() {
        let base: Vec<u32> = (0..5_000).collect();
        let list: Vec<u32> = base.iter().filter(|item| **item != 300).map(|item| item + 10_000).collect();
        let same = |one: &u32, other: &u32| one % 10_000 == other % 10_000;
        let found = origins(&base, &list, &same, &|item| item.to_be_bytes().to_vec(), MAX_COMPARISONS);
        let expected: Origins = (0..5_000).filter(|at| *at != 300).map(Some).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_merge_of_long_lists_compares_few_items() {
        const LENGTH: usize = 60_000;
        let list = |item| vec![item; LENGTH];
        let almost = |item, last| [vec![item; LENGTH - 1], vec![last]].concat();
        let repeated = |part: &[u8]| part.repeat(LENGTH / part.len());
        for (base, ours) in [
            (list(0), list(1)),
            (almost(0, 1), list(0)),
            (list(0), almost(0, 1)),
            (almost(0, 1), almost(0, 2)),
            (repeated(&[0, 1]), repeated(&[0, 0, 1])),
        ] {
            let comparisons = std::cell::Cell::new(0);
            let same = |one: &u8, other: &u8| {
                comparisons.set(comparisons.get() + 1);
                one == other
            };
            origins(&base, &ours, &same, &|item| vec![*item], MAX_COMPARISONS);
            assert!(comparisons.get() <= MAX_COMPARISONS + 4 * LENGTH, "{}", comparisons.get());
        }
    }

    #[test]
    fn sums_add_both_differences_and_are_clamped_to_the_range() {
        assert_eq!(u32::sum(10, 11, 15), 16);
        assert_eq!(u32::sum(10, 11, 11), 12);
        assert_eq!(u32::sum(10, 0, 5), 0);
        assert_eq!(u64::sum(0, u64::MAX, 5), u64::MAX);
        assert_eq!(i8::sum(0, -100, -100), i8::MIN);
        assert!((f64::sum(1.0, 1.5, 2.0) - 2.5).abs() < f64::EPSILON);
    }
}
