//! The derive macro of Databag.
//!
//! Depend on `session-runtime`, not on this crate: the macro is documented at its re-export,
//! `session_runtime::Databag`.
//!
//! A struct passes through these modules: `attr` and `ast` read what was written, `check` turns it into a `model`
//! that cannot be invalid, and `expand` writes the code. `errors` collects the mistakes; if there are any,
//! `fallback` writes stubs, so that rustc does not report missing impls as well.

#![allow(clippy::single_match_else, reason = "the blocks that `quote!` expands to look like long branches")]

mod ast;
mod attr;
mod check;
mod column_value;
mod errors;
mod expand;
mod fallback;
mod model;
mod serde_attrs;
#[cfg(test)]
mod snapshots;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::ast::Input;
use crate::errors::Errors;

/// Makes a struct the content of a session.
///
/// The struct has named fields and needs no other derive. Every field must be `Serialize + DeserializeOwned`, and
/// have a `Default` or a `#[databag(default = ..)]`.
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
/// | attribute | meaning | default |
/// | --- | --- | --- |
/// | `name = ".."` | the bag's stored identity: sessions of one bag never open as another's, and its table belongs to it. To rename the struct or the package and keep the sessions, write the old name | package and struct, `shop/Shop` |
/// | `table = ".."` | the name of the table | `"sessions"` |
/// | `columns(id = "..", ..)` | the names of the runtime's columns: `id`, `state`, `user_id`, `ip_addr`, `created`, `expiration`, `revision` | the same names |
/// | `cookie = ".."` | the cookie's name | `"__Host-session"` |
/// | `path = ".."` | the cookie's `Path` | `"/"` |
/// | `domain = ".."` | the cookie's `Domain` | none: only this host |
/// | `same_site = ".."` | `"strict"`, `"lax"` or `"none"` | `"lax"` |
/// | `secure = false` | sends the cookie over plain HTTP too | `secure = true` |
/// | `partitioned` | gives every top-level site its own cookie | `false` |
/// | `persistence = ".."` | `"browser"`: the cookie is gone when the browser closes; `"persistent"`: it stays as long as the session | `"browser"` |
/// | `idle = ".."` | the idle expiry: how long a session lives without a request | `"30m"` |
/// | `absolute = ".."` | the absolute expiry: how long a session lives at most | `"12h"` |
/// | `remember = ".."` | how long a session lives that `Session::remember` has made a remembered one, used or not; its cookie outlives the browser | `"30d"` |
/// | `max_per_user = n` | how many sessions a user may have; a log-in ends the oldest other ones, in one step with it | unlimited |
/// | `codec = ..` | `"bincode"` (the feature `bincode`, a default one), `"json"`, or a type that implements `Codec` | `"bincode"` |
/// | `rename_all = ".."` | the case of stored names: `"camelCase"`, `"kebab-case"`, and serde's others | as written |
/// | `version = n` | the number of the layout: raise it when stored fields change, as `assert_schema!` asks; the runtime does not use it | `0` |
/// | `accessors = false` | generates no accessors | `accessors = true` |
/// | `crate = ..` | the path of `session_runtime` | `::session_runtime` |
///
/// Durations are numbers with `ms`, `s`, `m`, `h`, `d` or `w`: `"30m"`, `"12h"`, `"1h30m"`.
///
/// # On a field
///
/// | attribute | meaning |
/// | --- | --- |
/// | `user_id` | the user, an `Option` of a column value; a change rotates the session id. The field may be called `user` |
/// | `ip_addr` | the address, an `Option<IpAddr>`; the runtime sets it and compares it on every load |
/// | `bind = ".."` | with `ip_addr`: `"exact"` (default), `"prefix"` (24 bits of IPv4, 64 of IPv6), or `"off"` |
/// | `user_agent` | what the client says it is, an `Option<String>` of at most 256 bytes; the runtime sets it on every request of the visitor, for a page that lists their devices. Anyone can write anything there |
/// | `column`, `column = ".."` | copies the field into a column, unsealed, so that queries can find it; the docs of a store name the values that its columns cannot hold |
/// | `index` | with `column`: gives the column an index |
/// | `blind` | with `column`, `user_id` or `ip_addr`: the column holds a hash of the value under the key, so that queries find equal values and nobody reads one; see [below](#blind-columns) |
/// | `flash` | readable on the next request, then gone; the field is an `Option`. An `Option` of `String`, `Vec` or `Cow<'static, str>` that is set is for the next request, also if it equals the one that this request has received (so a copy of the received one is too); of other types, an equal value counts as received |
/// | `ttl = ".."` | how long a value stays after it was last changed; then the field, an `Option`, is `None`. A type that holds a `HashMap` or `HashSet` needs `==`, or each request changes it. What is stored of it goes with the next write of the session |
/// | `flow` | the field is `Flows<T>`, and keeps what leaves the site and comes back once, under a ticket; with `ttl = ".."`, by default 10 minutes |
/// | `default = expr` | the value in a new session, instead of `Default::default()` |
/// | `rename = ".."` | the stored name |
/// | `alias = ".."` | an earlier stored name; may be repeated. What is written has the new name, which programs with the old field do not find: while such run, keep the stored name by `rename` |
/// | `from = OldType` | the type as which the field was stored before, converted by `From` |
/// | `merge = ..` | how a field is merged that two requests have changed: `"last"`, `"entries"`, `"append"`, `"sum"`, `"max"`, `"min"`, `"reject"`, or a function |
/// | `with = module` | encodes with `module::serialize` and `module::deserialize`, as in serde |
/// | `codec = ..` | encodes this field by another codec than the bag's: `"json"` for a type that bincode cannot read back |
/// | `skip` | is never stored: the value lives for one request |
/// | `secret` | the generated `Debug` shows `<redacted>`; the field cannot be a column, unless that is `blind` |
/// | `keep_on_logout` | the value outlives a log-out |
/// | `reset_on_login` | a log-in resets the field to its default: for what belongs to one user, such as a role |
/// | `accessor = ".."` | the name of the accessors |
/// | `accessors = false` | generates no accessors |
///
/// # What it generates
///
/// `impl Databag`; `HasUser` and `HasIp` if the bag has the field; a redacting `Debug` if a field is `secret`; and,
/// with the visibility of the struct and the docs of the field:
///
/// | for a field `x` | the derive generates |
/// | --- | --- |
/// | of any type | `x()`, `x_mut()`, `set_x(impl Into<..>)`; an integer that no `i32` converts into needs its type, `set_visits(3_u32)` |
/// | of type `Option<U>` | also `clear_x()` and `take_x()`; `set_x` takes an `impl Into<U>` |
/// | that is the address | only `x()` |
/// | that is the user, the address or a column | the constant `X`, for typed queries |
///
/// `x()` returns `&str` for `String`, `&[T]` for `Vec<T>`, a copy of numbers, `bool`, `char` and IP addresses,
/// otherwise `&T`; and an `Option` of the same for an `Option`.
///
/// A macro knows a type only by its name: write `accessors = false` on a field if its type is your own and is called
/// `String`, `Vec` or `Option`.
///
/// # Conflicts
///
/// If two requests change the same field of a session, `merge` decides what the field holds:
///
/// | `merge = ..` | the field holds |
/// | --- | --- |
/// | `"last"`, the default | the value of the later write |
/// | `"entries"`, the default of `BTreeMap`, `HashMap`, `BTreeSet` and `HashSet` | the additions, changes and removals of both requests; for an entry that both changed, the value of the later write |
/// | `"append"` | a `Vec`: the items that neither request removed, then the additions of the earlier write, then those of the later write |
/// | `"sum"` | the sum of both changes, clamped to the range of the number |
/// | `"max"`, `"min"` | the greater or the lesser value |
/// | `"reject"` | the value of the earlier write; the later request is answered 409 |
/// | `path::to::function` | the result of `fn(base: &T, ours: &T, theirs: &T) -> T` |
///
/// With `"append"`, a list that the handlers cap, such as "the last ten", loses no addition: it may be longer until
/// it is capped again. An item that is changed in place counts as one removal and one addition.
///
/// A field has changed if its encoding differs, and its value by `==` if its type has that. So a change that the encoding
/// does not show, such as one of a part with `#[serde(skip)]` alone, is none. Derive
/// `PartialEq` for types that hold a `HashMap` or a `HashSet`; otherwise another order of the same content counts
/// as a change.
///
/// # What comes back
///
/// The encoding of a changed field is decoded again before it is stored, and compared with the field: by `==` if its type
/// has it, otherwise by its encoding. If it is not the same, the request is answered 500, the log names the field, and
/// what was stored before stays. So a type that loses something on its way, such as one with `#[serde(skip)]`, works as
/// long as what it loses has its default; and with a module that shortens a time to seconds, set whole seconds.
///
/// bincode does not store which type a value has. Types that ask for that (serde's `untagged`, `tag` and `flatten`,
/// `serde_json::Value`) are refused when sessions are built. Encode such a field by JSON, `codec = "json"`. JSON in turn
/// has no NaN and no infinities, does not tell `Some(None)` from `None`, and has only texts, numbers and the like as keys of maps. A value has
/// at most 128 levels.
///
/// Attributes of serde on the struct and its fields, such as `#[serde(skip)]`, are for other uses of the struct: they do not
/// change how a session is stored. Where `#[databag(..)]` has the same attribute and it is missing, a warning says so;
/// `#[allow(deprecated)]` on the field or the struct silences it. Without a derive of serde's on the struct rustc refuses them.
///
/// # Blind columns
///
/// `blind` puts a hash in the place of the value: 16 bytes (of bytes: 32 hexadecimal digits) of HMAC-SHA256 of the value, its type, the column, the table and the
/// bag, under a key that is derived from the master key. `eq`, `ne`, `one_of`, `is_none` and `is_some` find sessions as in any
/// other column, and so do `of_user`, `revoke_user` and `max_per_user`; `lt` and its like do not compile, because a hash has no
/// order.
///
/// Who reads the database without the key still learns which sessions of one table have equal values, how many have each, and
/// which have none; not the values, and not whether two columns, tables or bags have a value in common. Who has the key can
/// try values out: it does not hide an address or a short number from them.
///
/// After a new key was put in front, rows have hashes under the older key until they are written again, and queries look for
/// both. `Sessions::reseal_all` writes all of them. A log-in with `max_per_user` first writes the user's sessions again that
/// have a hash under an older key. So add a new key behind the old one in every process before you put it in front: a process
/// that lacks it does not find what the others write, neither for the limit nor to revoke it.
///
/// `danger_plaintext` has no key, and is refused.
///
/// A column that becomes blind needs another name, and so does one that is blind no more: `column = "email_hash", blind`, or
/// `columns(user_id = "user_hash")` on the struct. Under the old name `build` fails, because queries would not find the sessions
/// that are stored: a column of hashes has another type than one of values. The sessions that are stored before are not
/// accepted any more, as after any change of the name of a column. They are still there: if the change is taken back, those
/// of them that were to be revoked meanwhile live on until they expire. `Sessions::clear` ends them.
///
/// # When the struct changes
///
/// Sessions outlive deployments. In sessions that are stored already, a new field has its default, a renamed field
/// is found by `alias`, and a field of another type is converted by `from`. A stored value that no field reads is
/// kept. [`assert_schema!`](../session_runtime/macro.assert_schema.html) makes a test that fails if the layout of
/// stored sessions changes, and says which of these attributes to write. Raise `version` with each change.
///
/// # Mistakes
///
#[doc = include_str!("mistakes.md")]
#[proc_macro_derive(Databag, attributes(databag))]
pub fn derive_databag(input: TokenStream) -> TokenStream {
    databag(&parse_macro_input!(input as DeriveInput)).into()
}

/// Makes an enum without fields a column value: the name of the variant, as text.
///
/// Fields marked `#[databag(column)]` or `#[databag(user_id)]` can have the type. The text is for queries only: the
/// record holds the value as `Serialize` encodes it.
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
/// | attribute | on | meaning | default |
/// | --- | --- | --- | --- |
/// | `rename = ".."` | a variant | the text of the variant | its name |
/// | `rename_all = ".."` | the enum | the case of the other texts: `"kebab-case"`, and serde's others | as written |
/// | `crate = ..` | the enum | the path of `session_runtime` | `::session_runtime` |
///
/// After a variant is renamed, queries look for the new text, and find a stored session only after its next write.
/// `rename` keeps the old text.
#[proc_macro_derive(ColumnValue, attributes(column))]
pub fn derive_column_value(input: TokenStream) -> TokenStream {
    column_value::derive(&parse_macro_input!(input as DeriveInput)).into()
}

fn databag(input: &DeriveInput) -> proc_macro2::TokenStream {
    let errors = Errors::default();
    let warnings = serde_attrs::warnings(input);
    let input = Input::read(input, &errors);
    match check::check(&input, errors) {
        Ok(bag) => {
            let bag = expand::expand(&bag);
            quote::quote! { #bag #warnings }
        }
        Err(mistakes) => {
            let stubs = fallback::expand(&input);
            quote::quote! { #mistakes #stubs }
        }
    }
}
