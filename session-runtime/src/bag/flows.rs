//! Flows that leave the site and come back once: a session keeps what it has begun until it is finished.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::policy::{FieldVersions, MergeOutcome, encoded};
use crate::clock::Timestamp;
use crate::codec::{Codec, CodecError};
use crate::token::{base64url, fill_random};

/// How many flows a session keeps. One more takes the place of the one that ends first.
const MOST: usize = 16;

/// How long a flow lives that was begun in a bag without a session.
const DEFAULT_TTL: Duration = Duration::from_mins(10);

/// What a session keeps of flows that leave the site and come back: the state and verifier of an OAuth log-in (RFC 6749
/// §10.12, RFC 7636), the challenge of a passkey, an address that waits for its confirmation. As a field with `flow`:
/// `#[databag(flow, ttl = "10m")] oauth: Flows<OAuthFlow>`.
///
/// Each flow has a [`Ticket`] of its own, so that two tabs do not disturb each other. A ticket is good in its own session only,
/// before and after a log-in, until it is [finished](Self::finish), its time has passed, or 16 others were begun after it.
///
/// # Examples
///
/// ```
/// use actix_web::http::header::LOCATION;
/// use actix_web::{HttpResponse, Responder, error, web};
/// use serde::{Deserialize, Serialize};
/// use session_runtime::{Databag, Flows, Session};
///
/// #[derive(Databag)]
/// struct Shop {
///     #[databag(user_id)]
///     user_id: Option<i64>,
///     #[databag(flow, ttl = "10m")]
///     oauth: Flows<OAuthFlow>,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct OAuthFlow {
///     verifier: String,
///     return_to: String,
/// }
///
/// async fn leave(mut session: Session<Shop>) -> impl Responder {
///     let flow = OAuthFlow { verifier: "made up".to_owned(), return_to: "/cart".to_owned() };
///     let state = session.oauth_mut().begin(flow);
///     let location = format!("https://accounts.example/authorize?state={state}");
///     HttpResponse::SeeOther().insert_header((LOCATION, location)).finish()
/// }
///
/// #[derive(Deserialize)]
/// struct Callback {
///     state: String,
///     code: String,
/// }
///
/// async fn come_back(mut session: Session<Shop>, query: web::Query<Callback>) -> actix_web::Result<impl Responder> {
///     let flow = session.update(|shop| shop.oauth.finish(&query.state)).await?;
///     let flow = flow.ok_or_else(|| error::ErrorBadRequest("this log-in has ended: begin again"))?;
///     // Exchange `query.code` and `flow.verifier` for the user.
///     session.log_in(7);
///     Ok(HttpResponse::SeeOther().insert_header((LOCATION, flow.return_to)).finish())
/// }
/// # let _ = (leave, come_back);
/// ```
pub struct Flows<V> {
    /// By their tickets, with the time at which they end. `None` is left of a flow that was finished.
    by_ticket: BTreeMap<String, (Timestamp, Option<V>)>,
    /// The time of the request, and how long a flow lives; not stored.
    times: Option<(Timestamp, Duration)>,
    /// The tickets of flows that were begun before these were known: in a bag for a new session.
    untimed: Vec<String>,
}

impl<V> Flows<V> {
    /// Keeps a value until the flow comes back, and returns its ticket, for a URL.
    pub fn begin(&mut self, value: V) -> Ticket {
        let (now, ttl) = self.times();
        self.forget_ended(now);
        while self.by_ticket.len() >= MOST {
            let first = self.by_ticket.iter().min_by_key(|(_, (ends, value))| (value.is_some(), *ends));
            let Some(first) = first.map(|(ticket, _)| ticket.clone()) else { break };
            self.by_ticket.remove(&first);
        }
        let mut random = [0; 16];
        fill_random(&mut random);
        let ticket = base64url(&random);
        self.by_ticket.insert(ticket.clone(), (now.saturating_add(ttl), Some(value)));
        if self.times.is_none() {
            self.untimed.push(ticket.clone());
        }
        Ticket(ticket)
    }

    /// Takes the value of a flow that has come back; `None` if this session has not begun it, if it was finished before, and
    /// if its time has passed.
    ///
    /// Call it in [`Session::update`](crate::Session::update): then of all requests with one ticket, in any number of
    /// processes, exactly one gets the value, before its handler goes on. Outside of it two requests at the same time may both get it;
    /// one of them is then answered 409 in place of its handler's answer.
    pub fn finish(&mut self, ticket: impl AsRef<str>) -> Option<V> {
        let (now, _) = self.times();
        let (ends, value) = self.by_ticket.get_mut(ticket.as_ref())?;
        if *ends <= now {
            return None;
        }
        let value = value.take();
        if value.is_some() {
            self.forget_ended(now);
        }
        value
    }

    /// Returns how many flows are open.
    pub fn len(&self) -> usize {
        let (now, _) = self.times();
        self.by_ticket.values().filter(|(ends, value)| value.is_some() && *ends > now).count()
    }

    /// Returns whether no flow is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes the time of the request.
    #[doc(hidden)]
    pub fn set_times(&mut self, now: Timestamp, ttl: Duration) {
        self.times = Some((now, ttl));
        for ticket in std::mem::take(&mut self.untimed) {
            if let Some((ends, _)) = self.by_ticket.get_mut(&ticket) {
                *ends = now.saturating_add(ttl);
            }
        }
    }

    fn times(&self) -> (Timestamp, Duration) {
        self.times.unwrap_or_else(|| (SystemTime::now().into(), DEFAULT_TTL))
    }

    /// A request that only reads forgets nothing, because it would have to be written.
    fn forget_ended(&mut self, now: Timestamp) {
        self.by_ticket.retain(|_, (ends, _)| *ends > now);
    }

    /// Merges flows that two requests have changed; `None` if both have finished the same one.
    fn merge([base, ours, theirs]: [Self; 3]) -> Option<Self> {
        let is_open = |flows: &Self, ticket: &str| {
            flows.by_ticket.get(ticket).is_some_and(|(_, value)| value.is_some())
        };
        let mut merged = theirs;
        for ticket in base.by_ticket.keys().filter(|ticket| !ours.by_ticket.contains_key(*ticket)) {
            merged.by_ticket.remove(ticket);
        }
        for (ticket, flow) in ours.by_ticket {
            let is_finished = is_open(&base, &ticket) && flow.1.is_none();
            if is_finished && !is_open(&merged, &ticket) {
                return None;
            }
            if is_finished || !base.by_ticket.contains_key(&ticket) {
                merged.by_ticket.insert(ticket, flow);
            }
        }
        Some(merged)
    }
}

impl<V> Default for Flows<V> {
    fn default() -> Self {
        Self { by_ticket: BTreeMap::new(), times: None, untimed: Vec::new() }
    }
}

impl<V> fmt::Debug for Flows<V> {
    /// Shows how many there are: they are users' data, and their tickets secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flows({})", self.by_ticket.len())
    }
}

impl<V: Serialize> Serialize for Flows<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // In JSON the value of an open flow may be `null` itself.
        serializer.collect_map(self.by_ticket.iter().map(|(ticket, (ends, value))| {
            (ticket, (ends.as_millis(), value.as_ref().map(|value| (value,))))
        }))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Flows<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flows = BTreeMap::<String, (i64, Option<(V,)>)>::deserialize(deserializer)?;
        let flow = |(ticket, (ends, value)): (_, (i64, Option<(V,)>))| {
            (ticket, (Timestamp::from_millis(ends), value.map(|(value,)| value)))
        };
        Ok(Self { by_ticket: flows.into_iter().map(flow).collect(), ..Self::default() })
    }
}

#[doc(hidden)]
impl FieldVersions<'_> {
    /// Merges a field with `flow`.
    pub fn flows<C: Codec, V: Serialize + DeserializeOwned>(self) -> Result<MergeOutcome, CodecError> {
        Ok(match Flows::merge(self.decode::<C, Flows<V>>()?) {
            None => MergeOutcome::Refused,
            Some(merged) => MergeOutcome::Merged(encoded::<C>(&merged)?),
        })
    }
}

/// The name of a flow in a URL: 22 characters of base64url. Whoever has it can finish the flow, but in its own session only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Ticket(String);

impl Ticket {
    /// Returns the ticket as a URL carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Ticket {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

impl Serialize for Ticket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn flows(now: i64) -> Flows<u32> {
        let mut flows = Flows::default();
        flows.set_times(at(now), Duration::from_millis(10));
        flows
    }

    /// What a request reads of the same session.
    fn read(stored: &Flows<u32>, now: i64) -> Flows<u32> {
        Flows { by_ticket: stored.by_ticket.clone(), ..flows(now) }
    }

    #[test]
    fn a_flow_is_finished_once_and_in_time() {
        let mut session = flows(0);
        let tickets = [session.begin(1), session.begin(2), session.begin(3)];
        assert_eq!(
            (session.finish(&tickets[1]), session.finish(&tickets[1]), session.len()),
            (Some(2), None, 2)
        );
        assert_eq!((session.finish("made up"), session.finish("")), (None, None));
        assert_eq!(flows(0).finish(&tickets[0]), None, "of another session");
        assert_eq!(read(&session, 9).finish(tickets[0].as_str()), Some(1));
        let mut late = read(&session, 10);
        assert_eq!((late.finish(&tickets[2]), late.is_empty()), (None, true));
        assert_eq!(late.by_ticket, session.by_ticket, "that is no change");
        late.begin(4);
        assert_eq!(late.by_ticket.len(), 1, "what has ended goes with the next change");
    }

    #[test]
    fn a_session_keeps_the_latest_flows() {
        let mut session = flows(0);
        let tickets: Vec<_> = (0..20)
            .map(|value| {
                session.set_times(at(i64::from(value)), Duration::from_secs(1));
                session.begin(value)
            })
            .collect();
        assert_eq!(session.len(), MOST);
        let finished: Vec<_> = tickets.iter().filter_map(|ticket| session.finish(ticket)).collect();
        assert_eq!(finished, (4..20).collect::<Vec<_>>());
        assert_eq!(session.len(), 0);
        session.begin(20);
        assert_eq!((session.len(), session.by_ticket.len()), (1, MOST), "what was finished goes first");
    }

    #[test]
    fn the_flows_of_two_tabs_are_merged() {
        let mut base = flows(0);
        let [one, other, ended] = [base.begin(1), base.begin(2), base.begin(3)];
        base.by_ticket.get_mut(ended.as_str()).expect("begun").0 = at(1);
        let (mut ours, mut theirs) = (read(&base, 5), read(&base, 5));
        let (mine, yours) = (ours.begin(4), theirs.begin(5));
        assert_eq!((ours.finish(&one), theirs.finish(&other)), (Some(1), Some(2)));
        let mut merged = read(&Flows::merge([base, ours, theirs]).expect("no conflict"), 5);
        assert_eq!([&one, &other, &ended].map(|ticket| merged.finish(ticket)), [None; 3]);
        assert_eq!([&mine, &yours].map(|ticket| merged.finish(ticket)), [Some(4), Some(5)]);
    }

    #[test]
    fn a_flow_that_both_have_finished_is_a_conflict() {
        let mut base = flows(0);
        let ticket = base.begin(1);
        let (mut ours, mut theirs) = (read(&base, 5), read(&base, 5));
        assert_eq!((ours.finish(&ticket), theirs.finish(&ticket)), (Some(1), Some(1)));
        let copy = |flows: &Flows<u32>| read(flows, 5);
        assert!(Flows::merge([copy(&base), copy(&ours), copy(&theirs)]).is_none());
        // Also if it has ended or was forgotten since.
        theirs.by_ticket.clear();
        assert!(Flows::merge([copy(&base), ours, theirs]).is_none());
    }

    #[test]
    fn a_value_without_content_comes_back() {
        fn comes_back<V: Serialize + DeserializeOwned + PartialEq + fmt::Debug + Clone>(value: &V) {
            let mut session = Flows::default();
            let tickets = [session.begin(value.clone()), session.begin(value.clone())];
            assert_eq!(session.finish(&tickets[1]).as_ref(), Some(value));
            let json = serde_json::to_string(&session).expect("JSON");
            let mut read: Flows<V> = serde_json::from_str(&json).expect("JSON");
            assert_eq!(read.by_ticket, session.by_ticket, "{json}");
            assert_eq!((read.finish(&tickets[0]).as_ref(), read.finish(&tickets[1])), (Some(value), None));
        }
        comes_back(&());
        comes_back(&None::<String>);
        comes_back(&Some("dana".to_owned()));
        comes_back(&vec![()]);
    }

    #[test]
    fn a_flow_that_was_begun_before_its_session_lives_as_long_as_others() {
        let mut session = Flows::default();
        let ticket = session.begin(1);
        session.set_times(at(0), Duration::from_millis(10));
        session.set_times(at(9), Duration::from_millis(10));
        assert_eq!(session.len(), 1);
        session.set_times(at(10), Duration::from_millis(10));
        assert_eq!(session.finish(&ticket), None);
    }

    #[test]
    fn neither_flows_nor_tickets_are_shown() {
        let mut session = flows(0);
        let ticket = session.begin(451);
        assert_eq!(format!("{session:?} {ticket:?}"), "Flows(1) Ticket(..)");
        assert_eq!(ticket.to_string().len(), 22);
        assert_eq!(serde_json::to_value(&ticket).expect("text"), ticket.as_str());
    }
}
