// SPDX-License-Identifier: GPL-2.0
/*
 * wsr_faults - each single allocation of each operation fails once
 *
 * For N = 1, 2, 3, ..., the Nth allocation of a system call is made to fail,
 * until the call needs no more than N - 1. Whatever fails, the call must either
 * succeed or say ENOMEM, and after an error the old settings must be in force.
 *
 * Needs CONFIG_FAULT_INJECTION_DEBUG_FS, CONFIG_FAILSLAB and
 * CONFIG_FAIL_PAGE_ALLOC. What is lost on the way is for kmemleak to find.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../kselftest.h"
#include "working_set.h"

#define DEBUGFS		"/sys/kernel/debug"
#define MEMCG		"/sys/fs/cgroup/wsr_faults"
#define DRIVER		"/sys/bus/virtio/drivers/virtio_balloon"
/* More allocations than any of the operations needs */
#define MAX_ALLOCATIONS	1000

static int fail_nth;

struct operation {
	const char *name;
	const char *path;
	const char *old;	/* what is written first; NULL: path is read */
	const char *new;
};

static bool path_reads(const char *path, const char *expected)
{
	char text[4096];
	int fd = open(path, O_RDONLY);
	ssize_t got;

	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got < 0)
		return false;
	text[got] = '\0';
	return !strcmp(text, expected);
}

static void arm(int nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", nth);

	if (pwrite(fail_nth, text, length, 0) != length)
		ksft_exit_fail_msg("cannot write fail-nth\n");
}

/* Returns whether an allocation failed since arm(). */
static bool disarm(void)
{
	char text[16] = "";

	if (pread(fail_nth, text, sizeof(text) - 1, 0) < 0)
		ksft_exit_fail_msg("cannot read fail-nth\n");
	arm(0);
	return !atoi(text);
}

/* One system call with the nth allocation failing. Sets *injected. */
static int call_with_fault(const struct operation *operation, int nth,
			   bool *injected)
{
	int fd = open(operation->path, operation->new ? O_WRONLY : O_RDONLY);
	char text[4096];
	int error = 0;
	ssize_t done;

	if (fd < 0)
		return -errno;
	arm(nth);
	if (operation->new)
		done = write(fd, operation->new, strlen(operation->new));
	else
		done = read(fd, text, sizeof(text));
	if (done < 0)
		error = -errno;
	*injected = disarm();
	close(fd);
	return error;
}

static void test_operation(const struct operation *operation)
{
	int faults = 0, errors = 0;

	for (int nth = 1; nth <= MAX_ALLOCATIONS; nth++) {
		bool injected = false;
		int error;

		if (operation->old)
			error = ws_write_path(operation->path, operation->old);
		error = call_with_fault(operation, nth, &injected);
		if (error && error != -ENOMEM) {
			ksft_test_result_fail("%s: %s after fault %d\n",
					      operation->name,
					      strerror(-error), nth);
			return;
		}
		if (operation->old &&
		    !path_reads(operation->path, error ? operation->old :
							 operation->new)) {
			ksft_test_result_fail("%s: wrong setting after fault %d, result %d\n",
					      operation->name, nth, error);
			return;
		}
		if (!injected)
			break;
		faults++;
		errors += !!error;
	}
	ksft_test_result(faults < MAX_ALLOCATIONS,
			 "%s: %d faults, %d times ENOMEM\n", operation->name,
			 faults, errors);
}

static void test_files(const char *what, const char *prefix)
{
	static const struct operation operations[] = {
		{ "switch on", "intervals_ms", "\n", "1000,5000\n" },
		{ "other bounds", "intervals_ms", "1000,5000\n", "700,7000\n" },
		{ "refresh_ms", "refresh_ms", "2000\n", "500\n" },
		{ "report_ms", "report_ms", "3000\n", "0\n" },
		{ "histogram", "histogram", NULL, NULL },
		{ "stat", "stat", NULL, NULL },
		{ "switch off", "intervals_ms", "1000,5000\n", "\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		struct operation operation = operations[i];
		char name[64], path[PATH_MAX];

		snprintf(name, sizeof(name), "%s, %s", what, operation.name);
		snprintf(path, sizeof(path), "%s%s", prefix, operation.path);
		operation.name = name;
		operation.path = path;
		test_operation(&operation);
	}
}

static void test_node_files(void)
{
	char prefix[PATH_MAX];

	snprintf(prefix, sizeof(prefix), "%s", ws_path(""));
	test_files("node", prefix);
}

static void test_memcg_files(void)
{
	ws_write_path("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(MEMCG, 0755) ||
	    access(MEMCG "/memory.working_set.intervals_ms", F_OK))
		ksft_test_result_skip("memcg: no memory.working_set.* files\n");
	else
		test_files("memcg", MEMCG "/memory.working_set.");
	rmdir(MEMCG);
}

/* Making a memcg may fail, but nothing of it may be left then. */
static void test_mkdir(void)
{
	int faults = 0, errors = 0;

	for (int nth = 1; nth <= MAX_ALLOCATIONS; nth++) {
		bool injected;
		int error;

		arm(nth);
		error = mkdir(MEMCG, 0755) ? errno : 0;
		injected = disarm();
		if (error && error != ENOMEM)
			break;
		if (!error)
			rmdir(MEMCG);
		if (!injected) {
			ksft_test_result_pass("mkdir of a memcg: %d faults, %d times ENOMEM\n",
					      faults, errors);
			return;
		}
		faults++;
		errors += !!error;
	}
	ksft_test_result_fail("mkdir of a memcg after fault %d\n", faults + 1);
}

static bool find_balloon(char *name, size_t size)
{
	DIR *directory = opendir(DRIVER);
	struct dirent *entry;
	bool found = false;

	while (directory && !found && (entry = readdir(directory))) {
		found = !strncmp(entry->d_name, "virtio", 6);
		if (found)
			snprintf(name, size, "%s", entry->d_name);
	}
	if (directory)
		closedir(directory);
	return found;
}

/* Probing is part of the write() that binds the device. */
static void test_bind(void)
{
	int faults = 0, errors = 0;
	char device[NAME_MAX + 1];

	if (!find_balloon(device, sizeof(device))) {
		ksft_test_result_skip("bind: no balloon device\n");
		return;
	}
	for (int nth = 1; nth <= MAX_ALLOCATIONS; nth++) {
		const struct operation bind = {
			"bind", DRIVER "/bind", "", device,
		};
		bool injected = false;
		int error;

		ws_write_path(DRIVER "/unbind", device);
		error = call_with_fault(&bind, nth, &injected);
		if (error && ws_write_path(DRIVER "/bind", device)) {
			ksft_test_result_fail("bind: not possible after fault %d\n",
					      nth);
			return;
		}
		if (!injected)
			break;
		faults++;
		errors += !!error;
	}
	ksft_test_result(faults, "bind the balloon: %d faults, %d errors\n",
			 faults, errors);
}

/* Also allocations that may wait fail, and the log stays readable. */
static void prepare(void)
{
	static const char * const files[][2] = {
		{ DEBUGFS "/failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "/failslab/verbose", "0" },
		{ DEBUGFS "/fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "/fail_page_alloc/verbose", "0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (ws_write_path(files[i][0], files[i][1]))
			ksft_exit_skip("the kernel lacks fault injection: no %s\n",
				       files[i][0]);
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	if (fail_nth < 0)
		ksft_exit_skip("no fail-nth in /proc\n");
}

int main(void)
{
	bool memcgs;

	ksft_print_header();
	ws_init();
	prepare();

	ws_write_path("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	memcgs = !mkdir(MEMCG, 0755) &&
		 !access(MEMCG "/memory.working_set.intervals_ms", F_OK);
	rmdir(MEMCG);
	ksft_set_plan(7 + (memcgs ? 7 : 1) + 2);

	test_node_files();
	test_memcg_files();
	test_mkdir();
	test_bind();
	ksft_finished();
}
