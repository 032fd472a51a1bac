// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is used all the time looks young even if the task that uses it
 * never leaves its CPU: its translations stay cached, and some architectures do
 * not set the accessed bit again while they are. Run it on a machine with little
 * memory: a small part of a large one is not sampled well.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define HUGE_BYTES	(2UL << 20)
/* Fits the smallest of translation caches */
#define SMALL_SET_PAGES	128
#define BOUND_MS	"3000"
#define REFRESH_MS	"500"
/* Looks that are waited for, so that all ages are known */
#define LOOKS		4
#define READS		4
#define PATIENCE_S	60.0
/* A small set has few samples. */
#define SMALL_HOT_SHARE	0.4
#define HUGE_HOT_SHARE	0.9

static void pin_to_last_cpu(void)
{
	int cpu = sysconf(_SC_NPROCESSORS_ONLN) - 1;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

/* Reads a word of each page, again and again, without a system call. */
static pid_t start_reader(size_t bytes, int advice)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *memory;
	pid_t child = fork();

	if (child < 0)
		ksft_exit_fail_msg("no child\n");
	if (child)
		return child;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin_to_last_cpu();
	memory = aligned_alloc(HUGE_BYTES, bytes);
	if (!memory)
		_exit(1);
	madvise(memory, bytes, advice);
	memset(memory, 1, bytes);
	for (;;) {
		for (size_t i = 0; i < bytes; i += page)
			asm volatile("" : : "r" (memory[i]));
	}
}

static void wait_for_looks(void)
{
	uint64_t enough = ws_stat("refreshes") + LOOKS;
	double end = ws_seconds() + PATIENCE_S;

	while (ws_stat("refreshes") < enough) {
		if (ws_seconds() > end)
			ksft_exit_fail_msg("no looks within %.0f s\n",
					   PATIENCE_S);
		usleep(100000);
	}
}

static void test_hot(const char *name, size_t bytes, int advice,
		     double hot_share)
{
	pid_t child = start_reader(bytes, advice);
	struct ws_histogram histogram;
	double lowest = 1;

	wait_for_looks();
	for (int i = 0; i < READS; i++) {
		double share;

		ws_read_histogram(&histogram);
		share = (double)histogram.bins[0].anon_bytes / bytes;
		if (share < lowest)
			lowest = share;
		wait_for_looks();
	}
	ksft_test_result(lowest >= hot_share,
			 "%s in use: %.0f %% are younger than %s ms\n", name,
			 100 * lowest, BOUND_MS);
	kill(child, SIGKILL);
}

int main(void)
{
	ksft_print_header();
	ws_init();
	ksft_set_plan(2);
	if (ws_write("refresh_ms", REFRESH_MS) ||
	    ws_write("intervals_ms", BOUND_MS))
		ksft_exit_fail_msg("cannot set up the files\n");

	test_hot("a small set", SMALL_SET_PAGES * sysconf(_SC_PAGESIZE),
		 MADV_NOHUGEPAGE, SMALL_HOT_SHARE);
	test_hot("huge pages", 16 * HUGE_BYTES, MADV_HUGEPAGE, HUGE_HOT_SHARE);
	ksft_finished();
}
