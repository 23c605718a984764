//! Plans drawn up in the background, some steps ahead of training.

mod planning;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lengthwise_comm::panic_text;
use lengthwise_core::{Cluster, PlanRules, Seconds, StrategySpace};
use lengthwise_cost::StepModel;
use lengthwise_plan::{Planner, Problem};

use crate::TrainError;
use lengthwise_data::{DataError, TokenBatch};

pub use planning::{PlannedBatch, Planning, PlanningCosts};

/// The batch that every rank gets for a step, or the same error.
pub type FeedResult = Result<Arc<PlannedBatch>, Arc<TrainError>>;

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
    /// The number of steps that may be ready before they are taken.
    ahead: u64,
    num_ranks: usize,
    source: Mutex<Source<I>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct Source<I> {
    batches: I,
    next_step: u64,
    /// It has given an error instead of a batch, and is asked no more.
    has_failed: bool,
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
                has_failed: false,
            }),
            state: Mutex::new(State {
                ready: BTreeMap::new(),
                taken: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// The same feed behind a step: batches are those of the steps that come next.
    #[must_use]
    pub fn behind(mut self, step: u64) -> Self {
        let source = self
            .source
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        source.next_step = step + 1;
        self.state
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .taken = step;
        self
    }

    /// Draws up plans until all steps are planned, one fails, or the feed is closed. Any number of threads may work.
    pub fn work(&self) {
        while let Some((step, batch)) = self.draw() {
            let result = batch.and_then(|batch| self.plan_guarded(step, batch));
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
    /// The corpus gave no batch, or it can't be planned, or either panicked; every rank gets the same error.
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
    /// Memory costs must be as before, as plans under way are valid by them.
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
        if step > self.steps || source.has_failed {
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
        let batch = match catch_unwind(AssertUnwindSafe(|| source.batches.next())) {
            Ok(batch) => batch
                .unwrap_or(Err(DataError::Exhausted))
                .map_err(TrainError::from),
            Err(panic) => Err(TrainError::CorpusPanicked {
                step,
                message: panic_text(&*panic),
            }),
        };
        source.has_failed = batch.is_err();
        Some((step, batch))
    }

    /// Plans a batch. A panic is an error like any other: ranks would wait for ever for a plan that never comes.
    fn plan_guarded(&self, step: u64, batch: TokenBatch) -> Result<PlannedBatch, TrainError> {
        // Whatever this leaves the planner like: its plans of earlier steps are validated, and no later one is run.
        let guarded = catch_unwind(AssertUnwindSafe(|| self.plan(step, batch)));
        guarded.unwrap_or_else(|panic| {
            Err(TrainError::PlannerPanicked {
                planner: self.planner.name(),
                step,
                message: panic_text(&*panic),
            })
        })
    }

    fn plan(&self, step: u64, batch: TokenBatch) -> Result<PlannedBatch, TrainError> {
        let global_batch = batch.global_batch();
        let costs = self.costs();
        let cost = &costs.model.cost;
        let problem = Problem {
            batch: &global_batch,
            cluster: &self.cluster,
            cost,
            space: &self.space,
            rules: PlanRules::default(),
        };
        let planned = self
            .planner
            .plan(problem)
            .map_err(|source| TrainError::Plan { step, source })?;
        planned
            .plan
            .validate(
                &global_batch,
                &self.cluster,
                &self.space,
                cost,
                &PlanRules::default(),
            )
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

    /// The costs of this moment. Nothing is locked while a plan is drawn up with them: others plan and refine meanwhile.
    fn costs(&self) -> Arc<PlanningCosts> {
        let costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&costs)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
