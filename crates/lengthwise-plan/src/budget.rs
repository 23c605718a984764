//! What devices have for sequences.

use lengthwise_core::JointMemory;

use crate::Problem;
use crate::load::Load;

/// The budget where nothing is limited: more than any sum of sequences that need none.
const UNLIMITED: u64 = 1 << 60;

/// What a device, or each of several, has for sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Budget {
    /// Bytes of the device, which limit loads as [`JointMemory`] counts them.
    pub(crate) memory: u64,
    /// Bytes of its host, where the other does not say all.
    pub(crate) host: u64,
}

impl Budget {
    /// More than any sequences need.
    pub(crate) const UNLIMITED: Budget = Budget {
        memory: UNLIMITED,
        host: u64::MAX,
    };

    /// As much as can be told.
    pub(crate) const MOST: Budget = Budget {
        memory: u64::MAX,
        host: u64::MAX,
    };

    /// Whether it is enough for the memory of a load.
    pub(crate) fn holds(self, load: Load) -> bool {
        load.memory <= self.memory && load.host <= self.host
    }

    /// Whether it is enough for all that another is enough for.
    pub(crate) fn covers(self, other: Budget) -> bool {
        other.memory <= self.memory && other.host <= self.host
    }

    /// What one of both has.
    pub(crate) fn most(self, other: Budget) -> Budget {
        Budget {
            memory: self.memory.max(other.memory),
            host: self.host.max(other.host),
        }
    }

    /// What both have.
    pub(crate) fn least(self, other: Budget) -> Budget {
        Budget {
            memory: self.memory.min(other.memory),
            host: self.host.min(other.host),
        }
    }
}

/// The budgets of all devices, node by node and rank by rank.
pub(crate) fn budgets_by_node(problem: Problem<'_>) -> Vec<Vec<Budget>> {
    let (cluster, cost) = (problem.cluster, problem.cost);
    let says_all = JointMemory::of(cost, cluster).says_all();
    let limits_memory = problem.rules.limits_memory();
    let budgets = |node| {
        let ranks = cluster.node_ranks(node).unwrap_or(0..0);
        let devices = &cluster.devices()[ranks.start as usize..ranks.end as usize];
        let budgets = devices.iter().map(|device| match limits_memory {
            true => Budget {
                memory: cost.budget(device).0,
                host: if says_all {
                    u64::MAX
                } else {
                    cost.host_budget(device).0
                },
            },
            false => Budget::UNLIMITED,
        });
        budgets.collect()
    };
    (0..cluster.num_nodes()).map(budgets).collect()
}
