/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One guest of wsrd: its QMP conversation on the event loop, and the facts that
 * wsr_plan() needs of it.
 *
 *	guest.c: connection, reports ──► vm_handlers (manager.c)
 *	vm.c: size, balloon, migration, commands
 */
#ifndef WSRD_VM_H
#define WSRD_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../guest.h"
#include "../lib/policy.h"
#include "estimate.h"

struct vm;

/**
 * struct vm_handlers - what the manager wants to hear of
 * @changed:	@actual_bytes, @migrating or @running changed; or the VM is known
 *		or not @known any more
 * @report:	a good report came
 * @rebooted:	the guest starts anew
 * @statistics:	new numbers of the balloon, of a guest without reports
 */
struct vm_handlers {
	void (*changed)(struct vm *vm);
	void (*report)(struct vm *vm, const struct report *report);
	void (*rebooted)(struct vm *vm);
	void (*statistics)(struct vm *vm);
};

/**
 * struct vm - one guest
 * @owner:	for the handlers
 * @name:	of the configuration or the socket, unique
 * @known:	its size and its balloon are known: it can be planned
 * @gone:	nobody listens on its socket: there is no such QEMU any more
 * @pid:	of its QEMU, 0: not known (a TCP connection)
 * @size_bytes:	memory that it was started with
 * @actual_bytes: less its balloon
 * @migrating:	in either direction
 * @has_reports: its balloon offers working set reports
 * @deflate_on_oom: it deflates by itself before the guest kills anybody
 * @is_container: there is no QEMU: the owner sets all facts
 * @has_stat:	@stat is known
 * @error:	the last command that failed, in words, or empty
 */
struct vm {
	void *owner;
	const struct vm_handlers *handlers;
	int epoll_fd;
	int io_fd;			/* watched there, or -1 */
	uint32_t io_events;

	char name[GUEST_NAME];
	struct guest guest;
	struct guest_options options;

	bool known;
	bool gone;
	pid_t pid;
	uint64_t size_bytes;
	uint64_t actual_bytes;
	bool migrating;
	bool has_reports;
	bool deflate_on_oom;
	bool is_container;
	bool has_stat;
	struct balloon_stat stat;
	char error[256];

	uint32_t size_id;
	uint32_t actual_id;
	uint32_t migrate_id;
	uint32_t stat_id;
	uint32_t deflate_id;
	bool stat_asked;		/* the device was told to ask for them */
	uint32_t balloon_id;		/* 0: the last was answered */
	uint32_t reclaim_id;		/* command */
	uint32_t reclaim_request;	/* number of the guest's request */
	int64_t asked_ms;		/* facts were asked for */
	uint64_t sent_bytes;		/* balloon target, 0: none was sent */
};

/**
 * vm_new - begin to look after the guest behind a socket
 * @epoll_fd:	its connection is watched there, with the VM as data
 * @spec:	SOCKET or NAME=SOCKET
 *
 * It connects with the first vm_tick().
 *
 * Return: the VM, or NULL with the reason in @error.
 */
struct vm *vm_new(int epoll_fd, const char *spec,
		  const struct guest_options *options,
		  const struct vm_handlers *handlers, void *owner,
		  char *error, size_t size);

/**
 * vm_new_container - containers in a control group, which look like a guest
 * whose facts are set by the owner
 *
 * Return: NULL if memory ran out.
 */
struct vm *vm_new_container(const char *name,
			    const struct vm_handlers *handlers, void *owner);

void vm_free(struct vm *vm);

/** vm_tick - do what is due; to be called about every VM_TICK_MS */
void vm_tick(struct vm *vm);

#define VM_TICK_MS	500

/** vm_io - epoll reported @events for its connection */
void vm_io(struct vm *vm, uint32_t events);

/** vm_set_balloon - let the guest have @bytes; the answer is not waited for */
void vm_set_balloon(struct vm *vm, uint64_t bytes);

/** vm_reclaim - ask the guest to reclaim what was idle for @age_ms */
void vm_reclaim(struct vm *vm, uint64_t bytes, uint32_t age_ms);

/** vm_set_bounds - other bins from now on */
void vm_set_bounds(struct vm *vm, const uint32_t *bounds_ms, unsigned int nr);

/** vm_lacks_reports - is it known that its guest sends none? */
bool vm_lacks_reports(const struct vm *vm);

/** vm_connected - can commands be sent? */
bool vm_connected(const struct vm *vm);

/** vm_rss - memory that its QEMU occupies on the host, 0: not known */
uint64_t vm_rss(const struct vm *vm);

/**
 * vm_swapped - what the host has swapped out of its QEMU, 0: not known
 * @group_bytes: memory.swap.current of its control group, 0: it has none
 */
uint64_t vm_swapped(const struct vm *vm, uint64_t group_bytes);

/** monotonic_ms - of the clock of all times in wsrd */
int64_t monotonic_ms(void);

#endif
