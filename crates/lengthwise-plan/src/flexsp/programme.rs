//! A mixed-integer linear programme, and the solvers that it is handed to.

use std::time::Duration;

use microlp::{ComparisonOp, OptimizationDirection, SolveOptions, TerminationReason};

use super::MilpSolver;

/// A column of a programme, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variable(usize);

/// Multiples of variables that are added up.
pub(super) type Terms = Vec<(Variable, f64)>;

/// Minimises one variable over others that are whole numbers.
#[derive(Debug)]
pub(super) struct Programme {
    /// The largest value of every whole number; the first variable is the minimised one, of any value from 0 on.
    most: Vec<Option<u32>>,
    /// A value for every variable to start from.
    start: Vec<f64>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    terms: Terms,
    is_equal: bool,
    right: f64,
}

/// Nodes of branch and bound that the largest programmes may take: some seconds.
const MIN_NODES: f64 = 20.0;

/// Rows times columns of such a programme: that of 64 devices, powers of two as degrees and 16 buckets.
const LARGE: f64 = 1e6;

/// The answer of a solver.
#[derive(Clone, Debug, Default)]
pub(super) struct Solved {
    /// The best values found, if any.
    pub(super) values: Option<Vec<f64>>,
    /// Whether a limit stopped it.
    pub(super) is_stopped: bool,
}

impl Solved {
    pub(super) fn value(&self, variable: Variable) -> f64 {
        self.values
            .as_ref()
            .map_or(0.0, |values| values[variable.0])
    }
}

impl Programme {
    /// Minimises a variable that starts from `start`, by itself so far.
    pub(super) fn new(start: f64) -> Self {
        Programme {
            most: vec![None],
            start: vec![start],
            rows: Vec::new(),
        }
    }

    /// The variable that is minimised.
    pub(super) const fn minimised(&self) -> Variable {
        Variable(0)
    }

    /// A whole number from 0 to `most`.
    pub(super) fn add_integer(&mut self, most: usize, start: usize) -> Variable {
        self.most
            .push(Some(u32::try_from(most).unwrap_or(u32::MAX)));
        self.start.push(start as f64);
        Variable(self.most.len() - 1)
    }

    /// Asks for a sum to be at most `right`.
    pub(super) fn at_most(&mut self, terms: Terms, right: f64) {
        self.rows.push(Row {
            terms,
            is_equal: false,
            right,
        });
    }

    /// Asks for a sum to be `right`.
    pub(super) fn equal(&mut self, terms: Terms, right: f64) {
        self.rows.push(Row {
            terms,
            is_equal: true,
            right,
        });
    }

    /// How many nodes of branch and bound are searched, as many on a slow machine as on a fast one: the more the smaller
    /// the programme, as its nodes are quick.
    fn node_limit(&self) -> u64 {
        let size = (self.most.len() * self.rows.len()).max(1) as f64;
        (MIN_NODES * (LARGE / size).max(1.0).powf(1.5)) as u64
    }

    /// The best values that the solver finds with so many nodes, and in time where there is a limit.
    pub(super) fn solve(
        &self,
        solver: MilpSolver,
        time_limit: Option<Duration>,
        has_start: bool,
    ) -> Solved {
        match solver {
            MilpSolver::Microlp => self.solve_with_microlp(time_limit, has_start),
            #[cfg(feature = "highs")]
            MilpSolver::Highs => self.solve_with_highs(time_limit, has_start),
        }
    }

    fn solve_with_microlp(&self, time_limit: Option<Duration>, has_start: bool) -> Solved {
        let mut problem = microlp::Problem::new(OptimizationDirection::Minimize);
        let variables: Vec<microlp::Variable> = self
            .most
            .iter()
            .map(|most| match most {
                Some(most) => {
                    let most = i32::try_from(*most).unwrap_or(i32::MAX);
                    problem.add_integer_var(0.0, (0, most))
                }
                None => problem.add_var(1.0, (0.0, f64::INFINITY)),
            })
            .collect();
        for row in &self.rows {
            let terms: Vec<(microlp::Variable, f64)> = row
                .terms
                .iter()
                .map(|&(variable, factor)| (variables[variable.0], factor))
                .collect();
            let comparison = if row.is_equal {
                ComparisonOp::Eq
            } else {
                ComparisonOp::Le
            };
            problem.add_constraint(terms, comparison, row.right);
        }
        let mut options = SolveOptions::default();
        options.node_limit = Some(self.node_limit());
        options.time_limit = time_limit;
        if has_start {
            let start = variables.iter().copied().zip(self.start.iter().copied());
            options.warm_start = Some(start.collect());
        }
        let Ok(outcome) = problem.solve_with(options) else {
            return Solved::default();
        };
        let reason = outcome.termination_reason();
        Solved {
            values: outcome.solution().map(|solution| {
                let values = variables.iter();
                values
                    .map(|&variable| solution.var_value(variable))
                    .collect()
            }),
            is_stopped: matches!(
                reason,
                TerminationReason::NodeLimit | TerminationReason::TimeLimit
            ),
        }
    }

    #[cfg(feature = "highs")]
    fn solve_with_highs(&self, time_limit: Option<Duration>, has_start: bool) -> Solved {
        use good_lp::solvers::{SolutionStatus, highs::highs};
        use good_lp::{Expression, Solution, SolverModel, WithInitialSolution, constraint};
        use good_lp::{variable, variables};

        let mut problem = variables!();
        let columns = self.most.iter().map(|most| {
            let column = variable().min(0.0);
            match most {
                Some(most) => column.integer().max(f64::from(*most)),
                None => column,
            }
        });
        let columns: Vec<good_lp::Variable> = columns.map(|column| problem.add(column)).collect();
        let num_nodes = i32::try_from(self.node_limit()).unwrap_or(i32::MAX);
        let mut model = problem
            .minimise(columns[0])
            .using(highs)
            .set_option("threads", 1)
            .set_option("mip_max_nodes", num_nodes);
        if let Some(time) = time_limit {
            model = model.set_time_limit(time.as_secs_f64());
        }
        for row in &self.rows {
            let terms = row.terms.iter();
            let sum: Expression = terms
                .map(|&(variable, factor)| factor * columns[variable.0])
                .sum();
            model.add_constraint(if row.is_equal {
                constraint!(sum == row.right)
            } else {
                constraint!(sum <= row.right)
            });
        }
        if has_start {
            let start = columns.iter().copied().zip(self.start.iter().copied());
            model = model.with_initial_solution(start);
        }
        let Ok(solution) = model.solve() else {
            return Solved::default();
        };
        Solved {
            values: Some(
                columns
                    .iter()
                    .map(|&column| solution.value(column))
                    .collect(),
            ),
            is_stopped: matches!(solution.status(), SolutionStatus::TimeLimit),
        }
    }
}
