//! Faults of the device that burn does not report: seen here, turned into errors by [`crate::trainer::sound`].
//!
//! GPU backends of burn run kernels on threads of their own; a panic there is caught and logged, the output
//! stays unwritten and training would go on with garbage. Panic hooks run before the catch.

use std::sync::{Mutex, Once, PoisonError};

static FIRST: Mutex<Option<Fault>> = Mutex::new(None);

/// Why the device can no longer be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no room for a tensor.
    OutOfMemory {
        /// Bytes of the tensor, where the device said so.
        bytes: Option<u64>,
    },
    /// A kernel could not be made or run.
    Kernel {
        /// Name of the kernel, where the message had one.
        name: Option<String>,
        /// First line of the message.
        reason: String,
    },
}

/// Makes panics of device threads visible to [`device_fault`]. Call it first in `main`.
///
/// Only the first such panic is printed: all that depends on its output fails as well.
pub fn watch_device() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !on_device_thread() {
                if let Some(fault) = device_fault() {
                    eprintln!("earlier, {fault}");
                }
                return previous(info);
            }
            let message = info.payload_as_str().unwrap_or("no message");
            if note(Fault::from_message(message)) {
                previous(info);
            }
        }));
    });
}

/// Does something that panics where a device cannot be used, on whatever thread, and prints nothing.
///
/// # Errors
///
/// The first line of the first panic.
pub fn attempt(work: impl FnOnce() + std::panic::UnwindSafe) -> Result<(), String> {
    static SAID: Mutex<Option<String>> = Mutex::new(None);
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        said.get_or_insert_with(|| message.lines().next().unwrap_or_default().to_string());
    }));
    let outcome = std::panic::catch_unwind(work);
    std::panic::set_hook(previous);
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner).take();
    match outcome {
        Ok(()) => Ok(()),
        Err(_) => Err(said.unwrap_or_else(|| "no message".into())),
    }
}

/// The first fault since [`watch_device`].
pub fn device_fault() -> Option<Fault> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps an error that the device returned, unless an earlier fault explains it.
pub(crate) fn note_error(error: impl std::fmt::Debug) {
    note(Fault::from_message(&format!("{error:?}")));
}

/// Keeps the first fault; whether this is it.
fn note(fault: Fault) -> bool {
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    let new = first.is_none();
    first.get_or_insert(fault);
    new
}

/// burn names the threads that drive a device so.
fn on_device_thread() -> bool {
    let thread = std::thread::current();
    thread
        .name()
        .is_some_and(|name| name.starts_with("DSU-") || name.starts_with("DSD-"))
}

impl Fault {
    /// Understands the messages of burn's GPU runtimes.
    pub(crate) fn from_message(message: &str) -> Self {
        let number_after = |words: &str| {
            let (_, rest) = message.split_once(words)?;
            let digits = rest.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit());
            digits[..end.unwrap_or(digits.len())].parse().ok()
        };
        let too_big = "allocate buffer of size:";
        let lower = message.to_lowercase();
        let full = [
            "buffertoobig",
            "out of memory",
            "out-of-memory",
            "out_of_memory",
        ];
        if message.contains(too_big) || full.iter().any(|words| lower.contains(words)) {
            return Self::OutOfMemory {
                bytes: number_after(too_big).or_else(|| number_after("size:")),
            };
        }
        let first_line = message.lines().find(|line| !line.trim().is_empty());
        Self::Kernel {
            name: kernel_name(message),
            reason: first_line.unwrap_or("no message").trim().to_string(),
        }
    }
}

/// The kernel whose source a compiler's message quotes.
fn kernel_name(message: &str) -> Option<String> {
    let after = |words: &str| message.split_once(words).map(|(_, rest)| rest);
    let name = after("__global__ void").or_else(|| after("\nfn "))?;
    let name = name.trim_start().trim_start_matches("__launch_bounds__");
    let name = match name.strip_prefix('(') {
        Some(bounds) => bounds.split_once(')')?.1.trim_start(),
        None => name,
    };
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (end > 0).then(|| name[..end].to_string())
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutOfMemory { bytes: None } => f.write_str("the device ran out of memory"),
            Self::OutOfMemory { bytes: Some(bytes) } => write!(
                f,
                "the device ran out of memory: it has no room for a tensor of {:.1} MiB",
                *bytes as f64 / f64::from(1 << 20)
            ),
            Self::Kernel { name: None, reason } => write!(f, "a kernel failed: {reason}"),
            Self::Kernel {
                name: Some(name),
                reason,
            } => write!(f, "the kernel {name} failed: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_compile_is_named() {
        let cuda = "[Compilation Error]\n  error: x\n[Source]\nextern \"C\" __global__ void \
                    __launch_bounds__(256) reduce_kernel(\n";
        let fault = Fault::from_message(cuda);
        assert_eq!(
            fault.to_string(),
            "the kernel reduce_kernel failed: [Compilation Error]"
        );
        let selected = Fault::from_message("Should run when selected by autotune.");
        assert!(selected.to_string().contains("selected by autotune"));
    }
}
