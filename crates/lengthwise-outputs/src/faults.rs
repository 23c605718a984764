//! Writes that fail on purpose, under tests of what becomes of outputs then.
//!
//! With the feature `faults`, the variable `OUTPUT_FAULTS` lists faults, apart by commas, each as
//! `NAME=KIND[@BYTES][xTIMES]`: whatever path has `NAME` in it, or ends in it for `NAME$`, meets it, once `BYTES` have been written there, and
//! `TIMES` times; always where they are left out. Kinds are `full` (no space left), `eio` (a broken device), `short`
//! (no write takes more than 7 bytes), `sync`, `rename` and `lock` (there are no locks). Without the feature nothing of this is there.

#[cfg(feature = "faults")]
pub use injected::inject_faults;
#[cfg(feature = "faults")]
pub(crate) use injected::{before_rename, before_sync, before_write, has_locks};

#[cfg(not(feature = "faults"))]
mod none {
    use std::io;
    use std::path::Path;

    #[inline]
    pub(crate) fn before_write(_: &Path, len: usize) -> io::Result<usize> {
        Ok(len)
    }

    #[inline]
    pub(crate) fn before_sync(_: &Path) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    pub(crate) fn has_locks(_: &Path) -> bool {
        true
    }

    #[inline]
    pub(crate) fn before_rename(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(not(feature = "faults"))]
pub(crate) use none::{before_rename, before_sync, before_write, has_locks};

#[cfg(feature = "faults")]
mod injected {
    use std::io;
    use std::path::Path;
    use std::sync::{LazyLock, Mutex, PoisonError};

    const ENOSPC: i32 = 28;
    const EIO: i32 = 5;
    const EBUSY: i32 = 16;
    const ENOLCK: i32 = 37;

    /// Most bytes that a short write takes.
    const SHORT: usize = 7;

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Full,
        Eio,
        Short,
        Sync,
        Rename,
        Lock,
    }

    struct Fault {
        name: String,
        kind: Kind,
        bytes_left: usize,
        times_left: usize,
    }

    impl Fault {
        fn parse(text: &str) -> Option<Self> {
            let (name, rest) = text.split_once('=')?;
            let (rest, times) = rest.split_once('x').unwrap_or((rest, ""));
            let (kind, bytes) = rest.split_once('@').unwrap_or((rest, "0"));
            Some(Fault {
                name: name.to_owned(),
                kind: match kind {
                    "full" => Kind::Full,
                    "eio" => Kind::Eio,
                    "short" => Kind::Short,
                    "sync" => Kind::Sync,
                    "rename" => Kind::Rename,
                    "lock" => Kind::Lock,
                    _ => return None,
                },
                bytes_left: bytes.parse().ok()?,
                times_left: if times.is_empty() {
                    usize::MAX
                } else {
                    times.parse().ok()?
                },
            })
        }

        fn is_met(&self, path: &Path) -> bool {
            let path = path.to_string_lossy();
            let is_named = match self.name.strip_suffix('$') {
                Some(ending) => path.ends_with(ending),
                None => path.contains(&self.name),
            };
            self.times_left > 0 && is_named
        }
    }

    fn parsed(listed: &str) -> Vec<Fault> {
        let faults = listed.split(',').filter(|fault| !fault.is_empty());
        let parsed = faults.map(|fault| {
            Fault::parse(fault).unwrap_or_else(|| panic!("OUTPUT_FAULTS: {fault} is no fault"))
        });
        parsed.collect()
    }

    static FAULTS: LazyLock<Mutex<Vec<Fault>>> =
        LazyLock::new(|| Mutex::new(parsed(&std::env::var("OUTPUT_FAULTS").unwrap_or_default())));

    /// Adds faults to those of the variable; other tests of the process don't meet them, if their paths differ.
    pub fn inject_faults(listed: &str) {
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        faults.extend(parsed(listed));
    }

    /// Returns the number of the `len` bytes that may be written.
    pub(crate) fn before_write(path: &Path, len: usize) -> io::Result<usize> {
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut allowed = len;
        for fault in faults.iter_mut().filter(|fault| fault.is_met(path)) {
            match fault.kind {
                Kind::Short => allowed = allowed.min(SHORT),
                Kind::Full | Kind::Eio if fault.bytes_left == 0 => {
                    fault.times_left -= 1;
                    let code = if fault.kind == Kind::Full {
                        ENOSPC
                    } else {
                        EIO
                    };
                    return Err(io::Error::from_raw_os_error(code));
                }
                Kind::Full | Kind::Eio => allowed = allowed.min(fault.bytes_left),
                Kind::Sync | Kind::Rename | Kind::Lock => {}
            }
        }
        for fault in faults.iter_mut().filter(|fault| fault.is_met(path)) {
            fault.bytes_left = fault.bytes_left.saturating_sub(allowed);
        }
        Ok(allowed)
    }

    fn at(path: &Path, kind: Kind, code: i32) -> io::Result<()> {
        let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut met = faults
            .iter_mut()
            .filter(|fault| fault.kind == kind && fault.is_met(path));
        match met.next() {
            Some(fault) => {
                fault.times_left -= 1;
                Err(io::Error::from_raw_os_error(code))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn before_sync(path: &Path) -> io::Result<()> {
        at(path, Kind::Sync, EIO)
    }

    pub(crate) fn has_locks(path: &Path) -> bool {
        at(path, Kind::Lock, ENOLCK).is_ok()
    }

    pub(crate) fn before_rename(path: &Path) -> io::Result<()> {
        at(path, Kind::Rename, EBUSY)
    }
}
