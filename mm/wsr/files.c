// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: what is in the files of a node (sysfs.c) and of a
 * cgroup (memcg.c), see Documentation/admin-guide/mm/wsr.rst.
 *
 * The files of a node or cgroup are a receiver like any other. It exists while
 * intervals_ms is not empty.
 */
#include <linux/cleanup.h>
#include <linux/kstrtox.h>
#include <linux/seq_buf.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "files.h"

#define WSR_DEFAULT_REFRESH_MS	1000

/**
 * wsr_files_init - set up the files
 * @files: zeroed memory with @name, @config.memcg, @nodes and @notify filled in
 */
void wsr_files_init(struct wsr_files *files)
{
	mutex_init(&files->lock);
	files->config.refresh_ms = WSR_DEFAULT_REFRESH_MS;
}

static void wsr_files_off(struct wsr_files *files)
{
	wsr_receiver_free(files->receiver);
	kvfree(files->report);
	files->receiver = NULL;
	files->report = NULL;
}

/**
 * wsr_files_exit - free all that belongs to the files
 * @files: from wsr_files_init()
 *
 * Context: may sleep; nobody uses the files any more.
 */
void wsr_files_exit(struct wsr_files *files)
{
	wsr_files_off(files);
	mutex_destroy(&files->lock);
}

static void wsr_files_report(struct wsr_receiver *receiver,
			     const struct wsr_report *report)
{
	struct wsr_files *files = receiver->private_data;

	files->notify(files);
}

static int wsr_files_on(struct wsr_files *files)
{
	struct wsr_receiver *receiver;
	int err;

	files->report = wsr_report_alloc();
	receiver = wsr_receiver_alloc("%s", files->name);
	files->receiver = receiver;
	if (!files->report || !receiver) {
		wsr_files_off(files);
		return -ENOMEM;
	}

	receiver->report = wsr_files_report;
	receiver->private_data = files;
	err = wsr_receiver_register(receiver);
	if (err)
		wsr_files_off(files);
	return err;
}

/* Puts @config in force; on error all stays as it was. */
static int wsr_files_configure(struct wsr_files *files,
			       const struct wsr_config *config)
{
	struct wsr_config with_nodes = *config;
	bool was_off = !files->receiver;
	int err;

	lockdep_assert_held(&files->lock);

	err = wsr_check_config(config);
	if (err)
		return err;

	if (!config->nr_bounds) {
		wsr_files_off(files);
		files->config = *config;
		return 0;
	}

	if (was_off) {
		err = wsr_files_on(files);
		if (err)
			return err;
	}
	with_nodes.nodes = &files->nodes;
	err = wsr_receiver_configure(files->receiver, &with_nodes);
	if (!err)
		files->config = *config;
	else if (was_off)
		wsr_files_off(files);
	return err;
}

/* Parses "1000,5000,30000"; an empty line is an empty list. */
static int wsr_parse_bounds(char *line, struct wsr_config *config)
{
	char *word;
	int err;

	config->nr_bounds = 0;
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

static int wsr_parse(enum wsr_file file, char *line, struct wsr_config *config)
{
	switch (file) {
	case WSR_INTERVALS_MS:
		return wsr_parse_bounds(line, config);
	case WSR_REFRESH_MS:
		if (kstrtou32(line, 10, &config->refresh_ms) ||
		    config->refresh_ms < WSR_MIN_REFRESH_MS)
			return -EINVAL;
		return 0;
	case WSR_REPORT_MS:
		return kstrtou32(line, 10, &config->report_ms) ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}

/**
 * wsr_files_store - somebody writes into a file
 * @files: the files
 * @file: which one
 * @buf: what is written
 *
 * Context: may sleep.
 * Return: 0; -EINVAL for what is no valid value, -ENODEV, -ENOMEM; for
 * WSR_RECLAIM see wsr_reclaim(). After an error no setting has changed.
 */
int wsr_files_store(struct wsr_files *files, enum wsr_file file,
		    const char *buf)
{
	char *line __free(kfree) = kstrdup(buf, GFP_KERNEL);
	struct wsr_config config;

	if (!line)
		return -ENOMEM;

	/* Takes its time; the other files can be used meanwhile. */
	if (file == WSR_RECLAIM)
		return wsr_reclaim_write(strstrip(line), files->config.memcg,
					 first_node(files->nodes),
					 &files->reclaim);

	guard(mutex)(&files->lock);
	config = files->config;
	return wsr_parse(file, strstrip(line), &config) ?:
	       wsr_files_configure(files, &config);
}

static void wsr_show_bounds(const struct wsr_config *config, struct seq_buf *s)
{
	for (unsigned int i = 0; i < config->nr_bounds; i++)
		seq_buf_printf(s, "%s%u", i ? "," : "", config->idle_age_ms[i]);
	seq_buf_puts(s, "\n");
}

static void wsr_show_bins(const struct wsr_scope_report *report,
			  const char *prefix, struct seq_buf *s)
{
	for (unsigned int i = 0; i < report->nr_bins; i++) {
		const struct wsr_bin *bin = &report->bins[i];

		seq_buf_puts(s, prefix);
		if (bin->idle_age_ms == WSR_IDLE_AGE_MAX)
			seq_buf_puts(s, "max");
		else
			seq_buf_printf(s, "%llu", bin->idle_age_ms);
		seq_buf_printf(s, " anon=%llu file=%llu\n",
			       bin->swap_backed_bytes, bin->file_backed_bytes);
	}
}

/* Only what a node has, but a cgroup has not, is left out for cgroups. */
static void wsr_show_stat(struct wsr_files *files,
			  const struct wsr_node_stat *stat, struct seq_buf *s)
{
	const struct wsr_scope_report *report = &files->report->scopes[0];
	struct wsr_receiver_stat rstat;

	wsr_receiver_stat(files->receiver, &rstat);
	seq_buf_printf(s, "total %llu\n", report->total_bytes);
	if (!files->config.memcg)
		seq_buf_printf(s, "free %llu\n", report->free_bytes);
	seq_buf_printf(s,
		       "unevictable %llu\n"
		       "kernel %llu\n"
		       "slab_reclaimable %llu\n"
		       "slab_unreclaimable %llu\n"
		       "kernel_stack %llu\n"
		       "page_tables %llu\n",
		       report->unevictable_bytes, report->kernel_bytes,
		       report->slab_reclaimable_bytes,
		       report->slab_unreclaimable_bytes,
		       report->kernel_stack_bytes, report->page_table_bytes);
	if (!files->config.memcg)
		seq_buf_printf(s, "hugetlb %llu\n", report->hugetlb_bytes);
	seq_buf_printf(s,
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
		       "merged %llu\n"
		       "reclaim_requests %lld\n"
		       "reclaim_requested %lld\n"
		       "reclaimed %lld\n",
		       report->swap_free_bytes, report->refaulted_bytes,
		       report->age_ms, report->warming_up, stat->looks,
		       stat->cost_us, stat->refresh_ms, stat->look.samples,
		       stat->look.folios, stat->look.young, rstat.reports,
		       rstat.merged, atomic64_read(&files->reclaim.requests),
		       atomic64_read(&files->reclaim.requested_bytes),
		       atomic64_read(&files->reclaim.reclaimed_bytes));
}

static void wsr_show_report(struct wsr_files *files, enum wsr_file file,
			    struct seq_buf *s)
{
	struct wsr_report *report = files->report;
	struct wsr_node_stat stat;
	char prefix[16];

	if (!files->receiver || wsr_receiver_make(files->receiver, report, &stat))
		return;

	switch (file) {
	case WSR_HISTOGRAM:
		wsr_show_bins(&report->scopes[0], "", s);
		break;
	case WSR_NUMA_HISTOGRAM:
		for (unsigned int i = 1; i < report->nr_scopes; i++) {
			snprintf(prefix, sizeof(prefix), "N%d ",
				 report->scopes[i].nid);
			wsr_show_bins(&report->scopes[i], prefix, s);
		}
		break;
	default:
		wsr_show_stat(files, &stat, s);
	}
}

/**
 * wsr_files_show - somebody reads a file
 * @files: the files
 * @file: which one
 * @s: takes the contents
 *
 * Context: may sleep.
 */
void wsr_files_show(struct wsr_files *files, enum wsr_file file,
		    struct seq_buf *s)
{
	guard(mutex)(&files->lock);

	switch (file) {
	case WSR_INTERVALS_MS:
		wsr_show_bounds(&files->config, s);
		break;
	case WSR_REFRESH_MS:
		seq_buf_printf(s, "%u\n", files->config.refresh_ms);
		break;
	case WSR_REPORT_MS:
		seq_buf_printf(s, "%u\n", files->config.report_ms);
		break;
	default:
		wsr_show_report(files, file, s);
	}
}
