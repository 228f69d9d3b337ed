//! Merging: two requests changed one session, field by field against what both started from.

use crate::record::Fields;

/// Returns `theirs` with what `ours` changed since `base`. A field that both changed is ours: the later
/// writer wins.
pub(crate) fn merge(base: &Fields, ours: &Fields, theirs: &Fields) -> Fields {
    let mut merged = Fields::default();
    for field in 0..ours.len() {
        let changed = ours.get(field) != base.get(field);
        merged.push(if changed { ours.get(field) } else { theirs.get(field) });
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: [&str; 3]) -> Fields {
        let mut fields = Fields::default();
        for value in values {
            fields.push(value.as_bytes());
        }
        fields
    }

    #[test]
    fn each_side_keeps_what_it_changed_and_the_later_writer_wins_what_both_did() {
        let merged =
            merge(&fields(["a", "b", "c"]), &fields(["A", "b", "ours"]), &fields(["a", "B", "theirs"]));
        for (field, value) in ["A", "B", "ours"].into_iter().enumerate() {
            assert_eq!(merged.get(field), value.as_bytes());
        }
    }
}
