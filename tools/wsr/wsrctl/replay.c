// SPDX-License-Identifier: GPL-2.0
/*
 * A recorded trace, decided anew by any policy.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "../text.h"
#include "client.h"
#include "replay.h"
#include "settings.h"

#define MAX_LINE	(1 << 20)
#define MAX_DEPTH	16

static int __attribute__((format(printf, 2, 3)))
fail(char *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, REPLAY_ERROR, format, args);
	va_end(args);
	return -1;
}

int replay_init(struct replay *replay, const struct wsr_policy *policy,
		const struct wsr_config *config)
{
	*replay = (struct replay) {
		.policy = policy,
		.config = *config,
		.start_ms = WSR_NEVER,
		.planned_ms = WSR_NEVER,
	};
	return 0;
}

void replay_free(struct replay *replay)
{
	free(replay->vms);
	free(replay->plan);
	free(replay->scratch);
	free(replay->list);
	free(replay->which);
	*replay = (struct replay) { 0 };
}

static struct replay_vm *find_vm(struct replay *replay, const char *name,
				 bool add)
{
	struct replay_vm *vm, *vms;
	size_t nr = replay->nr_vms;

	for (size_t i = 0; i < nr; i++) {
		if (!strcmp(replay->vms[i].name, name))
			return &replay->vms[i];
	}
	if (!add || nr == REPLAY_MAX_VMS ||
	    strlen(name) >= sizeof(replay->vms[0].name))
		return NULL;
	/* One more of everything */
	vms = realloc(replay->vms, (nr + 1) * sizeof(*vms));
	if (!vms)
		return NULL;
	replay->vms = vms;
	free(replay->plan);
	free(replay->scratch);
	free(replay->list);
	free(replay->which);
	replay->plan = calloc(nr + 1, sizeof(*replay->plan));
	replay->scratch = calloc(nr + 1, sizeof(*replay->scratch));
	replay->list = calloc((nr + 1) * WSR_MAX_ACTIONS,
			      sizeof(*replay->list));
	replay->which = calloc(nr + 1, sizeof(*replay->which));
	if (!replay->plan || !replay->scratch || !replay->list ||
	    !replay->which)
		return NULL;
	vm = &vms[replay->nr_vms++];
	*vm = (struct replay_vm) { .gone = true };
	strcpy(vm->name, name);
	return vm;
}

static double number(struct json_object *line, const char *name, double other)
{
	struct json_object *field;

	if (!json_object_object_get_ex(line, name, &field) ||
	    !(json_object_is_type(field, json_type_int) ||
	      json_object_is_type(field, json_type_double)))
		return other;
	return json_object_get_double(field);
}

static bool flag(struct json_object *line, const char *name)
{
	struct json_object *field;

	return json_object_object_get_ex(line, name, &field) &&
	       json_object_get_boolean(field);
}

static uint64_t bytes(struct json_object *line, const char *name)
{
	double value = number(line, name, 0);

	return value > 0 && value < 0x1p62 ? value : 0;
}

static int take_host(struct replay *replay, struct json_object *host)
{
	replay->host.total_bytes = bytes(host, "total");
	replay->host.other_bytes = bytes(host, "other");
	replay->host.reserved_bytes = bytes(host, "reserved");
	replay->host.swap_bytes = bytes(host, "swap");
	replay->host.pressed = flag(host, "pressed");
	return 0;
}

static int take_vm(struct replay *replay, struct json_object *line,
		   const char *name, char *error)
{
	struct replay_vm *vm = find_vm(replay, name, true);
	struct wsr_vm_config config;
	int actuator = number(line, "actuator", WSR_BALLOON);
	const char *wrong;

	if (!vm)
		return fail(error, "too many VMs, or a name of more than 63 characters");
	wsr_vm_config_init(&config);
	config.shares = number(line, "shares", 1);
	config.min_bytes = bytes(line, "min");
	config.max_bytes = bytes(line, "max");
	config.slo = number(line, "slo", config.slo);
	if (json_object_object_get_ex(line, "trusted", NULL))
		config.trusted = flag(line, "trusted");
	config.hands_off = flag(line, "hands-off");
	config.actuator = actuator >= WSR_BALLOON && actuator <= WSR_CGROUP ?
			  actuator : WSR_BALLOON;
	wrong = wsr_vm_config_check(&config);
	if (wrong)
		return fail(error, "%s", wrong);
	vm->config = config;
	if (vm->gone)
		wsr_vm_init(&vm->vm, NULL, bytes(line, "size"),
			    bytes(line, "actual"), replay->now_ms);
	vm->gone = false;
	vm->vm.size_bytes = bytes(line, "size");
	vm->vm.actual_bytes = bytes(line, "actual");
	vm->vm.swapped_bytes = bytes(line, "swapped");
	vm->vm.psi = number(line, "psi", -1);
	vm->vm.migrating = flag(line, "migrating");
	vm->vm.doubted = flag(line, "doubted");
	return 0;
}

static int take_report(struct replay *replay, struct replay_vm *vm,
		       struct json_object *json, char *error)
{
	char wrong[REPORT_ERROR];
	struct report report;

	if (report_parse(json, &report, wrong))
		return fail(error, "%s", wrong);
	if (wsr_vm_report(&vm->vm, &replay->config, &report.guest,
			  replay->now_ms))
		replay->refused++;
	return 0;
}

/* Sums over time, of what was decided last */
static void account(struct replay *replay)
{
	double seconds;

	if (replay->planned_ms == WSR_NEVER)
		return;
	seconds = (replay->now_ms - replay->planned_ms) / 1000.0;
	replay->capacity_seconds += seconds * replay->host.capacity_bytes;
	if (replay->host.deficit_bytes)
		replay->deficit_seconds += seconds;
	for (size_t i = 0; i < replay->nr_vms; i++) {
		struct replay_vm *vm = &replay->vms[i];

		if (vm->gone)
			continue;
		vm->target_seconds += seconds * vm->vm.target_bytes;
		vm->refault_seconds += seconds * vm->vm.why.refault_rate;
	}
}

static void plan(struct replay *replay)
{
	size_t nr = 0;

	account(replay);
	replay->planned_ms = replay->now_ms;
	for (size_t i = 0; i < replay->nr_vms; i++) {
		if (replay->vms[i].gone)
			continue;
		replay->which[nr] = i;
		replay->plan[nr] = replay->vms[i].vm;
		replay->plan[nr].config = &replay->vms[i].config;
		nr++;
	}
	replay->plans++;
	replay->actions += replay->policy->plan(&replay->host, replay->plan, nr,
						&replay->config, replay->now_ms,
						replay->scratch, replay->list);
	for (size_t i = 0; i < nr; i++)
		replay->vms[replay->which[i]].vm = replay->plan[i];
}

static int take(struct replay *replay, struct json_object *line, char *error)
{
	struct json_object *field;
	struct replay_vm *vm;
	const char *name;
	int64_t now_ms;

	if (!json_object_is_type(line, json_type_object) ||
	    !json_object_object_get_ex(line, "t", &field) ||
	    !json_object_is_type(field, json_type_int))
		return fail(error, "not a line of a trace: \"t\" is missing");
	now_ms = json_object_get_int64(field);
	if (now_ms < 0 || now_ms > INT64_MAX / 4)
		return fail(error, "\"t\" is out of range");
	if (replay->start_ms == WSR_NEVER)
		replay->start_ms = now_ms;
	/* Reports say when their data were gathered, a little before. */
	if (now_ms > replay->now_ms)
		replay->now_ms = now_ms;
	if (json_object_object_get_ex(line, "host", &field))
		return take_host(replay, field);
	if (flag(line, "plan")) {
		plan(replay);
		return 0;
	}
	if (!json_object_object_get_ex(line, "vm", &field) ||
	    !json_object_is_type(field, json_type_string))
		return fail(error, "not a line of a trace: neither \"host\", \"plan\" nor \"vm\"");
	name = json_object_get_string(field);
	if (json_object_object_get_ex(line, "action", &field)) {
		replay->recorded++;
		return 0;
	}
	if (json_object_object_get_ex(line, "size", NULL))
		return take_vm(replay, line, name, error);
	vm = find_vm(replay, name, false);
	/* Of before it was known well enough */
	if (!vm || vm->gone)
		return 0;
	/* It may have moved since the last plan, or there was none. */
	vm->vm.config = &vm->config;
	if (json_object_object_get_ex(line, "report", &field))
		return take_report(replay, vm, field, error);
	if (flag(line, "pressure"))
		wsr_vm_pressure(&vm->vm, replay->now_ms);
	else if (flag(line, "gone"))
		vm->gone = true;
	return 0;
}

int replay_line(struct replay *replay, const char *text, size_t len,
		char *error)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *line;
	int result;

	if (!tokener)
		return fail(error, "out of memory");
	replay->lines++;
	line = json_tokener_parse_ex(tokener, text, len);
	if (json_tokener_get_error(tokener) != json_tokener_success)
		result = fail(error, "this is not JSON");
	else
		result = take(replay, line, error);
	json_object_put(line);
	json_tokener_free(tokener);
	return result;
}

static void print_result(const struct replay *replay)
{
	double seconds = replay->start_ms == WSR_NEVER ? 0 :
		(replay->now_ms - replay->start_ms) / 1000.0;
	char target[TEXT_SHORT], rate[TEXT_SHORT];

	printf("policy %s: %.0f s, %" PRIu64 " decisions, %" PRIu64
	       " actions (wsrd took %" PRIu64 "), %" PRIu64
	       " reports refused, %.0f s without enough for the SLOs\n",
	       replay->policy->name, seconds, replay->plans, replay->actions,
	       replay->recorded, replay->refused, replay->deficit_seconds);
	if (seconds <= 0)
		return;
	printf("%-20s %12s %24s\n", "VM", "mean target",
	       "predicted refaults per s");
	for (size_t i = 0; i < replay->nr_vms; i++) {
		const struct replay_vm *vm = &replay->vms[i];

		printf("%-20s %12s %24s\n", vm->name,
		       text_bytes(target, vm->target_seconds / seconds),
		       text_bytes(rate, vm->refault_seconds / seconds));
	}
}

static int replay_file(struct replay *replay, const char *path)
{
	char error[REPLAY_ERROR];
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	FILE *file = strcmp(path, "-") ? fopen(path, "re") : stdin;
	int result = 0;

	if (!file) {
		fprintf(stderr, "wsrctl: %s: %s\n", path, strerror(errno));
		return 1;
	}
	while (!result && (len = getline(&line, &size, file)) > 0) {
		if (len > MAX_LINE) {
			fprintf(stderr, "wsrctl: %s:%" PRIu64 ": the line is too long\n",
				path, replay->lines + 1);
			result = 1;
		} else if (replay_line(replay, line, len, error)) {
			fprintf(stderr, "wsrctl: %s:%" PRIu64 ": %s\n", path,
				replay->lines, error);
			result = 1;
		}
	}
	free(line);
	if (file != stdin)
		fclose(file);
	return result;
}

int replay_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "policy", required_argument, NULL, 'p' },
		{ "set", required_argument, NULL, 'k' },
		{ }
	};
	struct settings settings;
	struct replay replay;
	int option, status;

	settings_init(&settings);
	optind = 1;
	while ((option = getopt_long(argc, argv, "p:k:", options, NULL)) >= 0) {
		if (option == '?' || settings_option(&settings, option, optarg))
			return 2;
	}
	if (argc - optind != 1) {
		fputs("wsrctl: usage: wsrctl replay [--policy NAME] [--set KEY=VALUE]... TRACE\n",
		      stderr);
		return 2;
	}
	if (settings_check(&settings))
		return 2;
	replay_init(&replay, settings.policy, &settings.config);
	status = replay_file(&replay, argv[optind]);
	if (!status)
		print_result(&replay);
	replay_free(&replay);
	return status;
}

static volatile sig_atomic_t stopped;

static void on_signal(int signal)
{
	(void)signal;
	stopped = 1;
}

int replay_record(const char *socket_path, const char *path)
{
	struct sigaction action = { .sa_handler = on_signal };
	FILE *file = fopen(path, "we");
	char buffer[65536];
	uint64_t total = 0;
	ssize_t got;
	int fd;

	if (!file) {
		fprintf(stderr, "wsrctl: %s: %s\n", path, strerror(errno));
		return 1;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	fd = client_stream(socket_path, client_request("record"));
	fprintf(stderr, "recording to %s; end with Ctrl-C\n", path);
	while (!stopped && (got = read(fd, buffer, sizeof(buffer))) > 0) {
		if (fwrite(buffer, 1, got, file) != (size_t)got)
			break;
		total += got;
	}
	close(fd);
	/* Only whole lines count: a replay names the first that is not. */
	if (fclose(file)) {
		fprintf(stderr, "wsrctl: %s: %s\n", path, strerror(errno));
		return 1;
	}
	if (!stopped)
		fputs("wsrctl: wsrd has ended the recording\n", stderr);
	return !stopped || !total;
}
