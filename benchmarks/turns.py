"""Programs that are measured against each other: each in its own process, one step at a time.

The worker makes itself ready, then takes one step for each line that it reads and answers with one
line of JSON. So two programs share a run, and whatever else the machine does hits both alike.
"""

import json
import os
import resource
import subprocess
import sys
import time

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # fewer page faults, for whoever asks


def serve(prepare) -> None:
    """Is a worker: `prepare()` gives what takes a step, and facts for the first answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    start, cpu = time.perf_counter(), time.process_time()
    step, facts = prepare()
    first = {"ready_s": time.perf_counter() - start, "ready_cpu_s": time.process_time() - cpu}
    print(json.dumps(facts | first | {"peak_mb": peak_mb()}), file=answers, flush=True)
    for _ in sys.stdin:
        start, cpu, kernel = time.perf_counter(), time.process_time(), os.times().system
        step()
        took = {"s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
        took |= {"system_s": os.times().system - kernel, "peak_mb": peak_mb()}
        print(json.dumps(took), file=answers, flush=True)


def peak_mb() -> float:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best_rate(run, work: float, repeats: int = 4) -> float:
    """Work done in a second of process CPU time, in the best of some repeats."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return work / min(seconds)


def take(workers: dict[str, "Worker"], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Lets all take a step in turn, so often, and then end; returns what each answered."""
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            answers[name].append(worker.step())
    for worker in workers.values():
        worker.close()
    return answers


class Worker:
    """A program in its own process, on one core, that waits for its turn."""

    def __init__(self, command: list[str], core: int, environment: dict[str, str]):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        os.sched_setaffinity(self.process.pid, {core})  # threads that it starts come with it
        self.facts = self._answer()

    def step(self) -> dict[str, float]:
        """Lets it take a step; returns its seconds, its CPU seconds and its peak memory."""
        print(file=self.process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Lets it end."""
        self.process.stdin.close()
        self.process.wait(60)

    def _answer(self) -> dict[str, float]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended with code {self.process.wait()}")
        return json.loads(line)
