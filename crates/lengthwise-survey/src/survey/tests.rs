//! A simulated machine of wandering speed, surveyed as a real one is.

use std::time::Duration;

use lengthwise_core::{
    Activations, Bytes, Cluster, Device, Exchange, Speed, StrategyKind, StrategySpace,
};
use lengthwise_cost::{CoreSharing, FittedCosts, HopCosts, HostCosts, KindCosts, RingCosts};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const NUM_RANKS: u32 = 8;
const NUM_SEEDS: u64 = 24;
const TIME_BUDGET: Duration = Duration::from_secs(60);

/// A small decoder on ranks that take turns on two cores.
fn surveyed_here() -> Surveyed {
    // Six heads divide unevenly among four or five ranks.
    let per_local_token = [9368.0, 9496.0, 9368.0, 10272.0, 10152.0, 9752.0];
    let degrees: Vec<Degree> = (1..=6).map(|of| Degree::new(of).unwrap()).collect();
    let per_token = degrees.iter().zip(per_local_token);
    let costs = KindCosts {
        memory_bytes_per_token: per_token
            .map(|(&degree, bytes)| (degree, bytes / f64::from(degree.get())))
            .collect(),
        ..KindCosts::default()
    };
    let memory = Bytes::from_mib(40);
    Surveyed {
        cluster: Cluster::uniform(1, NUM_RANKS, Device::new(memory, Speed::NOMINAL)).unwrap(),
        space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
        context: Tokens(1 << 14),
        num_heads: None,
        sharing: CoreSharing::new(NUM_RANKS, 2),
        sharing_by_clock: CoreSharing::new(NUM_RANKS, 2),
        device_memory: memory,
        known: FittedCosts {
            fixed_memory_bytes: 3_947_496.0,
            ..FittedCosts::of_kind(StrategyKind::ulysses(Activations::Recompute), costs)
        },
    }
}

/// The time of groups that exchange tokens for heads.
fn usual_costs(surveyed: &Surveyed) -> FittedCosts {
    let degree = |degree| Degree::new(degree).unwrap();
    let costs = KindCosts {
        quadratic_s_per_token2: 1e-8,
        linear_s_per_token: 1.5e-4,
        exchange_s_per_token: [(2, 3e-5), (3, 2.5e-5), (4, 2e-5), (5, 2e-5), (6, 1.5e-5)]
            .map(|(of, seconds)| (degree(of), seconds))
            .to_vec(),
        ..KindCosts::default()
    };
    FittedCosts {
        micro_batch_overhead_s: 2e-3,
        ..FittedCosts::of_kind(surveyed.kinds()[0], costs)
    }
}

/// A machine whose speed takes a step now and then and wanders in between, and that is disturbed now and then.
struct Machine {
    random: ChaCha8Rng,
    /// Its time at its usual speed.
    model: StepModel,
    /// How far its speed wanders, as a logarithm.
    wandering: f64,
    jitter: f64,
    clock_s: f64,
    slowness: f64,
    changes_at_s: f64,
}

impl Machine {
    fn new(seed: u64, wandering: f64, jitter: f64, surveyed: &Surveyed) -> Self {
        Self::that_costs(usual_costs(surveyed), (seed, wandering, jitter), surveyed)
    }

    fn that_costs(
        costs: FittedCosts,
        (seed, wandering, jitter): (u64, f64, f64),
        surveyed: &Surveyed,
    ) -> Self {
        Machine {
            random: ChaCha8Rng::seed_from_u64(seed),
            model: StepModel {
                cost: FittedModel::new(costs).unwrap(),
                step_overhead: Seconds::ZERO,
                sharing: surveyed.sharing,
            },
            wandering,
            jitter,
            clock_s: 0.0,
            slowness: 0.0,
            changes_at_s: 0.0,
        }
    }

    fn around_0(&mut self) -> f64 {
        2.0 * self.random.random::<f64>() - 1.0
    }

    fn run(&mut self, trial: &Trial, surveyed: &Surveyed) -> f64 {
        if self.clock_s >= self.changes_at_s {
            self.slowness = self.wandering * self.around_0();
            self.changes_at_s = self.clock_s + self.random.random_range(4.0..20.0);
        }
        let disturbed = if self.random.random::<f64>() < 0.03 {
            0.5
        } else {
            0.0
        };
        let noise = self.slowness + self.jitter * self.around_0() + disturbed;
        let seconds = trial.predicted(&self.model, &surveyed.cluster).unwrap() * noise.exp();
        self.clock_s += seconds;
        seconds
    }
}

/// A survey of a machine until it ends.
fn survey_of(machine: &mut Machine, surveyed: &Surveyed) -> Survey {
    let rule = SurveyRule::thorough(TIME_BUDGET);
    let mut survey = Survey::new(surveyed.clone(), rule);
    while let Some(subject) = survey.next(machine.clock_s).unwrap() {
        let begun = machine.clock_s;
        let trial = survey.trial_mut(subject);
        let mut all_seconds = vec![machine.run(trial, surveyed)];
        while all_seconds.len() < 3 && all_seconds[0] < 0.3 {
            all_seconds.push(machine.run(trial, surveyed));
        }
        // What is around it.
        machine.clock_s += 1e-3;
        let at = (begun + machine.clock_s) / 2.0;
        trial.record(at, &all_seconds).unwrap();
    }
    survey
}

/// The mean relative error of a fit for what was held out, up to a factor for all: what speed is usual is for the
/// machine to say.
fn error_but_for_speed(fit: &Fit, survey: &Survey, machine: &Machine) -> f64 {
    let model = survey.model(fit, Seconds::ZERO).unwrap();
    let ratios = survey.held_out.iter().map(|trial| {
        let cluster = &survey.surveyed.cluster;
        let seconds = |model: &StepModel| trial.predicted(model, cluster).unwrap();
        seconds(&model) / seconds(&machine.model)
    });
    let ratios: Vec<f64> = ratios.collect();
    let usual = mean(ratios.iter().copied()).unwrap();
    mean(ratios.iter().map(|ratio| (ratio / usual - 1.0).abs())).unwrap()
}

/// The error of what came before: each micro-batch is measured at one time, its fastest run counts, and what is held
/// out is measured at the end.
fn error_at_single_times(survey: &Survey) -> f64 {
    let points = survey.points.iter().filter(|point| point.rounds() > 0);
    let observed: Vec<Observation> = points
        .map(|point| Observation {
            work: point.row.work,
            seconds: point.trial.rounds[0].took.get(),
            weight: 1.0,
        })
        .collect();
    let fit = Fit::new(survey.terms.clone(), &observed).unwrap();
    let model = survey.model(&fit, Seconds::ZERO).unwrap();
    let errors = survey.held_out.iter().map(|trial| {
        let measured = trial.rounds.last().unwrap().took.get();
        let predicted = trial.predicted(&model, &survey.surveyed.cluster).unwrap();
        (predicted / measured - 1.0).abs()
    });
    mean(errors).unwrap()
}

#[test]
fn what_a_machine_of_wandering_speed_takes_is_known_to_little_more_than_its_noise() {
    let surveyed = surveyed_here();
    let (mut errors, mut errors_at_single_times) = (Vec::new(), Vec::new());
    let mut num_failed_at_single_times = 0;
    for seed in 0..NUM_SEEDS {
        let mut machine = Machine::new(seed, 0.3, 0.05, &surveyed);
        let survey = survey_of(&mut machine, &surveyed);
        let fit = survey.fit(&survey.drift()).unwrap();
        let scaled = error_but_for_speed(&fit, &survey, &machine);
        assert!(scaled < 0.05, "{scaled} of seed {seed}");
        let at_single_times = error_at_single_times(&survey);
        let report = survey.finish(Seconds::ZERO, 60.0).unwrap().report;
        let (noise, left) = (report.noise.unwrap(), report.noise_without_drift.unwrap());
        assert!(noise > 0.05 && left < noise, "{report:?} of seed {seed}");
        let (error, allowed) = (report.held_out_error.unwrap(), f64::max(0.05, 1.5 * noise));
        assert!(error <= allowed, "{report:?} of seed {seed}");
        num_failed_at_single_times += u32::from(at_single_times > allowed);
        errors.push(error);
        errors_at_single_times.push(at_single_times);
    }
    let now = mean(errors.into_iter()).unwrap();
    let before = mean(errors_at_single_times.into_iter()).unwrap();
    assert!(
        now < 0.05 && before > 3.0 * now,
        "{now} instead of {before}"
    );
    assert!(num_failed_at_single_times > 0);
}

#[test]
fn on_a_quiet_machine_no_noise_is_seen_and_the_fit_is_good() {
    let surveyed = surveyed_here();
    for seed in 0..4 {
        let mut machine = Machine::new(seed, 0.0, 0.005, &surveyed);
        let survey = survey_of(&mut machine, &surveyed);
        let report = survey.finish(Seconds::ZERO, 60.0).unwrap().report;
        assert!(
            report.held_out_error.unwrap() < 0.03 && !report.is_limited_by_noise(),
            "{report:?}"
        );
    }
}

#[test]
fn repeats_are_spread_over_all_the_time() {
    let surveyed = surveyed_here();
    let mut machine = Machine::new(1, 0.3, 0.05, &surveyed);
    let survey = survey_of(&mut machine, &surveyed);
    let reference = &survey.points[survey.reference.unwrap()].trial.rounds;
    for (earlier, later) in reference.iter().zip(&reference[1..]) {
        assert!((later.at.get() - earlier.at.get()) < 0.15 * machine.clock_s);
    }
    assert_eq!(survey.held_out.len(), 12);
    for trial in &survey.held_out {
        let (first, last) = (
            trial.rounds[0].at.get(),
            trial.rounds[trial.rounds.len() - 1].at.get(),
        );
        assert!(trial.rounds.len() > 1 && last - first > 0.15 * machine.clock_s);
    }
}

/// The same ranks with rings, places of two ranks and every choice for activations, on links where hops and copies hide
/// behind long sequences only; and what all of it takes.
fn surveyed_with_every_kind() -> (Surveyed, FittedCosts) {
    let degree = |degree| Degree::new(degree).unwrap();
    let mut costs = FittedCosts {
        micro_batch_overhead_s: 2e-3,
        ..FittedCosts::default()
    };
    let mut known = FittedCosts::default();
    let mut strategies = Vec::new();
    for (exchange, degrees, a_pass) in [
        (Exchange::Ulysses, &[1, 2, 4, 8][..], 1e-5),
        (Exchange::Ring, &[2, 4, 8], 4e-6),
        (Exchange::UlyssesRing { ring: degree(2) }, &[4, 8], 8e-6),
    ] {
        for activations in Activations::ALL {
            let kind = StrategyKind {
                exchange,
                activations,
            };
            let (linear, quadratic, passes) = match activations {
                Activations::Keep => (1.2e-4, 0.8e-8, 2.0),
                Activations::Recompute => (1.5e-4, 1e-8, 3.0),
                Activations::Host => (1.6e-4, 1e-8, 3.0),
            };
            let ring = RingCosts {
                forward_share: 4.0 / 9.0,
                one_node: HopCosts {
                    forward_s_per_token: vec![(Degree::ONE, 3e-5)],
                    backward_s_per_token: vec![(Degree::ONE, 3e-5)],
                },
                many_nodes: HopCosts::default(),
            };
            let host = HostCosts {
                forward_share: 0.25,
                copy_s_per_token: 5e-5,
                bytes_per_token: 1.0,
            };
            let of_kind = KindCosts {
                ring: (exchange != Exchange::Ulysses).then_some(ring),
                host: (activations == Activations::Host).then_some(host),
                memory_bytes_per_token: (degrees.iter())
                    .map(|&of| (degree(of), 9000.0 / f64::from(of)))
                    .collect(),
                ..KindCosts::default()
            };
            known.kinds.insert(kind, of_kind.clone());
            let exchanging = degrees.iter().filter(|&&of| of > 1);
            let measured = KindCosts {
                linear_s_per_token: linear,
                quadratic_s_per_token2: quadratic,
                exchange_s_per_token: exchanging
                    .map(|&of| (degree(of), passes * a_pass / f64::from(of).sqrt()))
                    .collect(),
                ..of_kind
            };
            costs.kinds.insert(kind, measured);
            strategies.extend(degrees.iter().map(|&of| match exchange {
                Exchange::Ulysses => Strategy::ulysses(degree(of), activations),
                Exchange::Ring => Strategy::ring(degree(of), activations),
                Exchange::UlyssesRing { ring } => {
                    Strategy::new(degree(of / 2), ring, activations).unwrap()
                }
            }));
        }
    }
    let surveyed = Surveyed {
        space: StrategySpace::new(strategies).unwrap(),
        known,
        sharing: CoreSharing::apart(NUM_RANKS),
        sharing_by_clock: CoreSharing::apart(NUM_RANKS),
        ..surveyed_here()
    };
    (surveyed, costs)
}

#[test]
fn every_kind_of_strategy_is_known_from_few_of_them() {
    let (surveyed, costs) = surveyed_with_every_kind();
    for seed in 0..8 {
        let manner = (seed, 0.1, 0.03);
        let mut machine = Machine::that_costs(costs.clone(), manner, &surveyed);
        let survey = survey_of(&mut machine, &surveyed);
        // Of nine kinds and 27 strategies: those on their own, and each way to exchange with one choice.
        assert_eq!(survey.layouts.len(), 3 + 3 + 3 + 2);
        let held_out = survey.held_out.iter().flat_map(Trial::groups);
        let seen: std::collections::BTreeSet<StrategyKind> =
            held_out.map(|group| group.strategy.kind()).collect();
        assert!(seen.len() >= 6, "{seen:?}");
        let measured = survey.finish(Seconds::ZERO, 60.0).unwrap();
        let (noise, error) = (measured.report.noise, measured.report.held_out_error);
        let allowed = f64::max(0.05, 1.5 * noise.unwrap());
        assert!(
            error.unwrap() <= allowed,
            "{:?} of seed {seed}",
            measured.report
        );
        assert_eq!(measured.model.cost.costs().kinds.len(), 9);
    }
}

#[test]
fn a_brief_survey_of_every_kind_takes_no_longer_than_it_may() {
    let (surveyed, costs) = surveyed_with_every_kind();
    let mut machine = Machine::that_costs(costs, (7, 0.0, 0.01), &surveyed);
    let mut survey = Survey::new(surveyed.clone(), SurveyRule::BRIEF);
    while let Some(subject) = survey.next(machine.clock_s).unwrap() {
        let seconds = machine.run(survey.trial_mut(subject), &surveyed);
        let at = machine.clock_s;
        survey.trial_mut(subject).record(at, &[seconds]).unwrap();
    }
    let most = SurveyRule::BRIEF.time_budget + SurveyRule::BRIEF.longest_run;
    assert!(machine.clock_s < most.as_secs_f64(), "{}", machine.clock_s);
    assert_eq!(
        survey
            .fit(&survey.drift())
            .unwrap()
            .costs(&surveyed.known)
            .kinds
            .len(),
        9
    );
}

#[test]
fn ranks_on_their_own_are_given_no_more_than_their_share_of_what_groups_hold() {
    let eight = Degree::new(8).unwrap();
    let alone = Strategy::ulysses(Degree::ONE, Activations::Keep);
    for strategy in [
        Strategy::ulysses(eight, Activations::Keep),
        Strategy::ring(eight, Activations::Keep),
    ] {
        let costs = KindCosts {
            memory_bytes_per_token: vec![(eight, 100.0)],
            ..KindCosts::default()
        };
        let surveyed = Surveyed {
            space: StrategySpace::new([strategy]).unwrap(),
            device_memory: Bytes(100_000),
            known: FittedCosts {
                fixed_memory_bytes: 20_000.0,
                ..FittedCosts::of_kind(strategy.kind(), costs)
            },
            ..surveyed_here()
        };
        assert_eq!(surveyed.most_tokens(strategy), 800);
        assert_eq!(surveyed.most_tokens(alone), 100);
    }
}

#[test]
fn ranks_on_their_own_keep_to_their_hosts_where_only_rings_move_inputs_there() {
    let ring = Strategy::ring(Degree::new(8).unwrap(), Activations::Host);
    let costs = KindCosts {
        host: Some(HostCosts {
            bytes_per_token: 50.0,
            ..HostCosts::default()
        }),
        ..KindCosts::default()
    };
    let device = Device::new(Bytes::from_mib(40), Speed::NOMINAL).with_host_memory(Bytes(1000));
    let surveyed = Surveyed {
        cluster: Cluster::uniform(1, NUM_RANKS, device).unwrap(),
        space: StrategySpace::new([ring]).unwrap(),
        known: FittedCosts::of_kind(ring.kind(), costs),
        ..surveyed_here()
    };
    assert_eq!(surveyed.most_tokens(ring), 160);
    let alone = Strategy::ulysses(Degree::ONE, Activations::Host);
    assert_eq!(surveyed.most_tokens(alone), 20);
}
