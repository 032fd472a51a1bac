// SPDX-License-Identifier: GPL-2.0
/*
 * wsrctl - asks wsrd what it does and why, and tries policies without it.
 */
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "../text.h"
#include "answer.h"
#include "client.h"
#include "history.h"
#include "migrate.h"
#include "replay.h"
#include "simulate.h"

static const char *socket_path = CLIENT_SOCKET;
static bool as_json;

static void print_host(struct json_object *host)
{
	struct text text = { 0 };

	answer_host(&text, host);
	fputs(text.failed ? "out of memory\n" : text.data, stdout);
	text_free(&text);
}

static int status(char **arguments)
{
	struct json_object *answer = client_ask(socket_path,
						client_request("status"));
	struct json_object *vms = get(answer, "vms");

	(void)arguments;
	if (as_json) {
		print_json(answer);
		json_object_put(answer);
		return 0;
	}
	print_host(get(answer, "host"));
	printf("\n%-20s %9s %9s %9s %9s %9s %8s  %s\n", "VM", "size", "actual",
	       "target", "desired", "working", "cut", "why");
	for (size_t i = 0; i < json_object_array_length(vms); i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);
		char size[TEXT_SHORT], actual[TEXT_SHORT], target[TEXT_SHORT];
		char desired[TEXT_SHORT], working[TEXT_SHORT], cut[TEXT_SHORT];
		char why[ANSWER_WHY];

		if (!get(vm, "size-bytes")) {
			printf("%-20s %s %s\n", get_text(vm, "name"),
			       get_text(vm, "state"), get_text(vm, "why"));
			continue;
		}
		printf("%-20s %9s %9s %9s %9s %9s %8s  %s\n",
		       get_text(vm, "name"),
		       text_bytes(size, get_bytes(vm, "size-bytes")),
		       text_bytes(actual, get_bytes(vm, "actual-bytes")),
		       text_bytes(target, get_bytes(vm, "target-bytes")),
		       text_bytes(desired, get_bytes(vm, "desired-bytes")),
		       get(vm, "working-set-bytes") ?
		       text_bytes(working, get_bytes(vm, "working-set-bytes")) :
		       "-", age_text(cut, get_number(vm, "cut-age-s")),
		       answer_why(why, vm));
	}
	json_object_put(answer);
	return 0;
}

static const struct words {
	const char *name;
	const char *text;
} sources[] = {
	{ "guest", "The ages are the guest's own report." },
	{ "memory.working_set", "The host's kernel knows the ages of its control group." },
	{ "lru_gen", "The ages are generations of the host's multi-gen LRU: four of them." },
	{ "idle-pages", "The ages are the host's: it looks whether a sample of its pages is used." },
	{ "balloon-statistics", "It sends no reports: only its free memory and page cache are known." },
	{ "memory.stat", "No ages are known: only page cache that was used once counts as old." },
}, checks[] = {
	{ "agrees", "What the host sees of its memory agrees with its reports." },
	{ "uses-more", "The host sees it use more memory than it reports." },
	{ "uses-less", "The host sees it use less memory than it reports: it is not trusted." },
};

static void print_words(const struct words *table, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++) {
		if (!strcmp(table[i].name, name))
			printf("  %s\n", table[i].text);
	}
}

static void print_text(const char *text)
{
	if (*text)
		printf("  %s\n", text);
}

static void print_line(const char *what, uint64_t bytes, const char *why)
{
	char text[TEXT_SHORT];

	printf("  %-22s %10s  %s\n", what, text_bytes(text, bytes), why);
}

/* What a sample of its pages says of where they are; may be NULL */
static void print_idle(struct json_object *idle)
{
	if (!idle)
		return;
	print_line("resident", get_bytes(idle, "resident-bytes"),
		   "of its size is in the memory of the host");
	print_line("in swap space", get_bytes(idle, "swapped-bytes"),
		   "of the host");
	print_line("empty", get_bytes(idle, "empty-bytes"),
		   "never touched, or given back");
}

static void print_actions(struct json_object *actions)
{
	for (size_t i = 0; i < json_object_array_length(actions); i++) {
		struct json_object *action =
			json_object_array_get_idx(actions, i);
		time_t time = get_bytes(action, "time");
		char clock[32], bytes[TEXT_SHORT];
		struct tm tm;

		strftime(clock, sizeof(clock), "%H:%M:%S",
			 localtime_r(&time, &tm));
		printf("  %s %-16s %-16s %10s  %s\n", clock,
		       get_text(action, "vm"), get_text(action, "kind"),
		       text_bytes(bytes, get_bytes(action, "bytes")),
		       get_text(action, "reason"));
	}
}

static int explain(char **arguments)
{
	struct json_object *request = client_request("explain");
	struct json_object *answer, *vm, *why, *config;
	char cut[TEXT_SHORT], slo[TEXT_SHORT], note[128];

	json_object_object_add(request, "vm",
			       json_object_new_string(arguments[0]));
	answer = client_ask(socket_path, request);
	if (as_json) {
		print_json(answer);
		json_object_put(answer);
		return 0;
	}
	vm = get(answer, "vm");
	why = get(answer, "why");
	config = get(answer, "config");
	printf("%s: %s %s\n", get_text(vm, "name"), get_text(vm, "state"),
	       get_text(vm, "why"));
	if (!why) {
		json_object_put(answer);
		return 0;
	}
	print_text(get_text(vm, "reason-text"));
	print_text(get_text(vm, "hold-text"));
	print_words(sources, sizeof(sources) / sizeof(sources[0]),
		    get_text(vm, "source"));
	print_words(checks, sizeof(checks) / sizeof(checks[0]),
		    get_text(vm, "cross-check"));
	puts("\nIt has and should have");
	print_line("size", get_bytes(vm, "size-bytes"), "given at its start");
	print_line("actual", get_bytes(vm, "actual-bytes"), "it has now");
	if (get_bytes(vm, "swapped-bytes"))
		print_line("swapped", get_bytes(vm, "swapped-bytes"),
			   "of that is in the swap space of the host");
	print_idle(get(vm, "idle-pages"));
	print_line("target", get_bytes(vm, "target-bytes"), "it was told");
	if (get_number(why, "cut-age-s") < 0)
		strcpy(note, "keeps all that it uses, and its part of what is free");
	else
		snprintf(note, sizeof(note), "keeps what is younger than %s",
			 age_text(cut, get_number(why, "cut-age-s")));
	print_line("desired", get_bytes(vm, "desired-bytes"), note);
	if (get(vm, "cgroup-bytes"))
		print_line("memory.current", get_bytes(vm, "cgroup-bytes"),
			   "of its control group");
	if (get(vm, "high-bytes"))
		print_line("memory.high", get_bytes(vm, "high-bytes"),
			   "set by wsrd");
	puts("\nbecause");
	print_line("working set", get_bytes(vm, "working-set-bytes"),
		   "memory used within the working set's age");
	print_line("free in the guest", get_bytes(vm, "free-bytes"), "");
	print_line("can't be taken", get_bytes(why, "needed-bytes"),
		   "kernel, locked, and some that stays free");
	print_line("floor", get_bytes(why, "floor-bytes"),
		   "that, pages too young to take, or its min");
	snprintf(note, sizeof(note), "younger than %s: SLO of %.3g %% of the working set per minute",
		 age_text(slo, get_number(why, "slo-age-s")),
		 100 * get_number(config, "slo"));
	print_line("floor for its SLO", get_bytes(why, "slo-floor-bytes"),
		   note);
	print_line("ceiling", get_bytes(why, "ceiling-bytes"), "its max");
	printf("  %-22s %10.3g\n", "shares", get_number(config, "shares"));
	puts("\nRefaults per second");
	print_line("measured", get_number(vm, "refault-bytes-per-s"), "");
	snprintf(note, sizeof(note), "%.2f of what ages alone say",
		 get_number(why, "alpha"));
	print_line("predicted at desired",
		   get_number(why, "predicted-refault-bytes-per-s"), note);
	if (json_object_array_length(get(answer, "actions")))
		puts("\nWhat was done, newest last");
	print_actions(get(answer, "actions"));
	json_object_put(answer);
	return 0;
}

static int set(char **arguments)
{
	struct json_object *request = client_request("set");
	char *equals = strchr(arguments[1], '=');

	if (!equals) {
		fprintf(stderr, "wsrctl: '%s' is not KEY=VALUE, such as shares=2\n",
			arguments[1]);
		return 2;
	}
	*equals = '\0';
	json_object_object_add(request, "vm",
			       json_object_new_string(arguments[0]));
	json_object_object_add(request, "key",
			       json_object_new_string(arguments[1]));
	json_object_object_add(request, "value",
			       json_object_new_string(equals + 1));
	json_object_put(client_ask(socket_path, request));
	return 0;
}

static int actions(char **arguments)
{
	struct json_object *answer = client_ask(socket_path,
						client_request("actions"));

	(void)arguments;
	if (as_json)
		print_json(answer);
	else
		print_actions(get(answer, "actions"));
	json_object_put(answer);
	return 0;
}

static int record(char **arguments)
{
	return replay_record(socket_path, arguments[0]);
}

static const struct command {
	const char *name;
	int nr_arguments;
	int (*run)(char **arguments);
	const char *help;
} commands[] = {
	{ "status", 0, status, "status             the host and all VMs" },
	{ "explain", 1, explain,
	  "explain VM         why a VM has what it has, in words and numbers" },
	{ "set", 2, set,
	  "set VM KEY=VALUE   shares, min, max, slo, actuator, trusted, hands-off;\n"
	  "                     until wsrd reads its configuration again" },
	{ "actions", 0, actions, "actions            what was done last" },
	{ "record", 1, record,
	  "record FILE        write down all that wsrd knows and decides" },
	{ "migrate-guard", 1, migrate_guard,
	  "migrate-guard PID  while the QEMU with this process id is migrated: keep\n"
	  "                     zero and swapped-out pages out of memory" },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *file)
{
	fputs("Usage: wsrctl [OPTION]... COMMAND [ARGUMENT]...\n\n", file);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(file, "  %s\n", commands[i].help);
	fputs("  history [--since TIME] VM\n"
	      "                     its memory by age and its sizes, since 20m or 48h ago\n"
	      "                     (default 1h)\n"
	      "  replay [--policy NAME] [--set KEY=VALUE]... TRACE\n"
	      "                     what a policy would have done with it\n"
	      "  simulate [--policy NAME] [--set KEY=VALUE]... [--overcommit N,N...]\n"
	      "           [--mixes N] [--vms N] [--seed N] [--phases] | --list\n"
	      "                     policies on hosts with synthetic guests\n"
	      "\n  -s, --socket=PATH  of wsrd (default " CLIENT_SOCKET ")\n"
	      "  -j, --json         for programs\n"
	      "  -h, --help         show this\n", file);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int option;

	/* Only characters: numbers have a point everywhere. */
	setlocale(LC_CTYPE, "");
	while ((option = getopt_long(argc, argv, "+s:jh", options, NULL)) >= 0) {
		switch (option) {
		case 's':
			socket_path = optarg;
			break;
		case 'j':
			as_json = true;
			break;
		case 'h':
			print_usage(stdout);
			return 0;
		default:
			fputs("Try wsrctl --help\n", stderr);
			return 2;
		}
	}
	argv += optind;
	argc -= optind;
	if (!argc) {
		print_usage(stderr);
		return 2;
	}
	if (!strcmp(argv[0], "history"))
		return history_main(argc, argv, socket_path, as_json);
	if (!strcmp(argv[0], "replay"))
		return replay_main(argc, argv);
	if (!strcmp(argv[0], "simulate"))
		return simulate_main(argc, argv);
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (strcmp(commands[i].name, argv[0]))
			continue;
		if (argc - 1 != commands[i].nr_arguments) {
			fprintf(stderr, "wsrctl: usage: wsrctl %s\n",
				commands[i].help);
			return 2;
		}
		return commands[i].run(argv + 1);
	}
	fprintf(stderr, "wsrctl: unknown command '%s'; try wsrctl --help\n",
		argv[0]);
	return 2;
}
