// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: the files in /sys/devices/system/node/nodeN/working_set
 * (/sys/kernel/mm/working_set without CONFIG_NUMA).
 */
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/node.h>
#include <linux/seq_buf.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "files.h"

/**
 * struct wsr_node_files - the files of a node
 * @kobj: the directory
 * @histogram: the file that can be polled; valid as long as @kobj
 * @files: what is in them
 */
struct wsr_node_files {
	struct kobject kobj;
	struct kernfs_node *histogram;
	struct wsr_files files;
};

static struct wsr_node_files *to_wsr_node_files(struct kobject *kobj)
{
	return container_of(kobj, struct wsr_node_files, kobj);
}

static ssize_t wsr_show(struct kobject *kobj, enum wsr_file file, char *buf)
{
	struct seq_buf s;

	seq_buf_init(&s, buf, PAGE_SIZE);
	wsr_files_show(&to_wsr_node_files(kobj)->files, file, &s);
	return seq_buf_used(&s);
}

static ssize_t wsr_store(struct kobject *kobj, enum wsr_file file,
			 const char *buf, size_t count)
{
	return wsr_files_store(&to_wsr_node_files(kobj)->files, file, buf) ?:
	       count;
}

#define WSR_SHOW(_name, _file)						\
static ssize_t _name##_show(struct kobject *kobj,			\
			    struct kobj_attribute *attr, char *buf)	\
{									\
	return wsr_show(kobj, _file, buf);				\
}

#define WSR_STORE(_name, _file)						\
static ssize_t _name##_store(struct kobject *kobj,			\
			     struct kobj_attribute *attr,		\
			     const char *buf, size_t count)		\
{									\
	return wsr_store(kobj, _file, buf, count);			\
}

WSR_SHOW(intervals_ms, WSR_INTERVALS_MS)
WSR_STORE(intervals_ms, WSR_INTERVALS_MS)
WSR_SHOW(refresh_ms, WSR_REFRESH_MS)
WSR_STORE(refresh_ms, WSR_REFRESH_MS)
WSR_SHOW(report_ms, WSR_REPORT_MS)
WSR_STORE(report_ms, WSR_REPORT_MS)
WSR_SHOW(histogram, WSR_HISTOGRAM)
WSR_SHOW(stat, WSR_STAT)
WSR_STORE(reclaim, WSR_RECLAIM)

static struct kobj_attribute intervals_ms_attr = __ATTR_RW(intervals_ms);
static struct kobj_attribute refresh_ms_attr = __ATTR_RW(refresh_ms);
static struct kobj_attribute report_ms_attr = __ATTR_RW(report_ms);
static struct kobj_attribute histogram_attr = __ATTR_RO(histogram);
static struct kobj_attribute stat_attr = __ATTR_RO(stat);
static struct kobj_attribute reclaim_attr = __ATTR_WO(reclaim);

static struct attribute *wsr_attrs[] = {
	&intervals_ms_attr.attr,
	&refresh_ms_attr.attr,
	&report_ms_attr.attr,
	&histogram_attr.attr,
	&stat_attr.attr,
	&reclaim_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(wsr);

static void wsr_node_files_notify(struct wsr_files *files)
{
	struct wsr_node_files *node_files =
		container_of(files, struct wsr_node_files, files);

	/* The files are there a moment before it is set. */
	if (node_files->histogram)
		sysfs_notify_dirent(node_files->histogram);
}

static void wsr_node_files_release(struct kobject *kobj)
{
	struct wsr_node_files *node_files = to_wsr_node_files(kobj);

	sysfs_put(node_files->histogram);
	kfree(node_files);
}

static const struct kobj_type wsr_node_files_type = {
	.release = wsr_node_files_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = wsr_groups,
};

static struct wsr_node_files *wsr_node_files_add(struct kobject *parent, int nid)
{
	struct wsr_node_files *node_files = kzalloc(sizeof(*node_files),
						    GFP_KERNEL);

	if (!node_files)
		return NULL;

	snprintf(node_files->files.name, sizeof(node_files->files.name),
		 "sysfs-node%d", nid);
	node_files->files.nodes = nodemask_of_node(nid);
	node_files->files.notify = wsr_node_files_notify;
	wsr_files_init(&node_files->files);
	if (kobject_init_and_add(&node_files->kobj, &wsr_node_files_type,
				 parent, "working_set")) {
		kobject_put(&node_files->kobj);
		return NULL;
	}
	node_files->histogram = sysfs_get_dirent(node_files->kobj.sd,
						 "histogram");
	return node_files;
}

#ifdef CONFIG_NUMA
/* Changed when nodes come and go, which memory hotplug serialises. */
static struct wsr_node_files *wsr_files_of[MAX_NUMNODES];

/**
 * wsr_register_node - add the files of a node
 * @node: the node
 *
 * Context: may sleep; memory hotplug lock held, or at boot.
 */
void wsr_register_node(struct node *node)
{
	int nid = node->dev.id;

	wsr_files_of[nid] = wsr_node_files_add(&node->dev.kobj, nid);
	if (!wsr_files_of[nid])
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
	struct wsr_node_files *node_files = wsr_files_of[nid];

	if (!node_files)
		return;

	wsr_files_of[nid] = NULL;
	/* waits for readers and writers of the files */
	kobject_del(&node_files->kobj);
	wsr_files_exit(&node_files->files);
	kobject_put(&node_files->kobj);
}
#else
static int __init wsr_node_files_init(void)
{
	return wsr_node_files_add(mm_kobj, 0) ? 0 : -ENOMEM;
}
subsys_initcall(wsr_node_files_init);
#endif
