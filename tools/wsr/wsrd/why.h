/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Why a VM has what it has, in words for people. No I/O.
 */
#ifndef WSRD_WHY_H
#define WSRD_WHY_H

#include "../lib/policy.h"

/**
 * why_reason_name - as wsr_reason_name(), but "used-fits" for a VM from which
 * the common age takes nothing that it uses
 */
const char *why_reason_name(const struct wsr_why *why);

/** why_reason_text - why its target is what it is */
const char *why_reason_text(const struct wsr_why *why);

/** why_hold_text - why it does not get there; empty if nothing holds it */
const char *why_hold_text(enum wsr_hold hold);

#endif
