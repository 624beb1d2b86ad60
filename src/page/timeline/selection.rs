//! Which rows of many are shown: the first and the last.

use std::iter;

use super::row::Row;

/// How many rows of a sort a reading shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct MostRows {
    pub(super) attempts: usize,
    pub(super) lm_calls: usize,
    pub(super) tools: usize,
}

impl MostRows {
    /// As many as a picture on a screen shows.
    pub(super) const PICTURE: Self = Self {
        attempts: 12,
        lm_calls: 24,
        tools: 12,
    };
    pub(super) const ALL: Self = Self {
        attempts: usize::MAX,
        lm_calls: usize::MAX,
        tools: usize::MAX,
    };
}

/// Which of `count` rows are shown, if at most `most` are: the first ones and the last ones. The row
/// between them stands for the others.
pub(super) fn shown(count: usize, most: usize) -> (usize, usize) {
    if count <= most {
        return (count, 0);
    }
    let first = most.div_ceil(2);
    (first, most - first)
}

/// The first rows, a row for those between, and the last rows.
pub(super) fn first_and_last<T>(
    items: &[T],
    most: usize,
    row: impl Fn(usize, &T) -> Row,
    between: impl FnOnce(&[T]) -> Row,
) -> Vec<Row> {
    let (first, last) = shown(items.len(), most);
    let all = || items.iter().enumerate().map(|(at, item)| row(at, item));
    if first + last == items.len() {
        return all().collect();
    }
    let hidden = items.get(first..items.len() - last).unwrap_or_default();
    all()
        .take(first)
        .chain(iter::once(between(hidden)))
        .chain(all().skip(items.len() - last))
        .collect()
}
