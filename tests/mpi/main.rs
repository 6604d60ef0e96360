//! Training by several processes that Open MPI starts. The examples must have been built with the feature `mpi`.

#[allow(dead_code)]
#[path = "../commands/command.rs"]
mod command;
mod launch;

mod faults;
mod parity;
mod shares;
mod validation;
