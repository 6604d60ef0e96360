//! Several processes that work on the same thing.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use std::sync::Arc;

/// How the processes find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dist {
    /// By MPI: started by `mpirun -n N` or `srun`
    Mpi,
}

/// Which other processes there are.
#[derive(Clone, Debug, Args)]
pub struct DistArgs {
    /// One of several processes, started by `mpirun -n N` or `srun`; each takes the device of its rank on the machine
    #[arg(long, value_enum)]
    dist: Option<Dist>,
    /// With --dist: seconds that a process waits for the others before it takes one of them for lost
    #[arg(long, default_value_t = 600, requires = "dist", value_parser = clap::value_parser!(u64).range(1..))]
    #[cfg_attr(not(feature = "mpi"), allow(dead_code))]
    dist_timeout: u64,
}

impl DistArgs {
    /// All processes, and the rank of this one on its machine.
    ///
    /// # Errors
    ///
    /// When this build has no MPI; when several processes were started that do not know of each other.
    pub fn world(&self) -> Result<(Arc<dyn dist::World>, usize)> {
        match self.dist {
            None => match started_by_mpi() {
                Some(size) => bail!(
                    "{size} processes were started, but not told to work together: add --dist mpi, or start one without \
                     mpirun or srun"
                ),
                None => Ok((Arc::new(dist::Single), 0)),
            },
            Some(Dist::Mpi) => self.mpi(),
        }
    }

    #[cfg(feature = "mpi")]
    fn mpi(&self) -> Result<(Arc<dyn dist::World>, usize)> {
        let patience = std::time::Duration::from_secs(self.dist_timeout);
        let mpi = crate::mpi::start(patience)?;
        let local_rank = mpi.local_rank();
        Ok((Arc::new(mpi), local_rank))
    }

    #[cfg(not(feature = "mpi"))]
    fn mpi(&self) -> Result<(Arc<dyn dist::World>, usize)> {
        bail!("--dist mpi: this build has no MPI; build with `--features mpi`")
    }
}

/// Leaves the other processes, together with them or, where something went wrong, in their place too.
pub fn leave(well: bool) {
    #[cfg(feature = "mpi")]
    crate::mpi::leave(well);
    #[cfg(not(feature = "mpi"))]
    let _ = well;
}

/// Number of processes that Open MPI, MPICH or one of its kin has started, if more than one.
fn started_by_mpi() -> Option<usize> {
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]
        .iter()
        .filter_map(|name| std::env::var(name).ok()?.parse().ok())
        .find(|size| *size > 1)
}
