//! Checks the durations: how long a session lives.

use syn::LitStr;

use crate::attr::{Entry, StructAttrs};
use crate::errors::Errors;
use crate::model::{Lifetime, Persistence};

const DEFAULT_IDLE: &str = "30m";
const DEFAULT_ABSOLUTE: &str = "12h";
const DEFAULT_REMEMBER: &str = "30d";
const DAY: u64 = 24 * 60 * 60 * 1000;
/// The longest lifetime of a cookie (RFC 6265bis §5.5).
const COOKIE_LIMIT: u64 = 400 * DAY;
const LIMIT: u64 = 100 * 365 * DAY;

pub(super) fn check_lifetime(attrs: &StructAttrs, persistence: Persistence, errors: &Errors) -> Lifetime {
    let idle = check_duration("idle", &attrs.idle, DEFAULT_IDLE, errors);
    let absolute = check_duration("absolute", &attrs.absolute, DEFAULT_ABSOLUTE, errors);
    let remember = check_duration("remember", &attrs.remember, DEFAULT_REMEMBER, errors);
    let (Some((idle, idle_text)), Some((absolute, absolute_text)), Some((remember, remember_text))) =
        (idle, absolute, remember)
    else {
        return Lifetime { idle: 1, absolute: 1, remember: 1 };
    };
    if idle > absolute {
        let message = format!("`idle` ({idle_text}) exceeds `absolute` ({absolute_text})");
        match (attrs.idle.value(), attrs.absolute.value()) {
            (Some(at), None) => errors.push(
                at,
                message,
                format_args!("the default of `absolute` is {DEFAULT_ABSOLUTE}; write `absolute = \"{idle_text}\"` or more"),
            ),
            (None, Some(at)) => errors.push(
                at,
                message,
                format_args!("the default of `idle` is {DEFAULT_IDLE}; write `idle = \"{absolute_text}\"` or less"),
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
            attrs.absolute.value(),
            format_args!("`absolute` ({absolute_text}) exceeds the longest lifetime of a persistent cookie"),
            "browsers keep a cookie for at most 400 days (RFC 6265bis §5.5); write `absolute = \"400d\"` or less",
        );
    }
    if let Some(at) = attrs.remember.value() {
        if remember < absolute {
            errors.push(
                at,
                format_args!("`remember` ({remember_text}) is shorter than `absolute` ({absolute_text})"),
                format_args!(
                    "a remembered session would end before any other one; write `remember = \"{absolute_text}\"` or more"
                ),
            );
        }
        if remember > COOKIE_LIMIT {
            errors.push(
                at,
                format_args!("`remember` ({remember_text}) exceeds the longest lifetime of a persistent cookie"),
                "browsers keep a cookie for at most 400 days (RFC 6265bis §5.5); write `remember = \"400d\"` or less",
            );
        }
    }
    Lifetime { idle, absolute, remember: remember.max(absolute) }
}

pub(super) fn check_duration(
    key: &str,
    duration: &Entry<LitStr>,
    default: &str,
    errors: &Errors,
) -> Option<(u64, String)> {
    if !duration.is_given() {
        return Some((parse_duration(default)?, default.to_owned()));
    }
    let literal = duration.value()?;
    let written = literal.value();
    let meant = meant(&written).unwrap_or_else(|| default.to_owned());
    let help = format!("write `{key} = \"{meant}\"`; the units are `ms`, `s`, `m`, `h`, `d` and `w`");
    match parse_duration(&written) {
        None => errors.push(literal, format_args!("`{written}` is not a duration"), help),
        Some(0) => {
            let what = if key == "ttl" { "value" } else { "session" };
            errors.push(literal, format_args!("`{key}` is zero: every {what} would expire at once"), help);
        }
        Some(LIMIT..) => {
            let help = format!(
                "a session that never expires is a permanent credential; write `{key} = \"400d\"` or less"
            );
            errors.push(literal, format_args!("`{key}` exceeds 100 years"), help);
        }
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

/// Returns the duration that the author of `"1 hour"` or `"30mins"` probably meant.
fn meant(written: &str) -> Option<String> {
    let mut meant = String::new();
    let mut rest = written.trim_start();
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
        let unit = match unit.trim().to_lowercase().trim_end_matches([',', '.']) {
            "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
            "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            "w" | "week" | "weeks" => "w",
            _ => return None,
        };
        meant.extend([number, unit]);
        rest = behind;
    }
    parse_duration(&meant).is_some_and(|duration| duration > 0).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_recognised_in_words() {
        let meant = |written| meant(written).unwrap_or_default();
        assert_eq!(meant("30mins"), "30m");
        assert_eq!(meant(" 1 hour, 30 Minutes"), "1h30m");
        assert_eq!(meant("2W"), "2w");
        assert_eq!((meant("half an hour"), meant("30"), meant("0 days")), Default::default());
    }

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        assert_eq!(parse_duration("90s"), Some(90_000));
        assert_eq!(parse_duration("1h30m"), Some(90 * 60_000));
        assert_eq!(parse_duration("2w1d500ms"), Some(15 * DAY + 500));
        for wrong in ["", "30", "m", "30 m", "-5m", "1.5h", "5y", "99999999999999999999d", "ümlaut"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }
}
