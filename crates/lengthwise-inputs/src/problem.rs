//! A planning problem from files and names.

use lengthwise_core::{GlobalBatch, Plan, PlanRules, Seconds, StrategySpace};
use lengthwise_cost::CostModel;
use lengthwise_plan::{Planned, Planner, Problem};
use lengthwise_sim::{Overlap, SimError, SimulatedStep, simulate};

use crate::{Costs, InputError, Lengths};

/// A problem with all its parts.
#[derive(Clone, Debug)]
pub struct OwnedProblem {
    /// The sequences.
    pub batch: GlobalBatch,
    /// Their costs, and the cluster.
    pub costs: Costs,
    /// The rules that plans keep beyond memory; none unless told.
    pub rules: PlanRules,
    lengths: Lengths,
}

impl OwnedProblem {
    /// The problem of these lengths under these costs.
    ///
    /// # Errors
    ///
    /// A length beyond the context, or a batch that can't be.
    pub fn new(costs: Costs, lengths: Lengths) -> Result<Self, InputError> {
        let seq_lens = lengths.seq_lens();
        let context = costs.context;
        if let Some(index) = seq_lens.iter().position(|&seq_len| seq_len > context) {
            return Err(InputError::BeyondContext {
                place: lengths.place(index),
                seq_len: seq_lens[index],
                context,
            });
        }
        let batch = GlobalBatch::new(seq_lens.to_vec()).map_err(InputError::Batch)?;
        Ok(OwnedProblem {
            batch,
            costs,
            rules: PlanRules::default(),
            lengths,
        })
    }

    /// The same problem with rules that plans have to keep.
    #[must_use]
    pub fn with_rules(mut self, rules: PlanRules) -> Self {
        self.rules = rules;
        self
    }

    /// The lengths, and where they were written.
    pub fn lengths(&self) -> &Lengths {
        &self.lengths
    }

    /// The problem as planners take it.
    pub fn problem(&self) -> Problem<'_> {
        Problem {
            batch: &self.batch,
            cluster: &self.costs.cluster,
            cost: &self.costs.model,
            space: &self.costs.space,
            rules: self.rules,
        }
    }

    /// Checks that these devices can run a plan that was made elsewhere by `rules`: that they are there, that its strategies
    /// are priced, and that they hold it, unless its rules say that tokens take the place of memory.
    ///
    /// # Errors
    ///
    /// What the plan breaks, in the file that the lengths are from.
    pub fn check_plan(&self, plan: &Plan, rules: PlanRules) -> Result<(), InputError> {
        let name = self.lengths.name().to_owned();
        let groups = plan.micro_batches().iter().flat_map(|one| &one.groups);
        let space = StrategySpace::new(groups.map(|group| group.strategy));
        let space = space.map_err(InputError::NoDegree)?;
        let mut strategies = space.strategies().iter();
        if let Some(&strategy) = strategies.find(|&&one| !self.costs.model.prices(one)) {
            return Err(InputError::UnpricedPlan { name, strategy });
        }
        // Of the rules that it was made by, only what takes the place of memory matters here.
        let rules = PlanRules {
            token_cap: rules.token_cap.filter(|cap| cap.replaces_memory),
            ..PlanRules::default()
        };
        let (cluster, model) = (&self.costs.cluster, &self.costs.model);
        let checked = plan.validate(&self.batch, cluster, &space, model, &rules);
        checked.map_err(|violation| InputError::UnfitPlan { name, violation })
    }

    /// A planner's plan of it.
    ///
    /// # Errors
    ///
    /// There is no plan: why, in the words of the files that the batch came from.
    pub fn plan(&self, planner: &dyn Planner) -> Result<Planned, InputError> {
        let planned = planner.plan(self.problem());
        planned.map_err(|error| self.unplannable(error))
    }

    /// A step of a plan that was checked, simulated with the usual overlap and layers and no overhead beside.
    ///
    /// # Errors
    ///
    /// The plan is none that the devices can run.
    pub fn simulated(&self, plan: &Plan) -> Result<SimulatedStep, SimError> {
        let costs = &self.costs;
        let of_step = costs.step_costs(costs.usual_num_layers(), Seconds::ZERO)?;
        let overlap = Overlap::default();
        simulate(
            plan,
            &self.batch,
            &costs.cluster,
            &of_step,
            overlap,
            &mut (),
        )
    }

    /// The same, with the certificate of its bound.
    ///
    /// # Errors
    ///
    /// As [`OwnedProblem::plan`].
    pub fn plan_certified(&self, planner: &dyn Planner) -> Result<Planned, InputError> {
        let planned = planner.plan_certified(self.problem());
        planned.map_err(|error| self.unplannable(error))
    }
}
