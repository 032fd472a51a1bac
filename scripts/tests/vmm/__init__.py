# SPDX-License-Identifier: GPL-2.0
"""The balloon device and its driver as a pair, in tables: what scripts/check-vmm
runs. Each row starts guests of its own."""

import dataclasses
import typing

import vm
from e2e import check, near, node_sum
from e2e.coexistence import check_balloon

DRIVER = "/sys/bus/virtio/drivers/virtio_balloon"

# Bits of the features, as Documentation/virtio/working-set.rst counts them
STATS, HINT, REPORTING, WORKING_SET, RECLAIM = 1, 3, 5, 9, 10

ON = vm.BALLOON


@dataclasses.dataclass
class Row:
    """run(environment) raises, or returns a note or nothing."""
    cells: tuple
    run: typing.Callable


@dataclasses.dataclass
class Table:
    title: str
    headings: tuple
    rows: list


def start(env, name, **options):
    """A guest as small as check_balloon() wants it."""
    append = f"kunit.enable=0 {options.pop('append', '')}"
    return env.start(name, **{"memory": "256M", "balloon": ON,
                              "boot_timeout": 240, **options,
                              "append": append})


def boot_id(guest):
    """Another one after each boot of the guest"""
    return guest.sh("cat /proc/sys/kernel/random/boot_id")


def device(guest):
    """The name of the balloon in the guest"""
    return guest.sh(f"cd {DRIVER} && echo virtio*").strip()


def accepted(guest):
    """The features that the guest's driver has accepted, as a set of bits"""
    bits = guest.sh(f"cat {DRIVER}/{device(guest)}/features").strip()
    return {number for number, bit in enumerate(bits) if bit == "1"}


def check_report(report):
    """A report with data that add up"""
    check(report["status"] == "ok" and report["nodes"], f"{report}")
    for node in report["nodes"]:
        near(node_sum(node), node["total-bytes"], node["total-bytes"] / 100,
             f"sum of node {node['node-id']}")


def check_reporting(guest):
    """Reports come, and the balloon works."""
    check_report(guest.request_report())
    check(guest.get("guest-working-set")["active"],
          "not active although reports come")
    check_balloon(guest)


def check_no_reporting(guest):
    """The device has the feature, the driver has not: QEMU says so, no report
    comes, and the balloon works."""
    guest.set("guest-working-set-request-id", 5)
    check_balloon(guest)  # takes longer than a report
    state = guest.get("guest-working-set")
    check(not state["active"], "active although the driver lacks the feature")
    check(state["last-update"] == 0 and "report" not in state, f"{state}")


def ask_to_reclaim(guest):
    """Stops the guest, which therefore does nothing about a request. Returns
    what the property says afterwards."""
    guest.qmp.command("stop")
    asked = {"id": 7, "max-bytes": 1 << 20, "idle-age-ms": 1000, "node-id": 3}
    guest.set("guest-working-set-request-id", 1)
    guest.set("guest-working-set-reclaim", asked)
    return asked
