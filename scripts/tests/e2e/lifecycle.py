# SPDX-License-Identifier: GPL-2.0
"""Reboot, unbinding, suspend and a moving balloon while reports are wanted."""

import threading
import time

from e2e import check, near, node_sum
from vm import QMP, BALLOON_PATH, QMPError, connect, size_bytes, wait_for

MIB = 1 << 20
DRIVER = "/sys/bus/virtio/drivers/virtio_balloon"


class Requests:
    """Asks for reports all the time, through a connection of its own."""

    def __init__(self, guest):
        self._qmp = QMP(connect(guest.qmp_path, guest.process))
        self._stop = threading.Event()
        self.requests = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stop.wait(0.05):
            self.requests += 1
            self._qmp.command("qom-set", path=BALLOON_PATH,
                              property="guest-working-set-request-id",
                              value=1000000 + self.requests)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        self._qmp.close()


def test_reboot_keeps_settings(env):
    guest = env.guest("plain")
    guest.configure(idle_age_ms=[1234, 5678], refresh_ms=777, report_ms=4321)
    request = guest.request_report()["request-id"]
    config = guest.get("guest-working-set-config")
    mark = guest.qmp.mark()
    guest.reboot()
    check(guest.get("guest-working-set-config") == config,
          "the reboot changed the settings")
    check(guest.get("guest-working-set-request-id") == request,
          "the reboot changed the request id")
    # The driver finds an id that is not 0 and takes it for a request.
    event = guest.qmp.wait_event(
        "BALLOON_WORKING_SET", mark,
        lambda data: data["request-id"] == request and data["sequence"] == 1)
    ages = [b.get("idle-age-ms") for b in event["data"]["nodes"][0]["bins"]]
    check(ages == [1234, 5678, None], f"bins {ages} after the reboot")
    check(guest.request_report()["status"] == "ok", "no report afterwards")


def test_unbind_and_bind_during_requests(env):
    guest = env.guest("plain")
    device = guest.sh(f"cd {DRIVER} && ls -d virtio*").strip()
    rounds = 0
    end = time.monotonic() + 30
    with Requests(guest) as requests:
        while rounds < 10 or requests.requests < 20:
            check(time.monotonic() < end, f"{requests.requests} requests and "
                  f"{rounds} times unbound in 30 s")
            guest.sh(f"echo {device} >{DRIVER}/unbind")
            guest.sh(f"echo {device} >{DRIVER}/bind")
            rounds += 1
    check(guest.request_report()["status"] == "ok", "no report afterwards")
    return f"{rounds} times, {requests.requests} requests"


def test_unbound_driver_is_not_active(env):
    guest = env.guest("plain")
    device = guest.sh(f"cd {DRIVER} && ls -d virtio*").strip()
    guest.request_report()
    guest.sh(f"echo {device} >{DRIVER}/unbind")
    active = guest.get("guest-working-set")["active"]
    guest.sh(f"echo {device} >{DRIVER}/bind")
    check(not active, "active although no driver is bound")
    wait_for(lambda: guest.get("guest-working-set")["active"], 10,
             "the driver to be active again")


def test_suspend_during_requests(env):
    guest = env.guest("plain")
    if guest.run("[ -e /sys/power/pm_test ]")[0]:
        raise AssertionError("the kernel lacks CONFIG_PM_SLEEP_DEBUG")
    guest.configure(report_ms=1000)
    guest.sh("echo 1 >/sys/module/suspend/parameters/pm_test_delay; "
             "echo devices >/sys/power/pm_test")
    with Requests(guest):
        for _ in range(3):
            guest.sh("echo freeze >/sys/power/state")
    guest.sh("echo none >/sys/power/pm_test")
    report = guest.request_report()
    check(report["status"] == "ok", f"{report}")
    near(node_sum(report["nodes"][0]), report["nodes"][0]["total-bytes"],
         report["nodes"][0]["total-bytes"] / 100, "sum")


def set_balloon(guest, size):
    """Returns when the guest has this many bytes."""
    guest.qmp.command("balloon", value=size)
    wait_for(lambda: abs(guest.qmp.command("query-balloon")["actual"] - size)
             < MIB, 60, f"the balloon to leave {size // MIB} MiB")


def test_balloon_moves_during_requests(env):
    guest = env.guest("plain")
    full = size_bytes("512M")
    before = guest.request_report()["nodes"][0]["total-bytes"]
    with Requests(guest):
        for _ in range(2):
            set_balloon(guest, full - 192 * MIB)
            set_balloon(guest, full)
        set_balloon(guest, full - 192 * MIB)
    small = guest.request_report()["nodes"][0]
    set_balloon(guest, full)
    time.sleep(0.2)
    after = guest.request_report()["nodes"][0]
    near(small["total-bytes"], before - 192 * MIB, 4 * MIB, "total, inflated")
    near(node_sum(small), small["total-bytes"], small["total-bytes"] / 100,
         "sum, inflated")
    near(after["total-bytes"], before, 4 * MIB, "total, deflated")


def test_errors_name_the_property(env):
    guest = env.start("off", memory="256M", balloon="")
    for name in ("guest-working-set", "guest-working-set-config",
                 "guest-working-set-request-id"):
        try:
            guest.get(name)
        except QMPError as error:
            check("working-set-reporting=on" in str(error), f"{error}")
        else:
            raise AssertionError(f"{name} can be read")
    env.close_guest("off")
