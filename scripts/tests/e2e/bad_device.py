# SPDX-License-Identifier: GPL-2.0
"""A balloon device that lies, floods, stalls and vanishes: the guest survives."""

import dataclasses
import itertools
import os
import struct
import threading
import time

import vhost_user
from e2e import check
from vm import wait_for

F_STATS_VQ = 1 << 1
F_WORKING_SET = 1 << 9

GOOD_BOUNDS = (1000, 5000, 15000)
U32_MAX = 0xffffffff
U64_MAX = 0xffffffffffffffff
OK, UNSUPPORTED, TRY_LATER = range(3)

BIN = struct.Struct("<QQQ")
HDR_START = struct.Struct("<IHHHHIQQQQQ")  # up to kernel_bytes


@dataclasses.dataclass
class Settings:
    """The configuration space; see Documentation/virtio/working-set.rst."""
    cmd_id: int = 0
    report_ms: int = 0
    refresh_ms: int = 1000
    bounds: tuple = GOOD_BOUNDS
    nr_bins: int = None  # None: as many as there are bounds, and one
    reclaim_id: int = 0
    reclaim_idle_ms: int = 0
    reclaim_node: int = 0xffff
    reclaim_bytes: int = 0

    def pack(self):
        nr_bins = len(self.bounds) + 1 if self.nr_bins is None else self.nr_bins
        bounds = (self.bounds + 15 * (0,))[:15]
        return bytes(16) + struct.pack(
            "<IIIB3x15IIIHHQ", self.cmd_id, self.report_ms, self.refresh_ms,
            nr_bins, *bounds, self.reclaim_id, self.reclaim_idle_ms,
            self.reclaim_node, 0, self.reclaim_bytes)


class Report:
    """The single record that a guest with one node sends."""

    def __init__(self, data):
        (self.cmd_id, self.node_id, self.nr_bins, self.status, self.flags,
         self.age_ms, self.sequence, self.total, self.free, self.unevictable,
         self.kernel) = HDR_START.unpack_from(data)
        self.data = data
        # The header may grow; the bins are what comes last.
        self.bins = list(BIN.iter_unpack(
            data[len(data) - BIN.size * self.nr_bins:]))

    def sum(self):
        return (self.free + self.unevictable + self.kernel +
                sum(swap + file for _, swap, file in self.bins))

    def check(self, bounds):
        """Fails unless this has data in bins with these bounds."""
        check(self.status == OK and
              tuple(b[0] for b in self.bins) == bounds + (U64_MAX,) and
              self.total and abs(self.sum() - self.total) < self.total / 100,
              f"not a good report for {bounds}: {vars(self)}")


class Balloon(vhost_user.Device):
    """A balloon with working set reporting. It behaves well unless told
    otherwise: use() does something else with a report's buffer."""

    features = vhost_user.VIRTIO_F_VERSION_1 | F_WORKING_SET

    def __init__(self, features=0, nr_queues=3):
        self.features |= features
        self.nr_queues = nr_queues
        self.settings = Settings()
        self.reports = []
        self.use = self.well_behaved

    @staticmethod
    def well_behaved(queue, buffer):
        queue.use(buffer.head)

    def read_config(self, size):
        return self.settings.pack()[:size].ljust(size, b"\0")

    def kicked(self, queue):
        # Our queue is the last; nothing is wanted from the others.
        if queue.index != self.nr_queues - 1:
            return
        while buffer := queue.pop():
            self.reports.append(Report(buffer.data))
            self.use(queue, buffer)
