//! Figures measured at some degrees, and what they say about the degrees between.

use lengthwise_core::Degree;

/// A figure of a degree: linear in log2(degree) between the measured ones, constant beyond them.
///
/// Doubling the degree is what changes a network's or an allocator's behaviour by one step, so halfway
/// between degrees 4 and 8 lies degree 5.66, not 6.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DegreeTable {
    /// By increasing degree; no degree twice.
    knots: Vec<Knot>,
}

/// A measured figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Knot {
    pub(crate) degree: Degree,
    pub(crate) figure: f64,
    log2: f64,
}

impl DegreeTable {
    /// A table of these figures in any order; the last of several for one degree counts.
    pub(crate) fn new(figures: impl IntoIterator<Item = (Degree, f64)>) -> Self {
        let mut by_degree = std::collections::BTreeMap::new();
        by_degree.extend(figures);
        DegreeTable {
            knots: by_degree
                .into_iter()
                .map(|(degree, figure)| Knot {
                    degree,
                    figure,
                    log2: log2(degree),
                })
                .collect(),
        }
    }

    /// The figure of `degree`; `None` for a table without figures.
    pub(crate) fn at(&self, degree: Degree) -> Option<f64> {
        let parts = self.knots_of(degree);
        let parts = parts.map(|(knot, weight)| weight * knot.figure);
        parts.reduce(|low, high| low + high)
    }

    /// The measured figures whose mean is that of `degree`, with their weights, which add up to 1.
    pub(crate) fn knots_of(&self, degree: Degree) -> impl Iterator<Item = (Knot, f64)> {
        let at = log2(degree);
        let above = self.knots.partition_point(|knot| knot.log2 < at);
        let low = above.checked_sub(1).map(|below| self.knots[below]);
        let high = self.knots.get(above).copied();
        let knots = match (low, high) {
            (Some(low), Some(high)) if high.log2 > at => {
                let share = (at - low.log2) / (high.log2 - low.log2);
                [Some((low, 1.0 - share)), Some((high, share))]
            }
            // Its own, or the last one.
            (_, Some(only)) | (Some(only), None) => [Some((only, 1.0)), None],
            (None, None) => [None, None],
        };
        knots.into_iter().flatten()
    }
}

fn log2(degree: Degree) -> f64 {
    f64::from(degree.get()).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    #[test]
    fn figures_are_linear_in_the_logarithm_and_constant_outside() {
        let table = DegreeTable::new([(degree(8), 30.0), (degree(2), 10.0)]);
        for (at, figure) in [(1, 10.0), (2, 10.0), (4, 20.0), (8, 30.0), (64, 30.0)] {
            assert_eq!(table.at(degree(at)), Some(figure), "degree {at}");
        }
        let between = table.at(degree(3)).unwrap();
        assert!((between - (10.0 + 10.0 * 1.5f64.log2())).abs() < 1e-12);
        assert_eq!(DegreeTable::new([]).at(degree(2)), None);
    }
}
