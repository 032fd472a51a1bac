// SPDX-License-Identifier: GPL-2.0
/*
 * Live migration reads all memory of a guest, and with that allocates what the
 * guest never used (a hole in shared memory gets a page of zeroes when it is
 * read) and swaps in what was swapped out: the host needs most memory when it
 * wanted to get rid of a guest. Nothing can be done about the reading from
 * outside, but what it brought in can be moved out again at once.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "../text.h"
#include "migrate.h"
#include "ranges.h"

#define MIN_MAP_BYTES	(UINT64_C(16) << 20)
#define PERIOD_MS	200

static void say(const char *what, uint64_t bytes)
{
	char text[TEXT_SHORT];

	printf("%-28s %10s\n", what, text_bytes(text, bytes));
}

static int guard(struct ranges *ranges)
{
	struct pollfd fds[2] = {
		{ .fd = ranges->pidfd, .events = POLLIN },
		{ .events = POLLIN },
	};
	uint64_t moved = 0, most = 0;
	char error[RANGES_ERROR];
	int64_t bytes;
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	fds[1].fd = signalfd(-1, &signals, SFD_CLOEXEC);
	puts("guarding; start the migration now, and end this with Ctrl-C (or when QEMU ends)");
	fflush(stdout);
	while (!poll(fds, 2, PERIOD_MS)) {
		bytes = ranges_page_out(ranges, error);
		if (bytes < 0) {
			/* The process may have ended just now. */
			if (poll(fds, 1, 1000))
				break;
			fprintf(stderr, "wsrctl: %s\n", error);
			return 1;
		}
		moved += bytes;
		if ((uint64_t)bytes > most)
			most = bytes;
	}
	say("moved out again", moved);
	say("at most at a time", most);
	return 0;
}

int migrate_guard(char **arguments)
{
	char error[RANGES_ERROR], *end;
	struct ranges ranges;
	long pid;
	int status;

	pid = strtol(arguments[0], &end, 10);
	if (*end || pid <= 0) {
		fprintf(stderr, "wsrctl: '%s' is not the process id of a QEMU\n",
			arguments[0]);
		return 2;
	}
	if (ranges_find(&ranges, pid, MIN_MAP_BYTES, error)) {
		fprintf(stderr, "wsrctl: %s\n", error);
		return 1;
	}
	say("in memory", ranges.resident_bytes);
	say("swapped out", ranges.swapped_bytes);
	say("never written", ranges.hole_bytes);
	status = guard(&ranges);
	ranges_free(&ranges);
	return status;
}
