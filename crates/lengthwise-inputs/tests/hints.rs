//! Hints that help: what is advised where a batch has no plan is tried.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

use lengthwise_core::{Degree, Tokens};
use lengthwise_inputs::{CostChanges, CostSource, Lengths, OwnedProblem};
use lengthwise_plan::{PlannerKind, PlannerOptions};

/// Some devices of 1 GiB, of which each token takes 20000 bytes: room for some 53000 tokens each.
fn profile(num_devices: u32, num_heads: u32) -> String {
    format!(
        r#"
version = 1
name = "tiny"
context_tokens = 10000000

[cluster]
num_devices = {num_devices}
devices_per_node = 8
memory_gib = 1.0

[model]
num_heads = {num_heads}
sharded_bytes = 1e8

[overhead]
micro_batch_s = 0.01

[[costs]]
exchange = "ulysses"
activations = "recompute"
quadratic_s_per_token2 = 1e-9
linear_s_per_token = 1e-6
exchanged_bytes_per_token = 65536
one_node_bandwidth_bytes_per_s = {{ 2 = 8e9, {num_heads} = 6e9 }}
memory_bytes_per_token = 20000
"#
    )
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    profile: Option<(u32, u32)>,
    on_cluster: Option<&'a str>,
    seq_len: u64,
    planner: &'a str,
    degrees: &'a [u32],
    max_communicators: Option<u32>,
}

const ASKED: Asked<'_> = Asked {
    profile: Some((4, 64)),
    on_cluster: None,
    seq_len: 300_000,
    planner: "adaptive",
    degrees: &[],
    max_communicators: None,
};

impl Asked<'_> {
    /// Whether there is a plan, or the hint of the error, with another number of devices or other degrees.
    fn tried(&self, num_devices: Option<u32>, degrees: &[u32]) -> Result<(), String> {
        let source = match (self.profile, self.on_cluster) {
            (Some((devices, heads)), None) => {
                CostSource::profile_text("tiny", &profile(devices, heads)).unwrap()
            }
            (Some((devices, heads)), Some(cluster)) => {
                let file = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(file.path(), profile(devices, heads)).unwrap();
                CostSource::profile_on_cluster(file.path(), cluster).unwrap()
            }
            (None, cluster) => {
                CostSource::described(cluster.unwrap_or("h100-1x8"), "llama-3.1-8b").unwrap()
            }
        };
        let changes = CostChanges {
            num_devices,
            context: Some(Tokens(10_000_000)),
            ..CostChanges::default()
        };
        let degrees: Vec<Degree> = degrees.iter().map(|&d| Degree::new(d).unwrap()).collect();
        let chosen = (!degrees.is_empty()).then_some(degrees.as_slice());
        let costs = source.costs(changes, chosen).unwrap();
        let lengths = Lengths::drawn(vec![Tokens(self.seq_len)], "lengths");
        let problem = OwnedProblem::new(costs, lengths).unwrap();
        let mut options = PlannerOptions::default();
        if let Some(most) = self.max_communicators {
            options = options.with_max_communicators(most);
        }
        let kind: PlannerKind = self.planner.parse().unwrap();
        let planned = problem.plan(kind.planner_with(options).as_ref());
        planned
            .map(|_| ())
            .map_err(|error| error.hint().unwrap_or_default())
    }

    /// The hint where there is no plan.
    fn hint(&self) -> String {
        self.tried(None, self.degrees).unwrap_err()
    }
}

/// The number behind a word.
fn number_behind(hint: &str, words: &str) -> Option<u32> {
    let (_, rest) = hint.split_once(words)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[test]
fn what_is_advised_makes_a_plan_and_less_of_it_does_not() {
    for asked in [
        // Too few devices; with as many heads as ranks, and with fewer.
        ASKED,
        Asked {
            seq_len: 3_000_000,
            ..ASKED
        },
        Asked {
            profile: Some((4, 4)),
            ..ASKED
        },
        Asked {
            profile: Some((4, 4)),
            seq_len: 5_000_000,
            ..ASKED
        },
        // Degrees, a planner or a bound that leaves the devices' memory unused.
        Asked {
            seq_len: 150_000,
            degrees: &[1, 2],
            ..ASKED
        },
        Asked {
            seq_len: 150_000,
            planner: "static:2",
            ..ASKED
        },
        Asked {
            seq_len: 150_000,
            max_communicators: Some(1),
            ..ASKED
        },
        Asked {
            profile: Some((4, 4)),
            seq_len: 150_000,
            degrees: &[1],
            ..ASKED
        },
        Asked {
            seq_len: 300_000,
            degrees: &[1, 2],
            ..ASKED
        },
        // The memory of the cluster, not of the profile.
        Asked {
            on_cluster: Some("h100-1x8"),
            seq_len: 8_000_000,
            degrees: &[1],
            ..ASKED
        },
        Asked {
            profile: Some((512, 8)),
            on_cluster: Some("h100-1x2"),
            seq_len: 9_000_000,
            ..ASKED
        },
        // A described model.
        Asked {
            profile: None,
            on_cluster: Some("h100-1x8"),
            seq_len: 3_000_000,
            ..ASKED
        },
        Asked {
            profile: None,
            on_cluster: Some("h100-1x8"),
            seq_len: 9_000_000,
            ..ASKED
        },
        Asked {
            profile: None,
            on_cluster: Some("h100-1x1"),
            seq_len: 10,
            ..ASKED
        },
    ] {
        if asked.tried(None, asked.degrees).is_ok() {
            continue;
        }
        let hint = asked.hint();
        assert!(!hint.contains("larger degrees"), "{hint}");
        if let Some(enough) = number_behind(&hint, "use ") {
            assert_eq!(asked.tried(Some(enough), asked.degrees), Ok(()), "{hint}");
            assert!(
                asked.tried(Some(enough - 1), asked.degrees).is_err(),
                "{hint}"
            );
        }
        if let Some(degree) = number_behind(&hint, "let groups have degree ") {
            let free = Asked {
                planner: "adaptive",
                max_communicators: None,
                ..asked
            };
            let mut degrees = asked.degrees.to_vec();
            degrees.push(degree);
            assert_eq!(free.tried(None, &degrees), Ok(()), "{hint}");
        }
    }
}

#[test]
fn hints_name_what_is_at_fault() {
    // Heads forbid a larger degree, whatever the number of devices.
    let of_heads = Asked {
        profile: Some((64, 4)),
        ..ASKED
    }
    .hint();
    assert_eq!(
        of_heads,
        "use devices with more memory, or split longer sequences"
    );
    let of_devices = ASKED.hint();
    assert!(
        of_devices.starts_with("use 6 devices or more, "),
        "{of_devices}"
    );
    for asked in [
        Asked {
            profile: Some((4, 4)),
            seq_len: 150_000,
            degrees: &[1, 2],
            ..ASKED
        },
        Asked {
            profile: Some((4, 4)),
            seq_len: 150_000,
            planner: "static:2",
            ..ASKED
        },
    ] {
        let hint = asked.hint();
        assert!(hint.starts_with("let groups have degree 3: "), "{hint}");
    }
}
