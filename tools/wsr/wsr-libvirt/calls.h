/* SPDX-License-Identifier: GPL-2.0 */
/*
 * When a call may go to libvirtd. It has a worker for each call that waits for
 * a QEMU, some 20 of them, for everybody: those who hang must not use them up.
 */
#ifndef WSR_LIBVIRT_CALLS_H
#define WSR_LIBVIRT_CALLS_H

#include <stdint.h>

/**
 * calls_begin - wait until a call may be made
 *
 * One call is made after the other, in the order of asking; one that is not
 * answered soon lets the next one go. So who hangs delays the others once. When
 * too many hang, all wait.
 *
 * Return: for calls_end().
 */
uint64_t calls_begin(void);

/** calls_end - the call was answered */
void calls_end(uint64_t call);

#endif
