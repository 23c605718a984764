//! What is simulated: a plan, its batch and cluster, and the costs of its parts.

use std::path::Path;

use lengthwise_core::{Bytes, Degree, Plan, Seconds};
use lengthwise_cost::{ClusterLinks, ExchangeEfficiency, Hardware};
use lengthwise_sim::{ShardedBytes, SimError, StepCosts};

use super::SimulateArgs;
use super::plan_file::PlanFile;
use crate::commands::plan::{Lengths, OwnedProblem};
use crate::described::{DescribedCosts, file_failure};
use crate::failure::Failure;

/// Layers where a profile doesn't say how many the model has.
const USUAL_LAYERS: u32 = 32;

/// Of the bytes that each parameter takes in mixed precision, with its gradient, its exact value and two moments,
/// how many are sent when it is gathered, and as many when its gradient is scattered.
const SENT_PART: f64 = 2.0 / 16.0;

/// All that a simulation needs.
pub(super) struct Scenario {
    pub(super) problem: OwnedProblem,
    pub(super) plan: Plan,
    pub(super) planner: String,
    /// Whose costs these are.
    pub(super) source: String,
    pub(super) transport: Option<Transport>,
    num_layers: u32,
    exchange_bytes_per_token: f64,
    overhead: Seconds,
}

/// What a described cluster says of all that travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transport {
    links: ClusterLinks,
    exchange_efficiency: ExchangeEfficiency,
    parameters: Bytes,
}

impl Scenario {
    /// Reads what the arguments name, and plans if there is no plan.
    pub(super) fn new(args: &SimulateArgs) -> Result<Self, Failure> {
        let (given, lengths) = match (&args.plan, &args.lengths) {
            (Some(plan), _) => {
                let file = PlanFile::read(plan)?;
                (Some((file.plan, file.planner)), file.lengths)
            }
            (None, Some(lengths)) => (None, Lengths::read(lengths)?),
            (None, None) => return Err(Failure::input("a plan or --lengths is missing")),
        };
        let Costs {
            problem,
            source,
            transport,
            num_layers,
            exchange_bytes_per_token,
        } = Costs::new(args, &lengths)?;
        let (plan, planner) = match given {
            Some(given) => given,
            None => {
                let planner = args.planner.planner_with(args.limits.options());
                let planned = planner
                    .plan(problem.problem())
                    .map_err(|error| problem.unplannable(&error, &lengths))?;
                (planned.plan, args.planner.to_string())
            }
        };
        let overhead = args
            .conditions
            .overhead
            .map_or(Seconds::ZERO, Seconds::from);
        Ok(Scenario {
            problem,
            plan,
            planner,
            source,
            transport,
            num_layers: args.conditions.layers.unwrap_or(num_layers),
            exchange_bytes_per_token,
            overhead,
        })
    }

    /// What the parts of a step cost.
    pub(super) fn costs(&self) -> Result<StepCosts<'_>, SimError> {
        let costs = StepCosts::measured(
            &self.problem.cost,
            self.num_layers,
            self.exchange_bytes_per_token,
        )?;
        Ok(match self.transport {
            None => costs,
            Some(transport) => {
                let sharded = ShardedBytes {
                    parameters: transport.parameters,
                    gradients: transport.parameters,
                };
                costs
                    .over_links(transport.links, sharded, self.overhead)
                    .with_exchange_efficiency(transport.exchange_efficiency)
            }
        })
    }
}

/// Costs with the problem they are of.
struct Costs {
    problem: OwnedProblem,
    source: String,
    transport: Option<Transport>,
    num_layers: u32,
    exchange_bytes_per_token: f64,
}

impl Costs {
    fn new(args: &SimulateArgs, lengths: &Lengths) -> Result<Self, Failure> {
        match (&args.profile, &args.cluster, &args.model) {
            (Some(profile), None, _) => Self::measured(args, profile, lengths),
            (Some(profile), Some(cluster), _) => Self::on_links(args, profile, cluster, lengths),
            (None, Some(cluster), Some(model)) => Self::described(args, cluster, model, lengths),
            _ => {
                let failure = Failure::input("--cluster says nothing of what is computed");
                Err(failure.hint("add --profile FILE, or --model NAME"))
            }
        }
    }

    /// All times as a profile has them.
    fn measured(args: &SimulateArgs, profile: &Path, lengths: &Lengths) -> Result<Self, Failure> {
        let degrees = args.degrees.as_deref();
        let problem = OwnedProblem::new(profile, lengths, args.devices, args.context, degrees)?;
        Ok(Costs {
            source: format!("{} as measured", problem.profile.name),
            transport: None,
            num_layers: USUAL_LAYERS,
            exchange_bytes_per_token: problem.profile.exchanged_bytes_per_token(),
            problem,
        })
    }

    /// Devices as a profile has them, in a described cluster.
    fn on_links(
        args: &SimulateArgs,
        profile: &Path,
        path: &Path,
        lengths: &Lengths,
    ) -> Result<Self, Failure> {
        let failure = |error| file_failure(path, &error);
        let mut hardware = Hardware::read(path).map_err(failure)?;
        if let Some(num_devices) = args.devices {
            hardware = hardware.with_num_devices(num_devices).map_err(failure)?;
        }
        let cluster = hardware.cluster().map_err(failure)?;
        let degrees = args.degrees.as_deref();
        let problem = OwnedProblem::on_cluster(profile, cluster, lengths, args.context, degrees)?;
        let parameters = problem.profile.model.sharded_bytes * SENT_PART;
        Ok(Costs {
            source: format!("{} over links of {}", problem.profile.name, hardware.name()),
            transport: Some(Transport::new(&hardware, parameters)),
            num_layers: USUAL_LAYERS,
            exchange_bytes_per_token: problem.profile.exchanged_bytes_per_token(),
            problem,
        })
    }

    /// A model on a described cluster.
    fn described(
        args: &SimulateArgs,
        cluster: &Path,
        model: &str,
        lengths: &Lengths,
    ) -> Result<Self, Failure> {
        let described = DescribedCosts::read(cluster, model)?;
        let degrees = args.degrees.as_deref();
        let (devices, context) = (args.devices, args.context);
        let problem = OwnedProblem::described(&described, lengths, devices, context, degrees)?;
        let context = context.unwrap_or(DescribedCosts::USUAL_CONTEXT);
        let analytic = described.analytic(devices, None, context)?;
        let (architecture, hardware) = (analytic.architecture(), analytic.hardware());
        Ok(Costs {
            problem,
            source: format!("{} over links of {}", architecture.name(), hardware.name()),
            transport: Some(Transport::new(hardware, analytic.gathered_bytes())),
            num_layers: architecture.num_layers(),
            exchange_bytes_per_token: analytic.exchange_bytes_per_token(Degree::ONE),
        })
    }
}

impl Transport {
    fn new(hardware: &Hardware, parameter_bytes: f64) -> Self {
        Transport {
            links: hardware.links(),
            exchange_efficiency: hardware.exchange_efficiency(),
            parameters: Bytes::from_f64_ceil(parameter_bytes).unwrap_or(Bytes(u64::MAX)),
        }
    }
}
