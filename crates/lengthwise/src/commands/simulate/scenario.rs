//! What is simulated: a plan, its batch and cluster, and the costs of its parts.

use lengthwise_core::{Plan, Seconds};
use lengthwise_inputs::{Lengths, OwnedProblem, PlanFile};
use lengthwise_sim::{SimError, StepCosts};

use super::SimulateArgs;
use crate::failure::Failure;

/// All that a simulation needs.
pub(super) struct Scenario {
    pub(super) problem: OwnedProblem,
    pub(super) plan: Plan,
    pub(super) planner: String,
    /// Whose costs these are.
    pub(super) source: String,
    num_layers: u32,
    overhead: Seconds,
}

impl Scenario {
    /// Reads what the arguments name, and plans if there is no plan.
    pub(super) fn new(args: &SimulateArgs) -> Result<Self, Failure> {
        args.costs.parallelism.check_simulated()?;
        let (given, lengths) = match (&args.plan, &args.lengths) {
            (Some(plan), _) => {
                let file = PlanFile::read(plan)?;
                let planner = file.planner.unwrap_or_else(|| "a plan".to_owned());
                (Some((file.plan, planner, file.rules)), file.lengths)
            }
            (None, Some(lengths)) => (None, Lengths::read(lengths)?),
            (None, None) => return Err(Failure::input("a plan or --lengths is missing")),
        };
        let costs = args.costs.costs()?;
        let source = match &costs.transport {
            None => format!("{} as measured", costs.name),
            Some(transport) => format!("{} over links of {}", costs.name, transport.cluster),
        };
        let problem = OwnedProblem::new(costs, lengths)?.with_rules(args.rules.rules());
        let (plan, planner) = match given {
            Some((plan, planner, rules)) => {
                problem.check_plan(&plan, rules)?;
                (plan, planner)
            }
            None => {
                let planner = args
                    .planner
                    .planner_with(args.limits.options(&[args.planner])?);
                let planned = problem.plan(planner.as_ref())?;
                (planned.plan, args.planner.to_string())
            }
        };
        let num_layers = problem.costs.usual_num_layers();
        let overhead = args.conditions.overhead;
        Ok(Scenario {
            plan,
            planner,
            source,
            num_layers: args.conditions.layers.unwrap_or(num_layers),
            overhead: overhead.map_or(Seconds::ZERO, Seconds::from),
            problem,
        })
    }

    /// What the parts of a step cost.
    pub(super) fn costs(&self) -> Result<StepCosts<'_>, SimError> {
        self.problem
            .costs
            .step_costs(self.num_layers, self.overhead)
    }
}
