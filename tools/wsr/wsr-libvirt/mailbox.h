/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the threads that wait for libvirt tell the main thread, which never
 * waits.
 */
#ifndef WSR_LIBVIRT_MAILBOX_H
#define WSR_LIBVIRT_MAILBOX_H

#include <pthread.h>
#include <stddef.h>

#define UUID_BYTES	37	/* as text, with its end */

/**
 * enum note_type - what has happened
 * @NOTE_DOMAINS: libvirt is there; @domains are all that run, from now on
 * @NOTE_DOWN:	  libvirt is not there
 * @NOTE_EVENT:	  @text is an event of the domain @uuid
 * @NOTE_LINE:	  @text is for the client of @owner
 * @NOTE_ENDED:	  the session of @owner has ended, this is its last note
 */
enum note_type {
	NOTE_DOMAINS,
	NOTE_DOWN,
	NOTE_EVENT,
	NOTE_LINE,
	NOTE_ENDED,
};

/* A domain that runs; @id is another one after a restart. */
struct running {
	char uuid[UUID_BYTES];
	int id;
	char *name;
};

struct note {
	struct note *next;
	enum note_type type;
	void *owner;
	char uuid[UUID_BYTES];
	char *text;
	struct running *domains;
	size_t nr_domains;
};

struct mailbox {
	pthread_mutex_t lock;	/* of @first and @last */
	struct note *first;
	struct note **last;
	int fd;			/* an eventfd: readable if there are notes */
};

/** mailbox_init - return 0, or -1 with errno */
int mailbox_init(struct mailbox *mailbox);

/**
 * note_new - a note to be filled
 *
 * Return: NULL without memory.
 */
struct note *note_new(enum note_type type);

void note_free(struct note *note);

/** mailbox_post - from any thread; @note is taken over and may be NULL */
void mailbox_post(struct mailbox *mailbox, struct note *note);

/** mailbox_take - all notes, in their order, linked by @next */
struct note *mailbox_take(struct mailbox *mailbox);

#endif
