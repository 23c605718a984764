//! The programs that the engine runs.

use lengthwise_network::FlowSpec;

/// The call number `call` of a channel: whose members meet there is known when the channel is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// The channel.
    pub channel: u32,
    /// Counted from 0 in every channel.
    pub call: u32,
}

/// The next instruction of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instruction<T> {
    /// Works for so many seconds.
    Work(f64, T),
    /// Comes to a call without waiting for it.
    Post(CallId),
    /// Waits until a call has ended; others may have to post it yet.
    Await(CallId, T),
}

/// How long a call takes once all members have come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Seconds until its bytes begin to flow, or until it ends where there are none.
    pub latency: f64,
    /// The bytes.
    pub flow: Option<FlowSpec>,
}

/// A stretch of a process's time that has passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stretch {
    /// It worked.
    Work {
        /// When it began.
        start: f64,
        /// When it ended.
        end: f64,
    },
    /// It waited for a call.
    Wait {
        /// When it began to wait.
        start: f64,
        /// When all members had come; perhaps before it began to wait.
        transfer: f64,
        /// When the call had ended.
        end: f64,
    },
}

/// The instructions of processes, and the durations of their calls.
pub trait Program {
    /// The program's name for a stretch of time.
    type Tag: Copy;
    /// The next instruction of `process`, which has nothing left to do; `None` when it has ended.
    fn next(&mut self, process: u32, now: f64) -> Option<Instruction<Self::Tag>>;
    /// The duration of a call that all of its members have come to now; asked once a call.
    fn transfer(&mut self, call: CallId, now: f64) -> Transfer;
    /// Takes a stretch that has passed, none of them empty; those of one process come in order.
    fn passed(&mut self, process: u32, stretch: Stretch, tag: Self::Tag);
}
