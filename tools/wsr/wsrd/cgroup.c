// SPDX-License-Identifier: GPL-2.0
/*
 * Control groups of containers and of QEMUs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cgroup.h"
#include "log.h"
#include "vm.h"

#define TICK_US		2000000
#define MAX_FILE	16384		/* of the files of a group */
#define MAX_LRU_GEN	(8 << 20)	/* that of all groups */
#define LRU_GEN_MS	1000		/* all groups share what was read */

const char *cgroups_relative(const struct cgroups *groups, const char *path)
{
	const char *root = groups->config->cgroup_root;
	size_t len = strlen(root);

	while (len && root[len - 1] == '/')
		len--;
	if (!strncmp(path, root, len) && path[len] == '/')
		path += len;
	return path + strspn(path, "/");
}

/* The whole file, or -1 with errno */
static int read_text(int directory, const char *name, char *text, size_t size)
{
	int fd = privileged_open(directory, name, O_RDONLY | O_NONBLOCK);
	size_t len = 0;
	ssize_t got;

	if (fd < 0)
		return -1;
	while ((got = read(fd, text + len, size - 1 - len)) > 0)
		len += got;
	close(fd);
	text[len] = '\0';
	return got < 0 ? -1 : 0;
}

static int read_number(const struct cgroup *group, const char *name,
		       uint64_t *number)
{
	char text[64];

	if (read_text(group->directory, name, text, sizeof(text)))
		return -1;
	return estimate_parse_number(text, number);
}

/* ---- What was changed ---- */

static uint64_t get_number(struct json_object *entry, const char *name)
{
	struct json_object *field;

	return json_object_object_get_ex(entry, name, &field) ?
	       json_object_get_uint64(field) : 0;
}

/* What is noted of this very group, or NULL */
static struct json_object *find_entry(const struct cgroup *group)
{
	struct json_object *entry;

	if (!json_object_object_get_ex(group->groups->changed, group->path,
				       &entry) ||
	    get_number(entry, "inode") != group->inode)
		return NULL;
	return entry;
}

/* Note a value of before. It is in the state file when this returns. */
static void add_entry(struct cgroup *group, const char *name, uint64_t value)
{
	struct cgroups *groups = group->groups;
	struct json_object *entry = find_entry(group);

	if (!entry) {
		entry = json_object_new_object();
		json_object_object_add(entry, "inode",
				       json_object_new_uint64(group->inode));
		json_object_object_add(groups->changed, group->path, entry);
	}
	json_object_object_add(entry, name, json_object_new_uint64(value));
	groups->save(groups->owner);
}

static void restored(void *arg, int error, int fd)
{
	struct cgroups *groups = arg;

	(void)fd;
	groups->restoring--;
	/* A group that is gone needs nothing any more. */
	if (error && error != ENOENT && error != ENODEV)
		log_message(LOG_WARNING, "a control group can't be left as it was found: %s",
			    strerror(error));
}

static void send_restore(struct cgroups *groups, enum privileged_op op,
			 const char *path, const uint64_t *numbers,
			 unsigned int nr)
{
	if (!privileged_send(groups->privileged, op, path, numbers, nr,
			     restored, groups))
		groups->restoring++;
}

/* Return: whether that is done; else the entry is needed later on */
static bool restore(struct cgroups *groups, const char *path,
		    struct json_object *entry)
{
	int directory = privileged_open(privileged_root(groups->privileged),
					path, O_PATH | O_DIRECTORY);
	struct json_object *field;
	struct stat status;
	uint64_t high;

	if (directory < 0)
		return errno == ENOENT || errno == ENOTDIR;
	if (!fstat(directory, &status) &&
	    status.st_ino == get_number(entry, "inode")) {
		high = get_number(entry, "high");
		if (json_object_object_get_ex(entry, "high", &field))
			send_restore(groups, PRIVILEGED_HIGH, path, &high, 1);
		if (json_object_object_get_ex(entry, "intervals", &field))
			send_restore(groups, PRIVILEGED_INTERVALS, path, NULL,
				     0);
	}
	close(directory);
	return true;
}

void cgroups_restore(struct cgroups *groups, const char *path)
{
	struct json_object *entry;

	if (path) {
		if (!json_object_object_get_ex(groups->changed, path, &entry))
			return;
		if (restore(groups, path, entry))
			json_object_object_del(groups->changed, path);
		return;
	}
	json_object_object_foreach(groups->changed, name, value) {
		if (restore(groups, name, value))
			json_object_object_del(groups->changed, name);
	}
}

/* ---- Ages ---- */

static void got_lru_gen(void *arg, int error, int fd)
{
	struct cgroups *groups = arg;

	if (error && error != ENOENT)
		log_message(LOG_WARNING, "%s: %s: ages of control groups are not known as well",
			    groups->config->lru_gen_path, strerror(error));
	groups->lru_gen_fd = fd;
}

/* The generations of all groups, at most a second old; or NULL */
static const char *read_lru_gen(struct cgroups *groups)
{
	int64_t now_ms = monotonic_ms();
	size_t len = 0, size = 0;
	ssize_t got = 1;
	char *text;

	if (groups->lru_gen_fd < 0)
		return NULL;
	if (groups->lru_gen && now_ms - groups->lru_gen_ms < LRU_GEN_MS)
		return groups->lru_gen;
	if (lseek(groups->lru_gen_fd, 0, SEEK_SET) < 0)
		return NULL;
	while (got > 0 && len + 1 < MAX_LRU_GEN) {
		if (len + 1 >= size) {
			size = size ? 2 * size : 65536;
			text = realloc(groups->lru_gen, size);
			if (!text)
				break;
			groups->lru_gen = text;
		}
		got = read(groups->lru_gen_fd, groups->lru_gen + len,
			   size - 1 - len);
		if (got > 0)
			len += got;
	}
	if (!groups->lru_gen)
		return NULL;
	groups->lru_gen[len] = '\0';
	groups->lru_gen_ms = now_ms;
	return groups->lru_gen;
}

static void got_age(void *arg, int error, int fd)
{
	struct cgroups *groups = arg;

	(void)fd;
	/* Those that have aged by themselves meanwhile, or are gone, refuse. */
	if ((error != EROFS && error != EACCES && error != EPERM) ||
	    groups->told_of_age)
		return;
	groups->told_of_age = true;
	log_message(LOG_WARNING, "%s can't be written to: %s: ages of control groups are not known as well",
		    groups->config->lru_gen_path, strerror(error));
}

/*
 * Generations as old as half the age of the working set: the youngest two are
 * it. Each aging costs the kernel a walk over the group's page tables.
 */
static void age(struct cgroups *groups, const struct lru_gen_targets *targets)
{
	uint64_t due_ms = groups->config->policy.wss_age_ms / 2;

	for (unsigned int i = 0; i < targets->nr && !groups->dry_run; i++) {
		const struct lru_gen_target *target = &targets->list[i];
		uint64_t numbers[] = {
			target->memcg, target->node, target->generation
		};

		if (target->age_ms >= due_ms)
			privileged_send(groups->privileged, PRIVILEGED_AGE, "",
					numbers, 3, got_age, groups);
	}
}

/* Bytes of free swap space that the group may still use */
static uint64_t swap_free(const struct cgroup *group)
{
	uint64_t free = 0, max = UINT64_MAX, current = 0;
	char text[4096];
	const char *line;

	if (!read_text(AT_FDCWD, "/proc/meminfo", text, sizeof(text))) {
		line = strstr(text, "SwapFree:");
		if (line)
			free = strtoull(line + strlen("SwapFree:"), NULL, 10)
			       << 10;
	}
	read_number(group, "memory.swap.max", &max);
	read_number(group, "memory.swap.current", &current);
	max = max > current ? max - current : 0;
	return max < free ? max : free;
}

static enum estimate_source take_lru_gen(struct cgroup *group,
					 const struct memory_stat *stat,
					 struct report_node *node)
{
	const char *text = read_lru_gen(group->groups);
	struct lru_gen_targets targets;
	char path[PRIVILEGED_PATH + 1];
	int failed;

	if (text) {
		snprintf(path, sizeof(path), "/%s", group->path);
		failed = estimate_lru_gen(text, path, sysconf(_SC_PAGESIZE),
					  stat, node, &targets);
		age(group->groups, &targets);
		if (!failed)
			return ESTIMATE_LRU_GEN;
	}
	estimate_stat(stat, node);
	return ESTIMATE_STAT;
}

static enum estimate_source make_estimate(struct cgroup *group,
					  struct report_node *node)
{
	char text[MAX_FILE], histogram[2048];
	enum estimate_source source;
	struct memory_stat stat;

	if (!read_text(group->directory, "memory.working_set.histogram",
		       histogram, sizeof(histogram)) &&
	    !read_text(group->directory, "memory.working_set.stat", text,
		       sizeof(text)) &&
	    !estimate_working_set(histogram, text, node))
		return ESTIMATE_WORKING_SET;
	if (read_text(group->directory, "memory.stat", text, sizeof(text)) ||
	    estimate_parse_stat(text, sysconf(_SC_PAGESIZE), &stat))
		return ESTIMATE_NONE;
	source = take_lru_gen(group, &stat, node);
	estimate_group(node, &stat, group->current, swap_free(group));
	return source;
}

static void estimate(struct cgroup *group)
{
	struct report_node node;
	enum estimate_source source = make_estimate(group, &node);

	if (source == ESTIMATE_NONE)
		return;
	group->file_backed = 0;
	for (unsigned int i = 0; i < node.nr_bins; i++)
		group->file_backed += node.bins[i].file_backed_bytes;
	group->handlers->estimate(group, &node, source);
}

/* The kernel looks at the group's memory only if somebody has set bounds. */
static void ask_for_ages(struct cgroup *group)
{
	uint64_t bounds_ms[ESTIMATE_BOUNDS];
	char text[256];

	if (group->groups->dry_run ||
	    read_text(group->directory, "memory.working_set.intervals_ms",
		      text, sizeof(text)) || text[strspn(text, " \n")])
		return;
	for (unsigned int i = 0; i < ESTIMATE_BOUNDS; i++)
		bounds_ms[i] = estimate_bound_ms(i);
	add_entry(group, "intervals", 1);
	privileged_send(group->groups->privileged, PRIVILEGED_INTERVALS,
			group->path, bounds_ms, ESTIMATE_BOUNDS, NULL, NULL);
}

/* ---- Pressure ---- */

static int on_pressure(sd_event_source *source, int fd, uint32_t revents,
		       void *arg)
{
	struct cgroup *group = arg;

	(void)source;
	(void)fd;
	/* An error: the group is gone. The timer notices. */
	if (revents & EPOLLERR)
		group->psi_source =
			sd_event_source_disable_unref(group->psi_source);
	else
		group->handlers->pressure(group);
	return 0;
}

static void got_psi(void *arg, int error, int fd)
{
	struct cgroup *group = arg;

	if (error) {
		log_message(LOG_INFO, "%s: no pressure trigger (%s): pressure is only seen every two seconds",
			    group->path, strerror(error));
		return;
	}
	sd_event_source_disable_unref(group->psi_source);
	group->psi_source = NULL;
	if (sd_event_add_io(group->groups->event, &group->psi_source, fd,
			    EPOLLPRI, on_pressure, group) < 0 ||
	    sd_event_source_set_io_fd_own(group->psi_source, true) < 0)
		close(fd);
}

static void start_psi(struct cgroup *group)
{
	const struct config *config = group->groups->config;
	uint64_t numbers[] = {
		config->pressure_us, config->pressure_window_us
	};

	group->psi_source = sd_event_source_disable_unref(group->psi_source);
	if (config->pressure_us)
		privileged_send(group->groups->privileged, PRIVILEGED_PSI,
				group->path, numbers, 2, got_psi, group);
}

/* ---- Its life ---- */

static void gone(struct cgroup *group)
{
	if (group->directory >= 0)
		close(group->directory);
	group->directory = -1;
	group->psi_source = sd_event_source_disable_unref(group->psi_source);
	group->high = UINT64_MAX;
	group->high_value = 0;
	group->high_waits = false;
	if (!group->present)
		return;
	group->present = false;
	group->handlers->facts(group);
}

static void tell_open_error(struct cgroup *group, int error)
{
	if (error == group->open_error)
		return;
	/* That there is none is no error: it may come. */
	if (error && error != ENOENT)
		log_message(LOG_WARNING, "the control group %s can't be opened: %s",
			    group->path, strerror(error));
	group->open_error = error;
	group->handlers->facts(group);
}

/* Return: 0, or -1: it is not there */
static int come(struct cgroup *group)
{
	struct cgroups *groups = group->groups;
	struct json_object *entry, *field;
	struct stat status;

	group->directory = privileged_open(privileged_root(groups->privileged),
					   group->path, O_PATH | O_DIRECTORY);
	if (group->directory < 0) {
		tell_open_error(group, errno);
		return -1;
	}
	if (fstat(group->directory, &status))
		return -1;
	tell_open_error(group, 0);
	group->inode = status.st_ino;
	entry = find_entry(group);
	if (!entry)
		json_object_object_del(groups->changed, group->path);
	/* It is still as we have left it. */
	else if (json_object_object_get_ex(entry, "high", &field))
		read_number(group, "memory.high", &group->high);
	group->estimated_ms = 0;
	start_psi(group);
	ask_for_ages(group);
	return 0;
}

static int read_facts(struct cgroup *group)
{
	char text[512];

	if (group->directory < 0 ||
	    read_number(group, "memory.current", &group->current))
		return -1;
	if (read_number(group, "memory.max", &group->limit))
		group->limit = UINT64_MAX;
	if (!config_swaps(group->groups->config) ||
	    read_number(group, "memory.swap.current", &group->swapped))
		group->swapped = 0;
	group->psi = -1;
	if (!read_text(group->directory, "memory.pressure", text, sizeof(text)))
		group->psi = estimate_parse_psi(text);
	return 0;
}

static void send_high(struct cgroup *group);

/*
 * systemd sets all properties of a service again when its configuration is read
 * again (daemon-reload), as every installation of a package does. What was left
 * as it was found is not ours any more.
 */
static void keep_high(struct cgroup *group)
{
	const uint64_t page_size = sysconf(_SC_PAGESIZE);
	struct json_object *entry = find_entry(group), *field;
	uint64_t high;

	if (!group->high_value || group->groups->dry_run || !entry ||
	    !json_object_object_get_ex(entry, "high", &field))
		return;
	/* The kernel rounds. */
	if (group->high != UINT64_MAX &&
	    !read_number(group, "memory.high", &high) &&
	    high / page_size != group->high_value / page_size)
		group->high_waits = true;
	if (group->high_waits)
		send_high(group);
}

static void look(struct cgroup *group)
{
	int64_t now_ms = monotonic_ms();

	if (read_facts(group)) {
		/* Another one of the same name may be there already. */
		gone(group);
		if (come(group) || read_facts(group)) {
			gone(group);
			return;
		}
	}
	group->present = true;
	group->handlers->facts(group);
	keep_high(group);
	if (!group->estimated_ms || now_ms - group->estimated_ms >=
	    group->groups->config->interval_ms) {
		group->estimated_ms = now_ms;
		estimate(group);
	}
}

static int on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	look(arg);
	sd_event_source_set_time(source, usec + TICK_US);
	return 0;
}

struct cgroup *cgroup_new(struct cgroups *groups, const char *path,
			  const struct cgroup_handlers *handlers, void *owner)
{
	struct cgroup *group = calloc(1, sizeof(*group));

	if (!group)
		return NULL;
	group->groups = groups;
	group->handlers = handlers;
	group->owner = owner;
	group->directory = -1;
	group->high = UINT64_MAX;
	group->psi = -1;
	group->path = strdup(cgroups_relative(groups, path));
	/* Those of many groups do not come together. */
	if (!group->path ||
	    sd_event_add_time_relative(groups->event, &group->timer,
				       CLOCK_MONOTONIC,
				       (uintptr_t)group / 64 % 50 * 1000, 50000,
				       on_timer, group) < 0 ||
	    sd_event_source_set_enabled(group->timer, SD_EVENT_ON) < 0) {
		cgroup_free(group);
		return NULL;
	}
	return group;
}

bool cgroup_is(const struct cgroup *group, const char *path)
{
	return !strcmp(group->path, cgroups_relative(group->groups, path));
}

void cgroup_reload(struct cgroup *group)
{
	if (group->present)
		start_psi(group);
}

void cgroup_free(struct cgroup *group)
{
	if (!group)
		return;
	privileged_forget(group->groups->privileged, group);
	sd_event_source_disable_unref(group->timer);
	sd_event_source_disable_unref(group->psi_source);
	if (group->directory >= 0)
		close(group->directory);
	free(group->path);
	free(group);
}

/* ---- Writes ---- */

static void high_done(void *arg, int error, int fd)
{
	struct cgroup *group = arg;

	(void)fd;
	/* A later value took its place. */
	if (error == ECANCELED)
		return;
	if (error && error != EBUSY && error != group->high_error)
		log_message(LOG_WARNING, "%s: memory.high can't be set: %s",
			    group->path, strerror(error));
	group->high_error = error;
	if (error && group->present)
		group->high_waits = true;
}

static void send_high(struct cgroup *group)
{
	group->high_waits =
		privileged_send(group->groups->privileged, PRIVILEGED_HIGH,
				group->path, &group->high_value, 1, high_done,
				group) != 0;
}

void cgroup_set_high(struct cgroup *group, uint64_t bytes)
{
	struct json_object *entry, *field;
	uint64_t before;

	if (!group->present)
		return;
	entry = find_entry(group);
	if (entry && json_object_object_get_ex(entry, "high", &field)) {
		before = json_object_get_uint64(field);
	} else {
		if (read_number(group, "memory.high", &before))
			return;
		add_entry(group, "high", before);
	}
	group->high = bytes;
	group->high_value = bytes < before ? bytes : before;
	send_high(group);
}

static void reclaim_done(void *arg, int error, int fd)
{
	struct cgroup *group = arg;

	(void)fd;
	group->reclaiming = false;
	/* Less than asked for, or no time for it: no news for anybody */
	if (error == EAGAIN || error == EBUSY || error == ECANCELED)
		error = 0;
	if (error && error != group->reclaim_error)
		log_message(LOG_WARNING, "%s: memory.reclaim: %s", group->path,
			    strerror(error));
	group->reclaim_error = error;
	look(group);
}

bool cgroup_reclaim(struct cgroup *group, uint64_t bytes)
{
	if (!group->present || group->reclaiming)
		return false;
	group->reclaiming =
		!privileged_send(group->groups->privileged, PRIVILEGED_RECLAIM,
				 group->path, &bytes, 1, reclaim_done, group);
	return group->reclaiming;
}

void cgroups_start(struct cgroups *groups, struct json_object *changed)
{
	groups->changed = json_object_is_type(changed, json_type_object) ?
			  json_object_get(changed) : json_object_new_object();
	groups->lru_gen_fd = -1;
	if (groups->config->lru_gen_path)
		privileged_send(groups->privileged, PRIVILEGED_LRU_GEN, "",
				NULL, 0, got_lru_gen, groups);
}

void cgroups_stop(struct cgroups *groups)
{
	privileged_forget(groups->privileged, groups);
	if (groups->lru_gen_fd >= 0)
		close(groups->lru_gen_fd);
	free(groups->lru_gen);
	json_object_put(groups->changed);
}
