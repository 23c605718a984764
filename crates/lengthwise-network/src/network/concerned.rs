//! Whose rates a change can concern.

use super::{Network, Scratch};

impl<T: Copy> Network<T> {
    /// The flows that share links, directly or through others, with what has begun or ended; and those links.
    pub(super) fn collect_concerned(&mut self, scratch: &mut Scratch) {
        let mark = self.mark;
        scratch.links.clear();
        scratch.flows.clear();
        for slot in self.new_flows.drain(..) {
            if let Some(flow) = &mut self.flows[slot as usize]
                && flow.mark != mark
            {
                flow.mark = mark;
                scratch.flows.push(slot);
            }
        }
        for link in self.left_links.drain(..) {
            if self.links[link as usize].mark != mark {
                self.links[link as usize].mark = mark;
                scratch.links.push(link);
            }
        }
        let (mut next_flow, mut next_link) = (0, 0);
        loop {
            if let Some(&slot) = scratch.flows.get(next_flow) {
                next_flow += 1;
                let Some(flow) = &self.flows[slot as usize] else {
                    continue;
                };
                for &(link, _) in &self.routes[flow.spec.route.0 as usize] {
                    if self.links[link.0 as usize].mark != mark {
                        self.links[link.0 as usize].mark = mark;
                        scratch.links.push(link.0);
                    }
                }
            } else if let Some(&link) = scratch.links.get(next_link) {
                next_link += 1;
                for &(slot, _) in &self.links[link as usize].flows {
                    if let Some(flow) = &mut self.flows[slot as usize]
                        && flow.mark != mark
                    {
                        flow.mark = mark;
                        scratch.flows.push(slot);
                    }
                }
            } else {
                return;
            }
        }
    }
}
