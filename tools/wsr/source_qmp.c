// SPDX-License-Identifier: GPL-2.0
/*
 * Guests behind the QMP sockets that the command line names.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "wsrtop.h"

/* A guest and how far the loop is with it. */
struct entry {
	struct guest guest;
	struct history history;
	bool finished;			/* all reports of --count came */
	bool failed;
	enum guest_state told;		/* last state told on stderr */
	char received[TEXT_SHORT];
};

static struct entry *entries;
static struct view_guest *views;
static unsigned int nr_entries;

static void fill_view(struct view_guest *view, struct entry *entry,
		      int64_t now_ms)
{
	const struct guest *guest = &entry->guest;

	*view = (struct view_guest) {
		.name = guest->name,
		.where = guest->where,
		.state = guest_state_name(guest->state),
		.healthy = guest->state == GUEST_REPORTING,
		.why = *guest->why ? guest->why : NULL,
		.node = guest->has_report ? &guest->report.guest : NULL,
		.report = guest->has_report ? &guest->report : NULL,
		.data_age_ms = now_ms - guest->data_ms,
		.received = clock_text(entry->received, guest->received_s),
		.history = &entry->history,
		.now_ms = now_ms,
	};
}

static void print_json_report(const struct guest *guest,
			      const struct report *report)
{
	struct json_object *json = json_object_new_object();

	json_object_object_add(json, "guest",
			       json_object_new_string(guest->name));
	json_object_object_add(json, "socket",
			       json_object_new_string(guest->where));
	put_time(json);
	json_object_object_add(json, "report", report_to_json(report));
	print_json_line(json);
}

static void print_report(struct guest *guest, const struct report *report)
{
	struct entry *entry = guest->owner;
	struct text text = plain_text();
	struct view_guest view;

	if (entry->finished)
		return;
	if (!app.paused)
		app.redraw = true;
	if (app.output == OUTPUT_JSON)
		print_json_report(guest, report);
	if (report->status != REPORT_OK)
		return;
	history_add(&entry->history, &report->guest, guest->received_ms);
	if (app.output == OUTPUT_PLAIN) {
		fill_view(&view, entry, monotonic_ms());
		/* It has just reported, whatever it was before. */
		view.state = guest_state_name(GUEST_REPORTING);
		view.healthy = true;
		view.why = NULL;
		view_guest_full(&text, &view);
		text_newline(&text);
		print_text(&text);
	}
	if (app.count && guest->reports >= app.count) {
		entry->finished = true;
		guest_stop(guest);
	}
}

/*
 * Tell of trouble on stderr, where it does not mix with reports. States that
 * pass by themselves are no trouble.
 */
static void tell_state(struct entry *entry)
{
	struct guest *guest = &entry->guest;

	if (guest->state == entry->told)
		return;
	entry->told = guest->state;
	switch (guest->state) {
	case GUEST_CONNECTING:
	case GUEST_SETUP:
	case GUEST_WAITING:
	case GUEST_REPORTING:
		return;
	default:
		fprintf(stderr, "wsrtop: %s: %s: %s\n", guest->name,
			guest_state_name(guest->state), guest->why);
	}
}

static void guests_tick(int64_t now_ms)
{
	unsigned int i;

	for (i = 0; i < nr_entries; i++) {
		struct entry *entry = &entries[i];
		enum guest_state before = entry->guest.state;

		if (entry->finished || entry->failed)
			continue;
		guest_tick(&entry->guest, now_ms);
		if (entry->guest.state != before)
			app.redraw = true;
		if (app.output != OUTPUT_SCREEN && !app.count)
			tell_state(entry);
	}
}

static void guests_poll(struct pollfd *fds)
{
	unsigned int i;

	for (i = 0; i < nr_entries; i++) {
		fds[i].fd = entries[i].guest.qmp.fd;
		fds[i].events = qmp_poll_events(&entries[i].guest.qmp);
	}
}

static void guests_io(const struct pollfd *fds, int64_t now_ms)
{
	unsigned int i;

	for (i = 0; i < nr_entries; i++) {
		if (fds[i].fd >= 0 && fds[i].revents)
			guest_io(&entries[i].guest, fds[i].revents, now_ms);
	}
}

static bool guests_waiting(int64_t now_ms)
{
	bool waiting = false;
	unsigned int i;

	for (i = 0; i < nr_entries; i++) {
		struct entry *entry = &entries[i];
		struct guest *guest = &entry->guest;
		int64_t since_ms = guest->received_ms > app.start_ms ?
				   guest->received_ms : app.start_ms;

		if (entry->finished || entry->failed)
			continue;
		if (!guest->hopeless &&
		    now_ms - since_ms < app.options.timeout_ms) {
			waiting = true;
			continue;
		}
		entry->failed = true;
		guest_stop(guest);
	}
	return waiting;
}

static bool guests_tell(void)
{
	char timeout[TEXT_SHORT];
	bool all = true;
	unsigned int i;

	for (i = 0; i < nr_entries; i++) {
		struct guest *guest = &entries[i].guest;

		all &= entries[i].finished;
		if (!entries[i].failed)
			continue;
		if (guest->hopeless)
			fprintf(stderr, "wsrtop: %s (%s): %s\n", guest->name,
				guest->where, guest->why);
		else
			fprintf(stderr,
				"wsrtop: %s (%s): no report within %s: %s\n",
				guest->name, guest->where,
				text_bound(timeout, app.options.timeout_ms),
				*guest->why ? guest->why :
				guest_state_name(guest->state));
	}
	return all;
}

static void guests_content(struct screen_content *content, int64_t now_ms)
{
	unsigned int i;

	for (i = 0; i < nr_entries; i++)
		fill_view(&views[i], &entries[i], now_ms);
	content->guests = views;
	content->nr_guests = nr_entries;
}

static void guests_stop(void)
{
	unsigned int i;

	for (i = 0; i < nr_entries; i++) {
		if (!entries[i].finished && !entries[i].failed)
			guest_stop(&entries[i].guest);
		/* What still comes is not printed. */
		entries[i].finished = true;
	}
}

static bool guests_stopping(void)
{
	bool stopping = false;
	unsigned int i;

	for (i = 0; i < nr_entries; i++)
		stopping |= guest_stopping(&entries[i].guest);
	return stopping;
}

static void guests_close(void)
{
	unsigned int i;

	for (i = 0; i < nr_entries; i++)
		guest_close(&entries[i].guest);
	free(entries);
	free(views);
}

static unsigned int guests_open(char **specs, unsigned int count)
{
	static const struct guest_handlers handlers = {
		.report = print_report,
	};
	unsigned int i;

	nr_entries = count;
	entries = allocate(count, sizeof(*entries));
	views = allocate(count, sizeof(*views));
	for (i = 0; i < count; i++) {
		if (guest_init(&entries[i].guest, &app.options, specs[i],
			       &handlers))
			usage_error("%s: %s", specs[i],
				    entries[i].guest.qmp.error);
		entries[i].guest.owner = &entries[i];
		entries[i].told = GUEST_CONNECTING;
	}
	return count;
}

const struct source source_qmp = {
	.open = guests_open,
	.poll = guests_poll,
	.io = guests_io,
	.tick = guests_tick,
	.waiting = guests_waiting,
	.content = guests_content,
	.tell = guests_tell,
	.stop = guests_stop,
	.stopping = guests_stopping,
	.close = guests_close,
};
