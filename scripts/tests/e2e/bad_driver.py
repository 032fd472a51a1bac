# SPDX-License-Identifier: GPL-2.0
"""A guest whose balloon driver wants to harm QEMU: QEMU takes no notice.

The guest's part is tools/testing/selftests/wsr/bad_driver.c.
"""

import os
import pathlib
import re
import threading
import time

from e2e import check

PCI = "/sys/bus/pci"
PROGRAM = "/kselftest/wsr/bad_driver"

GOOD = ["good", "good-largest", "good-flood"]
# Reports per flood are in the tens of thousands; 26 bytes lost with each would
# be more than this.
GROWTH_BYTES = 512 << 10
# Of a hundred thousand errors only some are logged.
LOG_BYTES = 4096
# QEMU's longest answer while it has tens of thousands of reports to look at, on
# a busy host. It answers after the last one if it does nothing else.
LONGEST_ANSWER_S = 5


class BadDriver:
    """The program, in a guest whose kernel has lost the device."""

    def __init__(self, guest):
        self._guest = guest
        self.log("none")
        self._device = guest.sh(
            "cd /sys/bus/virtio/drivers/virtio_balloon && "
            "basename $(readlink -f virtio*/..)").strip()

    def log(self, what):
        """What QEMU logs of the guest's mistakes; it always logs some."""
        self._guest.qmp.command("human-monitor-command",
                                **{"command-line": f"log {what}"})

    def __enter__(self):
        self._guest.sh(f"echo {self._device} >{PCI}/drivers/virtio-pci/unbind")
        return self

    def __exit__(self, *exception):
        if self._guest.alive():
            self._guest.sh(
                f"echo {self._device} >{PCI}/drivers/virtio-pci/bind")

    def cases(self):
        """The names of those that send nothing good."""
        names = self._guest.sh(f"{PROGRAM} -l").split()
        return [name for name in names if name not in GOOD]

    def run(self, case):
        status, output = self._guest.run(
            f"{PROGRAM} {PCI}/devices/{self._device} {case}", 300)
        check(status == 0, f"bad_driver {case}: status {status}\n{output}")


def heap_bytes(guest):
    """The heap of QEMU's main thread, which handles the queue.

    Not what TCG's threads have elsewhere: translated code, in huge pages, and
    TLBs. A TLB doubles, up to 128 MiB, if QEMU's count of its used entries is
    below 0 when it is flushed. QEMU 10.0 and 10.2 subtract twice
    (tlb_flush_vtlb_page_mask_locked()) when a page of registers had to give way
    to another page in the TLB and is read again; a guest that waits and looks
    at the HPET does this hundreds of thousands of times.
    """
    smaps = pathlib.Path(f"/proc/{guest.process.pid}/smaps").read_text()
    return int(re.search(r"\[heap\]\n(?:.*\n)*?Rss:\s+(\d+) kB",
                         smaps).group(1)) << 10


def longest_answer(guest, action):
    """Seconds that QEMU needs at most for a QMP command during an action."""
    failures = []

    def run():
        try:
            action()
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    thread = threading.Thread(target=run)
    longest = 0
    thread.start()
    while thread.is_alive():
        began = time.monotonic()
        guest.qmp.command("query-status", timeout=120)
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    thread.join()
    if failures:
        raise failures[0]
    return longest


def start(env):
    memory = "256M"
    return env.start(
        "bad-driver", memory=memory,
        extra=("-object", f"memory-backend-memfd,id=ram,size={memory}",
               "-machine", "memory-backend=ram"))


def check_works(guest):
    # QEMU names the device when it has stopped an abuse.
    os.truncate(guest.qemu_log_path, 0)
    check(guest.request_report()["status"] == "ok",
          "no report of the kernel's driver afterwards")
    guest.check_logs()


def test_bad_reports_and_queues_change_nothing(env):
    guest = start(env)
    try:
        config = guest.get("guest-working-set-config")
        with BadDriver(guest) as driver:
            driver.run("good")
            before = guest.get("guest-working-set")
            check(before["report"]["sequence"] == 1 and
                  len(before["report"]["nodes"]) == 2,
                  f"a good report did not arrive: {before}")
            mark = guest.qmp.mark()
            cases = driver.cases()
            for case in cases:
                driver.run(case)
                after = guest.get("guest-working-set")
                after["active"] = before["active"]
                check(after == before, f"{case} was believed: {after}")
                check(guest.get("guest-working-set-config") == config,
                      f"{case} changed the settings")
            events = guest.qmp.events_since(mark, "BALLOON_WORKING_SET")
            check(not events, f"events: {events}")
        check_works(guest)
    finally:
        env.close_guest("bad-driver")
    return f"{len(cases)} cases"


def test_floods_are_bounded(env):
    """QEMU's time, memory, and log, which here has the errors of the guest."""
    guest = start(env)
    longest = growth = 0
    try:
        with BadDriver(guest) as driver:
            driver.log("guest_errors")
            for case in ("flood", "flood-longest", "endless", "good-flood"):
                driver.run(case)
                # Other work can make it grow once; a leak is there each time.
                grown = []
                for _ in range(2):
                    before = heap_bytes(guest)
                    longest = max(longest, longest_answer(
                        guest, lambda case=case: driver.run(case)))
                    grown.append(heap_bytes(guest) - before)
                growth = max(growth, min(grown))
                check(growth < GROWTH_BYTES,
                      f"{case}: QEMU's heap grows by {growth >> 10} KiB")
            check(longest < LONGEST_ANSWER_S,
                  f"QEMU did not answer for {longest:.1f} s")
            logged = guest.qemu_log_path.stat().st_size
            check(0 < logged < LOG_BYTES, f"{logged} bytes in QEMU's log")
            driver.log("none")

            driver.run("good-largest")
            nodes = guest.get("guest-working-set")["report"]["nodes"]
            check(len(nodes) == 128 and len(nodes[127]["bins"]) == 16,
                  f"the largest report has {len(nodes)} nodes")
        check_works(guest)
    finally:
        env.close_guest("bad-driver")
    return (f"answers within {longest:.2f} s, heap growth "
            f"{growth >> 10} KiB, {logged} bytes of log")
