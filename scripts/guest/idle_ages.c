// SPDX-License-Identifier: GPL-2.0
/*
 * What wsrd's sampling of idle pages says of a process.
 *
 * usage: idle_ages PID BYTES INTERVAL_MS FILE
 *
 * PID is looked at as if it was the QEMU of a VM of so many bytes. At each
 * interval FILE is replaced by the text of the child, see idle_print(), after
 * the lines "time_ms", when that was, and "cpu_us", the CPU time of the child so
 * far. It ends with the process.
 */
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "idle.h"

static void write_file(const char *path, const char *text, pid_t child)
{
	struct timespec now, used = { 0 };
	char temporary[4096];
	clockid_t clock;
	FILE *file;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	file = fopen(temporary, "w");
	if (!file)
		err(1, "%s", temporary);
	if (!clock_getcpuclockid(child, &clock))
		clock_gettime(clock, &used);
	clock_gettime(CLOCK_BOOTTIME, &now);
	fprintf(file, "time_ms %" PRId64 "\ncpu_us %" PRId64 "\n%s",
		now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000,
		used.tv_sec * INT64_C(1000000) + used.tv_nsec / 1000, text);
	if (fclose(file) || rename(temporary, path))
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	struct idle_request request;
	struct idle_kernel kernel;
	char text[IDLE_TEXT];
	int sockets[2], error;
	ssize_t len;
	pid_t child;

	if (argc != 5) {
		fputs("usage: idle_ages PID BYTES INTERVAL_MS FILE\n", stderr);
		return 2;
	}
	request = (struct idle_request) {
		.pid = atoi(argv[1]),
		.size_bytes = strtoull(argv[2], NULL, 10),
		.interval_ms = atoi(argv[3]),
	};
	error = idle_open(&kernel, "");
	if (error)
		errx(1, "idle pages: %s", strerror(error));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets))
		err(1, "socketpair");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		close(sockets[0]);
		idle_serve(&kernel, sockets[1]);
	}
	close(sockets[1]);
	if (send(sockets[0], &request, sizeof(request), 0) < 0)
		err(1, "request");
	while ((len = recv(sockets[0], text, sizeof(text) - 1, 0)) > 0) {
		text[len] = '\0';
		if (strstr(text, "\nerror ")) {
			fputs(text, stderr);
			return 1;
		}
		write_file(argv[4], text, child);
	}
	errx(1, "the child has ended");
}
