// SPDX-License-Identifier: GPL-2.0
/*
 * One guest: from a QMP socket to working set reports.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <json-c/json.h>

#include "guest.h"
#include "text.h"

#define PERIPHERAL		"/machine/peripheral"
#define PERIPHERAL_ANON		"/machine/peripheral-anon"
#define PROPERTY_STATE		"guest-working-set"
#define PROPERTY_CONFIG		"guest-working-set-config"
#define PROPERTY_REQUEST	"guest-working-set-request-id"

#define BACKOFF_FIRST_MS	500
#define BACKOFF_MOST_MS		10000
#define SETUP_RETRY_MS		5000	/* a device may be plugged in later */
#define GREETING_MS		3000	/* QEMU greets at once, if at all */
#define SILENT_MS		5000
#define POLL_MS			1000	/* without an answer to a request */
/* QEMU holds an event back for up to 1 s, then the property is read. */
#define EVENT_MS		1200
#define REPEAT_MS		5000	/* until a request is given up */
#define LATE_MS			5000	/* a report takes far less */

const char *guest_state_name(enum guest_state state)
{
	static const char * const names[] = {
		[GUEST_DISCONNECTED]	= "not connected",
		[GUEST_CONNECTING]	= "connecting",
		[GUEST_BUSY]		= "socket busy",
		[GUEST_SETUP]		= "starting",
		[GUEST_SILENT]		= "QEMU is silent",
		[GUEST_NO_DEVICE]	= "no balloon",
		[GUEST_PROPERTY_OFF]	= "switched off",
		[GUEST_OLD_QEMU]	= "QEMU too old",
		[GUEST_REFUSED]		= "settings refused",
		[GUEST_SHUT_DOWN]	= "shut down",
		[GUEST_PAUSED]		= "paused",
		[GUEST_REBOOTING]	= "rebooting",
		[GUEST_INACTIVE]	= "no driver yet",
		[GUEST_BAD_REPORT]	= "bad report",
		[GUEST_UNSUPPORTED]	= "bounds refused",
		[GUEST_TRY_LATER]	= "no data yet",
		[GUEST_WAITING]		= "waiting",
		[GUEST_LATE]		= "late",
		[GUEST_REPORTING]	= "reporting",
	};

	return names[state];
}

static void __attribute__((format(printf, 3, 4)))
set_state(struct guest *guest, enum guest_state state, const char *format, ...)
{
	va_list args;

	guest->state = state;
	va_start(args, format);
	vsnprintf(guest->why, sizeof(guest->why), format, args);
	va_end(args);
}

/* vm1 for /run/qemu/vm1.sock */
static void name_after_socket(struct guest *guest, const char *where)
{
	const char *slash = strrchr(where, '/');
	const char *base = slash && slash[1] ? slash + 1 : where;
	char *dot;

	text_escape(guest->name, sizeof(guest->name), base,
		    guest->options->utf8);
	dot = strrchr(guest->name, '.');
	if (dot && dot > guest->name &&
	    (!strcmp(dot, ".sock") || !strcmp(dot, ".socket") ||
	     !strcmp(dot, ".qmp")))
		*dot = '\0';
}

int guest_init(struct guest *guest, const struct guest_options *options,
	       const char *spec, const struct guest_handlers *handlers)
{
	const char *equals = strchr(spec, '=');
	const char *slash = strchr(spec, '/');
	const char *where = spec;
	char name[GUEST_NAME];

	memset(guest, 0, sizeof(*guest));
	guest->options = options;
	guest->handlers = handlers;
	guest->state = GUEST_CONNECTING;
	/* A '=' behind a '/' belongs to the path. */
	if (equals && equals > spec && (!slash || equals < slash)) {
		where = equals + 1;
		snprintf(name, sizeof(name), "%.*s", (int)(equals - spec),
			 spec);
		text_escape(guest->name, sizeof(guest->name), name,
			    options->utf8);
		guest->name_given = true;
	} else {
		name_after_socket(guest, where);
	}
	text_escape(guest->where, sizeof(guest->where), where, options->utf8);
	/* Two clients in a row should not begin with the same id. */
	if (getrandom(&guest->request_id, sizeof(guest->request_id),
		      GRND_NONBLOCK) < 0)
		guest->request_id = time(NULL);
	return qmp_init(&guest->qmp, where);
}

static uint32_t command(struct guest *guest, const char *name,
			struct json_object *arguments, int64_t now_ms)
{
	if (!guest->unanswered_ms)
		guest->unanswered_ms = now_ms;
	return qmp_command(&guest->qmp, name, arguments);
}

/* qom-list, qom-get (@property), qom-set (@property and @value) */
static uint32_t qom(struct guest *guest, const char *name, const char *path,
		    const char *property, struct json_object *value,
		    int64_t now_ms)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, "path", json_object_new_string(path));
	if (property)
		json_object_object_add(arguments, "property",
				       json_object_new_string(property));
	if (value)
		json_object_object_add(arguments, "value", value);
	return command(guest, name, arguments, now_ms);
}

static bool wants_config(const struct guest *guest)
{
	const struct guest_options *options = guest->options;

	if (options->listen_only)
		return false;
	return options->nr_bounds || options->set_refresh ||
	       options->set_report;
}

static void ready(struct guest *guest)
{
	if (guest->handlers->ready)
		guest->handlers->ready(guest);
}

/* Begin @step: send the command whose answer handle_step() waits for. */
static void begin(struct guest *guest, enum guest_step step, int64_t now_ms)
{
	const char *device = guest->device;

	guest->step = step;
	guest->step_retry_ms = 0;
	switch (step) {
	case STEP_NAME:
		guest->step_id = command(guest, "query-name", NULL, now_ms);
		break;
	case STEP_RUN_STATE:
		guest->run_state_told = false;
		guest->step_id = command(guest, "query-status", NULL, now_ms);
		break;
	case STEP_FIND:
		guest->backend_tried = false;
		if (guest->options->device) {
			snprintf(guest->device, sizeof(guest->device), "%s",
				 guest->options->device);
			begin(guest, STEP_STATE, now_ms);
			return;
		}
		guest->step_id = qom(guest, "qom-list", PERIPHERAL, NULL, NULL,
				     now_ms);
		break;
	case STEP_FIND_ANON:
		guest->step_id = qom(guest, "qom-list", PERIPHERAL_ANON, NULL,
				     NULL, now_ms);
		break;
	case STEP_STATE:
		guest->step_id = qom(guest, "qom-get", device, PROPERTY_STATE,
				     NULL, now_ms);
		break;
	case STEP_REQUEST_ID:
		guest->step_id = qom(guest, "qom-get", device,
				     PROPERTY_REQUEST, NULL, now_ms);
		break;
	case STEP_GET_CONFIG:
		if (!wants_config(guest)) {
			begin(guest, STEP_RUN, now_ms);
			return;
		}
		guest->step_id = qom(guest, "qom-get", device, PROPERTY_CONFIG,
				     NULL, now_ms);
		break;
	case STEP_SET_CONFIG:
		/* Sent by merge_config(). */
		break;
	case STEP_RUN:
		guest->step_id = 0;
		guest->set_id = 0;
		guest->poll_id = 0;
		guest->answered = true;
		guest->request_ms = 0;
		guest->poll_ms = now_ms;
		guest->hopeless = false;
		ready(guest);
		break;
	}
}

/* The setup failed; it may succeed later, when a device was plugged in. */
static void __attribute__((format(printf, 4, 5)))
setup_failed(struct guest *guest, int64_t now_ms, enum guest_state state,
	     const char *format, ...)
{
	va_list args;

	guest->state = state;
	va_start(args, format);
	vsnprintf(guest->why, sizeof(guest->why), format, args);
	va_end(args);
	guest->hopeless = true;
	guest->step = STEP_FIND;
	guest->step_id = 0;
	guest->step_retry_ms = now_ms + SETUP_RETRY_MS;
	ready(guest);
}

/* Find a child of type virtio-balloon-* in the answer to qom-list. */
static bool find_device(struct guest *guest, struct json_object *list,
			const char *parent)
{
	struct json_object *entry, *name, *type;
	size_t i;

	if (!json_object_is_type(list, json_type_array))
		return false;
	for (i = 0; i < json_object_array_length(list); i++) {
		entry = json_object_array_get_idx(list, i);
		if (!json_object_object_get_ex(entry, "name", &name) ||
		    !json_object_object_get_ex(entry, "type", &type) ||
		    !json_object_is_type(name, json_type_string) ||
		    !json_object_is_type(type, json_type_string) ||
		    strncmp(json_object_get_string(type),
			    "child<virtio-balloon", 20))
			continue;
		return (size_t)snprintf(guest->device, sizeof(guest->device),
					"%s/%s", parent,
					json_object_get_string(name)) <
		       sizeof(guest->device);
	}
	return false;
}

static void put_ms(struct json_object *object, const char *name, uint32_t ms)
{
	json_object_object_add(object, name, json_object_new_int64(ms));
}

/* Put our settings into the current configuration and send it back. */
static void merge_config(struct guest *guest, struct json_object *config,
			 int64_t now_ms)
{
	const struct guest_options *options = guest->options;
	struct json_object *bounds, *ms;
	unsigned int i;

	json_object_get(config);
	if (options->nr_bounds) {
		bounds = json_object_new_array();
		for (i = 0; i < options->nr_bounds; i++) {
			ms = json_object_new_int64(options->bounds_ms[i]);
			json_object_array_add(bounds, ms);
		}
		json_object_object_add(config, "idle-age-ms", bounds);
	}
	if (options->set_refresh)
		put_ms(config, "refresh-ms", options->refresh_ms);
	if (options->set_report)
		put_ms(config, "report-ms", options->report_ms);
	begin(guest, STEP_SET_CONFIG, now_ms);
	guest->step_id = qom(guest, "qom-set", guest->device, PROPERTY_CONFIG,
			     config, now_ms);
}

/* A report came, by event or by reading the property. */
static void take_report(struct guest *guest, const struct report *report,
			int64_t now_ms, int64_t since_update_ms)
{
	guest->bad_report = false;
	guest->active = true;
	if (report->request_id == guest->request_id)
		guest->answered = true;
	if (guest->seen && guest->seen_sequence == report->sequence &&
	    guest->seen_request_id == report->request_id)
		return;

	guest->seen = true;
	guest->seen_sequence = report->sequence;
	guest->seen_request_id = report->request_id;
	guest->rebooted = false;
	guest->status = report->status;
	if (report->status == REPORT_OK) {
		guest->has_report = true;
		report_copy(&guest->report, report);
		guest->received_ms = now_ms;
		guest->received_s = time(NULL) - since_update_ms / 1000;
		guest->data_ms = now_ms - since_update_ms -
				 report->guest.age_ms;
		guest->reports++;
	}
	guest->handlers->report(guest, report);
}

static void bad_report(struct guest *guest, const char *error)
{
	guest->bad_report = true;
	snprintf(guest->report_error, sizeof(guest->report_error), "%s",
		 error);
}

static void take_state(struct guest *guest, struct json_object *data,
		       bool stale, int64_t now_ms)
{
	struct report_state state;
	char error[REPORT_ERROR];
	int64_t since_ms;

	if (report_parse_state(data, &state, error)) {
		bad_report(guest, error);
		return;
	}
	guest->active = state.active;
	if (!state.has_report)
		return;
	if (stale) {
		/* From before we came: not an answer to us. */
		guest->seen = true;
		guest->seen_sequence = state.report.sequence;
		guest->seen_request_id = state.report.request_id;
		return;
	}
	since_ms = ((int64_t)time(NULL) - (int64_t)state.last_update_s) * 1000;
	take_report(guest, &state.report, now_ms, since_ms > 0 ? since_ms : 0);
	/* Unlike an event, what is read here may be old: no sign of life. */
	guest->active = state.active;
}

static void step_failed(struct guest *guest, const char *error, int64_t now_ms)
{
	char reason[QMP_ERROR];
	size_t len;

	text_escape(reason, sizeof(reason), error, guest->options->utf8);
	switch (guest->step) {
	case STEP_STATE:
	case STEP_REQUEST_ID:
	case STEP_GET_CONFIG:
		if (strstr(error, "working-set-reporting")) {
			setup_failed(guest, now_ms, GUEST_PROPERTY_OFF,
				     "The balloon device does not offer working set reporting: start QEMU with -device virtio-balloon-pci,working-set-reporting=on");
			return;
		}
		if (!guest->backend_tried && !strstr(error, PROPERTY_STATE)) {
			setup_failed(guest, now_ms, GUEST_NO_DEVICE,
				     "QEMU has no usable device at %s: %s",
				     guest->device, reason);
			return;
		}
		/* Proxies without the alias keep the device one level below. */
		len = strlen(guest->device);
		if (!guest->backend_tried && len + 16 < GUEST_PATH) {
			guest->backend_tried = true;
			strcpy(guest->device + len, "/virtio-backend");
			begin(guest, STEP_STATE, now_ms);
			return;
		}
		setup_failed(guest, now_ms, GUEST_OLD_QEMU,
			     "This QEMU has no working set reporting: use a QEMU with the property working-set-reporting of the balloon device (it says: %s)",
			     reason);
		return;
	case STEP_SET_CONFIG:
		setup_failed(guest, now_ms, GUEST_REFUSED,
			     "QEMU refused --bounds, --refresh or --report: %s",
			     reason);
		return;
	default:
		/* query-name, query-status and qom-list are not essential. */
		return;
	}
}

static void handle_step(struct guest *guest, struct qmp_message *message,
			int64_t now_ms)
{
	struct json_object *data = message->data, *field;

	guest->step_id = 0;
	if (message->error) {
		step_failed(guest, message->error, now_ms);
		if (guest->step > STEP_FIND_ANON || guest->step_retry_ms)
			return;
	}
	switch (guest->step) {
	case STEP_NAME:
		if (!guest->name_given &&
		    json_object_object_get_ex(data, "name", &field) &&
		    json_object_is_type(field, json_type_string))
			text_escape(guest->name, sizeof(guest->name),
				    json_object_get_string(field),
				    guest->options->utf8);
		begin(guest, STEP_RUN_STATE, now_ms);
		break;
	case STEP_RUN_STATE:
		/* A proxy's events may overtake its answers. */
		if (!guest->run_state_told &&
		    json_object_object_get_ex(data, "running", &field))
			guest->paused = !json_object_get_boolean(field);
		begin(guest, STEP_FIND, now_ms);
		break;
	case STEP_FIND:
		if (find_device(guest, data, PERIPHERAL))
			begin(guest, STEP_STATE, now_ms);
		else
			begin(guest, STEP_FIND_ANON, now_ms);
		break;
	case STEP_FIND_ANON:
		if (find_device(guest, data, PERIPHERAL_ANON))
			begin(guest, STEP_STATE, now_ms);
		else
			setup_failed(guest, now_ms, GUEST_NO_DEVICE,
				     "The guest has no balloon device: start QEMU with -device virtio-balloon-pci,working-set-reporting=on (a device elsewhere: --device QOM-PATH)");
		break;
	case STEP_STATE:
		take_state(guest, data, !guest->options->listen_only, now_ms);
		begin(guest, STEP_REQUEST_ID, now_ms);
		break;
	case STEP_REQUEST_ID:
		guest->was_on = json_object_get_int64(data) != 0 &&
			(!guest->asked ||
			 json_object_get_int64(data) != guest->request_id);
		begin(guest, STEP_GET_CONFIG, now_ms);
		break;
	case STEP_GET_CONFIG:
		if (json_object_is_type(data, json_type_object))
			merge_config(guest, data, now_ms);
		else
			begin(guest, STEP_RUN, now_ms);
		break;
	case STEP_SET_CONFIG:
		begin(guest, STEP_RUN, now_ms);
		break;
	case STEP_RUN:
		break;
	}
}

static void handle_event(struct guest *guest, struct qmp_message *message,
			 int64_t now_ms)
{
	const char *event = message->event;
	char error[REPORT_ERROR];
	struct report report;

	if (!strcmp(event, "BALLOON_WORKING_SET")) {
		if (report_parse(message->data, &report, error))
			bad_report(guest, error);
		else
			take_report(guest, &report, now_ms, 0);
		return;
	}
	if (!strcmp(event, "RESET")) {
		guest->rebooted = true;
		guest->shut_down = false;
		guest->active = false;
		/* Look at once, and then every POLL_MS, for the driver. */
		guest->answered = false;
		guest->asked_ms = now_ms;
		guest->request_ms = now_ms;
	} else if (!strcmp(event, "SHUTDOWN")) {
		guest->shut_down = true;
	} else if (!strcmp(event, "STOP")) {
		guest->paused = true;
		guest->run_state_told = true;
	} else if (!strcmp(event, "RESUME")) {
		guest->run_state_told = true;
		guest->paused = false;
		guest->shut_down = false;
		guest->asked_ms = now_ms;
	}
	if (guest->handlers->event)
		guest->handlers->event(guest, event, message->data);
}

/*
 * The device took commands before and refuses one now: it may have been
 * unplugged, or another client has used the id of our request. Start anew.
 */
static void device_failed(struct guest *guest, const char *error,
			  int64_t now_ms)
{
	char reason[QMP_ERROR];

	text_escape(reason, sizeof(reason), error, guest->options->utf8);
	set_state(guest, GUEST_REFUSED, "QEMU refused the request: %s",
		  reason);
	guest->step = STEP_FIND;
	guest->step_id = 0;
	guest->step_retry_ms = now_ms + POLL_MS;
}

static void handle_answer(struct guest *guest, struct qmp_message *message,
			  int64_t now_ms)
{
	guest->unanswered_ms = 0;
	if (!message->id)
		return;
	if (message->id == guest->step_id) {
		handle_step(guest, message, now_ms);
	} else if (message->id == guest->stop_id) {
		guest->stop_id = 0;
	} else if (message->id == guest->set_id) {
		guest->set_id = 0;
		if (message->error)
			device_failed(guest, message->error, now_ms);
	} else if (message->id == guest->poll_id) {
		guest->poll_id = 0;
		if (message->error)
			device_failed(guest, message->error, now_ms);
		else
			take_state(guest, message->data, false, now_ms);
	} else if (guest->handlers->answer) {
		guest->handlers->answer(guest, message->id, message->data,
					message->error);
	}
}

static void connection_lost(struct guest *guest, int64_t now_ms)
{
	if (guest->qmp.failure == QMP_FAIL_LOST && !guest->lost_ms)
		guest->lost_ms = now_ms;
	guest->hopeless = guest->qmp.failure == QMP_FAIL_PROTOCOL ||
		(guest->qmp.failure == QMP_FAIL_CONNECT && !guest->lost_ms);
	if (!guest->backoff_ms)
		guest->backoff_ms = BACKOFF_FIRST_MS;
	guest->retry_ms = now_ms + guest->backoff_ms;
	guest->backoff_ms *= 2;
	if (guest->backoff_ms > BACKOFF_MOST_MS)
		guest->backoff_ms = BACKOFF_MOST_MS;
	guest->step_id = 0;
	guest->stop_id = 0;
	guest->unanswered_ms = 0;
}

static void connection_ready(struct guest *guest, int64_t now_ms)
{
	guest->lost_ms = 0;
	guest->backoff_ms = 0;
	guest->hopeless = false;
	guest->shut_down = false;
	guest->rebooted = false;
	guest->active = false;
	guest->seen = false;
	guest->bad_report = false;
	guest->status = REPORT_OK;
	begin(guest, STEP_NAME, now_ms);
}

/* Why there is no connection that QEMU listens to. */
static void update_connection_state(struct guest *guest, int64_t now_ms)
{
	const struct qmp *qmp = &guest->qmp;
	int64_t patience_ms = guest->options->timeout_ms / 2;
	char ago[TEXT_SHORT], again[TEXT_SHORT];

	if (patience_ms > GREETING_MS)
		patience_ms = GREETING_MS;
	if (qmp->state == QMP_CLOSED && qmp->failure == QMP_FAIL_NONE) {
		set_state(guest, GUEST_CONNECTING, "%s", "");
		return;
	}
	if (qmp->failure == QMP_FAIL_BUSY ||
	    (qmp->state >= QMP_GREETING && qmp->state < QMP_READY &&
	     now_ms - guest->tried_ms >= patience_ms)) {
		set_state(guest, GUEST_BUSY,
			  "QEMU does not greet: another client probably uses this socket (libvirt, another wsrtop?). QEMU serves one client per socket: give it another one with a second -qmp option, or end the other client");
		return;
	}
	if (qmp->state == QMP_CONNECTING &&
	    now_ms - guest->tried_ms >= patience_ms) {
		set_state(guest, GUEST_CONNECTING,
			  "no answer from this host and port");
		return;
	}
	if (qmp->state != QMP_CLOSED) {
		if (!guest->lost_ms)
			set_state(guest, GUEST_CONNECTING, "%s", "");
		return;
	}
	if (guest->lost_ms)
		set_state(guest, guest->shut_down ? GUEST_SHUT_DOWN :
			  GUEST_DISCONNECTED,
			  "connection lost %s ago, trying again in %s: %s",
			  text_ago(ago, now_ms - guest->lost_ms),
			  text_ago(again, guest->retry_ms > now_ms ?
				   guest->retry_ms - now_ms : 0), qmp->error);
	else
		set_state(guest, GUEST_DISCONNECTED, "%s", qmp->error);
}

static void update_state(struct guest *guest, int64_t now_ms)
{
	char ago[TEXT_SHORT];

	if (guest->qmp.state != QMP_READY) {
		update_connection_state(guest, now_ms);
		return;
	}
	if (guest->unanswered_ms &&
	    now_ms - guest->unanswered_ms > SILENT_MS) {
		set_state(guest, GUEST_SILENT,
			  "QEMU has not answered for %s: it is stopped or hangs",
			  text_ago(ago, now_ms - guest->unanswered_ms));
		return;
	}
	if (guest->step != STEP_RUN) {
		if (!guest->step_retry_ms)
			set_state(guest, GUEST_SETUP, "%s", "");
		return;
	}
	if (guest->shut_down)
		set_state(guest, GUEST_SHUT_DOWN, "the guest has shut down");
	else if (guest->paused)
		set_state(guest, GUEST_PAUSED,
			  "the guest is paused: it reports again after QMP cont (virsh resume)");
	else if (guest->rebooted)
		set_state(guest, GUEST_REBOOTING,
			  "the guest was reset: its kernel has no working set reporting (CONFIG_VIRTIO_BALLOON_WSR) or has not booted yet");
	else if (guest->bad_report)
		set_state(guest, GUEST_BAD_REPORT,
			  "the report makes no sense: %s (QEMU and wsrtop of different versions?)",
			  guest->report_error);
	else if (!guest->active)
		set_state(guest, GUEST_INACTIVE,
			  "the guest kernel has no working set reporting (CONFIG_VIRTIO_BALLOON_WSR) or has not booted yet");
	else if (guest->status == REPORT_UNSUPPORTED)
		set_state(guest, GUEST_UNSUPPORTED,
			  "the guest does not accept the bounds or times: try others with --bounds, --refresh, --report");
	else if (guest->status == REPORT_TRY_LATER)
		set_state(guest, GUEST_TRY_LATER,
			  "the guest has no data yet, it is asked again");
	else if (!guest->has_report && guest->options->listen_only)
		set_state(guest, GUEST_WAITING,
			  "no report yet; --no-set only listens: is anybody else asking for reports?");
	else if (!guest->has_report)
		set_state(guest, GUEST_WAITING,
			  "a report was requested and has not come yet");
	else if (!guest->answered && now_ms - guest->asked_ms > LATE_MS)
		set_state(guest, GUEST_LATE,
			  "the last report came %s ago: the guest is very busy or hangs",
			  text_ago(ago, now_ms - guest->received_ms));
	else
		set_state(guest, GUEST_REPORTING, "%s", "");
	/* The guest itself refused: it will refuse again. */
	guest->hopeless = guest->state == GUEST_UNSUPPORTED;
}

static void request(struct guest *guest, int64_t now_ms)
{
	if (!++guest->request_id)
		++guest->request_id;
	guest->asked = true;
	if (guest->answered)
		guest->asked_ms = now_ms;
	guest->answered = false;
	guest->request_ms = now_ms;
	guest->poll_ms = now_ms;
	guest->set_id = qom(guest, "qom-set", guest->device, PROPERTY_REQUEST,
			    json_object_new_int64(guest->request_id), now_ms);
}

static void poll_state(struct guest *guest, int64_t now_ms)
{
	guest->poll_ms = now_ms;
	guest->poll_id = qom(guest, "qom-get", guest->device, PROPERTY_STATE,
			     NULL, now_ms);
}

/* Ask when it is time; read the property when no event brings the answer. */
static void run(struct guest *guest, int64_t now_ms)
{
	const struct guest_options *options = guest->options;
	int64_t interval_ms = options->interval_ms;
	int64_t waited_ms = now_ms - guest->request_ms;
	int64_t event_ms = EVENT_MS;
	int64_t repeat_ms = REPEAT_MS;

	if (guest->set_id || guest->poll_id)
		return;
	if (options->listen_only) {
		if (now_ms - guest->poll_ms >= interval_ms)
			poll_state(guest, now_ms);
		return;
	}
	if (interval_ms < event_ms)
		event_ms = interval_ms;
	if (3 * interval_ms > repeat_ms)
		repeat_ms = 3 * interval_ms;
	if (!guest->request_ms ||
	    waited_ms >= (guest->answered ? interval_ms : repeat_ms)) {
		request(guest, now_ms);
	} else if (!guest->answered && waited_ms >= event_ms &&
		   (now_ms - guest->poll_ms >= POLL_MS ||
		    guest->poll_ms <= guest->request_ms)) {
		poll_state(guest, now_ms);
	}
}

uint32_t guest_command(struct guest *guest, const char *name,
		       struct json_object *arguments, int64_t now_ms)
{
	return command(guest, name, arguments, now_ms);
}

uint32_t guest_qom_get(struct guest *guest, const char *property,
		       int64_t now_ms)
{
	return qom(guest, "qom-get", guest->device, property, NULL, now_ms);
}

uint32_t guest_qom_set(struct guest *guest, const char *property,
		       struct json_object *value, int64_t now_ms)
{
	return qom(guest, "qom-set", guest->device, property, value, now_ms);
}

void guest_reconfigure(struct guest *guest, int64_t now_ms)
{
	/* Otherwise they are sent when it is ready. */
	if (guest->qmp.state == QMP_READY && guest->step == STEP_RUN)
		begin(guest, STEP_GET_CONFIG, now_ms);
}

void guest_tick(struct guest *guest, int64_t now_ms)
{
	struct qmp *qmp = &guest->qmp;

	if (qmp->state == QMP_CLOSED && now_ms >= guest->retry_ms) {
		guest->tried_ms = now_ms;
		qmp_connect(qmp);
		if (qmp->state == QMP_CLOSED)
			connection_lost(guest, now_ms);
	} else if (qmp->state == QMP_READY) {
		if (guest->step_retry_ms && now_ms >= guest->step_retry_ms)
			begin(guest, STEP_FIND, now_ms);
		else if (guest->step == STEP_RUN && !guest->stop_id)
			run(guest, now_ms);
	}
	update_state(guest, now_ms);
}

void guest_io(struct guest *guest, short revents, int64_t now_ms)
{
	struct qmp *qmp = &guest->qmp;
	enum qmp_state before = qmp->state;
	struct qmp_message message;

	if (before == QMP_CLOSED)
		return;
	qmp_io(qmp, revents);
	while (qmp_next(qmp, &message)) {
		if (before != QMP_READY) {
			before = QMP_READY;
			connection_ready(guest, now_ms);
		}
		if (message.is_event)
			handle_event(guest, &message, now_ms);
		else
			handle_answer(guest, &message, now_ms);
		qmp_message_put(&message);
	}
	if (qmp->state == QMP_READY && before != QMP_READY)
		connection_ready(guest, now_ms);
	if (qmp->state == QMP_CLOSED)
		connection_lost(guest, now_ms);
	update_state(guest, now_ms);
}

void guest_stop(struct guest *guest)
{
	enum guest_exit on_exit = guest->options->on_exit;
	bool stop = on_exit == GUEST_EXIT_STOP ||
		(on_exit == GUEST_EXIT_AS_FOUND && !guest->was_on);

	if (!guest->asked || !stop)
		return;
	guest->stop_id = qom(guest, "qom-set", guest->device, PROPERTY_REQUEST,
			     json_object_new_int64(0), 0);
}

bool guest_stopping(const struct guest *guest)
{
	return guest->stop_id && guest->qmp.state == QMP_READY;
}

void guest_close(struct guest *guest)
{
	qmp_destroy(&guest->qmp);
}
