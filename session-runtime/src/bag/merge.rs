//! The three-way merge of a bag's fields: two requests have changed one session, and both loaded the same base.
//!
//! A field that only one request changed takes that request's value. A field that both changed follows its policy.

use super::Databag;
use super::encoding::Fields;
use super::policy::{FieldVersions, MergeOutcome};
use crate::codec::CodecError;

/// The changes of two requests could not be merged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    /// The versions of a field could not be decoded, or the merged value not be encoded.
    #[error("could not merge the field `{field}`")]
    Encode { field: &'static str, source: CodecError },
    /// Both requests have changed a field whose policy is `merge = "reject"`.
    #[error("both requests have changed the field `{field}`")]
    Conflict { field: &'static str },
}

/// Returns `theirs` with the changes that `ours` has made since `base`.
///
/// # Errors
///
/// If both have changed a field whose policy rejects that, and if the versions of a field cannot be merged.
pub(crate) fn merge<T: Databag>(base: &Fields, ours: &Fields, theirs: &Fields) -> Result<Fields, MergeError> {
    let mut merged = Fields::default();
    for (index, field) in T::SCHEMA.fields.iter().enumerate() {
        let versions =
            FieldVersions { base: base.get(index), ours: ours.get(index), theirs: theirs.get(index) };
        if versions.ours == versions.base {
            merged.push(versions.theirs);
            continue;
        }
        if versions.theirs == versions.base {
            merged.push(versions.ours);
            continue;
        }
        let outcome =
            T::merge(index, versions).map_err(|source| MergeError::Encode { field: field.name, source })?;
        match outcome {
            MergeOutcome::Ours => merged.push(versions.ours),
            MergeOutcome::Merged(value) => merged.push(&value),
            MergeOutcome::Conflict if versions.ours == versions.theirs => merged.push(versions.ours),
            MergeOutcome::Conflict | MergeOutcome::Refused => {
                return Err(MergeError::Conflict { field: field.name });
            }
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

    use serde::Serialize;

    use super::*;

    /// Names every policy.
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

    #[expect(clippy::ptr_arg, reason = "a policy takes the field's own type")]
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
        let merged = merge::<Shop>(&of(&base), &of(&ours), &of(&theirs)).expect("no conflict");
        let mut shop = Shop::defaults();
        merged.decode_into(&mut shop).expect("decodes");
        assert_eq!(shop.cart.keys().collect::<Vec<_>>(), ["jam", "tea"]);
        assert_eq!((shop.theme.as_str(), shop.note.as_str()), ("short", "much longer"));
        assert_eq!((shop.visits, shop.best, shop.least), (7, 5, 3));
        assert_eq!(shop.log, ["first", "jam", "tea"]);
        assert_eq!(shop.seen, BTreeSet::from([3]));
    }

    /// Holds hash maps: after each decoding they are encoded in another order.
    #[derive(crate::Databag)]
    struct Unordered {
        groups: BTreeMap<String, HashSet<u32>>,
        things: HashMap<String, Thing>,
        cart: Cart,
        #[databag(merge = "append")]
        list: Vec<HashSet<u32>>,
        #[databag(merge = "reject")]
        guarded: HashSet<u32>,
    }

    type Cart = BTreeMap<String, u32>;

    #[derive(Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Thing {
        tags: HashSet<u32>,
    }

    /// Merges two changes, each made by a request of its own.
    fn merged(
        base: &Unordered,
        ours: impl Fn(&mut Unordered),
        theirs: impl Fn(&mut Unordered),
    ) -> Result<Unordered, MergeError> {
        let base = Fields::of(base).expect("encodes");
        let changed = |change: &dyn Fn(&mut Unordered)| {
            let mut bag = Unordered::defaults();
            base.decode_into(&mut bag).expect("decodes");
            change(&mut bag);
            Fields::against(&bag, &base).expect("encodes")
        };
        let mut merged = Unordered::defaults();
        merge::<Unordered>(&base, &changed(&ours), &changed(&theirs))?
            .decode_into(&mut merged)
            .expect("decodes");
        Ok(merged)
    }

    #[test]
    fn another_order_of_a_hash_map_inside_an_entry_is_not_a_change() {
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
        let merged = merged(&base, ours, theirs).expect("no conflict");
        assert!(merged.groups["kept"].contains(&99) && merged.groups.contains_key("ours"));
        assert_eq!(merged.things.keys().collect::<Vec<_>>(), ["ours"]);
        assert_eq!(merged.list, [tags, HashSet::from([200]), HashSet::from([100])]);
    }

    #[test]
    fn equal_changes_of_a_hash_map_do_not_conflict() {
        let change = |bag: &mut Unordered| bag.guarded.extend(0..20);
        let once =
            merged(&Unordered::defaults(), change, change).expect("both requests made the same change");
        assert_eq!(once.guarded.len(), 20);
        let other = |bag: &mut Unordered| bag.guarded.extend(0..21);
        let conflict = merged(&Unordered::defaults(), change, other);
        assert!(matches!(conflict, Err(MergeError::Conflict { field: "guarded" })));
    }

    #[test]
    fn a_map_behind_a_type_alias_is_merged_by_entries() {
        let insert =
            |sku: &'static str| move |bag: &mut Unordered| *bag.cart.entry(sku.to_owned()).or_default() += 1;
        let merged = merged(&Unordered::defaults(), insert("ours"), insert("theirs")).expect("no conflict");
        assert_eq!(merged.cart.keys().collect::<Vec<_>>(), ["ours", "theirs"]);
    }

    #[test]
    fn two_equal_additions_are_two_additions() {
        let of = |visits, log: &[&str]| {
            let log = log.iter().copied().map(str::to_owned).collect();
            Fields::of(&Shop { visits, log, ..Shop::defaults() }).expect("encodes")
        };
        let merged = merge::<Shop>(&of(1, &[]), &of(2, &["tea"]), &of(2, &["tea"])).expect("no conflict");
        let mut shop = Shop::defaults();
        merged.decode_into(&mut shop).expect("decodes");
        assert_eq!((shop.visits, shop.log.as_slice()), (3, &["tea".to_owned(), "tea".to_owned()][..]));
    }

    #[test]
    fn a_conflict_names_its_field() {
        let of = |address: &str| {
            let mut shop = Shop::defaults();
            address.clone_into(&mut shop.address);
            Fields::of(&shop).expect("encodes")
        };
        let conflict = merge::<Shop>(&of(""), &of("ours"), &of("theirs"));
        assert!(matches!(conflict, Err(MergeError::Conflict { field: "address" })));
        assert!(merge::<Shop>(&of(""), &of("same"), &of("same")).is_ok());
        assert!(merge::<Shop>(&of(""), &of("ours"), &of("")).is_ok());
    }
}
