//! The pages: sessions enter, HTML leaves.
//!
//! All text from visitors is escaped by [`Text`].

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use session_runtime::{Session, SessionId, Snapshot};

use crate::{MAX_NAME, ShopSession, Theme};

const STYLE: &str = include_str!("style.css");

pub(crate) fn home(session: &Session<ShopSession>) -> String {
    let mut cards = String::new();
    for card in [who(session), cart(session), counter(session), preferences(session)] {
        cards.push_str(&card);
    }
    let notice = match session.notice() {
        Some(notice) => format!(r#"<p class="notice" role="status">{}</p>"#, Text(notice)),
        None => String::new(),
    };
    let api = include_str!("api.html");
    page(Some(session), "Shop", &format!("{notice}<div class=\"cards\">{cards}</div>{api}"))
}

pub(crate) fn devices(session: &Session<ShopSession>, devices: &[Snapshot<ShopSession>]) -> String {
    let mut rows = String::new();
    for device in devices {
        let id = device.id();
        let end = if id == session.id() {
            "<strong>this one</strong>".to_owned()
        } else {
            format!(
                r#"<form method="post" action="/devices/revoke">{}<button name="id" value="{id}">Sign out</button></form>"#,
                Token(session)
            )
        };
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{} ago</td><td>in {}</td><td>{end}</td></tr>",
            Id(id),
            Maybe(device.ip_addr()),
            Span(since(device.created())),
            Span(until(device.expires())),
        );
    }
    let body = format!(
        r#"<section class="card wide"><h2>Where you are signed in</h2>
        <table><thead><tr><th>Session</th><th>Address</th><th>Signed in</th><th>Ends</th><th></th></tr></thead>
        <tbody>{rows}</tbody></table>
        <form method="post" action="/devices/revoke-others">{}<button>Sign out everywhere else</button></form>
        <p class="hint">Sign in as the same user in another browser, and it shows up here.</p></section>"#,
        Token(session)
    );
    page(Some(session), "Devices", &body)
}

pub(crate) fn plain() -> String {
    let body = r#"<section class="card wide"><h2>A page without a session</h2>
        <p>The handler of this page asks for no session. So none was loaded: there was no access to the
        store, no cookie was read and none was set, whoever you are.</p></section>"#;
    page(None, "Plain", body)
}

fn page(session: Option<&Session<ShopSession>>, title: &str, body: &str) -> String {
    let theme = match session.map(|session| session.theme()) {
        None | Some(Theme::Light) => "light",
        Some(Theme::Dark) => "dark",
    };
    let user = session.and_then(|session| session.user_id());
    let (devices, user) = match (session, user) {
        (Some(_), Some(user)) => {
            (r#"<a href="/devices">Devices</a>"#, format!(r#"<span class="chip on">user {user}</span>"#))
        }
        (Some(_), None) => ("", r#"<span class="chip">not signed in</span>"#.to_owned()),
        (None, _) => ("", String::new()),
    };
    format!(
        r#"<!doctype html>
<html lang="en" data-theme="{theme}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Databag</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%23b4552d' d='M3 5h10l1 10H2zM5 5a3 3 0 0 1 6 0h-1a2 2 0 0 0-4 0z'/%3E%3C/svg%3E">
<style>{STYLE}</style>
</head>
<body>
<header><a class="brand" href="/">Databag <span>shop</span></a>
<nav><a href="/">Shop</a>{devices}<a href="/plain">Plain</a><a href="/api/session">JSON</a></nav>
{user}</header>
<main>{body}</main>
<footer>A demo: it asks for no password, and anybody can sign in as anybody. Do not put it on the internet.</footer>
</body>
</html>
"#
    )
}

fn who(session: &Session<ShopSession>) -> String {
    let (state, ends) = if session.is_new() {
        ("nothing is stored about you yet", String::new())
    } else {
        let ends = format!("<dt>Ends</dt><dd>in {}</dd>", Span(until(session.expires())));
        ("stored and sealed", ends)
    };
    let token = Token(session);
    let form = match session.user_id() {
        Some(_) => format!(
            r#"<form method="post" action="/logout">{token}<button>Sign out</button></form>
            <p class="hint"><a href="/devices">Where else are you signed in?</a></p>"#
        ),
        None => format!(
            r#"<form method="post" action="/login">{token}<label>User <input name="user" type="number" step="1" value="7" required></label>
            <button>Sign in</button></form>
            <p class="hint">Demo only: any number will do, and there is no password.</p>"#
        ),
    };
    format!(
        "<section class=\"card\"><h2>You</h2><dl><dt>User</dt><dd>{}</dd><dt>Address</dt><dd>{}</dd>\
         <dt>Session</dt><dd>{}</dd><dt>State</dt><dd>{state}</dd>{ends}</dl>{form}</section>",
        Maybe(session.user_id()),
        Maybe(session.ip_addr()),
        Id(session.id()),
    )
}

fn cart(session: &Session<ShopSession>) -> String {
    let mut lines = String::new();
    for (sku, qty) in session.cart() {
        let _ = write!(lines, "<tr><td>{}</td><td class=\"number\">{qty}</td></tr>", Text(sku));
    }
    let lines = match lines.as_str() {
        "" => "<p class=\"empty\">Your cart is empty.</p>".to_owned(),
        lines => format!("<table><tbody>{lines}</tbody></table>"),
    };
    format!(
        r#"<section class="card"><h2>Cart</h2>{lines}
        <form method="post" action="/cart">{}
        <label class="grow">What <input name="sku" list="goods" maxlength="{MAX_NAME}" value="tea" required></label>
        <label>How many <input name="qty" type="number" min="1" max="4294967295" value="1" required></label>
        <button>Add</button>
        <datalist id="goods"><option>tea<option>coffee<option>mug<option>kettle</datalist></form></section>"#,
        Token(session)
    )
}

fn counter(session: &Session<ShopSession>) -> String {
    format!(
        r#"<section class="card"><h2>Counter</h2><p class="big">{}</p>
        <form method="post">{}<button formaction="/count">Count</button>
        <button formaction="/count-plain" class="quiet">Count plainly</button></form>
        <p class="hint"><code>session.update(|shop| shop.count += 1)</code> never loses a count;
        <code>session.count += 1</code> is stored as the last writer has it.</p></section>"#,
        session.count(),
        Token(session)
    )
}

fn preferences(session: &Session<ShopSession>) -> String {
    let (theme, label) = match session.theme() {
        Theme::Light => ("dark", "Lights off"),
        Theme::Dark => ("light", "Lights on"),
    };
    format!(
        r#"<section class="card"><h2>Preferences</h2>
        <form method="post" action="/theme">{token}<button name="theme" value="{theme}">{label}</button></form>
        <form method="post" action="/tenant">{token}<label class="grow">Who you shop for <input name="tenant" maxlength="{MAX_NAME}" value="{}" placeholder="acme"></label>
        <button>Set</button></form>
        <p class="hint">The tenant has a column of its own, where queries find it. Cart, theme and counter are
        sealed.</p></section>"#,
        Text(session.tenant().unwrap_or_default()),
        token = Token(session)
    )
}

fn since(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}

fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// The field of a form that shows that the form is ours.
struct Token<'a>(&'a Session<ShopSession>);

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<input type="hidden" name="csrf_token" value="{}">"#, self.0.csrf_token())
    }
}

/// Text escaped for HTML, also within a quoted attribute.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A number or an address, or a dash.
struct Maybe<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("–"),
        }
    }
}

/// The first digits of a session id; the whole id is in its title.
struct Id(SessionId);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.to_string();
        write!(f, "<code title=\"{id}\">{}…</code>", &id[..8])
    }
}

/// A duration in its two largest units.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ ..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min", seconds / 60),
            seconds @ 3600..86_400 => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
            seconds => write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use session_runtime::Databag as _;

    use super::*;

    #[test]
    fn what_a_visitor_types_is_shown_and_not_obeyed() {
        let evil = "<script>'\"&";
        let session = Session::for_test(ShopSession {
            user_id: Some(7),
            ip_addr: None,
            tenant: Some(evil.to_owned()),
            notice: Some(evil.to_owned()),
            cart: BTreeMap::from([(evil.to_owned(), 1)]),
            theme: Theme::Dark,
            count: 0,
        });
        let page = home(&session);
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;&#39;&quot;&amp;").count(), 3);
    }

    #[test]
    fn each_form_has_a_token() {
        let mut session = Session::for_test(ShopSession::defaults());
        for user in [None, Some(7)] {
            session.user_id = user;
            for page in [home(&session), devices(&session, &[])] {
                let forms: Vec<&str> = page.split("<form method=\"post\"").skip(1).collect();
                assert!(!forms.is_empty());
                for form in forms {
                    let (_, rest) = form.split_once("name=\"csrf_token\" value=\"").expect("a token");
                    assert!(session.verify_csrf(rest.split('"').next().expect("its end")), "{form}");
                }
            }
        }
    }

    #[test]
    fn spans_are_shown_in_the_units_that_matter() {
        let shown = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!(shown(59), "59 s");
        assert_eq!(shown(1799), "29 min");
        assert_eq!(shown(12 * 3600 - 1), "11 h 59 min");
        assert_eq!(shown(14 * 86_400), "14 d 0 h");
    }
}
