// SPDX-License-Identifier: GPL-2.0
/*
 * Facts in, actions out.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "log.h"
#include "manager.h"
#include "trace.h"

#define PERIOD_US	1000000
#define TICK_US		50000
#define IO_BATCH	64
/* Idle pages count until so many intervals, and so much, went by without. */
#define IDLE_MISSED	3
#define IDLE_LATE_MS	5000
#define SCAN_MS		5000	/* for new sockets */
#define SAVE_MS		5000
/* The PSI trigger tells that the host is short; it is believed so long. */
#define PRESSED_MS	5000
/* Other bins cost a search for samples in the guest: not often. */
#define BOUNDS_MS	120000
/*
 * A report is pressure if refaults are so much above the SLO, and no more memory
 * is free than kernels keep free for themselves.
 */
#define PRESSURE_SLO	10
#define PRESSURE_FREE	(16 << 20)
#define PRESSURE_FREE_PART	32

struct managed *manager_find(struct manager *manager, const char *name)
{
	for (size_t i = 0; i < manager->nr_vms; i++) {
		if (!strcmp(manager->vms[i]->vm->name, name))
			return manager->vms[i];
	}
	return NULL;
}

struct wsr_vm *manager_plan(struct manager *manager,
			    const struct managed *managed)
{
	return managed->plan < 0 ? NULL : &manager->plan[managed->plan];
}

static int reserve(struct manager *manager, size_t nr)
{
	size_t size = manager->plan_size ? 2 * manager->plan_size : 16;
	void *array;

	if (nr <= manager->plan_size)
		return 0;
#define GROW(field, count) do { \
	array = realloc(manager->field, (count) * sizeof(*manager->field)); \
	if (!array) \
		return -1; \
	manager->field = array; \
} while (0)
	GROW(plan, size);
	GROW(plan_vms, size);
	GROW(scratch, size);
	GROW(actions, size * WSR_MAX_ACTIONS);
#undef GROW
	manager->plan_size = size;
	return 0;
}

/* What was decided before a restart, if the guest still has it */
static void restore(struct managed *managed, struct wsr_vm *plan)
{
	if (!managed->saved_target)
		return;
	plan->alpha = managed->saved_alpha;
	plan->peak_x = managed->saved_peak_x;
	plan->target_bytes = managed->saved_target;
	if (plan->target_bytes < plan->actual_bytes / 2)
		plan->target_bytes = plan->actual_bytes;
}

static void enter_plan(struct manager *manager, struct managed *managed)
{
	const struct vm *vm = managed->vm;

	if (reserve(manager, manager->nr_plan + 1)) {
		log_message(LOG_ERR, "out of memory: %s is not managed",
			vm->name);
		return;
	}
	managed->plan = manager->nr_plan++;
	manager->plan_vms[managed->plan] = managed;
	wsr_vm_init(&manager->plan[managed->plan], &managed->policy,
		    vm->size_bytes, vm->actual_bytes, monotonic_ms());
	restore(managed, &manager->plan[managed->plan]);
	managed->source = ESTIMATE_NONE;
	managed->check = CHECK_UNKNOWN;
	log_message(LOG_INFO, "%s: %" PRIu64 " of %" PRIu64 " MiB, %s",
		vm->name, vm->actual_bytes >> 20, vm->size_bytes >> 20,
		vm->is_container ? "containers" :
		vm->has_reports ? "reports its working set" :
		vm->guest.why);
}

/* The last one takes its place. */
static void leave_plan(struct manager *manager, struct managed *managed)
{
	size_t place = managed->plan, last = manager->nr_plan - 1;

	if (managed->plan < 0)
		return;
	trace_gone(manager, managed->vm->name);
	managed->plan = -1;
	managed->saved_target = 0;
	manager->nr_plan--;
	if (place == last)
		return;
	manager->plan[place] = manager->plan[last];
	manager->plan_vms[place] = manager->plan_vms[last];
	manager->plan_vms[place]->plan = place;
}

static void plan_soon(struct manager *manager)
{
	sd_event_source_set_enabled(manager->soon, SD_EVENT_ONESHOT);
}

/* What its control group says, if it has one */
static void update_group(const struct managed *managed, struct wsr_vm *plan)
{
	const struct cgroup *group = managed->group;

	if (!group || !group->present) {
		plan->has_cgroup = false;
		plan->high_bytes = UINT64_MAX;
		plan->psi = -1;
		return;
	}
	/* Limits of before a restart are still there. */
	if (!plan->has_cgroup)
		plan->high_bytes = group->high;
	plan->has_cgroup = true;
	plan->psi = group->psi;
	if (managed->policy.actuator != WSR_CGROUP)
		return;
	/* QEMU itself needs some, too. */
	plan->actual_bytes = group->current;
	if (plan->size_bytes < group->current)
		plan->size_bytes = group->current;
}

static void on_changed(struct vm *vm)
{
	struct managed *managed = vm->owner;
	struct manager *manager = managed->manager;
	struct wsr_vm *plan;

	if (!vm->known) {
		if (managed->plan >= 0)
			log_message(LOG_INFO, "%s: gone", vm->name);
		leave_plan(manager, managed);
		/* The next QEMU there begins without a limit of ours. */
		if (managed->group && !manager->dry_run)
			cgroups_restore(&manager->groups,
					managed->group->path);
		return;
	}
	if (managed->plan < 0)
		enter_plan(manager, managed);
	plan = manager_plan(manager, managed);
	if (!plan)
		return;
	plan->size_bytes = vm->size_bytes;
	plan->deflate_on_oom = vm->deflate_on_oom;
	plan->actual_bytes = vm->actual_bytes;
	plan->migrating = vm->migrating;
	update_group(managed, plan);
	trace_vm(manager, managed);
}

/* What kernels keep free for themselves */
static uint64_t kept_free(uint64_t total)
{
	uint64_t kept = total / PRESSURE_FREE_PART;

	return kept > PRESSURE_FREE ? kept : PRESSURE_FREE;
}

/*
 * One that was asked for tells the same as one that was not, but it comes every
 * few seconds: it must not look as if the guest was short again and again.
 */
static bool is_pressure(const struct wsr_vm *plan,
			const struct wsr_config *config,
			const struct report_node *node, bool asked_for,
			int64_t now_ms)
{
	double tolerated = plan->config->slo * plan->why.wss / 60;

	if (asked_for && plan->pressure_ms != WSR_NEVER &&
	    now_ms - plan->pressure_ms < config->pressure_again_ms)
		return false;
	return plan->free < kept_free(node->total_bytes) &&
	       plan->refault_rate > PRESSURE_SLO * tolerated;
}

static void look_for_pressure(struct managed *managed, struct wsr_vm *plan,
			      const struct report_node *node, bool asked_for)
{
	struct manager *manager = managed->manager;
	int64_t now_ms = monotonic_ms();

	if (!is_pressure(plan, &manager->config->policy, node, asked_for,
			 now_ms))
		return;
	trace_pressure(manager, managed);
	wsr_vm_pressure(plan, now_ms);
	plan_soon(manager);
}

/* Bins where decisions are made: around the age of the cut */
static void recentre(struct manager *manager, struct managed *managed,
		     const struct wsr_vm *plan, int64_t now_ms)
{
	uint32_t bounds_ms[REPORT_MAX_BINS - 1];
	unsigned int nr = manager->config->bins - 1;
	double cut_x = fmin(fmax(plan->why.cut_x, plan->why.slo_x),
			    WSR_GRID_MAX_X);

	if (now_ms - managed->bounds_ms < BOUNDS_MS || !plan->why.desired)
		return;
	memcpy(bounds_ms, managed->vm->options.bounds_ms, sizeof(bounds_ms));
	if (!wsr_recentre(bounds_ms, nr, cut_x,
			  wsr_x_of_ms(manager->config->policy.wss_age_ms)))
		return;
	managed->bounds_ms = now_ms;
	vm_set_bounds(managed->vm, bounds_ms, nr);
}

/* Return: 0, or -1: it can't be true. */
static int take_report(struct managed *managed, struct wsr_vm *plan,
		       const struct report_node *node,
		       enum estimate_source source, int64_t data_ms)
{
	struct manager *manager = managed->manager;
	const char *wrong;

	/* The ages of one are not to be mixed with those of the other. */
	if (managed->source != source && managed->source != ESTIMATE_NONE)
		wsr_vm_rebooted(plan, data_ms);
	trace_report(manager, managed, node, data_ms);
	wrong = wsr_vm_report(plan, &manager->config->policy, node, data_ms);
	if (!wrong) {
		managed->source = source;
		return 0;
	}
	/* Said once for each kind: a guest can send them without end. */
	if (managed->bad_reason != wrong)
		log_message(LOG_WARNING, "%s: report refused: %s",
			managed->vm->name, wrong);
	managed->bad_reason = wrong;
	managed->bad_reports++;
	return -1;
}

static void on_report(struct vm *vm, const struct report *report)
{
	struct managed *managed = vm->owner;
	struct manager *manager = managed->manager;
	struct wsr_vm *plan = manager_plan(manager, managed);
	int64_t now_ms = monotonic_ms();

	if (!plan || take_report(managed, plan, &report->guest, ESTIMATE_GUEST,
				 vm->guest.data_ms))
		return;
	recentre(manager, managed, plan, now_ms);
	look_for_pressure(managed, plan, &report->guest, report->request_id);
}

static void on_rebooted(struct vm *vm)
{
	struct managed *managed = vm->owner;
	struct wsr_vm *plan = manager_plan(managed->manager, managed);

	if (plan)
		wsr_vm_rebooted(plan, monotonic_ms());
}

/* A guest without reports: its balloon's numbers, and ages of the host's */
static void take_estimate(struct managed *managed, struct wsr_vm *plan,
			  const struct report_node *group,
			  enum estimate_source source)
{
	const struct vm *vm = managed->vm;
	struct report_node node;

	source = estimate_guest(&node, vm->actual_bytes,
				vm->has_stat ? &vm->stat : NULL, group, source);
	if (source != ESTIMATE_NONE &&
	    !take_report(managed, plan, &node, source, monotonic_ms()))
		look_for_pressure(managed, plan, &node, true);
}

bool manager_samples(const struct managed *managed)
{
	int64_t interval_ms = managed->manager->config->interval_ms;

	return managed->idle_pid && managed->idle_ms &&
	       monotonic_ms() - managed->idle_ms <
	       IDLE_MISSED * interval_ms + IDLE_LATE_MS;
}

static void on_statistics(struct vm *vm)
{
	struct managed *managed = vm->owner;
	struct wsr_vm *plan = manager_plan(managed->manager, managed);

	/* Otherwise they are used when the ages come. */
	if (plan && managed->source != ESTIMATE_WORKING_SET &&
	    managed->source != ESTIMATE_LRU_GEN && !manager_samples(managed) &&
	    managed->policy.actuator != WSR_CGROUP)
		take_estimate(managed, plan, NULL, ESTIMATE_NONE);
}

static const struct vm_handlers vm_handlers = {
	.changed = on_changed,
	.report = on_report,
	.rebooted = on_rebooted,
	.statistics = on_statistics,
};

static void tell_group_error(struct vm *vm, const struct cgroup *group)
{
	char *why = vm->guest.why;
	size_t size = sizeof(vm->guest.why);

	if (group->present || !group->open_error)
		*why = '\0';
	else if (group->open_error == ENOENT)
		snprintf(why, size, "there is no control group %s",
			 group->path);
	else
		snprintf(why, size, "the control group %s can't be opened: %s",
			 group->path, strerror(group->open_error));
}

static void on_group_facts(struct cgroup *group)
{
	struct managed *managed = group->owner;
	struct manager *manager = managed->manager;
	struct vm *vm = managed->vm;
	uint64_t limit = group->limit;
	struct wsr_vm *plan;

	if (vm->is_container) {
		if (limit > manager->host.total_bytes)
			limit = manager->host.total_bytes;
		vm->known = group->present;
		vm->gone = !group->present;
		vm->size_bytes = limit > group->current ? limit :
							  group->current;
		vm->actual_bytes = group->current;
		vm->guest.state = group->present ? GUEST_REPORTING :
						   GUEST_DISCONNECTED;
		tell_group_error(vm, group);
		/* Only the reason is new. */
		if (!group->present && managed->plan < 0)
			return;
		on_changed(vm);
		return;
	}
	plan = manager_plan(manager, managed);
	if (plan)
		update_group(managed, plan);
}

/* Is what a guest says true? */
static void cross_check(struct managed *managed, struct wsr_vm *plan,
			const struct report_node *node)
{
	double x = wsr_x_of_ms(managed->manager->config->policy.wss_age_ms);
	struct wsr_curve seen;

	if (!plan->has_report)
		return;
	wsr_curve_from_report(&seen, node);
	managed->check = estimate_check(plan->actual_bytes,
		wsr_curve_all_younger(&plan->curve, x) + plan->fixed,
		wsr_curve_all_younger(&seen, x));
	plan->doubted = managed->check == CHECK_USES_LESS;
}

static void on_group_estimate(struct cgroup *group,
			      const struct report_node *node,
			      enum estimate_source source)
{
	struct managed *managed = group->owner;
	struct wsr_vm *plan = manager_plan(managed->manager, managed);
	bool container = managed->vm->is_container;
	bool has_ages = source != ESTIMATE_STAT;

	managed->group_ages = has_ages;
	if (!plan)
		return;
	if (!container && !vm_lacks_reports(managed->vm)) {
		if (has_ages)
			cross_check(managed, plan, node);
		return;
	}
	if (!container && managed->policy.actuator != WSR_CGROUP) {
		if (has_ages || !manager_samples(managed))
			take_estimate(managed, plan, has_ages ? node : NULL,
				      source);
		return;
	}
	if (plan->size_bytes < node->total_bytes)
		plan->size_bytes = node->total_bytes;
	take_report(managed, plan, node, source, monotonic_ms());
}

/* ---- Idle pages ---- */

/* Ages by them are for VMs of which nobody else on the host knows some. */
static bool needs_samples(const struct managed *managed)
{
	const struct vm *vm = managed->vm;
	bool group_ages = managed->group && managed->group->present &&
			  managed->group_ages;

	return vm->known && vm->pid > 0 && !vm->is_container && !group_ages;
}

/* Tell the sampling child if that has changed. */
static void update_samples(struct manager *manager, struct managed *managed,
			   bool needed)
{
	pid_t pid = needed ? managed->vm->pid : 0;
	uint64_t size = needed ? managed->vm->size_bytes : 0;

	if (managed->idle_pid == pid && managed->idle_size == size)
		return;
	if (managed->idle_pid && managed->idle_pid != pid) {
		if (idle_client_watch(&manager->idle, managed->idle_pid, 0, 0))
			return;
		managed->idle_pid = 0;
		managed->idle_ms = 0;
	}
	if (pid && idle_client_watch(&manager->idle, pid, size,
				     manager->config->interval_ms))
		return;
	managed->idle_pid = pid;
	managed->idle_size = size;
}

static struct managed *find_process(struct manager *manager, pid_t pid)
{
	for (size_t i = 0; i < manager->nr_vms; i++) {
		if (manager->vms[i]->idle_pid == pid)
			return manager->vms[i];
	}
	return NULL;
}

static void on_idle(void *owner, pid_t pid, const char *text)
{
	struct manager *manager = owner;
	struct managed *managed = find_process(manager, pid);
	struct wsr_vm *plan;
	struct report_node node;

	/* It may be just after it was not needed any more. */
	plan = managed ? manager_plan(manager, managed) : NULL;
	if (!plan || !needs_samples(managed))
		return;
	if (!text || estimate_idle(text, &node, &managed->idle)) {
		managed->idle_ms = 0;
		return;
	}
	managed->idle_ms = monotonic_ms();
	node.warming_up = managed->idle.since_ms <
			  manager->config->policy.wss_age_ms;
	if (vm_lacks_reports(managed->vm)) {
		if (managed->policy.actuator != WSR_CGROUP)
			take_estimate(managed, plan, &node, ESTIMATE_IDLE);
	} else if (!node.warming_up) {
		cross_check(managed, plan, &node);
	}
}

static void on_group_pressure(struct cgroup *group)
{
	struct managed *managed = group->owner;
	struct wsr_vm *plan = manager_plan(managed->manager, managed);

	if (!plan)
		return;
	/* What the host swaps in is waited for as well. More is no help then. */
	if (plan->swapped_bytes && plan->has_report &&
	    !managed->vm->is_container &&
	    plan->free >= kept_free(plan->actual_bytes))
		return;
	wsr_vm_pressure(plan, monotonic_ms());
	plan_soon(managed->manager);
}

static const struct cgroup_handlers group_handlers = {
	.facts = on_group_facts,
	.estimate = on_group_estimate,
	.pressure = on_group_pressure,
};

static void set_group(struct manager *manager, struct managed *managed,
		      const char *path)
{
	if (managed->group && path && cgroup_is(managed->group, path)) {
		cgroup_reload(managed->group);
		return;
	}
	if (managed->group && !manager->dry_run)
		cgroups_restore(&manager->groups, managed->group->path);
	cgroup_free(managed->group);
	managed->group_ages = false;
	managed->group = path ? cgroup_new(&manager->groups, path,
					   &group_handlers, managed) : NULL;
	if (path && !managed->group)
		log_message(LOG_ERR, "out of memory: the control group of %s is not watched",
			managed->vm->name);
}

static void set_policy(struct manager *manager, struct managed *managed)
{
	const char *path;

	managed->policy = config_for_vm(manager->config, managed->vm->name,
					&path);
	if (managed->vm->is_container)
		managed->policy.actuator = WSR_CGROUP;
	set_group(manager, managed, path);
}

static void recall(struct manager *manager, struct managed *managed)
{
	struct json_object *vms, *entry, *field;

	if (!json_object_object_get_ex(manager->saved, "vms", &vms) ||
	    !json_object_object_get_ex(vms, managed->vm->name, &entry))
		return;
	if (json_object_object_get_ex(entry, "target", &field))
		managed->saved_target = json_object_get_uint64(field);
	managed->saved_alpha = 1;
	if (json_object_object_get_ex(entry, "alpha", &field))
		managed->saved_alpha = fmin(fmax(json_object_get_double(field),
						 0.05), 1.5);
	if (json_object_object_get_ex(entry, "peak-x", &field))
		managed->saved_peak_x = fmin(fmax(json_object_get_double(field),
						  0), WSR_GRID_MAX_X);
}

/* With room for it in @manager->vms */
static struct managed *new_managed(struct manager *manager)
{
	struct managed **vms, *managed;

	vms = realloc(manager->vms, (manager->nr_vms + 1) * sizeof(*vms));
	if (!vms)
		return NULL;
	manager->vms = vms;
	managed = calloc(1, sizeof(*managed));
	if (!managed)
		return NULL;
	managed->manager = manager;
	managed->plan = -1;
	managed->bounds_ms = monotonic_ms();
	return managed;
}

static void add_container(struct manager *manager, const char *name)
{
	struct managed *managed = new_managed(manager);

	if (!managed)
		return;
	managed->vm = vm_new_container(name, &vm_handlers, managed);
	if (!managed->vm) {
		free(managed);
		return;
	}
	manager->vms[manager->nr_vms++] = managed;
	set_policy(manager, managed);
	recall(manager, managed);
}

static struct managed *add_vm(struct manager *manager, const char *spec,
			      bool from_glob)
{
	struct guest_options options = {
		.interval_ms = manager->config->interval_ms,
		.timeout_ms = 10000,
		.set_report = true,
		.report_ms = manager->config->report_ms,
		.on_exit = GUEST_EXIT_STOP,
	};
	struct managed *managed;
	char error[QMP_ERROR];

	options.nr_bounds = manager->config->bins - 1;
	wsr_first_bounds(options.bounds_ms, options.nr_bounds);
	managed = new_managed(manager);
	if (!managed)
		return NULL;
	managed->from_glob = from_glob;
	managed->vm = vm_new(manager->epoll_fd, spec, &options, &vm_handlers,
			     managed, error, sizeof(error));
	if (!managed->vm) {
		log_message(LOG_ERR, "%s: %s", spec, error);
		free(managed);
		return NULL;
	}
	if (manager_find(manager, managed->vm->name)) {
		log_message(LOG_ERR, "%s: there are two VMs called %s; rename the socket or use [vm NAME] qmp = ...",
			spec, managed->vm->name);
		vm_free(managed->vm);
		free(managed);
		return NULL;
	}
	manager->vms[manager->nr_vms++] = managed;
	set_policy(manager, managed);
	recall(manager, managed);
	return managed;
}

static void remove_vm(struct manager *manager, size_t i)
{
	struct managed *managed = manager->vms[i];

	leave_plan(manager, managed);
	update_samples(manager, managed, false);
	cgroup_free(managed->group);
	vm_free(managed->vm);
	free(managed);
	manager->vms[i] = manager->vms[--manager->nr_vms];
}

static bool has_socket(const struct manager *manager, const char *path)
{
	for (size_t i = 0; i < manager->nr_vms; i++) {
		if (!strcmp(manager->vms[i]->vm->guest.qmp.path, path))
			return true;
	}
	return false;
}

/* New sockets come, and those that nobody listens on any more are forgotten. */
static void scan(struct manager *manager)
{
	const struct config *config = manager->config;

	for (size_t i = 0; i < config->nr_vms; i++) {
		const struct config_vm *vm = &config->vms[i];
		char spec[512];

		if (vm->is_cgroup && !manager_find(manager, vm->pattern))
			add_container(manager, vm->pattern);
		if (!vm->qmp || has_socket(manager, vm->qmp))
			continue;
		snprintf(spec, sizeof(spec), "%s=%s", vm->pattern, vm->qmp);
		add_vm(manager, spec, false);
	}
	for (unsigned int i = 0; i < config->nr_qmp; i++) {
		glob_t found = { 0 };

		if (!glob(config->qmp[i], GLOB_NOSORT, NULL, &found)) {
			for (size_t j = 0; j < found.gl_pathc; j++) {
				if (!has_socket(manager, found.gl_pathv[j]))
					add_vm(manager, found.gl_pathv[j],
					       true);
			}
		}
		globfree(&found);
	}
	for (size_t i = 0; i < manager->nr_vms;) {
		struct managed *managed = manager->vms[i];

		if (managed->from_glob && managed->vm->gone &&
		    access(managed->vm->guest.qmp.path, F_OK))
			remove_vm(manager, i);
		else
			i++;
	}
}

static uint64_t meminfo(const char *text, const char *name)
{
	const char *line = strstr(text, name);

	return line ? strtoull(line + strlen(name), NULL, 10) << 10 : 0;
}

/* 0 if there is no such file */
static uint64_t read_limit(const char *directory, const char *name)
{
	char path[4096], text[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return strncmp(text, "max", 3) ? strtoull(text, NULL, 10) : UINT64_MAX;
}

/* 0 if there is no limit either */
static uint64_t read_number(const char *directory, const char *name)
{
	uint64_t number = read_limit(directory, name);

	return number == UINT64_MAX ? 0 : number;
}

/*
 * What it has of the host's memory that is not available to others. What QEMU
 * needs for itself is not: nobody can give that to a VM.
 */
static uint64_t used_bytes(const struct manager *manager,
			   const struct managed *managed)
{
	const struct cgroup *group = managed->group;
	uint64_t rss, most = managed->vm->actual_bytes, out;

	if (!managed->vm->is_container) {
		rss = vm_rss(managed->vm);
		out = managed->plan < 0 ? 0 :
		      manager->plan[managed->plan].swapped_bytes;
		most -= out < most ? out : most;
		return rss < most ? rss : most;
	}
	if (!group || !group->present || group->file_backed > group->current)
		return 0;
	return group->current - group->file_backed;
}

/* What the host has swapped out of it */
static uint64_t swapped_bytes(const struct managed *managed)
{
	const struct cgroup *group = managed->group;

	return vm_swapped(managed->vm,
			  group && group->present ? group->swapped : 0);
}

static void read_meminfo(char *text, size_t size)
{
	int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t len = 0;

	if (fd >= 0) {
		len = read(fd, text, size - 1);
		close(fd);
	}
	text[len > 0 ? len : 0] = '\0';
}

/* What may be in swap space at most: there is no more of it than @free. */
static void update_swap(struct manager *manager, double free)
{
	const struct config *config = manager->config;
	struct wsr_host *host = &manager->host;

	if (config->memory_cgroup) {
		double limit = read_limit(config->memory_cgroup,
					  "memory.swap.max");

		free = fmin(free, fmax(limit - read_number(config->memory_cgroup,
						"memory.swap.current"), 0));
	}
	for (size_t i = 0; i < manager->nr_plan; i++)
		free += manager->plan[i].swapped_bytes;
	host->swap_bytes = fmin(fmax(config->swap_bytes, config->swap_part *
				     host->total_bytes), free);
}

/*
 * The memory that VMs may share. If it is configured it is for them alone; a
 * host also has others, which are what is neither available nor a VM's.
 */
static void update_host(struct manager *manager)
{
	const struct config *config = manager->config;
	struct wsr_host *host = &manager->host;
	uint64_t available, vms = 0;
	char text[4096];

	host->swap_bytes = 0;
	host->reserved_bytes = config->reserve_bytes;
	host->other_bytes = 0;
	host->pressed = manager->pressed_ms &&
		monotonic_ms() - manager->pressed_ms < PRESSED_MS;
	host->total_bytes = config->memory_bytes;
	if (!host->total_bytes && config->memory_cgroup)
		host->total_bytes = read_number(config->memory_cgroup,
						"memory.max");
	if (host->total_bytes && !config_swaps(config))
		return;
	read_meminfo(text, sizeof(text));
	if (host->total_bytes) {
		update_swap(manager, meminfo(text, "SwapFree:"));
		return;
	}
	host->total_bytes = meminfo(text, "MemTotal:");
	available = meminfo(text, "MemAvailable:");
	for (size_t i = 0; i < manager->nr_vms; i++)
		vms += used_bytes(manager, manager->vms[i]);
	if (host->total_bytes > available + vms)
		host->other_bytes = host->total_bytes - available - vms;
	update_swap(manager, meminfo(text, "SwapFree:"));
}

static void note(struct manager *manager, const struct wsr_action *action)
{
	struct done *done =
		&manager->done[manager->nr_done++ % MANAGER_ACTIONS];

	*done = (struct done) {
		.time_s = time(NULL),
		.kind = action->kind,
		.grows = action->grows,
		.bytes = action->bytes,
		.age_ms = action->age_ms,
		.reason = action->reason,
	};
	snprintf(done->name, sizeof(done->name), "%s",
		 manager->plan_vms[action->vm]->vm->name);
	manager->counts[action->kind][action->reason]++;
}

static void carry_out(struct manager *manager, const struct wsr_action *action)
{
	struct cgroup *group = manager->plan_vms[action->vm]->group;
	struct vm *vm = manager->plan_vms[action->vm]->vm;

	if (manager->dry_run) {
		note(manager, action);
		return;
	}
	switch (action->kind) {
	case WSR_SET_BALLOON:
		vm_set_balloon(vm, action->bytes);
		break;
	case WSR_RECLAIM_GUEST:
		vm_reclaim(vm, action->bytes, action->age_ms);
		break;
	case WSR_RECLAIM_CGROUP:
		/* Asked for again and again until memory is gone */
		if (!group || !cgroup_reclaim(group, action->bytes))
			return;
		break;
	case WSR_SET_HIGH:
		if (group)
			cgroup_set_high(group, action->bytes);
		break;
	}
	note(manager, action);
}

static void count_stalls(struct manager *manager)
{
	for (size_t i = 0; i < manager->nr_plan; i++) {
		struct managed *managed = manager->plan_vms[i];
		bool stuck = manager->plan[i].stall == WSR_STALLED;

		if (stuck && !managed->stuck)
			managed->stalls++;
		managed->stuck = stuck;
	}
}

static void run_plan(struct manager *manager)
{
	struct timespec before, after;
	size_t nr;

	update_host(manager);
	trace_host(manager);
	clock_gettime(CLOCK_MONOTONIC, &before);
	nr = manager->policy->plan(&manager->host, manager->plan,
				   manager->nr_plan, &manager->config->policy,
				   monotonic_ms(), manager->scratch,
				   manager->actions);
	clock_gettime(CLOCK_MONOTONIC, &after);
	manager->plans++;
	manager->planned_ms = monotonic_ms();
	manager->plan_us += (after.tv_sec - before.tv_sec) * 1000000 +
			    (after.tv_nsec - before.tv_nsec) / 1000;
	trace_plan(manager, manager->actions, nr);
	count_stalls(manager);
	for (size_t i = 0; i < nr; i++)
		carry_out(manager, &manager->actions[i]);
}

static void save_vm(struct json_object *vms, const char *name,
		    uint64_t target_bytes, double alpha, double peak_x)
{
	struct json_object *entry = json_object_new_object();

	json_object_object_add(entry, "target",
			       json_object_new_int64(target_bytes));
	json_object_object_add(entry, "alpha", json_object_new_double(alpha));
	json_object_object_add(entry, "peak-x", json_object_new_double(peak_x));
	json_object_object_add(vms, name, entry);
}

void manager_save(struct manager *manager)
{
	struct json_object *state = json_object_new_object();
	struct json_object *vms = json_object_new_object();
	const char *path = manager->config->state_path;
	char temporary[4096];
	int failed = 0;

	manager->saved_ms = monotonic_ms();
	json_object_object_add(state, "vms", vms);
	json_object_object_add(state, "cgroups",
			       json_object_get(manager->groups.changed));
	for (size_t i = 0; i < manager->nr_vms; i++) {
		const struct managed *managed = manager->vms[i];
		const struct wsr_vm *plan = manager_plan(manager, managed);

		/* Also of one that has not connected since the last restart */
		if (plan)
			save_vm(vms, managed->vm->name, plan->target_bytes,
				plan->alpha, plan->peak_x);
		else if (managed->saved_target)
			save_vm(vms, managed->vm->name, managed->saved_target,
				managed->saved_alpha, managed->saved_peak_x);
	}
	/* A crash must leave the old or the new state, not a part of it. */
	if (snprintf(temporary, sizeof(temporary), "%s.new", path) <
	    (int)sizeof(temporary)) {
		failed = json_object_to_file_ext(temporary, state,
						 JSON_C_TO_STRING_PRETTY) ||
			 rename(temporary, path);
		if (failed)
			log_message(LOG_WARNING, "%s: the state can't be saved: %s",
				path, strerror(errno));
	}
	json_object_put(state);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	struct manager *manager = arg;
	int64_t now_ms = monotonic_ms();
	uint64_t now_us;

	if (now_ms - manager->scanned_ms >= SCAN_MS) {
		manager->scanned_ms = now_ms;
		scan(manager);
	}
	run_plan(manager);
	if (now_ms - manager->saved_ms >= SAVE_MS)
		manager_save(manager);
	sd_event_now(manager->event, CLOCK_MONOTONIC, &now_us);
	sd_event_source_set_time(source, usec + PERIOD_US > now_us ?
				 usec + PERIOD_US : now_us + PERIOD_US);
	return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct epoll_event events[IO_BATCH];
	int nr;

	(void)source;
	(void)revents;
	(void)arg;
	nr = epoll_wait(fd, events, IO_BATCH, 0);
	for (int i = 0; i < nr; i++)
		vm_io(events[i].data.ptr, events[i].events);
	return 0;
}

static void tick(struct manager *manager, struct managed *managed)
{
	struct wsr_vm *plan;
	uint64_t swapped;

	vm_tick(managed->vm);
	if (manager->idle.fd >= 0)
		update_samples(manager, managed, needs_samples(managed));
	plan = manager_plan(manager, managed);
	if (!plan)
		return;
	swapped = config_swaps(manager->config) ? swapped_bytes(managed) : 0;
	if (swapped == plan->swapped_bytes)
		return;
	plan->swapped_bytes = swapped;
	trace_vm(manager, managed);
}

/* A part of the VMs each time, so that their work does not come at once */
static int on_tick(sd_event_source *source, uint64_t usec, void *arg)
{
	struct manager *manager = arg;
	size_t nr = manager->nr_vms / (VM_TICK_MS * 1000 / TICK_US) + 1;

	for (; nr && manager->nr_vms; nr--) {
		if (manager->ticked >= manager->nr_vms)
			manager->ticked = 0;
		tick(manager, manager->vms[manager->ticked++]);
	}
	(void)usec;
	sd_event_source_set_time_relative(source, TICK_US);
	return 0;
}

static int on_soon(sd_event_source *source, void *arg)
{
	(void)source;
	run_plan(arg);
	return 0;
}

static int on_psi(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct manager *manager = arg;

	(void)fd;
	if (revents & EPOLLERR) {
		/* The control group is gone. */
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
		return 0;
	}
	manager->pressed_ms = monotonic_ms();
	plan_soon(manager);
	return 0;
}

static void got_psi(void *arg, int error, int fd)
{
	struct manager *manager = arg;

	if (!error && sd_event_add_io(manager->event, &manager->psi, fd,
				      EPOLLPRI, on_psi, manager) >= 0 &&
	    sd_event_source_set_io_fd_own(manager->psi, true) >= 0)
		return;
	if (fd >= 0)
		close(fd);
	/* The host's pressure is only seen in what is free then. */
	log_message(LOG_WARNING, "no pressure trigger of the host (%s); [host] pressure = off says so",
		strerror(error));
}

static void start_psi(struct manager *manager)
{
	const struct config *config = manager->config;
	const char *path = config->memory_cgroup;
	uint64_t numbers[] = {
		config->pressure_us, config->pressure_window_us
	};

	path = path ? cgroups_relative(&manager->groups, path) : "";
	if (config->pressure_us)
		privileged_send(manager->groups.privileged, PRIVILEGED_PSI,
				path, numbers, 2, got_psi, manager);
}

static void stop_psi(struct manager *manager)
{
	privileged_forget(manager->groups.privileged, manager);
	manager->psi = sd_event_source_disable_unref(manager->psi);
}

/* In the configuration of now and in the one of wsrd's start */
static void start_sampling(struct manager *manager)
{
	manager->idle.fd = -1;
	if (config_idle_root(manager->config))
		idle_client_start(&manager->idle, manager->event,
				  manager->groups.privileged, on_idle, manager);
}

static void stop_sampling(struct manager *manager)
{
	idle_client_stop(&manager->idle);
	for (size_t i = 0; i < manager->nr_vms; i++) {
		manager->vms[i]->idle_pid = 0;
		manager->vms[i]->idle_size = 0;
		manager->vms[i]->idle_ms = 0;
	}
}

/* What is known of pages is kept. */
static void reload_sampling(struct manager *manager)
{
	if (manager->idle.fd < 0 || !config_idle_root(manager->config)) {
		stop_sampling(manager);
		start_sampling(manager);
		return;
	}
	/* So that each is told the interval again */
	for (size_t i = 0; i < manager->nr_vms; i++)
		manager->vms[i]->idle_size = 0;
}

static void save(void *owner)
{
	manager_save(owner);
}

int manager_start(struct manager *manager, sd_event *event,
		  struct config *config, struct privileged *privileged,
		  char *error)
{
	struct json_object *changed = NULL;

	memset(manager, 0, sizeof(*manager));
	manager->event = event;
	manager->config = config;
	manager->policy = wsr_policy_find(config->policy_name);
	manager->dry_run = config->dry_run;
	manager->saved = json_object_from_file(config->state_path);
	if (!manager->saved && !access(config->state_path, F_OK))
		log_message(LOG_WARNING, "%s: the state of before can't be read: limits that are in force are taken for somebody else's",
			    config->state_path);
	manager->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (manager->epoll_fd < 0 ||
	    sd_event_add_io(event, &manager->io, manager->epoll_fd, EPOLLIN,
			    on_io, manager) < 0 ||
	    sd_event_add_time_relative(event, &manager->tick, CLOCK_MONOTONIC,
				       0, 10000, on_tick, manager) < 0 ||
	    sd_event_source_set_enabled(manager->tick, SD_EVENT_ON) < 0 ||
	    sd_event_add_defer(event, &manager->soon, on_soon, manager) < 0 ||
	    sd_event_source_set_enabled(manager->soon, SD_EVENT_OFF) < 0 ||
	    sd_event_add_time_relative(event, &manager->timer, CLOCK_MONOTONIC,
				       0, 10000, on_timer, manager) < 0 ||
	    sd_event_source_set_enabled(manager->timer, SD_EVENT_ON) < 0) {
		snprintf(error, CONFIG_ERROR, "no timers");
		return -1;
	}
	manager->scanned_ms = -SCAN_MS;
	manager->groups = (struct cgroups) {
		.event = event,
		.privileged = privileged,
		.config = config,
		.dry_run = config->dry_run,
		.save = save,
		.owner = manager,
	};
	json_object_object_get_ex(manager->saved, "cgroups", &changed);
	cgroups_start(&manager->groups, changed);
	update_host(manager);
	start_psi(manager);
	start_sampling(manager);
	return 0;
}

/* Containers that the configuration does not name any more */
static void drop_containers(struct manager *manager)
{
	const struct config *config = manager->config;

	for (size_t i = 0; i < manager->nr_vms;) {
		struct managed *managed = manager->vms[i];
		bool found = !managed->vm->is_container;

		for (size_t j = 0; j < config->nr_vms && !found; j++)
			found = config->vms[j].is_cgroup &&
				!strcmp(config->vms[j].pattern,
					managed->vm->name);
		if (found) {
			i++;
			continue;
		}
		set_group(manager, managed, NULL);
		remove_vm(manager, i);
	}
}

void manager_reload(struct manager *manager, struct config *config)
{
	struct guest_options *options;

	stop_psi(manager);
	manager->config = config;
	manager->policy = wsr_policy_find(config->policy_name);
	manager->dry_run = config->dry_run;
	manager->groups.config = config;
	manager->groups.dry_run = config->dry_run;
	drop_containers(manager);
	for (size_t i = 0; i < manager->nr_vms; i++) {
		set_policy(manager, manager->vms[i]);
		options = &manager->vms[i]->vm->options;
		options->interval_ms = config->interval_ms;
		options->report_ms = config->report_ms;
	}
	start_psi(manager);
	reload_sampling(manager);
	manager->scanned_ms = -SCAN_MS;
	plan_soon(manager);
}

bool manager_release(struct manager *manager)
{
	if (manager->config->on_stop != ON_STOP_RELEASE || manager->dry_run)
		return false;
	/* Nothing is decided any more. */
	sd_event_source_set_enabled(manager->timer, SD_EVENT_OFF);
	sd_event_source_set_enabled(manager->soon, SD_EVENT_OFF);
	for (size_t i = 0; i < manager->nr_plan; i++) {
		struct vm *vm = manager->plan_vms[i]->vm;

		if (vm->is_container)
			continue;
		if (vm->actual_bytes < vm->size_bytes ||
		    (vm->sent_bytes && vm->sent_bytes < vm->size_bytes))
			vm_set_balloon(vm, vm->size_bytes);
	}
	cgroups_restore(&manager->groups, NULL);
	return true;
}

bool manager_released(const struct manager *manager)
{
	for (size_t i = 0; i < manager->nr_plan; i++) {
		if (manager->plan_vms[i]->vm->balloon_id)
			return false;
	}
	return !manager->groups.restoring;
}

void manager_stop(struct manager *manager)
{
	manager_save(manager);
	while (manager->nr_vms)
		remove_vm(manager, 0);
	stop_psi(manager);
	stop_sampling(manager);
	cgroups_stop(&manager->groups);
	sd_event_source_disable_unref(manager->timer);
	sd_event_source_disable_unref(manager->soon);
	sd_event_source_disable_unref(manager->tick);
	sd_event_source_disable_unref(manager->io);
	close(manager->epoll_fd);
	json_object_put(manager->saved);
	free(manager->vms);
	free(manager->plan);
	free(manager->plan_vms);
	free(manager->scratch);
	free(manager->actions);
}
