//! Device memory and host memory as one load.

use crate::{Bytes, Cluster, MemoryModel, Strategy, Tokens};

/// The memory of sequences on their devices and on the hosts, as bytes of device memory alone, so that one budget limits both.
///
/// Host memory counts by the device memory that is as large a part of its budget, and of both the larger counts:
///
/// ```text
/// load = max(m, h M / H), rounded up        m, h: bytes on the device and on its host; M, H: their budgets
/// ```
///
/// Sequences of a group whose loads are within the device's budget keep both budgets: sums of maxima are at least the maxima
/// of sums. Where both grow with the length alone, which is all that a strategy moves, the same one is the larger for every
/// length, and the converse holds as well but for the rounding.
///
/// Of unequal devices the least `M / H` counts for all: so the converse holds for each, which is what lower bounds need, but
/// those with less of a host keep its budget only if it is looked at by itself ([`says_all`](Self::says_all)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JointMemory {
    /// Budgets of a device and of its share of the host; `None` where no host is limited.
    budgets: Option<(u64, u64)>,
    says_all: bool,
}

impl JointMemory {
    /// The memory of these devices.
    pub fn of(memory: &(impl MemoryModel + ?Sized), cluster: &Cluster) -> Self {
        let devices = cluster.devices().iter();
        let budgets = devices.map(|device| (memory.budget(device).0, memory.host_budget(device).0));
        let mut budgets: Vec<(u64, u64)> = budgets.collect();
        budgets.dedup();
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        let by_ratio = |a: &&(u64, u64), b: &&(u64, u64)| product(a.0, b.1).cmp(&product(b.0, a.1));
        let is_unlimited = |&&(_, host): &&(u64, u64)| host == u64::MAX;
        // One that has neither holds nothing, whatever the ratio.
        let least = budgets.iter().filter(|&&budgets| budgets != (0, 0));
        let least = least.min_by(by_ratio);
        match least.filter(|_| !budgets.iter().any(|one| is_unlimited(&one))) {
            Some(&least) => JointMemory {
                budgets: Some(least),
                says_all: budgets.iter().all(|one| by_ratio(&one, &&least).is_eq()),
            },
            None => JointMemory {
                budgets: None,
                says_all: budgets.iter().all(|one| is_unlimited(&one)),
            },
        }
    }

    /// Whether loads within the budget of any of the devices keep the one of its host as well.
    pub fn says_all(self) -> bool {
        self.says_all
    }

    /// What a sequence takes of the host of every device of a group with this strategy, where its load does not say all;
    /// nothing elsewhere.
    pub fn host_load(
        self,
        memory: &(impl MemoryModel + ?Sized),
        strategy: Strategy,
        seq_len: Tokens,
    ) -> Bytes {
        match self.says_all {
            true => Bytes(0),
            false => memory.host_memory(strategy, seq_len),
        }
    }

    /// The load of a sequence on every device of a group with this strategy.
    pub fn load(
        self,
        memory: &(impl MemoryModel + ?Sized),
        strategy: Strategy,
        seq_len: Tokens,
    ) -> Bytes {
        let on_device = memory.sequence_memory(strategy, seq_len);
        let on_host = memory.host_memory(strategy, seq_len).0;
        match self.budgets {
            Some((device, host)) if on_host > 0 => {
                let scaled = u128::from(on_host) * u128::from(device);
                let scaled = if host == 0 {
                    u64::MAX
                } else {
                    u64::try_from(scaled.div_ceil(host.into())).unwrap_or(u64::MAX)
                };
                on_device.max(Bytes(scaled))
            }
            _ => on_device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activations, Degree, Device, Speed};

    /// Three bytes a token on the device, and as many as the model says on its host.
    struct PerToken(u64);

    impl MemoryModel for PerToken {
        fn sequence_memory(&self, _: Strategy, seq_len: Tokens) -> Bytes {
            Bytes(3 * seq_len.0)
        }

        fn budget(&self, device: &Device) -> Bytes {
            device.memory()
        }

        fn host_memory(&self, _: Strategy, seq_len: Tokens) -> Bytes {
            Bytes(self.0 * seq_len.0)
        }

        fn host_budget(&self, device: &Device) -> Bytes {
            device.host_memory()
        }
    }

    fn load(on_host: u64, device: Device, tokens: u64) -> u64 {
        let cluster = Cluster::uniform(1, 2, device).unwrap();
        let model = PerToken(on_host);
        let joint = JointMemory::of(&model, &cluster);
        let strategy = Strategy::ulysses(Degree::ONE, Activations::Host);
        joint.load(&model, strategy, Tokens(tokens)).0
    }

    #[test]
    fn the_budget_that_fills_up_first_counts() {
        let device = Device::new(Bytes(100), Speed::NOMINAL);
        assert_eq!(load(7, device, 10), 30);
        let on_host = |bytes| device.with_host_memory(Bytes(bytes));
        assert_eq!(load(7, on_host(1000), 10), 30);
        assert_eq!(load(7, on_host(100), 10), 70);
        assert_eq!(load(7, on_host(99), 10), 71);
        assert_eq!(load(0, on_host(0), 10), 30);
        assert_eq!(load(7, on_host(0), 10), u64::MAX);
    }

    #[test]
    fn of_unequal_devices_no_load_is_more_than_one_of_them_counts() {
        let of = |budgets: &[(u64, u64)]| {
            let devices = budgets.iter().map(|&(memory, host)| {
                Device::new(Bytes(memory), Speed::NOMINAL).with_host_memory(Bytes(host))
            });
            let cluster = Cluster::from_nodes(vec![devices.collect()]).unwrap();
            let model = PerToken(7);
            let joint = JointMemory::of(&model, &cluster);
            let strategy = Strategy::ulysses(Degree::ONE, Activations::Host);
            let load = joint.load(&model, strategy, Tokens(10)).0;
            (load, joint.says_all())
        };
        assert_eq!(of(&[(100, 100), (50, 50)]), (70, true));
        assert_eq!(of(&[(100, 100), (100, 200)]), (35, false));
        assert_eq!(of(&[(100, 200), (100, 0)]), (35, false));
        assert_eq!(of(&[(100, 100), (50, 100)]), (35, false));
        assert_eq!(of(&[(100, 100), (0, 0)]), (70, true));
        assert_eq!(of(&[(0, 0), (0, 0)]), (30, false));
        assert_eq!(of(&[(100, 10), (100, u64::MAX)]), (30, false));
        assert_eq!(of(&[(100, u64::MAX), (50, u64::MAX)]), (30, true));
    }
}
