//! The time of passing key/value blocks around a ring.

use lengthwise_core::{Degree, Strategy};

use crate::degree_table::DegreeTable;
use crate::fitted_costs::{check_coefficient, check_table};
use crate::{CostError, Span};

/// The time of passing key/value blocks around a ring, beyond the attention that it hides behind.
///
/// A ring of `r` places computes a pass in `r` steps. In each but the last, a place sends on the block that it attends
/// to and receives the next; a step ends with the longer of both (Ring Attention, arXiv 2310.01889, section 3). The
/// causal mask leaves every step the same work where each place holds one stretch of a sequence's first half and the
/// mirrored one of its second half (zigzag: the load balancing of Megatron's and Transformer Engine's context
/// parallelism). For a group of degree `d` and a sequence of `s` tokens, of which each rank holds `s / d`:
///
/// ```text
/// pass    = compute / r + (r - 1) max(compute / r, hop)
/// compute = share of the pass x quadratic s^2 imbalance / d         hop = (seconds per token of the pass) s / d
/// ```
///
/// There are two passes, over all layers at once: the forward, recomputation included, which sends keys and values; and
/// the backward, which sends their gradients as well. Not counted, as they are not for other exchanges: the latency of
/// hops, which sequences packed together pay once; merging the outputs of steps; and what kernels lose on the smaller
/// blocks. So these are the least that rings take: where all hops hide they cost nothing here, while 29 to 32 % more than
/// computing were published for 64k tokens on one node of eight H200s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RingCosts {
    /// The part of attention's time that is forward, recomputation included; the rest is backward.
    pub forward_share: f64,
    /// Hops between places on one node.
    pub one_node: HopCosts,
    /// Hops of rings on several nodes: those of the slowest, which all wait for. Where empty, the figures of one node hold.
    pub many_nodes: HopCosts,
}

/// Seconds of one hop in every layer, for each token that a rank holds, by the group's degree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HopCosts {
    /// Of the forward, and of the one that is recomputed.
    pub forward_s_per_token: Vec<(Degree, f64)>,
    /// Of the backward.
    pub backward_s_per_token: Vec<(Degree, f64)>,
}

impl RingCosts {
    pub(crate) fn check(&self) -> Result<(), CostError> {
        check_coefficient("ring.forward_share", self.forward_share)?;
        check_coefficient("1 - ring.forward_share", 1.0 - self.forward_share)?;
        for hops in [&self.one_node, &self.many_nodes] {
            check_table("ring.forward_s_per_token", &hops.forward_s_per_token)?;
            check_table("ring.backward_s_per_token", &hops.backward_s_per_token)?;
        }
        Ok(())
    }
}

/// The same at every degree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RingModel {
    forward_share: f64,
    one_node: HopModel,
    many_nodes: HopModel,
}

#[derive(Clone, Debug, PartialEq)]
struct HopModel {
    forward: DegreeTable,
    backward: DegreeTable,
}

impl RingModel {
    pub(crate) fn new(costs: &RingCosts) -> Self {
        let table = |figures: &[(Degree, f64)]| DegreeTable::new(figures.iter().copied());
        let hops = |forward: &HopCosts, backward: &HopCosts| HopModel {
            forward: table(&forward.forward_s_per_token),
            backward: table(&backward.backward_s_per_token),
        };
        let RingCosts {
            one_node,
            many_nodes,
            ..
        } = costs;
        let (of_forward, of_backward) = (
            many_nodes.forward_s_per_token.is_empty(),
            many_nodes.backward_s_per_token.is_empty(),
        );
        RingModel {
            forward_share: costs.forward_share,
            one_node: hops(one_node, one_node),
            many_nodes: hops(
                if of_forward { one_node } else { many_nodes },
                if of_backward { one_node } else { many_nodes },
            ),
        }
    }

    /// Seconds of attention and of the hops that it does not hide, where attention alone takes a rank `attention_s`.
    ///
    /// Written so that it does not fall with either, not even by rounding: planners rest on that.
    pub(crate) fn attention_s(&self, attention_s: f64, held: HeldTokens) -> f64 {
        let hops = match held.span {
            Span::OneNode => &self.one_node,
            Span::ManyNodes => &self.many_nodes,
        };
        let places = f64::from(held.places.get());
        let pass = |share: f64, hops: &DegreeTable| {
            let step = share * attention_s / places;
            let hop = hops.at(held.degree).unwrap_or(0.0) * held.tokens;
            step + (places - 1.0) * step.max(hop)
        };
        pass(self.forward_share, &hops.forward) + pass(1.0 - self.forward_share, &hops.backward)
    }

    /// The same as a part of attention's time and seconds that hops add, as long as the same passes are bound by hops.
    pub(crate) fn linear_s(&self, attention_s: f64, held: HeldTokens) -> (f64, f64) {
        let hops = match held.span {
            Span::OneNode => &self.one_node,
            Span::ManyNodes => &self.many_nodes,
        };
        let places = f64::from(held.places.get());
        let pass = |share: f64, hops: &DegreeTable| {
            let hop = hops.at(held.degree).unwrap_or(0.0) * held.tokens;
            if share * attention_s / places < hop {
                (share / places, (places - 1.0) * hop)
            } else {
                (share, 0.0)
            }
        };
        let forward = pass(self.forward_share, &hops.forward);
        let backward = pass(1.0 - self.forward_share, &hops.backward);
        (forward.0 + backward.0, forward.1 + backward.1)
    }
}

/// The tokens that each rank of a ring holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldTokens {
    pub(crate) tokens: f64,
    pub(crate) degree: Degree,
    /// Of the ring.
    pub(crate) places: Degree,
    pub(crate) span: Span,
}

impl HeldTokens {
    /// So many tokens on each rank of a group.
    pub(crate) fn new(strategy: Strategy, span: Span, tokens: f64) -> Self {
        HeldTokens {
            tokens,
            degree: strategy.degree(),
            places: strategy.ring_degree(),
            span,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn degree(degree: u32) -> Degree {
        Degree::new(degree).unwrap()
    }

    fn costs() -> RingCosts {
        RingCosts {
            forward_share: 0.25,
            one_node: HopCosts {
                forward_s_per_token: vec![(degree(2), 1.0)],
                backward_s_per_token: vec![(degree(2), 2.0)],
            },
            many_nodes: HopCosts::default(),
        }
    }

    fn time(attention_s: f64, tokens: f64, span: Span) -> f64 {
        let held = HeldTokens {
            tokens,
            degree: degree(4),
            places: degree(4),
            span,
        };
        RingModel::new(&costs()).attention_s(attention_s, held)
    }

    #[test]
    fn each_step_takes_the_longer_of_computing_and_sending() {
        // Steps of 4 and 12 s; hops of 3 and 6 s hide, of 5 and 10 s one of them.
        assert_eq!(time(64.0, 3.0, Span::OneNode), 64.0);
        assert_eq!(time(64.0, 5.0, Span::OneNode), 4.0 + 3.0 * 5.0 + 48.0);
        assert_eq!(time(0.0, 5.0, Span::OneNode), 3.0 * (5.0 + 10.0));
        assert_eq!(
            time(64.0, 5.0, Span::ManyNodes),
            time(64.0, 5.0, Span::OneNode)
        );
    }

    #[test]
    fn where_the_same_passes_are_bound_the_time_is_linear() {
        let model = RingModel::new(&costs());
        for (attention_s, tokens) in [(64.0, 3.0), (64.0, 5.0), (0.0, 5.0), (64.0, 50.0)] {
            let held = HeldTokens {
                tokens,
                degree: degree(4),
                places: degree(4),
                span: Span::OneNode,
            };
            let (share, hops) = model.linear_s(attention_s, held);
            assert_eq!(
                share * attention_s + hops,
                model.attention_s(attention_s, held)
            );
        }
    }

    #[test]
    fn shares_above_all_and_bad_hops_are_refused_by_name() {
        let told = |costs: RingCosts| costs.check().unwrap_err().to_string();
        let mut more_than_all = costs();
        more_than_all.forward_share = 1.5;
        assert_eq!(
            told(more_than_all),
            "1 - ring.forward_share is -0.5; it must be finite and not negative"
        );
        let mut negative = costs();
        negative.one_node.backward_s_per_token[0].1 = -2.0;
        assert_eq!(
            told(negative),
            "ring.backward_s_per_token of degree 2 is -2; it must be finite and not negative"
        );
    }
}
