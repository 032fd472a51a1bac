// SPDX-License-Identifier: GPL-2.0
/*
 * The file working_set/reclaim: what it takes, what it refuses, and that it
 * reclaims memory that is not used rather than memory that is.
 *
 *	reclaim [DIR]	DIR, default ".", is on a disk: page cache is reclaimed
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define HOT_BYTES	(16UL << 20)
#define COLD_BYTES	(32UL << 20)
#define ASKED		"16M"
#define ASKED_BYTES	(16UL << 20)
/* The last step of reclaim may take this much too much. */
#define STEP_BYTES	1048576UL
#define IDLE_MS		"3000"
#define PATIENCE_S	90.0
#define HOT_PERIOD_US	200000

static const char * const invalid[] = {
	"", "16M", "16M ", "M 3000", "16M soon", "16M 0", "16M -1", "-1 3000",
	"16M3000", "16M,3000", "16M 3000 1", "16M 3000ms", "16M 4294967296",
};

struct cached_file {
	size_t bytes;
	char *memory;
	int fd;
};

/* A file without blocks that is only read: its page cache is clean. */
static void open_file(struct cached_file *file, const char *directory,
		      size_t bytes)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/wsr_reclaim.XXXXXX", directory);
	file->bytes = bytes;
	file->fd = mkstemp(path);
	if (file->fd < 0)
		ksft_exit_fail_msg("no file in %s: %s\n", directory,
				   strerror(errno));
	unlink(path);
	if (ftruncate(file->fd, bytes))
		ksft_exit_fail_msg("ftruncate: %s\n", strerror(errno));
	file->memory = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file->fd, 0);
	if (file->memory == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));
}

static void read_file(const struct cached_file *file)
{
	static char buffer[64 << 10];

	for (size_t at = 0; at < file->bytes; at += sizeof(buffer))
		if (pread(file->fd, buffer, sizeof(buffer), at) < 0)
			_exit(1);
}

static size_t cached_bytes(const struct cached_file *file)
{
	size_t page = sysconf(_SC_PAGESIZE), bytes = 0;
	size_t nr_pages = file->bytes / page;
	unsigned char *cached = malloc(nr_pages);

	if (!cached || mincore(file->memory, file->bytes, cached))
		ksft_exit_fail_msg("mincore: %s\n", strerror(errno));
	for (size_t i = 0; i < nr_pages; i++)
		bytes += cached[i] & 1 ? page : 0;
	free(cached);
	return bytes;
}

static pid_t start_reader(const struct cached_file *file)
{
	pid_t child = fork();

	if (child < 0)
		ksft_exit_fail_msg("fork: %s\n", strerror(errno));
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		read_file(file);
		usleep(HOT_PERIOD_US);
	}
}

static uint64_t idle_file_bytes(void)
{
	struct ws_histogram histogram;

	ws_read_histogram(&histogram);
	return histogram.bins[1].file_bytes;
}

static void wait_idle(uint64_t bytes)
{
	double end = ws_seconds() + PATIENCE_S;

	while (ws_stat("warming_up") || idle_file_bytes() < bytes) {
		if (ws_seconds() > end)
			ksft_exit_fail_msg("%ju bytes are idle, not %ju\n",
					   (uintmax_t)idle_file_bytes(),
					   (uintmax_t)bytes);
		usleep(200000);
	}
}

static void test_mode(void)
{
	struct stat status;

	ksft_test_result(!stat(ws_path("reclaim"), &status) &&
			 (status.st_mode & 07777) == 0200,
			 "reclaim has mode 0200\n");
}

static void test_off(void)
{
	ws_write("intervals_ms", "\n");
	ksft_test_result(ws_write("reclaim", ASKED " " IDLE_MS) == -ENODATA,
			 "while nothing is watched there is no data\n");
}

static void test_invalid(int i)
{
	/* An empty text would not be written at all. */
	const char *text = *invalid[i] ? invalid[i] : "\n";

	ksft_test_result(ws_write("reclaim", text) == -EINVAL,
			 "reclaim refuses \"%s\"\n", invalid[i]);
}

static void test_nothing_idle(void)
{
	uint64_t before = ws_stat("reclaimed");
	uint64_t requests = ws_stat("reclaim_requests");

	/* Nothing is older than the machine; but little has no samples. */
	ws_write("reclaim", "1T 4294967295\n");
	ksft_test_result(ws_stat("reclaimed") <= before + 4 * STEP_BYTES &&
			 ws_stat("reclaim_requests") == requests + 1,
			 "nothing is taken if nothing is idle for so long\n");
}

static void test_effect(const char *directory)
{
	uint64_t requested, reclaimed;
	struct cached_file hot, cold;
	size_t hot_left, cold_left;
	struct statfs fs;
	pid_t reader;
	double start;
	int error;

	if (statfs(directory, &fs) || fs.f_type == TMPFS_MAGIC ||
	    fs.f_type == RAMFS_MAGIC) {
		for (int i = 0; i < 4; i++)
			ksft_test_result_skip("%s is not on a disk\n",
					      directory);
		return;
	}
	/* Hot first, so that it is not the newest on the LRU. */
	open_file(&hot, directory, HOT_BYTES);
	reader = start_reader(&hot);
	open_file(&cold, directory, COLD_BYTES);
	read_file(&cold);
	wait_idle(COLD_BYTES / 10 * 9);

	requested = ws_stat("reclaim_requested");
	reclaimed = ws_stat("reclaimed");
	start = ws_seconds();
	error = ws_write("reclaim", ASKED " " IDLE_MS "\n");
	hot_left = cached_bytes(&hot);
	cold_left = cached_bytes(&cold);
	reclaimed = ws_stat("reclaimed") - reclaimed;
	kill(reader, SIGKILL);

	ksft_print_msg("%ju bytes in %.1f s; left: hot %zu, cold %zu\n",
		       (uintmax_t)reclaimed, ws_seconds() - start, hot_left,
		       cold_left);
	ksft_test_result(!error && reclaimed >= ASKED_BYTES / 32 * 31,
			 "as much as asked for is reclaimed: %s\n",
			 strerror(-error));
	ksft_test_result(reclaimed <= ASKED_BYTES + STEP_BYTES &&
			 ws_stat("reclaim_requested") - requested == ASKED_BYTES,
			 "not more is reclaimed\n");
	ksft_test_result(cold_left <= COLD_BYTES - ASKED_BYTES / 10 * 9,
			 "the file that is not used goes\n");
	ksft_test_result(hot_left >= HOT_BYTES / 10 * 9,
			 "the file that is used stays\n");
}

int main(int argc, char **argv)
{
	ksft_print_header();
	ws_init();
	ksft_set_plan(2 + ARRAY_SIZE(invalid) + 1 + 4);

	test_mode();
	test_off();
	ws_write("refresh_ms", "500");
	ws_write("intervals_ms", IDLE_MS);
	wait_idle(0);
	for (size_t i = 0; i < ARRAY_SIZE(invalid); i++)
		test_invalid(i);
	test_nothing_idle();
	test_effect(argc > 1 ? argv[1] : ".");
	ksft_finished();
}
