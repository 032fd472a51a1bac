/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Control groups (version 2) of containers and of QEMUs: facts and ages in,
 * memory.high and memory.reclaim out. Reads are done here, writes by the
 * privileged process.
 *
 * A group may vanish at any moment, and come back as another one of the same
 * name. What memory.high was before wsrd changed it is in the state file before
 * the change is made, so that it can be restored even after wsrd was killed.
 */
#ifndef WSRD_CGROUP_H
#define WSRD_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <systemd/sd-event.h>

#include "config.h"
#include "estimate.h"
#include "privileged.h"

struct cgroup;
struct json_object;

/**
 * struct cgroup_handlers - what the manager wants to hear of
 * @facts:	new numbers; or the group has come or gone
 * @estimate:	ages, at the interval of reports
 * @pressure:	the group waits for memory
 */
struct cgroup_handlers {
	void (*facts)(struct cgroup *group);
	void (*estimate)(struct cgroup *group, const struct report_node *node,
			 enum estimate_source source);
	void (*pressure)(struct cgroup *group);
};

/**
 * struct cgroups - what all groups have in common
 * @config:	may change between calls
 * @changed:	what was changed and how it was before, by path; part of the
 *		state file
 * @save:	@changed must get there now
 * @restoring:	requests under way that cgroups_restore() made
 */
struct cgroups {
	sd_event *event;
	struct privileged *privileged;
	const struct config *config;
	bool dry_run;
	struct json_object *changed;
	void (*save)(void *owner);
	void *owner;
	unsigned int restoring;

	int lru_gen_fd;
	char *lru_gen;		/* its text, or NULL */
	int64_t lru_gen_ms;	/* when it was read */
	bool told_of_age;	/* that it can't be written to */
};

/**
 * struct cgroup - one group
 * @path:	relative to the root
 * @present:	it exists; the following numbers are valid
 * @current:	memory.current
 * @swapped:	memory.swap.current
 * @limit:	memory.max, UINT64_MAX: none
 * @high:	what we set memory.high to, UINT64_MAX: nothing
 * @file_backed: page cache among it
 * @psi:	part of the time that it waits for memory, less than 0: unknown
 */
struct cgroup {
	struct cgroups *groups;
	const struct cgroup_handlers *handlers;
	void *owner;
	char *path;
	int directory;
	sd_event_source *timer;
	sd_event_source *psi_source;

	bool present;
	int open_error;		/* an errno, or 0: it could be opened */
	ino_t inode;
	uint64_t current;
	uint64_t swapped;
	uint64_t limit;
	uint64_t high;
	uint64_t file_backed;
	double psi;

	bool high_waits;	/* to be sent */
	uint64_t high_value;	/* 0: nothing was sent */
	int high_error;
	bool reclaiming;
	int reclaim_error;
	int64_t estimated_ms;
};

/** cgroups_start - begin; the caller has set the first fields */
void cgroups_start(struct cgroups *groups, struct json_object *changed);

/**
 * cgroups_restore - undo what was changed
 * @path:	of a group, or NULL: of all; also those that nobody watches now
 */
void cgroups_restore(struct cgroups *groups, const char *path);

void cgroups_stop(struct cgroups *groups);

/** cgroups_relative - "/sys/fs/cgroup/a", "/a" and "a" are the same: "a" */
const char *cgroups_relative(const struct cgroups *groups, const char *path);

/**
 * cgroup_new - watch a group that may exist or not
 * @path:	relative to the root, or absolute and below it
 *
 * Return: NULL if memory ran out.
 */
struct cgroup *cgroup_new(struct cgroups *groups, const char *path,
			  const struct cgroup_handlers *handlers, void *owner);

/** cgroup_is - does @group watch @path? */
bool cgroup_is(const struct cgroup *group, const char *path);

/** cgroup_reload - the configuration has changed */
void cgroup_reload(struct cgroup *group);

/** cgroup_free - watch it no more; may be NULL */
void cgroup_free(struct cgroup *group);

/**
 * cgroup_set_high - set memory.high, UINT64_MAX: as it was before
 *
 * It never gets larger than it was before. Tried again until it succeeds.
 */
void cgroup_set_high(struct cgroup *group, uint64_t bytes);

/**
 * cgroup_reclaim - memory.reclaim, unless it is being done already
 * Return: whether it was begun.
 */
bool cgroup_reclaim(struct cgroup *group, uint64_t bytes);

#endif
