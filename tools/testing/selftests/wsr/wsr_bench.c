// SPDX-License-Identifier: GPL-2.0
/*
 * wsr_bench - workloads of a fixed size, and the CPU time of others
 *
 * For measuring what working set reporting costs, and whether it changes what
 * reclaim does. A workload prints the time it took, in microseconds:
 *
 *	wsr_bench touch BYTES ROUNDS	read a word of each cache line of
 *					anonymous memory that is there already
 *	wsr_bench read FILE BYTES ROUNDS	read() the first BYTES of a file
 *	wsr_bench fault BYTES ROUNDS	mmap(), write to each page, munmap()
 *	wsr_bench fork ROUNDS		fork() a child that writes to 1 MiB of
 *					the parent's memory and exits
 *	wsr_bench mix FILE BYTES BYTES OPERATIONS
 *					each reads 32 KiB of the first BYTES of
 *					a file, and writes to 32 KiB of BYTES of
 *					anonymous memory, at random places, some
 *					more often than others, the same in each
 *					run
 *
 * Others:
 *
 *	wsr_bench hold BYTES [MS]	keep anonymous memory, and touch all of
 *					it after each MS milliseconds, 0:
 *					without a pause; prints "ready" when it
 *					is there
 *	wsr_bench write FILE TEXT	write(), and print the CPU time that
 *					took in microseconds
 *	wsr_bench cputime NAME		print "PID MICROSECONDS", the CPU time,
 *					for each process, also kernel threads,
 *					whose name begins with NAME
 *
 * BYTES may have a suffix K, M or G. Anonymous memory has no huge pages.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES	64
#define FORK_BYTES	(1024UL << 10)
#define READ_BYTES	(64UL << 10)
#define MIX_BYTES	(32UL << 10)
#define NSEC_PER_SEC	1000000000ULL

static size_t page_size;

static void die(const char *what)
{
	fprintf(stderr, "wsr_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		die("clock_gettime");
	return (ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec) / 1000;
}

static size_t parse_size(const char *text)
{
	static const char suffixes[] = "KMG";
	const char *suffix;
	char *end;
	size_t bytes = strtoull(text, &end, 10);

	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (suffix) {
		bytes <<= 10 * (suffix - suffixes + 1);
		end++;
	}
	if (!bytes || *end) {
		errno = EINVAL;
		die(text);
	}
	return bytes;
}

static char *map(size_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	/* Without THP this fails. */
	madvise(memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

static void write_pages(char *memory, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += page_size)
		*(size_t *)(memory + i) = i + 1;
	/* The compiler must not leave it out. */
	asm volatile("" : : "r" (memory) : "memory");
}

static void read_steps(const char *memory, size_t bytes, size_t step)
{
	for (size_t i = 0; i < bytes; i += step) {
		size_t value = *(const size_t *)(memory + i);

		asm volatile("" : : "r" (value));
	}
}

static char *map_populated(size_t bytes)
{
	char *memory = map(bytes);

	write_pages(memory, bytes);
	return memory;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0)
		die(path);
	return fd;
}

static void read_at(int fd, size_t offset, size_t bytes)
{
	static char buffer[READ_BYTES];

	if (pread(fd, buffer, bytes, offset) != (ssize_t)bytes)
		die("pread");
}

static uint64_t touch(char **arguments)
{
	size_t bytes = parse_size(arguments[0]);
	unsigned int rounds = atoi(arguments[1]);
	char *memory = map_populated(bytes);
	uint64_t start = clock_us(CLOCK_MONOTONIC);

	while (rounds--)
		read_steps(memory, bytes, LINE_BYTES);
	return clock_us(CLOCK_MONOTONIC) - start;
}

static uint64_t read_file(char **arguments)
{
	int fd = open_file(arguments[0], O_RDONLY);
	size_t bytes = parse_size(arguments[1]);
	unsigned int rounds = atoi(arguments[2]);
	uint64_t start = clock_us(CLOCK_MONOTONIC);

	while (rounds--)
		for (size_t i = 0; i + READ_BYTES <= bytes; i += READ_BYTES)
			read_at(fd, i, READ_BYTES);
	return clock_us(CLOCK_MONOTONIC) - start;
}

static uint64_t fault(char **arguments)
{
	size_t bytes = parse_size(arguments[0]);
	unsigned int rounds = atoi(arguments[1]);
	uint64_t start = clock_us(CLOCK_MONOTONIC);

	while (rounds--)
		munmap(map_populated(bytes), bytes);
	return clock_us(CLOCK_MONOTONIC) - start;
}

static uint64_t fork_children(char **arguments)
{
	unsigned int rounds = atoi(arguments[0]);
	char *memory = map_populated(FORK_BYTES);
	uint64_t start = clock_us(CLOCK_MONOTONIC);

	while (rounds--) {
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (!child) {
			write_pages(memory, FORK_BYTES);
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
	return clock_us(CLOCK_MONOTONIC) - start;
}

/* The same numbers in each run */
static uint64_t next_random(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* A block of @bytes; half of the time one of the first eighth */
static size_t random_offset(size_t bytes)
{
	uint64_t random = next_random();
	size_t nr_blocks = bytes / MIX_BYTES;

	if (random >> 63)
		nr_blocks /= 8;
	return (random & INT64_MAX) % nr_blocks * MIX_BYTES;
}

static uint64_t mix(char **arguments)
{
	int fd = open_file(arguments[0], O_RDONLY);
	size_t file_bytes = parse_size(arguments[1]);
	size_t anon_bytes = parse_size(arguments[2]);
	unsigned int operations = atoi(arguments[3]);
	char *memory = map_populated(anon_bytes);
	uint64_t start = clock_us(CLOCK_MONOTONIC);

	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	while (operations--) {
		read_at(fd, random_offset(file_bytes), MIX_BYTES);
		write_pages(memory + random_offset(anon_bytes), MIX_BYTES);
	}
	return clock_us(CLOCK_MONOTONIC) - start;
}

static void hold(size_t bytes, const char *pause_ms)
{
	char *memory = map_populated(bytes);

	printf("ready\n");
	fflush(stdout);
	while (pause_ms) {
		read_steps(memory, bytes, page_size);
		usleep(atoi(pause_ms) * 1000);
	}
	for (;;)
		pause();
}

static uint64_t write_file(char **arguments)
{
	int fd = open_file(arguments[0], O_WRONLY);
	uint64_t start = clock_us(CLOCK_THREAD_CPUTIME_ID);

	if (write(fd, arguments[1], strlen(arguments[1])) < 0)
		die(arguments[0]);
	return clock_us(CLOCK_THREAD_CPUTIME_ID) - start;
}

static void print_cputime(const char *pid, const char *name)
{
	char path[300], comm[64] = "";
	clockid_t clock;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	file = fopen(path, "r");
	if (!file)
		return;
	if (fgets(comm, sizeof(comm), file) &&
	    !strncmp(comm, name, strlen(name)) &&
	    !clock_getcpuclockid(atoi(pid), &clock))
		printf("%s %ju\n", pid, (uintmax_t)clock_us(clock));
	fclose(file);
}

static void print_cputimes(const char *name)
{
	DIR *directory = opendir("/proc");
	struct dirent *entry;

	if (!directory)
		die("/proc");
	while ((entry = readdir(directory)))
		if (atoi(entry->d_name))
			print_cputime(entry->d_name, name);
	closedir(directory);
}

static const struct {
	const char *name;
	int nr_arguments;
	uint64_t (*run)(char **arguments);
} workloads[] = {
	{ "touch", 2, touch },
	{ "read", 3, read_file },
	{ "fault", 2, fault },
	{ "fork", 1, fork_children },
	{ "mix", 4, mix },
	{ "write", 2, write_file },
	{ }
};

static void show_usage(void)
{
	fprintf(stderr,
		"usage: wsr_bench touch BYTES ROUNDS | read FILE BYTES ROUNDS |\n"
		"       fault BYTES ROUNDS | fork ROUNDS |\n"
		"       mix FILE FILE-BYTES ANON-BYTES OPERATIONS |\n"
		"       hold BYTES [MS] | write FILE TEXT | cputime NAME\n");
	exit(2);
}

int main(int argc, char **argv)
{
	page_size = sysconf(_SC_PAGESIZE);
	if (argc < 3)
		show_usage();

	if (!strcmp(argv[1], "hold")) {
		hold(parse_size(argv[2]), argv[3]);
	} else if (!strcmp(argv[1], "cputime")) {
		print_cputimes(argv[2]);
		return 0;
	}
	for (int i = 0; workloads[i].name; i++) {
		if (strcmp(argv[1], workloads[i].name) ||
		    argc - 2 != workloads[i].nr_arguments)
			continue;
		printf("%ju\n", (uintmax_t)workloads[i].run(argv + 2));
		return 0;
	}
	show_usage();
}
