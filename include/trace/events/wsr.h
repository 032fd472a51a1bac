/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM wsr

#if !defined(_TRACE_WSR_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_WSR_H

#include <linux/tracepoint.h>
#include <linux/wsr.h>

TRACE_DEFINE_ENUM(WSR_REASON_REQUEST);
TRACE_DEFINE_ENUM(WSR_REASON_RECLAIM);
TRACE_DEFINE_ENUM(WSR_REASON_PERIOD);

/* A look at the sampled memory of a node. */
TRACE_EVENT(wsr_refresh,

	TP_PROTO(int nid, unsigned int samples, unsigned int folios,
		 unsigned int young, u64 cost_us),

	TP_ARGS(nid, samples, folios, young, cost_us),

	TP_STRUCT__entry(
		__field(int, nid)
		__field(unsigned int, samples)
		__field(unsigned int, folios)
		__field(unsigned int, young)
		__field(u64, cost_us)
	),

	TP_fast_assign(
		__entry->nid = nid;
		__entry->samples = samples;
		__entry->folios = folios;
		__entry->young = young;
		__entry->cost_us = cost_us;
	),

	TP_printk("nid=%d samples=%u folios=%u young=%u cost_us=%llu",
		  __entry->nid, __entry->samples, __entry->folios,
		  __entry->young, __entry->cost_us)
);

/* A report of a node was made. */
TRACE_EVENT(wsr_report,

	TP_PROTO(int nid, const struct wsr_scope_report *report),

	TP_ARGS(nid, report),

	TP_STRUCT__entry(
		__field(int, nid)
		__field(unsigned int, nr_bins)
		__field(u64, age_ms)
		__field(u64, total_bytes)
		__field(u64, free_bytes)
	),

	TP_fast_assign(
		__entry->nid = nid;
		__entry->nr_bins = report->nr_bins;
		__entry->age_ms = report->age_ms;
		__entry->total_bytes = report->total_bytes;
		__entry->free_bytes = report->free_bytes;
	),

	TP_printk("nid=%d nr_bins=%u age_ms=%llu total=%llu free=%llu",
		  __entry->nid, __entry->nr_bins, __entry->age_ms,
		  __entry->total_bytes, __entry->free_bytes)
);

/* A receiver is about to be given a report. */
TRACE_EVENT(wsr_notify,

	TP_PROTO(const char *receiver, unsigned long reasons,
		 unsigned int nr_scopes),

	TP_ARGS(receiver, reasons, nr_scopes),

	TP_STRUCT__entry(
		__string(receiver, receiver)
		__field(unsigned long, reasons)
		__field(unsigned int, nr_scopes)
	),

	TP_fast_assign(
		__assign_str(receiver);
		__entry->reasons = reasons;
		__entry->nr_scopes = nr_scopes;
	),

	TP_printk("receiver=%s reasons=%s nr_scopes=%u", __get_str(receiver),
		  __print_flags(__entry->reasons, "|",
				{ BIT(WSR_REASON_REQUEST), "request" },
				{ BIT(WSR_REASON_RECLAIM), "reclaim" },
				{ BIT(WSR_REASON_PERIOD), "period" }),
		  __entry->nr_scopes)
);

#endif /* _TRACE_WSR_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
