//! What becomes of the memory of tensors that are gone.

/// Keeps it for the tensors to come, where the allocator is mimalloc ([`crate::MiMalloc`]).
///
/// A training step frees hundreds of tensors of megabytes and asks for as many a moment later. Given back to the system in
/// between, every page is cleared anew: nearly a third of the time of a small model. The price is that a process stays as
/// large as it ever was. `MIMALLOC_PURGE_DELAY`, in milliseconds, still decides where it is set.
#[allow(unsafe_code)]
pub fn keep_freed() {
    // mi_option_purge_delay, which the bindings do not name; its number is the same in versions 2 and 3.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: options may be set at any time; it is a store of a number.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
}

/// The same for memory that LibTorch asks glibc for.
#[cfg(all(feature = "tch", target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn keep_freed_by_torch() {
    // SAFETY: settings of the allocator, made before LibTorch is used.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0); // no mapping of its own for a large tensor
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}
