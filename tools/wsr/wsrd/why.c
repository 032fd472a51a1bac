// SPDX-License-Identifier: GPL-2.0
/*
 * Why a VM has what it has, in sentences for people. No I/O.
 */
#include "why.h"

/* Without "default", the compiler tells which one has no words. */
const char *why_reason_text(enum wsr_reason reason)
{
	switch (reason) {
	case WSR_NO_REASON:
		return "Nothing was decided yet.";
	case WSR_HANDS_OFF:
		return "The configuration says hands-off: it is only watched.";
	case WSR_NO_DATA:
		return "It sent no report yet, so it keeps what it has.";
	case WSR_STALE:
		return "Its last report is too old to take memory away.";
	case WSR_MIGRATING:
		return "It is being migrated: it is left alone.";
	case WSR_STUCK:
		return "Its balloon did not follow: it is left alone for a while, and tried again.";
	case WSR_PRESSURE:
		return "It was short of memory and got some at once.";
	case WSR_ENOUGH:
		return "There is enough for all: it may have all of its memory.";
	case WSR_EQUAL_AGE:
		return "Not all VMs can have all of their memory: each keeps what is younger than a common age, times its shares.";
	case WSR_USED_FITS:
		return "Not all VMs can have all of their memory: it keeps all that it uses, and gets its part of what is free.";
	case WSR_AT_MIN:
		return "It is at its floor: its min, or memory too young to take.";
	case WSR_AT_MAX:
		return "It has its max.";
	case WSR_AT_SLO:
		return "With less it would read back more than its SLO allows.";
	case WSR_DEFICIT:
		return "Not even the SLOs of all VMs fit: it has less than its SLO asks for.";
	case WSR_NR_REASONS:
		break;
	}
	return "";
}

const char *why_hold_text(enum wsr_hold hold)
{
	switch (hold) {
	case WSR_SETTLED:
		return "It has about what it should have.";
	case WSR_HOLD_STALLS:
		return "It waits for memory already: not smaller for now.";
	case WSR_HOLD_GRACE:
		return "It is known for a short time only: not smaller for now.";
	case WSR_HOLD_GREW:
		return "It grew a moment ago: not smaller for now.";
	case WSR_HOLD_SHRANK:
		return "It shrank a moment ago: not larger for now.";
	case WSR_HOLD_RATE:
		return "It shrinks as fast as it may.";
	case WSR_HOLD_NO_FREE:
		return "It grows when others have given memory.";
	case WSR_HOLD_SWAPPED:
		return "Its oldest memory is in the swap space of the host: it would have to read that to give it.";
	/* The reason says all. */
	case WSR_HOLD_STUCK:
	case WSR_FREE_TO_MOVE:
	case WSR_NR_HOLDS:
		break;
	}
	return "";
}
