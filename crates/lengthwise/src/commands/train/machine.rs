//! Whether what all ranks hold together fits the machine whose threads they are.

use std::fs;

use lengthwise_core::words::counted;
use lengthwise_core::{Bytes, Degree, Strategy};
use lengthwise_train::checkpoint::SaveOptions;
use lengthwise_train::{ModelSpec, TrainOptions, memory};

/// The model's own share of every device, and of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelMemory {
    num_parameters: usize,
    num_ranks: usize,
    of_rank: Bytes,
    of_all: Bytes,
    of_token: Bytes,
    /// The copy that is written while training goes on.
    of_copy: Bytes,
}

impl ModelMemory {
    /// That of a run.
    pub fn of(options: &TrainOptions) -> Self {
        let model = &options.model;
        let num_ranks = options.cluster.num_devices() as usize;
        let of_rank = memory::fixed_bytes(model, num_ranks);
        let alone = Strategy::ulysses(Degree::ONE, options.activations);
        let of_token = memory::bytes_per_token(model, alone);
        let num_parameters = ModelSpec::new(model).num_parameters();
        let save = options.persistence.save.as_ref();
        let of_copy = match save.is_some_and(|save| save.is_async) {
            true => SaveOptions::BYTES_OF_PARAMETER.saturating_mul(num_parameters as u64),
            false => 0,
        };
        let bytes = |bytes| Bytes::from_f64_ceil(bytes).unwrap_or(Bytes(u64::MAX));
        ModelMemory {
            num_parameters,
            num_ranks,
            of_rank: bytes(of_rank),
            of_all: bytes(of_rank * num_ranks as f64),
            of_token: bytes(of_token),
            of_copy: Bytes(of_copy),
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
        let machine = machine?;
        let ranks = counted(self.num_ranks, "rank");
        let saved = Bytes(self.of_all.0.saturating_add(self.of_copy.0));
        if machine < self.of_all {
            Some(format!(
                "the model takes {} on {ranks} together, and this machine has {machine}; use fewer ranks, or a smaller \
                 model",
                self.of_all,
            ))
        } else if machine < saved {
            Some(format!(
                "the model takes {saved} on {ranks} together while it is saved, {} of that for the copy that is written \
                 meanwhile, and this machine has {machine}; checkpoint.async = false needs no copy",
                self.of_copy,
            ))
        } else {
            None
        }
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
            of_copy: Bytes::from_mib(12),
        };
        assert_eq!(
            of_two.note(),
            "model      1000000 parameters: 600.00 MiB on each of 2 ranks, 1.17 GiB in all, and 3.00 KiB a token of a \
             micro-batch"
        );
        assert_eq!(of_two.warning(None), None);
        assert_eq!(of_two.warning(Some(Bytes::from_mib(1212))), None);
        assert_eq!(
            of_two.warning(Some(Bytes::from_mib(1200))).as_deref(),
            Some(
                "the model takes 1.18 GiB on 2 ranks together while it is saved, 12.00 MiB of that for the copy that is \
                 written meanwhile, and this machine has 1.17 GiB; checkpoint.async = false needs no copy"
            )
        );
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
