// SPDX-License-Identifier: GPL-2.0
/*
 * Which parts of a process's shared memory are not there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ranges.h"

#ifndef SYS_cachestat
#define SYS_cachestat	451
#endif

/* A piece that is looked at in one go: 128 MiB, 32 KiB of mincore()'s answer */
#define PIECE_BYTES	(UINT64_C(128) << 20)
#define PAGEOUT_BATCH	256

/* As in linux/mman.h since 6.5 */
struct cachestat_range {
	uint64_t off;
	uint64_t len;
};

struct cachestat {
	uint64_t nr_cache;
	uint64_t nr_dirty;
	uint64_t nr_writeback;
	uint64_t nr_evicted;
	uint64_t nr_recently_evicted;
};

static int __attribute__((format(printf, 2, 3)))
fail(char *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, RANGES_ERROR, format, args);
	va_end(args);
	return -1;
}

static void *grow(void *array, size_t nr, size_t size)
{
	/* To the next power of two, when it is reached */
	if (nr & (nr - 1))
		return array;
	return realloc(array, (nr ? 2 * nr : 1) * size);
}

static int add(struct ranges *ranges, unsigned int map, uint64_t offset,
	       uint64_t bytes)
{
	const struct map *in = &ranges->maps[map];
	struct range *last = ranges->nr ? &ranges->list[ranges->nr - 1] : NULL;
	struct range *list;

	if (last && last->map == map && last->offset + last->bytes == offset) {
		last->bytes += bytes;
		return 0;
	}
	list = grow(ranges->list, ranges->nr, sizeof(*list));
	if (!list)
		return -1;
	ranges->list = list;
	list[ranges->nr++] = (struct range) {
		.start = in->start + offset - in->offset,
		.bytes = bytes,
		.offset = offset,
		.map = map,
	};
	return 0;
}

/* Shared, writable memory without a name in a file system: memfd, shmem */
static int open_maps(struct ranges *ranges, uint64_t min_bytes, char *error)
{
	char path[64], line[4096];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)ranges->pid);
	file = fopen(path, "re");
	if (!file)
		return fail(error, "there is no process %d, or it belongs to somebody else",
			    (int)ranges->pid);
	while (fgets(line, sizeof(line), file)) {
		uint64_t start, end, offset;
		struct map *maps;
		char flags[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64, &start,
			   &end, flags, &offset) != 4 || end - start < min_bytes ||
		    strncmp(flags, "rw-s", 4))
			continue;
		maps = grow(ranges->maps, ranges->nr_maps, sizeof(*maps));
		if (!maps)
			break;
		ranges->maps = maps;
		snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64,
			 (int)ranges->pid, start, end);
		maps[ranges->nr_maps] = (struct map) {
			.start = start,
			.bytes = end - start,
			.offset = offset,
			.fd = open(path, O_RDONLY | O_CLOEXEC),
		};
		if (maps[ranges->nr_maps].fd < 0) {
			fail(error, "%s: %s (needs root)", path, strerror(errno));
			fclose(file);
			return -1;
		}
		ranges->nr_maps++;
	}
	fclose(file);
	if (!ranges->nr_maps)
		return fail(error, "process %d has no shared memory of %" PRIu64 " MiB or more: this is for guests with memory-backend-memfd or share=on",
			    (int)ranges->pid, min_bytes >> 20);
	return 0;
}

/* Is each page of this part in memory? -1: it has to be looked at */
static int all_or_nothing(int fd, uint64_t offset, uint64_t bytes)
{
	struct cachestat_range range = { offset, bytes };
	struct cachestat stat;

	if (syscall(SYS_cachestat, fd, &range, &stat, 0))
		return -1;
	if (!stat.nr_cache)
		return 0;
	return stat.nr_cache * sysconf(_SC_PAGESIZE) >= bytes ? 1 : -1;
}

/*
 * Calls @found for each run of pages of @bytes at @offset that are in memory
 * (@in) or not.
 */
static int look(int fd, uint64_t offset, uint64_t bytes, bool in,
		int (*found)(void *arg, uint64_t offset, uint64_t bytes),
		void *arg)
{
	const uint64_t page = sysconf(_SC_PAGESIZE);
	unsigned char *resident;
	uint64_t start = 0, nr = (bytes + page - 1) / page;
	int result = 0;
	void *memory;

	switch (all_or_nothing(fd, offset, bytes)) {
	case 0:
		return in ? 0 : found(arg, offset, bytes);
	case 1:
		return in ? found(arg, offset, bytes) : 0;
	}
	memory = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, offset);
	resident = malloc(nr);
	if (memory == MAP_FAILED || !resident ||
	    mincore(memory, bytes, resident)) {
		result = -1;
		nr = 0;
	}
	for (uint64_t i = 0; i <= nr && !result && nr; i++) {
		if (i < nr && (resident[i] & 1) == in)
			continue;
		if (i > start)
			result = found(arg, offset + start * page,
				       (i - start) * page);
		start = i + 1;
	}
	free(resident);
	if (memory != MAP_FAILED)
		munmap(memory, bytes);
	return result;
}

struct finding {
	struct ranges *ranges;
	unsigned int map;
};

static int found_swapped(void *arg, uint64_t offset, uint64_t bytes)
{
	struct finding *finding = arg;

	finding->ranges->swapped_bytes += bytes;
	return add(finding->ranges, finding->map, offset, bytes);
}

static int find_in_data(struct ranges *ranges, unsigned int map,
			uint64_t offset, uint64_t end)
{
	struct finding finding = { .ranges = ranges, .map = map };

	while (offset < end) {
		uint64_t bytes = end - offset < PIECE_BYTES ? end - offset :
							      PIECE_BYTES;
		uint64_t before = ranges->swapped_bytes;

		if (look(ranges->maps[map].fd, offset, bytes, false,
			 found_swapped, &finding))
			return -1;
		ranges->resident_bytes += bytes -
					  (ranges->swapped_bytes - before);
		offset += bytes;
	}
	return 0;
}

static int find_in_map(struct ranges *ranges, unsigned int map)
{
	const struct map *in = &ranges->maps[map];
	uint64_t offset = in->offset, end = in->offset + in->bytes;

	while (offset < end) {
		off_t data = lseek(in->fd, offset, SEEK_DATA);
		off_t hole;

		if (data < 0 && errno != ENXIO)
			return -1;
		if (data < 0 || (uint64_t)data > end)
			data = end;
		if ((uint64_t)data > offset) {
			ranges->hole_bytes += data - offset;
			if (add(ranges, map, offset, data - offset))
				return -1;
		}
		if ((uint64_t)data == end)
			break;
		hole = lseek(in->fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > end)
			hole = end;
		if (find_in_data(ranges, map, data, hole))
			return -1;
		offset = hole;
	}
	return 0;
}

int ranges_find(struct ranges *ranges, pid_t pid, uint64_t min_bytes,
		char error[RANGES_ERROR])
{
	*ranges = (struct ranges) { .pid = pid, .pidfd = -1 };
	ranges->pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (ranges->pidfd < 0) {
		fail(error, "process %d: %s", (int)pid, strerror(errno));
		return -1;
	}
	if (open_maps(ranges, min_bytes, error)) {
		ranges_free(ranges);
		return -1;
	}
	for (unsigned int i = 0; i < ranges->nr_maps; i++) {
		if (find_in_map(ranges, i)) {
			fail(error, "the memory of process %d can't be looked at: %s",
			     (int)pid, strerror(errno));
			ranges_free(ranges);
			return -1;
		}
	}
	return 0;
}

static int count(void *arg, uint64_t offset, uint64_t bytes)
{
	(void)offset;
	*(uint64_t *)arg += bytes;
	return 0;
}

/* In pieces: look() maps what it looks at. */
static int for_each_resident(const struct ranges *ranges,
			     const struct range *range,
			     int (*found)(void *arg, uint64_t offset,
					  uint64_t bytes), void *arg)
{
	int fd = ranges->maps[range->map].fd;

	for (uint64_t done = 0; done < range->bytes; done += PIECE_BYTES) {
		uint64_t bytes = range->bytes - done;

		if (bytes > PIECE_BYTES)
			bytes = PIECE_BYTES;
		if (look(fd, range->offset + done, bytes, true, found, arg))
			return -1;
	}
	return 0;
}

uint64_t ranges_resident(const struct ranges *ranges)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < ranges->nr; i++)
		for_each_resident(ranges, &ranges->list[i], count, &bytes);
	return bytes;
}

struct batch {
	const struct ranges *ranges;
	const struct range *range;
	struct iovec vectors[PAGEOUT_BATCH];
	size_t nr;
	uint64_t bytes;
};

/* A page that can't go now stays; the next call tries again. */
static int flush_batch(struct batch *batch)
{
	ssize_t done;

	if (!batch->nr)
		return 0;
	done = syscall(SYS_process_madvise, batch->ranges->pidfd,
		       batch->vectors, batch->nr, MADV_PAGEOUT, 0);
	batch->nr = 0;
	return done < 0 && errno != EAGAIN && errno != ENOMEM ? -1 : 0;
}

static int page_out(void *arg, uint64_t offset, uint64_t bytes)
{
	struct batch *batch = arg;
	const struct range *range = batch->range;

	batch->vectors[batch->nr++] = (struct iovec) {
		.iov_base = (void *)(uintptr_t)(range->start + offset -
						range->offset),
		.iov_len = bytes,
	};
	batch->bytes += bytes;
	return batch->nr == PAGEOUT_BATCH ? flush_batch(batch) : 0;
}

int64_t ranges_page_out(const struct ranges *ranges, char error[RANGES_ERROR])
{
	struct batch batch = { .ranges = ranges };

	for (size_t i = 0; i < ranges->nr; i++) {
		batch.range = &ranges->list[i];
		if (for_each_resident(ranges, batch.range, page_out, &batch) ||
		    flush_batch(&batch))
			return fail(error, "process %d: pages can't be moved out: %s",
				    (int)ranges->pid, strerror(errno));
	}
	return batch.bytes;
}

void ranges_free(struct ranges *ranges)
{
	for (unsigned int i = 0; i < ranges->nr_maps; i++)
		close(ranges->maps[i].fd);
	if (ranges->pidfd >= 0)
		close(ranges->pidfd);
	free(ranges->maps);
	free(ranges->list);
	*ranges = (struct ranges) { .pidfd = -1 };
}
