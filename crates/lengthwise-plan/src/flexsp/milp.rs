//! The mixed-integer programme of one micro-batch, as published:
//!
//! ```text
//! minimise M   s.t.  sum_p A[k,p] = n_k ;  sum_k A[k,p] m(p,k) <= budget ;
//!                    sum_k A[k,p] w(p,k) <= M ;  sum_k A[k,p] <= K m_p ;  sum_p m_p d_p <= N
//! ```
//!
//! over buckets `k` and possible groups `p`, of which a degree has as many as the devices allow.

use std::time::Duration;

use super::MilpSolver;
use super::buckets::Bucket;
use super::programme::{Programme, Terms, Variable};
use crate::instance::Instance;

/// The programme of one micro-batch.
pub(super) struct MicroBatchMilp<'a> {
    pub(super) instance: &'a Instance<'a>,
    pub(super) buckets: &'a [Bucket],
    /// The shapes that groups may have.
    pub(super) shapes: &'a [usize],
    /// Of every device, in bytes.
    pub(super) budget: u64,
}

/// A group of a micro-batch: its shape, and how many sequences of each bucket.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BucketGroup {
    pub(super) shape: usize,
    pub(super) counts: Vec<usize>,
}

impl MicroBatchMilp<'_> {
    /// The best groups that the solver finds within the limits, no worse than the best single degree, filled greedily; and
    /// whether it was stopped by one.
    pub(super) fn solve(
        &self,
        solver: MilpSolver,
        time_limit: Option<Duration>,
    ) -> (Option<Vec<BucketGroup>>, bool) {
        let greedy = self.greedy();
        if time_limit.is_some_and(|limit| limit.is_zero()) {
            return (greedy, true);
        }
        let (solved, is_stopped) = self.solve_from(greedy.as_deref(), solver, time_limit);
        let time = |groups: &Vec<BucketGroup>| self.makespan(groups);
        let groups = [solved, greedy].into_iter().flatten();
        let best = groups.min_by(|a, b| time(a).total_cmp(&time(b)));
        (best, is_stopped)
    }

    fn makespan(&self, groups: &[BucketGroup]) -> f64 {
        groups
            .iter()
            .map(|group| self.time(group))
            .fold(0.0, f64::max)
    }

    fn time(&self, group: &BucketGroup) -> f64 {
        let counts = group.counts.iter().zip(self.buckets);
        counts
            .map(|(&count, bucket)| count as f64 * self.instance.time(group.shape, bucket.class))
            .sum()
    }
}

/// The programme's variables.
struct Variables {
    /// The shape of every possible group.
    groups: Vec<usize>,
    /// The makespan.
    slowest: Variable,
    /// Whether there is a group, by group.
    is_open: Vec<Variable>,
    /// How many sequences of each bucket a group holds, by group and bucket; `None` where not even one fits.
    amounts: Vec<Vec<Option<Variable>>>,
    /// Seconds that count as 1: solvers' tolerances are meant for figures of about that.
    time_unit: f64,
}

impl MicroBatchMilp<'_> {
    fn num_devices(&self) -> u32 {
        self.instance.problem.cluster.num_devices()
    }

    fn num_sequences(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.members.len()).sum()
    }

    fn degree(&self, shape: usize) -> u32 {
        self.instance.shapes[shape].degree
    }

    /// The makespan of the start, or else the longest time of any sequence in any shape.
    fn time_unit(&self, start: Option<&[BucketGroup]>) -> f64 {
        let times = self.shapes.iter().flat_map(|&shape| {
            self.buckets
                .iter()
                .map(move |bucket| self.instance.time(shape, bucket.class))
        });
        let unit = start.map_or_else(|| times.fold(0.0, f64::max), |start| self.makespan(start));
        if unit > 0.0 { unit } else { 1.0 }
    }

    /// A programme with nothing but its variables.
    fn variables(&self, start: Option<&[BucketGroup]>) -> (Programme, Variables) {
        let most = |&shape: &usize| {
            let most = (self.num_devices() / self.degree(shape)) as usize;
            std::iter::repeat_n(shape, most.min(self.num_sequences()))
        };
        let groups: Vec<usize> = self.shapes.iter().flat_map(most).collect();
        let mut started: Vec<Option<&BucketGroup>> = vec![None; groups.len()];
        let mut start_groups: Vec<&BucketGroup> = start.unwrap_or_default().iter().collect();
        start_groups.sort_by_key(|group| {
            let longest = self.longest_fitting(group.shape);
            std::cmp::Reverse(longest.map(|k| group.counts[k]))
        });
        for group in start_groups {
            let free =
                (0..groups.len()).find(|&p| groups[p] == group.shape && started[p].is_none());
            if let Some(free) = free {
                started[free] = Some(group);
            }
        }
        let time_unit = self.time_unit(start);
        let slowest = start.map_or(0.0, |start| self.makespan(start) / time_unit);
        let mut programme = Programme::new(slowest);
        let (mut is_open, mut amounts) = (Vec::new(), Vec::new());
        for (&shape, start) in groups.iter().zip(&started) {
            is_open.push(programme.add_integer(1, usize::from(start.is_some())));
            let amount = |(k, bucket): (usize, &Bucket)| {
                (self.instance.memory_on_weakest(shape, bucket.class) <= self.budget).then(|| {
                    let start = start.map_or(0, |start| start.counts[k]);
                    programme.add_integer(bucket.members.len(), start)
                })
            };
            amounts.push(self.buckets.iter().enumerate().map(amount).collect());
        }
        let variables = Variables {
            groups,
            slowest: programme.minimised(),
            is_open,
            amounts,
            time_unit,
        };
        (programme, variables)
    }

    fn solve_from(
        &self,
        start: Option<&[BucketGroup]>,
        solver: MilpSolver,
        time_limit: Option<Duration>,
    ) -> (Option<Vec<BucketGroup>>, bool) {
        let (mut programme, variables) = self.variables(start);
        self.constrain(&mut programme, &variables);
        self.tighten(&mut programme, &variables);
        let solution = programme.solve(solver, time_limit, start.is_some());
        if solution.values.is_none() {
            return (None, solution.is_stopped);
        }
        let count = |amount: &Option<Variable>| {
            amount.map_or(0, |amount| solution.value(amount).round().max(0.0) as usize)
        };
        let groups = variables.groups.iter().zip(&variables.amounts);
        let chosen: Vec<BucketGroup> = groups
            .map(|(&shape, amounts)| BucketGroup {
                shape,
                counts: amounts.iter().map(count).collect(),
            })
            .filter(|group| group.counts.iter().any(|&count| count > 0))
            .collect();
        let chosen = self.keeps_the_rules(&chosen).then_some(chosen);
        (chosen, solution.is_stopped)
    }

    fn constrain(&self, programme: &mut Programme, variables: &Variables) {
        let Variables {
            groups,
            slowest,
            is_open,
            amounts,
            time_unit,
        } = variables;
        let memory_unit = self.instance.budget_unit();
        for (k, bucket) in self.buckets.iter().enumerate() {
            let all = amounts.iter().filter_map(|group| group[k]);
            let total: Terms = all.map(|amount| (amount, 1.0)).collect();
            programme.equal(total, bucket.members.len() as f64);
        }
        for ((&shape, group), &is_open) in groups.iter().zip(amounts).zip(is_open) {
            let (mut time, mut memory, mut held) = (Terms::new(), Terms::new(), Terms::new());
            for (bucket, amount) in self.buckets.iter().zip(group) {
                if let Some(amount) = *amount {
                    time.push((amount, self.instance.time(shape, bucket.class) / time_unit));
                    let part =
                        self.instance.memory_on_weakest(shape, bucket.class) as f64 / memory_unit;
                    memory.push((amount, part));
                    held.push((amount, 1.0));
                }
            }
            time.push((*slowest, -1.0));
            programme.at_most(time, 0.0);
            memory.push((is_open, -(self.budget as f64) / memory_unit));
            programme.at_most(memory, 0.0);
            held.push((is_open, -(self.num_sequences() as f64)));
            programme.at_most(held, 0.0);
        }
        let degrees = groups.iter().map(|&shape| f64::from(self.degree(shape)));
        let devices: Terms = is_open.iter().copied().zip(degrees).collect();
        programme.at_most(devices, f64::from(self.num_devices()));
    }

    /// Constraints that every solution keeps or has a twin that does: the optimum is the same, and found sooner by
    /// solvers that do not look for such things themselves.
    fn tighten(&self, programme: &mut Programme, variables: &Variables) {
        let Variables {
            groups,
            slowest,
            is_open,
            amounts,
            time_unit,
        } = variables;
        let time =
            |shape: usize, bucket: &Bucket| self.instance.time(shape, bucket.class) / time_unit;
        // Among possible groups of one shape, the first are open, and hold the most of the longest sequences.
        for p in 1..groups.len() {
            if groups[p - 1] != groups[p] {
                continue;
            }
            programme.at_most(vec![(is_open[p], 1.0), (is_open[p - 1], -1.0)], 0.0);
            if let Some(longest) = self.longest_fitting(groups[p])
                && let (Some(before), Some(after)) = (amounts[p - 1][longest], amounts[p][longest])
            {
                programme.at_most(vec![(after, 1.0), (before, -1.0)], 0.0);
            }
        }
        // The device-seconds of all groups are at most those that there are.
        let mut work = vec![(*slowest, -f64::from(self.num_devices()))];
        for (&shape, group) in groups.iter().zip(amounts) {
            for (bucket, amount) in self.buckets.iter().zip(group) {
                if let Some(amount) = *amount {
                    let degree = f64::from(self.degree(shape));
                    work.push((amount, degree * time(shape, bucket)));
                }
            }
        }
        programme.at_most(work, 0.0);
        // Some group takes as long as its longest sequence.
        for (k, bucket) in self.buckets.iter().enumerate() {
            let possible = groups
                .iter()
                .zip(amounts)
                .filter(|(_, group)| group[k].is_some());
            let least = possible
                .map(|(&shape, _)| time(shape, bucket))
                .reduce(f64::min);
            programme.at_most(vec![(*slowest, -1.0)], -least.unwrap_or(0.0));
        }
    }

    /// The bucket of the longest sequences that fit a group of `shape`.
    fn longest_fitting(&self, shape: usize) -> Option<usize> {
        (0..self.buckets.len()).rev().find(|&k| {
            self.instance
                .memory_on_weakest(shape, self.buckets[k].class)
                <= self.budget
        })
    }

    /// Whether groups keep the rules, which a solver that was stopped or rounds may break.
    fn keeps_the_rules(&self, groups: &[BucketGroup]) -> bool {
        let devices: u32 = groups.iter().map(|group| self.degree(group.shape)).sum();
        devices <= self.num_devices()
            && groups.iter().all(|group| self.fits(group))
            && self.buckets.iter().enumerate().all(|(k, bucket)| {
                groups.iter().map(|group| group.counts[k]).sum::<usize>() == bucket.members.len()
            })
    }

    fn fits(&self, group: &BucketGroup) -> bool {
        let counts = group.counts.iter().zip(self.buckets);
        let memory = counts.map(|(&count, bucket)| {
            (count as u64)
                .saturating_mul(self.instance.memory_on_weakest(group.shape, bucket.class))
        });
        memory.fold(0, u64::saturating_add) <= self.budget
    }

    /// The best of all single degrees, each sequence to the group that is done first: what the solver starts from.
    fn greedy(&self) -> Option<Vec<BucketGroup>> {
        let drafts = self.shapes.iter().filter_map(|&shape| self.fill(shape));
        let time = |groups: &Vec<BucketGroup>| self.makespan(groups);
        drafts.min_by(|a, b| time(a).total_cmp(&time(b)))
    }

    fn fill(&self, shape: usize) -> Option<Vec<BucketGroup>> {
        let num_groups = self.num_devices() / self.degree(shape);
        let empty = BucketGroup {
            shape,
            counts: vec![0; self.buckets.len()],
        };
        let mut groups = vec![(0.0f64, 0u64, empty); num_groups as usize];
        for (k, bucket) in self.buckets.iter().enumerate().rev() {
            let memory = self.instance.memory_on_weakest(shape, bucket.class);
            for _ in &bucket.members {
                let roomy = groups
                    .iter_mut()
                    .filter(|group| group.1.saturating_add(memory) <= self.budget);
                let group = roomy.min_by(|a, b| a.0.total_cmp(&b.0))?;
                group.0 += self.instance.time(shape, bucket.class);
                group.1 += memory;
                group.2.counts[k] += 1;
            }
        }
        let used = groups.into_iter().map(|group| group.2);
        Some(
            used.filter(|group| group.counts.iter().any(|&count| count > 0))
                .collect(),
        )
    }
}
