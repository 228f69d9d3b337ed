//! Column values: the form in which a projected field is copied out of the record.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The value of a column, as stores keep and compare it. `Debug` shows its type and length alone: it is a visitor's.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// A whole number. A `u64` keeps its bits, so values from 2^63 are negative here.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text, compared byte for byte.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(_) => f.write_str("Integer(..)"),
            Self::Real(_) => f.write_str("Real(..)"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Blob(bytes) => write!(f, "Blob({} bytes)", bytes.len()),
        }
    }
}

impl Value {
    /// Returns the type of the columns that can hold it.
    pub(crate) fn column_type(&self) -> ColumnType {
        match self {
            Self::Integer(_) => ColumnType::Integer,
            Self::Real(_) => ColumnType::Real,
            Self::Text(_) => ColumnType::Text,
            Self::Blob(_) => ColumnType::Blob,
        }
    }
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Holds [`Value::Integer`].
    Integer,
    /// Holds [`Value::Real`].
    Real,
    /// Holds [`Value::Text`].
    Text,
    /// Holds [`Value::Blob`].
    Blob,
}

impl ColumnType {
    /// Returns whether a column of this type can hold a value.
    #[cfg_attr(
        not(any(feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite")),
        expect(dead_code, reason = "for stores outside of this process")
    )]
    pub(crate) fn holds(self, value: &Value) -> bool {
        value.column_type() == self
    }
}

/// A type that a column can hold. Fields marked `#[databag(column)]` or `#[databag(user_id)]` need it.
///
/// # Examples
///
/// An enum without fields derives it and is stored as text:
///
/// ```
/// use session_runtime::{ColumnValue, Databag};
///
/// #[derive(Default, ColumnValue, serde::Serialize, serde::Deserialize)]
/// enum Theme {
///     #[default]
///     Light,
///     Dark,
/// }
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(column)]
///     theme: Theme,
/// }
///
/// let dark = Shop::THEME.eq(Theme::Dark);
/// # let _ = dark;
/// ```
///
/// A user id type of your own implements it:
///
/// ```
/// use session_runtime::{ColumnType, ColumnValue, Value};
///
/// #[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct AccountId(i64);
///
/// impl ColumnValue for AccountId {
///     const TYPE: ColumnType = ColumnType::Integer;
///     fn to_value(&self) -> Value {
///         Value::Integer(self.0)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in a column",
    label = "not a column value",
    note = "columns hold integers of up to 64 bits, `f32`, `f64`, `bool`, `String`, `Vec<u8>`, byte arrays, IP \
            addresses, and `Option`s of them",
    note = "for an enum without fields, write `#[derive(session_runtime::ColumnValue)]`; for another type of your own, \
            `impl session_runtime::ColumnValue`; or remove the attribute, and keep the field in the record only"
)]
pub trait ColumnValue {
    /// The type of the column.
    const TYPE: ColumnType;

    /// Returns the value as a store keeps it. Equal values must return equal results.
    fn to_value(&self) -> Value;
}

macro_rules! column_value {
    ($column:ident: $($type:ty => $to_value:expr),+ $(,)?) => {$(
        #[diagnostic::do_not_recommend]
        impl ColumnValue for $type {
            const TYPE: ColumnType = ColumnType::$column;
            fn to_value(&self) -> Value {
                let to_value: fn(&$type) -> _ = $to_value;
                Value::$column(to_value(self))
            }
        }
    )+};
}

column_value! { Integer:
    bool => |v| i64::from(*v),
    i8 => |v| i64::from(*v), i16 => |v| i64::from(*v), i32 => |v| i64::from(*v), i64 => |v| *v,
    u8 => |v| i64::from(*v), u16 => |v| i64::from(*v), u32 => |v| i64::from(*v), u64 => |v| v.cast_signed(),
}
column_value! { Real: f32 => |v| f64::from(*v), f64 => |v| *v }
column_value! { Text:
    String => String::clone,
    IpAddr => ToString::to_string, Ipv4Addr => ToString::to_string, Ipv6Addr => ToString::to_string,
}
column_value! { Blob: Vec<u8> => Vec::clone }

#[diagnostic::do_not_recommend]
impl<const N: usize> ColumnValue for [u8; N] {
    const TYPE: ColumnType = ColumnType::Blob;

    fn to_value(&self) -> Value {
        Value::Blob(self.to_vec())
    }
}
