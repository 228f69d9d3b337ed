//! Blind columns: on their way to the store the values of rows and of queries become hashes.
//!
//! A row is sealed and hashed under one key, the current one when it was written. So a query looks for the hashes under all
//! keys, and a row is compared with the hashes under its own.

use std::borrow::Cow;
use std::slice;

use crate::bag::Projection;
use crate::bag::schema::{Role, Schema};
use crate::envelope::{BlindColumn, BlindKey, Protection};
use crate::store::{ColumnRef, Comparison, Filter};
use crate::value::Value;

/// The blind columns of a bag.
#[derive(Debug)]
pub(crate) struct BlindColumns {
    columns: Vec<(ColumnRef, BlindColumn<'static>)>,
    has_ip: bool,
}

impl BlindColumns {
    pub(super) fn of(schema: &'static Schema) -> Self {
        let Schema { name: bag, table, .. } = *schema;
        let (mut columns, mut has_ip) = (Vec::new(), false);
        let mut projected = (0..).map(ColumnRef::Projected);
        for field in schema.fields {
            let (place, name) = match field.role {
                Role::Plain => continue,
                Role::User(_) => (Some(ColumnRef::User), schema.columns.user_id),
                Role::Ip(_) if !field.blind => continue,
                Role::Ip(_) => (projected.next(), schema.columns.ip_addr),
                Role::Column { name, .. } => (projected.next(), name),
            };
            if field.blind {
                columns.extend(place.map(|place| (place, BlindColumn { bag, table, name })));
                has_ip |= matches!(field.role, Role::Ip(_));
            }
        }
        Self { columns, has_ip }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Returns the columns of a row that holds these values. Without a key a blind column is empty.
    pub(super) fn hashed<'a>(&self, key: Option<&BlindKey>, values: &'a Projection) -> Cow<'a, Projection> {
        if self.is_empty() {
            return Cow::Borrowed(values);
        }
        let mut row = values.clone();
        if self.has_ip {
            row.ip = None;
        }
        for (place, column) in &self.columns {
            let value = match place {
                ColumnRef::User => Some(&mut row.user),
                ColumnRef::Projected(index) => row.columns.get_mut(*index),
                ColumnRef::Ip => None,
            };
            if let Some(value) = value {
                *value = value.take().and_then(|value| Some(key?.hash(*column, &value)));
            }
        }
        Cow::Owned(row)
    }

    /// Returns the filter that a store compares with its rows.
    pub(super) fn filter(&self, protection: &Protection, filter: Filter) -> Filter {
        let all = |filter: Box<Filter>| Box::new(self.filter(protection, *filter));
        match filter {
            Filter::Compare(column, comparison @ (Comparison::Eq | Comparison::Ne), value) => {
                match (self.hashes(protection, column, slice::from_ref(&value)), comparison) {
                    (None, _) => Filter::Compare(column, comparison, value),
                    (Some(hashes), Comparison::Eq) => one_of(column, hashes),
                    // `NULL` matches no comparison.
                    (Some(hashes), _) => Filter::IsNull(column).or(one_of(column, hashes)).not(),
                }
            }
            Filter::OneOf(column, values) => match self.hashes(protection, column, &values) {
                None => Filter::OneOf(column, values),
                Some(hashes) => one_of(column, hashes),
            },
            Filter::Not(other) => Filter::Not(all(other)),
            Filter::And(one, other) => Filter::And(all(one), all(other)),
            Filter::Or(one, other) => Filter::Or(all(one), all(other)),
            // A blind column has no order, so no query compares by it.
            other => other,
        }
    }

    /// Returns the hashes of values under all keys; `None` if the column is not blind. The current key comes last: a row
    /// that is written again meanwhile leaves the earlier hashes for the last one, and a store that looks for one hash after
    /// the other finds it.
    pub(super) fn hashes(
        &self,
        protection: &Protection,
        column: ColumnRef,
        values: &[Value],
    ) -> Option<Vec<Value>> {
        let (_, column) = self.columns.iter().find(|(place, _)| *place == column)?;
        let mut keys: Vec<_> = protection.blind_keys().collect();
        keys.reverse();
        Some(keys.iter().flat_map(|key| values.iter().map(|value| key.hash(*column, value))).collect())
    }
}

/// Matches rows whose value is one of these.
pub(super) fn one_of(column: ColumnRef, values: Vec<Value>) -> Filter {
    match <[Value; 1]>::try_from(values) {
        Ok([value]) => Filter::Compare(column, Comparison::Eq, value),
        Err(values) => Filter::OneOf(column, values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Keyring;

    #[derive(crate::Databag)]
    struct Visit {
        #[databag(column)]
        shop: Option<i64>,
        #[databag(ip_addr, blind)]
        address: Option<std::net::IpAddr>,
        #[databag(column)]
        visits: i64,
        #[databag(user_id, blind)]
        user_id: Option<String>,
    }

    #[test]
    fn a_row_has_only_hashes_in_the_place_of_blind_values() {
        let address = Some(std::net::IpAddr::from([203, 0, 113, 77]));
        let visit = Visit { shop: Some(1), address, visits: 2, user_id: Some("dana".to_owned()) };
        let mut values = Projection::default();
        crate::Databag::project(&visit, &mut values);
        let columns = BlindColumns::of(<Visit as crate::Databag>::SCHEMA);
        let protection = Protection::sealed(Keyring::generate());
        let row = columns.hashed(protection.blind_keys().next(), &values);
        let is_hash = |value: &Option<Value>| matches!(value, Some(Value::Blob(hash)) if hash.len() == 16);
        assert!(row.ip.is_none() && is_hash(&row.user) && is_hash(&row.columns[1]));
        assert_eq!([&row.columns[0], &row.columns[2]], [&Some(Value::Integer(1)), &Some(Value::Integer(2))]);
        let without_key = columns.hashed(None, &values);
        assert_eq!((&without_key.user, &without_key.columns[1]), (&None, &None));
    }
}
