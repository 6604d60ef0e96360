//! What processes, or threads, that work on the same thing tell each other, in host memory.
//!
//! [`World`] is the whole language: gather, sum, agree. [`Single`] is alone, [`Threads`] are replicas in one process; MPI is
//! the facade's (feature `mpi`), so that nobody has to link it who does not start it.

mod error;
mod threads;
mod world;

pub use error::{Error, Result};
pub use threads::Threads;
pub use world::{Flags, Single, World, part_of};
