//! Plans drawn up in the background, some steps ahead of training.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lengthwise_core::{Cluster, GlobalBatch, Seconds, StrategySpace};
use lengthwise_cost::StepModel;
use lengthwise_plan::{Planned, Planner, Problem};

use crate::TrainError;
use lengthwise_data::{DataError, TokenBatch};

/// A batch and how to run it.
#[derive(Debug)]
pub struct PlannedBatch {
    /// Counted from 1.
    pub step: u64,
    /// The tokens.
    pub batch: TokenBatch,
    /// Their lengths, as they were planned.
    pub global_batch: GlobalBatch,
    /// How they run.
    pub planned: Planned,
    /// What that was planned with.
    pub costs: Arc<PlanningCosts>,
}

/// The costs that plans are drawn up with, as they are for a while.
#[derive(Clone, Debug)]
pub struct PlanningCosts {
    /// How often they have been refined.
    pub version: u64,
    /// The costs.
    pub model: StepModel,
}

/// What every rank gets for a step: the same batch, or the same error.
pub type FeedResult = Result<Arc<PlannedBatch>, Arc<TrainError>>;

/// What plans are drawn up from.
pub struct Planning {
    /// Who plans.
    pub planner: Arc<dyn Planner>,
    /// Where steps run.
    pub cluster: Cluster,
    /// What steps cost there, until [`PlanFeed::refine`] says otherwise.
    pub costs: StepModel,
    /// The strategies to choose from.
    pub space: StrategySpace,
}

/// Hands every rank the planned batch of each step, and keeps planning ahead of them.
///
/// Batches are drawn in order, one at a time; their plans may be drawn up at the same time by several workers.
pub struct PlanFeed<I> {
    planner: Arc<dyn Planner>,
    cluster: Cluster,
    space: StrategySpace,
    costs: Mutex<Arc<PlanningCosts>>,
    /// The last step.
    steps: u64,
    /// How many steps may be ready before they are taken.
    ahead: u64,
    num_ranks: usize,
    source: Mutex<Source<I>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct Source<I> {
    batches: I,
    next_step: u64,
}

struct State {
    /// By step: the result, and how many ranks have still to take it.
    ready: BTreeMap<u64, (FeedResult, usize)>,
    /// Steps that all ranks have taken.
    taken: u64,
    closed: bool,
}

impl<I> PlanFeed<I>
where
    I: Iterator<Item = Result<TokenBatch, DataError>> + Send,
{
    /// A feed of `steps` steps for `num_ranks` ranks, at most `ahead` steps ahead of them.
    pub fn new(planning: Planning, batches: I, num_ranks: usize, steps: u64, ahead: u64) -> Self {
        let Planning {
            planner,
            cluster,
            costs,
            space,
        } = planning;
        let costs = PlanningCosts {
            version: 0,
            model: costs,
        };
        PlanFeed {
            planner,
            cluster,
            space,
            costs: Mutex::new(Arc::new(costs)),
            steps,
            ahead,
            num_ranks,
            source: Mutex::new(Source {
                batches,
                next_step: 1,
            }),
            state: Mutex::new(State {
                ready: BTreeMap::new(),
                taken: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Draws up plans until all steps are planned, one fails, or the feed is closed. Any number of threads may work.
    pub fn work(&self) {
        while let Some((step, batch)) = self.draw() {
            let result = batch.and_then(|batch| self.plan(step, batch));
            let failed = result.is_err();
            let mut state = self.lock();
            state.ready.insert(
                step,
                (result.map(Arc::new).map_err(Arc::new), self.num_ranks),
            );
            self.changed.notify_all();
            if failed {
                return;
            }
        }
    }

    /// The planned batch of `step`, and how long this rank waited for it; `None` once the feed is closed.
    ///
    /// Each rank takes each step once, in order.
    ///
    /// # Errors
    ///
    /// The corpus gave no batch, or it can't be planned; every rank gets the same error.
    pub fn take(&self, step: u64) -> Option<(FeedResult, Seconds)> {
        let start = Instant::now();
        let mut state = self.lock();
        while !state.ready.contains_key(&step) {
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let waited = Seconds::from(start.elapsed());
        let (result, ranks_left) = state.ready.get_mut(&step)?;
        let result = result.clone();
        *ranks_left -= 1;
        if *ranks_left == 0 {
            state.ready.remove(&step);
            state.taken = step;
            self.changed.notify_all();
        }
        Some((result, waited))
    }

    /// Has all plans that are not yet begun drawn up with refined costs.
    ///
    /// What devices hold must be as before, as plans under way are valid by that.
    pub fn refine(&self, model: StepModel) {
        let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        let version = costs.version + 1;
        *costs = Arc::new(PlanningCosts { version, model });
    }

    /// Ends the workers and wakes all that wait.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next step with its batch, once it is less than `ahead` steps ahead.
    fn draw(&self) -> Option<(u64, Result<TokenBatch, TrainError>)> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let step = source.next_step;
        if step > self.steps {
            return None;
        }
        let mut state = self.lock();
        while step > state.taken + self.ahead && !state.closed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        drop(state);
        source.next_step += 1;
        let batch = source.batches.next().unwrap_or(Err(DataError::Exhausted));
        Some((step, batch.map_err(TrainError::from)))
    }

    fn plan(&self, step: u64, batch: TokenBatch) -> Result<PlannedBatch, TrainError> {
        let global_batch = batch.global_batch();
        let costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        let costs = costs.clone();
        let cost = &costs.model.cost;
        let problem = Problem {
            batch: &global_batch,
            cluster: &self.cluster,
            cost,
            space: &self.space,
        };
        let planned = self
            .planner
            .plan(problem)
            .map_err(|source| TrainError::Plan { step, source })?;
        planned
            .plan
            .validate(&global_batch, &self.cluster, &self.space, cost)
            .map_err(|source| TrainError::InvalidPlan {
                planner: self.planner.name(),
                step,
                source,
            })?;
        Ok(PlannedBatch {
            step,
            batch,
            global_batch,
            planned,
            costs,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use lengthwise_core::{Activations, Bytes, Device, Speed, StrategyKind};
    use lengthwise_cost::{CoreSharing, FittedCosts, FittedModel, KindCosts};
    use lengthwise_plan::{PlanError, Static};

    use super::*;
    use lengthwise_data::TokenSequence;

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
            cluster: Cluster::uniform(1, 2, Device::new(Bytes::from_mib(1), Speed::NOMINAL))
                .unwrap(),
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
                let deadline = Instant::now() + Duration::from_secs(10);
                while drawn.load(Ordering::SeqCst) < done + 3 && Instant::now() < deadline {
                    thread::yield_now();
                }
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
                    let huge =
                        Cluster::uniform(1, 1, Device::new(Bytes(0), Speed::NOMINAL)).unwrap();
                    let costs = KindCosts {
                        memory_bytes_per_token: vec![(lengthwise_core::Degree::ONE, 8.0)],
                        ..KindCosts::default()
                    };
                    let kind = StrategyKind::ulysses(Activations::Recompute);
                    let cost = FittedModel::new(FittedCosts {
                        fixed_memory_bytes: 1.0,
                        ..FittedCosts::of_kind(kind, costs)
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
}
