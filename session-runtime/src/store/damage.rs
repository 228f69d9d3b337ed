//! Cells that cannot be read: a column and what was read of it enter, a value leaves, and the first bad column is noted.

/// The first column of a row whose value cannot be read.
#[derive(Default)]
pub(super) struct Damage(Option<String>);

impl Damage {
    /// Returns what was read of a column, or a neutral value if it cannot be read.
    pub(super) fn check<T: Default>(&mut self, column: &str, read: Option<T>) -> T {
        if read.is_none() && self.0.is_none() {
            self.0 = Some(column.to_owned());
        }
        read.unwrap_or_default()
    }

    /// Returns the value of [`Row::damaged`](super::Row::damaged).
    pub(super) fn first(self) -> Option<String> {
        self.0
    }
}
