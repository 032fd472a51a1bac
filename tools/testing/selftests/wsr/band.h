/* SPDX-License-Identifier: GPL-2.0 */
/* The bands of memory of wsr_bands, and the kinds of memory they are made of */
#ifndef _SELFTESTS_WSR_BAND_H
#define _SELFTESTS_WSR_BAND_H

#include <stddef.h>
#include <stdint.h>

#define SMALL_CHUNK_BYTES	(64UL << 10)
#define HUGE_CHUNK_BYTES	(2UL << 20)

enum column { ANON, FILE_BACKED, UNEVICTABLE, NR_COLUMNS };

struct band;

/*
 * map() makes memory of band->bytes appear at band->memory and returns 0, or -1
 * with errno. touch() accesses all pages of a part of a chunk; memory that is
 * accessed by file descriptor is mapped all the same, for mincore() to tell
 * what is resident.
 */
struct band_kind {
	const char *name;
	enum column column;
	size_t chunk_bytes;
	int (*map)(struct band *band);
	void (*touch)(struct band *band, size_t offset, size_t bytes);
	int advice;			/* for madvise() */
};

struct band {
	const struct band_kind *kind;	/* NULL: dropped */
	const char *cgroup;		/* it is charged to; "": unknown */
	char *memory;
	int fd;				/* -1: none */
	size_t bytes;
	size_t chunk_bytes;
	size_t nr_chunks;
	int zipf;
	uint64_t period_ns;		/* 0: never */
	uint64_t *touched_ns;		/* for each chunk */
	uint64_t *touched_before_ns;	/* the touch before that; 0: none */
};

/* Where files are made */
extern const char *band_directory;

/* The kind of this name, or NULL */
const struct band_kind *find_band_kind(const char *name);

/* Gives the memory of any kind back. */
void unmap_band(struct band *band);

#endif
