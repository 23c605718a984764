//! Tables that are read as they are and as Markdown.

/// Rows of cells under names, padded to equal widths: the first column and those of words to the left, numbers to the
/// right.
pub(super) struct TextTable {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table without rows.
    pub(super) fn new(header: &[&str]) -> Self {
        TextTable {
            header: header.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that it lacks are empty.
    pub(super) fn row(&mut self, mut cells: Vec<String>) {
        cells.resize(self.header.len(), String::new());
        self.rows.push(cells);
    }

    /// The header, a line below it, and the rows.
    pub(super) fn lines(&self) -> Vec<String> {
        let columns = 0..self.header.len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            let widest = cells.max().unwrap_or(0);
            widest.max(self.header[column].chars().count()).max(3)
        };
        let is_number = |column: usize| {
            let mut cells = self.rows.iter().map(|row| row[column].as_str());
            let numeric = |cell: &str| {
                let first = cell.chars().next();
                first.is_none_or(|c| c.is_ascii_digit() || matches!(c, '-' | '+'))
                    || matches!(cell, "no plan" | "out of memory")
            };
            column > 0 && cells.all(numeric)
        };
        let shape: Vec<(usize, bool)> = columns
            .map(|column| (width(column), is_number(column)))
            .collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&shape).map(|(cell, &(width, to_right))| {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                if to_right {
                    format!("{padding}{cell}")
                } else {
                    format!("{cell}{padding}")
                }
            });
            format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
        };
        let rule = shape.iter().map(|&(width, to_right)| {
            if to_right {
                format!("{}:", "-".repeat(width - 1))
            } else {
                "-".repeat(width)
            }
        });
        let mut lines = vec![
            line(&self.header),
            format!("| {} |", rule.collect::<Vec<_>>().join(" | ")),
        ];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_words_to_the_left() {
        let mut table = TextTable::new(&["planner", "step", "note"]);
        table.row(vec![
            "static".to_owned(),
            "1.5 s".to_owned(),
            "a".to_owned(),
        ]);
        table.row(vec!["x".to_owned(), "no plan".to_owned()]);
        assert_eq!(
            table.lines(),
            [
                "| planner |    step | note |",
                "| ------- | ------: | ---- |",
                "| static  |   1.5 s | a    |",
                "| x       | no plan |      |",
            ]
        );
    }
}
