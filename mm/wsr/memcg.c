// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: the files memory.working_set.* of cgroups.
 *
 * The root cgroup has none: its memory is that of the nodes. A cgroup whose
 * files were never written has only the pointer that is NULL.
 */
#include <linux/cgroup.h>
#include <linux/memcontrol.h>
#include <linux/seq_buf.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "files.h"

/* Serialises making struct wsr_files; it then stays until the cgroup goes. */
static DEFINE_MUTEX(wsr_memcg_files_lock);

static void wsr_memcg_notify(struct wsr_files *files)
{
	cgroup_file_notify(&files->config.memcg->wsr_histogram);
}

/* The files of a cgroup, NULL if they were never written. */
static struct wsr_files *wsr_memcg_files(struct mem_cgroup *memcg)
{
	/* Pairs with the release in wsr_memcg_files_get(). */
	return smp_load_acquire(&memcg->wsr_files);
}

static struct wsr_files *wsr_memcg_files_get(struct mem_cgroup *memcg)
{
	struct wsr_files *files;

	guard(mutex)(&wsr_memcg_files_lock);
	files = wsr_memcg_files(memcg);
	if (files)
		return files;

	files = kzalloc(sizeof(*files), GFP_KERNEL_ACCOUNT);
	if (!files)
		return NULL;

	snprintf(files->name, sizeof(files->name), "memcg-%llu",
		 cgroup_id(memcg->css.cgroup));
	files->nodes = NODE_MASK_ALL;
	files->config.memcg = memcg;
	files->notify = wsr_memcg_notify;
	wsr_files_init(files);
	/* Readers must find it initialised. */
	smp_store_release(&memcg->wsr_files, files);
	return files;
}

/**
 * wsr_memcg_online - a cgroup was born
 * @memcg: the cgroup
 *
 * Context: cgroup_mutex held.
 */
void wsr_memcg_online(struct mem_cgroup *memcg)
{
	wsr_scope_inherit(memcg);
}

static void wsr_memcg_gone(struct mem_cgroup *memcg)
{
	struct wsr_files *files = memcg->wsr_files;

	if (files) {
		wsr_files_exit(files);
		kfree(files);
		memcg->wsr_files = NULL;
	}
	wsr_scope_remove(memcg);
}

/**
 * struct wsr_memcg_work - what is left to do for a cgroup that was removed
 * @work: does it
 * @memcg: the cgroup, with a reference
 */
struct wsr_memcg_work {
	struct work_struct work;
	struct mem_cgroup *memcg;
};

static void wsr_memcg_gone_work(struct work_struct *work)
{
	struct wsr_memcg_work *gone = container_of(work, struct wsr_memcg_work,
						   work);

	wsr_memcg_gone(gone->memcg);
	css_put(&gone->memcg->css);
	kfree(gone);
}

/**
 * wsr_memcg_offline - a cgroup was removed
 * @memcg: the cgroup, whose files are gone
 *
 * Context: may sleep; cgroup_mutex held, so it does not wait for looks.
 */
void wsr_memcg_offline(struct mem_cgroup *memcg)
{
	struct wsr_memcg_work *gone;

	if (!memcg->wsr_files && !wsr_scope_own(memcg))
		return;

	gone = kmalloc(sizeof(*gone), GFP_KERNEL);
	if (!gone) {
		wsr_memcg_gone(memcg);
		return;
	}
	css_get(&memcg->css);
	gone->memcg = memcg;
	INIT_WORK(&gone->work, wsr_memcg_gone_work);
	queue_work(wsr_wq, &gone->work);
}

static int wsr_memcg_show(struct seq_file *m, void *v)
{
	struct wsr_files *files = wsr_memcg_files(mem_cgroup_from_seq(m));
	struct wsr_files *never = NULL;
	struct seq_buf s;
	size_t size;
	char *buf;

	if (!files) {
		never = kzalloc(sizeof(*never), GFP_KERNEL);
		if (!never)
			return -ENOMEM;
		wsr_files_init(never);
	}

	size = seq_get_buf(m, &buf);
	seq_buf_init(&s, buf, size);
	wsr_files_show(files ?: never, seq_cft(m)->private, &s);
	seq_commit(m, seq_buf_has_overflowed(&s) ? -1 : (int)seq_buf_used(&s));

	if (never) {
		wsr_files_exit(never);
		kfree(never);
	}
	return 0;
}

static ssize_t wsr_memcg_write(struct kernfs_open_file *of, char *buf,
			       size_t nbytes, loff_t off)
{
	struct mem_cgroup *memcg = mem_cgroup_from_css(of_css(of));
	struct wsr_files *files = wsr_memcg_files_get(memcg);

	if (!files)
		return -ENOMEM;
	return wsr_files_store(files, of_cft(of)->private, buf) ?: nbytes;
}

static struct cftype wsr_memcg_cftypes[] = {
	{
		.name = "working_set.intervals_ms",
		.private = WSR_INTERVALS_MS,
		.flags = CFTYPE_NOT_ON_ROOT | CFTYPE_NS_DELEGATABLE,
		.seq_show = wsr_memcg_show,
		.write = wsr_memcg_write,
	},
	{
		.name = "working_set.refresh_ms",
		.private = WSR_REFRESH_MS,
		.flags = CFTYPE_NOT_ON_ROOT | CFTYPE_NS_DELEGATABLE,
		.seq_show = wsr_memcg_show,
		.write = wsr_memcg_write,
	},
	{
		.name = "working_set.report_ms",
		.private = WSR_REPORT_MS,
		.flags = CFTYPE_NOT_ON_ROOT | CFTYPE_NS_DELEGATABLE,
		.seq_show = wsr_memcg_show,
		.write = wsr_memcg_write,
	},
	{
		.name = "working_set.histogram",
		.private = WSR_HISTOGRAM,
		.flags = CFTYPE_NOT_ON_ROOT,
		.file_offset = offsetof(struct mem_cgroup, wsr_histogram),
		.seq_show = wsr_memcg_show,
	},
	{
		.name = "working_set.numa_histogram",
		.private = WSR_NUMA_HISTOGRAM,
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = wsr_memcg_show,
	},
	{
		.name = "working_set.stat",
		.private = WSR_STAT,
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = wsr_memcg_show,
	},
	{
		.name = "working_set.reclaim",
		.private = WSR_RECLAIM,
		.flags = CFTYPE_NOT_ON_ROOT | CFTYPE_NS_DELEGATABLE,
		.write = wsr_memcg_write,
	},
	{ }
};

static int __init wsr_memcg_init(void)
{
	if (mem_cgroup_disabled())
		return 0;
	return cgroup_add_dfl_cftypes(&memory_cgrp_subsys, wsr_memcg_cftypes);
}
subsys_initcall(wsr_memcg_init);
