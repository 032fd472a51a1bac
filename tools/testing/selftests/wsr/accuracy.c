// SPDX-License-Identifier: GPL-2.0
/*
 * Compares the histogram of a node with the truth, which wsr_bands knows.
 *
 *	accuracy [-t THRESHOLD] [-d DIR] [BAND...]
 *
 * The measure is ks: the largest distance between the measured and the true
 * cumulative distribution of idle ages over the bounds, in shares of the
 * workload's bytes, the worse of anon and file. Memory is looked at once in
 * effective_refresh_ms (REFRESH_MS unless the CPU budget stretches it), so an
 * access is known that much later: at bound b, any value between the true ones
 * at b - r and b + r counts as right, where r is effective_refresh_ms + 200 ms.
 * The test fails if ks is above THRESHOLD (0.05). DIR is where wsr_bands makes
 * its files.
 *
 * The node holds all the other processes and files as well. They are measured
 * first, when they have grown old, and then subtracted, bin by bin; so this
 * needs a guest in which nothing else of a relevant size happens. What they
 * touch meanwhile counts as an error of ours.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define REFRESH_MS	"1000"
#define MORE_TOLERANCE_MS 200
#define INTERVALS	"1000,2000,5000,10000,20000"
/* When the workload is read, in seconds since its memory is there. */
static const int read_at_s[] = { 12, 17, 22, 27 };
/* The baseline is old when less than this share of the workload is young. */
#define YOUNG_SHARE	0.005
#define BASELINE_S	60.0
#define MAX_ARGUMENTS	32

static const char * const default_bands[] = {
	"32M:0.2", "32M:3", "32M:8", "32M:never", NULL
};

enum { ANON, FILE_BACKED, NR_TYPES };

/* Bytes younger than each bound; the last entry is all bytes. */
struct distribution {
	double below[WS_MAX_BOUNDS + 1][NR_TYPES];
};

static FILE *to_bands, *from_bands;

static void start_bands(const char *program, const char *directory,
			char * const *bands)
{
	char *argv[MAX_ARGUMENTS + 1] = {
		(char *)program, "-d", (char *)directory,
	};
	int commands[2], answers[2];

	for (int i = 3; *bands && i < MAX_ARGUMENTS; i++)
		argv[i] = *bands++;
	if (pipe(commands) || pipe(answers))
		ksft_exit_fail_msg("no pipes\n");
	if (!fork()) {
		dup2(commands[0], STDIN_FILENO);
		dup2(answers[1], STDOUT_FILENO);
		close(commands[1]);
		close(answers[0]);
		execv(program, argv);
		_exit(127);
	}
	close(commands[0]);
	close(answers[1]);
	to_bands = fdopen(commands[1], "w");
	from_bands = fdopen(answers[0], "r");
}

static void wait_for_bands(void)
{
	char line[256];

	if (!fgets(line, sizeof(line), from_bands) ||
	    strncmp(line, "ready", 5))
		ksft_exit_fail_msg("wsr_bands did not start\n");
}

static void accumulate(const struct ws_histogram *histogram,
		       struct distribution *distribution)
{
	double below[NR_TYPES] = {};

	for (int i = 0; i < histogram->nr_bins; i++) {
		below[ANON] += histogram->bins[i].anon_bytes;
		below[FILE_BACKED] += histogram->bins[i].file_bytes;
		memcpy(distribution->below[i], below, sizeof(below));
	}
}

/* The truth for the bounds of @measured, each moved by @shift_ms. */
static void read_truth(const struct ws_histogram *measured, int shift_ms,
		       struct distribution *distribution)
{
	struct ws_histogram truth;
	char text[4096] = "", line[256];

	fprintf(to_bands, "truth");
	for (int i = 0; i < measured->nr_bins - 1; i++) {
		int64_t bound_ms = measured->bins[i].bound_ms + shift_ms;

		fprintf(to_bands, " %jd", (intmax_t)(bound_ms > 0 ? bound_ms : 0));
	}
	fprintf(to_bands, "\n");
	fflush(to_bands);
	while (fgets(line, sizeof(line), from_bands) && strcmp(line, "end\n"))
		strncat(text, line, sizeof(text) - strlen(text) - 1);
	if (ws_parse_histogram(text, &truth) ||
	    truth.nr_bins != measured->nr_bins)
		ksft_exit_fail_msg("wsr_bands answered: %s\n", text);
	accumulate(&truth, distribution);
}

/* Waits until the rest of the system has grown old. */
static void read_baseline(double workload_bytes, struct distribution *baseline)
{
	double end = ws_seconds() + BASELINE_S, young;
	struct ws_histogram histogram;
	int last_bound;

	do {
		sleep(1);
		ws_read_histogram(&histogram);
		accumulate(&histogram, baseline);
		last_bound = histogram.nr_bins - 2;
		young = baseline->below[last_bound][ANON] +
			baseline->below[last_bound][FILE_BACKED];
	} while (young > YOUNG_SHARE * workload_bytes && ws_seconds() < end);
	ksft_print_msg("baseline: %.1f MiB, %.2f MiB of them young\n",
		       (baseline->below[last_bound + 1][ANON] +
			baseline->below[last_bound + 1][FILE_BACKED]) / (1 << 20),
		       young / (1 << 20));
}

static double outside(double value, double low, double high)
{
	if (value < low)
		return low - value;
	return value > high ? value - high : 0;
}

static double measure(const struct distribution *baseline)
{
	struct distribution measured, low, high;
	struct ws_histogram histogram;
	double bytes, ks = 0;
	int last, tolerance_ms;

	/* Another look may come at any moment, and with it another distance. */
	tolerance_ms = ws_stat("effective_refresh_ms") + MORE_TOLERANCE_MS;
	ws_read_histogram(&histogram);
	read_truth(&histogram, -tolerance_ms, &low);
	read_truth(&histogram, tolerance_ms, &high);
	ksft_print_msg("last look: %ju ms ago, %ju us, tolerance %d ms\n",
		       (uintmax_t)ws_stat("age_ms"),
		       (uintmax_t)ws_stat("refresh_us"), tolerance_ms);
	accumulate(&histogram, &measured);
	last = histogram.nr_bins - 1;
	bytes = high.below[last][ANON] + high.below[last][FILE_BACKED];
	for (int i = 0; i < last; i++) {
		for (int type = 0; type < NR_TYPES; type++) {
			double value = measured.below[i][type] -
				       baseline->below[i][type];
			double distance = outside(value, low.below[i][type],
						  high.below[i][type]) / bytes;

			ksft_print_msg("%s < %5ju ms: %6.1f MiB, truth %6.1f to %6.1f MiB\n",
				       type == ANON ? "anon" : "file",
				       (uintmax_t)histogram.bins[i].bound_ms,
				       value / (1 << 20),
				       low.below[i][type] / (1 << 20),
				       high.below[i][type] / (1 << 20));
			if (distance > ks)
				ks = distance;
		}
	}
	return ks;
}

/* Of bands such as 32M:0.2 */
static double bytes_of(char * const *bands)
{
	double bytes = 0;
	char *end;

	for (; *bands; bands++) {
		bytes += strtod(*bands, &end) *
			 (*end == 'G' ? 1 << 30 : *end == 'M' ? 1 << 20 : 1 << 10);
	}
	return bytes;
}

static void sleep_until(double seconds)
{
	double left = seconds - ws_seconds();

	if (left > 0)
		usleep(left * 1000000);
}

int main(int argc, char **argv)
{
	double threshold = 0.05, worst = 0, start, ks;
	const char *directory = ".";
	struct distribution baseline;
	char * const *bands;
	const char *slash;
	char program[4096];
	int option;

	ksft_print_header();
	while ((option = getopt(argc, argv, "t:d:")) != -1) {
		if (option == 't')
			threshold = strtod(optarg, NULL);
		else if (option == 'd')
			directory = optarg;
		else
			ksft_exit_fail_msg("usage: accuracy [-t THRESHOLD] [-d DIR] [BAND...]\n");
	}
	bands = optind < argc ? argv + optind : (char * const *)default_bands;
	/* wsr_bands is built beside this program. */
	slash = strrchr(argv[0], '/');
	snprintf(program, sizeof(program), "%.*swsr_bands",
		 slash ? (int)(slash + 1 - argv[0]) : 0, argv[0]);

	ws_init();
	ksft_set_plan(ARRAY_SIZE(read_at_s));
	if (ws_write("refresh_ms", REFRESH_MS) ||
	    ws_write("intervals_ms", INTERVALS))
		ksft_exit_fail_msg("cannot set the intervals\n");
	read_baseline(bytes_of(bands), &baseline);

	start_bands(program, directory, bands);
	wait_for_bands();
	start = ws_seconds();
	for (size_t i = 0; i < ARRAY_SIZE(read_at_s); i++) {
		sleep_until(start + read_at_s[i]);
		ks = measure(&baseline);
		if (ks > worst)
			worst = ks;
		ksft_test_result(ks <= threshold,
				 "ks=%.4f after %d s, threshold %.2f\n", ks,
				 read_at_s[i], threshold);
	}
	ksft_print_msg("worst ks=%.4f\n", worst);
	fprintf(to_bands, "quit\n");
	fflush(to_bands);
	ksft_finished();
}
