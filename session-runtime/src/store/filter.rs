//! Filters for stores without a query language: a filter and a row enter, yes or no leaves.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::{ColumnRef, Comparison, Filter, Row};
use crate::value::Value;

impl Filter {
    /// Returns whether the filter matches a row: for stores that have no query language.
    pub fn matches(&self, row: &Row) -> bool {
        matches(self, row)
    }
}

/// `NULL` matches no comparison.
pub(super) fn matches(filter: &Filter, row: &Row) -> bool {
    match filter {
        Filter::All => true,
        Filter::Id(id) => row.id == *id,
        Filter::LiveAt(now) => row.expiration > *now,
        Filter::Compare(column, comparison, value) => {
            let order = |held: &Value| compare(held, value);
            read(row, *column).and_then(|held| order(&held)).is_some_and(|order| holds(*comparison, order))
        }
        Filter::OneOf(column, values) => read(row, *column).is_some_and(|held| values.contains(&held)),
        Filter::IsNull(column) => read(row, *column).is_none(),
        Filter::Not(filter) => !matches(filter, row),
        Filter::And(one, other) => matches(one, row) && matches(other, row),
        Filter::Or(one, other) => matches(one, row) || matches(other, row),
    }
}

fn read(row: &Row, column: ColumnRef) -> Option<Value> {
    match column {
        ColumnRef::User => row.user.clone(),
        ColumnRef::Ip => row.ip.as_ref().map(IpAddr::to_string).map(Value::Text),
        ColumnRef::Projected(column) => row.columns.get(column).cloned().flatten(),
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
