// SPDX-License-Identifier: GPL-2.0
/*
 * The files of a node, in /sys/devices/system/node/nodeN/working_set: formats,
 * defaults, limits, and that the numbers add up.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../kselftest.h"
#include "working_set.h"

#define LOCKED_BYTES (16UL << 20)

static const struct {
	const char *name;
	mode_t mode;
} files[] = {
	{ "intervals_ms", 0644 },
	{ "refresh_ms", 0644 },
	{ "report_ms", 0644 },
	{ "histogram", 0444 },
	{ "stat", 0444 },
};

static const char * const stat_keys[] = {
	"age_ms", "warming_up", "total", "free", "unevictable", "kernel",
	"slab_reclaimable", "swap_free", "refaulted", "refreshes", "refresh_us",
	"effective_refresh_ms", "samples", "sampled_folios", "young_folios",
	"notifications", "merged",
};

static void test_mode(int i)
{
	struct stat status;

	ksft_test_result(!stat(ws_path(files[i].name), &status) &&
			 (status.st_mode & 07777) == files[i].mode,
			 "%s has mode %04o\n", files[i].name, files[i].mode);
}

static void test_defaults(void)
{
	char intervals[256];

	if (ws_read("intervals_ms", intervals, sizeof(intervals)) ||
	    strspn(intervals, "\n") != strlen(intervals))
		ksft_test_result_skip("defaults: somebody has set intervals_ms\n");
	else
		ksft_test_result(ws_reads("refresh_ms", "1000") &&
				 ws_reads("report_ms", "0"),
				 "by default: off, refresh_ms 1000, report_ms 0\n");
}

static void test_settings(void)
{
	const struct ws_setting *setting;

	for (setting = ws_valid; setting->file; setting++)
		ksft_test_result(ws_takes(setting), "%s takes \"%s\"\n",
				 setting->file, setting->value);
	for (setting = ws_invalid; setting->file; setting++)
		ksft_test_result(ws_refuses(setting),
				 "%s refuses \"%s\" and stays as it was\n",
				 setting->file, setting->value);
}

static void test_bins(void)
{
	static const uint64_t bounds_ms[] = { 1000, 5000, 30000, WS_NO_BOUND };
	struct ws_histogram histogram;
	bool right;

	ws_write("intervals_ms", "1000,5000,30000");
	ws_read_histogram(&histogram);
	right = histogram.nr_bins == ARRAY_SIZE(bounds_ms);
	for (size_t i = 0; right && i < ARRAY_SIZE(bounds_ms); i++)
		right = histogram.bins[i].bound_ms == bounds_ms[i];
	ksft_test_result(right, "histogram has a bin for each bound and max\n");
}

static void test_sum(void)
{
	struct ws_histogram histogram;
	uint64_t sum, total;

	/* All reads below shall show the same report. */
	ws_write("refresh_ms", "60000");
	ws_write("intervals_ms", "1000,5000");
	ws_read_histogram(&histogram);
	sum = ws_stat("free") + ws_stat("unevictable") + ws_stat("kernel");
	for (int i = 0; i < histogram.nr_bins; i++)
		sum += histogram.bins[i].anon_bytes +
		       histogram.bins[i].file_bytes;
	total = ws_stat("total");
	ksft_print_msg("sum %ju bytes, total %ju bytes\n", (uintmax_t)sum,
		       (uintmax_t)total);
	ksft_test_result(total > 0 && sum > total / 100 * 99 &&
			 sum < total / 100 * 101,
			 "bins, free, unevictable and kernel add up to total\n");
	ksft_test_result(ws_stat("slab_reclaimable") <= ws_stat("kernel"),
			 "slab_reclaimable is a part of kernel\n");
}

static void test_reuse(void)
{
	struct ws_histogram histogram;
	uint64_t refreshes;

	ws_write("refresh_ms", "60000");
	ws_write("intervals_ms", "1000,6000");
	ws_read_histogram(&histogram);
	refreshes = ws_stat("refreshes");
	for (int i = 0; i < 20; i++)
		ws_read_histogram(&histogram);
	ksft_test_result(ws_stat("refreshes") == refreshes,
			 "within refresh_ms memory is not looked at again\n");
}

static void test_unevictable(void)
{
	uint64_t before, after;
	char *memory;

	ws_write("refresh_ms", "20");
	ws_write("intervals_ms", "1000");
	before = ws_stat("unevictable");
	memory = mmap(NULL, LOCKED_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || mlock(memory, LOCKED_BYTES)) {
		ksft_test_result_skip("unevictable: cannot lock %lu bytes\n",
				      LOCKED_BYTES);
		return;
	}
	usleep(100000);
	after = ws_stat("unevictable");
	munmap(memory, LOCKED_BYTES);
	ksft_print_msg("unevictable: %ju, then %ju bytes\n", (uintmax_t)before,
		       (uintmax_t)after);
	ksft_test_result(after >= before + LOCKED_BYTES / 100 * 99 &&
			 after <= before + LOCKED_BYTES / 100 * 110,
			 "locked memory counts as unevictable\n");
}

static void test_off(void)
{
	char histogram[64];

	ws_write("intervals_ms", "1000,5000");
	ksft_test_result(!ws_write("intervals_ms", "\n") &&
			 !ws_read("histogram", histogram, sizeof(histogram)) &&
			 !histogram[0],
			 "empty intervals_ms switches the histogram off\n");
}

static void test_keys(void)
{
	ws_write("intervals_ms", "1000,5000");
	for (size_t i = 0; i < ARRAY_SIZE(stat_keys); i++)
		ws_stat(stat_keys[i]);
	ksft_test_result_pass("stat has all keys\n");
}

int main(void)
{
	ksft_print_header();
	ws_init();
	ksft_set_plan(ARRAY_SIZE(files) + ws_nr_settings() + 8);

	test_defaults();
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		test_mode(i);
	test_settings();
	test_bins();
	test_keys();
	test_sum();
	test_reuse();
	test_unevictable();
	test_off();
	ksft_finished();
}
