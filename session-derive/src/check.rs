//! Turns the struct as it was written into a bag that cannot be invalid, or reports every mistake in it.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{GenericParam, Ident, LitStr, Type};

use crate::ast::{self, Input, inside, is_named};
use crate::attr::{Attributes, ColumnName, ColumnNames, FieldAttrs, Given, StructAttrs, WordOr};
use crate::errors::{Errors, listed, nearest};
use crate::model::{
    Accessors, Bag, Bind, Codec, Columns, Cookie, Field, Lifetime, Persistence, Role, SameSite, Stored,
    constant,
};

/// Checks everything that can be checked without knowing types.
pub(crate) fn check<'a>(input: &'a Input<'a>, errors: Errors) -> Result<Bag<'a>, TokenStream> {
    let bag = check_bag(input, &errors);
    errors.finish(bag)
}

fn check_bag<'a>(input: &'a Input<'a>, errors: &Errors) -> Bag<'a> {
    let StructAttrs {
        name,
        table,
        columns,
        cookie: _,
        path: _,
        domain: _,
        same_site: _,
        secure: _,
        partitioned: _,
        persistence: _,
        idle: _,
        absolute: _,
        max_per_user,
        codec,
        rename_all,
        version,
        accessors: _,
        krate: _,
    } = &input.attrs;

    refuse_lifetimes(input, errors);
    refuse_twins(input, errors);
    if let Some(name) = text(name)
        && name.value().is_empty()
    {
        errors.push(name, "`name` is empty", format_args!("write `name = \"{}\"`", input.ident));
    }
    if let Some(given) = max_per_user
        && !input.fields.iter().any(|field| field.attrs.user_id.is_some())
    {
        errors.push(
            &given.key,
            "`max_per_user` counts the sessions of a user, and this bag has no user",
            "mark the field that holds the user: `#[databag(user_id)] user_id: Option<i64>`",
        );
    }

    let cookie = check_cookie(&input.attrs, errors);
    let columns = check_columns(input, columns.as_ref().and_then(|given| given.value.as_ref()), errors);
    let fields =
        check_fields(input, choose("rename_all", rename_all, &CASES, errors).unwrap_or(Case::Snake), errors);
    check_accessors(input, errors);
    Bag {
        input,
        codec: check_codec(codec, errors),
        name: text(name).map_or_else(|| input.ident.unraw().to_string(), LitStr::value),
        table: match text(table) {
            Some(name) => {
                check_sql_name("table", name, errors);
                name.value()
            }
            None => "sessions".to_owned(),
        },
        columns,
        lifetime: check_lifetime(&input.attrs, cookie.persistence, errors),
        cookie,
        max_per_user: check_number(max_per_user, 1, errors),
        version: check_number(version, 0, errors).unwrap_or(0),
        fields,
    }
}

fn refuse_lifetimes(input: &Input<'_>, errors: &Errors) {
    for param in &input.generics.params {
        if let GenericParam::Lifetime(param) = param {
            errors.push(
                &param.lifetime,
                "a databag cannot borrow",
                "a session outlives the request: own the data, `String` for `&str`, `Vec<T>` for `&[T]`",
            );
        }
    }
}

fn refuse_twins(input: &Input<'_>, errors: &Errors) {
    for key in ["user_id", "ip_addr"] {
        let marked: Vec<_> =
            input.fields.iter().filter_map(|field| Some((field, field.attrs.key(key)?))).collect();
        let [(first, _), others @ ..] = marked.as_slice() else { continue };
        for (_, at) in others {
            errors.push(
                at,
                format_args!("`{key}` marks two fields"),
                format_args!("`{}` has it already; remove one of the two", first.ident),
            );
        }
    }
}

// Values

fn text(given: &Option<Given<LitStr>>) -> Option<&LitStr> {
    given.as_ref()?.value.as_ref()
}

fn check_number(given: &Option<Given<syn::LitInt>>, least: u32, errors: &Errors) -> Option<u32> {
    let given = given.as_ref()?;
    let value = given.value.as_ref()?;
    match value.base10_parse::<u32>() {
        Ok(number) if number >= least => Some(number),
        _ => {
            let key = &given.key;
            errors.push(
                value,
                format_args!("`{key}` must be from {least} to {}", u32::MAX),
                format_args!("write `{key} = 5`, or leave it out"),
            );
            None
        }
    }
}

/// Finds the meaning of a word that must be one of a few.
fn choose<T: Copy>(
    key: &str,
    given: &Option<Given<LitStr>>,
    choices: &[(&'static str, T)],
    errors: &Errors,
) -> Option<T> {
    choose_word(key, text(given)?, choices, "", errors)
}

fn choose_word<T: Copy>(
    key: &str,
    word: &LitStr,
    choices: &[(&'static str, T)],
    otherwise: &str,
    errors: &Errors,
) -> Option<T> {
    let written = word.value();
    let found = choices.iter().find(|(choice, _)| *choice == written);
    if found.is_none() {
        let words: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        let values = format!("its values are {}{otherwise}", listed(&words));
        let message = format!("`{written}` is no value of `{key}`");
        match nearest(&written, &words) {
            Some(meant) => errors.push(word, message, format_args!("write `{key} = \"{meant}\"`; {values}")),
            None => errors.push(word, message, values),
        }
    }
    found.map(|(_, choice)| *choice)
}

fn check_codec<'a>(given: &'a Option<Given<WordOr<Type>>>, errors: &Errors) -> Codec<'a> {
    #[derive(Clone, Copy)]
    enum Known {
        Bincode,
        Json,
    }
    match given.as_ref().and_then(|given| given.value.as_ref()) {
        Some(WordOr::Own(ty)) => Codec::Own(ty),
        Some(WordOr::Word(word)) => {
            let choices = [("bincode", Known::Bincode), ("json", Known::Json)];
            let otherwise = ", and the path of a type that implements `Codec`, without quotes";
            match choose_word("codec", word, &choices, otherwise, errors) {
                Some(Known::Json) => Codec::Json,
                Some(Known::Bincode) | None => Codec::Bincode,
            }
        }
        None => Codec::Bincode,
    }
}

// Durations

const DEFAULT_IDLE: &str = "30m";
const DEFAULT_ABSOLUTE: &str = "12h";
const DAY: u64 = 24 * 60 * 60 * 1000;
/// What RFC 6265bis §5.5 lets a cookie live.
const COOKIE_LIMIT: u64 = 400 * DAY;
const LIMIT: u64 = 100 * 365 * DAY;

fn check_lifetime(attrs: &StructAttrs, persistence: Persistence, errors: &Errors) -> Lifetime {
    let idle = check_duration("idle", &attrs.idle, DEFAULT_IDLE, errors);
    let absolute = check_duration("absolute", &attrs.absolute, DEFAULT_ABSOLUTE, errors);
    let (Some((idle, idle_text)), Some((absolute, absolute_text))) = (idle, absolute) else {
        return Lifetime { idle: 1, absolute: 1 };
    };
    if idle > absolute {
        let message = format!("`idle` ({idle_text}) exceeds `absolute` ({absolute_text})");
        match (text(&attrs.idle), text(&attrs.absolute)) {
            (Some(at), None) => errors.push(
                at,
                message,
                format_args!("`absolute` is {DEFAULT_ABSOLUTE} where it is left out; write `absolute = \"{idle_text}\"` or more"),
            ),
            (None, Some(at)) => errors.push(
                at,
                message,
                format_args!("`idle` is {DEFAULT_IDLE} where it is left out; write `idle = \"{absolute_text}\"` or less"),
            ),
            (at, _) => errors.push(
                at,
                message,
                format_args!("no session lives longer than `absolute`; write `idle = \"{absolute_text}\"` or less"),
            ),
        }
    }
    if persistence == Persistence::Persistent && absolute > COOKIE_LIMIT {
        errors.push(
            text(&attrs.absolute),
            format_args!("`absolute` ({absolute_text}) exceeds what a persistent cookie can live"),
            "browsers cap a cookie's life at 400 days (RFC 6265bis); write `absolute = \"400d\"` or less",
        );
    }
    Lifetime { idle, absolute }
}

fn check_duration(
    key: &str,
    given: &Option<Given<LitStr>>,
    default: &str,
    errors: &Errors,
) -> Option<(u64, String)> {
    let Some(given) = given else { return Some((parse_duration(default)?, default.to_owned())) };
    let literal = given.value.as_ref()?;
    let written = literal.value();
    let help = format!("write `{key} = \"{default}\"`; the units are `ms`, `s`, `m`, `h`, `d` and `w`");
    match parse_duration(&written) {
        None => errors.push(literal, format_args!("`{written}` is not a duration"), help),
        Some(0) => errors.push(literal, format_args!("`{key}` is zero: no session would live"), help),
        Some(LIMIT..) => errors.push(literal, format_args!("`{key}` exceeds 100 years"), help),
        Some(duration) => return Some((duration, written)),
    }
    None
}

/// Reads `"1h30m"` as milliseconds.
fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = None;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "d" => DAY,
            "w" => 7 * DAY,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(factor)?;
        total = Some(total.unwrap_or(0_u64).checked_add(part)?);
        rest = behind;
    }
    total
}

// The cookie

/// The prefixes that browsers enforce (RFC 6265bis §4.1.3); all of them ask for `Secure`.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Host-", "__Http-", "__Secure-"];

fn check_cookie(attrs: &StructAttrs, errors: &Errors) -> Cookie {
    let name = text(&attrs.cookie).map_or_else(|| "__Host-session".to_owned(), LitStr::value);
    let path = text(&attrs.path).map_or_else(|| "/".to_owned(), LitStr::value);
    let domain = text(&attrs.domain).map(LitStr::value);
    let same_sites = [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let same_site = choose("same_site", &attrs.same_site, &same_sites, errors).unwrap_or(SameSite::Lax);
    let persistences = [("browser", Persistence::Browser), ("persistent", Persistence::Persistent)];
    let persistence =
        choose("persistence", &attrs.persistence, &persistences, errors).unwrap_or(Persistence::Browser);
    let switch = |given: &Option<Given<crate::attr::Switch>>| Some(given.as_ref()?.value.as_ref()?.0);
    let secure = switch(&attrs.secure).unwrap_or(true);
    let partitioned = switch(&attrs.partitioned).unwrap_or(false);

    if let Some(literal) = text(&attrs.cookie) {
        check_cookie_name(literal, errors);
    }
    if let Some(literal) = text(&attrs.path) {
        check_cookie_path(literal, errors);
    }
    if let Some(literal) = text(&attrs.domain) {
        check_cookie_domain(literal, errors);
    }
    check_cookie_prefix(attrs, &name, &path, secure, errors);
    if !secure && same_site == SameSite::None {
        errors.push(
            text(&attrs.same_site),
            "`same_site = \"none\"` needs `secure`",
            "browsers drop such a cookie unless it is `Secure`; remove `secure = false`, or write `same_site = \"lax\"`",
        );
    }
    if let Some(given) = attrs.partitioned.as_ref().filter(|_| partitioned && !secure) {
        errors.push(
            &given.key,
            "`partitioned` needs `secure`",
            "browsers drop such a cookie unless it is `Secure`; remove `secure = false` or `partitioned`",
        );
    }
    Cookie { name, path, domain, same_site, secure, partitioned, persistence }
}

fn check_cookie_name(literal: &LitStr, errors: &Errors) {
    let name = literal.value();
    let is_token = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c);
    if name.is_empty() {
        errors.push(
            literal,
            "the cookie has no name",
            "write `cookie = \"__Host-session\"`, or leave it out",
        );
    } else if let Some(wrong) = name.chars().find(|c| !is_token(*c)) {
        let kept: String = name.chars().filter(|c| is_token(*c)).collect();
        errors.push(
            literal,
            format_args!("a cookie's name cannot hold {wrong:?}"),
            format_args!(
                "write `cookie = \"{kept}\"`: letters, digits and ``!#$%&'*+-.^_`|~`` (RFC 6265bis)"
            ),
        );
    }
    for prefix in PREFIXES {
        let written = name.get(..prefix.len()).filter(|written| written.eq_ignore_ascii_case(prefix));
        if let Some(written) = written {
            if written != prefix {
                errors.push(
                    literal,
                    format_args!("the prefix `{prefix}` is written `{written}`"),
                    format_args!("write `cookie = \"{prefix}{}\"`", &name[prefix.len()..]),
                );
            }
            break;
        }
    }
}

fn check_cookie_prefix(attrs: &StructAttrs, name: &str, path: &str, secure: bool, errors: &Errors) {
    let Some(prefix) = PREFIXES.into_iter().find(|prefix| name.starts_with(prefix)) else { return };
    let stem = &name[prefix.len()..];
    let called = match attrs.cookie {
        Some(_) => format!("a cookie named `{name}`"),
        None => format!("the cookie's default name, `{name}`"),
    };
    if let Some(given) = attrs.secure.as_ref().filter(|_| !secure) {
        errors.push(
            &given.key,
            format_args!("`secure = false` cannot be combined with {called}"),
            format_args!("browsers drop a `{prefix}` cookie that is not `Secure`; write `cookie = \"{stem}\"`, or remove `secure = false`"),
        );
    }
    if !prefix.starts_with("__Host-") {
        return;
    }
    if let Some(given) = &attrs.domain {
        errors.push(
            &given.key,
            format_args!("`domain` cannot be combined with {called}"),
            format_args!("browsers drop a `{prefix}` cookie that has a domain; write `cookie = \"__Secure-{stem}\"`, or remove `domain`"),
        );
    }
    if let Some(given) = attrs.path.as_ref().filter(|_| path != "/") {
        errors.push(
            &given.key,
            format_args!("`path = \"{path}\"` cannot be combined with {called}"),
            format_args!("browsers drop a `{prefix}` cookie whose path is not `/`; write `cookie = \"__Secure-{stem}\"`, or remove `path`"),
        );
    }
}

fn check_cookie_path(literal: &LitStr, errors: &Errors) {
    let path = literal.value();
    if !path.starts_with('/') {
        errors.push(
            literal,
            format_args!("the path `{path}` does not start with `/`"),
            format_args!("write `path = \"/{path}\"`"),
        );
    }
    if let Some(wrong) = path.chars().find(|c| *c == ';' || !(c.is_ascii_graphic() || *c == ' ')) {
        errors.push(
            literal,
            format_args!("a cookie's path cannot hold {wrong:?}"),
            "write it as it stands in a request, percent-encoded: `path = \"/caf%C3%A9\"`",
        );
    }
}

fn check_cookie_domain(literal: &LitStr, errors: &Errors) {
    let domain = literal.value();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if let Some(bare) = domain.strip_prefix('.').filter(|bare| bare.split('.').all(is_label)) {
        errors.push(
            literal,
            format_args!("the domain `{domain}` starts with a dot"),
            format_args!("write `domain = \"{bare}\"`: it covers the subdomains either way"),
        );
    } else if domain.len() > 253 || !domain.split('.').all(is_label) {
        errors.push(
            literal,
            format_args!("`{domain}` is not a domain"),
            "write `domain = \"example.com\"`: no scheme, no port, no path; other scripts as punycode",
        );
    }
}

// Names in SQL

/// PostgreSQL cuts off what is longer; MySQL takes 64 characters.
const SQL_NAME_LIMIT: usize = 63;

fn check_sql_name(what: &str, literal: &LitStr, errors: &Errors) {
    let name = literal.value();
    if name.is_empty() {
        errors.push(
            literal,
            format_args!("the name of a {what} is empty"),
            "name it, or leave the attribute out",
        );
    } else if name.len() > SQL_NAME_LIMIT {
        errors.push(
            literal,
            format_args!("the name of a {what} has {} bytes", name.len()),
            format_args!("PostgreSQL cuts names after {SQL_NAME_LIMIT} bytes; write a shorter one"),
        );
    } else if name.contains('\0') {
        errors.push(
            literal,
            format_args!("the name of a {what} holds a NUL"),
            format_args!("write `\"{}\"`", name.replace('\0', "")),
        );
    } else if what == "table" && name.to_ascii_lowercase().starts_with("sqlite_") {
        errors.push(
            literal,
            "SQLite keeps names that begin with `sqlite_` to itself",
            format_args!("write `table = \"{}\"`", &name["sqlite_".len()..]),
        );
    }
}

fn check_columns(input: &Input<'_>, given: Option<&ColumnNames>, errors: &Errors) -> Columns {
    let unnamed = ColumnNames::default();
    let ColumnNames { id, state, user_id, ip_addr, created, expiration, revision } =
        given.unwrap_or(&unnamed);
    let own = [
        ("id", id),
        ("state", state),
        ("user_id", user_id),
        ("ip_addr", ip_addr),
        ("created", created),
        ("expiration", expiration),
        ("revision", revision),
    ];
    let owner = |column: &str| format!("the runtime's `{column}`");
    let left_out = own.iter().filter(|(_, given)| given.is_none());
    let mut taken: Vec<_> = left_out.map(|(column, _)| ((*column).to_owned(), owner(column))).collect();
    for (column, given) in own {
        if let Some(literal) = text(given) {
            check_sql_name("column", literal, errors);
            take_column(&mut taken, literal, &literal.value(), owner(column), errors);
        }
    }
    for field in &input.fields {
        let Some(Given { key, value: Some(ColumnName(literal)) }) = &field.attrs.column else { continue };
        if let Some(literal) = literal {
            check_sql_name("column", literal, errors);
        }
        let at = literal.as_ref().map_or(key.to_token_stream(), LitStr::to_token_stream);
        let name = column_name(field.ident, literal.as_ref());
        take_column(&mut taken, at, &name, format!("`{}`", field.ident), errors);
    }

    let name = |default: &str, given| text(given).map_or_else(|| default.to_owned(), LitStr::value);
    Columns {
        id: name("id", id),
        state: name("state", state),
        user_id: name("user_id", user_id),
        ip_addr: name("ip_addr", ip_addr),
        created: name("created", created),
        expiration: name("expiration", expiration),
        revision: name("revision", revision),
    }
}

/// Notes whose column `name` is, unless it has an owner. SQL does not tell upper case from lower.
fn take_column(
    taken: &mut Vec<(String, String)>,
    at: impl ToTokens,
    name: &str,
    owner: String,
    errors: &Errors,
) {
    let lower = name.to_lowercase();
    if let Some((_, other)) = taken.iter().find(|(other, _)| *other == lower) {
        errors.push(
            at,
            format_args!("the column `{name}` is also the column of {other}"),
            format_args!("SQL does not tell upper case from lower; write another name, as `\"{lower}_2\"`"),
        );
    }
    taken.push((lower, owner));
}

fn column_name(ident: &Ident, literal: Option<&LitStr>) -> String {
    literal.map_or_else(|| ident.unraw().to_string(), LitStr::value)
}

// Fields

/// Attributes of a field that exclude each other, and why. The second is the one at fault.
const CONFLICTS: [(&str, &str, &str); 31] = [
    (
        "user_id",
        "ip_addr",
        "the user and the address are two fields; write `#[databag(ip_addr)] ip_addr: Option<IpAddr>`",
    ),
    (
        "user_id",
        "column",
        "the user has a column already; its name is set on the struct: `columns(user_id = \"..\")`",
    ),
    (
        "ip_addr",
        "column",
        "the address has a column already; its name is set on the struct: `columns(ip_addr = \"..\")`",
    ),
    ("user_id", "flash", "a user stays until the log-out; remove `flash`"),
    ("ip_addr", "flash", "the address stays as long as the session; remove `flash`"),
    ("flash", "column", "a flash is gone before a query could find it; remove `column` or `flash`"),
    ("user_id", "default", "a new session has no user; remove `default`"),
    ("ip_addr", "default", "the address is filled from the connection; remove `default`"),
    ("user_id", "keep_on_logout", "a log-out removes the user; remove `keep_on_logout`"),
    ("ip_addr", "keep_on_logout", "the address is filled from the connection; remove `keep_on_logout`"),
    ("user_id", "reset_on_login", "a log-in sets the user; remove `reset_on_login`"),
    ("ip_addr", "reset_on_login", "the address is filled from the connection; remove `reset_on_login`"),
    ("user_id", "merge", "users are not merged; remove `merge`"),
    ("ip_addr", "merge", "the address is filled from the connection; remove `merge`"),
    (
        "secret",
        "column",
        "a column is stored in the clear; remove `column`, or keep the field secret by leaving it in the record",
    ),
    ("secret", "user_id", "the user's column is stored in the clear; remove `secret`"),
    ("secret", "ip_addr", "the address's column is stored in the clear; remove `secret`"),
    (
        "with",
        "column",
        "a column holds the value itself, not what `with` makes of it; remove `column` or `with`",
    ),
    (
        "with",
        "user_id",
        "the user's column holds the value itself, not what `with` makes of it; remove `with`",
    ),
    (
        "with",
        "ip_addr",
        "the address's column holds the value itself, not what `with` makes of it; remove `with`",
    ),
    ("skip", "user_id", SKIPPED),
    ("skip", "ip_addr", SKIPPED),
    ("skip", "column", SKIPPED),
    ("skip", "flash", SKIPPED),
    ("skip", "rename", SKIPPED),
    ("skip", "alias", SKIPPED),
    ("skip", "from", SKIPPED),
    ("skip", "with", SKIPPED),
    ("skip", "merge", SKIPPED),
    ("skip", "keep_on_logout", SKIPPED),
    ("skip", "reset_on_login", SKIPPED),
];
const SKIPPED: &str = "a skipped field lives for one request and is never stored; remove one of the two";

/// Attributes of a field that mean nothing alone.
const REQUIREMENTS: [(&str, &str, &str); 2] = [
    ("index", "column", "write `column, index`; the user's column has an index anyway"),
    ("bind", "ip_addr", "write `ip_addr, bind = \"..\"` on the field of the address"),
];

fn check_fields<'a>(input: &'a Input<'a>, case: Case, errors: &Errors) -> Vec<Field<'a>> {
    let mut names = Names::default();
    input.fields.iter().map(|field| check_field(field, case, &mut names, errors)).collect()
}

fn check_field<'a>(field: &'a ast::Field<'a>, case: Case, names: &mut Names, errors: &Errors) -> Field<'a> {
    let FieldAttrs {
        user_id,
        ip_addr: _,
        bind: _,
        column: _,
        index: _,
        flash,
        default,
        rename,
        alias,
        from,
        merge,
        with,
        skip,
        secret,
        keep_on_logout,
        reset_on_login,
        accessor: _,
        accessors: _,
    } = &field.attrs;

    check_combinations(&field.attrs, errors);
    check_merge(merge, errors);
    if skip.is_none() {
        refuse_borrowed(field, errors);
    }
    if user_id.is_none() && flash.is_some() && inside(field.ty, "Option").is_none() {
        errors.push(
            field.ty,
            "`flash` needs an `Option`",
            format_args!(
                "write `{}: Option<{}>`: the next request takes the value away",
                field.ident,
                shown(field.ty)
            ),
        );
    }
    let from = from.as_ref().and_then(|given| given.value.as_ref());
    if let Some(from) = from
        && shown(from) == shown(field.ty)
    {
        errors.push(
            from,
            "`from` names the field's own type",
            "write the type it was stored as before, or remove `from`",
        );
    }
    let stored = skip.is_none().then(|| Stored {
        name: names.add_field(field.ident, text(rename), case, errors),
        aliases: alias
            .iter()
            .filter_map(|alias| alias.value.as_ref())
            .map(|alias| names.add(field.ident, alias, alias.value(), errors))
            .collect(),
        role: check_role(field, errors),
        from,
        with: with.as_ref().and_then(|given| given.value.as_ref()),
        flash: flash.is_some(),
        keep_on_logout: keep_on_logout.is_some(),
        reset_on_login: reset_on_login.is_some(),
    });
    Field {
        ident: field.ident,
        ty: field.ty,
        default: default.as_ref().and_then(|given| given.value.as_ref()),
        secret: secret.is_some(),
        stored,
    }
}

fn check_combinations(attrs: &FieldAttrs, errors: &Errors) {
    for (one, other, help) in CONFLICTS {
        if attrs.key(one).is_some()
            && let Some(at) = attrs.key(other)
        {
            errors.push(at, format_args!("`{one}` cannot be combined with `{other}`"), help);
        }
    }
    for (one, other, help) in REQUIREMENTS {
        if let Some(at) = attrs.key(one)
            && attrs.key(other).is_none()
        {
            errors.push(at, format_args!("`{one}` needs `{other}`"), help);
        }
    }
}

fn check_merge(merge: &Option<Given<WordOr<syn::Path>>>, errors: &Errors) {
    const POLICIES: [(&str, ()); 7] = [
        ("last", ()),
        ("entries", ()),
        ("append", ()),
        ("sum", ()),
        ("max", ()),
        ("min", ()),
        ("reject", ()),
    ];
    if let Some(Given { value: Some(WordOr::Word(word)), .. }) = merge {
        let otherwise = ", and the path of a function, without quotes";
        choose_word("merge", word, &POLICIES, otherwise, errors);
    }
}

fn refuse_borrowed(field: &ast::Field<'_>, errors: &Errors) {
    let ty = inside(field.ty, "Option").unwrap_or(field.ty);
    if let Type::Reference(reference) = ty {
        let owned = match &*reference.elem {
            ty if is_named(ty, &["str"]) => "String".to_owned(),
            Type::Slice(slice) => format!("Vec<{}>", shown(&slice.elem)),
            ty => shown(ty),
        };
        errors.push(
            ty,
            "a databag cannot borrow",
            format_args!("a session outlives the request: write `{owned}`"),
        );
    }
}

fn check_role<'a>(field: &'a ast::Field<'a>, errors: &Errors) -> Role<'a> {
    let ident = field.ident;
    let optional = inside(field.ty, "Option");
    if field.attrs.user_id.is_some() {
        if optional.is_none() {
            errors.push(
                field.ty,
                "the user is an `Option`: nobody is signed in at first",
                format_args!("write `{ident}: Option<{}>`", shown(field.ty)),
            );
        }
        return Role::User(optional.unwrap_or(field.ty));
    }
    if field.attrs.ip_addr.is_some() {
        if !optional.is_some_and(|ty| is_named(ty, &["IpAddr"])) {
            errors.push(
                field.ty,
                "the address is an `Option<IpAddr>`: it is not always known",
                format_args!("write `{ident}: Option<std::net::IpAddr>`"),
            );
        }
        let binds = [("exact", Bind::Exact), ("prefix", Bind::Prefix), ("off", Bind::Off)];
        return Role::Ip(choose("bind", &field.attrs.bind, &binds, errors).unwrap_or(Bind::Exact));
    }
    match &field.attrs.column {
        Some(Given { value: Some(ColumnName(literal)), .. }) => {
            Role::Column { name: column_name(ident, literal.as_ref()), index: field.attrs.index.is_some() }
        }
        _ => Role::Plain,
    }
}

/// The names that fields are stored under, older ones included.
#[derive(Default)]
struct Names {
    taken: Vec<Stem>,
}

struct Stem {
    name: String,
    tag: u32,
    field: String,
}

impl Names {
    fn add_field(&mut self, ident: &Ident, rename: Option<&LitStr>, case: Case, errors: &Errors) -> String {
        match rename {
            Some(literal) => self.add(ident, literal, literal.value(), errors),
            None => self.add(ident, ident, case.apply(&ident.unraw().to_string()), errors),
        }
    }

    fn add(&mut self, ident: &Ident, at: impl ToTokens, name: String, errors: &Errors) -> String {
        let tag = tag(&name);
        let field = ident.unraw().to_string();
        if name.is_empty() {
            errors.push(
                &at,
                "a stored name is empty",
                format_args!("write `rename = \"{field}\"`, or leave it out"),
            );
        } else if name.starts_with('#') {
            errors.push(
                &at,
                format_args!("the stored name `{name}` starts with `#`"),
                format_args!(
                    "the record keeps such names to itself; write `\"{}\"`",
                    name.trim_start_matches('#')
                ),
            );
        } else if let Some(twin) = self.taken.iter().find(|other| other.tag == tag) {
            let message = if twin.name == name {
                format!("`{field}` is stored as `{name}`, which is also a name of `{}`", twin.field)
            } else {
                format!("the stored names `{name}` and `{}` have the same 32-bit tag", twin.name)
            };
            errors.push(&at, message, format_args!("give it another name: `rename = \"{field}_2\"`"));
        }
        self.taken.push(Stem { name: name.clone(), tag, field });
        name
    }
}

/// 32 bits of FNV-1a: what a record calls a field.
fn tag(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// serde's `rename_all`.
#[derive(Clone, Copy)]
enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

const CASES: [(&str, Case); 8] = [
    ("lowercase", Case::Lower),
    ("UPPERCASE", Case::Upper),
    ("PascalCase", Case::Pascal),
    ("camelCase", Case::Camel),
    ("snake_case", Case::Snake),
    ("SCREAMING_SNAKE_CASE", Case::ScreamingSnake),
    ("kebab-case", Case::Kebab),
    ("SCREAMING-KEBAB-CASE", Case::ScreamingKebab),
];

impl Case {
    /// Rewrites the name of a field, which is in snake case.
    fn apply(self, field: &str) -> String {
        let upper = || field.to_ascii_uppercase();
        let pascal = || {
            let capitalised = |word: &str| {
                let first = word.chars().next().map(|c| c.to_ascii_uppercase());
                first.into_iter().chain(word.chars().skip(1)).collect::<String>()
            };
            field.split('_').map(capitalised).collect::<String>()
        };
        match self {
            Self::Lower | Self::Snake => field.to_owned(),
            Self::Upper | Self::ScreamingSnake => upper(),
            Self::Pascal => pascal(),
            Self::Camel => {
                let pascal = pascal();
                let first = pascal.chars().next().map(|c| c.to_ascii_lowercase());
                first.into_iter().chain(pascal.chars().skip(1)).collect()
            }
            Self::Kebab => field.replace('_', "-"),
            Self::ScreamingKebab => upper().replace('_', "-"),
        }
    }
}

// Accessors

/// The methods of `Session`, which an accessor of the bag would never be called instead of.
const SESSION_METHODS: [&str; 14] = [
    "id",
    "is_new",
    "created",
    "expires",
    "log_in",
    "log_out",
    "rotate",
    "destroy",
    "remember",
    "save",
    "reload",
    "update",
    "csrf_token",
    "verify_csrf",
];

fn check_accessors(input: &Input<'_>, errors: &Errors) {
    let mut taken: Vec<(String, &Ident)> = Vec::new();
    for field in &input.fields {
        check_accessor_name(field, errors);
        if let Some(accessors) = Accessors::of(input, field) {
            let at =
                text(&field.attrs.accessor).map_or(field.ident.to_token_stream(), LitStr::to_token_stream);
            let stem = field.ident.unraw();
            let help = format!("name it: `accessor = \"{stem}_value\"`");
            for name in accessors.names() {
                let owner = taken.iter().find(|(other, _)| *other == name);
                if SESSION_METHODS.contains(&name.as_str()) {
                    errors.push(
                        &at,
                        format_args!("the accessor `{name}` is hidden by `Session::{name}`"),
                        help,
                    );
                    break;
                } else if name == "user" {
                    errors.push(&at, "the accessor `user` is hidden by `LoggedIn::user`", help);
                    break;
                } else if let Some((_, owner)) = owner {
                    errors.push(&at, format_args!("`{name}` is also an accessor of `{owner}`"), help);
                    break;
                }
                taken.push((name, field.ident));
            }
        }
        if let Some(constant) = constant(field) {
            let name = constant.to_string();
            let owner =
                taken.iter().find(|(other, _)| *other == name).map(|(_, owner)| format!("of `{owner}`"));
            let owner = owner.or_else(|| (name == "SCHEMA").then(|| "of `Databag`".to_owned()));
            if let Some(owner) = owner {
                errors.push(
                    field.ident,
                    format_args!("the column constant `{name}` is also a name {owner}"),
                    format_args!(
                        "rename the field, and keep what is stored: `rename = \"{}\"`",
                        field.ident.unraw()
                    ),
                );
            }
            taken.push((name, field.ident));
        }
    }
}

fn check_accessor_name(field: &ast::Field<'_>, errors: &Errors) {
    let Some(given) = &field.attrs.accessor else { return };
    let off = |given: &Given<crate::attr::Switch>| given.value.as_ref().is_some_and(|switch| !switch.0);
    if field.attrs.accessors.as_ref().is_some_and(off) {
        errors.push(
            &given.key,
            "`accessors = false` cannot be combined with `accessor`",
            "remove `accessor`, or remove `accessors = false`",
        );
    }
    if let Some(literal) = &given.value
        && literal.parse::<Ident>().is_err()
    {
        errors.push(
            literal,
            format_args!("`{}` cannot name a method", literal.value()),
            format_args!("write `accessor = \"{}\"`", field.ident.unraw()),
        );
    }
}

/// A type as its user would write it.
fn shown(ty: &Type) -> String {
    let spaced = ty.to_token_stream().to_string();
    [(" < ", "<"), (" > ", ">"), (" >", ">"), (" :: ", "::"), (" , ", ", "), ("& ", "&")]
        .iter()
        .fold(spaced, |shown, (from, to)| shown.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        assert_eq!(parse_duration("90s"), Some(90_000));
        assert_eq!(parse_duration("1h30m"), Some(90 * 60_000));
        assert_eq!(parse_duration("2w1d500ms"), Some(15 * DAY + 500));
        for wrong in ["", "30", "m", "30 m", "-5m", "1.5h", "5y", "99999999999999999999d", "ümlaut"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn stored_names_follow_serdes_cases() {
        let apply = |case: Case| case.apply("signed_in_at");
        assert_eq!(
            CASES.map(|(_, case)| apply(case)),
            [
                "signed_in_at",
                "SIGNED_IN_AT",
                "SignedInAt",
                "signedInAt",
                "signed_in_at",
                "SIGNED_IN_AT",
                "signed-in-at",
                "SIGNED-IN-AT",
            ]
        );
    }
}
