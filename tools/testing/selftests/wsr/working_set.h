/* SPDX-License-Identifier: GPL-2.0 */
/* The files of working set reporting, for the selftests */
#ifndef _SELFTESTS_WSR_WORKING_SET_H
#define _SELFTESTS_WSR_WORKING_SET_H

#include <stdbool.h>
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

/*
 * From now on all the functions below are about the files of this cgroup, which
 * is given by its path; ws_init() has to come first.
 */
void ws_use_cgroup(const char *cgroup);

/* Path of a file, valid until the next call */
const char *ws_path(const char *file);

/* All return 0 or -errno; what is read ends with a NUL. */
int ws_read(const char *file, char *text, size_t size);
int ws_write(const char *file, const char *text);
int ws_read_path(const char *path, char *text, size_t size);
int ws_write_path(const char *path, const char *text);

/* Is this value, and a line feed, all that is in the file? */
bool ws_reads(const char *file, const char *value);

/*
 * Parse text in the format of the file histogram; -1 if it has another one.
 * ws_read_histogram() reads the file and exits as failed on an error.
 */
int ws_parse_histogram(const char *text, struct ws_histogram *histogram);
void ws_read_histogram(struct ws_histogram *histogram);

/*
 * Value of a key in the file stat, or in another file with lines "key value";
 * both exit as failed if there is no such key.
 */
uint64_t ws_stat(const char *key);
uint64_t ws_value(const char *path, const char *key);

struct ws_setting {
	const char *file;
	const char *value;
};

/* What the settings take, and what they do not; the last one is all NULL. */
extern const struct ws_setting ws_valid[];
extern const struct ws_setting ws_invalid[];

/* Number of both together */
int ws_nr_settings(void);

/* Can this be written, and then read? */
bool ws_takes(const struct ws_setting *setting);

/* Is this an invalid argument, and nothing changed by it? */
bool ws_refuses(const struct ws_setting *setting);

double ws_seconds(void);

#endif
