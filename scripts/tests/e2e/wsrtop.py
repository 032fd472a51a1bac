# SPDX-License-Identifier: GPL-2.0
"""wsrtop against a real guest."""

import json
import subprocess

import vm
from e2e import check, near, node_sum

WSRTOP = vm.OUT / "bin/wsrtop"


def wsrtop(guest, *options, expected_status=0):
    if not WSRTOP.exists():
        raise AssertionError(f"{WSRTOP.relative_to(vm.ROOT)} is missing: "
                             "build it with make tools")
    done = subprocess.run(
        [WSRTOP, *options, f"vm1={guest.qmp_path}"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        timeout=60, check=False)
    check(done.returncode == expected_status,
          f"exit status {done.returncode}, not {expected_status}\n"
          f"{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def test_json(env):
    guest = env.guest("plain")
    guest.request_report()
    line = wsrtop(guest, "--once", "--json", "--bounds", "1s,7s")
    message = json.loads(line)
    report = message["report"]
    check(message["guest"] == "vm1", line)
    check(report["status"] == "ok" and len(report["nodes"]) == 1, line)
    node = report["nodes"][0]
    check([b.get("idle-age-ms") for b in node["bins"]] == [1000, 7000, None],
          line)
    near(node_sum(node), node["total-bytes"], node["total-bytes"] / 100, "sum")
    check(report["request-id"] ==
          guest.get("guest-working-set")["report"]["request-id"],
          "not the report that QEMU has")


def test_once_is_plain_text(env):
    guest = env.guest("plain")
    output = wsrtop(guest, "--once", "--bounds", "1s,7s")
    check("vm1" in output and "\x1b" not in output, repr(output))
    for bound in ("1 s", "1s"), ("7 s", "7s"):
        check(any(word in output for word in bound), output)


def test_count_goes_on(env):
    guest = env.guest("plain")
    lines = wsrtop(guest, "--json", "--count", "3", "--interval",
                   "500ms").splitlines()
    ids = [json.loads(line)["report"]["request-id"] for line in lines]
    check(len(set(ids)) == 3, f"request ids {ids}")


def test_property_off_is_explained(env):
    guest = env.start("off", memory="256M", balloon="")
    output = wsrtop(guest, "--once", expected_status=1)
    check("working-set-reporting=on" in output, output)
    env.close_guest("off")
