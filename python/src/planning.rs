//! A planner's work, without Python: what runs with the GIL released, or on threads of its own.

use lengthwise_core::{Degree, Tokens};
use lengthwise_inputs::{Costs, Lengths, OwnedProblem, PlanFile};
use lengthwise_plan::Setting;

use crate::cost_arguments::CostArguments;
use crate::explanation::Explanation;
use crate::fault::Fault;
use crate::lengths;
use crate::planning_arguments::PlanningArguments;
use crate::token_budget::TokenBudget;

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
            Ok(PlanFile::new(kind, planned, &problem))
        })
    }

    /// What a length needs and may use.
    pub(crate) fn explain(&self, seq_len: Tokens) -> Result<Explanation, Fault> {
        Fault::catch(|| {
            let choices = self.setting().choices(seq_len);
            let is_possible = choices.iter().any(|choice| choice.obstacle.is_none());
            let reason = if is_possible {
                None
            } else {
                let alone = self.plan(vec![seq_len]);
                alone.err().map(|fault| fault.message().to_owned())
            };
            Ok(Explanation::new(seq_len, choices, reason))
        })
    }

    /// How many tokens the devices of a group can hold.
    pub(crate) fn token_budget(&self, degree: Degree) -> Result<TokenBudget, Fault> {
        let budget = self.setting().token_budget(degree);
        budget.map(TokenBudget).map_err(|error| {
            let fault = if self.arguments.rules.allows_degree(degree) {
                Fault::input(error.to_string())
            } else {
                Fault::rule(error.to_string())
            };
            match error.hint() {
                Some(hint) => fault.with_hint(hint),
                None => fault,
            }
        })
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            cluster: &self.costs.cluster,
            cost: &self.costs.model,
            space: &self.costs.space,
            rules: self.arguments.rules,
        }
    }

    /// Devices to plan for.
    pub(crate) fn num_ranks(&self) -> u32 {
        self.costs.cluster.num_devices()
    }
}
