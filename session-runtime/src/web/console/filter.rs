//! What sessions are searched by: the schema and the parameters of a page enter, a filter of the store leaves.
//!
//! The bag is known by its schema alone, so this works for every bag. No value of a blind column leaves: the store has a hash of
//! it, and only a search that has the value already finds it.

use std::fmt;
use std::net::IpAddr;

use super::html::{Encoded, Text, text_of};
use crate::bag::Projection;
use crate::bag::schema::{Role, Schema};
use crate::store::{ColumnRef, Comparison, Filter, Row};
use crate::token::SessionId;
use crate::value::{ColumnType, Value};

/// The fewest digits of an id that are searched for: log lines have 8.
const MIN_DIGITS: usize = 4;
/// The digits of a whole id.
const DIGITS: usize = 64;
/// The longest value that is shown and linked, in bytes. An address that takes more may be refused.
const LONGEST: usize = 1024;
/// The names in an address that are no part of a search.
const OTHERS: [&str; 2] = ["page", "all"];

/// A name and a value of a query or a form.
pub(super) type Parameter = (String, String);

/// Returns the first value of a parameter; nothing if it is empty.
pub(super) fn parameter<'a>(parameters: &'a [Parameter], name: &str) -> Option<&'a str> {
    let value = parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    value.filter(|value| !value.is_empty())
}

/// What sessions are searched and grouped by: the user, the address or a column.
#[derive(Clone, Debug)]
pub(super) struct Facet {
    /// The name of the parameter: `user`, `address` or `column.tenant`.
    pub(super) key: String,
    pub(super) label: &'static str,
    /// Whether the store has a hash in the place of the value: the value is never shown.
    pub(super) is_blind: bool,
    place: ColumnRef,
    ty: ColumnType,
    is_address: bool,
}

/// Returns what a bag has of these, in the order of its fields.
pub(super) fn facets(schema: &'static Schema) -> Vec<Facet> {
    let mut projected = (0..).map(ColumnRef::Projected);
    let mut facets = Vec::new();
    for field in schema.fields {
        let (key, label, place, ty) = match field.role {
            Role::Plain => continue,
            Role::User(ty) => ("user".to_owned(), "User", Some(ColumnRef::User), ty),
            Role::Ip(_) => {
                let place = if field.blind { projected.next() } else { Some(ColumnRef::Ip) };
                ("address".to_owned(), "Address", place, ColumnType::Text)
            }
            Role::Column { name, ty, .. } => (format!("column.{name}"), name, projected.next(), ty),
        };
        let (is_blind, is_address) = (field.blind, matches!(field.role, Role::Ip(_)));
        facets.extend(place.map(|place| Facet { key, label, is_blind, place, ty, is_address }));
    }
    facets
}

/// Returns those whose values may be shown.
pub(super) fn shown_facets(schema: &'static Schema) -> Vec<Facet> {
    facets(schema).into_iter().filter(|facet| !facet.is_blind).collect()
}

/// A value as a page may show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Shown {
    Nothing,
    /// There is a value, of a blind column.
    Hidden,
    /// There is a value of more than [`LONGEST`] bytes.
    TooLong,
    Value(String),
}

impl Facet {
    /// Returns what may be shown of a session.
    pub(super) fn of(&self, values: &Projection) -> Shown {
        let value = match self.place {
            ColumnRef::User => values.user.as_ref().map(text_of),
            ColumnRef::Ip => values.ip.map(|ip| ip.to_string()),
            ColumnRef::Projected(column) => values.columns.get(column).and_then(Option::as_ref).map(text_of),
        };
        self.shown(value)
    }

    /// Returns what may be shown of a row.
    pub(super) fn of_row(&self, row: &Row) -> Shown {
        let value = match self.place {
            ColumnRef::User => row.user.as_ref().map(text_of),
            ColumnRef::Ip => row.ip.map(|ip| ip.to_string()),
            ColumnRef::Projected(column) => row.columns.get(column).and_then(Option::as_ref).map(text_of),
        };
        self.shown(value)
    }

    fn shown(&self, value: Option<String>) -> Shown {
        match value {
            None => Shown::Nothing,
            Some(_) if self.is_blind => Shown::Hidden,
            Some(value) if value.len() > LONGEST => Shown::TooLong,
            Some(value) => Shown::Value(value),
        }
    }

    /// Reads a value as it is typed, and as [`text_of`] writes it. Text is taken as it is: without the space around it, it could be
    /// the name of another user.
    fn parse(&self, text: &str) -> Option<Value> {
        let word = text.trim();
        if self.is_address {
            return word.parse().ok().map(|ip: IpAddr| Value::Text(ip.to_string()));
        }
        match self.ty {
            ColumnType::Integer => {
                let unsigned = || word.parse().ok().map(u64::cast_signed);
                word.parse().ok().or_else(unsigned).map(Value::Integer)
            }
            ColumnType::Real => word.parse().ok().filter(|real: &f64| !real.is_nan()).map(Value::Real),
            ColumnType::Text => Some(Value::Text(text.to_owned())),
            ColumnType::Blob => bytes(word).map(Value::Blob),
        }
    }

    /// Says what [`parse`](Self::parse) reads.
    fn expected(&self) -> &'static str {
        match self.ty {
            _ if self.is_address => "an IP address",
            ColumnType::Integer => "a whole number",
            ColumnType::Real => "a number",
            ColumnType::Text => "text",
            ColumnType::Blob => "bytes, as hexadecimal digits",
        }
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// The sessions that a page is about, as its parameters say it.
#[derive(Debug)]
pub(super) struct Search {
    /// What is searched for: the parameters that were understood, for links and forms.
    pub(super) terms: Vec<Parameter>,
    /// What was not understood, in words.
    pub(super) mistakes: Vec<String>,
    /// The sessions whose ids begin so; the filter cannot say it.
    pub(super) prefix: Option<Prefix>,
    pub(super) filter: Filter,
}

/// The beginning of an id.
#[derive(Debug)]
pub(super) struct Prefix {
    digits: String,
    /// Ids are listed in their order, so those with the prefix come after this one.
    pub(super) after: SessionId,
}

impl Prefix {
    pub(super) fn matches(&self, id: SessionId) -> bool {
        id.to_string().starts_with(&self.digits)
    }
}

impl Search {
    /// Reads `id`, the keys of the facets, and `none` with such a key: the sessions without that value. What it does not know, or is
    /// there twice, is a mistake: without it more sessions would match.
    pub(super) fn of(parameters: &[Parameter], facets: &[Facet]) -> Self {
        let mut search = Self { terms: Vec::new(), mistakes: Vec::new(), prefix: None, filter: Filter::All };
        let given: Vec<_> = parameters.iter().filter(|(_, value)| !value.is_empty()).collect();
        for (place, (name, value)) in given.iter().enumerate() {
            let is_none = name == "none";
            let key = if is_none { value } else { name };
            let is_repeated = |other: &&Parameter| other.0 == *name && (!is_none || other.1 == *value);
            if given[..place].iter().any(is_repeated) {
                search.mistakes.push(format!("“{name}” is there twice."));
            } else if let Some(facet) = facets.iter().find(|facet| facet.key == *key) {
                search.add_facet(facet, name, value);
            } else if name == "id" {
                search.add_id(value);
            } else if !OTHERS.contains(&name.as_str()) {
                search.mistakes.push(format!("These sessions are not searched by “{key}”."));
            }
            // So the filter has no more terms than there are facets, however long the address is.
            if !search.mistakes.is_empty() {
                break;
            }
        }
        search
    }

    fn add_facet(&mut self, facet: &Facet, name: &str, text: &str) {
        if name == "none" {
            self.add(name, text, Filter::IsNull(facet.place));
        } else if let Some(value) = facet.parse(text) {
            self.add(name, text, Filter::Compare(facet.place, Comparison::Eq, value));
        } else {
            self.mistakes.push(format!("“{}” takes {}.", facet.label, facet.expected()));
        }
    }

    fn add_id(&mut self, text: &str) {
        let digits = text.trim().to_ascii_lowercase();
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hexadecimal || !(MIN_DIGITS..=DIGITS).contains(&digits.len()) {
            self.mistakes.push(format!(
                "“Session” takes {MIN_DIGITS} to {DIGITS} hexadecimal digits: the id or its beginning."
            ));
            return;
        }
        let Ok(after) = format!("{digits:0<DIGITS$}").parse::<SessionId>() else { return };
        if digits.len() == DIGITS {
            self.add("id", &digits, Filter::Id(after));
        } else {
            self.terms.push(("id".to_owned(), digits.clone()));
            self.prefix = Some(Prefix { digits, after });
        }
    }

    fn add(&mut self, name: &str, value: &str, filter: Filter) {
        self.terms.push((name.to_owned(), value.to_owned()));
        let all = std::mem::replace(&mut self.filter, Filter::All);
        self.filter = match all {
            Filter::All => filter,
            other => Filter::And(Box::new(other), Box::new(filter)),
        };
    }

    /// Returns what is searched by, for the log: the id, and the names of others without their values.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self
            .terms
            .iter()
            .map(|(name, value)| match name.as_str() {
                // As the log shows all ids.
                "id" => format!("id={}", value.get(..8).unwrap_or(value)),
                "none" => format!("none={value}"),
                name => name.to_owned(),
            })
            .collect();
        if names.is_empty() { "all".to_owned() } else { names.join(" ") }
    }

    /// Returns whether the filter says all that is searched for, so that sessions can be ended by it.
    pub(super) fn is_exact(&self) -> bool {
        self.mistakes.is_empty() && self.prefix.is_none()
    }

    /// Returns the id, if nothing but one session is searched for.
    pub(super) fn only_id(&self) -> Option<SessionId> {
        match self.filter {
            Filter::Id(id) if self.is_exact() => Some(id),
            _ => None,
        }
    }
}

/// A link to a page of the console, escaped for an attribute.
pub(super) struct Link<'a> {
    pub(super) page: &'static str,
    pub(super) terms: &'a [Parameter],
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.page)?;
        for (place, (name, value)) in self.terms.iter().enumerate() {
            let sign = if place == 0 { "?" } else { "&amp;" };
            write!(f, "{sign}{}={}", Encoded(name), Encoded(value))?;
        }
        Ok(())
    }
}

/// The same in a form.
pub(super) struct HiddenFields<'a>(pub(super) &'a [Parameter]);

impl fmt::Display for HiddenFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.0 {
            write!(f, "<input type=\"hidden\" name=\"{}\" value=\"{}\">", Text(name), Text(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bag::Databag;

    #[derive(crate::Databag)]
    #[databag(table = "searched")]
    struct Shop {
        #[databag(user_id)]
        user_id: Option<i64>,
        #[databag(ip_addr, blind)]
        address: Option<IpAddr>,
        visits: u32,
        #[databag(column)]
        tenant: Option<String>,
        #[databag(column, blind)]
        email: Option<String>,
        #[databag(column = "weight_kg")]
        weight: f64,
        #[databag(column)]
        tag: Vec<u8>,
    }

    fn search(parameters: &[(&str, &str)]) -> Search {
        let parameters: Vec<_> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Search::of(&parameters, &facets(Shop::SCHEMA))
    }

    fn is(place: ColumnRef, value: Value) -> Filter {
        Filter::Compare(place, Comparison::Eq, value)
    }

    #[test]
    fn parameters_become_filters_of_the_columns_that_they_name() {
        let column = ColumnRef::Projected;
        let text = |text: &str| Value::Text(text.to_owned());
        for (name, value, filter) in [
            ("user", "7", is(ColumnRef::User, Value::Integer(7))),
            ("user", " 18446744073709551615 ", is(ColumnRef::User, Value::Integer(-1))),
            ("address", "2001:DB8::1", is(column(0), text("2001:db8::1"))),
            ("column.tenant", "acme & <sons>", is(column(1), text("acme & <sons>"))),
            ("column.tenant", " acme ", is(column(1), text(" acme "))),
            ("column.email", "dana@example.com", is(column(2), text("dana@example.com"))),
            ("column.weight_kg", "1.5", is(column(3), Value::Real(1.5))),
            ("column.tag", "0aFF", is(column(4), Value::Blob(vec![10, 255]))),
            ("none", "column.tenant", Filter::IsNull(column(1))),
            ("page", "2", Filter::All),
            ("user", "", Filter::All),
        ] {
            let found = search(&[(name, value)]);
            assert_eq!((found.filter, found.mistakes.len()), (filter, 0), "{name}={value}");
        }
        let both = search(&[("column.tenant", "acme"), ("user", "7")]);
        let user = Box::new(is(ColumnRef::User, Value::Integer(7)));
        assert_eq!(both.filter, Filter::And(Box::new(is(column(1), text("acme"))), user));
    }

    #[test]
    fn what_is_not_understood_matches_nothing_exactly() {
        for (name, value) in [
            ("user", "dana"),
            ("user", " "),
            ("address", "nowhere"),
            ("column.weight_kg", "NaN"),
            ("column.tag", "0"),
            ("column.tag", "0g"),
            ("id", "abc"),
            ("id", "not-an-id"),
            ("column.visits", "1"),
            ("none", "column.visits"),
            ("none", "id"),
            ("User", "7"),
        ] {
            for parameters in [vec![(name, value)], vec![("column.tenant", "acme"), (name, value)]] {
                let found = search(&parameters);
                assert!(found.mistakes.len() == 1 && !found.is_exact(), "{name}={value}");
            }
        }
        for twice in [[("user", "7"), ("user", "8")], [("none", "user"), ("none", "user")]] {
            assert!(!search(&twice).is_exact(), "{twice:?}");
        }
        assert!(search(&[("none", "user"), ("none", "address")]).is_exact());
        // As long as an address can be.
        let many = search(&[("none", "user")].repeat(6_500));
        assert_eq!((many.terms.len(), many.mistakes.len()), (1, 1));
    }

    #[test]
    fn an_id_is_found_by_its_beginning() {
        let id = SessionId::from_bytes([0xAB; 32]);
        let whole = search(&[("id", &id.to_string().to_uppercase())]);
        assert_eq!((whole.only_id(), whole.is_exact()), (Some(id), true));
        let part = search(&[("id", "ABAB")]);
        assert!(part.only_id().is_none() && !part.is_exact());
        let prefix = part.prefix.expect("a prefix");
        assert!(
            prefix.matches(id) && prefix.after < id && !prefix.matches(SessionId::from_bytes([0xAC; 32]))
        );
        assert!(search(&[("id", &id.to_string()), ("user", "7")]).only_id().is_none());
    }

    #[test]
    fn no_value_of_a_blind_column_is_shown() {
        let mut values = Projection::default();
        let bag = Shop {
            user_id: None,
            address: Some(IpAddr::from([127, 0, 0, 1])),
            visits: 0,
            tenant: Some("acme".to_owned()),
            email: Some("dana@example.com".to_owned()),
            weight: 0.5,
            tag: vec![1],
        };
        bag.project(&mut values);
        let shown: Vec<_> = facets(Shop::SCHEMA).iter().map(|facet| facet.of(&values)).collect();
        let value = |text: &str| Shown::Value(text.to_owned());
        let expected =
            [Shown::Nothing, Shown::Hidden, value("acme"), Shown::Hidden, value("0.5"), value("01")];
        assert_eq!(shown, expected);
        assert_eq!(bag.visits, 0);
    }

    #[test]
    fn a_value_that_is_too_long_is_neither_shown_nor_linked() {
        let facets = facets(Shop::SCHEMA);
        let tenant = facets.iter().find(|facet| facet.label == "tenant").expect("a column");
        let longest = "x".repeat(LONGEST);
        assert_eq!(tenant.shown(Some(longest.clone())), Shown::Value(longest.clone()));
        assert_eq!(tenant.shown(Some(longest + "x")), Shown::TooLong);
    }

    #[test]
    fn links_and_forms_keep_what_is_searched_for() {
        let terms =
            [("column.tenant".to_owned(), "a&b \"c\"".to_owned()), ("user".to_owned(), "7".to_owned())];
        let link = Link { page: "list", terms: &terms }.to_string();
        assert_eq!(link, "list?column.tenant=a%26b%20%22c%22&amp;user=7");
        let fields = HiddenFields(&terms[..1]).to_string();
        assert_eq!(fields, "<input type=\"hidden\" name=\"column.tenant\" value=\"a&amp;b &quot;c&quot;\">");
    }
}
