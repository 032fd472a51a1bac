// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: the files in /sys/devices/system/node/nodeN/working_set
 * (/sys/kernel/mm/working_set without CONFIG_NUMA), see
 * Documentation/admin-guide/mm/wsr.rst.
 *
 * The files of a node are a receiver like any other. It exists while
 * intervals_ms is not empty.
 */
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/node.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "internal.h"

#define WSR_DEFAULT_REFRESH_MS	1000

/**
 * struct wsr_files - the files of a node
 * @kobj: the directory
 * @histogram: the file that can be polled; valid as long as @kobj
 * @nid: the node; does not change
 * @lock: protects all below
 * @config: what was written into the files
 * @receiver: NULL while nr_bounds of @config is 0
 */
struct wsr_files {
	struct kobject kobj;
	struct kernfs_node *histogram;
	int nid;
	struct mutex lock; /* see above */
	struct wsr_config config;
	struct wsr_receiver *receiver;
};

static struct wsr_files *to_wsr_files(struct kobject *kobj)
{
	return container_of(kobj, struct wsr_files, kobj);
}

static void wsr_files_report(struct wsr_receiver *receiver,
			     const struct wsr_report *report)
{
	struct wsr_files *files = receiver->private_data;

	sysfs_notify_dirent(files->histogram);
}

/* Puts @config in force; on error all stays as it was. */
static int wsr_files_configure(struct wsr_files *files,
			       const struct wsr_config *config)
{
	nodemask_t nodes = nodemask_of_node(files->nid);
	struct wsr_receiver *receiver = files->receiver;
	struct wsr_config with_node = *config;
	int err;

	lockdep_assert_held(&files->lock);

	err = wsr_check_config(config);
	if (err)
		return err;

	if (!config->nr_bounds) {
		wsr_receiver_free(receiver);
		files->receiver = NULL;
		files->config = *config;
		return 0;
	}

	if (!receiver) {
		receiver = wsr_receiver_alloc("sysfs-node%d", files->nid);
		if (!receiver)
			return -ENOMEM;
		receiver->report = wsr_files_report;
		receiver->private_data = files;
		err = wsr_receiver_register(receiver);
	}
	with_node.nodes = &nodes;
	if (!err)
		err = wsr_receiver_configure(receiver, &with_node);
	if (err) {
		if (!files->receiver)
			wsr_receiver_free(receiver);
		return err;
	}
	files->receiver = receiver;
	files->config = *config;
	return 0;
}

static int wsr_files_report_now(struct wsr_files *files,
				struct wsr_scope_report *report,
				struct wsr_node_stat *stat)
{
	lockdep_assert_held(&files->lock);

	if (!files->receiver)
		return -ENODATA;
	return wsr_node_report(files->nid, &files->config, report, stat);
}

static ssize_t intervals_ms_show(struct kobject *kobj,
				 struct kobj_attribute *attr, char *buf)
{
	struct wsr_files *files = to_wsr_files(kobj);
	ssize_t len = 0;

	guard(mutex)(&files->lock);
	for (unsigned int i = 0; i < files->config.nr_bounds; i++)
		len += sysfs_emit_at(buf, len, "%s%u", i ? "," : "",
				     files->config.idle_age_ms[i]);
	len += sysfs_emit_at(buf, len, "\n");
	return len;
}

/* Parses "1000,5000,30000"; an empty line is an empty list. */
static int wsr_parse_bounds(char *line, struct wsr_config *config)
{
	char *word;
	int err;

	config->nr_bounds = 0;
	line = strstrip(line);
	if (!*line)
		return 0;

	while ((word = strsep(&line, ","))) {
		if (config->nr_bounds == WSR_MAX_BOUNDS)
			return -EINVAL;
		err = kstrtou32(word, 10,
				&config->idle_age_ms[config->nr_bounds++]);
		if (err)
			return -EINVAL;
	}
	return 0;
}

static ssize_t intervals_ms_store(struct kobject *kobj,
				  struct kobj_attribute *attr, const char *buf,
				  size_t count)
{
	struct wsr_files *files = to_wsr_files(kobj);
	struct wsr_config config;
	int err;

	char *line __free(kfree) = kstrdup(buf, GFP_KERNEL);

	if (!line)
		return -ENOMEM;

	guard(mutex)(&files->lock);
	config = files->config;
	err = wsr_parse_bounds(line, &config) ?:
	      wsr_files_configure(files, &config);
	return err ?: count;
}

static ssize_t refresh_ms_show(struct kobject *kobj,
			       struct kobj_attribute *attr, char *buf)
{
	struct wsr_files *files = to_wsr_files(kobj);

	guard(mutex)(&files->lock);
	return sysfs_emit(buf, "%u\n", files->config.refresh_ms);
}

static ssize_t refresh_ms_store(struct kobject *kobj,
				struct kobj_attribute *attr, const char *buf,
				size_t count)
{
	struct wsr_files *files = to_wsr_files(kobj);
	struct wsr_config config;
	int err;

	guard(mutex)(&files->lock);
	config = files->config;
	if (kstrtou32(buf, 10, &config.refresh_ms) ||
	    config.refresh_ms < WSR_MIN_REFRESH_MS)
		return -EINVAL;
	err = wsr_files_configure(files, &config);
	return err ?: count;
}

static ssize_t report_ms_show(struct kobject *kobj,
			      struct kobj_attribute *attr, char *buf)
{
	struct wsr_files *files = to_wsr_files(kobj);

	guard(mutex)(&files->lock);
	return sysfs_emit(buf, "%u\n", files->config.report_ms);
}

static ssize_t report_ms_store(struct kobject *kobj,
			       struct kobj_attribute *attr, const char *buf,
			       size_t count)
{
	struct wsr_files *files = to_wsr_files(kobj);
	struct wsr_config config;
	int err;

	guard(mutex)(&files->lock);
	config = files->config;
	if (kstrtou32(buf, 10, &config.report_ms))
		return -EINVAL;
	err = wsr_files_configure(files, &config);
	return err ?: count;
}

static ssize_t histogram_show(struct kobject *kobj,
			      struct kobj_attribute *attr, char *buf)
{
	struct wsr_files *files = to_wsr_files(kobj);
	struct wsr_scope_report report;
	ssize_t len = 0;

	guard(mutex)(&files->lock);
	if (wsr_files_report_now(files, &report, NULL))
		return 0;

	for (unsigned int i = 0; i < report.nr_bins; i++) {
		const struct wsr_bin *bin = &report.bins[i];

		if (bin->idle_age_ms == WSR_IDLE_AGE_MAX)
			len += sysfs_emit_at(buf, len, "max");
		else
			len += sysfs_emit_at(buf, len, "%llu",
					     bin->idle_age_ms);
		len += sysfs_emit_at(buf, len, " anon=%llu file=%llu\n",
				     bin->swap_backed_bytes,
				     bin->file_backed_bytes);
	}
	return len;
}

static ssize_t stat_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	struct wsr_files *files = to_wsr_files(kobj);
	struct wsr_receiver_stat rstat;
	struct wsr_scope_report report;
	struct wsr_node_stat stat;

	guard(mutex)(&files->lock);
	if (wsr_files_report_now(files, &report, &stat))
		return 0;

	wsr_receiver_stat(files->receiver, &rstat);
	return sysfs_emit(buf,
			  "total %llu\n"
			  "free %llu\n"
			  "unevictable %llu\n"
			  "kernel %llu\n"
			  "slab_reclaimable %llu\n"
			  "swap_free %llu\n"
			  "refaulted %llu\n"
			  "age_ms %llu\n"
			  "warming_up %d\n"
			  "refreshes %llu\n"
			  "refresh_us %llu\n"
			  "effective_refresh_ms %u\n"
			  "samples %u\n"
			  "sampled_folios %u\n"
			  "young_folios %u\n"
			  "notifications %llu\n"
			  "merged %llu\n",
			  report.total_bytes, report.free_bytes,
			  report.unevictable_bytes, report.kernel_bytes,
			  report.slab_reclaimable_bytes,
			  report.swap_free_bytes, report.refaulted_bytes,
			  report.age_ms, report.warming_up, stat.looks,
			  stat.cost_us, stat.refresh_ms, stat.look.samples,
			  stat.look.folios, stat.look.young, rstat.reports,
			  rstat.merged);
}

static struct kobj_attribute intervals_ms_attr = __ATTR_RW(intervals_ms);
static struct kobj_attribute refresh_ms_attr = __ATTR_RW(refresh_ms);
static struct kobj_attribute report_ms_attr = __ATTR_RW(report_ms);
static struct kobj_attribute histogram_attr = __ATTR_RO(histogram);
static struct kobj_attribute stat_attr = __ATTR_RO(stat);

static struct attribute *wsr_attrs[] = {
	&intervals_ms_attr.attr,
	&refresh_ms_attr.attr,
	&report_ms_attr.attr,
	&histogram_attr.attr,
	&stat_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(wsr);

static void wsr_files_release(struct kobject *kobj)
{
	struct wsr_files *files = to_wsr_files(kobj);

	sysfs_put(files->histogram);
	kfree(files);
}

static const struct kobj_type wsr_files_type = {
	.release = wsr_files_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = wsr_groups,
};

static struct wsr_files *wsr_files_add(struct kobject *parent, int nid)
{
	struct wsr_files *files = kzalloc(sizeof(*files), GFP_KERNEL);

	if (!files)
		return NULL;

	files->nid = nid;
	files->config.refresh_ms = WSR_DEFAULT_REFRESH_MS;
	mutex_init(&files->lock);
	if (kobject_init_and_add(&files->kobj, &wsr_files_type, parent,
				 "working_set")) {
		kobject_put(&files->kobj);
		return NULL;
	}
	files->histogram = sysfs_get_dirent(files->kobj.sd, "histogram");
	return files;
}

#ifdef CONFIG_NUMA
/* Changed when nodes come and go, which memory hotplug serialises. */
static struct wsr_files *wsr_node_files[MAX_NUMNODES];

/**
 * wsr_register_node - add the files of a node
 * @node: the node
 *
 * Context: may sleep; memory hotplug lock held, or at boot.
 */
void wsr_register_node(struct node *node)
{
	int nid = node->dev.id;

	wsr_node_files[nid] = wsr_files_add(&node->dev.kobj, nid);
	if (!wsr_node_files[nid])
		pr_err("wsr: no working_set files for node %d\n", nid);
}

/**
 * wsr_unregister_node - remove the files of a node
 * @node: the node
 *
 * Context: may sleep; memory hotplug lock held.
 */
void wsr_unregister_node(struct node *node)
{
	int nid = node->dev.id;
	struct wsr_files *files = wsr_node_files[nid];

	if (!files)
		return;

	wsr_node_files[nid] = NULL;
	/* waits for readers and writers of the files */
	kobject_del(&files->kobj);
	wsr_receiver_free(files->receiver);
	kobject_put(&files->kobj);
}
#else
static int __init wsr_files_init(void)
{
	return wsr_files_add(mm_kobj, 0) ? 0 : -ENOMEM;
}
subsys_initcall(wsr_files_init);
#endif
