# SPDX-License-Identifier: GPL-2.0
"""A balloon device that lies, floods, stalls and vanishes: the guest goes on.

The device is Balloon, in this process; QEMU passes on to it what the guest's
driver does. After each kind of abuse the driver is bound again and has to work.
"""

import dataclasses
import itertools
import os
import random
import struct
import threading
import time

import vhost_user
from e2e import check
from e2e.churn import UNRELATED, check_kmemleak, slab_objects
from vm import wait_for

F_WORKING_SET = 1 << 9
F_RECLAIM = 1 << 10
F_STATS_VQ = 1 << 1
F_ALL_QUEUES = F_STATS_VQ | 1 << 3 | 1 << 4 | 1 << 5
CONFIG_BYTES = 112

U16_MAX = 0xffff
U32_MAX = 0xffffffff
U64_MAX = 0xffffffffffffffff
OK, UNSUPPORTED, TRY_LATER = range(3)
GOOD_BOUNDS = (1000, 5000, 15000)
GOOD_RECLAIM = {"reclaim_idle_ms": 1000, "reclaim_bytes": 1 << 20}

MEMORY = "512M"
DRIVER = "/sys/bus/virtio/drivers/virtio_balloon"
# Emulated guests with a debug kernel are slow; what hangs does so for ever.
PATIENCE_S = 120
BOOT_S = 240
REBIND_S = 30
# Times that a report is taken away from the device, between two counts
CYCLES = 100


@dataclasses.dataclass(frozen=True)
class Settings:
    """The configuration space; see Documentation/virtio/working-set.rst."""
    cmd_id: int = 0
    report_ms: int = 0
    refresh_ms: int = 1000
    bounds: tuple = GOOD_BOUNDS
    nr_bins: int = None  # None: as many as there are bounds, and one
    reclaim_id: int = 0
    reclaim_idle_ms: int = 0
    reclaim_node: int = U16_MAX
    reclaim_bytes: int = 0

    def pack(self):
        nr_bins = len(self.bounds) + 1 if self.nr_bins is None else self.nr_bins
        return bytes(16) + struct.pack(
            "<IIIB3x15IIIHHQ", self.cmd_id, self.report_ms, self.refresh_ms,
            nr_bins, *(self.bounds + 15 * (0,))[:15], self.reclaim_id,
            self.reclaim_idle_ms, self.reclaim_node, 0, self.reclaim_bytes)


class Report:
    """The single record that a guest with one node sends."""

    HEADER = struct.Struct("<IHHHHIQQQQQQQQIHHQ")
    BIN = struct.Struct("<QQQ")

    def __init__(self, data):
        (self.cmd_id, self.node, nr_bins, self.status, self.flags, self.age_ms,
         self.sequence, self.total, free, unevictable, kernel, _, _, _,
         self.reclaim_id, self.reclaim_status, _, self.reclaimed_bytes
         ) = self.HEADER.unpack_from(data)
        check(len(data) == self.HEADER.size + nr_bins * self.BIN.size,
              f"{len(data)} bytes with {nr_bins} bins: {data.hex()}")
        bins = list(self.BIN.iter_unpack(data[self.HEADER.size:]))
        self.bounds = tuple(bound for bound, _, _ in bins[:-1])
        self.sum = free + unevictable + kernel + sum(
            swap + file for _, swap, file in bins)

    def check_good(self, bounds):
        check(self.status == OK and self.bounds == bounds and self.total and
              abs(self.sum - self.total) < self.total / 100,
              f"no good report with bounds {bounds}: {vars(self)}")

    def check_unsupported(self, why):
        check(self.status == UNSUPPORTED and self.node == U16_MAX and
              not self.bounds and not self.total,
              f"{why} was accepted: {vars(self)}")


class Balloon(vhost_user.Device):
    """A balloon with working set reporting. It behaves well but for what a test
    puts in the place of its methods."""

    def __init__(self, features=F_WORKING_SET | F_RECLAIM |
                 vhost_user.VIRTIO_F_VERSION_1, nr_queues=3):
        self.features = features
        self.nr_queues = nr_queues
        self.settings = Settings()
        self.reports = []
        self.reads = 0

    def behave(self):
        """Forgets what a test has put there."""
        for name in ("on_read", "on_report"):
            vars(self).pop(name, None)

    def on_read(self):
        """Returns what the driver reads."""
        return self.settings.pack()

    def on_report(self, queue, buffer):
        """Does something with the buffer of a report."""
        queue.use(buffer.head)

    def read_config(self, size):
        self.reads += 1
        return self.on_read()[:size].ljust(size, b"\0")

    def kicked(self, queue):
        # Ours is the last queue; what is in the others stays there.
        if queue.index != self.nr_queues - 1:
            return
        while queue.running and (buffer := queue.pop()):
            self.reports.append(Report(buffer.data))
            self.on_report(queue, buffer)

    def properties(self, queue_size=32, config_size=CONFIG_BYTES):
        return (f"virtio-id=5,num_vqs={self.nr_queues},vq_size={queue_size},"
                f"config_size={config_size}")


class Storm:
    """Calls a function all the time, in a thread of its own."""

    def __init__(self, function):
        self._function = function
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.calls = 0

    def _run(self):
        while not self._stop.is_set():
            self._function()
            self.calls += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()


def start(env, *devices):
    """A guest with these balloons: (name, properties) of each."""
    return env.start(
        "bad-device", memory=MEMORY, balloon=None, boot_timeout=BOOT_S,
        append="kunit.enable=0",
        extra=vhost_user.qemu_arguments("ram", MEMORY, *devices))


class Rig:
    """A guest with such a balloon."""

    numbers = itertools.count()

    def __init__(self, env, balloon):
        self.balloon = balloon
        self._ids = itertools.count(1)
        name = f"wsr-{os.getpid()}-{next(self.numbers)}"
        self.backend = vhost_user.Backend(name, balloon)
        self.guest = start(env, (name, balloon.properties()))
        self.device = self.guest.sh(f"cd {DRIVER} && echo virtio*").strip()

    def set(self, **fields):
        self.balloon.settings = Settings(**fields)
        self.backend.config_changed()

    def wait_report(self, condition, what):
        """The first report from now on for which the condition holds."""
        def found():
            if self.backend.failure:
                raise AssertionError(f"the device: {self.backend.failure!r}")
            return next(filter(condition, self.balloon.reports), None)

        return wait_for(found, PATIENCE_S, what, interval=0.01)

    def ask(self, **fields):
        """Asks for a report with these settings and returns it."""
        self.balloon.reports.clear()
        request = next(self._ids)
        self.set(cmd_id=request, **fields)
        return self.wait_report(lambda report: report.cmd_id == request,
                                f"a report with {fields}")

    def rebind(self):
        """Binds the driver again, to a device that wants no reports yet."""
        self.balloon.settings = Settings()
        began = time.monotonic()
        self.guest.sh(f"cd {DRIVER} && echo {self.device} >unbind && "
                      f"echo {self.device} >bind", PATIENCE_S)
        took = time.monotonic() - began
        check(took < REBIND_S, f"binding the driver again took {took:.0f} s")

    def recover(self):
        """The device behaves again: so does the driver, bound again."""
        self.balloon.behave()
        self.rebind()
        self.ask().check_good(GOOD_BOUNDS)
        self.guest.check_logs()


_rigs = []  # the last is the one in use


def rig(env):
    """A rig that tests share, with a driver that works."""
    if not _rigs or not _rigs[-1].guest.alive():
        _rigs.append(Rig(env, Balloon()))
    _rigs[-1].recover()
    return _rigs[-1]


def test_settings_at_the_limits(env):
    here = rig(env)
    for bounds in ((1,), (U32_MAX,), (U32_MAX - 1, U32_MAX),
                   tuple(range(1, 16)),
                   tuple(range(U32_MAX - 14, U32_MAX + 1))):
        here.ask(bounds=bounds).check_good(bounds)
    for fields in ({"refresh_ms": 0}, {"refresh_ms": U32_MAX},
                   {"report_ms": 1}, {"report_ms": U32_MAX},
                   {"refresh_ms": 0, "report_ms": 1}):
        here.ask(**fields).check_good(GOOD_BOUNDS)
    here.recover()


def test_bad_settings(env):
    here = rig(env)
    bad = [{"nr_bins": nr_bins} for nr_bins in (0, 1, 17, 128, 255)]
    bad += [{"bounds": bounds} for bounds in (
        (0,), (0, 1), (5, 5), (5, 4), (1, U32_MAX, 2), (U32_MAX, U32_MAX),
        (1, 2, 0), tuple(range(15, 0, -1)), 15 * (U32_MAX,))]
    for fields in bad:
        here.ask(**fields).check_unsupported(fields)
        # The next request may be fine.
        here.ask(bounds=(7,)).check_good((7,))
    here.recover()
    return f"{len(bad)} kinds"


def random_settings(cmd_id):
    return Settings(
        cmd_id=cmd_id, report_ms=random.choice((0, 1, 1000, U32_MAX)),
        refresh_ms=random.choice((0, 1, 1000, U32_MAX)),
        bounds=tuple(random.choice((0, 1, 5, 1000, U32_MAX))
                     for _ in range(random.randrange(16))),
        nr_bins=random.choice((None, None, None, 0, 1, 2, 16, 17, 255)),
        reclaim_id=random.randrange(3),
        reclaim_idle_ms=random.choice((0, 1, 1000, U32_MAX)),
        reclaim_node=random.choice((0, 1, 63, 64, 1024, U16_MAX)),
        reclaim_bytes=random.choice((0, 1, 1 << 20, 1 << 63, U64_MAX)))


def test_settings_change_all_the_time(env):
    here = rig(env)
    ids = itertools.cycle((1, 2, 3, U32_MAX, 0))

    def change():
        here.balloon.settings = random_settings(next(ids))
        here.backend.config_changed()

    with Storm(change) as storm:
        wait_for(lambda: storm.calls > 3000 and len(here.balloon.reports) > 20,
                 PATIENCE_S, "reports in a storm of changes")
        here.guest.check_logs()
    note = f"{storm.calls} changes, {len(here.balloon.reports)} reports"
    # Without binding the driver again
    here.ask().check_good(GOOD_BOUNDS)
    here.recover()
    return note


def test_each_read_returns_something_else(env):
    here = rig(env)
    here.balloon.on_read = lambda: random_settings(
        random.randrange(1, U32_MAX)).pack()
    before = here.balloon.reads
    with Storm(here.backend.config_changed) as storm:
        wait_for(lambda: here.balloon.reads > before + 5000, PATIENCE_S,
                 "the driver to read its configuration")
    # The balloon's own fields are not what this is about.
    here.balloon.on_read = \
        lambda: bytes(16) + random.randbytes(CONFIG_BYTES - 16)
    before = here.balloon.reads
    with Storm(here.backend.config_changed):
        wait_for(lambda: here.balloon.reads > before + 5000, PATIENCE_S,
                 "the driver to read its configuration")
    # As when a device was pulled out
    here.balloon.on_read = lambda: bytes(16) + (CONFIG_BYTES - 16) * b"\xff"
    here.backend.config_changed()
    here.wait_report(lambda report: report.cmd_id == U32_MAX,
                     "a report with an id of all ones")
    here.recover()
    return f"{storm.calls} notifications"


def test_buffers_are_never_used(env):
    here = rig(env)
    here.balloon.on_report = lambda queue, buffer: None
    for _ in range(3):
        here.ask()
        # As long as the device has a buffer there is no other.
        for cmd_id in range(1000, 1020):
            before = here.balloon.reads
            here.set(cmd_id=cmd_id, report_ms=1)
            wait_for(lambda before=before: here.balloon.reads > before + 10,
                     PATIENCE_S, "the driver to read its configuration")
        here.guest.sh("sleep 2")
        check(len(here.balloon.reports) == 1,
              f"{len(here.balloon.reports)} buffers in the queue")
        here.rebind()
    here.recover()


def scribble(queue):
    """Over the descriptors and the available ring, which are the driver's. Then
    the queue can't be read any more until the driver sets it up again."""
    queue.stop()
    for address, size in queue.driver_areas():
        queue.memory.write(address, random.randbytes(size))


USED_WRONGLY = {
    "twice": lambda queue, head: [queue.use(head) for _ in range(2)],
    "often": lambda queue, head: [queue.use(head) for _ in range(1000)],
    "another one": lambda queue, head: queue.use((head + 1) % queue.size),
    "out of range": lambda queue, head: queue.use(queue.size),
    "far out of range": lambda queue, head: queue.use(U32_MAX),
    "with a length": lambda queue, head: queue.use(head, U32_MAX),
    "two instead of one": lambda queue, head: queue.add_used(2),
    "more than there are": lambda queue, head: queue.add_used(queue.size + 1),
    "half of all": lambda queue, head: queue.add_used(0x8000),
    "one less": lambda queue, head: queue.add_used(U16_MAX),
    "interrupts only":
        lambda queue, head: [queue.interrupt() for _ in range(1000)],
    "scribbled": lambda queue, head: [queue.use(head), scribble(queue)],
}


def test_buffers_are_used_wrongly(env):
    here = rig(env)
    for how, use in USED_WRONGLY.items():
        here.balloon.on_report = \
            lambda queue, buffer, use=use: use(queue, buffer.head)
        here.ask()
        # There may be no further report.
        here.set(cmd_id=12345)
        try:
            here.recover()
        except Exception as error:
            raise AssertionError(f"buffer used {how}: {error}") from error
    return f"{len(USED_WRONGLY)} ways"


def test_driver_comes_and_goes(env):
    here = rig(env)
    ids = itertools.count(1)

    def change():
        here.balloon.settings = Settings(
            cmd_id=next(ids) & U32_MAX, report_ms=1,
            bounds=random.choice((GOOD_BOUNDS, (1, 2), (2, 1))))
        here.backend.config_changed()

    pci = here.guest.sh(
        f"basename $(readlink -f {DRIVER}/{here.device}/..)").strip()
    with Storm(change):
        for never in (False, True):
            if never:
                here.balloon.on_report = lambda queue, buffer: None
            for _ in range(10):
                here.rebind()
            here.guest.sh(f"echo 1 >/sys/bus/pci/devices/{pci}/remove",
                          PATIENCE_S)
            here.guest.sh("echo 1 >/sys/bus/pci/rescan", PATIENCE_S)
            here.device = here.guest.sh(f"cd {DRIVER} && echo virtio*").strip()
        here.guest.check_logs()
        here.guest.reboot()
    here.recover()


def test_bad_reclaim_requests(env):
    here = rig(env)
    ids = itertools.count(1)

    def ask(**fields):
        request = next(ids)
        here.balloon.reports.clear()
        here.set(cmd_id=1, reclaim_id=request,
                 **{**GOOD_RECLAIM, **fields})
        return here.wait_report(lambda report: report.reclaim_id == request,
                                f"the end of a reclaim request {fields}")

    def change():
        here.balloon.settings = dataclasses.replace(
            random_settings(1), reclaim_id=next(ids), bounds=GOOD_BOUNDS,
            nr_bins=None)
        here.backend.config_changed()

    for fields in ({"reclaim_idle_ms": 0}, {"reclaim_bytes": 0},
                   {"reclaim_node": 1}, {"reclaim_node": 1024},
                   {"reclaim_node": U16_MAX - 1}):
        report = ask(**fields)
        check(report.reclaim_status == UNSUPPORTED and
              not report.reclaimed_bytes, f"{fields}: {vars(report)}")
    for fields in ({"reclaim_bytes": U64_MAX}, {"reclaim_node": 0},
                   {"reclaim_idle_ms": 1, "reclaim_bytes": 1}):
        report = ask(**fields)
        check(report.reclaim_status != UNSUPPORTED,
              f"{fields}: {vars(report)}")
    with Storm(change) as storm:
        wait_for(lambda: storm.calls > 2000, PATIENCE_S, "a storm of requests")
    ask()
    # A request that would wait for weeks does not keep the driver.
    here.set(cmd_id=1, reclaim_id=next(ids), reclaim_idle_ms=U32_MAX,
             reclaim_bytes=U64_MAX)
    here.recover()
    return f"{storm.calls} requests in a storm"


def test_nothing_is_left_behind(env):
    """The driver is unbound while the device has a report."""
    here = rig(env)
    here.balloon.on_report = lambda queue, buffer: None
    counts = []
    for _ in range(3):
        for _ in range(CYCLES):
            here.ask()
            here.rebind()
        counts.append(slab_objects(here.guest))
    for name in counts[0]:
        first, second, third = (count[name][0] for count in counts)
        check(min(second - first, third - second) < CYCLES * 0.9 or
              UNRELATED.search(name),
              f"objects in {name}: {first}, {second}, {third}")
    here.recover()
    return f"{3 * CYCLES} times" + check_kmemleak(here.guest)


def check_ignores_reclaim(balloon, backend):
    """No report says that anything was reclaimed."""
    balloon.settings = dataclasses.replace(balloon.settings, cmd_id=9,
                                           reclaim_id=10)
    backend.config_changed()
    wait_for(lambda: balloon.reports[-1].cmd_id == 9, PATIENCE_S,
             "a second report")
    for report in balloon.reports:
        check(not report.reclaim_id, f"{vars(report)}")


def test_odd_devices(env):
    """All in one guest, each with something wrong with it or missing."""
    version_1 = vhost_user.VIRTIO_F_VERSION_1
    good = {
        "queue with one entry": (Balloon(), {"queue_size": 1}),
        "statistics": (Balloon(version_1 | F_WORKING_SET | F_STATS_VQ, 4), {}),
        "all queues": (Balloon(version_1 | F_WORKING_SET | F_ALL_QUEUES, 6),
                       {}),
        # What it has instead of settings for reclaim means nothing.
        "no reclaim": (Balloon(version_1 | F_WORKING_SET), {}),
        "short settings": (Balloon(version_1 | F_WORKING_SET),
                           {"config_size": 92}),
    }
    bad = {
        "no queue": (Balloon(nr_queues=2), {}),
        "no feature": (Balloon(version_1), {}),
        "no settings": (Balloon(), {"config_size": 16}),
    }
    backends = {}
    devices = []
    for what, (balloon, properties) in {**good, **bad}.items():
        name = f"wsr-{os.getpid()}-{next(Rig.numbers)}"
        backends[what] = vhost_user.Backend(name, balloon)
        devices.append((name, balloon.properties(**properties)))
    guest = start(env, *devices)
    try:
        for what, (balloon, _) in {**good, **bad}.items():
            balloon.settings = Settings(cmd_id=7, reclaim_id=8, **GOOD_RECLAIM)
            backends[what].config_changed()
        for what, (balloon, _) in good.items():
            wait_for(lambda balloon=balloon: balloon.reports, PATIENCE_S,
                     f"a report to the device with {what}")
            balloon.reports[0].check_good(GOOD_BOUNDS)
            if not balloon.features & F_RECLAIM:
                check_ignores_reclaim(balloon, backends[what])
        for what, (balloon, _) in bad.items():
            for report in balloon.reports:
                report.check_unsupported(what)
        guest.check_logs()
    finally:
        env.close_guest("bad-device")
    return f"{len(good)} that work, {len(bad)} that don't"
