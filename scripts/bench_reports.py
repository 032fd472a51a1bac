# SPDX-License-Identifier: GPL-2.0
"""What a report costs on its way to the host, next to the balloon's statistics.

Part of scripts/bench. What the device does is taken from trace events of QEMU,
which all accelerators have; interrupts are counted by the guest as well.

An answer is what the guest sends because the host has asked: for statistics,
the device gives back the buffer of the statistics queue; for a report, it
changes working_set_cmd_id. Statistics have no command to ask for them, but when
polling is switched on, the first poll comes at once.
"""

import collections
import contextlib
import dataclasses
import math
import re
import time

import vm

PROGRAM = "/kselftest/wsr/wsr_bench"

STATS_QUEUE = 2
REPORT_QUEUE = 3
# A statistic in the queue
STAT_BYTES = 10
STAT_UNKNOWN = (1 << 64) - 1

# Lines of trace events, with -msg timestamp=on
EVENT = re.compile(r"^\d+@(\d+\.\d+):(\w+) ?(.*)\n", re.MULTILINE)
QUIET_EVENTS = ("virtio_queue_notify", "virtio_notify",
                "virtio_balloon_working_set_request",
                "virtio_balloon_working_set_report")
# Of all devices, so only while they are counted
REGISTER_EVENTS = ("memory_region_ops_read", "memory_region_ops_write")
# The balloon's: its configuration space, the registers with the generation of
# that, and the reason for an interrupt, which nobody reads with MSI-X
REGISTERS = {"virtio-pci-device-virtio-balloon": "fields",
             "virtio-pci-common-virtio-balloon": "generation",
             "virtio-pci-isr-virtio-balloon": "interrupt"}

COUNTED = 20
COUNTED_UNSOLICITED = 3
TIMEOUT_S = 300
# A bit more than is free, so that kswapd runs
PRESSURE = "250M"
NEVER_S = 1 << 20

# QEMU sends at most one event in a second.
EVENT_S = 1.05
# How young data have to be: with the first, a report never waits for a look;
# with the second it often does, if timers are late or the guest slept.
EARLIER_REFRESH_MS = 60000
LOOK_REFRESH_MS = 100
LOOK_S = 0.25
BLOCK = 50

STATS = "statistics"
REPORT = "report of an earlier look"
REPORT_WITH_LOOK = "report with a look"

BOUNDS_MS = [1000 << i for i in range(15)]


@dataclasses.dataclass
class Figure:
    """A figure without a goal."""
    metric: str
    value: str
    unit: str
    note: str = ""


@dataclasses.dataclass
class Event:
    """A trace event; when: seconds since the epoch."""
    when: float
    name: str
    text: str

    def field(self, name):
        """The word after a name."""
        found = re.search(rf"(?:^| ){name}:? (\S+)", self.text)
        return found and found[1]


def parse_events(text):
    return [Event(float(when), name, rest)
            for when, name, rest in EVENT.findall(text)]


def percentile(values, percent):
    """The smallest value that so many percent do not exceed."""
    values = sorted(values)
    return values[max(math.ceil(len(values) * percent / 100), 1) - 1]


class Trace:
    """Trace events of the QEMU of a guest."""

    def __init__(self, guest):
        self._guest = guest
        self.switch(QUIET_EVENTS, True)

    def switch(self, names, enable):
        for name in names:
            self._guest.qmp.command("trace-event-set-state", name=name,
                                    enable=enable)

    def mark(self):
        return self._guest.qemu_log_path.stat().st_size

    def since(self, mark):
        with open(self._guest.qemu_log_path, "rb") as log:
            log.seek(mark)
            return parse_events(log.read().decode(errors="replace"))

    def wait_kick(self, mark, queue):
        """The driver's notification of a queue."""
        def kicks():
            return [event for event in self.since(mark)
                    if event.name == "virtio_queue_notify"
                    and event.field("n") == str(queue)]

        return vm.wait_for(kicks, TIMEOUT_S, f"a kick of queue {queue}",
                           0.01)[0]


@dataclasses.dataclass
class Answer:
    """sent: when the QMP command was; asked, answered: when the device asked
    and was notified; event: when QMP had the event, 0: nobody waited for it.
    In seconds since the epoch."""
    sent: float
    asked: float
    answered: float
    event: float = 0
    event_bytes: int = 0
    age_ms: int = 0

    def new_look(self):
        """Whether the report tells of a look after the device had asked."""
        return self.age_ms / 1000 <= self.answered - self.asked


DURATIONS = {
    "device": lambda answer: 1000 * (answer.answered - answer.asked),
    "QMP": lambda answer: 1000 * ((answer.event or answer.answered) -
                                  answer.sent)}


def ask_stats(guest, trace):
    guest.set("guest-stats-polling-interval", 0)
    mark, sent = trace.mark(), time.time()
    guest.set("guest-stats-polling-interval", NEVER_S)
    kick = trace.wait_kick(mark, STATS_QUEUE)
    asked = next(event for event in trace.since(mark)
                 if event.name == "virtio_notify"
                 and event.field("vq") == kick.field("vq"))
    return Answer(sent, asked.when, kick.when)


def ask_report(guest, trace, event_wanted=False):
    request = guest.get("guest-working-set-request-id") + 1
    mark, events = trace.mark(), guest.qmp.mark()
    sent, sent_monotonic = time.time(), time.monotonic()
    guest.set("guest-working-set-request-id", request)
    kick = trace.wait_kick(mark, REPORT_QUEUE)
    asked = next(event for event in trace.since(mark)
                 if event.name == "virtio_balloon_working_set_request")
    answer = Answer(sent, asked.when, kick.when)
    if event_wanted:
        event = guest.qmp.wait_event(
            "BALLOON_WORKING_SET", events,
            lambda data: data["request-id"] == request, TIMEOUT_S)
        answer.event = sent + event["arrived"] - sent_monotonic
        answer.event_bytes = event["bytes"]

    def report():
        last = guest.get("guest-working-set").get("report", {})
        return last.get("request-id") == request and last

    answer.age_ms = max(node["age-ms"] for node in
                        vm.wait_for(report, TIMEOUT_S, "the report")["nodes"])
    return answer


def start(base, balloon="working-set-reporting=on", **options):
    return vm.VM(base, "bench", balloon=balloon,
                 extra=("-msg", "timestamp=on"), **options)


def configure(guest, nr_bins, refresh_ms):
    guest.configure(idle_age_ms=BOUNDS_MS[:nr_bins - 1],
                    refresh_ms=refresh_ms, report_ms=0)


# Counting

def interrupts(guest):
    """{config or queues: number} of the balloon, by the guest."""
    counts = collections.Counter()
    for line in guest.sh("grep virtio /proc/interrupts").splitlines():
        words = line.split()
        numbers = [int(word) for word in words[1:] if word.isdigit()]
        kind = "config" if words[-1].endswith("-config") else "queues"
        counts[kind] += sum(numbers)
    return counts


@dataclasses.dataclass
class Count:
    """What was counted during a number of answers."""
    answers: int
    kicks: int
    interrupts: dict
    reads: dict
    writes: int

    def figures(self, what):
        def each(number):
            return f"{number / self.answers:.2f}"

        config, queues = (self.interrupts[kind]
                          for kind in ("config", "queues"))
        reads = sum(self.reads.values())
        yield Figure(f"{what}: kicks", each(self.kicks), "per answer",
                     f"{self.answers} answers")
        yield Figure(f"{what}: interrupts", each(config + queues),
                     "per answer", f"{each(config)} configuration, "
                     f"{each(queues)} used buffer")
        yield Figure(f"{what}: register reads", each(reads),
                     "per answer", f"{each(self.reads['fields'])} of fields, "
                     f"{each(self.reads['generation'])} of the generation; "
                     f"{each(self.writes)} writes")
        yield Figure(f"{what}: exits with KVM",
                     each(self.kicks + reads + self.writes),
                     "per answer", "kicks and registers")


def count_events(events, answers, guest_interrupts):
    registers = [(event.name, REGISTERS.get(event.field("name").strip("'")))
                 for event in events if event.name in REGISTER_EVENTS]
    return Count(
        answers,
        sum(event.name == "virtio_queue_notify" for event in events),
        guest_interrupts,
        collections.Counter(kind for name, kind in registers
                            if kind and name == "memory_region_ops_read"),
        sum(1 for name, kind in registers
            if kind and name == "memory_region_ops_write"))


@contextlib.contextmanager
def registers_traced(trace):
    trace.switch(REGISTER_EVENTS, True)
    try:
        yield
    finally:
        trace.switch(REGISTER_EVENTS, False)


def count(guest, trace, act):
    """act() returns the number of answers. Nothing else may use the device."""
    before = interrupts(guest)
    mark = trace.mark()
    with registers_traced(trace):
        answers = act()
    events = trace.since(mark)
    after = interrupts(guest)
    return count_events(events, answers,
                        {kind: after[kind] - before[kind]
                         for kind in ("config", "queues")})


def count_asked(guest, trace, ask):
    ask(guest, trace)  # the first look

    def act():
        for _ in range(COUNTED):
            ask(guest, trace)
        return COUNTED

    return count(guest, trace, act)


def count_unsolicited(guest, trace):
    """Reports because memory was reclaimed."""
    guest.configure(report_ms=100)

    def act():
        mark = trace.mark()

        def times():
            return [event.when for event in trace.since(mark)
                    if event.name == "virtio_balloon_working_set_report"]

        pid = guest.background(f"exec {PROGRAM} fault {PRESSURE} 1000",
                               "pressure")
        vm.wait_for(lambda: len(times()) >= COUNTED_UNSOLICITED, TIMEOUT_S,
                    "reports because of reclaim")
        guest.sh(f"kill {pid}; while kill -0 {pid} 2>/dev/null; do "
                 "sleep 0.1; done")
        # The last one may still be on its way.
        vm.wait_for(lambda: time.time() - times()[-1] > 1, TIMEOUT_S,
                    "an end of reports")
        return len(times())

    result = count(guest, trace, act)
    guest.configure(report_ms=0)
    return result


def counts(base):
    """Figures of kicks, interrupts and registers, and of bytes."""
    with start(base, memory="256M", swap="256M") as guest:
        trace = Trace(guest)
        yield from count_asked(guest, trace, ask_stats).figures("statistics")
        yield from stats_bytes(guest)
        for nr_bins in (4, 16):
            yield from report_figures(guest, trace, nr_bins)
        yield from count_unsolicited(guest, trace).figures(
            "report because of reclaim")
    with start(base, memory="512M", nodes=4) as guest:
        yield from report_figures(guest, Trace(guest), 16, ", 4 nodes")
    with start(base, vm.BALLOON, memory="256M") as guest:
        yield from report_figures(guest, Trace(guest), 16, ", reclaim=on")


def report_figures(guest, trace, nr_bins, what=""):
    configure(guest, nr_bins, EARLIER_REFRESH_MS)
    what = f"report, {nr_bins} bins{what}"
    yield from count_asked(guest, trace, ask_report).figures(what)
    yield from report_bytes(guest, trace, what)


# Bytes

def stats_bytes(guest):
    stats = guest.get("guest-stats")["stats"]
    known = sum(value != STAT_UNKNOWN for value in stats.values())
    yield Figure("statistics: buffer", str(known * STAT_BYTES), "bytes",
                 f"{known} statistics that QEMU knows")


def report_bytes(guest, trace, what):
    mark = trace.mark()
    answer = ask_report(guest, trace, event_wanted=True)
    size = next(event.field("size") for event in trace.since(mark)
                if event.name == "virtio_balloon_working_set_report")
    yield Figure(f"{what}: buffer", size, "bytes")
    yield Figure(f"{what}: QMP event", str(answer.event_bytes), "bytes")


# Latency

def sleep_until(when):
    time.sleep(max(when - time.time(), 0))


def block_of_earlier_looks(guest, trace):
    """[(answer with statistics, answer with a report)]"""
    configure(guest, 7, EARLIER_REFRESH_MS)
    before = ask_report(guest, trace, event_wanted=True)  # the first look
    answers = []
    while len(answers) < BLOCK:
        sleep_until(before.event + EVENT_S / 2)
        stats = ask_stats(guest, trace)
        sleep_until(before.event + EVENT_S)
        before = ask_report(guest, trace, event_wanted=True)
        answers.append((stats, before))
    return answers


def block_of_new_looks(guest, trace):
    """The same; events are not waited for."""
    configure(guest, 7, LOOK_REFRESH_MS)
    answers = []
    for _ in range(10 * BLOCK):
        began = time.time()
        stats = ask_stats(guest, trace)
        sleep_until(began + LOOK_S / 2)
        report = ask_report(guest, trace)
        sleep_until(began + LOOK_S)
        if report.new_look():
            answers.append((stats, report))
        if len(answers) == BLOCK:
            return answers
    raise vm.VMError(f"of {10 * BLOCK} reports, only {len(answers)} were made "
                     "with a look of their own")


def alternate(guest, trace):
    """{kind: [answer]}: statistics and reports take turns, and so do, block by
    block, reports of earlier and of new looks."""
    earlier = (block_of_earlier_looks, REPORT)
    new = (block_of_new_looks, REPORT_WITH_LOOK)
    kinds = {STATS: [], REPORT: [], REPORT_WITH_LOOK: []}
    for measure, kind in (earlier, new, new, earlier) * 2:
        for stats, report in measure(guest, trace):
            kinds[STATS].append(stats)
            kinds[kind].append(report)
    return kinds


def latency_figures(state, kinds):
    for what, duration_ms in DURATIONS.items():
        base = [duration_ms(answer) for answer in kinds[STATS]]
        for kind, answers in kinds.items():
            if what == "QMP" and kind == REPORT_WITH_LOOK:
                continue
            values = [duration_ms(answer) for answer in answers]
            for percent in (50, 99):
                value = percentile(values, percent)
                ratio = value / percentile(base, percent)
                yield Figure(f"{state}, {what}: {kind}, p{percent}",
                             f"{value:.1f}", "ms", f"{len(values)} answers; "
                             f"{ratio:.2f} x statistics")


@contextlib.contextmanager
def busy(guest):
    """Each CPU touches memory all the time."""
    names = [f"hold{cpu}" for cpu in range(2)]
    pids = [guest.background(f"exec {PROGRAM} hold 150M 0", name)
            for name in names]
    for name in names:
        guest.sh(f"until grep -q ready /run/{name}.log; do sleep 0.2; done",
                 TIMEOUT_S)
    yield
    guest.sh("kill " + " ".join(map(str, pids)))


def write_samples(file, state, kinds):
    for kind, answers in kinds.items():
        for answer in answers:
            durations = [f"{duration_ms(answer):.3f}"
                         for duration_ms in DURATIONS.values()]
            file.write("\t".join([state, kind, *durations,
                                  str(answer.age_ms)]) + "\n")


def latencies(base, samples_path):
    """Figures of how long answers take. Each one goes to a file."""
    with start(base, memory="512M") as guest, \
            open(samples_path, "w", encoding="utf-8") as file:
        trace = Trace(guest)
        file.write("\t".join(["state", "kind", *DURATIONS, "age_ms"]) + "\n")
        for state, load in (("idle", contextlib.nullcontext()),
                            ("busy", busy(guest))):
            with load:
                kinds = alternate(guest, trace)
            write_samples(file, state, kinds)
            yield from latency_figures(state, kinds)
