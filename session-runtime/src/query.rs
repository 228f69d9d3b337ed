//! Typed queries over projected fields: `ShopSession::TENANT.eq("acme")`.

use std::fmt;
use std::marker::PhantomData;

use crate::store::{ColumnRef, Comparison, Filter};
use crate::value::ColumnValue;

/// Marks a column whose values have an order in the store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ordered;

/// Marks a column `#[databag(.., blind)]`, which holds keyed hashes: queries find equal values, and nobody reads one.
///
/// # Examples
///
/// ```
/// use session_runtime::{Databag, Keyring, Sessions, SqliteStore};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id, blind)]
///     user_id: Option<i64>,
///     #[databag(column, blind, index)]
///     email: Option<String>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sessions = Sessions::<Shop>::builder(SqliteStore::in_memory()?)
///     .keyring(Keyring::generate())
///     .build()
///     .await?;
///
/// sessions.create(Shop { user_id: Some(7), email: Some("dana@example.com".to_owned()) }).await?;
/// assert_eq!(sessions.find(Shop::EMAIL.eq("dana@example.com")).await?.len(), 1);
/// assert_eq!(sessions.of_user(7).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Blind;

/// A column whose values have an order in the store.
#[diagnostic::on_unimplemented(
    message = "a blind column has no order",
    label = "the store has keyed hashes in the place of the values",
    note = "a hash says whether two values are equal, not which of them is less: compare by `eq`, `ne` or `one_of`, or \
            remove `blind` from the field"
)]
pub trait HasOrder: sealed::Sealed {}

#[diagnostic::do_not_recommend]
impl HasOrder for Ordered {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Ordered {}
}

/// A projected field of the bag `B` that holds `V`. The derive makes one constant for each. `K` is [`Blind`] for a field
/// `#[databag(.., blind)]`, whose queries know equality alone.
///
/// # Examples
///
/// ```
/// # mod doc {
/// use session_runtime::Databag;
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(column, index)]
///     tenant: Option<String>,
///     #[databag(column)]
///     visits: u32,
/// }
///
/// # fn main() {
/// let busy = Shop::TENANT.eq("acme").and(Shop::VISITS.ge(10_u32));
/// # let _ = busy;
/// # }
/// # }
/// ```
pub struct Column<B, V, K = Ordered> {
    place: ColumnRef,
    types: PhantomData<fn() -> (B, V)>,
    kind: PhantomData<fn() -> K>,
}

impl<B, V: ColumnValue> Column<B, V> {
    #[doc(hidden)]
    pub const fn new(place: ColumnRef) -> Self {
        Self { place, types: PhantomData, kind: PhantomData }
    }

    #[doc(hidden)]
    pub const fn blind(self) -> Column<B, V, Blind> {
        Column { place: self.place, types: PhantomData, kind: PhantomData }
    }
}

impl<B, V: ColumnValue, K> Column<B, V, K> {
    /// Matches sessions whose value equals `value`.
    pub fn eq(self, value: impl Into<V>) -> Condition<B> {
        self.compare(Comparison::Eq, value)
    }

    /// Matches sessions that have a value other than `value`.
    pub fn ne(self, value: impl Into<V>) -> Condition<B> {
        self.compare(Comparison::Ne, value)
    }

    /// Matches sessions whose value is less than `value`. A `u64` is compared by its bits, as the store keeps it:
    /// from 2^63 on it is less than 0.
    pub fn lt(self, value: impl Into<V>) -> Condition<B>
    where
        K: HasOrder,
    {
        self.compare(Comparison::Lt, value)
    }

    /// Matches sessions whose value is at most `value`.
    pub fn le(self, value: impl Into<V>) -> Condition<B>
    where
        K: HasOrder,
    {
        self.compare(Comparison::Le, value)
    }

    /// Matches sessions whose value is greater than `value`.
    pub fn gt(self, value: impl Into<V>) -> Condition<B>
    where
        K: HasOrder,
    {
        self.compare(Comparison::Gt, value)
    }

    /// Matches sessions whose value is at least `value`.
    pub fn ge(self, value: impl Into<V>) -> Condition<B>
    where
        K: HasOrder,
    {
        self.compare(Comparison::Ge, value)
    }

    /// Matches sessions whose value is one of `values`.
    pub fn one_of<I: Into<V>>(self, values: impl IntoIterator<Item = I>) -> Condition<B> {
        let values = values.into_iter().map(|value| value.into().to_value()).collect();
        Condition::new(Filter::OneOf(self.place, values))
    }

    /// Matches sessions that have no value.
    pub fn is_none(self) -> Condition<B> {
        Condition::new(Filter::IsNull(self.place))
    }

    /// Matches sessions that have a value.
    pub fn is_some(self) -> Condition<B> {
        self.is_none().not()
    }

    fn compare(self, comparison: Comparison, value: impl Into<V>) -> Condition<B> {
        Condition::new(Filter::Compare(self.place, comparison, value.into().to_value()))
    }
}

impl<B, V, K> Clone for Column<B, V, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B, V, K> Copy for Column<B, V, K> {}

impl<B, V, K> fmt::Debug for Column<B, V, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

/// Which sessions of the bag `B` a query matches.
pub struct Condition<B> {
    pub(crate) filter: Filter,
    bag: PhantomData<fn() -> B>,
}

impl<B> Condition<B> {
    fn new(filter: Filter) -> Self {
        Self { filter, bag: PhantomData }
    }

    /// Matches sessions that both conditions match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(self.filter.and(other.filter))
    }

    /// Matches sessions that either condition matches.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(self.filter.or(other.filter))
    }

    /// Matches sessions that this condition does not match.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn not(self) -> Self {
        Self::new(self.filter.not())
    }
}

impl<B> Clone for Condition<B> {
    fn clone(&self) -> Self {
        Self::new(self.filter.clone())
    }
}

impl<B> fmt::Debug for Condition<B> {
    /// Shows no value: they are users' data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition(..)")
    }
}
