// SPDX-License-Identifier: GPL-2.0
/* The kinds of memory that wsr_bands can touch */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "band.h"

#define PAGE_BYTES	((size_t)sysconf(_SC_PAGESIZE))

const char *band_directory = ".";

/*
 * Maps at a multiple of the size of a huge page: no fault, whatever it maps
 * around itself, and no huge page goes beyond a chunk.
 */
static int map_aligned(struct band *band, int prot, int flags)
{
	char *space = mmap(NULL, band->bytes + HUGE_CHUNK_BYTES, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (space == MAP_FAILED)
		return -1;
	space += -(uintptr_t)space & (HUGE_CHUNK_BYTES - 1);
	band->memory = mmap(space, band->bytes, prot, flags | MAP_FIXED,
			    band->fd, 0);
	if (band->memory == MAP_FAILED)
		return -1;
	/* Advice about huge pages fails on kernels without them. */
	if (band->kind->advice && madvise(band->memory, band->bytes,
					  band->kind->advice) &&
	    band->kind->advice != MADV_NOHUGEPAGE)
		return -1;
	return 0;
}

/* The first touch must write, or it would map the zero page. */
static void fill_memory(struct band *band)
{
	for (size_t i = 0; i < band->bytes; i += PAGE_BYTES)
		*(size_t *)(band->memory + i) = i + 1;
}

static int map_memory(struct band *band, int flags)
{
	if (map_aligned(band, PROT_READ | PROT_WRITE, flags))
		return -1;
	fill_memory(band);
	return 0;
}

static int map_anon(struct band *band)
{
	return map_memory(band, MAP_PRIVATE | MAP_ANONYMOUS);
}

static int map_shmem(struct band *band)
{
	return map_memory(band, MAP_SHARED | MAP_ANONYMOUS);
}

static int map_locked(struct band *band)
{
	return map_memory(band, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
}

static int map_memfd(struct band *band)
{
	band->fd = memfd_create("wsr_bands", MFD_CLOEXEC);
	if (band->fd < 0 || ftruncate(band->fd, band->bytes))
		return -1;
	return map_memory(band, MAP_SHARED);
}

static void touch_memory(struct band *band, size_t offset, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += PAGE_BYTES) {
		size_t value = *(size_t *)(band->memory + offset + i);

		asm volatile("" : : "r" (value));
	}
}

static int open_file(struct band *band, const char *directory)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/wsr_bands.XXXXXX", directory);
	band->fd = mkstemp(path);
	if (band->fd < 0)
		return -1;
	unlink(path);
	if (ftruncate(band->fd, band->bytes))
		return -1;
	return map_aligned(band, PROT_READ, MAP_SHARED);
}

static int map_file(struct band *band)
{
	return open_file(band, band_directory);
}

static int map_unmapped_file(struct band *band)
{
	if (open_file(band, band_directory))
		return -1;
	/* Read-ahead would bring pages in before their time. */
	return posix_fadvise(band->fd, 0, 0, POSIX_FADV_RANDOM) ? -1 : 0;
}

static void write_file(struct band *band, size_t offset, size_t bytes)
{
	static char buffer[HUGE_CHUNK_BYTES];

	if (pwrite(band->fd, buffer, bytes, offset) != (ssize_t)bytes) {
		perror("wsr_bands: pwrite");
		exit(1);
	}
}

static int map_tmpfs(struct band *band)
{
	if (open_file(band, "/tmp"))
		return -1;
	/* Reading a hole of a tmpfs does not allocate. */
	for (size_t i = 0; i < band->bytes; i += PAGE_BYTES)
		write_file(band, i, PAGE_BYTES);
	return 0;
}

static void read_file(struct band *band, size_t offset, size_t bytes)
{
	static char buffer[HUGE_CHUNK_BYTES];

	if (pread(band->fd, buffer, bytes, offset) != (ssize_t)bytes) {
		perror("wsr_bands: pread");
		exit(1);
	}
}

static void read_ahead(struct band *band, size_t offset, size_t bytes)
{
	if (readahead(band->fd, offset, bytes)) {
		perror("wsr_bands: readahead");
		exit(1);
	}
}

static const struct band_kind kinds[] = {
	{ "anon", ANON, SMALL_CHUNK_BYTES, map_anon, touch_memory,
	  MADV_NOHUGEPAGE },
	{ "thp", ANON, HUGE_CHUNK_BYTES, map_anon, touch_memory,
	  MADV_HUGEPAGE },
	{ "shmem", ANON, SMALL_CHUNK_BYTES, map_shmem, touch_memory,
	  MADV_NOHUGEPAGE },
	{ "memfd", ANON, SMALL_CHUNK_BYTES, map_memfd, touch_memory,
	  MADV_NOHUGEPAGE },
	{ "tmpfs", ANON, SMALL_CHUNK_BYTES, map_tmpfs, read_file, 0 },
	{ "locked", UNEVICTABLE, SMALL_CHUNK_BYTES, map_locked, touch_memory,
	  MADV_NOHUGEPAGE },
	{ "map", FILE_BACKED, SMALL_CHUNK_BYTES, map_file, touch_memory, 0 },
	{ "map-random", FILE_BACKED, SMALL_CHUNK_BYTES, map_file, touch_memory,
	  MADV_RANDOM },
	{ "map-sequential", FILE_BACKED, SMALL_CHUNK_BYTES, map_file,
	  touch_memory, MADV_SEQUENTIAL },
	{ "read", FILE_BACKED, SMALL_CHUNK_BYTES, map_unmapped_file, read_file,
	  0 },
	{ "ahead", FILE_BACKED, SMALL_CHUNK_BYTES, map_unmapped_file,
	  read_ahead, 0 },
	{ "write", FILE_BACKED, SMALL_CHUNK_BYTES, map_unmapped_file,
	  write_file, 0 },
	{ }
};

const struct band_kind *find_band_kind(const char *name)
{
	for (const struct band_kind *kind = kinds; kind->name; kind++)
		if (!strcmp(kind->name, name))
			return kind;
	return NULL;
}

void unmap_band(struct band *band)
{
	munmap(band->memory, band->bytes);
	if (band->fd >= 0)
		close(band->fd);
	band->kind = NULL;
}
