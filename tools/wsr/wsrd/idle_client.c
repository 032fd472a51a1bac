// SPDX-License-Identifier: GPL-2.0
/*
 * wsrd's end of the conversation with the child that samples idle pages.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "idle.h"
#include "idle_client.h"
#include "log.h"

#define BATCH	16	/* texts at a time: others also wait */

static void end(struct idle_client *client)
{
	client->io = sd_event_source_disable_unref(client->io);
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

static void take_text(struct idle_client *client, const char *text)
{
	int pid, error;

	if (sscanf(text, "pid %d\nerror %d\n", &pid, &error) == 2) {
		log_message(LOG_INFO, "process %d: no idle pages: %s", pid,
			    error == ENOENT ? "no memory of the VM's size was found" :
			    strerror(error));
		client->handler(client->owner, pid, NULL);
	} else if (sscanf(text, "pid %d\n", &pid) == 1) {
		client->handler(client->owner, pid, text);
	}
}

static int on_text(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct idle_client *client = arg;
	char text[IDLE_TEXT];

	(void)source;
	(void)revents;
	for (int i = 0; i < BATCH; i++) {
		ssize_t len = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

		if (len > 0) {
			text[len] = '\0';
			take_text(client, text);
			continue;
		}
		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		log_message(LOG_WARNING, "the process that samples idle pages has ended: there are no ages of it until wsrd reads its configuration again");
		end(client);
		return 0;
	}
	return 0;
}

static const char *why_not(int error)
{
	switch (error) {
	case ENOENT:
		return "the kernel has no idle page tracking (CONFIG_IDLE_PAGE_TRACKING, CONFIG_PROC_PAGE_MONITOR)";
	case EPERM:
	case EACCES:
		return "CAP_SYS_ADMIN and CAP_SYS_PTRACE are needed: see [host] idle-pages in wsrd.conf(5)";
	case EROFS:
		return "/sys/kernel/mm/page_idle can't be written to: see [host] idle-pages in wsrd.conf(5)";
	case EINVAL:
		return "it was turned on while wsrd ran: start wsrd again";
	default:
		return strerror(error);
	}
}

static void got_socket(void *arg, int error, int fd)
{
	struct idle_client *client = arg;

	if (!error && sd_event_add_io(client->event, &client->io, fd, EPOLLIN,
				      on_text, client) < 0)
		error = ENOMEM;
	if (!error) {
		client->fd = fd;
		return;
	}
	if (fd >= 0)
		close(fd);
	log_message(LOG_WARNING, "no ages by idle pages: %s", why_not(error));
}

void idle_client_start(struct idle_client *client, sd_event *event,
		       struct privileged *privileged, idle_text handler,
		       void *owner)
{
	*client = (struct idle_client) {
		.privileged = privileged,
		.event = event,
		.fd = -1,
		.handler = handler,
		.owner = owner,
	};
	privileged_send(privileged, PRIVILEGED_IDLE, "", NULL, 0, got_socket,
			client);
}

void idle_client_stop(struct idle_client *client)
{
	if (!client->privileged)
		return;
	privileged_forget(client->privileged, client);
	end(client);
	client->privileged = NULL;
}

int idle_client_watch(struct idle_client *client, pid_t pid,
		      uint64_t size_bytes, uint32_t interval_ms)
{
	struct idle_request request = {
		.pid = pid, .size_bytes = size_bytes,
		.interval_ms = interval_ms,
	};

	if (client->fd < 0)
		return -1;
	return send(client->fd, &request, sizeof(request),
		    MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(request) ? 0 : -1;
}
