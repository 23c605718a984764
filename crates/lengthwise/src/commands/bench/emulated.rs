//! `lengthwise bench emulated`: the same steps on an emulated cluster, planned adaptively with all strategies, with those
//! that exchange tokens for heads alone, and with every single degree, compared with what was predicted and simulated.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lengthwise_comm::Emulation;
use lengthwise_core::{
    Activations, Bytes, Degree, Device, MemoryModel, PlanRules, Seconds, Strategy, StrategyFamily,
    StrategySpace, Tokens,
};
use lengthwise_cost::{
    ClusterLinks, CostModel, FittedModel, GroupShape, Link, StepModel, TimeParts, TokenBytes,
};
use lengthwise_data::TokenBatch;
use lengthwise_outputs::Outputs;
use lengthwise_plan::{PlanError, Planned, PlannerKind, Problem};
use lengthwise_sim::{Overlap, ShardedBytes, SimError, StepCosts, simulate};
use lengthwise_train::{
    MeasuringRule, StepRecord, SurveyRule, TrainError, TrainObserver, TrainOptions,
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
    /// What measuring costs may take, before the first planner and after each; where a device is less than a quarter of a core, in proportion more.
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
    let mut alone = Alone::new(without_links(&options, &emulation)?, measuring_time, output)?;
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
        costs,
        batches,
        options,
    };
    let adaptive = bench.row(
        PlannerKind::Adaptive,
        &bench.space,
        "adaptive",
        &mut alone,
        output,
    )?;
    output.result_line(&adaptive.line());
    let heads_alone = bench
        .space
        .of(&[StrategyFamily::Ulysses], &Activations::ALL);
    let heads_alone = heads_alone.map_err(|error| Failure::input(error.to_string()))?;
    let mut others = Vec::new();
    if heads_alone != bench.space {
        let name = "adaptive, ulysses alone";
        others.extend(bench.planned_row(
            PlannerKind::Adaptive,
            &heads_alone,
            name,
            &mut alone,
            output,
        )?);
    }
    let mut best: Option<Row> = None;
    let degrees: Vec<Degree> = bench.space.degrees().collect();
    for degree in degrees {
        let planner = PlannerKind::Static(Some(degree));
        let name = planner.to_string();
        let Some(row) = bench.planned_row(planner, &bench.space, &name, &mut alone, output)? else {
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

/// The same run on links that take no time, to measure what devices do alone.
fn without_links(options: &TrainOptions, emulation: &Emulation) -> Result<TrainOptions, Failure> {
    let link = Link::new(NO_TIME_BYTES_PER_S, Seconds::ZERO);
    let link = link.map_err(|error| Failure::run(error.to_string()))?;
    let links = ClusterLinks {
        device: link,
        nic: link,
        ..emulation.links()
    };
    Ok(TrainOptions {
        emulation: Some(emulation.clone().with_links(links)),
        ..options.clone()
    })
}

/// What devices do alone, measured before and after each run: a core that others use too does not stay as fast as it was.
struct Alone {
    options: TrainOptions,
    time_budget: Duration,
    latest: StepModel,
}

impl Alone {
    fn new(
        options: TrainOptions,
        time_budget: Duration,
        output: &mut Output<'_>,
    ) -> Result<Self, Failure> {
        output.note("measuring what computing alone costs");
        let latest = measure(&options, time_budget)?;
        Ok(Alone {
            options,
            time_budget,
            latest,
        })
    }

    /// As it was measured before the latest run, and as it is after it.
    fn measure_again(&mut self, output: &mut Output<'_>) -> Result<[StepModel; 2], Failure> {
        output.note("measuring what computing alone costs by now");
        let now = measure(&self.options, self.time_budget)?;
        Ok([std::mem::replace(&mut self.latest, now.clone()), now])
    }
}

/// All that the runs have in common.
struct EmulatedBench {
    options: TrainOptions,
    space: StrategySpace,
    emulation: Emulation,
    /// The costs that planners go by.
    costs: StepModel,
    batches: Vec<TokenBatch>,
}

impl EmulatedBench {
    /// Runs the steps with these strategies where a planner can plan them, and says why where not.
    fn planned_row(
        &self,
        kind: PlannerKind,
        space: &StrategySpace,
        name: &str,
        alone: &mut Alone,
        output: &mut Output<'_>,
    ) -> Result<Option<Row>, Failure> {
        if let Err(error) = self.plan_all(kind, space) {
            output.result_line(&format!("| {name} | - | - | - | - | {error} |"));
            return Ok(None);
        }
        let row = self.row(kind, space, name, alone, output)?;
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

    /// Runs the steps as a planner plans them with these strategies.
    fn row(
        &self,
        kind: PlannerKind,
        space: &StrategySpace,
        name: &str,
        alone: &mut Alone,
        output: &mut Output<'_>,
    ) -> Result<Row, Failure> {
        output.note(&format!("running {name}"));
        let options = TrainOptions {
            space: Some(space.clone()),
            ..self.options.clone()
        };
        let mut steps = Steps::default();
        let drawn = self.batches.clone().into_iter().map(Ok);
        train(&options, Arc::from(kind.planner()), drawn, &mut steps).map_err(failed)?;
        let around = alone.measure_again(output)?;
        let mut row = Row {
            planner: name.to_owned(),
            measured: Seconds::ZERO,
            emulated: Seconds::ZERO,
            predicted: Seconds::ZERO,
            simulated: Seconds::ZERO,
        };
        for (record, batch) in steps.0.iter().zip(&self.batches) {
            row.measured += record.measured;
            row.emulated += record.emulated.unwrap_or(record.measured);
            row.predicted += record.predicted;
            let [before, after] = around.each_ref();
            let simulated =
                self.simulated(record, batch, before)? + self.simulated(record, batch, after)?;
            row.simulated += simulated * 0.5;
        }
        Ok(row)
    }

    /// What a step is simulated to take, from what devices do alone and the described links.
    fn simulated(
        &self,
        record: &StepRecord,
        batch: &TokenBatch,
        alone: &StepModel,
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
        // Kept activations are exchanged in two passes.
        let exchanged = volume::exchanged_bytes_per_token(model, Activations::Keep);
        let bytes = TokenBytes {
            heads: exchanged / 2.0,
            key_values: volume::key_value_bytes_per_token(model),
            layer_inputs: volume::layer_input_bytes_per_token(model),
        };
        let overhead = Seconds::new(alone.cost.costs().micro_batch_overhead_s);
        let overhead = overhead.unwrap_or(Seconds::ZERO);
        let devices = DeviceCosts(&alone.cost);
        let costs = StepCosts::measured(&devices, model.layers as u32, exchanged)
            .map_err(failed)?
            .with_token_volume(&bytes)
            .over_links(self.emulation.links(), sharded, overhead)
            .with_host_link(self.emulation.host_link())
            .with_optimizer(alone.step_overhead);
        let step = simulate(
            &record.plan,
            &batch.global_batch(),
            cluster,
            &costs,
            Overlap::default(),
            &mut (),
        );
        Ok(step.map_err(failed)?.step)
    }
}

/// What was measured where links take no time: what an exchange costs there, devices spend on packing and unpacking.
struct DeviceCosts<'a>(&'a FittedModel);

impl MemoryModel for DeviceCosts<'_> {
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        self.0.sequence_memory(strategy, seq_len)
    }

    fn budget(&self, device: &Device) -> Bytes {
        self.0.budget(device)
    }

    fn host_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        self.0.host_memory(strategy, seq_len)
    }

    fn host_budget(&self, device: &Device) -> Bytes {
        self.0.host_budget(device)
    }
}

impl CostModel for DeviceCosts<'_> {
    fn prices(&self, strategy: Strategy) -> bool {
        self.0.prices(strategy)
    }

    fn sequence_time(&self, shape: GroupShape, seq_len: Tokens) -> Seconds {
        self.0.sequence_time(shape, seq_len)
    }

    fn time_parts(&self, shape: GroupShape, seq_len: Tokens) -> TimeParts {
        let parts = self.0.time_parts(shape, seq_len);
        TimeParts {
            dense: parts.dense + parts.exchange,
            attention: parts.attention,
            ..TimeParts::default()
        }
    }

    fn micro_batch_overhead(&self) -> Seconds {
        self.0.micro_batch_overhead()
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
