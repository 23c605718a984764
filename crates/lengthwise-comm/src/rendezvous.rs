//! The rendezvous of the members of a group: one slot for each call, into which each of them posts.
//!
//! ```text
//! group [0 1 2]      slots by call     0: complete, gone     1: A . C     2: . . C
//!   rank 0 has posted in 0 and 1 and waits in 1; rank 1 computes; rank 2 has prefetched 2 and waits for nothing
//! ```
//!
//! Posted data never change, so members take them as soon as all are there and go on without a second
//! meeting. A slot leaves the group when its last member has posted, since nobody will look for it any more, and is
//! freed with the last ticket for it. Members that have read a slot may therefore meet again under the same number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lengthwise_core::Rank;

use crate::emulation::{EmulatedCluster, GroupPaths, Moved, Transfer};
use crate::failure::Fate;
use crate::{Call, CommError, Wait};

/// The longest wait is counted in so many parts, so that a process that was stopped meanwhile counts for one at most.
const PARTS_OF_LONGEST_WAIT: u32 = 16;

/// A member's part of a call, which the others read.
#[derive(Debug)]
pub(crate) enum Parcel<T> {
    /// Nothing but its presence.
    Presence,
    /// The same for everyone.
    Shared(T),
    /// One for each member, to be taken.
    Each(Vec<Option<T>>),
    /// Values of the host.
    Values(Vec<f64>),
}

/// When a member comes to a call by its clock, and what it moves; where the cluster is emulated.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The time on its clock.
    pub at: f64,
    pub moved: Moved,
}

/// The members of a group and the calls they have not all made yet.
#[derive(Debug)]
pub(crate) struct Group<T> {
    members: Vec<Rank>,
    fate: Arc<Fate>,
    /// The routes of its calls where the cluster is emulated.
    emulated: Option<(Arc<EmulatedCluster>, GroupPaths)>,
    num_calls: Vec<AtomicU64>,
    /// By position of the call, counted from 1.
    slots: Mutex<HashMap<u64, Arc<Slot<T>>>>,
}

#[derive(Debug)]
struct Slot<T> {
    /// The call as its first member made it.
    call: Call,
    /// Group rank of that member.
    first: usize,
    posts: Mutex<Posts<T>>,
    ready: Condvar,
}

#[derive(Debug)]
struct Posts<T> {
    parcels: Vec<Option<Parcel<T>>>,
    num_posted: usize,
    /// The members that wait for the others.
    waiting: Vec<bool>,
    /// Of the members so far: the latest arrival, and what each of them moves.
    arrival: f64,
    moved: Vec<Moved>,
    /// The transfer that readers wait for where the cluster is emulated, once they have all they need.
    transfer: Option<Arc<Transfer>>,
}

/// The right of one member to read a slot.
#[derive(Debug)]
pub(crate) struct Ticket<T> {
    group: Arc<Group<T>>,
    slot: Arc<Slot<T>>,
    position: u64,
    /// Group rank.
    me: usize,
}

/// Why a member stopped waiting before everyone had come.
#[derive(Debug)]
pub(crate) enum GaveUp {
    /// A rank has failed, or finished without coming.
    Failed(CommError),
    /// Nobody is left to end a wait.
    Stuck,
    /// It has waited as long as it may.
    TooLong,
}

/// A panic under a lock leaves nothing half done here, and its rank poisons the world anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Group<T> {
    pub fn new(
        members: Vec<Rank>,
        fate: Arc<Fate>,
        emulated: Option<&Arc<EmulatedCluster>>,
    ) -> Self {
        Group {
            emulated: emulated.map(|emulated| (Arc::clone(emulated), emulated.paths(&members))),
            num_calls: members.iter().map(|_| AtomicU64::new(0)).collect(),
            members,
            fate,
            slots: Mutex::default(),
        }
    }

    pub fn members(&self) -> &[Rank] {
        &self.members
    }

    pub fn fate(&self) -> &Fate {
        &self.fate
    }

    /// The number of calls that group rank `me` has made.
    pub fn num_calls(&self, me: usize) -> u64 {
        self.num_calls[me].load(Ordering::Relaxed)
    }

    /// Counts one more call of group rank `me` and gives its position.
    pub fn next_call(&self, me: usize) -> u64 {
        self.num_calls[me].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Posts `parcel` for group rank `me`. Never waits for another member.
    pub fn post(
        self: &Arc<Self>,
        me: usize,
        position: u64,
        call: Call,
        parcel: Parcel<T>,
        arrival: Option<Arrival>,
    ) -> Result<Ticket<T>, CommError> {
        let mut slots = lock(&self.slots);
        self.fate.check()?;
        let slot = slots
            .entry(position)
            .or_insert_with(|| Arc::new(Slot::new(call.clone(), me, self.members.len())));
        if slot.call != call {
            return Err(self.mismatch(position, slot, me, call));
        }
        let slot = Arc::clone(slot);
        let mut posts = lock(&slot.posts);
        let was_ready = slot.first_missing(&posts).is_none();
        posts.parcels[me] = Some(parcel);
        posts.num_posted += 1;
        if let Some(Arrival { at, moved }) = arrival {
            posts.arrival = posts.arrival.max(at);
            posts.moved[me] = moved;
        }
        if posts.num_posted == self.members.len() {
            slots.remove(&position);
        }
        let now_ready = slot.first_missing(&posts).is_none();
        if now_ready && !was_ready {
            posts.transfer = self.begin_transfer(&slot, &posts);
            let ended = posts.waiting.iter_mut().map(std::mem::take);
            self.fate.end_waits(ended.filter(|&waited| waited).count());
        }
        drop(posts);
        if now_ready && !was_ready {
            slot.ready.notify_all();
        }
        Ok(Ticket {
            group: Arc::clone(self),
            slot,
            position,
            me,
        })
    }

    fn begin_transfer(&self, slot: &Slot<T>, posts: &Posts<T>) -> Option<Arc<Transfer>> {
        let (emulated, paths) = self.emulated.as_ref()?;
        let Posts { arrival, moved, .. } = posts;
        Some(emulated.begin(&slot.call, &self.members, paths, *arrival, moved))
    }

    /// Lets everyone who waits look at the [`Fate`] again, after it has changed.
    pub fn wake(&self) {
        for slot in lock(&self.slots).values() {
            // Whoever has looked already holds this lock until it really waits.
            drop(lock(&slot.posts));
            slot.ready.notify_all();
        }
    }

    /// A member that made a call which another has not made: once all ranks have finished, the calls they do not share.
    pub fn unanswered_call(&self) -> Option<(Rank, CommError)> {
        let slots = lock(&self.slots);
        let (&position, slot) = slots.iter().min_by_key(|(position, _)| **position)?;
        let posts = lock(&slot.posts);
        let missing = posts.parcels.iter().position(Option::is_none)?;
        Some((
            self.members[slot.first],
            self.finished(slot, missing, position),
        ))
    }

    /// The ranks that wait in calls of this group.
    pub fn waits(&self) -> Vec<Wait> {
        let slots = lock(&self.slots);
        let waits = slots.iter().filter_map(|(&position, slot)| {
            let posts = lock(&slot.posts);
            let members_where = |is_meant: &dyn Fn(usize) -> bool| -> Vec<Rank> {
                let meant = (0..self.members.len()).filter(|&member| is_meant(member));
                meant.map(|member| self.members[member]).collect()
            };
            let ranks = members_where(&|member| posts.waiting[member]);
            (!ranks.is_empty()).then(|| Wait {
                ranks,
                missing: members_where(&|member| slot.is_missing(&posts, member)),
                call: slot.call.clone(),
                position,
                members: self.members.clone(),
            })
        });
        waits.collect()
    }

    fn finished(&self, slot: &Slot<T>, missing: usize, position: u64) -> CommError {
        CommError::PeerFinished {
            rank: self.members[missing],
            call: slot.call.clone(),
            position,
            members: self.members.clone(),
        }
    }

    fn mismatch(&self, position: u64, slot: &Slot<T>, me: usize, call: Call) -> CommError {
        let theirs = (self.members[slot.first], slot.call.clone());
        let mine = (self.members[me], call);
        let (low, high) = if theirs.0 < mine.0 {
            (theirs, mine)
        } else {
            (mine, theirs)
        };
        CommError::CallMismatch {
            position,
            members: self.members.clone(),
            a: low.0,
            call_on_a: low.1,
            b: high.0,
            call_on_b: high.1,
        }
    }
}

impl<T> Slot<T> {
    fn new(call: Call, first: usize, size: usize) -> Self {
        Slot {
            call,
            first,
            posts: Mutex::new(Posts {
                parcels: (0..size).map(|_| None).collect(),
                num_posted: 0,
                waiting: vec![false; size],
                arrival: 0.0,
                moved: vec![Moved::Nothing; size],
                transfer: None,
            }),
            ready: Condvar::new(),
        }
    }

    /// The first group rank whose post readers need and lack.
    fn first_missing(&self, posts: &Posts<T>) -> Option<usize> {
        match self.call.only_sender() {
            Some(sender) => posts.parcels[sender].is_none().then_some(sender),
            None if posts.num_posted == posts.parcels.len() => None,
            None => posts.parcels.iter().position(Option::is_none),
        }
    }

    /// Whether readers need the post of this group rank and lack it.
    fn is_missing(&self, posts: &Posts<T>, member: usize) -> bool {
        let is_needed = self
            .call
            .only_sender()
            .is_none_or(|sender| sender == member);
        is_needed && posts.parcels[member].is_none()
    }

    /// A group rank that is needed, missing, and will never come.
    fn missing_for_good(&self, posts: &Posts<T>, group: &Group<T>) -> Option<usize> {
        (0..posts.parcels.len()).find(|&member| {
            self.is_missing(posts, member) && group.fate.is_finished(group.members[member])
        })
    }
}

impl<T> Ticket<T> {
    /// Waits until everything is there, and lets `read` take it, by group rank. Also returns how long it waited.
    pub fn read<X>(
        &self,
        read: impl FnOnce(&mut [Option<Parcel<T>>]) -> X,
    ) -> (Duration, Result<X, GaveUp>) {
        let slot = &*self.slot;
        let fate = &self.group.fate;
        let mut began_waiting: Option<Instant> = None;
        let mut parts_left = PARTS_OF_LONGEST_WAIT;
        let mut posts = lock(&slot.posts);
        let result = loop {
            if let Err(failed) = fate.check() {
                break Err(GaveUp::Failed(failed));
            }
            if slot.first_missing(&posts).is_none() {
                break Ok(read(&mut posts.parcels));
            }
            if let Some(lost) = slot.missing_for_good(&posts, &self.group) {
                let finished = self.group.finished(slot, lost, self.position);
                break Err(GaveUp::Failed(finished));
            }
            if !std::mem::replace(&mut posts.waiting[self.me], true) {
                began_waiting = Some(Instant::now());
                fate.begin_wait();
            }
            if fate.is_stuck() {
                break Err(GaveUp::Stuck);
            }
            if parts_left == 0 {
                break Err(GaveUp::TooLong);
            }
            let (woken, end) = slot
                .ready
                .wait_timeout(posts, fate.longest_wait() / PARTS_OF_LONGEST_WAIT)
                .unwrap_or_else(PoisonError::into_inner);
            posts = woken;
            parts_left -= u32::from(end.timed_out());
        };
        drop(posts);
        let waited = began_waiting.map_or(Duration::ZERO, |began| began.elapsed());
        (waited, result)
    }

    /// What else a reader waits for where the cluster is emulated; known once [`Ticket::read`] has read.
    pub fn transfer(&self) -> Option<Arc<Transfer>> {
        lock(&self.slot.posts).transfer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call = Call::AllGatherV { cols: 1 };

    fn group(size: u32) -> Arc<Group<Arc<()>>> {
        let fate = Arc::new(Fate::new(size as usize, Duration::from_secs(10)));
        Arc::new(Group::new((0..size).map(Rank).collect(), fate, None))
    }

    #[test]
    fn a_slot_is_forgotten_by_its_group_when_the_last_member_has_posted() {
        let group = group(2);
        let post = |me, position, parcel| group.post(me, position, CALL, parcel, None).unwrap();
        let ahead = [1, 2, 3].map(|position| post(0, position, Parcel::Presence));
        assert_eq!(lock(&group.slots).len(), 3);
        for position in [1, 2, 3] {
            post(1, position, Parcel::Presence);
        }
        assert_eq!(lock(&group.slots).len(), 0);
        for ticket in ahead {
            ticket
                .read(|parcels| assert_eq!(parcels.len(), 2))
                .1
                .unwrap();
        }
    }

    #[test]
    fn what_was_posted_is_freed_with_the_last_ticket() {
        let group = group(2);
        let posted = Arc::new(());
        let post = |me| {
            let parcel = Parcel::Shared(Arc::clone(&posted));
            group.post(me, 1, CALL, parcel, None).unwrap()
        };
        let tickets = [post(0), post(1)];
        assert_eq!(Arc::strong_count(&posted), 3);
        let [first, last] = tickets;
        drop(first);
        assert_eq!(Arc::strong_count(&posted), 3);
        drop(last);
        assert_eq!(Arc::strong_count(&posted), 1);
    }

    #[test]
    fn a_broadcast_is_ready_once_its_root_has_posted() {
        let group = group(3);
        let call = Call::Broadcast { root: Rank(1) };
        let post = |me, parcel| group.post(me, 1, call.clone(), parcel, None).unwrap();
        post(1, Parcel::Shared(Arc::new(())));
        // Group rank 2 never comes, which is no matter for group rank 0.
        group.fate.finish(Rank(2));
        post(0, Parcel::Presence).read(|_| ()).1.unwrap();
        assert_eq!(group.unanswered_call().unwrap().0, Rank(1));
    }
}
