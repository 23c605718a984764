//! The mixed-integer programme of one micro-batch, as published:
//!
//! ```text
//! minimise M   s.t.  sum_p A[k,p] = n_k ;  sum_k A[k,p] m(p,k) <= budget ;
//!                    sum_k A[k,p] w(p,k) <= M ;  sum_k A[k,p] <= K m_p ;  sum_p m_p d_p <= N
//! ```
//!
//! over buckets `k` and possible groups `p`, of which a degree has as many as the devices allow.

use std::time::Duration;

use good_lp::{
    Expression, Solution, SolverModel, Variable, WithInitialSolution, WithTimeLimit, constraint,
    variable, variables,
};

use super::buckets::Bucket;
use crate::instance::Instance;

/// A group of a micro-batch: its shape, and how many sequences of each bucket.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BucketGroup {
    pub(super) shape: usize,
    pub(super) counts: Vec<usize>,
}

/// The best groups for the buckets that the solver finds in time; no worse than `greedy`.
pub(super) fn solve(
    instance: &Instance<'_>,
    buckets: &[Bucket],
    shapes: &[usize],
    budget: u64,
    time_limit: Duration,
) -> Option<Vec<BucketGroup>> {
    let greedy = greedy(instance, buckets, shapes, budget);
    let solved = solve_exactly(
        instance,
        buckets,
        shapes,
        budget,
        time_limit,
        greedy.as_deref(),
    );
    let time = |groups: &Vec<BucketGroup>| makespan(instance, buckets, groups);
    [solved, greedy]
        .into_iter()
        .flatten()
        .min_by(|a, b| time(a).total_cmp(&time(b)))
}

fn makespan(instance: &Instance<'_>, buckets: &[Bucket], groups: &[BucketGroup]) -> f64 {
    let time = |group: &BucketGroup| -> f64 {
        let counts = group.counts.iter().zip(buckets);
        counts
            .map(|(&count, bucket)| count as f64 * instance.time(group.shape, bucket.class))
            .sum()
    };
    groups.iter().map(time).fold(0.0, f64::max)
}

fn solve_exactly(
    instance: &Instance<'_>,
    buckets: &[Bucket],
    shapes: &[usize],
    budget: u64,
    time_limit: Duration,
    start: Option<&[BucketGroup]>,
) -> Option<Vec<BucketGroup>> {
    let num_devices = instance.problem.cluster.num_devices();
    let num_sequences: usize = buckets.iter().map(|bucket| bucket.members.len()).sum();
    let groups: Vec<usize> = shapes
        .iter()
        .flat_map(|&shape| {
            let most = (num_devices / instance.shapes[shape].degree) as usize;
            std::iter::repeat_n(shape, most.min(num_sequences))
        })
        .collect();
    let mut started: Vec<Option<&BucketGroup>> = vec![None; groups.len()];
    for group in start.unwrap_or_default() {
        let free = (0..groups.len()).find(|&p| groups[p] == group.shape && started[p].is_none());
        started[free?] = Some(group);
    }
    let mut problem = variables!();
    let unit = instance.budget_unit();
    let mut values: Vec<(Variable, f64)> = Vec::new();
    let slowest = problem.add(variable().min(0.0));
    let mut amounts: Vec<Vec<Option<Variable>>> = Vec::with_capacity(groups.len());
    let mut opened = Vec::with_capacity(groups.len());
    for (&shape, start) in groups.iter().zip(&started) {
        let is_open = problem.add(variable().binary());
        values.push((is_open, f64::from(u8::from(start.is_some()))));
        opened.push(is_open);
        let amount = |(k, bucket): (usize, &Bucket)| {
            (instance.memory(shape, bucket.class) <= budget).then(|| {
                let most = bucket.members.len() as f64;
                let amount = problem.add(variable().integer().min(0.0).max(most));
                values.push((amount, start.map_or(0.0, |start| start.counts[k] as f64)));
                amount
            })
        };
        amounts.push(buckets.iter().enumerate().map(amount).collect());
    }
    if let Some(start) = start {
        values.push((slowest, makespan(instance, buckets, start)));
    }
    #[cfg(feature = "highs")]
    let mut model = problem
        .minimise(slowest)
        .using(good_lp::solvers::highs::highs);
    #[cfg(not(feature = "highs"))]
    let mut model = problem
        .minimise(slowest)
        .using(good_lp::solvers::microlp::microlp);
    for (k, bucket) in buckets.iter().enumerate() {
        let total: Expression = amounts.iter().filter_map(|group| group[k]).sum();
        model.add_constraint(constraint!(total == bucket.members.len() as f64));
    }
    for ((&shape, group), &is_open) in groups.iter().zip(&amounts).zip(&opened) {
        let (mut time, mut memory, mut held) = (
            Expression::default(),
            Expression::default(),
            Expression::default(),
        );
        for (bucket, amount) in buckets.iter().zip(group) {
            if let Some(amount) = *amount {
                time += instance.time(shape, bucket.class) * amount;
                memory += instance.memory(shape, bucket.class) as f64 / unit * amount;
                held += amount;
            }
        }
        model.add_constraint(constraint!(time <= slowest));
        model.add_constraint(constraint!(memory <= budget as f64 / unit));
        model.add_constraint(constraint!(held <= num_sequences as f64 * is_open));
    }
    let devices: Expression = groups
        .iter()
        .zip(&opened)
        .map(|(&shape, &is_open)| f64::from(instance.shapes[shape].degree) * is_open)
        .sum();
    model.add_constraint(constraint!(devices <= f64::from(num_devices)));
    let mut model = model.with_time_limit(time_limit.as_secs_f64());
    if start.is_some() {
        model = model.with_initial_solution(values);
    }
    let solution = model.solve().ok()?;
    let counts = |group: &Vec<Option<Variable>>| -> Vec<usize> {
        group
            .iter()
            .map(|amount| {
                amount.map_or(0, |amount| solution.value(amount).round().max(0.0) as usize)
            })
            .collect()
    };
    let chosen: Vec<BucketGroup> = groups
        .iter()
        .zip(&amounts)
        .map(|(&shape, group)| BucketGroup {
            shape,
            counts: counts(group),
        })
        .filter(|group| group.counts.iter().any(|&count| count > 0))
        .collect();
    keeps_the_rules(instance, buckets, &chosen, budget).then_some(chosen)
}

/// What a solver that was stopped or rounds must be checked for.
fn keeps_the_rules(
    instance: &Instance<'_>,
    buckets: &[Bucket],
    groups: &[BucketGroup],
    budget: u64,
) -> bool {
    let devices: u32 = groups
        .iter()
        .map(|group| instance.shapes[group.shape].degree)
        .sum();
    let memory = |group: &BucketGroup| {
        let counts = group.counts.iter().zip(buckets);
        counts
            .map(|(&count, bucket)| count as u64 * instance.memory(group.shape, bucket.class))
            .sum::<u64>()
    };
    devices <= instance.problem.cluster.num_devices()
        && groups.iter().all(|group| memory(group) <= budget)
        && buckets.iter().enumerate().all(|(k, bucket)| {
            groups.iter().map(|group| group.counts[k]).sum::<usize>() == bucket.members.len()
        })
}

/// The best of all single degrees, each sequence to the group that is done first: what the solver starts from.
fn greedy(
    instance: &Instance<'_>,
    buckets: &[Bucket],
    shapes: &[usize],
    budget: u64,
) -> Option<Vec<BucketGroup>> {
    let of_shape = |&shape: &usize| {
        let num_groups = instance.problem.cluster.num_devices() / instance.shapes[shape].degree;
        let empty = BucketGroup {
            shape,
            counts: vec![0; buckets.len()],
        };
        let mut groups = vec![(0.0f64, 0u64, empty); num_groups as usize];
        for (k, bucket) in buckets.iter().enumerate().rev() {
            for _ in &bucket.members {
                let memory = instance.memory(shape, bucket.class);
                let roomy = groups
                    .iter_mut()
                    .filter(|group| group.1.saturating_add(memory) <= budget);
                let group = roomy.min_by(|a, b| a.0.total_cmp(&b.0))?;
                group.0 += instance.time(shape, bucket.class);
                group.1 += memory;
                group.2.counts[k] += 1;
            }
        }
        let used = groups.into_iter().map(|group| group.2);
        Some(
            used.filter(|group| group.counts.iter().any(|&count| count > 0))
                .collect::<Vec<_>>(),
        )
    };
    let drafts = shapes.iter().filter_map(of_shape);
    let time = |groups: &Vec<BucketGroup>| makespan(instance, buckets, groups);
    drafts.min_by(|a, b| time(a).total_cmp(&time(b)))
}
