// SPDX-License-Identifier: GPL-2.0
/*
 * wsr_bands - a workload whose true page ages are known
 *
 * It maps bands of memory and touches each page of a band once per period,
 * spread evenly over the period. It notes when each chunk was last touched,
 * so that it can say at any moment what a perfect histogram would show.
 *
 *	wsr_bands [-c FIFO] [-d DIR] SIZE:PERIOD[:KIND]...
 *
 *	SIZE	bytes, with suffix K, M or G
 *	PERIOD	seconds, as in 0.2 or 3, or "never": touched only at the start
 *	KIND	anon (the default), shmem, or read: page cache, touched by
 *		read(2) of a file without blocks in DIR
 *
 * Commands, one on a line, come from stdin, or with -c from FIFO. The answer,
 * which ends with the line "end", goes to stdout, or with -c to FIFO.reply:
 *
 *	truth MS...	the histogram for these bounds, in the format of the
 *			kernel's histogram file
 *	period BAND P	touch band BAND (0 is the first) at another period
 *	drop BAND	give the memory of the band back
 *	add BAND-SPEC	add a band: SIZE:PERIOD[:KIND]
 *	quit
 *
 * When all memory is there it prints "ready PID" to stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_BANDS	64
#define MAX_BOUNDS	64
/* What is touched at once and shares one time. */
#define CHUNK_BYTES	(64UL << 10)
/* Touching is done in steps of this length, to sleep in between. */
#define STEP_MS		10
#define NSEC_PER_SEC	1000000000ULL
#define NSEC_PER_MSEC	1000000ULL

struct band;

struct kind {
	const char *name;
	int file_backed;
	int (*map)(struct band *band);
	void (*touch)(struct band *band, size_t offset, size_t bytes);
	void (*unmap)(struct band *band);
};

struct band {
	const struct kind *kind;	/* NULL: dropped */
	char *memory;
	int fd;
	size_t bytes;
	size_t nr_chunks;
	size_t next_chunk;
	uint64_t period_ns;		/* 0: never */
	uint64_t due_ns;		/* when next_chunk is to be touched */
	uint64_t *touched_ns;		/* for each chunk */
};

static struct band bands[MAX_BANDS];
static size_t nr_bands;
static const char *directory = ".";
static const char bad_period[] =
	"PERIOD is a number of seconds, at least 0.01, or \"never\"";
static long page_size;

static void die(const char *what)
{
	fprintf(stderr, "wsr_bands: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static int map_memory(struct band *band, int flags)
{
	band->memory = mmap(NULL, band->bytes, PROT_READ | PROT_WRITE,
			    flags | MAP_ANONYMOUS, -1, 0);
	if (band->memory == MAP_FAILED)
		return -1;
	/* One page, one age: no huge pages. Without THP this fails. */
	madvise(band->memory, band->bytes, MADV_NOHUGEPAGE);
	/* The first touch must write, or it would map the zero page. */
	for (size_t i = 0; i < band->bytes; i += page_size)
		*(size_t *)(band->memory + i) = i + 1;
	return 0;
}

static int map_anon(struct band *band)
{
	return map_memory(band, MAP_PRIVATE);
}

static int map_shmem(struct band *band)
{
	return map_memory(band, MAP_SHARED);
}

static void touch_memory(struct band *band, size_t offset, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += page_size) {
		size_t value = *(size_t *)(band->memory + offset + i);

		asm volatile("" : : "r" (value));
	}
}

static void unmap_memory(struct band *band)
{
	munmap(band->memory, band->bytes);
}

static int open_file(struct band *band)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/wsr_bands.XXXXXX", directory);
	band->fd = mkstemp(path);
	if (band->fd < 0)
		return -1;
	unlink(path);
	/* Read-ahead would bring pages in before their time. */
	posix_fadvise(band->fd, 0, 0, POSIX_FADV_RANDOM);
	return ftruncate(band->fd, band->bytes);
}

static void read_file(struct band *band, size_t offset, size_t bytes)
{
	static char buffer[CHUNK_BYTES];

	if (pread(band->fd, buffer, bytes, offset) != (ssize_t)bytes)
		die("pread");
}

static void close_file(struct band *band)
{
	close(band->fd);
}

static const struct kind kinds[] = {
	{ "anon",  0, map_anon,  touch_memory, unmap_memory },
	{ "shmem", 0, map_shmem, touch_memory, unmap_memory },
	{ "read",  1, open_file, read_file,    close_file },
	{ }
};

static int parse_size(const char *text, char **end, size_t *bytes)
{
	static const char suffixes[] = "KMG";
	const char *suffix;

	*bytes = strtoull(text, end, 10);
	suffix = **end ? strchr(suffixes, **end) : NULL;
	if (suffix) {
		*bytes <<= 10 * (suffix - suffixes + 1);
		(*end)++;
	}
	return *bytes ? 0 : -1;
}

static int parse_period(const char *text, char **end, uint64_t *period_ns)
{
	if (!strncmp(text, "never", 5)) {
		*end = (char *)text + 5;
		*period_ns = 0;
		return 0;
	}
	*period_ns = strtod(text, end) * NSEC_PER_SEC;
	if (*end == text || *period_ns < STEP_MS * NSEC_PER_MSEC)
		return -1;
	return 0;
}

static void touch_chunk(struct band *band, size_t chunk)
{
	size_t offset = chunk * CHUNK_BYTES;
	size_t bytes = band->bytes - offset;

	if (bytes > CHUNK_BYTES)
		bytes = CHUNK_BYTES;
	band->kind->touch(band, offset, bytes);
	band->touched_ns[chunk] = now_ns();
}

/* Returns NULL, or what is wrong with the specification. */
static const char *add_band(const char *spec)
{
	struct band *band = &bands[nr_bands];
	const char *name = "anon";
	char *end;

	if (nr_bands == MAX_BANDS)
		return "too many bands";
	if (parse_size(spec, &end, &band->bytes) || *end++ != ':')
		return "a band is SIZE:PERIOD[:KIND], SIZE as in 16M";
	if (parse_period(end, &end, &band->period_ns))
		return bad_period;
	if (*end == ':')
		name = end + 1;
	else if (*end)
		return "a band is SIZE:PERIOD[:KIND]";

	band->kind = kinds;
	while (band->kind->name && strcmp(name, band->kind->name))
		band->kind++;
	if (!band->kind->name)
		return "KIND is anon, shmem or read";

	band->bytes = (band->bytes + page_size - 1) & -page_size;
	band->nr_chunks = (band->bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
	band->next_chunk = 0;
	band->touched_ns = calloc(band->nr_chunks, sizeof(uint64_t));
	if (!band->touched_ns || band->kind->map(band))
		die(spec);
	for (size_t i = 0; i < band->nr_chunks; i++)
		touch_chunk(band, i);
	band->due_ns = now_ns();
	nr_bands++;
	return NULL;
}

static void set_period(struct band *band, uint64_t period_ns)
{
	band->period_ns = period_ns;
	band->due_ns = now_ns();
}

static void drop_band(struct band *band)
{
	band->kind->unmap(band);
	band->kind = NULL;
	free(band->touched_ns);
}

/* Touches what is due; returns when the next chunk is due. */
static uint64_t touch_due_chunks(struct band *band, uint64_t now)
{
	uint64_t distance_ns = band->period_ns / band->nr_chunks;

	/* More than a period late: once round is enough. */
	if (band->due_ns + band->period_ns < now)
		band->due_ns = now - band->period_ns;
	while (band->due_ns <= now) {
		touch_chunk(band, band->next_chunk);
		band->next_chunk = (band->next_chunk + 1) % band->nr_chunks;
		band->due_ns += distance_ns;
	}
	return band->due_ns;
}

/* Returns for how many ms there is nothing to do, -1: for ever. */
static int touch_bands(void)
{
	uint64_t now = now_ns(), due, first_due = UINT64_MAX;

	for (size_t i = 0; i < nr_bands; i++) {
		if (!bands[i].kind || !bands[i].period_ns)
			continue;
		due = touch_due_chunks(&bands[i], now);
		if (due < first_due)
			first_due = due;
	}
	if (first_due == UINT64_MAX)
		return -1;
	now = now_ns();
	if (first_due < now + STEP_MS * NSEC_PER_MSEC)
		return STEP_MS;
	return (first_due - now) / NSEC_PER_MSEC;
}

static void count_band(const struct band *band, uint64_t now, size_t nr_bounds,
		       const uint64_t *bounds_ms, uint64_t (*bins)[2])
{
	for (size_t i = 0; i < band->nr_chunks; i++) {
		uint64_t age_ns = now - band->touched_ns[i];
		size_t bytes = band->bytes - i * CHUNK_BYTES;
		size_t bin = 0;

		while (bin < nr_bounds &&
		       age_ns >= bounds_ms[bin] * NSEC_PER_MSEC)
			bin++;
		bins[bin][band->kind->file_backed] +=
			bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
	}
}

static void print_truth(FILE *reply, char *arguments)
{
	uint64_t bounds_ms[MAX_BOUNDS], bins[MAX_BOUNDS + 1][2] = {};
	uint64_t now = now_ns();
	size_t nr_bounds = 0;
	char *word;

	while ((word = strtok(arguments, " ")) && nr_bounds < MAX_BOUNDS) {
		bounds_ms[nr_bounds++] = strtoull(word, NULL, 10);
		arguments = NULL;
	}
	for (size_t i = 0; i < nr_bands; i++)
		if (bands[i].kind)
			count_band(&bands[i], now, nr_bounds, bounds_ms, bins);

	for (size_t i = 0; i <= nr_bounds; i++) {
		if (i < nr_bounds)
			fprintf(reply, "%ju", (uintmax_t)bounds_ms[i]);
		else
			fprintf(reply, "max");
		fprintf(reply, " anon=%ju file=%ju\n", (uintmax_t)bins[i][0],
			(uintmax_t)bins[i][1]);
	}
}

/* Cuts the band's number off; NULL if there is no such band. */
static struct band *parse_band(char **arguments)
{
	char *end;
	size_t number = strtoul(*arguments, &end, 10);

	if (end == *arguments || number >= nr_bands || !bands[number].kind)
		return NULL;
	*arguments = *end ? end + 1 : end;
	return &bands[number];
}

static void run_command(char *line, FILE *reply)
{
	char *arguments = strchrnul(line, ' ');
	const char *error = NULL;
	struct band *band;
	uint64_t period_ns;
	char *end;

	if (*arguments)
		*arguments++ = '\0';

	if (!strcmp(line, "quit"))
		exit(0);
	if (!strcmp(line, "truth")) {
		print_truth(reply, arguments);
	} else if (!strcmp(line, "add")) {
		error = add_band(arguments);
	} else if (!strcmp(line, "drop")) {
		band = parse_band(&arguments);
		if (band)
			drop_band(band);
		else
			error = "no such band";
	} else if (!strcmp(line, "period")) {
		band = parse_band(&arguments);
		if (!band)
			error = "no such band";
		else if (parse_period(arguments, &end, &period_ns))
			error = bad_period;
		else
			set_period(band, period_ns);
	} else {
		error = "the commands are truth, period, drop, add and quit";
	}
	if (error)
		fprintf(reply, "error: %s\n", error);
	fprintf(reply, "end\n");
	fflush(reply);
}

/* Runs the complete lines that have arrived; returns 0 at the end of input. */
static int run_commands(int fd, FILE *reply)
{
	static char buffer[4096];
	static size_t used;
	ssize_t got = read(fd, buffer + used, sizeof(buffer) - 1 - used);
	char *newline;

	if (got <= 0)
		return 0;
	used += got;
	buffer[used] = '\0';
	while ((newline = strchr(buffer, '\n'))) {
		*newline = '\0';
		run_command(buffer, reply);
		used -= newline + 1 - buffer;
		memmove(buffer, newline + 1, used + 1);
	}
	if (used == sizeof(buffer) - 1)
		used = 0;	/* not a command of ours */
	return 1;
}

/* Opened for both directions: it never ends, and opening never waits. */
static int open_fifo(const char *path)
{
	int fd;

	unlink(path);
	if (mkfifo(path, 0600))
		die(path);
	fd = open(path, O_RDWR);
	if (fd < 0)
		die(path);
	return fd;
}

static void show_usage(void)
{
	fprintf(stderr,
		"usage: wsr_bands [-c FIFO] [-d DIR] SIZE:PERIOD[:KIND]...\n"
		"for example: wsr_bands 16M:0.2 16M:3 32M:never 8M:1:read\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct pollfd commands = { .fd = STDIN_FILENO, .events = POLLIN };
	const char *error, *fifo = NULL;
	char reply_path[4096];
	FILE *reply = stdout;
	int option;

	page_size = sysconf(_SC_PAGESIZE);
	while ((option = getopt(argc, argv, "c:d:")) != -1) {
		if (option == 'c')
			fifo = optarg;
		else if (option == 'd')
			directory = optarg;
		else
			show_usage();
	}
	if (optind == argc)
		show_usage();

	for (; optind < argc; optind++) {
		error = add_band(argv[optind]);
		if (error) {
			fprintf(stderr, "wsr_bands: %s: %s\n", argv[optind],
				error);
			show_usage();
		}
	}
	if (fifo) {
		commands.fd = open_fifo(fifo);
		snprintf(reply_path, sizeof(reply_path), "%s.reply", fifo);
		reply = fdopen(open_fifo(reply_path), "w");
		if (!reply)
			die(reply_path);
	}
	printf("ready %d\n", getpid());
	fflush(stdout);

	for (;;) {
		/* poll() leaves a negative descriptor alone. */
		if (poll(&commands, 1, touch_bands()) > 0 &&
		    !run_commands(commands.fd, reply))
			commands.fd = -1;
	}
}
