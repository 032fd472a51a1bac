// SPDX-License-Identifier: GPL-2.0
/*
 * poll() on the histogram wakes up after background reclaim, and not more often
 * than report_ms allows.
 *
 * The pressure comes from reading a file that is larger than memory: page cache
 * that nobody needs fills memory until kswapd runs. The file has no blocks. It
 * is made in the directory given as argument, else in TMPDIR, else in /var/tmp.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define TMPFS_MAGIC	0x01021994
#define RAMFS_MAGIC	0x858458f6

#define REPORT_MS	1000
#define WATCH_S		6.0
/* How long it may take to fill memory */
#define PRESSURE_S	60.0

static int open_large_file(const char *directory)
{
	unsigned long long bytes = sysconf(_SC_PHYS_PAGES);
	struct statfs file_system;
	char path[4096];
	int fd;

	bytes *= sysconf(_SC_PAGESIZE);
	if (statfs(directory, &file_system) ||
	    file_system.f_type == TMPFS_MAGIC ||
	    file_system.f_type == RAMFS_MAGIC)
		ksft_exit_skip("%s is not on a disk: name a directory that is\n",
			       directory);
	snprintf(path, sizeof(path), "%s/wsr_poll.XXXXXX", directory);
	fd = mkstemp(path);
	if (fd < 0)
		ksft_exit_skip("cannot make a file in %s\n", directory);
	unlink(path);
	if (ftruncate(fd, bytes + bytes / 4))
		ksft_exit_skip("cannot make a file larger than memory in %s\n",
			       directory);
	return fd;
}

static pid_t start_pressure(const char *directory)
{
	static char buffer[1 << 20];
	int fd = open_large_file(directory);
	pid_t child = fork();

	if (child) {
		close(fd);
		return child;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		if (read(fd, buffer, sizeof(buffer)) <= 0)
			lseek(fd, 0, SEEK_SET);
}

/* Pages that kswapd has looked at since boot */
static unsigned long long kswapd_scanned(void)
{
	unsigned long long pages = 0;
	char line[256];
	FILE *vmstat = fopen("/proc/vmstat", "r");

	while (vmstat && fgets(line, sizeof(line), vmstat))
		sscanf(line, "pgscan_kswapd %llu", &pages);
	if (vmstat)
		fclose(vmstat);
	return pages;
}

static int wait_for_kswapd(void)
{
	unsigned long long before = kswapd_scanned();
	double end = ws_seconds() + PRESSURE_S;

	while (kswapd_scanned() == before) {
		if (ws_seconds() > end)
			return -1;
		usleep(100000);
	}
	return 0;
}

/* Counts for WATCH_S how often poll() says that there is a new report. */
static int count_notifications(double *first_s)
{
	double start = ws_seconds(), now = start;
	struct pollfd histogram = { .events = POLLPRI };
	char text[4096];
	int notifications = 0;

	histogram.fd = open(ws_path("histogram"), O_RDONLY);
	if (histogram.fd < 0)
		ksft_exit_fail_msg("cannot open histogram\n");
	while (now < start + WATCH_S) {
		/* sysfs: what has been read is known, wake up when it is old. */
		if (pread(histogram.fd, text, sizeof(text), 0) <= 0)
			ksft_exit_fail_msg("cannot read histogram\n");
		if (poll(&histogram, 1, (start + WATCH_S - now) * 1000) > 0 &&
		    !notifications++)
			*first_s = ws_seconds() - start;
		now = ws_seconds();
	}
	close(histogram.fd);
	return notifications;
}

int main(int argc, char **argv)
{
	const char *directory = getenv("TMPDIR") ?: "/var/tmp";
	double first_s = WATCH_S;
	int notifications;
	pid_t pressure;

	ksft_print_header();
	ws_init();
	if (argc > 1)
		directory = argv[1];

	ws_write("intervals_ms", "1000,5000");
	ws_write("report_ms", "0");
	pressure = start_pressure(directory);
	ksft_set_plan(3);
	if (wait_for_kswapd()) {
		kill(pressure, SIGKILL);
		ksft_exit_skip("kswapd did not run within %.0f s of pressure\n",
			       PRESSURE_S);
	}

	notifications = count_notifications(&first_s);
	ksft_test_result(notifications == 0,
			 "report_ms 0: %d notifications in %.0f s of pressure\n",
			 notifications, WATCH_S);

	ws_write("report_ms", "1000");
	notifications = count_notifications(&first_s);
	ksft_test_result(notifications > 0,
			 "poll wakes up, the first time after %.2f s\n",
			 first_s);
	/* One more than there are whole intervals */
	ksft_test_result(notifications <= WATCH_S * 1000 / REPORT_MS + 1,
			 "report_ms 1000: %d notifications in %.0f s\n",
			 notifications, WATCH_S);

	kill(pressure, SIGKILL);
	waitpid(pressure, NULL, 0);
	ksft_finished();
}
