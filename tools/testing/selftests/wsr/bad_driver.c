// SPDX-License-Identifier: GPL-2.0
/*
 * A balloon driver that wants to harm its host: takes a virtio-balloon PCI
 * device, which no driver of the kernel may be bound to, and puts into
 * working_set_vq what no driver should.
 *
 *   bad_driver -l               list the cases
 *   bad_driver DEVICE CASE...   DEVICE is a directory of /sys/bus/pci/devices
 *
 * Each case starts with a reset of the device. Afterwards the queue must work:
 * one more report, too short, has to come back. Whether anything of all this was
 * believed only the host can tell; nothing but the cases "good" and
 * "good-largest" is a well-formed report.
 *
 * Structures of virtio are little-endian and so is the machine this is for.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"

#if __BYTE_ORDER != __LITTLE_ENDIAN
#error "for little-endian machines"
#endif

#define PAGE_BYTES	4096U
#define HDR_BYTES	sizeof(struct virtio_balloon_working_set_hdr)
#define BIN_BYTES	sizeof(struct virtio_balloon_working_set_bin)
#define RING_SIZE	32	/* of the device's queue */
#define MAX_RECORDS	128
#define REPORT_PAGES	24
#define PATIENCE_S	20
#define FLOOD		20000
#define RESETS		2000
#define ENDLESS_S	5

/* Memory and registers that others read and write, too */
#define GET(place)	__atomic_load_n(&(place), __ATOMIC_ACQUIRE)
#define SET(place, value) __atomic_store_n(&(place), value, __ATOMIC_RELEASE)

/* Memory whose physical addresses are known: one page each */
static struct vring_desc *desc;
static struct vring_avail *avail;
static struct vring_used *used;
static struct vring_desc *indirect;
static unsigned char *report;	/* REPORT_PAGES */

static struct virtio_pci_common_cfg *common;
static unsigned char *device_config;
static unsigned char *notify_base;
static uint32_t notify_multiplier;
static uint64_t bar_address;	/* of the registers, as the device sees them */
static uint64_t ram_end;
static uint16_t queue_index;
/* What tells a report that must not be believed from the one that may be */
static uint64_t sequence = 2;

/* --- memory -------------------------------------------------------------- */

static uint64_t phys_addr(const void *address)
{
	static int pagemap = -1;
	uint64_t entry;

	if (pagemap < 0)
		pagemap = open("/proc/self/pagemap", O_RDONLY);
	if (pread(pagemap, &entry, sizeof(entry),
		  (uintptr_t)address / PAGE_BYTES * sizeof(entry)) !=
		    sizeof(entry) ||
	    !(entry & (1ULL << 63)) || !(entry & ((1ULL << 55) - 1)))
		ksft_exit_fail_msg("no physical address: are you root?\n");
	return (entry & ((1ULL << 55) - 1)) * PAGE_BYTES +
	       (uintptr_t)address % PAGE_BYTES;
}

static void write_file(const char *path, const char *value)
{
	FILE *file = fopen(path, "w");

	if (!file || fputs(value, file) < 0 || fclose(file))
		ksft_exit_fail_msg("%s: %s\n", path, strerror(errno));
}

static void *pages(unsigned int nr)
{
	void *memory = mmap(NULL, nr * PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE |
			    MAP_LOCKED, -1, 0);

	if (memory == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	return memory;
}

static void get_memory(void)
{
	char line[200];
	FILE *iomem;

	/* Locked memory must stay where it is. */
	write_file("/proc/sys/vm/compact_unevictable_allowed", "0");
	desc = pages(1);
	avail = pages(1);
	used = pages(1);
	indirect = pages(1);
	report = pages(REPORT_PAGES);

	iomem = fopen("/proc/iomem", "r");
	while (iomem && fgets(line, sizeof(line), iomem)) {
		unsigned long long first, last;

		if (strstr(line, "System RAM") &&
		    sscanf(line, "%llx-%llx", &first, &last) == 2)
			ram_end = last + 1;
	}
	if (!ram_end)
		ksft_exit_fail_msg("/proc/iomem has no System RAM\n");
	fclose(iomem);
}

/* --- the device ---------------------------------------------------------- */

static void *map_bar(const char *device, unsigned int bar)
{
	char path[300];
	void *registers;
	off_t size;
	int fd;

	snprintf(path, sizeof(path), "%s/resource%u", device, bar);
	fd = open(path, O_RDWR);
	size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	registers = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (registers == MAP_FAILED)
		ksft_exit_fail_msg("%s: %s\n", path, strerror(errno));
	close(fd);
	return registers;
}

static uint64_t read_bar_address(const char *device, unsigned int bar)
{
	unsigned long long start = 0;
	char path[300], line[100];
	FILE *file;

	snprintf(path, sizeof(path), "%s/resource", device);
	file = fopen(path, "r");
	for (unsigned int i = 0; file && i <= bar; i++) {
		if (!fgets(line, sizeof(line), file) ||
		    sscanf(line, "%llx", &start) != 1)
			ksft_exit_fail_msg("%s can't be read\n", path);
	}
	if (file)
		fclose(file);
	return start;
}

/* Finds the registers through the capabilities of the modern interface. */
static void get_device(const char *device)
{
	unsigned char *registers = NULL;
	uint8_t config[256], position;
	uint16_t command;
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/driver", device);
	if (!access(path, F_OK))
		ksft_exit_fail_msg("%s: unbind it first\n", path);
	snprintf(path, sizeof(path), "%s/config", device);
	fd = open(path, O_RDWR);
	if (pread(fd, config, sizeof(config), 0) != sizeof(config))
		ksft_exit_fail_msg("%s can't be read\n", path);
	/* No interrupts: there is nobody to handle them. */
	command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
		  PCI_COMMAND_INTX_DISABLE;
	if (pwrite(fd, &command, sizeof(command), PCI_COMMAND) !=
	    sizeof(command))
		ksft_exit_fail_msg("%s can't be written\n", path);
	close(fd);

	for (position = config[PCI_CAPABILITY_LIST]; position;
	     position = config[position + 1]) {
		struct virtio_pci_notify_cap cap;

		memcpy(&cap, config + position, sizeof(cap));
		if (cap.cap.cap_vndr != PCI_CAP_ID_VNDR ||
		    cap.cap.cfg_type > VIRTIO_PCI_CAP_DEVICE_CFG)
			continue;
		if (!registers) {
			registers = map_bar(device, cap.cap.bar);
			bar_address = read_bar_address(device, cap.cap.bar);
		}
		switch (cap.cap.cfg_type) {
		case VIRTIO_PCI_CAP_COMMON_CFG:
			common = (void *)(registers + cap.cap.offset);
			break;
		case VIRTIO_PCI_CAP_DEVICE_CFG:
			device_config = registers + cap.cap.offset;
			break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			notify_base = registers + cap.cap.offset;
			notify_multiplier = cap.notify_off_multiplier;
			break;
		}
	}
	if (!common || !device_config || !notify_base)
		ksft_exit_fail_msg("%s is not a modern virtio device\n",
				   device);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void reset_device(void)
{
	double end = now_s() + PATIENCE_S;

	SET(common->device_status, 0);
	while (GET(common->device_status)) {
		if (now_s() > end)
			ksft_exit_fail_msg("the device does not reset\n");
	}
}

static uint64_t offered(void)
{
	uint64_t features;

	SET(common->device_feature_select, 1);
	features = GET(common->device_feature);
	SET(common->device_feature_select, 0);
	return features << 32 | GET(common->device_feature);
}

static void add_status(uint8_t bits)
{
	SET(common->device_status, GET(common->device_status) | bits);
}

/* Up to the point where queues are set up */
static void begin(uint64_t features)
{
	reset_device();
	SET(common->device_status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(VIRTIO_CONFIG_S_DRIVER);
	SET(common->guest_feature_select, 1);
	SET(common->guest_feature, features >> 32);
	SET(common->guest_feature_select, 0);
	SET(common->guest_feature, features);
	add_status(VIRTIO_CONFIG_S_FEATURES_OK);
}

static void set_queue(uint16_t size, uint64_t desc_at, uint64_t avail_at,
		      uint64_t used_at)
{
	SET(common->queue_select, queue_index);
	SET(common->queue_size, size);
	SET(common->queue_desc_lo, desc_at);
	SET(common->queue_desc_hi, desc_at >> 32);
	SET(common->queue_avail_lo, avail_at);
	SET(common->queue_avail_hi, avail_at >> 32);
	SET(common->queue_used_lo, used_at);
	SET(common->queue_used_hi, used_at >> 32);
	SET(common->queue_enable, 1);
}

static void set_good_queue(void)
{
	memset(desc, 0, PAGE_BYTES);
	memset(avail, 0, PAGE_BYTES);
	memset(used, 0, PAGE_BYTES);
	memset(indirect, 0, PAGE_BYTES);
	avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	set_queue(RING_SIZE, phys_addr(desc), phys_addr(avail), phys_addr(used));
}

static void ready(void)
{
	add_status(VIRTIO_CONFIG_S_DRIVER_OK);
}

static uint64_t wanted_features(void)
{
	return 1ULL << VIRTIO_F_VERSION_1 |
	       1ULL << VIRTIO_BALLOON_F_WORKING_SET |
	       1ULL << VIRTIO_RING_F_INDIRECT_DESC;
}

static void start(uint64_t features)
{
	begin(features);
	set_good_queue();
	ready();
}

static bool is_broken(void)
{
	return GET(common->device_status) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static uint16_t *notify_register(uint16_t offset)
{
	return (uint16_t *)(notify_base + offset * notify_multiplier);
}

static void notify_queue(uint16_t index)
{
	uint16_t offset;

	SET(common->queue_select, index);
	offset = GET(common->queue_notify_off);
	SET(*notify_register(offset), index);
}

static void notify(void)
{
	__sync_synchronize();
	notify_queue(queue_index);
}

/* Makes descriptor @head available, without telling. */
static void offer(uint16_t head)
{
	avail->ring[avail->idx % RING_SIZE] = head;
	SET(avail->idx, avail->idx + 1);
}

/*
 * Waits until the device has used as many buffers as there were. It may stop
 * after some, if there were more than it has to expect.
 */
static bool wait_used(void)
{
	double end = now_s() + PATIENCE_S;
	uint16_t before = used->idx, now;

	while ((now = GET(used->idx)) != avail->idx) {
		if (is_broken() || now_s() > end)
			return false;
		if (now != before)
			notify();
		before = now;
	}
	return true;
}

static void set_desc(unsigned int i, uint64_t addr, uint32_t len,
		     uint16_t flags, uint16_t next)
{
	desc[i] = (struct vring_desc) {
		.addr = addr, .len = len, .flags = flags, .next = next,
	};
}

/* The first @size bytes of report[], in pieces that end where pages do */
static void describe_report(size_t size)
{
	unsigned int i = 0;

	for (size_t done = 0; done < size; i++) {
		size_t piece = size - done < PAGE_BYTES ? size - done :
							  PAGE_BYTES;
		bool last = done + piece == size;

		set_desc(i, phys_addr(report + done), piece,
			 last ? 0 : VRING_DESC_F_NEXT, i + 1);
		done += piece;
	}
}

static void send_report(size_t size)
{
	describe_report(size);
	offer(0);
	notify();
	if (!wait_used())
		ksft_exit_fail_msg("the device keeps the buffer, status %#x\n",
				   GET(common->device_status));
}

/* --- reports ------------------------------------------------------------- */

static size_t record_size(unsigned int nr_bins)
{
	return HDR_BYTES + nr_bins * BIN_BYTES;
}

/* Writes a record that is fine and returns its size. */
static size_t fill_record(size_t at, uint16_t node, unsigned int nr_bins,
			  bool more)
{
	struct virtio_balloon_working_set_hdr *hdr = (void *)(report + at);
	struct virtio_balloon_working_set_bin *bin = (void *)(hdr + 1);

	memset(hdr, 0, record_size(nr_bins));
	hdr->node_id = node;
	hdr->nr_bins = nr_bins;
	hdr->flags = more ? VIRTIO_BALLOON_WORKING_SET_F_MORE : 0;
	hdr->sequence = sequence;
	hdr->total_bytes = 64 << 10;
	hdr->free_bytes = 4 << 10;
	for (unsigned int i = 0; i < nr_bins; i++) {
		bin[i].idle_age_ms = i < nr_bins - 1 ? 1000 * (i + 1) :
						       UINT64_MAX;
		bin[i].swap_backed_bytes = 1 << 10;
		bin[i].file_backed_bytes = 1 << 10;
	}
	return record_size(nr_bins);
}

static size_t fill_report(unsigned int records, unsigned int nr_bins)
{
	size_t size = 0;

	for (unsigned int i = 0; i < records; i++)
		size += fill_record(size, i, nr_bins, i < records - 1);
	return size;
}

/* Makes the record there one that is not well-formed. */
static void spoil(size_t at)
{
	struct virtio_balloon_working_set_hdr *hdr = (void *)(report + at);

	hdr->status = 3;
}

#define CHANGED_BINS	4
/* A good report of two records in which one field is changed */
struct change {
	const char *name;
	size_t offset;	/* of the field */
	size_t size;	/* of the field */
	uint64_t value;
};

#define RECORD(i)	((i) * (HDR_BYTES + CHANGED_BINS * BIN_BYTES))
#define HDR(i, field) \
	(RECORD(i) + offsetof(struct virtio_balloon_working_set_hdr, field))
#define BIN(i, j, field) \
	(RECORD(i) + HDR_BYTES + (j) * BIN_BYTES + \
	 offsetof(struct virtio_balloon_working_set_bin, field))

static const struct change changes[] = {
	{ "cmd-id-differs", HDR(1, cmd_id), 4, 1 },
	{ "node-same", HDR(1, node_id), 2, 0 },
	{ "node-none-of-two", HDR(1, node_id), 2, 0xffff },
	{ "nr-bins-0", HDR(0, nr_bins), 2, 0 },
	{ "nr-bins-1", HDR(0, nr_bins), 2, 1 },
	{ "nr-bins-fewer", HDR(0, nr_bins), 2, CHANGED_BINS - 1 },
	{ "nr-bins-more", HDR(0, nr_bins), 2, CHANGED_BINS + 1 },
	{ "nr-bins-17", HDR(0, nr_bins), 2, 17 },
	{ "nr-bins-max", HDR(0, nr_bins), 2, 0xffff },
	{ "nr-bins-last-more", HDR(1, nr_bins), 2, CHANGED_BINS + 1 },
	{ "nr-bins-last-max", HDR(1, nr_bins), 2, 0xffff },
	{ "status-3", HDR(0, status), 2, 3 },
	{ "status-max", HDR(0, status), 2, 0xffff },
	{ "status-error-with-bins", HDR(0, status), 2, 1 },
	{ "status-differs", HDR(1, status), 2, 1 },
	{ "flags-no-more", HDR(0, flags), 2, 0 },
	{ "flags-more-at-end", HDR(1, flags), 2, 1 },
	{ "flags-all", HDR(1, flags), 2, 0xffff },
	{ "sequence-differs", HDR(1, sequence), 8, 3 },
	{ "total-max", HDR(0, total_bytes), 8, UINT64_MAX },
	{ "total-wraps", HDR(1, total_bytes), 8, UINT64_MAX - (64 << 10) + 1 },
	{ "free-max", HDR(0, free_bytes), 8, UINT64_MAX },
	{ "free-wraps", HDR(1, free_bytes), 8, UINT64_MAX - (4 << 10) + 1 },
	{ "unevictable-max", HDR(0, unevictable_bytes), 8, UINT64_MAX },
	{ "kernel-max", HDR(0, kernel_bytes), 8, UINT64_MAX },
	{ "kernel-2-63", HDR(1, kernel_bytes), 8, 1ULL << 63 },
	{ "slab-max", HDR(0, slab_reclaimable_bytes), 8, UINT64_MAX },
	{ "reclaim-id-differs", HDR(1, reclaim_id), 4, 1 },
	{ "reclaim-status-3", HDR(0, reclaim_status), 2, 3 },
	{ "reclaim-status-differs", HDR(1, reclaim_status), 2, 1 },
	{ "reserved-1", HDR(0, reserved), 2, 1 },
	{ "reclaimed-differs", HDR(1, reclaimed_bytes), 8, 4096 },
	{ "bound-0", BIN(0, 0, idle_age_ms), 8, 0 },
	{ "bound-max-too-early", BIN(0, 0, idle_age_ms), 8, UINT64_MAX },
	{ "bounds-same", BIN(1, 1, idle_age_ms), 8, 1000 },
	{ "last-bound", BIN(1, CHANGED_BINS - 1, idle_age_ms), 8, 123456 },
	{ "swap-backed-max", BIN(0, 0, swap_backed_bytes), 8, UINT64_MAX },
	{ "swap-backed-wraps", BIN(1, 3, swap_backed_bytes), 8,
	  UINT64_MAX - (1 << 10) + 1 },
	{ "file-backed-max", BIN(1, 3, file_backed_bytes), 8, UINT64_MAX },
};

static void run_change(const struct change *change)
{
	size_t size = fill_report(2, CHANGED_BINS);

	start(wanted_features());
	memcpy(report + change->offset, &change->value, change->size);
	send_report(size);
}

static void good(void)
{
	sequence = 1;
	start(wanted_features());
	send_report(fill_report(2, CHANGED_BINS));
}

static void good_largest(void)
{
	start(wanted_features());
	send_report(fill_report(MAX_RECORDS,
				VIRTIO_BALLOON_WORKING_SET_MAX_BINS));
}

static void too_short(void)
{
	size_t size = fill_report(2, CHANGED_BINS);

	start(wanted_features());
	for (size_t part = 1; part < size; part++)
		send_report(part);
}

static void too_long(void)
{
	size_t size = fill_report(2, CHANGED_BINS);

	start(wanted_features());
	send_report(size + 1);
	send_report(size + PAGE_BYTES);
	send_report(size + fill_record(size, 2, CHANGED_BINS, false));
}

static void too_many_records(void)
{
	start(wanted_features());
	send_report(fill_report(MAX_RECORDS + 1, 2));
}

static void longer_than_longest(void)
{
	size_t size = fill_report(MAX_RECORDS,
				  VIRTIO_BALLOON_WORKING_SET_MAX_BINS);

	start(wanted_features());
	send_report(size + 1);
	send_report(REPORT_PAGES * PAGE_BYTES);
}

/* All memory below ram_end, RING_SIZE times in one buffer */
static void all_memory(void)
{
	start(wanted_features());
	for (unsigned int i = 0; i < RING_SIZE; i++)
		set_desc(i, 1 << 20, (ram_end & UINT32_MAX) - (1 << 20),
			 i < RING_SIZE - 1 ? VRING_DESC_F_NEXT : 0, i + 1);
	offer(0);
	notify();
	wait_used();
}

static void not_accepted(void)
{
	size_t size = fill_report(2, CHANGED_BINS);

	start(1ULL << VIRTIO_F_VERSION_1);
	send_report(size);
	start(1ULL << VIRTIO_BALLOON_F_WORKING_SET);
	send_report(size);
	start(0);
	send_report(size);
}

static void writable_part(void)
{
	size_t size = fill_report(2, CHANGED_BINS);

	start(wanted_features());
	set_desc(0, phys_addr(report), size, VRING_DESC_F_NEXT, 1);
	set_desc(1, phys_addr(report) + size, 64, VRING_DESC_F_WRITE, 0);
	offer(0);
	notify();
	if (!wait_used())
		ksft_exit_fail_msg("the device keeps the buffer\n");
}

static void writable_only(void)
{
	start(wanted_features());
	set_desc(0, phys_addr(report), fill_report(2, CHANGED_BINS),
		 VRING_DESC_F_WRITE, 0);
	offer(0);
	notify();
	if (!wait_used())
		ksft_exit_fail_msg("the device keeps the buffer\n");
}

/* --- queues -------------------------------------------------------------- */

/*
 * From here on the device may give up ("broken"), but only until the next reset.
 * Reports are well-formed, in case a device takes the way they come for fine.
 */
static void try_desc(unsigned int nr, bool wait)
{
	fill_report(2, CHANGED_BINS);
	offer(nr);
	notify();
	if (wait)
		wait_used();
}

static void writable_before_readable(void)
{
	start(wanted_features());
	set_desc(0, phys_addr(report) + PAGE_BYTES, 64,
		 VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	set_desc(1, phys_addr(report), record_size(2), 0, 0);
	try_desc(0, true);
}

static void no_length(void)
{
	start(wanted_features());
	set_desc(0, phys_addr(report), 0, 0, 0);
	try_desc(0, true);
}

static void loop(void)
{
	for (unsigned int length = 1; length <= RING_SIZE; length++) {
		start(wanted_features());
		for (unsigned int i = 0; i < length; i++)
			set_desc(i, phys_addr(report), 16, VRING_DESC_F_NEXT,
				 (i + 1) % length);
		try_desc(0, true);
	}
}

static void next_out_of_range(void)
{
	static const uint16_t next[] = { RING_SIZE, 255, 0x7fff, 0xffff };

	for (unsigned int i = 0; i < ARRAY_SIZE(next); i++) {
		start(wanted_features());
		set_desc(0, phys_addr(report), 16, VRING_DESC_F_NEXT, next[i]);
		try_desc(0, true);
	}
}

static void head_out_of_range(void)
{
	static const uint16_t head[] = { RING_SIZE, 255, 0x7fff, 0xffff };

	for (unsigned int i = 0; i < ARRAY_SIZE(head); i++) {
		start(wanted_features());
		try_desc(head[i], true);
	}
}

static void available_jumps(void)
{
	static const uint16_t index[] = { RING_SIZE + 1, 0x8000, 0xffff };

	for (unsigned int i = 0; i < ARRAY_SIZE(index); i++) {
		start(wanted_features());
		set_desc(0, phys_addr(report), 16, 0, 0);
		avail->idx = index[i];
		notify();
		wait_used();
	}
}

/* One buffer at an address where there is no memory of the guest */
static void addresses(void)
{
	const struct {
		uint64_t addr;
		uint32_t len;
	} bad[] = {
		{ 0, 64 },			/* memory, as it happens */
		{ ram_end, 64 },
		{ ram_end - 16, 4096 },
		{ ram_end - 16, UINT32_MAX },
		{ bar_address, 64 },
		{ bar_address, 16 << 10 },
		{ 0xb8000, 4096 },		/* video memory */
		{ 0xfec00000, 64 },		/* I/O APIC */
		{ 0xfee00000, 64 },		/* local APIC: interrupts */
		{ 0xfffff000, 4096 },		/* firmware */
		{ 0xfffffff0, 4096 },
		{ 1ULL << 40, 64 },
		{ UINT64_MAX, 1 },
		{ UINT64_MAX - 63, 64 },
		{ UINT64_MAX - 63, UINT32_MAX },
		{ 1 << 20, UINT32_MAX },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		start(wanted_features());
		set_desc(0, bad[i].addr, bad[i].len, 0, 0);
		try_desc(0, true);
		start(wanted_features());
		set_desc(0, bad[i].addr, bad[i].len, VRING_DESC_F_WRITE, 0);
		/* Only memory that nobody misses may be written to. */
		if (bad[i].addr >= ram_end)
			try_desc(0, true);
	}
}

static void addresses_in_chain(void)
{
	start(wanted_features());
	for (unsigned int i = 0; i < RING_SIZE; i++)
		set_desc(i, i % 2 ? bar_address : phys_addr(report), UINT32_MAX,
			 i < RING_SIZE - 1 ? VRING_DESC_F_NEXT : 0, i + 1);
	try_desc(0, true);
}

/* Makes descriptor 0 point to a table, and starts. */
static void try_indirect(uint64_t addr, uint32_t len, uint16_t flags)
{
	start(wanted_features());
	for (unsigned int i = 0; i < PAGE_BYTES / sizeof(*indirect); i++)
		indirect[i] = (struct vring_desc) {
			.addr = phys_addr(report), .len = 1,
			.flags = VRING_DESC_F_NEXT, .next = i + 1,
		};
	indirect[PAGE_BYTES / sizeof(*indirect) - 1].flags = 0;
	set_desc(0, addr, len, flags | VRING_DESC_F_INDIRECT, 0);
	try_desc(0, true);
}

static void indirect_tables(void)
{
	uint64_t table = phys_addr(indirect);

	try_indirect(table, PAGE_BYTES, 0);	/* a page of single bytes */
	try_indirect(table, PAGE_BYTES, VRING_DESC_F_NEXT);
	try_indirect(table, PAGE_BYTES, VRING_DESC_F_WRITE);
	try_indirect(table, 0, 0);
	try_indirect(table, 15, 0);
	try_indirect(table, 16, 0);		/* ends before the chain */
	try_indirect(table + 1, 32, 0);
	try_indirect(table, UINT32_MAX & ~15U, 0);
	try_indirect(table, UINT32_MAX, 0);
	try_indirect(ram_end, 16, 0);
	try_indirect(ram_end - 16, 32, 0);
	try_indirect(bar_address, 16, 0);
	try_indirect(UINT64_MAX - 15, 16, 0);
	try_indirect(1 << 20, (ram_end & UINT32_MAX) - (1 << 20), 0);
}

/* A table that refers to itself, as a table and as a chain */
static void indirect_loops(void)
{
	start(wanted_features());
	indirect[0] = (struct vring_desc) {
		.addr = phys_addr(indirect), .len = 16,
		.flags = VRING_DESC_F_INDIRECT,
	};
	set_desc(0, phys_addr(indirect), 16, VRING_DESC_F_INDIRECT, 0);
	try_desc(0, true);

	start(wanted_features());
	indirect[0] = (struct vring_desc) {
		.addr = phys_addr(report), .len = 16,
		.flags = VRING_DESC_F_NEXT, .next = 0,
	};
	set_desc(0, phys_addr(indirect), PAGE_BYTES, VRING_DESC_F_INDIRECT, 0);
	try_desc(0, true);
}

static void indirect_not_accepted(void)
{
	start(wanted_features() & ~(1ULL << VIRTIO_RING_F_INDIRECT_DESC));
	set_desc(0, phys_addr(indirect), 16, VRING_DESC_F_INDIRECT, 0);
	try_desc(0, true);
}

/* Each of the three rings where it should not be */
static void ring_addresses(void)
{
	const uint64_t bad[] = {
		0, 1, ram_end, ram_end - 8, bar_address, 0xb8000, 0xfee00000,
		0xfffff000, 1ULL << 40, UINT64_MAX, UINT64_MAX - 15,
		phys_addr(desc) + 1,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad) * 3; i++) {
		uint64_t at[3] = {
			phys_addr(desc), phys_addr(avail), phys_addr(used)
		};

		at[i % 3] = bad[i / 3];
		/* The used ring is written to: not into anybody's memory */
		if (i % 3 == 2 && bad[i / 3] < PAGE_BYTES)
			continue;
		begin(wanted_features());
		set_good_queue();
		set_queue(RING_SIZE, at[0], at[1], at[2]);
		ready();
		set_desc(0, phys_addr(report), record_size(2), 0, 0);
		offer(0);
		notify();
		/* Where the used index is then, nobody knows. */
		GET(common->device_status);
	}
}

/* Rings that lie over each other, so that the device writes what it reads */
static void rings_overlap(void)
{
	for (unsigned int shift = 0; shift <= 4 + 8 * RING_SIZE; shift += 2) {
		const uint64_t at = phys_addr(desc);

		/* The used ring over the available ring */
		begin(wanted_features());
		set_good_queue();
		set_queue(RING_SIZE, at, phys_addr(avail) + 2048,
			  phys_addr(avail) + 2048 - shift);
		ready();
		set_desc(0, phys_addr(report), record_size(2), 0, 0);
		((struct vring_avail *)((char *)avail + 2048))->idx = RING_SIZE;
		notify();
		GET(common->device_status);

		/* The used ring over the descriptors */
		begin(wanted_features());
		set_good_queue();
		set_queue(RING_SIZE, at, phys_addr(avail), at + shift);
		ready();
		for (unsigned int i = 0; i < RING_SIZE; i++)
			set_desc(i, phys_addr(report), 64, 0, 0);
		for (unsigned int i = 0; i < RING_SIZE; i++)
			offer(i);
		notify();
		GET(common->device_status);

		/* The used ring over the report */
		begin(wanted_features());
		set_good_queue();
		set_queue(RING_SIZE, at, phys_addr(avail),
			  phys_addr(report) + shift);
		ready();
		set_desc(0, phys_addr(report), fill_report(2, 2), 0, 0);
		spoil(0);	/* not well-formed */
		for (unsigned int i = 0; i < RING_SIZE; i++)
			offer(0);
		notify();
		GET(common->device_status);
	}
}

static void queue_sizes(void)
{
	static const uint16_t sizes[] = { 0, 1, 2, 3, 31, 33, 64, 1024, 1025,
					  0x8000, 0xffff };

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		begin(wanted_features());
		set_good_queue();
		set_queue(sizes[i], phys_addr(desc), phys_addr(avail),
			  phys_addr(used));
		ready();
		set_desc(0, phys_addr(report), 1, 0, 0);
		try_desc(0, false);
		GET(common->device_status);
	}
}

/* Enabled twice, moved while in use, and with values that mean nothing */
static void queue_changes(void)
{
	start(wanted_features());
	set_desc(0, phys_addr(report), 1, 0, 0);
	try_desc(0, true);
	set_queue(RING_SIZE, ram_end, ram_end, ram_end);
	try_desc(0, false);
	set_queue(2, phys_addr(desc), phys_addr(avail), phys_addr(used));
	try_desc(0, false);
	SET(common->queue_enable, 0);
	SET(common->queue_enable, 0xffff);
	try_desc(0, false);
	SET(common->queue_select, 0xffff);
	SET(common->queue_size, 1);
	SET(common->queue_enable, 1);
}

/* Before the device is ready, or without a queue, or for none that exists */
static void early_notifications(void)
{
	reset_device();
	notify();
	begin(wanted_features());
	notify();
	ready();
	notify();
	begin(wanted_features());
	set_good_queue();
	set_desc(0, phys_addr(report), 1, 0, 0);
	offer(0);
	notify();
	add_status(VIRTIO_CONFIG_S_FAILED);
	notify();
	start(wanted_features());
	for (unsigned int i = 0; i <= 0xffff; i += 0xf) {
		notify_queue(i);
		SET(*notify_register(0), i);
	}
}

static void config_writes(void)
{
	const size_t first = offsetof(struct virtio_balloon_config,
				      working_set_cmd_id);
	const size_t size = sizeof(struct virtio_balloon_config);
	uint8_t before[sizeof(struct virtio_balloon_config)];

	start(wanted_features());
	for (size_t i = first; i < size; i++)
		before[i] = GET(device_config[i]);
	for (size_t i = first; i < size + 64; i++)
		SET(device_config[i], 0xff);
	for (size_t i = first; i < size + 64; i += 4)
		SET(*(uint32_t *)(device_config + i), 0xaaaaaaaa);
	for (size_t i = first; i < size; i++) {
		if (GET(device_config[i]) != before[i])
			ksft_exit_fail_msg("byte %zu of the configuration can be written\n",
					   i);
	}
}

/* --- much, and at the same time ------------------------------------------ */

/* As many buffers as fit, all the same, again and again */
static void flood_with(size_t size)
{
	start(wanted_features());
	/* The device may look at any time. */
	describe_report(size);
	for (unsigned int sent = 0; sent < FLOOD; sent += RING_SIZE) {
		for (unsigned int i = 1; i < RING_SIZE; i++)
			offer(0);
		send_report(size);
	}
}

static void flood(void)
{
	fill_report(2, CHANGED_BINS);
	flood_with(record_size(CHANGED_BINS));	/* the second is missing */
}

static void flood_longest(void)
{
	size_t size = fill_report(MAX_RECORDS,
				  VIRTIO_BALLOON_WORKING_SET_MAX_BINS);

	spoil(size - record_size(VIRTIO_BALLOON_WORKING_SET_MAX_BINS));
	flood_with(size);
}

static void good_flood(void)
{
	flood_with(fill_report(2, CHANGED_BINS));
}

/* The device breaks and is reset. */
static void flood_errors(void)
{
	for (unsigned int i = 0; i < RESETS; i++) {
		start(wanted_features());
		offer(RING_SIZE);
		notify();
		wait_used();
	}
}

static bool stop;

static void *keep_offering(void *unused)
{
	(void)unused;
	while (!GET(stop)) {
		uint16_t index = GET(used->idx);

		if ((uint16_t)(avail->idx - index) < RING_SIZE / 2)
			offer(0);
	}
	return NULL;
}

static void in_background(pthread_t *thread, void *(*function)(void *))
{
	SET(stop, false);
	if (pthread_create(thread, NULL, function, NULL))
		ksft_exit_fail_msg("no thread\n");
}

/* New buffers for as long as the device takes buffers */
static void endless(void)
{
	double end = now_s() + ENDLESS_S;
	pthread_t thread;

	start(wanted_features());
	set_desc(0, phys_addr(report), 1, 0, 0);
	in_background(&thread, keep_offering);
	while (now_s() < end)
		notify();
	SET(stop, true);
	pthread_join(thread, NULL);
}

static void *keep_notifying(void *unused)
{
	(void)unused;
	while (!GET(stop)) {
		offer(0);
		SET(*notify_register(queue_index), queue_index);
	}
	return NULL;
}

/* Resets while the device works on reports */
static void reset_race(void)
{
	size_t size = fill_report(MAX_RECORDS,
				  VIRTIO_BALLOON_WORKING_SET_MAX_BINS);
	pthread_t thread;

	spoil(0);
	start(wanted_features());
	describe_report(size);
	in_background(&thread, keep_notifying);
	for (unsigned int i = 0; i < RESETS; i++) {
		start(wanted_features());
		describe_report(size);
		offer(0);
		notify();
	}
	SET(stop, true);
	pthread_join(thread, NULL);
}

static void *keep_changing(void *unused)
{
	struct virtio_balloon_working_set_hdr *hdr = (void *)report;

	(void)unused;
	while (!GET(stop)) {
		hdr->nr_bins ^= 0xffff;
		hdr->flags ^= VIRTIO_BALLOON_WORKING_SET_F_MORE;
	}
	return NULL;
}

/* The report changes while it is checked; it is never right. */
static void changes_while_read(void)
{
	size_t size = fill_report(2, CHANGED_BINS);
	pthread_t thread;

	spoil(size - record_size(CHANGED_BINS));
	start(wanted_features());
	in_background(&thread, keep_changing);
	for (unsigned int i = 0; i < FLOOD / 10; i++)
		send_report(size);
	SET(stop, true);
	pthread_join(thread, NULL);
}

/* --- main ---------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "good", good },
	{ "good-largest", good_largest },
	{ "good-flood", good_flood },
	{ "too-short", too_short },
	{ "too-long", too_long },
	{ "too-many-records", too_many_records },
	{ "longer-than-longest", longer_than_longest },
	{ "all-memory", all_memory },
	{ "not-accepted", not_accepted },
	{ "writable-part", writable_part },
	{ "writable-only", writable_only },
	{ "writable-before-readable", writable_before_readable },
	{ "no-length", no_length },
	{ "loop", loop },
	{ "next-out-of-range", next_out_of_range },
	{ "head-out-of-range", head_out_of_range },
	{ "available-jumps", available_jumps },
	{ "addresses", addresses },
	{ "addresses-in-chain", addresses_in_chain },
	{ "indirect-tables", indirect_tables },
	{ "indirect-loops", indirect_loops },
	{ "indirect-not-accepted", indirect_not_accepted },
	{ "ring-addresses", ring_addresses },
	{ "rings-overlap", rings_overlap },
	{ "queue-sizes", queue_sizes },
	{ "queue-changes", queue_changes },
	{ "early-notifications", early_notifications },
	{ "config-writes", config_writes },
	{ "changes-while-read", changes_while_read },
	{ "reset-race", reset_race },
	{ "flood", flood },
	{ "flood-longest", flood_longest },
	{ "flood-errors", flood_errors },
	{ "endless", endless },
};

static void list(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++)
		puts(cases[i].name);
	for (unsigned int i = 0; i < ARRAY_SIZE(changes); i++)
		puts(changes[i].name);
}

static bool run(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		if (!strcmp(name, cases[i].name)) {
			cases[i].run();
			return true;
		}
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(changes); i++) {
		if (!strcmp(name, changes[i].name)) {
			run_change(&changes[i]);
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	uint64_t features;

	if (argc == 2 && !strcmp(argv[1], "-l")) {
		list();
		return 0;
	}
	if (argc < 3) {
		fprintf(stderr, "usage: %s -l | DEVICE CASE...\n", argv[0]);
		return KSFT_FAIL;
	}

	get_memory();
	get_device(argv[1]);
	reset_device();
	features = offered();
	if (!(features & (1ULL << VIRTIO_BALLOON_F_WORKING_SET)))
		ksft_exit_fail_msg("%s does not take working set reports\n",
				   argv[1]);
	queue_index = 2 + !!(features & (1 << VIRTIO_BALLOON_F_STATS_VQ)) +
		      !!(features & (1 << VIRTIO_BALLOON_F_FREE_PAGE_HINT)) +
		      !!(features & (1 << VIRTIO_BALLOON_F_REPORTING));

	for (int i = 2; i < argc; i++) {
		if (!run(argv[i]))
			ksft_exit_fail_msg("no case %s\n", argv[i]);
		start(wanted_features());
		send_report(1);
		reset_device();
	}
	return KSFT_PASS;
}
