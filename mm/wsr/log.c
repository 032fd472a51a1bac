// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: what happened to folios between two looks.
 *
 * mm tells of folios that are new on an LRU list and of contents that move. If
 * it concerns a sample, it is noted in the log of this CPU for the node, which
 * the next look takes. Nothing is allocated, and nobody waits: a log that is
 * full only notes that something was lost, and the look then searches.
 */
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/page_idle.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "internal.h"

/* 16 KiB for each CPU and watched node. */
#define WSR_LOG_EVENTS	1024

/**
 * struct wsr_log - the log of one CPU for one node
 * @lock: protects all below; taken by mm with interrupts off
 * @events: room for WSR_LOG_EVENTS
 * @nr: number of events
 * @lost: there were more
 */
struct wsr_log {
	spinlock_t lock; /* see above */
	struct wsr_event *events;
	unsigned int nr;
	bool lost;
};

/**
 * struct wsr_logs - the logs of one node
 * @cpu: by CPU
 * @spare: takes the place of what is being read; protected by the lock of the
 *	   node
 */
struct wsr_logs {
	struct wsr_log __percpu *cpu;
	struct wsr_event *spare;
};

/* By node; NULL unless it is watched. Changed under the lock of the node. */
static struct wsr_logs __rcu *wsr_logs[MAX_NUMNODES];

/* The finest level in use on each node, and on all; read without a lock. */
static u8 wsr_levels[MAX_NUMNODES] = { [0 ... MAX_NUMNODES - 1] = WSR_NO_LEVEL };
static u8 wsr_finest_level = WSR_NO_LEVEL;
unsigned long wsr_sample_mask;

DEFINE_STATIC_KEY_FALSE(wsr_log_key);

/* What the key should be; written by wsr_log_watch(). */
static bool wsr_log_wanted;

/* The key is on, on all CPUs; written by wsr_log_key_work(). */
static bool wsr_log_on;

static void wsr_log_key_work(struct work_struct *work)
{
	if (READ_ONCE(wsr_log_wanted)) {
		static_branch_enable(&wsr_log_key);
		WRITE_ONCE(wsr_log_on, true);
	} else {
		WRITE_ONCE(wsr_log_on, false);
		static_branch_disable(&wsr_log_key);
	}
}

/*
 * Not done directly: changing a key takes cpus_read_lock(), which memory hotplug
 * holds when it waits for wsr_receivers_lock.
 */
static DECLARE_WORK(wsr_log_switch, wsr_log_key_work);

/**
 * wsr_log_watch - say whether something has to be logged
 * @wanted: some node is watched
 *
 * Context: any; calls are serialised by the caller. Takes effect later, see
 * wsr_log_ready().
 */
void wsr_log_watch(bool wanted)
{
	WRITE_ONCE(wsr_log_wanted, wanted);
	queue_work(wsr_wq, &wsr_log_switch);
}

/**
 * wsr_log_ready - is everything logged?
 *
 * Context: any.
 * Return: false if there may be events that are not logged.
 */
bool wsr_log_ready(void)
{
	return READ_ONCE(wsr_log_wanted) && READ_ONCE(wsr_log_on);
}

/**
 * wsr_log_level - set which page frames may be samples
 * @nid: the node
 * @level: the finest level in use there, WSR_NO_LEVEL for none
 *
 * Context: needs the lock of the node.
 */
void wsr_log_level(int nid, unsigned int level)
{
	static DEFINE_SPINLOCK(lock); /* else nodes could race */
	unsigned int finest = level;
	int each;

	spin_lock(&lock);
	WRITE_ONCE(wsr_levels[nid], level);
	for_each_node_state(each, N_MEMORY)
		finest = min_t(unsigned int, finest,
			       READ_ONCE(wsr_levels[each]));
	WRITE_ONCE(wsr_finest_level, finest);
	WRITE_ONCE(wsr_sample_mask, BIT(min(finest, WSR_HASHED_LEVELS)) - 1);
	spin_unlock(&lock);
}

bool __wsr_sampled(unsigned long pfn, unsigned int order)
{
	return wsr_level(pfn, order) >= READ_ONCE(wsr_finest_level);
}

static void wsr_logs_free(struct wsr_logs *logs)
{
	int cpu;

	if (!logs)
		return;
	if (logs->cpu) {
		for_each_possible_cpu(cpu)
			kvfree(per_cpu_ptr(logs->cpu, cpu)->events);
	}
	free_percpu(logs->cpu);
	kvfree(logs->spare);
	kfree(logs);
}

static struct wsr_event *wsr_events_alloc(int nid)
{
	return kvmalloc_node(WSR_LOG_EVENTS * sizeof(struct wsr_event),
			     GFP_KERNEL, nid);
}

/**
 * wsr_log_start - log what happens on a node
 * @nid: the node
 *
 * Context: may sleep; needs the lock of the node.
 * Return: 0 or -ENOMEM.
 */
int wsr_log_start(int nid)
{
	struct wsr_logs *logs = kzalloc(sizeof(*logs), GFP_KERNEL);
	int cpu;

	if (!logs)
		return -ENOMEM;

	logs->cpu = alloc_percpu(struct wsr_log);
	logs->spare = wsr_events_alloc(nid);
	if (!logs->cpu || !logs->spare)
		goto err_free;

	for_each_possible_cpu(cpu) {
		struct wsr_log *log = per_cpu_ptr(logs->cpu, cpu);

		spin_lock_init(&log->lock);
		log->events = wsr_events_alloc(nid);
		if (!log->events)
			goto err_free;
	}
	rcu_assign_pointer(wsr_logs[nid], logs);
	return 0;

err_free:
	wsr_logs_free(logs);
	return -ENOMEM;
}

/**
 * wsr_log_stop - do not log any more
 * @nid: the node
 *
 * Context: may sleep; needs the lock of the node.
 */
void wsr_log_stop(int nid)
{
	struct wsr_logs *logs = rcu_replace_pointer(wsr_logs[nid], NULL, true);

	if (!logs)
		return;
	wsr_log_level(nid, WSR_NO_LEVEL);
	synchronize_rcu();
	wsr_logs_free(logs);
}

/**
 * wsr_log_drain - read what was logged, and forget it
 * @nid: the node
 * @event: called for each event, in the order of each CPU
 * @arg: for @event
 *
 * Context: may sleep; needs the lock of the node.
 * Return: true if events were lost.
 */
bool wsr_log_drain(int nid, void (*event)(const struct wsr_event *event,
					  void *arg), void *arg)
{
	struct wsr_logs *logs = rcu_dereference_protected(wsr_logs[nid], true);
	bool lost = false;
	int cpu;

	if (!logs)
		return false;

	for_each_possible_cpu(cpu) {
		struct wsr_log *log = per_cpu_ptr(logs->cpu, cpu);
		unsigned int nr;

		spin_lock_irq(&log->lock);
		swap(log->events, logs->spare);
		nr = log->nr;
		log->nr = 0;
		lost |= log->lost;
		log->lost = false;
		spin_unlock_irq(&log->lock);

		for (unsigned int i = 0; i < nr; i++)
			event(&logs->spare[i], arg);
		cond_resched();
	}
	return lost;
}

/* @once: nothing to add to an event before it with the same destination */
static void wsr_log_event(int nid, const struct wsr_event *event, bool once)
{
	struct wsr_logs *logs;
	struct wsr_log *log;
	unsigned long flags;

	rcu_read_lock();
	logs = rcu_dereference(wsr_logs[nid]);
	if (!logs)
		goto out;

	log = raw_cpu_ptr(logs->cpu);
	spin_lock_irqsave(&log->lock, flags);
	if (once && log->nr && log->events[log->nr - 1].to == event->to)
		;
	else if (log->nr < WSR_LOG_EVENTS)
		log->events[log->nr++] = *event;
	else
		log->lost = true;
	spin_unlock_irqrestore(&log->lock, flags);
out:
	rcu_read_unlock();
}

void __wsr_folio_added(struct folio *folio)
{
	unsigned int order = folio_order(folio);
	unsigned long pfn = folio_pfn(folio);
	unsigned int level = wsr_level(pfn, order);
	int nid = folio_nid(folio);

	/* Most folios are no samples. Idle ones were looked at before. */
	if (level < READ_ONCE(wsr_levels[nid]) || folio_test_idle(folio))
		return;

	guard(rcu)();
	if (level >= READ_ONCE(wsr_scope_of(folio)->node[nid].level))
		wsr_log_event(nid, &(struct wsr_event) {
			.to = pfn,
			.born = true,
			.order = order,
		}, false);
}

void __wsr_folio_moved(struct folio *to, struct page *page)
{
	struct folio *from = page_folio(page);
	int nid = folio_nid(to);
	unsigned int level;
	bool sample;

	rcu_read_lock();
	level = READ_ONCE(wsr_scope_of(from)->node[nid].level);
	rcu_read_unlock();

	if (level == WSR_NO_LEVEL)
		return;
	sample = folio_test_idle(from) ||
		 wsr_level(folio_pfn(from), folio_order(from)) >= level;
	if (!sample && wsr_level(folio_pfn(to), folio_order(to)) < level)
		return;
	/* Of what is not sampled, many small ones can become a large one. */
	wsr_log_event(nid, &(struct wsr_event) {
		.to = folio_pfn(to),
		.from = folio_nid(from) == nid ? folio_pfn(from) :
						 WSR_ELSEWHERE,
	}, !sample);
}
