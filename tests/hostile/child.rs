//! The process in which files are made and read.

use crate::said::Said;
use crate::{Dice, TARGETS};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The system's allocator, which counts what is alive and ends the process beyond a limit.
pub struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

fn count(bytes: usize) {
    let live = LIVE
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes);
    if live > LIMIT.load(Ordering::Relaxed) {
        LIMIT.store(usize::MAX, Ordering::Relaxed); // what follows allocates
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        let ours = trace.lines();
        let ours = ours.filter(|line| line.contains("src/") && !line.contains("/rustc/"));
        let ours: Vec<_> = ours.map(str::trim).take(12).collect();
        tell(&format!(
            "failed {bytes} bytes beyond the limit of memory\n  {}",
            ours.join("\n  ")
        ));
        std::process::abort();
    }
}

// SAFETY: all is the system's; beside it numbers are counted.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Names of what the parent tells its child.
pub const TARGET: &str = "HOSTILE_TARGET";
pub const FOLDER: &str = "HOSTILE_FOLDER";
/// Begins each line for the parent; the others are the test harness's.
pub const MARK: &str = "@";

/// One line, the breaks in it escaped.
fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n{MARK}{}", text.escape_debug());
    let _ = out.flush();
}

/// Reads seeds, one a line, and answers each.
pub fn serve() {
    let Ok(name) = std::env::var(TARGET) else {
        return;
    };
    let folder = PathBuf::from(std::env::var(FOLDER).expect("a folder for the files"));
    let target = TARGETS.iter().find(|(target, ..)| *target == name);
    let &(_, attack, limit) = target.expect("a target of this program");
    static PANIC: Mutex<String> = Mutex::new(String::new());
    std::panic::set_hook(Box::new(|info| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    for line in std::io::stdin().lock().lines() {
        let seed = line.expect("a line").parse().expect("a seed");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for the files");
        let mut said = Said::new(&folder);
        LIMIT.store(LIVE.load(Ordering::Relaxed) + limit, Ordering::Relaxed);
        let ended = catch_unwind(AssertUnwindSafe(|| attack(&mut Dice::new(seed), &mut said)));
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        let half = half_written(&folder);
        match (ended, said.nameless.first(), half) {
            (Err(_), ..) => {
                let what = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tell(&format!("failed {what}"));
            }
            (_, Some(error), _) => tell(&format!("failed no file is named by: {error:.300}")),
            (.., Some(path)) => tell(&format!("failed half-written: {}", path.display())),
            _ => tell(&format!("ok {}", said.refusals.join("\t"))),
        }
    }
}

/// What a writer gave up and left behind.
fn half_written(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries.map(|entry| entry.path()).find_map(|path| {
        let partial = path.extension().is_some_and(|end| end == "partial");
        match path.is_dir() && !path.is_symlink() {
            true => half_written(&path),
            false => partial.then_some(path),
        }
    })
}
