//! How many live sessions have each value: rows of the store enter, numbers leave. No row is opened.

use std::collections::HashMap;

use super::filter::{Facet, Shown};
use crate::bag::Databag;
use crate::error::Error;
use crate::sessions::Sessions;
use crate::store::{Filter, Page};

/// How many sessions are read. Ids are random, so the first ones are a sample of all.
const MOST_READ: u64 = 10_000;
/// How many of them are read at a time.
const AT_A_TIME: u32 = 500;

/// The live sessions by the values of a facet.
#[derive(Debug, Default)]
pub(super) struct Grouped {
    /// The largest group first.
    pub(super) groups: Vec<(Shown, u64)>,
    /// How many sessions were read.
    pub(super) read: u64,
    /// How many there are.
    pub(super) total: u64,
}

impl Grouped {
    /// Returns how many of all sessions are in each group: an estimate, if not all were read.
    pub(super) fn of_all(&self) -> impl Iterator<Item = (&Shown, u64)> {
        let of_all = |read: u64| u128::from(read) * u128::from(self.total) / u128::from(self.read.max(1));
        self.groups.iter().map(move |(value, read)| (value, u64::try_from(of_all(*read)).unwrap_or(u64::MAX)))
    }
}

/// Groups the live sessions by each of these.
pub(super) async fn group<T: Databag>(
    sessions: &Sessions<T>,
    facets: &[Facet],
) -> Result<Vec<Grouped>, Error> {
    let mut groups = vec![HashMap::<Shown, u64>::new(); facets.len()];
    let (mut read, mut after, mut is_sample) = (0, None, false);
    loop {
        let rows = sessions.rows(sessions.live(Filter::All), Page::new(after, AT_A_TIME)).await?;
        let Some(last) = rows.last() else { break };
        if read >= MOST_READ {
            is_sample = true;
            break;
        }
        after = Some(last.id);
        read += rows.len() as u64;
        for row in rows.iter().filter(|row| row.damaged.is_none()) {
            for (facet, groups) in facets.iter().zip(&mut groups) {
                *groups.entry(facet.of_row(row)).or_default() += 1;
            }
        }
    }
    let total = if is_sample { sessions.count(Filter::All).await? } else { read };
    let largest_first = |groups: HashMap<Shown, u64>| {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable_by(|(one, of_one), (other, of_other)| {
            of_other.cmp(of_one).then_with(|| one.cmp(other))
        });
        Grouped { groups, read, total }
    };
    Ok(groups.into_iter().map(largest_first).collect())
}
