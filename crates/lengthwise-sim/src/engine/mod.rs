//! The pure engine: processes that work, meet in calls and wait for them, and a network that calls move bytes over.
//!
//! It knows nothing of steps or plans. A [`Program`] says what each process does next; the engine says when.
//!
//! ```text
//! Work(seconds)     the process is busy for so long, and does nothing else meanwhile
//! Post(call)        the process has come to a call and goes on; once all members have, the transfer starts:
//!                   its latency passes, then its bytes flow, sharing links with all other flows
//! Await(call)       the process waits until the transfer has ended
//! ```
//!
//! Events are handled in the order of their time, those of one instant in the order they were foreseen, and rates
//! are settled once an instant: the same program gives the same result to the bit.

mod foreseen;
mod program;

use std::collections::VecDeque;

use lengthwise_network::{FlowSpec, Network};

use foreseen::{Agenda, Event, Foreseen};
pub use program::{CallId, Instruction, Program, Stretch, Transfer};

/// A program that ended before its processes did: one waits for a call that not all members come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The first such process.
    pub process: u32,
    /// The call that it waits for.
    pub call: CallId,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// When the last process did.
    pub at: f64,
    /// State changes: stretches of work that ended, waits that ended, transfers that started, began to flow, ended.
    pub num_events: u64,
}

#[derive(Clone, Debug)]
struct Channel {
    num_members: u32,
    /// Calls before this one have ended.
    first: u32,
    calls: VecDeque<Call>,
}

#[derive(Clone, Debug, Default)]
struct Call {
    num_posted: u32,
    transfer_start: f64,
    /// The bytes that flow once its latency is over.
    flow: Option<FlowSpec>,
    has_ended: bool,
    waiters: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum State<T> {
    Ready,
    Working(T),
    Waiting { call: CallId, since: f64, tag: T },
    Ended,
}

/// Runs programs.
#[derive(Debug)]
pub struct Engine<P: Program> {
    network: Network<CallId>,
    channels: Vec<Channel>,
    processes: Vec<State<P::Tag>>,
    agenda: Agenda,
    num_events: u64,
    /// Lists of waiters that are not in use.
    spare: Vec<Vec<u32>>,
}

impl<P: Program> Engine<P> {
    /// An engine for so many processes, with channels of so many members each.
    pub fn new(
        network: Network<CallId>,
        num_processes: u32,
        channels: impl IntoIterator<Item = u32>,
    ) -> Self {
        let channel = |num_members| Channel {
            num_members,
            first: 0,
            calls: VecDeque::new(),
        };
        Engine {
            network,
            channels: channels.into_iter().map(channel).collect(),
            processes: vec![State::Ready; num_processes as usize],
            agenda: Agenda::default(),
            num_events: 0,
            spare: Vec::new(),
        }
    }

    /// The network, with what its links have carried.
    pub fn network(&self) -> &Network<CallId> {
        &self.network
    }

    /// Runs until every process has ended.
    ///
    /// # Errors
    ///
    /// Some process waits for ever.
    pub fn run(&mut self, program: &mut P) -> Result<Ended, Stuck> {
        let mut now = 0.0;
        for process in 0..self.processes.len() as u32 {
            self.go_on(process, now, program);
        }
        self.settle(now);
        while let Some(Foreseen { time, event, .. }) = self.agenda.next() {
            match event {
                Event::WorkDone { process, start } => {
                    now = time;
                    self.num_events += 1;
                    if let State::Working(tag) = self.processes[process as usize] {
                        program.passed(process, Stretch::Work { start, end: now }, tag);
                    }
                    self.go_on(process, now, program);
                }
                Event::LatencyPassed(call) => {
                    now = time;
                    self.num_events += 1;
                    match self.call(call).flow {
                        Some(flow) => self.network.begin(now, flow, call),
                        None => self.end_call(call, now, program),
                    }
                }
                Event::FlowDone(end) => {
                    // A prediction that has lapsed is no event: the clock does not follow it.
                    if let Some(call) = self.network.end(end) {
                        now = time;
                        self.num_events += 1;
                        self.end_call(call, now, program);
                    }
                }
            }
            if self.agenda.has_passed(now) {
                self.settle(now);
            }
        }
        let waiting = |(process, state): (usize, &State<P::Tag>)| match *state {
            State::Waiting { call, .. } => Some(Stuck {
                process: process as u32,
                call,
            }),
            _ => None,
        };
        match self.processes.iter().enumerate().find_map(waiting) {
            Some(stuck) => Err(stuck),
            None => Ok(Ended {
                at: now,
                num_events: self.num_events,
            }),
        }
    }

    fn settle(&mut self, now: f64) {
        let Engine {
            network, agenda, ..
        } = self;
        network.settle(now, |end, time| agenda.add(time, Event::FlowDone(end)));
    }

    /// Lets a process do what takes no time, until it works, waits or ends.
    fn go_on(&mut self, process: u32, now: f64, program: &mut P) {
        loop {
            match program.next(process, now) {
                Some(Instruction::Work(seconds, tag)) => {
                    if seconds > 0.0 {
                        self.processes[process as usize] = State::Working(tag);
                        let start = now;
                        return self
                            .agenda
                            .add(now + seconds, Event::WorkDone { process, start });
                    }
                }
                Some(Instruction::Post(call)) => self.post(call, now, program),
                Some(Instruction::Await(call, tag)) => {
                    if !self.has_ended(call) {
                        let since = now;
                        self.processes[process as usize] = State::Waiting { call, since, tag };
                        let mut spare = self.spare.pop();
                        let waiters = &mut self.call(call).waiters;
                        if waiters.capacity() == 0
                            && let Some(spare) = spare.take()
                        {
                            *waiters = spare;
                        }
                        waiters.push(process);
                        self.spare.extend(spare);
                        return;
                    }
                }
                None => {
                    self.processes[process as usize] = State::Ended;
                    return;
                }
            }
        }
    }

    fn post(&mut self, id: CallId, now: f64, program: &mut P) {
        let num_members = self.channels[id.channel as usize].num_members;
        let call = self.call(id);
        call.num_posted += 1;
        if call.num_posted == num_members {
            call.transfer_start = now;
            self.num_events += 1;
            let Transfer { latency, flow } = program.transfer(id, now);
            self.call(id).flow = flow;
            match flow {
                Some(flow) if latency == 0.0 => self.network.begin(now, flow, id),
                _ => self.agenda.add(now + latency, Event::LatencyPassed(id)),
            }
        }
    }

    fn end_call(&mut self, id: CallId, now: f64, program: &mut P) {
        let call = self.call(id);
        call.has_ended = true;
        let transfer = call.transfer_start;
        let mut waiters = std::mem::take(&mut call.waiters);
        let channel = &mut self.channels[id.channel as usize];
        while channel.calls.front().is_some_and(|call| call.has_ended) {
            channel.calls.pop_front();
            channel.first += 1;
        }
        for process in waiters.drain(..) {
            self.num_events += 1;
            if let State::Waiting { since, tag, .. } = self.processes[process as usize]
                && now > since
            {
                let start = since;
                let end = now;
                program.passed(
                    process,
                    Stretch::Wait {
                        start,
                        transfer,
                        end,
                    },
                    tag,
                );
            }
            self.go_on(process, now, program);
        }
        self.spare.push(waiters);
    }

    fn has_ended(&self, id: CallId) -> bool {
        let channel = &self.channels[id.channel as usize];
        match id.call.checked_sub(channel.first) {
            None => true,
            Some(at) => channel
                .calls
                .get(at as usize)
                .is_some_and(|call| call.has_ended),
        }
    }

    /// The state of a call that has not ended.
    fn call(&mut self, id: CallId) -> &mut Call {
        let channel = &mut self.channels[id.channel as usize];
        let at = id.call.saturating_sub(channel.first) as usize;
        if channel.calls.len() <= at {
            channel.calls.resize_with(at + 1, Call::default);
        }
        &mut channel.calls[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes with their instructions written down; every call takes `latency` and no bytes.
    struct Script {
        instructions: Vec<VecDeque<Instruction<char>>>,
        latency: f64,
        stretches: Vec<(u32, Stretch, char)>,
    }

    impl Program for Script {
        type Tag = char;
        fn next(&mut self, process: u32, _: f64) -> Option<Instruction<char>> {
            self.instructions[process as usize].pop_front()
        }
        fn transfer(&mut self, _: CallId, _: f64) -> Transfer {
            Transfer {
                latency: self.latency,
                flow: None,
            }
        }
        fn passed(&mut self, process: u32, stretch: Stretch, tag: char) {
            self.stretches.push((process, stretch, tag));
        }
    }

    fn run(latency: f64, instructions: &[&[Instruction<char>]]) -> (Result<Ended, Stuck>, Script) {
        let list = |list: &&[Instruction<char>]| list.iter().copied().collect();
        let mut script = Script {
            instructions: instructions.iter().map(list).collect(),
            latency,
            stretches: Vec::new(),
        };
        let num_processes = instructions.len() as u32;
        let ended = Engine::new(Network::new(), num_processes, [num_processes]).run(&mut script);
        (ended, script)
    }

    const CALL: CallId = CallId {
        channel: 0,
        call: 0,
    };

    #[test]
    fn a_posted_call_is_on_its_way_while_its_members_work() {
        use Instruction::{Await, Post, Work};
        let (ended, script) = run(
            3.0,
            &[
                &[Post(CALL), Work(5.0, 'a'), Await(CALL, 'b'), Work(1.0, 'c')],
                &[Work(1.0, 'd'), Post(CALL), Await(CALL, 'e')],
            ],
        );
        // The second comes at 1, so the call lasts from 1 to 4; the first never waits for it.
        assert_eq!(ended.unwrap().at, 6.0);
        let wait = Stretch::Wait {
            start: 1.0,
            transfer: 1.0,
            end: 4.0,
        };
        assert_eq!(
            script.stretches,
            [
                (
                    1,
                    Stretch::Work {
                        start: 0.0,
                        end: 1.0
                    },
                    'd'
                ),
                (1, wait, 'e'),
                (
                    0,
                    Stretch::Work {
                        start: 0.0,
                        end: 5.0
                    },
                    'a'
                ),
                (
                    0,
                    Stretch::Work {
                        start: 5.0,
                        end: 6.0
                    },
                    'c'
                ),
            ]
        );
    }

    #[test]
    fn a_wait_says_when_the_others_had_come() {
        use Instruction::{Await, Post, Work};
        let (_, script) = run(
            2.0,
            &[
                &[Post(CALL), Await(CALL, 'a')],
                &[Work(4.0, 'b'), Post(CALL)],
            ],
        );
        let wait = Stretch::Wait {
            start: 0.0,
            transfer: 4.0,
            end: 6.0,
        };
        assert_eq!(script.stretches.last(), Some(&(0, wait, 'a')));
    }

    #[test]
    fn who_waits_for_ever_is_named() {
        use Instruction::{Await, Post};
        let (ended, _) = run(1.0, &[&[Post(CALL), Await(CALL, 'a')], &[]]);
        assert_eq!(
            ended,
            Err(Stuck {
                process: 0,
                call: CALL
            })
        );
    }
}
