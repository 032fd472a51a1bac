// SPDX-License-Identifier: GPL-2.0
/*
 * All VMs of a running wsrd, by its control socket.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "wsrctl/answer.h"
#include "wsrctl/client.h"
#include "wsrtop.h"

#define RETRY_MS	500	/* wsrd restarts within a second */
#define SILENT_MS	5000	/* it answers at once */

/* One VM. Texts are printable. */
struct entry {
	char name[GUEST_NAME];
	char state[TEXT_SHORT];
	char trouble[GUEST_WHY];
	char why[ANSWER_WHY];
	char source[TEXT_SHORT];
	bool has_plan;
	struct view_plan plan;
	bool has_node;
	struct report_node node;
	int64_t data_ms;
	struct history history;
};

static struct client client = { .fd = -1 };
static struct entry **entries;
static struct view_guest *views;
static size_t nr_entries;
static struct json_object *host;	/* of the last answer */
static struct text lines;		/* about it */
static char trouble[CLIENT_ERROR];	/* with wsrd, else empty */
static bool was_connected;
static bool asked;			/* and not answered */
static int64_t asked_ms;
static int64_t due_ms;			/* ask, and connect if need be */
static int64_t answered_ms;
static uint64_t answers;

static void set_trouble(const char *why)
{
	char text[CLIENT_ERROR];

	text_escape(text, sizeof(text), why, app.options.utf8);
	if (!strcmp(trouble, text))
		return;
	strcpy(trouble, text);
	app.redraw = true;
	if (app.output == OUTPUT_SCREEN || app.count)
		return;
	fprintf(stderr, "wsrtop: %s: %s\n", app.control,
		*trouble ? trouble : "wsrd answers again");
}

static void lost(int64_t now_ms)
{
	asked = false;
	due_ms = now_ms + RETRY_MS;
	set_trouble(client.error);
}

/* A text of the answer that is safe to print */
static void take_text(char *out, size_t size, struct json_object *object,
		      const char *name)
{
	text_escape(out, size, get_text(object, name), app.options.utf8);
}

static void take_plan(struct entry *entry, struct json_object *vm)
{
	struct view_plan *plan = &entry->plan;
	double cut_s = get_number(vm, "cut-age-s");
	double rate = get_number(vm, "refault-bytes-per-s");
	char why[ANSWER_WHY];

	text_escape(entry->why, sizeof(entry->why), answer_why(why, vm),
		    app.options.utf8);
	take_text(entry->source, sizeof(entry->source), vm, "source");
	*plan = (struct view_plan) {
		.size_bytes = get_bytes(vm, "size-bytes"),
		.actual_bytes = get_bytes(vm, "actual-bytes"),
		.target_bytes = get_bytes(vm, "target-bytes"),
		.desired_bytes = get_bytes(vm, "desired-bytes"),
		.has_report = get(vm, "working-set-bytes"),
		.working_set_bytes = get_bytes(vm, "working-set-bytes"),
		.free_bytes = get_bytes(vm, "free-bytes"),
		.cut_ms = cut_s < 0 || cut_s > UINT32_MAX ? -1 : cut_s * 1000,
		.refault_rate = rate > 0 && rate < INT64_MAX ? rate : 0,
		.why = entry->why,
		.source = entry->source,
	};
}

static void take_vm(struct entry *entry, struct json_object *vm, int64_t now_ms)
{
	double age_s = get_number(vm, "report-age-s");
	char error[REPORT_ERROR];

	take_text(entry->state, sizeof(entry->state), vm, "state");
	take_text(entry->trouble, sizeof(entry->trouble), vm,
		  get(vm, "why") ? "why" : "error");
	entry->has_plan = get(vm, "size-bytes");
	if (entry->has_plan)
		take_plan(entry, vm);
	/* A VM without ages has no bins. */
	entry->has_node = get(vm, "bins") &&
			  !report_parse_bins(vm, &entry->node, error);
	if (!entry->has_node)
		return;
	entry->data_ms = now_ms;
	if (age_s > 0 && age_s < UINT32_MAX)
		entry->data_ms -= age_s * 1000;
	history_add(&entry->history, &entry->node, now_ms);
}

/* The entry of a VM, taken out of the list; most have kept their place. */
static struct entry *take_entry(const char *name, size_t place)
{
	struct entry *entry = NULL;

	if (place >= nr_entries || !entries[place] ||
	    strcmp(entries[place]->name, name)) {
		for (place = 0; place < nr_entries; place++) {
			if (entries[place] &&
			    !strcmp(entries[place]->name, name))
				break;
		}
	}
	if (place < nr_entries) {
		entry = entries[place];
		entries[place] = NULL;
		return entry;
	}
	entry = allocate(1, sizeof(*entry));
	strcpy(entry->name, name);
	return entry;
}

static void free_entries(void)
{
	for (size_t i = 0; i < nr_entries; i++)
		free(entries[i]);
	free(entries);
	free(views);
}

static void take_vms(struct json_object *vms, int64_t now_ms)
{
	size_t nr = json_object_array_length(vms);
	struct entry **now = allocate(nr + 1, sizeof(*now));

	for (size_t i = 0; i < nr; i++) {
		struct json_object *vm = json_object_array_get_idx(vms, i);
		char name[GUEST_NAME];

		take_text(name, sizeof(name), vm, "name");
		now[i] = take_entry(name, i);
		take_vm(now[i], vm, now_ms);
	}
	free_entries();
	entries = now;
	nr_entries = nr;
	views = allocate(nr + 1, sizeof(*views));
}

static void fill_view(struct view_guest *view, const struct entry *entry,
		      int64_t now_ms)
{
	*view = (struct view_guest) {
		.name = entry->name,
		.state = entry->state,
		.healthy = !strcmp(entry->state,
				   guest_state_name(GUEST_REPORTING)),
		.why = *entry->trouble ? entry->trouble : NULL,
		.plan = entry->has_plan ? &entry->plan : NULL,
		.node = entry->has_node ? &entry->node : NULL,
		.data_age_ms = now_ms - entry->data_ms,
		.history = &entry->history,
		.now_ms = now_ms,
	};
}

/* About wsrd and its host */
static void fill_lines(int64_t now_ms)
{
	char ago[TEXT_SHORT];

	text_clear(&lines);
	lines.width = app.width;
	lines.utf8 = app.options.utf8;
	lines.styled = app.output == OUTPUT_SCREEN;
	if (*trouble) {
		text_style(&lines, TEXT_BAD);
		text_wrapped(&lines, 0, trouble);
		if (answers) {
			text_printf(&lines, "What follows is %s old.",
				    text_ago(ago, now_ms - answered_ms));
			text_newline(&lines);
		}
		text_style(&lines, TEXT_NORMAL);
	}
	if (host)
		answer_host(&lines, host);
	if (host && !nr_entries)
		text_wrapped(&lines, 0, "There are no VMs: [host] qmp or [vm NAME] qmp in wsrd's configuration tells where their QMP sockets are.");
}

static void vms_content(struct screen_content *content, int64_t now_ms)
{
	for (size_t i = 0; i < nr_entries; i++)
		fill_view(&views[i], entries[i], now_ms);
	fill_lines(now_ms);
	content->host = &lines;
	content->guests = views;
	content->nr_guests = nr_entries;
}

static void print_plain(int64_t now_ms)
{
	struct screen_content content = { 0 };
	struct text text = plain_text();

	vms_content(&content, now_ms);
	if (lines.data)
		fputs(lines.data, stdout);
	if (nr_entries)
		view_list_header(&text, true);
	for (size_t i = 0; i < nr_entries; i++)
		view_guest_line(&text, &views[i], false);
	for (size_t i = 0; i < nr_entries; i++) {
		text_newline(&text);
		view_guest_full(&text, &views[i]);
	}
	text_newline(&text);
	print_text(&text);
}

/* The reference is taken over. */
static void take_answer(struct json_object *answer, int64_t now_ms)
{
	struct json_object *vms = get(answer, "vms");

	asked = false;
	if (!json_object_is_type(vms, json_type_array) ||
	    !json_object_is_type(get(answer, "host"), json_type_object)) {
		set_trouble(get(answer, "error") ? get_text(answer, "error") :
			    "this is no status: is this wsrd's socket?");
		json_object_put(answer);
		return;
	}
	set_trouble("");
	answers++;
	answered_ms = now_ms;
	json_object_put(host);
	host = json_object_get(get(answer, "host"));
	take_vms(vms, now_ms);
	if (!app.paused)
		app.redraw = true;
	if (app.output == OUTPUT_JSON) {
		put_time(answer);
		print_json_line(answer);
		return;
	}
	json_object_put(answer);
	if (app.output == OUTPUT_PLAIN)
		print_plain(now_ms);
}

static void ask(int64_t now_ms)
{
	static const uint32_t bounds_ms[] = {
		5000, 15000, 60000, 120000, 300000, 1800000, 7200000,
	};
	const struct guest_options *options = &app.options;
	const uint32_t *bounds = bounds_ms;
	size_t nr = sizeof(bounds_ms) / sizeof(bounds_ms[0]);
	struct json_object *request = client_request("status");
	struct json_object *array = json_object_new_array();

	if (options->nr_bounds) {
		bounds = options->bounds_ms;
		nr = options->nr_bounds;
	}
	for (size_t i = 0; i < nr; i++)
		json_object_array_add(array, json_object_new_int64(bounds[i]));
	json_object_object_add(request, "idle-ages-ms", array);
	if (client_send(&client, request)) {
		lost(now_ms);
		return;
	}
	asked = true;
	asked_ms = now_ms;
	due_ms = now_ms + options->interval_ms;
}

static void vms_tick(int64_t now_ms)
{
	if (asked) {
		if (now_ms - asked_ms > SILENT_MS)
			set_trouble("wsrd does not answer");
		return;
	}
	if (now_ms < due_ms)
		return;
	if (client.fd < 0 && client_open(&client, app.control)) {
		lost(now_ms);
		return;
	}
	was_connected = true;
	ask(now_ms);
}

static void vms_poll(struct pollfd *fds)
{
	fds->fd = client.fd;
	fds->events = POLLIN;
}

static void vms_io(const struct pollfd *fds, int64_t now_ms)
{
	struct json_object *answer;

	if (fds->fd < 0 || !fds->revents)
		return;
	if (client_receive(&client, &answer))
		lost(now_ms);
	else if (answer)
		take_answer(answer, now_ms);
}

static bool vms_waiting(int64_t now_ms)
{
	int64_t since_ms = answers ? answered_ms : app.start_ms;

	/* A wsrd that was never there is not waited for. */
	return answers < app.count && (was_connected || !*trouble) &&
	       now_ms - since_ms < app.options.timeout_ms;
}

static bool vms_tell(void)
{
	char timeout[TEXT_SHORT];

	if (answers >= app.count)
		return true;
	if (*trouble)
		fprintf(stderr, "wsrtop: %s: %s\n", app.control, trouble);
	else
		fprintf(stderr, "wsrtop: %s: no answer within %s\n",
			app.control,
			text_bound(timeout, app.options.timeout_ms));
	return false;
}

static unsigned int vms_open(char **words, unsigned int nr)
{
	(void)words;
	(void)nr;
	return 1;
}

/* Nothing was changed, so there is nothing to leave as it was. */
static void vms_stop(void)
{
}

static bool vms_stopping(void)
{
	return false;
}

static void vms_close(void)
{
	client_close(&client);
	free_entries();
	json_object_put(host);
	text_free(&lines);
}

const struct source source_wsrd = {
	.open = vms_open,
	.poll = vms_poll,
	.io = vms_io,
	.tick = vms_tick,
	.waiting = vms_waiting,
	.content = vms_content,
	.tell = vms_tell,
	.stop = vms_stop,
	.stopping = vms_stopping,
	.close = vms_close,
};
