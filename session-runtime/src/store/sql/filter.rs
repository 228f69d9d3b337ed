//! Filters as conditions: a filter goes in; text and the values to bind come out.

use std::borrow::Cow;

use super::Mismatch;
use super::dialect::Dialect;
use crate::store::{ColumnRef, Comparison, Filter, Table};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// A statement that is made for one call, and the values to bind to it.
#[derive(Debug)]
pub(in crate::store) struct Statement {
    pub(in crate::store) sql: String,
    pub(in crate::store) values: Vec<Value>,
}

/// A statement that is being made.
pub(super) struct StatementBuilder<'a> {
    dialect: &'static Dialect,
    table: &'a Table,
    sql: String,
    values: Vec<Value>,
}

impl<'a> StatementBuilder<'a> {
    pub(super) fn new(dialect: &'static Dialect, table: &'a Table, sql: &str) -> Self {
        Self { dialect, table, sql: sql.to_owned(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    pub(super) fn push_value(&mut self, value: Value) {
        self.values.push(value);
        self.sql.push_str(&(self.dialect.parameter)(self.values.len()));
    }

    pub(super) fn push_id(&mut self, id: SessionId) {
        self.push_value(Value::Blob(id.as_bytes().to_vec()));
    }

    /// Takes the text so far out, to be put into a statement. Its parameters stay the first ones.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.sql)
    }

    pub(super) fn finish(self) -> Result<Statement, Mismatch> {
        if self.values.len() > self.dialect.max_parameters {
            return Err(Mismatch::TooManyValues(self.values.len()));
        }
        Ok(Statement { sql: self.sql, values: self.values })
    }

    pub(super) fn push_filter(&mut self, filter: &Filter) -> Result<(), Mismatch> {
        match filter {
            Filter::All => self.push("TRUE"),
            Filter::Id(id) => {
                self.push_name(&self.table.id);
                self.push(" = ");
                self.push_id(*id);
            }
            Filter::Compare(column, comparison, value) => {
                self.push_comparison(*column, *comparison, value)?;
            }
            Filter::OneOf(column, values) => self.push_one_of(*column, values)?,
            Filter::IsNull(column) => {
                let operand = self.operand(*column)?;
                self.push_name(operand.name);
                self.push(" IS NULL");
            }
            Filter::LiveAt(time) => {
                self.push_name(&self.table.expiration);
                self.push(" > ");
                self.push_value(Value::Integer(time.as_millis()));
            }
            Filter::Not(inner) => {
                self.push("(");
                self.push_filter(inner)?;
                // `NOT` of `NULL` is `NULL`, and such a row would match neither the filter nor its negation.
                self.push(") IS NOT TRUE");
            }
            Filter::And(left, right) => self.push_pair(left, " AND ", right)?,
            Filter::Or(left, right) => self.push_pair(left, " OR ", right)?,
        }
        Ok(())
    }

    fn push_comparison(
        &mut self,
        column: ColumnRef,
        comparison: Comparison,
        value: &Value,
    ) -> Result<(), Mismatch> {
        let operand = self.operand(column)?;
        // Databases would convert one of the two; here values of different types do not compare.
        if !operand.holds(value) {
            self.push("FALSE");
            return Ok(());
        }
        let (comparison, value) = match self.storable(comparison, value) {
            Storable::As(comparison, value) => (comparison, value),
            Storable::All => {
                self.push_name(operand.name);
                self.push(" IS NOT NULL");
                return Ok(());
            }
            Storable::None => {
                self.push("FALSE");
                return Ok(());
            }
        };
        let value = value.as_ref();
        if comparison == Comparison::Eq && self.needs_plain_comparison(operand) {
            self.push_name(operand.name);
            self.push(" = ");
            self.push_value(value.clone());
            self.push(" AND ");
        }
        self.push_operand(operand);
        self.push(match comparison {
            Comparison::Eq => " = ",
            Comparison::Ne => " <> ",
            Comparison::Lt => " < ",
            Comparison::Le => " <= ",
            Comparison::Gt => " > ",
            Comparison::Ge => " >= ",
        });
        self.push_value(self.comparable(value));
        Ok(())
    }

    fn push_one_of(&mut self, column: ColumnRef, values: &[Value]) -> Result<(), Mismatch> {
        let operand = self.operand(column)?;
        let values: Vec<_> =
            values.iter().filter(|value| operand.holds(value) && self.is_comparable(value)).collect();
        let values = || values.iter().copied();
        if values().next().is_none() {
            self.push("FALSE");
            return Ok(());
        }
        if self.needs_plain_comparison(operand) {
            self.push_name(operand.name);
            self.push_list(values(), |_, value| value.clone());
            self.push(" AND ");
        }
        self.push_operand(operand);
        self.push_list(values(), Self::comparable);
        Ok(())
    }

    fn push_list<'v>(
        &mut self,
        values: impl Iterator<Item = &'v Value>,
        bound: impl Fn(&Self, &Value) -> Value,
    ) {
        self.push(" IN (");
        for (n, value) in values.enumerate() {
            self.push(if n == 0 { "" } else { ", " });
            let value = bound(self, value);
            self.push_value(value);
        }
        self.push(")");
    }

    /// Whether a column can hold a value. A NaN equals no value, not even itself.
    fn is_comparable(&self, value: &Value) -> bool {
        let is_nan = matches!(value, Value::Real(real) if real.is_nan());
        !is_nan && (self.dialect.refuses)(value, false).is_none()
    }

    /// Returns a comparison with a value that the database can hold, which means the same.
    fn storable<'v>(&self, comparison: Comparison, value: &'v Value) -> Storable<'v> {
        use Comparison::{Ge, Gt, Le, Lt, Ne};
        if self.is_comparable(value) {
            return Storable::As(comparison, Cow::Borrowed(value));
        }
        match value {
            // No text in the database has a NUL. So what is less than `a\0..` is at most `a`.
            Value::Text(text) if matches!(comparison, Lt | Le | Gt | Ge) => {
                let head = text.split('\0').next().unwrap_or_default();
                let comparison = if matches!(comparison, Lt | Le) { Le } else { Gt };
                Storable::As(comparison, Cow::Owned(Value::Text(head.to_owned())))
            }
            Value::Real(real) if real.is_nan() => Storable::None,
            // All numbers in the database are finite.
            Value::Real(real) if *real > 0.0 && matches!(comparison, Lt | Le) => Storable::All,
            Value::Real(real) if *real < 0.0 && matches!(comparison, Gt | Ge) => Storable::All,
            _ if comparison == Ne => Storable::All,
            _ => Storable::None,
        }
    }

    fn push_pair(&mut self, left: &Filter, operator: &str, right: &Filter) -> Result<(), Mismatch> {
        self.push("((");
        self.push_filter(left)?;
        self.push(")");
        self.push(operator);
        self.push("(");
        self.push_filter(right)?;
        self.push("))");
        Ok(())
    }

    fn push_name(&mut self, name: &str) {
        self.dialect.push_quoted(&mut self.sql, name);
    }

    /// Adds a column as comparisons see it: text byte for byte, whatever the column's collation.
    fn push_operand(&mut self, operand: Operand<'_>) {
        if operand.ty == ColumnType::Text {
            let (before, after) = self.dialect.byte_order;
            self.push(before);
            self.push_name(operand.name);
            self.push(after);
        } else {
            self.push_name(operand.name);
        }
    }

    /// Whether an index of the column serves only a comparison with the column itself.
    fn needs_plain_comparison(&self, operand: Operand<'_>) -> bool {
        self.dialect.byte_order_is_blob && operand.ty == ColumnType::Text
    }

    /// Returns a value in the type that [`push_operand`](Self::push_operand) gives the column.
    fn comparable(&self, value: &Value) -> Value {
        match value {
            Value::Text(text) if self.dialect.byte_order_is_blob => Value::Blob(text.clone().into_bytes()),
            value => value.clone(),
        }
    }

    fn operand(&self, column: ColumnRef) -> Result<Operand<'a>, Mismatch> {
        let table = self.table;
        let (name, ty) = match column {
            ColumnRef::User => table.user.as_ref().map(|user| (&user.name, user.ty)),
            ColumnRef::Ip => table.ip.as_ref().map(|name| (name, ColumnType::Text)),
            ColumnRef::Projected(n) => table.projected.get(n).map(|column| (&column.name, column.ty)),
        }
        .ok_or(Mismatch::NoColumn(column))?;
        Ok(Operand { name, ty })
    }
}

/// A comparison that the database can make.
enum Storable<'v> {
    As(Comparison, Cow<'v, Value>),
    /// Every value matches.
    All,
    /// No value matches.
    None,
}

/// A column in a comparison.
#[derive(Clone, Copy)]
struct Operand<'a> {
    name: &'a str,
    ty: ColumnType,
}

impl Operand<'_> {
    fn holds(self, value: &Value) -> bool {
        self.ty.holds(value)
    }
}
