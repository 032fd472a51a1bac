// SPDX-License-Identifier: GPL-2.0
/*
 * wsr_churn - all that is watched comes and goes at once
 *
 *	wsr_churn [-m MEMCGS] [-r ROUNDS]
 *
 * These run at the same time, until ROUNDS memory cgroups were made, watched,
 * used and removed:
 *
 *   workers	make a memcg, watch it, run a task in it that leaves for another
 *		memcg in the middle of its work and leaves a file behind, and
 *		remove the memcg
 *   readers	read the histograms of nodes and memcgs
 *   writer	watches nodes with ever other settings, or not at all
 *   hotplug	takes a block of memory offline and online again
 *
 * MEMCGS others exist and are watched all the time. In the end no dying memcg
 * may be left. What the kernel says meanwhile is for the caller to check.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define CGROUPS		"/sys/fs/cgroup"
#define TOP		CGROUPS "/wsr_churn"
#define MEMORY_BLOCKS	"/sys/devices/system/memory"
#define NR_WORKERS	3
#define NR_READERS	3
#define TASK_BYTES	(512UL << 10)
/* Freeing the last of a memcg may take a while in an emulated guest. */
#define DYING_TIMEOUT_S	120

struct counts {
	unsigned long removed;		/* memcgs, after a full round */
	unsigned long reads;		/* that returned a histogram */
	unsigned long settings;		/* that the kernel took */
	unsigned long offlined;		/* blocks of memory, and online again */
	unsigned long failed;		/* steps of a round that may not fail */
	char reason[128];		/* of the last of them */
	int over;			/* all but the workers end */
};

static struct counts *counts;		/* shared by all processes */
static unsigned long nr_rounds = 300, nr_static = 20;
static unsigned int seed = 1;

static void count(unsigned long *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static int over(void)
{
	return __atomic_load_n(&counts->over, __ATOMIC_RELAXED);
}

static void fail(const char *what, const char *path)
{
	snprintf(counts->reason, sizeof(counts->reason), "%s %s: %s", what,
		 path, strerror(errno));
	count(&counts->failed);
}

static int write_text(const char *directory, const char *file, const char *text)
{
	char path[PATH_MAX];
	int fd, error = 0;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		error = -errno;
	close(fd);
	errno = -error;
	return error;
}

static ssize_t read_text(const char *directory, const char *file, char *text,
			 size_t size)
{
	char path[PATH_MAX];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	got = read(fd, text, size - 1);
	text[got < 0 ? 0 : got] = '\0';
	close(fd);
	return got;
}

static int memcgs_can_be_watched(void)
{
	return !access(TOP "/memory.working_set.intervals_ms", F_OK);
}

static void touch(char *memory, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 4096)
		memory[i]++;
}

/* In a process of its own; the memory of both cgroups is used. */
static void run_task(const char *memcg, const char *file)
{
	char *memory = mmap(NULL, TASK_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd;

	if (memory == MAP_FAILED || write_text(memcg, "cgroup.procs", "0"))
		_exit(1);
	touch(memory, TASK_BYTES / 2);
	fd = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, memory, TASK_BYTES / 4) < 0)
		_exit(1);
	if (write_text(TOP "/refuge", "cgroup.procs", "0"))
		_exit(1);
	touch(memory, TASK_BYTES);
	_exit(0);
}

static void remove_memcg(const char *memcg)
{
	/* A task that has just exited may still be counted. */
	for (int i = 0; rmdir(memcg); i++) {
		if (errno != EBUSY || i == 1000) {
			fail("rmdir", memcg);
			return;
		}
		usleep(10000);
	}
	count(&counts->removed);
}

static void one_round(int worker)
{
	char memcg[64], file[64], text[4096];
	int status;
	pid_t task;

	snprintf(memcg, sizeof(memcg), TOP "/worker%d", worker);
	snprintf(file, sizeof(file), "/tmp/wsr_churn.%d", worker);
	if (mkdir(memcg, 0755)) {
		fail("mkdir", memcg);
		return;
	}
	if (memcgs_can_be_watched() &&
	    (write_text(memcg, "memory.working_set.refresh_ms", "20") ||
	     write_text(memcg, "memory.working_set.intervals_ms", "100,1000")))
		fail("watch", memcg);

	task = fork();
	if (!task)
		run_task(memcg, file);
	if (task > 0 && read_text(memcg, "memory.working_set.histogram", text,
				  sizeof(text)) > 0)
		count(&counts->reads);
	if (task < 0 || waitpid(task, &status, 0) != task || status)
		fail("task in", memcg);
	remove_memcg(memcg);
	unlink(file);
}

static void work(int worker)
{
	unsigned long share = nr_rounds / NR_WORKERS;

	while (share--)
		one_round(worker);
}

static unsigned int any(unsigned int below)
{
	return rand_r(&seed) % below;
}

static void read_histograms(int unused)
{
	static const char * const files[] = {
		"memory.working_set.histogram", "memory.working_set.stat",
		"memory.working_set.numa_histogram",
	};
	char text[4096], memcg[64];

	(void)unused;
	while (!over()) {
		if (any(2) && nr_static)
			snprintf(memcg, sizeof(memcg), TOP "/static%u",
				 any(nr_static));
		else
			snprintf(memcg, sizeof(memcg), TOP "/worker%u",
				 any(NR_WORKERS));
		if (read_text(memcg, files[any(ARRAY_SIZE(files))], text,
			      sizeof(text)) > 0)
			count(&counts->reads);
		usleep(1000);
		if (!ws_read(any(2) ? "histogram" : "stat", text,
			     sizeof(text)) && *text)
			count(&counts->reads);
	}
}

static void write_settings(int unused)
{
	static const struct {
		const char *file;
		const char *text;
	} settings[] = {
		{ "intervals_ms", "\n" },
		{ "intervals_ms", "100" },
		{ "intervals_ms", "1000,5000,30000" },
		{ "intervals_ms", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15" },
		{ "refresh_ms", "20" },
		{ "refresh_ms", "1000" },
		{ "report_ms", "0" },
		{ "report_ms", "20" },
	};

	(void)unused;
	while (!over()) {
		unsigned int i = any(ARRAY_SIZE(settings));

		if (ws_write(settings[i].file, settings[i].text))
			fail("write", settings[i].file);
		else
			count(&counts->settings);
		usleep(1000);
	}
}

/* Takes a block offline and online again if the kernel keeps nothing there. */
static void plug_block(const char *block)
{
	char zones[64];

	if (read_text(block, "valid_zones", zones, sizeof(zones)) <= 0 ||
	    strncmp(zones, "Movable", strlen("Movable")))
		return;
	/* Fails if some page of it could not be moved. */
	if (write_text(block, "state", "offline"))
		return;
	/* "online" would give it to the kernel for good. */
	if (write_text(block, "state", "online_movable"))
		fail("online", block);
	else
		count(&counts->offlined);
}

static void plug_memory(int unused)
{
	char block[PATH_MAX];
	struct dirent *entry;
	DIR *directory;

	(void)unused;
	while (!over()) {
		directory = opendir(MEMORY_BLOCKS);
		while (directory && (entry = readdir(directory))) {
			if (strncmp(entry->d_name, "memory", 6))
				continue;
			snprintf(block, sizeof(block), MEMORY_BLOCKS "/%s",
				 entry->d_name);
			plug_block(block);
		}
		if (directory)
			closedir(directory);
		usleep(10000);
	}
}

static pid_t start(void (*function)(int), int number)
{
	pid_t pid = fork();

	if (pid < 0)
		ksft_exit_fail_msg("fork: %s\n", strerror(errno));
	if (pid)
		return pid;
	/* Nothing goes on if the test is killed. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	seed = getpid();
	function(number);
	_exit(0);
}

static unsigned long dying_memcgs(void)
{
	char text[4096], *line;

	if (read_text(TOP, "cgroup.stat", text, sizeof(text)) <= 0)
		return ULONG_MAX;
	line = strstr(text, "nr_dying_descendants ");
	return line ? strtoul(strchr(line, ' '), NULL, 10) : ULONG_MAX;
}

static unsigned long wait_for_dying_memcgs(void)
{
	double end = ws_seconds() + DYING_TIMEOUT_S;

	while (dying_memcgs() && ws_seconds() < end) {
		/* Inodes and dentries keep them. */
		write_text("/proc/sys/vm", "drop_caches", "3");
		usleep(100000);
	}
	return dying_memcgs();
}

/* Returns how many could not be made. */
static unsigned long make_static_memcgs(void)
{
	unsigned long missing = 0;
	char memcg[64];

	for (unsigned long i = 0; i < nr_static; i++) {
		snprintf(memcg, sizeof(memcg), TOP "/static%lu", i);
		if (mkdir(memcg, 0755) ||
		    (memcgs_can_be_watched() &&
		     write_text(memcg, "memory.working_set.intervals_ms",
				"1000,5000")))
			missing++;
	}
	return missing;
}

static void remove_static_memcgs(void)
{
	char memcg[64];

	for (unsigned long i = 0; i < nr_static; i++) {
		snprintf(memcg, sizeof(memcg), TOP "/static%lu", i);
		rmdir(memcg);
	}
}

static void parse_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "m:r:")) != -1) {
		if (option == 'm')
			nr_static = strtoul(optarg, NULL, 10);
		else if (option == 'r')
			nr_rounds = strtoul(optarg, NULL, 10);
		else
			ksft_exit_fail_msg("usage: wsr_churn [-m MEMCGS] [-r ROUNDS]\n");
	}
	nr_rounds -= nr_rounds % NR_WORKERS;
}

int main(int argc, char **argv)
{
	unsigned long missing, dying;
	pid_t workers[NR_WORKERS];

	ksft_print_header();
	parse_options(argc, argv);
	ws_init();
	ksft_set_plan(6);

	write_text(CGROUPS, "cgroup.subtree_control", "+memory");
	if ((mkdir(TOP, 0755) && errno != EEXIST) ||
	    write_text(TOP, "cgroup.subtree_control", "+memory") ||
	    (mkdir(TOP "/refuge", 0755) && errno != EEXIST))
		ksft_exit_skip("no memory cgroups below " CGROUPS "\n");
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		ksft_exit_fail_msg("mmap: %s\n", strerror(errno));
	missing = make_static_memcgs();

	for (int i = 0; i < NR_READERS; i++)
		start(read_histograms, i);
	start(write_settings, 0);
	start(plug_memory, 0);
	for (int i = 0; i < NR_WORKERS; i++)
		workers[i] = start(work, i);
	for (int i = 0; i < NR_WORKERS; i++)
		waitpid(workers[i], NULL, 0);
	__atomic_store_n(&counts->over, 1, __ATOMIC_RELAXED);
	while (wait(NULL) > 0)
		;
	remove_static_memcgs();

	dying = wait_for_dying_memcgs();
	if (rmdir(TOP "/refuge") || rmdir(TOP))
		fail("rmdir", TOP);

	ksft_print_msg("%lu memcgs removed, %lu histograms read, %lu settings, %lu offline\n",
		       counts->removed, counts->reads, counts->settings,
		       counts->offlined);
	if (counts->failed)
		ksft_print_msg("%lu steps failed, the last: %s\n",
			       counts->failed, counts->reason);
	ksft_test_result(!missing, "%lu memcgs exist all the time\n",
			 nr_static);
	ksft_test_result(counts->removed == nr_rounds && !counts->failed,
			 "%lu memcgs come and go\n", nr_rounds);
	ksft_test_result(counts->reads, "histograms are read meanwhile\n");
	ksft_test_result(counts->settings, "settings change meanwhile\n");
	if (counts->offlined)
		ksft_test_result_pass("memory goes offline and online meanwhile\n");
	else
		ksft_test_result_skip("no block of memory can be offline\n");
	ksft_test_result(!dying, "no memcg is left dying\n");
	ksft_finished();
}
