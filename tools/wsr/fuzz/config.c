// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: wsrd's configuration, and settings of wsrctl set.
 */
#include <stdlib.h>
#include <string.h>

#include "../wsrd/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), error[CONFIG_ERROR] = "";
	struct wsr_vm_config vm, before;
	struct config config;
	char *value;

	memcpy(text, data, size);
	text[size] = '\0';
	if (!config_parse(&config, "fuzz", text, error)) {
		/* What is accepted is in range, for any VM. */
		vm = config_for_vm(&config, "vm1", NULL);
		check(!wsr_config_check(&config.policy));
		check(config.bins >= 2 && config.bins <= REPORT_MAX_BINS);
		config_free(&config);
	} else {
		check(strlen(error) > 0 && !config.vms);
	}
	/* key=value */
	wsr_vm_config_init(&vm);
	before = vm;
	value = strchr(text, '=');
	if (value) {
		*value = '\0';
		if (config_set_vm(&vm, text, value + 1, error))
			check(!memcmp(&vm, &before, sizeof(vm)));
		else
			check(!wsr_vm_config_check(&vm));
	}
	free(text);
	return 0;
}
