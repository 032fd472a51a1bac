#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Unit tests of scripts/bench_reports.py."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import bench_reports  # noqa: E402


def register(when, access, address, name):
    return f"7@{when}:memory_region_ops_{access} cpu 1 mr 0x55 addr " \
        f"{address} value 0x1 size 4 name '{name}'\n"


FIELDS = "virtio-pci-device-virtio-balloon"
LOG = "".join([
    "7@100.000100:virtio_balloon_working_set_request request id: 4\n",
    register("100.000200", "read", "0x208", "virtio-pci-common-virtio-balloon"),
    register("100.000300", "read", "0x410", FIELDS),
    register("100.000400", "read", "0x414", FIELDS),
    register("100.000450", "read", "0x20", "apic-msi"),
    register("100.000460", "write", "0x404", FIELDS),
    "7@100.000500:virtio_queue_notify vdev 0xa n 3 vq 0xb3\n",
    "qemu-system-x86_64: a message without a time\n",
    "7@100.000600:virtio_balloon_working_set_report request id: 4 "
    "sequence: 9 size: 192\n",
    "7@100.000700:virtio_notify vdev 0xa vq 0xb3\n"])


class Events(unittest.TestCase):
    def setUp(self):
        self.events = bench_reports.parse_events(LOG)

    def test_lines_that_are_none_are_left_out(self):
        self.assertEqual(len(self.events), 9)
        self.assertEqual(self.events[0].when, 100.0001)
        self.assertEqual(self.events[-1].name, "virtio_notify")

    def test_fields(self):
        kick, report = self.events[6:8]
        self.assertEqual((kick.field("n"), kick.field("vq")), ("3", "0xb3"))
        self.assertEqual((report.field("size"), report.field("sequence")),
                         ("192", "9"))
        self.assertIsNone(kick.field("size"))

    def test_count_is_of_the_balloon_only(self):
        count = bench_reports.count_events(self.events, 1,
                                           {"config": 1, "queues": 1})
        self.assertEqual(count.kicks, 1)
        self.assertEqual(count.reads, {"generation": 1, "fields": 2})
        self.assertEqual(count.writes, 1)
        exits = [figure.value for figure in count.figures("report")
                 if figure.metric == "report: exits with KVM"]
        self.assertEqual(exits, ["5.00"])


class Numbers(unittest.TestCase):
    def test_percentile(self):
        values = list(range(200, 0, -1))
        self.assertEqual(bench_reports.percentile(values, 50), 100)
        self.assertEqual(bench_reports.percentile(values, 99), 198)
        self.assertEqual(bench_reports.percentile([7], 99), 7)

    def test_new_look(self):
        answer = bench_reports.Answer(9.999, 10.0, 10.005)
        for age_ms, new in ((0, True), (4, True), (6, False), (900, False)):
            answer.age_ms = age_ms
            self.assertEqual(answer.new_look(), new, age_ms)


if __name__ == "__main__":
    unittest.main()
