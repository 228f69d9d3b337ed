//! What is acknowledged can be read back: any value of any type is refused, or comes back equal, by both codecs.

mod stack;
mod types;

use std::cell::Cell;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use session_runtime::{Databag, Error, Keyring, MemoryStore, Sessions};

use self::types::*;

/// A bag with one field.
trait Holding<T>: Databag {
    fn holding(value: T) -> Self;
    fn value(&self) -> &T;
}

/// Which values of a type a codec stores.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stores {
    All,
    /// Others are refused when they are saved.
    Some,
    /// The type is refused when sessions are built.
    No,
}

/// Runs a test on a stack that proptest's output of deep values fits.
///
/// One at a time: each test has bags of the same names, which one process refuses while both are there.
fn on_a_large_stack(test: fn()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test).expect("starts");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn check<B: Holding<T>, T: Clone + Debug + 'static>(
    test: &str,
    stores: Stores,
    values: &(impl Strategy<Value = T> + Clone),
    same: fn(&T, &T) -> bool,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let name = format!("{test}, {}", B::SCHEMA.table);
    let keyring = Keyring::generate();
    let built = runtime.block_on(async {
        Sessions::<B>::builder(MemoryStore::new()).keyring(keyring).max_state_bytes(1 << 20).build().await
    });
    let sessions = match built {
        Ok(sessions) => sessions,
        Err(Error::Config(reason)) => {
            assert_eq!(stores, Stores::No, "{name}: {reason}");
            assert!(reason.contains("`value`") && reason.contains("codec = \"json\""), "{reason}");
            return;
        }
        Err(error) => panic!("{name}: {error}"),
    };
    assert_ne!(stores, Stores::No, "{name} is not refused");
    let (kept, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(values, |value| {
        match runtime.block_on(sessions.create(B::holding(value.clone()))) {
            Ok((token, _)) => {
                let loaded = runtime.block_on(sessions.load(&token)).expect("the store answers");
                let Some(loaded) = loaded else {
                    return Err(TestCaseError::fail("acknowledged, and not readable"));
                };
                prop_assert!(same(loaded.value(), &value), "came back as {:?}", loaded.value());
                kept.set(kept.get() + 1);
            }
            Err(Error::Encode { field: "value", .. } | Error::NotReadBack { field: "value", .. }) => {
                refused.set(refused.get() + 1);
            }
            Err(error) => return Err(TestCaseError::fail(format!("{error}"))),
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{name}: {error}");
    }
    let (kept, refused) = (kept.get(), refused.get());
    assert!(kept > 0, "{name}: every value was refused");
    assert_eq!(refused == 0, stores == Stores::All, "{name}: {refused} of {} were refused", kept + refused);
}

macro_rules! types {
    ($($test:ident: $ty:ty, $values:expr, $bincode:ident, $json:ident $(, $same:expr)?;)+) => {$(
        #[test]
        fn $test() {
            #[derive(Databag)]
            #[databag(table = "by_bincode", accessors = false)]
            struct ByBincode {
                value: $ty,
            }

            #[derive(Databag)]
            #[databag(table = "by_json", codec = "json", accessors = false)]
            struct ByJson {
                value: $ty,
            }

            /// The field has a codec of its own, in a record of bincode.
            #[derive(Databag)]
            #[databag(table = "by_field", accessors = false)]
            struct ByField {
                #[databag(codec = "json")]
                value: $ty,
            }

            types!(@holding $ty: ByBincode, ByJson, ByField);
            on_a_large_stack(|| {
                let values = $values;
                #[allow(unused_mut, unused_assignments)]
                let mut same: fn(&$ty, &$ty) -> bool = |one, other| format!("{one:?}") == format!("{other:?}");
                $(same = $same;)?
                check::<ByBincode, $ty>(stringify!($test), Stores::$bincode, &values, same);
                check::<ByJson, $ty>(stringify!($test), Stores::$json, &values, same);
                check::<ByField, $ty>(stringify!($test), Stores::$json, &values, same);
            });
        }
    )+};
    (@holding $ty:ty: $($bag:ident),+) => {$(
        impl Holding<$ty> for $bag {
            fn holding(value: $ty) -> Self {
                Self { value }
            }

            fn value(&self) -> &$ty {
                &self.value
            }
        }
    )+};
}

// Values are compared by `==` where it says more than `Debug`, and floats by their bits.
types! {
    booleans: bool, any::<bool>(), All, All;
    integers: i64, any::<i64>(), All, All;
    wide_integers: u128, any::<u128>(), All, All;
    signed_wide_integers: i128, any::<i128>(), All, All;
    all_floats: f64, floats(), All, Some, |one, other| one.to_bits() == other.to_bits();
    floats_of_json: f64, finite(), All, All, |one, other| one.to_bits() == other.to_bits();
    small_floats: f32, any::<f32>().prop_filter("finite", |value| value.is_finite()), All, All,
        |one, other| one.to_bits() == other.to_bits();
    optional_floats: Option<f64>, proptest::option::of(floats()), All, Some,
        |one, other| one.map(f64::to_bits) == other.map(f64::to_bits);
    lists_of_floats: Vec<Option<f64>>, vec(proptest::option::of(floats())), All, Some;
    characters: char, any::<char>(), All, All;
    texts: String, ".{0,40}", All, All;
    huge_texts: String, text(60_000), All, All;
    boxed_texts: Box<str>, ".{0,9}".prop_map(Into::into), All, All;
    bytes: Vec<u8>, vec(any::<u8>()), All, All;
    units: (), Just(()), All, All;
    lists_of_units: Vec<()>, (0..1000_usize).prop_map(|len| vec![(); len]), All, All;
    long_lists_of_units: Vec<()>, (0..3000_usize).prop_map(|len| vec![(); len]), Some, All;
    options_of_options: Option<Option<u8>>, any::<Option<Option<u8>>>(), All, Some;
    options_of_units: Option<()>, any::<Option<()>>(), All, Some;
    tuples: (u8, String, Option<i16>), any::<(u8, String, Option<i16>)>(), All, All;
    arrays: [u16; 4], any::<[u16; 4]>(), All, All;
    maps: BTreeMap<String, u32>, map(".{0,5}", any::<u32>()), All, All;
    maps_by_number: BTreeMap<u32, Vec<String>>, map(any::<u32>(), vec(".{0,3}")), All, All;
    maps_by_tuple: BTreeMap<(u8, u8), u8>, map(any::<(u8, u8)>(), any::<u8>()), All, Some;
    hash_maps: HashMap<String, i64>, map("[a-z]{0,5}", any::<i64>()).prop_map(HashMap::from_iter), All, All, HashMap::eq;
    hash_sets: HashSet<String>, vec("[a-z]{0,5}").prop_map(HashSet::from_iter), All, All, HashSet::eq;
    queues: VecDeque<i16>, vec(any::<i16>()).prop_map(VecDeque::from), All, All;
    durations: Duration, any::<Duration>(), All, All;
    times: Option<SystemTime>, any::<Option<SystemTime>>(), Some, Some;
    addresses: Option<IpAddr>, any::<Option<IpAddr>>(), All, All;
    socket_addresses: Option<SocketAddr>, any::<Option<SocketAddr>>(), Some, Some;
    non_zeros: Option<NonZeroU32>, any::<u32>().prop_map(NonZeroU32::new), All, All;
    results: Option<Result<u8, String>>, any::<Option<Result<u8, String>>>(), All, All;
    nested_results: Option<Result<Result<u8, String>, Vec<u8>>>,
        any::<Option<Result<Result<u8, String>, Vec<u8>>>>(), All, All;
    json_values: Value, json(), No, All;
    maps_of_json_values: BTreeMap<String, Value>, map(".{0,3}", json()), No, All;
    chrono_times: DateTime<Utc>, instants(), All, All;
    chrono_dates: NaiveDate, days(), All, All;
    uuids: Uuid, any::<u128>().prop_map(Uuid::from_u128), All, All;
    urls: Option<Url>, proptest::option::of("[a-z]{1,9}").prop_map(url), All, All;
    exact_decimals: Decimal, decimals(), No, All;
    plain_enums: Colour, colours(), All, All;
    external_enums: External, external(), All, All;
    internal_enums: Option<Internal>, proptest::option::of(internal()), No, All;
    adjacent_enums: Option<Adjacent>, proptest::option::of(adjacent()), No, All;
    untagged_enums: Option<Untagged>, proptest::option::of(untagged()), No, All;
    lists_of_untagged_enums: Option<Vec<Untagged>>, proptest::option::of(vec(untagged())), No, All;
    ambiguous_untagged_enums: Option<Ambiguous>, proptest::option::of(ambiguous()), No, Some;
    flattened_maps: Option<Flattened>, proptest::option::of(flattened()), No, All;
    omitted_fields: Omitting, omitting(), No, All;
    lists_of_omitted_fields: Vec<Omitting>, vec(omitting()), Some, All;
    skipped_fields: Skipping, skipping(), Some, Some;
    transparent: Wrapper, any::<u64>().prop_map(Wrapper), All, All;
    validated_texts: Validated, validated(), Some, Some;
    generics: Versioned<Versioned<Option<u16>>>, any::<(u8, u8, Option<u16>)>().prop_map(versioned), All, All;
    without_equality: Incomparable, incomparable(), All, Some;
    trees: Tree, tree(), All, All;
    chains: Chain, (0..400_usize).prop_map(chain), Some, Some;
    nested_lists: Nested, (0..400_usize).prop_map(nested), Some, Some;
    nested_json_values: Value, (0..400_usize).prop_map(nested_json), No, Some;
}
