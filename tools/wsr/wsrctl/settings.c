// SPDX-License-Identifier: GPL-2.0
/*
 * --policy and --set of replay and simulate.
 */
#include <stdio.h>
#include <string.h>

#include "../wsrd/config.h"
#include "settings.h"

void settings_init(struct settings *settings)
{
	settings->policy = wsr_policy_find("wsr");
	wsr_config_init(&settings->config);
}

int settings_option(struct settings *settings, int option, const char *value)
{
	char error[CONFIG_ERROR];

	if (option == 'p') {
		settings->policy = wsr_policy_find(value);
		if (settings->policy)
			return 0;
		fprintf(stderr, "wsrctl: there is no policy '%s'; there are:\n",
			value);
		for (const struct wsr_policy *policy = wsr_policies;
		     policy->name; policy++)
			fprintf(stderr, "  %-12s %s\n", policy->name,
				policy->summary);
		return -1;
	}
	if (config_set_policy(&settings->config, value, error)) {
		fprintf(stderr, "wsrctl: --set %s: %s\n", value, error);
		return -1;
	}
	return 0;
}

int settings_check(const struct settings *settings)
{
	const char *wrong = wsr_config_check(&settings->config);

	if (wrong)
		fprintf(stderr, "wsrctl: --set: %s\n", wrong);
	return wrong ? -1 : 0;
}
