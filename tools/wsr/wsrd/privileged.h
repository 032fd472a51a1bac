/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small process with the rights of wsrd's start, for what needs them: writes
 * to files of control groups. wsrd forks it before it gives its own rights up.
 *
 *	wsrd ──request──► privileged process ──fork──► child: one write
 *	  ▲                                                │
 *	  └─────────────────────answer─────────────────────┘
 *
 * A write can block for long (memory.reclaim, memory.high): each is done by a
 * child of its own, so that nobody waits for somebody else's. A write to a file
 * ends the one to the same file that has not finished; one to memory.high also
 * ends a memory.reclaim of the same group: the later decision is the better one.
 *
 * What it can be asked for is enum privileged_op, below one directory; it ends
 * when wsrd does.
 */
#ifndef WSRD_PRIVILEGED_H
#define WSRD_PRIVILEGED_H

#include <stdint.h>

#include <systemd/sd-event.h>

#define PRIVILEGED_PATH		1024	/* bytes of a path, with the NUL */
#define PRIVILEGED_NUMBERS	16

enum privileged_op {
	PRIVILEGED_HIGH,	/* memory.high: bytes, UINT64_MAX: max */
	PRIVILEGED_RECLAIM,	/* memory.reclaim: bytes */
	PRIVILEGED_INTERVALS,	/* memory.working_set.intervals_ms: bounds */
	PRIVILEGED_AGE,		/* new generation: memcg, node, generation */
	PRIVILEGED_PSI,		/* trigger: stall and window in us */
	PRIVILEGED_LRU_GEN,	/* generations of all groups, to read */
	PRIVILEGED_IDLE,	/* a child that samples idle pages, see idle.h */
	PRIVILEGED_NR_OPS,
};

struct privileged;

/**
 * privileged_done - a request has ended
 * @error:	0 or an errno. EAGAIN of PRIVILEGED_RECLAIM: less was reclaimed;
 *		EBUSY: too many are under way; ECANCELED: a later one took its
 *		place; ETIMEDOUT: it took more than a minute
 * @fd:		of PRIVILEGED_PSI (EPOLLPRI says that it fired),
 *		PRIVILEGED_LRU_GEN, and PRIVILEGED_IDLE (the socket to the child,
 *		which ends when it is closed), now the receiver's; else -1
 */
typedef void (*privileged_done)(void *arg, int error, int fd);

/**
 * privileged_start - fork the process
 * @root:	directory of control groups
 * @lru_gen:	file of generations, or NULL
 * @idle_root:	directory of /proc and /sys for idle pages, or NULL: refuse them
 * @error:	CONFIG_ERROR bytes
 *
 * Return: NULL with the reason in @error on failure.
 */
struct privileged *privileged_start(const char *root, const char *lru_gen,
				    const char *idle_root, char *error);

/**
 * privileged_attach - hand out answers on an event loop
 *
 * If the process dies the loop ends with status 1: whoever started wsrd starts
 * both again.
 *
 * Return: 0 or -1.
 */
int privileged_attach(struct privileged *privileged, sd_event *event);

/**
 * privileged_send - ask for something
 * @path:	control group, relative to the root; "" with PRIVILEGED_PSI: the
 *		whole system
 * @done:	may be NULL
 *
 * Return: 0, or -1: not now, try again later. Then @done is not called.
 */
int privileged_send(struct privileged *privileged, enum privileged_op op,
		    const char *path, const uint64_t *numbers, unsigned int nr,
		    privileged_done done, void *arg);

/** privileged_forget - @arg is going away: call nobody with it any more */
void privileged_forget(struct privileged *privileged, const void *arg);

/** privileged_stop - end the process; may be NULL */
void privileged_stop(struct privileged *privileged);

/**
 * privileged_open - open a file below a directory
 * @path:	without symbolic links, and never out of @directory
 *
 * Return: a descriptor, or -1 with errno.
 */
int privileged_open(int directory, const char *path, int flags);

/** privileged_root - the directory of control groups */
int privileged_root(const struct privileged *privileged);

#endif
