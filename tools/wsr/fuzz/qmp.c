// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: what comes over a QMP socket, whoever is at the other end.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_report(struct guest *guest, const struct report *report)
{
	(void)guest;
	if (report->nr_nodes > REPORT_MAX_NODES)
		abort();
}

static void on_event(struct guest *guest, const char *event,
		     struct json_object *data)
{
	(void)guest;
	(void)data;
	if (!strlen(event))
		return;
}

static void on_answer(struct guest *guest, uint32_t id,
		      struct json_object *data, const char *error)
{
	(void)guest;
	(void)data;
	if (!id || (error && !strlen(error) && id == UINT32_MAX))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct guest_handlers handlers = {
		.report = on_report, .event = on_event, .answer = on_answer,
	};
	static const struct guest_options options = {
		.interval_ms = 1000, .timeout_ms = 1000, .nr_bounds = 1,
		.bounds_ms = { 5 },
	};
	struct guest *guest = calloc(1, sizeof(*guest));
	int64_t now_ms = 1000;
	int sockets[2];

	if (guest_init(guest, &options, "vm=/nowhere", &handlers) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets))
		abort();
	guest->qmp.fd = sockets[0];
	guest->qmp.state = QMP_GREETING;
	guest->tried_ms = now_ms;
	while (size && guest->qmp.fd >= 0) {
		/* In pieces, since nothing says where one read ends. */
		size_t part = size < 100 ? size : 1 + data[0] % 200;

		if (part > size)
			part = size;
		if (write(sockets[1], data, part) != (ssize_t)part)
			break;
		data += part;
		size -= part;
		guest_io(guest, POLLIN | POLLOUT, now_ms);
		if (guest->qmp.fd >= 0)
			guest_tick(guest, now_ms);
		now_ms += 300;
	}
	close(sockets[1]);
	if (guest->qmp.fd >= 0)
		guest_io(guest, POLLIN | POLLHUP, now_ms);
	guest_close(guest);
	free(guest);
	return 0;
}
