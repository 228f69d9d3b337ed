//! Values as HTML. All text that is not in the source of the console goes through [`Text`].

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::token::{Hex, SessionId};
use crate::value::Value;

/// How many characters of a value are shown in a table; its title has all of them.
const SHOWN: usize = 48;

/// Text escaped for HTML, also within a quoted attribute.
pub(super) struct Text<'a>(pub(super) &'a str);

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

/// Text as a part of a query (RFC 3986 §2.3). Its output needs no escaping in HTML.
pub(super) struct Encoded<'a>(pub(super) &'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// Returns a value as text: as a filter reads it.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) => real.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => Hex(bytes).to_string(),
    }
}

/// The name of a column as a label: `last_login` is `Last login`.
pub(super) struct Label<'a>(pub(super) &'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
        Text(&first).fmt(f)?;
        Text(&chars.as_str().replace('_', " ")).fmt(f)
    }
}

/// Text that may be too long for a table.
pub(super) struct Short<'a>(pub(super) &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN) {
            None => Text(self.0).fmt(f),
            Some((end, _)) => {
                write!(f, "<span title=\"{}\">{}…</span>", Text(self.0), Text(&self.0[..end]))
            }
        }
    }
}

/// The first digits of a session id; the title has all of them.
pub(super) struct Id(pub(super) SessionId);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.to_string();
        write!(f, "<code title=\"{id}\">{}</code>", &id[..8])
    }
}

/// A browser and its system, by what it says it is; all of that is in the title.
pub(super) struct Browser<'a>(pub(super) &'a str);

impl fmt::Display for Browser<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Browsers name those that they are compatible with, so the order matters.
        const NAMES: [(&str, &str); 6] = [
            ("Edg/", "Edge"),
            ("OPR/", "Opera"),
            ("Firefox/", "Firefox"),
            ("Chrome/", "Chrome"),
            ("Safari/", "Safari"),
            ("curl/", "curl"),
        ];
        const SYSTEMS: [(&str, &str); 7] = [
            ("Android", "Android"),
            ("iPhone", "iPhone"),
            ("iPad", "iPad"),
            ("Windows", "Windows"),
            ("Mac OS X", "macOS"),
            ("CrOS", "ChromeOS"),
            ("Linux", "Linux"),
        ];
        let find = |known: &[(&str, &'static str)]| {
            known.iter().find(|(part, _)| self.0.contains(part)).map(|(_, name)| *name)
        };
        let Some(name) = find(&NAMES) else { return Short(self.0).fmt(f) };
        write!(f, "<span title=\"{}\">{name}", Text(self.0))?;
        if let Some(system) = find(&SYSTEMS) {
            write!(f, " on {system}")?;
        }
        f.write_str("</span>")
    }
}

/// A time in words, as seen at another one.
pub(super) struct Moment {
    pub(super) time: Timestamp,
    pub(super) now: Timestamp,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, now } = *self;
        let utc = Utc(time).to_string();
        write!(f, "<time datetime=\"{}Z\" title=\"{utc} UTC\">", utc.replace(' ', "T"))?;
        let (ago, ahead) = (now.saturating_since(time), time.saturating_since(now));
        if ahead >= Duration::from_mins(1) {
            write!(f, "in {}", Span(ahead))?;
        } else if ago >= Duration::from_mins(1) {
            write!(f, "{} ago", Span(ago))?;
        } else {
            f.write_str("just now")?;
        }
        f.write_str("</time>")
    }
}

/// A duration in its two largest units.
pub(super) struct Span(pub(super) Duration);

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

/// A time in UTC: `2030-03-17 17:46`.
pub(super) struct Utc(pub(super) Timestamp);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.as_millis().div_euclid(60_000);
        let (days, minute) = (minutes.div_euclid(1_440), minutes.rem_euclid(1_440));
        // Years that begin in March, in eras of 400: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + 400 * era + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02}", minute / 60, minute % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_place() {
        let evil = "<script>'\"&";
        assert_eq!(Text(evil).to_string(), "&lt;script&gt;&#39;&quot;&amp;");
        assert_eq!(Encoded("a b&c=é<\"").to_string(), "a%20b%26c%3D%C3%A9%3C%22");
        let long = format!("{evil}{}", "é".repeat(SHOWN));
        for shown in [Short(evil).to_string(), Short(&long).to_string(), Browser(&long).to_string()] {
            assert!(
                !shown.contains("<script>") && shown.contains("&lt;script&gt;&#39;&quot;&amp;"),
                "{shown}"
            );
        }
        let agent = format!("{evil} Firefox/1.0 (X11; Linux)");
        let shown = Browser(&agent).to_string();
        assert!(shown.ends_with("\">Firefox on Linux</span>") && !shown.contains("<script>"), "{shown}");
    }

    #[test]
    fn a_label_begins_with_a_capital_letter() {
        let shown = ["tenant", "last_login", "User", "élan", ""].map(|name| Label(name).to_string());
        assert_eq!(shown, ["Tenant", "Last login", "User", "Élan", ""]);
        assert_eq!(Label("<a_\"b").to_string(), "&lt;a &quot;b");
    }

    #[test]
    fn a_time_is_a_date() {
        for (millis, date) in [
            (0, "1970-01-01 00:00"),
            (951_782_400_000, "2000-02-29 00:00"),
            (1_900_000_000_000, "2030-03-17 17:46"),
            (4_107_542_399_000, "2100-02-28 23:59"),
            (4_107_542_400_000, "2100-03-01 00:00"),
            (-1, "1969-12-31 23:59"),
        ] {
            assert_eq!(Utc(Timestamp::from_millis(millis)).to_string(), date);
        }
        assert!(!Utc(Timestamp::from_millis(i64::MAX)).to_string().is_empty());
    }
}
