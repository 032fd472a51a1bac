/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One guest: finds the balloon device behind a QMP socket, sets what
 * the user wants, asks for reports, collects them, and knows in words what is
 * wrong when none come. Never blocks.
 */
#ifndef WSR_GUEST_H
#define WSR_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "qmp.h"
#include "report.h"

#define GUEST_MAX_BOUNDS	(REPORT_MAX_BINS - 1)

enum guest_exit {
	GUEST_EXIT_AS_FOUND,	/* stop reports unless they were on before */
	GUEST_EXIT_STOP,
	GUEST_EXIT_LEAVE,
};

/**
 * struct guest_options - what the user wants of every guest
 * @nr_bounds:	entries in @bounds_ms, 0: leave them alone
 * @set_refresh: change refresh-ms to @refresh_ms
 * @set_report:	change report-ms to @report_ms
 * @interval_ms: from one request to the next
 * @timeout_ms:	patience with a guest that is expected to report
 * @device:	QOM path of the balloon device, NULL: find it
 * @listen_only: set nothing, request nothing
 * @on_exit:	what guest_stop() does
 * @utf8:	names may keep UTF-8 characters
 */
struct guest_options {
	uint32_t bounds_ms[GUEST_MAX_BOUNDS];
	unsigned int nr_bounds;
	bool set_refresh;
	uint32_t refresh_ms;
	bool set_report;
	uint32_t report_ms;
	uint32_t interval_ms;
	uint32_t timeout_ms;
	const char *device;
	bool listen_only;
	enum guest_exit on_exit;
	bool utf8;
};

enum guest_state {
	GUEST_DISCONNECTED,
	GUEST_CONNECTING,
	GUEST_BUSY,		/* connected, but QEMU serves another client */
	GUEST_SETUP,
	GUEST_SILENT,		/* QEMU does not answer commands */
	GUEST_NO_DEVICE,
	GUEST_PROPERTY_OFF,
	GUEST_OLD_QEMU,
	GUEST_REFUSED,		/* QEMU refused our settings */
	GUEST_SHUT_DOWN,
	GUEST_PAUSED,
	GUEST_REBOOTING,
	GUEST_INACTIVE,		/* no driver with the feature in the guest */
	GUEST_BAD_REPORT,
	GUEST_UNSUPPORTED,	/* the guest refuses the bounds */
	GUEST_TRY_LATER,
	GUEST_WAITING,		/* for the first report */
	GUEST_LATE,
	GUEST_REPORTING,
};

/* What is being done to get the guest to report, in this order. */
enum guest_step {
	STEP_NAME,
	STEP_RUN_STATE,
	STEP_FIND,		/* in /machine/peripheral */
	STEP_FIND_ANON,		/* in /machine/peripheral-anon */
	STEP_STATE,
	STEP_REQUEST_ID,
	STEP_GET_CONFIG,
	STEP_SET_CONFIG,
	STEP_RUN,
};

#define GUEST_NAME	64
#define GUEST_WHERE	256
#define GUEST_PATH	256
#define GUEST_WHY	768

struct guest;

/**
 * struct guest_handlers - what the owner of a guest wants to hear of
 * @report:	each new report, whatever its status
 * @ready:	STEP_RUN or a failed setup: commands make sense now; may be NULL
 * @event:	each event but reports, @data may be NULL; may be NULL
 * @answer:	to guest_command(): @data, or @error; may be NULL
 */
struct guest_handlers {
	void (*report)(struct guest *guest, const struct report *report);
	void (*ready)(struct guest *guest);
	void (*event)(struct guest *guest, const char *event,
		      struct json_object *data);
	void (*answer)(struct guest *guest, uint32_t id,
		       struct json_object *data, const char *error);
};

/*
 * All times are monotonic milliseconds. What is not explained here belongs to
 * guest.c.
 */
struct guest {
	const struct guest_options *options;
	const struct guest_handlers *handlers;
	void *owner;			/* for the handlers */
	struct qmp qmp;
	char name[GUEST_NAME];		/* printable */
	bool name_given;
	char where[GUEST_WHERE];	/* printable */

	enum guest_state state;
	char why[GUEST_WHY];		/* the state explained, or empty */
	bool hopeless;			/* waiting alone will not help */

	/* Connection */
	int64_t tried_ms;		/* connecting began */
	int64_t lost_ms;		/* 0: was never connected */
	int64_t retry_ms;		/* when to try again */
	unsigned int backoff_ms;

	/* Conversation */
	enum guest_step step;
	uint32_t step_id;		/* command under way, 0: none */
	int64_t step_retry_ms;		/* after a failed setup */
	uint32_t set_id;		/* qom-set of the request id */
	uint32_t poll_id;		/* qom-get of the report */
	uint32_t stop_id;
	int64_t unanswered_ms;		/* oldest command without an answer */
	char device[GUEST_PATH];
	bool backend_tried;

	/* Requests */
	uint32_t request_id;		/* last asked for */
	bool asked;			/* since the connection was made */
	bool was_on;			/* reports were on before we came */
	bool answered;
	int64_t asked_ms;		/* first request without an answer */
	int64_t request_ms;		/* newest request */
	int64_t poll_ms;

	/* The guest */
	bool active;
	bool paused;
	bool run_state_told;		/* by an event, before the answer was */
	bool shut_down;
	bool rebooted;
	enum report_status status;	/* of the newest report */
	bool bad_report;
	char report_error[REPORT_ERROR];

	/* The last good report */
	bool has_report;
	struct report report;
	int64_t data_ms;		/* when its data were gathered */
	int64_t received_ms;
	int64_t received_s;		/* since the epoch */
	uint64_t reports;		/* good ones so far */

	/* The newest report of any status, to know it again */
	bool seen;
	uint64_t seen_sequence;
	uint32_t seen_request_id;
};

/**
 * guest_init - prepare a guest
 * @spec:	SOCKET or NAME=SOCKET
 *
 * Return: 0, or -1 with the reason in @guest->qmp.error.
 */
int guest_init(struct guest *guest, const struct guest_options *options,
	       const char *spec, const struct guest_handlers *handlers);

/** guest_tick - do what is due; call it every 100 ms or so */
void guest_tick(struct guest *guest, int64_t now_ms);

/** guest_io - poll() reported @revents for @guest->qmp.fd */
void guest_io(struct guest *guest, short revents, int64_t now_ms);

/**
 * guest_command - send a command of the owner's
 * @arguments:	or NULL; the reference is taken over
 *
 * Return: the id that handlers->answer gets, 0 if there is no connection.
 */
uint32_t guest_command(struct guest *guest, const char *name,
		       struct json_object *arguments, int64_t now_ms);

/** guest_qom_get - ask for a property of the balloon device */
uint32_t guest_qom_get(struct guest *guest, const char *property,
		       int64_t now_ms);

/** guest_qom_set - change one */
uint32_t guest_qom_set(struct guest *guest, const char *property,
		       struct json_object *value, int64_t now_ms);

/** guest_reconfigure - @options have changed: send them */
void guest_reconfigure(struct guest *guest, int64_t now_ms);

/**
 * guest_stop - leave the guest as @options->on_exit says
 *
 * Go on calling guest_io() while guest_stopping().
 */
void guest_stop(struct guest *guest);
bool guest_stopping(const struct guest *guest);
void guest_close(struct guest *guest);

const char *guest_state_name(enum guest_state state);

#endif
