//! Several processes that work on the same thing.

use super::ComputeArgs;
use anyhow::{Result, bail};
use burn::prelude::Backend;
use clap::{Args, ValueEnum};
use files::Shard;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use train::trainer::collective::Direct;

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
                    "{size} processes were started, but not told to work together: add --dist mpi (or --shard I/N, where the \
                     command has it), or start one without mpirun or srun"
                ),
                None => Ok((Arc::new(dist::Single), 0)),
            },
            Some(Dist::Mpi) => self.mpi(Some(Duration::from_secs(self.dist_timeout))),
        }
    }

    /// Whether this is one of several processes.
    pub fn given(&self) -> bool {
        self.dist.is_some()
    }

    /// Joins the processes for work that is done in shares: this one takes the share of its rank, on the device of its rank.
    ///
    /// # Errors
    ///
    /// Those of [`world`](Self::world); when a share was named as well.
    pub fn join(&self, shard: &mut Option<Shard>, compute: &mut ComputeArgs) -> Result<Shares> {
        match (self.dist, &shard) {
            // Processes that were told their shares need not know of each other.
            (None, Some(_)) => return Ok(Shares(Arc::new(dist::Single))),
            (None, None) => return Ok(Shares(self.world()?.0)),
            (Some(_), Some(shard)) => {
                bail!("--dist mpi and --shard {shard}: the share of a process is that of its rank")
            }
            (Some(Dist::Mpi), None) => {}
        }
        // Without an eye on the clock: who has done a share early waits for those whose shares are larger.
        let (world, local_rank) = self.mpi(None)?;
        let share = Shard::new(world.rank(), world.size()).map_err(anyhow::Error::msg)?;
        *shard = (world.size() > 1).then_some(share);
        compute.backend = compute.backend.of_rank(local_rank);
        Ok(Shares(world))
    }

    #[cfg(feature = "mpi")]
    fn mpi(&self, patience: Option<Duration>) -> Result<(Arc<dyn dist::World>, usize)> {
        let mpi = crate::mpi::start(patience)?;
        let local_rank = mpi.local_rank();
        Ok((Arc::new(mpi), local_rank))
    }

    #[cfg(not(feature = "mpi"))]
    fn mpi(&self, _: Option<Duration>) -> Result<(Arc<dyn dist::World>, usize)> {
        bail!("--dist mpi: this build has no MPI; build with `--features mpi`")
    }
}

/// Processes that each do a share.
pub struct Shares(Arc<dyn dist::World>);

impl Shares {
    /// What becomes of the work once all have done their share: the first process puts them together, if there are several,
    /// and the others wait for it.
    ///
    /// # Errors
    ///
    /// Its own, that of another process, or that of `merge`.
    pub fn then<T: Default>(self, mine: Result<T>, merge: impl FnOnce() -> Result<T>) -> Result<T> {
        let Self(world) = self;
        if world.size() == 1 {
            return mine;
        }
        let together = |result: Result<T>| {
            let words = result.as_ref().err().map(ToString::to_string);
            let heard = world.hear(words.as_deref());
            let done = result?;
            match heard? {
                None => Ok(done),
                Some((rank, words)) => bail!("process {rank} failed: {words}"),
            }
        };
        together(mine)?;
        together(match world.rank() {
            0 => merge(),
            _ => Ok(T::default()),
        })
    }

    /// Removes the shares of a file that were put together, and what lies beside each under a name with this end.
    pub fn remove(whole: &Path, beside: &[&str]) {
        for share in Shard::files(whole).unwrap_or_default() {
            for end in [""].iter().chain(beside) {
                let mut name = share.clone().into_os_string();
                name.push(end);
                // Whoever cannot remove them has them twice, and no less.
                let _ = std::fs::remove_file(name);
            }
        }
    }
}

/// A faster way to the other processes than through host memory, where this build and the device have one.
///
/// # Errors
///
/// When NCCL refuses.
#[allow(unused_variables)]
pub fn direct<B: Backend>(
    world: &Arc<dyn dist::World>,
    device: &B::Device,
) -> Result<Option<Direct>> {
    #[cfg(all(feature = "nccl", not(feature = "fusion")))]
    return Ok(crate::nccl::direct::<B>(world, device)?);
    #[cfg(all(feature = "nccl", feature = "fusion"))]
    if world.size() > 1 && world.rank() == 0 {
        eprintln!("no NCCL in a build with the feature fusion: tensors go through host memory");
    }
    #[cfg(not(all(feature = "nccl", not(feature = "fusion"))))]
    Ok(None)
}

/// Leaves the other processes, together with them or, where something went wrong, in their place too.
pub fn leave(well: bool) {
    #[cfg(feature = "mpi")]
    crate::mpi::leave(well);
    #[cfg(not(feature = "mpi"))]
    let _ = well;
}

/// Number of processes that Open MPI, MPICH or one of its kin has started, or SLURM for one of them, if more than one.
fn started_by_mpi() -> Option<usize> {
    let size = |name: &str| std::env::var(name).ok()?.parse().ok();
    let by_slurm = || {
        std::env::var_os("PMIX_RANK")?;
        size("SLURM_STEP_NUM_TASKS")
    };
    let sizes = [size("OMPI_COMM_WORLD_SIZE"), size("PMI_SIZE"), by_slurm()];
    sizes.into_iter().flatten().find(|size| *size > 1)
}
