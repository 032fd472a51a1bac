/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which parts of a process's shared memory are not there: never written, or
 * swapped out. And how to bring them back to that.
 */
#ifndef WSRCTL_RANGES_H
#define WSRCTL_RANGES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * struct range - pages of shared memory that are not in memory
 * @start, @bytes:	addresses in the process
 * @offset:	in the file
 * @map:	index in ranges.maps
 */
struct range {
	uint64_t start;
	uint64_t bytes;
	uint64_t offset;
	unsigned int map;
};

/* One mapping of a shared file, such as a memfd with a guest's memory */
struct map {
	uint64_t start;
	uint64_t bytes;
	uint64_t offset;
	int fd;
};

/**
 * struct ranges - what ranges_find() found
 * @pidfd:	of the process
 * @hole_bytes:	never written
 * @swapped_bytes: swapped out
 * @resident_bytes: all the rest
 */
struct ranges {
	pid_t pid;
	int pidfd;
	struct map *maps;
	unsigned int nr_maps;
	struct range *list;
	size_t nr;
	uint64_t hole_bytes;
	uint64_t swapped_bytes;
	uint64_t resident_bytes;
};

#define RANGES_ERROR	256

/**
 * ranges_find - look at all shared memory of at least @min_bytes
 *
 * Reads neither pages nor page tables: nothing is allocated or swapped in.
 * SEEK_DATA tells what was ever written, mincore() what is in memory, and
 * cachestat(), where the kernel has it, which megabytes need no look at all.
 *
 * Return: 0, or -1 with the reason in @error.
 */
int ranges_find(struct ranges *ranges, pid_t pid, uint64_t min_bytes,
		char error[RANGES_ERROR]);

/**
 * ranges_resident - bytes of the ranges that are in memory by now
 */
uint64_t ranges_resident(const struct ranges *ranges);

/**
 * ranges_page_out - swap out what has come into memory since
 *
 * Only moves pages: if the process has written to one in the meantime, it is
 * read back like any other. Pages of zeroes cost no swap space where the kernel
 * knows them (6.12).
 *
 * Return: bytes that were in memory before, or -1 with the reason in @error.
 */
int64_t ranges_page_out(const struct ranges *ranges, char error[RANGES_ERROR]);

void ranges_free(struct ranges *ranges);

#endif
