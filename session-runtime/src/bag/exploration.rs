//! The exploration: what all runs over one type have found, and what the next run offers.
//!
//! The tracer enters and leaves the parts of a type; values to offer and the [`Shape`] leave. serde is not known here.
//!
//! A part is *refused* if its value could not be built although all values inside it were. Then the next made-up value
//! is offered inside it. A visit that fails and changes nothing any more makes its part *unconstructible*: later runs
//! go round it. A run that changes nothing is the last one.

use std::collections::{BTreeMap, BTreeSet};

/// What a type asked for, path by path.
pub(crate) type Shape = BTreeMap<String, String>;

/// The mark of a part that no made-up value fits, and the kind of a part that was never reached.
pub(super) const UNCHECKED: &str = "unchecked";

/// Far more than the field of a session takes. The bounds keep every start-up short.
const RUNS: usize = 4096;
const VISITS: usize = 1 << 17;
const DEPTH: usize = 64;

/// A part that is refused tries other values in this many places, the last ones first.
const PLACES: usize = 8;

#[derive(Default)]
pub(super) struct Exploration {
    human_readable: bool,
    shape: Shape,
    choices: BTreeMap<String, Choice>,
    enums: BTreeMap<String, Variants>,
    unconstructible: BTreeSet<String>,
    /// The parts that were built at least once.
    built: BTreeSet<String>,
    /// The parts whose inner parts have all been reached.
    whole: BTreeSet<String>,
    /// The structs and enums whose visitor knows names, but no indices.
    named: BTreeSet<String>,
    /// The path of each recursion with the path of the type that it enters again.
    recursions: BTreeMap<String, String>,
    /// The visitor and path of each type with a name that is being deserialized, outermost first.
    open: Vec<(&'static str, String)>,
    /// The choices that this run has met, with the number of alternatives.
    met: Vec<(String, usize)>,
    depth: usize,
    visits: usize,
    /// How many failures were noted, each at the part that is to blame.
    failures: usize,
    /// How many times something was found out that changes the next run.
    changes: usize,
}

/// Which alternative is taken at a path: a made-up value, whether an option is empty, a variant of an enum.
#[derive(Clone, Copy)]
struct Choice {
    at: usize,
    /// The depth of the part for which other alternatives are tried, and the alternative that was taken before.
    owner: usize,
    home: usize,
    spent: bool,
}

impl Choice {
    const FIRST: Self = Self { at: 0, owner: usize::MAX, home: 0, spent: false };

    /// Takes the next alternative because the part at depth `owner` was refused, after the last one the alternative
    /// from before. Returns whether the choice has changed.
    fn advance(&mut self, owner: usize, alternatives: usize) -> bool {
        if owner < self.owner {
            *self = Self { at: self.at, owner, home: self.at, spent: false };
        }
        let before = self.at;
        if self.at + 1 < alternatives && !self.spent {
            self.at += 1;
        } else {
            self.at = self.home;
            self.spent = true;
        }
        self.at != before
    }
}

#[derive(Default)]
struct Variants {
    /// The variant that runs follow.
    next: usize,
    /// The variants that can be constructed, in the order of discovery: the first one never needs a recursion.
    constructible: Vec<usize>,
}

/// The counters at the beginning of a visit.
pub(super) struct Visit {
    depth: usize,
    open: usize,
    met: usize,
    failures: usize,
    changes: usize,
}

impl Exploration {
    pub(super) fn new(human_readable: bool) -> Self {
        Self { human_readable, ..Self::default() }
    }

    pub(super) fn is_human_readable(&self) -> bool {
        self.human_readable
    }

    /// Calls `run` until a run changes nothing, and returns the shape.
    pub(super) fn repeat(mut self, mut run: impl FnMut(&mut Self)) -> Shape {
        for _ in 0..RUNS {
            let before = self.changes;
            self.met.clear();
            run(&mut self);
            if self.changes == before || self.visits >= VISITS {
                break;
            }
        }
        self.mark_unchecked();
        self.shape
    }

    fn mark_unchecked(&mut self) {
        const COMPOSITES: [&str; 7] = ["option", "seq", "map", "tuple", "struct", "enum", "recursion"];
        for path in &self.unconstructible {
            match self.shape.get_mut(path) {
                Some(kind) if kind == UNCHECKED || COMPOSITES.contains(&first_word(kind)) => {}
                Some(kind) => *kind = format!("{kind} {UNCHECKED}"),
                None => _ = self.shape.insert(path.clone(), UNCHECKED.to_owned()),
            }
        }
        let parts: Vec<_> = self.shape.iter().filter(|(path, _)| !self.whole.contains(*path)).collect();
        let parts: Vec<_> = parts.into_iter().flat_map(|(path, kind)| inner_parts(path, kind)).collect();
        for part in parts {
            self.shape.entry(part).or_insert_with(|| UNCHECKED.to_owned());
        }
    }

    /// Begins a visit of the part at `path`. Returns `None` if a bound is reached.
    pub(super) fn enter(&mut self, path: &str, minimal: bool) -> Option<Visit> {
        if self.visits >= VISITS || self.depth >= DEPTH {
            if !minimal {
                self.failures += 1;
                self.note(path, UNCHECKED);
            }
            return None;
        }
        let Self { depth, failures, changes, .. } = *self;
        self.visits += 1;
        self.depth += 1;
        Some(Visit { depth, open: self.open.len(), met: self.met.len(), failures, changes })
    }

    /// Ends a visit.
    pub(super) fn leave(&mut self, path: &str, visit: &Visit, built: bool) {
        self.depth = visit.depth;
        self.open.truncate(visit.open);
        if built {
            if self.built.insert(path.to_owned()) {
                self.follow_recursions_to(path);
            }
            return;
        }
        if self.failures == visit.failures {
            self.failures += 1;
            if self.changes == visit.changes {
                self.offer_another(visit);
            }
        }
        if self.changes == visit.changes && self.unconstructible.insert(path.to_owned()) {
            self.changes += 1;
        }
    }

    /// Ends a visit in which nothing is learned.
    pub(super) fn leave_minimal(&mut self, visit: &Visit) {
        self.depth = visit.depth;
    }

    /// Returns a number that stays the same as long as nothing is found out.
    pub(super) fn changes(&self) -> usize {
        self.changes
    }

    fn offer_another(&mut self, visit: &Visit) {
        for (path, alternatives) in self.met[visit.met..].iter().rev().take(PLACES) {
            if self.choices.get_mut(path).is_some_and(|choice| choice.advance(visit.depth, *alternatives)) {
                self.changes += 1;
                return;
            }
        }
    }

    /// A type that is built for the first time is built in place of its recursions from now on, so that what lies
    /// behind them is reached.
    fn follow_recursions_to(&mut self, outer: &str) {
        let recursions = self.recursions.iter().filter(|(_, to)| *to == outer);
        let recursions: Vec<_> = recursions.map(|(from, _)| from.clone()).collect();
        let holds_recursion = |path: &String| recursions.iter().any(|from| from.starts_with(path.as_str()));
        self.unconstructible.retain(|path| !holds_recursion(path));
        for (_, variants) in self.enums.iter_mut().filter(|(path, _)| holds_recursion(path)) {
            variants.next = 0;
        }
        self.changes += usize::from(!recursions.is_empty());
    }

    pub(super) fn note(&mut self, path: &str, kind: &str) {
        if !self.shape.contains_key(path) {
            self.shape.insert(path.to_owned(), kind.to_owned());
        }
    }

    /// Notes a failure whose cause is known: no other value is tried.
    pub(super) fn note_failure(&mut self) {
        self.failures += 1;
    }

    /// Notes that all parts of the part at `path` have been reached.
    pub(super) fn note_whole(&mut self, path: &str) {
        if !self.whole.contains(path) {
            self.whole.insert(path.to_owned());
        }
    }

    pub(super) fn is_unconstructible(&self, path: &str) -> bool {
        self.unconstructible.contains(path)
    }

    /// Returns which of several alternatives to take at `path`.
    pub(super) fn choose(&mut self, path: &str, alternatives: usize) -> usize {
        self.met.push((path.to_owned(), alternatives));
        self.choices.entry(path.to_owned()).or_insert(Choice::FIRST).at % alternatives
    }

    /// Returns which alternative is taken at `path`.
    pub(super) fn chosen(&self, path: &str) -> usize {
        self.choices.get(path).map_or(0, |choice| choice.at)
    }

    /// Returns the variant to follow, and then one that can be constructed. Returns `None` if there is none.
    pub(super) fn variant(&mut self, path: &str, count: usize) -> Option<usize> {
        let variants = self.enums.entry(path.to_owned()).or_default();
        if variants.next < count {
            return Some(variants.next);
        }
        let alternatives = variants.constructible.len();
        (alternatives > 0).then(|| self.choose(path, alternatives))?;
        self.chosen_variant(path)
    }

    /// Returns a variant that can be constructed.
    pub(super) fn chosen_variant(&self, path: &str) -> Option<usize> {
        self.enums.get(path)?.constructible.get(self.chosen(path)).copied()
    }

    /// Notes a visit of a variant that has changed nothing: the next run follows the next variant.
    pub(super) fn finish_variant(&mut self, path: &str, count: usize, built: bool) {
        let Some(variants) = self.enums.get_mut(path).filter(|variants| variants.next < count) else {
            return;
        };
        if built && !variants.constructible.contains(&variants.next) {
            variants.constructible.push(variants.next);
        }
        variants.next += 1;
        self.changes += 1;
        if variants.next == count {
            self.note_whole(path);
        }
    }

    pub(super) fn is_named(&self, path: &str) -> bool {
        self.named.contains(path)
    }

    /// Offers names at `path` from now on: its visitor refused an index.
    pub(super) fn use_names(&mut self, path: &str) {
        self.changes += usize::from(self.named.insert(path.to_owned()));
        self.failures += 1;
    }

    /// Opens a type at `path`. If it is open already, returns where.
    pub(super) fn open(&mut self, visitor: &'static str, path: &str) -> Option<String> {
        let outer = self.open.iter().find(|(open, _)| *open == visitor).map(|(_, path)| path.clone());
        match &outer {
            Some(outer) => {
                self.note(path, &format!("recursion to {outer:?}"));
                self.recursions.insert(path.to_owned(), outer.clone());
            }
            None => self.open.push((visitor, path.to_owned())),
        }
        outer
    }

    pub(super) fn recursion(&self, path: &str) -> Option<&String> {
        self.recursions.get(path)
    }

    pub(super) fn was_built(&self, path: &str) -> bool {
        self.built.contains(path)
    }
}

fn first_word(kind: &str) -> &str {
    kind.split(' ').next().unwrap_or_default()
}

/// Returns the paths of the parts that every value of a kind has, and of the variants of an enum.
fn inner_parts(path: &str, kind: &str) -> Vec<String> {
    let count = |names: &str| names.split(',').filter(|name| !name.is_empty()).count();
    let indexed = |separator: char, count| (0..count).map(|at| format!("{path}{separator}{at}")).collect();
    match kind.split_once(' ').unwrap_or((kind, "")) {
        ("struct", names) => indexed('.', count(names)),
        ("tuple", len) => indexed('.', len.parse().unwrap_or(0)),
        ("enum", names) => indexed(':', count(names)),
        ("map", _) => vec![format!("{path}.key"), format!("{path}.value")],
        _ => Vec::new(),
    }
}
