/* SPDX-License-Identifier: GPL-2.0 */
/* The files of working set reporting, for the selftests */
#ifndef _SELFTESTS_WSR_WORKING_SET_H
#define _SELFTESTS_WSR_WORKING_SET_H

#include <stddef.h>
#include <stdint.h>

#define WS_MAX_BOUNDS	15
/* Of the last, open bin */
#define WS_NO_BOUND	UINT64_MAX

struct ws_histogram {
	int nr_bins;
	struct {
		uint64_t bound_ms;
		uint64_t anon_bytes;
		uint64_t file_bytes;
	} bins[WS_MAX_BOUNDS + 1];
};

/*
 * Finds the files of the first node that has them, or of the whole system if
 * the kernel lacks CONFIG_NUMA, and remembers the settings; at exit they are set
 * back. Exits as skipped if there are no such files.
 */
void ws_init(void);

/* Path of a file, valid until the next call */
const char *ws_path(const char *file);

/* Both return 0 or -errno; ws_read() ends the text with a NUL. */
int ws_read(const char *file, char *text, size_t size);
int ws_write(const char *file, const char *text);

/*
 * Parse text in the format of the file histogram; -1 if it has another one.
 * ws_read_histogram() reads the file and exits as failed on an error.
 */
int ws_parse_histogram(const char *text, struct ws_histogram *histogram);
void ws_read_histogram(struct ws_histogram *histogram);

/* Value of a key in the file stat; exits as failed if there is no such key. */
uint64_t ws_stat(const char *key);

double ws_seconds(void);

#endif
