//! Steps that are traced while they run.
#![allow(missing_docs, reason = "a test has nobody to document it for")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{batch, tiny_model};
use lengthwise_core::{
    Activations, Activity, Bytes, Cluster, Device, Pass, Rank, Seconds, Speed, Tokens, TraceEvent,
};
use lengthwise_plan::PlannerKind;
use lengthwise_train::checkpoint::Persistence;
use lengthwise_train::{
    NoDecay, OptimizerConfig, Schedule, StepRecord, TrainObserver, TrainOptions, WeightType, train,
};

const TRACED: [u64; 2] = [2, 4];

fn options(num_ranks: u32) -> TrainOptions {
    let device = Device::new(Bytes::from_mib(64), Speed::NOMINAL);
    TrainOptions {
        model: tiny_model(8, 4, false),
        pretrained: None,
        tokenizer: None,
        optimizer: OptimizerConfig {
            learning_rate: 1e-2,
            schedule: Schedule::Cosine {
                min_learning_rate: 1e-3,
            },
            warmup_steps: 2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            no_decay: NoDecay::USUAL,
            clip_norm: Some(1.0),
        },
        cluster: Cluster::uniform(1, num_ranks, device).unwrap(),
        emulation: None,
        costs: None,
        refinement: None,
        validation: None,
        context: Tokens(256),
        steps: 4,
        seed: 5,
        activations: Activations::Recompute,
        degrees: None,
        space: None,
        plan_ahead: 2,
        export: None,
        persistence: Persistence::default(),
        weights: WeightType::F32,
        traced_steps: TRACED.into(),
        longest_wait: lengthwise_comm::WorldOptions::LONGEST_WAIT,
        injected_failure: None,
    }
}

#[derive(Default)]
struct Recorder {
    records: Vec<StepRecord>,
    traces: BTreeMap<u64, Vec<TraceEvent>>,
}

impl TrainObserver for Recorder {
    fn calibrated(&mut self, _took: Seconds) {}

    fn traced(&mut self, step: u64, events: &[TraceEvent]) {
        assert_eq!(step, self.records.len() as u64 + 1);
        self.traces.insert(step, events.to_vec());
    }

    fn step(&mut self, record: &StepRecord) {
        self.records.push(record.clone());
    }
}

fn run(options: &TrainOptions, planner: PlannerKind) -> Recorder {
    let mut recorder = Recorder::default();
    let vocab = options.model.vocab;
    let batches = std::iter::repeat_with(move || Ok(batch(&[200, 3, 50, 17, 80, 1], vocab)));
    train(options, planner.planner().into(), batches, &mut recorder).unwrap();
    recorder
}

fn of_rank(events: &[TraceEvent], rank: u32) -> Vec<TraceEvent> {
    let events = events.iter().filter(|event| event.rank == Rank(rank));
    events.copied().collect()
}

#[test]
fn traced_steps_are_told_of_from_beginning_to_end_on_every_rank() {
    for (num_ranks, planner) in [
        (1, "adaptive"),
        (2, "static:2"),
        (3, "adaptive"),
        (4, "adaptive"),
    ] {
        let recorder = run(&options(num_ranks), planner.parse().unwrap());
        let steps: BTreeSet<u64> = recorder.traces.keys().copied().collect();
        assert_eq!(steps, TRACED.into());
        for (step, events) in &recorder.traces {
            let record = &recorder.records[*step as usize - 1];
            for rank in 0..num_ranks {
                let events = of_rank(events, rank);
                let first = events[0].start.get();
                let mut end = first;
                for event in &events {
                    assert!(
                        (event.start.get() - end).abs() < 1e-9,
                        "{event:?} after {end}"
                    );
                    assert!(event.duration > Seconds::ZERO, "{event:?}");
                    end = event.end().get();
                }
                // A rank's own clock starts and stops at the same barriers.
                let measured = record.measured.get();
                assert!(
                    end - first <= 1.5 * measured + 1e-2 && end >= 0.5 * measured - 1e-2,
                    "{first} to {end} of {measured}"
                );
            }
        }
    }
}

#[test]
fn a_rank_walks_through_the_layers_of_every_micro_batch() {
    let options = options(4);
    let recorder = run(&options, "static:2".parse().unwrap());
    let layers = options.model.layers as u32;
    let mut expected = Vec::new();
    expected.extend((0..layers).map(|layer| (Pass::Forward, layer)));
    for layer in (0..layers).rev() {
        expected.extend([(Pass::Recompute, layer), (Pass::Backward, layer)]);
    }
    for (step, events) in &recorder.traces {
        let plan = &recorder.records[*step as usize - 1].plan;
        for rank in 0..4 {
            let events = of_rank(events, rank);
            for (index, micro_batch) in (0..).zip(plan.micro_batches()) {
                let group = micro_batch.group_of(Rank(rank)).map(|(group, _)| group);
                let of_micro_batch = events.iter().filter(|e| e.micro_batch == Some(index));
                let attention = of_micro_batch
                    .clone()
                    .filter(|event| event.activity == Activity::Attention);
                let walked: Vec<_> = attention
                    .map(|event| (event.pass.unwrap(), event.layer.unwrap()))
                    .collect();
                let Some(group) = group else {
                    assert!(walked.is_empty(), "{rank} idles");
                    continue;
                };
                assert_eq!(walked, expected);
                assert!(of_micro_batch.clone().all(|event| {
                    let load = event.load.unwrap();
                    load.degree == group.degree()
                        && load.num_sequences as usize == group.sequences.len()
                }));
                let exchanged: u64 = of_micro_batch
                    .filter(|event| event.activity == Activity::Exchange)
                    .map(|event| event.bytes.unwrap().0)
                    .sum();
                assert!(exchanged > 0, "rank {rank} exchanges in a group of two");
            }
            let behind = events.iter().filter(|event| event.micro_batch.is_none());
            assert!(
                behind
                    .clone()
                    .any(|event| event.activity == Activity::Optimizer)
            );
        }
        for activity in [
            Activity::Embedding,
            Activity::Dense,
            Activity::Output,
            Activity::Wait,
        ] {
            assert!(
                events.iter().any(|event| event.activity == activity),
                "{activity}"
            );
        }
    }
}

/// To what other plans' order of additions may differ, which measured costs decide.
#[test]
fn tracing_changes_nothing_of_what_is_learnt() {
    let losses = |options: &TrainOptions| -> Vec<f64> {
        let records = run(options, PlannerKind::Static(None)).records;
        records.iter().map(|record| record.loss.unwrap()).collect()
    };
    let untraced = TrainOptions {
        traced_steps: BTreeSet::new(),
        ..options(3)
    };
    for (traced, untraced) in losses(&options(3)).iter().zip(losses(&untraced)) {
        assert!(
            (traced / untraced - 1.0).abs() < 1e-4,
            "{traced} {untraced}"
        );
    }
}
