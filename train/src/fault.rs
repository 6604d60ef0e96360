//! Faults of the device that burn does not report.
//!
//! GPU backends of burn run kernels on threads of their own; a panic there is caught and logged, the output
//! stays unwritten and training would go on with garbage. Panic hooks run before the catch.

use std::sync::atomic::{AtomicBool, Ordering};

static FAULT: AtomicBool = AtomicBool::new(false);

/// Makes panics of device threads visible to [`device_faulted`]. Call it first in `main`.
pub fn watch_device() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        if thread
            .name()
            .is_some_and(|name| name.starts_with("DSU-") || name.starts_with("DSD-"))
        {
            FAULT.store(true, Ordering::SeqCst);
        }
        previous(info);
    }));
}

/// Whether a device thread has panicked since [`watch_device`].
pub fn device_faulted() -> bool {
    FAULT.load(Ordering::SeqCst)
}
