/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Why a VM has what it has, in sentences for people. No I/O.
 */
#ifndef WSRD_WHY_H
#define WSRD_WHY_H

#include "../lib/policy.h"

/** why_reason_text - why its target is what it is */
const char *why_reason_text(enum wsr_reason reason);

/** why_hold_text - why it does not get there; empty if nothing holds it */
const char *why_hold_text(enum wsr_hold hold);

#endif
