// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: the ages of sampled folios.
 *
 * The memory of a node is cut into blocks of 2^shift pages. In each block one
 * page frame, picked by a hash, is the sample; it stays the same for ever,
 * whatever it holds. So samples are uniform over bytes, whatever the sizes of
 * folios, and their number is bounded, whatever the size of the node:
 *
 *    block 0       block 1       block 2       block 3
 *  [..X.....]    [......X.]    [X.......]    [....X...]     shift = 3
 *     |                |        |                 |
 *  PG_idle set?     free     first half of    young in some
 *  nothing young?            a large folio,   page table, or
 *  -> not accessed           second half in   PG_idle clear
 *     since the last         block 1          -> accessed
 *     look
 *
 * A look asks for each sample: was the folio accessed since the look before? It
 * was if a page table entry is young or PG_idle is clear: folios are born
 * without PG_idle, folio_mark_accessed() and reclaim clear it. The look then
 * sets it again. As in idle page tracking, PG_young tells reclaim what the look
 * took from the page tables.
 *
 * A sample remembers when its folio was last accessed: the middle of the
 * interval between the two looks around the access. It also remembers a hash
 * of what the folio was, since a migrated folio brings PG_idle with it, but not
 * its age. Where the age can't be known - that, or at the first look - the
 * birth times of the folio's generation in MGLRU are the estimate.
 */
#include <linux/hash.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/page_idle.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <asm/tlbflush.h>

#include "../internal.h"
#include "internal.h"

/*
 * With n samples, the share of memory below a bound has a standard error of at
 * most 0.5 / sqrt(n): 0.8 % for the 4096 to 8192 of a full node. The cost of a
 * look is in proportion to n.
 */
#define WSR_MAX_SAMPLES	8192

/**
 * struct wsr_sample - what is known of a sampled page frame
 * @seen_ms: time of the last access of the folio there
 * @present: the last look found reclaimable memory there
 * @type: enum wsr_type
 * @owner: hash of what the folio holds
 */
struct wsr_sample {
	u64 seen_ms : 38;
	u64 present : 1;
	u64 type : 1;
	u64 owner : 24;
};

/**
 * struct wsr_ages - the samples of a node
 * @nid: the node
 * @start_pfn: its first page frame
 * @nr_pages: its size with holes, in pages
 * @shift: there is one sample in 2^shift page frames
 * @nr: number of samples
 * @samples: by page frame number
 *
 * Protected by the lock of the struct wsr_node that owns it.
 */
struct wsr_ages {
	int nid;
	unsigned long start_pfn;
	unsigned long nr_pages;
	unsigned int shift;
	unsigned int nr;
	struct wsr_sample samples[] __counted_by(nr);
};

/* The page frames of a node, with holes, but without device memory. */
static void wsr_node_span(int nid, unsigned long *start_pfn,
			  unsigned long *nr_pages)
{
	unsigned long start = ULONG_MAX, end = 0;

	for (int i = 0; i < MAX_NR_ZONES; i++) {
		struct zone *zone = &NODE_DATA(nid)->node_zones[i];

		if (!zone->spanned_pages || zone_is_zone_device(zone))
			continue;
		start = min(start, zone->zone_start_pfn);
		end = max(end, zone_end_pfn(zone));
	}
	*start_pfn = start;
	*nr_pages = end > start ? end - start : 0;
}

/**
 * wsr_ages_alloc - prepare to watch a node
 * @nid: the node
 *
 * Context: may sleep.
 * Return: the samples, to be freed with wsr_ages_free(), or NULL if there is no
 * memory.
 */
struct wsr_ages *wsr_ages_alloc(int nid)
{
	unsigned long start_pfn, nr_pages;
	struct wsr_ages *ages;
	unsigned int shift = 0;
	unsigned int nr;

	wsr_node_span(nid, &start_pfn, &nr_pages);
	while (nr_pages >> shift > WSR_MAX_SAMPLES)
		shift++;
	nr = nr_pages >> shift;

	ages = kvzalloc(struct_size(ages, samples, nr), GFP_KERNEL);
	if (!ages)
		return NULL;

	ages->nr = nr;
	ages->nid = nid;
	ages->start_pfn = start_pfn;
	ages->nr_pages = nr_pages;
	ages->shift = shift;
	return ages;
}

/**
 * wsr_ages_free - stop to watch a node
 * @ages: from wsr_ages_alloc(), or NULL
 */
void wsr_ages_free(struct wsr_ages *ages)
{
	kvfree(ages);
}

/**
 * wsr_ages_fit - do the samples still cover the node?
 * @ages: the samples
 *
 * Return: false if memory was added to or removed from the node.
 */
bool wsr_ages_fit(const struct wsr_ages *ages)
{
	unsigned long start_pfn, nr_pages;

	wsr_node_span(ages->nid, &start_pfn, &nr_pages);
	return ages->start_pfn == start_pfn && ages->nr_pages == nr_pages;
}

/**
 * wsr_ages_adopt - take over what other samples know
 * @ages: new samples
 * @old: samples of the same node
 *
 * Return: false if they are not of the same page frames.
 */
bool wsr_ages_adopt(struct wsr_ages *ages, const struct wsr_ages *old)
{
	if (ages->start_pfn != old->start_pfn || ages->shift != old->shift)
		return false;

	memcpy(ages->samples, old->samples,
	       min(ages->nr, old->nr) * sizeof(*ages->samples));
	return true;
}

static unsigned long wsr_sample_pfn(const struct wsr_ages *ages,
				    unsigned int block)
{
	unsigned long first = ages->start_pfn +
			      ((unsigned long)block << ages->shift);

	if (!ages->shift)
		return first;
	return first + hash_64(block, ages->shift);
}

/*
 * The folio of a page frame, with a reference, if it is on an LRU list and
 * reclaim could take it. rmap_walk() can be used on such a folio.
 */
static struct folio *wsr_get_folio(int nid, unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);
	struct folio *folio;

	if (!page || page_to_nid(page) != nid)
		return NULL;

	folio = page_folio(page);
	if (!folio_test_lru(folio) || folio_test_unevictable(folio) ||
	    !folio_try_get(folio))
		return NULL;

	if (page_folio(page) != folio || !folio_test_lru(folio)) {
		folio_put(folio);
		return NULL;
	}
	return folio;
}

/* More address spaces than this are flushed all at once. */
#define WSR_MAX_MMS	16

/**
 * struct wsr_walk - what a look takes from page tables
 * @young: the folio had an accessed bit
 * @mms: where accessed bits were cleared, with a reference (mmgrab())
 * @nr_mms: number of entries in @mms; WSR_MAX_MMS + 1: there were more
 */
struct wsr_walk {
	bool young;
	struct mm_struct *mms[WSR_MAX_MMS];
	unsigned int nr_mms;
};

static void wsr_note_mm(struct wsr_walk *walk, struct mm_struct *mm)
{
	for (unsigned int i = 0; i < min(walk->nr_mms, WSR_MAX_MMS); i++) {
		if (walk->mms[i] == mm)
			return;
	}
	if (walk->nr_mms < WSR_MAX_MMS) {
		mmgrab(mm);
		walk->mms[walk->nr_mms] = mm;
	}
	if (walk->nr_mms <= WSR_MAX_MMS)
		walk->nr_mms++;
}

/*
 * Some architectures do not set the accessed bit as long as a translation is
 * cached in which it was set, and clearing it does not flush. One flush of each
 * address space at the end of a look keeps hot memory from looking idle. It
 * goes only to CPUs that use the address space, so it wakes no idle ones.
 */
static void wsr_flush_mms(struct wsr_walk *walk)
{
	if (walk->nr_mms > WSR_MAX_MMS)
		flush_tlb_all();

	for (unsigned int i = 0; i < min(walk->nr_mms, WSR_MAX_MMS); i++) {
		if (walk->nr_mms <= WSR_MAX_MMS)
			flush_tlb_mm(walk->mms[i]);
		mmdrop(walk->mms[i]);
	}
}

/* Clears the accessed bits of a folio in one mapping; @arg: struct wsr_walk */
static bool wsr_clear_young(struct folio *folio, struct vm_area_struct *vma,
			    unsigned long addr, void *arg)
{
	DEFINE_FOLIO_VMA_WALK(pvmw, folio, vma, addr, 0);
	struct wsr_walk *walk = arg;
	bool young = false;

	while (page_vma_mapped_walk(&pvmw)) {
		unsigned long size = PAGE_SIZE;

		addr = pvmw.address;
		if (pvmw.pte) {
			/* swap entries that map device memory have no such bit */
			if (pte_present(ptep_get(pvmw.pte)))
				young |= ptep_test_and_clear_young(vma, addr,
								   pvmw.pte);
		} else if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE)) {
			if (pmd_present(pmdp_get(pvmw.pmd)))
				young |= pmdp_test_and_clear_young(vma, addr,
								   pvmw.pmd);
			size = PMD_SIZE;
		}
		young |= mmu_notifier_clear_young(vma->vm_mm, addr,
						  addr + size);
	}
	if (young) {
		walk->young = true;
		wsr_note_mm(walk, vma->vm_mm);
	}
	return true;
}

enum wsr_answer {
	WSR_ACCESSED,
	WSR_IDLE,
	WSR_UNKNOWN,	/* somebody holds a lock that is needed to tell */
};

/* Was the folio accessed since it was asked last? */
static enum wsr_answer wsr_folio_accessed(struct folio *folio,
					  struct wsr_walk *walk)
{
	struct rmap_walk_control rwc = {
		.arg = walk,
		.try_lock = true,
		.rmap_one = wsr_clear_young,
		.anon_lock = folio_lock_anon_vma_read,
	};
	bool idle;

	walk->young = false;
	if (folio_mapped(folio) && folio_raw_mapping(folio)) {
		if (folio_trylock(folio)) {
			rmap_walk(folio, &rwc);
			folio_unlock(folio);
		} else {
			rwc.contended = true;
		}
	}

	if (walk->young)
		folio_set_young(folio);
	else if (rwc.contended && folio_test_idle(folio))
		return WSR_UNKNOWN;

	idle = folio_test_idle(folio);
	if (!idle)
		folio_set_idle(folio);
	return walk->young || !idle ? WSR_ACCESSED : WSR_IDLE;
}

/* A number that is the same for the same memory, wherever it is; never 0. */
static unsigned int wsr_owner(struct folio *folio, unsigned long pfn)
{
	unsigned long mapping = (unsigned long)READ_ONCE(folio->mapping);
	unsigned long index = READ_ONCE(folio->index) + pfn - folio_pfn(folio);

	return hash_64(mapping + index, 24) ?: 1;
}

/*
 * When a folio was accessed of which only the generation is known: MGLRU put it
 * there between the birth of that generation and the birth of the next one.
 */
static u64 wsr_seen_by_mglru(struct folio *folio, u64 now_ms)
{
	const struct lru_gen_folio *lrugen;
	u64 from_ms = 0, to_ms = now_ms;
	unsigned long now = jiffies;
	int gen, newest;
	u64 age_ms;

	rcu_read_lock();
	lrugen = &mem_cgroup_lruvec(folio_memcg(folio),
				    folio_pgdat(folio))->lrugen;
	newest = lru_gen_from_seq(READ_ONCE(lrugen->max_seq));
	gen = folio_lru_gen(folio);
	if (gen >= 0) {
		age_ms = jiffies64_to_msecs(now -
					    READ_ONCE(lrugen->timestamps[gen]));
		from_ms = now_ms - min(now_ms, age_ms);
	}
	if (gen >= 0 && gen != newest) {
		gen = (gen + 1) % MAX_NR_GENS;
		age_ms = jiffies64_to_msecs(now -
					    READ_ONCE(lrugen->timestamps[gen]));
		to_ms = now_ms - min(now_ms, age_ms);
	}
	rcu_read_unlock();

	return wsr_middle(from_ms, to_ms);
}

/**
 * wsr_ages_look - see which samples were accessed since the last look
 * @ages: the samples
 * @last_ms: time of the last look, in ms, 0 if there was none
 * @now_ms: the time, in ms, not before @last_ms
 * @look: numbers about the look
 *
 * Context: may sleep. Needs the lock of the node. Takes folio locks and the
 * locks of reverse mappings, but waits for none of them.
 */
void wsr_ages_look(struct wsr_ages *ages, u64 last_ms, u64 now_ms,
		   struct wsr_look *look)
{
	u64 accessed_ms = wsr_middle(last_ms, now_ms);
	enum wsr_answer answer = WSR_UNKNOWN;
	struct folio *last = NULL;
	struct wsr_walk walk = {};

	*look = (struct wsr_look) {};

	for (unsigned int i = 0; i < ages->nr; i++) {
		struct wsr_sample *sample = &ages->samples[i];
		unsigned long pfn = wsr_sample_pfn(ages, i);
		struct folio *folio = wsr_get_folio(ages->nid, pfn);
		unsigned int owner;

		cond_resched();

		sample->present = !!folio;
		if (!folio)
			continue;

		look->samples++;

		/* A second look at the same folio would find nothing. */
		if (folio != last) {
			answer = wsr_folio_accessed(folio, &walk);
			look->folios++;
			look->young += answer == WSR_ACCESSED;
			last = folio;
		}

		owner = wsr_owner(folio, pfn);
		if (answer == WSR_ACCESSED && last_ms)
			sample->seen_ms = accessed_ms;
		else if (sample->owner != owner)
			sample->seen_ms = wsr_seen_by_mglru(folio, now_ms);
		sample->owner = owner;
		sample->type = folio_is_file_lru(folio) ? WSR_FILE_BACKED :
							  WSR_SWAP_BACKED;
		folio_put(folio);
	}
	wsr_flush_mms(&walk);
}

/**
 * wsr_ages_count - sort the samples into bins
 * @ages: the samples
 * @idle_age_ms: bounds of the bins, in ms
 * @nr_bounds: number of bounds
 * @now_ms: the time, in ms, not before that of the last look
 * @counts: the result
 *
 * Context: needs the lock of the node.
 */
void wsr_ages_count(const struct wsr_ages *ages, const u32 *idle_age_ms,
		    unsigned int nr_bounds, u64 now_ms,
		    struct wsr_counts *counts)
{
	*counts = (struct wsr_counts) {};

	for (unsigned int i = 0; i < ages->nr; i++) {
		const struct wsr_sample *sample = &ages->samples[i];
		unsigned int bin;

		if (!sample->present)
			continue;

		bin = wsr_bin_of(idle_age_ms, nr_bounds,
				 now_ms - sample->seen_ms);
		counts->n[sample->type][bin]++;
	}
}
