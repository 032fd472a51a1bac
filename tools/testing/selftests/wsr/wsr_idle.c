// SPDX-License-Identifier: GPL-2.0
/*
 * wsr_idle - a histogram made by idle page tracking of all pages of a cgroup
 *
 *	wsr_idle CGROUP REFRESH_MS FILE MS...
 *
 * For comparison with working set reporting. Once per REFRESH_MS it looks at
 * the idle flag of each page that is charged to CGROUP, sets it again, and
 * writes a histogram with these bounds into FILE, in the format of the file
 * histogram. Pages are found by /proc/kpagecgroup, so cgroups below CGROUP do
 * not count. An access is dated to the middle between two looks.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_BOUNDS	64
#define MAX_PFNS	(4UL << 20)
#define BATCH		4096	/* page frames, a multiple of 64 */

/* Numbers of bits, see Documentation/admin-guide/mm/pagemap.rst */
#define KPF_LRU			5
#define KPF_SWAPBACKED		14
#define KPF_COMPOUND_TAIL	16
#define KPF_UNEVICTABLE		18

static uint64_t seen_ms[MAX_PFNS];	/* 0: not a page of the cgroup */
static uint64_t bounds_ms[MAX_BOUNDS];
static size_t nr_bounds;
static uint64_t bins[MAX_BOUNDS + 1][2];
static long page_size;
static int cgroups, flags, bitmap;
static ino_t cgroup_inode;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static int open_or_die(const char *path, int mode)
{
	int fd = open(path, mode);

	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static int has(uint64_t page_flags, int bit)
{
	return page_flags >> bit & 1;
}

static void count(uint64_t pfn, uint64_t page_flags, uint64_t now)
{
	size_t bin = 0;

	while (bin < nr_bounds && now - seen_ms[pfn] >= bounds_ms[bin])
		bin++;
	bins[bin][!has(page_flags, KPF_SWAPBACKED)] += page_size;
}

/* Looks at a batch of page frames; returns 0 behind the last one. */
static int look(uint64_t first, uint64_t accessed, uint64_t now)
{
	static uint64_t cgroup[BATCH], flag[BATCH], idle[BATCH / 64];
	static uint64_t head_idle, head_flag;
	ssize_t got = pread(cgroups, cgroup, sizeof(cgroup), first * 8);

	if (got <= 0 || pread(flags, flag, got, first * 8) != got)
		return 0;
	memset(idle, 0, sizeof(idle));
	if (pread(bitmap, idle, sizeof(idle), first / 8) < 0)
		return 0;

	for (uint64_t i = 0; i < (uint64_t)got / 8; i++) {
		uint64_t pfn = first + i;

		/* Only head pages have the flags of a compound page. */
		if (!has(flag[i], KPF_COMPOUND_TAIL)) {
			head_idle = has(idle[i / 64], i % 64);
			head_flag = flag[i];
		}
		if (cgroup[i] != cgroup_inode || !has(head_flag, KPF_LRU) ||
		    has(head_flag, KPF_UNEVICTABLE)) {
			seen_ms[pfn] = 0;
			continue;
		}
		if (!seen_ms[pfn] || !head_idle)
			seen_ms[pfn] = accessed;
		count(pfn, head_flag, now);
	}
	memset(idle, 0xff, sizeof(idle));
	return pwrite(bitmap, idle, sizeof(idle), first / 8) > 0 &&
	       got == sizeof(cgroup);
}

static void write_histogram(const char *path)
{
	char temporary[4096];
	FILE *file;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	file = fopen(temporary, "w");
	if (!file) {
		perror(temporary);
		exit(1);
	}
	for (size_t i = 0; i <= nr_bounds; i++) {
		if (i < nr_bounds)
			fprintf(file, "%ju", (uintmax_t)bounds_ms[i]);
		else
			fprintf(file, "max");
		fprintf(file, " anon=%ju file=%ju\n", (uintmax_t)bins[i][0],
			(uintmax_t)bins[i][1]);
	}
	fclose(file);
	rename(temporary, path);
}

int main(int argc, char **argv)
{
	uint64_t refresh_ms, last, now, pfn;
	struct stat stat_buffer;

	if (argc < 5 || argc - 4 > MAX_BOUNDS || stat(argv[1], &stat_buffer)) {
		fprintf(stderr, "usage: wsr_idle CGROUP REFRESH_MS FILE MS...\n");
		return 2;
	}
	cgroup_inode = stat_buffer.st_ino;
	refresh_ms = strtoull(argv[2], NULL, 10);
	for (int i = 4; i < argc; i++)
		bounds_ms[nr_bounds++] = strtoull(argv[i], NULL, 10);
	page_size = sysconf(_SC_PAGESIZE);
	cgroups = open_or_die("/proc/kpagecgroup", O_RDONLY);
	flags = open_or_die("/proc/kpageflags", O_RDONLY);
	bitmap = open_or_die("/sys/kernel/mm/page_idle/bitmap", O_RDWR);

	for (now = now_ms();; ) {
		last = now;
		now = now_ms();
		memset(bins, 0, sizeof(bins));
		for (pfn = 0; pfn < MAX_PFNS; pfn += BATCH)
			if (!look(pfn, last + (now - last) / 2, now))
				break;
		write_histogram(argv[3]);
		last = now_ms();
		if (last < now + refresh_ms)
			usleep((now + refresh_ms - last) * 1000);
	}
}
