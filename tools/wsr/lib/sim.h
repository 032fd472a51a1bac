/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A host with synthetic guests, and any policy: how many refaults there are, and
 * how many there would be with the best possible distribution. No I/O.
 *
 * Two models. In the stationary one the guests never change, so that there is an
 * exact optimum and a policy's final distribution can be compared with it. In
 * the model of phases, guests need now more, now less, and what counts is how
 * soon they get it.
 */
#ifndef WSR_SIM_H
#define WSR_SIM_H

#include "policy.h"
#include "simguest.h"

enum wsr_sim_model {
	WSR_SIM_STATIONARY,
	WSR_SIM_PHASES,
};

/**
 * struct wsr_sim_options - what to simulate
 * @policy:	who decides
 * @config:	of the host; the SLO of each VM is @slo
 * @slo:	1: none. With others, the optimum is that of another problem: it
 *		minimises all refaults, SLOs prefer those of small working sets
 * @seed:	of the random mix of guests
 * @nr_vms:	1 to WSR_SIM_MAX_VMS
 * @overcommit:	sum of the sizes of all VMs by the memory that there is for them
 * @nr_bins:	in reports, 3 to REPORT_MAX_BINS
 * @recentre:	move the bounds of the bins to the present cut
 * @noise:	each bin of each report is off by up to this part
 * @seconds:	how long
 * @poll_s:	the policy is called this often
 * @events:	WSR_SIM_PHASES: and when a VM is short of memory
 */
struct wsr_sim_options {
	enum wsr_sim_model model;
	const struct wsr_policy *policy;
	struct wsr_config config;
	double slo;
	uint64_t seed;
	unsigned int nr_vms;
	double overcommit;
	unsigned int nr_bins;
	bool recentre;
	double noise;
	unsigned int seconds;
	unsigned int poll_s;
	bool events;
};

#define WSR_SIM_MAX_VMS	64

/**
 * struct wsr_sim_result - what came out of it
 * @capacity_bytes: memory that there is for VMs
 * @used_bytes:	what they had in the end
 * @refault_rate: of all guests, bytes per second; WSR_SIM_STATIONARY: in the
 *		end, else: on average
 * @optimum:	WSR_SIM_STATIONARY: the least possible with @capacity_bytes
 * @optimum_of_used: and with @used_bytes, since some policies leave much free
 * @unmet_bytes: WSR_SIM_PHASES: missing of what guests were using, on average
 * @short_part:	WSR_SIM_PHASES: part of the time that VMs together had more
 *		than there is, so that the host had to swap
 * @actions:	so many were taken
 */
struct wsr_sim_result {
	double capacity_bytes;
	double used_bytes;
	double refault_rate;
	double optimum;
	double optimum_of_used;
	double unmet_bytes;
	double short_part;
	unsigned long actions;
};

/**
 * wsr_sim_options_init - 8 VMs, 16 bins, re-centred, overcommitted 1.5 times
 *
 * In the stationary model the config has no buffer and little headroom, so that
 * there is nothing but the distribution that differs from the optimum.
 */
void wsr_sim_options_init(struct wsr_sim_options *options,
			  enum wsr_sim_model model);

/**
 * wsr_sim_run - simulate
 *
 * The only function of the library that allocates memory.
 *
 * Return: 0, or -1 if there is none.
 */
int wsr_sim_run(const struct wsr_sim_options *options,
		struct wsr_sim_result *result);

#endif
