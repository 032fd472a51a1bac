// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: reports as JSON, from the parser to the plan of the host.
 *
 * Each line of the input is a report of one of three VMs; after each, what is
 * decided must be within what the operator allows.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "../lib/policy.h"

#define NR_VMS	3
#define SIZE	(1ULL << 30)
#define MIN	(1ULL << 28)
#define TOTAL	(2 * SIZE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_curve(const struct wsr_curve *curve)
{
	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		double before = 0;

		for (int x = 0; x < WSR_GRID_POINTS; x++) {
			double younger = curve->younger[kind][x];

			check(isfinite(younger) && younger >= before * 0.999999);
			before = younger;
		}
		check(curve->total[kind] >= before * 0.999999);
	}
}

static void take(struct wsr_vm *vm, const struct wsr_config *config,
		 const char *line, size_t len, int64_t now_ms)
{
	struct json_tokener *tokener = json_tokener_new_ex(32);
	struct json_object *json;
	struct report report;
	char error[REPORT_ERROR];

	json = json_tokener_parse_ex(tokener, line, len);
	if (json && !report_parse(json, &report, error) &&
	    report.status == REPORT_OK &&
	    !wsr_vm_report(vm, config, &report.guest, now_ms))
		check_curve(&vm->curve);
	json_object_put(json);
	json_tokener_free(tokener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wsr_action actions[NR_VMS * WSR_MAX_ACTIONS];
	struct wsr_scratch scratch[NR_VMS];
	struct wsr_host host = { .total_bytes = TOTAL };
	const char *line = (const char *)data, *end = line + size;
	struct wsr_vm_config vm_config;
	struct wsr_vm vms[NR_VMS];
	struct wsr_config config;
	int64_t now_ms = 1000;

	wsr_config_init(&config);
	wsr_vm_config_init(&vm_config);
	vm_config.min_bytes = MIN;
	for (int i = 0; i < NR_VMS; i++)
		wsr_vm_init(&vms[i], &vm_config, SIZE, SIZE, now_ms);
	for (int turn = 0; line < end; turn++) {
		const char *newline = memchr(line, '\n', end - line);
		size_t len = newline ? (size_t)(newline - line) :
				       (size_t)(end - line);
		size_t nr;

		now_ms += 7000;
		take(&vms[turn % NR_VMS], &config, line, len, now_ms);
		if (len % 3 == 0)
			wsr_vm_pressure(&vms[turn % NR_VMS], now_ms);
		nr = wsr_plan(&host, vms, NR_VMS, &config, now_ms, scratch,
			      actions);
		check(nr <= NR_VMS * WSR_MAX_ACTIONS);
		for (size_t i = 0; i < nr; i++) {
			if (actions[i].kind != WSR_SET_BALLOON)
				continue;
			check(actions[i].bytes >= MIN &&
			      actions[i].bytes <= SIZE);
			vms[actions[i].vm].actual_bytes = actions[i].bytes;
		}
		line += len + 1;
	}
	return 0;
}
