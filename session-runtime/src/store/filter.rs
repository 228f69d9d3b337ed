//! Filters for stores without a query language: a filter and a row enter, yes or no leaves.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::{ColumnRef, Comparison, Filter, Row};
use crate::value::Value;

impl Filter {
    /// Returns whether the filter matches a row: for stores that have no query language.
    pub fn matches(&self, row: &Row) -> bool {
        match self {
            Self::All => true,
            Self::Id(id) => row.id == *id,
            Self::LiveAt(now) => row.expiration > *now,
            // `NULL` matches no comparison.
            Self::Compare(column, comparison, value) => {
                let order = read(row, *column).and_then(|held| compare(&held, value));
                order.is_some_and(|order| holds(*comparison, order))
            }
            Self::OneOf(column, values) => read(row, *column).is_some_and(|held| values.contains(&held)),
            Self::IsNull(column) => read(row, *column).is_none(),
            Self::Not(filter) => !filter.matches(row),
            Self::And(one, other) => one.matches(row) && other.matches(row),
            Self::Or(one, other) => one.matches(row) || other.matches(row),
        }
    }
}

fn read(row: &Row, column: ColumnRef) -> Option<Cow<'_, Value>> {
    match column {
        ColumnRef::User => row.user.as_ref().map(Cow::Borrowed),
        ColumnRef::Ip => row.ip.map(|ip| Cow::Owned(Value::Text(ip.to_string()))),
        ColumnRef::Projected(column) => row.columns.get(column)?.as_ref().map(Cow::Borrowed),
    }
}

fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => Some(one.cmp(other)),
        (Value::Real(one), Value::Real(other)) => one.partial_cmp(other),
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Blob(one), Value::Blob(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Eq => order.is_eq(),
        Comparison::Ne => order.is_ne(),
        Comparison::Lt => order.is_lt(),
        Comparison::Le => order.is_le(),
        Comparison::Gt => order.is_gt(),
        Comparison::Ge => order.is_ge(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::token::SessionId;

    #[test]
    fn a_damaged_row_matches_by_what_could_be_read_of_it() {
        let epoch = Timestamp::from_millis(0);
        let row = Row::new(SessionId::from_bytes([1; 32]), Vec::new(), epoch, epoch, 0);
        let row = Row { damaged: Some("expiration".to_owned()), user: Some(Value::Integer(7)), ..row };
        let column = ColumnRef::Projected(3);
        let is = |column, value| Filter::Compare(column, Comparison::Eq, value);
        for (filter, expected) in [
            (Filter::All, true),
            (Filter::LiveAt(epoch), false),
            (is(ColumnRef::User, Value::Integer(7)), true),
            (is(column, Value::Integer(7)), false),
            (Filter::OneOf(column, vec![Value::Real(f64::NAN)]), false),
            (Filter::IsNull(column), true),
            (Filter::IsNull(ColumnRef::Ip), true),
        ] {
            assert_eq!(filter.matches(&row), expected, "{filter:?}");
        }
    }
}
