#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What wsrd costs with many guests, and whether it survives being killed.

usage: load_wsrd.py DIRECTORY [--guests N] [--seconds N] [--scrapes SECONDS]
                    [--kills N]

  peers  N guests that report once in a second: CPU time, memory, and the time
         from a report that means pressure to the new target. With --scrapes,
         wsrd keeps a history and another process fetches /metrics, both so
         often
  kills  kill -9 at random instants while the guests' needs change: no guest
         ends below its min, no limit is forgotten, and the next wsrd is up
         within a second

Prints a table. The exit status says whether all was within the limits.
"""
import argparse
import contextlib
import http.client
import multiprocessing
import pathlib
import random
import socket
import sys
import tempfile
import time

import fleet as fleets
import test_wsrd
from test_wsrd import Daemon, wait_for

MIB = fleets.MIB
MAX_CPU = 5.0       # percent of a core
MAX_RSS_MIB = 64
MAX_P99_MS = 100
MAX_RESTART_S = 1.0
PRESSURES = 200
MIN = 300 * MIB


def cpu_s(pid):
    """CPU time of a process so far"""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def rss_mib(pid):
    """Memory of a process"""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


def percentile(values, part):
    """Of a list of numbers"""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def fetch(port, interval, end, results):
    """In a process of its own: scrapes as Prometheus does, until it is told to
    end. Puts (start, time, bytes) of each into a queue."""
    due = time.monotonic()
    while not end.wait(max(due - time.monotonic(), 0)):
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics", headers={
                "Accept": "application/openmetrics-text"})
            text = connection.getresponse().read()
        if not text.endswith(b"# EOF\n"):
            raise ValueError("this is not all of it")
        results.put((start, time.monotonic() - start, len(text)))
        due += interval


class Scrapes:
    """Somebody who fetches /metrics, None: nobody"""

    def __init__(self, interval):
        self.interval = interval
        self.done = []
        if interval is None:
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # Not a fork: the guests are a thread of this process.
        context = multiprocessing.get_context("spawn")
        self.end = context.Event()
        self.results = context.Queue()
        self.process = context.Process(target=fetch, args=(
            self.port, interval, self.end, self.results))

    def settings(self, directory):
        """Of wsrd"""
        if self.interval is None:
            return {}
        return {"http": f"127.0.0.1:{self.port}",
                "history": pathlib.Path(directory) / "history",
                "history-interval": f"{max(round(1000 * self.interval), 1000)}ms"}

    def start(self):
        """From now on"""
        if self.interval is not None:
            self.process.start()

    def stop(self):
        """No more of them"""
        if self.interval is None or self.process.pid is None:
            return
        self.end.set()
        self.process.join(60)
        while not self.results.empty():
            self.done.append(self.results.get())
        assert self.process.exitcode == 0 and self.done, "no scrapes"

    def rows(self):
        """Lines of the table"""
        if not self.done:
            return
        times = [1000 * duration for _, duration, _ in self.done]
        row(f"scrape of {self.done[-1][2] / 1e6:.1f} MB, median of "
            f"{len(times)}, ms", f"{percentile(times, .5):.1f}", "", True)
        row("scrape, longest, ms", f"{max(times):.1f}", "", True)


def row(what, value, limit, good):
    """One line of the table"""
    print(f"{what:<52} {value:>12} {limit:>12}  {'ok' if good else 'MISSED'}",
          flush=True)
    return good


def peers(nr, seconds, scrapes):
    """CPU, memory and latency with nr guests"""
    with tempfile.TemporaryDirectory(prefix="wsrd-load-") as directory, \
            fleets.Fleet(directory, nr, interval=1.0) as guests:
        daemon = Daemon(directory, {
            "host": {"memory": f"{nr}G", **scrapes.settings(directory)},
            "policy": {"grace": "1ms", "smooth-up": "1ms", "buffer": "10%"},
            "reports": {"interval": "10s"}})
        try:
            wait_for(lambda: sum("report-age-s" in vm for vm in
                                 daemon.ask("status")["vms"]) == nr,
                     "report of each guest", 120)
            scrapes.start()
            time.sleep(5)
            before, start = cpu_s(daemon.process.pid), time.monotonic()
            time.sleep(seconds)
            share = 100 * (cpu_s(daemon.process.pid) - before) / \
                (time.monotonic() - start)
            rss = rss_mib(daemon.process.pid)
            latency = pressures(guests)
        finally:
            scrapes.stop()
            daemon.kill()
    print(f"\n{nr} guests, each with a report per second" + (
        "" if scrapes.interval is None else
        f"; history and a scrape every {scrapes.interval:g} s"))
    scrapes.rows()
    good = row("CPU, % of a core", f"{share:.1f}", f"{MAX_CPU:.0f}",
               share <= MAX_CPU)
    good &= row("memory, MiB", f"{rss:.1f}", f"{MAX_RSS_MIB}",
                rss <= MAX_RSS_MIB)
    row("pressure to target sent, p50, ms", f"{percentile(latency, .5):.1f}",
        "", True)
    p99 = percentile(latency, .99)
    return good & row("pressure to target sent, p99, ms", f"{p99:.1f}",
                      f"{MAX_P99_MS}", p99 < MAX_P99_MS)


def pressures(guests):
    """Times from a guest's report to the command that it gets"""
    latency = []
    for number in range(PRESSURES):
        guest = guests[f"vm{number % len(guests.guests)}"]
        wait_for(lambda: guest.actual < guest.size and
                 guest.actual == guest.target, "shrunk guest", 120)
        seen = len(guest.commands)
        start = time.monotonic()
        guest.hot = guest.actual
        guest.refaulted += 500 * MIB
        guest.report()
        wait_for(lambda: any(name == "balloon" for _, name, _ in
                             guest.commands[seen:]), "answer to pressure", 10)
        latency.append(1000 * (min(
            when for when, name, _ in guest.commands[seen:]
            if name == "balloon") - start))
        guest.hot = 256 * MIB
    return latency


def kills(nr):
    """Ends wsrd nr times when it does not expect it."""
    random.seed(1)
    restarts, below, lost = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="wsrd-load-") as directory, \
            fleets.Fleet(directory, 20, interval=0.2) as guests:
        daemon = Daemon(directory, {
            "host": {"memory": "12G"},
            "policy": {"grace": "1ms", "shrink-rate": "20%",
                       "shrink-block": "1s", "grow-block": "1s"},
            "defaults": {"min": f"{MIN >> 20}M"},
            "reports": {"interval": "500ms"}})
        for _ in range(nr):
            for guest in guests.guests.values():
                if random.random() < 0.2:
                    guest.hot = random.randrange(64, 900) * MIB
            time.sleep(random.random())
            daemon.kill()
            before = sum(guest.target for guest in guests.guests.values())
            start = time.monotonic()
            daemon.start()
            restarts.append(time.monotonic() - start)
            # A limit would be lost if it started from what it does not know.
            wait_for(lambda: sum("report-age-s" in vm for vm in
                                 daemon.ask("status")["vms"]) == 20, "reports")
            after = sum(guest.target for guest in guests.guests.values())
            lost += after > max(before, 12 << 30) + (1 << 30)
            below += sum(value < MIN for guest in guests.guests.values()
                         for _, value in guest.balloon_commands())
        daemon.kill()
    print(f"\n{nr} times kill -9")
    good = row("targets below the min", f"{below}", "0", not below)
    good &= row("limits lost", f"{lost}", "0", not lost)
    return good & row("longest time until wsrd answers again, s",
                      f"{max(restarts):.2f}", f"{MAX_RESTART_S}",
                      max(restarts) < MAX_RESTART_S)


def main():
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--scrapes", type=float, metavar="SECONDS")
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args()
    test_wsrd.PROGRAMS = options.directory.resolve()
    good = True
    if options.guests:
        good &= peers(options.guests, options.seconds,
                      Scrapes(options.scrapes))
    if options.kills:
        good &= kills(options.kills)
    sys.exit(not good)


if __name__ == "__main__":
    main()
