/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of nodes and of cgroups have in common.
 */
#ifndef _MM_WSR_FILES_H
#define _MM_WSR_FILES_H

#include "internal.h"

struct seq_buf;

enum wsr_file {
	WSR_INTERVALS_MS,
	WSR_REFRESH_MS,
	WSR_REPORT_MS,
	WSR_HISTOGRAM,
	WSR_NUMA_HISTOGRAM,
	WSR_STAT,
	WSR_RECLAIM,
};

/**
 * struct wsr_files - the files of a node or a cgroup
 * @name: of the receiver, for tracing
 * @nodes: the nodes they tell of
 * @notify: wakes up those who poll the histogram; may sleep
 * @reclaim: what was done for the file reclaim
 * @lock: protects all below
 * @config: what was written into the files; its @memcg does not change
 * @receiver: NULL while nr_bounds of @config is 0
 * @report: for @receiver; the last report that was read
 */
struct wsr_files {
	char name[32];
	nodemask_t nodes;
	void (*notify)(struct wsr_files *files);
	struct wsr_reclaim_stat reclaim;
	struct mutex lock; /* see above */
	struct wsr_config config;
	struct wsr_receiver *receiver;
	struct wsr_report *report;
};

void wsr_files_init(struct wsr_files *files);
void wsr_files_exit(struct wsr_files *files);
int wsr_files_store(struct wsr_files *files, enum wsr_file file,
		    const char *buf);
void wsr_files_show(struct wsr_files *files, enum wsr_file file,
		    struct seq_buf *s);

#endif /* _MM_WSR_FILES_H */
