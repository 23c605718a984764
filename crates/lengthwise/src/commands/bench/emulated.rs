//! `lengthwise bench emulated`: the same steps on an emulated cluster, planned adaptively with all strategies, with those
//! that exchange tokens for heads alone, and with every single degree, compared with what was predicted and simulated.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lengthwise_comm::Emulation;
use lengthwise_core::{
    Activations, Bytes, Degree, Device, MemoryModel, Plan, PlanRules, Seconds, Strategy,
    StrategyFamily, StrategySpace, Tokens,
};
use lengthwise_cost::{
    ClusterLinks, CostModel, FittedModel, GroupShape, Link, StepModel, TimeParts, TokenBytes,
    TokenVolume,
};
use lengthwise_data::TokenBatch;
use lengthwise_outputs::Outputs;
use lengthwise_plan::{PlanError, Planned, PlannerKind, Problem};
use lengthwise_sim::{Overlap, ShardedBytes, SimError, StepCosts, simulate};
use lengthwise_train::{
    MeasuringRule, ModelConfig, StepRecord, SurveyRule, TrainError, TrainObserver, TrainOptions,
    allowed_strategies, measure_costs, train, volume,
};

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{Overrides, SettingsFile, TrainSettings};

/// Links so fast that what they carry takes no time.
const NO_TIME_BYTES_PER_S: f64 = 1e18;

/// Arguments of `lengthwise bench emulated`.
#[derive(Debug, Args)]
#[command(mut_args(Overrides::hide_of_trainings))]
pub struct BenchEmulatedArgs {
    /// The settings file, in TOML, of a run on an emulated cluster.
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// What measuring costs may take, once with the cluster's links and once where these take no time; where a device is less than a quarter of a core, in proportion more.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub measuring_time: u32,
    /// Settings that this run changes.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// All steps of one planner.
struct Row {
    planner: String,
    measured: Seconds,
    emulated: Seconds,
    predicted: Seconds,
    simulated: Seconds,
}

/// Runs the steps with every planner that can plan them.
pub(super) fn run(args: &BenchEmulatedArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let file = SettingsFile::read(&args.config)?;
    let why = "it has no effect on what lengthwise bench emulated compares";
    args.overrides.refuse_of_trainings(why)?;
    let settings = TrainSettings::read(&file, &args.overrides)?;
    let mut options = settings.options.clone();
    let Some(emulation) = options.emulation.clone() else {
        let message = format!("{} emulates no cluster", args.config.display());
        return Err(Failure::input(message).hint("name one with --emulate CLUSTER.toml"));
    };
    options.export = None;
    let mut outputs = Outputs::new();
    settings.declare(&args.config, &mut outputs);
    output.declare(&mut outputs)?;
    let steps = usize::try_from(options.steps).unwrap_or(usize::MAX);
    let batches: Result<Vec<TokenBatch>, _> = settings.open_batches(output)?.take(steps).collect();
    let batches = batches.map_err(|error| Failure::input(error.to_string()))?;

    output.note("measuring what sequences cost on the cluster");
    let measuring_time = Duration::from_secs(args.measuring_time.into());
    let costs = measure(&options, measuring_time)?;
    output.note("measuring what computing alone costs");
    let emulation_alone = without_links(&emulation)?;
    let alone = TrainOptions {
        emulation: Some(emulation_alone.clone()),
        ..options.clone()
    };
    let costs_alone = measure(&alone, measuring_time)?;
    options.costs = Some(costs.clone());
    // All planners go by the same costs.
    options.refinement = None;

    output.result_line(
        "| planner | measured | by clocks | predicted | simulated | simulated / measured |",
    );
    output.result_line("| --- | ---: | ---: | ---: | ---: | ---: |");
    let bench = EmulatedBench {
        space: allowed_strategies(&options).map_err(failed)?,
        emulation,
        emulation_alone,
        costs,
        costs_alone,
        batches,
        options,
    };
    let adaptive = bench.row(PlannerKind::Adaptive, &bench.space, "adaptive", output)?;
    output.result_line(&adaptive.line());
    let heads_alone = bench
        .space
        .of(&[StrategyFamily::Ulysses], &Activations::ALL);
    let heads_alone = heads_alone.map_err(|error| Failure::input(error.to_string()))?;
    let mut others = Vec::new();
    if heads_alone != bench.space {
        let name = "adaptive, ulysses alone";
        others.extend(bench.planned_row(PlannerKind::Adaptive, &heads_alone, name, output)?);
    }
    let mut best: Option<Row> = None;
    let degrees: Vec<Degree> = bench.space.degrees().collect();
    for degree in degrees {
        let planner = PlannerKind::Static(Some(degree));
        let name = planner.to_string();
        let Some(row) = bench.planned_row(planner, &bench.space, &name, output)? else {
            continue;
        };
        if best
            .as_ref()
            .is_none_or(|best| row.measured < best.measured)
        {
            best = Some(row);
        }
    }
    output.result_line("");
    for other in others.iter().chain(&best) {
        output.result_line(&adaptive.beside(other));
    }
    if let Some(best) = &best {
        let least = bench.least_predicted()?;
        output.result_line(&format!(
            "no plan is predicted to take less than {:.2} s, or to be more than {:.3} times as fast as {}",
            least.get(),
            best.predicted / least,
            best.planner,
        ));
    }
    Ok(())
}

/// What steps cost, measured as before a training.
fn measure(options: &TrainOptions, time_budget: Duration) -> Result<StepModel, Failure> {
    let rule = MeasuringRule {
        survey: SurveyRule {
            time_budget,
            every_degree: true,
            ..SurveyRule::BRIEF
        },
        ..MeasuringRule::BRIEF
    };
    let measured = measure_costs(options, &rule, &|_| {});
    Ok(measured.map_err(failed)?.model)
}

/// The same cluster with links between devices that take no time, to see what devices do alone.
fn without_links(emulation: &Emulation) -> Result<Emulation, Failure> {
    let link = Link::new(NO_TIME_BYTES_PER_S, Seconds::ZERO);
    let link = link.map_err(|error| Failure::run(error.to_string()))?;
    Ok(emulation.clone().with_links(ClusterLinks {
        device: link,
        nic: link,
        ..emulation.links()
    }))
}

/// All that the runs have in common.
struct EmulatedBench {
    options: TrainOptions,
    space: StrategySpace,
    emulation: Emulation,
    /// The same cluster where links take no time.
    emulation_alone: Emulation,
    /// The costs that planners go by.
    costs: StepModel,
    /// What steps cost where links take no time.
    costs_alone: StepModel,
    batches: Vec<TokenBatch>,
}

impl EmulatedBench {
    /// Runs the steps with these strategies where a planner can plan them, and says why where not.
    fn planned_row(
        &self,
        kind: PlannerKind,
        space: &StrategySpace,
        name: &str,
        output: &mut Output<'_>,
    ) -> Result<Option<Row>, Failure> {
        if let Err(error) = self.plan_all(kind, space) {
            output.result_line(&format!("| {name} | - | - | - | - | {error} |"));
            return Ok(None);
        }
        let row = self.row(kind, space, name, output)?;
        output.result_line(&row.line());
        Ok(Some(row))
    }

    /// All batches planned by these costs.
    fn plan_all(
        &self,
        planner: PlannerKind,
        space: &StrategySpace,
    ) -> Result<Vec<Planned>, PlanError> {
        let planner = planner.planner();
        let plan = |batch: &TokenBatch| {
            planner.plan(Problem {
                batch: &batch.global_batch(),
                cluster: &self.options.cluster,
                cost: &self.costs.cost,
                space,
                rules: PlanRules::default(),
            })
        };
        self.batches.iter().map(plan).collect()
    }

    /// What no plan of the steps, with any of the strategies, is predicted to take less than.
    fn least_predicted(&self) -> Result<Seconds, Failure> {
        let planned = self.plan_all(PlannerKind::Adaptive, &self.space);
        let planned = planned.map_err(|error| Failure::run(error.to_string()))?;
        let bounds = planned.iter().map(|planned| planned.report.lower_bound);
        Ok(bounds.map(|bound| bound + self.costs.step_overhead).sum())
    }

    /// Runs the steps as a planner plans them with these strategies; before and after that where links take no time, as a
    /// core that others use too does not stay as fast as it was.
    fn row(
        &self,
        kind: PlannerKind,
        space: &StrategySpace,
        name: &str,
        output: &mut Output<'_>,
    ) -> Result<Row, Failure> {
        output.note(&format!("running {name}"));
        let before = self.steps(kind, space, &self.emulation_alone)?;
        let records = self.steps(kind, space, &self.emulation)?;
        let after = self.steps(kind, space, &self.emulation_alone)?;
        let mut row = Row {
            planner: name.to_owned(),
            measured: Seconds::ZERO,
            emulated: Seconds::ZERO,
            predicted: Seconds::ZERO,
            simulated: Seconds::ZERO,
        };
        let around = before.iter().zip(&after);
        for ((record, batch), (before, after)) in records.iter().zip(&self.batches).zip(around) {
            let alone = (by_clocks(before) + by_clocks(after)) * 0.5;
            row.measured += record.measured;
            row.emulated += by_clocks(record);
            row.predicted += record.predicted;
            row.simulated += self.simulated(&record.plan, batch, alone)?;
        }
        Ok(row)
    }

    /// The steps on a cluster, by the plans that follow from the costs.
    fn steps(
        &self,
        kind: PlannerKind,
        space: &StrategySpace,
        emulation: &Emulation,
    ) -> Result<Vec<StepRecord>, Failure> {
        let options = TrainOptions {
            space: Some(space.clone()),
            emulation: Some(emulation.clone()),
            ..self.options.clone()
        };
        let mut steps = Steps::default();
        let drawn = self.batches.clone().into_iter().map(Ok);
        train(&options, Arc::from(kind.planner()), drawn, &mut steps).map_err(failed)?;
        Ok(steps.0)
    }

    /// What a step is simulated to take over the described links, if it takes `alone` where links take no time.
    fn simulated(
        &self,
        plan: &Plan,
        batch: &TokenBatch,
        alone: Seconds,
    ) -> Result<Seconds, Failure> {
        let by_costs = self.simulated_at(plan, batch, &self.emulation_alone, 1.0)?;
        self.simulated_at(plan, batch, &self.emulation, alone / by_costs)
    }

    /// What a step is simulated to take on a cluster whose devices take so many times as long as they were measured to.
    fn simulated_at(
        &self,
        plan: &Plan,
        batch: &TokenBatch,
        emulation: &Emulation,
        slowness: f64,
    ) -> Result<Seconds, Failure> {
        let failed = |error: SimError| Failure::run(error.to_string());
        let TrainOptions { model, cluster, .. } = &self.options;
        let layers = model.layers as f64;
        // The simulator gathers equal layers, all but the last of them twice.
        let gathered = volume::gathered_bytes(model).as_f64() * layers / (2.0 * layers - 1.0);
        let sharded = ShardedBytes {
            parameters: Bytes::from_f64_ceil(gathered).unwrap_or_default(),
            gradients: volume::scattered_bytes(model),
        };
        let devices = DeviceCosts {
            cost: &self.costs_alone.cost,
            slowness,
        };
        let travelling = Volume(model);
        let exchanged = volume::exchanged_bytes_per_token(model, Activations::Keep);
        let costs = StepCosts::measured(&devices, model.layers as u32, exchanged)
            .map_err(failed)?
            .with_token_volume(&travelling)
            .over_links(emulation.links(), sharded, devices.micro_batch_overhead())
            .with_host_link(emulation.host_link())
            .with_optimizer(self.costs_alone.step_overhead * slowness);
        let step = simulate(
            plan,
            &batch.global_batch(),
            cluster,
            &costs,
            Overlap::default(),
            &mut (),
        );
        Ok(step.map_err(failed)?.step)
    }
}

/// The time of a step by the devices' clocks.
fn by_clocks(record: &StepRecord) -> Seconds {
    record.emulated.unwrap_or(record.measured)
}

/// What travels of a model's tokens.
struct Volume<'a>(&'a ModelConfig);

impl TokenVolume for Volume<'_> {
    fn token_bytes(&self, strategy: Strategy) -> TokenBytes {
        volume::token_bytes(self.0, strategy)
    }
}

/// What was measured where links take no time, on devices that take so many times as long by now: what an exchange costs there,
/// devices spend on packing and unpacking.
struct DeviceCosts<'a> {
    cost: &'a FittedModel,
    slowness: f64,
}

impl MemoryModel for DeviceCosts<'_> {
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        self.cost.sequence_memory(strategy, seq_len)
    }

    fn budget(&self, device: &Device) -> Bytes {
        self.cost.budget(device)
    }

    fn host_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        self.cost.host_memory(strategy, seq_len)
    }

    fn host_budget(&self, device: &Device) -> Bytes {
        self.cost.host_budget(device)
    }
}

impl CostModel for DeviceCosts<'_> {
    fn prices(&self, strategy: Strategy) -> bool {
        self.cost.prices(strategy)
    }

    fn sequence_time(&self, shape: GroupShape, seq_len: Tokens) -> Seconds {
        self.cost.sequence_time(shape, seq_len) * self.slowness
    }

    fn time_parts(&self, shape: GroupShape, seq_len: Tokens) -> TimeParts {
        let parts = self.cost.time_parts(shape, seq_len);
        TimeParts {
            dense: (parts.dense + parts.exchange) * self.slowness,
            attention: parts.attention * self.slowness,
            ..TimeParts::default()
        }
    }

    fn micro_batch_overhead(&self) -> Seconds {
        self.cost.micro_batch_overhead() * self.slowness
    }
}

fn failed(error: TrainError) -> Failure {
    Failure::run(error.to_string())
}

impl Row {
    fn line(&self) -> String {
        format!(
            "| {} | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.3} |",
            self.planner,
            self.measured.get(),
            self.emulated.get(),
            self.predicted.get(),
            self.simulated.get(),
            self.simulated / self.measured,
        )
    }

    /// What the adaptive steps gain beside the fastest of all others.
    fn beside(&self, best: &Row) -> String {
        let ratio = |of: fn(&Row) -> Seconds| of(best) / of(self);
        let measured = ratio(|row| row.measured);
        let simulated = ratio(|row| row.simulated);
        format!(
            "{} is {measured:.3} times as fast as {}; predicted {:.3}, simulated {simulated:.3}, which is {:.1} % off",
            self.planner,
            best.planner,
            ratio(|row| row.predicted),
            100.0 * (simulated / measured - 1.0),
        )
    }
}

/// Keeps every step.
#[derive(Default)]
struct Steps(Vec<StepRecord>);

impl TrainObserver for Steps {
    fn calibrated(&mut self, _took: Seconds) {}

    fn step(&mut self, record: &StepRecord) {
        self.0.push(record.clone());
    }
}
