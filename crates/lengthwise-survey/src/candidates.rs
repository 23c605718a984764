//! Which micro-batches may be run to measure costs, and which one tells most.

use lengthwise_cost::fitting::{Features, Fit, Uncertainty, Work};

use crate::layout::Layout;

/// Tokens a rank in the shortest runs.
pub const SHORT: u64 = 128;

/// Relative errors are not believed to be less than this: two runs of the same differ by about as much.
const LEAST_ERROR: f64 = 0.01;

/// By how much the formula may be wrong for lengths or fillings that nothing like them was measured of.
const DISCREPANCY: f64 = 0.1;

/// Lengths and fillings are alike if their binary logarithms have the same whole part, up to this one.
const NUM_OCTAVES: usize = 32;

/// The information in a run: the terms of its time, and where the formula is put to the test.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTerms {
    /// Its work.
    pub work: Work,
    /// Tokens of the longest sequence.
    pub longest: f64,
    /// Tokens of the fullest rank.
    pub local_tokens: f64,
    /// Index of the layout of its groups.
    pub layout: usize,
}

impl RunTerms {
    /// The part of the predicted time that each coefficient makes up; and what the formula may be wrong by for such
    /// lengths, and for such fillings of a layout's ranks. So runs tell little of others unlike them, however exact they
    /// are.
    pub fn features(&self, fit: &Fit) -> Features {
        let shares = fit.shares(&self.work);
        let first = shares.len();
        let octave = |tokens: f64| (tokens.max(1.0).log2() as usize).min(NUM_OCTAVES - 1);
        let of_length = first + octave(self.longest);
        let of_filling = first + (1 + self.layout) * NUM_OCTAVES + octave(self.local_tokens);
        let discrepancies = [(of_length, DISCREPANCY), (of_filling, DISCREPANCY)];
        shares
            .into_iter()
            .enumerate()
            .chain(discrepancies)
            .collect()
    }
}

/// A micro-batch of equal groups that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its layout.
    pub layout: usize,
    /// The sequences of each group.
    pub seq_lens: Vec<u64>,
}

/// For every layout groups with one sequence, ever longer, and with several short ones, up to `most` tokens a group.
pub fn candidates(layouts: &[Layout], context: u64, most: impl Fn(usize) -> u64) -> Vec<Candidate> {
    let mut all = Vec::new();
    for (layout, Layout { strategy, .. }) in layouts.iter().enumerate() {
        let most = most(layout);
        let mut tokens = (u64::from(strategy.degree().get()) * SHORT).min(most);
        while tokens < 2 * most {
            let held = tokens.min(most);
            for parts in [1, 4, 16] {
                let seq_len = (held / parts).min(context);
                // As long as several short ones are not all one token.
                if parts == 1 || seq_len >= SHORT / 2 {
                    let num_sequences = (held / seq_len).min(parts);
                    all.push(Candidate {
                        layout,
                        seq_lens: vec![seq_len; num_sequences as usize],
                    });
                }
            }
            tokens *= 2;
        }
    }
    all.dedup();
    all
}

/// Knowledge of the costs so far, and of how well runs show them.
pub struct Knowledge<'a> {
    fit: &'a Fit,
    /// The relative error to expect of a run of each layout.
    layout_errors: &'a [f64],
    uncertainty: Uncertainty,
}

impl<'a> Knowledge<'a> {
    /// The knowledge after these runs, each of which was measured so many times.
    pub fn of<'b>(
        fit: &'a Fit,
        layout_errors: &'a [f64],
        runs: impl Iterator<Item = (&'b RunTerms, u32)>,
    ) -> Self {
        let num_layouts = layout_errors.len();
        let num_features = fit.terms().len() + (1 + num_layouts) * NUM_OCTAVES;
        let mut uncertainty = Uncertainty::prior(num_features);
        for (run, rounds) in runs {
            let error = layout_errors[run.layout] / f64::from(rounds.max(1)).sqrt();
            uncertainty.learn(&run.features(fit), error.max(LEAST_ERROR));
        }
        Knowledge {
            fit,
            layout_errors,
            uncertainty,
        }
    }

    /// Root of the mean squared relative error that is to be expected of such runs.
    pub fn expected_error<'b>(&self, runs: impl Iterator<Item = &'b RunTerms>) -> f64 {
        let (sum, count) = runs.fold((0.0, 0u32), |(sum, count), run| {
            let features = run.features(self.fit);
            (sum + self.uncertainty.variance(&features), count + 1)
        });
        (sum / f64::from(count.max(1))).sqrt()
    }

    /// The run of `allowed` ones after which `typical` ones are best known, for the time it takes; `None` if none may
    /// run. Both are indices of `runs`; `least_s` is what even the shortest run costs, with all around it.
    pub fn most_telling(
        &self,
        runs: &[RunTerms],
        typical: &[usize],
        allowed: &[usize],
        least_s: f64,
    ) -> Option<usize> {
        let features = |index: &usize| runs[*index].features(self.fit);
        let targets: Vec<Features> = typical.iter().map(features).collect();
        let worth = |index: usize| {
            let error = self.layout_errors[runs[index].layout].max(LEAST_ERROR);
            let run = features(&index);
            let gains = targets
                .iter()
                .map(|target| self.uncertainty.gain(&run, error, target));
            gains.sum::<f64>() / self.fit.seconds(&runs[index].work).max(least_s)
        };
        let ranked = allowed.iter().map(|&index| (index, worth(index)));
        let best = ranked.max_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use lengthwise_core::{
        Activations, Cluster, Degree, Device, Speed, Strategy, StrategySpace, Tokens,
    };
    use lengthwise_cost::GroupShape;
    use lengthwise_cost::fitting::{Load, Observation, TimeTerms};

    use super::*;

    fn single() -> Layout {
        let device = Device::new(lengthwise_core::Bytes::from_mib(1), Speed::NOMINAL);
        let alone = Strategy::ulysses(Degree::ONE, Activations::Recompute);
        Layout::of(alone, &Cluster::uniform(1, 4, device).unwrap())
    }

    fn shape() -> GroupShape {
        single().shape()
    }

    fn run(seq_lens: &[u64]) -> RunTerms {
        let load = Load::new(shape(), seq_lens.iter().map(|&seq_len| Tokens(seq_len)));
        RunTerms {
            work: Work { load, pace: 1.0 },
            longest: seq_lens.iter().copied().max().unwrap() as f64,
            local_tokens: seq_lens.iter().sum::<u64>() as f64,
            layout: 0,
        }
    }

    /// Ten microseconds a token, and a little for its square.
    fn fit() -> Fit {
        let observed = [vec![1], vec![128], vec![4096], vec![256; 8]].map(|seq_lens| {
            let tokens: u64 = seq_lens.iter().sum();
            let squares: u64 = seq_lens.iter().map(|seq_len| seq_len * seq_len).sum();
            Observation {
                seconds: 1e-3 + 1e-5 * tokens as f64 + 1e-9 * squares as f64,
                work: run(&seq_lens).work,
                weight: 1.0,
            }
        });
        Fit::new(TimeTerms::new(None, [shape()]), &observed).unwrap()
    }

    #[test]
    fn groups_are_filled_by_one_sequence_or_by_many_but_never_beyond_their_room_or_the_context() {
        let all = candidates(&[single()], 1000, |_| 3000);
        assert!(all.iter().any(|one| one.seq_lens == [1000]));
        assert!(all.iter().any(|one| one.seq_lens.len() == 16));
        let tokens = |one: &Candidate| one.seq_lens.iter().sum::<u64>();
        assert!(
            all.iter()
                .all(|one| tokens(one) <= 3000 && one.seq_lens[0] <= 1000)
        );
        // Three times the context fills it best.
        assert!(all.iter().any(|one| tokens(one) == 3000));
        // A device with next to no room still has something to measure.
        assert_eq!(candidates(&[single()], 1000, |_| 5).len(), 1);
    }

    #[test]
    fn what_is_like_typical_runs_tells_most_of_them_until_it_is_known() {
        let fit = fit();
        let runs = [run(&[128]), run(&[1024]), run(&[1024; 4]), run(&[4096])];
        let (typical, allowed) = ([2], [0, 1, 2, 3]);
        let choose = |known: &[(usize, u32)]| {
            let known = known.iter().map(|&(index, rounds)| (&runs[index], rounds));
            let knowledge = Knowledge::of(&fit, &[0.05], known);
            let expected = knowledge.expected_error([&runs[2]].into_iter());
            (
                knowledge.most_telling(&runs, &typical, &allowed, 1.0),
                expected,
            )
        };
        let (first, unknown) = choose(&[]);
        assert_eq!(first, Some(2));
        let (_, short_ones_known) = choose(&[(0, 50)]);
        let (_, known) = choose(&[(2, 3)]);
        assert!(unknown > short_ones_known && short_ones_known > 0.1);
        assert!(known < 0.05, "{known}");
        let knowledge = Knowledge::of(&fit, &[0.05], std::iter::empty());
        assert_eq!(knowledge.most_telling(&runs, &typical, &[], 1.0), None);
    }

    #[test]
    fn deciding_among_many_layouts_takes_less_time_than_measuring() {
        let device = Device::new(lengthwise_core::Bytes::from_mib(1), Speed::NOMINAL);
        let cluster = Cluster::uniform(2, 8, device).unwrap();
        let recompute = Activations::Recompute;
        let strategies =
            (1..=16).map(|degree| Strategy::ulysses(Degree::new(degree).unwrap(), recompute));
        let space = StrategySpace::new(strategies).unwrap();
        let layouts = Layout::measured(&space, &[recompute], &cluster, true);
        let terms = TimeTerms::new(None, layouts.iter().map(Layout::shape));
        let all = candidates(&layouts, 1 << 14, |_| 1 << 14);
        let runs: Vec<RunTerms> = all
            .iter()
            .map(|Candidate { layout, seq_lens }| {
                let shape = layouts[*layout].shape();
                let ranks = f64::from(shape.strategy.degree().get());
                let seq_lens_of = || seq_lens.iter().map(|&seq_len| Tokens(seq_len));
                let load = Load::new(shape, seq_lens_of());
                RunTerms {
                    work: Work { load, pace: 1.0 },
                    longest: seq_lens[0] as f64,
                    local_tokens: seq_lens.iter().sum::<u64>() as f64 / ranks,
                    layout: *layout,
                }
            })
            .collect();
        let observed: Vec<Observation> = runs
            .iter()
            .map(|run| Observation {
                seconds: 1e-3 + 1e-5 * run.local_tokens * (1.0 + 1e-4 * run.longest),
                work: run.work,
                weight: 1.0,
            })
            .collect();
        let fit = Fit::new(terms, &observed).unwrap();
        let everything: Vec<usize> = (0..runs.len()).collect();
        let mut known: Vec<usize> = Vec::new();
        let start = Instant::now();
        for _ in 0..5 {
            let known_runs = known.iter().map(|&index| (&runs[index], 1));
            let knowledge = Knowledge::of(&fit, &[0.05; 17], known_runs);
            known.extend(knowledge.most_telling(&runs, &everything, &everything, 0.1));
        }
        let took = start.elapsed();
        // Milliseconds; as products of all features with all it would be minutes.
        assert!(
            layouts.len() == 17 && took < Duration::from_secs(10),
            "{took:?}"
        );
        assert_eq!(known.len(), 5);
    }
}
