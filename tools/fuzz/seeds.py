#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Writes working set reports to start fuzzing with, a file for each.

usage: seeds.py report|device DIRECTORY

"report" puts the byte before each that selects the guest's memory in
tools/fuzz/report_fuzz.c, "device" what makes QEMU's
tests/qtest/fuzz/virtio_balloon_fuzz.c send it.
"""

import argparse
import pathlib
import struct

HEADER = struct.Struct("<IHHHHIQQQQQQQQIHHQ")
BIN = struct.Struct("<QQQ")
U64_MAX = 2**64 - 1
NO_NODE = 0xffff
UNSUPPORTED, TRY_LATER = 1, 2
MORE, WARMING_UP = 1, 2

# The index of ram_sizes in report_fuzz.c
GIB = 2

# First byte of an input and BufferHdr of virtio_balloon_fuzz.c
ACCEPT_ALL, REFUSE_FEATURE = b"\0", b"\1"
BUFFER = struct.Struct("<BxH")
ONE_PART, LAST_IS_WRITABLE = 0, 0x80

# What is in a record of nothing but PART bytes that has 16 bins
PART = 4096
TOTAL = (3 + 2 * 16) * PART


def record(node, bins, flags=0, status=0, cmd_id=7, part=PART, total=TOTAL,
           reclaim=(0, 0, 0)):
    reclaim_id, reclaim_status, reclaimed = reclaim
    header = HEADER.pack(cmd_id, node, bins, status, flags, 250, 1, total,
                         part, part, part, part // 2, 3 << 30, 5 << 30,
                         reclaim_id, reclaim_status, 0, reclaimed)
    bounds = [1000 * 2**n for n in range(bins - 1)] + [U64_MAX]
    return header + b"".join(BIN.pack(bound, part, part)
                             for bound in bounds[:bins])


def report(nodes, bins, **fields):
    return b"".join(record(node, bins,
                           flags=MORE if node < nodes - 1 else 0, **fields)
                    for node in range(nodes))


def reports():
    """name -> report"""
    found = {
        "whole-guest": record(NO_NODE, 7),
        "whole-guest-warming-up": record(NO_NODE, 7, flags=WARMING_UP),
        "unsolicited": record(NO_NODE, 2, cmd_id=0),
        "empty": record(0, 2, part=0, total=0),
        "unsupported": record(NO_NODE, 0, status=UNSUPPORTED),
        "try-later": record(NO_NODE, 0, status=TRY_LATER),
        "reclaimed": report(2, 2, reclaim=(3, 0, 1 << 20)),
        "reclaimed-less": record(0, 2, reclaim=(4, TRY_LATER, 4096)),
        "reclaim-unsupported": record(NO_NODE, 0, status=TRY_LATER,
                                      reclaim=(5, UNSUPPORTED, 0)),
    }
    for nodes, bins in (1, 2), (1, 16), (2, 2), (2, 7), (16, 2), (16, 16), \
            (128, 2), (128, 16):
        found[f"{nodes}-nodes-{bins}-bins"] = report(nodes, bins)
    return found


def too_long_reports():
    """More than a device takes; report_fuzz finds such by itself."""
    return {"129-nodes": report(129, 2),
            "too-long": report(128, 16) + record(128, 16)}


def device_input(data, first=ACCEPT_ALL, parts=ONE_PART):
    return first + BUFFER.pack(parts, len(data)) + data


def inputs(target):
    """name -> input"""
    if target == "report":
        return {name: bytes([GIB]) + data for name, data in reports().items()}
    found = {name: device_input(data)
             for name, data in {**reports(), **too_long_reports()}.items()}
    data = reports()["whole-guest"]
    found["refused"] = device_input(data, first=REFUSE_FEATURE)
    found["writable"] = device_input(data, parts=LAST_IS_WRITABLE)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=["report", "device"])
    parser.add_argument("directory", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for name, data in inputs(arguments.target).items():
        (arguments.directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
