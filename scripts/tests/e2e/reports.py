# SPDX-License-Identifier: GPL-2.0
"""Reports that the host asks for."""

import time

from e2e import check, near, node_sum, swap_backed
from vm import Bands, QMPError, wait_for

MIB = 1 << 20


def test_requested_id_comes_back(env):
    guest = env.guest("plain")
    first = guest.request_report()
    second = guest.request_report()
    state = guest.get("guest-working-set")
    check(second["request-id"] == first["request-id"] + 1,
          f"ids {first['request-id']}, {second['request-id']}")
    check(second["sequence"] > first["sequence"],
          f"sequence {first['sequence']}, then {second['sequence']}")
    check(first["status"] == second["status"] == "ok", f"{second}")
    check(state["active"], "the device says that no driver is active")
    near(state["last-update"], time.time(), 10, "last-update")


def test_event_carries_the_report(env):
    guest = env.guest("plain")
    mark = guest.qmp.mark()
    report = guest.request_report()
    event = guest.qmp.wait_event(
        "BALLOON_WORKING_SET", mark,
        lambda data: data["request-id"] == report["request-id"])
    check(event["data"] == report, f"{event['data']}\ndiffers from\n{report}")


def test_bins_have_the_bounds(env):
    guest = env.guest("plain")
    bounds = guest.get("guest-working-set-config")["idle-age-ms"]
    for node in guest.request_report()["nodes"]:
        ages = [b.get("idle-age-ms") for b in node["bins"]]
        check(ages == bounds + [None], f"bins {ages} for bounds {bounds}")


def test_report_matches_sysfs(env):
    guest = env.guest("plain")
    bounds = [1000, 5000, 20000]
    guest.configure(idle_age_ms=bounds, refresh_ms=20)
    guest.sh(f"echo 20 >{guest.node_file('refresh_ms')}; echo 1000,5000,20000 "
             f">{guest.node_file('intervals_ms')}")
    report = guest.request_report()
    stat, histogram = guest.read_stat(), guest.read_histogram()
    guest.sh(f"echo >{guest.node_file('intervals_ms')}")
    check(len(report["nodes"]) == 1, f"{len(report['nodes'])} nodes, not 1")
    node = report["nodes"][0]
    one_percent = stat["total"] / 100
    near(node_sum(node), node["total-bytes"], one_percent, "sum of the report")
    near(node["total-bytes"], stat["total"], one_percent, "total")
    for name in ("free", "unevictable", "kernel", "slab_reclaimable",
                 "refaulted"):
        near(node[name.replace("_", "-") + "-bytes"], stat[name], one_percent,
             name)
    near(node["swap-free-bytes"], stat["swap_free"], 0, "swap_free")
    near(sum(b["swap-backed-bytes"] for b in node["bins"]),
         sum(anon for _, anon, _ in histogram), one_percent, "swap-backed")
    near(sum(b["file-backed-bytes"] for b in node["bins"]),
         sum(file_backed for _, _, file_backed in histogram), one_percent,
         "file-backed")
    return f"total {node['total-bytes'] // MIB} MiB"


def report_when_old(guest, bins):
    """The first report in which what the guest had before is not in these bins:
    it is not to move to another bin during a test."""
    def old():
        report = guest.request_report()
        return report if swap_backed(report, 0, bins) < 4 * MIB else None

    return wait_for(old, 60, "the guest's own memory to be old", 0.5)


def test_growing_and_shrinking_shows(env):
    guest = env.guest("plain")
    guest.configure(idle_age_ms=[2500, 10000], refresh_ms=500)
    before = report_when_old(guest, 1)
    bands = Bands(guest, "96M:0.5")
    try:
        time.sleep(1)  # so that the last look came after the last page
        grown = guest.request_report()
    finally:
        bands.quit()
    time.sleep(1)
    shrunk = guest.request_report()
    young = swap_backed(grown, 0, 1) - swap_backed(before, 0, 1)
    near(young, 96 * MIB, 6 * MIB, "young bytes of the workload")
    near(swap_backed(grown) - swap_backed(before), 96 * MIB, 4 * MIB,
         "all bytes of the workload")
    near(swap_backed(shrunk), swap_backed(before), 4 * MIB, "after its end")
    return f"{young / MIB:.1f} of 96 MiB young"


def test_new_memory_is_young(env):
    """Also before the next look."""
    guest = env.guest("plain")
    guest.configure(idle_age_ms=[5000, 10000], refresh_ms=5000)
    before = guest.request_report()
    bands = Bands(guest, "64M:never")
    try:
        young = swap_backed(guest.request_report(), 0, 1)
    finally:
        bands.quit()
    near(young - swap_backed(before, 0, 1), 64 * MIB, 4 * MIB,
         "bytes younger than 5 s that were just touched")


def test_cold_memory_grows_old(env):
    guest = env.guest("plain")
    guest.configure(idle_age_ms=[2000, 4000, 60000], refresh_ms=500)
    before = report_when_old(guest, 2)
    bands = Bands(guest, "64M:0.5", "64M:never")
    try:
        time.sleep(6)
        report = guest.request_report()
    finally:
        bands.quit()
    near(swap_backed(report, 0, 1) - swap_backed(before, 0, 1), 64 * MIB,
         6 * MIB, "the hot half is young")
    near(swap_backed(report, 2, 3) - swap_backed(before, 2, 3), 64 * MIB,
         6 * MIB, "the cold half is between 4 and 60 s old")


def test_bounds_change_at_run_time(env):
    guest = env.guest("plain")
    for bounds in ([1500], [1000, 2000, 3000],
                   [100 * i for i in range(1, 16)], [700, 7000]):
        guest.configure(idle_age_ms=bounds)
        for node in guest.request_report()["nodes"]:
            ages = [b.get("idle-age-ms") for b in node["bins"]]
            check(ages == bounds + [None], f"bins {ages} for bounds {bounds}")
            near(node_sum(node), node["total-bytes"],
                 node["total-bytes"] / 100, "sum")


def test_bad_settings_are_refused(env):
    guest = env.guest("plain")
    good = guest.get("guest-working-set-config")
    for bad in ([], [0], [0, 1000], [2000, 1000], [1000, 1000],
                list(range(1, 17)), [1 << 32]):
        try:
            guest.configure(idle_age_ms=bad)
        except QMPError:
            check(guest.get("guest-working-set-config") == good,
                  f"refused bounds {bad} changed the settings")
        else:
            raise AssertionError(f"bounds {bad} were accepted")
    guest.set("guest-working-set-request-id", 77)
    try:
        guest.set("guest-working-set-request-id", 77)
    except QMPError:
        return
    raise AssertionError("the same request id was accepted twice")


def test_request_id_wraps(env):
    guest = env.guest("plain")
    guest.set("guest-working-set-request-id", 0xffffffff)
    wait_for(lambda: guest.get("guest-working-set").get("report", {}).get(
        "request-id") == 0xffffffff, 30, "the report with id 2^32 - 1")
    check(guest.request_report()["request-id"] == 1, "the next id is not 1")


def test_one_record_for_each_node(env):
    guest = env.guest("nodes")
    report = guest.request_report()
    check([node.get("node-id") for node in report["nodes"]] == [0, 1],
          f"nodes {[node.get('node-id') for node in report['nodes']]}")
    for node in report["nodes"]:
        near(node_sum(node), node["total-bytes"], node["total-bytes"] / 100,
             f"sum of node {node['node-id']}")
        stat = guest.sh("cat /sys/devices/system/node/node"
                        f"{node['node-id']}/meminfo")
        mem_total = int(stat.split("MemTotal:")[1].split()[0]) << 10
        near(node["total-bytes"], mem_total, mem_total / 100,
             f"total of node {node['node-id']}")
    env.close_guest("nodes")


def test_all_queues_before_ours(env):
    guest = env.guest("queues")
    report = guest.request_report()
    check(report["status"] == "ok" and report["nodes"], f"{report}")
    env.close_guest("queues")


def test_looks_stay_within_the_cpu_budget(env):
    """With 1 % of a CPU, looks that take 5 ms may come every 500 ms."""
    guest = env.guest("plain")
    parameter = "/sys/module/wsr/parameters/cpu_percent"
    percent = guest.sh(f"cat {parameter}").strip()
    guest.sh(f"echo 1 >{parameter}; echo 20 >{guest.node_file('refresh_ms')}; "
             f"echo 1000 >{guest.node_file('intervals_ms')}")
    bands = Bands(guest, "64M:0.2")
    try:
        before = guest.read_stat()
        time.sleep(4)
        after = guest.read_stat()
        guest.sh(f"echo 100 >{parameter}")
        unlimited_ms = guest.read_stat()["effective_refresh_ms"]
    finally:
        bands.quit()
        guest.sh(f"echo {percent} >{parameter}; echo 1000 "
                 f">{guest.node_file('refresh_ms')}; echo "
                 f">{guest.node_file('intervals_ms')}")
    effective_ms = min(s["effective_refresh_ms"] for s in (before, after))
    looks = after["refreshes"] - before["refreshes"]
    note = (f"{looks} looks in about 4 s, effective_refresh_ms {effective_ms}, "
            f"with the whole CPU {unlimited_ms}")
    check(looks <= 4500 / effective_ms * 1.5 + 2, note)
    check(unlimited_ms <= max(20, effective_ms / 10), note)
    return note
