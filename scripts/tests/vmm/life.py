# SPDX-License-Identifier: GPL-2.0
"""What can happen to a device and its guest, and reports of all sizes. Reboot,
unbinding and suspend without the firmware are in e2e/lifecycle.py."""

import time

import vm
from e2e import Skip, check, near
from e2e.lifecycle import Requests, set_balloon
from vmm import (ON, Row, Table, ask_to_reclaim, boot_id, check_report,
                 check_reporting, start)

BOUNDS = [1234, 5678]
REQUEST = 4711
MIB = 1 << 20


def reporting_guest(env, **options):
    guest = start(env, "guest", **options)
    guest.configure(idle_age_ms=BOUNDS)
    guest.request_report()
    return guest


def wait_answer(guest, request, mark):
    """The report with this id. What the host has set must still hold."""
    report = guest.qmp.wait_event(
        "BALLOON_WORKING_SET", mark,
        lambda data: data["request-id"] == request)["data"]
    check_report(report)
    ages = [b.get("idle-age-ms") for b in report["nodes"][0]["bins"]]
    check(ages == [*BOUNDS, None], f"bins {ages} for bounds {BOUNDS}")
    return report


def system_reset(env):
    guest = reporting_guest(env)
    request = guest.get("guest-working-set-request-id")
    before = boot_id(guest)
    # Stopped, so that what is seen is the state just after the reset
    guest.qmp.command("stop")
    mark = guest.qmp.mark()
    guest.qmp.command("system_reset")
    guest.qmp.wait_event("RESET", mark)
    state = guest.get("guest-working-set")
    check(not state["active"] and "report" not in state and
          state["last-update"] == 0, f"after the reset: {state}")
    guest.qmp.command("cont")
    guest.wait_boot()
    check(boot_id(guest) != before, "the guest has not restarted")
    report = wait_answer(guest, request, mark)
    check(report["sequence"] == 1, f"sequence {report['sequence']}")
    check_reporting(guest)


def system_reset_with_a_request(env):
    """The driver that comes after the reset answers."""
    guest = reporting_guest(env)
    mark = guest.qmp.mark()
    guest.qmp.command("stop")
    guest.set("guest-working-set-request-id", REQUEST)
    guest.qmp.command("system_reset")
    guest.qmp.command("cont")
    guest.wait_boot()
    report = wait_answer(guest, REQUEST, mark)
    check(report["sequence"] == 1, f"sequence {report['sequence']}")


def system_reset_takes_reclaim_back(env):
    """What was asked of the guest before must not be done after it."""
    guest = start(env, "guest")
    asked = ask_to_reclaim(guest)
    mark = guest.qmp.mark()
    guest.qmp.command("system_reset")
    guest.qmp.wait_event("RESET", mark)
    found = guest.get("guest-working-set-reclaim")
    check(found == {**asked, "id": 0}, f"{asked}, then {found}")


def system_reset_during_requests(env):
    guest = reporting_guest(env)
    for _ in range(3):
        with Requests(guest) as requests:
            vm.wait_for(lambda: requests.requests >= 5, 30, "5 requests")
            guest.qmp.command("system_reset")
            guest.wait_boot()
    check_reporting(guest)


def stop_and_cont(env):
    guest = reporting_guest(env)
    mark = guest.qmp.mark()
    guest.qmp.command("stop")
    guest.set("guest-working-set-request-id", REQUEST)
    time.sleep(1)  # longer than an answer takes
    events = guest.qmp.events_since(mark, "BALLOON_WORKING_SET")
    check(not events, f"a report of a stopped guest: {events}")
    guest.qmp.command("cont")
    wait_answer(guest, REQUEST, mark)
    check_reporting(guest)


def reboot_with_a_request(env):
    guest = reporting_guest(env)
    mark = guest.qmp.mark()
    with Requests(guest):
        guest.reboot()
    last = guest.get("guest-working-set-request-id")
    wait_answer(guest, last, mark)
    check_reporting(guest)


# The root complex itself takes no devices at run time, but a port does.
IN_PORT = {"balloon": None, "extra": (
    "-device", "pcie-root-port,id=port0",
    "-device", f"virtio-balloon-pci,id=balloon0,{ON},bus=port0")}


def check_hotplug(guest):
    if guest.run("ls /sys/bus/pci/slots/* >/dev/null")[0]:
        raise Skip("the kernel lacks CONFIG_HOTPLUG_PCI_ACPI, see "
                   "scripts/kernel.config")


def unplug(guest):
    mark = guest.qmp.mark()
    guest.qmp.command("device_del", id="balloon0")
    guest.qmp.wait_event("DEVICE_DELETED", mark,
                         lambda data: data.get("device") == "balloon0", 60)
    try:
        guest.get("guest-working-set")
    except vm.QMPError:
        return
    raise AssertionError("the properties are still there")


def plug(guest):
    guest.qmp.command("device_add", driver="virtio-balloon-pci", id="balloon0",
                      bus="port0", **{"working-set-reporting": True,
                                      "working-set-reclaim": True})
    vm.wait_for(lambda: guest.get("guest-working-set")["active"], 60,
                "a driver for the new device")


def free_bytes(guest):
    return int(guest.sh("sed -n 's/^MemFree: *//p' /proc/meminfo").split()[0]) \
        << 10


def hot_unplug_and_plug(env):
    guest = reporting_guest(env, **IN_PORT)
    check_hotplug(guest)
    for _ in range(3):
        unplug(guest)
        plug(guest)
        # A new device has the settings it starts with.
        check(guest.get("guest-working-set-request-id") == 0, "an old id")
        report = guest.request_report()
        check_report(report)
        check(report["sequence"] == 1, f"sequence {report['sequence']}")
    check_reporting(guest)


def hot_unplug_with_a_request(env):
    guest = reporting_guest(env, **IN_PORT)
    check_hotplug(guest)
    guest.qmp.command("stop")
    guest.set("guest-working-set-request-id", REQUEST)
    mark = guest.qmp.mark()
    guest.qmp.command("device_del", id="balloon0")
    guest.qmp.command("cont")
    guest.qmp.wait_event("DEVICE_DELETED", mark,
                         lambda data: data.get("device") == "balloon0", 60)
    plug(guest)
    check_reporting(guest)


def hot_unplug_inflated(env):
    """The guest has its memory back."""
    guest = reporting_guest(env, **IN_PORT)
    check_hotplug(guest)
    before = free_bytes(guest)
    set_balloon(guest, 192 * MIB)
    unplug(guest)
    # Up to an eighth of memory may stay in the CPUs' lists of free pages, which
    # do not count as free.
    near(free_bytes(guest), before, 32 * MIB, "free memory")
    plug(guest)
    check_reporting(guest)


def suspend(guest):
    """To RAM, through the firmware"""
    if "mem" not in guest.sh("cat /sys/power/state").split():
        raise Skip("the guest has no S3")
    guest.sh("echo deep >/sys/power/mem_sleep")
    guest.background("sleep 0.2; echo mem >/sys/power/state", "suspend")
    vm.wait_for(lambda: guest.qmp.command("query-status")["status"] ==
                "suspended", 60, "the guest to be suspended")


def wake_up(guest):
    """Returns when the guest's serial ports work again."""
    def awake():
        return guest.console().count("PM: suspend exit")

    before = awake()
    guest.qmp.command("system_wakeup")
    vm.wait_for(lambda: awake() > before, 120, "the guest to wake up")


def suspend_to_ram(env):
    """Once: the second time a guest wakes up at once, whatever its balloon, its
    kernel and QEMU are."""
    guest = reporting_guest(env)
    before = boot_id(guest)
    last = guest.request_report()
    suspend(guest)
    check(guest.get("guest-working-set").get("report") == last,
          "the last report is not kept")
    wake_up(guest)
    check(boot_id(guest) == before, "the guest has restarted")
    check_reporting(guest)


def suspend_with_a_request(env):
    guest = reporting_guest(env)
    suspend(guest)
    mark = guest.qmp.mark()
    guest.set("guest-working-set-request-id", REQUEST)
    wake_up(guest)
    wait_answer(guest, REQUEST, mark)
    check_reporting(guest)


def size(nodes, bins):
    def run(env):
        guest = start(env, "guest", nodes=nodes,
                      memory=f"{max(256, 32 * nodes)}M")
        bounds = [1000 * (i + 1) for i in range(bins - 1)]
        guest.configure(idle_age_ms=bounds)
        for _ in range(3):
            report = guest.request_report()
            check_report(report)
            ids = [node["node-id"] for node in report["nodes"]]
            check(ids == list(range(nodes)), f"nodes {ids}")
            for node in report["nodes"]:
                ages = [b.get("idle-age-ms") for b in node["bins"]]
                check(ages == [*bounds, None], f"bins {ages}")
        total = sum(node["total-bytes"] for node in report["nodes"])
        return f"total {total // MIB} MiB"
    return run


TABLES = [
    Table("life of a device", ("event", "when", "expected"), [
        Row(("system_reset", "idle", "settings stay, report dropped"),
            system_reset),
        Row(("system_reset", "requested, not seen", "answered after boot"),
            system_reset_with_a_request),
        Row(("system_reset", "asked to reclaim", "taken back"),
            system_reset_takes_reclaim_back),
        Row(("system_reset", "under requests, 3 times", "reports go on"),
            system_reset_during_requests),
        Row(("reboot", "under requests", "last one answered"),
            reboot_with_a_request),
        Row(("stop, cont", "requested meanwhile", "answered after cont"),
            stop_and_cont),
        Row(("hot-unplug, plug", "idle, 3 times", "new device reports"),
            hot_unplug_and_plug),
        Row(("hot-unplug, plug", "requested, not seen", "new device reports"),
            hot_unplug_with_a_request),
        Row(("hot-unplug, plug", "balloon inflated", "memory is back"),
            hot_unplug_inflated),
        Row(("suspend to RAM", "idle", "report stays, reports go on"),
            suspend_to_ram),
        Row(("suspend to RAM", "requested meanwhile", "answered after wake-up"),
            suspend_with_a_request),
    ]),
    Table("sizes of reports", ("nodes", "bins"), [
        Row((str(nodes), str(bins)), size(nodes, bins))
        for nodes, bins in ((1, 2), (1, 16), (4, 7), (16, 2), (16, 16))]),
]
