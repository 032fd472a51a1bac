// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: receivers, and when they are given reports.
 *
 * Each receiver has a work item of its own that makes and delivers its reports.
 * A work item never runs twice at a time, so neither does the callback; one
 * that sleeps delays nobody else; and cancelling it is all that is needed to be
 * sure that the callback is not called any more.
 *
 * Locks: wsr_receivers_lock (mutex) > wsr_scopes_sem > struct wsr_node.lock
 *	  (mutex); struct wsr_receiver_state.lock (spinlock) is the innermost
 */
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/memcontrol.h>
#include <linux/memory.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/wsr.h>

#include <trace/events/wsr.h>

#include "internal.h"

/*
 * Registered receivers. Added to and removed from under wsr_receivers_lock,
 * which also serialises the watching of nodes; walked under it or RCU.
 */
static LIST_HEAD(wsr_receivers);
static DEFINE_MUTEX(wsr_receivers_lock);

/**
 * struct wsr_receiver_state - the private part of a receiver
 * @list: in wsr_receivers once registered
 * @in_scope: in the receivers of @scope
 * @receiver: back pointer
 * @name: for tracing
 * @work: makes a report and delivers it
 * @period_work: queues @work once in each period
 * @scope: what @config is about, with a reference; NULL before the first
 *	   configuration. Protected by wsr_scopes_sem.
 * @rcu: frees this
 * @lock: protects @config, @nodes and @reported_ms. Taken in kswapd and in any
 *	  context a request may come from.
 * @config: what the receiver wants; nr_bounds 0: nothing
 * @nodes: copy of config.nodes, all bits set if that was NULL
 * @reported_ms: time of the last report, in ms, 0 if there was none
 * @reasons: mask of BIT(enum wsr_reason) that were not yet answered
 * @reports: number of reports delivered; written by @work only
 * @merged: number of reasons that found @work already queued
 * @report: the report; owned by @work
 */
struct wsr_receiver_state {
	struct list_head list;
	struct list_head in_scope;
	struct wsr_receiver *receiver;
	const char *name;
	struct delayed_work work;
	struct delayed_work period_work;
	struct wsr_scope *scope;
	struct rcu_head rcu;
	spinlock_t lock; /* see above */
	struct wsr_config config;
	nodemask_t nodes;
	u64 reported_ms;
	unsigned long reasons;
	u64 reports;
	atomic64_t merged;
	struct wsr_report *report;
};

static void wsr_get_config(struct wsr_receiver_state *state,
			   struct wsr_config *config, nodemask_t *nodes)
{
	unsigned long flags;

	spin_lock_irqsave(&state->lock, flags);
	*config = state->config;
	*nodes = state->nodes;
	spin_unlock_irqrestore(&state->lock, flags);
}

/* Queue a report after @delay_ms, or make use of the one that is on its way. */
static void wsr_queue_report(struct wsr_receiver_state *state,
			     enum wsr_reason reason, u64 delay_ms)
{
	unsigned long delay = msecs_to_jiffies(min_t(u64, delay_ms, U32_MAX));
	bool queued;

	set_bit(reason, &state->reasons);
	if (delay)
		queued = queue_delayed_work(wsr_wq, &state->work, delay);
	else
		queued = !mod_delayed_work(wsr_wq, &state->work, 0);
	if (!queued)
		atomic64_inc(&state->merged);
}

/*
 * How long a report because of reclaim has to wait, in ms. Returns false if the
 * receiver does not want it.
 */
static bool wsr_reclaim_delay(struct wsr_receiver_state *state, int nid,
			      u64 *delay_ms)
{
	u64 due_ms = 0, now_ms = wsr_now_ms();
	unsigned long flags;
	bool wanted;

	spin_lock_irqsave(&state->lock, flags);
	wanted = state->config.nr_bounds && state->config.report_ms &&
		 (nid == NUMA_NO_NODE || node_isset(nid, state->nodes));
	if (state->reported_ms)
		due_ms = state->reported_ms + state->config.report_ms;
	spin_unlock_irqrestore(&state->lock, flags);

	*delay_ms = due_ms > now_ms ? due_ms - now_ms : 0;
	return wanted;
}

static void wsr_add_stat(struct wsr_node_stat *sum,
			 const struct wsr_node_stat *stat)
{
	sum->look.samples += stat->look.samples;
	sum->look.folios += stat->look.folios;
	sum->look.young += stat->look.young;
	sum->looks = max(sum->looks, stat->looks);
	sum->cost_us += stat->cost_us;
	sum->refresh_ms = max(sum->refresh_ms, stat->refresh_ms);
}

/* What the nodes have of a cgroup makes up the whole. */
static void wsr_sum_report(const struct wsr_scope *scope,
			   struct wsr_report *report, unsigned int nr)
{
	struct wsr_scope_report *sum = &report->scopes[0];
	u64 known = 0;

	*sum = report->scopes[1];
	for (unsigned int n = 2; n < nr; n++) {
		const struct wsr_scope_report *part = &report->scopes[n];

		sum->warming_up |= part->warming_up;
		sum->age_ms = max(sum->age_ms, part->age_ms);
		sum->unevictable_bytes += part->unevictable_bytes;
		sum->slab_reclaimable_bytes += part->slab_reclaimable_bytes;
		sum->slab_unreclaimable_bytes += part->slab_unreclaimable_bytes;
		sum->kernel_stack_bytes += part->kernel_stack_bytes;
		sum->page_table_bytes += part->page_table_bytes;
		sum->refaulted_bytes += part->refaulted_bytes;
		for (unsigned int i = 0; i < sum->nr_bins; i++) {
			sum->bins[i].swap_backed_bytes +=
				part->bins[i].swap_backed_bytes;
			sum->bins[i].file_backed_bytes +=
				part->bins[i].file_backed_bytes;
		}
	}
	sum->nid = NUMA_NO_NODE;
	sum->total_bytes = wsr_scope_total(scope);
	for (unsigned int i = 0; i < sum->nr_bins; i++)
		known += sum->bins[i].swap_backed_bytes +
			 sum->bins[i].file_backed_bytes;
	known += sum->unevictable_bytes;
	sum->kernel_bytes = sum->total_bytes - min(known, sum->total_bytes);
}

static void wsr_fill_report(struct wsr_receiver_state *state,
			    struct wsr_report *report,
			    struct wsr_node_stat *stat)
{
	struct wsr_node_stat part;
	struct wsr_config config;
	unsigned int first, n;
	nodemask_t nodes;
	int nid;

	guard(rwsem_read)(&wsr_scopes_sem);

	report->nr_scopes = 0;
	wsr_get_config(state, &config, &nodes);
	if (!state->scope || !config.nr_bounds)
		return;

	if (stat)
		*stat = (struct wsr_node_stat) {};
	if (state->scope->memcg)
		mem_cgroup_flush_stats_ratelimited(state->scope->memcg);
	first = state->scope->memcg ? 1 : 0;
	n = first;
	report->nr_scopes = nr_node_ids + 1;
	for_each_node_state(nid, N_MEMORY) {
		if (!node_isset(nid, nodes) ||
		    wsr_node_report(nid, state->scope, &config,
				    &report->scopes[n], &part))
			continue;
		if (stat)
			wsr_add_stat(stat, &part);
		n++;
	}
	if (n == first)
		n = 0;
	else if (first)
		wsr_sum_report(state->scope, report, n);
	report->nr_scopes = n;
}

static void wsr_report_work(struct work_struct *work)
{
	struct wsr_receiver_state *state =
		container_of(to_delayed_work(work), struct wsr_receiver_state,
			     work);
	struct wsr_report *report = state->report;
	struct wsr_config config;
	nodemask_t nodes;

	wsr_get_config(state, &config, &nodes);
	report->reasons = xchg(&state->reasons, 0);
	if (!config.nr_bounds || !report->reasons)
		return;

	if (report->reasons == BIT(WSR_REASON_RECLAIM)) {
		u64 delay_ms;

		/* Queued while the report before it was being made? */
		if (!wsr_reclaim_delay(state, NUMA_NO_NODE, &delay_ms))
			return;
		if (delay_ms) {
			wsr_queue_report(state, WSR_REASON_RECLAIM, delay_ms);
			return;
		}
	}

	wsr_fill_report(state, report, NULL);

	spin_lock_irq(&state->lock);
	state->reported_ms = wsr_now_ms();
	spin_unlock_irq(&state->lock);
	WRITE_ONCE(state->reports, state->reports + 1);

	trace_wsr_notify(state->name, report->reasons, report->nr_scopes);
	state->receiver->report(state->receiver, report);
}

static void wsr_queue_period(struct wsr_receiver_state *state, u32 period_ms)
{
	if (period_ms)
		mod_delayed_work(wsr_wq, &state->period_work,
				 msecs_to_jiffies(period_ms));
}

static void wsr_period_work(struct work_struct *work)
{
	struct wsr_receiver_state *state =
		container_of(to_delayed_work(work), struct wsr_receiver_state,
			     period_work);
	struct wsr_config config;
	nodemask_t nodes;

	wsr_get_config(state, &config, &nodes);
	if (!config.nr_bounds || !config.period_ms)
		return;

	wsr_queue_report(state, WSR_REASON_PERIOD, 0);
	wsr_queue_period(state, config.period_ms);
}

/**
 * wsr_reclaimed - tell receivers that background reclaim ran
 * @nid: the node kswapd has balanced
 *
 * Called once for each run of kswapd, so not worth a static branch: without
 * receivers it finds an empty list.
 *
 * Context: kswapd. Queues work, does not wait.
 */
void wsr_reclaimed(int nid)
{
	struct wsr_receiver_state *state;
	u64 delay_ms;

	rcu_read_lock();
	list_for_each_entry_rcu(state, &wsr_receivers, list) {
		if (wsr_reclaim_delay(state, nid, &delay_ms))
			wsr_queue_report(state, WSR_REASON_RECLAIM, delay_ms);
	}
	rcu_read_unlock();
}

/**
 * wsr_memcg_reclaimed - tell receivers that memory of a cgroup was reclaimed
 * @memcg: the cgroup whose limit, or a write to whose memory.reclaim, was the
 *	   reason
 *
 * Receivers that are configured for the cgroup or for one around it hear of it.
 *
 * Context: reclaim. Queues work, does not wait.
 */
void wsr_memcg_reclaimed(struct mem_cgroup *memcg)
{
#ifdef CONFIG_MEMCG
	struct wsr_receiver_state *state;
	struct wsr_scope *scope;
	u64 delay_ms;

	rcu_read_lock();
	for (scope = rcu_dereference(memcg->wsr_scope); scope && scope->memcg;
	     scope = READ_ONCE(scope->parent)) {
		list_for_each_entry_rcu(state, &scope->receivers, in_scope) {
			if (wsr_reclaim_delay(state, NUMA_NO_NODE, &delay_ms))
				wsr_queue_report(state, WSR_REASON_RECLAIM,
						 delay_ms);
		}
	}
	rcu_read_unlock();
#endif
}

/*
 * The shortest refresh interval that receivers want for a node, in ms; 0 if
 * none wants reports of it.
 */
static u32 wsr_refresh_wanted(int nid)
{
	struct wsr_receiver_state *state;
	u32 wanted = 0;

	lockdep_assert_held(&wsr_receivers_lock);

	list_for_each_entry(state, &wsr_receivers, list) {
		u32 refresh_ms = state->config.refresh_ms;

		if (state->config.nr_bounds && node_isset(nid, state->nodes) &&
		    (!wanted || refresh_ms < wanted))
			wanted = refresh_ms;
	}
	return wanted;
}

/* Watch the nodes that receivers want, and only these. */
static void wsr_update_nodes(void)
{
	u32 shortest_ms = 0;
	int nid;

	lockdep_assert_held(&wsr_receivers_lock);

	for_each_node(nid) {
		u32 refresh_ms = 0;

		if (node_state(nid, N_MEMORY))
			refresh_ms = wsr_refresh_wanted(nid);
		/* Fails only for a node whose memory is new: no reports then. */
		if (!refresh_ms || wsr_node_prepare(nid)) {
			wsr_node_unwatch(nid);
			continue;
		}
		wsr_node_watch(nid, refresh_ms);
		if (!shortest_ms || refresh_ms < shortest_ms)
			shortest_ms = refresh_ms;
	}
	wsr_set_tick(shortest_ms);
	wsr_log_watch(shortest_ms);
}

#ifdef CONFIG_MEMORY_HOTPLUG
static void wsr_hotplug_work_fn(struct work_struct *unused)
{
	guard(mutex)(&wsr_receivers_lock);
	wsr_update_nodes();
}

/* The locks of memory hotplug must not be waited for with ours, and vice versa. */
static DECLARE_WORK(wsr_hotplug_work, wsr_hotplug_work_fn);

static int wsr_hotplug(struct notifier_block *self, unsigned long action,
		       void *arg)
{
	if ((action == MEM_ONLINE || action == MEM_OFFLINE) && wsr_wq)
		queue_work(wsr_wq, &wsr_hotplug_work);
	/* A look may be at a page that was online a moment ago. */
	if (action == MEM_OFFLINE)
		synchronize_rcu();
	return NOTIFY_OK;
}

static int __init wsr_hotplug_init(void)
{
	return hotplug_memory_notifier(wsr_hotplug, DEFAULT_CALLBACK_PRI);
}
subsys_initcall(wsr_hotplug_init);
#endif

/* A receiver wants, or does not want any more, reports of nodes of a scope. */
static void wsr_want(struct wsr_scope *scope, const nodemask_t *nodes, bool want)
{
	int nid;

	lockdep_assert_held_write(&wsr_scopes_sem);

	for_each_node_mask(nid, *nodes) {
		struct wsr_scope_node *part;

		if (nid >= nr_node_ids)
			break;
		part = &scope->node[nid];
		if (want && !part->wanted++) {
			part->looks = 0;
			part->own_level = WSR_NO_LEVEL;
			part->found_level = WSR_NO_LEVEL;
		} else if (!want) {
			part->wanted--;
		}
	}
}

/* Nothing is wanted any more. Returns the scope, whose reference is passed on. */
static struct wsr_scope *wsr_unwant(struct wsr_receiver_state *state)
{
	struct wsr_scope *scope = state->scope;

	if (!scope)
		return NULL;

	down_write(&wsr_scopes_sem);
	if (state->config.nr_bounds)
		wsr_want(scope, &state->nodes, false);
	list_del_rcu(&state->in_scope);
	state->scope = NULL;
	up_write(&wsr_scopes_sem);
	return scope;
}

/*
 * Puts a configuration in force. The references to the scopes of the old and the
 * new one change hands.
 */
static struct wsr_scope *wsr_switch(struct wsr_receiver_state *state,
				    const struct wsr_config *config,
				    const nodemask_t *nodes,
				    struct wsr_scope *scope)
{
	struct wsr_scope *old = state->scope;

	down_write(&wsr_scopes_sem);
	if (old && old != scope) {
		list_del_rcu(&state->in_scope);
		/* A reader of the one list must not end up in the other. */
		synchronize_rcu();
	}
	if (old != scope)
		list_add_tail_rcu(&state->in_scope, &scope->receivers);
	state->scope = scope;

	/* First the new one: what was wanted until now stays as it is. */
	if (config->nr_bounds)
		wsr_want(scope, nodes, true);
	if (old && state->config.nr_bounds)
		wsr_want(old, &state->nodes, false);

	spin_lock_irq(&state->lock);
	state->config = *config;
	state->config.nodes = NULL;
	state->config.memcg = NULL;
	state->nodes = *nodes;
	spin_unlock_irq(&state->lock);
	up_write(&wsr_scopes_sem);
	return old;
}

/**
 * wsr_report_alloc - make room for a report
 *
 * Context: may sleep.
 * Return: the report, to be freed with kvfree(), or NULL if there is no memory.
 */
struct wsr_report *wsr_report_alloc(void)
{
	struct wsr_report *report;

	/* All nodes, and the sum of them */
	report = kvzalloc(struct_size(report, scopes, nr_node_ids + 1),
			  GFP_KERNEL);
	if (report)
		report->nr_scopes = nr_node_ids + 1;
	return report;
}

/**
 * wsr_receiver_alloc - make a receiver
 * @fmt: printf format of its name, for tracing
 *
 * Context: may sleep.
 * Return: the receiver, to be freed with wsr_receiver_free(), or NULL if there
 * is no memory.
 */
struct wsr_receiver *wsr_receiver_alloc(const char *fmt, ...)
{
	struct wsr_receiver_state *state;
	struct wsr_receiver *receiver;
	va_list args;

	receiver = kzalloc(sizeof(*receiver), GFP_KERNEL);
	state = kzalloc(sizeof(*state), GFP_KERNEL);
	if (!receiver || !state)
		goto err_free;

	va_start(args, fmt);
	state->name = kvasprintf(GFP_KERNEL, fmt, args);
	va_end(args);
	state->report = wsr_report_alloc();
	if (!state->name || !state->report)
		goto err_free_state;

	INIT_LIST_HEAD(&state->list);
	INIT_LIST_HEAD(&state->in_scope);
	INIT_DELAYED_WORK(&state->work, wsr_report_work);
	INIT_DEFERRABLE_WORK(&state->period_work, wsr_period_work);
	spin_lock_init(&state->lock);
	state->receiver = receiver;
	receiver->state = state;
	return receiver;

err_free_state:
	kvfree(state->report);
	kfree(state->name);
err_free:
	kfree(state);
	kfree(receiver);
	return NULL;
}
EXPORT_SYMBOL_GPL(wsr_receiver_alloc);

/**
 * wsr_receiver_register - let a receiver be given reports
 * @receiver: from wsr_receiver_alloc(), with @report filled in
 *
 * Nothing is reported until wsr_receiver_configure() says what is wanted.
 *
 * Context: may sleep.
 * Return: 0; -EINVAL without a callback or if it is registered already; -ENOMEM
 * if there was no memory for the service itself at boot.
 */
int wsr_receiver_register(struct wsr_receiver *receiver)
{
	struct wsr_receiver_state *state = receiver->state;

	if (!receiver->report)
		return -EINVAL;
	if (!wsr_wq)
		return -ENOMEM;

	guard(mutex)(&wsr_receivers_lock);
	if (!list_empty(&state->list))
		return -EINVAL;
	list_add_tail_rcu(&state->list, &wsr_receivers);
	return 0;
}
EXPORT_SYMBOL_GPL(wsr_receiver_register);

/**
 * wsr_receiver_configure - say what a receiver wants
 * @receiver: a registered receiver
 * @config: what it wants; copied
 *
 * Holds from the next report on. A report that is being made may still follow
 * the old configuration.
 *
 * Context: may sleep.
 * Return: 0; -EINVAL if a value is out of range, no node is given or the
 * receiver is not registered; -ENODEV if the cgroup was removed; -ENOMEM. After
 * an error the old configuration is still in force.
 */
int wsr_receiver_configure(struct wsr_receiver *receiver,
			   const struct wsr_config *config)
{
	struct wsr_receiver_state *state = receiver->state;
	struct wsr_scope *scope;
	nodemask_t nodes;
	int nid, err;

	err = wsr_check_config(config);
	if (err)
		return err;

	nodes = config->nodes ? *config->nodes : NODE_MASK_ALL;
	if (nodes_empty(nodes))
		return -EINVAL;

	guard(mutex)(&wsr_receivers_lock);
	if (list_empty(&state->list))
		return -EINVAL;

	scope = wsr_scope_get(config->memcg);
	if (IS_ERR(scope))
		return PTR_ERR(scope);

	for_each_node_state(nid, N_MEMORY) {
		if (!config->nr_bounds || !node_isset(nid, nodes))
			continue;
		err = wsr_node_prepare(nid);
		if (err)
			break;
	}
	if (!err) {
		scope = wsr_switch(state, config, &nodes, scope);
		wsr_queue_period(state, config->period_ms);
		/* It may wait for a distance that does not hold any more. */
		if (delayed_work_pending(&state->work))
			mod_delayed_work(wsr_wq, &state->work, 0);
	}
	/* The old one, or, after an error, the new one. */
	wsr_scope_put(scope);
	/* After an error, this undoes what was prepared. */
	wsr_update_nodes();
	return err;
}
EXPORT_SYMBOL_GPL(wsr_receiver_configure);

/**
 * wsr_receiver_request - ask for a report
 * @receiver: a registered receiver
 *
 * The report comes soon. Several requests before it are answered by one.
 *
 * Context: any.
 */
void wsr_receiver_request(struct wsr_receiver *receiver)
{
	wsr_queue_report(receiver->state, WSR_REASON_REQUEST, 0);
}
EXPORT_SYMBOL_GPL(wsr_receiver_request);

/**
 * wsr_receiver_free - unregister a receiver and free it
 * @receiver: from wsr_receiver_alloc(), registered or not, or NULL
 *
 * Waits for a callback that is running; none is called after this returns.
 *
 * Context: may sleep. Must not be called from the callback, nor with a lock
 * held that the callback takes.
 */
void wsr_receiver_free(struct wsr_receiver *receiver)
{
	struct wsr_receiver_state *state;

	if (!receiver)
		return;

	state = receiver->state;

	/* From here on nobody can queue them any more, whoever still has it. */
	disable_delayed_work_sync(&state->period_work);
	disable_delayed_work_sync(&state->work);

	mutex_lock(&wsr_receivers_lock);
	if (!list_empty(&state->list)) {
		list_del_rcu(&state->list);
		wsr_scope_put(wsr_unwant(state));
		wsr_update_nodes();
	}
	mutex_unlock(&wsr_receivers_lock);

	kvfree(state->report);
	kfree(state->name);
	kfree_rcu(state, rcu);
	kfree(receiver);
}
EXPORT_SYMBOL_GPL(wsr_receiver_free);

/**
 * wsr_receiver_stat - read the counters of a receiver
 * @receiver: the receiver
 * @stat: the result
 *
 * Context: any.
 */
void wsr_receiver_stat(struct wsr_receiver *receiver,
		       struct wsr_receiver_stat *stat)
{
	stat->reports = READ_ONCE(receiver->state->reports);
	stat->merged = atomic64_read(&receiver->state->merged);
}

/**
 * wsr_receiver_make - make the report a receiver would be given now
 * @receiver: a registered receiver
 * @report: from wsr_report_alloc()
 * @stat: numbers about the watching, or NULL
 *
 * Context: may sleep; must not be called in memory reclaim.
 * Return: 0, or -ENODATA if there is nothing to report.
 */
int wsr_receiver_make(struct wsr_receiver *receiver, struct wsr_report *report,
		      struct wsr_node_stat *stat)
{
	wsr_fill_report(receiver->state, report, stat);
	return report->nr_scopes ? 0 : -ENODATA;
}
