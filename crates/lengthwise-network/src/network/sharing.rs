//! How the flows on links share them.

use super::{EQUAL, Network, Scratch};

impl<T: Copy> Network<T> {
    /// Progressive filling over the collected flows and links.
    pub(super) fn share_out(&mut self, scratch: &mut Scratch) {
        for &link in &scratch.links {
            let link = &mut self.links[link as usize];
            link.left = link.capacity;
            link.open = link.flows.len() as u32;
            link.open_weight = link.flows.iter().map(|&(_, weight)| weight).sum();
        }
        for &slot in &scratch.flows {
            if let Some(flow) = &mut self.flows[slot as usize] {
                flow.is_settled = false;
            }
        }
        scratch.open.clone_from(&scratch.flows);
        scratch.full.clone_from(&scratch.links);
        let mut level: f64 = 0.0;
        while !scratch.open.is_empty() {
            scratch.now_settled.clear();
            let of_links = scratch.full.iter().map(|&link| self.fair_level(link));
            // Rounding must not lower a level: what is left above zero stays above it.
            level = level.max(of_links.fold(f64::INFINITY, f64::min));
            if level == f64::INFINITY {
                // What crosses no link takes no time.
                scratch.now_settled.clone_from(&scratch.open);
            }
            let reached = level * (1.0 + EQUAL);
            for &link in &scratch.full {
                if self.fair_level(link) <= reached {
                    let flows = self.links[link as usize].flows.iter();
                    scratch.now_settled.extend(flows.map(|&(slot, _)| slot));
                }
            }
            for index in 0..scratch.now_settled.len() {
                self.settle_flow(scratch.now_settled[index], level);
            }
            let flows = &self.flows;
            let is_open = |slot: &u32| {
                flows[*slot as usize]
                    .as_ref()
                    .is_some_and(|f| !f.is_settled)
            };
            scratch.open.retain(is_open);
            let links = &self.links;
            scratch.full.retain(|&link| links[link as usize].open > 0);
        }
    }

    /// The rate at which the flows of a link that still have none would fill it.
    fn fair_level(&self, link: u32) -> f64 {
        let link = &self.links[link as usize];
        if link.open == 0 {
            f64::INFINITY
        } else {
            link.left.max(0.0) / link.open_weight
        }
    }

    fn settle_flow(&mut self, slot: u32, level: f64) {
        let Some(flow) = &mut self.flows[slot as usize] else {
            return;
        };
        if std::mem::replace(&mut flow.is_settled, true) {
            return;
        }
        flow.rate = level;
        for &(link, weight) in &self.routes[flow.spec.route.0 as usize] {
            let link = &mut self.links[link.0 as usize];
            link.left -= weight * level;
            link.open_weight -= weight;
            link.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    fn ends(network: &mut Network<u32>, now: f64) -> Vec<(u32, f64)> {
        let mut ends = Vec::new();
        network.settle(now, |end, at| ends.push((end.slot, at)));
        ends
    }

    fn spec(volume: f64, route: RouteId) -> FlowSpec {
        FlowSpec { volume, route }
    }

    #[test]
    fn what_a_flow_can_not_use_goes_to_the_others() {
        let mut network = Network::new();
        let (wide, narrow) = (network.add_link(10.0), network.add_link(2.0));
        let both = network.add_route(vec![(wide, 1.0), (narrow, 1.0)]);
        let one = network.add_route(vec![(wide, 1.0)]);
        network.begin(0.0, spec(20.0, both), 0);
        network.begin(0.0, spec(20.0, one), 1);
        network.begin(0.0, spec(20.0, one), 2);
        // 2 for the first, which the narrow link holds back, 4 for each of the others.
        assert_eq!(ends(&mut network, 0.0), [(0, 10.0), (1, 5.0), (2, 5.0)]);
        assert_eq!((network.peak(wide), network.peak(narrow)), (10.0, 2.0));
    }

    #[test]
    fn a_weight_counts_as_so_many_flows_of_one_rate() {
        let mut network = Network::new();
        let link = network.add_link(12.0);
        let wide = network.add_route(vec![(link, 3.0)]);
        let narrow = network.add_route(vec![(link, 1.0)]);
        network.begin(0.0, spec(6.0, wide), 0);
        network.begin(0.0, spec(6.0, narrow), 1);
        assert_eq!(ends(&mut network, 0.0), [(0, 2.0), (1, 2.0)]);
    }

    proptest::proptest! {
        /// Max-min fairness: no link is above its capacity, and every flow is held back by a full link.
        #[test]
        fn every_flow_has_a_reason_for_not_being_faster(
            capacities in proptest::collection::vec(0.1f64..100.0, 1..6),
            flows in proptest::collection::vec(
                proptest::collection::vec(proptest::option::of(0.01f64..8.0), 6), 1..12),
        ) {
            let mut network = Network::new();
            let links: Vec<LinkId> = capacities.iter().map(|&capacity| network.add_link(capacity)).collect();
            for (owner, weights) in flows.iter().enumerate() {
                let route = links.iter().zip(weights).filter_map(|(&link, weight)| Some((link, (*weight)?))).collect();
                let route = network.add_route(route);
                network.begin(0.0, spec(1.0, route), owner);
            }
            network.settle(0.0, |_, _| ());
            for &link in &links {
                proptest::prop_assert!(network.load(link.0) <= network.capacity(link) * (1.0 + 1e-9));
            }
            for flow in network.flows.iter().flatten() {
                let is_held_back = network.routes[flow.spec.route.0 as usize].iter().any(|&(link, _)| {
                    let is_full = network.load(link.0) >= network.capacity(link) * (1.0 - 1e-9);
                    let rates = network.links[link.0 as usize].flows.iter().map(|&(slot, _)| network.rate(slot));
                    is_full && rates.fold(0.0, f64::max) <= flow.rate * (1.0 + 1e-9)
                });
                let is_free = flow.rate == f64::INFINITY;
                proptest::prop_assert!(is_held_back || is_free);
            }
        }
    }
}
