//! The mixed-integer programme of one micro-batch, as published:
//!
//! ```text
//! minimise M   s.t.  sum_p A[k,p] = n_k ;  sum_k A[k,p] m(p,k) <= budget ;
//!                    sum_k A[k,p] w(p,k) <= M ;  sum_k A[k,p] <= K m_p ;  sum_p m_p d_p <= N
//! ```
//!
//! over buckets `k` and possible groups `p`, of which a degree has as many as the devices allow.

use std::time::Duration;

use good_lp::solvers::microlp::microlp;
use good_lp::{
    Expression, Solution, SolverModel, Variable, WithInitialSolution, WithTimeLimit, constraint,
    variable, variables,
};

use super::MilpSolver;
use super::buckets::Bucket;
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
    /// The best groups that the solver finds in time; no worse than the best single degree, filled greedily.
    pub(super) fn solve(
        &self,
        solver: MilpSolver,
        time_limit: Duration,
    ) -> Option<Vec<BucketGroup>> {
        let greedy = self.greedy();
        if time_limit.is_zero() {
            return greedy;
        }
        let start = greedy.as_deref();
        let solved = match solver {
            MilpSolver::Microlp => self.solve_with(microlp, time_limit, start),
            #[cfg(feature = "highs")]
            MilpSolver::Highs => {
                let highs =
                    |problem| good_lp::solvers::highs::highs(problem).set_option("threads", 1);
                self.solve_with(highs, time_limit, start)
            }
        };
        let time = |groups: &Vec<BucketGroup>| self.makespan(groups);
        [solved, greedy]
            .into_iter()
            .flatten()
            .min_by(|a, b| time(a).total_cmp(&time(b)))
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
    /// The values that the solver starts from.
    start: Vec<(Variable, f64)>,
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

    fn variables(
        &self,
        problem: &mut good_lp::ProblemVariables,
        start: Option<&[BucketGroup]>,
    ) -> Variables {
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
        let slowest = problem.add(variable().min(0.0));
        let mut values = vec![(
            slowest,
            start.map_or(0.0, |start| self.makespan(start) / time_unit),
        )];
        let (mut is_open, mut amounts) = (Vec::new(), Vec::new());
        for (&shape, start) in groups.iter().zip(&started) {
            let open = problem.add(variable().binary());
            values.push((open, f64::from(u8::from(start.is_some()))));
            is_open.push(open);
            let amount = |(k, bucket): (usize, &Bucket)| {
                (self.instance.memory(shape, bucket.class) <= self.budget).then(|| {
                    let most = bucket.members.len() as f64;
                    let amount = problem.add(variable().integer().min(0.0).max(most));
                    values.push((amount, start.map_or(0.0, |start| start.counts[k] as f64)));
                    amount
                })
            };
            amounts.push(self.buckets.iter().enumerate().map(amount).collect());
        }
        if start.is_none() {
            values.clear();
        }
        Variables {
            groups,
            slowest,
            is_open,
            amounts,
            time_unit,
            start: values,
        }
    }

    fn solve_with<S: good_lp::Solver>(
        &self,
        solver: S,
        time_limit: Duration,
        start: Option<&[BucketGroup]>,
    ) -> Option<Vec<BucketGroup>>
    where
        S::Model: WithTimeLimit + WithInitialSolution,
    {
        let mut problem = variables!();
        let variables = self.variables(&mut problem, start);
        let mut model = problem.minimise(variables.slowest).using(solver);
        self.constrain(&mut model, &variables);
        self.tighten(&mut model, &variables);
        let mut model = model.with_time_limit(time_limit.as_secs_f64());
        if !variables.start.is_empty() {
            model = model.with_initial_solution(variables.start);
        }
        let solution = model.solve().ok()?;
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
        self.keeps_the_rules(&chosen).then_some(chosen)
    }

    fn constrain(&self, model: &mut impl SolverModel, variables: &Variables) {
        let Variables {
            groups,
            slowest,
            is_open,
            amounts,
            time_unit,
            ..
        } = variables;
        let memory_unit = self.instance.budget_unit();
        for (k, bucket) in self.buckets.iter().enumerate() {
            let total: Expression = amounts.iter().filter_map(|group| group[k]).sum();
            model.add_constraint(constraint!(total == bucket.members.len() as f64));
        }
        for ((&shape, group), &is_open) in groups.iter().zip(amounts).zip(is_open) {
            let (mut time, mut memory, mut held) = (
                Expression::default(),
                Expression::default(),
                Expression::default(),
            );
            for (bucket, amount) in self.buckets.iter().zip(group) {
                if let Some(amount) = *amount {
                    time += self.instance.time(shape, bucket.class) / time_unit * amount;
                    memory +=
                        self.instance.memory(shape, bucket.class) as f64 / memory_unit * amount;
                    held += amount;
                }
            }
            model.add_constraint(constraint!(time <= *slowest));
            model.add_constraint(constraint!(
                memory <= self.budget as f64 / memory_unit * is_open
            ));
            model.add_constraint(constraint!(held <= self.num_sequences() as f64 * is_open));
        }
        let devices: Expression = groups
            .iter()
            .zip(is_open)
            .map(|(&shape, &is_open)| f64::from(self.degree(shape)) * is_open)
            .sum();
        model.add_constraint(constraint!(devices <= f64::from(self.num_devices())));
    }

    /// Constraints that every solution keeps or has a twin that does: the optimum is the same, and found sooner by
    /// solvers that do not look for such things themselves.
    fn tighten(&self, model: &mut impl SolverModel, variables: &Variables) {
        let Variables {
            groups,
            slowest,
            is_open,
            amounts,
            time_unit,
            ..
        } = variables;
        let time =
            |shape: usize, bucket: &Bucket| self.instance.time(shape, bucket.class) / time_unit;
        // Among possible groups of one shape, the first are open, and hold the most of the longest sequences.
        for p in 1..groups.len() {
            if groups[p - 1] != groups[p] {
                continue;
            }
            model.add_constraint(constraint!(is_open[p] <= is_open[p - 1]));
            if let Some(longest) = self.longest_fitting(groups[p])
                && let (Some(before), Some(after)) = (amounts[p - 1][longest], amounts[p][longest])
            {
                model.add_constraint(constraint!(after <= before));
            }
        }
        // The device-seconds of all groups are at most those that there are.
        let mut work = Expression::default();
        for (&shape, group) in groups.iter().zip(amounts) {
            for (bucket, amount) in self.buckets.iter().zip(group) {
                if let Some(amount) = *amount {
                    work += f64::from(self.degree(shape)) * time(shape, bucket) * amount;
                }
            }
        }
        model.add_constraint(constraint!(
            work <= f64::from(self.num_devices()) * *slowest
        ));
        // Some group takes as long as its longest sequence.
        for (k, bucket) in self.buckets.iter().enumerate() {
            let possible = groups
                .iter()
                .zip(amounts)
                .filter(|(_, group)| group[k].is_some());
            let least = possible
                .map(|(&shape, _)| time(shape, bucket))
                .reduce(f64::min);
            model.add_constraint(constraint!(*slowest >= least.unwrap_or(0.0)));
        }
    }

    /// The bucket of the longest sequences that fit a group of `shape`.
    fn longest_fitting(&self, shape: usize) -> Option<usize> {
        (0..self.buckets.len())
            .rev()
            .find(|&k| self.instance.memory(shape, self.buckets[k].class) <= self.budget)
    }

    /// What a solver that was stopped or rounds must be checked for.
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
            (count as u64).saturating_mul(self.instance.memory(group.shape, bucket.class))
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
            let memory = self.instance.memory(shape, bucket.class);
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
