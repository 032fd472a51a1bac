// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: when to look at the memory of a node, and reports.
 *
 *   reclaim, request,    files.c: sysfs.c, memcg.c; drivers
 *   period               (receivers)
 *      |                     |
 *      v                     v
 *   receiver.c  --------->  node.c  ---------->  ages.c       the samples
 *   who wants what,         when to look,          access.c   what was accessed
 *   publishing              budget                 log.c      what moved
 *      |                     |                   histogram.c  bytes per bin
 *      `----> scope.c <------'
 *             cgroups and nodes, and the rest of their memory
 *
 * A node is watched while at least one receiver wants reports of it: it is
 * looked at once in each refresh interval, and when a report is made that would
 * be older than this, or after the memory has shrunk: reclaim takes what is old,
 * so what the last look found would be wrong.
 *
 * While looks find that something was accessed, a timer makes the next one. When
 * one finds nothing, there are only the deferrable timers of the CPUs, which do
 * not wake them: an idle system stays asleep, and the first CPU to do something
 * for longer than a tick finds that a look is due.
 *
 * Looks take at most cpu_percent of one CPU: the distance between two of them
 * is stretched until they do.
 */
#include <linux/cpuhotplug.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/cputime.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/wsr.h>

/* For all work of this directory. Frozen in suspend: no looks, no reports. */
struct workqueue_struct *wsr_wq;

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "wsr."

static unsigned int cpu_percent = 1;
module_param(cpu_percent, uint, 0644);
MODULE_PARM_DESC(cpu_percent,
		 "share of one CPU that looking at memory may take, in percent");

/* Number of nodes that are watched; they share the budget. */
static atomic_t wsr_nr_watched;

/**
 * struct wsr_node - a NUMA node
 * @nid: its number; does not change
 * @lock: protects all below; held during a look, inside of wsr_scopes_sem
 * @ages: the samples, NULL unless the node is watched
 * @look: numbers about the last look
 * @refresh_ms: distance of looks that receivers want, in ms
 * @looked_ms: time of the last look, 0 if there was none
 * @looks: number of looks since watching began
 * @cost_us: CPU time of the last look, in us
 * @mean_cost_us: the same as a running mean, fast up and slow down, so that the
 *		  budget holds while costs vary
 * @due: jiffies when the next look is due; read without the lock
 * @work: looks if it is time to
 *
 * Made when a node is watched for the first time, then kept: a node is never
 * freed, so a pointer to it stays valid without a reference.
 */
struct wsr_node {
	int nid;
	struct mutex lock; /* see above */
	struct wsr_ages *ages;
	struct wsr_look look;
	u32 refresh_ms;
	u64 looked_ms;
	u64 looks;
	u64 cost_us;
	u64 mean_cost_us;
	unsigned long due;
	struct delayed_work work;
};

/* Set once by wsr_node_prepare(), read by get_wsr_node(). */
static struct wsr_node *wsr_nodes[MAX_NUMNODES];

/* NULL if the node was never watched. */
static struct wsr_node *get_wsr_node(int nid)
{
	/* Pairs with the release in wsr_node_prepare(). */
	return smp_load_acquire(&wsr_nodes[nid]);
}

/**
 * wsr_now_ms - the time
 *
 * Return: monotonic time in ms, never 0, which stands for "never".
 */
u64 wsr_now_ms(void)
{
	return ktime_to_ms(ktime_get()) + 1;
}

/* The distance of looks that keeps within the budget. */
static u32 wsr_node_budget_ms(const struct wsr_node *node)
{
	unsigned int percent = clamp(READ_ONCE(cpu_percent), 1U, 100U);
	u64 budget_ms = div_u64(node->mean_cost_us * 100 *
				atomic_read(&wsr_nr_watched),
				percent * USEC_PER_MSEC);

	return min_t(u64, budget_ms, U32_MAX);
}

/* The distance of looks that is in force: the one wanted, or the budget's. */
static u32 wsr_node_refresh_ms(const struct wsr_node *node)
{
	return max(wsr_node_budget_ms(node), node->refresh_ms);
}

/* The distance to the next look: a search goes on as soon as it may. */
static u32 wsr_node_next_ms(const struct wsr_node *node)
{
	if (node->look.find_more)
		return max(wsr_node_budget_ms(node), WSR_MIN_REFRESH_MS);
	return wsr_node_refresh_ms(node);
}

/* Looks over which the cost of a search for samples is spread. */
#define WSR_FIND_SPREAD	16

static void wsr_node_look(struct wsr_node *node)
{
	bool searched = node->look.find_us;
	u64 start_ns, last_ms, cost_us;
	u32 wait_ms;

	lockdep_assert_held(&node->lock);

	start_ns = task_sched_runtime(current);
	last_ms = node->looked_ms;
	node->looked_ms = wsr_now_ms();
	wsr_ages_look(node->ages, last_ms, node->looked_ms, &node->look);
	node->looks++;
	node->cost_us = div_u64(task_sched_runtime(current) - start_ns,
				NSEC_PER_USEC);
	/* The cost of a search is spread over several looks, if it is rare. */
	cost_us = node->cost_us;
	if (!searched && !node->look.find_more)
		cost_us -= min_t(u64, cost_us, node->look.find_us -
				 node->look.find_us / WSR_FIND_SPREAD);
	if (node->looks == 1)
		node->mean_cost_us = cost_us;
	else if (cost_us > node->mean_cost_us)
		node->mean_cost_us = (node->mean_cost_us + cost_us) / 2;
	else
		node->mean_cost_us = (7 * node->mean_cost_us + cost_us) / 8;

	/*
	 * While something happens, this timer does not care whether it wakes a
	 * CPU: if all activity ends now, it was seen and dated by the next look.
	 */
	if (node->look.young || node->look.find_more)
		mod_delayed_work(wsr_wq, &node->work,
				 msecs_to_jiffies(wsr_node_next_ms(node)));
	/*
	 * A tick that comes a bit early is as good as one that comes late,
	 * unless the budget is exceeded.
	 */
	wait_ms = wsr_node_next_ms(node);
	wait_ms = max(wait_ms - wait_ms / 8, wsr_node_budget_ms(node));
	WRITE_ONCE(node->due, jiffies + msecs_to_jiffies(wait_ms));

	trace_wsr_refresh(node->nid, node->look.samples, node->look.folios,
			  node->look.young, node->cost_us);
}

static bool wsr_node_due(const struct wsr_node *node)
{
	return time_after_eq(jiffies, READ_ONCE(node->due));
}

static void wsr_node_work(struct work_struct *work)
{
	struct wsr_node *node = container_of(to_delayed_work(work),
					     struct wsr_node, work);

	down_read(&wsr_scopes_sem);
	mutex_lock(&node->lock);
	if (node->ages && wsr_node_due(node))
		wsr_node_look(node);
	else if (node->ages && (node->look.young || node->look.find_more))
		queue_delayed_work(wsr_wq, &node->work,
				   msecs_to_jiffies(wsr_node_next_ms(node)));
	mutex_unlock(&node->lock);
	up_read(&wsr_scopes_sem);
}

static DEFINE_PER_CPU(struct timer_list, wsr_timer);

/* The shortest refresh interval of all watched nodes, in ms, 0: no ticks. */
static u32 wsr_tick_ms;

static void wsr_start_timer(void *unused)
{
	u32 tick_ms = READ_ONCE(wsr_tick_ms);

	if (tick_ms)
		mod_timer(this_cpu_ptr(&wsr_timer),
			  jiffies + msecs_to_jiffies(tick_ms));
}

static void wsr_tick(struct timer_list *unused)
{
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		struct wsr_node *node = get_wsr_node(nid);

		if (node && READ_ONCE(node->refresh_ms) && wsr_node_due(node))
			mod_delayed_work(wsr_wq, &node->work, 0);
	}
	wsr_start_timer(NULL);
}

static int wsr_cpu_online(unsigned int cpu)
{
	wsr_start_timer(NULL);
	return 0;
}

/**
 * wsr_set_tick - set how often it is checked whether a look is due
 * @tick_ms: the shortest refresh interval of all watched nodes, in ms, or 0
 *
 * Context: may sleep. Calls are serialised by the caller.
 */
void wsr_set_tick(u32 tick_ms)
{
	if (tick_ms == wsr_tick_ms)
		return;

	/* With 0, each timer fires at most once more. */
	WRITE_ONCE(wsr_tick_ms, tick_ms);
	if (tick_ms)
		on_each_cpu(wsr_start_timer, NULL, 0);
}

/* The distance of looks may have become shorter: the next one may be due. */
static void wsr_node_hurry(struct wsr_node *node)
{
	unsigned long delay = msecs_to_jiffies(wsr_node_refresh_ms(node));

	if (time_before(jiffies + delay, node->due))
		WRITE_ONCE(node->due, jiffies + delay);
	if (node->look.young)
		mod_delayed_work(wsr_wq, &node->work, delay);
}

/* Did so much go away since the last look that it matters what it was? */
static bool wsr_shrank(const struct wsr_scope *scope, int nid)
{
	const u64 *then = scope->node[nid].bytes;
	u64 now[NR_WSR_TYPES];

	wsr_scope_sizes(scope, nid, now);
	for (int type = 0; type < NR_WSR_TYPES; type++) {
		if (now[type] < then[type] - then[type] / 64)
			return true;
	}
	return false;
}

/*
 * Looks unless the last look at the scope is recent enough. Returns the time, in
 * ms.
 */
static u64 wsr_node_refresh(struct wsr_node *node, const struct wsr_scope *scope)
{
	u64 now_ms = wsr_now_ms();
	u32 refresh_ms = wsr_node_refresh_ms(node);

	if (wsr_shrank(scope, node->nid))
		refresh_ms = max(wsr_node_budget_ms(node), WSR_MIN_REFRESH_MS);

	if (!node->looked_ms || now_ms - node->looked_ms >= refresh_ms) {
		wsr_node_look(node);
		now_ms = node->looked_ms;
	} else {
		unsigned long due = jiffies + msecs_to_jiffies(refresh_ms);

		if (time_before(due, node->due))
			WRITE_ONCE(node->due, due);
	}
	return now_ms;
}

/**
 * wsr_node_prepare - allocate all that watching a node needs
 * @nid: the node
 *
 * Context: may sleep. Calls are serialised by the caller.
 * Return: 0, or -ENOMEM. After success wsr_node_watch() can't fail.
 */
int wsr_node_prepare(int nid)
{
	struct wsr_node *node = wsr_nodes[nid];
	int err = 0;

	if (!node) {
		node = kzalloc(sizeof(*node), GFP_KERNEL);
		if (!node)
			return -ENOMEM;
		node->nid = nid;
		mutex_init(&node->lock);
		INIT_DELAYED_WORK(&node->work, wsr_node_work);
		/* Readers must find it initialised. */
		smp_store_release(&wsr_nodes[nid], node);
	}

	mutex_lock(&node->lock);
	if (!node->ages) {
		node->looked_ms = 0;
		node->looks = 0;
		node->look = (struct wsr_look) {};
		node->mean_cost_us = 0;
		node->ages = wsr_ages_alloc(nid);
		if (!node->ages || wsr_log_start(nid)) {
			wsr_ages_free(node->ages);
			node->ages = NULL;
			err = -ENOMEM;
		} else {
			atomic_inc(&wsr_nr_watched);
		}
	}
	mutex_unlock(&node->lock);
	return err;
}

/**
 * wsr_node_watch - look at a node from now on
 * @nid: the node, prepared with wsr_node_prepare()
 * @refresh_ms: how often, in ms
 *
 * Context: may sleep. Calls are serialised by the caller.
 */
void wsr_node_watch(int nid, u32 refresh_ms)
{
	struct wsr_node *node = wsr_nodes[nid];

	down_read(&wsr_scopes_sem);
	mutex_lock(&node->lock);
	WRITE_ONCE(node->refresh_ms, refresh_ms);
	if (!node->looked_ms)
		wsr_node_look(node);
	else
		wsr_node_hurry(node);
	mutex_unlock(&node->lock);
	up_read(&wsr_scopes_sem);
}

/**
 * wsr_node_unwatch - stop to look at a node
 * @nid: the node
 *
 * Context: may sleep. Calls are serialised by the caller.
 */
void wsr_node_unwatch(int nid)
{
	struct wsr_node *node = wsr_nodes[nid];

	if (!node)
		return;

	down_read(&wsr_scopes_sem);
	mutex_lock(&node->lock);
	WRITE_ONCE(node->refresh_ms, 0);
	if (node->ages) {
		atomic_dec(&wsr_nr_watched);
		wsr_log_stop(nid);
		wsr_ages_free(node->ages);
		node->ages = NULL;
		wsr_scopes_forget(nid);
	}
	mutex_unlock(&node->lock);
	up_read(&wsr_scopes_sem);
}

/**
 * wsr_node_splice - the samples of a part of a node belong to another part
 * @nid: the node
 * @from: the one part
 * @to: the other
 *
 * Context: needs wsr_scopes_sem for writing.
 */
void wsr_node_splice(int nid, struct wsr_scope_node *from,
		     struct wsr_scope_node *to)
{
	struct wsr_node *node = get_wsr_node(nid);

	if (!node)
		return;

	mutex_lock(&node->lock);
	to->search = max(to->search, max(from->search, from->searching));
	/* Before the first look there are no chains. */
	if (node->ages && node->looks)
		wsr_ages_splice(node->ages, from->first, &to->first);
	mutex_unlock(&node->lock);
	from->first = WSR_NO_SAMPLE;
}

/**
 * wsr_node_report - make a report of a scope on a watched node
 * @nid: the node
 * @scope: the scope
 * @config: bounds of the histogram
 * @report: the report
 * @stat: numbers about the watching, or NULL
 *
 * Context: may sleep; needs wsr_scopes_sem; must not be called in memory
 * reclaim.
 * Return: 0, or -ENODATA if that is not watched.
 */
int wsr_node_report(int nid, struct wsr_scope *scope,
		    const struct wsr_config *config,
		    struct wsr_scope_report *report,
		    struct wsr_node_stat *stat)
{
	struct wsr_scope_node *part = &scope->node[nid];
	struct wsr_node *node = get_wsr_node(nid);
	u64 then[NR_WSR_TYPES], now[NR_WSR_TYPES];
	struct wsr_pages pages;
	struct wsr_look look;
	u64 now_ms;

	lockdep_assert_held(&wsr_scopes_sem);

	if (!node || !part->wanted || scope->offline)
		return -ENODATA;

	mutex_lock(&node->lock);
	if (!node->ages) {
		mutex_unlock(&node->lock);
		return -ENODATA;
	}
	if (!part->looks)
		wsr_node_look(node);
	now_ms = wsr_node_refresh(node, scope);
	wsr_ages_count(node->ages, scope, config->idle_age_ms,
		       config->nr_bounds, now_ms, &pages, &look);
	report->age_ms = now_ms - node->looked_ms;
	report->warming_up = part->looks < 2 ||
			       part->found_level == WSR_NO_LEVEL;
	memcpy(then, part->bytes, sizeof(then));
	if (stat)
		*stat = (struct wsr_node_stat) {
			.look = look,
			.looks = part->looks,
			.cost_us = node->cost_us,
			.refresh_ms = wsr_node_refresh_ms(node),
		};
	mutex_unlock(&node->lock);

	wsr_scope_sizes(scope, nid, now);
	wsr_fill_bins(report, config->idle_age_ms, config->nr_bounds, &pages,
		      then, now);
	wsr_scope_fill(scope, nid, report,
		       now[WSR_SWAP_BACKED] + now[WSR_FILE_BACKED]);
	trace_wsr_report(nid, report);
	return 0;
}

static int __init wsr_init(void)
{
	int cpu, ret;

	ret = wsr_scopes_init();
	if (ret)
		return ret;
	wsr_wq = alloc_workqueue("wsr", WQ_UNBOUND | WQ_FREEZABLE, 0);
	if (!wsr_wq)
		return -ENOMEM;

	for_each_possible_cpu(cpu)
		timer_setup(per_cpu_ptr(&wsr_timer, cpu), wsr_tick,
			    TIMER_DEFERRABLE | TIMER_PINNED);
	ret = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "mm/wsr:online",
					wsr_cpu_online, NULL);
	return ret < 0 ? ret : 0;
}
core_initcall(wsr_init);
