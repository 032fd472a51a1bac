// SPDX-License-Identifier: GPL-2.0
/*
 * When a call may go to libvirtd.
 *
 * One by one also because of how libvirtd starts workers: it looks whether as
 * many are idle as calls wait, and misses that there are fewer. If more come at
 * once and hang, it never starts another one (seen with 9.0: 11 calls, 6 workers
 * of 20), and serves nobody.
 */
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "../wsrd/log.h"
#include "calls.h"

#define MAX_CALLS	10	/* half of libvirtd's max_workers */
#define SOON_MS		200	/* a QEMU that is well needs 2 ms */

struct waiter {
	struct waiter *next;
	pthread_cond_t wake;
};

static struct {
	pthread_mutex_t lock;	/* of all */
	struct waiter *first;	/* the only one that is woken */
	struct waiter **last;
	unsigned int nr;	/* that were not answered */
	uint64_t newest;
	bool newest_open;
	struct timespec soon;	/* until then, the newest is waited for */
	bool told;		/* that too many hang */
} calls = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.last = &calls.first,
};

static bool is_past(const struct timespec *when)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > when->tv_sec ||
	       (now.tv_sec == when->tv_sec && now.tv_nsec >= when->tv_nsec);
}

static void complain(void)
{
	if (!calls.told)
		log_message(LOG_WARNING, "%d calls wait for QEMUs that hang, or for jobs of libvirt; until one is answered, no more are made",
			    MAX_CALLS);
	calls.told = true;
}

/* With the lock; until it is the turn of @self and a call may be made */
static void wait_for_turn(struct waiter *self)
{
	while (calls.first != self)
		pthread_cond_wait(&self->wake, &calls.lock);
	while (calls.nr >= MAX_CALLS || calls.newest_open) {
		if (!is_past(&calls.soon)) {
			pthread_cond_clockwait(&self->wake, &calls.lock,
					       CLOCK_MONOTONIC, &calls.soon);
		} else if (calls.nr >= MAX_CALLS) {
			complain();
			pthread_cond_wait(&self->wake, &calls.lock);
		} else {
			break;
		}
	}
}

static void wake_first(void)
{
	if (calls.first)
		pthread_cond_signal(&calls.first->wake);
}

uint64_t calls_begin(void)
{
	struct waiter self = { .wake = PTHREAD_COND_INITIALIZER };
	uint64_t call;

	pthread_mutex_lock(&calls.lock);
	*calls.last = &self;
	calls.last = &self.next;
	wait_for_turn(&self);
	calls.first = self.next;
	if (!calls.first)
		calls.last = &calls.first;
	wake_first();
	call = ++calls.newest;
	calls.newest_open = true;
	clock_gettime(CLOCK_MONOTONIC, &calls.soon);
	calls.soon.tv_nsec += SOON_MS * 1000000;
	if (calls.soon.tv_nsec >= 1000000000) {
		calls.soon.tv_nsec -= 1000000000;
		calls.soon.tv_sec++;
	}
	calls.nr++;
	pthread_mutex_unlock(&calls.lock);
	return call;
}

void calls_end(uint64_t call)
{
	pthread_mutex_lock(&calls.lock);
	if (--calls.nr <= MAX_CALLS / 2)
		calls.told = false;
	if (call == calls.newest)
		calls.newest_open = false;
	wake_first();
	pthread_mutex_unlock(&calls.lock);
}
