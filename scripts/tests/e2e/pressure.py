# SPDX-License-Identifier: GPL-2.0
"""Reports that the guest sends by itself, when it runs short of memory."""

import time

from e2e import Pressure, check

REPORT_MS = 3000
WATCH_S = 15


def unsolicited(guest, mark):
    return [e for e in guest.qmp.events_since(mark, "BALLOON_WORKING_SET")
            if e["data"]["request-id"] == 0]


def test_unsolicited_reports_respect_report_ms(env):
    guest = env.guest("plain")
    guest.configure(report_ms=REPORT_MS)
    guest.request_report()
    mark = guest.qmp.mark()
    with Pressure(guest):
        guest.qmp.wait_event("BALLOON_WORKING_SET", mark,
                             lambda data: data["request-id"] == 0)
        time.sleep(WATCH_S)
    events = unsolicited(guest, mark)
    check(len(events) >= 3, f"only {len(events)} in more than {WATCH_S} s")
    arrived = [e["arrived"] for e in events]
    distance = min(b - a for a, b in zip(arrived, arrived[1:]))
    mean = (arrived[-1] - arrived[0]) / (len(arrived) - 1)
    # The guest keeps the distance; the way to here takes longer at times.
    report_s = REPORT_MS / 1000
    check(distance >= report_s * 0.8 and mean >= report_s * 0.95,
          f"report_ms is {REPORT_MS}, but reports came at "
          f"{', '.join(f'{a - arrived[0]:.2f}' for a in arrived)} s")
    sequence = [e["data"]["sequence"] for e in events]
    check(sequence == list(range(sequence[0], sequence[0] + len(sequence))),
          f"reports are missing or came twice: sequence {sequence}")
    return f"{len(events)} reports, {distance:.2f} s between them at least"


def test_report_ms_0_sends_none(env):
    guest = env.guest("plain")
    guest.configure(report_ms=0)
    sequence = guest.request_report()["sequence"]
    mark = guest.qmp.mark()
    with Pressure(guest):
        time.sleep(5)
    check(not unsolicited(guest, mark),
          f"{len(unsolicited(guest, mark))} unsolicited reports")
    next_sequence = guest.request_report()["sequence"]
    check(next_sequence == sequence + 1,
          f"sequence {sequence}, then {next_sequence}")


def test_request_id_0_stops_reports(env):
    guest = env.guest("plain")
    guest.configure(report_ms=1000)
    guest.request_report()
    mark = guest.qmp.mark()
    with Pressure(guest):
        guest.qmp.wait_event("BALLOON_WORKING_SET", mark,
                             lambda data: data["request-id"] == 0)
        guest.set("guest-working-set-request-id", 0)
        time.sleep(1)  # what was on its way
        mark = guest.qmp.mark()
        time.sleep(5)
        check(not guest.qmp.events_since(mark, "BALLOON_WORKING_SET"),
              "reports after request id 0")
    check(guest.request_report()["status"] == "ok", "no report afterwards")
