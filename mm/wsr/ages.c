// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: the ages of sampled folios.
 *
 * Which page frames are samples is fixed by a hash, whatever they hold. Memory
 * is cut into blocks of 2^level page frames, and in each block there is one
 * sample, which is one of those of the level below (wsr_level()):
 *
 *    page frames  0   1   2   3   4   5   6   7
 *    level 0      x   x   x   x   x   x   x   x
 *    level 1      x       x       x       x
 *    level 2      x               x
 *    level 3                      x
 *
 * So samples are uniform over bytes, whatever the sizes of folios, and a scope
 * (a node, or a cgroup on it) takes the level that gives it some thousand of
 * them: a large one a coarse level, a small one all its pages. Scopes that
 * contain each other share samples. Only page frames that a scope needs are in
 * the table; what is sampled of a large folio stands in one entry.
 *
 * How folios get into the table:
 *  - when a scope is new or needs a finer level, a search over the blocks of the
 *    node finds them, in several looks if the node is large;
 *  - after that wsr_folio_added() tells of new folios;
 *  - wsr_folio_moved() tells that contents moved (migration, collapse). Samples
 *    follow their contents, so their ages are not lost. What moves onto a
 *    sampled page frame, but was no sample before, does not become one: it
 *    would count twice.
 *
 * A look asks for each folio in the table: was it accessed since the last look?
 * If so, it was in the middle between the two looks. Where the age can't be
 * known, since the folio was there before somebody cared, it is at least the
 * time since then (@known is 0); in the first looks at a scope, the birth times
 * of the folio's generation in MGLRU are the estimate.
 */
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/page_idle.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/cputime.h>
#include <linux/slab.h>

#include "../internal.h"
#include "internal.h"

/* The smallest table, in samples. */
#define WSR_MIN_SLOTS	512

/*
 * A search for samples looks at so many page frames in one look: some
 * milliseconds. It goes on with the next look.
 */
#define WSR_MAX_SEARCH	BIT(17)

/* A folio with more mappings is expensive to look at, and so sampled less. */
#define WSR_MAX_MAPPINGS	64

/* Looks between two searches for samples that should be there, but are not. */
#define WSR_FIND_LOOKS	16

#define WSR_PFN_BITS	44
#define WSR_OWNER_BITS	22

/**
 * struct wsr_sample - what is known of a sampled folio
 * @pfn: the first page frame
 * @order: order of the folio
 * @level: the coarsest level it belongs to
 * @boost: by so many levels it is sampled less because of its many mappings
 * @type: enum wsr_type
 * @used: the slot is not empty
 * @present: in a chain: the last look found that it can be reclaimed
 * @known: @seen_ms is the time of the last access; otherwise only a bound
 * @born: new in the table, and new in memory
 * @moved: new at this place: accessed bits tell nothing
 * @foreign: came here from a page frame that was no sample
 * @missed: the last look did not find it
 * @seen_ms: time of the last access, in ms, or it was before that
 * @owner: hash of what the folio holds, 0 if that was not looked at yet
 * @next: next sample in the chain of its scope, or WSR_NO_SAMPLE
 * @hash_next: next sample in the same bucket, or WSR_NO_SAMPLE
 */
struct wsr_sample {
	u64 pfn : WSR_PFN_BITS;
	u64 order : 5;
	u64 level : 5;
	u64 boost : 4;
	u64 type : 1;
	u64 used : 1;
	u64 present : 1;
	u64 known : 1;
	u64 born : 1;
	u64 moved : 1;
	u64 foreign : 1;
	u64 missed : 1;
	u64 seen_ms : 40;
	u64 owner : WSR_OWNER_BITS;
	u32 next;
	u32 hash_next;
};

/**
 * struct wsr_ages - the samples of a node
 * @nid: the node
 * @samples: the table
 * @buckets: hash table: page frame number to index in @samples
 * @nr_slots: size of @samples
 * @bits: size of @buckets, as a power of 2
 * @nr_taken: slots before this one are or were used
 * @nr_used: number of slots that are used
 * @lost: no memory for a sample
 * @search_level: the level that is searched, WSR_NO_LEVEL if no search goes on
 * @search_block: the block with which the search goes on
 * @counts: to count samples in
 *
 * Protected by the lock of the struct wsr_node that owns it.
 */
struct wsr_ages {
	int nid;
	struct wsr_sample *samples;
	u32 *buckets;
	unsigned int nr_slots;
	unsigned int bits;
	unsigned int nr_taken;
	unsigned int nr_used;
	bool lost;
	u8 search_level;
	unsigned long search_block;
	struct wsr_counts counts;
};

static u32 *wsr_bucket(const struct wsr_ages *ages, unsigned long pfn)
{
	return &ages->buckets[hash_64(pfn, ages->bits)];
}

static struct wsr_sample *wsr_find_sample(const struct wsr_ages *ages,
					  unsigned long pfn)
{
	u32 i = *wsr_bucket(ages, pfn);

	while (i != WSR_NO_SAMPLE && ages->samples[i].pfn != pfn)
		i = ages->samples[i].hash_next;
	return i == WSR_NO_SAMPLE ? NULL : &ages->samples[i];
}

static void wsr_hash_sample(struct wsr_ages *ages, struct wsr_sample *sample)
{
	u32 *bucket = wsr_bucket(ages, sample->pfn);

	sample->hash_next = *bucket;
	*bucket = sample - ages->samples;
}

static void wsr_unhash_sample(struct wsr_ages *ages, struct wsr_sample *sample)
{
	u32 *link = wsr_bucket(ages, sample->pfn);

	while (&ages->samples[*link] != sample)
		link = &ages->samples[*link].hash_next;
	*link = sample->hash_next;
}

/* Changes the size of the table. On failure nothing changes. */
static int wsr_ages_resize(struct wsr_ages *ages, unsigned int nr_slots)
{
	struct wsr_sample *old = ages->samples;
	unsigned int nr_old = ages->nr_taken;
	struct wsr_sample *samples;
	u32 *buckets;

	nr_slots = roundup_pow_of_two(max(nr_slots, WSR_MIN_SLOTS));
	samples = kvmalloc_array(nr_slots, sizeof(*samples), GFP_KERNEL);
	buckets = kvmalloc_array(nr_slots, sizeof(*buckets), GFP_KERNEL);
	if (!samples || !buckets) {
		kvfree(samples);
		kvfree(buckets);
		return -ENOMEM;
	}

	kvfree(ages->buckets);
	ages->samples = samples;
	ages->buckets = buckets;
	ages->nr_slots = nr_slots;
	ages->bits = ilog2(nr_slots);
	ages->nr_taken = 0;
	memset(buckets, 0xff, nr_slots * sizeof(*buckets));
	for (unsigned int i = 0; i < nr_old; i++) {
		if (!old[i].used)
			continue;
		samples[ages->nr_taken] = old[i];
		wsr_hash_sample(ages, &samples[ages->nr_taken++]);
	}
	kvfree(old);
	return 0;
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
	struct wsr_ages *ages = kzalloc(sizeof(*ages), GFP_KERNEL);

	if (!ages)
		return NULL;

	ages->nid = nid;
	ages->search_level = WSR_NO_LEVEL;
	if (wsr_ages_resize(ages, 0)) {
		kfree(ages);
		return NULL;
	}
	return ages;
}

/**
 * wsr_ages_free - stop to watch a node
 * @ages: from wsr_ages_alloc(), or NULL
 */
void wsr_ages_free(struct wsr_ages *ages)
{
	if (!ages)
		return;
	kvfree(ages->samples);
	kvfree(ages->buckets);
	kfree(ages);
}

/* A new sample with only its place filled in, or NULL if the table is full. */
static struct wsr_sample *wsr_take_slot(struct wsr_ages *ages,
					unsigned long pfn, unsigned int order)
{
	struct wsr_sample *sample;

	if (ages->nr_taken == ages->nr_slots) {
		ages->lost = true;
		return NULL;
	}
	sample = &ages->samples[ages->nr_taken++];
	*sample = (struct wsr_sample) {
		.pfn = pfn,
		.order = order,
		.level = min_t(unsigned int, wsr_level(pfn, order),
			       WSR_MAX_LEVEL),
		.used = true,
	};
	ages->nr_used++;
	wsr_hash_sample(ages, sample);
	return sample;
}

/* The same, but makes the table larger if need be: indices may change. */
static struct wsr_sample *wsr_add_sample(struct wsr_ages *ages,
					 unsigned long pfn, unsigned int order)
{
	if (ages->nr_taken == ages->nr_slots)
		wsr_ages_resize(ages, 2 * ages->nr_used);
	return wsr_take_slot(ages, pfn, order);
}

static void wsr_drop_sample(struct wsr_ages *ages, struct wsr_sample *sample)
{
	wsr_unhash_sample(ages, sample);
	sample->used = false;
	ages->nr_used--;
}

/*
 * The folio that begins at or contains a page frame, with a reference, if it is
 * on an LRU list and reclaim could take it. rmap_walk() can be used on such a
 * folio.
 */
static struct folio *wsr_get_folio(int nid, unsigned long pfn)
{
	struct folio *folio;
	struct page *page;

	/* Until there is a reference, the page could go offline. */
	guard(rcu)();

	page = pfn_to_online_page(pfn);
	if (!page || page_to_nid(page) != nid)
		return NULL;

	folio = page_folio(page);
	if (!folio_test_lru(folio) || !folio_try_get(folio))
		return NULL;

	if (page_folio(page) != folio || !folio_test_lru(folio) ||
	    folio_test_unevictable(folio)) {
		folio_put(folio);
		return NULL;
	}
	return folio;
}

/* A number that is the same for the same memory, wherever it is; never 0. */
static unsigned int wsr_owner(struct folio *folio)
{
	unsigned long mapping = (unsigned long)READ_ONCE(folio->mapping);

	return hash_64(mapping + READ_ONCE(folio->index), WSR_OWNER_BITS) ?: 1;
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

/* What @from stood for is a part of the folio of @to now. */
static void wsr_merge_samples(struct wsr_ages *ages, struct wsr_sample *to,
			      struct wsr_sample *from)
{
	if (from->known)
		to->seen_ms = to->known ? max_t(u64, to->seen_ms, from->seen_ms) :
					  from->seen_ms;
	to->known |= from->known;
	to->born |= from->born;
	to->level = max_t(unsigned int, to->level, from->level);
	wsr_drop_sample(ages, from);
}

/*
 * Contents moved. There is at most one sample for a place, so if several become
 * one (collapse), the youngest of them is kept.
 */
static void wsr_ages_moved(struct wsr_ages *ages, const struct wsr_event *event)
{
	struct wsr_sample *from = NULL;
	struct wsr_sample *to = wsr_find_sample(ages, event->to);

	if (event->from != WSR_ELSEWHERE)
		from = wsr_find_sample(ages, event->from);
	if (from && from->foreign)
		from = NULL;

	if (to && to->moved) {
		if (from)
			wsr_merge_samples(ages, to, from);
		return;
	}
	if (to)
		wsr_drop_sample(ages, to);
	if (from) {
		wsr_unhash_sample(ages, from);
		from->pfn = event->to;
		from->moved = true;
		from->missed = false;
		wsr_hash_sample(ages, from);
		return;
	}
	/* Nobody but us knows of what another node has sampled. */
	to = wsr_add_sample(ages, event->to, 0);
	if (to)
		to->foreign = event->from != WSR_ELSEWHERE;
}

static void wsr_ages_event(const struct wsr_event *event, void *arg)
{
	struct wsr_ages *ages = arg;
	struct wsr_sample *sample;

	if (!event->born) {
		wsr_ages_moved(ages, event);
	} else if (!wsr_find_sample(ages, event->to)) {
		sample = wsr_add_sample(ages, event->to, event->order);
		if (sample)
			sample->born = true;
	}
}

/* Adds the sample of a block unless it is in the table. Returns its folio's end. */
static unsigned long wsr_ages_find_one(struct wsr_ages *ages, unsigned long pfn)
{
	struct folio *folio = wsr_get_folio(ages->nid, pfn);
	const struct wsr_scope_node *part;
	struct wsr_sample *sample;
	unsigned int order;

	if (!folio)
		return pfn + 1;

	pfn = folio_pfn(folio);
	order = folio_order(folio);
	rcu_read_lock();
	part = &wsr_scope_of(folio)->node[ages->nid];
	rcu_read_unlock();

	if (wsr_level(pfn, order) >= part->level &&
	    !wsr_find_sample(ages, pfn)) {
		sample = wsr_add_sample(ages, pfn, order);
		if (sample)
			sample->born = part->search != WSR_SEARCH_ALL &&
				       part->searching != WSR_SEARCH_ALL &&
				       !folio_test_idle(folio);
	}
	folio_put(folio);
	return pfn + (1UL << order);
}

/*
 * Looks at the samples of blocks of a level, at most @nr of them. Returns the
 * block to go on with, or ULONG_MAX if that was all.
 */
static unsigned long wsr_ages_find(struct wsr_ages *ages, unsigned int level,
				   unsigned long block, unsigned long nr)
{
	unsigned long start = READ_ONCE(NODE_DATA(ages->nid)->node_start_pfn);
	unsigned long end = start +
			    READ_ONCE(NODE_DATA(ages->nid)->node_spanned_pages);

	block = max(block, start >> level);
	while (nr--) {
		unsigned long pfn = wsr_level_pfn(block, level);

		/* The last memory may just have gone. */
		if (block << level >= end)
			return ULONG_MAX;

		cond_resched();
		if (pfn_to_online_page(pfn))
			pfn = wsr_ages_find_one(ages, pfn);
		else	/* subsections of memory can be offline */
			pfn = ALIGN(pfn + 1, SZ_2M >> PAGE_SHIFT);
		block = max(block + 1, pfn >> level);
	}
	return block;
}

static void wsr_ages_begin_search(struct wsr_ages *ages)
{
	bool ready = wsr_log_ready();
	struct wsr_scope *scope;

	ages->search_block = 0;
	list_for_each_entry(scope, &wsr_scopes, list) {
		struct wsr_scope_node *part = &scope->node[ages->nid];

		part->searching = part->level == WSR_NO_LEVEL ?
				  WSR_SEARCH_NONE : part->search;
		part->goal = part->level;
		/* Not all new folios are told of yet? */
		part->search = ready ? WSR_SEARCH_NONE : WSR_SEARCH_NEW;
	}
}

/* Those who needed the finest level may have gone. */
static void wsr_ages_search_level(struct wsr_ages *ages)
{
	unsigned int level = WSR_NO_LEVEL;
	struct wsr_scope *scope;

	list_for_each_entry(scope, &wsr_scopes, list) {
		const struct wsr_scope_node *part = &scope->node[ages->nid];

		if (part->searching && part->level != WSR_NO_LEVEL)
			level = min_t(unsigned int, level, part->goal);
	}
	if (level != WSR_NO_LEVEL && ages->search_level < level)
		ages->search_block >>= level - ages->search_level;
	ages->search_level = level;
}

static void wsr_ages_search(struct wsr_ages *ages, struct wsr_look *look)
{
	struct wsr_scope *scope;
	u64 start_ns;

	if (ages->search_level != WSR_NO_LEVEL)
		wsr_ages_search_level(ages);
	if (ages->search_level == WSR_NO_LEVEL) {
		wsr_ages_begin_search(ages);
		wsr_ages_search_level(ages);
	}
	if (ages->search_level == WSR_NO_LEVEL)
		return;

	start_ns = task_sched_runtime(current);
	ages->search_block = wsr_ages_find(ages, ages->search_level,
					   ages->search_block, WSR_MAX_SEARCH);
	look->find_us = 1 + div_u64(task_sched_runtime(current) - start_ns,
				    NSEC_PER_USEC);
	look->find_more = ages->search_block != ULONG_MAX;
	if (!look->find_more) {
		ages->search_level = WSR_NO_LEVEL;
		return;
	}
	/* What is found in later looks may be there since this one. */
	list_for_each_entry(scope, &wsr_scopes, list) {
		struct wsr_scope_node *part = &scope->node[ages->nid];

		if (part->searching)
			part->searching = WSR_SEARCH_ALL;
		if (part->search)
			part->search = WSR_SEARCH_ALL;
	}
}

static void wsr_want_search(struct wsr_scope_node *part, enum wsr_search search)
{
	part->search = max(part->search, search);
}

/* A large folio was split: its parts inherit the age. */
static void wsr_ages_split(struct wsr_ages *ages, struct wsr_sample *sample,
			   unsigned int order, unsigned int level)
{
	unsigned int old_order = sample->order, old_level = sample->level;
	unsigned long nr = 1UL << (old_order - order);

	sample->order = order;
	for (unsigned long i = 0; i < nr; i++) {
		unsigned long pfn = sample->pfn + (i << order);
		unsigned int part_level = wsr_level(pfn, order);
		struct wsr_sample *part = sample;

		if (part_level >= old_order)
			part_level = old_level;
		if (i && (part_level < level || wsr_find_sample(ages, pfn)))
			continue;
		if (i) {
			part = wsr_take_slot(ages, pfn, order);
			if (!part)
				return;
			part->seen_ms = sample->seen_ms;
			part->known = sample->known;
			/* its own accessed bit was not cleared in all looks */
			part->moved = true;
		}
		part->level = part_level;
	}
}

/**
 * struct wsr_looking - a look that is going on
 * @ages: the samples
 * @look: numbers about it
 * @walk: what it found in page tables
 * @last_ms: time of the last look, in ms
 * @now_ms: the time, in ms
 */
struct wsr_looking {
	struct wsr_ages *ages;
	struct wsr_look *look;
	struct wsr_walk walk;
	u64 last_ms;
	u64 now_ms;
};

/* How many mappings have to be looked at to know whether it was accessed. */
static unsigned int wsr_nr_mappings(struct folio *folio)
{
	if (!folio_test_large(folio))
		return folio_mapcount(folio);
	return max(folio_entire_mapcount(folio),
		   folio_mapcount(folio) >> folio_order(folio));
}

static void wsr_update_age(struct wsr_looking *looking,
			   struct wsr_sample *sample, struct folio *folio,
			   bool born, bool first)
{
	enum wsr_answer answer = wsr_folio_accessed(folio, &looking->walk);
	bool found = !sample->owner && !born && !sample->moved;

	looking->look->folios++;
	looking->look->young += answer == WSR_ACCESSED;

	if (found && first) {
		sample->seen_ms = wsr_seen_by_mglru(folio, looking->now_ms);
		sample->known = true;
	} else if (found) {
		sample->seen_ms = looking->now_ms;
		sample->known = false;
	} else if (born || (answer == WSR_ACCESSED && !sample->moved)) {
		sample->seen_ms = wsr_middle(looking->last_ms,
					     looking->now_ms);
		sample->known = true;
	}
}

/* Look at one sample. Returns false if it is of no use any more. */
static bool wsr_look_at(struct wsr_looking *looking, struct wsr_sample *sample,
			struct folio *folio, struct wsr_scope_node *part)
{
	unsigned int order = folio_order(folio);
	unsigned int owner = wsr_owner(folio);
	unsigned int mappings = wsr_nr_mappings(folio);
	unsigned int level;
	bool born;

	born = sample->born || (sample->owner && sample->owner != owner &&
				!sample->moved);
	/* Contents that are new, and have not moved, are sampled by their place. */
	if (!sample->moved && (born || !sample->owner)) {
		sample->order = order;
		sample->level = min_t(unsigned int, WSR_MAX_LEVEL,
				      wsr_level(sample->pfn, order));
	}
	if (born)
		sample->foreign = false;
	if (sample->foreign) {
		sample->owner = owner;
		return sample->level >= part->level;
	}

	if (order < sample->order)
		wsr_ages_split(looking->ages, sample, order, part->level);
	/* Never smaller than its level, see wsr_weight(). */
	sample->order = order;
	sample->level = max_t(unsigned int, sample->level,
			      min_t(unsigned int, order, WSR_MAX_LEVEL));
	if (sample->level < part->level)
		return false;

	sample->boost = 0;
	if (mappings > WSR_MAX_MAPPINGS)
		sample->boost = min(ilog2(mappings / WSR_MAX_MAPPINGS), 15);
	level = part->level + sample->boost;

	sample->type = folio_is_file_lru(folio) ? WSR_FILE_BACKED :
						  WSR_SWAP_BACKED;
	if (sample->level >= level) {
		wsr_update_age(looking, sample, folio, born,
			       part->found_level == WSR_NO_LEVEL);
		sample->present = true;
		looking->look->samples++;
	} else {
		sample->seen_ms = looking->now_ms;
		sample->known = false;
	}
	sample->owner = owner;
	sample->moved = false;
	sample->born = false;
	return true;
}

/*
 * Reclaim and others take folios off the lists for a time. Many of these are
 * old: if they were forgotten, what they stand for would look younger. They have
 * no age as long as they are in no list's size.
 */
static bool wsr_is_isolated(int nid, const struct wsr_sample *sample)
{
	struct folio *folio;
	struct page *page;

	/* Without a reference: what it holds now is compared, no more. */
	guard(rcu)();
	page = pfn_to_online_page(sample->pfn);
	if (!page || page_to_nid(page) != nid)
		return false;
	folio = page_folio(page);
	return sample->owner && folio_pfn(folio) == sample->pfn &&
	       READ_ONCE(folio->mapping) && wsr_owner(folio) == sample->owner;
}

static void wsr_look_at_slot(struct wsr_looking *looking, unsigned int i)
{
	struct wsr_ages *ages = looking->ages;
	struct wsr_sample *sample = &ages->samples[i];
	struct folio *folio = wsr_get_folio(ages->nid, sample->pfn);
	struct wsr_look before = *looking->look;
	struct wsr_scope_node *part;
	bool keep;

	sample->present = false;
	if (folio && folio_pfn(folio) != sample->pfn) {
		folio_put(folio);
		folio = NULL;
	}
	if (!folio) {
		if (wsr_is_isolated(ages->nid, sample))
			return;
		/* It may be on its way to a list. */
		if (sample->missed)
			wsr_drop_sample(ages, sample);
		else
			sample->missed = true;
		return;
	}
	sample->missed = false;

	rcu_read_lock();
	part = &wsr_scope_of(folio)->node[ages->nid];
	rcu_read_unlock();

	keep = wsr_look_at(looking, sample, folio, part);
	if (!keep) {
		wsr_drop_sample(ages, sample);
	} else if (sample->present) {
		sample->next = part->first;
		part->first = i;
		part->look.samples++;
		part->look.folios += looking->look->folios - before.folios;
		part->look.young += looking->look->young - before.young;
	}
	folio_put(folio);
}

/*
 * The number of pages a sample speaks for at a level, 0 if it is none there:
 * each folio is in with a chance of 2^(order - level), if that is below 1.
 */
static u64 wsr_weight(const struct wsr_sample *sample, unsigned int level)
{
	level += sample->boost;
	if (sample->level < level)
		return 0;
	return 1ULL << max_t(unsigned int, sample->order, level);
}

/* Choose the levels of all scopes. */
static void wsr_ages_levels(struct wsr_ages *ages)
{
	unsigned int finest = WSR_NO_LEVEL;
	struct wsr_scope *scope;

	list_for_each_entry(scope, &wsr_scopes, list) {
		struct wsr_scope_node *part = &scope->node[ages->nid];
		unsigned int level = WSR_NO_LEVEL;
		u64 pages;

		wsr_scope_sizes(scope, ages->nid, part->bytes);
		if (part->wanted) {
			pages = (part->bytes[WSR_SWAP_BACKED] +
				 part->bytes[WSR_FILE_BACKED]) >> PAGE_SHIFT;
			level = wsr_choose_level(part->own_level, pages);
		}
		part->own_level = level;
		if (scope->parent)
			level = min_t(unsigned int, level,
				      scope->parent->node[ages->nid].level);
		WRITE_ONCE(part->level, level);
		if (part->found_level < level || level == WSR_NO_LEVEL)
			part->found_level = level;
		if (level < part->found_level &&
		    !(part->searching && part->goal <= level))
			wsr_want_search(part, WSR_SEARCH_ALL);
		finest = min(finest, level);
	}
	wsr_log_level(ages->nid, finest);
}

/*
 * Are samples missing? Folios that come to a cgroup in unusual ways (unlocked
 * memory, say) are not told of.
 */
static void wsr_ages_check(struct wsr_ages *ages, struct wsr_scope *scope)
{
	struct wsr_scope_node *part = &scope->node[ages->nid];
	struct wsr_pages seen;
	struct wsr_look look;
	u64 pages;

	wsr_ages_count(ages, scope, NULL, 0, 0, &seen, &look);
	pages = (part->bytes[WSR_SWAP_BACKED] + part->bytes[WSR_FILE_BACKED]) >>
		PAGE_SHIFT;
	if (seen.n[WSR_SWAP_BACKED][0] + seen.n[WSR_FILE_BACKED][0] <
	    pages - pages / 8)
		wsr_want_search(part, WSR_SEARCH_ALL);
}

/**
 * wsr_ages_look - see which samples were accessed since the last look
 * @ages: the samples
 * @last_ms: time of the last look, in ms, 0 if there was none
 * @now_ms: the time, in ms, not before @last_ms
 * @look: numbers about the look
 *
 * Context: may sleep. Needs wsr_scopes_sem and the lock of the node. Takes folio
 * locks and the locks of reverse mappings, but waits for none of them.
 */
void wsr_ages_look(struct wsr_ages *ages, u64 last_ms, u64 now_ms,
		   struct wsr_look *look)
{
	struct wsr_looking looking = {
		.ages = ages,
		.look = look,
		.last_ms = last_ms,
		.now_ms = now_ms,
	};
	struct wsr_scope *scope;

	lockdep_assert_held(&wsr_scopes_sem);

	*look = (struct wsr_look) {};
	wsr_ages_levels(ages);

	/* Empty slots are worth being removed. */
	if (ages->nr_taken - ages->nr_used > ages->nr_slots / 2)
		wsr_ages_resize(ages, 2 * ages->nr_used);

	ages->lost = false;
	if (wsr_log_drain(ages->nid, wsr_ages_event, ages)) {
		list_for_each_entry(scope, &wsr_scopes, list)
			wsr_want_search(&scope->node[ages->nid],
					WSR_SEARCH_NEW);
	}
	wsr_ages_search(ages, look);

	list_for_each_entry(scope, &wsr_scopes, list) {
		struct wsr_scope_node *part = &scope->node[ages->nid];

		part->first = WSR_NO_SAMPLE;
		part->look = (struct wsr_look) {};
	}

	/* Splits add samples at the end. */
	for (unsigned int i = 0; i < ages->nr_taken; i++) {
		cond_resched();
		if (ages->samples[i].used)
			wsr_look_at_slot(&looking, i);
	}
	wsr_walk_end(&looking.walk);

	list_for_each_entry(scope, &wsr_scopes, list) {
		struct wsr_scope_node *part = &scope->node[ages->nid];

		part->looks++;
		if (ages->lost)
			wsr_want_search(part, WSR_SEARCH_ALL);
		if (part->searching && !look->find_more) {
			part->found_level = min(part->found_level, part->goal);
			part->searching = WSR_SEARCH_NONE;
		}
		if (part->wanted && !part->searching &&
		    part->looks % WSR_FIND_LOOKS == 0)
			wsr_ages_check(ages, scope);
	}
}

/**
 * wsr_ages_splice - join two chains of samples
 * @ages: the samples
 * @from: the first sample of the one chain
 * @to: where the first sample of the other chain is written; begins with that
 *	of the one chain then
 *
 * Context: needs the lock of the node.
 */
void wsr_ages_splice(struct wsr_ages *ages, u32 from, u32 *to)
{
	u32 last = from;

	if (from == WSR_NO_SAMPLE)
		return;

	while (ages->samples[last].next != WSR_NO_SAMPLE)
		last = ages->samples[last].next;
	ages->samples[last].next = *to;
	*to = from;
}

/* Counts the samples of a chain; or only finds out which bins that takes. */
static void wsr_count_chain(struct wsr_ages *ages, u32 first,
			    unsigned int level, u64 now_ms, bool split,
			    struct wsr_look *look)
{
	struct wsr_counts *counts = &ages->counts;

	for (u32 i = first; i != WSR_NO_SAMPLE; i = ages->samples[i].next) {
		const struct wsr_sample *sample = &ages->samples[i];
		u64 weight = wsr_weight(sample, level);
		u64 age_ms = now_ms - sample->seen_ms;
		unsigned int bin;

		if (!weight || (split && sample->known))
			continue;
		if (split) {
			wsr_counts_split(counts, age_ms);
			continue;
		}
		look->samples++;
		bin = wsr_bin_of(counts->bounds_ms, counts->nr_bounds, age_ms);
		if (sample->known)
			counts->known[sample->type][bin] += weight;
		else
			counts->unknown[sample->type][bin] += weight;
	}
}

/* The same for all that is in a scope. */
static void wsr_count_scope(struct wsr_ages *ages,
			    const struct wsr_scope *scope, u64 now_ms,
			    bool split, struct wsr_look *look)
{
	const struct wsr_scope_node *own = &scope->node[ages->nid];
	const struct wsr_scope *inner = scope;
	unsigned int level = own->own_level;

	/* Of a finer level, not all samples were found yet. */
	if (own->found_level != WSR_NO_LEVEL)
		level = max_t(unsigned int, level, own->found_level);

	*look = (struct wsr_look) {};
	/* All that are inside come after it. */
	list_for_each_entry_from(inner, &wsr_scopes, list) {
		const struct wsr_scope_node *part = &inner->node[ages->nid];

		if (!wsr_scope_inside(inner, scope))
			continue;
		look->folios += part->look.folios;
		look->young += part->look.young;
		wsr_count_chain(ages, part->first, level, now_ms, split, look);
	}
}

/**
 * wsr_ages_count - sort the samples of a scope into bins
 * @ages: the samples
 * @scope: the scope
 * @idle_age_ms: bounds of the bins, in ms
 * @nr_bounds: number of bounds
 * @now_ms: the time, in ms, not before that of the last look
 * @pages: the result
 * @look: the last look at these samples
 *
 * Context: needs wsr_scopes_sem and the lock of the node.
 */
void wsr_ages_count(struct wsr_ages *ages, const struct wsr_scope *scope,
		    const u32 *idle_age_ms, unsigned int nr_bounds, u64 now_ms,
		    struct wsr_pages *pages, struct wsr_look *look)
{
	wsr_counts_init(&ages->counts, idle_age_ms, nr_bounds);
	if (nr_bounds)
		wsr_count_scope(ages, scope, now_ms, true, look);
	wsr_count_scope(ages, scope, now_ms, false, look);
	wsr_counts_finish(&ages->counts, idle_age_ms, nr_bounds, pages);
}
