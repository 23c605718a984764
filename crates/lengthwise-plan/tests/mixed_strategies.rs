//! Plans and bounds over all strategies together: Ulysses, rings and both, with activations kept, recomputed or on a host
//! whose memory is limited, too.

mod common;

use std::collections::BTreeMap;

use common::Case;
use lengthwise_certificate::{Certificate, Proof, Verified, check_source, verify};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, Exchange, GlobalBatch, PlanRules, SpaceLimits,
    Speed, StrategyFamily, StrategyKind, StrategySpace,
};
use lengthwise_cost::{
    CostModel, FittedCosts, FittedModel, HopCosts, HostCosts, KindCosts, RingCosts,
};
use lengthwise_plan::{Adaptive, Exhaustive, Planned, Planner};
use proptest::collection::vec;
use proptest::prelude::*;

fn degree(degree: u32) -> Degree {
    Degree::new(degree).unwrap()
}

/// The parameters of a case.
#[derive(Clone, Debug)]
struct Figures {
    exchange_s_per_token: f64,
    hop_s_per_token: f64,
    copy_s_per_token: f64,
    /// Of the memory per token, the part that is left where layers are recomputed, and where their inputs are on the host.
    recomputed: f64,
    on_host: f64,
    host_bytes_per_token: f64,
    overhead: f64,
}

fn costs(figures: &Figures) -> FittedModel {
    let hops = |factor: f64| HopCosts {
        forward_s_per_token: vec![(degree(2), factor * figures.hop_s_per_token)],
        backward_s_per_token: vec![(degree(2), 2.0 * factor * figures.hop_s_per_token)],
    };
    let exchanges = [
        Exchange::Ulysses,
        Exchange::Ring,
        Exchange::UlyssesRing { ring: degree(2) },
    ];
    let mut kinds = BTreeMap::new();
    for exchange in exchanges {
        for activations in Activations::ALL {
            let (time, memory) = match activations {
                Activations::Keep => (0.75, 1.0),
                Activations::Recompute => (1.0, figures.recomputed),
                Activations::Host => (1.0, figures.recomputed * figures.on_host),
            };
            let has_exchange = exchange != Exchange::Ring;
            let across = has_exchange.then(|| (degree(2), 4.0 * figures.exchange_s_per_token));
            let costs = KindCosts {
                quadratic_s_per_token2: 1e-9 * time,
                linear_s_per_token: 1e-5 * time,
                constant_s_per_sequence: 0.0,
                exchange_s_per_token: has_exchange
                    .then_some((degree(2), figures.exchange_s_per_token))
                    .into_iter()
                    .collect(),
                many_nodes_exchange_s_per_token: across.into_iter().collect(),
                memory_bytes_per_token: vec![(degree(1), memory)],
                ring: (exchange != Exchange::Ulysses).then(|| RingCosts {
                    forward_share: 0.3,
                    one_node: hops(1.0),
                    many_nodes: hops(3.0),
                }),
                host: (activations == Activations::Host).then_some(HostCosts {
                    forward_share: 0.25,
                    copy_s_per_token: figures.copy_s_per_token,
                    bytes_per_token: figures.host_bytes_per_token,
                }),
            };
            let kind = StrategyKind {
                exchange,
                activations,
            };
            kinds.insert(kind, costs);
        }
    }
    FittedModel::new(FittedCosts {
        num_heads: Some(2),
        micro_batch_overhead_s: figures.overhead,
        kinds,
        ..FittedCosts::default()
    })
    .unwrap()
}

prop_compose! {
    fn figures()(
        exchange_s_per_token in 1e-7..2e-5,
        hop_s_per_token in 1e-7..2e-5,
        copy_s_per_token in 1e-7..2e-5,
        recomputed in 0.2..1.0f64,
        on_host in 0.1..1.0f64,
        host_bytes_per_token in 0.0..1.0f64,
        overhead in 0.0..0.1,
    ) -> Figures {
        Figures {
            exchange_s_per_token,
            hop_s_per_token,
            copy_s_per_token,
            recomputed,
            on_host,
            host_bytes_per_token,
            overhead,
        }
    }
}

fn case(lens: &[u64], figures: &Figures, host_memory: u64) -> Case {
    let device = Device::new(Bytes(20_000), Speed::NOMINAL).with_host_memory(Bytes(host_memory));
    let cluster = Cluster::uniform(2, 2, device).unwrap();
    let limits = SpaceLimits {
        num_heads: Some(2),
        ranks_per_node: 2,
        num_ranks: 4,
    };
    let cost = costs(figures);
    let space = StrategySpace::chosen(&StrategyFamily::ALL, &Activations::ALL, limits, None);
    let space = space.unwrap();
    assert!(space.strategies().iter().all(|&one| cost.prices(one)));
    Case {
        batch: GlobalBatch::from_lens(lens.iter().copied()).unwrap(),
        cluster,
        cost,
        space,
        rules: PlanRules::default(),
    }
}

prop_compose! {
    fn cases_of_one_micro_batch()(
        lens in vec(200u64..6_000, 12..40),
        figures in figures(),
        host_memory in 1_000u64..30_000,
    ) -> Case {
        case(&lens, &figures, host_memory)
    }
}

/// The certificate of a plan, written, read back and checked.
fn verified(planned: &Planned, case: &Case) -> (Certificate, Verified) {
    let json = planned.certificate().unwrap().to_json().unwrap();
    let read = Certificate::parse(json.as_bytes()).unwrap();
    let verified = verify(&read).unwrap_or_else(|refusal| panic!("{refusal}\n{json}"));
    check_source(&read, &case.cluster, &case.cost).unwrap_or_else(|refusal| panic!("{refusal}"));
    (read, verified)
}

#[test]
fn plans_of_one_micro_batch_are_bounded_by_the_devices_that_they_need() {
    let mut num_by_devices = 0;
    for case in common::sample(cases_of_one_micro_batch(), 5, 60) {
        let planned = Adaptive::default().plan_certified(case.problem()).unwrap();
        let (certificate, verified) = verified(&planned, &case);
        let (proven, reported) = (verified.bound.get(), planned.report.lower_bound.get());
        assert!(
            (proven - reported).abs() <= 1e-9 * reported,
            "{proven} {reported}"
        );
        let is_by_devices = matches!(
            certificate.proof,
            Proof::Tree {
                one_micro_batch: Some(_),
                ..
            }
        );
        num_by_devices += usize::from(is_by_devices);
    }
    assert!(num_by_devices >= 10, "{num_by_devices}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_bound_is_above_the_best_of_all_plans_and_certificates_prove_it(
        lens in vec(100u64..19_000, 1..5),
        figures in figures(),
        host_memory in 1_000u64..30_000,
    ) {
        let case = case(&lens, &figures, host_memory);
        let best = Exhaustive.plan(case.problem()).unwrap();
        let check = |planned: &Planned| {
            let (batch, cluster) = (&case.batch, &case.cluster);
            planned.plan.validate(batch, cluster, &case.space, &case.cost, &case.rules)
        };
        prop_assert_eq!(check(&best), Ok(()));
        let best = best.report.predicted_step.get();
        let search = Adaptive::default().without_enumeration();
        let found = search.plan_certified(case.problem()).unwrap();
        prop_assert_eq!(check(&found), Ok(()));
        let report = &found.report;
        prop_assert!(report.lower_bound.get() <= best * (1.0 + 1e-9), "{} > {best}", report.lower_bound);
        prop_assert!(report.predicted_step.get() >= best * (1.0 - 1e-9));
        prop_assert!(report.predicted_step.get() <= best * 1.05, "{} > {best}", report.predicted_step);

        let (_, verified) = verified(&found, &case);
        prop_assert!(verified.bound.get() <= best * (1.0 + 1e-9));
        prop_assert!((verified.bound.get() - report.lower_bound.get()).abs() <= 1e-9 * best);
        // Also of the strategies that others outdo.
        prop_assert_eq!(verified.strategies, case.space.strategies().to_vec());
    }
}

#[test]
fn a_host_that_is_full_is_a_limit() {
    let figures = Figures {
        exchange_s_per_token: 1e-6,
        hop_s_per_token: 1e-6,
        copy_s_per_token: 1e-7,
        recomputed: 0.9,
        on_host: 0.1,
        host_bytes_per_token: 1.0,
        overhead: 0.01,
    };
    // On four devices the sequence takes 90,000 bytes of 80,000, or 9,000 and 100,000 of the hosts.
    let plan = |host_memory| {
        let case = case(&[100_000], &figures, host_memory);
        Adaptive::default().plan(case.problem())
    };
    let planned = plan(25_000).unwrap();
    let strategy = planned.plan.micro_batches()[0].groups[0].strategy;
    assert_eq!(strategy.activations(), Activations::Host);
    assert!(plan(24_999).is_err());
}
