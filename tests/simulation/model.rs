//! What must be true of every answer, whatever the store did.
//!
//! A lineage is the content of a session from its first write to its log-out, across all its ids. It is named
//! by the request that began it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::app::View;

/// A time on the server's clock, in milliseconds.
pub(crate) type Millis = u64;

/// The limits of the simulated application.
const IDLE: Millis = 60_000;
const ABSOLUTE: Millis = 300_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Peek,
    Add,
    Count,
    Sum,
    LogIn,
    LogOut,
    Rotate,
    Revoke,
}

/// A request as its browser sent it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) browser: usize,
    pub(crate) token: Option<String>,
    /// The order of beginnings and ends of requests.
    pub(crate) began: u64,
    /// The server's clock when it began, as it shows.
    pub(crate) shown: Millis,
    /// What is known of the lineage when it began.
    known: Option<Known>,
    /// Before this its session does not expire, as far as was known when it began.
    lives_until: Millis,
}

#[derive(Clone, Debug, Default)]
struct Known {
    tags: BTreeSet<u64>,
    count: u64,
    sum: u64,
}

/// An answer as its browser received it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The token of a `Set-Cookie`; empty for a removal.
    pub(crate) set: Option<String>,
    pub(crate) view: Option<View>,
    /// Whether the handler began.
    pub(crate) handled: bool,
    /// Whether the server's clock was set back meanwhile: then it is not known how late it thought it was.
    pub(crate) set_back: bool,
}

#[derive(Debug, Default)]
struct Lineage {
    browser: usize,
    /// What was answered with success.
    known: Known,
    /// What was asked for, and may have been stored.
    asked: Known,
    /// When it was first known to have ended: before this, at least.
    ended: Option<u64>,
    /// How many requests are in flight that may end it, under whatever id it goes on.
    ending: u32,
}

#[derive(Debug)]
struct Token {
    lineage: u64,
    /// When a request that could end it was first sent.
    endangered: Option<u64>,
    /// When it was first known to be of no use.
    dead: Option<u64>,
    /// Before this the session does not expire.
    lives_until: Millis,
    /// From this on it has expired.
    gone_from: Millis,
    /// The latest that no activity moves this.
    absolute: Millis,
    /// How many requests may be moving that right now.
    moving: u32,
}

#[derive(Default)]
pub(crate) struct Model {
    order: u64,
    /// The latest time that the server has seen.
    latest: Millis,
    lineages: BTreeMap<u64, Lineage>,
    tokens: HashMap<String, Token>,
    pub(crate) violations: Vec<String>,
}

impl Model {
    fn step(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    pub(crate) fn begin(
        &mut self,
        number: u64,
        kind: Kind,
        browser: usize,
        token: Option<String>,
        shown: Millis,
    ) -> Request {
        let began = self.step();
        let mut known = None;
        let mut lives_until = 0;
        if let Some(token) = token.as_ref().and_then(|token| self.tokens.get_mut(token)) {
            token.moving += 1;
            lives_until = token.lives_until;
        }
        let lineage = token.as_ref().and_then(|token| self.tokens.get(token)).map(|token| token.lineage);
        if let Some(lineage) = lineage {
            let ends = matches!(kind, Kind::LogIn | Kind::LogOut | Kind::Rotate | Kind::Revoke);
            for other in self.tokens.values_mut().filter(|other| other.lineage == lineage && ends) {
                other.endangered.get_or_insert(began);
            }
            if let Some(lineage) = self.lineages.get_mut(&lineage) {
                known = Some(lineage.known.clone());
                lineage.asked.note(kind, number);
                lineage.ending += u32::from(matches!(kind, Kind::LogOut | Kind::Revoke));
            }
        }
        Request { number, kind, browser, token, began, shown, known, lives_until }
    }

    /// Checks an answer and learns from it. `latest` is the latest time that the server has seen.
    pub(crate) fn end(&mut self, request: &Request, answer: &Answer, latest: Millis) {
        self.step();
        self.latest = latest;
        // Whatever was answered, it may have been stored that the session was used.
        if let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get_mut(token)) {
            token.moving = token.moving.saturating_sub(1);
            if request.shown < token.gone_from || answer.set_back {
                token.gone_from = token.gone_from.max(self.latest + IDLE).min(token.absolute);
            }
        }
        let success = (200..300).contains(&answer.status);
        if !success && !matches!(answer.status, 409 | 503) {
            self.violate(request, &format!("was answered {}", answer.status));
        }
        let ending = matches!(request.kind, Kind::LogOut | Kind::Revoke);
        let lineage =
            request.token.as_ref().and_then(|token| self.tokens.get(token)).map(|token| token.lineage);
        if let Some(lineage) = lineage.and_then(|lineage| self.lineages.get_mut(&lineage))
            && request.known.is_some()
        {
            lineage.ending -= u32::from(ending);
        }
        // A log-out by a token that was replaced meanwhile finds nobody signed in, and ends nothing.
        let found = answer.view.as_ref().is_none_or(|view| view.lineage != 0);
        if ending && success && found {
            self.end_lineage_of(request);
        } else if ending && answer.status == 503 && answer.handled {
            // The store could not end it; the server refuses its token.
            let order = self.order;
            if let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get_mut(token)) {
                token.dead.get_or_insert(order);
            }
        }
        let Some(view) = answer.view.as_ref().filter(|_| success) else { return };
        if request.kind == Kind::LogOut {
            if answer.set.as_ref().is_some_and(|set| !set.is_empty()) {
                self.violate(request, "brought a cookie");
            }
            return;
        }
        self.check_identity(request, answer, view);
        self.check_content(request, view);
        self.learn(request, answer, view);
    }

    fn check_identity(&mut self, request: &Request, answer: &Answer, view: &View) {
        let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get(token)) else {
            if view.lineage != 0 && view.lineage != request.number {
                self.violate(request, &format!("had no known token and saw the content of {}", view.lineage));
            }
            return;
        };
        let lineage = &self.lineages[&token.lineage];
        if view.lineage == token.lineage {
            if lineage.browser != request.browser {
                self.violate(request, &format!("saw the content of browser {}", lineage.browser));
            } else if lineage.ended.is_some_and(|ended| ended < request.began) {
                self.violate(request, &format!("saw {}, which had ended", token.lineage));
            } else if token.dead.is_some_and(|dead| dead < request.began) {
                self.violate(request, &format!("saw {} by a token that was replaced", token.lineage));
            } else if !answer.set_back && request.shown >= token.gone_from && token.moving == 0 {
                self.violate(request, &format!("saw {}, which had expired", token.lineage));
            }
        } else if view.lineage != 0 && view.lineage != request.number {
            self.violate(request, &format!("had a token of {} and saw {}", token.lineage, view.lineage));
        } else if token.endangered.is_none() && lineage.ended.is_none() && self.latest < request.lives_until {
            self.violate(request, &format!("found nothing of {}, which lives", token.lineage));
        }
    }

    fn check_content(&mut self, request: &Request, view: &View) {
        let Some(lineage) = self.lineages.get(&view.lineage) else { return };
        let known = request.known.clone().filter(|_| {
            request
                .token
                .as_ref()
                .and_then(|token| self.tokens.get(token))
                .is_some_and(|t| t.lineage == view.lineage)
        });
        let known = known.unwrap_or_default();
        let lost: Vec<_> = known.tags.difference(&view.tags).collect();
        let foreign: Vec<_> = view.tags.difference(&lineage.asked.tags).collect();
        let mut wrong = Vec::new();
        if !lost.is_empty() {
            wrong.push(format!("lost the writes of {lost:?}"));
        }
        if !foreign.is_empty() {
            wrong.push(format!("has writes of others, {foreign:?}"));
        }
        for (what, least, shown, most) in [
            ("count", known.count, view.count, lineage.asked.count),
            ("sum", known.sum, view.sum, lineage.asked.sum),
        ] {
            if shown < least || shown > most {
                wrong.push(format!("has a {what} of {shown}, where {least} to {most} were counted"));
            }
        }
        for wrong in wrong {
            self.violate(request, &format!("saw that {} {wrong}", view.lineage));
        }
    }

    fn learn(&mut self, request: &Request, answer: &Answer, view: &View) {
        if view.lineage == 0 {
            return;
        }
        let browser = request.browser;
        let lineage =
            self.lineages.entry(view.lineage).or_insert_with(|| Lineage { browser, ..Lineage::default() });
        if view.lineage == request.number {
            // It began with this request; what it was told before did not count.
            lineage.asked.note(request.kind, request.number);
        }
        lineage.known.note(request.kind, request.number);
        if matches!(request.kind, Kind::LogIn | Kind::Rotate)
            && let Some(old) = request.token.as_ref().and_then(|token| self.tokens.get_mut(token))
            && old.lineage == view.lineage
        {
            old.dead.get_or_insert(self.order);
        }
        let absolute = match request.token.as_ref().and_then(|token| self.tokens.get(token)) {
            Some(old) if old.lineage == view.lineage && request.kind != Kind::LogIn => old.absolute,
            _ => self.latest + ABSOLUTE,
        };
        let set = answer.set.as_ref().filter(|set| !set.is_empty());
        let Some(token) = set.or(request.token.as_ref()) else { return };
        let fresh = Token {
            lineage: view.lineage,
            endangered: (lineage.ending > 0).then_some(self.order),
            dead: None,
            lives_until: 0,
            gone_from: (self.latest + IDLE).min(absolute),
            absolute,
            moving: 0,
        };
        let token = self.tokens.entry(token.clone()).or_insert(fresh);
        // `Peek` shows no expiration.
        if view.lineage == token.lineage && request.kind != Kind::Peek {
            token.lives_until = token.lives_until.max(view.expires);
        }
    }

    fn end_lineage_of(&mut self, request: &Request) {
        let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get(token)) else { return };
        let order = self.order;
        // A request whose token was replaced before it came had no session to end.
        if token.endangered.is_some_and(|since| since < request.began) {
            return;
        }
        if let Some(lineage) = self.lineages.get_mut(&token.lineage) {
            lineage.ended.get_or_insert(order);
        }
    }

    fn violate(&mut self, request: &Request, what: &str) {
        self.violations.push(format!("{:?} {} {what}", request.kind, request.number));
    }
}

impl Known {
    fn note(&mut self, kind: Kind, number: u64) {
        match kind {
            Kind::Add => drop(self.tags.insert(number)),
            Kind::Count => self.count += 1,
            Kind::Sum => self.sum += 1,
            _ => {}
        }
    }
}
