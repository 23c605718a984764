//! The ranks of one process, and the groups among them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lengthwise_core::Rank;

use crate::emulation::EmulatedCluster;
use crate::failure::{Failure, FailureKind, Fate};
use crate::rendezvous::{GaveUp, Group, lock};
use crate::{CommError, Wait};

/// All ranks, what has become of them, and every group that was ever asked for, by its members in increasing order.
#[derive(Debug)]
pub(crate) struct World<T> {
    fate: Arc<Fate>,
    /// Where the cluster is emulated.
    emulated: Option<Arc<EmulatedCluster>>,
    everyone: Arc<Group<T>>,
    groups: Mutex<HashMap<Vec<Rank>, Arc<Group<T>>>>,
}

impl<T> World<T> {
    pub fn new(
        num_ranks: usize,
        emulated: Option<Arc<EmulatedCluster>>,
        longest_wait: Duration,
    ) -> Self {
        let fate = Arc::new(Fate::new(num_ranks, longest_wait));
        let members: Vec<Rank> = (0..num_ranks as u32).map(Rank).collect();
        let everyone = Arc::new(Group::new(
            members.clone(),
            Arc::clone(&fate),
            emulated.as_ref(),
        ));
        World {
            fate,
            emulated,
            groups: Mutex::new(HashMap::from([(members, Arc::clone(&everyone))])),
            everyone,
        }
    }

    /// The emulated cluster, if there is one.
    pub fn emulated(&self) -> Option<&Arc<EmulatedCluster>> {
        self.emulated.as_ref()
    }

    /// The group of all ranks.
    pub fn everyone(&self) -> &Arc<Group<T>> {
        &self.everyone
    }

    /// The group of `members`, and the group rank of `caller` in it.
    pub fn group(
        &self,
        members: &[Rank],
        caller: Rank,
    ) -> Result<(Arc<Group<T>>, usize), CommError> {
        // A set has one order, so that ranks meet in it however each of them lists it.
        let mut sorted = members.to_vec();
        sorted.sort_unstable();
        let group_rank = sorted.binary_search(&caller);
        let group_rank = group_rank.map_err(|_| CommError::NotAMember {
            rank: caller,
            members: members.to_vec(),
        });
        if let Some(group) = lock(&self.groups).get(&sorted) {
            return Ok((Arc::clone(group), group_rank?));
        }
        self.check_members(members)?;
        let group_rank = group_rank?;
        let mut groups = lock(&self.groups);
        let group = groups.entry(sorted).or_insert_with_key(|members| {
            let fate = Arc::clone(&self.fate);
            Arc::new(Group::new(members.clone(), fate, self.emulated.as_ref()))
        });
        Ok((Arc::clone(group), group_rank))
    }

    fn check_members(&self, members: &[Rank]) -> Result<(), CommError> {
        let world_size = self.everyone.members().len();
        let mut is_listed = vec![false; world_size];
        for &rank in members {
            let Some(is_listed) = is_listed.get_mut(rank.index()) else {
                return Err(CommError::UnknownMember {
                    rank,
                    members: members.to_vec(),
                    world_size,
                });
            };
            if std::mem::replace(is_listed, true) {
                return Err(CommError::DuplicateMember {
                    rank,
                    members: members.to_vec(),
                });
            }
        }
        if members.is_empty() {
            return Err(CommError::EmptyGroup);
        }
        Ok(())
    }

    /// The number of groups, the one of all ranks included.
    pub fn num_groups(&self) -> usize {
        lock(&self.groups).len()
    }

    /// Ends every call of every rank, now and later.
    pub fn fail(&self, rank: Rank, kind: FailureKind) {
        self.fate.fail(Failure { rank, kind });
        self.wake_all();
    }

    /// The failure that ended this world.
    pub fn failure(&self) -> Option<&Failure> {
        self.fate.failure()
    }

    /// Notes that `rank` makes no more calls.
    pub fn finish(&self, rank: Rank) {
        self.fate.finish(rank);
        self.wake_all();
    }

    /// See [`Group::unanswered_call`].
    pub fn unanswered_call(&self) -> Option<(Rank, CommError)> {
        lock(&self.groups)
            .values()
            .filter_map(|group| group.unanswered_call())
            .min_by_key(|(rank, _)| *rank)
    }

    /// Why the wait of `rank` in a call has ended before everyone had come.
    pub fn explain(&self, rank: Rank, gave_up: GaveUp) -> CommError {
        match gave_up {
            GaveUp::Failed(error) => error,
            GaveUp::Stuck => {
                let waits = self.waits();
                // A rank that waits for one that has finished knows more.
                let is_finished = |rank: &&Rank| self.fate.is_finished(**rank);
                let finished = (waits.iter())
                    .find_map(|wait| Some((wait.missing.iter().find(is_finished)?, wait)));
                match finished {
                    Some((&rank, wait)) => CommError::PeerFinished {
                        rank,
                        call: wait.call.clone(),
                        position: wait.position,
                        members: wait.members.clone(),
                    },
                    None => CommError::Deadlock { waits },
                }
            }
            GaveUp::TooLong => {
                let waits = self.waits();
                let elsewhere = self.everyone.members().iter().copied().filter(|rank| {
                    let is_waiting = waits.iter().any(|wait| wait.ranks.contains(rank));
                    !is_waiting && !self.fate.is_finished(*rank)
                });
                CommError::WaitedTooLong {
                    rank,
                    longest_wait: self.fate.longest_wait(),
                    elsewhere: elsewhere.collect(),
                    waits,
                }
            }
        }
    }

    /// The waits, by the first rank of each.
    fn waits(&self) -> Vec<Wait> {
        let groups = lock(&self.groups);
        let mut waits: Vec<Wait> = groups.values().flat_map(|group| group.waits()).collect();
        waits.sort_unstable_by(|a, b| a.ranks.cmp(&b.ranks));
        waits
    }

    fn wake_all(&self) {
        // A group that is created after this look finds the new fate when it is first posted to.
        let groups: Vec<_> = lock(&self.groups).values().cloned().collect();
        for group in groups {
            group.wake();
        }
        if let Some(emulated) = &self.emulated {
            emulated.wake();
        }
    }
}
