//! A decoder that may panic on what is torn, kept from ending the run with more than an error.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use parquet::errors::ParquetError;

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Returns the result of `decode`, or an error if it panics.
///
/// The `parquet` crate checks less than a file may break: lengths of levels are asserted, and sums of sizes may overflow. Such a
/// panic is that of a corrupt file. All that `decode` changes must be given up after an error, as it may be half done.
pub(crate) fn guarded<T>(
    decode: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, ParquetError> {
    say_nothing_of_guarded_panics();
    IS_GUARDED.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(decode));
    IS_GUARDED.set(false);
    result.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref().map(|&text: &&str| text.to_owned()));
        let message = message.unwrap_or_else(|| "a page can't be decoded".to_owned());
        let first_line = message.lines().next().unwrap_or_default();
        Err(ParquetError::General(format!(
            "its decoder gave up: {first_line}"
        )))
    })
}

/// Adds to what is done at a panic that nothing is said of one that becomes an error.
fn say_nothing_of_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                others(panic);
            }
        }));
    });
}
