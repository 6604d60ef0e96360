"""Experiments on the built-in world: arms that differ in one thing, a run of `train` per arm and seed, tables over the seeds.

Every run sees the same images, crops and steps with the same seed. A run that is there is not made again. On two cores two runs at
once, each on one, get most done.
"""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORLD = ["--image-size", "48", "--shapes", "6", "--colours", "6", "--max-objects", "2", "--images", "480"]


def parser(description, steps):
    """The flags that every experiment has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("out", type=Path, help="folder of the runs, OUT/ARM_SEED")
    made.add_argument("--bin", type=Path, default=ROOT / "target/debug/examples", help="folder of the built examples")
    made.add_argument("--backend", default="flex")
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--jobs", type=int, default=2, help="runs at once")
    made.add_argument("--table", action="store_true", help="only the tables, of what is there")
    return made


class Lab:
    """The folder of an experiment, and the programs that fill it."""

    def __init__(self, arguments):
        self.out, self.bin = arguments.out.absolute(), arguments.bin.absolute()
        self.backend, self.steps = arguments.backend, arguments.steps
        self.out.mkdir(parents=True, exist_ok=True)

    def make_data(self, *formats):
        """The test images as `classes`, `retrieval` or `shards`."""
        folders = {"imagenet": "classes", "karpathy": "retrieval", "webdataset": "shards"}
        for format in formats:
            folder = self.out / folders[format]
            if not folder.is_dir():
                self.call(["scenes", "--format", format, "--split", "test", "--out", folder, *WORLD])

    def call(self, command, log=None, cores=None):
        """One of the programs, to its end."""
        command = [str(self.bin / command[0]), *map(str, command[1:])]
        threads = {} if cores is None else {"RAYON_NUM_THREADS": str(cores), "OMP_NUM_THREADS": str(cores)}
        output = log.open("w") if log else None
        subprocess.run(command, check=True, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **threads})

    def done(self, name, seed):
        return (self.out / f"{name}_{seed}" / "report.html").is_file()

    def same_as_before(self, name, settings):
        """Writes down what a run is made by; one that was made by something else is no run of this experiment."""
        path, text = self.out / f"{name}.settings.json", json.dumps(settings, indent=1, default=str)
        if path.is_file() and path.read_text() != text:
            raise ValueError(f"{self.out / name} was made by other settings ({path}); choose another OUT, or remove both")
        path.write_text(text)

    def train(self, name, seed, recipe, settings, retrieval=("captions",)):
        """A run on one core, rated on the test images at its end."""
        run = self.out / f"{name}_{seed}"
        classes = f'dataset = "folder", root = "{self.out}/classes/images", templates = "{self.out}/classes/templates.txt"'
        files = {"captions": "dataset_scenes", "synonym_captions": "dataset_scenes_synonyms", "long_captions": "dataset_scenes_long"}
        sets = [f'{{ name = "{kind}", format = "karpathy", split = "test", images = "{self.out}/retrieval/images", '
                f'annotations = "{self.out}/retrieval/{files[kind]}.json" }}' for kind in retrieval]
        settings = {
            "run.out": run, "run.seed": seed, "run.steps": self.steps, "schedule.warmup": 20, "log.progress": "false",
            "data.loader.workers": 1,
            "validation.zero_shot": f'[{{ name = "web_words", classnames = "{self.out}/classes/classnames_web.txt", {classes} }}, '
                                    f'{{ name = "synonyms", classnames = "{self.out}/classes/classnames.txt", {classes} }}]',
            "validation.retrieval": f"[{', '.join(sets)}]",
            **settings,
        }
        self.same_as_before(run.name, settings)
        if self.done(name, seed):
            return
        flags = [f"--set={key}={value}" for key, value in settings.items()]
        command = ["train", "--recipe", ROOT / recipe, "--backend", self.backend, "--resume", "latest", *flags]
        self.call(command, self.out / f"{name}_{seed}.log", cores=1)
        if not self.done(name, seed): # a signal ends a run in good order
            raise RuntimeError("it was stopped before its end")

    def results(self, name, seeds):
        """Seed → the last validation's metrics in percent, of the runs that are done."""
        found = {}
        for seed in range(seeds):
            path = self.out / f"{name}_{seed}" / "metrics.jsonl"
            if self.done(name, seed):
                entries = map(json.loads, path.read_text().splitlines())
                last = [entry["values"] for entry in entries if entry["kind"] == "validation"][-1]
                found[seed] = {metric: 100 * value for metric, value in last.items()}
        return found


def run_all(tasks, jobs):
    """Calls functions by name, `jobs` at a time, in order; one that fails is named and the others go on."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        names = {pool.submit(task): name for name, task in tasks}
        try:
            for future in as_completed(names):
                name, error = names[future], future.exception()
                print(f"{name}: {'done' if error is None else f'FAILED, see its .log: {error}'}", flush=True)
                failed += [name] if error else []
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return failed


def spread(values, signed=False):
    """Mean ± standard deviation."""
    mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:{'+' if signed else ''}.1f} ± {deviation:.1f}"


def table(first, columns, rows):
    """Markdown: rows of a title and cells."""
    print("| " + " | ".join([first, *columns]) + " |\n|" + "---|" * (1 + len(columns)))
    for title, cells in rows:
        print("| " + " | ".join([title, *cells]) + " |")
    print()
