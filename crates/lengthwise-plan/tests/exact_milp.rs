//! Bounds and plans compared with the optimum that a solver of mixed-integer programmes proves where the exhaustive planner
//! ends. The programme is that of the whole step: over micro-batches `j`, possible groups `g` with strategy `p(g)`, of
//! which a degree has as many as the devices allow, and sequences `k`,
//!
//! ```text
//! minimise sum_j (b u[j] + M[j])   s.t.
//!     sum_{j,g} x[j,g,k] = 1                            every sequence once
//!     sum_k w(p(g),k) x[j,g,k] <= M[j]                  the makespan is that of the slowest group
//!     sum_k m(p(g),k) x[j,g,k] <= budget y[j,g]         memory
//!     sum_k s(k) x[j,g,k] <= cap d(p(g)) y[j,g]         tokens, where rules cap them
//!     sum_k x[j,g,k] <= most y[j,g]                     sequences, where rules cap them
//!     x[j,g,k] <= y[j,g] <= sum_k x[j,g,k]              open groups hold sequences, and no others do
//!     sum_g d(p(g)) y[j,g] <= N u[j]                    devices; equal where rules leave none idle
//!     u[j] <= sum_g y[j,g]
//!     sum_j u[j] = multiple z
//! ```
//!
//! on one node of `N` equal devices. As many micro-batches are modelled as a plan can have that is no slower than the one
//! found: each takes the overhead `b`, and all together at least the device-seconds of the batch at its cheapest. Groups of
//! powers of two, the largest first, are aligned on one node whatever they are.
//!
//! `cargo test --release -p lengthwise-plan --features highs --test exact_milp -- --nocapture`

mod common;

use common::exact::best_step;
use common::{Case, Size, cases, cases_with_rules, sample};
use good_lp::solvers::SolutionStatus;
use good_lp::solvers::highs::highs;
use good_lp::{
    Expression, ProblemVariables, ResolutionError, Solution, SolverModel, Variable, constraint,
    variable, variables,
};
use lengthwise_core::{MemoryModel, PlanRules, Strategy};
use lengthwise_cost::{CostModel, GroupShape, Span};
use lengthwise_plan::PlannerKind;

/// The size that enumeration ends below.
const MIN_SEQUENCES: usize = 9;

/// Sequences beyond those that are enumerated, and devices of one node.
const SIZE: Size = Size {
    num_nodes: 1,
    devices_per_node: 12,
    num_sequences: 14,
    seq_len: 60_000,
};

/// More micro-batches make programmes that take too long.
const MAX_MICRO_BATCHES: usize = 3;

/// Where the solver gives up, and the problem counts as unsolved.
const TIME_LIMIT_S: f64 = 10.0;

/// The error that the solver's own tolerances may make in a figure.
const TOLERANCE: f64 = 1e-6;

/// A problem as tables: of seconds and bytes, by strategy and sequence.
struct Tables {
    rules: PlanRules,
    lens: Vec<f64>,
    strategies: Vec<Strategy>,
    time: Vec<Vec<f64>>,
    memory: Vec<Vec<f64>>,
    budget: f64,
    overhead: f64,
    num_devices: u32,
}

impl Tables {
    fn of(case: &Case) -> Self {
        let device = &case.cluster.devices()[0];
        let num_devices = case.cluster.num_devices();
        let strategies = case.space.strategies().iter().copied();
        let strategies: Vec<Strategy> = strategies
            .filter(|strategy| strategy.degree().get() <= num_devices)
            .filter(|strategy| case.rules.allows_degree(strategy.degree()))
            .collect();
        let lens = case.batch.seq_lens();
        let time = |&strategy: &Strategy| {
            let span = Span::OneNode;
            let shape = GroupShape { strategy, span };
            let times = lens.iter().map(|&len| case.cost.sequence_time(shape, len));
            times
                .map(|time| time.get() / device.speed().get())
                .collect()
        };
        let memory = |&strategy: &Strategy| {
            let bytes = lens
                .iter()
                .map(|&len| case.cost.sequence_memory(strategy, len));
            bytes.map(|bytes| bytes.0 as f64).collect()
        };
        Tables {
            time: strategies.iter().map(time).collect(),
            memory: strategies.iter().map(memory).collect(),
            strategies,
            rules: case.rules,
            lens: lens.iter().map(|len| len.0 as f64).collect(),
            budget: (case.cost.budget(device).0 as f64).max(1.0),
            overhead: case.cost.micro_batch_overhead().get(),
            num_devices,
        }
    }

    fn num_sequences(&self) -> usize {
        self.time[0].len()
    }

    fn degree(&self, strategy: usize) -> f64 {
        f64::from(self.strategies[strategy].degree().get())
    }

    /// Whether these sequences may be in one group.
    fn fit(&self, strategy: usize, sequences: &[usize]) -> bool {
        let sum = |figures: &[f64]| sequences.iter().map(|&k| figures[k]).sum::<f64>();
        let degree = self.strategies[strategy].degree();
        let (tokens, num) = (self.rules.most_tokens(degree), self.rules.most_sequences());
        (!self.rules.limits_memory() || sum(&self.memory[strategy]) <= self.budget)
            && sum(&self.lens) <= tokens.0 as f64
            && sequences.len() <= num as usize
    }

    fn fits(&self, strategy: usize, sequence: usize) -> bool {
        self.fit(strategy, &[sequence])
    }

    /// The strategy of every group that a micro-batch can have.
    fn groups(&self) -> Vec<usize> {
        let most = |strategy: usize| {
            let most = self.num_devices / self.strategies[strategy].degree().get();
            (most as usize).min(self.num_sequences())
        };
        let strategies = 0..self.strategies.len();
        strategies
            .flat_map(|strategy| std::iter::repeat_n(strategy, most(strategy)))
            .collect()
    }

    /// How many micro-batches a plan can have that takes no longer than `seconds`.
    fn most_micro_batches(&self, seconds: f64) -> usize {
        let least = |sequence: usize| {
            let strategies = (0..self.strategies.len()).filter(|&p| self.fits(p, sequence));
            let work = strategies.map(|p| self.degree(p) * self.time[p][sequence]);
            work.fold(f64::INFINITY, f64::min)
        };
        let work: f64 = (0..self.num_sequences()).map(least).sum();
        let left = seconds * (1.0 + TOLERANCE) - work / f64::from(self.num_devices);
        let most = self.num_sequences() as f64;
        let num = if self.overhead > 0.0 {
            left / self.overhead
        } else {
            most
        };
        num.clamp(1.0, most) as usize
    }
}

/// The time of the plan that the solver finds and proves to be the best, from the sequences of its groups, or `None` where
/// it gives up. No better one than `known` seconds need be looked for.
fn solve(tables: &Tables, num_micro_batches: usize, known: f64) -> Option<f64> {
    let groups = tables.groups();
    let num_sequences = tables.num_sequences();
    let mut problem = variables!();
    let used = problem.add_vector(variable().binary(), num_micro_batches);
    let makespan = problem.add_vector(variable().min(0.0), num_micro_batches);
    let per_group = |problem: &mut ProblemVariables| -> Vec<Vec<Variable>> {
        let new = |_| problem.add_vector(variable().binary(), groups.len());
        (0..num_micro_batches).map(new).collect()
    };
    let open = per_group(&mut problem);
    // By micro-batch, group and sequence; those that do not fit are held at 0.
    let holds: Vec<Vec<Vec<Variable>>> = (0..num_micro_batches)
        .map(|_| {
            let of_group = |&strategy: &usize| {
                let of_sequence = |sequence| {
                    let most = f64::from(u8::from(tables.fits(strategy, sequence)));
                    problem.add(variable().integer().min(0.0).max(most))
                };
                (0..num_sequences).map(of_sequence).collect()
            };
            groups.iter().map(of_group).collect()
        })
        .collect();
    // Times in units of the known step: the solver's tolerances are meant for figures of about 1.
    let overhead = tables.overhead / known;
    let multiple_of = f64::from(tables.rules.micro_batches_multiple_of.get());
    let multiple = problem.add(variable().integer().min(0.0));
    let step: Expression = used
        .iter()
        .zip(&makespan)
        .map(|(&used, &makespan)| overhead * used + makespan)
        .sum();
    let mut model = problem
        .minimise(step.clone())
        .using(highs)
        .set_option("threads", 1)
        .set_option("mip_rel_gap", TOLERANCE / 10.0)
        .set_time_limit(TIME_LIMIT_S);
    model.add_constraint(constraint!(step <= 1.0 + TOLERANCE));
    let num_used: Expression = used.iter().sum();
    model.add_constraint(constraint!(num_used == multiple_of * multiple));
    for sequence in 0..num_sequences {
        let all = holds.iter().flatten().map(|group| group[sequence]);
        let times: Expression = all.sum();
        model.add_constraint(constraint!(times == 1.0));
    }
    for batch in 0..num_micro_batches {
        for (group, &strategy) in groups.iter().enumerate() {
            let sum = |figures: &[f64], unit: f64| -> Expression {
                let held = holds[batch][group].iter().zip(figures);
                held.map(|(&held, figure)| figure / unit * held).sum()
            };
            let time = sum(&tables.time[strategy], known);
            model.add_constraint(constraint!(time <= makespan[batch]));
            if tables.rules.limits_memory() {
                let memory = sum(&tables.memory[strategy], tables.budget);
                model.add_constraint(constraint!(memory <= open[batch][group]));
            }
            if tables.rules.token_cap.is_some() {
                let cap = tables
                    .rules
                    .most_tokens(tables.strategies[strategy].degree());
                let tokens = sum(&tables.lens, (cap.0 as f64).max(1.0));
                model.add_constraint(constraint!(tokens <= open[batch][group]));
            }
            let held: Expression = holds[batch][group].iter().sum();
            if let Some(most) = tables.rules.max_sequences_per_group {
                let most = f64::from(most.get());
                model.add_constraint(constraint!(held.clone() <= most * open[batch][group]));
            }
            model.add_constraint(constraint!(held >= open[batch][group]));
            for &held in &holds[batch][group] {
                model.add_constraint(constraint!(held <= open[batch][group]));
            }
            // Groups of one strategy are alike: the first are open.
            if group > 0 && groups[group - 1] == strategy {
                let (before, after) = (open[batch][group - 1], open[batch][group]);
                model.add_constraint(constraint!(after <= before));
            }
        }
        let devices = groups.iter().zip(&open[batch]);
        let devices: Expression = devices
            .map(|(&strategy, &open)| tables.degree(strategy) * open)
            .sum();
        let most = f64::from(tables.num_devices);
        model.add_constraint(if tables.rules.no_idle_ranks {
            constraint!(devices == most * used[batch])
        } else {
            constraint!(devices <= most * used[batch])
        });
        let num_open: Expression = open[batch].iter().sum();
        model.add_constraint(constraint!(num_open >= used[batch]));
        // So are micro-batches: the first are used, the longest first.
        if batch > 0 {
            model.add_constraint(constraint!(used[batch] <= used[batch - 1]));
            model.add_constraint(constraint!(makespan[batch] <= makespan[batch - 1]));
        }
    }
    let solution = match model.solve() {
        Ok(solution) if matches!(solution.status(), SolutionStatus::Optimal) => solution,
        Err(ResolutionError::Infeasible) => panic!("the plan of {known} s is no solution"),
        _ => return None,
    };
    let mut step = 0.0;
    for holds in &holds {
        let mut makespan = 0.0f64;
        for (holds, &strategy) in holds.iter().zip(&groups) {
            let held = (0..num_sequences).filter(|&sequence| solution.value(holds[sequence]) > 0.5);
            let held: Vec<usize> = held.collect();
            if !tables.fit(strategy, &held) {
                // By a part of what the solver's tolerance is.
                return None;
            }
            let times = held.iter().map(|&sequence| tables.time[strategy][sequence]);
            makespan = makespan.max(times.sum());
        }
        if makespan > 0.0 {
            step += makespan + tables.overhead;
        }
    }
    Some(step)
}

/// How plans and bounds compare with the optimum over many problems.
#[derive(Debug, Default)]
struct Comparison {
    num_solved: usize,
    /// Problems that the solver gave up.
    num_stopped: usize,
    num_optimal: usize,
    /// By how much the plan exceeds the optimum at worst.
    worst_plan: f64,
    /// How far the bound is below the optimum: on average, and at worst.
    mean_gap: f64,
    worst_gap: f64,
}

/// Checks that no bound is above the optimum, and no plan below it, and prints the figures.
#[allow(clippy::print_stdout, reason = "figures to report")]
fn compare(cases: impl Iterator<Item = Case>) -> Comparison {
    let mut all = Comparison::default();
    for case in cases {
        let devices = case.cluster.devices();
        let is_equal = devices.iter().all(|device| *device == devices[0]);
        if !is_equal || case.batch.num_sequences() < MIN_SEQUENCES {
            continue;
        }
        let Ok(planned) = PlannerKind::Adaptive.planner().plan(case.problem()) else {
            continue;
        };
        let time = planned.report.predicted_step.get();
        let bound = planned.report.lower_bound.get();
        let tables = Tables::of(&case);
        let num_micro_batches = tables.most_micro_batches(time);
        if num_micro_batches > MAX_MICRO_BATCHES {
            continue;
        }
        let Some(best) = solve(&tables, num_micro_batches, time) else {
            all.num_stopped += 1;
            continue;
        };
        assert!(
            bound <= best * (1.0 + 1e-9),
            "the bound {bound} is above a plan of {best}: {case:?}"
        );
        assert!(
            best <= time * (1.0 + 2.0 * TOLERANCE),
            "the solver proves {best} to be the optimum, a plan takes {time}: {case:?}"
        );
        if case.rules.is_empty() && case.batch.num_sequences() <= 11 {
            // The other oracle goes as far, by other means.
            let enumerated = best_step(&case).unwrap();
            assert!(
                (best / enumerated - 1.0).abs() <= 2.0 * TOLERANCE,
                "{best} and {enumerated}: {case:?}"
            );
        }
        all.num_solved += 1;
        all.worst_plan = all.worst_plan.max(time / best - 1.0);
        all.num_optimal += usize::from(time <= best * (1.0 + 2.0 * TOLERANCE));
        all.mean_gap += 1.0 - bound / best;
        all.worst_gap = all.worst_gap.max(1.0 - bound / best);
    }
    all.mean_gap /= all.num_solved as f64;
    println!("{all:?}");
    all
}

#[test]
fn bounds_hold_and_plans_are_near_the_proven_optimum() {
    let all = compare(sample(cases(SIZE), 24, 400));
    assert!(all.num_solved >= 20, "{all:?}");
    assert!(all.num_optimal * 100 >= all.num_solved * 90, "{all:?}");
    assert!(all.worst_plan <= 0.01, "{all:?}");
    assert!(all.mean_gap <= 0.05, "{all:?}");
}

#[test]
fn bounds_hold_and_plans_are_near_the_proven_optimum_under_rules() {
    let all = compare(sample(cases_with_rules(SIZE), 25, 800));
    assert!(all.num_solved >= 20, "{all:?}");
    assert!(all.num_optimal * 100 >= all.num_solved * 85, "{all:?}");
    assert!(all.worst_plan <= 0.03, "{all:?}");
    assert!(all.mean_gap <= 0.05, "{all:?}");
}
