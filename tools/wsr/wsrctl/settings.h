/* SPDX-License-Identifier: GPL-2.0 */
/*
 * --policy and --set of replay and simulate.
 */
#ifndef WSRCTL_SETTINGS_H
#define WSRCTL_SETTINGS_H

#include "../lib/policy.h"

struct settings {
	const struct wsr_policy *policy;
	struct wsr_config config;
};

void settings_init(struct settings *settings);

/**
 * settings_option - 'p' (a policy's name) or 'k' (KEY=VALUE as in [policy])
 * Return: 0, or -1 and the user was told why.
 */
int settings_option(struct settings *settings, int option, const char *value);

/** settings_check - once all were given; 0, or -1 and the user was told why */
int settings_check(const struct settings *settings);

#endif
