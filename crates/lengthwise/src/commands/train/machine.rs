//! Whether what all ranks hold together fits the machine whose threads they are.

use std::fs;

use lengthwise_core::words::counted;
use lengthwise_core::{Bytes, Degree, Strategy};
use lengthwise_train::{ModelSpec, TrainOptions, memory};

/// The model's own share of every device, and of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelMemory {
    num_parameters: usize,
    num_ranks: usize,
    of_rank: Bytes,
    of_all: Bytes,
    of_token: Bytes,
}

impl ModelMemory {
    /// That of a run.
    pub fn of(options: &TrainOptions) -> Self {
        let model = &options.model;
        let num_ranks = options.cluster.num_devices() as usize;
        let of_rank = memory::fixed_bytes(model, num_ranks);
        let alone = Strategy::ulysses(Degree::ONE, options.activations);
        let of_token = memory::bytes_per_token(model, alone);
        let bytes = |bytes| Bytes::from_f64_ceil(bytes).unwrap_or(Bytes(u64::MAX));
        ModelMemory {
            num_parameters: ModelSpec::new(model).num_parameters(),
            num_ranks,
            of_rank: bytes(of_rank),
            of_all: bytes(of_rank * num_ranks as f64),
            of_token: bytes(of_token),
        }
    }

    /// What is said of it before a run.
    pub fn note(&self) -> String {
        let of_all = match self.num_ranks {
            1 => String::new(),
            num_ranks => format!(" on each of {num_ranks} ranks, {} in all", self.of_all),
        };
        format!(
            "model      {}: {}{of_all}, and {} a token of a micro-batch",
            counted(self.num_parameters, "parameter"),
            self.of_rank,
            self.of_token,
        )
    }

    /// What is probably not as the user wants it, on a machine with so much memory.
    pub fn warning(&self, machine: Option<Bytes>) -> Option<String> {
        let machine = machine.filter(|&machine| machine < self.of_all)?;
        Some(format!(
            "the model takes {} on {} together, and this machine has {machine}; use fewer ranks, or a smaller model",
            self.of_all,
            counted(self.num_ranks, "rank"),
        ))
    }
}

/// The memory of this machine, where it says so.
pub fn machine_memory() -> Option<Bytes> {
    total(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn total(meminfo: &str) -> Option<Bytes> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exceeds_the_machine_is_worth_a_word() {
        let of_two = ModelMemory {
            num_parameters: 1_000_000,
            num_ranks: 2,
            of_rank: Bytes::from_mib(600),
            of_all: Bytes::from_mib(1200),
            of_token: Bytes(3072),
        };
        assert_eq!(
            of_two.note(),
            "model      1000000 parameters: 600.00 MiB on each of 2 ranks, 1.17 GiB in all, and 3.00 KiB a token of a \
             micro-batch"
        );
        assert_eq!(of_two.warning(None), None);
        assert_eq!(of_two.warning(Some(Bytes::from_mib(1200))), None);
        assert_eq!(
            of_two.warning(Some(Bytes::from_mib(1024))).as_deref(),
            Some(
                "the model takes 1.17 GiB on 2 ranks together, and this machine has 1.00 GiB; use fewer ranks, or a \
                 smaller model"
            )
        );
        let of_one = ModelMemory {
            num_ranks: 1,
            of_all: of_two.of_rank,
            ..of_two
        };
        assert!(!of_one.note().contains("in all"));
    }

    #[test]
    fn the_memory_of_linux_is_read_in_kib() {
        let meminfo = "MemTotal:       24689764 kB\nMemFree:         1234 kB\n";
        assert_eq!(total(meminfo), Some(Bytes(24_689_764 * 1024)));
        assert_eq!(total("MemFree: 12 kB\n"), None);
        assert_eq!(total("MemTotal: many kB\n"), None);
    }
}
