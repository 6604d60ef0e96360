//! Panics of device threads. A file of its own, because the panic hook and the fault belong to the process: a run beside
//! this test would end with the fault.

use train::fault::{attempt, watch_device};
use train::trainer::sound::check;

#[test]
fn panics_of_device_threads_are_told_by_an_attempt_and_the_first_is_kept_by_the_watch() {
    assert_eq!(attempt(|| ()), Ok(()));
    let failing = || {
        let device = std::thread::spawn(|| panic!("no driver\nwith details"));
        device.join().unwrap();
    };
    assert_eq!(attempt(failing), Err("no driver".into()));

    watch_device();
    let panicking = |name: &str, message: &'static str| {
        let thread = std::thread::Builder::new().name(name.into());
        let handle = thread.spawn(move || panic!("{message}")).unwrap();
        assert!(handle.join().is_err());
    };
    panicking("worker", "of no interest");
    assert!(check().is_ok());
    panicking(
        "DSU-cuda-0",
        "Should run when selected by autotune.\nand more",
    );
    panicking("DSU-cuda-0", "Resource to exist.");
    let message = check().unwrap_err().to_string();
    assert!(
        message.contains("selected by autotune") && message.contains("resume from the latest"),
        "{message}"
    );
}
