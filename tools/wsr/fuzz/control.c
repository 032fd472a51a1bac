// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: requests to wsrd's control socket.
 */
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "../wsrd/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config;
	static struct manager manager;
	struct json_tokener *tokener = json_tokener_new_ex(4);
	struct json_object *request, *answer;
	char error[CONFIG_ERROR];

	if (!manager.config) {
		if (config_parse(&config, "fuzz", "[host]\nmemory=1G\n", error))
			abort();
		manager.config = &config;
		manager.policy = wsr_policy_find(config.policy_name);
	}
	request = json_tokener_parse_ex(tokener, (const char *)data, size);
	if (json_tokener_get_error(tokener) == json_tokener_success) {
		answer = control_answer(&manager, request);
		if (!json_object_is_type(answer, json_type_object))
			abort();
		json_object_put(answer);
	}
	json_object_put(request);
	json_tokener_free(tokener);
	return 0;
}
