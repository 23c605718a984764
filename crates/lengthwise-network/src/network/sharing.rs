//! The shares of links that flows get: max-min fair sharing.
//!
//! A link offers all flows on it equal bytes a second, and a flow takes what the scarcest of its links offers; what it
//! leaves of the others is offered to those that can use it. Where bytes are equal on all links of a flow, this is
//! max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2). Where they are not, it is its extension to several
//! resources, bottleneck max fairness: each flow crosses a full link on which no other moves more bytes a second
//! (Bonald and Roberts, Multi-resource fairness, SIGMETRICS 2015; SimGrid shares links among parallel tasks so).
//! Flows may hold each other back on different links, so that no link's flows all take what it offers. Then
//! all are stretched until one is full, and a flow on it may get less than others there.

use super::{EQUAL, Link, Network, Scratch};

impl<T: Copy> Network<T> {
    /// Progressive filling over the collected flows and links: all open flows rise together, in the proportions that
    /// links offer them, until a link is full, which settles the flows on it.
    pub(super) fn share_out(&mut self, scratch: &mut Scratch) {
        for &link in &scratch.links {
            let link = &mut self.links[link as usize];
            link.left = link.capacity;
            link.open = link.flows.len() as u32;
        }
        for &slot in &scratch.flows {
            if let Some(flow) = &mut self.flows[slot as usize] {
                flow.is_settled = false;
            }
        }
        scratch.open.clone_from(&scratch.flows);
        scratch.filling.clone_from(&scratch.links);
        while !scratch.open.is_empty() {
            let links = &self.links;
            (scratch.filling).retain(|&link| links[link as usize].open > 0);
            self.offer(&scratch.open, &scratch.filling);
            let room = |&link: &u32| self.links[link as usize].room();
            let stretch = (scratch.filling.iter().map(room)).fold(f64::INFINITY, f64::min);
            scratch.now_settled.clear();
            if stretch == f64::INFINITY {
                // Transfers that cross no link take no time.
                scratch.now_settled.clone_from(&scratch.open);
            }
            let reached = stretch * (1.0 + EQUAL);
            for link in &scratch.filling {
                if room(link) <= reached {
                    let flows = self.links[*link as usize].flows.iter();
                    scratch.now_settled.extend(flows.map(|&(slot, _)| slot));
                }
            }
            for index in 0..scratch.now_settled.len() {
                self.settle_flow(scratch.now_settled[index], stretch);
            }
            let flows = &self.flows;
            let is_open = |slot: &u32| {
                flows[*slot as usize]
                    .as_ref()
                    .is_some_and(|f| !f.is_settled)
            };
            scratch.open.retain(is_open);
        }
    }

    /// Lets each link offer its open flows equal bytes a second, and each of those take what its scarcest link offers.
    fn offer(&mut self, open: &[u32], filling: &[u32]) {
        for &link in filling {
            let link = &mut self.links[link as usize];
            link.share = link.left / f64::from(link.open);
            link.taken = 0.0;
        }
        for &slot in open {
            let Some(flow) = &mut self.flows[slot as usize] else {
                continue;
            };
            let route = &self.routes[flow.spec.route.0 as usize];
            let offers = route
                .iter()
                .map(|&(link, weight)| self.links[link.0 as usize].share / weight);
            flow.rate = offers.fold(f64::INFINITY, f64::min);
            for &(link, weight) in route {
                self.links[link.0 as usize].taken += weight * flow.rate;
            }
        }
    }

    /// Settles a flow at so many times what it was offered.
    fn settle_flow(&mut self, slot: u32, stretch: f64) {
        let Some(flow) = &mut self.flows[slot as usize] else {
            return;
        };
        if std::mem::replace(&mut flow.is_settled, true) {
            return;
        }
        flow.rate *= stretch;
        for &(link, weight) in &self.routes[flow.spec.route.0 as usize] {
            let link = &mut self.links[link.0 as usize];
            link.left -= weight * flow.rate;
            link.open -= 1;
        }
    }
}

impl Link {
    /// How many times what its open flows take of it is left.
    fn room(&self) -> f64 {
        self.left / self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

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
    fn flows_on_a_link_move_equal_bytes_whatever_their_weights() {
        let mut network = Network::new();
        let link = network.add_link(12.0);
        let wide = network.add_route(vec![(link, 3.0)]);
        let narrow = network.add_route(vec![(link, 1.0)]);
        network.begin(0.0, spec(6.0, wide), 0);
        network.begin(0.0, spec(6.0, narrow), 1);
        // 6 bytes a second each, of 18 and of 6.
        assert_eq!(ends(&mut network, 0.0), [(0, 3.0), (1, 1.0)]);
    }

    /// The weights of a flow by link, where it crosses that link.
    type Weights = Vec<Option<f64>>;

    /// A network in which flows of a volume of 1 have got their rates.
    fn settled(capacities: &[f64], flows: &[Weights]) -> Network<usize> {
        let mut network = Network::new();
        for &capacity in capacities {
            network.add_link(capacity);
        }
        for (owner, weights) in flows.iter().enumerate() {
            let links = (0..).map(LinkId).zip(weights).take(capacities.len());
            let crossed = links.filter_map(|(link, weight)| Some((link, (*weight)?)));
            let route = network.add_route(crossed.collect());
            network.begin(0.0, spec(1.0, route), owner);
        }
        network.settle(0.0, |_, _| ());
        network
    }

    /// No link is above its capacity, and each flow crosses a full link for which `is_reason` holds, or none at all.
    fn has_reasons(network: &Network<usize>, is_reason: impl Fn(LinkId, f64) -> bool) -> bool {
        let is_within =
            |link: u32| network.load(link) <= network.capacity(LinkId(link)) * (1.0 + 1e-9);
        let is_full = |link: LinkId| network.load(link.0) >= network.capacity(link) * (1.0 - 1e-9);
        let mut flows = network.flows.iter().flatten();
        (0..network.links.len() as u32).all(is_within)
            && flows.all(|flow| {
                let mut route = network.routes[flow.spec.route.0 as usize].iter();
                flow.rate == f64::INFINITY
                    || route
                        .any(|&(link, weight)| is_full(link) && is_reason(link, weight * flow.rate))
            })
    }

    fn capacities() -> impl Strategy<Value = Vec<f64>> {
        vec(0.1f64..100.0, 1..6)
    }

    fn weights() -> impl Strategy<Value = Weights> {
        vec(proptest::option::of(0.01f64..8.0), 6)
    }

    proptest::proptest! {
        /// Max-min fairness: on a full link no flow moves more bytes.
        #[test]
        fn a_flow_that_moves_equal_bytes_over_all_its_links_has_a_reason_for_not_being_faster(
            capacities in capacities(),
            flows in vec((0.01f64..8.0, vec(any::<bool>(), 6)), 1..12),
        ) {
            let weights = |(weight, crossed): &(f64, Vec<bool>)| -> Weights {
                crossed.iter().map(|&crosses| crosses.then_some(*weight)).collect()
            };
            let flows: Vec<Weights> = flows.iter().map(weights).collect();
            let network = settled(&capacities, &flows);
            let is_most = |link: LinkId, bytes: f64| {
                let flows = network.links[link.0 as usize].flows.iter();
                let most = flows.map(|&(slot, weight)| weight * network.rate(slot)).fold(0.0, f64::max);
                most <= bytes * (1.0 + 1e-9)
            };
            prop_assert!(has_reasons(&network, is_most));
        }

        #[test]
        fn every_flow_crosses_a_full_link(capacities in capacities(), flows in vec(weights(), 1..12)) {
            prop_assert!(has_reasons(&settled(&capacities, &flows), |_, _| true));
        }

        #[test]
        fn a_flow_described_in_another_unit_takes_as_long(
            capacities in capacities(),
            flows in vec((weights(), 1e-6f64..1e6), 1..12),
        ) {
            let in_units: Vec<Weights> = flows.iter()
                .map(|(weights, unit)| weights.iter().map(|weight| weight.map(|weight| weight * unit)).collect())
                .collect();
            let bytes: Vec<Weights> = flows.iter().map(|(weights, _)| weights.clone()).collect();
            let (bytes, in_units) = (settled(&capacities, &bytes), settled(&capacities, &in_units));
            for (slot, (_, unit)) in (0..).zip(&flows) {
                let (rate, same) = (bytes.rate(slot), unit * in_units.rate(slot));
                prop_assert!(rate == same || (rate - same).abs() <= 1e-6 * rate);
            }
        }
    }
}
