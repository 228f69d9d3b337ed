//! The pages of the console: sessions and numbers enter, HTML leaves. It works without scripts, and needs nothing from elsewhere.
//!
//! All pages are in one folder, so that links between them are names alone, wherever the console is mounted.

use std::fmt::{self, Write as _};

use super::chart::{Chart, Line, Meaning, TimeOfDay};
use super::filter::{Facet, HiddenFields, Link, Parameter, Search, Shown, parameter};
use super::groups::Grouped;
use super::history::{CAUSES, Counts, GroupsOverTime, Interval, REASONS};
use super::html::{Browser, Id, Label, Moment, Short, Span, Text, Utc};
use crate::bag::schema::{Field, Role};
use crate::clock::Timestamp;
use crate::token::SessionId;

/// How many sessions a page of the list has.
pub(super) const PAGE: u32 = 50;
/// How many pages there are: the store sorts the newest sessions for each.
pub(super) const PAGES: u32 = 20;
/// How many groups are shown.
const GROUPS: usize = 100;

/// The pages that every page links to.
const LINKS: [(&str, &str); 3] = [("overview", "Overview"), ("list", "Sessions"), ("groups", "Groups")];

/// The time that the charts show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    Hour,
    Day,
}

impl Range {
    const ALL: [Self; 2] = [Self::Hour, Self::Day];

    pub(super) fn of(parameters: &[Parameter]) -> Self {
        if parameter(parameters, "range") == Some("day") { Self::Day } else { Self::Hour }
    }

    /// Returns how many minutes it has, and how many of them are one point of a chart.
    pub(super) fn minutes(self) -> (u32, u32) {
        match self {
            Self::Hour => (60, 1),
            Self::Day => (24 * 60, 15),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// What is shown of a session in a list.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: SessionId,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) last_used: Timestamp,
    pub(super) authenticated: Option<Timestamp>,
    pub(super) browser: Option<String>,
    /// One for each facet.
    pub(super) values: Vec<Shown>,
}

pub(super) struct Overview<'a> {
    pub(super) bag: &'static str,
    /// `None` if the store does not answer.
    pub(super) live: Option<u64>,
    pub(super) range: Range,
    pub(super) intervals: &'a [Interval],
    pub(super) is_observing: bool,
}

impl Overview<'_> {
    pub(super) fn page(&self) -> String {
        let Self { bag, live, range, intervals, is_observing } = *self;
        let counts = Counts::sum(intervals);
        let mut body = String::from("<h1>Overview</h1>");
        if live.is_none() {
            body.push_str(
                "<p class=\"notice\" role=\"alert\">The store does not answer. What this process has counted is in its \
                 memory.</p>",
            );
        }
        if !is_observing {
            body.push_str(
                "<p class=\"notice\" role=\"alert\">Nothing is counted: the sessions are built without \
                 <code>.on_event(history.observer())</code>. Only the number of live sessions is known.</p>",
            );
        }
        body.push_str("<nav class=\"tabs\" aria-label=\"Time\">");
        for other in Range::ALL {
            let (name, current) = (other.name(), current(other == range));
            let _ = write!(body, "<a href=\"overview?range={name}\"{current}>Last {name}</a>");
        }
        body.push_str("</nav><dl class=\"tiles\">");
        let live = live.map_or_else(|| "–".to_owned(), |live| live.to_string());
        let _ = write!(body, "<div class=\"card\"><dt>Live now</dt><dd>{live}</dd></div>");
        let numbers = [
            ("Created", counts.created.into()),
            ("Ended", counts.all_ended()),
            ("Expired", counts.expired.into()),
            ("Not accepted", counts.all_rejected()),
            ("Conflicts", counts.conflicts.into()),
            ("Failures", counts.failures.into()),
        ];
        for (name, number) in numbers {
            let _ = write!(body, "<div class=\"card\"><dt>{name}</dt><dd>{number}</dd></div>");
        }
        body.push_str("</dl><div class=\"charts\">");
        self.charts(&mut body);
        body.push_str("</div><div class=\"charts\">");
        breakdown(&mut body, "Ended, by cause", "Cause", CAUSES.into_iter().zip(counts.ended));
        breakdown(&mut body, "Not accepted, by reason", "Reason", REASONS.into_iter().zip(counts.rejected));
        body.push_str("</div>");
        self.table(&mut body);
        body.push_str(
            "<p class=\"hint\">“Live now” is what the store says, of all processes; rows that cannot be opened are counted too. All \
             other numbers are what this process has done since it was started. A request with an expired session may come \
             more than once. Times are in UTC.</p>",
        );
        layout(bag, "overview", "Overview", &body)
    }

    fn charts(&self, body: &mut String) {
        let live = Line {
            name: "live",
            meaning: Meaning::Level,
            points: self.intervals.iter().map(|interval| interval.live).collect(),
        };
        let begun =
            [self.events("created", |counts| counts.created.into()), self.events("ended", Counts::all_ended)];
        let rejected = [
            self.events("not accepted", Counts::all_rejected),
            self.events("expired", |counts| counts.expired.into()),
        ];
        let trouble = [
            self.events("conflicts", |counts| counts.conflicts.into()),
            self.events("failures", |counts| counts.failures.into()),
        ];
        let times: Vec<u32> = self.intervals.iter().map(|interval| interval.begins).collect();
        for (id, title, lines) in [
            ("live", "Live sessions", vec![live]),
            ("begun", "Created and ended", begun.into()),
            ("rejected", "Tokens not accepted", rejected.into()),
            ("trouble", "Conflicts and failures", trouble.into()),
        ] {
            let _ = write!(body, "{}", Chart { id, title, times: &times, lines });
        }
    }

    fn events(&self, name: &'static str, number: fn(&Counts) -> u64) -> Line<'static> {
        let points = self.intervals.iter().map(|interval| interval.counts.as_ref().map(number)).collect();
        Line { name, meaning: Meaning::Events, points }
    }

    /// The numbers of the charts as a table.
    fn table(&self, body: &mut String) {
        let (_, per) = self.range.minutes();
        let unit = if per == 1 { "minute".to_owned() } else { format!("{per} minutes") };
        let _ = write!(
            body,
            "<details class=\"card\"><summary>The numbers of the charts, per {unit}</summary>\
             <div class=\"scroll\" role=\"region\" aria-label=\"The numbers of the charts\" tabindex=\"0\"><table class=\"numbers\">\
             <thead><tr><th scope=\"col\">Time</th><th scope=\"col\">Live</th><th scope=\"col\">Created</th>\
             <th scope=\"col\">Ended</th><th scope=\"col\">Not accepted</th><th scope=\"col\">Expired</th>\
             <th scope=\"col\">Conflicts</th><th scope=\"col\">Failures</th></tr></thead><tbody>",
        );
        for Interval { begins, counts, live } in self.intervals.iter().rev() {
            let events = |counts: Counts| {
                [
                    counts.created.into(),
                    counts.all_ended(),
                    counts.all_rejected(),
                    counts.expired.into(),
                    counts.conflicts.into(),
                    counts.failures.into(),
                ]
            };
            let _ = write!(body, "<tr><th scope=\"row\">{}</th>", TimeOfDay(*begins));
            for number in
                [*live].into_iter().chain(counts.map_or([None; 6], |counts| events(counts).map(Some)))
            {
                let number = number.map_or_else(|| "–".to_owned(), |number| number.to_string());
                let _ = write!(body, "<td>{number}</td>");
            }
            body.push_str("</tr>");
        }
        body.push_str("</tbody></table></div></details>");
    }
}

fn breakdown(
    body: &mut String,
    title: &str,
    column: &str,
    rows: impl Iterator<Item = ((&'static str, &'static str), u32)>,
) {
    let _ = write!(
        body,
        "<section class=\"card\"><h2>{title}</h2><table class=\"numbers\"><thead><tr><th scope=\"col\">{column}</th>\
         <th scope=\"col\">Number</th></tr></thead><tbody>"
    );
    for ((_, words), number) in rows {
        let _ = write!(body, "<tr><th scope=\"row\">{words}</th><td>{number}</td></tr>");
    }
    body.push_str("</tbody></table></section>");
}

pub(super) struct List<'a> {
    pub(super) bag: &'static str,
    pub(super) facets: &'a [Facet],
    /// What was typed, understood or not.
    pub(super) parameters: &'a [Parameter],
    pub(super) search: &'a Search,
    pub(super) entries: &'a [Entry],
    /// How many match in all; `None` if it is not counted.
    pub(super) total: Option<u64>,
    /// The number of the page, from 0.
    pub(super) number: u32,
    pub(super) now: Timestamp,
}

impl List<'_> {
    pub(super) fn page(&self) -> String {
        let Self { search, entries, total, .. } = *self;
        let mut body = String::from("<h1>Sessions</h1>");
        self.form(&mut body);
        for mistake in &search.mistakes {
            let _ = write!(body, "<p class=\"notice\" role=\"alert\">{}</p>", Text(mistake));
        }
        if search.mistakes.is_empty() {
            self.summary(&mut body);
        }
        if !entries.is_empty() {
            self.table(&mut body);
        }
        self.pages(&mut body);
        if let Some(total @ 1..) = total.filter(|_| search.is_exact()) {
            let link = Link { page: "revoke", terms: &search.terms };
            let which = match total {
                1 => "this session".to_owned(),
                _ if search.terms.is_empty() => format!("all {total} sessions"),
                _ => format!("these {total} sessions"),
            };
            let _ = write!(body, "<p><a class=\"button quiet\" href=\"{link}\">End {which} …</a></p>");
        }
        layout(self.bag, "list", "Sessions", &body)
    }

    fn form(&self, body: &mut String) {
        let typed = |name: &str| Text(parameter(self.parameters, name).unwrap_or_default());
        body.push_str(
            "<form class=\"card search\" method=\"get\" action=\"list\" role=\"search\"><label>Session \
             <input name=\"id\" autocomplete=\"off\" spellcheck=\"false\" placeholder=\"beginning of the id\" value=\"",
        );
        let _ = write!(body, "{}\"></label>", typed("id"));
        for Facet { key, label, .. } in self.facets {
            let (key, label, value) = (Text(key), Label(label), typed(key));
            let _ = write!(
                body,
                "<label>{label} <input name=\"{key}\" autocomplete=\"off\" value=\"{value}\"></label>"
            );
        }
        let none: Vec<Parameter> =
            self.search.terms.iter().filter(|(name, _)| name == "none").cloned().collect();
        let _ = write!(body, "{}<button>Search</button> <a href=\"list\">Clear</a>", HiddenFields(&none));
        for facet in self.facets.iter().filter(|facet| none.iter().any(|(_, key)| *key == facet.key)) {
            let _ = write!(
                body,
                "<p class=\"hint\">Only sessions without a value of “{}”.</p>",
                Label(facet.label)
            );
        }
        body.push_str(
            "<p class=\"hint\">Values are compared as a whole; of an id the beginning is enough.</p></form>",
        );
    }

    fn summary(&self, body: &mut String) {
        let (shown, before) = (self.entries.len() as u64, u64::from(self.number * PAGE));
        let text = match self.total {
            None if shown == 0 => "No session has such an id.".to_owned(),
            None => {
                format!("{} with such an id, at most {PAGE} are shown.", sessions(shown, "", "").trim_end())
            }
            Some(0) => "No session matches.".to_owned(),
            Some(total) => {
                let all = if self.search.terms.is_empty() {
                    sessions(total, "", "").trim_end().to_owned()
                } else {
                    sessions(total, "matches", "match")
                };
                let last = total.min(before + u64::from(PAGE));
                if shown < last.saturating_sub(before) {
                    format!(
                        "{all}; unless they have just ended, some cannot be opened: <code>databag check</code> names them."
                    )
                } else if total > u64::from(PAGE) {
                    format!("{all}; {} to {last}, the newest first.", before + 1)
                } else if total > 1 {
                    format!("{all}, the newest first.")
                } else {
                    format!("{all}.")
                }
            }
        };
        let _ = write!(body, "<p class=\"summary\">{text}</p>");
    }

    /// The roles are for browsers that take cells that CSS stacks for no cells.
    fn table(&self, body: &mut String) {
        let has_browser = self.entries.iter().any(|entry| entry.browser.is_some());
        body.push_str(
            "<section class=\"card\"><table class=\"stack\" role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Session</th>",
        );
        for facet in self.facets {
            let _ = write!(body, "<th role=\"columnheader\" scope=\"col\">{}</th>", Label(facet.label));
        }
        if has_browser {
            body.push_str("<th role=\"columnheader\" scope=\"col\">Browser</th>");
        }
        body.push_str(
            "<th role=\"columnheader\" scope=\"col\">Last used</th><th role=\"columnheader\" scope=\"col\">Created</th><th role=\"columnheader\" scope=\"col\">Expires</th></tr></thead><tbody role=\"rowgroup\">",
        );
        for entry in self.entries {
            let id = entry.id;
            let _ = write!(
                body,
                "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\" data-label=\"Session\"><a href=\"session?id={id}\">{}</a></th>",
                Id(id)
            );
            for (facet, value) in self.facets.iter().zip(&entry.values) {
                let _ = write!(body, "<td role=\"cell\" data-label=\"{}\">", Label(facet.label));
                linked(body, facet, value);
                body.push_str("</td>");
            }
            if has_browser {
                body.push_str("<td role=\"cell\" data-label=\"Browser\">");
                browser(body, entry);
                body.push_str("</td>");
            }
            let times =
                [("Last used", entry.last_used), ("Created", entry.created), ("Expires", entry.expires)];
            for (label, time) in times {
                let _ = write!(
                    body,
                    "<td role=\"cell\" data-label=\"{label}\">{}</td>",
                    Moment { time, now: self.now }
                );
            }
            body.push_str("</tr>");
        }
        body.push_str("</tbody></table></section>");
    }

    fn pages(&self, body: &mut String) {
        let Some(total) = self.total.filter(|total| *total > u64::from(PAGE)) else { return };
        let to = |number: u32| {
            let mut terms = self.search.terms.clone();
            terms.push(("page".to_owned(), number.to_string()));
            terms
        };
        let has_next = u64::from((self.number + 1) * PAGE) < total;
        body.push_str("<nav class=\"tabs\" aria-label=\"Pages of the list\">");
        if let Some(number) = self.number.checked_sub(1) {
            let _ = write!(
                body,
                "<a rel=\"prev\" href=\"{}\">Newer</a>",
                Link { page: "list", terms: &to(number) }
            );
        }
        if has_next && self.number + 1 < PAGES {
            let link = Link { page: "list", terms: &to(self.number + 1) };
            let _ = write!(body, "<a rel=\"next\" href=\"{link}\">Older</a>");
        }
        body.push_str("</nav>");
        if has_next && self.number + 1 == PAGES {
            let _ = write!(
                body,
                "<p class=\"hint\">Only the newest {} are listed: search for older ones.</p>",
                PAGE * PAGES
            );
        }
    }
}

/// Writes a value, with a link to all sessions that have it.
fn linked(body: &mut String, facet: &Facet, value: &Shown) {
    let _ = match value {
        Shown::Nothing => write!(body, "<span class=\"empty\">–</span>"),
        Shown::Hidden => write!(body, "<span class=\"empty\">hidden</span>"),
        Shown::TooLong => write!(body, "<span class=\"empty\">too long to show</span>"),
        // The search would take it for no value at all.
        Shown::Value(value) if value.is_empty() => write!(body, "<span class=\"empty\">empty</span>"),
        Shown::Value(value) => {
            let terms = [(facet.key.clone(), value.clone())];
            write!(body, "<a href=\"{}\">{}</a>", Link { page: "list", terms: &terms }, Short(value))
        }
    };
}

fn browser(body: &mut String, entry: &Entry) {
    let _ = match &entry.browser {
        Some(agent) => write!(body, "{}", Browser(agent)),
        None => write!(body, "<span class=\"empty\">–</span>"),
    };
}

pub(super) struct Details<'a> {
    pub(super) bag: &'static str,
    pub(super) facets: &'a [Facet],
    pub(super) fields: &'static [Field],
    pub(super) entry: &'a Entry,
    pub(super) is_own: bool,
    pub(super) csrf_token: &'a str,
    pub(super) now: Timestamp,
}

impl Details<'_> {
    pub(super) fn page(&self) -> String {
        let Self { entry, now, .. } = *self;
        let id = entry.id;
        let mut body = format!(
            "<h1>Session <code>{}</code></h1><section class=\"card\"><dl class=\"facts\">",
            &id.to_string()[..8]
        );
        let _ = write!(body, "<div><dt>Id</dt><dd><code>{id}</code></dd></div>");
        for (facet, value) in self.facets.iter().zip(&entry.values) {
            let _ = write!(body, "<div><dt>{}</dt><dd>", Label(facet.label));
            linked(&mut body, facet, value);
            body.push_str("</dd></div>");
        }
        body.push_str("<div><dt>Browser</dt><dd>");
        browser(&mut body, entry);
        if let Some(agent) = &entry.browser {
            let _ = write!(body, " <span class=\"hint\">{}</span>", Text(agent));
        }
        body.push_str("</dd></div>");
        let times = [
            ("Created", Some(entry.created)),
            ("Signed in", entry.authenticated),
            ("Last used", Some(entry.last_used)),
            ("Expires", Some(entry.expires)),
        ];
        for (label, time) in times {
            let Some(time) = time else { continue };
            let _ = write!(
                body,
                "<div><dt>{label}</dt><dd>{} <span class=\"hint\">{} UTC</span></dd></div>",
                Moment { time, now },
                Utc(time)
            );
        }
        body.push_str("</dl>");
        if self.is_own {
            body.push_str(
                "<p class=\"notice\">This is the session that you use: to end it signs you out.</p>",
            );
        }
        let _ = write!(
            body,
            "<form method=\"post\" action=\"revoke?id={id}\">{}<button>End this session</button></form>",
            Token(self.csrf_token)
        );
        body.push_str("</section>");
        for (facet, value) in self.facets.iter().zip(&entry.values).filter(|(facet, _)| facet.key == "user") {
            let Shown::Value(value) = value else { continue };
            if value.is_empty() {
                continue;
            }
            let terms = [(facet.key.clone(), value.clone())];
            let link = Link { page: "revoke", terms: &terms };
            let _ = write!(
                body,
                "<p><a class=\"button quiet\" href=\"{link}\">End all sessions of this user …</a></p>"
            );
        }
        self.fields(&mut body);
        layout(self.bag, "list", "Session", &body)
    }

    /// What a session of this bag holds: names alone.
    fn fields(&self, body: &mut String) {
        body.push_str(
            "<section class=\"card\"><h2>Fields</h2><p class=\"hint\">What a session of this kind holds. The \
             console shows only columns, the browser and the times.</p><table class=\"stack\" role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\" scope=\"col\">Field</th>\
             <th role=\"columnheader\" scope=\"col\">Kept in</th><th role=\"columnheader\" scope=\"col\">Until</th></tr></thead><tbody role=\"rowgroup\">",
        );
        for field in self.fields {
            let kept = match field.role {
                Role::Plain => "the record",
                _ if field.blind => "the record, and a hash in a column",
                Role::User(_) | Role::Ip(_) | Role::Column { .. } => "the record and a column",
            };
            let until = match field.ttl {
                Some(ttl) => format!("{} after a change", Span(ttl)),
                None if field.flash => "it is read".to_owned(),
                None => "the session ends".to_owned(),
            };
            let _ = write!(
                body,
                "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\" data-label=\"Field\"><code>{}</code></th><td role=\"cell\" data-label=\"Kept in\">{kept}</td>\
                 <td role=\"cell\" data-label=\"Until\">{until}</td></tr>",
                Text(field.name)
            );
        }
        body.push_str("</tbody></table></section>");
    }
}

pub(super) struct Groups<'a> {
    pub(super) bag: &'static str,
    pub(super) facets: &'a [Facet],
    /// What the sessions are grouped by, with the groups now and in the last day; `None` if the bag has nothing to show.
    pub(super) found: Option<&'a (&'a Facet, Grouped, GroupsOverTime)>,
}

impl<'a> Groups<'a> {
    pub(super) fn page(&self) -> String {
        let Self { bag, facets, found } = *self;
        let mut body = String::from("<h1>Groups</h1>");
        let Some((by, grouped, GroupsOverTime { times, lines, is_followed })) = found else {
            body.push_str(
                "<p class=\"summary\">No field of this bag has a column whose values may be shown.</p>",
            );
            return layout(bag, "groups", "Groups", &body);
        };
        body.push_str("<nav class=\"tabs\" aria-label=\"Group by\">");
        for facet in facets {
            let terms = [("by".to_owned(), facet.key.clone())];
            let (link, current) = (Link { page: "groups", terms: &terms }, current(facet.key == by.key));
            let _ = write!(body, "<a href=\"{link}\"{current}>{}</a>", Label(facet.label));
        }
        let Grouped { groups, read, total } = grouped;
        let _ = write!(body, "</nav><p class=\"summary\">{}", sessions(*total, "is live", "are live"));
        if total > read {
            let _ = write!(body, ": the groups are estimated from {read} of them, taken at random");
        }
        body.push_str(".</p>");
        let line = |(name, points): &'a (String, Vec<Option<u64>>)| Line {
            name,
            meaning: Meaning::Level,
            points: points.clone(),
        };
        let lines = lines.iter().map(line).collect();
        let chart = Chart { id: "groups", title: "The largest groups in the last day", times, lines };
        let _ = write!(
            body,
            "<div class=\"charts\">{chart}<section class=\"card\"><table class=\"groups\"><thead><tr><th scope=\"col\">{}</th>\
             <th scope=\"col\">Sessions</th><td></td></tr></thead><tbody>",
            Label(by.label)
        );
        let largest = grouped.of_all().next().map_or(1, |(_, number)| number.max(1));
        for (value, number) in grouped.of_all().take(GROUPS) {
            body.push_str("<tr><th scope=\"row\">");
            if *value == Shown::Nothing {
                let terms = [("none".to_owned(), by.key.clone())];
                let _ = write!(body, "<a href=\"{}\">none</a>", Link { page: "list", terms: &terms });
            } else {
                linked(&mut body, by, value);
            }
            let width = (number.saturating_mul(100) / largest).max(1);
            let _ = write!(
                body,
                "</th><td>{number}</td><td class=\"bar\"><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" \
                 aria-hidden=\"true\"><rect width=\"{width}\" height=\"10\"/></svg></td></tr>"
            );
        }
        body.push_str("</tbody></table>");
        if let Some(more) = groups.len().checked_sub(GROUPS).filter(|more| *more > 0) {
            let _ = write!(body, "<p class=\"hint\">And {more} smaller ones.</p>");
        }
        body.push_str("</section></div>");
        if !*is_followed {
            body.push_str(
                "<p class=\"hint\">Only what is now is known yet: <code>history.follow(&amp;sessions)</code> in the application groups the \
                 sessions every 15 minutes.</p>",
            );
        }
        layout(bag, "groups", "Groups", &body)
    }
}

pub(super) struct Confirmation<'a> {
    pub(super) bag: &'static str,
    pub(super) facets: &'a [Facet],
    pub(super) search: &'a Search,
    /// How many live sessions match.
    pub(super) total: u64,
    /// Whether that of the viewer is one of them.
    pub(super) has_own: bool,
    pub(super) csrf_token: &'a str,
}

impl Confirmation<'_> {
    pub(super) fn page(&self) -> String {
        let Self { bag, facets, search, total, has_own, csrf_token } = *self;
        let mut body = String::from("<h1>End sessions</h1><section class=\"card\">");
        if total == 0 {
            body.push_str("<p>No session matches.</p></section>");
            return layout(bag, "list", "End sessions", &body);
        }
        if search.terms.is_empty() {
            let _ = write!(
                body,
                "<p><strong>All {}</strong> will be ended: every visitor is signed out.</p>",
                sessions(total, "", "").trim_end()
            );
        } else {
            let _ = write!(
                body,
                "<p><strong>{}</strong> and will be ended:</p><ul>",
                sessions(total, "matches", "match")
            );
            for (name, value) in &search.terms {
                let label = |key: &str| facets.iter().find(|facet| facet.key == key).map(|facet| facet.label);
                let _ = match name.as_str() {
                    "none" => write!(
                        body,
                        "<li>without a value of “{}”</li>",
                        Label(label(value).unwrap_or_default())
                    ),
                    "id" => write!(body, "<li>the session <code>{}</code></li>", Text(value)),
                    name => write!(
                        body,
                        "<li>{}: <strong>{}</strong></li>",
                        Label(label(name).unwrap_or_default()),
                        Short(value)
                    ),
                };
            }
            body.push_str("</ul>");
        }
        if has_own {
            body.push_str(
                "<p class=\"notice\">The session that you use is one of them: to end it signs you out.</p>",
            );
        }
        let mut terms = search.terms.clone();
        if terms.is_empty() {
            terms.push(("all".to_owned(), "yes".to_owned()));
        }
        let _ = write!(
            body,
            "<form method=\"post\" action=\"{}\">{}<button>End {}</button> <a href=\"{}\">Cancel</a></form>\
             <p class=\"hint\">Those that match at that moment are ended: there may be more or fewer by then. They cannot be brought \
             back.</p></section>",
            Link { page: "revoke", terms: &terms },
            Token(csrf_token),
            sessions(total, "", "").trim_end(),
            Link { page: "list", terms: &search.terms },
        );
        layout(bag, "list", "End sessions", &body)
    }
}

/// The page after sessions were ended. It is not one to come back to, so that no link can say so of another time.
pub(super) fn ended(bag: &'static str, ended: u64) -> String {
    message(bag, "Ended", &format!("{}.", sessions(ended, "was ended", "were ended")))
}

/// A page that says one thing.
pub(super) fn message(bag: &'static str, title: &str, text: &str) -> String {
    let (shown, text) = (Text(title), Text(text));
    let body = format!(
        "<h1>{shown}</h1><p class=\"summary\">{text}</p><p><a class=\"button quiet\" href=\"list\">To the sessions</a></p>"
    );
    layout(bag, "", title, &body)
}

/// The field of a form that shows that the form is ours.
struct Token<'a>(&'a str);

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<input type=\"hidden\" name=\"csrf_token\" value=\"{}\">", Text(self.0))
    }
}

fn current(is_current: bool) -> &'static str {
    if is_current { " aria-current=\"page\"" } else { "" }
}

/// Returns a number of sessions with its verb.
fn sessions(number: u64, singular: &str, plural: &str) -> String {
    if number == 1 { format!("1 session {singular}") } else { format!("{number} sessions {plural}") }
}

fn layout(bag: &str, page: &str, title: &str, body: &str) -> String {
    let mut links = String::new();
    for (link, text) in LINKS {
        let _ = write!(links, "<a href=\"{link}\"{}>{text}</a>", current(link == page));
    }
    let (title, bag) = (Text(title), Text(bag));
    format!(
        r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · {bag}</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
<a class="skip" href="#main">To the content</a>
<header><p class="brand">Sessions of <code>{bag}</code></p><nav aria-label="Pages">{links}</nav><a href="/">To the site</a></header>
<main id="main">{body}</main>
</body>
</html>
"##
    )
}
