// SPDX-License-Identifier: GPL-2.0
/*
 * Working set reporting: was a folio accessed since it was asked last?
 *
 * It was if a page table entry that maps it is young, or PG_idle is clear:
 * folios are born without PG_idle, folio_mark_accessed() and reclaim clear it.
 * The question sets it again.
 *
 * Reclaim must not miss what was taken from the page tables, or samples would be
 * the first to go. As in idle page tracking, it is left in PG_young.
 */
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/page_idle.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <asm/tlbflush.h>

#include "../internal.h"
#include "internal.h"

static void wsr_note_mm(struct wsr_walk *walk, struct mm_struct *mm)
{
	for (unsigned int i = 0; i < walk->nr_mms; i++) {
		if (walk->mms[i] == mm)
			return;
	}
	if (walk->nr_mms == WSR_MAX_MMS) {
		walk->more_mms = true;
		return;
	}
	mmgrab(mm);
	walk->mms[walk->nr_mms++] = mm;
}

/**
 * wsr_walk_end - make the next accesses set accessed bits again
 * @walk: what was noted by wsr_folio_accessed()
 *
 * Some architectures do not set the accessed bit as long as a translation is
 * cached in which it was set, and clearing it does not flush. One flush of each
 * address space at the end of a look keeps hot memory from looking idle. It
 * goes only to CPUs that use the address space, so it wakes no idle ones, unless
 * there are many of them: then it is cheaper to flush everything once.
 *
 * Context: may sleep.
 */
void wsr_walk_end(struct wsr_walk *walk)
{
	if (walk->more_mms)
		flush_tlb_all();

	for (unsigned int i = 0; i < walk->nr_mms; i++) {
		if (!walk->more_mms)
			flush_tlb_mm(walk->mms[i]);
		mmdrop(walk->mms[i]);
	}
}

/*
 * Clears the accessed bits that map one page of a folio at @addr, or all of the
 * folio. Returns false if it is mapped by a page table entry of its own, so
 * that other pages of the folio may have other accessed bits.
 */
static bool wsr_clear_young_at(struct vm_area_struct *vma, unsigned long pfn,
			       pgoff_t pgoff, unsigned long addr, bool *young)
{
	struct page_vma_mapped_walk pvmw = {
		.pfn = pfn,
		.nr_pages = 1,
		.pgoff = pgoff,
		.vma = vma,
		.address = addr,
	};
	bool all = false;

	while (page_vma_mapped_walk(&pvmw)) {
		unsigned long size = PAGE_SIZE;

		addr = pvmw.address;
		if (pvmw.pte) {
			/* swap entries that map device memory have no such bit */
			if (pte_present(ptep_get(pvmw.pte)))
				*young |= ptep_test_and_clear_young(vma, addr,
								    pvmw.pte);
		} else if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE)) {
			addr &= PMD_MASK;
			if (pmd_present(pmdp_get(pvmw.pmd)))
				*young |= pmdp_test_and_clear_young(vma, addr,
								    pvmw.pmd);
			size = PMD_SIZE;
			all = true;
		}
		*young |= mmu_notifier_clear_young(vma->vm_mm, addr,
						   addr + size);
	}
	return all;
}

/*
 * A large folio can be mapped by one entry for each of its pages. Not more of
 * them than this are looked at, spread evenly: they stand for the others.
 */
#define WSR_MAX_PTES	16U

/* Clears accessed bits of a folio in one mapping; @arg: struct wsr_walk */
static bool wsr_clear_young(struct folio *folio, struct vm_area_struct *vma,
			    unsigned long addr, void *arg)
{
	unsigned long nr = folio_nr_pages(folio);
	unsigned long step = max(nr / WSR_MAX_PTES, 1UL);
	pgoff_t first = linear_page_index(vma, addr);
	struct wsr_walk *walk = arg;
	bool young = false;

	/*
	 * @addr is where the part of the folio begins that is in the mapping. The
	 * index of a KSM folio tells nothing, and there is only one page.
	 */
	unsigned long skipped = folio_test_ksm(folio) ? 0 :
				first - folio_pgoff(folio);

	for (unsigned long i = skipped + step / 2; i < nr; i += step) {
		unsigned long at = addr + ((i - skipped) << PAGE_SHIFT);

		if (at >= vma->vm_end)
			break;
		if (wsr_clear_young_at(vma, folio_pfn(folio) + i,
				       first + i - skipped, at, &young))
			break;
	}
	if (young) {
		walk->young = true;
		wsr_note_mm(walk, vma->vm_mm);
	}
	return true;
}

/**
 * wsr_folio_accessed - was a folio accessed since this was asked last?
 * @folio: a folio on an LRU list, with a reference
 * @walk: collects where the TLB has to be flushed
 *
 * Context: may sleep. Takes the lock of the folio and those of its reverse
 * mappings, but waits for none of them.
 * Return: see enum wsr_answer.
 */
enum wsr_answer wsr_folio_accessed(struct folio *folio, struct wsr_walk *walk)
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
