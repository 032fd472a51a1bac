# SPDX-License-Identifier: GPL-2.0
"""A balloon device with the working set reports of crosvm; their format is in
Documentation/virtio/working-set-crosvm.rst."""

import itertools
import os
import struct
import threading

import vhost_user
from e2e import Pressure, check, near
from e2e.lifecycle import DRIVER
from vm import Bands, wait_for

MIB = 1 << 20
U64_MAX = 0xffffffffffffffff

# Feature bits
STATS_VQ = 1
REPORTING = 5
CROSVM_WORKING_SET = 8
WORKING_SET = 9

REQUEST = struct.pack("<H", 1)
RECORD = struct.Struct("<HH4xQQQ")
BOUNDS = (1000, 5000, 15000)


def config_op(bounds, report_ms=0, refresh_ms=500, op=2):
    """A CONFIG operation; host and guest are little-endian here."""
    return struct.pack(f"<H{len(bounds) + 2}I", op, *bounds, refresh_ms,
                       report_ms)


class Crosvm(vhost_user.Device):
    """crosvm's device, as far as working sets are concerned: it takes reports
    and writes operations into the driver's buffers. Five queues, or six with
    page reporting."""

    def __init__(self, *features):
        self.features = vhost_user.VIRTIO_F_VERSION_1
        for bit in (STATS_VQ, CROSVM_WORKING_SET, *features):
            self.features |= 1 << bit
        self.nr_queues = 6 if REPORTING in features else 5
        self.num_bins = 4
        self.takes_reports = True
        self.reports = []  # as bytes

    def read_config(self, size):
        return (bytes(16) + bytes([self.num_bins]) + bytes(3)).ljust(
            size, b"\0")[:size]

    def kicked(self, queue):
        if queue.index == self.nr_queues - 2 and self.takes_reports:
            while buffer := queue.pop():
                self.reports.append(buffer.data)
                queue.use(buffer.head)
        elif queue.index == 3 and self.nr_queues == 6:
            # Free pages; the guest waits until it may use them again.
            while buffer := queue.pop():
                queue.use(buffer.head)


class Host:
    """A device, with these feature bits besides the usual ones, and the guest
    that has it."""

    _numbers = itertools.count()

    def __init__(self, env, *features, append="", **options):
        memory = "256M"
        self.device = Crosvm(*features)
        socket = f"wsr-crosvm-{os.getpid()}-{next(self._numbers)}"
        self.backend = vhost_user.Backend(socket, self.device)
        self.guest = env.start(
            "crosvm", memory=memory, balloon=None,
            append=f"kunit.enable=0 {append}",
            extra=vhost_user.qemu_arguments(
                "memory", memory,
                (socket, f"virtio-id=5,num_vqs={self.device.nr_queues},"
                 "config_size=20")), **options)
        self.driver = self.guest.sh(f"cd {DRIVER} && ls -d virtio*").strip()

    def accepted(self, bit):
        """Has the driver accepted this feature?"""
        bits = self.guest.sh(
            f"cat /sys/bus/virtio/devices/{self.driver}/features")
        return bits[bit] == "1"

    def unbind(self):
        self.guest.sh(f"echo {self.driver} >{DRIVER}/unbind")

    def bind(self):
        self.guest.sh(f"echo {self.driver} >{DRIVER}/bind")

    def try_operate(self, data, used=None):
        """Writes an operation if the driver has a buffer for it. used: what to
        give for the length."""
        with self.backend.lock:
            queue = self.backend.queues[self.device.nr_queues - 1]
            buffer = queue.pop() if queue.running else None
            if not buffer:
                return False
            address, length = buffer.writable[0]
            self.backend.memory.write(address, data[:length])
            queue.use(buffer.head,
                      min(len(data), length) if used is None else used)
            return True

    def operate(self, data, used=None):
        """The same as soon as there is one: when the driver has done what was
        asked before."""
        wait_for(lambda: self.try_operate(data, used), 60,
                 "a buffer for an operation")

    def report(self, number, bounds=BOUNDS):
        """Waits for this report (0 is the first), which must have these bounds:
        [(file bytes, anon bytes)]"""
        wait_for(lambda: len(self.device.reports) > number, 60,
                 f"report {number}")
        records = list(RECORD.iter_unpack(self.device.reports[number]))
        check([record[:3] for record in records] ==
              [(0, 0, bound) for bound in (*bounds, U64_MAX)],
              f"for bounds {bounds}: {records}")
        return [record[3:] for record in records]

    def request(self, bounds=BOUNDS):
        """Asks for a report and returns it. None must be on its way."""
        count = len(self.device.reports)
        self.operate(REQUEST)
        return self.report(count, bounds)

    def check_alive(self):
        check(self.backend.failure is None, f"{self.backend.failure}")


def lru_bytes(guest):
    """(file, anon) that can be reclaimed, as the guest's kernel counts it."""
    lines = guest.sh("cat /proc/vmstat").splitlines()
    pages = {name: int(value) for name, value in map(str.split, lines)}
    return tuple(4096 * (pages[f"nr_active_{kind}"] +
                         pages[f"nr_inactive_{kind}"])
                 for kind in ("file", "anon"))


def kswapd_runs(guest):
    return int(guest.sh("sed -n 's/^pageoutrun //p' /proc/vmstat"))


def test_reports_are_sums_of_nodes(env):
    # Page reporting, so that the queues are not where they are without it
    host = Host(env, REPORTING, append="numa=fake=2")
    nodes = host.guest.sh("ls -d /sys/devices/system/node/node[0-9]*").split()
    check(len(nodes) == 2, f"{nodes}")
    check(host.accepted(CROSVM_WORKING_SET), "the driver refuses the feature")
    # Answered after the configuration, which says how many bins
    host.operate(REQUEST)
    host.operate(config_op(BOUNDS))
    host.report(0)

    bands = Bands(host.guest, "64M:0.5")
    report = host.request()
    file_bytes, anon_bytes = lru_bytes(host.guest)
    near(sum(b[0] for b in report), file_bytes, 2 * MIB, "file")
    near(sum(b[1] for b in report), anon_bytes, 4 * MIB, "anon")
    check(sum(b[1] for b in report[:2]) >= 60 * MIB,
          f"the workload is not in the young bins: {report}")
    bands.quit()
    host.check_alive()
    check(len(host.device.reports) == 2, "reports that nobody asked for")


def test_reports_nobody_asked_for(env):
    host = Host(env, disk=True)
    host.operate(config_op(BOUNDS, report_ms=0))
    host.request()
    with Pressure(host.guest):
        # Two more runs of kswapd are of no interest.
        runs = kswapd_runs(host.guest)
        wait_for(lambda: kswapd_runs(host.guest) >= runs + 2, 60,
                 "kswapd to run twice")
        host.request()
        check(len(host.device.reports) == 2,
              "reports although the interval is 0")
        host.operate(config_op(BOUNDS, report_ms=300))
        host.report(4)
        host.operate(config_op(BOUNDS, report_ms=0))
    host.check_alive()


# What makes no sense; the configuration with BOUNDS must still hold after each.
BAD_OPS = {
    "op 0": (struct.pack("<H", 0), None),
    "op 3": (config_op((1, 2, 3), op=3), None),
    "op 0xffff": (config_op((1, 2, 3), op=0xffff), None),
    "nothing": (b"", None),
    "half an op": (b"\2", None),
    "nothing but the op": (config_op(())[:2], None),
    "CONFIG without report_ms": (config_op((1, 2, 3))[:-4], None),
    "CONFIG, a byte short": (config_op((1, 2, 3))[:-1], None),
    "CONFIG, a byte long": (config_op((1, 2, 3)) + b"\0", None),
    "CONFIG with too few bounds": (config_op((1, 2)), None),
    "CONFIG with too many bounds": (config_op((1, 2, 3, 4)), None),
    "CONFIG with all bounds there can be": (config_op(range(1, 16)), None),
    "equal bounds": (config_op((1000, 2000, 2000)), None),
    "decreasing bounds": (config_op((3000, 2000, 1000)), None),
    "bound 0": (config_op((0, 1, 2)), None),
    "a used length of 0": (config_op((1, 2, 3)), 0),
    "a used length beyond the buffer": (config_op((1, 2, 3)), 0xffffffff),
}


def test_bad_operations_are_ignored(env):
    host = Host(env)
    host.operate(config_op(BOUNDS))
    for name, (data, used) in BAD_OPS.items():
        count = len(host.device.reports)
        host.operate(data, used)
        try:
            host.request()
        except Exception as error:
            raise AssertionError(f"after {name}: {error}") from error
        check(len(host.device.reports) == count + 1, f"{name} was answered")
    # A request with a length that is too large is a request all the same.
    count = len(host.device.reports)
    host.operate(REQUEST, 0xffffffff)
    host.report(count)
    # The largest values
    for refresh_ms, report_ms in ((0, 0xffffffff), (0xffffffff, 0)):
        bounds = (0xfffffffd, 0xfffffffe, 0xffffffff)
        host.operate(config_op(bounds, report_ms, refresh_ms))
        host.request(bounds)
    host.check_alive()
    return f"{len(BAD_OPS)} of them"


def test_number_of_bins(env):
    host = Host(env)
    for num_bins in (0, 1, 17, 255, 2, 16):
        host.unbind()
        host.device.num_bins = num_bins
        host.bind()
        good = 2 <= num_bins <= 16
        check(host.accepted(CROSVM_WORKING_SET) == good,
              f"{num_bins} bins: feature {'refused' if good else 'accepted'}")
        if good:
            bounds = range(100, 100 * num_bins, 100)
            host.operate(config_op(bounds))
            host.request(bounds)
    # It changes its mind.
    for num_bins in (0, 1, 17, 255):
        host.device.num_bins = num_bins
        host.operate(config_op(range(1, max(num_bins, 1))))
        host.request(bounds)
    host.device.num_bins = 4
    host.operate(config_op(BOUNDS))
    host.request()
    host.check_alive()


def test_silent_device(env):
    host = Host(env)
    host.operate(config_op(BOUNDS))
    host.request()
    # A report is never used, nor is the buffer for the next operation.
    host.device.takes_reports = False
    host.operate(REQUEST)
    host.operate(REQUEST)
    host.operate(config_op((10, 20, 30)))
    host.unbind()
    host.device.takes_reports = True
    host.bind()
    host.operate(config_op(BOUNDS))
    host.request()
    host.check_alive()


def test_unbind_during_operations(env):
    host = Host(env)
    stop = threading.Event()
    done = itertools.count()
    operations = (config_op(BOUNDS, report_ms=1), REQUEST,
                  config_op((1, 2, 3)), b"\xff\xff", REQUEST)

    def flood():
        for operation in itertools.cycle(operations):
            while not host.try_operate(operation):
                if stop.wait(0.001):
                    return
            next(done)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    for _ in range(10):
        before = len(host.device.reports)
        wait_for(lambda: len(host.device.reports) > before, 60, "a report")
        host.unbind()
        host.bind()
    stop.set()
    thread.join()
    host.check_alive()
    return f"{next(done)} operations, {len(host.device.reports)} reports"


def test_suspend_keeps_the_configuration(env):
    host = Host(env)
    host.operate(config_op(BOUNDS))
    host.request()
    host.guest.sh("echo 1 >/sys/module/suspend/parameters/pm_test_delay; "
                  "echo devices >/sys/power/pm_test")
    for _ in range(2):
        # With a report on its way, and without
        host.operate(REQUEST)
        host.guest.sh("echo freeze >/sys/power/state")
    host.guest.sh("echo none >/sys/power/pm_test")
    count = len(host.device.reports)
    host.operate(REQUEST)
    host.report(count)
    host.check_alive()


def test_refused_where_it_cannot_work(env):
    # The guest refuses page reporting then, so queues would be misnumbered.
    host = Host(env, REPORTING, append="init_on_free=1")
    check(not host.accepted(REPORTING) and not host.accepted(CROSVM_WORKING_SET),
          "accepted although an earlier queue was refused")
    # One of the two formats at most
    host = Host(env, WORKING_SET)
    check(not host.accepted(CROSVM_WORKING_SET), "accepted with both formats offered")
    host.check_alive()
