# SPDX-License-Identifier: GPL-2.0
"""wsrd's sampling of idle pages, in a guest that is the host: of a process
whose true ages are known."""

import math

import distribution as dist
import vm
from e2e import Skip, check, near

MIB = 1 << 20
INTERVAL_MS = 1000
SAMPLES = 1024
FILE = "/run/idle_ages"
THP = "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled"
GROUP = "/sys/fs/cgroup/cold"
# Each is a mapping, and the times of touches of wsr_bands are one more, which is
# hardly touched.
BANDS = ("48M:0.5", "32M:5", "48M:9:thp", "32M:3:memfd", f"cgroup={GROUP}",
         "24M:never", "20M:never:memfd")
COLD_MIB = 44
RESIDENT_MIB, TIMES_MIB = 160, 16
TOTAL_MIB = RESIDENT_MIB + COLD_MIB + TIMES_MIB
# The smallest one that holds; readings of a busy machine that are less exact do
# not count.
TOLERANCES_MS = (1250, 1500, 2000)
READINGS = 5


def sigmas(part, number=3):
    """What chance does to a part of the memory, in bytes"""
    part = min(max(part, 0), 1)
    return number * math.sqrt(part * (1 - part) / SAMPLES) * TOTAL_MIB * MIB


def parse(text):
    """The numbers, and the histogram's bytes below each bound"""
    numbers, histogram = text.split("\n\n")
    numbers = {name: int(value) for name, value in
               (line.split() for line in numbers.splitlines())}
    return numbers, dist.accumulate(vm.parse_histogram(histogram))


def read(guest, old):
    """The next text, just after it came"""
    return guest.sh(f"until [ -e {FILE} ] && ! grep -qx 'since_ms {old}' "
                    f"{FILE}; do sleep 0.05; done; cat {FILE}", 60)


def check_ages(guest, bands, text, interval_ms):
    """Bytes below each bound are what they were an interval before or later,
    but for the error of so few samples. Returns the largest of the bounds that
    could be checked, and the worst error in bytes."""
    numbers, below = parse(text)
    bounds = [bound for bound in below
              if bound and bound + TOLERANCES_MS[-1] < numbers["since_ms"]]
    if not bounds:
        return 0, 0
    truth = dist.accumulate(bands.truth(*sorted(
        {max(bound + shift, 0) for bound in bounds
         for each in TOLERANCES_MS for shift in (-each, each)})))
    # The truth is a little later than the text.
    uptime_ms = 1000 * float(guest.sh("cat /proc/uptime").split()[0])
    needed_ms = interval_ms + uptime_ms - numbers["time_ms"]
    tolerance_ms = next((each for each in TOLERANCES_MS if each >= needed_ms),
                        None)
    if not tolerance_ms:
        return 0, 0
    worst = 0
    for bound in bounds:
        seen = sum(below[bound])
        least, most = (sum(truth[max(bound + shift, 0)])
                       for shift in (-tolerance_ms, tolerance_ms))
        error = max(least - seen, seen - most, 0)
        worst = max(worst, error)
        allowed = sigmas((seen + error) / TOTAL_MIB / MIB) + MIB
        check(error <= allowed, f"{bound} ms: {seen / MIB:.1f} MiB, not "
              f"{least / MIB:.1f} to {most / MIB:.1f}, in\n{text}")
    return max(bounds), worst


def check_places(numbers):
    """What is in memory, swapped out, and was never touched"""
    for name, mib in (("resident", RESIDENT_MIB), ("swapped", COLD_MIB),
                      ("empty", TIMES_MIB)):
        near(numbers[name] / MIB, mib,
             sigmas(mib / TOTAL_MIB) / MIB + 1, f"{name} MiB")
    check(numbers["untracked"] < 2 * MIB, f"{numbers}")


def test_idle_pages(env):
    guest = env.start("idle-pages", memory="512M", swap="100M")
    if guest.run("[ -e /sys/kernel/mm/page_idle/bitmap ]")[0]:
        raise Skip("the kernel has no idle page tracking")
    guest.sh("echo +memory >/sys/fs/cgroup/cgroup.subtree_control; "
             f"echo madvise >{THP}")
    bands = vm.Bands(guest, *BANDS)
    guest.sh(f"echo {COLD_MIB}M >{GROUP}/memory.reclaim")
    huge = int(guest.sh(f"awk '/^AnonHugePages/ {{ kib += $2 }} END "
                        f"{{ print kib }}' /proc/{bands.pid}/smaps"))
    check(huge >= 32 << 10, f"only {huge} KiB of huge pages")
    guest.background(f"exec idle_ages {bands.pid} {TOTAL_MIB * MIB} "
                     f"{INTERVAL_MS} {FILE}", "ages")
    since, worst, readings = -1, 0, 0
    while readings < READINGS:
        text = read(guest, since)
        numbers, _ = parse(text)
        interval_ms = numbers["since_ms"] - max(since, 0)
        since = numbers["since_ms"]
        check(since < 120000, f"{readings} readings, {numbers}")
        bound, error = check_ages(guest, bands, text, interval_ms)
        worst = max(worst, error)
        readings += bound >= 8000
    check_places(numbers)
    rounds = since // INTERVAL_MS + 1
    bands.quit()
    vm.wait_for(lambda: "error 3" in guest.sh("cat /run/ages.log"), 30,
                "end of sampling with the process")
    env.close_guest("idle-pages")
    return (f"worst error {worst / MIB:.1f} MiB of {TOTAL_MIB}, "
            f"{numbers['cpu_us'] / rounds / 1000:.0f} ms of CPU a round")
