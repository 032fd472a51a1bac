// SPDX-License-Identifier: GPL-2.0
/*
 * The files of a cgroup, memory.working_set.*: formats, limits, that the
 * numbers add up over the hierarchy and with those of the memory controller,
 * notifications, delegation, and the end of a cgroup.
 *
 *	memcg_files [DIR]	DIR, default TMPDIR or /var/tmp, is on a disk:
 *				page cache is made there
 *
 * Cgroups are made below a new one at the top of the cgroup2 file system, and
 * removed in the end. All their names here are relative to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define MIB		(1024 * 1024UL)
#define ANON_BYTES	(16 * MIB)
#define FILE_BYTES	(24 * MIB)
#define HOT_PERIOD_US	50000
#define AGE_MS		3000
#define NR_SHORT_LIVED	200
#define NOBODY		65534
#define MAX_CGROUPS	16
#define MAX_JOBS	8

/* What takes longer than this does not happen any more. */
#define PATIENCE_S	60.0
/* What does not come within this time is not coming. */
#define SILENCE_MS	1500

#define wait_for(condition)						\
({									\
	double end = ws_seconds() + PATIENCE_S;				\
	bool met;							\
									\
	while (!(met = (condition)) && ws_seconds() < end)		\
		usleep(100000);						\
	met;								\
})

static const struct {
	const char *name;
	mode_t mode;
} files[] = {
	{ "intervals_ms", 0644 },
	{ "refresh_ms", 0644 },
	{ "report_ms", 0644 },
	{ "histogram", 0444 },
	{ "numa_histogram", 0444 },
	{ "stat", 0444 },
};

static const char * const stat_keys[] = {
	"age_ms", "warming_up", "total", "unevictable", "kernel",
	"slab_reclaimable", "slab_unreclaimable", "swap_free", "refaulted",
	"refreshes", "refresh_us", "effective_refresh_ms", "samples",
	"sampled_folios", "young_folios", "notifications", "merged",
};

/* Bytes of memory by type */
struct sizes {
	uint64_t anon;
	uint64_t file;
};

/* What a process does in a cgroup. All but the hot memory is touched once. */
struct job {
	size_t hot_bytes;
	size_t cold_bytes;
	size_t locked_bytes;
	int file;		/* read if file_bytes is not 0 */
	size_t file_bytes;
	unsigned long nodes;	/* mask of where memory comes from, 0: any */
};

static const char *file_directory;
static char cgroup2[PATH_MAX / 4];	/* where it is mounted */
static char top[PATH_MAX / 2];
static pid_t main_process;

/* Of the test that is running */
static char cgroups[MAX_CGROUPS][64];
static int nr_cgroups;
static pid_t jobs[MAX_JOBS];
static int nr_jobs;

/* Path of a cgroup, or of a file in it; valid until the next call but three */
static const char *path_of(const char *cgroup, const char *file)
{
	static char paths[4][PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, PATH_MAX, "%s/%s/%s", top, cgroup, file);
	return path;
}

static int cg_write(const char *cgroup, const char *file, const char *text)
{
	return ws_write_path(path_of(cgroup, file), text);
}

static int cg_write_bytes(const char *cgroup, const char *file, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%ju", (uintmax_t)bytes);
	return cg_write(cgroup, file, text);
}

static uint64_t cg_bytes(const char *cgroup, const char *file)
{
	char text[32];

	if (ws_read_path(path_of(cgroup, file), text, sizeof(text)))
		ksft_exit_fail_msg("cannot read %s\n", path_of(cgroup, file));
	return strtoull(text, NULL, 10);
}

/* The functions of working_set.h are about this cgroup now. */
static void use(const char *cgroup)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", top, cgroup);
	ws_use_cgroup(path);
}

/* The one around it exists, and has no processes. */
static void make_cgroup(const char *cgroup)
{
	char around[PATH_MAX];
	char *slash;

	snprintf(around, sizeof(around), "%s", path_of(cgroup, ""));
	around[strlen(around) - 1] = '\0';
	slash = strrchr(around, '/');
	snprintf(slash, sizeof(around) - (slash - around),
		 "/cgroup.subtree_control");
	if (ws_write_path(around, "+memory") ||
	    mkdir(path_of(cgroup, ""), 0755))
		ksft_exit_fail_msg("cannot make cgroup %s: %s\n", cgroup,
				   strerror(errno));
	snprintf(cgroups[nr_cgroups++], sizeof(cgroups[0]), "%s", cgroup);
}

static void make_watched(const char *cgroup, const char *intervals,
			 const char *refresh)
{
	make_cgroup(cgroup);
	use(cgroup);
	if (ws_write("refresh_ms", refresh) ||
	    ws_write("intervals_ms", intervals))
		ksft_exit_fail_msg("cannot watch cgroup %s\n", cgroup);
}

static int remove_cgroup(const char *path)
{
	/* A process that was just reaped may still be counted. */
	return wait_for(!rmdir(path) || errno != EBUSY) &&
	       access(path, F_OK) ? 0 : -1;
}

static void end_jobs(void)
{
	while (nr_jobs) {
		kill(jobs[--nr_jobs], SIGKILL);
		waitpid(jobs[nr_jobs], NULL, 0);
	}
}

static void end_test(void)
{
	end_jobs();
	while (nr_cgroups)
		remove_cgroup(path_of(cgroups[--nr_cgroups], ""));
}

static void clean_up(void)
{
	if (getpid() != main_process)
		return;
	end_test();
	remove_cgroup(top);
}

static char *allocate(size_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		_exit(1);
	return memory;
}

static void touch(char *memory, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 4096)
		memory[at]++;
}

static void read_file(int file, size_t bytes)
{
	static char buffer[64 << 10];

	for (size_t at = 0; at < bytes; at += sizeof(buffer))
		if (pread(file, buffer, sizeof(buffer), at) <= 0)
			_exit(1);
}

/* Without CONFIG_NUMA there is nothing to do. */
static void spread_over(unsigned long nodes)
{
	syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &nodes,
		8 * sizeof(nodes) + 1);
}

static void run_job(const char *cgroup, const struct job *job, int ready)
{
	char *hot;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (job->nodes)
		spread_over(job->nodes);
	if (cg_write(cgroup, "cgroup.procs", "0"))
		_exit(1);
	if (job->cold_bytes)
		touch(allocate(job->cold_bytes), job->cold_bytes);
	if (job->locked_bytes &&
	    mlock(allocate(job->locked_bytes), job->locked_bytes))
		_exit(1);
	read_file(job->file, job->file_bytes);
	if (!job->hot_bytes) {
		write(ready, "", 1);
		for (;;)
			pause();
	}
	hot = allocate(job->hot_bytes);
	touch(hot, job->hot_bytes);
	write(ready, "", 1);
	for (;;) {
		touch(hot, job->hot_bytes);
		usleep(HOT_PERIOD_US);
	}
}

/* Returns when the process has all its memory. */
static pid_t start_job(const char *cgroup, const struct job *job)
{
	int ready[2];
	pid_t child;
	char byte;

	if (pipe(ready))
		ksft_exit_fail_msg("no pipe\n");
	child = fork();
	if (!child) {
		close(ready[0]);
		run_job(cgroup, job, ready[1]);
	}
	close(ready[1]);
	if (child < 0 || read(ready[0], &byte, 1) != 1)
		ksft_exit_fail_msg("a process in cgroup %s failed\n", cgroup);
	close(ready[0]);
	jobs[nr_jobs++] = child;
	return child;
}

/* A file without blocks; its page cache goes when it is closed. */
static int open_file(size_t bytes)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/wsr_memcg.XXXXXX", file_directory);
	fd = mkstemp(path);
	if (fd < 0)
		ksft_exit_fail_msg("cannot make a file in %s\n",
				   file_directory);
	unlink(path);
	if (ftruncate(fd, bytes))
		ksft_exit_fail_msg("cannot make a file of %zu bytes\n", bytes);
	return fd;
}

static uint64_t slack_bytes(void)
{
	/* The largest batch of pages that a CPU may keep to itself */
	return 64 * sysconf(_SC_PAGESIZE) * sysconf(_SC_NPROCESSORS_ONLN);
}

/* Equal within 1 % and what is in the batches of CPUs */
static bool about(uint64_t value, uint64_t expected)
{
	uint64_t tolerance = expected / 100 + slack_bytes();

	return value + tolerance >= expected && value <= expected + tolerance;
}

/* The bins first to last of the cgroup in use together */
static struct sizes sum_bins(const struct ws_histogram *histogram, int first,
			     int last)
{
	struct sizes sum = {};

	for (int i = first; i <= last && i < histogram->nr_bins; i++) {
		sum.anon += histogram->bins[i].anon_bytes;
		sum.file += histogram->bins[i].file_bytes;
	}
	return sum;
}

static struct sizes bins_of(const char *cgroup, int first, int last)
{
	struct ws_histogram histogram;

	use(cgroup);
	ws_read_histogram(&histogram);
	return sum_bins(&histogram, first, last);
}

static struct sizes all_of(const char *cgroup)
{
	return bins_of(cgroup, 0, WS_MAX_BOUNDS);
}

static bool holds(const char *cgroup, uint64_t anon, uint64_t file)
{
	struct sizes sizes = all_of(cgroup);

	return about(sizes.anon, anon) && about(sizes.file, file);
}

/* Shows what there is if it is not as it should be. */
static bool explain(bool right, const char *cgroup)
{
	static const char * const sources[] = {
		"memory.working_set.histogram", "memory.working_set.stat",
		"memory.current", "memory.stat",
	};
	char text[16384];

	for (size_t i = 0; !right && i < ARRAY_SIZE(sources); i++) {
		if (ws_read_path(path_of(cgroup, sources[i]), text,
				 sizeof(text)))
			snprintf(text, sizeof(text), "cannot be read\n");
		ksft_print_msg("%s, %s:\n%s", cgroup, sources[i], text);
	}
	return right;
}

static uint64_t stat_of(const char *cgroup, const char *key)
{
	return ws_value(path_of(cgroup, "memory.stat"), key);
}

static bool comes_to_hold(const char *cgroup, uint64_t anon, uint64_t file)
{
	return explain(wait_for(holds(cgroup, anon, file)), cgroup);
}

static void test_root(void)
{
	bool absent = true;

	ws_use_cgroup(cgroup2);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		absent = absent && access(ws_path(files[i].name), F_OK) &&
			 errno == ENOENT;
	ksft_test_result(absent, "the root cgroup has no such files\n");
}

static bool is_empty(const char *file)
{
	char text[256];

	return !ws_read(file, text, sizeof(text)) &&
	       strspn(text, "\n") == strlen(text);
}

static bool is_off(void)
{
	return is_empty("intervals_ms") && is_empty("histogram") &&
	       is_empty("numa_histogram") && is_empty("stat");
}

static void test_settings(void)
{
	const struct ws_setting *setting;

	for (setting = ws_valid; setting->file; setting++)
		ksft_test_result(ws_takes(setting), "%s takes \"%s\"\n",
				 setting->file, setting->value);
	for (setting = ws_invalid; setting->file; setting++)
		ksft_test_result(ws_refuses(setting),
				 "%s refuses \"%s\" and stays as it was\n",
				 setting->file, setting->value);
}

static void test_files(void)
{
	struct stat status;

	make_cgroup("files");
	use("files");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		ksft_test_result(!stat(ws_path(files[i].name), &status) &&
				 (status.st_mode & 07777) == files[i].mode,
				 "%s has mode %04o\n", files[i].name,
				 files[i].mode);
	ksft_test_result(is_off() && ws_reads("refresh_ms", "1000") &&
			 ws_reads("report_ms", "0"),
			 "by default: off, refresh_ms 1000, report_ms 0\n");

	test_settings();

	ws_write("intervals_ms", "1000,5000,30000");
	ksft_test_result(!is_empty("histogram") &&
			 !ws_write("intervals_ms", "\n") && is_off(),
			 "empty intervals_ms switches the reports off\n");
	end_test();
}

/* Is there the line "Nnode rest"? Returns what follows it in the text. */
static const char *parse_node(const char *text, int node,
			      struct ws_histogram *histogram)
{
	char lines[4096] = "", prefix[16];
	size_t length;

	snprintf(prefix, sizeof(prefix), "N%d ", node);
	length = strlen(prefix);
	while (!strncmp(text, prefix, length)) {
		size_t rest = strcspn(text + length, "\n") + 1;

		strncat(lines, text + length, rest);
		text += length + rest;
	}
	if (ws_parse_histogram(lines, histogram) || !histogram->nr_bins)
		return NULL;
	return text;
}

/* Parses numa_histogram; returns the number of nodes, 0 on an error. */
static int read_nodes(struct ws_histogram *sum, struct sizes *smallest)
{
	char all[16384];
	const char *text = all;
	int nr_nodes = 0;

	memset(sum, 0, sizeof(*sum));
	if (ws_read("numa_histogram", all, sizeof(all)))
		return 0;
	while (*text) {
		struct ws_histogram part;
		struct sizes sizes;
		int node = atoi(text + 1);

		text = parse_node(text, node, &part);
		if (!text || (nr_nodes && part.nr_bins != sum->nr_bins))
			return 0;
		sizes = sum_bins(&part, 0, WS_MAX_BOUNDS);
		if (!nr_nodes++ || sizes.anon < smallest->anon)
			*smallest = sizes;
		sum->nr_bins = part.nr_bins;
		for (int i = 0; i < part.nr_bins; i++) {
			sum->bins[i].bound_ms = part.bins[i].bound_ms;
			sum->bins[i].anon_bytes += part.bins[i].anon_bytes;
			sum->bins[i].file_bytes += part.bins[i].file_bytes;
		}
	}
	return nr_nodes;
}

/* Number of nodes in a list like "0-1,4"; 1 without CONFIG_NUMA. */
static int nr_memory_nodes(void)
{
	char text[256] = "", *word, *state;
	int nr = 0;

	if (ws_read_path("/sys/devices/system/node/has_memory", text,
			 sizeof(text)))
		return 1;
	for (word = strtok_r(text, ",", &state); word;
	     word = strtok_r(NULL, ",", &state)) {
		int first = 0, last;

		if (sscanf(word, "%d-%d", &first, &last) < 2)
			last = first;
		nr += last - first + 1;
	}
	return nr;
}

static bool same_bins(const struct ws_histogram *a, const struct ws_histogram *b)
{
	return a->nr_bins == b->nr_bins &&
	       !memcmp(a->bins, b->bins, a->nr_bins * sizeof(a->bins[0]));
}

static void test_nodes(const char *cgroup)
{
	struct ws_histogram before, nodes, after;
	double end = ws_seconds() + PATIENCE_S;
	struct sizes smallest = {};
	int nr_nodes;

	use(cgroup);
	/* Memory grows older meanwhile: compare when no bin has changed. */
	do {
		ws_read_histogram(&before);
		nr_nodes = read_nodes(&nodes, &smallest);
		ws_read_histogram(&after);
	} while (!same_bins(&before, &after) && ws_seconds() < end);
	ksft_test_result(nr_nodes == nr_memory_nodes(),
			 "numa_histogram has lines for %d nodes\n", nr_nodes);
	ksft_test_result(explain(same_bins(&before, &nodes) &&
				 same_bins(&nodes, &after), cgroup),
			 "numa_histogram adds up to histogram\n");
	ksft_test_result(nr_nodes && about(smallest.anon,
					   ANON_BYTES / nr_nodes),
			 "each node has its share: at least %ju bytes\n",
			 (uintmax_t)smallest.anon);
}

static bool same_as_memory_stat(const char *cgroup)
{
	struct sizes sizes = all_of(cgroup);
	uint64_t anon = stat_of(cgroup, "inactive_anon") +
			stat_of(cgroup, "active_anon");
	uint64_t file = stat_of(cgroup, "inactive_file") +
			stat_of(cgroup, "active_file");

	return about(sizes.anon, anon) && about(sizes.file, file);
}

static bool sum_is_right(const char *cgroup)
{
	struct sizes bins = all_of(cgroup);
	uint64_t total = ws_stat("total"), kernel = ws_stat("kernel");
	uint64_t sum = bins.anon + bins.file + ws_stat("unevictable") + kernel;

	return about(sum, total) && total >= ANON_BYTES;
}

static bool total_is_current(const char *cgroup)
{
	use(cgroup);
	return about(ws_stat("total"), cg_bytes(cgroup, "memory.current"));
}

/* What CPUs hold in reserve for the cgroup and its child counts as kernel. */
static bool kernel_is_right(const char *cgroup)
{
	uint64_t kernel, expected = stat_of(cgroup, "kernel");

	use(cgroup);
	kernel = ws_stat("kernel");
	return kernel + slack_bytes() >= expected &&
	       kernel <= expected + 2 * slack_bytes();
}

static void test_bins(void)
{
	static const uint64_t bounds_ms[] = { 1000, 5000, 30000, WS_NO_BOUND };
	struct ws_histogram histogram;
	bool right;

	ws_read_histogram(&histogram);
	right = histogram.nr_bins == ARRAY_SIZE(bounds_ms);
	for (size_t i = 0; right && i < ARRAY_SIZE(bounds_ms); i++)
		right = histogram.bins[i].bound_ms == bounds_ms[i];
	ksft_test_result(right, "histogram has a bin for each bound and max\n");
}

static void test_keys(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(stat_keys); i++)
		ws_stat(stat_keys[i]);
	ksft_test_result_pass("stat has all keys\n");
}

static void test_sums(void)
{
	struct job job = {
		.cold_bytes = ANON_BYTES,
		.file_bytes = FILE_BYTES,
		.nodes = ~0UL,
	};
	struct job locked = { .locked_bytes = ANON_BYTES };
	uint64_t before;

	make_watched("sums", "1000,5000,30000", "500");
	make_cgroup("sums/child");
	job.file = open_file(FILE_BYTES);
	start_job("sums/child", &job);

	use("sums");
	test_bins();
	test_keys();
	ksft_test_result(comes_to_hold("sums", ANON_BYTES, FILE_BYTES),
			 "histogram has what a child uses\n");
	/* The counters of memory.stat can be some seconds late. */
	ksft_test_result(explain(wait_for(same_as_memory_stat("sums")), "sums"),
			 "histogram has what is on the LRU in memory.stat\n");
	test_nodes("sums");
	ksft_test_result(explain(sum_is_right("sums"), "sums"),
			 "bins, unevictable and kernel add up to total\n");
	ksft_test_result(explain(wait_for(total_is_current("sums")), "sums"),
			 "total is memory.current\n");
	ksft_test_result(explain(wait_for(kernel_is_right("sums")), "sums"),
			 "kernel is that of memory.stat\n");

	before = ws_stat("unevictable");
	start_job("sums/child", &locked);
	ksft_test_result(wait_for(about(ws_stat("unevictable"),
					before + ANON_BYTES)) &&
			 comes_to_hold("sums", ANON_BYTES, FILE_BYTES),
			 "locked memory is unevictable, and in no bin\n");
	ksft_test_result(explain(sum_is_right("sums"), "sums"), "with it, all still adds up\n");
	end_test();
	close(job.file);
}

static bool refaults_are_right(const char *cgroup)
{
	uint64_t page = sysconf(_SC_PAGESIZE);

	use(cgroup);
	return ws_stat("refaulted") >= FILE_BYTES / 4 &&
	       about(ws_stat("refaulted"),
		     page * (stat_of(cgroup, "workingset_refault_anon") +
			     stat_of(cgroup, "workingset_refault_file")));
}

static void test_refaults(void)
{
	/* Only what comes back to the same node is a refault. */
	struct job job = { .file_bytes = FILE_BYTES, .nodes = 1 };
	bool none;

	make_watched("refaults", "1000", "500");
	make_cgroup("refaults/child");
	job.file = open_file(FILE_BYTES);
	start_job("refaults/child", &job);
	use("refaults");
	none = !ws_stat("refaulted");
	cg_write_bytes("refaults/child", "memory.reclaim", FILE_BYTES / 2);
	start_job("refaults/child", &job);
	ksft_test_result(none && explain(wait_for(refaults_are_right("refaults")),
					 "refaults"),
			 "what was reclaimed and came back is refaulted\n");
	end_test();
	close(job.file);
}

static void test_swap(void)
{
	struct sysinfo memory;

	make_watched("swap", "1000", "500");
	make_watched("swap/child", "1000", "500");
	if (sysinfo(&memory) || !memory.freeswap ||
	    access(path_of("swap", "memory.swap.max"), F_OK)) {
		ksft_test_result_skip("swap_free: there is no swap\n");
	} else {
		uint64_t free = (uint64_t)memory.freeswap * memory.mem_unit;

		use("swap/child");
		ksft_test_result(about(ws_stat("swap_free"), free) &&
				 !cg_write_bytes("swap", "memory.swap.max",
						 free / 4) &&
				 about(ws_stat("swap_free"), free / 4) &&
				 !cg_write("swap/child", "memory.swap.max",
					   "0") &&
				 !ws_stat("swap_free"),
				 "swap_free is the room below all limits\n");
	}
	end_test();
}

static void test_late_child(void)
{
	struct job job = { .cold_bytes = ANON_BYTES };

	make_watched("late", "1000", "500");
	holds("late", 0, 0);
	make_cgroup("late/child");
	start_job("late/child", &job);
	ksft_test_result(comes_to_hold("late", ANON_BYTES, 0),
			 "a child made later is included\n");
	end_test();
}

/* As hot and cold memory of an anonymous job should be by now */
static bool ages_are_right(const char *cgroup)
{
	struct ws_histogram histogram;

	use(cgroup);
	ws_read_histogram(&histogram);
	return histogram.nr_bins == 3 &&
	       about(histogram.bins[0].anon_bytes, ANON_BYTES) &&
	       about(histogram.bins[1].anon_bytes, ANON_BYTES / 2) &&
	       about(histogram.bins[2].anon_bytes, 0);
}

static bool has_bounds(const char *cgroup, uint64_t first, uint64_t second)
{
	struct ws_histogram histogram;

	use(cgroup);
	ws_read_histogram(&histogram);
	return histogram.nr_bins == 3 &&
	       histogram.bins[0].bound_ms == first &&
	       histogram.bins[1].bound_ms == second;
}

static void test_ages(void)
{
	struct job job = {
		.hot_bytes = ANON_BYTES,
		.cold_bytes = ANON_BYTES / 2,
	};
	const char *inside = "ages/child/grandchild";
	bool right = true;

	make_watched("ages", "3000,600000", "500");
	make_cgroup("ages/child");
	make_watched(inside, "2000,900000", "1000");
	start_job(inside, &job);
	ksft_test_result(has_bounds("ages", 3000, 600000) &&
			 has_bounds(inside, 2000, 900000),
			 "a cgroup and one inside it have bounds of their own\n");
	ksft_test_result(explain(wait_for(ages_are_right("ages")), "ages"),
			 "only what is used is young\n");
	ksft_test_result(explain(wait_for(ages_are_right(inside)), inside),
			 "so it is for other bounds in the grandchild\n");
	for (int i = 0; i < 5; i++) {
		usleep(AGE_MS * 1000 / 5);
		right = right && ages_are_right("ages") &&
			ages_are_right(inside);
	}
	ksft_test_result(right, "it stays so\n");
	end_test();
}

static void test_moved(void)
{
	struct job job = { .hot_bytes = ANON_BYTES };
	char pid[16];

	make_watched("from", "3000", "500");
	make_watched("to", "3000", "500");
	snprintf(pid, sizeof(pid), "%d", start_job("from", &job));
	if (cg_write("to", "cgroup.procs", pid))
		ksft_exit_fail_msg("cannot move a process\n");
	ksft_test_result(comes_to_hold("from", ANON_BYTES, 0) &&
			 comes_to_hold("to", 0, 0),
			 "memory stays behind when its task is moved\n");
	usleep(AGE_MS * 1000);
	ksft_test_result(wait_for(about(bins_of("from", 0, 0).anon,
					ANON_BYTES)),
			 "and is still young when it is used from there\n");
	end_test();
}

/* Opens the histogram; poll() is to tell of all that is new from now on. */
static int open_histogram(const char *cgroup)
{
	int fd;

	use(cgroup);
	fd = open(ws_path("histogram"), O_RDONLY);
	if (fd < 0)
		ksft_exit_fail_msg("cannot open the histogram of %s\n", cgroup);
	return fd;
}

/* Waits for a report; what was seen before is forgotten when it returns. */
static bool notified(int fd, int timeout_ms)
{
	struct pollfd histogram = { .fd = fd, .events = POLLPRI };
	char text[4096];
	bool seen = poll(&histogram, 1, timeout_ms) > 0 &&
		    (histogram.revents & POLLPRI);

	if (pread(fd, text, sizeof(text), 0) < 0)
		ksft_exit_fail_msg("cannot read histogram\n");
	return seen;
}

/* After the reports of what has been: there are no more reasons. */
static bool is_quiet(int fd)
{
	notified(fd, 0);
	return wait_for(!notified(fd, SILENCE_MS));
}

static bool comes(int fd)
{
	return notified(fd, PATIENCE_S * 1000);
}

static void reclaim_some(const char *cgroup, const char *bytes)
{
	/* That there is not so much does not matter. */
	cg_write(cgroup, "memory.reclaim", bytes);
}

static void lower(const char *cgroup, const char *limit)
{
	cg_write_bytes(cgroup, limit,
		       cg_bytes(cgroup, "memory.current") - 2 * MIB);
	cg_write(cgroup, limit, "max");
}

static void test_poll_reasons(int fd)
{
	use("poll");
	ws_write("report_ms", "0");
	is_quiet(fd);
	reclaim_some("poll", "2M");
	ksft_test_result(!notified(fd, SILENCE_MS),
			 "report_ms 0: no notification\n");

	use("poll");
	ws_write("report_ms", "100");
	ksft_test_result(is_quiet(fd) && !notified(fd, SILENCE_MS),
			 "without reclaim: no notification\n");
	reclaim_some("poll", "2M");
	ksft_test_result(comes(fd), "poll wakes up after memory.reclaim\n");
	is_quiet(fd);
	lower("poll", "memory.high");
	ksft_test_result(comes(fd), "poll wakes up after memory.high\n");
	is_quiet(fd);
	lower("poll", "memory.max");
	ksft_test_result(comes(fd), "poll wakes up after memory.max\n");
	is_quiet(fd);
}

static void test_poll_hierarchy(int fd)
{
	int inside, sibling;

	inside = open_histogram("poll/child");
	ws_write("report_ms", "100");
	sibling = open_histogram("poll/sibling");
	ws_write("report_ms", "100");
	is_quiet(inside);
	is_quiet(sibling);
	is_quiet(fd);
	reclaim_some("poll/child", "2M");
	ksft_test_result(comes(inside), "a child hears of its reclaim\n");
	ksft_test_result(comes(fd), "so does the cgroup around it\n");
	ksft_test_result(!notified(sibling, SILENCE_MS),
			 "a sibling does not\n");
	close(inside);
	close(sibling);
}

/* All the time, until it is killed */
static pid_t start_reclaim(const char *cgroup)
{
	pid_t child = fork();

	if (child) {
		jobs[nr_jobs++] = child;
		return child;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		reclaim_some(cgroup, "64K");
		usleep(20000);
	}
}

static void test_poll_rate(int fd)
{
	int notifications = 0, most;
	double start, seconds;

	use("poll");
	ws_write("report_ms", "1000");
	is_quiet(fd);
	start_reclaim("poll/child");
	comes(fd);
	start = ws_seconds();
	while (ws_seconds() < start + 5)
		notifications += notified(fd, 1000);
	seconds = ws_seconds() - start;
	/* One in a second; what is on its way at the start comes on top. */
	most = seconds + 1;
	ksft_test_result(notifications >= 2 && notifications <= most,
			 "report_ms 1000: %d notifications in %.1f s\n",
			 notifications, seconds);
}

static void test_poll(void)
{
	struct job job = { .file_bytes = FILE_BYTES };
	int fd;

	make_watched("poll", "1000", "500");
	make_watched("poll/child", "2000", "500");
	make_watched("poll/sibling", "2000", "500");
	job.file = open_file(FILE_BYTES);
	start_job("poll/child", &job);
	fd = open_histogram("poll");
	test_poll_reasons(fd);
	test_poll_hierarchy(fd);
	test_poll_rate(fd);
	close(fd);
	end_test();
	close(job.file);
}

static void test_removed(void)
{
	struct job job = { .file_bytes = FILE_BYTES };
	char text[4096];
	int fd, error;

	make_watched("removed", "1000", "500");
	make_cgroup("removed/child");
	job.file = open_file(FILE_BYTES);
	start_job("removed/child", &job);
	use("removed/child");
	ws_write("intervals_ms", "2000");
	fd = open_histogram("removed/child");
	if (pread(fd, text, sizeof(text), 0) <= 0)
		ksft_exit_fail_msg("cannot read histogram\n");
	end_jobs();

	ksft_test_result(!remove_cgroup(path_of("removed/child", "")),
			 "a watched cgroup can be removed\n");
	error = pread(fd, text, sizeof(text), 0) < 0 ? errno : 0;
	ksft_test_result(error == ENODEV, "an open histogram cannot be read then: %s\n",
			 strerror(error));
	close(fd);
	ksft_test_result(comes_to_hold("removed", 0, FILE_BYTES),
			 "what it leaves behind is in the cgroup around it\n");
	close(job.file);
	ksft_test_result(comes_to_hold("removed", 0, 0),
			 "until it is freed\n");
	nr_cgroups--;
	end_test();
}

/* As nobody, who owns "delegated"; the exit status is the step that failed. */
static void use_delegated(void)
{
	struct ws_histogram histogram;
	char text[4096];

	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		_exit(1);
	use("around/delegated");
	if (ws_write("refresh_ms", "500") ||
	    ws_write("intervals_ms", "1000,5000") ||
	    ws_write("report_ms", "1000"))
		_exit(2);
	if (ws_read("histogram", text, sizeof(text)) ||
	    ws_parse_histogram(text, &histogram) || histogram.nr_bins != 3)
		_exit(3);
	if (cg_write("around/delegated", "cgroup.subtree_control", "+memory") ||
	    mkdir(path_of("around/delegated/own", ""), 0755))
		_exit(4);
	use("around/delegated/own");
	if (ws_write("intervals_ms", "3000") ||
	    ws_read("histogram", text, sizeof(text)) ||
	    ws_parse_histogram(text, &histogram) || histogram.nr_bins != 2)
		_exit(5);
	if (rmdir(path_of("around/delegated/own", "")))
		_exit(6);
	use("around");
	if (ws_write("intervals_ms", "1000") != -EACCES ||
	    ws_write("refresh_ms", "500") != -EACCES ||
	    ws_write("report_ms", "1") != -EACCES)
		_exit(7);
	_exit(0);
}

static void test_delegation(void)
{
	static const char * const settings[] = {
		"intervals_ms", "refresh_ms", "report_ms",
	};
	int status = -1;
	pid_t child;

	make_cgroup("around");
	make_cgroup("around/delegated");
	if (chown(path_of("around/delegated", ""), NOBODY, NOBODY) ||
	    chown(path_of("around/delegated", "cgroup.procs"), NOBODY,
		  NOBODY) ||
	    chown(path_of("around/delegated", "cgroup.subtree_control"), NOBODY,
		  NOBODY))
		ksft_exit_fail_msg("chown: %s\n", strerror(errno));
	use("around/delegated");
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (chown(ws_path(settings[i]), NOBODY, NOBODY))
			ksft_exit_fail_msg("chown: %s\n", strerror(errno));
	child = fork();
	if (!child)
		use_delegated();
	waitpid(child, &status, 0);
	ksft_test_result(WIFEXITED(status) && !WEXITSTATUS(status),
			 "the owner of a subtree can watch it, but not more: step %d\n",
			 WEXITSTATUS(status));
	use("around");
	ksft_test_result(is_off() && ws_reads("refresh_ms", "1000"),
			 "nothing changed in the cgroup around it\n");
	end_test();
}

static uint64_t dying(void)
{
	return ws_value(path_of("short", "cgroup.stat"),
			"nr_dying_descendants");
}

static void test_short_lived(void)
{
	struct job job = { .cold_bytes = 64 << 10, .file_bytes = 64 << 10 };
	int removed = 0, left[NR_SHORT_LIVED];
	uint64_t most;

	make_watched("short", "1000", "500");
	for (int i = 0; i < NR_SHORT_LIVED; i++) {
		left[i] = open_file(job.file_bytes);
		job.file = left[i];
		make_watched("short/child", "1000,5000", "20");
		start_job("short/child", &job);
		all_of("short/child");
		end_jobs();
		nr_cgroups--;
		removed += !remove_cgroup(path_of("short/child", ""));
	}
	most = dying();
	for (int i = 0; i < NR_SHORT_LIVED; i++)
		close(left[i]);
	ws_write_path("/proc/sys/vm/drop_caches", "3");
	ksft_test_result(removed == NR_SHORT_LIVED && wait_for(!dying()),
			 "%d cgroups are gone: %ju were dying, now %ju\n",
			 removed, (uintmax_t)most, (uintmax_t)dying());
	end_test();
}

static void find_cgroup2(void)
{
	FILE *mounts = fopen("/proc/self/mounts", "r");
	char line[4096], type[16] = "", path[PATH_MAX];

	while (mounts && strcmp(type, "cgroup2") &&
	       fgets(line, sizeof(line), mounts))
		sscanf(line, "%*s %1000s %15s", cgroup2, type);
	if (mounts)
		fclose(mounts);
	if (strcmp(type, "cgroup2"))
		ksft_exit_skip("no cgroup2 file system is mounted\n");
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", cgroup2);
	if (ws_write_path(path, "+memory"))
		ksft_exit_skip("cgroup2 has no memory controller\n");

	main_process = getpid();
	snprintf(top, sizeof(top), "%s/wsr_memcg_files.%d", cgroup2,
		 main_process);
	if (mkdir(top, 0755))
		ksft_exit_fail_msg("mkdir %s: %s\n", top, strerror(errno));
	atexit(clean_up);
}

static void find_file_directory(const char *argument)
{
	struct statfs file_system;

	file_directory = argument ?: getenv("TMPDIR") ?: "/var/tmp";
	if (statfs(file_directory, &file_system) ||
	    file_system.f_type == TMPFS_MAGIC ||
	    file_system.f_type == RAMFS_MAGIC)
		ksft_exit_skip("%s is not on a disk: name a directory that is\n",
			       file_directory);
}

int main(int argc, char **argv)
{
	ksft_print_header();
	ws_init();
	find_file_directory(argc > 1 ? argv[1] : NULL);
	find_cgroup2();
	ksft_set_plan(1 + ARRAY_SIZE(files) + 2 + ws_nr_settings() +
		      12 + 2 + 1 + 4 + 2 + 9 + 4 + 2 + 1);

	test_root();
	test_files();
	test_sums();
	test_refaults();
	test_swap();
	test_late_child();
	test_ages();
	test_moved();
	test_poll();
	test_removed();
	test_delegation();
	test_short_lived();
	ksft_finished();
}
