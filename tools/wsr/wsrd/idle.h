/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Ages of a VM's memory by idle page tracking, without help of the guest: of
 * some pages of its RAM, the kernel is asked now and then whether they were
 * used since the last time. Documentation/admin-guide/mm/idle_page_tracking.rst
 *
 *	/proc/PID/maps			where QEMU has the guest's RAM
 *	/proc/PID/pagemap		page frame of a sample, or swap, or nothing
 *	/proc/kpageflags		first page of its folio: that has the flag
 *	/sys/kernel/mm/page_idle/bitmap	the flag: set here, cleared by use
 *	/proc/PID/map_files		shared memory: swapped out or never there?
 *
 * It needs CAP_SYS_ADMIN and CAP_SYS_PTRACE, so it runs in a child of the
 * privileged process, one for all VMs. Only libc is used.
 */
#ifndef WSRD_IDLE_H
#define WSRD_IDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define IDLE_SAMPLES		1024
#define IDLE_MAX_REGIONS	64
/* A part of the VM's memory that is less than this part of it is not seen. */
#define IDLE_REGION_PART	16
#define IDLE_BINS		16
#define IDLE_FIRST_MS		1000	/* the first bound; each next is twice it */
#define IDLE_TEXT		2048	/* bytes of a text with its NUL */
#define IDLE_MAX_VMS		4096

/**
 * struct idle_region - a part of QEMU's address space
 * @offset:	of it in a file, if it is @shared
 */
struct idle_region {
	uint64_t start;
	uint64_t bytes;
	uint64_t offset;
	bool shared;
};

/**
 * idle_parse_maps - where the guest's RAM is
 * @maps:	text of /proc/PID/maps
 * @size_bytes:	of the VM
 * @regions:	receives at most IDLE_MAX_REGIONS
 *
 * A mapping that is as large as the VM is all of it. Otherwise (NUMA, memory
 * that can be plugged) it is all large ones.
 *
 * Return: how many there are.
 */
unsigned int idle_parse_maps(const char *maps, uint64_t size_bytes,
			     struct idle_region *regions);

/**
 * enum idle_state - what the kernel says of a sample
 * @IDLE_EMPTY:	never touched, or given back by the balloon
 * @IDLE_SWAPPED: in swap space
 * @IDLE_RESIDENT: in memory, and the kernel tells whether it is used
 * @IDLE_UNTRACKED: in memory that is not tracked (hugetlb), taken for used
 */
enum idle_state {
	IDLE_EMPTY,
	IDLE_SWAPPED,
	IDLE_RESIDENT,
	IDLE_UNTRACKED,
	IDLE_NR_STATES,
};

/**
 * struct idle_sample - one page
 * @used_ms:	when it was used last: the middle of the interval in which that
 *		was; the start, if never since then
 */
struct idle_sample {
	uint64_t address;
	int64_t used_ms;
	enum idle_state state;
};

/**
 * struct idle_samples - those of a VM
 * @bytes:	of the memory that they stand for
 * @start_ms:	when sampling began: no age is longer ago
 * @looked_ms:	the last time
 */
struct idle_samples {
	struct idle_region regions[IDLE_MAX_REGIONS];
	unsigned int nr_regions;
	uint64_t bytes;
	int64_t start_ms;
	int64_t looked_ms;
	unsigned int nr;
	struct idle_sample list[IDLE_SAMPLES];
};

/**
 * idle_place - choose pages, one at random in each of as many equal parts
 * @random:	state of a generator, not 0; changes
 *
 * Begins anew: what was known is lost.
 */
void idle_place(struct idle_samples *samples, const struct idle_region *regions,
		unsigned int nr_regions, uint64_t page_size, uint64_t *random,
		int64_t now_ms);

/** idle_update - what was found out about a sample at @now_ms */
void idle_update(struct idle_samples *samples, struct idle_sample *sample,
		 enum idle_state state, bool idle, int64_t now_ms);

/**
 * idle_print - the text that is sent to wsrd
 * @text:	receives less than IDLE_TEXT bytes:
 *
 *	pid 42
 *	total BYTES		of the VM, as far as it was found
 *	resident BYTES		the histogram's
 *	untracked BYTES		a part of that, see IDLE_UNTRACKED
 *	swapped BYTES
 *	empty BYTES
 *	since_ms MS		sampling has gone on for so long: no age is longer
 *
 * an empty line, and a histogram as in memory.working_set.histogram.
 */
void idle_print(const struct idle_samples *samples, pid_t pid, int64_t now_ms,
		char *text);

/**
 * struct idle_kernel - open files that are not a process's
 * @root:	directory that /proc and /sys are in, "" but for tests
 */
struct idle_kernel {
	const char *root;
	int flags;
	int bitmap;
	uint64_t page_size;
};

/**
 * idle_open - open them, and see whether the rights are there
 * Return: 0 or an errno. ENOENT: the kernel lacks CONFIG_IDLE_PAGE_TRACKING or
 * CONFIG_PROC_PAGE_MONITOR; EPERM: CAP_SYS_ADMIN is missing.
 */
int idle_open(struct idle_kernel *kernel, const char *root);

void idle_close(struct idle_kernel *kernel);

struct idle_vm;

/**
 * idle_vm_new - begin to look after a process
 * Return: NULL with errno.
 */
struct idle_vm *idle_vm_new(const struct idle_kernel *kernel, pid_t pid,
			    uint64_t size_bytes);

void idle_vm_free(struct idle_vm *vm);

/**
 * idle_vm_look - one round
 * @text:	receives what idle_print() says
 *
 * Return: 0, or an errno. ESRCH: the process is gone, even if another one has
 * its number now; ENOENT: there is no memory of that size.
 */
int idle_vm_look(struct idle_vm *vm, char *text);

/**
 * struct idle_request - what wsrd sends to the child
 * @interval_ms: 0: look after it no more
 */
struct idle_request {
	pid_t pid;
	uint32_t interval_ms;
	uint64_t size_bytes;
};

/**
 * idle_serve - the child: requests in, texts out, one message each
 * @socket:	SOCK_SEQPACKET; when the other end is closed the child ends
 *
 * Of a process that can't be looked at the text is "pid PID" and a line
 * "error ERRNO"; then it is not looked at any more.
 */
void __attribute__((noreturn)) idle_serve(const struct idle_kernel *kernel,
					  int socket);

#endif
