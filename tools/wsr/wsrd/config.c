// SPDX-License-Identifier: GPL-2.0
/*
 * wsrd's configuration: an INI file and its drop-ins.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <math.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#include "../text.h"
#include "config.h"

enum type {
	BYTES,		/* 512M */
	BYTES_OR_PART,	/* 512M or 4%: the part is the next field */
	PART,		/* 4% or 0.04 */
	NUMBER,
	MS,
	COUNT,
	BOOL,
	STRING,
	LIST,
	ACTUATOR,
	ON_STOP,
	PSI,		/* 150ms/1s */
};

struct key {
	const char *section;
	const char *name;
	enum type type;
	size_t offset;
	size_t part_offset;
};

#define HOST(name, type, field) \
	{ "host", name, type, offsetof(struct config, field), 0 }
#define POLICY(name, type, field) \
	{ "policy", name, type, offsetof(struct config, policy.field), 0 }

static const struct key keys[] = {
	HOST("memory", BYTES, memory_bytes),
	HOST("memory-cgroup", STRING, memory_cgroup),
	HOST("reserve", BYTES, reserve_bytes),
	{ "host", "swap", BYTES_OR_PART, offsetof(struct config, swap_bytes),
	  offsetof(struct config, swap_part) },
	HOST("cgroup-root", STRING, cgroup_root),
	HOST("lru-gen", STRING, lru_gen_path),
	HOST("idle-pages", STRING, idle_pages),
	HOST("user", STRING, user),
	HOST("qmp", LIST, qmp),
	HOST("state", STRING, state_path),
	HOST("control", STRING, control_path),
	HOST("control-group", STRING, control_group),
	HOST("history", STRING, history_path),
	HOST("history-days", COUNT, history_days),
	HOST("history-interval", MS, history_interval_ms),
	HOST("http", STRING, http_address),
	HOST("http-names", STRING, http_names),
	HOST("dry-run", BOOL, dry_run),
	HOST("on-stop", ON_STOP, on_stop),
	HOST("pressure", PSI, pressure_us),
	{ "policy", "plan", STRING, offsetof(struct config, policy_name), 0 },
	{ "policy", "buffer", BYTES_OR_PART,
	  offsetof(struct config, policy.buffer_bytes),
	  offsetof(struct config, policy.buffer_part) },
	POLICY("headroom", PART, headroom_part),
	POLICY("min-age", MS, min_age_ms),
	POLICY("active-age", MS, active_age_ms),
	POLICY("working-set-age", MS, wss_age_ms),
	POLICY("psi-limit", PART, psi_limit),
	POLICY("shrink-rate", PART, shrink_rate),
	{ "policy", "gate", BYTES_OR_PART,
	  offsetof(struct config, policy.gate_bytes),
	  offsetof(struct config, policy.gate_part) },
	POLICY("grow-block", MS, grow_block_ms),
	POLICY("shrink-block", MS, shrink_block_ms),
	POLICY("grace", MS, grace_ms),
	POLICY("stale", MS, stale_ms),
	POLICY("smooth-up", MS, up_ms),
	POLICY("smooth-down", MS, down_ms),
	{ "policy", "pressure-step", BYTES_OR_PART,
	  offsetof(struct config, policy.pressure_bytes),
	  offsetof(struct config, policy.pressure_part) },
	POLICY("pressure-again", MS, pressure_again_ms),
	POLICY("stall-rate", BYTES, stall_rate),
	POLICY("stall-time", MS, stall_ms),
	POLICY("stall-retry", MS, stall_retry_ms),
	{ "reports", "bins", COUNT, offsetof(struct config, bins), 0 },
	{ "reports", "interval", MS, offsetof(struct config, interval_ms), 0 },
	{ "reports", "report", MS, offsetof(struct config, report_ms), 0 },
};

/* The position is the bit in config_vm.set. */
static const struct key vm_keys[] = {
	{ "vm", "shares", NUMBER,
	  offsetof(struct config_vm, policy.shares), 0 },
	{ "vm", "min", BYTES, offsetof(struct config_vm, policy.min_bytes), 0 },
	{ "vm", "max", BYTES, offsetof(struct config_vm, policy.max_bytes), 0 },
	{ "vm", "slo", PART, offsetof(struct config_vm, policy.slo), 0 },
	{ "vm", "actuator", ACTUATOR,
	  offsetof(struct config_vm, policy.actuator), 0 },
	{ "vm", "trusted", BOOL,
	  offsetof(struct config_vm, policy.trusted), 0 },
	{ "vm", "hands-off", BOOL,
	  offsetof(struct config_vm, policy.hands_off), 0 },
	{ "vm", "qmp", STRING, offsetof(struct config_vm, qmp), 0 },
	{ "vm", "cgroup", STRING, offsetof(struct config_vm, cgroup), 0 },
};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

/* The keys that make sense where there is no QEMU, and in [defaults] */
#define NR_POLICY_KEYS	7

static int __attribute__((format(printf, 2, 3)))
fail(char *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, CONFIG_ERROR, format, args);
	va_end(args);
	return -1;
}

static int parse_bytes(const char *value, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	double number;
	char *end;

	number = strtod(value, &end);
	if (end == value || !(number >= 0))
		return -1;
	if (*end) {
		const char *unit = strchr(units, *end);

		if (!unit)
			return -1;
		number = ldexp(number, 10 * (unit - units + 1));
		end++;
		if (!strcmp(end, "iB"))
			end += 2;
	}
	if (*end || number >= 0x1p62)
		return -1;
	*bytes = number;
	return 0;
}

static int parse_number(const char *value, double *number)
{
	char *end;

	*number = strtod(value, &end);
	return end == value || *end || !isfinite(*number) ? -1 : 0;
}

static int parse_part(const char *value, double *part)
{
	char *end;

	*part = strtod(value, &end);
	if (end != value && *end == '%') {
		*part /= 100;
		end++;
	}
	return end == value || *end || !(*part >= 0 && *part <= 1) ? -1 : 0;
}

static int parse_bool(const char *value, bool *result)
{
	static const char * const words[] = {
		"no", "yes", "false", "true", "off", "on", "0", "1"
	};

	for (size_t i = 0; i < NR(words); i++) {
		if (!strcmp(value, words[i])) {
			*result = i & 1;
			return 0;
		}
	}
	return -1;
}

static int parse_word(const char *value, const char * const *words, int *result)
{
	for (int i = 0; words[i]; i++) {
		if (!strcmp(value, words[i])) {
			*result = i;
			return 0;
		}
	}
	return -1;
}

static const char * const actuator_words[] = {
	[WSR_BALLOON] = "balloon", [WSR_REQUEST] = "request",
	[WSR_CGROUP] = "cgroup", NULL
};

static const char * const on_stop_words[] = {
	[ON_STOP_RELEASE] = "release", [ON_STOP_KEEP] = "keep", NULL
};

static int parse_psi(const char *value, uint32_t *us)
{
	const char *slash = strchr(value, '/');
	uint32_t stall_ms, window_ms;
	char stall[32];

	if (!strcmp(value, "off")) {
		us[0] = 0;
		us[1] = 0;
		return 0;
	}
	if (!slash || (size_t)(slash - value) >= sizeof(stall))
		return -1;
	memcpy(stall, value, slash - value);
	stall[slash - value] = '\0';
	/* The kernel accepts windows of 500 ms to 10 s. */
	if (text_parse_ms(stall, &stall_ms) ||
	    text_parse_ms(slash + 1, &window_ms) || !stall_ms ||
	    stall_ms > window_ms || window_ms < 500 || window_ms > 10000)
		return -1;
	us[0] = stall_ms * 1000;
	us[1] = window_ms * 1000;
	return 0;
}

static int set_string(char **field, const char *value)
{
	char *copy = *value ? strdup(value) : NULL;

	if (*value && !copy)
		return -1;
	free(*field);
	*field = copy;
	return 0;
}

/* What a value of the type looks like, for errors */
static const char *type_help(enum type type)
{
	switch (type) {
	case BYTES:
		return "a size such as 512M or 4G";
	case BYTES_OR_PART:
		return "a size such as 512M, or a part such as 4%";
	case PART:
		return "a part such as 4% or 0.04";
	case NUMBER:
		return "a number";
	case MS:
		return "a time such as 500ms, 10s or 2h";
	case COUNT:
		return "a number without a fraction";
	case BOOL:
		return "yes or no";
	case ACTUATOR:
		return "balloon, request or cgroup";
	case ON_STOP:
		return "release or keep";
	case PSI:
		return "off, or times such as 150ms/1s (stall within a window of 500ms to 10s)";
	case STRING:
	case LIST:
		break;
	}
	return "shorter";
}

static int set_value(void *base, const struct key *key, const char *value)
{
	void *field = (char *)base + key->offset;
	double number;
	int word;

	switch (key->type) {
	case BYTES:
		return parse_bytes(value, field);
	case BYTES_OR_PART:
		/* One replaces the other. */
		if (strchr(value, '%')) {
			if (parse_part(value, &number))
				return -1;
			*(uint64_t *)field = 0;
		} else {
			if (parse_bytes(value, field))
				return -1;
			number = 0;
		}
		*(double *)((char *)base + key->part_offset) = number;
		return 0;
	case PART:
		return parse_part(value, field);
	case NUMBER:
		return parse_number(value, field);
	case MS:
		return text_parse_ms(value, field);
	case COUNT:
		if (parse_number(value, &number) || number < 0 ||
		    number > UINT32_MAX || number != (uint32_t)number)
			return -1;
		*(uint32_t *)field = number;
		return 0;
	case BOOL:
		return parse_bool(value, field);
	case STRING:
		return set_string(field, value);
	case LIST: {
		struct config *config = base;

		if (config->nr_qmp == CONFIG_MAX_QMP)
			return -1;
		config->qmp[config->nr_qmp] = NULL;
		if (!*value || set_string(&config->qmp[config->nr_qmp], value))
			return -1;
		config->nr_qmp++;
		return 0;
	}
	case ACTUATOR:
		if (parse_word(value, actuator_words, &word))
			return -1;
		*(enum wsr_actuator *)field = word;
		return 0;
	case ON_STOP:
		if (parse_word(value, on_stop_words, &word))
			return -1;
		*(enum config_on_stop *)field = word;
		return 0;
	case PSI:
		return parse_psi(value, field);
	}
	return -1;
}

static const struct key *find_key(const struct key *table, size_t nr,
				  const char *section, const char *name)
{
	for (size_t i = 0; i < nr; i++) {
		if ((!section || !strcmp(table[i].section, section)) &&
		    !strcmp(table[i].name, name))
			return &table[i];
	}
	return NULL;
}

/* One file that is being read */
struct reader {
	struct config *config;
	const char *name;
	FILE *file;
	const char *data;	/* instead of @file */
	unsigned int line;
	bool failed;
	/* Keys that were given in this file: a second time is a mistake. */
	uint64_t seen;
	char last_section[256];
	uint32_t vm_seen;
	char *error;
};

static int reader_fail(struct reader *reader, const char *text)
{
	if (!reader->failed)
		fail(reader->error, "%s:%u: %s", reader->name, reader->line,
		     text);
	reader->failed = true;
	return 0;
}

/* For inih: as fgets(), but counts lines and notices those that are cut. */
static char *read_line(char *line, int size, void *arg)
{
	struct reader *reader = arg;
	size_t len;

	if (reader->file) {
		if (!fgets(line, size, reader->file))
			return NULL;
	} else {
		if (!*reader->data)
			return NULL;
		len = strcspn(reader->data, "\n");
		if (reader->data[len])
			len++;
		if (len >= (size_t)size)
			len = size - 1;
		memcpy(line, reader->data, len);
		line[len] = '\0';
		reader->data += len;
	}
	reader->line++;
	len = strlen(line);
	if (len == (size_t)size - 1 && line[len - 1] != '\n')
		reader_fail(reader, "the line is too long");
	return line;
}

static struct config_vm *add_vm(struct config *config, const char *pattern,
				bool is_cgroup)
{
	struct config_vm *vms = config->vms, *vm;

	vms = realloc(vms, (config->nr_vms + 1) * sizeof(*vms));
	if (!vms)
		return NULL;
	config->vms = vms;
	vm = &vms[config->nr_vms];
	*vm = (struct config_vm) { .is_cgroup = is_cgroup };
	wsr_vm_config_init(&vm->policy);
	vm->pattern = strdup(pattern);
	if (!vm->pattern)
		return NULL;
	config->nr_vms++;
	return vm;
}

static int handle_vm(struct reader *reader, const char *section,
		     const char *pattern, bool is_cgroup, bool new_section,
		     const char *name, const char *value)
{
	struct config *config = reader->config;
	const struct key *key = find_key(vm_keys, NR(vm_keys), NULL, name);
	struct config_vm *vm;
	char text[CONFIG_ERROR / 2];
	uint32_t bit;

	if (pattern && !*pattern)
		return reader_fail(reader, is_cgroup ?
				   "name the containers: [cgroup NAME]" :
				   "name the VM, or give a pattern: [vm NAME]");
	if (!key || (key - vm_keys >= NR_POLICY_KEYS &&
		     (!pattern || (is_cgroup && !strcmp(name, "qmp"))))) {
		snprintf(text, sizeof(text), "unknown key '%.64s' in [%.64s]",
			 name, section);
		return reader_fail(reader, text);
	}
	if (new_section && pattern && !add_vm(config, pattern, is_cgroup))
		return reader_fail(reader, "out of memory");
	vm = pattern ? &config->vms[config->nr_vms - 1] : &config->vms[0];
	bit = 1U << (key - vm_keys);
	if (reader->vm_seen & bit) {
		snprintf(text, sizeof(text), "'%s' is given twice in [%.64s]",
			 name, section);
		return reader_fail(reader, text);
	}
	reader->vm_seen |= bit;
	if (set_value(vm, key, value)) {
		snprintf(text, sizeof(text), "%s = %.64s: this must be %s", name,
			 value, type_help(key->type));
		return reader_fail(reader, text);
	}
	vm->set |= bit;
	return 1;
}

/* For inih: 1, or 0 on errors. */
static int handle(void *arg, const char *section, const char *name,
		  const char *value)
{
	struct reader *reader = arg;
	bool new_section = strcmp(section, reader->last_section) != 0;
	const struct key *key;
	char text[CONFIG_ERROR / 2];

	if (reader->failed)
		return 0;
	if (new_section) {
		snprintf(reader->last_section, sizeof(reader->last_section),
			 "%s", section);
		reader->vm_seen = 0;
	}
	if (!*section)
		return reader_fail(reader,
				   "a section such as [host] must come first");
	if (!value)
		return reader_fail(reader, "'=' and a value are missing");
	if (!strcmp(section, "defaults"))
		return handle_vm(reader, section, NULL, false, new_section,
				 name, value);
	if (!strncmp(section, "vm ", 3))
		return handle_vm(reader, section, section + 3, false,
				 new_section, name, value);
	if (!strncmp(section, "cgroup ", 7))
		return handle_vm(reader, section, section + 7, true,
				 new_section, name, value);
	key = find_key(keys, NR(keys), section, name);
	if (!key) {
		snprintf(text, sizeof(text), "unknown %s '%.64s'%s%.64s%s",
			 strcmp(section, "host") && strcmp(section, "policy") &&
			 strcmp(section, "reports") ? "section of" : "key", name,
			 ", found in [", section,
			 "]; sections are [host], [policy], [reports], [defaults], [vm NAME] and [cgroup NAME]");
		return reader_fail(reader, text);
	}
	if (key->type == LIST && !(reader->seen & 1ULL << (key - keys))) {
		/* A drop-in replaces the list of the file before. */
		struct config *config = reader->config;

		while (config->nr_qmp)
			free(config->qmp[--config->nr_qmp]);
	} else if (key->type != LIST &&
		   (reader->seen & 1ULL << (key - keys))) {
		snprintf(text, sizeof(text), "'%s' is given twice in [%s]",
			 name, section);
		return reader_fail(reader, text);
	}
	reader->seen |= 1ULL << (key - keys);
	if (set_value(reader->config, key, value)) {
		snprintf(text, sizeof(text), "%s = %.64s: this must be %s", name,
			 value, type_help(key->type));
		return reader_fail(reader, text);
	}
	return 1;
}

static int run_reader(struct reader *reader)
{
	int line;

	ini_allow_multiline = false;
	line = ini_parse_stream(read_line, reader, handle, reader);
	if (reader->failed)
		return -1;
	if (line)
		return fail(reader->error, "%s:%d: neither a [section] nor a key = value",
			    reader->name, line);
	return 0;
}

static int read_file(struct config *config, const char *path, char *error)
{
	struct reader reader = {
		.config = config, .name = path, .error = error,
	};
	int result;

	reader.file = fopen(path, "re");
	if (!reader.file)
		return fail(error, "%s: %s", path, strerror(errno));
	result = run_reader(&reader);
	if (!result && ferror(reader.file))
		result = fail(error, "%s: can't be read", path);
	fclose(reader.file);
	return result;
}

static int set_defaults(struct config *config, char *error)
{
	*config = (struct config) {
		.history_days = 14,
		.history_interval_ms = 60000,
		.pressure_us = 100000,
		.pressure_window_us = 1000000,
		.bins = 16,
		.interval_ms = 10000,
		.report_ms = 1000,
	};
	wsr_config_init(&config->policy);
	if (!add_vm(config, "*", false) ||
	    set_string(&config->policy_name, "wsr") ||
	    set_string(&config->cgroup_root, "/sys/fs/cgroup") ||
	    set_string(&config->lru_gen_path, "/sys/kernel/debug/lru_gen") ||
	    set_string(&config->control_path, "/run/wsr/control") ||
	    set_string(&config->state_path, "/var/lib/wsr/state.json"))
		return fail(error, "out of memory");
	return 0;
}

int config_http_address(const char *text, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	const char *port = strrchr(text, ':');
	char host[64] = "127.0.0.1";
	unsigned long number;
	char *end;

	memset(address, 0, sizeof(*address));
	if (port && snprintf(host, sizeof(host), "%.*s", (int)(port - text),
			     text) >= (int)sizeof(host))
		return -1;
	port = port ? port + 1 : text;
	number = strtoul(port, &end, 10);
	if (!*port || strspn(port, "0123456789") != strlen(port) || !number ||
	    number > 65535)
		return -1;
	if (*host == '[') {
		end = strchr(host, ']');
		if (!end || end[1])
			return -1;
		*end = '\0';
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(number);
		return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1 ?
		       0 : -1;
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons(number);
	return inet_pton(AF_INET, !strcmp(host, "localhost") ? "127.0.0.1" :
			 host, &v4->sin_addr) == 1 ? 0 : -1;
}

const char *config_idle_root(const struct config *config)
{
	bool on = false;

	if (!config->idle_pages)
		return NULL;
	if (*config->idle_pages == '/')
		return config->idle_pages;
	parse_bool(config->idle_pages, &on);
	return on ? "" : NULL;
}

static int check(const struct config *config, const char *name, char *error)
{
	const char *wrong = wsr_config_check(&config->policy);
	struct sockaddr_storage address;
	bool idle_pages;

	if (wrong)
		return fail(error, "%s: [policy]: %s", name, wrong);
	if (!wsr_policy_find(config->policy_name))
		return fail(error, "%s: [policy]: plan = %s: there is no such policy (wsrctl simulate --list shows them)",
			    name, config->policy_name);
	if (config->bins < 2 || config->bins > REPORT_MAX_BINS)
		return fail(error, "%s: [reports]: bins must be 2 to %d", name,
			    REPORT_MAX_BINS);
	if (!config->history_days || config->history_interval_ms < 1000)
		return fail(error, "%s: [host]: history-days must be at least 1, and history-interval at least 1s",
			    name);
	if (config->http_address &&
	    config_http_address(config->http_address, &address))
		return fail(error, "%s: [host]: http = %.64s: this must be an address and a port such as 127.0.0.1:9911 or [::1]:9911",
			    name, config->http_address);
	if (config->idle_pages && *config->idle_pages != '/' &&
	    parse_bool(config->idle_pages, &idle_pages))
		return fail(error, "%s: [host]: idle-pages = %.64s: this must be yes or no",
			    name, config->idle_pages);
	if (config->interval_ms < 100)
		return fail(error, "%s: [reports]: interval must be at least 100ms",
			    name);
	if (!config->cgroup_root)
		return fail(error, "%s: [host]: cgroup-root must not be empty",
			    name);
	for (size_t i = 0; i < config->nr_vms; i++) {
		const struct config_vm *vm = &config->vms[i];
		struct wsr_vm_config policy = vm->policy;

		/* With what it does not set itself */
		if (!vm->is_cgroup && !strpbrk(vm->pattern, "*?["))
			policy = config_for_vm(config, vm->pattern, NULL);
		wrong = wsr_vm_config_check(&policy);
		if (wrong)
			return fail(error, "%s: [%s %s]: %s", name,
				    vm->is_cgroup ? "cgroup" : "vm",
				    vm->pattern, wrong);
		if (vm->is_cgroup && !vm->cgroup)
			return fail(error, "%s: [cgroup %s]: 'cgroup' is missing, the path of the control group",
				    name, vm->pattern);
		if (vm->is_cgroup && strpbrk(vm->pattern, "*?["))
			return fail(error, "%s: [cgroup %s]: this must be a name, not a pattern",
				    name, vm->pattern);
		if (vm->qmp && strpbrk(vm->pattern, "*?["))
			return fail(error, "%s: [vm %s]: a pattern can't have a socket; use 'qmp' in [host]",
				    name, vm->pattern);
	}
	return 0;
}

int config_parse(struct config *config, const char *name, const char *data,
		 char error[CONFIG_ERROR])
{
	struct reader reader = {
		.config = config, .name = name, .data = data, .error = error,
	};

	if (set_defaults(config, error) || run_reader(&reader) ||
	    check(config, name, error)) {
		config_free(config);
		return -1;
	}
	return 0;
}

static int read_drop_ins(struct config *config, const char *path, char *error)
{
	char pattern[4096];
	glob_t found = { 0 };
	int result = 0;

	if (snprintf(pattern, sizeof(pattern), "%s.d/*.conf", path) >=
	    (int)sizeof(pattern))
		return fail(error, "%s: the path is too long", path);
	if (!glob(pattern, 0, NULL, &found)) {
		for (size_t i = 0; i < found.gl_pathc && !result; i++)
			result = read_file(config, found.gl_pathv[i], error);
	}
	globfree(&found);
	return result;
}

int config_load(struct config *config, const char *path,
		char error[CONFIG_ERROR])
{
	if (set_defaults(config, error) || read_file(config, path, error) ||
	    read_drop_ins(config, path, error) || check(config, path, error)) {
		config_free(config);
		return -1;
	}
	return 0;
}

void config_free(struct config *config)
{
	while (config->nr_qmp)
		free(config->qmp[--config->nr_qmp]);
	for (size_t i = 0; i < config->nr_vms; i++) {
		free(config->vms[i].pattern);
		free(config->vms[i].qmp);
		free(config->vms[i].cgroup);
	}
	free(config->vms);
	free(config->memory_cgroup);
	free(config->cgroup_root);
	free(config->lru_gen_path);
	free(config->idle_pages);
	free(config->user);
	free(config->state_path);
	free(config->control_path);
	free(config->control_group);
	free(config->history_path);
	free(config->http_address);
	free(config->http_names);
	free(config->policy_name);
	memset(config, 0, sizeof(*config));
}

static size_t value_size(enum type type)
{
	switch (type) {
	case BYTES:
		return sizeof(uint64_t);
	case NUMBER:
	case PART:
		return sizeof(double);
	case BOOL:
		return sizeof(bool);
	case ACTUATOR:
		return sizeof(enum wsr_actuator);
	default:
		return 0;	/* not among the keys of a VM's policy */
	}
}

struct wsr_vm_config config_for_vm(const struct config *config,
				   const char *name, const char **cgroup)
{
	struct config_vm result = { .policy = config->vms[0].policy };

	if (cgroup)
		*cgroup = NULL;
	for (size_t i = 1; i < config->nr_vms; i++) {
		const struct config_vm *vm = &config->vms[i];

		if (fnmatch(vm->pattern, name, 0))
			continue;
		for (size_t key = 0; key < NR_POLICY_KEYS; key++) {
			size_t offset = vm_keys[key].offset;

			if (vm->set & 1U << key)
				memcpy((char *)&result + offset,
				       (const char *)vm + offset,
				       value_size(vm_keys[key].type));
		}
		if (cgroup && vm->cgroup)
			*cgroup = vm->cgroup;
	}
	return result.policy;
}

int config_set_vm(struct wsr_vm_config *vm, const char *name, const char *value,
		  char error[CONFIG_ERROR])
{
	const struct key *key = find_key(vm_keys, NR_POLICY_KEYS, NULL, name);
	struct config_vm changed = { .policy = *vm };
	const char *wrong;

	if (!key)
		return fail(error, "unknown setting '%.64s'; there are shares, min, max, slo, actuator, trusted and hands-off",
			    name);
	if (set_value(&changed, key, value))
		return fail(error, "%s = %.64s: this must be %s", name, value,
			    type_help(key->type));
	wrong = wsr_vm_config_check(&changed.policy);
	if (wrong)
		return fail(error, "%s", wrong);
	*vm = changed.policy;
	return 0;
}

int config_set_policy(struct wsr_config *policy, const char *setting,
		      char error[CONFIG_ERROR])
{
	struct config changed = { .policy = *policy };
	const char *equals = strchr(setting, '=');
	const struct key *key = NULL;
	char name[64];

	if (equals && (size_t)(equals - setting) < sizeof(name)) {
		memcpy(name, setting, equals - setting);
		name[equals - setting] = '\0';
		key = find_key(keys, NR(keys), "policy", name);
	}
	if (!key || key->type == STRING)
		return fail(error, "this must be KEY=VALUE with a key of [policy], such as buffer=5%%");
	if (set_value(&changed, key, equals + 1))
		return fail(error, "this must be %s", type_help(key->type));
	*policy = changed.policy;
	return 0;
}
