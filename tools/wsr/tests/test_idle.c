// SPDX-License-Identifier: GPL-2.0
/*
 * Sampling of idle pages: where the memory of a VM is, which pages are looked
 * at, and what is made of what was seen. Prints TAP.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/magic.h>

#include <cmocka.h>

#include "../wsrd/idle.h"

#define MIB	(UINT64_C(1) << 20)
#define PAGE	4096

/* A QEMU of 256 MiB, with a video memory of 16 MiB */
static const char maps[] =
	"55a8c0c00000-55a8c1200000 r-xp 00000000 fe:00 4321   /usr/bin/qemu-system-x86_64\n"
	"55a8c2000000-55a8c6000000 rw-p 00000000 00:00 0      [heap]\n"
	"7f0000000000-7f0040000000 rwxp 00000000 00:00 0 \n"
	"7f0050000000-7f0060000000 rw-p 00000000 00:00 0 \n"
	"7f0060000000-7f0070000000 ---p 00000000 00:00 0 \n"
	"7f0080000000-7f0081000000 rw-p 00000000 00:00 0 \n"
	"7f0090000000-7f00a0000000 rw-s 00000000 00:0e 77     /dev/vfio/12\n"
	"7f00a0000000-7f00a0200000 rw-p 00000000 00:00 0      [stack]\n";

/* Two nodes: one is a memfd of which a part is mapped, one has a name. */
static const char two_nodes[] =
	"7f0000000000-7f0010000000 rw-s 08000000 00:01 1025   /memfd:memory-backend-memfd (deleted)\n"
	"7f0020000000-7f0030000000 rw-p 00000000 00:00 0      [anon:ram]\n"
	"7f0040000000-7f0040100000 rw-p 00000000 00:00 0\n";

static void test_maps(void **state)
{
	struct idle_region regions[IDLE_MAX_REGIONS];

	(void)state;
	/* One that fits is all of it. */
	assert_int_equal(idle_parse_maps(maps, 256 * MIB, regions), 1);
	assert_int_equal(regions[0].start, 0x7f0050000000);
	assert_int_equal(regions[0].bytes, 256 * MIB);
	assert_false(regions[0].shared);
	/* Otherwise all that are large enough */
	assert_int_equal(idle_parse_maps(maps, 255 * MIB, regions), 2);
	assert_int_equal(regions[1].start, 0x7f0080000000);
	assert_int_equal(idle_parse_maps(maps, 300 * MIB, regions), 1);
	assert_int_equal(idle_parse_maps(two_nodes, 512 * MIB, regions), 2);
	assert_int_equal(regions[0].offset, 128 * MIB);
	assert_true(regions[0].shared);
	assert_false(regions[1].shared);
	assert_int_equal(idle_parse_maps(two_nodes, 8192 * MIB, regions), 0);
}

static void test_strange_maps(void **state)
{
	static char many[IDLE_MAX_REGIONS * 128];
	struct idle_region regions[IDLE_MAX_REGIONS];
	size_t len = 0;

	(void)state;
	assert_int_equal(idle_parse_maps("", MIB, regions), 0);
	assert_int_equal(idle_parse_maps("\n\n", MIB, regions), 0);
	assert_int_equal(idle_parse_maps("2000000-1000000 rw-p 0 0:0 0\n", MIB,
					 regions), 0);
	/* The last line is cut. */
	assert_int_equal(idle_parse_maps("1000000-2000000 rw-p 000", MIB,
					 regions), 0);
	for (unsigned int i = 1; i <= 2 * IDLE_MAX_REGIONS; i++)
		len += snprintf(many + len, sizeof(many) - len,
				"%x0000000-%x1000000 rw-p 00000000 00:00 0 \n",
				i, i);
	assert_int_equal(idle_parse_maps(many, 20 * MIB, regions),
			 IDLE_MAX_REGIONS);
}

static void place(struct idle_samples *samples, uint64_t bytes)
{
	const struct idle_region regions[] = {
		{ .start = 0x10000000, .bytes = bytes / 4 },
		{ .start = 0x90000000, .bytes = bytes - bytes / 4 },
	};
	uint64_t random = 42;

	idle_place(samples, regions, 2, PAGE, &random, 1000);
}

static void test_samples_are_everywhere(void **state)
{
	struct idle_samples samples;

	(void)state;
	place(&samples, 1024 * MIB);
	assert_int_equal(samples.nr, IDLE_SAMPLES);
	assert_int_equal(samples.bytes, 1024 * MIB);
	for (unsigned int i = 0; i < samples.nr; i++) {
		uint64_t address = samples.list[i].address;
		uint64_t start = i < IDLE_SAMPLES / 4 ? 0x10000000 + i * MIB :
				 0x90000000 + (i - IDLE_SAMPLES / 4) * MIB;

		assert_in_range(address, start, start + MIB - PAGE);
		assert_int_equal(address % PAGE, 0);
	}
	/* Not more than there are pages */
	place(&samples, 100 * PAGE);
	assert_int_equal(samples.nr, 100);
	for (unsigned int i = 1; i < samples.nr; i++)
		assert_true(samples.list[i].address >
			    samples.list[i - 1].address);
}

/* What the text says of something, in MiB */
static long value(const char *text, const char *name)
{
	char start[32];
	const char *line;

	snprintf(start, sizeof(start), "\n%s", name);
	line = strstr(text, start);
	assert_non_null(line);
	return strtoull(line + strlen(start), NULL, 10) >> 20;
}

/*
 * A quarter each: used all the time, used once between 13 s and 16 s, never
 * used since the start, and in turn swapped out, empty and not tracked.
 */
static void look(struct idle_samples *samples, int64_t now_ms)
{
	static const enum idle_state states[] = {
		IDLE_SWAPPED, IDLE_EMPTY, IDLE_UNTRACKED, IDLE_EMPTY,
	};

	for (unsigned int i = 0; i < samples->nr; i++) {
		bool idle = i % 4 == 2 || (i % 4 == 1 && now_ms != 16000);

		idle_update(samples, &samples->list[i], i % 4 == 3 ?
			    states[i / 4 % 4] : IDLE_RESIDENT, idle, now_ms);
	}
	samples->looked_ms = now_ms;
}

static void test_ages(void **state)
{
	struct idle_samples samples;
	char text[IDLE_TEXT];

	(void)state;
	place(&samples, 1024 * MIB);
	for (int64_t now_ms = 4000; now_ms <= 34000; now_ms += 3000)
		look(&samples, now_ms);
	idle_print(&samples, 42, 34000, text);
	assert_ptr_equal(strstr(text, "pid 42\n"), text);
	assert_int_equal(value(text, "total "), 1024);
	assert_int_equal(value(text, "resident "), 768 + 64);
	assert_int_equal(value(text, "untracked "), 64);
	assert_int_equal(value(text, "swapped "), 64);
	assert_int_equal(value(text, "empty "), 128);
	assert_non_null(strstr(text, "\nsince_ms 33000\n"));
	/* 1.5 s, in the middle of the last interval */
	assert_int_equal(value(text, "1000 anon="), 0);
	assert_int_equal(value(text, "2000 anon="), 256 + 64);
	assert_int_equal(value(text, "16000 anon="), 0);
	/* 19.5 s */
	assert_int_equal(value(text, "32000 anon="), 256);
	/* 33 s and no more: nobody has looked before. */
	assert_int_equal(value(text, "64000 anon="), 256);
	assert_int_equal(value(text, "max anon="), 0);
}

/* What was swapped out and comes back is young. */
static void test_returns(void **state)
{
	struct idle_samples samples;
	char text[IDLE_TEXT];

	(void)state;
	place(&samples, 1024 * MIB);
	for (unsigned int i = 0; i < samples.nr; i++)
		idle_update(&samples, &samples.list[i], IDLE_SWAPPED, false,
			    91000);
	samples.looked_ms = 91000;
	idle_print(&samples, 42, 91000, text);
	assert_int_equal(value(text, "swapped "), 1024);
	assert_int_equal(value(text, "resident "), 0);
	assert_int_equal(value(text, "max anon="), 0);
	for (unsigned int i = 0; i < samples.nr; i++)
		idle_update(&samples, &samples.list[i], IDLE_RESIDENT, false,
			    101000);
	idle_print(&samples, 42, 101000, text);
	assert_int_equal(value(text, "8000 anon="), 1024);
}

/* As long as a text can get */
static void test_large(void **state)
{
	struct idle_samples samples;
	char text[IDLE_TEXT];

	(void)state;
	place(&samples, UINT64_C(1) << 56);
	look(&samples, INT64_MAX / 2);
	idle_print(&samples, INT32_MAX, INT64_MAX, text);
	assert_non_null(strstr(text, "\nmax anon="));
	assert_int_equal(text[strlen(text) - 1], '\n');
}

/* ---- A process with 16 MiB of shared memory, nothing of it in memory ---- */

#define SHARED_MIB	16
#define MANY		50

static const char * const directories[] = {
	"/proc", "/proc/42", "/proc/42/map_files", "/sys", "/sys/kernel",
	"/sys/kernel/mm", "/sys/kernel/mm/page_idle",
};

static void make_file(const char *root, const char *name, const char *text,
		      off_t size)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s%s", root, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* The memory's file, in which nothing is a hole. */
static int make_memory(const char *root)
{
	static char data[1 << 20];
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/proc/42/map_files/10000000-11000000",
		 root);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	memset(data, 1, sizeof(data));
	for (int i = 0; i < SHARED_MIB; i++)
		assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	return fd;
}

/* Return: false if there is no tmpfs to make it in */
static bool make_root(char *root)
{
	static const char line[] =
		"10000000-11000000 rw-s 00000000 00:01 7 /memfd:ram (deleted)\n";
	struct statfs status;
	char path[256];

	strcpy(root, "/dev/shm/wsr-idle-XXXXXX");
	if (statfs("/dev/shm", &status) || status.f_type != TMPFS_MAGIC ||
	    !mkdtemp(root))
		return false;
	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++) {
		snprintf(path, sizeof(path), "%s%s", root, directories[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	make_file(root, "/proc/42/maps", line, strlen(line));
	make_file(root, "/proc/42/pagemap", "", 0x11000000 / PAGE * 8);
	make_file(root, "/proc/kpageflags", "", 0);
	make_file(root, "/sys/kernel/mm/page_idle/bitmap", "", 0);
	return true;
}

static void remove_root(const char *root)
{
	char command[300];

	snprintf(command, sizeof(command), "rm -r %s", root);
	assert_int_equal(system(command), 0);
}

/* Who has a lease on a file has those wait who open it: 45 s each time. */
static void test_lease(void **state)
{
	struct timespec before, after;
	struct idle_kernel kernel;
	char root[64], text[IDLE_TEXT];
	struct idle_vm *vm;
	int memory;

	(void)state;
	if (!make_root(root))
		skip();
	memory = make_memory(root);
	assert_int_equal(idle_open(&kernel, root), 0);
	vm = idle_vm_new(&kernel, 42, SHARED_MIB * MIB);
	assert_non_null(vm);
	assert_int_equal(idle_vm_look(vm, text), 0);
	assert_int_equal(value(text, "swapped "), SHARED_MIB);

	signal(SIGIO, SIG_IGN);
	assert_int_equal(fcntl(memory, F_SETLEASE, F_WRLCK), 0);
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(idle_vm_look(vm, text), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true(after.tv_sec - before.tv_sec < 10);
	idle_vm_free(vm);
	idle_close(&kernel);
	close(memory);
	remove_root(root);
}

/* Another process has got its number. */
static void test_same_number(void **state)
{
	struct idle_kernel kernel;
	char root[64], from[128], to[128], text[IDLE_TEXT];
	struct idle_vm *vm;

	(void)state;
	if (!make_root(root))
		skip();
	assert_int_equal(idle_open(&kernel, root), 0);
	vm = idle_vm_new(&kernel, 42, SHARED_MIB * MIB);
	assert_non_null(vm);
	snprintf(from, sizeof(from), "%s/proc/42", root);
	snprintf(to, sizeof(to), "%s/proc/41", root);
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(mkdir(from, 0700), 0);
	strcat(from, "/map_files");
	assert_int_equal(mkdir(from, 0700), 0);
	close(make_memory(root));
	assert_int_equal(idle_vm_look(vm, text), 0);
	assert_int_equal(value(text, "swapped "), 0);
	assert_int_equal(value(text, "empty "), SHARED_MIB);
	idle_vm_free(vm);
	idle_close(&kernel);
	remove_root(root);
}

/* Nobody waits because looks at others are due again before they have ended. */
static void test_many(void **state)
{
	bool seen[MANY] = { false };
	char root[64], link[128], text[IDLE_TEXT];
	struct idle_kernel kernel;
	int sockets[2], number;
	pid_t pid;

	(void)state;
	if (!make_root(root))
		skip();
	assert_int_equal(idle_open(&kernel, root), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
	for (int i = 0; i < MANY; i++) {
		struct idle_request request = {
			.pid = 42 + i, .interval_ms = 1,
			.size_bytes = SHARED_MIB * MIB,
		};

		snprintf(link, sizeof(link), "%s/proc/%d", root, 42 + i);
		assert_true(!i || !symlink("42", link));
		assert_int_equal(send(sockets[0], &request, sizeof(request), 0),
				 sizeof(request));
	}
	pid = fork();
	if (!pid) {
		close(sockets[0]);
		idle_serve(&kernel, sockets[1]);
	}
	close(sockets[1]);
	for (int i = 0; i < MANY; i++) {
		ssize_t len = recv(sockets[0], text, sizeof(text) - 1, 0);

		assert_true(len > 0);
		text[len] = '\0';
		assert_int_equal(sscanf(text, "pid %d\n", &number), 1);
		assert_in_range(number, 42, 42 + MANY - 1);
		assert_false(seen[number - 42]);
		seen[number - 42] = true;
	}
	/* It ends when nobody listens. */
	close(sockets[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	idle_close(&kernel);
	remove_root(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_strange_maps),
		cmocka_unit_test(test_samples_are_everywhere),
		cmocka_unit_test(test_ages),
		cmocka_unit_test(test_returns),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_lease),
		cmocka_unit_test(test_same_number),
		cmocka_unit_test(test_many),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("wsr idle", tests, NULL, NULL);
}
