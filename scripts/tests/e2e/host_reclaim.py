# SPDX-License-Identifier: GPL-2.0
"""Requests of the host to reclaim memory."""

import contextlib

import vm
from e2e import check, near

IDLE_MS = 3000
MIB = 1 << 20


def idle_bytes(report, node=0):
    last = report["nodes"][node]["bins"][-1]
    return last["swap-backed-bytes"] + last["file-backed-bytes"]


def wait_idle(guest, mib, node=0):
    """The first report, no estimate, that says that so much is idle."""
    def idle():
        report = guest.request_report()
        warming_up = any(each["warming-up"] for each in report["nodes"])
        return report if not warming_up and \
            idle_bytes(report, node) >= mib * MIB else None

    return vm.wait_for(idle, 90, f"{mib} MiB idle for {IDLE_MS} ms", 0.5)


@contextlib.contextmanager
def page_cache(env):
    """The guest, with 96 MiB of cold page cache and 32 MiB in use."""
    guest = env.guest("plain")
    guest.configure(idle_age_ms=[IDLE_MS], refresh_ms=500)
    bands = vm.Bands(guest, "-d /mnt", "96M:never:read", "32M:0.5:read")
    try:
        wait_idle(guest, 90)
        yield guest
    finally:
        bands.quit()


def test_cold_memory_goes(env):
    with page_cache(env) as guest:
        before = guest.get("guest-working-set")["report"]
        refaults = before["nodes"][0]["refaulted-bytes"]
        mark = guest.qmp.mark()
        request = guest.request_reclaim(64 * MIB, IDLE_MS)
        event = guest.qmp.wait_event(
            "BALLOON_WORKING_SET", mark, timeout=60, predicate=lambda data:
            data.get("reclaim", {}).get("id") == request)
        result = event["data"]["reclaim"]
        check(result["status"] == "ok", f"{result}")
        near(result["bytes"], 64 * MIB, 4 * MIB, "reclaimed bytes")
        after = guest.request_report()
        check(after["reclaim"] == result,
              f"the next report says {after['reclaim']}")
        gone = idle_bytes(before) - idle_bytes(after)
        near(gone, 64 * MIB, 10 * MIB, "less idle memory")
        back = after["nodes"][0]["refaulted-bytes"] - refaults
        check(back <= 4 * MIB, f"{back >> 20} MiB of memory in use went, too")
    return f"{result['bytes'] / MIB:.1f} MiB"


@contextlib.contextmanager
def waiting_request(env):
    """(guest, id): a request that waits for IDLE_MS, to see which of 64 MiB of
    cold anonymous memory is in use."""
    guest = env.guest("swap")
    guest.configure(idle_age_ms=[IDLE_MS], refresh_ms=500)
    bands = vm.Bands(guest, "64M:never")
    try:
        wait_idle(guest, 60)
        yield guest, guest.request_reclaim(1 << 40, IDLE_MS)
    finally:
        bands.quit()


def test_a_new_request_replaces_one(env):
    with waiting_request(env) as (guest, first):
        mark = guest.qmp.mark()
        second = guest.request_reclaim(8 * MIB, IDLE_MS)
        result = guest.reclaim_result(second)
        check(result["status"] == "ok", f"{result}")
        events = guest.qmp.events_since(mark, "BALLOON_WORKING_SET")
        answered = {event["data"].get("reclaim", {}).get("id")
                    for event in events}
        check(first not in answered, "the first was answered, too")


def test_no_such_node(env):
    guest = env.guest("plain")
    guest.request_report()
    request = guest.request_reclaim(MIB, IDLE_MS, node_id=5)
    result = guest.reclaim_result(request)
    check(result["status"] == "unsupported" and result["bytes"] == 0,
          f"{result}")


def file_bytes(guest, node):
    """What the guest's kernel counts"""
    return int(guest.sh("awk '/FilePages/ { print $4 }' "
                        f"/sys/devices/system/node/node{node}/meminfo")) << 10


def test_one_node_of_two(env):
    guest = env.guest("nodes")
    guest.configure(idle_age_ms=[IDLE_MS], refresh_ms=500)
    try:
        for node in (0, 1):
            # Page cache lies where it was read.
            guest.sh(f"truncate -s 64M /mnt/{node} && taskset -c "
                     f"$(cat /sys/devices/system/node/node{node}/cpulist) "
                     f"cat /mnt/{node} >/dev/null")
        for node in (0, 1):
            wait_idle(guest, 60, node)
        before = [file_bytes(guest, node) for node in (0, 1)]
        request = guest.request_reclaim(1 << 40, IDLE_MS, node_id=1)
        result = guest.reclaim_result(request)
        check(result["status"] == "ok", f"{result}")
        near(result["bytes"], 64 * MIB, 4 * MIB, "reclaimed bytes")
        gone = [size - file_bytes(guest, node)
                for node, size in enumerate(before)]
        near(gone[0], 0, MIB, "page cache that has gone from the other node")
        near(gone[1], 64 * MIB, 4 * MIB, "page cache that has gone")
        idle = idle_bytes(guest.request_report())
        check(idle >= 60 * MIB, f"{idle >> 20} MiB idle in the other node")
    finally:
        guest.sh("rm -f /mnt/0 /mnt/1")


def test_unbind_ends_a_request(env):
    driver = "/sys/bus/virtio/drivers/virtio_balloon"
    with waiting_request(env) as (guest, _):
        seconds = float(guest.sh(
            "read before rest </proc/uptime; "
            f"device=$(basename $(readlink -f {driver}/virtio*)); "
            f"echo $device >{driver}/unbind; read after rest </proc/uptime; "
            f"echo $device >{driver}/bind; "
            "awk \"BEGIN { print $after - $before }\""))
        check(seconds < IDLE_MS / 2000, f"unbind took {seconds} s")
        check(guest.get("guest-working-set-reclaim")["id"] == 0,
              "the request is still there after a reset of the device")
        guest.request_report()
    return f"{seconds} s"


def test_bad_requests(env):
    guest = env.guest("plain")
    bad = {"reports are off": {}}
    for why, fields in (("age", {"idle-age-ms": 0}),
                        ("bytes", {"max-bytes": 0}),
                        ("node", {"node-id": 0xffff})):
        bad[why] = fields
    for why, fields in bad.items():
        if fields:
            guest.request_report()
        before = guest.get("guest-working-set-reclaim")
        try:
            guest.set("guest-working-set-reclaim",
                      {"id": 77, "max-bytes": MIB, "idle-age-ms": 1000,
                       **fields})
        except vm.QMPError as error:
            check(len(str(error)) > 20, f"{why}: {error}")
        else:
            check(False, f"{why}: was accepted")
        check(guest.get("guest-working-set-reclaim") == before,
              f"{why}: the request has changed")
