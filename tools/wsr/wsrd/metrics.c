// SPDX-License-Identifier: GPL-2.0
/*
 * The facts and decisions of wsrd as text for Prometheus and its relatives.
 * Bytes and seconds everywhere; what is not known is left out.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ages.h"
#include "metrics.h"
#include "store.h"
#include "trace.h"

#define PATH_SIZE	4096
#define FIRST_SIZE	65536

enum type {
	GAUGE,
	COUNTER,	/* its samples are called NAME_total */
	/*
	 * A gauge with the label "le", so that histogram_quantile() works.
	 * promtool only lets metrics without a type have that.
	 */
	AGES,
};

/*
 * One text that is being made. With 1000 VMs it has tens of thousands of lines,
 * and no decisions are made meanwhile: stdio would take several times as long.
 */
struct writer {
	char *data;
	size_t len;
	size_t size;
	bool failed;		/* out of memory; what came after it is lost */
	bool openmetrics;
	struct manager *manager;
	int64_t now_ms;
	const char *name;	/* of the family that is being written */
	enum type type;
};

static void grow(struct writer *writer, size_t len)
{
	size_t size = 2 * writer->size > writer->len + len ?
		      2 * writer->size : writer->len + len;
	char *data = realloc(writer->data, size);

	if (!data) {
		writer->failed = true;
		return;
	}
	writer->data = data;
	writer->size = size;
}

static void put(struct writer *writer, const char *text, size_t len)
{
	if (writer->size - writer->len < len)
		grow(writer, len);
	if (writer->failed)
		return;
	memcpy(writer->data + writer->len, text, len);
	writer->len += len;
}

static void put_text(struct writer *writer, const char *text)
{
	put(writer, text, strlen(text));
}

static void put_integer(struct writer *writer, uint64_t value)
{
	char text[20], *digit = text + sizeof(text);

	do {
		*--digit = '0' + value % 10;
		value /= 10;
	} while (value);
	put(writer, digit, text + sizeof(text) - digit);
}

static void put_number(struct writer *writer, double value)
{
	char text[32];

	if (isinf(value)) {
		put_text(writer, value > 0 ? "+Inf" : "-Inf");
	} else if (value >= 0 && value < 0x1p53 && value == (uint64_t)value) {
		put_integer(writer, value);
	} else {
		snprintf(text, sizeof(text), "%.9g", value);
		put_text(writer, text);
	}
}

/* Exactly: two bounds of a guest must not become the same text. */
static void put_seconds(struct writer *writer, uint64_t ms)
{
	unsigned int part = ms % 1000;
	char digits[] = {
		'.', '0' + part / 100, '0' + part / 10 % 10, '0' + part % 10
	};
	size_t len = sizeof(digits);

	put_integer(writer, ms / 1000);
	while (part && digits[len - 1] == '0')
		len--;
	if (part)
		put(writer, digits, len);
}

static void begin(struct writer *writer, const char *name, enum type type,
		  const char *help)
{
	const char *total = type == COUNTER && !writer->openmetrics ?
			    "_total" : "";
	const char *word = type == COUNTER ? "counter" :
			   type == AGES && !writer->openmetrics ?
			   "untyped" : "gauge";
	char text[512];
	int len;

	writer->name = name;
	writer->type = type;
	len = snprintf(text, sizeof(text),
		       "# HELP %s%s %s\n# TYPE %s%s %s\n", name, total, help,
		       name, total, word);
	put(writer, text, len);
}

/* A label's value; names of VMs may have any printable character. */
static void put_label(struct writer *writer, const char *name,
		      const char *value)
{
	put_text(writer, name);
	put(writer, "=\"", 2);
	while (*value) {
		size_t len = strcspn(value, "\"\\\n");

		put(writer, value, len);
		value += len;
		if (!*value)
			break;
		put(writer, "\\", 1);
		put(writer, *value == '\n' ? "n" : value, 1);
		value++;
	}
	put(writer, "\"", 1);
}

/* A sample with up to two labels, NULL: none */
static void sample(struct writer *writer, const char *label, const char *value,
		   const char *label2, const char *value2, double number)
{
	put_text(writer, writer->name);
	if (writer->type == COUNTER)
		put_text(writer, "_total");
	if (label) {
		put(writer, "{", 1);
		put_label(writer, label, value);
		if (label2) {
			put(writer, ",", 1);
			put_label(writer, label2, value2);
		}
		put(writer, "}", 1);
	}
	put(writer, " ", 1);
	put_number(writer, number);
	put(writer, "\n", 1);
}

static void single(struct writer *writer, const char *name, enum type type,
		   const char *help, double number)
{
	begin(writer, name, type, help);
	sample(writer, NULL, NULL, NULL, NULL, number);
}

/* Stalls of a control group or of the host, negative: not known */
static double psi_some_s(int directory, const char *path)
{
	int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
	unsigned long long us;
	char text[128];
	ssize_t len;

	if (fd < 0)
		return -1;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return sscanf(text, "some avg10=%*f avg60=%*f avg300=%*f total=%llu",
		      &us) == 1 ? us / 1e6 : -1;
}

static void write_swap(struct writer *writer)
{
	FILE *file = fopen("/proc/vmstat", "re");
	unsigned long long value, in = 0, out = 0;
	char name[64];

	if (!file)
		return;
	while (fscanf(file, "%63s %llu", name, &value) == 2) {
		if (!strcmp(name, "pswpin"))
			in = value;
		else if (!strcmp(name, "pswpout"))
			out = value;
	}
	fclose(file);
	single(writer, "wsr_host_swap_in_bytes", COUNTER,
	       "Read from the host's swap space.",
	       (double)in * sysconf(_SC_PAGESIZE));
	single(writer, "wsr_host_swap_out_bytes", COUNTER,
	       "Written to the host's swap space.",
	       (double)out * sysconf(_SC_PAGESIZE));
}

static void write_host(struct writer *writer)
{
	const struct wsr_host *host = &writer->manager->host;
	const struct config *config = writer->manager->config;
	char slo[32], path[PATH_SIZE];
	double psi;

	single(writer, "wsr_host_total_bytes", GAUGE,
	       "Memory of the host, or of the control group of all VMs.",
	       host->total_bytes);
	single(writer, "wsr_host_other_bytes", GAUGE,
	       "Used by other than the VMs.", host->other_bytes);
	single(writer, "wsr_host_reserved_bytes", GAUGE,
	       "Held for VMs that are to start.", host->reserved_bytes);
	single(writer, "wsr_host_capacity_bytes", GAUGE,
	       "What VMs may have together.", host->capacity_bytes);
	single(writer, "wsr_host_buffer_bytes", GAUGE,
	       "Kept free for what comes next.", host->buffer_bytes);
	single(writer, "wsr_host_swap_bytes", GAUGE,
	       "What may be in the host's swap space until VMs have shrunk.",
	       host->swap_bytes);
	begin(writer, "wsr_host_reclaimable_bytes", GAUGE,
	      "How much more fits on this host with the SLOs of all VMs held.");
	snprintf(slo, sizeof(slo), "%g", config->vms[0].policy.slo);
	sample(writer, "slo", slo, NULL, NULL, host->reclaimable_bytes);
	single(writer, "wsr_host_deficit_bytes", GAUGE,
	       "How much is missing for the SLOs: that much should be migrated away.",
	       host->deficit_bytes);
	single(writer, "wsr_host_cut_age_seconds", GAUGE,
	       "Idle age at which VMs with shares of 1 are cut, +Inf: there is enough.",
	       host->cut_x < WSR_GRID_MAX_X ?
	       wsr_ms_of_x(host->cut_x) / 1000 : INFINITY);
	snprintf(path, sizeof(path), "%s%s", config->memory_cgroup ?
		 config->memory_cgroup : "/proc/pressure",
		 config->memory_cgroup ? "/memory.pressure" : "/memory");
	psi = psi_some_s(AT_FDCWD, path);
	if (psi >= 0)
		single(writer, "wsr_host_psi_some_seconds", COUNTER,
		       "Time that something on the host waited for memory.",
		       psi);
	write_swap(writer);
}

/* A value of a VM that can be planned; false: it is not known */
typedef bool (*vm_value)(const struct writer *writer,
			 const struct managed *managed,
			 const struct wsr_vm *plan, double *value);

#define VALUE(function, known, expression) \
static bool function(const struct writer *writer, \
		     const struct managed *managed, \
		     const struct wsr_vm *plan, double *value) \
{ \
	(void)writer; \
	(void)managed; \
	(void)plan; \
	*value = (expression); \
	return (known); \
}

static double age_s(double x)
{
	return x < WSR_GRID_MAX_X ? wsr_ms_of_x(x) / 1000 : INFINITY;
}

static double group_psi_s(const struct cgroup *group)
{
	return group && group->present && group->directory >= 0 ?
	       psi_some_s(group->directory, "memory.pressure") : -1;
}

VALUE(size_bytes, true, plan->size_bytes)
VALUE(actual_bytes, true, plan->actual_bytes)
VALUE(swapped_bytes, plan->swapped_bytes, plan->swapped_bytes)
VALUE(target_bytes, true, plan->target_bytes)
VALUE(desired_bytes, plan->why.desired > 0, plan->why.desired)
VALUE(floor_bytes, plan->why.desired > 0, plan->why.slo_floor)
VALUE(working_set_bytes, plan->has_report, plan->why.wss)
VALUE(free_bytes, plan->has_report, plan->free)
VALUE(cut_age_s, plan->has_report, age_s(plan->why.cut_x))
VALUE(slo_age_s, plan->has_report, age_s(plan->why.slo_x))
VALUE(predicted_rate, plan->has_report, plan->why.refault_rate)
VALUE(slo_rate, plan->has_report, plan->config->slo * plan->why.wss / 60)
VALUE(refaulted_bytes, plan->has_report, plan->refaulted)
VALUE(report_age_s, plan->has_report,
      (writer->now_ms - plan->report_ms) / 1000.0)
VALUE(stuck, true, plan->stall == WSR_STALLED)
VALUE(stalls, true, managed->stalls)
VALUE(reports, true, managed->vm->guest.reports)
VALUE(refused_reports, true, managed->bad_reports)
VALUE(psi_s, *value >= 0, group_psi_s(managed->group))

static const struct {
	const char *name;
	enum type type;
	vm_value value;
	const char *help;
} vm_families[] = {
	{ "wsr_vm_size_bytes", GAUGE, size_bytes,
	  "Memory that the VM was started with." },
	{ "wsr_vm_balloon_actual_bytes", GAUGE, actual_bytes,
	  "Memory that the VM has: its size less its balloon." },
	{ "wsr_vm_swapped_bytes", GAUGE, swapped_bytes,
	  "Memory of the VM that the host has swapped out." },
	{ "wsr_vm_balloon_target_bytes", GAUGE, target_bytes,
	  "Memory that the VM was told to have." },
	{ "wsr_vm_desired_bytes", GAUGE, desired_bytes,
	  "Memory that the VM should have; the target follows step by step." },
	{ "wsr_vm_slo_floor_bytes", GAUGE, floor_bytes,
	  "Memory below which the VM's SLO would not hold." },
	{ "wsr_vm_working_set_bytes", GAUGE, working_set_bytes,
	  "Memory that the VM used within the working set's age." },
	{ "wsr_vm_free_bytes", GAUGE, free_bytes,
	  "Memory that is free inside the VM." },
	{ "wsr_vm_cut_age_seconds", GAUGE, cut_age_s,
	  "The VM keeps what is younger than this, +Inf: all." },
	{ "wsr_vm_slo_age_seconds", GAUGE, slo_age_s,
	  "The VM's SLO holds if it keeps what is younger than this." },
	{ "wsr_vm_predicted_refault_bytes_per_second", GAUGE, predicted_rate,
	  "Refaults that are expected with the desired memory." },
	{ "wsr_vm_slo_refault_bytes_per_second", GAUGE, slo_rate,
	  "Refaults that the VM's SLO tolerates." },
	{ "wsr_vm_refault_bytes", COUNTER, refaulted_bytes,
	  "Read back after reclaim by the VM, by its own count." },
	{ "wsr_vm_psi_some_seconds", COUNTER, psi_s,
	  "Time that the VM's control group waited for memory of the host." },
	{ "wsr_report_age_seconds", GAUGE, report_age_s,
	  "Age of the data of the VM's last report." },
	{ "wsr_reports", COUNTER, reports,
	  "Reports that came from the VM." },
	{ "wsr_refused_reports", COUNTER, refused_reports,
	  "Reports of the VM that could not be true." },
	{ "wsr_balloon_stuck", GAUGE, stuck,
	  "1 while the VM's balloon does not follow and is left alone." },
	{ "wsr_balloon_stall", COUNTER, stalls,
	  "How often the VM's balloon got stuck." },
};

static void write_vms(struct writer *writer)
{
	struct manager *manager = writer->manager;

	for (size_t i = 0; i < sizeof(vm_families) / sizeof(vm_families[0]);
	     i++) {
		begin(writer, vm_families[i].name, vm_families[i].type,
		      vm_families[i].help);
		for (size_t j = 0; j < manager->nr_plan; j++) {
			const struct managed *managed = manager->plan_vms[j];
			double value;

			if (vm_families[i].value(writer, managed,
						 &manager->plan[j], &value))
				sample(writer, "vm", managed->vm->name, NULL,
				       NULL, value);
		}
	}
}

static void write_states(struct writer *writer)
{
	struct manager *manager = writer->manager;

	begin(writer, "wsr_vm_state", GAUGE,
	      "1 for the state that the VM's reports are in.");
	for (size_t i = 0; i < manager->nr_vms; i++) {
		const struct vm *vm = manager->vms[i]->vm;

		sample(writer, "vm", vm->name, "state",
		       guest_state_name(vm->guest.state), 1);
	}
	begin(writer, "wsr_vm_source", GAUGE,
	      "1 for who says how old the VM's memory is.");
	for (size_t i = 0; i < manager->nr_plan; i++)
		sample(writer, "vm", manager->plan_vms[i]->vm->name, "source",
		       estimate_source_name(manager->plan_vms[i]->source), 1);
	begin(writer, "wsr_vm_reason", GAUGE,
	      "1 for the reason why the VM has the target that it has.");
	for (size_t i = 0; i < manager->nr_plan; i++)
		sample(writer, "vm", manager->plan_vms[i]->vm->name, "reason",
		       wsr_reason_name(manager->plan[i].why.reason), 1);
}

static void put_node(struct writer *writer, const struct report_node *node)
{
	put_text(writer, ",node=\"");
	if (node->node_id == REPORT_ALL_NODES)
		put_text(writer, "all");
	else
		put_integer(writer, node->node_id);
}

static void write_bins(struct writer *writer, const char *name,
		       const struct report_node *node, bool file_backed)
{
	double bytes = 0;

	for (unsigned int i = 0; i < node->nr_bins; i++) {
		const struct report_bin *bin = &node->bins[i];

		bytes += file_backed ? bin->file_backed_bytes :
				       bin->swap_backed_bytes;
		put_text(writer, writer->name);
		put(writer, "{", 1);
		put_label(writer, "vm", name);
		put_node(writer, node);
		put_text(writer, file_backed ? "\",type=\"file\",le=\"" :
					      "\",type=\"anon\",le=\"");
		if (i == node->nr_bins - 1)
			put_text(writer, "+Inf");
		else
			put_seconds(writer, bin->idle_age_ms);
		put_text(writer, "\"} ");
		put_number(writer, bytes);
		put(writer, "\n", 1);
	}
}

/* Of what has no report of its own: what the host found out */
static void write_estimate(struct writer *writer, const char *name,
			   const struct wsr_curve *curve)
{
	struct report_node node = {
		.node_id = REPORT_ALL_NODES, .nr_bins = REPORT_MAX_BINS,
	};
	struct ages ages;

	ages_of_curve(&ages, curve);
	for (int i = 0; i < AGES_CELLS; i++) {
		unsigned int bin = i < REPORT_MAX_BINS ? i : REPORT_MAX_BINS - 1;

		node.bins[bin].idle_age_ms = UINT64_C(1000) << i;
		node.bins[bin].swap_backed_bytes +=
			ages.bytes[WSR_SWAP_BACKED][i];
		node.bins[bin].file_backed_bytes +=
			ages.bytes[WSR_FILE_BACKED][i];
	}
	write_bins(writer, name, &node, false);
	write_bins(writer, name, &node, true);
}

static void write_ages(struct writer *writer)
{
	struct manager *manager = writer->manager;

	begin(writer, "wsr_vm_bytes", AGES,
	      "Memory of the VM that was idle for less than le seconds; anon needs swap space, file is page cache.");
	for (size_t i = 0; i < manager->nr_plan; i++) {
		const struct vm *vm = manager->plan_vms[i]->vm;
		const struct report *report = &vm->guest.report;

		if (!manager->plan[i].has_report)
			continue;
		if (manager->plan_vms[i]->source != ESTIMATE_GUEST) {
			write_estimate(writer, vm->name,
				       &manager->plan[i].curve);
			continue;
		}
		for (unsigned int j = 0; j < report->nr_nodes; j++) {
			write_bins(writer, vm->name, &report->nodes[j], false);
			write_bins(writer, vm->name, &report->nodes[j], true);
		}
	}
}

static void write_actions(struct writer *writer)
{
	struct manager *manager = writer->manager;

	begin(writer, "wsr_actions", COUNTER,
	      "What was done to VMs, or would have been in a dry run.");
	for (int kind = 0; kind < MANAGER_KINDS; kind++) {
		for (int reason = 0; reason < WSR_NR_REASONS; reason++) {
			uint64_t count = manager->counts[kind][reason];

			if (count)
				sample(writer, "kind", action_kind_name(kind),
				       "reason", wsr_reason_name(reason),
				       count);
		}
	}
}

static void write_self(struct writer *writer)
{
	struct manager *manager = writer->manager;
	unsigned long long size, resident;
	struct timespec used;
	FILE *file;

	single(writer, "wsr_dry_run", GAUGE,
	       "1 if wsrd only decides and changes nothing.",
	       manager->dry_run);
	if (manager->config->history_path)
		single(writer, "wsr_history_ok", GAUGE,
		       "1 if the history can be written.",
		       manager->store && store_ok(manager->store));
	single(writer, "wsr_plans", COUNTER, "How often was decided.",
	       manager->plans);
	single(writer, "wsr_plan_seconds", COUNTER,
	       "Time spent on that.", manager->plan_us / 1e6);
	if (!clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used))
		single(writer, "process_cpu_seconds", COUNTER,
		       "Processor time used by wsrd.",
		       used.tv_sec + used.tv_nsec / 1e9);
	file = fopen("/proc/self/statm", "re");
	if (!file)
		return;
	if (fscanf(file, "%llu %llu", &size, &resident) == 2)
		single(writer, "process_resident_memory_bytes", GAUGE,
		       "Memory used by wsrd.",
		       (double)resident * sysconf(_SC_PAGESIZE));
	fclose(file);
}

char *metrics_text(struct manager *manager, bool openmetrics, size_t *size)
{
	struct writer writer = {
		.manager = manager,
		.openmetrics = openmetrics,
		.now_ms = monotonic_ms(),
	};

	writer.data = malloc(FIRST_SIZE);
	if (!writer.data)
		return NULL;
	writer.size = FIRST_SIZE;
	write_host(&writer);
	write_vms(&writer);
	write_states(&writer);
	write_ages(&writer);
	write_actions(&writer);
	write_self(&writer);
	if (openmetrics)
		put_text(&writer, "# EOF\n");
	if (writer.failed) {
		free(writer.data);
		return NULL;
	}
	*size = writer.len;
	return writer.data;
}
