// SPDX-License-Identifier: GPL-2.0
/*
 * wsrctl simulate: policies on hosts with synthetic guests, beside each other.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/sim.h"
#include "settings.h"
#include "simulate.h"

#define MAX_MIXES	10000
#define MAX_OVERCOMMIT	8

struct request {
	struct settings settings;
	bool policy_given;
	bool config_given;
	bool phases;
	unsigned int mixes;
	unsigned int vms;
	uint64_t seed;
	double overcommit[MAX_OVERCOMMIT];
	unsigned int nr_overcommit;
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(double *values, unsigned int nr, double part)
{
	unsigned int i = part * nr;

	qsort(values, nr, sizeof(*values), compare);
	return values[i < nr ? i : nr - 1];
}

/* One number for each mix: refaults by the optimum's, or what is missing */
static int run_mixes(const struct request *request,
		     const struct wsr_policy *policy, double overcommit,
		     double *values, double *used)
{
	struct wsr_sim_options options;
	struct wsr_sim_result result;

	*used = 0;
	for (unsigned int i = 0; i < request->mixes; i++) {
		wsr_sim_options_init(&options, request->phases ?
				     WSR_SIM_PHASES : WSR_SIM_STATIONARY);
		options.policy = policy;
		options.overcommit = overcommit;
		options.seed = request->seed + i;
		if (request->vms)
			options.nr_vms = request->vms;
		if (request->config_given)
			options.config = request->settings.config;
		if (wsr_sim_run(&options, &result)) {
			fputs("wsrctl: out of memory\n", stderr);
			return -1;
		}
		values[i] = request->phases ? result.unmet_bytes / (1 << 20) :
					      result.refault_rate /
					      result.optimum;
		*used += result.used_bytes / result.capacity_bytes /
			 request->mixes;
	}
	return 0;
}

static int run_policy(const struct request *request,
		      const struct wsr_policy *policy)
{
	double *values = calloc(request->mixes, sizeof(*values)), used;

	if (!values) {
		fputs("wsrctl: out of memory\n", stderr);
		return 1;
	}
	printf("%-12s", policy->name);
	for (unsigned int i = 0; i < request->nr_overcommit; i++) {
		if (run_mixes(request, policy, request->overcommit[i], values,
			      &used)) {
			free(values);
			return 1;
		}
		printf(" %9.3f %9.3f %4.0f %%",
		       percentile(values, request->mixes, 0.5),
		       percentile(values, request->mixes, 0.95), 100 * used);
		fflush(stdout);
	}
	putchar('\n');
	free(values);
	return 0;
}

static int run(const struct request *request)
{
	printf("%s\n", request->phases ?
	       "Guests whose needs change: MiB that are missing of what they use, on average" :
	       "Guests that never change: refaults, by those of the best possible distribution");
	printf("%u mixes: median, 95 %% of the mixes, memory in use\n\n%-12s",
	       request->mixes, "policy");
	for (unsigned int i = 0; i < request->nr_overcommit; i++)
		printf("        overcommit %5.2f x  ", request->overcommit[i]);
	putchar('\n');
	if (request->policy_given)
		return run_policy(request, request->settings.policy);
	for (const struct wsr_policy *policy = wsr_policies; policy->name;
	     policy++) {
		/* It does nothing: its guests have more than there is. */
		if (strcmp(policy->name, "static") &&
		    run_policy(request, policy))
			return 1;
	}
	return 0;
}

static int parse_overcommit(struct request *request, const char *list)
{
	request->nr_overcommit = 0;
	while (request->nr_overcommit < MAX_OVERCOMMIT) {
		char *end;
		double value = strtod(list, &end);

		if (end == list || !(value > 1 && value <= 10))
			break;
		request->overcommit[request->nr_overcommit++] = value;
		if (!*end)
			return 0;
		if (*end != ',')
			break;
		list = end + 1;
	}
	fputs("wsrctl: --overcommit must be up to 8 numbers greater than 1 and at most 10, such as 1.25,1.5,2\n",
	      stderr);
	return -1;
}

static int parse_count(const char *name, const char *value, unsigned int max,
		       unsigned int *count)
{
	char *end;
	unsigned long number = strtoul(value, &end, 10);

	if (*end || !number || number > max) {
		fprintf(stderr, "wsrctl: --%s must be 1 to %u\n", name, max);
		return -1;
	}
	*count = number;
	return 0;
}

static void list_policies(void)
{
	for (const struct wsr_policy *policy = wsr_policies; policy->name;
	     policy++)
		printf("%-12s %s\n", policy->name, policy->summary);
}

int simulate_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "set", required_argument, NULL, 'k' },
		{ "overcommit", required_argument, NULL, 'o' },
		{ "mixes", required_argument, NULL, 'm' },
		{ "vms", required_argument, NULL, 'v' },
		{ "seed", required_argument, NULL, 's' },
		{ "phases", no_argument, NULL, 'P' },
		{ "list", no_argument, NULL, 'l' },
		{ }
	};
	struct request request = {
		.mixes = 100, .seed = 1, .overcommit = { 1.25, 1.5, 2 },
		.nr_overcommit = 3,
	};
	int option, result = 0;

	settings_init(&request.settings);
	optind = 1;
	while (!result && (option = getopt_long(argc, argv, "p:k:o:m:v:s:Pl",
						options, NULL)) >= 0) {
		switch (option) {
		case 'o':
			result = parse_overcommit(&request, optarg);
			break;
		case 'm':
			result = parse_count("mixes", optarg, MAX_MIXES,
					     &request.mixes);
			break;
		case 'v':
			result = parse_count("vms", optarg, WSR_SIM_MAX_VMS,
					     &request.vms);
			break;
		case 's':
			request.seed = strtoull(optarg, NULL, 0);
			break;
		case 'P':
			request.phases = true;
			break;
		case 'l':
			list_policies();
			return 0;
		case '?':
			return 2;
		default:
			request.policy_given |= option == 'p';
			request.config_given |= option == 'k';
			result = settings_option(&request.settings, option,
						 optarg);
		}
	}
	if (result || settings_check(&request.settings))
		return 2;
	if (optind < argc) {
		fprintf(stderr, "wsrctl: unexpected argument '%s'\n",
			argv[optind]);
		return 2;
	}
	return run(&request);
}
