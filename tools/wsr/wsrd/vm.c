// SPDX-License-Identifier: GPL-2.0
/*
 * One guest of wsrd: its QMP conversation on the event loop.
 */
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "../text.h"
#include "vm.h"

#define FACTS_MS	10000	/* between questions, for what has no event */
#define STATISTICS_S	10	/* between the guest's statistics */

int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

bool vm_lacks_reports(const struct vm *vm)
{
	switch (vm->guest.state) {
	case GUEST_NO_DEVICE:
	case GUEST_PROPERTY_OFF:
	case GUEST_OLD_QEMU:
	case GUEST_REFUSED:
	case GUEST_INACTIVE:
	case GUEST_UNSUPPORTED:
		return true;
	default:
		return false;
	}
}

bool vm_connected(const struct vm *vm)
{
	return vm->guest.qmp.state == QMP_READY;
}

/* The descriptor and what is waited for change with the connection. */
static void watch(struct vm *vm)
{
	struct qmp *qmp = &vm->guest.qmp;
	struct epoll_event event = { .data.ptr = vm };
	short wanted;

	/* A descriptor that was closed is not watched any more. */
	if (vm->io_fd != qmp->fd)
		vm->io_fd = -1;
	if (qmp->fd < 0)
		return;
	wanted = qmp_poll_events(qmp);
	if (wanted & POLLIN)
		event.events |= EPOLLIN;
	if (wanted & POLLOUT)
		event.events |= EPOLLOUT;
	if (vm->io_fd == qmp->fd && vm->io_events == event.events)
		return;
	/* A new connection may have the number of the old one. */
	if (epoll_ctl(vm->epoll_fd, EPOLL_CTL_MOD, qmp->fd, &event) &&
	    epoll_ctl(vm->epoll_fd, EPOLL_CTL_ADD, qmp->fd, &event))
		return;
	vm->io_fd = qmp->fd;
	vm->io_events = event.events;
}

/*
 * The process of QEMU. A proxy tells it, but only root's and our own: a QEMU must
 * not make us look at others.
 */
static pid_t find_pid(const struct qmp *qmp)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(qmp->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return 0;
	if (qmp->pid > 0 && qmp->pid <= INT_MAX &&
	    (!peer.uid || peer.uid == geteuid()))
		return qmp->pid;
	return peer.pid;
}

uint64_t vm_rss(const struct vm *vm)
{
	unsigned long long size, resident;
	char path[64];
	int found;
	FILE *file;

	if (vm->pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/statm", (int)vm->pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	found = fscanf(file, "%llu %llu", &size, &resident);
	fclose(file);
	return found == 2 ? resident * sysconf(_SC_PAGESIZE) : 0;
}

uint64_t vm_swapped(const struct vm *vm, uint64_t group_bytes)
{
	char path[64], status[4096] = "";
	size_t len;
	FILE *file;

	if (vm->pid > 0) {
		snprintf(path, sizeof(path), "/proc/%d/status", (int)vm->pid);
		file = fopen(path, "re");
		if (file) {
			len = fread(status, 1, sizeof(status) - 1, file);
			status[len] = '\0';
			fclose(file);
		}
	}
	return estimate_swapped(status, group_bytes);
}

/* All that can be had of a guest without reports */
static void ask_statistics(struct vm *vm, int64_t now_ms)
{
	struct guest *guest = &vm->guest;
	struct json_object *arguments;

	if (!*guest->device)
		return;
	if (!vm->stat_asked) {
		vm->stat_asked = true;
		guest_qom_set(guest, "guest-stats-polling-interval",
			      json_object_new_int(STATISTICS_S), now_ms);
		return;
	}
	arguments = json_object_new_object();
	json_object_object_add(arguments, "path",
			       json_object_new_string(guest->device));
	json_object_object_add(arguments, "property",
			       json_object_new_string("guest-stats"));
	vm->stat_id = guest_command(guest, "qom-get", arguments, now_ms);
}

/* What QEMU does not tell by itself, and what an event may have missed */
static void ask_facts(struct vm *vm, int64_t now_ms)
{
	struct guest *guest = &vm->guest;

	vm->asked_ms = now_ms;
	if (!vm->size_bytes)
		vm->size_id = guest_command(guest, "query-memory-size-summary",
					    NULL, now_ms);
	vm->actual_id = guest_command(guest, "query-balloon", NULL, now_ms);
	vm->migrate_id = guest_command(guest, "query-migrate", NULL, now_ms);
	if (vm_lacks_reports(vm))
		ask_statistics(vm, now_ms);
}

static void on_ready(struct guest *guest)
{
	struct vm *vm = guest->owner;

	vm->has_reports = guest->step == STEP_RUN;
	vm->gone = false;
	vm->pid = find_pid(&guest->qmp);
	if (*guest->device)
		vm->deflate_id = guest_qom_get(guest, "deflate-on-oom",
					       monotonic_ms());
	ask_facts(vm, monotonic_ms());
}

static void on_report(struct guest *guest, const struct report *report)
{
	struct vm *vm = guest->owner;

	if (report->status == REPORT_OK)
		vm->handlers->report(vm, report);
}

static uint64_t get_bytes(struct json_object *data, const char *name)
{
	struct json_object *field;

	if (!json_object_object_get_ex(data, name, &field) ||
	    !json_object_is_type(field, json_type_int) ||
	    json_object_get_int64(field) < 0)
		return 0;
	return json_object_get_uint64(field);
}

static void set_actual(struct vm *vm, uint64_t bytes)
{
	if (!bytes || bytes == vm->actual_bytes)
		return;
	vm->actual_bytes = bytes;
	vm->known = vm->size_bytes && vm->actual_bytes;
	vm->handlers->changed(vm);
}

static void set_migrating(struct vm *vm, const char *status)
{
	static const char * const busy[] = {
		"setup", "active", "device", "postcopy-active",
		"postcopy-paused", "postcopy-recover", "pre-switchover",
		"cancelling", "wait-unplug", "completed",
	};
	bool migrating = false;

	for (size_t i = 0; i < sizeof(busy) / sizeof(busy[0]); i++)
		migrating |= !strcmp(status, busy[i]);
	/* A guest that came by migration has "completed" for ever. */
	if (!strcmp(status, "completed") && !vm->guest.paused)
		migrating = false;
	if (migrating == vm->migrating)
		return;
	vm->migrating = migrating;
	vm->handlers->changed(vm);
}

static void take_migration(struct vm *vm, struct json_object *data)
{
	struct json_object *status;

	if (json_object_object_get_ex(data, "status", &status) &&
	    json_object_is_type(status, json_type_string))
		set_migrating(vm, json_object_get_string(status));
}

/* UINT64_MAX: the guest's driver does not know it. */
static uint64_t get_statistic(struct json_object *stats, const char *name)
{
	struct json_object *field;

	if (!json_object_object_get_ex(stats, name, &field) ||
	    !json_object_is_type(field, json_type_int))
		return UINT64_MAX;
	/* QEMU's -1 comes as 2^64 - 1, or as it is. */
	return json_object_get_int64(field) < 0 ? UINT64_MAX :
						  json_object_get_uint64(field);
}

static void take_statistics(struct vm *vm, struct json_object *data)
{
	struct json_object *stats, *updated;

	/* Without a last update, the driver has not sent any. */
	if (!json_object_object_get_ex(data, "stats", &stats) ||
	    !json_object_object_get_ex(data, "last-update", &updated) ||
	    !json_object_get_int64(updated))
		return;
	vm->stat = (struct balloon_stat) {
		.total = get_statistic(stats, "stat-total-memory"),
		.free = get_statistic(stats, "stat-free-memory"),
		.caches = get_statistic(stats, "stat-disk-caches"),
		.swap_in = get_statistic(stats, "stat-swap-in"),
	};
	vm->has_stat = vm->stat.total != UINT64_MAX &&
		       vm->stat.free <= vm->stat.total;
	if (vm->has_stat)
		vm->handlers->statistics(vm);
}

static void on_event(struct guest *guest, const char *event,
		     struct json_object *data)
{
	struct vm *vm = guest->owner;

	if (!strcmp(event, "BALLOON_CHANGE"))
		set_actual(vm, get_bytes(data, "actual"));
	else if (!strcmp(event, "MIGRATION"))
		take_migration(vm, data);
	else if (!strcmp(event, "RESET"))
		vm->handlers->rebooted(vm);
}

static void on_answer(struct guest *guest, uint32_t id,
		      struct json_object *data, const char *error)
{
	struct vm *vm = guest->owner;

	if (id == vm->balloon_id || id == vm->reclaim_id)
		snprintf(vm->error, sizeof(vm->error), "%s", error ? error : "");
	if (id == vm->balloon_id)
		vm->balloon_id = 0;
	if (error)
		return;
	if (id == vm->size_id) {
		vm->size_bytes = get_bytes(data, "base-memory") +
				 get_bytes(data, "plugged-memory");
		vm->known = vm->size_bytes && vm->actual_bytes;
		if (vm->known)
			vm->handlers->changed(vm);
	} else if (id == vm->actual_id) {
		set_actual(vm, get_bytes(data, "actual"));
	} else if (id == vm->migrate_id) {
		take_migration(vm, data);
	} else if (id == vm->stat_id) {
		take_statistics(vm, data);
	} else if (id == vm->deflate_id) {
		vm->deflate_on_oom = json_object_get_boolean(data);
		if (vm->known)
			vm->handlers->changed(vm);
	}
}

static void lost(struct vm *vm)
{
	vm->balloon_id = 0;
	vm->stat_asked = false;
	if (!vm->gone && vm->guest.qmp.failure == QMP_FAIL_CONNECT) {
		/* Nobody listens: this QEMU has ended. */
		vm->gone = true;
		vm->known = false;
		vm->size_bytes = 0;
		vm->actual_bytes = 0;
		vm->pid = 0;
		vm->sent_bytes = 0;
		vm->has_stat = false;
		vm->handlers->changed(vm);
	}
}

void vm_io(struct vm *vm, uint32_t events)
{
	short poll_events = 0;

	if (events & EPOLLIN)
		poll_events |= POLLIN;
	if (events & EPOLLOUT)
		poll_events |= POLLOUT;
	if (events & (EPOLLERR | EPOLLHUP))
		poll_events |= POLLIN | POLLHUP;
	guest_io(&vm->guest, poll_events, monotonic_ms());
	if (vm->guest.qmp.state == QMP_CLOSED) {
		vm->io_fd = -1;
		lost(vm);
	}
	watch(vm);
}

void vm_tick(struct vm *vm)
{
	int64_t now_ms = monotonic_ms();

	if (vm->is_container)
		return;
	guest_tick(&vm->guest, now_ms);
	if (vm->guest.qmp.state == QMP_CLOSED)
		lost(vm);
	else if (vm_connected(vm) && vm->asked_ms &&
		 now_ms - vm->asked_ms >= FACTS_MS)
		ask_facts(vm, now_ms);
	watch(vm);
}

struct vm *vm_new(int epoll_fd, const char *spec,
		  const struct guest_options *options,
		  const struct vm_handlers *handlers, void *owner,
		  char *error, size_t size)
{
	static const struct guest_handlers guest_handlers = {
		.report = on_report,
		.ready = on_ready,
		.event = on_event,
		.answer = on_answer,
	};
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		snprintf(error, size, "out of memory");
		return NULL;
	}
	vm->owner = owner;
	vm->handlers = handlers;
	vm->epoll_fd = epoll_fd;
	vm->io_fd = -1;
	vm->options = *options;
	if (guest_init(&vm->guest, &vm->options, spec, &guest_handlers)) {
		snprintf(error, size, "%s", vm->guest.qmp.error);
		free(vm);
		return NULL;
	}
	vm->guest.owner = vm;
	vm->reclaim_request = vm->guest.request_id;	/* random */
	snprintf(vm->name, sizeof(vm->name), "%s", vm->guest.name);
	return vm;
}

struct vm *vm_new_container(const char *name,
			    const struct vm_handlers *handlers, void *owner)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->owner = owner;
	vm->handlers = handlers;
	vm->io_fd = -1;
	vm->is_container = true;
	vm->guest.qmp.fd = -1;
	text_escape(vm->name, sizeof(vm->name), name, false);
	return vm;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	guest_close(&vm->guest);
	free(vm);
}

void vm_set_balloon(struct vm *vm, uint64_t bytes)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, "value",
			       json_object_new_int64(bytes));
	vm->balloon_id = guest_command(&vm->guest, "balloon", arguments,
				       monotonic_ms());
	if (vm->balloon_id)
		vm->sent_bytes = bytes;
	watch(vm);
}

void vm_reclaim(struct vm *vm, uint64_t bytes, uint32_t age_ms)
{
	struct json_object *value = json_object_new_object();

	if (!++vm->reclaim_request)
		vm->reclaim_request++;
	json_object_object_add(value, "id",
			       json_object_new_int64(vm->reclaim_request));
	json_object_object_add(value, "max-bytes",
			       json_object_new_int64(bytes));
	json_object_object_add(value, "idle-age-ms",
			       json_object_new_int64(age_ms));
	vm->reclaim_id = guest_qom_set(&vm->guest, "guest-working-set-reclaim",
				       value, monotonic_ms());
	watch(vm);
}

void vm_set_bounds(struct vm *vm, const uint32_t *bounds_ms, unsigned int nr)
{
	memcpy(vm->options.bounds_ms, bounds_ms, nr * sizeof(*bounds_ms));
	vm->options.nr_bounds = nr;
	guest_reconfigure(&vm->guest, monotonic_ms());
	watch(vm);
}
