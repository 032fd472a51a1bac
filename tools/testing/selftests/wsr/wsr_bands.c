// SPDX-License-Identifier: GPL-2.0
/*
 * wsr_bands - a workload whose true page ages are known
 *
 * It maps bands of memory and touches each page of a band once per period,
 * spread evenly over the period. It notes when each chunk was last touched,
 * so that it can say at any moment what a perfect histogram would show.
 *
 *	wsr_bands [-c FIFO] [-d DIR] [-n N] BAND|cgroup=PATH...
 *
 * A BAND is SIZE:PERIOD[:KIND[:CHUNK]]
 *
 *	SIZE	bytes, with suffix K, M or G
 *	PERIOD	seconds, as in 0.2 or 3; "never": touched only at the start;
 *		"zipf": a random chunk in each step of 10 ms, the n-th most
 *		popular one with a probability of about 1/n
 *	KIND	anon (the default), thp, shmem, memfd, locked; of a file without
 *		blocks in DIR: map, map-random, map-sequential (mmap() with this
 *		advice), read, ahead (readahead() instead of a read), write; of
 *		a file in /tmp, which is expected to be a tmpfs: tmpfs
 *	CHUNK	bytes that are touched at once and so have one age; not less
 *		than a huge page if these are in use. Default: 2M for thp, else
 *		64K
 *
 * cgroup=PATH makes this cgroup, if it is not there, and joins it: the bands
 * that follow are charged to it. With -n there are N processes which share the
 * memory of all bands; each touches every Nth chunk.
 *
 * Commands, one on a line, come from stdin, or with -c from FIFO. The answer,
 * which ends with the line "end", goes to stdout, or with -c to FIFO.reply:
 *
 *	truth MS...	the histogram for these bounds, in the format of the
 *			kernel's histogram file. Only memory that is resident
 *			counts; what is locked is in no bin.
 *	around CGROUP FILE[,FILE]... BLIND_MS MS...
 *			the line "before LOCKED", the truth, the line "file",
 *			the contents of the files, the line "after LOCKED", and
 *			the truth again. LOCKED is the size of locked memory in
 *			bytes. With a CGROUP other than "all", only bands that
 *			are charged to it or one below it count.
 *	period BAND P	touch band BAND (0 is the first) at another period
 *	drop BAND	give the memory of the band back
 *	add BAND-SPEC	add a band
 *	quit
 *
 * The last but "truth" and "around" do not go with -n. When all memory is there
 * it prints "ready PID" to stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "band.h"

#define MAX_BANDS	4096
#define MAX_BOUNDS	64
#define MAX_CHUNKS	(1024UL << 10)
/* Touching is done in steps of this length, to sleep in between. */
#define STEP_MS		10
#define NSEC_PER_SEC	1000000000ULL
#define NSEC_PER_MSEC	1000000ULL

/* Where a process is in a band */
struct cursor {
	size_t next_chunk;
	uint64_t due_ns;		/* when next_chunk is to be touched */
};

struct histogram {
	size_t nr_bounds;
	uint64_t bounds_ms[MAX_BOUNDS];
	uint64_t bins[MAX_BOUNDS + 1][NR_COLUMNS];
};

static struct band bands[MAX_BANDS];
static struct cursor cursors[MAX_BANDS];
static size_t nr_bands;
/*
 * When each chunk of all bands, dropped ones included, was touched, and, in the
 * second half, when before that. One piece, which all processes share: small
 * bands in many cgroups are not to be burdened with a page each.
 */
static uint64_t *touched_ns;
static size_t nr_chunks;
/* This process touches each nr_processes-th chunk, from process_id on. */
static size_t process_id, nr_processes = 1;
static const char *joined_cgroup = "";
static const char bad_band[] =
	"a band is SIZE:PERIOD[:KIND[:CHUNK]], SIZE and CHUNK as in 16M";
static const char bad_period[] =
	"PERIOD is a number of seconds, at least 0.01, \"never\" or \"zipf\"";
static size_t page_size;

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

static int parse_period(const char *text, struct band *band)
{
	char *end;

	band->zipf = !strcmp(text, "zipf");
	if (band->zipf) {
		band->period_ns = band->nr_chunks * STEP_MS * NSEC_PER_MSEC;
		return 0;
	}
	if (!strcmp(text, "never")) {
		band->period_ns = 0;
		return 0;
	}
	band->period_ns = strtod(text, &end) * NSEC_PER_SEC;
	if (end == text || *end || band->period_ns < STEP_MS * NSEC_PER_MSEC)
		return -1;
	return 0;
}

static void touch_chunk(struct band *band, size_t chunk)
{
	size_t offset = chunk * band->chunk_bytes;
	size_t bytes = band->bytes - offset;

	if (bytes > band->chunk_bytes)
		bytes = band->chunk_bytes;
	band->kind->touch(band, offset, bytes);
	band->touched_before_ns[chunk] = band->touched_ns[chunk];
	band->touched_ns[chunk] = now_ns();
}

/* The time between two touches of a band by this process */
static uint64_t touch_distance_ns(const struct band *band)
{
	return band->period_ns / ((band->nr_chunks - process_id +
				   nr_processes - 1) / nr_processes);
}

/* Many small bands are not to be touched all at once: start at random. */
static void start_touching(size_t number)
{
	const struct band *band = &bands[number];
	struct cursor *cursor = &cursors[number];

	cursor->next_chunk = process_id;
	cursor->due_ns = now_ns();
	if (band->period_ns && process_id < band->nr_chunks)
		cursor->due_ns += random() % touch_distance_ns(band);
}

/* Returns NULL, or what is wrong with the specification, which it changes. */
static const char *add_band(char *spec)
{
	struct band *band = &bands[nr_bands];
	const char *size = strsep(&spec, ":");
	const char *period = strsep(&spec, ":");
	const char *kind = strsep(&spec, ":");
	char *end;

	if (nr_bands == MAX_BANDS)
		return "too many bands";
	if (!period || parse_size(size, &end, &band->bytes) || *end)
		return bad_band;
	band->kind = find_band_kind(kind ? kind : "anon");
	if (!band->kind)
		return "unknown KIND";
	band->chunk_bytes = band->kind->chunk_bytes;
	if (spec && (parse_size(spec, &end, &band->chunk_bytes) || *end ||
		     band->chunk_bytes % page_size ||
		     band->chunk_bytes > HUGE_CHUNK_BYTES))
		return bad_band;

	band->bytes = (band->bytes + page_size - 1) & -page_size;
	band->nr_chunks = (band->bytes + band->chunk_bytes - 1) /
			  band->chunk_bytes;
	if (parse_period(period, band))
		return bad_period;

	if (nr_chunks + band->nr_chunks > MAX_CHUNKS)
		return "too much memory for this size of chunks";
	band->touched_ns = touched_ns + nr_chunks;
	band->touched_before_ns = band->touched_ns + MAX_CHUNKS;
	nr_chunks += band->nr_chunks;
	band->fd = -1;
	band->cgroup = joined_cgroup;
	if (band->kind->map(band))
		die(size);
	for (size_t i = 0; i < band->nr_chunks; i++)
		touch_chunk(band, i);
	start_touching(nr_bands++);
	return NULL;
}

static void join_cgroup(const char *path)
{
	char procs[4096];
	FILE *file;

	if (mkdir(path, 0755) && errno != EEXIST)
		die(path);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	file = fopen(procs, "w");
	if (!file || fprintf(file, "0\n") < 0 || fclose(file))
		die(procs);
	joined_cgroup = path;
}

/*
 * The n-th most popular chunk comes with a probability of about 1/n: each
 * octave of ranks is as likely as the other. A multiplication by an odd number
 * scatters the ranks over the band.
 */
static size_t pick_zipf_chunk(const struct band *band)
{
	size_t octaves = 0, rank;

	while (band->nr_chunks >> octaves)
		octaves++;
	do {
		size_t first = 1UL << random() % octaves;

		rank = first + random() % first - 1;
	} while (rank >= band->nr_chunks);
	return rank * 0x9e3779b1UL % band->nr_chunks;
}

static size_t pick_chunk(const struct band *band, struct cursor *cursor)
{
	size_t chunk = cursor->next_chunk;

	if (band->zipf)
		return pick_zipf_chunk(band);
	cursor->next_chunk += nr_processes;
	if (cursor->next_chunk >= band->nr_chunks)
		cursor->next_chunk = process_id;
	return chunk;
}

/* Touches what is due; returns when the next chunk is due. */
static uint64_t touch_due_chunks(struct band *band, struct cursor *cursor,
				 uint64_t now)
{
	uint64_t distance_ns = touch_distance_ns(band);

	/* More than a period late: once round is enough. */
	if (cursor->due_ns + band->period_ns < now)
		cursor->due_ns = now - band->period_ns;
	while (cursor->due_ns <= now) {
		touch_chunk(band, pick_chunk(band, cursor));
		cursor->due_ns += distance_ns;
	}
	return cursor->due_ns;
}

/* Returns for how many ms there is nothing to do, -1: for ever. */
static int touch_bands(void)
{
	uint64_t now = now_ns(), due, first_due = UINT64_MAX;

	for (size_t i = 0; i < nr_bands; i++) {
		if (!bands[i].kind || !bands[i].period_ns ||
		    process_id >= bands[i].nr_chunks)
			continue;
		due = touch_due_chunks(&bands[i], &cursors[i], now);
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

static size_t resident_bytes(const unsigned char *pages, size_t first,
			     size_t nr)
{
	size_t bytes = 0;

	while (nr--)
		bytes += pages[first++] & 1 ? page_size : 0;
	return bytes;
}

/*
 * When a chunk was touched, if touches since @blind_ns, other than the first, had
 * not been seen.
 */
static uint64_t seen_ns(const struct band *band, size_t chunk,
			uint64_t blind_ns)
{
	uint64_t touched = band->touched_ns[chunk];
	uint64_t before = band->touched_before_ns[chunk];

	if (touched <= blind_ns || !before)
		return touched;
	return before < blind_ns ? before : blind_ns;
}

static void count_band(const struct band *band, uint64_t now,
		       uint64_t blind_ns, struct histogram *histogram)
{
	size_t chunk_pages = band->chunk_bytes / page_size;
	size_t nr_pages = band->bytes / page_size;
	unsigned char *pages = malloc(nr_pages);

	if (!pages || mincore(band->memory, band->bytes, pages))
		die("mincore");
	for (size_t i = 0; i < band->nr_chunks; i++) {
		uint64_t touched = seen_ns(band, i, blind_ns);
		uint64_t age_ns = now > touched ? now - touched : 0;
		size_t first = i * chunk_pages, nr = nr_pages - first;
		size_t bin = 0;

		while (bin < histogram->nr_bounds &&
		       age_ns >= histogram->bounds_ms[bin] * NSEC_PER_MSEC)
			bin++;
		if (nr > chunk_pages)
			nr = chunk_pages;
		histogram->bins[bin][band->kind->column] +=
			resident_bytes(pages, first, nr);
	}
	free(pages);
}

static int belongs_to(const struct band *band, const char *cgroup)
{
	size_t length = strlen(cgroup);

	return !strcmp(cgroup, "all") ||
	       (!strncmp(band->cgroup, cgroup, length) &&
		(!band->cgroup[length] || band->cgroup[length] == '/'));
}

static void parse_bounds(char *words, struct histogram *histogram)
{
	char *word;

	histogram->nr_bounds = 0;
	while ((word = strsep(&words, " ")) &&
	       histogram->nr_bounds < MAX_BOUNDS)
		histogram->bounds_ms[histogram->nr_bounds++] =
			strtoull(word, NULL, 10);
}

/*
 * Fills the bins of a histogram, whose bounds are given, without what was
 * touched in the last @blind_ms.
 */
static void find_truth(const char *cgroup, uint64_t blind_ms,
		       struct histogram *histogram)
{
	uint64_t now = now_ns();
	uint64_t blind_ns = now - blind_ms * NSEC_PER_MSEC;

	memset(histogram->bins, 0, sizeof(histogram->bins));
	for (size_t i = 0; i < nr_bands; i++)
		if (bands[i].kind && belongs_to(&bands[i], cgroup))
			count_band(&bands[i], now, blind_ns, histogram);
}

static void print_histogram(FILE *reply, const struct histogram *histogram)
{
	for (size_t i = 0; i <= histogram->nr_bounds; i++) {
		if (i < histogram->nr_bounds)
			fprintf(reply, "%ju",
				(uintmax_t)histogram->bounds_ms[i]);
		else
			fprintf(reply, "max");
		fprintf(reply, " anon=%ju file=%ju\n",
			(uintmax_t)histogram->bins[i][ANON],
			(uintmax_t)histogram->bins[i][FILE_BACKED]);
	}
}

static uint64_t unevictable_bytes(const struct histogram *histogram)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i <= histogram->nr_bounds; i++)
		bytes += histogram->bins[i][UNEVICTABLE];
	return bytes;
}

static void print_truth(FILE *reply, char *arguments)
{
	struct histogram truth;

	parse_bounds(arguments, &truth);
	find_truth("all", 0, &truth);
	print_histogram(reply, &truth);
}

/* Appends a file of the kernel, which has to be read at once; -1 with errno */
static int append_file(const char *path, char *text, size_t size, size_t *used)
{
	int fd = open(path, O_RDONLY);
	ssize_t got;

	if (fd < 0)
		return -1;
	while ((got = read(fd, text + *used, size - *used)) > 0)
		*used += got;
	close(fd);
	return got;
}

/* Nothing is written to anybody between the three parts. */
static const char *print_around(FILE *reply, char *arguments)
{
	static struct histogram before, after, blind;
	static char text[1 << 18];
	const char *cgroup = strsep(&arguments, " "), *path;
	char *paths = strsep(&arguments, " ");
	const char *blind_ms = strsep(&arguments, " ");
	size_t used = 0;

	if (!blind_ms)
		return "around needs CGROUP FILE BLIND_MS MS...";
	parse_bounds(arguments, &before);
	after = before;
	blind = before;
	find_truth(cgroup, 0, &before);
	while ((path = strsep(&paths, ",")))
		if (append_file(path, text, sizeof(text), &used))
			return strerror(errno);
	find_truth(cgroup, 0, &after);
	find_truth(cgroup, strtoull(blind_ms, NULL, 10), &blind);

	fprintf(reply, "before %ju\n", (uintmax_t)unevictable_bytes(&before));
	print_histogram(reply, &before);
	fprintf(reply, "file\n%.*s", (int)used, text);
	fprintf(reply, "after %ju\n", (uintmax_t)unevictable_bytes(&after));
	print_histogram(reply, &after);
	fprintf(reply, "blind\n");
	print_histogram(reply, &blind);
	return NULL;
}

/* The number of an existing band, -1 if there is none */
static ssize_t parse_band(const char *text)
{
	char *end;
	size_t number = text ? strtoul(text, &end, 10) : nr_bands;

	if (number >= nr_bands || end == text || *end || !bands[number].kind)
		return -1;
	return number;
}

static const char *set_period(char *arguments)
{
	ssize_t number = parse_band(strsep(&arguments, " "));

	if (number < 0)
		return "no such band";
	if (!arguments || parse_period(arguments, &bands[number]))
		return bad_period;
	start_touching(number);
	return NULL;
}

static const char *drop_band(const char *arguments)
{
	ssize_t number = parse_band(arguments);

	if (number < 0)
		return "no such band";
	unmap_band(&bands[number]);
	return NULL;
}

static const char *change_bands(const char *command, char *arguments)
{
	if (nr_processes > 1)
		return "bands that processes share can't be changed";
	if (!strcmp(command, "add"))
		return arguments ? add_band(arguments) : bad_band;
	if (!strcmp(command, "drop"))
		return drop_band(arguments);
	if (!strcmp(command, "period"))
		return set_period(arguments);
	return "the commands are truth, around, period, drop, add and quit";
}

static void run_command(char *line, FILE *reply)
{
	const char *command = strsep(&line, " ");
	const char *error = NULL;

	if (!strcmp(command, "quit"))
		exit(0);
	if (!strcmp(command, "truth"))
		print_truth(reply, line);
	else if (!strcmp(command, "around") && line)
		error = print_around(reply, line);
	else
		error = change_bands(command, line);
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

/*
 * A process that touches its share of the bands until the first one ends.
 * Having touched everything, it maps all pages.
 */
static void run_child(pid_t parent, int ready_fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		exit(0);
	for (size_t i = 0; i < nr_bands; i++) {
		for (size_t j = 0; j < bands[i].nr_chunks; j++)
			touch_chunk(&bands[i], j);
		start_touching(i);
	}
	if (write(ready_fd, "", 1) != 1)
		die("write");
	for (;;)
		poll(NULL, 0, touch_bands());
}

static void start_children(void)
{
	pid_t parent = getpid();
	int ready[2];
	char byte;

	if (pipe(ready))
		die("pipe");
	for (size_t i = 1; i < nr_processes; i++) {
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (!child) {
			process_id = i;
			run_child(parent, ready[1]);
		}
		/* One after the other, or all would be slow. */
		if (read(ready[0], &byte, 1) != 1)
			die("read");
	}
	close(ready[0]);
	close(ready[1]);
}

static void show_usage(void)
{
	fprintf(stderr,
		"usage: wsr_bands [-c FIFO] [-d DIR] [-n N] SIZE:PERIOD[:KIND[:CHUNK]]|cgroup=PATH...\n"
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
	while ((option = getopt(argc, argv, "c:d:n:")) != -1) {
		if (option == 'c')
			fifo = optarg;
		else if (option == 'd')
			band_directory = optarg;
		else if (option == 'n')
			nr_processes = strtoul(optarg, NULL, 10);
		else
			show_usage();
	}
	if (optind == argc || !nr_processes)
		show_usage();

	touched_ns = mmap(NULL, 2 * MAX_CHUNKS * sizeof(*touched_ns),
			  PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (touched_ns == MAP_FAILED)
		die("mmap");
	for (; optind < argc; optind++) {
		if (!strncmp(argv[optind], "cgroup=", 7)) {
			join_cgroup(argv[optind] + 7);
			continue;
		}
		error = add_band(argv[optind]);
		if (error) {
			fprintf(stderr, "wsr_bands: %s: %s\n", argv[optind],
				error);
			show_usage();
		}
	}
	start_children();
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
