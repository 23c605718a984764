//! The costs of one kind of strategy in a profile.

use lengthwise_core::limits::BANDWIDTH_BYTES_PER_S;
use lengthwise_core::{Activations, Degree, StrategyKind};
use serde::{Deserialize, Serialize};

use crate::format::{ActivationsName, ExchangeName};
use crate::{HopCosts, HostCosts, KindCosts, PerDegree, ProfileError, RingCosts};

/// The costs of sequences under strategies of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindProfile {
    /// How ranks exchange.
    pub exchange: ExchangeName,
    /// The treatment of activations.
    pub activations: ActivationsName,
    /// Attention: seconds for each square of a sequence's tokens, on one device.
    pub quadratic_s_per_token2: f64,
    /// All else: seconds for each token, on one device.
    pub linear_s_per_token: f64,
    /// Attention of a sequence however short it is: seconds for each, on one device.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub constant_s_per_sequence: f64,
    /// The bytes that all exchanges of a step pass on for each token, over a group's devices together.
    pub exchanged_bytes_per_token: f64,
    /// The bandwidth of each device of a group on one node, by degree.
    #[serde(default)]
    pub one_node_bandwidth_bytes_per_s: PerDegree,
    /// The same for groups on several nodes; where missing, the figures of one node hold.
    #[serde(default)]
    pub many_nodes_bandwidth_bytes_per_s: PerDegree,
    /// The bytes that each token of a sequence adds, over its group's devices together.
    pub memory_bytes_per_token: f64,
    /// The same by degree, where devices hold more than their share.
    #[serde(default, skip_serializing_if = "PerDegree::is_empty")]
    pub memory_bytes_per_token_by_degree: PerDegree,
    /// The bytes that devices were seen to hold for each of their own tokens; the figures above are what they may.
    pub measured_bytes_per_local_token: Option<f64>,
    /// The bytes that they were seen to hold for each sequence.
    pub measured_bytes_per_sequence: Option<f64>,
    /// The hops of key/value blocks, where they go on beside computing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingProfile>,
    /// The copies of layer inputs to host memory and back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostProfile>,
}

/// The hops of key/value blocks, as [`RingCosts`] has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingProfile {
    /// The part of attention's time that is forward, recomputation included.
    pub forward_share: f64,
    /// Seconds of a hop on one node, forward, for each token that a rank holds, by degree.
    #[serde(default)]
    pub one_node_forward_s_per_token: PerDegree,
    /// The same backward.
    #[serde(default)]
    pub one_node_backward_s_per_token: PerDegree,
    /// The same for rings on several nodes, forward; where missing, the figures of one node hold.
    #[serde(default)]
    pub many_nodes_forward_s_per_token: PerDegree,
    /// The same backward.
    #[serde(default)]
    pub many_nodes_backward_s_per_token: PerDegree,
}

impl RingProfile {
    /// The same as a file holds it; hops that take no time are left out.
    pub fn new(costs: &RingCosts) -> Self {
        let table = |hops: &[(Degree, f64)]| {
            PerDegree::new(hops.iter().copied().filter(|&(_, seconds)| seconds > 0.0))
        };
        RingProfile {
            forward_share: costs.forward_share,
            one_node_forward_s_per_token: table(&costs.one_node.forward_s_per_token),
            one_node_backward_s_per_token: table(&costs.one_node.backward_s_per_token),
            many_nodes_forward_s_per_token: table(&costs.many_nodes.forward_s_per_token),
            many_nodes_backward_s_per_token: table(&costs.many_nodes.backward_s_per_token),
        }
    }

    fn costs(&self) -> RingCosts {
        let hops = |forward: &PerDegree, backward: &PerDegree| HopCosts {
            forward_s_per_token: forward.iter().collect(),
            backward_s_per_token: backward.iter().collect(),
        };
        RingCosts {
            forward_share: self.forward_share,
            one_node: hops(
                &self.one_node_forward_s_per_token,
                &self.one_node_backward_s_per_token,
            ),
            many_nodes: hops(
                &self.many_nodes_forward_s_per_token,
                &self.many_nodes_backward_s_per_token,
            ),
        }
    }
}

/// The copies of layer inputs to host memory and back, as [`HostCosts`] has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostProfile {
    /// The part of the time that is the first forward.
    pub forward_share: f64,
    /// Seconds of copies one way, for each token that a rank holds.
    pub copy_s_per_token: f64,
    /// Bytes of host memory for each token that a rank holds.
    pub bytes_per_token: f64,
}

impl From<HostCosts> for HostProfile {
    fn from(costs: HostCosts) -> Self {
        HostProfile {
            forward_share: costs.forward_share,
            copy_s_per_token: costs.copy_s_per_token,
            bytes_per_token: costs.bytes_per_token,
        }
    }
}

impl From<HostProfile> for HostCosts {
    fn from(profile: HostProfile) -> Self {
        HostCosts {
            forward_share: profile.forward_share,
            copy_s_per_token: profile.copy_s_per_token,
            bytes_per_token: profile.bytes_per_token,
        }
    }
}

impl KindProfile {
    /// Strategies of this kind that cost nothing, to be filled in.
    pub fn new(kind: StrategyKind) -> Self {
        KindProfile {
            exchange: ExchangeName(kind.exchange),
            activations: ActivationsName(kind.activations),
            quadratic_s_per_token2: 0.0,
            linear_s_per_token: 0.0,
            constant_s_per_sequence: 0.0,
            exchanged_bytes_per_token: 0.0,
            one_node_bandwidth_bytes_per_s: PerDegree::default(),
            many_nodes_bandwidth_bytes_per_s: PerDegree::default(),
            memory_bytes_per_token: 0.0,
            memory_bytes_per_token_by_degree: PerDegree::default(),
            measured_bytes_per_local_token: None,
            measured_bytes_per_sequence: None,
            ring: None,
            host: None,
        }
    }

    /// The kind of the strategies that cost this.
    pub fn kind(&self) -> StrategyKind {
        StrategyKind {
            exchange: self.exchange.0,
            activations: self.activations.0,
        }
    }

    pub(super) fn check_figures(&self) -> Result<(), ProfileError> {
        if self.activations.0 == Activations::Host && self.host.is_none() {
            return Err(ProfileError::HostActivations);
        }
        for (key, value) in [
            ("quadratic_s_per_token2", self.quadratic_s_per_token2),
            ("linear_s_per_token", self.linear_s_per_token),
            ("constant_s_per_sequence", self.constant_s_per_sequence),
            ("exchanged_bytes_per_token", self.exchanged_bytes_per_token),
            ("memory_bytes_per_token", self.memory_bytes_per_token),
        ] {
            super::check_figure(key, value)?;
        }
        for (key, table) in [
            (
                "one_node_bandwidth_bytes_per_s",
                &self.one_node_bandwidth_bytes_per_s,
            ),
            (
                "many_nodes_bandwidth_bytes_per_s",
                &self.many_nodes_bandwidth_bytes_per_s,
            ),
        ] {
            let slow = table
                .iter()
                .find(|&(_, value)| value < BANDWIDTH_BYTES_PER_S);
            if let Some((degree, value)) = slow {
                let degree = degree.get();
                return Err(ProfileError::SlowExchange { key, degree, value });
            }
        }
        Ok(())
    }

    /// Whether groups exchange nothing, or it has some figure of how fast they do.
    pub(super) fn knows_exchanges(&self) -> bool {
        let tables = [
            &self.one_node_bandwidth_bytes_per_s,
            &self.many_nodes_bandwidth_bytes_per_s,
        ];
        self.exchanged_bytes_per_token == 0.0 || tables.iter().any(|table| !table.is_empty())
    }

    /// Checks that groups of these degrees that exchange are known to take time for it.
    ///
    /// # Errors
    ///
    /// The degree that is missing.
    pub(super) fn check_degrees(
        &self,
        degrees: impl Iterator<Item = Degree>,
        was_measured: bool,
    ) -> Result<(), ProfileError> {
        let tables = [
            &self.one_node_bandwidth_bytes_per_s,
            &self.many_nodes_bandwidth_bytes_per_s,
        ];
        let missing = |degree: Degree, rule| ProfileError::MissingDegree {
            key: "one_node_bandwidth_bytes_per_s",
            degree: degree.get(),
            rule,
        };
        let mut above_one = degrees.filter(|&degree| degree > Degree::ONE).peekable();
        let Some(&smallest) = above_one.peek() else {
            return Ok(());
        };
        if !self.knows_exchanges() {
            let rule = "nor for any other; groups of more than one device exchange";
            return Err(missing(smallest, rule));
        }
        let largest = above_one.last().unwrap_or(smallest);
        let has = |degree| {
            let mut entries = tables.iter().flat_map(|table| table.iter());
            entries.any(|(of, _)| of == degree)
        };
        match [smallest, largest].into_iter().find(|&degree| !has(degree)) {
            Some(degree) if was_measured => Err(missing(
                degree,
                "the smallest or largest that exchanges; those between follow from them",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn costs(&self) -> KindCosts {
        let exchange = |bandwidths: &PerDegree| {
            let entries = bandwidths.iter().map(|(degree, bandwidth)| {
                let group_bandwidth = bandwidth * f64::from(degree.get());
                (degree, self.exchanged_bytes_per_token / group_bandwidth)
            });
            entries.collect()
        };
        let by_degree = self.memory_bytes_per_token_by_degree.iter();
        let mut memory_bytes_per_token: Vec<_> = by_degree
            .map(|(degree, bytes)| (degree, bytes / f64::from(degree.get())))
            .collect();
        if memory_bytes_per_token.is_empty() {
            memory_bytes_per_token = vec![(Degree::ONE, self.memory_bytes_per_token)];
        }
        KindCosts {
            quadratic_s_per_token2: self.quadratic_s_per_token2,
            linear_s_per_token: self.linear_s_per_token,
            constant_s_per_sequence: self.constant_s_per_sequence,
            exchange_s_per_token: exchange(&self.one_node_bandwidth_bytes_per_s),
            many_nodes_exchange_s_per_token: exchange(&self.many_nodes_bandwidth_bytes_per_s),
            memory_bytes_per_token,
            ring: self.ring.as_ref().map(RingProfile::costs),
            host: self.host.map(HostCosts::from),
        }
    }
}

fn is_zero(figure: &f64) -> bool {
    *figure == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degrees(degrees: &[u32]) -> Vec<Degree> {
        let degrees = degrees.iter().map(|&degree| Degree::new(degree));
        degrees.collect::<Result<_, _>>().unwrap()
    }

    /// A profile whose exchanges were measured at these degrees of one node and of many.
    fn profile(near: &[u32], far: &[u32]) -> KindProfile {
        let table = |listed: &[u32]| {
            PerDegree::new(degrees(listed).into_iter().map(|degree| (degree, 1e9)))
        };
        KindProfile {
            exchanged_bytes_per_token: 1e3,
            one_node_bandwidth_bytes_per_s: table(near),
            many_nodes_bandwidth_bytes_per_s: table(far),
            ..KindProfile::new(StrategyKind::ulysses(Activations::Recompute))
        }
    }

    /// The degree that is said to be missing.
    fn missing(profile: &KindProfile, checked: &[u32], was_measured: bool) -> Option<u32> {
        match profile.check_degrees(degrees(checked).into_iter(), was_measured) {
            Ok(()) => None,
            Err(ProfileError::MissingDegree { degree, .. }) => Some(degree),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_smallest_and_the_largest_degree_that_exchange_have_to_be_measured() {
        for (near, far, checked, expected) in [
            (&[2, 8][..], &[][..], &[1, 2, 4, 8][..], None),
            (&[2], &[8], &[1, 2, 4, 8], None),
            (&[], &[2, 8], &[2, 4, 8], None),
            (&[4, 8], &[], &[1, 2, 4, 8], Some(2)),
            (&[2, 4], &[], &[1, 2, 4, 8], Some(8)),
            (&[2, 4], &[16], &[1, 2, 4, 8], Some(8)),
            (&[2], &[], &[1, 2], None),
            (&[4], &[], &[2], Some(2)),
            // Ranks on their own exchange nothing.
            (&[], &[], &[1], None),
        ] {
            let profile = profile(near, far);
            assert_eq!(
                missing(&profile, checked, true),
                expected,
                "{near:?}, {far:?}"
            );
        }
    }

    #[test]
    fn degrees_follow_from_any_that_is_listed_unless_they_were_measured() {
        assert_eq!(missing(&profile(&[4], &[]), &[1, 2, 8], false), None);
        assert_eq!(missing(&profile(&[], &[4]), &[1, 2, 8], false), None);
        assert_eq!(missing(&profile(&[], &[]), &[1, 2, 8], false), Some(2));
        let nothing = KindProfile {
            exchanged_bytes_per_token: 0.0,
            ..profile(&[], &[])
        };
        assert_eq!(missing(&nothing, &[1, 2, 8], false), None);
        assert_eq!(missing(&nothing, &[1, 2, 8], true), Some(2));
    }

    #[test]
    fn links_slower_than_any_are_refused() {
        let mut profile = profile(&[2], &[4]);
        assert!(profile.check_figures().is_ok());
        let slow = |bandwidth| PerDegree::new(degrees(&[4]).into_iter().map(|d| (d, bandwidth)));
        profile.many_nodes_bandwidth_bytes_per_s = slow(BANDWIDTH_BYTES_PER_S);
        assert!(profile.check_figures().is_ok());
        profile.many_nodes_bandwidth_bytes_per_s = slow(BANDWIDTH_BYTES_PER_S * 0.99);
        let error = profile.check_figures().unwrap_err();
        assert!(
            matches!(error, ProfileError::SlowExchange { degree: 4, .. }),
            "{error}"
        );
    }

    #[test]
    fn exchanges_take_what_is_passed_on_over_all_devices_of_the_group() {
        let costs = profile(&[2, 8], &[4]).costs();
        let [two, four, eight] = [2, 4, 8].map(|degree| Degree::new(degree).unwrap());
        // 1,000 bytes at 1e9 bytes a second for each device.
        let close = |listed: &[(Degree, f64)], expected: &[(Degree, f64)]| {
            assert_eq!(listed.len(), expected.len());
            for (listed, expected) in listed.iter().zip(expected) {
                assert_eq!(listed.0, expected.0);
                assert!((listed.1 / expected.1 - 1.0).abs() < 1e-12);
            }
        };
        close(
            &costs.exchange_s_per_token,
            &[(two, 5e-7), (eight, 1.25e-7)],
        );
        close(&costs.many_nodes_exchange_s_per_token, &[(four, 2.5e-7)]);
    }
}
