// SPDX-License-Identifier: GPL-2.0
/*
 * Ages of a VM's memory by idle page tracking of a sample of its pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "idle.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT		(UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED		(UINT64_C(1) << 62)
#define PAGEMAP_PFN		((UINT64_C(1) << 55) - 1)
#define KPF_LRU			5
#define KPF_COMPOUND_HEAD	15
#define KPF_COMPOUND_TAIL	16
#define KPF_HUGE		17
#define KPF_ZERO_PAGE		24
/* A folio is aligned to its size, which is a power of two up to this. */
#define MAX_ORDER		18
#define MAX_MAPS		(1 << 20)
#define NICE			10

/* ---- What samples say. No I/O. ---- */

/* Files that may be a guest's RAM; anonymous memory has no name. */
static bool may_be_ram(const char *permissions, const char *name)
{
	if (permissions[0] != 'r' || permissions[1] != 'w' ||
	    permissions[2] == 'x')
		return false;
	if (*name == '[')
		return !strncmp(name, "[anon:", strlen("[anon:"));
	return strncmp(name, "/dev/", strlen("/dev/")) ||
	       !strncmp(name, "/dev/shm/", strlen("/dev/shm/")) ||
	       !strncmp(name, "/dev/hugepages/", strlen("/dev/hugepages/")) ||
	       !strncmp(name, "/dev/zero", strlen("/dev/zero"));
}

/* One line of maps. Return: whether it is a region */
static bool parse_region(const char *line, struct idle_region *region)
{
	char permissions[5];
	uint64_t end;
	int at = 0;

	memset(region, 0, sizeof(*region));
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64
		   " %*x:%*x %*u%n", &region->start, &end, permissions,
		   &region->offset, &at) != 4 || !at || end <= region->start)
		return false;
	region->bytes = end - region->start;
	region->shared = permissions[3] == 's';
	while (line[at] == ' ')
		at++;
	return may_be_ram(permissions, line + at);
}

unsigned int idle_parse_maps(const char *maps, uint64_t size_bytes,
			     struct idle_region *regions)
{
	unsigned int nr = 0;

	while (maps && *maps) {
		struct idle_region region;

		if (parse_region(maps, &region)) {
			if (region.bytes == size_bytes) {
				regions[0] = region;
				return 1;
			}
			if (nr < IDLE_MAX_REGIONS &&
			    region.bytes >= size_bytes / IDLE_REGION_PART)
				regions[nr++] = region;
		}
		maps = strchr(maps, '\n');
		if (maps)
			maps++;
	}
	return nr;
}

/* xorshift64: which pages is no secret */
static uint64_t next_random(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random;
}

/* The address of page @page, counted over all regions */
static uint64_t address_of(const struct idle_samples *samples, uint64_t page,
			   uint64_t page_size)
{
	uint64_t offset = page * page_size;
	unsigned int i = 0;

	while (i + 1 < samples->nr_regions &&
	       offset >= samples->regions[i].bytes)
		offset -= samples->regions[i++].bytes;
	return samples->regions[i].start + offset;
}

static const struct idle_region *region_of(const struct idle_samples *samples,
					   uint64_t address)
{
	const struct idle_region *region = samples->regions;

	while (address - region->start >= region->bytes)
		region++;
	return region;
}

void idle_place(struct idle_samples *samples, const struct idle_region *regions,
		unsigned int nr_regions, uint64_t page_size, uint64_t *random,
		int64_t now_ms)
{
	uint64_t pages = 0;

	memset(samples, 0, sizeof(*samples));
	memcpy(samples->regions, regions, nr_regions * sizeof(*regions));
	samples->nr_regions = nr_regions;
	samples->start_ms = now_ms;
	samples->looked_ms = now_ms;
	for (unsigned int i = 0; i < nr_regions; i++)
		pages += regions[i].bytes / page_size;
	samples->bytes = pages * page_size;
	samples->nr = pages < IDLE_SAMPLES ? pages : IDLE_SAMPLES;
	for (unsigned int i = 0; i < samples->nr; i++) {
		uint64_t first = pages * i / samples->nr;
		uint64_t end = pages * (i + 1) / samples->nr;
		uint64_t page = first + next_random(random) % (end - first);

		samples->list[i].address = address_of(samples, page, page_size);
		samples->list[i].used_ms = now_ms;
	}
}

void idle_update(struct idle_samples *samples, struct idle_sample *sample,
		 enum idle_state state, bool idle, int64_t now_ms)
{
	sample->state = state;
	/* One that has come to memory only now has no flag, either. */
	if ((state == IDLE_RESIDENT && !idle) || state == IDLE_UNTRACKED)
		sample->used_ms = samples->looked_ms +
				  (now_ms - samples->looked_ms) / 2;
}

static uint64_t bytes_of(const struct idle_samples *samples, unsigned int nr)
{
	return samples->nr ? (double)samples->bytes * nr / samples->nr : 0;
}

static unsigned int bin_of(int64_t age_ms)
{
	unsigned int bin = 0;

	while (bin < IDLE_BINS - 1 && age_ms >= (int64_t)IDLE_FIRST_MS << bin)
		bin++;
	return bin;
}

void idle_print(const struct idle_samples *samples, pid_t pid, int64_t now_ms,
		char *text)
{
	unsigned int states[IDLE_NR_STATES] = { 0 }, bins[IDLE_BINS] = { 0 };
	size_t len;

	for (unsigned int i = 0; i < samples->nr; i++) {
		const struct idle_sample *sample = &samples->list[i];

		states[sample->state]++;
		if (sample->state == IDLE_RESIDENT ||
		    sample->state == IDLE_UNTRACKED)
			bins[bin_of(now_ms - sample->used_ms)]++;
	}
	len = snprintf(text, IDLE_TEXT,
		       "pid %d\ntotal %" PRIu64 "\nresident %" PRIu64
		       "\nuntracked %" PRIu64 "\nswapped %" PRIu64
		       "\nempty %" PRIu64 "\nsince_ms %" PRId64 "\n\n", pid,
		       samples->bytes,
		       bytes_of(samples, states[IDLE_RESIDENT] +
				states[IDLE_UNTRACKED]),
		       bytes_of(samples, states[IDLE_UNTRACKED]),
		       bytes_of(samples, states[IDLE_SWAPPED]),
		       bytes_of(samples, states[IDLE_EMPTY]),
		       now_ms - samples->start_ms);
	for (unsigned int i = 0; i < IDLE_BINS - 1; i++)
		len += snprintf(text + len, IDLE_TEXT - len,
				"%" PRIu64 " anon=%" PRIu64 " file=0\n",
				(uint64_t)IDLE_FIRST_MS << i,
				bytes_of(samples, bins[i]));
	snprintf(text + len, IDLE_TEXT - len, "max anon=%" PRIu64 " file=0\n",
		 bytes_of(samples, bins[IDLE_BINS - 1]));
}

/* ---- What the kernel says ---- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static int open_below(const char *root, const char *name, int flags)
{
	char path[4096];

	if (snprintf(path, sizeof(path), "%s%s", root, name) >=
	    (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(path, flags | O_CLOEXEC);
}

/* Number @index of a file of such numbers. Return: 0 or -1 */
static int read_entry(int fd, uint64_t index, uint64_t *entry)
{
	return pread(fd, entry, sizeof(*entry), index * sizeof(*entry)) ==
	       sizeof(*entry) ? 0 : -1;
}

/* Page frames are shown as 0 to those who must not know them. */
static bool sees_frames(const struct idle_kernel *kernel)
{
	int fd = open_below(kernel->root, "/proc/self/pagemap", O_RDONLY);
	volatile char here = 1;
	uint64_t entry = 0;

	if (fd < 0)
		return false;
	read_entry(fd, (uintptr_t)&here / kernel->page_size, &entry);
	close(fd);
	return entry & PAGEMAP_PFN;
}

int idle_open(struct idle_kernel *kernel, const char *root)
{
	int error = 0;

	*kernel = (struct idle_kernel) {
		.root = root, .page_size = sysconf(_SC_PAGESIZE),
	};
	kernel->bitmap = open_below(root, "/sys/kernel/mm/page_idle/bitmap",
				    O_RDWR);
	if (kernel->bitmap < 0)
		error = errno;
	kernel->flags = open_below(root, "/proc/kpageflags", O_RDONLY);
	if (kernel->flags < 0 && !error)
		error = errno;
	if (!error && !*root && !sees_frames(kernel))
		error = EPERM;
	if (error)
		idle_close(kernel);
	return error;
}

void idle_close(struct idle_kernel *kernel)
{
	if (kernel->bitmap >= 0)
		close(kernel->bitmap);
	if (kernel->flags >= 0)
		close(kernel->flags);
	kernel->bitmap = -1;
	kernel->flags = -1;
}

/**
 * struct idle_vm - one process
 * @process, @maps, @pagemap: open: they stay those of this very process
 */
struct idle_vm {
	const struct idle_kernel *kernel;
	pid_t pid;
	uint64_t size_bytes;
	int process;
	int maps;
	int pagemap;
	uint64_t random;
	uint32_t interval_ms;
	int64_t due_ms;
	struct idle_samples samples;
};

static int open_process(const struct idle_kernel *kernel, pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	return open_below(kernel->root, path, O_PATH | O_DIRECTORY);
}

/* Its files are its own: nothing that it has done to them may stop us. */
static int open_of_process(const struct idle_vm *vm, const char *name)
{
	return openat(vm->process, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

struct idle_vm *idle_vm_new(const struct idle_kernel *kernel, pid_t pid,
			    uint64_t size_bytes)
{
	struct idle_vm *vm = calloc(1, sizeof(*vm));
	int error;

	if (!vm)
		return NULL;
	vm->kernel = kernel;
	vm->pid = pid;
	vm->size_bytes = size_bytes;
	vm->random = ((uint64_t)pid << 32 ^ now_ms()) | 1;
	vm->maps = -1;
	vm->pagemap = -1;
	vm->process = open_process(kernel, pid);
	if (vm->process >= 0)
		vm->maps = open_of_process(vm, "maps");
	if (vm->maps >= 0)
		vm->pagemap = open_of_process(vm, "pagemap");
	if (vm->pagemap < 0) {
		error = errno;
		idle_vm_free(vm);
		errno = error;
		return NULL;
	}
	return vm;
}

void idle_vm_free(struct idle_vm *vm)
{
	if (!vm)
		return;
	if (vm->process >= 0)
		close(vm->process);
	if (vm->maps >= 0)
		close(vm->maps);
	if (vm->pagemap >= 0)
		close(vm->pagemap);
	free(vm);
}

/* Memory that was plugged in meanwhile is looked at, too. Return: an errno */
static int find_regions(struct idle_vm *vm, int64_t now)
{
	static char text[MAX_MAPS];
	struct idle_region regions[IDLE_MAX_REGIONS];
	size_t len = 0;
	ssize_t got;
	unsigned int nr;

	while ((got = pread(vm->maps, text + len, sizeof(text) - 1 - len,
			    len)) > 0)
		len += got;
	if (!len)
		return ESRCH;
	text[len] = '\0';
	nr = idle_parse_maps(text, vm->size_bytes, regions);
	if (!nr)
		return ENOENT;
	if (nr != vm->samples.nr_regions ||
	    memcmp(regions, vm->samples.regions, nr * sizeof(*regions)))
		idle_place(&vm->samples, regions, nr, vm->kernel->page_size,
			   &vm->random, now);
	return 0;
}

static bool has(uint64_t flags, unsigned int bit)
{
	return flags >> bit & 1;
}

/*
 * The first page of the folio that has @pfn, and its flags. On the way there by
 * ever larger alignment all others are of the same folio.
 *
 * Return: 0 or -1
 */
static int find_head(const struct idle_kernel *kernel, uint64_t *pfn,
		     uint64_t *flags)
{
	if (read_entry(kernel->flags, *pfn, flags))
		return -1;
	for (int order = 1; has(*flags, KPF_COMPOUND_TAIL); order++) {
		uint64_t aligned = *pfn >> order << order;

		if (order > MAX_ORDER)
			return -1;
		if (aligned == *pfn)
			continue;
		*pfn = aligned;
		if (read_entry(kernel->flags, *pfn, flags))
			return -1;
	}
	return 0;
}

/*
 * What is where the sample is
 * @pfn:	receives the page that has the flag
 *
 * Return: 0, or -1: the process is gone.
 */
static int find_page(const struct idle_vm *vm, uint64_t address,
		     enum idle_state *state, uint64_t *pfn)
{
	uint64_t entry, flags;

	if (read_entry(vm->pagemap, address / vm->kernel->page_size, &entry))
		return -1;
	*state = entry & PAGEMAP_SWAPPED ? IDLE_SWAPPED : IDLE_EMPTY;
	if (!(entry & PAGEMAP_PRESENT))
		return 0;
	*state = IDLE_UNTRACKED;
	*pfn = entry & PAGEMAP_PFN;
	if (find_head(vm->kernel, pfn, &flags))
		return 0;
	if (has(flags, KPF_ZERO_PAGE))
		*state = IDLE_EMPTY;
	else if (has(flags, KPF_LRU) && !has(flags, KPF_HUGE))
		*state = IDLE_RESIDENT;
	return 0;
}

/* The file of a region of shared memory, or -1 */
static int open_shared(const struct idle_vm *vm,
		       const struct idle_region *region)
{
	struct statfs status;
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "map_files/%" PRIx64 "-%" PRIx64,
		 region->start, region->start + region->bytes);
	fd = open_of_process(vm, name);
	/* Others do not tell where they have holes. */
	if (fd >= 0 && (fstatfs(fd, &status) ||
			status.f_type != TMPFS_MAGIC)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/*
 * The page tables say the same of shared memory that was swapped out and that
 * was never there. The files are not kept open: they are memory.
 */
static void find_swapped(struct idle_vm *vm)
{
	struct idle_samples *samples = &vm->samples;
	const struct idle_region *region = NULL;
	int fd = -1;

	for (unsigned int i = 0; i < samples->nr; i++) {
		struct idle_sample *sample = &samples->list[i];
		const struct idle_region *found;
		off_t at;

		if (sample->state != IDLE_EMPTY)
			continue;
		found = region_of(samples, sample->address);
		if (!found->shared)
			continue;
		if (found != region) {
			if (fd >= 0)
				close(fd);
			region = found;
			fd = open_shared(vm, region);
		}
		at = region->offset + (sample->address - region->start);
		if (fd >= 0 && lseek(fd, at, SEEK_DATA) == at)
			sample->state = IDLE_SWAPPED;
	}
	if (fd >= 0)
		close(fd);
}

static bool is_idle(const struct idle_kernel *kernel, uint64_t pfn)
{
	uint64_t word;

	return !read_entry(kernel->bitmap, pfn / 64, &word) &&
	       has(word, pfn % 64);
}

/* Bits that are 0 change nothing. */
static void set_idle(const struct idle_kernel *kernel, uint64_t pfn)
{
	uint64_t word = UINT64_C(1) << pfn % 64;

	/* If it fails the page looks used the next time: a safe mistake. */
	if (pwrite(kernel->bitmap, &word, sizeof(word), pfn / 64 * 8) < 0)
		return;
}

int idle_vm_look(struct idle_vm *vm, char *text)
{
	struct idle_samples *samples = &vm->samples;
	uint64_t used[IDLE_SAMPLES], pfn;
	unsigned int nr_used = 0;
	int64_t now = now_ms();
	int error = find_regions(vm, now);

	if (error)
		return error;
	for (unsigned int i = 0; i < samples->nr; i++) {
		struct idle_sample *sample = &samples->list[i];
		enum idle_state state;
		bool idle = false;

		if (find_page(vm, sample->address, &state, &pfn))
			return ESRCH;
		if (state == IDLE_RESIDENT) {
			idle = is_idle(vm->kernel, pfn);
			if (!idle)
				used[nr_used++] = pfn;
		}
		idle_update(samples, sample, state, idle, now);
	}
	/* Not before all were looked at: some are of the same folio. */
	for (unsigned int i = 0; i < nr_used; i++)
		set_idle(vm->kernel, used[i]);
	find_swapped(vm);
	samples->looked_ms = now;
	idle_print(samples, vm->pid, now, text);
	return 0;
}

/* ---- The child ---- */

static struct {
	const struct idle_kernel *kernel;
	int socket;
	struct idle_vm *vms[IDLE_MAX_VMS];
	unsigned int nr_vms;
} child;

/* If wsrd does not take them there is no hurry to look again. */
static void send_text(const char *text)
{
	if (send(child.socket, text, strlen(text), MSG_NOSIGNAL) < 0 &&
	    errno != EINTR)
		_exit(0);
}

static void send_error(pid_t pid, int error)
{
	char text[64];

	snprintf(text, sizeof(text), "pid %d\nerror %d\n", pid, error);
	send_text(text);
}

static void remove_vm(unsigned int i)
{
	idle_vm_free(child.vms[i]);
	child.vms[i] = child.vms[--child.nr_vms];
}

static void take_request(const struct idle_request *request)
{
	struct idle_vm *vm = NULL;
	unsigned int i = 0;

	while (i < child.nr_vms && child.vms[i]->pid != request->pid)
		i++;
	if (i < child.nr_vms) {
		vm = child.vms[i];
		if (!request->interval_ms) {
			remove_vm(i);
			return;
		}
	} else {
		if (!request->interval_ms)
			return;
		errno = EMFILE;
		if (i < IDLE_MAX_VMS)
			vm = idle_vm_new(child.kernel, request->pid,
					 request->size_bytes);
		if (!vm) {
			send_error(request->pid, errno);
			return;
		}
		vm->due_ms = now_ms();
		child.vms[child.nr_vms++] = vm;
	}
	vm->interval_ms = request->interval_ms;
	vm->size_bytes = request->size_bytes;
}

/* Return: milliseconds until the next one, -1: there is none */
static int look_at_due(void)
{
	char text[IDLE_TEXT];
	int64_t next = INT64_MAX;

	for (unsigned int i = 0; i < child.nr_vms;) {
		struct idle_vm *vm = child.vms[i];
		int64_t now = now_ms();

		if (vm->due_ms <= now) {
			int error = idle_vm_look(vm, text);

			if (error) {
				send_error(vm->pid, error);
				remove_vm(i);
				continue;
			}
			send_text(text);
			vm->due_ms = now + vm->interval_ms;
		}
		if (vm->due_ms < next)
			next = vm->due_ms;
		i++;
	}
	if (next == INT64_MAX)
		return -1;
	next -= now_ms();
	return next > 0 ? next : 0;
}

/*
 * All that are there: a look at all VMs can take longer than their interval.
 *
 * Return: false when wsrd is gone
 */
static bool take_requests(void)
{
	struct idle_request request;
	ssize_t len;

	while ((len = recv(child.socket, &request, sizeof(request),
			   MSG_DONTWAIT)) > 0) {
		if (len == sizeof(request))
			take_request(&request);
	}
	return len < 0 && (errno == EAGAIN || errno == EINTR);
}

void idle_serve(const struct idle_kernel *kernel, int socket)
{
	struct pollfd wait = { .fd = socket, .events = POLLIN };

	child.kernel = kernel;
	child.socket = socket;
	/* Later is not worse: times are measured. */
	if (nice(NICE) < 0)
		errno = 0;
	for (;;) {
		if (poll(&wait, 1, look_at_due()) > 0 && !take_requests())
			_exit(0);
	}
}
