//! One thread at a time, for what burn keeps once per process.
//!
//! That is the random generator of a device, and the graphs of burn-autodiff. Of these, 0.21 loses nodes when one thread
//! goes backwards while another builds: whoever goes backwards sweeps the graphs of all threads for nodes that no tensor
//! refers to, and `Tensor::cat` lets go of its inputs before its output is entered. A leaf that has been in two merges is
//! looked up in the graph of the first (`GraphLocator::merge_two` does not list the origin of what it merges), so those inputs
//! can stand alone in it, and the sweep takes them: the leaf's gradient is too small, without a word.

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

/// While the result lives, other threads wait that ask for the same. A thread may ask again.
///
/// Never hold it across a collective: the replica that is waited for may need it.
pub(crate) fn alone() -> ReentrantMutexGuard<'static, ()> {
    static TURN: ReentrantMutex<()> = ReentrantMutex::new(());
    TURN.lock()
}
