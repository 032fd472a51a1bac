// SPDX-License-Identifier: GPL-2.0
/*
 * A host with synthetic guests. No I/O.
 *
 * The optimum. A guest with memory for all pages younger than T has refaults of
 *
 *	M(T) = sum over its classes of bytes * rate * exp(-rate * T)
 *
 * and one byte more saves -dM/dm = M'(T) / W'(T), which is the mean rate of the
 * pages that are as old as T. It falls with T, so M is convex in the memory, and
 * the sum over guests is least where all that are neither at their min nor at
 * their max save the same by one byte more. That rate is found by bisection,
 * and for each rate the T of each guest by another one.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define MIB		(1024.0 * 1024)
#define GIB		(1024 * MIB)
#define BISECTIONS	35
#define MAX_AGE_S	1e9
#define STATIONARY_STEP_S 10

/*
 * The stationary model: guests of 4 to 32 GiB with any mix of hot, warm, cool
 * and cold pages. In each of these, rates of use are spread evenly over their
 * logarithm, which so many classes stand for.
 */
#define MIN_SIZE	(4 * GIB)
#define MAX_SIZE	(32 * GIB)
#define MIN_PART	0.25
#define KERNEL_PART	0.03
#define NR_HEATS	4
#define CLASSES_OF_HEAT	(WSR_SIM_CLASSES / NR_HEATS)

/* Used again after so many seconds: the ends of each heat */
static const double heat_s[NR_HEATS + 1] = { 1, 30, 300, 3600, 43200 };

/* The model of phases */
#define PHASE_SIZE	(16 * GIB)
#define PHASE_MIN_S	300
#define PHASE_MAX_S	1200
#define PHASE_RAMP	(0.5 * GIB)	/* per second */
#define PHASE_IDLE	0.1		/* of its size that is in use */
#define PHASE_BUSY	0.8
#define PHASE_BUSY_TIME	0.3		/* part of the phases that are busy */
#define PHASE_REUSE_S	2.0
#define PHASE_COLD_S	86400.0
#define PHASE_INFLATE	(0.25 * GIB)
#define PHASE_DEFLATE	(1 * GIB)

struct sim {
	const struct wsr_sim_options *options;
	struct wsr_sim_result *result;
	uint64_t random;
	struct wsr_host host;
	struct wsr_vm_config vm_configs[WSR_SIM_MAX_VMS];
	struct wsr_vm vms[WSR_SIM_MAX_VMS];
	struct wsr_sim_guest guests[WSR_SIM_MAX_VMS];
	uint32_t bounds_ms[WSR_SIM_MAX_VMS][REPORT_MAX_BINS];
	struct report_node reports[WSR_SIM_MAX_VMS];
	bool reported[WSR_SIM_MAX_VMS];		/* and nothing changed since */
	double demand[WSR_SIM_MAX_VMS];		/* where a phase leads to */
	double phase_end_s[WSR_SIM_MAX_VMS];
	double told_s[WSR_SIM_MAX_VMS];
	struct wsr_scratch scratch[WSR_SIM_MAX_VMS];
	struct wsr_action actions[WSR_SIM_MAX_VMS * WSR_MAX_ACTIONS];
	double now_s;
};

/* xorshift64* (Vigna, 2016): from 0 to below 1 */
static double random_part(struct sim *sim)
{
	uint64_t x = sim->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	sim->random = x;
	return ((x * 0x2545f4914f6cdd1du) >> 11) * 0x1p-53;
}

static double log_between(struct sim *sim, double low, double high)
{
	return low * pow(high / low, random_part(sim));
}

static double between(struct sim *sim, double low, double high)
{
	return low + (high - low) * random_part(sim);
}

static int64_t now_ms(const struct sim *sim)
{
	return sim->now_s * 1000;
}

/* --- what is exact --------------------------------------------------------- */

static double misses(const struct wsr_sim_guest *guest, double age_s)
{
	double sum = 0;

	for (int i = 0; i < WSR_SIM_CLASSES; i++) {
		const struct wsr_sim_class *class = &guest->classes[i];

		sum += class->bytes * class->rate * exp(-class->rate * age_s);
	}
	return sum;
}

/* What a byte more saves, per second */
static double value(const struct wsr_sim_guest *guest, double age_s)
{
	double slowest = INFINITY, sum = 0, weighted = 0;

	for (int i = 0; i < WSR_SIM_CLASSES; i++) {
		if (guest->classes[i].bytes > 0)
			slowest = fmin(slowest, guest->classes[i].rate);
	}
	/* Relative to the slowest class, so that nothing underflows */
	for (int i = 0; i < WSR_SIM_CLASSES; i++) {
		const struct wsr_sim_class *class = &guest->classes[i];
		double part = class->bytes * class->rate *
			      exp((slowest - class->rate) * age_s);

		sum += part;
		weighted += part * class->rate;
	}
	return weighted / sum;
}

static double memory_for(const struct wsr_sim_guest *guest, double age_s)
{
	return guest->kernel_bytes +
	       wsr_sim_guest_younger(guest, WSR_SWAP_BACKED, age_s) +
	       wsr_sim_guest_younger(guest, WSR_FILE_BACKED, age_s);
}

/* The age of the oldest page that fits into @bytes */
static double age_for(const struct wsr_sim_guest *guest, double bytes)
{
	double low = 0, high = MAX_AGE_S;

	for (int step = 0; step < BISECTIONS; step++) {
		/* Ages have all orders of magnitude. */
		double age_s = low > 0 ? sqrt(low * high) : high / 1e12;

		if (memory_for(guest, age_s) <= bytes)
			low = age_s;
		else if (low > 0)
			high = age_s;
		else
			return 0;
	}
	return low;
}

static double best_memory(const struct sim *sim, size_t i, double lambda)
{
	const struct wsr_sim_guest *guest = &sim->guests[i];
	double low = 1e-6, high = MAX_AGE_S, bytes;

	for (int step = 0; step < BISECTIONS; step++) {
		double age_s = sqrt(low * high);

		if (value(guest, age_s) > lambda)
			low = age_s;
		else
			high = age_s;
	}
	bytes = memory_for(guest, low);
	return fmin(fmax(bytes, sim->vm_configs[i].min_bytes),
		    guest->size_bytes);
}

static double optimum(const struct sim *sim, double bytes)
{
	double low = 1e-12, high = 1e6, sum = 0;

	for (int step = 0; step < BISECTIONS; step++) {
		double lambda = sqrt(low * high), used = 0;

		for (size_t i = 0; i < sim->options->nr_vms; i++)
			used += best_memory(sim, i, lambda);
		if (used <= bytes)
			high = lambda;
		else
			low = lambda;
	}
	for (size_t i = 0; i < sim->options->nr_vms; i++)
		sum += misses(&sim->guests[i],
			      age_for(&sim->guests[i],
				      best_memory(sim, i, high)));
	return sum;
}

/* --- guests ---------------------------------------------------------------- */

static void add_vm(struct sim *sim, size_t i)
{
	struct wsr_sim_guest *guest = &sim->guests[i];
	struct wsr_vm_config *config = &sim->vm_configs[i];

	guest->swap_bytes = 2 * guest->size_bytes;
	guest->target_bytes = guest->size_bytes;
	wsr_sim_guest_boot(guest);
	/* It has been running for long. */
	guest->running_s = MAX_AGE_S;
	guest->cut_s = MAX_AGE_S;
	wsr_vm_config_init(config);
	config->min_bytes = MIN_PART * guest->size_bytes;
	config->slo = sim->options->slo;
	wsr_vm_init(&sim->vms[i], config, guest->size_bytes,
		    guest->actual_bytes, now_ms(sim));
	wsr_first_bounds(sim->bounds_ms[i], sim->options->nr_bins - 1);
}

static void make_stationary(struct sim *sim, size_t i)
{
	struct wsr_sim_guest *guest = &sim->guests[i];
	double weights[NR_HEATS], sum = 0;

	guest->size_bytes = log_between(sim, MIN_SIZE, MAX_SIZE);
	guest->kernel_bytes = KERNEL_PART * guest->size_bytes;
	for (int heat = 0; heat < NR_HEATS; heat++) {
		weights[heat] = random_part(sim);
		sum += weights[heat];
	}
	for (int c = 0; c < WSR_SIM_CLASSES; c++) {
		int heat = c / CLASSES_OF_HEAT;
		double part = (c % CLASSES_OF_HEAT + 0.5) / CLASSES_OF_HEAT;
		double span = heat_s[heat + 1] / heat_s[heat];

		guest->classes[c] = (struct wsr_sim_class) {
			.bytes = weights[heat] / sum / CLASSES_OF_HEAT *
				 (1 - KERNEL_PART) * guest->size_bytes,
			.rate = 1 / (heat_s[heat] * pow(span, part)),
			.kind = c % WSR_NR_KINDS,
		};
	}
}

/* One class is what it works with, the other is hardly ever used. */
static void make_phases(struct sim *sim, size_t i)
{
	struct wsr_sim_guest *guest = &sim->guests[i];

	guest->size_bytes = PHASE_SIZE;
	guest->kernel_bytes = KERNEL_PART * PHASE_SIZE;
	guest->inflate_rate = PHASE_INFLATE;
	guest->deflate_rate = PHASE_DEFLATE;
	guest->classes[0] = (struct wsr_sim_class) {
		.bytes = PHASE_IDLE * PHASE_SIZE,
		.rate = 1 / PHASE_REUSE_S,
		.kind = WSR_SWAP_BACKED,
	};
	guest->classes[1] = (struct wsr_sim_class) {
		.bytes = (1 - PHASE_IDLE) * PHASE_SIZE * 0.9,
		.rate = 1 / PHASE_COLD_S,
		.kind = WSR_FILE_BACKED,
	};
	sim->demand[i] = guest->classes[0].bytes;
	sim->phase_end_s[i] = sim->now_s + between(sim, 0, PHASE_MAX_S);
}

static void work(struct sim *sim, size_t i, double seconds)
{
	struct wsr_sim_class *hot = &sim->guests[i].classes[0];
	double change;

	if (sim->now_s >= sim->phase_end_s[i]) {
		bool busy = random_part(sim) < PHASE_BUSY_TIME;

		sim->demand[i] = PHASE_SIZE * between(sim, PHASE_IDLE,
				busy ? PHASE_BUSY : 2 * PHASE_IDLE);
		sim->phase_end_s[i] = sim->now_s +
			between(sim, PHASE_MIN_S, PHASE_MAX_S);
	}
	change = sim->demand[i] - hot->bytes;
	hot->bytes += fmin(fmax(change, -PHASE_RAMP * seconds),
			   PHASE_RAMP * seconds);
	/* What it no longer works with stays in its page cache. */
	sim->guests[i].classes[1].bytes = fmax(0.9 * PHASE_SIZE - hot->bytes,
					       0);
}

/* --- the controller -------------------------------------------------------- */

static void add_noise(struct sim *sim, struct report_node *node)
{
	for (unsigned int i = 0; i < node->nr_bins; i++) {
		struct report_bin *bin = &node->bins[i];
		double noise = 1 + sim->options->noise *
			       between(sim, -1, 1);
		uint64_t before = bin->swap_backed_bytes +
				  bin->file_backed_bytes;

		bin->swap_backed_bytes *= noise;
		bin->file_backed_bytes *= noise;
		node->lru_bytes += bin->swap_backed_bytes +
				   bin->file_backed_bytes - before;
	}
}

static void gather(struct sim *sim, size_t i)
{
	const struct wsr_sim_options *options = sim->options;
	struct wsr_vm *vm = &sim->vms[i];
	struct report_node node;

	if (!sim->reported[i])
		wsr_sim_guest_report(&sim->guests[i], sim->bounds_ms[i],
				     options->nr_bins - 1, &sim->reports[i]);
	sim->reported[i] = options->model == WSR_SIM_STATIONARY;
	node = sim->reports[i];
	node.refaulted_bytes = sim->guests[i].refaulted_bytes;
	if (options->noise > 0)
		add_noise(sim, &node);
	vm->actual_bytes = sim->guests[i].actual_bytes;
	wsr_vm_report(vm, &options->config, &node, now_ms(sim));
}

static void recentre(struct sim *sim, size_t i)
{
	if (sim->vms[i].why.desired &&
	    wsr_recentre(sim->bounds_ms[i], sim->options->nr_bins - 1,
			 sim->vms[i].why.cut_x,
			 wsr_x_of_ms(sim->options->config.wss_age_ms)))
		sim->reported[i] = false;
}

static double sum_actual(const struct sim *sim)
{
	double sum = 0;

	for (size_t i = 0; i < sim->options->nr_vms; i++)
		sum += sim->guests[i].actual_bytes;
	return sum;
}

static void control(struct sim *sim)
{
	const struct wsr_sim_options *options = sim->options;
	size_t nr;

	sim->host.pressed = sum_actual(sim) > sim->host.total_bytes;
	nr = options->policy->plan(&sim->host, sim->vms, options->nr_vms,
				   &options->config, now_ms(sim),
				   sim->scratch, sim->actions);
	for (size_t i = 0; i < nr; i++) {
		if (sim->actions[i].kind == WSR_SET_BALLOON)
			sim->guests[sim->actions[i].vm].target_bytes =
				sim->actions[i].bytes;
	}
	sim->result->actions += nr;
}

/* --- the models ------------------------------------------------------------ */

/* The guest has what it was told, and its LRU has had the time to settle. */
static void settle(struct sim *sim, size_t i)
{
	struct wsr_sim_guest *guest = &sim->guests[i];

	if (guest->actual_bytes == guest->target_bytes)
		return;
	sim->reported[i] = false;
	guest->actual_bytes = guest->target_bytes;
	guest->cut_s = age_for(guest, guest->actual_bytes);
	guest->refault_rate = misses(guest, guest->cut_s);
}

static void run_stationary(struct sim *sim)
{
	const struct wsr_sim_options *options = sim->options;
	struct wsr_sim_result *result = sim->result;
	double next_s = sim->now_s, end_s = sim->now_s + options->seconds;

	for (; sim->now_s < end_s; sim->now_s += STATIONARY_STEP_S) {
		for (size_t i = 0; i < options->nr_vms; i++) {
			struct wsr_sim_guest *guest = &sim->guests[i];

			settle(sim, i);
			guest->refaulted_bytes += guest->refault_rate *
						  STATIONARY_STEP_S;
			gather(sim, i);
			if (options->recentre && sim->now_s >= next_s)
				recentre(sim, i);
		}
		/* Slowly: what is smoothed must have time to follow. */
		if (sim->now_s >= next_s)
			next_s += 20 * STATIONARY_STEP_S;
		control(sim);
	}
	for (size_t i = 0; i < options->nr_vms; i++) {
		settle(sim, i);
		result->refault_rate += sim->guests[i].refault_rate;
	}
	result->used_bytes = sum_actual(sim);
	result->optimum = optimum(sim, result->capacity_bytes);
	result->optimum_of_used = optimum(sim, result->used_bytes);
}

/* Tells the policy, at once or when it asks next, that a guest is short. */
static bool notice_pressure(struct sim *sim, size_t i)
{
	if (!wsr_sim_guest_pressed(&sim->guests[i]) ||
	    sim->now_s - sim->told_s[i] < 5)
		return false;
	sim->told_s[i] = sim->now_s;
	wsr_vm_pressure(&sim->vms[i], now_ms(sim));
	return sim->options->events;
}

static void run_phases(struct sim *sim)
{
	const struct wsr_sim_options *options = sim->options;
	struct wsr_sim_result *result = sim->result;

	for (unsigned int second = 0; second < options->seconds; second++) {
		bool call = second % options->poll_s == 0;

		sim->now_s++;
		for (size_t i = 0; i < options->nr_vms; i++) {
			struct wsr_sim_guest *guest = &sim->guests[i];
			const struct wsr_sim_class *hot = &guest->classes[0];

			work(sim, i, 1);
			wsr_sim_guest_step(guest, 1);
			sim->vms[i].psi = guest->psi;
			result->refault_rate += guest->refault_rate;
			result->unmet_bytes += hot->bytes *
				exp(-hot->rate * guest->cut_s);
			call |= notice_pressure(sim, i);
		}
		result->short_part += sum_actual(sim) > sim->host.total_bytes;
		if (!call)
			continue;
		for (size_t i = 0; i < options->nr_vms; i++)
			gather(sim, i);
		control(sim);
	}
	result->refault_rate /= options->seconds;
	result->unmet_bytes /= options->seconds;
	result->short_part /= options->seconds;
	result->used_bytes = sum_actual(sim);
}

void wsr_sim_options_init(struct wsr_sim_options *options,
			  enum wsr_sim_model model)
{
	*options = (struct wsr_sim_options) {
		.model = model,
		.policy = &wsr_policies[0],
		.slo = 1,
		.nr_vms = 8,
		.overcommit = 1.5,
		.nr_bins = REPORT_MAX_BINS,
		.recentre = true,
		.seconds = 3600,
		.poll_s = 10,
		.events = true,
	};
	wsr_config_init(&options->config);
	if (model == WSR_SIM_STATIONARY) {
		options->config.buffer_part = 0;
		options->config.headroom_part = 0.02;
	} else {
		options->nr_vms = 16;
		options->overcommit = 2;
	}
}

int wsr_sim_run(const struct wsr_sim_options *options,
		struct wsr_sim_result *result)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	double sizes = 0;

	memset(result, 0, sizeof(*result));
	if (!sim)
		return -1;
	sim->options = options;
	sim->result = result;
	sim->random = (options->seed + 1) * 0x9e3779b97f4a7c15u;
	sim->now_s = 1000;
	for (size_t i = 0; i < options->nr_vms; i++) {
		if (options->model == WSR_SIM_STATIONARY)
			make_stationary(sim, i);
		else
			make_phases(sim, i);
		add_vm(sim, i);
		sizes += sim->guests[i].size_bytes;
	}
	sim->host.total_bytes = sizes / options->overcommit;
	result->capacity_bytes = sim->host.total_bytes;
	if (options->model == WSR_SIM_STATIONARY)
		run_stationary(sim);
	else
		run_phases(sim);
	free(sim);
	return 0;
}
