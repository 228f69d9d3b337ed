//! Typed queries over projected fields: `ShopSession::TENANT.eq("acme")`.

use std::fmt;
use std::marker::PhantomData;

use crate::store::{ColumnRef, Comparison, Filter};
use crate::value::ColumnValue;

/// A projected field of the bag `B` that holds `V`. The derive makes one constant for each.
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
pub struct Column<B, V> {
    column: ColumnRef,
    types: PhantomData<fn() -> (B, V)>,
}

impl<B, V: ColumnValue> Column<B, V> {
    #[doc(hidden)]
    pub const fn new(column: ColumnRef) -> Self {
        Self { column, types: PhantomData }
    }

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
    pub fn lt(self, value: impl Into<V>) -> Condition<B> {
        self.compare(Comparison::Lt, value)
    }

    /// Matches sessions whose value is at most `value`.
    pub fn le(self, value: impl Into<V>) -> Condition<B> {
        self.compare(Comparison::Le, value)
    }

    /// Matches sessions whose value is greater than `value`.
    pub fn gt(self, value: impl Into<V>) -> Condition<B> {
        self.compare(Comparison::Gt, value)
    }

    /// Matches sessions whose value is at least `value`.
    pub fn ge(self, value: impl Into<V>) -> Condition<B> {
        self.compare(Comparison::Ge, value)
    }

    /// Matches sessions whose value is one of `values`.
    pub fn one_of<I: Into<V>>(self, values: impl IntoIterator<Item = I>) -> Condition<B> {
        let values = values.into_iter().map(|value| value.into().to_value()).collect();
        Condition::new(Filter::OneOf(self.column, values))
    }

    /// Matches sessions that have no value.
    pub fn is_none(self) -> Condition<B> {
        Condition::new(Filter::IsNull(self.column))
    }

    /// Matches sessions that have a value.
    pub fn is_some(self) -> Condition<B> {
        self.is_none().not()
    }

    fn compare(self, comparison: Comparison, value: impl Into<V>) -> Condition<B> {
        Condition::new(Filter::Compare(self.column, comparison, value.into().to_value()))
    }
}

impl<B, V> Clone for Column<B, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B, V> Copy for Column<B, V> {}

impl<B, V> fmt::Debug for Column<B, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt(f)
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
        Self::new(Filter::And(Box::new(self.filter), Box::new(other.filter)))
    }

    /// Matches sessions that either condition matches.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(Filter::Or(Box::new(self.filter), Box::new(other.filter)))
    }

    /// Matches sessions that this condition does not match.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn not(self) -> Self {
        Self::new(Filter::Not(Box::new(self.filter)))
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
