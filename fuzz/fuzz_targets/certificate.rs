//! Any bytes as a certificate, and any change of a true one: an error or a bound that holds; never a panic.
//!
//! A change is a figure of the JSON replaced by another, so that what is tried is mostly a certificate. Whatever else
//! was changed, a problem that is still the original one has no bound above its optimum, which is known.
//!
//! `cargo +nightly fuzz run certificate`

#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use lengthwise_certificate::{Certificate, verify};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
    StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};
use lengthwise_plan::{PlannerKind, Problem};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes(&'a [u8]),
    /// Of the certificate of a planner: what is changed, one after the other.
    Changed(u8, Vec<Change>),
}

#[derive(Arbitrary, Debug)]
struct Change {
    /// Which of the values below the place that is changed before; so many levels down.
    path: [u16; 8],
    depth: u8,
    to: To,
}

#[derive(Arbitrary, Debug)]
enum To {
    Number(f64),
    Integer(i64),
    /// The old figure times so many 1/128.
    Scaled(u8),
    Flag(bool),
    Null,
    Removed,
    /// The first entry of a list once more.
    Repeated,
}

/// A certificate of a plan that is not the best one, and the best time.
struct True {
    json: Value,
    optimum: f64,
}

static CERTIFICATES: LazyLock<Vec<True>> = LazyLock::new(|| {
    let lens = [50_000u64, 21_000, 9_000, 8_000, 900];
    let batch = GlobalBatch::from_lens(lens.to_vec()).unwrap();
    let device = Device::new(Bytes(100_000), Speed::NOMINAL);
    let cluster = Cluster::uniform(2, 2, device).unwrap();
    let degrees = [1, 2, 4].map(|degree| Degree::new(degree).unwrap());
    let space = StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap();
    let kind = StrategyKind::ulysses(Activations::Recompute);
    let table = |seconds: f64| vec![(Degree::new(2).unwrap(), seconds)];
    let cost = FittedModel::new(FittedCosts {
        micro_batch_overhead_s: 0.01,
        ..FittedCosts::of_kind(
            kind,
            KindCosts {
                quadratic_s_per_token2: 1e-9,
                linear_s_per_token: 5e-6,
                exchange_s_per_token: table(1e-6),
                many_nodes_exchange_s_per_token: table(8e-6),
                memory_bytes_per_token: vec![(Degree::ONE, 3.0)],
                ..KindCosts::default()
            },
        )
    })
    .unwrap();
    let all_ranks = PlanRules {
        no_idle_ranks: true,
        ..PlanRules::default()
    };
    let mut all = Vec::new();
    for rules in [PlanRules::default(), all_ranks] {
        let problem = Problem {
            batch: &batch,
            cluster: &cluster,
            cost: &cost,
            space: &space,
            rules,
        };
        let best = PlannerKind::Exhaustive.planner().plan(problem).unwrap();
        for kind in [
            PlannerKind::Static(None),
            PlannerKind::BatchAdaptive,
            PlannerKind::FlexSp,
            PlannerKind::Adaptive,
        ] {
            let Ok(planned) = kind.planner().plan_certified(problem) else {
                continue;
            };
            let certificate = planned.certificate().unwrap();
            let verified = verify(&certificate).unwrap();
            assert_eq!(
                verified.strategies.len(),
                degrees.len(),
                "as many as the optimum ranges over"
            );
            all.push(True {
                json: serde_json::to_value(&certificate).unwrap(),
                optimum: best.report.predicted_step.get(),
            });
        }
    }
    assert!(all.len() >= 4);
    all
});

/// Replaces one value.
fn change(value: &mut Value, change: &Change) {
    let mut value = value;
    for &index in change.path.iter().take(usize::from(change.depth % 9)) {
        let num = match value {
            Value::Array(values) => values.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        };
        if num == 0 {
            break;
        }
        let place = usize::from(index) % num;
        value = match value {
            Value::Array(values) => &mut values[place],
            Value::Object(entries) => entries.values_mut().nth(place).unwrap(),
            _ => return,
        };
    }
    *value = match (&change.to, &mut *value) {
        (To::Number(number), _) => Value::from(*number),
        (To::Integer(number), _) => Value::from(*number),
        (To::Scaled(by), old) => match old.as_f64() {
            Some(figure) if figure.fract() == 0.0 => {
                Value::from((figure * f64::from(*by) / 128.0) as u64)
            }
            Some(figure) => Value::from(figure * f64::from(*by) / 128.0),
            None => return,
        },
        (To::Flag(flag), _) => Value::from(*flag),
        (To::Null, _) => Value::Null,
        (To::Removed, Value::Array(values)) => return drop(values.pop()),
        (To::Removed, Value::Object(entries)) => {
            if let Some(key) = entries.keys().next().cloned() {
                entries.remove(&key);
            }
            return;
        }
        (To::Repeated, Value::Array(values)) => return values.extend(values.first().cloned()),
        _ => return,
    };
}

fuzz_target!(|input: Input| -> Corpus {
    match input {
        Input::Bytes(bytes) => {
            let Ok(certificate) = Certificate::parse(bytes) else {
                return Corpus::Keep;
            };
            let _ = verify(&certificate);
        }
        Input::Changed(which, changes) => {
            let original = &CERTIFICATES[usize::from(which) % CERTIFICATES.len()];
            let mut json = original.json.clone();
            changes.iter().for_each(|one| change(&mut json, one));
            let is_same = |key: &str| json.get(key) == original.json.get(key);
            let lens = |json: &Value| json.pointer("/plan/seq_lens_tokens").cloned();
            let same_problem = is_same("problem") && lens(&json) == lens(&original.json);
            let Ok(certificate) = Certificate::parse(json.to_string().as_bytes()) else {
                return Corpus::Keep;
            };
            if let Ok(verified) = verify(&certificate)
                && same_problem
            {
                let bound = verified.bound.get().max(verified.recomputed.get());
                assert!(
                    bound <= original.optimum * (1.0 + 2e-9),
                    "a bound of {bound} is taken to be proven; a plan takes {}",
                    original.optimum
                );
                assert!(verified.plan_step.get() >= original.optimum * (1.0 - 1e-9));
            }
        }
    }
    Corpus::Keep
});
