/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A recorded trace, decided anew by any policy.
 */
#ifndef WSRCTL_REPLAY_H
#define WSRCTL_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../lib/policy.h"

#define REPLAY_ERROR	512
#define REPLAY_MAX_VMS	10000

struct replay_vm {
	char name[64];
	bool gone;
	struct wsr_vm_config config;
	struct wsr_vm vm;
	double target_seconds;	/* for the mean target */
	double refault_seconds;	/* predicted, bytes */
};

/**
 * struct replay - what a policy makes of a trace
 * @vms:	in the order of their first line
 * @actions:	that the policy wanted
 * @recorded:	that wsrd had taken
 * @deficit_seconds: time without enough for all SLOs
 */
struct replay {
	const struct wsr_policy *policy;
	struct wsr_config config;
	struct wsr_host host;
	struct replay_vm *vms;
	size_t nr_vms;
	struct wsr_vm *plan;
	struct wsr_scratch *scratch;
	struct wsr_action *list;
	size_t *which;
	int64_t start_ms;
	int64_t now_ms;
	int64_t planned_ms;
	uint64_t lines;
	uint64_t plans;
	uint64_t actions;
	uint64_t recorded;
	uint64_t refused;
	double deficit_seconds;
	double capacity_seconds;
};

/**
 * replay_init - begin
 * Return: 0 or -1: out of memory.
 */
int replay_init(struct replay *replay, const struct wsr_policy *policy,
		const struct wsr_config *config);

/**
 * replay_line - take one line of a trace
 * @error:	REPLAY_ERROR bytes
 *
 * The facts of the trace stay as they are: guests do not react to what the
 * policy wants. So this shows what it would do, not what would become of it.
 *
 * Return: 0, or -1 with the reason in @error.
 */
int replay_line(struct replay *replay, const char *line, size_t len,
		char *error);

void replay_free(struct replay *replay);

/** replay_main - wsrctl replay; returns the exit status */
int replay_main(int argc, char **argv);

/** replay_record - wsrctl record; returns the exit status */
int replay_record(const char *socket_path, const char *file);

#endif
