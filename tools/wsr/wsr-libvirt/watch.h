/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which domains run, and their events: a thread with a connection to libvirt,
 * which is made again whenever it is lost.
 */
#ifndef WSR_LIBVIRT_WATCH_H
#define WSR_LIBVIRT_WATCH_H

#include <libvirt/libvirt.h>

#include "mailbox.h"

/**
 * watch_start - begin, for as long as the process lives
 * @uri:	of libvirt
 * @mailbox:	gets NOTE_DOMAINS, NOTE_DOWN and NOTE_EVENT
 *
 * Both have to stay there. Call it once, before any other thread uses libvirt.
 *
 * Return: 0, or -1.
 */
int watch_start(const char *uri, struct mailbox *mailbox);

/**
 * watch_connect - a new connection that notices when the other side hangs
 *
 * Return: NULL with libvirt's last error; it waits for libvirt.
 */
virConnectPtr watch_connect(const char *uri);

#endif
