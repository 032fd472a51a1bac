/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Brings facts and decisions together: owns all VMs, calls wsr_plan() each
 * second and when something is urgent, and carries its actions out.
 */
#ifndef WSRD_MANAGER_H
#define WSRD_MANAGER_H

#include <systemd/sd-event.h>

#include "cgroup.h"
#include "config.h"
#include "idle_client.h"
#include "privileged.h"
#include "vm.h"

#define MANAGER_ACTIONS	64	/* that are remembered for wsrctl explain */
#define MANAGER_KINDS	(WSR_SET_HIGH + 1)

/**
 * struct managed - one VM and what is decided for it
 * @vm:		the guest
 * @plan:	position in manager.plan, or -1: not known well enough yet
 * @policy:	its settings
 * @group:	of its QEMU or its containers, or NULL
 * @from_glob:	found by a pattern: forgotten when it is gone
 * @saved_target: what it was given before a restart, 0: nothing
 * @source:	who says how old its memory is
 * @check:	what the host sees of a guest that reports
 * @group_ages:	its control group knows ages
 * @idle_pid, @idle_size: what sampling of idle pages was asked for; 0: nothing
 * @idle_ms:	when that said something last, 0: never; @idle is what
 * @bad_reports, @bad_reason: refused, and why the last one was
 * @stuck, @stalls: its balloon does not move; how often that began
 */
struct manager;

struct managed {
	struct manager *manager;
	struct vm *vm;
	ssize_t plan;
	struct wsr_vm_config policy;
	struct cgroup *group;
	bool from_glob;
	uint64_t saved_target;
	double saved_alpha;
	double saved_peak_x;
	enum estimate_source source;
	enum estimate_check check;
	bool group_ages;
	pid_t idle_pid;
	uint64_t idle_size;
	int64_t idle_ms;
	struct idle_facts idle;
	uint64_t bad_reports;
	const char *bad_reason;
	bool stuck;
	uint64_t stalls;
	int64_t bounds_ms;	/* when the bins were last changed */
};

/* Something that was done, for people */
struct done {
	int64_t time_s;		/* since the epoch */
	char name[GUEST_NAME];
	enum wsr_action_kind kind;
	bool grows;
	uint64_t bytes;
	uint32_t age_ms;
	enum wsr_reason reason;
};

struct store;

struct manager {
	sd_event *event;
	struct config *config;
	struct store *store;	/* history, or NULL */
	const struct wsr_policy *policy;
	bool dry_run;

	struct managed **vms;
	size_t nr_vms;

	/* For wsr_plan(): only those that are known */
	struct wsr_host host;
	struct wsr_vm *plan;
	struct managed **plan_vms;
	size_t nr_plan;
	size_t plan_size;
	struct wsr_scratch *scratch;
	struct wsr_action *actions;

	sd_event_source *timer;
	sd_event_source *soon;
	/*
	 * sd-event looks at all ready descriptors again for each one that it
	 * handles, which is a lot of work if many guests report at a time. So
	 * guests have an epoll of their own, which is one descriptor in the loop.
	 */
	int epoll_fd;
	sd_event_source *io;
	sd_event_source *tick;
	size_t ticked;			/* next VM that vm_tick() is due for */
	sd_event_source *psi;
	int64_t pressed_ms;
	int64_t scanned_ms;
	int64_t saved_ms;
	int64_t planned_ms;
	struct json_object *saved;	/* state of before, by name */
	struct cgroups groups;
	struct idle_client idle;

	struct trace *trace;		/* NULL: nobody records */

	uint64_t plans;
	uint64_t plan_us;		/* time spent in them */
	uint64_t counts[MANAGER_KINDS][WSR_NR_REASONS];	/* of actions */
	struct done done[MANAGER_ACTIONS];
	size_t nr_done;
};

/**
 * manager_start - begin
 * @config:	is used, not copied; manager_reload() replaces it
 * @privileged:	attached to @event, stopped after manager_stop()
 * @error:	CONFIG_ERROR bytes
 * Return: 0, or -1 with the reason in @error.
 */
int manager_start(struct manager *manager, sd_event *event,
		  struct config *config, struct privileged *privileged,
		  char *error);

/** manager_reload - another configuration; what is known of VMs stays */
void manager_reload(struct manager *manager, struct config *config);

/**
 * manager_release - give all memory back, if the configuration says so
 *
 * Return: whether there is something to wait for, by running the event loop
 * until manager_released(): a QEMU forgets commands of a client that is gone.
 */
bool manager_release(struct manager *manager);
bool manager_released(const struct manager *manager);

void manager_stop(struct manager *manager);

/** manager_find - by name, or NULL */
struct managed *manager_find(struct manager *manager, const char *name);

/** manager_samples - is memory of the VM sampled, so that its @idle is true? */
bool manager_samples(const struct managed *managed);

/** manager_plan - the facts and decisions for a VM, or NULL: not known yet */
struct wsr_vm *manager_plan(struct manager *manager,
			    const struct managed *managed);

/** manager_save - write the state file now */
void manager_save(struct manager *manager);

#endif
