//! The restricted master problem: the cheapest use of the patterns so far, a linear programme that patterns are added to.

/// A group's content and what it takes of the step.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) cost: f64,
    /// Buckets and how many sequences of each, possibly a part of one.
    pub(crate) content: Vec<(usize, f64)>,
}

/// The linear programme that covers all sequences with the patterns so far: the simplex method on a dense inverse.
pub(crate) struct Master {
    /// The pattern of each basic variable.
    basis: Vec<Pattern>,
    /// How often it is used.
    amounts: Vec<f64>,
    /// The inverse of the basis, row by row of basic variables.
    inverse: Vec<Vec<f64>>,
    /// The dual price of each bucket: what one more of its sequences would cost.
    pub(crate) duals: Vec<f64>,
    /// Patterns that are not in the basis.
    others: Vec<Pattern>,
}

/// Gains below this part of a pattern's cost are no gains.
const TOLERANCE: f64 = 1e-9;

impl Master {
    /// With a pattern for each bucket that holds it alone.
    pub(crate) fn new(alone: Vec<Pattern>, counts: &[f64]) -> Self {
        let num = alone.len();
        let held = |bucket: usize| alone[bucket].content[0].1;
        let mut inverse = vec![vec![0.0; num]; num];
        for (bucket, row) in inverse.iter_mut().enumerate() {
            row[bucket] = 1.0 / held(bucket);
        }
        let mut master = Master {
            amounts: (0..num)
                .map(|bucket| counts[bucket] / held(bucket))
                .collect(),
            duals: Vec::new(),
            others: Vec::new(),
            inverse,
            basis: alone,
        };
        master.set_duals();
        master
    }

    /// Uses a pattern where it helps, and then all others that help.
    pub(crate) fn add(&mut self, pattern: Pattern) {
        let mut entering = pattern;
        let mut pivots_left = 4 * self.basis.len();
        loop {
            let left = self.enter(entering);
            self.others.push(left);
            let gains = |(index, other): (usize, &Pattern)| {
                let gain = self.gain(other);
                (gain > TOLERANCE * (1.0 + other.cost.abs())).then_some((index, gain))
            };
            let best = self.others.iter().enumerate().filter_map(gains);
            let Some((best, _)) = best.max_by(|a, b| a.1.total_cmp(&b.1)) else {
                return;
            };
            if pivots_left == 0 {
                return;
            }
            pivots_left -= 1;
            entering = self.others.swap_remove(best);
        }
    }

    /// Its reduced cost, negated: by how much its sequences' dual prices exceed its cost.
    pub(crate) fn gain(&self, pattern: &Pattern) -> f64 {
        let values = pattern.content.iter();
        values
            .map(|&(bucket, count)| count * self.duals[bucket])
            .sum::<f64>()
            - pattern.cost
    }

    /// Swaps a pattern for the basic one that it displaces; returns the one that is left out.
    fn enter(&mut self, pattern: Pattern) -> Pattern {
        if self.gain(&pattern) <= TOLERANCE * (1.0 + pattern.cost.abs()) {
            return pattern;
        }
        let direction: Vec<f64> = self
            .inverse
            .iter()
            .map(|row| {
                pattern
                    .content
                    .iter()
                    .map(|&(bucket, count)| count * row[bucket])
                    .sum()
            })
            .collect();
        let mut leaving: Option<(f64, usize)> = None;
        for (position, &direction) in direction.iter().enumerate() {
            if direction > 1e-9 {
                let ratio = self.amounts[position] / direction;
                if leaving.is_none_or(|(least, _)| ratio < least) {
                    leaving = Some((ratio, position));
                }
            }
        }
        let Some((amount, leaving)) = leaving else {
            return pattern;
        };
        let pivot = direction[leaving];
        let pivot_row: Vec<f64> = self.inverse[leaving]
            .iter()
            .map(|entry| entry / pivot)
            .collect();
        for (position, &direction) in direction.iter().enumerate() {
            if position != leaving && direction != 0.0 {
                self.amounts[position] = (self.amounts[position] - amount * direction).max(0.0);
                for (entry, pivot) in self.inverse[position].iter_mut().zip(&pivot_row) {
                    *entry -= direction * pivot;
                }
            }
        }
        self.inverse[leaving] = pivot_row;
        self.amounts[leaving] = amount;
        let left = std::mem::replace(&mut self.basis[leaving], pattern);
        self.set_duals();
        left
    }

    fn set_duals(&mut self) {
        let mut duals = vec![0.0; self.basis.len()];
        for (pattern, row) in self.basis.iter().zip(&self.inverse) {
            for (dual, entry) in duals.iter_mut().zip(row) {
                *dual += pattern.cost * entry;
            }
        }
        self.duals = duals;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_used_where_they_save() {
        // Lengths of 3, 5 and 6 of 10, at 1 a group: two of each but the shortest, of which there are three in a group.
        let pattern = |content: &[(usize, f64)]| Pattern {
            cost: 1.0,
            content: content.to_vec(),
        };
        let alone = vec![
            pattern(&[(0, 3.0)]),
            pattern(&[(1, 2.0)]),
            pattern(&[(2, 1.0)]),
        ];
        let counts = [30.0, 20.0, 10.0];
        let mut master = Master::new(alone, &counts);
        let total = |master: &Master| -> f64 {
            let all = counts.iter().zip(&master.duals);
            all.map(|(count, dual)| count * dual).sum()
        };
        assert!((total(&master) - 30.0).abs() < 1e-9);
        // As dear as what it replaces.
        master.add(pattern(&[(0, 1.0), (1, 1.0)]));
        assert!((total(&master) - 30.0).abs() < 1e-9);
        master.add(pattern(&[(0, 1.0), (2, 1.0)]));
        assert!((total(&master) - (10.0 + 10.0 + 20.0 / 3.0)).abs() < 1e-9);
        let used: f64 = master.amounts.iter().sum();
        assert!((used - total(&master)).abs() < 1e-9);
    }
}
