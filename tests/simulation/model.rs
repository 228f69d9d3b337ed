//! The invariants of every answer, whatever the store did.
//!
//! A lineage is the content of a session from its first write to its log-out, across all its ids. Its name is the number
//! of the request that started it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::PROCESSES;
use crate::app::{Change, Entry, Moment, View};

/// A time on the server's clock, in milliseconds.
pub(crate) type Millis = u64;

/// The limits of the simulated application.
const IDLE: Millis = 60_000;
const ABSOLUTE: Millis = 300_000;
/// The part of the idle time that may pass before the use of a session is stored.
const STEP: Millis = IDLE / 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Peek,
    Add,
    Count,
    Sum,
    Both,
    Save,
    HastySave,
    HastyUpdate,
    LogIn,
    LogOut,
    Rotate,
    Revoke,
}

impl Kind {
    /// Returns whether it may end the session, under any id.
    fn ends(self) -> bool {
        matches!(self, Self::LogOut | Self::Revoke)
    }

    /// Returns whether the session has another id after it.
    fn renames(self) -> bool {
        matches!(self, Self::LogIn | Self::Rotate)
    }

    /// Returns whether it stores only the use of the session.
    fn looks(self) -> bool {
        matches!(self, Self::Read | Self::Peek)
    }
}

/// A request, as its browser sent it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) browser: usize,
    /// The process that serves it.
    pub(crate) process: usize,
    pub(crate) token: Option<String>,
    /// The position in the order of starts and ends of requests.
    began: u64,
    /// The time on the server's clock at its start.
    pub(crate) shown: Millis,
    /// What was known of the lineage at its start.
    known: Option<BTreeSet<Entry>>,
    /// The earliest expiry of its session, as known at its start.
    lives_until: Millis,
    /// How many requests had its token before, and whether all of them had ended.
    uses: u64,
    alone: bool,
}

/// An answer, as its browser received it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// `None` if the browser did not wait for it.
    pub(crate) status: Option<u16>,
    /// The token of a `Set-Cookie`; empty for a removal.
    pub(crate) set: Option<String>,
    pub(crate) view: Option<View>,
    /// Whether the handler started.
    pub(crate) handled: bool,
    /// The moment before the handler wrote.
    pub(crate) wrote: Option<Moment>,
    /// Whether the server's clock was set back meanwhile: then the server's time is unknown.
    pub(crate) set_back: bool,
    /// Whether the store worked all the time, and long enough before that no request waited for an earlier call.
    pub(crate) calm: bool,
}

#[derive(Debug, Default)]
struct Lineage {
    browser: usize,
    /// The changes that were answered with success.
    known: BTreeSet<Entry>,
    /// The requests whose changes may have been stored.
    asked: BTreeSet<u64>,
    /// When its end was first known: it had ended by then.
    ended: Option<u64>,
    /// How many requests in flight may end it, under any id.
    ending: u32,
}

#[derive(Debug, Default)]
struct Token {
    lineage: u64,
    /// When a request that could end it was first sent.
    endangered: Option<u64>,
    /// When the token was first known to be dead.
    dead: Option<u64>,
    /// When a process failed to end it; the process has refused it since then.
    refused: [Option<(u64, Duration)>; PROCESSES],
    /// The process that renamed it, and its new id.
    renamed: Option<(usize, String)>,
    /// The earliest expiry, and since when it is known.
    lives_until: Millis,
    known_since: Duration,
    /// The earliest absolute limit.
    least_absolute: Millis,
    /// The time from which it has certainly expired.
    gone_from: Millis,
    /// The latest absolute limit.
    absolute: Millis,
    /// How many requests in flight may extend it.
    moving: u32,
    /// How many requests had it.
    uses: u64,
}

#[derive(Default)]
pub(crate) struct Model {
    order: u64,
    /// The latest time that the server has seen.
    latest: Millis,
    /// The time since the start of the simulation.
    passed: Duration,
    lineages: BTreeMap<u64, Lineage>,
    tokens: HashMap<String, Token>,
    pub(crate) violations: Vec<String>,
}

impl Model {
    fn step(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Returns when the session of a token has certainly expired if no request uses it before.
    pub(crate) fn edge(&self, token: &str) -> Option<Millis> {
        self.tokens.get(token).map(|token| token.gone_from)
    }

    pub(crate) fn begin(
        &mut self,
        number: u64,
        (kind, browser, process): (Kind, usize, usize),
        token: Option<String>,
        shown: Millis,
    ) -> Request {
        let began = self.step();
        let mut request = Request {
            number,
            kind,
            browser,
            process,
            token,
            began,
            shown,
            known: None,
            lives_until: 0,
            uses: 0,
            alone: true,
        };
        let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get_mut(token)) else {
            return request;
        };
        request.alone = token.moving == 0;
        token.moving += 1;
        token.uses += 1;
        request.uses = token.uses;
        request.lives_until = token.lives_until;
        let lineage = token.lineage;
        if kind.ends() || kind.renames() {
            for other in self.tokens.values_mut().filter(|other| other.lineage == lineage) {
                other.endangered.get_or_insert(began);
            }
        }
        let lineage = self.lineages.get_mut(&lineage).expect("a token has one");
        request.known = Some(lineage.known.clone());
        lineage.asked.insert(number);
        lineage.ending += u32::from(kind.ends());
        request
    }

    /// Checks an answer and updates the model. `latest` is the latest time that the server has seen, and `passed` the time
    /// since the start of the simulation.
    pub(crate) fn end(&mut self, request: &Request, answer: &Answer, latest: Millis, passed: Duration) {
        self.step();
        (self.latest, self.passed) = (latest, passed);
        let success = answer.status.is_some_and(|status| (200..300).contains(&status));
        let view = answer.view.as_ref().filter(|_| success);
        self.check_status(request, answer);
        if let Some(view) = view {
            self.check_time(request, answer, view);
        }
        // With any answer the use of the session may have been stored.
        if let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get_mut(token))
            && request.known.is_some()
        {
            token.moving -= 1;
            if request.shown < token.gone_from || answer.set_back {
                token.gone_from = token.gone_from.max(latest + IDLE).min(token.absolute);
            }
            let lineage = self.lineages.get_mut(&token.lineage).expect("a token has one");
            lineage.ending -= u32::from(request.kind.ends());
        }
        // A log-out with a token that was replaced meanwhile is anonymous and ends nothing.
        let found = answer.view.as_ref().is_none_or(|view| view.lineage != 0);
        if request.kind.ends() && success && found {
            self.end_lineage_of(request);
        } else if request.kind.ends() && answer.status == Some(503) && answer.handled {
            self.refuse(request);
        }
        let Some(view) = view else {
            // A save before the failure may have started a session.
            if request.kind != Kind::LogOut {
                self.learn_token(request, answer, request.number);
            }
            return;
        };
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

    fn check_status(&mut self, request: &Request, answer: &Answer) {
        let Some(status) = answer.status else { return };
        match status {
            200..300 => {}
            409 => {
                let token = request.token.as_ref().and_then(|token| self.tokens.get(token));
                // No request can end a session whose id is unknown.
                let lives = token.map_or(request.kind != Kind::Revoke && request.token.is_none(), |token| {
                    // Another request may have extended it before this one wrote.
                    let meanwhile = answer.wrote.is_some_and(|wrote| token.known_since <= wrote.after);
                    let until = if meanwhile { token.lives_until } else { request.lives_until };
                    token.endangered.is_none() && self.latest < until
                });
                if lives {
                    self.violate(request, "reports the end of a session which lives");
                }
            }
            // A handler that does not wait for the store does not know what is stored.
            503 if !answer.calm || matches!(request.kind, Kind::HastySave | Kind::HastyUpdate) => {}
            503 => self.violate(request, "was answered 503 while the store was well"),
            _ => self.violate(request, &format!("was answered {status}")),
        }
    }

    /// Checks that no ended or expired session was used.
    fn check_time(&mut self, request: &Request, answer: &Answer, view: &View) {
        let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get(token)) else { return };
        if token.lineage != view.lineage || request.known.is_none() || answer.set_back {
            return;
        }
        // A log-out of an expired session is as good as a log-out of a live one.
        let Some(wrote) = answer.wrote.filter(|_| !request.kind.looks() && !request.kind.ends()) else {
            return;
        };
        if wrote.shown >= token.gone_from && token.moving == 1 {
            self.violate(request, &format!("wrote to {}, which had expired meanwhile", view.lineage));
        } else if token.refused[request.process].is_some_and(|(_, since)| since < wrote.after) {
            self.violate(request, &format!("wrote to {}, which is refused meanwhile", view.lineage));
        }
    }

    fn check_identity(&mut self, request: &Request, answer: &Answer, view: &View) {
        let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get(token)) else {
            if view.lineage != 0 && view.lineage != request.number {
                self.violate(request, &format!("had no known token and saw the content of {}", view.lineage));
            }
            return;
        };
        let lineage = &self.lineages[&token.lineage];
        let refused = token.refused[request.process];
        if view.lineage == token.lineage {
            if lineage.browser != request.browser {
                self.violate(request, &format!("saw the content of browser {}", lineage.browser));
            } else if lineage.ended.is_some_and(|ended| ended < request.began) {
                self.violate(request, &format!("saw {}, which had ended", token.lineage));
            } else if token.dead.is_some_and(|dead| dead < request.began) {
                self.violate(request, &format!("saw {} by a token that was replaced", token.lineage));
            } else if refused.is_some_and(|(since, _)| since < request.began) {
                self.violate(request, &format!("saw {}, which is refused", token.lineage));
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
        let token = request.token.as_ref().and_then(|token| self.tokens.get(token));
        let known = request.known.as_ref().filter(|_| token.is_some_and(|t| t.lineage == view.lineage));
        let made: BTreeSet<_> = view.log.iter().copied().collect();
        let lost: Vec<_> = known.into_iter().flat_map(|known| known.difference(&made)).collect();
        let foreign: Vec<_> = made.iter().filter(|entry| !lineage.asked.contains(&entry.number)).collect();
        let mut wrong = Vec::new();
        if !lost.is_empty() {
            wrong.push(format!("lost the writes of {lost:?}"));
        }
        if !foreign.is_empty() {
            wrong.push(format!("has writes of requests to other sessions, {foreign:?}"));
        }
        if made.len() != view.log.len() {
            wrong.push(format!("has made changes twice: {:?}", view.log));
        }
        let of = |change| view.log.iter().filter(move |entry| entry.change == change);
        let tags: BTreeSet<_> = of(Change::Tag).map(|entry| entry.number).collect();
        let (counts, sums) = (of(Change::Count).count() as u64, of(Change::Sum).count() as u64);
        if (&view.tags, view.count, view.sum) != (&tags, counts, sums) {
            let shown = (&view.tags, view.count, view.sum);
            wrong.push(format!("does not add up: {shown:?}, of {:?}", view.log));
        }
        for wrong in wrong {
            self.violate(request, &format!("saw that {} {wrong}", view.lineage));
        }
    }

    fn learn(&mut self, request: &Request, answer: &Answer, view: &View) {
        if view.lineage == 0 {
            return;
        }
        self.learn_token(request, answer, view.lineage);
        let entries = view.made.iter().map(|&change| Entry { number: request.number, change });
        let Some(lineage) = self.lineages.get_mut(&view.lineage) else {
            self.violate(request, "began a session and brought no cookie");
            return;
        };
        lineage.known.extend(entries);
        let set = answer.set.as_ref().filter(|set| !set.is_empty());
        let old = request.token.as_ref().and_then(|token| self.tokens.get_mut(token));
        if let Some(old) = old.filter(|old| old.lineage == view.lineage && request.kind.renames()) {
            old.dead.get_or_insert(self.order);
            old.renamed = set.map(|set| (request.process, set.clone()));
            // A session that could not be ended under its old id is blocked under all known ids.
            let refused = old.refused[request.process].map(|_| (self.order, self.passed));
            if let Some(token) = set.and_then(|set| self.tokens.get_mut(set)) {
                token.refused[request.process] = refused;
                token.endangered = token.endangered.or(refused.map(|(since, _)| since));
            }
        }
        let Some(token) = set.or(request.token.as_ref()).and_then(|token| self.tokens.get_mut(token)) else {
            return;
        };
        // A write stores the time of its use. A read stores it only if the store works and the session has not expired
        // meanwhile.
        let alive = answer.calm && self.latest < request.lives_until;
        let alone = request.alone && request.uses == token.uses;
        let used = match request.kind {
            Kind::Read => alive,
            Kind::Peek => alive && alone,
            _ => true,
        };
        if view.lineage == token.lineage && used && !answer.set_back {
            let least = (request.shown + IDLE).min(token.least_absolute).saturating_sub(STEP);
            if least > token.lives_until {
                (token.lives_until, token.known_since) = (least, self.passed);
            }
        }
    }

    /// Records a token that an answer set for a lineage.
    fn learn_token(&mut self, request: &Request, answer: &Answer, number: u64) {
        let Some(set) = answer.set.as_ref().filter(|set| !set.is_empty() && !self.tokens.contains_key(*set))
        else {
            return;
        };
        let browser = request.browser;
        let lineage =
            self.lineages.entry(number).or_insert_with(|| Lineage { browser, ..Lineage::default() });
        // For a lineage that starts with this request, earlier knowledge does not count.
        lineage.asked.insert(request.number);
        let old = request.token.as_ref().and_then(|token| self.tokens.get(token));
        let goes_on = old.filter(|old| old.lineage == number && request.kind != Kind::LogIn);
        let least = if answer.set_back { 0 } else { request.shown + ABSOLUTE };
        let (least_absolute, absolute) =
            goes_on.map_or((least, self.latest + ABSOLUTE), |old| (old.least_absolute, old.absolute));
        let fresh = Token {
            lineage: number,
            endangered: (lineage.ending > 0).then_some(self.order),
            gone_from: (self.latest + IDLE).min(absolute),
            least_absolute,
            absolute,
            ..Token::default()
        };
        self.tokens.insert(set.clone(), fresh);
    }

    /// Records that the store could not end a session, and that the process refuses it under all ids that it knows.
    fn refuse(&mut self, request: &Request) {
        let (process, since) = (request.process, (self.order, self.passed));
        let mut next = request.token.clone();
        while let Some(token) = next.and_then(|token| self.tokens.get_mut(&token)) {
            token.refused[process].get_or_insert(since);
            next = token.renamed.clone().filter(|(by, _)| *by == process).map(|(_, name)| name);
        }
    }

    fn end_lineage_of(&mut self, request: &Request) {
        let Some(token) = request.token.as_ref().and_then(|token| self.tokens.get(token)) else { return };
        let order = self.order;
        // A request whose token was replaced before it started had no session to end.
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
