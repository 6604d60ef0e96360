//! Processes that MPI has started (`mpirun -n 8 …`, `srun …`), as a [`World`].

use dist::{Error, Result, World, part_of};
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes, or floats, of all processes in one call: MPI counts in 31 bits.
const AT_ONCE: usize = 1 << 28;

/// Here from [`start`] to [`leave`].
static UNIVERSE: Mutex<Option<Universe>> = Mutex::new(None);

/// This process among those that `mpirun` or `srun` has started.
#[derive(Debug)]
pub struct Mpi {
    rank: usize,
    size: usize,
    /// Rank on this machine.
    local_rank: usize,
    watch: Arc<Watch>,
}

/// Since when the process has been in a call, in milliseconds since `start` plus one; 0: it is in none.
#[derive(Debug)]
struct Watch {
    start: Instant,
    since: AtomicU64,
    /// Time in calls that are over, in nanoseconds.
    spent: AtomicU64,
}

/// Joins the processes. Where a call takes longer than `patience`, since another process hangs or is gone, this one ends
/// with a message; with none it waits for ever.
///
/// # Errors
///
/// When MPI was started before.
pub fn start(patience: Option<Duration>) -> Result<Mpi> {
    let started = mpi::initialize_with_threading(mpi::Threading::Serialized);
    let (universe, _) =
        started.ok_or_else(|| Error::Transport("MPI has been started before".into()))?;
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let local_rank = world.split_shared(world.rank()).rank() as usize;
    let mut kept = UNIVERSE.lock().unwrap_or_else(PoisonError::into_inner);
    *kept = Some(universe);
    drop(kept);
    let watch = Arc::new(Watch {
        start: Instant::now(),
        since: AtomicU64::new(0),
        spent: AtomicU64::new(0),
    });
    if let Some(patience) = patience {
        let watched = watch.clone();
        std::thread::spawn(move || watched.over(rank, patience));
    }
    let mpi = Mpi {
        rank,
        size,
        local_rank,
        watch,
    };
    mpi.share_cores()?;
    Ok(mpi)
}

/// Leaves the other processes: when all went well together with them; else the whole job ends, as nobody could go on
/// without this process. Does nothing where there are none.
pub fn leave(well: bool) {
    let universe = UNIVERSE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(universe) = universe else { return };
    if well || universe.world().size() == 1 {
        return drop(universe);
    }
    // Where all failed together, the others may still be writing: why, or the checkpoint that was begun.
    let start = Instant::now();
    let mut waiting = universe.world().immediate_barrier();
    while start.elapsed() < LAST_WORDS {
        match waiting.test() {
            Ok(_) => return drop(universe),
            Err(again) => waiting = again,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    universe.world().abort(1)
}

/// How long a process that failed waits for others to fail as well, before it ends them.
const LAST_WORDS: Duration = Duration::from_secs(60);

impl Watch {
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    fn over(&self, rank: usize, patience: Duration) {
        loop {
            std::thread::sleep(Duration::from_millis(200).min(patience / 4));
            let since = self.since.load(Ordering::Relaxed);
            if since > 0 && self.now() - since > patience.as_millis() as u64 {
                eprintln!(
                    "error: replica {rank} has waited {} s for the others: one of them hangs or is gone",
                    patience.as_secs_f32()
                );
                // Not MPI_Abort: the thread that waits holds MPI. The launcher ends the others.
                std::process::exit(1);
            }
        }
    }
}

impl Mpi {
    /// Rank of this process on its machine: the device it takes.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// A call to all processes, under the eyes of the watchdog.
    fn call<T>(&self, make: impl FnOnce(&SimpleCommunicator) -> T) -> T {
        let start = Instant::now();
        self.watch.since.store(self.watch.now(), Ordering::Relaxed);
        let made = make(&SimpleCommunicator::world());
        self.watch.since.store(0, Ordering::Relaxed);
        let spent = start.elapsed().as_nanos() as u64;
        self.watch.spent.fetch_add(spent, Ordering::Relaxed);
        made
    }

    /// Lengths of what all processes give.
    fn lengths(&self, mine: usize) -> Vec<usize> {
        let mut all = vec![0u64; self.size];
        self.call(|world| world.all_gather_into(&(mine as u64), &mut all[..]));
        all.into_iter().map(|length| length as usize).collect()
    }

    fn even(&self, what: &'static str, mine: usize) -> Result<()> {
        let all = self.lengths(mine);
        match all.iter().position(|found| *found != all[0]) {
            None => Ok(()),
            Some(rank) => Err(Error::Uneven {
                rank,
                what,
                found: all[rank],
                expected: all[0],
            }),
        }
    }

    /// Splits cores that several processes on this machine may all use; where the launcher has bound each to its own,
    /// they stay as they are.
    fn share_cores(&self) -> Result<()> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find(|l| l.starts_with("Cpus_allowed_list"));
        let host = mpi::environment::processor_name().unwrap_or_default();
        let mine = format!("{host} {}", allowed.unwrap_or_default());
        let all = self.gather(mine.as_bytes())?;
        let sharing = all
            .iter()
            .filter(|other| **other == mine.as_bytes())
            .count();
        let chosen = std::env::var_os("RAYON_NUM_THREADS").is_some();
        if sharing > 1 && !chosen {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = (cores / sharing).max(1);
            // Whoever has made a pool already has chosen its size.
            let _ = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_global();
        }
        Ok(())
    }
}

/// Where the parts of several processes begin, one after the other.
fn places(counts: &[i32]) -> Vec<i32> {
    let mut place = 0;
    let next = |count: &i32| {
        let start = place;
        place += count;
        start
    };
    counts.iter().map(next).collect()
}

impl World for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn spent(&self) -> Duration {
        Duration::from_nanos(self.watch.spent.load(Ordering::Relaxed))
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let lengths = self.lengths(mine.len());
        let mut all: Vec<Vec<u8>> = lengths.iter().map(|n| Vec::with_capacity(*n)).collect();
        let step = AT_ONCE / self.size;
        let longest = lengths.iter().max().copied().unwrap_or(0);
        for start in (0..longest).step_by(step) {
            let part = |length: usize| length.saturating_sub(start).min(step);
            let counts: Vec<i32> = lengths.iter().map(|n| part(*n) as i32).collect();
            let places = places(&counts);
            let mut round = vec![0u8; counts.iter().sum::<i32>() as usize];
            let from = start.min(mine.len());
            let mine = &mine[from..from + part(mine.len())];
            self.call(|world| {
                let mut into = PartitionMut::new(&mut round[..], &counts[..], &places[..]);
                world.all_gather_varcount_into(mine, &mut into);
            });
            for (bytes, (place, count)) in all.iter_mut().zip(places.iter().zip(&counts)) {
                bytes.extend_from_slice(&round[*place as usize..][..*count as usize]);
            }
        }
        Ok(all)
    }

    fn spread(&self, from: usize, values: &mut [f32]) -> Result<()> {
        self.even("values", values.len())?;
        for part in values.chunks_mut(AT_ONCE) {
            self.call(|world| world.process_at_rank(from as i32).broadcast_into(part));
        }
        Ok(())
    }

    fn all_gather(&self, mine: &[f32]) -> Result<Vec<f32>> {
        self.even("values", mine.len())?;
        let mut all = vec![0.0; mine.len() * self.size];
        let step = AT_ONCE / self.size;
        if mine.len() <= step {
            self.call(|world| world.all_gather_into(mine, &mut all[..]));
            return Ok(all);
        }
        let mut round = vec![0.0; step * self.size];
        for start in (0..mine.len()).step_by(step) {
            let part = &mine[start..mine.len().min(start + step)];
            let round = &mut round[..part.len() * self.size];
            self.call(|world| world.all_gather_into(part, round));
            for (rank, values) in round.chunks_exact(part.len()).enumerate() {
                all[rank * mine.len() + start..][..part.len()].copy_from_slice(values);
            }
        }
        Ok(all)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        self.even("values", values.len())?;
        let mut sums = vec![0.0; values.len().min(AT_ONCE)];
        for part in values.chunks_mut(AT_ONCE) {
            let sums = &mut sums[..part.len()];
            let sum = SystemOperation::sum();
            self.call(|world| world.all_reduce_into(&*part, sums, sum));
            part.copy_from_slice(sums);
        }
        Ok(())
    }

    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>> {
        self.even("values", values.len())?;
        let part = part_of(values.len(), self.size)?;
        if values.len() > AT_ONCE {
            let mut all = values.to_vec();
            self.all_reduce(&mut all)?;
            return Ok(all[self.rank * part..][..part].to_vec());
        }
        let mut mine = vec![0.0; part];
        let sum = SystemOperation::sum();
        self.call(|world| world.reduce_scatter_block_into(values, &mut mine[..], sum));
        Ok(mine)
    }
}
