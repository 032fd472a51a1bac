// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: scopes, the memory that somebody wants reports of.
 *
 * There is one scope for all memory, and one for each cgroup that somebody
 * wants reports of. With the nodes, a scope is cut into parts:
 *
 *                    node 0    node 1
 *    all memory        .         .        struct wsr_scope_node
 *    |- cgroup a       .         .
 *    |  `- a/b/c       .         .
 *    `- cgroup d       .         .
 *
 * Each cgroup points to the smallest scope it is in (mem_cgroup.wsr_scope, NULL
 * means all memory), so what scope a folio belongs to is found in one step.
 */
#include <linux/hugetlb.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "internal.h"

/*
 * Taken for writing to add and remove scopes, and to change what is wanted of
 * them, for reading during looks and reports.
 */
DECLARE_RWSEM(wsr_scopes_sem);

/* A scope comes after the one around it. Protected by wsr_scopes_sem. */
LIST_HEAD(wsr_scopes);

/* The scope of all memory. Set at boot. */
struct wsr_scope *wsr_whole;

/* Nothing is known of the memory. */
static void wsr_scope_forget(struct wsr_scope_node *part)
{
	part->search = WSR_SEARCH_NONE;
	part->searching = WSR_SEARCH_NONE;
	part->own_level = WSR_NO_LEVEL;
	WRITE_ONCE(part->level, WSR_NO_LEVEL);
	part->found_level = WSR_NO_LEVEL;
	part->looks = 0;
	part->first = WSR_NO_SAMPLE;
	part->look = (struct wsr_look) {};
}

static struct wsr_scope *wsr_scope_alloc(void)
{
	struct wsr_scope *scope = kzalloc(struct_size(scope, node, nr_node_ids),
					  GFP_KERNEL);

	if (!scope)
		return NULL;

	INIT_LIST_HEAD(&scope->receivers);
	for (int nid = 0; nid < nr_node_ids; nid++)
		wsr_scope_forget(&scope->node[nid]);
	return scope;
}

/**
 * wsr_scopes_forget - a node is not watched any more
 * @nid: the node
 *
 * Context: needs wsr_scopes_sem and the lock of the node.
 */
void wsr_scopes_forget(int nid)
{
	struct wsr_scope *scope;

	list_for_each_entry(scope, &wsr_scopes, list)
		wsr_scope_forget(&scope->node[nid]);
}

/**
 * wsr_scopes_init - make the scope of all memory
 *
 * Context: boot.
 * Return: 0 or -ENOMEM.
 */
int __init wsr_scopes_init(void)
{
	wsr_whole = wsr_scope_alloc();
	if (!wsr_whole)
		return -ENOMEM;

	wsr_whole->users = 1;
	list_add(&wsr_whole->list, &wsr_scopes);
	return 0;
}

/**
 * wsr_scope_inside - is a scope part of another one?
 * @scope: the scope
 * @around: the other one
 *
 * Context: needs wsr_scopes_sem.
 * Return: true if it is, or if they are the same.
 */
bool wsr_scope_inside(const struct wsr_scope *scope,
		      const struct wsr_scope *around)
{
	while (scope && scope != around)
		scope = scope->parent;
	return scope;
}

static u64 wsr_node_lru_bytes(pg_data_t *pgdat, enum node_stat_item inactive,
			      enum node_stat_item active)
{
	return (u64)(node_page_state_pages(pgdat, inactive) +
		     node_page_state_pages(pgdat, active)) << PAGE_SHIFT;
}

static u64 wsr_node_bytes(pg_data_t *pgdat, enum node_stat_item item)
{
	return (u64)node_page_state_pages(pgdat, item) << PAGE_SHIFT;
}

#ifdef CONFIG_MEMCG

/*
 * Protects mem_cgroup.wsr_scope against the birth of cgroups, which inherit it.
 */
static DEFINE_SPINLOCK(wsr_inherit_lock);

/* Let all cgroups in a subtree that point to @from point to @to. */
static void wsr_redirect(struct mem_cgroup *memcg, struct wsr_scope *from,
			 struct wsr_scope *to)
{
	struct cgroup_subsys_state *css;

	spin_lock(&wsr_inherit_lock);
	rcu_read_lock();
	css_for_each_descendant_pre(css, &memcg->css) {
		struct mem_cgroup *each = mem_cgroup_from_css(css);

		if (rcu_access_pointer(each->wsr_scope) == from)
			rcu_assign_pointer(each->wsr_scope, to);
	}
	rcu_read_unlock();
	spin_unlock(&wsr_inherit_lock);
}

/* The scope a cgroup points to; all memory if it points nowhere. */
static struct wsr_scope *wsr_scope_at(struct mem_cgroup *memcg)
{
	return rcu_dereference_check(memcg->wsr_scope,
				     lockdep_is_held(&wsr_scopes_sem)) ?:
	       wsr_whole;
}

/* As it stands in mem_cgroup.wsr_scope. */
static struct wsr_scope *wsr_pointer_to(struct wsr_scope *scope)
{
	return scope == wsr_whole ? NULL : scope;
}

/**
 * wsr_scope_inherit - a cgroup was born
 * @memcg: the cgroup
 *
 * Context: cgroup_mutex held.
 */
void wsr_scope_inherit(struct mem_cgroup *memcg)
{
	struct mem_cgroup *parent = parent_mem_cgroup(memcg);

	if (!parent)
		return;

	spin_lock(&wsr_inherit_lock);
	rcu_assign_pointer(memcg->wsr_scope,
			   rcu_access_pointer(parent->wsr_scope));
	spin_unlock(&wsr_inherit_lock);
}

/* Nobody can ask for the scope any more; its memory belongs to the next one. */
static void wsr_scope_detach(struct wsr_scope *scope)
{
	struct wsr_scope *inner;

	lockdep_assert_held_write(&wsr_scopes_sem);

	wsr_redirect(scope->memcg, scope, wsr_pointer_to(scope->parent));
	list_for_each_entry(inner, &wsr_scopes, list) {
		if (inner->parent == scope)
			WRITE_ONCE(inner->parent, scope->parent);
	}
	for (int nid = 0; nid < nr_node_ids; nid++)
		wsr_node_splice(nid, &scope->node[nid],
				&scope->parent->node[nid]);
	list_del_init(&scope->list);
}

/**
 * wsr_scope_own - is there a scope of this very cgroup?
 * @memcg: the cgroup
 *
 * Context: any.
 * Return: true if somebody wants reports of it.
 */
bool wsr_scope_own(struct mem_cgroup *memcg)
{
	struct wsr_scope *scope;

	guard(rcu)();
	scope = rcu_dereference(memcg->wsr_scope);
	return scope && scope->memcg == memcg;
}

/**
 * wsr_scope_remove - a cgroup was removed
 * @memcg: the cgroup
 *
 * There are no more reports of it. What is left of its memory counts for the
 * cgroups around it.
 *
 * Context: may sleep.
 */
void wsr_scope_remove(struct mem_cgroup *memcg)
{
	struct wsr_scope *scope;

	if (!wsr_scope_own(memcg))
		return;

	down_write(&wsr_scopes_sem);
	scope = wsr_scope_at(memcg);
	if (scope->memcg == memcg) {
		scope->offline = true;
		wsr_scope_detach(scope);
	}
	up_write(&wsr_scopes_sem);
}

/* What the scope around it needs to know goes on being told of. */
static void wsr_scope_inherit_part(struct wsr_scope_node *part,
				   const struct wsr_scope_node *around)
{
	part->level = around->level;
	part->found_level = around->found_level;
	part->search = max(around->search, around->searching);
}

/**
 * wsr_scope_get - find or make the scope of a cgroup
 * @memcg: the cgroup, or NULL for all memory
 *
 * Context: may sleep.
 * Return: the scope, to be given back with wsr_scope_put(); or an ERR_PTR():
 * -ENODEV if the cgroup was removed, -ENOMEM.
 */
struct wsr_scope *wsr_scope_get(struct mem_cgroup *memcg)
{
	struct wsr_scope *scope, *around, *inner;

	if (!memcg || mem_cgroup_is_root(memcg))
		return wsr_whole;

	scope = wsr_scope_alloc();
	if (!scope)
		return ERR_PTR(-ENOMEM);

	down_write(&wsr_scopes_sem);
	around = wsr_scope_at(memcg);
	if (around->memcg == memcg) {
		kfree(scope);
		around->users++;
		scope = around;
		goto out;
	}
	/* It can go offline now, but wsr_scope_remove() then sees the scope. */
	if (!css_tryget_online(&memcg->css)) {
		kfree(scope);
		scope = ERR_PTR(-ENODEV);
		goto out;
	}

	scope->memcg = memcg;
	scope->parent = around;
	scope->users = 1;
	for (int nid = 0; nid < nr_node_ids; nid++)
		wsr_scope_inherit_part(&scope->node[nid], &around->node[nid]);
	list_add(&scope->list, &around->list);
	list_for_each_entry(inner, &wsr_scopes, list) {
		if (inner != scope && inner->parent == around &&
		    inner->memcg && mem_cgroup_is_descendant(inner->memcg, memcg))
			WRITE_ONCE(inner->parent, scope);
	}
	wsr_redirect(memcg, wsr_pointer_to(around), scope);
out:
	up_write(&wsr_scopes_sem);
	return scope;
}

/**
 * wsr_scope_find - find the scope of a cgroup
 * @memcg: the cgroup, or NULL for all memory
 *
 * Context: needs wsr_scopes_sem.
 * Return: the scope, or NULL if nobody wants reports of the cgroup.
 */
struct wsr_scope *wsr_scope_find(struct mem_cgroup *memcg)
{
	struct wsr_scope *scope;

	if (!memcg)
		return wsr_whole;
	scope = wsr_scope_at(memcg);
	return scope->memcg == memcg ? scope : NULL;
}

/**
 * wsr_scope_put - give back a scope
 * @scope: from wsr_scope_get(), or NULL
 *
 * Context: may sleep.
 */
void wsr_scope_put(struct wsr_scope *scope)
{
	if (!scope || scope == wsr_whole)
		return;

	down_write(&wsr_scopes_sem);
	if (--scope->users) {
		up_write(&wsr_scopes_sem);
		return;
	}
	if (!scope->offline)
		wsr_scope_detach(scope);
	up_write(&wsr_scopes_sem);

	css_put(&scope->memcg->css);
	/* wsr_folio_added() and wsr_folio_moved() may still look at it. */
	kfree_rcu(scope, rcu);
}

/**
 * wsr_scope_of - the smallest scope that a folio belongs to
 * @folio: the folio
 *
 * Context: RCU read lock; the folio has a reference or is about to go onto or
 * off an LRU list.
 * Return: the scope, valid until the RCU read lock is given back, or as long as
 * wsr_scopes_sem is held.
 */
struct wsr_scope *wsr_scope_of(struct folio *folio)
{
	struct mem_cgroup *memcg = folio_memcg(folio);

	return memcg ? wsr_scope_at(memcg) : wsr_whole;
}

static u64 wsr_memcg_lru_bytes(struct mem_cgroup *memcg, int nid,
			       enum lru_list lru)
{
	struct lruvec *lruvec = mem_cgroup_lruvec(memcg, NODE_DATA(nid));
	u64 pages = 0;

	for (int zid = 0; zid < MAX_NR_ZONES; zid++)
		pages += mem_cgroup_get_zone_lru_size(lruvec, lru, zid);
	return pages << PAGE_SHIFT;
}

/* What is on the lists of MGLRU, which are not counted by the above. */
static u64 wsr_memcg_gen_bytes(struct mem_cgroup *memcg, int nid, bool file)
{
	struct lruvec *lruvec = mem_cgroup_lruvec(memcg, NODE_DATA(nid));
	long pages = 0;

	for (int gen = 0; gen < MAX_NR_GENS; gen++) {
		for (int zid = 0; zid < MAX_NR_ZONES; zid++)
			pages += READ_ONCE(lruvec->lrugen.nr_pages[gen][file]
					   [zid]);
	}
	/* one of them can be negative for a moment */
	return (u64)max(pages, 0L) << PAGE_SHIFT;
}

/*
 * The counters of memory.stat are late; these sizes are exact, but each only
 * for one cgroup.
 */
static void wsr_memcg_sizes(struct mem_cgroup *memcg, int nid, u64 *bytes)
{
	struct mem_cgroup *each = NULL;

	bytes[WSR_SWAP_BACKED] = 0;
	bytes[WSR_FILE_BACKED] = 0;
	while ((each = mem_cgroup_iter(memcg, each, NULL))) {
		bytes[WSR_SWAP_BACKED] +=
			wsr_memcg_lru_bytes(each, nid, LRU_INACTIVE_ANON) +
			wsr_memcg_lru_bytes(each, nid, LRU_ACTIVE_ANON) +
			wsr_memcg_gen_bytes(each, nid, false);
		bytes[WSR_FILE_BACKED] +=
			wsr_memcg_lru_bytes(each, nid, LRU_INACTIVE_FILE) +
			wsr_memcg_lru_bytes(each, nid, LRU_ACTIVE_FILE) +
			wsr_memcg_gen_bytes(each, nid, true);
	}
}

static u64 wsr_memcg_unevictable(struct mem_cgroup *memcg, int nid)
{
	struct mem_cgroup *each = NULL;
	u64 bytes = 0;

	while ((each = mem_cgroup_iter(memcg, each, NULL)))
		bytes += wsr_memcg_lru_bytes(each, nid, LRU_UNEVICTABLE);
	return bytes;
}

static u64 wsr_memcg_bytes(struct mem_cgroup *memcg, int nid,
			   enum node_stat_item item)
{
	unsigned long n;

	n = lruvec_page_state(mem_cgroup_lruvec(memcg, NODE_DATA(nid)), item);
	/* slab is counted in bytes, stacks in KiB, all else in pages */
	if (vmstat_item_in_bytes(item))
		return n;
	return (u64)n << (item == NR_KERNEL_STACK_KB ? 10 : PAGE_SHIFT);
}

static void wsr_memcg_fill(struct mem_cgroup *memcg, int nid,
			   struct wsr_scope_report *report, u64 lru_bytes)
{
	report->unevictable_bytes = wsr_memcg_unevictable(memcg, nid);
	report->slab_reclaimable_bytes =
		wsr_memcg_bytes(memcg, nid, NR_SLAB_RECLAIMABLE_B);
	report->slab_unreclaimable_bytes =
		wsr_memcg_bytes(memcg, nid, NR_SLAB_UNRECLAIMABLE_B);
	report->kernel_stack_bytes =
		wsr_memcg_bytes(memcg, nid, NR_KERNEL_STACK_KB);
	report->page_table_bytes = wsr_memcg_bytes(memcg, nid, NR_PAGETABLE);
	report->kernel_bytes = report->slab_reclaimable_bytes +
			       report->slab_unreclaimable_bytes +
			       report->kernel_stack_bytes +
			       report->page_table_bytes;
	report->total_bytes = lru_bytes + report->unevictable_bytes +
			      report->kernel_bytes;
	report->refaulted_bytes =
		wsr_memcg_bytes(memcg, nid, WORKINGSET_REFAULT_ANON) +
		wsr_memcg_bytes(memcg, nid, WORKINGSET_REFAULT_FILE);
	report->swap_free_bytes =
		(u64)max(mem_cgroup_get_nr_swap_pages(memcg), 0L) << PAGE_SHIFT;
}

/**
 * wsr_scope_total - the memory charged to a cgroup
 * @scope: its scope
 *
 * Context: needs wsr_scopes_sem.
 * Return: bytes, as memory.current.
 */
u64 wsr_scope_total(const struct wsr_scope *scope)
{
	return (u64)page_counter_read(&scope->memcg->memory) << PAGE_SHIFT;
}

#else /* !CONFIG_MEMCG */

struct wsr_scope *wsr_scope_get(struct mem_cgroup *memcg)
{
	return wsr_whole;
}

struct wsr_scope *wsr_scope_find(struct mem_cgroup *memcg)
{
	return wsr_whole;
}

void wsr_scope_put(struct wsr_scope *scope)
{
}

struct wsr_scope *wsr_scope_of(struct folio *folio)
{
	return wsr_whole;
}

static void wsr_memcg_sizes(struct mem_cgroup *memcg, int nid, u64 *bytes)
{
}

static void wsr_memcg_fill(struct mem_cgroup *memcg, int nid,
			   struct wsr_scope_report *report, u64 lru_bytes)
{
}

u64 wsr_scope_total(const struct wsr_scope *scope)
{
	return 0;
}

#endif /* CONFIG_MEMCG */

/**
 * wsr_scope_sizes - size of all memory that has an age
 * @scope: the scope
 * @nid: the node
 * @bytes: the result by type, in bytes
 *
 * Context: needs wsr_scopes_sem.
 */
void wsr_scope_sizes(const struct wsr_scope *scope, int nid, u64 *bytes)
{
	pg_data_t *pgdat = NODE_DATA(nid);

	if (scope->memcg) {
		wsr_memcg_sizes(scope->memcg, nid, bytes);
		return;
	}
	bytes[WSR_SWAP_BACKED] = wsr_node_lru_bytes(pgdat, NR_INACTIVE_ANON,
						    NR_ACTIVE_ANON);
	bytes[WSR_FILE_BACKED] = wsr_node_lru_bytes(pgdat, NR_INACTIVE_FILE,
						    NR_ACTIVE_FILE);
}

static u64 wsr_node_total_bytes(pg_data_t *pgdat)
{
	u64 pages = 0;

	for (int i = 0; i < MAX_NR_ZONES; i++)
		pages += zone_managed_pages(&pgdat->node_zones[i]);
	return pages << PAGE_SHIFT;
}

/* The lists of the CPUs are not part of NR_FREE_PAGES, but can be long. */
static u64 wsr_node_free_bytes(int nid)
{
	u64 pages = sum_zone_node_page_state(nid, NR_FREE_PAGES);

	for (int i = 0; i < MAX_NR_ZONES; i++) {
		struct zone *zone = &NODE_DATA(nid)->node_zones[i];
		int cpu;

		if (!populated_zone(zone))
			continue;
		for_each_online_cpu(cpu)
			pages += READ_ONCE(per_cpu_ptr(zone->per_cpu_pageset,
						       cpu)->count);
	}
	return pages << PAGE_SHIFT;
}

static u64 wsr_node_hugetlb_bytes(int nid)
{
	u64 bytes = 0;

#ifdef CONFIG_HUGETLB_PAGE
	struct hstate *h;

	for_each_hstate(h)
		bytes += (u64)h->nr_huge_pages_node[nid] * huge_page_size(h);
#endif
	return bytes;
}

static void wsr_node_fill(int nid, struct wsr_scope_report *report,
			  u64 lru_bytes)
{
	pg_data_t *pgdat = NODE_DATA(nid);
	u64 known;

	report->total_bytes = wsr_node_total_bytes(pgdat);
	report->free_bytes = wsr_node_free_bytes(nid);
	report->unevictable_bytes = wsr_node_bytes(pgdat, NR_UNEVICTABLE);
	report->slab_reclaimable_bytes =
		wsr_node_bytes(pgdat, NR_SLAB_RECLAIMABLE_B);
	report->slab_unreclaimable_bytes =
		wsr_node_bytes(pgdat, NR_SLAB_UNRECLAIMABLE_B);
	report->kernel_stack_bytes =
		(u64)node_page_state(pgdat, NR_KERNEL_STACK_KB) << 10;
	report->page_table_bytes = wsr_node_bytes(pgdat, NR_PAGETABLE);
	report->hugetlb_bytes = wsr_node_hugetlb_bytes(nid);
	report->refaulted_bytes =
		wsr_node_lru_bytes(pgdat, WORKINGSET_REFAULT_ANON,
				   WORKINGSET_REFAULT_FILE);
	report->swap_free_bytes =
		(u64)max(get_nr_swap_pages(), 0L) << PAGE_SHIFT;

	/* The counters are not read at one instant, so they may say too much. */
	known = report->free_bytes + report->unevictable_bytes + lru_bytes;
	report->kernel_bytes = report->total_bytes -
			       min(known, report->total_bytes);
}

/**
 * wsr_scope_fill - fill in all fields of a report but its histogram
 * @scope: the scope
 * @nid: the node
 * @report: the report
 * @lru_bytes: size of the histogram, in bytes
 *
 * Context: needs wsr_scopes_sem.
 */
void wsr_scope_fill(const struct wsr_scope *scope, int nid,
		    struct wsr_scope_report *report, u64 lru_bytes)
{
	report->nid = nid;
	if (scope->memcg)
		wsr_memcg_fill(scope->memcg, nid, report, lru_bytes);
	else
		wsr_node_fill(nid, report, lru_bytes);
}
