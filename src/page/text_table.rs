//! A table as text, with aligned columns.

use std::fmt;

/// A table whose first columns are texts and whose others are numbers.
#[derive(Debug)]
pub(super) struct TextTable {
    texts: usize,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with `texts` columns of text at the left, and these heads.
    pub(super) fn new(texts: usize, heads: impl IntoIterator<Item = String>) -> Self {
        Self {
            texts,
            rows: vec![heads.into_iter().collect()],
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                line.push_str(&match column < self.texts {
                    true => format!("{gap}{cell:<width$}"),
                    false => format!("{gap}{cell:>width$}"),
                });
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_aligned_at_the_left_and_numbers_at_the_right() {
        let mut table = TextTable::new(1, ["name", "calls"].map(str::to_owned));
        table.row(["a long name", "7"].map(str::to_owned));
        table.row(["é", "123456"].map(str::to_owned));
        let expected = "name          calls\na long name       7\né            123456\n";
        assert_eq!(table.to_string(), expected);
    }
}
