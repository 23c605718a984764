//! A rank's notes of its own time while a step is traced.
//!
//! The executor says what it turns to, communicators when the rank comes to a call and leaves it. In between it
//! computes, so a traced step has no gaps:
//!
//! ```text
//! enter(layer 3, forward)   turn_to(attention)   turn_to(dense)
//! |  dense  |exchange|  ..  |     attention      |exchange| dense ...
//!           come_to ... leave
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lengthwise_core::{Activity, Bytes, GroupLoad, Pass, Rank, Seconds};

/// The place of a rank in its step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Site {
    pub micro_batch: Option<u32>,
    pub layer: Option<u32>,
    pub pass: Option<Pass>,
    pub load: Option<GroupLoad>,
}

/// A call of a group, which all of its members know by the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallKey {
    pub members: Arc<[Rank]>,
    /// The number of calls of the group that came before.
    pub number: u64,
}

/// A stretch of a rank's time, by its clock.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    pub activity: Activity,
    pub site: Site,
    pub start: Seconds,
    pub end: Seconds,
    /// The call that it waited for.
    pub call: Option<CallKey>,
    pub bytes: Option<Bytes>,
}

/// All that a rank has noted of a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct RankNotes {
    /// One after the other, without gaps.
    pub notes: Vec<Note>,
    /// When the rank came to which call.
    pub arrivals: Vec<(CallKey, Seconds)>,
}

/// A rank's notes; clones write to the same. Between steps that are traced it notes nothing, which costs a look at a
/// flag.
#[derive(Clone)]
pub(crate) struct Timeline(Arc<Shared>);

struct Shared {
    is_on: AtomicBool,
    clock: Box<dyn Fn() -> Seconds + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    activity: Activity,
    site: Site,
    /// When it turned to what it is at.
    since: Seconds,
    noted: RankNotes,
}

impl Site {
    const NOWHERE: Site = Site {
        micro_batch: None,
        layer: None,
        pass: None,
        load: None,
    };
}

impl Timeline {
    /// A timeline by this clock, which ranks have in common, that notes nothing yet.
    pub fn new(clock: impl Fn() -> Seconds + Send + Sync + 'static) -> Self {
        Timeline(Arc::new(Shared {
            is_on: AtomicBool::new(false),
            clock: Box::new(clock),
            state: Mutex::new(State {
                activity: Activity::Overhead,
                site: Site::NOWHERE,
                since: Seconds::ZERO,
                noted: RankNotes::default(),
            }),
        }))
    }

    /// Notes from now on.
    pub fn start(&self) {
        let mut state = self.state();
        state.activity = Activity::Overhead;
        state.site = Site::NOWHERE;
        state.since = (self.0.clock)();
        state.noted = RankNotes::default();
        self.0.is_on.store(true, Ordering::Relaxed);
    }

    /// Ends, with all notes since the start.
    pub fn take(&self) -> RankNotes {
        let mut state = self.state();
        state.close((self.0.clock)(), None, None);
        self.0.is_on.store(false, Ordering::Relaxed);
        std::mem::take(&mut state.noted)
    }

    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    /// The rank turns to a micro-batch, or with `None` to what comes behind all of them.
    pub fn enter(&self, activity: Activity, micro_batch: Option<u32>, load: Option<GroupLoad>) {
        self.turn(activity, |_| Site {
            micro_batch,
            load,
            ..Site::NOWHERE
        });
    }

    /// The rank turns to a part of the model.
    pub fn enter_part(&self, activity: Activity, pass: Pass, layer: Option<u32>) {
        self.turn(activity, |site| Site {
            pass: Some(pass),
            layer,
            ..site
        });
    }

    /// The rank turns to another activity in the same part of the model.
    pub fn turn_to(&self, activity: Activity) {
        self.turn(activity, |site| site);
    }

    /// The rank goes another way through the same layer.
    pub fn turn_to_pass(&self, pass: Pass) {
        self.turn(Activity::Dense, |site| Site {
            pass: Some(pass),
            ..site
        });
    }

    fn turn(&self, activity: Activity, to: impl FnOnce(Site) -> Site) {
        if self.is_on() {
            let mut state = self.state();
            state.close((self.0.clock)(), None, None);
            state.activity = activity;
            state.site = to(state.site);
        }
    }

    /// The rank has come to a call, whether or not it waits for it.
    pub fn come_to(&self, call: &CallKey) {
        let now = (self.0.clock)();
        self.state().noted.arrivals.push((call.clone(), now));
    }

    /// Notes the time of `wait`, which returns when a call or a copy has ended, and the bytes that were passed on.
    pub fn during<X>(
        &self,
        activity: Activity,
        call: Option<CallKey>,
        wait: impl FnOnce() -> X,
        bytes: impl FnOnce() -> Option<Bytes>,
    ) -> X {
        let began = (self.0.clock)();
        self.state().close(began, None, None);
        let result = wait();
        let ended = (self.0.clock)();
        let mut state = self.state();
        let meanwhile = std::mem::replace(&mut state.activity, activity);
        state.close(ended, call, bytes());
        state.activity = meanwhile;
        result
    }

    fn state(&self) -> MutexGuard<'_, State> {
        (self.0.state.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self, now: Seconds, call: Option<CallKey>, bytes: Option<Bytes>) {
        let start = std::mem::replace(&mut self.since, now);
        if now > start {
            self.noted.notes.push(Note {
                activity: self.activity,
                site: self.site,
                start,
                end: now,
                call,
                bytes,
            });
        }
    }
}

/// Notes nothing, whatever happens.
impl Default for Timeline {
    fn default() -> Self {
        Timeline::new(|| Seconds::ZERO)
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline")
            .field("is_on", &self.is_on())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// A clock that goes on by a second whenever it is looked at.
    fn timeline() -> Timeline {
        let seconds = AtomicU64::new(0);
        Timeline::new(move || {
            let now = seconds.fetch_add(1, Ordering::Relaxed);
            Seconds::new(now as f64).unwrap()
        })
    }

    #[test]
    fn time_is_noted_without_gaps_and_calls_lie_between_what_they_interrupt() {
        let timeline = timeline();
        timeline.start();
        timeline.enter_part(Activity::Dense, Pass::Forward, Some(2));
        let call = CallKey {
            members: [Rank(0), Rank(1)].into(),
            number: 7,
        };
        timeline.come_to(&call);
        let bytes = Some(Bytes(9));
        timeline.during(Activity::Exchange, Some(call.clone()), || (), || bytes);
        timeline.turn_to(Activity::Attention);
        let RankNotes { notes, arrivals } = timeline.take();
        let activities: Vec<_> = notes.iter().map(|note| note.activity).collect();
        let expected = [
            Activity::Overhead,
            Activity::Dense,
            Activity::Exchange,
            Activity::Dense,
            Activity::Attention,
        ];
        assert_eq!(activities, expected);
        assert!(notes.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(
            (notes[2].call.as_ref(), notes[2].bytes),
            (Some(&call), bytes)
        );
        assert!(notes[1..].iter().all(|note| note.site.layer == Some(2)));
        assert_eq!(arrivals, [(call, Seconds::new(2.0).unwrap())]);
    }

    #[test]
    fn nothing_is_noted_between_traced_steps() {
        let timeline = timeline();
        timeline.enter(Activity::Overhead, Some(0), None);
        timeline.turn_to(Activity::Dense);
        timeline.start();
        assert_eq!(timeline.take().notes.len(), 1);
        timeline.turn_to(Activity::Attention);
        timeline.start();
        let notes = timeline.take().notes;
        assert_eq!((notes.len(), notes[0].activity), (1, Activity::Overhead));
    }
}
