//! Links, and the flows that share them.
//!
//! A flow moves a volume at one rate over all links of its route at once, as a collective does whose ranks proceed
//! in step. Its weight on a link says how many bytes cross there for each unit of its volume. Which unit that is makes
//! no difference to anyone's rate: links are shared by bytes.

mod concerned;
mod sharing;

use std::collections::HashSet;

/// Index of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// Index of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteId(pub u32);

/// A flow under way, and which of its predicted ends is meant: rates change, old predictions lapse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEnd {
    slot: u32,
    version: u32,
}

/// How much a flow moves, and how fast it can at best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowSpec {
    /// How many times the weights of its route cross: bytes, where those are per byte. Finite and not negative.
    pub volume: f64,
    /// The links that it crosses.
    pub route: RouteId,
}

#[derive(Clone, Debug)]
struct Link {
    capacity: f64,
    /// Flows that cross it, with their weights.
    flows: Vec<(u32, f64)>,
    carried: f64,
    peak: f64,
    /// While rates are settled: capacity not given out, the number of flows without a rate, what is offered to each of
    /// them, and what they take of it.
    left: f64,
    open: u32,
    share: f64,
    taken: f64,
    mark: u32,
}

#[derive(Clone, Debug)]
struct Flow<T> {
    owner: T,
    spec: FlowSpec,
    remaining: f64,
    rate: f64,
    since: f64,
    version: u32,
    mark: u32,
    is_settled: bool,
}

/// Links and the flows on them; `T` says whose a flow is.
#[derive(Clone, Debug)]
pub struct Network<T> {
    links: Vec<Link>,
    routes: Vec<Vec<(LinkId, f64)>>,
    /// Routes that were meant for one flow, which has ended.
    free_routes: Vec<RouteId>,
    /// Routes that are meant for one flow, which has not ended.
    once: HashSet<u32>,
    flows: Vec<Option<Flow<T>>>,
    free: Vec<u32>,
    /// Flows that have begun, and links that have been left, since rates were last settled.
    new_flows: Vec<u32>,
    left_links: Vec<u32>,
    mark: u32,
    scratch: Scratch,
}

#[derive(Clone, Debug, Default)]
struct Scratch {
    links: Vec<u32>,
    flows: Vec<u32>,
    open: Vec<u32>,
    filling: Vec<u32>,
    now_settled: Vec<u32>,
    rates_before: Vec<f64>,
}

/// Ratios within this part of each other are equal: sums differ in their last digits.
const EQUAL: f64 = 1e-12;

impl<T: Copy> Default for Network<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> Network<T> {
    /// A network without links.
    pub fn new() -> Self {
        Network {
            links: Vec::new(),
            routes: vec![Vec::new()],
            free_routes: Vec::new(),
            once: HashSet::new(),
            flows: Vec::new(),
            free: Vec::new(),
            new_flows: Vec::new(),
            left_links: Vec::new(),
            mark: 0,
            scratch: Scratch::default(),
        }
    }

    /// The route that crosses no link.
    pub const NOWHERE: RouteId = RouteId(0);

    /// Adds a link that carries `capacity` bytes a second, above 0.
    pub fn add_link(&mut self, capacity: f64) -> LinkId {
        self.links.push(Link {
            capacity,
            flows: Vec::new(),
            carried: 0.0,
            peak: 0.0,
            left: 0.0,
            open: 0,
            share: 0.0,
            taken: 0.0,
            mark: 0,
        });
        LinkId(self.links.len() as u32 - 1)
    }

    /// Adds a route over links, each at most once and with a weight above 0.
    pub fn add_route(&mut self, links: Vec<(LinkId, f64)>) -> RouteId {
        if links.is_empty() {
            return Self::NOWHERE;
        }
        self.routes.push(links);
        RouteId(self.routes.len() as u32 - 1)
    }

    /// Adds a route as [`Network::add_route`] does, which is forgotten when the first flow over it ends.
    pub fn add_route_once(&mut self, links: Vec<(LinkId, f64)>) -> RouteId {
        if links.is_empty() {
            return Self::NOWHERE;
        }
        let route = match self.free_routes.pop() {
            Some(route) => {
                self.routes[route.0 as usize] = links;
                route
            }
            None => self.add_route(links),
        };
        self.once.insert(route.0);
        route
    }

    /// Bytes a link has carried in flows that have ended.
    pub fn carried(&self, link: LinkId) -> f64 {
        self.links[link.0 as usize].carried
    }

    /// The most bytes a second that a link was given to carry at any time.
    pub fn peak(&self, link: LinkId) -> f64 {
        self.links[link.0 as usize].peak
    }

    /// Bytes a second a link can carry.
    pub fn capacity(&self, link: LinkId) -> f64 {
        self.links[link.0 as usize].capacity
    }

    /// Begins a flow; [`Network::settle`] gives it a rate.
    pub fn begin(&mut self, now: f64, spec: FlowSpec, owner: T) {
        let slot = self.free.pop().unwrap_or(self.flows.len() as u32);
        if slot as usize == self.flows.len() {
            self.flows.push(None);
        }
        for &(link, weight) in &self.routes[spec.route.0 as usize] {
            self.links[link.0 as usize].flows.push((slot, weight));
        }
        self.flows[slot as usize] = Some(Flow {
            owner,
            spec,
            remaining: spec.volume,
            rate: 0.0,
            since: now,
            // Versions never repeat in a slot, so that no prediction outlives its flow.
            version: self.mark.wrapping_mul(2),
            mark: 0,
            is_settled: false,
        });
        self.new_flows.push(slot);
    }

    /// Ends the flow if this prediction of its end still holds; says whose it was.
    pub fn end(&mut self, end: FlowEnd) -> Option<T> {
        let place = self.flows.get_mut(end.slot as usize)?;
        if place.as_ref()?.version != end.version {
            return None;
        }
        let flow = place.take()?;
        self.free.push(end.slot);
        let route = flow.spec.route;
        for &(link, weight) in &self.routes[flow.spec.route.0 as usize] {
            let state = &mut self.links[link.0 as usize];
            state.carried += weight * flow.spec.volume;
            if let Some(at) = state.flows.iter().position(|&(slot, _)| slot == end.slot) {
                state.flows.swap_remove(at);
            }
            self.left_links.push(link.0);
        }
        if self.once.remove(&route.0) {
            self.free_routes.push(route);
        }
        Some(flow.owner)
    }

    /// Gives every flow that what began and ended since can concern its new rate, and predicts its end.
    pub fn settle(&mut self, now: f64, mut predict: impl FnMut(FlowEnd, f64)) {
        if self.new_flows.is_empty() && self.left_links.is_empty() {
            return;
        }
        self.mark += 1;
        let mut scratch = std::mem::take(&mut self.scratch);
        self.collect_concerned(&mut scratch);
        scratch.rates_before.clear();
        let rates = scratch.flows.iter().map(|&slot| self.rate(slot));
        scratch.rates_before.extend(rates);
        self.share_out(&mut scratch);
        for (&slot, &before) in scratch.flows.iter().zip(&scratch.rates_before) {
            let Some(flow) = &mut self.flows[slot as usize] else {
                continue;
            };
            // A flow without links and a flow whose rate is as before end when they were said to.
            if before > 0.0 && (flow.rate - before).abs() <= EQUAL * before {
                flow.rate = before;
                continue;
            }
            flow.remaining = (flow.remaining - before * (now - flow.since)).max(0.0);
            flow.since = now;
            flow.version = self.mark.wrapping_mul(2).wrapping_add(1);
            let takes = if flow.remaining == 0.0 {
                0.0
            } else {
                flow.remaining / flow.rate
            };
            let version = flow.version;
            predict(FlowEnd { slot, version }, now + takes);
        }
        for &link in &scratch.links {
            let load = self.load(link);
            let link = &mut self.links[link as usize];
            link.peak = link.peak.max(load);
        }
        self.scratch = scratch;
    }

    /// The sum of the rates of the flows on a link, summed anew.
    fn load(&self, link: u32) -> f64 {
        let flows = self.links[link as usize].flows.iter();
        flows.map(|&(slot, weight)| weight * self.rate(slot)).sum()
    }

    fn rate(&self, slot: u32) -> f64 {
        self.flows[slot as usize]
            .as_ref()
            .map_or(0.0, |flow| flow.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(network: &mut Network<u32>, now: f64) -> Vec<(u32, f64)> {
        let mut ends = Vec::new();
        network.settle(now, |end, at| ends.push((end.slot, at)));
        ends
    }

    fn spec(volume: f64, route: RouteId) -> FlowSpec {
        FlowSpec { volume, route }
    }

    #[test]
    fn rates_of_flows_elsewhere_do_not_change() {
        let mut network = Network::new();
        let links = [network.add_link(1.0), network.add_link(1.0)];
        let routes = links.map(|link| network.add_route(vec![(link, 1.0)]));
        network.begin(0.0, spec(1.0, routes[0]), 0);
        assert_eq!(ends(&mut network, 0.0), [(0, 1.0)]);
        network.begin(0.5, spec(1.0, routes[1]), 1);
        assert_eq!(ends(&mut network, 0.5), [(1, 1.5)]);
    }

    #[test]
    fn a_flow_that_is_left_alone_speeds_up_and_its_old_end_lapses() {
        let mut network = Network::new();
        let link = network.add_link(2.0);
        let route = network.add_route(vec![(link, 1.0)]);
        let mut predicted = Vec::new();
        network.begin(0.0, spec(2.0, route), 'a');
        network.begin(0.0, spec(4.0, route), 'b');
        network.settle(0.0, |end, at| predicted.push((end, at)));
        assert_eq!((predicted[0].1, predicted[1].1), (2.0, 4.0));
        assert_eq!(network.end(predicted[0].0), Some('a'));
        network.settle(2.0, |end, at| predicted.push((end, at)));
        // 2 of its 4 bytes are left, at 2 bytes a second.
        assert_eq!(predicted[2].1, 3.0);
        assert_eq!(network.end(predicted[1].0), None);
        assert_eq!(network.end(predicted[2].0), Some('b'));
        assert_eq!(network.carried(link), 6.0);
    }

    #[test]
    fn a_route_for_one_flow_makes_room_for_the_next() {
        let mut network = Network::new();
        let link = network.add_link(2.0);
        let kept = network.add_route(vec![(link, 1.0)]);
        let run = |network: &mut Network<u32>, route, start| {
            let mut ended = None;
            network.begin(start, spec(1.0, route), 7);
            network.settle(start, |end, at| ended = Some((end, at)));
            let (end, at) = ended.unwrap();
            assert_eq!(network.end(end), Some(7));
            network.settle(at, |_, _| ());
            at
        };
        let first = network.add_route_once(vec![(link, 2.0)]);
        assert_eq!(run(&mut network, first, 0.0), 1.0);
        let second = network.add_route_once(vec![(link, 4.0)]);
        assert_eq!(second, first);
        assert_eq!(run(&mut network, second, 1.0), 3.0);
        // Other routes stay as they are.
        assert_eq!(run(&mut network, kept, 3.0), 3.5);
        assert_ne!(network.add_route_once(vec![(link, 1.0)]), kept);
    }

    #[test]
    fn nothing_to_move_and_nothing_to_cross_take_no_time() {
        let mut network = Network::new();
        let link = network.add_link(2.0);
        let route = network.add_route(vec![(link, 1.0)]);
        network.begin(1.0, spec(0.0, route), 0);
        network.begin(1.0, spec(9.0, Network::<u32>::NOWHERE), 1);
        assert_eq!(ends(&mut network, 1.0), [(0, 1.0), (1, 1.0)]);
    }
}
