"""Processes that do the work: those that answer turn by turn, and those that are run once for each turn."""

import json
import os
import queue
import subprocess
import tempfile
import threading
import time

from cases import NotHere, ROOT, command, generated, result


def last_words(file):
    """What a process said last on standard error."""
    file.seek(0)
    lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "modulenotfound", "importerror", "thread 'main'"))]
    return (errors or lines or ["it said nothing"])[-1][-300:]


class Worker:
    """A process that is loaded once and works when it is told to."""

    def __init__(self, case, side, o, precision=None):
        arguments, environment = command(case, side, o)
        if precision:
            arguments = [precision if before == "--precision" else word for before, word in zip(["", *arguments], arguments)]
        self.limit, self.errors, self.lines = o.limit_s, tempfile.TemporaryFile(), queue.Queue()
        self.process = subprocess.Popen(arguments, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        threading.Thread(target=self.listen, daemon=True).start()
        try:
            self.ready = self.answer()
        except BaseException:
            self.kill()
            raise

    def listen(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def answer(self):
        """The next line it prints."""
        try:
            line = self.lines.get(timeout=self.limit)
        except queue.Empty:
            self.kill()
            raise NotHere(f"no answer within {self.limit:.0f} s (--limit-s)") from None
        if line is None:
            code = self.process.wait()
            said = "killed by signal 9, for memory perhaps" if code == -9 else last_words(self.errors)
            raise NotHere(f"it ended with {code}: {said}")
        return line

    def turn(self):
        """Seconds of each call of a turn."""
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # what it says instead of an answer tells why
        return self.answer()["seconds"]

    def end(self):
        """Its largest memory in MiB."""
        self.process.stdin.close()
        peak = self.answer()["peak_kib"]
        self.process.wait()
        self.errors.close()
        return peak / 1024

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class OneShot:
    """A program that is started anew for each turn; the whole of it counts, or the rate that it prints."""

    def __init__(self, case, side, o):
        self.case, self.side, self.o = case, side, o
        self.arguments, self.environment = command(case, side, o)
        self.peak, self.process = 0.0, None
        self.ready = dict(items=case.items, unit=case.unit)

    def turn(self):
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
            start = time.perf_counter()
            self.process = subprocess.Popen(self.arguments, env=self.environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=errors)
            killer = threading.Timer(self.o.limit_s, self.process.kill)
            killer.start()
            _, status, usage = os.wait4(self.process.pid, 0)
            killer.cancel()
            seconds = time.perf_counter() - start
            code = self.process.returncode = os.waitstatus_to_exitcode(status)
            if code != 0:
                raise NotHere(f"it ended with {code}: {last_words(errors)}")
            said.seek(0)
            if self.case.work == "generate":
                rate, self.peak = generated(said.read().decode())
                return [self.case.items / rate]
        self.peak = max(self.peak, usage.ru_maxrss / 1024)
        metrics = json.loads(result(self.o, self.side).read_text())["metrics"]
        self.ready["acc1"] = metrics["acc1"]
        return [seconds]

    def end(self):
        return self.peak

    def kill(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
