//! The derive macro of Databag.
//!
//! It is documented at its re-export, `session_runtime::Databag`; depend on `session-runtime`, not on this
//! crate.
//!
//! A struct passes through these modules: `attr` and `ast` read what was written, `check` turns it into a
//! `model` that cannot be invalid, and `expand` writes the code. Mistakes are collected in `errors`; where
//! there are any, `fallback` writes stubs, so that rustc has nothing of its own to add.

#![allow(clippy::single_match_else, reason = "the blocks that `quote!` expands to look like long branches")]

mod ast;
mod attr;
mod check;
mod column;
mod errors;
mod expand;
mod fallback;
mod model;
#[cfg(test)]
mod snapshots;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::ast::Input;
use crate::errors::Errors;

/// Makes a struct a session.
///
/// It takes a struct with named fields and needs no other derive. Every field must be
/// `Serialize + DeserializeOwned`, and have a `Default` or a `#[databag(default = ..)]`.
///
/// ```text
/// #[derive(Databag)]
/// #[databag(table = "sessions", cookie = "__Host-shop", idle = "30m", absolute = "12h")]
/// pub struct ShopSession {
///     #[databag(user_id)]
///     user_id: Option<i64>,
///     #[databag(column, index)]
///     tenant: Option<String>,
///     #[databag(flash)]
///     notice: Option<String>,
///     cart: BTreeMap<String, u32>,
///     #[databag(default = Theme::Light)]
///     theme: Theme,
/// }
/// ```
///
/// # On the struct
///
/// | attribute | meaning | left out |
/// | --- | --- | --- |
/// | `name = ".."` | the bag's stored identity: rows of one bag never open as another | the struct's name |
/// | `table = ".."` | the table | `"sessions"` |
/// | `columns(id = "..", ..)` | the runtime's columns: `id`, `state`, `user_id`, `ip_addr`, `created`, `expiration`, `revision` | the same names |
/// | `cookie = ".."` | the cookie's name | `"__Host-session"` |
/// | `path = ".."` | the cookie's `Path` | `"/"` |
/// | `domain = ".."` | the cookie's `Domain` | none: this host only |
/// | `same_site = ".."` | `"strict"`, `"lax"` or `"none"` | `"lax"` |
/// | `secure = false` | sends the cookie over plain HTTP too | `true` |
/// | `partitioned` | keeps the cookie apart for each top-level site | `false` |
/// | `persistence = ".."` | `"browser"`: goes when the browser closes; `"persistent"`: stays as long as the session | `"browser"` |
/// | `idle = ".."` | how long a session lives without a request | `"30m"` |
/// | `absolute = ".."` | how long a session lives at the most | `"12h"` |
/// | `max_per_user = n` | how many sessions a user may have; the oldest give way | unlimited |
/// | `codec = ..` | `"bincode"`, `"json"`, or a type that implements `Codec` | `"bincode"` |
/// | `rename_all = ".."` | the case of stored names: `"camelCase"`, `"kebab-case"`, and serde's others | as written |
/// | `version = n` | the number of the layout: raise it when stored fields change, as `assert_schema!` asks for; the runtime does not look at it | `0` |
/// | `accessors = false` | generates no accessors | `true` |
/// | `crate = ..` | the path of `session_runtime` | `::session_runtime` |
///
/// Durations are numbers with `ms`, `s`, `m`, `h`, `d` or `w`: `"30m"`, `"12h"`, `"1h30m"`.
///
/// # On a field
///
/// | attribute | meaning |
/// | --- | --- |
/// | `user_id` | the user, an `Option` of a column value; changing it rotates the session id |
/// | `ip_addr` | the address, an `Option<IpAddr>`; filled by the runtime and compared on every load |
/// | `bind = ".."` | with `ip_addr`: `"exact"` (left out), `"prefix"` (24 bits of IPv4, 64 of IPv6), or `"off"` |
/// | `column`, `column = ".."` | copies the field into a column, in the clear, so that queries can find it |
/// | `index` | with `column`: indexes it |
/// | `flash` | readable on the next request, then gone; the field is an `Option`. To set the very value that the request has received is to leave it |
/// | `default = expr` | what a new session starts with, instead of `Default::default()` |
/// | `rename = ".."` | the stored name |
/// | `alias = ".."` | a name it was stored under before; may be repeated |
/// | `from = OldType` | the type it was stored as before, converted by `From` |
/// | `merge = ..` | what becomes of a field that two requests have changed: `"last"`, `"entries"`, `"append"`, `"sum"`, `"max"`, `"min"`, `"reject"`, or a function |
/// | `with = module` | encodes by `module::serialize` and `module::deserialize`, as in serde |
/// | `skip` | never stored: lives for one request |
/// | `secret` | shown as `<redacted>` by the generated `Debug`; never a column |
/// | `keep_on_logout` | outlives a log-out |
/// | `reset_on_login` | goes back to its default at a log-in |
/// | `accessor = ".."` | the name of its accessors |
/// | `accessors = false` | no accessors |
///
/// # What it generates
///
/// `impl Databag`; `HasUser` and `HasIp` where the field exists; and, with the visibility of the struct and the
/// docs of the field:
///
/// | for a field `x` of | are generated |
/// | --- | --- |
/// | any type | `x()`, `x_mut()`, `set_x(impl Into<..>)` |
/// | `Option<U>` | besides: `clear_x()`, `take_x()`; and `set_x` takes an `impl Into<U>` |
/// | the address | `x()` |
/// | a column | the constant `X`, for typed queries |
///
/// `x()` returns `&str` for `String`, `&[T]` for `Vec<T>`, a copy of numbers, `bool`, `char` and IP addresses, `&T`
/// otherwise, and an `Option` of the same for an `Option`. Where a field is `secret`, a redacting `Debug`.
///
/// Types are told by their names, as macros see nothing else: give a field `accessors = false` if its type is one
/// of yours that is called `String`, `Vec` or `Option`.
///
/// # Two requests at a time
///
/// Where two requests change one field, `merge` says what becomes of it:
///
/// | `merge = ..` | the field holds |
/// | --- | --- |
/// | `"last"`, the default | what the later request wrote |
/// | `"entries"`, the default of `BTreeMap`, `HashMap`, `BTreeSet` and `HashSet` | the additions, changes and removals of both; of an entry that both changed, the later one |
/// | `"append"` | a `Vec` without what either removed, then what the earlier request added, then what the later one did |
/// | `"sum"` | both differences added up, held at the ends of the number's range |
/// | `"max"`, `"min"` | the greater or the lesser value |
/// | `"reject"` | what the earlier request wrote; the later one is answered 409 |
/// | `path::to::function` | what `fn(base: &T, ours: &T, theirs: &T) -> T` returns |
///
/// A list that is held at a length, "the last ten", loses none that was added: it may be longer than that until it
/// is cut again. An item that is changed in place counts as one removed and one added.
///
/// What has changed is told by `==` where a type has it, and by its encoding elsewhere: derive `PartialEq` for types
/// that hold a `HashMap` or a `HashSet`, or another order of the same counts as a change.
///
/// # When the struct changes
///
/// Sessions outlive deployments. A new field starts from its default in sessions that are stored already, a
/// renamed one is found by `alias`, and one of another type is converted by `from`; a value that nobody reads is
/// kept. [`assert_schema!`](../session_runtime/macro.assert_schema.html) is a test that fails when the layout of
/// stored sessions changes, and says which of these to write. `version` is a number to raise with it.
///
/// # Mistakes
///
#[doc = include_str!("mistakes.md")]
#[proc_macro_derive(Databag, attributes(databag))]
pub fn derive_databag(input: TokenStream) -> TokenStream {
    databag(&parse_macro_input!(input as DeriveInput)).into()
}

/// Makes an enum without fields a column value: text, by the names of its variants.
///
/// Fields marked `#[databag(column)]` or `#[databag(user_id)]` may have it then. The text is for queries only;
/// what is stored in the session is what `Serialize` makes of the value.
///
/// ```text
/// #[derive(ColumnValue, Serialize, Deserialize)]
/// #[column(rename_all = "kebab-case")]
/// enum Theme {
///     Light,
///     #[column(rename = "night")]
///     Dark,
///     HighContrast,
/// }
/// ```
///
/// | attribute | on | meaning | left out |
/// | --- | --- | --- | --- |
/// | `rename = ".."` | a variant | the text that stands for it | its name |
/// | `rename_all = ".."` | the enum | the case of all other texts: `"kebab-case"`, and serde's others | as written |
/// | `crate = ..` | the enum | the path of `session_runtime` | `::session_runtime` |
///
/// Renaming a variant changes what queries look for; rows that hold the old text are found again once their
/// session has been written. Keep the old text by `rename`.
#[proc_macro_derive(ColumnValue, attributes(column))]
pub fn derive_column_value(input: TokenStream) -> TokenStream {
    column::derive(&parse_macro_input!(input as DeriveInput)).into()
}

fn databag(input: &DeriveInput) -> proc_macro2::TokenStream {
    let errors = Errors::default();
    let input = Input::read(input, &errors);
    match check::check(&input, errors) {
        Ok(bag) => expand::expand(&bag),
        Err(mistakes) => {
            let stubs = fallback::expand(&input);
            quote::quote! { #mistakes #stubs }
        }
    }
}
