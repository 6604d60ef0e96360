#!/usr/bin/env python3
"""The largest memory of each process that `mpirun` starts: put this before the command.

    mpirun -n 2 bench/dist/peak.py target/release/examples/train --dist mpi ...
"""

import os
import resource
import subprocess
import sys

ended = subprocess.run(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
rank = os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0"))
print(f"rank {rank}: peak {peak / 1024:.0f} MiB", file=sys.stderr)
sys.exit(ended.returncode)
