//! The search of the adaptive planner and every bound compared with the best plan there is, on inputs tiny enough to try everything.

mod common;

use common::{Case, Size, cases, cases_with_hosts, cases_with_rules, sample};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, MemoryModel, PlanRules, Speed,
    StrategyKind, StrategySpace, Tokens,
};
use lengthwise_cost::{CostModel, FittedCosts, FittedModel, GroupShape, KindCosts, Span};
use lengthwise_plan::{Adaptive, BatchAdaptive, Exhaustive, FlexSp, Planned, Planner, Static};

const SIZE: Size = Size {
    num_nodes: 2,
    devices_per_node: 4,
    num_sequences: 7,
    seq_len: 60_000,
};

fn plan(planner: &dyn Planner, case: &Case) -> Option<Planned> {
    planner.plan(case.problem()).ok()
}

/// Whether `bound` is at most `time` but for the last digits of a sum.
fn bounds(bound: f64, time: f64) -> bool {
    bound <= time * (1.0 + 1e-9)
}

/// Problems that are enumerated in no time, so that tens of thousands can be.
const TINY: Size = Size {
    num_nodes: 2,
    devices_per_node: 3,
    num_sequences: 5,
    seq_len: 60_000,
};

/// How the search compares with the optimum over many problems.
#[derive(Debug, Default)]
struct Excess {
    num: usize,
    num_optimal: usize,
    /// Where rules can be kept and the search finds no way.
    num_not_found: usize,
    num_plain: usize,
    num_plain_optimal: usize,
    /// By how much it exceeds the optimum at worst, where devices are equal and one node is no slower than many.
    worst: f64,
    /// The same elsewhere, where groups get the devices with most memory, of one node, though others may be faster.
    worst_elsewhere: f64,
}

/// Whether all devices are equal and groups of one node no slower than those of many.
fn is_plain(case: &Case) -> bool {
    let devices = case.cluster.devices();
    let is_near_faster = |strategy, seq_len| {
        let [near, far] = [Span::OneNode, Span::ManyNodes].map(|span| {
            case.cost
                .sequence_time(GroupShape { strategy, span }, seq_len)
        });
        near <= far
    };
    let lens = || case.batch.seq_lens().iter();
    let mut strategies = case.space.strategies().iter();
    devices.iter().all(|device| *device == devices[0])
        && strategies.all(|&strategy| lens().all(|&seq_len| is_near_faster(strategy, seq_len)))
}

/// Checks the bounds of all planners on `cases`, and what the search of the adaptive one comes to.
fn compare(cases: impl Iterator<Item = Case>) -> Excess {
    let mut excess = Excess::default();
    for case in cases {
        let search = Adaptive::default().without_enumeration();
        let Some(optimum) = plan(&Exhaustive, &case) else {
            assert!(
                plan(&search, &case).is_none(),
                "the oracle finds no plan: {case:?}"
            );
            continue;
        };
        let best = optimum.report.predicted_step.get();
        let Some(searched) = plan(&search, &case) else {
            assert_ne!(case.rules, PlanRules::default(), "nothing found: {case:?}");
            excess.num_not_found += 1;
            excess.num += 1;
            continue;
        };
        // An enumerated plan has no drafts, and would be compared with itself.
        assert!(searched.report.tried.num_drafts > 0, "{case:?}");
        let others = [
            plan(&Static::longest_decides(), &case),
            plan(&BatchAdaptive, &case),
        ];
        for planned in others.iter().flatten().chain([&optimum, &searched]) {
            let valid = case.validate(&planned.plan);
            assert_eq!(valid, Ok(()));
            let (bound, time) = (
                planned.report.lower_bound.get(),
                planned.report.predicted_step.get(),
            );
            assert!(
                bounds(bound, best),
                "bound {bound}, optimum {best}, {case:?}"
            );
            assert!(bounds(best, time), "the oracle is beaten: {case:?}");
        }
        let time = searched.report.predicted_step.get();
        let worst = if is_plain(&case) {
            excess.num_plain += 1;
            excess.num_plain_optimal += usize::from(bounds(time, best));
            &mut excess.worst
        } else {
            &mut excess.worst_elsewhere
        };
        *worst = worst.max(time / best - 1.0);
        excess.num += 1;
        excess.num_optimal += usize::from(bounds(time, best));
    }
    excess
}

#[test]
fn the_search_is_nearly_always_optimal_and_bounds_never_exceed_the_optimum() {
    let excess = compare(sample(cases(SIZE), 7, 1000));
    assert!(excess.num > 500, "{excess:?}");
    assert!(excess.num_optimal * 100 >= excess.num * 90, "{excess:?}");
    assert!(
        excess.num_plain_optimal * 100 >= excess.num_plain * 98,
        "{excess:?}"
    );
    assert!(excess.worst <= 0.01, "{excess:?}");
}

#[test]
fn the_search_is_nearly_always_optimal_on_tens_of_thousands_of_tiny_problems() {
    let excess = compare(sample(cases(TINY), 8, 20_000));
    assert!(excess.num > 10_000, "{excess:?}");
    assert!(excess.num_optimal * 100 >= excess.num * 93, "{excess:?}");
    assert!(
        excess.num_plain_optimal * 1000 >= excess.num_plain * 999,
        "{excess:?}"
    );
    assert!(excess.worst <= 0.01, "{excess:?}");
}

/// The best step, by trying all subsets of sequences on all subsets of devices.
fn best_of_all(case: &Case) -> Option<f64> {
    let num_sequences = case.batch.num_sequences();
    let devices = (1 << case.cluster.num_devices()) - 1;
    let overhead = case.cost.micro_batch_overhead().get();
    let mut steps = vec![0.0];
    for set in 1u32..1 << num_sequences {
        let best = parts_with_first(set).map(|part| {
            overhead + best_makespan(case, part, devices) + steps[(set & !part) as usize]
        });
        steps.push(best.fold(f64::INFINITY, f64::min));
    }
    steps.pop().filter(|best| best.is_finite())
}

fn best_makespan(case: &Case, set: u32, free: u32) -> f64 {
    if set == 0 {
        return 0.0;
    }
    let mut best = f64::INFINITY;
    for part in parts_with_first(set) {
        for ranks in (1..=free).filter(|ranks| ranks & free == *ranks) {
            let time = group_time(case, part, ranks);
            if time < best {
                best = best.min(time.max(best_makespan(case, set & !part, free & !ranks)));
            }
        }
    }
    best
}

/// What a group takes at best, with any strategy; infinite where a device or its host can't hold it.
fn group_time(case: &Case, part: u32, ranks: u32) -> f64 {
    let ranks = case.cluster.ranks().filter(|rank| ranks >> rank.0 & 1 == 1);
    let ranks: Vec<_> = ranks.collect();
    let node = |rank| case.cluster.node_of(rank);
    let span = match ranks.iter().all(|&rank| node(rank) == node(ranks[0])) {
        true => Span::OneNode,
        false => Span::ManyNodes,
    };
    let devices: Vec<Device> = ranks
        .iter()
        .map(|rank| case.cluster.devices()[rank.0 as usize])
        .collect();
    let speeds = devices.iter().map(|device| device.speed().get());
    let speed = speeds.fold(f64::INFINITY, f64::min);
    let lens = case.batch.seq_lens().iter().enumerate();
    let lens = lens.filter(|(index, _)| part >> index & 1 == 1);
    let lens: Vec<Tokens> = lens.map(|(_, &len)| len).collect();
    let strategies = case.space.strategies().iter();
    let strategies = strategies.filter(|strategy| strategy.degree().as_usize() == ranks.len());
    let time = |&strategy: &lengthwise_core::Strategy| {
        let sum =
            |bytes: &dyn Fn(Tokens) -> Bytes| lens.iter().map(|&len| bytes(len)).sum::<Bytes>();
        let memory = sum(&|len| case.cost.sequence_memory(strategy, len));
        let host = sum(&|len| case.cost.host_memory(strategy, len));
        let holds = |device: &Device| {
            memory <= case.cost.budget(device) && host <= case.cost.host_budget(device)
        };
        if !devices.iter().all(holds) {
            return f64::INFINITY;
        }
        let shape = GroupShape { strategy, span };
        let seconds: f64 = lens
            .iter()
            .map(|&len| case.cost.sequence_time(shape, len).get())
            .sum();
        seconds / speed
    };
    strategies.map(time).fold(f64::INFINITY, f64::min)
}

/// The subsets of a set of bits that have its lowest one.
fn parts_with_first(set: u32) -> impl Iterator<Item = u32> {
    let lowest = set & set.wrapping_neg();
    (1..=set).filter(move |part| part & set == *part && part & lowest != 0)
}

#[test]
fn all_plans_are_tried_where_devices_have_different_shares_of_hosts() {
    let tiny = Size {
        num_nodes: 2,
        devices_per_node: 3,
        num_sequences: 3,
        seq_len: 60_000,
    };
    let mut num_on_hosts = 0;
    for case in sample(cases_with_hosts(tiny), 12, 1200) {
        let best = best_of_all(&case);
        let optimum = plan(&Exhaustive, &case);
        assert_eq!(best.is_some(), optimum.is_some(), "{case:?}");
        let (Some(best), Some(optimum)) = (best, optimum) else {
            continue;
        };
        let found = optimum.report.predicted_step.get();
        assert!(
            (found - best).abs() <= 1e-9 * best,
            "{found} for {best}: {case:?}"
        );
        let groups = optimum
            .plan
            .micro_batches()
            .iter()
            .flat_map(|one| &one.groups);
        let mut groups = groups.map(|group| group.strategy.activations());
        num_on_hosts += usize::from(groups.any(|activations| activations == Activations::Host));
    }
    assert!(num_on_hosts > 100, "{num_on_hosts}");
}

#[test]
fn the_search_knows_what_each_device_has_of_its_host() {
    let excess = compare(sample(cases_with_hosts(SIZE), 13, 1000));
    assert!(excess.num > 500, "{excess:?}");
    assert!(excess.num_optimal * 100 >= excess.num * 85, "{excess:?}");
    assert!(excess.worst <= 0.05, "{excess:?}");
}

#[test]
fn the_search_keeps_rules_as_well_as_the_oracle_does() {
    let excess = compare(sample(cases_with_rules(SIZE), 9, 2000));
    assert!(excess.num > 500, "{excess:?}");
    assert!(excess.num_optimal * 100 >= excess.num * 90, "{excess:?}");
    assert!(
        excess.num_plain_optimal * 100 >= excess.num_plain * 95,
        "{excess:?}"
    );
    assert_eq!(excess.num_not_found, 0, "{excess:?}");
}

#[test]
fn flexsp_solves_one_micro_batch_of_few_lengths_to_the_optimum() {
    // One node, time alone matters, no overhead: the best plan is one micro-batch, and every length its own bucket.
    let degrees = [1, 2, 4].map(|degree| Degree::new(degree).unwrap());
    for lens in [
        vec![900, 500, 400, 100],
        vec![2000, 700, 700, 300, 100],
        vec![64, 64, 64],
    ] {
        let case = Case {
            batch: GlobalBatch::from_lens(lens).unwrap(),
            cluster: Cluster::uniform(1, 4, Device::new(Bytes::from_mib(64), Speed::NOMINAL))
                .unwrap(),
            cost: FittedModel::new(FittedCosts {
                micro_batch_overhead_s: 1.0,
                ..FittedCosts::of_kind(
                    StrategyKind::ulysses(Activations::Recompute),
                    KindCosts {
                        quadratic_s_per_token2: 1e-9,
                        linear_s_per_token: 1e-6,
                        exchange_s_per_token: vec![(degrees[1], 1e-7)],
                        ..KindCosts::default()
                    },
                )
            })
            .unwrap(),
            space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
            rules: PlanRules::default(),
        };
        let best = plan(&Exhaustive, &case).unwrap().report.predicted_step;
        let solved = plan(&FlexSp::default(), &case)
            .unwrap()
            .report
            .predicted_step;
        assert!(bounds(solved.get(), best.get()), "{solved} is above {best}");
    }
}
