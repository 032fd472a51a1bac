/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A socket for each domain that runs, and its client. All in the main thread,
 * which never waits for libvirt.
 */
#ifndef WSR_LIBVIRT_RELAY_H
#define WSR_LIBVIRT_RELAY_H

#include <sys/types.h>

#include <systemd/sd-event.h>

#include "mailbox.h"

struct relay;

/**
 * struct relay_options - what the operator wants
 * @uri:	of libvirt
 * @directory:	of the sockets; made if it is not there
 * @owner:	who may connect, beside root
 */
struct relay_options {
	const char *uri;
	const char *directory;
	uid_t owner;
};

#define RELAY_ERROR	512

/**
 * relay_start - take the directory, and handle the notes of @mailbox
 *
 * Sockets that were left over are removed. @options and @mailbox have to stay
 * there.
 *
 * Return: NULL with the reason in @error, of RELAY_ERROR bytes.
 */
struct relay *relay_start(sd_event *event, const struct relay_options *options,
			  struct mailbox *mailbox, char *error);

/** relay_stop - remove all sockets; threads may still wait for libvirt */
void relay_stop(struct relay *relay);

#endif
