// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: receivers, and when they are given reports.
 *
 * Each receiver has a work item of its own that makes and delivers its reports.
 * A work item never runs twice at a time, so neither does the callback; one
 * that sleeps delays nobody else; and cancelling it is all that is needed to be
 * sure that the callback is not called any more.
 *
 * Locks: wsr_receivers_lock (mutex) > struct wsr_node.lock (mutex)
 *	  struct wsr_receiver_state.lock (spinlock) is the innermost
 */
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/ktime.h>
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
 * @receiver: back pointer
 * @name: for tracing
 * @work: makes a report and delivers it
 * @period_work: queues @work once in each period
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
	struct wsr_receiver *receiver;
	const char *name;
	struct delayed_work work;
	struct delayed_work period_work;
	spinlock_t lock; /* see above */
	struct wsr_config config;
	nodemask_t nodes;
	u64 reported_ms;
	unsigned long reasons;
	u64 reports;
	atomic64_t merged;
	struct wsr_report *report;
};

/* 0 is "never". */
static u64 wsr_now_ms(void)
{
	return ktime_to_ms(ktime_get()) + 1;
}

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

static void wsr_report_work(struct work_struct *work)
{
	struct wsr_receiver_state *state =
		container_of(to_delayed_work(work), struct wsr_receiver_state,
			     work);
	struct wsr_report *report = state->report;
	struct wsr_config config;
	nodemask_t nodes;
	unsigned int n = 0;
	int nid;

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

	report->nr_scopes = nr_node_ids;
	for_each_node_state(nid, N_MEMORY) {
		if (node_isset(nid, nodes) &&
		    !wsr_node_report(nid, &config, &report->scopes[n], NULL))
			n++;
	}
	report->nr_scopes = n;

	spin_lock_irq(&state->lock);
	state->reported_ms = wsr_now_ms();
	spin_unlock_irq(&state->lock);
	WRITE_ONCE(state->reports, state->reports + 1);

	trace_wsr_notify(state->name, report->reasons, n);
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
	state->report = kvzalloc(struct_size(state->report, scopes,
					     nr_node_ids), GFP_KERNEL);
	if (!state->name || !state->report)
		goto err_free_state;

	INIT_LIST_HEAD(&state->list);
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
 * receiver is not registered; -ENOMEM. After an error the old configuration is
 * still in force.
 */
int wsr_receiver_configure(struct wsr_receiver *receiver,
			   const struct wsr_config *config)
{
	struct wsr_receiver_state *state = receiver->state;
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

	for_each_node_state(nid, N_MEMORY) {
		if (!config->nr_bounds || !node_isset(nid, nodes))
			continue;
		err = wsr_node_prepare(nid);
		if (err)
			break;
	}
	if (!err) {
		spin_lock_irq(&state->lock);
		state->config = *config;
		state->config.nodes = NULL;
		state->nodes = nodes;
		spin_unlock_irq(&state->lock);
		wsr_queue_period(state, config->period_ms);
		/* It may wait for a distance that does not hold any more. */
		if (delayed_work_pending(&state->work))
			mod_delayed_work(wsr_wq, &state->work, 0);
	}
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
	mutex_lock(&wsr_receivers_lock);
	if (!list_empty(&state->list)) {
		list_del_rcu(&state->list);
		wsr_update_nodes();
	}
	mutex_unlock(&wsr_receivers_lock);

	/* From here on nothing but the works themselves can queue them... */
	synchronize_rcu();
	/* ... and they can't any more, one after the other. */
	disable_delayed_work_sync(&state->period_work);
	disable_delayed_work_sync(&state->work);

	kvfree(state->report);
	kfree(state->name);
	kfree(state);
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
