//! The envelopes that were opened or sealed last, beside their records, so that none is opened twice in a row.
//!
//! An envelope opens to the same record each time, in the place that it is bound to. The store has returned it, and what
//! it is compared with is the whole of it: so a record from here is never outdated, whoever has written the row.
//!
//! Not for cookies: there the envelope is the credential, which no memory should hold for long.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::format::Binding;
use crate::clock::Timestamp;
use crate::token::SessionId;

/// How many envelopes are kept. Each session has one place, which it shares with others.
const PLACES: usize = 4096;

/// The longest envelope that is kept, in bytes: all of them with their records take about 16 MiB at most.
const MAX_LEN: usize = 2048;

/// Kept envelopes and their records. A record is wiped when its session has ended or another one takes its place.
pub(super) struct OpenedEnvelopes {
    places: Box<[Mutex<Option<Box<Opened>>>]>,
}

struct Opened {
    created: Timestamp,
    expiration: Timestamp,
    revision: i64,
    id: SessionId,
    envelope: Box<[u8]>,
    record: Zeroizing<Vec<u8>>,
}

impl OpenedEnvelopes {
    pub(super) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| Mutex::default()).collect() }
    }

    /// Returns whether an envelope is short enough to be kept.
    pub(super) fn keeps(envelope: &[u8]) -> bool {
        envelope.len() <= MAX_LEN
    }

    /// Returns the record of an envelope, if it is here.
    pub(super) fn find(&self, binding: &Binding<'_>, envelope: &[u8]) -> Option<Vec<u8>> {
        let place = self.place(binding.id);
        let opened = place.as_ref()?;
        (opened.is_of(binding) && *opened.envelope == *envelope).then(|| opened.record.to_vec())
    }

    /// Keeps an envelope with its record.
    pub(super) fn keep(
        &self,
        binding: &Binding<'_>,
        envelope: impl AsRef<[u8]> + Into<Box<[u8]>>,
        record: &[u8],
    ) {
        if !Self::keeps(envelope.as_ref()) {
            return;
        }
        let Binding { id, created, expiration, revision, .. } = *binding;
        let (envelope, record) = (envelope.into(), Zeroizing::new(record.to_vec()));
        let opened = Opened { created, expiration, revision, id, envelope, record };
        let former = self.place(id).replace(Box::new(opened));
        drop(former);
    }

    /// Wipes the record of a session.
    pub(super) fn forget(&self, id: SessionId) {
        let former = self.place(id).take_if(|opened| opened.id == id);
        drop(former);
    }

    fn place(&self, id: SessionId) -> MutexGuard<'_, Option<Box<Opened>>> {
        // An id is a hash: its bytes are uniformly distributed.
        let [one, other, ..] = *id.as_bytes();
        let place = &self.places[usize::from(u16::from_be_bytes([one, other])) % PLACES];
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn is_of(&self, binding: &Binding<'_>) -> bool {
        let Binding { id, created, expiration, revision, .. } = *binding;
        (self.id, self.created, self.expiration, self.revision) == (id, created, expiration, revision)
    }
}

impl fmt::Debug for OpenedEnvelopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenedEnvelopes(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(first: u8, last: u8) -> Binding<'static> {
        let mut id = [first; 32];
        id[31] = last;
        Binding {
            bag: "shop/Shop",
            table: "sessions",
            id: SessionId::from_bytes(id),
            created: Timestamp::from_millis(1),
            expiration: Timestamp::from_millis(2),
            revision: 3,
        }
    }

    fn envelope(byte: u8) -> Vec<u8> {
        vec![byte; 100]
    }

    #[test]
    fn only_the_same_envelope_of_the_same_row_is_found() {
        let opened = OpenedEnvelopes::new();
        let own = binding(1, 1);
        opened.keep(&own, envelope(5), b"record");
        assert_eq!(opened.find(&own, &envelope(5)).as_deref(), Some(&b"record"[..]));
        for other in [
            Binding { created: Timestamp::from_millis(0), ..own },
            Binding { expiration: Timestamp::from_millis(0), ..own },
            Binding { revision: 4, ..own },
            binding(1, 2),
            binding(2, 1),
        ] {
            assert_eq!(opened.find(&other, &envelope(5)), None, "{other:?}");
        }
        for bit in 0..800 {
            let mut changed = envelope(5);
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened.find(&own, &changed), None, "bit {bit}");
        }
        for length in 0..100 {
            assert_eq!(opened.find(&own, &envelope(5)[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_later_envelope_takes_the_place_and_a_long_one_is_not_kept() {
        let opened = OpenedEnvelopes::new();
        let (one, other) = (binding(1, 1), binding(1, 2));
        opened.keep(&one, envelope(5), b"one");
        opened.keep(&other, envelope(6), b"other");
        assert_eq!(opened.find(&one, &envelope(5)), None);
        assert_eq!(opened.find(&other, &envelope(6)).as_deref(), Some(&b"other"[..]));
        let long = vec![7; MAX_LEN + 1];
        opened.keep(&other, long.clone(), b"long");
        assert_eq!(opened.find(&other, &long), None);
        opened.forget(one.id);
        assert!(opened.find(&other, &envelope(6)).is_some());
        opened.forget(other.id);
        assert_eq!(opened.find(&other, &envelope(6)), None);
    }
}
