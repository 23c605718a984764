//! A planner's work, without Python: what runs with the GIL released, or on threads of its own.

use lengthwise_core::Tokens;
use lengthwise_inputs::{Costs, Lengths, OwnedProblem, PlanFile};

use crate::cost_arguments::CostArguments;
use crate::fault::Fault;
use crate::lengths;
use crate::planning_arguments::PlanningArguments;

/// All that plans follow from, but lengths.
pub(crate) struct Planning {
    pub(crate) costs: Costs,
    pub(crate) of_costs: CostArguments,
    pub(crate) arguments: PlanningArguments,
}

impl Planning {
    /// The costs that arguments describe, and who plans with them.
    pub(crate) fn new(
        of_costs: CostArguments,
        arguments: PlanningArguments,
    ) -> Result<Self, Fault> {
        Ok(Planning {
            costs: Fault::catch(|| of_costs.costs())?,
            of_costs,
            arguments,
        })
    }

    /// What planners are given for these lengths.
    pub(crate) fn problem(&self, seq_lens: Vec<Tokens>) -> Result<OwnedProblem, Fault> {
        let seq_lens = Lengths::drawn(seq_lens, lengths::NAME);
        let problem = OwnedProblem::new(self.costs.clone(), seq_lens)?;
        Ok(problem.with_rules(self.arguments.rules))
    }

    /// A plan for these lengths, which keeps the rules.
    pub(crate) fn plan(&self, seq_lens: Vec<Tokens>) -> Result<PlanFile, Fault> {
        Fault::catch(|| {
            let problem = self.problem(seq_lens)?;
            let PlanningArguments { kind, options, .. } = self.arguments;
            let planned = kind.planner_with(options).plan(problem.problem());
            let planned = planned.map_err(|error| Fault::unplannable(&problem, error))?;
            // Not every planner heeds every rule, and a plan that breaks one may hang the system that runs it.
            problem
                .rules
                .check(&planned.plan, &problem.batch, &problem.costs.cluster)?;
            Ok(PlanFile::new(kind, planned, &problem))
        })
    }

    /// Devices to plan for.
    pub(crate) fn num_devices(&self) -> u32 {
        self.costs.cluster.num_devices()
    }
}
