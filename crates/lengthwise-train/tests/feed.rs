//! Plans drawn up in the background: in order, as far ahead as they may be, and the same for every rank.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Seconds, Speed, StrategyKind,
    StrategySpace, Tokens,
};
use lengthwise_cost::{CoreSharing, FittedCosts, FittedModel, KindCosts, StepModel};
use lengthwise_data::{DataError, TokenBatch, TokenSequence};
use lengthwise_plan::{PlanError, Planned, Planner, Problem, Static};
use lengthwise_train::{PlanFeed, PlannedBatch, Planning};

fn step_model(linear_s_per_token: f64) -> StepModel {
    let costs = FittedCosts::of_kind(
        StrategyKind::ulysses(Activations::Recompute),
        KindCosts {
            linear_s_per_token,
            ..KindCosts::default()
        },
    );
    StepModel {
        cost: FittedModel::new(costs).unwrap(),
        step_overhead: Seconds::ZERO,
        sharing: CoreSharing::apart(2),
    }
}

fn planning(planner: impl Planner + 'static) -> Planning {
    Planning {
        planner: Arc::new(planner),
        cluster: Cluster::uniform(1, 2, Device::new(Bytes::from_mib(1), Speed::NOMINAL)).unwrap(),
        costs: step_model(1e-6),
        space: StrategySpace::ulysses_up_to(2, Activations::Recompute).unwrap(),
    }
}

/// Batch `i` has a single sequence of `i` tokens.
fn batches(drawn: &AtomicU64) -> impl Iterator<Item = Result<TokenBatch, DataError>> + Send {
    (1..).map(|step: usize| {
        drawn.fetch_add(1, Ordering::SeqCst);
        Ok(TokenBatch::new(vec![TokenSequence::new(
            vec![0; step + 1].into(),
        )]))
    })
}

fn taken<I>(feed: &PlanFeed<I>, step: u64) -> Arc<PlannedBatch>
where
    I: Iterator<Item = Result<TokenBatch, DataError>> + Send,
{
    feed.take(step).unwrap().0.unwrap()
}

/// Whether this is so within some seconds.
fn soon(is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() && Instant::now() < deadline {
        thread::yield_now();
    }
    is_so()
}

/// Plans with a single degree, after it has done this.
struct After<F>(F);

impl<F: Fn(&GlobalBatch) + Send + Sync> Planner for After<F> {
    fn name(&self) -> &'static str {
        "after"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.0(problem.batch);
        Static::default().plan(problem)
    }
}

#[test]
fn every_rank_gets_every_step_in_order() {
    let drawn = AtomicU64::new(0);
    let feed = PlanFeed::new(planning(Static::default()), batches(&drawn), 3, 20, 2);
    thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(|| feed.work())));
        for _ in 0..3 {
            scope.spawn(|| {
                for step in 1..=20 {
                    let planned = taken(&feed, step);
                    assert_eq!(
                        (planned.step, planned.global_batch.num_tokens().0),
                        (step, step)
                    );
                }
            });
        }
    });
    assert_eq!(drawn.load(Ordering::SeqCst), 20);
}

#[test]
fn planning_runs_ahead_as_far_as_it_may_and_no_further() {
    let drawn = AtomicU64::new(0);
    let feed = PlanFeed::new(planning(Static::default()), batches(&drawn), 1, 100, 3);
    thread::scope(|scope| {
        scope.spawn(|| feed.work());
        for done in 0..10 {
            soon(|| drawn.load(Ordering::SeqCst) >= done + 3);
            thread::sleep(Duration::from_millis(2));
            assert_eq!(drawn.load(Ordering::SeqCst), done + 3);
            taken(&feed, done + 1);
        }
        feed.close();
    });
}

/// Fails at the third batch.
struct Failing;

impl Planner for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        match problem.batch.longest() {
            sequence if sequence.seq_len.0 == 3 => {
                let huge = Cluster::uniform(1, 1, Device::new(Bytes(0), Speed::NOMINAL)).unwrap();
                let cost = FittedModel::new(FittedCosts {
                    fixed_memory_bytes: 1.0,
                    ..FittedCosts::of_kind(
                        StrategyKind::ulysses(Activations::Recompute),
                        KindCosts {
                            memory_bytes_per_token: vec![(Degree::ONE, 8.0)],
                            ..KindCosts::default()
                        },
                    )
                })
                .unwrap();
                Static::default().plan(Problem {
                    cluster: &huge,
                    cost: &cost,
                    ..problem
                })
            }
            _ => Static::default().plan(problem),
        }
    }
}

#[test]
fn a_batch_that_cannot_be_planned_is_an_error_of_its_step_for_every_rank() {
    let drawn = AtomicU64::new(0);
    let feed = PlanFeed::new(planning(Failing), batches(&drawn), 2, 100, 4);
    thread::scope(|scope| {
        scope.spawn(|| feed.work());
        for _ in 0..2 {
            taken(&feed, 1);
            taken(&feed, 2);
        }
        for _ in 0..2 {
            let error = feed.take(3).unwrap().0.unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("step 3 can't be planned: sequence 0 of 3 tokens"),
                "{error}"
            );
        }
    });
}

#[test]
fn plans_begun_after_a_refinement_are_drawn_up_with_it() {
    let drawn = AtomicU64::new(0);
    let feed = PlanFeed::new(planning(Static::default()), batches(&drawn), 1, 3, 3);
    feed.refine(step_model(2e-6));
    feed.work();
    let planned = taken(&feed, 3);
    assert_eq!(planned.costs.version, 1);
    let predicted = planned.planned.report.predicted_step.get();
    assert!((predicted - 3.0 * 2e-6).abs() < 1e-12, "{predicted}");
}

#[test]
fn workers_plan_at_the_same_time() {
    let drawn = AtomicU64::new(0);
    let num_planning = AtomicU64::new(0);
    let (meetings, met) = mpsc::channel();
    let meet = move |_: &GlobalBatch| {
        num_planning.fetch_add(1, Ordering::SeqCst);
        let all_here = soon(|| num_planning.load(Ordering::SeqCst) == 2);
        meetings.send(all_here).unwrap();
    };
    let feed = PlanFeed::new(planning(After(meet)), batches(&drawn), 1, 2, 2);
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| feed.work()))));
    assert_eq!(met.try_iter().collect::<Vec<_>>(), [true, true]);
}

#[test]
fn costs_are_refined_while_a_plan_is_drawn_up() {
    let drawn = AtomicU64::new(0);
    let [has_begun, may_end] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let (ends, ended) = mpsc::channel();
    let wait = {
        let [has_begun, may_end] = [&has_begun, &may_end].map(Arc::clone);
        move |_: &GlobalBatch| {
            has_begun.store(true, Ordering::SeqCst);
            ends.send(soon(|| may_end.load(Ordering::SeqCst))).unwrap();
        }
    };
    let feed = PlanFeed::new(planning(After(wait)), batches(&drawn), 1, 2, 2);
    thread::scope(|scope| {
        scope.spawn(|| feed.work());
        assert!(soon(|| has_begun.load(Ordering::SeqCst)));
        feed.refine(step_model(2e-6));
        may_end.store(true, Ordering::SeqCst);
        assert!(ended.recv().unwrap(), "refining waited for the plan");
        let versions = [1, 2].map(|step| taken(&feed, step).costs.version);
        assert_eq!(versions, [0, 1]);
    });
}

#[test]
fn a_planner_that_panics_is_the_error_of_its_step() {
    let drawn = AtomicU64::new(0);
    let give_up = |batch: &GlobalBatch| {
        assert_ne!(batch.num_tokens(), Tokens(3), "no idea");
    };
    let feed = PlanFeed::new(planning(After(give_up)), batches(&drawn), 1, 4, 4);
    feed.work();
    (1..3).for_each(|step| drop(taken(&feed, step)));
    let error = feed.take(3).unwrap().0.unwrap_err().to_string();
    let expected = "step 3 can't be planned: planner after panicked: assertion `left != right` failed: no idea";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_corpus_that_panics_is_the_error_of_its_step_and_asked_no_more() {
    let drawn = AtomicU64::new(0);
    let torn = batches(&drawn).inspect(|_| {
        assert!(drawn.load(Ordering::SeqCst) < 3, "page torn out");
    });
    let feed = PlanFeed::new(planning(Static::default()), torn, 1, 9, 9);
    feed.work();
    feed.work();
    (1..3).for_each(|step| drop(taken(&feed, step)));
    let error = feed.take(3).unwrap().0.unwrap_err().to_string();
    let expected = "step 3 has no batch: the corpus panicked: page torn out";
    assert_eq!(error, expected);
    assert_eq!(drawn.load(Ordering::SeqCst), 3);
}

#[test]
fn closing_wakes_all_that_wait() {
    let drawn = AtomicU64::new(0);
    let feed = PlanFeed::new(planning(Static::default()), batches(&drawn), 1, 100, 2);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| feed.take(50).is_none());
        feed.close();
        assert!(waiting.join().unwrap());
    });
    feed.work();
    assert_eq!(drawn.load(Ordering::SeqCst), 0);
}
