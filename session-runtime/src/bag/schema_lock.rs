//! The schema lock: the layout of stored sessions as text in a committed file, so that a test finds a change of the
//! layout before stored sessions meet it.
//!
//! Fields are sorted by name, because the order of a struct's fields is not stored.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::ErrorKind;
use std::path::Path;
use std::{env, fs};

use super::schema::{Field, Role, Schema};
use super::shape::{FieldShape, Shape};
use super::{Databag, shapes_of};
use crate::codec::Codec as _;
use crate::value::ColumnType;

/// Asserts that the layout of a bag's stored sessions is the one in a committed file.
///
/// One line in a test is enough:
///
/// ```no_run
/// # use session_runtime::{Databag, assert_schema};
/// # #[derive(Databag)]
/// # struct Shop { visits: u32 }
/// #[test]
/// fn stored_sessions_can_be_read() {
///     assert_schema!(Shop, "tests/shop.schema");
/// }
/// ```
///
/// The path is relative to the `Cargo.toml` of the package. With `DATABAG_UPDATE_SCHEMA=1` in the environment the
/// file is written instead: `DATABAG_UPDATE_SCHEMA=1 cargo test` creates it, and accepts an intended change.
///
/// The file holds everything that decides whether a stored session can be read: the bag's `name`, `version`,
/// `table` and [`Codec::NAME`](crate::Codec::NAME), and for each stored field its name, its aliases, its column,
/// and the shape of its type as serde sees it, so that a change deep inside a type is found too. For a field with
/// `with = module` it is the shape of what the module deserializes.
///
/// A type is explored with made-up values. What none of them fits, such as the text of a validated newtype, and what
/// lies behind it, is listed as `unchecked`: a change there is not found. After such a change raise `version`, and
/// rename the field if its stored values cannot be read any more. The content of a part that is listed as `any` is
/// not checked either.
///
/// `#[databag(version = n)]` is your own number for the layout. The runtime does not use it. Raise it with each
/// change of the layout: then the file's history and [`Schema::version`](crate::schema::Schema::version) number the
/// layouts.
///
/// # Panics
///
/// If the layout differs. The message shows the differences and what to write for each: `alias` for a renamed field,
/// `from` for a field of another type, `default` for a new field. Also if the file is missing, or cannot be read or
/// written.
#[macro_export]
macro_rules! assert_schema {
    ($bag:ty, $path:expr $(,)?) => {
        $crate::__private::assert_schema::<$bag>(::core::env!("CARGO_MANIFEST_DIR"), $path)
    };
}

const UPDATE: &str = "DATABAG_UPDATE_SCHEMA";

/// Implements [`assert_schema!`](crate::assert_schema).
#[doc(hidden)]
#[track_caller]
pub fn assert_schema<T: Databag>(package: &str, path: &str) {
    let file = Path::new(package).join(path);
    let current = Layout::of::<T>();
    if env::var_os(UPDATE).is_some_and(|update| update == "1") {
        let written = file.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = written.and_then(|()| fs::write(&file, current.to_string())) {
            panic!("{path} cannot be written: {error}");
        }
        return;
    }
    let bag = T::SCHEMA.name;
    match fs::read_to_string(&file) {
        Ok(committed) => {
            if let Some(report) = Layout::parse(&committed).report(&current) {
                panic!("the layout of `{bag}` differs from {path}\n\n{report}");
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("there is no {path}\ncreate it, check it and commit it: {UPDATE}=1 cargo test")
        }
        Err(error) => panic!("{path} cannot be read: {error}"),
    }
}

/// The layout of stored sessions: lines about the bag, and lines about each field by its name.
#[derive(Default, PartialEq)]
struct Layout {
    bag: Lines,
    fields: BTreeMap<String, Lines>,
}

/// Lines such as `alias cart`: a key and its text.
#[derive(Clone, Default, PartialEq)]
struct Lines(Vec<String>);

impl Lines {
    /// Returns the texts of a key.
    fn get<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |line| line.strip_prefix(key)?.strip_prefix(' '))
    }

    fn first(&self, key: &str) -> &str {
        self.get(key).next().unwrap_or_default()
    }

    /// Returns the lines of a shape, in which the path follows the key directly.
    fn shape<'a>(&'a self, key: &str) -> Vec<&'a str> {
        let shape = self.0.iter().filter_map(|line| line.strip_prefix(key));
        shape.filter(|line| line.starts_with([' ', '.', '?', ':'])).collect()
    }

    fn has(&self, line: &str) -> bool {
        self.0.iter().any(|other| other == line)
    }
}

impl Layout {
    fn of<T: Databag>() -> Self {
        let Schema { name, table, version, fields, .. } = T::SCHEMA;
        let bag = [
            format!("name {}", name.escape_debug()),
            format!("version {version}"),
            format!("table {}", table.escape_debug()),
            format!("codec {}", T::Codec::NAME.escape_debug()),
        ];
        let field = |(field, shape): (&Field, FieldShape)| {
            (field.name.escape_debug().to_string(), Lines::of::<T>(field, &shape))
        };
        Self { bag: Lines(bag.into()), fields: fields.iter().zip(shapes_of::<T>()).map(field).collect() }
    }

    fn parse(text: &str) -> Self {
        let mut layout = Self::default();
        let mut lines = &mut layout.bag;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("field ") {
                Some(field) => lines = layout.fields.entry(field.to_owned()).or_default(),
                None => lines.0.push(line.to_owned()),
            }
        }
        layout
    }

    /// Describes how `now` differs from this layout, and what to write. Returns `None` if it does not differ.
    fn report(&self, now: &Self) -> Option<String> {
        if self == now {
            return None;
        }
        let mut report = diff("bag", &self.bag, &now.bag);
        let none = Lines::default();
        let names =
            self.fields.keys().chain(now.fields.keys().filter(|name| !self.fields.contains_key(*name)));
        for name in names {
            let lines = |layout: &Self| layout.fields.get(name).unwrap_or(&none).clone();
            report += &diff(&format!("field {name}"), &lines(self), &lines(now));
        }
        for remedy in remedies(self, now) {
            let _ = write!(report, "\n{remedy}\n");
        }
        let version = now.bag.first("version");
        if version == self.bag.first("version") {
            let next = version.parse().unwrap_or(0_u32).saturating_add(1);
            let _ = write!(
                report,
                "\n`version` is {version} in both layouts: raise it, `#[databag(version = {next})]`\n"
            );
        }
        let _ = write!(report, "\nif the change is intended, accept it: {UPDATE}=1 cargo test");
        Some(report)
    }
}

impl Lines {
    fn of<T: Databag>(field: &Field, shape: &FieldShape) -> Self {
        let schema: &Schema = T::SCHEMA;
        let mut lines = Vec::new();
        lines.extend(field.aliases.iter().map(|alias| format!("alias {}", alias.escape_debug())));
        let column = match field.role {
            Role::Plain => None,
            Role::User(ty) => Some((schema.columns.user_id, ty)),
            Role::Ip(_) => Some((schema.columns.ip_addr, ColumnType::Text)),
            Role::Column { name, ty, .. } => Some((name, ty)),
        };
        let own = (shape.codec.name != T::Codec::NAME).then_some(shape.codec.name);
        lines.extend(own.map(|codec| format!("codec {}", codec.escape_debug())));
        let blind = if field.blind { " blind" } else { "" };
        lines.extend(column.map(|(name, ty)| format!("column {} {ty:?}{blind}", name.escape_debug())));
        let shape_lines = |key: &str, shape: &Shape| -> Vec<_> {
            shape.iter().map(|(path, kind)| format!("{key}{path} {kind}")).collect()
        };
        lines.extend(shape_lines("type", &shape.current));
        lines.extend(shape.older.iter().flat_map(|older| shape_lines("from", older)));
        Self(lines)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# The layout of stored sessions, for `assert_schema!`. {UPDATE}=1 cargo test writes it."
        )?;
        for line in &self.bag.0 {
            writeln!(f, "{line}")?;
        }
        for (name, lines) in &self.fields {
            writeln!(f, "\nfield {name}")?;
            for line in &lines.0 {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

/// Shows the lines that only one of two layouts has.
fn diff(title: &str, was: &Lines, now: &Lines) -> String {
    let lines = |sign: char, these: &Lines, those: &Lines| -> String {
        let only = these.0.iter().filter(|line| !those.has(line));
        only.fold(String::new(), |lines, line| lines + &format!("{sign}     {line}\n"))
    };
    let changes = lines('-', was, now) + &lines('+', now, was);
    match (was.0.is_empty(), now.0.is_empty()) {
        _ if changes.is_empty() => changes,
        (true, false) => format!("+ {title}\n{changes}"),
        (false, true) => format!("- {title}\n{changes}"),
        _ => format!("  {title}\n{changes}"),
    }
}

fn remedies(was: &Layout, now: &Layout) -> Vec<String> {
    let mut remedies = Vec::new();
    for (key, effect) in [
        ("name", "stored sessions do not open under another name"),
        ("table", "stored sessions stay in the other table"),
        ("codec", "stored sessions cannot be read by another codec"),
    ] {
        let (before, after) = (was.bag.first(key), now.bag.first(key));
        if before != after && !before.is_empty() {
            remedies.push(format!("{effect}: they are lost unless `{key}` is `{before}` again"));
        }
    }
    let origin = |name: &str, lines: &Lines| {
        let mut names = std::iter::once(name).chain(lines.get("alias"));
        names.find_map(|name| was.fields.get_key_value(name)).map(|(name, _)| name.clone())
    };
    let origins: BTreeMap<_, _> =
        now.fields.iter().filter_map(|(name, lines)| Some((origin(name, lines)?, name.as_str()))).collect();
    let gone = |name: &&String| !origins.contains_key(*name);
    let new_fields: Vec<_> =
        now.fields.iter().filter(|(name, lines)| origin(name, lines).is_none()).collect();
    let gone_fields: Vec<_> = was.fields.iter().filter(|(name, _)| gone(name)).collect();
    let renamed = renamed(&gone_fields, &new_fields);
    for (name, lines) in &now.fields {
        match origin(name, lines) {
            Some(before) => remedies.extend(changed(name, &before, &was.fields[&before], lines)),
            None => remedies.push(added(name, renamed.get(name.as_str()).copied())),
        }
    }
    for name in was.fields.keys().filter(gone) {
        remedies.push(format!(
            "`{name}` is gone: stored sessions keep its value, but no field reads it. If the field was renamed, add to \
             it: `#[databag(alias = \"{name}\")]`"
        ));
    }
    remedies
}

/// Guesses which of the new fields is which of the gone fields: one of the same type, the closest names first. An old
/// name is offered to one new field only, because an `alias` must not name two fields' values.
fn renamed<'a>(gone: &[(&'a String, &Lines)], new: &[(&'a String, &Lines)]) -> BTreeMap<&'a str, &'a str> {
    let pairs = new.iter().flat_map(|new| gone.iter().map(move |gone| (new, gone)));
    let mut pairs: Vec<_> =
        pairs.filter(|((_, new), (_, gone))| new.shape("type") == gone.shape("type")).collect();
    pairs.sort_by_key(|((new, _), (gone, _))| Reverse(shared(new, gone)));
    let mut renamed = BTreeMap::new();
    for ((new, _), (gone, _)) in pairs {
        if !renamed.contains_key(new.as_str()) && renamed.values().all(|taken| taken != gone) {
            renamed.insert(new.as_str(), gone.as_str());
        }
    }
    renamed
}

/// Returns how many characters two names share at their beginning and at their end.
fn shared(a: &str, b: &str) -> usize {
    let start = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let end = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).count();
    start + end
}

fn added(name: &str, renamed: Option<&str>) -> String {
    let default = format!(
        "`{name}` is new: in stored sessions it has its default; to choose the default: `#[databag(default = ..)]`"
    );
    match renamed {
        Some(before) => format!(
            "`{name}` looks like the renamed field `{before}`. If it is, keep its values: \
             `#[databag(alias = \"{before}\")]`. If not: {default}"
        ),
        None => default,
    }
}

fn changed(name: &str, before: &str, was: &Lines, now: &Lines) -> Vec<String> {
    let mut remedies = Vec::new();
    if before != name {
        remedies.push(format!("`{before}` was renamed to `{name}`: stored values are found by `alias`"));
    }
    let (old, new) = (was.shape("type"), now.shape("type"));
    if old != new && now.shape("from") == old {
        remedies.push(format!("`{name}` has another type: stored values are converted by `from`"));
    } else if old != new {
        remedies.push(format!(
            "`{name}` has another type: stored values are not read, and the field has its default. To convert them, \
             name the old type, `#[databag(from = OldType)]`, and write `impl From<OldType>` for the new type"
        ));
    } else if was.shape("from") != now.shape("from") {
        remedies.push(format!(
            "`{name}` has another `from`: sessions that still store the old type lose the field. Keep `from` until all \
             of them have been written again or have expired"
        ));
    }
    for alias in was.get("alias").filter(|alias| *alias != name && !now.has(&format!("alias {alias}"))) {
        remedies.push(format!(
            "`{name}` is not found as `{alias}` any more: keep `#[databag(alias = \"{alias}\")]` until the sessions that \
             store it under that name have expired"
        ));
    }
    let (column, other) = (was.first("column"), now.first("column"));
    if column != other {
        remedies.push(match (column.split_once(' '), other.split_once(' ')) {
            (Some((column, _)), Some((other, _))) if column == other => format!(
                "the column of `{name}` has another type, which is an error at start-up: write another name, \
                 `column = \"{other}_2\"`, or drop the old column from the table"
            ),
            (_, Some(_)) => {
                format!(
                    "the column of `{name}` is new: queries find a stored session by it after its next write"
                )
            }
            _ => {
                format!(
                    "`{name}` has no column any more: the old column stays in the table and is not written"
                )
            }
        });
    }
    remedies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Databag;

    #[derive(Databag)]
    #[databag(name = "Shop", version = 3)]
    struct Shop {
        #[databag(user_id)]
        account: Option<i64>,
        #[databag(alias = "shop", column)]
        tenant: Option<String>,
        visits: u32,
    }

    /// Returns the report about a change from `Shop` to `T`.
    fn report<T: Databag>() -> String {
        let committed = Layout::of::<Shop>().to_string();
        Layout::parse(&committed).report(&Layout::of::<T>()).unwrap_or_default()
    }

    #[track_caller]
    fn assert_says<T: Databag>(lines: &[&str]) {
        let report = report::<T>();
        for line in lines {
            assert!(report.contains(line), "{line}\n\nis not in\n\n{report}");
        }
    }

    #[test]
    fn a_layout_is_readable_text() {
        assert_eq!(
            Layout::of::<Shop>().to_string(),
            "\
# The layout of stored sessions, for `assert_schema!`. DATABAG_UPDATE_SCHEMA=1 cargo test writes it.
name Shop
version 3
table sessions
codec bincode

field account
    column user_id Integer
    type option
    type? i64

field tenant
    alias shop
    column tenant Text
    type option
    type? str

field visits
    type u32
"
        );
    }

    #[test]
    fn attributes_that_do_not_change_stored_sessions_are_no_difference() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 3, cookie = "shop", idle = "5m")]
        struct Reordered {
            #[databag(merge = "sum", keep_on_logout)]
            visits: u32,
            #[databag(skip)]
            seen: bool,
            #[databag(alias = "shop", column, index)]
            tenant: Option<String>,
            #[databag(user_id)]
            account: Option<i64>,
        }
        assert_eq!(report::<Reordered>(), "");
    }

    #[test]
    fn a_column_that_becomes_blind_is_a_difference() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 4)]
        struct Hidden {
            #[databag(user_id, blind)]
            account: Option<i64>,
            #[databag(alias = "shop", column)]
            tenant: Option<String>,
            visits: u32,
        }
        let difference = "-     column user_id Integer\n+     column user_id Integer blind\n";
        assert_says::<Hidden>(&[difference]);
    }

    #[test]
    fn a_report_shows_the_difference_the_remedy_and_how_to_accept_it() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 3)]
        struct Wider {
            #[databag(user_id)]
            account: Option<i64>,
            #[databag(alias = "shop", column)]
            tenant: Option<String>,
            visits: u64,
        }
        assert_eq!(
            report::<Wider>(),
            "  field visits
-     type u32
+     type u64

`visits` has another type: stored values are not read, and the field has its default. To convert them, name the old \
             type, `#[databag(from = OldType)]`, and write `impl From<OldType>` for the new type

`version` is 3 in both layouts: raise it, `#[databag(version = 4)]`

if the change is intended, accept it: DATABAG_UPDATE_SCHEMA=1 cargo test"
        );
    }

    #[test]
    fn a_renamed_field_is_offered_an_alias_and_a_new_field_a_default() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 4)]
        struct Renamed {
            #[databag(user_id)]
            account: Option<i64>,
            #[databag(alias = "shop", column)]
            tenant: Option<String>,
            views: u32,
            theme: String,
        }
        assert_says::<Renamed>(&[
            "- field visits\n-     type u32\n",
            "+ field views\n+     type u32\n",
            "`views` looks like the renamed field `visits`. If it is, keep its values: `#[databag(alias = \"visits\")]`",
            "`theme` is new: in stored sessions it has its default; to choose the default: `#[databag(default = ..)]`",
            "`visits` is gone",
        ]);
        assert!(!report::<Renamed>().contains("in both layouts"), "the version was raised");
    }

    #[test]
    fn alias_and_from_are_recognised_as_remedies() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 4)]
        struct Mended {
            #[databag(user_id)]
            account: Option<i64>,
            #[databag(alias = "tenant", alias = "shop", column)]
            owner: Option<String>,
            #[databag(from = u32)]
            visits: u64,
        }
        assert_says::<Mended>(&[
            "`tenant` was renamed to `owner`: stored values are found by `alias`",
            "`visits` has another type: stored values are converted by `from`",
        ]);
        assert!(!report::<Mended>().contains("is gone"));
    }

    #[test]
    fn a_report_names_aliases_and_names_that_were_removed_too_early() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 4, codec = "json", table = "shops")]
        struct Bare {
            #[databag(user_id)]
            account: Option<i64>,
            #[databag(column = "owner")]
            tenant: Option<String>,
        }
        assert_says::<Bare>(&[
            "`tenant` is not found as `shop` any more: keep `#[databag(alias = \"shop\")]`",
            "the column of `tenant` is new",
            "unless `codec` is `bincode` again",
            "unless `table` is `sessions` again",
            "`visits` is gone",
        ]);
    }

    #[test]
    fn a_report_names_columns_of_another_type_and_removed_columns() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 4)]
        struct Unprojected {
            #[databag(user_id)]
            account: Option<String>,
            #[databag(alias = "shop")]
            tenant: Option<String>,
            visits: u32,
        }
        assert_says::<Unprojected>(&[
            "the column of `account` has another type",
            "`tenant` has no column any more",
        ]);
    }

    #[test]
    fn a_change_deep_inside_a_type_is_found() {
        #[derive(Default, serde::Serialize, serde::Deserialize)]
        struct Line {
            sku: String,
        }
        #[derive(Databag)]
        #[databag(name = "Shop", version = 4)]
        struct Deep {
            #[databag(user_id)]
            account: Option<i64>,
            #[databag(alias = "shop", column)]
            tenant: Option<String>,
            visits: Vec<Line>,
        }
        assert_says::<Deep>(&[
            "-     type u32\n+     type seq\n+     type.0 struct sku\n+     type.0.0 str\n",
        ]);
    }
    #[test]
    fn one_gone_field_is_offered_to_the_closest_of_the_new_fields_only() {
        #[derive(Databag)]
        #[databag(name = "Shop", version = 4)]
        struct Split {
            #[databag(user_id)]
            account: Option<i64>,
            #[databag(alias = "shop", column)]
            tenant: Option<String>,
            clicks: u32,
            shop_visits: u32,
        }
        assert_says::<Split>(&[
            "`clicks` is new: in stored sessions it has its default",
            "`shop_visits` looks like the renamed field `visits`",
        ]);
        assert_eq!(report::<Split>().matches("alias = \"visits\"").count(), 2, "the offer, and `is gone`");
    }

    #[test]
    fn each_of_two_gone_fields_is_offered_once() {
        let layout = |fields: &[&str]| {
            let fields = fields.iter().map(|name| ((*name).to_owned(), Lines(vec!["type u32".to_owned()])));
            Layout { fields: fields.collect(), ..Layout::default() }
        };
        let offers = |was: &[&str], now: &[&str]| -> Vec<_> {
            let remedies = remedies(&layout(was), &layout(now)).into_iter();
            remedies.filter_map(|remedy| Some(remedy.split_once(". If it is,")?.0.to_owned())).collect()
        };
        assert_eq!(offers(&["first", "last"], &["name"]), ["`name` looks like the renamed field `first`"]);
        assert_eq!(
            offers(&["count_a", "other"], &["a", "count_b"]),
            ["`a` looks like the renamed field `other`", "`count_b` looks like the renamed field `count_a`"]
        );
    }

    #[test]
    fn a_layout_lists_what_is_unchecked() {
        #[derive(Default, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String")]
        struct Code(String);
        impl TryFrom<String> for Code {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                if text == "DB-1" { Ok(Self(text)) } else { Err("not a code") }
            }
        }
        #[derive(Databag)]
        struct Order {
            item: (Code, u32),
        }
        let text = Layout::of::<Order>().to_string();
        let field = "field item\n    type tuple 2\n    type.0 str unchecked\n    type.1 unchecked\n";
        assert!(text.ends_with(field), "{text}");
        assert!(Layout::parse(&text) == Layout::of::<Order>());
    }
}
