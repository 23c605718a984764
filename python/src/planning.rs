//! A planner's work, without Python: what runs with the GIL released, or on threads of its own.

use lengthwise_core::{Degree, Seconds, Tokens};
use lengthwise_cost::{CoreSharing, StepModel};
use lengthwise_inputs::{Costs, Lengths, OwnedProblem, PlanFile};
use lengthwise_plan::Setting;

use crate::cost_arguments::CostArguments;
use crate::explanation::Explanation;
use crate::fault::Fault;
use crate::lengths;
use crate::planning_arguments::PlanningArguments;
use crate::token_budget::TokenBudget;

/// A plan that was made, and the certificate of its bound as JSON, if that was asked for.
pub(crate) struct Made {
    pub(crate) file: PlanFile,
    pub(crate) certificate: Option<String>,
}

/// All that plans follow from, but lengths.
pub(crate) struct Planning {
    pub(crate) costs: Costs,
    pub(crate) of_costs: CostArguments,
    pub(crate) arguments: PlanningArguments,
    /// What measured steps have made of the costs.
    refined: Option<Refined>,
}

/// What measured steps have made of costs.
struct Refined {
    model: StepModel,
    /// How often they have.
    num_steps: u64,
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
            refined: None,
        })
    }

    /// What a step takes by these costs.
    pub(crate) fn step_model(&self) -> StepModel {
        if let Some(refined) = &self.refined {
            return refined.model.clone();
        }
        let cluster = &self.costs.cluster;
        let of_profile = self.costs.profile().step_model(cluster).ok();
        let cost = self.costs.model.clone();
        match of_profile {
            Some(model) => StepModel { cost, ..model },
            // A described cluster that no profile can hold: its devices have all they need for themselves.
            None => StepModel {
                cost,
                step_overhead: Seconds::ZERO,
                sharing: CoreSharing::apart(cluster.num_devices()),
            },
        }
    }

    /// How often measured steps have refined the costs.
    pub(crate) fn costs_version(&self) -> u64 {
        self.refined.as_ref().map_or(0, |refined| refined.num_steps)
    }

    /// The same planner after another measured step.
    pub(crate) fn refined(&self, model: StepModel) -> Self {
        let mut costs = self.costs.clone();
        costs.model = model.cost.clone();
        Planning {
            costs,
            of_costs: self.of_costs.clone(),
            arguments: self.arguments,
            refined: Some(Refined {
                model,
                num_steps: self.costs_version() + 1,
            }),
        }
    }

    /// What planners are given for these lengths.
    pub(crate) fn problem(&self, seq_lens: Vec<Tokens>) -> Result<OwnedProblem, Fault> {
        let seq_lens = Lengths::drawn(seq_lens, lengths::NAME);
        let problem = OwnedProblem::new(self.costs.clone(), seq_lens)?;
        Ok(problem.with_rules(self.arguments.rules))
    }

    /// A plan for these lengths, which keeps the rules; with the certificate of its bound or without.
    pub(crate) fn plan(&self, seq_lens: Vec<Tokens>, certified: bool) -> Result<Made, Fault> {
        Fault::catch(|| {
            let problem = self.problem(seq_lens)?;
            let PlanningArguments { kind, options, .. } = self.arguments;
            let planner = kind.planner_with(options);
            let planned = if certified {
                planner.plan_certified(problem.problem())
            } else {
                planner.plan(problem.problem())
            };
            let planned = planned.map_err(|error| Fault::unplannable(&problem, error))?;
            let certificate = planned.certificate();
            let certificate = certificate.map(|certificate| certificate.to_json());
            let certificate = certificate.transpose().map_err(|error| {
                Fault::input(format!("the certificate can't be written as JSON: {error}"))
            })?;
            Ok(Made {
                file: PlanFile::new(kind, planned, &problem),
                certificate,
            })
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
                let alone = self.plan(vec![seq_len], false);
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
