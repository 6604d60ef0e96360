//! Settings of burn's GPU runtime: kernels are compiled and tuned once per user, not once per process and folder.

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use std::path::PathBuf;
use std::sync::Arc;

/// burn's own number, which stands for "not set".
const DEFAULT_STREAMS: u8 = 128;

/// Fills what a `burn.toml` or `cubecl.toml` in the working directory or above leaves open. Does nothing once a device
/// is in use.
pub fn configure() {
    let mut slot = CubeClRuntimeConfig::storage().lock();
    if slot.is_some() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if let Some(folder) = folder() {
        let cache = || CacheConfig::File(folder.clone());
        config.compilation.cache.get_or_insert_with(cache);
        if matches!(config.autotune.cache, CacheConfig::Target) {
            config.autotune.cache = cache();
        }
    }
    // Every stream has a memory pool of its own, and all our work on a device is done by one thread.
    if config.streaming.max_streams == DEFAULT_STREAMS {
        config.streaming.max_streams = 1;
    }
    *slot = Some(Arc::new(config));
}

/// `clip-burn/kernels` in the user's cache directory.
fn folder() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let cache = match set {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir()?.join(".cache"),
    };
    Some(cache.join("clip-burn/kernels"))
}
