//! Copies between a device and its host, under way while the device computes.

use std::sync::mpsc::{self, Receiver, SyncSender};

/// A copy that is made in the background. To drop it is to do without it.
#[derive(Debug)]
pub struct BackgroundCopy<T>(Receiver<T>);

/// The end of a copy, for who makes it.
#[derive(Debug)]
pub struct CopyEnd<T>(SyncSender<T>);

impl<T> BackgroundCopy<T> {
    /// A copy that is to be made, and its end.
    pub fn begin() -> (Self, CopyEnd<T>) {
        let (end, copy) = mpsc::sync_channel(1);
        (BackgroundCopy(copy), CopyEnd(end))
    }

    /// A copy that has been made already.
    pub fn ended(copy: T) -> Self {
        let (under_way, end) = Self::begin();
        end.end(copy);
        under_way
    }

    /// Waits until it has been made.
    ///
    /// # Panics
    ///
    /// The thread that was to make it has dropped its [`CopyEnd`].
    pub fn wait(self) -> T {
        self.0.recv().expect("a copy that was begun is ended")
    }
}

impl<T> CopyEnd<T> {
    /// Hands the copy over.
    pub fn end(self, copy: T) {
        // Whoever began it may do without it by now.
        drop(self.0.send(copy));
    }
}
