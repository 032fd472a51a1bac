// SPDX-License-Identifier: GPL-2.0
/*
 * Work whose need for memory changes, at a pace that does not.
 *
 * usage: phases [-f FILE:TOUCHES] [-l KIB] [-s FILE:PAGES] [-t TOUCHES] PHASE...
 *
 * A PHASE is SIZE:SECONDS, as in 128M:60: each PERIOD_MS, TOUCHES random pages
 * of the first SIZE bytes are written. The memory of the largest phase is
 * allocated before, and stays so: what a phase does not use gets cold. A line
 * "ready" says that this is done; the first phase begins when the file /run/go
 * is there. -f: also as many random pages of a file are
 * read each time, with :SIZE after PHASE's seconds only of its first SIZE bytes.
 * -l: each time so much more memory is written and never used again. -s: the
 * next pages of a file are read each time, one after the other to its end, and
 * then from its start.
 *
 * A touch that is not done by the end of its period is not made up for: it is
 * work not done. At the end of each phase a line says
 *	PHASE DONE POSSIBLE SLOWEST_US
 * with the touches that were done and could have been, and the longest period.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Long enough that it does not matter when an emulated guest gets its CPU. */
#define PERIOD_MS	250
#define PERIOD_NS	(PERIOD_MS * INT64_C(1000000))
#define PAGE		4096
#define CHECK_TOUCHES	64	/* between looks at the clock */
#define MAX_PHASES	32

struct phase {
	const char *name;
	uint64_t bytes;
	uint64_t file_bytes;
	int64_t ns;
};

static struct {
	struct phase phases[MAX_PHASES];
	int nr_phases;
	unsigned int touches;
	unsigned int file_touches;
	uint64_t leak_bytes;	/* each period */
	int fd;
	unsigned int stream_pages;
	int stream_fd;
	off_t stream_at;
	char *memory;
	uint64_t random;
} app = {
	.touches = 2500,
	.random = UINT64_C(88172645463325252),
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void sleep_until(int64_t ns)
{
	struct timespec until = {
		.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000,
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
		;
}

/* xorshift: the same pages in each run */
static uint64_t random_below(uint64_t limit)
{
	app.random ^= app.random << 13;
	app.random ^= app.random >> 7;
	app.random ^= app.random << 17;
	return app.random % limit;
}

static uint64_t bytes_of(const char *text, char **end)
{
	uint64_t bytes = strtoull(text, end, 10);

	if (**end == 'M') {
		bytes <<= 20;
		(*end)++;
	}
	return bytes;
}

static void *map(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	return memory;
}

static void touch_memory(const struct phase *phase)
{
	uint64_t *word = (void *)(app.memory +
				  random_below(phase->bytes / PAGE) * PAGE);

	++*word;
}

static void touch_file(const struct phase *phase)
{
	char byte;

	if (pread(app.fd, &byte, 1,
		  random_below(phase->file_bytes / PAGE) * PAGE) != 1)
		err(1, "read of the file");
}

static void read_on(const struct phase *phase)
{
	static char page[PAGE];
	ssize_t got = pread(app.stream_fd, page, PAGE, app.stream_at);

	(void)phase;
	if (got < 0)
		err(1, "read of the stream");
	app.stream_at = got == PAGE ? app.stream_at + PAGE : 0;
}

/* Returns how many touches were done before @until. */
static unsigned int touch(void (*one)(const struct phase *),
			  const struct phase *phase, unsigned int nr,
			  int64_t until)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (i % CHECK_TOUCHES == 0 && now_ns() >= until)
			return i;
		one(phase);
	}
	return nr;
}

/* Mapped piece by piece: it has no end. */
static void leak(uint64_t bytes)
{
	char *memory = bytes ? map(bytes) : NULL;

	for (uint64_t i = 0; i < bytes; i += PAGE)
		memory[i] = 1;
}

static void run(const struct phase *phase, int64_t began)
{
	unsigned int files = phase->file_bytes ? app.file_touches : 0;
	unsigned int memory = phase->bytes ? app.touches : 0;
	uint64_t done = 0, periods = phase->ns / PERIOD_NS;
	int64_t slowest = 0;

	for (uint64_t i = 0; i < periods; i++) {
		int64_t due = began + i * PERIOD_NS, start, took;

		/* Nothing of this period is left. */
		if (now_ns() >= due + PERIOD_NS)
			continue;
		sleep_until(due);
		start = now_ns();
		done += touch(touch_memory, phase, memory, due + PERIOD_NS);
		done += touch(touch_file, phase, files, due + PERIOD_NS);
		done += touch(read_on, phase, app.stream_pages,
			      due + PERIOD_NS);
		leak(app.leak_bytes);
		took = now_ns() - start;
		if (took > slowest)
			slowest = took;
	}
	printf("%s %llu %llu %lld\n", phase->name, (unsigned long long)done,
	       (unsigned long long)(memory + files + app.stream_pages) *
	       periods,
	       (long long)slowest / 1000);
	fflush(stdout);
}

static void parse_phase(char *text)
{
	struct phase *phase = &app.phases[app.nr_phases++];
	char *end;

	if (app.nr_phases > MAX_PHASES)
		errx(2, "too many phases");
	phase->name = strdup(text);
	phase->bytes = bytes_of(text, &end);
	if (*end != ':')
		errx(2, "%s: a phase is SIZE:SECONDS[:SIZE]", text);
	phase->ns = strtoull(end + 1, &end, 10) * UINT64_C(1000000000);
	if (*end == ':')
		phase->file_bytes = bytes_of(end + 1, &end);
	if (*end || !phase->ns)
		errx(2, "%s: a phase is SIZE:SECONDS[:SIZE]", phase->name);
}

/* Of FILE:NUMBER */
static int open_file(char *text, unsigned int *number)
{
	char *colon = strrchr(text, ':');
	int fd;

	if (!colon)
		errx(2, "%s: expected FILE:NUMBER", text);
	*colon = '\0';
	*number = strtoul(colon + 1, NULL, 10);
	fd = open(text, O_RDONLY);
	if (fd < 0)
		err(1, "%s", text);
	return fd;
}

static void open_random(char *text)
{
	app.fd = open_file(text, &app.file_touches);
	/* Only what is asked for: pages are as random as touches. */
	posix_fadvise(app.fd, 0, 0, POSIX_FADV_RANDOM);
}

int main(int argc, char **argv)
{
	uint64_t largest = PAGE;
	int64_t began;
	int option;

	while ((option = getopt(argc, argv, "f:l:s:t:")) >= 0) {
		switch (option) {
		case 'f':
			open_random(optarg);
			break;
		case 'l':
			app.leak_bytes = strtoull(optarg, NULL, 10) << 10;
			break;
		case 's':
			app.stream_fd = open_file(optarg, &app.stream_pages);
			break;
		case 't':
			app.touches = strtoul(optarg, NULL, 10);
			break;
		default:
			return 2;
		}
	}
	for (; optind < argc; optind++)
		parse_phase(argv[optind]);
	for (int i = 0; i < app.nr_phases; i++) {
		if (app.phases[i].bytes > largest)
			largest = app.phases[i].bytes;
		if (app.phases[i].file_bytes && !app.fd)
			errx(2, "%s: no -f", app.phases[i].name);
	}
	app.memory = map(largest);
	if (madvise(app.memory, largest, MADV_POPULATE_WRITE))
		err(1, "no memory");
	/* Pages of zeroes cost nothing to swap. */
	for (uint64_t i = 0; i < largest; i += PAGE)
		app.memory[i] = 1;
	puts("ready");
	fflush(stdout);
	while (access("/run/go", F_OK))
		usleep(PERIOD_MS * 1000);
	began = now_ns();
	for (int i = 0; i < app.nr_phases; i++) {
		run(&app.phases[i], began);
		began += app.phases[i].ns;
	}
	return 0;
}
