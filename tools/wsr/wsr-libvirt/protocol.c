// SPDX-License-Identifier: GPL-2.0
/*
 * QMP as a server speaks it.
 */
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "../qmp.h"
#include "../text.h"
#include "protocol.h"

#define MAX_DESCRIPTION	1024

static struct json_object *get(struct json_object *object, const char *name,
			       enum json_type type)
{
	struct json_object *field;

	if (!json_object_object_get_ex(object, name, &field) ||
	    !json_object_is_type(field, type))
		return NULL;
	return field;
}

static const char *get_string(struct json_object *object, const char *name)
{
	struct json_object *field = get(object, name, json_type_string);

	return field ? json_object_get_string(field) : NULL;
}

static bool is_one_of(const char *word, const char * const *words)
{
	for (; *words; words++) {
		if (!strcmp(word, *words))
			return true;
	}
	return false;
}

const char *request_name(struct json_object *request)
{
	return get_string(request, "execute");
}

/*
 * Properties of other objects may be secrets (keys of disks), and may do
 * anything when they are set.
 */
static bool property_allowed(struct json_object *request, bool write)
{
	static const char * const readable[] = {
		"deflate-on-oom", "guest-stats", "guest-stats-polling-interval",
		"guest-working-set", "guest-working-set-config",
		"guest-working-set-request-id", NULL,
	};
	static const char * const writable[] = {
		"guest-stats-polling-interval", "guest-working-set-config",
		"guest-working-set-reclaim", "guest-working-set-request-id",
		NULL,
	};
	struct json_object *arguments = get(request, "arguments",
					    json_type_object);
	const char *property = get_string(arguments, "property");

	return property && is_one_of(property, write ? writable : readable);
}

const char *request_refused(struct json_object *request, const char **class)
{
	static const char * const harmless[] = {
		"balloon", "qom-list", "query-balloon",
		"query-memory-size-summary", "query-migrate", "query-name",
		"query-status", NULL,
	};
	const char *name = request_name(request);
	bool write;

	*class = CLASS_GENERIC;
	if (!name)
		return "a command needs \"execute\" with its name";
	if (is_one_of(name, harmless))
		return NULL;
	write = !strcmp(name, "qom-set");
	if (!write && strcmp(name, "qom-get")) {
		*class = CLASS_NOT_FOUND;
		return "wsr-libvirt does not relay this command: use virsh qemu-monitor-command";
	}
	if (property_allowed(request, write))
		return NULL;
	return "wsr-libvirt does not relay this property: use virsh qemu-monitor-command";
}

bool request_balloon(struct json_object *request, uint64_t *bytes)
{
	struct json_object *arguments, *value;

	if (strcmp(request_name(request), "balloon"))
		return false;
	arguments = get(request, "arguments", json_type_object);
	value = get(arguments, "value", json_type_int);
	/* QEMU will say what is wrong with the others. */
	if (!value || json_object_get_int64(value) <= 0)
		return false;
	*bytes = json_object_get_int64(value);
	return true;
}

/* Takes @answer over. */
static char *line(struct json_object *answer)
{
	const char *text;
	char *copy = NULL;

	text = json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN);
	if (text && asprintf(&copy, "%s\r\n", text) < 0)
		copy = NULL;
	json_object_put(answer);
	return copy;
}

static struct json_object *answer_new(struct json_object *request)
{
	struct json_object *answer = json_object_new_object(), *id;

	if (json_object_object_get_ex(request, "id", &id))
		json_object_object_add(answer, "id", json_object_get(id));
	return answer;
}

char *line_answer(struct json_object *request)
{
	struct json_object *answer = answer_new(request);

	json_object_object_add(answer, "return", json_object_new_object());
	return line(answer);
}

char *line_error(struct json_object *request, const char *class,
		 const char *description)
{
	struct json_object *answer = answer_new(request);
	struct json_object *error = json_object_new_object();
	char plain[MAX_DESCRIPTION];

	/* libvirt cuts its messages anywhere, in a character, too. */
	text_escape(plain, sizeof(plain), description, true);
	json_object_object_add(error, "class", json_object_new_string(class));
	json_object_object_add(error, "desc", json_object_new_string(plain));
	json_object_object_add(answer, "error", error);
	return line(answer);
}

char *line_relayed(struct json_object *request, const char *reply)
{
	static const char * const outcomes[] = { "return", "error" };
	struct json_object *json = qmp_parse(reply, strlen(reply));
	struct json_object *answer, *outcome;

	for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
		if (!json_object_object_get_ex(json, outcomes[i], &outcome))
			continue;
		answer = answer_new(request);
		json_object_object_add(answer, outcomes[i],
				       json_object_get(outcome));
		json_object_put(json);
		return line(answer);
	}
	json_object_put(json);
	return line_error(request, CLASS_GENERIC,
			  "libvirt: the answer of QEMU makes no sense");
}

char *line_event(const char *event, long long seconds, unsigned int micros,
		 const char *details)
{
	struct json_object *answer, *when, *data = NULL;

	if (details) {
		data = qmp_parse(details, strlen(details));
		if (!data)
			return NULL;
	}
	answer = json_object_new_object();
	when = json_object_new_object();
	json_object_object_add(when, "seconds", json_object_new_int64(seconds));
	json_object_object_add(when, "microseconds",
			       json_object_new_int64(micros));
	json_object_object_add(answer, "timestamp", when);
	json_object_object_add(answer, "event", json_object_new_string(event));
	if (data)
		json_object_object_add(answer, "data", data);
	return line(answer);
}

char *line_greeting(const char *version, pid_t pid)
{
	struct json_object *json = qmp_parse(version, strlen(version));
	struct json_object *greeting = json_object_new_object();
	struct json_object *qmp = json_object_new_object();
	struct json_object *what = get(json, "return", json_type_object);

	json_object_object_add(qmp, "version", json_object_get(what));
	json_object_object_add(qmp, "capabilities", json_object_new_array());
	if (pid > 0)
		json_object_object_add(qmp, "pid", json_object_new_int(pid));
	json_object_object_add(greeting, "QMP", qmp);
	json_object_put(json);
	return line(greeting);
}

pid_t reply_thread(const char *reply)
{
	struct json_object *json = qmp_parse(reply, strlen(reply));
	struct json_object *cpus = get(json, "return", json_type_array);
	struct json_object *thread = NULL;
	int64_t id = 0;

	if (cpus && json_object_array_length(cpus))
		thread = get(json_object_array_get_idx(cpus, 0), "thread-id",
			     json_type_int);
	if (thread)
		id = json_object_get_int64(thread);
	json_object_put(json);
	return id > 0 && id <= INT_MAX ? id : 0;
}
